//! Runs the real program, and makes streams for it to look at.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::path::Path;
use std::process::{Command, Output};

use ndarray::{Array1, Array2, Array3};
use panta::{Complex64, Shape, Solo, StepTime, Writer};

/// Runs `panta` in an environment without streams of its own.
pub(crate) fn panta(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_panta"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .output()
        .unwrap()
}

/// Standard output of a run that must succeed and say nothing else.
pub(crate) fn said(directory: &Path, arguments: &[&str]) -> String {
    let output = panta(directory, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {error}");
    assert_eq!(error, "", "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a run that must fail with `code`, one line if it is 1.
pub(crate) fn refused(directory: &Path, code: i32, arguments: &[&str]) -> String {
    let output = panta(directory, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    if code == 1 {
        assert!(error.starts_with("panta: "), "{error}");
        assert_eq!(error.matches('\n').count(), 1, "{error}");
    }
    error
}

/// The value of `u`: every cell tells its step and place.
pub(crate) fn u(step: u32, z: usize, y: usize, x: usize) -> f64 {
    f64::from(step) * 1000.0 + (z * 100 + y * 10 + x) as f64
}

/// Writes three steps with every kind of variable into `run.panta`.
pub(crate) fn write_everything(directory: &Path) {
    let url = format!("file:{}", directory.join("run.panta").display());
    let mut out = Writer::open(&url, Solo).unwrap();
    write_steps(&mut out);
    out.close().unwrap();
}

/// The same without closing the stream.
pub(crate) fn write_steps(out: &mut Writer) {
    let shape = Shape::global([4, 5, 6]).dims(["z", "y", "x"]).unit("K");
    let u_variable = out.define::<f64>("u", shape).unwrap();
    let flags = out.define::<bool>("flags", Shape::global([3])).unwrap();
    let phase = out
        .define::<Complex64>("phase", Shape::global([2]))
        .unwrap();
    let cells = out.define::<i32>("cells", Shape::local(2)).unwrap();
    let rows = Shape::joined(0, [0, 2]).dims(["particle", "axis"]);
    let rows = out.define::<f32>("rows", rows).unwrap();
    let count = out.define::<u64>("count", Shape::global_value()).unwrap();
    let loads = out.define::<u8>("loads", Shape::local_value()).unwrap();
    let note = out.define::<str>("note", Shape::global_value()).unwrap();
    out.set_attribute("title", "everything").unwrap();
    out.set_attribute("tags", ["a", "b"]).unwrap();
    out.set_variable_attribute(u_variable, "scale", 2.5)
        .unwrap();
    for n in 0..3_u32 {
        let lower = Array3::from_shape_fn((2, 5, 6), |(z, y, x)| u(n, z, y, x));
        let upper = Array3::from_shape_fn((2, 5, 6), |(z, y, x)| u(n, z + 2, y, x));
        let truths = Array1::from_vec(vec![true, false, n == 1]);
        let turned = Array1::from_vec(vec![
            Complex64::new(1.0, -0.5),
            Complex64::new(f64::from(n), f64::NAN),
        ]);
        let blocks = [
            Array2::from_elem((1, 2), n as i32),
            Array2::from_elem((n as usize, 3), -1),
        ];
        let particles = [
            Array2::from_elem((2, 2), 0.5_f32),
            Array2::from_elem((n as usize, 2), 0.1),
        ];
        let step = out.begin_step(StepTime::sim(0.25 * f64::from(n))).unwrap();
        step.put(u_variable, &[0, 0, 0], &lower).unwrap();
        step.put(u_variable, &[2, 0, 0], &upper).unwrap();
        step.put(flags, &[0], &truths).unwrap();
        step.put(phase, &[0], &turned).unwrap();
        for (block, particles) in blocks.iter().zip(&particles) {
            step.put(cells, &[], block).unwrap();
            step.put(rows, &[0, 0], particles).unwrap();
        }
        step.put_value(count, &(u64::MAX - u64::from(n))).unwrap();
        step.put_value(loads, &3).unwrap();
        step.put_value(loads, &(n as u8)).unwrap();
        step.put_value(note, "step says \"hé\"").unwrap();
        step.end().unwrap();
    }
}
