//! Which servers hold a box: a descent of the curve's tree.
//!
//! ```text
//!            node (prefix of the curve)
//!   outside the box ─────────────► dropped
//!   one server holds its keys ───► that server, the part of the box in it
//!   wholly inside the box ───────► the servers of its key interval, in order
//!   else ────────────────────────► its 2ⁿ children
//! ```
//!
//! A server's share is a few intervals of the key space, so only nodes that a
//! cut between servers *and* the box's surface both pass through are refined:
//! tens of nodes, whatever the resolution. The curve's intervals within the
//! box, a hundred thousand for a large box at element resolution, are never
//! listed.
//!
//! Promises: every cell of the box is counted at exactly one server, its
//! owner; one entry a server. Keeps its buffers between calls, nothing else:
//! no answer is remembered.
//!
//! What it does not do: choose between replicas, or speak to servers.

use crate::curve::{Curve, MAX_DIMS, Node};
use crate::shard::{Rotation, ServerIndex, ShardMap};

#[cfg(test)]
mod tests;

/// Why a box cannot be routed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The box has another number of dimensions than the grid.
    #[error("the box has {start} starts and {count} counts, the chunk grid {dims} dimensions")]
    Dimensions {
        /// Places given in `start`.
        start: usize,
        /// Places given in `count`.
        count: usize,
        /// Dimensions of the grid.
        dims: usize,
    },
    /// The box reaches beyond the grid.
    #[error(
        "along dimension {dimension} the box begins at chunk {start} and counts {count}, beyond \
         the grid's 2^{bits} chunks; select within the array"
    )]
    Outside {
        /// Which dimension, counted from 0.
        dimension: usize,
        /// Its start.
        start: u64,
        /// Its count.
        count: u64,
        /// Bits of the grid's side.
        bits: u8,
    },
}

/// A server's part of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The server, primary for these cells.
    pub server: ServerIndex,
    /// How many cells of the box it owns; saturates at the largest u128.
    pub cells: u128,
    dims: u8,
    start: [u64; MAX_DIMS],
    end: [u64; MAX_DIMS],
}

impl Route {
    /// Start of a box that bounds the server's cells, in cells. It lies in
    /// the box that was asked for and may hold cells of other servers.
    #[must_use]
    pub fn start(&self) -> &[u64] {
        &self.start[..usize::from(self.dims)]
    }

    /// End of the bounding box along each dimension, exclusive.
    #[must_use]
    pub fn end(&self) -> &[u64] {
        &self.end[..usize::from(self.dims)]
    }
}

/// The server that owns a cell of the grid.
#[must_use]
pub fn owner_of_cell(
    curve: &Curve,
    map: &ShardMap,
    rotation: Rotation,
    cell: &[u64],
) -> ServerIndex {
    map.owner(rotation, curve.align(curve.index(cell)))
}

/// Finds the servers of boxes, with buffers kept from call to call.
#[derive(Clone, Debug, Default)]
pub struct Router {
    routes: Vec<Route>,
    /// For each server of the map, where it stands in `routes`, if `routes`
    /// says so too; else it is left from an earlier call.
    place_of: Vec<u32>,
    nodes_visited: u64,
}

impl Router {
    /// A router; any number of curves and maps can be routed with it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The servers that own the cells `start .. start + count`, each once, in
    /// the order in which the curve first meets them. No cells, no servers.
    ///
    /// # Errors
    /// [`RouteError`] for a box that is not within the grid.
    pub fn route(
        &mut self,
        curve: &Curve,
        map: &ShardMap,
        rotation: Rotation,
        start: &[u64],
        count: &[u64],
    ) -> Result<&[Route], RouteError> {
        let region = Region::new(curve, start, count)?;
        self.routes.clear();
        self.place_of.resize(map.servers().len(), 0);
        self.nodes_visited = 0;
        if !count.contains(&0) {
            let mut descent = Descent {
                curve,
                map,
                rotation,
                region,
                router: self,
            };
            descent.router.nodes_visited = 1;
            let root = curve.root();
            let inside = descent.region.holds_grid(curve);
            descent.visit(&root, inside);
        }
        Ok(&self.routes)
    }

    /// Nodes of the tree that the last call looked at, those it dropped
    /// included.
    #[must_use]
    pub fn nodes_visited(&self) -> u64 {
        self.nodes_visited
    }

    /// Adds cells within `start .. end` to a server's entry.
    #[allow(clippy::cast_possible_truncation)]
    fn add(&mut self, part: &Route) {
        let place = &mut self.place_of[usize::from(part.server.0)];
        if let Some(route) = self.routes.get_mut(*place as usize)
            && route.server == part.server
        {
            route.cells = route.cells.saturating_add(part.cells);
            for axis in 0..usize::from(part.dims) {
                route.start[axis] = route.start[axis].min(part.start[axis]);
                route.end[axis] = route.end[axis].max(part.end[axis]);
            }
        } else {
            *place = self.routes.len() as u32;
            self.routes.push(*part);
        }
    }
}

/// The box, as ends.
struct Region {
    start: [u64; MAX_DIMS],
    end: [u64; MAX_DIMS],
}

impl Region {
    fn new(curve: &Curve, start: &[u64], count: &[u64]) -> Result<Self, RouteError> {
        let dims = curve.dims();
        if start.len() != dims || count.len() != dims {
            return Err(RouteError::Dimensions {
                start: start.len(),
                count: count.len(),
                dims,
            });
        }
        let mut region = Self {
            start: [0; MAX_DIMS],
            end: [0; MAX_DIMS],
        };
        for (dimension, &bits) in curve.bits().iter().enumerate() {
            let (start, count) = (start[dimension], count[dimension]);
            match start.checked_add(count) {
                Some(end) if end <= 1 << bits => {
                    region.start[dimension] = start;
                    region.end[dimension] = end;
                }
                _ => {
                    return Err(RouteError::Outside {
                        dimension,
                        start,
                        count,
                        bits,
                    });
                }
            }
        }
        Ok(region)
    }

