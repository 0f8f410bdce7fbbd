//! The memory of one writer rank: where its steps lie until nobody needs them.
//!
//! ```text
//!   put   caller's array ── gather, round, checksum, smallest and largest: one pass ──> slot
//!   span  computed in the slot ── round, checksum, smallest and largest: in place
//! ```
//! A slot is the extents of one step, laid out as [`slot`](super::slot) says.
//! It promises: what was captured stays as it is until [`Memory::free`]; the
//! header of freed memory is wiped before the memory is used again; memory of
//! a retired step is never used again.

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use panta_transports::copy::{
    CopyCounter, CopyError, StridedRef, TileVisit, change_tiles, copy_bytes, gather_tiles,
};
use panta_transports::region::{Arena, Extent, RegionError};
use panta_transports::time::{Wait, WaitError};

use super::packing::Packing;
use super::slot::{HEADER_BYTES, STAMP_BYTES, Share, Spot, Stamp, checksums_at, room_of};
use super::spill::{Kept, Spill, Stored};
use crate::engine::{PutBlock, Source, SpanId, SpanMemory};
use crate::model::{BlockPass, Schema, Stats, StepHead};
use crate::ordered::Ordered;

/// Lists of extents kept for slots to come, at most.
const MAX_SPARE: usize = 64;

/// Memory of a step on this rank.
#[derive(Default)]
struct Slot {
    extents: Vec<Extent>,
    /// What there is to know of it, if it may have to be spilled.
    kept: Option<KeptStep>,
    /// Somebody who is gone may look at it: it is neither written to nor used again.
    retired: bool,
}

/// A step that may have to be spilled.
struct KeptStep {
    head: StepHead,
    schema: Arc<Schema>,
    blocks: Vec<Kept>,
}

/// Memory that was lent to be computed into.
struct Lent {
    extent: Extent,
    block_bytes: usize,
}

/// See the module.
pub(super) struct Memory {
    arena: Arena,
    rank: u32,
    /// Steps that are kept for readers, whether somebody reads them or not.
    kept_steps: u64,
    steps: Ordered<u64, Slot>,
    /// Lists of extents of slots that are gone, for slots to come.
    spare: Vec<Vec<Extent>>,
    lent: Vec<Lent>,
    captured: Option<Slot>,
    /// Checksums of the block that is being captured.
    crcs: Vec<u32>,
    /// Where blocks are compressed.
    packing: Option<Packing>,
}

/// Why a step is not captured.
pub(super) enum Uncaptured {
    /// There is no memory for it, at present.
    Memory(RegionError),
    /// A put is impossible.
    Put(String),
}

impl From<RegionError> for Uncaptured {
    fn from(error: RegionError) -> Self {
        Self::Memory(error)
    }
}

