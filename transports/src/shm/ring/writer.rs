//! The end of a ring that sends.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::super::error::RingError;
use super::wake::{Attention, Ringer, Rouse, Sleeper};
use super::{
    ALIGN, ATTENTION, DATA, Ends, HEAD, LENGTH_BYTES, LOOKS_PER_CLOCK, Shared, TAIL, WAITING,
    Woken, framed,
};
use crate::time::{Time, Wait};

/// How long a full ring is looked at before sleeping until there is room.
const SEND_SPIN: Duration = Duration::from_micros(20);

/// Sends frames. Only one thread at a time, only one process.
#[derive(Debug)]
pub struct RingWriter {
    pub(super) ends: Ends,
    capacity: u64,
    pub(super) limit_bytes: u32,
    /// Bytes sent, ever; what the other side knows of them.
    pub(super) head: u64,
    /// Bytes received, as far as was looked.
    tail: u64,
    /// Bytes received when the other side was last given time.
    given_at: u64,
    ringer: Ringer,
    sleeper: Sleeper,
    /// Bytes of a frame that went out without the rest of it.
    begun: u64,
    /// The other side broke the rules, which is said again.
    hostile: Option<&'static str>,
}

impl RingWriter {
    pub(super) fn new(ends: Ends, limit_bytes: u32) -> Self {
        Self {
            capacity: (ends.own.bytes() - DATA) as u64,
            ends,
            limit_bytes,
            head: 0,
            tail: 0,
            given_at: 0,
            ringer: Ringer::default(),
            sleeper: Sleeper::default(),
            begun: 0,
            hostile: None,
        }
    }

