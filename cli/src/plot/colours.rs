//! The colours of plots.

use super::canvas::Colour;
use super::viridis::VIRIDIS;

/// Behind everything.
pub(super) const PAPER: Colour = Colour(255, 255, 255);
/// Text and frames.
pub(super) const INK: Colour = Colour(38, 38, 44);
/// Grid lines.
pub(super) const GRID: Colour = Colour(228, 228, 232);
/// Cells that hold no number.
pub(super) const MISSING: Colour = Colour(200, 200, 200);
/// Curves, in order: M. Okabe and K. Ito's set for all kinds of colour vision.
pub(super) const CURVES: [Colour; 6] = [
    Colour(0, 114, 178),
    Colour(213, 94, 0),
    Colour(0, 158, 115),
    Colour(204, 121, 167),
    Colour(230, 159, 0),
    Colour(86, 180, 233),
];

/// The colour of `value` between `low` and `high`; grey if it is NaN.
pub(super) fn of(value: f64, low: f64, high: f64) -> Colour {
    if value.is_nan() {
        return MISSING;
    }
    let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
    let share = if share.is_nan() { 0.5 } else { share };
    let [red, green, blue] = VIRIDIS[(share * 255.0).round() as usize];
    Colour(red, green, blue)
}

/// Half way to the paper, so that lines stand out.
pub(super) fn paler(colour: Colour) -> Colour {
    let half = |part: u8| part / 2 + 128;
    Colour(half(colour.0), half(colour.1), half(colour.2))
}
