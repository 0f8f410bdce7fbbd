//! Arguments that pyo3 would refuse without their name.

use panta_core::model::BlockId;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use crate::failed::Failed;

/// A number from 0, which `what` names in errors; a bool is none.
pub(crate) fn number(given: &Bound<'_, PyAny>, what: &str) -> Result<u64, Failed> {
    given
        .extract()
        .ok()
        .filter(|_| !given.is_instance_of::<PyBool>())
        .ok_or_else(|| {
            let message = format!("`{what}` is {}; it is a number from 0", repr(given));
            Failed::new("ArgumentError", message)
        })
}

/// The number of a block.
pub(crate) fn block(given: &Bound<'_, PyAny>) -> Result<BlockId, Failed> {
    number(given, "block")
        .ok()
        .and_then(|number| u32::try_from(number).ok())
        .map(BlockId)
        .ok_or_else(|| {
            let message = format!(
                "`block` is {}; blocks are numbers from 0, in the order of `blocks`",
                repr(given)
            );
            Failed::new("NoSuchBlock", message)
        })
}

/// Sides of a shape or chunk; a number alone is one side.
pub(crate) fn sides(given: &Bound<'_, PyAny>, what: &str) -> Result<Vec<u64>, Failed> {
    if let Ok(side) = number(given, what) {
        return Ok(vec![side]);
    }
    given.extract().map_err(|_| {
        let message = format!(
            "`{what}` is {}; it is one number from 0 for each dimension",
            repr(given)
        );
        Failed::new("ArgumentError", message)
    })
}

/// Names, one for each dimension or coordinate; a text alone is one name.
pub(crate) fn names(given: &Bound<'_, PyAny>, what: &str) -> Result<Vec<String>, Failed> {
    let found = match given.cast::<PyString>() {
        Ok(name) => name.extract().map(|name| vec![name]),
        Err(_) => given.extract(),
    };
    found.map_err(|_| {
        let message = format!("`{what}` is {}; it is a list of names", repr(given));
        Failed::dtype(message)
    })
}

fn repr(given: &Bound<'_, PyAny>) -> String {
    given.repr().map_or_else(
        |_| given.get_type().to_string(),
        |repr| repr.to_string_lossy().into_owned(),
    )
}
