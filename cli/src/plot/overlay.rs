//! Lines over a plane, in the colours of whoever owns them, with a legend.

use super::canvas::{Align, Canvas, Colour, text_width};
use super::colours::{CURVES, INK, PAPER};

/// One straight line, or a dot where both ends are one, in cells of the plane:
/// (column, row), the middle of the first cell at (0, 0).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// Where it begins.
    pub from: (f64, f64),
    /// Where it ends.
    pub to: (f64, f64),
    /// The place of its owner in the legend, which says its colour.
    pub owner: usize,
}

/// What is drawn over a plane.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overlay<'a> {
    /// The lines.
    pub stretches: &'a [Stretch],
    /// The owners' names; colours repeat after the twelfth.
    pub legend: &'a [String],
}

const TEXT_SIZE: f32 = 16.0;
/// Height of one line of the legend.
const LINE: i64 = 26;

/// The colours of curves, and after them darker ones.
fn colour(owner: usize) -> Colour {
    let Colour(red, green, blue) = CURVES[owner % CURVES.len()];
    let darker = |part: u8| part / 5 * 2;
    match owner / CURVES.len() % 2 {
        0 => Colour(red, green, blue),
        _ => Colour(darker(red), darker(green), darker(blue)),
    }
}

/// Rows of the legend: which names stand in each.
fn rows(legend: &[String], width: i64) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut used = f64::INFINITY;
    for (place, name) in legend.iter().enumerate() {
        let needed = text_width(name, TEXT_SIZE) + 44.0;
        if used + needed > width as f64 {
            rows.push(Vec::new());
            used = 0.0;
        }
        used += needed;
        if let Some(row) = rows.last_mut() {
            row.push(place);
        }
    }
    rows
}

/// How tall the legend is.
pub(super) fn legend_height(legend: &[String], width: i64) -> i64 {
    rows(legend, width).len() as i64 * LINE
}

/// Draws the lines; `place` turns cells of the plane into pixels.
pub(super) fn draw(
    canvas: &mut Canvas,
    overlay: &Overlay<'_>,
    place: impl Fn((f64, f64)) -> (f64, f64),
) {
    // White below, so that a line stands out from whatever it crosses.
    for (width, white) in [(6.0, true), (3.0, false)] {
        for stretch in overlay.stretches {
            let ends = [place(stretch.from), place(stretch.to)];
            let dot = if stretch.from == stretch.to { 3.0 } else { 0.0 };
            let ink = if white { PAPER } else { colour(stretch.owner) };
            canvas.segment(ends, width + dot, ink);
        }
    }
}

/// Draws the legend in the rectangle from (`left`, `top`), `width` wide.
pub(super) fn draw_legend(canvas: &mut Canvas, legend: &[String], left: i64, top: i64, width: i64) {
    for (line, row) in rows(legend, width).into_iter().enumerate() {
        let mut x = left as f64;
        let y = top + line as i64 * LINE;
        for owner in row {
            canvas.fill(x as i64, y, 16, 16, colour(owner));
            canvas.text(
                &legend[owner],
                (x + 24.0, (y + 14) as f64),
                TEXT_SIZE,
                Align::Start,
                INK,
            );
            x += text_width(&legend[owner], TEXT_SIZE) + 44.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_owners_have_colours_of_their_own() {
        let mut seen = Vec::new();
        for owner in 0..12 {
            assert!(!seen.contains(&colour(owner)), "{owner}");
            seen.push(colour(owner));
        }
    }

    #[test]
    fn a_legend_is_broken_into_rows_that_fit() {
        let legend: Vec<String> = (0..20).map(|id| format!("server {id}")).collect();
        let rows = rows(&legend, 600);
        assert!(rows.len() > 1);
        assert_eq!(rows.concat(), (0..20).collect::<Vec<_>>());
    }
}
