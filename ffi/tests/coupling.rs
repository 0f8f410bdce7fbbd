//! A program in C and one in Rust, coupled: `round.c` checks whatever it reads
//! against what it would write, so each side must make the very same stream.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::{Child, Stdio};

use ndarray::{Array1, Array2, ArrayD, s};
use panta::{
    Accuracy, Attribute, BlockId, Complex32, Complex64, Reader, Shape, Solo, Start, Step, StepTime,
    Storable, Var, Writer,
};
use support::{Workshop, check, here};

/// Starts `round.c` on one side; `None`, noted as a skip, without a compiler.
fn start_c(shop: &Workshop, url: &str, side: &str) -> Option<Child> {
    let source = here().join("tests/programs/round.c");
    let built = shop.compile("cc", &["-std=c99", "-x", "c"], &source)?;
    let mut command = shop.command(built);
    command.args([url, side]).stderr(Stdio::piped());
    Some(command.spawn().unwrap())
}

/// Calls a macro for every dtype that arrays have: code, type, value of number `n`.
macro_rules! every_dtype {
    ($call:ident $(, $context:expr)*) => {
        $call!($($context,)* 1, i8, |n: i64| -n as i8);
        $call!($($context,)* 2, i16, |n: i64| (-300 * n) as i16);
        $call!($($context,)* 3, i32, |n: i64| (-70000 * n) as i32);
        $call!($($context,)* 4, i64, |n: i64| -5_000_000_000 * n);
        $call!($($context,)* 5, u8, |n: i64| (200 + n) as u8);
        $call!($($context,)* 6, u16, |n: i64| (60000 + n) as u16);
        $call!($($context,)* 7, u32, |n: i64| (4_000_000_000 + n) as u32);
        $call!($($context,)* 8, u64, |n: i64| u64::MAX - n as u64);
        $call!($($context,)* 9, f32, |n: i64| 0.5 * n as f32);
        $call!($($context,)* 10, f64, |n: i64| 0.1 * n as f64);
        $call!($($context,)* 11, Complex32, |n: i64| Complex32::new(n as f32, -(n as f32)));
        $call!($($context,)* 12, Complex64, |n: i64| Complex64::new(n as f64, -(n as f64)));
        $call!($($context,)* 13, bool, |n: i64| n % 2 == 1);
    };
}

#[test]
fn what_c_writes_rust_reads_while_it_is_written() {
    let shop = Workshop::new();
    let url = shop.url("c.panta");
    let Some(writer) = start_c(&shop, &url, "write") else {
        return;
    };
    let mut reader = Reader::open(&url, Solo, Start::Oldest).unwrap();
    let mut steps = 0;
    while let Some(step) = reader.next_step().unwrap() {
        macro_rules! compare {
            ($code:expr, $rust:ty, $value:expr) => {
                let got: Array2<$rust> = step.get(&format!("array_{}", $code), ..).unwrap();
                let expected: Vec<$rust> = (0..12).map(|index| ($value)(index + steps)).collect();
                assert_eq!(got.into_raw_vec_and_offset().0, expected, "array_{}", $code);
            };
        }
        every_dtype!(compare);
        let local: Array1<i32> = step.get("local", BlockId(1)).unwrap();
        assert_eq!(local.to_vec(), [10, 11, 12]);
        let row: Array1<f64> = step.get("joined", s![4, ..]).unwrap();
        assert_eq!(row[0], 100.0 * steps as f64 + 32.0);
        assert_eq!(step.get_texts("texts").unwrap(), ["", "b"]);
        let ints = step.variable_attribute("value", "ints");
        assert_eq!(ints, Some(&Attribute::Ints(vec![-1, i64::MIN])));
        assert_eq!(step.variable("array_1").unwrap().definition().unit, "K");
        steps += 1;
    }
    assert_eq!(steps, 2);
    check(&writer.wait_with_output().unwrap(), "round.c");
}

/// The variables of `round.c` besides its arrays of every dtype.
struct Others {
    local: Var<i32>,
    joined: Var<f64>,
    value: Var<f64>,
    values: Var<u16>,
    text: Var<str>,
    texts: Var<str>,
    holes: Var<f64>,
}

