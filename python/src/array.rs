//! numpy's arrays as boxes of bytes in memory, and boxes of bytes as arrays.
//!
//! A [`Memory`] has no lifetime: who makes a view of one keeps the array that it
//! describes until that is used no more.

use std::ffi::{c_int, c_void};
use std::ptr;

use numpy::npyffi::{self, PY_ARRAY_API, npy_intp};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use panta_core::model::DType;
use panta_transports::copy::{StridedMut, StridedRef};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyType};

use smallvec::SmallVec;

use crate::dtype;
use crate::failed::Failed;

/// DLPack's numbers of the devices whose memory the host can use as its own.
const HOST_DEVICES: [i32; 3] = [1, 3, 11];

/// Cells per dimension; a read makes a few of them, which take no memory of their own.
pub(crate) type Sides = SmallVec<[u64; 6]>;

/// An array's memory.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) first: *mut u8,
    pub(crate) dtype: DType,
    pub(crate) count: Sides,
    pub(crate) strides_bytes: SmallVec<[i64; 6]>,
}

// SAFETY: a description; whoever uses the memory keeps it in place, see the module.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// The memory of an array; `what` names the argument in errors.
    pub(crate) fn of(array: &Bound<'_, PyUntypedArray>, what: &str) -> Result<Self, Failed> {
        let dtype = dtype::of_descr(&array.dtype(), what)?;
        // SAFETY: the array is alive, and the interpreter is ours.
        let first = unsafe { (*npyffi::_PyArray_GET_ITEM_DATA(array.as_array_ptr())).data };
        Ok(Self {
            first: first.cast(),
            dtype,
            count: array.shape().iter().map(|side| *side as u64).collect(),
            strides_bytes: array.strides().iter().map(|bytes| *bytes as i64).collect(),
        })
    }

    /// The memory, to be read.
    ///
    /// # Safety
    /// The array is kept as long as the view is used.
    pub(crate) unsafe fn source(&self) -> Result<StridedRef<'static>, Failed> {
        // SAFETY: numpy's shape and strides describe memory of the array.
        let view = unsafe {
            StridedRef::from_raw_parts(
                self.first,
                self.dtype.size_bytes(),
                &self.count,
                &self.strides_bytes,
            )
        };
        Ok(view?)
    }

    /// The memory, to be written.
    ///
    /// # Safety
    /// As for [`source`](Self::source), and the array is writable.
    pub(crate) unsafe fn destination(&self) -> Result<StridedMut<'static>, Failed> {
        // SAFETY: as above.
        let view = unsafe {
            StridedMut::from_raw_parts(
                self.first,
                self.dtype.size_bytes(),
                &self.count,
                &self.strides_bytes,
            )
        };
        Ok(view?)
    }

    /// Whether it holds booleans one of which is neither 0 nor 1.
    ///
    /// # Safety
    /// The array is there.
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
            // SAFETY: an element of the array.
            if unsafe { *self.first.wrapping_offset(offset) } > 1 {
                return true;
            }
            let next = index.iter_mut().zip(&self.count).rev().any(|(at, side)| {
                *at = (*at + 1) % *side;
                *at != 0
            });
            if !next {
                return false;
            }
        }
    }
}

fn sides(shape: &[u64]) -> Result<Vec<npy_intp>, Failed> {
    let mut sides = Vec::with_capacity(shape.len());
    for side in shape {
        sides.push(npy_intp::try_from(*side).map_err(|_| {
            Failed::shape(format!("{shape:?} cells are more than memory can hold"))
        })?);
    }
    Ok(sides)
}

