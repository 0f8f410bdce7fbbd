//! What must hold, watched from outside with knowledge that no machine has.

use super::plan::Plan;
use panta_core::config::{Distribution, Policy};
use panta_core::engine::Start;
use panta_core::stream::machine::{GroupId, Join, Life, Position, PublisherAction, WriterMessage};
use std::collections::{BTreeMap, BTreeSet};

type Verdict = Result<(), String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Open,
    Memory,
    Spilling,
    Spilled,
    Lost,
}

/// Who was given a step: the reader's process, its group, and the life of the writer that
/// gave it.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    pub reader: usize,
    pub group: GroupId,
    pub epoch: u64,
}

/// A step that was sealed once.
#[derive(Clone, Debug)]
struct Sealed {
    at: Position,
    time: f64,
}

pub struct Oracle {
    plan: Plan,
    sealed: Vec<Sealed>,
    lives: Vec<Life>,
    places: BTreeMap<u64, (Place, Vec<u64>)>,
    /// Steps that this life was to put into the file, and how that went, if it is known.
    filed: BTreeMap<u64, Option<bool>>,
    precious: Option<u64>,
    /// Which steps were the precious one of which life.
    were_precious: BTreeSet<(u64, u64)>,
    /// Steps whose memory or file somebody may be looking at, or is about to.
    looked_at: BTreeSet<(u64, GroupId)>,
    /// In distributed streams, who was given a step, over a link to which life.
    given: BTreeMap<Position, Vec<Given>>,
    gone: BTreeSet<GroupId>,
    /// The first step sealed after the steady reader had joined.
    steady_from: Option<usize>,
    steady_group: Option<GroupId>,
    /// A group went when the steady reader had left: nobody takes what it had.
    left_over: bool,
    /// Steps that could not be spilled.
    pub lost: BTreeSet<Position>,
    pub grown: u64,
    pub not_grown: u64,
    pub discarded: u64,
    pub spilled: u64,
    pub written: u64,
    pub evicted: u64,
    pub abandoned: u64,
    pub trimmed: u64,
    pub rolled_back: u64,
    pub delivered: u64,
    pub fenced: u64,
    pub writer_lost: u64,
    pub deadlocks: u64,
}

