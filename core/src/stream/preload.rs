//! Learned pre-load: what a reader rank asks of the writer's ranks step after step
//! is subscribed to, and comes with the step.
//!
//! ```text
//!   gets of a step ──ask──> wishes, by rank of the writer
//!   let go of it ──released──> the same again? ── subscribe ──> pushed with later steps
//!                                 otherwise?   ── unsubscribe, and learn again
//! ```
//! A wish is bytes of a block, counted from the block, so it means the same in
//! every step, and a push is what a get would have asked for, byte by byte. What is
//! pushed for another layout or another selection is found by no get.
//!
//! It promises: what is pushed unasked is bounded in bytes and number; a guess that
//! was wrong makes the next one later. It has no I/O and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::slot::{STAMP_BYTES, room_of};
use crate::codec::{Coded, DecodeError, Decoder, Encoder};

/// Steps with the same gets after which these are subscribed to.
const REPEATS: u32 = 2;
/// The most of them, after guesses that were wrong.
const MOST_REPEATS: u32 = 64;
/// Steps as subscribed after which earlier wrong guesses are forgotten.
const FORGIVEN_AFTER: u32 = 64;
/// Gets of one step that are learned.
const MAX_SUBJECTS: usize = 64;
/// Wishes of one get.
const MAX_WISHES: usize = 4096;
/// Bytes that one rank of the writer pushes with a step; more is better asked for.
const MAX_BYTES: u64 = 8 << 20;
/// Bytes that all ranks of the writer together may have on their way to this one.
const BUDGET_BYTES: u64 = 64 << 20;
/// Steps that a rank may push ahead, where the budget allows.
const STEPS_AHEAD: u64 = 8;
/// The part of the budget that a rank gets if its steps are small.
const PART: u64 = 4;

/// Stands for the header of a block's extent, in place of an offset.
const HEADER: u64 = u64::MAX;

/// Bytes of a block, or of its checksums behind it, or of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wish {
    /// The block, by the order of its put on its rank.
    pub(super) order: u32,
    at: u64,
    pub(super) bytes: u64,
}

impl Wish {
    /// Bytes from `at` on, counted from the block.
    pub(super) fn bytes(order: u32, at: u64, bytes: u64) -> Self {
        Self { order, at, bytes }
    }

    /// What tells that the bytes are still the step's.
    pub(super) fn header(order: u32) -> Self {
        let bytes = STAMP_BYTES as u64;
        Self::bytes(order, HEADER, bytes)
    }

    /// Where the bytes begin, counted from the block, if they lie within its room;
    /// `Some(None)`: at the header.
    pub(super) fn place(&self, block_bytes: u64) -> Option<Option<u64>> {
        if self.at == HEADER {
            return (self.bytes == STAMP_BYTES as u64).then_some(None);
        }
        let end = self.at.checked_add(self.bytes)?;
        (end <= room_of(block_bytes)).then_some(Some(self.at))
    }
}

/// What a reader says to a rank of the writer: push this to me, or nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    /// The reader group, by its root's number at the writer's root.
    pub(super) group: u64,
    pub(super) subject: u32,
    /// None to end it.
    pub(super) wishes: Vec<Wish>,
}

