//! What writer groups ask of a stream's home: layouts, steps and their ends.
//!
//! A step's life: begun by a slot (`open`), ended by every declared slot, then
//! sealed, in the order of the numbers. A slot goes only forward: when it
//! begins a step, earlier ones it has not ended can never be whole and are
//! withdrawn. When one of several closes, so are those it has not ended: the
//! stream ends where the first of its writers does.

use super::super::ConnectionId;
use super::super::limits;
use super::super::message::{
    Abort, AwaitSeal, Began, Begin, CloseWriter, Decision, Define, Defined, Done, End, Fate, Kind,
    Layout, OwnerShare, Policy, Reason, Refused, SealedStep, SlotAttributes, StepFate,
    VariableLayout,
};
use super::super::mutant::Mutant;
use super::index::merge;
use super::ledger::Entry;
use super::stream::{Outcome, Part, Stream};
use panta_transports::time::Time;
use prost::Message as _;
use std::collections::BTreeMap;

impl Stream {
    /// Names a layout.
    pub(super) fn define(
        &mut self,
        define: &Define,
        connection: ConnectionId,
        now: Time,
    ) -> Result<Kind, Refused> {
        self.check_run(define.run.as_ref())?;
        self.hear_slot(define.slot, connection, now)?;
        let first_of_epoch = self.fixed_in_epoch.get(&define.variable);
        if let Some(first) = first_of_epoch.filter(|first| **first != define.fixed) {
            let layout = Layout {
                layout: 0,
                variable: define.variable.clone(),
                fixed: first.clone(),
                shape: Vec::new(),
            };
            return Err(disagreement(
                layout,
                "type or dimension names",
                self.ledger.epoch,
            ));
        }
        if self.fixed_in_epoch.len() >= limits::VARIABLES_LIMIT && first_of_epoch.is_none() {
            return Err(Refused::new(
                Reason::TooMany,
                "too many variables in this stream",
            ));
        }
        let number = match self
            .ledger
            .layout_number(&define.variable, &define.fixed, &define.shape)
        {
            Some(number) => number,
            None => self.new_layout(define)?,
        };
        self.fixed_in_epoch
            .insert(define.variable.clone(), define.fixed.clone());
        if let Some(other) = self
            .layout_in_step(define.step, &define.variable)
            .filter(|other| *other != number)
        {
            return Err(self.step_disagreement(other, define.step));
        }
        Ok(Kind::Defined(Defined { layout: number }))
    }

    fn new_layout(&mut self, define: &Define) -> Result<u32, Refused> {
        let layout = Layout {
            layout: self.ledger.last_layout.saturating_add(1),
            variable: define.variable.clone(),
            fixed: define.fixed.clone(),
            shape: define.shape.clone(),
        };
        if !self.ledger.room_for_layout(layout.encoded_len()) {
            return Err(Refused::new(
                Reason::TooMany,
                "the steps held use too many layouts; retain fewer steps or change shapes less often",
            ));
        }
        let number = layout.layout;
        self.ledger.apply(Entry::Layout(layout));
        Ok(number)
    }

    /// The layout with which a slot has ended an open step.
    fn layout_in_step(&self, step: u64, variable: &str) -> Option<u32> {
        let ends = self
            .open
            .get(&step)?
            .parts
            .values()
            .filter_map(|part| part.end.as_ref());
        ends.flat_map(|end| &end.variables)
            .find(|layout| layout.variable == variable)
            .map(|layout| layout.layout)
    }

    fn step_disagreement(&self, first: u32, step: u64) -> Refused {
        let layout = self.ledger.layouts.get(&first).cloned().unwrap_or_default();
        disagreement(layout, "shape or chunks", step)
    }

