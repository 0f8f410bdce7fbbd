//! What a step of 1 KiB costs above its engine, alone in its group:
//! `cargo bench -p panta --bench step`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

#[path = "../../core/tests/support/memory.rs"]
mod memory;

use std::time::Duration;

use memory::MemoryEngine;
use ndarray::Array1;
use panta::{Reader, Shape, Solo, StepTime, Writer};
use panta_core::engine::EngineFactory;
use panta_core::model::{DType, MemorySpace};
use panta_core::session;
use panta_transports::copy::StridedRef;
use panta_transports::time::Time;

const STEPS: u32 = 20_000;
const ROUNDS: usize = 15;
/// Steps that are written before they are read, where reading alone is timed.
const FILLED: u32 = 20;

/// The median over rounds of what one step takes.
fn report(name: &str, mut round: impl FnMut() -> Duration) {
    round();
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| round() / STEPS).collect();
    times.sort_unstable();
    let (least, median) = (times[0], times[ROUNDS / 2]);
    let (least, median) = (least.as_nanos(), median.as_nanos());
    println!("{name:<44} {median:>6} ns median {least:>6} ns least");
}

fn timed(mut step: impl FnMut()) -> Duration {
    let begin = Time::now();
    for _ in 0..STEPS {
        step();
    }
    Time::now().since(begin)
}

fn write_session() {
    let engines: [&dyn EngineFactory; 1] = [&panta_core::null::NullEngine];
    let options = session::WriterOptions::default();
    let mut writer = session::Writer::open("null:", &mut Solo, &engines, options).unwrap();
    let shape = panta_core::model::Definition {
        name: "u".into(),
        dtype: DType::F64,
        kind: panta_core::model::ShapeKind::GlobalArray,
        shape: vec![128],
        dims: Vec::new(),
        unit: String::new(),
        coordinates: Vec::new(),
        fill: None,
        chunk: None,
    };
    let u = writer.define(shape).unwrap();
    let bytes = vec![0_u8; 1024];
    let source = StridedRef::contiguous(&bytes, 8, &[128]).unwrap();
    report("write: session over null:", || {
        timed(|| {
            writer.begin_step(StepTime::default(), None).unwrap();
            let put = writer.put(u, DType::F64, &[0], source, MemorySpace::Host);
            writer.end_step(vec![put.unwrap()]).unwrap();
        })
    });
}

fn write_facade() {
    let mut writer = Writer::open("null:", Solo).unwrap();
    let u = writer.define::<f64>("u", Shape::global([128])).unwrap();
    let values = Array1::<f64>::zeros(128);
    report("write: facade over null:", || {
        timed(|| {
            let step = writer.begin_step(StepTime::default()).unwrap();
            step.put(u, &[0], &values).unwrap();
            step.end().unwrap();
        })
    });
}

fn read_facade() {
    let engine = MemoryEngine::default();
    let engines: [&dyn EngineFactory; 1] = [&engine];
    let options = session::WriterOptions::default();
    let writer = session::Writer::open("null:", &mut Solo, &engines, options);
    let mut writer = Writer::from(writer.unwrap());
    let u = writer.define::<f64>("u", Shape::global([128])).unwrap();
    let options = session::ReaderOptions::default();
    let reader = session::Reader::open("null:", &mut Solo, &engines, &options);
    let mut reader = Reader::from(reader.unwrap());
    let values = Array1::<f64>::zeros(128);
    let mut into = values.clone();
    let mut fill = |steps: u32| {
        for _ in 0..steps {
            let step = writer.begin_step(StepTime::default()).unwrap();
            step.put(u, &[0], &values).unwrap();
            step.end().unwrap();
        }
    };
    report("write and read: facade over a map in memory", || {
        timed(|| {
            fill(1);
            let step = reader.next_step().unwrap().unwrap();
            step.get_into("u", .., into.view_mut()).unwrap();
        })
    });
    report("read: facade over a map in memory", || {
        let mut taken = Duration::ZERO;
        for _ in 0..STEPS / FILLED {
            fill(FILLED);
            let begin = Time::now();
            for _ in 0..FILLED {
                let step = reader.next_step().unwrap().unwrap();
                step.get_into("u", .., into.view_mut()).unwrap();
            }
            taken += Time::now().since(begin);
        }
        taken
    });
}

fn main() {
    write_session();
    write_facade();
    read_facade();
}
