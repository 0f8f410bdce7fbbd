//! One rank's end of a stream that is read.
//!
//! The root's engine finds the next step; one broadcast tells the group, so that
//! every rank sees the same steps in the same order or the same error. Where the
//! engine must know first what the ranks still hold, that comes up the tree in the
//! same round. Reading is local to a rank.

use std::cell::{OnceCell, RefCell};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use panta_transports::copy::{CopyCounter, StridedMut, StridedRef, copy};
use panta_transports::coupling::{Process, Progress, PushCounts};
use panta_transports::time::{Interrupt, Wait};
use smallvec::SmallVec;

use super::group::{Group, Nothing, Plain};
use super::nearest;
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::comm::Comm;
use crate::engine::{EngineFactory, EngineInfo, Pinned, Read, ReaderEngine, Start, Wanted};
use crate::error::{CloseError, Failure, Fault, GetError, NextError, OpenError, Place};
use crate::model::{
    Axis, BlockId, DType, Dims, Entry, Payload, Region, Schema, Selection, ShapeKind, StepHead,
    StepMeta,
};
use crate::notice::Notice;
use crate::tree::TreeCounters;

/// How to open for reading.
#[derive(Clone, Debug, Default)]
pub struct ReaderOptions {
    /// Where to begin.
    pub start: Start,
    /// Who does what is due between two calls, instead of what `progress` and `silence` of
    /// the configuration say.
    pub progress: Option<Progress>,
}

/// What a reader and its steps have in common.
struct Shared {
    engine: Arc<dyn ReaderEngine>,
    place: Place,
    deadline: Duration,
    interrupt: Interrupt,
    copies: CopyCounter,
    process: Process,
}

/// One rank's end of a stream that is read.
pub struct Reader {
    group: RefCell<Group>,
    shared: Arc<Shared>,
    notice: OnceCell<Arc<Notice>>,
    announced_bytes: u64,
    /// What was told of the step at hand; kept for its memory.
    announcement: Vec<u8>,
    ended: bool,
    closed: bool,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reader")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a stream for reading, waiting for its writer up to the deadline;
    /// collective over `comm`, which is not used afterwards.
    ///
    /// # Errors
    /// [`OpenError`], the same on every rank.
    pub fn open(
        name: &str,
        comm: &mut dyn Comm,
        engines: &[&dyn EngineFactory],
        options: &ReaderOptions,
    ) -> Result<Self, OpenError> {
        Self::open_interruptible(name, comm, engines, options, &Interrupt::default())
    }

