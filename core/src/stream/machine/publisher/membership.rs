//! Who comes, where it begins, what it leaves behind; and the cursors, which
//! stay when their groups go.

use super::super::GroupId;
use super::super::limits::{MAX_CURSORS, MAX_NAME_BYTES};
use super::super::message::{Join, Position, RefusedWhy, WriterMessage};
use super::super::mutant::Mutant;
use super::groups::{Group, GroupSet};
use super::machine::Publisher;
use super::steps::State;
use super::{Gone, Life, PublisherAction, PublisherOptions};
use crate::config::{Distribution, Policy};
use crate::deal::Standing;
use crate::engine::Start;
use panta_transports::time::Time;
use std::collections::BTreeMap;

/// A named reading position.
#[derive(Debug)]
struct Cursor {
    /// The last position committed, or none yet.
    at: Option<Position>,
    /// The lowest step that it may still want.
    from: u64,
}

/// Where named reading positions stand.
#[derive(Debug)]
pub(super) struct Cursors {
    positions: BTreeMap<String, Cursor>,
    /// No cursor needs a step below.
    floor: u64,
}

impl Cursors {
    pub(super) fn new(options: &PublisherOptions) -> Self {
        let mut positions = BTreeMap::new();
        for (name, at) in options.cursors.iter().take(MAX_CURSORS) {
            let stands = back_to(options, *at).unwrap_or(Some(at.step));
            let epoch = at.epoch;
            let cursor = Cursor {
                at: stands.map(|step| Position { epoch, step }),
                from: stands.map_or(0, |step| step.saturating_add(1)),
            };
            positions.insert(name.clone(), cursor);
        }
        let mut cursors = Self {
            positions,
            floor: u64::MAX,
        };
        cursors.find_floor();
        cursors
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    fn find_floor(&mut self) {
        let wanted = self.positions.values().map(|cursor| cursor.from);
        self.floor = wanted.min().unwrap_or(u64::MAX);
    }

    /// Makes sure that there is such a cursor, a new one at `from`; false if
    /// there are too many.
    fn open(&mut self, name: &str, from: u64) -> bool {
        if !self.positions.contains_key(name) {
            if self.positions.len() >= MAX_CURSORS || name.len() > MAX_NAME_BYTES {
                return false;
            }
            self.positions
                .insert(name.to_owned(), Cursor { at: None, from });
            self.find_floor();
        }
        true
    }
}

/// Whether lives after the one of `seen` went back behind it, and how far.
fn back_to(options: &PublisherOptions, seen: Position) -> Option<Option<u64>> {
    let all: &mut dyn Iterator<Item = &Life> =
        &mut options.earlier.iter().chain(std::iter::once(&options.life));
    all.filter(|life| life.epoch > seen.epoch)
        .map(|life| life.after)
        .min()
        .filter(|to| to.is_none_or(|to| seen.step > to))
}

/// Where a joining group begins.
struct Beginning {
    from: u64,
    from_time: Option<f64>,
    /// Whether steps that it wants are gone.
    trimmed: bool,
    /// Whether what it has seen was withdrawn, and back to where.
    rolled_back: Option<Option<u64>>,
}

impl Publisher {
    pub(super) fn join(
        &mut self,
        id: GroupId,
        join: &Join,
        now: Time,
        actions: &mut Vec<PublisherAction>,
    ) {
        if self.groups.slot(id).is_some() {
            return;
        }
        let distribution = self.options.distribution;
        let beginning = self.begins(join);
        let pull = join.latest_only
            || distribution == Distribution::OnDemand
            || matches!(self.options.policy, Policy::DropOldest | Policy::DropNewest);
        let group = Group {
            id,
            name: join.name.clone(),
            from: beginning.from,
            from_time: beginning.from_time,
            latest_only: join.latest_only,
            pull,
            asked: false,
            announced: 0,
            waits: false,
            heard_at: now,
            claims: 0,
            pending_from: 0,
            releases: 0,
            blocked_at: None,
            told: None,
            closed: false,
        };
        let slot = match self.take_in(join, group) {
            Ok(slot) => slot,
            Err(why) => {
                let (group, message) = (id, WriterMessage::Refused { why });
                actions.push(PublisherAction::Send { group, message });
                actions.push(PublisherAction::Fence { group });
                return;
            }
        };
        let mut say = |message| actions.push(PublisherAction::Send { group: id, message });
        say(WriterMessage::Welcome {
            epoch: self.options.life.epoch,
            pull,
            limit_bytes: self.options.limit_bytes,
            newest: self.newest,
        });
        if let Some(to) = beginning.rolled_back
            && !self.planted.has(Mutant::HideRollback)
        {
            say(WriterMessage::RolledBack { to });
        }
        if beginning.trimmed && !self.planted.has(Mutant::HideTrimmed) {
            say(WriterMessage::Trimmed {
                oldest: self.oldest_from(beginning.from),
            });
        }
        self.find_strict();
        self.give_held(slot, join.seen.is_none(), actions);
        self.tell(slot, actions);
    }

