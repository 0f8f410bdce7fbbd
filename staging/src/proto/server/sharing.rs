//! Who gets which step, where steps are distributed: a step goes to one reader
//! group alone, and is gone when that one is done with it.
//!
//! ```text
//!   sealed ──deal──> dealt to groups ──Next──> claimed by one ──Release──> done, trimmed
//!                        ^                         │
//!                        └──── dead, or unheard ───┘
//! ```
//! [`Dealer`] decides, as it does for `stream:`. Here is what it decides about: groups
//! by their seat, which is never used again. Promises, while no group that lives is
//! held dead: no two groups are given one step, but for the precious one, which all
//! are; and what a group that is gone was to get or had not done goes to another. In
//! which order such steps come is not promised.

use super::super::limits;
use super::super::message::{Distribution as Wire, SealedStep};
use super::super::mutant::Mutant;
use super::ledger::Entry;
use super::stream::{Group, Stream};
use panta_core::config::Distribution;
use panta_core::deal::{Dealer, Standing};
use std::collections::BTreeSet;

/// What a writer said.
pub(super) fn distribution(wire: Wire) -> Distribution {
    match wire {
        Wire::All => Distribution::All,
        Wire::RoundRobin => Distribution::RoundRobin,
        Wire::OnDemand => Distribution::OnDemand,
    }
}

impl Group {
    /// Whether a step is for this group at all.
    fn wants(&self, step: u64) -> bool {
        !self.closing && self.from < Some(step)
    }
}

impl Stream {
    /// Whether a step goes to one group alone.
    pub(super) fn is_shared(&self) -> bool {
        self.dealer.deals_once(false)
    }

    /// Decides which groups are to get a sealed step that nobody has.
    pub(super) fn deal(&mut self, step: u64) {
        if !self.is_shared() {
            return;
        }
        let precious = self.ledger.precious == Some(step);
        let wanting = self.groups.values().filter(|group| group.wants(step));
        let mut seats = BTreeSet::new();
        self.dealer
            .deal(precious, wanting.map(|group| group.seat), |seat| {
                seats.insert(seat);
            });
        self.dealt.insert(step, seats);
    }

    /// A new epoch deals as its writers say: what stands of the one before too.
    pub(super) fn deal_anew(&mut self, distribution: Distribution) {
        let base = self.ledger.base;
        for group in self.groups.values_mut() {
            group.from = group.from.min(base);
        }
        let (ledger, dealt) = (&self.ledger, &mut self.dealt);
        dealt.retain(|step, _| ledger.held.contains_key(step));
        if distribution != self.dealer.distribution() {
            self.dealer = Dealer::new(distribution);
            self.dealt.clear();
            for group in self.groups.values_mut() {
                group.from = group.position.after;
            }
        }
        if self.is_shared() {
            let claimed = self.claimed();
            let known = |step: &u64| claimed.contains(step) || self.dealt.contains_key(step);
            let held = self.ledger.held.iter().filter(|(_, held)| !held.done);
            let loose: Vec<u64> = held
                .map(|(step, _)| *step)
                .filter(|it| !known(it))
                .collect();
            loose.into_iter().for_each(|step| self.deal(step));
        }
    }

    /// A group has joined: what is there for it.
    pub(super) fn deal_to_joiner(&mut self, name: &str) {
        let claimed = self.claimed();
        let Some(group) = self.groups.get(name).filter(|_| self.is_shared()) else {
            return;
        };
        // The precious one it is owed apart.
        for (step, held) in self.ledger.passing() {
            let standing = Standing {
                precious: false,
                done: held.done,
                claimed: claimed.contains(&step),
                pending: self.dealt.get(&step).is_some_and(|to| !to.is_empty()),
            };
            if group.wants(step) && self.dealer.joiner_gets(standing) {
                self.dealt.entry(step).or_default().insert(group.seat);
            }
        }
    }

    fn claimed(&self) -> BTreeSet<u64> {
        let claims = self.groups.values().flat_map(|group| &group.claims);
        claims.map(|(step, _)| *step).collect()
    }

