//! Steps: the schema, layout and record that together describe one.
//!
//! ```text
//! Schema   definitions and attributes        changes rarely   named by its digest
//! Layout   which rank put which box of what  changes rarely   named by its digest
//! Record   number, times, statistics, values every step       names the two above
//! ```
//! An engine stores or sends a schema or a layout once; a step whose schema and
//! layout are known costs only its record.

use std::any::Any;
use std::sync::Arc;

use super::attribute::Attributes;
use super::block::{Block, BlockId, BlockInfo, Stats};
use super::variable::{Definition, ShapeKind};

/// When a step happened in the simulation's own time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepTime {
    /// Simulation time, in the simulation's unit, if it has one.
    pub sim: Option<f64>,
}

impl StepTime {
    /// A step at simulation time `time`.
    #[must_use]
    pub fn sim(time: f64) -> Self {
        Self { sim: Some(time) }
    }
}

/// What identifies and dates a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepHead {
    /// The life of the writer that made it; the first is 1.
    pub epoch: u64,
    /// Its number, from 0; numbers of dropped steps are not used again.
    pub step: u64,
    /// Simulation time.
    pub time: StepTime,
    /// Nanoseconds since 1970 at the writer's root rank, when it began.
    pub wall_clock_ns: u64,
}

/// Everything about a stream that seldom changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// The variables, in the order in which they were first agreed on.
    pub variables: Vec<Arc<Definition>>,
    /// Attributes of the stream and its variables.
    pub attributes: Attributes,
}

impl Schema {
    /// The place of the variable called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.variables
            .iter()
            .position(|definition| definition.name == name)
    }
}

/// Which blocks one variable has in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct LayoutEntry {
    /// The variable's place in the schema.
    pub variable: u32,
    /// Its blocks in the order (rank, put order).
    pub blocks: Vec<Block>,
}

/// Which blocks every variable has in a step, by ascending variable. Variables
/// that nobody put are absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// One entry for each variable that was put.
    pub entries: Vec<LayoutEntry>,
}

/// What a block of the layout carries in one step.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// An array's block: its bytes are with the engine, its statistics here.
    Array(Option<Stats>),
    /// A value, whole: little-endian bytes, or UTF-8.
    Value(Vec<u8>),
}

/// What every step carries anew. `payloads` runs parallel to the layout's blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// Identity and times.
    pub head: StepHead,
    /// The schema it refers to.
    pub schema_digest: u64,
    /// The layout it refers to.
    pub layout_digest: u64,
    /// For each layout entry, for each of its blocks.
    pub payloads: Vec<Vec<Payload>>,
}

/// One block of an [`Entry`].
#[derive(Clone, Debug, PartialEq)]
pub struct EntryBlock {
    /// Where it lies and who put it.
    pub block: Block,
    /// What it carries.
    pub payload: Payload,
}

/// One variable as it is in one step.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its definition; the shape of a joined array is resolved.
    pub definition: Arc<Definition>,
    /// Its place in the schema.
    pub variable: u32,
    /// Its blocks in the order (rank, put order).
    pub blocks: Vec<EntryBlock>,
}

impl Entry {
    /// The blocks with their identities, for users.
    pub fn block_infos(&self) -> impl Iterator<Item = BlockInfo> + '_ {
        self.blocks
            .iter()
            .enumerate()
            .map(|(index, entry)| BlockInfo {
                id: BlockId(u32::try_from(index).unwrap_or(u32::MAX)),
                block: entry.block.clone(),
                stats: match entry.payload {
                    Payload::Array(stats) => stats,
                    Payload::Value(_) => None,
                },
            })
    }

    /// Smallest and largest value over all blocks.
    #[must_use]
    pub fn stats(&self) -> Option<Stats> {
        self.block_infos()
            .filter_map(|info| info.stats)
            .reduce(Stats::merged)
    }

    /// The shape readers see: of local values, one cell a value.
    #[must_use]
    pub fn shape(&self) -> Vec<u64> {
        match self.definition.kind {
            ShapeKind::LocalValue => vec![self.blocks.len() as u64],
            ShapeKind::JoinedArray { axis } => {
                let mut shape = self.definition.shape.clone();
                shape[usize::from(axis)] = self
                    .blocks
                    .iter()
                    .map(|entry| entry.block.count[usize::from(axis)])
                    .sum();
                shape
            }
            _ => self.definition.shape.clone(),
        }
    }
}

