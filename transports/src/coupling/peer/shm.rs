//! A peer on the same node: regions are mapped, messages go through rings.
//!
//! The link over the channel stays, for signs of life and for the reason when
//! the endpoint goes; whoever receives messages looks after it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::core::{Core, lock, take_leave};
use super::lane::Lane;
use super::transport::{Data, Messages};
use super::turn::Turn;
use crate::copy::copy_bytes_uninit;
use crate::coupling::{CouplingError, Lost, Piece, PieceRef, Urgency};
use crate::shm::{
    Attention, Mapped, RingError, RingReader, RingWriter, Rings, Rouse, ShmError, ShmRemote,
};
use crate::time::{Time, Wait};

/// How often regions that are gone are looked for, at most.
const TIDY_EVERY: Duration = Duration::from_millis(50);

/// How often the link is looked after while messages come: a part of the
/// lease.
const LOOKS_A_LEASE: u32 = 6;

/// Data in memory that both map.
pub(super) struct ShmData {
    core: Arc<Core>,
    remote: Arc<ShmRemote>,
    tidied: AtomicU64,
    /// The first connection of a peer that is not linked: its end is the
    /// peer's.
    first: Mutex<Option<Lane>>,
}

impl ShmData {
    pub(super) fn new(core: Arc<Core>, remote: Arc<ShmRemote>, first: Option<Lane>) -> Self {
        Self {
            core,
            remote,
            tidied: AtomicU64::new(Time::now().0),
            first: Mutex::new(first),
        }
    }

    fn map_piece(&self, piece: PieceRef, wait: &Wait) -> Result<Mapped, CouplingError> {
        self.tidy();
        let missing = || CouplingError::NotExposed {
            address: self.core.info.address,
            region: piece.region,
            offset: piece.offset,
            bytes: piece.bytes,
        };
        let bytes = usize::try_from(piece.bytes).map_err(|_| missing())?;
        let mapped = self.remote.map(piece.region, piece.offset, bytes, wait);
        mapped.map_err(|error| match error {
            ShmError::OutOfRange { .. } | ShmError::Gone { .. } => missing(),
            ShmError::NotReady { source, .. } => self.core.not_ready("map", source),
            ShmError::Lost => self.core.last_words(),
            other => self.core.lost(Lost::Misbehaved {
                what: other.to_string(),
            }),
        })
    }

    /// Unmaps what is gone, now and then.
    fn tidy(&self) {
        tidy(&self.remote, &self.tidied);
    }
}

fn tidy(remote: &ShmRemote, tidied: &AtomicU64) {
    let now = Time::roughly();
    if now.since(Time(tidied.load(Ordering::Relaxed))) >= TIDY_EVERY {
        tidied.store(now.0, Ordering::Relaxed);
        // An end is seen by whoever needs more than is mapped.
        let _ = remote.drain();
    }
}

impl Data for ShmData {
    fn start_read(&self, pieces: &[PieceRef], wait: &Wait) -> Result<(), CouplingError> {
        let _ = (pieces, wait);
        Ok(())
    }

    fn finish_read(&self, pieces: &mut [Piece<'_>], wait: &Wait) -> Result<(), CouplingError> {
        let copies = self.core.channel_counters.copies();
        let mut bytes = 0;
        for piece in pieces.iter_mut().filter(|piece| !piece.into.is_empty()) {
            let mapped = self.map_piece(piece.source(), wait)?;
            copy_bytes_uninit(piece.into, &mapped, copies);
            bytes += mapped.bytes() as u64;
        }
        if bytes > 0 {
            self.core.counts.reads.add(1);
            self.core.counts.read_bytes.add(bytes);
        }
        Ok(())
    }

    fn abandon_read(&self) {}

    fn map(&self, piece: PieceRef, wait: &Wait) -> Result<Option<Mapped>, CouplingError> {
        self.map_piece(piece, wait).map(Some)
    }
}

impl Drop for ShmData {
    fn drop(&mut self) {
        // In the child of a fork the connection is the parent's, too.
        if !self.core.process.is_child()
            && let Some(lane) = &mut *lock(&self.first)
        {
            take_leave(&mut lane.sender);
        }
    }
}

/// Messages through rings.
pub(super) struct RingMessages {
    core: Arc<Core>,
    remote: Arc<ShmRemote>,
    sending: Turn,
    writer: Mutex<RingWriter>,
    receiving: Turn,
    reader: Mutex<RingReader>,
    looked: AtomicU64,
    tidied: AtomicU64,
}

impl RingMessages {
    pub(super) fn new(core: Arc<Core>, remote: Arc<ShmRemote>, rings: Rings) -> Self {
        let now = Time::now().0;
        Self {
            core,
            remote,
            sending: Turn::default(),
            writer: Mutex::new(rings.writer),
            receiving: Turn::default(),
            reader: Mutex::new(rings.reader),
            looked: AtomicU64::new(now),
            tidied: AtomicU64::new(now),
        }
    }

