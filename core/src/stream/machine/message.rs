//! What the two roots say to each other, and its byte form.
//!
//! One byte of kind, then the fields, little-endian. A link keeps messages in
//! order. The engine may append bytes of its own to a message (the metadata of
//! an announced step): decode from a [`Decoder`], then take the rest.

use super::limits::{MAX_HELD_STEPS, MAX_NAME_BYTES};
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::engine::Start;

/// A step of one life of a writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The life, from 1.
    pub epoch: u64,
    /// The step's number.
    pub step: u64,
}

/// What a reader group wants when it joins; sent as the link's greeting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Join {
    /// The group, for errors.
    pub name: String,
    /// Where it begins.
    pub start: Start,
    /// It wants the newest step each time, whatever it misses.
    pub latest_only: bool,
    /// The last step it has, if it was linked to this writer or an earlier life
    /// of it before. It goes on from there, whatever `start` says.
    pub seen: Option<Position>,
}

/// From the reader root to the writer root.
#[derive(Clone, Debug, PartialEq)]
pub enum ReaderMessage {
    /// The group wants a step; answered by one `Announced`, when there is one.
    /// Only where the `Welcome` said `pull`.
    Ask {
        /// How many `Announced` of this link it has heard.
        heard: u64,
    },
    /// The group does not want it any more, unless the answer is on its way.
    Withdraw,
    /// The group waits for a step while it holds others. Where it must ask, `Ask`
    /// says so, too.
    Waiting {
        /// How many `Announced` of this link it has heard.
        heard: u64,
    },
    /// No rank of the group needs the step any more.
    Release {
        /// The step.
        step: u64,
    },
    /// Everything up to the step is dealt with. Answered by `Committed`.
    Commit {
        /// Under which name.
        cursor: String,
        /// Up to where.
        at: Position,
    },
    /// The group leaves. Steps that it was told of and did not release are
    /// taken back, those under `held` for as long as somebody might look at them.
    Leave {
        /// Steps that some rank may still look at.
        held: Vec<u64>,
    },
    /// Nothing but life; any other message says so, too.
    Alive,
}

/// Why a group cannot join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedWhy {
    /// [`super::limits::MAX_GROUPS`] are there.
    TooManyGroups,
    /// [`super::limits::MAX_CURSORS`] are remembered.
    TooManyCursors,
    /// The group has seen a later life of this writer.
    OldEpoch,
}

/// From the writer root to the reader root.
#[derive(Clone, Debug, PartialEq)]
pub enum WriterMessage {
    /// First on every link.
    Welcome {
        /// This life of the writer.
        epoch: u64,
        /// Whether the group must ask for every step.
        pull: bool,
        /// Bytes of steps that a writer rank holds at most.
        limit_bytes: u64,
        /// The newest step sealed.
        newest: Option<u64>,
    },
    /// Instead of `Welcome`.
    Refused {
        /// Why.
        why: RefusedWhy,
    },
    /// A sealed step, the group's until it releases it. The engine appends the
    /// step's metadata.
    Announced {
        /// The step; its epoch is of the life that wrote it.
        at: Position,
        /// The newest step sealed by then.
        newest: u64,
    },
    /// Steps that the group wanted are gone; it goes on with the oldest held.
    Trimmed {
        /// The oldest held; `None`: the next that is sealed.
        oldest: Option<u64>,
    },
    /// The writer went back: what the group has seen after `to` is withdrawn.
    RolledBack {
        /// The last step that still holds; `None`: none does.
        to: Option<u64>,
    },
    /// The writer cannot begin a step, and only groups that wait for it hold
    /// what is in its way.
    Blocked {
        /// Bytes of the group's steps on the rank that lacks room.
        held_bytes: u64,
        /// How many `Release` of this link the writer had seen.
        releases: u64,
    },
    /// The answer to `Commit`: a writer that lives will remember.
    Committed {
        /// Up to where.
        at: Position,
    },
    /// The cursor was not remembered: there are too many.
    NotCommitted {
        /// Which position.
        at: Position,
    },
    /// No further step; the group was told of all that it gets.
    Closed {
        /// The last step sealed.
        last: Option<u64>,
    },
    /// The group was silent for too long, or misbehaved. What it holds is not
    /// kept for it any more; it may join again.
    Fenced,
}

fn name(from: &mut Decoder<'_>) -> Result<String, DecodeError> {
    let length = usize::from(from.u16()?);
    if length > MAX_NAME_BYTES {
        return Err(from.error(format!(
            "a name of {length} bytes, the limit is {MAX_NAME_BYTES}"
        )));
    }
    let bytes = from.take(length)?;
    match std::str::from_utf8(bytes) {
        Ok(name) => Ok(name.to_owned()),
        Err(_) => Err(from.error("a name is not UTF-8")),
    }
}

