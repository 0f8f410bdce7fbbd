//! What a seed stands for: how many of whom, how they behave, what goes wrong.

use super::random::Random;
use panta_staging::proto::message::{Distribution, Policy};
use panta_transports::time::Time;

pub const STREAM: &str = "run42";
pub const CHUNK_CELLS: u64 = 8;
pub const ELEMENT_BYTES: u64 = 8;
/// Faults happen before this; then everything is mended.
pub const QUIET_AT: Time = Time(8_000_000_000);
/// Writers stop and close after this.
pub const CLOSE_AT: Time = Time(20_000_000_000);
/// By then everybody must be done.
pub const END_AT: Time = Time(45_000_000_000);

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    CrashServer {
        server: usize,
        down_ms: u64,
    },
    CrashGroup {
        group: usize,
        down_ms: u64,
    },
    /// Stopped, like by SIGSTOP; with `replaced` somebody starts another in
    /// its place meanwhile.
    PauseGroup {
        group: usize,
        pause_ms: u64,
        replaced: bool,
    },
    BreakConnections {
        percent: u64,
    },
    /// Nobody reaches the server.
    Isolate {
        server: usize,
        for_ms: u64,
    },
    /// Messages get lost, doubled and delayed.
    Storm {
        for_ms: u64,
        drop: u64,
        double: u64,
        delay: u64,
    },
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub servers: usize,
    pub writers: usize,
    pub writer_ranks: usize,
    pub readers: usize,
    pub reader_ranks: usize,
    pub variables: usize,
    pub policy: Policy,
    pub retain_steps: u64,
    pub retain_bytes: u64,
    pub precious: bool,
    pub distribution: Distribution,
    pub limit_bytes: u64,
    /// Whether the servers have less memory than the stream may retain, so
    /// that progress cannot be promised.
    pub tight: bool,
    /// Messages are late by up to this, each on its own: they overtake.
    pub jitter_ms: u64,
    pub stale_map: bool,
    pub encode: bool,
    pub hold_steps: usize,
    /// Whether every rank of a reader group releases for itself.
    pub ranks_release: bool,
    /// Whether nothing goes wrong but that one reader group dies, of several that
    /// share the steps: the others inherit.
    pub heirs: bool,
    pub faults: Vec<(Time, Fault)>,
}

impl Plan {
    pub fn new(random: &mut Random, faulty: bool) -> Self {
        let servers = random.between(1, 4) as usize;
        let writers = random.pick(&[1, 1, 1, 2]);
        let readers = random.between(1, 3) as usize;
        let mut plan = Self {
            servers,
            writers,
            writer_ranks: random.between(1, 3) as usize,
            readers,
            reader_ranks: random.between(1, 2) as usize,
            variables: random.between(1, 2) as usize,
            policy: random.pick(&[
                Policy::Block,
                Policy::Block,
                Policy::DropOldest,
                Policy::DropNewest,
            ]),
            retain_steps: random.between(4, 10),
            retain_bytes: random.pick(&[4_000, 16_000, 1 << 20]),
            precious: random.chance(50),
            distribution: random.pick(&[
                Distribution::All,
                Distribution::All,
                Distribution::RoundRobin,
                Distribution::OnDemand,
            ]),
            limit_bytes: 0,
            tight: faulty && random.chance(15),
            jitter_ms: random.pick(&[0, 1, 20]),
            stale_map: random.chance(30),
            encode: random.chance(20),
            hold_steps: random.between(0, 2) as usize,
            ranks_release: random.chance(30),
            heirs: false,
            faults: Vec::new(),
        };
        let needed = (plan.retain_steps + 4 + u64::from(plan.precious)) * plan.step_charge();
        plan.limit_bytes = if plan.tight { needed / 3 } else { needed };
        if faulty {
            let count = random.between(5, 10);
            plan.faults = (0..count).map(|_| plan.fault(random)).collect();
            plan.faults.push((Time(0), plan.storm(random, 8_000)));
            plan.faults.sort_by_key(|(at, _)| *at);
        } else if plan.is_shared() && readers > 1 {
            plan.heirs = true;
            plan.faults = (1..4).map(|death| plan.death(random, death)).collect();
        }
        plan
    }

