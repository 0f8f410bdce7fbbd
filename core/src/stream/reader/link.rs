//! The reader root: the subscriber, and its link to the writer root.
//!
//! ```text
//!   next ── Held, Next ──> Subscriber ──Send──> Peer ──> writer root
//!        <── Deliver ────────  ^  <──Message──  Peer <──
//! ```
//! What is to be said at one time is one message. Whoever calls drives: nothing happens between two calls but heartbeats, and where the
//! program makes progress by hand not even those. When the link ends, another life of the
//! writer is looked for.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use panta_transports::coupling::{CouplingError, Lost, Peer, TransportName, Urgency};
use panta_transports::time::{Interrupt, Time, Wait, WaitError};

use super::super::machine::limits::{MAX_CURSORS, MAX_GROUPS};
use super::super::machine::{
    Position, ReaderMessage, RefusedWhy, Subscriber, SubscriberAction, SubscriberEvent,
    WriterMessage,
};
use super::super::message::relay;
use super::find::{Finder, Joined};
use super::{Released, locked};
use crate::codec::{Coded, Decoder, Encoder};
use crate::engine::EngineInfo;
use crate::error::{Failure, Fault, NextError, Place};
use crate::model::StepHead;
use crate::notice::Notice;
use crate::ordered::Ordered;

/// The subscriber is not asked to show life, which the link does by itself: it asks for
/// no tick, and no clock is looked at for it.
const NO_TIME: Time = Time(0);

/// Memory of messages kept for those to come, at most.
const MAX_SPARE: usize = 4;

/// The longest a word to the writer may take, where nobody waits for it.
const SAY_LIMIT: std::time::Duration = std::time::Duration::from_secs(2);

/// How long it listens before it looks whether another thread let go of a step.
const LISTEN_LIMIT: std::time::Duration = std::time::Duration::from_millis(20);

/// How often the link is to be looked after by who waits for a notice: silence gives none.
const NOTICE_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

/// How long other ranks may take to finish what they read when the root leaves.
const LEAVE_LIMIT: std::time::Duration = std::time::Duration::from_secs(2);

/// See the module.
pub(super) struct Link {
    place: Place,
    finder: Finder,
    subscriber: Subscriber,
    released: Released,
    actions: Vec<SubscriberAction>,
    joined: Joined,
    /// Whether the subscriber knows that the link has ended.
    ended: bool,
    /// Whether the ranks know of the life that was joined.
    life_told: bool,
    /// Of steps that were announced and not delivered, the message.
    announced: Ordered<Position, Vec<u8>>,
    /// Messages that will not be delivered, but that later ones refer to.
    skipped: Vec<Vec<u8>>,
    /// Answers to the application that nobody has taken.
    answers: VecDeque<SubscriberAction>,
    /// What is being heard, and said; kept for their memory.
    buffer: Vec<u8>,
    saying: Encoder,
    /// Whether the writer is to hear of that before it looks by itself.
    urgency: Urgency,
    /// Memory of messages that are dealt with, for those to come.
    spare: Vec<Vec<u8>>,
    /// What is said without anybody waiting is not interrupted.
    never: Interrupt,
    /// Of a reader that was asked for one.
    notice: Option<Arc<Notice>>,
}

/// Has a notice hear what the writer says.
fn hear(notice: &Notice, peer: &Peer) -> io::Result<()> {
    let mut heard = Ok(());
    peer.hear(&mut |through| heard = notice.hear(through));
    heard
}

impl Link {
    pub(super) fn new(
        place: Place,
        (finder, joined): (Finder, Joined),
        subscriber: Subscriber,
        released: Released,
    ) -> Self {
        finder.keep_alive(&joined.peer);
        Self {
            place,
            finder,
            subscriber,
            released,
            actions: Vec::new(),
            joined,
            ended: false,
            life_told: false,
            skipped: Vec::new(),
            announced: Ordered::default(),
            answers: VecDeque::new(),
            buffer: Vec::new(),
            saying: Encoder::default(),
            urgency: Urgency::WhenPolled,
            spare: Vec::new(),
            never: Interrupt::default(),
            notice: None,
        }
    }

