//! Compressed blocks: what comes back is what was put, to the last bit, whole or in part,
//! and takes less room.

use std::fs;
use std::path::Path;

use ndarray::{Array2, ArrayD, s};
use panta::{Complex64, Shape, Snapshot, Step, Var};

use crate::cells::{self, Cell};
use crate::grid;
use crate::part::{Part, time};
use crate::stage::Stage;

const STEPS: u64 = 3;
/// Two ranks put a little less than two frames each of what has eight bytes.
const SHAPE: [u64; 2] = [300, 400];

/// A smooth field: what a simulation has, and compression is for.
fn smooth(step: u64, y: u64, x: u64) -> f64 {
    100.0 * step as f64 + 0.5 * y as f64 + 0.25 * x as f64
}

/// The same stream with and without compression, where each cell is checked.
pub fn compression(stage: &mut Stage) {
    let mut bytes = Vec::new();
    for compress in ["none", "zstd", "zstd:12"] {
        let name = compress.replace(':', "-");
        let url = stage.url_with(&name, &format!("compress={compress}"));
        stage.start("packed::writer", 2, &url, &[]);
        stage.start("packed::reader", 3, &url, &[]);
        stage.all_ended();
        bytes.push(data_bytes(&stage.file(&name)));
    }
    // More than a third of the bytes is noise, which nothing makes much smaller.
    assert!(bytes[1] < bytes[0] * 6 / 10, "{bytes:?}");
    assert!(bytes[2] <= bytes[1], "{bytes:?}");
}

/// Bytes of the data segments of a dataset.
pub(super) fn data_bytes(dataset: &Path) -> u64 {
    let entries = fs::read_dir(dataset).unwrap().map(|entry| entry.unwrap());
    let is_data = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("data.");
    let data = entries.filter(is_data);
    data.map(|entry| entry.metadata().unwrap().len()).sum()
}

fn put_noise<T: Cell>(step: &Step<'_, '_>, variable: Var<T>, name: &str, part: &Part) {
    let (start, count) = grid::slab(&SHAPE, 0, part.rank, part.size);
    let block = cells::block::<T>(name, step.number(), &SHAPE, &start, &count);
    step.put_owned(variable, &start, block).unwrap();
}

/// Puts a smooth field, from within ghost cells, a mask of large areas, small integers,
/// and noise of two types.
pub fn writer(part: &Part) {
    let mut out = part.writer();
    assert!(out.info().why.contains("compress="), "{:?}", out.info());
    let shape = || Shape::global(SHAPE);
    let field = out.define::<f64>("field", shape()).unwrap();
    let mask = out.define::<bool>("mask", shape()).unwrap();
    let level = out.define::<i32>("level", shape()).unwrap();
    let noise = out.define::<f64>("noise", shape()).unwrap();
    let wave = out
        .define::<Complex64>("wave", Shape::global([7, 3]))
        .unwrap();
    let (start, count) = grid::slab(&SHAPE, 0, part.rank, part.size);
    for number in 0..STEPS {
        let cell = |(y, x): (usize, usize)| smooth(number, start[0] + y as u64, x as u64);
        let ghosted = Array2::from_shape_fn(
            (count[0] as usize + 2, SHAPE[1] as usize),
            |(y, x)| match (1..=count[0] as usize).contains(&y) {
                true => cell((y - 1, x)),
                false => f64::NAN,
            },
        );
        let sides = (count[0] as usize, SHAPE[1] as usize);
        let masks = Array2::from_shape_fn(sides, |at| cell(at) > 120.0);
        let turned =
            Array2::from_shape_fn((sides.1, sides.0), |(x, y)| (cell((y, x)) / 16.0) as i32);
        let step = out.begin_step(time(number)).unwrap();
        let inner = s![1..=count[0] as usize, ..];
        step.put(field, &start, ghosted.slice(inner)).unwrap();
        step.put(mask, &start, &masks).unwrap();
        step.put(level, &start, turned.t()).unwrap();
        put_noise(&step, noise, "noise", part);
        if part.rank == 0 {
            let waves = cells::block::<Complex64>("wave", number, &[7, 3], &[0, 0], &[7, 3]);
            step.put_owned(wave, &[0, 0], waves).unwrap();
        }
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Gets boxes that begin and end within frames, every so many-th cell, and single ones.
fn check_field(step: &Snapshot) {
    let check = |read: &Array2<f64>, at: &dyn Fn(u64, u64) -> (u64, u64)| {
        for ((y, x), value) in read.indexed_iter() {
            let (y, x) = at(y as u64, x as u64);
            assert_eq!(*value, smooth(step.number(), y, x), "{y} {x}");
        }
    };
    let whole: Array2<f64> = step.get("field", ..).unwrap();
    assert_eq!(whole.shape(), [300, 400]);
    check(&whole, &|y, x| (y, x));
    let rows: Array2<f64> = step.get("field", s![70..200, ..]).unwrap();
    check(&rows, &|y, x| (y + 70, x));
    let part: Array2<f64> = step.get("field", s![20..280, 13..19]).unwrap();
    check(&part, &|y, x| (y + 20, x + 13));
    let every: Array2<f64> = step.get("field", s![5..300;37, 3..400;11]).unwrap();
    check(&every, &|y, x| (y * 37 + 5, x * 11 + 3));
    let one: Array2<f64> = step.get("field", s![149..150, 399..400]).unwrap();
    check(&one, &|y, x| (y + 149, x + 399));
}

fn check_noise<T: Cell>(step: &Snapshot, name: &str, shape: &[u64]) {
    let read: ArrayD<T> = step.get(name, ..).unwrap();
    cells::check(name, step.number(), shape, &[0, 0], read.view());
}

/// Reads it all.
pub fn reader(part: &Part) {
    let mut inp = part.reader();
    for number in 0..STEPS {
        let step = inp.next_step().unwrap().expect("a step");
        assert_eq!(step.number(), number);
        check_field(&step);
        let masks: Array2<bool> = step.get("mask", ..).unwrap();
        let levels: Array2<i32> = step.get("level", ..).unwrap();
        for ((y, x), level) in levels.indexed_iter() {
            let value = smooth(number, y as u64, x as u64);
            assert_eq!(*level, (value / 16.0) as i32);
            assert_eq!(masks[(y, x)], value > 120.0);
        }
        check_noise::<f64>(&step, "noise", &SHAPE);
        check_noise::<Complex64>(&step, "wave", &[7, 3]);
    }
    assert!(inp.next_step().unwrap().is_none());
}
