//! Local buffers of reads, where the provider wants them registered.
//!
//! Large pieces are registered for the one read that goes there, small ones go
//! through a buffer of ours, which is registered once and costs a copy. There is
//! no cache of registrations beyond a call: memory of the caller may be unmapped
//! and mapped anew between two calls, and a stale registration would send bytes
//! to the old pages. (Providers that cache have libfabric watch for that.)

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::FabricError;
use super::endpoint::{Endpoint, Memory};
use crate::copy::{CopyCounter, copy_bytes};

/// From so many bytes on registering costs less than a copy.
const REGISTER_FROM_BYTES: usize = 256 << 10;

/// Bytes of a slot of the buffer of ours, and how many slots there are.
const SLOT_BYTES: usize = 64 << 10;
const SLOTS: usize = 16;

/// Where a read goes.
pub(super) enum Local {
    /// Straight to the caller's memory, as it is.
    Straight,
    /// Straight to the caller's memory, registered for this read.
    Registered(Memory),
    /// To a slot, then copied.
    Slot(usize),
}

/// The buffer of ours.
pub(super) struct Slots {
    bytes: Vec<u8>,
    memory: Memory,
    free: Vec<usize>,
}

impl Slots {
    pub(super) fn open(endpoint: &mut Endpoint) -> Result<Self, FabricError> {
        let mut bytes = vec![0; SLOT_BYTES * SLOTS];
        let start = NonNull::from(&mut bytes[0]);
        // SAFETY: the vector is never resized, and `FabricRemote` drops the
        // endpoint before it.
        let memory = unsafe { endpoint.add_memory(start, bytes.len(), None) };
        Ok(Self {
            bytes,
            memory: memory.map_err(|(_, error)| error)?,
            free: (0..SLOTS).collect(),
        })
    }

    /// Finds a place for a read of up to `bytes` to `into`: what it is, and
    /// how many bytes fit. `None`: no slot is free now.
    ///
    /// # Safety
    /// As [`Endpoint::read`].
    pub(super) unsafe fn place(
        &mut self,
        endpoint: &mut Endpoint,
        into: NonNull<MaybeUninit<u8>>,
        bytes: usize,
    ) -> Option<(Local, usize)> {
        if bytes >= REGISTER_FROM_BYTES {
            // SAFETY: the caller vouches for it.
            match unsafe { endpoint.add_memory(into.cast(), bytes, None) } {
                Ok(memory) => return Some((Local::Registered(memory), bytes)),
                Err((_, error)) => tracing::debug!(%error, "fabric: through a buffer instead"),
            }
        }
        let slot = self.free.pop()?;
        Some((Local::Slot(slot), bytes.min(SLOT_BYTES)))
    }

    /// The address to read to, and its registration.
    pub(super) fn target(&mut self, slot: usize) -> (*mut u8, Memory) {
        (self.bytes[slot * SLOT_BYTES..].as_mut_ptr(), self.memory)
    }

    /// Copies what a read brought to a slot to where it belongs.
    ///
    /// # Safety
    /// `into` must be writable for `bytes`.
    pub(super) unsafe fn deliver(
        &self,
        slot: usize,
        into: NonNull<MaybeUninit<u8>>,
        bytes: usize,
        copies: &CopyCounter,
    ) {
        let from = &self.bytes[slot * SLOT_BYTES..][..bytes];
        // SAFETY: the caller vouches for it; bytes that were not written yet are
        // only ever written through this.
        let into = unsafe { std::slice::from_raw_parts_mut(into.as_ptr().cast::<u8>(), bytes) };
        copy_bytes(into, from, copies);
    }

    pub(super) fn release(&mut self, slot: usize) {
        self.free.push(slot);
    }
}
