//! Where the cells of a variable belong: chunks, their keys, their owners.
//!
//! Writers and readers come to the same answers from the definition alone. A
//! block is stored in *pieces*: boxes whose chunks all belong to one server, as
//! large as the limit allows, so that a contiguous block on one server stays
//! contiguous and is sent from where it lies.

use panta_core::model::{Definition, ShapeKind};
use xxhash_rust::xxh3::xxh3_64;

use crate::curve::{self, Curve, CurveError};
use crate::proto::ServerId;
use crate::routing::Router;
use crate::shard::{Rotation, ShardMap};

/// Bytes of a chunk where the definition names none: a power of two.
pub const CHUNK_BYTES: u64 = 1 << 20;
/// The most bytes of one piece; a row longer than this is cut further.
pub const PIECE_LIMIT_BYTES: u64 = 4 << 20;
/// Bits of a local block's number for the put order and the rank.
const ORDER_BITS: u32 = 32;
const RANK_BITS: u32 = 26;

/// The chunk of an array whose definition names none. Beginning with one
/// element, the shortest side that does not cover the array yet is doubled,
/// of equal ones the last, until the chunk has [`CHUNK_BYTES`] or covers the
/// array. Sides beyond the curve's dimensions are covered from the beginning.
#[must_use]
pub fn default_chunk(shape: &[u64], element_bytes: u64) -> Vec<u64> {
    let mut chunk: Vec<u64> = shape
        .iter()
        .enumerate()
        .map(|(dimension, side)| {
            if dimension < curve::MAX_DIMS {
                1
            } else {
                (*side).max(1)
            }
        })
        .collect();
    loop {
        let bytes = chunk
            .iter()
            .fold(element_bytes, |bytes, side| bytes.saturating_mul(*side));
        let shortest = (0..shape.len().min(curve::MAX_DIMS))
            .rev()
            .filter(|dimension| chunk[*dimension] < shape[*dimension])
            .min_by_key(|dimension| chunk[*dimension]);
        match shortest {
            Some(dimension) if bytes < CHUNK_BYTES => chunk[dimension] *= 2,
            _ => return chunk,
        }
    }
}

/// A box of one block that one server stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) server: ServerId,
    pub(super) key: u128,
    /// Within the block.
    pub(super) start: Vec<u64>,
    pub(super) count: Vec<u64>,
}

/// The chunks of one variable.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    rotation: Rotation,
    element_bytes: u64,
    /// Of global arrays: the curve, and the sides of a chunk along its dimensions.
    chunks: Option<(Curve, Vec<u64>)>,
}

impl Grid {
    /// # Errors
    /// [`CurveError`] where there are more chunks than keys.
    pub(super) fn new(stream: &str, definition: &Definition) -> Result<Self, CurveError> {
        let element_bytes = definition.dtype.size_bytes() as u64;
        let mut grid = Self {
            rotation: Rotation::of(stream, &definition.name),
            element_bytes,
            chunks: None,
        };
        if definition.kind == ShapeKind::GlobalArray {
            let shape = &definition.shape;
            let chunk = match &definition.chunk {
                Some(chunk) => chunk.clone(),
                None => default_chunk(shape, element_bytes),
            };
            let dimensions = shape.len().min(curve::MAX_DIMS);
            let sides: Vec<u64> = (0..dimensions)
                .map(|dimension| shape[dimension].div_ceil(chunk[dimension].max(1)))
                .collect();
            grid.chunks = Some((Curve::for_grid(&sides)?, chunk[..dimensions].to_vec()));
        }
        Ok(grid)
    }

    /// The pieces of a global array's block.
    pub(super) fn pieces(
        &self,
        map: &ShardMap,
        router: &mut Router,
        start: &[u64],
        count: &[u64],
    ) -> Vec<Placed> {
        let mut placed = Vec::new();
        let mut parts = vec![(start.to_vec(), count.to_vec())];
        while let Some((part, sides)) = parts.pop() {
            if sides.contains(&0) {
                continue;
            }
            let Some((first, cells)) = self.cells(&part, &sides) else {
                continue;
            };
            let Some((curve, _)) = &self.chunks else {
                continue;
            };
            // The block lies within the shape, so its cells within the grid.
            let routes = router.route(curve, map, self.rotation, &first, &cells);
            match routes {
                Ok([one]) => {
                    let server = ServerId(u32::from(one.server.0));
                    let key = curve.index(&first);
                    let within = part.iter().zip(start).map(|(part, start)| part - start);
                    self.cut(server, key, within.collect(), sides, &mut placed);
                }
                _ => self.halve(&part, &sides, &first, &cells, &mut parts),
            }
        }
        placed
    }

