//! One rank's end of a stream that is written.
//!
//! ```text
//! begin_step   up: definitions if changed, attributes, bytes      down: head, admission, schema if changed
//! put, span    local; bytes stay with the caller until the end
//! end_step     capture (the engine moves the bytes), then
//!              up: blocks, statistics, the engine's contribution   down: sealed, or the same error
//! ```
//! Two rounds of the control tree a step, whatever is put.

mod end;
mod put;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use panta_transports::copy::CopyCounter;
use panta_transports::coupling::Progress;
use panta_transports::time::{Interrupt, Wait, wall_clock_ns};
use rustix::event::{EventfdFlags, eventfd};

use super::group::{Group, Nothing, Word, failed};
use super::layouts::{Layouts, OwnBoxes};
use super::merge::{BeginPart, Definitions, digest_of};
use super::nearest;
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::comm::Comm;
use crate::engine::{
    Admission, Captured, EngineFactory, EngineInfo, PreparedWriter, Resume, WriterEngine,
};
use crate::error::{BeginError, CloseError, DefineError, Failure, Fault, OpenError, Place};
use crate::model::{Attribute, AttributeKey, Definition, Schema, ShapeKind, StepHead, StepTime};
use crate::tree::TreeCounters;

pub use end::Sealed;
pub use put::Put;

/// The longest a writer that was dropped without `close` may take to close.
const DROP_DEADLINE: Duration = Duration::from_secs(5);
const WRITE: u8 = 1;
const DISCARD: u8 = 0;

/// How to open for writing.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriterOptions {
    /// What becomes of steps that are already there.
    pub resume: Resume,
    /// Who does what is due between two calls, instead of what `progress` and `silence` of
    /// the configuration say.
    pub progress: Option<Progress>,
}

/// The step that is open.
#[derive(Debug)]
struct Open {
    head: StepHead,
    discarded: bool,
    /// What went wrong on this rank since it began.
    failed: RefCell<Option<String>>,
    order: Cell<u32>,
    bytes: Cell<u64>,
    values: RefCell<Vec<(usize, u32, Vec<u8>)>>,
}

/// One rank's end of a stream that is written.
pub struct Writer {
    group: Group,
    /// Not dropped in the child of a fork, where what it holds is the parent's.
    engine: RefCell<ManuallyDrop<Box<dyn WriterEngine>>>,
    wait_fd: OnceCell<OwnedFd>,
    definitions: Vec<Arc<Definition>>,
    names: BTreeMap<String, usize>,
    /// Names the definitions; `None` once they change.
    definitions_digest: Option<u64>,
    announced_digest: Option<u64>,
    attributes: Vec<(AttributeKey, Attribute)>,
    schema: Arc<Schema>,
    /// The place in the schema of each of this rank's definitions.
    agreed: Vec<u32>,
    /// What the root remembers of all ranks.
    everyone: Definitions,
    layouts: Layouts,
    reserved: Vec<u64>,
    boxes: OwnBoxes,
    /// What the engine says of a step; kept for its memory.
    captured: Captured,
    /// Bytes of metadata that the root has sealed.
    told_bytes: u64,
    frozen: bool,
    epoch: u64,
    next_step: u64,
    last_bytes: u64,
    open: Option<Open>,
    closed: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Writer")
            .field("group", &self.group)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Opens a stream for writing; collective over `comm`, which is not used afterwards.
    ///
    /// # Errors
    /// [`OpenError`], the same on every rank.
    pub fn open(
        name: &str,
        comm: &mut dyn Comm,
        engines: &[&dyn EngineFactory],
        options: WriterOptions,
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
        options: WriterOptions,
        interrupt: &Interrupt,
    ) -> Result<Self, OpenError> {
        let mut group = Group::form(name, comm, options.progress, interrupt)?;
        let wait = group.wait();
        let factory = group.factory(engines);
        let prepared = group.tree.is_root().then(|| {
            let arguments = group.arguments(&wait);
            factory.clone()?.prepare_writer(&arguments, options.resume)
        });
        let prepared = group.told_by_root::<PreparedWriter, OpenError>(prepared)?;
        let engine =
            factory.and_then(|factory| factory.attach_writer(&group.arguments(&wait), &prepared));
        let (engine, local) = match engine {
            Ok(engine) => (Some(engine), Ok(Nothing)),
            Err(error) => (None, Err(error)),
        };
        group.agree::<_, _, OpenError>(local, |_, _| Ok(Nothing))?;
        let Some(engine) = engine else {
            return Err(failed(
                Fault::OnRank {
                    rank: group.tree.rank(),
                    what: "no engine".into(),
                },
                group.place(),
            ));
        };
        group.tree.do_beside(engine.beside());
        Ok(Self {
            engine: RefCell::new(ManuallyDrop::new(engine)),
            wait_fd: OnceCell::new(),
            definitions: Vec::new(),
            names: BTreeMap::new(),
            definitions_digest: None,
            announced_digest: None,
            attributes: Vec::new(),
            schema: Arc::default(),
            agreed: Vec::new(),
            everyone: Definitions::default(),
            layouts: Layouts::default(),
            reserved: Vec::new(),
            boxes: OwnBoxes::default(),
            captured: Captured::default(),
            told_bytes: 0,
            frozen: false,
            epoch: prepared.epoch,
            next_step: prepared.next_step,
            last_bytes: 0,
            open: None,
            closed: false,
            group,
        })
    }