    /// Receives what lies there; no system call, and no exact look at a clock.
    fn take(&self, reader: &mut RingReader, into: &mut Vec<u8>) -> Result<bool, CouplingError> {
        let taken = reader.try_receive(into);
        let taken = taken.map_err(|error| self.failed("receive", error))?;
        if taken {
            // Its loss is told once there is no message any more.
            let _ = self.look_after(false);
        }
        Ok(taken)
    }

    fn failed(&self, during: &'static str, error: RingError) -> CouplingError {
        match error {
            RingError::Wait {
                partly: false,
                source,
            } => self.core.not_ready(during, source),
            RingError::Wait { source, .. } => {
                let why = format!("a message was half sent when {source}");
                self.core.lose(Lost::Dropped { why })
            }
            RingError::Died => self.core.last_words(),
            RingError::TooLarge { bytes, limit_bytes } => CouplingError::TooLarge {
                what: "a message",
                bytes,
                limit: limit_bytes,
            },
            other => self.core.lose(Lost::Misbehaved {
                what: other.to_string(),
            }),
        }
    }

    /// How long the link may go unattended.
    fn look_every(&self) -> Duration {
        self.core.terms.lease / LOOKS_A_LEASE
    }

    /// Looks after the link, where it is time.
    fn look_after(&self, is_due: bool) -> Result<(), CouplingError> {
        let now = Time::roughly();
        let looked = Time(self.looked.load(Ordering::Relaxed));
        if is_due || now.since(looked) >= self.look_every() {
            self.looked.store(now.0, Ordering::Relaxed);
            self.core.look_after()?;
        }
        tidy(&self.remote, &self.tidied);
        Ok(())
    }
}

impl Messages for RingMessages {
    fn send(&self, parts: &[&[u8]], urgency: Urgency, wait: &Wait) -> Result<(), CouplingError> {
        self.core.check_lost()?;
        let turn = self.sending.take(wait);
        let _turn = turn.map_err(|source| self.core.not_ready("send", source))?;
        let rouse = match urgency {
            Urgency::WhenPolled => Rouse::Sleeper,
            Urgency::Now => Rouse::Anyone,
        };
        let sent = lock(&self.writer).send(parts, rouse, wait);
        sent.map_err(|error| self.failed("send", error))
    }

    fn hear(&self, with: &mut dyn FnMut(&[BorrowedFd<'_>])) {
        let reader = lock(&self.reader);
        with(&[reader.as_fd(), self.core.socket()]);
    }

    fn arm(&self) -> bool {
        let mut reader = lock(&self.reader);
        if reader.silence().is_err() {
            return true;
        }
        reader.set_attention(Attention::Asleep);
        reader.has_something()
    }

    fn try_receive(&self, into: &mut Vec<u8>) -> Result<bool, CouplingError> {
        let Some(_turn) = self.receiving.try_take() else {
            return Ok(false);
        };
        self.take(&mut lock(&self.reader), into)
    }

    fn receive(&self, into: &mut Vec<u8>, wait: &Wait) -> Result<(), CouplingError> {
        let turn = self.receiving.take(wait);
        let _turn = turn.map_err(|source| self.core.not_ready("receive", source))?;
        let mut reader = lock(&self.reader);
        if self.take(&mut reader, into)? {
            return Ok(());
        }
        let mut spin = self.core.options.spin;
        loop {
            let slice = wait.at_most(self.look_every());
            let socket = Some(self.core.socket());
            match reader.receive(into, spin, &slice, socket) {
                Ok(()) => {
                    // Its loss is told once there is no message any more.
                    let _ = self.look_after(false);
                    return Ok(());
                }
                Err(RingError::Wait { source, .. }) => {
                    if let Err(lost) = self.look_after(true) {
                        // What was sent before may have come just now.
                        return match reader.try_receive(into) {
                            Ok(true) => Ok(()),
                            _ => Err(lost),
                        };
                    }
                    if wait.slice().is_err() {
                        return Err(self.core.not_ready("receive", source));
                    }
                }
                Err(error) => return Err(self.failed("receive", error)),
            }
            // It has looked long enough without sleeping.
            spin = Duration::ZERO;
        }
    }
}
