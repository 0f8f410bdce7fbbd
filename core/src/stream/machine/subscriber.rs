//! The reader root's machine: what the group was told of, holds and waits for.
//!
//! [`Subscriber::join`] is what to greet a writer with, at first and whenever
//! the driver has found another life of it; what comes over the new link
//! begins with its `Welcome`.

use super::message::{Join, Position, ReaderMessage, RefusedWhy, WriterMessage};
use crate::engine::Start;
use panta_transports::time::Time;
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

/// See the module.
#[derive(Debug)]
pub struct Subscriber {
    options: SubscriberOptions,
}

impl Subscriber {
    /// A subscriber that no writer has welcomed.
    #[must_use]
    pub fn new(options: SubscriberOptions) -> Self {
        Self { options }
    }

    /// What to greet a writer with, now.
    #[must_use]
    pub fn join(&self) -> Join {
        Join {
            name: self.options.name.clone(),
            start: self.options.start.clone(),
            latest_only: self.options.latest_only,
            seen: None,
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
        let _ = (event, now, actions);
    }

    /// When the machine wants a tick at the latest; to be asked again after
    /// every event.
    #[must_use]
    pub fn next_tick(&self) -> Option<Time> {
        None
    }

    /// The steps delivered and not released, ascending.
    pub fn held(&self) -> impl Iterator<Item = Position> + '_ {
        std::iter::empty()
    }
}
