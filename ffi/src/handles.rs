//! Handles: numbers in the shape of pointers, looked up in a table.
//!
//! ```text
//! bit  62 ........ 26 | 25 ....... 4 | 3 .. 1 | 0
//!      generation     | slot         | kind   | 1
//! ```
//! A handle is never dereferenced, so a stale or wild one is an error and not a
//! crash. The lowest bit makes it differ from every address that an allocator
//! gives; the generation makes it differ from every handle that had its slot
//! before.
//!
//! Looking one up takes no lock: whoever does counts itself into the slot, sees
//! whether the handle is there, and counts itself out when done. Closing takes the
//! handle away; the object goes when nobody is counted in any more, at the hands of
//! whoever was last.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::failed::Failed;
use crate::types::*;

const KIND_BITS: u32 = 3;
const SLOT_BITS: u32 = 22;
/// How many handles can be open at once.
pub(crate) const SLOT_LIMIT: usize = 1 << SLOT_BITS;
const SLOT_SHIFT: u32 = 1 + KIND_BITS;
const GENERATION_SHIFT: u32 = SLOT_SHIFT + SLOT_BITS;
/// Slots are made so many at a time, and stay for good.
const CHUNK: usize = 256;

const _: () = assert!(size_of::<usize>() == 8, "handles need 64-bit pointers");

/// What a handle stands for.
pub(crate) trait Object: Any + Send + Sync {
    /// The type of its handle in C.
    type Handle;
    /// Its number in the handle; differs from kind to kind, below 8.
    const KIND: u8;
    /// What people call it.
    const NAME: &'static str;
}

/// Set in [`Slot::users`] from when a handle is closed until its object is gone.
const CLOSED: u64 = 1 << 63;

struct Slot {
    /// The handle that is open here; 0 while none is.
    handle: AtomicU64,
    /// How many are counted in, and [`CLOSED`].
    users: AtomicU64,
    /// The generation of the last handle that was opened here.
    generation: AtomicU64,
    object: UnsafeCell<Option<Arc<dyn Any + Send + Sync>>>,
}

// SAFETY: the cell is written only by `Handle::open`, before its handle is there and
// while no other has the slot, and by `leave`, after the handle is gone and when nobody
// who saw it is counted in. It is read only by those who counted themselves in and then
// saw the handle.
unsafe impl Sync for Slot {}

impl Slot {
    const fn empty() -> Self {
        Self {
            handle: AtomicU64::new(0),
            users: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            object: UnsafeCell::new(None),
        }
    }

    /// The object.
    ///
    /// # Safety
    /// The caller is counted in, and saw the handle when it was: the object stays until
    /// it counts itself out.
    #[inline]
    unsafe fn shared(&self) -> &Arc<dyn Any + Send + Sync> {
        // SAFETY: as said above.
        match unsafe { &*self.object.get() } {
            Some(object) => object,
            None => unreachable!("a handle is there with its object"),
        }
    }

    /// Counts the caller out; the last one after a close lets the object go.
    fn leave(&self, number: usize) {
        if self.users.fetch_sub(1, Ordering::SeqCst) == CLOSED | 1 {
            self.let_go(number);
        }
    }

    #[cold]
    fn let_go(&self, number: usize) {
        // Of several who get here, one finds the mark: nobody is counted in who saw the
        // handle, since it is gone, and whoever comes now does not see it.
        let taken = self
            .users
            .compare_exchange(CLOSED, 0, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_err() {
            return;
        }
        // SAFETY: as just said; the slot is not free for others yet.
        let object = unsafe { (*self.object.get()).take() };
        free().slots.push(number);
        // Last, since what is let go may call its user, who may use handles.
        drop(object);
    }
}

static CHUNKS: [AtomicPtr<[Slot; CHUNK]>; SLOT_LIMIT / CHUNK] =
    [const { AtomicPtr::new(ptr::null_mut()) }; SLOT_LIMIT / CHUNK];

/// The slots that no handle has, and how many were ever used.
struct Free {
    slots: Vec<usize>,
    used: usize,
}

static FREE: Mutex<Free> = Mutex::new(Free {
    slots: Vec::new(),
    used: 0,
});

fn free() -> std::sync::MutexGuard<'static, Free> {
    // Nothing that is done under this lock can leave it half changed.
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn slot_at(number: usize) -> Option<&'static Slot> {
    let chunk = CHUNKS[number / CHUNK].load(Ordering::Acquire);
    // SAFETY: a chunk that was entered lives for good.
    unsafe { chunk.as_ref() }.map(|chunk| &chunk[number % CHUNK])
}

