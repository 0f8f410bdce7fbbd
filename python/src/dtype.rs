//! Element types, as numpy says them and as Panta does.

use numpy::{Complex32, Complex64, PyArrayDescr, PyArrayDescrMethods};
use panta_core::model::DType;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use crate::failed::Failed;

const KNOWN: &str = "int8 to int64, uint8 to uint64, float32, float64, complex64, complex128, bool";

/// numpy's type of these elements; `None` for texts.
pub(crate) fn descr(py: Python<'_>, dtype: DType) -> Option<Bound<'_, PyArrayDescr>> {
    Some(match dtype {
        DType::I8 => numpy::dtype::<i8>(py),
        DType::I16 => numpy::dtype::<i16>(py),
        DType::I32 => numpy::dtype::<i32>(py),
        DType::I64 => numpy::dtype::<i64>(py),
        DType::U8 => numpy::dtype::<u8>(py),
        DType::U16 => numpy::dtype::<u16>(py),
        DType::U32 => numpy::dtype::<u32>(py),
        DType::U64 => numpy::dtype::<u64>(py),
        DType::F32 => numpy::dtype::<f32>(py),
        DType::F64 => numpy::dtype::<f64>(py),
        DType::C64 => numpy::dtype::<Complex32>(py),
        DType::C128 => numpy::dtype::<Complex64>(py),
        DType::Bool => numpy::dtype::<bool>(py),
        DType::Text => return None,
    })
}

/// Panta's type of numpy's; `what` names the argument in errors.
pub(crate) fn of_descr(descr: &Bound<'_, PyArrayDescr>, what: &str) -> Result<DType, Failed> {
    let found = match (descr.kind(), descr.itemsize()) {
        (b'i', 1) => DType::I8,
        (b'i', 2) => DType::I16,
        (b'i', 4) => DType::I32,
        (b'i', 8) => DType::I64,
        (b'u', 1) => DType::U8,
        (b'u', 2) => DType::U16,
        (b'u', 4) => DType::U32,
        (b'u', 8) => DType::U64,
        (b'f', 4) => DType::F32,
        (b'f', 8) => DType::F64,
        (b'c', 8) => DType::C64,
        (b'c', 16) => DType::C128,
        (b'b', 1) => DType::Bool,
        _ => {
            let message = format!("`{what}` has elements of type {descr}; there are: {KNOWN}");
            return Err(Failed::dtype(message));
        }
    };
    if descr.is_native_byteorder() == Some(false) {
        let native = match what {
            "dtype" => "numpy.dtype(dtype).newbyteorder('=')".to_owned(),
            array => format!("{array}.astype({array}.dtype.newbyteorder('='))"),
        };
        let message =
            format!("`{what}` has elements of foreign byte order ({descr}); pass {native}");
        return Err(Failed::dtype(message));
    }
    Ok(found)
}

/// The type that an argument names: `str` for texts, or whatever `numpy.dtype` takes.
pub(crate) fn of_argument(given: &Bound<'_, PyAny>, what: &str) -> PyResult<DType> {
    let py = given.py();
    let is_str = given
        .cast::<PyType>()
        .is_ok_and(|class| class.is(py.get_type::<PyString>()));
    if is_str {
        return Ok(DType::Text);
    }
    // numpy takes None for any type at all, which is none here.
    let Some(descr) = Some(given)
        .filter(|given| !given.is_none())
        .and_then(|given| PyArrayDescr::new(py, given).ok())
    else {
        let message = format!("`{what}` is {given}, which is no type; there are: {KNOWN}, and str");
        return Err(Failed::dtype(message).into());
    };
    Ok(of_descr(&descr, what)?)
}

/// What `dtype` attributes give: numpy's type, or `str`.
pub(crate) fn to_python(py: Python<'_>, dtype: DType) -> Bound<'_, PyAny> {
    match descr(py, dtype) {
        Some(descr) => descr.into_any(),
        None => py.get_type::<PyString>().into_any(),
    }
}
