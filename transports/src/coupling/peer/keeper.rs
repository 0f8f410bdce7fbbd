//! One thread for all linked peers of the process that says for them that
//! they live, while their owners compute. It is there as long as one is.

use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::core::{Core, lock};
use crate::coupling::fork::Process;
use crate::signals::BlockedSignals;
use crate::time::Time;

struct Keeper {
    process: Process,
    kept: Mutex<Kept>,
    changed: Condvar,
}

#[derive(Default)]
struct Kept {
    peers: Vec<Entry>,
    is_running: bool,
}

struct Entry {
    core: Weak<Core>,
    every: Duration,
    next: Time,
}

/// The keeper of this process. The child of a fork gets one of its own, since
/// the other's lock may be held for ever.
fn keeper() -> &'static Keeper {
    static KEEPER: AtomicPtr<Keeper> = AtomicPtr::new(std::ptr::null_mut());
    loop {
        let found = KEEPER.load(Ordering::Acquire);
        // SAFETY: null, or a keeper that was leaked below.
        if let Some(keeper) = unsafe { found.as_ref() }
            && !keeper.process.is_child()
        {
            return keeper;
        }
        let new = Box::into_raw(Box::new(Keeper {
            process: Process::current(),
            kept: Mutex::default(),
            changed: Condvar::new(),
        }));
        let put = KEEPER.compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire);
        if put.is_err() {
            // SAFETY: made above, and nobody has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// Sends heartbeats for this peer until it is dropped.
pub(super) fn keep(core: &Arc<Core>, every: Duration) -> std::io::Result<()> {
    let keeper = keeper();
    let mut kept = lock(&keeper.kept);
    kept.peers.push(Entry {
        core: Arc::downgrade(core),
        every,
        next: Time::now().after(every),
    });
    if !kept.is_running {
        let blocked = BlockedSignals::new();
        let thread = std::thread::Builder::new()
            .name("panta-heartbeat".to_owned())
            .spawn(|| run(keeper));
        drop(blocked);
        if let Err(error) = thread {
            kept.peers.pop();
            return Err(error);
        }
        kept.is_running = true;
    }
    drop(kept);
    keeper.changed.notify_one();
    Ok(())
}

/// A peer is gone: the thread may go, too.
pub(super) fn forget() {
    keeper().changed.notify_one();
}

fn run(keeper: &Keeper) {
    let mut kept = lock(&keeper.kept);
    loop {
        kept.peers.retain(|entry| entry.core.strong_count() > 0);
        let Some(next) = kept.peers.iter().map(|entry| entry.next).min() else {
            kept.is_running = false;
            return;
        };
        let now = Time::now();
        if next > now {
            let woken = keeper.changed.wait_timeout(kept, next.since(now));
            kept = woken.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let mut due = Vec::new();
        for entry in kept.peers.iter_mut().filter(|entry| entry.next <= now) {
            entry.next = now.after(entry.every);
            due.extend(entry.core.upgrade());
        }
        // Without the lock: whoever drops the last of a peer comes back here.
        drop(kept);
        for core in due {
            core.send_heartbeat();
        }
        kept = lock(&keeper.kept);
    }
}
