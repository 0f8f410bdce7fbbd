//! What happens to a publisher, and which groups are told of what.

use super::super::GroupId;
use super::super::limits::SPILL_WINDOW_STEPS;
use super::super::message::{Position, ReaderMessage, WriterMessage};
use super::super::mutant::{Mutant, Planted};
use super::admission::Waiting;
use super::groups::{Group, GroupSet, Groups};
use super::membership::Cursors;
use super::steps::{State, Step, Steps};
use super::{Awaited, Gone, PublisherAction, PublisherEvent, PublisherOptions};
use crate::config::{Distribution, Policy};
use crate::deal::Dealer;
use panta_transports::time::Time;

/// See the module above.
#[derive(Debug)]
pub struct Publisher {
    pub(super) options: PublisherOptions,
    pub(super) steps: Steps,
    pub(super) groups: Groups,
    /// Groups whose pending steps are not dropped.
    pub(super) strict: GroupSet,
    pub(super) cursors: Cursors,
    /// The step that waits for room.
    pub(super) waiting: Option<Waiting>,
    /// Whether the first step has begun.
    pub(super) begun: bool,
    /// The newest step sealed.
    pub(super) newest: Option<u64>,
    /// The newest sealed step, and the latest time, that are not held any more.
    pub(super) gone: Option<u64>,
    pub(super) gone_time: Option<f64>,
    /// Steps retained for late joiners, their bytes, and the lowest number that
    /// one of them can have.
    retained_steps: u64,
    retained_bytes: u64,
    retained_from: u64,
    /// By rank, what cannot be freed.
    pub(super) precious_bytes: Vec<u64>,
    precious: Option<u64>,
    /// No step below, of those sealed, is in memory alone and will be spilled.
    pub(super) filed_from: u64,
    /// Over the claimed steps in memory, each on its fullest rank.
    claimed_bytes: u64,
    /// By slot.
    pub(super) dealer: Dealer<usize>,
    closing: bool,
    pub(super) drained: bool,
    pub(super) planted: Planted,
}

impl Publisher {
    /// A publisher that has sealed nothing and that nobody has joined.
    #[must_use]
    pub fn new(options: PublisherOptions) -> Self {
        let ranks = options.ranks;
        let mut publisher = Self {
            steps: Steps::new(ranks),
            groups: Groups::default(),
            strict: GroupSet::default(),
            cursors: Cursors::new(&options),
            waiting: None,
            begun: false,
            newest: options.life.after,
            gone: options.life.after,
            gone_time: None,
            retained_steps: 0,
            retained_bytes: 0,
            retained_from: 0,
            precious_bytes: vec![0; ranks],
            precious: None,
            filed_from: 0,
            claimed_bytes: 0,
            dealer: Dealer::new(options.distribution),
            closing: false,
            drained: false,
            planted: Planted::default(),
            options,
        };
        for recovered in std::mem::take(&mut publisher.options.recovered) {
            let mut step = Step::new(
                recovered.at.step,
                recovered.at.epoch,
                State::Spilled,
                Vec::new(),
            );
            step.time = recovered.time;
            step.precious = publisher.options.precious_first && publisher.precious.is_none();
            if step.precious {
                publisher.precious = Some(step.number);
            }
            publisher.steps.push(step);
            publisher.retain(publisher.steps.len() - 1);
        }
        publisher
    }

    /// Plants a bug.
    #[cfg(feature = "mutants")]
    #[doc(hidden)]
    pub fn plant(&mut self, mutant: Mutant) {
        self.planted = Planted::with(mutant);
    }

