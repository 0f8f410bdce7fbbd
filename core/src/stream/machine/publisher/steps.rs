//! The steps that are held, in the order of their numbers, and the bytes they
//! take on each rank.
//!
//! Steps leave in any order. One that has left stays in its place as a husk
//! until [`Steps::tidy`]; husks never outnumber the steps by more than a few.

use super::groups::GroupSet;
use std::collections::VecDeque;

/// Husks that are not worth clearing away.
const FEW_HUSKS: usize = 64;

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Admitted, not sealed.
    Open,
    /// Sealed, in memory.
    Memory,
    /// On its way to the file; its memory counts as free.
    Spilling,
    /// In the file.
    Spilled,
    /// Nowhere: a husk.
    Gone,
}

/// Whether a step in memory lies in the file too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filed {
    No,
    Writing,
    Yes,
    /// It cannot any more, since the file has later steps: when its memory is needed it is
    /// lost.
    Failed,
}

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) number: u64,
    pub(super) epoch: u64,
    pub(super) time: Option<f64>,
    pub(super) state: State,
    pub(super) filed: Filed,
    /// Groups that were told of it and did not release it.
    pub(super) claimed: GroupSet,
    /// Groups that are to be told of it.
    pub(super) pending: GroupSet,
    /// Kept for late joiners.
    pub(super) retained: bool,
    pub(super) precious: bool,
    /// Distributed, and its group is done with it.
    pub(super) done: bool,
    /// By rank; empty when not in memory.
    pub(super) bytes: Vec<u64>,
    /// Over all ranks, wherever it is.
    pub(super) total_bytes: u64,
    /// On the rank that has most, wherever it is.
    pub(super) fullest_bytes: u64,
}

impl Step {
    /// A step of `bytes` by rank.
    pub(super) fn new(number: u64, epoch: u64, state: State, bytes: Vec<u64>) -> Self {
        let (total_bytes, fullest_bytes) = sums(&bytes);
        Self {
            number,
            epoch,
            time: None,
            state,
            filed: Filed::No,
            claimed: GroupSet::default(),
            pending: GroupSet::default(),
            retained: false,
            precious: false,
            done: false,
            bytes,
            total_bytes,
            fullest_bytes,
        }
    }

    pub(super) fn is_sealed(&self) -> bool {
        !matches!(self.state, State::Open | State::Gone)
    }
}

fn sums(bytes: &[u64]) -> (u64, u64) {
    bytes.iter().fold((0, 0), |(total, fullest), bytes| {
        (u64::saturating_add(total, *bytes), fullest.max(*bytes))
    })
}

/// See the module.
#[derive(Debug)]
pub(super) struct Steps {
    steps: VecDeque<Step>,
    husks: usize,
    used: Vec<u64>,
    /// Lists of bytes by rank for steps to come.
    spare: Vec<Vec<u64>>,
}

impl Steps {
    pub(super) fn new(ranks: usize) -> Self {
        Self {
            steps: VecDeque::new(),
            husks: 0,
            used: vec![0; ranks],
            spare: Vec::new(),
        }
    }

    /// Bytes accounted, by rank.
    pub(super) fn used(&self) -> &[u64] {
        &self.used
    }

    /// Steps that are not husks.
    pub(super) fn live(&self) -> usize {
        self.steps.len() - self.husks
    }

    /// Places, those of husks included.
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn at(&self, index: usize) -> Option<&Step> {
        self.steps.get(index)
    }

    pub(super) fn at_mut(&mut self, index: usize) -> Option<&mut Step> {
        self.steps.get_mut(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.state != State::Gone)
    }

    /// The first place whose step has this number or a higher one.
    pub(super) fn lower_bound(&self, number: u64) -> usize {
        let Some(first) = self.steps.front() else {
            return 0;
        };
        // Without gaps the place is known.
        let guess = number.saturating_sub(first.number);
        if let Ok(guess) = usize::try_from(guess)
            && self
                .steps
                .get(guess)
                .is_some_and(|step| step.number == number)
        {
            return guess;
        }
        self.steps.partition_point(|step| step.number < number)
    }

