//! Reading boxes: which blocks, where they lie, and what goes wrong, in the
//! words of who asked.
//!
//! ```text
//! box ── plan ──> pieces of blocks ── index section (read once a step) ──> `stored`
//! ```
//! Sections are read when a rank first needs a block of theirs, and kept with
//! the step. Segments stay open, a bounded number of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use panta_transports::copy::{CopyCounter, CopyError, StridedMut, StridedRef, copy};
use panta_transports::time::Wait;

use super::dataset::{Named, damaged};
use super::pages::{FilePage, Role};
use super::reader::{FileReader, FileStep, replaced};
use super::sections::{Section, parse_section};
use super::stored::{Stored, Trouble};
use crate::engine::{Read, Wanted};
use crate::error::{Fault, GetError, Place};
use crate::model::{Dims, Entry, StepMeta};
use crate::plan::{self, BlockIndex, Piece, Pieces, Wish};

/// Segments kept open.
const MAX_OPEN_SEGMENTS: usize = 256;

/// Segments that were opened, to be used again.
#[derive(Debug, Default)]
pub(super) struct OpenSegments(Mutex<BTreeMap<(Kind, u64, u32), Arc<Named>>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Data,
    Index,
}

impl OpenSegments {
    pub(super) fn close(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

pub(super) fn read(
    reader: &FileReader,
    step: &StepMeta,
    reads: &mut [Read<'_>],
    wait: &Wait,
) -> Result<(), GetError> {
    let no_entry = |what: String| -> GetError {
        let peer = "the file engine".to_owned();
        let place = reader.place.clone().at_step(step.head.step);
        Fault::Refused { peer, why: what }.at(place).into()
    };
    for read in reads {
        let Some(entry) = step.entries.get(read.entry) else {
            return Err(no_entry(format!("the step has no entry {}", read.entry)));
        };
        let Some(own) = step.engine.downcast_ref::<FileStep>() else {
            return Err(no_entry("the step is of another engine".into()));
        };
        let one = One {
            reader,
            own,
            step,
            entry,
            wait,
        };
        one.read(read)?;
    }
    Ok(())
}

/// One read of one variable.
struct One<'a> {
    reader: &'a FileReader,
    own: &'a FileStep,
    step: &'a StepMeta,
    entry: &'a Entry,
    wait: &'a Wait,
}

impl One<'_> {
    /// What errors say of where they are; a good read does without.
    #[cold]
    fn place(&self) -> Place {
        let place = self.reader.place.clone().at_step(self.step.head.step);
        place.of_variable(&self.entry.definition.name)
    }

    fn read(&self, read: &mut Read<'_>) -> Result<(), GetError> {
        let count = Dims::from_slice(read.into.count());
        if count.contains(&0) {
            return Ok(());
        }
        match &read.wanted {
            Wanted::Block { block, start, step } => {
                let at = block.0 as usize;
                if at >= self.entry.blocks.len() {
                    return Err(GetError::NoSuchBlock {
                        place: self.place(),
                        block: block.0,
                        blocks: self.entry.blocks.len(),
                    });
                }
                let piece = Piece {
                    block: at,
                    from: start.clone(),
                    into: Dims::from_elem(0, count.len()),
                    count,
                };
                self.fetch(&piece, step, &mut read.into)
            }
            Wanted::Array { start, step } => {
                let wish = Wish {
                    start,
                    count: &count,
                    step,
                };
                let pieces = self.pieces(&wish, read.entry);
                if let Some((start, count)) = plan::first_uncovered(&wish, &pieces) {
                    self.fill(&mut read.into, start, count)?;
                }
                for piece in &pieces {
                    self.fetch(piece, step, &mut read.into)?;
                }
                Ok(())
            }
        }
    }

    fn pieces(&self, wish: &Wish<'_>, entry: usize) -> Pieces {
        let blocks = || {
            let blocks = self.entry.blocks.iter();
            BlockIndex::new(blocks.map(|it| (&it.block.start[..], &it.block.count[..])))
        };
        match self.own.indexes.get(entry) {
            Some(index) => plan::pieces(index.get_or_init(blocks), wish),
            None => plan::pieces(&blocks(), wish),
        }
    }

    /// Gives every cell the fill value; blocks then go over it.
    fn fill(
        &self,
        into: &mut StridedMut<'_>,
        start: Vec<u64>,
        count: Vec<u64>,
    ) -> Result<(), GetError> {
        let Some(fill) = &self.entry.definition.fill else {
            return Err(GetError::NotCovered {
                place: self.place(),
                start,
                count,
            });
        };
        let cells = into.count().to_vec();
        let element = into.element_bytes();
        if fill.len() != element {
            return Err(self.shape_error(&format!("the fill value has {} bytes", fill.len())));
        }
        // SAFETY: with strides of zero every element is the fill value itself,
        // whose `element` bytes are borrowed while the view lasts.
        let one = unsafe {
            StridedRef::from_raw_parts(fill.as_ptr(), element, &cells, &vec![0; cells.len()])
        };
        let filled = one
            .map_err(CopyError::from)
            .and_then(|one| copy(into, &one, &CopyCounter::new()));
        filled.map_err(|error| self.shape_error(&error))
    }

    fn shape_error(&self, problem: &dyn std::fmt::Display) -> GetError {
        GetError::Shape {
            place: self.place(),
            problem: problem.to_string(),
        }
    }

    /// Brings one piece.
    fn fetch(
        &self,
        piece: &Piece,
        step: &[u64],
        into: &mut StridedMut<'_>,
    ) -> Result<(), GetError> {
        self.try_fetch(piece, step, into)
            .map_err(|trouble| match trouble {
                Trouble::Fault(fault) => fault.at(self.place()).into(),
                Trouble::Copy(error) => self.shape_error(&error),
                Trouble::Tile(mismatch, offset) => {
                    let block = &self.entry.blocks[piece.block].block;
                    let path = self
                        .reader
                        .dataset
                        .segment(Role::Data, self.own.epoch, block.rank);
                    GetError::Checksum {
                        place: self.place(),
                        block: u32::try_from(piece.block).unwrap_or(u32::MAX),
                        writer_rank: block.rank,
                        problem: format!("{} at byte {offset}: {mismatch}", path.display()),
                    }
                }
            })
    }

    fn try_fetch(
        &self,
        piece: &Piece,
        step: &[u64],
        into: &mut StridedMut<'_>,
    ) -> Result<(), Trouble> {
        let block = &self.entry.blocks[piece.block].block;
        let section = self.section(block.rank)?;
        let wrong = |problem: String| damaged(&self.index_path(block.rank), 0, problem);
        let Some(found) = section.find(block.order) else {
            let problem = format!("the section has no block of order {}", block.order);
            return Err(wrong(problem).into());
        };
        let expected = self.entry.definition.byte_size(&block.count);
        if found.entry.variable != self.entry.variable || Some(found.entry.bytes) != expected {
            let problem = format!(
                "the block of order {} is of another variable or size than its step says",
                block.order
            );
            return Err(wrong(problem).into());
        }
        let data = self.open(Kind::Data, block.rank)?;
        let source = Stored {
            reader: self.reader,
            data: &data,
            found,
            count: &block.count,
            dtype: self.entry.definition.dtype,
            wait: self.wait,
            unpacker: RefCell::new(None),
        };
        if into.count() == &piece.count[..] {
            // One piece is all that was asked for.
            return source.fetch(&piece.from, step, into);
        }
        let mut into = into.sub_box(&piece.into, &piece.count)?;
        source.fetch(&piece.from, step, &mut into)
    }

    /// The file that a rank's index sections are in.
    #[cold]
    fn index_path(&self, rank: u32) -> PathBuf {
        let dataset = &self.reader.dataset;
        dataset.segment(Role::Index, self.own.epoch, rank)
    }

    /// A rank's index section of this step.
    fn section(&self, rank: u32) -> Result<&Section, Fault> {
        let found = self
            .own
            .segments
            .binary_search_by_key(&rank, |segment| segment.rank);
        let Ok(at) = found else {
            let step = self.step.head.step;
            let problem =
                format!("the commit record of step {step} names no section of rank {rank}");
            return Err(damaged(&self.index_path(rank), 0, problem));
        };
        if let Some(section) = self.own.sections[at].get() {
            return Ok(section);
        }
        let path = self.index_path(rank);
        let named = self.own.segments[at];
        let file = self.open(Kind::Index, rank)?;
        let bytes = file.read_checked(named.index_offset, named.index_length)?;
        self.reader
            .index_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let (section, crc) = parse_section(&bytes).map_err(|error| {
            damaged(
                &path,
                named.index_offset + error.offset as u64,
                error.problem,
            )
        })?;
        let head = &self.step.head;
        let says = (
            section.instance,
            (section.epoch, section.step, section.rank),
            (section.data_offset, section.data_length),
            crc,
        );
        let expected = (
            self.reader.instance,
            (head.epoch, head.step, rank),
            (named.data_offset, named.data_length),
            named.index_crc,
        );
        if says != expected {
            let problem = "the section is not the one that the commit record names";
            return Err(damaged(&path, named.index_offset, problem));
        }
        // Another thread may have been first; both read the same.
        Ok(self.own.sections[at].get_or_init(|| section))
    }

    /// A segment's file, checked to be of this dataset.
    fn open(&self, kind: Kind, rank: u32) -> Result<Arc<Named>, Fault> {
        let key = (kind, self.own.epoch, rank);
        let mut segments = self
            .reader
            .segments
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = segments.get(&key) {
            return Ok(Arc::clone(file));
        }
        let role = match kind {
            Kind::Data => Role::Data,
            Kind::Index => Role::Index,
        };
        let path = self.reader.dataset.segment(role, self.own.epoch, rank);
        let file = Named::open(path)?;
        let FilePage {
            instance,
            epoch,
            rank: stored_rank,
            ..
        } = file.file_page(role)?;
        if instance != self.reader.instance {
            return Err(replaced(&self.reader.dataset));
        }
        if (epoch, stored_rank) != (self.own.epoch, rank) {
            let problem = format!("the file says it is of epoch {epoch}, rank {stored_rank}");
            return Err(damaged(&file.path, 32, problem));
        }
        if segments.len() >= MAX_OPEN_SEGMENTS {
            segments.pop_first();
        }
        let file = Arc::new(file);
        segments.insert(key, Arc::clone(&file));
        Ok(file)
    }
}
