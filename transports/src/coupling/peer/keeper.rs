//! One thread for all linked peers of the process that says for them that
//! they live, while their owners compute. It is there as long as one is; what
//! comes and goes in memory that is shared is mapped and unmapped by it, too.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use super::core::{Core, lock};
use crate::coupling::fork::Process;
use crate::shm::ShmRemote;
use crate::signals::BlockedSignals;
use crate::time::Time;

/// The epoll number of the bell; remotes count from 1.
const BELL: u64 = 0;

struct Keeper {
    process: Process,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    peers: Vec<Entry>,
    remotes: BTreeMap<u64, Weak<ShmRemote>>,
    last_remote: u64,
    /// Of the thread, while there is one.
    ears: Option<Arc<Ears>>,
}

/// What the thread sleeps on.
struct Ears {
    /// Rung where something changed.
    bell: OwnedFd,
    epoll: OwnedFd,
}

struct Entry {
    core: Weak<Core>,
    every: Duration,
    next: Time,
}

impl Ears {
    fn make() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(BELL);
        epoll::add(&epoll, &bell, data, epoll::EventFlags::IN)?;
        Ok(Self { bell, epoll })
    }

    fn ring(&self) {
        // It fails only where it was rung very often and not heard yet.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

static KEEPER: AtomicPtr<Keeper> = AtomicPtr::new(std::ptr::null_mut());

fn found() -> (*mut Keeper, Option<&'static Keeper>) {
    let found = KEEPER.load(Ordering::Acquire);
    // SAFETY: null, or a keeper that was leaked below.
    let keeper = unsafe { found.as_ref() };
    (found, keeper.filter(|keeper| !keeper.process.is_child()))
}

/// The keeper of this process. The child of a fork gets one of its own, since
/// the other's lock may be held for ever.
fn keeper() -> &'static Keeper {
    loop {
        let (before, keeper) = found();
        if let Some(keeper) = keeper {
            return keeper;
        }
        let new = Box::into_raw(Box::new(Keeper {
            process: Process::current(),
            kept: Mutex::default(),
        }));
        let put = KEEPER.compare_exchange(before, new, Ordering::AcqRel, Ordering::Acquire);
        if put.is_err() {
            // SAFETY: made above, and nobody has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// Sends heartbeats for this peer until it is dropped.
pub(super) fn keep(core: &Arc<Core>, every: Duration) -> io::Result<()> {
    let keeper = keeper();
    let mut kept = lock(&keeper.kept);
    if kept.ears.is_none() {
        kept.ears = Some(start(keeper)?);
    }
    kept.peers.push(Entry {
        core: Arc::downgrade(core),
        every,
        next: Time::now().after(every),
    });
    let ears = kept.ears.clone();
    drop(kept);
    ears.inspect(|ears| ears.ring());
    Ok(())
}

/// Starts the thread; it looks what there is to do when it gets the lock.
fn start(keeper: &'static Keeper) -> io::Result<Arc<Ears>> {
    let ears = Arc::new(Ears::make()?);
    let of_thread = Arc::clone(&ears);
    let blocked = BlockedSignals::new();
    let thread = std::thread::Builder::new()
        .name("panta-heartbeat".to_owned())
        .spawn(move || run(keeper, &of_thread));
    drop(blocked);
    thread.map(|_| ears)
}

/// Maps and unmaps for this remote what comes and goes while its owner
/// computes, as long as there is a peer that is [kept](keep).
pub(super) fn watch(remote: &Arc<ShmRemote>) {
    let (_, Some(keeper)) = found() else {
        return;
    };
    let mut kept = lock(&keeper.kept);
    let Some(ears) = kept.ears.clone() else {
        return;
    };
    kept.last_remote += 1;
    let number = kept.last_remote;
    // Told once for each packet: a call that waits for it may be the one that
    // takes it. Closing the socket ends it.
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    let data = epoll::EventData::new_u64(number);
    if epoll::add(&ears.epoll, &**remote, data, flags).is_ok() {
        kept.remotes.insert(number, Arc::downgrade(remote));
    }
}

/// A peer is gone: the thread may go, too.
pub(super) fn forget() {
    if let (_, Some(keeper)) = found() {
        let ears = lock(&keeper.kept).ears.clone();
        ears.inspect(|ears| ears.ring());
    }
}

fn run(keeper: &Keeper, ears: &Ears) {
    loop {
        let mut kept = lock(&keeper.kept);
        kept.peers.retain(|entry| entry.core.strong_count() > 0);
        kept.remotes.retain(|_, remote| remote.strong_count() > 0);
        let Some(next) = kept.peers.iter().map(|entry| entry.next).min() else {
            kept.ears = None;
            kept.remotes.clear();
            return;
        };
        let now = Time::now();
        if next > now {
            drop(kept);
            serve(keeper, ears, next.since(now));
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
    }
}

/// Sleeps until somebody rings or something comes, for so long at most.
fn serve(keeper: &Keeper, ears: &Ears, at_most: Duration) {
    let mut ready = Vec::with_capacity(16);
    let timeout = Timespec::try_from(at_most).ok();
    let buffer = rustix::buffer::spare_capacity(&mut ready);
    if epoll::wait(&ears.epoll, buffer, timeout.as_ref()).is_err() {
        return;
    }
    for event in ready {
        let number = event.data.u64();
        if number == BELL {
            let _ = rustix::io::read(&ears.bell, &mut [0; 8]);
            continue;
        }
        let remote = lock(&keeper.kept).remotes.get(&number).cloned();
        if let Some(remote) = remote.and_then(|remote| remote.upgrade()) {
            // An end is told to whoever needs more than is mapped.
            let _ = remote.tidy();
        }
    }
}