    /// Decides about a step, or makes its writer wait.
    pub(super) fn begin(&mut self, begin: &Begin, connection: ConnectionId, now: Time) -> Outcome {
        match self.try_begin(begin, connection, now) {
            Ok(Some(decision)) => Outcome::Answer(self.began(decision, String::new())),
            Ok(None) => Outcome::Wait(self.room_waits_for()),
            Err(refused) => Outcome::Answer(Kind::Refused(refused)),
        }
    }

    pub(super) fn began(&self, decision: Decision, waiting_for: String) -> Kind {
        Kind::Began(Began {
            decision: decision as i32,
            oldest: self.ledger.oldest,
            kept: self.ledger.kept(),
            waiting_for,
        })
    }

    fn try_begin(
        &mut self,
        begin: &Begin,
        connection: ConnectionId,
        now: Time,
    ) -> Result<Option<Decision>, Refused> {
        self.check_run(begin.run.as_ref())?;
        let slot = self.hear_slot(begin.slot, connection, now)?;
        let closed = slot.closed;
        let next_step = slot.next_step;
        if let Some(fate) = self.ledger.fate(begin.step) {
            if fate == StepFate::Discarded {
                self.go_forward(begin.slot, begin.step);
                return Ok(Some(Decision::Discard));
            }
            return Err(wrong_state(&format!(
                "step {} is {fate:?} already",
                begin.step
            )));
        }
        let part = self
            .open
            .get(&begin.step)
            .and_then(|step| step.parts.get(&begin.slot));
        let reserved_bytes = part.map_or(0, |part| part.reserved_bytes);
        if part.is_some_and(|part| part.end.is_some()) {
            return Err(wrong_state(&format!(
                "step {} was ended by this writer",
                begin.step
            )));
        }
        if part.is_some() && begin.reserve_bytes <= reserved_bytes {
            return Ok(Some(Decision::Go));
        }
        if closed || (part.is_none() && begin.step < next_step) {
            return Err(wrong_state(&format!(
                "this writer is past step {}",
                begin.step
            )));
        }
        let gone = self
            .slots
            .iter()
            .find(|(_, slot)| slot.closed && slot.next_step <= begin.step);
        if let Some((gone, _)) = gone {
            return Err(wrong_state(&format!(
                "writer {gone} has closed; step {} cannot become whole",
                begin.step
            )));
        }
        self.withdraw_skipped(begin.slot, begin.step);
        self.reserve(begin, reserved_bytes)
    }

    /// Reserves room for a step that this slot begins or extends.
    fn reserve(&mut self, begin: &Begin, reserved_bytes: u64) -> Result<Option<Decision>, Refused> {
        let open = self.open.get(&begin.step);
        let new_step = open.is_none();
        let others = open
            .map_or(0, super::stream::OpenStep::reserved_bytes)
            .saturating_sub(reserved_bytes);
        // What is kept for ever leaves no room.
        let kept_bytes = self.ledger.precious_bytes();
        let room_bytes = self.retain_bytes.saturating_sub(kept_bytes);
        if others.saturating_add(begin.reserve_bytes) > room_bytes {
            return Err(Refused {
                bytes: room_bytes,
                ..Refused::new(
                    Reason::StepTooLarge,
                    format!(
                        "step {} would exceed the stream's {} bytes, of which the first step \
                         that is kept has {kept_bytes}",
                        begin.step, self.retain_bytes
                    ),
                )
            });
        }
        if new_step && self.open.len() >= limits::OPEN_STEPS_LIMIT {
            return Err(Refused::new(
                Reason::TooMany,
                "too many steps are open; wait for seals",
            ));
        }
        let more = begin.reserve_bytes.saturating_sub(reserved_bytes);
        if !self.make_room(more, u64::from(new_step)) {
            if new_step && self.policy != Policy::Block {
                // Readers that wait while they hold what is in the way hear it.
                self.blocked = Some((more, 1));
                self.go_forward(begin.slot, begin.step);
                self.ledger.apply(Entry::Withdraw {
                    step: begin.step,
                    fate: StepFate::Discarded,
                });
                return Ok(Some(Decision::Discard));
            }
            self.blocked = Some((more, u64::from(new_step)));
            return Ok(None);
        }
        self.blocked = None;
        self.go_forward(begin.slot, begin.step);
        let step = self.open.entry(begin.step).or_default();
        step.parts.insert(
            begin.slot,
            Part {
                reserved_bytes: begin.reserve_bytes,
                end: None,
            },
        );
        Ok(Some(Decision::Go))
    }

