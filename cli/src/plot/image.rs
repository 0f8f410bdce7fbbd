//! A plane of an array as coloured cells, with axes and a colour bar.

use super::canvas::{Align, Canvas, text_width};
use super::colours::{self, INK, PAPER};
use super::overlay::{self, Overlay};
use super::{PlotError, VALUES_LIMIT, axes};

/// What an image shows. Fields left at their default are left out.
#[derive(Clone, Copy, Default)]
pub struct Image<'a> {
    /// Above the plane.
    pub title: &'a str,
    /// Under the plane: the name of the columns' dimension.
    pub x_label: &'a str,
    /// Beside the plane: the name of the rows' dimension.
    pub y_label: &'a str,
    /// Beside the colour bar: name and unit of the values.
    pub value_label: &'a str,
    /// The values, row by row; the first row is drawn at the bottom.
    pub values: &'a [f64],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// The values of the darkest and the brightest colour; those of the plane
    /// itself if not given.
    pub range: Option<(f64, f64)>,
    /// Lines over the plane, which is drawn paler then.
    pub overlay: Option<Overlay<'a>>,
}

/// The longer side of a plane, in pixels, up to rounding.
const SIDE: usize = 640;
const TOP: i64 = 60;
const BOTTOM: i64 = 70;
const LEFT: i64 = 84;
const BAR_GAP: i64 = 26;
const BAR_WIDTH: i64 = 22;
const TITLE_SIZE: f32 = 24.0;
const LABEL_SIZE: f32 = 19.0;
const TICK_SIZE: f32 = 16.0;

/// Draws a plane.
///
/// # Errors
/// [`PlotError::Shape`] and [`PlotError::TooLarge`].
pub fn image(image: &Image<'_>) -> Result<Canvas, PlotError> {
    let Image {
        values,
        rows,
        columns,
        ..
    } = *image;
    if values.is_empty() || rows.checked_mul(columns) != Some(values.len()) {
        return Err(PlotError::Shape {
            values: values.len(),
            rows,
            columns,
        });
    }
    if values.len() > VALUES_LIMIT {
        return Err(PlotError::TooLarge {
            values: values.len(),
        });
    }
    let (width, height) = picture_size(rows, columns);
    let (low, high) = image
        .range
        .unwrap_or_else(|| axes::range(values.iter().copied()));

    let ticks = axes::ticks(low, high, 6);
    let labels = axes::labels(&ticks);
    let widest = labels
        .iter()
        .map(|label| text_width(label, TICK_SIZE))
        .fold(0.0, f64::max);
    let bar_labels_end = LEFT + width + BAR_GAP + BAR_WIDTH + 12 + widest.ceil() as i64;
    let margin = if image.value_label.is_empty() { 20 } else { 44 };
    let total = (bar_labels_end + margin) as usize;
    let legend = image.overlay.map_or(&[][..], |overlay| overlay.legend);
    let legend_width = total as i64 - LEFT - 20;
    let below = BOTTOM + overlay::legend_height(legend, legend_width);
    let mut canvas = Canvas::new(total, (TOP + height + below) as usize, PAPER);

    draw_cells(&mut canvas, image, (width, height), (low, high));
    if let Some(overlay) = &image.overlay {
        let place = |(column, row): (f64, f64)| {
            let across = (column + 0.5) / columns as f64 * width as f64;
            let up = (row + 0.5) / rows as f64 * height as f64;
            (LEFT as f64 + across, (TOP + height) as f64 - up)
        };
        overlay::draw(&mut canvas, overlay, place);
        overlay::draw_legend(
            &mut canvas,
            legend,
            LEFT,
            TOP + height + BOTTOM,
            legend_width,
        );
    }
    draw_axes(&mut canvas, image, (width, height));
    let bar = LEFT + width + BAR_GAP;
    draw_bar(&mut canvas, bar, height, (low, high), &ticks, &labels);
    let beside = ((bar_labels_end + 26) as f64, (TOP + height / 2) as f64);
    canvas.text_upwards(image.value_label, beside, LABEL_SIZE, Align::Middle, INK);
    Ok(canvas)
}

