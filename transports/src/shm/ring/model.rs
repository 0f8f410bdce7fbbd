//! The words and bells of a ring under a model checker: every order in which
//! two threads and the memory between them can run. What is checked is that
//! each ends: that nobody sleeps while there is something for him.
#![allow(clippy::expect_used)]

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};

use super::wake::{Attention, Ringer, Rouse, Sleeper, Word};

/// A word as mappings have them: see `Mapping::load` and `Mapping::store`.
#[derive(Debug, Default)]
struct Cell(AtomicU64);

impl Word for Cell {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

/// An eventfd.
#[derive(Debug, Default)]
struct Bell {
    rings: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rings.lock().expect("no panic") += 1;
        self.rung.notify_one();
    }

    fn sleep_and_silence(&self) {
        let mut rings = self.rings.lock().expect("no panic");
        while *rings == 0 {
            rings = self.rung.wait(rings).expect("no panic");
        }
        *rings = 0;
    }
}

#[derive(Debug, Default)]
struct Ring {
    head: Cell,
    waiting: Cell,
    room: Bell,
    tail: Cell,
    attention: Cell,
    something: Bell,
}

/// As `RingWriter::send`, of frames that are numbers, in a ring of `capacity`.
fn send_all(ring: &Ring, frames: u64, capacity: u64, rouse: Rouse) {
    let mut sleeper = Sleeper::default();
    let mut ringer = Ringer::default();
    for head in 1..=frames {
        while head - ring.tail.load() > capacity {
            sleeper.set(&ring.waiting, Attention::Asleep);
            if head - ring.tail.load() > capacity {
                ring.room.sleep_and_silence();
            }
            sleeper.set(&ring.waiting, Attention::Awake);
        }
        ring.head.store(head);
        if ringer.must_ring(&ring.attention, rouse) {
            ring.something.ring();
        }
    }
}

/// As `RingReader::receive`, or as an endpoint that sleeps in `epoll`.
fn receive_all(ring: &Ring, frames: u64, attention: Attention) {
    let mut sleeper = Sleeper::default();
    let mut ringer = Ringer::default();
    let mut tail = 0;
    while tail < frames {
        sleeper.set(&ring.attention, attention);
        if ring.head.load() == tail {
            ring.something.sleep_and_silence();
        }
        while ring.head.load() > tail {
            tail += 1;
            ring.tail.store(tail);
            if ringer.must_ring(&ring.waiting, Rouse::Sleeper) {
                ring.room.ring();
            }
        }
    }
}

fn check(frames: u64, capacity: u64, attention: Attention, rouse: Rouse) {
    let mut model = loom::model::Builder::new();
    // More switches than the protocol has steps that matter.
    model.preemption_bound = Some(4);
    model.check(move || {
        let ring = Arc::new(Ring::default());
        let sender = Arc::clone(&ring);
        let thread = loom::thread::spawn(move || send_all(&sender, frames, capacity, rouse));
        receive_all(&ring, frames, attention);
        thread.join().expect("no panic");
    });
}

#[test]
fn a_sleeping_receiver_is_woken_in_every_order() {
    check(2, 2, Attention::Asleep, Rouse::Sleeper);
}

#[test]
fn an_idle_receiver_is_woken_for_what_is_urgent_in_every_order() {
    check(2, 2, Attention::Idle, Rouse::Anyone);
}

#[test]
fn a_sender_that_waits_for_room_is_woken_in_every_order() {
    check(3, 1, Attention::Asleep, Rouse::Sleeper);
}
