//! One rank's segments of one epoch: `data.E.R` and `index.E.R`.
//!
//! Only this rank writes them. They are made with the first block it puts. What
//! a step that was given up has left is cut off when the next one begins: by
//! then it is known everywhere whether it was sealed.

use panta_transports::copy::{CopyCounter, StridedRef};
use panta_transports::time::{Wait, wall_clock_ns};

use super::dataset::{Dataset, Instance, Named, sync_directory};
use super::pages::{FilePage, PAGE_BYTES, Role, SegmentReference};
use super::sections::{Section, SectionEntry};
use super::sink::{Bounce, Sink};
use crate::codec::Encoder;
use crate::config::Compression;
use crate::engine::{Captured, PutBlock, Source};
use crate::error::Fault;
use crate::frames::{Packer, number_bytes};
use crate::model::StepHead;
use crate::spans::{Page, Spans, pages};

/// How a rank writes.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) dataset: Dataset,
    pub(super) instance: Instance,
    pub(super) epoch: u64,
    pub(super) rank: u32,
    pub(super) direct: bool,
    pub(super) compression: Compression,
    /// Force each step to disk before it is sealed.
    pub(super) sync_steps: bool,
}

/// Ends of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    data: u64,
    index: u64,
}

#[derive(Debug)]
struct Files {
    data: Named,
    index: Named,
}

/// One rank's segments of one epoch.
#[derive(Debug)]
pub(super) struct Segment {
    manner: Manner,
    files: Option<Files>,
    /// Behind the last sealed step.
    sealed: Ends,
    /// Behind the step that was captured and whose fate is not known.
    captured: Option<Ends>,
    bounce: Bounce,
    /// Made with the files, where blocks are compressed.
    packer: Option<Packer>,
}

impl Segment {
    pub(super) fn new(manner: Manner) -> Self {
        Self {
            manner,
            files: None,
            sealed: Ends {
                data: PAGE_BYTES,
                index: PAGE_BYTES,
            },
            captured: None,
            bounce: Bounce::default(),
            packer: None,
        }
    }

    /// Cuts off what a step that was given up has left.
    pub(super) fn begin(&mut self) -> Result<(), Fault> {
        if self.captured.take().is_some() {
            self.cut_off()?;
        }
        Ok(())
    }

    fn cut_off(&self) -> Result<(), Fault> {
        if let Some(files) = &self.files {
            files.data.cut(self.sealed.data)?;
            files.index.cut(self.sealed.index)?;
        }
        Ok(())
    }

    /// The step's fate is known: sealed.
    pub(super) fn keep(&mut self) {
        if let Some(captured) = self.captured.take() {
            self.sealed = captured;
        }
    }

