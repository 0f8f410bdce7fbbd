//! Where the pieces of an answer go.
//!
//! ```text
//!   body ──plain─────────────────────────┐
//!        └─packed──unpacked, one by one──┴─ tiles of the box verified ──> user's array
//! ```
//! Pieces of one box go into the array in the order of (writer, rank, put), so that the
//! highest wins. What was not asked for is an error.

use std::sync::atomic::Ordering;

use panta_core::error::{Fault, GetError};
use panta_core::model::{cells, intersect};
use panta_core::plan::Piece as PlannedPiece;
use panta_transports::copy::{CopyError, StoredBlock, StridedMut, copy_box_verified, verify_tiles};

use super::super::packing::Unpacking;
use super::{Ask, Batch, Fetch, Lump};
use crate::proto::message::{Got, GotPiece};

/// The first cell of a box, and its cells per dimension.
type BoxRef<'p> = (&'p [u64], &'p [u64]);

impl Fetch<'_, '_, '_> {
    pub(super) fn scatter(
        &mut self,
        got: &Got,
        bytes: &[u8],
        batch: &Batch,
        lumps: &[Lump],
        received: &mut [u64],
    ) -> Result<(), GetError> {
        let numbers = ask_numbers(batch, lumps, |read| self.definition(read).name.clone());
        let mut offset = 0;
        let mut sent: Vec<(&GotPiece, usize)> = Vec::with_capacity(got.pieces.len());
        for piece in &got.pieces {
            sent.push((piece, offset));
            // The channel and the decoder have compared the sum with the body.
            offset += piece.length_bytes as usize;
        }
        sent.sort_by_key(|(piece, _)| {
            (
                piece.query,
                piece.region,
                piece.slot,
                piece.rank,
                piece.order,
            )
        });
        for (piece, offset) in sent {
            let ask = numbers
                .get(piece.query as usize)
                .and_then(|asks| asks.get(piece.region as usize));
            let Some(ask) = ask.map(|ask| &batch.asks[*ask]) else {
                return Err(self.failed(0, unasked()));
            };
            let lump = &lumps[ask.lump];
            let body = &bytes[offset..offset + piece.length_bytes as usize];
            let (fetched, summed) = (body.len(), size_of_val(&piece.checksums[..]));
            let fetched = (fetched + summed) as u64;
            self.fetched.fetch_add(fetched, Ordering::Relaxed);
            received[lump.read] += match piece.packed {
                true => self.scatter_packed(piece, body, ask, lump)?,
                false => self.scatter_piece(piece, body, lump)?,
            };
        }
        Ok(())
    }

    /// Copies what a piece has of a lump; how many cells.
    fn scatter_piece(
        &mut self,
        piece: &GotPiece,
        body: &[u8],
        lump: &Lump,
    ) -> Result<u64, GetError> {
        let Some((start, count)) = self.box_of(piece, lump)? else {
            return Ok(0);
        };
        let Some(part) = lump.wish().piece(0, start, count) else {
            // Between the steps of a strided read.
            return Ok(0);
        };
        let element = self.definition(lump.read).dtype.size_bytes();
        let block =
            StoredBlock::new(body, element, count, &piece.checksums).map_err(CopyError::from);
        let copied = block.and_then(|block| self.copy(&block, &part.from, &part, lump));
        copied.map_err(|error| self.damaged(lump.read, piece, &error))
    }

    /// The same of a packed piece, which comes whole: what of it lies in the box that was
    /// asked for. What came is checked, and what comes out of it against the checksums that
    /// its writer made.
    fn scatter_packed(
        &mut self,
        piece: &GotPiece,
        body: &[u8],
        ask: &Ask,
        lump: &Lump,
    ) -> Result<u64, GetError> {
        let Some((start, count)) = self.box_of(piece, lump)? else {
            return Ok(0);
        };
        if start.len() != ask.start.len() || count.len() != ask.start.len() {
            return Err(self.failed(lump.read, unasked()));
        }
        let Some((first, within)) = intersect((start, count), (&ask.start, &ask.count)) else {
            return Err(self.failed(lump.read, unasked()));
        };
        let Some(part) = lump.wish().piece(0, &first, &within) else {
            // Between the steps of a strided read.
            return Ok(0);
        };
        if self.verify
            && let Err(mismatch) = verify_tiles(body, &piece.checksums)
        {
            return Err(self.damaged(lump.read, piece, &mismatch.into()));
        }
        let mut unpacking = match self.unpacking.take() {
            Some(unpacking) => unpacking,
            None => Unpacking::new().map_err(|fault| self.failed(lump.read, fault))?,
        };
        let definition = self.definition(lump.read);
        let bytes = definition.byte_size(count).unwrap_or(u64::MAX);
        let element = definition.dtype.size_bytes();
        let unpacked = unpacking.unpack(body, bytes, definition.dtype, self.copies);
        unpacked.map_err(|problem| {
            let what = "a compressed piece".into();
            self.failed(lump.read, Fault::Corrupt { what, problem })
        })?;
        let from: Vec<u64> = (0..first.len())
            .map(|at| first[at] - start[at] + part.from[at])
            .collect();
        let block = StoredBlock::new(&unpacking.cells, element, count, &unpacking.checksums)
            .map_err(CopyError::from);
        let copied = block.and_then(|block| self.copy(&block, &from, &part, lump));
        self.unpacking = Some(unpacking);
        copied.map_err(|error| self.damaged(lump.read, piece, &error))
    }

    /// The box of a piece, without the number of a local block; none where the lump is not
    /// to have that piece.
    fn box_of<'p>(&self, piece: &'p GotPiece, lump: &Lump) -> Result<Option<BoxRef<'p>>, GetError> {
        let is_other = |only| only != (piece.slot, piece.rank, piece.order);
        if lump.only.is_some_and(is_other) {
            return Ok(None);
        }
        let lead = usize::from(lump.number.is_some());
        match (piece.start.get(lead..), piece.count.get(lead..)) {
            (Some(start), Some(count)) => Ok(Some((start, count))),
            _ => Err(self.failed(lump.read, unasked())),
        }
    }

    /// Copies `part` of a lump from where it begins in a block into the user's array; how
    /// many cells.
    fn copy(
        &mut self,
        block: &StoredBlock<'_>,
        from: &[u64],
        part: &PlannedPiece,
        lump: &Lump,
    ) -> Result<u64, CopyError> {
        let places = part.into.iter().zip(&lump.into);
        let into: Vec<u64> = places.map(|(a, b)| a + b).collect();
        let read = &mut self.reads[lump.read];
        let mut into: StridedMut<'_> = read.into.sub_box(&into, &part.count)?;
        copy_box_verified(&mut into, block, from, &lump.step, self.verify, self.copies)?;
        Ok(cells(&part.count))
    }

    fn damaged(&self, read: usize, piece: &GotPiece, error: &CopyError) -> GetError {
        let rank = self.parts.holding.rank_of(piece.slot, piece.rank);
        let blocks = &self.entry(read).blocks;
        let block = blocks.iter().position(|known| {
            known.block.rank == rank && u64::from(known.block.order) == piece.order
        });
        GetError::Checksum {
            place: self.place(read),
            block: block
                .and_then(|block| u32::try_from(block).ok())
                .unwrap_or(u32::MAX),
            writer_rank: rank,
            problem: error.to_string(),
        }
    }
}

fn unasked() -> Fault {
    Fault::Corrupt {
        what: "what a server sent".into(),
        problem: "it was not asked for".into(),
    }
}

/// For each query of a batch, in order, the places of its asks.
fn ask_numbers(batch: &Batch, lumps: &[Lump], name: impl Fn(usize) -> String) -> Vec<Vec<usize>> {
    let mut numbers: Vec<(String, Vec<usize>)> = Vec::new();
    for (place, ask) in batch.asks.iter().enumerate() {
        let name = name(lumps[ask.lump].read);
        match numbers.last_mut().filter(|(last, _)| *last == name) {
            Some((_, places)) => places.push(place),
            None => numbers.push((name, vec![place])),
        }
    }
    numbers.into_iter().map(|(_, places)| places).collect()
}