    /// The same with the flag that ends the handle's waits early, those of the opening
    /// included.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_interruptible(
        name: &str,
        comm: &mut dyn Comm,
        engines: &[&dyn EngineFactory],
        options: &ReaderOptions,
        interrupt: &Interrupt,
    ) -> Result<Self, OpenError> {
        let mut group = Group::form(name, comm, options.progress, interrupt)?;
        let wait = group.wait();
        let factory = group.factory(engines);
        let start = &options.start;
        let prepared = group.tree.is_root().then(|| {
            factory
                .clone()?
                .prepare_reader(&group.arguments(&wait), start)
        });
        let prepared = prepared.map(|ticket| ticket.map(Plain));
        let Plain(ticket) = group.told_by_root::<_, OpenError>(prepared)?;
        let engine = factory
            .and_then(|factory| factory.attach_reader(&group.arguments(&wait), start, &ticket));
        let local = engine.as_ref().map(|_| Nothing).map_err(Clone::clone);
        group.agree::<_, _, OpenError>(local, |_, _| Ok(Nothing))?;
        let shared = Shared {
            engine: engine?,
            place: group.place().on_rank(group.tree.rank()),
            deadline: group.deadline,
            interrupt: group.interrupt.clone(),
            copies: group.copies.clone(),
            process: Process::current(),
        };
        Ok(Self {
            group: RefCell::new(group),
            shared: Arc::new(shared),
            notice: OnceCell::new(),
            announced_bytes: 0,
            announcement: Vec::new(),
            ended: false,
            closed: false,
        })
    }

    /// Waits for the next step, up to the stream's deadline; collective. `None`: the
    /// writer has closed the stream and every step was seen.
    ///
    /// # Errors
    /// [`NextError`], the same on every rank. After [`NextError::NotReady`] and
    /// [`NextError::RolledBack`] the reader can go on.
    pub fn next_step(&mut self) -> Result<Option<Step>, NextError> {
        self.next_step_within(self.shared.deadline)
    }

    /// The same, waiting `at_most` so long; zero polls.
    ///
    /// # Errors
    /// As [`next_step`](Self::next_step).
    pub fn next_step_within(&mut self, at_most: Duration) -> Result<Option<Step>, NextError> {
        if self.ended {
            return Ok(None);
        }
        self.group.get_mut().refuse_in_child()?;
        let here = self.progress();
        let group = self.group.get_mut();
        let engine = &self.shared.engine;
        let wait = Wait::new(at_most, &group.interrupt);
        let mut told = std::mem::take(&mut self.announcement);
        let mut ask = |held: &[Vec<u8>]| {
            let is_there = engine.next(held, &mut told, &wait)?;
            Ok(Announcement(is_there.then(|| std::mem::take(&mut told))))
        };
        let usual = std::mem::replace(&mut group.deadline, at_most.max(self.shared.deadline));
        let told = match engine.held() {
            Some(held) => group.agree(
                here.map(|()| Plain(held)).map_err(NextError::from),
                |held, _| {
                    let held = held.iter_mut().map(|Plain(held)| std::mem::take(held));
                    ask(&held.collect::<Vec<_>>())
                },
            ),
            None => {
                let root = group.tree.is_root().then(|| {
                    here?;
                    ask(&[])
                });
                group.told_by_root::<_, NextError>(root)
            }
        };
        group.deadline = usual;
        let Announcement(Some(announcement)) = told? else {
            self.ended = true;
            return Ok(None);
        };
        self.announced_bytes += announcement.len() as u64;
        let meta = engine.load(&announcement);
        self.announcement = announcement;
        let meta = meta?;
        Ok(Some(Step {
            meta,
            shared: Arc::clone(&self.shared),
            last: AtomicUsize::new(0),
        }))
    }

    /// A descriptor that becomes readable when [`next_step`](Self::next_step) should be
    /// called, for programs with a `poll` or `epoll` of their own; on rank 0, which is who
    /// hears of steps. It may be readable for nothing: call `next_step_within` zero until
    /// that is [`NextError::NotReady`], and only then wait for it. It is not to be read
    /// from, and ends with the reader.
    ///
    /// # Errors
    /// [`Failure`] on other ranks, and if the system has no descriptors left.
    pub fn wait_fd(&self) -> Result<BorrowedFd<'_>, Failure> {
        let shared = &self.shared;
        if !self.group.borrow().tree.is_root() {
            let fault = Fault::Unsupported {
                engine: shared.engine.info().engine.into(),
                what: "tell this rank of steps, rank 0 hears of them".into(),
                instead: "wait on rank 0, and have it tell the others to ask for the next step"
                    .into(),
            };
            return Err(fault.at(shared.place.clone()));
        }
        let notice = match self.notice.get() {
            Some(notice) => notice,
            None => {
                let made = shared.engine.notice()?;
                self.notice.get_or_init(|| made)
            }
        };
        Ok(notice.as_fd())
    }

    /// Does what is there to do, where this handle was opened with progress by hand, and
    /// shows its peers that the program is alive; nothing else. Local to this rank; never
    /// waits.
    ///
    /// # Errors
    /// [`Fault::Away`] if the program stayed away for longer than it had declared: its
    /// peers hold it dead, and this handle is of no more use.
    pub fn progress(&self) -> Result<(), Failure> {
        self.group.borrow().refuse_in_child()?;
        let progress = self.shared.engine.progress();
        progress.map_err(|fault| fault.at(self.shared.place.clone()))
    }

    /// Remembers under `cursor` that this group is done with everything up to `step`;
    /// collective, so that no rank is still at it.
    ///
    /// # Errors
    /// [`Failure`], the same on every rank.
    pub fn commit(&self, step: &StepHead, cursor: &str) -> Result<(), Failure> {
        let mut group = self.group.borrow_mut();
        let wait = group.wait();
        let committed = group.agree(Ok(Nothing), |_, _| {
            self.shared.engine.commit(step, cursor, &wait)?;
            Ok::<_, CloseError>(Nothing)
        });
        committed
            .map(|Nothing| ())
            .map_err(|CloseError::Failed(failure)| failure)
    }

    /// What carries the stream, and why.
    #[must_use]
    pub fn info(&self) -> EngineInfo {
        self.shared.engine.info()
    }

    /// The flag that ends this handle's waits early.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        self.shared.interrupt.clone()
    }

    /// The payload copies of this handle so far.
    #[must_use]
    pub fn copies(&self) -> CopyCounter {
        self.shared.copies.clone()
    }

    /// Bytes of metadata so far: announcements of steps that came to this rank, and what it
    /// sent up and down the control tree.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        self.tree_counters().bytes_sent() + self.announced_bytes
    }

    /// The rounds of the control tree so far.
    #[must_use]
    pub fn tree_counters(&self) -> TreeCounters {
        self.group.borrow().tree.counters()
    }

    /// This rank and the number of ranks.
    #[must_use]
    pub fn rank_and_size(&self) -> (usize, usize) {
        let group = self.group.borrow();
        (group.tree.rank(), group.tree.size())
    }

    /// From now on what this rank gets of a step is what it gets of every step, as far as
    /// it is known: of the last step that it let go of, else of the next. An engine may
    /// bring that before it is asked for. A get of anything else is answered all the same.
    pub fn freeze_selections(&self) {
        self.shared.engine.freeze_selections();
    }

    /// Bytes of blocks that this rank took from where they are stored, as they lie there; 0
    /// where the engine does not say.
    #[must_use]
    pub fn fetched_bytes(&self) -> u64 {
        self.shared.engine.fetched_bytes()
    }

    /// What was brought to this rank unasked, and whether it was of use.
    #[must_use]
    pub fn push_counts(&self) -> PushCounts {
        self.shared.engine.push_counts()
    }

    /// Lets go of the stream on this rank. The writer is not held up by a reader that
    /// leaves early.
    pub fn close(mut self) {
        self.shut();
    }

    fn shut(&mut self) {
        if self.group.get_mut().is_parents() {
            // What the engine holds is the parent's, and is not let go of here.
            std::mem::forget(Arc::clone(&self.shared.engine));
        } else if !std::mem::replace(&mut self.closed, true) {
            let wait = self.group.get_mut().wait();
            self.shared.engine.close(&wait);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shut();
    }
}

