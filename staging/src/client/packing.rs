//! Pieces that are compressed: by the writer's rank, for the reader's to take apart. The servers
//! store them as they come, and give them out whole.
//!
//! ```text
//!   body of a piece    length of each frame, u32 | frame | frame | …
//! ```
//! A piece is of at most [`PIECE_BYTES`] before it is packed, so that a box costs little
//! more than the cells it has; whoever takes it apart believes no larger one.

use panta_core::error::Fault;
use panta_core::frames::{FRAME_BYTES, Packer, Unpacker, frame_count, number_bytes};
use panta_core::model::{BlockPass, DType};
use panta_transports::copy::{CopyCounter, CopyError, StridedRef, copy_bytes};

/// Bytes of a piece before it is packed.
pub(super) const PIECE_BYTES: u64 = 1 << 20;
const LENGTH_BYTES: usize = 4;

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
        let frames = usize::try_from(frame_count(source.bytes())).unwrap_or(usize::MAX);
        let front = frames * LENGTH_BYTES;
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
        let lengths = self.lengths.iter().flat_map(|length| length.to_le_bytes());
        for (to, byte) in self.bytes[..front].iter_mut().zip(lengths) {
            *to = byte;
        }
        Ok(&self.bytes)
    }
}

/// Takes a piece apart that has `bytes` when it is not packed; says what is wrong with it.
pub(super) fn unpack(
    body: &[u8],
    bytes: u64,
    dtype: DType,
    copies: &CopyCounter,
) -> Result<Vec<u8>, String> {
    if bytes > PIECE_BYTES {
        return Err(format!("a packed piece of {bytes} bytes"));
    }
    let frames = frame_count(bytes) as usize;
    let front = body.split_at_checked(frames * LENGTH_BYTES);
    let (lengths, mut rest) = front.ok_or("it is cut off")?;
    let mut unpacker = Unpacker::new().map_err(|fault| fault.to_string())?;
    let mut unpacked = vec![0; bytes as usize];
    for (length, into) in lengths
        .as_chunks::<LENGTH_BYTES>()
        .0
        .iter()
        .zip(unpacked.chunks_mut(FRAME_BYTES))
    {
        let length = u32::from_le_bytes(*length) as usize;
        let (frame, after) = rest.split_at_checked(length).ok_or("a frame is cut off")?;
        rest = after;
        let cells = unpacker.cells_of(frame, into.len(), number_bytes(dtype))?;
        copy_bytes(into, cells, copies);
    }
    match rest.len() {
        0 => Ok(unpacked),
        more => Err(format!("{more} bytes follow its frames")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
        let unpacked = |body: &[u8], bytes| unpack(body, bytes, DType::F64, &copies);
        assert!(unpacked(&body, bytes).unwrap() == cells);
        assert!(unpacked(&body, bytes - 8).is_err());
        assert!(unpacked(&body, PIECE_BYTES + 8).is_err());
        assert!(unpacked(&[], u64::MAX).is_err());
        for end in [0, 3, 16, 17, body.len() - 1] {
            assert!(unpacked(&body[..end], bytes).is_err(), "{end}");
        }
        assert!(unpacked(&[&body[..], &[0]].concat(), bytes).is_err());
    }
}
