//! Arrays in the caller's memory.
//!
//! The memory that a [`Buffer`] describes has no lifetime, since C states none: who
//! makes it into a view says until when that is used, and panta.h says the same to the
//! caller.

use panta_core::model::{DType, Dims, MemorySpace};
use panta_transports::copy::{LayoutError, StridedMut, StridedRef};

use crate::failed::Failed;
use crate::types::*;

/// A caller's array, as its buffer describes it; read where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer<'c> {
    given: &'c panta_buffer,
    pub(crate) dtype: DType,
    pub(crate) space: MemorySpace,
}

/// The same for longer than the call in which it was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    given: panta_buffer,
    dtype: DType,
    space: MemorySpace,
}

// SAFETY: it describes memory of the caller, who lets the library use it from the
// call in which it is given until the one that ends this; see panta.h.
unsafe impl Send for Kept {}

impl Kept {
    pub(crate) fn buffer(&self) -> Buffer<'_> {
        Buffer {
            given: &self.given,
            dtype: self.dtype,
            space: self.space,
        }
    }
}

impl From<LayoutError> for Failed {
    #[cold]
    fn from(error: LayoutError) -> Self {
        Self::new(PANTA_ERROR_SHAPE, format!("the buffer: {error}"))
    }
}

impl<'c> Buffer<'c> {
    /// A buffer whose fields were checked: as many dimensions as there are at most,
    /// no count below zero.
    #[inline]
    pub(crate) fn new(given: &'c panta_buffer, dtype: DType, space: MemorySpace) -> Self {
        Self {
            given,
            dtype,
            space,
        }
    }

    pub(crate) fn keep(&self) -> Kept {
        Kept {
            given: *self.given,
            dtype: self.dtype,
            space: self.space,
        }
    }

    /// Cells per dimension.
    #[inline]
    pub(crate) fn count(&self) -> &'c [u64] {
        bytemuck::cast_slice(&self.given.count[..self.given.dimensions as usize])
    }

    /// Bytes from one element to the next, per dimension.
    #[inline]
    fn strides_bytes(&self) -> &'c [i64] {
        &self.given.strides_bytes[..self.given.dimensions as usize]
    }

    /// Refuses memory that is not the host's; `instead` says what to do.
    #[inline]
    pub(crate) fn on_host(&self, instead: &str) -> Result<(), Failed> {
        if self.space == MemorySpace::Host {
            return Ok(());
        }
        let message = format!(
            "`buffer.space` is a device's ({:?}), whose memory is out of reach; {instead}",
            self.space
        );
        Err(Failed::new(PANTA_ERROR_UNSUPPORTED, message))
    }

    #[inline(always)] // a few instructions
    pub(crate) fn same_shape(&self, shape: &[u64]) -> Result<(), Failed> {
        // There are few of them: without the call that comparing as bytes is.
        if self.count().iter().eq(shape) {
            return Ok(());
        }
        Err(self.other_shape(shape))
    }

    #[cold]
    fn other_shape(&self, shape: &[u64]) -> Failed {
        let message = format!(
            "the buffer has {:?} cells, the selection {shape:?}",
            self.count()
        );
        Failed::new(PANTA_ERROR_SHAPE, message)
    }

    /// The array, to be read.
    ///
    /// # Safety
    /// Nobody reads it after the caller has its memory back.
    #[inline(always)] // what it makes is large, and not moved on the way
    pub(crate) unsafe fn source(&self) -> Result<StridedRef<'static>, LayoutError> {
        // SAFETY: the caller describes memory of its own, and does not write to it
        // until it has it back.
        unsafe {
            StridedRef::from_raw_parts(
                self.given.data.cast(),
                self.dtype.size_bytes(),
                self.count(),
                self.strides_bytes(),
            )
        }
    }

    /// Whether it can be written: [`destination`](Self::destination) asks for that.
    pub(crate) fn check_destination(&self) -> Result<(), LayoutError> {
        StridedMut::check(self.dtype.size_bytes(), self.count(), self.strides_bytes())
    }

    /// The array, to be written.
    ///
    /// # Safety
    /// As for [`source`](Self::source), and
    /// [`check_destination`](Self::check_destination) found nothing wrong.
    #[inline(always)] // as above
    pub(crate) unsafe fn destination(&self) -> StridedMut<'static> {
        // SAFETY: as above, the caller does not read from it either, and it was checked.
        unsafe {
            StridedMut::from_checked_parts(
                self.given.data.cast(),
                self.dtype.size_bytes(),
                self.count(),
                self.strides_bytes(),
            )
        }
    }

    /// Whether it holds booleans one of which is neither 0 nor 1.
    ///
    /// # Safety
    /// The caller has not its memory back.
    #[inline]
    pub(crate) unsafe fn has_wrong_boolean(&self) -> bool {
        // SAFETY: as asked of the caller.
        self.dtype == DType::Bool && unsafe { self.has_byte_above_one() }
    }

    /// The same of its bytes, which are to be booleans.
    ///
    /// # Safety
    /// As for [`has_wrong_boolean`](Self::has_wrong_boolean).
    unsafe fn has_byte_above_one(&self) -> bool {
        let (count, strides_bytes) = (self.count(), self.strides_bytes());
        if count.contains(&0) {
            return false;
        }
        let data = self.given.data.cast::<u8>();
        let mut index = Dims::from_elem(0, count.len());
        loop {
            let offset: isize = index
                .iter()
                .zip(strides_bytes)
                .map(|(index, stride)| *index as isize * *stride as isize)
                .sum();
            // SAFETY: an element of the array that the caller describes.
            if unsafe { *data.wrapping_offset(offset) } > 1 {
                return true;
            }
            if !advance(&mut index, count) {
                return false;
            }
        }
    }
}

/// Goes to the next index, the last dimension fastest; false after the last.
fn advance(index: &mut [u64], count: &[u64]) -> bool {
    for (index, count) in index.iter_mut().zip(count).rev() {
        *index += 1;
        if *index < *count {
            return true;
        }
        *index = 0;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_boolean_is_found_in_strided_memory_and_not_beside_it() {
        let memory = [1_u8, 9, 0, 9, 1, 9];
        let mut given = panta_buffer {
            size: size_of::<panta_buffer>(),
            data: memory.as_ptr().cast_mut().cast(),
            dtype: PANTA_BOOL,
            space: PANTA_HOST,
            device: 0,
            dimensions: 1,
            count: [3; PANTA_MAX_DIMS],
            strides_bytes: [2; PANTA_MAX_DIMS],
        };
        let wrong = |given: &panta_buffer| {
            let buffer = Buffer::new(given, DType::Bool, MemorySpace::Host);
            // SAFETY: three bytes of `memory`.
            unsafe { buffer.has_wrong_boolean() }
        };
        assert!(!wrong(&given));
        given.strides_bytes[0] = 1;
        assert!(wrong(&given));
    }
}
