//! Writing: one rank's puts, and what the root agrees on with the home.
//!
//! ```text
//!   admit    root    Define (new variables), Begin          -> layouts, watermark
//!   capture  ranks   Put, Put, … to every owner, pipelined  -> what was stored where
//!   seal     root    Define (new schema, layout), End       -> sealed
//! ```
//! Bytes that lie contiguous in the caller's memory are sent from there; others
//! are gathered once into buffers that are used again. Checksums and
//! statistics are made on the way, tile by tile.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use panta_core::codec::Coded;
use panta_core::engine::{
    Admission, Captured, EngineInfo, PutBlock, Sealing, Source, SpanId, SpanMemory, WriterEngine,
};
use panta_core::error::{BeginError, CloseError, EndError, Failure, Fault, Place, PutError};
use panta_core::model::{Definition, Schema, ShapeKind, StepHead};
use panta_core::notice::Notice;
use panta_transports::copy::CopyCounter;
use panta_transports::time::Wait;

use super::alive::Keeper;
use super::driver::{Driver, NoBodies};
use super::fault::CallError;
use super::grid::{Grid, Placed, local_number};
use super::packing::Packing;
use super::put::{Putter, Target};
use super::record::{Admitted, Part, Shares, fixed_part, layout_name, schema_name, shape_part};
use super::shared::{Shared, lock};
use super::spans::Spans;
use crate::proto::client::{Answer, ClientError, EndCall, WriterCall, WriterMachine, merge_shares};
use crate::proto::message::{Decision, Fate, OwnerShare, Reason, StepFate, VariableLayout};
use crate::proto::placement::home_of;
use crate::routing::Router;
use crate::shard::ShardMap;

/// The longest an unsealed step's withdrawal is waited for.
const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// What is known of a variable that was defined alike before.
struct Known {
    definition: Arc<Definition>,
    grid: Arc<Grid>,
}

/// See the module.
pub(super) struct StagingWriter {
    pub(super) stream: String,
    pub(super) why: String,
    pub(super) rank: u32,
    pub(super) ranks: u32,
    pub(super) slot: u32,
    pub(super) driver: Shared<Driver<WriterMachine>>,
    pub(super) names: Vec<String>,
    pub(super) map: ShardMap,
    pub(super) copies: CopyCounter,
    /// Of the root: tells the home that this writer lives while it computes.
    pub(super) keeper: Option<Keeper>,
    /// How long the program may stay away, where it makes progress by hand.
    pub(super) silence: Option<Duration>,
    /// Of a writer that was asked for one.
    pub(super) notice: OnceLock<Notice>,
    pub(super) state: State,
}

/// What changes from step to step.
#[derive(Default)]
pub(super) struct State {
    router: Router,
    known: BTreeMap<String, Known>,
    admitted: Admitted,
    reserved_bytes: u64,
    /// The step that was begun at the home and is neither sealed nor withdrawn.
    open: Option<u64>,
    in_doubt: bool,
    /// The schema and layout registered last: digest and number.
    registered: [Option<(u64, u32)>; 2],
    spans: Spans,
    putter: Putter,
}

impl State {
    /// That of a writer whose pieces are packed.
    pub(super) fn compressing(packing: Option<Packing>) -> Self {
        Self {
            putter: Putter::compressing(packing),
            ..Self::default()
        }
    }
}

impl std::fmt::Debug for StagingWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StagingWriter")
            .field("stream", &self.stream)
            .field("rank", &self.rank)
            .finish_non_exhaustive()
    }
}

impl StagingWriter {
    fn place(&self, step: u64) -> Place {
        Place::stream(&self.stream).at_step(step)
    }

