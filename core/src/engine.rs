//! What an engine is: the seam between sessions and whatever carries the steps.
//!
//! The sessions ([`crate::writer`], [`crate::reader`]) do all that is the same
//! for every engine: agreeing on definitions, numbers and outcomes over the
//! control tree, checking puts and selections, keeping the metadata. An engine
//! does the rest, and never talks to the other ranks of its group itself:
//!
//! ```text
//! writer    root:  prepare ── admit ─────────────── seal ── (last_word …) close_root
//!           all:        attach ── begin ── capture ── finish ── (answer …) close
//! reader    root:  prepare ────────── next ────────────────────────────
//!           all:        attach ── held ── load ── read … ── release ── close
//! ```
//! What the root's call returns is given to the next call of every rank.
//! Engines see bytes and runtime element types, no generics.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use panta_transports::copy::{CopyCounter, StridedMut, StridedRef};
use panta_transports::coupling::PushCounts;
use panta_transports::time::{Interrupt, Wait};

use crate::config::{Engine, Target};
use crate::error::{
    BeginError, CloseError, EndError, Failure, Fault, GetError, NextError, OpenError, PutError,
};
use crate::model::{
    BlockId, Definition, Dims, Layout, Schema, Stats, StepHead, StepMeta, StepRecord,
};
use crate::notice::Notice;

/// What a group is told when it opens a stream.
#[derive(Clone, Debug)]
pub struct OpenArguments<'a> {
    /// The stream as the user named it; for errors.
    pub stream: &'a str,
    /// What the name stands for.
    pub target: &'a Target,
    /// This process's rank in its group.
    pub rank: usize,
    /// Ranks in the group.
    pub size: usize,
    /// Ends the waits of opening.
    pub wait: &'a Wait,
    /// The flag that ends this handle's waits early.
    pub interrupt: &'a Interrupt,
    /// Counts the payload copies of this handle.
    pub copies: &'a CopyCounter,
}

/// What a writer does with steps that are already there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// Starts anew; what was there is replaced.
    #[default]
    Fresh,
    /// Goes on after the last sealed step, in a new epoch.
    Last,
    /// Goes on after this step, in a new epoch; later steps are withdrawn.
    After(u64),
}

/// Where a reader begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Start {
    /// The oldest step held.
    #[default]
    Oldest,
    /// The newest sealed step, then on from there.
    Latest,
    /// The step of this number.
    At(u64),
    /// The first step after this number.
    After(u64),
    /// The first step at or after this simulation time.
    AtTime(f64),
    /// After the position committed under this name; the oldest if none was.
    Cursor(String),
}

/// Which engine and transport carry a stream, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// The engine's scheme.
    pub engine: &'static str,
    /// The transport in use.
    pub transport: String,
    /// Why this one.
    pub why: String,
}

/// What the root's opening of a writer found.
#[derive(Clone, Debug, Default)]
pub struct PreparedWriter {
    /// The epoch of this life of the writer, from 1.
    pub epoch: u64,
    /// The number of the first step to write.
    pub next_step: u64,
    /// What every rank's `attach` is given.
    pub ticket: Vec<u8>,
}

/// Opens streams of one scheme.
pub trait EngineFactory: Send + Sync {
    /// Which engine it opens.
    fn engine(&self) -> Engine;

    /// Opens for writing; on the root only.
    ///
    /// # Errors
    /// [`OpenError`]; it comes out on every rank.
    fn prepare_writer(
        &self,
        arguments: &OpenArguments<'_>,
        resume: Resume,
    ) -> Result<PreparedWriter, OpenError>;

    /// Joins the writer that the root prepared; on every rank, the root too.
    ///
    /// # Errors
    /// [`OpenError`]; the opening then fails on every rank.
    fn attach_writer(
        &self,
        arguments: &OpenArguments<'_>,
        prepared: &PreparedWriter,
    ) -> Result<Box<dyn WriterEngine>, OpenError>;

