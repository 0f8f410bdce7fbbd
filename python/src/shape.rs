//! Kinds and shapes, as `Writer.define` is given them.

use panta_core::model::{MAX_DIMS, ShapeKind};
use pyo3::prelude::*;

use crate::failed::Failed;

/// Kind and shape, from the arguments of `define`: along `None` an array is joined.
pub(crate) fn shaped(
    shape: Option<Vec<Option<u64>>>,
    kind: Option<&str>,
    ndim: Option<u64>,
) -> Result<(ShapeKind, Vec<u64>), Failed> {
    let wrong = |message: String| Err(Failed::new("ArgumentError", message));
    let axes: Vec<usize> = shape
        .iter()
        .flatten()
        .enumerate()
        .filter(|(_, side)| side.is_none())
        .map(|(axis, _)| axis)
        .collect();
    let sides = shape.as_ref().map(|shape| {
        shape
            .iter()
            .map(|side| side.unwrap_or(0))
            .collect::<Vec<_>>()
    });
    let is_array = shape.is_some() || ndim.is_some();
    let found = match kind {
        Some("local value") if !is_array => (ShapeKind::LocalValue, vec![]),
        Some("global value") if !is_array => (ShapeKind::GlobalValue, vec![]),
        Some("local value" | "global value") => {
            return wrong("a value has neither `shape` nor `ndim`".to_owned());
        }
        Some("local array") => match ndim {
            Some(ndim) if shape.is_none() && ndim <= MAX_DIMS as u64 => {
                (ShapeKind::LocalArray, vec![0; ndim as usize])
            }
            _ => {
                return wrong(format!(
                    "a local array has `ndim` dimensions, {MAX_DIMS} at most, and no `shape`"
                ));
            }
        },
        Some("global array" | "joined array") | None => match (sides, axes[..].first()) {
            (None, _) if kind.is_none() && ndim.is_none() => (ShapeKind::GlobalValue, vec![]),
            (None, _) => {
                let message = "an array has a `shape`; with `ndim` alone, say kind='local array'";
                return wrong(message.to_owned());
            }
            (Some(sides), None) if kind != Some("joined array") => (ShapeKind::GlobalArray, sides),
            (Some(sides), Some(axis)) if axes.len() == 1 && kind != Some("global array") => {
                (ShapeKind::JoinedArray { axis: *axis as u8 }, sides)
            }
            _ => {
                return wrong(format!(
                    "`shape` has {} sides that are None; a joined array has one, a global array none",
                    axes.len()
                ));
            }
        },
        Some(other) => {
            return wrong(format!(
                "`kind` is '{other}'; it is one of 'global array', 'local array', 'joined array', 'global value', 'local value'"
            ));
        }
    };
    Ok(found)
}

/// The sides of a shape: numbers, `None` where it is joined; a number alone is one side.
pub(crate) fn sides(given: &Bound<'_, PyAny>) -> Result<Vec<Option<u64>>, Failed> {
    if let Ok(side) = given.extract::<u64>() {
        return Ok(vec![Some(side)]);
    }
    given.extract().map_err(|_| {
        Failed::new(
            "ArgumentError",
            format!("`shape` is {given}; its sides are numbers from 0, or None where it is joined"),
        )
    })
}
