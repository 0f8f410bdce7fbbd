//! How many ranks write and read what: every element type, one to four
//! dimensions, re-partitioned between the sides; ways to put and to get.

use ndarray::{ArrayD, Ix2, IxDyn};
use panta::{BlockId, Complex32, Complex64, Element, Pod, Shape, Snapshot, Step, Var, Writer};

use crate::cells::{self, Cell};
use crate::grid;
use crate::part::{Part, sim_time, time};
use crate::stage::Stage;

/// N writers and M readers, ten steps of everything.
pub fn types(stage: &mut Stage, writers: usize, readers: usize) {
    let url = stage.url_with("types", stage.keep_all());
    let arguments = [("steps", 10), ("writers", writers as u64)];
    stage.start("layouts::types_reader", readers, &url, &arguments);
    stage.start("layouts::types_writer", writers, &url, &arguments);
    stage.all_ended();
}

/// The same as threads of one process.
pub fn types_in_threads(stage: &mut Stage) {
    let url = stage.url_with("types", stage.keep_all());
    let sides: [(crate::part::Role, usize); 2] = [(types_reader, 2), (types_writer, 3)];
    stage.threads(&url, &sides, &[("steps", 10), ("writers", 3)]);
}

/// A variable of some element type, behind one face.
trait Field {
    fn define(&mut self, out: &mut Writer);
    fn compute(&mut self, step: u64, rank: usize, ranks: usize);
    fn put<'d>(&'d self, step: &Step<'_, 'd>);
    fn check(&self, step: &Snapshot, writers: usize, rank: usize, ranks: usize);
}

struct Array<T: Cell> {
    name: String,
    shape: Vec<u64>,
    var: Option<Var<T>>,
    start: Vec<u64>,
    block: ArrayD<T>,
}

fn array<T: Cell + 'static>(prefix: &str, shape: &[u64]) -> Box<dyn Field> {
    Box::new(Array::<T> {
        name: format!("{prefix}{}", <T as Element>::DTYPE),
        shape: shape.to_vec(),
        var: None,
        start: Vec::new(),
        block: ArrayD::from_shape_fn(IxDyn(&[0]), |_| T::of(0)),
    })
}

impl<T: Cell> Field for Array<T> {
    fn define(&mut self, out: &mut Writer) {
        let dims = ["t", "z", "y", "x"][4 - self.shape.len()..].to_vec();
        let shape = Shape::global(&self.shape).dims(dims).unit("m s-1");
        self.var = Some(out.define(&self.name, shape).unwrap());
    }

    fn compute(&mut self, step: u64, rank: usize, ranks: usize) {
        let (start, count) = grid::slab(&self.shape, 0, rank, ranks);
        self.block = cells::block(&self.name, step, &self.shape, &start, &count);
        self.start = start;
    }

    fn put<'d>(&'d self, step: &Step<'_, 'd>) {
        if !self.block.is_empty() {
            step.put(self.var.unwrap(), &self.start, &self.block)
                .unwrap();
        }
    }

    fn check(&self, step: &Snapshot, writers: usize, rank: usize, ranks: usize) {
        let variable = step.variable(&self.name).unwrap();
        assert_eq!(variable.shape(), self.shape);
        assert_eq!(variable.definition().unit, "m s-1");
        let slabs =
            (0..writers).map(|writer| (writer, grid::slab(&self.shape, 0, writer, writers)));
        let expected: Vec<_> = slabs
            .filter(|(_, (_, count))| !grid::is_empty(count))
            .collect();
        let blocks = variable.blocks();
        assert_eq!(blocks.len(), expected.len(), "blocks of `{}`", self.name);
        for (block, (writer, (start, count))) in blocks.iter().zip(expected) {
            assert_eq!(
                (
                    block.block.rank as usize,
                    &block.block.start,
                    &block.block.count
                ),
                (writer, &start, &count)
            );
        }
        // Cut along another dimension than the writers cut.
        let (start, count) = grid::slab(&self.shape, self.shape.len() - 1, rank, ranks);
        let part: ArrayD<T> = step.get(&self.name, (&start, &count)).unwrap();
        cells::check(&self.name, step.number(), &self.shape, &start, part.view());
        if rank == 0 {
            let all: ArrayD<T> = step.get(&self.name, ..).unwrap();
            cells::check(
                &self.name,
                step.number(),
                &self.shape,
                &vec![0; self.shape.len()],
                all.view(),
            );
        }
    }
}

struct Value<T: Cell> {
    name: String,
    global: Option<Var<T>>,
    local: Option<Var<T>>,
    step: u64,
    rank: usize,
}

fn value<T: Cell + 'static>() -> Box<dyn Field> {
    let name = <T as Element>::DTYPE.to_string();
    Box::new(Value::<T> {
        name,
        global: None,
        local: None,
        step: 0,
        rank: 0,
    })
}

