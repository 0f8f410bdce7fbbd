//! The end of a ring that receives.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::super::error::RingError;
use super::wake::{Attention, Ringer, Rouse, Sleeper};
use super::{
    ALIGN, ATTENTION, DATA, Ends, HEAD, LENGTH_BYTES, LOOKS_PER_CLOCK, Shared, TAIL, WAITING,
    Woken, framed,
};
use crate::time::{Time, Wait};

/// Receives frames. Only one thread at a time, only one process.
///
/// As a file descriptor it is readable when the other side rang: it does so
/// when this side has said that it [does not look](RingReader::set_attention).
#[derive(Debug)]
pub struct RingReader {
    pub(super) ends: Ends,
    capacity: u64,
    limit_bytes: u32,
    /// Bytes sent, ever, as far as was looked.
    head: u64,
    /// Bytes received, ever; what the other side knows of them.
    tail: u64,
    ringer: Ringer,
    sleeper: Sleeper,
    /// A frame of which not all has come yet.
    part: Option<Part>,
    /// The other side broke the rules, which is said again.
    hostile: Option<&'static str>,
}

#[derive(Debug)]
struct Part {
    received: Vec<u8>,
    /// Bytes of it that are still to come, and then those of the ring.
    left: u64,
    left_framed: u64,
}

impl RingReader {
    pub(super) fn new(ends: Ends, limit_bytes: u32) -> Self {
        Self {
            capacity: (ends.theirs.bytes() - DATA) as u64,
            ends,
            limit_bytes,
            head: 0,
            tail: 0,
            ringer: Ringer::default(),
            sleeper: Sleeper::default(),
            part: None,
            hostile: None,
        }
    }

    /// Receives the next frame, if all of it is there; what `into` held before
    /// is gone then. No system call, unless the other side waits for room.
    ///
    /// # Errors
    /// [`RingError::Hostile`], again and again; [`RingError::System`].
    pub fn try_receive(&mut self, into: &mut Vec<u8>) -> Result<bool, RingError> {
        if let Some(what) = self.hostile {
            return Err(RingError::Hostile { what });
        }
        loop {
            if self.available()? == 0 {
                return Ok(false);
            }
            if self.part.is_some() {
                if self.take_part(into)? {
                    return Ok(true);
                }
                continue;
            }
            let bytes = self.next_length()?;
            if framed(bytes) <= self.head - self.tail {
                into.clear();
                self.get(self.tail + LENGTH_BYTES, bytes, into);
                self.release(framed(bytes))?;
                return Ok(true);
            }
            // No memory is set aside for what is only announced.
            let available = self.head - self.tail;
            let mut received = Vec::new();
            let there = available - LENGTH_BYTES;
            self.get(self.tail + LENGTH_BYTES, there.min(bytes), &mut received);
            self.part = Some(Part {
                left: bytes - received.len() as u64,
                left_framed: framed(bytes) - available,
                received,
            });
            self.release(available)?;
        }
    }

