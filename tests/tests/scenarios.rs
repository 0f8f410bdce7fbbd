//! Every scenario on every engine: one test a cell, and the matrix of them.
//!
//! `PANTA_BLESS=1 cargo test -p panta-tests --test scenarios matrix` rewrites
//! `docs/scenarios.md` after a change of the table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests; the matrix is printed"
)]

use panta_tests::fabric;
use panta_tests::matrix::{Cell, ENGINES, Row, page};
use panta_tests::scenario::{
    arrays, blocks, death, disk, groups, languages, late, layouts, many, packed, replay, rounded,
    servers, sharing, wrong,
};
use panta_tests::stage::{Engine, Stage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_panta-scenario");

fn play(name: &str, engine: Engine, scenario: impl FnOnce(&mut Stage)) {
    if engine == Engine::Stream("rdma") && !fabric::is_there(name, PROGRAM) {
        return;
    }
    scenario(&mut Stage::new(engine, PROGRAM));
}

const NO_RELAY: &str = "needs a server or a direct stream between the sides";
const ON_DISK: &str = "is about files";

macro_rules! cell {
    (test) => {
        Cell::Tested
    };
    ((not_yet $why:expr)) => {
        Cell::NotYet($why)
    };
    ((never $why:expr)) => {
        Cell::DoesNotApply($why)
    };
}

macro_rules! maybe_test {
    ($name:ident, $engine:expr, $play:expr, test) => {
        #[test]
        fn $name() {
            play(stringify!($name), $engine, $play);
        }
    };
    ($name:ident, $engine:expr, $play:expr, $other:tt) => {};
}

macro_rules! matrix {
    ($(
        $name:ident: $holds:literal, $play:expr;
        $file:tt $one:tt $three:tt $shm:tt $tcp:tt $rdma:tt
    )*) => {
        const ROWS: &[Row] = &[$(Row {
            name: stringify!($name),
            holds: $holds,
            cells: [cell!($file), cell!($one), cell!($three), cell!($shm), cell!($tcp), cell!($rdma)],
        }),*];

        mod scenario_file {
            use super::*;
            $(maybe_test!($name, Engine::File, $play, $file);)*
        }

        mod scenario_staging_1 {
            #[allow(unused_imports, reason = "a column may have no test yet")]
            use super::*;
            $(maybe_test!($name, Engine::Staging(1), $play, $one);)*
        }

        mod scenario_staging_3 {
            #[allow(unused_imports, reason = "a column may have no test yet")]
            use super::*;
            $(maybe_test!($name, Engine::Staging(3), $play, $three);)*
        }

        mod scenario_stream_shm {
            #[allow(unused_imports, reason = "a column may have no test yet")]
            use super::*;
            $(maybe_test!($name, Engine::Stream("shm"), $play, $shm);)*
        }

        mod scenario_stream_tcp {
            #[allow(unused_imports, reason = "a column may have no test yet")]
            use super::*;
            $(maybe_test!($name, Engine::Stream("tcp"), $play, $tcp);)*
        }

        mod scenario_stream_rdma {
            #[allow(unused_imports, reason = "a column may have no test yet")]
            use super::*;
            $(maybe_test!($name, Engine::Stream("rdma"), $play, $rdma);)*
        }
    };
}

/// Stands where no engine has a test.
#[allow(dead_code, reason = "cells without a test do not name it")]
fn nothing(_: &mut Stage) {}

matrix! {
    types_1x1: "every type, 0 to 4 dimensions, 10 steps, cut otherwise on each side", |stage| layouts::types(stage, 1, 1);
        test test test test test test
    types_2x1: "the same, 2 writers", |stage| layouts::types(stage, 2, 1);
        test test test test test test
    types_1x2: "the same, 2 readers", |stage| layouts::types(stage, 1, 2);
        test test test test test test
    types_3x5: "the same, 3 writers, 5 readers", |stage| layouts::types(stage, 3, 5);
        test test test test test test
    types_5x3: "the same, 5 writers, 3 readers", |stage| layouts::types(stage, 5, 3);
        test test test test test test
    types_in_threads: "the same as threads of one process, 3 x 2", layouts::types_in_threads;
        test test test test test test
    get_modes: "get at once, deferred in a batch, both; buffers are free and valid when promised", layouts::modes;
        test test test test test test
    put_mixes: "every mix of absent, copied, lent and span for five variables: 1,024 steps", layouts::mixes;
        test test test test test test
    planes: "14 two-dimensional layouts up to 4x2 and 2x4; each block by itself", layouts::planes;
        test test test test test test
    early_exit: "a reader leaves after 5 of 50 steps; the writer finishes", groups::early_exit;
        test test test test test test
    writer_dropped: "a writer dropped without close ends the stream", groups::writer_dropped;
        test test test test test test
    reader_dropped: "a reader dropped without close, a step in hand, holds nobody up", groups::reader_dropped;
        test test test test test test
    joined_1x1: "rows of differing count join in rank order", |stage| arrays::joined(stage, 1);
        test test test test test test
    joined_5x1: "the same, 5 writers", |stage| arrays::joined(stage, 5);
        test test test test test test
    local_1x1: "local arrays, several blocks a rank, sizes varying by rank and step", |stage| arrays::local(stage, 1, 1);
        test test test test test test
    local_3x5: "the same, 3 x 5", |stage| arrays::local(stage, 3, 5);
        test test test test test test
    local_5x3: "the same, 5 x 3", |stage| arrays::local(stage, 5, 3);
        test test test test test test
    shape_changes: "a global array changes its shape between steps", arrays::shapes;
        test test test test test test
    attributes: "numbers, texts, arrays of both; set before the first step and between steps", arrays::attributes;
        test test test test test test
    ghost_cells_1x1: "memory selections on both sides", |stage| arrays::ghosts(stage, 1);
        test test test test test test
    ghost_cells_3x3: "the same, 3 x 3", |stage| arrays::ghosts(stage, 3);
        test test test test test test
    empty_steps: "empty steps, a rank with nothing, blocks of no cells, one rank with everything", blocks::empty;
        test test test test test test
    decomposition_a_b_a: "right data and blocks when the decomposition changes and comes back", blocks::again;
        test test test test test test
    locked_definitions: "an unchanged layout costs fewer bytes of metadata; A, B, A costs none the third time", blocks::locked;
        test test test test test test
    amr: "three levels, blocks that change every step, the level of each beside it", blocks::amr;
        test test test test test test
    ragged_particles: "counts vary by rank and step, some ranks have none", blocks::ragged;
        test test test test test test
    holes: "cells that no block covers: the fill value, or an error that names a box", blocks::holes;
        test test test test test test
    overlaps: "the highest (rank, put order) wins; checked, an error that names both blocks", blocks::overlap;
        test test test test test test
    two_streams: "two streams of the same variables in one program do not mix", groups::two_streams;
        test test test test test test
    bidirectional_3x5: "two programs write to and read from each other", groups::bidirectional;
        test test test test test test
    threads: "writer and readers as threads of one process", groups::threads;
        test test test test test test
    languages: "C, Fortran, Rust and Python read each other; dimensions reversed where the language does", languages::languages;
        test test test test test test
    compression: "without loss: every cell exact, whole and in part, in fewer bytes", packed::compression;
        test test test test test test
    lossy_compression: "within the bound that was asked for", rounded::lossy;
        test test test test test test
    delayed_reader: "a reader that comes after half of the steps", late::delayed_reader;
        test test test test test test
    delayed_writer: "a writer that comes after its reader", late::delayed_writer;
        test test test test test test
    no_reader: "a writer without readers runs through in bounded memory", late::no_reader;
        test test test test test test
    no_writer: "open with no writer: at the deadline an error that names what was awaited", late::no_writer;
        test test test test test test
    poll: "a deadline of 0 gives \"not ready\" at least once, then data", late::poll;
        test test test test test test
    latest_only: "readers that open at the latest step skip some, and never go back", late::latest;
        test test test test test test
    drop_oldest: "the reader sees gaps, and by the numbers which", |stage| late::shedding(stage, "drop-oldest");
        (never "a file keeps every step") test test test test test
    drop_newest: "the reader sees gaps, and by the numbers which", |stage| late::shedding(stage, "drop-newest");
        (never "a file keeps every step") test test test test test
    slow_writer: "every step comes", late::slow_writer_play;
        test test test test test test
    slow_reader: "every step comes", late::slow_reader_play;
        test test test test test test
    readers_killed: "readers killed again and again, 1 and 3 at a time: the writer neither fails nor grows", death::readers_killed;
        test test test test test test
    writer_killed_2x2: "every reader rank, blocked or polling, gets WriterLost with the last sealed step", death::writer_killed;
        test test test test test test
    writer_cut: "writers killed in the midst of their steps: whole steps only, for all readers the same; the next life goes on", death::writer_cut;
        test test test test test test
    precious_first_step: "every joiner sees step 0 first", sharing::precious;
        test test test test test test
    newest_only: "a reader of `latest_only` skips steps it is too slow for, and never goes back", sharing::newest_only;
        (never "a file keeps every step") test test test test test
    distribution: "all, round robin and on demand over three reader groups", sharing::distribution;
        (never "a file is read by all") test test test test test
    bad_names: "bad names, keys and values: errors that name them and the nearest good one", wrong::names;
        test (never "the parameters are common to all engines") (never "the parameters are common to all engines") (never "the parameters are common to all engines") (never "the parameters are common to all engines") (never "the parameters are common to all engines")
    wrong_order: "a put outside a step, a begin within one, a second definition: clear errors", wrong::order;
        test test test test test test
    step_too_large: "a step above the limit is an error before anything is written", wrong::too_large;
        test test test test test test
    failed_put: "one rank's put fails, or it drops its step: end fails alike everywhere, the next step works", wrong::failed_put;
        test test test test test test
    mpi_launches: "one launch sim : ana, sub-communicators, MPI_COMM_NULL, MPI_Finalize before close", languages::one_launch;
        test test test test test test
    two_mpis: "a writer under Open MPI and a reader under MPICH, and back, with the same libpanta.so", languages::two_mpis;
        test test test test test test
    restart_2: "a simulation restarts from 40 after 57: RolledBack, then the new steps", |stage| death::restart(stage, 2);
        test test test test test test
    restart_3: "the same with another number of ranks", |stage| death::restart(stage, 3);
        test test test test test test
    writer_rank_killed: "one writer rank dies: the others get the error, the readers WriterLost", death::writer_rank_killed;
        test test test test test test
    reader_rank_killed: "one reader rank dies: the others get the error, the writer goes on", death::reader_rank_killed;
        test test test test test test
    cursor: "a reader killed inside a step comes back under its cursor: that step again, then the rest", death::cursor;
        test test test test test test
    dead_reader_blocks: "policy block: a dead reader frees the writer within the lease", servers::dead_reader_blocks;
        (never "a file never blocks on its readers") test test test test test
    spans_are_free: "span over staging and stream: zero copies counted", servers::spans_are_free;
        (never "pages go to the disk") test test test test test
    memory_ceiling: "a reader 100 times slower: writer and servers stay within the limit plus 10 %", servers::memory_ceiling;
        (never "a file holds no steps for its readers") test test test test test
    many_streams: "100 (1,000 in a soak) streams in one process: no thread, descriptor, mapping or memory stays", many::streams;
        test test test test test test
    many_at_once: "20 (100 in a soak) streams from one process to another at once: nor does it then", many::at_once;
        test test test test test test
    replay: "late joiners from Oldest, At, After, AtTime, Latest: exactly those steps", replay::replay;
        test test test test test test
    trimmed: "a step that is no longer kept: an error that names the oldest", replay::trimmed;
        (never "a file keeps every step") test test test test test
    interrupt: "every blocking call can be interrupted, and goes on afterwards", late::interrupt;
        test test test test test test
    stopped_writer: "SIGSTOP of a writer rank: readers hear \"not ready\"; after SIGCONT the stream goes on", death::stopped_writer;
        test test test test test test
    fenced: "SIGSTOP beyond the lease: fenced, finds out, nothing it wrote late is shown", servers::fenced;
        (never "the lock of a stopped writer stays held; nobody else can write") test test test test test
    long_silence: "a simulation that computes for long without a call is not held dead", servers::long_silence;
        (never "a writer of a file is dead when its lock is free, and not before") test test test test test
    views_to_the_limit: "a reader that keeps views to its limit, then waits: WouldDeadlock", servers::views_to_the_limit;
        (never "views of a file are of no limited memory") test test test test test
    strangers: "wrong key, wrong version, a port scanner's bytes: errors on both sides, the server goes on", servers::strangers;
        (never NO_RELAY) test test test test test
    disk_full: "an error that names it; the steps sealed before still read", disk::full;
        test (never ON_DISK) (never ON_DISK) (never ON_DISK) (never ON_DISK) (never ON_DISK)
    disk_read_only: "an error that names it", disk::read_only;
        test (never ON_DISK) (never ON_DISK) (never ON_DISK) (never ON_DISK) (never ON_DISK)
    torn_tail: "files cut at many places: right steps, then an error or the end", disk::torn_tail;
        test (never ON_DISK) (never ON_DISK) (never ON_DISK) (never ON_DISK) (never ON_DISK)
    flipped_bit: "a bit flipped in each region: right data or an error, never wrong data", disk::flipped_bit;
        test (never ON_DISK) (never ON_DISK) (never ON_DISK) (never ON_DISK) (never ON_DISK)
}

/// Prints the matrix and holds `docs/scenarios.md` to it.
#[test]
fn matrix_is_complete_and_the_page_tells_the_truth() {
    for row in ROWS {
        for (cell, engine) in row.cells.iter().zip(ENGINES) {
            match cell {
                Cell::Tested => {}
                Cell::NotYet(why) | Cell::DoesNotApply(why) => {
                    assert!(!why.is_empty(), "{}, {engine}: no reason", row.name);
                }
            }
        }
    }
    let page = page(ROWS);
    println!("{page}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scenarios.md");
    if std::env::var_os("PANTA_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page,
        "docs/scenarios.md is not what the table says; run this test with PANTA_BLESS=1"
    );
}

/// An engine of which nothing is tested must not be there.
#[test]
fn engines_without_tests_are_not_in_this_build() {
    use panta::{Fault, OpenError, Solo, Writer};
    for (column, url) in [
        (0, "file:x.panta"),
        (1, "staging:x"),
        (2, "staging:x"),
        (3, "stream:x"),
    ] {
        if ROWS.iter().any(|row| row.cells[column] == Cell::Tested) {
            continue;
        }
        match Writer::open(url, Solo).map(drop) {
            Err(OpenError::Failed(failure)) => {
                assert!(
                    matches!(failure.fault, Fault::Unsupported { .. }),
                    "{url}: {failure}"
                );
            }
            other => panic!("`{url}` has no tests, but opening it gives {other:?}"),
        }
    }
}
