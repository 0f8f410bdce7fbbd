//! Making one schema of what the ranks define, and one layout of what they put.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::{Coded, DecodeError, Decoder, Encoder, digest};
use crate::error::{BeginError, Place};
use crate::model::{
    Attribute, AttributeKey, Block, Definition, Layout, LayoutEntry, Payload, Schema, ShapeKind,
    Stats, StepTime,
};

/// What a rank says at begin.
#[derive(Debug, Default)]
pub(super) struct BeginPart {
    /// Names the rank's definitions as they are now.
    pub(super) definitions_digest: u64,
    /// The definitions, if they changed since the last begin.
    pub(super) definitions: Option<Vec<Arc<Definition>>>,
    /// Attributes set since the last begin.
    pub(super) attributes: Vec<(AttributeKey, Attribute)>,
    /// Bytes the rank reserves.
    pub(super) reserve_bytes: u64,
    /// The step's time; the root's counts.
    pub(super) time: StepTime,
}

impl Coded for BeginPart {
    fn encode(&self, into: &mut Encoder) {
        into.u64(self.definitions_digest)
            .u8(u8::from(self.definitions.is_some()));
        if let Some(definitions) = &self.definitions {
            into.length(definitions.len());
            definitions
                .iter()
                .for_each(|definition| definition.encode(into));
        }
        into.length(self.attributes.len());
        for (key, value) in &self.attributes {
            key.encode(into);
            value.encode(into);
        }
        into.u64(self.reserve_bytes)
            .u8(u8::from(self.time.sim.is_some()))
            .f64(self.time.sim.unwrap_or_default());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let definitions_digest = from.u64()?;
        let definitions = match from.u8()? {
            0 => None,
            _ => Some(
                (0..from.count(31)?)
                    .map(|_| Definition::decode(from).map(Arc::new))
                    .collect::<Result<_, _>>()?,
            ),
        };
        let attributes = (0..from.count(9)?)
            .map(|_| Ok((AttributeKey::decode(from)?, Attribute::decode(from)?)))
            .collect::<Result<_, _>>()?;
        let reserve_bytes = from.u64()?;
        let (has_time, time) = (from.u8()? != 0, from.f64()?);
        Ok(Self {
            definitions_digest,
            definitions,
            attributes,
            reserve_bytes,
            time: StepTime {
                sim: has_time.then_some(time),
            },
        })
    }
}

/// The name of a rank's definitions.
pub(super) fn definitions_digest(definitions: &[Arc<Definition>]) -> u64 {
    let mut encoder = Encoder::default();
    definitions
        .iter()
        .for_each(|definition| definition.encode(&mut encoder));
    digest(&encoder.finish())
}

/// The root's memory of what every rank defines.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    views: BTreeMap<u64, Vec<Arc<Definition>>>,
    last: Vec<u64>,
}

impl Definitions {
    /// Takes in what the ranks say and brings `schema` up to date. Definitions
    /// that are alike everywhere cost one comparison of digests a rank.
    ///
    /// # Errors
    /// [`BeginError::Disagreement`] naming the variable, the two ranks and the difference.
    pub(super) fn merge(
        &mut self,
        parts: &mut [BeginPart],
        schema: &mut Arc<Schema>,
        place: &Place,
    ) -> Result<(), BeginError> {
        let now: Vec<u64> = parts.iter().map(|part| part.definitions_digest).collect();
        for part in parts.iter_mut() {
            if let Some(definitions) = part.definitions.take() {
                self.views.insert(part.definitions_digest, definitions);
            }
        }
        if now != self.last {
            self.merge_definitions(&now, schema, place)?;
            self.views.retain(|digest, _| now.contains(digest));
            self.last = now;
        }
        for (key, value) in parts.iter_mut().flat_map(|part| part.attributes.drain(..)) {
            if schema.attributes.get(&key) != Some(&value) {
                Arc::make_mut(schema).attributes.insert(key, value);
            }
        }
        Ok(())
    }

    /// Makes the next merge look at the definitions again, changed or not.
    pub(super) fn forget(&mut self) {
        self.last.clear();
    }