    /// Takes `event` at `now` and appends what is to be done to `actions`.
    /// Time never goes back from one call to the next.
    pub fn handle(
        &mut self,
        event: PublisherEvent<'_>,
        now: Time,
        actions: &mut Vec<PublisherAction>,
    ) {
        match event {
            PublisherEvent::Joined { group, join } => self.join(group, join, now, actions),
            PublisherEvent::Message { group, message } => {
                self.message(group, message, now, actions);
            }
            PublisherEvent::Heard { group } => {
                if let Some(slot) = self.groups.slot(group) {
                    self.heard(slot, now);
                }
            }
            PublisherEvent::Lost { group, how } => {
                if let Some(slot) = self.groups.slot(group) {
                    self.part(slot, Some(how), &[], actions);
                }
            }
            PublisherEvent::Admit {
                step,
                reserve_bytes,
            } => self.admit(step, reserve_bytes, actions),
            PublisherEvent::GiveUp => {
                if let Some(waiting) = self.waiting.take() {
                    if self.planted.has(Mutant::ForgetOnGiveUp)
                        && let Some(index) = self.steps.find(waiting.step)
                    {
                        self.steps.resize(index, &[]);
                    }
                    self.steps.give_back(waiting.reserve_bytes);
                }
            }
            PublisherEvent::Sealed { step, time, bytes } => {
                self.grows_no_more(step);
                self.seal(step, time, bytes, actions);
            }
            PublisherEvent::Aborted { step } => {
                self.grows_no_more(step);
                if let Some(index) = self.steps.find(step)
                    && self.steps.at(index).map(|step| step.state) == Some(State::Open)
                {
                    self.steps.remove(index);
                }
            }
            PublisherEvent::Spilled { step } => self.spilled(step, true, actions),
            PublisherEvent::SpillFailed { step } => self.spilled(step, false, actions),
            PublisherEvent::Closing => self.closing = true,
            PublisherEvent::Abandon => self.abandon(actions),
            PublisherEvent::Tick => self.fence_silent(now, actions),
        }
        if self.waiting.is_some() {
            self.try_admit(actions);
        }
        if self.closing {
            self.drain(actions);
        }
        self.steps.tidy();
    }

    /// When the machine wants a tick at the latest; to be asked again after
    /// every event.
    #[must_use]
    pub fn next_tick(&self) -> Option<Time> {
        let lease = self.options.lease?;
        self.groups
            .iter()
            .map(|(_, group)| group.heard_at.after(lease))
            .min()
    }

    /// Whom a waiting `Admit` or `Closing` waits for; for errors.
    #[must_use]
    pub fn awaiting(&self) -> Vec<Awaited> {
        let awaited = |(slot, group): (usize, &Group)| {
            let held = |step: &&Step| step.claimed.has(slot);
            Awaited {
                group: group.id,
                name: group.name.clone(),
                holds: group.claims,
                oldest: self.steps.iter().find(held).map(|step| step.number),
                to_come: self
                    .steps
                    .iter()
                    .filter(|step| step.pending.has(slot))
                    .count() as u64,
            }
        };
        self.groups
            .iter()
            .map(awaited)
            .filter(|awaited| awaited.holds + awaited.to_come > 0)
            .collect()
    }

    /// How many reader groups the first step still waits for.
    #[must_use]
    pub fn missing_groups(&self) -> usize {
        if self.begun {
            return 0;
        }
        self.options.rendezvous.saturating_sub(self.groups.count())
    }

