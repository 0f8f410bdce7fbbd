//! Which pieces of one variable in one step cover a box.
//!
//! Up to [`LIST_LIMIT`] pieces are a plain list. More are packed, at the first
//! query after a put, into an R-tree whose leaves lie in the order of their
//! chunks' keys, that is along the Hilbert curve (Kamel and Faloutsos, 1993):
//! neighbours in space are neighbours in the list, so that boxes around
//! [`FANOUT`] of them at a time are tight.

use super::super::RegionId;
use super::super::message::Statistics;
use std::cmp::{max, min};

/// Pieces up to which looking at each is fastest.
const LIST_LIMIT: usize = 64;
/// Entries under one node of the tree.
const FANOUT: usize = 16;

/// A hyper-rectangle: first cell and the one behind the last, per dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    low: Vec<u64>,
    high: Vec<u64>,
}

impl Bounds {
    /// From `start` and `count`, whose sums were checked to fit 64 bits.
    pub(super) fn new(start: &[u64], count: &[u64]) -> Self {
        let high = start
            .iter()
            .zip(count)
            .map(|(start, count)| start.saturating_add(*count))
            .collect();
        Self {
            low: start.to_vec(),
            high,
        }
    }

    /// What both cover, as start and count; `None` if nothing. A box without
    /// dimensions is one cell.
    pub(super) fn intersection(&self, other: &Self) -> Option<(Vec<u64>, Vec<u64>)> {
        if self.low.len() != other.low.len() {
            return None;
        }
        let mut start = Vec::with_capacity(self.low.len());
        let mut count = Vec::with_capacity(self.low.len());
        for dimension in 0..self.low.len() {
            let low = max(self.low[dimension], other.low[dimension]);
            let high = min(self.high[dimension], other.high[dimension]);
            if low >= high {
                return None;
            }
            start.push(low);
            count.push(high - low);
        }
        Some((start, count))
    }

    fn meets(&self, other: &Self) -> bool {
        self.low.len() == other.low.len()
            && (0..self.low.len()).all(|dimension| {
                max(self.low[dimension], other.low[dimension])
                    < min(self.high[dimension], other.high[dimension])
            })
    }

    fn include(&mut self, other: &Self) {
        for (low, other) in self.low.iter_mut().zip(&other.low) {
            *low = min(*low, *other);
        }
        for (high, other) in self.high.iter_mut().zip(&other.high) {
            *high = max(*high, *other);
        }
    }
}

/// A piece in the owner's memory.
#[derive(Clone, Debug)]
pub(super) struct StoredPiece {
    pub(super) key: u128,
    pub(super) start: Vec<u64>,
    pub(super) count: Vec<u64>,
    pub(super) slot: u32,
    pub(super) rank: u32,
    pub(super) order: u64,
    pub(super) layout: u32,
    pub(super) element_bytes: u32,
    pub(super) region: RegionId,
    pub(super) offset_bytes: u64,
    pub(super) length_bytes: u64,
    pub(super) checksums: Vec<u32>,
}

/// The pieces of one variable in one step.
#[derive(Debug, Default)]
pub(super) struct VariableIndex {
    pieces: Vec<(Bounds, StoredPiece)>,
    /// Boxes around `FANOUT` entries of the level below; the first level's
    /// entries are the pieces. Empty while there are few, or after a put.
    levels: Vec<Vec<Bounds>>,
    statistics: Option<Statistics>,
}

impl VariableIndex {
    /// Dimensions of the pieces; `None` while there are none.
    pub(super) fn dimensions(&self) -> Option<usize> {
        self.pieces.first().map(|(_, piece)| piece.start.len())
    }

    /// Least, greatest, sum and count over all pieces, as far as puts gave any.
    pub(super) fn statistics(&self) -> Option<Statistics> {
        self.statistics
    }

    /// Adds a piece.
    pub(super) fn add(&mut self, piece: StoredPiece, statistics: Option<Statistics>) {
        self.levels.clear();
        self.pieces
            .push((Bounds::new(&piece.start, &piece.count), piece));
        self.statistics = merge(self.statistics, statistics);
    }

