//! The reader root's machine: what the group was told of, holds and waits for.
//!
//! [`Subscriber::join`] is what to greet a writer with, at first and whenever
//! the driver has found another life of it; what comes over the new link
//! begins with its `Welcome`.

use super::limits::MAX_HELD_STEPS;
use super::message::{Join, Position, ReaderMessage, RefusedWhy, WriterMessage};
use super::mutant::{Mutant, Planted};
use crate::engine::Start;
use panta_transports::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// What a subscriber is given at start.
#[derive(Clone, Debug, Default)]
pub struct SubscriberOptions {
    /// The group, for errors.
    pub name: String,
    /// Where it begins.
    pub start: Start,
    /// It wants the newest step each time.
    pub latest_only: bool,
    /// How often to say that it lives; `None`: the driver does.
    pub alive_every: Option<Duration>,
}

/// What happens to a subscriber.
#[derive(Clone, Debug)]
pub enum SubscriberEvent<'a> {
    /// A message of the writer has come.
    Message(&'a WriterMessage),
    /// The application waits for the next step. Answered, now or later, by
    /// exactly one of the actions from `Deliver` to `Fenced`.
    Next,
    /// The wait is over; answered by `NotReady` if it had no answer yet.
    GiveUp,
    /// What the ranks hold of the steps delivered; the others are released.
    Held {
        /// The steps, ascending.
        steps: &'a [u64],
    },
    /// No rank holds this step any more.
    Released {
        /// The step.
        step: u64,
    },
    /// Everything up to a delivered step is dealt with. Answered by `Committed`.
    Commit {
        /// Under which name.
        cursor: &'a str,
        /// Up to where.
        at: Position,
    },
    /// The link has ended.
    Lost {
        /// Whether steps that were announced can still be read.
        readable: bool,
    },
    /// The application is done; what it holds is under `Leave`.
    Close,
    /// Time has passed.
    Tick,
}

/// What a subscriber wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum SubscriberAction {
    /// Send a message to the writer.
    Send(ReaderMessage),
    /// The next step.
    Deliver {
        /// Which.
        at: Position,
    },
    /// The stream is closed and every step was delivered.
    Ended,
    /// The writer is lost and every step that can be read was delivered. Also
    /// the answer to every later `Next`, unless another life welcomes the group.
    WriterLost {
        /// The last step it is known to have sealed.
        last_sealed: Option<u64>,
    },
    /// None came by the deadline.
    NotReady,
    /// Steps are gone; the next answer goes on with the oldest held.
    Trimmed {
        /// The oldest held.
        oldest: Option<u64>,
    },
    /// Steps that the application has seen are withdrawn.
    RolledBack {
        /// The last that still holds.
        to: Option<u64>,
    },
    /// The writer waits for what the application holds.
    WouldDeadlock {
        /// Bytes held, on the writer rank that lacks room.
        held_bytes: u64,
        /// Bytes allowed there.
        limit_bytes: u64,
    },
    /// The writer does not take the group. Also the answer to every later `Next`.
    Refused {
        /// Why.
        why: RefusedWhy,
    },
    /// The writer has excluded the group. Also the answer to every later `Next`,
    /// unless the group joins again.
    Fenced,
    /// A step that was announced will not be delivered; its metadata may go.
    Forget {
        /// Which.
        at: Position,
    },
    /// The answer to `Commit`.
    Committed {
        /// Up to where.
        at: Position,
        /// Whether the writer remembers.
        remembered: bool,
    },
    /// The writer broke the protocol: end the link, with `Lost`.
    Misbehaved {
        /// What it did.
        what: &'static str,
    },
}

/// What is to be answered to `Next`, in this order.
#[derive(Clone, Copy, Debug)]
enum Item {
    Step(Held),
    Trimmed(Option<u64>),
    RolledBack(Option<u64>),
}

/// A step that the group was told of.
#[derive(Clone, Copy, Debug)]
struct Held {
    at: Position,
    /// Over which link, counted from 1.
    link: u64,
}

/// How the group stands with its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// No writer has welcomed it, or its link is lost and was never more.
    Unlinked,
    Linked,
    Lost,
    Refused(RefusedWhy),
    Fenced,
    Left,
}

