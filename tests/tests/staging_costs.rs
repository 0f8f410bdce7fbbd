//! What `staging:` costs: round trips, copies, memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod staging_support;

use panta_core::comm::Solo;
use panta_core::model::{DType, MemorySpace, Selection, StepTime};
use panta_staging_server::ServerOptions;
use panta_transports::copy::StridedRef;
use staging_support::*;

fn frames(space: &Space) -> u64 {
    let servers = space.servers.iter().flatten();
    servers
        .map(|server| server.counters().frames_received())
        .sum()
}

#[test]
fn a_warm_get_is_one_round_trip_to_each_server_that_holds_a_part() {
    within_deadline(|| {
        for servers in [1, 3] {
            let space = Space::start(servers);
            let url = space.url("warm", "");
            let mut writer = open_writer(&url, &mut Solo).unwrap();
            let shape = [64, 64];
            let mut definition = global("u", &shape);
            definition.chunk = Some(vec![4, 4]);
            let u = writer.define(definition).unwrap();
            write_step(&mut writer, 0, u, &[0, 0], &shape, &shape);
            let mut reader = open_reader(&url, &mut Solo).unwrap();
            let step = next(&mut reader);
            get(&step, "u", &Selection::all()).unwrap();
            let before = frames(&space);
            let got = get(&step, "u", &Selection::all()).unwrap();
            assert_eq!(got, block(0, &[0, 0], &shape, &shape));
            assert_eq!(frames(&space) - before, servers as u64);
        }
    });
}

/// Requests of one step whose only array has so many chunks.
fn requests_of_a_step(servers: usize, chunk: u64) -> u64 {
    let space = Space::start(servers);
    let mut writer = open_writer(&space.url("chunks", ""), &mut Solo).unwrap();
    let shape = [256, 256];
    let mut definition = global("u", &shape);
    definition.chunk = Some(vec![chunk, chunk]);
    let u = writer.define(definition).unwrap();
    write_step(&mut writer, 0, u, &[0, 0], &shape, &shape);
    let before = frames(&space);
    write_step(&mut writer, 1, u, &[0, 0], &shape, &shape);
    frames(&space) - before
}

#[test]
fn the_round_trips_of_a_put_do_not_grow_with_its_chunks() {
    within_deadline(|| {
        for servers in [1, 3] {
            // Begin and End at the home, one Put for each server.
            let expected = 2 + servers as u64;
            assert_eq!(requests_of_a_step(servers, 64), expected);
            assert_eq!(requests_of_a_step(servers, 4), expected);
        }
    });
}

#[test]
fn contiguous_puts_and_spans_are_sent_from_where_they_lie_and_gets_copied_once() {
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("copies", "");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let shape = [64, 128];
        let u = writer.define(global("u", &shape)).unwrap();
        let v = writer.define(global("v", &shape)).unwrap();
        let w = writer.define(global("w", &shape)).unwrap();
        let data = bytes(&block(0, &[0, 0], &shape, &shape));
        let size = data.len() as u64;
        writer.begin_step(StepTime::default(), None).unwrap();
        let lent = put(&writer, u, &[0, 0], &shape, &data);
        let (span, memory, length) = writer.span(v, DType::F64, &[0, 0], &shape).unwrap();
        assert_eq!(length, data.len());
        assert_eq!(memory.as_ptr() as usize % 64, 0);
        // SAFETY: the engine lent so many bytes until the step's end.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), memory.as_ptr(), length) };
        writer.end_step(vec![lent, span]).unwrap();
        assert_eq!(writer.copies().bytes(), 0);
        // SAFETY: the strides of the transposed array stay inside `data`.
        let turned =
            unsafe { StridedRef::from_raw_parts(data.as_ptr(), 8, &shape, &[8, 512]).unwrap() };
        writer.begin_step(StepTime::default(), None).unwrap();
        let strided = writer
            .put(w, DType::F64, &[0, 0], turned, MemorySpace::Host)
            .unwrap();
        writer.end_step(vec![strided]).unwrap();
        assert_eq!(writer.copies().bytes(), size);
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        let step = next(&mut reader);
        let expected = values(&data);
        assert_eq!(get(&step, "u", &Selection::all()).unwrap(), expected);
        assert_eq!(get(&step, "v", &Selection::all()).unwrap(), expected);
        assert_eq!(reader.copies().bytes(), 2 * size);
        assert_eq!(space.server(0).copies().bytes(), 0);
        let step = next(&mut reader);
        let got = get(&step, "w", &Selection::all()).unwrap();
        assert!((0..64 * 128).all(|at| got[at] == expected[at % 128 * 64 + at / 128]));
    });
}

