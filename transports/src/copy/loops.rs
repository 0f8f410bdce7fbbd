//! Box to box: dimensions are merged, ordered and looped over; the innermost
//! runs are moved by `memcpy`, or by typed loops where they are one element.

use std::mem::MaybeUninit;
use std::ptr;

use super::streaming::{Streaming, copy_past_cache};
use super::strided::Layout;
use super::{CopyCounter, CopyError, MAX_DIMS, StridedMut, StridedRef};

/// Copies all elements of `src` to the elements of `dst` of the same indices.
///
/// # Errors
/// [`CopyError`] where counts or element sizes differ; nothing is copied.
pub fn copy(
    dst: &mut StridedMut<'_>,
    src: &StridedRef<'_>,
    counter: &CopyCounter,
) -> Result<(), CopyError> {
    check_alike(&dst.layout, &src.layout)?;
    if src.bytes() == 0 {
        return Ok(());
    }
    let mut plan = Plan::new(&dst.layout, &src.layout);
    let (dst_flip, src_flip) = plan.make_dst_ascending();
    plan.order_by_dst();
    plan.merge();
    let streaming = Streaming::new(src.bytes(), plan.run_bytes);
    // SAFETY: the flips move to the first byte of another element of each
    // view. The plan visits exactly the elements of both views, whose bytes
    // are borrowed exclusively and shared: valid, and apart from each other.
    unsafe {
        copy_plan(
            dst.first.offset(dst_flip),
            src.first.offset(src_flip),
            &plan,
            &streaming,
        )
    };
    counter.add(src.bytes());
    Ok(())
}

/// Copies bytes that lie contiguous on both sides, which are equally long.
///
/// # Panics
/// Where `dst` and `src` differ in length.
pub fn copy_bytes(dst: &mut [u8], src: &[u8], counter: &CopyCounter) {
    dst.copy_from_slice(src);
    counter.add(src.len() as u64);
}

/// The same into memory that need not hold anything yet; it does afterwards.
///
/// # Panics
/// Where `dst` and `src` differ in length.
pub fn copy_bytes_uninit(dst: &mut [MaybeUninit<u8>], src: &[u8], counter: &CopyCounter) {
    dst.write_copy_of_slice(src);
    counter.add(src.len() as u64);
}

/// Whether elements of one can be copied to elements of the other.
pub(super) fn check_alike(dst: &Layout, src: &Layout) -> Result<(), CopyError> {
    if dst.element_bytes != src.element_bytes {
        return Err(CopyError::ElementsDiffer {
            from: src.element_bytes,
            to: dst.element_bytes,
        });
    }
    if dst.count() != src.count() {
        return Err(CopyError::CountsDiffer {
            from: src.count().to_vec(),
            to: dst.count().to_vec(),
        });
    }
    Ok(())
}

/// One loop of a plan: so many times, so many bytes on, on either side.
#[derive(Clone, Copy, Default)]
pub(super) struct Loop {
    pub(super) count: usize,
    pub(super) dst: isize,
    pub(super) src: isize,
}

/// Loops around a run of bytes that is contiguous on both sides, outermost
/// first. No loop has a count below 2. Made of views that are not empty.
pub(super) struct Plan {
    pub(super) run_bytes: usize,
    used: usize,
    loops: [Loop; MAX_DIMS],
}

impl Plan {
    /// One loop for each dimension of more than one element.
    pub(super) fn new(dst: &Layout, src: &Layout) -> Self {
        let mut plan = Self {
            run_bytes: src.element_bytes,
            used: 0,
            loops: [Loop::default(); MAX_DIMS],
        };
        for (dim, &count) in src.count().iter().enumerate() {
            if count > 1 {
                plan.loops[plan.used] = Loop {
                    count: count as usize,
                    dst: dst.strides()[dim] as isize,
                    src: src.strides()[dim] as isize,
                };
                plan.used += 1;
            }
        }
        plan
    }

    pub(super) fn loops(&self) -> &[Loop] {
        &self.loops[..self.used]
    }

    /// Turns loops round so that the destination ascends; returns the offset
    /// of the element that is then the first, on either side.
    fn make_dst_ascending(&mut self) -> (isize, isize) {
        let mut offsets = (0, 0);
        for each in &mut self.loops[..self.used] {
            if each.dst < 0 {
                let steps = each.count as isize - 1;
                offsets.0 += each.dst * steps;
                offsets.1 += each.src * steps;
                each.dst = -each.dst;
                each.src = -each.src;
            }
        }
        offsets
    }

    /// Puts the loops with the smaller steps through the destination inside.
    fn order_by_dst(&mut self) {
        self.loops[..self.used].sort_unstable_by_key(|each| std::cmp::Reverse(each.dst));
    }