    /// Defines a variable, from the next step on; local to this rank. Returns its
    /// handle. Defining it again alike returns the same handle; only its shape,
    /// chunk, unit, fill, coordinates and accuracy may differ.
    ///
    /// # Errors
    /// [`DefineError`] if it contradicts itself or what was defined before.
    pub fn define(&mut self, mut definition: Definition) -> Result<usize, DefineError> {
        if definition.chunk.is_none()
            && definition.kind == ShapeKind::GlobalArray
            && let Some(chunk) = &self.group.target.options.chunk
            && chunk.0.len() == definition.dimensions()
        {
            definition.chunk = Some(chunk.0.clone());
        }
        definition.check()?;
        if let Some(index) = self.names.get(&definition.name).copied() {
            if let Some(difference) = self.definitions[index].fixed_difference(&definition) {
                return Err(DefineError::Redefined {
                    name: definition.name,
                    difference,
                });
            }
            if *self.definitions[index] != definition {
                self.refuse_frozen(&definition.name, "another shape, unit or fill value")?;
                self.definitions[index] = Arc::new(definition);
                self.definitions_digest = None;
            }
            return Ok(index);
        }
        self.refuse_frozen(&definition.name, "the first definition")?;
        let index = self.definitions.len();
        self.definitions_digest = None;
        self.names.insert(definition.name.clone(), index);
        self.definitions.push(Arc::new(definition));
        Ok(index)
    }

    /// Promises that what is defined stays as it is: from now on the first definition of a
    /// variable, another shape, or another attribute is an error, and a step whose blocks
    /// lie as before costs the same few bytes of metadata each time. Local to this rank.
    pub fn freeze_definitions(&mut self) {
        self.frozen = true;
    }

    fn refuse_frozen(&self, name: &str, what: &'static str) -> Result<(), DefineError> {
        match self.frozen {
            false => Ok(()),
            true => Err(DefineError::Frozen {
                name: name.to_owned(),
                what,
            }),
        }
    }

    /// Gives a global array another shape, from the next step on. Every rank that
    /// defines the variable must do the same.
    ///
    /// # Errors
    /// [`DefineError`] if the shape has another number of dimensions.
    pub fn set_shape(&mut self, variable: usize, shape: &[u64]) -> Result<(), DefineError> {
        let mut definition = Definition::clone(&self.definitions[variable]);
        definition.shape = shape.to_vec();
        self.define(definition).map(|_| ())
    }

