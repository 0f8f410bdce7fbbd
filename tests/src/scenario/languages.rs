//! Programs in other languages, coupled with each other, and programs under MPI.
//!
//! The stream of `languages` is the same from each of them (`tests/programs/languages.*`):
//!
//! ```text
//!   volume f64 [4, 5, 6] z y x     plane i32 [6, 10] y x     wave complex128 [8] x
//!   flags bool [4, 3] y x          rows f64 [joined, 3]      count i64, title text
//!   the arrays in K, cut into slabs of the slowest dimension; `answer` is 42
//! ```

use std::path::PathBuf;
use std::time::Duration;

use ndarray::{ArrayD, s};
use panta::{Attribute, Complex64, Reader, Shape, Snapshot, Step, Var, Writer};

use crate::cells::{self, Cell};
use crate::part::{Part, sim_time, time};
use crate::stage::{Side, Stage};
use crate::tools::{self, MPICH, Mpi, OPEN_MPI};

const STEPS: u64 = 4;
const WRITERS: usize = 2;
const ROW: u64 = 3;

/// A language that both sides are written in.
#[derive(Clone, Debug)]
enum Language {
    Rust,
    /// C and Fortran: a program by itself.
    Compiled(PathBuf),
    /// With its `PYTHONPATH`.
    Python(String),
}

impl Language {
    fn start(&self, stage: &mut Stage, role: &str, ranks: usize, url: &str) -> Side {
        let arguments = [("steps", STEPS), ("writers", WRITERS as u64)];
        let numbers = [STEPS.to_string(), WRITERS.to_string()];
        let (mut words, path) = match self {
            Self::Rust => {
                let role = match role {
                    "write" => "languages::writer",
                    _ => "languages::reader",
                };
                return stage.start(role, ranks, url, &arguments);
            }
            Self::Compiled(program) => (vec![program.display().to_string()], None),
            Self::Python(path) => {
                let script = tools::script("languages").display().to_string();
                (vec!["python3".to_owned(), script], Some(path.as_str()))
            }
        };
        words.extend([role.to_owned(), url.to_owned()]);
        words.extend(numbers);
        stage.start_words(&words, ranks, path.map(|path| ("PYTHONPATH", path)))
    }
}

/// A stream from each language is read, while it is written, by all of them.
pub fn languages(stage: &mut Stage) {
    stage.extend(Duration::from_secs(90));
    let known = [
        Some(Language::Rust),
        tools::c_program("tests/programs/languages.c").map(Language::Compiled),
        tools::fortran_program("languages").map(Language::Compiled),
        tools::python().map(Language::Python),
    ];
    let known: Vec<Language> = known.into_iter().flatten().collect();
    for (number, writer) in known.iter().enumerate() {
        // The writer waits for all readers, where its first steps would not be kept.
        let query = match stage.outlives_its_writer() {
            true => stage.keep_all().to_owned(),
            false => format!("rendezvous={}", known.len()),
        };
        let url = stage.url_with(&format!("language-{number}"), &query);
        for reader in &known {
            reader.start(stage, "read", 1, &url);
        }
        writer.start(stage, "write", WRITERS, &url);
        stage.all_ended();
    }
}

/// The rows that a rank puts into `rows` in a step.
fn rows_of(rank: u64, step: u64) -> u64 {
    (2 * rank + step) % 4
}

fn title(step: u64) -> String {
    format!("title {step} ω")
}

fn define<T: Cell>(out: &mut Writer, name: &str, shape: &[u64], dims: &[&str]) -> Var<T> {
    let shape = Shape::global(shape);
    let shape = shape.dims(dims.iter().copied()).unit("K");
    out.define(name, shape).unwrap()
}

/// Puts this rank's slab.
fn put<T: Cell>(step: &Step<'_, '_>, part: &Part, variable: Var<T>, name: &str, shape: &[u64]) {
    let (rank, size) = (part.rank as u64, part.size as u64);
    let (mut start, mut count) = (vec![0; shape.len()], shape.to_vec());
    start[0] = shape[0] * rank / size;
    count[0] = shape[0] * (rank + 1) / size - start[0];
    let slab = cells::block::<T>(name, step.number(), shape, &start, &count);
    step.put_owned(variable, &start, slab).unwrap();
}