    /// Whether a step is for one reader group.
    pub fn is_shared(&self) -> bool {
        self.distribution != Distribution::All
    }

    /// Whether no step need ever be dropped for want of room but the oldest: what readers
    /// may hold, or have let go of a moment ago, is less than what is retained.
    pub fn only_oldest_go(&self) -> bool {
        let held = (self.readers * (self.hold_steps + 3)) as u64;
        self.faults.is_empty()
            && self.policy == Policy::DropOldest
            && !self.is_shared()
            && self.writers == 1
            && held + 1 < self.retain_steps
            && self.retain_bytes >= 1 << 20
    }

    /// The death of the second reader group.
    fn death(&self, random: &mut Random, number: u64) -> (Time, Fault) {
        let at = Time((number * 2_000 + random.between(0, 1_500)) * 1_000_000);
        let group = self.writers + 1;
        let down_ms = random.between(10, 1_500);
        (at, Fault::CrashGroup { group, down_ms })
    }

    /// What a step costs a server that gets all of it: payload and index.
    fn step_charge(&self) -> u64 {
        let ranks = (self.writers * self.writer_ranks) as u64;
        let pieces = 4 + ranks;
        self.variables as u64 * (32 * ELEMENT_BYTES + (pieces + ranks * 4) * 256)
    }

    fn storm(&self, random: &mut Random, for_ms: u64) -> Fault {
        Fault::Storm {
            for_ms,
            drop: random.between(0, 3),
            double: random.between(0, 10),
            delay: random.between(0, 5),
        }
    }

    fn fault(&self, random: &mut Random) -> (Time, Fault) {
        let at = Time(random.between(200, 7_000) * 1_000_000);
        let group = random.between(0, (self.writers + self.readers) as u64 - 1) as usize;
        let server = random.between(0, self.servers as u64 - 1) as usize;
        let fault = match random.between(0, 9) {
            0 | 1 => Fault::CrashServer {
                server,
                down_ms: random.between(10, 1_500),
            },
            2 | 3 => Fault::CrashGroup {
                group,
                down_ms: random.between(10, 1_500),
            },
            4 | 5 => Fault::PauseGroup {
                group,
                pause_ms: random.between(50, 3_000),
                replaced: random.chance(50),
            },
            6 | 7 => Fault::BreakConnections {
                percent: random.pick(&[20, 50, 100]),
            },
            8 => Fault::Isolate {
                server,
                for_ms: random.between(50, 2_000),
            },
            _ => Fault::Storm {
                for_ms: 500,
                drop: 20,
                double: 30,
                delay: 20,
            },
        };
        (at, fault)
    }

    /// Cells of every variable in a step: the shape changes now and then.
    pub fn cells(step: u64) -> u64 {
        if (step / 5).is_multiple_of(2) { 24 } else { 32 }
    }

    /// The cells that rank `rank` of writer `slot` puts.
    pub fn written_by(&self, slot: usize, rank: usize, step: u64) -> (u64, u64) {
        let parts = (self.writers * self.writer_ranks) as u64;
        let part = (slot * self.writer_ranks + rank) as u64;
        let cells = Self::cells(step);
        (cells * part / parts, cells * (part + 1) / parts)
    }

    /// Who owns a chunk under a map version. Version 2 holds; 1 is what some
    /// writers believe at first.
    pub fn owner(&self, variable: usize, chunk: u64, map_version: u64) -> usize {
        (variable as u64 + chunk + map_version) as usize % self.servers
    }
}

/// The value of a cell: what a reader must find, whoever wrote it.
pub fn value(life: u64, epoch: u64, step: u64, variable: usize, cell: u64) -> u64 {
    use super::random::mix;
    mix(life ^ mix(epoch ^ mix(step ^ mix(variable as u64 ^ mix(cell)))))
}
