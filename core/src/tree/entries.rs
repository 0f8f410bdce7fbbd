//! What ranks say on its way up, and taken apart again at the root.
//!
//! ```text
//! body    runs, in any order
//! run     first rank | ranks more | what | bytes          what: 0 it said this, 1 it failed
//!                                                         a failure: code u32, then the message
//! ```
//! Numbers are of seven bits a byte, the lowest first. Ranks that follow each other
//! and say the same are told as one: what every rank says alike costs the root the
//! same few bytes however many they are.

use super::MAX_FRAME_BYTES;
use super::error::Failure;
use super::frame::{Fields, MAX_TEXT_BYTES, truncated};

const SAID: u8 = 0;
const FAILED: u8 = 1;

/// What every rank said, in rank order.
pub(crate) type Said = Vec<Result<Vec<u8>, Failure>>;

/// Ranks that say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run<'b> {
    first: usize,
    ranks: usize,
    what: u8,
    bytes: &'b [u8],
}

impl<'b> Run<'b> {
    fn take(fields: &mut Fields<'b>) -> Result<Self, String> {
        Ok(Self {
            first: fields.rank_varint()?,
            ranks: fields.rank_varint()?.saturating_add(1),
            what: fields.u8()?,
            bytes: {
                let length = fields.varint()?;
                let length = usize::try_from(length).map_err(|_| "a length out of reach")?;
                fields.take(length)?
            },
        })
    }

    fn put(&self, body: &mut Vec<u8>) {
        put_varint(body, self.first as u64);
        put_varint(body, self.ranks as u64 - 1);
        body.push(self.what);
        put_varint(body, self.bytes.len() as u64);
        body.extend_from_slice(self.bytes);
    }

    fn goes_on_with(&self, next: &Self) -> bool {
        self.first + self.ranks == next.first && (self.what, self.bytes) == (next.what, next.bytes)
    }

    fn part(&self, rank: usize) -> Result<Result<Vec<u8>, Failure>, String> {
        match self.what {
            SAID => Ok(Ok(self.bytes.to_vec())),
            FAILED => {
                let mut fields = Fields(self.bytes);
                let code = fields.u32()?;
                if fields.0.len() > MAX_TEXT_BYTES {
                    return Err(format!("a text of {} bytes", fields.0.len()));
                }
                Ok(Err(Failure {
                    rank,
                    code,
                    message: String::from_utf8_lossy(fields.0).into_owned(),
                }))
            }
            other => Err(format!("an entry of kind {other}")),
        }
    }
}

fn put_varint(body: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        body.push(value as u8 | 0x80);
        value >>= 7;
    }
    body.push(value as u8);
}

/// What this rank says and what came from below it, as one body.
///
/// # Errors
/// What is wrong with what came.
pub(crate) fn gathered(
    rank: usize,
    own: &Result<Vec<u8>, Failure>,
    below: &[Vec<u8>],
) -> Result<Vec<u8>, String> {
    let failed;
    let (what, bytes) = match own {
        Ok(bytes) => (SAID, &bytes[..]),
        Err(failure) => {
            let message = truncated(&failure.message).as_bytes();
            failed = [&failure.code.to_le_bytes()[..], message].concat();
            (FAILED, &failed[..])
        }
    };
    let mut runs = vec![Run {
        first: rank,
        ranks: 1,
        what,
        bytes,
    }];
    for body in below {
        let mut fields = Fields(body);
        while !fields.0.is_empty() {
            runs.push(Run::take(&mut fields)?);
        }
    }
    runs.sort_by_key(|run| run.first);
    let bytes = below.iter().map(Vec::len).sum::<usize>() + bytes.len() + 24;
    let mut body = Vec::with_capacity(bytes);
    let mut told: Option<Run<'_>> = None;
    for run in runs {
        match &mut told {
            Some(told) if told.goes_on_with(&run) => told.ranks += run.ranks,
            _ => {
                if let Some(told) = told.replace(run) {
                    told.put(&mut body);
                }
            }
        }
    }
    if let Some(told) = told {
        told.put(&mut body);
    }
    Ok(body)
}

