//! The reader groups that are joined, by slot, and sets of slots.

use super::super::GroupId;
use super::super::limits::MAX_GROUPS;
use panta_transports::time::Time;
use std::collections::BTreeMap;

const WORDS: usize = MAX_GROUPS / 64;

/// Some of the slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupSet([u64; WORDS]);

impl GroupSet {
    pub(super) fn insert(&mut self, slot: usize) {
        self.0[slot / 64] |= 1 << (slot % 64);
    }

    pub(super) fn remove(&mut self, slot: usize) {
        self.0[slot / 64] &= !(1 << (slot % 64));
    }

    pub(super) fn has(&self, slot: usize) -> bool {
        self.0[slot / 64] & (1 << (slot % 64)) != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
}

/// One joined group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) name: String,
    /// The lowest step it wants.
    pub(super) from: u64,
    /// The lowest simulation time it wants.
    pub(super) from_time: Option<f64>,
    pub(super) latest_only: bool,
    /// Whether it asks for each step.
    pub(super) pull: bool,
    /// Whether it has asked and was not answered.
    pub(super) asked: bool,
    /// How often it was told of a step.
    pub(super) announced: u64,
    /// Whether it said, having heard of all these, that it waits for another.
    pub(super) waits: bool,
    pub(super) heard_at: Time,
    /// Steps it was told of and did not release.
    pub(super) claims: u64,
    /// No step below is pending for it.
    pub(super) pending_from: u64,
    /// `Release` messages seen.
    pub(super) releases: u64,
    /// The count of releases that it was last told of as blocking.
    pub(super) blocked_at: Option<u64>,
    /// The highest step it was told of.
    pub(super) told: Option<u64>,
    pub(super) closed: bool,
}

impl Group {
    /// Whether a sealed step is for this group at all.
    pub(super) fn wants(&self, number: u64, time: Option<f64>) -> bool {
        number >= self.from
            && self
                .from_time
                .is_none_or(|from| time.is_some_and(|time| time >= from))
            && !(self.latest_only && self.told.is_some_and(|told| number <= told))
    }
}

/// The joined groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    slots: Vec<Option<Group>>,
    by_id: BTreeMap<GroupId, usize>,
}

impl Groups {
    pub(super) fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Takes a group in; `None` if there are too many.
    pub(super) fn insert(&mut self, group: Group) -> Option<usize> {
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if self.slots.len() < MAX_GROUPS => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return None,
        };
        self.by_id.insert(group.id, slot);
        self.slots[slot] = Some(group);
        Some(slot)
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<Group> {
        let group = self.slots.get_mut(slot)?.take()?;
        self.by_id.remove(&group.id);
        Some(group)
    }

    pub(super) fn slot(&self, id: GroupId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Group> {
        self.slots.get(slot)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Group> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Slots that there may be a group in; `get` tells.
    pub(super) fn slots(&self) -> std::ops::Range<usize> {
        0..self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(slot, group)| Some((slot, group.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_not_taken_out() {
        let of = |slot| {
            let mut set = GroupSet::default();
            set.insert(slot);
            set
        };
        let mut set = GroupSet::default();
        assert!(set.is_empty());
        for slot in [0, 63, 64, MAX_GROUPS - 1] {
            set.insert(slot);
            assert!(set.has(slot) && set.meets(&of(slot)));
        }
        set.remove(63);
        assert!(!set.has(63) && !set.meets(&of(63)) && set.has(64));
    }
}
