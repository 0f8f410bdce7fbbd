//! What readers subscribed to on this rank, and where it lies in its steps.
//!
//! ```text
//!   reader rank ── wishes ──> subjects of a reader
//!   capture ── where the blocks are ──> steps ── told of ──> pushes, or that none come
//! ```
//! Of a step that a reader's group is told of, something is said for each of the
//! reader's subjects: the bytes, or that they do not come. The root says it with
//! the announcement; other ranks when they end the step, if the root said that the
//! group was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use panta_transports::coupling::{Endpoint, PeerId, PieceRef, Push, Tag};

use super::super::preload::{Subscription, Wish};
use super::super::slot::{Share, Spot};
use crate::codec::Coded;
use crate::engine::PutBlock;

/// Subjects of one reader rank; more are not pushed.
const MAX_SUBJECTS: usize = 128;

/// See the module.
#[derive(Default)]
pub(super) struct Subscribed(Mutex<State>);

#[derive(Default)]
struct State {
    readers: BTreeMap<PeerId, Reader>,
    /// Where the blocks of steps are that are in memory, if anybody may want them.
    steps: BTreeMap<u64, Arc<[Placed]>>,
    /// The last step that this rank ended, where it is not the root.
    ended: Option<u64>,
}

/// One rank of a reader group.
struct Reader {
    group: u64,
    /// What it wants, and the last step that it knows about.
    subjects: BTreeMap<u32, (Vec<Wish>, u64)>,
}

/// Where a block is.
struct Placed {
    order: u32,
    bytes: u64,
    block: Spot,
    header: Spot,
}

impl State {
    /// What is said of a step to one reader.
    fn pushes(&mut self, reader: PeerId, step: u64) -> Vec<Push> {
        let placed = self.steps.get(&step).cloned().unwrap_or_default();
        let Some(reader) = self.readers.get_mut(&reader) else {
            return Vec::new();
        };
        let mut pushes = Vec::with_capacity(reader.subjects.len());
        for (subject, (wishes, told)) in &mut reader.subjects {
            // It is told of steps in their order, and a step once.
            if step > std::mem::replace(told, step.max(*told)) {
                pushes.push(Push {
                    tag: tag(*subject, step),
                    pieces: pieces(&placed, wishes).unwrap_or_default(),
                });
            }
        }
        pushes
    }

    fn subscribe(&mut self, endpoint: &Endpoint, peer: PeerId, said: Subscription, told: u64) {
        let reader = self.readers.entry(peer).or_insert_with(|| Reader {
            group: said.group,
            subjects: BTreeMap::new(),
        });
        if said.wishes.is_empty() {
            reader.subjects.remove(&said.subject);
        } else if reader.subjects.len() < MAX_SUBJECTS {
            reader.subjects.insert(said.subject, (said.wishes, told));
            let known = Push {
                tag: tag(said.subject, told),
                pieces: Vec::new(),
            };
            // A reader that is lost needs nothing.
            let _ = endpoint.push(peer, &known);
        }
    }

    fn of_group(&self, group: u64) -> Vec<PeerId> {
        let readers = self.readers.iter();
        let of_group = readers.filter(|(_, reader)| reader.group == group);
        of_group.map(|(peer, _)| *peer).collect()
    }
}

fn tag(subject: u32, number: u64) -> Tag {
    Tag { subject, number }
}

/// Where all that is wished for lies; `None` if any of it does not.
fn pieces(placed: &[Placed], wishes: &[Wish]) -> Option<Vec<PieceRef>> {
    let piece = |wish: &Wish| {
        let at = placed.binary_search_by_key(&wish.order, |it| it.order);
        let placed = placed.get(at.ok()?)?;
        let spot = match wish.place(placed.bytes)? {
            Some(at) => placed.block.on(at),
            None => placed.header,
        };
        Some(PieceRef {
            region: spot.region,
            offset: spot.offset,
            bytes: wish.bytes,
        })
    };
    wishes.iter().map(piece).collect()
}

impl Subscribed {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader says what it wants. `told` is the last step that its group was told
    /// of; without one nothing of what it says is kept.
    pub(super) fn subscribe(
        &self,
        endpoint: &Endpoint,
        peer: PeerId,
        what: &[u8],
        told: impl FnOnce(u64) -> Option<u64>,
    ) {
        // Who says it wrong asks for everything.
        let Ok(said) = Subscription::from_bytes(what) else {
            return;
        };
        let Some(told) = told(said.group) else {
            return;
        };
        self.lock().subscribe(endpoint, peer, said, told);
    }

