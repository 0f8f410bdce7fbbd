//! Reads over a fabric beside a bare loop of `fi_read`, in the same run.
//!
//! `cargo build --release -p panta-fabric && cargo bench -p panta-transports --bench fabric`.
//! The bare loop (`bare.c`, compiled here with `cc`, linked with libfabric)
//! reads the same bytes of the same target process; ours and it take turns, and
//! medians are printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../../tests/fabric/target.rs"]
mod target;

use std::io::{BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use panta_transports::rdma::{Fabric, FabricRemote, Piece};
use panta_transports::time::{Time, Wait};
use target::{Target, hex, options};

const SIZES: [usize; 4] = [1 << 10, 64 << 10, 1 << 20, 64 << 20];
const ROUNDS: usize = 15;

fn main() {
    target::run_if_asked();
    let Ok(fabric) = Fabric::load().map_err(|error| println!("skipped: {error}")) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("bare");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/fabric/bare.c");
    let built = Command::new("cc")
        .args(["-O2", "-o"])
        .args([&program, &source])
        .arg("-lfabric")
        .status()
        .unwrap();
    assert!(built.success(), "the bare loop does not compile");
    println!("provider        bytes       ours us    bare us   ours GB/s   ours/bare");
    for provider in ["tcp;ofi_rxm", "shm"] {
        for bytes in SIZES {
            measure(&fabric, &program, provider, bytes);
        }
    }
}

fn measure(fabric: &Fabric, program: &Path, provider: &str, bytes: usize) {
    let target = Target::start_with(provider, bytes);
    let mut remote = FabricRemote::connect(fabric, &target.address, &options(provider)).unwrap();
    let mut bare = Bare::start(program, &target, provider, bytes);
    let mut into = vec![MaybeUninit::new(1); bytes];
    // A small read takes microseconds: many in turn, so that the clock does not count.
    let repeat = ((1 << 20) / bytes).clamp(1, 100);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Time::now();
        for _ in 0..repeat {
            let mut pieces = [Piece {
                memory: target.memory,
                offset: 0,
                into: &mut into,
            }];
            let wait = Wait::for_at_most(Duration::from_secs(30));
            remote.read(&mut pieces, &wait).unwrap();
        }
        ours.push(Time::now().since(began).as_secs_f64() * 1e6 / repeat as f64);
        theirs.push((0..repeat).map(|_| bare.read()).sum::<f64>() / repeat as f64);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "{provider:<14} {bytes:>9} {ours:>10.1} {theirs:>10.1} {:>10.2} {:>10.2}",
        bytes as f64 / ours / 1e3,
        theirs / ours
    );
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The bare loop, waiting for its turns.
struct Bare {
    child: Child,
    turns: ChildStdin,
    times: BufReader<ChildStdout>,
}

impl Bare {
    fn start(program: &Path, target: &Target, provider: &str, bytes: usize) -> Self {
        let node = options(provider).node.unwrap_or_default();
        let (address, memory) = (&target.address, target.memory);
        let mut child = Command::new(program)
            .args([provider, &node])
            .arg(format!("{:x}", address.format))
            .arg(hex(&address.bytes))
            .args([format!("{:x}", memory.base), format!("{:x}", memory.key)])
            .args([bytes.to_string(), "1".to_owned()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            turns: child.stdin.take().unwrap(),
            times: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Microseconds of one turn.
    fn read(&mut self) -> f64 {
        writeln!(self.turns).unwrap();
        let mut line = String::new();
        self.times.read_line(&mut line).unwrap();
        line.trim().parse::<f64>().expect("the bare loop failed") / 1e3
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It ends with its input at the latest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
