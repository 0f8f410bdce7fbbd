//! `staging:` from end to end: what is put by N ranks is got by M others.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod staging_support;

use std::os::fd::BorrowedFd;
use std::process::Command;
use std::time::Duration;

use panta_core::comm::Solo;
use panta_core::engine::{Resume, Start};
use panta_core::error::{GetError, NextError};
use panta_core::model::{Axis, BlockId, DType, Selection, ShapeKind, StepTime};
use panta_core::session::Writer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use staging_support::*;

/// N writers and M readers over some servers; every cell of every step.
fn couples(
    servers: usize,
    writers: usize,
    readers: usize,
    shape: &'static [u64],
    chunk: Option<Vec<u64>>,
) {
    within_deadline(move || {
        let space = Space::start(servers);
        let url = space.url("couple", "");
        let steps = 4;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                group(writers, |rank, comm| {
                    let mut writer = open_writer(&url, comm).unwrap();
                    let mut definition = global("u", shape);
                    definition.chunk.clone_from(&chunk);
                    let u = writer.define(definition).unwrap();
                    let (first, side) = share(shape[0], rank, writers);
                    let mut start = vec![0; shape.len()];
                    let mut count = shape.to_vec();
                    (start[0], count[0]) = (first, side);
                    for step in 0..steps {
                        write_step(&mut writer, step, u, &start, &count, shape);
                    }
                    writer.close().unwrap();
                })
            });
            group(readers, |rank, comm| {
                let mut reader = open_reader(&url, comm).unwrap();
                for number in 0..steps {
                    let step = next(&mut reader);
                    assert_eq!(step.head().step, number);
                    let last = shape.len() - 1;
                    let (first, side) = share(shape[last], rank, readers);
                    let mut start = vec![0; shape.len()];
                    let mut count = shape.to_vec();
                    (start[last], count[last]) = (first, side);
                    let got = get(&step, "u", &Selection::boxed(&start, &count)).unwrap();
                    assert_eq!(got, block(number, &start, &count, shape));
                    let all = get(&step, "u", &Selection::all()).unwrap();
                    assert_eq!(all, block(number, &vec![0; shape.len()], shape, shape));
                }
                assert!(ended(&mut reader).unwrap());
            });
        });
    });
}

#[test]
fn one_writer_one_reader_one_server() {
    couples(1, 1, 1, &[40, 30], None);
}

#[test]
fn three_writers_five_readers_one_server() {
    couples(1, 3, 5, &[17, 20, 23], Some(vec![4, 8, 8]));
}

#[test]
fn five_writers_three_readers_three_servers() {
    couples(3, 5, 3, &[31, 20, 23], Some(vec![4, 8, 8]));
}

#[test]
fn two_writers_two_readers_three_servers_in_one_dimension() {
    couples(3, 2, 2, &[100_003], Some(vec![1000]));
}

/// A generator that needs no clock; tests print its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn axis(start: u64, count: u64, step: u64) -> Axis {
    Axis::Range {
        start: start as i64,
        stop: Some((start + (count - 1) * step + 1) as i64),
        step,
    }
}

#[test]
fn any_box_and_any_stride_is_what_was_put() {
    within_deadline(|| {
        let seed = 0x2545_f491_4f6c_dd1d;
        for servers in [1, 3] {
            let space = Space::start(servers);
            let url = space.url("boxes", "");
            let shape = [23, 31, 19];
            let mut writer = open_writer(&url, &mut Solo).unwrap();
            let mut definition = global("u", &shape);
            definition.chunk = Some(vec![4, 4, 8]);
            let u = writer.define(definition).unwrap();
            write_step(&mut writer, 0, u, &[0, 0, 0], &shape, &shape);
            let mut reader = open_reader(&url, &mut Solo).unwrap();
            let step = next(&mut reader);
            let mut random = Random(seed);
            for _ in 0..60 {
                let mut axes = Vec::new();
                let (mut starts, mut counts, mut strides) = (vec![], vec![], vec![]);
                for side in shape {
                    let stride = 1 + random.below(4);
                    let start = random.below(side);
                    let count = 1 + random.below((side - start).div_ceil(stride));
                    axes.push(axis(start, count, stride));
                    starts.push(start);
                    counts.push(count);
                    strides.push(stride);
                }
                let got = get(&step, "u", &Selection { block: None, axes }).unwrap();
                let mut expected = Vec::new();
                indices(&counts, |index| {
                    let at: Vec<u64> = (0..3).map(|d| starts[d] + index[d] * strides[d]).collect();
                    expected.push(value(0, &at, &shape));
                });
                assert_eq!(
                    got, expected,
                    "seed {seed:#x}: {starts:?} {counts:?} {strides:?}"
                );
            }
        }
    });
}

