//! What reader groups ask of a stream's home: where they are, what is next,
//! what they are done with.
//!
//! A group's position lives at the group; the home's copy only says what may
//! be trimmed. A step is claimed when it is handed out, and released by name
//! or by a later call that no longer holds it. Calls are numbered, so that a
//! repeated one gets the same step while that is claimed, and a late copy gets
//! and claims nothing.

use super::super::ConnectionId;
use super::super::limits;
use super::super::message::{
    CloseReader, Commit, Described, Done, Kind, Next, NoStep, NoStepReason, OpenReader, Position,
    ReaderOpened, Reason, Refused, Release, SealedStep, StartAt,
};
use super::super::mutant::Mutant;
use super::ledger::{Entry, Held};
use super::stream::{Group, Outcome, Presence, Stream, fenced, lease, millis};
use panta_transports::time::Time;
use std::collections::{BTreeMap, BTreeSet};

impl Group {
    /// Ends the claim on a step that was given with an answer that never arrived:
    /// none after the call numbered `heard` did.
    fn unheard(&mut self, heard: u64) -> Option<(u64, u64)> {
        let step = self.handed.filter(|_| heard < self.number)?;
        let claim = self.claims.iter().find(|(claimed, _)| *claimed == step);
        let claim = *claim?;
        self.claims.remove(&claim);
        self.released.remove(&claim);
        Some(claim)
    }
}

impl Stream {
    /// A reader group opens; the answer lacks the map, which the server adds.
    pub(super) fn open_reader(
        &mut self,
        open: &OpenReader,
        connection: ConnectionId,
        now: Time,
    ) -> Result<ReaderOpened, Refused> {
        if self.is_retired(open.instance) {
            return Err(fenced(
                "this reader has closed, or another has opened under its name",
            ));
        }
        let known = self
            .groups
            .get_mut(&open.group)
            .filter(|group| group.presence.instance == open.instance);
        if let Some(group) = known {
            group.presence.touch(connection, now);
            return Ok(self.reader_opened(&open.group));
        }
        let position = self.start(open)?;
        self.join(
            &open.group,
            open.instance,
            lease(open.lease_ms),
            position,
            connection,
            now,
        )?;
        if let Some(group) = self.groups.get_mut(&open.group) {
            group.ranks = open.ranks.max(1);
            group.precious_owed = self.ledger.precious.is_some();
            group.opened_after = position.after;
        }
        Ok(self.reader_opened(&open.group))
    }

    fn join(
        &mut self,
        name: &str,
        instance: u64,
        lease: std::time::Duration,
        position: Position,
        connection: ConnectionId,
        now: Time,
    ) -> Result<(), Refused> {
        if !self.groups.contains_key(name) && self.groups.len() >= limits::GROUPS_LIMIT {
            return Err(Refused::new(
                Reason::TooMany,
                format!("too many reader groups read {}", self.name),
            ));
        }
        let presence = Presence {
            instance,
            connection: Some(connection),
            heard: now,
            lease,
            left: None,
        };
        if let Some(replaced) = self.groups.remove(name) {
            self.retire(replaced.presence.instance);
            self.pass_on_all(&replaced);
        }
        self.seats += 1;
        let group = Group {
            presence,
            seat: self.seats,
            from: position.after,
            waits: false,
            position,
            claims: BTreeSet::new(),
            ranks: 1,
            released: BTreeMap::new(),
            closing: false,
            number: 0,
            handed: None,
            newest_only: false,
            precious_owed: false,
            opened_after: None,
        };
        self.groups.insert(name.to_owned(), group);
        self.deal_to_joiner(name);
        Ok(())
    }

    fn reader_opened(&self, group: &str) -> ReaderOpened {
        let group = self.groups.get(group);
        ReaderOpened {
            stream: self.name.clone(),
            life: self.life,
            position: group.map(|group| group.position),
            map: None,
            lease_ms: group.map_or(0, |group| millis(group.presence.lease)),
            precious_owed: group.is_some_and(|group| group.precious_owed),
        }
    }

