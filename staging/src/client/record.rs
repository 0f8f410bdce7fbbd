//! What the ranks, the home and the readers tell each other through the
//! protocol's opaque bytes: tickets, admissions, shares, step records.
//!
//! A step's record travels in its attributes. Schema and layout are registered
//! with the home like the layout of a variable, under names that no variable
//! can have, so that each is stored and sent once for as long as steps use it.

use std::sync::Arc;

use panta_core::codec::{Coded, DecodeError, Decoder, Encoder, digest};
use panta_core::model::{Definition, Layout, LayoutEntry, Schema, ShapeKind, StepRecord};
use prost::Message as _;

use crate::proto::ServerId;
use crate::proto::message::{OwnerShare, ReaderOpened, SealedStep, WriterOpened};

/// The name under which a writer group registers its schemas.
pub(super) fn schema_name(slot: u32) -> String {
    format!("\0schema/{slot}")
}

/// The name under which a writer group registers its layouts.
pub(super) fn layout_name(slot: u32) -> String {
    format!("\0layout/{slot}")
}

/// What of a definition is fixed for an epoch, as bytes to compare.
pub(super) fn fixed_part(definition: &Definition) -> Vec<u8> {
    Definition {
        shape: vec![0; definition.shape.len()],
        unit: String::new(),
        coordinates: Vec::new(),
        fill: None,
        chunk: None,
        accuracy: None,
        ..definition.clone()
    }
    .to_bytes()
}

/// What of a definition decides where its cells lie.
pub(super) fn shape_part(definition: &Definition) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.u64s(&definition.shape);
    encoder.u64s(definition.chunk.as_deref().unwrap_or(&[]));
    encoder.finish()
}

/// What every rank of a writer group needs to join it.
#[derive(Debug, Default)]
pub(super) struct WriterTicket {
    pub(super) names: Vec<String>,
    pub(super) opened: WriterOpened,
    pub(super) slot: u32,
    pub(super) instance: u64,
}

/// What every rank of a reader group needs to join it.
#[derive(Debug, Default)]
pub(super) struct ReaderTicket {
    pub(super) names: Vec<String>,
    pub(super) opened: ReaderOpened,
    pub(super) group: String,
    pub(super) instance: u64,
}

fn wire<T: prost::Message + Default>(from: &mut Decoder<'_>) -> Result<T, DecodeError> {
    T::decode(from.bytes()?).map_err(|error| from.error(error.to_string()))
}

impl Coded for WriterTicket {
    fn encode(&self, into: &mut Encoder) {
        into.texts(&self.names).bytes(&self.opened.encode_to_vec());
        into.u32(self.slot).u64(self.instance);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            names: from.texts()?,
            opened: wire(from)?,
            slot: from.u32()?,
            instance: from.u64()?,
        })
    }
}

impl Coded for ReaderTicket {
    fn encode(&self, into: &mut Encoder) {
        into.texts(&self.names).bytes(&self.opened.encode_to_vec());
        into.text(&self.group).u64(self.instance);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            names: from.texts()?,
            opened: wire(from)?,
            group: from.text()?,
            instance: from.u64()?,
        })
    }
}

/// What every rank needs to put into a step.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// Steps below are trimmed, but for those `kept`.
    pub(super) oldest: u64,
    pub(super) kept: Vec<u64>,
    /// For each variable of the schema the number of its layout.
    pub(super) layouts: Vec<u64>,
}

impl Coded for Admitted {
    fn encode(&self, into: &mut Encoder) {
        into.u64(self.oldest).u64s(&self.kept).u64s(&self.layouts);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            oldest: from.u64()?,
            kept: from.u64s()?,
            layouts: from.u64s()?,
        })
    }
}

/// What servers acknowledged.
#[derive(Debug, Default)]
pub(super) struct Shares(pub(super) Vec<OwnerShare>);