impl<T: Cell> Field for Value<T> {
    fn define(&mut self, out: &mut Writer) {
        let global = format!("global {}", self.name);
        self.global = Some(out.define(&global, Shape::global_value()).unwrap());
        let local = format!("local {}", self.name);
        self.local = Some(out.define(&local, Shape::local_value()).unwrap());
    }

    fn compute(&mut self, step: u64, rank: usize, _ranks: usize) {
        (self.step, self.rank) = (step, rank);
    }

    fn put<'d>(&'d self, step: &Step<'_, 'd>) {
        let rank = self.rank as u64;
        // All ranks give the same: the highest counts, and here it cannot differ.
        let global: T = cells::cell(&self.name, self.step, 1000);
        step.put_value(self.global.unwrap(), &global).unwrap();
        let local: T = cells::cell(&self.name, self.step, rank);
        step.put_value(self.local.unwrap(), &local).unwrap();
    }

    fn check(&self, step: &Snapshot, writers: usize, _rank: usize, _ranks: usize) {
        let number = step.number();
        let global: T = step.get_value(&format!("global {}", self.name)).unwrap();
        assert_eq!(global, cells::cell(&self.name, number, 1000));
        let local: ArrayD<T> = step.get(&format!("local {}", self.name), ..).unwrap();
        assert_eq!(local.len(), writers);
        cells::check(&self.name, number, &[writers as u64], &[0], local.view());
    }
}

#[derive(Default)]
struct Texts {
    vars: Option<(Var<str>, Var<str>)>,
    step: u64,
    rank: usize,
}

impl Field for Texts {
    fn define(&mut self, out: &mut Writer) {
        let global = out.define::<str>("title", Shape::global_value()).unwrap();
        let local = out.define::<str>("host", Shape::local_value()).unwrap();
        self.vars = Some((global, local));
    }

    fn compute(&mut self, step: u64, rank: usize, _ranks: usize) {
        (self.step, self.rank) = (step, rank);
    }

    fn put<'d>(&'d self, step: &Step<'_, 'd>) {
        let (global, local) = self.vars.unwrap();
        if self.rank == 0 {
            step.put_value(global, &cells::text("title", self.step, 0))
                .unwrap();
        }
        step.put_value(local, &cells::text("host", self.step, self.rank as u64))
            .unwrap();
    }

    fn check(&self, step: &Snapshot, writers: usize, _rank: usize, _ranks: usize) {
        let number = step.number();
        assert_eq!(
            step.get_text("title").unwrap(),
            cells::text("title", number, 0)
        );
        let hosts: Vec<_> = (0..writers as u64)
            .map(|rank| cells::text("host", number, rank))
            .collect();
        assert_eq!(step.get_texts("host").unwrap(), hosts);
    }
}

fn fields() -> Vec<Box<dyn Field>> {
    let mut fields: Vec<Box<dyn Field>> = vec![
        array::<f64>("line ", &[17]),
        array::<f64>("cube ", &[4, 5, 6]),
        array::<f64>("four ", &[5, 4, 2, 5]),
        array::<Complex32>("four ", &[2, 3, 4, 5]),
        array::<i16>("line ", &[101]),
        Box::new(Texts::default()),
    ];
    macro_rules! each {
        ($($type:ty)*) => {$(
            fields.push(array::<$type>("plane ", &[6, 10]));
            fields.push(value::<$type>());
        )*};
    }
    each!(i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 Complex32 Complex64 bool);
    fields
}

/// Puts its slabs of every field.
pub fn types_writer(part: &Part) {
    let mut fields = fields();
    let mut out = part.writer();
    fields.iter_mut().for_each(|field| field.define(&mut out));
    for number in 0..part.number("steps") {
        fields
            .iter_mut()
            .for_each(|field| field.compute(number, part.rank, part.size));
        let step = out.begin_step(time(number)).unwrap();
        assert_eq!(step.number(), number);
        fields.iter().for_each(|field| field.put(&step));
        let sealed = step.end().unwrap();
        assert_eq!((sealed.step, sealed.discarded), (number, false));
    }
    out.close().unwrap();
}

/// Checks every field, cut otherwise than it was put.
pub fn types_reader(part: &Part) {
    let (fields, writers) = (fields(), part.number("writers") as usize);
    let mut inp = part.reader();
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        assert_eq!(step.number(), seen);
        assert_eq!(step.time(), Some(sim_time(seen)));
        assert_eq!(step.variables().count(), fields.len() - 1 - 13 + 2 + 26);
        fields
            .iter()
            .for_each(|field| field.check(&step, writers, part.rank, part.size));
        seen += 1;
    }
    assert_eq!(seen, part.number("steps"));
}

