//! What reader groups do, and what every step they see is checked for.

use super::actors::{AnyCall, AnyMachine, Purpose};
use super::plan::{CHUNK_CELLS, Plan, QUIET_AT, STREAM, value};
use super::{MAP_VERSION, World};
use panta_staging::proto::ServerId;
use panta_staging::proto::client::{Answer, ClientError, NextAnswer, ReaderCall};
use panta_staging::proto::message::{Got, OpenReader, Query, Reason, Region, SealedStep, StartAt};
use panta_transports::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long a release that was not answered is repeated: past any schedule's end.
const RELEASE_LASTS_MS: u64 = 60_000;

#[derive(Default)]
pub struct ReaderState {
    life: u64,
    instance: u64,
    /// The epoch it knows of and the last step it has passed.
    epoch: u64,
    last: Option<u64>,
    holding: VecDeque<(u64, u64)>,
    step: Option<SealedStep>,
    missing: BTreeSet<(usize, u64)>,
    failed: bool,
    claimed_at: Time,
    leaving: bool,
    /// What it was shown, as (epoch, step).
    seen: BTreeSet<(u64, u64)>,
    /// Of each life the lowest step that was known to be sealed when it opened.
    lowest: BTreeMap<u64, (u64, u64)>,
    /// Whether it was told that it gets the precious step, and has seen none.
    owed: bool,
    /// Whether the step it looks at is that one.
    precious: bool,
    pub quiet_whole: u64,
}

impl World {
    pub fn open_reader(&mut self, group: usize) {
        let number = self.groups[group].number;
        let start = self.random.pick(&[
            StartAt::Oldest,
            StartAt::Oldest,
            StartAt::Latest,
            StartAt::Cursor,
        ]);
        let start = match (start, self.plan.is_shared()) {
            // Who begins there leaves steps that others did not get to nobody.
            (StartAt::Latest, true) => StartAt::Oldest,
            (start, _) => start,
        };
        let open = OpenReader {
            stream: STREAM.to_owned(),
            group: format!("viz{number}"),
            instance: self.random.number(),
            start: start as i32,
            step: 0,
            time: 0.0,
            cursor: format!("viz{number}"),
            lease_ms: 2_000,
            wait_ms: 0,
            ranks: if self.plan.ranks_release {
                self.plan.reader_ranks as u32
            } else {
                0
            },
        };
        let quiet_whole = self.groups[group].reader.quiet_whole;
        self.groups[group].reader = ReaderState {
            instance: open.instance,
            quiet_whole,
            lowest: self.oracle.lowest(),
            ..ReaderState::default()
        };
        let length = self.random.between(500, 3_000);
        self.call(
            group,
            0,
            AnyCall::Reader(ReaderCall::Open(open)),
            Purpose::Open,
            length,
        );
    }

    pub fn next(&mut self, group: usize) {
        if self.groups[group].reader.step.is_some() {
            self.get_all(group);
            return;
        }
        let poll = self.random.chance(10);
        let latest = self.random.chance(5) && !self.plan.is_shared();
        let length = self.random.between(300, 3_000);
        self.call(
            group,
            0,
            AnyCall::Reader(ReaderCall::Next { latest, poll }),
            Purpose::Next,
            length,
        );
    }

