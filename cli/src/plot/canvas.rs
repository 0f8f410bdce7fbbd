//! A picture being drawn: rectangles, smooth lines, text, PNG.
//!
//! Coordinates are pixels from the top left corner. Whatever lies outside is
//! cut off.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use ab_glyph::{Font, FontRef, Glyph, ScaleFont, point};

use super::PlotError;

/// Red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

/// Which part of a text lies at the point it is drawn at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Its start.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// A picture of 8-bit colours.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// A picture all in `background`.
    #[must_use]
    pub fn new(width: usize, height: usize, background: Colour) -> Self {
        let Colour(red, green, blue) = background;
        let pixels = [red, green, blue].repeat(width * height);
        Self {
            width,
            height,
            pixels,
        }
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The colour of one pixel; black outside the picture.
    #[must_use]
    pub fn pixel(&self, x: usize, y: usize) -> Colour {
        if x >= self.width || y >= self.height {
            return Colour(0, 0, 0);
        }
        let at = (y * self.width + x) * 3;
        Colour(self.pixels[at], self.pixels[at + 1], self.pixels[at + 2])
    }

    /// Covers the share `coverage` (0 to 1) of one pixel with `colour`.
    pub(super) fn blend(&mut self, x: i64, y: i64, colour: Colour, coverage: f32) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
            return;
        };
        if x >= self.width || y >= self.height {
            return;
        }
        let at = (y * self.width + x) * 3;
        for (pixel, new) in self.pixels[at..at + 3]
            .iter_mut()
            .zip([colour.0, colour.1, colour.2])
        {
            let old = f32::from(*pixel);
            *pixel = (old + (f32::from(new) - old) * coverage.clamp(0.0, 1.0)).round() as u8;
        }
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, x: i64, y: i64, width: i64, height: i64, colour: Colour) {
        let inside = |at: i64, limit: usize| at.clamp(0, limit as i64);
        for row in inside(y, self.height)..inside(y + height, self.height) {
            for column in inside(x, self.width)..inside(x + width, self.width) {
                self.blend(column, row, colour, 1.0);
            }
        }
    }

    /// Draws a frame of one pixel just outside a rectangle.
    pub fn frame(&mut self, x: i64, y: i64, width: i64, height: i64, colour: Colour) {
        self.fill(x - 1, y - 1, width + 2, 1, colour);
        self.fill(x - 1, y + height, width + 2, 1, colour);
        self.fill(x - 1, y, 1, height, colour);
        self.fill(x + width, y, 1, height, colour);
    }

    /// Draws a smooth line through `points`, `width` pixels thick.
    pub fn line(&mut self, points: &[(f64, f64)], width: f64, colour: Colour) {
        let mut coverage = vec![0_f32; self.width * self.height];
        for segment in points.windows(2) {
            self.covered([segment[0], segment[1]], width, |at, share| {
                coverage[at] = coverage[at].max(share);
            });
        }
        for (index, &share) in coverage
            .iter()
            .enumerate()
            .filter(|(_, share)| **share > 0.0)
        {
            self.blend(
                (index % self.width) as i64,
                (index / self.width) as i64,
                colour,
                share,
            );
        }
    }

    /// Draws one smooth straight line with round ends, `width` pixels thick; a dot
    /// if both ends are one.
    pub fn segment(&mut self, ends: [(f64, f64); 2], width: f64, colour: Colour) {
        let mut touched = Vec::new();
        self.covered(ends, width, |at, share| touched.push((at, share)));
        for (at, share) in touched {
            let (x, y) = (at % self.width, at / self.width);
            self.blend(x as i64, y as i64, colour, share);
        }
    }

    /// Calls `visit` with each pixel that a straight line touches and its share of it.
    fn covered(&self, ends: [(f64, f64); 2], width: f64, mut visit: impl FnMut(usize, f32)) {
        let [a, b] = ends;
        let radius = width / 2.0 + 0.5;
        let span = |from: f64, to: f64, limit: usize| {
            let low = (from.min(to) - radius).floor().clamp(0.0, limit as f64);
            let high = (from.max(to) + radius).ceil().clamp(0.0, limit as f64);
            low as usize..high as usize
        };
        for y in span(a.1, b.1, self.height) {
            for x in span(a.0, b.0, self.width) {
                let centre = (x as f64 + 0.5, y as f64 + 0.5);
                let share = (radius - distance(centre, a, b)).clamp(0.0, 1.0) as f32;
                if share > 0.0 {
                    visit(y * self.width + x, share);
                }
            }
        }
    }

    /// Writes `text` with its baseline at `y`, `size` pixels tall.
    pub fn text(&mut self, text: &str, at: (f64, f64), size: f32, align: Align, colour: Colour) {
        self.glyphs(text, size, align, |canvas, x, y, coverage| {
            canvas.blend(
                at.0.round() as i64 + x,
                at.1.round() as i64 + y,
                colour,
                coverage,
            );
        });
    }

    /// Writes `text` upwards with its baseline at `x`.
    pub fn text_upwards(
        &mut self,
        text: &str,
        at: (f64, f64),
        size: f32,
        align: Align,
        colour: Colour,
    ) {
        self.glyphs(text, size, align, |canvas, x, y, coverage| {
            canvas.blend(
                at.0.round() as i64 + y,
                at.1.round() as i64 - x,
                colour,
                coverage,
            );
        });
    }

    /// Calls `dot` with place and coverage of each pixel that `text` touches.
    fn glyphs(
        &mut self,
        text: &str,
        size: f32,
        align: Align,
        mut dot: impl FnMut(&mut Self, i64, i64, f32),
    ) {
        let Some((glyphs, width, font)) = lay_out(text, size) else {
            return;
        };
        let shift = match align {
            Align::Start => 0.0,
            Align::Middle => width / 2.0,
            Align::End => width,
        };
        for mut glyph in glyphs {
            glyph.position.x -= shift;
            let Some(outline) = font.outline_glyph(glyph) else {
                continue;
            };
            let bounds = outline.px_bounds();
            let (left, top) = (bounds.min.x as i64, bounds.min.y as i64);
            outline.draw(|x, y, coverage| {
                dot(self, left + i64::from(x), top + i64::from(y), coverage);
            });
        }
    }

    /// Encodes the picture as PNG.
    ///
    /// # Errors
    /// What the writer or the encoder says.
    pub fn encode(&self, to: impl Write) -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(to, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        writer.finish()
    }

    /// Writes the picture to a PNG file.
    ///
    /// # Errors
    /// [`PlotError::Write`].
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<(), PlotError> {
        let path = path.as_ref();
        let failed = |source| PlotError::Write {
            path: path.to_owned(),
            source,
        };
        let file = File::create(path).map_err(|error| failed(error.into()))?;
        let mut buffered = BufWriter::new(file);
        self.encode(&mut buffered).map_err(failed)?;
        buffered.flush().map_err(|error| failed(error.into()))
    }
}

