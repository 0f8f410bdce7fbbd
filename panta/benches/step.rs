//! What a step of 1 KiB costs above its engine, alone in its group, and over `stream:`
//! where nobody waits: `cargo bench -p panta --bench step [stream [once]]`.

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
use panta::{BlockId, Reader, Shape, Solo, Start, StepTime, Var, Writer};
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
    show(name, (0..=ROUNDS).map(|_| round() / STEPS).collect());
}

/// Shows what a step took in each round; the first one warms up.
fn show(name: &str, mut times: Vec<Duration>) {
    times.remove(0);
    times.sort_unstable();
    let (least, median) = (times[0], times[times.len() / 2]);
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
        accuracy: None,
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

/// Writer and reader of a stream over shared memory on one thread, in turn: nobody
/// waits, so that what is timed is what each does itself.
fn stream(mode: &str, rounds: usize, read: impl Fn(&panta::StepView<'_>, &mut Array1<f64>)) {
    let directory = tempfile::tempdir().unwrap();
    let contact = directory.path().join("contact");
    let url = format!("stream:step?contact={}&transport=shm", contact.display());
    let mut writer = Writer::open(&url, Solo).unwrap();
    let u = writer.define::<f64>("u", Shape::global([128])).unwrap();
    let mut reader = Reader::open(&url, Solo, Start::Oldest).unwrap();
    let values = Array1::<f64>::zeros(128);
    let mut into = values.clone();
    let (mut written, mut taken) = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        let (mut writing, mut reading) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..STEPS / FILLED {
            let begin = Time::now();
            for _ in 0..FILLED {
                write_step(&mut writer, u, &values);
            }
            let between = Time::now();
            for _ in 0..FILLED {
                read_step(&mut reader, |step| read(step, &mut into));
            }
            writing += between.since(begin);
            reading += Time::now().since(between);
        }
        written.push(writing / STEPS);
        taken.push(reading / STEPS);
    }
    show(&format!("write: stream over shm, {mode}"), written);
    show(&format!("read: stream over shm, {mode}"), taken);
}

#[inline(never)]
fn write_step(writer: &mut Writer, variable: Var<f64>, values: &Array1<f64>) {
    let step = writer.begin_step(StepTime::default()).unwrap();
    step.put(variable, &[0], values).unwrap();
    step.end().unwrap();
}

#[inline(never)]
fn read_step(reader: &mut Reader, read: impl FnOnce(&panta::StepView<'_>)) {
    let step = reader.next_step().unwrap().unwrap();
    read(&step);
}

fn main() {
    let asked = |what| std::env::args().any(|argument| argument == what);
    // Few rounds are enough where instructions are counted.
    let rounds = if asked("once") { 1 } else { ROUNDS };
    if !asked("stream") {
        write_session();
        write_facade();
        read_facade();
    }
    stream("put+get", rounds, |step, into| {
        step.get_into("u", .., into.view_mut()).unwrap();
    });
    stream("put+view", rounds, |step, _| {
        step.view::<f64>("u", BlockId(0)).unwrap();
    });
}
