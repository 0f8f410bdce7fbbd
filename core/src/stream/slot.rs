//! Where a step's blocks lie in the memory of the rank that put them.
//!
//! ```text
//! main extent    header | block | checksums | block | checksums | …     blocks that were copied
//! span extent    header | block | checksums                             a block that was computed in place
//! main extent    header | frames | checksums | frames | checksums | …   blocks that were compressed
//! ```
//! Every extent begins with a header; blocks and checksums begin on 64 bytes,
//! blocks come in the order of their puts. So a reader that knows the layout
//! knows every offset, and a rank tells of a step where its main extent is, and
//! where those of its spans are. Of compressed blocks it also tells how long each frame is;
//! the checksums are those of the block's own bytes.
//!
//! The header names the step. It is wiped before the memory is used again:
//! whoever reads it after the bytes knows that they were the step's.

use smallvec::SmallVec;

use super::spill::Written;
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::frames::{FRAME_BYTES, frame_count};
use crate::lean;

/// What everything in an extent is aligned to.
const ALIGNMENT: u64 = 64;
/// Bytes of a header.
pub(super) const HEADER_BYTES: u64 = 64;
/// Bytes of it that say something.
pub(super) const STAMP_BYTES: usize = 32;
const MAGIC: u64 = u64::from_le_bytes(*b"PANTSLOT");
const TILE_BYTES: u64 = panta_transports::copy::TILE_BYTES as u64;
/// The longest ticket of an endpoint, in bytes.
const MAX_TICKET_BYTES: usize = 8192;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The writer's life.
    pub(super) epoch: u64,
    /// The step.
    pub(super) step: u64,
    /// The rank.
    pub(super) rank: u32,
}

impl Stamp {
    pub(super) fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let words = [MAGIC, self.epoch, self.step, u64::from(self.rank)];
        let mut bytes = [0; STAMP_BYTES];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.iter_mut()
                .zip(word.to_le_bytes())
                .for_each(|(to, from)| *to = from);
        }
        bytes
    }
}

pub(super) fn aligned(bytes: u64) -> u64 {
    bytes.div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT)
}

/// Where the checksums of a block begin, counted from the block.
pub(super) fn checksums_at(block_bytes: u64) -> u64 {
    aligned(block_bytes)
}

/// Bytes of an extent that a block and its checksums take.
pub(super) fn room_of(block_bytes: u64) -> u64 {
    let checksums = block_bytes.div_ceil(TILE_BYTES).saturating_mul(4);
    aligned(block_bytes).saturating_add(aligned(checksums))
}

/// Bytes of an extent that a compressed block of so many bytes and its checksums take.
pub(super) fn packed_room(block_bytes: u64, frames: &[u32]) -> u64 {
    let stored = frames.iter().map(|bytes| u64::from(*bytes)).sum();
    let checksums = block_bytes.div_ceil(TILE_BYTES).saturating_mul(4);
    aligned(stored).saturating_add(aligned(checksums))
}

/// A place in the exposed memory of a rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) region: u32,
    pub(super) offset: u64,
}

impl Spot {
    /// `bytes` further on.
    pub(super) fn on(self, bytes: u64) -> Self {
        Self {
            offset: self.offset.saturating_add(bytes),
            ..self
        }
    }
}

/// Where the blocks are that one rank put in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Of all its extents together.
    pub(super) bytes: u64,
    /// The main extent, if anything was copied.
    pub(super) main: Option<Spot>,
    /// The extents of spans, by ascending order of their puts.
    pub(super) spans: SmallVec<[(u32, Spot); 1]>,
    /// Bytes of each frame of the blocks, in their order, where they are compressed; all
    /// of them lie in the main extent then.
    pub(super) frames: Vec<u32>,
}

/// Where a compressed block is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PackedPlace {
    pub(super) order: u32,
    pub(super) spot: Spot,
    /// Which of the share's frames are its.
    pub(super) frames: std::ops::Range<usize>,
}