    fn start(&self, open: &OpenReader) -> Result<Position, Refused> {
        let ledger = &self.ledger;
        let before = |step: u64| step.checked_sub(1);
        let here = |after: Option<u64>| Position {
            epoch: ledger.epoch,
            after,
        };
        // Who takes turns misses steps anyway.
        let trimmed_through = ledger.trimmed_through.filter(|_| !self.is_shared());
        // Where later ones went before it, the oldest that is held comes first too.
        let oldest = match (ledger.first_passing(), trimmed_through) {
            (Some(first), Some(trimmed)) if first < trimmed => before(first),
            _ => trimmed_through,
        };
        let held_from = |after: Option<u64>| {
            if trimmed_through > after {
                Err(self.trimmed())
            } else {
                Ok(here(after))
            }
        };
        match StartAt::try_from(open.start) {
            Ok(StartAt::Oldest) => Ok(here(oldest)),
            Ok(StartAt::Latest) => {
                let last = ledger.passing().next_back().map(|(step, _)| step);
                Ok(here(last.map_or(ledger.last_sealed, before)))
            }
            // It is held, and given first.
            Ok(StartAt::At) if ledger.precious == Some(open.step) => {
                Ok(here(trimmed_through.max(before(open.step))))
            }
            Ok(StartAt::At) if ledger.held.contains_key(&open.step) => Ok(here(before(open.step))),
            Ok(StartAt::At) => held_from(before(open.step)),
            Ok(StartAt::After) => held_from(Some(open.step)),
            Ok(StartAt::Cursor) => match ledger.cursors.get(&open.cursor) {
                None => Ok(here(oldest)),
                Some(position) if ledger.rolled_back(*position).is_some() => Ok(*position),
                Some(position) => held_from(position.after).map(|_| *position),
            },
            Ok(StartAt::Time) => {
                let first = ledger
                    .passing()
                    .find(|(_, held)| held.record.time >= open.time);
                Ok(here(
                    first.map_or(ledger.last_sealed, |(step, _)| before(step)),
                ))
            }
            Err(_) => Err(Refused::new(
                Reason::Unsupported,
                "a way to start that this version does not know",
            )),
        }
    }

    fn trimmed(&self) -> Refused {
        let oldest = self.ledger.first_passing();
        Refused {
            step: oldest,
            ..Refused::new(
                Reason::Trimmed,
                format!("the oldest step held of {} is {oldest:?}", self.name),
            )
        }
    }

    /// Hears a group; one that was held dead comes back without its claims.
    fn hear_group(
        &mut self,
        name: &str,
        instance: u64,
        position: Option<Position>,
        connection: ConnectionId,
        now: Time,
    ) -> Result<&mut Group, Refused> {
        if self.is_retired(instance) {
            return Err(fenced(&format!(
                "another reader has opened as group {name}, or this one has closed"
            )));
        }
        if !self.groups.contains_key(name) {
            let position = position.ok_or_else(|| {
                Refused::new(
                    Reason::WrongState,
                    format!("reader group {name} is not open"),
                )
            })?;
            self.join(
                name,
                instance,
                limits::LEASE_DEFAULT,
                position,
                connection,
                now,
            )?;
        }
        match self.groups.get_mut(name) {
            Some(group) if group.presence.instance == instance => {
                group.presence.touch(connection, now);
                Ok(group)
            }
            _ => Err(fenced(&format!(
                "another reader has opened as group {name}"
            ))),
        }
    }

    /// Hears a rank that may speak on another connection than its root: whose
    /// end means that the group has gone stays as it is.
    fn hear_rank(
        &mut self,
        name: &str,
        instance: u64,
        connection: ConnectionId,
        now: Time,
    ) -> Result<&mut Group, Refused> {
        let roots = self
            .groups
            .get(name)
            .and_then(|group| group.presence.connection);
        let group = self.hear_group(name, instance, None, connection, now)?;
        group.presence.connection = roots.or(Some(connection));
        Ok(group)
    }