    /// Names the layouts of all arrays of the schema; those named before cost nothing.
    fn define_all(
        &self,
        head: &StepHead,
        schema: &Schema,
        wait: &Wait,
    ) -> Result<Vec<u64>, BeginError> {
        let mut driver = lock(&self.driver);
        let mut calls = Vec::with_capacity(schema.variables.len());
        for definition in &schema.variables {
            let call = (!definition.kind.is_value()).then(|| {
                let call = WriterCall::Define {
                    step: head.step,
                    variable: definition.name.clone(),
                    fixed: fixed_part(definition),
                    shape: shape_part(definition),
                };
                driver.start(call, &NoBodies, wait)
            });
            calls.push(call);
        }
        let mut layouts = Vec::with_capacity(calls.len());
        let mut failed = None;
        for (call, definition) in calls.into_iter().zip(&schema.variables) {
            let number = match call.map(|call| driver.finish(call, &NoBodies, wait)) {
                Some(Ok(Answer::Defined(number))) => u64::from(number),
                Some(Err(error)) if failed.is_none() => {
                    failed = Some((error, Arc::clone(definition)));
                    0
                }
                _ => 0,
            };
            layouts.push(number);
        }
        match failed {
            None => Ok(layouts),
            Some((error, definition)) => {
                Err(define_error(error, self.place(head.step), &definition))
            }
        }
    }

    fn begin_at_home(
        &mut self,
        step: u64,
        bytes: u64,
        wait: &Wait,
    ) -> Result<(Decision, u64, Vec<u64>), CallError> {
        let call = WriterCall::Begin {
            step,
            reserve_bytes: bytes,
        };
        match lock(&self.driver).call(call, wait)? {
            Answer::Began {
                decision,
                oldest,
                kept,
            } => {
                self.state.reserved_bytes = bytes;
                self.state.open = (decision == Decision::Go).then_some(step);
                Ok((decision, oldest, kept))
            }
            _ => Err(unexpected("begin of a step")),
        }
    }

    fn grid(&mut self, definition: &Arc<Definition>) -> Result<Arc<Grid>, String> {
        let known = self.state.known.get(&definition.name);
        if let Some(known) = known.filter(|known| {
            Arc::ptr_eq(&known.definition, definition) || known.definition == *definition
        }) {
            return Ok(Arc::clone(&known.grid));
        }
        let grid = Grid::new(&self.stream, definition)
            .map_err(|error| format!("{error}; give it larger chunks"))?;
        let grid = Arc::new(grid);
        let known = Known {
            definition: Arc::clone(definition),
            grid: Arc::clone(&grid),
        };
        self.state.known.insert(definition.name.clone(), known);
        Ok(grid)
    }

    /// Registers a schema or layout; its number.
    fn register(
        &mut self,
        which: usize,
        step: u64,
        name: String,
        (named, bytes): (u64, &[u8]),
        wait: &Wait,
    ) -> Result<VariableLayout, CallError> {
        let layout = match self.state.registered[which] {
            Some((known, number)) if known == named => number,
            _ => {
                let call = WriterCall::Define {
                    step,
                    variable: name.clone(),
                    fixed: Vec::new(),
                    shape: bytes.to_vec(),
                };
                match lock(&self.driver).call(call, wait)? {
                    Answer::Defined(number) => number,
                    _ => return Err(unexpected("define")),
                }
            }
        };
        self.state.registered[which] = Some((named, layout));
        Ok(VariableLayout {
            variable: name,
            layout,
            statistics: None,
        })
    }

