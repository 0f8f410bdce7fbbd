//! Ten thousand writer ranks and a thousand reader ranks in one thread: what they say to
//! each other, byte by byte, made and taken in by the code that runs with a few.
//!
//! Simulated is what moves frames (every frame of the control tree goes from rank to
//! rank here), where blocks lie, and time, which stands still. No payload is moved.
//! `docs/scale.md` is written by this test, and compared with it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod amr;
mod page;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::group::{At, Nothing, Plain, Verdict, decide_all};
use super::layouts::{Layouts, OwnBoxes, PutBox};
use super::merge::{BeginPart, Definitions, digest_of};
use super::reader::Announcement;
use super::writer::BeginDecision;
use crate::codec::{Coded, Encoder};
use crate::engine::Admission;
use crate::error::{BeginError, EndError, NextError, Place};
use crate::model::{
    DType, Definition, Number, Payload, Schema, ShapeKind, Stats, StepHead, StepMeta, StepTime,
};
use crate::stream::machine::{Gone, GroupId, ReaderMessage};
use crate::stream::scale::{ReaderRank, ReaderRoot, WriterRoot, contribution};
use crate::tree::scale::{HEADER_BYTES, Said, Shape, gathered, loss_bytes, spread};
use crate::tree::{DEFAULT_FAN_OUT, Failure};

use amr::{Amr, Extent, Numbers};

/// Bytes of one cell.
const CELL: u64 = 8;

/// What a rank sent, or got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    messages: u64,
    bytes: u64,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// The control tree of a group, with what each rank sent and got.
struct Tree {
    shape: Shape,
    sent: Vec<Load>,
    got: Vec<Load>,
    rounds: u64,
}

impl Tree {
    fn new(size: usize) -> Self {
        Self {
            shape: Shape {
                size,
                fan_out: DEFAULT_FAN_OUT,
            },
            sent: vec![Load::default(); size],
            got: vec![Load::default(); size],
            rounds: 0,
        }
    }

    fn restart(&mut self) {
        *self = Self::new(self.shape.size);
    }

    fn pass(&mut self, from: usize, to: usize, body: usize) {
        self.sent[from].add(HEADER_BYTES + body);
        self.got[to].add(HEADER_BYTES + body);
    }

    /// One round: the ranks' parts up, a decision at the root, and down.
    fn agree(
        &mut self,
        parts: Vec<Vec<u8>>,
        decide: impl FnOnce(Vec<Result<Vec<u8>, Failure>>) -> Vec<u8>,
    ) -> Vec<u8> {
        self.rounds += 1;
        let shape = self.shape;
        let mut bodies = vec![Vec::new(); shape.size];
        for (rank, part) in parts.into_iter().enumerate().rev() {
            let below = shape.children(rank);
            let below: Vec<_> = below
                .map(|rank| std::mem::take(&mut bodies[rank]))
                .collect();
            bodies[rank] = gathered(rank, &Ok(part), &below).unwrap();
            if let Some(parent) = shape.parent(rank) {
                self.pass(rank, parent, bodies[rank].len());
            }
        }
        let said: Said = spread(&bodies[0], shape.size).unwrap();
        let word = decide(said);
        for rank in 0..shape.size {
            for child in shape.children(rank) {
                self.pass(rank, child, word.len());
            }
        }
        word
    }

    /// Links of a rank.
    fn links(&self, rank: usize) -> usize {
        self.shape.children(rank).len() + usize::from(rank > 0)
    }

    /// A rank is gone: whoever hears of it tells all its neighbours, once.
    fn lose(&mut self, lost: usize) {
        let bytes = loss_bytes(lost);
        for rank in (0..self.shape.size).filter(|rank| *rank != lost) {
            for child in self.shape.children(rank).filter(|child| *child != lost) {
                self.pass(rank, child, bytes);
                self.pass(child, rank, bytes);
            }
        }
    }
}

/// A group of writer ranks.
struct Writers {
    tree: Tree,
    amr: Amr,
    numbers: Numbers,
    definitions: Vec<Arc<Definition>>,
    schema: Arc<Schema>,
    everyone: Definitions,
    layouts: Layouts,
    ranks: Vec<(OwnBoxes, u64)>,
    root: WriterRoot,
    next_step: u64,
    /// Bytes of metadata that the root sealed.
    sealed_bytes: u64,
}

