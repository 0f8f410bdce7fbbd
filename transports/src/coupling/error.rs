//! What goes wrong between an endpoint and its peers, and what to try.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::PeerId;
use super::options::{Choice, TransportName};
use crate::channel::{BindError, ChannelError};
use crate::time::WaitError;

/// Why a peer, or an endpoint, is there no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It said that it goes.
    Closed,
    /// Its connection ended without a word: the process died, or the network
    /// between was cut.
    Died,
    /// The connection stands, but nothing came for longer than the lease.
    Silent {
        /// How long nothing came.
        for_: Duration,
    },
    /// It broke the protocol or a limit.
    Misbehaved {
        /// What it did.
        what: String,
    },
    /// This side, or the other, dropped it and says why.
    Dropped {
        /// What was given as the reason.
        why: String,
    },
}

impl fmt::Display for Lost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => formatter.write_str("it closed"),
            Self::Died => formatter.write_str("it died, or the network to it was cut"),
            Self::Silent { for_ } => write!(
                formatter,
                "it has been silent for {for_:?}, longer than its lease; it may be stopped or unreachable"
            ),
            Self::Misbehaved { what } => write!(formatter, "it broke the protocol: {what}"),
            Self::Dropped { why } => write!(formatter, "it was dropped: {why}"),
        }
    }
}

/// An address of a ticket that was tried, and why it was not the one.
#[derive(Debug)]
pub struct Tried {
    /// The address.
    pub address: SocketAddr,
    /// Why no channel came of it.
    pub why: TriedWhy,
}

/// Why an address of a ticket was not the one.
#[derive(Debug, thiserror::Error)]
pub enum TriedWhy {
    /// There was no channel.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// Somebody else with the same key listens there: the address means
    /// another machine here, or the port was given away again.
    #[error("another endpoint answers there; it is not the one of the ticket")]
    OtherEndpoint,
    /// The endpoint that is not wanted any more still answers there.
    #[error("the endpoint that was lost still answers there, and no other")]
    SameEndpoint,
    /// It answered with something else.
    #[error("it answered against the protocol: {0}")]
    Misbehaved(String),
    /// The endpoint itself says no; other addresses would say the same.
    #[error("it refused: {0}")]
    Refused(String),
    /// The share of the deadline ended.
    #[error("{0}")]
    Wait(WaitError),
}

fn list(tried: &[Tried]) -> String {
    if tried.is_empty() {
        return "the ticket names no address".to_owned();
    }
    let lines: Vec<String> = tried
        .iter()
        .map(|one| format!("{}: {}", one.address, one.why))
        .collect();
    lines.join("; ")
}

/// Why an endpoint or a peer could not be had, or could not do what was
/// asked.
#[derive(Debug, thiserror::Error)]
pub enum CouplingError {
    /// A chosen interface has no address here.
    #[error("no address of this machine for interface `{choice}`; there are: {present}")]
    NoInterface {
        /// The choice, as it was given.
        choice: String,
        /// The interfaces and addresses there are.
        present: String,
    },
    /// No listener could be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// None of the ticket's addresses led to the endpoint.
    #[error("cannot reach the endpoint at any of its addresses: {}; check that it runs, and that it listens on an interface that this machine can reach", list(.tried))]
    Unreachable {
        /// Each address and why not.
        tried: Vec<Tried>,
    },
    /// The endpoint was reached and said no.
    #[error("{address} refused: {why}")]
    Refused {
        /// The endpoint.
        address: SocketAddr,
        /// Its words.
        why: String,
    },
    /// A transport asked for by name cannot be had. Nothing else is taken in
    /// its place.
    #[error("transport {} cannot be had with {address}: {why}; ask for `auto` to take what there is", .choice.name())]
    NoTransport {
        /// What was asked for.
        choice: Choice,
        /// The endpoint.
        address: SocketAddr,
        /// Why not.
        why: String,
    },
    /// Of the transports that the endpoint may offer there is none here.
    #[error("transport {} cannot be offered: {why}", .transport.name())]
    NothingToOffer {
        /// The last that was looked for.
        transport: TransportName,
        /// Why not.
        why: String,
    },
    /// The other side is gone. Every later call says the same.
    #[error("{address} is lost: {why}")]
    Lost {
        /// The other side.
        address: SocketAddr,
        /// How it went.
        why: Lost,
    },
    /// The deadline passed, or the wait was interrupted. What was begun can
    /// be tried again.
    #[error("waiting for {address} during {during}: {source}")]
    NotReady {
        /// The other side.
        address: SocketAddr,
        /// What was going on.
        during: &'static str,
        /// Why the wait ended.
        source: WaitError,
    },
    /// The endpoint exposes no such bytes: no region of this number lives
    /// there, or it ends before.
    #[error(
        "{address} exposes no {bytes} bytes at {offset} of region {region}; the step that they belonged to was probably released"
    )]
    NotExposed {
        /// The endpoint.
        address: SocketAddr,
        /// The region's number.
        region: u32,
        /// Where in it.
        offset: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// The pieces to be filled are not those that were asked for.
    #[error(
        "the pieces to be filled are not those that were asked for; pass the same, in the same order"
    )]
    OtherPieces,
    /// More than a limit allows, by this side's own fault; nothing was sent.
    #[error(
        "{what} of {bytes} is over the limit of {limit}; raise the limit or ask for less at once"
    )]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// No peer has this number (any more).
    #[error("there is no {peer}; it was lost before, see what was said then")]
    UnknownPeer {
        /// The number.
        peer: PeerId,
    },
    /// Messages need a linked peer, and this one is there for data only.
    #[error("the connection is for data only; set `linked` to send and receive messages")]
    NotLinked,
    /// The process forked, and this is the child: connections belong to the
    /// parent.
    #[error(
        "this is the child of a fork, and the connections are its parent's; open anew after the fork"
    )]
    Forked,
    /// The system refused a call.
    #[error("{during} failed: {source}")]
    Io {
        /// What was going on.
        during: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
