//! What goes with the machines' messages over a link: greetings, and the
//! metadata of announced steps.
//!
//! ```text
//! greeting   kind | ranks | Join
//! announced  WriterMessage | step       writer root to reader root
//! told                       step       reader root to its ranks
//! step       digests | record | schema? | layout? | reach? | shares
//! ```
//! Schema, layout and how the writers are reached go along when they differ
//! from what went before on the same way.

use std::sync::Arc;

use super::machine::Join;
use crate::codec::{Coded, DecodeError, Decoder, Encoder, digest};

/// The most ranks of a group.
const MAX_RANKS: u32 = 1 << 20;

const READER_ROOT: u8 = 1;
const READER_RANK: u8 = 2;
const WRITER_RANK: u8 = 3;
const CALLER: u8 = 4;

/// Who connects to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Greeting {
    /// The root of a reader group, of so many ranks; linked.
    ReaderRoot {
        stream: String,
        ranks: u32,
        join: Join,
    },
    /// Any rank of a reader group; it only reads.
    ReaderRank,
    /// A rank of the writer group that needs room; linked.
    WriterRank,
    /// Somebody who wants to know whether a writer lives.
    Caller,
}

impl Coded for Greeting {
    fn encode(&self, into: &mut Encoder) {
        match self {
            Self::ReaderRoot {
                stream,
                ranks,
                join,
            } => {
                into.u8(READER_ROOT).u32(*ranks).text(stream);
                join.encode(into);
            }
            Self::ReaderRank => {
                into.u8(READER_RANK);
            }
            Self::WriterRank => {
                into.u8(WRITER_RANK);
            }
            Self::Caller => {
                into.u8(CALLER);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match from.u8()? {
            READER_ROOT => {
                let ranks = from.u32()?;
                if !(1..=MAX_RANKS).contains(&ranks) {
                    return Err(from.error(format!("a group of {ranks} ranks")));
                }
                Ok(Self::ReaderRoot {
                    ranks,
                    stream: from.text()?,
                    join: Join::decode(from)?,
                })
            }
            READER_RANK => Ok(Self::ReaderRank),
            WRITER_RANK => Ok(Self::WriterRank),
            CALLER => Ok(Self::Caller),
            other => Err(from.error(format!("no greeting has code {other}"))),
        }
    }
}

/// What is known of a sealed step, in byte form, but its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) schema_digest: u64,
    pub(super) layout_digest: u64,
    /// The byte form of the step's record.
    pub(super) record: Vec<u8>,
    pub(super) schema: Arc<[u8]>,
    pub(super) layout: Arc<[u8]>,
    /// How each writer rank is reached: its tickets, and within a reader
    /// group the key before them.
    pub(super) reach: Arc<[u8]>,
    /// The [`Share`](super::slot::Share) of each writer rank.
    pub(super) shares: Vec<u8>,
}

/// Says what a step is, and leaves out what was said before.
#[derive(Clone, Debug, Default)]
pub(super) struct Telling {
    schema: Option<u64>,
    layout: Option<u64>,
    reach: Option<Arc<[u8]>>,
}

impl Telling {
    pub(super) fn put(&mut self, step: &Described, into: &mut Encoder) {
        let reached = self.reach.as_ref();
        let reached = reached.is_some_and(|told| Arc::ptr_eq(told, &step.reach));
        let known = [
            self.schema == Some(step.schema_digest),
            self.layout == Some(step.layout_digest),
            reached,
        ];
        let parts = [&step.schema, &step.layout, &step.reach];
        into.u64(step.schema_digest).u64(step.layout_digest);
        into.bytes(&step.record);
        for (known, part) in known.into_iter().zip(parts) {
            into.bytes(if known { &[] } else { part });
        }
        into.bytes(&step.shares);
        self.schema = Some(step.schema_digest);
        self.layout = Some(step.layout_digest);
        if !reached {
            self.reach = Some(Arc::clone(&step.reach));
        }
    }
}

/// Hears what was told, and puts in what was heard before.
#[derive(Clone, Debug, Default)]
pub(super) struct Hearing {
    schema: Option<(u64, Arc<[u8]>)>,
    layout: Option<(u64, Arc<[u8]>)>,
    reach: Option<Arc<[u8]>>,
}

impl Hearing {
    pub(super) fn take(&mut self, from: &mut Decoder<'_>) -> Result<Described, DecodeError> {
        let (schema_digest, layout_digest) = (from.u64()?, from.u64()?);
        let record = from.bytes()?.to_vec();
        let schema = named(&mut self.schema, schema_digest, from)?;
        let layout = named(&mut self.layout, layout_digest, from)?;
        let reach = from.bytes()?;
        if !reach.is_empty() {
            self.reach = Some(reach.into());
        }
        let Some(reach) = self.reach.clone() else {
            return Err(from.error("nobody said how the writers are reached"));
        };
        Ok(Described {
            schema_digest,
            layout_digest,
            record,
            schema,
            layout,
            reach,
            shares: from.bytes()?.to_vec(),
        })
    }
}

/// A part that goes by its digest.
fn named(
    known: &mut Option<(u64, Arc<[u8]>)>,
    name: u64,
    from: &mut Decoder<'_>,
) -> Result<Arc<[u8]>, DecodeError> {
    let bytes = from.bytes()?;
    if !bytes.is_empty() {
        if digest(bytes) != name {
            return Err(from.error("a schema or layout is not the one that its name says"));
        }
        *known = Some((name, bytes.into()));
    }
    match known {
        Some((known, part)) if *known == name => Ok(Arc::clone(part)),
        _ => Err(from.error("the step names a schema or layout that was not told")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn step(schema: &[u8], layout: &[u8], reach: &Arc<[u8]>) -> Described {
        Described {
            schema_digest: digest(schema),
            layout_digest: digest(layout),
            record: vec![7; 9],
            schema: schema.into(),
            layout: layout.into(),
            reach: Arc::clone(reach),
            shares: vec![1, 2],
        }
    }

    fn told(telling: &mut Telling, step: &Described) -> Vec<u8> {
        let mut encoder = Encoder::default();
        telling.put(step, &mut encoder);
        encoder.finish()
    }

    #[test]
    fn what_is_unchanged_is_not_said_again_and_what_was_not_said_is_an_error() {
        let (mut telling, mut hearing) = (Telling::default(), Hearing::default());
        let reach: Arc<[u8]> = [3; 40].into();
        let (a, b) = (
            step(&[1; 500], &[2; 600], &reach),
            step(&[1; 500], &[4; 70], &reach),
        );
        let mut lengths = Vec::new();
        for step in [&a, &a, &b, &a] {
            let bytes = told(&mut telling, step);
            let mut from = Decoder::new(&bytes);
            assert_eq!(hearing.take(&mut from).unwrap(), *step);
            from.finish().unwrap();
            lengths.push(bytes.len());
        }
        assert!(lengths[0] > 1100 && lengths[1] < 60 && lengths[2] < 130 && lengths[3] > 600);
        let bytes = told(&mut telling, &a);
        assert!(Hearing::default().take(&mut Decoder::new(&bytes)).is_err());
        for end in 0..bytes.len() {
            assert!(hearing.take(&mut Decoder::new(&bytes[..end])).is_err());
        }
    }

    #[test]
    fn greetings_come_back_and_a_group_has_ranks() {
        let root = Greeting::ReaderRoot {
            stream: "run42".into(),
            ranks: 3,
            join: Join::default(),
        };
        for greeting in [
            root,
            Greeting::ReaderRank,
            Greeting::WriterRank,
            Greeting::Caller,
        ] {
            assert_eq!(
                Greeting::from_bytes(&greeting.to_bytes()).unwrap(),
                greeting
            );
        }
        assert!(Greeting::from_bytes(&[READER_ROOT, 0, 0, 0, 0]).is_err());
    }
}