fn make<'py>(
    py: Python<'py>,
    class: *mut pyo3::ffi::PyTypeObject,
    dtype: DType,
    shape: &[u64],
    data: *mut c_void,
    flags: c_int,
) -> PyResult<Bound<'py, PyUntypedArray>> {
    let descr =
        dtype::descr(py, dtype).ok_or_else(|| Failed::dtype("texts are no elements of arrays"))?;
    let mut sides = sides(shape)?;
    // SAFETY: a class of arrays, a type and as many sides as said; `data` is null or what
    // the caller says.
    unsafe {
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            class,
            descr.into_dtype_ptr(),
            sides.len() as c_int,
            sides.as_mut_ptr(),
            ptr::null_mut(),
            data,
            flags,
            ptr::null_mut(),
        );
        Ok(Bound::from_owned_ptr_or_err(py, array)?.cast_into_unchecked())
    }
}

/// A new array, row-major, its elements not set.
pub(crate) fn empty<'py>(
    py: Python<'py>,
    dtype: DType,
    shape: &[u64],
) -> PyResult<Bound<'py, PyUntypedArray>> {
    let class = py.get_type::<PyUntypedArray>();
    make(py, class.as_type_ptr(), dtype, shape, ptr::null_mut(), 0)
}

/// An array of a class over memory that `keep` keeps in place; row-major.
///
/// # Safety
/// The memory has the elements, aligned, and is there as long as `keep`.
pub(crate) unsafe fn over<'py>(
    class: &Bound<'py, PyType>,
    dtype: DType,
    shape: &[u64],
    first: *mut u8,
    is_writable: bool,
    keep: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyUntypedArray>> {
    let py = class.py();
    let mut flags = npyffi::NPY_ARRAY_C_CONTIGUOUS | npyffi::NPY_ARRAY_ALIGNED;
    if is_writable {
        flags |= npyffi::NPY_ARRAY_WRITEABLE;
    }
    let array = make(py, class.as_type_ptr(), dtype, shape, first.cast(), flags)?;
    // SAFETY: a new array without a base, and a reference that the call takes over.
    let status =
        unsafe { PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_array_ptr(), keep.into_ptr()) };
    if status != 0 {
        return Err(PyErr::fetch(py));
    }
    Ok(array)
}

/// Whether an array may be written to.
pub(crate) fn is_writable(array: &Bound<'_, PyUntypedArray>) -> bool {
    // SAFETY: the array is alive, and the interpreter is ours.
    let flags = unsafe { (*npyffi::_PyArray_GET_ITEM_DATA(array.as_array_ptr())).flags };
    flags & npyffi::NPY_ARRAY_WRITEABLE != 0
}

/// Refuses memory of a device, which numpy cannot see.
fn refuse_device(given: &Bound<'_, PyAny>, what: &str) -> PyResult<bool> {
    let py = given.py();
    let refuse = |device: String| {
        let message = format!(
            "`{what}` is in memory of a device ({device}); copy it to the host and pass that"
        );
        PyErr::from(Failed::new("UnsupportedError", message))
    };
    if given.hasattr(pyo3::intern!(py, "__cuda_array_interface__"))? {
        return Err(refuse("CUDA".to_owned()));
    }
    if !given.hasattr(pyo3::intern!(py, "__dlpack_device__"))? {
        return Ok(false);
    }
    let device: (i32, i32) = given.call_method0("__dlpack_device__")?.extract()?;
    if HOST_DEVICES.contains(&device.0) {
        return Ok(true);
    }
    Err(refuse(format!("DLPack device {}:{}", device.0, device.1)))
}

/// Refuses an array of `numpy.ma` some of whose elements are masked: what lies below the mask
/// is not what was meant.
fn refuse_mask(given: &Bound<'_, PyAny>, what: &str) -> PyResult<()> {
    let masked = given.py().import("numpy")?.getattr("ma")?;
    if masked.call_method1("is_masked", (given,))?.is_truthy()? {
        let message = format!(
            "`{what}` has masked elements; pass what readers are to get, as {what}.filled(value)"
        );
        return Err(Failed::dtype(message).into());
    }
    Ok(())
}

