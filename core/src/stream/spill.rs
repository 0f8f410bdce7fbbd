//! Steps that found no room in memory: on disk, in the format of `file:`.
//!
//! ```text
//! writer  begin      every rank: slot ──> its segment of the file       memory is free again
//!         put        the same, on a rank that needs more than it reserved
//!         end        up to the root, with the next step's blocks: where they are
//!         seal       root: the commit record; only then readers hear of it
//!         close      all of that, for what is left
//! reader  get        every rank by itself: the step is found in the file, and read
//! ```
//! It promises: a spilled step is read back with the same numbers, definitions
//! and checksums made anew from bytes that were compared with those made at put;
//! the dataset has its steps in the order of their numbers; it is gone when the stream was
//! closed and every group, and every cursor, had its steps. Else it stays, with all
//! steps that somebody did not let go of, and is read as `file:` from then on.
//!
//! It does not: keep steps for a later life of the writer to send, or give back disk
//! before the stream is closed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use panta_transports::copy::{CopyCounter, StridedRef, checksum_tiles};
use panta_transports::time::{Interrupt, Wait};

use super::contact::path_of;
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::config::{Engine, Options, Target};
use crate::engine::{
    Captured, EngineFactory, OpenArguments, PreparedWriter, PutBlock, Read, ReaderEngine, Resume,
    Sealing, Source, Start, WriterEngine,
};
use crate::error::{Failure, Fault, GetError, NextError, OpenError, Place};
use crate::file::FileEngine;
use crate::model::{Definition, Layout, Schema, StepHead, StepMeta, StepRecord};

/// How the dataset is called after the stream's life.
const SUFFIX: &str = "panta-spill";

/// Where a life of a stream spills to: a directory of its own.
pub(super) fn dataset_of(target: &Target, epoch: u64) -> PathBuf {
    let name = Path::new(&target.name).file_name();
    let name = name.map_or_else(
        || "stream".into(),
        |name| name.to_string_lossy().into_owned(),
    );
    let file = format!("{name}.{epoch}.{SUFFIX}");
    match &target.options.spill {
        Some(directory) => directory.join(file),
        None => path_of(target).with_file_name(file),
    }
}

/// The target under which the file engine opens a dataset.
fn target(dataset: &Path, options: Options) -> Target {
    Target {
        engine: Engine::File,
        name: dataset.to_string_lossy().into_owned(),
        options,
        given: BTreeSet::new(),
    }
}

/// The parameters of `file:` that follow from the stream's.
fn options(of: &Options) -> Options {
    Options {
        limit: of.limit,
        verify: of.verify,
        deadline: of.deadline,
        ..Options::default()
    }
}

/// Removes what earlier lives of the stream left beside `dataset`, as far as nobody writes
/// it: a stream that begins anew has taken all their steps back.
fn replace_earlier(dataset: &Path, stream: &str) {
    let life_of = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
        let (stream, life) = name.strip_suffix('.')?.rsplit_once('.')?;
        let is_number = !life.is_empty() && life.bytes().all(|it| it.is_ascii_digit());
        is_number.then(|| stream.to_owned())
    };
    let directory = match dataset.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (Some(own), Ok(there)) = (life_of(dataset), std::fs::read_dir(directory)) else {
        return;
    };
    for path in there.flatten().map(|entry| entry.path()) {
        let is_earlier =
            life_of(&path).as_ref() == Some(&own) && path.file_name() != dataset.file_name();
        if is_earlier && let Err(fault) = crate::file::remove_unless_written(&path) {
            let path = path.display();
            tracing::warn!(stream, %path, %fault, "what an earlier life spilled stays");
        }
    }
}