impl Oracle {
    pub fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            sealed: Vec::new(),
            lives: Vec::new(),
            places: BTreeMap::new(),
            filed: BTreeMap::new(),
            precious: None,
            were_precious: BTreeSet::new(),
            looked_at: BTreeSet::new(),
            given: BTreeMap::new(),
            gone: BTreeSet::new(),
            steady_from: None,
            steady_group: None,
            left_over: false,
            lost: BTreeSet::new(),
            grown: 0,
            not_grown: 0,
            discarded: 0,
            spilled: 0,
            written: 0,
            evicted: 0,
            abandoned: 0,
            trimmed: 0,
            rolled_back: 0,
            delivered: 0,
            fenced: 0,
            writer_lost: 0,
            deadlocks: 0,
        }
    }

    fn distributed(&self) -> bool {
        self.plan.distribution != Distribution::All
    }

    /// Whether every group that takes all steps must get all of them.
    fn lossless(&self) -> bool {
        matches!(self.plan.policy, Policy::Block | Policy::Spill)
    }

    pub fn life_begins(&mut self, life: Life) {
        self.lives.push(life);
        self.precious = None;
        self.filed.clear();
        self.looked_at.clear();
        self.places.retain(|step, (place, _)| {
            *place == Place::Spilled && life.after.is_some_and(|after| *step <= after)
        });
        let oldest = self.places.keys().next().copied();
        self.make_precious(oldest);
    }

    /// Takes note of a step that is the precious one of the present life, if there is one.
    fn make_precious(&mut self, step: Option<u64>) {
        self.precious = step.filter(|_| self.plan.precious_first);
        let epoch = self.lives.last().map_or(0, |life| life.epoch);
        self.were_precious
            .extend(self.precious.map(|step| (epoch, step)));
    }

    /// Whether a life up to `until` withdrew a step.
    pub fn is_withdrawn(&self, at: Position, until: u64) -> bool {
        self.lives
            .iter()
            .filter(|life| life.epoch > at.epoch && life.epoch <= until)
            .any(|life| life.after.is_none_or(|after| at.step > after))
    }

    /// The steps that stand in the life `epoch`, in the order of their numbers.
    fn standing(&self, epoch: u64) -> impl Iterator<Item = &Sealed> {
        self.sealed
            .iter()
            .filter(move |sealed| sealed.at.epoch <= epoch && !self.is_withdrawn(sealed.at, epoch))
    }

    pub fn newest(&self) -> Option<u64> {
        self.newest_of(self.lives.last()?.epoch)
    }

    /// The newest step that stood in the life `epoch`.
    pub fn newest_of(&self, epoch: u64) -> Option<u64> {
        self.standing(epoch).map(|sealed| sealed.at.step).max()
    }

    /// Steps in the file that stand when a life resumes after `after`.
    pub fn recovered(&self, after: Option<u64>) -> Vec<(Position, f64)> {
        let epoch = self.lives.last().map_or(0, |life| life.epoch);
        self.standing(epoch)
            .filter(|sealed| after.is_some_and(|after| sealed.at.step <= after))
            .filter(|sealed| {
                let place = self.places.get(&sealed.at.step);
                place.is_some_and(|(place, _)| *place == Place::Spilled)
            })
            .map(|sealed| (sealed.at, sealed.time))
            .collect()
    }

    fn check_limit(&self) -> Verdict {
        for rank in 0..self.plan.ranks {
            let used = self.used_bytes(rank);
            if used > self.plan.limit_bytes {
                return Err(format!("rank {rank} holds {used} bytes"));
            }
        }
        Ok(())
    }

    pub fn admitted(&mut self, step: u64, reserve: &[u64]) -> Verdict {
        self.places.insert(step, (Place::Open, reserve.to_vec()));
        self.check_limit()
    }

    pub fn aborted(&mut self, step: u64) {
        self.places.remove(&step);
    }

    pub fn seals(&mut self, at: Position, time: f64, bytes: &[u64]) -> Verdict {
        self.places.insert(at.step, (Place::Memory, bytes.to_vec()));
        self.sealed.push(Sealed { at, time });
        if self.precious.is_none() {
            self.make_precious(Some(at.step));
        }
        self.check_limit()
    }

    /// A step lies in the file.
    pub fn spilled(&mut self, step: u64) {
        self.filed.insert(step, Some(true));
        match self.places.get_mut(&step) {
            Some((place @ Place::Spilling, _)) => {
                self.spilled += 1;
                *place = Place::Spilled;
            }
            _ => self.written += 1,
        }
    }

    /// A step does not lie in the file; whether it is in no memory either.
    pub fn spill_failed(&mut self, step: u64) -> bool {
        self.filed.insert(step, Some(false));
        match self.places.get_mut(&step) {
            Some((place @ Place::Spilling, _)) => *place = Place::Lost,
            _ => return false,
        }
        self.precious = self.precious.filter(|precious| *precious != step);
        let at = self
            .sealed
            .iter()
            .rev()
            .find(|sealed| sealed.at.step == step);
        self.lost.extend(at.map(|sealed| sealed.at));
        true
    }

    /// A step that could not be put into the file leaves memory; whether it was one.
    pub fn leaves(&mut self, step: u64) -> bool {
        let failed = self.filed.get(&step) == Some(&Some(false));
        if failed && let Some((place @ Place::Memory, _)) = self.places.get_mut(&step) {
            *place = Place::Spilling;
            return self.spill_failed(step);
        }
        false
    }

    /// Whether the file is still being written to with a step.
    pub fn is_being_filed(&self, step: u64) -> bool {
        self.filed.get(&step) == Some(&None)
    }

    /// The file takes steps in the order of their numbers only.
    fn files(&mut self, step: u64) -> Verdict {
        if self.filed.contains_key(&step) {
            return Err(format!("step {step} is written again"));
        }
        match self.filed.last_key_value() {
            Some((last, _)) if *last > step => Err(format!("step {step} is written after {last}")),
            _ => {
                self.filed.insert(step, None);
                Ok(())
            }
        }
    }

    /// The writer leaves: whatever is in memory alone goes with it.
    pub fn abandons(&self) -> Verdict {
        let alone = self
            .places
            .iter()
            .find(|(step, (place, _))| *place == Place::Memory && !self.filed.contains_key(*step));
        match alone {
            Some((step, _)) if self.plan.policy == Policy::Spill => {
                Err(format!("step {step} is left behind in memory alone"))
            }
            _ => Ok(()),
        }
    }

    /// The bytes on a rank of what is in memory, or admitted.
    pub fn used_bytes(&self, rank: usize) -> u64 {
        self.places.values().map(|(_, bytes)| bytes[rank]).sum()
    }

    /// Looks at what the publisher wants done.
    pub fn acts(&mut self, action: &PublisherAction) -> Verdict {
        match action {
            PublisherAction::Free { step } => {
                self.nobody_looks(*step, "freed")?;
                if self.precious == Some(*step) {
                    return Err(format!("the precious step {step} is freed"));
                }
                match self.places.remove(step) {
                    Some((Place::Memory | Place::Spilled | Place::Lost, _)) => Ok(()),
                    other => Err(format!("step {step} is freed, which is {other:?}")),
                }
            }
            PublisherAction::Write { step } => {
                self.files(*step)?;
                match self.places.get(step) {
                    Some((Place::Memory, _)) => Ok(()),
                    other => Err(format!("step {step} is written, which is {other:?}")),
                }
            }
            PublisherAction::Evict { step } => {
                self.nobody_looks(*step, "evicted")?;
                match (self.places.get_mut(step), self.filed.get(step)) {
                    (Some((place @ Place::Memory, bytes)), Some(Some(true))) => {
                        *place = Place::Spilled;
                        bytes.fill(0);
                        self.evicted += 1;
                        Ok(())
                    }
                    other => Err(format!("step {step} is evicted, which is {other:?}")),
                }
            }
            PublisherAction::Spill { step } => {
                self.nobody_looks(*step, "spilled")?;
                if !self.is_being_filed(*step) {
                    self.files(*step)?;
                }
                match self.places.get_mut(step) {
                    Some((place @ Place::Memory, bytes)) => {
                        *place = Place::Spilling;
                        bytes.fill(0);
                        Ok(())
                    }
                    other => Err(format!("step {step} is spilled, which is {other:?}")),
                }
            }
            PublisherAction::Announce {
                group, at, spilled, ..
            } => {
                let place = self.places.get(&at.step).map(|(place, _)| *place);
                let right = if *spilled {
                    Place::Spilled
                } else {
                    Place::Memory
                };
                if place != Some(right) {
                    return Err(format!("{group} is told of {at:?}, which is {place:?}"));
                }
                self.looked_at.insert((at.step, *group));
                Ok(())
            }
            PublisherAction::Discard { step } => {
                self.discarded += 1;
                if self.lossless() {
                    return Err(format!("step {step} is discarded"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn nobody_looks(&self, step: u64, how: &str) -> Verdict {
        let mut looking = self
            .looked_at
            .range((step, GroupId(0))..=(step, GroupId(u64::MAX)));
        match looking.next() {
            Some((_, group)) => Err(format!("step {step} is {how} while {group} may look at it")),
            None => Ok(()),
        }
    }

    /// A group's application, or its machine for it, lets go of a step.
    pub fn lets_go(&mut self, group: GroupId, step: u64) {
        self.looked_at.remove(&(step, group));
    }

    /// The publisher knows that a group is gone.
    pub fn group_gone(&mut self, group: GroupId) {
        let steady_left = self.steady_group.map(|steady| self.gone.contains(&steady));
        self.left_over |= steady_left == Some(true);
        self.process_gone(group);
        self.gone.insert(group);
    }

    /// Nobody of a group looks at anything any more.
    pub fn process_gone(&mut self, group: GroupId) {
        self.looked_at.retain(|(_, other)| *other != group);
    }

    /// The steps in memory that somebody of a group may be looking at.
    pub fn in_sight(&self, group: GroupId) -> Vec<u64> {
        let looked_at = self.looked_at.iter();
        looked_at
            .filter(|(_, other)| *other == group)
            .map(|(step, _)| *step)
            .filter(|step| {
                let place = self.places.get(step);
                place.is_some_and(|(place, _)| *place == Place::Memory)
            })
            .collect()
    }

    /// Where what is left after a position begins, in the present life.
    fn after(&self, at: Option<Position>) -> u64 {
        let Some(at) = at else { return 0 };
        let later = self.lives.iter().filter(|life| life.epoch > at.epoch);
        let back = later.map(|life| life.after).min();
        match back.map_or(Some(at.step), |back| back.map(|back| back.min(at.step))) {
            Some(step) => step + 1,
            None => 0,
        }
    }

    /// The reader that takes everything has joined.
    pub fn steady_joins(&mut self, group: GroupId) {
        self.steady_group = Some(group);
        self.steady_from.get_or_insert(self.sealed.len());
    }

    /// What a joining group must get first, where it must get everything.
    pub fn joins(&self, join: &Join, said: &[WriterMessage], cursor: &Committed) -> Expected {
        let mut expected = Expected::default();
        let Some(life) = self.lives.last() else {
            return expected;
        };
        if self.distributed() || join.latest_only {
            return expected;
        }
        let held: Vec<&Sealed> = self
            .standing(life.epoch)
            .filter(|sealed| {
                let place = self.places.get(&sealed.at.step);
                place.is_some_and(|(place, _)| *place != Place::Open)
            })
            .collect();
        let is_held = |step: u64| held.iter().any(|sealed| sealed.at.step == step);
        let told = said
            .iter()
            .any(|message| matches!(message, WriterMessage::Trimmed { .. }));
        let from_step = |from: u64, exact: bool| {
            let missing = !(exact && is_held(from))
                && self
                    .standing(life.epoch)
                    .any(|sealed| sealed.at.step >= from && !is_held(sealed.at.step));
            (from, f64::NEG_INFINITY, missing)
        };
        let (from, from_time, missing) = match (&join.seen, &join.start) {
            (Some(seen), _) => from_step(self.after(Some(*seen)), false),
            (None, Start::Oldest) => (0, f64::NEG_INFINITY, false),
            (None, Start::Latest) => {
                // What the writer resumed after is the newest, whether that was ever a step.
                let newest = self.newest().max(life.after);
                let from = newest.map_or(0, |newest| newest + u64::from(!is_held(newest)));
                (from, f64::NEG_INFINITY, false)
            }
            (None, Start::At(step)) => from_step(*step, true),
            (None, Start::After(step)) => from_step(step + 1, false),
            (None, Start::AtTime(time)) => {
                let missing = self
                    .standing(life.epoch)
                    .filter(|sealed| sealed.at.epoch == life.epoch)
                    .any(|sealed| sealed.time >= *time && !is_held(sealed.at.step));
                (0, *time, missing)
            }
            (None, Start::Cursor(_)) => {
                // Between what is known to be remembered and what may be.
                expected.from_cursor = true;
                let least = self.after(cursor.acknowledged);
                let most = self.after(cursor.sent);
                expected.least = Some(least);
                let (_, time, missing) = from_step(most, false);
                // One that was never heard of begins with what is held.
                (most, time, missing && cursor.acknowledged.is_some())
            }
        };
        expected.must_say_trimmed = missing && !told;
        (expected.from, expected.from_time) = (from, from_time);
        if self.lossless() {
            expected.steps = held
                .iter()
                .filter(|sealed| {
                    let precious = self.precious == Some(sealed.at.step) && join.seen.is_none();
                    precious || (sealed.at.step >= from && sealed.time >= from_time)
                })
                .map(|sealed| sealed.at.step)
                .collect();
        }
        expected.precious = self.precious.filter(|_| join.seen.is_none());
        expected
    }

    /// A step comes to an application; `last` came before it and stands. `strict`:
    /// nothing may be missing between the two, if the policy loses nothing.
    pub fn delivers(
        &mut self,
        to: Given,
        at: Position,
        last: Option<u64>,
        strict: bool,
    ) -> Verdict {
        self.delivered += 1;
        if !self.sealed.iter().any(|sealed| sealed.at == at) {
            return Err(format!("{at:?} is delivered and was never sealed"));
        }
        if self.distributed() {
            return self.gives(to, at);
        }
        if let Some(last) = last {
            if at.step <= last {
                return Err(format!("{at:?} is delivered after {last}"));
            }
            let missed = self
                .standing(at.epoch)
                .find(|sealed| sealed.at.step > last && sealed.at.step < at.step);
            if let Some(missed) = missed
                && strict
                && self.lossless()
            {
                return Err(format!("{:?} is missing before {at:?}", missed.at));
            }
        }
        Ok(())
    }

    fn gives(&mut self, to: Given, at: Position) -> Verdict {
        let given = self.given.entry(at).or_default();
        // What the groups had in hand died with the life of the writer that knew of it: a
        // later one gives it anew, whatever those who slept meanwhile find on their link.
        let twice = given.iter().any(|other| {
            other.epoch == to.epoch
                && other.reader != to.reader
                && !self.gone.contains(&other.group)
        });
        given.push(to);
        // Who is excluded and does not know yet may still look at what it was given.
        let excluded = self.gone.contains(&to.group);
        let precious = self.were_precious.contains(&(to.epoch, at.step));
        if twice && !excluded && !precious {
            return Err(format!(
                "{at:?} is given to {} and to another: {given:?}",
                to.group
            ));
        }
        Ok(())
    }

    /// The stream has ended for a group that must have got everything after
    /// `last`, the last that it was given or that was sealed when it joined.
    pub fn ends(&self, last: Option<u64>, expected: &Expected) -> Verdict {
        if self.distributed() || !self.lossless() {
            return Ok(());
        }
        let epoch = self.lives.last().map_or(0, |life| life.epoch);
        let missed = self.standing(epoch).find(|sealed| {
            last.is_none_or(|last| sealed.at.step > last)
                && sealed.at.step >= expected.from
                && sealed.time >= expected.from_time
        });
        match missed {
            Some(missed) => Err(format!(
                "the stream ended at {last:?}, before {:?}",
                missed.at
            )),
            None => Ok(()),
        }
    }

    /// A life ended well: where steps are distributed, each found a taker.
    pub fn all_given(&self) -> Verdict {
        // Who wants the newest only leaves out steps of its turn.
        let latest = self.plan.readers.iter().any(|reader| reader.latest_only);
        let left_out =
            self.left_over || (latest && self.plan.distribution == Distribution::RoundRobin);
        if !self.distributed() || !self.lossless() || self.lives.len() > 1 || left_out {
            return Ok(());
        }
        let from = self.steady_from.unwrap_or(self.sealed.len());
        let lost = self.sealed[from..]
            .iter()
            .find(|sealed| !self.given.contains_key(&sealed.at) && !self.lost.contains(&sealed.at));
        match lost {
            Some(lost) => Err(format!("{:?} was given to nobody", lost.at)),
            None => Ok(()),
        }
    }
}

/// What is known of a cursor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Committed {
    pub acknowledged: Option<Position>,
    pub sent: Option<Position>,
}

/// What a group gets first.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// These, in this order; then whatever is sealed.
    pub steps: Vec<u64>,
    pub precious: Option<u64>,
    pub must_say_trimmed: bool,
    pub from_cursor: bool,
    pub from: u64,
    pub from_time: f64,
    /// No step below, but the precious one.
    pub least: Option<u64>,
}
