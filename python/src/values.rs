//! Attributes and single values, from Python and to it.

use numpy::PyUntypedArrayMethods;
use panta_core::model::{Attribute, AttributeKey, Attributes, DType};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};

use crate::array::{self, Memory};
use crate::failed::Failed;

/// A Python value as an attribute: numbers, texts, lists of either, 1-d arrays.
pub(crate) fn attribute(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Attribute> {
    let refuse = || {
        let class = given.get_type();
        PyErr::from(Failed::dtype(format!(
            "the attribute `{name}` is {class}; it can be a number, a text, or a list of either"
        )))
    };
    if given.is_instance_of::<PyString>() {
        return Ok(Attribute::Text(given.extract()?));
    }
    // Of numpy's numbers and arrays, what Python has instead.
    let plain = if given.hasattr("tolist")? {
        given.call_method0("tolist")?
    } else {
        given.clone()
    };
    if plain.is_instance_of::<PyString>() {
        return Ok(Attribute::Text(plain.extract()?));
    }
    if plain.is_instance_of::<PyList>() || plain.is_instance_of::<PyTuple>() {
        return list(name, &plain)?.ok_or_else(refuse);
    }
    if plain.is_instance_of::<PyBool>() || plain.is_instance_of::<PyInt>() {
        return match plain.extract::<i64>() {
            Ok(value) => Ok(Attribute::Int(value)),
            Err(_) => plain
                .extract()
                .map(Attribute::UInt)
                .map_err(|_| too_large(name, given)),
        };
    }
    plain.extract().map(Attribute::Float).map_err(|_| refuse())
}

fn too_large(name: &str, given: &Bound<'_, PyAny>) -> PyErr {
    let message =
        format!("the attribute `{name}` is {given}, whose whole numbers no type of 64 bits holds");
    Failed::new("ArgumentError", message).into()
}

fn list(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Option<Attribute>> {
    if let Ok(values) = given.extract::<Vec<i64>>() {
        return Ok(Some(Attribute::Ints(values)));
    }
    if let Ok(values) = given.extract::<Vec<u64>>() {
        return Ok(Some(Attribute::UInts(values)));
    }
    if let Ok(values) = given.extract::<Vec<f64>>() {
        // Whole numbers alone are not rounded.
        for value in given.try_iter()? {
            if value?.is_instance_of::<PyFloat>() {
                return Ok(Some(Attribute::Floats(values)));
            }
        }
        return Err(too_large(name, given));
    }
    Ok(given.extract::<Vec<String>>().ok().map(Attribute::Texts))
}

/// The attributes that a dict, or another mapping, says.
pub(crate) fn attributes_of(given: &Bound<'_, PyMapping>) -> PyResult<Vec<(String, Attribute)>> {
    let mut attributes = Vec::new();
    for item in given.items()? {
        let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        let name: String = name.extract().map_err(|_| {
            Failed::dtype(format!(
                "`attributes` has the key {name}; its keys are names"
            ))
        })?;
        let value = attribute(&name, &value)?;
        attributes.push((name, value));
    }
    Ok(attributes)
}

fn attribute_to_python<'py>(py: Python<'py>, attribute: &Attribute) -> PyResult<Bound<'py, PyAny>> {
    Ok(match attribute {
        Attribute::Int(value) => value.into_pyobject(py)?.into_any(),
        Attribute::UInt(value) => value.into_pyobject(py)?.into_any(),
        Attribute::Float(value) => value.into_pyobject(py)?.into_any(),
        Attribute::Text(text) => text.into_pyobject(py)?.into_any(),
        Attribute::Ints(values) => PyList::new(py, values)?.into_any(),
        Attribute::UInts(values) => PyList::new(py, values)?.into_any(),
        Attribute::Floats(values) => PyList::new(py, values)?.into_any(),
        Attribute::Texts(texts) => PyList::new(py, texts)?.into_any(),
    })
}

/// The attributes of a variable, or with `None` of the stream, as a new dict.
pub(crate) fn attributes<'py>(
    py: Python<'py>,
    all: &Attributes,
    variable: Option<&str>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (AttributeKey { variable: of, name }, value) in all {
        if of.as_deref() == variable {
            dict.set_item(name, attribute_to_python(py, value)?)?;
        }
    }
    Ok(dict)
}

/// The bytes of one element, little-endian; UTF-8 of a text.
pub(crate) fn bytes_of(given: &Bound<'_, PyAny>, dtype: DType, what: &str) -> PyResult<Vec<u8>> {
    if dtype == DType::Text {
        let Ok(text) = given.extract::<String>() else {
            let class = given.get_type();
            let message = format!("`{what}` is {class}; the variable holds texts");
            return Err(Failed::dtype(message).into());
        };
        return Ok(text.into_bytes());
    }
    let array = array::of_argument(given, dtype, what)?;
    if array.len() != 1 {
        let message = format!("`{what}` has {} elements, a value has one", array.len());
        return Err(Failed::shape(message).into());
    }
    let memory = Memory::of(&array, what)?;
    if memory.dtype != dtype {
        let message = format!("`{what}` is a {}, the variable holds {dtype}", memory.dtype);
        return Err(Failed::dtype(message).into());
    }
    // SAFETY: the one element of an array that is alive.
    let bytes = unsafe { std::slice::from_raw_parts(memory.first, dtype.size_bytes()) };
    Ok(bytes.to_vec())
}
