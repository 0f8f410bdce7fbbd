//! Which blocks hold which cells of a region, whatever carries the blocks.
//!
//! ```text
//! blocks ──BlockIndex──> those that touch the region ──pieces──> who gives what, where to
//!                                                    ──first_uncovered──> a hole, if there is one
//! blocks ──overlaps──> two that share a cell
//! ```
//! It promises: pieces come in the order of the blocks, that is (rank, put
//! order), so that whoever copies them in turn lets the highest win; coverage
//! is exact, also for strided regions and overlapping blocks; 100,000 blocks
//! cost a search, not a scan.
//!
//! It does not: move bytes, know element types, or check that a region lies
//! inside its array; that was done when the selection was resolved.

mod cover;
mod index;
#[cfg(test)]
mod tests;

pub use index::BlockIndex;

use smallvec::SmallVec;

use crate::model::{Block, Dims, MAX_DIMS, cells};

/// What is wanted: `count` cells from `start`, every `step`-th, per dimension.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// First cell per dimension.
    pub start: &'a [u64],
    /// Cells per dimension.
    pub count: &'a [u64],
    /// Distance between them per dimension, at least 1.
    pub step: &'a [u64],
}

/// What one block gives to a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The block's place in the list that the index was made of.
    pub block: usize,
    /// First cell within the block; on from there with the region's step.
    pub from: Dims,
    /// First cell within the result.
    pub into: Dims,
    /// Cells per dimension.
    pub count: Dims,
}

/// Pieces of a region; one, as is common, without an allocation.
pub type Pieces = SmallVec<[Piece; 1]>;

/// A box of cells: first cell and cells per dimension.
pub type Extent = (Vec<u64>, Vec<u64>);

impl Wish<'_> {
    /// The smallest box of the array that holds the region; empty counts stay empty.
    #[must_use]
    pub fn extent(&self) -> (Dims, Dims) {
        let sides = self.count.iter().zip(self.step);
        let count = sides.map(|(count, step)| reach(*count, *step)).collect();
        (Dims::from_slice(self.start), count)
    }

    /// What the box `start`, `count` has of the region; `None` if nothing.
    #[must_use]
    pub fn piece(&self, block: usize, start: &[u64], count: &[u64]) -> Option<Piece> {
        let dimensions = self.count.len();
        if start.len() != dimensions || count.len() != dimensions || dimensions > MAX_DIMS {
            return None;
        }
        let mut piece = Piece {
            block,
            from: Dims::with_capacity(dimensions),
            into: Dims::with_capacity(dimensions),
            count: Dims::with_capacity(dimensions),
        };
        for dimension in 0..dimensions {
            let (first, step) = (self.start[dimension], self.step[dimension].max(1));
            let low = start[dimension];
            let high = low.saturating_add(count[dimension]);
            // Positions of the result whose cell lies at or after a border.
            let at = |border: u64| border.saturating_sub(first).div_ceil(step);
            let begin = at(low);
            let end = at(high).min(self.count[dimension]);
            if begin >= end {
                return None;
            }
            piece.from.push(first + begin * step - low);
            piece.into.push(begin);
            piece.count.push(end - begin);
        }
        Some(piece)
    }
}

fn reach(count: u64, step: u64) -> u64 {
    match count {
        0 => 0,
        _ => (count - 1).saturating_mul(step).saturating_add(1),
    }
}

/// The pieces of a region, ascending by block.
#[must_use]
pub fn pieces(index: &BlockIndex, wish: &Wish<'_>) -> Pieces {
    let (start, count) = wish.extent();
    let mut touched = index.touching(&start, &count);
    touched.sort_unstable();
    let piece = |block: &usize| {
        let (start, count) = index.extent(*block);
        wish.piece(*block, start, count)
    };
    touched.iter().filter_map(piece).collect()
}

/// A box of the array in which no piece gives the region's cells; `None` if
/// every cell is covered. `pieces` are those of this region.
#[must_use]
pub fn first_uncovered(wish: &Wish<'_>, pieces: &[Piece]) -> Option<Extent> {
    let wanted = cells(wish.count);
    let given = pieces
        .iter()
        .fold(0_u64, |sum, piece| sum.saturating_add(cells(&piece.count)));
    if wanted == 0 || (given == wanted && are_disjoint(pieces)) {
        return None;
    }
    let (into, count) = cover::hole(wish.count, pieces)?;
    let start = into
        .iter()
        .zip(wish.start.iter().zip(wish.step))
        .map(|(into, (start, step))| start + into * step);
    let sides = count.iter().zip(wish.step);
    Some((
        start.collect(),
        sides.map(|(count, step)| reach(*count, *step)).collect(),
    ))
}

/// Whether no two pieces give the same cell of the result.
#[must_use]
pub fn are_disjoint(pieces: &[Piece]) -> bool {
    pieces.len() < 2
        || BlockIndex::new(
            pieces
                .iter()
                .map(|piece| (&piece.into[..], &piece.count[..])),
        )
        .first_overlap()
        .is_none()
}

/// The first two blocks that share a cell, by their places in the list, the
/// lower first; `None` if the blocks are disjoint. Blocks without cells, and
/// those of other dimensions than the first, share none.
#[must_use]
pub fn overlaps(blocks: &[Block]) -> Option<(usize, usize)> {
    BlockIndex::of_blocks(blocks).first_overlap()
}
