//! Rings for messages: one producer, one consumer, frames of bytes.
//!
//! Each of two processes makes a [`Side`]: memory only it can write, and two
//! bells. Two sides make two rings, one in each direction:
//!
//! ```text
//!   side, a memfd of its owner       read by the other side as
//!     128  head     bytes sent         how far there is something to receive
//!     256  waiting  of the sender      whether to ring when half of it is room
//!     384  tail     bytes received     how far there is room
//!     512  attention of the receiver   whether to ring when there is something
//!    4096  data of the ring to the other side, a power of two of bytes
//! ```
//!
//! A frame is its length (u32, little-endian), its bytes, and zero to seven
//! bytes more, so that lengths lie at multiples of eight. One that is larger
//! than the ring goes through it in pieces.

mod reader;
mod wake;
mod writer;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::error::{RingError, ShmError};
use super::mapped::{map_sealed, sealed_bytes};
use crate::region::mapping::Mapping;
use crate::region::sealed_memory;

pub use reader::RingReader;
pub use wake::{Attention, Rouse};
pub use writer::RingWriter;

use wake::{Bell, Word};

/// The fewest data bytes of a ring.
pub const MIN_RING_BYTES: usize = 4096;

/// The most data bytes of a ring.
pub const MAX_RING_BYTES: usize = 64 << 20;

const HEAD: usize = 128;
const WAITING: usize = 256;
const TAIL: usize = 384;
const ATTENTION: usize = 512;
const DATA: usize = 4096;

const LENGTH_BYTES: u64 = 4;
const ALIGN: u64 = 8;

/// Looks at a ring between two looks at the clock while spinning; those take longer.
const LOOKS_PER_CLOCK: usize = 64;

/// What one process has of a pair of rings, for itself to write.
#[derive(Debug)]
pub struct Side {
    mapping: Mapping,
    fd: OwnedFd,
    /// Rung by the other side: there is something to receive.
    something: Bell,
    /// Rung by the other side: there is room to send.
    room: Bell,
}

/// What the other process has of a pair of rings, checked.
#[derive(Debug)]
pub struct TheirSide {
    mapping: Mapping,
    something: Bell,
    room: Bell,
}

impl Side {
    /// Makes the memory and the bells; the ring takes `ring_bytes`, made a
    /// power of two within the limits.
    ///
    /// # Errors
    /// [`RingError::System`].
    pub fn make(ring_bytes: usize) -> Result<Self, RingError> {
        let capacity = ring_bytes
            .clamp(MIN_RING_BYTES, MAX_RING_BYTES)
            .next_power_of_two();
        let system = |during, source| RingError::System { during, source };
        let memory = sealed_memory(DATA + capacity, system)?;
        Ok(Self {
            mapping: memory.mapping,
            fd: memory.fd,
            something: Bell::make()?,
            room: Bell::make()?,
        })
    }

    /// What is passed to the other process: memory, and the bells.
    #[must_use]
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.fd.as_fd(), self.something.as_fd(), self.room.as_fd()]
    }

    /// Joins both sides. Frames may have `limit_bytes`, here and there;
    /// `socket` is looked at while waiting, and its end is the other's death.
    #[must_use]
    pub fn join(
        self,
        theirs: TheirSide,
        limit_bytes: u32,
        socket: Option<Arc<OwnedFd>>,
    ) -> (RingWriter, RingReader) {
        let own = Arc::new(self.mapping);
        let other = Arc::new(theirs.mapping);
        let writer = RingWriter::new(
            Ends {
                own: Arc::clone(&own),
                theirs: Arc::clone(&other),
                rung_here: self.room,
                is_rung: false,
                rung_there: theirs.something,
                socket: socket.clone(),
            },
            limit_bytes,
        );
        let reader = RingReader::new(
            Ends {
                own,
                theirs: other,
                rung_here: self.something,
                is_rung: false,
                rung_there: theirs.room,
                socket,
            },
            limit_bytes,
        );
        (writer, reader)
    }
}

impl TheirSide {
    /// Checks what came from the other process and maps it.
    ///
    /// # Errors
    /// [`ShmError::Unsealed`], [`ShmError::Misbehaved`] where it is no side of
    /// a ring, [`ShmError::System`].
    pub fn receive(descriptors: impl IntoIterator<Item = OwnedFd>) -> Result<Self, ShmError> {
        let mut descriptors = descriptors.into_iter();
        let (Some(memory), Some(something), Some(room), None) = (
            descriptors.next(),
            descriptors.next(),
            descriptors.next(),
            descriptors.next(),
        ) else {
            return Err(ShmError::Misbehaved {
                what: "a side of a ring has another number of descriptors",
            });
        };
        let bytes = sealed_bytes(&memory)?;
        let capacity = bytes.saturating_sub(DATA);
        if !capacity.is_power_of_two() || !(MIN_RING_BYTES..=MAX_RING_BYTES).contains(&capacity) {
            return Err(ShmError::Misbehaved {
                what: "a ring has another size than rings have",
            });
        }
        Ok(Self {
            mapping: map_sealed(memory, bytes as u64)?,
            something: Bell::theirs(something),
            room: Bell::theirs(room),
        })
    }
}

/// What an end of one ring needs of both sides.
#[derive(Debug)]
struct Ends {
    own: Arc<Mapping>,
    theirs: Arc<Mapping>,
    rung_here: Bell,
    /// It was rung here, and was not made silent yet.
    is_rung: bool,
    rung_there: Bell,
    socket: Option<Arc<OwnedFd>>,
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// The bell was rung, or it is time to look again.
    Perhaps,
    /// The other side's socket is at its end.
    Died,
}

impl Ends {
    /// Makes a bell silent that ended a sleep. It has time until the next sleep: whoever
    /// was woken has better to do. Then it comes before the word that this side sleeps,
    /// or it would silence what is rung for that.
    fn silence_rung(&mut self) -> Result<(), RingError> {
        if std::mem::take(&mut self.is_rung) {
            self.rung_here.silence()?;
        }
        Ok(())
    }

    /// Sleeps until the bell rings, a socket ends, or `slice` has passed.
    fn sleep(&mut self, also: Option<BorrowedFd<'_>>, slice: Duration) -> Result<Woken, RingError> {
        let ended = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
        let bell = self.rung_here.as_fd();
        let socket = self.socket.as_ref().map(AsFd::as_fd);
        let mut fds = [
            PollFd::from_borrowed_fd(bell, PollFlags::IN),
            PollFd::from_borrowed_fd(socket.or(also).unwrap_or(bell), PollFlags::RDHUP),
            PollFd::from_borrowed_fd(also.or(socket).unwrap_or(bell), PollFlags::RDHUP),
        ];
        let timeout = Timespec::try_from(slice).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                return Err(RingError::System {
                    during: "poll",
                    source: error.into(),
                });
            }
        }
        let is_rung = fds[0].revents().contains(PollFlags::IN);
        let died = fds[1..].iter().any(|fd| fd.revents().intersects(ended));
        self.is_rung |= is_rung;
        Ok(if died { Woken::Died } else { Woken::Perhaps })
    }
}

/// A word of a side.
struct Shared<'a>(&'a Mapping, usize);

impl Word for Shared<'_> {
    fn load(&self) -> u64 {
        self.0.load_relaxed(self.1)
    }

    fn store(&self, value: u64) {
        self.0.store(self.1, value);
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

/// What a frame of so many bytes takes in a ring.
fn framed(bytes: u64) -> u64 {
    (LENGTH_BYTES + bytes).next_multiple_of(ALIGN)
}