/// The width of `text` in pixels.
pub(super) fn text_width(text: &str, size: f32) -> f64 {
    lay_out(text, size).map_or(0.0, |(_, width, _)| f64::from(width))
}

/// Places the glyphs of `text` along a baseline at the origin. `None` only if
/// the embedded font could not be read.
fn lay_out(text: &str, size: f32) -> Option<(Vec<Glyph>, f32, FontRef<'static>)> {
    let font = FontRef::try_from_slice(dejavu::sans::regular()).ok()?;
    let scaled = font.as_scaled(size);
    let (mut at, mut glyphs) = (0.0, Vec::new());
    let mut previous = None;
    for character in text.chars() {
        let id = scaled.glyph_id(character);
        if let Some(before) = previous {
            at += scaled.kern(before, id);
        }
        glyphs.push(id.with_scale_and_position(size, point(at, 0.0)));
        at += scaled.h_advance(id);
        previous = Some(id);
    }
    Some((glyphs, at, font))
}

/// The distance from `point` to the segment from `a` to `b`.
fn distance(point: (f64, f64), a: (f64, f64), b: (f64, f64)) -> f64 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let square = dx * dx + dy * dy;
    let along = ((point.0 - a.0) * dx + (point.1 - a.1) * dy) / square;
    let along = if square > 0.0 {
        along.clamp(0.0, 1.0)
    } else {
        0.0
    };
    (point.0 - a.0 - along * dx).hypot(point.1 - a.1 - along * dy)
}