    /// Appends the blocks and their index section.
    pub(super) fn capture(
        &mut self,
        head: &StepHead,
        puts: &[PutBlock<'_>],
        spans: &Spans,
        (copies, wait): (&CopyCounter, &Wait),
    ) -> Result<Captured, Fault> {
        if puts.is_empty() {
            return Ok(Captured::default());
        }
        let captured = self.append(head, puts, spans, (copies, wait));
        if captured.is_err() {
            // Room for the next try, where the disk is full. That the step
            // failed is what is told.
            let _ = self.cut_off();
        }
        captured
    }

    fn append(
        &mut self,
        head: &StepHead,
        puts: &[PutBlock<'_>],
        spans: &Spans,
        context: (&CopyCounter, &Wait),
    ) -> Result<Captured, Fault> {
        let files = match self.files.take() {
            Some(files) => files,
            None => self.create()?,
        };
        let files = self.files.insert(files);
        if let (Compression::Zstd(level), None) = (self.manner.compression, &self.packer) {
            self.packer = Some(Packer::new(level.into())?);
        }
        let mut stats = Vec::with_capacity(puts.len());
        let mut section = Section {
            instance: self.manner.instance,
            epoch: head.epoch,
            step: head.step,
            rank: self.manner.rank,
            data_offset: self.sealed.data,
            data_length: 0,
            entries: Vec::with_capacity(puts.len()),
            crcs: Vec::new(),
            frames: self.packer.is_some().then(Vec::new),
        };
        let mut sink = Sink::new(
            (&files.data.file, &files.data.path),
            self.manner.direct,
            &mut self.bounce,
            context,
            self.sealed.data,
        );
        let mut in_order: Vec<usize> = (0..puts.len()).collect();
        in_order.sort_by_key(|at| puts[*at].order);
        stats.resize(puts.len(), None);
        for at in in_order {
            let put = &puts[at];
            let source = source_of(put, spans)?;
            let mut pass = spans.pass(put);
            let first_tile = section.crcs.len() as u64;
            let first_frame = section.frames.as_ref().map_or(0, Vec::len) as u64;
            let crcs = &mut section.crcs;
            let visit = &mut pass;
            let (offset, stored) = match (&mut self.packer, &mut section.frames) {
                (Some(packer), Some(frames)) => {
                    let number_bytes = number_bytes(put.definition.dtype);
                    sink.compressed(&source, (packer, number_bytes), (crcs, frames), visit)?
                }
                _ => (sink.block(&source, crcs, visit)?, source.bytes()),
            };
            stats[at] = pass.finish();
            section.entries.push(SectionEntry {
                variable: put.variable,
                order: put.order,
                offset,
                bytes: source.bytes(),
                first_tile,
                stored,
                first_frame,
            });
        }
        let data_end = sink.finish()?;
        section.data_length = data_end - self.sealed.data;
        let (bytes, index_crc) = section.encode();
        files.index.write_at(&bytes, self.sealed.index)?;
        if self.manner.sync_steps {
            files.data.sync()?;
            files.index.sync()?;
        }
        let reference = SegmentReference {
            rank: self.manner.rank,
            index_crc,
            index_offset: self.sealed.index,
            index_length: bytes.len() as u64,
            data_offset: section.data_offset,
            data_length: section.data_length,
        };
        self.captured = Some(Ends {
            data: data_end,
            index: self.sealed.index + bytes.len() as u64,
        });
        let mut contribution = Encoder::default();
        reference.encode(&mut contribution);
        Ok(Captured {
            stats,
            contribution: contribution.finish(),
        })
    }

    fn create(&self) -> Result<Files, Fault> {
        let manner = &self.manner;
        let make = |role, direct| -> Result<Named, Fault> {
            let path = manner.dataset.segment(role, manner.epoch, manner.rank);
            let named = Named::create(path, direct)?;
            let page = FilePage {
                role,
                instance: manner.instance,
                epoch: manner.epoch,
                rank: manner.rank,
                created_ns: wall_clock_ns(),
                compressed: manner.compression != Compression::None,
            };
            // O_DIRECT wants memory that begins on a page.
            let mut memory = pages(PAGE_BYTES as usize);
            let aligned: &mut [u8] = bytemuck::cast_slice_mut::<Page, u8>(&mut memory);
            aligned
                .iter_mut()
                .zip(page.encode())
                .for_each(|(to, from)| *to = from);
            named.write_at(aligned, 0)?;
            Ok(named)
        };
        let files = Files {
            data: make(Role::Data, manner.direct)?,
            index: make(Role::Index, false)?,
        };
        if manner.sync_steps {
            sync_directory(manner.dataset.directory())?;
        }
        Ok(files)
    }

    /// Forces everything to disk.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        if let Some(files) = &self.files {
            files.data.sync()?;
            files.index.sync()?;
        }
        Ok(())
    }
}

fn source_of<'a>(put: &PutBlock<'a>, spans: &'a Spans) -> Result<StridedRef<'a>, Fault> {
    let wrong = |problem: &dyn std::fmt::Display| {
        Fault::io(
            format!("taking a block of `{}`", put.definition.name),
            problem,
        )
    };
    match &put.source {
        Source::Memory(memory) => Ok(*memory),
        Source::Span(span) => {
            let bytes = spans
                .bytes(*span)
                .ok_or_else(|| wrong(&"its span is not of this step"))?;
            StridedRef::contiguous(bytes, put.definition.dtype.size_bytes(), put.count)
                .map_err(|error| wrong(&error))
        }
    }
}