    /// Calls `found` with every piece that meets `wanted` and what they share,
    /// until it answers `false`.
    pub(super) fn query(
        &mut self,
        wanted: &Bounds,
        mut found: impl FnMut(&StoredPiece, Vec<u64>, Vec<u64>) -> bool,
    ) -> bool {
        if self.levels.is_empty() && self.pieces.len() > LIST_LIMIT {
            self.pack();
        }
        let mut stack = Vec::new();
        match self.levels.last() {
            Some(top) => stack.extend((0..top.len()).map(|entry| (self.levels.len(), entry))),
            None => stack.extend((0..self.pieces.len()).map(|entry| (0, entry))),
        }
        while let Some((level, entry)) = stack.pop() {
            if level == 0 {
                let (bounds, piece) = &self.pieces[entry];
                if let Some((start, count)) = bounds.intersection(wanted)
                    && !found(piece, start, count)
                {
                    return false;
                }
            } else if self.levels[level - 1][entry].meets(wanted) {
                let below = if level == 1 {
                    self.pieces.len()
                } else {
                    self.levels[level - 2].len()
                };
                let first = entry * FANOUT;
                stack.extend((first..min(first + FANOUT, below)).map(|entry| (level - 1, entry)));
            }
        }
        true
    }

    fn pack(&mut self) {
        self.pieces.sort_by_key(|(_, piece)| piece.key);
        let mut level: Vec<Bounds> = around(self.pieces.iter().map(|(bounds, _)| bounds));
        while level.len() > FANOUT {
            let above = around(level.iter());
            self.levels.push(level);
            level = above;
        }
        self.levels.push(level);
    }
}

/// A box around every `FANOUT` of `entries`.
fn around<'a>(entries: impl Iterator<Item = &'a Bounds>) -> Vec<Bounds> {
    let mut boxes: Vec<Bounds> = Vec::new();
    for (number, bounds) in entries.enumerate() {
        match boxes.last_mut() {
            Some(last) if number % FANOUT != 0 => last.include(bounds),
            _ => boxes.push(bounds.clone()),
        }
    }
    boxes
}

/// The statistics of two sets of elements taken together.
pub(super) fn merge(one: Option<Statistics>, other: Option<Statistics>) -> Option<Statistics> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Statistics {
            min: one.min.min(other.min),
            max: one.max.max(other.max),
            sum: one.sum + other.sum,
            count: one.count.saturating_add(other.count),
            nans: one.nans.saturating_add(other.nans),
        }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(number: u64, start: Vec<u64>, count: Vec<u64>) -> StoredPiece {
        StoredPiece {
            key: u128::from(number.wrapping_mul(0x9e37_79b9) % 4096),
            start,
            count,
            slot: 0,
            rank: 0,
            order: number,
            layout: 1,
            element_bytes: 8,
            region: RegionId(number),
            offset_bytes: 0,
            length_bytes: 0,
            checksums: Vec::new(),
        }
    }

    #[test]
    fn the_tree_finds_what_looking_at_every_piece_finds() {
        for side in [1_u64, 7, 8, 9, 40] {
            let mut index = VariableIndex::default();
            let mut boxes = Vec::new();
            for row in 0..side {
                for column in 0..side {
                    let (start, count) = (vec![row * 5, column * 3], vec![6, 3]);
                    boxes.push(Bounds::new(&start, &count));
                    index.add(piece(row * side + column, start, count), None);
                }
            }
            for wanted in [
                ([0, 0], [1, 1]),
                ([3, 2], [9, 9]),
                ([0, 0], [1000, 1000]),
                ([900, 900], [5, 5]),
            ] {
                let wanted = Bounds::new(&wanted.0, &wanted.1);
                let mut found = Vec::new();
                index.query(&wanted, |piece, start, count| {
                    found.push((piece.order, start, count));
                    true
                });
                found.sort();
                let expected: Vec<_> = (0_u64..)
                    .zip(&boxes)
                    .filter_map(|(number, bounds)| {
                        bounds
                            .intersection(&wanted)
                            .map(|(start, count)| (number, start, count))
                    })
                    .collect();
                assert_eq!(found, expected, "side {side}");
            }
        }
    }

    #[test]
    fn a_scalar_meets_the_box_without_dimensions() {
        let mut index = VariableIndex::default();
        index.add(piece(0, Vec::new(), Vec::new()), None);
        let mut seen = 0;
        index.query(&Bounds::new(&[], &[]), |_, _, _| {
            seen += 1;
            true
        });
        assert_eq!(seen, 1);
    }
}