impl Coded for Shares {
    fn encode(&self, into: &mut Encoder) {
        into.length(self.0.len());
        for share in &self.0 {
            into.u32(share.server).u64(share.incarnation);
            into.u64(share.pieces).u64(share.bytes);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = from.count(28)?;
        let mut shares = Vec::with_capacity(count);
        for _ in 0..count {
            shares.push(OwnerShare {
                server: from.u32()?,
                incarnation: from.u64()?,
                pieces: from.u64()?,
                bytes: from.u64()?,
            });
        }
        Ok(Self(shares))
    }
}

/// A writer group's part of a step, as the home keeps it.
#[derive(Debug)]
pub(super) struct Part {
    /// Ranks of the group.
    pub(super) ranks: u32,
    pub(super) record: StepRecord,
}

impl Coded for Part {
    fn encode(&self, into: &mut Encoder) {
        into.u32(self.ranks);
        self.record.encode(into);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            ranks: from.u32()?,
            record: StepRecord::decode(from)?,
        })
    }
}

/// What a rank needs to get a step's payload.
#[derive(Clone, Debug, Default)]
pub(super) struct Holding {
    pub(super) epoch: u64,
    pub(super) step: u64,
    pub(super) shares: Vec<OwnerShare>,
    /// Layouts by the name of the variable.
    pub(super) layouts: Vec<(String, u32)>,
    /// For each writer group its number and the first of its ranks.
    pub(super) slots: Vec<(u32, u32)>,
}

impl Coded for Holding {
    fn encode(&self, into: &mut Encoder) {
        into.u64(self.epoch).u64(self.step);
        Shares(self.shares.clone()).encode(into);
        into.length(self.layouts.len());
        for (name, layout) in &self.layouts {
            into.text(name).u32(*layout);
        }
        into.length(self.slots.len());
        for (slot, first) in &self.slots {
            into.u32(*slot).u32(*first);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut holding = Self {
            epoch: from.u64()?,
            step: from.u64()?,
            shares: Shares::decode(from)?.0,
            ..Self::default()
        };
        for _ in 0..from.count(8)? {
            holding.layouts.push((from.text()?, from.u32()?));
        }
        for _ in 0..from.count(8)? {
            holding.slots.push((from.u32()?, from.u32()?));
        }
        Ok(holding)
    }
}

impl Holding {
    /// Which writer group and rank of it a rank of the step is.
    pub(super) fn writer_of(&self, rank: u32) -> (u32, u32) {
        let slot = self.slots.iter().rev().find(|(_, first)| *first <= rank);
        slot.map_or((0, rank), |(slot, first)| (*slot, rank - first))
    }

    /// The rank of the step that a rank of a writer group is.
    pub(super) fn rank_of(&self, slot: u32, rank: u32) -> u32 {
        let known = self.slots.iter().find(|(known, _)| *known == slot);
        known.map_or(rank, |(_, first)| first.saturating_add(rank))
    }

    /// What a server holds of the step.
    pub(super) fn share_of(&self, server: ServerId) -> Option<OwnerShare> {
        self.shares
            .iter()
            .find(|share| share.server == server.0)
            .copied()
    }

    /// The number of a variable's layout.
    pub(super) fn layout_of(&self, variable: &str) -> u32 {
        let known = self.layouts.iter().find(|(name, _)| name == variable);
        known.map_or(0, |(_, layout)| *layout)
    }
}

/// A step as a reader group's root makes it of what the home says.
pub(super) struct Told {
    pub(super) record: StepRecord,
    pub(super) schema: Vec<u8>,
    pub(super) layout: Vec<u8>,
    pub(super) holding: Holding,
}

/// Reads a sealed step. `document` gives the bytes of a registered schema or
/// layout by its number.
///
/// # Errors
/// [`DecodeError`] for bytes that no writer of this version sends.
pub(super) fn read_step<'a>(
    step: &SealedStep,
    document: impl Fn(u32) -> Option<&'a [u8]>,
) -> Result<Told, DecodeError> {
    let find = |name: &str| {
        let named = step
            .variables
            .iter()
            .find(|variable| variable.variable == name);
        named
            .and_then(|variable| document(variable.layout))
            .ok_or_else(|| {
                problem(format!(
                    "step {} comes without its {}",
                    step.step,
                    &name[1..]
                ))
            })
    };
    let mut merge = Merge::default();
    for slot in &step.attributes {
        let part = Part::from_bytes(&slot.attributes)?;
        let schema = find(&schema_name(slot.slot))?;
        let layout = find(&layout_name(slot.slot))?;
        if digest(schema) != part.record.schema_digest
            || digest(layout) != part.record.layout_digest
        {
            return Err(problem(format!(
                "writer {} registered another schema or layout",
                slot.slot
            )));
        }
        merge.slots.push((slot.slot, merge.ranks));
        if step.attributes.len() == 1 {
            let holding = merge.holding(step);
            return Ok(Told {
                record: part.record,
                schema: schema.to_vec(),
                layout: layout.to_vec(),
                holding,
            });
        }
        merge.add(
            part,
            Schema::from_bytes(schema)?,
            Layout::from_bytes(layout)?,
        )?;
    }
    let holding = merge.holding(step);
    merge.finish(holding)
}