    pub fn reader_finished(
        &mut self,
        group: usize,
        rank: usize,
        purpose: Purpose,
        result: Result<Answer, ClientError>,
    ) {
        if let Err(ClientError::Refused { reason, .. }) = &result {
            match (reason, &purpose) {
                (Reason::Fenced | Reason::StreamLost | Reason::UnknownStream, _)
                | (Reason::Trimmed, Purpose::Open) => return self.reopen(group),
                _ => {}
            }
        }
        match (purpose, result) {
            (Purpose::Open, Ok(Answer::ReaderOpened(opened))) => {
                let number = self.groups[group].number;
                let instance = self.groups[group].reader.instance;
                for rank in self.groups[group].ranks.clone().into_iter().skip(1) {
                    if let Some(AnyMachine::Reader(machine)) = self.ranks[rank].machine.as_mut() {
                        machine.attach_as(opened.clone(), format!("viz{number}"), instance);
                    }
                }
                let position = opened.position.unwrap_or_default();
                if number == 0 {
                    self.oracle.joined.get_or_insert(self.now);
                }
                let state = &mut self.groups[group].reader;
                state.owed = opened.precious_owed;
                (state.life, state.epoch, state.last) =
                    (opened.life, position.epoch, position.after);
                self.later(group, 0, 20);
            }
            (Purpose::Open, Err(ClientError::Deadline { awaited, .. })) if self.is_closing() => {
                self.fail(format!(
                    "reader group {group} finds no stream at the end: {awaited}"
                ));
            }
            (Purpose::Open, Err(_)) => self.reopen(group),
            (Purpose::Next, Ok(Answer::Next(next))) => self.next_answered(group, next),
            (
                Purpose::Next,
                Err(ClientError::Deadline { .. } | ClientError::Unreachable { .. }),
            ) => {
                self.later(group, 1, 50);
            }
            (
                Purpose::Get {
                    rank: wanted,
                    server,
                    variables,
                },
                result,
            ) => {
                self.got(group, rank, wanted, server, &variables, result);
            }
            (Purpose::Release | Purpose::Commit, _) => {}
            (Purpose::Close, _) => {
                self.stop_group(group);
                self.groups[group].done = true;
            }
            (Purpose::Probe, Err(ClientError::Deadline { awaited, .. }))
                if awaited.contains("a writer to open") =>
            {
                self.close_reader(group);
            }
            (purpose, result) => {
                self.fail(format!("{purpose:?} of a reader was answered {result:?}"))
            }
        }
    }

    fn next_answered(&mut self, group: usize, next: NextAnswer) {
        match next {
            NextAnswer::Step(step) => self.check_order(group, *step),
            NextAnswer::NotYet { .. } => self.later(group, 20, 60),
            NextAnswer::Closed => self.leave(group),
            NextAnswer::WriterLost { .. } => {
                self.oracle.writer_lost += 1;
                self.release_all(group);
                self.later(group, 50, 300);
            }
            NextAnswer::RolledBack { to } => {
                self.oracle.rolled_back += 1;
                let rank = self.groups[group].ranks[0];
                if let Some(AnyMachine::Reader(machine)) = self.ranks[rank].machine.as_ref() {
                    self.groups[group].reader.epoch = machine.position().epoch;
                }
                self.groups[group].reader.last = to;
                self.later(group, 0, 20);
            }
            NextAnswer::Trimmed { oldest } => {
                self.oracle.trimmed += 1;
                let before = oldest.and_then(|oldest| oldest.checked_sub(1));
                let state = &mut self.groups[group].reader;
                state.last = state.last.max(before);
                self.later(group, 0, 20);
            }
            NextAnswer::WouldDeadlock => {
                let holding = self.groups[group].reader.holding.clone();
                self.log(&format_args!(
                    "group {group} would deadlock, holding {holding:?}"
                ));
                if holding.is_empty() && !self.plan.ranks_release {
                    self.fail("a reader that holds nothing is told it would deadlock".to_owned());
                }
                self.release_all(group);
                self.later(group, 0, 20);
            }
        }
    }

    /// The stream is closed: before leaving, look for one that never was.
    fn leave(&mut self, group: usize) {
        if !self.is_closing() {
            self.later(group, 50, 200);
            return;
        }
        if self.groups[group].reader.leaving || self.groups[group].replaced {
            self.close_reader(group);
            return;
        }
        self.groups[group].reader.leaving = true;
        let open = OpenReader {
            stream: "nobody".to_owned(),
            group: "probe".to_owned(),
            instance: self.random.number(),
            ..OpenReader::default()
        };
        self.call(
            group,
            0,
            AnyCall::Reader(ReaderCall::Open(open)),
            Purpose::Probe,
            1_000,
        );
    }

