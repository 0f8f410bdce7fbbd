//! One rank's end of a stream that is written.
//!
//! ```text
//! begin_step   up: definitions if changed, attributes, bytes      down: head, admission, schema if changed
//! put, span    local; bytes stay with the caller until the end
//! end_step     capture (the engine moves the bytes), then
//!              up: blocks, statistics, the engine's contribution   down: sealed, or the same error
//! ```
//! Two rounds of the control tree a step, whatever is put.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use panta_transports::copy::{CopyCounter, StridedRef};
use panta_transports::time::{Interrupt, wall_clock_ns};

use super::group::{Group, failed};
use super::merge::{BeginPart, Definitions, EndPart, Reported, definitions_digest, lay_out};
use super::nearest;
use crate::codec::{Coded, Decoder, Encoder, digest};
use crate::comm::Comm;
use crate::engine::{
    Admission, EngineFactory, EngineInfo, PreparedWriter, PutBlock, Resume, Sealing, Source,
    WriterEngine,
};
use crate::error::{
    BeginError, CloseError, DefineError, EndError, Fault, OpenError, Place, PutError, Travels,
};
use crate::model::{
    Attribute, AttributeKey, DType, Definition, MemorySpace, Schema, ShapeKind, StepHead,
    StepRecord, StepTime,
};
use crate::plan;
use crate::tree::TreeCounters;

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

/// A step that was captured, and sealed unless it was discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The step's number.
    pub step: u64,
    /// Whether the policy discarded it: readers will not see it.
    pub discarded: bool,
}

impl Sealed {
    /// Waits until the step is sealed. The engines there are seal before `end`
    /// returns, so this returns at once.
    ///
    /// # Errors
    /// [`EndError`] if it could not be sealed.
    pub fn wait(&self, _at_most: Duration) -> Result<(), EndError> {
        Ok(())
    }
}

