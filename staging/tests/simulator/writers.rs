//! What writer groups do: open, begin, put, end, and what they are told of it.

use super::actors::{AnyCall, AnyMachine, Call, Purpose};
use super::plan::{CHUNK_CELLS, ELEMENT_BYTES, Plan, STREAM, value};
use super::{Payload, World};
use panta_staging::proto::ServerId;
use panta_staging::proto::client::{
    Answer, ClientError, EndCall, PutCall, WriterCall, merge_shares,
};
use panta_staging::proto::message::{
    Decision, OpenWriter, Piece, Reason, ResumeFrom, StepFate, VariableLayout, WriterOpened,
};
use panta_transports::time::Time;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub struct PutJob {
    rank: usize,
    variable: usize,
    cells: (u64, u64),
}

#[derive(Default)]
pub struct WriterState {
    opened: Option<WriterOpened>,
    step: u64,
    map_version: u64,
    failed: bool,
    again: Vec<PutJob>,
    layouts: BTreeMap<usize, u32>,
    oldest: u64,
    kept: Vec<u64>,
    /// When its step was begun.
    begun: Time,
    resume: Option<(ResumeFrom, u64)>,
    tries: u32,
    pub quiet_sealed: u64,
    last_sealed: Option<u64>,
}

impl WriterState {
    /// One that routes by this version of the shard map.
    pub fn of_map(map_version: u64) -> Self {
        Self {
            map_version,
            ..Self::default()
        }
    }
}

impl World {
    pub fn open_writer(&mut self, group: usize) {
        let state = &self.groups[group].writer;
        let joint = self.plan.writers > 1;
        let first = state.opened.is_none() && !self.is_quiet();
        let last = state.last_sealed;
        let (resume, resume_step) = match self.groups[group].writer.resume.take() {
            Some(resume) => resume,
            None if first => (ResumeFrom::Fresh, 0),
            None => match (self.random.between(0, 3), last) {
                (0, Some(last)) if !joint => (ResumeFrom::After, last.saturating_sub(2)),
                (1, _) if !joint && self.random.chance(30) => (ResumeFrom::Fresh, 0),
                _ => (ResumeFrom::Last, 0),
            },
        };
        let open = OpenWriter {
            stream: STREAM.to_owned(),
            slot: self.groups[group].number as u32,
            declared: self.plan.writers as u32,
            instance: self.random.number(),
            resume: resume as i32,
            resume_step,
            policy: self.plan.policy as i32,
            ack: 0,
            retain_steps: self.plan.retain_steps,
            retain_bytes: self.plan.retain_bytes,
            lease_ms: 2_000,
            precious_first: self.plan.precious,
            distribution: self.plan.distribution as i32,
        };
        self.call(
            group,
            0,
            AnyCall::Writer(WriterCall::Open(open)),
            Purpose::Open,
            2_000,
        );
    }

    pub fn begin(&mut self, group: usize) {
        if self.is_closing() {
            self.call(
                group,
                0,
                AnyCall::Writer(WriterCall::Close),
                Purpose::Close,
                2_000,
            );
            return;
        }
        let state = &mut self.groups[group].writer;
        (state.failed, state.tries) = (false, 0);
        state.again.clear();
        let bytes = self.bytes_of(group);
        let reserve_bytes = if self.random.chance(10) {
            bytes / 2
        } else {
            bytes
        };
        self.reserve(group, reserve_bytes);
    }

    fn reserve(&mut self, group: usize, reserve_bytes: u64) {
        let step = self.groups[group].writer.step;
        let length = self.random.between(300, 3_000);
        self.call(
            group,
            0,
            AnyCall::Writer(WriterCall::Begin {
                step,
                reserve_bytes,
            }),
            Purpose::Begin,
            length,
        );
    }

    fn bytes_of(&self, group: usize) -> u64 {
        let (slot, step) = (self.groups[group].number, self.groups[group].writer.step);
        let cells: u64 = (0..self.plan.writer_ranks)
            .map(|rank| self.plan.written_by(slot, rank, step))
            .map(|(from, to)| to - from)
            .sum();
        cells * ELEMENT_BYTES * self.plan.variables as u64
    }

