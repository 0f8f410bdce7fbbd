//! Turns: one thread at a time, and those that wait do so by a deadline.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::time::{Wait, WaitError};

/// Who is in it has the turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    is_taken: Mutex<bool>,
    is_free: Condvar,
}

/// Gives the turn back when dropped.
#[derive(Debug)]
pub(super) struct TurnGuard<'t>(&'t Turn);

impl Turn {
    pub(super) fn take(&self, wait: &Wait) -> Result<TurnGuard<'_>, WaitError> {
        let mut is_taken = self.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *is_taken {
            let slice = wait.slice()?;
            let woken = self.is_free.wait_timeout(is_taken, slice);
            is_taken = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        *is_taken = true;
        Ok(TurnGuard(self))
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        let mut is_taken = self
            .0
            .is_taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *is_taken = false;
        self.0.is_free.notify_one();
    }
}
