//! Curves over a common axis.

use super::canvas::{Align, Canvas, text_width};
use super::colours::{CURVES, GRID, INK, PAPER};
use super::{PlotError, axes};

/// One curve: y over x, in the order given. Points that are no numbers break
/// the line.
#[derive(Clone, Copy)]
pub struct Curve<'a> {
    /// What the legend calls it; a lone curve has no legend.
    pub name: &'a str,
    /// Where its points lie.
    pub x: &'a [f64],
    /// What their values are.
    pub y: &'a [f64],
}

/// What a plot of curves shows. Fields left at their default are left out.
#[derive(Clone, Copy, Default)]
pub struct Curves<'a> {
    /// Above the plot.
    pub title: &'a str,
    /// Under the plot.
    pub x_label: &'a str,
    /// Beside the plot.
    pub y_label: &'a str,
    /// The curves, drawn in this order.
    pub curves: &'a [Curve<'a>],
}

const WIDTH: i64 = 900;
const HEIGHT: i64 = 520;
const TOP: i64 = 60;
const BOTTOM: i64 = 74;
const RIGHT: i64 = 36;
const TITLE_SIZE: f32 = 24.0;
const LABEL_SIZE: f32 = 19.0;
const TICK_SIZE: f32 = 16.0;

/// The rectangle inside the axes and the interval of each.
struct Frame {
    left: f64,
    width: f64,
    height: f64,
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let across = (x - self.x.0) / (self.x.1 - self.x.0);
        let up = (y - self.y.0) / (self.y.1 - self.y.0);
        (
            self.left + across * self.width,
            TOP as f64 + (1.0 - up) * self.height,
        )
    }
}

/// Draws curves.
///
/// # Errors
/// [`PlotError::Lengths`].
pub fn curves(plot: &Curves<'_>) -> Result<Canvas, PlotError> {
    for Curve { name, x, y } in plot.curves {
        if x.len() != y.len() || x.is_empty() {
            return Err(PlotError::Lengths {
                name: (*name).to_owned(),
                x: x.len(),
                y: y.len(),
            });
        }
    }
    let all = |of: fn(&Curve<'_>) -> Vec<f64>| axes::range(plot.curves.iter().flat_map(of));
    let x = all(|curve| curve.x.to_vec());
    let (low, high) = all(|curve| curve.y.to_vec());
    // Some air above and below, but what is never negative stands on zero.
    let air = (high - low) * 0.06;
    let y = (
        if low >= 0.0 {
            (low - air).max(0.0)
        } else {
            low - air
        },
        high + air,
    );

    let ticks = axes::ticks(y.0, y.1, 6);
    let labels = axes::labels(&ticks);
    let widest = labels
        .iter()
        .map(|label| text_width(label, TICK_SIZE))
        .fold(0.0, f64::max);
    let left = 60.0 + widest.ceil();
    let frame = Frame {
        left,
        width: WIDTH as f64 - left - RIGHT as f64,
        height: (HEIGHT - TOP - BOTTOM) as f64,
        x,
        y,
    };
    let mut canvas = Canvas::new(WIDTH as usize, HEIGHT as usize, PAPER);
    draw_axes(&mut canvas, plot, &frame, (&ticks, &labels));
    for (index, curve) in plot.curves.iter().enumerate() {
        draw_curve(&mut canvas, &frame, curve, index);
    }
    if plot.curves.len() > 1 {
        draw_legend(&mut canvas, plot.curves);
    }
    Ok(canvas)
}

fn draw_axes(canvas: &mut Canvas, plot: &Curves<'_>, frame: &Frame, y_ticks: (&[f64], &[String])) {
    let below = TOP as f64 + frame.height;
    for (tick, label) in y_ticks.0.iter().zip(y_ticks.1) {
        let (_, y) = frame.place(frame.x.0, *tick);
        canvas.fill(
            frame.left as i64,
            y.round() as i64,
            frame.width as i64,
            1,
            GRID,
        );
        canvas.text(
            label,
            (frame.left - 10.0, y + 6.0),
            TICK_SIZE,
            Align::End,
            INK,
        );
    }
    let ticks = axes::ticks(frame.x.0, frame.x.1, 8);
    for (tick, label) in ticks.iter().zip(axes::labels(&ticks)) {
        let (x, _) = frame.place(*tick, frame.y.0);
        canvas.fill(x.round() as i64, TOP, 1, frame.height as i64, GRID);
        canvas.text(&label, (x, below + 25.0), TICK_SIZE, Align::Middle, INK);
    }
    let size = (frame.width as i64, frame.height as i64);
    canvas.frame(frame.left as i64, TOP, size.0, size.1, INK);
    let centre = frame.left + frame.width / 2.0;
    canvas.text(
        plot.title,
        (centre, TOP as f64 - 20.0),
        TITLE_SIZE,
        Align::Middle,
        INK,
    );
    canvas.text(
        plot.x_label,
        (centre, below + 55.0),
        LABEL_SIZE,
        Align::Middle,
        INK,
    );
    let middle = TOP as f64 + frame.height / 2.0;
    canvas.text_upwards(plot.y_label, (28.0, middle), LABEL_SIZE, Align::Middle, INK);
}

fn draw_curve(canvas: &mut Canvas, frame: &Frame, curve: &Curve<'_>, index: usize) {
    let colour = CURVES[index % CURVES.len()];
    let points: Vec<_> = curve.x.iter().zip(curve.y).map(|(&x, &y)| (x, y)).collect();
    for run in points.split(|(x, y)| !x.is_finite() || !y.is_finite()) {
        let placed: Vec<_> = run.iter().map(|&(x, y)| frame.place(x, y)).collect();
        match placed[..] {
            [] => {}
            // A point alone is drawn as a dot.
            [at] => canvas.line(&[at, at], 6.0, colour),
            _ => canvas.line(&placed, 2.5, colour),
        }
    }
}

fn draw_legend(canvas: &mut Canvas, curves: &[Curve<'_>]) {
    let names = curves.iter().map(|curve| text_width(curve.name, TICK_SIZE));
    let width = names.fold(0.0, f64::max) + 60.0;
    let left = (WIDTH - RIGHT) as f64 - width - 10.0;
    let height = curves.len() as i64 * 24 + 12;
    canvas.fill(left as i64, TOP + 10, width as i64, height, PAPER);
    canvas.frame(left as i64, TOP + 10, width as i64, height, GRID);
    for (index, curve) in curves.iter().enumerate() {
        let y = (TOP + 28 + index as i64 * 24) as f64;
        let line = [(left + 10.0, y), (left + 38.0, y)];
        canvas.line(&line, 2.5, CURVES[index % CURVES.len()]);
        canvas.text(
            curve.name,
            (left + 48.0, y + 6.0),
            TICK_SIZE,
            Align::Start,
            INK,
        );
    }
}
