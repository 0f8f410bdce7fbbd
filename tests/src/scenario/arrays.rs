//! Kinds of arrays: joined, local, of changing shape, with ghost cells; attributes.

use ndarray::{Array2, ArrayD, Slice, s};
use panta::{Attribute, BlockId, GetError, Shape};

use crate::cells;
use crate::grid;
use crate::part::{Part, time};
use crate::stage::Stage;

const STEPS: u64 = 5;

/// Rows of differing count join in rank order.
pub fn joined(stage: &mut Stage, writers: usize) {
    pair(stage, "arrays::joined", (writers, 1));
}

/// Blocks of any size, several a rank, read one by one.
pub fn local(stage: &mut Stage, writers: usize, readers: usize) {
    pair(stage, "arrays::local", (writers, readers));
}

/// A global array whose shape changes between steps.
pub fn shapes(stage: &mut Stage) {
    pair(stage, "arrays::shapes", (2, 3));
}

/// Attributes of all kinds, before the first step and between steps.
pub fn attributes(stage: &mut Stage) {
    pair(stage, "arrays::attributes", (2, 2));
}

/// Ghost cells left out at put, and left alone at get.
pub fn ghosts(stage: &mut Stage, side: usize) {
    pair(stage, "arrays::ghosts", (side, side));
}

/// Starts `NAME_reader` and `NAME_writer`, and waits for both.
pub(crate) fn pair(stage: &mut Stage, name: &str, (writers, readers): (usize, usize)) {
    let stream = name.split("::").last().unwrap();
    let url = stage.url_with(stream, stage.keep_all());
    let arguments = [("writers", writers as u64)];
    stage.start(&format!("{name}_reader"), readers, &url, &arguments);
    stage.start(&format!("{name}_writer"), writers, &url, &arguments);
    stage.all_ended();
}

const COLUMNS: u64 = 3;

/// How many rows a rank has in a step; none at times.
fn rows(rank: usize, step: u64) -> u64 {
    (rank as u64 * 2 + step) % 4
}

/// Puts its rows, as many as it has in this step.
pub fn joined_writer(part: &Part) {
    let mut out = part.writer();
    let u = out
        .define::<f64>("rows", Shape::joined(0, [0, COLUMNS]))
        .unwrap();
    for number in 0..STEPS {
        let before: u64 = (0..part.rank).map(|rank| rows(rank, number)).sum();
        let count = [rows(part.rank, number), COLUMNS];
        let shape = [u64::MAX, COLUMNS];
        let block = cells::block::<f64>("rows", number, &shape, &[before, 0], &count);
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &[0, 0], &block).unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Checks that the rows lie in rank order.
pub fn joined_reader(part: &Part) {
    let (mut inp, writers) = (part.reader(), part.number("writers") as usize);
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let number = step.number();
        let total: u64 = (0..writers).map(|rank| rows(rank, number)).sum();
        let shape = step.variable("rows").unwrap().shape();
        assert_eq!(shape, [total, COLUMNS]);
        let all: ArrayD<f64> = step.get("rows", ..).unwrap();
        cells::check("rows", number, &shape, &[0, 0], all.view());
        if total > 2 {
            let some: Array2<f64> = step.get("rows", s![1.., 1..2]).unwrap();
            let column = some.view().into_dyn();
            cells::check("rows", number, &shape, &[1, 1], column);
        }
        seen += 1;
    }
    assert_eq!(seen, STEPS);
}

/// How many blocks a rank puts, and how large the `n`-th is.
fn local_blocks(rank: usize, step: u64) -> impl Iterator<Item = [u64; 2]> {
    let blocks = 1 + (rank as u64 + step) % 3;
    (0..blocks).map(move |n| [1 + (n + step) % 4, 2 + rank as u64])
}

fn local_name(rank: usize, n: usize) -> String {
    format!("block {n} of {rank}")
}

