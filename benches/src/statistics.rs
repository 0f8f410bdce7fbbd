//! Medians and percentiles, and the memcpy that everything is compared with.

use std::hint::black_box;

use panta_transports::time::Time;

use crate::row::{Row, rounded};

/// What one memcpy moves: larger than any cache, so that it is cold.
const MEMCPY_BYTES: usize = 64 << 20;

/// The value that a share of the values stays below; 0 if there is none.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let place = (share * values.len() as f64).floor() as usize;
    values.get(place.min(last)).copied().unwrap_or(0.0)
}

/// The middle value; 0 if there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(&mut values.to_vec(), 0.5)
}

/// Sets the three percentiles of times in microseconds.
pub(crate) fn set_percentiles(row: &mut Row, mut times_us: Vec<f64>) {
    row.p50_us = Some(rounded(percentile(&mut times_us, 0.5)));
    row.p99_us = Some(rounded(percentile(&mut times_us, 0.99)));
    row.p999_us = Some(rounded(percentile(&mut times_us, 0.999)));
}

/// Seconds that `work` takes.
pub(crate) fn seconds(work: impl FnOnce()) -> f64 {
    let begin = Time::now();
    work();
    Time::now().since(begin).as_secs_f64()
}

/// One thread's memcpy of buffers that were touched before.
pub(crate) struct Memcpy {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Memcpy {
    /// Makes the buffers.
    pub(crate) fn new() -> Self {
        Self {
            from: (0..MEMCPY_BYTES).map(|index| (index / 7) as u8).collect(),
            to: vec![1; MEMCPY_BYTES],
        }
    }

    /// 10⁹ bytes a second, now.
    pub(crate) fn gb_per_s(&mut self) -> f64 {
        let (from, to) = (black_box(&self.from), black_box(&mut self.to));
        let seconds = seconds(|| to.copy_from_slice(from));
        MEMCPY_BYTES as f64 / seconds / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_thousand() {
        let mut values: Vec<f64> = (0..1000).map(f64::from).rev().collect();
        let mut at = |share| percentile(&mut values, share);
        assert_eq!([at(0.5), at(0.99), at(0.999)], [500.0, 990.0, 999.0]);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[]), 0.0);
    }
}
