//! The control tree: how the ranks of a group agree, without MPI.
//!
//! After open, begins, ends and closes are decided over this tree: small
//! frames go up to rank 0 and down again, each rank talking to its parent and
//! up to `fan_out` children.
//!
//! ```text
//!              0               gather     up
//!           /  |  \            broadcast  down
//!          1   2   3           agree      up, decide at 0, down
//!        / | \   \             barrier    up, down
//!       4  5  6   7 ..
//! ```
//!
//! Promises: every call ends by its deadline or soon after an interrupt; a
//! rank that dies makes the call fail at once, on every rank; an error names
//! the ranks waited for; the first error sticks and is the same everywhere.
//!
//! It does not: carry payload, start threads, or survive the loss of a rank.
//! It cannot promise that a collective which was *being decided* when a rank
//! died has succeeded everywhere or failed everywhere: ranks cut off from
//! rank 0 get [`TreeError::RankLost`], and everyone gets it at the next call.

mod addresses;
mod connect;
mod entries;
mod error;
mod frame;
mod group;
mod link;
mod shape;
mod tcp;
mod watch;

pub use error::{Failure, Operation, TreeError};
pub use frame::inspect;

pub(crate) use frame::{Fields, put_bytes};
pub(crate) use group::Group;
pub(crate) use link::{Link, LocalStream, sleep_on};

/// For the simulation of many ranks: what goes over the links.
#[cfg(test)]
pub(crate) mod scale {
    pub(crate) use super::entries::{Said, gathered, spread};
    pub(crate) use super::frame::HEADER_BYTES;
    pub(crate) use super::shape::Shape;

    /// Bytes of the word that a rank is lost, besides the header.
    pub(crate) fn loss_bytes(rank: usize) -> usize {
        let error = super::TreeError::RankLost {
            rank,
            noticed_by: 0,
        };
        super::frame::write_error(&error).len()
    }
}

use crate::comm::Comm;
use crate::config::Interfaces;
use crate::engine::Beside;
use panta_transports::time::Wait;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The most children a rank has unless told otherwise.
pub const DEFAULT_FAN_OUT: usize = 64;

/// How long a waiting rank looks out, politely, before it sleeps, unless told otherwise:
/// about what it takes to wake a sleeper.
pub const DEFAULT_SPIN: Duration = Duration::from_micros(30);

/// The most bytes of one frame: what all the ranks below one rank have to say
/// in one collective, together.
pub const MAX_FRAME_BYTES: u64 = 256 << 20;

/// The most ranks that an error names.
const MAX_RANKS_NAMED: usize = 64;

/// How long a rank that knows of a failure waits for the root's word on the
/// round, which may be on its way.
const RULING_GRACE: Duration = Duration::from_millis(500);

/// How to build a tree.
#[derive(Clone, Debug)]
pub struct TreeOptions {
    /// The most children of a rank, at least 1; the same on every rank.
    pub fan_out: usize,
    /// The network interfaces to listen on when the ranks are on several
    /// hosts; all interfaces if not named.
    pub interface: Option<Interfaces>,
    /// How long a rank that waits looks out before it sleeps; zero not to. Nobody does
    /// where the group has more ranks than this host has cores.
    pub spin: Duration,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self {
            fan_out: DEFAULT_FAN_OUT,
            interface: None,
            spin: DEFAULT_SPIN,
        }
    }
}

/// What a rank has sent and received over its tree. Clones share the numbers.
#[derive(Clone, Debug, Default)]
pub struct TreeCounters(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    rounds: AtomicU64,
    messages_sent: AtomicU64,
    bytes_sent: AtomicU64,
}

impl TreeCounters {
    /// Collectives called.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.0.rounds.load(Ordering::Relaxed)
    }

    fn count_round(&self) {
        self.0.rounds.fetch_add(1, Ordering::Relaxed);
    }

    fn count_message(&self, bytes: usize) {
        self.0.messages_sent.fetch_add(1, Ordering::Relaxed);
        self.0.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Frames sent by this rank.
    #[must_use]
    pub fn messages_sent(&self) -> u64 {
        self.0.messages_sent.load(Ordering::Relaxed)
    }

    /// Bytes sent by this rank, frame headers included.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.0.bytes_sent.load(Ordering::Relaxed)
    }
}

