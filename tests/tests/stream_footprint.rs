//! What a writer and a reader take of the machine: memory while steps flow, and the
//! processor while none does.
//!
//! A test starts this very program again, once for each side; `side` is what those run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests"
)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use panta::{BlockId, Reader, Shape, Solo, Start, StepTime, Writer};

const SIDE: &str = "PANTA_TEST_SIDE";
const URL: &str = "PANTA_TEST_URL";
const MIB: u64 = 1 << 20;
const STEP_BYTES: u64 = 16 * MIB;
const LIMIT_BYTES: u64 = 64 * MIB;
/// What a process may have beside.
const PROCESS_BYTES: u64 = 32 * MIB;
const STEPS: u64 = 40;
/// How long two sides sit still.
const STILL: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(60);
/// Of `/proc/PID/stat`, on every Linux there is.
const TICKS_PER_SECOND: u32 = 100;

/// Tells the parent that all is as it asked for.
fn say_ready() {
    println!("\nside: ready");
    std::io::stdout().flush().unwrap();
}

/// Until the parent says something, or ends.
fn wait_for_parent() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

fn write(url: &str, lends: bool) {
    let elements = STEP_BYTES / 8;
    let mut out = Writer::open(url, Solo).unwrap();
    let u = out.define::<f64>("u", Shape::global([elements])).unwrap();
    let field = ndarray::Array1::<f64>::ones(if lends { 0 } else { elements as usize });
    for number in 0..STEPS {
        let step = out.begin_step(StepTime::default()).unwrap();
        if lends {
            let mut span = step.span(u, &[0], &[elements]).unwrap();
            span.as_mut_slice().fill(number as f64);
        } else {
            step.put(u, &[0], &field).unwrap();
        }
        step.end().unwrap();
    }
    say_ready();
    wait_for_parent();
    out.close().unwrap();
}

fn read(url: &str, lends: bool) {
    let mut reader = Reader::open(url, Solo, Start::Oldest).unwrap();
    let elements = STEP_BYTES as usize / 8;
    let mut field = ndarray::Array1::<f64>::zeros(if lends { 0 } else { elements });
    for number in 0..STEPS {
        let step = reader.next_step().unwrap().unwrap();
        if lends {
            let view = step.view::<f64>("u", BlockId(0)).unwrap();
            assert!(view.as_array().iter().all(|it| *it == number as f64));
        } else {
            step.get_into("u", .., field.view_mut()).unwrap();
            assert_eq!(field[elements - 1], 1.0);
        }
    }
    say_ready();
    // Here it waits until the writer closes.
    assert!(reader.next_step().unwrap().is_none());
}

/// One side of a pair; does nothing unless started for that.
#[test]
fn side() {
    let (Ok(side), Ok(url)) = (std::env::var(SIDE), std::env::var(URL)) else {
        return;
    };
    match side.as_str() {
        "span" => write(&url, true),
        "put" => write(&url, false),
        "view" => read(&url, true),
        "get" => read(&url, false),
        other => panic!("there is no side {other}"),
    }
}

/// A process of a pair; killed when dropped.
struct Side {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Side {
    fn start(side: &str, url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "side", "--nocapture", "--test-threads=1"])
            .env(SIDE, side)
            .env(URL, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    fn until_ready(&mut self) {
        // A side that fails ends, and its output with it: the streams have deadlines.
        let ready = self.said.any(|line| line.unwrap() == "side: ready");
        assert!(ready, "a side failed");
    }

    fn file(&self, name: &str) -> String {
        let path = Path::new("/proc").join(self.child.id().to_string());
        std::fs::read_to_string(path.join(name)).unwrap()
    }

    fn pss_bytes(&self) -> u64 {
        let rollup = self.file("smaps_rollup");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.trim().parse::<u64>().unwrap() * 1024
    }

    /// Processor time of all its threads.
    fn ticks(&self) -> u32 {
        let stat = self.file("stat");
        // The name is in parentheses and may hold anything.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        [fields[11], fields[12]]
            .map(|it| it.parse::<u32>().unwrap())
            .iter()
            .sum()
    }

    /// Waits until what it was doing is done.
    fn until_still(&self) {
        let begin = Instant::now();
        let mut before = u32::MAX;
        while before != self.ticks() {
            assert!(begin.elapsed() < DEADLINE, "it never comes to rest");
            before = self.ticks();
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn finish(mut self) {
        drop(self.child.stdin.take());
        for line in self.said.by_ref() {
            line.unwrap();
        }
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both sides after all steps: the writer between two, the reader waiting for the next.
fn pair(writer: &str, reader: &str, transport: &str) -> (tempfile::TempDir, [Side; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let contact = directory.path().join("footprint.panta-contact");
    let url = format!(
        "stream:footprint?contact={}&limit=64MiB&deadline=50s&transport={transport}",
        contact.display()
    );
    let mut sides = [Side::start(writer, &url), Side::start(reader, &url)];
    sides.iter_mut().for_each(Side::until_ready);
    (directory, sides)
}

fn memory_of(writer: &str, reader: &str, transport: &str, own_bytes: u64) {
    let (_directory, sides) = pair(writer, reader, transport);
    let pss: Vec<u64> = sides.iter().map(Side::pss_bytes).collect();
    let allowed = LIMIT_BYTES + own_bytes + 2 * PROCESS_BYTES;
    assert!(
        pss.iter().sum::<u64>() <= allowed,
        "{writer} and {reader} over {transport} have {pss:?} bytes, {allowed} are allowed"
    );
    sides.into_iter().for_each(Side::finish);
}

#[test]
fn both_sides_together_have_no_more_memory_than_the_limit_and_some_for_each() {
    memory_of("span", "view", "shm", 0);
    memory_of("put", "get", "shm", 2 * STEP_BYTES);
    memory_of("put", "get", "tcp", 2 * STEP_BYTES);
}

#[test]
fn a_writer_between_steps_and_a_reader_that_waits_leave_the_processor_alone() {
    for transport in ["shm", "tcp"] {
        let (_directory, sides) = pair("put", "get", transport);
        sides.iter().for_each(Side::until_still);
        let (begin, before) = (Instant::now(), sides.each_ref().map(Side::ticks));
        std::thread::sleep(STILL);
        let after = sides.each_ref().map(Side::ticks);
        // One in a hundred, and one that was counted at the edge.
        let allowed = (begin.elapsed() * TICKS_PER_SECOND / 100).as_secs() as u32 + 1;
        for (side, (before, after)) in ["writer", "reader"].iter().zip(before.iter().zip(&after)) {
            let used = after - before;
            assert!(
                used <= allowed,
                "the {side} took {used} ticks over {transport}"
            );
        }
        sides.into_iter().for_each(Side::finish);
    }
}