    fn close_reader(&mut self, group: usize) {
        self.call(
            group,
            0,
            AnyCall::Reader(ReaderCall::Close),
            Purpose::Close,
            1_000,
        );
    }

    /// A group's first step is the precious one; whether `step` is.
    fn check_precious(&mut self, group: usize, step: &SealedStep) -> bool {
        let state = &mut self.groups[group].reader;
        let (life, owed) = (state.life, std::mem::take(&mut state.owed));
        let lowest = std::mem::take(&mut state.lowest).remove(&life);
        self.oracle.precious += u64::from(owed && state.last > Some(step.step));
        self.oracle.sealed(life, step.epoch, step.step);
        if let Some((first, epoch)) = lowest
            && self.plan.precious
            && step.step > first
            && !self.oracle.is_withdrawn(life, epoch, first)
        {
            self.fail(format!(
                "reader group {group} is shown step {} first, and not {first}",
                step.step
            ));
        }
        owed
    }

    /// A step goes to one group, and to another only if that one was held dead; to
    /// none twice.
    fn check_shared(&mut self, group: usize, step: &SealedStep, precious: bool) {
        let state = &mut self.groups[group].reader;
        let life = state.life;
        if !state.seen.insert((step.epoch, step.step)) {
            self.fail(format!(
                "reader group {group} is shown step {} twice",
                step.step
            ));
        }
        let first = self.oracle.lowest().get(&life).map(|(step, _)| *step);
        if precious || (self.plan.precious && first == Some(step.step)) {
            return;
        }
        let key = (life, step.epoch, step.step);
        let undisturbed = Time(QUIET_AT.0 + 4_000_000_000);
        if let Some((other, at)) = self.oracle.given.insert(key, (group, self.now)) {
            self.oracle.inherited += 1;
            let lives = self.plan.heirs && other != self.plan.writers + 1;
            if lives || self.plan.faults.is_empty() || at > undisturbed {
                self.fail(format!(
                    "step {} is given to reader group {group} and was to {other}",
                    step.step
                ));
            }
        }
    }

    fn check_order(&mut self, group: usize, step: SealedStep) {
        let precious = self.check_precious(group, &step);
        let state = &self.groups[group].reader;
        let (life, epoch, last) = (state.life, state.epoch, state.last);
        if self.plan.is_shared() {
            self.check_shared(group, &step, precious);
        } else if last >= Some(step.step) && !precious {
            self.fail(format!(
                "reader group {group} is shown step {} after {last:?}",
                step.step
            ));
            return;
        }
        if last.is_some_and(|last| self.oracle.must_roll_back(life, epoch, step.epoch, last)) {
            self.fail(format!(
                "reader group {group} passed {last:?}, which was withdrawn, and was not told"
            ));
            return;
        }
        self.log(&format_args!(
            "group {group} reads step {} of epoch {}",
            step.step, step.epoch
        ));
        for rank in self.groups[group].ranks.clone() {
            if let Some(AnyMachine::Reader(machine)) = self.ranks[rank].machine.as_mut() {
                machine.learn(&step);
                let shape = Plan::cells(step.step).to_le_bytes();
                let known = step.variables.iter().all(|variable| {
                    machine
                        .layout(variable.layout)
                        .is_some_and(|layout| layout.shape == shape)
                });
                if !known {
                    self.fail(format!(
                        "the layouts of step {} are not what its writers defined",
                        step.step
                    ));
                    return;
                }
            }
        }
        let state = &mut self.groups[group].reader;
        state.epoch = state.epoch.max(step.epoch);
        state.last = state.last.max(Some(step.step));
        state.precious = precious;
        state.holding.push_back((step.epoch, step.step));
        state.missing = Self::all_cells(step.step, self.plan.variables);
        (state.failed, state.claimed_at) = (false, self.now);
        state.step = Some(step);
        // Some look at a step only when others would have trimmed it.
        if self.random.chance(10) {
            self.later(group, 200, 900);
        } else {
            self.get_all(group);
        }
    }

