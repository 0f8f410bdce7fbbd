//! Telling a reader group about a step: schema and layout only when they changed.
//!
//! ```text
//! head | schema digest, layout digest | schema, or nothing | layout | lean payloads | engine's own
//! layout   0 it is known | 1 whole | 2 what changed, by rank, since one that is known
//! ```
//! The root packs; every rank of the group, the root too, unpacks every
//! announcement in turn, so that all remember the same schema and layouts. A few
//! layouts are remembered: going back to one costs nothing.

mod delta;
mod frame;

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use crate::codec::{Coded, DecodeError, Decoder, Encoder, RECORD_FRONT_BYTES, digest};
use crate::lean;
use crate::model::{Layout, Payload, Schema, StepHead, StepMeta, StepRecord};
use crate::recent::Recent;

use frame::Frame;

/// The most bytes of byte forms of layouts that are remembered besides the newest.
const REMEMBERED_LAYOUTS_BYTES: usize = 4 << 20;

/// Bytes of an announcement besides record and engine's part, where all else is known.
const BESIDES_RECORD_BYTES: usize = 9;
const KNOWN: u8 = 0;
const WHOLE: u8 = 1;
const CHANGED: u8 = 2;

/// What an announcement says of a step before the engine's own part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Announced {
    /// Identity and times.
    pub head: StepHead,
    /// The digest of the schema in force.
    pub schema_digest: u64,
    /// The digest of the layout.
    pub layout_digest: u64,
    /// How many variables were put.
    pub entries: usize,
}

/// Appends a record as announcements have it.
pub(crate) fn encode_record(record: &StepRecord, into: &mut Encoder) {
    record.head.encode(into);
    into.u64(record.schema_digest).u64(record.layout_digest);
    put_payloads(&record.payloads, into);
}

/// The record that [`encode_record`] made bytes of.
pub(crate) fn decode_record(bytes: &[u8]) -> Result<StepRecord, DecodeError> {
    let mut from = Decoder::new(bytes);
    let mut record = StepRecord {
        head: StepHead::decode(&mut from)?,
        schema_digest: from.u64()?,
        layout_digest: from.u64()?,
        payloads: Vec::new(),
    };
    for _ in 0..lean::count(&mut from)? {
        let payloads = (0..lean::count(&mut from)?).map(|_| lean::take_payload(&mut from));
        record.payloads.push(payloads.collect::<Result<_, _>>()?);
    }
    from.finish()?;
    Ok(record)
}

fn put_payloads(payloads: &[Vec<Payload>], into: &mut Encoder) {
    lean::put(payloads.len() as u64, into);
    for payloads in payloads {
        lean::put(payloads.len() as u64, into);
        for payload in payloads {
            lean::put_payload(payload, into);
        }
    }
}

/// A step to be announced: its record as [`encode_record`] made it, the digests in it of schema
/// and layout, and their byte forms.
pub(crate) struct Recorded<'a> {
    pub(crate) record: &'a [u8],
    pub(crate) digests: (u64, u64),
    pub(crate) schema: &'a [u8],
    pub(crate) layout: &'a [u8],
}

/// Remembers what was announced lately. One for packing, one for unpacking.
#[derive(Debug, Default)]
pub struct Announcer(Mutex<Memory>);

#[derive(Debug)]
struct Memory {
    schema: Option<(u64, Arc<Schema>)>,
    layouts: Recent<Known>,
    packed_schema: Option<u64>,
}

/// A layout, and the frame that it makes with the schema it was last used with.
#[derive(Debug)]
struct Known {
    layout: Layout,
    frame: Option<(u64, Arc<Frame>)>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            schema: None,
            layouts: Recent::new(REMEMBERED_LAYOUTS_BYTES),
            packed_schema: None,
        }
    }
}

impl Announcer {
    /// The announcement of a step: its record, what changed, and the engine's own part.
    /// `schema` and `layout` are the byte forms that the record names.
    pub fn pack(
        &self,
        record: &StepRecord,
        schema: &[u8],
        layout: &[u8],
        engine: &[u8],
    ) -> Vec<u8> {
        let room = record.encoded_bytes() as usize + engine.len() + BESIDES_RECORD_BYTES;
        let mut encoder = Encoder::with_room(room);
        record.head.encode(&mut encoder);
        encoder.u64(record.schema_digest).u64(record.layout_digest);
        let digests = (record.schema_digest, record.layout_digest);
        self.pack_forms(digests, schema, layout, &mut encoder);
        put_payloads(&record.payloads, &mut encoder);
        encoder.bytes(engine);
        encoder.finish()
    }

    /// Appends the same announcement, of the byte form of a record.
    pub(crate) fn pack_recorded(
        &self,
        step: &Recorded<'_>,
        engine: impl FnOnce(&mut Encoder),
        into: &mut Encoder,
    ) {
        let front = RECORD_FRONT_BYTES.min(step.record.len());
        let (front, payloads) = step.record.split_at(front);
        into.raw(front);
        self.pack_forms(step.digests, step.schema, step.layout, into);
        into.raw(payloads).bytes_by(engine);
    }

