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

use smallvec::SmallVec;

use super::attribute::Attributes;
use super::block::{Block, BlockId, BlockInfo, Dims, Stats};
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
    /// Where it lies and who put it; shared by the steps of one layout.
    pub block: Arc<Block>,
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
    /// Its blocks in the order (rank, put order); one takes no memory of its own.
    pub blocks: SmallVec<[EntryBlock; 1]>,
}

impl Entry {
    /// The blocks with their identities, for users.
    pub fn block_infos(&self) -> impl Iterator<Item = BlockInfo> + '_ {
        self.blocks
            .iter()
            .enumerate()
            .map(|(index, entry)| BlockInfo {
                id: BlockId(u32::try_from(index).unwrap_or(u32::MAX)),
                block: Block::clone(&entry.block),
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
        self.shape_dims().to_vec()
    }

    /// The same, without an allocation for a few dimensions.
    #[must_use]
    pub fn shape_dims(&self) -> Dims {
        match self.definition.kind {
            ShapeKind::LocalValue => Dims::from_slice(&[self.blocks.len() as u64]),
            ShapeKind::JoinedArray { axis } => {
                let mut shape = Dims::from_slice(&self.definition.shape);
                let counts = self.blocks.iter();
                shape[usize::from(axis)] = counts
                    .map(|entry| entry.block.count[usize::from(axis)])
                    .fold(0, u64::saturating_add);
                shape
            }
            _ => Dims::from_slice(&self.definition.shape),
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
    /// The variable called `name`, if it was put in this step.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.definition.name == name)
    }
}