    /// The definition behind a handle.
    #[must_use]
    pub fn definition(&self, variable: usize) -> &Arc<Definition> {
        &self.definitions[variable]
    }

    /// The handle of the variable called `name`, if this rank defined it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// Sets an attribute of the stream, or of a variable, from the next step on.
    ///
    /// # Errors
    /// [`DefineError::UnknownVariable`], naming the nearest one this rank defined.
    pub fn set_attribute(
        &mut self,
        variable: Option<&str>,
        name: &str,
        value: Attribute,
    ) -> Result<(), DefineError> {
        if let Some(variable) = variable.filter(|variable| !self.names.contains_key(*variable)) {
            let nearest = nearest(variable, self.names.keys().map(String::as_str));
            return Err(DefineError::UnknownVariable {
                name: variable.to_owned(),
                nearest,
            });
        }
        let key = AttributeKey {
            variable: variable.map(str::to_owned),
            name: name.to_owned(),
        };
        let pending = self.attributes.iter().rev().find(|(set, _)| *set == key);
        let known = pending.map(|(_, value)| value);
        if known.or_else(|| self.schema.attributes.get(&key)) == Some(&value) {
            return Ok(());
        }
        self.refuse_frozen(variable.unwrap_or(name), "another attribute")?;
        self.attributes.push((key, value));
        Ok(())
    }

    /// Begins a step; collective. Waits for room, or has the step discarded, as the
    /// policy says: the largest of `reserve_bytes` and the last step's bytes is reserved.
    /// Returns the step's head; the root's time counts.
    ///
    /// # Errors
    /// [`BeginError`], the same on every rank.
    pub fn begin_step(
        &mut self,
        time: StepTime,
        reserve_bytes: Option<u64>,
    ) -> Result<StepHead, BeginError> {
        if let Some(open) = &self.open {
            return Err(BeginError::InStep {
                stream: self.group.stream.clone(),
                step: open.head.step,
            });
        }
        let head = StepHead {
            epoch: self.epoch,
            step: self.next_step,
            time,
            wall_clock_ns: wall_clock_ns(),
        };
        let definitions_digest = *self
            .definitions_digest
            .get_or_insert_with(|| digest_of(&self.definitions));
        let here = self.progress();
        let part = here
            .map_err(BeginError::from)
            .and_then(|()| self.begin_part(definitions_digest, reserve_bytes));
        let wait = self.group.wait();
        let (everyone, schema, engine) =
            (&mut self.everyone, &mut self.schema, self.engine.get_mut());
        let reserved = &mut self.reserved;
        let decision = self.group.agree_at(Some(head.step), part, |parts, at| {
            let mut merged = Arc::clone(schema);
            everyone.merge(parts, &mut merged, at)?;
            reserved.clear();
            reserved.extend(parts.iter().map(|part| part.reserve_bytes));
            let admission = engine
                .admit(&head, &merged, reserved, &wait)
                .inspect_err(|_| {
                    // The merged schema is not taken over: the next begin merges again.
                    everyone.forget();
                })?;
            let changed = !Arc::ptr_eq(&merged, schema);
            Ok(BeginDecision {
                head,
                admission,
                schema: changed.then_some(merged),
            })
        })?;
        self.announced_digest = Some(definitions_digest);
        self.attributes.clear();
        Ok(self.begin_as_decided(decision))
    }

    fn begin_part(
        &self,
        definitions_digest: u64,
        reserve_bytes: Option<u64>,
    ) -> Result<BeginPart, BeginError> {
        let reserve_bytes = reserve_bytes.unwrap_or(0).max(self.last_bytes);
        let limit_bytes = self.group.target.options.limit.0;
        if reserve_bytes > limit_bytes {
            return Err(BeginError::StepTooLarge {
                place: self.place().at_step(self.next_step),
                bytes: reserve_bytes,
                limit_bytes,
            });
        }
        let changed = self.announced_digest != Some(definitions_digest);
        Ok(BeginPart {
            definitions_digest,
            definitions: changed.then(|| self.definitions.clone()),
            attributes: self.attributes.clone(),
            reserve_bytes,
        })
    }

