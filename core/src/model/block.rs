//! Blocks: the hyper-rectangles that ranks put, and what is known of their values.

use super::dtype::DType;

/// A block of one variable within one step: its place in the list that
/// `blocks` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// One number for each dimension; up to six without an allocation.
pub type Dims = smallvec::SmallVec<[u64; 6]>;

/// Where one block lies and who put it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The rank that put it.
    pub rank: u32,
    /// Its place among that rank's puts of the step, over all variables.
    pub order: u32,
    /// First cell per dimension, slowest first. Zeros for local arrays;
    /// resolved offsets for joined ones; empty for values.
    pub start: Vec<u64>,
    /// Cells per dimension; empty for values.
    pub count: Vec<u64>,
}

/// A block as readers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockInfo {
    /// Its identity within variable and step.
    pub id: BlockId,
    /// Where it lies and who put it.
    pub block: Block,
    /// Smallest and largest value; `None` where order has no meaning or nothing was put.
    pub stats: Option<Stats>,
}

/// A number of any numeric dtype, for statistics.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Number {
    /// Of a signed type.
    Int(i64),
    /// Of an unsigned type or bool.
    UInt(u64),
    /// Of a floating-point type.
    Float(f64),
}

impl Number {
    /// The number as a float, rounded if need be.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "asked for as a float, for display and plots"
    )]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::UInt(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

/// What is known of a block's values without reading them. NaNs take no part
/// in `min` and `max`; they are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// The smallest value.
    pub min: Number,
    /// The largest value.
    pub max: Number,
    /// Elements that are not a number.
    pub nans: u64,
}

impl Stats {
    /// The statistics of two sets of values taken together.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let min = if other.min < self.min {
            other.min
        } else {
            self.min
        };
        let max = if other.max > self.max {
            other.max
        } else {
            self.max
        };
        Self {
            min,
            max,
            nans: self.nans + other.nans,
        }
    }
}

/// Gathers [`Stats`] from pieces of a block's bytes while they are in cache.
#[derive(Debug)]
pub struct StatsBuilder {
    dtype: DType,
    stats: Option<Stats>,
    nans: u64,
}

macro_rules! scan_integers {
    ($self:ident, $bytes:ident, $rust:ty, $variant:ident, $wide:ty) => {{
        let (mut min, mut max) = (<$rust>::MAX, <$rust>::MIN);
        let mut any = false;
        for raw in $bytes.chunks_exact(size_of::<$rust>()) {
            let value = <$rust>::from_le_bytes(raw.try_into().unwrap_or_default());
            min = min.min(value);
            max = max.max(value);
            any = true;
        }
        if any {
            $self.merge(
                Number::$variant(<$wide>::from(min)),
                Number::$variant(<$wide>::from(max)),
            );
        }
    }};
}

/// Elements that are looked at side by side: each lane has a smallest and largest of its
/// own, so that no comparison waits for the one before.
const LANES: usize = 16;

macro_rules! scan_floats {
    ($self:ident, $bytes:ident, $rust:ty) => {{
        const WIDTH: usize = size_of::<$rust>();
        let (mut min, mut max) = ([<$rust>::INFINITY; LANES], [<$rust>::NEG_INFINITY; LANES]);
        let mut nans = [0_u64; LANES];
        let mut look = |lane: usize, raw: &[u8]| {
            let value = <$rust>::from_le_bytes(raw.try_into().unwrap_or_default());
            min[lane] = if value < min[lane] { value } else { min[lane] };
            max[lane] = if value > max[lane] { value } else { max[lane] };
            nans[lane] += u64::from(value.is_nan());
        };
        let mut groups = $bytes.chunks_exact(WIDTH * LANES);
        for group in &mut groups {
            for (lane, raw) in group.chunks_exact(WIDTH).enumerate() {
                look(lane, raw);
            }
        }
        for raw in groups.remainder().chunks_exact(WIDTH) {
            look(0, raw);
        }
        let nans = nans.iter().sum::<u64>();
        $self.nans += nans;
        if nans < ($bytes.len() / WIDTH) as u64 {
            let min = min.into_iter().fold(<$rust>::INFINITY, <$rust>::min);
            let max = max.into_iter().fold(<$rust>::NEG_INFINITY, <$rust>::max);
            // Of two zeros the lanes would say which: there is one.
            $self.merge(
                Number::Float(f64::from(min) + 0.0),
                Number::Float(f64::from(max) + 0.0),
            );
        }
    }};
}

impl StatsBuilder {
    /// Statistics for elements of `dtype`.
    #[must_use]
    pub fn new(dtype: DType) -> Self {
        Self {
            dtype,
            stats: None,
            nans: 0,
        }
    }

