//! Payload in memory: regions that the machine names, in buffers that are reused.
//!
//! ```text
//!   socket ──receive──> Buffer ──keep──> Region (Arc) ──> gathers, sends
//!                          ^                 │ last Arc gone
//!                          └──── Pool <──────┘
//! ```
//! A buffer that is mapped anew costs some seven copies in page faults, so
//! those of dropped regions are kept, up to a limit, and handed out again.
//!
//! It promises: a region stays where it is and as it is for as long as anybody
//! holds it; what is being received, before the machine has counted it, never
//! takes more than [`Arriving`]'s limit; idle buffers never more than theirs.
//! It does not decide what is kept: that is the machine's.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use panta_staging::proto::RegionId;

/// Buffers are made in multiples of this, so that they fit more than one use.
const BUFFER_STEP_BYTES: usize = 64 << 10;
/// The most idle buffers that are looked through for one that fits.
const IDLE_BUFFERS_LIMIT: usize = 1024;

/// Memory for one body, longer than it by little.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    length: usize,
}

impl Buffer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[..self.length]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }
}

/// Idle buffers, by their length.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<Idle>,
    limit_bytes: usize,
}

#[derive(Debug, Default)]
struct Idle {
    /// (length, number): the number makes equal lengths differ.
    buffers: BTreeMap<(usize, u64), Vec<u8>>,
    bytes: usize,
    next: u64,
}

impl Pool {
    pub(crate) fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            limit_bytes,
        })
    }

    /// A buffer of `length` bytes; what it holds is whatever it held.
    pub(crate) fn take(&self, length: usize) -> Buffer {
        let rounded = length.next_multiple_of(BUFFER_STEP_BYTES);
        let most = rounded + rounded / 4;
        let mut idle = lock(&self.idle);
        let fitting = idle.buffers.range((rounded, 0)..=(most, u64::MAX)).next();
        if let Some(key) = fitting.map(|(key, _)| *key)
            && let Some(memory) = idle.buffers.remove(&key)
        {
            idle.bytes -= key.0;
            return Buffer { memory, length };
        }
        drop(idle);
        Buffer {
            memory: vec![0; rounded],
            length,
        }
    }

    pub(crate) fn give(&self, buffer: Buffer) {
        let memory = buffer.memory;
        let mut idle = lock(&self.idle);
        let full = idle.bytes + memory.len() > self.limit_bytes;
        if full || idle.buffers.len() >= IDLE_BUFFERS_LIMIT {
            return;
        }
        let key = (memory.len(), idle.next);
        idle.next += 1;
        idle.bytes += memory.len();
        idle.buffers.insert(key, memory);
    }
}

/// A body that was received, never changed again.
#[derive(Debug)]
pub(crate) struct Region {
    buffer: Option<Buffer>,
    pool: Arc<Pool>,
}

impl Region {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buffer::bytes)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.give(buffer);
        }
    }
}

/// The regions that the machine knows.
#[derive(Debug)]
pub(crate) struct Regions {
    held: Mutex<Held>,
    pool: Arc<Pool>,
}

#[derive(Debug, Default)]
struct Held {
    regions: BTreeMap<u64, Arc<Region>>,
    last: u64,
}

impl Regions {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self {
            held: Mutex::default(),
            pool,
        }
    }

    /// Keeps a received body under a new name.
    pub(crate) fn keep(&self, buffer: Buffer) -> RegionId {
        let region = Arc::new(Region {
            buffer: Some(buffer),
            pool: Arc::clone(&self.pool),
        });
        let mut held = lock(&self.held);
        held.last += 1;
        let number = held.last;
        held.regions.insert(number, region);
        RegionId(number)
    }

    pub(crate) fn get(&self, region: RegionId) -> Option<Arc<Region>> {
        lock(&self.held).regions.get(&region.0).cloned()
    }

    /// Forgets a region; its memory goes back when nobody holds it any more.
    pub(crate) fn forget(&self, region: RegionId) {
        let region = lock(&self.held).regions.remove(&region.0);
        drop(region);
    }
}

/// Bounds what is received at once by all connections together.
#[derive(Debug)]
pub(crate) struct Arriving {
    bytes: Mutex<u64>,
    gone: Condvar,
    limit_bytes: u64,
}

/// A share of [`Arriving`], until dropped.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    arriving: &'a Arriving,
    bytes: u64,
}

impl Arriving {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self {
            bytes: Mutex::default(),
            gone: Condvar::new(),
            limit_bytes,
        }
    }

    /// Waits until `bytes` more may arrive; `None` if others take too long.
    /// `bytes` is at most the limit.
    pub(crate) fn admit(&self, bytes: u64, at_most: Duration) -> Option<Share<'_>> {
        let taken = lock(&self.bytes);
        let full = |taken: &mut u64| taken.saturating_add(bytes) > self.limit_bytes && *taken > 0;
        let (mut taken, timeout) = self
            .gone
            .wait_timeout_while(taken, at_most, full)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return None;
        }
        *taken = taken.saturating_add(bytes);
        Some(Share {
            arriving: self,
            bytes,
        })
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut bytes = lock(&self.arriving.bytes);
        *bytes = bytes.saturating_sub(self.bytes);
        self.arriving.gone.notify_all();
    }
}

/// A lock whose holder panicked is still a lock: what it guards is whole after
/// every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_dropped_regions_memory_is_used_again_and_never_while_somebody_holds_it() {
        let pool = Pool::new(1 << 20);
        let regions = Regions::new(Arc::clone(&pool));
        let mut buffer = pool.take(100_000);
        buffer.bytes_mut().fill(7);
        let at = buffer.bytes().as_ptr();
        let region = regions.keep(buffer);
        let held = regions.get(region).unwrap();
        regions.forget(region);
        assert_ne!(pool.take(100_000).bytes().as_ptr(), at);
        assert!(held.bytes().iter().all(|byte| *byte == 7));
        drop(held);
        assert_eq!(pool.take(90_000).bytes().as_ptr(), at);
        assert!(regions.get(region).is_none());
    }

    #[test]
    fn idle_memory_is_bounded() {
        let pool = Pool::new(3 * BUFFER_STEP_BYTES);
        let buffers: Vec<_> = (0..8).map(|_| pool.take(BUFFER_STEP_BYTES)).collect();
        buffers.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!(lock(&pool.idle).bytes, 3 * BUFFER_STEP_BYTES);
    }

    #[test]
    fn what_arrives_beyond_the_limit_waits_for_what_arrived_before() {
        let arriving = Arriving::new(100);
        let first = arriving.admit(80, Duration::ZERO).unwrap();
        assert!(arriving.admit(30, Duration::ZERO).is_none());
        assert!(arriving.admit(20, Duration::ZERO).is_some());
        drop(first);
        assert!(arriving.admit(100, Duration::ZERO).is_some());
    }
}