/// Width and height of the plane in pixels: cells enlarged by a whole number
/// where they are fewer than pixels, so that all look alike; the aspect of the
/// array is kept unless it is extreme.
fn picture_size(rows: usize, columns: usize) -> (i64, i64) {
    let longer = rows.max(columns);
    let side = |cells: usize| {
        if longer <= SIDE {
            cells * (SIDE / longer)
        } else {
            (cells as f64 * SIDE as f64 / longer as f64).round() as usize
        }
    };
    let readable = |pixels: usize| pixels.max(120) as i64;
    (readable(side(columns)), readable(side(rows)))
}

fn draw_cells(canvas: &mut Canvas, image: &Image<'_>, size: (i64, i64), range: (f64, f64)) {
    let (width, height) = (size.0 as usize, size.1 as usize);
    // The cells a pixel shows: one, or several where they are more than pixels.
    let cells = |pixel: usize, pixels: usize, count: usize| {
        let first = pixel * count / pixels;
        first..((pixel + 1) * count / pixels).max(first + 1)
    };
    for y in 0..height {
        let rows = cells(height - 1 - y, height, image.rows);
        for x in 0..width {
            let (mut sum, mut number) = (0.0, 0_u32);
            for row in rows.clone() {
                let start = row * image.columns;
                for column in cells(x, width, image.columns) {
                    sum += image.values[start + column];
                    number += 1;
                }
            }
            let mut colour = colours::of(sum / f64::from(number), range.0, range.1);
            if image.overlay.is_some() {
                colour = colours::paler(colour);
            }
            canvas.fill(LEFT + x as i64, TOP + y as i64, 1, 1, colour);
        }
    }
    canvas.frame(LEFT, TOP, size.0, size.1, INK);
}

fn draw_axes(canvas: &mut Canvas, image: &Image<'_>, (width, height): (i64, i64)) {
    let (left, top) = (LEFT as f64, TOP as f64);
    let centre = left + width as f64 / 2.0;
    canvas.text(
        image.title,
        (centre, top - 20.0),
        TITLE_SIZE,
        Align::Middle,
        INK,
    );
    let below = (TOP + height) as f64;
    canvas.text(
        image.x_label,
        (centre, below + 54.0),
        LABEL_SIZE,
        Align::Middle,
        INK,
    );
    let middle = top + height as f64 / 2.0;
    canvas.text_upwards(
        image.y_label,
        (left - 58.0, middle),
        LABEL_SIZE,
        Align::Middle,
        INK,
    );

    // A tick stands at the middle of its cell.
    let indices = |count: usize, pixels: i64| -> Vec<f64> {
        let most = (pixels / 80).max(1) as usize;
        let ticks = axes::ticks(0.0, (count - 1) as f64, most);
        ticks
            .into_iter()
            .filter(|tick| tick.fract() == 0.0)
            .collect()
    };
    for tick in indices(image.columns, width) {
        let x = left + (tick + 0.5) / image.columns as f64 * width as f64;
        canvas.fill(x as i64, TOP + height + 1, 1, 6, INK);
        canvas.text(
            &tick.to_string(),
            (x, below + 26.0),
            TICK_SIZE,
            Align::Middle,
            INK,
        );
    }
    for tick in indices(image.rows, height) {
        let y = below - (tick + 0.5) / image.rows as f64 * height as f64;
        canvas.fill(LEFT - 7, y as i64, 6, 1, INK);
        canvas.text(
            &tick.to_string(),
            (left - 12.0, y + 6.0),
            TICK_SIZE,
            Align::End,
            INK,
        );
    }
}

fn draw_bar(
    canvas: &mut Canvas,
    x: i64,
    height: i64,
    (low, high): (f64, f64),
    ticks: &[f64],
    labels: &[String],
) {
    for row in 0..height {
        let share = (height - 1 - row) as f64 / (height - 1) as f64;
        canvas.fill(x, TOP + row, BAR_WIDTH, 1, colours::of(share, 0.0, 1.0));
    }
    canvas.frame(x, TOP, BAR_WIDTH, height, INK);
    for (tick, label) in ticks.iter().zip(labels) {
        let y = TOP as f64 + (high - tick) / (high - low) * (height - 1) as f64;
        canvas.fill(x + BAR_WIDTH + 1, y.round() as i64, 5, 1, INK);
        let at = ((x + BAR_WIDTH + 11) as f64, y.round() + 6.0);
        canvas.text(label, at, TICK_SIZE, Align::Start, INK);
    }
}
