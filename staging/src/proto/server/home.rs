//! The home: its streams, and the requests it keeps waiting.
//!
//! ```text
//!   request --> stream --> answer
//!                     \--> waits: asked again after every change of the
//!                          stream, answered "not yet" when its time is over
//! ```
//!
//! Promises: every request that is kept waiting is answered by the time it
//! named (at most [`limits::LONG_POLL_LIMIT`]) unless its connection ends.

use super::super::ConnectionId;
use super::super::limits;
use super::super::message::{
    Alive, Decision, Kind, Map, NoStep, NoStepReason, OpenReader, OpenWriter, Reason, Refused, Run,
    StepFate, Streams,
};
use super::super::mutant::{Mutant, Planted};
use super::ServerConfig;
use super::stream::{Outcome, Stream, check_supported};
use panta_transports::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// Answers, in the order in which they are to be sent.
pub(super) type Answers = Vec<(ConnectionId, u64, Kind)>;

#[derive(Debug)]
struct Pending {
    kind: Kind,
    stream: String,
    arrived: Time,
    until: Time,
    waiting_for: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Home {
    incarnation: u64,
    map: Map,
    grace: Duration,
    streams: BTreeMap<String, Stream>,
    pending: BTreeMap<(ConnectionId, u64), Pending>,
    /// Which requests wait for a stream, so that only they are asked again.
    waiting: BTreeMap<String, Vec<(ConnectionId, u64)>>,
    /// A lower bound of when something ends by itself.
    tick_at: Option<Time>,
    planted: Planted,
}

impl Home {
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self {
            incarnation: config.incarnation,
            map: config.map.clone(),
            grace: config.reconnect_grace,
            streams: BTreeMap::new(),
            pending: BTreeMap::new(),
            waiting: BTreeMap::new(),
            tick_at: None,
            planted: Planted::default(),
        }
    }

    #[cfg(feature = "mutants")]
    pub(super) fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Requests kept waiting.
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn next_tick(&self) -> Option<Time> {
        self.tick_at
    }

