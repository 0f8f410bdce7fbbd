//! Views: raw strided boxes of bytes, checked when made.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::MAX_DIMS;

/// Why a view or a box of one cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// More dimensions than [`MAX_DIMS`].
    #[error("{dims} dimensions, at most {MAX_DIMS} are supported")]
    TooManyDims {
        /// Dimensions asked for.
        dims: usize,
    },
    /// An element of no bytes.
    #[error("an element has zero bytes")]
    EmptyElement,
    /// Lists that must have one entry per dimension differ in length.
    #[error("{what} has {found} entries, the view has {expected} dimensions")]
    DimsDiffer {
        /// The list in question.
        what: &'static str,
        /// Dimensions of the view.
        expected: usize,
        /// Entries found.
        found: usize,
    },
    /// The view would span more bytes than an address space holds.
    #[error(
        "counts {count:?} of {element_bytes}-byte elements span more bytes than can be addressed"
    )]
    TooLarge {
        /// Counts asked for.
        count: Vec<u64>,
        /// Bytes of an element.
        element_bytes: usize,
    },
    /// A buffer of another length than its counts say.
    #[error("the buffer has {found} bytes, its counts need {expected}")]
    LengthDiffers {
        /// Bytes that the counts need.
        expected: u64,
        /// Bytes of the buffer.
        found: u64,
    },
    /// A box reaches outside the view.
    #[error(
        "start {start}, count {count}, step {step} reach outside the {extent} elements of dimension {dim}"
    )]
    OutOfBounds {
        /// The dimension, outermost is 0.
        dim: usize,
        /// First element asked for.
        start: u64,
        /// Elements asked for.
        count: u64,
        /// Distance between elements asked for.
        step: u64,
        /// Elements the view has.
        extent: u64,
    },
    /// Two elements of a destination might be the same bytes.
    #[error(
        "strides {strides_bytes:?} of counts {count:?} may let elements of a destination overlap"
    )]
    MayOverlap {
        /// Counts asked for.
        count: Vec<u64>,
        /// Strides asked for.
        strides_bytes: Vec<i64>,
    },
    /// A stored block with another number of checksums than it has tiles.
    #[error("{found} tile checksums for a block of {expected} tiles")]
    ChecksumCount {
        /// Tiles of the block.
        expected: u64,
        /// Checksums given.
        found: u64,
    },
}

/// Counts and strides of a view, without its address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) element_bytes: usize,
    dims: usize,
    count: [u64; MAX_DIMS],
    strides: [i64; MAX_DIMS],
}

impl Layout {
    /// Of so many dimensions, whose counts and strides are yet to be set.
    #[inline(always)] // it is large, and not moved on the way
    const fn unset(element_bytes: usize, dims: usize) -> Self {
        Self {
            element_bytes,
            dims,
            count: [1; MAX_DIMS],
            strides: [0; MAX_DIMS],
        }
    }

    /// Sets what was checked.
    #[inline(always)] // a few instructions
    fn set(&mut self, count: &[u64], strides: &[i64]) {
        self.count[..count.len()].copy_from_slice(count);
        self.strides[..strides.len()].copy_from_slice(strides);
    }

    #[inline]
    pub(super) fn row_major(element_bytes: usize, count: &[u64]) -> Result<Self, LayoutError> {
        if count.len() > MAX_DIMS {
            return Err(LayoutError::TooManyDims { dims: count.len() });
        }
        if element_bytes == 0 {
            return Err(LayoutError::EmptyElement);
        }
        let mut layout = Self::unset(element_bytes, count.len());
        layout.count[..count.len()].copy_from_slice(count);
        if count.contains(&0) {
            return Ok(layout);
        }
        let mut stride =
            i64::try_from(element_bytes).map_err(|_| too_large(element_bytes, count))?;
        for dim in (0..count.len()).rev() {
            layout.strides[dim] = stride;
            stride = i64::try_from(count[dim])
                .ok()
                .and_then(|count| stride.checked_mul(count))
                .filter(|&bytes| isize::try_from(bytes).is_ok())
                .ok_or_else(|| too_large(element_bytes, count))?;
        }
        Ok(layout)
    }

    #[inline]
    pub(super) fn count(&self) -> &[u64] {
        &self.count[..self.dims]
    }

