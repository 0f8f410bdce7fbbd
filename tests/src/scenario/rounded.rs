//! Variables with an accuracy: what comes back is within the bound of what was put, is
//! the same numbers on every engine, and takes less room once it is compressed.

use ndarray::{Array2, ArrayView2, s};
use panta::{Accuracy, Complex64, Element, Shape, Snapshot};

use super::packed::data_bytes;
use crate::cells;
use crate::grid;
use crate::part::{Part, time};
use crate::stage::{Engine, Stage};

const STEPS: u64 = 3;
const SHAPE: [u64; 2] = [120, 250];

const ABSOLUTE: f64 = 1e-3;
const RELATIVE: f64 = 1e-4;
const MODULUS: f64 = 0.3;

/// One stream for all; over files a second that is compressed, and one more where nothing
/// is rounded.
pub fn lossy(stage: &mut Stage) {
    let couple = |stage: &mut Stage, name: &str, query: &str, bounded: u64| {
        let url = stage.url_with(name, query);
        stage.start("rounded::writer", 2, &url, &[("bounded", bounded)]);
        stage.start("rounded::reader", 3, &url, &[("bounded", bounded)]);
        stage.all_ended();
    };
    couple(stage, "rounded", "", 1);
    let spans = stage.url_with("spans", stage.alone());
    stage.start("rounded::span_writer", 2, &spans, &[]);
    stage.all_ended();
    if stage.engine == Engine::File {
        couple(stage, "packed", "compress=zstd", 1);
        couple(stage, "exact", "compress=zstd", 0);
        let bytes = ["packed", "exact"].map(|name| data_bytes(&stage.file(name)));
        assert!(bytes[0] < bytes[1] / 2, "{bytes:?}");
    }
}

