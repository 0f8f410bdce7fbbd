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

use std::any::Any;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::failed::Failed;
use crate::types::*;

const KIND_BITS: u32 = 3;
const SLOT_BITS: u32 = 22;
/// How many handles can be open at once.
pub(crate) const SLOT_LIMIT: usize = 1 << SLOT_BITS;
const SLOT_SHIFT: u32 = 1 + KIND_BITS;
const GENERATION_SHIFT: u32 = SLOT_SHIFT + SLOT_BITS;

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

#[derive(Default)]
struct Slot {
    generation: u64,
    kind: u8,
    object: Option<Arc<dyn Any + Send + Sync>>,
}

struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

static TABLE: Mutex<Table> = Mutex::new(Table {
    slots: Vec::new(),
    free: Vec::new(),
});

fn table() -> MutexGuard<'static, Table> {
    // Nothing that is done under this lock can leave the table half changed.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The slot of a handle, if it can be one.
pub(crate) fn slot_of(handle: u64) -> Option<usize> {
    (handle & 1 == 1).then_some((handle >> SLOT_SHIFT) as usize & (SLOT_LIMIT - 1))
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
        let mut table = table();
        let slot = match table.free.pop() {
            Some(slot) => slot,
            None if table.slots.len() < SLOT_LIMIT => {
                table.slots.push(Slot::default());
                table.slots.len() - 1
            }
            None => {
                let message = format!("{SLOT_LIMIT} handles are open; close some");
                return Err(Failed::new(PANTA_ERROR_TOO_MANY_HANDLES, message));
            }
        };
        let entry = &mut table.slots[slot];
        entry.generation += 1;
        entry.kind = T::KIND;
        entry.object = Some(object);
        let number = entry.generation << GENERATION_SHIFT
            | (slot as u64) << SLOT_SHIFT
            | u64::from(T::KIND) << 1
            | 1;
        Ok(Self {
            number,
            object: PhantomData,
        })
    }

    /// The object behind the handle.
    pub(crate) fn get(self) -> Result<Arc<T>, Failed> {
        let table = table();
        let slot = &table.slots[self.live_slot(&table)?];
        let object = slot.object.as_ref().map(Arc::clone);
        object
            .and_then(|object| object.downcast::<T>().ok())
            .ok_or_else(|| self.closed())
    }

    /// Takes the handle back: whoever uses it later is told that it is closed.
    pub(crate) fn close(self) -> Result<Arc<T>, Failed> {
        let mut table = table();
        let slot = self.live_slot(&table)?;
        let object = table.slots[slot].object.take();
        table.free.push(slot);
        drop(table);
        object
            .and_then(|object| object.downcast::<T>().ok())
            .ok_or_else(|| self.closed())
    }

    fn live_slot(self, table: &Table) -> Result<usize, Failed> {
        let name = T::NAME;
        if self.number == 0 {
            return Err(Failed::new(PANTA_ERROR_NULL, format!("the {name} is NULL")));
        }
        let invalid = |what: &str| {
            let message = format!("the pointer given as a {name} is {what}");
            Err(Failed::new(PANTA_ERROR_INVALID_HANDLE, message))
        };
        let Some(slot) = slot_of(self.number) else {
            return invalid("no handle of this library");
        };
        let generation = self.number >> GENERATION_SHIFT;
        let Some(entry) = table
            .slots
            .get(slot)
            .filter(|entry| generation <= entry.generation)
        else {
            return invalid("no handle of this library");
        };
        if (self.number >> 1) as u8 & ((1 << KIND_BITS) - 1) != T::KIND {
            return invalid("a handle of another kind");
        }
        if generation != entry.generation || entry.object.is_none() {
            return Err(self.closed());
        }
        Ok(slot)
    }

    /// What who uses a handle that was closed is told.
    pub(crate) fn closed(self) -> Failed {
        Failed::new(
            PANTA_ERROR_CLOSED_HANDLE,
            format!("the {} was closed", T::NAME),
        )
    }
}

/// The state behind a handle that one thread uses at a time; `None` once closed.
pub(crate) struct Exclusive<S>(Mutex<Option<S>>);

/// The state, in use.
pub(crate) struct InUse<'a, S>(MutexGuard<'a, Option<S>>, &'static str);

impl<S> Exclusive<S> {
    pub(crate) fn new(state: S) -> Self {
        Self(Mutex::new(Some(state)))
    }

    /// Uses the state, unless another thread does.
    pub(crate) fn enter(&self, name: &'static str) -> Result<InUse<'_, S>, Failed> {
        match self.0.try_lock() {
            Ok(guard) => Ok(InUse(guard, name)),
            Err(TryLockError::WouldBlock) => Err(Failed::new(
                PANTA_ERROR_BUSY_HANDLE,
                format!("another thread, or a callback, uses the {name} while a call on it runs"),
            )),
            Err(TryLockError::Poisoned(_)) => Err(Failed::new(
                PANTA_ERROR_PANIC,
                format!("the {name} broke in an earlier call; close it"),
            )),
        }
    }

    /// Takes the state out, also after a panic.
    pub(crate) fn take(&self, name: &'static str) -> Result<Option<S>, Failed> {
        match self.enter(name) {
            Ok(mut guard) => Ok(guard.0.take()),
            Err(failed) if failed.status == PANTA_ERROR_PANIC => {
                let mut broken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(broken.take())
            }
            Err(failed) => Err(failed),
        }
    }
}

impl<S> InUse<'_, S> {
    /// The state.
    pub(crate) fn state(&mut self) -> Result<&mut S, Failed> {
        let name = self.1;
        self.0
            .as_mut()
            .ok_or_else(|| Failed::new(PANTA_ERROR_CLOSED_HANDLE, format!("the {name} was closed")))
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
        others
            .into_iter()
            .for_each(|other| drop(other.close().unwrap()));
    }

    #[test]
    fn a_pointer_that_is_no_handle_and_one_of_another_kind_are_told_apart_from_closed_ones() {
        let local = 0_u64;
        let wild = Handle::<One>::from_pointer((&raw const local).cast());
        assert_eq!(wild.get().err().unwrap().status, PANTA_ERROR_INVALID_HANDLE);
        let wild = Handle::<One>::from_pointer(usize::MAX as *const _);
        assert_eq!(wild.get().err().unwrap().status, PANTA_ERROR_INVALID_HANDLE);
        let null = Handle::<One>::from_pointer(std::ptr::null());
        assert_eq!(null.get().err().unwrap().status, PANTA_ERROR_NULL);
        let one = Handle::open(Arc::new(One)).unwrap();
        let two = Handle::<Two>::from_pointer(one.to_pointer().cast());
        assert_eq!(two.get().err().unwrap().status, PANTA_ERROR_INVALID_HANDLE);
        one.close().unwrap();
    }

    #[test]
    fn state_that_is_in_use_is_busy_and_state_that_was_taken_is_closed() {
        let state = Exclusive::new(1);
        let mut used = state.enter("one").unwrap();
        assert_eq!(*used.state().unwrap(), 1);
        assert_eq!(
            state.enter("one").err().unwrap().status,
            PANTA_ERROR_BUSY_HANDLE
        );
        drop(used);
        assert_eq!(state.take("one").unwrap(), Some(1));
        let mut used = state.enter("one").unwrap();
        assert_eq!(
            used.state().err().unwrap().status,
            PANTA_ERROR_CLOSED_HANDLE
        );
    }
}