    #[inline]
    pub(super) fn strides(&self) -> &[i64] {
        &self.strides[..self.dims]
    }

    #[inline]
    pub(super) fn elements(&self) -> u64 {
        // Cannot overflow: `row_major` or `fits` checked it, or one count is zero.
        if self.count().contains(&0) {
            return 0;
        }
        self.count().iter().product()
    }

    #[inline]
    pub(super) fn bytes(&self) -> u64 {
        self.elements() * self.element_bytes as u64
    }

    #[inline]
    fn is_contiguous(&self) -> bool {
        if self.elements() == 0 {
            return true;
        }
        let mut expected = self.element_bytes as i64;
        for (&count, &stride) in self.count().iter().zip(self.strides()).rev() {
            if count > 1 {
                if stride != expected {
                    return false;
                }
                expected *= count as i64;
            }
        }
        true
    }

    /// The byte offset of the first element of a box; an error if it is not inside.
    pub(super) fn offset_of(
        &self,
        start: &[u64],
        count: &[u64],
        step: Option<&[u64]>,
    ) -> Result<isize, LayoutError> {
        self.check_dims("start", start.len())?;
        self.check_dims("count", count.len())?;
        self.check_dims("step", step.map_or(self.dims, <[u64]>::len))?;
        let mut offset = 0_i64;
        let empty = count.contains(&0);
        for dim in 0..self.dims {
            let step = step.map_or(1, |step| step[dim]);
            check_bounds(dim, start[dim], count[dim], step, self.count[dim])?;
            if !empty {
                // In bounds, so no larger than what `fits` has checked.
                offset += self.strides[dim] * start[dim] as i64;
            }
        }
        Ok(offset as isize)
    }

    /// The layout of a box that is inside.
    #[inline]
    pub(super) fn of_box(&self, count: &[u64], step: Option<&[u64]>) -> Self {
        let mut layout = *self;
        let empty = count.contains(&0);
        for dim in 0..self.dims {
            layout.count[dim] = count[dim];
            if !empty && count[dim] > 1 {
                layout.strides[dim] *= step.map_or(1, |step| step[dim]) as i64;
            }
        }
        layout
    }

    fn check_dims(&self, what: &'static str, found: usize) -> Result<(), LayoutError> {
        if found == self.dims {
            return Ok(());
        }
        Err(LayoutError::DimsDiffer {
            what,
            expected: self.dims,
            found,
        })
    }
}

/// Whether there can be such a view.
fn check_strided(element_bytes: usize, count: &[u64], strides: &[i64]) -> Result<(), LayoutError> {
    if strides.len() != count.len() {
        return Err(LayoutError::DimsDiffer {
            what: "strides",
            expected: count.len(),
            found: strides.len(),
        });
    }
    if count.len() > MAX_DIMS {
        return Err(LayoutError::TooManyDims { dims: count.len() });
    }
    if element_bytes == 0 {
        return Err(LayoutError::EmptyElement);
    }
    if count.contains(&0) || fits(element_bytes, count, strides).is_some() {
        return Ok(());
    }
    Err(too_large(element_bytes, count))
}

/// None if the bytes of all elements, or those from the first byte of the lowest element to
/// the last byte of the highest, are more than can be addressed. Counts are not zero.
fn fits(element_bytes: usize, count: &[u64], strides: &[i64]) -> Option<()> {
    let mut bytes = i64::try_from(element_bytes).ok()?;
    let mut reach = bytes;
    for (&count, &stride) in count.iter().zip(strides) {
        let count = i64::try_from(count).ok()?;
        bytes = bytes.checked_mul(count)?;
        reach = reach.checked_add(stride.checked_abs()?.checked_mul(count - 1)?)?;
    }
    isize::try_from(bytes.max(reach)).ok().map(|_| ())
}

/// Whether each dimension of a checked view steps over all that the smaller ones reach: then
/// no two elements overlap. True of every slice of every array.
fn is_nested(element_bytes: usize, count: &[u64], strides: &[i64]) -> bool {
    let mut reach = element_bytes as i64;
    if let (&[count], &[stride]) = (count, strides) {
        return count < 2 || stride.abs() >= reach;
    }
    if count.contains(&0) {
        return true;
    }
    let mut dims = [(0_i64, 0_i64); MAX_DIMS];
    let mut used = 0;
    for (&count, &stride) in count.iter().zip(strides) {
        if count > 1 {
            dims[used] = (stride.abs(), count as i64);
            used += 1;
        }
    }
    dims[..used].sort_unstable();
    for &(stride, count) in &dims[..used] {
        if stride < reach {
            return false;
        }
        reach += stride * (count - 1);
    }
    true
}

