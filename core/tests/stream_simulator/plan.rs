//! What a schedule does, drawn from its seed before it runs.

use super::random::Random;
use panta_core::config::{Distribution, Policy};

#[derive(Clone, Debug)]
pub struct Plan {
    pub limit_bytes: u64,
    pub ranks: usize,
    pub policy: Policy,
    pub distribution: Distribution,
    pub rendezvous: usize,
    pub retain_steps: u64,
    pub retain_bytes: Option<u64>,
    pub precious_first: bool,
    /// Whether what was announced survives the writer's death.
    pub readable: bool,
    /// How often a step that is to be spilled cannot be.
    pub spill_fails_percent: u64,
    /// Steps of the largest kind, in percent of the limit.
    pub largest_percent: u64,
    pub lives: Vec<LifePlan>,
    pub readers: Vec<ReaderPlan>,
}

/// One life of the writer.
#[derive(Clone, Debug)]
pub struct LifePlan {
    pub steps: u64,
    pub abort_percent: u64,
    pub compute_ms: u64,
    /// When it dies, in milliseconds after its start; else it closes.
    pub dies_ms: Option<u64>,
    /// How many steps it goes back when it resumes; `None`: it begins anew.
    pub back: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Begin {
    Oldest,
    Latest,
    At(u64),
    After(u64),
    AtTime(f64),
    Cursor,
}

#[derive(Clone, Debug)]
pub struct ReaderPlan {
    pub begin: Begin,
    pub latest_only: bool,
    pub joins_ms: u64,
    pub work_ms: u64,
    /// Steps it holds at a time, at most.
    pub keeps: usize,
    /// How long it waits for a step before it asks again.
    pub patience_ms: u64,
    pub commits: bool,
    /// Leaves after so many steps.
    pub leaves_after: Option<u64>,
    /// When its process is killed, and when, if at all, another takes its place.
    pub dies_ms: Option<u64>,
    pub comes_back_ms: Option<u64>,
    /// When it stops, and for how long.
    pub stops_ms: Option<(u64, u64)>,
}

pub fn plan(random: &mut Random, faulty: bool) -> Plan {
    let distribution = match random.between(0, 9) {
        0 | 1 => Distribution::RoundRobin,
        2 | 3 => Distribution::OnDemand,
        _ => Distribution::All,
    };
    let policy = random.pick(&[
        Policy::Block,
        Policy::Block,
        Policy::Spill,
        Policy::DropOldest,
        Policy::DropNewest,
    ]);
    let retain_steps = random.pick(&[0, 0, 2, 4, 50]);
    let lives = if faulty && random.chance(30) {
        random.between(2, 3)
    } else {
        1
    };
    let lives: Vec<LifePlan> = (1..=lives)
        .map(|life| LifePlan {
            steps: random.between(8, 40),
            abort_percent: random.pick(&[0, 5, 20]),
            compute_ms: random.pick(&[0, 2, 20]),
            dies_ms: (life < lives || (faulty && random.chance(10)))
                .then(|| random.between(30, 700)),
            back: random.chance(80).then(|| random.between(0, 6)),
        })
        .collect();
    // One steady reader sees everything from the beginning.
    let mut readers = vec![ReaderPlan {
        begin: Begin::Oldest,
        latest_only: false,
        joins_ms: 0,
        work_ms: random.pick(&[0, 1, 30]),
        keeps: 1,
        patience_ms: 2_000,
        commits: false,
        leaves_after: None,
        dies_ms: None,
        comes_back_ms: None,
        stops_ms: None,
    }];
    for _ in 0..random.between(0, 4) {
        readers.push(reader(random, faulty));
    }
    Plan {
        limit_bytes: 1_000,
        ranks: random.between(1, 3) as usize,
        policy,
        distribution,
        rendezvous: random.between(1, 2).min(readers.len() as u64) as usize,
        retain_steps,
        retain_bytes: random.chance(30).then_some(600),
        precious_first: random.chance(25),
        readable: random.chance(50),
        largest_percent: random.pick(&[5, 30, 70]),
        spill_fails_percent: random.pick(&[0, 0, 30]),
        lives,
        readers,
    }
}

fn reader(random: &mut Random, faulty: bool) -> ReaderPlan {
    let begin = match random.between(0, 7) {
        0 => Begin::Latest,
        1 => Begin::At(random.between(0, 20)),
        2 => Begin::After(random.between(0, 20)),
        3 => Begin::AtTime(random.between(0, 20) as f64 / 2.0),
        4 | 5 => Begin::Cursor,
        _ => Begin::Oldest,
    };
    let dies_ms = (faulty && random.chance(40)).then(|| random.between(10, 600));
    ReaderPlan {
        begin,
        latest_only: random.chance(20),
        joins_ms: random.pick(&[0, 0, 5, 100, 400]),
        work_ms: random.pick(&[0, 1, 10, 60]),
        keeps: random.pick(&[1, 1, 2, 5]),
        patience_ms: random.pick(&[0, 7, 2_000]),
        commits: begin == Begin::Cursor,
        leaves_after: random.chance(25).then(|| random.between(0, 8)),
        dies_ms,
        comes_back_ms: dies_ms
            .filter(|_| random.chance(60))
            .map(|_| random.between(1, 300)),
        stops_ms: (faulty && random.chance(35)).then(|| {
            let length = random.pick(&[50, 500, 9_000]);
            (random.between(10, 500), length)
        }),
    }
}