/// Writes at most [`MAX_NAME_BYTES`]; a longer name loses its end, at a character.
fn put_name(name: &str, into: &mut Encoder) {
    let mut length = name.len().min(MAX_NAME_BYTES);
    while !name.is_char_boundary(length) {
        length -= 1;
    }
    into.u16(length as u16);
    for byte in &name.as_bytes()[..length] {
        into.u8(*byte);
    }
}

fn put_optional(value: Option<u64>, into: &mut Encoder) {
    into.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        into.u64(value);
    }
}

fn flag(from: &mut Decoder<'_>) -> Result<bool, DecodeError> {
    match from.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(from.error(format!("{other} is neither 0 nor 1"))),
    }
}

fn optional(from: &mut Decoder<'_>) -> Result<Option<u64>, DecodeError> {
    Ok(if flag(from)? { Some(from.u64()?) } else { None })
}

impl Coded for Position {
    fn encode(&self, into: &mut Encoder) {
        into.u64(self.epoch).u64(self.step);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: from.u64()?,
            step: from.u64()?,
        })
    }
}

fn put_start(start: &Start, into: &mut Encoder) {
    match start {
        Start::Oldest => into.u8(0),
        Start::Latest => into.u8(1),
        Start::At(step) => into.u8(2).u64(*step),
        Start::After(step) => into.u8(3).u64(*step),
        Start::AtTime(time) => into.u8(4).f64(*time),
        Start::Cursor(name) => {
            put_name(name, into.u8(5));
            into
        }
    };
}

fn start(from: &mut Decoder<'_>) -> Result<Start, DecodeError> {
    Ok(match from.u8()? {
        0 => Start::Oldest,
        1 => Start::Latest,
        2 => Start::At(from.u64()?),
        3 => Start::After(from.u64()?),
        4 => Start::AtTime(from.f64()?),
        5 => Start::Cursor(name(from)?),
        other => return Err(from.error(format!("no start has code {other}"))),
    })
}