    /// The piece, or the pieces, of a local array's block.
    pub(super) fn local_pieces(&self, map: &ShardMap, number: u64, count: &[u64]) -> Vec<Placed> {
        let mut placed = Vec::new();
        if !count.contains(&0) {
            let (server, key) = self.local_owner(map, number);
            self.cut(
                server,
                key,
                vec![0; count.len()],
                count.to_vec(),
                &mut placed,
            );
        }
        placed
    }

    /// The owner of a block that has no place in a shape.
    pub(super) fn local_owner(&self, map: &ShardMap, number: u64) -> (ServerId, u128) {
        let hash = xxh3_64(&number.to_le_bytes());
        let key = u128::from(hash) << 64;
        let owner = map.owner(self.rotation, key);
        (ServerId(u32::from(owner.0)), key)
    }

    /// Which servers hold cells of a box of a global array, and for each a box
    /// that bounds them.
    pub(super) fn owners(
        &self,
        map: &ShardMap,
        router: &mut Router,
        start: &[u64],
        count: &[u64],
    ) -> Vec<(ServerId, Vec<u64>, Vec<u64>)> {
        let (Some((first, cells)), Some((curve, chunk))) = (self.cells(start, count), &self.chunks)
        else {
            return Vec::new();
        };
        let routes = router.route(curve, map, self.rotation, &first, &cells);
        let bounded = routes.unwrap_or(&[]).iter().map(|route| {
            let (mut low, mut sides) = (start.to_vec(), count.to_vec());
            for dimension in 0..chunk.len() {
                let end = start[dimension] + count[dimension];
                let from = route.start()[dimension].saturating_mul(chunk[dimension]);
                let to = route.end()[dimension].saturating_mul(chunk[dimension]);
                low[dimension] = from.max(start[dimension]);
                sides[dimension] = to.min(end) - low[dimension];
            }
            (ServerId(u32::from(route.server.0)), low, sides)
        });
        bounded.collect()
    }

    /// The chunks that a box meets: first, and how many.
    fn cells(&self, start: &[u64], count: &[u64]) -> Option<(Vec<u64>, Vec<u64>)> {
        let (_, chunk) = self.chunks.as_ref()?;
        let first: Vec<u64> = chunk
            .iter()
            .zip(start)
            .map(|(chunk, start)| start / chunk)
            .collect();
        let cells = (0..chunk.len()).map(|dimension| {
            (start[dimension] + count[dimension]).div_ceil(chunk[dimension]) - first[dimension]
        });
        let cells = cells.collect();
        Some((first, cells))
    }

    /// Cuts at the chunk border that stands highest in the curve's tree.
    fn halve(
        &self,
        part: &[u64],
        sides: &[u64],
        first: &[u64],
        cells: &[u64],
        parts: &mut Vec<(Vec<u64>, Vec<u64>)>,
    ) {
        let Some((_, chunk)) = &self.chunks else {
            return;
        };
        let border = |dimension: usize| {
            // Above the first cell: the end with its lowest bits cleared as
            // long as it stays inside.
            let mut border = first[dimension] + cells[dimension] - 1;
            while border & (border - 1) > first[dimension] {
                border &= border - 1;
            }
            border
        };
        let highest = (0..chunk.len())
            .filter(|dimension| cells[*dimension] > 1)
            .map(|dimension| (border(dimension), dimension))
            .max_by_key(|(border, dimension)| (border.trailing_zeros(), usize::MAX - dimension));
        let Some((border, dimension)) = highest else {
            return;
        };
        let low_side = border * chunk[dimension] - part[dimension];
        let (mut low, mut high) = (sides.to_vec(), sides.to_vec());
        low[dimension] = low_side;
        high[dimension] = sides[dimension] - low_side;
        let mut above = part.to_vec();
        above[dimension] += low_side;
        parts.push((above, high));
        parts.push((part.to_vec(), low));
    }

    /// Cuts a box to the limit, into whole rows as long as one fits.
    fn cut(
        &self,
        server: ServerId,
        key: u128,
        start: Vec<u64>,
        count: Vec<u64>,
        placed: &mut Vec<Placed>,
    ) {
        let mut parts = vec![(start, count, 0)];
        while let Some((start, count, dimension)) = parts.pop() {
            let row = count[(dimension + 1).min(count.len())..]
                .iter()
                .fold(self.element_bytes, |bytes, side| {
                    bytes.saturating_mul(*side)
                });
            let bytes = count.iter().fold(self.element_bytes, |bytes, side| {
                bytes.saturating_mul(*side)
            });
            if bytes <= PIECE_LIMIT_BYTES || dimension >= count.len() {
                placed.push(Placed {
                    server,
                    key,
                    start,
                    count,
                });
                continue;
            }
            let rows = (PIECE_LIMIT_BYTES / row.max(1)).max(1);
            let whole = count[dimension];
            let mut at = whole;
            while at > 0 {
                // From the end, since the last pushed is looked at first.
                let begin = (at - 1) / rows * rows;
                let (mut part, mut sides) = (start.clone(), count.clone());
                part[dimension] += begin;
                sides[dimension] = at - begin;
                parts.push((
                    part,
                    sides,
                    if rows == 1 {
                        dimension + 1
                    } else {
                        count.len()
                    },
                ));
                at = begin;
            }
        }
    }
}

