//! What is measured of each step: extremes, a histogram, how much of the volume
//! lies above a threshold.
//!
//! Every rank measures its slab, then MPI combines. All that is combined are
//! extremes and counts, which do not depend on the order of combination: the
//! same data give the same bits on any number of ranks.

use mpi::collective::SystemOperation;
use mpi::traits::*;
use ndarray::ArrayView3;

/// Number of equal intervals between the smallest and the largest value.
pub(crate) const BINS: usize = 32;

/// What one step's field looks like, over the whole grid.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Statistics {
    /// The smallest value.
    pub(crate) min: f64,
    /// The largest value.
    pub(crate) max: f64,
    /// How many cells lie in each of [`BINS`] intervals from `min` to `max`.
    pub(crate) histogram: Vec<u64>,
    /// The share of cells above the threshold.
    pub(crate) volume_fraction: f64,
    /// Cells that hold no finite number, which nothing above counts.
    pub(crate) not_finite: u64,
    /// Changes if any bit of any value does.
    pub(crate) checksum: String,
}

/// Measures the field of which this rank holds `slab`, which starts at
/// `start` of a grid of `shape`. Collective.
pub(crate) fn measure(
    world: &impl CommunicatorCollectives,
    slab: ArrayView3<'_, f64>,
    start: [u64; 3],
    shape: [u64; 3],
    threshold: f64,
) -> Statistics {
    let (min, max) = extremes(slab);
    let (mut global_min, mut global_max) = (0.0, 0.0);
    world.all_reduce_into(&min, &mut global_min, SystemOperation::min());
    world.all_reduce_into(&max, &mut global_max, SystemOperation::max());

    let mut counts = count(slab, global_min, global_max, threshold);
    counts.push(checksum(slab, start, shape));
    let mut total = vec![0_u64; counts.len()];
    world.all_reduce_into(&counts[..], &mut total[..], SystemOperation::sum());
    summarise(&total, global_min, global_max)
}

/// The finite extremes of a slab; infinities the wrong way round if none.
fn extremes(slab: ArrayView3<'_, f64>) -> (f64, f64) {
    let finite = slab.iter().filter(|value| value.is_finite());
    finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| {
        (min.min(*value), max.max(*value))
    })
}

/// Counts of a slab: the bins, then cells above the threshold, then cells that
/// are not finite, then all cells.
fn count(slab: ArrayView3<'_, f64>, min: f64, max: f64, threshold: f64) -> Vec<u64> {
    let mut counts = vec![0_u64; BINS + 3];
    for value in slab {
        if value.is_finite() {
            let share = (value - min) / (max - min);
            // NaN where all values are equal; they go to the first bin.
            counts[((share * BINS as f64) as usize).min(BINS - 1)] += 1;
            counts[BINS] += u64::from(*value > threshold);
        } else {
            counts[BINS + 1] += 1;
        }
    }
    counts[BINS + 2] = slab.len() as u64;
    counts
}

fn summarise(total: &[u64], min: f64, max: f64) -> Statistics {
    let finite = total[BINS + 2] - total[BINS + 1];
    Statistics {
        min,
        max,
        histogram: total[..BINS].to_vec(),
        volume_fraction: if finite == 0 {
            0.0
        } else {
            total[BINS] as f64 / finite as f64
        },
        not_finite: total[BINS + 1],
        checksum: format!("{:016x}", total[BINS + 3]),
    }
}

/// The wrapping sum over the cells of a hash of (index in the grid, bits).
fn checksum(slab: ArrayView3<'_, f64>, start: [u64; 3], shape: [u64; 3]) -> u64 {
    let mut sum = 0_u64;
    for ((z, y, x), value) in slab.indexed_iter() {
        let [z, y, x] = [
            start[0] + z as u64,
            start[1] + y as u64,
            start[2] + x as u64,
        ];
        let index = (z * shape[1] + y) * shape[2] + x;
        sum = sum.wrapping_add(mix(mix(index) ^ value.to_bits()));
    }
    sum
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::{Array3, s};

    fn whole(field: &Array3<f64>, threshold: f64) -> Statistics {
        let (min, max) = extremes(field.view());
        let mut counts = count(field.view(), min, max, threshold);
        counts.push(checksum(field.view(), [0; 3], [4, 3, 2]));
        summarise(&counts, min, max)
    }

    #[test]
    fn a_known_field_is_measured_right() {
        let field = Array3::from_shape_fn((4, 3, 2), |(z, y, x)| (z * 6 + y * 2 + x) as f64);
        let found = whole(&field, 11.5);
        assert_eq!((found.min, found.max), (0.0, 23.0));
        assert_eq!(found.volume_fraction, 0.5);
        assert_eq!(found.histogram.iter().sum::<u64>(), 24);
        assert_eq!((found.histogram[0], found.histogram[BINS - 1]), (1, 1));
        // As computed by the demo's check, which shares no code with this.
        assert_eq!(found.checksum, "062e14bad7617ce6");
    }

    #[test]
    fn slabs_add_up_to_the_whole() {
        let field = Array3::from_shape_fn((4, 3, 2), |(z, y, x)| (z * y + x) as f64 * 0.3);
        let (left, right) = (field.slice(s![.., .., ..1]), field.slice(s![.., .., 1..]));
        let (min, max) = extremes(field.view());
        let sum = |one: Vec<u64>, other: Vec<u64>| -> Vec<u64> {
            one.iter()
                .zip(&other)
                .map(|(one, other)| one + other)
                .collect()
        };
        let parts = sum(count(left, min, max, 0.5), count(right, min, max, 0.5));
        assert_eq!(parts, count(field.view(), min, max, 0.5));
        let shape = [4, 3, 2];
        let parts =
            checksum(left, [0, 0, 0], shape).wrapping_add(checksum(right, [0, 0, 1], shape));
        assert_eq!(parts, checksum(field.view(), [0; 3], shape));
    }

    #[test]
    fn what_is_no_number_is_counted_apart() {
        let mut field = Array3::from_elem((4, 3, 2), 1.0);
        field[[0, 0, 0]] = f64::NAN;
        let found = whole(&field, 0.5);
        assert_eq!((found.not_finite, found.volume_fraction), (1, 1.0));
        assert_eq!(found.histogram[0], 23);
    }
}
