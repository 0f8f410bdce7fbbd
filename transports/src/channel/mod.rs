//! Framed TCP under Noise: always authenticated, encrypted where configured.
//!
//! A channel joins two programs that hold the same key. Both directions carry
//! frames: a *head* of some bytes that mean something to the layer above, and
//! a *body* of payload, received straight into the caller's memory.
//!
//! ```text
//!   hello    magic kind version role flags | Noise message 1     clear, at most 512 bytes
//!   answer   magic kind version status flags | Noise message 2
//!   frame    head length u32, body length u64                    clear, checked against limits
//!            body length u64 and head                            sealed, pieces of at most 64 KiB
//!            body                                                raw, or sealed in 60 KiB pieces
//! ```
//!
//! Promises:
//! - Nobody without the key gets a channel, or anything but a refusal; before
//!   a peer has proven its key it can cost [`PREAMBLE_LIMIT_BYTES`] and
//!   [`HANDSHAKE_LIMIT`] and no more.
//! - Heads are authentic, in order, each once. The body's *length* is too.
//! - Whether bodies are sealed is configured on both sides and never
//!   negotiated: a difference is an error.
//! - Every call ends by its [`Wait`](crate::time::Wait); a peer that died ends
//!   it at once. No allocation is larger than [`ChannelLimits`] allows.
//!
//! What it does not do: protect the bytes of a raw body, beyond what TCP does.
//! Whoever sends payload raw has its tile checksums and compares. It does not
//! resolve names, reconnect, multiplex, or know what heads mean.

mod error;
mod frames;
mod handshake;
mod key;
mod polled;
mod socket;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::copy::CopyCounter;

pub use error::{BindError, ChannelError};
pub use frames::{Channel, Head, Receiver, Sender};
pub use handshake::{Accepting, Acceptor, Connector};
pub use key::{Key, KeyError, Role};
pub use polled::{Flushed, PolledReceiver, PolledSender};
pub use socket::{Listener, Pending, UninitSlice};
pub use wire::{
    Answer, FRAME_MIN_BYTES, Hello, PREAMBLE_HEADER_BYTES, PREFIX_BYTES, Prefix, Status, WireError,
    parse_answer, parse_hello, parse_prefix,
};

/// The version of the protocol that this crate speaks.
pub const VERSION: u16 = 1;

/// The most bytes that are read from a peer before it has proven its key.
pub const PREAMBLE_LIMIT_BYTES: usize = 512;

/// The longest an acceptor waits for a peer to prove its key.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);

/// How long a connector looks for a frame before it sleeps, by default.
pub const CONNECTOR_SPIN: Duration = Duration::from_micros(30);

/// The socket buffers that are asked for, where the system grants them.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// The largest frame that is sent or accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelLimits {
    /// Bytes of a head; 1 MiB by default.
    pub head_bytes: u32,
    /// Bytes of a body; 1 GiB by default.
    pub body_bytes: u64,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self {
            head_bytes: 1 << 20,
            body_bytes: 1 << 30,
        }
    }
}

/// Counts frames and bytes of channels, so that tests can count round trips.
/// Clones share the count; several channels may.
#[derive(Clone, Debug, Default)]
pub struct ChannelCounters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    sent: Direction,
    received: Direction,
    copies: CopyCounter,
}

#[derive(Debug, Default)]
struct Direction {
    frames: AtomicU64,
    head_bytes: AtomicU64,
    body_bytes: AtomicU64,
}

impl Direction {
    fn add(&self, head_bytes: usize, body_bytes: u64) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.head_bytes
            .fetch_add(head_bytes as u64, Ordering::Relaxed);
        self.body_bytes.fetch_add(body_bytes, Ordering::Relaxed);
    }
}

impl ChannelCounters {
    /// Counters of their own, at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Frames sent whole.
    #[must_use]
    pub fn frames_sent(&self) -> u64 {
        self.0.sent.frames.load(Ordering::Relaxed)
    }

    /// Frames whose head was received.
    #[must_use]
    pub fn frames_received(&self) -> u64 {
        self.0.received.frames.load(Ordering::Relaxed)
    }

    /// Bytes of the heads sent.
    #[must_use]
    pub fn head_bytes_sent(&self) -> u64 {
        self.0.sent.head_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the heads received.
    #[must_use]
    pub fn head_bytes_received(&self) -> u64 {
        self.0.received.head_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the bodies sent.
    #[must_use]
    pub fn body_bytes_sent(&self) -> u64 {
        self.0.sent.body_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the bodies announced by the heads received, also of those
    /// that were skipped.
    #[must_use]
    pub fn body_bytes_received(&self) -> u64 {
        self.0.received.body_bytes.load(Ordering::Relaxed)
    }

    /// Copies of payload in user space. Raw bodies need none; sealed ones
    /// only where a piece spans several of the caller's buffers.
    #[must_use]
    pub fn copies(&self) -> &CopyCounter {
        &self.0.copies
    }
}

#[cfg(test)]
mod tests;