/// The number under which a local array's block, or a joined one's, is stored:
/// the first coordinate of its pieces, before those within the block. `None`
/// for a rank beyond the format.
pub(super) fn local_number(slot: u32, rank: u32, order: u32) -> Option<u64> {
    let rank = u64::from(rank);
    let slot = u64::from(slot);
    (rank < 1 << RANK_BITS && slot < 1 << (63 - ORDER_BITS - RANK_BITS))
        .then_some(slot << (ORDER_BITS + RANK_BITS) | rank << ORDER_BITS | u64::from(order))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::shard::Server;
    use panta_core::model::DType;
    use std::collections::BTreeSet;

    fn array(shape: &[u64], chunk: Option<Vec<u64>>) -> Definition {
        Definition {
            name: "u".into(),
            dtype: DType::F64,
            kind: ShapeKind::GlobalArray,
            shape: shape.to_vec(),
            dims: Vec::new(),
            unit: String::new(),
            coordinates: Vec::new(),
            fill: None,
            chunk,
            accuracy: None,
        }
    }

    fn map(servers: u64) -> ShardMap {
        let servers = (1..=servers).map(|id| Server {
            id,
            address: format!("host{id}:1"),
        });
        ShardMap::even(1, servers.collect()).unwrap()
    }

    #[test]
    fn the_default_chunk_is_as_it_is_documented() {
        assert_eq!(default_chunk(&[512, 512, 512], 8), [32, 64, 64]);
        assert_eq!(default_chunk(&[1 << 30], 4), [1 << 18]);
        assert_eq!(default_chunk(&[3, 1 << 20], 8), [4, 1 << 15]);
        assert_eq!(default_chunk(&[10, 10], 8), [16, 16]);
        assert_eq!(default_chunk(&[0, 5], 8), [1, 8]);
        let many = default_chunk(&[4; 12], 8);
        assert_eq!(many[8..], [4; 4]);
    }

    #[test]
    fn pieces_cover_a_block_once_and_each_lies_with_the_owner_of_all_its_cells() {
        for servers in [1, 3, 4] {
            let map = map(servers);
            let definition = array(&[70, 45, 33], Some(vec![8, 16, 4]));
            let grid = Grid::new("run", &definition).unwrap();
            let mut router = Router::new();
            let (start, count) = ([3, 0, 7], [61, 44, 25]);
            let pieces = grid.pieces(&map, &mut router, &start, &count);
            let mut seen = BTreeSet::new();
            for piece in &pieces {
                for z in piece.start[0]..piece.start[0] + piece.count[0] {
                    for y in piece.start[1]..piece.start[1] + piece.count[1] {
                        for x in piece.start[2]..piece.start[2] + piece.count[2] {
                            assert!(seen.insert([z, y, x]));
                            let cell = [z + 3, y, x + 7];
                            let owners = grid.owners(&map, &mut router, &cell, &[1, 1, 1]);
                            assert_eq!(owners.len(), 1);
                            assert_eq!(owners[0].0, piece.server);
                        }
                    }
                }
            }
            assert_eq!(seen.len(), 61 * 44 * 25);
            if servers == 1 {
                assert_eq!(pieces.len(), 1);
            }
        }
    }

    #[test]
    fn large_boxes_are_cut_into_whole_rows_below_the_limit() {
        let definition = array(&[100, 1 << 17], None);
        let grid = Grid::new("run", &definition).unwrap();
        let pieces = grid.pieces(&map(1), &mut Router::new(), &[0, 0], &[100, 1 << 17]);
        assert!(pieces.iter().all(|piece| piece.count[1] == 1 << 17));
        assert!(pieces.iter().all(|piece| piece.count[0] <= 4));
        assert_eq!(pieces.iter().map(|piece| piece.count[0]).sum::<u64>(), 100);
        let long = array(&[3, 1 << 21], None);
        let grid = Grid::new("run", &long).unwrap();
        let pieces = grid.pieces(&map(1), &mut Router::new(), &[0, 0], &[3, 1 << 21]);
        assert_eq!(pieces.len(), 12);
    }

    #[test]
    fn numbers_of_local_blocks_differ_and_their_ends_fit() {
        let numbers: BTreeSet<u64> = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (31, 5, u32::MAX)]
            .map(|(slot, rank, order)| local_number(slot, rank, order).unwrap())
            .into();
        assert_eq!(numbers.len(), 4);
        assert!(numbers.iter().all(|number| number.checked_add(1).is_some()));
        assert_eq!(local_number(0, 1 << RANK_BITS, 0), None);
    }
}
