//! Progress by hand in one process: a stream goes on when its host calls, and only then,
//! and no thread is started for it. One test, so that threads can be counted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ndarray::{Array1, ArrayD};
use panta::{OpenError, Progress, Reader, Shape, Solo, StepTime, Writer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const CELLS: usize = 1 << 16;
const BY_HAND: Progress = Progress::Manual {
    silence: Duration::from_secs(600),
};

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn is_readable(writer: &Writer, at_most: i64) -> bool {
    let fd = writer.wait_fd().unwrap();
    let timeout = Timespec {
        tv_sec: at_most,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

fn put(writer: &mut Writer, number: u64) {
    let u = writer
        .define::<f64>("u", Shape::global([CELLS as u64]))
        .unwrap();
    let data = Array1::from_elem(CELLS, number as f64);
    let step = writer.begin_step(StepTime::default()).unwrap();
    step.put(u, &[0], &data).unwrap();
    step.end().unwrap();
}

/// How far the reader is: it has opened, has a step at hand, has read it, has the next.
const OPENED: u64 = 1;
const AT_HAND: u64 = 2;
const READ: u64 = 3;
const NEXT_AT_HAND: u64 = 4;
const NEXT_READ: u64 = 5;

/// Reads two steps, each once `may` says so.
fn read(url: &str, far: &AtomicU64, may: &AtomicU64) {
    let options = Reader::options().progress(BY_HAND);
    let mut reader = options.open(url, Solo).unwrap();
    far.store(OPENED, Ordering::SeqCst);
    for number in 0..2 {
        let step = reader.next_step().unwrap().unwrap();
        far.fetch_add(1, Ordering::SeqCst);
        while may.load(Ordering::SeqCst) <= number {
            thread::yield_now();
        }
        let cells: ArrayD<f64> = step.get("u", ..).unwrap();
        assert!(cells.iter().all(|cell| *cell == number as f64));
        far.fetch_add(1, Ordering::SeqCst);
    }
    assert!(reader.next_step().unwrap().is_none());
}

/// Calls `progress`, when the descriptor says that there is something to do, until the
/// reader is so far; how many calls that took.
fn move_on(writer: &Writer, far: &AtomicU64, to: u64) -> usize {
    let mut calls = 0;
    while far.load(Ordering::SeqCst) < to {
        if is_readable(writer, 0) {
            writer.progress().unwrap();
            calls += 1;
        }
        thread::yield_now();
    }
    calls
}

fn goes_on_when_the_host_calls(url: &str, bytes_are_asked_for: bool) {
    let before = threads();
    let options = Writer::options().progress(BY_HAND);
    let mut writer = options.open(url, Solo).unwrap();
    assert_eq!(threads(), before, "the writer started a thread");
    assert!(!is_readable(&writer, 0), "there is nobody yet");
    put(&mut writer, 0);
    let (far, may) = (AtomicU64::new(0), AtomicU64::new(0));
    // The reader asks for bytes, and gets them when this program calls.
    let asks = |writer: &Writer, from: u64| {
        move_on(writer, &far, from);
        while is_readable(writer, 0) {
            writer.progress().unwrap();
        }
        may.fetch_add(1, Ordering::SeqCst);
        if bytes_are_asked_for {
            assert!(is_readable(writer, 60), "it asks");
            assert_eq!(far.load(Ordering::SeqCst), from, "nobody answered");
        }
        let calls = move_on(writer, &far, from + 1);
        assert!(calls > 0 || !bytes_are_asked_for);
    };
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(url, &far, &may));
        assert!(is_readable(&writer, 60), "it knocks");
        assert_eq!(far.load(Ordering::SeqCst), 0, "nobody let it in");
        assert!(move_on(&writer, &far, OPENED) > 0);
        asks(&writer, AT_HAND);
        assert_eq!(far.load(Ordering::SeqCst), READ);
        // The announcement goes out within the call, the bytes when they are asked for.
        put(&mut writer, 1);
        asks(&writer, NEXT_AT_HAND);
        assert_eq!(far.load(Ordering::SeqCst), NEXT_READ);
        // This thread, and the reader's that the test started.
        assert!(threads() <= before + 1, "the reader started a thread");
        writer.close().unwrap();
        reader.join().unwrap();
    });
    assert_eq!(threads(), before);
}

/// Neither is a thread of a file's, nor is there ever anything to do.
fn a_file_needs_nothing(url: &str) {
    let before = threads();
    let mut writer = Writer::options().progress(BY_HAND).open(url, Solo).unwrap();
    put(&mut writer, 0);
    put(&mut writer, 1);
    assert!(!is_readable(&writer, 0));
    writer.progress().unwrap();
    writer.close().unwrap();
    read(url, &AtomicU64::new(0), &AtomicU64::new(2));
    assert_eq!(threads(), before);
}

fn what_makes_no_sense_is_an_error(url: &str) {
    for (query, said) in [
        ("progress=manual", "needs `silence`"),
        ("silence=5s", "without `progress=manual`"),
        ("progress=manual&silence=0s", "at least"),
        ("progress=manuall&silence=5s", "did you mean `manual`"),
    ] {
        match Writer::open(&format!("{url}&{query}"), Solo) {
            Err(OpenError::Config(why)) => assert!(why.contains(said), "{why}"),
            other => panic!("{query}: {other:?}"),
        }
    }
}

#[test]
fn a_stream_by_hand_goes_on_when_the_host_calls_and_starts_no_thread() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let url = |transport| {
        let contact = path(transport);
        format!(
            "stream:by_hand?contact={contact}&transport={transport}&rendezvous=0&lease=200ms&retain_steps=9"
        )
    };
    goes_on_when_the_host_calls(&url("tcp"), true);
    goes_on_when_the_host_calls(&url("shm"), false);
    a_file_needs_nothing(&format!("file:{}", path("by_hand.panta")));
    what_makes_no_sense_is_an_error(&url("auto"));
}