/// Takes a body apart, in which each of `size` ranks must be once.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn spread(body: &[u8], size: usize) -> Result<Said, String> {
    let mut said: Vec<Option<Result<Vec<u8>, Failure>>> = vec![None; size];
    let mut bytes = 0_u64;
    let mut fields = Fields(body);
    while !fields.0.is_empty() {
        let run = Run::take(&mut fields)?;
        let ranks = said.get_mut(run.first..run.first.saturating_add(run.ranks));
        let ranks = ranks.ok_or_else(|| format!("rank {} is none here", run.first))?;
        bytes = bytes.saturating_add(run.bytes.len() as u64 * ranks.len() as u64);
        if bytes > MAX_FRAME_BYTES {
            return Err(format!("the ranks say more than {MAX_FRAME_BYTES} bytes"));
        }
        for (rank, place) in (run.first..).zip(ranks) {
            if place.replace(run.part(rank)?).is_some() {
                return Err(format!("rank {rank} has two parts"));
            }
        }
    }
    let complete: Option<Said> = said.into_iter().collect();
    complete.ok_or_else(|| "the part of a rank is missing".to_owned())
}

/// Looks at a body whatever the number of ranks is.
pub(super) fn inspect(body: &[u8]) -> Result<(), String> {
    let mut fields = Fields(body);
    while !fields.0.is_empty() {
        drop(Run::take(&mut fields)?.part(0)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::shape::Shape;
    use super::*;
    use proptest::prelude::*;

    /// What the root makes of it when each rank of the shape passes on what it got.
    fn carried(shape: Shape, parts: &Said) -> (Vec<u8>, Said) {
        let mut bodies: Vec<Vec<u8>> = vec![Vec::new(); shape.size];
        for rank in (0..shape.size).rev() {
            let below = bodies[shape.children(rank)].to_vec();
            bodies[rank] = gathered(rank, &parts[rank], &below).unwrap();
        }
        let said = spread(&bodies[0], shape.size).unwrap();
        (bodies.swap_remove(0), said)
    }

    #[test]
    fn what_all_ranks_say_alike_is_told_once() {
        for size in [1, 2, 64, 65, 66, 5000] {
            let shape = Shape { size, fan_out: 64 };
            let parts = vec![Ok(vec![7; 100]); size];
            let (body, said) = carried(shape, &parts);
            assert_eq!(said, parts);
            assert!(body.len() < 110, "{size}: {}", body.len());
        }
    }

    #[test]
    fn a_run_does_not_make_more_of_itself_than_ranks_may_say() {
        let part = vec![0; (MAX_FRAME_BYTES / 100) as usize];
        let mut body = Vec::new();
        let run = Run {
            first: 0,
            ranks: 101,
            what: SAID,
            bytes: &part,
        };
        run.put(&mut body);
        assert!(spread(&body, 101).is_err());
        assert!(spread(&body, 100).is_err(), "more ranks than there are");
    }

    proptest! {
        #[test]
        fn every_rank_is_heard_as_it_spoke(
            parts in prop::collection::vec(
                prop::result::maybe_ok(
                    prop::collection::vec(0_u8..2, 0..2),
                    (0_u32..2, "[ab]{0,1}"),
                ),
                1..40,
            ),
            fan_out in 1_usize..5,
        ) {
            let parts: Said = (0..).zip(parts).map(|(rank, part)| {
                part.map_err(|(code, message)| Failure { rank, code, message })
            }).collect();
            let shape = Shape { size: parts.len(), fan_out };
            prop_assert_eq!(carried(shape, &parts).1, parts);
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = spread(&body, 10);
            let _ = inspect(&body);
            let _ = gathered(3, &Ok(Vec::new()), &[body]);
        }
    }
}
