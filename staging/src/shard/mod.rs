//! The shard map: which server holds which part of the key space.
//!
//! Keys of every variable are aligned to the left of 128 bits
//! ([`crate::curve::Curve::align`]), so that one space `[0, 2¹²⁸)` serves grids
//! of any resolution. It is cut into `2^shard_bits` equal *shards*, each a
//! prefix of the curve, and neighbouring shards form *runs* that one list of
//! servers holds, the first of the list being the primary.
//!
//! ```text
//! shard      0   1   2   3   4   5   6   7   …        2^shard_bits
//! run        └── server 0 ──┘└──── server 1 ────┘ …   contiguous, weighted
//! variable "u":   key 0 falls here ▲ (its rotation), and wraps round the end
//! ```
//!
//! Each variable enters the space at its own [`Rotation`], else every variable
//! of a few chunks would begin on the same server. Rotations are whole steps
//! of `2^-rotation_bits` of the space, so that a map whose cuts are multiples
//! of that step is not cut any finer by rotating it: an even map over a power
//! of two of servers stays aligned with the curve's tree.
//!
//! Promises: a lookup is constant time; a map is immutable, and which version
//! holds for a step is decided elsewhere, per step; [`ShardMap::decode`] takes
//! hostile bytes. `docs/wire.md`, chapter *Shard map*, has the layout.
//!
//! What it does not do: move data when a map changes, measure load, or know
//! whether a server lives.

#[cfg(test)]
pub(crate) mod tests;
mod wire;

use std::collections::BTreeMap;

pub use wire::{DecodeError, ENCODED_LIMIT_BYTES};

/// The most servers a map names.
pub const MAX_SERVERS: usize = 4096;
/// Shards per server: an even map has at least this many and fewer than twice
/// as many.
pub const MIN_SHARDS_PER_SERVER: usize = 64;
/// The most servers that hold one shard.
pub const MAX_REPLICAS: usize = 8;
/// The longest address of a server.
pub const ADDRESS_LIMIT_BYTES: usize = 255;

/// A server as the map names it; a server whose disk was lost joins anew under
/// another identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its identity, unique in the map.
    pub id: u64,
    /// Where it listens, `host:port`.
    pub address: String,
}

/// A server's place in the map's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerIndex(pub u16);

/// Where a variable enters the key space: a hash of its stream's and its own
/// name, of which a map uses the leading bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rotation(pub u64);

impl Rotation {
    /// The rotation of a variable: xxh3-64 (seed 0) over the stream name's
    /// length in bytes as a little-endian u64, the stream name, the variable
    /// name.
    #[must_use]
    pub fn of(stream: &str, variable: &str) -> Self {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&(stream.len() as u64).to_le_bytes());
        hasher.update(stream.as_bytes());
        hasher.update(variable.as_bytes());
        Self(hasher.digest())
    }
}

/// Why a map could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardMapError {
    /// No server, or too many.
    #[error("a shard map names 1 to {MAX_SERVERS} servers, {servers} were given")]
    Servers {
        /// Servers given.
        servers: usize,
    },
    /// Two servers share an identity.
    #[error("the servers at {first} and {second} have the same identity {id:016x}")]
    SameIdentity {
        /// The identity.
        id: u64,
        /// Address of the one.
        first: String,
        /// Address of the other.
        second: String,
    },
    /// An address is empty or too long.
    #[error(
        "server {id:016x} has an address of {length_bytes} bytes, a map holds 1 to \
         {ADDRESS_LIMIT_BYTES}"
    )]
    Address {
        /// The server.
        id: u64,
        /// Its address's length.
        length_bytes: usize,
    },
    /// More replicas than servers, or than the limit, or none.
    #[error(
        "{replicas} servers a shard were asked for; there are {servers} servers and the limit is \
         {MAX_REPLICAS}"
    )]
    Replicas {
        /// Servers a shard asked for.
        replicas: usize,
        /// Servers in the map.
        servers: usize,
    },
    /// Loads for another number of shards.
    #[error("{given} loads were given for {shards} shards; measure by this map's shards")]
    Loads {
        /// Loads given.
        given: usize,
        /// Shards in the map.
        shards: usize,
    },
}

/// Neighbouring shards held by the same servers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    first_shard: u32,
    /// Primary first; never empty.
    servers: Vec<ServerIndex>,
}

/// Neighbouring shards with the same primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    /// One past its last shard.
    end: u32,
    owner: ServerIndex,
}

/// A version of the shard map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMap {
    version: u64,
    servers: Vec<Server>,
    shard_bits: u32,
    rotation_bits: u32,
    runs: Vec<Run>,
    /// Made from `runs`: what routing looks at.
    segments: Vec<Segment>,
    /// For each shard its segment.
    segment_of: Vec<u32>,
    /// For each shard its run.
    run_of: Vec<u32>,
}

