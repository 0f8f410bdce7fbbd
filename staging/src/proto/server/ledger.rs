//! What a stream's log says.
//!
//! Whatever must outlive the home (once homes are replicated) is an [`Entry`];
//! [`Ledger::apply`] is the only way in, and depends on nothing but the entries
//! and their order. Leases, waiting requests, claims and reservations are
//! not here: they are the present home's, in [`super::stream`].

use super::super::limits;
use super::super::message::{Layout, Position, SealedStep, StepFate};
use super::super::mutant::{Mutant, Planted};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};

/// Fates of steps that are remembered, so that a repeated `End` gets its answer.
const FATES_REMEMBERED: usize = 4096;
/// Fences that are remembered one by one.
const FENCES_REMEMBERED: usize = 1024;

/// One entry of a stream's log.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// A new epoch begins after `base`; what came later is withdrawn.
    Fence { base: Option<u64> },
    /// A layout gets its number.
    Layout(Layout),
    /// A step becomes visible.
    Seal(SealedStep),
    /// A step will never be visible.
    Withdraw { step: u64, fate: StepFate },
    /// The one group that a step was for is done with it.
    Done { step: u64 },
    /// A step is gone.
    Trim { step: u64 },
    /// The step that is kept for as long as this is not said anew.
    Precious { step: Option<u64> },
    /// A cursor moves.
    Cursor { name: String, position: Position },
    /// No more steps in this epoch.
    Close,
}

/// A step that readers may see.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) record: SealedStep,
    /// Payload at the owners and the record itself.
    pub(super) bytes: u64,
    /// Nobody gets it any more.
    pub(super) done: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) epoch: u64,
    pub(super) base: Option<u64>,
    /// (epoch, base): a fence that a later one reaches below is not kept.
    fences: Vec<(u64, Option<u64>)>,
    pub(super) layouts: BTreeMap<u32, Layout>,
    layout_bytes: usize,
    layout_names: BTreeMap<String, BTreeSet<u32>>,
    pub(super) last_layout: u32,
    /// The steps that can be read.
    pub(super) held: BTreeMap<u64, Held>,
    pub(super) held_bytes: u64,
    /// Of this epoch.
    fates: BTreeMap<u64, StepFate>,
    /// Steps below are gone, or never were, but for those that are held.
    pub(super) oldest: u64,
    /// A step that is held however old it is.
    pub(super) precious: Option<u64>,
    /// The newest sealed step that was trimmed.
    pub(super) trimmed_through: Option<u64>,
    pub(super) last_sealed: Option<u64>,
    pub(super) cursors: BTreeMap<String, Position>,
    pub(super) closed: bool,
    planted: Planted,
}

impl Ledger {
    /// An empty one, before its first epoch.
    pub(super) fn new(planted: Planted) -> Self {
        Self {
            planted,
            ..Self::default()
        }
    }

