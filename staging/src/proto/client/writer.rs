//! A rank of a writer group.
//!
//! Every rank has one. The root's talks to the stream's home; all of them put
//! to owners. What the root learns at open reaches the others through
//! [`WriterMachine::attach`], and their shares of a step come back through
//! [`WriterMachine::shares`] and [`merge_shares`]; both ways over the group's
//! own control tree, which is not this module's business.

use super::super::message::{
    Abort, Alive, AwaitSeal, Begin, CloseWriter, Decision, Define, End, Kind, Map, Message,
    OpenWriter, OwnerShare, Put, Reason, Run, StepFate, Watermark, WriterOpened,
};
use super::super::placement::home_of;
use super::super::{Machine, RegionId, ServerId, limits};
use super::requests::{Answered, Exchange, Requests};
use super::{
    Answer, CallId, ClientAction, ClientConfig, ClientError, ClientEvent, EndCall, PutCall,
    WriterCall,
};
use panta_transports::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// Steps whose shares are remembered at once.
const STEPS_REMEMBERED: usize = 64;

#[derive(Debug, Default)]
struct StepShares {
    sequence: u64,
    owners: BTreeMap<ServerId, OwnerShare>,
    /// A server that was restarted within the step.
    lost: Option<ServerId>,
}

#[derive(Clone, Debug)]
struct NamedLayout {
    fixed: Vec<u8>,
    shape: Vec<u8>,
    layout: u32,
}

/// See the module.
#[derive(Debug)]
pub struct WriterMachine {
    requests: Requests,
    home: Option<ServerId>,
    slot: u32,
    instance: u64,
    opened: Option<WriterOpened>,
    /// The layout last named, per variable.
    layouts: BTreeMap<String, NamedLayout>,
    steps: BTreeMap<u64, StepShares>,
    oldest: u64,
    /// Steps below `oldest` that stay.
    kept: Vec<u64>,
    is_root: bool,
    closed: bool,
    alive_at: Option<Time>,
}

