//! The ranks of one life of a writer, as one rank of a reader sees them.
//!
//! A rank that is read from is connected to when its bytes are first needed,
//! and kept. Several are asked before one is waited for. What is asked for step
//! after step is [subscribed to](super::preload), and then received without asking.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use panta_transports::channel::Key;
use panta_transports::coupling::{
    Batch, CouplingError, Peer, PeerOptions, Piece, PushCounts, Tag, Ticket, read_many,
};
use panta_transports::shm::Mapped;
use panta_transports::time::Wait;

use super::message::Greeting;
use super::preload::{Learner, Order, Subscription, Wish};
use super::slot::Spot;
use super::step::StreamStep;
use crate::codec::{Coded, DecodeError, Decoder};
use crate::engine::EngineInfo;
use crate::error::Fault;

/// See the module.
pub(super) struct Peers {
    tickets: Vec<Ticket>,
    options: PeerOptions,
    open: Mutex<BTreeMap<u32, Arc<Peer>>>,
    /// The number of this reader group at the writer's root.
    group: u64,
    learner: Mutex<Learner>,
}

/// Bytes to be read from one rank.
pub(super) struct Ask<'a> {
    pub(super) rank: u32,
    pub(super) pieces: Vec<Piece<'a>>,
    /// The same, as it is called in every step.
    pub(super) wishes: Vec<Wish>,
}

impl Ask<'_> {
    /// Nothing yet.
    pub(super) fn of(rank: u32) -> Self {
        Self {
            rank,
            pieces: Vec::new(),
            wishes: Vec::new(),
        }
    }
}