/// An argument as an array: what is one already, or lends its memory (DLPack, the buffer
/// protocol, `__array__`), as it is; numbers and lists as an array of `wanted`.
pub(crate) fn of_argument<'py>(
    given: &Bound<'py, PyAny>,
    wanted: DType,
    what: &str,
) -> PyResult<Bound<'py, PyUntypedArray>> {
    let py = given.py();
    if let Ok(array) = given.cast::<PyUntypedArray>() {
        // Only classes derived from it can have a mask, which would be lost.
        if !array.is_exact_instance_of::<PyUntypedArray>() {
            refuse_mask(given, what)?;
        }
        return Ok(array.clone());
    }
    let numpy = py.import("numpy")?;
    let lends = refuse_device(given, what)?;
    let made = if lends {
        numpy.call_method1("from_dlpack", (given,))
    } else {
        // numpy takes bytes for a text; what they are here is memory.
        let lent = match given.cast::<PyBytes>() {
            Ok(bytes) => PyMemoryView::from(bytes)?.into_any(),
            Err(_) => given.clone(),
        };
        // SAFETY: asks whether the object lends a buffer, no more.
        let mut is_array = unsafe { pyo3::ffi::PyObject_CheckBuffer(lent.as_ptr()) } != 0;
        for name in ["__array__", "__array_interface__", "__array_struct__"] {
            is_array |= lent.hasattr(name)?;
        }
        match dtype::descr(py, wanted).filter(|_| !is_array) {
            Some(descr) => py
                .import("panta._arrays")?
                .call_method1("convert", (lent, descr)),
            None => numpy.call_method1("asarray", (lent,)),
        }
    };
    let made = made.map_err(|error| {
        let class = given.get_type();
        let message =
            format!("`{what}` ({class}) cannot be taken as an array of {wanted}: {error}");
        let failed = if error.is_instance_of::<PyTypeError>(py) {
            Failed::dtype(message)
        } else if error.is_instance_of::<PyValueError>(py) {
            Failed::shape(message)
        } else {
            Failed::new("ArgumentError", message)
        };
        let raised = failed.raise(py);
        raised.set_cause(py, Some(error));
        raised
    })?;
    Ok(made.cast_into::<PyUntypedArray>()?)
}

/// An array's element when it has no dimensions, as numpy gives it.
pub(crate) fn scalar<'py>(array: Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    array
        .into_any()
        .get_item(pyo3::types::PyTuple::empty(py))
        .map_err(|error| match error {
            error if error.is_instance_of::<PyKeyError>(py) => {
                Failed::selection("the array has no element").raise(py)
            }
            error => error,
        })
}

/// Sixteen bytes that a span which has ended shows; never written to. As floating-point
/// numbers they are none, for who gets to see them all the same (`np.asarray`).
static NOTHING: [u64; 2] = [u64::MAX; 2];

/// Points an array whose memory is going away at bytes that never do: of the same shape,
/// all one element, read-only. Used by spans when their step ends; returns whether the
/// array was in the memory.
#[pyfunction]
pub(crate) fn redirect(
    array: &Bound<'_, PyUntypedArray>,
    first: usize,
    bytes: usize,
) -> PyResult<bool> {
    // SAFETY: the array is alive and the interpreter is ours, so that nobody else looks at
    // its fields. All its elements are then the first of `NOTHING`, which is as large as
    // any, aligned for all, and not written to since the flag says so.
    unsafe {
        let fields = &mut *npyffi::_PyArray_GET_ITEM_DATA(array.as_array_ptr());
        let data = fields.data as usize;
        if data < first || data > first + bytes || fields.flags & npyffi::NPY_ARRAY_OWNDATA != 0 {
            return Ok(false);
        }
        fields.data = NOTHING.as_ptr().cast_mut().cast();
        for dimension in 0..fields.nd as usize {
            *fields.strides.add(dimension) = 0;
        }
        fields.flags &= !(npyffi::NPY_ARRAY_WRITEABLE
            | npyffi::NPY_ARRAY_C_CONTIGUOUS
            | npyffi::NPY_ARRAY_F_CONTIGUOUS);
    }
    Ok(true)
}
