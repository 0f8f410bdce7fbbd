//! State that one thread uses at a time: a second is told so, and never waits.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::failed::Failed;
use crate::types::*;

/// The state behind a handle that one thread uses at a time; `None` once closed. Nobody
/// waits for it, so it needs no lock but a mark.
pub(crate) struct Exclusive<S> {
    is_in_use: AtomicBool,
    /// Whether a panic left it half changed.
    is_broken: AtomicBool,
    state: UnsafeCell<Option<S>>,
}

// SAFETY: the state is reached through `InUse` alone, of which there is one at a time.
unsafe impl<S: Send> Sync for Exclusive<S> {}

/// The state, in use.
pub(crate) struct InUse<'a, S> {
    of: &'a Exclusive<S>,
    name: &'static str,
    /// Whether a panic was under way before: it is not this state's.
    was_panicking: bool,
}

impl<S> Exclusive<S> {
    pub(crate) fn new(state: S) -> Self {
        Self {
            is_in_use: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            state: UnsafeCell::new(Some(state)),
        }
    }

    /// Uses the state, unless another thread does.
    #[inline]
    pub(crate) fn enter(&self, name: &'static str) -> Result<InUse<'_, S>, Failed> {
        let used = self.enter_broken(name)?;
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(broken(name));
        }
        Ok(used)
    }

    /// The same, also after a panic.
    #[inline]
    fn enter_broken(&self, name: &'static str) -> Result<InUse<'_, S>, Failed> {
        // What the thread before did to the state happened before this.
        if self.is_in_use.swap(true, Ordering::Acquire) {
            return Err(busy(name));
        }
        Ok(InUse {
            of: self,
            name,
            was_panicking: thread::panicking(),
        })
    }

    /// Takes the state out, also after a panic.
    pub(crate) fn take(&self, name: &'static str) -> Result<Option<S>, Failed> {
        Ok(self.enter_broken(name)?.place().take())
    }
}

impl<S> InUse<'_, S> {
    #[inline]
    fn place(&mut self) -> &mut Option<S> {
        // SAFETY: there is one `InUse`, and it is borrowed for as long as the result.
        unsafe { &mut *self.of.state.get() }
    }

    /// The state.
    #[inline]
    pub(crate) fn state(&mut self) -> Result<&mut S, Failed> {
        let name = self.name;
        self.place()
            .as_mut()
            .ok_or_else(|| Failed::new(PANTA_ERROR_CLOSED_HANDLE, format!("the {name} was closed")))
    }
}

impl<S> Drop for InUse<'_, S> {
    #[inline]
    fn drop(&mut self) {
        if !self.was_panicking && thread::panicking() {
            self.of.is_broken.store(true, Ordering::Relaxed);
        }
        self.of.is_in_use.store(false, Ordering::Release);
    }
}

#[cold]
fn busy(name: &str) -> Failed {
    let message = format!("another thread, or a callback, uses the {name} while a call on it runs");
    Failed::new(PANTA_ERROR_BUSY_HANDLE, message)
}

#[cold]
fn broken(name: &str) -> Failed {
    let message = format!("the {name} broke in an earlier call; close it");
    Failed::new(PANTA_ERROR_PANIC, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

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
    #[test]
    fn state_that_a_panic_left_is_broken_until_it_is_taken() {
        let state = Exclusive::new(1);
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _used = state.enter("one");
            panic!("while in use");
        }));
        assert!(broken.is_err());
        assert_eq!(state.enter("one").err().unwrap().status, PANTA_ERROR_PANIC);
        assert_eq!(state.take("one").unwrap(), Some(1));
    }

    #[test]
    fn of_threads_that_enter_at_once_one_is_in() {
        let (state, inside) = (Exclusive::new(0_u64), AtomicBool::new(false));
        let entered: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut entered = 0;
                        for _ in 0..500 {
                            let Ok(mut used) = state.enter("one") else {
                                continue;
                            };
                            assert!(!inside.swap(true, Ordering::SeqCst));
                            *used.state().unwrap() += 1;
                            inside.store(false, Ordering::SeqCst);
                            entered += 1;
                        }
                        entered
                    })
                })
                .collect();
            let threads = threads.into_iter();
            threads.map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(state.take("one").unwrap(), Some(entered));
    }
}