/// Variable, start, count, values.
type PutOf<'a> = (usize, &'a [u64], &'a [u64], Vec<f64>);

/// Begins a step, puts blocks of f64, ends it.
fn put_blocks(writer: &mut Writer, blocks: &[PutOf<'_>]) {
    writer.begin_step(StepTime::default(), None).unwrap();
    let data: Vec<Vec<u8>> = blocks.iter().map(|block| bytes(&block.3)).collect();
    let puts = blocks
        .iter()
        .zip(&data)
        .map(|((variable, start, count, _), data)| put(writer, *variable, start, count, data));
    let puts = puts.collect();
    writer.end_step(puts).unwrap();
}

#[test]
fn cells_that_nobody_put_are_the_fill_value_or_an_error_that_names_them() {
    within_deadline(|| {
        let space = Space::start(3);
        let url = space.url("holes", "");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let mut filled = global("filled", &[6, 6]);
        filled.fill = Some(7.0_f64.to_le_bytes().to_vec());
        filled.chunk = Some(vec![2, 2]);
        let filled = writer.define(filled).unwrap();
        let bare = writer.define(global("bare", &[6, 6])).unwrap();
        let part = vec![1.0; 6];
        put_blocks(
            &mut writer,
            &[
                (filled, &[1, 1], &[2, 3], part.clone()),
                (bare, &[1, 1], &[2, 3], part),
            ],
        );
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        let step = next(&mut reader);
        let got = get(&step, "filled", &Selection::boxed(&[0, 0], &[3, 3])).unwrap();
        assert_eq!(got, [7.0, 7.0, 7.0, 7.0, 1.0, 1.0, 7.0, 1.0, 1.0]);
        let got = get(&step, "filled", &Selection::boxed(&[4, 4], &[2, 2])).unwrap();
        assert_eq!(got, [7.0; 4]);
        let got = get(&step, "bare", &Selection::boxed(&[1, 1], &[2, 3])).unwrap();
        assert_eq!(got, [1.0; 6]);
        let error = get(&step, "bare", &Selection::boxed(&[1, 1], &[3, 3])).unwrap_err();
        match error {
            GetError::NotCovered { start, count, .. } => {
                assert_eq!((start, count), (vec![3, 1], vec![1, 3]));
            }
            other => panic!("{other}"),
        }
    });
}

#[test]
fn of_overlapping_blocks_the_highest_rank_and_put_wins() {
    within_deadline(|| {
        let space = Space::start(3);
        let url = space.url("overlaps", "");
        group(3, |rank, comm| {
            let mut writer = open_writer(&url, comm).unwrap();
            let mut definition = global("u", &[8, 8]);
            definition.chunk = Some(vec![2, 2]);
            let u = writer.define(definition).unwrap();
            let rank = rank as u64;
            // Each rank a column strip that reaches into the next, and a row over all.
            put_blocks(
                &mut writer,
                &[
                    (u, &[0, rank * 2], &[8, 4], vec![rank as f64 * 10.0; 32]),
                    (u, &[rank, 0], &[1, 8], vec![rank as f64 * 10.0 + 1.0; 8]),
                ],
            );
            writer.close().unwrap();
        });
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        let step = next(&mut reader);
        let got = get(&step, "u", &Selection::all()).unwrap();
        let mut expected = [0.0; 64];
        for rank in 0..3_u64 {
            indices(&[8, 4], |at| {
                expected[(at[0] * 8 + rank * 2 + at[1]) as usize] = rank as f64 * 10.0;
            });
            for column in 0..8 {
                expected[(rank * 8 + column) as usize] = rank as f64 * 10.0 + 1.0;
            }
        }
        assert_eq!(got, expected);
        let row_of_the_first = get(&step, "u", &Selection::block(BlockId(1))).unwrap();
        assert_eq!(row_of_the_first, [1.0; 8]);
    });
}

#[test]
fn local_and_joined_arrays_and_values_are_read_as_they_were_put() {
    within_deadline(|| {
        let space = Space::start(3);
        let url = space.url("kinds", "");
        group(3, |rank, comm| {
            let mut writer = open_writer(&url, comm).unwrap();
            let local = writer
                .define(definition("local", ShapeKind::LocalArray, &[0, 0]))
                .unwrap();
            let joined = ShapeKind::JoinedArray { axis: 0 };
            let joined = writer
                .define(definition("joined", joined, &[0, 3]))
                .unwrap();
            let number = writer
                .define(definition("number", ShapeKind::LocalValue, &[]))
                .unwrap();
            let rows = rank as u64 + 1;
            writer.begin_step(StepTime::default(), None).unwrap();
            let one = bytes(&vec![rank as f64; (rows * 4) as usize]);
            let two = bytes(&[rank as f64 + 0.5; 5]);
            let part = bytes(&block(rank as u64, &[0, 0], &[rows, 3], &[rows, 3]));
            let puts = vec![
                put(&writer, local, &[], &[rows, 4], &one),
                put(&writer, local, &[], &[1, 5], &two),
                put(&writer, joined, &[], &[rows, 3], &part),
            ];
            writer
                .put_value(number, DType::F64, &(rank as f64).to_le_bytes())
                .unwrap();
            writer.end_step(puts).unwrap();
            writer.close().unwrap();
        });
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        let step = next(&mut reader);
        for rank in 0..3_u32 {
            let rows = rank as usize + 1;
            let first = Selection::block(BlockId(rank * 2));
            assert_eq!(
                get(&step, "local", &first).unwrap(),
                vec![f64::from(rank); rows * 4]
            );
            let second = Selection::boxed(&[0, 1], &[1, 3]).within(BlockId(rank * 2 + 1));
            assert_eq!(
                get(&step, "local", &second).unwrap(),
                vec![f64::from(rank) + 0.5; 3]
            );
        }
        let mut expected = Vec::new();
        for rank in 0..3 {
            expected.extend(block(rank, &[0, 0], &[rank + 1, 3], &[rank + 1, 3]));
        }
        assert_eq!(get(&step, "joined", &Selection::all()).unwrap(), expected);
        let middle = get(&step, "joined", &Selection::boxed(&[1, 1], &[4, 2])).unwrap();
        let rows: Vec<f64> = expected
            .chunks(3)
            .skip(1)
            .take(4)
            .flat_map(|row| [row[1], row[2]])
            .collect();
        assert_eq!(middle, rows);
        assert_eq!(
            get(&step, "number", &Selection::all()).unwrap(),
            [0.0, 1.0, 2.0]
        );
    });
}

#[test]
fn the_shape_may_change_from_step_to_step() {
    within_deadline(|| {
        let space = Space::start(3);
        let url = space.url("shapes", "");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let u = writer.define(global("u", &[1, 1])).unwrap();
        let shapes = [[4, 6], [9, 2], [4, 6]];
        for (step, shape) in (0..).zip(&shapes) {
            writer.set_shape(u, shape).unwrap();
            write_step(&mut writer, step, u, &[0, 0], shape, shape);
        }
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        for (number, shape) in (0..).zip(&shapes) {
            let step = next(&mut reader);
            assert_eq!(step.entry("u").unwrap().shape(), shape);
            let all = get(&step, "u", &Selection::all()).unwrap();
            assert_eq!(all, block(number, &[0, 0], shape, shape));
        }
    });
}

fn write_small(writer: &mut Writer, u: usize, steps: std::ops::Range<u64>) {
    for step in steps {
        write_step(writer, step, u, &[0], &[8], &[8]);
    }
}

#[test]
fn steps_beyond_the_retention_are_gone_and_the_error_names_the_oldest() {
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("retained", "&retain_steps=3");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let u = writer.define(global("u", &[8])).unwrap();
        write_small(&mut writer, u, 0..10);
        let error = open_reader_at(&url, &mut Solo, Start::At(2)).unwrap_err();
        assert!(
            error.to_string().contains("oldest step held") && error.to_string().contains('7'),
            "{error}"
        );
        let mut reader = open_reader_at(&url, &mut Solo, Start::At(8)).unwrap();
        assert_eq!(next(&mut reader).head().step, 8);
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        assert_eq!(next(&mut reader).head().step, 7);
        let mut reader = open_reader_at(&url, &mut Solo, Start::AtTime(7.5)).unwrap();
        assert_eq!(next(&mut reader).head().step, 8);
        let mut reader = open_reader_at(&url, &mut Solo, Start::Latest).unwrap();
        assert_eq!(next(&mut reader).head().step, 9);
    });
}