impl Share {
    /// Where the blocks of this rank are, given each array block's order and bytes, in order.
    pub(super) fn places(
        &self,
        blocks: impl Iterator<Item = (u32, u64)>,
    ) -> impl Iterator<Item = Option<Spot>> {
        let mut next = self.main.map(|main| main.on(HEADER_BYTES));
        let mut spans = self.spans.iter().peekable();
        blocks.map(move |(order, bytes)| {
            while spans.next_if(|(other, _)| *other < order).is_some() {}
            if let Some((_, spot)) = spans.next_if(|(other, _)| *other == order) {
                return Some(spot.on(HEADER_BYTES));
            }
            let here = next;
            next = next.map(|spot| spot.on(room_of(bytes)));
            here
        })
    }

    /// The same of compressed blocks; `None` if the share has other frames than these blocks.
    pub(super) fn packed_places(
        &self,
        blocks: impl Iterator<Item = (u32, u64)>,
    ) -> Option<Vec<PackedPlace>> {
        let mut spot = self.main?.on(HEADER_BYTES);
        let mut begin = 0;
        let mut places = Vec::new();
        for (order, bytes) in blocks {
            let end = usize::try_from(frame_count(bytes))
                .ok()?
                .checked_add(begin)?;
            let frames = self.frames.get(begin..end)?;
            places.push(PackedPlace {
                order,
                spot,
                frames: begin..end,
            });
            spot = spot.on(packed_room(bytes, frames));
            begin = end;
        }
        Some(places)
    }

    /// The extent of the span of this order.
    pub(super) fn span(&self, order: u32) -> Option<Spot> {
        let found = self.spans.binary_search_by_key(&order, |(order, _)| *order);
        found.ok().map(|at| self.spans[at].1)
    }
}

const HAS_MAIN: u8 = 1;
const HAS_SPANS: u8 = 2;
const HAS_FRAMES: u8 = 4;

/// Places are aligned, as a rule: the last bits turn to the front, where they cost nothing.
const ALIGNED_BITS: u32 = ALIGNMENT.trailing_zeros();

fn put_spot(spot: Spot, into: &mut Encoder) {
    lean::put(spot.region.into(), into);
    lean::put(spot.offset.rotate_right(ALIGNED_BITS), into);
}

fn take_spot(from: &mut Decoder<'_>) -> Result<Spot, DecodeError> {
    Ok(Spot {
        region: lean::take_u32(from)?,
        offset: lean::take(from)?.rotate_left(ALIGNED_BITS),
    })
}

impl Coded for Share {
    fn encode(&self, into: &mut Encoder) {
        let spans = if self.spans.is_empty() { 0 } else { HAS_SPANS };
        let frames = if self.frames.is_empty() {
            0
        } else {
            HAS_FRAMES
        };
        into.u8(self.main.map_or(0, |_| HAS_MAIN) | spans | frames);
        lean::put(self.bytes, into);
        if let Some(main) = self.main {
            put_spot(main, into);
        }
        if spans != 0 {
            lean::put(self.spans.len() as u64, into);
            for (order, spot) in &self.spans {
                lean::put((*order).into(), into);
                put_spot(*spot, into);
            }
        }
        if frames != 0 {
            lean::put(self.frames.len() as u64, into);
            self.frames
                .iter()
                .for_each(|bytes| lean::put((*bytes).into(), into));
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let what = from.u8()?;
        let mut share = Self {
            bytes: lean::take(from)?,
            ..Self::default()
        };
        if what & HAS_MAIN != 0 {
            share.main = Some(take_spot(from)?);
        }
        if what & HAS_SPANS != 0 {
            for _ in 0..lean::count(from)? {
                let span = (lean::take_u32(from)?, take_spot(from)?);
                if share.spans.last().is_some_and(|last| last.0 >= span.0) {
                    return Err(from.error("spans are not in ascending order"));
                }
                share.spans.push(span);
            }
        }
        if what & HAS_FRAMES != 0 {
            for _ in 0..lean::count(from)? {
                let bytes = lean::take_u32(from)?;
                if bytes == 0 || bytes as usize > FRAME_BYTES {
                    return Err(from.error(format!("a frame of {bytes} bytes")));
                }
                share.frames.push(bytes);
            }
        }
        Ok(share)
    }
}

/// What a rank's capture leaves for the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contribution {
    pub(super) share: Share,
    /// Where the rank's endpoint listens; with its first step.
    pub(super) ticket: Option<Vec<u8>>,
    /// Steps that it wrote to the spill file since it last said so.
    pub(super) spilled: Vec<Written>,
}

