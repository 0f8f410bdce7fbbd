//! Rings and regions beside bare loops, in the same run.
//!
//! `cargo bench -p panta-transports --bench shm`. First frames of 128 bytes
//! through a ring: what one costs each side, how long one takes to another
//! thread and back, halved, where both look and where both sleep. Then
//! allocating. Then a step of 64 MiB: written in the slot and summed in place,
//! or copied once, through a mapping of its own, as a fraction of one-thread
//! memcpy of as many bytes. Variants alternate, medians are printed.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use panta_transports::region::{Arena, ArenaOptions};
use panta_transports::shm::{
    Rings, Rouse, ShmEvent, ShmOptions, ShmRemote, ShmServer, Side, TheirSide,
};
use panta_transports::time::{Time, Wait};

const FRAME: [u8; 128] = [7; 128];
const TRIPS: usize = 4000;
const STEP_BYTES: usize = 64 << 20;
const ROUNDS: usize = 7;

fn wait() -> Wait {
    Wait::for_at_most(Duration::from_secs(60))
}

fn pair() -> (Rings, Rings) {
    let [a, b] = [(); 2].map(|()| Side::make(256 << 10).unwrap());
    let passed = |side: &Side| {
        let fds = side
            .descriptors()
            .map(|fd| fd.try_clone_to_owned().unwrap());
        TheirSide::receive(fds).unwrap()
    };
    let (to_a, to_b) = (passed(&b), passed(&a));
    let [a, b] = [(a, to_a), (b, to_b)].map(|(own, theirs)| {
        let (writer, reader) = own.join(theirs, 1 << 20, None);
        Rings { writer, reader }
    });
    (a, b)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Time::now();
    work();
    Time::now().since(start).as_secs_f64()
}

/// Nanoseconds of sending and of receiving a frame, on one thread.
fn frame_costs() -> (f64, f64) {
    const BATCH: usize = 1000;
    let (mut a, mut b) = pair();
    let mut into = Vec::new();
    let (mut sends, mut receives) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let send = seconds(|| {
            for _ in 0..BATCH {
                assert!(a.writer.try_send(&[&FRAME], Rouse::Sleeper).unwrap());
            }
        });
        let receive = seconds(|| {
            for _ in 0..BATCH {
                assert!(b.reader.try_receive(&mut into).unwrap());
            }
        });
        sends.push(send * 1e9 / BATCH as f64);
        receives.push(receive * 1e9 / BATCH as f64);
    }
    (median(sends), median(receives))
}

/// Microseconds one way.
fn hand_off(spin: Duration) -> f64 {
    let (mut a, mut b) = pair();
    let echo = thread::spawn(move || {
        let mut into = Vec::new();
        for _ in 0..TRIPS {
            b.reader.receive(&mut into, spin, &wait(), None).unwrap();
            b.writer.send(&[&into], Rouse::Sleeper, &wait()).unwrap();
        }
    });
    let mut into = Vec::new();
    let trips = (0..TRIPS).map(|_| {
        seconds(|| {
            a.writer.send(&[&FRAME], Rouse::Sleeper, &wait()).unwrap();
            a.reader.receive(&mut into, spin, &wait(), None).unwrap();
        })
    });
    let trip = median(trips.collect());
    echo.join().unwrap();
    trip * 1e6 / 2.0
}

/// Millions of frames a second between two threads that look.
fn throughput() -> f64 {
    const FRAMES: usize = 2_000_000;
    let spin = Duration::from_millis(5);
    let (mut a, mut b) = pair();
    let receiving = thread::spawn(move || {
        let mut into = Vec::new();
        for _ in 0..FRAMES {
            b.reader.receive(&mut into, spin, &wait(), None).unwrap();
        }
    });
    let all = seconds(|| {
        for _ in 0..FRAMES {
            a.writer.send(&[&FRAME], Rouse::Sleeper, &wait()).unwrap();
        }
        receiving.join().unwrap();
    });
    FRAMES as f64 / all / 1e6
}

/// Nanoseconds of having and giving back an extent, with some kept.
fn allocation(bytes: usize) -> f64 {
    const TIMES: usize = 100_000;
    let arena = Arena::new(ArenaOptions {
        limit_bytes: 1 << 30,
        shared: true,
    });
    let mut kept: Vec<_> = (0..16).map(|_| arena.allocate(bytes).unwrap()).collect();
    let all = seconds(|| {
        for number in 0..TIMES {
            kept[number * 7 % 16] = arena.allocate(bytes).unwrap();
        }
    });
    all * 1e9 / TIMES as f64
}

fn sum(bytes: &[u8]) -> u64 {
    let (_, words, _) = bytes_as_words(bytes);
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

fn bytes_as_words(bytes: &[u8]) -> (&[u8], &[u64], &[u8]) {
    // SAFETY: any bytes are a number.
    unsafe { bytes.align_to() }
}

/// Bytes through a slot, as fractions of memcpy: generated in place and summed
/// in place; copied in and summed in place.
fn steps() -> (f64, f64, f64) {
    let arena = Arena::new(ArenaOptions {
        limit_bytes: 1 << 30,
        shared: true,
    });
    let server = ShmServer::open(&arena, ShmOptions::default()).unwrap();
    let offer = server.offer(1, false).unwrap();
    let options = ShmOptions::default();
    let remote = thread::spawn(move || ShmRemote::connect(&offer, false, &options, &wait()));
    while !matches!(server.handle().pop(), Some(ShmEvent::Joined { .. })) {
        thread::yield_now();
    }
    let (remote, _) = remote.join().unwrap().unwrap();
    let user = vec![3_u8; STEP_BYTES];
    let mut plain = vec![1_u8; STEP_BYTES];
    let (mut copies, mut in_place, mut one_copy) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        copies.push(seconds(|| plain.copy_from_slice(black_box(&user))));
        black_box(&plain);
        let mut extent = arena.allocate(STEP_BYTES).unwrap();
        in_place.push(seconds(|| {
            extent.as_mut_slice().fill(round as u8);
            let mapped = remote.map(extent.region(), extent.offset(), STEP_BYTES, &wait());
            black_box(sum(&mapped.unwrap()));
        }));
        one_copy.push(seconds(|| {
            extent.as_mut_slice().copy_from_slice(black_box(&user));
            let mapped = remote.map(extent.region(), extent.offset(), STEP_BYTES, &wait());
            black_box(sum(&mapped.unwrap()));
        }));
    }
    let copy = median(copies);
    (
        STEP_BYTES as f64 / copy / 1e9,
        copy / median(in_place),
        copy / median(one_copy),
    )
}

fn main() {
    let (send, receive) = frame_costs();
    println!("frame of 128 bytes     send {send:6.0} ns   receive {receive:6.0} ns");
    let spin = hand_off(Duration::from_millis(5));
    let sleep = hand_off(Duration::ZERO);
    println!("hand-off, one way      spin {spin:6.2} us   sleep {sleep:8.2} us");
    println!("frames, one way        {:6.2} M/s", throughput());
    for bytes in [1000, 64 << 10] {
        println!("extent of {bytes:6} bytes {:6.0} ns", allocation(bytes));
    }
    let (memcpy, in_place, one_copy) = steps();
    println!("memcpy of 64 MiB       {memcpy:6.2} GB/s = M");
    println!("write and sum in place {in_place:6.2} M");
    println!("copy in, sum in place  {one_copy:6.2} M");
}