    /// Every rank asks every owner of its part, once.
    fn get_all(&mut self, group: usize) {
        let Some(step) = self.groups[group].reader.step.clone() else {
            return;
        };
        let mut calls = Vec::new();
        for rank in 0..self.plan.reader_ranks {
            let cells = Plan::cells(step.step);
            let (from, to) = (
                cells * rank as u64 / self.plan.reader_ranks as u64,
                cells * (rank as u64 + 1) / self.plan.reader_ranks as u64,
            );
            let mut by_server: BTreeMap<usize, BTreeMap<usize, Vec<Region>>> = BTreeMap::new();
            for variable in 0..self.plan.variables {
                for chunk in from / CHUNK_CELLS..=(to - 1) / CHUNK_CELLS {
                    let first = from.max(chunk * CHUNK_CELLS);
                    let end = to.min((chunk + 1) * CHUNK_CELLS);
                    let server = self.plan.owner(variable, chunk, MAP_VERSION);
                    let region = Region {
                        start: vec![first],
                        count: vec![end - first],
                    };
                    by_server
                        .entry(server)
                        .or_default()
                        .entry(variable)
                        .or_default()
                        .push(region);
                }
            }
            calls.extend(
                by_server
                    .into_iter()
                    .map(|(server, wanted)| (rank, server, wanted)),
            );
        }
        for (rank, server, wanted) in calls {
            let Some(share) = step
                .owners
                .iter()
                .find(|share| share.server as usize == server)
                .copied()
            else {
                continue;
            };
            let variables: Vec<usize> = wanted.keys().copied().collect();
            let queries = wanted
                .into_iter()
                .map(|(variable, boxes)| Query {
                    variable: format!("v{variable}"),
                    layout: step
                        .variables
                        .iter()
                        .find(|layout| layout.variable == format!("v{variable}"))
                        .map_or(0, |layout| layout.layout),
                    boxes,
                })
                .collect();
            let call = ReaderCall::Get {
                server: ServerId(server as u32),
                epoch: step.epoch,
                step: step.step,
                share,
                queries,
            };
            let length = self.random.between(500, 2_000);
            let purpose = Purpose::Get {
                rank,
                server,
                variables,
            };
            if self.groups[group].up {
                self.call(group, rank, AnyCall::Reader(call), purpose, length);
            }
        }
        self.whole(group);
    }

    fn got(
        &mut self,
        group: usize,
        process: usize,
        rank: usize,
        server: usize,
        variables: &[usize],
        result: Result<Answer, ClientError>,
    ) {
        match result {
            Ok(Answer::Got { got, body }) => {
                let body = body
                    .and_then(|region| self.ranks[process].regions.remove(&region))
                    .unwrap_or_default();
                self.check_cells(group, rank, variables, &got, &body);
            }
            Err(error) => {
                self.groups[group].reader.failed = true;
                self.check_get_error(group, server, &error);
            }
            other => self.fail(format!("a get was answered {other:?}")),
        }
        self.whole(group);
    }

