//! A writer that is ahead of its readers gives them the time that making memory would take,
//! before it makes more than they have it use.

#![allow(clippy::unwrap_used)]

#[path = "support/mapped.rs"]
mod mapped;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use ndarray::Array1;
use panta::{Interrupt, Reader, Shape, Snapshot, Solo, Start, StepTime, WriterBuilder};
use panta_transports::time::Meanwhile;

use mapped::shared_bytes;

const MIB: usize = 1 << 20;
const STEP_VALUES: usize = 6 * MIB / size_of::<f64>();
/// All of them fit the limit at once.
const STEPS: usize = 8;

/// A reader that holds steps, and lets go of the oldest as soon as the writer waits.
#[derive(Default)]
struct Holding(Mutex<VecDeque<Snapshot>>);

impl Meanwhile for Holding {
    fn meanwhile(&self) {
        let mut held = self.0.lock().unwrap();
        if held.len() >= 2 {
            held.pop_front();
        }
    }
}

#[test]
fn a_writer_two_steps_ahead_waits_for_memory_before_it_makes_more() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!(
        "stream:ahead?contact={}&transport=shm&limit=64MiB&retain_steps=1&policy=block&rendezvous=0",
        directory.path().join("contact").display()
    );
    let interrupt = Interrupt::default();
    let mut writer = WriterBuilder::default()
        .interrupt(&interrupt)
        .open(&url, Solo)
        .unwrap();
    let shape = Shape::global([STEP_VALUES as u64]);
    let u = writer.define::<f64>("u", shape).unwrap();
    let mut reader = Reader::open(&url, Solo, Start::Oldest).unwrap();
    let holding = Arc::new(Holding::default());
    let beside: Arc<dyn Meanwhile> = Arc::clone(&holding) as _;
    interrupt.meanwhile(Arc::downgrade(&beside));
    for number in 0..STEPS {
        let values = Array1::from_elem(STEP_VALUES, number as f64);
        let step = writer.begin_step(StepTime::default()).unwrap();
        step.put(u, &[0], &values).unwrap();
        step.end().unwrap();
        let read = reader.next_step().unwrap().unwrap();
        holding.0.lock().unwrap().push_back(read.detach());
    }
    // Two steps that are held, and one that is made.
    let most = 3 * (6 * MIB + MIB);
    assert!(shared_bytes() <= most, "{} bytes", shared_bytes());
}