/// Several writer groups' parts of one step, put together: ranks are numbered
/// through, groups in the order of their slots.
#[derive(Default)]
struct Merge {
    record: Option<StepRecord>,
    schema: Schema,
    layout: Layout,
    ranks: u32,
    slots: Vec<(u32, u32)>,
}

impl Merge {
    fn holding(&self, step: &SealedStep) -> Holding {
        let arrays = step
            .variables
            .iter()
            .filter(|variable| !variable.variable.starts_with('\0'));
        Holding {
            epoch: step.epoch,
            step: step.step,
            shares: step.owners.clone(),
            layouts: arrays
                .map(|variable| (variable.variable.clone(), variable.layout))
                .collect(),
            slots: self.slots.clone(),
        }
    }

    fn add(&mut self, part: Part, schema: Schema, layout: Layout) -> Result<(), DecodeError> {
        let mut record = part.record;
        let payloads = std::mem::take(&mut record.payloads);
        if payloads.len() != layout.entries.len() {
            return Err(problem("a record and its layout differ in length".into()));
        }
        let all = self.record.get_or_insert(record);
        for (key, value) in schema.attributes {
            self.schema.attributes.entry(key).or_insert(value);
        }
        for (mut entry, payloads) in layout.entries.into_iter().zip(payloads) {
            let definition = schema
                .variables
                .get(entry.variable as usize)
                .ok_or_else(|| problem("a layout names a variable that there is not".into()))?;
            let place = self.schema.find(&definition.name).unwrap_or_else(|| {
                self.schema.variables.push(Arc::clone(definition));
                self.schema.variables.len() - 1
            });
            // The schema has at most as many variables as numbers of them.
            let variable = place as u32;
            for block in &mut entry.blocks {
                block.rank = block.rank.saturating_add(self.ranks);
            }
            let known = self
                .layout
                .entries
                .iter()
                .position(|known| known.variable == variable);
            let known = known.unwrap_or_else(|| {
                self.layout.entries.push(LayoutEntry {
                    variable,
                    blocks: Vec::new(),
                });
                all.payloads.push(Vec::new());
                self.layout.entries.len() - 1
            });
            let blocks = &mut self.layout.entries[known].blocks;
            if let ShapeKind::JoinedArray { axis } = definition.kind {
                let axis = usize::from(axis);
                let before: u64 = blocks
                    .iter()
                    .filter_map(|block| block.count.get(axis))
                    .sum();
                for start in entry
                    .blocks
                    .iter_mut()
                    .filter_map(|block| block.start.get_mut(axis))
                {
                    *start = start.saturating_add(before);
                }
            }
            blocks.extend(entry.blocks);
            all.payloads[known].extend(payloads);
        }
        self.ranks = self.ranks.saturating_add(part.ranks);
        Ok(())
    }

    fn finish(mut self, holding: Holding) -> Result<Told, DecodeError> {
        let mut record = self
            .record
            .ok_or_else(|| problem("a step that nobody wrote".into()))?;
        // Entries ascend by variable.
        let mut order: Vec<usize> = (0..self.layout.entries.len()).collect();
        order.sort_by_key(|place| self.layout.entries[*place].variable);
        let mut payloads: Vec<_> = record.payloads.into_iter().map(Some).collect();
        record.payloads = order
            .iter()
            .filter_map(|place| payloads[*place].take())
            .collect();
        self.layout.entries.sort_by_key(|entry| entry.variable);
        let (schema, layout) = (self.schema.to_bytes(), self.layout.to_bytes());
        record.schema_digest = digest(&schema);
        record.layout_digest = digest(&layout);
        Ok(Told {
            record,
            schema,
            layout,
            holding,
        })
    }
}

fn problem(problem: String) -> DecodeError {
    DecodeError { offset: 0, problem }
}
