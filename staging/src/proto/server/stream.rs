//! One stream at its home: the ledger, and what lives only as long as this
//! home does.
//!
//! Here is who takes part: writer slots and reader groups, their leases and
//! fencing. What writers ask is in [`super::writing`], what readers ask in
//! [`super::reading`], room for steps in [`super::retention`].

use super::super::ConnectionId;
use super::super::limits;
use super::super::message::{
    Ack, Distribution as Wire, Kind, OpenWriter, Policy, Position, Reason, Refused, ResumeFrom,
    Run, StreamState, StreamSummary, WriterOpened,
};
use super::super::mutant::{Mutant, Planted};
use super::ledger::{Entry, Ledger};
use super::sharing::distribution;
use panta_core::config::{Distribution, Value as _};
use panta_core::deal::Dealer;
use panta_transports::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Instances that have had their time and are remembered, so that a late
/// repetition of their opening doesn't fence anybody.
const RETIRED_REMEMBERED: usize = 256;

/// Who speaks, and by when he must speak again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presence {
    pub(super) instance: u64,
    pub(super) connection: Option<ConnectionId>,
    pub(super) heard: Time,
    pub(super) lease: Duration,
    pub(super) left: Option<Time>,
}

impl Presence {
    /// When he is held dead unless something is heard.
    pub(super) fn ends(&self, grace: Duration) -> Time {
        let silent = self.heard.after(self.lease);
        self.left
            .map_or(silent, |left| left.after(grace).min(silent))
    }

    /// Something that came at `arrived` was heard; what is older than the
    /// last sign of life changes nothing.
    pub(super) fn touch(&mut self, connection: ConnectionId, arrived: Time) {
        if arrived >= self.heard {
            *self = Self {
                connection: Some(connection),
                heard: arrived,
                left: None,
                ..*self
            };
        }
    }
}

/// One of the declared writer groups.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) presence: Presence,
    pub(super) closed: bool,
    /// The newest step it has begun, one more: it goes only forward.
    pub(super) next_step: u64,
}

/// What one writer group has said about an open step.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) reserved_bytes: u64,
    pub(super) end: Option<super::super::message::End>,
}

/// A step that is neither sealed nor withdrawn.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenStep {
    pub(super) parts: BTreeMap<u32, Part>,
}

impl OpenStep {
    pub(super) fn reserved_bytes(&self) -> u64 {
        self.parts
            .values()
            .fold(0, |sum, part| sum.saturating_add(part.reserved_bytes))
    }
}

/// A reader group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) presence: Presence,
    pub(super) position: Position,
    /// (step, epoch).
    pub(super) claims: BTreeSet<(u64, u64)>,
    /// Ranks that release each for itself, and who has, of what is claimed.
    pub(super) ranks: u32,
    pub(super) released: BTreeMap<(u64, u64), BTreeSet<u32>>,
    /// Its root has left; other ranks still hold what is claimed.
    pub(super) closing: bool,
    /// The newest call for a next step, and the step it was answered with.
    pub(super) number: u64,
    pub(super) handed: Option<u64>,
    /// It asked for the newest step only, whatever came before.
    pub(super) newest_only: bool,
    /// Its place in the circle of groups, where they take turns.
    pub(super) seat: u64,
    /// Where it stood when it joined: what was before it is not for it.
    pub(super) from: Option<u64>,
    /// Its last call found no step, and it was given none since.
    pub(super) waits: bool,
    /// As it was told when it opened.
    pub(super) precious_owed: bool,
    /// Where it stood then.
    pub(super) opened_after: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) life: u64,
    pub(super) ledger: Ledger,
    pub(super) declared: u32,
    pub(super) policy: Policy,
    pub(super) retain_steps: u64,
    pub(super) retain_bytes: u64,
    /// Whether the oldest step of this epoch is kept.
    pub(super) precious_first: bool,
    pub(super) slots: BTreeMap<u32, Slot>,
    /// The writer group that was held dead in this epoch; none of the epoch
    /// can go on then.
    pub(super) lost: Option<u32>,
    pub(super) open: BTreeMap<u64, OpenStep>,
    /// The fixed part of each variable's layout, as first defined in this
    /// epoch.
    pub(super) fixed_in_epoch: BTreeMap<String, Vec<u8>>,
    pub(super) groups: BTreeMap<String, Group>,
    /// Seats given so far.
    pub(super) seats: u64,
    pub(super) dealer: Dealer<u64>,
    /// Where steps are distributed: of those that no group was given the seats of
    /// the groups that are to get it.
    pub(super) dealt: BTreeMap<u64, BTreeSet<u64>>,
    retired: VecDeque<u64>,
    /// Bytes and step of a writer that waits for room.
    pub(super) blocked: Option<(u64, u64)>,
    pub(super) planted: Planted,
}