    fn check_cells(
        &mut self,
        group: usize,
        rank: usize,
        variables: &[usize],
        got: &Got,
        body: &[u64],
    ) {
        let state = &mut self.groups[group].reader;
        let Some(step) = &state.step else { return };
        let mut at = 0;
        let mut wrong = None;
        for piece in &got.pieces {
            let variable = variables[piece.query as usize];
            for cell in piece.start[0]..piece.start[0] + piece.count[0] {
                if body.get(at) != Some(&value(state.life, step.epoch, step.step, variable, cell)) {
                    wrong = Some(format!(
                        "rank {rank}: cell {cell} of v{variable} in step {} is wrong",
                        step.step
                    ));
                }
                if !state.missing.remove(&(variable, cell)) {
                    wrong = Some(format!(
                        "rank {rank}: cell {cell} of v{variable} in step {} came twice",
                        step.step
                    ));
                }
                at += 1;
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    fn check_get_error(&mut self, group: usize, server: usize, error: &ClientError) {
        let ClientError::Refused { reason, .. } = error else {
            return;
        };
        let state = &self.groups[group].reader;
        let Some(step) = &state.step else { return };
        match reason {
            Reason::ServerLost => {
                let share = step
                    .owners
                    .iter()
                    .find(|share| share.server as usize == server);
                if share.is_some_and(|share| share.incarnation == self.servers[server].incarnation)
                {
                    self.fail(format!("server {server} is said to be lost and is not"));
                }
                self.oracle.server_lost += 1;
            }
            Reason::Trimmed => {
                // A claim can lapse while the network or the reader is down.
                let undisturbed = Time(QUIET_AT.0 + 4_000_000_000);
                let withdrawn = self.oracle.is_withdrawn(state.life, step.epoch, step.step);
                let text = if withdrawn {
                    None
                } else if state.precious {
                    Some(format!("the precious step {} was trimmed", step.step))
                } else if state.claimed_at > undisturbed || self.plan.faults.is_empty() {
                    Some(format!(
                        "step {} was trimmed under reader group {group}: {error}",
                        step.step
                    ))
                } else {
                    None
                };
                if let Some(text) = text {
                    self.fail(text);
                }
                self.oracle.trimmed += 1;
            }
            _ => self.fail(format!("a get failed with {error}")),
        }
    }

    /// When every get has come back: the step must be whole.
    fn whole(&mut self, group: usize) {
        let getting = self.groups[group].calls.values().any(|call| call.is_get());
        if getting || self.groups[group].reader.step.is_none() {
            return;
        }
        let state = &mut self.groups[group].reader;
        let Some(step) = state.step.take() else {
            return;
        };
        if !state.failed {
            if let Some((variable, cell)) = state.missing.first() {
                let text = format!(
                    "cell {cell} of v{variable} is missing in step {}",
                    step.step
                );
                self.fail(text);
                return;
            }
            let life = self.groups[group].reader.life;
            self.oracle.read.insert((life, step.epoch, step.step));
            self.oracle.steps_whole += 1;
            self.groups[group].reader.quiet_whole += u64::from(self.now >= QUIET_AT);
        }
        if self.random.chance(40) {
            let cursor = format!("viz{}", self.groups[group].number);
            let call = ReaderCall::Commit {
                cursor,
                epoch: step.epoch,
                step: step.step,
            };
            self.call(group, 0, AnyCall::Reader(call), Purpose::Commit, 500);
        }
        while self.groups[group].up
            && self.groups[group].reader.holding.len() > self.plan.hold_steps
        {
            self.release_one(group);
        }
        let think = if self.random.chance(10) { 900 } else { 60 };
        if self.groups[group].up {
            self.later(group, 0, think);
        }
    }

    fn release_one(&mut self, group: usize) {
        if let Some((epoch, step)) = self.groups[group].reader.holding.pop_front() {
            let ranks = if self.plan.ranks_release {
                self.plan.reader_ranks
            } else {
                1
            };
            for rank in 0..ranks {
                if self.groups[group].up {
                    let call = AnyCall::Reader(ReaderCall::Release { epoch, step });
                    // As the driver does: nobody waits for it, it is repeated.
                    self.call(group, rank, call, Purpose::Release, RELEASE_LASTS_MS);
                }
            }
        }
    }

    fn release_all(&mut self, group: usize) {
        while !self.groups[group].reader.holding.is_empty() {
            self.release_one(group);
        }
    }
}