/// See the module.
#[derive(Debug)]
pub struct Subscriber {
    options: SubscriberOptions,
    standing: Standing,
    link: u64,
    pull: bool,
    limit_bytes: u64,
    inbox: VecDeque<Item>,
    /// Delivered and not released, ascending.
    held: Vec<Held>,
    /// The last step that was announced and stands.
    seen: Option<Position>,
    /// The highest step delivered that stands.
    delivered: Option<Position>,
    /// The newest step known to be sealed.
    newest: Option<u64>,
    /// The writer has closed.
    closed: bool,
    /// `Next` has no answer yet.
    waiting: bool,
    /// `Ask` has no answer yet.
    asked: bool,
    said_waiting: bool,
    /// `Announced` heard over this link.
    heard: u64,
    /// `Release` sent over this link.
    releases: u64,
    /// Bytes held when the writer was last known to be blocked by this group.
    blocked: Option<u64>,
    commits: Vec<Position>,
    alive_at: Option<Time>,
    planted: Planted,
}

impl Subscriber {
    /// A subscriber that no writer has welcomed.
    #[must_use]
    pub fn new(options: SubscriberOptions) -> Self {
        Self {
            options,
            standing: Standing::Unlinked,
            link: 0,
            pull: false,
            limit_bytes: 0,
            inbox: VecDeque::new(),
            held: Vec::new(),
            seen: None,
            delivered: None,
            newest: None,
            closed: false,
            waiting: false,
            asked: false,
            said_waiting: false,
            heard: 0,
            releases: 0,
            blocked: None,
            commits: Vec::new(),
            alive_at: None,
            planted: Planted::default(),
        }
    }

    /// Plants a bug.
    #[cfg(feature = "mutants")]
    #[doc(hidden)]
    pub fn plant(&mut self, mutant: Mutant) {
        self.planted = Planted::with(mutant);
    }

    /// What to greet a writer with, now.
    #[must_use]
    pub fn join(&self) -> Join {
        Join {
            name: self.options.name.clone(),
            start: self.options.start.clone(),
            latest_only: self.options.latest_only,
            seen: self.seen,
        }
    }

    /// Takes `event` at `now` and appends what is to be done to `actions`.
    /// Time never goes back from one call to the next.
    pub fn handle(
        &mut self,
        event: SubscriberEvent<'_>,
        now: Time,
        actions: &mut Vec<SubscriberAction>,
    ) {
        match event {
            SubscriberEvent::Message(message) => self.message(message, now, actions),
            SubscriberEvent::Next => self.waiting = true,
            SubscriberEvent::GiveUp => self.give_up(actions),
            SubscriberEvent::Held { steps } => {
                let mut index = 0;
                while let Some(held) = self.held.get(index).copied() {
                    if steps.binary_search(&held.at.step).is_ok() {
                        index += 1;
                    } else {
                        self.held.remove(index);
                        self.release(held, actions);
                    }
                }
            }
            SubscriberEvent::Released { step } => {
                if let Ok(index) = self.held.binary_search_by_key(&step, |held| held.at.step) {
                    let held = self.held.remove(index);
                    self.release(held, actions);
                }
            }
            SubscriberEvent::Commit { cursor, at } => self.commit(cursor, at, actions),
            SubscriberEvent::Lost { readable } => self.lost(readable, actions),
            SubscriberEvent::Close => self.close(actions),
            SubscriberEvent::Tick => {}
        }
        if self.waiting {
            self.serve(actions);
        }
        self.show_life(now, actions);
    }

    /// When the machine wants a tick at the latest; to be asked again after
    /// every event.
    #[must_use]
    pub fn next_tick(&self) -> Option<Time> {
        self.alive_at
    }

