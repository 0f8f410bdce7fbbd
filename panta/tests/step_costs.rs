//! What a step costs above its engine, in allocations: a firm number that does not grow
//! with the steps, so that it stays.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/counting.rs"]
mod counting;
#[path = "../../core/tests/support/memory.rs"]
mod memory;

use ndarray::Array1;
use panta::{Reader, Shape, Solo, Start, StepTime, Var, Writer};
use panta_core::engine::EngineFactory;
use panta_core::session;

use counting::allocations;
use memory::MemoryEngine;

fn write(writer: &mut Writer, variable: Var<f64>, values: &Array1<f64>) {
    let step = writer.begin_step(StepTime::default()).unwrap();
    step.put(variable, &[0], values).unwrap();
    step.end().unwrap();
}

/// Allocations of each of some steps once everything is known.
fn steady(mut step: impl FnMut()) -> Vec<usize> {
    (0..4).for_each(|_| step());
    (0..32).map(|_| allocations(&mut step).0).collect()
}

#[test]
fn a_written_step_costs_a_few_allocations() {
    let mut writer = Writer::open("null:", Solo).unwrap();
    let u = writer.define::<f64>("u", Shape::global([128])).unwrap();
    let values = Array1::zeros(128);
    let costs = steady(|| write(&mut writer, u, &values));
    // The list of puts, the blocks for the engine, its statistics, the payloads.
    assert!(costs.iter().all(|cost| *cost <= 4), "{costs:?}");
}

/// Of a stream over shared memory, on one thread, where nobody waits. What is done by the
/// clock, as looking for another writer, is not in every step: the median counts.
#[test]
fn a_step_of_a_stream_costs_a_few_allocations_on_either_side() {
    let directory = tempfile::tempdir().unwrap();
    let contact = directory.path().join("contact");
    let url = format!("stream:costs?contact={}&transport=shm", contact.display());
    let mut writer = Writer::open(&url, Solo).unwrap();
    let u = writer.define::<f64>("u", Shape::global([128])).unwrap();
    let mut reader = Reader::open(&url, Solo, Start::Oldest).unwrap();
    let mut into = Array1::from_elem(128, 0.0);
    let (mut written, mut taken) = (Vec::new(), Vec::new());
    for step in 0..200 {
        let values = Array1::from_elem(128, f64::from(step));
        written.push(allocations(|| write(&mut writer, u, &values)).0);
        let (cost, ()) = allocations(|| {
            let step = reader.next_step().unwrap().unwrap();
            step.get_into("u", .., into.view_mut()).unwrap();
        });
        taken.push(cost);
        assert_eq!(into, values);
    }
    let median = |mut costs: Vec<usize>| {
        costs.sort_unstable();
        costs[costs.len() / 2]
    };
    // The list of puts, and the admission.
    let written = median(written);
    assert!(written <= 2, "{written}");
    // What is known of the step, and its entries.
    let taken = median(taken);
    assert!(taken <= 2, "{taken}");
    // Who is alone has nobody to agree with.
    assert_eq!(writer.session().tree_counters().bytes_sent(), 0);
    assert_eq!(reader.session().tree_counters().bytes_sent(), 0);
}

#[test]
fn a_read_step_costs_a_few_allocations() {
    let engine = MemoryEngine::default();
    let engines: [&dyn EngineFactory; 1] = [&engine];
    let writer = session::Writer::open(
        "null:",
        &mut Solo,
        &engines,
        session::WriterOptions::default(),
    );
    let mut writer = Writer::from(writer.unwrap());
    let u = writer.define::<f64>("u", Shape::global([128])).unwrap();
    let reader = session::Reader::open(
        "null:",
        &mut Solo,
        &engines,
        &session::ReaderOptions::default(),
    );
    let mut reader = Reader::from(reader.unwrap());
    let mut values = Array1::from_elem(128, 0.0);
    let mut into = Array1::from_elem(128, 0.0);
    let mut costs = Vec::new();
    for step in 0..36 {
        values.fill(f64::from(step));
        write(&mut writer, u, &values);
        let (cost, ()) = allocations(|| {
            let step = reader.next_step().unwrap().unwrap();
            step.get_into("u", .., into.view_mut()).unwrap();
        });
        assert_eq!(into, values);
        costs.push(cost);
    }
    // The engine's copy of what ranks hold, the announcement, its entries and their blocks.
    assert!(costs[4..].iter().all(|cost| *cost <= 4), "{costs:?}");
}
