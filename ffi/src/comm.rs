//! Communicators: one rank, ranks in threads, in processes, or whatever the
//! caller's table of functions reaches.

use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use panta_core::comm::{Comm, CommError, Procs, Solo, Threads};
use panta_transports::time::Wait;

use crate::caller::Caller;
use crate::exclusive::Exclusive;
use crate::failed::Failed;
use crate::handles::{Handle, Object};
use crate::types::*;

/// The longest that one rank's contribution may be, in bytes. All are padded to
/// the longest, so this bounds what a rank holds.
const CONTRIBUTION_LIMIT_BYTES: u64 = 1 << 20;
/// The most ranks that panta_comm_threads makes.
const THREADS_LIMIT: i32 = 1 << 16;
/// Room for the caller's reason of a failure.
const WHY_BYTES: usize = 512;

/// A communicator behind a handle.
pub(crate) struct CommObject(Exclusive<Box<dyn Comm>>);

impl Object for CommObject {
    type Handle = panta_comm;
    const KIND: u8 = 1;
    const NAME: &'static str = "communicator";
}

/// Uses the communicator of a handle; one rank alone for NULL.
pub(crate) fn with_comm<R>(
    comm: *const panta_comm,
    open: impl FnOnce(&mut dyn Comm) -> Result<R, Failed>,
) -> Result<R, Failed> {
    if comm.is_null() {
        return open(&mut Solo);
    }
    let object = Handle::<CommObject>::from_pointer(comm).get()?;
    let mut guard = object.0.enter(CommObject::NAME)?;
    open(guard.state()?.as_mut())
}

fn enter(caller: &Caller, comm: Box<dyn Comm>, into: *mut *mut panta_comm) -> Result<(), Failed> {
    caller.check_place(into, "comm")?;
    let handle = Handle::open(Arc::new(CommObject(Exclusive::new(comm))))?;
    caller.give(into, handle.to_pointer(), "comm")
}

/// One rank alone. NULL in place of a communicator means the same.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_comm_solo(comm: *mut *mut panta_comm) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_comm_solo") };
    caller.answer(|| enter(&caller, Box::new(Solo), comm))
}

/// Ranks that are processes of one host, as their environment says: PANTA_RANK,
/// PANTA_SIZE, and PANTA_RENDEZVOUS, a directory that the run has to itself.
// SAFETY: as for panta_comm_solo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_comm_procs(comm: *mut *mut panta_comm) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_comm_procs") };
    caller.answer(|| {
        caller.check_place(comm, "comm")?;
        enter(&caller, Box::new(Procs::from_environment()?), comm)
    })
}

/// Ranks that are threads of this process: fills `comms` with `size_of_group`
/// communicators, one for each thread, in rank order.
// SAFETY: as for panta_comm_solo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_comm_threads(
    size_of_group: i32,
    comms: *mut *mut panta_comm,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_comm_threads") };
    caller.answer(|| {
        caller.check_place(comms, "comms")?;
        if !(1..=THREADS_LIMIT).contains(&size_of_group) {
            let message = format!("`size_of_group` is {size_of_group}; it is 1 to {THREADS_LIMIT}");
            return Err(Failed::argument(message));
        }
        let ranks = Threads::group(size_of_group as usize)
            .into_iter()
            .enumerate();
        for (rank, comm) in ranks {
            enter(&caller, Box::new(comm), comms.wrapping_add(rank))?;
        }
        Ok(())
    })
}

/// Ranks that the caller's functions reach. The table is copied; its `release`
/// is called by panta_comm_close, and not if this call fails.
// SAFETY: as for panta_comm_solo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_comm_from_vtable(
    vtable: *const panta_comm_vtable,
    comm: *mut *mut panta_comm,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_comm_from_vtable") };
    caller.answer(|| {
        caller.check_place(comm, "comm")?;
        let table = caller.input(vtable, "vtable")?;
        if table.size_of_group < 1 || !(0..table.size_of_group).contains(&table.rank) {
            return Err(Failed::argument(format!(
                "rank {} of {} is none; ranks are 0 to size_of_group - 1",
                table.rank, table.size_of_group
            )));
        }
        if table.allgather.is_none() {
            return Err(Failed::new(PANTA_ERROR_NULL, "`vtable.allgather` is NULL"));
        }
        let entered = Arc::new(AtomicBool::new(false));
        let foreign = Foreign {
            table,
            failure: None,
            entered: Arc::clone(&entered),
        };
        enter(&caller, Box::new(foreign), comm)?;
        entered.store(true, Ordering::Relaxed);
        Ok(())
    })
}

