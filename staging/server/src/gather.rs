//! Puts together the body that answers a get.
//!
//! ```text
//!   whole piece, or rows that lie together   sent from where they are stored
//!   any other box of a piece                 copied together once, then sent
//! ```
//! Every tile that a box touches is verified before its bytes leave. A whole
//! piece goes with the checksums it came with, which the client verifies.

use std::sync::Arc;

use panta_staging::proto::message::Got;
use panta_staging::proto::server::GatherPart;
use panta_transports::copy::{
    CopyCounter, CopyError, StoredBlock, StridedMut, StridedRef, TILE_BYTES, checksum_tiles,
    copy_box_verified, verify_tiles,
};

use crate::payload::Region;

/// Where one part of the body lies.
enum Part<'a> {
    Stored(&'a [u8]),
    /// So many bytes of the scratch, in turn.
    Gathered(usize),
}

/// Completes `got` and returns the slices of its body, in order. `scratch` is
/// grown as needed.
///
/// # Errors
/// What is wrong with a stored piece, for people.
pub(crate) fn gather<'a>(
    got: &mut Got,
    parts: &[GatherPart],
    regions: &'a [Arc<Region>],
    scratch: &'a mut Vec<u8>,
    copies: &CopyCounter,
) -> Result<Vec<&'a [u8]>, String> {
    let boxes = parts
        .iter()
        .zip(regions)
        .map(|(part, region)| Stored::new(part, region.bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    let gathered: usize = boxes.iter().map(Stored::gathered_bytes).sum();
    if scratch.len() < gathered {
        scratch.resize(gathered, 0);
    }
    let mut rest = &mut scratch[..gathered];
    let mut body = Vec::with_capacity(parts.len());
    for (stored, sent) in boxes.iter().zip(&mut got.pieces) {
        if let Some(bytes) = stored.in_place {
            if !stored.part.whole {
                stored.verify_around(bytes)?;
                sent.checksums.clear();
                checksum_tiles(bytes, &mut sent.checksums, &mut |_| {});
            }
            body.push(Part::Stored(bytes));
            continue;
        }
        let (into, after) = rest.split_at_mut(stored.gathered_bytes());
        rest = after;
        stored
            .copy(into, copies)
            .map_err(|error| stored.damaged(&error))?;
        sent.checksums.clear();
        checksum_tiles(into, &mut sent.checksums, &mut |_| {});
        body.push(Part::Gathered(into.len()));
    }
    let mut rest = &scratch[..gathered];
    let slices = body.into_iter().map(|part| match part {
        Part::Stored(bytes) => bytes,
        Part::Gathered(bytes) => {
            let (now, after) = rest.split_at(bytes);
            rest = after;
            now
        }
    });
    Ok(slices.collect())
}

/// One stored piece and the box of it that is wanted.
struct Stored<'a, 'p> {
    part: &'p GatherPart,
    piece: &'a [u8],
    /// Leading dimensions of one cell, which change nothing, are left out.
    first: usize,
    start: Vec<u64>,
    in_place: Option<&'a [u8]>,
}

impl<'a, 'p> Stored<'a, 'p> {
    fn new(part: &'p GatherPart, region: &'a [u8]) -> Result<Self, String> {
        let begin = usize::try_from(part.offset_bytes).unwrap_or(usize::MAX);
        // `length_bytes` of a part is that of the stored piece.
        let length = usize::try_from(part.length_bytes).unwrap_or(usize::MAX);
        let piece = begin
            .checked_add(length)
            .and_then(|end| region.get(begin..end))
            .ok_or("a piece lies outside its region")?;
        let lone = |side: &u64| *side == 1;
        let first = part.piece_count.iter().position(|side| !lone(side));
        let first = first.unwrap_or(part.piece_count.len());
        let mut stored = Self {
            part,
            piece,
            first,
            start: part.start[first..]
                .iter()
                .zip(&part.piece_start[first..])
                .map(|(start, piece)| start.saturating_sub(*piece))
                .collect(),
            in_place: None,
        };
        stored.in_place = if part.whole {
            Some(piece)
        } else {
            stored.rows_together()?
        };
        Ok(stored)
    }

    fn element_bytes(&self) -> usize {
        self.part.element_bytes as usize
    }

    fn count(&self) -> &'p [u64] {
        &self.part.count[self.first..]
    }

    fn rows_together(&self) -> Result<Option<&'a [u8]>, String> {
        let piece_count = &self.part.piece_count[self.first..];
        let all = StridedRef::contiguous(self.piece, self.element_bytes(), piece_count);
        let wanted = all.and_then(|all| all.sub_box(&self.start, self.count()));
        Ok(wanted.map_err(|error| error.to_string())?.as_slice())
    }

    fn gathered_bytes(&self) -> usize {
        if self.in_place.is_some() {
            return 0;
        }
        // Inside the piece, whose bytes are in memory.
        self.count().iter().product::<u64>() as usize * self.element_bytes()
    }

    fn copy(&self, into: &mut [u8], copies: &CopyCounter) -> Result<(), CopyError> {
        let piece_count = &self.part.piece_count[self.first..];
        let block = StoredBlock::new(
            self.piece,
            self.element_bytes(),
            piece_count,
            &self.part.checksums,
        )?;
        let mut into = StridedMut::contiguous(into, self.element_bytes(), self.count())?;
        let step = vec![1; self.start.len()];
        copy_box_verified(&mut into, &block, &self.start, &step, true, copies)
    }

    /// Verifies the tiles that hold `bytes`, which lie in the piece.
    fn verify_around(&self, bytes: &[u8]) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        let at = bytes.as_ptr() as usize - self.piece.as_ptr() as usize;
        let first = at / TILE_BYTES;
        let last = (at + bytes.len()).div_ceil(TILE_BYTES);
        let end = self.piece.len().min(last * TILE_BYTES);
        let checksums = self.part.checksums.get(first..).unwrap_or(&[]);
        verify_tiles(&self.piece[first * TILE_BYTES..end], checksums)
            .map_err(|mismatch| self.damaged(&mismatch))
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> String {
        format!(
            "the piece at {:?}, {:?} is damaged in the server's memory: {error}",
            self.part.piece_start, self.part.piece_count
        )
    }
}