    fn take_in(&mut self, join: &Join, group: Group) -> Result<usize, RefusedWhy> {
        if join
            .seen
            .is_some_and(|seen| seen.epoch > self.options.life.epoch)
        {
            return Err(RefusedWhy::OldEpoch);
        }
        let slot = self.groups.insert(group).ok_or(RefusedWhy::TooManyGroups)?;
        let oldest = self.steps.iter().next().map(|step| step.number);
        let from = oldest.or(self.newest).unwrap_or_default();
        if let Start::Cursor(name) = &join.start
            && !self.cursors.open(name, from)
        {
            self.groups.remove(slot);
            return Err(RefusedWhy::TooManyCursors);
        }
        Ok(slot)
    }

    /// The oldest step held, from `from` on, that is not kept as the precious one.
    pub(super) fn oldest_from(&self, from: u64) -> Option<u64> {
        self.steps
            .iter()
            .find(|step| step.number >= from && step.is_sealed() && !step.precious)
            .map(|step| step.number)
    }

    fn begins(&self, join: &Join) -> Beginning {
        let mut beginning = Beginning {
            from: 0,
            from_time: None,
            trimmed: false,
            rolled_back: None,
        };
        let gone_from = |from| self.gone.is_some_and(|gone| gone >= from);
        if let Some(seen) = join.seen {
            beginning.rolled_back = back_to(&self.options, seen);
            let stands = match beginning.rolled_back {
                None => Some(seen.step),
                Some(to) => to,
            };
            beginning.from = stands.map_or(0, |step| step.saturating_add(1));
            beginning.trimmed = gone_from(beginning.from);
        } else {
            match &join.start {
                Start::Oldest => {}
                Start::Latest => {
                    beginning.from = match self.newest {
                        None => 0,
                        Some(newest) if self.steps.find(newest).is_some() => newest,
                        Some(newest) => newest + 1,
                    };
                }
                Start::At(step) => {
                    beginning.from = *step;
                    let held = self.steps.find(*step).is_some();
                    beginning.trimmed = !held && gone_from(*step);
                }
                Start::After(step) => {
                    beginning.from = step.saturating_add(1);
                    beginning.trimmed = gone_from(beginning.from);
                }
                Start::AtTime(time) => {
                    beginning.from_time = Some(*time);
                    beginning.trimmed = self.gone_time.is_some_and(|gone| gone >= *time);
                }
                Start::Cursor(name) => {
                    if let Some(cursor) = self.cursors.positions.get(name) {
                        beginning.from = cursor.from;
                        beginning.trimmed = gone_from(beginning.from);
                    }
                }
            }
        }
        // Who takes turns, or wants the newest only, misses steps anyway.
        beginning.trimmed &= !join.latest_only && self.options.distribution == Distribution::All;
        beginning
    }

    /// Makes held steps pending for a group that has joined.
    fn give_held(&mut self, slot: usize, first_time: bool, actions: &mut Vec<PublisherAction>) {
        for index in 0..self.steps.len() {
            let (Some(step), Some(group)) = (self.steps.at_mut(index), self.groups.get(slot))
            else {
                continue;
            };
            if !step.is_sealed() {
                continue;
            }
            let takes = self.dealer.joiner_gets(Standing {
                precious: step.precious,
                done: step.done,
                claimed: !step.claimed.is_empty(),
                pending: !step.pending.is_empty(),
            });
            let comes_first =
                step.precious && first_time && !self.planted.has(Mutant::PreciousLast);
            let wanted = comes_first || (takes && group.wants(step.number, step.time));
            if wanted {
                step.pending.insert(slot);
            }
        }
        if self.groups.get(slot).is_some_and(|group| group.latest_only) {
            let newest = self.newest.unwrap_or_default();
            if self.steps.find(newest).is_some() {
                self.skip_older(slot, newest, actions);
            }
        }
    }

