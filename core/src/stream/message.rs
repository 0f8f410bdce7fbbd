//! What goes with the machines' messages over a link: greetings, and the
//! announcements of steps.
//!
//! ```text
//! greeting   kind | ranks | stream | Join
//! announced  WriterMessage | announcement        writer root to reader root
//! told       announced, or 0 | life? | skipped ones | announced     reader root to its ranks
//! ```
//! Announcements are made and taken in by [`crate::announce`], once for each
//! group: the reader root hands on what it heard.

use super::machine::{Join, WriterMessage};
use crate::codec::{Coded, DecodeError, Decoder, Encoder};

/// The most ranks of a group.
const MAX_RANKS: u32 = 1 << 20;

/// The longest path of a dataset that steps are spilled to, in bytes.
const MAX_PATH_BYTES: usize = 4096;

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

/// The engine's own part of an announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Own<'a> {
    /// How each writer rank is reached; empty if as in the announcement before.
    pub(super) reach: &'a [u8],
    /// The [`Share`](super::slot::Share) of each writer rank.
    pub(super) shares: &'a [u8],
    /// The dataset that the step was spilled to; empty if it is in memory.
    pub(super) spilled: &'a str,
    /// Whether all ranks of the writer push what this group subscribed to, or say
    /// that they do not; otherwise its root alone does.
    pub(super) all_push: bool,
}

impl<'a> Own<'a> {
    pub(super) fn encode(&self, into: &mut Encoder) {
        into.bytes(self.reach).bytes(self.shares);
        into.text(self.spilled).u8(u8::from(self.all_push));
    }

    pub(super) fn from_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let own = Self {
            reach: from.bytes()?,
            shares: from.bytes()?,
            spilled: path(from.bytes()?).map_err(|problem| from.error(problem))?,
            all_push: from.u8()? != 0,
        };
        from.finish()?;
        Ok(own)
    }
}

fn path(bytes: &[u8]) -> Result<&str, String> {
    if bytes.len() > MAX_PATH_BYTES {
        return Err(format!("a path of more than {MAX_PATH_BYTES} bytes"));
    }
    std::str::from_utf8(bytes).map_err(|_| "a path is not UTF-8".into())
}

/// What a reader root tells its ranks of a step besides `announced`, which is the
/// writer's message as it came, and mostly all there is to tell: `life` is empty unless
/// the writer's is another than before (its key, and how the root of the group is
/// reached); `skipped` are messages that nobody is given, but that later ones refer to.
pub(super) fn relay(life: &[u8], skipped: &[Vec<u8>], announced: &[u8]) -> Vec<u8> {
    let length = skipped.iter().map(|it| it.len() + 4).sum::<usize>();
    let mut into = Encoder::with_capacity(9 + life.len() + length + announced.len());
    into.u8(WITH_MORE).bytes(life).length(skipped.len());
    for skipped in skipped {
        into.bytes(skipped);
    }
    into.raw(announced);
    into.finish()
}

/// Where a relayed message begins that is more than the writer's own.
const WITH_MORE: u8 = 0;

/// What follows the writer's word that a step was announced.
fn announcement_of(message: &[u8]) -> Result<&[u8], DecodeError> {
    let mut from = Decoder::new(message);
    match WriterMessage::decode(&mut from)? {
        WriterMessage::Announced { .. } => Ok(from.rest()),
        _ => Err(from.error("no step is announced")),
    }
}

/// What a reader root tells its ranks, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relayed<'a> {
    pub(super) life: &'a [u8],
    pub(super) skipped: Vec<&'a [u8]>,
    pub(super) announcement: &'a [u8],
}

impl<'a> Relayed<'a> {
    pub(super) fn from_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.first() != Some(&WITH_MORE) {
            return Ok(Self {
                life: &[],
                skipped: Vec::new(),
                announcement: announcement_of(bytes)?,
            });
        }
        let mut from = Decoder::new(&bytes[1..]);
        Ok(Self {
            life: from.bytes()?,
            skipped: (0..from.count(4)?)
                .map(|_| announcement_of(from.bytes()?))
                .collect::<Result<_, DecodeError>>()?,
            announcement: announcement_of(from.rest())?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::machine::Position;
    use super::*;

    #[test]
    fn what_is_relayed_comes_back_and_nothing_less() {
        let own = Own {
            reach: &[1, 2],
            shares: &[3],
            spilled: "spilled/run42",
            all_push: true,
        };
        let announced = |own: &[u8]| {
            let at = Position { epoch: 1, step: 5 };
            let mut message = Encoder::default();
            WriterMessage::Announced { at, newest: 6 }.encode(&mut message);
            message.raw(own);
            message.finish()
        };
        let mut encoded = Encoder::default();
        own.encode(&mut encoded);
        let announcement = encoded.finish();
        let plain = announced(&announcement);
        assert_eq!(
            Relayed::from_bytes(&plain).unwrap(),
            Relayed {
                life: &[],
                skipped: Vec::new(),
                announcement: &announcement,
            }
        );
        let skipped = [announced(&[5, 6]), announced(&[])];
        let bytes = relay(&[4], &skipped, &plain);
        let relayed = Relayed::from_bytes(&bytes).unwrap();
        assert_eq!(relayed.life, [4]);
        assert_eq!(relayed.skipped, [&[5, 6][..], &[]]);
        assert_eq!(relayed.announcement, announcement);
        assert_eq!(Own::from_bytes(relayed.announcement).unwrap(), own);
        for end in 0..bytes.len() - announcement.len() {
            assert!(Relayed::from_bytes(&bytes[..end]).is_err());
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
