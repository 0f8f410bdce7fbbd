//! What `panta copy` leaves is what it was given.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{refused, said, write_everything, write_steps};
use panta::{Attribute, AttributeKey, Solo, Start, StepTime, Writer};
use panta_core::model::{BlockId, DType, Payload, Selection, ShapeKind};
use panta_core::session::{Reader, ReaderOptions};
use panta_transports::copy::StridedMut;

/// One block: where it lies, and its bytes.
type Block = (Vec<u64>, Vec<u64>, Vec<u8>);

/// One variable of a step, in all that a reader can see of it.
#[derive(Debug, PartialEq)]
struct Variable {
    name: String,
    dtype: DType,
    kind: ShapeKind,
    shape: Vec<u64>,
    dims: Vec<String>,
    unit: String,
    blocks: Vec<Block>,
}

/// A step, in all that a reader can see of it but its number and wall clock.
#[derive(Debug, PartialEq)]
struct Contents {
    time: Option<f64>,
    attributes: Vec<(AttributeKey, Attribute)>,
    variables: Vec<Variable>,
}

/// Every step of a file that is closed.
fn contents(directory: &Path, name: &str) -> Vec<Contents> {
    let url = format!("file:{}", directory.join(name).display());
    let options = ReaderOptions {
        start: Start::Oldest,
        ..ReaderOptions::default()
    };
    let mut reader = Reader::open(&url, &mut Solo, &panta::registry(), &options).unwrap();
    let mut steps = Vec::new();
    while let Some(step) = reader.next_step().unwrap() {
        let mut variables = Vec::new();
        for entry in step.entries() {
            let definition = &entry.definition;
            let (dtype, width) = (definition.dtype, definition.dtype.size_bytes());
            let mut blocks = Vec::new();
            for (block, index) in entry.blocks.iter().zip(0..) {
                let count = &block.block.count;
                let bytes = match &block.payload {
                    Payload::Value(bytes) => bytes.clone(),
                    Payload::Array(_) => {
                        let mut bytes = vec![0; definition.byte_size(count).unwrap() as usize];
                        let whole = Selection::block(BlockId(index));
                        let resolved = step.resolve(&definition.name, dtype, &whole).unwrap();
                        let into = StridedMut::contiguous(&mut bytes, width, count).unwrap();
                        step.read(resolved, into).unwrap();
                        bytes
                    }
                };
                blocks.push((block.block.start.clone(), count.clone(), bytes));
            }
            variables.push(Variable {
                name: definition.name.clone(),
                dtype,
                kind: definition.kind,
                shape: entry.shape(),
                dims: definition.dims.clone(),
                unit: definition.unit.clone(),
                blocks,
            });
        }
        let attributes = step.schema().attributes.iter();
        steps.push(Contents {
            time: step.head().time.sim,
            attributes: attributes
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            variables,
        });
    }
    steps
}

#[test]
fn every_kind_of_variable_is_copied_block_by_block_and_bit_by_bit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write_everything(path);
    assert_eq!(said(path, &["copy", "run", "file:copied.panta"]), "");
    let source = contents(path, "run.panta");
    assert_eq!(source.len(), 3);
    assert_eq!(source[1].variables.len(), 8);
    assert_eq!(source[1].variables[0].blocks.len(), 2);
    assert_eq!(contents(path, "copied.panta"), source);
}

#[test]
fn shapes_and_attributes_that_change_are_copied_as_they_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let url = format!("file:{}", path.join("run.panta").display());
    let mut out = Writer::open(&url, Solo).unwrap();
    let u = out
        .define::<f32>("u", panta::Shape::global([2]).fill(-1.0_f32))
        .unwrap();
    for n in 0..3_u64 {
        out.set_shape(u, &[n + 2]).unwrap();
        out.set_attribute("n", n).unwrap();
        let step = out.begin_step(StepTime::default()).unwrap();
        let values = vec![-0.0_f32; n as usize + 1];
        step.put(u, &[1], &values).unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
    said(path, &["copy", "run", "file:copied.panta"]);
    let source = contents(path, "run.panta");
    let shapes: Vec<_> = source
        .iter()
        .map(|step| step.variables[0].shape.clone())
        .collect();
    assert_eq!(shapes, [[2], [3], [4]]);
    assert_eq!(contents(path, "copied.panta"), source);
    // The cell that nobody put still has its fill value.
    let first = said(path, &["show", "copied", "u", "--step", "0"]);
    assert_eq!(first, "[-1.0 -0.0]\n");
}

#[test]
fn steps_and_variables_can_be_chosen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write_everything(path);
    said(
        path,
        &[
            "copy",
            "run",
            "file:part.panta",
            "--variables",
            "rows,u",
            "--from-step",
            "1",
            "--to-step",
            "1",
        ],
    );
    let (part, source) = (contents(path, "part.panta"), contents(path, "run.panta"));
    assert_eq!(part.len(), 1);
    assert_eq!(part[0].time, source[1].time);
    assert_eq!(part[0].variables[0], source[1].variables[0]);
    assert_eq!(part[0].variables[1], source[1].variables[4]);
    assert_eq!(part[0].variables.len(), 2);
}

#[test]
fn a_stream_that_is_still_written_is_followed_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let url = format!("file:{}", path.join("run.panta").display());
    let mut out = Writer::open(&url, Solo).unwrap();
    let copy = Command::new(env!("CARGO_BIN_EXE_panta"))
        .args(["copy", "file:run.panta?deadline=60s", "file:copied.panta"])
        .current_dir(path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    write_steps(&mut out);
    out.close().unwrap();
    let ended = copy.wait_with_output().unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    assert_eq!(contents(path, "copied.panta"), contents(path, "run.panta"));
}

#[test]
fn a_bad_request_leaves_the_destination_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write_everything(path);
    said(path, &["copy", "run", "file:kept.panta"]);
    let bad = |code, arguments: &[&str], part: &str| {
        let error = refused(path, code, &[&["copy"], arguments].concat());
        assert!(error.contains(part), "{arguments:?}: {error}");
    };
    bad(
        1,
        &["run", "file:kept.panta", "--variables", "u,rwos"],
        "did you mean `rows`",
    );
    bad(1, &["nothing", "file:kept.panta"], "there is no file");
    bad(1, &["run", "hdf5:kept.h5"], "no engine `hdf5:`");
    bad(2, &["run", "file:run.panta"], "choose another destination");
    bad(
        2,
        &[
            "run",
            "file:kept.panta",
            "--from-step",
            "2",
            "--to-step",
            "1",
        ],
        "comes after",
    );
    assert_eq!(contents(path, "kept.panta"), contents(path, "run.panta"));
}
