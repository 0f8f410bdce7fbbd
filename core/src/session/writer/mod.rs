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

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use panta_transports::copy::CopyCounter;
use panta_transports::time::{Interrupt, wall_clock_ns};

use super::group::{Group, failed};
use super::merge::{BeginPart, Definitions, definitions_digest};
use super::nearest;
use crate::codec::{Coded, Decoder, Encoder};
use crate::comm::Comm;
use crate::engine::{Admission, EngineFactory, EngineInfo, PreparedWriter, Resume, WriterEngine};
use crate::error::{BeginError, CloseError, DefineError, Fault, OpenError, Place, Travels};
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
    engine: RefCell<Box<dyn WriterEngine>>,
    definitions: Vec<Arc<Definition>>,
    names: BTreeMap<String, usize>,
    announced_digest: Option<u64>,
    attributes: Vec<(AttributeKey, Attribute)>,
    schema: Arc<Schema>,
    /// The place in the schema of each of this rank's definitions.
    agreed: Vec<u32>,
    everyone: Definitions,
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
        let mut group = Group::form(name, comm, interrupt)?;
        let wait = group.wait();
        let factory = group.factory(engines);
        let prepared = group.tree.is_root().then(|| {
            let prepared = factory
                .clone()?
                .prepare_writer(&group.arguments(&wait), options.resume)?;
            let mut encoder = Encoder::default();
            encoder
                .u64(prepared.epoch)
                .u64(prepared.next_step)
                .bytes(&prepared.ticket);
            Ok(encoder.finish())
        });
        let told: Vec<u8> = group.told_by_root::<OpenError>(prepared)?;
        let prepared = read_prepared(&told, &group.place())?;
        let engine =
            factory.and_then(|factory| factory.attach_writer(&group.arguments(&wait), &prepared));
        let (engine, local) = match engine {
            Ok(engine) => (Some(engine), Ok(Vec::new())),
            Err(error) => (None, Err(error)),
        };
        group.agree::<OpenError>(local, |_, _| Ok(Vec::new()))?;
        let Some(engine) = engine else {
            return Err(failed(
                Fault::OnRank {
                    rank: group.tree.rank(),
                    what: "no engine".into(),
                },
                group.place(),
            ));
        };
        Ok(Self {
            engine: RefCell::new(engine),
            definitions: Vec::new(),
            names: BTreeMap::new(),
            announced_digest: None,
            attributes: Vec::new(),
            schema: Arc::default(),
            agreed: Vec::new(),
            everyone: Definitions::default(),
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
    /// chunk, unit, fill and coordinates may differ.
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
            self.definitions[index] = Arc::new(definition);
            return Ok(index);
        }
        let index = self.definitions.len();
        self.names.insert(definition.name.clone(), index);
        self.definitions.push(Arc::new(definition));
        Ok(index)
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
        self.attributes.push((
            AttributeKey {
                variable: variable.map(str::to_owned),
                name: name.to_owned(),
            },
            value,
        ));
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
        let place = self.group.place().at_step(self.next_step);
        if let Some(open) = &self.open {
            return Err(BeginError::InStep {
                stream: self.group.stream.clone(),
                step: open.head.step,
            });
        }
        let part = self.begin_part(time, reserve_bytes)?;
        let digest_now = part.definitions_digest;
        let (everyone, schema, engine) =
            (&mut self.everyone, &mut self.schema, self.engine.get_mut());
        let head = StepHead {
            epoch: self.epoch,
            step: self.next_step,
            time,
            wall_clock_ns: wall_clock_ns(),
        };
        let wait = self.group.wait();
        let decision = self.group.agree_at::<BeginError>(
            Ok(part.to_bytes()),
            place.clone(),
            |parts, place| {
                let mut parts = decode_parts::<BeginPart, BeginError>(&parts, place)?;
                let known = Arc::clone(schema);
                let mut merged = Arc::clone(schema);
                everyone.merge(&mut parts, &mut merged, place)?;
                let reserved: Vec<u64> = parts.iter().map(|part| part.reserve_bytes).collect();
                let admission =
                    engine
                        .admit(&head, &merged, &reserved, &wait)
                        .inspect_err(|_| {
                            // The merged schema is not taken over: the next begin merges again.
                            everyone.forget();
                        })?;
                *schema = merged;
                Ok(encode_decision(
                    &head,
                    &admission,
                    (!Arc::ptr_eq(&known, schema)).then_some(schema),
                ))
            },
        )?;
        self.announced_digest = Some(digest_now);
        self.attributes.clear();
        self.take_decision(&decision, &place)
    }

    fn begin_part(
        &self,
        time: StepTime,
        reserve_bytes: Option<u64>,
    ) -> Result<BeginPart, BeginError> {
        let reserve_bytes = reserve_bytes.unwrap_or(0).max(self.last_bytes);
        let limit_bytes = self.group.target.options.limit.0;
        if reserve_bytes > limit_bytes {
            let place = self
                .group
                .place()
                .at_step(self.next_step)
                .on_rank(self.group.tree.rank());
            return Err(BeginError::StepTooLarge {
                place,
                bytes: reserve_bytes,
                limit_bytes,
            });
        }
        let definitions_digest = definitions_digest(&self.definitions);
        let changed = self.announced_digest != Some(definitions_digest);
        Ok(BeginPart {
            definitions_digest,
            definitions: changed.then(|| self.definitions.clone()),
            attributes: self.attributes.clone(),
            reserve_bytes,
            time,
        })
    }

    fn take_decision(&mut self, decision: &[u8], place: &Place) -> Result<StepHead, BeginError> {
        let corrupt = |error| {
            failed::<BeginError>(Fault::corrupt("the root's decision", &error), place.clone())
        };
        let mut from = Decoder::new(decision);
        let mut read = || {
            Ok((
                StepHead::decode(&mut from)?,
                from.u8()?,
                from.bytes()?.to_vec(),
                from.bytes()?,
            ))
        };
        let (head, kind, admission, schema) = read().map_err(corrupt)?;
        if !schema.is_empty() {
            self.schema = Arc::new(Schema::from_bytes(schema).map_err(corrupt)?);
        }
        self.agreed = self
            .definitions
            .iter()
            .map(|d| {
                self.schema
                    .find(&d.name)
                    .map_or(u32::MAX, |index| index as u32)
            })
            .collect();
        let discarded = kind == DISCARD;
        let begun = if discarded {
            Ok(())
        } else {
            self.engine.get_mut().begin(&head, &self.schema, &admission)
        };
        self.open = Some(Open {
            head,
            discarded,
            failed: RefCell::new(begun.err().map(|error| error.to_string())),
            order: Cell::new(0),
            bytes: Cell::new(0),
            values: RefCell::default(),
        });
        Ok(head)
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
        if self.open.is_some() {
            // The error only says that the step was given up, which is what closing means.
            let _ = self.abort_step();
        }
        let wait = self.group.wait();
        let engine = self.engine.get_mut();
        let root = self.group.agree::<CloseError>(Ok(Vec::new()), |_, _| {
            engine.close_root(&wait).map(|()| Vec::new())
        });
        let own = self.engine.get_mut().close(&wait);
        root.and(own)
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

impl Drop for Writer {
    /// Closes, unless a panic is under way: then readers learn that the writer is lost.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.group.deadline = self.group.deadline.min(DROP_DEADLINE);
            // Nobody is left to give the error to; `close` is there for those who want it.
            let _ = self.shut();
        }
    }
}

