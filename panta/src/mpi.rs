//! A group of ranks from an MPI communicator, through the crate `mpi`
//! (feature `mpi`).
//!
//! MPI is used for one thing: to let the ranks find each other at open. The
//! communicator is duplicated, so that nothing here meets the program's own
//! messages; the duplicate lives until the stream is open.
//!
//! Promises: no call blocks inside MPI without a deadline, except the
//! duplication, which is collective. It does not: use MPI after open, or ask
//! for any thread level. Below `MPI_THREAD_SERIALIZED`, open on the thread
//! that initialised MPI; from another one it is an error, not a crash.

use std::time::Duration;

use ::mpi::Threading;
use ::mpi::environment;
use ::mpi::request::{Request, StaticScope};
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, CommunicatorCollectives, Equivalence};

use panta_core::comm::{Comm, CommError};
use panta_transports::time::Wait;

/// The longest that one rank's contribution may be, in bytes. All ranks'
/// contributions are padded to the longest, so this bounds what a rank holds.
pub const CONTRIBUTION_LIMIT_BYTES: u64 = 1 << 20;

/// How long a rank sleeps between two looks at an unfinished collective.
const POLL: Duration = Duration::from_micros(200);

/// The ranks of an MPI communicator.
pub struct MpiComm {
    communicator: SimpleCommunicator,
}

// SAFETY: an MPI communicator is a handle that MPI lets any thread use at
// `MPI_THREAD_SERIALIZED` or above; below that `allgather`, the one call made
// with it besides the release of the duplicate, refuses other threads, and a
// handle behind `&mut self` is used by one thread at a time.
unsafe impl Send for MpiComm {}

impl MpiComm {
    /// The ranks of `communicator`, numbered as they are there. Collective
    /// over it, since the communicator is duplicated.
    #[must_use]
    pub fn from_communicator(communicator: &impl Communicator) -> Self {
        Self {
            communicator: communicator.duplicate(),
        }
    }

    /// Gathers `own` from every rank, all of the same length.
    fn gather<T>(&self, own: Vec<T>, wait: &Wait) -> Result<Vec<T>, CommError>
    where
        T: Equivalence + Clone + Default + 'static,
    {
        let gathered = vec![T::default(); own.len() * self.size()];
        let sent = Box::into_raw(own.into_boxed_slice());
        let received = Box::into_raw(gathered.into_boxed_slice());
        // SAFETY: both were boxes a moment ago. MPI holds them until the
        // request is complete: they are given back to Rust only then, and
        // leaked where the wait ends first, since MPI may still write to them.
        let (buffer, target) = unsafe { (&*sent, &mut *received) };
        let request = self
            .communicator
            .immediate_all_gather_into(StaticScope, buffer, target);
        self.finish(request, wait)?;
        // SAFETY: made by `Box::into_raw` above; the request is complete, so
        // neither MPI nor a reference made above is used any more.
        let (_, received) = unsafe { (Box::from_raw(sent), Box::from_raw(received)) };
        Ok(received.into_vec())
    }

    /// Waits for a collective. One that is given up stays with MPI, which has
    /// no way to cancel it.
    fn finish<T: ?Sized>(
        &self,
        mut request: Request<'static, T>,
        wait: &Wait,
    ) -> Result<(), CommError> {
        loop {
            request = match request.test() {
                Ok(_) => return Ok(()),
                Err(unfinished) => unfinished,
            };
            match wait.slice() {
                Ok(slice) => std::thread::sleep(slice.min(POLL)),
                Err(error) => {
                    std::mem::forget(request);
                    let others = (0..self.size()).filter(|rank| *rank != self.rank());
                    return Err(CommError::from_wait(error, others.collect()));
                }
            }
        }
    }
}

impl Comm for MpiComm {
    fn rank(&self) -> usize {
        self.communicator.rank() as usize
    }

    fn size(&self) -> usize {
        self.communicator.size() as usize
    }

    fn allgather(&mut self, bytes: &[u8], wait: &Wait) -> Result<Vec<Vec<u8>>, CommError> {
        check_thread()?;
        let lengths = self.gather(vec![bytes.len() as u64], wait)?;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if longest > CONTRIBUTION_LIMIT_BYTES {
            let reason = format!(
                "a rank contributed {longest} bytes at open; the limit is {CONTRIBUTION_LIMIT_BYTES}"
            );
            return Err(CommError::Foreign { reason });
        }
        // An empty collective is not worth a message, nor allowed everywhere.
        if longest == 0 {
            return Ok(vec![Vec::new(); lengths.len()]);
        }
        let mut padded = bytes.to_vec();
        padded.resize(longest as usize, 0);
        let gathered = self.gather(padded, wait)?;
        let parts = gathered.chunks(longest as usize).zip(lengths);
        Ok(parts
            .map(|(part, length)| part[..length as usize].to_vec())
            .collect())
    }
}

/// Refuses a thread that MPI was not promised calls from.
fn check_thread() -> Result<(), CommError> {
    let refuse = |reason: &str| {
        Err(CommError::Foreign {
            reason: reason.to_owned(),
        })
    };
    if !environment::is_initialized() || environment::is_finalized() {
        return refuse("MPI is not initialised, or already finalised");
    }
    if environment::threading_support() >= Threading::Serialized {
        return Ok(());
    }
    let mut is_main = 0;
    // SAFETY: MPI is initialised, which is all this call asks for, and
    // `is_main` lives through it.
    unsafe { ::mpi::ffi::MPI_Is_thread_main(&raw mut is_main) };
    if is_main == 0 {
        return refuse(
            "MPI was initialised below MPI_THREAD_SERIALIZED; open streams on the thread that initialised it",
        );
    }
    Ok(())
}