impl Stream {
    pub(super) fn new(name: &str, life: u64, planted: Planted) -> Self {
        Self {
            name: name.to_owned(),
            life,
            ledger: Ledger::new(planted),
            declared: 1,
            policy: Policy::Block,
            retain_steps: limits::RETAIN_STEPS_DEFAULT,
            retain_bytes: limits::RETAIN_BYTES_DEFAULT,
            precious_first: false,
            slots: BTreeMap::new(),
            lost: None,
            open: BTreeMap::new(),
            fixed_in_epoch: BTreeMap::new(),
            groups: BTreeMap::new(),
            seats: 0,
            dealer: Dealer::new(Distribution::All),
            dealt: BTreeMap::new(),
            retired: VecDeque::new(),
            blocked: None,
            planted,
        }
    }

    /// The current run.
    pub(super) fn run(&self) -> Run {
        Run {
            stream: self.name.clone(),
            life: self.life,
            epoch: self.ledger.epoch,
        }
    }

    /// A writer group opens; the answer lacks the map, which the server adds.
    pub(super) fn open_writer(
        &mut self,
        open: &OpenWriter,
        connection: ConnectionId,
        now: Time,
    ) -> Result<WriterOpened, Refused> {
        let known = self
            .slots
            .get_mut(&open.slot)
            .filter(|slot| slot.presence.instance == open.instance);
        if let Some(slot) = known {
            if self.lost.is_none() && !slot.closed {
                slot.presence.touch(connection, now);
                return Ok(self.writer_opened(open.slot));
            }
            return Err(fenced(
                "this writer was held dead or has closed; open again",
            ));
        }
        if self.retired.contains(&open.instance) {
            return Err(fenced(
                "this writer was fenced by another that opened the stream",
            ));
        }
        let joins = self.ledger.epoch > 0
            && self.lost.is_none()
            && !self.ledger.closed
            && open.slot < self.declared
            && !self.slots.contains_key(&open.slot)
            && self.slots.values().all(|slot| !slot.closed);
        if joins {
            self.check_joining(open)?;
        } else {
            self.begin_epoch(open);
        }
        let presence = Presence {
            instance: open.instance,
            connection: Some(connection),
            heard: now,
            lease: lease(open.lease_ms),
            left: None,
        };
        let next_step = self.first_to_write();
        self.slots.insert(
            open.slot,
            Slot {
                presence,
                closed: false,
                next_step,
            },
        );
        Ok(self.writer_opened(open.slot))
    }

    /// Writers that write together must want the same.
    fn check_joining(&self, open: &OpenWriter) -> Result<(), Refused> {
        let other = |what: &str| {
            Err(Refused::new(
                Reason::WrongState,
                format!("the other writers declared {what}"),
            ))
        };
        if open.declared != self.declared {
            return other(&format!("{} writer groups", self.declared));
        }
        if open.policy != self.policy as i32 {
            return other(&format!("the policy {:?}", self.policy));
        }
        if or_default(open.retain_steps, limits::RETAIN_STEPS_DEFAULT) != self.retain_steps
            || or_default(open.retain_bytes, limits::RETAIN_BYTES_DEFAULT) != self.retain_bytes
        {
            return other(&format!(
                "a retention of {} steps and {} bytes",
                self.retain_steps, self.retain_bytes
            ));
        }
        if distribution(open.distribution()) != self.dealer.distribution() {
            return other(&format!(
                "distribution={}",
                self.dealer.distribution().print()
            ));
        }
        if open.precious_first != self.precious_first {
            return other(&format!("precious_first={}", self.precious_first));
        }
        let agrees = match open.resume() {
            ResumeFrom::Fresh => self.ledger.base.is_none(),
            ResumeFrom::Last => true,
            ResumeFrom::After => self.ledger.base == Some(open.resume_step),
        };
        if agrees {
            Ok(())
        } else {
            other(&format!("to resume after {:?}", self.ledger.base))
        }
    }