#[test]
fn drop_oldest_and_drop_newest_leave_gaps_that_the_numbers_tell() {
    within_deadline(|| {
        let space = Space::start(1);
        for (policy, seen) in [
            ("drop-oldest", vec![0, 7, 8, 9]),
            ("drop-newest", vec![0, 1, 2]),
        ] {
            let url = space.url(policy, &format!("&retain_steps=3&policy={policy}"));
            let mut writer = open_writer(&url, &mut Solo).unwrap();
            let u = writer.define(global("u", &[8])).unwrap();
            write_small(&mut writer, u, 0..1);
            let mut reader = open_reader(&url, &mut Solo).unwrap();
            let mut first = Some(next(&mut reader));
            if policy == "drop-oldest" {
                let head = first.take().unwrap().head();
                // Once this is answered the home has heard of the release.
                reader.commit(&head, "here").unwrap();
            }
            let mut discarded = 0;
            for _ in 1..10 {
                let head = writer.begin_step(StepTime::default(), None).unwrap();
                let data = bytes(&block(head.step, &[0], &[8], &[8]));
                let put = put(&writer, u, &[0], &[8], &data);
                discarded += u32::from(writer.end_step(vec![put]).unwrap().discarded);
            }
            writer.close().unwrap();
            drop(first);
            let mut steps = vec![0];
            while let Some(step) = reader.next_step().unwrap() {
                let number = step.head().step;
                let all = get(&step, "u", &Selection::all()).unwrap();
                assert_eq!(all, block(number, &[0], &[8], &[8]));
                steps.push(number);
            }
            let gone = if policy == "drop-newest" { 7 } else { 0 };
            assert_eq!((steps, discarded), (seen, gone), "{policy}");
        }
    });
}

