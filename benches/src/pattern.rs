//! Values that depend on step and place, cheap to make and to check.
//!
//! All are floats in 1 to 2, so that statistics over them are ordinary work.

use ndarray::Array1;

use crate::error::BenchError;

const ONE: u64 = 0x3FF0_0000_0000_0000;
const FRACTION: u64 = (1 << 52) - 1;

fn value(step: u64, index: u64) -> u64 {
    ONE | (step.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(index) & FRACTION)
}

/// Fills `field`, whose first element has the place `first`.
pub(crate) fn fill(field: &mut [f64], step: u64, first: u64) {
    for (element, index) in field.iter_mut().zip(first..) {
        *element = f64::from_bits(value(step, index));
    }
}

/// Looks at every element.
///
/// # Errors
/// [`BenchError::WrongData`] naming the first that differs.
pub(crate) fn check(field: &[f64], step: u64, first: u64, place: &str) -> Result<(), BenchError> {
    let differing = field.iter().zip(first..).fold(0, |all, (element, index)| {
        all | (element.to_bits() ^ value(step, index))
    });
    if differing == 0 {
        return Ok(());
    }
    let mut each = field.iter().zip(first..);
    let element = each.position(|(element, index)| element.to_bits() != value(step, index));
    Err(BenchError::WrongData {
        place: place.to_owned(),
        step,
        element: element.unwrap_or(0),
    })
}

/// How many arrays a writer that puts has made before it is timed.
pub(crate) const FIELDS: u64 = 2;

/// Arrays made beforehand and put in turn: what a put costs is then timed, not what
/// making values costs. Neighbouring steps have different values.
pub(crate) struct Fields(Vec<Array1<f64>>);

impl Fields {
    /// Arrays of so many elements.
    pub(crate) fn new(elements: usize) -> Self {
        let made = (0..FIELDS).map(|step| {
            let mut field = vec![0.0; elements];
            fill(&mut field, step, 0);
            Array1::from(field)
        });
        Self(made.collect())
    }

    /// The array that is put in a step.
    pub(crate) fn array(&self, step: u64) -> &Array1<f64> {
        &self.0[(step % FIELDS) as usize]
    }

    /// The same as a slice.
    pub(crate) fn of(&self, step: u64) -> &[f64] {
        self.array(step).as_slice().unwrap_or_default()
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|field| field.len() as u64 * 8).sum()
    }
}

/// Looks at every element of a step, whose values are those of [`Fields`] if `premade`.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_as(
    field: &[f64],
    step: u64,
    premade: bool,
    place: &str,
) -> Result<(), BenchError> {
    check(field, if premade { step % FIELDS } else { step }, 0, place)
}

/// Floats as bytes.
pub(crate) fn bytes(values: &[f64]) -> &[u8] {
    // SAFETY: floats are plain data without padding, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_wrong_bit_is_found() {
        let mut field = vec![0.0; 1000];
        fill(&mut field, 7, 30);
        check(&field, 7, 30, "here").unwrap();
        assert!(check(&field, 8, 30, "here").is_err());
        assert!(check(&field, 7, 31, "here").is_err());
        field[421] = f64::from_bits(field[421].to_bits() ^ 1);
        let error = check(&field, 7, 30, "here").unwrap_err();
        assert!(
            matches!(error, BenchError::WrongData { element: 421, .. }),
            "{error}"
        );
    }
}
