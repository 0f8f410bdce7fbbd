//! What crossing from Rust into C and Fortran costs: put and get of 1 KiB, the same
//! loop in the three, in one run.
//!
//! `scripts/libpanta` lays out the library that the other two are built against:
//! ```sh
//! scripts/libpanta PREFIX && cargo run --release -p panta-ffi --example crossing PREFIX
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench speaks, and ends where something is missing"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ndarray::Array1;
use panta::{BlockId, Reader, Shape, Solo, Start, StepTime, Writer};

const CELLS: usize = 128;
const CALLS: u32 = 2_000;
/// So often in one process, since the first round touches new memory; the best counts.
const ROUNDS: usize = 20;
/// The best of so many runs counts.
const RUNS: usize = 7;

fn rust(url: &str) -> [f64; 2] {
    let mut field = Array1::<f64>::zeros(CELLS);
    let mut out = Writer::open(url, Solo).unwrap();
    let u = out.define::<f64>("u", Shape::local(1)).unwrap();
    let [mut put, mut get] = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        let step = out.begin_step(StepTime::sim(0.0)).unwrap();
        let began = Instant::now();
        for _ in 0..CALLS {
            step.put(u, &[], &field).unwrap();
        }
        put = put.min(nanoseconds_a_call(began));
        step.end().unwrap();
    }
    out.close().unwrap();
    let mut reader = Reader::open(url, Solo, Start::Oldest).unwrap();
    let step = reader.next_step().unwrap().unwrap();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..CALLS {
            step.get_into("u", BlockId(0), field.view_mut()).unwrap();
        }
        get = get.min(nanoseconds_a_call(began));
    }
    [put, get]
}

fn nanoseconds_a_call(began: Instant) -> f64 {
    began.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn build(prefix: &Path, directory: &Path) -> [PathBuf; 2] {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/crossing");
    let fortran = prefix.join("share/panta/fortran");
    let run = |command: &mut Command| {
        let status = command.current_dir(directory).status();
        assert!(status.unwrap().success(), "{command:?}");
    };
    let include = format!("-I{}", prefix.join("include").display());
    let library = prefix.join("lib/libpanta.so");
    let rpath = format!("-Wl,-rpath,{}", prefix.join("lib").display());
    run(Command::new("cc")
        .args(["-O2", &include, "-o", "c", &rpath])
        .arg(from.join("crossing.c"))
        .arg(&library));
    run(Command::new("cc")
        .args(["-O2", &include, "-c"])
        .arg(fortran.join("panta_fortran.c")));
    run(Command::new("gfortran")
        .args(["-O2", "-o", "fortran", &rpath])
        .arg(fortran.join("panta.f90"))
        .arg(from.join("crossing.f90"))
        .arg("panta_fortran.o")
        .arg(&library));
    ["c", "fortran"].map(|name| directory.join(name))
}

fn main() {
    let prefix = std::env::args().nth(1).expect("the prefix of libpanta");
    let prefix = Path::new(&prefix).canonicalize().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let programs = build(&prefix, directory.path());
    let mut best = [[f64::INFINITY; 2]; 3];
    for run in 0..RUNS {
        let url = format!(
            "file:{}",
            directory.path().join(format!("{run}.panta")).display()
        );
        let mut times = vec![rust(&url)];
        for program in &programs {
            let output = Command::new(program).arg(&url).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap());
            times.push([numbers.next().unwrap(), numbers.next().unwrap()]);
        }
        for (best, times) in best.iter_mut().zip(times) {
            for (best, time) in best.iter_mut().zip(times) {
                *best = best.min(time);
            }
        }
    }
    println!("1 KiB, ns a call     put     get     put + get over Rust");
    let whole = |times: &[f64; 2]| times[0] + times[1];
    for (name, times) in ["Rust", "C", "Fortran"].iter().zip(&best) {
        let over = whole(times) - whole(&best[0]);
        println!("{name:16} {:9.0} {:7.0} {over:12.0}", times[0], times[1]);
    }
}
