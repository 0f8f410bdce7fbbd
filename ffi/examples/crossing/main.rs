//! What crossing from Rust into C, Fortran and Python costs: put and get of 1 KiB, the
//! same loop in all, in one run. Python takes part where `python3` has the package `panta`.
//!
//! `scripts/libpanta` lays out the library that the other two are built against:
//! ```sh
//! scripts/libpanta PREFIX && cargo run --release -p panta-ffi --example crossing PREFIX [count]
//! ```
//! With `count` instructions are counted under valgrind, which says less about time and
//! the same whatever else runs on the machine.
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
use panta::{BlockId, Reader, Shape, Snapshot, Solo, Start, Step, StepTime, Var, Writer};

const CELLS: usize = 128;
/// So many in one step: few enough that what a writer keeps of them lies in memory that it
/// had before, which is what is alike in all languages.
const CALLS: u32 = 200;
/// So often in one process, since the first round touches new memory; the best counts.
const ROUNDS: usize = 200;
/// The best of so many runs counts.
const RUNS: usize = 15;

/// What is timed, and counted by its name.
#[inline(never)]
fn crossing_puts<'d>(step: &Step<'_, 'd>, u: Var<f64>, field: &'d Array1<f64>) {
    for _ in 0..CALLS {
        step.put(u, &[], field).unwrap();
    }
}

#[inline(never)]
fn crossing_gets(step: &Snapshot, field: &mut Array1<f64>) {
    for _ in 0..CALLS {
        step.get_into("u", BlockId(0), field.view_mut()).unwrap();
    }
}

fn rust(url: &str) -> [f64; 2] {
    let mut field = Array1::<f64>::zeros(CELLS);
    let mut out = Writer::open(url, Solo).unwrap();
    let u = out.define::<f64>("u", Shape::local(1)).unwrap();
    let [mut put, mut get] = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        let step = out.begin_step(StepTime::sim(0.0)).unwrap();
        let began = Instant::now();
        crossing_puts(&step, u, &field);
        put = put.min(nanoseconds_a_call(began));
        step.end().unwrap();
    }
    out.close().unwrap();
    let mut reader = Reader::open(url, Solo, Start::Oldest).unwrap();
    let step = reader.next_step().unwrap().unwrap();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        crossing_gets(&step, &mut field);
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
        .args(["-O2", "-c"])
        .arg(fortran.join("panta.f90")));
    // What is counted by its name must have one.
    run(Command::new("gfortran")
        .args(["-O2", "-fno-inline", "-o", "fortran", &rpath])
        .arg(from.join("crossing.f90"))
        .args(["panta.o", "panta_fortran.o"])
        .arg(&library));
    ["c", "fortran"].map(|name| directory.join(name))
}

/// The numbers that a program prints.
fn timed(program: &Path, arguments: &[&str]) -> [f64; 2] {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap());
    [numbers.next().unwrap(), numbers.next().unwrap()]
}

/// Instructions of a call within the functions of such a name, and what they call.
fn counted(program: &Path, arguments: &[&str], function: &str) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*{function}*"))
        .arg(program)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let line = text.lines().find(|line| line.contains("Collected :"));
    let number = line.and_then(|line| line.split_whitespace().last());
    let instructions: f64 = number.expect("a count").parse().unwrap();
    instructions / f64::from(CALLS) / ROUNDS as f64
}

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/crossing/crossing.py");

fn has_python() -> bool {
    let found = Command::new("python3")
        // Importing `panta` alone succeeds where there is a directory of that name.
        .args(["-c", "from panta import Writer"])
        .output();
    found.is_ok_and(|output| output.status.success())
}

/// Instructions of a call from Python, the interpreter's with them: what more calls cost more.
fn counted_in_python(url: &str) -> [f64; 2] {
    let whole = |puts: u32, gets: u32| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .args(["python3", PYTHON, url])
            // What the interpreter does besides is then nearly the same each time.
            .env("PYTHONHASHSEED", "0")
            .args([puts.to_string(), gets.to_string()])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let line = text.lines().find(|line| line.contains("Collected :"));
        let number = line.and_then(|line| line.split_whitespace().last());
        number.expect("a count").parse::<f64>().unwrap()
    };
    let calls = 100 * CALLS;
    let once = whole(calls, calls);
    [(2 * calls, calls), (calls, 2 * calls)]
        .map(|(puts, gets)| (whole(puts, gets) - once) / f64::from(calls))
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, _, url, alone] = &arguments[..]
        && alone == "alone"
    {
        let [put, get] = rust(url);
        return println!("{put:.0} {get:.0}");
    }
    let prefix = arguments.get(1).expect("the prefix of libpanta");
    let prefix = Path::new(prefix).canonicalize().unwrap();
    let count = arguments.get(2).is_some_and(|what| what == "count");
    let directory = tempfile::tempdir().unwrap();
    let [c, fortran] = build(&prefix, directory.path());
    let mut programs = vec![
        ("Rust", std::env::current_exe().unwrap()),
        ("C", c),
        ("Fortran", fortran),
    ];
    if has_python() {
        programs.push(("Python", PathBuf::from("python3")));
    }
    let mut best = vec![[f64::INFINITY; 2]; programs.len()];
    for run in 0..if count { 1 } else { RUNS } {
        let path = directory.path().join(format!("{run}.panta"));
        let url = format!("file:{}", path.display());
        for (best, (name, program)) in best.iter_mut().zip(&programs) {
            let arguments: &[&str] = match *name {
                "Rust" => &["", &url, "alone"],
                "Python" => &[PYTHON, &url],
                _ => &[&url],
            };
            let costs = if count && *name == "Python" {
                counted_in_python(&url)
            } else if count {
                ["crossing_puts", "crossing_gets"]
                    .map(|function| counted(program, arguments, function))
            } else {
                timed(program, arguments)
            };
            for (best, cost) in best.iter_mut().zip(costs) {
                *best = best.min(cost);
            }
        }
    }
    let what = if count { "instructions" } else { "ns" };
    println!("1 KiB, {what} a call     put     get     put + get over Rust");
    let whole = |costs: &[f64; 2]| costs[0] + costs[1];
    for ((name, _), costs) in programs.iter().zip(&best) {
        let over = whole(costs) - whole(&best[0]);
        println!("{name:26} {:9.0} {:7.0} {over:12.0}", costs[0], costs[1]);
    }
}
