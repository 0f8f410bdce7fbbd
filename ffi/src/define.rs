//! Defining variables and attributes, from the next step on.

use std::ffi::c_char;

use panta_core::model::{Accuracy, Attribute, DType, Definition, ShapeKind};

use crate::caller::{Caller, dimensions, dtype, sides};
use crate::failed::Failed;
use crate::types::*;
use crate::writer::with_writer;

fn kind_of(given: &panta_definition) -> Result<ShapeKind, Failed> {
    Ok(match given.kind {
        PANTA_GLOBAL_ARRAY => ShapeKind::GlobalArray,
        PANTA_LOCAL_ARRAY => ShapeKind::LocalArray,
        PANTA_JOINED_ARRAY => ShapeKind::JoinedArray {
            axis: u8::try_from(given.joined_dimension).unwrap_or(u8::MAX),
        },
        PANTA_GLOBAL_VALUE => ShapeKind::GlobalValue,
        PANTA_LOCAL_VALUE => ShapeKind::LocalValue,
        other => {
            return Err(Failed::argument(format!(
                "`definition.kind` is {other}; it is one of PANTA_GLOBAL_ARRAY to PANTA_LOCAL_VALUE"
            )));
        }
    })
}

fn accuracy_of(given: &panta_definition) -> Result<Option<Accuracy>, Failed> {
    Ok(match (given.absolute_accuracy, given.relative_accuracy) {
        (0.0, 0.0) => None,
        (bound, 0.0) => Some(Accuracy::Absolute(bound)),
        (0.0, bound) => Some(Accuracy::Relative(bound)),
        _ => {
            return Err(Failed::argument(
                "`definition.absolute_accuracy` and `definition.relative_accuracy` are both set; leave one 0",
            ));
        }
    })
}

fn definition_of(caller: &Caller, given: &panta_definition) -> Result<Definition, Failed> {
    let count = dimensions(given.dimensions, "definition.dimensions")?;
    let kind = kind_of(given)?;
    let dtype = dtype(given.dtype, "definition.dtype")?;
    let mut shape = match kind {
        ShapeKind::LocalArray => vec![0; count],
        _ => sides(&given.shape[..count], "definition.shape")?.to_vec(),
    };
    if let ShapeKind::JoinedArray { axis } = kind
        && let Some(joined) = shape.get_mut(usize::from(axis))
    {
        *joined = 0;
    }
    let names = if given.dimension_names.is_null() {
        0
    } else {
        count
    };
    let fill = match (given.fill.is_null(), dtype) {
        (true, _) => None,
        (false, DType::Text) => {
            return Err(Failed::argument(
                "a text has no fill value; leave `definition.fill` NULL",
            ));
        }
        (false, _) => Some(
            caller
                .bytes(given.fill, dtype.size_bytes(), "definition.fill")?
                .to_vec(),
        ),
    };
    if dtype == DType::Bool && fill.as_ref().is_some_and(|fill| fill[0] > 1) {
        return Err(Failed::argument(
            "`definition.fill` is no bool: 0 and 1 are",
        ));
    }
    let chunk = if given.chunk.is_null() {
        None
    } else {
        Some(
            caller
                .sides(given.chunk, count, "definition.chunk")?
                .to_vec(),
        )
    };
    Ok(Definition {
        name: caller.text(given.name, "definition.name")?.to_owned(),
        dtype,
        kind,
        shape,
        dims: caller.texts(given.dimension_names, names, "definition.dimension_names")?,
        unit: caller
            .text_or_none(given.unit, "definition.unit")?
            .unwrap_or_default()
            .to_owned(),
        coordinates: caller.texts(
            given.coordinates,
            given.coordinates_count,
            "definition.coordinates",
        )?,
        fill,
        chunk,
        accuracy: accuracy_of(given)?,
    })
}

/// Defines a variable, from the next step on; local to this rank. Defining it
/// again alike gives the same variable; only its shape, chunk, unit, fill,
/// coordinates and accuracy may differ.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_define(
    writer: *mut panta_writer,
    definition: *const panta_definition,
    variable: *mut panta_variable,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_define") };
    caller.answer(|| {
        caller.check_place(variable, "variable")?;
        let given = caller.input(definition, "definition")?;
        let definition = definition_of(&caller, &given)?;
        let number = with_writer(writer, |state| {
            let index = state.session.define(definition)?;
            state.variables = state.variables.max(index + 1);
            Ok(u64::from(state.tag) << 32 | index as u64)
        })?;
        caller.give(variable, number, "variable")
    })
}

