//! The side that exposes memory.

use std::any::Any;
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::endpoint::{Endpoint, Memory, base};
use super::table;
use super::{Fabric, FabricAddress, FabricError, FabricOptions, POLL_INTERVAL, RemoteMemory};
use crate::random;
use crate::region::Region;

/// How often another random key is tried where one is taken already.
const KEY_TRIES: usize = 8;

/// Rounds of one call of `progress`, so that a busy peer does not hold the
/// thread that serves all.
const ROUNDS_LIMIT: usize = 64;

/// Exposes memory of this process to reads by peers.
///
/// Software providers need [`progress`](Self::progress) for reads to go on:
/// whoever has the server watches [`wait_fd`](Self::wait_fd), or calls
/// `progress` every [`poll_interval`](Self::poll_interval).
pub struct FabricServer {
    shared: Mutex<Shared>,
    address: FabricAddress,
    wait_fd: Option<RawFd>,
    manual: bool,
}

struct Shared {
    // Before what it can read, so that it is closed first.
    endpoint: Endpoint,
    regions: BTreeMap<u32, Registered>,
}

struct Registered {
    memory: Memory,
    /// Keeps the memory mapped.
    _keeper: Arc<dyn Any + Send + Sync>,
}

/// What is to be done after [`FabricServer::progress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing lies there: sleep on the descriptor.
    Idle,
    /// There may be more: call again soon, without sleeping on the descriptor.
    More,
}

impl FabricServer {
    /// Opens an endpoint that peers can reach.
    ///
    /// # Errors
    /// [`FabricError::NoProvider`], [`FabricError::Open`].
    pub fn open(fabric: &Fabric, options: &FabricOptions) -> Result<Self, FabricError> {
        let mut endpoint = Endpoint::open(fabric, options, None)?;
        Ok(Self {
            address: endpoint.address()?,
            wait_fd: endpoint.wait_fd(),
            manual: endpoint.has(table::MANUAL),
            shared: Mutex::new(Shared {
                endpoint,
                regions: BTreeMap::new(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where peers reach it.
    #[must_use]
    pub fn address(&self) -> &FabricAddress {
        &self.address
    }

    /// Exposes a region under its number. It is kept mapped until
    /// [`deregister`](Self::deregister), which whoever has an arena calls when
    /// the arena says that the region is gone.
    ///
    /// # Errors
    /// [`FabricError::Registration`], [`FabricError::Forked`].
    pub fn register(&self, region: &Arc<Region>) -> Result<RemoteMemory, FabricError> {
        let bytes = usize::try_from(region.bytes()).unwrap_or(usize::MAX);
        // SAFETY: a region is mapped whole as long as it lives, and is the keeper.
        unsafe {
            self.register_memory(region.id(), region.as_ptr(), bytes, Arc::clone(region) as _)
        }
    }

    /// Exposes memory as region `id`, in place of what had this number. It
    /// can be read until [`deregister`](Self::deregister); `keeper` is
    /// kept until then.
    ///
    /// # Safety
    /// The memory must stay mapped while `keeper` lives. Peers read it at any
    /// time; what they see while it is written is whatever lies there.
    ///
    /// # Errors
    /// [`FabricError::Registration`], [`FabricError::Forked`].
    pub unsafe fn register_memory(
        &self,
        id: u32,
        start: NonNull<u8>,
        bytes: usize,
        keeper: Arc<dyn Any + Send + Sync>,
    ) -> Result<RemoteMemory, FabricError> {
        let mut shared = self.lock();
        shared.endpoint.check_process()?;
        shared.remove(id)?;
        let mut tries = 0;
        let memory = loop {
            let key = wished_key(&shared.endpoint)?;
            // SAFETY: the caller vouches for it while the keeper lives, which goes
            // only after the registration.
            match unsafe { shared.endpoint.add_memory(start, bytes, Some(key)) } {
                Ok(memory) => break memory,
                Err((libc::ENOKEY | libc::EKEYREJECTED | libc::EEXIST, _)) if tries < KEY_TRIES => {
                    tries += 1;
                }
                Err((_, error)) => return Err(error),
            }
        };
        let remote = RemoteMemory {
            base: base(&shared.endpoint, start),
            bytes: bytes as u64,
            key: shared.endpoint.key(memory),
        };
        let registered = Registered {
            memory,
            _keeper: keeper,
        };
        shared.regions.insert(id, registered);
        Ok(remote)
    }

    /// Withdraws region `id`: reads of it fail from now on. One that is not
    /// there is withdrawn already.
    ///
    /// # Errors
    /// [`FabricError::Registration`] where the library does not let it go; it
    /// stays exposed then.
    pub fn deregister(&self, id: u32) -> Result<(), FabricError> {
        let mut shared = self.lock();
        shared.endpoint.check_process()?;
        shared.remove(id)
    }

    /// Regions exposed now.
    #[must_use]
    pub fn registered(&self) -> usize {
        self.lock().regions.len()
    }

    /// Readable when [`progress`](Self::progress) should be called, where the
    /// provider has such a descriptor.
    #[must_use]
    pub fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the descriptor is the endpoint's, which lives as long as `self`.
        self.wait_fd.map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// How often `progress` must be called by the clock, since there is no
    /// descriptor; `None` where there is one, or no need.
    #[must_use]
    pub fn poll_interval(&self) -> Option<Duration> {
        (self.manual && self.wait_fd.is_none()).then_some(POLL_INTERVAL)
    }

    /// Moves reads by peers along. Call it until it says [`Progress::Idle`]
    /// before sleeping on the descriptor, and when that gets readable.
    ///
    /// # Errors
    /// [`FabricError::Read`] where the endpoint itself is broken; a peer that
    /// died is none.
    pub fn progress(&self) -> Result<Progress, FabricError> {
        let mut shared = self.lock();
        shared.endpoint.check_process()?;
        for _ in 0..ROUNDS_LIMIT {
            let taken = shared.endpoint.progress(|ended| {
                if let Some(error) = ended.error {
                    tracing::debug!(%error, "fabric: an operation of a peer failed");
                }
            })?;
            if taken == 0 {
                let idle = shared.endpoint.may_sleep();
                return Ok(if idle { Progress::Idle } else { Progress::More });
            }
        }
        Ok(Progress::More)
    }
}

impl Shared {
    fn remove(&mut self, id: u32) -> Result<(), FabricError> {
        if let Some(registered) = self.regions.get(&id) {
            self.endpoint.remove(registered.memory)?;
            self.regions.remove(&id);
        }
        Ok(())
    }
}

/// A random key of as many bytes as the provider takes.
fn wished_key(endpoint: &Endpoint) -> Result<u64, FabricError> {
    if endpoint.has(table::PROVIDER_KEY) {
        return Ok(0);
    }
    let bits = endpoint.info().key_bytes.clamp(1, 8) * 8;
    // All ones means that there is no key.
    let key = random::number()? >> (64 - bits);
    Ok(if key == u64::MAX { 1 } else { key })
}
