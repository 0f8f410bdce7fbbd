//! State that one thread uses at a time: a second is told so, and never waits.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::failed::Failed;
use crate::types::*;

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
