//! Programs that use the machines: groups of ranks, and what writers do.

use super::plan::{CHUNK_CELLS, ELEMENT_BYTES, Plan, STREAM, value};
use super::readers::ReaderState;
use super::{Event, Payload, World};
use panta_staging::proto::client::{
    Answer, CallId, ClientAction, ClientConfig, ClientError, ClientEvent, EndCall, PutCall,
    ReaderCall, ReaderMachine, WriterCall, WriterMachine, merge_shares,
};
use panta_staging::proto::message::{
    Decision, OpenWriter, Piece, Reason, ResumeFrom, StepFate, VariableLayout, WriterOpened,
};
use panta_staging::proto::{Machine, RegionId, ServerId};
use panta_transports::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub enum AnyMachine {
    Writer(Box<WriterMachine>),
    Reader(Box<ReaderMachine>),
}

pub enum AnyCall {
    Writer(WriterCall),
    Reader(ReaderCall),
}

/// One process.
pub struct Rank {
    pub machine: Option<AnyMachine>,
    pub links: BTreeMap<usize, u64>,
    pub regions: BTreeMap<RegionId, Payload>,
    tick_at: Option<Time>,
    pub paused_until: Time,
}

impl Rank {
    pub fn stopped_until(&self, now: Time) -> Option<Time> {
        (self.paused_until > now).then_some(self.paused_until)
    }
}

/// What a call was for.
#[derive(Clone, Debug)]
pub enum Purpose {
    Open,
    Define(usize),
    Begin,
    Put(PutJob),
    End,
    Abort,
    Seal,
    Close,
    Next,
    Get {
        rank: usize,
        server: usize,
        variables: Vec<usize>,
    },
    Release,
    Commit,
    Probe,
}

#[derive(Clone, Debug)]
pub struct PutJob {
    rank: usize,
    variable: usize,
    cells: (u64, u64),
}

pub struct Call {
    rank: usize,
    deadline: Time,
    purpose: Purpose,
}

impl Call {
    pub fn is_get(&self) -> bool {
        matches!(self.purpose, Purpose::Get { .. })
    }
}

/// The ranks of one program.
pub struct Group {
    pub ranks: Vec<usize>,
    pub is_writer: bool,
    /// Writer slot, or number of the reader group.
    pub number: usize,
    pub turn: u64,
    pub up: bool,
    /// Another was started in its place: it ends when it finds out.
    pub replaced: bool,
    pub done: bool,
    pub calls: BTreeMap<u64, Call>,
    pub writer: WriterState,
    pub reader: ReaderState,
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
    resume: Option<(ResumeFrom, u64)>,
    tries: u32,
    quiet_sealed: u64,
    last_sealed: Option<u64>,
}

impl World {
    pub fn create_groups(&mut self) {
        for slot in 0..self.plan.writers {
            let group = self.add_group(true, slot);
            let delay = self.random.between(0, 300);
            self.after_ms(delay, Event::RestartGroup { group });
        }
        for reader in 0..self.plan.readers {
            let group = self.add_group(false, reader);
            let delay = self.random.between(0, 600);
            self.after_ms(delay, Event::RestartGroup { group });
        }
    }

    fn add_group(&mut self, is_writer: bool, number: usize) -> usize {
        let size = if is_writer {
            self.plan.writer_ranks
        } else {
            self.plan.reader_ranks
        };
        let first = self.ranks.len();
        for _ in 0..size {
            self.ranks.push(Rank {
                machine: None,
                links: BTreeMap::new(),
                regions: BTreeMap::new(),
                tick_at: None,
                paused_until: Time(0),
            });
        }
        self.groups.push(Group {
            ranks: (first..first + size).collect(),
            is_writer,
            number,
            turn: 0,
            up: false,
            replaced: false,
            done: false,
            calls: BTreeMap::new(),
            writer: WriterState {
                map_version: 2 - u64::from(self.plan.stale_map),
                ..WriterState::default()
            },
            reader: ReaderState::default(),
        });
        self.groups.len() - 1
    }

    /// Kills every rank of a group.
    pub fn stop_group(&mut self, group: usize) {
        self.groups[group].up = false;
        self.groups[group].turn += 1;
        self.groups[group].calls.clear();
        for rank in self.groups[group].ranks.clone() {
            self.ranks[rank].machine = None;
            self.ranks[rank].regions.clear();
            self.ranks[rank].tick_at = None;
            for connection in std::mem::take(&mut self.ranks[rank].links).into_values() {
                self.break_connection(connection);
            }
        }
    }

    /// Starts a group's program anew.
    pub fn start_group(&mut self, group: usize) {
        if self.groups[group].up || self.groups[group].done || self.groups[group].replaced {
            return;
        }
        self.groups[group].up = true;
        for (number, rank) in (0_u32..).zip(self.groups[group].ranks.clone()) {
            let config = ClientConfig {
                names: self.names.clone(),
                rank: number,
                retry_after: Duration::from_millis(400),
            };
            self.ranks[rank].paused_until = Time(0);
            self.ranks[rank].machine = Some(if self.groups[group].is_writer {
                AnyMachine::Writer(Box::new(WriterMachine::new(config)))
            } else {
                AnyMachine::Reader(Box::new(ReaderMachine::new(config)))
            });
        }
        self.log(&format_args!("group {group} starts"));
        if self.groups[group].is_writer {
            self.open_writer(group)
        } else {
            self.open_reader(group)
        }
    }