/// What the root prepares, for all ranks. A writer that begins anew replaces what earlier
/// lives left; one that resumes leaves it, since steps of theirs stand.
pub(super) fn prepare(
    arguments: &OpenArguments<'_>,
    resume: Resume,
    dataset: &Path,
) -> Result<Vec<u8>, OpenError> {
    if let Some(directory) = dataset.parent().filter(|it| !it.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|error| {
            let doing = format!("making {} to spill to", directory.display());
            Fault::io(doing, &error).at(Place::stream(arguments.stream))
        })?;
    }
    let target = target(dataset, options(&arguments.target.options));
    let arguments = OpenArguments {
        target: &target,
        ..arguments.clone()
    };
    let prepared = FileEngine.prepare_writer(&arguments, Resume::Fresh)?;
    if resume == Resume::Fresh {
        replace_earlier(dataset, arguments.stream);
    }
    let mut encoder = Encoder::default();
    encoder
        .u64(prepared.epoch)
        .u64(prepared.next_step)
        .bytes(&prepared.ticket);
    Ok(encoder.finish())
}

fn read_prepared(bytes: &[u8]) -> Result<PreparedWriter, DecodeError> {
    let mut from = Decoder::new(bytes);
    let prepared = PreparedWriter {
        epoch: from.u64()?,
        next_step: from.u64()?,
        ticket: from.bytes()?.to_vec(),
    };
    from.finish()?;
    Ok(prepared)
}

/// A block that lies in a slot, as it was put.
pub(super) struct Kept {
    pub(super) variable: u32,
    pub(super) definition: Arc<Definition>,
    pub(super) order: u32,
    pub(super) start: Vec<u64>,
    pub(super) count: Vec<u64>,
    /// Which extent of the slot, and where in it.
    pub(super) extent: usize,
    pub(super) at: u64,
}

impl Kept {
    pub(super) fn of(put: &PutBlock<'_>, extent: usize, at: u64) -> Self {
        Self {
            variable: put.variable,
            definition: Arc::clone(put.definition),
            order: put.order,
            start: put.start.to_vec(),
            count: put.count.to_vec(),
            extent,
            at,
        }
    }
}

/// A kept block, its bytes and their checksums.
pub(super) struct Stored<'a> {
    pub(super) kept: &'a Kept,
    pub(super) bytes: &'a [u8],
    pub(super) crcs: &'a [u32],
}

/// What one rank says of a step that it wrote to the file; `None`: it could not.
pub(super) type Written = (u64, Option<Vec<u8>>);

/// One writer rank's end of the file.
pub(super) struct Spill {
    file: Box<dyn WriterEngine>,
    dataset: PathBuf,
    place: Place,
    /// Written, and not told to the root yet.
    written: Vec<Written>,
    /// How many of these it is being told of.
    told: usize,
}

impl Spill {
    /// Joins what the root prepared.
    pub(super) fn attach(
        arguments: &OpenArguments<'_>,
        dataset: PathBuf,
        prepared: &[u8],
    ) -> Result<Self, OpenError> {
        let place = Place::stream(arguments.stream).on_rank(arguments.rank);
        let prepared = read_prepared(prepared)
            .map_err(|error| Fault::corrupt("the root's ticket", &error).at(place.clone()))?;
        let target = target(&dataset, options(&arguments.target.options));
        let arguments = OpenArguments {
            target: &target,
            // What goes to disk is no copy between writer and reader.
            copies: &CopyCounter::new(),
            ..arguments.clone()
        };
        Ok(Self {
            file: FileEngine.attach_writer(&arguments, &prepared)?,
            dataset,
            place,
            written: Vec::new(),
            told: 0,
        })
    }

    /// The path that readers find it at.
    pub(super) fn path(&self) -> String {
        let absolute = std::path::absolute(&self.dataset);
        let path = absolute.as_deref().unwrap_or(&self.dataset);
        path.to_string_lossy().into_owned()
    }