/// Puts one to three blocks a step, of varying sizes.
pub fn local_writer(part: &Part) {
    let mut out = part.writer();
    let u = out.define::<i64>("u", Shape::local(2)).unwrap();
    for number in 0..STEPS {
        let blocks: Vec<_> = local_blocks(part.rank, number)
            .enumerate()
            .map(|(n, count)| {
                let name = local_name(part.rank, n);
                cells::block::<i64>(&name, number, &count, &[0, 0], &count)
            })
            .collect();
        let step = out.begin_step(time(number)).unwrap();
        for block in &blocks {
            step.put(u, &[], block).unwrap();
        }
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Reads every block whose number is this rank's modulo the ranks.
pub fn local_reader(part: &Part) {
    let (mut inp, writers) = (part.reader(), part.number("writers") as usize);
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let number = step.number();
        let expected: Vec<_> = (0..writers)
            .flat_map(|rank| {
                let blocks = local_blocks(rank, number).enumerate();
                blocks.map(move |(n, count)| (local_name(rank, n), count))
            })
            .collect();
        let blocks = step.variable("u").unwrap().blocks();
        assert_eq!(blocks.len(), expected.len());
        for (id, (name, count)) in expected.iter().enumerate() {
            assert_eq!(blocks[id].block.count, count);
            if id % part.size == part.rank {
                let read: ArrayD<i64> = step.get("u", BlockId(id as u32)).unwrap();
                cells::check(name, number, count, &[0, 0], read.view());
            }
        }
        let beyond = step.get::<i64, ndarray::IxDyn>("u", BlockId(blocks.len() as u32));
        assert!(
            matches!(beyond, Err(GetError::NoSuchBlock { .. })),
            "{beyond:?}"
        );
        seen += 1;
    }
    assert_eq!(seen, STEPS);
}

fn shape_at(step: u64) -> [u64; 2] {
    [6 + step, 9 - step]
}

/// Gives the array another shape before each step.
pub fn shapes_writer(part: &Part) {
    let mut out = part.writer();
    let u = out.define::<f32>("u", Shape::global(shape_at(0))).unwrap();
    for number in 0..STEPS {
        let shape = shape_at(number);
        out.set_shape(u, &shape).unwrap();
        let (start, count) = grid::slab(&shape, 0, part.rank, part.size);
        let block = cells::block::<f32>("u", number, &shape, &start, &count);
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &start, &block).unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Sees each step's own shape.
pub fn shapes_reader(part: &Part) {
    let mut inp = part.reader();
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let shape = shape_at(step.number());
        assert_eq!(step.variable("u").unwrap().shape(), shape);
        let (start, count) = grid::slab(&shape, 1, part.rank, part.size);
        let read: ArrayD<f32> = step.get("u", (&start, &count)).unwrap();
        cells::check("u", step.number(), &shape, &start, read.view());
        let outside = step.get::<f32, ndarray::IxDyn>("u", ([0, 0], [shape[0] + 1, 1]));
        assert!(
            matches!(outside, Err(GetError::Selection { .. })),
            "{outside:?}"
        );
        seen += 1;
    }
    assert_eq!(seen, STEPS);
}

/// The attributes that never change.
fn constant() -> [(&'static str, Attribute); 8] {
    [
        ("answer", Attribute::from(-42_i64)),
        ("count", Attribute::from(u64::MAX)),
        ("dt", Attribute::from(0.125)),
        ("code", Attribute::from("Gray–Scott")),
        ("ints", Attribute::from(vec![i64::MIN, 0, 7])),
        ("uints", Attribute::from(vec![0_u64, u64::MAX])),
        ("floats", Attribute::from(vec![0.5, -1e300])),
        ("names", Attribute::from(["", "zwei", "три"])),
    ]
}

/// Sets attributes before the first step, changes one and adds one later.
pub fn attributes_writer(part: &Part) {
    let mut out = part.writer();
    let u = out.define::<f64>("u", Shape::global([4])).unwrap();
    for (name, value) in constant() {
        out.set_attribute(name, value.clone()).unwrap();
        out.set_variable_attribute(u, name, value).unwrap();
    }
    let field = cells::block::<f64>("u", 0, &[4], &[0], &[4]);
    for number in 0..STEPS {
        out.set_attribute("phase", number).unwrap();
        if number == 3 {
            out.set_variable_attribute(u, "late", ["a", "bb"]).unwrap();
        }
        let step = out.begin_step(time(number)).unwrap();
        if part.rank == 0 {
            step.put(u, &[0], &field).unwrap();
        }
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Sees each from the step it was set for.
pub fn attributes_reader(part: &Part) {
    let mut inp = part.reader();
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        for (name, value) in constant() {
            assert_eq!(step.attribute(name), Some(&value));
            assert_eq!(step.variable_attribute("u", name), Some(&value));
        }
        assert_eq!(
            step.attribute("phase"),
            Some(&Attribute::UInt(step.number()))
        );
        let late = Attribute::from(["a", "bb"]);
        let expected = (step.number() >= 3).then_some(&late);
        assert_eq!(step.variable_attribute("u", "late"), expected);
        assert_eq!(step.attribute("nothing"), None);
        seen += 1;
    }
    assert_eq!(seen, STEPS);
}

const GHOST_SHAPE: [u64; 2] = [9, 10];
const GHOSTS: usize = 2;

fn with_ghosts(count: &[u64]) -> [usize; 2] {
    [
        count[0] as usize + 2 * GHOSTS,
        count[1] as usize + 2 * GHOSTS,
    ]
}

fn inner() -> Slice {
    Slice::from(GHOSTS as isize..-(GHOSTS as isize))
}

/// Puts the inside of a larger array.
pub fn ghosts_writer(part: &Part) {
    let mut out = part.writer();
    let u = out.define::<f64>("u", Shape::global(GHOST_SHAPE)).unwrap();
    let (start, count) = grid::slab(&GHOST_SHAPE, 0, part.rank, part.size);
    let mut field = Array2::<f64>::from_elem(with_ghosts(&count), f64::NAN);
    for number in 0..STEPS {
        let made = cells::block::<f64>("u", number, &GHOST_SHAPE, &start, &count);
        field.slice_each_axis_mut(|_| inner()).assign(&made);
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &start, field.slice_each_axis(|_| inner()))
            .unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Gets into the inside of a larger array, whose border stays as it was.
pub fn ghosts_reader(part: &Part) {
    let mut inp = part.reader();
    let (start, count) = grid::slab(&GHOST_SHAPE, 1, part.rank, part.size);
    let mut field = Array2::<f64>::from_elem(with_ghosts(&count), 7.0);
    let inside = (count[0] * count[1]) as usize;
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let into = field.slice_each_axis_mut(|_| inner());
        step.get_into("u", (&start, &count), into).unwrap();
        let read = field.slice_each_axis(|_| inner());
        cells::check("u", step.number(), &GHOST_SHAPE, &start, read.into_dyn());
        let sevens = field.iter().filter(|value| **value == 7.0).count();
        assert_eq!(sevens, field.len() - inside, "the ghost cells were touched");
        seen += 1;
    }
    assert_eq!(seen, STEPS);
}
