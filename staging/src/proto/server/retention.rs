//! Room for steps: what may be trimmed, and what happens when nothing may.
//!
//! Steps go oldest first, whole, and never while a reader group has claimed
//! them or an older one: what is gone is always everything below a watermark,
//! which writers carry on to the owners, but for the precious step. That one
//! stays, counts among the bytes, and not among the steps.

use super::super::message::Policy;
use super::super::mutant::Mutant;
use super::ledger::Entry;
use super::stream::{Group, Stream};

impl Stream {
    /// Makes room for `bytes` more in `steps` more steps, as the policy
    /// allows. Whether there is room then.
    pub(super) fn make_room(&mut self, bytes: u64, steps: u64) -> bool {
        while !self.fits(bytes, steps) {
            let oldest = self.ledger.first_passing();
            let Some(step) = oldest.filter(|step| self.may_trim(*step)) else {
                return false;
            };
            self.ledger.apply(Entry::Trim { step });
        }
        true
    }

    fn fits(&self, bytes: u64, steps: u64) -> bool {
        let reserved = self
            .open
            .values()
            .fold(0_u64, |sum, step| sum.saturating_add(step.reserved_bytes()));
        let held = self.ledger.held_bytes.saturating_add(reserved);
        let held_steps = (self.ledger.passing_count() + self.open.len()) as u64;
        held.saturating_add(bytes) <= self.retain_bytes && held_steps + steps <= self.retain_steps
    }

    fn may_trim(&self, step: u64) -> bool {
        let claimed = self
            .groups
            .values()
            .any(|group| group.claims.iter().any(|(claimed, _)| *claimed == step));
        if claimed && !self.planted.has(Mutant::TrimClaimedStep) {
            return false;
        }
        self.policy == Policy::DropOldest
            || self.groups.values().all(|group| group.has_passed(step))
    }

    /// Whom a blocked writer waits for.
    pub(super) fn room_waits_for(&self) -> String {
        let Some(oldest) = self.ledger.first_passing() else {
            return format!("the open steps of {} to be ended", self.name);
        };
        let mut waiting = String::new();
        for (name, group) in &self.groups {
            let claimed = group.claims.iter().any(|(step, _)| *step == oldest);
            if claimed {
                waiting = format!(
                    "reader group {name} to release step {oldest} of {}",
                    self.name
                );
            } else if !group.has_passed(oldest) {
                waiting = format!("reader group {name} to read step {oldest} of {}", self.name);
            }
        }
        if waiting.is_empty() {
            format!("room in {}", self.name)
        } else {
            waiting
        }
    }

    /// Whether a blocked writer could not go on even if every reader group had
    /// read everything, because of what this one has claimed.
    pub(super) fn would_deadlock(&self, group: &str) -> bool {
        let Some((bytes, steps)) = self.blocked else {
            return false;
        };
        let precious = self.ledger.precious;
        let claims = self.groups.get(group).and_then(|group| {
            let claimed = group.claims.iter().map(|(step, _)| *step);
            claimed.filter(|step| Some(*step) != precious).min()
        });
        let Some(first) = claims else {
            return false;
        };
        let kept = self.ledger.passing().filter(|(step, _)| *step >= first);
        let (mut kept_bytes, mut kept_steps) = (self.ledger.precious_bytes(), 0_u64);
        for (_, held) in kept {
            kept_bytes = kept_bytes.saturating_add(held.bytes);
            kept_steps += 1;
        }
        for open in self.open.values() {
            kept_bytes = kept_bytes.saturating_add(open.reserved_bytes());
            kept_steps += 1;
        }
        kept_bytes.saturating_add(bytes) > self.retain_bytes
            || kept_steps + steps > self.retain_steps
    }
}

impl Group {
    /// One rank is done with a step; the last one ends the claim.
    pub(super) fn release(&mut self, claim: (u64, u64), rank: u32) {
        if self.ranks > 1 && self.claims.contains(&claim) {
            let released = self.released.entry(claim).or_default();
            released.insert(rank);
            if (released.len() as u64) < u64::from(self.ranks) {
                return;
            }
        }
        self.claims.remove(&claim);
        self.released.retain(|claim, _| self.claims.contains(claim));
    }

    /// Whether the group has read past `step`, or would not read it.
    fn has_passed(&self, step: u64) -> bool {
        self.closing || self.newest_only || self.position.after >= Some(step)
    }
}
