//! Making one layout of what the ranks put, and not again while nothing changed.
//!
//! A rank names the list of its boxes by a digest and sends the list only where
//! the root does not remember it; what a step's blocks carry goes with every step.
//! The root remembers layouts by the ranks' lists, with their byte form and digest
//! and where each block's payload comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::group::At;
use crate::codec::{Coded, DecodeError, Decoder, Encoder, digest};
use crate::engine::Sealing;
use crate::error::{EndError, Fault};
use crate::lean;
use crate::model::{
    Block, Dims, Layout, LayoutEntry, Payload, Schema, ShapeKind, StepHead, StepRecord,
};
use crate::plan;
use crate::recent::Recent;

/// The most bytes of lists of boxes that are remembered of a rank besides the newest.
const REMEMBERED_BOXES_BYTES: usize = 64 << 10;
/// The most bytes of byte forms of layouts that the root remembers besides the newest.
const REMEMBERED_LAYOUTS_BYTES: usize = 4 << 20;

/// Where one put of a rank lies; of values only their place in the order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PutBox {
    /// The variable's place in the schema.
    pub(super) variable: u32,
    /// The put's place among the rank's puts.
    pub(super) order: u32,
    pub(super) start: Dims,
    pub(super) count: Dims,
}

impl Coded for PutBox {
    fn encode(&self, into: &mut Encoder) {
        lean::put(self.variable.into(), into);
        lean::put(self.order.into(), into);
        lean::put_dims(&self.start, into);
        lean::put_dims(&self.count, into);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            variable: lean::take_u32(from)?,
            order: lean::take_u32(from)?,
            start: lean::take_dims(from)?,
            count: lean::take_dims(from)?,
        })
    }
}

type Boxes = Arc<[PutBox]>;

fn encode_boxes(boxes: &[PutBox], into: &mut Encoder) {
    lean::put(boxes.len() as u64, into);
    boxes.iter().for_each(|put| put.encode(into));
}

/// The boxes of a rank, in put order.
#[derive(Clone, Debug, Default)]
enum Said {
    /// Those of the step before.
    #[default]
    Same,
    /// A list that the root remembers, by its digest.
    Known(u64),
    /// A list by its digest, and the bytes of its byte form.
    New(u64, Boxes, usize),
}

/// What a rank says at end.
#[derive(Clone, Debug, Default)]
pub(super) struct EndPart {
    boxes: Said,
    /// What each box carries.
    payloads: SmallVec<[Payload; 2]>,
    /// The engine's own part.
    contribution: Vec<u8>,
}

const SAME: u8 = 0;
const KNOWN: u8 = 1;
const NEW: u8 = 2;

impl Coded for EndPart {
    fn encode(&self, into: &mut Encoder) {
        match &self.boxes {
            Said::Same => {
                into.u8(SAME);
            }
            Said::Known(digest) => {
                into.u8(KNOWN).u64(*digest);
            }
            Said::New(digest, boxes, _) => encode_boxes(boxes, into.u8(NEW).u64(*digest)),
        }
        lean::put(self.payloads.len() as u64, into);
        for payload in &self.payloads {
            lean::put_payload(payload, into);
        }
        lean::put_bytes(&self.contribution, into);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let boxes = match from.u8()? {
            SAME => Said::Same,
            KNOWN => Said::Known(from.u64()?),
            NEW => {
                let digest = from.u64()?;
                let begin = from.offset();
                let boxes = (0..lean::count(from)?).map(|_| PutBox::decode(from));
                let boxes: Boxes = boxes.collect::<Result<_, _>>()?;
                Said::New(digest, boxes, from.offset() - begin)
            }
            other => return Err(from.error(format!("no list of boxes has code {other}"))),
        };
        let payloads = (0..lean::count(from)?).map(|_| lean::take_payload(from));
        Ok(Self {
            boxes,
            payloads: payloads.collect::<Result<_, _>>()?,
            contribution: lean::take_bytes(from)?.to_vec(),
        })
    }
}

/// A rank's memory of the boxes it put lately.
#[derive(Debug)]
pub(super) struct OwnBoxes {
    recent: Recent<Boxes>,
    /// What this step puts; kept for its memory.
    now: Vec<(PutBox, Payload)>,
}

impl Default for OwnBoxes {
    fn default() -> Self {
        Self {
            recent: Recent::new(REMEMBERED_BOXES_BYTES),
            now: Vec::new(),
        }
    }
}

impl OwnBoxes {
    /// Adds a put of this step.
    pub(super) fn add(&mut self, put: PutBox, payload: Payload) {
        self.now.push((put, payload));
    }

    /// What the rank says of what was added.
    pub(super) fn say(&mut self, contribution: Vec<u8>) -> EndPart {
        if !self.now.is_sorted_by_key(|(put, _)| put.order) {
            self.now.sort_by_key(|(put, _)| put.order);
        }
        let unchanged = self.recent.newest().filter(|(_, boxes)| {
            let now = self.now.iter().map(|(put, _)| put);
            boxes.iter().eq(now)
        });
        let boxes = match unchanged {
            Some(_) => Said::Same,
            None => self.name_changed(),
        };
        EndPart {
            boxes,
            payloads: self.now.drain(..).map(|(_, payload)| payload).collect(),
            contribution,
        }
    }

