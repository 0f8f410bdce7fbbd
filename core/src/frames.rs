//! Frames: the parts of a block that are compressed by themselves.
//!
//! ```text
//! 256 KiB of a block ── bytes of equal weight put together ── zstd ──> a frame
//!                                            no smaller for it ──> as it was
//! ```
//! A box costs the frames that it touches, and both sides work in bounded memory.
//! Checksums are those of the block's own bytes, and travel with its frames over every
//! engine: what comes out of a frame is checked, whatever was in it. A frame that does not
//! give exactly its bytes is an error.
//!
//! It does not choose: who asks for compression gets it, in the caller's thread.

use panta_transports::copy::{
    CopyCounter, CopyError, StridedRef, TILE_BYTES, TileGather, TileVisit, checksum_tiles,
};
use zstd::bulk::{Compressor, Decompressor};

use crate::error::Fault;
use crate::model::{BlockPass, DType};

/// Bytes of a block in one frame; the last has what is left.
pub const FRAME_BYTES: usize = 64 * TILE_BYTES;

/// How many frames so many bytes take.
#[must_use]
pub fn frame_count(bytes: u64) -> u64 {
    bytes.div_ceil(FRAME_BYTES as u64)
}

/// Bytes of a number: of an element, or of each half of a complex one.
#[must_use]
pub fn number_bytes(dtype: DType) -> usize {
    match dtype {
        DType::C64 | DType::C128 => dtype.size_bytes() / 2,
        _ => dtype.size_bytes(),
    }
}

/// Makes frames, one after the other.
pub struct Packer {
    compressor: Compressor<'static>,
    /// What is gathered for a frame, where it does not lie contiguous.
    pub(crate) cells: Vec<u8>,
    planes: Vec<u8>,
    packed: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Packer")
    }
}

impl Packer {
    /// One that packs at this level of zstd.
    ///
    /// # Errors
    /// [`Fault`] where there is no memory for it.
    pub fn new(level: i32) -> Result<Self, Fault> {
        let compressor = Compressor::new(level).map_err(|error| Fault::io("zstd", &error))?;
        Ok(Self {
            compressor,
            cells: vec![0; FRAME_BYTES],
            planes: Vec::new(),
            packed: vec![0; FRAME_BYTES],
        })
    }

    /// Packs a block, frame after frame, in the pass that checksums its own bytes and looks at
    /// them; rounds them if they are to be.
    ///
    /// # Errors
    /// [`CopyError`] where a row-major block of as many elements cannot be.
    pub fn pack_block(
        &mut self,
        source: &StridedRef<'_>,
        dtype: DType,
        (crcs, pass): (&mut Vec<u32>, &mut BlockPass),
        copies: &CopyCounter,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), CopyError> {
        let number_bytes = number_bytes(dtype);
        if let Some(bytes) = source.as_slice().filter(|_| !pass.changes()) {
            for cells in bytes.chunks(FRAME_BYTES) {
                checksum_tiles(cells, crcs, &mut |tile| pass.look(tile));
                each(self.pack(cells, number_bytes).unwrap_or(cells));
            }
            return Ok(());
        }
        let mut gather = TileGather::new(source)?;
        while gather.left() > 0 {
            let count = gather.fill(&mut self.cells, crcs, pass, copies);
            each(self.pack_own(count, number_bytes));
        }
        Ok(())
    }

    /// The frame of `cells`, which are numbers of so many bytes; `None` if it would be no
    /// smaller than they are.
    pub(crate) fn pack(&mut self, cells: &[u8], number_bytes: usize) -> Option<&[u8]> {
        let planes = if number_bytes > 1 {
            self.planes.resize(cells.len(), 0);
            to_planes(cells, &mut self.planes, number_bytes);
            &self.planes[..]
        } else {
            cells
        };
        let room = cells.len().saturating_sub(1);
        // What does not fit is an error, and no smaller.
        let packed = self
            .compressor
            .compress_to_buffer(planes, &mut self.packed[..room]);
        Some(&self.packed[..packed.ok()?])
    }

    /// The same of the first `count` bytes of `self.cells`.
    pub(crate) fn pack_own(&mut self, count: usize, number_bytes: usize) -> &[u8] {
        let cells = std::mem::take(&mut self.cells);
        let packed = self.pack(&cells[..count], number_bytes).map(<[u8]>::len);
        self.cells = cells;
        match packed {
            Some(length) => &self.packed[..length],
            None => &self.cells[..count],
        }
    }
}

/// Takes frames apart, and keeps the last.
pub struct Unpacker {
    decompressor: Decompressor<'static>,
    /// Which frame `cells` holds.
    pub(crate) holds: Option<usize>,
    /// A frame as it is stored.
    pub(crate) packed: Vec<u8>,
    planes: Vec<u8>,
    /// Its bytes of the block.
    pub(crate) cells: Vec<u8>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Unpacker({:?})", self.holds)
    }
}

