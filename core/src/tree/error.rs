//! Why a collective over the control tree ended without its result.

use crate::comm::{CommError, RankList};
use std::time::Duration;

/// Why a collective failed. The first failure is everybody's: a rank that
/// fails tells the others, who return the same error, and every later call on
/// the tree returns it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A rank of the group ended, or its connection broke.
    #[error("rank {rank} of the group was lost (noticed by rank {noticed_by}); restart the group")]
    RankLost {
        /// The rank that is gone.
        rank: usize,
        /// The rank that saw its link break.
        noticed_by: usize,
    },
    /// The deadline of a wait passed.
    #[error(
        "rank {noticed_by} waited {after:?} for {}; are they still computing, or stuck? \
         a longer `deadline` gives them more time",
        RankList(awaiting)
    )]
    Deadline {
        /// The ranks that had not done their part, as far as could be known.
        awaiting: Vec<usize>,
        /// How long the wait was.
        after: Duration,
        /// The rank whose deadline passed first.
        noticed_by: usize,
    },
    /// The interrupt flag of a rank was set during a collective.
    #[error("rank {rank} of the group was interrupted")]
    Interrupted {
        /// The rank that was interrupted.
        rank: usize,
    },
    /// A rank gave a collective more bytes than a frame may hold.
    #[error(
        "rank {rank} has {bytes} bytes for one collective of the group, the limit is {limit_bytes}; \
         fewer blocks or shorter attributes in a step would do"
    )]
    TooLarge {
        /// The rank at which the frame grew too large.
        rank: usize,
        /// How many bytes it would have.
        bytes: u64,
        /// The limit, [`MAX_FRAME_BYTES`](super::MAX_FRAME_BYTES).
        limit_bytes: u64,
    },
    /// Two ranks are in different collectives: the calls of the group differ.
    #[error(
        "rank {rank} called {here} (collective {round}) where rank {peer} called {there}; \
         every rank of a group makes the same calls in the same order"
    )]
    OutOfStep {
        /// The rank that noticed.
        rank: usize,
        /// What it called.
        here: Operation,
        /// How many collectives it had called before.
        round: u64,
        /// The rank whose call differs.
        peer: usize,
        /// What that one called.
        there: Operation,
    },
    /// A peer sent bytes that make no sense.
    #[error("rank {rank} got a malformed frame from rank {peer}: {reason}")]
    Malformed {
        /// The rank that read them.
        rank: usize,
        /// The rank that sent them.
        peer: usize,
        /// What was wrong.
        reason: String,
    },
    /// The operating system refused something.
    #[error("rank {rank}: {action}: {reason}")]
    System {
        /// The rank that was refused.
        rank: usize,
        /// What was tried.
        action: String,
        /// What the system answered.
        reason: String,
    },
    /// The tree could not be built: the ranks did not find each other.
    #[error(transparent)]
    Open(#[from] CommError),
}

/// The collectives of the control tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`gather`](super::ControlTree::gather).
    Gather,
    /// [`broadcast`](super::ControlTree::broadcast).
    Broadcast,
    /// [`agree`](super::ControlTree::agree).
    Agree,
    /// [`barrier`](super::ControlTree::barrier).
    Barrier,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Gather => "gather",
            Self::Broadcast => "broadcast",
            Self::Agree => "agree",
            Self::Barrier => "barrier",
        })
    }
}

/// What went wrong at one rank, on its way to the others in
/// [`agree`](super::ControlTree::agree).
///
/// The tree carries it; what the code means is the caller's business.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rank {rank}: {message}")]
pub struct Failure {
    /// The rank it happened at; the tree fills this in.
    pub rank: usize,
    /// The caller's number for the kind of failure.
    pub code: u32,
    /// The failure in words.
    pub message: String,
}

impl Failure {
    /// A failure at this rank.
    #[must_use]
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            rank: 0,
            code,
            message: message.into(),
        }
    }
}
