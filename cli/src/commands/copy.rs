//! `panta copy`: any stream or file into another.
//!
//! ```text
//! source step -> schema changes -> begin -> every block read whole -> put -> end
//! ```
//! Decomposition, dtypes, attributes, values and simulation times stay; step
//! numbers start at 0, and all blocks count as put by one rank, in their order,
//! so that overlaps resolve alike. One step's blocks are held at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use panta::{MemorySpace, NextError, Solo, Start};
use panta_core::model::{Attributes, BlockId, Definition, Payload, Selection, ShapeKind};
use panta_core::session::{Put, Reader, ReaderOptions, Step, Writer, WriterOptions};
use panta_transports::copy::{StridedMut, StridedRef};

use super::streams::open_to_look;
use crate::arguments::CopyArguments;
use crate::error::CommandError;
use crate::number;
use crate::source::{Source, resolve};

/// What to do about a stream whose steps are dealt out.
const TAKE: &str = ", and `--take` copies the steps that fall to this reader";

/// Runs the command.
pub(crate) fn run(arguments: &CopyArguments) -> Result<(), CommandError> {
    check(arguments)?;
    let start = arguments.from_step.map_or(Start::Oldest, Start::At);
    let engines = panta::registry();
    let options = ReaderOptions {
        start,
        progress: None,
    };
    let open = || {
        Ok(Reader::open(
            &arguments.from,
            &mut Solo,
            &engines,
            &options,
        )?)
    };
    let mut reader = match arguments.take {
        true => open()?,
        false => open_to_look(&arguments.from, TAKE, open)?,
    };
    // The destination is opened at the first step, so that a source that has none
    // replaces nothing.
    let mut copy: Option<Copy> = None;
    let progress = progress();
    let outcome = loop {
        let step = match reader.next_step() {
            Ok(Some(step)) => step,
            Ok(None) => break Ok(()),
            Err(NextError::RolledBack { to, .. }) => {
                break Err(CommandError::failed(format!(
                    "stream `{}`: its writer went back to step {to:?} while it was copied, and {} \
                     holds steps that were withdrawn; copy once more",
                    arguments.from, arguments.to
                )));
            }
            Err(error) => break Err(error.into()),
        };
        let number = step.head().step;
        if let (None, Some(wanted)) = (&copy, arguments.from_step)
            && number > wanted
            && arguments.to_step.is_none_or(|last| last >= number)
        {
            progress.println(format!(
                "panta: the first step at or after {wanted} is {number}"
            ));
        }
        if arguments.to_step.is_some_and(|last| number > last) {
            break Ok(());
        }
        let copy = match &mut copy {
            Some(copy) => copy,
            none => none.insert(Copy::open(arguments, &step)?),
        };
        copy.step(&step, &progress)?;
        if arguments.to_step == Some(number) {
            break Ok(());
        }
    };
    progress.finish_and_clear();
    // What was copied before an error is closed in good order, and the error told.
    if let Some(copy) = copy {
        copy.writer.close()?;
    } else if outcome.is_ok() {
        return Err(CommandError::failed(format!(
            "stream `{}` has no step to copy; nothing was written",
            arguments.from
        )));
    }
    outcome
}

/// What can be refused before anything is opened.
fn check(arguments: &CopyArguments) -> Result<(), CommandError> {
    if let (Some(first), Some(last)) = (arguments.from_step, arguments.to_step)
        && first > last
    {
        return Err(CommandError::Usage(format!(
            "--from-step {first} comes after --to-step {last}"
        )));
    }
    let (from, to) = (resolve(&arguments.from)?, resolve(&arguments.to)?);
    if from.engine == to.engine
        && from.name == to.name
        && from.options.servers == to.options.servers
    {
        return Err(CommandError::Usage(format!(
            "source and destination are both `{}`; choose another destination",
            arguments.to
        )));
    }
    Source::find(&arguments.from).map(drop)
}

/// A bar on a terminal, nothing elsewhere.
fn progress() -> ProgressBar {
    let progress = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} steps, {msg}, {elapsed}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(200));
    progress
}

/// A copy under way.
struct Copy {
    writer: Writer,
    wanted: BTreeSet<String>,
    from: String,
    attributes: Attributes,
    /// Kept from step to step, so that memory is touched first only once.
    buffers: Vec<Vec<u8>>,
    bytes: u64,
}

/// Where a block's bytes lie while a step is copied.
struct Taken {
    variable: usize,
    definition: Arc<Definition>,
    start: Vec<u64>,
    count: Vec<u64>,
    buffer: usize,
}

impl Copy {
    fn open(arguments: &CopyArguments, first: &Step) -> Result<Self, CommandError> {
        let wanted: BTreeSet<String> = arguments.variables.iter().cloned().collect();
        // A misspelt name is found before anything is replaced.
        for name in &wanted {
            if first.schema().find(name).is_none() {
                first.entry(name)?;
            }
        }
        let engines = panta::registry();
        let writer = Writer::open(&arguments.to, &mut Solo, &engines, WriterOptions::default())?;
        Ok(Self {
            writer,
            wanted,
            from: arguments.from.clone(),
            attributes: Attributes::new(),
            buffers: Vec::new(),
            bytes: 0,
        })
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.contains(name)
    }

