//! A rank of a reader group.
//!
//! Every rank has one. The root's asks the stream's home for steps and hands
//! each [`super::NextAnswer::Step`] to the other ranks, which pass it to
//! [`ReaderMachine::learn`]; so all ranks see the same steps. Every rank gets
//! what it wants from the owners that the step names.

use super::super::message::{
    Alive, CloseReader, Commit, Describe, Get, Kind, Layout, ListStreams, Map, Message, Next,
    NoStep, NoStepReason, OpenReader, Position, ReaderOpened, Release, Run, SealedStep,
};
use super::super::placement::home_of;
use super::super::{Machine, RegionId, ServerId, limits};
use super::requests::{Answered, Exchange, Requests};
use super::{
    Answer, CallId, ClientAction, ClientConfig, ClientError, ClientEvent, NextAnswer, ReaderCall,
};
use panta_transports::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct ReaderMachine {
    requests: Requests,
    home: Option<ServerId>,
    opened: Option<ReaderOpened>,
    group: String,
    instance: u64,
    position: Position,
    layouts: BTreeMap<u32, Layout>,
    known_layouts: u32,
    /// The steps handed out and not released, as (epoch, step).
    holds: BTreeSet<(u64, u64)>,
    /// See [`OpenReader::ranks`].
    ranks: u32,
    /// Calls for a next step so far.
    calls: u64,
    /// See [`Next::heard`].
    heard: u64,
    /// See [`ReaderOpened::precious_owed`].
    precious_owed: bool,
    is_root: bool,
    alive_at: Option<Time>,
}

