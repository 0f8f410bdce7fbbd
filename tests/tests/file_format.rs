//! The file format against a reader that was written from `docs/format.md` alone.
//!
//! `tests/panta_reader.py` shares no code with the engine. What it reads must be
//! what was put, whatever ranks put it; and one changed byte anywhere must make
//! it fail, with a reason that names the file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ndarray::{Array1, Array2, Array3, IxDyn, s};
use panta::{Accuracy, Complex64, Resume, Shape, Solo, Start, StepTime, Threads, Writer};

const ROWS: usize = 30;
const COLUMNS: usize = 40;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A Python with numpy and zstandard; `None` if there is none, and that is allowed.
fn python() -> Option<PathBuf> {
    let ours = root().join(".venv/bin/python");
    let candidates = [ours, PathBuf::from("python3")];
    let has_numpy = |python: &&PathBuf| {
        let wanted = "import numpy, zstandard";
        let output = Command::new(python).args(["-c", wanted]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = candidates.iter().find(has_numpy).cloned();
    if found.is_none() {
        assert!(
            std::env::var_os("PANTA_CI").is_none(),
            "no Python with numpy and zstandard: run `make setup`"
        );
        eprintln!("skipped: no Python with numpy and zstandard; run `make setup`");
    }
    found
}

fn run(python: &Path, arguments: &[&str]) -> Output {
    let script = root().join("tests/panta_reader.py");
    let mut command = Command::new(python);
    command.arg("-B").arg(script).args(arguments);
    command.output().unwrap()
}

fn run_well(python: &Path, arguments: &[&str]) -> String {
    let output = run(python, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The temperature everywhere, a function of step and place.
fn temperature(step: u64) -> Array2<f64> {
    Array2::from_shape_fn((ROWS, COLUMNS), |(y, x)| {
        step as f64 * 1e4 + y as f64 * 100.0 + x as f64 / 3.0
    })
}

/// What differs between two datasets that hold the same.
#[derive(Clone, Copy)]
struct Manner {
    ranks: usize,
    parameters: &'static str,
    /// Write the first steps twice: go back after the second.
    go_back: bool,
}

fn write(directory: &Path, name: &str, manner: Manner) -> String {
    let path = directory.join(name).display().to_string();
    let url = format!("file:{path}{}", manner.parameters);
    std::thread::scope(|scope| {
        for comm in Threads::group(manner.ranks) {
            let url = &url;
            scope.spawn(move || {
                let mut comm = Some(comm);
                if manner.go_back {
                    let group = comm.take().unwrap();
                    let writer = Writer::open(url, group).unwrap();
                    steps(writer, manner.ranks, 0..3);
                }
                if let Some(comm) = comm {
                    steps(Writer::open(url, comm).unwrap(), manner.ranks, 0..4);
                }
            });
        }
    });
    if manner.go_back {
        std::thread::scope(|scope| {
            for comm in Threads::group(manner.ranks) {
                let url = &url;
                scope.spawn(move || {
                    let options = Writer::options().resume(Resume::After(0));
                    steps(options.open(url, comm).unwrap(), manner.ranks, 1..4);
                });
            }
        });
    }
    path
}

/// Every kind of variable, cut among the ranks in rows.
fn steps(mut out: Writer, ranks: usize, numbers: std::ops::Range<u64>) {
    let (rank, _) = out.session().rank_and_size();
    let shape = [ROWS as u64, COLUMNS as u64];
    let field = Shape::global(shape).dims(["y", "x"]).unit("K");
    let t = out.define::<f64>("temperature", field).unwrap();
    let holes = out
        .define::<i32>("holes", Shape::global(shape).fill(-7_i32))
        .unwrap();
    let rows = out.define::<f32>("rows", Shape::joined(0, [0, 3])).unwrap();
    let flags = out.define::<bool>("flags", Shape::global([64])).unwrap();
    // Whole numbers up to 600, which 13 bits hold.
    let spin_accuracy = Accuracy::Relative(1e-4);
    let spins = out
        .define::<Complex64>("spins", Shape::global([3, 300, 2]).accuracy(spin_accuracy))
        .unwrap();
    let dt = out.define::<f64>("dt", Shape::global_value()).unwrap();
    let note = out.define::<str>("note", Shape::global_value()).unwrap();
    out.set_attribute("codes", ["gray", "scott"]).unwrap();
    out.set_variable_attribute(t, "levels", vec![1.5, 2.5])
        .unwrap();
    let share = |whole: usize| (whole * rank / ranks, whole * (rank + 1) / ranks);
    for number in numbers {
        let whole = temperature(number);
        let (first, last) = share(ROWS);
        let mine = whole.slice(s![first..last, ..]);
        let joined = Array2::from_shape_fn((share(7).1 - share(7).0, 3), |(y, x)| {
            (share(7).0 + y) as f32 * 10.0 + x as f32 + number as f32
        });
        let part = Array2::from_elem((last - first, 5), number as i32);
        let bits =
            Array1::from_shape_fn(share(64).1 - share(64).0, |at| (share(64).0 + at) % 3 == 0);
        let whole_spins = Array3::from_shape_fn((3, 300, 2), |(a, b, c)| {
            Complex64::new(a as f64 + number as f64, (b * 2 + c) as f64)
        });
        let (low, high) = share(300);
        let step = out.begin_step(StepTime::sim(number as f64 / 4.0)).unwrap();
        step.put(t, &[first as u64, 0], mine).unwrap();
        step.put(holes, &[first as u64, 10], &part).unwrap();
        step.put(rows, &[0, 0], &joined).unwrap();
        step.put(flags, &[share(64).0 as u64], &bits).unwrap();
        let strided = whole_spins.slice(s![.., low..high, ..]);
        step.put(spins, &[0, low as u64, 0], strided).unwrap();
        if rank == 0 {
            step.put_value(dt, &(0.5 + number as f64)).unwrap();
            step.put_value(note, "gr\u{fc}n").unwrap();
        }
        step.end().unwrap();
    }
    out.close().unwrap();
}

const ALONE: Manner = Manner {
    ranks: 1,
    parameters: "",
    go_back: false,
};

#[test]
fn the_reader_in_python_finds_what_was_put() {
    let Some(python) = python() else { return };
    let place = tempfile::tempdir().unwrap();
    let path = write(place.path(), "run", Manner { ranks: 3, ..ALONE });
    let listed = run_well(&python, &[&path, "--list", "--verify"]);
    for expected in [
        "step 3 epoch 1 time 0.75",
        "temperature [K]: global array <f8 [30, 40], 3 blocks",
        "spins rounded, relative 0.0001: global array",
        "@codes = ['gray', 'scott']",
        "@temperature.levels = [1.5, 2.5]",
        "4 steps, every checksum fits",
        "\nclosed",
    ] {
        assert!(
            listed.contains(expected),
            "`{expected}` is not in:\n{listed}"
        );
    }
    let out = place.path().join("t.npy");
    run_well(
        &python,
        &[&path, "--dump", "temperature", "2", out.to_str().unwrap()],
    );
    let npy = std::fs::read(&out).unwrap();
    let cells: Vec<u8> = temperature(2)
        .iter()
        .flat_map(|it| it.to_le_bytes())
        .collect();
    assert!(npy.ends_with(&cells));
    let holes = place.path().join("h.npy");
    run_well(
        &python,
        &[&path, "--dump", "holes", "3", holes.to_str().unwrap()],
    );
    let npy = std::fs::read(&holes).unwrap();
    let expected = (0..ROWS * COLUMNS).flat_map(|at| {
        let covered = (10..15).contains(&(at % COLUMNS));
        (if covered { 3_i32 } else { -7 }).to_le_bytes()
    });
    assert!(npy.ends_with(&expected.collect::<Vec<u8>>()));
}

#[test]
fn datasets_of_other_ranks_and_lives_hold_the_same_and_one_value_more_is_seen() {
    let Some(python) = python() else { return };
    let place = tempfile::tempdir().unwrap();
    let alone = write(place.path(), "alone", ALONE);
    let others = [
        Manner { ranks: 4, ..ALONE },
        Manner {
            ranks: 2,
            go_back: true,
            ..ALONE
        },
        Manner {
            parameters: "?direct=true",
            ..ALONE
        },
        Manner {
            ranks: 2,
            parameters: "?sync=step",
            ..ALONE
        },
        Manner {
            ranks: 2,
            parameters: "?sync=close",
            ..ALONE
        },
        Manner {
            ranks: 2,
            parameters: "?compress=zstd",
            go_back: true,
        },
        Manner {
            parameters: "?compress=zstd:9&direct=true",
            ..ALONE
        },
    ];
    for (at, manner) in others.into_iter().enumerate() {
        let other = write(place.path(), &format!("other{at}"), manner);
        run_well(&python, &[&other, "--verify", "--compare", &alone]);
    }
    let one_more = write(place.path(), "more", ALONE);
    let mut out = Writer::options()
        .resume(Resume::After(2))
        .open(&format!("file:{one_more}"), Solo)
        .unwrap();
    let shape = [ROWS as u64, COLUMNS as u64];
    let t = out
        .define::<f64>("temperature", Shape::global(shape))
        .unwrap();
    let again = temperature(3);
    let step = out.begin_step(StepTime::sim(0.75)).unwrap();
    step.put(t, &[0, 0], &again).unwrap();
    step.end().unwrap();
    out.close().unwrap();
    let output = run(&python, &[&one_more, "--compare", &alone]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("step 3"), "{errors}");
}

/// Flips bytes one at a time, in one process, and has the dataset verified.
const FLIPPER: &str = r#"
import os, sys
sys.path.insert(0, sys.argv[1])
import panta_reader as reader
dataset, stride = sys.argv[2], int(sys.argv[3])
reader.Dataset(dataset).verify()
flips = 0
for folder, _, names in os.walk(dataset):
    for name in sorted(names):
        path = os.path.join(folder, name)
        with open(path, "r+b", buffering=0) as file:
            size = os.path.getsize(path)
            # The first bytes of every page one by one, then every so many.
            offsets = {at for at in range(size) if at % 4096 < 4 or at % 4096 >= 4094}
            offsets |= set(range(len(name) % stride, size, stride))
            for offset in sorted(offsets):
                byte = os.pread(file.fileno(), 1, offset)[0]
                flips += 1
                os.pwrite(file.fileno(), bytes([byte ^ (1 << offset % 8)]), offset)
                try:
                    reader.Dataset(dataset).verify()
                except reader.Damaged as problem:
                    if not str(problem):
                        sys.exit(f"{path} at {offset}: no reason")
                else:
                    sys.exit(f"{path}: nothing notices the byte at {offset}")
                os.pwrite(file.fileno(), bytes([byte]), offset)
reader.Dataset(dataset).verify()
print(flips)
"#;

#[test]
fn one_changed_byte_anywhere_is_noticed_with_a_reason() {
    changed_bytes_are_noticed("");
}

#[test]
fn one_changed_byte_of_compressed_blocks_is_noticed_with_a_reason() {
    changed_bytes_are_noticed("?compress=zstd");
}

fn changed_bytes_are_noticed(parameters: &'static str) {
    let Some(python) = python() else { return };
    let place = tempfile::tempdir().unwrap();
    let path = write(
        place.path(),
        "run",
        Manner {
            ranks: 2,
            parameters,
            go_back: true,
        },
    );
    let mut inp = panta::Reader::open(&format!("file:{path}"), Solo, Start::Oldest).unwrap();
    let step = inp.next_step().unwrap().unwrap();
    step.commit("viz").unwrap();
    drop(step);
    inp.close();
    let output = Command::new(&python)
        .args(["-B", "-c", FLIPPER])
        .arg(root().join("tests"))
        .args([&path, "997"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let flips: u64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap();
    assert!(flips > 300, "{flips}");
    for file in ["commits", "meta", "data.0001.0000", "index.0002.0001"] {
        let file_path = Path::new(&path).join(file);
        let mut bytes = std::fs::read(&file_path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(&file_path, &bytes).unwrap();
        let output = run(&python, &[&path, "--verify"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{file}: {errors}");
        assert!(errors.contains(file), "{file}: {errors}");
        bytes[middle] ^= 0x10;
        std::fs::write(&file_path, &bytes).unwrap();
    }
}

#[test]
fn a_file_that_is_cut_short_is_noticed_and_steps_before_still_read() {
    let Some(python) = python() else { return };
    let place = tempfile::tempdir().unwrap();
    let path = write(place.path(), "run", ALONE);
    let data = Path::new(&path).join("data.0001.0000");
    let length = data.metadata().unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&data).unwrap();
    file.set_len(length - 4096).unwrap();
    let output = run(&python, &[&path, "--verify"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("data.0001.0000 at byte"), "{errors}");
    let mut inp = panta::Reader::open(&format!("file:{path}"), Solo, Start::Oldest).unwrap();
    let mut outcomes = Vec::new();
    while let Some(step) = inp.next_step().unwrap() {
        let names = ["temperature", "holes", "rows"];
        let read = |name: &str| -> Result<(), panta::GetError> {
            match name {
                "temperature" => step.get::<f64, IxDyn>(name, ..).map(drop),
                "holes" => step.get::<i32, IxDyn>(name, ..).map(drop),
                _ => step.get::<f32, IxDyn>(name, ..).map(drop),
            }
        };
        outcomes.push(names.map(|name| read(name).is_ok()));
    }
    assert_eq!(outcomes[..3], [[true; 3]; 3]);
    assert_eq!(outcomes.len(), 4);
}
