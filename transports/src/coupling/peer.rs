//! The side that reads.

use std::marker::PhantomData;

use super::counters::CouplingCounters;
use super::{
    CouplingError, PeerInfo, PeerOptions, Piece, PieceRef, Ticket, TransportName, Urgency,
};
use crate::time::Wait;

/// A connection to an endpoint. Messages and reads may be used by two threads
/// at once; of two that read, one waits for the other.
pub struct Peer {
    info: PeerInfo,
}

/// A read that was asked for and not received yet. Dropping it gives the
/// bytes up; the next read skips them.
#[must_use = "a read that is not finished delivers nothing"]
pub struct Reading<'p> {
    peer: PhantomData<&'p Peer>,
}

impl Peer {
    /// Connects to the endpoint of a ticket, trying each of its addresses in
    /// turn with a share of the deadline, and settles the transport.
    ///
    /// # Errors
    /// [`CouplingError::Unreachable`] with each address and why not,
    /// [`CouplingError::Refused`] where the handler said no,
    /// [`CouplingError::NoTransport`] where one asked for by name cannot be had,
    /// [`CouplingError::NotReady`] at the deadline or interrupted.
    pub fn connect(
        ticket: &Ticket,
        options: &PeerOptions,
        wait: &Wait,
    ) -> Result<Self, CouplingError> {
        let _ = (ticket, options, wait);
        Err(not_yet("connect"))
    }

    /// Which transport was taken, and why.
    #[must_use]
    pub fn info(&self) -> PeerInfo {
        self.info.clone()
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
        let _ = (message, urgency, wait);
        Err(not_yet("send"))
    }

    /// Receives the next message, whole; what `into` held before is gone.
    ///
    /// # Errors
    /// [`CouplingError::NotReady`] where none came, and it can be called
    /// again; [`CouplingError::Lost`] once the messages that came before the
    /// loss are received; [`CouplingError::NotLinked`],
    /// [`CouplingError::Forked`].
    pub fn receive(&self, into: &mut Vec<u8>, wait: &Wait) -> Result<(), CouplingError> {
        let _ = (into, wait);
        Err(not_yet("receive"))
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
    /// waited for. One read at a time may be under way with a peer: another is
    /// waited for.
    ///
    /// # Errors
    /// As [`Peer::read`].
    pub fn start_read(
        &self,
        pieces: &[PieceRef],
        wait: &Wait,
    ) -> Result<Reading<'_>, CouplingError> {
        let _ = (pieces, wait);
        Err(not_yet("read"))
    }

    /// Receives what was asked for into `pieces`, which must name the same
    /// bytes in the same order.
    ///
    /// # Errors
    /// As [`Peer::read`].
    pub fn finish_read(
        &self,
        reading: Reading<'_>,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
    ) -> Result<(), CouplingError> {
        let _ = (reading, pieces, wait);
        Err(not_yet("read"))
    }

    /// Receives what the endpoint pushed under `tag`; the `pieces` are filled
    /// in turn and must be as long as what was pushed.
    ///
    /// # Errors
    /// As [`Peer::read`]; [`CouplingError::NotReady`] where nothing was pushed
    /// under this tag.
    pub fn receive_push(
        &self,
        tag: u64,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
    ) -> Result<(), CouplingError> {
        let _ = (tag, pieces, wait);
        Err(not_yet("receive pushed bytes"))
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> CouplingCounters {
        CouplingCounters::default()
    }

    /// Says that it goes, and goes. Dropping does the same.
    pub fn close(self) {}
}

fn not_yet(what: &'static str) -> CouplingError {
    CouplingError::Unsupported {
        transport: TransportName::Tcp,
        what,
        instead: "use another engine",
    }
}