    /// The same where this rank is not the root.
    pub(super) fn subscribe_at_rank(&self, endpoint: &Endpoint, peer: PeerId, what: &[u8]) {
        let mut state = self.lock();
        if let (Ok(said), Some(told)) = (Subscription::from_bytes(what), state.ended) {
            state.subscribe(endpoint, peer, said, told);
        }
    }

    pub(super) fn lost(&self, peer: PeerId) {
        let mut state = self.lock();
        state.readers.remove(&peer);
        if state.readers.is_empty() {
            state.steps.clear();
        }
    }

    /// A step was captured; `puts` are what was put into it.
    pub(super) fn captured(&self, step: u64, share: &Share, puts: &[PutBlock<'_>]) {
        let mut state = self.lock();
        // Of compressed blocks nobody knows where they lie before they are told.
        if state.readers.is_empty() || !share.frames.is_empty() {
            return;
        }
        let bytes_of = |put: &PutBlock<'_>| put.definition.byte_size(put.count).unwrap_or(0);
        let mut blocks: Vec<(u32, u64)> =
            puts.iter().map(|put| (put.order, bytes_of(put))).collect();
        blocks.sort_unstable();
        let spots = share.places(blocks.iter().copied()).zip(&blocks);
        let placed = spots.filter_map(|(spot, &(order, bytes))| {
            Some(Placed {
                order,
                bytes,
                block: spot?,
                header: share.span(order).or(share.main)?,
            })
        });
        let placed = placed.collect();
        state.steps.insert(step, placed);
    }

    /// A step is not in memory any more.
    pub(super) fn freed(&self, step: u64) {
        self.lock().steps.remove(&step);
    }

    /// What goes with the announcement of a step to the root of a group.
    pub(super) fn with_announcement(&self, root: PeerId, step: u64) -> Vec<Push> {
        let mut state = self.lock();
        match state.readers.is_empty() {
            true => Vec::new(),
            false => state.pushes(root, step),
        }
    }

    /// This rank, which is not the root, has ended a step of which these groups were
    /// told.
    pub(super) fn ended(&self, endpoint: &Endpoint, groups: impl Iterator<Item = u64>, step: u64) {
        let mut state = self.lock();
        state.ended = Some(step);
        drop(state);
        for group in groups {
            self.push(endpoint, group, step);
        }
    }

    /// A group was told of a step: pushes to its ranks.
    pub(super) fn push(&self, endpoint: &Endpoint, group: u64, step: u64) {
        let mut state = self.lock();
        for peer in state.of_group(group) {
            for push in state.pushes(peer, step) {
                // A reader that is lost needs nothing.
                let _ = endpoint.push(peer, &push);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spot(offset: u64) -> Spot {
        Spot { region: 1, offset }
    }

    #[test]
    fn what_does_not_lie_in_the_step_is_not_pushed_at_all() {
        let placed = [(0, 100), (3, 50)].map(|(order, bytes)| Placed {
            order,
            bytes,
            block: spot(1000 * u64::from(order) + 64),
            header: spot(1000 * u64::from(order)),
        });
        let good = [
            Wish::bytes(3, 10, 40),
            Wish::header(3),
            Wish::bytes(0, 0, 1),
        ];
        let found = pieces(&placed, &good).unwrap();
        let offsets: Vec<u64> = found.iter().map(|piece| piece.offset).collect();
        assert_eq!(offsets, [3074, 3000, 64]);
        for bad in [Wish::bytes(1, 0, 1), Wish::bytes(3, 0, 1000)] {
            assert_eq!(pieces(&placed, &[good[0], bad]), None);
        }
    }

    #[test]
    fn something_is_said_of_a_step_once_for_each_subject() {
        let mut state = State::default();
        let reader = Reader {
            group: 9,
            subjects: BTreeMap::from([(4, (vec![Wish::header(0)], 6))]),
        };
        state.readers.insert(PeerId(1), reader);
        assert_eq!(state.pushes(PeerId(1), 6), [], "it knows");
        let said = state.pushes(PeerId(1), 7);
        assert_eq!((said.len(), said[0].tag), (1, tag(4, 7)));
        assert!(said[0].pieces.is_empty(), "there is no such step");
        assert_eq!(state.pushes(PeerId(1), 7), []);
        assert_eq!(state.pushes(PeerId(2), 8), []);
        assert_eq!(state.of_group(9), [PeerId(1)]);
        assert_eq!(state.of_group(1), []);
    }
}