fn check_bounds(
    dim: usize,
    start: u64,
    count: u64,
    step: u64,
    extent: u64,
) -> Result<(), LayoutError> {
    let end = match count.checked_sub(1) {
        None => Some(start),
        Some(steps) => steps
            .checked_mul(step)
            .and_then(|reach| start.checked_add(reach))
            .and_then(|last| last.checked_add(1)),
    };
    if step > 0 && end.is_some_and(|end| end <= extent) {
        return Ok(());
    }
    Err(LayoutError::OutOfBounds {
        dim,
        start,
        count,
        step,
        extent,
    })
}

#[cold]
fn too_large(element_bytes: usize, count: &[u64]) -> LayoutError {
    LayoutError::TooLarge {
        count: count.to_vec(),
        element_bytes,
    }
}

#[cold]
fn may_overlap(count: &[u64], strides_bytes: &[i64]) -> LayoutError {
    LayoutError::MayOverlap {
        count: count.to_vec(),
        strides_bytes: strides_bytes.to_vec(),
    }
}

fn check_length(layout: &Layout, found: usize) -> Result<(), LayoutError> {
    if layout.bytes() == found as u64 {
        return Ok(());
    }
    Err(LayoutError::LengthDiffers {
        expected: layout.bytes(),
        found: found as u64,
    })
}

/// A strided n-d box of bytes to read from, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct StridedRef<'a> {
    pub(super) first: *const u8,
    pub(super) layout: Layout,
    bytes: PhantomData<&'a [u8]>,
}

/// A strided n-d box of bytes to write to, borrowed; its elements never
/// overlap. Its bytes are only written, so they may be uninitialised.
#[derive(Debug)]
pub struct StridedMut<'a> {
    pub(super) first: *mut u8,
    pub(super) layout: Layout,
    bytes: PhantomData<&'a mut [u8]>,
}

// SAFETY: a `StridedRef` is a shared borrow of bytes that it only reads.
unsafe impl Send for StridedRef<'_> {}
// SAFETY: as above; shared use only reads.
unsafe impl Sync for StridedRef<'_> {}
// SAFETY: a `StridedMut` is an exclusive borrow of bytes.
unsafe impl Send for StridedMut<'_> {}
// SAFETY: a shared `StridedMut` gives no access to its bytes.
unsafe impl Sync for StridedMut<'_> {}

impl<'a> StridedRef<'a> {
    /// A view of a whole contiguous row-major array.
    ///
    /// # Errors
    /// [`LayoutError`] where `count` has too many dimensions or does not
    /// make exactly `bytes.len()` bytes.
    pub fn contiguous(
        bytes: &'a [u8],
        element_bytes: usize,
        count: &[u64],
    ) -> Result<Self, LayoutError> {
        let layout = Layout::row_major(element_bytes, count)?;
        check_length(&layout, bytes.len())?;
        Ok(Self {
            first: bytes.as_ptr(),
            layout,
            bytes: PhantomData,
        })
    }

    /// A view of any strided memory; strides may be negative or zero.
    ///
    /// # Safety
    /// If no count is zero: every byte of every element, at `first` plus any
    /// sum of `index * stride`, lies in one allocation, is initialised, and
    /// is not written to while `'a` lasts.
    ///
    /// # Errors
    /// [`LayoutError`] where the lists differ in length, have too many
    /// dimensions, or span more than can be addressed.
    #[inline(always)] // what it makes is large, and not moved on the way
    pub unsafe fn from_raw_parts(
        first: *const u8,
        element_bytes: usize,
        count: &[u64],
        strides_bytes: &[i64],
    ) -> Result<Self, LayoutError> {
        Self::check(element_bytes, count, strides_bytes)?;
        // SAFETY: as asked of the caller, and just checked.
        Ok(unsafe { Self::from_checked_parts(first, element_bytes, count, strides_bytes) })
    }