    fn go_forward(&mut self, slot: u32, step: u64) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.next_step = slot.next_step.max(step.saturating_add(1));
        }
    }

    /// Withdraws open steps before `step` that `slot` has not ended: it will
    /// not go back to them.
    fn withdraw_skipped(&mut self, slot: u32, step: u64) {
        let skipped: Vec<u64> = self
            .open
            .range(..step)
            .filter(|(_, open)| open.parts.get(&slot).is_none_or(|part| part.end.is_none()))
            .map(|(step, _)| *step)
            .collect();
        for step in skipped {
            self.withdraw(step);
        }
    }

    fn withdraw(&mut self, step: u64) {
        self.open.remove(&step);
        self.ledger.apply(Entry::Withdraw {
            step,
            fate: StepFate::Aborted,
        });
        self.seal_what_is_whole();
    }

    /// Takes a slot's end of a step.
    pub(super) fn end(
        &mut self,
        end: End,
        connection: ConnectionId,
        now: Time,
    ) -> Result<Kind, Refused> {
        self.check_run(end.run.as_ref())?;
        let fate = self.ledger.fate(end.step);
        if let Some(fate) = fate {
            return Ok(self.fate_answer(fate, end.step));
        }
        if self.ledger.forgotten(end.step) {
            return Err(wrong_state(&format!(
                "the fate of step {} is no longer remembered",
                end.step
            )));
        }
        self.hear_slot(end.slot, connection, now)?;
        let part = self
            .open
            .get(&end.step)
            .and_then(|step| step.parts.get(&end.slot));
        let Some(part) = part else {
            return Err(wrong_state(&format!("step {} was not begun", end.step)));
        };
        if part.end.is_none() {
            self.check_end(&end, part.reserved_bytes)?;
            if let Some(server) = self.lost_within(&end) {
                self.withdraw(end.step);
                return Err(Refused::new(
                    Reason::ServerLost,
                    format!(
                        "server {server} was restarted while step {} was written",
                        end.step
                    ),
                ));
            }
            if let Some(first) = self.disagrees(&end) {
                let refused = self.step_disagreement(first, end.step);
                self.withdraw(end.step);
                return Err(refused);
            }
            let step = end.step;
            if let Some(part) = self
                .open
                .get_mut(&step)
                .and_then(|open| open.parts.get_mut(&end.slot))
            {
                part.end = Some(end);
            }
            self.seal_what_is_whole();
            return Ok(self.fate_answer(self.ledger.fate(step).unwrap_or(StepFate::Open), step));
        }
        Ok(self.fate_answer(StepFate::Open, end.step))
    }

    fn check_end(&self, end: &End, reserved_bytes: u64) -> Result<(), Refused> {
        let bytes = end
            .owners
            .iter()
            .fold(0_u64, |sum, share| sum.saturating_add(share.bytes));
        if bytes > reserved_bytes {
            return Err(Refused {
                bytes: reserved_bytes,
                ..Refused::new(
                    Reason::BeyondReservation,
                    format!(
                        "step {} has {bytes} bytes, {reserved_bytes} were reserved; begin it again with more",
                        end.step
                    ),
                )
            });
        }
        let unknown = end.variables.iter().find(|variable| {
            self.ledger
                .layouts
                .get(&variable.layout)
                .is_none_or(|layout| layout.variable != variable.variable)
        });
        if let Some(variable) = unknown {
            return Err(wrong_state(&format!(
                "{} has no layout {}",
                variable.variable, variable.layout
            )));
        }
        let others = self
            .open
            .get(&end.step)
            .into_iter()
            .flat_map(|step| step.parts.values());
        let attributes: usize = others
            .filter_map(|part| part.end.as_ref())
            .map(|end| end.attributes.len())
            .sum();
        if attributes + end.attributes.len() > limits::ATTRIBUTES_LIMIT_BYTES {
            return Err(Refused::new(
                Reason::TooMany,
                "the writers' attributes of this step are too long together",
            ));
        }
        Ok(())
    }

    /// The layout another slot ended this step with, where `end` has another.
    fn disagrees(&self, end: &End) -> Option<u32> {
        end.variables.iter().find_map(|variable| {
            self.layout_in_step(end.step, &variable.variable)
                .filter(|first| *first != variable.layout)
        })
    }

    /// A server of which this writer and another have met different lives:
    /// what the first life acknowledged is gone.
    fn lost_within(&self, end: &End) -> Option<u32> {
        let parts = self.open.get(&end.step)?.parts.values();
        let mut others = parts
            .filter_map(|part| part.end.as_ref())
            .chain([end])
            .flat_map(|end| &end.owners);
        let mut lives: BTreeMap<u32, u64> = BTreeMap::new();
        others
            .find(|share| {
                *lives.entry(share.server).or_insert(share.incarnation) != share.incarnation
            })
            .map(|share| share.server)
    }

    /// Seals open steps from the oldest on, as long as they are whole.
    fn seal_what_is_whole(&mut self) {
        let lenient =
            u32::from(self.planted.has(Mutant::SealWithoutOneWriter) && self.declared > 1);
        while let Some((&number, step)) = self.open.first_key_value() {
            let ended = |slot: &u32| step.parts.get(slot).is_some_and(|part| part.end.is_some());
            let missing = (0..self.declared).filter(|slot| !ended(slot)).count();
            if missing > lenient as usize {
                return;
            }
            if let Some(step) = self.open.remove(&number) {
                let ends: BTreeMap<u32, End> = step
                    .parts
                    .into_iter()
                    .filter_map(|(slot, part)| Some((slot, part.end?)))
                    .collect();
                let record = seal_record(self.ledger.epoch, number, ends);
                self.ledger.apply(Entry::Seal(record));
                self.keep_first();
                self.deal(number);
            }
        }
    }

    /// Withdraws a step.
    pub(super) fn abort(
        &mut self,
        abort: &Abort,
        connection: ConnectionId,
        now: Time,
    ) -> Result<Kind, Refused> {
        self.check_run(abort.run.as_ref())?;
        if let Some(fate) = self.ledger.fate(abort.step) {
            return Ok(self.fate_answer(fate, abort.step));
        }
        self.hear_slot(abort.slot, connection, now)?;
        let begun = self
            .open
            .get(&abort.step)
            .is_some_and(|step| step.parts.contains_key(&abort.slot));
        if !begun
            && self
                .slots
                .get(&abort.slot)
                .is_some_and(|slot| abort.step < slot.next_step)
        {
            return Err(wrong_state(&format!(
                "the fate of step {} is no longer remembered",
                abort.step
            )));
        }
        // Also a step whose begin was never answered: it must not be begun by
        // a late repetition.
        self.go_forward(abort.slot, abort.step);
        self.withdraw(abort.step);
        Ok(self.fate_answer(StepFate::Aborted, abort.step))
    }

    /// Waits for a step's fate.
    pub(super) fn await_seal(
        &mut self,
        wait: &AwaitSeal,
        connection: ConnectionId,
        now: Time,
    ) -> Outcome {
        if let Err(refused) = self.check_run(wait.run.as_ref()) {
            return Outcome::Answer(Kind::Refused(refused));
        }
        if let Some(fate) = self.ledger.fate(wait.step) {
            return Outcome::Answer(self.fate_answer(fate, wait.step));
        }
        if let Err(refused) = self.hear_slot(wait.slot, connection, now) {
            return Outcome::Answer(Kind::Refused(refused));
        }
        if !self.open.contains_key(&wait.step) {
            return Outcome::Answer(Kind::Refused(wrong_state(&format!(
                "step {} is not open",
                wait.step
            ))));
        }
        Outcome::Wait(self.seal_waits_for(wait.step))
    }

    /// The answer that tells a step's fate.
    pub(super) fn fate_answer(&self, fate: StepFate, step: u64) -> Kind {
        let waiting_for = if fate == StepFate::Open {
            self.seal_waits_for(step)
        } else {
            String::new()
        };
        Kind::Fate(Fate {
            fate: fate as i32,
            waiting_for,
        })
    }

    fn seal_waits_for(&self, step: u64) -> String {
        let Some((&first, open)) = self.open.first_key_value() else {
            return String::new();
        };
        let ended = |slot: &u32| open.parts.get(slot).is_some_and(|part| part.end.is_some());
        let missing: Vec<String> = (0..self.declared)
            .filter(|slot| !ended(slot))
            .take(8)
            .map(|slot| slot.to_string())
            .collect();
        let before = if first < step {
            format!(" before step {step}")
        } else {
            String::new()
        };
        format!(
            "writer {} to end step {first}{before} of {}",
            missing.join(", "),
            self.name
        )
    }

    /// A writer group will write no more.
    pub(super) fn close_writer(
        &mut self,
        close: &CloseWriter,
        connection: ConnectionId,
        now: Time,
    ) -> Result<Kind, Refused> {
        self.check_run(close.run.as_ref())?;
        self.hear_slot(close.slot, connection, now)?.closed = true;
        // What it has not ended can never be whole.
        self.withdraw_skipped(close.slot, u64::MAX);
        let all = u32::try_from(self.slots.values().filter(|slot| slot.closed).count())
            .unwrap_or(u32::MAX);
        self.seal_what_is_whole();
        if all >= self.declared && !self.ledger.closed {
            self.withdraw_open();
            self.ledger.apply(Entry::Close);
        }
        Ok(Kind::Done(Done {}))
    }
}