#[test]
fn a_server_holds_no_more_than_the_stream_retains() {
    within_deadline(|| {
        let space = Space::start(2);
        let url = space.url("bounded", "&retain_steps=3&policy=drop-oldest");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let shape = [128, 1024];
        let mut definition = global("u", &shape);
        definition.chunk = Some(vec![16, 128]);
        let u = writer.define(definition).unwrap();
        let step_bytes = 128 * 1024 * 8;
        for step in 0..30 {
            write_step(&mut writer, step, u, &[0, 0], &shape, &shape);
            let held: u64 = space
                .servers
                .iter()
                .flatten()
                .map(|server| server.held_bytes())
                .sum();
            // What is retained, a step that is being written, and its index.
            assert!(
                held <= 4 * step_bytes + step_bytes / 2,
                "{held} after step {step}"
            );
        }
    });
}

#[test]
fn a_full_server_makes_the_writer_wait_until_its_deadline_and_says_so() {
    within_deadline(|| {
        let options = ServerOptions {
            limit_bytes: 1 << 20,
            ..ServerOptions::default()
        };
        let space = Space::with(1, options);
        let url = space.url("full", "&deadline=1s");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let shape = [1 << 18];
        let u = writer.define(global("u", &shape)).unwrap();
        writer.begin_step(StepTime::default(), None).unwrap();
        let data = vec![0; 8 << 18];
        let put = put(&writer, u, &[0], &shape, &data);
        let error = writer.end_step(vec![put]).unwrap_err().to_string();
        assert!(
            error.contains("room in memory") && error.contains(&space.names[0]),
            "{error}"
        );
        assert!(space.server(0).held_bytes() <= 1 << 20);
    });
}

#[test]
fn a_step_stays_until_every_rank_of_the_group_has_let_it_go() {
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("claims", "&retain_steps=2&policy=drop-oldest");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let u = writer.define(global("u", &[8])).unwrap();
        write_step(&mut writer, 0, u, &[0], &[8], &[8]);
        let writer = std::sync::Mutex::new(writer);
        let gate = std::sync::Barrier::new(2);
        group(2, |rank, comm| {
            let mut reader = open_reader(&url, comm).unwrap();
            let step = next(&mut reader);
            if rank == 0 {
                drop(step);
                // The release is in before these steps press on the first.
                let mut writer = writer.lock().unwrap();
                for number in 1..4 {
                    let head = writer.begin_step(StepTime::default(), None).unwrap();
                    assert_eq!(head.step, number);
                    let data = bytes(&block(number, &[0], &[8], &[8]));
                    let put = put(&writer, u, &[0], &[8], &data);
                    writer.end_step(vec![put]).unwrap();
                }
                gate.wait();
            } else {
                gate.wait();
                let got = get(&step, "u", &Selection::all()).unwrap();
                assert_eq!(got, block(0, &[0], &[8], &[8]));
            }
        });
    });
}

#[test]
fn a_step_stays_for_the_other_ranks_when_the_root_has_left() {
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("leaving", "&retain_steps=2&policy=drop-oldest");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let u = writer.define(global("u", &[8])).unwrap();
        write_step(&mut writer, 0, u, &[0], &[8], &[8]);
        let writer = std::sync::Mutex::new(writer);
        let gate = std::sync::Barrier::new(2);
        group(2, |rank, comm| {
            let mut reader = open_reader(&url, comm).unwrap();
            let step = next(&mut reader);
            if rank == 0 {
                drop(step);
                reader.close();
                let mut writer = writer.lock().unwrap();
                for number in 1..4 {
                    let head = writer.begin_step(StepTime::default(), None).unwrap();
                    let data = bytes(&block(number, &[0], &[8], &[8]));
                    let put = put(&writer, u, &[0], &[8], &data);
                    writer.end_step(vec![put]).unwrap();
                    assert_eq!(head.step, number);
                }
                gate.wait();
            } else {
                gate.wait();
                let got = get(&step, "u", &Selection::all()).unwrap();
                assert_eq!(got, block(0, &[0], &[8], &[8]));
            }
        });
    });
}
