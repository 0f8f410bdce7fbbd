//! Memory that a writer lends to be computed into, used again step after step.

use std::ptr::NonNull;
use std::sync::Arc;

use panta_core::engine::{PutBlock, Source, SpanId, SpanMemory};
use panta_core::model::BlockPass;
use panta_transports::copy::StridedRef;

/// How lent memory is aligned.
const ALIGN_BYTES: usize = 64;
/// The most memory kept from step to step.
const IDLE_LIMIT_BYTES: usize = 1 << 30;

#[derive(Debug, Default)]
pub(super) struct Spans {
    lent: Vec<Memory>,
    idle: Vec<Arc<Vec<u8>>>,
}

#[derive(Debug)]
struct Memory {
    bytes: Arc<Vec<u8>>,
    at: usize,
    length: usize,
    /// Whether its numbers were rounded where they are.
    rounded: bool,
}

impl Spans {
    /// Zeroed memory that stays where it is until [`Self::end`].
    pub(super) fn lend(&mut self, length: usize) -> (SpanId, NonNull<u8>) {
        let needed = length + ALIGN_BYTES;
        let fits = |idle: &mut Arc<Vec<u8>>| {
            let unseen = Arc::get_mut(idle).is_some();
            unseen && idle.len() == needed
        };
        let known = self.idle.iter_mut().position(fits);
        let known = known.and_then(|at| Arc::into_inner(self.idle.swap_remove(at)));
        let mut bytes = match known {
            Some(mut bytes) => {
                bytes.fill(0);
                bytes
            }
            None => vec![0; needed],
        };
        let at = bytes.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES);
        let first = NonNull::from(&mut bytes[at..]).cast();
        let id = SpanId(u32::try_from(self.lent.len()).unwrap_or(u32::MAX));
        let bytes = Arc::new(bytes);
        self.lent.push(Memory {
            bytes,
            at,
            length,
            rounded: false,
        });
        (id, first)
    }

    /// Rounds the spans among `puts` whose variables have an accuracy, where they are. Those
    /// that somebody else looks at are left to be rounded on their way, which is a copy.
    pub(super) fn round(&mut self, puts: &[PutBlock<'_>]) {
        for put in puts {
            let (Source::Span(span), Some(rounding)) = (&put.source, put.definition.rounding())
            else {
                continue;
            };
            let Some(memory) = self.lent.get_mut(span.0 as usize) else {
                continue;
            };
            let Some(bytes) = Arc::get_mut(&mut memory.bytes) else {
                continue;
            };
            rounding.apply(&mut bytes[memory.at..memory.at + memory.length]);
            memory.rounded = true;
        }
    }

    /// The pass over a put of this step.
    pub(super) fn pass(&self, put: &PutBlock<'_>) -> BlockPass {
        let rounded = |span: SpanId| {
            let memory = self.lent.get(span.0 as usize);
            memory.is_some_and(|memory| memory.rounded)
        };
        match &put.source {
            Source::Span(span) if rounded(*span) => BlockPass::of_rounded(put.definition),
            _ => BlockPass::new(put.definition),
        }
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

    /// What keeps a span in place; `None` if there is no such span.
    pub(super) fn memory(&self, id: SpanId) -> Option<SpanMemory> {
        let memory = self.lent.get(id.0 as usize)?;
        Some(Arc::clone(&memory.bytes) as SpanMemory)
    }

    /// Takes all memory back; what somebody still looks at is not lent again.
    pub(super) fn end(&mut self) {
        let mut kept: usize = self.idle.iter().map(|idle| idle.len()).sum();
        for memory in self.lent.drain(..) {
            kept += memory.bytes.len();
            if kept <= IDLE_LIMIT_BYTES {
                self.idle.push(memory.bytes);
            }
        }
    }
}
