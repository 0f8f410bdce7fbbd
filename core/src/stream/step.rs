//! What a reader rank keeps of a step: where its blocks are, and that it is held.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use panta_transports::coupling::Process;
use smallvec::SmallVec;

use super::machine::Position;
use super::message::Own;
use super::peers::Peers;
use super::slot::{HEADER_BYTES, Share, Spot, room_of};
use crate::codec::{Coded, DecodeError, Decoder};
use crate::model::{Dims, StepMeta};
use crate::plan::{self, BlockIndex, Extent, Pieces, Wish};

/// Pieces of a region that is remembered, at most.
const MAX_PIECES: usize = 64;

/// What is the same for all steps of one layout; made when first needed.
#[derive(Default)]
pub(super) struct LayoutPlan {
    entries: OnceLock<Vec<EntryPlan>>,
    blocks: OnceLock<BTreeMap<u32, Vec<Planned>>>,
}

/// Of one entry.
#[derive(Default)]
struct EntryPlan {
    index: OnceLock<BlockIndex>,
    /// Where the region lies that was asked for last: mostly it is asked for in every step.
    last: Mutex<Option<Arc<Found>>>,
}

impl EntryPlan {
    /// Where a region lies; the index of the entry's blocks is made where there is none.
    fn find(&self, wish: &Wish<'_>, index: impl FnOnce() -> BlockIndex) -> Arc<Found> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = last().as_ref().filter(|found| found.is_of(wish)) {
            return Arc::clone(found);
        }
        let found = Arc::new(Found::of(self.index.get_or_init(index), wish));
        if found.pieces.len() <= MAX_PIECES {
            *last() = Some(Arc::clone(&found));
        }
        found
    }
}

/// A region of an array, and where it lies.
pub(super) struct Found {
    start: Dims,
    count: Dims,
    step: Dims,
    /// What each block gives of it.
    pub(super) pieces: Pieces,
    /// A box that no block covers.
    pub(super) hole: Option<Extent>,
    /// Whether no two blocks give the same cell.
    pub(super) apart: bool,
}

impl Found {
    fn of(index: &BlockIndex, wish: &Wish<'_>) -> Self {
        let pieces = plan::pieces(index, wish);
        Self {
            start: Dims::from_slice(wish.start),
            count: Dims::from_slice(wish.count),
            step: Dims::from_slice(wish.step),
            hole: plan::first_uncovered(wish, &pieces),
            apart: plan::are_disjoint(&pieces),
            pieces,
        }
    }

    fn is_of(&self, wish: &Wish<'_>) -> bool {
        self.start[..] == *wish.start
            && self.count[..] == *wish.count
            && self.step[..] == *wish.step
    }
}

/// A block of one rank; these lie by ascending order.
#[derive(Clone, Copy, Debug)]
struct Planned {
    order: u32,
    bytes: u64,
    /// Where it is among the rank's blocks, if all of them were copied.
    offset: u64,
}

/// Of one rank: the order of each block, where it is, and its frames in the share.
type Places = Vec<(u32, Spot, Range<usize>)>;

/// Where a block is.
pub(super) struct Placed<'a> {
    pub(super) block: Spot,
    pub(super) header: Spot,
    /// Bytes of its frames, if it is compressed.
    pub(super) frames: &'a [u32],
}

/// Told when nobody on this rank needs a step any more.
pub(super) trait LetGo: Send + Sync {
    fn let_go(&self, at: Position);
}

/// As long as it lives, the step is held.
pub(super) struct Hold {
    at: Position,
    told: Arc<dyn LetGo>,
    process: Process,
}

