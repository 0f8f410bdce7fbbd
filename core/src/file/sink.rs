//! Appending a step's blocks to a data segment.
//!
//! ```text
//! contiguous block ── checksum each tile ──> pwritev from the caller's memory      0 copies
//! strided block ── gather + checksum ──> bounce buffer ──> pwrite                  1 copy
//! numbers to be rounded ── gather, round + checksum ──> bounce buffer ──> pwrite   1 copy
//! compressed block ── checksum each tile, pack ──> frame ── bounce buffer ──> pwrite  1 copy
//! any block, O_DIRECT ── copy or gather + checksum ──> aligned bounce ──> pwrite   1 copy
//! ```
//! With O_DIRECT, what begins on a page in memory as well goes without the copy.
//! Blocks of a page or more begin on a page; smaller ones on a multiple of 64.
//! What lies between is written as zeros, never left out.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;

use panta_transports::copy::{
    CopyCounter, CopyError, StridedRef, TILE_BYTES, TileGather, TileVisit, checksum,
    checksum_tiles, copy_bytes,
};
use panta_transports::time::{Wait, WaitError};

use super::dataset::io as io_fault;
use super::pages::PAGE_BYTES;
use super::sections::Frame;
use crate::error::Fault;
use crate::frames::{FRAME_BYTES, Packer};
use crate::spans::{Page, pages};

/// Bytes of the buffer that strided blocks go through.
const BOUNCE_BYTES: usize = 4 << 20;
/// Contiguous bytes checksummed, then written, at a time, while they are in cache.
const PIECE_BYTES: usize = 1 << 20;
/// The most blocks, and gaps between them, written in one call.
const MAX_SLICES: usize = 512;
/// Where a block smaller than a page may begin.
const SMALL_ALIGNMENT: u64 = 64;

static ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];

/// The buffer that strided blocks go through; made when first needed.
#[derive(Default)]
pub(super) struct Bounce(Vec<Page>);

impl std::fmt::Debug for Bounce {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Bounce({} pages)", self.0.len())
    }
}

impl Bounce {
    fn bytes(&mut self) -> &mut [u8] {
        if self.0.is_empty() {
            self.0 = pages(BOUNCE_BYTES);
        }
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// Appends to one data segment, from one place on, for one step.
pub(super) struct Sink<'s> {
    pub(super) file: &'s File,
    pub(super) path: &'s Path,
    pub(super) direct: bool,
    pub(super) bounce: &'s mut Bounce,
    pub(super) copies: &'s CopyCounter,
    pub(super) wait: &'s Wait,
    /// Where the next byte goes.
    pub(super) offset: u64,
    /// Up to where bytes are with the system; what follows is in `slices` or
    /// in the first `held` bytes of `bounce`, never in both.
    flushed: u64,
    slices: Vec<IoSlice<'s>>,
    held: usize,
}

impl<'s> Sink<'s> {
    pub(super) fn new(
        (file, path): (&'s File, &'s Path),
        direct: bool,
        bounce: &'s mut Bounce,
        (copies, wait): (&'s CopyCounter, &'s Wait),
        offset: u64,
    ) -> Self {
        Self {
            file,
            path,
            direct,
            bounce,
            copies,
            wait,
            offset,
            flushed: offset,
            slices: Vec::new(),
            held: 0,
        }
    }

    /// Appends one block; returns where it begins.
    pub(super) fn block(
        &mut self,
        source: &StridedRef<'s>,
        crcs: &mut Vec<u32>,
        visit: &mut dyn TileVisit,
    ) -> Result<u64, Fault> {
        let bytes = source.bytes();
        let small = bytes < PAGE_BYTES;
        self.pad_to(if small { SMALL_ALIGNMENT } else { PAGE_BYTES })?;
        if self.direct && small && (self.capacity() - self.held) as u64 <= bytes {
            // O_DIRECT writes whole pages: this block begins a new one.
            self.pad_to(PAGE_BYTES)?;
            self.flush()?;
        }
        let begin = self.offset;
        match source.as_slice().filter(|_| !visit.changes()) {
            Some(bytes) if self.direct => self.contiguous_direct(bytes, crcs, visit)?,
            Some(bytes) => self.contiguous(bytes, crcs, visit)?,
            None => self.strided(source, crcs, visit)?,
        }
        Ok(begin)
    }