    fn holds_grid(&self, curve: &Curve) -> bool {
        let mut axes = curve.bits().iter().enumerate();
        axes.all(|(axis, &bits)| self.start[axis] == 0 && self.end[axis] == 1 << bits)
    }
}

/// Which of a node's halves the box meets, bit `a` for axis `a`.
struct Halves {
    lower_met: u8,
    upper_met: u8,
    lower_inside: u8,
    upper_inside: u8,
}

impl Halves {
    fn of(curve: &Curve, node: &Node, region: &Region) -> Self {
        let cut = curve.cut_axes(node);
        let mut halves = Self {
            lower_met: 0,
            upper_met: 0,
            lower_inside: 0,
            upper_inside: 0,
        };
        for axis in 0..curve.dims() {
            let is_cut = cut >> axis & 1;
            let low = node.corner()[axis];
            // An axis that is not cut is all lower half.
            let half = 1 << (curve.side_bits(node, axis) - u32::from(is_cut));
            let (middle, start, end) = (low + half, region.start[axis], region.end[axis]);
            let bit = 1 << axis;
            halves.lower_met |= u8::from(start < middle && end > low) * bit;
            halves.lower_inside |= u8::from(start <= low && end >= middle) * bit;
            if is_cut == 1 {
                let high = middle + half;
                halves.upper_met |= u8::from(start < high && end > middle) * bit;
                halves.upper_inside |= u8::from(start <= middle && end >= high) * bit;
            }
        }
        halves
    }

    fn met(&self, child: u8, all: u8) -> bool {
        (child & self.upper_met | !child & self.lower_met) & all == all
    }

    fn inside(&self, child: u8, all: u8) -> bool {
        (child & self.upper_inside | !child & self.lower_inside) & all == all
    }
}

/// One walk down the tree.
struct Descent<'a> {
    curve: &'a Curve,
    map: &'a ShardMap,
    rotation: Rotation,
    region: Region,
    router: &'a mut Router,
}

impl Descent<'_> {
    /// `node` meets the box, and lies wholly `inside` it or not.
    fn visit(&mut self, node: &Node, inside: bool) {
        let first = self.curve.align(node.first_key());
        let last = self.curve.align(self.curve.last_key_of(node));
        if let Some(server) = self.map.range_owner(self.rotation, first, last) {
            let mut part = self.part_in(node);
            part.server = server;
            self.router.add(&part);
        } else if inside {
            self.add_interval(node);
        } else {
            self.descend(node);
        }
    }

    fn descend(&mut self, node: &Node) {
        let curve = self.curve;
        let halves = Halves::of(curve, node, &self.region);
        let all = u8::MAX >> (MAX_DIMS - curve.dims());
        for child in curve.children(node) {
            self.router.nodes_visited += 1;
            if halves.met(child.halves, all) {
                let inside = halves.inside(child.halves, all);
                self.visit(&curve.enter(node, &child), inside);
            }
        }
    }

    /// The box's part in a node; the server is yet to be named.
    #[allow(clippy::cast_possible_truncation)]
    fn part_in(&self, node: &Node) -> Route {
        let dims = self.curve.dims();
        let mut part = Route {
            server: ServerIndex(0),
            cells: 1,
            dims: dims as u8,
            start: [0; MAX_DIMS],
            end: [0; MAX_DIMS],
        };
        for axis in 0..dims {
            let low = node.corner()[axis];
            let high = low + (1 << self.curve.side_bits(node, axis));
            part.start[axis] = self.region.start[axis].max(low);
            part.end[axis] = self.region.end[axis].min(high);
            let length = part.end[axis] - part.start[axis];
            part.cells = part.cells.saturating_mul(u128::from(length));
        }
        part
    }

    /// The servers of a node that lies wholly inside the box: those that its
    /// keys meet, without looking at its cells.
    fn add_interval(&mut self, node: &Node) {
        let last = self.curve.last_key_of(node);
        let mut part = self.part_in(node);
        let mut key = node.first_key();
        loop {
            let aligned = self.curve.align(key);
            let (server, shards_left) = self.map.owner_and_shards_left(self.rotation, aligned);
            let end = self.key_after_shards(aligned, shards_left);
            let part_last = end.map_or(last, |end| last.min(end - 1));
            part.server = server;
            part.cells = (part_last - key).saturating_add(1);
            self.router.add(&part);
            if part_last == last {
                return;
            }
            key = part_last + 1;
        }
    }

    /// The first key whose aligned key lies so many shards on from the shard
    /// of `aligned`; none where the space ends before.
    fn key_after_shards(&self, aligned: u128, shards: u32) -> Option<u128> {
        let (shard_bits, key_bits) = (self.map.shard_bits(), self.curve.key_bits());
        let shard = (aligned >> (u128::BITS - shard_bits)) + u128::from(shards);
        if shard >> shard_bits != 0 {
            return None;
        }
        Some(if key_bits >= shard_bits {
            shard << (key_bits - shard_bits)
        } else {
            let keys_per_shard_bits = shard_bits - key_bits;
            (shard + (1 << keys_per_shard_bits) - 1) >> keys_per_shard_bits
        })
    }
}
