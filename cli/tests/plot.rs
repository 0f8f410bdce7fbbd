//! The images that `panta plot` writes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{refused, said, write_everything};
use ndarray::Array3;
use panta::{Shape, Solo, StepTime, Writer};

/// The colours of an image's pixels.
fn colours(path: &Path) -> (u32, u32, Vec<[u8; 3]>) {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let colours = pixels.chunks_exact(3).map(|raw| [raw[0], raw[1], raw[2]]);
    (info.width, info.height, colours.collect())
}

const DARKEST: [u8; 3] = [68, 1, 84];
const BRIGHTEST: [u8; 3] = [253, 231, 37];
const MISSING: [u8; 3] = [200, 200, 200];

/// A ball in a cube, one step, as `ball.panta`.
fn write_ball(directory: &Path) {
    let url = format!("file:{}", directory.join("ball.panta").display());
    let mut out = Writer::open(&url, Solo).unwrap();
    let shape = Shape::global([32, 48, 64]).dims(["z", "y", "x"]).unit("K");
    let ball = out.define::<f64>("ball", shape.chunk([8, 8, 8])).unwrap();
    let field = Array3::from_shape_fn((32, 48, 64), |(z, y, x)| {
        let [z, y, x] = [(z, 16.0), (y, 24.0), (x, 32.0)].map(|(at, middle)| at as f64 - middle);
        let radius = (z * z + y * y + x * x).sqrt();
        (-radius / 8.0).exp() + 0.05 * (0.4 * x).sin()
    });
    let step = out.begin_step(StepTime::sim(1.5)).unwrap();
    step.put(ball, &[0, 0, 0], &field).unwrap();
    step.end().unwrap();
    out.close().unwrap();
}

/// Draws with `arguments` and gives the image's colours.
fn drawn(directory: &Path, arguments: &[&str]) -> (u32, u32, Vec<[u8; 3]>) {
    let said = said(
        directory,
        &[&["plot", "ball", "ball", "-o", "out.png"], arguments].concat(),
    );
    assert_eq!(said, "");
    colours(&directory.join("out.png"))
}

fn number_of(colours: &[[u8; 3]], wanted: [u8; 3]) -> usize {
    colours.iter().filter(|colour| **colour == wanted).count()
}

#[test]
fn a_plane_shows_its_values_and_names_and_places_mean_the_same() {
    let directory = tempfile::tempdir().unwrap();
    write_ball(directory.path());
    let (width, height, plane) = drawn(directory.path(), &["--slice", "z=16"]);
    assert!(width > 640 && height > 480, "{width} × {height}");
    let distinct: BTreeSet<_> = plane.iter().collect();
    assert!(distinct.len() > 150, "{} colours", distinct.len());
    assert!(number_of(&plane, BRIGHTEST) >= 100);
    assert_eq!(drawn(directory.path(), &["--slice", "16,:,:"]).2, plane);
    // Another plane is another picture.
    assert_ne!(drawn(directory.path(), &["--slice", "z=8"]).2, plane);
}

#[test]
fn the_ends_of_the_colours_can_be_set_and_logarithms_drawn() {
    let directory = tempfile::tempdir().unwrap();
    write_ball(directory.path());
    let cold = drawn(
        directory.path(),
        &["--slice", "z=16", "--min", "2", "--max", "3"],
    )
    .2;
    // All the plane is below the darkest value: 640 × 480 pixels and the bar's end.
    assert!(number_of(&cold, DARKEST) >= 640 * 480);
    let from_negative = drawn(directory.path(), &["--slice", "z=16", "--min", "-5"]).2;
    assert_eq!(
        number_of(&from_negative, DARKEST),
        number_of(&from_negative, DARKEST).min(200)
    );
    let log = drawn(directory.path(), &["--slice", "z=16", "--log"]).2;
    assert!(
        number_of(&log, MISSING) > 1000,
        "values below zero have no logarithm"
    );
}

#[test]
fn one_dimension_is_drawn_as_a_line() {
    let directory = tempfile::tempdir().unwrap();
    write_ball(directory.path());
    let (.., line) = drawn(directory.path(), &["--slice", "z=16,y=24"]);
    assert!(number_of(&line, [0, 114, 178]) > 500);
    assert_eq!(number_of(&line, BRIGHTEST), 0);
}

#[test]
fn the_curve_is_drawn_in_the_colours_of_its_owners() {
    let directory = tempfile::tempdir().unwrap();
    write_ball(directory.path());
    let owners = [[0, 114, 178], [213, 94, 0], [0, 158, 115]];
    let two = drawn(
        directory.path(),
        &["--slice", "z=16", "--curve", "--servers", "2"],
    )
    .2;
    let seen = owners.map(|owner| number_of(&two, owner) > 100);
    assert_eq!(seen, [true, true, false]);
    let fine = [
        "--slice",
        "z=16",
        "--curve",
        "--servers",
        "3",
        "--chunk",
        "4,4,4",
    ];
    let fine = drawn(directory.path(), &fine).2;
    assert!(owners.iter().all(|owner| number_of(&fine, *owner) > 100));
    assert_eq!(
        number_of(&drawn(directory.path(), &["--slice", "z=16"]).2, owners[1]),
        0
    );
}

#[test]
fn what_cannot_be_drawn_is_refused_with_what_would_do() {
    let directory = tempfile::tempdir().unwrap();
    write_ball(directory.path());
    write_everything(directory.path());
    let bad = |code, arguments: &[&str], part: &str| {
        let all = [&["plot"], arguments, &["-o", "bad.png"]].concat();
        let error = refused(directory.path(), code, &all);
        assert!(error.contains(part), "{arguments:?}: {error}");
        assert!(!directory.path().join("bad.png").exists());
    };
    bad(1, &["ball", "ball"], "--slice \"z=16\"");
    bad(
        1,
        &["ball", "ball", "--slice", "z=32"],
        "dimension 0, which has 32",
    );
    bad(1, &["ball", "ball", "--slice", "1,2,3"], "single value");
    bad(1, &["ball", "bal", "--slice", "z=1"], "did you mean `ball`");
    bad(1, &["run", "note"], "strings cannot be drawn");
    bad(
        1,
        &[
            "ball", "ball", "--slice", "z=1", "--curve", "--chunk", "4,4",
        ],
        "give one side",
    );
    bad(
        2,
        &["ball", "ball", "--slice", "z=1", "--min", "2", "--max", "1"],
        "--min below --max",
    );
    bad(
        2,
        &["ball", "ball", "--slice", "z=1", "--chunk", "4,4,4"],
        "--curve",
    );
    let unwritable = [
        "plot",
        "ball",
        "ball",
        "--slice",
        "z=1",
        "-o",
        "no/such/bad.png",
    ];
    let error = refused(directory.path(), 1, &unwritable);
    assert!(error.contains("no/such/bad.png"), "{error}");
}
