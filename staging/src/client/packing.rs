//! Pieces that are compressed: by the writer's rank, for the reader's to take apart. The servers
//! store them as they come, and give them out whole.
//!
//! ```text
//!   body of a piece    length of each frame, u32 | CRC32C of each tile, u32 | frame | frame | …
//! ```
//! The tiles are those of the piece's cells before they are packed: made with the pass that
//! packs them, and compared with what comes out, by the reader. What servers and channels
//! compare are the body's own.
//!
//! A piece is of at most [`PIECE_BYTES`] before it is packed, so that a box costs little
//! more than the cells it has; whoever takes it apart believes no larger one.

use panta_core::error::Fault;
use panta_core::frames::{FRAME_BYTES, Packer, Unpacker, frame_count, number_bytes};
use panta_core::model::{BlockPass, DType};
use panta_transports::copy::{CopyCounter, CopyError, StridedRef, TILE_BYTES, copy_bytes};

/// Bytes of a piece before it is packed.
pub(super) const PIECE_BYTES: u64 = 1 << 20;
/// Bytes of a frame's length, and of a checksum.
const WORD_BYTES: usize = 4;

/// Packs pieces, one after the other.
pub(super) struct Packing {
    packer: Packer,
    bytes: Vec<u8>,
    lengths: Vec<u32>,
    crcs: Vec<u32>,
}

impl Packing {
    pub(super) fn new(level: i32) -> Result<Self, Fault> {
        Ok(Self {
            packer: Packer::new(level)?,
            bytes: Vec::new(),
            lengths: Vec::new(),
            crcs: Vec::new(),
        })
    }

    /// The body of a piece; valid until the next.
    pub(super) fn pack(
        &mut self,
        source: &StridedRef<'_>,
        dtype: DType,
        pass: &mut BlockPass,
        copies: &CopyCounter,
    ) -> Result<&[u8], CopyError> {
        let front = words_before(source.bytes()) * WORD_BYTES;
        self.bytes.clear();
        self.bytes.resize(front, 0);
        self.lengths.clear();
        self.crcs.clear();
        let (bytes, lengths) = (&mut self.bytes, &mut self.lengths);
        // A frame is at most `FRAME_BYTES` long.
        let each = &mut |frame: &[u8]| {
            bytes.extend_from_slice(frame);
            lengths.push(frame.len() as u32);
        };
        let summed = (&mut self.crcs, pass);
        self.packer
            .pack_block(source, dtype, summed, copies, each)?;
        let words = self.lengths.iter().chain(&self.crcs);
        let words = words.flat_map(|word| word.to_le_bytes());
        for (to, byte) in self.bytes[..front].iter_mut().zip(words) {
            *to = byte;
        }
        Ok(&self.bytes)
    }
}

/// Lengths and checksums in front of the frames of a piece of so many bytes, which is in
/// memory or was compared with [`PIECE_BYTES`].
fn words_before(bytes: u64) -> usize {
    frame_count(bytes) as usize + bytes.div_ceil(TILE_BYTES as u64) as usize
}

/// Takes pieces apart, one after the other, and holds the last.
pub(super) struct Unpacking {
    unpacker: Unpacker,
    /// Its cells.
    pub(super) cells: Vec<u8>,
    /// Of each tile of them, as the writer made them; not compared yet.
    pub(super) checksums: Vec<u32>,
}

impl Unpacking {
    pub(super) fn new() -> Result<Self, Fault> {
        Ok(Self {
            unpacker: Unpacker::new()?,
            cells: Vec::new(),
            checksums: Vec::new(),
        })
    }