    fn begin_as_decided(&mut self, decision: BeginDecision) -> StepHead {
        let BeginDecision {
            head,
            admission,
            schema,
        } = decision;
        if schema.is_some() || self.agreed.len() != self.definitions.len() {
            self.schema = schema.unwrap_or_else(|| Arc::clone(&self.schema));
            let variables = self.schema.variables.iter();
            let places: BTreeMap<&str, u32> =
                variables.map(|it| it.name.as_str()).zip(0..).collect();
            let place = |definition: &Arc<Definition>| places.get(definition.name.as_str());
            let agreed = self.definitions.iter();
            self.agreed = agreed
                .map(|it| place(it).copied().unwrap_or(u32::MAX))
                .collect();
        }
        let engine = self.engine.get_mut();
        let (discarded, begun) = match &admission {
            Admission::Discard => (true, Ok(())),
            Admission::Write(bytes) => (false, engine.begin(&head, &self.schema, bytes)),
        };
        self.open = Some(Open {
            head,
            discarded,
            failed: RefCell::new(begun.err().map(|error| error.to_string())),
            order: Cell::new(0),
            bytes: Cell::new(0),
            values: RefCell::default(),
        });
        head
    }

    /// Whether the policy discards the step that is open.
    #[must_use]
    pub fn is_discarded(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.discarded)
    }

    /// Closes the stream; collective. Readers see its end after the last step. A step
    /// that is open is given up.
    ///
    /// # Errors
    /// [`CloseError`], the same on every rank.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.shut()
    }

    fn shut(&mut self) -> Result<(), CloseError> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        self.group.refuse_in_child()?;
        if self.open.is_some() {
            // The error only says that the step was given up, which is what closing means.
            let _ = self.abort_step();
        }
        let wait = self.group.wait();
        let here = self.progress().map_err(CloseError::from);
        let root = self.close_together(here, &wait);
        let own = self.engine.get_mut().close(&wait);
        root.and(own)
    }

    /// As a rule one round; more where ranks have something to do for readers first.
    fn close_together(
        &mut self,
        mut here: Result<(), CloseError>,
        wait: &Wait,
    ) -> Result<(), CloseError> {
        let mut word = Vec::new();
        loop {
            let answer = self.engine.get_mut().answer(&word);
            let answer = std::mem::replace(&mut here, Ok(())).and(answer);
            let engine = self.engine.get_mut();
            Word(word) = self.group.agree(answer.map(Word), |answers, _| {
                let answers = answers.iter_mut().map(|Word(it)| std::mem::take(it));
                let word = engine.last_word(&answers.collect::<Vec<_>>(), wait)?;
                if word.is_empty() {
                    engine.close_root(wait)?;
                }
                Ok(Word(word))
            })?;
            if word.is_empty() {
                return Ok(());
            }
        }
    }

    /// Does what is there to do, where this handle was opened with progress by hand, and
    /// shows its peers that the program is alive; nothing else. Local to this rank; never
    /// waits.
    ///
    /// # Errors
    /// [`Fault::Away`] if the program stayed away for longer than it had declared: its
    /// peers hold it dead, and this handle is of no more use.
    pub fn progress(&self) -> Result<(), Failure> {
        self.group.refuse_in_child()?;
        let progress = self.engine.borrow_mut().progress();
        progress.map_err(|fault| fault.at(self.place()))
    }

    /// A descriptor that is readable when [`progress`](Self::progress) has something to do,
    /// for programs with a `poll` or `epoll` of their own. It is not to be read from, and
    /// ends with the writer. Where nothing is ever to be done by hand it never is readable.
    ///
    /// # Errors
    /// [`Failure`] if the system has no descriptors left.
    pub fn wait_fd(&self) -> Result<BorrowedFd<'_>, Failure> {
        if let Some(fd) = self.wait_fd.get() {
            return Ok(fd.as_fd());
        }
        let made = self.engine.borrow().wait_fd().and_then(|fd| match fd {
            Some(fd) => Ok(fd),
            None => never_readable()
                .map_err(|error| Fault::io("making a descriptor", &std::io::Error::from(error))),
        });
        let made = made.map_err(|fault| fault.at(self.place()))?;
        Ok(self.wait_fd.get_or_init(|| made).as_fd())
    }

    /// Where errors of this stream say they are.
    #[must_use]
    pub fn place(&self) -> Place {
        self.group.place().on_rank(self.group.tree.rank())
    }

    /// What carries the stream, and why.
    #[must_use]
    pub fn info(&self) -> EngineInfo {
        self.engine.borrow().info()
    }

    /// The flag that ends this handle's waits early.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        self.group.interrupt.clone()
    }

    /// The payload copies of this handle so far.
    #[must_use]
    pub fn copies(&self) -> CopyCounter {
        self.group.copies.clone()
    }

    /// Bytes of metadata that this rank has sent so far: up and down the control tree, and
    /// on the root what the sealed steps tell readers, schema and layout where they are new.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        self.group.tree.counters().bytes_sent() + self.told_bytes
    }

    /// The rounds of the control tree so far.
    #[must_use]
    pub fn tree_counters(&self) -> TreeCounters {
        self.group.tree.counters()
    }

    /// This rank and the number of ranks.
    #[must_use]
    pub fn rank_and_size(&self) -> (usize, usize) {
        (self.group.tree.rank(), self.group.tree.size())
    }

    /// How long each wait may take from now on.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.group.deadline = deadline;
    }
}

