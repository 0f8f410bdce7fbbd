//! One writer and one reader through a server process over loopback, beside
//! memcpy: `cargo bench -p panta-staging-server --bench loopback`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    missing_docs
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use panta_core::comm::Solo;
use panta_core::engine::Resume;
use panta_core::model::{DType, Definition, MemorySpace, Selection, ShapeKind, StepTime};
use panta_core::session::{Reader, ReaderOptions, Step, Writer, WriterOptions};
use panta_staging::client::StagingEngine;
use panta_staging_server::{Server, ServerOptions};
use panta_transports::copy::{CopyCounter, StridedMut, StridedRef, copy_bytes};
use panta_transports::time::Time;

const SERVER: &str = "--serve";
const STEP_BYTES: usize = 256 << 20;
const ROUNDS: usize = 6;
const BOXES: usize = 4000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == SERVER) {
        return serve(&arguments[at + 1]);
    }
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let (mut server, address) = start_server(key.to_str().unwrap());
    let url = |stream: &str| {
        format!(
            "staging:{stream}@{address}?key={}&retain_steps=2&deadline=60s",
            key.display()
        )
    };
    let pid = server.id();
    throughput(&url("whole"), &[256, 256, 512], 1, pid);
    throughput(&url("cut"), &[256, 256, 512], 4, pid);
    latency(&url("boxes"));
    server.kill().unwrap();
    server.wait().unwrap();
}

fn serve(key: &str) {
    let options = ServerOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        key: Some(key.into()),
        ..ServerOptions::default()
    };
    let server = Server::start(options).unwrap();
    println!("{}", server.address());
    // Until the parent ends it, or is gone itself.
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

