//! The data model: element types, variables, blocks, selections, attributes, steps.
//!
//! Everything here is plain data with checks; nothing does I/O. Dimensions are
//! listed slowest first (C order) everywhere below the language shells.

mod accuracy;
mod attribute;
mod block;
mod dtype;
mod rounding;
mod selection;
mod step;
mod variable;

pub use accuracy::Accuracy;
pub use attribute::{Attribute, AttributeKey, Attributes};
pub use block::{Block, BlockId, BlockInfo, Dims, Number, Stats, StatsBuilder, cells, intersect};
pub use dtype::{Complex32, Complex64, DType, Element, MemorySpace, Pod};
pub use rounding::{BlockPass, Rounding};
pub use selection::{Axis, Region, Selection, SelectionError};
pub use step::{
    Entry, EntryBlock, Layout, LayoutEntry, Payload, Schema, StepHead, StepMeta, StepRecord,
    StepTime,
};
pub use variable::{Definition, DefinitionError, MAX_DIMS, MAX_NAME_BYTES, ShapeKind};
