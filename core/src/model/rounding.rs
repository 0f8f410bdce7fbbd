//! Numbers rounded to the fewest bits that keep a bound, in place, tile by tile.
//!
//! ```text
//!   relative   1.mmmmmmmmmmmmmm     the same number of bits of every significand
//!                   └─ rounded off
//!   absolute   multiples of the largest power of two that is at most twice the bound:
//!              how many bits that are follows from each number's exponent
//! ```
//! The bits that go become zeros, to the nearest, ties to even (bit rounding: M. Klöwer
//! et al., "Compressing atmospheric data into its real information content", 2021). Signs are kept,
//! also of what becomes zero. Nothing here computes in floating point: what comes
//! out does not depend on the processor or on how the program set its rounding and its
//! subnormal numbers. Rounding what was rounded changes nothing.

use panta_transports::copy::TileVisit;

use super::accuracy::Accuracy;
use super::block::{Stats, StatsBuilder};
use super::dtype::DType;
use super::variable::Definition;

/// How the numbers of a block are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounding {
    wide: bool,
    to: To,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// So many bits fewer.
    Fewer(i32),
    /// Multiples of two to this power.
    Multiples(i32),
}

impl Rounding {
    /// The coarsest rounding that keeps `accuracy`; `None` where every bit is needed for it.
    #[must_use]
    pub fn new(accuracy: Accuracy, dtype: DType) -> Option<Self> {
        let complex = matches!(dtype, DType::C64 | DType::C128);
        let wide = matches!(dtype, DType::F64 | DType::C128);
        let to = match accuracy {
            // Half a unit of the last of n bits is 2^-(n + 1) of a number, at most.
            Accuracy::Relative(bound) => {
                let bits = -floor_log2(bound, false) - 1;
                let fewer = if wide { 52 } else { 23 } - bits;
                To::Fewer(Some(fewer).filter(|fewer| *fewer > 0)?)
            }
            Accuracy::Absolute(bound) => To::Multiples(floor_log2(bound, complex) + 1),
        };
        Some(Self { wide, to })
    }

    /// Rounds whole numbers, little-endian; what is left over is left alone.
    pub fn apply(self, bytes: &mut [u8]) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
                // SAFETY: the processor has what the function was made for.
                return unsafe { self.round_avx512(bytes) };
            }
            if has!("avx2") {
                // SAFETY: as above.
                return unsafe { self.round_avx2(bytes) };
            }
        }
        self.round(bytes);
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn round_avx512(self, bytes: &mut [u8]) {
        self.round(bytes);
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx2")]
    fn round_avx2(self, bytes: &mut [u8]) {
        self.round(bytes);
    }

    /// Compiled into each of its callers, for what the processor of each has.
    #[inline(always)]
    fn round(self, bytes: &mut [u8]) {
        match (self.wide, self.to) {
            (false, To::Fewer(bits)) => each32(bytes, |number| f32_bits::fewer(number, bits)),
            (true, To::Fewer(bits)) => {
                each64(bytes, |number| f64_bits::fewer(number, i64::from(bits)));
            }
            (false, To::Multiples(power)) => {
                each32(bytes, |number| f32_bits::multiples(number, power));
            }
            (true, To::Multiples(power)) => {
                each64(bytes, |number| {
                    f64_bits::multiples(number, i64::from(power))
                });
            }
        }
    }
}

/// The largest power of two that is at most `bound`, or its share of each part of a complex
/// number: over the square root of two.
fn floor_log2(bound: f64, complex: bool) -> i32 {
    let bits = bound.to_bits();
    let (exponent, mantissa) = ((bits >> 52) as i32 & 0x7ff, bits & ((1 << 52) - 1));
    let (power, significand) = if exponent == 0 {
        let shift = mantissa.leading_zeros() as i32 - 11;
        (-1022 - shift, mantissa << shift)
    } else {
        (exponent - 1023, mantissa)
    };
    let significand = f64::from_bits((1023 << 52) | (significand & ((1 << 52) - 1)));
    // The nearest number to the root lies above it: what is not below is above the root.
    power - i32::from(complex && significand < std::f64::consts::SQRT_2)
}

