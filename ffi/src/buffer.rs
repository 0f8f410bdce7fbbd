//! Arrays in the caller's memory.
//!
//! A [`Buffer`] has no lifetime, since C states none: who makes it into a view
//! says until when that is used, and panta.h says the same to the caller.

use panta_core::model::{DType, MemorySpace};
use panta_transports::copy::{LayoutError, StridedMut, StridedRef};

use crate::failed::Failed;
use crate::types::*;

/// A caller's array, as its buffer describes it.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    pub(crate) data: *mut u8,
    pub(crate) dtype: DType,
    pub(crate) space: MemorySpace,
    pub(crate) count: Vec<u64>,
    pub(crate) strides_bytes: Vec<i64>,
}

// SAFETY: it describes memory of the caller, who lets the library use it from the
// call in which it is given until the one that ends this; see panta.h.
unsafe impl Send for Buffer {}

fn layout(error: &LayoutError) -> Failed {
    Failed::new(PANTA_ERROR_SHAPE, format!("the buffer: {error}"))
}

impl Buffer {
    /// Refuses memory that is written to, unless it is the host's.
    pub(crate) fn on_host(&self) -> Result<(), Failed> {
        if self.space == MemorySpace::Host {
            return Ok(());
        }
        let message = format!(
            "memory of a device ({:?}) cannot be got into; get into the host's and copy it",
            self.space
        );
        Err(Failed::new(PANTA_ERROR_UNSUPPORTED, message))
    }

    pub(crate) fn same_shape(&self, shape: &[u64]) -> Result<(), Failed> {
        if self.count == shape {
            return Ok(());
        }
        let message = format!(
            "the buffer has {:?} cells, the selection {shape:?}",
            self.count
        );
        Err(Failed::new(PANTA_ERROR_SHAPE, message))
    }

    /// The array, to be read.
    ///
    /// # Safety
    /// Nobody reads it after the caller has its memory back.
    pub(crate) unsafe fn source(&self) -> Result<StridedRef<'static>, Failed> {
        // SAFETY: the caller describes memory of its own, and does not write to it
        // until it has it back.
        unsafe {
            StridedRef::from_raw_parts(
                self.data,
                self.dtype.size_bytes(),
                &self.count,
                &self.strides_bytes,
            )
        }
        .map_err(|error| layout(&error))
    }

    /// The array, to be written.
    ///
    /// # Safety
    /// As for [`source`](Self::source).
    pub(crate) unsafe fn destination(&self) -> Result<StridedMut<'static>, Failed> {
        // SAFETY: as above, and the caller does not read from it either.
        unsafe {
            StridedMut::from_raw_parts(
                self.data,
                self.dtype.size_bytes(),
                &self.count,
                &self.strides_bytes,
            )
        }
        .map_err(|error| layout(&error))
    }

    /// Whether it holds booleans one of which is neither 0 nor 1.
    ///
    /// # Safety
    /// The caller has not its memory back.
    pub(crate) unsafe fn has_wrong_boolean(&self) -> bool {
        if self.dtype != DType::Bool || self.count.contains(&0) {
            return false;
        }
        let mut index = vec![0_u64; self.count.len()];
        loop {
            let offset: isize = index
                .iter()
                .zip(&self.strides_bytes)
                .map(|(index, stride)| *index as isize * *stride as isize)
                .sum();
            // SAFETY: an element of the array that the caller describes.
            if unsafe { *self.data.wrapping_offset(offset) } > 1 {
                return true;
            }
            if !advance(&mut index, &self.count) {
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
        let mut buffer = Buffer {
            data: memory.as_ptr().cast_mut(),
            dtype: DType::Bool,
            space: MemorySpace::Host,
            count: vec![3],
            strides_bytes: vec![2],
        };
        // SAFETY: three bytes of `memory`.
        assert!(!unsafe { buffer.has_wrong_boolean() });
        buffer.strides_bytes = vec![1];
        // SAFETY: as above.
        assert!(unsafe { buffer.has_wrong_boolean() });
    }
}
