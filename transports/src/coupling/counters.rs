//! What endpoints and peers count, so that tests can hold them to their
//! budgets of copies and round trips.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::channel::ChannelCounters;

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CouplingCounters {
    /// Frames sent over sockets, heartbeats too.
    pub frames_sent: u64,
    /// Frames received over sockets, heartbeats too.
    pub frames_received: u64,
    /// Messages sent, by any transport.
    pub messages_sent: u64,
    /// Messages received, by any transport.
    pub messages_received: u64,
    /// Reads: served, at an endpoint; done, at a peer. Mapped ones are none.
    pub reads: u64,
    /// Bytes of those reads.
    pub read_bytes: u64,
    /// Bytes pushed, or received so.
    pub push_bytes: u64,
    /// Times that this side asked and waited for the answer.
    pub round_trips: u64,
    /// Copies of payload in user space, in bytes.
    pub copied_bytes: u64,
    /// Peers that joined, at an endpoint.
    pub joins: u64,
    /// Connections that were refused or gave up before they joined, at an
    /// endpoint.
    pub joins_refused: u64,
    /// Peers lost, at an endpoint.
    pub lost: u64,
    /// Times that the endpoint's thread woke.
    pub wakes: u64,
}

/// The counts themselves.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) messages_sent: Count,
    pub(super) messages_received: Count,
    pub(super) reads: Count,
    pub(super) read_bytes: Count,
    pub(super) push_bytes: Count,
    pub(super) round_trips: Count,
    pub(super) joins: Count,
    pub(super) joins_refused: Count,
    pub(super) lost: Count,
    pub(super) wakes: Count,
}

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, some: u64) {
        self.0.fetch_add(some, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counts {
    /// What was counted, here and by the channels.
    pub(super) fn snapshot(&self, channels: &ChannelCounters) -> CouplingCounters {
        CouplingCounters {
            frames_sent: channels.frames_sent(),
            frames_received: channels.frames_received(),
            messages_sent: self.messages_sent.get(),
            messages_received: self.messages_received.get(),
            reads: self.reads.get(),
            read_bytes: self.read_bytes.get(),
            push_bytes: self.push_bytes.get(),
            round_trips: self.round_trips.get(),
            copied_bytes: channels.copies().bytes(),
            joins: self.joins.get(),
            joins_refused: self.joins_refused.get(),
            lost: self.lost.get(),
            wakes: self.wakes.get(),
        }
    }
}