/// What the root tells of the next step; `None` at the end of the stream.
pub(super) struct Announcement(pub(super) Option<Vec<u8>>);

impl Coded for Announcement {
    fn encode(&self, into: &mut Encoder) {
        into.u8(u8::from(self.0.is_some()));
        if let Some(bytes) = &self.0 {
            into.bytes(bytes);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self(match from.u8()? {
            0 => None,
            _ => Some(from.bytes()?.to_vec()),
        }))
    }
}

/// A sealed step. It may outlive the reader; it is let go when dropped.
pub struct Step {
    meta: StepMeta,
    shared: Arc<Shared>,
    /// The variable that was asked for last: most ask for them in the order they have.
    last: AtomicUsize,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.meta.fmt(formatter)
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.shared.process.is_child() {
            // Nor is the engine dropped with the last of its steps there.
            std::mem::forget(Arc::clone(&self.shared.engine));
            return;
        }
        self.shared.engine.release(&self.meta);
    }
}

/// A selection resolved against one variable of a step.
#[derive(Clone, Debug)]
pub struct Resolved {
    entry: usize,
    block: Option<BlockId>,
    region: Region,
}

impl Resolved {
    /// The shape of the result; dimensions picked by index are gone.
    #[must_use]
    pub fn shape(&self) -> Dims {
        self.region.result_shape()
    }

    /// Strides for every dimension of the variable, from those of the result: dimensions
    /// picked by index do not move.
    #[must_use]
    pub fn strides(&self, result: impl IntoIterator<Item = i64>) -> SmallVec<[i64; 6]> {
        let mut result = result.into_iter();
        let squeezed = self.region.squeezed.iter();
        squeezed
            .map(|squeezed| {
                if *squeezed {
                    0
                } else {
                    result.next().unwrap_or_default()
                }
            })
            .collect()
    }

    /// Cells per dimension of the variable, with 1 for those picked by index: what the
    /// destination of a read must have.
    #[must_use]
    pub fn count(&self) -> &[u64] {
        &self.region.count
    }
}

/// Reads of several selections, done together: an engine may fetch them in one go.
#[derive(Debug, Default)]
pub struct Batch<'d> {
    reads: Vec<(Resolved, StridedMut<'d>)>,
}

impl<'d> Batch<'d> {
    /// Adds a read. `into` has the resolved selection's count.
    pub fn add(&mut self, resolved: Resolved, into: StridedMut<'d>) {
        self.reads.push((resolved, into));
    }
}

impl Step {
    /// Identity and times.
    #[must_use]
    pub fn head(&self) -> StepHead {
        self.meta.head
    }