    /// Takes a request.
    pub(super) fn request(
        &mut self,
        connection: ConnectionId,
        request: u64,
        kind: Kind,
        now: Time,
        answers: &mut Answers,
    ) {
        let Some(name) = stream_of(&kind).map(str::to_owned) else {
            let summaries = self.streams.values().map(Stream::summary).collect();
            answers.push((
                connection,
                request,
                Kind::Streams(Streams { streams: summaries }),
            ));
            return;
        };
        let outcome = self.ask(&name, &kind, connection, now);
        self.settle(connection, request, kind, &name, outcome, now, answers);
        self.wake(&name, answers);
        self.watch(&name);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    fn settle(
        &mut self,
        connection: ConnectionId,
        request: u64,
        kind: Kind,
        name: &str,
        outcome: Outcome,
        now: Time,
        answers: &mut Answers,
    ) {
        match outcome {
            Outcome::Answer(kind) => answers.push((connection, request, kind)),
            Outcome::Ignore => {}
            Outcome::Wait(waiting_for) => {
                let wait = wait_of(&kind).min(limits::LONG_POLL_LIMIT);
                let mine = (connection, 0)..=(connection, u64::MAX);
                let full = self.pending.len() >= limits::PENDING_LIMIT
                    || self.pending.range(mine).count() >= limits::PENDING_PER_CONNECTION_LIMIT;
                if wait.is_zero() || full {
                    answers.push((connection, request, self.not_yet(&kind, name, waiting_for)));
                    return;
                }
                let until = now.after(wait);
                self.tick_at = Some(self.tick_at.map_or(until, |tick| tick.min(until)));
                let pending = Pending {
                    kind,
                    stream: name.to_owned(),
                    arrived: now,
                    until,
                    waiting_for,
                };
                if self
                    .pending
                    .insert((connection, request), pending)
                    .is_none()
                {
                    self.waiting
                        .entry(name.to_owned())
                        .or_default()
                        .push((connection, request));
                }
            }
        }
    }

    /// Asks a stream.
    fn ask(&mut self, name: &str, kind: &Kind, connection: ConnectionId, now: Time) -> Outcome {
        if let Kind::OpenWriter(open) = kind {
            return self.open_writer(open, connection, now).into();
        }
        let map = self.map.clone();
        let Some(stream) = self.streams.get_mut(name) else {
            return match kind {
                Kind::OpenReader(_) => Outcome::Wait(format!("a writer to open {name}")),
                _ => Outcome::Answer(Kind::Refused(self.no_stream(name, kind))),
            };
        };
        let answer = match kind {
            Kind::OpenReader(open) => open_reader(stream, open, map, connection, now),
            Kind::Define(define) => stream.define(define, connection, now),
            Kind::Begin(begin) => return stream.begin(begin, connection, now),
            Kind::End(end) => stream.end(end.clone(), connection, now),
            Kind::Abort(abort) => stream.abort(abort, connection, now),
            Kind::AwaitSeal(wait) => return stream.await_seal(wait, connection, now),
            Kind::CloseWriter(close) => stream.close_writer(close, connection, now),
            Kind::Next(next) => return stream.next(next, connection, now),
            Kind::Release(release) => stream.release(release, connection, now),
            Kind::Commit(commit) => stream.commit(commit, connection, now),
            Kind::CloseReader(close) => stream.close_reader(close),
            Kind::Describe(_) => Ok(stream.describe()),
            _ => Err(Refused::new(Reason::Malformed, "not a request to a home")),
        };
        answer.into()
    }

    fn open_writer(
        &mut self,
        open: &OpenWriter,
        connection: ConnectionId,
        now: Time,
    ) -> Result<Kind, Refused> {
        check_supported(open)?;
        if !self.streams.contains_key(&open.stream) && self.streams.len() >= limits::STREAMS_LIMIT {
            return Err(Refused::new(
                Reason::TooMany,
                "this server is home to too many streams",
            ));
        }
        let (life, planted) = (self.incarnation, self.planted);
        let stream = self
            .streams
            .entry(open.stream.clone())
            .or_insert_with(|| Stream::new(&open.stream, life, planted));
        let mut opened = stream.open_writer(open, connection, now)?;
        opened.map = Some(self.map.clone());
        Ok(Kind::WriterOpened(opened))
    }

    /// A stream that is not here was either never here or lost.
    fn no_stream(&self, name: &str, kind: &Kind) -> Refused {
        match life_of(kind) {
            Some(life) if life != self.incarnation => Refused::new(
                Reason::StreamLost,
                format!("the home of {name} was restarted and has lost the stream; open it again"),
            ),
            _ => Refused::new(
                Reason::UnknownStream,
                format!("there is no stream {name} here"),
            ),
        }
    }

    /// Asks the requests that wait for a stream again, until nothing changes.
    fn wake(&mut self, name: &str, answers: &mut Answers) {
        let mut again = true;
        while again {
            again = false;
            let mut waiting = self.waiting.remove(name).unwrap_or_default();
            waiting.retain(|key| {
                let Some(pending) = self.pending.remove(key) else {
                    return false;
                };
                // A waiting request is a sign of life as of its arrival only.
                match self.ask(name, &pending.kind, key.0, pending.arrived) {
                    Outcome::Answer(kind) => {
                        answers.push((key.0, key.1, kind));
                        again = true;
                        false
                    }
                    Outcome::Ignore => false,
                    Outcome::Wait(waiting_for) => {
                        self.pending.insert(
                            *key,
                            Pending {
                                waiting_for,
                                ..pending
                            },
                        );
                        true
                    }
                }
            });
            if !waiting.is_empty() {
                self.waiting.insert(name.to_owned(), waiting);
            }
        }
    }

    /// The answer to a request whose time is over.
    fn not_yet(&mut self, kind: &Kind, name: &str, waiting_for: String) -> Kind {
        let stream = self.streams.get_mut(name);
        match (kind, stream) {
            (Kind::Begin(_), Some(stream)) => {
                stream.blocked = None;
                stream.began(Decision::Wait, waiting_for)
            }
            (Kind::AwaitSeal(wait), Some(stream)) => stream.fate_answer(StepFate::Open, wait.step),
            (Kind::Next(next), Some(stream)) if next.wait_ms > 0 => {
                stream.waited(next, waiting_for)
            }
            (_, stream) => Kind::NoStep(NoStep {
                reason: NoStepReason::NotYet as i32,
                step: None,
                epoch: stream.map_or(0, |stream| stream.ledger.epoch),
                waiting_for,
            }),
        }
    }

    /// A client says that it lives.
    pub(super) fn alive(&mut self, alive: &Alive, connection: ConnectionId, now: Time) {
        if let Some(stream) = self.streams.get_mut(&alive.stream) {
            stream.alive(alive.instance, connection, now);
        }
    }

    /// A connection has ended: what it waited for is dropped, whom it spoke
    /// for has the grace to come back.
    pub(super) fn disconnected(&mut self, connection: ConnectionId, now: Time) {
        let mine = (connection, 0)..=(connection, u64::MAX);
        for (key, pending) in self
            .pending
            .extract_if(mine, |_, _| true)
            .collect::<Vec<_>>()
        {
            if let Some(waiting) = self.waiting.get_mut(&pending.stream) {
                waiting.retain(|other| *other != key);
            }
            if let (Kind::Begin(_), Some(stream)) =
                (&pending.kind, self.streams.get_mut(&pending.stream))
            {
                stream.blocked = None;
            }
        }
        let mut touched = Vec::new();
        for (name, stream) in &mut self.streams {
            if stream.disconnected(connection, now) {
                touched.push(name.clone());
            }
        }
        touched.iter().for_each(|name| self.watch(name));
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time, answers: &mut Answers) {
        if self.tick_at.is_none_or(|tick| tick > now) {
            return;
        }
        let mut changed = Vec::new();
        for (name, stream) in &mut self.streams {
            if stream.expire(self.grace, now) {
                changed.push(name.clone());
            }
        }
        changed.iter().for_each(|name| self.wake(name, answers));
        if !self.planted.has(Mutant::ForgetPending) {
            self.answer_overdue(now, answers);
        }
        self.tick_at = self
            .pending
            .values()
            .map(|pending| pending.until)
            .chain(
                self.streams
                    .values()
                    .filter_map(|stream| stream.next_expiry(self.grace)),
            )
            .filter(|until| *until > now)
            .min();
    }

    fn answer_overdue(&mut self, now: Time, answers: &mut Answers) {
        for (key, pending) in self
            .pending
            .extract_if(.., |_, pending| pending.until <= now)
            .collect::<Vec<_>>()
        {
            if let Some(waiting) = self.waiting.get_mut(&pending.stream) {
                waiting.retain(|other| *other != key);
            }
            let answer = self.not_yet(&pending.kind, &pending.stream, pending.waiting_for);
            answers.push((key.0, key.1, answer));
        }
    }

    /// Sees to it that a stream's next expiry is noticed.
    fn watch(&mut self, name: &str) {
        let expiry = self
            .streams
            .get(name)
            .and_then(|stream| stream.next_expiry(self.grace));
        self.tick_at = match (self.tick_at, expiry) {
            (Some(tick), Some(expiry)) => Some(tick.min(expiry)),
            (tick, expiry) => tick.or(expiry),
        };
    }
}

fn open_reader(
    stream: &mut Stream,
    open: &OpenReader,
    map: Map,
    connection: ConnectionId,
    now: Time,
) -> Result<Kind, Refused> {
    let mut opened = stream.open_reader(open, connection, now)?;
    opened.map = Some(map);
    Ok(Kind::ReaderOpened(opened))
}

fn run_of(kind: &Kind) -> Option<&Run> {
    match kind {
        Kind::Define(define) => define.run.as_ref(),
        Kind::Begin(begin) => begin.run.as_ref(),
        Kind::End(end) => end.run.as_ref(),
        Kind::Abort(abort) => abort.run.as_ref(),
        Kind::AwaitSeal(wait) => wait.run.as_ref(),
        Kind::CloseWriter(close) => close.run.as_ref(),
        Kind::Release(release) => release.run.as_ref(),
        Kind::Commit(commit) => commit.run.as_ref(),
        _ => None,
    }
}

fn stream_of(kind: &Kind) -> Option<&str> {
    match kind {
        Kind::OpenWriter(open) => Some(&open.stream),
        Kind::OpenReader(open) => Some(&open.stream),
        Kind::Next(next) => Some(&next.stream),
        Kind::CloseReader(close) => Some(&close.stream),
        Kind::Describe(describe) => Some(&describe.stream),
        _ => run_of(kind).map(|run| run.stream.as_str()),
    }
}

fn life_of(kind: &Kind) -> Option<u64> {
    match kind {
        Kind::Next(next) => Some(next.life),
        Kind::CloseReader(close) => Some(close.life),
        _ => run_of(kind).map(|run| run.life),
    }
}

fn wait_of(kind: &Kind) -> Duration {
    Duration::from_millis(match kind {
        Kind::Begin(begin) => begin.wait_ms,
        Kind::AwaitSeal(wait) => wait.wait_ms,
        Kind::OpenReader(open) => open.wait_ms,
        Kind::Next(next) => next.wait_ms,
        _ => 0,
    })
}