impl ShardMap {
    /// A map that gives every server the same share, one server a shard.
    ///
    /// Of the powers of two it takes the smallest number of shards that gives
    /// each server at least [`MIN_SHARDS_PER_SERVER`]. Rotations are steps of
    /// one share where the number of servers is a power of two, else of one
    /// shard.
    ///
    /// # Errors
    /// [`ShardMapError`] for no servers, too many, or two alike.
    pub fn even(version: u64, servers: Vec<Server>) -> Result<Self, ShardMapError> {
        check_servers(&servers)?;
        let shard_bits = shard_bits(servers.len());
        let shards = 1_usize << shard_bits;
        let rotation_bits = if servers.len().is_power_of_two() {
            servers.len().trailing_zeros()
        } else {
            shard_bits
        };
        let runs = weighted_runs(&vec![1; shards], servers.len());
        Ok(Self::assemble(
            version,
            servers,
            shard_bits,
            rotation_bits,
            runs,
        ))
    }

    /// The next map over the same servers: runs cut so that each server bears
    /// an even part of the measured `loads`, one for each shard. Shards and
    /// rotations stay, else loads measured on this map would say nothing about
    /// the next; so does the number of servers a shard.
    ///
    /// # Errors
    /// [`ShardMapError::Loads`] where `loads` has not one value a shard.
    pub fn balanced(&self, version: u64, loads: &[u64]) -> Result<Self, ShardMapError> {
        if loads.len() != self.shard_count() {
            return Err(ShardMapError::Loads {
                given: loads.len(),
                shards: self.shard_count(),
            });
        }
        let runs = weighted_runs(loads, self.servers.len());
        let servers = self.servers.clone();
        let next = Self::assemble(version, servers, self.shard_bits, self.rotation_bits, runs);
        next.with_replicas(self.runs.first().map_or(1, |run| run.servers.len()))
    }

    /// The same map with every shard held by `replicas` servers: its primary
    /// and those that follow it in the list, which wraps.
    ///
    /// # Errors
    /// [`ShardMapError::Replicas`] for none, or more than there are servers.
    #[allow(clippy::cast_possible_truncation)]
    pub fn with_replicas(mut self, replicas: usize) -> Result<Self, ShardMapError> {
        let servers = self.servers.len();
        if replicas == 0 || replicas > servers.min(MAX_REPLICAS) {
            return Err(ShardMapError::Replicas { replicas, servers });
        }
        for run in &mut self.runs {
            let primary = run
                .servers
                .first()
                .map_or(0, |primary| usize::from(primary.0));
            run.servers = (0..replicas)
                .map(|next| ServerIndex(((primary + next) % servers) as u16))
                .collect();
        }
        Ok(self)
    }

    /// The map's version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The servers, in the order that [`ServerIndex`] counts.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server at a place of the list.
    #[must_use]
    pub fn server(&self, index: ServerIndex) -> Option<&Server> {
        self.servers.get(usize::from(index.0))
    }

    /// Number of shards, a power of two.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.segment_of.len()
    }

    /// The shard in which an aligned key of a variable lies.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub fn shard_of(&self, rotation: Rotation, aligned_key: u128) -> u32 {
        let plain = (aligned_key >> (u128::BITS - self.shard_bits)) as u32;
        plain.wrapping_add(self.rotation_shards(rotation)) & self.shard_mask()
    }

    /// The servers of a shard, primary first; none where there is no such
    /// shard.
    #[must_use]
    pub fn servers_of_shard(&self, shard: u32) -> &[ServerIndex] {
        let run = self.run_of.get(shard as usize);
        run.and_then(|&run| self.runs.get(run as usize))
            .map_or(&[], |run| &run.servers)
    }

    /// The primary for an aligned key of a variable.
    #[must_use]
    pub fn owner(&self, rotation: Rotation, aligned_key: u128) -> ServerIndex {
        self.segment(self.shard_of(rotation, aligned_key)).owner
    }

    /// The server that is primary for all aligned keys from `first` to `last`,
    /// if it is one. `first <= last`: they are the variable's own keys, and
    /// may wrap round the end of the space once rotated.
    #[must_use]
    pub fn range_owner(&self, rotation: Rotation, first: u128, last: u128) -> Option<ServerIndex> {
        let from = self.shard_of(rotation, first);
        let to = self.shard_of(rotation, last);
        let (from_segment, to_segment) = (self.segment(from), self.segment(to));
        let one = if from <= to {
            from_segment.end == to_segment.end
        } else {
            from_segment.end as usize == self.shard_count()
                && self.segment_of[to as usize] == 0
                && from_segment.owner == to_segment.owner
        };
        one.then_some(from_segment.owner)
    }

    /// The primary of `aligned_key` and the shards from there to the end of
    /// its segment, which stops at the end of the space.
    pub(crate) fn owner_and_shards_left(
        &self,
        rotation: Rotation,
        aligned_key: u128,
    ) -> (ServerIndex, u32) {
        let shard = self.shard_of(rotation, aligned_key);
        let segment = self.segment(shard);
        (segment.owner, segment.end - shard)
    }

    pub(crate) fn shard_bits(&self) -> u32 {
        self.shard_bits
    }

    fn rotation_shards(&self, rotation: Rotation) -> u32 {
        let steps = rotation
            .0
            .checked_shr(u64::BITS - self.rotation_bits)
            .unwrap_or(0);
        #[allow(clippy::cast_possible_truncation)]
        let steps = steps as u32;
        steps << (self.shard_bits - self.rotation_bits)
    }

    fn shard_mask(&self) -> u32 {
        (1 << self.shard_bits) - 1
    }

    fn segment(&self, shard: u32) -> Segment {
        self.segments[self.segment_of[shard as usize] as usize]
    }
}