impl WriterMachine {
    /// A rank that has opened nothing.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self {
            requests: Requests::new(config),
            home: None,
            slot: 0,
            instance: 0,
            opened: None,
            layouts: BTreeMap::new(),
            steps: BTreeMap::new(),
            oldest: 0,
            kept: Vec::new(),
            is_root: false,
            closed: false,
            alive_at: None,
        }
    }

    /// Takes what the root's open was answered; on every rank but the root.
    pub fn attach(&mut self, opened: WriterOpened, slot: u32) {
        self.slot = slot;
        self.adopt(opened);
    }

    fn adopt(&mut self, opened: WriterOpened) {
        self.requests.learn_map(opened.map.clone());
        self.home = opened
            .run
            .as_ref()
            .and_then(|run| home_of(&run.stream, &self.requests.config().names));
        self.oldest = opened.oldest;
        self.kept.clone_from(&opened.kept);
        self.opened = Some(opened);
        self.layouts.clear();
        self.steps.clear();
        self.closed = false;
    }

    /// The newest shard map that any server has sent. After a put was refused
    /// with [`Reason::StaleMap`], route by this one.
    #[must_use]
    pub fn map(&self) -> Option<&Map> {
        self.requests.map()
    }

    /// What this rank's servers have acknowledged of a step.
    ///
    /// # Errors
    /// [`ClientError::ServerLost`] if one was restarted in between.
    pub fn shares(&self, step: u64) -> Result<Vec<OwnerShare>, ClientError> {
        let Some(shares) = self.steps.get(&step) else {
            return Ok(Vec::new());
        };
        match shares.lost {
            Some(server) => Err(server_lost(&self.requests.config().names, "put", server)),
            None => Ok(shares.owners.values().copied().collect()),
        }
    }

    fn call(
        &mut self,
        id: CallId,
        call: WriterCall,
        due: (Time, Duration),
        now: Time,
        actions: &mut Vec<ClientAction>,
    ) {
        match self.exchange(id, call, due) {
            Ok(Ok(exchange)) => self.requests.start(exchange, now, actions),
            Ok(Err(answer)) => actions.push(ClientAction::Finished {
                id,
                result: Ok(answer),
            }),
            Err(error) => actions.push(ClientAction::Finished {
                id,
                result: Err(error),
            }),
        }
    }

    /// The request a call comes to, or its answer where none is needed.
    fn exchange(
        &mut self,
        id: CallId,
        call: WriterCall,
        due: (Time, Duration),
    ) -> Result<Result<Exchange, Answer>, ClientError> {
        if let WriterCall::Open(open) = call {
            return self.open(id, open, due).map(Ok);
        }
        let misuse = |operation, detail| ClientError::Misuse { operation, detail };
        let run = self.opened.as_ref().and_then(|opened| opened.run.clone());
        let run = run.ok_or_else(|| misuse("a writer's call", "the stream is not open"))?;
        let home = self
            .home
            .ok_or_else(|| misuse("a writer's call", "the list of servers is empty"))?;
        let slot = self.slot;
        let (operation, kind) = match call {
            WriterCall::Define {
                step,
                variable,
                fixed,
                shape,
            } => {
                let known = self.layouts.get(&variable);
                if let Some(known) =
                    known.filter(|known| known.fixed == fixed && known.shape == shape)
                {
                    return Ok(Err(Answer::Defined(known.layout)));
                }
                (
                    "define",
                    Kind::Define(Define {
                        run: Some(run),
                        slot,
                        step,
                        variable,
                        fixed,
                        shape,
                    }),
                )
            }
            WriterCall::Begin {
                step,
                reserve_bytes,
            } => (
                "begin of a step",
                Kind::Begin(Begin {
                    run: Some(run),
                    slot,
                    step,
                    reserve_bytes,
                    wait_ms: 0,
                }),
            ),
            WriterCall::Put(put) => return Ok(Ok(self.put(id, run, put, due))),
            WriterCall::End(end) => ("end of a step", Kind::End(self.end(run, end)?)),
            WriterCall::Abort { step } => (
                "abort of a step",
                Kind::Abort(Abort {
                    run: Some(run),
                    slot,
                    step,
                }),
            ),
            WriterCall::AwaitSeal { step } => (
                "seal of a step",
                Kind::AwaitSeal(AwaitSeal {
                    run: Some(run),
                    slot,
                    step,
                    wait_ms: 0,
                }),
            ),
            WriterCall::Close | WriterCall::Open(_) => (
                "close of a stream",
                Kind::CloseWriter(CloseWriter {
                    run: Some(run),
                    slot,
                }),
            ),
        };
        Ok(Ok(Exchange::new(id, home, operation, kind, due)))
    }

    fn open(
        &mut self,
        id: CallId,
        open: OpenWriter,
        due: (Time, Duration),
    ) -> Result<Exchange, ClientError> {
        let operation = "open for writing";
        let home = home_of(&open.stream, &self.requests.config().names);
        let home = home.ok_or(ClientError::Misuse {
            operation,
            detail: "the list of servers is empty",
        })?;
        (self.slot, self.instance) = (open.slot, open.instance);
        self.is_root = true;
        Ok(Exchange::new(
            id,
            home,
            operation,
            Kind::OpenWriter(open),
            due,
        ))
    }

    fn put(&mut self, id: CallId, run: Run, put: PutCall, due: (Time, Duration)) -> Exchange {
        let shares = self.steps.entry(put.step).or_default();
        let sequence = shares.sequence;
        shares.sequence += 1;
        while self.steps.len() > STEPS_REMEMBERED {
            self.steps.pop_first();
        }
        let (server, body) = (put.server, put.body);
        let message = Put {
            run: Some(run),
            base: self.opened.as_ref().and_then(|opened| opened.base),
            step: put.step,
            slot: self.slot,
            rank: self.requests.config().rank,
            sequence,
            map_version: put.map_version,
            oldest: put.oldest,
            kept: put.kept,
            variable: put.variable,
            layout: put.layout,
            element_bytes: put.element_bytes,
            pieces: put.pieces,
        };
        let mut exchange = Exchange::new(id, server, "put", Kind::Put(message), due);
        exchange.body = Some(body);
        exchange
    }

    fn end(&self, run: Run, end: EndCall) -> Result<End, ClientError> {
        if let Some(server) = restarted(&end.owners) {
            return Err(server_lost(
                &self.requests.config().names,
                "end of a step",
                server,
            ));
        }
        Ok(End {
            run: Some(run),
            slot: self.slot,
            step: end.step,
            time: end.time,
            wall_clock_ns: end.wall_clock_ns,
            owners: end.owners,
            variables: end.variables,
            attributes: end.attributes,
        })
    }

    fn answered(&mut self, answered: Answered, now: Time, actions: &mut Vec<ClientAction>) {
        let (mut exchange, kind, _) = answered;
        let result = match kind {
            Kind::Refused(refused) => {
                self.requests.learn_map(refused.map.clone());
                if refused.reason() == Reason::Full {
                    exchange.waiting_for = format!("room in memory: {}", refused.detail);
                    self.requests
                        .again(exchange, limits::FULL_BACKOFF, now, actions);
                    return;
                }
                Err(self.requests.refusal(&exchange, refused))
            }
            Kind::Began(began) if began.decision() == Decision::Wait => {
                exchange.waiting_for = began.waiting_for;
                self.ask_again(exchange, now, actions);
                return;
            }
            Kind::Fate(fate)
                if fate.fate() == StepFate::Open && matches!(exchange.kind, Kind::AwaitSeal(_)) =>
            {
                exchange.waiting_for = fate.waiting_for;
                self.ask_again(exchange, now, actions);
                return;
            }
            kind => self.take(&exchange, kind, now, actions),
        };
        actions.push(ClientAction::Finished {
            id: exchange.call,
            result,
        });
    }

    /// Repeats a request that the server kept waiting for as long as it was
    /// let; close to the deadline there is nothing left to wait for.
    fn ask_again(&mut self, exchange: Exchange, now: Time, actions: &mut Vec<ClientAction>) {
        let pause = exchange.deadline.since(now).min(Duration::from_millis(1));
        self.requests.again(exchange, pause, now, actions);
    }

    fn take(
        &mut self,
        exchange: &Exchange,
        kind: Kind,
        now: Time,
        actions: &mut Vec<ClientAction>,
    ) -> Result<Answer, ClientError> {
        match (&exchange.kind, kind) {
            (Kind::OpenWriter(_), Kind::WriterOpened(opened)) => {
                self.adopt(opened.clone());
                self.schedule_alive(now);
                Ok(Answer::Opened(opened))
            }
            (Kind::Define(define), Kind::Defined(defined)) => {
                let named = NamedLayout {
                    fixed: define.fixed.clone(),
                    shape: define.shape.clone(),
                    layout: defined.layout,
                };
                self.layouts.insert(define.variable.clone(), named);
                Ok(Answer::Defined(defined.layout))
            }
            (Kind::Begin(_), Kind::Began(began)) => {
                self.trimmed_to(began.oldest, &began.kept, None, actions);
                Ok(Answer::Began {
                    decision: began.decision(),
                    oldest: began.oldest,
                    kept: began.kept,
                })
            }
            (Kind::Put(put), Kind::Stored(stored)) => {
                self.stored(put, exchange.server, stored.incarnation)
            }
            (Kind::Abort(abort), Kind::Fate(fate)) => {
                // A repeated end may have sealed the step before the abort came.
                if fate.fate() == StepFate::Aborted {
                    let kept = self.kept.clone();
                    self.trimmed_to(self.oldest, &kept, Some(abort.step), actions);
                }
                Ok(Answer::Fate(fate))
            }
            (Kind::End(_) | Kind::AwaitSeal(_), Kind::Fate(fate)) => Ok(Answer::Fate(fate)),
            (Kind::CloseWriter(_), Kind::Done(_)) => {
                self.closed = true;
                self.alive_at = None;
                self.requests.keep(None);
                Ok(Answer::Done)
            }
            _ => self.requests.unexpected(exchange),
        }
    }

    fn stored(
        &mut self,
        put: &Put,
        server: ServerId,
        incarnation: u64,
    ) -> Result<Answer, ClientError> {
        let names = &self.requests.config().names;
        let shares = self.steps.entry(put.step).or_default();
        let empty = OwnerShare {
            server: server.0,
            incarnation,
            pieces: 0,
            bytes: 0,
        };
        let share = shares.owners.entry(server).or_insert(empty);
        if share.incarnation != incarnation {
            shares.lost = Some(server);
            return Err(server_lost(names, "put", server));
        }
        share.pieces += put.pieces.len() as u64;
        share.bytes += put
            .pieces
            .iter()
            .map(|piece| piece.length_bytes)
            .sum::<u64>();
        Ok(Answer::Stored)
    }

    /// Tells the owners this rank is connected to what they may forget.
    fn trimmed_to(
        &mut self,
        oldest: u64,
        kept: &[u64],
        aborted: Option<u64>,
        actions: &mut Vec<ClientAction>,
    ) {
        let news = (oldest, kept) != (self.oldest, &self.kept[..]) || aborted.is_some();
        let Some(opened) = self
            .opened
            .as_ref()
            .filter(|_| news && oldest >= self.oldest)
        else {
            return;
        };
        let watermark = Watermark {
            run: opened.run.clone(),
            base: opened.base,
            oldest,
            kept: kept.to_vec(),
            aborted,
        };
        self.oldest = oldest;
        self.kept.clear();
        self.kept.extend_from_slice(kept);
        for server in self.requests.connected() {
            self.requests
                .tell(server, Kind::Watermark(watermark.clone()), actions);
        }
    }

    fn tell_alive(&mut self, actions: &mut Vec<ClientAction>) {
        let stream = self
            .opened
            .as_ref()
            .and_then(|opened| opened.run.as_ref().map(|run| run.stream.clone()));
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
        self.alive_at = (self.is_root && !self.closed && lease > 0).then(|| now.after(due));
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
}

