//! What the root knows of a sealed step but its bytes, and what it has told a reader group.

use std::sync::Arc;

use super::super::message::Own;
use crate::announce::{Announcer, Recorded, encode_record};
use crate::codec::Encoder;
use crate::model::StepRecord;

/// The byte forms that many steps have in common.
#[derive(Clone, Debug)]
pub(super) struct Forms {
    pub(super) schema: Arc<[u8]>,
    pub(super) layout: Arc<[u8]>,
    /// How each writer rank is reached.
    pub(super) reach: Arc<[u8]>,
}

/// What is known of a sealed step but its bytes. Those of steps that are gone are
/// used again for their memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Described {
    /// Its record as announcements have it, and the digests in it of schema and layout.
    pub(super) record: Vec<u8>,
    pub(super) digests: (u64, u64),
    /// There while the step is.
    pub(super) forms: Option<Forms>,
    /// The [`Share`](super::super::slot::Share) of each writer rank.
    pub(super) shares: Vec<u8>,
    /// The dataset that it lies in, if it is in memory no more.
    pub(super) spilled: String,
}

impl Described {
    pub(super) fn take_in(&mut self, record: &StepRecord, forms: Forms, shares: &[u8]) {
        let mut encoder = Encoder::from(std::mem::take(&mut self.record));
        encode_record(record, encoder.restart());
        self.record = encoder.finish();
        self.digests = (record.schema_digest, record.layout_digest);
        self.forms = Some(forms);
        self.shares.clear();
        self.shares.extend_from_slice(shares);
        self.spilled.clear();
    }

    /// From now on it lies in the dataset at this path, and in no memory.
    pub(super) fn lies_in(&mut self, dataset: &str) {
        self.spilled.clear();
        self.spilled.push_str(dataset);
        self.shares = no_shares();
    }
}

/// A reader group that has joined.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) ranks: u32,
    announcer: Announcer,
    /// How it was told that the writer's ranks are reached.
    reach: Option<Arc<[u8]>>,
    /// The last step it was told of.
    pub(super) told: Option<u64>,
}

impl Group {
    /// One that was told of nothing.
    pub(super) fn new(ranks: u32) -> Self {
        Self {
            ranks,
            announcer: Announcer::default(),
            reach: None,
            told: None,
        }
    }

    /// Appends the announcement of a step.
    pub(super) fn announce(&mut self, step: &Described, all_push: bool, into: &mut Encoder) {
        let Some(forms) = &step.forms else {
            return;
        };
        let known = self.reach.as_ref();
        let known = known.is_some_and(|told| Arc::ptr_eq(told, &forms.reach));
        let own = Own {
            reach: if known { &[] } else { &forms.reach },
            shares: &step.shares,
            spilled: &step.spilled,
            all_push,
        };
        let recorded = Recorded {
            record: &step.record,
            digests: step.digests,
            schema: &forms.schema,
            layout: &forms.layout,
        };
        self.announcer
            .pack_recorded(&recorded, |into| own.encode(into), into);
        if !known {
            self.reach = Some(Arc::clone(&forms.reach));
        }
    }
}

/// The byte form of the shares of nobody.
fn no_shares() -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.length(0);
    encoder.finish()
}