/// Writes the stream.
pub fn writer(part: &Part) {
    let mut out = part.writer();
    assert_eq!(part.size as u64, part.number("writers"));
    let volume = define::<f64>(&mut out, "volume", &[4, 5, 6], &["z", "y", "x"]);
    let plane = define::<i32>(&mut out, "plane", &[6, 10], &["y", "x"]);
    let wave = define::<Complex64>(&mut out, "wave", &[8], &["x"]);
    let flags = define::<bool>(&mut out, "flags", &[4, 3], &["y", "x"]);
    let rows = out
        .define::<f64>("rows", Shape::joined(0, [0, ROW]))
        .unwrap();
    let count = out.define::<i64>("count", Shape::global_value()).unwrap();
    let text = out.define::<str>("title", Shape::global_value()).unwrap();
    out.set_attribute("answer", 42).unwrap();
    for number in 0..part.number("steps") {
        let step = out.begin_step(time(number)).unwrap();
        put(&step, part, volume, "volume", &[4, 5, 6]);
        put(&step, part, plane, "plane", &[6, 10]);
        put(&step, part, wave, "wave", &[8]);
        put(&step, part, flags, "flags", &[4, 3]);
        let rank = part.rank as u64;
        let first = (0..rank).map(|other| rows_of(other, number)).sum();
        let own = [rows_of(rank, number), ROW];
        let block = cells::block::<f64>("rows", number, &[0, ROW], &[first, 0], &own);
        step.put_owned(rows, &[], block).unwrap();
        if rank == 0 {
            let value: i64 = cells::cell("count", number, 0);
            step.put_value(count, &value).unwrap();
            step.put_value(text, title(number).as_str()).unwrap();
        }
        step.end().unwrap();
    }
    out.close().unwrap();
}

fn check<T: Cell>(step: &Snapshot, name: &str, shape: &[u64], dims: &[&str]) {
    let variable = step.variable(name).unwrap();
    let definition = variable.definition();
    assert_eq!(definition.unit, "K", "`{name}`");
    assert_eq!(definition.dims, dims, "`{name}`");
    let read: ArrayD<T> = step.get(name, ..).unwrap();
    let sides: Vec<u64> = read.shape().iter().map(|side| *side as u64).collect();
    assert_eq!(sides, shape, "`{name}`");
    let origin = vec![0; shape.len()];
    cells::check(name, step.number(), shape, &origin, read.view());
}

/// Reads it and checks every cell.
pub fn reader(part: &Part) {
    let mut inp: Reader = part.reader();
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        assert_eq!(step.number(), seen);
        assert_eq!(step.time(), Some(sim_time(seen)));
        check::<f64>(&step, "volume", &[4, 5, 6], &["z", "y", "x"]);
        check::<i32>(&step, "plane", &[6, 10], &["y", "x"]);
        check::<Complex64>(&step, "wave", &[8], &["x"]);
        check::<bool>(&step, "flags", &[4, 3], &["y", "x"]);
        let part_of: ArrayD<f64> = step.get("volume", s![1..3, 2..5, 1..5]).unwrap();
        cells::check("volume", seen, &[4, 5, 6], &[1, 2, 1], part_of.view());
        let all: u64 = (0..part.number("writers"))
            .map(|it| rows_of(it, seen))
            .sum();
        let rows: ArrayD<f64> = step.get("rows", ..).unwrap();
        assert_eq!(rows.shape(), [all as usize, ROW as usize]);
        cells::check("rows", seen, &[all, ROW], &[0, 0], rows.view());
        let count: i64 = step.get_value("count").unwrap();
        assert_eq!(count, cells::cell("count", seen, 0));
        assert_eq!(step.get_text("title").unwrap(), title(seen));
        assert_eq!(step.attribute("answer"), Some(&Attribute::Int(42)));
        seen += 1;
    }
    assert_eq!(seen, part.number("steps"));
    inp.close();
}

/// One launch of both sides, under each MPI: communicators of a part of the ranks,
/// streams opened in different orders, MPI ended before the streams are.
pub fn one_launch(stage: &mut Stage) {
    for mpi in [OPEN_MPI, MPICH] {
        let Some(program) = mpi.program("launches") else {
            continue;
        };
        let url = stage.url(&format!("NAME-{}", mpi.name()));
        let words = mpi.launch(&[
            (3, &program, &["sim", "together", &url]),
            (2, &program, &["ana", "together", &url]),
        ]);
        let side = stage.start_words(&words, 1, None);
        stage.ended(side);
    }
    stage.all_ended();
}

/// The simulation under one MPI, its analysis under the other, one library.
pub fn two_mpis(stage: &mut Stage) {
    let couples: [(Mpi, Mpi); 2] = [(OPEN_MPI, MPICH), (MPICH, OPEN_MPI)];
    for (sim, ana) in couples {
        let (Some(writes), Some(reads)) = (sim.program("launches"), ana.program("launches")) else {
            continue;
        };
        let url = stage.url(&format!("NAME-{}", sim.name()));
        let reading = ana.launch(&[(2, &reads, &["ana", "apart", &url])]);
        let writing = sim.launch(&[(3, &writes, &["sim", "apart", &url])]);
        let reading = stage.start_words(&reading, 1, None);
        let writing = stage.start_words(&writing, 1, None);
        stage.ended(writing);
        stage.ended(reading);
    }
    stage.all_ended();
}