impl Writers {
    fn new(patches: [u64; 3]) -> Self {
        let size = patches.iter().product::<u64>() as usize;
        let amr = Amr::new(patches);
        let density = Definition {
            name: "density".into(),
            dtype: DType::F64,
            kind: ShapeKind::GlobalArray,
            shape: amr.shape(),
            dims: ["z", "y", "x"].map(String::from).to_vec(),
            unit: "kg m-3".into(),
            coordinates: Vec::new(),
            fill: None,
            chunk: None,
            accuracy: None,
        };
        Self {
            tree: Tree::new(size),
            amr,
            numbers: Numbers(7),
            definitions: vec![Arc::new(density)],
            schema: Arc::default(),
            everyone: Definitions::default(),
            layouts: Layouts::default(),
            ranks: (0..size).map(|_| (OwnBoxes::default(), 0)).collect(),
            root: WriterRoot::new(size),
            next_step: 0,
            sealed_bytes: 0,
        }
    }

    fn stats(&mut self) -> Stats {
        let mut number = || Number::Float(self.numbers.next() as f64 / u64::MAX as f64);
        Stats {
            min: number(),
            max: number(),
            nans: 0,
        }
    }

    /// One step, of which some percent of the layout is new.
    fn step(&mut self, percent: u64) {
        self.amr.change(percent);
        let step = self.next_step;
        let head = StepHead {
            epoch: 1,
            step,
            time: StepTime {
                sim: Some(step as f64),
            },
            wall_clock_ns: 1 << 60,
        };
        self.begin(&head);
        self.end(&head);
        self.next_step += 1;
    }

    fn begin(&mut self, head: &StepHead) {
        let definitions_digest = digest_of(&self.definitions);
        let parts = self
            .ranks
            .iter()
            .enumerate()
            .map(|(rank, (_, last_bytes))| {
                let part = BeginPart {
                    definitions_digest,
                    definitions: (head.step == 0).then(|| self.definitions.clone()),
                    attributes: Vec::new(),
                    reserve_bytes: *last_bytes,
                };
                Verdict::of::<BeginError>(Ok(part.to_bytes()), rank)
            });
        let parts = parts.collect();
        let (everyone, schema, root) = (&mut self.everyone, &mut self.schema, &mut self.root);
        let mut decided = None;
        let word = self.tree.agree(parts, |said| {
            let place = Place::stream("scale").at_step(head.step);
            let decision = decide_all::<BeginPart, _, BeginError>(said, &place, |mut parts| {
                let at = At::new("scale", head.step);
                let mut merged = Arc::clone(schema);
                everyone.merge(&mut parts, &mut merged, &at)?;
                let reserved: Vec<u64> = parts.iter().map(|part| part.reserve_bytes).collect();
                let admission = Admission::Write(root.admit(head.step, &reserved));
                let changed = !Arc::ptr_eq(&merged, schema);
                Ok(BeginDecision {
                    head: *head,
                    admission,
                    schema: changed.then_some(merged),
                })
            });
            let decision = decision.unwrap();
            let bytes = decision.to_bytes();
            decided = Some(decision);
            Verdict::of::<BeginError>(Ok(bytes), 0)
        });
        let heard = BeginDecision::from_bytes(
            &Verdict::read::<BeginError>(word, &Place::stream("scale")).unwrap(),
        );
        if let Some(schema) = heard.unwrap().schema {
            self.schema = schema;
        }
    }