    fn name_changed(&mut self) -> Said {
        let boxes: Boxes = self.now.iter().map(|(put, _)| put.clone()).collect();
        let mut encoder = Encoder::default();
        encode_boxes(&boxes, &mut encoder);
        let bytes = encoder.finish();
        let named = digest(&bytes);
        if self.recent.name(named).is_some() {
            return Said::Known(named);
        }
        self.recent.take_in(named, bytes.len(), Arc::clone(&boxes));
        Said::New(named, boxes, bytes.len())
    }

    /// Forgets everything: the root may not have heard of it.
    pub(super) fn forget(&mut self) {
        self.recent.clear();
        self.now.clear();
    }
}

/// A schema with its name.
#[derive(Debug)]
struct NamedSchema {
    schema: Arc<Schema>,
    bytes: Arc<[u8]>,
    digest: u64,
}

/// A layout as it was made of the ranks' lists.
#[derive(Debug)]
struct Laid {
    layout: Arc<Layout>,
    bytes: Arc<[u8]>,
    digest: u64,
    /// Of each block of each entry, the rank and the place in its list.
    sources: Vec<Vec<(u32, u32)>>,
}

/// The root's memory of what the ranks put lately, and the record of the step at hand.
#[derive(Debug)]
pub(super) struct Layouts {
    ranks: Vec<Recent<Boxes>>,
    schema: Option<NamedSchema>,
    /// The ranks' lists that make the newest layout. A variable's kind, all else that a
    /// layout depends on, is fixed while a writer lives.
    last: Vec<u64>,
    /// By a digest of what `last` holds.
    laid: Recent<Laid>,
    record: StepRecord,
    /// The contribution of a rank that is alone, of the step before; kept for its memory.
    sole: [Vec<u8>; 1],
}

impl Default for Layouts {
    fn default() -> Self {
        Self {
            ranks: Vec::new(),
            schema: None,
            last: Vec::new(),
            laid: Recent::new(REMEMBERED_LAYOUTS_BYTES),
            record: StepRecord {
                head: StepHead::default(),
                schema_digest: 0,
                layout_digest: 0,
                payloads: Vec::new(),
            },
            sole: [Vec::new()],
        }
    }
}

impl Layouts {
    /// Memory for the next contribution of this rank.
    pub(super) fn take_spare(&mut self) -> Vec<u8> {
        let mut spare = std::mem::take(&mut self.sole[0]);
        spare.clear();
        spare
    }

