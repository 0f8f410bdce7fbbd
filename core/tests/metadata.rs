//! What metadata costs: two rounds a step to write and one to read, bytes in proportion to
//! what changed, its name to go back to a layout of before; and what engines are given.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Barrier;
use std::thread;

use panta_core::codec::{Coded, Decoder, Encoder};
use panta_core::comm::{Comm, Solo, Threads};
use panta_core::engine::EngineFactory;
use panta_core::error::DefineError;
use panta_core::model::{
    Attribute, DType, Definition, MemorySpace, Selection, ShapeKind, StepTime,
};
use panta_core::session::{Put, Reader, ReaderOptions, Step, Writer, WriterOptions};
use panta_transports::copy::{StridedMut, StridedRef};

use support::memory::MemoryEngine;

const RANKS: usize = 4;
/// Blocks that each rank puts in a step.
const BLOCKS: usize = 50;

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

fn open_writer(engine: &MemoryEngine, comm: &mut dyn Comm) -> Writer {
    let engines: [&dyn EngineFactory; 1] = [engine];
    Writer::open(
        "null:?deadline=20s",
        comm,
        &engines,
        WriterOptions::default(),
    )
    .unwrap()
}

fn open_reader(engine: &MemoryEngine, comm: &mut dyn Comm) -> Reader {
    let engines: [&dyn EngineFactory; 1] = [engine];
    Reader::open(
        "null:?deadline=20s",
        comm,
        &engines,
        &ReaderOptions::default(),
    )
    .unwrap()
}

/// Puts a row of blocks of `width` cells each, at row `row`.
fn write_row(writer: &mut Writer, variable: usize, row: u64, width: u64, value: f64) {
    let cells = vec![value; width as usize];
    writer.begin_step(StepTime::default(), None).unwrap();
    let puts: Vec<Put<'_>> = (0..BLOCKS as u64)
        .map(|block| {
            let bytes = bytemuck::cast_slice(&cells);
            let source = StridedRef::contiguous(bytes, 8, &[1, width]).unwrap();
            let start = [row, block * width];
            let put = writer.put(variable, DType::F64, &start, source, MemorySpace::Host);
            put.unwrap()
        })
        .collect();
    writer.end_step(puts).unwrap();
}

fn read_all(step: &Step) -> Vec<f64> {
    let all = step.resolve("u", DType::F64, &Selection::all()).unwrap();
    let count = all.count().to_vec();
    let mut values = vec![-1.0_f64; count.iter().product::<u64>() as usize];
    let bytes = bytemuck::cast_slice_mut(&mut values);
    step.read(all, StridedMut::contiguous(bytes, 8, &count).unwrap())
        .unwrap();
    values
}

