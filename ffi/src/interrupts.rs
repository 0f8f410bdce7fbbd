//! Interrupt flags that a signal handler can reach: no lock, no allocation.
//!
//! Beside the table of handles lies one of flags, under the same slot numbers,
//! in chunks that are made when needed and never freed. Whoever reads a slot
//! counts itself in first; whoever empties it takes the handle away first and
//! then waits until nobody is counted in. A signal handler that interrupts a
//! thread runs to its end, so that wait is short.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use panta_transports::time::Interrupt;

use crate::caller::Caller;
use crate::failed::Failed;
use crate::handles::{Handle, Object, SLOT_LIMIT, slot_of};
use crate::types::*;

const CHUNK: usize = 1024;

struct Flag {
    /// The handle whose flag this is; 0 while there is none.
    handle: AtomicU64,
    users: AtomicU32,
    interrupt: UnsafeCell<Option<Interrupt>>,
}

// SAFETY: the cell is written only by `arm` and `disarm`, while `handle` is 0 and, in
// `disarm`, nobody is counted in; it is read only by who is counted in and saw its handle.
unsafe impl Sync for Flag {}

static CHUNKS: [AtomicPtr<[Flag; CHUNK]>; SLOT_LIMIT / CHUNK] =
    [const { AtomicPtr::new(ptr::null_mut()) }; SLOT_LIMIT / CHUNK];

fn flag_of(handle: u64) -> Option<&'static Flag> {
    let slot = slot_of(handle)?;
    let chunk = CHUNKS[slot / CHUNK].load(Ordering::Acquire);
    // SAFETY: a chunk that was entered lives for good.
    unsafe { chunk.as_ref() }.map(|chunk| &chunk[slot % CHUNK])
}

/// Makes `interrupt` reachable under `handle`.
pub(crate) fn arm(handle: u64, interrupt: Interrupt) {
    let Some(slot) = slot_of(handle) else { return };
    let place = &CHUNKS[slot / CHUNK];
    if place.load(Ordering::Acquire).is_null() {
        let chunk = Box::new(
            [const {
                Flag {
                    handle: AtomicU64::new(0),
                    users: AtomicU32::new(0),
                    interrupt: UnsafeCell::new(None),
                }
            }; CHUNK],
        );
        let chunk = Box::into_raw(chunk);
        let entered =
            place.compare_exchange(ptr::null_mut(), chunk, Ordering::AcqRel, Ordering::Acquire);
        if entered.is_err() {
            // SAFETY: another thread was first; nobody has seen this chunk.
            drop(unsafe { Box::from_raw(chunk) });
        }
    }
    let Some(flag) = flag_of(handle) else { return };
    // SAFETY: the slot is this handle's alone, and its number is not there yet.
    unsafe { *flag.interrupt.get() = Some(interrupt) };
    flag.handle.store(handle, Ordering::SeqCst);
}

/// Takes the flag of `handle` away.
pub(crate) fn disarm(handle: u64) {
    let Some(flag) = flag_of(handle) else { return };
    if flag
        .handle
        .compare_exchange(handle, 0, Ordering::SeqCst, Ordering::SeqCst)
        .is_err()
    {
        return;
    }
    while flag.users.load(Ordering::SeqCst) != 0 {
        std::thread::yield_now();
    }
    // SAFETY: the handle is gone from the slot and nobody is counted in.
    unsafe { *flag.interrupt.get() = None };
}

/// Takes the flag away and then the handle back, when dropped: also after a panic.
pub(crate) struct AtEnd<T: Object>(pub(crate) Handle<T>);

impl<T: Object> Drop for AtEnd<T> {
    fn drop(&mut self) {
        disarm(self.0.number());
        drop(self.0.close());
    }
}

/// A flag that is there before what it interrupts.
pub(crate) struct InterrupterObject(Interrupt);

impl Object for InterrupterObject {
    type Handle = panta_interrupter;
    const KIND: u8 = 7;
    const NAME: &'static str = "interrupter";
}

