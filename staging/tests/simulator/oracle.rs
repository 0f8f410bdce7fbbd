//! What must hold, watched from outside with knowledge that no machine has.

use panta_staging::proto::message::{Kind, Message};
use panta_transports::time::Time;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Oracle {
    /// (life, epoch) → base, as homes have told writers.
    fences: BTreeMap<(u64, u64), Option<u64>>,
    /// (life, epoch, step) → writers that have called end.
    ended: BTreeMap<(u64, u64, u64), BTreeSet<usize>>,
    /// (life, step) → epoch, of the steps that are known to be sealed.
    sealed: BTreeMap<(u64, u64), u64>,
    /// (life, epoch, step) → the reader group that was given a step last, where
    /// one alone is, and when.
    pub given: BTreeMap<(u64, u64, u64), (usize, Time)>,
    /// When the first reader group had joined.
    pub joined: Option<Time>,
    /// Steps that were begun after that and sealed.
    pub to_read: BTreeSet<(u64, u64, u64)>,
    /// Steps that somebody has read whole.
    pub read: BTreeSet<(u64, u64, u64)>,
    /// Steps that a group got after another.
    pub inherited: u64,
    /// Times that the precious step was shown out of its turn.
    pub precious: u64,
    pub steps_whole: u64,
    pub rolled_back: u64,
    pub writer_lost: u64,
    pub server_lost: u64,
    pub fenced: u64,
    pub trimmed: u64,
    pub deadlines: u64,
    pub discarded: u64,
}

impl Oracle {
    /// A writer group has called end for a step.
    pub fn ends(&mut self, life: u64, epoch: u64, step: u64, slot: usize) {
        self.ended
            .entry((life, epoch, step))
            .or_default()
            .insert(slot);
    }

    /// A step is sealed, as a writer or a reader was told.
    pub fn sealed(&mut self, life: u64, epoch: u64, step: u64) {
        self.sealed.insert((life, step), epoch);
    }

    /// Of each life the lowest step that is known to be sealed, and its epoch.
    pub fn lowest(&self) -> BTreeMap<u64, (u64, u64)> {
        let mut lowest = BTreeMap::new();
        for ((life, step), epoch) in &self.sealed {
            if !self.is_withdrawn(*life, *epoch, *step) {
                lowest.entry(*life).or_insert((*step, *epoch));
            }
        }
        lowest
    }

    /// Whether a later epoch has withdrawn a step.
    pub fn is_withdrawn(&self, life: u64, epoch: u64, step: u64) -> bool {
        self.fences
            .range((life, epoch + 1)..=(life, u64::MAX))
            .any(|(_, base)| base.is_none_or(|base| step > base))
    }

    /// The lowest base of the fences after `from` up to `to`.
    pub fn must_roll_back(&self, life: u64, from: u64, to: u64, seen: u64) -> bool {
        from < to
            && self
                .fences
                .range((life, from + 1)..=(life, to))
                .any(|(_, base)| base.is_none_or(|base| seen > base))
    }

    /// Looks at what a server sends.
    pub fn server_sends(
        &mut self,
        life: u64,
        message: &Message,
        writers: usize,
    ) -> Result<(), String> {
        match &message.kind {
            Kind::WriterOpened(opened) => {
                if let Some(run) = &opened.run {
                    self.fences.insert((run.life, run.epoch), opened.base);
                }
            }
            Kind::SealedStep(step) => {
                if self.is_withdrawn(life, step.epoch, step.step) {
                    return Err(format!(
                        "step {} of epoch {} is shown after it was withdrawn",
                        step.step, step.epoch
                    ));
                }
                let ended = self
                    .ended
                    .get(&(life, step.epoch, step.step))
                    .map_or(0, BTreeSet::len);
                if ended < writers {
                    return Err(format!(
                        "step {} is shown with {ended} of {writers} writers",
                        step.step
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
