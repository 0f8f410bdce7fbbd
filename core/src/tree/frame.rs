//! What goes over a link of the tree, byte by byte.
//!
//! ```text
//! frame     body length u64 | round u64 | kind u8 | operation u8 | body
//! Up        what all the ranks below say, see [`entries`]
//! Down      the bytes for everyone
//! Awaiting  ranks u32 that are being waited for
//! Poison    the error that broke the tree
//! ```
//!
//! Integers are little-endian. Links lie between ranks of one group that know
//! each other's key; what comes over them is checked all the same.

use super::entries;
use super::error::{Operation, TreeError};
use super::{MAX_FRAME_BYTES, MAX_RANKS_NAMED};
use std::time::Duration;

/// Bytes before the body.
pub(crate) const HEADER_BYTES: usize = 18;
/// The longest text in an error that goes to the others, in bytes.
pub(super) const MAX_TEXT_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Up = 1,
    Down = 2,
    Awaiting = 3,
    Poison = 4,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) round: u64,
    pub(super) kind: Kind,
    pub(super) operation: Operation,
    pub(super) body: Vec<u8>,
}

impl Frame {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.body.len());
        bytes.extend_from_slice(&(self.body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.round.to_le_bytes());
        bytes.push(self.kind as u8);
        bytes.push(operation_code(self.operation));
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Takes one frame from the front of `bytes`; none if it isn't all there.
    pub(super) fn take(bytes: &mut Vec<u8>) -> Result<Option<Self>, String> {
        let mut header = Fields(bytes);
        let (Ok(length), Ok(round)) = (header.u64(), header.u64()) else {
            return Ok(None);
        };
        let (Ok(kind), Ok(operation)) = (header.u8(), header.u8()) else {
            return Ok(None);
        };
        if length > MAX_FRAME_BYTES {
            return Err(format!("a frame of {length} bytes"));
        }
        let kind = match kind {
            1 => Kind::Up,
            2 => Kind::Down,
            3 => Kind::Awaiting,
            4 => Kind::Poison,
            other => return Err(format!("a frame of kind {other}")),
        };
        let operation = operation_from(operation)?;
        let end = HEADER_BYTES + length as usize;
        if bytes.len() < end {
            return Ok(None);
        }
        let rest = bytes.split_off(end);
        let mut body = std::mem::replace(bytes, rest);
        body.drain(..HEADER_BYTES);
        Ok(Some(Self {
            round,
            kind,
            operation,
            body,
        }))
    }
}

/// Takes the frames in `bytes` apart, bodies included, as a link does; says how
/// many there are. For whoever looks at what went over a link.
///
/// # Errors
/// What is wrong with the first that is none.
pub fn inspect(bytes: &[u8]) -> Result<usize, String> {
    let mut rest = bytes.to_vec();
    let mut frames = 0;
    while let Some(frame) = Frame::take(&mut rest)? {
        match frame.kind {
            Kind::Up => entries::inspect(&frame.body)?,
            Kind::Down => {}
            Kind::Awaiting => drop(read_ranks(&frame.body)?),
            Kind::Poison => drop(read_error(&frame.body)?),
        }
        frames += 1;
    }
    Ok(frames)
}

fn operation_code(operation: Operation) -> u8 {
    match operation {
        Operation::Gather => 1,
        Operation::Broadcast => 2,
        Operation::Agree => 3,
        Operation::Barrier => 4,
    }
}

fn operation_from(code: u8) -> Result<Operation, String> {
    match code {
        1 => Ok(Operation::Gather),
        2 => Ok(Operation::Broadcast),
        3 => Ok(Operation::Agree),
        4 => Ok(Operation::Barrier),
        other => Err(format!("a frame of operation {other}")),
    }
}

pub(super) fn write_ranks(ranks: &[usize]) -> Vec<u8> {
    let mut body = Vec::new();
    ranks.iter().for_each(|rank| put_rank(&mut body, *rank));
    body
}

pub(super) fn read_ranks(body: &[u8]) -> Result<Vec<usize>, String> {
    let mut fields = Fields(body);
    let mut ranks = Vec::new();
    while !fields.0.is_empty() {
        if ranks.len() == MAX_RANKS_NAMED {
            return Err("more ranks than are named".to_owned());
        }
        ranks.push(fields.rank()?);
    }
    Ok(ranks)
}

/// The body of a poison frame.
pub(super) fn write_error(error: &TreeError) -> Vec<u8> {
    let mut body = Vec::new();
    match error {
        TreeError::RankLost { rank, noticed_by } => {
            body.push(1);
            put_rank(&mut body, *rank);
            put_rank(&mut body, *noticed_by);
        }
        TreeError::Deadline {
            awaiting,
            after,
            noticed_by,
        } => {
            body.push(2);
            put_rank(&mut body, *noticed_by);
            let nanoseconds = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            body.extend_from_slice(&nanoseconds.to_le_bytes());
            body.extend(write_ranks(awaiting));
        }
        TreeError::Interrupted { rank } => {
            body.push(3);
            put_rank(&mut body, *rank);
        }
        TreeError::TooLarge {
            rank,
            bytes,
            limit_bytes,
        } => {
            body.push(4);
            put_rank(&mut body, *rank);
            body.extend_from_slice(&bytes.to_le_bytes());
            body.extend_from_slice(&limit_bytes.to_le_bytes());
        }
        TreeError::OutOfStep {
            rank,
            here,
            round,
            peer,
            there,
        } => {
            body.push(5);
            put_rank(&mut body, *rank);
            put_rank(&mut body, *peer);
            body.extend_from_slice(&round.to_le_bytes());
            body.push(operation_code(*here));
            body.push(operation_code(*there));
        }
        TreeError::Malformed { rank, peer, reason } => {
            body.push(6);
            put_rank(&mut body, *rank);
            put_rank(&mut body, *peer);
            put_bytes(&mut body, truncated(reason).as_bytes());
        }
        TreeError::System {
            rank,
            action,
            reason,
        } => {
            body.push(7);
            put_rank(&mut body, *rank);
            put_bytes(&mut body, truncated(action).as_bytes());
            put_bytes(&mut body, truncated(reason).as_bytes());
        }
        TreeError::Open(error) => {
            body.push(8);
            put_bytes(&mut body, truncated(&error.to_string()).as_bytes());
        }
    }
    body
}