    pub fn writer_finished(
        &mut self,
        group: usize,
        purpose: Purpose,
        result: Result<Answer, ClientError>,
    ) {
        if let Err(ClientError::Refused { reason, .. }) = &result {
            match reason {
                Reason::Fenced | Reason::StreamLost | Reason::UnknownStream => {
                    self.reopen(group);
                    return;
                }
                Reason::WrongState if matches!(purpose, Purpose::Open) => {
                    self.groups[group].writer.resume = Some((ResumeFrom::Last, 0));
                    self.reopen(group);
                    return;
                }
                _ => {}
            }
        }
        match (purpose, result) {
            (Purpose::Open, Ok(Answer::Opened(opened))) => self.writer_opened(group, opened),
            (
                Purpose::Begin,
                Ok(Answer::Began {
                    decision,
                    oldest,
                    kept,
                }),
            ) => self.began(group, decision, oldest, kept),
            (Purpose::Define(variable), Ok(Answer::Defined(layout))) => {
                self.groups[group].writer.layouts.insert(variable, layout);
                if self.groups[group].writer.layouts.len() == self.plan.variables {
                    self.put_all(group);
                }
            }
            (Purpose::Put(job), result) => self.put_finished(group, job, &result),
            (Purpose::End, result) => self.end_finished(group, result),
            (Purpose::Seal, Ok(Answer::Fate(fate))) => {
                self.note_fate(group, fate.fate());
                self.next_step(group);
            }
            (Purpose::Open | Purpose::Close, Err(_)) => self.reopen(group),
            (Purpose::Close, Ok(_)) => {
                self.stop_group(group);
                self.groups[group].done = true;
            }
            (
                Purpose::Begin | Purpose::Define(_),
                Err(ClientError::Refused {
                    reason: Reason::WrongState,
                    ..
                }),
            ) => {
                self.next_step(group);
            }
            (Purpose::Begin | Purpose::Define(_), Err(_)) => self.abort(group),
            (Purpose::Abort, Ok(Answer::Fate(fate))) if fate.fate() == StepFate::Open => {
                self.fail("an aborted step is open".to_owned());
            }
            (Purpose::Abort | Purpose::Seal, _) => self.next_step(group),
            (purpose, result) => self.fail(format!("{purpose:?} was answered {result:?}")),
        }
    }

    fn writer_opened(&mut self, group: usize, opened: WriterOpened) {
        let slot = self.groups[group].number as u32;
        for rank in self.groups[group].ranks.clone().into_iter().skip(1) {
            if let Some(AnyMachine::Writer(machine)) = self.ranks[rank].machine.as_mut() {
                machine.attach(opened.clone(), slot);
            }
        }
        self.log(&format_args!(
            "group {group} writes {:?} after {:?} from {}",
            opened.run, opened.base, opened.next_step
        ));
        let state = &mut self.groups[group].writer;
        state.step = opened.next_step;
        state.last_sealed = opened.base;
        state.opened = Some(opened);
        self.later(group, 1, 100);
    }

    fn next_step(&mut self, group: usize) {
        self.groups[group].writer.step += 1;
        self.later(group, 10, 150);
    }

    fn abort(&mut self, group: usize) {
        let step = self.groups[group].writer.step;
        self.call(
            group,
            0,
            AnyCall::Writer(WriterCall::Abort { step }),
            Purpose::Abort,
            1_000,
        );
    }

    fn began(&mut self, group: usize, decision: Decision, oldest: u64, kept: Vec<u64>) {
        if decision == Decision::Discard {
            self.oracle.discarded += 1;
            if self.plan.only_oldest_go() {
                let step = self.groups[group].writer.step;
                self.fail(format!("step {step} is dropped, and older ones might go"));
            }
            self.next_step(group);
            return;
        }
        let state = &mut self.groups[group].writer;
        (state.oldest, state.kept) = (oldest, kept);
        state.begun = self.now;
        if self.groups[group].writer.tries > 0 {
            self.end(group);
            return;
        }
        if self.random.chance(3) {
            self.abort(group);
            return;
        }
        let step = self.groups[group].writer.step;
        self.groups[group].writer.layouts.clear();
        let turn = self.groups[group].turn;
        for variable in 0..self.plan.variables {
            let call = WriterCall::Define {
                step,
                variable: format!("v{variable}"),
                fixed: b"u64".to_vec(),
                shape: Plan::cells(step).to_le_bytes().to_vec(),
            };
            if self.groups[group].turn == turn && self.groups[group].up {
                self.call(
                    group,
                    0,
                    AnyCall::Writer(call),
                    Purpose::Define(variable),
                    1_500,
                );
            }
        }
    }