    /// Whether there can be a view of such counts and strides.
    ///
    /// # Errors
    /// As [`from_raw_parts`](Self::from_raw_parts).
    pub fn check(
        element_bytes: usize,
        count: &[u64],
        strides_bytes: &[i64],
    ) -> Result<(), LayoutError> {
        check_strided(element_bytes, count, strides_bytes)
    }

    /// As [`from_raw_parts`](Self::from_raw_parts), of what was checked: a view is large,
    /// and a result that holds one is moved.
    ///
    /// # Safety
    /// As for [`from_raw_parts`](Self::from_raw_parts), and [`check`](Self::check) found
    /// nothing wrong.
    #[must_use]
    #[inline(always)] // what it makes is large, and not moved on the way
    pub unsafe fn from_checked_parts(
        first: *const u8,
        element_bytes: usize,
        count: &[u64],
        strides_bytes: &[i64],
    ) -> Self {
        let mut view = Self {
            first,
            layout: Layout::unset(element_bytes, count.len()),
            bytes: PhantomData,
        };
        view.layout.set(count, strides_bytes);
        view
    }

    /// Elements per dimension, outermost first.
    #[must_use]
    #[inline]
    pub fn count(&self) -> &[u64] {
        self.layout.count()
    }

    /// Bytes from one element to the next, per dimension.
    #[must_use]
    #[inline]
    pub fn strides_bytes(&self) -> &[i64] {
        self.layout.strides()
    }

    /// Bytes of one element.
    #[must_use]
    #[inline]
    pub fn element_bytes(&self) -> usize {
        self.layout.element_bytes
    }

    /// Bytes of all elements together.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// Whether the elements lie row-major without gaps.
    #[must_use]
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// The bytes, where they lie contiguous.
    #[must_use]
    pub fn as_slice(&self) -> Option<&'a [u8]> {
        if !self.is_contiguous() {
            return None;
        }
        if self.bytes() == 0 {
            return Some(&[]);
        }
        // SAFETY: contiguous and not empty: the elements are exactly these
        // bytes, which are initialised and borrowed for `'a`.
        Some(unsafe { std::slice::from_raw_parts(self.first, self.bytes() as usize) })
    }

    /// The box of `count` elements from `start`.
    ///
    /// # Errors
    /// [`LayoutError`] where the box is not inside this view.
    pub fn sub_box(&self, start: &[u64], count: &[u64]) -> Result<Self, LayoutError> {
        self.sub(start, count, None)
    }

    /// `count` elements from `start`, every `step`-th.
    ///
    /// # Errors
    /// [`LayoutError`] where they are not inside this view or a step is zero.
    pub fn sub_strided(
        &self,
        start: &[u64],
        count: &[u64],
        step: &[u64],
    ) -> Result<Self, LayoutError> {
        self.sub(start, count, Some(step))
    }

    fn sub(&self, start: &[u64], count: &[u64], step: Option<&[u64]>) -> Result<Self, LayoutError> {
        let offset = self.layout.offset_of(start, count, step)?;
        Ok(Self {
            // Wrapping, since the view may be empty; else the element exists.
            first: self.first.wrapping_offset(offset),
            layout: self.layout.of_box(count, step),
            bytes: PhantomData,
        })
    }
}

impl<'a> StridedMut<'a> {
    /// A view of a whole contiguous row-major array.
    ///
    /// # Errors
    /// As [`StridedRef::contiguous`].
    pub fn contiguous(
        bytes: &'a mut [u8],
        element_bytes: usize,
        count: &[u64],
    ) -> Result<Self, LayoutError> {
        let layout = Layout::row_major(element_bytes, count)?;
        check_length(&layout, bytes.len())?;
        Ok(Self {
            first: bytes.as_mut_ptr(),
            layout,
            bytes: PhantomData,
        })
    }

