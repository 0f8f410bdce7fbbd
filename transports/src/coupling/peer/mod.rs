//! The side that reads.
//!
//! ```text
//!   Peer
//!     core        the first connection: messages, heartbeats, its loss
//!     unasked     what comes over it: messages, and what was subscribed to
//!     data        by transport: what is read, mapped or pushed
//!     keeper      one thread of the process, which says that peers live
//!     by_hand     the same where there is none: the host's calls say so
//! ```

mod by_hand;
mod connect;
mod core;
mod keeper;
mod lane;
mod plan;
mod pushes;
mod rdma;
mod shm;
mod tcp;
mod transport;
mod turn;
mod unasked;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

pub use self::by_hand::{ByHand, Look};
use self::core::Core;
use self::transport::{Data, Messages};
use self::turn::{Turn, TurnGuard};
use super::{
    Away, CouplingCounters, CouplingError, PeerId, PeerInfo, PeerOptions, Piece, PieceRef,
    Progress, PushCounts, Tag, Ticket, Urgency,
};
use crate::shm::Mapped;
use crate::time::{Meanwhile, Wait};

/// A connection to an endpoint. Messages and reads may be used by two threads
/// at once; of two that read, one waits for the other.
pub struct Peer {
    data: Box<dyn Data>,
    /// Where messages do not go over the channel.
    messages: Option<Box<dyn Messages>>,
    reading: Turn,
    core: Arc<Core>,
}

/// A read that was asked for and not received yet. Dropping it gives the
/// bytes up; the next read skips them.
#[must_use = "a read that is not finished delivers nothing"]
pub struct Reading<'p> {
    peer: &'p Peer,
    pieces: Vec<PieceRef>,
    is_finished: bool,
    // Given back last.
    _turn: TurnGuard<'p>,
}

impl Peer {
    /// Connects to the endpoint of a ticket, trying each of its addresses in
    /// turn with a share of the deadline, and settles the transport.
    ///
    /// # Errors
    /// [`CouplingError::Unreachable`] with each address and why not,
    /// [`CouplingError::Refused`] where the handler said no,
    /// [`CouplingError::NoTransport`] where one asked for by name cannot be had,
    /// [`CouplingError::NotReady`] where it was interrupted.
    pub fn connect(
        ticket: &Ticket,
        options: &PeerOptions,
        wait: &Wait,
    ) -> Result<Self, CouplingError> {
        connect::connect(ticket, options, wait)
    }

    /// The random number of the endpoint, which tells it from a later one at the same
    /// address.
    #[must_use]
    pub fn instance(&self) -> u64 {
        self.core.terms.instance
    }

    /// Which transport was taken, and why.
    #[must_use]
    pub fn info(&self) -> PeerInfo {
        self.core.info.clone()
    }

    /// By which number the endpoint knows it.
    #[must_use]
    pub fn number(&self) -> PeerId {
        PeerId(self.core.terms.peer)
    }

    /// Sends a message: the parts in turn. Waits while the transport takes no
    /// more. `urgency` matters where the other side has to poll for it.
    ///
    /// # Errors
    /// [`CouplingError::NotReady`], with nothing sent where nothing had gone
    /// out, else the connection is lost; [`CouplingError::Lost`],
    /// [`CouplingError::NotLinked`], [`CouplingError::TooLarge`],
    /// [`CouplingError::Forked`].
    pub fn send(
        &self,
        message: &[&[u8]],
        urgency: Urgency,
        wait: &Wait,
    ) -> Result<(), CouplingError> {
        match &self.messages {
            Some(messages) => {
                let bytes = message.iter().map(|part| part.len()).sum();
                self.core.check_message(bytes)?;
                messages.send(message, urgency, wait)?;
                self.core.counts.messages_sent.add(1);
                Ok(())
            }
            // Over sockets every message is seen at once.
            None => self.core.send(message, wait),
        }
    }

    /// Receives a message that lies in this process's reach already, so that it takes
    /// no system call; false where none does, which is always so over sockets.
    ///
    /// # Errors
    /// As [`Peer::receive`], but for [`CouplingError::NotReady`].
    pub fn try_receive(&self, into: &mut Vec<u8>) -> Result<bool, CouplingError> {
        let Some(messages) = &self.messages else {
            return Ok(false);
        };
        self.core.check_process()?;
        let received = messages.try_receive(into)?;
        self.core.counts.messages_received.add(u64::from(received));
        Ok(received)
    }