/// A step as a reader holds it: all that is known without its payload.
#[derive(Clone)]
pub struct StepMeta {
    /// Identity and times.
    pub head: StepHead,
    /// The variables that were put, in schema order.
    pub entries: Vec<Entry>,
    /// The schema in force.
    pub schema: Arc<Schema>,
    /// What the engine needs to find the payload.
    pub engine: Arc<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for StepMeta {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StepMeta")
            .field("head", &self.head)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl StepMeta {
    /// Puts schema, layout and record together.
    ///
    /// # Errors
    /// What does not fit, if the three contradict each other: a peer or a file
    /// may say anything.
    pub fn assemble(
        record: StepRecord,
        schema: &Arc<Schema>,
        layout: &Layout,
        engine: Arc<dyn Any + Send + Sync>,
    ) -> Result<Self, String> {
        if record.payloads.len() != layout.entries.len() {
            return Err(format!(
                "{} variables in the record, {} in the layout",
                record.payloads.len(),
                layout.entries.len()
            ));
        }
        let mut entries = Vec::with_capacity(layout.entries.len());
        for (placed, payloads) in layout.entries.iter().zip(record.payloads) {
            entries.push(assemble_entry(placed, payloads, schema)?);
        }
        Ok(Self {
            head: record.head,
            entries,
            schema: Arc::clone(schema),
            engine,
        })
    }

    /// The variable called `name`, if it was put in this step.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.definition.name == name)
    }
}

fn assemble_entry(
    placed: &LayoutEntry,
    payloads: Vec<Payload>,
    schema: &Schema,
) -> Result<Entry, String> {
    let definition = schema
        .variables
        .get(placed.variable as usize)
        .ok_or_else(|| {
            format!(
                "variable {} of {} in the schema",
                placed.variable,
                schema.variables.len()
            )
        })?;
    let name = &definition.name;
    if payloads.len() != placed.blocks.len() {
        return Err(format!(
            "`{name}` has {} payloads for {} blocks",
            payloads.len(),
            placed.blocks.len()
        ));
    }
    let mut blocks = Vec::with_capacity(payloads.len());
    for (block, payload) in placed.blocks.iter().zip(payloads) {
        check_block(definition, block, &payload)
            .map_err(|problem| format!("`{name}`: {problem}"))?;
        blocks.push(EntryBlock {
            block: block.clone(),
            payload,
        });
    }
    Ok(Entry {
        definition: Arc::clone(definition),
        variable: placed.variable,
        blocks,
    })
}

fn check_block(definition: &Definition, block: &Block, payload: &Payload) -> Result<(), String> {
    let dimensions = definition.dimensions();
    if block.start.len() != dimensions || block.count.len() != dimensions {
        return Err(format!(
            "a block has {} dimensions, not {dimensions}",
            block.count.len()
        ));
    }
    if definition.byte_size(&block.count).is_none() {
        return Err(format!("a block of {:?} cells is too large", block.count));
    }
    if block
        .start
        .iter()
        .zip(&block.count)
        .any(|(start, count)| start.checked_add(*count).is_none())
    {
        return Err(format!("a block at {:?} overflows", block.start));
    }
    if definition.kind == ShapeKind::GlobalArray
        && (0..dimensions).any(|d| block.start[d] + block.count[d] > definition.shape[d])
    {
        return Err(format!(
            "a block at {:?} lies outside the shape {:?}",
            block.start, definition.shape
        ));
    }
    match payload {
        Payload::Array(_) if definition.kind.is_value() => {
            Err("a value came without its bytes".into())
        }
        Payload::Value(_) if !definition.kind.is_value() => Err("an array came as a value".into()),
        Payload::Value(bytes)
            if definition.dtype.size_bytes() > 0
                && bytes.len() != definition.dtype.size_bytes() =>
        {
            Err(format!(
                "a value of {} bytes is no {}",
                bytes.len(),
                definition.dtype
            ))
        }
        Payload::Value(bytes)
            if definition.dtype == super::DType::Text && std::str::from_utf8(bytes).is_err() =>
        {
            Err("a string is not UTF-8".into())
        }
        _ => Ok(()),
    }
}
