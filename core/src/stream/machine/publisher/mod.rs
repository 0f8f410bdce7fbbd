//! The writer root's machine: which steps are held, for whom, and who is told.
//!
//! The driver carries the actions out in their order. It begins a step with
//! [`PublisherEvent::Admit`] and waits for the answer, which comes at once or
//! out of a later call: every call that makes room tries again. It feeds a
//! tick whenever [`Publisher::next_tick`] has come.
//!
//! A step's memory is accounted from `Admitted` to `Free` or `Spill`. Both
//! come before the `Admitted` that needs the room: the ranks hear of all three
//! when the step begins, and let go before they take.

mod admission;
mod closing;
mod file;
mod groups;
mod machine;
mod membership;
mod steps;
#[cfg(test)]
mod tests;

pub use machine::Publisher;

use super::GroupId;
use super::message::{Join, Position, ReaderMessage, WriterMessage};
use crate::config::{Distribution, Policy};
use std::time::Duration;

/// A life of a writer, from one start to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its number, from 1.
    pub epoch: u64,
    /// The last step of earlier lives that stands; `None`: the stream began anew.
    pub after: Option<u64>,
}

/// A step of an earlier life of the writer that a spill file still holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recovered {
    /// Which.
    pub at: Position,
    /// Its simulation time.
    pub time: Option<f64>,
}

/// What a publisher is given at start.
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    /// This life of the writer.
    pub life: Life,
    /// Earlier lives, as far as they are known, for groups that have seen them.
    pub earlier: Vec<Life>,
    /// Bytes of steps in the memory of one rank, at most.
    pub limit_bytes: u64,
    /// Ranks of the writer group.
    pub ranks: usize,
    /// What to do when there is no room.
    pub policy: Policy,
    /// Which groups get a step.
    pub distribution: Distribution,
    /// Groups that must be there before the first step begins.
    pub rendezvous: usize,
    /// How many of the newest sealed steps are kept for late joiners, room
    /// permitting.
    pub retain_steps: u64,
    /// Of these no more than this many bytes over all ranks.
    pub retain_bytes: Option<u64>,
    /// The oldest step recovered, or, if there is none, the first that this life
    /// seals, is kept, and is the first that every joiner gets.
    pub precious_first: bool,
    /// Silence after which a group is fenced; `None`: the driver says when one
    /// is lost.
    pub lease: Option<Duration>,
    /// Steps of earlier lives that are still held, ascending.
    pub recovered: Vec<Recovered>,
    /// Cursors of earlier lives.
    pub cursors: Vec<(String, Position)>,
}

/// How a group was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Its root's process is no more: nobody looks at its steps.
    Died,
    /// The link ended without a `Leave`; somebody may still look.
    Closed,
    /// It was silent beyond the lease; it may wake up.
    Silent,
    /// It broke the protocol.
    Misbehaved,
}

/// What happens to a publisher.
#[derive(Clone, Debug)]
pub enum PublisherEvent<'a> {
    /// A reader group's link is there.
    Joined {
        /// The group.
        group: GroupId,
        /// What it wants.
        join: &'a Join,
    },
    /// A message of a group has come.
    Message {
        /// The group.
        group: GroupId,
        /// The message.
        message: &'a ReaderMessage,
    },
    /// A group showed that it lives, without a message.
    Heard {
        /// The group.
        group: GroupId,
    },
    /// A group's link has ended.
    Lost {
        /// The group.
        group: GroupId,
        /// How.
        how: Gone,
    },
    /// The application begins a step, or one that is open needs more than it
    /// reserved. Answered, now or later, by `Admitted`, `Discard` (not one that is
    /// open) or `TooLarge`, unless given up before.
    Admit {
        /// Its number, higher than all before, or that of the open one.
        step: u64,
        /// Bytes reserved by each rank.
        reserve_bytes: &'a [u64],
    },
    /// The wait for the answer to `Admit` is over; there will be none.
    GiveUp,
    /// An admitted step is whole. Steps are sealed in the order of their numbers.
    Sealed {
        /// The step.
        step: u64,
        /// Its simulation time.
        time: Option<f64>,
        /// Bytes it takes on each rank; not more than reserved.
        bytes: &'a [u64],
    },
    /// An admitted step was given up; its bytes are free, without an action.
    Aborted {
        /// The step.
        step: u64,
    },
    /// A step that was to be spilled or written lies in the file on all ranks.
    Spilled {
        /// The step.
        step: u64,
    },
    /// A step that was to be spilled or written does not; if it was to be spilled, it is
    /// lost.
    SpillFailed {
        /// The step.
        step: u64,
    },
    /// No further step. Answered, now or later, by `Drained`.
    Closing,
    /// `Drained` is waited for no longer. Under `spill` what groups have not let go of is
    /// written to the file, which is all that stays.
    Abandon,
    /// Time has passed.
    Tick,
}

/// What a publisher wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum PublisherAction {
    /// The step may begin; its reservation is accounted.
    Admitted {
        /// The step.
        step: u64,
    },
    /// The step will be discarded, by policy. Its number is not used again.
    Discard {
        /// The step.
        step: u64,
    },
    /// The step does not fit whatever is freed.
    TooLarge {
        /// The step.
        step: u64,
        /// The rank.
        rank: usize,
        /// Bytes it asks for.
        bytes: u64,
        /// Bytes there can be: the limit without the precious step.
        limit_bytes: u64,
    },
    /// A step's memory, or its place in the spill file, may be used again.
    Free {
        /// The step.
        step: u64,
    },
    /// A step's memory may be used again once the step lies in the spill file;
    /// answered by `Spilled` or `SpillFailed`, once if it was to be written before. It
    /// counts as free already.
    Spill {
        /// The step.
        step: u64,
    },
    /// A step is to lie in the spill file too, and stays in memory; answered by `Spilled`
    /// or `SpillFailed`. Steps are spilled and written in the order of their numbers.
    Write {
        /// The step.
        step: u64,
    },
    /// The memory of a step that lies in the spill file too may be used again.
    Evict {
        /// The step.
        step: u64,
    },
    /// Somebody of a group that is gone may still look at this step's memory,
    /// which must never be used again. Its bytes count as free: what stays
    /// mapped is the driver's to bound. Comes before the step's `Free`.
    Retire {
        /// The step.
        step: u64,
    },
    /// Send [`WriterMessage::Announced`] and the step's metadata to a group.
    Announce {
        /// The group.
        group: GroupId,
        /// The step.
        at: Position,
        /// The newest step sealed, for the message.
        newest: u64,
        /// Whether the step lies in the spill file rather than in memory.
        spilled: bool,
    },
    /// Send a message to a group.
    Send {
        /// The group.
        group: GroupId,
        /// The message.
        message: WriterMessage,
    },
    /// A group is excluded or was refused: end its link after what was sent. It
    /// is gone for the machine.
    Fence {
        /// The group.
        group: GroupId,
    },
    /// A cursor has moved; comes before the answer to the group that moved it.
    Remember {
        /// Its name.
        cursor: String,
        /// Up to where.
        at: Position,
    },
    /// Every group has let go of everything or left; closing may end.
    Drained,
}

/// A group that a wait of the writer waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The group.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// Steps it was told of and did not release.
    pub holds: u64,
    /// The oldest of them.
    pub oldest: Option<u64>,
    /// Steps it has yet to be told of.
    pub to_come: u64,
}