/// Promises that what is defined stays as it is: from now on the first
/// definition of a variable, another shape, or another attribute is
/// PANTA_ERROR_REDEFINED; local to this rank.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub extern "C" fn panta_freeze_definitions(writer: *mut panta_writer) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_freeze_definitions") };
    caller.answer(|| {
        with_writer(writer, |state| {
            state.session.freeze_definitions();
            Ok(())
        })
    })
}

/// Gives a global array another shape, of as many dimensions, from the next
/// step on. Every rank that defines the variable does the same.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_set_shape(
    writer: *mut panta_writer,
    variable: panta_variable,
    shape: *const i64,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_set_shape") };
    caller.answer(|| {
        with_writer(writer, |state| {
            let index = state.variable(variable)?;
            let count = state.session.definition(index).dimensions();
            let shape = caller.sides(shape, count, "shape")?;
            Ok(state.session.set_shape(index, shape)?)
        })
    })
}

fn set_attribute(
    caller: &Caller,
    writer: *mut panta_writer,
    variable: panta_variable,
    name: *const c_char,
    value: impl FnOnce() -> Result<Attribute, Failed>,
) -> Result<(), Failed> {
    let name = caller.text(name, "name")?;
    let value = value()?;
    with_writer(writer, |state| {
        let owner = match variable {
            PANTA_STREAM => None,
            variable => {
                let index = state.variable(variable)?;
                Some(state.session.definition(index).name.clone())
            }
        };
        Ok(state.session.set_attribute(owner.as_deref(), name, value)?)
    })
}

/// Sets an attribute of a variable, or with PANTA_STREAM of the stream, from
/// the next step on: a signed integer.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_set_attribute_i64(
    writer: *mut panta_writer,
    variable: panta_variable,
    name: *const c_char,
    value: i64,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_set_attribute_i64") };
    caller.answer(|| {
        set_attribute(&caller, writer, variable, name, || {
            Ok(Attribute::Int(value))
        })
    })
}

/// The same: an unsigned integer.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_set_attribute_u64(
    writer: *mut panta_writer,
    variable: panta_variable,
    name: *const c_char,
    value: u64,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_set_attribute_u64") };
    caller.answer(|| {
        set_attribute(&caller, writer, variable, name, || {
            Ok(Attribute::UInt(value))
        })
    })
}

/// The same: a floating-point number.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_set_attribute_f64(
    writer: *mut panta_writer,
    variable: panta_variable,
    name: *const c_char,
    value: f64,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_set_attribute_f64") };
    caller.answer(|| {
        set_attribute(&caller, writer, variable, name, || {
            Ok(Attribute::Float(value))
        })
    })
}

/// The same: a text.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_set_attribute_text(
    writer: *mut panta_writer,
    variable: panta_variable,
    name: *const c_char,
    value: *const c_char,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_set_attribute_text") };
    caller.answer(|| {
        set_attribute(&caller, writer, variable, name, || {
            Ok(Attribute::Text(caller.text(value, "value")?.to_owned()))
        })
    })
}

/// The same: an array of signed integers.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_set_attribute_i64s(
    writer: *mut panta_writer,
    variable: panta_variable,
    name: *const c_char,
    values: *const i64,
    count: usize,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_set_attribute_i64s") };
    caller.answer(|| {
        set_attribute(&caller, writer, variable, name, || {
            Ok(Attribute::Ints(
                caller.array(values, count, "values")?.to_vec(),
            ))
        })
    })
}

/// The same: an array of unsigned integers.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_set_attribute_u64s(
    writer: *mut panta_writer,
    variable: panta_variable,
    name: *const c_char,
    values: *const u64,
    count: usize,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_set_attribute_u64s") };
    caller.answer(|| {
        set_attribute(&caller, writer, variable, name, || {
            Ok(Attribute::UInts(
                caller.array(values, count, "values")?.to_vec(),
            ))
        })
    })
}

/// The same: an array of floating-point numbers.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_set_attribute_f64s(
    writer: *mut panta_writer,
    variable: panta_variable,
    name: *const c_char,
    values: *const f64,
    count: usize,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_set_attribute_f64s") };
    caller.answer(|| {
        set_attribute(&caller, writer, variable, name, || {
            Ok(Attribute::Floats(
                caller.array(values, count, "values")?.to_vec(),
            ))
        })
    })
}

/// The same: an array of texts.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_set_attribute_texts(
    writer: *mut panta_writer,
    variable: panta_variable,
    name: *const c_char,
    values: *const *const c_char,
    count: usize,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_set_attribute_texts") };
    caller.answer(|| {
        set_attribute(&caller, writer, variable, name, || {
            Ok(Attribute::Texts(caller.texts(values, count, "values")?))
        })
    })
}
