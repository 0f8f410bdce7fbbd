//! Who sleeps, and who wakes whom: the part of a ring on which it depends that
//! nobody sleeps while there is something for him.
//!
//! ```text
//!   one who waits                     one who has something
//!     attention = asleep, epoch         counter = new
//!     fence                             fence
//!     counter: nothing new?             attention: asleep, an epoch not rung?
//!     sleep until the bell rings        ring the bell
//! ```
//!
//! With both fences one of the two sees what the other wrote (Dekker). An
//! epoch is rung once, so that a sleeper costs one system call and not one a
//! message. Generic over the words, so that the same lines run under a model
//! checker.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

use super::super::error::RingError;

/// A word in memory that two sides look at, and one of them writes.
pub(in crate::shm) trait Word {
    /// What it holds, with no order.
    fn load(&self) -> u64;
    /// Writes it after all that was written before.
    fn store(&self, value: u64);
    /// No access moves over this, in either direction.
    fn fence();
}

/// Whether a side looks by itself, and else when it wants its bell rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// It looks; no bell is rung.
    Awake = 0,
    /// It looks now and then; the bell is rung for what is urgent.
    Idle = 1,
    /// It sleeps; the bell is rung for anything.
    Asleep = 2,
}

/// For whom the bell is rung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rouse {
    /// One that sleeps; one that is idle looks when it looks.
    #[default]
    Sleeper,
    /// One that is idle, too.
    Anyone,
}

const LEVEL_BITS: u32 = 2;
const LEVEL_MASK: u64 = (1 << LEVEL_BITS) - 1;

/// The side that may sleep.
#[derive(Debug, Default)]
pub(in crate::shm) struct Sleeper {
    epoch: u64,
}

impl Sleeper {
    /// From now on the other side rings as `attention` says. What it did
    /// before is visible after this: look once more before sleeping.
    pub(in crate::shm) fn set<W: Word>(&mut self, word: &W, attention: Attention) {
        self.epoch = self.epoch.wrapping_add(1);
        word.store(self.epoch << LEVEL_BITS | attention as u64);
        W::fence();
    }
}

/// The side that rings.
#[derive(Debug, Default)]
pub(in crate::shm) struct Ringer {
    rung: u64,
}

impl Ringer {
    /// Whether to ring, after something was made visible; true once for each
    /// time that the other side fell asleep.
    pub(in crate::shm) fn must_ring<W: Word>(&mut self, word: &W, rouse: Rouse) -> bool {
        W::fence();
        let attention = word.load();
        // What the other side wrote may be anything: more rings than needed
        // are the worst that can come of it.
        let wanted = match attention & LEVEL_MASK {
            0 => false,
            1 => rouse == Rouse::Anyone,
            _ => true,
        };
        if !wanted || attention == self.rung {
            return false;
        }
        self.rung = attention;
        true
    }
}

/// An eventfd: rung by one side, waited for by the other.
#[derive(Debug)]
pub(in crate::shm) struct Bell(OwnedFd);

impl Bell {
    pub(in crate::shm) fn make() -> Result<Self, RingError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = eventfd(0, flags).map_err(system("eventfd"))?;
        Ok(Self(fd))
    }

    /// The other side's. What is none does not ring, which only keeps the
    /// other side waiting.
    pub(in crate::shm) fn theirs(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(in crate::shm) fn ring(&self) -> Result<(), RingError> {
        loop {
            match write(&self.0, &1_u64.to_ne_bytes()) {
                // It is full: rung already, and not heard yet.
                Ok(_) | Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(system("ringing")(error)),
            }
        }
    }

    /// Makes it silent, before looking at what it was rung for.
    pub(in crate::shm) fn silence(&self) -> Result<(), RingError> {
        let mut count = [0; 8];
        loop {
            match read(&self.0, &mut count) {
                Ok(_) | Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(system("silencing a bell")(error)),
            }
        }
    }
}

impl AsFd for Bell {
    /// Readable when it was rung.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn system(during: &'static str) -> impl Fn(Errno) -> RingError {
    move |error| RingError::System {
        during,
        source: error.into(),
    }
}