    /// Whether a group is to be given a step.
    pub(super) fn is_dealt(&self, step: u64, group: &Group) -> bool {
        self.dealt
            .get(&step)
            .is_some_and(|to| to.contains(&group.seat))
    }

    /// The next step that a group is to be given, or the newest: the others are none
    /// of its business then.
    pub(super) fn next_dealt(&mut self, name: &str, latest: bool) -> Option<(u64, SealedStep)> {
        let seat = self.groups.get(name)?.seat;
        let mut mine = self.dealt.iter().filter(|(_, to)| to.contains(&seat));
        let found = match latest {
            true => mine.next_back(),
            false => mine.next(),
        };
        let (step, _) = found?;
        let step = *step;
        if latest {
            let precious = self.ledger.precious;
            let older = self.dealt.range_mut(..step);
            for (_, to) in older.filter(|(step, _)| Some(**step) != precious) {
                to.remove(&seat);
            }
        }
        let held = self.ledger.held.get(&step)?;
        Some((step, held.record.clone()))
    }

    /// A group was given a step: no other is.
    pub(super) fn dealt_to(&mut self, step: u64, seat: u64) {
        let once = self.dealer.deals_once(self.ledger.precious == Some(step));
        if once && !self.planted.has(Mutant::GiveTwice) {
            self.dealt.remove(&step);
        } else if let Some(to) = self.dealt.get_mut(&step) {
            to.remove(&seat);
        }
    }

    /// A group was given a step and never heard of it: as before.
    pub(super) fn give_back(&mut self, step: u64, seat: u64) {
        let precious = self.ledger.precious == Some(step);
        if !self.ledger.held.contains_key(&step) {
            return;
        }
        match self.dealer.distribution() {
            Distribution::All => {}
            Distribution::OnDemand if !precious => self.deal(step),
            Distribution::OnDemand | Distribution::RoundRobin => {
                self.dealt.entry(step).or_default().insert(seat);
            }
        }
    }

    /// A group is done with a step that it was given alone.
    pub(super) fn done_with(&mut self, step: u64) {
        if !self.dealer.deals_once(self.ledger.precious == Some(step)) {
            return;
        }
        self.ledger.apply(Entry::Done { step });
        self.dealt.remove(&step);
        // What stays below the watermark has its limit.
        let low = self.ledger.held.iter().take(limits::KEPT_LIMIT);
        let done: Vec<u64> = low
            .filter(|(_, held)| held.done)
            .map(|(step, _)| *step)
            .collect();
        done.into_iter().for_each(|step| self.trim(step));
    }

    /// A group gets nothing more: what it was to get, and `had` and is not done with,
    /// goes to others.
    pub(super) fn pass_on(&mut self, seat: u64, had: impl Iterator<Item = u64>) {
        if !self.is_shared() {
            return;
        }
        let mut orphans: BTreeSet<u64> = had.collect();
        for (step, to) in &mut self.dealt {
            if to.remove(&seat) && to.is_empty() {
                orphans.insert(*step);
            }
        }
        let claimed = self.claimed();
        for step in orphans {
            let held = self.ledger.held.get(&step).is_some_and(|held| !held.done);
            let once = self.ledger.precious != Some(step);
            if held && once && !claimed.contains(&step) && !self.planted.has(Mutant::LoseInherited)
            {
                self.deal(step);
            }
        }
    }

    /// A group that is held dead, or has another in its place.
    pub(super) fn pass_on_all(&mut self, group: &Group) {
        self.pass_on(group.seat, group.claims.iter().map(|(step, _)| *step));
    }

    /// A group of which another may inherit a step: one that is to be given some, or
    /// has some and does not wait for more.
    pub(super) fn may_leave_some_to(&self, name: &str) -> Option<&str> {
        let mut others = self.groups.iter().filter(|(other, _)| *other != name);
        let busy = |group: &Group| {
            (!group.waits && !group.claims.is_empty())
                || self.dealt.values().any(|to| to.contains(&group.seat))
        };
        let other = others.find(|(_, group)| self.is_shared() && busy(group));
        other.map(|(name, _)| name.as_str())
    }
}