    /// Appends schema and layout, as far as they are not known.
    fn pack_forms(
        &self,
        (schema_digest, layout_digest): (u64, u64),
        schema: &[u8],
        layout: &[u8],
        into: &mut Encoder,
    ) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = memory.packed_schema.replace(schema_digest);
        let is_known = known == Some(schema_digest);
        into.bytes(if is_known { &[] } else { schema });
        memory.pack_layout(layout_digest, layout, into);
    }

    /// Takes an announcement in. `engine` makes what the engine keeps with the step
    /// from its own part.
    ///
    /// # Errors
    /// [`DecodeError`] if it is damaged or refers to what was never announced.
    pub fn unpack(
        &self,
        announcement: &[u8],
        engine: impl FnOnce(&Announced, &[u8]) -> Result<Arc<dyn Any + Send + Sync>, DecodeError>,
    ) -> Result<StepMeta, DecodeError> {
        let mut from = Decoder::new(announcement);
        let head = StepHead::decode(&mut from)?;
        let (schema_digest, layout_digest) = (from.u64()?, from.u64()?);
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let schema = memory.take_schema(schema_digest, from.bytes()?)?;
        let frame = memory.take_layout(layout_digest, (schema_digest, &schema), &mut from)?;
        drop(memory);
        let entries = frame.read(&mut from)?;
        let own = from.bytes()?;
        from.finish()?;
        let announced = Announced {
            head,
            schema_digest,
            layout_digest,
            entries: frame.len(),
        };
        Ok(StepMeta {
            head,
            entries,
            schema,
            engine: engine(&announced, own)?,
        })
    }
}

impl Memory {
    fn pack_layout(&mut self, name: u64, bytes: &[u8], encoder: &mut Encoder) {
        if self.layouts.name(name).is_some() {
            encoder.u8(KNOWN);
            return;
        }
        let decoded = Layout::from_bytes(bytes).ok();
        let base = self.layouts.newest();
        let change = base
            .zip(decoded.as_ref())
            .and_then(|((digest, base), layout)| delta::between((digest, &base.layout), layout))
            .filter(|change| change.len() < bytes.len());
        match change {
            Some(change) => encoder.u8(CHANGED).bytes(&change),
            None => encoder.u8(WHOLE).bytes(bytes),
        };
        // What does not decode is found out, and named, where it is unpacked.
        let layout = decoded.unwrap_or_default();
        let known = Known {
            layout,
            frame: None,
        };
        self.layouts.take_in(name, bytes.len(), known);
    }

    fn take_schema(&mut self, name: u64, bytes: &[u8]) -> Result<Arc<Schema>, DecodeError> {
        if !bytes.is_empty() {
            check_digest(bytes, name, "schema")?;
            self.schema = Some((name, Arc::new(Schema::from_bytes(bytes)?)));
        }
        match &self.schema {
            Some((known, schema)) if *known == name => Ok(Arc::clone(schema)),
            _ => Err(unknown("schema")),
        }
    }

    fn take_layout(
        &mut self,
        name: u64,
        (schema_digest, schema): (u64, &Schema),
        from: &mut Decoder<'_>,
    ) -> Result<Arc<Frame>, DecodeError> {
        let known = match from.u8()? {
            KNOWN => self.layouts.name(name).ok_or_else(|| unknown("layout"))?,
            WHOLE => {
                let bytes = from.bytes()?;
                check_digest(bytes, name, "layout")?;
                self.take_in_layout(name, bytes.len(), Layout::from_bytes(bytes)?)
            }
            CHANGED => {
                let mut change = Decoder::new(from.bytes()?);
                let base = delta::base(&mut change)?;
                let base = self.layouts.name(base).ok_or_else(|| unknown("layout"))?;
                let layout = delta::apply(&base.layout, &mut change)?;
                change.finish()?;
                let bytes = layout.to_bytes();
                check_digest(&bytes, name, "layout")?;
                self.take_in_layout(name, bytes.len(), layout)
            }
            other => return Err(from.error(format!("no kind of layout has code {other}"))),
        };
        match &known.frame {
            Some((with, frame)) if *with == schema_digest => Ok(Arc::clone(frame)),
            _ => {
                let frame = Frame::new(schema, &known.layout)
                    .map_err(|problem| DecodeError { offset: 0, problem })?;
                let frame = Arc::new(frame);
                known.frame = Some((schema_digest, Arc::clone(&frame)));
                Ok(frame)
            }
        }
    }

    fn take_in_layout(&mut self, name: u64, bytes: usize, layout: Layout) -> &mut Known {
        let known = Known {
            layout,
            frame: None,
        };
        self.layouts.take_in(name, bytes, known)
    }
}

fn check_digest(bytes: &[u8], name: u64, what: &str) -> Result<(), DecodeError> {
    if digest(bytes) == name {
        return Ok(());
    }
    Err(DecodeError {
        offset: 0,
        problem: format!("the {what}'s digest is not the one the record names"),
    })
}

fn unknown(what: &str) -> DecodeError {
    DecodeError {
        offset: 0,
        problem: format!("the record names a {what} that was not announced"),
    }
}
