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
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use panta_transports::time::Interrupt;

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

/// Ends the waits of a writer or reader within 50 ms, with
/// PANTA_ERROR_INTERRUPTED: the one under way, and those to come, until
/// panta_clear_interrupt. May be called from a signal handler and from any
/// thread; sets no error message. What is opening has no handle yet and ends at
/// its deadline.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub extern "C" fn panta_interrupt(writer_or_reader: *const c_void) -> panta_status {
    with_flag(writer_or_reader, Interrupt::set)
}

/// Takes the interrupt back, so that later waits run normally. May be called
/// where panta_interrupt may.
// SAFETY: as for panta_interrupt.
#[unsafe(no_mangle)]
pub extern "C" fn panta_clear_interrupt(writer_or_reader: *const c_void) -> panta_status {
    with_flag(writer_or_reader, Interrupt::clear)
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
