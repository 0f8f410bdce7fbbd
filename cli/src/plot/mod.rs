//! Draws a plane of an array, or curves, as a PNG image.
//!
//! Input is plain numbers and their shape; nothing here knows streams or
//! steps. Colours are viridis, which is perceptually uniform and readable
//! without colour vision. Cells are drawn as they are, never smoothed; NaN is
//! grey. No display or font of the system is needed.
//!
//! ```no_run
//! use panta_cli::plot;
//! let values: Vec<f64> = (0..64).map(f64::from).collect();
//! let canvas = plot::image(&plot::Image {
//!     title: "v, z = 4",
//!     values: &values,
//!     rows: 8,
//!     columns: 8,
//!     ..plot::Image::default()
//! })?;
//! canvas.write_png("v.png")?;
//! # Ok::<(), plot::PlotError>(())
//! ```

mod axes;
mod canvas;
mod colours;
mod curve;
mod image;
mod overlay;
mod viridis;

pub use canvas::{Align, Canvas, Colour};
pub use curve::{Curve, Curves, curves};
pub use image::{Image, image};
pub use overlay::{Overlay, Stretch};

/// The most values one image may be made from: 1 GiB of them.
pub const VALUES_LIMIT: usize = 1 << 27;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The values do not fill the shape, or nothing is to be drawn.
    #[error("{values} values do not make an image of {rows} rows and {columns} columns")]
    Shape {
        /// How many values were given.
        values: usize,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
    },
    /// More values than [`VALUES_LIMIT`].
    #[error(
        "an image of {values} values is over the limit of {VALUES_LIMIT}; select a smaller box or a stride"
    )]
    TooLarge {
        /// How many values were given.
        values: usize,
    },
    /// A curve's x and y differ in length, or there is no curve.
    #[error(
        "the curve '{name}' has {x} x values and {y} y values; they must be as many, and at least one"
    )]
    Lengths {
        /// The curve.
        name: String,
        /// Number of x values.
        x: usize,
        /// Number of y values.
        y: usize,
    },
    /// The file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What the system or the encoder said.
        source: png::EncodingError,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn is_coloured(canvas: &Canvas, colour: Colour) -> usize {
        let (width, height) = canvas.size();
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        pixels
            .filter(|&(x, y)| canvas.pixel(x, y) == colour)
            .count()
    }

    #[test]
    fn the_lowest_value_is_dark_and_the_highest_bright() {
        let values = [0.0, 1.0, 2.0, f64::NAN];
        let drawn = image(&Image {
            values: &values,
            rows: 2,
            columns: 2,
            ..Image::default()
        })
        .unwrap();
        // A quarter of the picture each, and some of the colour bar.
        for colour in [Colour(68, 1, 84), Colour(253, 231, 37), colours::MISSING] {
            assert!(is_coloured(&drawn, colour) > 10_000, "{colour:?}");
        }
    }

    #[test]
    fn the_first_row_is_at_the_bottom() {
        let values = [0.0, 0.0, 1.0, 1.0];
        let drawn = image(&Image {
            values: &values,
            rows: 2,
            columns: 2,
            ..Image::default()
        })
        .unwrap();
        let (width, height) = drawn.size();
        let column = width / 3;
        let dark = (0..height)
            .rfind(|&y| drawn.pixel(column, y) == Colour(68, 1, 84))
            .unwrap();
        let bright = (0..height)
            .find(|&y| drawn.pixel(column, y) == Colour(253, 231, 37))
            .unwrap();
        assert!(bright < dark);
    }

    #[test]
    fn constant_and_empty_of_numbers_planes_are_drawn() {
        for value in [0.0, -3.5, 1e300, f64::NAN, f64::INFINITY] {
            image(&Image {
                values: &[value; 6],
                rows: 2,
                columns: 3,
                ..Image::default()
            })
            .unwrap();
        }
    }

    #[test]
    fn a_plane_larger_than_the_picture_is_averaged() {
        let values: Vec<f64> = (0..2_000 * 1_500)
            .map(|index| f64::from(index % 2))
            .collect();
        let drawn = image(&Image {
            values: &values,
            rows: 1_500,
            columns: 2_000,
            ..Image::default()
        })
        .unwrap();
        assert!(drawn.size().0 < 1_200, "{:?}", drawn.size());
    }

    #[test]
    fn a_wrong_shape_is_an_error() {
        let drawn = image(&Image {
            values: &[0.0; 5],
            rows: 2,
            columns: 3,
            ..Image::default()
        });
        assert!(matches!(
            drawn,
            Err(PlotError::Shape {
                values: 5,
                rows: 2,
                columns: 3
            })
        ));
        let drawn = image(&Image {
            values: &[],
            rows: 0,
            columns: usize::MAX,
            ..Image::default()
        });
        assert!(matches!(drawn, Err(PlotError::Shape { .. })));
    }

    #[test]
    fn curves_are_drawn_in_their_colours() {
        let (x, y) = ([0.0, 1.0, 2.0], [0.0, 1.0, 0.5]);
        let drawn = curves(&Curves {
            curves: &[Curve {
                name: "fraction",
                x: &x,
                y: &y,
            }],
            ..Curves::default()
        })
        .unwrap();
        assert!(is_coloured(&drawn, colours::CURVES[0]) > 500);
    }

    #[test]
    fn a_curve_of_one_point_or_of_no_numbers_is_drawn() {
        for y in [[1.0], [f64::NAN]] {
            let curve = Curve {
                name: "one",
                x: &[1.0],
                y: &y,
            };
            curves(&Curves {
                curves: &[curve],
                ..Curves::default()
            })
            .unwrap();
        }
    }

    #[test]
    fn curves_of_unequal_lengths_are_an_error() {
        let curve = Curve {
            name: "bad",
            x: &[1.0],
            y: &[],
        };
        let drawn = curves(&Curves {
            curves: &[curve],
            ..Curves::default()
        });
        assert!(matches!(drawn, Err(PlotError::Lengths { .. })));
    }

    #[test]
    fn what_is_written_is_a_png_of_the_canvas() {
        let canvas = Canvas::new(7, 5, Colour(1, 2, 3));
        let mut bytes = Vec::new();
        canvas.encode(&mut bytes).unwrap();
        let decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (7, 5));
        assert_eq!(pixels, [1, 2, 3].repeat(35));
    }
}