    /// Data bytes of the ring.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity
    }

    /// Sends the parts of a frame in turn, if there is room for all of it now;
    /// false, with nothing sent, if not.
    ///
    /// # Errors
    /// [`RingError::TooLarge`] for one over the limit, or larger than the ring;
    /// [`RingError::Hostile`], [`RingError::Unfinished`], [`RingError::System`].
    pub fn try_send(&mut self, parts: &[&[u8]], rouse: Rouse) -> Result<bool, RingError> {
        let bytes = self.check(parts)?;
        if self.begun > 0 {
            return Err(RingError::Unfinished);
        }
        if framed(bytes) > self.capacity {
            return Err(RingError::TooLarge {
                bytes,
                limit_bytes: self.capacity - LENGTH_BYTES,
            });
        }
        if self.room(framed(bytes))? < framed(bytes) {
            return Ok(false);
        }
        let mut at = self.head;
        self.put(&mut at, &(bytes as u32).to_le_bytes());
        for part in parts {
            self.put(&mut at, part);
        }
        self.publish(self.head + framed(bytes), rouse)?;
        Ok(true)
    }

    /// Sends as much of a frame of any size as there is room for. `sent` is 0
    /// at first and says how far it has gone; true once all of it has, and
    /// until then nothing else can be sent.
    ///
    /// # Errors
    /// As [`RingWriter::try_send`]; too large is only what is over the limit.
    pub fn try_stream(
        &mut self,
        parts: &[&[u8]],
        sent: &mut u64,
        rouse: Rouse,
    ) -> Result<bool, RingError> {
        let bytes = self.check(parts)?;
        if *sent != self.begun {
            return Err(RingError::Unfinished);
        }
        let all = framed(bytes);
        let left = all - *sent;
        let room = self.room(left)?.min(left) / ALIGN * ALIGN;
        if room == 0 {
            return Ok(false);
        }
        let (from, until) = (*sent, *sent + room);
        let mut at = self.head;
        let length = (bytes as u32).to_le_bytes();
        let mut begins = 0;
        for part in std::iter::once(&length[..]).chain(parts.iter().copied()) {
            let ends = begins + part.len() as u64;
            let (low, high) = (from.max(begins), until.min(ends));
            if low < high {
                self.put(
                    &mut at,
                    &part[(low - begins) as usize..(high - begins) as usize],
                );
            }
            begins = ends;
        }
        self.publish(self.head + room, rouse)?;
        let is_whole = until == all;
        self.begun = if is_whole { 0 } else { until };
        *sent = until;
        Ok(is_whole)
    }

    /// Sends a frame, and waits while the ring is full.
    ///
    /// # Errors
    /// [`RingError::Wait`], where with `partly` the ring is of no more use;
    /// [`RingError::Died`]; and as [`RingWriter::try_stream`].
    pub fn send(&mut self, parts: &[&[u8]], rouse: Rouse, wait: &Wait) -> Result<(), RingError> {
        let streams = framed(self.check(parts)?) > self.capacity;
        let mut sent = 0;
        let mut died = false;
        loop {
            let done = if streams {
                self.try_stream(parts, &mut sent, rouse)?
            } else {
                self.try_send(parts, rouse)?
            };
            if done {
                return Ok(());
            }
            if died {
                return Err(RingError::Died);
            }
            died = self.wait_for_room(wait)? == Woken::Died;
        }
    }

    /// Spends `time` without looking at the ring, which would slow the other side, if
    /// that has received anything since this was last called: then it is at it, and will
    /// have made room. False, at once, where it has not.
    ///
    /// # Errors
    /// [`RingError::Hostile`].
    pub fn give_time(&mut self, time: Duration) -> Result<bool, RingError> {
        self.room(u64::MAX)?;
        if std::mem::replace(&mut self.given_at, self.tail) == self.tail {
            return Ok(false);
        }
        let until = Time::now().after(time);
        while Time::now() < until {
            std::hint::spin_loop();
        }
        Ok(true)
    }

    /// Says when this side wants its bell rung because there is room again.
    /// What was received before may not have rung it: try once more after this,
    /// and only then sleep.
    pub fn set_attention(&mut self, attention: Attention) {
        self.set(attention);
    }

    /// Makes the bell silent. To be called after it rang, before
    /// [`RingWriter::set_attention`] and sending.
    ///
    /// # Errors
    /// [`RingError::System`].
    pub fn silence(&mut self) -> Result<(), RingError> {
        self.ends.is_rung = false;
        self.ends.rung_here.silence()
    }

    /// Bytes of a frame, if it may be sent.
    fn check(&self, parts: &[&[u8]]) -> Result<u64, RingError> {
        if let Some(what) = self.hostile {
            return Err(RingError::Hostile { what });
        }
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        if bytes > u64::from(self.limit_bytes) {
            return Err(RingError::TooLarge {
                bytes,
                limit_bytes: u64::from(self.limit_bytes),
            });
        }
        Ok(bytes)
    }

    /// Room in the ring; the other side's word is only looked at where what is
    /// known of it is not enough.
    fn room(&mut self, enough: u64) -> Result<u64, RingError> {
        let known = self.capacity - (self.head - self.tail);
        if known >= enough {
            return Ok(known);
        }
        let tail = self.ends.theirs.load(TAIL);
        if tail < self.tail || tail > self.head || !tail.is_multiple_of(ALIGN) {
            let what = "it received what was not sent";
            self.hostile = Some(what);
            return Err(RingError::Hostile { what });
        }
        self.tail = tail;
        Ok(self.capacity - (self.head - self.tail))
    }

    /// Writes bytes from position `at` on, which it moves; they fit.
    fn put(&self, at: &mut u64, bytes: &[u8]) {
        let offset = (*at & (self.capacity - 1)) as usize;
        let first = bytes.len().min(self.capacity as usize - offset);
        self.ends.own.write(DATA + offset, &bytes[..first]);
        if first < bytes.len() {
            self.ends.own.write(DATA, &bytes[first..]);
        }
        *at += bytes.len() as u64;
    }

    /// Makes everything up to `head` the other side's. One that is idle is told before
    /// the ring is full, whatever it is full of.
    fn publish(&mut self, head: u64, rouse: Rouse) -> Result<(), RingError> {
        self.head = head;
        self.ends.own.store(HEAD, head);
        let half = self.capacity / 2;
        let rouse = match self.room(half)? {
            room if room < half => Rouse::Anyone,
            _ => rouse,
        };
        let attention = Shared(&self.ends.theirs, ATTENTION);
        if self.ringer.must_ring(&attention, rouse) {
            self.ends.rung_there.ring()?;
        }
        Ok(())
    }

    /// Whether the other side has received more than was known.
    fn has_moved(&mut self) -> Result<bool, RingError> {
        let known = self.tail;
        self.room(u64::MAX)?;
        Ok(self.tail != known)
    }

    /// Looks for more room, then sleeps until there may be some.
    fn wait_for_room(&mut self, wait: &Wait) -> Result<Woken, RingError> {
        let until = Time::now().after(SEND_SPIN);
        while Time::now() < until {
            for _ in 0..LOOKS_PER_CLOCK {
                if self.has_moved()? {
                    return Ok(Woken::Perhaps);
                }
                std::hint::spin_loop();
            }
        }
        let slice = wait.slice().map_err(|source| RingError::Wait {
            partly: self.begun > 0,
            source,
        })?;
        self.ends.silence_rung()?;
        self.set(Attention::Asleep);
        let woken = match self.has_moved() {
            Ok(false) => self.ends.sleep(None, slice),
            moved => moved.map(|_| Woken::Perhaps),
        };
        self.set(Attention::Awake);
        woken
    }

    fn set(&mut self, attention: Attention) {
        let word = Shared(&self.ends.own, WAITING);
        self.sleeper.set(&word, attention);
    }
}

impl AsFd for RingWriter {
    /// The bell: readable when the other side has made room for one that
    /// sleeps.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ends.rung_here.as_fd()
    }
}
