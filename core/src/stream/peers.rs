//! The ranks of one life of a writer, as one rank of a reader sees them.
//!
//! A rank that is read from is connected to when its bytes are first needed,
//! and kept. Several are asked before one is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use panta_transports::channel::Key;
use panta_transports::coupling::{
    Batch, CouplingError, Peer, PeerOptions, Piece, Ticket, read_many,
};
use panta_transports::shm::Mapped;
use panta_transports::time::Wait;

use super::message::Greeting;
use super::slot::Spot;
use crate::codec::{Coded, DecodeError, Decoder};
use crate::engine::EngineInfo;
use crate::error::Fault;

/// See the module.
pub(super) struct Peers {
    tickets: Vec<Ticket>,
    options: PeerOptions,
    open: Mutex<BTreeMap<u32, Arc<Peer>>>,
}

/// Bytes to be read from one rank.
pub(super) struct Ask<'a> {
    pub(super) rank: u32,
    pub(super) pieces: Vec<Piece<'a>>,
}

impl Peers {
    /// The ranks that `reach` names. `manner` says how to connect.
    pub(super) fn new(key: Key, reach: &[u8], manner: &PeerOptions) -> Result<Self, DecodeError> {
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
        })
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

    /// Brings bytes of several ranks.
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
