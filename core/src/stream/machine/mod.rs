//! The protocol of `stream:` as two state machines, one at each group's root.
//!
//! Nothing here opens a socket, looks at a clock, draws a random number or
//! touches a byte of a step. A machine is given events and the present time,
//! and answers with actions; steps are numbers, reader groups are ids. The
//! engine carries the actions out over its links; the deterministic simulator
//! of the tests drives the same machines.
//!
//! ```text
//!   writer root                          link (in order)            reader root
//!   begin_step --Admit-->  Publisher  --Announced, Closed, ...-->  Subscriber  --Deliver--> next_step
//!   end        --Sealed->             <--Ask, Release, Commit---               <--Held----- next_step
//! ```
//!
//! What is promised (simulated in `core/tests`): a group sees an ascending
//! subsequence of the sealed steps, each at most once, and under `block` and
//! `spill` all of them; the bytes of a rank's steps in memory, those admitted
//! included, never exceed the limit; a step that a group was told of stays
//! where it is until the group lets go of it or is fenced; a dead or silent
//! group holds nobody up beyond the lease; groups that wait for a step, and whose
//! held steps alone keep it from beginning, find out; closing ends.
//!
//! What is not promised: order of the steps that a group inherits from a lost
//! one where steps are distributed; that every step of its turn reaches a group
//! that wants only the newest.
//!
//! **Push and pull.** Groups that must get every step are told of it as it is
//! sealed, so that they wait for no round trip; under `spill` only so far ahead
//! that what they were told of leaves room. Groups that may lose steps
//! (`drop-oldest`, `drop-newest`, latest only, on demand) ask for each, so
//! that a step is either still the writer's to drop or already the group's.

pub mod limits;
pub mod message;
#[doc(hidden)]
pub mod mutant;
pub mod publisher;
pub mod subscriber;
#[cfg(test)]
mod subscriber_tests;

pub use message::{Join, Position, ReaderMessage, RefusedWhy, WriterMessage};
pub use publisher::{
    Awaited, Gone, Life, Publisher, PublisherAction, PublisherEvent, PublisherOptions, Recovered,
};
pub use subscriber::{Subscriber, SubscriberAction, SubscriberEvent, SubscriberOptions};

use std::fmt;

/// A reader group that has joined, as the driver numbers it; never reused, not
/// even when the same readers come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(pub u64);

impl fmt::Display for GroupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "reader group {}", self.0)
    }
}