    fn merge_definitions(
        &self,
        now: &[u64],
        schema: &mut Arc<Schema>,
        place: &Place,
    ) -> Result<(), BeginError> {
        let mut agreed: BTreeMap<&str, (usize, &Arc<Definition>)> = BTreeMap::new();
        let mut order: Vec<&Arc<Definition>> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        let disagreement = |name: &str, difference: String| BeginError::Disagreement {
            place: place.clone().of_variable(name),
            difference,
        };
        for (rank, digest) in now
            .iter()
            .enumerate()
            .filter(|(_, digest)| seen.insert(**digest))
        {
            for definition in self.views.get(digest).into_iter().flatten() {
                match agreed.get(definition.name.as_str()) {
                    None => {
                        agreed.insert(&definition.name, (rank, definition));
                        order.push(definition);
                    }
                    Some((other, earlier)) => {
                        if let Some(difference) = earlier.difference(definition) {
                            return Err(disagreement(
                                &definition.name,
                                format!("{difference} on ranks {other} and {rank}"),
                            ));
                        }
                    }
                }
            }
        }
        let mut merged = Schema::clone(schema);
        for definition in order {
            match merged.find(&definition.name) {
                None => merged.variables.push(Arc::clone(definition)),
                Some(index) => {
                    if let Some(difference) = merged.variables[index].fixed_difference(definition) {
                        return Err(disagreement(
                            &definition.name,
                            format!(
                                "{difference} in earlier steps and now; that is fixed while a writer lives"
                            ),
                        ));
                    }
                    merged.variables[index] = Arc::clone(definition);
                }
            }
        }
        *schema = Arc::new(merged);
        Ok(())
    }
}

/// One block or value as its rank reports it at end.
#[derive(Debug)]
pub(super) struct Reported {
    pub(super) variable: u32,
    pub(super) order: u32,
    pub(super) start: Vec<u64>,
    pub(super) count: Vec<u64>,
    pub(super) payload: Payload,
}

/// What a rank says at end.
#[derive(Debug, Default)]
pub(super) struct EndPart {
    pub(super) reported: Vec<Reported>,
    pub(super) contribution: Vec<u8>,
}

impl EndPart {
    pub(super) fn array(
        variable: u32,
        order: u32,
        start: Vec<u64>,
        count: Vec<u64>,
        stats: Option<Stats>,
    ) -> Reported {
        Reported {
            variable,
            order,
            start,
            count,
            payload: Payload::Array(stats),
        }
    }

    pub(super) fn value(variable: u32, order: u32, bytes: Vec<u8>) -> Reported {
        Reported {
            variable,
            order,
            start: Vec::new(),
            count: Vec::new(),
            payload: Payload::Value(bytes),
        }
    }
}

impl Coded for EndPart {
    fn encode(&self, into: &mut Encoder) {
        into.length(self.reported.len());
        for reported in &self.reported {
            into.u32(reported.variable)
                .u32(reported.order)
                .u64s(&reported.start)
                .u64s(&reported.count);
            reported.payload.encode(into);
        }
        into.bytes(&self.contribution);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let reported = (0..from.count(17)?)
            .map(|_| {
                Ok(Reported {
                    variable: from.u32()?,
                    order: from.u32()?,
                    start: from.u64s()?,
                    count: from.u64s()?,
                    payload: Payload::decode(from)?,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            reported,
            contribution: from.bytes()?.to_vec(),
        })
    }
}

/// Lays the ranks' blocks out by variable, in the order (rank, put order): joined
/// arrays get their offsets, of a global value the last one stays.
pub(super) fn lay_out(parts: Vec<Vec<Reported>>, schema: &Schema) -> (Layout, Vec<Vec<Payload>>) {
    let mut by_variable: BTreeMap<u32, Vec<(Block, Payload)>> = BTreeMap::new();
    for (rank, reported) in parts.into_iter().enumerate() {
        let rank = u32::try_from(rank).unwrap_or(u32::MAX);
        for Reported {
            variable,
            order,
            start,
            count,
            payload,
        } in reported
        {
            by_variable.entry(variable).or_default().push((
                Block {
                    rank,
                    order,
                    start,
                    count,
                },
                payload,
            ));
        }
    }
    let mut layout = Layout::default();
    let mut payloads = Vec::new();
    for (variable, mut blocks) in by_variable {
        match schema
            .variables
            .get(variable as usize)
            .map(|definition| definition.kind)
        {
            Some(ShapeKind::GlobalValue) => {
                blocks.drain(..blocks.len().saturating_sub(1));
            }
            Some(ShapeKind::JoinedArray { axis }) => join(&mut blocks, usize::from(axis)),
            _ => {}
        }
        let (blocks, carried) = blocks.into_iter().unzip();
        layout.entries.push(LayoutEntry { variable, blocks });
        payloads.push(carried);
    }
    (layout, payloads)
}

fn join(blocks: &mut [(Block, Payload)], axis: usize) {
    let mut offset = 0_u64;
    for (block, _) in blocks {
        if let (Some(start), Some(count)) = (block.start.get_mut(axis), block.count.get(axis)) {
            *start = offset;
            offset = offset.saturating_add(*count);
        }
    }
}
