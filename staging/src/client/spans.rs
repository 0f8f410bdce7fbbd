//! Memory that a writer lends to be computed into, used again step after step.

use std::ptr::NonNull;

use panta_core::engine::SpanId;
use panta_transports::copy::StridedRef;

/// How lent memory is aligned.
const ALIGN_BYTES: usize = 64;
/// The most memory kept from step to step.
const IDLE_LIMIT_BYTES: usize = 1 << 30;

#[derive(Debug, Default)]
pub(super) struct Spans {
    lent: Vec<Memory>,
    idle: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Memory {
    bytes: Vec<u8>,
    at: usize,
    length: usize,
}

impl Spans {
    /// Zeroed memory that stays where it is until [`Self::end`].
    pub(super) fn lend(&mut self, length: usize) -> (SpanId, NonNull<u8>) {
        let needed = length + ALIGN_BYTES;
        let known = self.idle.iter().position(|idle| idle.len() == needed);
        let mut bytes = match known {
            Some(known) => {
                let mut bytes = self.idle.swap_remove(known);
                bytes.fill(0);
                bytes
            }
            None => vec![0; needed],
        };
        let at = bytes.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES);
        let first = NonNull::from(&mut bytes[at..]).cast();
        let id = SpanId(u32::try_from(self.lent.len()).unwrap_or(u32::MAX));
        self.lent.push(Memory { bytes, at, length });
        (id, first)
    }

    /// What was computed into a span.
    pub(super) fn view(
        &self,
        id: SpanId,
        element_bytes: usize,
        count: &[u64],
    ) -> Result<StridedRef<'_>, String> {
        let memory = self.lent.get(id.0 as usize).ok_or("no such span")?;
        let bytes = &memory.bytes[memory.at..memory.at + memory.length];
        StridedRef::contiguous(bytes, element_bytes, count).map_err(|error| error.to_string())
    }

    /// Takes all memory back.
    pub(super) fn end(&mut self) {
        let mut kept: usize = self.idle.iter().map(Vec::len).sum();
        for memory in self.lent.drain(..) {
            kept += memory.bytes.len();
            if kept <= IDLE_LIMIT_BYTES {
                self.idle.push(memory.bytes);
            }
        }
    }
}