/// A slot that no handle has.
fn take_slot() -> Option<(usize, &'static Slot)> {
    let mut free = free();
    let number = match free.slots.pop() {
        Some(number) => number,
        None if free.used < SLOT_LIMIT => {
            let place = &CHUNKS[free.used / CHUNK];
            if place.load(Ordering::Acquire).is_null() {
                // Nobody else enters chunks meanwhile: the lock is held.
                let chunk = Box::new([const { Slot::empty() }; CHUNK]);
                place.store(Box::into_raw(chunk), Ordering::Release);
            }
            free.used += 1;
            free.used - 1
        }
        None => return None,
    };
    slot_at(number).map(|slot| (number, slot))
}

/// The slot of a handle, if it can be one.
pub(crate) fn slot_of(handle: u64) -> Option<usize> {
    (handle & 1 == 1).then_some((handle >> SLOT_SHIFT) as usize & (SLOT_LIMIT - 1))
}

/// An object in use: it stays until this is dropped, also when its handle is closed.
pub(crate) struct Held<T: Object> {
    slot: &'static Slot,
    number: usize,
    /// In the slot.
    object: NonNull<T>,
}

impl<T: Object> Held<T> {
    /// The object for longer than a call.
    pub(crate) fn keep(&self) -> Arc<T> {
        // SAFETY: counted in, as `Slot::shared` asks.
        match Arc::clone(unsafe { self.slot.shared() }).downcast() {
            Ok(object) => object,
            Err(_) => unreachable!("a handle's kind is its object's"),
        }
    }
}

impl<T: Object> Deref for Held<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: counted in, and the handle was there: the object stays until `leave`.
        unsafe { self.object.as_ref() }
    }
}

impl<T: Object> Drop for Held<T> {
    fn drop(&mut self) {
        self.slot.leave(self.number);
    }
}

/// A handle of a kind, as C passes it.
pub(crate) struct Handle<T: Object> {
    number: u64,
    object: PhantomData<T>,
}

impl<T: Object> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Object> Copy for Handle<T> {}

impl<T: Object> Handle<T> {
    pub(crate) fn from_pointer(pointer: *const T::Handle) -> Self {
        Self {
            number: pointer as usize as u64,
            object: PhantomData,
        }
    }

    pub(crate) fn to_pointer(self) -> *mut T::Handle {
        self.number as usize as *mut T::Handle
    }

    pub(crate) fn number(self) -> u64 {
        self.number
    }

    /// Enters an object.
    pub(crate) fn open(object: Arc<T>) -> Result<Self, Failed> {
        let Some((place, slot)) = take_slot() else {
            let message = format!("{SLOT_LIMIT} handles are open; close some");
            return Err(Failed::new(PANTA_ERROR_TOO_MANY_HANDLES, message));
        };
        // SAFETY: the slot was free, so no handle leads to it until the store below.
        unsafe { *slot.object.get() = Some(object) };
        let generation = slot.generation.fetch_add(1, Ordering::SeqCst) + 1;
        let number = generation << GENERATION_SHIFT
            | (place as u64) << SLOT_SHIFT
            | u64::from(T::KIND) << 1
            | 1;
        slot.handle.store(number, Ordering::SeqCst);
        Ok(Self {
            number,
            object: PhantomData,
        })
    }

    fn is_of_its_kind(self) -> bool {
        (self.number >> 1) as u8 & ((1 << KIND_BITS) - 1) == T::KIND
    }

    /// The object behind the handle.
    #[inline(always)] // in every call
    pub(crate) fn get(self) -> Result<Held<T>, Failed> {
        let slot = slot_of(self.number).filter(|_| self.is_of_its_kind());
        let Some((number, slot)) = slot.and_then(|slot| Some((slot, slot_at(slot)?))) else {
            return Err(self.why_not());
        };
        slot.users.fetch_add(1, Ordering::SeqCst);
        // Who is counted in before it looks is seen by `close`, which looks afterwards.
        if slot.handle.load(Ordering::SeqCst) != self.number {
            slot.leave(number);
            return Err(self.why_not());
        }
        // SAFETY: just counted in, and the handle is there.
        let Some(object) = unsafe { slot.shared() }.downcast_ref() else {
            unreachable!("a handle's kind is its object's");
        };
        let object = NonNull::from_ref(object);
        Ok(Held {
            slot,
            number,
            object,
        })
    }

    /// Takes the handle back: whoever uses it later is told that it is closed. The
    /// object goes when nobody uses it any more.
    pub(crate) fn close(self) -> Result<(), Failed> {
        let held = self.get()?;
        held.slot
            .handle
            .compare_exchange(self.number, 0, Ordering::SeqCst, Ordering::SeqCst)
            .map_err(|_| self.closed())?;
        held.slot.users.fetch_or(CLOSED, Ordering::SeqCst);
        Ok(())
    }