/// Lets go of a communicator. Streams that were opened with it go on.
// SAFETY: as for panta_comm_solo.
#[unsafe(no_mangle)]
pub extern "C" fn panta_comm_close(comm: *mut panta_comm) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_comm_close") };
    caller.answer(|| {
        let handle = Handle::<CommObject>::from_pointer(comm);
        let taken = handle.get()?.0.take(CommObject::NAME)?;
        handle.close()?;
        drop(taken);
        Ok(())
    })
}

/// Keeps memory for good, known to whoever looks for memory that nobody knows.
fn leave_in_place(memory: [*mut u8; 2]) {
    static LEFT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    left.extend(memory.map(|first| first as usize));
}

/// A communicator of the caller's making.
struct Foreign {
    table: panta_comm_vtable,
    failure: Option<CommError>,
    /// Whether the caller has a handle of it, so that `release` is due.
    entered: Arc<AtomicBool>,
}

// SAFETY: its functions are called on the thread that opens a stream or closes the
// communicator, one at a time, which panta.h tells whoever writes them.
unsafe impl Send for Foreign {}

impl Foreign {
    /// Gathers the same number of bytes from every rank.
    fn gather(&self, mine: &[u8], wait: &Wait) -> Result<Vec<u8>, CommError> {
        let foreign = |reason: String| CommError::Foreign { reason };
        let Some(allgather) = self.table.allgather else {
            return Err(foreign("there is no function to gather with".into()));
        };
        let mine = mine.to_vec().into_boxed_slice();
        let all = vec![0_u8; mine.len() * self.size()].into_boxed_slice();
        let (bytes_each, whole) = (mine.len(), all.len());
        let (mine, all) = (Box::into_raw(mine), Box::into_raw(all));
        let mut why = [0 as c_char; WHY_BYTES];
        let remaining = wait.deadline().remaining();
        // SAFETY: the caller's own function, given what its description says: so many
        // bytes to read, that many of each rank to write, room for a reason.
        let status = unsafe {
            allgather(
                self.table.context,
                mine.cast::<c_void>(),
                all.cast::<c_void>(),
                bytes_each as u64,
                i64::try_from(remaining.as_millis()).unwrap_or(i64::MAX),
                why.as_mut_ptr(),
                WHY_BYTES,
            )
        };
        if status == PANTA_OK {
            // SAFETY: both were boxes a moment ago, and the function is done with them.
            let (_, all) = unsafe { (Box::from_raw(mine), Box::from_raw(all)) };
            debug_assert_eq!(all.len(), whole);
            return Ok(all.into_vec());
        }
        // Both boxes are left in place: a message may still be under way.
        leave_in_place([mine.cast::<u8>(), all.cast::<u8>()]);
        why[WHY_BYTES - 1] = 0;
        // SAFETY: it ends in a zero byte, as just made sure.
        let why = unsafe { CStr::from_ptr(why.as_ptr()) }.to_string_lossy();
        if status == PANTA_ERROR_DEADLINE {
            let awaiting = (0..self.size())
                .filter(|rank| *rank != self.rank())
                .collect();
            let after = wait.deadline().length();
            return Err(CommError::Deadline { awaiting, after });
        }
        let silent = || {
            let name = crate::failed::panta_status_name(status);
            // SAFETY: a text for good, which ends in a zero byte.
            let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
            format!("its allgather gave {name}, and no reason")
        };
        Err(foreign(match why.is_empty() {
            true => silent(),
            false => why.into_owned(),
        }))
    }

    fn exchange(&self, bytes: &[u8], wait: &Wait) -> Result<Vec<Vec<u8>>, CommError> {
        let lengths = self.gather(&(bytes.len() as u64).to_le_bytes(), wait)?;
        let lengths: Vec<u64> = lengths
            .chunks_exact(8)
            .map(|length| u64::from_le_bytes(length.try_into().unwrap_or_default()))
            .collect();
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
        let gathered = self.gather(&padded, wait)?;
        let parts = gathered.chunks_exact(longest as usize).zip(lengths);
        Ok(parts
            .map(|(part, length)| part[..length as usize].to_vec())
            .collect())
    }
}

impl Comm for Foreign {
    fn rank(&self) -> usize {
        self.table.rank as usize
    }

    fn size(&self) -> usize {
        self.table.size_of_group as usize
    }

    fn allgather(&mut self, bytes: &[u8], wait: &Wait) -> Result<Vec<Vec<u8>>, CommError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let result = self.exchange(bytes, wait);
        self.failure = result.as_ref().err().cloned();
        result
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(release) = self
            .table
            .release
            .filter(|_| self.entered.load(Ordering::Relaxed))
        {
            // SAFETY: the caller's own function, called this once.
            unsafe { release(self.table.context) };
        }
    }
}
