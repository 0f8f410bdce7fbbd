//! The memory that steps lie in: regions that are mapped once and reused, and
//! an allocator over them, since steps come back out of order.
//!
//! ```text
//!   Arena ── limit in bytes
//!     region 0, 1 MiB    | extent | free | extent | free ...   small ones share
//!     region 1, 64 MiB   | extent                          |   a large one has its own
//!        memfd, present, sealed; mapped read-only by other processes
//! ```
//!
//! Promises:
//! - The limit is hard: what regions hold never exceeds it, those included that
//!   were given up and are still mapped by others. Regions of which nothing is
//!   used are given back before it refuses.
//! - A page that cannot be had is an error of [`Arena::allocate`], never a
//!   signal at an access: memory is present before anybody is given it, and
//!   sealed against shrinking.
//! - The same sizes step after step make no region and no system call.
//! - No two extents overlap; each begins at a multiple of 64 bytes.
//!
//! What it does not do: clear memory (an extent holds what was there before);
//! know who else has mapped a region. That nothing is freed which a reader
//! still looks at is for the layer above to see to; where it cannot, it
//! [retires](Arena::retire) the region.

mod available;
mod charge;
mod error;
mod extent;
pub(crate) mod mapping;
mod memory;
mod pages;
mod pool;
#[cfg(test)]
mod properties;
mod spare;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

pub(crate) use charge::Charge;
pub use error::RegionError;
pub use extent::Extent;
pub use memory::Region;
pub(crate) use memory::sealed_memory;

use charge::Held;
use pool::Pool;

use crate::time::Time;

/// The most regions of an arena.
pub const MAX_REGIONS: usize = 4096;

/// Regions consist of whole pages.
const PAGE_BYTES: u64 = 4096;

/// An extent smaller than this shares its region.
const OWN_REGION_BYTES: u64 = 4 << 20;

/// An extent smaller than one part in so many of what is held shares its
/// region too, so that their number stays small.
const OWN_REGION_PARTS: u64 = 16;

/// A region of its own may be larger than its extent by one part in so many,
/// so that steps whose sizes vary can use it.
const OWN_SLACK_PARTS: u64 = 4;

/// Regions to be shared: at first this large, later one part in so many of
/// what is held, at most this large.
const SHARED_FIRST_BYTES: u64 = 1 << 20;
const SHARED_PARTS: u64 = 4;
const SHARED_MOST_BYTES: u64 = 1 << 30;

/// How an arena is made.
#[derive(Clone, Copy, Debug)]
pub struct ArenaOptions {
    /// What its regions may hold together.
    pub limit_bytes: u64,
    /// Whether other processes are to map the regions.
    pub shared: bool,
}

/// Regions, and which parts of them are free. Clones are the same arena.
#[derive(Clone, Debug)]
pub struct Arena(Arc<Shared>);

/// Is told of a region that was made.
pub type NewHook = Box<dyn Fn(&Arc<Region>) + Send + Sync>;
/// Is told the number of a region that is given up.
pub type GoneHook = Box<dyn Fn(u32) + Send + Sync>;

struct Shared {
    options: ArenaOptions,
    held: Arc<Held>,
    state: Mutex<State>,
    /// A region was made ahead of time, or could not be.
    made: Condvar,
    new_hooks: RwLock<Vec<NewHook>>,
    gone_hooks: RwLock<Vec<GoneHook>>,
}