    /// This is how other ranks of the group reach this one.
    pub(super) fn reached_by(&mut self, reach: Vec<u8>) {
        self.joined.root = reach;
    }

    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.joined.peer
    }

    /// Shows that this side lives, where no thread does.
    pub(super) fn progress(&self) -> Result<(), Fault> {
        self.joined.peer.progress();
        if let Some(notice) = &self.notice {
            notice.ticked();
        }
        let away = self.joined.peer.away();
        away.map_or(Ok(()), |away| Err(away.into()))
    }

    pub(super) fn info(&self) -> EngineInfo {
        let info = self.joined.peer.info();
        EngineInfo {
            engine: "stream",
            transport: info.transport.name().into(),
            why: format!("{}; writer at {}", info.why, info.address),
        }
    }

    fn feed(&mut self, event: SubscriberEvent<'_>) {
        self.take(event);
        self.say();
    }

    /// Has the subscriber take an event; what it has to say is said by [`say`](Self::say).
    fn take(&mut self, event: SubscriberEvent<'_>) {
        self.subscriber.handle(event, NO_TIME, &mut self.actions);
        if self.actions.is_empty() {
            return;
        }
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.carry_out(action);
        }
        if self.actions.capacity() == 0 {
            self.actions = actions;
        }
    }

    fn carry_out(&mut self, action: SubscriberAction) {
        match action {
            SubscriberAction::Send(message) => {
                message.encode(&mut self.saying);
                // A writer that needs the room looks by itself.
                if !matches!(message, ReaderMessage::Release { .. }) {
                    self.urgency = Urgency::Now;
                }
            }
            SubscriberAction::Forget { at } => {
                self.skipped.extend(self.announced.remove(at));
            }
            SubscriberAction::Misbehaved { what } => {
                tracing::warn!(stream = %self.place.stream, what, "the writer broke the protocol");
                self.lose(false);
            }
            answer => self.answers.push_back(answer),
        }
    }

    /// Says what there is to say.
    fn say(&mut self) {
        if self.saying.so_far().is_empty() {
            return;
        }
        let urgency = std::mem::replace(&mut self.urgency, Urgency::WhenPolled);
        if !self.ended {
            let wait = Wait::new(SAY_LIMIT, &self.never);
            let words = [self.saying.so_far()];
            // That the link has ended shows when it is listened to.
            let _ = self.joined.peer.send(&words, urgency, &wait);
        }
        self.saying.restart();
    }

    /// The link has ended.
    fn lose(&mut self, readable: bool) {
        if !std::mem::replace(&mut self.ended, true) {
            self.feed(SubscriberEvent::Lost { readable });
        }
    }

    /// Says which steps are held by nobody any more.
    pub(super) fn tell_released(&mut self) {
        self.take_released();
        self.say();
    }

    fn take_released(&mut self) {
        loop {
            let next = locked(&self.released).pop();
            let Some(at) = next else {
                return;
            };
            self.take(SubscriberEvent::Released { step: at.step });
        }
    }

    /// Takes one message in, waiting for it.
    fn listen(&mut self, wait: &Wait) -> Result<(), WaitError> {
        let received = self.joined.peer.receive(&mut self.buffer, wait);
        self.received(received.map(|()| true)).map(|_| ())
    }

    /// Takes in a message that is there already.
    fn listen_at_once(&mut self) -> Result<bool, WaitError> {
        let received = self.joined.peer.try_receive(&mut self.buffer);
        self.received(received)
    }

    /// Whether anything has come: a message, or the end of the link.
    fn received(&mut self, received: Result<bool, CouplingError>) -> Result<bool, WaitError> {
        match received {
            Ok(false) => Ok(false),
            Ok(true) => {
                if let Err(problem) = self.hear() {
                    tracing::warn!(stream = %self.place.stream, %problem, "the writer's message");
                    self.lose(false);
                }
                Ok(true)
            }
            Err(CouplingError::NotReady { source, .. }) => Err(source),
            Err(error) => {
                // What lies in shared memory stays for as long as it is mapped.
                let silent = matches!(
                    &error,
                    CouplingError::Lost {
                        why: Lost::Silent { .. },
                        ..
                    }
                );
                let shared = self.joined.peer.info().transport == TransportName::Shm;
                self.lose(shared && !silent);
                Ok(true)
            }
        }
    }

    /// Takes in what has come.
    fn hear(&mut self) -> Result<(), crate::codec::DecodeError> {
        let mut from = Decoder::new(&self.buffer);
        let message = WriterMessage::decode(&mut from)?;
        if let WriterMessage::Announced { at, .. } = &message {
            let spare = self.spare.pop().unwrap_or_default();
            let announced = std::mem::replace(&mut self.buffer, spare);
            self.announced.insert(*at, announced);
        } else {
            from.finish()?;
        }
        self.feed(SubscriberEvent::Message(&message));
        Ok(())
    }

    /// What becomes readable when the writer says something.
    pub(super) fn notice(&mut self) -> io::Result<Arc<Notice>> {
        if let Some(notice) = &self.notice {
            return Ok(Arc::clone(notice));
        }
        let every = match self.joined.peer.silence() {
            Some(silence) => NOTICE_EVERY.min(silence / 4),
            None => NOTICE_EVERY,
        };
        let made = Arc::new(Notice::new(every)?);
        hear(&made, &self.joined.peer)?;
        Ok(Arc::clone(self.notice.insert(made)))
    }

    /// The next step's announcement for this group's ranks, into `into`; false at the end.
    pub(super) fn next(
        &mut self,
        held: Option<&[u64]>,
        into: &mut Vec<u8>,
        wait: &Wait,
    ) -> Result<bool, NextError> {
        let answer = self.listen_for_next(held, into, wait);
        if let Some(notice) = &self.notice {
            let is_ready = !matches!(answer, Err(NextError::NotReady { .. }));
            notice.answered(is_ready || self.joined.peer.arm());
        }
        answer
    }

    fn listen_for_next(
        &mut self,
        held: Option<&[u64]>,
        into: &mut Vec<u8>,
        wait: &Wait,
    ) -> Result<bool, NextError> {
        self.answers.clear();
        self.take_released();
        if let Some(steps) = held {
            self.take(SubscriberEvent::Held { steps });
        }
        self.feed(SubscriberEvent::Next);
        loop {
            while let Some(answer) = self.answers.pop_front() {
                match answer {
                    SubscriberAction::Committed { .. } => {}
                    SubscriberAction::WriterLost { last_sealed } => {
                        // It is this side that is held dead.
                        let here = self.progress();
                        here.map_err(|fault| fault.at(self.place.clone()))?;
                        if self.rejoin(wait)? {
                            self.feed(SubscriberEvent::Next);
                            continue;
                        }
                        return Err(NextError::WriterLost {
                            stream: self.place.stream.clone(),
                            last_sealed,
                        });
                    }
                    answer => return self.answered(answer, into, wait),
                }
            }
            if self.listen_at_once() == Ok(true) {
                continue;
            }
            self.tell_released();
            if let Err(error) = self.listen(&wait.at_most(LISTEN_LIMIT)) {
                let over = wait.slice().err();
                if self.answers.is_empty()
                    && let Some(over) = over
                {
                    self.feed(SubscriberEvent::GiveUp);
                    if error == WaitError::Interrupted || over == WaitError::Interrupted {
                        self.answers.clear();
                        return Err(self.interrupted(WaitError::Interrupted, wait));
                    }
                }
            }
        }
    }

    /// A wait for the next step that ended.
    fn interrupted(&self, error: WaitError, wait: &Wait) -> NextError {
        match error {
            WaitError::Deadline(_) => NextError::NotReady {
                stream: self.place.stream.clone(),
                after: wait.deadline().length(),
            },
            WaitError::Interrupted => {
                let fault = Fault::wait(error, "the next step");
                fault.at(self.place.clone()).into()
            }
        }
    }

    /// What the application gets for an answer of the subscriber.
    fn answered(
        &mut self,
        answer: SubscriberAction,
        into: &mut Vec<u8>,
        wait: &Wait,
    ) -> Result<bool, NextError> {
        let stream = || self.place.stream.clone();
        let refused = |why: String| -> NextError {
            let peer = "the writer".into();
            Fault::Refused { peer, why }.at(self.place.clone()).into()
        };
        match answer {
            SubscriberAction::Deliver { at } => {
                let announced = self.announced.remove(at);
                let mut announced = announced.ok_or_else(|| {
                    refused(format!("step {} came without its metadata", at.step))
                })?;
                let is_told = std::mem::replace(&mut self.life_told, true);
                if is_told && self.skipped.is_empty() {
                    std::mem::swap(into, &mut announced);
                } else {
                    let life = match is_told {
                        true => Vec::new(),
                        false => self.joined.life(),
                    };
                    let skipped = std::mem::take(&mut self.skipped);
                    *into = relay(&life, &skipped, &announced);
                }
                if self.spare.len() < MAX_SPARE {
                    self.spare.push(announced);
                }
                Ok(true)
            }
            SubscriberAction::Ended => Ok(false),
            SubscriberAction::NotReady => Err(NextError::NotReady {
                stream: stream(),
                after: wait.deadline().length(),
            }),
            SubscriberAction::Trimmed { oldest } => Err(NextError::Trimmed {
                stream: stream(),
                oldest,
            }),
            SubscriberAction::RolledBack { to } => Err(NextError::RolledBack {
                stream: stream(),
                to,
            }),
            SubscriberAction::WouldDeadlock {
                held_bytes,
                limit_bytes,
            } => Err(NextError::WouldDeadlock {
                stream: stream(),
                held_bytes,
                limit_bytes,
            }),
            SubscriberAction::Refused { why } => Err(refused(
                match why {
                    RefusedWhy::TooManyGroups => format!(
                        "it has {MAX_GROUPS} reader groups, as many as it takes; close one, or open the stream as one group of several ranks"
                    ),
                    RefusedWhy::TooManyCursors => format!(
                        "it remembers {MAX_CURSORS} cursors, as many as it takes; use the name of one of them, or start without"
                    ),
                    RefusedWhy::OldEpoch => {
                        "this reader has seen a later life of it; open the stream again".into()
                    }
                },
            )),
            SubscriberAction::Fenced => Err(refused(
                "it has excluded this reader, which was silent beyond its `lease`; open the stream again"
                    .into(),
            )),
            _ => Err(refused("an answer came that nobody asked for".into())),
        }
    }

    /// Joins a later life of the writer, if there is one.
    fn rejoin(&mut self, wait: &Wait) -> Result<bool, NextError> {
        let join = self.subscriber.join();
        let found = self.finder.successor(&self.joined.instance, join, wait);
        let found = found.map_err(|fault| fault.at(self.place.clone()))?;
        let Some(joined) = found else {
            return Ok(false);
        };
        let root = std::mem::take(&mut self.joined.root);
        self.finder.keep_alive(&joined.peer);
        self.joined = joined;
        self.joined.root = root;
        if let Some(notice) = &self.notice {
            hear(notice, &self.joined.peer).map_err(|error| {
                Fault::io("listening to another life of the writer", &error).at(self.place.clone())
            })?;
        }
        self.ended = false;
        self.announced.clear();
        self.skipped.clear();
        self.life_told = false;
        // Before its welcome the new life is not there.
        match self.listen(wait) {
            Ok(()) => Ok(!self.ended),
            Err(error) => Err(self.interrupted(error, wait)),
        }
    }

    /// Has the writer remember a position.
    pub(super) fn commit(
        &mut self,
        step: &StepHead,
        cursor: &str,
        wait: &Wait,
    ) -> Result<(), Failure> {
        let at = Position {
            epoch: step.epoch,
            step: step.step,
        };
        let place = self.place.clone().at_step(step.step);
        self.feed(SubscriberEvent::Commit { cursor, at });
        loop {
            let answers = std::mem::take(&mut self.answers);
            for answer in answers {
                match answer {
                    SubscriberAction::Committed {
                        at: done,
                        remembered,
                    } if done == at => {
                        if remembered {
                            return Ok(());
                        }
                        let fault = Fault::Refused {
                            peer: "the writer".into(),
                            why: format!(
                                "it remembers {MAX_CURSORS} cursors, as many as it takes, or is lost"
                            ),
                        };
                        return Err(fault.at(place));
                    }
                    other => self.answers.push_back(other),
                }
            }
            self.listen(wait).map_err(|error| {
                Fault::wait(error, "the writer to remember a cursor").at(place.clone())
            })?;
        }
    }

    /// Leaves the writer, which takes its steps back. `own` are those that this rank
    /// keeps; other ranks are given a while to finish what they are reading.
    pub(super) fn close(&mut self, own: &[u64], wait: &Wait) {
        let patience = wait.at_most(LEAVE_LIMIT);
        loop {
            self.tell_released();
            let mut held = self.subscriber.held();
            let others = held.any(|at| !own.contains(&at.step));
            drop(held);
            if !others || self.ended || patience.slice().is_err() {
                break;
            }
            // What comes meanwhile is of no use; that it comes is no reason to wait longer.
            let _ = self.listen(&patience.at_most(LISTEN_LIMIT));
        }
        self.feed(SubscriberEvent::Close);
        self.ended = true;
    }
}

#[cfg(test)]
mod tests;
