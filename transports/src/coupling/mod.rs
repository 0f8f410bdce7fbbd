//! Joins an endpoint, which exposes memory, to peers that read it, whatever
//! carries the bytes.
//!
//! ```text
//!   Endpoint                                     Peer, in another process
//!     Arena: regions  <------- map, read ------    map: shm only; read: any
//!     Handler         <------- messages ------>    send, receive
//!     one thread      <------- heartbeats ---->    one thread for all peers
//!     or none: [`Progress::Manual`], where the host's calls do it all
//!
//!     every peer has a Noise channel over TCP; on it the transport is settled:
//!     shm    rings for messages, regions mapped read-only
//!     tcp    the channel for messages, one or two more for data
//!     rdma   the channel for messages, one-sided reads for data
//! ```
//!
//! Promises:
//! - Nobody without the key costs more than a bounded, short-lived connection,
//!   and nobody, with or without it, holds up another peer: the endpoint's
//!   thread never blocks but in `epoll`.
//! - Nothing outside a live region is ever read for a peer.
//! - Messages of a peer arrive whole, in order, each once, and authentic,
//!   until the peer is lost; then that is said once, and why.
//! - What waits for a peer is bounded in bytes ([`CouplingLimits`]).
//! - Every call ends by its [`Wait`](crate::time::Wait).
//!
//! What it does not do: know steps, groups or arrays; reconnect; check
//! payload. Bodies of reads are raw on sockets unless `encrypt` is set, so
//! whoever reads compares checksums. It keeps no bytes alive: that a slot is
//! not reused while somebody reads it is for the layer above to see to.

mod counters;
mod endpoint;
mod error;
mod fork;
mod interfaces;
mod options;
mod peer;
mod ticket;
mod wire;

use std::fmt;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::Duration;

pub use counters::CouplingCounters;
pub use endpoint::{Away, Endpoint};
pub use error::{CouplingError, Lost, Tried, TriedWhy};
pub use fork::Process;
pub use interfaces::{BadInterface, InterfaceChoice, address_towards, interface_addresses};
pub use options::{
    Allowed, Choice, CouplingLimits, DEFAULT_LEASE, EndpointOptions, MIN_LEASE, PeerOptions,
    Progress, TransportName, lease_of,
};
pub use peer::{Batch, ByHand, Look, Peer, Reading, read_many};
pub use ticket::{BadTicket, TICKET_ADDRESSES, Ticket};
pub use wire::{BadFrame, Frame, Hello, Join, Offer, Pieces, parse_frame};

/// A peer of an endpoint. Numbers are never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

impl fmt::Display for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "peer {}", self.0)
    }
}

/// What is known of the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// What carries the data.
    pub transport: TransportName,
    /// Why this one, in words.
    pub why: String,
    /// Where it is.
    pub address: SocketAddr,
    /// Whether it exchanges messages.
    pub linked: bool,
    /// How long it lets this side be silent.
    pub lease: Duration,
}

/// What pushed bytes are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// What the peer subscribed to; it chooses the number.
    pub subject: u32,
    /// Which of the subject's pushes this is. They come in ascending order, not
    /// every number is used.
    pub number: u64,
}

/// Bytes of exposed regions that a peer subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// What they are known by.
    pub tag: Tag,
    /// Where they are; none to say that nothing comes under this tag.
    pub pieces: Vec<PieceRef>,
}

/// What a peer was pushed, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushCounts {
    /// Pushes that were received as they were asked for.
    pub used: u64,
    /// Bytes of them.
    pub used_bytes: u64,
    /// Pushes that nobody wanted.
    pub wasted: u64,
    /// Bytes of them.
    pub wasted_bytes: u64,
}

impl PushCounts {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            used: self.used + other.used,
            used_bytes: self.used_bytes + other.used_bytes,
            wasted: self.wasted + other.wasted,
            wasted_bytes: self.wasted_bytes + other.wasted_bytes,
        }
    }
}

/// Bytes of an exposed region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceRef {
    /// The region's number.
    pub region: u32,
    /// Where in it they begin.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

/// Bytes of an exposed region, and where they are to go: as many as `into` is
/// long.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The region's number.
    pub region: u32,
    /// Where in it they begin.
    pub offset: u64,
    /// Where they go. All of it is initialized once the read has returned
    /// `Ok`; after an error any part may be.
    pub into: &'a mut [MaybeUninit<u8>],
}

impl Piece<'_> {
    /// What is read.
    #[must_use]
    pub fn source(&self) -> PieceRef {
        PieceRef {
            region: self.region,
            offset: self.offset,
            bytes: self.into.len() as u64,
        }
    }
}

/// When the other side is to look at a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// When it next looks, at the latest when it polls; over sockets at once.
    #[default]
    WhenPolled,
    /// At once: where nobody looks, the endpoint's thread is woken.
    Now,
}

/// What an endpoint tells of its peers. Called on the endpoint's thread, or on
/// the one inside [`Endpoint::poll`] or [`Endpoint::drive`], never on two at
/// once. It must not block, nor call `poll` or `drive`; it may call
/// [`Endpoint::send`], [`Endpoint::push`] and [`Endpoint::drop_peer`].
pub trait Handler: Send + Sync {
    /// A peer with the right key wants to join; `hello` is what it was told to
    /// say, and hostile all the same.
    ///
    /// # Errors
    /// Why it may not; it is told so, and is never heard of again.
    fn joined(&self, peer: PeerId, hello: &[u8], how: &PeerInfo) -> Result<(), String>;

    /// A message from a peer that joined, in the order in which it sent them.
    fn message(&self, peer: PeerId, message: &[u8]);

    /// What a peer wants to have without asking, in the order in which it said
    /// so; linked or not. From now on [`Endpoint::push`] may find credit.
    fn subscribed(&self, peer: PeerId, what: &[u8]) {
        let _ = (peer, what);
    }

    /// A peer that joined is no more; said once, and the last that is said of
    /// it. Nothing is read from regions for it any more. With shm its mappings
    /// may still stand, unless it [`Lost::Died`] or [`Lost::Closed`].
    fn lost(&self, peer: PeerId, why: &Lost);
}
