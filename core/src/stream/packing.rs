//! Blocks made into frames before they go into a slot.
//!
//! ```text
//!   put, span ── gather, round, checksum, smallest and largest ──> 256 KiB ── pack ──> a frame
//!   a step's frames and checksums, one behind the other ──> slot, which is as large as they are
//! ```
//! How large a slot must be is known only when everything is packed: that is kept here
//! until it is copied, in memory of at most the size of the step.

use panta_transports::copy::{CopyCounter, StridedRef};

use super::slot::aligned;
use crate::error::Fault;
use crate::frames::Packer;
use crate::model::{BlockPass, DType};

/// See the module.
pub(super) struct Packing {
    packer: Packer,
    /// Frames and checksums of the step's blocks so far, as a slot has them.
    bytes: Vec<u8>,
    frames: Vec<u32>,
    crcs: Vec<u32>,
}

impl Packing {
    pub(super) fn new(level: i32) -> Result<Self, Fault> {
        Ok(Self {
            packer: Packer::new(level)?,
            bytes: Vec::new(),
            frames: Vec::new(),
            crcs: Vec::new(),
        })
    }

    /// Begins a step anew.
    pub(super) fn begin(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }

    /// What a slot of the blocks so far holds behind its header.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of each frame so far.
    pub(super) fn frames(&self) -> &[u32] {
        &self.frames
    }

    /// Packs one block. An error says why it cannot be read.
    pub(super) fn add(
        &mut self,
        source: &StridedRef<'_>,
        dtype: DType,
        pass: &mut BlockPass,
        copies: &CopyCounter,
    ) -> Result<(), String> {
        self.crcs.clear();
        let (bytes, frames) = (&mut self.bytes, &mut self.frames);
        let crcs = &mut self.crcs;
        // A frame is at most `FRAME_BYTES` long.
        let each = &mut |frame: &[u8]| {
            bytes.extend_from_slice(frame);
            frames.push(frame.len() as u32);
        };
        let packed = self
            .packer
            .pack_block(source, dtype, (crcs, pass), copies, each);
        packed.map_err(|error| error.to_string())?;
        self.align();
        self.bytes
            .extend_from_slice(bytemuck::cast_slice(&self.crcs));
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        let length = aligned(self.bytes.len() as u64);
        self.bytes
            .resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
    }
}
