//! What sessions promise whatever the engine: one outcome on every rank, two
//! rounds a step, copies counted, metadata in proportion to what changed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::thread;

use panta_core::comm::{Comm, ThreadComm, Threads};
use panta_core::engine::EngineFactory;
use panta_core::error::{BeginError, EndError, Failure, Fault, GetError, NextError, PutError};
use panta_core::file::FileEngine;
use panta_core::model::{
    Attribute, DType, Definition, MemorySpace, Selection, ShapeKind, StepTime,
};
use panta_core::session::{Reader, ReaderOptions, Writer, WriterOptions};
use panta_transports::copy::{StridedMut, StridedRef};

fn engines() -> Vec<&'static dyn EngineFactory> {
    vec![&FileEngine]
}

fn definition(name: &str, shape: &[u64]) -> Definition {
    Definition {
        name: name.into(),
        dtype: DType::F64,
        kind: ShapeKind::GlobalArray,
        shape: shape.to_vec(),
        dims: Vec::new(),
        unit: String::new(),
        coordinates: Vec::new(),
        fill: None,
        chunk: None,
        accuracy: None,
    }
}

/// Runs one rank a thread over a new dataset; results in rank order.
fn on_ranks<R: Send>(
    ranks: usize,
    path: &Path,
    parameters: &str,
    body: impl Fn(usize, Writer) -> R + Sync,
) -> Vec<R> {
    let url = format!("file:{}?deadline=20s{parameters}", path.display());
    thread::scope(|scope| {
        let threads: Vec<_> = Threads::group(ranks)
            .into_iter()
            .map(|mut comm: ThreadComm| {
                let (url, body) = (&url, &body);
                scope.spawn(move || {
                    let rank = comm.rank();
                    let writer =
                        Writer::open(url, &mut comm, &engines(), WriterOptions::default()).unwrap();
                    body(rank, writer)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn bytes_of(values: &[f64]) -> &[u8] {
    bytemuck::cast_slice(values)
}

/// Puts one row of `cells` for each rank and ends the step.
fn put_row(
    writer: &mut Writer,
    variable: usize,
    rank: usize,
    values: &[f64],
) -> Result<(), EndError> {
    writer.begin_step(StepTime::default(), None).unwrap();
    let source = StridedRef::contiguous(bytes_of(values), 8, &[1, values.len() as u64]).unwrap();
    let put = writer.put(
        variable,
        DType::F64,
        &[rank as u64, 0],
        source,
        MemorySpace::Host,
    );
    writer.end_step(put.into_iter().collect()).map(|_| ())
}

fn open_reader(path: &Path) -> Reader {
    let url = format!("file:{}?deadline=5s", path.display());
    Reader::open(
        &url,
        &mut panta_core::comm::Solo,
        &engines(),
        &ReaderOptions::default(),
    )
    .unwrap()
}

fn read_rows(step: &panta_core::session::Step, variable: &str) -> Result<Vec<f64>, GetError> {
    let resolved = step.resolve(variable, DType::F64, &Selection::all())?;
    let mut values = vec![0.0_f64; resolved.count().iter().product::<u64>() as usize];
    let count = resolved.count().to_vec();
    step.read(
        resolved,
        StridedMut::contiguous(bytemuck::cast_slice_mut(&mut values), 8, &count).unwrap(),
    )?;
    Ok(values)
}

#[test]
fn a_step_costs_two_rounds_and_no_copy_of_contiguous_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.panta");
    let costs = on_ranks(3, &path, "", |rank, mut writer| {
        let u = writer.define(definition("u", &[3, 4])).unwrap();
        let before = writer.tree_counters().rounds();
        for step in 0..5 {
            put_row(&mut writer, u, rank, &[step as f64; 4]).unwrap();
        }
        let costs = (
            writer.tree_counters().rounds() - before,
            writer.copies().bytes(),
        );
        writer.close().unwrap();
        costs
    });
    assert_eq!(costs, vec![(10, 0); 3]);
}

#[test]
fn the_control_messages_of_a_step_stop_growing_once_definitions_are_known() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.panta");
    let bytes = on_ranks(2, &path, "", |rank, mut writer| {
        for index in 0..50 {
            writer
                .define(definition(&format!("other_{index}"), &[2, 4]))
                .unwrap();
        }
        let u = writer.define(definition("u", &[2, 4])).unwrap();
        let mut last = writer.tree_counters().bytes_sent();
        let mut sent = Vec::new();
        for step in 0..4 {
            put_row(&mut writer, u, rank, &[step as f64; 4]).unwrap();
            let now = writer.tree_counters().bytes_sent();
            sent.push(now - last);
            last = now;
        }
        writer.close().unwrap();
        sent
    });
    for sent in bytes {
        assert!(
            sent[0] > sent[1] + 1000,
            "definitions are sent once: {sent:?}"
        );
        assert_eq!(
            sent[1], sent[3],
            "an unchanged step costs the same every time: {sent:?}"
        );
    }
}

#[test]
fn ranks_that_disagree_about_a_shape_get_the_same_error_naming_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.panta");
    let errors = on_ranks(3, &path, "", |rank, mut writer| {
        let columns = if rank == 2 { 5 } else { 4 };
        writer.define(definition("u", &[3, columns])).unwrap();
        writer.begin_step(StepTime::default(), None).unwrap_err()
    });
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    let BeginError::Disagreement { place, difference } = &errors[0] else {
        panic!("{}", errors[0])
    };
    assert_eq!(place.variable.as_deref(), Some("u"));
    assert!(
        difference.contains("[3, 4] and [3, 5]") && difference.contains("0 and 2"),
        "{difference}"
    );
}

#[test]
fn a_failed_put_fails_the_step_on_every_rank_and_the_next_step_works() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.panta");
    let errors = on_ranks(3, &path, "", |rank, mut writer| {
        let u = writer.define(definition("u", &[3, 4])).unwrap();
        put_row(&mut writer, u, rank, &[0.0; 4]).unwrap();
        let outside = if rank == 1 { 3 } else { rank };
        let error = put_row(&mut writer, u, outside, &[1.0; 4]).unwrap_err();
        put_row(&mut writer, u, rank, &[2.0; 4]).unwrap();
        writer.close().unwrap();
        error
    });
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    let EndError::Failed(Failure {
        fault: Fault::OnRank { rank: 1, what },
        ..
    }) = &errors[0]
    else {
        panic!("{}", errors[0])
    };
    assert!(what.contains("reach outside dimension 0"), "{what}");
    let mut reader = open_reader(&path);
    let mut seen = Vec::new();
    while let Some(step) = reader.next_step().unwrap() {
        seen.push((step.head().step, read_rows(&step, "u").unwrap()[0]));
    }
    assert_eq!(seen, vec![(0, 0.0), (2, 2.0)]);
}

#[test]
fn a_step_that_one_rank_gives_up_is_given_up_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.panta");
    on_ranks(2, &path, "", |rank, mut writer| {
        let u = writer.define(definition("u", &[2, 4])).unwrap();
        if rank == 0 {
            let error = put_row(&mut writer, u, rank, &[1.0; 4]).unwrap_err();
            assert!(error.to_string().contains("rank 1"), "{error}");
        } else {
            writer.begin_step(StepTime::default(), None).unwrap();
            writer.abort_step().unwrap_err();
        }
        writer.close().unwrap();
    });
    assert!(open_reader(&path).next_step().unwrap().is_none());
}

#[test]
fn calls_out_of_order_and_wrong_types_are_errors_that_name_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.panta");
    on_ranks(1, &path, "&limit=64", |_, mut writer| {
        let u = writer.define(definition("u", &[4, 4])).unwrap();
        let row = [0.0; 4];
        let source = StridedRef::contiguous(bytes_of(&row), 8, &[1, 4]).unwrap();
        let outside = writer
            .put(u, DType::F64, &[0, 0], source, MemorySpace::Host)
            .unwrap_err();
        assert!(matches!(outside, PutError::NoStep { .. }), "{outside}");
        writer.begin_step(StepTime::default(), None).unwrap();
        let twice = writer.begin_step(StepTime::default(), None).unwrap_err();
        assert!(
            matches!(twice, BeginError::InStep { step: 0, .. }),
            "{twice}"
        );
        let device = writer
            .put(u, DType::F64, &[0, 0], source, MemorySpace::Cuda)
            .unwrap_err();
        assert!(
            device.to_string().contains("copy the block to the host"),
            "{device}"
        );
        let wrong = writer
            .put(u, DType::I64, &[0, 0], source, MemorySpace::Host)
            .unwrap_err();
        assert!(
            matches!(
                wrong,
                PutError::DTypeMismatch {
                    defined: "f64",
                    given: "i64",
                    ..
                }
            ),
            "{wrong}"
        );
        writer.end_step(Vec::new()).unwrap_err();

        writer.begin_step(StepTime::default(), None).unwrap();
        let puts: Result<Vec<_>, _> = (0..3)
            .map(|row| writer.put(u, DType::F64, &[row, 0], source, MemorySpace::Host))
            .collect();
        let large = puts.unwrap_err();
        assert!(
            matches!(
                large,
                PutError::StepTooLarge {
                    bytes: 96,
                    limit_bytes: 64,
                    ..
                }
            ),
            "{large}"
        );
        writer.end_step(Vec::new()).unwrap_err();
        let declared = writer
            .begin_step(StepTime::default(), Some(65))
            .unwrap_err();
        assert!(
            matches!(
                declared,
                BeginError::StepTooLarge {
                    bytes: 65,
                    limit_bytes: 64,
                    ..
                }
            ),
            "{declared}"
        );
        writer.close().unwrap();
    });
}

#[test]
fn unknown_variables_name_the_nearest_and_boxes_outside_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.panta");
    on_ranks(1, &path, "", |_, mut writer| {
        let u = writer.define(definition("temperature", &[1, 4])).unwrap();
        writer
            .set_attribute(Some("temperature"), "long_name", Attribute::from("air"))
            .unwrap();
        let misspelt = writer
            .set_attribute(Some("temperatur"), "x", Attribute::Int(1))
            .unwrap_err();
        assert!(
            misspelt.to_string().contains("did you mean `temperature`?"),
            "{misspelt}"
        );
        put_row(&mut writer, u, 0, &[1.0; 4]).unwrap();
        writer.close().unwrap();
    });
    let mut reader = open_reader(&path);
    let step = reader.next_step().unwrap().unwrap();
    let unknown = step
        .resolve("temprature", DType::F64, &Selection::all())
        .unwrap_err();
    assert!(
        unknown.to_string().contains("did you mean `temperature`?"),
        "{unknown}"
    );
    let outside = step
        .resolve(
            "temperature",
            DType::F64,
            &Selection::boxed(&[0, 2], &[1, 3]),
        )
        .unwrap_err();
    assert!(matches!(outside, GetError::Selection { .. }), "{outside}");
    assert!(
        outside
            .to_string()
            .contains("step 0, variable `temperature`"),
        "{outside}"
    );
    let wrong = step
        .resolve("temperature", DType::F32, &Selection::all())
        .unwrap_err();
    assert!(
        matches!(
            wrong,
            GetError::DTypeMismatch {
                stored: "f64",
                asked: "f32",
                ..
            }
        ),
        "{wrong}"
    );
}

#[test]
fn a_poll_says_not_ready_and_every_rank_gets_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.panta");
    on_ranks(1, &path, "", |_, writer| {
        let url = format!("file:{}?deadline=5s", path.display());
        thread::scope(|scope| {
            for mut comm in Threads::group(2) {
                let url = &url;
                scope.spawn(move || {
                    let mut reader =
                        Reader::open(url, &mut comm, &engines(), &ReaderOptions::default())
                            .unwrap();
                    let error = reader
                        .next_step_within(std::time::Duration::ZERO)
                        .unwrap_err();
                    assert!(matches!(error, NextError::NotReady { .. }), "{error}");
                });
            }
        });
        writer.close().unwrap();
    });
}