fn start_server(key: &str) -> (Child, String) {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args([SERVER, key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    let output = server.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut address).unwrap();
    (server, address.trim().to_owned())
}

fn gigabytes(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

/// One-thread memcpy of 64 MiB, the best of some.
fn memcpy() -> f64 {
    let from = vec![1_u8; 64 << 20];
    let mut to = vec![0_u8; 64 << 20];
    let counter = CopyCounter::new();
    let best = (0..8)
        .map(|_| {
            let start = Time::now();
            copy_bytes(&mut to, &from, &counter);
            Time::now().since(start)
        })
        .min();
    gigabytes(from.len(), best.unwrap())
}

fn array(shape: &[u64]) -> Definition {
    Definition {
        name: "u".into(),
        dtype: DType::F64,
        kind: ShapeKind::GlobalArray,
        shape: shape.to_vec(),
        dims: Vec::new(),
        unit: String::new(),
        coordinates: Vec::new(),
        fill: None,
        chunk: None,
        accuracy: None,
    }
}

fn open(url: &str) -> Writer {
    let options = WriterOptions {
        resume: Resume::Fresh,
        ..WriterOptions::default()
    };
    Writer::open(url, &mut Solo, &[&StagingEngine::new()], options).unwrap()
}

fn read(url: &str) -> Reader {
    let options = ReaderOptions::default();
    Reader::open(url, &mut Solo, &[&StagingEngine::new()], &options).unwrap()
}

/// Steps of one array in `columns` blocks side by side along the last dimension.
fn throughput(url: &str, shape: &[u64], columns: u64, server: u32) {
    let mut writer = open(url);
    let u = writer.define(array(shape)).unwrap();
    let mut reader = read(url);
    let data = vec![1_u8; STEP_BYTES];
    let mut into = vec![0_u8; STEP_BYTES];
    let side = shape[2] / columns;
    let all = StridedRef::contiguous(&data, 8, shape).unwrap();
    let (mut puts, mut gets) = (Meter::new(server), Meter::new(server));
    for _ in 0..ROUNDS {
        puts.start();
        writer.begin_step(StepTime::default(), None).unwrap();
        let mut blocks = Vec::new();
        for column in 0..columns {
            let at = [0, 0, column * side];
            let view = all.sub_box(&at, &[shape[0], shape[1], side]).unwrap();
            let put = writer.put(u, DType::F64, &at, view, MemorySpace::Host);
            blocks.push(put.unwrap());
        }
        writer.end_step(blocks).unwrap();
        puts.stop();
        let step = reader.next_step().unwrap().unwrap();
        gets.start();
        get(&step, &Selection::all(), &mut into);
        gets.stop();
    }
    assert_eq!(into, data);
    let memcpy = memcpy();
    report("put", columns, &mut puts, memcpy);
    report("get", columns, &mut gets, memcpy);
    writer.close().unwrap();
}

/// Times, and processor time on both sides: on a busy machine only that says much.
struct Meter {
    server: u32,
    times: Vec<Duration>,
    begun: (Time, u64, u64),
    client_ns: u64,
    server_ns: u64,
}

impl Meter {
    fn new(server: u32) -> Self {
        Self {
            server,
            times: Vec::new(),
            begun: (Time::now(), 0, 0),
            client_ns: 0,
            server_ns: 0,
        }
    }

    fn start(&mut self) {
        let (own, server) = (processor_ns(std::process::id()), processor_ns(self.server));
        self.begun = (Time::now(), own, server);
    }

    fn stop(&mut self) {
        let (start, own, server) = self.begun;
        self.times.push(Time::now().since(start));
        self.client_ns += processor_ns(std::process::id()) - own;
        self.server_ns += processor_ns(self.server) - server;
    }
}

/// Processor time of all threads of a process.
fn processor_ns(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("schedstat")));
    stats
        .filter_map(|stat| stat.ok()?.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn report(what: &str, columns: u64, meter: &mut Meter, memcpy: f64) {
    meter.times.sort();
    let rounds = meter.times.len();
    let (best, median) = (meter.times[0], meter.times[rounds / 2]);
    let processor = |ns: u64| gigabytes(STEP_BYTES * rounds, Duration::from_nanos(ns));
    println!(
        "{what} 256 MiB in {columns} block(s): median {:.2} GB/s = {:.3} of memcpy ({memcpy:.1} GB/s), best {:.2}; \
         per processor second client {:.2} GB, server {:.2} GB",
        gigabytes(STEP_BYTES, median),
        gigabytes(STEP_BYTES, median) / memcpy,
        gigabytes(STEP_BYTES, best),
        processor(meter.client_ns),
        processor(meter.server_ns),
    );
}

fn get(step: &Step, selection: &Selection, into: &mut [u8]) {
    let resolved = step.resolve("u", DType::F64, selection).unwrap();
    let count = resolved.count().to_vec();
    let view = StridedMut::contiguous(into, 8, &count).unwrap();
    step.read(resolved, view).unwrap();
}

/// 20³ boxes at random unaligned places out of 64 blocks of 64³.
fn latency(url: &str) {
    let mut writer = open(url);
    let u = writer.define(array(&[256, 256, 256])).unwrap();
    let data = vec![1_u8; 64 * 64 * 64 * 8];
    writer.begin_step(StepTime::default(), None).unwrap();
    let mut blocks = Vec::new();
    for block in 0..64_u64 {
        let at = [block / 16 * 64, block / 4 % 4 * 64, block % 4 * 64];
        let view = StridedRef::contiguous(&data, 8, &[64, 64, 64]).unwrap();
        blocks.push(
            writer
                .put(u, DType::F64, &at, view, MemorySpace::Host)
                .unwrap(),
        );
    }
    writer.end_step(blocks).unwrap();
    let mut reader = read(url);
    let step = reader.next_step().unwrap().unwrap();
    let mut into = vec![0_u8; 20 * 20 * 20 * 8];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut place = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % 237
    };
    let mut times = Vec::with_capacity(BOXES);
    for _ in 0..BOXES {
        let at = [place(), place(), place()];
        let start = Time::now();
        get(&step, &Selection::boxed(&at, &[20, 20, 20]), &mut into);
        times.push(Time::now().since(start));
    }
    times.sort();
    println!(
        "get of a 20^3 box: p50 {:?}, p99 {:?}",
        times[BOXES / 2],
        times[BOXES * 99 / 100]
    );
    drop(step);
    writer.close().unwrap();
}