    /// The next step of a group, or why there is none.
    pub(super) fn next(&mut self, next: &Next, connection: ConnectionId, now: Time) -> Outcome {
        match self.try_next(next, connection, now) {
            Ok(outcome) => outcome,
            Err(refused) => Outcome::Answer(Kind::Refused(refused)),
        }
    }

    fn try_next(
        &mut self,
        next: &Next,
        connection: ConnectionId,
        now: Time,
    ) -> Result<Outcome, Refused> {
        self.check_life(next.life)?;
        let position = next.position.unwrap_or_default();
        if position.epoch > self.ledger.epoch {
            return Err(Refused::new(
                Reason::Malformed,
                "an epoch that has not begun",
            ));
        }
        self.hear_group(&next.group, next.instance, Some(position), connection, now)?
            .newest_only = next.latest;
        if let Some(outcome) = self.repeated(next, position) {
            return Ok(outcome);
        }
        if let Some(base) = self.ledger.rolled_back(position) {
            let to = Position {
                epoch: self.ledger.epoch,
                after: base,
            };
            if let Some(group) = self
                .groups
                .get_mut(&next.group)
                .filter(|group| group.position.epoch < to.epoch)
            {
                group.position = to;
            }
            return Ok(Outcome::Answer(
                self.no_step(NoStepReason::RolledBack, base),
            ));
        }
        if let Some((step, record)) = self.owed_first(next) {
            return self.hand_out(next, step, &record);
        }
        if self.policy != super::super::message::Policy::DropOldest
            && !self.is_shared()
            && !next.latest
            && self.ledger.trimmed_through > position.after
        {
            let oldest = self.ledger.first_passing().unwrap_or(self.ledger.oldest);
            self.move_group(&next.group, self.ledger.trimmed_through);
            return Ok(Outcome::Answer(
                self.no_step(NoStepReason::Trimmed, Some(oldest)),
            ));
        }
        let found = match self.is_shared() {
            true => self.next_dealt(&next.group, next.latest),
            false => self.find_next(position.after, next.latest),
        };
        if let Some((step, record)) = found {
            return self.hand_out(next, step, &record);
        }
        if let Some(group) = self.groups.get_mut(&next.group) {
            group.waits = true;
        }
        Ok(self.nothing_next(&next.group))
    }

    /// What a call that is not new comes to; a new one says where the group
    /// stands and what it holds.
    fn repeated(&mut self, next: &Next, position: Position) -> Option<Outcome> {
        let group = self.groups.get_mut(&next.group)?;
        if self.planted.has(Mutant::ClaimOnRepeatedNext) {
            return None;
        }
        if next.number < group.number {
            return Some(Outcome::Ignore);
        }
        if next.number > group.number {
            let unheard = group.unheard(next.heard);
            (group.number, group.position, group.handed) = (next.number, position, None);
            let listed = |(step, epoch): &(u64, u64)| {
                let (epoch, after) = (*epoch, Some(*step));
                !next.lists_holds || next.holds.contains(&Position { epoch, after })
            };
            let released = |claim: &(u64, u64)| !listed(claim);
            let released: Vec<_> = group.claims.extract_if(.., released).collect();
            let seat = group.seat;
            for (step, _) in released {
                self.done_with(step);
            }
            if let Some((step, _)) = unheard.filter(|_| !next.precious_owed) {
                self.give_back(step, seat);
            }
            return None;
        }
        let step = group.handed?;
        let record = self
            .ledger
            .held
            .get(&step)
            .map(|held| held.record.clone())?;
        if !group.claims.contains(&(step, record.epoch)) {
            // Released long ago: this is a late copy.
            return Some(Outcome::Ignore);
        }
        Some(Outcome::Answer(Kind::SealedStep(
            self.ledger.record_for(&record, next.known_layouts),
        )))
    }