    /// Appends one block as frames, which `frames` lists; returns where
    /// it begins and how many bytes they are.
    pub(super) fn compressed(
        &mut self,
        source: &StridedRef<'s>,
        (packer, number_bytes): (&mut Packer, usize),
        (crcs, frames): (&mut Vec<u32>, &mut Vec<Frame>),
        visit: &mut dyn TileVisit,
    ) -> Result<(u64, u64), Fault> {
        self.pad_to(SMALL_ALIGNMENT)?;
        let begin = self.offset;
        if let Some(bytes) = source.as_slice().filter(|_| !visit.changes()) {
            for cells in bytes.chunks(FRAME_BYTES) {
                checksum_tiles(cells, crcs, &mut |tile| visit.look(tile));
                let frame = packer.pack(cells, number_bytes).unwrap_or(cells);
                frames.push(listed(frame));
                self.append(frame)?;
            }
        } else {
            let mut gather = TileGather::new(source).map_err(|error| self.cannot_copy(&error))?;
            while gather.left() > 0 {
                let count = gather.fill(&mut packer.cells, crcs, visit, self.copies);
                let frame = packer.pack_own(count, number_bytes);
                frames.push(listed(frame));
                self.append(frame)?;
            }
        }
        Ok((begin, self.offset - begin))
    }

    /// Appends bytes through the buffer, which goes to the system only when it is full:
    /// O_DIRECT writes whole pages.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if !self.slices.is_empty() {
            self.flush()?;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let held = self.held;
            let count = rest.len().min(self.capacity() - held);
            if count == 0 {
                self.flush()?;
                continue;
            }
            let room = &mut self.bounce.bytes()[held..held + count];
            copy_bytes(room, &rest[..count], self.copies);
            self.advance(count);
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Pads to a page and hands everything to the system; returns the end.
    pub(super) fn finish(mut self) -> Result<u64, Fault> {
        self.pad_to(PAGE_BYTES)?;
        self.flush()?;
        Ok(self.offset)
    }

    fn contiguous(
        &mut self,
        bytes: &'s [u8],
        crcs: &mut Vec<u32>,
        visit: &mut dyn TileVisit,
    ) -> Result<(), Fault> {
        if self.held > 0 {
            self.flush()?;
        }
        for piece in bytes.chunks(PIECE_BYTES) {
            checksum_tiles(piece, crcs, &mut |tile| visit.look(tile));
            self.push(piece)?;
        }
        Ok(())
    }

    fn push(&mut self, piece: &'s [u8]) -> Result<(), Fault> {
        self.slices.push(IoSlice::new(piece));
        self.offset += piece.len() as u64;
        if self.slices.len() >= MAX_SLICES || self.offset - self.flushed >= PIECE_BYTES as u64 {
            self.flush()?;
        }
        Ok(())
    }

    fn contiguous_direct(
        &mut self,
        bytes: &'s [u8],
        crcs: &mut Vec<u32>,
        visit: &mut dyn TileVisit,
    ) -> Result<(), Fault> {
        let page = PAGE_BYTES as usize;
        let mut rest = bytes;
        if bytes.len() >= page && bytes.as_ptr().align_offset(page) == 0 {
            self.flush()?;
            let whole = bytes.len() - bytes.len() % page;
            for piece in bytes[..whole].chunks(BOUNCE_BYTES) {
                checksum_tiles(piece, crcs, &mut |tile| visit.look(tile));
                self.write(piece, self.offset)?;
                self.offset += piece.len() as u64;
                self.flushed = self.offset;
            }
            rest = &bytes[whole..];
        }
        while !rest.is_empty() {
            let room = self.capacity() - self.held;
            let count = if rest.len() <= room {
                rest.len()
            } else {
                room - room % TILE_BYTES
            };
            if count == 0 {
                self.flush()?;
                continue;
            }
            let held = self.held;
            let room = &mut self.bounce.bytes()[held..held + count];
            copy_bytes(room, &rest[..count], self.copies);
            checksum_tiles(room, crcs, &mut |tile| visit.look(tile));
            self.advance(count);
            rest = &rest[count..];
        }
        Ok(())
    }

