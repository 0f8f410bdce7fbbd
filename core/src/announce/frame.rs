//! What the steps of one schema and layout have in common, checked and put
//! together once, so that a step costs no more than what it carries itself.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::codec::{DecodeError, Decoder};
use crate::lean;
use crate::model::{
    Block, DType, Definition, Entry, EntryBlock, Layout, Payload, Schema, ShapeKind,
};

/// The entries of a step, without what the blocks carry.
#[derive(Debug)]
pub(super) struct Frame {
    entries: Vec<FrameEntry>,
}

#[derive(Debug)]
struct FrameEntry {
    definition: Arc<Definition>,
    variable: u32,
    blocks: Vec<Arc<Block>>,
}

impl Frame {
    /// Puts a schema and a layout together.
    ///
    /// # Errors
    /// What does not fit: a peer or a file may say anything.
    pub(super) fn new(schema: &Schema, layout: &Layout) -> Result<Self, String> {
        let mut entries = Vec::with_capacity(layout.entries.len());
        for placed in &layout.entries {
            let variables = &schema.variables;
            let definition = variables.get(placed.variable as usize).ok_or_else(|| {
                format!(
                    "variable {} of {} in the schema",
                    placed.variable,
                    variables.len()
                )
            })?;
            for block in &placed.blocks {
                check_block(definition, block)
                    .map_err(|problem| format!("`{}`: {problem}", definition.name))?;
            }
            entries.push(FrameEntry {
                definition: Arc::clone(definition),
                variable: placed.variable,
                blocks: placed.blocks.iter().cloned().map(Arc::new).collect(),
            });
        }
        Ok(Self { entries })
    }

    /// How many variables were put.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries of one step, from its payloads as an announcement has them.
    ///
    /// # Errors
    /// [`DecodeError`] if they are damaged or are not those of this frame.
    pub(super) fn read(&self, from: &mut Decoder<'_>) -> Result<Vec<Entry>, DecodeError> {
        let variables = lean::count(from)?;
        if variables != self.entries.len() {
            return Err(from.error(format!(
                "{variables} variables in the record, {} in the layout",
                self.entries.len()
            )));
        }
        let mut entries = Vec::with_capacity(variables);
        for entry in &self.entries {
            entries.push(entry.read(from)?);
        }
        Ok(entries)
    }
}

impl FrameEntry {
    fn read(&self, from: &mut Decoder<'_>) -> Result<Entry, DecodeError> {
        let definition = &self.definition;
        let payloads = lean::count(from)?;
        if payloads != self.blocks.len() {
            return Err(from.error(format!(
                "`{}` has {payloads} payloads for {} blocks",
                definition.name,
                self.blocks.len()
            )));
        }
        let mut blocks = SmallVec::with_capacity(payloads);
        for block in &self.blocks {
            let payload = lean::take_payload(from)?;
            check_payload(definition, &payload)
                .map_err(|problem| from.error(format!("`{}`: {problem}", definition.name)))?;
            blocks.push(EntryBlock {
                block: Arc::clone(block),
                payload,
            });
        }
        Ok(Entry {
            definition: Arc::clone(definition),
            variable: self.variable,
            blocks,
        })
    }
}

fn check_block(definition: &Definition, block: &Block) -> Result<(), String> {
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
    Ok(())
}

fn check_payload(definition: &Definition, payload: &Payload) -> Result<(), String> {
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
            if definition.dtype == DType::Text && std::str::from_utf8(bytes).is_err() =>
        {
            Err("a string is not UTF-8".into())
        }
        _ => Ok(()),
    }
}
