//! Stored blocks: which tiles a box touches, and boxes out of them, checked.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::loops::{Loop, Plan, back, check_alike, copy_bytes_uninit, copy_run, copy_runs};
use super::streaming::{Streaming, fetch_ahead};
use super::strided::{Layout, LayoutError, StridedMut};
use super::tiles::{tile_count, verify_tile};
use super::{CopyCounter, CopyError, MAX_DIMS, TILE_BYTES, TileMismatch};

/// A block as it is stored: contiguous, row-major, one CRC32C per tile.
#[derive(Clone, Copy)]
pub struct StoredBlock<'a> {
    bytes: &'a [u8],
    crcs: &'a [u32],
    layout: Layout,
}

impl<'a> StoredBlock<'a> {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`LayoutError`] where `count` does not make `bytes`, or `crcs` has not
    /// one checksum per tile.
    pub fn new(
        bytes: &'a [u8],
        element_bytes: usize,
        count: &[u64],
        crcs: &'a [u32],
    ) -> Result<Self, LayoutError> {
        let layout = Layout::row_major(element_bytes, count)?;
        if layout.bytes() != bytes.len() as u64 {
            return Err(LayoutError::LengthDiffers {
                expected: layout.bytes(),
                found: bytes.len() as u64,
            });
        }
        let tiles = tile_count(bytes.len() as u64);
        if crcs.len() as u64 != tiles {
            return Err(LayoutError::ChecksumCount {
                expected: tiles,
                found: crcs.len() as u64,
            });
        }
        Ok(Self {
            bytes,
            crcs,
            layout,
        })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of one element.
    #[must_use]
    pub fn element_bytes(&self) -> usize {
        self.layout.element_bytes
    }

    /// Elements per dimension, outermost first.
    #[must_use]
    pub fn count(&self) -> &[u64] {
        self.layout.count()
    }

    /// One CRC32C per tile.
    #[must_use]
    pub fn crcs(&self) -> &'a [u32] {
        self.crcs
    }

    fn verify(&self, tile: usize) -> Result<(), TileMismatch> {
        let begin = tile * TILE_BYTES;
        let end = (begin + TILE_BYTES).min(self.bytes.len());
        verify_tile(&self.bytes[begin..end], tile, self.crcs)
    }
}

/// Copies the box that begins at `start` of `block`, every `step`-th element,
/// to `dst`, whose counts say how many. With `verify`, each tile that holds a
/// byte of the box is checked, once, before bytes are taken from it; other
/// tiles are not looked at.
///
/// # Errors
/// [`CopyError`] where the box is not inside the block, or a touched tile is
/// not what its checksum says: `dst` then holds bytes of the tiles before it,
/// and none of that one.
pub fn copy_box_verified(
    dst: &mut StridedMut<'_>,
    block: &StoredBlock<'_>,
    start: &[u64],
    step: &[u64],
    verify: bool,
    counter: &CopyCounter,
) -> Result<(), CopyError> {
    if block.bytes.len() <= TILE_BYTES
        && is_whole(&dst.layout, &block.layout, start, step)
        && let Some(to) = dst.as_uninit_slice()
    {
        return copy_tile(to, block, verify, counter);
    }
    let offset = block.layout.offset_of(start, dst.count(), Some(step))?;
    let src = block.layout.of_box(dst.count(), Some(step));
    check_alike(&dst.layout, &src)?;
    if src.bytes() == 0 {
        return Ok(());
    }
    // Loops stay in the block's order: offsets into it ascend, so a tile that
    // was passed is never met again and each is checked once.
    let mut plan = Plan::new(&dst.layout, &src);
    plan.merge();
    let mut tiles = TileCheck {
        block,
        checked_to: 0,
        verify,
        streaming: Streaming::new(src.bytes(), plan.run_bytes),
    };
    let mut index = [0_usize; MAX_DIMS];
    let (mut to, mut from) = (dst.first, offset);
    loop {
        // SAFETY: `to` and `from` are an element of `dst` and the element of
        // the box with the same index, at the start of the innermost loop.
        unsafe { tiles.copy_line(to, from, &plan)? };
        let Some(outer) = plan.loops().len().checked_sub(1) else {
            break;
        };
        if !next_line(&plan.loops()[..outer], &mut index, &mut to, &mut from) {
            break;
        }
    }
    counter.add(src.bytes());
    Ok(())
}