    fn end(&mut self, head: &StepHead) {
        let blocks = self.amr.blocks();
        let mut parts = Vec::with_capacity(blocks.len());
        for (rank, blocks) in blocks.into_iter().enumerate() {
            let bytes: Vec<u64> = blocks
                .iter()
                .map(|(_, count)| count.iter().product::<u64>() * CELL)
                .collect();
            for (order, (start, count)) in (0..).zip(blocks) {
                let stats = self.stats();
                let put = PutBox {
                    variable: 0,
                    order,
                    start,
                    count,
                };
                self.ranks[rank].0.add(put, Payload::Array(Some(stats)));
            }
            let own = contribution(head.step, rank, &bytes);
            let (boxes, last_bytes) = &mut self.ranks[rank];
            *last_bytes = bytes.iter().sum();
            parts.push(Verdict::of::<EndError>(Ok(boxes.say(own).to_bytes()), rank));
        }
        let (layouts, schema, root) = (&mut self.layouts, &self.schema, &mut self.root);
        let mut sealed_bytes = 0;
        self.tree.agree(parts, |said| {
            let place = Place::stream("scale").at_step(head.step);
            let decision = decide_all::<_, Nothing, EndError>(said, &place, |mut parts| {
                let at = At::new("scale", head.step);
                sealed_bytes = layouts.seal(*head, &mut parts, (schema, true), &at, |sealing| {
                    root.seal(sealing);
                    Ok(())
                })?;
                Ok(Nothing)
            });
            Verdict::of::<EndError>(decision.map(|decision| decision.to_bytes()), 0)
        });
        self.sealed_bytes = sealed_bytes;
    }
}

/// A group of reader ranks, each of which reads a box of every step.
struct Readers {
    id: GroupId,
    tree: Tree,
    root: ReaderRoot,
    rank: ReaderRank,
    boxes: Vec<Extent>,
    /// Of each rank, the writer ranks it has read from.
    sources: Vec<BTreeSet<u32>>,
    /// Pieces of blocks that were read in the last step.
    pieces: usize,
    /// From the writer's root, and to it.
    heard: Load,
    told: Load,
}

impl Readers {
    fn join(id: u64, ranks: [u64; 3], writers: &mut Writers) -> Self {
        let (root, join) = ReaderRoot::new(&format!("group {id}"));
        let id = GroupId(id);
        writers.root.join(id, &join);
        let boxes = amr::boxes(&writers.amr.shape(), ranks);
        Self {
            id,
            tree: Tree::new(boxes.len()),
            root,
            rank: ReaderRank::default(),
            sources: vec![BTreeSet::new(); boxes.len()],
            pieces: 0,
            boxes,
            heard: Load::default(),
            told: Load::default(),
        }
    }

    /// Takes in what the writer's root said to this group, and answers.
    fn listen(&mut self, writers: &mut Writers) {
        let mine = writers
            .root
            .said
            .extract_if(.., |(group, _)| *group == self.id);
        for (_, message) in mine.collect::<Vec<_>>() {
            self.heard.add(message.len());
            self.root.hear(&message);
        }
        self.answer(writers);
    }

    fn answer(&mut self, writers: &mut Writers) {
        for message in std::mem::take(&mut self.root.said) {
            self.told.add(message.to_bytes().len());
            writers.root.hear(self.id, &message);
        }
    }

    /// One call of `next_step` on all ranks, and what they read.
    fn step(&mut self, writers: &mut Writers) {
        self.listen(writers);
        let mut held = Encoder::default();
        held.u64s(&[]);
        let held = held.finish();
        let parts = (0..self.boxes.len()).map(|rank| {
            let part = Plain(held.clone()).to_bytes();
            Verdict::of::<NextError>(Ok(part), rank)
        });
        let root = &mut self.root;
        let word = self.tree.agree(parts.collect(), |said| {
            let place = Place::stream("scale");
            let decision = decide_all::<Plain, _, NextError>(said, &place, |_| {
                Ok(Announcement(root.next(&[])))
            });
            Verdict::of::<NextError>(decision.map(|decision| decision.to_bytes()), 0)
        });
        self.answer(writers);
        let word = Verdict::read::<NextError>(word, &Place::stream("scale")).unwrap();
        let Announcement(Some(told)) = Announcement::from_bytes(&word).unwrap() else {
            panic!("a step was announced");
        };
        let meta = self.rank.take_in(&told);
        self.read(&meta);
        self.root.released(meta.head.step);
        self.answer(writers);
    }

    fn read(&mut self, meta: &StepMeta) {
        self.pieces = 0;
        for ((start, count), sources) in self.boxes.iter().zip(&mut self.sources) {
            let found = self.rank.sources(meta, start, count);
            self.pieces += found.len();
            sources.extend(found);
        }
    }

    fn restart(&mut self) {
        self.tree.restart();
        (self.heard, self.told) = Default::default();
    }
}
