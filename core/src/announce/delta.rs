//! A layout as what changed since another one: the blocks of the ranks whose
//! blocks are not the same. All of a changed rank's blocks are told.
//!
//! ```text
//! base digest u64 | ranks | rank, blocks, (variable, order, start, count)… | …
//! ```
//! All but the digest are [`lean`] numbers.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::{DecodeError, Decoder, Encoder};
use crate::lean;
use crate::model::{Block, Layout, LayoutEntry};

type ByRank<'l> = BTreeMap<u32, Vec<(u32, &'l Block)>>;

fn by_rank(layout: &Layout) -> ByRank<'_> {
    let mut ranks = ByRank::new();
    for entry in &layout.entries {
        for block in &entry.blocks {
            let blocks = ranks.entry(block.rank).or_default();
            blocks.push((entry.variable, block));
        }
    }
    ranks
}

/// What makes `layout` of `base`, the layout named `digest`. `None` if it cannot be told
/// in this way.
pub(super) fn between((digest, base): (u64, &Layout), layout: &Layout) -> Option<Vec<u8>> {
    let (before, after) = (by_rank(base), by_rank(layout));
    let ranks: BTreeSet<u32> = before.keys().chain(after.keys()).copied().collect();
    let changed: Vec<u32> = ranks
        .into_iter()
        .filter(|rank| before.get(rank) != after.get(rank))
        .collect();
    let mut encoder = Encoder::default();
    encoder.u64(digest);
    lean::put(changed.len() as u64, &mut encoder);
    for rank in changed {
        let blocks = after.get(&rank).map_or(&[][..], |blocks| blocks);
        lean::put(rank.into(), &mut encoder);
        lean::put(blocks.len() as u64, &mut encoder);
        for (variable, block) in blocks {
            lean::put((*variable).into(), &mut encoder);
            lean::put(block.order.into(), &mut encoder);
            lean::put_dims(&block.start, &mut encoder);
            lean::put_dims(&block.count, &mut encoder);
        }
    }
    let told = encoder.finish();
    let mut from = Decoder::new(&told[8..]);
    let made = apply(base, &mut from).ok()?;
    (made == *layout).then_some(told)
}

/// The digest of the layout that a change is based on; the first that it holds.
pub(super) fn base(from: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    from.u64()
}

/// The changed layout, from what follows the digest of `base`.
pub(super) fn apply(base: &Layout, from: &mut Decoder<'_>) -> Result<Layout, DecodeError> {
    let mut changed: BTreeSet<u32> = BTreeSet::new();
    let mut blocks: BTreeMap<u32, Vec<Block>> = BTreeMap::new();
    for _ in 0..lean::count(from)? {
        let rank = lean::take_u32(from)?;
        changed.insert(rank);
        for _ in 0..lean::count(from)? {
            let variable = lean::take_u32(from)?;
            let block = Block {
                rank,
                order: lean::take_u32(from)?,
                start: lean::take_dims(from)?.to_vec(),
                count: lean::take_dims(from)?.to_vec(),
            };
            blocks.entry(variable).or_default().push(block);
        }
    }
    for entry in &base.entries {
        let same = entry.blocks.iter();
        let same = same.filter(|block| !changed.contains(&block.rank));
        let blocks = blocks.entry(entry.variable).or_default();
        blocks.extend(same.cloned());
    }
    let mut layout = Layout::default();
    for (variable, mut blocks) in blocks {
        if !blocks.is_empty() {
            blocks.sort_by_key(|block| (block.rank, block.order));
            layout.entries.push(LayoutEntry { variable, blocks });
        }
    }
    Ok(layout)
}