fn define_others(out: &mut Writer) -> Others {
    let others = Others {
        local: out.define("local", Shape::local(1)).unwrap(),
        joined: out.define("joined", Shape::joined(0, [0, 4])).unwrap(),
        value: out.define("value", Shape::global_value()).unwrap(),
        values: out.define("values", Shape::local_value()).unwrap(),
        text: out.define("text", Shape::global_value()).unwrap(),
        texts: out.define("texts", Shape::local_value()).unwrap(),
        holes: out
            .define("holes", {
                let shape = Shape::global([3, 4]).fill(-1.5).chunk([2, 2]);
                shape.accuracy(Accuracy::Absolute(0.3))
            })
            .unwrap(),
    };
    out.set_attribute("int", -7_i64).unwrap();
    out.set_attribute("uint", u64::MAX).unwrap();
    out.set_attribute("float", 2.5).unwrap();
    let mut set = |name: &str, value: Attribute| {
        out.set_variable_attribute(others.value, name, value)
            .unwrap();
    };
    set("text", "of the value".into());
    set("ints", Attribute::Ints(vec![-1, i64::MIN]));
    set("uints", Attribute::UInts(vec![u64::MAX]));
    set("floats", Attribute::Floats(vec![0.5, -0.25, 1e300]));
    set("texts", ["eins", "zwölf"].into());
    set("none", Attribute::Ints(vec![]));
    others
}

fn put_others<'d>(step: &Step<'_, 'd>, others: &Others, field: &'d Array2<f64>, locals: &'d [i32]) {
    let number = step.number();
    for rows in 2..=3 {
        step.put(others.local, &[], &locals[..rows]).unwrap();
        step.put(others.joined, &[], field.slice(s![1..=rows, 2..6]))
            .unwrap();
    }
    step.put(others.holes, &[1, 1], field.slice(s![1..3, 2..4]))
        .unwrap();
    step.put_value(others.value, &(4.5 + number as f64))
        .unwrap();
    step.put_value(others.values, &7).unwrap();
    step.put_value(others.values, &8).unwrap();
    let text = if number == 0 { "first" } else { "second" };
    step.put_value(others.text, text).unwrap();
    step.put_value(others.texts, "").unwrap();
    step.put_value(others.texts, "b").unwrap();
}

/// A put that waits for its step.
type PutLater = Box<dyn FnOnce(&Step<'_, '_>)>;

#[test]
fn what_rust_writes_c_reads_while_it_is_written() {
    let shop = Workshop::new();
    let url = shop.url("rust.panta");
    let Some(reader) = start_c(&shop, &url, "read") else {
        return;
    };
    let mut out = Writer::open(&url, Solo).unwrap();
    let shape = || {
        Shape::global([3, 4])
            .dims(["y", "x"])
            .unit("K")
            .coordinates(["array_9"])
    };
    macro_rules! define {
        ($out:expr, $code:expr, $rust:ty, $value:expr) => {
            let _: Var<$rust> = $out.define(&format!("array_{}", $code), shape()).unwrap();
        };
    }
    every_dtype!(define, out);
    let others = define_others(&mut out);
    for number in 0..2_i64 {
        let field =
            Array2::from_shape_fn((5, 7), |(y, x)| 100.0 * number as f64 + (10 * y + x) as f64);
        let locals = [10, 11, 12, 13, 14];
        // Defining alike gives the same variable, which spares a list of every type.
        macro_rules! again {
            ($out:expr, $list:expr, $code:expr, $rust:ty, $value:expr) => {
                let variable: Var<$rust> =
                    $out.define(&format!("array_{}", $code), shape()).unwrap();
                let cells = (0..12).map(|index| ($value)(index + number)).collect();
                let array: ArrayD<$rust> =
                    ndarray::ArrayD::from_shape_vec(vec![3, 4], cells).unwrap();
                $list.push(Box::new(move |step: &Step<'_, '_>| {
                    step.put_owned(variable, &[0, 0], array).unwrap();
                }));
            };
        }
        let mut puts: Vec<PutLater> = Vec::new();
        every_dtype!(again, out, puts);
        let time = match number {
            0 => StepTime::default(),
            _ => StepTime::sim(0.25),
        };
        let step = out.begin_step(time).unwrap();
        puts.into_iter().for_each(|put| put(&step));
        put_others(&step, &others, &field, &locals);
        step.end().unwrap();
    }
    out.close().unwrap();
    check(&reader.wait_with_output().unwrap(), "round.c");
}

/// Keeps the list of dtypes here and in the header alike.
#[test]
fn the_codes_of_dtypes_are_those_of_the_library() {
    assert_eq!(<str as Storable>::DTYPE as i32, panta_c::types::PANTA_TEXT);
    macro_rules! same {
        ($code:expr, $rust:ty, $value:expr) => {
            assert_eq!(<$rust as Storable>::DTYPE as i32, $code);
        };
    }
    every_dtype!(same);
}
