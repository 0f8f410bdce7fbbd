//! Telling a reader group about a step: schema and layout only when they changed.
//!
//! The root packs; every rank of the group, the root too, unpacks every
//! announcement in turn, so that all remember the same schema and layout.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use crate::codec::{Coded, DecodeError, Decoder, Encoder, digest};
use crate::model::{Layout, Schema, StepMeta, StepRecord};

/// Remembers what was announced last. One for packing, one for unpacking.
#[derive(Debug, Default)]
pub struct Announcer(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    schema: Option<(u64, Arc<Schema>)>,
    layout: Option<(u64, Arc<Layout>)>,
    packed: (Option<u64>, Option<u64>),
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
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut encoder = Encoder::default();
        record.encode(&mut encoder);
        let known = (
            memory.packed.0 == Some(record.schema_digest),
            memory.packed.1 == Some(record.layout_digest),
        );
        encoder.bytes(if known.0 { &[] } else { schema });
        encoder.bytes(if known.1 { &[] } else { layout });
        encoder.bytes(engine);
        memory.packed = (Some(record.schema_digest), Some(record.layout_digest));
        encoder.finish()
    }

    /// Takes an announcement in. `engine` makes what the engine keeps with the step
    /// from its own part.
    ///
    /// # Errors
    /// [`DecodeError`] if it is damaged or refers to what was never announced.
    pub fn unpack(
        &self,
        announcement: &[u8],
        engine: impl FnOnce(&StepRecord, &[u8]) -> Result<Arc<dyn Any + Send + Sync>, DecodeError>,
    ) -> Result<StepMeta, DecodeError> {
        let mut from = Decoder::new(announcement);
        let record = StepRecord::decode(&mut from)?;
        let (schema, layout, own) = (from.bytes()?, from.bytes()?, from.bytes()?);
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let schema = remember(&mut memory.schema, schema, record.schema_digest, "schema")?;
        let layout = remember(&mut memory.layout, layout, record.layout_digest, "layout")?;
        drop(memory);
        let own = engine(&record, own)?;
        from.finish()?;
        StepMeta::assemble(record, &schema, &layout, own)
            .map_err(|problem| DecodeError { offset: 0, problem })
    }
}

fn remember<T: Coded>(
    slot: &mut Option<(u64, Arc<T>)>,
    bytes: &[u8],
    name: u64,
    what: &str,
) -> Result<Arc<T>, DecodeError> {
    if !bytes.is_empty() {
        if digest(bytes) != name {
            return Err(DecodeError {
                offset: 0,
                problem: format!("the {what}'s digest is not the one the record names"),
            });
        }
        *slot = Some((name, Arc::new(T::from_bytes(bytes)?)));
    }
    match slot {
        Some((known, value)) if *known == name => Ok(Arc::clone(value)),
        _ => Err(DecodeError {
            offset: 0,
            problem: format!("the record names a {what} that was not announced"),
        }),
    }
}
