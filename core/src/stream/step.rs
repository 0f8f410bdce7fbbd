//! What a reader rank keeps of a step: where its blocks are, and that it is held.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

use super::machine::Position;
use super::message::Own;
use super::peers::Peers;
use super::slot::{HEADER_BYTES, Share, Spot, room_of};
use crate::codec::{Coded, DecodeError, Decoder};
use crate::model::StepMeta;
use crate::plan::BlockIndex;

/// What is the same for all steps of one layout; made when first needed.
#[derive(Default)]
pub(super) struct LayoutPlan {
    indexes: OnceLock<Vec<OnceLock<BlockIndex>>>,
    blocks: OnceLock<BTreeMap<u32, Vec<Planned>>>,
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
}

impl Hold {
    pub(super) fn new(at: Position, told: Arc<dyn LetGo>) -> Self {
        Self { at, told }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.told.let_go(self.at);
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

    /// Where the blocks of an entry are in the array.
    pub(super) fn index(&self, meta: &StepMeta, entry: usize) -> &BlockIndex {
        let all = self
            .plan
            .indexes
            .get_or_init(|| meta.entries.iter().map(|_| OnceLock::new()).collect());
        all[entry].get_or_init(|| {
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