    fn begin_epoch(&mut self, open: &OpenWriter) {
        let base = match open.resume() {
            ResumeFrom::Fresh => None,
            ResumeFrom::Last => self.ledger.last_sealed,
            ResumeFrom::After => Some(open.resume_step),
        };
        let fenced: Vec<u64> = self
            .slots
            .values()
            .map(|slot| slot.presence.instance)
            .collect();
        fenced
            .into_iter()
            .for_each(|instance| self.retire(instance));
        self.slots.clear();
        self.open.clear();
        self.fixed_in_epoch.clear();
        self.lost = None;
        self.blocked = None;
        self.declared = open.declared;
        self.policy = open.policy();
        self.retain_steps = or_default(open.retain_steps, limits::RETAIN_STEPS_DEFAULT);
        self.retain_bytes = or_default(open.retain_bytes, limits::RETAIN_BYTES_DEFAULT);
        self.ledger.apply(Entry::Fence { base });
        self.precious_first = open.precious_first;
        self.keep_first();
        // Claims on what was withdrawn hold nothing, and nobody has passed it.
        for group in self.groups.values_mut() {
            group
                .claims
                .retain(|(step, _)| base.is_some_and(|base| *step <= base));
            group.position.after = group.position.after.min(base);
        }
        self.deal_anew(distribution(open.distribution()));
    }

    /// Keeps the oldest step held, if the writers want it; else none.
    pub(super) fn keep_first(&mut self) {
        let first = self.ledger.held.first_key_value().map(|(step, _)| *step);
        let step = match self.precious_first {
            true => self.ledger.precious.or(first),
            false => None,
        };
        if step != self.ledger.precious {
            self.ledger.apply(Entry::Precious { step });
        }
    }

    fn first_to_write(&self) -> u64 {
        let open = self
            .open
            .first_key_value()
            .map_or(u64::MAX, |(step, _)| *step);
        self.ledger.undecided().min(open)
    }

    fn writer_opened(&self, slot: u32) -> WriterOpened {
        WriterOpened {
            run: Some(self.run()),
            base: self.ledger.base,
            next_step: self.slots.get(&slot).map_or(0, |slot| slot.next_step),
            oldest: self.ledger.oldest,
            kept: self.ledger.kept(),
            map: None,
            limit_bytes: self.retain_bytes,
            lease_ms: self
                .slots
                .get(&slot)
                .map_or(0, |slot| millis(slot.presence.lease)),
        }
    }

    /// Checks that a message is of this life and epoch.
    pub(super) fn check_run(&self, run: Option<&Run>) -> Result<(), Refused> {
        let run = run.ok_or_else(|| Refused::new(Reason::Malformed, "no run"))?;
        self.check_life(run.life)?;
        if run.epoch < self.ledger.epoch && !self.planted.has(Mutant::NoFenceAtHome) {
            return Err(fenced(&format!(
                "epoch {} was fenced by epoch {}",
                run.epoch, self.ledger.epoch
            )));
        }
        if run.epoch > self.ledger.epoch {
            return Err(Refused::new(
                Reason::Malformed,
                "an epoch that has not begun",
            ));
        }
        Ok(())
    }

    pub(super) fn check_life(&self, life: u64) -> Result<(), Refused> {
        if life == self.life {
            return Ok(());
        }
        Err(Refused::new(
            Reason::StreamLost,
            format!(
                "the home of {} was restarted and has lost the stream; open it again",
                self.name
            ),
        ))
    }

    /// The slot of a writer that has opened and still lives. Hears it.
    pub(super) fn hear_slot(
        &mut self,
        number: u32,
        connection: ConnectionId,
        now: Time,
    ) -> Result<&mut Slot, Refused> {
        if let Some(lost) = self.lost {
            return Err(fenced(&format!(
                "writer {lost} of {} was held dead; open again",
                self.name
            )));
        }
        let slot = self.slots.get_mut(&number).ok_or_else(|| {
            Refused::new(
                Reason::WrongState,
                format!("writer {number} has not opened this epoch"),
            )
        })?;
        slot.presence.touch(connection, now);
        Ok(slot)
    }

    /// Holds dead whom nothing was heard of. Whether anything changed.
    pub(super) fn expire(&mut self, grace: Duration, now: Time) -> bool {
        let lost = self
            .slots
            .iter()
            .find(|(_, slot)| !slot.closed && slot.presence.ends(grace) <= now)
            .map(|(number, _)| *number);
        let mut changed = false;
        if let Some(number) = lost.filter(|_| self.lost.is_none()) {
            self.lost = Some(number);
            self.withdraw_open();
            changed = true;
        }
        let dead = |_: &String, group: &mut Group| group.presence.ends(grace) <= now;
        let dead: Vec<_> = self.groups.extract_if(.., dead).collect();
        for (_, group) in &dead {
            self.pass_on_all(group);
        }
        changed || !dead.is_empty()
    }

    /// Withdraws every open step.
    pub(super) fn withdraw_open(&mut self) {
        for (step, _) in std::mem::take(&mut self.open) {
            self.ledger.apply(Entry::Withdraw {
                step,
                fate: super::super::message::StepFate::Aborted,
            });
        }
        self.blocked = None;
    }

