//! Copies that pass the cache: a destination much larger than a cache would
//! only push out what is there, and be read into it first to no use. And what
//! is brought into it ahead of time.

/// From so many bytes in one call on, the destination is written past the
/// cache. A smaller one is left in cache, for whoever reads it next. Tests
/// come by both ways with little.
pub(super) const STREAMING_MIN_BYTES: u64 = if cfg!(test) { 30_000 } else { 8 << 20 };

/// Shorter runs have too many ends that are no whole cache line.
pub(super) const STREAMING_MIN_RUN_BYTES: usize = 512;

/// Whether the writes of a call go past the cache. While such a call runs it
/// holds one of these; dropping it puts the writes before all later ones, as
/// every other write is without asking.
pub(super) struct Streaming(bool);

impl Streaming {
    pub(super) fn new(bytes: u64, run_bytes: usize) -> Self {
        let large = bytes >= STREAMING_MIN_BYTES && run_bytes >= STREAMING_MIN_RUN_BYTES;
        Self(large && cfg!(all(target_arch = "x86_64", not(miri))))
    }

    pub(super) fn is_on(&self) -> bool {
        self.0
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if self.0 {
            // SAFETY: SSE belongs to every x86-64.
            unsafe {
                std::arch::x86_64::_mm_sfence();
            }
        }
    }
}

/// `memcpy` past the cache, where the processor can.
///
/// # Safety
/// `bytes` must be readable at `src`, writable at `dst`, and apart. The caller
/// holds a [`Streaming`] until it is done.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) unsafe fn copy_past_cache(dst: *mut u8, src: *const u8, bytes: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    use std::ptr::copy_nonoverlapping;

    const LINE_BYTES: usize = 64;
    let before = dst.align_offset(LINE_BYTES).min(bytes);
    let lines = (bytes - before) / LINE_BYTES;
    let after = before + lines * LINE_BYTES;
    // SAFETY: the three parts make up `bytes`; a line of `dst` is aligned to
    // 64, as the streaming store needs 16; loads need no alignment.
    unsafe {
        copy_nonoverlapping(src, dst, before);
        let mut from = src.add(before).cast::<__m128i>();
        let mut to = dst.add(before).cast::<__m128i>();
        for _ in 0..lines {
            let line = [
                _mm_loadu_si128(from),
                _mm_loadu_si128(from.add(1)),
                _mm_loadu_si128(from.add(2)),
                _mm_loadu_si128(from.add(3)),
            ];
            for (part, value) in line.into_iter().enumerate() {
                _mm_stream_si128(to.add(part), value);
            }
            from = from.add(4);
            to = to.add(4);
        }
        copy_nonoverlapping(src.add(after), dst.add(after), bytes - after);
    }
}

/// `memcpy`, on processors whose way past the cache is not known here.
///
/// # Safety
/// `bytes` must be readable at `src`, writable at `dst`, and apart.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(super) unsafe fn copy_past_cache(dst: *mut u8, src: *const u8, bytes: usize) {
    // SAFETY: as the caller promised.
    unsafe { std::ptr::copy_nonoverlapping(src, dst, bytes) };
}

/// Begins to bring these bytes into the cache, while what is there is worked
/// on: at each page the processor's own way of doing so would begin anew.
/// Reads nothing, so that `first` may be anywhere.
#[inline]
pub(super) fn fetch_ahead(first: *const u8, bytes: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which does nothing where there is no memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (first, bytes);
}
