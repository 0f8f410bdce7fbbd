//! What can be chosen, and every limit with its default.

use std::net::SocketAddr;
use std::time::Duration;

use super::interfaces::InterfaceChoice;
use crate::channel::{CONNECTOR_SPIN, Key};
use crate::rdma::FabricOptions;

/// How long a peer may be silent, by default.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// The shortest lease that is taken; heartbeats come every third of it.
pub const MIN_LEASE: Duration = Duration::from_millis(30);

/// Something that moves bytes between two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransportName {
    /// Memory of the node that both map.
    Shm = 0,
    /// Sockets.
    Tcp = 1,
    /// One-sided reads over a fabric.
    Rdma = 2,
}

impl TransportName {
    /// Its name in URLs and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::Tcp => "tcp",
            Self::Rdma => "rdma",
        }
    }

    /// The transport with this number on the wire.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Shm),
            1 => Some(Self::Tcp),
            2 => Some(Self::Rdma),
            _ => None,
        }
    }
}

/// Who does what is due while nobody is in a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// A thread of this library's.
    #[default]
    Threads,
    /// Nobody: work is done in calls alone, and no thread is started.
    Manual {
        /// How long the program may stay away between two calls. The other side is told,
        /// and holds this process dead only after that.
        silence: Duration,
    },
}

impl Progress {
    /// The silence that was declared, as it goes over the wire; 0: none.
    #[must_use]
    pub fn silence_ms(self) -> u32 {
        match self {
            Self::Threads => 0,
            Self::Manual { silence } => super::wire::milliseconds(silence).max(1),
        }
    }
}

/// How long a side that declared so much silence may say nothing, `lease` where it declared
/// none: a third more than it may stay away, since its last sign of life may be so much
/// older than its last call.
#[must_use]
pub fn lease_of(silence_ms: u32, lease: Duration) -> Duration {
    match silence_ms {
        0 => lease,
        ms => Duration::from_millis(u64::from(ms) + u64::from(ms) / 3).max(MIN_LEASE),
    }
}

/// Why there is no fabric where progress is made by hand: software providers want their
/// target to be looked after at any time, and start threads for what hardware does not do.
pub(super) const NO_THREAD: &str =
    "progress is made by hand, and a fabric needs a thread that looks after it";

/// What a peer asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// `shm` where both are proven to be on one node, else `rdma` where both
    /// have a provider that is hardware, else `tcp`.
    #[default]
    Auto,
    /// This one, or an error that says why not.
    Only(TransportName),
}

impl Choice {
    /// Its name in URLs and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Only(transport) => transport.name(),
        }
    }
}

/// What an endpoint offers. `tcp` is always there underneath; where it is not
/// allowed, peers that can have nothing else are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Whether memory is shared with peers of the same user on this node.
    pub shm: bool,
    /// Whether data may go through sockets.
    pub tcp: bool,
    /// Whether a fabric is looked for.
    pub rdma: bool,
}

impl Default for Allowed {
    fn default() -> Self {
        Self {
            shm: true,
            tcp: true,
            rdma: true,
        }
    }
}

/// The limits of an endpoint, or of a peer. Both sides apply their own, and
/// are told the other's when they connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CouplingLimits {
    /// Bytes of one message; 16 MiB by default.
    pub message_bytes: u32,
    /// Bytes of messages that wait for one peer before it is dropped as one
    /// that does not listen; 64 MiB by default. Holds whatever the size of a
    /// message.
    pub queued_bytes: u64,
    /// Bytes that one connection may have asked for and not received; 1 GiB
    /// by default. A peer that reads more asks bit by bit.
    pub read_bytes: u64,
    /// Pieces that one connection may have asked for and not received; 65,536
    /// by default.
    pub read_pieces: u32,
    /// Bytes that may be on their way to a peer that has not asked for them
    /// ([`Endpoint::push`]), whatever credit it gives; 256 MiB by default. At a
    /// peer: how much credit it gives at most.
    ///
    /// [`Endpoint::push`]: super::Endpoint::push
    pub push_bytes: u64,
    /// Data connections of one peer; 2 by default. At a peer: how many it
    /// makes. At an endpoint: how many it lets one make.
    pub connections: u8,
    /// Peers of one endpoint; 4096 by default.
    pub peers: u32,
    /// Connections that have proven no key yet, 64 by default. Who comes beyond these
    /// waits until one has, or has said nothing for a quarter of a second, and is
    /// closed for it.
    pub half_open: u32,
    /// Bytes of a hello; 64 KiB by default.
    pub hello_bytes: u32,
}