impl Coded for Contribution {
    fn encode(&self, into: &mut Encoder) {
        self.share.encode(into);
        lean::put_bytes(self.ticket.as_deref().unwrap_or_default(), into);
        lean::put(self.spilled.len() as u64, into);
        for (step, contribution) in &self.spilled {
            into.u64(*step).u8(u8::from(contribution.is_some()));
            into.bytes(contribution.as_deref().unwrap_or_default());
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let share = Share::decode(from)?;
        let ticket = lean::take_bytes(from)?;
        if ticket.len() > MAX_TICKET_BYTES {
            return Err(from.error(format!("a ticket of more than {MAX_TICKET_BYTES} bytes")));
        }
        let ticket = (!ticket.is_empty()).then(|| ticket.to_vec());
        let spilled = (0..lean::count(from)?)
            .map(|_| {
                let (step, well) = (from.u64()?, from.u8()? != 0);
                let contribution = from.bytes()?;
                Ok((step, well.then(|| contribution.to_vec())))
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self {
            share,
            ticket,
            spilled,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use smallvec::smallvec;

    fn spot(region: u32, offset: u64) -> Spot {
        Spot { region, offset }
    }

    #[test]
    fn blocks_follow_each_other_and_spans_lie_apart() {
        let share = Share {
            bytes: 0,
            main: Some(spot(1, 4096)),
            spans: smallvec![(1, spot(2, 0)), (4, spot(1, 64))],
            frames: Vec::new(),
        };
        let blocks = [(0, 100), (1, 8192), (3, 0), (4, 8), (7, 4097)];
        let main = spot(1, 4096 + 64);
        let expected = [
            Some(main),
            Some(spot(2, 64)),
            Some(main.on(128 + 64)),
            Some(spot(1, 128)),
            Some(main.on(128 + 64)),
        ];
        assert!(share.places(blocks.into_iter()).eq(expected));
        assert_eq!(share.span(4), Some(spot(1, 64)));
        assert_eq!(share.span(3), None);
        assert_eq!(room_of(4097), 4160 + 64);
    }

    #[test]
    fn compressed_blocks_follow_each_other_and_frames_that_do_not_fit_are_refused() {
        let mut share = Share {
            main: Some(spot(1, 4096)),
            frames: vec![100, 7, 30],
            ..Share::default()
        };
        let blocks = [(0, FRAME_BYTES as u64 + 1), (2, 0), (5, 30)];
        let places = share.packed_places(blocks.into_iter()).unwrap();
        let first = spot(1, 4096 + 64);
        // Its 65 tiles have 260 bytes of checksums.
        let second = first.on(128 + 320);
        let found: Vec<_> = places
            .iter()
            .map(|it| (it.order, it.spot, it.frames.clone()))
            .collect();
        assert_eq!(
            found,
            [(0, first, 0..2), (2, second, 2..2), (5, second, 2..3)]
        );
        share.frames.pop();
        assert_eq!(share.packed_places(blocks.into_iter()), None);
        for length in [0, FRAME_BYTES as u32 + 1] {
            share.frames = vec![length];
            assert!(Share::from_bytes(&share.to_bytes()).is_err());
        }
    }

    #[test]
    fn a_contribution_comes_back_and_costs_the_same_whatever_was_copied() {
        let whole = Contribution {
            share: Share {
                bytes: 1 << 40,
                main: Some(spot(3, 1 << 39)),
                ..Share::default()
            },
            ticket: None,
            spilled: Vec::new(),
        };
        assert_eq!(whole.to_bytes().len(), 15);
        let first = Contribution {
            share: Share {
                spans: smallvec![(0, spot(1, 2)), (9, spot(2, 1))],
                ..Share::default()
            },
            ticket: Some(vec![5; 40]),
            spilled: vec![(7, Some(vec![1, 2])), (8, None)],
        };
        let packed = Contribution {
            share: Share {
                main: Some(spot(0, 64)),
                frames: vec![1, FRAME_BYTES as u32],
                ..Share::default()
            },
            ..Contribution::default()
        };
        for contribution in [whole, first, packed] {
            let bytes = contribution.to_bytes();
            assert_eq!(Contribution::from_bytes(&bytes).unwrap(), contribution);
            for end in 0..bytes.len() {
                assert!(Contribution::from_bytes(&bytes[..end]).is_err());
            }
        }
    }
}