    fn seal_at_home(&mut self, sealing: &Sealing<'_>, wait: &Wait) -> Result<(), SealError> {
        let step = sealing.record.head.step;
        let owners = self.owners(sealing)?;
        let bytes: u64 = owners.iter().map(|share| share.bytes).sum();
        if bytes > self.state.reserved_bytes {
            // More was put than was reserved: the home decides again.
            self.begin_at_home(step, bytes, wait)?;
        }
        let mut variables: Vec<VariableLayout> = Vec::new();
        for entry in &sealing.layout.entries {
            let definition = &sealing.schema.variables[entry.variable as usize];
            let layout = self.state.admitted.layouts.get(entry.variable as usize);
            if let Some(layout) = layout.filter(|_| !definition.kind.is_value()) {
                variables.push(VariableLayout {
                    variable: definition.name.clone(),
                    layout: u32::try_from(*layout).unwrap_or(0),
                    statistics: None,
                });
            }
        }
        let record = sealing.record;
        let name = schema_name(self.slot);
        variables.push(self.register(
            0,
            step,
            name,
            (record.schema_digest, sealing.schema_bytes),
            wait,
        )?);
        let name = layout_name(self.slot);
        variables.push(self.register(
            1,
            step,
            name,
            (record.layout_digest, sealing.layout_bytes),
            wait,
        )?);
        let part = Part {
            ranks: self.ranks,
            record: record.clone(),
        };
        let end = EndCall {
            step,
            time: record.head.time.sim.unwrap_or(f64::NEG_INFINITY),
            wall_clock_ns: record.head.wall_clock_ns,
            owners,
            variables,
            attributes: part.to_bytes(),
        };
        self.end_at_home(end, wait)
    }

    fn owners(&self, sealing: &Sealing<'_>) -> Result<Vec<OwnerShare>, SealError> {
        let mut shares = Vec::new();
        for contribution in sealing.contributions {
            if !contribution.is_empty() {
                let part = Shares::from_bytes(contribution)
                    .map_err(|error| SealError::Fault(Fault::corrupt("a rank's shares", &error)))?;
                shares.extend(part.0);
            }
        }
        Ok(merge_shares(&self.names, shares).map_err(CallError::from)?)
    }