    fn put_all(&mut self, group: usize) {
        let step = self.groups[group].writer.step;
        let slot = self.groups[group].number;
        let mut jobs = Vec::new();
        for rank in 0..self.plan.writer_ranks {
            let cells = self.plan.written_by(slot, rank, step);
            for variable in 0..self.plan.variables {
                jobs.push(PutJob {
                    rank,
                    variable,
                    cells,
                });
            }
        }
        self.put(group, jobs);
    }

    /// Cuts each job at chunk borders and sends each owner its pieces.
    fn put(&mut self, group: usize, jobs: Vec<PutJob>) {
        let state = &self.groups[group].writer;
        let (step, map_version) = (state.step, state.map_version);
        let mut calls = Vec::new();
        for job in jobs {
            let mut by_server: BTreeMap<usize, Vec<(u64, u64)>> = BTreeMap::new();
            let mut cell = job.cells.0;
            while cell < job.cells.1 {
                let chunk = cell / CHUNK_CELLS;
                let end = job.cells.1.min((chunk + 1) * CHUNK_CELLS);
                by_server
                    .entry(self.plan.owner(job.variable, chunk, map_version))
                    .or_default()
                    .push((cell, end));
                cell = end;
            }
            calls.extend(
                by_server
                    .into_iter()
                    .map(|(server, pieces)| (job.clone(), server, pieces)),
            );
        }
        if calls.is_empty() {
            self.end(group);
            return;
        }
        for (job, server, pieces) in calls {
            self.put_one(group, step, job, server, &pieces);
        }
    }

    fn put_one(
        &mut self,
        group: usize,
        step: u64,
        job: PutJob,
        server: usize,
        cells: &[(u64, u64)],
    ) {
        if !self.groups[group].up {
            return;
        }
        let state = &self.groups[group].writer;
        let Some(run) = state.opened.as_ref().and_then(|opened| opened.run.clone()) else {
            return;
        };
        let (oldest, map_version) = (state.oldest, state.map_version);
        let kept = state.kept.clone();
        let layout = state.layouts.get(&job.variable).copied().unwrap_or(0);
        let mut body = Payload::new();
        let mut pieces = Vec::new();
        for (from, to) in cells {
            body.extend(
                (*from..*to).map(|cell| value(run.life, run.epoch, step, job.variable, cell)),
            );
            let piece = Piece {
                start: vec![*from],
                count: vec![to - from],
                length_bytes: (to - from) * ELEMENT_BYTES,
                ..Piece::default()
            };
            pieces.push(piece.with_key(u128::from(from / CHUNK_CELLS)));
        }
        let region = self.region();
        let rank = self.groups[group].ranks[job.rank];
        self.ranks[rank].regions.insert(region, body);
        let call = PutCall {
            server: ServerId(server as u32),
            step,
            oldest,
            kept,
            map_version,
            variable: format!("v{}", job.variable),
            layout,
            element_bytes: ELEMENT_BYTES as u32,
            pieces,
            body: region,
        };
        // What is put again after a refusal is only what this server refused.
        let part = (cells[0].0, cells[cells.len() - 1].1);
        let again = PutJob { cells: part, ..job };
        let length = self.random.between(500, 2_000);
        self.call(
            group,
            again.rank,
            AnyCall::Writer(WriterCall::Put(call)),
            Purpose::Put(again),
            length,
        );
    }