/// A sealed step, from what each slot has said.
fn seal_record(epoch: u64, step: u64, ends: BTreeMap<u32, End>) -> SealedStep {
    let mut record = SealedStep {
        epoch,
        step,
        ..SealedStep::default()
    };
    let mut owners: BTreeMap<(u32, u64), OwnerShare> = BTreeMap::new();
    let mut variables: BTreeMap<String, VariableLayout> = BTreeMap::new();
    if let Some(first) = ends.values().next() {
        (record.time, record.wall_clock_ns) = (first.time, first.wall_clock_ns);
    }
    for (slot, end) in ends {
        for share in end.owners {
            let sum = owners
                .entry((share.server, share.incarnation))
                .or_insert(OwnerShare {
                    pieces: 0,
                    bytes: 0,
                    ..share
                });
            sum.pieces = sum.pieces.saturating_add(share.pieces);
            sum.bytes = sum.bytes.saturating_add(share.bytes);
        }
        for variable in end.variables {
            variables
                .entry(variable.variable.clone())
                .and_modify(|known| known.statistics = merge(known.statistics, variable.statistics))
                .or_insert(variable);
        }
        record.attributes.push(SlotAttributes {
            slot,
            attributes: end.attributes,
        });
    }
    record.owners = owners.into_values().collect();
    record.variables = variables.into_values().collect();
    record
}

fn disagreement(first: Layout, what: &str, place: u64) -> Refused {
    let detail = format!(
        "{}: {what} differ from what another writer defined first (in {place})",
        first.variable
    );
    Refused {
        first: Some(first),
        ..Refused::new(Reason::Disagreement, detail)
    }
}

fn wrong_state(detail: &str) -> Refused {
    Refused::new(Reason::WrongState, detail)
}