    /// The precious step, for a group that has yet to get it.
    fn owed_first(&self, next: &Next) -> Option<(u64, SealedStep)> {
        if !next.precious_owed || self.planted.has(Mutant::PreciousLast) {
            return None;
        }
        let step = self.ledger.precious?;
        let held = self.ledger.held.get(&step)?;
        Some((step, held.record.clone()))
    }

    fn find_next(&self, after: Option<u64>, latest: bool) -> Option<(u64, SealedStep)> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut range = self.ledger.held.range((from, std::ops::Bound::Unbounded));
        let found = if latest {
            range.next_back()
        } else {
            range.next()
        };
        if found.is_none() && self.planted.has(Mutant::WakeBeforeSeal) {
            return self.unsealed_next(after);
        }
        found.map(|(step, Held { record, .. })| (*step, record.clone()))
    }

    /// Of the mutant that shows steps before they are sealed.
    fn unsealed_next(&self, after: Option<u64>) -> Option<(u64, SealedStep)> {
        let (&step, open) = self.open.iter().find(|(step, _)| Some(**step) > after)?;
        let mut record = SealedStep {
            epoch: self.ledger.epoch,
            step,
            ..SealedStep::default()
        };
        if let Some(end) = open.parts.values().find_map(|part| part.end.as_ref()) {
            record.owners.clone_from(&end.owners);
            record.variables.clone_from(&end.variables);
        }
        Some((step, record))
    }

    fn hand_out(
        &mut self,
        next: &Next,
        step: u64,
        record: &SealedStep,
    ) -> Result<Outcome, Refused> {
        let epoch = self.ledger.epoch;
        let Some(group) = self.groups.get_mut(&next.group) else {
            return Ok(Outcome::Ignore);
        };
        if group.claims.len() >= limits::CLAIMS_LIMIT {
            return Err(Refused::new(
                Reason::TooMany,
                "too many steps are held; release some",
            ));
        }
        group.claims.insert((step, record.epoch));
        group.position = Position {
            epoch,
            after: group.position.after.max(Some(step)),
        };
        (group.handed, group.waits) = (Some(step), false);
        let seat = group.seat;
        self.dealt_to(step, seat);
        Ok(Outcome::Answer(Kind::SealedStep(
            self.ledger.record_for(record, next.known_layouts),
        )))
    }

    fn nothing_next(&self, group: &str) -> Outcome {
        let ended = self.ledger.closed || self.lost.is_some();
        if let Some(other) = self.may_leave_some_to(group).filter(|_| ended) {
            return Outcome::Wait(format!(
                "reader group {other} to be done with its steps of {}",
                self.name
            ));
        }
        if self.ledger.closed {
            return Outcome::Answer(self.no_step(NoStepReason::Closed, self.ledger.last_sealed));
        }
        if self.lost.is_some() {
            return Outcome::Answer(
                self.no_step(NoStepReason::WriterLost, self.ledger.last_sealed),
            );
        }
        let open = self.open.first_key_value().map(|(step, _)| *step);
        Outcome::Wait(match open {
            Some(step) => format!(
                "step {step} of {} to be sealed by its {} writer(s)",
                self.name, self.declared
            ),
            None => format!("a writer of {} to begin a step", self.name),
        })
    }

    /// The answer to a group that has waited in vain: it would wait for ever
    /// if what it holds is in the writer's way. Asked at the end of the wait,
    /// since a release may be under way on another connection.
    pub(super) fn waited(&self, next: &Next, waiting_for: String) -> Kind {
        if self.would_deadlock(&next.group) {
            return self.no_step(NoStepReason::WouldDeadlock, None);
        }
        Kind::NoStep(NoStep {
            reason: NoStepReason::NotYet as i32,
            step: None,
            epoch: self.ledger.epoch,
            waiting_for,
        })
    }

    fn no_step(&self, reason: NoStepReason, step: Option<u64>) -> Kind {
        Kind::NoStep(NoStep {
            reason: reason as i32,
            step,
            epoch: self.ledger.epoch,
            waiting_for: String::new(),
        })
    }

    fn move_group(&mut self, name: &str, after: Option<u64>) {
        if let Some(group) = self.groups.get_mut(name) {
            group.position.after = group.position.after.max(after);
        }
    }

    /// A group is done with a step.
    pub(super) fn release(
        &mut self,
        release: &Release,
        connection: ConnectionId,
        now: Time,
    ) -> Result<Kind, Refused> {
        let run = release
            .run
            .as_ref()
            .ok_or_else(|| Refused::new(Reason::Malformed, "no run"))?;
        self.check_life(run.life)?;
        if self.groups.contains_key(&release.group) {
            let group = self.hear_rank(&release.group, release.instance, connection, now)?;
            let ended = group.release((release.step, run.epoch), release.rank);
            if group.closing && group.claims.is_empty() {
                self.groups.remove(&release.group);
                self.retire(release.instance);
            }
            if ended {
                self.done_with(release.step);
            }
        }
        Ok(Kind::Done(Done {}))
    }

    /// A cursor moves behind a step; only forward within an epoch.
    pub(super) fn commit(
        &mut self,
        commit: &Commit,
        connection: ConnectionId,
        now: Time,
    ) -> Result<Kind, Refused> {
        let run = commit
            .run
            .as_ref()
            .ok_or_else(|| Refused::new(Reason::Malformed, "no run"))?;
        self.check_life(run.life)?;
        let mut after = Some(commit.step);
        let precious = self.ledger.precious;
        if self.groups.contains_key(&commit.group) {
            let group = self.hear_rank(&commit.group, commit.instance, connection, now)?;
            if precious == after {
                // It came out of its turn: the group begins where it had opened.
                after = after.max(group.opened_after);
            }
        } else if self.is_retired(commit.instance) {
            return Err(fenced("this reader has closed"));
        }
        let position = Position {
            epoch: run.epoch,
            after,
        };
        let known = self.ledger.cursors.get(&commit.cursor).copied();
        if known.is_none() && self.ledger.cursors.len() >= limits::CURSORS_LIMIT {
            return Err(Refused::new(
                Reason::TooMany,
                format!("too many cursors on {}", self.name),
            ));
        }
        if known.is_none_or(|known| known < position) && run.epoch <= self.ledger.epoch {
            self.ledger.apply(Entry::Cursor {
                name: commit.cursor.clone(),
                position,
            });
        }
        Ok(Kind::Done(Done {}))
    }

    /// A group leaves; where ranks release each for itself, what the others
    /// still read stays claimed until they have, or are gone.
    pub(super) fn close_reader(&mut self, close: &CloseReader) -> Result<Kind, Refused> {
        self.check_life(close.life)?;
        let mine = |group: &&mut Group| group.presence.instance == close.instance;
        if let Some(group) = self.groups.get_mut(&close.group).filter(mine) {
            let unheard = group.unheard(close.heard);
            (group.closing, group.waits) = (true, false);
            let (seat, others_read) = (group.seat, group.ranks > 1 && !group.claims.is_empty());
            let claims = group.claims.clone();
            if !others_read {
                self.groups.remove(&close.group);
                // What its readers had in hand is done.
                for (step, _) in claims {
                    self.done_with(step);
                }
            }
            self.pass_on(seat, unheard.map(|(step, _)| step).into_iter());
            if others_read {
                return Ok(Kind::Done(Done {}));
            }
        }
        if !self.is_retired(close.instance) {
            self.retire(close.instance);
        }
        Ok(Kind::Done(Done {}))
    }

    /// Everything `panta ls` shows.
    pub(super) fn describe(&self) -> Kind {
        let newest = self.ledger.held.last_key_value().map(|(_, held)| {
            let mut told = held.record.clone();
            let numbers = told.variables.iter().map(|variable| variable.layout);
            told.layouts = numbers
                .filter_map(|number| self.ledger.layouts.get(&number).cloned())
                .collect();
            told
        });
        Kind::Described(Described {
            summary: Some(self.summary()),
            newest,
            groups: self.groups.keys().cloned().collect(),
            declared: self.declared,
        })
    }
}