#[derive(Debug)]
struct State {
    pool: Pool,
    /// Regions in which no more is allocated are here too, while used.
    regions: BTreeMap<u32, Arc<Region>>,
    /// Regions that have one extent at a time.
    own: BTreeMap<u32, Own>,
    /// Those of them that are free, by size.
    own_free: BTreeSet<(u64, u32)>,
    /// Sizes of those that are being made ahead of time.
    making: Vec<u64>,
    next_region: u32,
    used_bytes: u64,
    /// How long the last region took to be made, and its size.
    made_in: Duration,
    made_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Own {
    used: bool,
    retired: bool,
}

/// What an extent gives back.
#[derive(Clone, Copy, Debug)]
enum Taken {
    Block(u32),
    Own(u32),
}

/// A region to be made.
#[derive(Clone, Copy, Debug)]
struct Plan {
    bytes: u64,
    own: bool,
}

impl Arena {
    /// An arena without any region yet.
    #[must_use]
    pub fn new(options: ArenaOptions) -> Self {
        Self(Arc::new(Shared {
            options,
            held: Arc::default(),
            state: Mutex::new(State {
                pool: Pool::new(),
                regions: BTreeMap::new(),
                own: BTreeMap::new(),
                own_free: BTreeSet::new(),
                making: Vec::new(),
                next_region: 0,
                used_bytes: 0,
                made_in: Duration::ZERO,
                made_bytes: 1,
            }),
            made: Condvar::new(),
            new_hooks: RwLock::default(),
            gone_hooks: RwLock::default(),
        }))
    }

    /// `bytes` of a region that has room, else of a new one. What was in them
    /// before is still there.
    ///
    /// # Errors
    /// [`RegionError::Limit`] where the limit refuses; the others where the
    /// system does.
    pub fn allocate(&self, bytes: usize) -> Result<Extent, RegionError> {
        if let Some(extent) = self.take_or_await(bytes) {
            return Ok(extent);
        }
        let (plan, charge) = self.charge_region(bytes)?;
        let Some(charge) = charge else {
            // Rather a region that is far too large than none.
            let taken = self.take(&mut self.0.lock(), bytes, 0);
            return taken.ok_or_else(|| self.refusal(bytes));
        };
        self.allocate_in_new(bytes, plan, charge)
    }

    /// What its regions hold, and those that were given up and that others
    /// have not unmapped yet.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.0.held.bytes()
    }

