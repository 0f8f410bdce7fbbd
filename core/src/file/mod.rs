//! `file:` steps in a directory, appended by their writers and followed live by readers.
//!
//! ```text
//! run42.panta/
//!   lock          held while a writer lives              written by the root
//!   commits       one self-checksummed, chained record a step       the root
//!   meta          schemas and layouts once, a record a step         the root
//!   data.E.R      the blocks that rank R put in epoch E        that rank alone
//!   index.E.R     where they lie, one CRC32C per tile          that rank alone
//!   cursors/NAME  how far a reader group has come              that group's root
//! ```
//! A step's life: every rank appends its blocks and an index section (`capture`);
//! the root appends the step's record to `meta` and then one commit record that
//! names all of it with lengths and checksums (`seal`). What no whole commit
//! record names does not exist.
//!
//! It promises: a step is seen whole or not at all, also after `kill -9`; bytes
//! are written from the caller's memory, without a copy where they lie
//! contiguous; nothing read from a file is believed before it was checked; a
//! reader that reaches the end learns whether the writer lives, closed or died.
//! `docs/format.md` gives every byte.
//!
//! It does not: lock readers out, trim old steps, write through mmap, or work
//! where the file system has no locks that end with their process.

mod cursor;
mod dataset;
mod fetch;
mod lock;
mod log;
mod pages;
mod reader;
mod resume;
mod sections;
mod segment;
mod sink;
mod stored;
#[cfg(test)]
mod tests;
pub(crate) mod watch;
mod writer;

pub use pages::{Commit, CommitKind, PartReference, SegmentReference, parse_page};
pub use reader::{FileReader, ReadCounts};
pub(crate) use resume::remove_unless_written;
pub use sections::{Found, Frame, PartKind, Section, SectionEntry, parse_part, parse_section};

use std::sync::Arc;

use crate::config::Engine;
use crate::engine::{
    EngineFactory, OpenArguments, PreparedWriter, ReaderEngine, Resume, Start, WriterEngine,
};
use crate::error::OpenError;

/// Opens `file:` streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileEngine;

impl EngineFactory for FileEngine {
    fn engine(&self) -> Engine {
        Engine::File
    }

    fn prepare_writer(
        &self,
        arguments: &OpenArguments<'_>,
        resume: Resume,
    ) -> Result<PreparedWriter, OpenError> {
        writer::prepare(arguments, resume)
    }

    fn attach_writer(
        &self,
        arguments: &OpenArguments<'_>,
        prepared: &PreparedWriter,
    ) -> Result<Box<dyn WriterEngine>, OpenError> {
        Ok(Box::new(writer::FileWriter::attach(arguments, prepared)?))
    }

    fn prepare_reader(
        &self,
        arguments: &OpenArguments<'_>,
        _start: &Start,
    ) -> Result<Vec<u8>, OpenError> {
        reader::prepare(arguments)
    }

    fn attach_reader(
        &self,
        arguments: &OpenArguments<'_>,
        start: &Start,
        ticket: &[u8],
    ) -> Result<Arc<dyn ReaderEngine>, OpenError> {
        Ok(Arc::new(FileReader::attach(arguments, start, ticket)?))
    }
}
