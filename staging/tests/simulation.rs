//! The protocol under faults: thousands of schedules, each from a seed.
//!
//! `PANTA_SIM_SEED` (its first 16 hexadecimal digits; a commit's hash will do)
//! chooses which. To look at one: `PANTA_SIM_TRACE=<seed> cargo test -p
//! panta-staging --test simulation one_seed -- --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    unreachable_pub,
    clippy::cast_precision_loss
)]

mod simulator;

use panta_staging::proto::mutant::Mutant;
use simulator::Summary;

/// Seeds that once failed.
const FAILED_ONCE: &[u64] = &[
    0x70616e74bb,
    0x70616e74d3,
    0x70616e7503,
    0x70616e751b,
    0x70616e7895,
    0x70616e7b47,
    0x2110114309024ab8,
    0x444721,
];
/// Where the schedules start without `PANTA_SIM_SEED`.
const DEFAULT_BASE: u64 = 0x70616e7461;
const SCHEDULES: u64 = 2_000;

fn base() -> u64 {
    std::env::var("PANTA_SIM_SEED").map_or(DEFAULT_BASE, |text| {
        let digits: String = text
            .chars()
            .take_while(char::is_ascii_hexdigit)
            .take(16)
            .collect();
        u64::from_str_radix(&digits, 16).expect("PANTA_SIM_SEED begins with hexadecimal digits")
    })
}

fn schedule(seed: u64, mutant: Option<Mutant>) -> Result<Summary, String> {
    simulator::run(seed, mutant, true, false)
}

fn run_all(seeds: impl Iterator<Item = u64>) -> Vec<Summary> {
    let mut summaries = Vec::new();
    for seed in seeds {
        match schedule(seed, None) {
            Ok(summary) => summaries.push(summary),
            Err(violation) => panic!(
                "seed {seed:#x}: {violation}\nto see it: PANTA_SIM_TRACE={seed:#x} cargo test -p panta-staging \
                 --test simulation one_seed -- --nocapture"
            ),
        }
    }
    summaries
}

fn half(number: u64) {
    let base = base();
    let seeds = (0..SCHEDULES / 2).map(|seed| base.wrapping_add(2 * seed + number));
    let summaries = run_all(seeds);
    let sum = |what: fn(&Summary) -> u64| summaries.iter().map(what).sum::<u64>();
    println!(
        "{} schedules from {base:#x}: {} events, {} faults, {} steps read whole, {} rollbacks, {} writers lost, \
         {} gets from lost servers, {} fenced, {} trimmed, {} deadlines, {} discarded, {} precious, \
         {} inherited",
        summaries.len(),
        sum(|summary| summary.events),
        sum(|summary| summary.faults),
        sum(|summary| summary.steps_whole),
        sum(|summary| summary.rolled_back),
        sum(|summary| summary.writer_lost),
        sum(|summary| summary.server_lost),
        sum(|summary| summary.fenced),
        sum(|summary| summary.trimmed),
        sum(|summary| summary.deadlines),
        sum(|summary| summary.discarded),
        sum(|summary| summary.precious),
        sum(|summary| summary.inherited),
    );
    for summary in &summaries {
        assert!(
            summary.events >= 200 && summary.faults >= 5,
            "a schedule too tame to mean anything: {summary:?}"
        );
    }
    // Everything that can go wrong did go wrong somewhere.
    for (what, seen) in [
        ("rollback", sum(|summary| summary.rolled_back)),
        ("lost writer", sum(|summary| summary.writer_lost)),
        ("lost server", sum(|summary| summary.server_lost)),
        ("fencing", sum(|summary| summary.fenced)),
        ("deadline", sum(|summary| summary.deadlines)),
        ("discarded step", sum(|summary| summary.discarded)),
        ("precious step", sum(|summary| summary.precious)),
        ("inherited step", sum(|summary| summary.inherited)),
    ] {
        assert!(seen > 0, "no schedule had a {what}");
    }
}

#[test]
fn steps_are_atomic_and_nothing_hangs_under_faults_even_seeds() {
    half(0);
}

#[test]
fn steps_are_atomic_and_nothing_hangs_under_faults_odd_seeds() {
    half(1);
}

#[test]
fn seeds_that_once_failed_pass() {
    run_all(FAILED_ONCE.iter().copied());
}

#[test]
fn without_faults_no_call_fails_and_no_step_is_lost() {
    let mut inherited = 0;
    for seed in 0..100 {
        let summary = simulator::run(base().wrapping_add(seed), None, false, false)
            .unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert_eq!(
            (summary.writer_lost, summary.server_lost),
            (0, 0),
            "seed {seed}"
        );
        inherited += summary.inherited;
        assert!(summary.steps_whole > 20, "seed {seed}: {summary:?}");
    }
    assert!(inherited > 0, "nobody inherited a step");
}

#[test]
fn one_seed() {
    let Ok(text) = std::env::var("PANTA_SIM_TRACE") else {
        return;
    };
    let seed = u64::from_str_radix(text.trim_start_matches("0x"), 16)
        .expect("PANTA_SIM_TRACE is hexadecimal");
    let mutant = std::env::var("PANTA_SIM_MUTANT").ok();
    let mutant = Mutant::ALL
        .into_iter()
        .find(|known| Some(format!("{known:?}")) == mutant);
    let faulty = std::env::var("PANTA_SIM_CALM").is_err();
    println!("{:?}", simulator::run(seed, mutant, faulty, true));
}

/// A simulator that finds nothing proves nothing: every planted bug must be
/// found.
#[test]
fn every_planted_bug_is_found() {
    let base = base();
    let mut survivors = Vec::new();
    for mutant in Mutant::ALL {
        let caught = (0..SCHEDULES).find_map(|seed| {
            let seed = base.wrapping_add(seed);
            // What is lost in silence shows where little goes wrong.
            let calm = || simulator::run(seed, Some(mutant), false, false).err();
            let violation = schedule(seed, Some(mutant)).err().or_else(calm);
            violation.map(|violation| (seed, violation))
        });
        match caught {
            Some((seed, violation)) => println!("{mutant:?}: seed {seed:#x}: {violation}"),
            None => survivors.push(mutant),
        }
    }
    assert!(
        survivors.is_empty(),
        "{survivors:?} survived {SCHEDULES} schedules"
    );
}
