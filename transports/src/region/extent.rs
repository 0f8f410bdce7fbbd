//! Bytes of a region that somebody has.

use std::ptr::NonNull;
use std::sync::Arc;

use super::memory::Region;
use super::{Shared, Taken};

/// Bytes of a region, 64-byte aligned, of which nobody else of this arena has
/// any. Goes back to its region when dropped; what was in them before is still
/// there.
#[derive(Debug)]
pub struct Extent {
    pub(super) arena: Arc<Shared>,
    pub(super) region: Arc<Region>,
    pub(super) taken: Taken,
    pub(super) offset: u64,
    pub(super) bytes: usize,
    pub(super) start: NonNull<u8>,
}

// SAFETY: the bytes are this extent's alone in this process, and its region
// stays mapped while it lives.
unsafe impl Send for Extent {}
// SAFETY: as above; by a shared reference they are only read.
unsafe impl Sync for Extent {}

impl Extent {
    /// The number of its region.
    #[must_use]
    pub fn region(&self) -> u32 {
        self.region.id()
    }

    /// Where in the region it begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes it has: as many as were asked for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it begins in this process.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    /// Its region.
    #[must_use]
    pub fn region_arc(&self) -> &Arc<Region> {
        &self.region
    }

    /// Its bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the bytes are initialized by the system and this extent's
        // alone, so that they are written only by `as_mut_slice` or by who has
        // a pointer and keeps to the same rules.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// Its bytes, to be written. Other processes may see them as they are
    /// being written.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        self.arena.free(self.taken, self.bytes as u64);
    }
}