    fn put_finished(&mut self, group: usize, job: PutJob, result: &Result<Answer, ClientError>) {
        let state = &mut self.groups[group].writer;
        match result {
            Ok(_) => {}
            Err(ClientError::Refused {
                reason: Reason::StaleMap,
                ..
            }) => state.again.push(job),
            Err(_) => state.failed = true,
        }
        let putting = |call: &Call| matches!(call.purpose, Purpose::Put(_));
        if self.groups[group].calls.values().any(putting) {
            return;
        }
        if self.groups[group].writer.failed {
            self.abort(group);
        } else if self.groups[group].writer.again.is_empty() {
            self.end(group);
        } else {
            // All of it was routed by the same map, so all of it was refused.
            self.groups[group].writer.again.clear();
            self.groups[group].writer.map_version = super::MAP_VERSION;
            self.put_all(group);
        }
    }

    fn end(&mut self, group: usize) {
        let step = self.groups[group].writer.step;
        let mut shares = Vec::new();
        for rank in self.groups[group].ranks.clone() {
            let Some(AnyMachine::Writer(machine)) = self.ranks[rank].machine.as_ref() else {
                continue;
            };
            match machine.shares(step) {
                Ok(more) => shares.extend(more),
                Err(_) => return self.abort(group),
            }
        }
        let Ok(owners) = merge_shares(&self.names, shares) else {
            return self.abort(group);
        };
        let state = &self.groups[group].writer;
        if let Some(run) = state.opened.as_ref().and_then(|opened| opened.run.clone()) {
            let slot = self.groups[group].number;
            self.oracle.ends(run.life, run.epoch, step, slot);
        }
        let layouts = &self.groups[group].writer.layouts;
        let variables = layouts
            .iter()
            .map(|(variable, layout)| VariableLayout {
                variable: format!("v{variable}"),
                layout: *layout,
                statistics: None,
            })
            .collect();
        let end = EndCall {
            step,
            time: step as f64,
            wall_clock_ns: 0,
            owners,
            variables,
            attributes: step.to_le_bytes().to_vec(),
        };
        self.call(
            group,
            0,
            AnyCall::Writer(WriterCall::End(end)),
            Purpose::End,
            700,
        );
    }

    fn end_finished(&mut self, group: usize, result: Result<Answer, ClientError>) {
        let state = &mut self.groups[group].writer;
        state.tries += 1;
        match result {
            Ok(Answer::Fate(fate)) => {
                self.note_fate(group, fate.fate());
                if fate.fate() == StepFate::Open && self.random.chance(50) {
                    let step = self.groups[group].writer.step;
                    let call = AnyCall::Writer(WriterCall::AwaitSeal { step });
                    self.call(group, 0, call, Purpose::Seal, 1_000);
                } else {
                    self.next_step(group);
                }
            }
            Err(ClientError::Refused {
                reason: Reason::BeyondReservation,
                ..
            }) => {
                let bytes = self.bytes_of(group);
                self.reserve(group, bytes);
            }
            Err(ClientError::Deadline { .. } | ClientError::Unreachable { .. })
                if state.tries < 3 =>
            {
                self.end(group)
            }
            _ => self.next_step(group),
        }
    }

    fn note_fate(&mut self, group: usize, fate: StepFate) {
        let state = &mut self.groups[group].writer;
        if fate == StepFate::Sealed {
            state.last_sealed = Some(state.step);
            if let Some(run) = state.opened.as_ref().and_then(|opened| opened.run.as_ref()) {
                let key = (run.life, run.epoch, state.step);
                self.oracle.sealed(key.0, key.1, key.2);
                if self
                    .oracle
                    .joined
                    .is_some_and(|joined| joined < state.begun)
                {
                    self.oracle.to_read.insert(key);
                }
            }
            state.quiet_sealed += u64::from(self.now >= super::plan::QUIET_AT);
        } else if fate == StepFate::Open && self.plan.writers > 1 {
            // Sealed later, when the other writer has ended it.
            state.quiet_sealed += u64::from(self.now >= super::plan::QUIET_AT);
        }
    }

    /// Cells of one variable that a set of ranges covers.
    pub fn all_cells(step: u64, variables: usize) -> BTreeSet<(usize, u64)> {
        (0..variables)
            .flat_map(|variable| (0..Plan::cells(step)).map(move |cell| (variable, cell)))
            .collect()
    }
}