impl Unpacker {
    /// One that has taken nothing apart.
    ///
    /// # Errors
    /// [`Fault`] where there is no memory for it.
    pub fn new() -> Result<Self, Fault> {
        Ok(Self {
            decompressor: Decompressor::new().map_err(|error| Fault::io("zstd", &error))?,
            holds: None,
            packed: Vec::new(),
            planes: Vec::new(),
            cells: Vec::new(),
        })
    }

    /// The `count` bytes of a frame, numbers of `number_bytes` each.
    ///
    /// # Errors
    /// What is wrong with the frame.
    pub fn cells_of(
        &mut self,
        packed: &[u8],
        count: usize,
        number_bytes: usize,
    ) -> Result<&[u8], String> {
        self.packed.clear();
        self.packed.extend_from_slice(packed);
        self.unpack(0, count, number_bytes)?;
        Ok(&self.cells)
    }

    /// Makes `cells` of `packed`: `count` bytes, numbers of `number_bytes` each. An error
    /// says what is wrong with the frame.
    pub(crate) fn unpack(
        &mut self,
        frame: usize,
        count: usize,
        number_bytes: usize,
    ) -> Result<(), String> {
        self.holds = None;
        if self.packed.len() == count {
            std::mem::swap(&mut self.packed, &mut self.cells);
        } else {
            let has_planes = number_bytes > 1;
            let into = match has_planes {
                true => &mut self.planes,
                false => &mut self.cells,
            };
            into.resize(count, 0);
            let given = self
                .decompressor
                .decompress_to_buffer(&self.packed, &mut into[..]);
            let given = given.map_err(|error| format!("the frame is no zstd frame: {error}"))?;
            if given != count {
                return Err(format!(
                    "the frame gives {given} bytes, its block has {count}"
                ));
            }
            if has_planes {
                self.cells.resize(count, 0);
                from_planes(&self.planes, &mut self.cells, number_bytes);
            }
        }
        self.holds = Some(frame);
        Ok(())
    }
}

/// The first bytes of all numbers, then their second ones, and so on: bytes of equal
/// weight are alike in neighbours.
fn to_planes(cells: &[u8], planes: &mut [u8], number_bytes: usize) {
    let numbers = cells.len() / number_bytes;
    for (byte, plane) in planes.chunks_exact_mut(numbers.max(1)).enumerate() {
        for (to, number) in plane.iter_mut().zip(cells.chunks_exact(number_bytes)) {
            *to = number[byte];
        }
    }
}

fn from_planes(planes: &[u8], cells: &mut [u8], number_bytes: usize) {
    let numbers = cells.len() / number_bytes;
    for (byte, plane) in planes.chunks_exact(numbers.max(1)).enumerate() {
        for (from, number) in plane.iter().zip(cells.chunks_exact_mut(number_bytes)) {
            number[byte] = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by it")]

    use super::*;

    /// Bytes without any order.
    fn noise(count: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let next = |_| {
            state = state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..count).map(next).collect()
    }

    fn comes_back(cells: &[u8], number_bytes: usize) -> usize {
        let mut packer = Packer::new(1).unwrap();
        let packed = packer.pack(cells, number_bytes).unwrap_or(cells).to_vec();
        let mut unpacker = Unpacker::new().unwrap();
        unpacker.packed.clone_from(&packed);
        unpacker.unpack(3, cells.len(), number_bytes).unwrap();
        assert_eq!(unpacker.cells, cells);
        assert_eq!(unpacker.holds, Some(3));
        packed.len()
    }

    #[test]
    fn a_frame_gives_the_bytes_it_was_made_of() {
        for number_bytes in [1, 2, 4, 8] {
            for numbers in [1, 2, 3, 100, FRAME_BYTES / number_bytes] {
                let bytes = numbers * number_bytes;
                assert!(comes_back(&noise(bytes), number_bytes) <= bytes);
                comes_back(&vec![0; bytes], number_bytes);
            }
        }
    }

    #[test]
    fn smooth_numbers_are_smaller_for_lying_in_planes() {
        let smooth = (0..FRAME_BYTES / 8).map(|at| (at as f64 * 1e-4).sin());
        let cells: Vec<u8> = smooth.flat_map(f64::to_le_bytes).collect();
        let (together, apart) = (comes_back(&cells, 8), comes_back(&cells, 1));
        assert!(
            together < apart && together < FRAME_BYTES,
            "{together} {apart}"
        );
    }

    #[test]
    fn a_frame_that_is_none_is_an_error_and_never_more_bytes_than_its_block_has() {
        let mut packer = Packer::new(1).unwrap();
        let packed = packer.pack(&[0; 5000], 4).unwrap().to_vec();
        let mut unpacker = Unpacker::new().unwrap();
        for (bytes, count) in [
            (&packed[..], 4996),
            (&packed[..], 5004),
            (&packed[..packed.len() - 1], 5000),
            (&[][..], 5000),
            (&[1, 2, 3, 4][..], 5000),
        ] {
            unpacker.packed = bytes.to_vec();
            assert!(unpacker.unpack(0, count, 4).is_err(), "{count}");
            assert_eq!(unpacker.holds, None);
        }
    }
}
