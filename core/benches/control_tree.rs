//! What a round of the control tree takes among ranks on one node, spinning and asleep:
//! `cargo bench -p panta-core --bench control_tree`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use panta_core::comm::{Comm, Procs, RANK_VARIABLE, RENDEZVOUS_VARIABLE, SIZE_VARIABLE, Threads};
use panta_core::tree::{ControlTree, DEFAULT_SPIN, TreeOptions};
use panta_transports::time::{Time, Wait};

const ROUNDS: u32 = 2_000;
const REPEATS: usize = 9;
const LIMIT: Duration = Duration::from_secs(60);

fn rounds(name: &str, comm: &mut dyn Comm, spin: Duration) {
    let options = TreeOptions {
        spin,
        ..TreeOptions::default()
    };
    let wait = Wait::for_at_most(LIMIT);
    let mut tree = ControlTree::connect(comm, &options, &wait).unwrap();
    let mut times: Vec<Duration> = (0..REPEATS)
        .map(|_| {
            let begin = Time::now();
            for _ in 0..ROUNDS {
                let part = Ok(vec![0; 64]);
                tree.agree(part, |_| vec![0; 64], &wait).unwrap();
            }
            Time::now().since(begin) / ROUNDS
        })
        .collect();
    times.sort_unstable();
    if tree.is_root() {
        let (median, least) = (times[REPEATS / 2], times[0]);
        println!("{name:<12} spin {spin:>6.0?} {median:>9.1?} median {least:>9.1?} least");
    }
}

fn main() {
    let spins = [Duration::ZERO, DEFAULT_SPIN];
    if std::env::var(RANK_VARIABLE).is_ok() {
        let spin = std::env::args().nth(1).unwrap();
        let spin = Duration::from_micros(spin.parse().unwrap());
        return rounds("2 processes", &mut Procs::from_environment().unwrap(), spin);
    }
    for size in [2, 4] {
        for spin in spins {
            thread::scope(|scope| {
                for mut comm in Threads::group(size) {
                    let name = format!("{size} threads");
                    scope.spawn(move || rounds(&name, &mut comm, spin));
                }
            });
        }
    }
    for spin in spins {
        let directory = tempfile::tempdir().unwrap();
        let start = |rank: usize| {
            Command::new(std::env::current_exe().unwrap())
                .arg(spin.as_micros().to_string())
                .env(RANK_VARIABLE, rank.to_string())
                .env(SIZE_VARIABLE, "2")
                .env(RENDEZVOUS_VARIABLE, directory.path())
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        };
        for mut child in [start(0), start(1)] {
            assert!(child.wait().unwrap().success());
        }
    }
}