impl Coded for Join {
    fn encode(&self, into: &mut Encoder) {
        put_name(&self.name, into);
        put_start(&self.start, into);
        into.u8(u8::from(self.latest_only))
            .u8(u8::from(self.seen.is_some()));
        if let Some(seen) = &self.seen {
            seen.encode(into);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (name, start, latest_only) = (name(from)?, start(from)?, flag(from)?);
        let seen = if flag(from)? {
            Some(Position::decode(from)?)
        } else {
            None
        };
        Ok(Self {
            name,
            start,
            latest_only,
            seen,
        })
    }
}

impl Coded for ReaderMessage {
    fn encode(&self, into: &mut Encoder) {
        match self {
            Self::Ask { heard } => {
                into.u8(1).u64(*heard);
            }
            Self::Withdraw => {
                into.u8(2);
            }
            Self::Release { step } => {
                into.u8(3).u64(*step);
            }
            Self::Commit { cursor, at } => {
                put_name(cursor, into.u8(4));
                at.encode(into);
            }
            Self::Leave { held } => {
                into.u8(5).u64s(held);
            }
            Self::Alive => {
                into.u8(6);
            }
            Self::Waiting { heard } => {
                into.u8(7).u64(*heard);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            1 => Self::Ask { heard: from.u64()? },
            2 => Self::Withdraw,
            3 => Self::Release { step: from.u64()? },
            4 => Self::Commit {
                cursor: name(from)?,
                at: Position::decode(from)?,
            },
            5 => {
                let held = from.u64s()?;
                if held.len() > MAX_HELD_STEPS {
                    return Err(from.error("more steps are held than there can be"));
                }
                Self::Leave { held }
            }
            6 => Self::Alive,
            7 => Self::Waiting { heard: from.u64()? },
            other => return Err(from.error(format!("no message of a reader has code {other}"))),
        })
    }
}

impl Coded for WriterMessage {
    fn encode(&self, into: &mut Encoder) {
        match self {
            Self::Welcome {
                epoch,
                pull,
                limit_bytes,
                newest,
            } => {
                into.u8(65)
                    .u64(*epoch)
                    .u8(u8::from(*pull))
                    .u64(*limit_bytes);
                put_optional(*newest, into);
            }
            Self::Refused { why } => {
                into.u8(66).u8(match why {
                    RefusedWhy::TooManyGroups => 1,
                    RefusedWhy::TooManyCursors => 2,
                    RefusedWhy::OldEpoch => 3,
                });
            }
            Self::Announced { at, newest } => {
                at.encode(into.u8(67));
                into.u64(*newest);
            }
            Self::Trimmed { oldest } => put_optional(*oldest, into.u8(68)),
            Self::RolledBack { to } => put_optional(*to, into.u8(69)),
            Self::Blocked {
                held_bytes,
                releases,
            } => {
                into.u8(70).u64(*held_bytes).u64(*releases);
            }
            Self::Committed { at } => at.encode(into.u8(71)),
            Self::NotCommitted { at } => at.encode(into.u8(72)),
            Self::Closed { last } => put_optional(*last, into.u8(73)),
            Self::Fenced => {
                into.u8(74);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            65 => Self::Welcome {
                epoch: from.u64()?,
                pull: flag(from)?,
                limit_bytes: from.u64()?,
                newest: optional(from)?,
            },
            66 => Self::Refused {
                why: match from.u8()? {
                    1 => RefusedWhy::TooManyGroups,
                    2 => RefusedWhy::TooManyCursors,
                    3 => RefusedWhy::OldEpoch,
                    other => return Err(from.error(format!("no refusal has code {other}"))),
                },
            },
            67 => Self::Announced {
                at: Position::decode(from)?,
                newest: from.u64()?,
            },
            68 => Self::Trimmed {
                oldest: optional(from)?,
            },
            69 => Self::RolledBack {
                to: optional(from)?,
            },
            70 => Self::Blocked {
                held_bytes: from.u64()?,
                releases: from.u64()?,
            },
            71 => Self::Committed {
                at: Position::decode(from)?,
            },
            72 => Self::NotCommitted {
                at: Position::decode(from)?,
            },
            73 => Self::Closed {
                last: optional(from)?,
            },
            74 => Self::Fenced,
            other => return Err(from.error(format!("no message of a writer has code {other}"))),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::limits::MAX_MESSAGE_BYTES;
    use super::*;

    const AT: Position = Position {
        epoch: u64::MAX,
        step: 7,
    };

    fn survives<T: Coded + PartialEq + std::fmt::Debug>(value: &T) {
        let bytes = value.to_bytes();
        assert!(bytes.len() <= MAX_MESSAGE_BYTES);
        assert_eq!(&T::from_bytes(&bytes).unwrap(), value);
        for end in 0..bytes.len() {
            assert!(
                T::from_bytes(&bytes[..end]).is_err(),
                "{value:?} cut at {end}"
            );
        }
    }

    #[test]
    fn every_message_survives_and_no_part_of_one_passes() {
        for start in [
            Start::Oldest,
            Start::Latest,
            Start::At(3),
            Start::After(4),
            Start::AtTime(0.5),
            Start::Cursor("viz".into()),
        ] {
            survives(&Join {
                name: "analysis".into(),
                start,
                latest_only: true,
                seen: Some(AT),
            });
        }
        for message in [
            ReaderMessage::Ask { heard: 1 },
            ReaderMessage::Withdraw,
            ReaderMessage::Waiting { heard: 2 },
            ReaderMessage::Alive,
            ReaderMessage::Release { step: 1 },
            ReaderMessage::Commit {
                cursor: "ä".into(),
                at: AT,
            },
            ReaderMessage::Leave { held: vec![1, 2] },
        ] {
            survives(&message);
        }
        for message in [
            WriterMessage::Welcome {
                epoch: 1,
                pull: true,
                limit_bytes: 2,
                newest: Some(3),
            },
            WriterMessage::Refused {
                why: RefusedWhy::OldEpoch,
            },
            WriterMessage::Announced { at: AT, newest: 9 },
            WriterMessage::Trimmed { oldest: None },
            WriterMessage::RolledBack { to: Some(40) },
            WriterMessage::Blocked {
                held_bytes: 1,
                releases: 2,
            },
            WriterMessage::Committed { at: AT },
            WriterMessage::NotCommitted { at: AT },
            WriterMessage::Closed { last: Some(1) },
            WriterMessage::Fenced,
        ] {
            survives(&message);
        }
    }

    #[test]
    fn a_name_too_long_is_refused_and_never_sent() {
        let long = Join {
            name: "ä".repeat(MAX_NAME_BYTES),
            ..Join::default()
        };
        let sent = Join::from_bytes(&long.to_bytes()).unwrap();
        assert_eq!(sent.name.len(), MAX_NAME_BYTES);
        let mut hostile = Encoder::default();
        hostile.u16(MAX_NAME_BYTES as u16 + 1);
        let mut bytes = hostile.finish();
        bytes.resize(2_000, b'a');
        assert!(Join::from_bytes(&bytes).is_err());
    }
}
