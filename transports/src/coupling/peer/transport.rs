//! What every transport of a peer can do.

use crate::coupling::{CouplingError, Piece, PieceRef};
use crate::time::Wait;

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

    /// See [`Peer::receive_push`](super::Peer::receive_push).
    fn receive_push(
        &self,
        tag: u64,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
    ) -> Result<(), CouplingError>;
}