    /// When [`Self::expire`] may have something to do.
    pub(super) fn next_expiry(&self, grace: Duration) -> Option<Time> {
        let slots = self
            .slots
            .values()
            .filter(|slot| !slot.closed && self.lost.is_none());
        let slots = slots.map(|slot| slot.presence.ends(grace));
        slots
            .chain(self.groups.values().map(|group| group.presence.ends(grace)))
            .min()
    }

    /// A connection has ended.
    pub(super) fn disconnected(&mut self, connection: ConnectionId, now: Time) -> bool {
        let mut touched = false;
        let slots = self.slots.values_mut().map(|slot| &mut slot.presence);
        for presence in slots.chain(self.groups.values_mut().map(|group| &mut group.presence)) {
            if presence.connection == Some(connection) {
                presence.connection = None;
                presence.left = Some(now);
                touched = true;
            }
        }
        touched
    }

    /// An instance lives.
    pub(super) fn alive(&mut self, instance: u64, connection: ConnectionId, now: Time) {
        let slots = self.slots.values_mut().map(|slot| &mut slot.presence);
        for presence in slots.chain(self.groups.values_mut().map(|group| &mut group.presence)) {
            if presence.instance == instance {
                presence.touch(connection, now);
            }
        }
    }

    /// Remembers an instance whose time is over.
    pub(super) fn retire(&mut self, instance: u64) {
        self.retired.push_back(instance);
        if self.retired.len() > RETIRED_REMEMBERED {
            self.retired.pop_front();
        }
    }

    pub(super) fn is_retired(&self, instance: u64) -> bool {
        self.retired.contains(&instance)
    }

    pub(super) fn summary(&self) -> StreamSummary {
        let state = match (self.lost, self.ledger.closed) {
            (_, true) => StreamState::Closed,
            (Some(_), _) => StreamState::Lost,
            (None, false) => StreamState::Live,
        };
        StreamSummary {
            stream: self.name.clone(),
            epoch: self.ledger.epoch,
            first: self.ledger.first_passing(),
            precious: self.ledger.precious,
            distribution: match self.dealer.distribution() {
                Distribution::All => Wire::All,
                Distribution::RoundRobin => Wire::RoundRobin,
                Distribution::OnDemand => Wire::OnDemand,
            } as i32,
            last: self.ledger.last_sealed,
            steps: self.ledger.held.len() as u64,
            bytes: self.ledger.held_bytes,
            state: state as i32,
        }
    }
}

/// Refuses what this version cannot do, before anything is changed.
pub(super) fn check_supported(open: &OpenWriter) -> Result<(), Refused> {
    let unsupported = |what: &str| Err(Refused::new(Reason::Unsupported, what));
    match Ack::try_from(open.ack) {
        Ok(Ack::Memory) => {}
        Ok(Ack::Replica) => {
            return unsupported("ack = replica: this version keeps no replicas; use ack = memory");
        }
        Ok(Ack::Disk) => {
            return unsupported("ack = disk: this version keeps nothing on disk; use ack = memory");
        }
        Err(_) => return unsupported("an acknowledgement level that this version does not know"),
    }
    match Policy::try_from(open.policy) {
        Ok(Policy::Spill) => unsupported(
            "policy = spill: not in this version; use block, drop-oldest or drop-newest",
        ),
        Err(_) => unsupported("a policy that this version does not know"),
        Ok(_) if Wire::try_from(open.distribution).is_err() => {
            unsupported("a distribution that this version does not know")
        }
        Ok(_) if ResumeFrom::try_from(open.resume).is_err() => {
            unsupported("a way to resume that is not known")
        }
        Ok(_) => Ok(()),
    }
}

/// The lease that is granted to one who asked for `lease_ms`.
pub(super) fn lease(lease_ms: u64) -> Duration {
    if lease_ms == 0 {
        return limits::LEASE_DEFAULT;
    }
    Duration::from_millis(lease_ms).clamp(limits::LEASE_RANGE.0, limits::LEASE_RANGE.1)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn fenced(detail: &str) -> Refused {
    Refused::new(Reason::Fenced, detail)
}

/// What a request comes to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is answered.
    Answer(Kind),
    /// It waits, for whom the text says.
    Wait(String),
    /// It is late and meaningless: nobody waits for an answer.
    Ignore,
}

impl From<Result<Kind, Refused>> for Outcome {
    fn from(result: Result<Kind, Refused>) -> Self {
        Self::Answer(result.unwrap_or_else(Kind::Refused))
    }
}

fn or_default(value: u64, default: u64) -> u64 {
    if value == 0 { default } else { value }
}
