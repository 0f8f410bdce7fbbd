//! What counts against the limit of an arena, and until when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Arena, State};
use crate::time::{Wait, WaitError};

/// What is held, over all that is charged.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: AtomicU64,
    lock: Mutex<()>,
    given_back: Condvar,
}

impl Held {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until less than `bytes` are held.
    pub(super) fn wait_below(&self, bytes: u64, wait: &Wait) -> Result<(), WaitError> {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.bytes() >= bytes {
            let waited = self.given_back.wait_timeout(guard, wait.slice()?);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Arena {
    /// What of that are regions which were given up here, and which others
    /// have not unmapped yet.
    #[must_use]
    pub fn lingering_bytes(&self) -> u64 {
        self.lingering_beside(&self.0.lock())
    }

    /// The same, by who has the state.
    pub(super) fn lingering_beside(&self, state: &MutexGuard<'_, State>) -> u64 {
        let regions = state.regions.values().map(|region| region.bytes());
        let known = regions.chain(state.making.iter().copied()).sum();
        self.held_bytes().saturating_sub(known)
    }

    /// Gives free regions back until `bytes` fit beside what lingers, if they
    /// can: for where that is not unmapped soon.
    pub fn make_room(&self, bytes: u64) {
        self.give_back(bytes.saturating_add(self.lingering_bytes()));
    }

    /// Waits until some of what lingers is unmapped; at once where nothing
    /// does.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_for_lingering(&self, wait: &Wait) -> Result<(), WaitError> {
        let held = self.held_bytes();
        match self.lingering_bytes() {
            0 => Ok(()),
            _ => self.0.held.wait_below(held, wait),
        }
    }
}

/// Bytes that count against an arena's limit until this is dropped: while the
/// region is there, or somebody else has its memory mapped.
#[derive(Debug)]
pub(crate) struct Charge {
    held: Arc<Held>,
    bytes: u64,
}

impl Charge {
    /// `bytes` more, if they and what is held stay within the limit.
    pub(super) fn within(held: &Arc<Held>, bytes: u64, limit_bytes: u64) -> Option<Self> {
        let fits = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= limit_bytes);
        held.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .ok()?;
        Some(Self {
            held: Arc::clone(held),
            bytes,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let guard = self.held.lock.lock();
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        drop(guard);
        self.held.given_back.notify_all();
    }
}