    fn strided(
        &mut self,
        source: &StridedRef<'s>,
        crcs: &mut Vec<u32>,
        visit: &mut dyn TileVisit,
    ) -> Result<(), Fault> {
        if !self.slices.is_empty() {
            self.flush()?;
        }
        let mut gather = TileGather::new(source).map_err(|error| self.cannot_copy(&error))?;
        while gather.left() > 0 {
            let filled = self.held..self.capacity();
            let room = &mut self.bounce.bytes()[filled];
            let count = gather.fill(room, crcs, visit, self.copies);
            self.advance(count);
            if count == 0 {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn cannot_copy(&self, error: &CopyError) -> Fault {
        Fault::io(
            format!("gathering a block for {}", self.path.display()),
            error,
        )
    }

    /// Bytes of the buffer that are used: as many as stay in cache, or as a
    /// disk likes to get at once.
    fn capacity(&self) -> usize {
        if self.direct {
            BOUNCE_BYTES
        } else {
            PIECE_BYTES
        }
    }

    fn advance(&mut self, count: usize) {
        self.held += count;
        self.offset += count as u64;
    }

    /// Writes zeros up to a multiple of `alignment`, at most a page.
    fn pad_to(&mut self, alignment: u64) -> Result<(), Fault> {
        let count = (self.offset.next_multiple_of(alignment) - self.offset) as usize;
        if count == 0 {
            return Ok(());
        }
        if self.direct || self.held > 0 {
            if self.capacity() - self.held < count {
                self.flush()?;
            }
            let held = self.held;
            self.bounce.bytes()[held..held + count].fill(0);
            self.advance(count);
            return Ok(());
        }
        self.push(&ZEROS[..count])
    }

    /// Hands all pending bytes to the system.
    fn flush(&mut self) -> Result<(), Fault> {
        if self.held > 0 {
            let (at, held) = (self.flushed, self.held);
            let bytes = &bytemuck::cast_slice::<Page, u8>(&self.bounce.0)[..held];
            self.write(bytes, at)?;
            self.held = 0;
        }
        let mut slices = std::mem::take(&mut self.slices);
        let mut left = &mut slices[..];
        let mut at = self.flushed;
        while !left.is_empty() {
            self.check_interrupt()?;
            match rustix::io::pwritev(self.file, left, at) {
                Ok(0) => return Err(self.cannot_write(&io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.cannot_write(&error.into())),
            }
        }
        slices.clear();
        self.slices = slices;
        self.flushed = self.offset;
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), Fault> {
        self.check_interrupt()?;
        self.file
            .write_all_at(bytes, at)
            .map_err(|error| self.cannot_write(&error))
    }

    fn cannot_write(&self, error: &io::Error) -> Fault {
        io_fault("writing", self.path, error)
    }

    /// A slow disk is no reason to give a step up; the caller's wish is.
    fn check_interrupt(&self) -> Result<(), Fault> {
        match self.wait.slice() {
            Err(WaitError::Interrupted) => Err(Fault::wait(
                WaitError::Interrupted,
                format!("the disk under {}", self.path.display()),
            )),
            _ => Ok(()),
        }
    }
}

/// What the index says of a frame, which is at most [`FRAME_BYTES`] long.
fn listed(frame: &[u8]) -> Frame {
    Frame {
        bytes: frame.len() as u32,
        crc: checksum(frame),
    }
}
