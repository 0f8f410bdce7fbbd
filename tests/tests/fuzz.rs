//! Every parser of foreign bytes under some thousands of mutations, the same
//! every time, with an eye on what it allocates.
//!
//! `PANTA_FUZZ_EXECUTIONS` sets how many, `PANTA_SIM_SEED` which.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::catch_unwind;

use panta_tests::fuzz::{Mutator, TARGETS, Target, find};

/// Inputs for each parser, unless the environment says otherwise.
const EXECUTIONS: u64 = 50_000;
const SEED: u64 = 0x9a27_a5ee_d000_0001;
/// What a parser may hold at once: so many times its input, and a fixed amount.
/// A message of protobuf is the worst, 2 bytes for an empty piece of some 180.
const TIMES_INPUT: usize = 256;

/// Counts what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // At the end of a thread there is nothing left to count with, or for.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        PEAK.with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: the system's allocator does all of it; counting touches only
// thread-local numbers that need no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes held more than before while `run` runs.
fn peak_of(run: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    run();
    (PEAK.get() - before) as usize
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

fn attack(name: &str) {
    let target: &Target = find(name).unwrap();
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{name} has no valid input to start from");
    seeds.iter().for_each(|seed| (target.run)(seed));
    let seed = number("PANTA_SIM_SEED", SEED);
    let mut mutator = Mutator::new(seed, seeds);
    for execution in 0..number("PANTA_FUZZ_EXECUTIONS", EXECUTIONS) {
        let input = mutator.next_input();
        let mut peak = 0;
        let outcome = catch_unwind(std::panic::AssertUnwindSafe(|| {
            peak = peak_of(|| (target.run)(&input));
        }));
        let limit = input.len() * TIMES_INPUT + target.fixed_bytes;
        assert!(
            outcome.is_ok() && peak <= limit,
            "{name}, PANTA_SIM_SEED={seed}, execution {execution}: {} with {peak} bytes held, \
             limit {limit}; the input: {input:02x?}",
            if outcome.is_ok() { "ended" } else { "panicked" },
        );
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            attack(stringify!($name));
        })*

        #[test]
        fn every_target_has_a_test() {
            let tested = [$(stringify!($name)),*];
            let there: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(tested.as_slice(), there);
        }
    };
}

targets! {
    channel coupling ticket control_tree staging_message shard_map file_commit file_index file_meta
    schema layout step_record stream_join stream_reader stream_writer config_toml config_url
}
