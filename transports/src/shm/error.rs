//! What goes wrong with shared memory, and what to try.

use std::io;

use crate::random::NoRandomness;
use crate::time::WaitError;

/// Why a frame was not sent or received. After any but [`Wait`] with `partly`
/// unset and [`TooLarge`] the ring is of no more use.
///
/// [`Wait`]: Self::Wait
/// [`TooLarge`]: Self::TooLarge
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The other side wrote what no honest one writes.
    #[error("the other side of a ring broke its rules: {what}; see what else writes there")]
    Hostile {
        /// What it did.
        what: &'static str,
    },
    /// A frame beyond the limit, or beyond what can be tried at once.
    #[error(
        "a frame of {bytes} bytes is over {limit_bytes}; send less at once, or with a wait, or raise the limit on both sides"
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The other process closed its end or died.
    #[error("the process at the other end of a ring closed it or died")]
    Died,
    /// The deadline passed, or the wait was interrupted.
    #[error("waiting at a ring: {source}")]
    Wait {
        /// Whether part of a frame had gone out, so that no other can follow.
        partly: bool,
        /// Why the wait ended.
        source: WaitError,
    },
    /// Part of another frame has gone out before and its rest has not.
    #[error("a frame was begun and left; finish it, or connect again")]
    Unfinished,
    /// The system refused a call.
    #[error("{during} for a ring failed: {source}")]
    System {
        /// What was going on.
        during: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why shared memory was not had, or is lost.
#[derive(Debug, thiserror::Error)]
pub enum ShmError {
    /// Nobody listens under the name: another node, or another network
    /// namespace of this one.
    #[error(
        "the other process is not on this node, or in another network namespace of it: {source}"
    )]
    NotHere {
        /// What the system said.
        source: io::Error,
    },
    /// The memory is not the one that the other side means.
    #[error("what is mapped is not the memory of the other process: {what}")]
    OtherMemory {
        /// How that shows.
        what: &'static str,
    },
    /// The other process belongs to another user.
    #[error("the other process belongs to user {theirs}, this one to {ours}; run both as one user")]
    OtherUser {
        /// The other's.
        theirs: u32,
        /// This one's.
        ours: u32,
    },
    /// The other side broke the protocol.
    #[error("the other process broke the protocol of shared memory: {what}")]
    Misbehaved {
        /// What it did.
        what: &'static str,
    },
    /// Memory that could change its size, or be changed by anybody.
    #[error("memory of the other process is refused: {what}")]
    Unsealed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The connection is at its end: the other process closed it or died.
    #[error("the other process closed the connection or died")]
    Lost,
    /// The deadline passed, or the wait was interrupted.
    #[error("waiting for the other process during {during}: {source}")]
    NotReady {
        /// What was going on.
        during: &'static str,
        /// Why the wait ended.
        source: WaitError,
    },
    /// More than a limit allows.
    #[error("{what} are over the limit of {limit}")]
    TooMany {
        /// What is too many.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The region has no such bytes.
    #[error("region {region} has {has} bytes, not {bytes} at {offset}")]
    OutOfRange {
        /// The region's number.
        region: u32,
        /// Its size.
        has: u64,
        /// Where the bytes were to begin.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The region was given up by the other side.
    #[error("region {region} is gone; the step that lay in it was released")]
    Gone {
        /// The region's number.
        region: u32,
    },
    /// The system had no random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// A ring could not be made.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The system refused a call.
    #[error("{during} failed: {source}")]
    System {
        /// What was going on.
        during: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl ShmError {
    /// For `map_err`: the system refused during `during`.
    pub(super) fn system<E: Into<io::Error>>(during: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::System {
            during,
            source: source.into(),
        }
    }
}
