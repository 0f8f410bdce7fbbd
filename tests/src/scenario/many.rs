//! Many streams in one process: nothing may be left behind.

use std::fs;
use std::time::{Duration, Instant};

use panta::{Reader, Shape, Solo, Start, Writer};

use crate::part::{Part, time};
use crate::stage::{Engine, Stage};

/// Streams opened and closed in a short run; a soak opens as many as its variable says.
const STREAMS: u64 = 100;
const STREAMS_VARIABLE: &str = "PANTA_SOAK_STREAMS";

/// Opens and closes many streams in one process, which keeps no thread,
/// descriptor or memory of them.
pub fn streams(stage: &mut Stage) {
    let streams = std::env::var(STREAMS_VARIABLE).map_or(STREAMS, |text| text.parse().unwrap());
    let url = stage.url("NAME");
    // libfabric's memory goes up and down until every part of it was in use once.
    let early = match stage.engine {
        Engine::Stream("rdma") => streams / 2,
        _ => 10,
    };
    let arguments = [("streams", streams), ("early", early)];
    stage.start("many::churn", 1, &url, &arguments);
    stage.all_ended();
}

/// Bytes of this process in memory.
#[must_use]
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kibibytes = line.trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().unwrap() << 10
}

fn threads_and_descriptors() -> (usize, usize) {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

/// Writes and reads one stream after the other.
pub fn churn(part: &Part) {
    let streams = part.number("streams");
    let mut early = None;
    for stream in 0..streams {
        let url = part.url.replace("NAME", &format!("churn-{stream}"));
        one(&url);
        if stream + 1 == part.number("early") {
            early = Some((threads_and_descriptors(), resident_bytes()));
        }
    }
    let (counts, resident) = early.unwrap();
    // A thread that has nothing left to do may still be on its way out.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (threads, descriptors) = threads_and_descriptors();
        if threads <= counts.0 && descriptors <= counts.1 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{threads} threads and {descriptors} descriptors, early {counts:?}"
        );
        std::thread::yield_now();
    }
    let grown = resident_bytes().saturating_sub(resident);
    assert!(grown < 16 << 20, "grown by {grown} bytes");
}

fn one(url: &str) {
    let mut out = Writer::open(url, Solo).unwrap();
    let u = out.define::<u64>("u", Shape::global([1000])).unwrap();
    let mut inp = Reader::open(url, Solo, Start::Oldest).unwrap();
    for number in 0..2 {
        let field = vec![number; 1000];
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &[0], &field).unwrap();
        step.end().unwrap();
        let step = inp.next_step().unwrap().unwrap();
        let read: ndarray::Array1<u64> = step.get("u", ..).unwrap();
        assert!(read.iter().all(|value| *value == number));
    }
    out.close().unwrap();
    assert!(inp.next_step().unwrap().is_none());
}
