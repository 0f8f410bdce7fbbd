//! How the ranks of a reader group tell their root that they let go of a step.
//!
//! The next collective call says it for all ([`held`](super::StreamReader)).
//! But a group may go on without one, and its writer wait for it: so each rank
//! says it at once too, over a link to an endpoint of its root. The root lets
//! go when all have.

use std::sync::{Arc, Mutex, PoisonError};

use panta_transports::channel::Key;
use panta_transports::coupling::{
    Allowed, Choice, CouplingError, Endpoint, EndpointOptions, Handler, Lost, Peer, PeerId,
    PeerInfo, PeerOptions, TICKET_ADDRESSES, Ticket, TransportName, Urgency,
};
use panta_transports::region::{Arena, ArenaOptions};
use panta_transports::time::Wait;

use super::super::interfaces;
use super::super::machine::Position;
use super::super::message::Greeting;
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::config::Options;
use crate::ordered::Ordered;

/// The longest a rank waits to be heard.
const SAY_LIMIT: std::time::Duration = std::time::Duration::from_millis(500);
/// Steps that some ranks have let go of and others not; more are forgotten.
const MAX_OPEN: usize = 1 << 16;
const KEY_BYTES: usize = 32;

/// What is to be done when all ranks have let go of a step.
pub(super) type Done = Box<dyn Fn(Position) + Send + Sync>;

/// Counts, for each step, the ranks that let go of it.
pub(super) struct Counter {
    ranks: u32,
    open: Mutex<Ordered<Position, u32>>,
    done: Done,
}

impl Counter {
    pub(super) fn new(ranks: u32, done: Done) -> Self {
        Self {
            ranks,
            open: Mutex::default(),
            done,
        }
    }

    /// One rank more has let go.
    pub(super) fn count(&self, at: Position) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = open.remove(at).unwrap_or(0) + 1;
        if counted >= self.ranks {
            drop(open);
            (self.done)(at);
            return;
        }
        open.insert(at, counted);
        if open.len() > MAX_OPEN {
            open.pop_first();
        }
    }
}

impl Handler for Counter {
    fn joined(&self, _peer: PeerId, hello: &[u8], _how: &PeerInfo) -> Result<(), String> {
        match Greeting::from_bytes(hello) {
            Ok(Greeting::ReaderRank) => Ok(()),
            Ok(_) => Err("this is a reader; connect to the writer".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn message(&self, _peer: PeerId, message: &[u8]) {
        // What a rank of the group does not say right is said at the next step.
        if let Ok(at) = Position::from_bytes(message) {
            self.count(at);
        }
    }

    fn lost(&self, _peer: PeerId, _why: &Lost) {}
}

/// How a rank reaches its root.
#[derive(Clone)]
pub(super) struct Reach {
    key: Key,
    ticket: Ticket,
}

impl Coded for Reach {
    fn encode(&self, into: &mut Encoder) {
        into.bytes(self.key.secret_bytes())
            .bytes(&self.ticket.to_bytes());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let key = <[u8; KEY_BYTES]>::try_from(from.bytes()?)
            .map_err(|_| from.error("a key has 32 bytes"))?;
        let ticket = Ticket::from_bytes(from.bytes()?);
        let ticket = ticket.map_err(|error| from.error(error.to_string()))?;
        if ticket.addresses.len() > TICKET_ADDRESSES {
            return Err(from.error("a ticket has too many addresses"));
        }
        Ok(Self {
            key: Key::from_bytes(key),
            ticket,
        })
    }
}

/// How a root listens for its ranks: where the stream's endpoints would.
pub(super) fn opening(key: Key, options: &Options) -> EndpointOptions {
    EndpointOptions {
        encrypt: options.encrypt,
        interfaces: interfaces(options),
        transports: Allowed {
            shm: false,
            tcp: true,
            rdma: false,
        },
        lease: options.lease,
        ..EndpointOptions::new(key)
    }
}

/// The root's endpoint for its ranks.
pub(super) struct Hub {
    _endpoint: Endpoint,
    reach: Reach,
}

impl Hub {
    pub(super) fn open(
        options: EndpointOptions,
        counter: &Arc<Counter>,
    ) -> Result<Self, CouplingError> {
        let key = options.key.clone();
        let nothing = Arena::new(ArenaOptions {
            limit_bytes: 0,
            shared: false,
        });
        let handler = Arc::clone(counter) as Arc<dyn Handler>;
        let endpoint = Endpoint::open(options, nothing, handler)?;
        Ok(Self {
            reach: Reach {
                key,
                ticket: endpoint.ticket(),
            },
            _endpoint: endpoint,
        })
    }

    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }
}

/// A rank's link to its root; made when there is first something to say.
#[derive(Default)]
pub(super) struct ToRoot {
    reach: Mutex<Option<Reach>>,
    peer: Mutex<Option<Peer>>,
}

impl ToRoot {
    /// From now on this is how the root is reached.
    pub(super) fn learn(&self, reach: Reach) {
        let mut known = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(reach);
    }

    /// Says that this rank has let go of a step.
    pub(super) fn say(&self, at: Position, manner: &PeerOptions) {
        let wait = Wait::for_at_most(SAY_LIMIT);
        let mut peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        if peer.is_none() {
            let reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(reach) = reach.clone() else {
                return;
            };
            let options = PeerOptions {
                key: reach.key,
                hello: Greeting::ReaderRank.to_bytes(),
                linked: true,
                choice: Choice::Only(TransportName::Tcp),
                ..manner.clone()
            };
            *peer = Peer::connect(&reach.ticket, &options, &wait).ok();
        }
        // What is not heard is said at the next step.
        if let Some(peer) = &*peer {
            let _ = peer.send(&[&at.to_bytes()], Urgency::Now, &wait);
        }
    }
}
