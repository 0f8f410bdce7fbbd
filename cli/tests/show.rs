//! What `panta show` says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{refused, said, u, write_everything};
use ndarray::Array2;
use panta::{Shape, Solo, StepTime, Writer};
use serde_json::{Value, json};

fn everything() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_everything(directory.path());
    directory
}

fn shown(directory: &tempfile::TempDir, arguments: &[&str]) -> String {
    said(directory.path(), &[&["show", "run"], arguments].concat())
}

#[test]
fn arrays_look_as_in_numpy() {
    let run = everything();
    let text = shown(
        &run,
        &["u", "--step", "1", "--start", "0,3,4", "--count", "2,2,2"],
    );
    let expected = "\
[[[1034.0 1035.0]
  [1044.0 1045.0]]

 [[1134.0 1135.0]
  [1144.0 1145.0]]]
";
    assert_eq!(text, expected);
    assert_eq!(
        shown(
            &run,
            &["u", "--slice", "z=-1,y=0,x=1:6:2", "--step", "first"]
        ),
        "[301.0 303.0 305.0]\n"
    );
    assert_eq!(shown(&run, &["u", "--slice", "0,0,0"]), "2000.0\n");
    assert_eq!(
        shown(&run, &["rows"]),
        "[[0.5 0.5]\n [0.5 0.5]\n [0.1 0.1]\n [0.1 0.1]]\n"
    );
    assert_eq!(shown(&run, &["flags"]), "[ true false false]\n");
    assert_eq!(shown(&run, &["phase"]), "[1.0-0.5j 2.0+nanj]\n");
    assert_eq!(
        shown(&run, &["cells", "--block", "1"]),
        "[[-1 -1 -1]\n [-1 -1 -1]]\n"
    );
    assert_eq!(
        shown(&run, &["cells", "--block", "1", "--step", "0"]),
        "[]\n"
    );
    assert_eq!(
        shown(&run, &["count", "--step", "first"]),
        "18446744073709551615\n"
    );
    assert_eq!(shown(&run, &["loads"]), "[3 2]\n");
    assert_eq!(shown(&run, &["note"]), "step says \"hé\"\n");
}

#[test]
fn json_is_exact_and_has_the_shape_of_the_selection() {
    let run = everything();
    let read = |arguments: &[&str]| -> Value {
        serde_json::from_str(&shown(&run, &[arguments, &["--json"]].concat())).unwrap()
    };
    let whole = read(&["u", "--step", "2"]);
    for (z, y, x) in [(0, 0, 0), (1, 4, 5), (3, 2, 1)] {
        assert_eq!(whole[z][y][x], json!(u(2, z, y, x)));
    }
    assert_eq!(
        read(&[
            "u", "--start", "1,0,1", "--count", "2,1,2", "--stride", "2,1,3"
        ]),
        json!([[[2101.0, 2104.0]], [[2301.0, 2304.0]]])
    );
    assert_eq!(read(&["phase"]), json!([[1.0, -0.5], [2.0, "NaN"]]));
    assert_eq!(read(&["flags"]), json!([true, false, false]));
    assert_eq!(read(&["note"]), json!("step says \"hé\""));
    assert_eq!(read(&["count"]), json!(u64::MAX - 2));
}

#[test]
fn large_arrays_are_abbreviated_and_small_parts_of_them_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file:{}", directory.path().join("run.panta").display());
    let mut out = Writer::open(&url, Solo).unwrap();
    let wide = out
        .define::<i32>("wide", Shape::global([100, 200]))
        .unwrap();
    let field = Array2::from_shape_fn((100, 200), |(y, x)| (y * 1000 + x) as i32);
    let step = out.begin_step(StepTime::default()).unwrap();
    step.put(wide, &[0, 0], &field).unwrap();
    step.end().unwrap();
    out.close().unwrap();
    let expected = "\
[[    0     1     2 ...   197   198   199]
 [ 1000  1001  1002 ...  1197  1198  1199]
 [ 2000  2001  2002 ...  2197  2198  2199]
 ...
 [97000 97001 97002 ... 97197 97198 97199]
 [98000 98001 98002 ... 98197 98198 98199]
 [99000 99001 99002 ... 99197 99198 99199]]
";
    assert_eq!(shown(&directory, &["wide"]), expected);
    // With a stride, the last ones shown are the last ones taken.
    let strided = shown(&directory, &["wide", "--slice", "5,3::10", "--limit", "10"]);
    assert_eq!(strided, "[5003 5013 5023 ... 5173 5183 5193]\n");
    let lines = shown(&directory, &["wide", "--slice", "5,:"]);
    assert!(
        lines.lines().count() > 5 && lines.lines().all(|line| line.len() <= 101),
        "{lines}"
    );
}

#[test]
fn bad_input_is_refused_with_what_would_do() {
    let run = everything();
    let bad = |code, arguments: &[&str], part: &str| {
        let error = refused(run.path(), code, &[&["show", "run"], arguments].concat());
        assert!(error.contains(part), "{arguments:?}: {error}");
    };
    bad(1, &["uu"], "did you mean `u`");
    bad(
        1,
        &["u", "--start", "0,0,5", "--count", "1,1,2"],
        "dimension 2 (`x`), which has 6",
    );
    bad(
        1,
        &[
            "u",
            "--count",
            "18446744073709551615,1,1",
            "--stride",
            "9,1,1",
        ],
        "dimension 0",
    );
    bad(
        1,
        &["u", "--start", "1,2"],
        "--start has 2 numbers, the array 3 dimensions",
    );
    bad(1, &["u", "--stride", "1,0,1"], "is 0");
    bad(1, &["u", "--slice", "w=1"], "z, y, x");
    bad(1, &["u", "--slice", "4,0,0"], "dimension 0, which has 4");
    bad(1, &["u", "--step", "3"], "the oldest is 0, the newest 2");
    bad(1, &["cells"], "--block");
    bad(1, &["cells", "--block", "2"], "there are 2");
    bad(2, &["u", "--step", "third"], "`first` or `last`");
    bad(2, &["u", "--slice", "a:b"], "no range");
    bad(
        2,
        &["u", "--slice", "1,1,1", "--start", "1,1,1"],
        "cannot be used with",
    );
}
