//! The only place that copies payload, and it counts what it copies.
//!
//! Four things are done here:
//! - [`copy`]: one strided n-d box of bytes to another of the same counts;
//! - [`gather_tiles`]: a strided box into a contiguous block, with one CRC32C
//!   per tile ([`TILE_BYTES`]) computed while the tile is in cache, where it may
//!   also be changed ([`TileVisit`]); [`checksum_tiles`] and [`change_tiles`] do
//!   the same for bytes that already lie contiguous;
//! - [`copy_box_verified`]: a box out of a stored block, checking each tile
//!   that the box touches once, just before bytes are taken from it;
//! - [`tiles_of_box`]: which tiles a box touches, for whoever reads only those.
//!
//! ```text
//!   put   user's array, strided --gather_tiles--> block | crc crc crc crc
//!   get   block | crc crc crc crc --copy_box_verified--> user's array, strided
//! ```
//!
//! It promises: nothing outside the views is read or written, whatever
//! counts, strides and starts are passed to the checked functions; no heap is
//! used on the way of the bytes; every copy shows in a [`CopyCounter`].
//!
//! It does not know dtypes (an element is some number of bytes), nor byte
//! order, nor what a tile that fails its check belongs to: callers say so.
//! Dimensions are listed outermost first; contiguous means row-major, the
//! last dimension fastest. Sizes are in bytes, counts in elements.

mod loops;
mod stored;
mod streaming;
mod strided;
mod tiles;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use loops::{copy, copy_bytes, copy_bytes_uninit};
pub use stored::{StoredBlock, TileRanges, copy_box_verified, tiles_of_box};
pub use strided::{LayoutError, StridedMut, StridedRef};
pub use tiles::{
    TileGather, TileMismatch, TileVisit, change_tiles, checksum, checksum_tiles, gather_tiles,
    tile_count, verify_tiles,
};

/// The unit of checksums: so many bytes of a block in storage order.
pub const TILE_BYTES: usize = 4096;

/// The most dimensions a view has.
pub const MAX_DIMS: usize = 16;

/// Counts copies of payload. Clones share the count.
///
/// A call that moved no byte does not count.
#[derive(Clone, Debug, Default)]
pub struct CopyCounter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    calls: AtomicU64,
}

impl CopyCounter {
    /// A count of its own, at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes copied so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Calls so far that copied at least one byte.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        if bytes > 0 {
            self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.0.calls.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Why nothing, or not everything, was copied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// Source and destination differ in their counts.
    #[error("source has counts {from:?}, destination {to:?}: pass views of equal counts")]
    CountsDiffer {
        /// Counts of the source.
        from: Vec<u64>,
        /// Counts of the destination.
        to: Vec<u64>,
    },
    /// Source and destination differ in the size of an element.
    #[error("source elements have {from} bytes, destination elements {to}: copies convert nothing")]
    ElementsDiffer {
        /// Bytes of an element of the source.
        from: usize,
        /// Bytes of an element of the destination.
        to: usize,
    },
    /// A view or a box is impossible.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A touched tile is not what was stored; the destination holds some of
    /// the bytes of the tiles before it.
    #[error(transparent)]
    Tile(#[from] TileMismatch),
}

#[cfg(test)]
mod tests;