    /// A view of any strided memory whose elements do not overlap; strides
    /// may be negative. The memory may be uninitialised.
    ///
    /// # Safety
    /// If no count is zero: every byte of every element, at `first` plus any
    /// sum of `index * stride`, lies in one allocation, may be written, and
    /// is not otherwise used while `'a` lasts.
    ///
    /// # Errors
    /// As [`StridedRef::from_raw_parts`]; [`LayoutError::MayOverlap`] unless
    /// each stride steps over everything that smaller strides reach.
    #[inline(always)] // what it makes is large, and not moved on the way
    pub unsafe fn from_raw_parts(
        first: *mut u8,
        element_bytes: usize,
        count: &[u64],
        strides_bytes: &[i64],
    ) -> Result<Self, LayoutError> {
        Self::check(element_bytes, count, strides_bytes)?;
        // SAFETY: as asked of the caller, and just checked.
        Ok(unsafe { Self::from_checked_parts(first, element_bytes, count, strides_bytes) })
    }

    /// Whether there can be a view of such counts and strides.
    ///
    /// # Errors
    /// As [`from_raw_parts`](Self::from_raw_parts).
    pub fn check(
        element_bytes: usize,
        count: &[u64],
        strides_bytes: &[i64],
    ) -> Result<(), LayoutError> {
        check_strided(element_bytes, count, strides_bytes)?;
        if is_nested(element_bytes, count, strides_bytes) {
            return Ok(());
        }
        Err(may_overlap(count, strides_bytes))
    }

    /// As [`from_raw_parts`](Self::from_raw_parts), of what was checked.
    ///
    /// # Safety
    /// As for [`from_raw_parts`](Self::from_raw_parts), and [`check`](Self::check) found
    /// nothing wrong.
    #[must_use]
    #[inline(always)] // what it makes is large, and not moved on the way
    pub unsafe fn from_checked_parts(
        first: *mut u8,
        element_bytes: usize,
        count: &[u64],
        strides_bytes: &[i64],
    ) -> Self {
        let mut view = Self {
            first,
            layout: Layout::unset(element_bytes, count.len()),
            bytes: PhantomData,
        };
        view.layout.set(count, strides_bytes);
        view
    }

    /// Elements per dimension, outermost first.
    #[must_use]
    #[inline]
    pub fn count(&self) -> &[u64] {
        self.layout.count()
    }

    /// Bytes from one element to the next, per dimension.
    #[must_use]
    #[inline]
    pub fn strides_bytes(&self) -> &[i64] {
        self.layout.strides()
    }

    /// Bytes of one element.
    #[must_use]
    #[inline]
    pub fn element_bytes(&self) -> usize {
        self.layout.element_bytes
    }

    /// Bytes of all elements together.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// Whether the elements lie row-major without gaps.
    #[must_use]
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// The bytes, where they lie contiguous, for whoever reads a file or a
    /// socket straight into them.
    #[must_use]
    pub fn as_uninit_slice(&mut self) -> Option<&mut [MaybeUninit<u8>]> {
        if !self.is_contiguous() {
            return None;
        }
        if self.bytes() == 0 {
            return Some(&mut []);
        }
        let bytes = self.bytes() as usize;
        // SAFETY: contiguous and not empty: the elements are exactly these
        // bytes, borrowed exclusively; they need not be initialised.
        Some(unsafe { std::slice::from_raw_parts_mut(self.first.cast(), bytes) })
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> StridedMut<'_> {
        StridedMut {
            first: self.first,
            layout: self.layout,
            bytes: PhantomData,
        }
    }

    /// The box of `count` elements from `start`.
    ///
    /// # Errors
    /// [`LayoutError`] where the box is not inside this view.
    pub fn sub_box(&mut self, start: &[u64], count: &[u64]) -> Result<StridedMut<'_>, LayoutError> {
        self.sub(start, count, None)
    }

    /// `count` elements from `start`, every `step`-th.
    ///
    /// # Errors
    /// [`LayoutError`] where they are not inside this view or a step is zero.
    pub fn sub_strided(
        &mut self,
        start: &[u64],
        count: &[u64],
        step: &[u64],
    ) -> Result<StridedMut<'_>, LayoutError> {
        self.sub(start, count, Some(step))
    }

    fn sub(
        &mut self,
        start: &[u64],
        count: &[u64],
        step: Option<&[u64]>,
    ) -> Result<StridedMut<'_>, LayoutError> {
        let offset = self.layout.offset_of(start, count, step)?;
        Ok(StridedMut {
            first: self.first.wrapping_offset(offset),
            layout: self.layout.of_box(count, step),
            bytes: PhantomData,
        })
    }
}
