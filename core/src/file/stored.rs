//! A block in its file: the tiles that hold the wanted cells, checked.
//!
//! ```text
//! piece contiguous in block and result ── pread into the user's array, verify there     0 copies
//! any other ── pread the touched tiles, verify ── copy the cells                        1 copy
//! compressed ── pread and unpack the touched frames ── copy ── as above           1 copy more
//! ```
//! Buffers are bounded whatever a block's size: a block is walked in slabs of
//! at most [`BUFFER_BYTES`].

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use panta_transports::copy::{
    CopyError, LayoutError, StridedMut, StridedRef, TILE_BYTES, TileMismatch, checksum, copy,
    copy_bytes_uninit, tiles_of_box, verify_tiles,
};
use panta_transports::time::{Wait, WaitError};

use super::dataset::{Named, damaged};
use super::reader::FileReader;
use super::sections::{Found, Frame};
use crate::error::Fault;
use crate::frames::{FRAME_BYTES, Unpacker, number_bytes};
use crate::model::DType;

/// Bytes of a buffer that tiles are read into: few enough to stay in cache.
const BUFFER_BYTES: usize = 1 << 20;

/// Buffers that were used, to be used again.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

/// The buffers kept when nobody reads.
const MAX_FREE_BUFFERS: usize = 4;

impl Buffers {
    fn with<T>(&self, using: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let free = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = free().pop().unwrap_or_default();
        let result = using(&mut buffer);
        let mut kept = free();
        if kept.len() < MAX_FREE_BUFFERS {
            kept.push(buffer);
        }
        result
    }
}

/// What goes wrong while bytes are fetched: said with the block by the caller.
pub(super) enum Trouble {
    Fault(Fault),
    Tile(TileMismatch, u64),
    Copy(CopyError),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<CopyError> for Trouble {
    fn from(error: CopyError) -> Self {
        Self::Copy(error)
    }
}

impl From<LayoutError> for Trouble {
    fn from(error: LayoutError) -> Self {
        Self::Copy(error.into())
    }
}

/// A block in its file.
pub(super) struct Stored<'a> {
    pub(super) reader: &'a FileReader,
    pub(super) data: &'a Named,
    pub(super) found: Found<'a>,
    pub(super) count: &'a [u64],
    pub(super) dtype: DType,
    pub(super) wait: &'a Wait,
    /// Where frames are taken apart; made with the first of them.
    pub(super) unpacker: RefCell<Option<Unpacker>>,
}