impl Coded for Subscription {
    fn encode(&self, into: &mut Encoder) {
        into.u64(self.group).u32(self.subject);
        into.length(self.wishes.len());
        for wish in &self.wishes {
            into.u32(wish.order).u64(wish.at).u64(wish.bytes);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (group, subject) = (from.u64()?, from.u32()?);
        let count = from.count(20)?;
        if count > MAX_WISHES {
            return Err(from.error(format!("a subscription to {count} pieces")));
        }
        let wishes = (0..count)
            .map(|_| {
                Ok(Wish {
                    order: from.u32()?,
                    at: from.u64()?,
                    bytes: from.u64()?,
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self {
            group,
            subject,
            wishes,
        })
    }
}

/// What is to be said to a rank of the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Push this from now on.
    Subscribe {
        rank: u32,
        subject: u32,
        wishes: Arc<[Wish]>,
        /// Bytes more that may be on their way.
        credit_bytes: u64,
    },
    /// Do not any more.
    Unsubscribe { rank: u32, subject: u32 },
}

/// Asked of one rank in one get.
type Asked = (u32, Arc<[Wish]>);

/// What was asked for in a step that is open.
#[derive(Default)]
struct Gets {
    asked: BTreeSet<Asked>,
    /// More than can be learned.
    too_much: bool,
}

/// What this rank subscribed to with one rank of the writer.
#[derive(Default)]
struct Rank {
    subjects: Vec<(u32, Arc<[Wish]>)>,
    window_bytes: u64,
}

/// See the module.
pub(super) struct Learner {
    open: BTreeMap<u64, Gets>,
    last: BTreeSet<Asked>,
    repeats: u32,
    /// How often the same must have been asked for, at first and now.
    least: u32,
    needed: u32,
    /// Steps that were just as subscribed, since the last that was not.
    good: u32,
    ranks: BTreeMap<u32, Rank>,
    next_subject: u32,
    budget_bytes: u64,
}

impl Default for Learner {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            last: BTreeSet::new(),
            repeats: 0,
            least: REPEATS,
            needed: REPEATS,
            good: 0,
            ranks: BTreeMap::new(),
            next_subject: 0,
            budget_bytes: BUDGET_BYTES,
        }
    }
}

fn bytes_of(wishes: &[Wish]) -> u64 {
    wishes.iter().map(|wish| wish.bytes).sum()
}

impl Learner {
    /// The gets of the last step are those of every step to come.
    pub(super) fn freeze(&mut self) -> Vec<Order> {
        (self.least, self.needed) = (1, 1);
        self.subscribe_to_last()
    }

    /// A get asks this of a rank; the subject under which it may have been pushed.
    pub(super) fn ask(&mut self, step: u64, rank: u32, wishes: &[Wish]) -> Option<u32> {
        let gets = self.open.entry(step).or_default();
        gets.too_much |= gets.asked.len() >= MAX_SUBJECTS || wishes.len() > MAX_WISHES;
        let subscribed = self.ranks.get(&rank);
        let mut subjects = subscribed.iter().flat_map(|it| &it.subjects);
        let known = subjects.find(|(_, known)| **known == *wishes);
        if !gets.too_much {
            let wishes = known.map_or_else(|| wishes.into(), |(_, known)| Arc::clone(known));
            gets.asked.insert((rank, wishes));
        }
        known.map(|(subject, _)| *subject)
    }

    /// A step was let go of, with all that was asked for in it.
    pub(super) fn released(&mut self, step: u64) -> Vec<Order> {
        let gets = self.open.remove(&step).unwrap_or_default();
        let mut orders = self.unsubscribe_but(&gets);
        if gets.too_much {
            (self.last, self.repeats) = (BTreeSet::new(), 0);
            return orders;
        }
        self.repeats = match gets.asked == self.last {
            true => self.repeats.saturating_add(1),
            false => 1,
        };
        self.last = gets.asked;
        if self.repeats >= self.needed {
            orders.extend(self.subscribe_to_last());
        }
        orders
    }

    /// Whether anything of this rank is subscribed to.
    pub(super) fn subscribed(&self) -> impl Iterator<Item = u32> + '_ {
        let ranks = self.ranks.iter();
        ranks.filter_map(|(rank, it)| (it.window_bytes > 0).then_some(*rank))
    }