    /// Makes a step of the ranks' parts and gives it to `seal`; how many bytes of
    /// metadata it adds to what was sealed before.
    pub(super) fn seal(
        &mut self,
        head: StepHead,
        parts: &mut [EndPart],
        (schema, checked): (&Arc<Schema>, bool),
        at: &At<'_>,
        seal: impl FnOnce(&Sealing<'_>) -> Result<(), EndError>,
    ) -> Result<u64, EndError> {
        let mut new_bytes = self.name_schema(schema);
        self.take_in(parts, schema.variables.len(), at)?;
        new_bytes += self.lay_out((schema, checked), at)?;
        let (Some((_, laid)), Some(named)) = (self.laid.newest(), &self.schema) else {
            return Err(corrupt(at, "the root's memory", "it is empty"));
        };
        let record = &mut self.record;
        record.head = head;
        (record.schema_digest, record.layout_digest) = (named.digest, laid.digest);
        record.payloads.resize_with(laid.sources.len(), Vec::new);
        for (payloads, sources) in record.payloads.iter_mut().zip(&laid.sources) {
            payloads.clear();
            payloads.extend(sources.iter().map(|(rank, place)| {
                let theirs = &mut parts[*rank as usize].payloads[*place as usize];
                std::mem::replace(theirs, Payload::Array(None))
            }));
        }
        let several: Vec<Vec<u8>>;
        let contributions: &[Vec<u8>] = match parts {
            [part] => {
                self.sole = [std::mem::take(&mut part.contribution)];
                &self.sole
            }
            parts => {
                let taken = parts
                    .iter_mut()
                    .map(|it| std::mem::take(&mut it.contribution));
                several = taken.collect();
                &several
            }
        };
        seal(&Sealing {
            record,
            schema,
            schema_bytes: &named.bytes,
            layout: &laid.layout,
            layout_bytes: &laid.bytes,
            contributions,
        })?;
        Ok(new_bytes + record.encoded_bytes())
    }

    /// Forgets what the ranks put: they do too.
    pub(super) fn forget(&mut self) {
        self.ranks.clear();
        self.laid.clear();
        self.last.clear();
    }

    /// The bytes of the schema if it is another one.
    fn name_schema(&mut self, schema: &Arc<Schema>) -> u64 {
        let known = self.schema.as_ref();
        if known.is_some_and(|known| Arc::ptr_eq(&known.schema, schema)) {
            return 0;
        }
        let bytes = schema.to_bytes();
        let (digest, length) = (digest(&bytes), bytes.len() as u64);
        self.schema = Some(NamedSchema {
            schema: Arc::clone(schema),
            bytes: bytes.into(),
            digest,
        });
        length
    }

    /// Takes in the lists of boxes that are new, and checks all.
    fn take_in(
        &mut self,
        parts: &mut [EndPart],
        variables: usize,
        at: &At<'_>,
    ) -> Result<(), EndError> {
        self.ranks
            .resize_with(parts.len(), || Recent::new(REMEMBERED_BOXES_BYTES));
        for (rank, (part, recent)) in parts.iter_mut().zip(&mut self.ranks).enumerate() {
            let what = |problem: &str| corrupt(at, &format!("what rank {rank} put"), problem);
            let boxes = match std::mem::take(&mut part.boxes) {
                Said::New(digest, boxes, bytes) => {
                    if boxes.iter().any(|put| put.variable as usize >= variables) {
                        return Err(what("it names a variable that there is not"));
                    }
                    Some(&*recent.take_in(digest, bytes, boxes))
                }
                Said::Known(digest) => recent.name(digest).map(|boxes| &*boxes),
                Said::Same => recent.newest().map(|(_, boxes)| boxes),
            };
            let boxes = boxes.ok_or_else(|| what("it names boxes that are not known"))?;
            if boxes.len() != part.payloads.len() {
                return Err(what("boxes and payloads differ in number"));
            }
        }
        Ok(())
    }

    /// Makes the layout of the step the newest; its bytes if it is a new one.
    fn lay_out(
        &mut self,
        (schema, checked): (&Arc<Schema>, bool),
        at: &At<'_>,
    ) -> Result<u64, EndError> {
        let newest = |recent: &Recent<Boxes>| recent.newest().map_or(0, |(digest, _)| digest);
        let now = self.ranks.iter().map(newest);
        if self.last.iter().copied().eq(now.clone()) {
            return Ok(0);
        }
        self.last = now.collect();
        let mut encoder = Encoder::default();
        encoder.u64s(&self.last);
        let key = digest(&encoder.finish());
        if self.laid.name(key).is_some() {
            return Ok(0);
        }
        let lists: Vec<&[PutBox]> = self
            .ranks
            .iter()
            .map(|recent| recent.newest().map_or(&[][..], |(_, boxes)| boxes))
            .collect();
        let (layout, sources) = lay_out(&lists, schema);
        if checked {
            check_overlaps(&layout, schema, at)?;
        }
        let bytes = layout.to_bytes();
        let length = bytes.len();
        let laid = Laid {
            digest: digest(&bytes),
            layout: Arc::new(layout),
            bytes: bytes.into(),
            sources,
        };
        self.laid.take_in(key, length, laid);
        Ok(length as u64)
    }
}

fn corrupt(at: &At<'_>, what: &str, problem: &str) -> EndError {
    let fault = Fault::Corrupt {
        what: what.to_owned(),
        problem: problem.to_owned(),
    };
    fault.at(at.place()).into()
}

/// A block, and its source: the rank and the place in its list.
type Placed = (Block, (u32, u32));

/// Lays the ranks' boxes out by variable, in the order (rank, put order): joined
/// arrays get their offsets, of a global value the last one stays.
fn lay_out(lists: &[&[PutBox]], schema: &Schema) -> (Layout, Vec<Vec<(u32, u32)>>) {
    let mut by_variable: BTreeMap<u32, Vec<Placed>> = BTreeMap::new();
    for (rank, boxes) in (0..).zip(lists) {
        for (place, put) in (0..).zip(boxes.iter()) {
            let block = Block {
                rank,
                order: put.order,
                start: put.start.to_vec(),
                count: put.count.to_vec(),
            };
            let blocks = by_variable.entry(put.variable).or_default();
            blocks.push((block, (rank, place)));
        }
    }
    let mut layout = Layout::default();
    let mut sources = Vec::new();
    for (variable, mut blocks) in by_variable {
        let definition = schema.variables.get(variable as usize);
        match definition.map(|definition| definition.kind) {
            Some(ShapeKind::GlobalValue) => {
                blocks.drain(..blocks.len().saturating_sub(1));
            }
            Some(ShapeKind::JoinedArray { axis }) => join(&mut blocks, usize::from(axis)),
            _ => {}
        }
        let (blocks, from) = blocks.into_iter().unzip();
        layout.entries.push(LayoutEntry { variable, blocks });
        sources.push(from);
    }
    (layout, sources)
}

fn join(blocks: &mut [Placed], axis: usize) {
    let mut offset = 0_u64;
    for (block, _) in blocks {
        if let (Some(start), Some(count)) = (block.start.get_mut(axis), block.count.get(axis)) {
            *start = offset;
            offset = offset.saturating_add(*count);
        }
    }
}

fn check_overlaps(layout: &Layout, schema: &Schema, at: &At<'_>) -> Result<(), EndError> {
    for entry in &layout.entries {
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
                place: at.place().of_variable(&definition.name),
                what,
            });
        }
    }
    Ok(())
}