impl Machine for WriterMachine {
    type Event = ClientEvent<WriterCall>;
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

impl WriterMachine {
    fn receive(
        &mut self,
        server: ServerId,
        message: Message,
        body: Option<RegionId>,
        now: Time,
        actions: &mut Vec<ClientAction>,
    ) {
        if let Some(answered) = self.requests.message(server, message, body, now, actions) {
            if let Some(region) = answered.2 {
                actions.push(ClientAction::Drop { region });
            }
            self.answered(answered, now, actions);
        }
        if self.requests.take_is_back() && self.alive_at.is_some() {
            self.tell_alive(actions);
        }
    }
}

/// Adds up what the ranks of a group were acknowledged.
///
/// # Errors
/// [`ClientError::ServerLost`] if two ranks met two lives of one server.
pub fn merge_shares(
    names: &[String],
    shares: impl IntoIterator<Item = OwnerShare>,
) -> Result<Vec<OwnerShare>, ClientError> {
    let mut merged: BTreeMap<u32, OwnerShare> = BTreeMap::new();
    for share in shares {
        let sum = merged.entry(share.server).or_insert(OwnerShare {
            pieces: 0,
            bytes: 0,
            ..share
        });
        if sum.incarnation != share.incarnation {
            return Err(server_lost(names, "end of a step", ServerId(share.server)));
        }
        sum.pieces = sum.pieces.saturating_add(share.pieces);
        sum.bytes = sum.bytes.saturating_add(share.bytes);
    }
    Ok(merged.into_values().collect())
}

fn restarted(shares: &[OwnerShare]) -> Option<ServerId> {
    let mut seen: BTreeMap<u32, u64> = BTreeMap::new();
    shares
        .iter()
        .find(|share| *seen.entry(share.server).or_insert(share.incarnation) != share.incarnation)
        .map(|share| ServerId(share.server))
}

fn server_lost(names: &[String], operation: &'static str, server: ServerId) -> ClientError {
    let name = names.get(server.0 as usize).cloned().unwrap_or_default();
    ClientError::ServerLost {
        operation,
        server,
        name,
    }
}