/// Noise of every size, and what is no ordinary number.
fn number(step: u64, at: u64) -> f64 {
    let bits = cells::bits("number", step, at);
    let digits = (bits >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
    match at % 97 {
        0 => f64::NAN,
        1 => f64::NEG_INFINITY,
        2 => -0.0,
        3 => f64::MAX,
        4 => digits * f64::MIN_POSITIVE,
        5 => digits * 1e300,
        6 => digits * ABSOLUTE,
        _ => digits * 100.0,
    }
}

fn short(step: u64, at: u64) -> f32 {
    match number(step, at) {
        f64::MAX => f32::MAX,
        value => value as f32,
    }
}

fn complex(step: u64, at: u64) -> Complex64 {
    Complex64::new(number(step, 97 * at + 8), number(step, 97 * at + 9))
}

/// The multiple of two to the `power` that is nearest to `value`.
fn multiple(value: f64, power: i32) -> f64 {
    let unit = 2_f64.powi(power);
    match (value / unit).is_finite() {
        true => (value / unit).round_ties_even() * unit,
        false => value,
    }
}

/// The number with so many bits behind its first that is nearest to `value`.
fn digits(value: f32, bits: i32) -> f32 {
    if !value.is_normal() {
        return value;
    }
    let value = f64::from(value);
    let mut exponent = 0;
    while value.abs() < 2_f64.powi(exponent) {
        exponent -= 1;
    }
    while value.abs() >= 2_f64.powi(exponent + 1) {
        exponent += 1;
    }
    match multiple(value, exponent - bits) as f32 {
        rounded if rounded.is_finite() => rounded,
        _ => value as f32,
    }
}

fn slab<T>(part: &Part, cell: impl Fn(u64) -> T) -> (Vec<u64>, Array2<T>) {
    let (start, count) = grid::slab(&SHAPE, 0, part.rank, part.size);
    let sides = (count[0] as usize, count[1] as usize);
    let block = Array2::from_shape_fn(sides, |(y, x)| {
        cell((start[0] + y as u64) * SHAPE[1] + x as u64)
    });
    (start, block)
}

/// Puts what is copied from within ghost cells, lent, and computed in place.
pub fn writer(part: &Part) {
    let mut out = part.writer();
    let shape = |accuracy| {
        let shape = Shape::global(SHAPE);
        if part.number("bounded") == 1 {
            shape.accuracy(accuracy)
        } else {
            shape
        }
    };
    let field = out.define::<f64>("field", shape(Accuracy::Absolute(ABSOLUTE)));
    let lent = out.define::<f64>("lent", shape(Accuracy::Absolute(ABSOLUTE)));
    let computed = out.define::<f32>("computed", shape(Accuracy::Relative(RELATIVE)));
    let wave = out.define::<Complex64>("wave", shape(Accuracy::Absolute(MODULUS)));
    let (field, lent) = (field.unwrap(), lent.unwrap());
    let (computed, wave) = (computed.unwrap(), wave.unwrap());
    for step_number in 0..STEPS {
        let (start, block) = slab(part, |at| number(step_number, at));
        let sides = block.dim();
        let mut ghosted = Array2::from_elem((sides.0 + 2, sides.1), f64::NAN);
        ghosted.slice_mut(s![1..=sides.0, ..]).assign(&block);
        let contiguous = block.clone();
        let (_, waves) = slab(part, |at| complex(step_number, at));
        let (_, values) = slab(part, |at| short(step_number, at));
        let step = out.begin_step(time(step_number)).unwrap();
        let inner = s![1..=sides.0, ..];
        step.put(field, &start, ghosted.slice(inner)).unwrap();
        step.put_owned(lent, &start, block).unwrap();
        let count = [sides.0 as u64, sides.1 as u64];
        let mut span = step.span(computed, &start, &count).unwrap();
        span.as_mut_slice()
            .copy_from_slice(values.as_slice().unwrap());
        step.put(wave, &start, &waves).unwrap();
        step.end().unwrap();
        // What was put is as it was.
        assert!(same(ghosted.slice(inner), contiguous.view()));
    }
    out.close().unwrap();
}

fn same(one: ArrayView2<'_, f64>, other: ArrayView2<'_, f64>) -> bool {
    one.iter()
        .zip(&other)
        .all(|(one, other)| one.to_bits() == other.to_bits())
}

/// Computes into spans of a variable with an accuracy; nothing is copied.
pub fn span_writer(part: &Part) {
    let mut out = part.writer();
    let shape = Shape::global(SHAPE).accuracy(Accuracy::Relative(RELATIVE));
    let computed = out.define::<f32>("computed", shape).unwrap();
    for step_number in 0..STEPS {
        let (start, values) = slab(part, |at| short(step_number, at));
        let step = out.begin_step(time(step_number)).unwrap();
        let count = [values.dim().0 as u64, SHAPE[1]];
        let mut span = step.span(computed, &start, &count).unwrap();
        span.as_mut_slice()
            .copy_from_slice(values.as_slice().unwrap());
        step.end().unwrap();
    }
    assert_eq!(out.copies().bytes(), 0, "bytes were copied");
    out.close().unwrap();
}

/// Reads a variable and gives each cell to `check`, with its place.
fn each<T: Element>(step: &Snapshot, name: &str, mut check: impl FnMut(u64, T)) {
    let read: Array2<T> = step.get(name, ..).unwrap();
    assert_eq!(read.shape(), [120, 250]);
    for ((y, x), value) in read.indexed_iter() {
        check(y as u64 * SHAPE[1] + x as u64, *value);
    }
}

/// Every cell is within the bound, and is the number that the bound makes of it.
pub fn reader(part: &Part) {
    let mut inp = part.reader();
    let bounded = part.number("bounded") == 1;
    let accuracy = |name: &str, step: &Snapshot| {
        let variable = step.variable(name).unwrap();
        variable.definition().accuracy
    };
    for number_of in 0..STEPS {
        let step = inp.next_step().unwrap().expect("a step");
        let given = |accuracy| bounded.then_some(accuracy);
        assert_eq!(
            accuracy("field", &step),
            given(Accuracy::Absolute(ABSOLUTE))
        );
        assert_eq!(
            accuracy("computed", &step),
            given(Accuracy::Relative(RELATIVE))
        );
        let mut changed = 0;
        for name in ["field", "lent"] {
            each::<f64>(&step, name, |at, found| {
                let put = number(number_of, at);
                let expected = if bounded { multiple(put, -9) } else { put };
                assert_eq!(found.to_bits(), expected.to_bits(), "{put:e} is {found:e}");
                assert!(!put.is_finite() || (found - put).abs() <= ABSOLUTE);
                changed += u64::from(found.to_bits() != put.to_bits());
            });
        }
        each::<f32>(&step, "computed", |at, found| {
            let put = short(number_of, at);
            let expected = if bounded { digits(put, 13) } else { put };
            assert_eq!(found.to_bits(), expected.to_bits(), "{put:e} is {found:e}");
            let (put, found) = (f64::from(put), f64::from(found));
            assert!(!put.is_finite() || (found - put).abs() <= RELATIVE * put.abs());
            changed += u64::from(found.to_bits() != put.to_bits());
        });
        each::<Complex64>(&step, "wave", |at, found| {
            let put = complex(number_of, at);
            assert!((found - put).norm() <= MODULUS, "{put} is {found}");
            changed += u64::from(found != put);
        });
        assert_eq!(changed > 3 * SHAPE[0] * SHAPE[1], bounded, "{changed}");
        check_extremes(&step);
        let part: Array2<f64> = step.get("field", s![30..95, 7..9]).unwrap();
        let whole: Array2<f64> = step.get("field", ..).unwrap();
        assert!(same(part.view(), whole.slice(s![30..95, 7..9])));
    }
    assert!(inp.next_step().unwrap().is_none());
}

/// Smallest and largest are those of what is read, not of what was put.
fn check_extremes(step: &Snapshot) {
    let read: Array2<f32> = step.get("computed", ..).unwrap();
    let numbers = || read.iter().copied().filter(|value| !value.is_nan());
    let stats = step.variable("computed").unwrap().stats().expect("numbers");
    let largest = numbers().fold(f32::NEG_INFINITY, f32::max);
    assert_eq!(stats.max, panta::Number::Float(largest.into()));
    assert_eq!(stats.nans as usize, read.len() - numbers().count());
}