    /// The place of a step that is not a husk.
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        let index = self.lower_bound(number);
        let step = self.steps.get(index)?;
        (step.number == number && step.state != State::Gone).then_some(index)
    }

    /// A list that holds a copy of `bytes`, one entry a rank.
    pub(super) fn list(&mut self, bytes: &[u64]) -> Vec<u64> {
        let mut list = self.spare.pop().unwrap_or_default();
        list.clear();
        list.extend_from_slice(&bytes[..bytes.len().min(self.used.len())]);
        list.resize(self.used.len(), 0);
        list
    }

    /// Takes a list back.
    pub(super) fn give_back(&mut self, list: Vec<u64>) {
        // As many as steps come and go between two events.
        if self.spare.len() < 16 && list.capacity() > 0 {
            self.spare.push(list);
        }
    }

    /// Accounts for a step with a higher number than all before, and keeps it.
    pub(super) fn push(&mut self, step: Step) {
        for (used, bytes) in self.used.iter_mut().zip(&step.bytes) {
            *used = used.saturating_add(*bytes);
        }
        self.steps.push_back(step);
    }

    /// Changes the bytes of the step at `index`.
    pub(super) fn resize(&mut self, index: usize, bytes: &[u64]) {
        let Some(step) = self.steps.get_mut(index) else {
            return;
        };
        for (rank, (used, old)) in self.used.iter_mut().zip(&mut step.bytes).enumerate() {
            let new = bytes.get(rank).copied().unwrap_or_default();
            *used = used.saturating_sub(*old).saturating_add(new);
            *old = new;
        }
        (step.total_bytes, step.fullest_bytes) = sums(&step.bytes);
    }

    /// Counts the memory of the step at `index` as free.
    pub(super) fn free_memory(&mut self, index: usize) {
        let Some(step) = self.steps.get_mut(index) else {
            return;
        };
        for (used, bytes) in self.used.iter_mut().zip(&step.bytes) {
            *used = used.saturating_sub(*bytes);
        }
        let list = std::mem::take(&mut step.bytes);
        self.give_back(list);
    }

    /// Makes a husk of the step at `index`.
    pub(super) fn remove(&mut self, index: usize) {
        self.free_memory(index);
        if let Some(step) = self.steps.get_mut(index)
            && step.state != State::Gone
        {
            step.state = State::Gone;
            self.husks += 1;
        }
    }

    /// Clears husks away; places change.
    pub(super) fn tidy(&mut self) {
        while self
            .steps
            .front()
            .is_some_and(|step| step.state == State::Gone)
        {
            self.steps.pop_front();
            self.husks -= 1;
        }
        if self.husks > self.live() + FEW_HUSKS {
            self.steps.retain(|step| step.state != State::Gone);
            self.husks = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_leave_in_any_order_and_their_bytes_with_them() {
        let mut steps = Steps::new(2);
        for number in (0..1_000).map(|number| 3 * number) {
            let list = steps.list(&[number, 1]);
            steps.push(Step::new(number, 1, State::Memory, list));
            // All but every hundredth leave, behind the first, which stays.
            if number % 300 != 0
                && let Some(index) = steps.find(number)
            {
                steps.remove(index);
            }
            steps.tidy();
            assert!(steps.len() <= 2 * steps.live() + FEW_HUSKS + 1);
        }
        assert_eq!(steps.live(), 10);
        assert_eq!(steps.used(), [300 * 45, 10]);
        assert_eq!(steps.find(301), None);
        assert_eq!(steps.find(303), None);
        let index = steps.find(300).unwrap_or(usize::MAX);
        assert_eq!(steps.at(index).map(|step| step.number), Some(300));
    }
}
