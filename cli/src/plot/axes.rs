//! Where ticks go, what they say, and which interval a plot covers.

/// The smallest and largest finite value; 0 to 1 if there is none, and widened
/// if they are equal, so that an interval always has a length.
pub(super) fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let finite = values.into_iter().filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return (0.0, 1.0);
    }
    if low == high {
        let half = if low == 0.0 { 0.5 } else { low.abs() * 0.05 };
        return (low - half, high + half);
    }
    (low, high)
}

/// Round numbers within `low..=high`, at most `most` of them: P. Heckbert,
/// *Nice Numbers for Graph Labels*, Graphics Gems, 1990.
pub(super) fn ticks(low: f64, high: f64, most: usize) -> Vec<f64> {
    let rough = (high - low) / most.max(1) as f64;
    if !rough.is_normal() {
        return vec![low];
    }
    let power = 10_f64.powf(rough.log10().floor());
    let apart = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let apart = apart
        .into_iter()
        .find(|&apart| apart >= rough)
        .unwrap_or(10.0 * power);
    let first = (low / apart - 1e-9).ceil();
    let last = (high / apart + 1e-9).floor();
    (0..=most)
        .map(|index| (first + index as f64) * apart)
        .take_while(|&tick| tick <= last * apart + 1e-9 * apart)
        .collect()
}

/// What the ticks say, all with as many digits as tell them apart.
pub(super) fn labels(ticks: &[f64]) -> Vec<String> {
    let largest = ticks
        .iter()
        .fold(0.0_f64, |most, tick| most.max(tick.abs()));
    let apart = match ticks {
        [first, second, ..] => (second - first).abs(),
        _ => largest / 10.0,
    };
    if largest != 0.0 && !(1e-4..1e6).contains(&largest) {
        let digits = (largest.log10().floor() - apart.log10().floor()).clamp(0.0, 6.0) as usize;
        return ticks
            .iter()
            .map(|tick| format!("{tick:.digits$e}"))
            .collect();
    }
    let digits = (-apart.log10().floor()).clamp(0.0, 9.0);
    let digits = if digits.is_finite() {
        digits as usize
    } else {
        0
    };
    // Adding zero turns -0 into 0.
    ticks
        .iter()
        .map(|tick| format!("{:.digits$}", tick + 0.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_interval() {
        assert_eq!(
            labels(&ticks(0.0, 1.0, 5)),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            labels(&ticks(0.0, 63.0, 8)),
            ["0", "10", "20", "30", "40", "50", "60"]
        );
        assert_eq!(labels(&ticks(-0.03, 0.03, 4)), ["-0.02", "0.00", "0.02"]);
        assert_eq!(
            labels(&ticks(1e-9, 5e-9, 5)),
            ["1e-9", "2e-9", "3e-9", "4e-9", "5e-9"]
        );
    }

    #[test]
    fn an_interval_without_length_is_widened() {
        assert_eq!(range([2.0, 2.0]), (1.9, 2.1));
        assert_eq!(range([f64::NAN, f64::INFINITY]), (0.0, 1.0));
        assert_eq!(range([0.0]), (-0.5, 0.5));
        assert_eq!(range([1.0, f64::NAN, -4.0]), (-4.0, 1.0));
    }
}