    /// Opens for reading, waiting for the stream to come into being; on the root only.
    /// Returns what every rank's `attach` is given.
    ///
    /// # Errors
    /// [`OpenError`]; it comes out on every rank.
    fn prepare_reader(
        &self,
        arguments: &OpenArguments<'_>,
        start: &Start,
    ) -> Result<Vec<u8>, OpenError>;

    /// Joins the reader that the root prepared; on every rank, the root too.
    ///
    /// # Errors
    /// [`OpenError`]; the opening then fails on every rank.
    fn attach_reader(
        &self,
        arguments: &OpenArguments<'_>,
        start: &Start,
        ticket: &[u8],
    ) -> Result<Arc<dyn ReaderEngine>, OpenError>;
}

/// What is decided about a step before anyone puts into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It goes ahead; every rank's `begin` is given these bytes.
    Write(Vec<u8>),
    /// It will be discarded, by policy; puts cost nothing.
    Discard,
}

/// Where a put's bytes are.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "short-lived, by the handful; a box would be an allocation a put"
)]
pub enum Source<'a> {
    /// In the caller's memory, not to be touched after the call.
    Memory(StridedRef<'a>),
    /// In memory that the engine's `span` gave.
    Span(SpanId),
}

/// Memory that an engine lent for a block to be computed into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpanId(pub u32);

/// Memory that stays where it is as long as this lives.
pub type SpanMemory = Arc<dyn std::any::Any + Send + Sync>;

/// One array block that a rank puts. Values never reach the engine.
#[derive(Debug)]
pub struct PutBlock<'a> {
    /// The variable's place in the schema.
    pub variable: u32,
    /// The variable.
    pub definition: &'a Arc<Definition>,
    /// The put's place among this rank's puts of the step.
    pub order: u32,
    /// First cell; zeros for local arrays; as given, along a joined axis 0.
    pub start: &'a [u64],
    /// Cells per dimension.
    pub count: &'a [u64],
    /// The bytes, `count` in row-major order of dimensions whatever the strides.
    pub source: Source<'a>,
}

/// What a rank's capture leaves for the root.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Captured {
    /// Of each put, in order, smallest and largest value.
    pub stats: Vec<Option<Stats>>,
    /// Whatever the engine's root needs to seal the step.
    pub contribution: Vec<u8>,
}

/// A whole step, ready to be sealed. Schema, layout and their byte forms are the very
/// ones of the step before while they are unchanged; the record holds their digests.
#[derive(Debug)]
pub struct Sealing<'a> {
    /// The step's record.
    pub record: &'a StepRecord,
    /// The schema it names.
    pub schema: &'a Arc<Schema>,
    /// The byte form of the schema.
    pub schema_bytes: &'a Arc<[u8]>,
    /// The layout it names.
    pub layout: &'a Arc<Layout>,
    /// The byte form of the layout.
    pub layout_bytes: &'a Arc<[u8]>,
    /// What each rank's capture left, in rank order.
    pub contributions: &'a [Vec<u8>],
}

/// What has to be done now and then where the program makes progress by hand, also while
/// its rank waits for the others of its group.
pub trait Beside: Send + Sync {
    /// Does what is there to do; never waits.
    fn progress(&self);

    /// What is readable when there is something; none where there is nothing ever.
    fn wait_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// Carries steps away from one rank.
pub trait WriterEngine: Send {
    /// What carries the stream, and why.
    fn info(&self) -> EngineInfo;

