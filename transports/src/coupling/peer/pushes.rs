//! What an endpoint pushed, until it is wanted: bounded, and without I/O.
//!
//! ```text
//!   push of (subject, number) ──begin──> bytes ──end──> held ──take──> who wants it
//!                                                         └──forget──> nobody
//! ```
//! Of each subject the numbers ascend, and a push without bytes says that none
//! come under its number; the first thing that is said of a subject is such a one.
//! So a number is to come if something was said before it: what was there before
//! the endpoint knew of the subject is never pushed.

use std::collections::BTreeMap;

use crate::coupling::{PushCounts, Tag};

/// Credit goes back once this part of it is owed, so that it costs little.
const OWED_PART: u64 = 4;

/// See the module.
#[derive(Default)]
pub(super) struct Pushes {
    held: BTreeMap<Tag, Vec<u8>>,
    /// What is being received, to be held.
    arriving: Option<Tag>,
    /// Of each subject that is wanted the last number that something was said of.
    said: BTreeMap<u32, Option<u64>>,
    /// Credit given in all, and how much of it bytes use that are here.
    limit_bytes: u64,
    held_bytes: u64,
    /// Credit to be given back.
    owed_bytes: u64,
    /// The most bytes that were pushed at once.
    largest_bytes: u64,
    counts: PushCounts,
}

/// What is known of a tag.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its bytes.
    Held(Vec<u8>),
    /// It is on its way, or will be.
    ToCome,
    /// Nothing was said of its subject so far.
    Unheard,
    /// It does not come.
    Never,
}

/// The endpoint pushed what it must not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadPush(pub(super) &'static str);

impl Pushes {
    /// So many bytes more may come.
    pub(super) fn widen(&mut self, bytes: u64) {
        self.limit_bytes = self.limit_bytes.saturating_add(bytes);
    }

    /// How many may come.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// This subject is wanted.
    pub(super) fn start(&mut self, subject: u32) {
        self.said.insert(subject, None);
    }

    /// Nothing of this subject is wanted from now on.
    pub(super) fn end(&mut self, subject: u32) {
        self.said.remove(&subject);
        self.forget(|tag| tag.subject == subject);
    }

    /// A push of so many bytes begins to come; they count until they are taken.
    pub(super) fn begin(&mut self, tag: Tag, bytes: u64) -> Result<(), BadPush> {
        let used = self.held_bytes + self.owed_bytes;
        if bytes > self.limit_bytes.saturating_sub(used) {
            return Err(BadPush("it pushed more than it has credit for"));
        }
        if let Some(said) = self.said.get_mut(&tag.subject) {
            if said.is_some_and(|last| tag.number <= last) {
                return Err(BadPush("it pushed twice under one tag, or went back"));
            }
            *said = Some(tag.number);
        }
        self.held_bytes += bytes;
        self.largest_bytes = self.largest_bytes.max(bytes);
        Ok(())
    }

    /// The push that has begun will be held when all its bytes have come.
    pub(super) fn arrives(&mut self, tag: Tag) {
        self.arriving = Some(tag);
    }

    /// All bytes of a push have come.
    pub(super) fn hold(&mut self, tag: Tag, bytes: Vec<u8>) {
        self.arriving = None;
        if !self.said.contains_key(&tag.subject) {
            self.let_go(bytes.len() as u64, false);
        } else if !bytes.is_empty() {
            self.held.insert(tag, bytes);
        }
    }

    /// The bytes of a tag, or whether they are to come.
    pub(super) fn take(&mut self, tag: Tag) -> Known {
        if let Some(bytes) = self.held.remove(&tag) {
            return Known::Held(bytes);
        }
        if self.arriving == Some(tag) {
            return Known::ToCome;
        }
        match self.said.get(&tag.subject) {
            Some(Some(last)) if *last < tag.number => Known::ToCome,
            Some(None) => Known::Unheard,
            _ => Known::Never,
        }
    }

    /// Whether its subject is wanted.
    pub(super) fn wants(&self, tag: Tag) -> bool {
        self.said.contains_key(&tag.subject)
    }

    /// Whether nothing was said of its subject so far.
    pub(super) fn is_unheard(&self, tag: Tag) -> bool {
        self.said.get(&tag.subject) == Some(&None)
    }

    /// Pushed bytes are here no more, and were of use or not.
    pub(super) fn let_go(&mut self, bytes: u64, of_use: bool) {
        self.held_bytes -= bytes;
        self.owed_bytes += bytes;
        let counts = &mut self.counts;
        let (times, sum) = match of_use {
            true => (&mut counts.used, &mut counts.used_bytes),
            false => (&mut counts.wasted, &mut counts.wasted_bytes),
        };
        *times += 1;
        *sum += bytes;
    }

