//! Memory lent for blocks to be computed into: zeroed, page-aligned, reused, bounded.

use std::ptr::NonNull;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::engine::{PutBlock, Source, SpanId, SpanMemory};
use crate::model::BlockPass;

/// One page, so that memory made of them is aligned for any transfer.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(4096))]
pub(crate) struct Page([u8; 4096]);

/// Page-aligned memory.
pub(crate) fn pages(bytes: usize) -> Vec<Page> {
    vec![Page::zeroed(); bytes.div_ceil(size_of::<Page>())]
}

/// The spans of one step, and memory of earlier ones that is used again.
#[derive(Default)]
pub(crate) struct Spans {
    lent: Vec<Lent>,
    /// Not lent again as long as somebody still looks at it.
    free: Vec<Arc<Vec<Page>>>,
}

struct Lent {
    pages: Arc<Vec<Page>>,
    bytes: usize,
    /// Whether its numbers were rounded where they are.
    rounded: bool,
}

impl std::fmt::Debug for Spans {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Spans")
            .field("lent", &self.lent.len())
            .field("free", &self.free.len())
            .finish()
    }
}

impl Spans {
    /// Bytes lent and kept together.
    fn held_bytes(&self) -> u64 {
        let lent = self.lent.iter().map(|lent| &lent.pages);
        let pages: usize = lent.chain(&self.free).map(|pages| pages.len()).sum();
        (pages * size_of::<Page>()) as u64
    }

    /// Lends zeroed memory; `None` if the step's spans would hold more than `limit_bytes`,
    /// with how many they would hold.
    pub(crate) fn lend(
        &mut self,
        bytes: usize,
        limit_bytes: u64,
    ) -> Result<(SpanId, NonNull<u8>), u64> {
        let lent: u64 = self.lent.iter().map(|lent| lent.bytes as u64).sum();
        let wanted = lent.saturating_add(bytes as u64);
        if wanted > limit_bytes {
            return Err(wanted);
        }
        let count = bytes.div_ceil(size_of::<Page>());
        let fits = |pages: &mut Arc<Vec<Page>>| {
            let unseen = Arc::get_mut(pages).is_some();
            unseen && pages.len() >= count && pages.len() <= count * 2
        };
        let known = self.free.iter_mut().position(fits);
        let known = known.and_then(|at| Arc::into_inner(self.free.swap_remove(at)));
        let mut memory = match known {
            Some(mut memory) => {
                bytemuck::cast_slice_mut::<Page, u8>(&mut memory[..count]).fill(0);
                memory
            }
            None => {
                while !self.free.is_empty() && self.held_bytes() + bytes as u64 > limit_bytes {
                    self.free.pop();
                }
                pages(bytes)
            }
        };
        let first = NonNull::new(memory.as_mut_ptr().cast()).unwrap_or(NonNull::dangling());
        let id = SpanId(u32::try_from(self.lent.len()).unwrap_or(u32::MAX));
        // The pages stay where they are when the vector that owns them moves.
        self.lent.push(Lent {
            pages: Arc::new(memory),
            bytes,
            rounded: false,
        });
        Ok((id, first))
    }

    /// The bytes of a span; `None` if there is no such span.
    pub(crate) fn bytes(&self, span: SpanId) -> Option<&[u8]> {
        let lent = self.lent.get(span.0 as usize)?;
        bytemuck::cast_slice(lent.pages.as_slice()).get(..lent.bytes)
    }

    /// Rounds the spans among `puts` whose variables have an accuracy, where they are. Those
    /// that somebody else looks at are left to be rounded on their way, which is a copy.
    pub(crate) fn round(&mut self, puts: &[PutBlock<'_>]) {
        for put in puts {
            let (Source::Span(span), Some(rounding)) = (&put.source, put.definition.rounding())
            else {
                continue;
            };
            let Some(lent) = self.lent.get_mut(span.0 as usize) else {
                continue;
            };
            let Some(pages) = Arc::get_mut(&mut lent.pages) else {
                continue;
            };
            rounding.apply(&mut bytemuck::cast_slice_mut(pages)[..lent.bytes]);
            lent.rounded = true;
        }
    }

    /// The pass over a put of this step.
    pub(crate) fn pass(&self, put: &PutBlock<'_>) -> BlockPass {
        match &put.source {
            Source::Span(span) if self.is_rounded(*span) => BlockPass::of_rounded(put.definition),
            _ => BlockPass::new(put.definition),
        }
    }

    fn is_rounded(&self, span: SpanId) -> bool {
        let lent = self.lent.get(span.0 as usize);
        lent.is_some_and(|lent| lent.rounded)
    }

    /// What keeps a span in place; `None` if there is no such span.
    pub(crate) fn memory(&self, span: SpanId) -> Option<SpanMemory> {
        let lent = self.lent.get(span.0 as usize)?;
        Some(Arc::clone(&lent.pages) as SpanMemory)
    }

    /// Takes all spans back.
    pub(crate) fn finish(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        self.free.extend(lent.into_iter().map(|lent| lent.pages));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_somebody_still_looks_at_is_not_lent_again() {
        let mut spans = Spans::default();
        let (id, first) = spans.lend(5000, 1 << 20).unwrap();
        let kept = spans.memory(id).unwrap();
        spans.finish();
        let (_, second) = spans.lend(5000, 1 << 20).unwrap();
        assert_ne!(first, second);
        drop((spans, kept));
    }

    #[test]
    fn spans_are_zeroed_also_when_reused_and_bounded() {
        let mut spans = Spans::default();
        let (id, memory) = spans.lend(5000, 8192).unwrap();
        assert_eq!(memory.as_ptr().align_offset(64), 0);
        // SAFETY: the span has 5000 bytes, and nobody else uses them.
        unsafe { memory.as_ptr().write_bytes(7, 5000) };
        assert_eq!(spans.bytes(id).unwrap(), [7; 5000]);
        assert_eq!(spans.lend(4000, 8192).unwrap_err(), 9000);
        spans.finish();
        assert_eq!(spans.bytes(id), None);
        let (again, same) = spans.lend(6000, 8192).unwrap();
        assert_eq!(same, memory);
        assert_eq!(spans.bytes(again).unwrap(), [0; 6000]);
    }
}