    /// Ends a group's program and starts it again a little later.
    pub fn reopen(&mut self, group: usize) {
        self.stop_group(group);
        if self.groups[group].replaced {
            self.groups[group].done = true;
            return;
        }
        let delay = self.random.between(20, 200);
        self.after_ms(delay, Event::RestartGroup { group });
    }

    pub fn pause_group(&mut self, group: usize, pause_ms: u64, replaced: bool) {
        if !self.groups[group].up {
            return;
        }
        let until = self.now.after(Duration::from_millis(pause_ms));
        for rank in self.groups[group].ranks.clone() {
            // A second pause may only make the first one longer.
            self.ranks[rank].paused_until = self.ranks[rank].paused_until.max(until);
        }
        if replaced && !self.groups[group].replaced && !self.groups[group].done {
            self.groups[group].replaced = true;
            let (is_writer, number) = (self.groups[group].is_writer, self.groups[group].number);
            let other = self.add_group(is_writer, number);
            self.after_ms(20, Event::RestartGroup { group: other });
        }
    }

    pub fn mend_groups(&mut self) {
        for group in 0..self.groups.len() {
            for rank in self.groups[group].ranks.clone() {
                self.ranks[rank].paused_until = self.ranks[rank].paused_until.min(self.now);
                self.after_ms(0, Event::RankTick { rank });
            }
            self.start_group(group);
        }
    }

    pub fn call(
        &mut self,
        group: usize,
        rank: usize,
        call: AnyCall,
        purpose: Purpose,
        length_ms: u64,
    ) {
        let id = self.next_call;
        self.next_call += 1;
        let length = Duration::from_millis(length_ms);
        let deadline = self.now.after(length);
        let rank = self.groups[group].ranks[rank];
        self.groups[group].calls.insert(
            id,
            Call {
                rank,
                deadline,
                purpose,
            },
        );
        self.rank_handles(
            rank,
            ClientEvent::Call {
                id: CallId(id),
                call,
                deadline,
                length,
            },
        );
    }

    pub fn rank_tick(&mut self, rank: usize) {
        if let Some(until) = self.ranks[rank].stopped_until(self.now) {
            self.at(until, Event::RankTick { rank });
            return;
        }
        self.ranks[rank].tick_at = None;
        self.rank_handles(rank, ClientEvent::Tick);
    }

    /// Gives an event to a rank's machine and does what it wants.
    pub fn rank_handles(&mut self, rank: usize, event: ClientEvent<AnyCall>) {
        let mut actions = Vec::new();
        let now = self.now;
        let tick = match self.ranks[rank].machine.as_mut() {
            None => return,
            Some(AnyMachine::Writer(machine)) => {
                machine.handle(
                    convert(event, |call| match call {
                        AnyCall::Writer(call) => call,
                        AnyCall::Reader(_) => WriterCall::Close,
                    }),
                    now,
                    &mut actions,
                );
                machine.next_tick()
            }
            Some(AnyMachine::Reader(machine)) => {
                machine.handle(
                    convert(event, |call| match call {
                        AnyCall::Reader(call) => call,
                        AnyCall::Writer(_) => ReaderCall::Close,
                    }),
                    now,
                    &mut actions,
                );
                machine.next_tick()
            }
        };
        if let Some(tick) = tick
            && self.ranks[rank].tick_at.is_none_or(|at| tick < at)
        {
            self.ranks[rank].tick_at = Some(tick);
            self.at(tick, Event::RankTick { rank });
        }
        for action in actions {
            if self.ranks[rank].machine.is_some() {
                self.rank_acts(rank, action);
            }
        }
    }

    fn rank_acts(&mut self, rank: usize, action: ClientAction) {
        match action {
            ClientAction::Connect { server } => self.connect(rank, server.0 as usize),
            ClientAction::Disconnect { server } => {
                if let Some(connection) = self.ranks[rank].links.remove(&(server.0 as usize)) {
                    self.break_connection(connection);
                }
            }
            ClientAction::Send {
                server,
                message,
                body,
            } => {
                let body = body.map(|region| {
                    self.ranks[rank]
                        .regions
                        .get(&region)
                        .cloned()
                        .unwrap_or_default()
                });
                self.send_to_server(rank, server.0 as usize, message, body);
            }
            ClientAction::Drop { region } => {
                self.ranks[rank].regions.remove(&region);
            }
            ClientAction::Finished { id, result } => {
                let group = self
                    .groups
                    .iter()
                    .position(|group| group.calls.contains_key(&id.0));
                let call =
                    group.and_then(|group| Some((group, self.groups[group].calls.remove(&id.0)?)));
                if let Some((group, call)) = call {
                    self.finished(group, call, result);
                }
            }
        }
    }