    /// Takes a piece apart that has `bytes` when it is not packed; says what is wrong with it.
    pub(super) fn unpack(
        &mut self,
        body: &[u8],
        bytes: u64,
        dtype: DType,
        copies: &CopyCounter,
    ) -> Result<(), String> {
        if bytes > PIECE_BYTES {
            return Err(format!("a packed piece of {bytes} bytes"));
        }
        let front = body.split_at_checked(words_before(bytes) * WORD_BYTES);
        let (words, mut rest) = front.ok_or("it is cut off")?;
        let words = words.as_chunks::<WORD_BYTES>().0.iter();
        let mut words = words.map(|word| u32::from_le_bytes(*word));
        let frames = frame_count(bytes) as usize;
        let lengths: Vec<u32> = words.by_ref().take(frames).collect();
        self.checksums.clear();
        self.checksums.extend(words);
        self.cells.resize(bytes as usize, 0);
        for (length, into) in lengths.into_iter().zip(self.cells.chunks_mut(FRAME_BYTES)) {
            let frame = rest.split_at_checked(length as usize);
            let (frame, after) = frame.ok_or("a frame is cut off")?;
            rest = after;
            let number_bytes = number_bytes(dtype);
            let cells = self.unpacker.cells_of(frame, into.len(), number_bytes)?;
            copy_bytes(into, cells, copies);
        }
        match rest.len() {
            0 => Ok(()),
            more => Err(format!("{more} bytes follow its frames")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use panta_transports::copy::verify_tiles;

    #[test]
    fn a_piece_comes_back_and_nothing_else_is_believed() {
        let values = (0..100_000).map(|at| f64::from(at) * 0.5);
        let cells: Vec<u8> = values.flat_map(f64::to_le_bytes).collect();
        let source = StridedRef::contiguous(&cells, 8, &[100_000]).unwrap();
        let definition = panta_core::model::Definition {
            name: "u".into(),
            dtype: DType::F64,
            kind: panta_core::model::ShapeKind::GlobalArray,
            shape: vec![100_000],
            dims: Vec::new(),
            unit: String::new(),
            coordinates: Vec::new(),
            fill: None,
            chunk: None,
            accuracy: None,
        };
        let (mut pass, copies) = (BlockPass::new(&definition), CopyCounter::new());
        let mut packing = Packing::new(1).unwrap();
        let body = packing.pack(&source, DType::F64, &mut pass, &copies);
        let body = body.unwrap().to_vec();
        assert!(body.len() < cells.len() / 2);
        assert!(pass.finish().is_some());
        let bytes = cells.len() as u64;
        let mut unpacking = Unpacking::new().unwrap();
        unpacking.unpack(&body, bytes, DType::F64, &copies).unwrap();
        assert!(unpacking.cells == cells);
        verify_tiles(&unpacking.cells, &unpacking.checksums).unwrap();
        // A frame that gives other bytes is one all the same: the checksums tell.
        let mut other = cells.clone();
        other[300_000] ^= 1;
        let source = StridedRef::contiguous(&other, 8, &[100_000]).unwrap();
        let mut pass = BlockPass::new(&definition);
        let forged = packing.pack(&source, DType::F64, &mut pass, &copies);
        let mut forged = forged.unwrap().to_vec();
        let sums = frame_count(bytes) as usize * WORD_BYTES..words_before(bytes) * WORD_BYTES;
        copy_bytes(&mut forged[sums.clone()], &body[sums], &copies);
        unpacking
            .unpack(&forged, bytes, DType::F64, &copies)
            .unwrap();
        assert!(verify_tiles(&unpacking.cells, &unpacking.checksums).is_err());

        let mut unpacked = |body: &[u8], bytes| unpacking.unpack(body, bytes, DType::F64, &copies);
        assert!(unpacked(&body, bytes - 8).is_err());
        assert!(unpacked(&body, PIECE_BYTES + 8).is_err());
        assert!(unpacked(&[], u64::MAX).is_err());
        for end in [0, 3, 16, 17, body.len() - 1] {
            assert!(unpacked(&body[..end], bytes).is_err(), "{end}");
        }
        assert!(unpacked(&[&body[..], &[0]].concat(), bytes).is_err());
    }
}
