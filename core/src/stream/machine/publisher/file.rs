//! Steps that go to the spill file, which has them in the order of their numbers.

use super::super::message::WriterMessage;
use super::super::mutant::Mutant;
use super::PublisherAction;
use super::machine::Publisher;
use super::steps::{Filed, State, Step};

impl Publisher {
    /// Spills a step; those before it that stay in memory, and may be spilled later, are
    /// written first, since the file has steps in the order of their numbers.
    pub(super) fn spill(&mut self, index: usize, actions: &mut Vec<PublisherAction>) {
        let is_new = |step: &Step| step.filed == Filed::No;
        if self.steps.at(index).is_some_and(is_new) && !self.planted.has(Mutant::SpillOutOfOrder) {
            self.write_before(index, actions);
            self.filed_from = self.steps.at(index).map_or(0, |step| step.number);
        }
        if self.steps.at(index).map(|step| step.filed) == Some(Filed::Failed) {
            self.lose(index, actions);
            return;
        }
        self.steps.free_memory(index);
        let Some(step) = self.steps.at_mut(index) else {
            return;
        };
        let number = step.number;
        if step.filed == Filed::Yes {
            step.state = State::Spilled;
            actions.push(PublisherAction::Evict { step: number });
        } else {
            step.state = State::Spilling;
            actions.push(PublisherAction::Spill { step: number });
        }
    }

    /// Writes what is in memory before this place and was not written yet.
    pub(super) fn write_before(&mut self, end: usize, actions: &mut Vec<PublisherAction>) {
        for index in self.steps.lower_bound(self.filed_from)..end {
            if let Some(step) = self.steps.at_mut(index)
                && (step.state, step.filed) == (State::Memory, Filed::No)
            {
                step.filed = Filed::Writing;
                actions.push(PublisherAction::Write { step: step.number });
            }
        }
    }

    /// A step lies in the file, or does not.
    pub(super) fn spilled(&mut self, number: u64, well: bool, actions: &mut Vec<PublisherAction>) {
        let Some(index) = self.steps.find(number) else {
            return;
        };
        let Some(step) = self.steps.at_mut(index) else {
            return;
        };
        if step.filed == Filed::Writing {
            step.filed = if well { Filed::Yes } else { Filed::Failed };
        }
        if step.state != State::Spilling {
            return;
        }
        step.state = State::Spilled;
        if well || self.planted.has(Mutant::TrustFailedSpill) {
            self.settle(index, actions);
        } else {
            self.lose(index, actions);
        }
        self.tell_all(actions);
    }

    /// A step could not be put into the file, and is in no memory any more.
    fn lose(&mut self, index: usize, actions: &mut Vec<PublisherAction>) {
        let Some(step) = self.steps.at_mut(index) else {
            return;
        };
        let (number, wanted) = (step.number, std::mem::take(&mut step.pending));
        self.free(index, actions);
        let oldest = self.oldest_from(number);
        for (slot, group) in self.groups.iter() {
            if wanted.has(slot) && !self.planted.has(Mutant::HideFailedSpill) {
                let (group, message) = (group.id, WriterMessage::Trimmed { oldest });
                actions.push(PublisherAction::Send { group, message });
            }
        }
    }
}