fn whole(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn spot(extent: &Extent) -> Spot {
    Spot {
        region: extent.region(),
        offset: extent.offset(),
    }
}

/// The bytes of an extent from `at` on.
fn bytes_of(extent: &mut Extent, at: u64, length: u64) -> &mut [u8] {
    let end = at.saturating_add(length);
    if end > extent.bytes() as u64 {
        return &mut [];
    }
    // SAFETY: within the extent, which is borrowed exclusively; peers do not
    // write to it, and read it only once the step was announced.
    unsafe {
        std::slice::from_raw_parts_mut(extent.as_ptr().as_ptr().add(whole(at)), whole(length))
    }
}

fn put_small(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

fn wipe(slot: &mut Slot) {
    for extent in &mut slot.extents {
        bytes_of(extent, 0, STAMP_BYTES as u64).fill(0);
    }
}

/// Places of puts in the order in which they were put; `None` where they lie so.
fn order_of(puts: &[PutBlock<'_>]) -> Option<Vec<usize>> {
    if puts.is_sorted_by_key(|put| put.order) {
        return None;
    }
    let mut order: Vec<usize> = (0..puts.len()).collect();
    order.sort_unstable_by_key(|at| puts[*at].order);
    Some(order)
}

impl Memory {
    pub(super) fn new(arena: Arena, rank: u32, kept_steps: u64, packing: Option<Packing>) -> Self {
        Self {
            packing,
            arena,
            rank,
            kept_steps,
            steps: Ordered::default(),
            spare: Vec::new(),
            lent: Vec::new(),
            captured: None,
            crcs: Vec::new(),
        }
    }

    /// Steps that are held.
    pub(super) fn steps(&self) -> impl Iterator<Item = u64> + '_ {
        self.steps.keys()
    }

    /// How long the memory of a step of `bytes` takes to be made; none where it is
    /// there.
    pub(super) fn making_takes(&self, bytes: u64) -> Option<Duration> {
        self.arena.making_takes(HEADER_BYTES.saturating_add(bytes))
    }

    fn allocate(&self, bytes: u64) -> Result<Extent, RegionError> {
        self.arena.allocate(whole(bytes))
    }

    /// Waits until readers have unmapped some of what was given up; at once
    /// where there is none of that.
    pub(super) fn wait_for_lingering(&self, wait: &Wait) -> Result<(), WaitError> {
        self.arena.wait_for_lingering(wait)
    }

    /// What steps may take at once.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.arena.limit_bytes()
    }

    /// Gives up what is free, so far as `bytes` need it beside what lingers.
    pub(super) fn make_room(&self, bytes: u64) {
        self.arena.make_room(bytes);
    }

    /// Bytes that were given up, and that readers have not unmapped yet.
    pub(super) fn lingering_bytes(&self) -> u64 {
        self.arena.lingering_bytes()
    }

    /// Bytes lent for the step that is open.
    pub(super) fn lent_bytes(&self) -> u64 {
        let lent = self.lent.iter();
        lent.map(|lent| lent.extent.bytes() as u64).sum()
    }

    /// Lends memory that holds what was there before: to clear it would cost as much
    /// as to fill it.
    pub(super) fn span(&mut self, bytes: usize) -> Result<(SpanId, NonNull<u8>), RegionError> {
        let mut extent = self.allocate(HEADER_BYTES.saturating_add(room_of(bytes as u64)))?;
        let block = bytes_of(&mut extent, HEADER_BYTES, bytes as u64);
        let first = NonNull::new(block.as_mut_ptr()).unwrap_or(NonNull::dangling());
        let id = SpanId(u32::try_from(self.lent.len()).unwrap_or(u32::MAX));
        self.lent.push(Lent {
            extent,
            block_bytes: bytes,
        });
        Ok((id, first))
    }

    /// What keeps the memory of a span mapped; later steps may use it.
    pub(super) fn span_memory(&self, span: SpanId) -> Option<SpanMemory> {
        let lent = self.lent.get(span.0 as usize)?;
        Some(Arc::clone(lent.extent.region_arc()) as SpanMemory)
    }

    /// Bytes that the main extent of these puts takes.
    pub(super) fn main_bytes(puts: &[PutBlock<'_>]) -> u64 {
        let copied = puts.iter().map(|put| match &put.source {
            Source::Memory(memory) => room_of(memory.bytes()),
            Source::Span(_) => 0,
        });
        match copied.fold(0_u64, u64::saturating_add) {
            0 => 0,
            bytes => HEADER_BYTES.saturating_add(bytes),
        }
    }

    /// Takes the blocks in; `stats` become theirs. What an earlier try left is taken
    /// back. With a schema, the step can be [written](Self::write) to the spill file.
    pub(super) fn capture(
        &mut self,
        head: &StepHead,
        puts: &[PutBlock<'_>],
        stats: &mut Vec<Option<Stats>>,
        schema: Option<&Arc<Schema>>,
        copies: &CopyCounter,
    ) -> Result<Share, Uncaptured> {
        stats.clear();
        stats.resize(puts.len(), None);
        if let Some(packing) = self.packing.take() {
            let (share, packing) = self.capture_packed((head, puts), packing, stats, copies);
            self.packing = Some(packing);
            return share;
        }
        let order = order_of(puts);
        let main_bytes = Self::main_bytes(puts);
        let mut main = match main_bytes {
            0 => None,
            bytes => Some(self.allocate(bytes)?),
        };
        let stamp = Stamp {
            epoch: head.epoch,
            step: head.step,
            rank: self.rank,
        }
        .to_bytes();
        let mut share = Share {
            main: main.as_ref().map(spot),
            ..Share::default()
        };
        let mut next = HEADER_BYTES;
        let mut blocks = Vec::new();
        for place in 0..puts.len() {
            let at = order.as_ref().map_or(place, |order| order[place]);
            let put = &puts[at];
            let mut pass = BlockPass::new(put.definition);
            let visit = &mut pass;
            match &put.source {
                Source::Memory(memory) => {
                    let room = room_of(memory.bytes());
                    if schema.is_some() {
                        blocks.push(Kept::of(put, 0, next));
                    }
                    if let Some(main) = main.as_mut() {
                        let room = bytes_of(main, next, room);
                        copy_in(room, memory, &mut self.crcs, visit, copies)
                            .map_err(|error| Uncaptured::Put(error.to_string()))?;
                    }
                    next += room;
                }
                Source::Span(id) => {
                    let lent = self
                        .lent
                        .get_mut(id.0 as usize)
                        .ok_or_else(|| Uncaptured::Put("a span is not of this step".into()))?;
                    if schema.is_some() {
                        let extent = usize::from(main_bytes > 0) + id.0 as usize;
                        blocks.push(Kept::of(put, extent, HEADER_BYTES));
                    }
                    checksum_in_place(lent, &mut self.crcs, visit);
                    put_small(bytes_of(&mut lent.extent, 0, HEADER_BYTES), &stamp);
                    share.spans.push((put.order, spot(&lent.extent)));
                }
            }
            stats[at] = pass.finish();
        }
        if let Some(main) = main.as_mut() {
            put_small(bytes_of(main, 0, HEADER_BYTES), &stamp);
        }
        let mut slot = Slot {
            extents: self.spare.pop().unwrap_or_default(),
            kept: schema.map(|schema| KeptStep {
                head: *head,
                schema: Arc::clone(schema),
                blocks,
            }),
            retired: false,
        };
        let lent = self.lent.drain(..).map(|lent| lent.extent);
        slot.extents.extend(main.into_iter().chain(lent));
        share.bytes = slot
            .extents
            .iter()
            .map(|extent| extent.bytes() as u64)
            .sum();
        // As long as none comes back, the next step will need as much again.
        if (self.steps.len() as u64) < self.kept_steps {
            self.arena.foresee(slot.extents.iter().map(Extent::bytes));
        }
        if let Some(earlier) = self.captured.replace(slot) {
            self.take_back(earlier);
        }
        Ok(share)
    }

    /// The same with the blocks compressed, those in spans too, whose memory is free then.
    fn capture_packed(
        &mut self,
        (head, puts): (&StepHead, &[PutBlock<'_>]),
        mut packing: Packing,
        stats: &mut [Option<Stats>],
        copies: &CopyCounter,
    ) -> (Result<Share, Uncaptured>, Packing) {
        let packed = self.pack(puts, &mut packing, stats, copies);
        let share = packed
            .map_err(Uncaptured::Put)
            .and_then(|()| self.keep_packed(head, &packing, copies));
        (share, packing)
    }

    fn pack(
        &self,
        puts: &[PutBlock<'_>],
        packing: &mut Packing,
        stats: &mut [Option<Stats>],
        copies: &CopyCounter,
    ) -> Result<(), String> {
        packing.begin();
        let order = order_of(puts);
        for place in 0..puts.len() {
            let at = order.as_ref().map_or(place, |order| order[place]);
            let put = &puts[at];
            let dtype = put.definition.dtype;
            let source = match &put.source {
                Source::Memory(memory) => *memory,
                Source::Span(id) => {
                    let lent = self.lent.get(id.0 as usize);
                    let lent = lent.ok_or("a span is not of this step")?;
                    let bytes = extent_bytes(&lent.extent, HEADER_BYTES, lent.block_bytes as u64);
                    let bytes = bytes.ok_or("a span is cut off")?;
                    StridedRef::contiguous(bytes, dtype.size_bytes(), put.count)
                        .map_err(|error| error.to_string())?
                }
            };
            let mut pass = BlockPass::new(put.definition);
            packing.add(&source, dtype, &mut pass, copies)?;
            stats[at] = pass.finish();
        }
        Ok(())
    }

    fn keep_packed(
        &mut self,
        head: &StepHead,
        packing: &Packing,
        copies: &CopyCounter,
    ) -> Result<Share, Uncaptured> {
        let mut share = Share::default();
        let mut slot = Slot {
            extents: self.spare.pop().unwrap_or_default(),
            kept: None,
            retired: false,
        };
        let bytes = packing.bytes();
        if !bytes.is_empty() {
            let length = bytes.len() as u64;
            let mut main = self.allocate(HEADER_BYTES.saturating_add(length))?;
            copy_bytes(bytes_of(&mut main, HEADER_BYTES, length), bytes, copies);
            let stamp = Stamp {
                epoch: head.epoch,
                step: head.step,
                rank: self.rank,
            };
            put_small(bytes_of(&mut main, 0, HEADER_BYTES), &stamp.to_bytes());
            share.bytes = main.bytes() as u64;
            share.main = Some(spot(&main));
            share.frames = packing.frames().to_vec();
            slot.extents.push(main);
        }
        self.lent.clear();
        if let Some(earlier) = self.captured.replace(slot) {
            self.take_back(earlier);
        }
        Ok(share)
    }

    /// The step that was captured is sealed and stays, or is given up.
    pub(super) fn finish(&mut self, step: u64, sealed: bool) {
        let captured = self.captured.take();
        self.lent.clear();
        match captured {
            Some(slot) if sealed => {
                self.steps.insert(step, slot);
            }
            Some(slot) => self.take_back(slot),
            None => {}
        }
    }

    /// A step is needed no more.
    pub(super) fn free(&mut self, step: u64) {
        if let Some(slot) = self.steps.remove(step) {
            self.take_back(slot);
        }
    }

    /// Gives the memory of a slot back, wiped.
    fn take_back(&mut self, mut slot: Slot) {
        if !slot.retired {
            wipe(&mut slot);
        }
        slot.extents.clear();
        if self.spare.len() < MAX_SPARE {
            self.spare.push(slot.extents);
        }
    }

    /// Writes a step to the spill file, once.
    pub(super) fn write(&mut self, step: u64, to: &mut Spill, wait: &Wait) {
        let Some(slot) = self.steps.get_mut(step) else {
            return;
        };
        if let Some(kept) = slot.kept.take() {
            let blocks = kept.blocks.iter();
            let stored: Vec<Stored<'_>> = blocks
                .filter_map(|block| stored(block, &slot.extents))
                .collect();
            to.write(&kept.head, &kept.schema, &stored, wait);
        }
    }

    /// Somebody who is gone may still look at a step. It stays, for others who may want it,
    /// until it is freed or spilled, and its memory is not used again then.
    pub(super) fn retire(&mut self, step: u64) {
        if let Some(slot) = self.steps.get_mut(step) {
            slot.retired = true;
            for extent in &slot.extents {
                self.arena.retire(extent.region());
            }
        }
    }
}

/// A block of a slot, with its bytes.
fn stored<'a>(kept: &'a Kept, extents: &'a [Extent]) -> Option<Stored<'a>> {
    let extent = extents.get(kept.extent)?;
    let bytes = kept.definition.byte_size(&kept.count)?;
    let room = extent_bytes(extent, kept.at, room_of(bytes))?;
    let (bytes, crcs) = super::fetch::halves(room, bytes).ok()?;
    Some(Stored { kept, bytes, crcs })
}

/// The bytes of an extent from `at` on.
fn extent_bytes(extent: &Extent, at: u64, length: u64) -> Option<&[u8]> {
    let end = at.checked_add(length)?;
    if end > extent.bytes() as u64 {
        return None;
    }
    // SAFETY: within the extent, which is borrowed; nobody writes to what was captured.
    let bytes = unsafe {
        std::slice::from_raw_parts(extent.as_ptr().as_ptr().add(whole(at)), whole(length))
    };
    Some(bytes)
}

/// Copies a block into its room and puts its checksums behind it.
fn copy_in(
    room: &mut [u8],
    source: &StridedRef<'_>,
    crcs: &mut Vec<u32>,
    visit: &mut dyn TileVisit,
    copies: &CopyCounter,
) -> Result<(), CopyError> {
    let (block, behind) = room.split_at_mut(whole(checksums_at(source.bytes())).min(room.len()));
    let block_bytes = whole(source.bytes()).min(block.len());
    crcs.clear();
    gather_tiles(&mut block[..block_bytes], source, crcs, visit, copies)?;
    put_small(behind, bytemuck::cast_slice(crcs));
    Ok(())
}

fn checksum_in_place(lent: &mut Lent, crcs: &mut Vec<u32>, visit: &mut dyn TileVisit) {
    let block_bytes = lent.block_bytes as u64;
    crcs.clear();
    let block = bytes_of(&mut lent.extent, HEADER_BYTES, block_bytes);
    change_tiles(block, crcs, visit);
    let at = HEADER_BYTES + checksums_at(block_bytes);
    let room = room_of(block_bytes) - checksums_at(block_bytes);
    put_small(
        bytes_of(&mut lent.extent, at, room),
        bytemuck::cast_slice(crcs),
    );
}
