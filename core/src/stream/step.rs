//! What a reader rank keeps of a step: where its blocks are, and that it is held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::machine::Position;
use super::peers::Peers;
use super::slot::{Share, Spot};
use crate::codec::{Coded, DecodeError, Decoder};
use crate::model::StepMeta;
use crate::plan::BlockIndex;

/// What is the same for all steps of one layout; made when first needed.
#[derive(Default)]
pub(super) struct LayoutPlan {
    indexes: OnceLock<Vec<OnceLock<BlockIndex>>>,
    /// Of each rank, order and bytes of its blocks, in order.
    blocks: OnceLock<BTreeMap<u32, Vec<(u32, u64)>>>,
}

/// Of one rank: the order of each block, where it is, and where its header is.
type Places = Vec<(u32, Spot, Spot)>;

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
    pub(super) fn new(at: Position, told: Arc<dyn LetGo>) -> Arc<Self> {
        Arc::new(Self { at, told })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.told.let_go(self.at);
    }
}

/// See the module.
pub(super) struct StreamStep {
    pub(super) peers: Arc<Peers>,
    shares: Vec<Share>,
    plan: Arc<LayoutPlan>,
    places: Vec<OnceLock<Places>>,
    /// The dataset that the step lies in instead.
    pub(super) spilled: Option<String>,
    hold: Mutex<Option<Arc<Hold>>>,
}

impl StreamStep {
    pub(super) fn new(
        (shares, spilled): (&[u8], Option<String>),
        peers: Arc<Peers>,
        plan: Arc<LayoutPlan>,
        hold: Arc<Hold>,
    ) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(shares);
        let shares = (0..from.count(9)?)
            .map(|_| Share::decode(&mut from))
            .collect::<Result<Vec<_>, _>>()?;
        from.finish()?;
        Ok(Self {
            peers,
            places: shares.iter().map(|_| OnceLock::new()).collect(),
            shares,
            plan,
            spilled,
            hold: Mutex::new(Some(hold)),
        })
    }

    /// Keeps the step; `None` once it was let go.
    pub(super) fn hold(&self) -> Option<Arc<Hold>> {
        let hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        hold.clone()
    }

    /// Lets go, but for those who hold it too.
    pub(super) fn release(&self) {
        let held = self
            .hold
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(held);
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
    pub(super) fn place(&self, meta: &StepMeta, rank: u32, order: u32) -> Option<(Spot, Spot)> {
        let places = self.places.get(rank as usize)?;
        let places = places.get_or_init(|| self.places_of(meta, rank));
        let at = places.binary_search_by_key(&order, |(order, ..)| *order);
        at.ok().map(|at| (places[at].1, places[at].2))
    }

    fn places_of(&self, meta: &StepMeta, rank: u32) -> Places {
        let blocks = self.plan.blocks.get_or_init(|| blocks_by_rank(meta));
        let (Some(blocks), Some(share)) = (blocks.get(&rank), self.shares.get(rank as usize))
        else {
            return Places::new();
        };
        let places = share.places(blocks).into_iter().zip(blocks);
        places
            .filter_map(|(spot, (order, _))| Some((*order, spot?, share.header_of(*order)?)))
            .collect()
    }
}

fn blocks_by_rank(meta: &StepMeta) -> BTreeMap<u32, Vec<(u32, u64)>> {
    let mut ranks: BTreeMap<u32, Vec<(u32, u64)>> = BTreeMap::new();
    for entry in &meta.entries {
        if entry.definition.kind.is_value() {
            continue;
        }
        for put in &entry.blocks {
            let bytes = entry.definition.byte_size(&put.block.count).unwrap_or(0);
            let of_rank = ranks.entry(put.block.rank).or_default();
            of_rank.push((put.block.order, bytes));
        }
    }
    for blocks in ranks.values_mut() {
        blocks.sort_unstable();
    }
    ranks
}
