//! Room for the next step: what may go for it, and who is in the way.

use super::super::limits::MAX_HELD_STEPS;
use super::super::message::WriterMessage;
use super::super::mutant::Mutant;
use super::PublisherAction;
use super::groups::GroupSet;
use super::machine::Publisher;
use super::steps::{State, Step};
use crate::config::Policy;

/// A step that has not begun.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) step: u64,
    pub(super) reserve_bytes: Vec<u64>,
}

impl Publisher {
    pub(super) fn admit(
        &mut self,
        step: u64,
        reserve_bytes: &[u64],
        actions: &mut Vec<PublisherAction>,
    ) {
        let waiting = Waiting {
            step,
            reserve_bytes: self.steps.list(reserve_bytes),
        };
        if !self.is_too_large(&waiting, actions) {
            // Tried as soon as the event is handled.
            self.waiting = Some(waiting);
        }
    }

    /// Says so if a step cannot fit whatever is freed.
    fn is_too_large(&self, waiting: &Waiting, actions: &mut Vec<PublisherAction>) -> bool {
        let mut ranks = waiting.reserve_bytes.iter().zip(&self.precious_bytes);
        let room = |precious| self.options.limit_bytes.saturating_sub(precious);
        let Some(rank) = ranks.position(|(bytes, precious)| *bytes > room(*precious)) else {
            return false;
        };
        actions.push(PublisherAction::TooLarge {
            step: waiting.step,
            rank,
            bytes: waiting.reserve_bytes[rank],
            limit_bytes: room(self.precious_bytes[rank]),
        });
        true
    }

    /// Lets the waiting step begin, if there is room or can be made.
    pub(super) fn try_admit(&mut self, actions: &mut Vec<PublisherAction>) {
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        if self.missing_groups() > 0 {
            self.waiting = Some(waiting);
            return;
        }
        // What a step that is open had is part of what it asks for.
        let open = self.open_step(waiting.step);
        let had = open.and_then(|index| self.steps.at(index));
        let had = had.map_or_else(Vec::new, |step| step.bytes.clone());
        let had = self.steps.list(&had);
        let going = usize::from(open.is_some());
        let room = self.fits(&waiting.reserve_bytes, &had, going)
            || self.make_room(&waiting.reserve_bytes, (&had, going), actions);
        self.steps.give_back(had);
        if room {
            let step = waiting.step;
            self.begun = true;
            let mut bytes = waiting.reserve_bytes;
            if self.planted.has(Mutant::ForgetReservation) {
                bytes.fill(0);
            }
            let epoch = self.options.life.epoch;
            match self.open_step(step) {
                Some(index) => {
                    if self.planted.has(Mutant::CountGrowthTwice)
                        && let Some(step) = self.steps.at_mut(index)
                    {
                        step.bytes.fill(0);
                    }
                    self.steps.resize(index, &bytes);
                    self.steps.give_back(bytes);
                }
                None => self.steps.push(Step::new(step, epoch, State::Open, bytes)),
            }
            actions.push(PublisherAction::Admitted { step });
            return;
        }
        // The precious step may have been sealed since.
        if self.is_too_large(&waiting, actions) {
            self.steps.give_back(waiting.reserve_bytes);
            return;
        }
        let is_open = self.open_step(waiting.step).is_some();
        match self.options.policy {
            // A step that is open is not discarded any more.
            _ if is_open => {
                self.tell_blocking(&waiting, actions);
                self.waiting = Some(waiting);
            }
            Policy::Block | Policy::Spill => {
                self.tell_blocking(&waiting, actions);
                self.waiting = Some(waiting);
            }
            Policy::DropOldest | Policy::DropNewest => {
                let step = waiting.step;
                self.begun = true;
                self.steps.give_back(waiting.reserve_bytes);
                actions.push(PublisherAction::Discard { step });
            }
        }
    }

    /// The step is open no more: nobody waits for what it asked for.
    pub(super) fn grows_no_more(&mut self, step: u64) {
        if self.planted.has(Mutant::GrowWhenGone) {
            return;
        }
        if let Some(waiting) = self.waiting.take_if(|waiting| waiting.step == step) {
            self.steps.give_back(waiting.reserve_bytes);
        }
    }

    /// Whether a step of `reserve_bytes` by rank fits as things are, and all steps in memory
    /// take no more than `bytes` on any rank then: whatever else is known by now, it would
    /// be admitted, and nothing go for it.
    #[must_use]
    pub fn fits_within(&self, reserve_bytes: &[u64], bytes: u64) -> bool {
        let mut ranks = reserve_bytes.iter().zip(self.steps.used());
        self.fits(reserve_bytes, &[], 0)
            && ranks.all(|(more, used)| used.saturating_add(*more) <= bytes)
    }

    /// Whether a step was admitted and not sealed.
    #[must_use]
    pub fn is_open(&self, step: u64) -> bool {
        self.open_step(step).is_some()
    }

    /// Bytes that there could be for this open step on a rank, if all went that may.
    #[must_use]
    pub fn most_room(&self, step: u64, rank: usize) -> u64 {
        let stays = |it: &&Step| it.number != step && !self.may_go(it);
        let staying = self.steps.iter().filter(stays);
        let held = staying.filter_map(|it| it.bytes.get(rank)).sum();
        self.options.limit_bytes.saturating_sub(held)
    }