pub(super) fn read_error(body: &[u8]) -> Result<TreeError, String> {
    let mut fields = Fields(body);
    let error = match fields.u8()? {
        1 => TreeError::RankLost {
            rank: fields.rank()?,
            noticed_by: fields.rank()?,
        },
        2 => TreeError::Deadline {
            noticed_by: fields.rank()?,
            after: Duration::from_nanos(fields.u64()?),
            awaiting: read_ranks(std::mem::take(&mut fields.0))?,
        },
        3 => TreeError::Interrupted {
            rank: fields.rank()?,
        },
        4 => TreeError::TooLarge {
            rank: fields.rank()?,
            bytes: fields.u64()?,
            limit_bytes: fields.u64()?,
        },
        5 => TreeError::OutOfStep {
            rank: fields.rank()?,
            peer: fields.rank()?,
            round: fields.u64()?,
            here: operation_from(fields.u8()?)?,
            there: operation_from(fields.u8()?)?,
        },
        6 => TreeError::Malformed {
            rank: fields.rank()?,
            peer: fields.rank()?,
            reason: fields.text()?,
        },
        7 => TreeError::System {
            rank: fields.rank()?,
            action: fields.text()?,
            reason: fields.text()?,
        },
        8 => TreeError::Open(crate::comm::CommError::Foreign {
            reason: fields.text()?,
        }),
        other => return Err(format!("an error of kind {other}")),
    };
    match fields.0 {
        [] => Ok(error),
        _ => Err("bytes after an error".to_owned()),
    }
}

fn put_rank(body: &mut Vec<u8>, rank: usize) {
    // Sizes of groups are checked against u32 when the tree is built.
    body.extend_from_slice(&(rank as u32).to_le_bytes());
}

pub(crate) fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    body.extend_from_slice(bytes);
}

pub(super) fn truncated(text: &str) -> &str {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev();
    let end = end.into_iter().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// Reads fields off the front; never past the end.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        match self.0.split_at_checked(count) {
            Some((front, rest)) => {
                self.0 = rest;
                Ok(front)
            }
            None => Err("fewer bytes than announced".to_owned()),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        bytes
            .try_into()
            .map_err(|_| "fewer bytes than announced".to_owned())
    }

    pub(crate) fn u8(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn rank(&mut self) -> Result<usize, String> {
        Ok(self.u32()? as usize)
    }

    /// A number of seven bits a byte, the lowest first.
    pub(super) fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number out of reach".to_owned())
    }

    pub(super) fn rank_varint(&mut self) -> Result<usize, String> {
        let rank = u32::try_from(self.varint()?);
        rank.map(|rank| rank as usize)
            .map_err(|_| "a rank out of reach".to_owned())
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], String> {
        let length = self.u64()?;
        let length = usize::try_from(length).map_err(|_| "a length out of reach".to_owned())?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<String, String> {
        let bytes = self.bytes()?;
        if bytes.len() > MAX_TEXT_BYTES {
            return Err(format!("a text of {} bytes", bytes.len()));
        }
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_error_reaches_the_others_unchanged() {
        let errors = [
            TreeError::RankLost {
                rank: 7,
                noticed_by: 3,
            },
            TreeError::Deadline {
                awaiting: vec![1, 129],
                after: Duration::from_millis(1500),
                noticed_by: 2,
            },
            TreeError::Interrupted { rank: 4 },
            TreeError::TooLarge {
                rank: 1,
                bytes: u64::MAX,
                limit_bytes: MAX_FRAME_BYTES,
            },
            TreeError::OutOfStep {
                rank: 1,
                here: Operation::Agree,
                round: 9,
                peer: 0,
                there: Operation::Barrier,
            },
            TreeError::Malformed {
                rank: 1,
                peer: 2,
                reason: "nonsense".to_owned(),
            },
            TreeError::System {
                rank: 1,
                action: "poll".to_owned(),
                reason: "no memory".to_owned(),
            },
        ];
        for error in errors {
            assert_eq!(read_error(&write_error(&error)).unwrap(), error);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read_error(&bytes);
            let _ = read_ranks(&bytes);
            let _ = Frame::take(&mut bytes.clone());
        }

        #[test]
        fn a_frame_cut_anywhere_is_not_taken_early(
            body in prop::collection::vec(any::<u8>(), 0..40),
            next in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let frame = Frame { round: 5, kind: Kind::Up, operation: Operation::Agree, body };
            let whole = frame.to_bytes();
            for end in 0..whole.len() {
                prop_assert_eq!(Frame::take(&mut whole[..end].to_vec()), Ok(None));
            }
            let mut both = [whole, next.clone()].concat();
            prop_assert_eq!(Frame::take(&mut both), Ok(Some(frame)));
            prop_assert_eq!(both, next);
        }
    }
}
