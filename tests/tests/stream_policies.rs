//! What a direct stream does with parameters: `spill` loses nothing, and what cannot be had is said.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;

use ndarray::{Array1, ArrayD, Axis, concatenate};
use panta::{Reader, Shape, Start, StepTime, ThreadComm, Threads, Writer};

const RANKS: usize = 2;
const STEPS: u64 = 40;
/// Cells of a rank: 64 KiB, of which a limit of 256 KiB holds three or so.
const CELLS: usize = 8192;

fn values(step: u64, rank: usize) -> Array1<f64> {
    Array1::from_shape_fn(CELLS, |cell| {
        (step * 1_000_000 + (rank * CELLS + cell) as u64) as f64
    })
}

fn whole(step: u64) -> Array1<f64> {
    let parts: Vec<_> = (0..RANKS).map(|rank| values(step, rank)).collect();
    let parts: Vec<_> = parts.iter().map(|part| part.view()).collect();
    concatenate(Axis(0), &parts).unwrap()
}

fn url(directory: &Path, more: &str) -> String {
    let directory = directory.display();
    format!(
        "stream:spilling?contact={directory}/contact&policy=spill&spill={directory}/spilled&limit=256KiB&deadline=20s{more}"
    )
}

/// Half of `u` is put and half of it computed in place; `n` is a value.
fn write(url: &str, comm: ThreadComm, rank: usize, steps: u64) {
    let mut out = Writer::open(url, comm).unwrap();
    let cells = (RANKS * CELLS) as u64;
    let u = out.define::<f64>("u", Shape::global([cells])).unwrap();
    let n = out.define::<i64>("n", Shape::global_value()).unwrap();
    for number in 0..steps {
        let own = values(number, rank);
        let step = out.begin_step(StepTime::sim(number as f64)).unwrap();
        let (start, half) = ((rank * CELLS) as u64, CELLS / 2);
        let put = own.slice(ndarray::s![..half]);
        step.put(u, &[start], put).unwrap();
        let mut span = step
            .span(u, &[start + half as u64], &[half as u64])
            .unwrap();
        let computed = own.slice(ndarray::s![half..]);
        span.as_mut_slice()
            .copy_from_slice(computed.as_slice().unwrap());
        if rank == 0 {
            step.put_value(n, &(number as i64)).unwrap();
        }
        assert!(!step.end().unwrap().discarded);
    }
    out.close().unwrap();
}

#[test]
fn a_reader_that_comes_to_it_late_gets_every_step_though_few_fit_into_memory() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path(), "");
    let (opened, is_open) = channel();
    let (wrote, has_written) = channel();
    thread::scope(|scope| {
        for (rank, comm) in Threads::group(RANKS).into_iter().enumerate() {
            let (url, wrote) = (&url, wrote.clone());
            scope.spawn(move || {
                // The last steps wait for the reader in `close`.
                write(url, comm, rank, STEPS);
                wrote.send(()).unwrap();
            });
        }
        scope.spawn(|| {
            let mut comm = Threads::group(1);
            let mut inp = Reader::open(&url, comm.remove(0), Start::Oldest).unwrap();
            opened.send(()).unwrap();
            let first = inp.next_step().unwrap().unwrap().detach();
            // Nobody gives memory back while the first is held, until the file has most.
            let spilled = directory.path().join("spilled");
            let commits = || {
                let found = std::fs::read_dir(&spilled)
                    .unwrap()
                    .next()
                    .unwrap()
                    .unwrap();
                std::fs::metadata(found.path().join("commits")).map_or(0, |file| file.len())
            };
            let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while commits() < 4096 * (STEPS - 12) {
                assert!(
                    std::time::Instant::now() < until,
                    "only {} bytes of commits",
                    commits()
                );
                thread::yield_now();
            }
            let mut step = first;
            for number in 0..STEPS {
                assert_eq!(step.number(), number);
                assert_eq!(step.get_value::<i64>("n").unwrap(), number as i64);
                let all: ArrayD<f64> = step.get("u", ..).unwrap();
                assert_eq!(all, whole(number).into_dyn(), "step {number}");
                if let Some(next) = inp
                    .next_step()
                    .unwrap_or_else(|error| panic!("after {number}: {error}"))
                {
                    step = next.detach();
                } else {
                    assert_eq!(number + 1, STEPS);
                }
            }
        });
        is_open.recv().unwrap();
    });
    has_written.recv().unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path().join("spilled"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_directory_to_spill_to_without_the_policy_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!(
        "stream:x?contact={0}/contact&spill={0}/spilled",
        directory.path().display()
    );
    let error = Writer::open(&url, panta::Solo).unwrap_err().to_string();
    assert!(error.contains("policy = spill"), "{error}");
}

#[test]
fn steps_that_may_be_spilled_cannot_be_compressed_and_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path(), "&compress=zstd");
    let error = Writer::open(&url, panta::Solo).unwrap_err().to_string();
    assert!(
        error.contains("compress") && error.contains("spill"),
        "{error}"
    );
}
