//! Compressed blocks: what comes back is what was put, to the last bit, whole or in part,
//! and takes less room, on disk and on the way to whoever reads it.

use std::fs;
use std::path::Path;

use ndarray::{Array2, ArrayD, s};
use panta::{BlockId, Complex64, Shape, Snapshot, Step, Var};

use crate::cells::{self, Cell};
use crate::grid;
use crate::part::{Part, time};
use crate::stage::{Engine, Stage};

const STEPS: u64 = 3;
/// Two ranks put a little less than two frames each of what has eight bytes.
const SHAPE: [u64; 2] = [300, 400];

/// A smooth field: what a simulation has, and compression is for.
fn smooth(step: u64, y: u64, x: u64) -> f64 {
    100.0 * step as f64 + 0.5 * y as f64 + 0.25 * x as f64
}

/// The same stream with and without compression, where each cell is checked.
pub fn compression(stage: &mut Stage) {
    let (mut bytes, mut fetched) = (Vec::new(), Vec::new());
    for compress in ["none", "zstd", "zstd:12"] {
        let name = compress.replace(':', "-");
        let url = stage.url_with(&name, &format!("compress={compress}"));
        stage.start("packed::writer", 2, &url, &[]);
        let readers = stage.start("packed::reader", 3, &url, &[]);
        let said = [0, 1, 2].map(|rank| stage.heard(readers, rank, "fetched"));
        fetched.push(said.map(|bytes| bytes.trim().parse::<u64>().unwrap()));
        stage.all_ended();
        if stage.engine == Engine::File {
            bytes.push(data_bytes(&stage.file(&name)));
        }
    }
    // More than a third of the bytes is noise, which nothing makes much smaller.
    let check = |plain, fast, small| {
        assert!(
            fast < plain * 6 / 10 && small <= fast,
            "{bytes:?} {fetched:?}"
        );
    };
    let ranks = fetched[0].iter().zip(&fetched[1]).zip(&fetched[2]);
    ranks.for_each(|((plain, fast), small)| check(*plain, *fast, *small));
    if let [plain, fast, small] = bytes[..] {
        check(plain, fast, small);
    }
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
    let is_plain = part.url.contains("compress=none");
    assert!(
        is_plain || out.info().why.contains("compress="),
        "{:?}",
        out.info()
    );
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
fn check_boxes(step: &Snapshot) {
    let check = |read: &Array2<f64>, at: &dyn Fn(u64, u64) -> (u64, u64)| {
        for ((y, x), value) in read.indexed_iter() {
            let (y, x) = at(y as u64, x as u64);
            assert_eq!(*value, smooth(step.number(), y, x), "{y} {x}");
        }
    };
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
    let mut fetched = 0;
    for number in 0..STEPS {
        let step = inp.next_step().unwrap().expect("a step").detach();
        assert_eq!(step.number(), number);
        let before = inp.session().fetched_bytes();
        let field: Array2<f64> = step.get("field", ..).unwrap();
        let masks: Array2<bool> = step.get("mask", ..).unwrap();
        let levels: Array2<i32> = step.get("level", ..).unwrap();
        for ((y, x), level) in levels.indexed_iter() {
            let value = smooth(number, y as u64, x as u64);
            assert_eq!(field[(y, x)], value, "{y} {x}");
            assert_eq!(*level, (value / 16.0) as i32);
            assert_eq!(masks[(y, x)], value > 120.0);
        }
        check_noise::<f64>(&step, "noise", &SHAPE);
        check_noise::<Complex64>(&step, "wave", &[7, 3]);
        fetched += inp.session().fetched_bytes() - before;
        if part.url.contains("compress=zstd") {
            let view = step.view::<f64>("field", BlockId(0));
            let error = view.expect_err("what is compressed is not there to be seen");
            assert!(
                error.to_string().contains("show a block in place"),
                "{error}"
            );
        }
        check_boxes(&step);
    }
    assert!(inp.next_step().unwrap().is_none());
    part.say(format_args!("fetched {fetched}"));
}