#[inline(always)]
fn each32(bytes: &mut [u8], rounded: impl Fn(u32) -> u32) {
    for raw in bytes.as_chunks_mut::<4>().0 {
        *raw = rounded(u32::from_le_bytes(*raw)).to_le_bytes();
    }
}

#[inline(always)]
fn each64(bytes: &mut [u8], rounded: impl Fn(u64) -> u64) {
    for raw in bytes.as_chunks_mut::<8>().0 {
        *raw = rounded(u64::from_le_bytes(*raw)).to_le_bytes();
    }
}

/// The two roundings of one width; without branches, so that they run many at a time.
macro_rules! rounding {
    ($name:ident, $bits:ident, $signed:ident, $mantissa:literal, $bias:literal) => {
        mod $name {
            const SIGN: $bits = 1 << ($bits::BITS - 1);
            const IMPLICIT: $bits = 1 << $mantissa;
            /// The exponent of what is not finite.
            const LAST: $bits = (1 << ($bits::BITS - 1 - $mantissa)) - 1;

            /// Off go `shift` bits, at least 1, to the nearest.
            #[inline(always)]
            fn nearest(significand: $bits, shift: $bits) -> $bits {
                let odd = (significand >> shift) & 1;
                let half = 1 << (shift - 1);
                ((significand + (half - 1) + odd) >> shift) << shift
            }

            /// `rounded` in the place of the significand, unless it is to be kept, or would
            /// no longer be finite.
            #[inline(always)]
            fn put_back(
                number: $bits,
                (significand, rounded): ($bits, $bits),
                keep: bool,
            ) -> $bits {
                let magnitude = number & !SIGN;
                let moved = magnitude - significand + rounded;
                let moved = if rounded == 0 { 0 } else { moved };
                let keep = keep | (magnitude >> $mantissa == LAST) | (moved >> $mantissa == LAST);
                (number & SIGN) | if keep { magnitude } else { moved }
            }

            #[inline(always)]
            pub(super) fn fewer(number: $bits, bits: $signed) -> $bits {
                let subnormal = (number & !SIGN) >> $mantissa == 0;
                let significand = (number & (IMPLICIT - 1)) | IMPLICIT;
                let rounded = nearest(significand, bits as $bits);
                // The significand of a subnormal number is not this one.
                let significand = if subnormal { 0 } else { significand };
                put_back(number, (significand, rounded), subnormal)
            }

            #[inline(always)]
            pub(super) fn multiples(number: $bits, power: $signed) -> $bits {
                let exponent = (number & !SIGN) >> $mantissa;
                let implicit = if exponent == 0 { 0 } else { IMPLICIT };
                let significand = (number & (IMPLICIT - 1)) | implicit;
                let unit = (exponent.max(1)) as $signed - ($bias + $mantissa);
                let shift = power - unit;
                // From two bits more than there are on, all go.
                let bits = shift.clamp(1, $mantissa + 2) as $bits;
                put_back(
                    number,
                    (significand, nearest(significand, bits)),
                    shift <= 0,
                )
            }
        }
    };
}

rounding!(f32_bits, u32, i32, 23, 127);
rounding!(f64_bits, u64, i64, 52, 1023);

/// What is done with the tiles of a block as they are captured: its numbers are rounded if
/// its variable has an accuracy, then the smallest and largest are looked for.
#[derive(Debug)]
pub struct BlockPass {
    rounding: Option<Rounding>,
    stats: StatsBuilder,
}

impl BlockPass {
    /// The pass over a block of this variable.
    #[must_use]
    pub fn new(definition: &Definition) -> Self {
        Self {
            rounding: definition.rounding(),
            stats: StatsBuilder::new(definition.dtype),
        }
    }

