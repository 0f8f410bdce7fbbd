//! Turns: one thread at a time, and those that wait do so by a deadline.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::time::{Wait, WaitError};

/// Who is in it has the turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    state: Mutex<State>,
    is_free: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_taken: bool,
    /// Threads that sleep for it: to wake nobody is a system call, too.
    waiting: usize,
}

/// Gives the turn back when dropped.
#[derive(Debug)]
pub(super) struct TurnGuard<'t>(&'t Turn);

impl Turn {
    pub(super) fn take(&self, wait: &Wait) -> Result<TurnGuard<'_>, WaitError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.is_taken {
            let slice = wait.slice()?;
            state.waiting += 1;
            let woken = self.is_free.wait_timeout(state, slice);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
        state.is_taken = true;
        Ok(TurnGuard(self))
    }

    /// The turn, unless somebody has it.
    pub(super) fn try_take(&self) -> Option<TurnGuard<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = !std::mem::replace(&mut state.is_taken, true);
        is_free.then(|| TurnGuard(self))
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_taken = false;
        let somebody_waits = state.waiting > 0;
        drop(state);
        if somebody_waits {
            self.0.is_free.notify_one();
        }
    }
}