    /// Does what is there to do, where the program makes progress by hand; never waits.
    ///
    /// # Errors
    /// [`Fault::Away`] if the program stayed away for too long; from then on always.
    fn progress(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    /// What is to be done beside the waits of the group, where progress is made by hand.
    fn beside(&self) -> Option<Arc<dyn Beside>> {
        None
    }

    /// What becomes readable when [`progress`](Self::progress) has something to do; none
    /// where it never has.
    ///
    /// # Errors
    /// [`Fault`] if the system has no descriptors left.
    fn wait_fd(&self) -> Result<Option<OwnedFd>, Fault> {
        Ok(None)
    }

    /// Decides about a step of at most `reserve_bytes` on each rank, in rank order;
    /// root only. May wait for room, as the policy says.
    ///
    /// # Errors
    /// [`BeginError`]; it comes out on every rank and the step does not begin.
    fn admit(
        &mut self,
        head: &StepHead,
        schema: &Arc<Schema>,
        reserve_bytes: &[u64],
        wait: &Wait,
    ) -> Result<Admission, BeginError>;

    /// Begins a step that was admitted; every rank.
    ///
    /// # Errors
    /// [`BeginError`]; it sticks and comes out of the step's end on every rank.
    fn begin(
        &mut self,
        head: &StepHead,
        schema: &Arc<Schema>,
        admission: &[u8],
    ) -> Result<(), BeginError>;

    /// Lends `bytes` of memory, aligned to 64, that stays where it is until `finish`. It
    /// is initialised, but what it holds is up to the engine.
    ///
    /// # Errors
    /// [`PutError`] if there is no room.
    fn span(&mut self, bytes: usize) -> Result<(SpanId, NonNull<u8>), PutError>;

    /// What keeps the memory of a span of the open step in place, also beyond the step and
    /// the engine: for those who cannot see to it that nobody looks at it any more. What it
    /// then holds is up to the engine.
    fn span_memory(&self, span: SpanId) -> Option<SpanMemory>;

    /// Takes this rank's blocks away: when it returns, the callers' memory is
    /// theirs again and the bytes are where `seal` can make them visible. `into` comes
    /// empty, with the memory of earlier steps.
    ///
    /// # Errors
    /// [`PutError`]; the step is then given up on every rank.
    fn capture(
        &mut self,
        head: &StepHead,
        puts: &[PutBlock<'_>],
        into: &mut Captured,
        wait: &Wait,
    ) -> Result<(), PutError>;

    /// Makes the step visible, whole, or not at all; root only.
    ///
    /// # Errors
    /// [`EndError`]; it comes out on every rank.
    fn seal(&mut self, sealing: &Sealing<'_>, wait: &Wait) -> Result<(), EndError>;

    /// What every rank is to hear of the step that was just sealed; root only.
    fn word(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// Hears the root's [`word`](Self::word) of a step that was sealed; every rank,
    /// before `finish`.
    fn hear(&mut self, head: &StepHead, word: &[u8]) {
        let _ = (head, word);
    }

    /// Ends the step on this rank, sealed or given up. Spans are over.
    fn finish(&mut self, head: &StepHead, sealed: bool);

    /// What ranks have to do before the stream can be closed, in byte form; nothing, if it
    /// can. Root only; asked at first with what ranks [`answer`](Self::answer) to nothing,
    /// then with their answers to the last word.
    ///
    /// # Errors
    /// [`CloseError`]; it comes out on every rank.
    fn last_word(&mut self, answers: &[Vec<u8>], wait: &Wait) -> Result<Vec<u8>, CloseError> {
        let _ = (answers, wait);
        Ok(Vec::new())
    }

    /// Does what the root's last word says, on every rank, and tells how it went.
    ///
    /// # Errors
    /// [`CloseError`]; it comes out on every rank.
    fn answer(&mut self, word: &[u8]) -> Result<Vec<u8>, CloseError> {
        let _ = word;
        Ok(Vec::new())
    }

    /// Tells readers that no step will follow; root only, before `close`.
    ///
    /// # Errors
    /// [`CloseError`]; it comes out on every rank.
    fn close_root(&mut self, wait: &Wait) -> Result<(), CloseError>;

    /// Lets go of everything; every rank.
    ///
    /// # Errors
    /// [`CloseError`] of this rank alone.
    fn close(&mut self, wait: &Wait) -> Result<(), CloseError>;
}

/// Which cells of an entry are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Of the array as a whole: cells from `start`, every `step`-th.
    Array {
        /// First cell per dimension.
        start: Dims,
        /// Stride per dimension, at least 1.
        step: Dims,
    },
    /// Of one block, positions relative to it.
    Block {
        /// The block.
        block: BlockId,
        /// First cell per dimension.
        start: Dims,
        /// Stride per dimension, at least 1.
        step: Dims,
    },
}

/// One read of an array; checked against its shape, and never of a value.
#[derive(Debug)]
pub struct Read<'a> {
    /// The place of the variable among the step's entries.
    pub entry: usize,
    /// Which cells.
    pub wanted: Wanted,
    /// Where they go; its count is the number of cells per dimension.
    pub into: StridedMut<'a>,
}

/// A block in the transport's own memory: row-major, not to be written to.
pub struct Pinned {
    /// The first byte; aligned to 64.
    pub first: NonNull<u8>,
    /// How many bytes.
    pub bytes: usize,
    /// Keeps the memory in place.
    pub keep: Arc<dyn std::any::Any + Send + Sync>,
}

impl std::fmt::Debug for Pinned {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Pinned")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Brings steps to one rank. Shared by a reader and the steps detached from it.
pub trait ReaderEngine: Send + Sync {
    /// What carries the stream, and why.
    fn info(&self) -> EngineInfo;

    /// Does what is there to do, where the program makes progress by hand; never waits.
    ///
    /// # Errors
    /// [`Fault::Away`] if the program stayed away for too long; from then on always.
    fn progress(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// What the root must know about what this rank still holds before it asks for the
    /// next step. `None`, unless overridden, saves the ranks a way up the tree. An engine
    /// gives `Some` always or never, alike on every rank.
    fn held(&self) -> Option<Vec<u8>> {
        None
    }

    /// Waits for the next step; root only. `held` is what each rank's [`held`](Self::held)
    /// said, in rank order; empty if it says nothing. What every rank's `load` is given
    /// takes the place of what `into` has; false when the writer has closed and everything
    /// was seen.
    ///
    /// # Errors
    /// [`NextError`]; it comes out on every rank.
    fn next(&self, held: &[Vec<u8>], into: &mut Vec<u8>, wait: &Wait) -> Result<bool, NextError>;

    /// What becomes readable when [`next`](Self::next) should be asked; root only. From
    /// then on `next` keeps it so.
    ///
    /// # Errors
    /// [`Failure`] if the system has no descriptors left.
    fn notice(&self) -> Result<Arc<Notice>, Failure>;

    /// Takes in the root's announcement; every rank. Decides nothing and does
    /// no I/O, so that it ends alike everywhere.
    ///
    /// # Errors
    /// [`NextError`] if the announcement is damaged.
    fn load(&self, announcement: &[u8]) -> Result<StepMeta, NextError>;

    /// Does several reads together. Cells that no block covers get the fill value.
    ///
    /// # Errors
    /// [`GetError`]; what the destinations hold is then undefined.
    fn read(&self, step: &StepMeta, reads: &mut [Read<'_>], wait: &Wait) -> Result<(), GetError>;

    /// Gives a block in place, without a copy, for as long as the result is kept.
    ///
    /// # Errors
    /// [`GetError`]; where the transport has no memory to share, that says so and
    /// points to `read`.
    fn pin(&self, step: &StepMeta, entry: usize, block: BlockId) -> Result<Pinned, GetError>;

    /// Lets go of a step on this rank.
    fn release(&self, step: &StepMeta);

    /// From now on this rank's reads of a step are those of every step: an engine may
    /// bring what they need before it is asked. Others are still answered.
    fn freeze_selections(&self) {}

    /// Bytes of blocks and checksums that this rank took from where they are stored, as they
    /// lie there: compressed ones are fewer.
    fn fetched_bytes(&self) -> u64 {
        0
    }

    /// What was brought unasked, and whether it was of use.
    fn push_counts(&self) -> PushCounts {
        PushCounts::default()
    }

    /// Remembers under `cursor` that everything up to this step is dealt with; root only.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be remembered.
    fn commit(&self, step: &StepHead, cursor: &str, wait: &Wait) -> Result<(), Failure>;

    /// Lets go of everything; every rank.
    fn close(&self, wait: &Wait);
}