    /// Where the step is, if it was admitted and not sealed.
    fn open_step(&self, step: u64) -> Option<usize> {
        let index = self.steps.find(step)?;
        (self.steps.at(index)?.state == State::Open).then_some(index)
    }

    /// Whether a step of `reserve_bytes` fits if `going` steps were gone and
    /// `freed` bytes by rank with them; nothing by default.
    fn fits(&self, reserve_bytes: &[u64], freed: &[u64], going: usize) -> bool {
        let limit_bytes = self.options.limit_bytes;
        let fits = |(rank, used): (usize, &u64)| {
            let freed = freed.get(rank).copied().unwrap_or_default();
            let used = used.saturating_sub(freed);
            reserve_bytes[rank] == 0 || used.saturating_add(reserve_bytes[rank]) <= limit_bytes
        };
        self.steps.live() - going < MAX_HELD_STEPS && self.steps.used().iter().enumerate().all(fits)
    }

    /// Whether a step may leave memory for another.
    fn may_go(&self, step: &Step) -> bool {
        let claimed = !step.claimed.is_empty() && !self.planted.has(Mutant::EvictClaimed);
        if step.state != State::Memory || step.precious || claimed {
            return false;
        }
        if self.planted.has(Mutant::RetainBeyondLimit) && step.retained {
            return false;
        }
        self.options.policy == Policy::Spill
            || !step.pending.meets(&self.strict)
            || self.planted.has(Mutant::DropUnderBlock)
    }

    /// Lets the oldest steps go that may, if that is enough; if not, none.
    /// `had` bytes by rank of steps that are counted, and count no more, are room already.
    fn make_room(
        &mut self,
        reserve_bytes: &[u64],
        (had, mut going): (&[u64], usize),
        actions: &mut Vec<PublisherAction>,
    ) -> bool {
        let mut freed = self.steps.list(had);
        let mut end = None;
        for (index, step) in (0..self.steps.len()).filter_map(|i| Some((i, self.steps.at(i)?))) {
            if !self.may_go(step) {
                continue;
            }
            for (freed, bytes) in freed.iter_mut().zip(&step.bytes) {
                *freed = freed.saturating_add(*bytes);
            }
            going += usize::from(self.options.policy != Policy::Spill);
            if self.fits(reserve_bytes, &freed, going) {
                end = Some(index);
                break;
            }
        }
        self.steps.give_back(freed);
        let Some(end) = end else {
            return false;
        };
        for index in 0..=end {
            if self.steps.at(index).is_some_and(|step| self.may_go(step)) {
                self.let_go(index, actions);
            }
        }
        true
    }

    /// Spills a step if anybody may still want it, or drops it.
    fn let_go(&mut self, index: usize, actions: &mut Vec<PublisherAction>) {
        if self.steps.at(index).is_some_and(|it| self.must_spill(it)) {
            self.spill(index, actions);
        } else {
            self.free(index, actions);
        }
    }

    /// Whether somebody may still want a step that goes.
    fn must_spill(&self, step: &Step) -> bool {
        self.options.policy == Policy::Spill
            && (step.pending.meets(&self.strict) || self.is_kept(step))
    }

    /// Tells the groups that wait, and whose steps alone are in the way, so:
    /// none of them will let go before it gets the step that cannot begin.
    pub(super) fn tell_blocking(&mut self, waiting: &Waiting, actions: &mut Vec<PublisherAction>) {
        let (mut stuck, mut news) = (GroupSet::default(), false);
        for (slot, group) in self.groups.iter() {
            if group.waits && group.claims > 0 {
                stuck.insert(slot);
                news |= group.blocked_at != Some(group.releases);
            }
        }
        if !news {
            return;
        }
        let Some(rank) = self.in_the_way(&stuck, &waiting.reserve_bytes) else {
            return;
        };
        for slot in self.groups.slots().filter(|slot| stuck.has(*slot)) {
            let held = self.steps.iter().filter(|step| step.claimed.has(slot));
            let held_bytes = held.filter_map(|step| step.bytes.get(rank)).sum();
            let Some(group) = self.groups.get_mut(slot) else {
                continue;
            };
            let releases = group.releases;
            if held_bytes > 0 && group.blocked_at != Some(releases) {
                group.blocked_at = Some(releases);
                actions.push(PublisherAction::Send {
                    group: group.id,
                    message: WriterMessage::Blocked {
                        held_bytes,
                        releases,
                    },
                });
            }
        }
    }

    /// A rank that would lack room even if all but the `stuck` groups let go.
    fn in_the_way(&mut self, stuck: &GroupSet, reserve_bytes: &[u64]) -> Option<usize> {
        let mut held = self.steps.list(reserve_bytes);
        for step in self.steps.iter() {
            if step.precious || step.claimed.meets(stuck) {
                for (held, bytes) in held.iter_mut().zip(&step.bytes) {
                    *held = held.saturating_add(*bytes);
                }
            }
        }
        let limit_bytes = self.options.limit_bytes;
        let rank = held.iter().position(|held| *held > limit_bytes);
        self.steps.give_back(held);
        rank
    }
}
