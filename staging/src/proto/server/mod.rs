//! A staging server without its I/O: home of some streams, owner for all.
//!
//! ```text
//!   driver: threads, sockets, payload          machine
//!   frame (+ body kept as a region)  --> ServerEvent::Message
//!   <-- ServerAction::Send                 one small frame
//!   <-- ServerAction::Gather               frame whose body the driver copies
//!                                          together from regions
//!   <-- ServerAction::Drop                 the region's memory may go
//! ```
//!
//! The driver keeps payload outside the lock that guards the machine (an
//! `Arc` per region), so that a region dropped while it is being gathered
//! stays alive until that is done.

mod home;
mod index;
mod ledger;
mod machine;
mod owner;
mod reading;
mod retention;
mod sharing;
#[cfg(test)]
mod sharing_tests;
mod stream;
mod writing;

pub use machine::ServerMachine;

use super::message::{Got, Map, Message};
use super::{ConnectionId, RegionId, ServerId};
use std::time::Duration;

/// What a connection's key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reading only.
    Reader,
    /// Reading and writing.
    Writer,
    /// Everything.
    Cluster,
}

/// What happens to a server.
#[derive(Debug)]
pub enum ServerEvent {
    /// A client has been authenticated.
    Connected {
        /// Its connection.
        connection: ConnectionId,
        /// What its key allows.
        role: Role,
    },
    /// A connection has ended, from either side.
    Disconnected {
        /// The connection.
        connection: ConnectionId,
    },
    /// A message has come. The driver decodes it with
    /// [`super::codec::decode`] (and ends the connection on an error), reads
    /// as many bytes of body as [`super::codec::body_bytes`] says (`Some(0)`
    /// makes an empty region), and keeps them as a region, which belongs to the machine until it says
    /// [`ServerAction::Drop`].
    Message {
        /// Where it came from.
        connection: ConnectionId,
        /// The message.
        message: Message,
        /// Its body.
        body: Option<RegionId>,
    },
    /// Time has passed.
    Tick,
}

/// What a server wants done.
#[derive(Debug, PartialEq)]
pub enum ServerAction {
    /// Send a message without a body.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// The message.
        message: Message,
    },
    /// Send `got` with a body made of `parts`, in their order; part `i` is
    /// piece `i` of `got`. Where a part is not [`GatherPart::whole`], the
    /// driver verifies the tiles that it touches and replaces the checksums of
    /// the piece by those of the bytes sent.
    Gather {
        /// To whom.
        connection: ConnectionId,
        /// The request that is answered.
        request: u64,
        /// The head.
        got: Got,
        /// Where the body comes from.
        parts: Vec<GatherPart>,
    },
    /// The region is not needed any more.
    Drop {
        /// The region.
        region: RegionId,
    },
    /// End the connection.
    Disconnect {
        /// The connection.
        connection: ConnectionId,
        /// Why, for the log.
        reason: String,
    },
}

/// A box to be copied out of a stored piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatherPart {
    /// The region that holds the piece.
    pub region: RegionId,
    /// Where the piece begins in the region.
    pub offset_bytes: u64,
    /// How long it is.
    pub length_bytes: u64,
    /// Bytes of one element; 0: the piece goes as it is.
    pub element_bytes: u32,
    /// The stored piece's box.
    pub piece_start: Vec<u64>,
    /// The stored piece's box.
    pub piece_count: Vec<u64>,
    /// The box to send, inside the piece.
    pub start: Vec<u64>,
    /// The box to send.
    pub count: Vec<u64>,
    /// Whether that is all of it.
    pub whole: bool,
    /// CRC32C of the stored piece's tiles.
    pub checksums: Vec<u32>,
}

/// What a server is given at start.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Its place in the list.
    pub server: ServerId,
    /// The names of all servers of the space, in the order all agree on.
    pub names: Vec<String>,
    /// Random; another at every start.
    pub incarnation: u64,
    /// The shard map; opaque here but for its version.
    pub map: Map,
    /// Payload bytes it may hold.
    pub limit_bytes: u64,
    /// See [`super::limits::RECONNECT_GRACE_DEFAULT`].
    pub reconnect_grace: Duration,
}