/// One rank's place in the tree of its group.
///
/// All operations are collective: every rank makes the same calls in the same
/// order, at whatever times it gets there. Dropping the tree closes its links,
/// which the neighbours see as the loss of this rank unless they too are done.
#[derive(Debug)]
pub struct ControlTree {
    rank: usize,
    size: usize,
    group: Group,
}

impl ControlTree {
    /// Builds the tree of the group. Collective, with one outcome; uses `comm`
    /// for two allgathers and never again.
    ///
    /// # Errors
    /// [`TreeError::Open`] if the ranks don't find each other, else as the
    /// collectives.
    pub fn connect(
        comm: &mut dyn Comm,
        options: &TreeOptions,
        wait: &Wait,
    ) -> Result<Self, TreeError> {
        let (rank, size) = (comm.rank(), comm.size());
        let mut group = connect::connect(comm, options, wait)?;
        // Whoever could not be linked is known to all after this.
        group.agree(Operation::Barrier, Ok(Vec::new()), |_| Vec::new(), wait)?;
        group.counters = TreeCounters::default();
        // Where ranks share cores, who looks out keeps the others from coming.
        if size <= std::thread::available_parallelism().map_or(1, usize::from) {
            group.spin = options.spin;
        }
        Ok(Self { rank, size, group })
    }

    /// What is to be done beside all waits from now on.
    pub(crate) fn do_beside(&mut self, beside: Option<Arc<dyn Beside>>) {
        self.group.beside.0 = beside;
    }

    /// This rank's number.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks the group has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this rank is the root, rank 0, which decides.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.rank == 0
    }

    /// Counts a round that a rank which is alone need not run.
    pub(crate) fn count_round(&self) {
        self.group.counters.count_round();
    }

    /// A handle on this rank's counters, which start after the tree is built.
    #[must_use]
    pub fn counters(&self) -> TreeCounters {
        self.group.counters.clone()
    }

    /// Gathers the bytes of every rank at the root, in rank order: `Some` at
    /// rank 0, `None` elsewhere. Other ranks don't wait for the root.
    ///
    /// # Errors
    /// [`TreeError`]; the tree is then broken.
    pub fn gather(
        &mut self,
        bytes: Vec<u8>,
        wait: &Wait,
    ) -> Result<Option<Vec<Vec<u8>>>, TreeError> {
        let said = self.group.gather(bytes, wait)?;
        // Only `agree` has failures among the parts.
        Ok(said.map(|parts| parts.into_iter().map(Result::unwrap_or_default).collect()))
    }

    /// Gives everyone the root's bytes. The root passes `Some` (`None` is
    /// empty); what others pass is ignored. The root doesn't wait until the
    /// others have come, unless the bytes are more than their links hold.
    ///
    /// # Errors
    /// [`TreeError`]; the tree is then broken.
    pub fn broadcast(&mut self, bytes: Option<Vec<u8>>, wait: &Wait) -> Result<Vec<u8>, TreeError> {
        self.group.broadcast(bytes, wait)
    }

    /// One round up and down: gathers what every rank has to say, or how it
    /// failed, lets the root decide, and gives everyone what it decided.
    ///
    /// `decide` runs at the root only, on the results in rank order. A
    /// decision stands: once the root has made it, every rank whose way to the
    /// root is whole returns it, and a rank lost meanwhile shows at the next
    /// call.
    ///
    /// # Errors
    /// [`TreeError`]; the tree is then broken. A rank's [`Failure`] is not an
    /// error here: it goes to `decide`.
    pub fn agree(
        &mut self,
        local: Result<Vec<u8>, Failure>,
        decide: impl FnOnce(Vec<Result<Vec<u8>, Failure>>) -> Vec<u8>,
        wait: &Wait,
    ) -> Result<Vec<u8>, TreeError> {
        self.group.agree(Operation::Agree, local, decide, wait)
    }

    /// Waits until every rank has come here.
    ///
    /// # Errors
    /// [`TreeError`]; the tree is then broken.
    pub fn barrier(&mut self, wait: &Wait) -> Result<(), TreeError> {
        let nothing = Ok(Vec::new());
        self.group
            .agree(Operation::Barrier, nothing, |_| Vec::new(), wait)?;
        Ok(())
    }
}