    /// Writes this rank's blocks of a step. That it failed is told to the root, not here:
    /// the step that begins does not depend on it.
    pub(super) fn write(
        &mut self,
        head: &StepHead,
        schema: &Arc<Schema>,
        blocks: &[Stored<'_>],
        wait: &Wait,
    ) {
        let written = self.try_write(head, schema, blocks, wait);
        let written = written.map_err(|failure| {
            tracing::error!(stream = %self.place.stream, step = head.step, %failure, "a step could not be spilled");
        });
        self.written.push((head.step, written.ok()));
    }

    fn try_write(
        &mut self,
        head: &StepHead,
        schema: &Arc<Schema>,
        blocks: &[Stored<'_>],
        wait: &Wait,
    ) -> Result<Vec<u8>, String> {
        let mut puts = Vec::with_capacity(blocks.len());
        for Stored { kept, bytes, crcs } in blocks {
            let mut found = Vec::with_capacity(crcs.len());
            checksum_tiles(bytes, &mut found, &mut |_| {});
            if found != *crcs {
                let name = &kept.definition.name;
                return Err(format!(
                    "a block of `{name}` changed in memory since its put"
                ));
            }
            let element = kept.definition.dtype.size_bytes();
            let source = StridedRef::contiguous(bytes, element, &kept.count);
            puts.push(PutBlock {
                variable: kept.variable,
                definition: &kept.definition,
                order: kept.order,
                start: &kept.start,
                count: &kept.count,
                source: Source::Memory(source.map_err(|error| error.to_string())?),
            });
        }
        let begun = self.file.begin(head, schema, &[]);
        begun.map_err(|error| error.to_string())?;
        let mut captured = Captured::default();
        let done = self.file.capture(head, &puts, &mut captured, wait);
        done.map_err(|error| error.to_string())?;
        // The segment grows by it; what no commit record names does not exist.
        self.file.finish(head, true);
        Ok(captured.contribution)
    }

    /// What the root has not heard of, and hears now.
    pub(super) fn take_written(&mut self) -> Vec<Written> {
        std::mem::take(&mut self.written)
    }

    /// What the root has not heard of; [`was_told`](Self::was_told) says whether it did.
    pub(super) fn tell_written(&mut self) -> Vec<Written> {
        self.told = self.written.len();
        self.written.clone()
    }

    /// Whether what was said last was heard.
    pub(super) fn was_told(&mut self, heard: bool) {
        let told = std::mem::take(&mut self.told);
        if heard {
            self.written.drain(..told);
        }
    }

    /// Makes a step that all ranks wrote visible in the file; root only.
    pub(super) fn seal(
        &mut self,
        (record, schema_bytes, layout_bytes): (&StepRecord, &Arc<[u8]>, &Arc<[u8]>),
        contributions: &[Vec<u8>],
        wait: &Wait,
    ) -> Result<(), Failure> {
        let place = self.place.clone().at_step(record.head.step);
        let damaged = |what: &str, error: &DecodeError| {
            Fault::corrupt(format!("the {what} of a step to spill"), error).at(place.clone())
        };
        let schema = Schema::from_bytes(schema_bytes).map_err(|error| damaged("schema", &error))?;
        let layout = Layout::from_bytes(layout_bytes).map_err(|error| damaged("layout", &error))?;
        let failed = |error: &dyn std::fmt::Display| {
            Fault::io("sealing a spilled step", error).at(place.clone())
        };
        let schema = Arc::new(schema);
        self.file
            .admit(&record.head, &schema, &[], wait)
            .map_err(|error| failed(&error))?;
        let sealing = Sealing {
            record,
            schema: &schema,
            schema_bytes,
            layout: &Arc::new(layout),
            layout_bytes,
            contributions,
        };
        self.file
            .seal(&sealing, wait)
            .map_err(|error| failed(&error))
    }

    /// Ends it. `needed` is whether somebody may still read from it.
    pub(super) fn close(mut self, root: bool, needed: bool, wait: &Wait) {
        if root {
            // A reader that goes on finds the end of the file, or its writer's death.
            let _ = self.file.close_root(wait);
        }
        let _ = self.file.close(wait);
        if root && needed {
            let path = self.path();
            tracing::warn!(%path, "steps that readers did not have are left there: open `file:{path}`");
        } else if root {
            let removed = std::fs::remove_dir_all(&self.dataset);
            if let Err(error) = removed {
                let path = self.dataset.display();
                tracing::warn!(%path, %error, "what was spilled could not be removed");
            }
        }
    }
}

/// One reader rank's end of the files that steps were spilled to.
pub(super) struct Spilled {
    options: Options,
    copies: CopyCounter,
    place: Place,
    open: Mutex<Option<Open>>,
}

struct Open {
    path: String,
    reader: Arc<dyn ReaderEngine>,
    /// The last step it gave.
    last: Option<StepMeta>,
}

/// A step in a file, and how it is read.
pub(super) struct Found {
    reader: Arc<dyn ReaderEngine>,
    meta: StepMeta,
}

impl Found {
    pub(super) fn read(&self, reads: &mut [Read<'_>], wait: &Wait) -> Result<(), GetError> {
        self.reader.read(&self.meta, reads, wait)
    }
}

impl Spilled {
    pub(super) fn new(place: Place, of: &Options, copies: &CopyCounter) -> Self {
        Self {
            options: options(of),
            copies: copies.clone(),
            place,
            open: Mutex::new(None),
        }
    }

    /// Finds a step that was announced to lie in the dataset at `path`.
    pub(super) fn find(&self, path: &str, step: u64, wait: &Wait) -> Result<Found, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = |it: &Open| it.last.as_ref().is_some_and(|last| last.head.step > step);
        if open.as_ref().is_none_or(|it| it.path != path || passed(it)) {
            *open = None;
            let reader = self.reader(path, step, wait)?;
            let path = path.to_owned();
            *open = Some(Open {
                path,
                reader,
                last: None,
            });
        }
        let lost = || {
            let what = format!("step {step} in the dataset {path}, which it was spilled to");
            let problem = "it is not there".to_owned();
            Fault::Corrupt { what, problem }.at(self.place.clone().at_step(step))
        };
        let open = open.as_mut().ok_or_else(lost)?;
        while open.last.as_ref().is_none_or(|last| last.head.step < step) {
            let mut announcement = Vec::new();
            let next = open.reader.next(&[], &mut announcement, wait);
            if !next.map_err(|error| self.failed(path, &error))? {
                return Err(lost());
            }
            let meta = open.reader.load(&announcement);
            open.last = Some(meta.map_err(|error| self.failed(path, &error))?);
        }
        match &open.last {
            Some(meta) if meta.head.step == step => Ok(Found {
                reader: Arc::clone(&open.reader),
                meta: meta.clone(),
            }),
            _ => Err(lost()),
        }
    }

    fn failed(&self, path: &str, error: &NextError) -> Failure {
        Fault::io(
            format!("reading the dataset {path}, which steps were spilled to"),
            error,
        )
        .at(self.place.clone())
    }

    fn reader(&self, path: &str, step: u64, wait: &Wait) -> Result<Arc<dyn ReaderEngine>, Failure> {
        let target = target(Path::new(path), self.options.clone());
        let interrupt = Interrupt::default();
        let arguments = OpenArguments {
            stream: &self.place.stream,
            target: &target,
            rank: 0,
            size: 1,
            wait,
            interrupt: &interrupt,
            copies: &self.copies,
        };
        let start = Start::At(step);
        let opened = FileEngine
            .prepare_reader(&arguments, &start)
            .and_then(|ticket| FileEngine.attach_reader(&arguments, &start, &ticket));
        opened.map_err(|error| {
            let doing = format!(
                "opening the dataset {path}, which steps were spilled to (readers need the same file system)"
            );
            Fault::io(doing, &error).at(self.place.clone())
        })
    }
}