/// The bytes that each step of `widths` costs: by writer rank, and of one reader. In step
/// `s` rank 1 puts blocks of `widths[s]` cells, the other ranks of four.
fn costs(widths: &[u64]) -> (Vec<Vec<u64>>, Vec<u64>) {
    let engine = MemoryEngine::default();
    let written = thread::scope(|scope| {
        let ranks: Vec<_> = Threads::group(RANKS)
            .into_iter()
            .map(|mut comm| {
                let engine = &engine;
                scope.spawn(move || {
                    let rank = comm.rank();
                    let mut writer = open_writer(engine, &mut comm);
                    let shape = [RANKS as u64, 4 * BLOCKS as u64];
                    let u = writer.define(definition("u", &shape)).unwrap();
                    let mut costs = Vec::new();
                    for width in widths {
                        let before = (writer.metadata_bytes(), writer.tree_counters().rounds());
                        let width = if rank == 1 { *width } else { 4 };
                        write_row(&mut writer, u, rank as u64, width, rank as f64);
                        costs.push(writer.metadata_bytes() - before.0);
                        assert_eq!(writer.tree_counters().rounds() - before.1, 2);
                    }
                    writer.close().unwrap();
                    costs
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    let mut reader = open_reader(&engine, &mut Solo);
    let mut read = Vec::new();
    let mut before = reader.metadata_bytes();
    while let Some(step) = reader.next_step().unwrap() {
        let width = widths[step.head().step as usize] as usize * BLOCKS;
        let values = read_all(&step);
        for (rank, row) in values.chunks(4 * BLOCKS).enumerate() {
            let filled = if rank == 1 { width } else { 4 * BLOCKS };
            assert!(row[..filled].iter().all(|value| *value == rank as f64));
            assert!(row[filled..].iter().all(|value| *value == -1.0));
        }
        drop(step);
        read.push(reader.metadata_bytes() - before);
        before = reader.metadata_bytes();
    }
    assert_eq!(read.len(), widths.len());
    (written, read)
}

#[test]
fn a_changed_layout_costs_what_changed_and_one_of_before_its_name() {
    // Step by step: new, unchanged, changed, as at first, as changed, unchanged.
    let (written, read) = costs(&[4, 4, 3, 4, 3, 3]);
    // A block costs at least variable, order, start and count, a byte each and for how many.
    let blocks = BLOCKS as u64 * 8;
    // Where it is stored, and where a reader is told of all of them, 48 bytes.
    let stored = RANKS as u64 * BLOCKS as u64 * 48;
    for (rank, costs) in written.iter().enumerate() {
        let unchanged = costs[1];
        assert!(costs[0] > unchanged + blocks, "rank {rank}: {costs:?}");
        // One of before, and which it is.
        let named = if rank == 1 { unchanged + 8 } else { unchanged };
        assert_eq!(
            costs[3..],
            [named, named, unchanged],
            "rank {rank}: {costs:?}"
        );
        match rank {
            // The root seals the changed layout for readers, whole.
            0 => assert!(costs[2] > unchanged + stored),
            1 => assert!(costs[2] > unchanged + blocks, "{costs:?}"),
            _ => assert_eq!(costs[2], unchanged, "rank {rank}: {costs:?}"),
        }
    }
    let unchanged = read[1];
    assert!(read[0] > unchanged + stored, "{read:?}");
    assert!(read[2] > unchanged + blocks, "{read:?}");
    assert!(read[2] < unchanged + blocks * 3 / 2, "{read:?}");
    assert_eq!(read[3..], [unchanged; 3], "{read:?}");
}

#[test]
fn layouts_that_take_turns_are_told_once_each() {
    let widths: Vec<u64> = [1, 2, 3, 4].into_iter().cycle().take(12).collect();
    let (written, _) = costs(&widths);
    let costs = &written[1];
    assert!(costs[4..].iter().all(|cost| *cost == costs[4]), "{costs:?}");
    assert!(costs[3] > costs[4] + BLOCKS as u64 * 8, "{costs:?}");
}

#[test]
fn ranks_that_put_nothing_or_fail_do_not_confuse_what_is_remembered() {
    let engine = MemoryEngine::default();
    thread::scope(|scope| {
        for mut comm in Threads::group(3) {
            let engine = &engine;
            scope.spawn(move || {
                let rank = comm.rank();
                let mut writer = open_writer(engine, &mut comm);
                let u = writer.define(definition("u", &[3, 4 * 50])).unwrap();
                for step in 0..8 {
                    match (step, rank) {
                        (2 | 5, 1) => {
                            writer.begin_step(StepTime::default(), None).unwrap();
                            writer.abort_step().unwrap_err();
                        }
                        (2 | 5, _) => {
                            writer.begin_step(StepTime::default(), None).unwrap();
                            writer.end_step(Vec::new()).unwrap_err();
                        }
                        (3, 2) => {
                            writer.begin_step(StepTime::default(), None).unwrap();
                            writer.end_step(Vec::new()).unwrap();
                        }
                        _ => write_row(&mut writer, u, rank as u64, 4, f64::from(step)),
                    }
                }
                writer.close().unwrap();
            });
        }
    });
    let mut reader = open_reader(&engine, &mut Solo);
    let mut seen = Vec::new();
    while let Some(step) = reader.next_step().unwrap() {
        let number = step.head().step;
        let values = read_all(&step);
        let row = if number == 3 { -1.0 } else { number as f64 };
        assert!(values[..400].iter().all(|value| *value == number as f64));
        assert!(values[400..].iter().all(|value| *value == row));
        seen.push(number);
    }
    assert_eq!(seen, [0, 1, 3, 4, 6, 7]);
}

#[test]
fn engines_get_reservations_by_rank_and_byte_forms_that_stay_while_unchanged() {
    let engine = MemoryEngine::default();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        for mut comm in Threads::group(2) {
            let (engine, barrier) = (&engine, &barrier);
            scope.spawn(move || {
                let rank = comm.rank();
                let mut writer = open_writer(engine, &mut comm);
                let u = writer.define(definition("u", &[2, 200])).unwrap();
                let mut forms = Vec::new();
                for width in [4, 4, 3] {
                    let bytes = 10_000 + rank as u64;
                    writer.begin_step(StepTime::default(), Some(bytes)).unwrap();
                    let cells = vec![0.0_f64; width as usize];
                    let bytes = bytemuck::cast_slice(&cells);
                    let source = StridedRef::contiguous(bytes, 8, &[1, width]).unwrap();
                    let start = [rank as u64, 0];
                    let put = writer.put(u, DType::F64, &start, source, MemorySpace::Host);
                    writer.end_step(vec![put.unwrap()]).unwrap();
                    barrier.wait();
                    let state = engine.state.lock().unwrap();
                    assert_eq!(state.reserved, [10_000, 10_001]);
                    forms.push(state.sealed_forms);
                    drop(state);
                    barrier.wait();
                }
                assert_eq!(forms[0], forms[1]);
                assert_eq!(forms[1].0, forms[2].0);
                assert_ne!(forms[1].1, forms[2].1);
                writer.close().unwrap();
            });
        }
    });
}

#[test]
fn what_readers_hold_comes_to_their_root_in_the_round_that_brings_the_next_step() {
    let engine = MemoryEngine {
        tells_held: true,
        ..MemoryEngine::default()
    };
    let mut writer = open_writer(&engine, &mut Solo);
    let u = writer.define(definition("u", &[1, 200])).unwrap();
    for step in 0..3 {
        write_row(&mut writer, u, 0, 4, f64::from(step));
    }
    let barrier = Barrier::new(3);
    thread::scope(|scope| {
        for mut comm in Threads::group(3) {
            let (engine, barrier) = (&engine, &barrier);
            scope.spawn(move || {
                let rank = comm.rank();
                let mut reader = open_reader(engine, &mut comm);
                let rounds = reader.tree_counters().rounds();
                let first = reader.next_step().unwrap().unwrap();
                // Rank 1 keeps the first step, the others let it go.
                let kept = (rank == 1).then_some(first);
                let second = reader.next_step().unwrap().unwrap();
                barrier.wait();
                let held: Vec<Vec<u64>> = engine
                    .state
                    .lock()
                    .unwrap()
                    .held
                    .iter()
                    .map(|held| Decoder::new(held).u64s().unwrap())
                    .collect();
                assert_eq!(held, [vec![], vec![0], vec![]]);
                barrier.wait();
                drop((second, kept));
                let third = reader.next_step().unwrap().unwrap();
                assert_eq!(third.head().step, 2);
                assert_eq!(reader.tree_counters().rounds() - rounds, 3);
            });
        }
    });
    writer.close().unwrap();
}

#[test]
fn frozen_definitions_stay_and_a_step_costs_the_same_bytes_each_time() {
    let engine = MemoryEngine::default();
    let mut writer = open_writer(&engine, &mut Solo);
    let u = writer.define(definition("u", &[1, 200])).unwrap();
    writer
        .set_attribute(Some("u"), "unit", Attribute::Int(1))
        .unwrap();
    write_row(&mut writer, u, 0, 4, 0.0);
    writer.freeze_definitions();
    let is_frozen = |error: &DefineError, variable: &str| matches!(error, DefineError::Frozen { name, .. } if name == variable);
    let error = writer.define(definition("v", &[3])).unwrap_err();
    assert!(is_frozen(&error, "v"), "{error}");
    let error = writer.set_shape(u, &[1, 300]).unwrap_err();
    assert!(is_frozen(&error, "u"), "{error}");
    let error = writer
        .set_attribute(Some("u"), "new", Attribute::Int(1))
        .unwrap_err();
    assert!(is_frozen(&error, "u"), "{error}");
    // What is so already may be said again.
    assert_eq!(writer.define(definition("u", &[1, 200])), Ok(u));
    writer
        .set_attribute(Some("u"), "unit", Attribute::Int(1))
        .unwrap();
    let mut reader = open_reader(&engine, &mut Solo);
    reader.next_step().unwrap().unwrap();
    let mut bytes = (writer.metadata_bytes(), reader.metadata_bytes());
    let costs: Vec<(u64, u64)> = (0..5)
        .map(|step| {
            write_row(&mut writer, u, 0, 4, f64::from(step));
            reader.next_step().unwrap().unwrap();
            let now = (writer.metadata_bytes(), reader.metadata_bytes());
            let cost = (now.0 - bytes.0, now.1 - bytes.1);
            bytes = now;
            cost
        })
        .collect();
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");
    assert!(costs[0].0 < 200 && costs[0].1 < 200, "{costs:?}");
}

#[test]
fn announcements_that_are_damaged_are_errors() {
    use panta_core::announce::Announcer;
    use panta_core::model::{Block, Layout, LayoutEntry, Payload, Schema, StepHead, StepRecord};
    let schema = Schema {
        variables: vec![std::sync::Arc::new(definition("u", &[4, 4]))],
        ..Schema::default()
    };
    let layout = |widths: [u64; 4]| {
        let blocks = widths.into_iter().zip(0..).map(|(width, rank)| Block {
            rank,
            order: 0,
            start: vec![u64::from(rank), 0],
            count: vec![1, width],
        });
        let entry = LayoutEntry {
            variable: 0,
            blocks: blocks.collect(),
        };
        Layout {
            entries: vec![entry],
        }
    };
    let packer = Announcer::default();
    let announce = |layout: &Layout| {
        let (schema, layout) = (schema.to_bytes(), layout.to_bytes());
        let record = StepRecord {
            head: StepHead::default(),
            schema_digest: panta_core::codec::digest(&schema),
            layout_digest: panta_core::codec::digest(&layout),
            payloads: vec![vec![Payload::Array(None); 4]],
        };
        packer.pack(&record, &schema, &layout, b"own")
    };
    let first = announce(&layout([4, 4, 4, 4]));
    let changed = announce(&layout([4, 3, 4, 4]));
    assert!(changed.len() < first.len());
    let unpack = |unpacker: &Announcer, bytes: &[u8]| {
        unpacker.unpack(bytes, |_, own| {
            assert_eq!(own, b"own");
            Ok(std::sync::Arc::new(()))
        })
    };
    unpack(&Announcer::default(), &changed).unwrap_err();
    for cut in 0..changed.len() {
        let unpacker = Announcer::default();
        unpack(&unpacker, &first).unwrap();
        unpack(&unpacker, &changed[..cut]).unwrap_err();
    }
    for at in 0..changed.len() {
        let unpacker = Announcer::default();
        unpack(&unpacker, &first).unwrap();
        let mut damaged = changed.clone();
        damaged[at] ^= 0x41;
        // Only what nothing depends on can be damaged without being seen: head and own part.
        if let Ok(step) = unpacker.unpack(&damaged, |_, _| Ok(std::sync::Arc::new(()))) {
            assert_eq!(step.entries[0].blocks[1].block.count, [1, 3]);
        }
    }
    let unpacker = Announcer::default();
    unpack(&unpacker, &first).unwrap();
    let step = unpack(&unpacker, &changed).unwrap();
    assert_eq!(step.entries[0].blocks[1].block.count, [1, 3]);
    let mut more = Encoder::default();
    more.bytes(&changed);
    unpack(&unpacker, &more.finish()).unwrap_err();
}