    /// Receives the next frame: looks for `spin`, then sleeps. `also` is a
    /// socket whose end means that the other side died, besides the one that
    /// came with the ring. What was sent before is received first.
    ///
    /// # Errors
    /// [`RingError::Wait`], after which it can be called again;
    /// [`RingError::Died`]; and as [`RingReader::try_receive`].
    pub fn receive(
        &mut self,
        into: &mut Vec<u8>,
        spin: Duration,
        wait: &Wait,
        also: Option<BorrowedFd<'_>>,
    ) -> Result<(), RingError> {
        let until = Time::now().after(spin);
        loop {
            for _ in 0..LOOKS_PER_CLOCK {
                if self.try_receive(into)? {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
            if Time::now() >= until {
                break;
            }
            wait.slice().map_err(ended)?;
        }
        let received = self.sleep_until_received(into, wait, also);
        self.set_attention(Attention::Awake);
        received
    }

    /// Says when this side wants its bell rung. What was sent before may not
    /// have rung it: call [`RingReader::try_receive`] until there is nothing
    /// after this, and only then sleep.
    pub fn set_attention(&mut self, attention: Attention) {
        let word = Shared(&self.ends.own, ATTENTION);
        self.sleeper.set(&word, attention);
    }

    /// Makes the bell silent. To be called after it rang, before
    /// [`RingReader::set_attention`] and receiving.
    ///
    /// # Errors
    /// [`RingError::System`].
    pub fn silence(&mut self) -> Result<(), RingError> {
        self.ends.is_rung = false;
        self.ends.rung_here.silence()
    }

    /// Whether something lies in the ring, as far as can be said without
    /// changing anything; cheap.
    #[must_use]
    pub fn has_something(&self) -> bool {
        self.head != self.tail || self.ends.theirs.load_relaxed(HEAD) != self.tail
    }

    fn sleep_until_received(
        &mut self,
        into: &mut Vec<u8>,
        wait: &Wait,
        also: Option<BorrowedFd<'_>>,
    ) -> Result<(), RingError> {
        loop {
            self.ends.silence_rung()?;
            self.set_attention(Attention::Asleep);
            if self.try_receive(into)? {
                return Ok(());
            }
            let slice = wait.slice().map_err(ended)?;
            let woken = self.ends.sleep(also, slice)?;
            if self.try_receive(into)? {
                return Ok(());
            }
            if woken == Woken::Died {
                return Err(RingError::Died);
            }
        }
    }

    /// Bytes that lie in the ring; the other side's word is only looked at
    /// where none is known of.
    fn available(&mut self) -> Result<u64, RingError> {
        if self.head == self.tail {
            let head = self.ends.theirs.load(HEAD);
            let is_honest = head >= self.head
                && head - self.tail <= self.capacity
                && head.is_multiple_of(ALIGN);
            if !is_honest {
                return Err(self.is_hostile("it sent more than a ring takes"));
            }
            self.head = head;
        }
        Ok(self.head - self.tail)
    }

    /// What stands before the next frame, looked at once.
    fn next_length(&mut self) -> Result<u64, RingError> {
        let offset = (self.tail & (self.capacity - 1)) as usize;
        let length = u32::from_le(self.ends.theirs.load_half(DATA + offset));
        if length > self.limit_bytes {
            return Err(self.is_hostile("a frame is longer than frames may be"));
        }
        Ok(u64::from(length))
    }

    /// Takes what has come of a frame in pieces; true where that was all.
    fn take_part(&mut self, into: &mut Vec<u8>) -> Result<bool, RingError> {
        let available = self.head - self.tail;
        let Some(mut part) = self.part.take() else {
            return Ok(false);
        };
        let bytes = available.min(part.left);
        self.get(self.tail, bytes, &mut part.received);
        part.left -= bytes;
        let framed = available.min(part.left_framed);
        part.left_framed -= framed;
        let is_whole = part.left_framed == 0;
        if is_whole {
            *into = part.received;
        } else {
            self.part = Some(part);
        }
        self.release(framed)?;
        Ok(is_whole)
    }

    /// Appends bytes from position `at` on; they lie in the ring.
    fn get(&self, at: u64, bytes: u64, into: &mut Vec<u8>) {
        let offset = (at & (self.capacity - 1)) as usize;
        let bytes = bytes as usize;
        let first = bytes.min(self.capacity as usize - offset);
        self.ends.theirs.read(DATA + offset, first, into);
        if first < bytes {
            self.ends.theirs.read(DATA, bytes - first, into);
        }
    }

    /// Gives so much room back to the other side, and wakes it where it sleeps for some
    /// and there is plenty.
    fn release(&mut self, bytes: u64) -> Result<(), RingError> {
        self.tail += bytes;
        self.ends.own.store(TAIL, self.tail);
        // To wake somebody for the room of one frame would cost more than to receive
        // it. What is known to lie here gets less until nothing does: it comes to this.
        if self.head - self.tail > self.capacity / 2 {
            return Ok(());
        }
        let waiting = Shared(&self.ends.theirs, WAITING);
        if self.ringer.must_ring(&waiting, Rouse::Sleeper) {
            self.ends.rung_there.ring()?;
        }
        Ok(())
    }

    fn is_hostile(&mut self, what: &'static str) -> RingError {
        self.hostile = Some(what);
        RingError::Hostile { what }
    }
}

impl AsFd for RingReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ends.rung_here.as_fd()
    }
}

fn ended(source: crate::time::WaitError) -> RingError {
    RingError::Wait {
        partly: false,
        source,
    }
}
