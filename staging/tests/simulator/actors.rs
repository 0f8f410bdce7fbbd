//! Programs that use the machines: groups of ranks, and how their calls end.

use super::readers::ReaderState;
use super::writers::{PutJob, WriterState};
use super::{Event, Payload, World};
use panta_staging::proto::client::{
    Answer, CallId, ClientAction, ClientConfig, ClientError, ClientEvent, ReaderCall,
    ReaderMachine, WriterCall, WriterMachine,
};
use panta_staging::proto::message::{Policy, Reason};
use panta_staging::proto::{Machine, RegionId};
use panta_transports::time::Time;
use std::collections::BTreeMap;
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

pub struct Call {
    rank: usize,
    deadline: Time,
    pub purpose: Purpose,
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
            writer: WriterState::of_map(2 - u64::from(self.plan.stale_map)),
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
        let all = self.plan.heirs && self.plan.policy == Policy::Block;
        let mut unread = self.oracle.to_read.difference(&self.oracle.read);
        if let Some((_, epoch, step)) = unread.next().filter(|_| all) {
            self.fail(format!("nobody was given step {step} of epoch {epoch}"));
        }
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