#[test]
fn two_declared_writers_make_one_step_and_their_ranks_are_numbered_through() {
    within_deadline(|| {
        let space = Space::start(3);
        let write = |writer: u64| {
            let more = format!("&declared_writers=2&writer={writer}");
            let url = space.url("pair", &more);
            group(2, |rank, comm| {
                let mut out = open_writer(&url, comm).unwrap();
                let u = out.define(global("u", &[8, 5])).unwrap();
                let first = ((writer - 1) * 2 + rank as u64) * 2;
                for step in 0..3 {
                    write_step(&mut out, step, u, &[first, 0], &[2, 5], &[8, 5]);
                }
                out.close().unwrap();
            });
        };
        std::thread::scope(|scope| {
            scope.spawn(|| write(1));
            scope.spawn(|| write(2));
            let mut reader = open_reader(&space.url("pair", ""), &mut Solo).unwrap();
            for number in 0..3 {
                let step = next(&mut reader);
                let all = get(&step, "u", &Selection::all()).unwrap();
                assert_eq!(all, block(number, &[0, 0], &[8, 5], &[8, 5]));
                let ranks: Vec<u32> = step
                    .entry("u")
                    .unwrap()
                    .blocks
                    .iter()
                    .map(|put| put.block.rank)
                    .collect();
                assert_eq!(ranks, [0, 1, 2, 3]);
                let third = get(&step, "u", &Selection::block(BlockId(2))).unwrap();
                assert_eq!(third, block(number, &[4, 0], &[2, 5], &[8, 5]));
            }
            assert!(ended(&mut reader).unwrap());
        });
    });
}

