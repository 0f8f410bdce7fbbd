//! A driver that several may use, one at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
pub(super) type Shared<T> = Arc<Mutex<T>>;

/// A lock whose holder panicked is still a lock: what it guards is whole after
/// every statement.
pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
