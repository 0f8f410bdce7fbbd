//! The side that exposes memory.

use std::sync::Arc;

use super::counters::{Counts, CouplingCounters};
use super::interfaces;
use super::{CouplingError, EndpointOptions, Handler, PeerId, PieceRef, Ticket, TransportName};
use crate::time::{Wait, WaitError};

/// Exposes the regions of an arena to peers, and exchanges messages with
/// those that are linked. It has one thread, named `panta-endpoint`, with all
/// signals blocked, which sleeps unless a socket or a heartbeat wants it.
///
/// Dropping it tells the peers that it closes and ends the thread; their
/// losses are not told to the handler.
pub struct Endpoint {
    ticket: Ticket,
    counts: Arc<Counts>,
}

impl Endpoint {
    /// Listens on the chosen interfaces and starts the thread. All regions of
    /// the arena, also those it makes later, can be read by whoever holds the
    /// key.
    ///
    /// # Errors
    /// [`CouplingError::NoInterface`], [`CouplingError::Bind`], or
    /// [`CouplingError::Io`] where the system refuses what is needed.
    pub fn open(
        options: EndpointOptions,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, CouplingError> {
        let _ = (interfaces::addresses(&options.interfaces)?, handler);
        Err(not_yet("be opened"))
    }

    /// Where it listens, and which one it is.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    /// Sends a message: the parts of `message` in turn. Never waits: what the
    /// transport does not take at once is queued, and a peer for which more
    /// than [`CouplingLimits::queued_bytes`](super::CouplingLimits) wait is
    /// dropped with that reason. `Ok` does not say that it arrives; a loss is
    /// told to the handler.
    ///
    /// # Errors
    /// [`CouplingError::UnknownPeer`] where it is lost already,
    /// [`CouplingError::NotLinked`], [`CouplingError::TooLarge`] for one beyond
    /// either side's limit, [`CouplingError::Forked`].
    pub fn send(&self, peer: PeerId, message: &[&[u8]]) -> Result<(), CouplingError> {
        let _ = (peer, message);
        Err(not_yet("send"))
    }

    /// Sends bytes that the peer has not asked for but will want: it gets them
    /// by [`Peer::receive_push`](super::Peer::receive_push) under the same
    /// `tag`. False, with nothing sent, where the peer has not that much credit
    /// left (it says how much in `push_bytes`), maps memory anyway, or the
    /// pieces are not all exposed. Pushed bytes are read when the socket takes
    /// them, as those of a read are.
    ///
    /// # Errors
    /// [`CouplingError::UnknownPeer`], [`CouplingError::Forked`].
    pub fn push(&self, peer: PeerId, tag: u64, pieces: &[PieceRef]) -> Result<bool, CouplingError> {
        let _ = (peer, tag, pieces);
        Err(not_yet("push"))
    }

    /// Hands the handler what lies in rings, and returns how many messages
    /// that were; no system call where there is none. What comes over sockets
    /// is handed over by the endpoint's thread, without this.
    pub fn poll(&self) -> usize {
        0
    }

    /// Returns once the handler was called at least once since `drive` last
    /// returned: at once where it was already, else it looks for a while, then
    /// sleeps.
    ///
    /// # Errors
    /// [`WaitError`] where nothing came.
    pub fn drive(&self, wait: &Wait) -> Result<(), WaitError> {
        Err(WaitError::Deadline(wait.deadline().length()))
    }

    /// Ends a peer, which is told `why`. The handler hears of its loss as
    /// [`Lost::Dropped`](super::Lost::Dropped), after this has returned. A
    /// peer that is lost already stays so.
    pub fn drop_peer(&self, peer: PeerId, why: &str) {
        let _ = (peer, why);
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> CouplingCounters {
        self.counts.snapshot()
    }
}

fn not_yet(what: &'static str) -> CouplingError {
    CouplingError::Unsupported {
        transport: TransportName::Tcp,
        what,
        instead: "use another engine",
    }
}