#[test]
fn a_restart_from_an_older_step_rolls_readers_back() {
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("restart", "&retain_steps=20");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let u = writer.define(global("u", &[8])).unwrap();
        write_small(&mut writer, u, 0..6);
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        for step in 0..6 {
            assert_eq!(next(&mut reader).head().step, step);
        }
        drop(writer);
        let mut writer = resume_writer(&url, &mut Solo, Resume::After(3)).unwrap();
        let u = writer.define(global("u", &[8])).unwrap();
        write_small(&mut writer, u, 4..6);
        writer.close().unwrap();
        match reader.next_step() {
            Err(NextError::RolledBack { to, .. }) => assert_eq!(to, Some(3)),
            other => panic!("{other:?}"),
        }
        let step = next(&mut reader);
        assert_eq!((step.head().step, step.head().epoch), (4, 2));
        assert_eq!(
            get(&step, "u", &Selection::all()).unwrap(),
            block(4, &[0], &[8], &[8])
        );
        assert_eq!(next(&mut reader).head().step, 5);
        assert!(ended(&mut reader).unwrap());
    });
}

#[test]
fn a_reader_that_comes_back_under_its_cursor_goes_on_behind_what_it_committed() {
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("cursor", "&retain_steps=20");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let u = writer.define(global("u", &[8])).unwrap();
        write_small(&mut writer, u, 0..4);
        let viz = || Start::Cursor("viz".into());
        let mut reader = open_reader_at(&url, &mut Solo, viz()).unwrap();
        assert_eq!(next(&mut reader).head().step, 0);
        let second = next(&mut reader);
        reader.commit(&second.head(), "viz").unwrap();
        assert_eq!(next(&mut reader).head().step, 2);
        drop(reader);
        let mut reader = open_reader_at(&url, &mut Solo, viz()).unwrap();
        assert_eq!(next(&mut reader).head().step, 2);
    });
}

/// Waits, as long as a test may take, until a descriptor is readable.
fn wait_for(fd: BorrowedFd<'_>) {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1);
}

#[test]
fn a_root_waits_for_steps_in_a_poll_and_the_other_ranks_are_told_who_does() {
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("polled", "");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = open_writer(&url, &mut Solo).unwrap();
                let u = writer.define(global("u", &[4])).unwrap();
                for step in 0..3 {
                    write_step(&mut writer, step, u, &[0], &[4], &[4]);
                }
                writer.close().unwrap();
            });
            group(2, |rank, comm| {
                let mut reader = open_reader(&url, comm).unwrap();
                if rank > 0 {
                    let told = reader.wait_fd().unwrap_err().to_string();
                    assert!(told.contains("wait on rank 0"), "{told}");
                }
                let mut seen = 0;
                loop {
                    if rank == 0 {
                        wait_for(reader.wait_fd().unwrap());
                    }
                    match reader.next_step_within(Duration::ZERO) {
                        Ok(Some(step)) => {
                            assert_eq!(step.head().step, seen);
                            seen += 1;
                        }
                        Ok(None) => break,
                        Err(NextError::NotReady { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                assert_eq!(seen, 3);
            });
        });
    });
}

#[test]
fn a_program_in_c_waits_in_a_poll_and_its_opening_is_interrupted() {
    let Some(program) = panta_tests::tools::c_program("ffi/tests/programs/waiting.c") else {
        return;
    };
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("from_c", "");
        let output = Command::new(program).arg(&url).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", output.status);
    });
}
