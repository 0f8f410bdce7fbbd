//! Bringing tiles from ranks whose memory is not shared.
//!
//! ```text
//!   load (a piece of a block) ── cut ──> jobs of a few MiB
//!   batch of jobs ── pushed, or ask every rank ── receive from each ──> check ──> user's array
//!      straight: whole tiles of one run go to where they are wanted
//!      edge:     less than a tile at an end of a run, by way of a buffer
//!      slab:     rows with gaps, by way of a buffer that holds the touched tiles in their places
//!   of a compressed block: the frames that hold the tiles ── unpack ──> as above
//! ```
//! Memory is bounded whatever is read: a batch is, and a block is walked in
//! slabs. With each job comes the header of its extent, after the bytes, which
//! tells that they were still the step's.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::Ordering;

use panta_transports::copy::{
    CopyError, StridedMut, StridedRef, TILE_BYTES, copy, copy_bytes, copy_bytes_uninit, tile_count,
    tiles_of_box, verify_tiles,
};
use panta_transports::coupling::Piece as Wanted;
use panta_transports::shm::Mapped;

use super::fetch::{Fetch, Stored, Trouble};
use super::peers::Ask;
use super::preload::Wish;
use super::slot::{STAMP_BYTES, Stamp};
use crate::engine::Read;
use crate::error::{Fault, GetError};
use crate::frames::{FRAME_BYTES, Unpacker, number_bytes};
use crate::model::Dims;
use crate::plan::Piece;

/// Bytes asked for at once, about.
const BATCH_BYTES: u64 = 32 << 20;
/// Jobs asked for at once.
const BATCH_JOBS: usize = 4096;
/// Bytes of a run in one job.
const RUN_BYTES: u64 = 8 << 20;
/// Bytes that a slab spans, tiles that are not touched included.
const SLAB_BYTES: u64 = 4 << 20;
const TILE: u64 = TILE_BYTES as u64;

/// A piece of a block that is to be brought.
pub(super) struct Load<'a> {
    pub(super) stored: Stored<'a>,
    /// A compressed block in place, where the transport shares memory.
    pub(super) mapped: Option<Mapped>,
    /// For which read.
    pub(super) read: usize,
    pub(super) piece: Piece,
    pub(super) step: Dims,
    /// Whether no other piece gives the same cells.
    pub(super) apart: bool,
}

/// Tiles of one block, and what becomes of them.
struct Job<'l, 'a> {
    load: &'l Load<'a>,
    /// Bytes of the block, each range from the beginning of a tile on.
    ranges: Vec<Range<u64>>,
    sink: Sink,
}

enum Sink {
    /// To the destination, from this byte on.
    Straight { at: u64 },
    /// These bytes of the block to the destination, from this byte on.
    Edge { bytes: Range<u64>, at: u64 },
    /// By way of the rows that hold them.
    Slab(Slab),
}

/// Rows of a block that lie together.
struct Slab {
    /// Their first byte in the block, and how many.
    begin: u64,
    bytes: u64,
    /// Cells of the rows per dimension, and the first wanted of them.
    rows: Vec<u64>,
    within: Vec<u64>,
    /// Where they go in the piece, and how many.
    at: Vec<u64>,
    part: Vec<u64>,
}

impl Job<'_, '_> {
    /// The block's byte that the buffer begins with.
    fn origin(&self) -> u64 {
        self.ranges.first().map_or(0, |first| first.start)
    }

    fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |last| last.end)
    }

    fn buffer_bytes(&self) -> usize {
        match self.sink {
            Sink::Straight { .. } => 0,
            _ => (self.end() - self.origin()) as usize,
        }
    }

    /// The tiles whose checksums are needed, and some between.
    fn tiles(&self) -> Range<u64> {
        self.origin() / TILE..tile_count(self.end())
    }

    fn traffic_bytes(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// The frames that hold the tiles, of a compressed block: which, where each begins
    /// in what is stored, and its bytes.
    fn frames(&self) -> impl Iterator<Item = (usize, u64, u32)> + '_ {
        let mut ranges = self
            .ranges
            .iter()
            .filter(|range| !range.is_empty())
            .peekable();
        let mut begin = 0_u64;
        let frames = self.load.stored.frames.iter().enumerate();
        frames.filter_map(move |(frame, &bytes)| {
            let at = begin;
            begin = begin.saturating_add(bytes.into());
            let cells = cells_of(frame);
            while ranges.next_if(|range| range.end <= cells.start).is_some() {}
            let is_touched = ranges.peek().is_some_and(|range| range.start < cells.end);
            is_touched.then_some((frame, at, bytes))
        })
    }

    /// Bytes of memory that it takes to bring it.
    fn cost_bytes(&self) -> u64 {
        let frames = self.frames().map(|(.., bytes)| u64::from(bytes));
        self.traffic_bytes() + frames.sum::<u64>()
    }
}