    fn finished(&mut self, group: usize, call: Call, result: Result<Answer, ClientError>) {
        if let Err(error) = &result {
            self.log(&format_args!("group {group}: {:?}: {error}", call.purpose));
            self.check_error(error);
        }
        if self.groups[group].is_writer {
            self.writer_finished(group, call.purpose, result);
        } else {
            self.reader_finished(group, call.rank, call.purpose, result);
        }
    }

    /// Errors say whom was awaited, and some must never appear.
    fn check_error(&mut self, error: &ClientError) {
        match error {
            ClientError::Deadline { awaited, .. } => {
                self.oracle.deadlines += 1;
                if !(awaited.contains("server") || awaited.contains("node")) {
                    self.fail(format!("an error that names nobody: {error}"));
                }
            }
            ClientError::Refused {
                reason: Reason::Fenced,
                ..
            } => self.oracle.fenced += 1,
            ClientError::Refused {
                reason:
                    Reason::Incomplete
                    | Reason::Malformed
                    | Reason::TooMany
                    | Reason::NotAllowed
                    | Reason::StepTooLarge
                    | Reason::WrongVersion
                    | Reason::Unsupported
                    | Reason::Disagreement,
                ..
            }
            | ClientError::Protocol { .. }
            | ClientError::Misuse { .. } => {
                self.fail(format!("an error nothing here can cause: {error}"))
            }
            _ => {}
        }
    }

    /// P3: no call outlives its deadline. Called when all that happens at
    /// the present has happened.
    pub fn check_deadlines(&mut self, _next: Time) {
        let late = self
            .groups
            .iter()
            .flat_map(|group| group.calls.values())
            .find(|call| {
                call.deadline <= self.now && self.ranks[call.rank].paused_until < self.now
            });
        if let Some(call) = late {
            let text = format!(
                "{:?} is under way beyond its deadline {:?}",
                call.purpose, call.deadline
            );
            self.fail(text);
        }
    }

    pub fn is_over(&self) -> bool {
        self.is_closing() && self.groups.iter().all(|group| group.done)
    }

    /// Liveness: with the faults over, everybody has got on and ended.
    pub fn check_end(&mut self) {
        for number in 0..self.groups.len() {
            let group = &self.groups[number];
            let (done, replaced) = (group.done, group.replaced);
            let progress = if group.is_writer {
                group.writer.quiet_sealed
            } else {
                group.reader.quiet_whole
            };
            let kind = if group.is_writer { "writer" } else { "reader" };
            if !done {
                self.fail(format!("{kind} group {number} was not done at the end"));
            } else if !replaced && progress == 0 && !self.plan.tight {
                self.fail(format!(
                    "{kind} group {number} got no step through after the faults"
                ));
            }
        }
    }

    /// A group goes on by itself.
    pub fn act(&mut self, group: usize, turn: u64) {
        if self.groups[group].turn != turn || !self.groups[group].up {
            return;
        }
        if let Some(until) = self.ranks[self.groups[group].ranks[0]].stopped_until(self.now) {
            self.at(until, Event::Act { group, turn });
            return;
        }
        if self.groups[group].is_writer {
            self.begin(group)
        } else {
            self.next(group)
        }
    }

    pub fn later(&mut self, group: usize, low_ms: u64, high_ms: u64) {
        self.groups[group].turn += 1;
        let turn = self.groups[group].turn;
        let delay = self.random.between(low_ms, high_ms);
        self.after_ms(delay, Event::Act { group, turn });
    }

    fn open_writer(&mut self, group: usize) {
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
        };
        self.call(
            group,
            0,
            AnyCall::Writer(WriterCall::Open(open)),
            Purpose::Open,
            2_000,
        );
    }

    fn begin(&mut self, group: usize) {
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

    fn writer_finished(
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
            (Purpose::Begin, Ok(Answer::Began { decision, oldest })) => {
                self.began(group, decision, oldest)
            }
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

    fn began(&mut self, group: usize, decision: Decision, oldest: u64) {
        if decision == Decision::Discard {
            self.oracle.discarded += 1;
            self.next_step(group);
            return;
        }
        self.groups[group].writer.oldest = oldest;
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

fn convert<One>(
    event: ClientEvent<AnyCall>,
    call_of: impl FnOnce(AnyCall) -> One,
) -> ClientEvent<One> {
    match event {
        ClientEvent::Call {
            id,
            call,
            deadline,
            length,
        } => ClientEvent::Call {
            id,
            call: call_of(call),
            deadline,
            length,
        },
        ClientEvent::Forget { id } => ClientEvent::Forget { id },
        ClientEvent::Connected { server } => ClientEvent::Connected { server },
        ClientEvent::Disconnected { server, detail } => {
            ClientEvent::Disconnected { server, detail }
        }
        ClientEvent::Message {
            server,
            message,
            body,
        } => ClientEvent::Message {
            server,
            message,
            body,
        },
        ClientEvent::Tick => ClientEvent::Tick,
    }
}