/// Whether a box is all of a block, element by element.
fn is_whole(to: &Layout, block: &Layout, start: &[u64], step: &[u64]) -> bool {
    to.element_bytes == block.element_bytes
        && to.count() == block.count()
        && [start.len(), step.len()] == [block.count().len(); 2]
        && start.iter().all(|start| *start == 0)
        && step.iter().all(|step| *step == 1)
}

/// Copies a block of one tile, or none. There is nothing to plan, which would cost as
/// much as the rest.
fn copy_tile(
    to: &mut [MaybeUninit<u8>],
    block: &StoredBlock<'_>,
    verify: bool,
    counter: &CopyCounter,
) -> Result<(), CopyError> {
    if block.bytes.is_empty() {
        return Ok(());
    }
    if verify {
        block.verify(0)?;
    }
    copy_bytes_uninit(to, block.bytes, counter);
    Ok(())
}

/// Moves to the next turn of the outer loops; false after the last.
fn next_line(
    outer: &[Loop],
    index: &mut [usize; MAX_DIMS],
    to: &mut *mut u8,
    from: &mut isize,
) -> bool {
    for (dim, each) in outer.iter().enumerate().rev() {
        index[dim] += 1;
        *to = to.wrapping_offset(each.dst);
        *from += each.src;
        if index[dim] < each.count {
            return true;
        }
        index[dim] = 0;
        *to = to.wrapping_offset(back(each.dst, each.count));
        *from += back(each.src, each.count);
    }
    false
}

/// Checks tiles just before they are copied from.
struct TileCheck<'a> {
    block: &'a StoredBlock<'a>,
    /// End of the last tile that was checked.
    checked_to: usize,
    verify: bool,
    streaming: Streaming,
}

impl TileCheck<'_> {
    /// Copies one turn of the innermost loop.
    ///
    /// # Safety
    /// All runs of the loop are writable from `to`, readable from `from` in
    /// the block, and apart.
    unsafe fn copy_line(
        &mut self,
        to: *mut u8,
        from: isize,
        plan: &Plan,
    ) -> Result<(), TileMismatch> {
        let run = plan.run_bytes;
        let one = Loop {
            count: 1,
            dst: 0,
            src: run as isize,
        };
        let inner = plan.loops().last().copied().unwrap_or(one);
        let mut done = 0;
        while done < inner.count {
            let to = to.wrapping_offset(done as isize * inner.dst);
            let from = (from + done as isize * inner.src) as usize;
            if self.verify && run > TILE_BYTES {
                // SAFETY: this one run, as the caller promised.
                unsafe { self.copy_long_run(to, from, run)? };
                done += 1;
                continue;
            }
            let batch = self.runs_checked(from, run, inner.src as usize, inner.count - done)?;
            // SAFETY: `batch` more runs of the loop, as the caller promised.
            unsafe {
                let from = self.block.bytes.as_ptr().add(from);
                let each = Loop {
                    count: batch,
                    ..inner
                };
                copy_runs(to, from, &each, run, &self.streaming);
            }
            done += batch;
        }
        Ok(())
    }

    /// Checks the tiles of the run at `from`; returns how many runs from
    /// there on lie in tiles that are checked, at least one.
    fn runs_checked(
        &mut self,
        from: usize,
        run: usize,
        step: usize,
        runs: usize,
    ) -> Result<usize, TileMismatch> {
        if !self.verify {
            return Ok(runs);
        }
        self.check(from, from + run)?;
        Ok(runs.min((self.checked_to - from - run) / step + 1))
    }

    /// Copies a run tile by tile, so that each is still in cache.
    ///
    /// # Safety
    /// The run is writable at `to`, readable at `from`, and apart.
    unsafe fn copy_long_run(
        &mut self,
        to: *mut u8,
        from: usize,
        run: usize,
    ) -> Result<(), TileMismatch> {
        let mut done = 0;
        while done < run {
            let at = from + done;
            let piece = (TILE_BYTES - at % TILE_BYTES).min(run - done);
            let next = self.block.bytes.as_ptr().wrapping_add(at + piece);
            fetch_ahead(next, TILE_BYTES.min(run - done - piece));
            self.check(at, at + piece)?;
            // SAFETY: a piece of the run, as the caller promised.
            unsafe {
                let from = self.block.bytes.as_ptr().add(at);
                copy_run(to.add(done), from, piece, &self.streaming);
            }
            done += piece;
        }
        Ok(())
    }

    /// Checks the tiles of these bytes that are not checked yet.
    fn check(&mut self, begin: usize, end: usize) -> Result<(), TileMismatch> {
        let mut tile = begin.max(self.checked_to) / TILE_BYTES;
        while tile * TILE_BYTES < end {
            self.block.verify(tile)?;
            tile += 1;
            self.checked_to = tile * TILE_BYTES;
        }
        Ok(())
    }
}