fn read_prepared(told: &[u8], place: &Place) -> Result<PreparedWriter, OpenError> {
    let mut from = Decoder::new(told);
    let mut read = || {
        Ok(PreparedWriter {
            epoch: from.u64()?,
            next_step: from.u64()?,
            ticket: from.bytes()?.to_vec(),
        })
    };
    read().map_err(|error| failed(Fault::corrupt("the root's opening", &error), place.clone()))
}

fn decode_parts<T: Coded, E: Travels>(parts: &[Vec<u8>], place: &Place) -> Result<Vec<T>, E> {
    let mut decoded = Vec::with_capacity(parts.len());
    for (rank, part) in parts.iter().enumerate() {
        let part = T::from_bytes(part).map_err(|error| {
            Fault::corrupt(format!("what rank {rank} said"), &error).at(place.clone())
        })?;
        decoded.push(part);
    }
    Ok(decoded)
}

fn encode_decision(
    head: &StepHead,
    admission: &Admission,
    schema: Option<&Arc<Schema>>,
) -> Vec<u8> {
    let mut encoder = Encoder::default();
    head.encode(&mut encoder);
    match admission {
        Admission::Write(bytes) => encoder.u8(WRITE).bytes(bytes),
        Admission::Discard => encoder.u8(DISCARD).bytes(&[]),
    };
    encoder.bytes(&schema.map(|schema| schema.to_bytes()).unwrap_or_default());
    encoder.finish()
}