/// Read at once, deferred in a batch, and both in one step.
pub fn modes(stage: &mut Stage) {
    let url = stage.url_with("modes", stage.keep_all());
    stage.start("layouts::modes_reader", 2, &url, &[]);
    stage.start("layouts::modes_writer", 2, &url, &[]);
    stage.all_ended();
}

const MODES_SHAPE: [u64; 2] = [12, 20];

/// Puts one buffer each step, and spoils it as soon as it is its own again.
pub fn modes_writer(part: &Part) {
    let mut out = part.writer();
    let u = out.define::<f64>("u", Shape::global(MODES_SHAPE)).unwrap();
    let v = out.define::<i32>("v", Shape::global(MODES_SHAPE)).unwrap();
    let (start, count) = grid::slab(&MODES_SHAPE, 1, part.rank, part.size);
    let mut field = cells::block::<f64>("u", 0, &MODES_SHAPE, &start, &count);
    let mut other = cells::block::<i32>("v", 0, &MODES_SHAPE, &start, &count);
    for number in 0..9 {
        field.assign(&cells::block("u", number, &MODES_SHAPE, &start, &count));
        other.assign(&cells::block("v", number, &MODES_SHAPE, &start, &count));
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &start, &field).unwrap();
        step.put(v, &start, &other).unwrap();
        step.end().unwrap();
        field.fill(f64::NAN);
        other.fill(-1);
    }
    out.close().unwrap();
}

/// Gets now, in a batch, or both, by turns; destinations are spoiled before.
pub fn modes_reader(part: &Part) {
    let mut inp = part.reader();
    let (start, count) = grid::slab(&MODES_SHAPE, 0, part.rank, part.size);
    let sides = [count[0] as usize, count[1] as usize];
    let mut u = ndarray::Array2::<f64>::zeros(sides);
    let mut v = ndarray::Array2::<i32>::zeros(sides);
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let wanted = (&start, &count);
        u.fill(f64::NAN);
        v.fill(-1);
        match step.number() % 3 {
            0 => {
                step.get_into("u", wanted, u.view_mut()).unwrap();
                v = step.get::<i32, Ix2>("v", wanted).unwrap();
            }
            1 => {
                let mut batch = step.batch();
                batch.get_into("u", wanted, u.view_mut()).unwrap();
                batch.get_into("v", wanted, v.view_mut()).unwrap();
                batch.finish().unwrap();
            }
            _ => {
                let mut batch = step.batch();
                batch.get_into("u", wanted, u.view_mut()).unwrap();
                step.get_into("v", wanted, v.view_mut()).unwrap();
                cells::check(
                    "v",
                    step.number(),
                    &MODES_SHAPE,
                    &start,
                    v.view().into_dyn(),
                );
                batch.finish().unwrap();
            }
        }
        cells::check(
            "u",
            step.number(),
            &MODES_SHAPE,
            &start,
            u.view().into_dyn(),
        );
        cells::check(
            "v",
            step.number(),
            &MODES_SHAPE,
            &start,
            v.view().into_dyn(),
        );
        seen += 1;
    }
    assert_eq!(seen, 9);
}

/// Every mix of absent, copied, lent and span for five variables: 4⁵ steps.
pub fn mixes(stage: &mut Stage) {
    let url = stage.url_with("mixes", stage.keep_all());
    stage.start("layouts::mixes_reader", 1, &url, &[]);
    stage.start("layouts::mixes_writer", 1, &url, &[]);
    stage.all_ended();
}

const MIXES: u64 = 4_u64.pow(5);
const MIXED_SHAPE: [u64; 1] = [16];

/// How variable `index` is put in a step: 0 not at all, 1 copied, 2 lent, 3 as a span.
fn way(step: u64, index: u32) -> u64 {
    step / 4_u64.pow(index) % 4
}

trait Mixed {
    fn define(&mut self, out: &mut Writer);
    fn put<'d>(&'d mut self, step: &Step<'_, 'd>);
    fn check(&self, step: &Snapshot);
}

struct Mix<T: Cell + Pod> {
    name: &'static str,
    index: u32,
    var: Option<Var<T>>,
    buffer: ArrayD<T>,
}

fn mix<T: Cell + Pod + 'static>(name: &'static str, index: u32) -> Box<dyn Mixed> {
    let buffer = cells::block::<T>(name, 0, &MIXED_SHAPE, &[0], &MIXED_SHAPE);
    Box::new(Mix {
        name,
        index,
        var: None,
        buffer,
    })
}

fn mixes_of_all() -> [Box<dyn Mixed>; 5] {
    [
        mix::<f64>("a", 0),
        mix::<i32>("b", 1),
        mix::<u8>("c", 2),
        mix::<f32>("d", 3),
        mix::<u64>("e", 4),
    ]
}