/// How a map is put together from checked parts.
impl ShardMap {
    /// `runs` cover all shards from 0, in order; neighbours differ.
    #[allow(clippy::cast_possible_truncation)]
    fn assemble(
        version: u64,
        servers: Vec<Server>,
        shard_bits: u32,
        rotation_bits: u32,
        runs: Vec<Run>,
    ) -> Self {
        let shards = 1_usize << shard_bits;
        let mut segments: Vec<Segment> = Vec::new();
        let mut segment_of = Vec::with_capacity(shards);
        let mut run_of = Vec::with_capacity(shards);
        for (place, run) in runs.iter().enumerate() {
            let next = runs.get(place + 1).map(|next| next.first_shard as usize);
            let end = next.unwrap_or(shards);
            let owner = run.servers.first().copied().unwrap_or(ServerIndex(0));
            match segments.last_mut() {
                Some(last) if last.owner == owner => last.end = end as u32,
                _ => segments.push(Segment {
                    end: end as u32,
                    owner,
                }),
            }
            segment_of.resize(end, segments.len() as u32 - 1);
            run_of.resize(end, place as u32);
        }
        Self {
            version,
            servers,
            shard_bits,
            rotation_bits,
            runs,
            segments,
            segment_of,
            run_of,
        }
    }
}

/// The number of shards of a map over so many servers, as a power of two.
fn shard_bits(servers: usize) -> u32 {
    let shards = (servers * MIN_SHARDS_PER_SERVER).next_power_of_two();
    shards.trailing_zeros()
}

fn check_servers(servers: &[Server]) -> Result<(), ShardMapError> {
    if servers.is_empty() || servers.len() > MAX_SERVERS {
        return Err(ShardMapError::Servers {
            servers: servers.len(),
        });
    }
    let mut seen = BTreeMap::new();
    for server in servers {
        let length_bytes = server.address.len();
        if length_bytes == 0 || length_bytes > ADDRESS_LIMIT_BYTES {
            return Err(ShardMapError::Address {
                id: server.id,
                length_bytes,
            });
        }
        if let Some(first) = seen.insert(server.id, &server.address) {
            return Err(ShardMapError::SameIdentity {
                id: server.id,
                first: first.clone(),
                second: server.address.clone(),
            });
        }
    }
    Ok(())
}

/// One run a server, each at least one shard long, cut as near as shards allow
/// to where the sum of the loads passes each server's even part. There are
/// fewer servers than loads; loads that are all 0 count as equal.
#[allow(clippy::cast_possible_truncation)]
fn weighted_runs(loads: &[u64], servers: usize) -> Vec<Run> {
    let idle = loads.iter().all(|&load| load == 0);
    let load_of = |shard: usize| if idle { 1 } else { u128::from(loads[shard]) };
    let total: u128 = (0..loads.len()).map(load_of).sum();
    let (mut shard, mut before) = (0, 0_u128);
    (0..servers)
        .map(|server| {
            let target = total * server as u128;
            let last_start = loads.len() - (servers - server);
            let first_start = shard + usize::from(server > 0);
            // Takes the next shard in while that leaves the cut nearer.
            while shard < first_start
                || (shard < last_start
                    && (2 * before + load_of(shard)) * servers as u128 <= 2 * target
                    && server > 0)
            {
                before += load_of(shard);
                shard += 1;
            }
            Run {
                first_shard: shard as u32,
                servers: vec![ServerIndex(server as u16)],
            }
        })
        .collect()
}
