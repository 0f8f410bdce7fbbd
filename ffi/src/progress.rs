//! Progress by hand: what is done in calls of the program's where it wants no thread.

use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::time::Duration;

use panta_transports::coupling::Progress;

use crate::caller::Caller;
use crate::failed::Failed;
use crate::handles::Handle;
use crate::reader::{ReaderObject, with_reader};
use crate::types::{PANTA_ERROR_INVALID_HANDLE, panta_reader, panta_status, panta_writer};
use crate::writer::with_writer;

/// What `silence_ms` of the options asks for.
pub(crate) fn of_silence(silence_ms: i64) -> Result<Option<Progress>, Failed> {
    match u64::try_from(silence_ms) {
        Ok(0) => Ok(None),
        Ok(ms) => Ok(Some(Progress::Manual {
            silence: Duration::from_millis(ms),
        })),
        Err(_) => Err(Failed::argument(format!(
            "`options.silence_ms` is {silence_ms}; it is 0, or how long the program may stay away"
        ))),
    }
}

/// Does what is there to do for a writer or reader that was opened with progress
/// by hand (silence_ms of its options, or `progress=manual` in its URL): readers
/// that come, go and ask for bytes are answered, and peers are shown that the
/// program is alive. All other calls do so, too; this is for programs that make
/// none for long, and is to be called at least as often as they declared. Never
/// waits; does nothing where threads do it. PANTA_ERROR_FENCED if the program
/// stayed away for longer than it had declared: its peers hold it dead, and the
/// handle is of no more use.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub extern "C" fn panta_progress(handle: *const c_void) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_progress") };
    caller.answer(|| {
        let reader = Handle::<ReaderObject>::from_pointer(handle.cast()).get();
        if matches!(&reader, Err(other) if other.status == PANTA_ERROR_INVALID_HANDLE) {
            return with_writer(handle.cast::<panta_writer>(), |state| {
                Ok(state.session.progress()?)
            });
        }
        with_reader(handle.cast::<panta_reader>(), |state| {
            Ok(state.session.progress()?)
        })
    })
}

/// Gives a descriptor that is readable when panta_progress has something to do
/// for the writer, for programs with a poll or epoll of their own; where threads
/// do it, or nothing ever is to be done, it never is. It is the library's: not to
/// be read from or closed; ends with the writer. For a reader panta_wait_fd gives
/// one.
// SAFETY: as for panta_progress.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_writer_wait_fd(
    writer: *mut panta_writer,
    descriptor: *mut i32,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_writer_wait_fd") };
    caller.answer(|| {
        caller.check_place(descriptor, "descriptor")?;
        let fd = with_writer(writer, |state| Ok(state.session.wait_fd()?.as_raw_fd()))?;
        caller.give(descriptor, fd, "descriptor")
    })
}
