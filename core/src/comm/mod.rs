//! Who the ranks of a group are: the bootstrap communicator.
//!
//! A group of ranks opens a stream together. To find each other they need one
//! thing from whatever launched them: an *allgather* of short byte strings.
//! After that they talk over Panta's own [control tree](crate::tree), which
//! has deadlines and notices a dead rank; MPI is never called again, so any
//! MPI thread level will do and `MPI_Comm` never enters this crate.
//!
//! Promises: [`Comm`] is object-safe; the communicators made here keep
//! deadlines, can be interrupted and name the ranks they waited for.
//! It does not: move payload, or stay in use after a stream is open.
//!
//! | communicator | its ranks are |
//! |---|---|
//! | [`Solo`] | one |
//! | [`Threads`] | threads of one process |
//! | [`Procs`] | processes that share a directory on one host |
//! | MPI, and the C table of functions | implemented by the shells above |

mod procs;
mod threads;

pub use procs::{Procs, RANK_VARIABLE, RENDEZVOUS_VARIABLE, SIZE_VARIABLE};
pub use threads::{ThreadComm, Threads};

use panta_transports::time::{Wait, WaitError};
use std::fmt;
use std::time::Duration;

/// The ranks of a group, numbered from 0 to `size - 1`, and one collective.
///
/// Every rank calls [`allgather`](Comm::allgather) the same number of times.
pub trait Comm: Send {
    /// This rank's number, below [`size`](Comm::size).
    fn rank(&self) -> usize;

    /// How many ranks the group has, at least one.
    fn size(&self) -> usize;

    /// Gathers one byte string of every rank, in rank order, on every rank.
    /// Lengths may differ from rank to rank. Only used at open.
    ///
    /// # Errors
    /// [`CommError`]; afterwards the communicator must not be used again.
    fn allgather(&mut self, bytes: &[u8], wait: &Wait) -> Result<Vec<Vec<u8>>, CommError>;
}

/// Why the ranks of a group could not find each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// A rank ended before it had said its part.
    #[error("rank {rank} of the group ended while the group was opening; restart the whole group")]
    RankLost {
        /// The rank that ended.
        rank: usize,
    },
    /// Ranks that should have taken part did not.
    #[error(
        "waited {after:?} at open for {}; is every rank of the group opening this stream?",
        RankList(awaiting)
    )]
    Deadline {
        /// The ranks that were missing.
        awaiting: Vec<usize>,
        /// How long the wait was.
        after: Duration,
    },
    /// The interrupt flag of this rank or another was set.
    #[error("interrupted while the group was opening")]
    Interrupted,
    /// An environment variable that describes the group is missing or wrong.
    #[error("{variable}: {reason}")]
    Environment {
        /// The variable's name.
        variable: &'static str,
        /// What is wrong with it and what it should be.
        reason: String,
    },
    /// The ranks do not agree about the group, or a peer sent nonsense.
    #[error("the ranks of the group disagree: {reason}")]
    Disagree {
        /// What differs.
        reason: String,
    },
    /// The operating system refused something.
    #[error("{action}: {reason}")]
    System {
        /// What was tried.
        action: String,
        /// What the system answered.
        reason: String,
    },
    /// The communicator underneath (MPI, or one that the caller wrote) failed.
    #[error("the communicator of the caller failed: {reason}")]
    Foreign {
        /// What it said.
        reason: String,
    },
}

impl CommError {
    /// An error for a wait that ended while `awaiting` had not come.
    #[must_use]
    pub fn from_wait(error: WaitError, awaiting: Vec<usize>) -> Self {
        match error {
            WaitError::Deadline(after) => Self::Deadline { awaiting, after },
            WaitError::Interrupted => Self::Interrupted,
        }
    }
}

/// The most ranks that an error message lists by number.
const LISTED_RANKS: usize = 16;

/// Prints ranks as people say them: `rank 3`, `ranks 3, 5 and 40 more`.
pub(crate) struct RankList<'a>(pub(crate) &'a [usize]);

impl fmt::Display for RankList<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0 else {
            return formatter.write_str("no rank in particular");
        };
        let word = if rest.is_empty() { "rank" } else { "ranks" };
        write!(formatter, "{word} {first}")?;
        for rank in rest.iter().take(LISTED_RANKS - 1) {
            write!(formatter, ", {rank}")?;
        }
        match rest.len().saturating_sub(LISTED_RANKS - 1) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

/// A group of one rank.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

impl Comm for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn allgather(&mut self, bytes: &[u8], _wait: &Wait) -> Result<Vec<Vec<u8>>, CommError> {
        Ok(vec![bytes.to_vec()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_lists_a_few_ranks_and_counts_the_others() {
        let ranks: Vec<usize> = (0..130).collect();
        assert_eq!(RankList(&[7]).to_string(), "rank 7");
        assert_eq!(RankList(&[7, 9]).to_string(), "ranks 7, 9");
        assert!(RankList(&ranks).to_string().ends_with("15 and 114 more"));
    }
}