    /// The variables that were put in this step, in schema order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.meta.entries
    }

    /// The schema in force, with the attributes.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.meta.schema
    }

    fn place(&self, variable: &str) -> Place {
        self.shared
            .place
            .clone()
            .at_step(self.meta.head.step)
            .of_variable(variable)
    }

    #[inline]
    fn index(&self, variable: &str) -> Result<usize, GetError> {
        let last = self.last.load(Ordering::Relaxed);
        match self.meta.entries.get(last) {
            Some(entry) if entry.definition.name == variable => Ok(last),
            _ => self.search(variable, last),
        }
    }

    /// The place of a variable, beginning to look behind the one asked for last.
    fn search(&self, variable: &str, last: usize) -> Result<usize, GetError> {
        let entries = &self.meta.entries;
        let (before, behind) = entries.split_at(last.min(entries.len()));
        let is_it = |entry: &Entry| entry.definition.name == variable;
        let found = behind.iter().position(is_it).map(|at| before.len() + at);
        let found = found.or_else(|| before.iter().position(is_it));
        self.last.store(found.unwrap_or(0), Ordering::Relaxed);
        found.ok_or_else(|| GetError::UnknownVariable {
            place: self.place(variable),
            nearest: nearest(
                variable,
                entries.iter().map(|entry| entry.definition.name.as_str()),
            ),
        })
    }

    /// A variable as it is in this step.
    ///
    /// # Errors
    /// [`GetError::UnknownVariable`], naming the nearest there is.
    pub fn entry(&self, variable: &str) -> Result<&Entry, GetError> {
        self.index(variable).map(|index| &self.meta.entries[index])
    }

    /// Resolves a selection of a variable. Local arrays can only be selected by block;
    /// their only block is meant if none is named and there is one.
    ///
    /// # Errors
    /// [`GetError`] if there is no such variable or block, its elements are not `dtype`, or
    /// the selection reaches outside.
    pub fn resolve(
        &self,
        variable: &str,
        dtype: DType,
        selection: &Selection,
    ) -> Result<Resolved, GetError> {
        self.resolve_part(variable, dtype, selection.block, &selection.axes)
    }

    /// The same for a selection in parts: of a block or the whole array, `axes`, one for
    /// each dimension, or none for everything.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_part(
        &self,
        variable: &str,
        dtype: DType,
        block: Option<BlockId>,
        axes: &[Axis],
    ) -> Result<Resolved, GetError> {
        let index = self.index(variable)?;
        let entry = &self.meta.entries[index];
        let stored = entry.definition.dtype;
        if stored != dtype {
            return Err(GetError::DTypeMismatch {
                place: self.place(variable),
                stored: stored.name(),
                asked: dtype.name(),
            });
        }
        let local = entry.definition.kind == ShapeKind::LocalArray;
        let block = match block {
            None if local && entry.blocks.len() == 1 => Some(BlockId(0)),
            None if local => {
                let problem = format!(
                    "a local array of {} blocks is read block by block; select one",
                    entry.blocks.len()
                );
                return Err(GetError::Shape {
                    place: self.place(variable),
                    problem,
                });
            }
            other => other,
        };
        let shape = match block {
            None => entry.shape_dims(),
            Some(block) => match entry.blocks.get(block.0 as usize) {
                Some(found) => Dims::from_slice(&found.block.count),
                None => {
                    return Err(GetError::NoSuchBlock {
                        place: self.place(variable),
                        block: block.0,
                        blocks: entry.blocks.len(),
                    });
                }
            },
        };
        let region = Region::of(axes, &shape).map_err(|error| GetError::Selection {
            place: self.place(variable),
            error,
        })?;
        Ok(Resolved {
            entry: index,
            block,
            region,
        })
    }

    /// Reads one selection into memory of the resolved count.
    ///
    /// # Errors
    /// [`GetError`]; what the destination holds is then undefined.
    pub fn read(&self, resolved: Resolved, mut into: StridedMut<'_>) -> Result<(), GetError> {
        let entry = resolved.entry;
        match self.wanted(resolved, &mut into)? {
            Some(wanted) => self.read_all(&mut [Read {
                entry,
                wanted,
                into,
            }]),
            None => Ok(()),
        }
    }

    /// Reads several selections together.
    ///
    /// # Errors
    /// [`GetError`] of the first that fails; what the destinations hold is then undefined.
    pub fn read_batch(&self, batch: Batch<'_>) -> Result<(), GetError> {
        let mut reads = Vec::with_capacity(batch.reads.len());
        for (resolved, mut into) in batch.reads {
            let entry = resolved.entry;
            if let Some(wanted) = self.wanted(resolved, &mut into)? {
                reads.push(Read {
                    entry,
                    wanted,
                    into,
                });
            }
        }
        if reads.is_empty() {
            return Ok(());
        }
        self.read_all(&mut reads)
    }

    fn read_all(&self, reads: &mut [Read<'_>]) -> Result<(), GetError> {
        let wait = Wait::new(self.shared.deadline, &self.shared.interrupt);
        self.shared.engine.read(&self.meta, reads, &wait)
    }

    /// What the engine has to read, if anything. The destination is large, and not moved on
    /// the way.
    fn wanted(
        &self,
        resolved: Resolved,
        into: &mut StridedMut<'_>,
    ) -> Result<Option<Wanted>, GetError> {
        let entry = &self.meta.entries[resolved.entry];
        if into.count() != &resolved.region.count[..]
            || into.element_bytes() != entry.definition.dtype.size_bytes()
        {
            let problem = format!(
                "the destination has {:?} cells, the selection {:?}",
                into.count(),
                resolved.region.count
            );
            return Err(GetError::Shape {
                place: self.place(&entry.definition.name),
                problem,
            });
        }
        if entry.definition.kind.is_value() {
            self.read_values(entry, &resolved.region, into)?;
            return Ok(None);
        }
        if into.count().contains(&0) {
            return Ok(None);
        }
        let (start, step) = (resolved.region.start, resolved.region.step);
        Ok(Some(match resolved.block {
            None => Wanted::Array { start, step },
            Some(block) => Wanted::Block { block, start, step },
        }))
    }

    /// Values travel with the metadata.
    fn read_values(
        &self,
        entry: &Entry,
        region: &Region,
        into: &mut StridedMut<'_>,
    ) -> Result<(), GetError> {
        let width = entry.definition.dtype.size_bytes();
        let mut bytes = Vec::with_capacity(entry.blocks.len() * width);
        for block in &entry.blocks {
            if let Payload::Value(value) = &block.payload {
                bytes.extend_from_slice(value);
            }
        }
        let shape = if entry.definition.kind == ShapeKind::GlobalValue {
            vec![]
        } else {
            vec![entry.blocks.len() as u64]
        };
        let problem = |error: &dyn std::fmt::Display| GetError::Shape {
            place: self.place(&entry.definition.name),
            problem: error.to_string(),
        };
        let all = StridedRef::contiguous(&bytes, width, &shape).map_err(|error| problem(&error))?;
        let wanted = all
            .sub_strided(&region.start, &region.count, &region.step)
            .map_err(|error| problem(&error))?;
        copy(into, &wanted, &self.shared.copies).map_err(|error| problem(&error))
    }

    /// A block of an array in place, without a copy, for as long as the result is kept.
    ///
    /// # Errors
    /// [`GetError`]; where the engine cannot, the error says so and points to `read`.
    pub fn pin(
        &self,
        variable: &str,
        dtype: DType,
        block: BlockId,
    ) -> Result<(Pinned, Dims), GetError> {
        let resolved = self.resolve(variable, dtype, &Selection::block(block))?;
        if self.meta.entries[resolved.entry].definition.kind.is_value() {
            let problem = "values travel with the metadata; get them".to_owned();
            return Err(GetError::Shape {
                place: self.place(variable),
                problem,
            });
        }
        let pinned = self.shared.engine.pin(&self.meta, resolved.entry, block)?;
        Ok((pinned, resolved.region.count))
    }

    /// The texts of a string variable: of a global value one, of a local value one per put.
    ///
    /// # Errors
    /// [`GetError`] if there is no such variable or it holds no strings.
    pub fn texts(&self, variable: &str) -> Result<Vec<String>, GetError> {
        let entry = self.entry(variable)?;
        if entry.definition.dtype != DType::Text {
            let stored = entry.definition.dtype.name();
            return Err(GetError::DTypeMismatch {
                place: self.place(variable),
                stored,
                asked: DType::Text.name(),
            });
        }
        let text = |payload: &Payload| match payload {
            Payload::Value(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Payload::Array(_) => String::new(),
        };
        Ok(entry
            .blocks
            .iter()
            .map(|block| text(&block.payload))
            .collect())
    }

    /// Where errors of this step's variable say they are.
    #[must_use]
    pub fn place_of(&self, variable: &str) -> Place {
        self.place(variable)
    }

    /// What carries the stream, and why.
    #[must_use]
    pub fn info(&self) -> EngineInfo {
        self.shared.engine.info()
    }
}