/// A block that was put: to be given back to [`Writer::end_step`].
#[derive(Debug)]
pub struct Put<'d> {
    variable: usize,
    order: u32,
    start: Vec<u64>,
    count: Vec<u64>,
    source: Source<'d>,
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
                let bytes = parts
                    .iter()
                    .fold(0_u64, |sum, part| sum.saturating_add(part.reserve_bytes));
                let admission = engine
                    .admit(&head, &merged, bytes, &wait)
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

    fn put_place(&self, variable: usize) -> Place {
        let place = self
            .group
            .place()
            .on_rank(self.group.tree.rank())
            .of_variable(&self.definitions[variable].name);
        match &self.open {
            Some(open) => place.at_step(open.head.step),
            None => place,
        }
    }

    /// A failed put sticks: the step's end fails on every rank.
    fn stick(&self, error: PutError) -> PutError {
        if let Some(open) = &self.open {
            open.failed
                .borrow_mut()
                .get_or_insert_with(|| error.to_string());
        }
        error
    }

    /// Checks a put and takes its place in the order: element type, shape, limit.
    fn admit_put(
        &self,
        variable: usize,
        dtype: DType,
        start: &[u64],
        count: &[u64],
    ) -> Result<u32, PutError> {
        let Some(open) = &self.open else {
            return Err(PutError::NoStep {
                stream: self.group.stream.clone(),
            });
        };
        let definition = &self.definitions[variable];
        let place = || self.put_place(variable);
        if dtype != definition.dtype {
            return Err(PutError::DTypeMismatch {
                place: place(),
                defined: definition.dtype.name(),
                given: dtype.name(),
            });
        }
        if let Some(problem) = shape_problem(definition, start, count) {
            return Err(PutError::Shape {
                place: place(),
                problem,
            });
        }
        let block_bytes = definition.byte_size(count).unwrap_or(u64::MAX);
        let bytes = open.bytes.get().saturating_add(block_bytes);
        let limit_bytes = self.group.target.options.limit.0;
        if bytes > limit_bytes {
            return Err(PutError::StepTooLarge {
                place: place(),
                bytes,
                limit_bytes,
            });
        }
        open.bytes.set(bytes);
        let order = open.order.get();
        open.order.set(order + 1);
        Ok(order)
    }

    /// Puts an array's block. The bytes are taken by [`end_step`](Self::end_step), which
    /// must be given what this returns. `start` is empty for local arrays, or zeros; along
    /// a joined axis it is 0.
    ///
    /// # Errors
    /// [`PutError`]; the step then fails on every rank.
    pub fn put<'d>(
        &self,
        variable: usize,
        dtype: DType,
        start: &[u64],
        source: StridedRef<'d>,
        space: MemorySpace,
    ) -> Result<Put<'d>, PutError> {
        if space != MemorySpace::Host {
            let fault = Fault::Unsupported {
                engine: self.group.target.engine.scheme().to_owned(),
                what: format!("take memory of a device ({space:?})"),
                instead: "copy the block to the host and put that".into(),
            };
            return Err(self.stick(failed(fault, self.put_place(variable))));
        }
        let count = source.count().to_vec();
        let start = self.full_start(variable, start);
        let order = self
            .admit_put(variable, dtype, &start, &count)
            .map_err(|error| self.stick(error))?;
        Ok(Put {
            variable,
            order,
            start,
            count,
            source: Source::Memory(source),
        })
    }

    fn full_start(&self, variable: usize, start: &[u64]) -> Vec<u64> {
        let definition = &self.definitions[variable];
        if start.is_empty() && definition.kind != ShapeKind::GlobalArray {
            vec![0; definition.dimensions()]
        } else {
            start.to_vec()
        }
    }

    /// Puts a value: little-endian bytes of one element, or UTF-8. Taken at once.
    ///
    /// # Errors
    /// [`PutError`]; the step then fails on every rank.
    pub fn put_value(&self, variable: usize, dtype: DType, bytes: &[u8]) -> Result<(), PutError> {
        let order = self
            .admit_put(variable, dtype, &[], &[])
            .map_err(|error| self.stick(error))?;
        let open = self.open.as_ref().ok_or_else(|| PutError::NoStep {
            stream: self.group.stream.clone(),
        })?;
        if dtype != DType::Text && bytes.len() != dtype.size_bytes() {
            let problem = format!("{} bytes are no {dtype}", bytes.len());
            return Err(self.stick(PutError::Shape {
                place: self.put_place(variable),
                problem,
            }));
        }
        open.values
            .borrow_mut()
            .push((variable, order, bytes.to_vec()));
        Ok(())
    }

    /// Lends zeroed memory for an array's block, row-major, to compute into; valid until
    /// the step ends. Returns the put and the memory's address and bytes.
    ///
    /// # Errors
    /// [`PutError`]; the step then fails on every rank.
    pub fn span(
        &self,
        variable: usize,
        dtype: DType,
        start: &[u64],
        count: &[u64],
    ) -> Result<(Put<'static>, NonNull<u8>, usize), PutError> {
        let start = self.full_start(variable, start);
        let order = self
            .admit_put(variable, dtype, &start, count)
            .map_err(|error| self.stick(error))?;
        let bytes = self.definitions[variable]
            .byte_size(count)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(usize::MAX);
        let (id, memory) = self
            .engine
            .borrow_mut()
            .span(bytes)
            .map_err(|error| self.stick(error))?;
        Ok((
            Put {
                variable,
                order,
                start,
                count: count.to_vec(),
                source: Source::Span(id),
            },
            memory,
            bytes,
        ))
    }

    /// Ends the step; collective. When it returns the callers' memory is theirs again,
    /// and the step is sealed, or given up on every rank.
    ///
    /// # Errors
    /// [`EndError`], the same on every rank; also that of a put that failed on any rank.
    pub fn end_step(&mut self, puts: Vec<Put<'_>>) -> Result<Sealed, EndError> {
        self.conclude(puts, None)
    }

    /// Gives the step up, on every rank; collective with the others' [`end_step`](Self::end_step).
    ///
    /// # Errors
    /// [`EndError`]: always, saying that this rank gave the step up.
    pub fn abort_step(&mut self) -> Result<Sealed, EndError> {
        self.conclude(
            Vec::new(),
            Some("the step was dropped before its end".into()),
        )
    }

    fn conclude(
        &mut self,
        puts: Vec<Put<'_>>,
        given_up: Option<String>,
    ) -> Result<Sealed, EndError> {
        let Some(open) = self.open.take() else {
            let fault = Fault::Refused {
                peer: "this handle".into(),
                why: "no step is open; call begin_step first".into(),
            };
            return Err(failed(fault, self.group.place()));
        };
        let place = self.group.place().at_step(open.head.step);
        let local = match open.failed.borrow_mut().take().or(given_up) {
            Some(what) => Err(failed(
                Fault::OnRank {
                    rank: self.group.tree.rank(),
                    what,
                },
                place.clone(),
            )),
            None if open.discarded => Ok(EndPart::default()),
            None => self.capture(&open, puts, &place),
        };
        self.last_bytes = open.bytes.get();
        let (engine, schema) = (self.engine.get_mut(), &self.schema);
        let (wait, checked) = (self.group.wait(), self.group.target.options.checked);
        let decided = self.group.agree_at::<EndError>(
            local.map(|part| part.to_bytes()),
            place,
            |parts, place| {
                if !open.discarded {
                    let parts = decode_parts::<EndPart, EndError>(&parts, place)?;
                    let (reported, contributions) = parts
                        .into_iter()
                        .map(|part| (part.reported, part.contribution))
                        .unzip();
                    let step = assemble(open.head, reported, schema, checked, place)?;
                    engine.seal(
                        &Sealing {
                            record: &step.0,
                            schema,
                            layout: &step.1,
                            contributions,
                        },
                        &wait,
                    )?;
                }
                Ok(Vec::new())
            },
        );
        self.engine
            .get_mut()
            .finish(&open.head, decided.is_ok() && !open.discarded);
        self.next_step = open.head.step + 1;
        decided.map(|_| Sealed {
            step: open.head.step,
            discarded: open.discarded,
        })
    }

    fn capture(
        &mut self,
        open: &Open,
        puts: Vec<Put<'_>>,
        place: &Place,
    ) -> Result<EndPart, EndError> {
        let mut sources = Vec::with_capacity(puts.len());
        let mut boxes = Vec::with_capacity(puts.len());
        for put in puts {
            boxes.push((put.variable, put.order, put.start, put.count));
            sources.push(put.source);
        }
        let blocks: Vec<PutBlock<'_>> = boxes
            .iter()
            .zip(sources)
            .map(|((variable, order, start, count), source)| PutBlock {
                variable: self.agreed[*variable],
                definition: &self.definitions[*variable],
                order: *order,
                start,
                count,
                source,
            })
            .collect();
        let wait = self.group.wait();
        let rank = self.group.tree.rank();
        let captured = self
            .engine
            .get_mut()
            .capture(&open.head, &blocks, &wait)
            .map_err(|error| {
                let fault = Fault::OnRank {
                    rank,
                    what: error.to_string(),
                };
                EndError::from(fault.at(place.clone()))
            })?;
        drop(blocks);
        let mut reported: Vec<Reported> = boxes
            .into_iter()
            .zip(captured.stats)
            .map(|((variable, order, start, count), stats)| {
                EndPart::array(self.agreed[variable], order, start, count, stats)
            })
            .collect();
        let values = open
            .values
            .borrow_mut()
            .drain(..)
            .map(|(variable, order, bytes)| EndPart::value(self.agreed[variable], order, bytes))
            .collect::<Vec<_>>();
        reported.extend(values);
        reported.sort_by_key(|reported| reported.order);
        Ok(EndPart {
            reported,
            contribution: captured.contribution,
        })
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

fn assemble(
    head: StepHead,
    reported: Vec<Vec<Reported>>,
    schema: &Arc<Schema>,
    checked: bool,
    place: &Place,
) -> Result<(StepRecord, crate::model::Layout), EndError> {
    let (layout, payloads) = lay_out(reported, schema);
    for entry in layout.entries.iter().filter(|_| checked) {
        let definition = &schema.variables[entry.variable as usize];
        if definition.kind == ShapeKind::GlobalArray
            && let Some((first, second)) = plan::overlaps(&entry.blocks)
        {
            let (first, second) = (&entry.blocks[first], &entry.blocks[second]);
            let what = format!(
                "the block at {:?} of rank {} and the block at {:?} of rank {} overlap",
                first.start, first.rank, second.start, second.rank
            );
            return Err(EndError::Overlap {
                place: place.clone().of_variable(&definition.name),
                what,
            });
        }
    }
    let (schema_digest, layout_digest) = (digest(&schema.to_bytes()), digest(&layout.to_bytes()));
    Ok((
        StepRecord {
            head,
            schema_digest,
            layout_digest,
            payloads,
        },
        layout,
    ))
}

fn shape_problem(definition: &Definition, start: &[u64], count: &[u64]) -> Option<String> {
    let dimensions = definition.dimensions();
    if start.len() != dimensions || count.len() != dimensions {
        return Some(format!(
            "the block has {} starts and {} counts, the variable has {dimensions} dimensions",
            start.len(),
            count.len()
        ));
    }
    if definition.byte_size(count).is_none() {
        return Some(format!(
            "a block of {count:?} cells is larger than 2^63 bytes"
        ));
    }
    let joined = match definition.kind {
        ShapeKind::JoinedArray { axis } => Some(usize::from(axis)),
        ShapeKind::GlobalArray => None,
        _ => {
            return (start.iter().any(|start| *start != 0))
                .then(|| format!("a {} starts at 0, not at {start:?}", definition.kind.name()));
        }
    };
    for dimension in 0..dimensions {
        let (start, count, length) = (
            start[dimension],
            count[dimension],
            definition.shape[dimension],
        );
        if joined == Some(dimension) {
            if start != 0 {
                return Some(format!(
                    "along the joined dimension {dimension} a block starts at 0, not at {start}"
                ));
            }
        } else if start.checked_add(count).is_none_or(|end| end > length) {
            return Some(format!(
                "{count} cells from {start} reach outside dimension {dimension}, which has {length}"
            ));
        }
    }
    None
}