    fn end_at_home(&mut self, end: EndCall, wait: &Wait) -> Result<(), SealError> {
        let step = end.step;
        let mut driver = lock(&self.driver);
        let mut answer = driver.call(WriterCall::End(end), wait);
        // Other writers may have to end it too.
        if matches!(&answer, Ok(Answer::Fate(fate)) if fate.fate() == StepFate::Open) {
            answer = driver.call(WriterCall::AwaitSeal { step }, wait);
        }
        match answer {
            Ok(Answer::Fate(fate)) => settled(&fate, step),
            Ok(_) => Err(unexpected("end of a step").into()),
            Err(error) if error.leaves_doubt() => {
                Err(SealError::InDoubt(error.fault().to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Why a step was not sealed.
enum SealError {
    Call(CallError),
    Fault(Fault),
    InDoubt(String),
}

impl From<CallError> for SealError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

fn settled(fate: &Fate, step: u64) -> Result<(), SealError> {
    match fate.fate() {
        StepFate::Sealed => Ok(()),
        StepFate::Aborted | StepFate::Discarded => Err(SealError::Fault(Fault::Refused {
            peer: "the stream's home".into(),
            why: format!(
                "step {step} was withdrawn; a writer that writes the stream too gave it up"
            ),
        })),
        StepFate::Open => Err(SealError::InDoubt(fate.waiting_for.clone())),
    }
}

fn unexpected(operation: &'static str) -> CallError {
    CallError::Client(ClientError::Misuse {
        operation,
        detail: "the answer is of another kind",
    })
}

/// What a refused definition means: another writer's differs.
fn define_error(error: CallError, place: Place, definition: &Definition) -> BeginError {
    let first = match &error {
        CallError::Client(ClientError::Refused {
            reason: Reason::Disagreement,
            first,
            ..
        }) => first.clone().unwrap_or_default(),
        _ => return error.fault().at(place).into(),
    };
    let place = place.of_variable(&definition.name);
    let difference = Definition::from_bytes(&first.fixed)
        .ok()
        .and_then(|other| other.fixed_difference(definition))
        .unwrap_or_else(|| "shape or chunks".into());
    BeginError::Disagreement {
        place,
        difference: format!("{difference}, first by another writer group, then by this one"),
    }
}

impl WriterEngine for StagingWriter {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            engine: "staging",
            transport: "tcp".into(),
            why: self.why.clone(),
        }
    }

    fn progress(&mut self) -> Result<(), Fault> {
        if let Some(notice) = self.notice.get() {
            notice.ticked();
        }
        self.keeper.as_ref().map_or(Ok(()), Keeper::progress)
    }

    fn wait_fd(&self) -> Result<Option<OwnedFd>, Fault> {
        let Some(silence) = self.keeper.as_ref().and(self.silence) else {
            return Ok(None);
        };
        let failed = |error: std::io::Error| Fault::io("making a descriptor", &error);
        let notice = match self.notice.get() {
            Some(notice) => notice,
            None => {
                // It is only ever time to say that this side lives.
                let made = Notice::new(silence / 4).map_err(failed)?;
                made.answered(false);
                self.notice.get_or_init(|| made)
            }
        };
        let fd = notice.as_fd().try_clone_to_owned();
        fd.map(Some).map_err(failed)
    }

    fn admit(
        &mut self,
        head: &StepHead,
        schema: &Arc<Schema>,
        reserve_bytes: &[u64],
        wait: &Wait,
    ) -> Result<Admission, BeginError> {
        let reserved = reserve_bytes.iter();
        let bytes = reserved.fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        self.state.in_doubt = false;
        let layouts = self.define_all(head, schema, wait)?;
        let begun = self.begin_at_home(head.step, bytes, wait);
        let place = self.place(head.step);
        let (decision, oldest, kept) = begun.map_err(|error| match error.refusal() {
            Some((Reason::StepTooLarge, limit_bytes, ..)) => BeginError::StepTooLarge {
                place: place.clone(),
                bytes,
                limit_bytes,
            },
            _ => error.fault().at(place.clone()).into(),
        })?;
        if decision == Decision::Discard {
            return Ok(Admission::Discard);
        }
        let admitted = Admitted {
            oldest,
            kept,
            layouts,
        };
        Ok(Admission::Write(admitted.to_bytes()))
    }

    fn begin(
        &mut self,
        head: &StepHead,
        _schema: &Arc<Schema>,
        admission: &[u8],
    ) -> Result<(), BeginError> {
        self.state.admitted = Admitted::from_bytes(admission).map_err(|error| {
            let fault = Fault::corrupt("the root's admission", &error);
            BeginError::from(fault.at(self.place(head.step)))
        })?;
        Ok(())
    }

    fn span(&mut self, bytes: usize) -> Result<(SpanId, NonNull<u8>), PutError> {
        Ok(self.state.spans.lend(bytes))
    }

    fn span_memory(&self, span: SpanId) -> Option<SpanMemory> {
        self.state.spans.memory(span)
    }

    fn capture(
        &mut self,
        head: &StepHead,
        puts: &[PutBlock<'_>],
        into: &mut Captured,
        wait: &Wait,
    ) -> Result<(), PutError> {
        let place = self.place(head.step).on_rank(self.rank as usize);
        let mut spans = std::mem::take(&mut self.state.spans);
        spans.round(puts);
        let mut putter = std::mem::take(&mut self.state.putter);
        let result = self.put_all(head, puts, &spans, &mut putter, into, wait);
        spans.end();
        self.state.spans = spans;
        self.state.putter = putter;
        if let Err((variable, fault)) = result {
            let place = match variable {
                Some(variable) => place.of_variable(&variable),
                None => place,
            };
            return Err(fault.at(place).into());
        }
        Ok(())
    }

    fn seal(&mut self, sealing: &Sealing<'_>, wait: &Wait) -> Result<(), EndError> {
        let place = self.place(sealing.record.head.step);
        match self.seal_at_home(sealing, wait) {
            Ok(()) => {
                self.state.open = None;
                Ok(())
            }
            Err(SealError::InDoubt(why)) => {
                self.state.in_doubt = true;
                Err(EndError::InDoubt { place, why })
            }
            Err(SealError::Call(error)) => Err(error.fault().at(place).into()),
            Err(SealError::Fault(fault)) => Err(fault.at(place).into()),
        }
    }

    fn finish(&mut self, head: &StepHead, sealed: bool) {
        self.state.spans.end();
        let home = home_of(&self.stream, &self.names);
        if sealed || self.state.in_doubt || self.state.open.take() != Some(head.step) {
            return;
        }
        let mut driver = lock(&self.driver);
        if home.is_some_and(|home| driver.is_connected(home)) {
            // If this cannot be said now, the next begin says it.
            let wait = Wait::for_at_most(ABORT_LIMIT);
            let _ = driver.call(WriterCall::Abort { step: head.step }, &wait);
        }
    }

    fn close_root(&mut self, wait: &Wait) -> Result<(), CloseError> {
        self.keeper = None;
        let closed = lock(&self.driver).call(WriterCall::Close, wait);
        let place = Place::stream(&self.stream);
        closed.map(|_| ()).map_err(|error| {
            let failure: Failure = error.fault().at(place);
            failure.into()
        })
    }

    fn close(&mut self, _wait: &Wait) -> Result<(), CloseError> {
        self.keeper = None;
        Ok(())
    }
}

impl StagingWriter {
    fn put_all(
        &mut self,
        head: &StepHead,
        puts: &[PutBlock<'_>],
        spans: &Spans,
        putter: &mut Putter,
        captured: &mut Captured,
        wait: &Wait,
    ) -> Result<(), (Option<String>, Fault)> {
        let driver = Arc::clone(&self.driver);
        let mut driver = lock(&driver);
        let copies = self.copies.clone();
        let mut session = putter.begin(&mut driver, &copies, wait);
        for put in puts {
            let name = || Some(put.definition.name.clone());
            let shape = |problem: String| {
                let why = Fault::Refused {
                    peer: "this engine".into(),
                    why: problem,
                };
                (name(), why)
            };
            let placed = self.pieces(put).map_err(shape)?;
            let source = match &put.source {
                Source::Memory(source) => *source,
                Source::Span(span) => spans
                    .view(*span, put.definition.dtype.size_bytes(), put.count)
                    .map_err(shape)?,
            };
            let layout = self.state.admitted.layouts.get(put.variable as usize);
            let target = Target {
                step: head.step,
                oldest: self.state.admitted.oldest,
                kept: &self.state.admitted.kept,
                map_version: self.map.version(),
                variable: &put.definition.name,
                layout: layout
                    .and_then(|layout| u32::try_from(*layout).ok())
                    .unwrap_or(0),
                order: put.order,
                dtype: put.definition.dtype,
                origin: self.origin(put).map_err(shape)?,
            };
            let stats = session
                .put(&target, source, &placed, spans.pass(put))
                .map_err(|error| (name(), error))?;
            captured.stats.push(stats);
        }
        session.finish().map_err(|error| (None, error))?;
        let shares = driver.machine().shares(head.step);
        let shares = shares.map_err(|error| (None, CallError::from(error).fault()))?;
        captured.contribution = Shares(shares).to_bytes();
        Ok(())
    }

    fn pieces(&mut self, put: &PutBlock<'_>) -> Result<Vec<Placed>, String> {
        let grid = self.grid(put.definition)?;
        match put.definition.kind {
            ShapeKind::GlobalArray => {
                let router = &mut self.state.router;
                Ok(grid.pieces(&self.map, router, put.start, put.count))
            }
            _ => Ok(grid.local_pieces(&self.map, self.number(put)?, put.count)),
        }
    }

    fn number(&self, put: &PutBlock<'_>) -> Result<u64, String> {
        local_number(self.slot, self.rank, put.order)
            .ok_or_else(|| format!("rank {} is beyond what local arrays can number", self.rank))
    }

    /// Where the block lies in the variable's space.
    fn origin(&self, put: &PutBlock<'_>) -> Result<Vec<u64>, String> {
        Ok(match put.definition.kind {
            ShapeKind::GlobalArray => put.start.to_vec(),
            _ => {
                let mut origin = vec![self.number(put)?];
                origin.resize(put.count.len() + 1, 0);
                origin
            }
        })
    }
}