    /// Receives the next message, whole; what `into` held before is gone.
    ///
    /// # Errors
    /// [`CouplingError::NotReady`] where none came, and it can be called
    /// again; [`CouplingError::Lost`] once the messages that came before the
    /// loss are received; [`CouplingError::NotLinked`],
    /// [`CouplingError::Forked`].
    pub fn receive(&self, into: &mut Vec<u8>, wait: &Wait) -> Result<(), CouplingError> {
        match &self.messages {
            Some(messages) => {
                self.core.check_process()?;
                messages.receive(into, wait)?;
                self.core.counts.messages_received.add(1);
                Ok(())
            }
            None => self.core.receive(into, wait),
        }
    }

    /// Calls `with` the descriptors of which one is readable when a message has come
    /// after [`arm`](Self::arm) said that there was none, or the peer is lost.
    pub fn hear(&self, with: &mut dyn FnMut(&[BorrowedFd<'_>])) {
        match &self.messages {
            Some(messages) => messages.hear(with),
            None => self.core.hear(with),
        }
    }

    /// To be called when [`receive`](Self::receive) had nothing, before waiting for the
    /// descriptors of [`hear`](Self::hear): whether something has come meanwhile, which
    /// they then need not say.
    #[must_use]
    pub fn arm(&self) -> bool {
        match &self.messages {
            Some(messages) => messages.arm(),
            None => self.core.arm(),
        }
    }

    /// Bytes of a region in place, where the transport shares memory; none
    /// where it does not. They stay mapped while they are held, whatever
    /// becomes of the endpoint. That they do not change meanwhile is for the
    /// layer above to see to.
    ///
    /// # Errors
    /// As [`Peer::read`]. A region that has not come yet is waited for.
    pub fn map(
        &self,
        region: u32,
        offset: u64,
        bytes: usize,
        wait: &Wait,
    ) -> Result<Option<Mapped>, CouplingError> {
        self.core.check_process()?;
        let piece = PieceRef {
            region,
            offset,
            bytes: bytes as u64,
        };
        self.data.map(piece, wait)
    }

    /// Fills all `pieces` from the endpoint's regions, in one round trip where
    /// limits allow.
    ///
    /// # Errors
    /// [`CouplingError::NotExposed`] where bytes of any piece are not in a
    /// live region; [`CouplingError::NotReady`], [`CouplingError::Lost`],
    /// [`CouplingError::Forked`]. After any of them the bytes of `pieces` are
    /// undefined, and nothing writes to them any more.
    pub fn read(&self, pieces: &mut [Piece<'_>], wait: &Wait) -> Result<(), CouplingError> {
        let sources: Vec<PieceRef> = pieces.iter().map(Piece::source).collect();
        let reading = self.start_read(&sources, wait)?;
        self.finish_read(reading, pieces, wait)
    }

    /// Asks for `pieces`, so that several peers can be asked before one is
    /// waited for. Over a fabric they are asked for when they are finished: it
    /// writes to where they go, and whoever forgets a reading could free that
    /// meanwhile; [`read_many`], which does not return before all is there,
    /// asks all at once there, too. One read at a time may be under way with a
    /// peer: another is waited for.
    ///
    /// # Errors
    /// As [`Peer::read`].
    pub fn start_read(
        &self,
        pieces: &[PieceRef],
        wait: &Wait,
    ) -> Result<Reading<'_>, CouplingError> {
        self.core.check_process()?;
        let turn = self.take_turn("start_read", wait)?;
        self.data.start_read(pieces, wait)?;
        Ok(Reading {
            peer: self,
            pieces: pieces.to_vec(),
            is_finished: false,
            _turn: turn,
        })
    }

    /// Receives what was asked for into `pieces`, which must name the same
    /// bytes in the same order.
    ///
    /// # Errors
    /// As [`Peer::read`]; [`CouplingError::OtherPieces`] where they do not,
    /// with nothing received, or the reading is another peer's.
    pub fn finish_read(
        &self,
        mut reading: Reading<'_>,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
    ) -> Result<(), CouplingError> {
        self.core.check_process()?;
        let are_the_same = std::ptr::eq(self, reading.peer)
            && pieces.len() == reading.pieces.len()
            && pieces
                .iter()
                .zip(&reading.pieces)
                .all(|(piece, asked)| piece.source() == *asked);
        if !are_the_same {
            return Err(CouplingError::OtherPieces);
        }
        let finished = self.data.finish_read(pieces, wait);
        // After an error the transport has given the bytes up itself.
        reading.is_finished = true;
        finished
    }

    /// Asks for `what` to be pushed from now on, under tags of this subject, a
    /// number that was not used before; `what` is for the endpoint's handler, and
    /// `credit_bytes` more may be on their way. Costs no round trip. False, and
    /// nothing is said, where this transport has no need of it: over shared memory
    /// bytes are mapped, over a fabric they are read without the endpoint's doing.
    #[must_use]
    pub fn subscribe(&self, subject: u32, credit_bytes: u64, what: &[u8]) -> bool {
        self.core.check_process().is_ok() && self.data.subscribe(subject, credit_bytes, what)
    }

    /// Nothing of this subject is wanted any more; `what` tells the handler.
    pub fn unsubscribe(&self, subject: u32, what: &[u8]) {
        if self.core.check_process().is_ok() {
            self.data.unsubscribe(subject, what);
        }
    }

    /// Receives what the endpoint pushed under `tag`; the `pieces` are filled
    /// in turn and must be together as long as what was pushed, wherever it
    /// came from. False where nothing comes under this tag: at once where that is
    /// known, or nothing was said of the subject yet.
    ///
    /// # Errors
    /// As [`Peer::read`]; [`CouplingError::NotReady`] where it did not come in time;
    /// [`CouplingError::OtherPieces`] where what was pushed is of another length,
    /// and it is gone.
    pub fn receive_push(
        &self,
        tag: Tag,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
    ) -> Result<bool, CouplingError> {
        self.core.check_process()?;
        let _turn = self.take_turn("receive_push", wait)?;
        self.data.receive_push(tag, pieces, wait)
    }

    /// Lets go of what was pushed under numbers below this one and not received.
    pub fn forget_pushes(&self, below: u64) {
        if self.core.check_process().is_ok() {
            self.data.forget_pushes(below);
        }
    }

    /// What became of what was pushed.
    #[must_use]
    pub fn push_counts(&self) -> PushCounts {
        self.data.push_counts()
    }

    /// Says that this side lives, if that is due and progress is made by hand: to be
    /// called now and then also while something else is waited for. Never waits.
    pub fn progress(&self) {
        self.core.progress();
    }

    /// What does as [`progress`](Self::progress), as long as the peer is there.
    #[must_use]
    pub fn meanwhile(&self) -> Weak<dyn Meanwhile> {
        let core: Weak<Core> = Arc::downgrade(&self.core);
        core
    }

    /// Whether this side's program stayed away for longer than it had declared, so that
    /// the endpoint holds it dead. It stays so: connect again.
    #[must_use]
    pub fn away(&self) -> Option<Away> {
        self.core.away()
    }

    /// How long this side's program may stay away, where it makes progress by hand.
    #[must_use]
    pub fn silence(&self) -> Option<Duration> {
        match self.core.options.progress {
            Progress::Threads => None,
            Progress::Manual { silence } => Some(silence),
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> CouplingCounters {
        self.core.counts.snapshot(&self.core.channel_counters)
    }

    /// Says that it goes, and goes. Dropping does the same.
    pub fn close(self) {}

    fn take_turn(&self, during: &'static str, wait: &Wait) -> Result<TurnGuard<'_>, CouplingError> {
        let turn = self.reading.take(wait);
        turn.map_err(|source| self.core.not_ready(during, source))
    }
}

/// What is to be read from one peer.
#[derive(Debug)]
pub struct Batch<'b, 'm> {
    /// The peer.
    pub peer: &'b Peer,
    /// The ranges, and where they go.
    pub pieces: &'b mut [Piece<'m>],
}

/// Reads from several peers, all of which are asked before any is waited for. Whoever
/// reads with several threads names the peers in the same order in all of them.
///
/// # Errors
/// As [`Peer::read`], with the place of the batch that failed; the bytes of all pieces
/// are then undefined, and nothing writes to them any more.
pub fn read_many(batches: &mut [Batch<'_, '_>], wait: &Wait) -> Result<(), (usize, CouplingError)> {
    let mut readings = Vec::new();
    let mut turns = Vec::new();
    let mut fabrics = Vec::new();
    for (at, batch) in batches.iter_mut().enumerate() {
        let peer = batch.peer;
        match peer.data.fabric() {
            Some(fabric) => {
                let turn = peer
                    .core
                    .check_process()
                    .and_then(|()| peer.take_turn("read", wait));
                turns.push(turn.map_err(|error| (at, error))?);
                fabrics.push((at, fabric, &mut *batch.pieces));
            }
            None => {
                let sources: Vec<PieceRef> = batch.pieces.iter().map(Piece::source).collect();
                let reading = peer.start_read(&sources, wait);
                readings.push((
                    at,
                    peer,
                    reading.map_err(|error| (at, error))?,
                    &mut *batch.pieces,
                ));
            }
        }
    }
    rdma::read_many(&mut fabrics, wait)?;
    drop(turns);
    for (at, peer, reading, pieces) in readings {
        peer.finish_read(reading, pieces, wait)
            .map_err(|error| (at, error))?;
    }
    Ok(())
}

impl Meanwhile for Core {
    fn meanwhile(&self) {
        self.progress();
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Peer")
            .field("info", &self.core.info)
            .finish_non_exhaustive()
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.peer.data.abandon_read();
        }
    }
}
