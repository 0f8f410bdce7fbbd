//! The protocol of `staging:`, version 2, as state machines.
//!
//! Nothing here opens a socket, looks at a clock, draws a random number or
//! touches a payload byte. A machine is given events and the present time and
//! answers with actions; payload is named by [`RegionId`]. The TCP drivers and
//! the deterministic simulator of the tests run the same machines.
//!
//! ```text
//!   writer ranks                      servers                     reader ranks
//!   WriterMachine --Put-------------> owner (index + regions) <--Get-- ReaderMachine
//!     root        --Begin, End, ...-> home (log of the stream) <--Next-- root
//! ```
//!
//! One server, chosen by hashing the stream's name ([`placement`]), is the
//! stream's *home*: its log decides which steps exist. Every server is an
//! *owner*: it holds pieces of any stream. Servers do not talk to each other
//! in this version; clients carry between them what they must know.
//!
//! What is promised (simulated in `staging/tests`): a reader group sees a step
//! whole or not at all and in order, never a late write of an old epoch; every
//! client call ends by its deadline and names whom it waited for; a server
//! holds no more payload than its limit.
//!
//! What is not there yet: replicas, disk, a list of servers that changes. The
//! messages have their place: every put states its map version, acknowledgement
//! has levels of which `memory` is accepted, and a lost server is an error.

#![allow(
    clippy::large_enum_variant,
    clippy::result_large_err,
    reason = "messages are made and consumed one at a time; boxes would buy nothing"
)]

pub mod client;
pub mod codec;
pub mod limits;
pub mod message;
#[doc(hidden)]
pub mod mutant;
pub mod placement;
pub mod server;

use panta_transports::time::Time;
use std::fmt;

/// A server's place in the space's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u32);

/// A connection, as the driver numbers it; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Payload in the driver's keeping, as the driver numbers it; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u64);

impl fmt::Display for ServerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "server {}", self.0)
    }
}

/// What a driver (or a simulator) needs of every machine here.
///
/// The driver feeds events as they happen and a tick whenever
/// [`Machine::next_tick`] has come; it carries out the actions in their order.
/// A machine never blocks and does work in proportion to the event.
pub trait Machine {
    /// What happens to the machine.
    type Event;
    /// What it wants done.
    type Action;

    /// Takes `event` at `now` and appends what is to be done to `actions`.
    /// Time never goes back from one call to the next.
    fn handle(&mut self, event: Self::Event, now: Time, actions: &mut Vec<Self::Action>);

    /// When the machine wants a tick at the latest; `None`: not before another
    /// event. To be asked again after every event.
    fn next_tick(&self) -> Option<Time>;
}