impl ReaderMachine {
    /// A rank that has opened nothing.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self {
            requests: Requests::new(config),
            home: None,
            opened: None,
            group: String::new(),
            instance: 0,
            position: Position::default(),
            layouts: BTreeMap::new(),
            known_layouts: 0,
            holds: BTreeSet::new(),
            ranks: 0,
            calls: 0,
            heard: 0,
            precious_owed: false,
            is_root: false,
            alive_at: None,
        }
    }

    /// Takes what the root's open was answered; on every rank but the root.
    pub fn attach(&mut self, opened: ReaderOpened) {
        self.adopt(opened);
    }

    /// The same for a rank that also releases and commits in its group's name.
    pub fn attach_as(&mut self, opened: ReaderOpened, group: String, instance: u64) {
        self.group = group;
        self.instance = instance;
        self.adopt(opened);
    }

    fn adopt(&mut self, opened: ReaderOpened) {
        self.requests.learn_map(opened.map.clone());
        self.home = home_of(&opened.stream, &self.requests.config().names);
        self.position = opened.position.unwrap_or_default();
        self.precious_owed = opened.precious_owed;
        self.opened = Some(opened);
        self.layouts.clear();
        self.known_layouts = 0;
        self.holds.clear();
    }

    /// Takes the layouts a step brings along; on every rank but the root,
    /// whose machine has seen them.
    pub fn learn(&mut self, step: &SealedStep) {
        if self.layouts.len() + step.layouts.len() > 2 * limits::LAYOUTS_LIMIT {
            // The root forgets at the same step and is told everything again.
            self.layouts.clear();
        }
        for layout in &step.layouts {
            self.layouts.insert(layout.layout, layout.clone());
        }
    }

    /// A layout that a step names.
    #[must_use]
    pub fn layout(&self, layout: u32) -> Option<&Layout> {
        self.layouts.get(&layout)
    }

    /// The newest shard map that any server has sent.
    #[must_use]
    pub fn map(&self) -> Option<&Map> {
        self.requests.map()
    }

    /// Where the group stands; meaningful on the root.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    fn call(
        &mut self,
        id: CallId,
        call: ReaderCall,
        due: (Time, Duration),
        now: Time,
        actions: &mut Vec<ClientAction>,
    ) {
        match self.exchange(id, call, due) {
            Ok(exchange) => self.requests.start(exchange, now, actions),
            Err(error) => actions.push(ClientAction::Finished {
                id,
                result: Err(error),
            }),
        }
    }

    fn exchange(
        &mut self,
        id: CallId,
        call: ReaderCall,
        due: (Time, Duration),
    ) -> Result<Exchange, ClientError> {
        let misuse = |operation, detail| ClientError::Misuse { operation, detail };
        let home_for = |stream: &str, requests: &Requests| {
            home_of(stream, &requests.config().names)
                .ok_or_else(|| misuse("a reader's call", "the list of servers is empty"))
        };
        match call {
            ReaderCall::Open(open) => {
                let home = home_for(&open.stream, &self.requests)?;
                self.open(&open);
                return Ok(Exchange::new(
                    id,
                    home,
                    "open for reading",
                    Kind::OpenReader(open),
                    due,
                ));
            }
            ReaderCall::ListStreams { server } => {
                return Ok(Exchange::new(
                    id,
                    server,
                    "list of streams",
                    Kind::ListStreams(ListStreams {}),
                    due,
                ));
            }
            ReaderCall::Describe { stream } => {
                let home = home_for(&stream, &self.requests)?;
                return Ok(Exchange::new(
                    id,
                    home,
                    "description of a stream",
                    Kind::Describe(Describe { stream }),
                    due,
                ));
            }
            _ => {}
        }
        if let ReaderCall::Release { epoch, step } = &call {
            self.holds.remove(&(*epoch, *step));
        }
        self.calls += u64::from(matches!(call, ReaderCall::Next { .. }));
        let opened = self
            .opened
            .as_ref()
            .ok_or_else(|| misuse("a reader's call", "the stream is not open"))?;
        let home = self
            .home
            .ok_or_else(|| misuse("a reader's call", "the list of servers is empty"))?;
        let run = |epoch| {
            Some(Run {
                stream: opened.stream.clone(),
                life: opened.life,
                epoch,
            })
        };
        let (group, instance) = (self.group.clone(), self.instance);
        let (server, operation, kind) = match call {
            ReaderCall::Next { latest, poll } => (
                home,
                "next step",
                Kind::Next(self.next(opened, latest, poll)),
            ),
            ReaderCall::Get {
                server,
                epoch,
                step,
                share,
                queries,
            } => (
                server,
                "get",
                Kind::Get(Get {
                    run: run(epoch),
                    step,
                    share: Some(share),
                    queries,
                }),
            ),
            ReaderCall::Release { epoch, step } => (
                home,
                "release of a step",
                Kind::Release(Release {
                    run: run(epoch),
                    group,
                    instance,
                    step,
                    rank: self.requests.config().rank,
                }),
            ),
            ReaderCall::Commit {
                cursor,
                epoch,
                step,
            } => (
                home,
                "commit of a cursor",
                Kind::Commit(Commit {
                    run: run(epoch),
                    group,
                    instance,
                    cursor,
                    step,
                }),
            ),
            _ => {
                let (stream, life) = (opened.stream.clone(), opened.life);
                (
                    home,
                    "close of a stream",
                    Kind::CloseReader(CloseReader {
                        stream,
                        life,
                        group,
                        instance,
                        heard: self.heard,
                    }),
                )
            }
        };
        Ok(Exchange::new(id, server, operation, kind, due))
    }

    fn open(&mut self, open: &OpenReader) {
        self.group.clone_from(&open.group);
        self.ranks = open.ranks;
        self.instance = open.instance;
        self.is_root = true;
    }

    fn next(&self, opened: &ReaderOpened, latest: bool, poll: bool) -> Next {
        Next {
            stream: opened.stream.clone(),
            life: opened.life,
            group: self.group.clone(),
            instance: self.instance,
            position: Some(self.position),
            latest,
            known_layouts: self.known_layouts,
            number: self.calls,
            lists_holds: self.ranks == 0,
            holds: self
                .holds
                .iter()
                .map(|(epoch, step)| Position {
                    epoch: *epoch,
                    after: Some(*step),
                })
                .collect(),
            // Zero stays zero; anything else is set when it is sent.
            wait_ms: u64::from(!poll),
            precious_owed: self.precious_owed,
            heard: self.heard,
        }
    }

    fn answered(&mut self, answered: Answered, now: Time, actions: &mut Vec<ClientAction>) {
        let (mut exchange, kind, body) = answered;
        let result = match kind {
            Kind::Refused(refused) => {
                self.requests.learn_map(refused.map.clone());
                Err(self.requests.refusal(&exchange, refused))
            }
            Kind::NoStep(none)
                if waits(&exchange.kind) && none.reason() == NoStepReason::NotYet =>
            {
                exchange.waiting_for = none.waiting_for;
                let pause = exchange.deadline.since(now).min(Duration::from_millis(1));
                self.requests.again(exchange, pause, now, actions);
                return;
            }
            kind => self.take(&exchange, kind, body, now),
        };
        actions.push(ClientAction::Finished {
            id: exchange.call,
            result,
        });
    }

    fn take(
        &mut self,
        exchange: &Exchange,
        kind: Kind,
        body: Option<RegionId>,
        now: Time,
    ) -> Result<Answer, ClientError> {
        match (&exchange.kind, kind) {
            (Kind::OpenReader(_), Kind::ReaderOpened(opened)) => {
                self.adopt(opened.clone());
                self.schedule_alive(now);
                Ok(Answer::ReaderOpened(opened))
            }
            (Kind::Next(next), Kind::SealedStep(step)) => {
                self.heard = next.number;
                self.position = Position {
                    epoch: self.position.epoch.max(step.epoch),
                    after: self.position.after.max(Some(step.step)),
                };
                self.precious_owed = false;
                if self.ranks == 0 {
                    self.holds.insert((step.epoch, step.step));
                }
                self.learn(&step);
                self.known_layouts = if self.layouts.len() > limits::LAYOUTS_LIMIT {
                    0
                } else {
                    step.known_layouts
                };
                Ok(Answer::Next(NextAnswer::Step(Box::new(step))))
            }
            (Kind::Next(_), Kind::NoStep(none)) => Ok(Answer::Next(self.no_step(none))),
            (Kind::Get(_), Kind::Got(got)) => Ok(Answer::Got { got, body }),
            (Kind::Release(_) | Kind::Commit(_), Kind::Done(_)) => Ok(Answer::Done),
            (Kind::CloseReader(_), Kind::Done(_)) => {
                self.alive_at = None;
                self.requests.keep(None);
                Ok(Answer::Done)
            }
            (Kind::ListStreams(_), Kind::Streams(streams)) => Ok(Answer::Streams(streams.streams)),
            (Kind::Describe(_), Kind::Described(described)) => {
                Ok(Answer::Described(Box::new(described)))
            }
            _ => self.requests.unexpected(exchange),
        }
    }

    fn no_step(&mut self, none: NoStep) -> NextAnswer {
        match none.reason() {
            NoStepReason::NotYet => NextAnswer::NotYet {
                waiting_for: none.waiting_for,
            },
            NoStepReason::Closed => NextAnswer::Closed,
            NoStepReason::WriterLost => NextAnswer::WriterLost {
                last_sealed: none.step,
            },
            NoStepReason::RolledBack => {
                self.position = Position {
                    epoch: none.epoch,
                    after: none.step,
                };
                NextAnswer::RolledBack { to: none.step }
            }
            NoStepReason::Trimmed => {
                let before = none.step.and_then(|oldest| oldest.checked_sub(1));
                self.position.after = self.position.after.max(before);
                NextAnswer::Trimmed { oldest: none.step }
            }
            NoStepReason::WouldDeadlock => NextAnswer::WouldDeadlock,
        }
    }

    fn tell_alive(&mut self, actions: &mut Vec<ClientAction>) {
        let stream = self.opened.as_ref().map(|opened| opened.stream.clone());
        if let (Some(home), Some(stream)) = (self.home, stream) {
            self.requests.tell(
                home,
                Kind::Alive(Alive {
                    stream,
                    instance: self.instance,
                }),
                actions,
            );
        }
    }

    fn schedule_alive(&mut self, now: Time) {
        let lease = self.opened.as_ref().map_or(0, |opened| opened.lease_ms);
        let due = Duration::from_millis((lease / 3).max(1));
        self.alive_at = (self.is_root && lease > 0).then(|| now.after(due));
        self.requests
            .keep(self.home.filter(|_| self.alive_at.is_some()));
    }

    fn tick(&mut self, now: Time, actions: &mut Vec<ClientAction>) {
        self.requests.tick(now, actions);
        if self.alive_at.is_some_and(|at| at <= now) {
            self.tell_alive(actions);
            self.schedule_alive(now);
        }
    }

    fn receive(
        &mut self,
        server: ServerId,
        message: Message,
        body: Option<RegionId>,
        now: Time,
        actions: &mut Vec<ClientAction>,
    ) {
        if let Some(answered) = self.requests.message(server, message, body, now, actions) {
            self.answered(answered, now, actions);
        }
        if self.requests.take_is_back() && self.alive_at.is_some() {
            self.tell_alive(actions);
        }
    }
}

impl Machine for ReaderMachine {
    type Event = ClientEvent<ReaderCall>;
    type Action = ClientAction;

    fn handle(&mut self, event: Self::Event, now: Time, actions: &mut Vec<ClientAction>) {
        match event {
            ClientEvent::Call {
                id,
                call,
                deadline,
                length,
            } => self.call(id, call, (deadline, length), now, actions),
            ClientEvent::Forget { id } => self.requests.forget(id),
            ClientEvent::Connected { server } => self.requests.connected_to(server, now, actions),
            ClientEvent::Disconnected { server, detail } => {
                self.requests.disconnected(server, detail, now)
            }
            ClientEvent::Message {
                server,
                message,
                body,
            } => self.receive(server, message, body, now, actions),
            ClientEvent::Tick => self.tick(now, actions),
        }
    }

    fn next_tick(&self) -> Option<Time> {
        [self.requests.next_tick(), self.alive_at]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Whether "not yet" means to ask again.
fn waits(kind: &Kind) -> bool {
    match kind {
        Kind::Next(next) => next.wait_ms != 0,
        Kind::OpenReader(_) => true,
        _ => false,
    }
}
