//! Making one schema of what the ranks define.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::codec::{Coded, DecodeError, Decoder, Encoder, digest};
use crate::error::BeginError;
use crate::lean;
use crate::model::{Attribute, AttributeKey, Definition, Schema};

use super::group::At;

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
        lean::put(self.attributes.len() as u64, into);
        for (key, value) in &self.attributes {
            key.encode(into);
            value.encode(into);
        }
        lean::put(self.reserve_bytes, into);
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
        let attributes = (0..lean::count(from)?)
            .map(|_| Ok((AttributeKey::decode(from)?, Attribute::decode(from)?)))
            .collect::<Result<_, _>>()?;
        let reserve_bytes = lean::take(from)?;
        Ok(Self {
            definitions_digest,
            definitions,
            attributes,
            reserve_bytes,
        })
    }
}

/// The name of a rank's definitions.
pub(super) fn digest_of(definitions: &[Arc<Definition>]) -> u64 {
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
        at: &At<'_>,
    ) -> Result<(), BeginError> {
        for part in parts.iter_mut() {
            if let Some(definitions) = part.definitions.take() {
                self.views.insert(part.definitions_digest, definitions);
            }
        }
        let now = parts.iter().map(|part| part.definitions_digest);
        if !now.clone().eq(self.last.iter().copied()) {
            let now: Vec<u64> = now.collect();
            self.merge_definitions(&now, schema, at)?;
            let named: BTreeSet<u64> = now.iter().copied().collect();
            self.views.retain(|digest, _| named.contains(digest));
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
        at: &At<'_>,
    ) -> Result<(), BeginError> {
        let mut agreed: BTreeMap<&str, (usize, &Arc<Definition>)> = BTreeMap::new();
        let mut order: Vec<&Arc<Definition>> = Vec::new();
        let mut seen = BTreeSet::new();
        let disagreement = |name: &str, difference: String| BeginError::Disagreement {
            place: at.place().of_variable(name),
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