    /// Gives up what was not asked for in this step.
    fn unsubscribe_but(&mut self, gets: &Gets) -> Vec<Order> {
        let mut orders = Vec::new();
        let mut subjects = 0;
        for (rank, subscribed) in &mut self.ranks {
            subscribed.subjects.retain(|(subject, wishes)| {
                let asked = (*rank, Arc::clone(wishes));
                let is_asked = gets.asked.contains(&asked);
                if !is_asked {
                    let (rank, subject) = (*rank, *subject);
                    orders.push(Order::Unsubscribe { rank, subject });
                }
                is_asked
            });
            subjects += subscribed.subjects.len();
        }
        if !orders.is_empty() {
            self.needed = self.needed.saturating_mul(2).min(MOST_REPEATS);
            self.good = 0;
        } else if subjects > 0 {
            self.good = self.good.saturating_add(1);
            if self.good >= FORGIVEN_AFTER {
                self.needed = self.least;
            }
        }
        orders
    }

    fn subscribe_to_last(&mut self) -> Vec<Order> {
        let last = std::mem::take(&mut self.last);
        let orders = last.iter().filter_map(|(rank, wishes)| {
            let subscribed = self.ranks.entry(*rank).or_default();
            let mut known = subscribed.subjects.iter();
            if known.any(|(_, known)| known == wishes) {
                return None;
            }
            let others: u64 = subscribed.subjects.iter().map(|it| bytes_of(&it.1)).sum();
            let bytes = others.saturating_add(bytes_of(wishes));
            let wanted = (bytes.saturating_mul(STEPS_AHEAD)).max(self.budget_bytes / PART);
            let more = wanted.saturating_sub(subscribed.window_bytes);
            let credit_bytes = more.min(self.budget_bytes);
            let window_bytes = subscribed.window_bytes + credit_bytes;
            if bytes > MAX_BYTES || window_bytes < bytes.saturating_mul(2) {
                return None;
            }
            self.budget_bytes -= credit_bytes;
            subscribed.window_bytes = window_bytes;
            let subject = self.next_subject;
            self.next_subject = self.next_subject.wrapping_add(1);
            subscribed.subjects.push((subject, Arc::clone(wishes)));
            Some(Order::Subscribe {
                rank: *rank,
                subject,
                wishes: Arc::clone(wishes),
                credit_bytes,
            })
        });
        let orders = orders.collect();
        self.last = last;
        orders
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wishes(bytes: u64) -> Vec<Wish> {
        vec![Wish::bytes(0, 0, bytes), Wish::header(0)]
    }

    /// A step in which so many bytes are asked of each of these ranks.
    fn step(learner: &mut Learner, step: u64, gets: &[(u32, u64)]) -> Vec<Order> {
        for (rank, bytes) in gets {
            learner.ask(step, *rank, &wishes(*bytes));
        }
        learner.released(step)
    }

    fn is_known(learner: &mut Learner, rank: u32, bytes: u64) -> bool {
        learner.ask(u64::MAX, rank, &wishes(bytes)).is_some()
    }

    #[test]
    fn the_same_gets_twice_are_subscribed_to_once() {
        let mut learner = Learner::default();
        assert_eq!(step(&mut learner, 0, &[(0, 100), (1, 50)]), []);
        assert!(!is_known(&mut learner, 0, 100));
        let orders = step(&mut learner, 1, &[(1, 50), (0, 100)]);
        assert_eq!(orders.len(), 2);
        assert!(is_known(&mut learner, 0, 100) && is_known(&mut learner, 1, 50));
        assert!(!is_known(&mut learner, 0, 50) && !is_known(&mut learner, 1, 100));
        assert_eq!(step(&mut learner, 2, &[(0, 100), (1, 50)]), []);
    }

    #[test]
    fn other_gets_give_it_up_and_are_believed_later() {
        let mut learner = Learner::default();
        let same = |learner: &mut Learner, from: u64, bytes: u64| {
            let steps = (from..).map(|number| step(learner, number, &[(0, bytes)]));
            steps.take_while(Vec::is_empty).count()
        };
        assert_eq!(same(&mut learner, 0, 100), 1);
        let orders = step(&mut learner, 10, &[(0, 101)]);
        assert!(matches!(
            orders[..],
            [Order::Unsubscribe {
                rank: 0,
                subject: 0
            }]
        ));
        assert!(!is_known(&mut learner, 0, 100));
        assert_eq!(same(&mut learner, 11, 101), 2, "four in all");
        // A step in which nothing is asked for.
        assert_eq!(step(&mut learner, 20, &[]).len(), 1);
        assert_eq!(same(&mut learner, 21, 100), 7);
        for number in 40..40 + u64::from(FORGIVEN_AFTER) {
            assert_eq!(step(&mut learner, number, &[(0, 100)]), []);
        }
        assert_eq!(step(&mut learner, 200, &[(0, 5)]).len(), 1);
        assert_eq!(
            same(&mut learner, 201, 5),
            2,
            "forgiven, and wrong once more"
        );
    }

    #[test]
    fn frozen_gets_are_subscribed_to_at_once() {
        let mut before = Learner::default();
        assert_eq!(before.freeze(), []);
        assert_eq!(step(&mut before, 0, &[(0, 100)]).len(), 1);
        let mut after = Learner::default();
        assert_eq!(step(&mut after, 0, &[(0, 100)]), []);
        assert_eq!(after.freeze().len(), 1);
    }

    #[test]
    fn what_may_come_unasked_is_bounded_in_bytes_and_number() {
        let mut learner = Learner::default();
        let many: Vec<(u32, u64)> = (0..1000)
            .map(|rank| (rank % 60, 1 + u64::from(rank)))
            .collect();
        step(&mut learner, 0, &many);
        assert_eq!(step(&mut learner, 1, &many), [], "too many gets");
        let large = [(0, MAX_BYTES), (1, MAX_BYTES - 1000)];
        step(&mut learner, 2, &large);
        let orders = step(&mut learner, 3, &large);
        assert!(matches!(orders[..], [Order::Subscribe { rank: 1, .. }]));

        let mut learner = Learner::default();
        let each = 4 << 20;
        let all: Vec<(u32, u64)> = (0..50).map(|rank| (rank, each)).collect();
        step(&mut learner, 0, &all);
        let orders = step(&mut learner, 1, &all);
        let credit = orders.iter().map(|order| match order {
            Order::Subscribe { credit_bytes, .. } => *credit_bytes,
            Order::Unsubscribe { .. } => panic!("{order:?}"),
        });
        assert!(credit.clone().all(|credit| credit >= 2 * each));
        assert!(credit.sum::<u64>() <= BUDGET_BYTES && !orders.is_empty());
    }

    #[test]
    fn wishes_keep_to_the_room_of_their_block() {
        let room = room_of(5000);
        assert_eq!(Wish::bytes(0, 10, 4990).place(5000), Some(Some(10)));
        assert_eq!(
            Wish::bytes(0, room - 4, 4).place(5000),
            Some(Some(room - 4))
        );
        assert_eq!(Wish::bytes(0, room - 4, 5).place(5000), None);
        assert_eq!(Wish::bytes(0, u64::MAX - 1, 2).place(5000), None);
        assert_eq!(Wish::header(0).place(0), Some(None));
        assert_eq!(Wish::bytes(0, HEADER, 1 << 40).place(0), None);
    }

    #[test]
    fn a_subscription_comes_back_and_nothing_less() {
        let subscription = Subscription {
            group: 7,
            subject: 3,
            wishes: wishes(10),
        };
        let bytes = subscription.to_bytes();
        assert_eq!(Subscription::from_bytes(&bytes).unwrap(), subscription);
        for end in 0..bytes.len() {
            assert!(Subscription::from_bytes(&bytes[..end]).is_err());
        }
        let many = Subscription {
            wishes: vec![Wish::header(0); MAX_WISHES + 1],
            ..subscription
        };
        assert!(Subscription::from_bytes(&many.to_bytes()).is_err());
    }
}
