//! Room for steps: what may be trimmed, and what happens when nothing may.
//!
//! Steps go oldest first, whole, and never while a reader group has claimed
//! them or an older one: what is gone is always everything below a watermark,
//! which writers carry on to the owners, but for the precious step. That one
//! stays, counts among the bytes, and not among the steps. Where the oldest are
//! dropped, those that are claimed are passed over, and steps after them go.
//! Where steps are distributed, they go in any order: each when the group is done with
//! it that it was for, and before that only if no group has it or is to get it.

use super::super::limits;
use super::super::message::Policy;
use super::super::mutant::Mutant;
use super::ledger::Entry;
use super::stream::{Group, Stream};
use std::collections::BTreeSet;

impl Stream {
    /// Makes room for `bytes` more in `steps` more steps, as the policy
    /// allows. Whether there is room then.
    pub(super) fn make_room(&mut self, bytes: u64, steps: u64) -> bool {
        while !self.fits(bytes, steps) {
            // Elsewhere nothing goes before the oldest.
            let among = match self.goes_out_of_turn() {
                true => limits::KEPT_LIMIT,
                false => 1,
            };
            let oldest = self.ledger.passing().take(among).map(|(step, _)| step);
            let Some(step) = oldest.into_iter().find(|step| self.may_trim(*step)) else {
                return false;
            };
            self.trim(step);
        }
        true
    }

    /// Whether steps may go before an older one that stays.
    fn goes_out_of_turn(&self) -> bool {
        let drops = self.policy == Policy::DropOldest;
        self.is_shared() || (drops && !self.planted.has(Mutant::StayBehindClaimed))
    }

    pub(super) fn trim(&mut self, step: u64) {
        self.ledger.apply(Entry::Trim { step });
        self.dealt.remove(&step);
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
            || self.groups.values().all(|group| self.is_done(group, step))
    }

    /// Whether a group will not come to a step that it has not claimed.
    fn is_done(&self, group: &Group, step: u64) -> bool {
        match self.is_shared() {
            true => group.newest_only || !self.is_dealt(step, group),
            false => group.has_passed(step),
        }
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
            } else if !self.is_done(group, oldest) {
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
    /// read everything, because of what this one has claimed; where steps go out of
    /// turn, this one and those that wait as it does.
    pub(super) fn would_deadlock(&self, group: &str) -> bool {
        let Some((bytes, steps)) = self.blocked else {
            return false;
        };
        let precious = self.ledger.precious;
        let claims = |group: &Group| -> BTreeSet<u64> {
            let claims = group.claims.iter().map(|(step, _)| *step);
            claims.filter(|step| Some(*step) != precious).collect()
        };
        let mine = self.groups.get(group).map(claims).unwrap_or_default();
        let Some(first) = mine.first() else {
            return false;
        };
        let waiting = self.groups.values().filter(|group| group.waits);
        let theirs: BTreeSet<u64> = waiting.flat_map(claims).collect();
        let stays = |step: u64| match self.goes_out_of_turn() {
            true => theirs.contains(&step),
            false => step >= *first,
        };
        let kept = self.ledger.passing().filter(|(step, _)| stays(*step));
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
    /// One rank is done with a step; the last one ends the claim. Whether it
    /// did.
    pub(super) fn release(&mut self, claim: (u64, u64), rank: u32) -> bool {
        if self.ranks > 1 && self.claims.contains(&claim) {
            let released = self.released.entry(claim).or_default();
            released.insert(rank);
            if (released.len() as u64) < u64::from(self.ranks) {
                return false;
            }
        }
        let ended = self.claims.remove(&claim);
        self.released.retain(|claim, _| self.claims.contains(claim));
        ended
    }

    /// Whether the group has read past `step`, or would not read it.
    fn has_passed(&self, step: u64) -> bool {
        self.closing || self.newest_only || self.position.after >= Some(step)
    }
}
