//! The data of the scenarios: a function of (variable, step, global index).

use std::fmt::Debug;

use ndarray::{ArrayD, ArrayViewD, IxDyn};
use panta::{Complex32, Complex64, Element};

/// An element type with a value for any 64 bits.
pub trait Cell: Element + PartialEq + Debug + Copy {
    /// The value; different bits mostly give different values, never a NaN.
    fn of(bits: u64) -> Self;
}

macro_rules! cells {
    ($($type:ty: $bits:ident => $value:expr;)*) => {
        $(impl Cell for $type {
            fn of($bits: u64) -> Self { $value }
        })*
    };
}

cells! {
    i8: bits => (bits >> 56) as i8;
    i16: bits => (bits >> 48) as i16;
    i32: bits => (bits >> 32) as i32;
    i64: bits => bits as i64;
    u8: bits => (bits >> 56) as u8;
    u16: bits => (bits >> 48) as u16;
    u32: bits => (bits >> 32) as u32;
    u64: bits => bits;
    f32: bits => (bits >> 40) as f32 - 8e6;
    f64: bits => (bits >> 11) as f64 * 1e-9 - 1e6;
    Complex32: bits => Complex32::new(f32::of(bits), f32::of(bits << 24));
    Complex64: bits => Complex64::new(f64::of(bits), f64::of(bits << 32));
    bool: bits => bits >> 63 == 1;
}

/// The bits of one element (the finaliser of splitmix64).
#[must_use]
pub fn bits(variable: &str, step: u64, index: u64) -> u64 {
    let seed = variable.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut bits: u64 = step
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(index)
        .wrapping_mul(0xd134_2543_de82_ef95)
        ^ seed;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// One element's value.
#[must_use]
pub fn cell<T: Cell>(variable: &str, step: u64, index: u64) -> T {
    T::of(bits(variable, step, index))
}

/// A text of a step, not all of it ASCII, of a length that varies.
#[must_use]
pub fn text(variable: &str, step: u64, index: u64) -> String {
    let bits = bits(variable, step, index);
    format!(
        "{variable} {step}·{index} {}",
        "ω".repeat((bits % 7) as usize)
    )
}

/// The row-major position of the cell `at` in an array of `shape`.
fn position(shape: &[u64], at: impl Iterator<Item = u64>) -> u64 {
    shape
        .iter()
        .zip(at)
        .fold(0, |position, (side, at)| position * side + at)
}

fn index_of(shape: &[u64], start: &[u64], within: &[usize]) -> u64 {
    position(
        shape,
        start
            .iter()
            .zip(within)
            .map(|(start, at)| start + *at as u64),
    )
}

/// The cells of the box at `start` of an array of `shape`.
#[must_use]
pub fn block<T: Cell>(
    variable: &str,
    step: u64,
    shape: &[u64],
    start: &[u64],
    count: &[u64],
) -> ArrayD<T> {
    let sides: Vec<usize> = count.iter().map(|side| *side as usize).collect();
    ArrayD::from_shape_fn(IxDyn(&sides), |within| {
        let within: Vec<usize> = (0..sides.len()).map(|d| within[d]).collect();
        cell(variable, step, index_of(shape, start, &within))
    })
}

/// Checks every cell of an array that was read at `start` of one of `shape`.
///
/// # Panics
/// If a cell is wrong; says which.
#[track_caller]
pub fn check<T: Cell>(
    variable: &str,
    step: u64,
    shape: &[u64],
    start: &[u64],
    read: ArrayViewD<'_, T>,
) {
    for (within, value) in read.indexed_iter() {
        let within: Vec<usize> = (0..shape.len()).map(|d| within[d]).collect();
        let wanted: T = cell(variable, step, index_of(shape, start, &within));
        assert_eq!(
            *value, wanted,
            "`{variable}`, step {step}: the cell {within:?} of the box at {start:?}"
        );
    }
}