fn never_readable() -> Result<OwnedFd, rustix::io::Errno> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

impl Drop for Writer {
    /// Closes, unless a panic is under way: then readers learn that the writer is lost.
    fn drop(&mut self) {
        if self.group.is_parents() {
            return;
        }
        if !std::thread::panicking() {
            self.group.deadline = self.group.deadline.min(DROP_DEADLINE);
            // Nobody is left to give the error to; `close` is there for those who want it.
            let _ = self.shut();
        }
        // SAFETY: nothing uses the engine any more.
        unsafe { ManuallyDrop::drop(self.engine.get_mut()) };
    }
}

impl Coded for PreparedWriter {
    fn encode(&self, into: &mut Encoder) {
        into.u64(self.epoch).u64(self.next_step).bytes(&self.ticket);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: from.u64()?,
            next_step: from.u64()?,
            ticket: from.bytes()?.to_vec(),
        })
    }
}

/// What the root decides at begin.
#[derive(Debug)]
pub(super) struct BeginDecision {
    pub(super) head: StepHead,
    pub(super) admission: Admission,
    /// The schema, if it is another than before.
    pub(super) schema: Option<Arc<Schema>>,
}

impl Coded for BeginDecision {
    fn encode(&self, into: &mut Encoder) {
        self.head.encode(into);
        match &self.admission {
            Admission::Write(bytes) => into.u8(WRITE).bytes(bytes),
            Admission::Discard => into.u8(DISCARD),
        };
        into.u8(u8::from(self.schema.is_some()));
        if let Some(schema) = &self.schema {
            schema.encode(into);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let head = StepHead::decode(from)?;
        let admission = match from.u8()? {
            WRITE => Admission::Write(from.bytes()?.to_vec()),
            DISCARD => Admission::Discard,
            other => return Err(from.error(format!("no decision has code {other}"))),
        };
        let schema = match from.u8()? {
            0 => None,
            _ => Some(Arc::new(Schema::decode(from)?)),
        };
        Ok(Self {
            head,
            admission,
            schema,
        })
    }
}