    /// The steps in memory, ascending, with those admitted and not sealed yet;
    /// without those being spilled.
    pub fn in_memory(&self) -> impl Iterator<Item = u64> + '_ {
        self.steps
            .iter()
            .filter(|step| matches!(step.state, State::Open | State::Memory))
            .map(|step| step.number)
    }

    /// Bytes accounted on a rank.
    #[must_use]
    pub fn used_bytes(&self, rank: usize) -> u64 {
        self.steps.used().get(rank).copied().unwrap_or_default()
    }

    /// The newest step sealed, in this life or before it.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    pub(super) fn heard(&mut self, slot: usize, now: Time) {
        if let Some(group) = self.groups.get_mut(slot) {
            group.heard_at = group.heard_at.max(now);
        }
    }

    fn message(
        &mut self,
        id: GroupId,
        message: &ReaderMessage,
        now: Time,
        actions: &mut Vec<PublisherAction>,
    ) {
        let Some(slot) = self.groups.slot(id) else {
            return;
        };
        self.heard(slot, now);
        match message {
            ReaderMessage::Ask { heard } => {
                if let Some(group) = self.groups.get_mut(slot) {
                    group.asked = group.pull;
                    group.waits = *heard == group.announced;
                }
                self.tell(slot, actions);
            }
            ReaderMessage::Withdraw => {
                if let Some(group) = self.groups.get_mut(slot) {
                    group.asked = false;
                }
            }
            ReaderMessage::Waiting { heard } => {
                if let Some(group) = self.groups.get_mut(slot) {
                    group.waits = *heard == group.announced;
                }
                self.tell(slot, actions);
            }
            ReaderMessage::Release { step } => self.release(slot, *step, actions),
            ReaderMessage::Commit { cursor, at } => self.commit(id, cursor, *at, actions),
            ReaderMessage::Leave { held } => self.part(slot, None, held, actions),
            ReaderMessage::Alive => {}
        }
    }

    fn fence_silent(&mut self, now: Time, actions: &mut Vec<PublisherAction>) {
        let Some(lease) = self.options.lease else {
            return;
        };
        if self.planted.has(Mutant::NeverFence) {
            return;
        }
        for slot in self.groups.slots() {
            let Some(group) = self.groups.get(slot) else {
                continue;
            };
            if group.heard_at.after(lease) <= now {
                let group = group.id;
                let message = WriterMessage::Fenced;
                actions.push(PublisherAction::Send { group, message });
                actions.push(PublisherAction::Fence { group });
                self.part(slot, Some(Gone::Silent), &[], actions);
            }
        }
    }

    fn seal(
        &mut self,
        number: u64,
        time: Option<f64>,
        bytes: &[u64],
        actions: &mut Vec<PublisherAction>,
    ) {
        let Some(index) = self.steps.find(number) else {
            return;
        };
        self.steps.resize(index, bytes);
        let precious = self.options.precious_first && self.precious.is_none();
        if let Some(step) = self.steps.at_mut(index) {
            step.state = State::Memory;
            step.time = time;
            step.precious = precious;
            if precious {
                self.precious = Some(number);
                self.precious_bytes.clone_from(&step.bytes);
            }
        }
        self.newest = Some(number);
        self.retain(index);
        self.assign(index);
        for slot in self.groups.slots() {
            self.skip_older(slot, number, actions);
            self.tell(slot, actions);
        }
        self.trim_retained(actions);
        self.settle(index, actions);
    }

    /// Puts a step into the window for late joiners.
    fn retain(&mut self, index: usize) {
        if self.options.retain_steps == 0 {
            return;
        }
        if let Some(step) = self.steps.at_mut(index) {
            step.retained = true;
            self.retained_steps += 1;
            self.retained_bytes = self.retained_bytes.saturating_add(step.total_bytes);
        }
    }

    /// Lets the oldest out of the window until it is no larger than it may be.
    fn trim_retained(&mut self, actions: &mut Vec<PublisherAction>) {
        let limit_bytes = self.options.retain_bytes.unwrap_or(u64::MAX);
        let mut index = self.steps.lower_bound(self.retained_from);
        while (self.retained_steps > self.options.retain_steps || self.retained_bytes > limit_bytes)
            && let Some(step) = self.steps.at_mut(index)
        {
            self.retained_from = step.number + 1;
            if step.state != State::Gone && step.retained {
                step.retained = false;
                self.retained_steps -= 1;
                self.retained_bytes = self.retained_bytes.saturating_sub(step.total_bytes);
                self.settle(index, actions);
            }
            index += 1;
        }
    }

    /// Decides which groups are to get a sealed step that nobody has.
    pub(super) fn assign(&mut self, index: usize) {
        let Some(step) = self.steps.at(index) else {
            return;
        };
        let mut pending = GroupSet::default();
        let wanting = self.groups.iter();
        let wanting = wanting.filter(|(_, group)| group.wants(step.number, step.time));
        self.dealer
            .deal(step.precious, wanting.map(|(slot, _)| slot), |slot| {
                pending.insert(slot);
            });
        if self.planted.has(Mutant::GiveTwice) {
            let mut others = self.groups.iter().map(|(slot, _)| slot);
            if let Some(slot) = others.find(|slot| !pending.has(*slot)) {
                pending.insert(slot);
            }
        }
        self.make_pending(index, pending);
    }

    /// Makes a step one that these groups, and no others, are to be told of.
    pub(super) fn make_pending(&mut self, index: usize, pending: GroupSet) {
        let Some(step) = self.steps.at_mut(index) else {
            return;
        };
        step.pending = pending;
        let number = step.number;
        for slot in self.groups.slots() {
            if pending.has(slot)
                && let Some(group) = self.groups.get_mut(slot)
            {
                group.pending_from = group.pending_from.min(number);
            }
        }
    }

    /// Drops what a group that wants only the newest step has not asked for in time.
    pub(super) fn skip_older(
        &mut self,
        slot: usize,
        newest: u64,
        actions: &mut Vec<PublisherAction>,
    ) {
        let Some(group) = self.groups.get(slot) else {
            return;
        };
        if !group.latest_only {
            return;
        }
        let mut index = self.steps.lower_bound(group.pending_from);
        while let Some(step) = self.steps.at_mut(index)
            && step.number < newest
        {
            if step.state != State::Gone && step.pending.has(slot) && !step.precious {
                step.pending.remove(slot);
                self.settle(index, actions);
            }
            index += 1;
        }
    }

    /// The place of the next step that a group is to be told of.
    pub(super) fn next_pending(&mut self, slot: usize) -> Option<usize> {
        let group = self.groups.get(slot)?;
        let mut index = self.steps.lower_bound(group.pending_from);
        while let Some(step) = self.steps.at(index)
            && (step.state == State::Gone || !step.pending.has(slot))
        {
            index += 1;
        }
        let from = self
            .steps
            .at(index)
            .map_or_else(|| self.newest.map_or(0, |newest| newest + 1), |s| s.number);
        let group = self.groups.get_mut(slot)?;
        group.pending_from = from;
        (index < self.steps.len()).then_some(index)
    }

    /// Tells a group what it is to be told now.
    pub(super) fn tell(&mut self, slot: usize, actions: &mut Vec<PublisherAction>) {
        while let Some(group) = self.groups.get(slot) {
            let (id, pull, asked) = (group.id, group.pull, group.asked);
            // Who waits for a step is told of it, and found out if it is in the way.
            let claims = if group.waits { 0 } else { group.claims };
            let Some(index) = self.next_pending(slot) else {
                break;
            };
            let Some(step) = self.steps.at(index) else {
                break;
            };
            let waits_for_file =
                step.state == State::Spilling && !self.planted.has(Mutant::AnnounceWhileSpilling);
            if (pull && !asked) || waits_for_file || (!pull && !self.leaves_room(step, claims)) {
                break;
            }
            self.claim(index, slot);
            if let (Some(step), Some(newest)) = (self.steps.at(index), self.newest) {
                actions.push(PublisherAction::Announce {
                    group: id,
                    at: Position {
                        epoch: step.epoch,
                        step: step.number,
                    },
                    newest,
                    spilled: step.state == State::Spilled,
                });
            }
        }
    }

    /// Whether a group with so many claims may be told of a step that it does not
    /// wait for: under `spill` what cannot be spilled must leave room.
    fn leaves_room(&self, step: &Step, claims: u64) -> bool {
        if self.options.policy != Policy::Spill || claims == 0 {
            return true;
        }
        // Also what another group has in hand, and will let go of sooner.
        let more_bytes = match step.claimed.is_empty() {
            true => step.fullest_bytes,
            false => 0,
        };
        let claimed_bytes = self.claimed_bytes.saturating_add(more_bytes);
        claims < u64::from(SPILL_WINDOW_STEPS)
            && (step.state != State::Memory || claimed_bytes <= self.options.limit_bytes / 2)
    }

    /// Makes a pending step one that the group was told of.
    fn claim(&mut self, index: usize, slot: usize) {
        let (Some(step), Some(group)) = (self.steps.at_mut(index), self.groups.get_mut(slot))
        else {
            return;
        };
        if step.claimed.is_empty() && step.state == State::Memory {
            self.claimed_bytes = self.claimed_bytes.saturating_add(step.fullest_bytes);
        }
        step.claimed.insert(slot);
        step.pending.remove(slot);
        if self.dealer.deals_once(step.precious) && !self.planted.has(Mutant::GiveTwice) {
            step.pending = GroupSet::default();
        }
        group.claims += 1;
        group.announced += 1;
        group.told = group.told.max(Some(step.number));
        group.asked = false;
        group.waits = false;
        group.blocked_at = None;
    }

    /// Ends a group's claim; whether it had one.
    pub(super) fn unclaim(&mut self, index: usize, slot: usize) -> bool {
        let Some(step) = self.steps.at_mut(index) else {
            return false;
        };
        if !step.claimed.has(slot) {
            return false;
        }
        step.claimed.remove(slot);
        if step.claimed.is_empty() && step.state == State::Memory {
            self.claimed_bytes = self.claimed_bytes.saturating_sub(step.fullest_bytes);
        }
        if let Some(group) = self.groups.get_mut(slot) {
            group.claims = group.claims.saturating_sub(1);
        }
        true
    }

    fn release(&mut self, slot: usize, number: u64, actions: &mut Vec<PublisherAction>) {
        if let Some(group) = self.groups.get_mut(slot) {
            group.releases += 1;
        }
        if let Some(index) = self.steps.find(number)
            && self.unclaim(index, slot)
        {
            if let Some(step) = self.steps.at_mut(index) {
                step.done = self.options.distribution != Distribution::All;
            }
            self.settle(index, actions);
            if self.options.policy == Policy::Spill {
                // Its window has moved, and that of others.
                self.tell_all(actions);
            }
        }
    }

    pub(super) fn tell_all(&mut self, actions: &mut Vec<PublisherAction>) {
        for slot in self.groups.slots() {
            self.tell(slot, actions);
        }
    }

    /// Whether a step is kept for somebody who is not there.
    pub(super) fn is_kept(&self, step: &Step) -> bool {
        !step.done && (step.retained || step.number >= self.cursors.floor())
    }

    /// Lets go of a step that nobody needs.
    pub(super) fn settle(&mut self, index: usize, actions: &mut Vec<PublisherAction>) {
        let Some(step) = self.steps.at(index) else {
            return;
        };
        let held = matches!(step.state, State::Open | State::Spilling | State::Gone)
            || step.precious
            || !step.claimed.is_empty()
            || !step.pending.is_empty();
        if !held && !self.is_kept(step) {
            self.free(index, actions);
        }
    }

    /// Lets go of a step.
    pub(super) fn free(&mut self, index: usize, actions: &mut Vec<PublisherAction>) {
        let Some(step) = self.steps.at_mut(index) else {
            return;
        };
        if step.retained {
            self.retained_steps -= 1;
            self.retained_bytes = self.retained_bytes.saturating_sub(step.total_bytes);
            step.retained = false;
        }
        self.gone = self.gone.max(Some(step.number));
        if let Some(time) = step.time {
            self.gone_time = Some(self.gone_time.map_or(time, |gone| gone.max(time)));
        }
        actions.push(PublisherAction::Free { step: step.number });
        self.steps.remove(index);
    }
}
