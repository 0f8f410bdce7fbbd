//! Regions that are made before they are asked for: for a page to be there
//! takes longer than to fill it, and whoever computes need not wait for that.

use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use super::{Arena, Charge, Extent, OWN_REGION_BYTES, OWN_SLACK_PARTS, Own, State, plans};
use crate::signals::BlockedSignals;
use crate::time::Time;

/// A region that is being made is waited for no longer than that; in the
/// child of a fork nobody makes it.
const MADE_WITHIN: Duration = Duration::from_secs(10);

impl Arena {
    /// Extents of these sizes will be asked for soon: regions for the large
    /// ones that have none are made meanwhile, by a thread that ends when it
    /// has made them. Within the limit, and without giving anything back for
    /// it; where that or the system does not allow them, `allocate` will say
    /// why.
    pub fn foresee(&self, sizes: impl Iterator<Item = usize>) {
        let charges = self.charge_spares(sizes);
        if charges.is_empty() {
            return;
        }
        let arena = self.clone();
        let blocked = BlockedSignals::new();
        let started = thread::Builder::new()
            .name("panta-memory".to_owned())
            .spawn(move || charges.into_iter().for_each(|it| arena.make_spare(it)));
        drop(blocked);
        if started.is_err() {
            self.0.lock().making.clear();
        }
    }

    /// How long an extent of `bytes` would take to be had, judged by the region
    /// that was made last; none where one is free, or is being made, or it
    /// would share a region.
    #[must_use]
    pub fn making_takes(&self, bytes: u64) -> Option<Duration> {
        let [wish, _] = plans(bytes, self.held_bytes());
        let state = self.0.lock();
        let mut free = state.own_free.range((bytes, 0)..);
        let is_there = free.next().is_some_and(|(size, _)| fits(*size, bytes));
        if !wish.own || is_there || state.is_being_made(bytes) {
            return None;
        }
        let took_ns = u128::from(bytes) * state.made_in.as_nanos() / u128::from(state.made_bytes);
        Some(Duration::from_nanos(
            u64::try_from(took_ns).unwrap_or(u64::MAX),
        ))
    }

    /// What is missing, charged. Nothing while others are being made.
    fn charge_spares(&self, sizes: impl Iterator<Item = usize>) -> Vec<Charge> {
        let mut state = self.0.lock();
        let (mut charges, mut taken) = (Vec::new(), Vec::new());
        if !state.making.is_empty() {
            return charges;
        }
        for bytes in sizes.map(|bytes| bytes as u64) {
            let [wish, _] = plans(bytes, self.held_bytes());
            if !wish.own {
                continue;
            }
            let mut free = state.own_free.range((bytes, 0)..);
            let free = free.find(|(size, id)| fits(*size, bytes) && !taken.contains(id));
            if let Some((_, id)) = free {
                taken.push(*id);
                continue;
            }
            if state.regions.len() + charges.len() >= super::MAX_REGIONS {
                break;
            }
            let (held, limit) = (&self.0.held, self.limit_bytes());
            match Charge::within(held, wish.bytes, limit) {
                Some(charge) => charges.push(charge),
                None => break,
            }
        }
        state.making.extend(charges.iter().map(Charge::bytes));
        charges
    }

    fn make_spare(&self, charge: Charge) {
        let bytes = charge.bytes();
        // Why it cannot be made is told to whoever needs it.
        let region = self.new_region(charge).ok();
        let mut state = self.0.lock();
        if let Some(region) = &region {
            let own = Own {
                used: true,
                retired: false,
            };
            state.own.insert(region.id(), own);
            state.regions.insert(region.id(), region.clone());
        }
        drop(state);
        if let Some(region) = &region {
            self.0.tell_new(region);
        }
        let mut state = self.0.lock();
        let gone = region.and_then(|region| state.free_own(region.id()));
        let gone = gone.and_then(|id| state.forget(id));
        if let Some(at) = state.making.iter().position(|size| *size == bytes) {
            state.making.swap_remove(at);
        }
        drop(state);
        self.0.made.notify_all();
        self.0.tell_gone(gone);
    }

    /// An extent of what is there, or will be at once.
    pub(super) fn take_or_await(&self, bytes: usize) -> Option<Extent> {
        let begin = Time::now();
        let mut state = self.0.lock();
        loop {
            if let Some(extent) = self.take(&mut state, bytes, OWN_SLACK_PARTS) {
                return Some(extent);
            }
            let left = MADE_WITHIN.saturating_sub(Time::now().since(begin));
            if !state.is_being_made(bytes as u64) || left.is_zero() {
                return None;
            }
            let waited = self.0.made.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn is_being_made(&self, bytes: u64) -> bool {
        bytes >= OWN_REGION_BYTES && self.making.iter().any(|size| fits(*size, bytes))
    }
}

/// Whether a region of its own is of the right size for an extent.
fn fits(size: u64, bytes: u64) -> bool {
    size >= bytes && size <= bytes.saturating_add(bytes / OWN_SLACK_PARTS)
}