/// The block's bytes that a frame stands for; the last has fewer.
fn cells_of(frame: usize) -> Range<u64> {
    let begin = frame as u64 * FRAME_BYTES as u64;
    begin..begin + FRAME_BYTES as u64
}

/// See the module.
pub(super) struct Haul<'f, 'a> {
    fetch: &'f Fetch<'a>,
    /// Made with the first frame.
    unpacker: RefCell<Option<Unpacker>>,
}

impl<'f, 'a> Haul<'f, 'a> {
    pub(super) fn new(fetch: &'f Fetch<'a>) -> Self {
        Self {
            fetch,
            unpacker: RefCell::new(None),
        }
    }

    /// Brings them all; those of one read in their order.
    pub(super) fn bring(&self, loads: &[Load<'a>], reads: &mut [Read<'_>]) -> Result<(), GetError> {
        let explained = |load: &Load<'a>, trouble| {
            let stored = &load.stored;
            self.fetch.explain(stored.entry, stored.at, trouble)
        };
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        for load in loads {
            let contiguous = reads[load.read]
                .into
                .sub_box(&load.piece.into, &load.piece.count)
                .map_err(|error| explained(load, error.into()))?
                .is_contiguous();
            let mut cut = Cut::new(load, contiguous, self.fetch.verify);
            while let Some(job) = cut.next().map_err(|trouble| explained(load, trouble))? {
                batch_bytes += job.cost_bytes();
                batch.push(job);
                if batch_bytes >= BATCH_BYTES || batch.len() >= BATCH_JOBS {
                    self.carry(&batch, reads)?;
                    batch.clear();
                    batch_bytes = 0;
                }
            }
        }
        self.carry(&batch, reads)
    }

    /// Brings the jobs of a batch, checks them and puts them in place.
    fn carry(&self, batch: &[Job<'_, 'a>], reads: &mut [Read<'_>]) -> Result<(), GetError> {
        let mut received: Vec<Received> = batch
            .iter()
            .map(|job| Received::for_job(job, self.fetch.verify))
            .collect();
        let pushed = self.receive(batch, &mut received, reads, None)?;
        let is_stale = |job: &Job<'_, 'a>, received: &Received| {
            pushed.contains(&job.load.stored.rank) && self.check_stamp(job, received).is_err()
        };
        let stale = batch.iter().zip(&received);
        let stale = stale.filter(|(job, received)| is_stale(job, received));
        let mut stale: Vec<u32> = stale.map(|(job, _)| job.load.stored.rank).collect();
        if !stale.is_empty() {
            // What was pushed was not of the step any more when it went out.
            stale.dedup();
            self.receive(batch, &mut received, reads, Some(&stale))?;
        }
        for (job, received) in batch.iter().zip(&mut received) {
            let settled = self
                .unpack(job, received, reads)
                .and_then(|()| self.settle(job, received, reads));
            settled.map_err(|trouble| self.explained(job, trouble))?;
        }
        Ok(())
    }

    fn explained(&self, job: &Job<'_, 'a>, trouble: Trouble) -> GetError {
        let stored = &job.load.stored;
        self.fetch.explain(stored.entry, stored.at, trouble)
    }

    /// Receives the jobs of these ranks, by asking; or all, as pushed or by asking.
    /// Which ranks pushed.
    fn receive(
        &self,
        batch: &[Job<'_, 'a>],
        received: &mut [Received],
        reads: &mut [Read<'_>],
        only: Option<&[u32]>,
    ) -> Result<Vec<u32>, GetError> {
        let mut asks: Vec<Ask<'_>> = Vec::new();
        for (job, received) in batch.iter().zip(received) {
            let rank = job.load.stored.rank;
            let is_here = job.load.mapped.is_some();
            if is_here || only.is_some_and(|only| !only.contains(&rank)) {
                continue;
            }
            let ask = match asks.iter().position(|ask| ask.rank == rank) {
                Some(at) => &mut asks[at],
                None => {
                    asks.push(Ask::of(rank));
                    let last = asks.len() - 1;
                    &mut asks[last]
                }
            };
            self.ask(job, received, reads, ask)
                .map_err(|trouble| self.explained(job, trouble))?;
        }
        let Some(first) = batch.first().filter(|_| !asks.is_empty()) else {
            return Ok(Vec::new());
        };
        // Frames lie elsewhere in every step: nothing that could be subscribed to.
        let is_packed = batch.iter().any(|job| job.load.stored.is_packed());
        let (own, wait) = (self.fetch.own, self.fetch.wait);
        let brought = match only {
            None if !is_packed => own.peers.bring(own, &mut asks, wait),
            _ => own.peers.read(&mut asks, wait).map(|()| Vec::new()),
        };
        brought.map_err(|fault| self.explained(first, fault.into()))
    }

    /// Adds what is asked for one job: bytes, checksums, and the header at last.
    fn ask<'r>(
        &self,
        job: &Job<'_, 'a>,
        received: &'r mut Received,
        reads: &mut [Read<'_>],
        to: &mut Ask<'r>,
    ) -> Result<(), Trouble> {
        let stored = &job.load.stored;
        let order = stored.entry.blocks[stored.at].block.order;
        let mut ask = |at: u64, into: &'r mut [MaybeUninit<u8>]| {
            let fetched = into.len() as u64;
            self.fetch.fetched.fetch_add(fetched, Ordering::Relaxed);
            to.wishes.push(Wish::bytes(order, at, into.len() as u64));
            to.pieces.push(Wanted {
                region: stored.spot.region,
                offset: stored.spot.offset.saturating_add(at),
                into,
            });
        };
        if stored.is_packed() {
            for ((_, at, _), frame) in job.frames().zip(&mut received.frames) {
                ask(at, as_uninit(frame));
            }
        } else if let Sink::Straight { at } = job.sink {
            let length = job.traffic_bytes() as usize;
            // SAFETY: the piece's destination, which no other job of the batch
            // writes to and nobody looks at until the batch was received.
            let there = unsafe { straight(job.load, reads, at, length) }?;
            ask(job.origin(), there);
        } else {
            let mut rest = as_uninit(&mut received.buffer);
            let mut reached = job.origin();
            for range in &job.ranges {
                let (_, from) = rest.split_at_mut((range.start - reached) as usize);
                let (here, behind) = from.split_at_mut((range.end - range.start) as usize);
                if !here.is_empty() {
                    ask(range.start, here);
                }
                (rest, reached) = (behind, range.end);
            }
        }
        if !received.crcs.is_empty() {
            let first = stored.checksums_at() + job.tiles().start * 4;
            let crcs: &mut [u8] = bytemuck::cast_slice_mut(&mut received.crcs);
            ask(first, as_uninit(crcs));
        }
        to.wishes.push(Wish::header(order));
        to.pieces.push(Wanted {
            region: stored.header.region,
            offset: stored.header.offset,
            into: as_uninit(&mut received.stamp),
        });
        Ok(())
    }

    fn settle(
        &self,
        job: &Job<'_, 'a>,
        received: &Received,
        reads: &mut [Read<'_>],
    ) -> Result<(), Trouble> {
        self.check_stamp(job, received)?;
        let load = job.load;
        let read = &mut reads[load.read];
        let mut piece = read.into.sub_box(&load.piece.into, &load.piece.count)?;
        match &job.sink {
            Sink::Straight { at } => {
                let length = job.traffic_bytes() as usize;
                let whole = piece.as_uninit_slice().unwrap_or_default();
                let there = &whole[*at as usize..*at as usize + length];
                // SAFETY: the batch was received, and with it every one of these bytes.
                let there = unsafe { std::slice::from_raw_parts(there.as_ptr().cast(), length) };
                self.verify(job, received, there)
            }
            Sink::Edge { bytes, at } => {
                self.verify(job, received, &received.buffer)?;
                let begin = (bytes.start - job.origin()) as usize;
                let cells = &received.buffer[begin..][..(bytes.end - bytes.start) as usize];
                let source = StridedRef::contiguous(cells, 1, &[cells.len() as u64])?;
                let whole = piece.as_uninit_slice().unwrap_or_default();
                let there = &mut whole[*at as usize..][..cells.len()];
                // SAFETY: exactly these bytes, borrowed exclusively, only written.
                let mut there = unsafe {
                    let (first, count) = (there.as_mut_ptr().cast(), [there.len() as u64]);
                    StridedMut::from_raw_parts(first, 1, &count, &[1])
                }?;
                Ok(copy(&mut there, &source, self.fetch.copies)?)
            }
            Sink::Slab(slab) => {
                self.verify(job, received, &received.buffer)?;
                let begin = (slab.begin - job.origin()) as usize;
                // Tiles behind the last that is touched are not there.
                let rows = received.rows(begin, slab.bytes as usize);
                let block = StridedRef::contiguous(&rows, load.stored.element(), &slab.rows)?;
                let cells = block.sub_strided(&slab.within, &slab.part, &load.step)?;
                let mut there = piece.sub_box(&slab.at, &slab.part)?;
                Ok(copy(&mut there, &cells, self.fetch.copies)?)
            }
        }
    }

    /// Takes the frames of a compressed block apart, to where its tiles go otherwise.
    fn unpack(
        &self,
        job: &Job<'_, 'a>,
        received: &mut Received,
        reads: &mut [Read<'_>],
    ) -> Result<(), Trouble> {
        let stored = &job.load.stored;
        if !stored.is_packed() {
            return Ok(());
        }
        self.check_stamp(job, received)?;
        self.take_mapped(job, received)?;
        let number_bytes = number_bytes(stored.entry.definition.dtype);
        let mut unpacker = self.unpacker.borrow_mut();
        let unpacker = match unpacker.as_mut() {
            Some(unpacker) => unpacker,
            None => unpacker.insert(Unpacker::new()?),
        };
        for ((frame, ..), bytes) in job.frames().zip(&mut received.frames) {
            let cells = cells_of(frame);
            let count = stored.bytes.min(cells.end).saturating_sub(cells.start) as usize;
            std::mem::swap(&mut unpacker.packed, bytes);
            let damaged = |problem: String| Fault::Corrupt {
                what: format!("a compressed block of rank {}", stored.rank),
                problem,
            };
            let unpacked = unpacker.unpack(frame, count, number_bytes);
            unpacked.map_err(damaged)?;
            for range in &job.ranges {
                let (begin, end) = (range.start.max(cells.start), range.end.min(cells.end));
                if begin >= end {
                    continue;
                }
                let from = (begin - cells.start) as usize;
                let from = unpacker.cells.get(from..from + (end - begin) as usize);
                let from = from.ok_or_else(|| damaged("a frame is too short".into()))?;
                let at = begin - job.origin();
                let there = match job.sink {
                    Sink::Straight { at: first } => {
                        // SAFETY: the piece's destination, to which nothing else is written
                        // now.
                        unsafe { straight(job.load, reads, first + at, from.len()) }?
                    }
                    _ => as_uninit(&mut received.buffer[at as usize..][..from.len()]),
                };
                copy_bytes_uninit(there, from, self.fetch.copies);
            }
        }
        Ok(())
    }

    /// Frames and checksums of a block that is mapped.
    fn take_mapped(&self, job: &Job<'_, 'a>, received: &mut Received) -> Result<(), Fault> {
        let Some(mapped) = &job.load.mapped else {
            return Ok(());
        };
        let stored = &job.load.stored;
        let take = |at: u64, into: &mut [u8]| {
            let fetched = into.len() as u64;
            self.fetch.fetched.fetch_add(fetched, Ordering::Relaxed);
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let from = mapped.get(at..).and_then(|it| it.get(..into.len()));
            let from = from.ok_or_else(|| Fault::Corrupt {
                what: "the memory that a writer shares".into(),
                problem: "a block is cut off".into(),
            })?;
            copy_bytes(into, from, self.fetch.copies);
            Ok::<_, Fault>(())
        };
        for ((_, at, _), frame) in job.frames().zip(&mut received.frames) {
            take(at, frame)?;
        }
        let first = stored.checksums_at() + job.tiles().start * 4;
        take(first, bytemuck::cast_slice_mut(&mut received.crcs))
    }

    /// The bytes were the step's for as long as it took to bring them.
    fn check_stamp(&self, job: &Job<'_, 'a>, received: &Received) -> Result<(), Fault> {
        let stored = &job.load.stored;
        if job.load.mapped.is_some() {
            return Ok(());
        }
        let stamp = Stamp {
            epoch: self.fetch.step.head.epoch,
            step: self.fetch.step.head.step,
            rank: stored.rank,
        };
        if received.stamp == stamp.to_bytes() {
            return Ok(());
        }
        Err(Fault::Refused {
            peer: format!("rank {} of the writer", stored.rank),
            why: format!(
                "step {} is no longer in its memory; this reader was excluded, or let go of the step before it was read",
                stamp.step
            ),
        })
    }

    /// Compares the tiles with their checksums; `bytes` begin with the job's first.
    fn verify(&self, job: &Job<'_, 'a>, received: &Received, bytes: &[u8]) -> Result<(), Trouble> {
        if received.crcs.is_empty() {
            return Ok(());
        }
        let first = job.tiles().start;
        for range in &job.ranges {
            let tiles = &bytes[(range.start - job.origin()) as usize..];
            let tiles = &tiles[..(range.end - range.start) as usize];
            let crcs = &received.crcs[(range.start / TILE - first) as usize..];
            verify_tiles(tiles, crcs).map_err(|mut mismatch| {
                mismatch.tile_index += range.start / TILE;
                CopyError::from(mismatch)
            })?;
        }
        Ok(())
    }
}

/// What was received for one job.
struct Received {
    buffer: Vec<u8>,
    /// Of a compressed block, those that the job needs.
    frames: Vec<Vec<u8>>,
    crcs: Vec<u32>,
    stamp: [u8; STAMP_BYTES],
}

impl Received {
    fn for_job(job: &Job<'_, '_>, verify: bool) -> Self {
        let tiles = job.tiles();
        let tiles = if verify { tiles.end - tiles.start } else { 0 };
        Self {
            buffer: vec![0; job.buffer_bytes()],
            frames: job
                .frames()
                .map(|(.., bytes)| vec![0; bytes as usize])
                .collect(),
            crcs: vec![0; tiles as usize],
            stamp: [0; STAMP_BYTES],
        }
    }

    /// The rows of a slab; what lies behind the last touched tile is not looked at.
    fn rows(&self, begin: usize, bytes: usize) -> std::borrow::Cow<'_, [u8]> {
        match self.buffer.get(begin..begin + bytes) {
            Some(rows) => rows.into(),
            None => {
                let mut rows = self.buffer[begin..].to_vec();
                rows.resize(bytes, 0);
                rows.into()
            }
        }
    }
}

fn as_uninit(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the same bytes; whoever reads into them writes only whole,
    // initialised bytes, so they stay initialised.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// Bytes of a load's destination.
///
/// # Safety
/// Nobody else uses them while `'r` lasts, which ends before the reads do.
unsafe fn straight<'r>(
    load: &Load<'_>,
    reads: &mut [Read<'_>],
    at: u64,
    length: usize,
) -> Result<&'r mut [MaybeUninit<u8>], Trouble> {
    let read = &mut reads[load.read];
    let mut piece = read.into.sub_box(&load.piece.into, &load.piece.count)?;
    let whole = piece.as_uninit_slice().unwrap_or_default();
    let there = &mut whole[at as usize..at as usize + length];
    // SAFETY: these bytes, as the caller promised.
    Ok(unsafe { std::slice::from_raw_parts_mut(there.as_mut_ptr(), length) })
}

/// Cuts a load into jobs, one at a time.
struct Cut<'l, 'a> {
    load: &'l Load<'a>,
    verify: bool,
    /// The block's bytes that are wanted, if they are one run and may go straight.
    run: Option<Range<u64>>,
    /// How far the run is cut.
    reached: u64,
    /// The next slab; `None` after the last.
    at: Option<Vec<u64>>,
    split: usize,
    span: u64,
}

impl<'l, 'a> Cut<'l, 'a> {
    fn new(load: &'l Load<'a>, contiguous: bool, verify: bool) -> Self {
        let count = &load.piece.count;
        let run = run_of(load).filter(|_| contiguous && load.apart);
        let room = SLAB_BYTES - 2 * TILE;
        let stride = |dimension: usize| stride(&load.stored, dimension);
        // The outermost dimension of which at least one index fits.
        let split = (0..count.len()).find(|at| stride(*at) <= room).unwrap_or(0);
        let span = if count.is_empty() {
            1
        } else {
            let indices = (room / stride(split).max(1)).max(1);
            ((indices - 1) / load.step[split] + 1).min(count[split])
        };
        Self {
            load,
            verify,
            reached: run.as_ref().map_or(0, |run| run.start),
            at: Some(vec![0; count.len()]),
            run,
            split,
            span,
        }
    }

    fn next(&mut self) -> Result<Option<Job<'l, 'a>>, Trouble> {
        match self.run.clone() {
            Some(run) => Ok(self.next_of_run(&run)),
            None => self.next_slab(),
        }
    }

    fn next_of_run(&mut self, run: &Range<u64>) -> Option<Job<'l, 'a>> {
        let begin = self.reached;
        if begin >= run.end {
            return None;
        }
        let block_bytes = self.load.stored.bytes;
        let at = begin - run.start;
        // Without checks, no tile needs to be whole.
        let whole = !self.verify || begin.is_multiple_of(TILE);
        let last_whole = match run.end == block_bytes || !self.verify {
            true => run.end,
            false => run.end / TILE * TILE,
        };
        if whole && begin < last_whole {
            let end = last_whole.min((begin + RUN_BYTES) / TILE * TILE);
            self.reached = end;
            return Some(self.job(begin..end, Sink::Straight { at }));
        }
        let first = begin / TILE * TILE;
        let end = (first + TILE).min(run.end);
        self.reached = end;
        let bytes = begin..end;
        let tile = first..(first + TILE).min(block_bytes);
        Some(self.job(tile, Sink::Edge { bytes, at }))
    }

    fn job(&self, range: Range<u64>, sink: Sink) -> Job<'l, 'a> {
        Job {
            load: self.load,
            ranges: Vec::from([range]),
            sink,
        }
    }

    /// One slab: a single index in the dimensions before `split`.
    fn next_slab(&mut self) -> Result<Option<Job<'l, 'a>>, Trouble> {
        let Some(at) = self.at.take() else {
            return Ok(None);
        };
        let Load {
            stored,
            piece,
            step,
            ..
        } = self.load;
        let mut part = piece.count.to_vec();
        part.iter_mut().take(self.split).for_each(|side| *side = 1);
        if let Some(side) = part.get_mut(self.split) {
            *side = self.span.min(piece.count[self.split] - at[self.split]);
        }
        let from: Vec<u64> = (0..at.len())
            .map(|dimension| piece.from[dimension] + at[dimension] * step[dimension])
            .collect();
        let mut slab = Slab {
            begin: 0,
            bytes: 0,
            rows: vec![1; part.len()],
            within: vec![0; part.len()],
            at: at.clone(),
            part,
        };
        for (dimension, from) in from.iter().enumerate() {
            if dimension <= self.split {
                slab.begin += from * stride(stored, dimension);
            } else {
                slab.rows[dimension] = stored.count()[dimension];
                slab.within[dimension] = *from;
            }
        }
        if let Some(rows) = slab.rows.get_mut(self.split) {
            *rows = (slab.part[self.split] - 1) * step[self.split] + 1;
        }
        slab.bytes = slab.rows.iter().product::<u64>() * stored.element() as u64;
        let tiles = tiles_of_box(stored.count(), stored.element(), &from, &slab.part, step)?;
        let mut ranges: Vec<Range<u64>> = tiles
            .map(|tiles| tiles.start * TILE..(tiles.end * TILE).min(stored.bytes))
            .collect();
        // The buffer begins where the rows do.
        let origin = slab.begin / TILE * TILE;
        if ranges.first().is_some_and(|first| first.start > origin) {
            ranges.insert(0, origin..origin);
        }
        self.at = next_part(at, &piece.count, self.split, self.span);
        Ok(Some(Job {
            load: self.load,
            ranges,
            sink: Sink::Slab(slab),
        }))
    }
}

/// Bytes of all cells of one index of `dimension`.
fn stride(stored: &Stored<'_>, dimension: usize) -> u64 {
    let inner = stored.count()[dimension + 1..].iter().product::<u64>();
    inner * stored.element() as u64
}

/// The wanted bytes of the block, if they are one run.
fn run_of(load: &Load<'_>) -> Option<Range<u64>> {
    let (count, block) = (&load.piece.count, load.stored.count());
    let mut begin = 0;
    let mut whole_inside = true;
    for dimension in (0..count.len()).rev() {
        if count[dimension] > 1 && (load.step[dimension] != 1 || !whole_inside) {
            return None;
        }
        whole_inside &= count[dimension] == block[dimension];
        begin += load.piece.from[dimension] * stride(&load.stored, dimension);
    }
    let bytes = count.iter().product::<u64>() * load.stored.element() as u64;
    Some(begin..begin + bytes)
}

/// The next slab: on in `split`, then in the dimensions before it.
fn next_part(mut at: Vec<u64>, count: &[u64], split: usize, span: u64) -> Option<Vec<u64>> {
    *at.get_mut(split)? += span;
    if at[split] < count[split] {
        return Some(at);
    }
    at[split] = 0;
    for dimension in (0..split).rev() {
        at[dimension] += 1;
        if at[dimension] < count[dimension] {
            return Some(at);
        }
        at[dimension] = 0;
    }
    None
}
