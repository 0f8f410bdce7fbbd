//! What every transport of a peer can do.

use std::os::fd::BorrowedFd;

use super::rdma::RdmaData;
use crate::coupling::{CouplingError, Piece, PieceRef, PushCounts, Tag, Urgency};
use crate::shm::Mapped;
use crate::time::Wait;

/// The messages of a linked peer, where they go another way than the channel.
pub(super) trait Messages: Send + Sync {
    /// See [`Peer::send`](super::Peer::send).
    fn send(&self, parts: &[&[u8]], urgency: Urgency, wait: &Wait) -> Result<(), CouplingError>;

    /// See [`Peer::hear`](super::Peer::hear).
    fn hear(&self, with: &mut dyn FnMut(&[BorrowedFd<'_>]));

    /// See [`Peer::arm`](super::Peer::arm).
    fn arm(&self) -> bool;

    /// See [`Peer::try_receive`](super::Peer::try_receive).
    fn try_receive(&self, into: &mut Vec<u8>) -> Result<bool, CouplingError>;

    /// See [`Peer::receive`](super::Peer::receive).
    fn receive(&self, into: &mut Vec<u8>, wait: &Wait) -> Result<(), CouplingError>;
}

/// The data of a peer, by one transport. One read at a time is between
/// `start_read` and `finish_read` or `abandon_read`; the peer sees to that,
/// and that the same pieces are passed to both.
pub(super) trait Data: Send + Sync {
    /// See [`Peer::start_read`](super::Peer::start_read).
    fn start_read(&self, pieces: &[PieceRef], wait: &Wait) -> Result<(), CouplingError>;

    /// See [`Peer::finish_read`](super::Peer::finish_read). After an error
    /// nothing writes to the pieces any more.
    fn finish_read(&self, pieces: &mut [Piece<'_>], wait: &Wait) -> Result<(), CouplingError>;

    /// Nobody wants what was asked for.
    fn abandon_read(&self);

    /// See [`Peer::map`](super::Peer::map).
    fn map(&self, piece: PieceRef, wait: &Wait) -> Result<Option<Mapped>, CouplingError> {
        let _ = (piece, wait);
        Ok(None)
    }

    /// Where it goes over a fabric.
    fn fabric(&self) -> Option<&RdmaData> {
        None
    }

    /// See [`Peer::subscribe`](super::Peer::subscribe).
    fn subscribe(&self, subject: u32, credit_bytes: u64, what: &[u8]) -> bool {
        let _ = (subject, credit_bytes, what);
        false
    }

    /// See [`Peer::unsubscribe`](super::Peer::unsubscribe).
    fn unsubscribe(&self, subject: u32, what: &[u8]) {
        let _ = (subject, what);
    }

    /// See [`Peer::receive_push`](super::Peer::receive_push).
    fn receive_push(
        &self,
        tag: Tag,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
    ) -> Result<bool, CouplingError> {
        let _ = (tag, pieces, wait);
        Ok(false)
    }

    /// See [`Peer::forget_pushes`](super::Peer::forget_pushes).
    fn forget_pushes(&self, below: u64) {
        let _ = below;
    }

    /// See [`Peer::push_counts`](super::Peer::push_counts).
    fn push_counts(&self) -> PushCounts {
        PushCounts::default()
    }
}