/// The tiles of a stored block of `count` elements that hold a byte of the
/// box: `box_count` elements from `start`, every `step`-th. Ranges of tile
/// indices, ascending, apart from each other; found one at a time, in
/// constant memory.
///
/// # Errors
/// [`LayoutError`] where the box is not inside the block.
pub fn tiles_of_box(
    count: &[u64],
    element_bytes: usize,
    start: &[u64],
    box_count: &[u64],
    step: &[u64],
) -> Result<TileRanges, LayoutError> {
    let block = Layout::row_major(element_bytes, count)?;
    let offset = block.offset_of(start, box_count, Some(step))?;
    let sub = block.of_box(box_count, Some(step));
    let mut ranges = TileRanges {
        span_bytes: element_bytes as u64,
        loops: [(0, 0); MAX_DIMS],
        index: [0; MAX_DIMS],
        used: 0,
        next: (sub.bytes() > 0).then_some(offset as u64),
        ahead: None,
    };
    let mut loops = [(0, 0); MAX_DIMS];
    let mut at = MAX_DIMS;
    for (&count, &stride) in sub.count().iter().zip(sub.strides()).rev() {
        let stride = stride as u64;
        if count < 2 {
            continue;
        }
        // A gap shorter than a tile skips no tile.
        if at == MAX_DIMS && stride < ranges.span_bytes + TILE_BYTES as u64 {
            ranges.span_bytes += stride * (count - 1);
        } else {
            at -= 1;
            loops[at] = (count, stride);
        }
    }
    ranges.used = MAX_DIMS - at;
    ranges.loops[..ranges.used].copy_from_slice(&loops[at..]);
    Ok(ranges)
}

/// What [`tiles_of_box`] finds.
#[derive(Clone, Debug)]
pub struct TileRanges {
    /// Bytes all of whose tiles are touched, from each turn of the loops.
    span_bytes: u64,
    /// Count and stride in bytes, outermost first.
    loops: [(u64, u64); MAX_DIMS],
    index: [u64; MAX_DIMS],
    used: usize,
    /// Offset of the next span.
    next: Option<u64>,
    /// The span that ended the last range by not touching it.
    ahead: Option<Range<u64>>,
}

impl TileRanges {
    fn next_span(&mut self) -> Option<Range<u64>> {
        let offset = self.next?;
        let tile = TILE_BYTES as u64;
        let span = offset / tile..(offset + self.span_bytes - 1) / tile + 1;
        let mut next = offset;
        for dim in (0..self.used).rev() {
            let (count, stride) = self.loops[dim];
            self.index[dim] += 1;
            if self.index[dim] < count {
                self.next = Some(next + stride);
                return Some(span);
            }
            self.index[dim] = 0;
            next -= stride * (count - 1);
        }
        self.next = None;
        Some(span)
    }
}

impl Iterator for TileRanges {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let mut range = self.ahead.take().or_else(|| self.next_span())?;
        while let Some(span) = self.next_span() {
            if span.start > range.end {
                self.ahead = Some(span);
                break;
            }
            range.end = span.end;
        }
        Some(range)
    }
}