    /// The steps delivered and not released, ascending.
    pub fn held(&self) -> impl Iterator<Item = Position> + '_ {
        self.held.iter().map(|held| held.at)
    }

    fn is_linked(&self) -> bool {
        self.standing == Standing::Linked
    }

    fn message(&mut self, message: &WriterMessage, now: Time, actions: &mut Vec<SubscriberAction>) {
        if let WriterMessage::Welcome {
            pull,
            limit_bytes,
            newest,
            ..
        } = message
        {
            self.welcome(*pull, *limit_bytes, *newest, now);
            return;
        }
        if let WriterMessage::Refused { why } = message {
            self.standing = Standing::Refused(*why);
            return;
        }
        if !self.is_linked() {
            return;
        }
        match message {
            WriterMessage::Announced { at, newest } => self.announced(*at, *newest, actions),
            WriterMessage::Trimmed { oldest } => self.inbox.push_back(Item::Trimmed(*oldest)),
            WriterMessage::RolledBack { to } => self.rolled_back(*to, actions),
            WriterMessage::Blocked {
                held_bytes,
                releases,
            } => {
                if *releases == self.releases && !self.planted.has(Mutant::MissDeadlock) {
                    self.blocked = Some(*held_bytes);
                }
            }
            WriterMessage::Committed { at } => self.committed(*at, true, actions),
            WriterMessage::NotCommitted { at } => self.committed(*at, false, actions),
            WriterMessage::Closed { last } => {
                self.closed = true;
                self.blocked = None;
                self.newest = self.newest.max(*last);
            }
            WriterMessage::Fenced => {
                self.standing = Standing::Fenced;
                self.unlink(false, actions);
            }
            WriterMessage::Welcome { .. } | WriterMessage::Refused { .. } => {}
        }
    }

    fn welcome(&mut self, pull: bool, limit_bytes: u64, newest: Option<u64>, now: Time) {
        self.standing = Standing::Linked;
        self.link += 1;
        self.pull = pull;
        self.limit_bytes = limit_bytes;
        self.newest = newest;
        self.closed = false;
        self.asked = false;
        self.said_waiting = false;
        self.heard = 0;
        self.releases = 0;
        self.blocked = None;
        self.alive_at = self.options.alive_every.map(|every| now.after(every));
    }

    fn announced(&mut self, at: Position, newest: u64, actions: &mut Vec<SubscriberAction>) {
        let link = self.link;
        let is_it = |held: &Held| held.link == link && held.at.step == at.step;
        // Steps come in ascending order but for those of other groups that are lost.
        let again = self.seen.is_some_and(|seen| seen.step >= at.step)
            && (self.held.iter().any(is_it)
                || self
                    .inbox
                    .iter()
                    .any(|item| matches!(item, Item::Step(held) if is_it(held))));
        if again || self.inbox.len() >= MAX_HELD_STEPS {
            let what = if again {
                "it announced a step that the group has"
            } else {
                "it announced too many steps"
            };
            actions.push(SubscriberAction::Misbehaved { what });
            return;
        }
        self.heard += 1;
        self.asked = false;
        self.said_waiting = false;
        self.blocked = None;
        self.newest = self.newest.max(Some(newest)).max(Some(at.step));
        if self.seen.is_none_or(|seen| seen.step < at.step) {
            self.seen = Some(at);
        }
        self.inbox.push_back(Item::Step(Held { at, link }));
    }

    /// Another life of the writer went back: what came from earlier links and
    /// lies after `to` is withdrawn.
    fn rolled_back(&mut self, to: Option<u64>, actions: &mut Vec<SubscriberAction>) {
        let stands = |step: u64| to.is_some_and(|to| step <= to);
        let link = self.link;
        self.inbox.retain(|item| match item {
            Item::Step(held) if held.link < link && !stands(held.at.step) => {
                actions.push(SubscriberAction::Forget { at: held.at });
                false
            }
            _ => true,
        });
        if self.seen.is_some_and(|seen| !stands(seen.step)) {
            self.seen = to.and_then(|step| {
                let epoch = self.seen?.epoch;
                Some(Position { epoch, step })
            });
        }
        if let Some(Position { epoch, step }) = self.delivered
            && !stands(step)
        {
            self.delivered = to.map(|step| Position { epoch, step });
            self.inbox.push_back(Item::RolledBack(to));
        }
    }

    /// Answers `Next`, or asks for what it waits for.
    fn serve(&mut self, actions: &mut Vec<SubscriberAction>) {
        let answer = match self.inbox.pop_front() {
            Some(Item::Step(held)) => Some(self.deliver(held, actions)),
            Some(Item::Trimmed(oldest)) => Some(SubscriberAction::Trimmed { oldest }),
            Some(Item::RolledBack(to)) => Some(SubscriberAction::RolledBack { to }),
            None => self.end(),
        };
        if let Some(answer) = answer {
            self.waiting = false;
            actions.push(answer);
        } else if self.is_linked() {
            let heard = self.heard;
            if self.pull && !self.asked {
                self.asked = true;
                actions.push(SubscriberAction::Send(ReaderMessage::Ask { heard }));
            } else if !self.pull && !self.held.is_empty() && !self.said_waiting {
                self.said_waiting = true;
                actions.push(SubscriberAction::Send(ReaderMessage::Waiting { heard }));
            }
        }
    }

    fn deliver(&mut self, held: Held, actions: &mut Vec<SubscriberAction>) -> SubscriberAction {
        let step = held.at.step;
        if self.delivered.is_none_or(|highest| highest.step < step) {
            self.delivered = Some(held.at);
        }
        if self.planted.has(Mutant::ReleaseEarly) {
            self.release(held, actions);
        } else {
            let place = self.held.partition_point(|other| other.at.step < step);
            self.held.insert(place, held);
        }
        SubscriberAction::Deliver { at: held.at }
    }

    /// Why no step will come, if none will.
    fn end(&self) -> Option<SubscriberAction> {
        if self.closed {
            return Some(SubscriberAction::Ended);
        }
        match self.standing {
            Standing::Linked => {
                let held_bytes = self.blocked.filter(|_| !self.held.is_empty())?;
                Some(SubscriberAction::WouldDeadlock {
                    held_bytes,
                    limit_bytes: self.limit_bytes,
                })
            }
            Standing::Lost => Some(SubscriberAction::WriterLost {
                last_sealed: self.newest,
            }),
            Standing::Refused(why) => Some(SubscriberAction::Refused { why }),
            Standing::Fenced => Some(SubscriberAction::Fenced),
            Standing::Left => Some(SubscriberAction::Ended),
            Standing::Unlinked => None,
        }
    }

    fn release(&mut self, held: Held, actions: &mut Vec<SubscriberAction>) {
        // Nobody else knows of what an earlier link announced.
        if self.is_linked() && held.link == self.link {
            self.releases += 1;
            self.blocked = None;
            let step = held.at.step;
            actions.push(SubscriberAction::Send(ReaderMessage::Release { step }));
        }
    }

    fn give_up(&mut self, actions: &mut Vec<SubscriberAction>) {
        if !self.waiting {
            return;
        }
        self.waiting = false;
        actions.push(SubscriberAction::NotReady);
        // The newest step now is not what the group wants when it asks again.
        if self.options.latest_only && self.asked && self.is_linked() {
            self.asked = false;
            actions.push(SubscriberAction::Send(ReaderMessage::Withdraw));
        }
    }

    fn commit(&mut self, cursor: &str, at: Position, actions: &mut Vec<SubscriberAction>) {
        if self.is_linked() {
            self.commits.push(at);
            actions.push(SubscriberAction::Send(ReaderMessage::Commit {
                cursor: cursor.to_owned(),
                at,
            }));
        } else {
            let remembered = false;
            actions.push(SubscriberAction::Committed { at, remembered });
        }
    }

    fn committed(&mut self, at: Position, remembered: bool, actions: &mut Vec<SubscriberAction>) {
        if let Some(index) = self.commits.iter().position(|commit| *commit == at) {
            self.commits.remove(index);
            actions.push(SubscriberAction::Committed { at, remembered });
        }
    }

    fn lost(&mut self, readable: bool, actions: &mut Vec<SubscriberAction>) {
        if matches!(self.standing, Standing::Linked | Standing::Unlinked) {
            self.standing = Standing::Lost;
        }
        self.unlink(readable || self.planted.has(Mutant::DeliverGone), actions);
    }

    fn unlink(&mut self, readable: bool, actions: &mut Vec<SubscriberAction>) {
        self.alive_at = None;
        self.asked = false;
        self.blocked = None;
        for at in std::mem::take(&mut self.commits) {
            let remembered = false;
            actions.push(SubscriberAction::Committed { at, remembered });
        }
        if readable {
            return;
        }
        let link = self.link;
        let steps = self.inbox.len();
        self.inbox.retain(|item| match item {
            Item::Step(held) if held.link == link => {
                actions.push(SubscriberAction::Forget { at: held.at });
                false
            }
            _ => true,
        });
        if steps != self.inbox.len() {
            // A stream whose last steps are lost has not ended, and another
            // life may still have them.
            self.closed = false;
            let kept = self.inbox.iter().filter_map(|item| match item {
                Item::Step(held) => Some(held.at),
                _ => None,
            });
            self.seen = kept.max_by_key(|at| at.step).or(self.delivered);
        }
    }

    fn close(&mut self, actions: &mut Vec<SubscriberAction>) {
        if self.is_linked() {
            let link = self.link;
            let held = self.held.iter().filter(|held| held.link == link);
            let held = held.map(|held| held.at.step).collect();
            actions.push(SubscriberAction::Send(ReaderMessage::Leave { held }));
        }
        self.standing = Standing::Left;
        self.unlink(false, actions);
    }

    fn show_life(&mut self, now: Time, actions: &mut Vec<SubscriberAction>) {
        if let (Some(at), Some(every)) = (self.alive_at, self.options.alive_every)
            && at <= now
        {
            self.alive_at = Some(now.after(every));
            actions.push(SubscriberAction::Send(ReaderMessage::Alive));
        }
    }
}
