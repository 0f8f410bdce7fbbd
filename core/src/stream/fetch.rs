//! Reading boxes: which blocks, and where their bytes are in their writers' memory.
//!
//! ```text
//!   read ──plan──> pieces of blocks ──┬─ mapped:  one copy, checksums compared on the way
//!                                     └─ else, or compressed: `haul` brings their tiles, several ranks at once
//! ```
//! Pieces go into the array in the order of (rank, put), so that the highest
//! wins, as on every engine.

use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use panta_transports::copy::{
    CopyCounter, CopyError, LayoutError, StoredBlock, StridedMut, StridedRef, copy,
    copy_box_verified,
};
use panta_transports::shm::Mapped;
use panta_transports::time::Wait;

use super::haul::{Haul, Load};
use super::peers::Peers;
use super::slot::{self, Spot};
use super::step::StreamStep;
use crate::engine::{Read, Wanted};
use crate::error::{Fault, GetError, Place};
use crate::model::{Dims, Entry, StepMeta};
use crate::plan::{Piece, Wish};

/// Does the reads of one call.
pub(super) struct Fetch<'a> {
    pub(super) step: &'a StepMeta,
    pub(super) own: &'a StreamStep,
    /// The stream and the rank.
    pub(super) stream: &'a Place,
    pub(super) verify: bool,
    pub(super) copies: &'a CopyCounter,
    /// Bytes taken out of the writers' memory, as they lie there.
    pub(super) fetched: &'a AtomicU64,
    pub(super) wait: &'a Wait,
}

/// What goes wrong with one block.
pub(super) enum Trouble {
    Fault(Fault),
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

/// A block as its step says that it is.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) entry: &'a Entry,
    /// Its place among the entry's blocks.
    pub(super) at: usize,
    pub(super) rank: u32,
    pub(super) spot: Spot,
    pub(super) header: Spot,
    pub(super) bytes: u64,
    /// Bytes of its frames, if it is compressed.
    pub(super) frames: &'a [u32],
}

impl<'a> Stored<'a> {
    pub(super) fn count(&self) -> &'a [u64] {
        &self.entry.blocks[self.at].block.count
    }

    pub(super) fn element(&self) -> usize {
        self.entry.definition.dtype.size_bytes()
    }

    pub(super) fn is_packed(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Where the checksums begin, counted from the block.
    pub(super) fn checksums_at(&self) -> u64 {
        let frames = self.frames.iter().map(|bytes| u64::from(*bytes));
        slot::checksums_at(if self.is_packed() {
            frames.sum()
        } else {
            self.bytes
        })
    }
}

impl<'a> Fetch<'a> {
    fn peers(&self) -> &Arc<Peers> {
        &self.own.peers
    }

    /// Where errors of a variable say they are.
    pub(super) fn place(&self, entry: &Entry) -> Place {
        self.place_of_step().of_variable(&entry.definition.name)
    }

    /// Where errors of the step say they are.
    pub(super) fn place_of_step(&self) -> Place {
        self.stream.clone().at_step(self.step.head.step)
    }