impl Hold {
    pub(super) fn new(at: Position, told: Arc<dyn LetGo>) -> Self {
        Self {
            at,
            told,
            process: Process::current(),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // The child of a fork does not let go of what its parent holds.
        if !self.process.is_child() {
            self.told.let_go(self.at);
        }
    }
}

/// See the module. The step is held as long as this lives.
pub(super) struct StreamStep {
    pub(super) peers: Arc<Peers>,
    shares: SmallVec<[Share; 1]>,
    plan: Arc<LayoutPlan>,
    /// By rank, where blocks are compressed, or some copied and others computed in place.
    mixed: OnceLock<Vec<OnceLock<Places>>>,
    /// The dataset that the step lies in instead.
    pub(super) spilled: Option<String>,
    /// Whether all ranks of the writer say what they push of it; else its root does.
    all_push: bool,
    hold: Hold,
}

impl StreamStep {
    pub(super) fn new(
        own: &Own<'_>,
        peers: Arc<Peers>,
        plan: Arc<LayoutPlan>,
        hold: Hold,
    ) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(own.shares);
        let shares = (0..from.count(2)?)
            .map(|_| Share::decode(&mut from))
            .collect::<Result<_, _>>()?;
        from.finish()?;
        Ok(Self {
            peers,
            shares,
            plan,
            mixed: OnceLock::new(),
            spilled: (!own.spilled.is_empty()).then(|| own.spilled.to_owned()),
            all_push: own.all_push,
            hold,
        })
    }

    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.hold.at.step
    }

    /// Whether a rank of the writer says what it pushes of this step.
    pub(super) fn is_pushed_by(&self, rank: u32) -> bool {
        rank == 0 || self.all_push
    }

    /// Where a region of an entry's array lies.
    pub(super) fn find(&self, meta: &StepMeta, entry: usize, wish: &Wish<'_>) -> Arc<Found> {
        let all = self.plan.entries.get_or_init(|| {
            let entries = meta.entries.iter();
            entries.map(|_| EntryPlan::default()).collect()
        });
        all[entry].find(wish, || {
            let blocks = meta.entries[entry].blocks.iter();
            BlockIndex::new(blocks.map(|it| (&it.block.start[..], &it.block.count[..])))
        })
    }

    /// Where a block and its header are; `None` if its rank said nothing of it.
    pub(super) fn place(&self, meta: &StepMeta, rank: u32, order: u32) -> Option<Placed<'_>> {
        let share = self.shares.get(rank as usize)?;
        let blocks = self.plan.blocks.get_or_init(|| blocks_by_rank(meta));
        let blocks = blocks.get(&rank)?;
        let at = blocks.binary_search_by_key(&order, |block| block.order);
        let block = blocks[at.ok()?];
        let plain = |block, header| {
            Some(Placed {
                block,
                header,
                frames: &[],
            })
        };
        if let Some(span) = share.span(order) {
            return plain(span.on(HEADER_BYTES), span);
        }
        let main = share.main?;
        if share.spans.is_empty() && share.frames.is_empty() {
            return plain(main.on(HEADER_BYTES).on(block.offset), main);
        }
        let mixed = self.mixed.get_or_init(|| {
            let ranks = self.shares.iter();
            ranks.map(|_| OnceLock::new()).collect()
        });
        let places = mixed[rank as usize].get_or_init(|| places_of(share, blocks));
        let at = places.binary_search_by_key(&order, |(order, ..)| *order);
        let (_, block, frames) = &places[at.ok()?];
        Some(Placed {
            block: *block,
            header: main,
            frames: share.frames.get(frames.clone())?,
        })
    }
}

fn places_of(share: &Share, blocks: &[Planned]) -> Places {
    let of_blocks = blocks.iter().map(|block| (block.order, block.bytes));
    if !share.frames.is_empty() {
        let places = share.packed_places(of_blocks).unwrap_or_default();
        let places = places.into_iter();
        return places.map(|it| (it.order, it.spot, it.frames)).collect();
    }
    let places = share.places(of_blocks).zip(blocks);
    places
        .filter_map(|(spot, block)| Some((block.order, spot?, 0..0)))
        .collect()
}

fn blocks_by_rank(meta: &StepMeta) -> BTreeMap<u32, Vec<Planned>> {
    let mut ranks: BTreeMap<u32, Vec<Planned>> = BTreeMap::new();
    for entry in &meta.entries {
        if entry.definition.kind.is_value() {
            continue;
        }
        for put in &entry.blocks {
            let bytes = entry.definition.byte_size(&put.block.count).unwrap_or(0);
            ranks.entry(put.block.rank).or_default().push(Planned {
                order: put.block.order,
                bytes,
                offset: 0,
            });
        }
    }
    for blocks in ranks.values_mut() {
        blocks.sort_unstable_by_key(|block| block.order);
        let mut offset = 0_u64;
        for block in blocks {
            block.offset = offset;
            offset = offset.saturating_add(room_of(block.bytes));
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of blocks of one cell.
    fn row(blocks: u64) -> BlockIndex {
        let starts: Vec<[u64; 1]> = (0..blocks).map(|at| [at]).collect();
        BlockIndex::new(starts.iter().map(|start| (&start[..], &[1][..])))
    }

    fn find(plan: &EntryPlan, (start, count, step): (u64, u64, u64), blocks: u64) -> Arc<Found> {
        let wish = Wish {
            start: &[start],
            count: &[count],
            step: &[step],
        };
        plan.find(&wish, || row(blocks))
    }

    #[test]
    fn a_region_that_is_asked_for_again_is_found_once_and_no_other_is_taken_for_it() {
        let plan = EntryPlan::default();
        let asked = [
            (1, 4, 1),
            (2, 4, 1),
            (2, 3, 1),
            (2, 3, 2),
            (6, 4, 1),
            (1, 4, 1),
        ];
        for region in asked {
            let found = find(&plan, region, 8);
            assert!(Arc::ptr_eq(&found, &find(&plan, region, 8)), "{region:?}");
            let (start, count, step) = region;
            let blocks = found.pieces.iter().map(|piece| piece.block as u64);
            let wanted = (0..count).map(|at| start + at * step).filter(|it| *it < 8);
            assert!(blocks.eq(wanted), "{region:?}");
            assert_eq!(found.hole.is_some(), start + (count - 1) * step >= 8);
            assert!(found.apart);
        }
    }

    #[test]
    fn a_region_of_many_pieces_is_not_remembered() {
        let (plan, many) = (EntryPlan::default(), MAX_PIECES as u64 + 1);
        let found = find(&plan, (0, many, 1), many);
        assert_eq!(found.pieces.len(), MAX_PIECES + 1);
        assert!(!Arc::ptr_eq(&found, &find(&plan, (0, many, 1), many)));
    }
}
