//! Many streams in one process, one after the other and at once: nothing may be left behind.

use std::fs;
use std::time::{Duration, Instant};

use panta::{Reader, Shape, Solo, Start, Writer};

use crate::part::{Part, time};
use crate::stage::{Engine, Stage};

/// Streams opened and closed in a short run; a soak opens as many as its variable says.
const STREAMS: u64 = 100;
const STREAMS_VARIABLE: &str = "PANTA_SOAK_STREAMS";

/// Opens and closes many streams in one process, which keeps no thread,
/// descriptor, mapping or memory of them.
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

/// What a process has of the system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    threads: usize,
    descriptors: usize,
    /// Of the descriptors, those of memory.
    memories: usize,
    /// Mappings that others may share, and all.
    shared: usize,
    mappings: usize,
}

/// Mappings that are no stream's: stacks and heaps of threads that the C library keeps
/// for threads to come.
const MAPPINGS_KEPT: usize = 90;

impl Held {
    pub(super) fn now() -> Self {
        let links = || fs::read_dir("/proc/self/fd").unwrap().flatten();
        let is_memory = |link: &fs::DirEntry| {
            let to = fs::read_link(link.path()).unwrap_or_default();
            let to = to.to_string_lossy();
            to.contains("memfd:") || to.starts_with("/dev/shm")
        };
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let is_shared = |line: &&str| {
            let access = line.split_ascii_whitespace().nth(1);
            access.is_some_and(|access| access.ends_with('s'))
        };
        Self {
            threads: fs::read_dir("/proc/self/task").unwrap().count(),
            descriptors: links().count(),
            memories: links().filter(is_memory).count(),
            shared: maps.lines().filter(is_shared).count(),
            mappings: maps.lines().count(),
        }
    }

    fn is_no_more_than(self, early: Self) -> bool {
        self.threads <= early.threads
            && self.descriptors <= early.descriptors
            && self.memories <= early.memories
            && self.shared <= early.shared
            && self.mappings <= early.mappings + MAPPINGS_KEPT
    }

    /// Waits until there is no more than there was: a thread that has nothing left to do
    /// may still be on its way out.
    pub(super) fn settles_to(early: Self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let now = Self::now();
            if now.is_no_more_than(early) {
                return;
            }
            assert!(Instant::now() < deadline, "{now:?}, early {early:?}");
            std::thread::yield_now();
        }
    }
}

/// Writes and reads one stream after the other.
pub fn churn(part: &Part) {
    let streams = part.number("streams");
    let mut early = None;
    for stream in 0..streams {
        let url = part.url.replace("NAME", &format!("churn-{stream}"));
        one(&url);
        if stream + 1 == part.number("early") {
            early = Some((Held::now(), resident_bytes()));
        }
    }
    let (held, resident) = early.unwrap();
    Held::settles_to(held);
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

/// Streams that are open at once in a short run, and in a soak.
const AT_ONCE: (u64, u64) = (20, 100);

/// Many streams from one process to another, all open at once.
pub fn at_once(stage: &mut Stage) {
    let (short, soak) = AT_ONCE;
    let streams = match std::env::var_os(STREAMS_VARIABLE) {
        None => short,
        Some(_) => soak,
    };
    let url = stage.url_with("NAME", stage.keep_all());
    for role in ["many::at_once_writer", "many::at_once_reader"] {
        stage.start(role, 1, &url, &[("streams", streams)]);
    }
    stage.all_ended();
}

/// A few streams, which shows what a process keeps, and then all of them.
fn rounds(part: &Part, work: impl Fn(&[String])) {
    let mut early = None;
    for (round, streams) in [(0, 3), (1, part.number("streams"))] {
        let name = |stream: u64| format!("at-once-{round}-{stream}");
        let urls = (0..streams).map(|stream| part.url.replace("NAME", &name(stream)));
        work(&urls.collect::<Vec<_>>());
        match early {
            None => early = Some(Held::now()),
            Some(early) => Held::settles_to(early),
        }
    }
}

/// Writes three steps to each of many streams in turn, and closes them.
pub fn at_once_writer(part: &Part) {
    rounds(part, |urls| {
        let open = |url: &String| Writer::open(url, Solo).unwrap();
        let mut outs: Vec<Writer> = urls.iter().map(open).collect();
        for number in 0..3 {
            for out in &mut outs {
                let u = out.define::<u64>("u", Shape::global([1000])).unwrap();
                let field = vec![number; 1000];
                let step = out.begin_step(time(number)).unwrap();
                step.put(u, &[0], &field).unwrap();
                step.end().unwrap();
            }
        }
        outs.into_iter().for_each(|out| out.close().unwrap());
    });
}

/// Reads them all, in turn.
pub fn at_once_reader(part: &Part) {
    rounds(part, |urls| {
        let open = |url: &String| Reader::open(url, Solo, Start::Oldest).unwrap();
        let mut inps: Vec<Reader> = urls.iter().map(open).collect();
        for number in 0..3 {
            for inp in &mut inps {
                let step = inp.next_step().unwrap().unwrap();
                let read: ndarray::Array1<u64> = step.get("u", ..).unwrap();
                assert!(read.iter().all(|value| *value == number));
            }
        }
        for mut inp in inps {
            assert!(inp.next_step().unwrap().is_none());
        }
    });
}