    /// Lets go of what nobody wants.
    pub(super) fn forget(&mut self, is_unwanted: impl Fn(&Tag) -> bool) {
        let unwanted: Vec<Tag> = self
            .held
            .keys()
            .filter(|tag| is_unwanted(tag))
            .copied()
            .collect();
        for tag in unwanted {
            if let Some(bytes) = self.held.remove(&tag) {
                self.let_go(bytes.len() as u64, false);
            }
        }
    }

    /// Credit that is worth giving back now: a good part of it, or what the next
    /// push may lack.
    pub(super) fn take_owed(&mut self) -> Option<u64> {
        let left = self.limit_bytes - self.held_bytes - self.owed_bytes;
        let is_due = self.owed_bytes >= self.limit_bytes / OWED_PART
            || left < self.largest_bytes.saturating_mul(2);
        (is_due && self.owed_bytes > 0).then(|| std::mem::take(&mut self.owed_bytes))
    }

    pub(super) fn counts(&self) -> PushCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tag(subject: u32, number: u64) -> Tag {
        Tag { subject, number }
    }

    fn pushed(pushes: &mut Pushes, tag: Tag, bytes: usize) -> Result<(), BadPush> {
        pushes.begin(tag, bytes as u64)?;
        pushes.hold(tag, vec![7; bytes]);
        Ok(())
    }

    #[test]
    fn what_is_to_come_lies_behind_what_was_said() {
        let mut pushes = Pushes::default();
        pushes.widen(100);
        pushes.start(1);
        assert_eq!(
            pushes.take(tag(1, 5)),
            Known::Unheard,
            "it may not know yet"
        );
        pushed(&mut pushes, tag(1, 4), 0).unwrap();
        assert_eq!(pushes.take(tag(1, 4)), Known::Never);
        assert_eq!(pushes.take(tag(1, 5)), Known::ToCome);
        assert_eq!(pushes.take(tag(2, 5)), Known::Never);
        pushed(&mut pushes, tag(1, 6), 10).unwrap();
        assert_eq!(pushes.take(tag(1, 5)), Known::Never, "it was passed over");
        assert_eq!(pushes.take(tag(1, 6)), Known::Held(vec![7; 10]));
        pushes.end(1);
        assert_eq!(pushes.take(tag(1, 7)), Known::Never);
        pushed(&mut pushes, tag(1, 7), 10).unwrap();
        assert_eq!(
            pushes.take(tag(1, 7)),
            Known::Never,
            "nobody wants it any more"
        );
        assert_eq!(pushes.counts().wasted_bytes, 10);
    }

    #[test]
    fn nothing_beyond_the_credit_is_taken_and_numbers_do_not_go_back() {
        let mut pushes = Pushes::default();
        pushes.start(0);
        assert!(pushed(&mut pushes, tag(0, 0), 1).is_err());
        pushes.widen(10);
        pushed(&mut pushes, tag(0, 3), 6).unwrap();
        assert!(pushed(&mut pushes, tag(0, 3), 1).is_err());
        assert!(pushed(&mut pushes, tag(0, 2), 1).is_err());
        assert!(pushed(&mut pushes, tag(0, 4), 5).is_err());
        assert_eq!(pushes.take(tag(0, 3)), Known::Held(vec![7; 6]));
        assert!(
            pushed(&mut pushes, tag(0, 4), 5).is_err(),
            "it is still held"
        );
        pushes.let_go(6, true);
        assert!(pushed(&mut pushes, tag(0, 4), 5).is_err(), "not given back");
        assert_eq!(pushes.take_owed(), Some(6));
        pushed(&mut pushes, tag(0, 4), 5).unwrap();
    }

    #[test]
    fn credit_goes_back_in_parts_and_before_the_next_push_lacks_it() {
        let mut pushes = Pushes::default();
        pushes.widen(1000);
        pushes.start(0);
        for number in 0..25 {
            assert_eq!(pushes.take_owed(), None, "{number}");
            pushed(&mut pushes, tag(0, number), 10).unwrap();
            pushes.forget(|_| true);
        }
        assert_eq!(pushes.take_owed(), Some(250));
        pushed(&mut pushes, tag(0, 30), 400).unwrap();
        pushes.forget(|_| true);
        assert_eq!(pushes.take_owed(), Some(400));
        let counts = pushes.counts();
        assert_eq!((counts.wasted, counts.wasted_bytes), (26, 650));
    }
}