    /// Writes an entry.
    pub(super) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Fence { base } => self.fence(base),
            Entry::Layout(layout) => {
                self.last_layout = self.last_layout.max(layout.layout);
                self.layout_names
                    .entry(layout.variable.clone())
                    .or_default()
                    .insert(layout.layout);
                self.layout_bytes += layout.encoded_len();
                self.layouts.insert(layout.layout, layout);
            }
            Entry::Seal(record) => self.seal(record),
            Entry::Withdraw { step, fate } => self.settle(step, fate),
            Entry::Done { step } => {
                if let Some(held) = self.held.get_mut(&step) {
                    held.done = true;
                }
            }
            Entry::Trim { step } => self.trim(step),
            Entry::Precious { step } => self.precious = step,
            Entry::Cursor { name, position } => {
                self.cursors.insert(name, position);
            }
            Entry::Close => self.closed = true,
        }
    }

    fn fence(&mut self, base: Option<u64>) {
        self.epoch += 1;
        self.base = base;
        self.closed = false;
        self.fates.clear();
        if !self.planted.has(Mutant::KeepWithdrawnSteps) {
            let withdrawn = match base.map(|base| base.checked_add(1)) {
                Some(Some(first)) => self.held.split_off(&first),
                Some(None) => BTreeMap::new(),
                None => std::mem::take(&mut self.held),
            };
            self.held_bytes -= withdrawn.values().map(|held| held.bytes).sum::<u64>();
        }
        self.last_sealed = self.last_sealed.min(base);
        self.trimmed_through = self.trimmed_through.min(base);
        self.oldest = self.oldest.min(self.first_of_epoch());
        self.precious = self.precious.filter(|step| Some(*step) <= base);
        self.fences.retain(|(_, earlier)| *earlier < base);
        self.fences.push((self.epoch, base));
        if self.fences.len() > FENCES_REMEMBERED {
            // The older of two reaches further back: readers that slept
            // through both are sent back too far rather than not enough.
            self.fences.remove(1);
        }
    }

    /// The first step of this epoch.
    pub(super) fn first_of_epoch(&self) -> u64 {
        self.base.map_or(0, |base| base.saturating_add(1))
    }

    fn seal(&mut self, record: SealedStep) {
        let payload: u64 = record
            .owners
            .iter()
            .fold(0, |sum, share| sum.saturating_add(share.bytes));
        let bytes = payload.saturating_add(record.encoded_len() as u64);
        let step = record.step;
        self.held_bytes += bytes;
        self.last_sealed = Some(step);
        self.settle(step, StepFate::Sealed);
        let done = false;
        self.held.insert(
            step,
            Held {
                record,
                bytes,
                done,
            },
        );
    }

    fn settle(&mut self, step: u64, fate: StepFate) {
        self.fates.insert(step, fate);
        if self.fates.len() > FATES_REMEMBERED {
            self.fates.pop_first();
        }
    }

    fn trim(&mut self, step: u64) {
        if let Some(trimmed) = self.held.remove(&step) {
            self.trimmed_through = self.trimmed_through.max(Some(step));
            self.held_bytes -= trimmed.bytes;
        }
        self.oldest = self.oldest.max(step.saturating_add(1));
    }

    /// The steps below `oldest` that stay, for the owners.
    pub(super) fn kept(&self) -> Vec<u64> {
        self.held
            .range(..self.oldest)
            .map(|(step, _)| *step)
            .collect()
    }

    /// The steps that may be trimmed one day, ascending: all but the precious
    /// one.
    pub(super) fn passing(&self) -> impl DoubleEndedIterator<Item = (u64, &Held)> {
        let precious = self.precious;
        let steps = self.held.iter().map(|(step, held)| (*step, held));
        steps.filter(move |(step, _)| Some(*step) != precious)
    }

    /// How many there are.
    pub(super) fn passing_count(&self) -> usize {
        let apart = self
            .precious
            .is_some_and(|step| self.held.contains_key(&step));
        self.held.len() - usize::from(apart)
    }

    /// The oldest of them.
    pub(super) fn first_passing(&self) -> Option<u64> {
        self.passing().next().map(|(step, _)| step)
    }

    /// What the precious step takes of the stream's bytes.
    pub(super) fn precious_bytes(&self) -> u64 {
        let held = self.precious.and_then(|step| self.held.get(&step));
        held.map_or(0, |held| held.bytes)
    }

    /// Forgets layouts that no held step uses; the newest of each variable
    /// stays. Whether there is room for another then.
    pub(super) fn room_for_layout(&mut self, bytes: usize) -> bool {
        let fits = |ledger: &Self| {
            ledger.layouts.len() < limits::LAYOUTS_LIMIT
                && ledger.layout_bytes + bytes <= limits::LAYOUTS_LIMIT_BYTES
        };
        if fits(self) {
            return true;
        }
        let mut used: BTreeSet<u32> = self
            .layout_names
            .values()
            .filter_map(|numbers| numbers.last().copied())
            .collect();
        for held in self.held.values() {
            used.extend(held.record.variables.iter().map(|variable| variable.layout));
        }
        self.layouts.retain(|number, _| used.contains(number));
        for numbers in self.layout_names.values_mut() {
            numbers.retain(|number| used.contains(number));
        }
        self.layout_bytes = self.layouts.values().map(Layout::encoded_len).sum();
        fits(self)
    }

    /// What became of a step of this epoch, if it is decided and remembered.
    pub(super) fn fate(&self, step: u64) -> Option<StepFate> {
        self.fates.get(&step).copied()
    }

    /// The first step that is neither decided nor below one that is.
    pub(super) fn undecided(&self) -> u64 {
        self.fates
            .last_key_value()
            .map_or(self.first_of_epoch(), |(step, _)| step.saturating_add(1))
    }

    /// Whether a step of this epoch is so old that its fate is forgotten.
    pub(super) fn forgotten(&self, step: u64) -> bool {
        self.fates.len() >= FATES_REMEMBERED
            && self
                .fates
                .first_key_value()
                .is_some_and(|(first, _)| step < *first)
    }

    /// The number of a layout, if it has one.
    pub(super) fn layout_number(&self, variable: &str, fixed: &[u8], shape: &[u8]) -> Option<u32> {
        let numbers = self.layout_names.get(variable)?;
        numbers.iter().rev().copied().find(|number| {
            self.layouts
                .get(number)
                .is_some_and(|layout| layout.fixed == fixed && layout.shape == shape)
        })
    }

    /// Where a reader that knows of `epoch` and has passed `after` is sent
    /// back to: `Some(base)` if a later fence has withdrawn what it passed.
    pub(super) fn rolled_back(&self, position: Position) -> Option<Option<u64>> {
        let passed = |base: Option<u64>| position.after > base;
        self.fences
            .iter()
            .filter(|(epoch, base)| *epoch > position.epoch && passed(*base))
            .map(|(_, base)| *base)
            .min()
    }

    /// `record` as a reader that knows layouts up to `known` is told.
    pub(super) fn record_for(&self, record: &SealedStep, known: u32) -> SealedStep {
        let mut numbers: Vec<u32> = record
            .variables
            .iter()
            .map(|variable| variable.layout)
            .filter(|number| *number > known)
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut told = record.clone();
        told.known_layouts = known;
        if let Some(most) = numbers.last() {
            // A number in between that this step does not use would be taken
            // for known: all of them go along that are still used.
            told.known_layouts = *most;
            let range = (
                std::ops::Bound::Excluded(known),
                std::ops::Bound::Included(*most),
            );
            told.layouts = self
                .layouts
                .range(range)
                .map(|(_, layout)| layout.clone())
                .collect();
        }
        told
    }
}