impl<T: Cell + Pod> Mixed for Mix<T> {
    fn define(&mut self, out: &mut Writer) {
        self.var = Some(out.define(self.name, Shape::global(MIXED_SHAPE)).unwrap());
    }

    fn put<'d>(&'d mut self, step: &Step<'_, 'd>) {
        let (number, var) = (step.number(), self.var.unwrap());
        let made = cells::block::<T>(self.name, number, &MIXED_SHAPE, &[0], &MIXED_SHAPE);
        match way(number, self.index) {
            0 => {}
            1 => {
                self.buffer.assign(&made);
                step.put(var, &[0], &self.buffer).unwrap();
            }
            2 => step.put_owned(var, &[0], made).unwrap(),
            _ => {
                let mut span = step.span(var, &[0], &MIXED_SHAPE).unwrap();
                span.as_array_mut().assign(&made);
            }
        }
    }

    fn check(&self, step: &Snapshot) {
        let (name, number) = (self.name, step.number());
        let is_there = way(number, self.index) != 0;
        assert_eq!(
            step.variable(name).is_ok(),
            is_there,
            "`{name}`, step {number}"
        );
        if is_there {
            let read: ArrayD<T> = step.get(name, ..).unwrap();
            cells::check(name, number, &MIXED_SHAPE, &[0], read.view());
        }
    }
}

/// Puts each variable in the way of the step.
pub fn mixes_writer(part: &Part) {
    let (mut out, mut mixes) = (part.writer(), mixes_of_all());
    mixes.iter_mut().for_each(|mix| mix.define(&mut out));
    for number in 0..MIXES {
        let step = out.begin_step(time(number)).unwrap();
        mixes.iter_mut().for_each(|mix| mix.put(&step));
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Checks which variables are there, and their cells.
pub fn mixes_reader(part: &Part) {
    let (mut inp, mixes) = (part.reader(), mixes_of_all());
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        assert_eq!(step.number(), seen);
        mixes.iter().for_each(|mix| mix.check(&step));
        seen += 1;
    }
    assert_eq!(seen, MIXES);
}

/// The two-dimensional layouts: rows and columns of the writers', then of the readers' grid.
pub const PLANES: [[usize; 4]; 14] = [
    [1, 1, 1, 2],
    [1, 1, 2, 1],
    [1, 2, 1, 1],
    [2, 1, 1, 1],
    [1, 2, 2, 1],
    [2, 1, 1, 2],
    [2, 2, 1, 1],
    [1, 1, 2, 2],
    [2, 2, 2, 2],
    [4, 1, 1, 4],
    [1, 4, 4, 1],
    [4, 2, 1, 2],
    [2, 1, 2, 4],
    [4, 2, 2, 4],
];

/// Fourteen layouts, one after the other.
pub fn planes(stage: &mut Stage) {
    for (number, [wy, wx, ry, rx]) in PLANES.into_iter().enumerate() {
        let url = stage.url_with(&format!("planes-{number}"), stage.keep_all());
        let grid = |y: usize, x: usize| [("rows", y as u64), ("columns", x as u64)];
        stage.start("layouts::planes_writer", wy * wx, &url, &grid(wy, wx));
        stage.start("layouts::planes_reader", ry * rx, &url, &grid(ry, rx));
        stage.all_ended();
    }
}

const PLANE: [u64; 2] = [11, 14];
const PLANE_STEPS: u64 = 3;

fn own_tile(part: &Part) -> grid::Extent {
    let ranks = [
        part.number("rows") as usize,
        part.number("columns") as usize,
    ];
    grid::tile(&PLANE, &ranks, part.rank)
}

/// Puts its tile.
pub fn planes_writer(part: &Part) {
    let mut out = part.writer();
    let u = out.define::<f32>("u", Shape::global(PLANE)).unwrap();
    let (start, count) = own_tile(part);
    for number in 0..PLANE_STEPS {
        let tile = cells::block::<f32>("u", number, &PLANE, &start, &count);
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &start, &tile).unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Gets its tile, and each block by itself.
pub fn planes_reader(part: &Part) {
    let mut inp = part.reader();
    let (start, count) = own_tile(part);
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let tile: ArrayD<f32> = step.get("u", (&start, &count)).unwrap();
        cells::check("u", step.number(), &PLANE, &start, tile.view());
        for (id, block) in step.variable("u").unwrap().blocks().iter().enumerate() {
            let read: ArrayD<f32> = step.get("u", BlockId(id as u32)).unwrap();
            cells::check("u", step.number(), &PLANE, &block.block.start, read.view());
        }
        seen += 1;
    }
    assert_eq!(seen, PLANE_STEPS);
}