    /// What who uses a handle that is not open is told.
    #[cold]
    fn why_not(self) -> Failed {
        let name = T::NAME;
        if self.number == 0 {
            return Failed::new(PANTA_ERROR_NULL, format!("the {name} is NULL"));
        }
        let generation = self.number >> GENERATION_SHIFT;
        let what = match slot_of(self.number).and_then(slot_at) {
            Some(slot) if generation <= slot.generation.load(Ordering::SeqCst) => {
                if generation > 0 && self.is_of_its_kind() {
                    return self.closed();
                }
                "a handle of another kind"
            }
            _ => "no handle of this library",
        };
        let message = format!("the pointer given as a {name} is {what}");
        Failed::new(PANTA_ERROR_INVALID_HANDLE, message)
    }

    /// What who uses a handle that was closed is told.
    pub(crate) fn closed(self) -> Failed {
        Failed::new(
            PANTA_ERROR_CLOSED_HANDLE,
            format!("the {} was closed", T::NAME),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    struct One;
    struct Two;

    impl Object for One {
        type Handle = panta_comm;
        const KIND: u8 = 6;
        const NAME: &'static str = "one";
    }

    impl Object for Two {
        type Handle = panta_view;
        const KIND: u8 = 7;
        const NAME: &'static str = "two";
    }

    #[test]
    fn a_closed_handle_stays_closed_when_its_slot_is_used_again() {
        let first = Handle::open(Arc::new(One)).unwrap();
        first.close().unwrap();
        let mut others = Vec::new();
        while others
            .last()
            .is_none_or(|other: &Handle<One>| slot_of(other.number) != slot_of(first.number))
        {
            others.push(Handle::open(Arc::new(One)).unwrap());
        }
        for _ in 0..2 {
            assert_eq!(first.get().err().unwrap().status, PANTA_ERROR_CLOSED_HANDLE);
        }
        assert_eq!(
            first.close().err().unwrap().status,
            PANTA_ERROR_CLOSED_HANDLE
        );
        others.into_iter().for_each(|other| other.close().unwrap());
    }

    #[test]
    fn a_pointer_that_is_no_handle_and_one_of_another_kind_are_told_apart_from_closed_ones() {
        let local = 0_u64;
        let wild = Handle::<One>::from_pointer((&raw const local).cast());
        assert_eq!(wild.get().err().unwrap().status, PANTA_ERROR_INVALID_HANDLE);
        let wild = Handle::<One>::from_pointer(usize::MAX as *const _);
        assert_eq!(wild.get().err().unwrap().status, PANTA_ERROR_INVALID_HANDLE);
        let null = Handle::<One>::from_pointer(ptr::null());
        assert_eq!(null.get().err().unwrap().status, PANTA_ERROR_NULL);
        let one = Handle::open(Arc::new(One)).unwrap();
        let two = Handle::<Two>::from_pointer(one.to_pointer().cast());
        assert_eq!(two.get().err().unwrap().status, PANTA_ERROR_INVALID_HANDLE);
        one.close().unwrap();
    }

    /// Counts its drops.
    struct Counted(Arc<AtomicU64>);

    impl Object for Counted {
        type Handle = panta_step;
        const KIND: u8 = 6;
        const NAME: &'static str = "counted";
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_object_in_use_outlives_its_handle_and_goes_once() {
        let drops = Arc::new(AtomicU64::new(0));
        let handle = Handle::open(Arc::new(Counted(Arc::clone(&drops)))).unwrap();
        let (one, other) = (handle.get().unwrap(), handle.get().unwrap());
        handle.close().unwrap();
        assert!(handle.get().is_err() && handle.close().is_err());
        drop(one);
        assert_eq!(drops.load(Ordering::SeqCst), 0, "still in use");
        let kept = other.keep();
        drop(other);
        assert_eq!(drops.load(Ordering::SeqCst), 0, "kept");
        drop(kept);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn of_threads_that_close_and_use_one_handle_one_closes_it_and_none_sees_it_gone() {
        let drops = Arc::new(AtomicU64::new(0));
        let rounds = 200;
        for round in 0..rounds {
            let handle = Handle::open(Arc::new(Counted(Arc::clone(&drops)))).unwrap();
            let closed = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            for _ in 0..20 {
                                if let Ok(held) = handle.get() {
                                    assert_eq!(held.0.load(Ordering::SeqCst), round);
                                }
                            }
                            u64::from(handle.close().is_ok())
                        })
                    })
                    .collect();
                threads
                    .into_iter()
                    .map(|it| it.join().unwrap())
                    .sum::<u64>()
            });
            assert_eq!(closed, 1);
            assert_eq!(drops.load(Ordering::SeqCst), round + 1);
        }
    }
}