impl Default for CouplingLimits {
    fn default() -> Self {
        Self {
            message_bytes: 16 << 20,
            queued_bytes: 64 << 20,
            read_bytes: 1 << 30,
            read_pieces: 1 << 16,
            push_bytes: 256 << 20,
            connections: 2,
            peers: 4096,
            half_open: 64,
            hello_bytes: 64 << 10,
        }
    }
}

/// How an endpoint is opened.
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    /// The key that peers must hold.
    pub key: Key,
    /// Whether bodies are sealed on sockets. Messages always are. A peer that
    /// differs is refused.
    pub encrypt: bool,
    /// Where to listen; loopback where empty.
    pub interfaces: Vec<InterfaceChoice>,
    /// Where to listen instead, port and all; an address of zeros stands for all of
    /// this machine's.
    pub listen: Vec<SocketAddr>,
    /// What is offered.
    pub transports: Allowed,
    /// How long a linked peer may be silent before it counts as lost, unless it
    /// declared a silence of its own.
    pub lease: Duration,
    /// Who does what is due between two calls. By hand there is no fabric.
    pub progress: Progress,
    /// How long [`Endpoint::drive`](super::Endpoint::drive) looks before it
    /// sleeps.
    pub spin: Duration,
    /// The limits.
    pub limits: CouplingLimits,
    /// Which fabric, where one is looked for.
    pub fabric: FabricOptions,
}

impl EndpointOptions {
    /// On loopback, with defaults for the rest.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self {
            key,
            encrypt: false,
            interfaces: Vec::new(),
            listen: Vec::new(),
            transports: Allowed::default(),
            lease: DEFAULT_LEASE,
            progress: Progress::Threads,
            spin: CONNECTOR_SPIN,
            limits: CouplingLimits::default(),
            fabric: FabricOptions::default(),
        }
    }
}

/// How a peer is connected.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// The endpoint's key.
    pub key: Key,
    /// Whether bodies are sealed; as the endpoint has it.
    pub encrypt: bool,
    /// Which transport.
    pub choice: Choice,
    /// What the endpoint's handler is given when it joins.
    pub hello: Vec<u8>,
    /// The instance of an endpoint that is not wanted, though it may answer at the
    /// ticket's addresses: one that is lost already.
    pub other_than: Option<u64>,
    /// Whether messages are exchanged and heartbeats sent. Without, the peer
    /// only reads; it is lost when its connection ends.
    pub linked: bool,
    /// How long the endpoint may be silent before it counts as lost, unless it
    /// declared a silence of its own.
    pub lease: Duration,
    /// Who says between two calls that this side lives. By hand there is no fabric.
    pub progress: Progress,
    /// How long a call looks before it sleeps.
    pub spin: Duration,
    /// The limits.
    pub limits: CouplingLimits,
    /// How a fabric is used; the provider is the endpoint's.
    pub fabric: FabricOptions,
}

impl PeerOptions {
    /// Linked, by whatever transport there is, with defaults for the rest.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self {
            key,
            encrypt: false,
            choice: Choice::Auto,
            hello: Vec::new(),
            other_than: None,
            linked: true,
            lease: DEFAULT_LEASE,
            progress: Progress::Threads,
            spin: CONNECTOR_SPIN,
            limits: CouplingLimits::default(),
            fabric: FabricOptions::default(),
        }
    }
}