/// The flag of an opening: the caller's, or one of its own for NULL.
pub(crate) fn of_opening(interrupter: *const panta_interrupter) -> Result<Interrupt, Failed> {
    if interrupter.is_null() {
        return Ok(Interrupt::default());
    }
    let handle = Handle::<InterrupterObject>::from_pointer(interrupter);
    Ok(handle.get()?.0.clone())
}

fn with_flag(handle: *const c_void, act: impl FnOnce(&Interrupt)) -> panta_status {
    let handle = handle as usize as u64;
    let Some(flag) = flag_of(handle) else {
        return PANTA_ERROR_INVALID_HANDLE;
    };
    flag.users.fetch_add(1, Ordering::SeqCst);
    let found = flag.handle.load(Ordering::SeqCst) == handle;
    if found {
        // SAFETY: counted in, and the handle was there: `disarm` waits.
        if let Some(interrupt) = unsafe { &*flag.interrupt.get() } {
            act(interrupt);
        }
    }
    flag.users.fetch_sub(1, Ordering::SeqCst);
    if found {
        PANTA_OK
    } else {
        PANTA_ERROR_CLOSED_HANDLE
    }
}

/// Makes an interrupter: panta_interrupt takes it as it takes a writer or
/// reader, and ends the waits of what was opened with it in its options, of the
/// opening too. Several openings may have the same one.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_interrupter_open(
    interrupter: *mut *mut panta_interrupter,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_interrupter_open") };
    caller.answer(|| {
        caller.check_place(interrupter, "interrupter")?;
        let interrupt = Interrupt::default();
        let handle = Handle::open(Arc::new(InterrupterObject(interrupt.clone())))?;
        arm(handle.number(), interrupt);
        caller.give(interrupter, handle.to_pointer(), "interrupter")
    })
}

/// Lets go of an interrupter. What was opened with it goes on, and is interrupted
/// by its own handle.
// SAFETY: as for panta_interrupter_open.
#[unsafe(no_mangle)]
pub extern "C" fn panta_interrupter_close(interrupter: *mut panta_interrupter) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_interrupter_close") };
    caller.answer(|| {
        let handle = Handle::<InterrupterObject>::from_pointer(interrupter);
        // The slot is free for others only when nobody can reach the flag any more.
        disarm(handle.number());
        handle.close()
    })
}

/// Ends the waits of a writer or reader, or of what was opened with an
/// interrupter, within 50 ms, with PANTA_ERROR_INTERRUPTED: the one under way,
/// and those to come, until panta_clear_interrupt. May be called from a signal
/// handler and from any thread; sets no error message. What is opening has no
/// handle of its own yet: give it an interrupter.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub extern "C" fn panta_interrupt(handle: *const c_void) -> panta_status {
    with_flag(handle, Interrupt::set)
}

/// Takes the interrupt back, so that later waits run normally. May be called
/// where panta_interrupt may.
// SAFETY: as for panta_interrupt.
#[unsafe(no_mangle)]
pub extern "C" fn panta_clear_interrupt(handle: *const c_void) -> panta_status {
    with_flag(handle, Interrupt::clear)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_reached_while_its_handle_is_open_and_not_afterwards() {
        // Slots this high are out of reach of the handles that other tests open.
        let handle = 1_u64 << 26 | ((SLOT_LIMIT - 1) as u64) << 4 | 1;
        let pointer = handle as usize as *const c_void;
        assert_eq!(panta_interrupt(pointer), PANTA_ERROR_INVALID_HANDLE);
        let interrupt = Interrupt::default();
        arm(handle, interrupt.clone());
        assert_eq!(panta_interrupt(pointer), PANTA_OK);
        assert!(interrupt.is_set());
        assert_eq!(panta_clear_interrupt(pointer), PANTA_OK);
        assert!(!interrupt.is_set());
        disarm(handle);
        assert_eq!(panta_interrupt(pointer), PANTA_ERROR_CLOSED_HANDLE);
        assert_eq!(panta_interrupt(ptr::null()), PANTA_ERROR_INVALID_HANDLE);
    }
}