impl Peers {
    /// The ranks that `reach` names. `manner` says how to connect.
    pub(super) fn new(
        (key, group): (Key, u64),
        reach: &[u8],
        manner: &PeerOptions,
    ) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(reach);
        let mut tickets = Vec::new();
        for _ in 0..from.count(4)? {
            let ticket = Ticket::from_bytes(from.bytes()?);
            tickets.push(ticket.map_err(|error| from.error(error.to_string()))?);
        }
        from.finish()?;
        Ok(Self {
            tickets,
            options: PeerOptions {
                key,
                hello: Greeting::ReaderRank.to_bytes(),
                linked: false,
                ..manner.clone()
            },
            open: Mutex::default(),
            group,
            learner: Mutex::default(),
        })
    }

    fn learner(&self) -> MutexGuard<'_, Learner> {
        self.learner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses a connection that there is already.
    pub(super) fn adopt(&self, rank: u32, peer: &Arc<Peer>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.entry(rank).or_insert_with(|| Arc::clone(peer));
    }

    fn peer(&self, rank: u32, wait: &Wait) -> Result<Arc<Peer>, Fault> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = open.get(&rank) {
            return Ok(Arc::clone(peer));
        }
        let Some(ticket) = self.tickets.get(rank as usize) else {
            return Err(Fault::Corrupt {
                what: "what the writer told of its ranks".into(),
                problem: format!("it has no rank {rank}"),
            });
        };
        let peer = Peer::connect(ticket, &self.options, wait).map_err(|error| lost(rank, error))?;
        let peer = Arc::new(peer);
        open.insert(rank, Arc::clone(&peer));
        Ok(peer)
    }

    /// What brings bytes from the ranks that were read from, and why; `None` if
    /// none was yet.
    pub(super) fn info(&self) -> Option<EngineInfo> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ways: BTreeMap<&'static str, (usize, String)> = BTreeMap::new();
        for peer in open.values() {
            let info = peer.info();
            let why = || format!("{}; writer at {}", info.why, info.address);
            let way = ways.entry(info.transport.name());
            way.or_insert_with(|| (0, why())).0 += 1;
        }
        let names: Vec<&str> = ways.keys().copied().collect();
        let whys = ways.iter().map(|(name, (ranks, why))| match names.len() {
            1 => why.clone(),
            _ => format!("{name} to {ranks} of the writer's ranks: {why}"),
        });
        let whys: Vec<String> = whys.collect();
        (!names.is_empty()).then(|| EngineInfo {
            engine: "stream",
            transport: names.join(" and "),
            why: whys.join("; "),
        })
    }

    /// Bytes of a rank where they lie; `None` where the transport shares no memory.
    pub(super) fn map(
        &self,
        rank: u32,
        spot: Spot,
        bytes: u64,
        wait: &Wait,
    ) -> Result<Option<Mapped>, Fault> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let peer = self.peer(rank, wait)?;
        peer.map(spot.region, spot.offset, bytes, wait)
            .map_err(|error| lost(rank, error))
    }

    /// Brings bytes of several ranks, as they were pushed or by asking. Which ranks
    /// had pushed them.
    pub(super) fn bring(
        &self,
        step: &StreamStep,
        asks: &mut Vec<Ask<'_>>,
        wait: &Wait,
    ) -> Result<Vec<u32>, Fault> {
        let mut subjects = Vec::with_capacity(asks.len());
        let mut learner = self.learner();
        for ask in asks.iter() {
            let subject = learner.ask(step.number(), ask.rank, &ask.wishes);
            subjects.push(subject.filter(|_| step.is_pushed_by(ask.rank)));
        }
        drop(learner);
        let mut pushed = Vec::new();
        for (ask, subject) in asks.iter_mut().zip(subjects) {
            let Some(subject) = subject else {
                continue;
            };
            let number = step.number();
            let peer = self.peer(ask.rank, wait)?;
            match peer.receive_push(Tag { subject, number }, &mut ask.pieces, wait) {
                Ok(true) => pushed.push(ask.rank),
                Ok(false) | Err(CouplingError::OtherPieces) => {}
                Err(error) => return Err(lost(ask.rank, error)),
            }
        }
        asks.retain(|ask| !pushed.contains(&ask.rank));
        self.read(asks, wait)?;
        Ok(pushed)
    }

    /// A step was let go of, and none below `below` is held.
    pub(super) fn released(&self, step: u64, below: u64) {
        let mut learner = self.learner();
        let orders = learner.released(step);
        let subscribed: Vec<u32> = learner.subscribed().collect();
        drop(learner);
        for rank in subscribed {
            if let Some(peer) = self.known(rank) {
                peer.forget_pushes(below);
            }
        }
        self.carry_out(orders);
    }

    /// What was asked for in the last step is asked for in all that come.
    pub(super) fn freeze(&self) {
        let orders = self.learner().freeze();
        self.carry_out(orders);
    }

    fn carry_out(&self, orders: Vec<Order>) {
        for order in orders {
            let (rank, subject, wishes, credit) = match order {
                Order::Subscribe {
                    rank,
                    subject,
                    wishes,
                    credit_bytes,
                } => (rank, subject, wishes.to_vec(), Some(credit_bytes)),
                Order::Unsubscribe { rank, subject } => (rank, subject, Vec::new(), None),
            };
            let Some(peer) = self.known(rank) else {
                continue;
            };
            let what = Subscription {
                group: self.group,
                subject,
                wishes,
            };
            let what = what.to_bytes();
            match credit {
                // Where it is of no use nothing is pushed, and everything asked for.
                Some(credit_bytes) => drop(peer.subscribe(subject, credit_bytes, &what)),
                None => peer.unsubscribe(subject, &what),
            }
        }
    }

    /// A rank that there is a connection to.
    fn known(&self, rank: u32) -> Option<Arc<Peer>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&rank).cloned()
    }

    /// What became of all that was pushed.
    pub(super) fn push_counts(&self) -> PushCounts {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = open.values().map(|peer| peer.push_counts());
        counts.fold(PushCounts::default(), PushCounts::with)
    }

    /// Brings bytes of several ranks by asking for them.
    pub(super) fn read(&self, asks: &mut [Ask<'_>], wait: &Wait) -> Result<(), Fault> {
        // Several threads that read do not wait for each other in a ring.
        asks.sort_by_key(|ask| ask.rank);
        let mut peers = Vec::with_capacity(asks.len());
        for ask in asks.iter() {
            peers.push(self.peer(ask.rank, wait)?);
        }
        let ranks: Vec<u32> = asks.iter().map(|ask| ask.rank).collect();
        let mut batches: Vec<Batch<'_, '_>> = peers
            .iter()
            .zip(asks)
            .map(|(peer, ask)| Batch {
                peer,
                pieces: &mut ask.pieces,
            })
            .collect();
        read_many(&mut batches, wait).map_err(|(at, error)| lost(ranks[at], error))
    }
}

fn lost(rank: u32, error: CouplingError) -> Fault {
    let peer = format!("rank {rank} of the writer");
    match error {
        CouplingError::NotReady { source, .. } => Fault::wait(source, format!("bytes from {peer}")),
        CouplingError::NotExposed { .. } => Fault::Refused {
            peer,
            why: format!("{error}; let go of steps only when they are read"),
        },
        error => Fault::PeerLost {
            peer,
            why: error.to_string(),
        },
    }
}
