//! The end of a stream: who is told of it when, and what is put into the file before.

use super::super::message::WriterMessage;
use super::super::mutant::Mutant;
use super::PublisherAction;
use super::groups::{Group, GroupSet};
use super::machine::Publisher;
use super::steps::{Filed, State, Step};
use crate::config::{Distribution, Policy};

impl Publisher {
    /// Says when everything is over: to groups that were told of everything,
    /// and to the driver.
    pub(super) fn drain(&mut self, actions: &mut Vec<PublisherAction>) {
        // Where steps are distributed, a group inherits what another has not seen
        // when it is lost; who waits has seen all it was told of.
        let shares = self.options.distribution != Distribution::All;
        let (mut untold, mut busy) = (GroupSet::default(), GroupSet::default());
        for slot in self.groups.slots() {
            let is_untold = self.next_pending(slot).is_some();
            if is_untold {
                untold.insert(slot);
            }
            let holds = |group: &Group| group.claims > 0 && !group.waits;
            if shares && (is_untold || self.groups.get(slot).is_some_and(holds)) {
                busy.insert(slot);
            }
        }
        let (mut drained, last) = (true, self.newest);
        for slot in self.groups.slots() {
            let mut others = busy;
            others.remove(slot);
            let over =
                (!untold.has(slot) && others.is_empty()) || self.planted.has(Mutant::CloseEarly);
            let Some(group) = self.groups.get_mut(slot) else {
                continue;
            };
            drained &= over && group.claims == 0;
            if over && !group.closed {
                group.closed = true;
                actions.push(PublisherAction::Send {
                    group: group.id,
                    message: WriterMessage::Closed { last },
                });
            }
        }
        if drained && !self.drained && self.steps_are_safe(actions) {
            self.drained = true;
            actions.push(PublisherAction::Drained);
        }
    }

    /// Writes what is not let go of, while it stays in memory for whoever looks at it.
    pub(super) fn abandon(&mut self, actions: &mut Vec<PublisherAction>) {
        if self.options.policy == Policy::Spill && !self.planted.has(Mutant::AbandonUnwritten) {
            self.write_before(self.steps.len(), actions);
        }
    }

    /// Whether a group that is not there has yet to come to a step that was sealed, as
    /// its cursor says.
    #[must_use]
    pub fn is_owed_to_cursors(&self) -> bool {
        let owed = |step: &Step| step.number >= self.cursors.floor() && !step.done;
        self.steps.iter().any(owed)
    }

    /// Spills what cursors need; whether nothing is left to spill.
    fn steps_are_safe(&mut self, actions: &mut Vec<PublisherAction>) -> bool {
        if self.options.policy != Policy::Spill {
            return true;
        }
        let mut index = self.steps.lower_bound(self.cursors.floor());
        let mut safe = true;
        while let Some(step) = self.steps.at(index) {
            // What could not be written is not tried again.
            if step.state == State::Memory && !step.done && step.filed != Filed::Failed {
                self.spill(index, actions);
            }
            safe &= self.steps.at(index).map(|step| step.state) != Some(State::Spilling);
            index += 1;
        }
        safe
    }
}