    /// Takes in whole elements, little-endian.
    pub fn add(&mut self, bytes: &[u8]) {
        // With what every x86-64 has, this would take as long as the checksum.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
                // SAFETY: the processor has what the function was made for.
                return unsafe { self.scan_avx512(bytes) };
            }
            if has!("avx2") {
                // SAFETY: as above.
                return unsafe { self.scan_avx2(bytes) };
            }
        }
        self.scan(bytes);
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn scan_avx512(&mut self, bytes: &[u8]) {
        self.scan(bytes);
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx2")]
    fn scan_avx2(&mut self, bytes: &[u8]) {
        self.scan(bytes);
    }

    /// Compiled into each of its callers, for what the processor of each has.
    #[inline(always)]
    fn scan(&mut self, bytes: &[u8]) {
        match self.dtype {
            DType::I8 => scan_integers!(self, bytes, i8, Int, i64),
            DType::I16 => scan_integers!(self, bytes, i16, Int, i64),
            DType::I32 => scan_integers!(self, bytes, i32, Int, i64),
            DType::I64 => scan_integers!(self, bytes, i64, Int, i64),
            DType::U8 | DType::Bool => scan_integers!(self, bytes, u8, UInt, u64),
            DType::U16 => scan_integers!(self, bytes, u16, UInt, u64),
            DType::U32 => scan_integers!(self, bytes, u32, UInt, u64),
            DType::U64 => scan_integers!(self, bytes, u64, UInt, u64),
            DType::F32 => scan_floats!(self, bytes, f32),
            DType::F64 => scan_floats!(self, bytes, f64),
            DType::C64 | DType::C128 | DType::Text => {}
        }
    }

    fn merge(&mut self, min: Number, max: Number) {
        let new = Stats { min, max, nans: 0 };
        self.stats = Some(self.stats.map_or(new, |old| old.merged(new)));
    }

    /// What was gathered; `None` if there was no number to order.
    #[must_use]
    pub fn finish(self) -> Option<Stats> {
        self.stats.map(|stats| Stats {
            nans: self.nans,
            ..stats
        })
    }
}

/// The number of cells in a box; saturates.
#[must_use]
pub fn cells(count: &[u64]) -> u64 {
    count
        .iter()
        .fold(1, |cells: u64, side| cells.saturating_mul(*side))
}

/// The common part of two boxes of equal dimension, as (start, count); `None`
/// if they share no cell.
#[must_use]
pub fn intersect(a: (&[u64], &[u64]), b: (&[u64], &[u64])) -> Option<(Vec<u64>, Vec<u64>)> {
    let mut start = Vec::with_capacity(a.0.len());
    let mut count = Vec::with_capacity(a.0.len());
    for dimension in 0..a.0.len() {
        let low = a.0[dimension].max(b.0[dimension]);
        let high = (a.0[dimension] + a.1[dimension]).min(b.0[dimension] + b.1[dimension]);
        if low >= high {
            return None;
        }
        start.push(low);
        count.push(high - low);
    }
    Some((start, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nans_are_counted_and_take_no_part_in_the_order() {
        let values = [f64::NAN, 2.0, -1.0, f64::NAN];
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let mut builder = StatsBuilder::new(DType::F64);
        builder.add(&bytes[..8]);
        builder.add(&bytes[8..]);
        let stats = builder.finish();
        assert_eq!(
            stats,
            Some(Stats {
                min: Number::Float(-1.0),
                max: Number::Float(2.0),
                nans: 2
            })
        );
    }

    #[test]
    fn every_processor_finds_the_same() {
        let bytes: Vec<u8> = (0..4099_u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        for dtype in DType::ALL.into_iter().filter(|it| it.size_bytes() > 0) {
            let whole = bytes.len() / dtype.size_bytes() * dtype.size_bytes();
            let (mut one, mut other) = (StatsBuilder::new(dtype), StatsBuilder::new(dtype));
            one.add(&bytes[..whole]);
            other.scan(&bytes[..whole]);
            assert_eq!(one.finish(), other.finish(), "{dtype}");
        }
    }

    #[test]
    fn floats_in_every_lane_are_seen_and_zeros_have_no_sign() {
        for place in 0..3 * LANES + 5 {
            let mut values = vec![1.5_f32; 3 * LANES + 5];
            values[place] = -7.0;
            values[(place + 1) % (3 * LANES + 5)] = 9.0;
            values[(place + 2) % (3 * LANES + 5)] = f32::NAN;
            let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
            let mut builder = StatsBuilder::new(DType::F32);
            builder.add(&bytes);
            let expected = Stats {
                min: Number::Float(-7.0),
                max: Number::Float(9.0),
                nans: 1,
            };
            assert_eq!(builder.finish(), Some(expected), "{place}");
        }
        let mut builder = StatsBuilder::new(DType::F64);
        builder.add(&(-0.0_f64).to_le_bytes());
        let Some(Stats {
            min: Number::Float(min),
            ..
        }) = builder.finish()
        else {
            panic!("a zero is a number");
        };
        assert!(min.is_sign_positive());
    }

    #[test]
    fn integers_keep_all_their_bits() {
        let mut builder = StatsBuilder::new(DType::U64);
        builder.add(&u64::MAX.to_le_bytes());
        builder.add(&(u64::MAX - 1).to_le_bytes());
        let stats = builder.finish();
        assert_eq!(
            stats,
            Some(Stats {
                min: Number::UInt(u64::MAX - 1),
                max: Number::UInt(u64::MAX),
                nans: 0
            })
        );
    }

    #[test]
    fn boxes_that_touch_share_no_cell() {
        assert_eq!(intersect((&[0], &[4]), (&[4], &[4])), None);
        assert_eq!(
            intersect((&[0, 0], &[4, 4]), (&[2, 3], &[9, 9])),
            Some((vec![2, 3], vec![2, 1]))
        );
    }
}