    /// Which groups' pending steps are not dropped for a new one.
    fn find_strict(&mut self) {
        self.strict = GroupSet::default();
        if self.options.policy != Policy::DropOldest {
            for (slot, group) in self.groups.iter() {
                if !group.latest_only {
                    self.strict.insert(slot);
                }
            }
        }
    }

    /// A group is gone: `how` it was lost, or, if it left, what it may still look at.
    pub(super) fn part(
        &mut self,
        slot: usize,
        how: Option<Gone>,
        held: &[u64],
        actions: &mut Vec<PublisherAction>,
    ) {
        let keep_claims = how.is_some() && self.planted.has(Mutant::KeepClaimsOfLost);
        let mut orphans = Vec::new();
        for index in 0..self.steps.len() {
            let Some(step) = self.steps.at_mut(index) else {
                continue;
            };
            if step.state == State::Gone {
                continue;
            }
            let (number, in_memory) = (step.number, step.state == State::Memory);
            let was_pending = step.pending.has(slot);
            step.pending.remove(slot);
            let mut orphan = was_pending && step.pending.is_empty();
            if !keep_claims && self.unclaim(index, slot) {
                let may_look = match how {
                    None => held.contains(&number),
                    Some(how) => how != Gone::Died,
                };
                if may_look && in_memory {
                    actions.push(PublisherAction::Retire { step: number });
                }
                // A step that its readers had in hand when they left is done.
                let in_hand = how.is_none() && held.contains(&number);
                if let Some(step) = self.steps.at_mut(index) {
                    step.done |= in_hand && self.options.distribution != Distribution::All;
                }
                orphan |= !in_hand && !self.planted.has(Mutant::LoseInherited);
            }
            if orphan {
                orphans.push(index);
            }
        }
        self.groups.remove(slot);
        self.find_strict();
        self.pass_on(&orphans);
        for index in 0..self.steps.len() {
            self.settle(index, actions);
        }
        self.tell_all(actions);
    }

    /// Gives the distributed steps of a group that is gone to others.
    fn pass_on(&mut self, orphans: &[usize]) {
        if self.options.distribution == Distribution::All {
            return;
        }
        for index in orphans {
            if self
                .steps
                .at(*index)
                .is_some_and(|step| !step.precious && !step.done && step.is_sealed())
            {
                self.assign(*index);
            }
        }
    }

    pub(super) fn commit(
        &mut self,
        group: GroupId,
        cursor: &str,
        at: Position,
        actions: &mut Vec<PublisherAction>,
    ) {
        let old_floor = self.cursors.floor();
        let known = self.newest.is_some_and(|newest| at.step <= newest)
            && at.epoch <= self.options.life.epoch
            && back_to(&self.options, at).is_none();
        let remembered = known && self.cursors.open(cursor, 0);
        if remembered {
            let mut stands = at;
            if self.planted.has(Mutant::CommitTooFar) {
                stands.step += 1;
            }
            if let Some(position) = self.cursors.positions.get_mut(cursor)
                && position.at < Some(stands)
            {
                position.at = Some(stands);
                position.from = stands.step.saturating_add(1);
            }
            self.cursors.find_floor();
            actions.push(PublisherAction::Remember {
                cursor: cursor.to_owned(),
                at,
            });
        }
        let message = if remembered {
            WriterMessage::Committed { at }
        } else {
            WriterMessage::NotCommitted { at }
        };
        actions.push(PublisherAction::Send { group, message });
        // What only this cursor needed may go.
        let mut index = self.steps.lower_bound(old_floor);
        while self
            .steps
            .at(index)
            .is_some_and(|step| step.number < self.cursors.floor())
        {
            self.settle(index, actions);
            index += 1;
        }
    }
}
