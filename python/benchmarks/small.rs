//! What 1 KiB costs the engine: the same loop as `small.py`, without Python.
//!
//! `cargo run --release -p panta-python --example small`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark speaks"
)]

use std::time::Instant;

use ndarray::Array1;
use panta::{Reader, Shape, Solo, Start, StepTime, Writer};

const BLOCKS: u64 = 1000;
const CELLS: u64 = 128;
const STEPS: usize = 30;

fn main() {
    let directory = std::env::temp_dir().join(format!("panta-small-{}", std::process::id()));
    let url = format!("file:{}", directory.display());
    let block = Array1::<f64>::ones(CELLS as usize);
    let mut into = Array1::<f64>::zeros(CELLS as usize);
    let mut writer = Writer::open(&url, Solo).unwrap();
    let u = writer
        .define::<f64>("u", Shape::global([BLOCKS * CELLS]))
        .unwrap();
    let mut puts = Vec::new();
    for _ in 0..STEPS {
        let step = writer.begin_step(StepTime::default()).unwrap();
        let began = Instant::now();
        for n in 0..BLOCKS {
            step.put(u, &[n * CELLS], &block).unwrap();
        }
        step.end().unwrap();
        puts.push(began.elapsed().as_secs_f64() / BLOCKS as f64);
    }
    writer.close().unwrap();
    let mut reader = Reader::open(&url, Solo, Start::Oldest).unwrap();
    let mut gets = Vec::new();
    while let Some(step) = reader.next_step().unwrap() {
        let began = Instant::now();
        for n in 0..BLOCKS {
            let start = [n * CELLS];
            step.get_into("u", (&start, &[CELLS]), into.view_mut())
                .unwrap();
        }
        gets.push(began.elapsed().as_secs_f64() / BLOCKS as f64);
    }
    let _ = std::fs::remove_dir_all(directory);
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2] * 1e6
    };
    println!(
        "put {:.2} us, get {:.2} us",
        median(&mut puts),
        median(&mut gets)
    );
}