    /// The pass over a block whose numbers are rounded already.
    #[must_use]
    pub fn of_rounded(definition: &Definition) -> Self {
        Self {
            rounding: None,
            stats: StatsBuilder::new(definition.dtype),
        }
    }

    /// Smallest and largest of what is stored.
    #[must_use]
    pub fn finish(self) -> Option<Stats> {
        self.stats.finish()
    }
}

impl TileVisit for BlockPass {
    fn changes(&self) -> bool {
        self.rounding.is_some()
    }

    fn change(&mut self, tile: &mut [u8]) {
        if let Some(rounding) = self.rounding {
            rounding.apply(tile);
        }
    }

    fn look(&mut self, tile: &[u8]) {
        self.stats.add(tile);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn round64(accuracy: Accuracy, value: f64) -> f64 {
        let mut bytes = value.to_le_bytes();
        if let Some(rounding) = Rounding::new(accuracy, DType::F64) {
            rounding.apply(&mut bytes);
        }
        f64::from_le_bytes(bytes)
    }

    fn round32(accuracy: Accuracy, value: f32) -> f32 {
        let mut bytes = value.to_le_bytes();
        if let Some(rounding) = Rounding::new(accuracy, DType::F32) {
            rounding.apply(&mut bytes);
        }
        f32::from_le_bytes(bytes)
    }

    /// Bounds of every size: relative ones below 1.
    fn accuracies() -> impl Strategy<Value = Accuracy> {
        let positive = |bits: u64| f64::from_bits(bits % f64::INFINITY.to_bits()).max(5e-324);
        let ordinary = (1_u32..9999, -40_i32..40)
            .prop_map(|(digits, power)| f64::from(digits) * 10_f64.powi(power));
        prop_oneof![
            any::<u64>().prop_map(move |bits| Accuracy::Absolute(positive(bits))),
            ordinary.prop_map(Accuracy::Absolute),
            (1_u64..1 << 53).prop_map(|part| Accuracy::Relative(part as f64 / 2_f64.powi(53))),
            (-320_i32..0).prop_map(|power| Accuracy::Relative(10_f64.powi(power).max(5e-324))),
        ]
    }

    /// Any bits at all, and numbers that are about as large as bounds.
    fn values() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (any::<u64>(), 0_u64..2)
                .prop_map(|(bits, sign)| f64::from_bits((bits & ((1 << 52) - 1)) | sign << 63)),
            (any::<i32>(), -40_i32..40)
                .prop_map(|(digits, power)| f64::from(digits) * 10_f64.powi(power)),
            Just(f64::MAX),
            Just(f64::MIN_POSITIVE),
            Just(-0.0),
        ]
    }

    /// Whether `found` is as near to `value` as was asked for. Between numbers that are
    /// near each other, and where one is zero, the difference is exact.
    fn keeps(accuracy: Accuracy, value: f64, found: f64) -> bool {
        if !value.is_finite() {
            return value.to_bits() == found.to_bits();
        }
        let bound = match accuracy {
            Accuracy::Absolute(bound) => bound,
            Accuracy::Relative(bound) => bound * value.abs(),
        };
        found.is_finite()
            && (found - value).abs() <= bound
            && found.is_sign_negative() == value.is_sign_negative()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn every_number_keeps_the_bound_and_rounding_again_changes_nothing(
            accuracy in accuracies(), value in values(),
        ) {
            let found = round64(accuracy, value);
            prop_assert!(keeps(accuracy, value, found), "{value:e} became {found:e}");
            prop_assert_eq!(round64(accuracy, found).to_bits(), found.to_bits());
        }

        #[test]
        fn so_do_short_ones(accuracy in accuracies(), bits: u32, value in values()) {
            for value in [f32::from_bits(bits), value as f32] {
                let found = round32(accuracy, value);
                if value.is_nan() {
                    prop_assert_eq!(value.to_bits(), found.to_bits());
                    continue;
                }
                prop_assert!(
                    keeps(accuracy, value.into(), found.into()),
                    "{value:e} became {found:e}"
                );
                prop_assert_eq!(round32(accuracy, found).to_bits(), found.to_bits());
            }
        }

        #[test]
        fn complex_numbers_keep_the_bound_by_their_modulus(
            bound in 1e-6_f64..1e6, real in -1e7_f64..1e7, imaginary in -1e7_f64..1e7,
        ) {
            for accuracy in [Accuracy::Absolute(bound), Accuracy::Relative(bound / 1e7)] {
                let mut bytes = [real.to_le_bytes(), imaginary.to_le_bytes()].concat();
                if let Some(rounding) = Rounding::new(accuracy, DType::C128) {
                    rounding.apply(&mut bytes);
                }
                let part = |at: usize| f64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                let off = (part(0) - real).hypot(part(8) - imaginary);
                let bound = match accuracy {
                    Accuracy::Absolute(bound) => bound,
                    Accuracy::Relative(bound) => bound * real.hypot(imaginary),
                };
                prop_assert!(off <= bound, "off by {off:e}, allowed {bound:e}");
            }
        }

        #[test]
        fn every_processor_rounds_alike(
            accuracy in accuracies(), bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            for dtype in [DType::F32, DType::F64] {
                let Some(rounding) = Rounding::new(accuracy, dtype) else { continue };
                let (mut one, mut other) = (bytes.clone(), bytes.clone());
                rounding.apply(&mut one);
                rounding.round(&mut other);
                prop_assert_eq!(one, other);
            }
        }
    }

    #[test]
    fn as_many_bits_go_as_the_bound_allows() {
        let zeros = |accuracy, value| round64(accuracy, value).to_bits().trailing_zeros();
        // 2^-10 is the last power below 1e-3, so that multiples of 2^-9 are near enough.
        let third = 1.0 / 3.0;
        assert_eq!(round64(Accuracy::Absolute(1e-3), third), 171.0 / 512.0);
        assert_eq!(round64(Accuracy::Absolute(0.5), 1.5), 2.0);
        assert_eq!(round64(Accuracy::Absolute(0.5), 2.5), 2.0);
        assert_eq!(round64(Accuracy::Absolute(1.0), 1.0), 0.0);
        assert_eq!(
            round64(Accuracy::Absolute(1e300), -7.0).to_bits(),
            (-0.0_f64).to_bits()
        );
        // 2^-14 is the last power below 1e-4: 13 bits behind the first.
        assert!(zeros(Accuracy::Relative(1e-4), std::f64::consts::PI) >= 52 - 13);
        assert!(zeros(Accuracy::Relative(0.9), 1.75) >= 52);
        assert_eq!(Rounding::new(Accuracy::Relative(1e-16), DType::F64), None);
        assert_eq!(Rounding::new(Accuracy::Relative(1e-8), DType::F32), None);
    }

    #[test]
    fn what_would_become_infinite_is_kept() {
        for accuracy in [Accuracy::Relative(0.25), Accuracy::Absolute(1e300)] {
            assert_eq!(round64(accuracy, f64::MAX), f64::MAX);
            assert_eq!(round64(accuracy, -f64::MAX), -f64::MAX);
        }
        assert_eq!(round32(Accuracy::Relative(0.25), f32::MAX), f32::MAX);
    }

    #[test]
    fn roots_are_told_from_what_lies_beside_them() {
        let root = std::f64::consts::SQRT_2;
        assert_eq!(floor_log2(root, true), 0);
        assert_eq!(floor_log2(root.next_down(), true), -1);
        assert_eq!(floor_log2(5e-324, false), -1074);
        assert_eq!(floor_log2(5e-324, true), -1075);
        assert_eq!(floor_log2(f64::MIN_POSITIVE.next_down(), false), -1023);
        assert_eq!(floor_log2(f64::MAX, false), 1023);
    }
}