    /// Joins loops that step evenly into one, and the innermost into the run
    /// where it has no gaps.
    pub(super) fn merge(&mut self) {
        let mut merged = [Loop::default(); MAX_DIMS];
        let mut at = MAX_DIMS;
        for each in self.loops[..self.used].iter().rev() {
            if at == MAX_DIMS {
                let run = self.run_bytes as isize;
                if each.dst == run && each.src == run {
                    self.run_bytes *= each.count;
                    continue;
                }
            } else {
                let inner = &mut merged[at];
                let steps = inner.count as isize;
                if inner.dst.checked_mul(steps) == Some(each.dst)
                    && inner.src.checked_mul(steps) == Some(each.src)
                {
                    inner.count *= each.count;
                    continue;
                }
            }
            at -= 1;
            merged[at] = *each;
        }
        self.used = MAX_DIMS - at;
        self.loops[..self.used].copy_from_slice(&merged[at..]);
    }
}

/// Runs a plan from the given first elements.
///
/// # Safety
/// All runs the plan visits must be readable at `src`, writable at `dst`, and
/// apart from each other.
unsafe fn copy_plan(dst: *mut u8, src: *const u8, plan: &Plan, streaming: &Streaming) {
    let Some((inner, outer)) = plan.loops().split_last() else {
        // SAFETY: the run itself, as the caller promised.
        unsafe { copy_run(dst, src, plan.run_bytes, streaming) };
        return;
    };
    let mut index = [0_usize; MAX_DIMS];
    let (mut dst, mut src) = (dst, src);
    loop {
        // SAFETY: `index` is inside the plan's counts.
        unsafe { copy_runs(dst, src, inner, plan.run_bytes, streaming) };
        let mut dim = outer.len();
        loop {
            if dim == 0 {
                return;
            }
            dim -= 1;
            let each = &outer[dim];
            index[dim] += 1;
            // Wrapping: after the last turn it may point past the array, and
            // is turned back below before it is used.
            dst = dst.wrapping_offset(each.dst);
            src = src.wrapping_offset(each.src);
            if index[dim] < each.count {
                break;
            }
            index[dim] = 0;
            dst = dst.wrapping_offset(back(each.dst, each.count));
            src = src.wrapping_offset(back(each.src, each.count));
        }
    }
}

/// The way back to where a loop began, after its last turn.
pub(super) fn back(step: isize, count: usize) -> isize {
    step.wrapping_mul(count as isize).wrapping_neg()
}

/// Copies one run.
///
/// # Safety
/// The run must be readable at `src`, writable at `dst`, and apart.
#[inline]
pub(super) unsafe fn copy_run(
    dst: *mut u8,
    src: *const u8,
    run_bytes: usize,
    streaming: &Streaming,
) {
    // SAFETY: as the caller promised.
    unsafe {
        if streaming.is_on() {
            copy_past_cache(dst, src, run_bytes);
        } else {
            ptr::copy_nonoverlapping(src, dst, run_bytes);
        }
    }
}

/// Copies runs of `run_bytes`, as often and as far apart as `each` says.
///
/// # Safety
/// Each of the runs must be readable at `src`, writable at `dst`, and apart.
#[inline]
pub(super) unsafe fn copy_runs(
    dst: *mut u8,
    src: *const u8,
    each: &Loop,
    run_bytes: usize,
    streaming: &Streaming,
) {
    // SAFETY: each arm moves the same `count` runs of `run_bytes`, as the
    // caller promised; `[u8; N]` asks for no alignment.
    unsafe {
        match run_bytes {
            1 => copy_elements::<1>(dst, src, each),
            2 => copy_elements::<2>(dst, src, each),
            4 => copy_elements::<4>(dst, src, each),
            8 => copy_elements::<8>(dst, src, each),
            16 => copy_elements::<16>(dst, src, each),
            32 => copy_elements::<32>(dst, src, each),
            64 => copy_elements::<64>(dst, src, each),
            _ => {
                for index in 0..each.count as isize {
                    let to = dst.offset(index * each.dst);
                    copy_run(to, src.offset(index * each.src), run_bytes, streaming);
                }
            }
        }
    }
}

/// Copies elements of `N` bytes, which the compiler moves by register.
///
/// # Safety
/// As [`copy_runs`].
#[inline]
unsafe fn copy_elements<const N: usize>(dst: *mut u8, src: *const u8, each: &Loop) {
    for index in 0..each.count as isize {
        // SAFETY: element `index` is readable and writable as promised.
        unsafe {
            let element = src.offset(index * each.src).cast::<[u8; N]>().read();
            dst.offset(index * each.dst)
                .cast::<[u8; N]>()
                .write(element);
        }
    }
}
