//! How exact the numbers of a variable are kept: the loss that its writer allowed.
//!
//! Numbers are rounded when they are put, to the fewest bits that keep the bound, so that
//! what is stored and moved is what readers get, on every engine; the zeros behind those
//! bits are what a lossless compression then makes small. See [`Rounding`](super::Rounding).

use super::DType;

/// How far a number that is read may be from the one that was put.
///
/// Of a complex number it bounds the modulus of the difference. Infinities and what is no
/// number are kept as they are; no finite number becomes infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Accuracy {
    /// By at most this, in the unit of the elements.
    Absolute(f64),
    /// By at most this part of the number itself; numbers below the smallest normal one are
    /// kept as they are.
    Relative(f64),
}

impl Accuracy {
    /// The bound, of whichever kind.
    #[must_use]
    pub fn bound(self) -> f64 {
        match self {
            Self::Absolute(bound) | Self::Relative(bound) => bound,
        }
    }

    /// What is wrong with it for elements of `dtype`; `None` if nothing.
    pub(super) fn problem(self, dtype: DType) -> Option<String> {
        let bound = self.bound();
        if !matches!(dtype, DType::F32 | DType::F64 | DType::C64 | DType::C128) {
            return Some(format!(
                "it has an accuracy, but a {dtype} is kept exactly; only floating point is rounded"
            ));
        }
        if !bound.is_finite() || bound <= 0.0 {
            return Some(format!(
                "its accuracy {bound} must be a number above 0; leave it out to keep every bit"
            ));
        }
        (matches!(self, Self::Relative(_)) && bound >= 1.0).then(|| {
            format!("its relative accuracy {bound} must be below 1, as 1e-4 for four digits")
        })
    }
}

impl std::fmt::Display for Accuracy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absolute(bound) => write!(formatter, "±{bound:e}"),
            Self::Relative(bound) => write!(formatter, "±{bound:e} of each"),
        }
    }
}
