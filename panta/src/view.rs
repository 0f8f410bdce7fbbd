//! Arrays at the boundary: borrowed to put, lent for good, and given as spans.

use std::any::Any;
use std::marker::PhantomData;
use std::ptr::NonNull;

use ndarray::{Array, ArrayBase, ArrayView, ArrayViewD, ArrayViewMutD, Data, Dimension, IxDyn};
use panta_core::model::{Dims, Element, MemorySpace, Pod};
use panta_transports::copy::StridedRef;
use smallvec::SmallVec;

/// A borrowed array of any strides: what is put. Slices of an array select in
/// memory, so ghost cells need no copy: `step.put(u, &start, local.slice(s![1..-1, 1..-1]))`.
#[derive(Clone, Copy, Debug)]
pub struct View<'d, T> {
    pub(crate) bytes: Option<StridedRef<'d>>,
    pub(crate) space: MemorySpace,
    element: PhantomData<&'d T>,
}

impl<'d, T: Element> View<'d, T> {
    fn of<D: Dimension>(array: ArrayView<'d, T, D>) -> Self {
        // SAFETY: ndarray vouches that every element of the view lies in memory that
        // is initialised and borrowed for `'d`.
        unsafe { Self::from_parts(array.as_ptr(), array.shape(), array.strides()) }
    }

    /// # Safety
    /// Every element that shape and strides (in elements) reach from `first` is
    /// initialised and not written to while `'d` lasts.
    unsafe fn from_parts(first: *const T, shape: &[usize], strides: &[isize]) -> Self {
        let count: Dims = shape.iter().map(|side| *side as u64).collect();
        let width = size_of::<T>() as i64;
        let strides: SmallVec<[i64; 6]> = strides
            .iter()
            .map(|stride| *stride as i64 * width)
            .collect();
        // SAFETY: as the caller promises.
        let bytes =
            unsafe { StridedRef::from_raw_parts(first.cast(), size_of::<T>(), &count, &strides) };
        Self {
            bytes: bytes.ok(),
            space: MemorySpace::Host,
            element: PhantomData,
        }
    }

    /// The same array, said to lie in another memory. Only the host's can be put from now.
    #[must_use]
    pub fn in_space(self, space: MemorySpace) -> Self {
        Self { space, ..self }
    }
}

impl<'d, T: Element, D: Dimension> From<ArrayView<'d, T, D>> for View<'d, T> {
    fn from(array: ArrayView<'d, T, D>) -> Self {
        Self::of(array)
    }
}

impl<'d, T: Element, S: Data<Elem = T>, D: Dimension> From<&'d ArrayBase<S, D>> for View<'d, T> {
    fn from(array: &'d ArrayBase<S, D>) -> Self {
        Self::of(array.view())
    }
}

impl<'d, T: Element> From<&'d [T]> for View<'d, T> {
    fn from(slice: &'d [T]) -> Self {
        Self::of(ArrayView::from(slice))
    }
}

impl<'d, T: Element> From<&'d Vec<T>> for View<'d, T> {
    fn from(vector: &'d Vec<T>) -> Self {
        Self::from(vector.as_slice())
    }
}

impl<'d, T: Element, const N: usize> From<&'d [T; N]> for View<'d, T> {
    fn from(array: &'d [T; N]) -> Self {
        Self::from(array.as_slice())
    }
}

/// An array lent for good: it is put without a copy where the transport can, and
/// released when the transport is done with it.
pub struct Owned<T: 'static> {
    pub(crate) view: View<'static, T>,
    pub(crate) keep: Box<dyn Any + Send>,
}

impl<T: 'static> std::fmt::Debug for Owned<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Owned").finish_non_exhaustive()
    }
}

/// Calls a function when dropped.
struct Release<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Release<F> {
    fn drop(&mut self) {
        if let Some(release) = self.0.take() {
            release();
        }
    }
}

impl<T: Element> Owned<T> {
    /// An array and what to call when the transport is done with it.
    pub fn with_release<D: Dimension + 'static>(
        array: Array<T, D>,
        release: impl FnOnce(Array<T, D>) + Send + 'static,
    ) -> Self {
        // SAFETY: the array's elements lie on the heap and stay there while the array
        // is moved about; `keep` holds it for as long as the view is used.
        let view = unsafe { View::from_parts(array.as_ptr(), array.shape(), array.strides()) };
        let keep = Box::new(Release(Some(move || release(array))));
        Self { view, keep }
    }
}

impl<T: Element, D: Dimension + 'static> From<Array<T, D>> for Owned<T> {
    fn from(array: Array<T, D>) -> Self {
        Self::with_release(array, drop)
    }
}

/// Memory of the transport to compute a block into: row-major. Write every element: it
/// holds zeros at first, or the values of an earlier step.
#[derive(Debug)]
pub struct ViewMut<'s, T: Pod> {
    pub(crate) first: NonNull<T>,
    pub(crate) shape: SmallVec<[usize; 6]>,
    pub(crate) step: PhantomData<&'s mut T>,
}

impl<T: Pod> ViewMut<'_, T> {
    /// The elements in row-major order.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        let elements = self.shape.iter().product();
        // SAFETY: the engine lent this many elements, initialised, aligned to 64 and
        // to nobody else, until the step that `'s` borrows ends.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), elements) }
    }

    /// The block as an array.
    #[must_use]
    pub fn as_array_mut(&mut self) -> ArrayViewMutD<'_, T> {
        let shape = IxDyn(&self.shape);
        // SAFETY: as above; the shape's product is the number of elements.
        unsafe { ArrayViewMutD::from_shape_ptr(shape, self.first.as_ptr()) }
    }
}

/// A block in place, read-only.
pub(crate) fn pinned_view<'a, T: Pod>(first: NonNull<u8>, shape: &[u64]) -> ArrayViewD<'a, T> {
    let shape: SmallVec<[usize; 6]> = shape.iter().map(|side| *side as usize).collect();
    // SAFETY: the engine pins this block's bytes, initialised, aligned to 64 and not
    // written to, for as long as the pin that the caller ties `'a` to is kept.
    unsafe { ArrayViewD::from_shape_ptr(IxDyn(&shape), first.as_ptr().cast()) }
}