    /// Does them all.
    pub(super) fn run(&self, reads: &mut [Read<'_>]) -> Result<(), GetError> {
        let mut loads = Vec::new();
        for at in 0..reads.len() {
            let Some(entry) = self.step.entries.get(reads[at].entry) else {
                let fault = Fault::Refused {
                    peer: "the stream engine".into(),
                    why: format!("the step has no entry {}", reads[at].entry),
                };
                return Err(fault.at(self.place_of_step()).into());
            };
            self.read(entry, at, reads, &mut loads)?;
        }
        self.bring(&mut loads, reads)
    }

    fn read(
        &self,
        entry: &'a Entry,
        at: usize,
        reads: &mut [Read<'_>],
        loads: &mut Vec<Load<'a>>,
    ) -> Result<(), GetError> {
        let read = &mut reads[at];
        let count = Dims::from_slice(read.into.count());
        if count.contains(&0) {
            return Ok(());
        }
        let (only, found);
        let (pieces, step, apart) = match &read.wanted {
            Wanted::Block { block, start, step } => {
                only = self.whole(entry, block.0 as usize, start, count)?;
                (slice::from_ref(&only), Dims::from_slice(step), true)
            }
            Wanted::Array { start, step } => {
                let wish = Wish {
                    start,
                    count: &count,
                    step,
                };
                found = self.own.find(self.step, read.entry, &wish);
                if let Some((start, count)) = &found.hole {
                    self.fill(entry, &mut read.into, start.clone(), count.clone())?;
                }
                (&found.pieces[..], Dims::from_slice(step), found.apart)
            }
        };
        for piece in pieces {
            let block = piece.block;
            let explained = |trouble| self.explain(entry, block, trouble);
            let stored = self
                .stored(entry, block)
                .map_err(|it| explained(it.into()))?;
            let mapped = self.map(&stored).map_err(|it| explained(it.into()))?;
            match mapped {
                Some(mapped) if !stored.is_packed() => {
                    if !apart {
                        // What comes before must not go over it.
                        self.bring(loads, reads)?;
                    }
                    let into = &mut reads[at].into;
                    self.copy(&stored, &mapped, piece, &step, into)
                        .map_err(explained)?;
                }
                mapped => loads.push(Load {
                    stored,
                    mapped,
                    read: at,
                    piece: piece.clone(),
                    step: step.clone(),
                    apart,
                }),
            }
        }
        Ok(())
    }

    fn whole(
        &self,
        entry: &Entry,
        block: usize,
        start: &[u64],
        count: Dims,
    ) -> Result<Piece, GetError> {
        if block >= entry.blocks.len() {
            return Err(GetError::NoSuchBlock {
                place: self.place(entry),
                block: u32::try_from(block).unwrap_or(u32::MAX),
                blocks: entry.blocks.len(),
            });
        }
        Ok(Piece {
            block,
            from: Dims::from_slice(start),
            into: Dims::from_elem(0, count.len()),
            count,
        })
    }

    fn bring(&self, loads: &mut Vec<Load<'a>>, reads: &mut [Read<'_>]) -> Result<(), GetError> {
        if loads.is_empty() {
            return Ok(());
        }
        Haul::new(self).bring(&std::mem::take(loads), reads)
    }

    /// Copies a piece from where it lies.
    fn copy(
        &self,
        stored: &Stored<'_>,
        mapped: &Mapped,
        piece: &Piece,
        step: &[u64],
        into: &mut StridedMut<'_>,
    ) -> Result<(), Trouble> {
        let (bytes, crcs) = halves(mapped, stored.bytes)?;
        let block = StoredBlock::new(bytes, stored.element(), stored.count(), crcs)?;
        let mut there = into.sub_box(&piece.into, &piece.count)?;
        let (verify, copies) = (self.verify, self.copies);
        copy_box_verified(&mut there, &block, &piece.from, step, verify, copies)?;
        self.fetched.fetch_add(there.bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// Block and checksums in place, where the transport shares memory.
    pub(super) fn map(&self, stored: &Stored<'_>) -> Result<Option<Mapped>, Fault> {
        let room = match stored.is_packed() {
            true => slot::packed_room(stored.bytes, stored.frames),
            false => slot::room_of(stored.bytes),
        };
        self.peers().map(stored.rank, stored.spot, room, self.wait)
    }

    /// Where a block is.
    pub(super) fn stored(&self, entry: &'a Entry, at: usize) -> Result<Stored<'a>, Fault> {
        let block = &entry.blocks[at].block;
        let damaged = |problem: String| Fault::Corrupt {
            what: format!("what rank {} said of its blocks", block.rank),
            problem,
        };
        let bytes = entry.definition.byte_size(&block.count).unwrap_or(u64::MAX);
        let placed = self.own.place(self.step, block.rank, block.order);
        let Some(placed) = placed else {
            return Err(damaged(format!("it names no block {}", block.order)));
        };
        Ok(Stored {
            entry,
            at,
            rank: block.rank,
            spot: placed.block,
            header: placed.header,
            bytes,
            frames: placed.frames,
        })
    }

    /// Gives every cell the fill value; blocks then go over it.
    fn fill(
        &self,
        entry: &Entry,
        into: &mut StridedMut<'_>,
        start: Vec<u64>,
        count: Vec<u64>,
    ) -> Result<(), GetError> {
        let Some(fill) = &entry.definition.fill else {
            return Err(GetError::NotCovered {
                place: self.place(entry),
                start,
                count,
            });
        };
        let wrong = |problem: &dyn std::fmt::Display| GetError::Shape {
            place: self.place(entry),
            problem: problem.to_string(),
        };
        let (cells, element) = (into.count().to_vec(), into.element_bytes());
        if fill.len() != element {
            return Err(wrong(&format!("the fill value has {} bytes", fill.len())));
        }
        // SAFETY: with strides of zero every element is the fill value itself,
        // whose `element` bytes are borrowed while the view lasts.
        let one = unsafe {
            StridedRef::from_raw_parts(fill.as_ptr(), element, &cells, &vec![0; cells.len()])
        };
        let filled = one
            .map_err(CopyError::from)
            .and_then(|one| copy(into, &one, &CopyCounter::new()));
        filled.map_err(|error| wrong(&error))
    }

    /// The error in the words of who asked.
    pub(super) fn explain(&self, entry: &Entry, block: usize, trouble: Trouble) -> GetError {
        let place = self.place(entry);
        match trouble {
            Trouble::Fault(fault) => fault.at(place).into(),
            Trouble::Copy(CopyError::Tile(mismatch)) => GetError::Checksum {
                place,
                block: u32::try_from(block).unwrap_or(u32::MAX),
                writer_rank: entry.blocks[block].block.rank,
                problem: mismatch.to_string(),
            },
            Trouble::Copy(error) => GetError::Shape {
                place,
                problem: error.to_string(),
            },
        }
    }
}

/// A block and its checksums, out of their room.
pub(super) fn halves(room: &[u8], block_bytes: u64) -> Result<(&[u8], &[u32]), Fault> {
    let damaged = |problem: &str| Fault::Corrupt {
        what: "the memory that a writer shares".into(),
        problem: problem.into(),
    };
    let at = usize::try_from(slot::checksums_at(block_bytes)).unwrap_or(usize::MAX);
    let parts = room.split_at_checked(at);
    let (bytes, crcs) = parts.ok_or_else(|| damaged("a block is cut off"))?;
    let bytes = bytes.get(..block_bytes as usize).unwrap_or_default();
    let tiles = panta_transports::copy::tile_count(block_bytes) as usize;
    let crcs: &[u32] =
        bytemuck::try_cast_slice(crcs).map_err(|_| damaged("a block is not aligned"))?;
    let crcs = crcs.get(..tiles);
    Ok((bytes, crcs.ok_or_else(|| damaged("checksums are cut off"))?))
}