    /// What extents have of that.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes
    }

    /// The limit it was made with.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.0.options.limit_bytes
    }

    /// Whether other processes can map its regions.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.options.shared
    }

    /// Allocates nothing in a region any more; it is unmapped when its extents
    /// are gone. One that is not there (any more) is none.
    pub fn retire(&self, region: u32) {
        let mut state = self.0.lock();
        let free = match state.own.get_mut(&region) {
            Some(own) => {
                own.retired = true;
                !own.used
            }
            None => state.pool.retire(region),
        };
        let gone = if free { state.forget(region) } else { None };
        drop(state);
        self.0.tell_gone(gone);
    }

    /// The regions there are, by number.
    #[must_use]
    pub fn regions(&self) -> Vec<Arc<Region>> {
        self.0.lock().regions.values().cloned().collect()
    }

    /// The region of this number.
    #[must_use]
    pub fn region(&self, id: u32) -> Option<Arc<Region>> {
        self.0.lock().regions.get(&id).cloned()
    }

    /// Calls `hook` with every region that is made from now on, on the thread
    /// that makes it and before anybody has an extent of it. Must not allocate.
    pub fn on_new_region(&self, hook: NewHook) {
        let mut hooks = self.0.new_hooks.write();
        hooks
            .as_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut())
            .push(hook);
    }

    /// Calls `hook` with the number of every region that is given up from now
    /// on, on the thread that freed or allocated. Must not allocate.
    pub fn on_region_gone(&self, hook: GoneHook) {
        let mut hooks = self.0.gone_hooks.write();
        hooks
            .as_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut())
            .push(hook);
    }

    /// An extent of what is there. Of regions of their own, one larger by one
    /// part in `slack_parts` at most is taken; with 0 any.
    fn take(
        &self,
        state: &mut MutexGuard<'_, State>,
        bytes: usize,
        slack_parts: u64,
    ) -> Option<Extent> {
        let wanted = (bytes as u64).max(1);
        if wanted >= OWN_REGION_BYTES || slack_parts == 0 {
            let most = match wanted.checked_div(slack_parts) {
                Some(slack) => wanted.saturating_add(slack),
                None => u64::MAX,
            };
            let found = state.own_free.range((wanted, 0)..).next().copied();
            if let Some((size, id)) = found.filter(|(size, _)| *size <= most) {
                state.own_free.remove(&(size, id));
                if let Some(own) = state.own.get_mut(&id) {
                    own.used = true;
                }
                return self.extent(state, Taken::Own(id), id, 0, bytes);
            }
        }
        let place = state.pool.allocate(wanted)?;
        let taken = Taken::Block(place.block);
        self.extent(state, taken, place.region, place.offset_bytes, bytes)
    }

    fn extent(
        &self,
        state: &mut MutexGuard<'_, State>,
        taken: Taken,
        region: u32,
        offset: u64,
        bytes: usize,
    ) -> Option<Extent> {
        let region = Arc::clone(state.regions.get(&region)?);
        let start = region.range(offset, bytes)?;
        state.used_bytes += bytes as u64;
        Some(Extent {
            arena: Arc::clone(&self.0),
            region,
            taken,
            offset,
            bytes,
            start,
        })
    }

    /// What region to make for an extent, and its charge; none where the limit
    /// does not allow any, also after what is free was given back.
    fn charge_region(&self, bytes: usize) -> Result<(Plan, Option<Charge>), RegionError> {
        let [wish, least] = plans(bytes as u64, self.held_bytes());
        if self.0.lock().regions.len() >= MAX_REGIONS {
            return Err(RegionError::TooManyRegions {
                limit: MAX_REGIONS,
                asked_bytes: bytes as u64,
            });
        }
        let charge =
            |plan: Plan| Charge::within(&self.0.held, plan.bytes, self.0.options.limit_bytes);
        for plan in [wish, least] {
            if let Some(charge) = charge(plan) {
                return Ok((plan, Some(charge)));
            }
        }
        // A free region that is large enough is used, whatever its size,
        // before others are given up for a new one.
        let fits = (bytes as u64).max(1);
        let has_one = self.0.lock().own_free.range((fits, 0)..).next().is_some();
        if !has_one {
            self.give_back(least.bytes);
        }
        Ok((least, (!has_one).then(|| charge(least)).flatten()))
    }

    /// Unmaps regions of which nothing is used until `bytes` more fit within
    /// the limit; none of them where all would not do.
    fn give_back(&self, bytes: u64) {
        let mut state = self.0.lock();
        // What lingers will be there without our giving back more.
        let held = self
            .held_bytes()
            .saturating_sub(self.lingering_beside(&state));
        let over = held.saturating_add(bytes);
        let mut excess = over.saturating_sub(self.0.options.limit_bytes);
        let mut free: BTreeSet<(u64, u32)> = state.own_free.clone();
        for id in state.pool.free_regions() {
            let size = state.regions.get(&id).map_or(0, |region| region.bytes());
            free.insert((size, id));
        }
        let all: u64 = free.iter().map(|(size, _)| size).sum();
        let mut gone = Vec::new();
        if all >= excess {
            while excess > 0 {
                // The smallest that is enough alone, else the largest.
                let next = free.range((excess, 0)..).next().or(free.last());
                let Some((size, id)) = next.copied() else {
                    break;
                };
                free.remove(&(size, id));
                excess = excess.saturating_sub(size);
                gone.extend(state.forget(id));
            }
        }
        drop(state);
        self.0.tell_gone(gone);
    }

    fn new_region(&self, charge: Charge) -> Result<Arc<Region>, RegionError> {
        let id = {
            let mut state = self.0.lock();
            let id = state.next_region;
            state.next_region = id.checked_add(1).ok_or(RegionError::TooManyRegions {
                limit: u32::MAX as usize,
                asked_bytes: charge.bytes(),
            })?;
            id
        };
        let begin = Time::now();
        let region = Region::make(id, charge, self.0.options.shared)?;
        let mut state = self.0.lock();
        state.made_in = Time::now().since(begin);
        state.made_bytes = region.bytes().max(1);
        Ok(Arc::new(region))
    }

    fn allocate_in_new(
        &self,
        bytes: usize,
        plan: Plan,
        charge: Charge,
    ) -> Result<Extent, RegionError> {
        let region = self.new_region(charge)?;
        let id = region.id();
        let mut state = self.0.lock();
        state.regions.insert(id, Arc::clone(&region));
        let extent = if plan.own {
            let own = Own {
                used: true,
                retired: false,
            };
            state.own.insert(id, own);
            self.extent(&mut state, Taken::Own(id), id, 0, bytes)
        } else {
            state.pool.add(id, plan.bytes);
            self.take(&mut state, bytes, OWN_SLACK_PARTS)
        };
        drop(state);
        self.0.tell_new(&region);
        extent.ok_or_else(|| self.refusal(bytes))
    }

    fn refusal(&self, bytes: usize) -> RegionError {
        RegionError::Limit {
            limit_bytes: self.0.options.limit_bytes,
            held_bytes: self.held_bytes(),
            used_bytes: self.used_bytes(),
            lingering_bytes: self.lingering_bytes(),
            asked_bytes: bytes as u64,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back what an extent had.
    fn free(&self, taken: Taken, bytes: u64) {
        let mut state = self.lock();
        state.used_bytes -= bytes;
        let gone = match taken {
            Taken::Block(block) => state.pool.free(block),
            Taken::Own(id) => state.free_own(id),
        };
        let gone = gone.and_then(|region| state.forget(region));
        drop(state);
        if gone.is_some() {
            self.tell_gone(gone);
        }
    }

    /// Says that there is a new region.
    fn tell_new(&self, region: &Arc<Region>) {
        let hooks = self.new_hooks.read();
        for hook in hooks.unwrap_or_else(PoisonError::into_inner).iter() {
            hook(region);
        }
    }

    /// Says which regions are given up; they are unmapped here, unless somebody
    /// still holds them.
    fn tell_gone(&self, gone: impl IntoIterator<Item = Arc<Region>>) {
        for region in gone {
            let hooks = self.gone_hooks.read();
            for hook in hooks.unwrap_or_else(PoisonError::into_inner).iter() {
                hook(region.id());
            }
        }
    }
}

impl State {
    /// Frees a region of one extent. Returns it where it is retired.
    fn free_own(&mut self, id: u32) -> Option<u32> {
        let own = self.own.get_mut(&id)?;
        own.used = false;
        if own.retired {
            return Some(id);
        }
        let size = self.regions.get(&id)?.bytes();
        self.own_free.insert((size, id));
        None
    }

    /// Forgets a region of which nothing is used.
    fn forget(&mut self, id: u32) -> Option<Arc<Region>> {
        let region = self.regions.remove(&id)?;
        if self.own.remove(&id).is_some() {
            self.own_free.remove(&(region.bytes(), id));
        } else {
            self.pool.remove(id);
        }
        Some(region)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Arena")
            .field("options", &self.options)
            .field("held_bytes", &self.held.bytes())
            .finish_non_exhaustive()
    }
}

/// The region to make for an extent where `held_bytes` are held: as one would
/// like it, and the least that does.
fn plans(bytes: u64, held_bytes: u64) -> [Plan; 2] {
    let pages = |bytes: u64| bytes.max(1).div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES);
    let own = bytes >= OWN_REGION_BYTES.max(held_bytes / OWN_REGION_PARTS);
    if own {
        // Rounded to one part in 32 at most, for sizes that vary a little.
        let step = (bytes.checked_next_power_of_two().unwrap_or(1 << 63) / 64).max(PAGE_BYTES);
        let wish = bytes.div_ceil(step).saturating_mul(step);
        return [wish, pages(bytes)].map(|bytes| Plan { bytes, own });
    }
    let least = pages(Pool::rounded_bytes(bytes));
    let usual = (held_bytes / SHARED_PARTS).clamp(SHARED_FIRST_BYTES, SHARED_MOST_BYTES);
    [pages(usual).max(least), least].map(|bytes| Plan { bytes, own })
}