impl Stored<'_> {
    /// Brings the cells from `from` on, every `step`-th, as many as `into` has.
    pub(super) fn fetch(
        &self,
        from: &[u64],
        step: &[u64],
        into: &mut StridedMut<'_>,
    ) -> Result<(), Trouble> {
        if let Some(begin) = self.run(from, step, into.count())
            && into.is_contiguous()
        {
            return self.fetch_run(begin, into);
        }
        self.fetch_slabs(from, step, into)
    }

    /// Bytes of all cells of one index of `dimension`.
    fn stride(&self, dimension: usize) -> u64 {
        let inner = self.count[dimension + 1..].iter().product::<u64>();
        inner * self.element() as u64
    }

    fn element(&self) -> usize {
        self.dtype.size_bytes()
    }

    /// Where the cells begin, if they are one run of bytes of the block.
    fn run(&self, from: &[u64], step: &[u64], count: &[u64]) -> Option<u64> {
        let mut begin = 0;
        let mut whole_inside = true;
        for dimension in (0..count.len()).rev() {
            if count[dimension] > 1 && (step[dimension] != 1 || !whole_inside) {
                return None;
            }
            whole_inside &= count[dimension] == self.count[dimension];
            begin += from[dimension] * self.stride(dimension);
        }
        Some(begin)
    }

    /// One run: whole tiles go straight to where they are wanted.
    fn fetch_run(&self, begin: u64, into: &mut StridedMut<'_>) -> Result<(), Trouble> {
        let bytes = into.bytes();
        let end = begin + bytes;
        let tile = TILE_BYTES as u64;
        // Without checks, no tile needs to be whole.
        let (first, last) = if self.reader.verify {
            let last = if end == self.found.entry.bytes {
                end
            } else {
                end / tile * tile
            };
            (begin.next_multiple_of(tile).min(end), last)
        } else {
            (begin, end)
        };
        if first < last {
            let Some(memory) = into.as_uninit_slice() else {
                return Ok(());
            };
            let middle = &mut memory[(first - begin) as usize..(last - begin) as usize];
            let mut at = first;
            for piece in middle.chunks_mut(BUFFER_BYTES) {
                let length = piece.len() as u64;
                self.read_verified(piece, at)?;
                at += length;
            }
        }
        let head = begin..first.min(end);
        let tail = last.max(head.end)..end;
        for edge in [head, tail] {
            if !edge.is_empty() {
                self.fetch_edge(&edge, begin, into)?;
            }
        }
        Ok(())
    }

    /// Less than a tile at an end of a run.
    fn fetch_edge(
        &self,
        edge: &std::ops::Range<u64>,
        begin: u64,
        into: &mut StridedMut<'_>,
    ) -> Result<(), Trouble> {
        let tile = TILE_BYTES as u64;
        let first = edge.start / tile * tile;
        let end = edge.end.next_multiple_of(tile).min(self.found.entry.bytes);
        self.reader.buffers.with(|buffer| {
            buffer.resize(buffer.len().max((end - first) as usize), 0);
            let tiles = &mut buffer[..(end - first) as usize];
            self.read_verified(as_uninit(tiles), first)?;
            let cells = &tiles[(edge.start - first) as usize..(edge.end - first) as usize];
            let source = StridedRef::contiguous(cells, 1, &[cells.len() as u64])?;
            let Some(memory) = into.as_uninit_slice() else {
                return Ok(());
            };
            let there = &mut memory[(edge.start - begin) as usize..(edge.end - begin) as usize];
            // SAFETY: exactly these bytes, borrowed exclusively, only written.
            let mut there = unsafe {
                StridedMut::from_raw_parts(
                    there.as_mut_ptr().cast(),
                    1,
                    &[there.len() as u64],
                    &[1],
                )
            }?;
            Ok(copy(&mut there, &source, &self.reader.copies)?)
        })
    }

    /// Walks the block in slabs that fit a buffer.
    fn fetch_slabs(
        &self,
        from: &[u64],
        step: &[u64],
        into: &mut StridedMut<'_>,
    ) -> Result<(), Trouble> {
        let count = into.count().to_vec();
        // The outermost dimension of which at least one index fits.
        let room = (BUFFER_BYTES - 2 * TILE_BYTES) as u64;
        let fits = |dimension: &usize| self.stride(*dimension) <= room;
        let split = (0..count.len()).find(fits).unwrap_or(0);
        let span = if count.is_empty() {
            1
        } else {
            // Cells of the result whose indices lie within one slab.
            let indices = (room / self.stride(split).max(1)).max(1);
            ((indices - 1) / step[split] + 1).min(count[split])
        };
        let mut at = vec![0; count.len()];
        loop {
            let mut part: Vec<u64> = (0..count.len())
                .map(|dimension| {
                    if dimension < split {
                        1
                    } else {
                        count[dimension]
                    }
                })
                .collect();
            if !count.is_empty() {
                part[split] = span.min(count[split] - at[split]);
            }
            let slab: Vec<u64> = (0..count.len())
                .map(|dimension| from[dimension] + at[dimension] * step[dimension])
                .collect();
            let mut there = into.sub_box(&at, &part)?;
            self.fetch_slab(&slab, step, split, &mut there)?;
            if !next_part(&mut at, &count, split, span) {
                return Ok(());
            }
        }
    }

    /// One slab: a single index in the dimensions before `split`.
    fn fetch_slab(
        &self,
        from: &[u64],
        step: &[u64],
        split: usize,
        into: &mut StridedMut<'_>,
    ) -> Result<(), Trouble> {
        let part = into.count().to_vec();
        let tile = TILE_BYTES as u64;
        // The contiguous rows of the block that hold the slab.
        let mut rows = vec![1; part.len()];
        let mut within = vec![0; part.len()];
        let mut begin = 0;
        for dimension in 0..part.len() {
            if dimension <= split {
                begin += from[dimension] * self.stride(dimension);
            } else {
                rows[dimension] = self.count[dimension];
                within[dimension] = from[dimension];
            }
        }
        if let Some(rows) = rows.get_mut(split) {
            *rows = (part[split] - 1) * step[split] + 1;
        }
        let bytes = rows.iter().product::<u64>() * self.element() as u64;
        let origin = begin / tile * tile;
        self.reader.buffers.with(|buffer| {
            let needed = (begin - origin + bytes).next_multiple_of(tile) as usize;
            buffer.resize(buffer.len().max(needed), 0);
            for tiles in tiles_of_box(self.count, self.element(), from, &part, step)? {
                let first = tiles.start * tile;
                let end = (tiles.end * tile).min(self.found.entry.bytes);
                let there = &mut buffer[(first - origin) as usize..(end - origin) as usize];
                self.read_verified(as_uninit(there), first)?;
            }
            let rows_bytes = &buffer[(begin - origin) as usize..][..bytes as usize];
            let block = StridedRef::contiguous(rows_bytes, self.element(), &rows)?;
            let cells = block.sub_strided(&within, &part, step)?;
            Ok(copy(into, &cells, &self.reader.copies)?)
        })
    }

    /// Reads bytes of the block from `at` on, which begins a tile unless
    /// nothing is verified, and checks them.
    fn read_verified(&self, into: &mut [MaybeUninit<u8>], at: u64) -> Result<(), Trouble> {
        if let Err(WaitError::Interrupted) = self.wait.slice() {
            let awaiting = format!("the disk under {}", self.data.path.display());
            return Err(Fault::wait(WaitError::Interrupted, awaiting).into());
        }
        let offset = self.found.entry.offset + at;
        let length = into.len();
        let bytes = match self.found.frames {
            None => self.read_all(into, offset)?,
            Some(frames) => self.unpack(into, at, frames)?,
        };
        if self.reader.verify {
            let first = (at / TILE_BYTES as u64) as usize;
            let tiles = length.div_ceil(TILE_BYTES);
            let crcs = self
                .found
                .crcs
                .get(first..first + tiles)
                .unwrap_or_default();
            verify_tiles(bytes, crcs).map_err(|mut mismatch| {
                let within = mismatch.tile_index * TILE_BYTES as u64;
                mismatch.tile_index += first as u64;
                Trouble::Tile(mismatch, offset + within)
            })?;
            self.reader
                .verified_tiles
                .fetch_add(tiles as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Bytes of the block from `at` on, out of its frames.
    fn unpack<'b>(
        &self,
        into: &'b mut [MaybeUninit<u8>],
        at: u64,
        frames: &[Frame],
    ) -> Result<&'b [u8], Fault> {
        let mut unpacker = self.unpacker.borrow_mut();
        let unpacker = match unpacker.as_mut() {
            Some(unpacker) => unpacker,
            None => unpacker.insert(Unpacker::new()?),
        };
        let mut done = 0;
        while done < into.len() {
            let place = at + done as u64;
            let frame = (place / FRAME_BYTES as u64) as usize;
            if unpacker.holds != Some(frame) {
                self.read_frame(unpacker, frame, frames)?;
            }
            let within = (place % FRAME_BYTES as u64) as usize;
            let cells = unpacker.cells.get(within..).unwrap_or_default();
            let count = cells.len().min(into.len() - done);
            if count == 0 {
                let problem = format!("a block of {} bytes ends", self.found.entry.bytes);
                return Err(damaged(&self.data.path, self.found.entry.offset, problem));
            }
            let there = &mut into[done..done + count];
            copy_bytes_uninit(there, &cells[..count], &self.reader.copies);
            done += count;
        }
        // SAFETY: each turn has written `count` bytes from `done` on, until all were.
        Ok(unsafe { std::slice::from_raw_parts(into.as_ptr().cast(), into.len()) })
    }

    fn read_frame(
        &self,
        unpacker: &mut Unpacker,
        frame: usize,
        frames: &[Frame],
    ) -> Result<(), Fault> {
        let entry = self.found.entry;
        let before = frames.iter().take(frame).map(|it| u64::from(it.bytes));
        let offset = entry.offset + before.sum::<u64>();
        let begin = frame as u64 * FRAME_BYTES as u64;
        let count = entry.bytes.saturating_sub(begin).min(FRAME_BYTES as u64) as usize;
        let wrong = |problem: String| damaged(&self.data.path, offset, problem);
        let listed = frames.get(frame).filter(|_| count > 0);
        let listed = listed.ok_or_else(|| wrong(format!("the block has no frame {frame}")))?;
        unpacker.packed.resize(listed.bytes as usize, 0);
        self.read_all(as_uninit(&mut unpacker.packed), offset)?;
        let crc = checksum(&unpacker.packed);
        if self.reader.verify && crc != listed.crc {
            return Err(wrong(format!(
                "the frame has checksum {crc:#010x}, the index says {:#010x}",
                listed.crc
            )));
        }
        unpacker
            .unpack(frame, count, number_bytes(self.dtype))
            .map_err(wrong)
    }

    fn read_all<'b>(
        &self,
        into: &'b mut [MaybeUninit<u8>],
        offset: u64,
    ) -> Result<&'b [u8], Fault> {
        let length = into.len();
        let mut done = 0;
        while done < length {
            match rustix::io::pread(&self.data.file, &mut into[done..], offset + done as u64) {
                Ok(([], _)) => return Err(self.data.ends_before(offset, length as u64)),
                Ok((read, _)) => done += read.len(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(super::dataset::io(
                        "reading",
                        &self.data.path,
                        &error.into(),
                    ));
                }
            }
        }
        self.reader
            .data_bytes
            .fetch_add(length as u64, Ordering::Relaxed);
        // SAFETY: `pread` has written all `length` bytes.
        Ok(unsafe { std::slice::from_raw_parts(into.as_ptr().cast(), length) })
    }
}

fn as_uninit(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the same bytes; whoever reads into them writes only whole,
    // initialised bytes, so they stay initialised.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// Moves to the next slab: on in `split`, then in the dimensions before it.
fn next_part(at: &mut [u64], count: &[u64], split: usize, span: u64) -> bool {
    if at.is_empty() {
        return false;
    }
    at[split] += span;
    if at[split] < count[split] {
        return true;
    }
    at[split] = 0;
    for dimension in (0..split).rev() {
        at[dimension] += 1;
        if at[dimension] < count[dimension] {
            return true;
        }
        at[dimension] = 0;
    }
    false
}