    fn step(&mut self, step: &Step, progress: &ProgressBar) -> Result<(), CommandError> {
        self.define(step)?;
        let taken = self.read(step)?;
        let reserve = taken
            .iter()
            .map(|taken| self.buffers[taken.buffer].len() as u64);
        let reserve: u64 = reserve.sum();
        self.writer.begin_step(step.head().time, Some(reserve))?;
        match put_all(&self.writer, &self.buffers, step, &taken) {
            Ok(puts) => self.writer.end_step(puts)?,
            Err(error) => {
                // The error that counts is the put's.
                let _ = self.writer.abort_step();
                return Err(error);
            }
        };
        self.bytes += reserve;
        progress.inc(1);
        progress.set_message(number::bytes(self.bytes));
        Ok(())
    }

    /// Passes on what is new about variables and attributes.
    fn define(&mut self, step: &Step) -> Result<(), CommandError> {
        let schema = step.schema();
        for definition in &schema.variables {
            if !self.is_wanted(&definition.name) {
                continue;
            }
            let mut definition = Definition::clone(definition);
            if let ShapeKind::JoinedArray { axis } = definition.kind
                && let Some(side) = definition.shape.get_mut(usize::from(axis))
            {
                *side = 0;
            }
            self.writer.define(definition)?;
        }
        for (key, value) in &schema.attributes {
            let of = key.variable.as_deref();
            if of.is_none_or(|name| self.is_wanted(name)) && self.attributes.get(key) != Some(value)
            {
                self.writer.set_attribute(of, &key.name, value.clone())?;
                self.attributes.insert(key.clone(), value.clone());
            }
        }
        Ok(())
    }

    /// Reads every array block of the step, whole, into a buffer of its own.
    fn read(&mut self, step: &Step) -> Result<Vec<Taken>, CommandError> {
        let mut taken = Vec::new();
        for entry in step.entries() {
            let definition = &entry.definition;
            let Some(variable) = self.writer.find(&definition.name) else {
                continue;
            };
            let arrays = entry.blocks.iter().zip(0..);
            let arrays = arrays.filter(|(block, _)| matches!(block.payload, Payload::Array(_)));
            for (block, index) in arrays {
                let buffer = taken.len();
                self.read_block(step, definition, BlockId(index), &block.block.count, buffer)?;
                // A joined block's place follows from the order in which it is put.
                let joined = matches!(definition.kind, ShapeKind::JoinedArray { .. });
                let mut start = block.block.start.clone();
                if joined {
                    start.fill(0);
                }
                taken.push(Taken {
                    variable,
                    definition: Arc::clone(definition),
                    start,
                    count: block.block.count.clone(),
                    buffer,
                });
            }
        }
        Ok(taken)
    }

    fn read_block(
        &mut self,
        step: &Step,
        definition: &Definition,
        block: BlockId,
        count: &[u64],
        buffer: usize,
    ) -> Result<(), CommandError> {
        let bytes = definition.byte_size(count).unwrap_or(u64::MAX);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if self.buffers.len() <= buffer {
            self.buffers.push(Vec::new());
        }
        let memory = &mut self.buffers[buffer];
        let more = bytes.saturating_sub(memory.len());
        memory.try_reserve_exact(more).map_err(|_| {
            CommandError::failed(format!(
                "stream `{}`, variable `{}`: a block of {} does not fit into memory",
                self.from,
                definition.name,
                number::bytes(bytes as u64)
            ))
        })?;
        memory.resize(bytes, 0);
        if bytes == 0 {
            return Ok(());
        }
        let width = definition.dtype.size_bytes();
        let resolved =
            step.resolve(&definition.name, definition.dtype, &Selection::block(block))?;
        let into = StridedMut::contiguous(memory, width, count)
            .map_err(|error| CommandError::failed(error.to_string()))?;
        Ok(step.read(resolved, into)?)
    }
}

/// Puts the blocks, and the values with them.
fn put_all<'b>(
    writer: &Writer,
    buffers: &'b [Vec<u8>],
    step: &Step,
    taken: &[Taken],
) -> Result<Vec<Put<'b>>, CommandError> {
    let mut puts = Vec::with_capacity(taken.len());
    for block in taken {
        let dtype = block.definition.dtype;
        let bytes = &buffers[block.buffer];
        let bytes = StridedRef::contiguous(bytes, dtype.size_bytes(), &block.count)
            .map_err(|error| CommandError::failed(error.to_string()))?;
        puts.push(writer.put(
            block.variable,
            dtype,
            &block.start,
            bytes,
            MemorySpace::Host,
        )?);
    }
    for entry in step.entries() {
        let Some(variable) = writer.find(&entry.definition.name) else {
            continue;
        };
        for block in &entry.blocks {
            if let Payload::Value(bytes) = &block.payload {
                writer.put_value(variable, entry.definition.dtype, bytes)?;
            }
        }
    }
    Ok(puts)
}
