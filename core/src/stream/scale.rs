//! The two roots and the ranks of a stream without sockets and payload, for the
//! simulation of many ranks (`session/scale`): what they say to each other is made and
//! taken in by the engine's own code.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use panta_transports::channel::Key;
use panta_transports::coupling::{PeerOptions, Ticket};
use panta_transports::time::Time;

use super::machine::{
    Gone, GroupId, Join, Life, Position, Publisher, PublisherAction, PublisherEvent,
    PublisherOptions, ReaderMessage, Subscriber, SubscriberAction, SubscriberEvent,
    SubscriberOptions, WriterMessage,
};
use super::message::{Own, Relayed, relay};
use super::peers::Peers;
use super::slot::{Contribution, HEADER_BYTES, Share, Spot, room_of};
use super::step::{Hold, LayoutPlan, LetGo, StreamStep};
use crate::announce::Announcer;
use crate::codec::{Coded, Decoder, Encoder};
use crate::config::{Distribution, Policy};
use crate::engine::Sealing;
use crate::model::StepMeta;
use crate::plan::Wish;

const NOW: Time = Time(0);
const LIMIT_BYTES: u64 = 1 << 30;

fn ticket(rank: usize) -> Vec<u8> {
    let ticket = Ticket {
        addresses: vec![([10, 0, (rank >> 8) as u8, rank as u8], 40_000).into()],
        instance: rank as u64,
    };
    ticket.to_bytes()
}

/// What a rank of the writer says at the end of a step of blocks of so many bytes.
pub(crate) fn contribution(step: u64, rank: usize, blocks: &[u64]) -> Vec<u8> {
    let bytes = HEADER_BYTES + blocks.iter().copied().map(room_of).sum::<u64>();
    let share = Share {
        bytes,
        // Steps take turns in two places of the rank's memory.
        main: (!blocks.is_empty()).then_some(Spot {
            region: 1,
            offset: (step % 2) * bytes,
        }),
        ..Share::default()
    };
    let contribution = Contribution {
        share,
        ticket: (step == 0).then(|| ticket(rank)),
        spilled: Vec::new(),
    };
    contribution.to_bytes()
}

struct Described {
    record: crate::model::StepRecord,
    schema: Arc<[u8]>,
    layout: Arc<[u8]>,
    shares: Vec<u8>,
}

/// The writer's root.
pub(crate) struct WriterRoot {
    publisher: Publisher,
    groups: BTreeMap<GroupId, (Announcer, bool)>,
    reach: Vec<u8>,
    steps: BTreeMap<u64, Described>,
    fates: Vec<(u64, u8)>,
    /// Steps whose memory is never used again.
    pub(crate) retired: u64,
    /// What it has to say, to whom.
    pub(crate) said: Vec<(GroupId, Vec<u8>)>,
}

impl WriterRoot {
    pub(crate) fn new(ranks: usize) -> Self {
        let publisher = Publisher::new(PublisherOptions {
            life: Life {
                epoch: 1,
                after: None,
            },
            earlier: Vec::new(),
            limit_bytes: LIMIT_BYTES,
            ranks,
            policy: Policy::Block,
            distribution: Distribution::All,
            rendezvous: 0,
            retain_steps: 0,
            retain_bytes: None,
            precious_first: false,
            lease: None,
            recovered: Vec::new(),
            cursors: Vec::new(),
        });
        Self {
            publisher,
            groups: BTreeMap::new(),
            reach: Vec::new(),
            steps: BTreeMap::new(),
            fates: Vec::new(),
            retired: 0,
            said: Vec::new(),
        }
    }

    fn feed(&mut self, event: PublisherEvent<'_>) -> bool {
        let mut actions = Vec::new();
        self.publisher.handle(event, NOW, &mut actions);
        let mut admitted = false;
        for action in actions {
            match action {
                PublisherAction::Admitted { .. } => admitted = true,
                PublisherAction::Retire { step } => {
                    self.retired += 1;
                    self.fates.push((step, 1));
                }
                PublisherAction::Free { step } => {
                    self.steps.remove(&step);
                    self.fates.push((step, 0));
                }
                PublisherAction::Announce {
                    group, at, newest, ..
                } => self.announce(group, at, newest),
                PublisherAction::Send { group, message } => {
                    self.said.push((group, message.to_bytes()));
                }
                other => panic!("nobody planned for {other:?}"),
            }
        }
        admitted
    }

    fn announce(&mut self, group: GroupId, at: Position, newest: u64) {
        let step = &self.steps[&at.step];
        let (announcer, told) = self.groups.get_mut(&group).unwrap();
        let own = Own {
            reach: if *told { &[] } else { &self.reach },
            shares: &step.shares,
            spilled: "",
            all_push: false,
        };
        *told = true;
        let mut packed = Encoder::default();
        own.encode(&mut packed);
        let packed = packed.finish();
        let announcement = announcer.pack(&step.record, &step.schema, &step.layout, &packed);
        let mut message = Encoder::default();
        WriterMessage::Announced { at, newest }.encode(&mut message);
        message.raw(&announcement);
        self.said.push((group, message.finish()));
    }

    pub(crate) fn join(&mut self, group: GroupId, join: &Join) {
        self.groups.insert(group, (Announcer::default(), false));
        self.feed(PublisherEvent::Joined { group, join });
    }

    pub(crate) fn lose(&mut self, group: GroupId, how: Gone) {
        self.groups.remove(&group);
        self.feed(PublisherEvent::Lost { group, how });
    }

    pub(crate) fn hear(&mut self, group: GroupId, message: &ReaderMessage) {
        self.feed(PublisherEvent::Message { group, message });
    }

    /// What all ranks hear at the beginning of a step.
    pub(crate) fn admit(&mut self, step: u64, reserve_bytes: &[u64]) -> Vec<u8> {
        let admitted = self.feed(PublisherEvent::Admit {
            step,
            reserve_bytes,
        });
        assert!(admitted, "there is room for step {step}");
        let mut admission = Encoder::default();
        admission.bytes(&if step == 0 { ticket(0) } else { Vec::new() });
        admission.length(self.fates.len());
        for (step, fate) in self.fates.drain(..) {
            admission.u64(step).u8(fate);
        }
        admission.finish()
    }

    pub(crate) fn seal(&mut self, sealing: &Sealing<'_>) {
        let mut shares = Encoder::default();
        shares.length(sealing.contributions.len());
        let (mut bytes, mut tickets) = (Vec::new(), Vec::new());
        for contribution in sealing.contributions {
            let contribution = Contribution::from_bytes(contribution).unwrap();
            contribution.share.encode(&mut shares);
            bytes.push(contribution.share.bytes);
            tickets.extend(contribution.ticket);
        }
        if !tickets.is_empty() {
            let mut reach = Encoder::default();
            reach.length(tickets.len());
            tickets.iter().for_each(|ticket| {
                reach.bytes(ticket);
            });
            self.reach = reach.finish();
        }
        let head = sealing.record.head;
        let described = Described {
            record: sealing.record.clone(),
            schema: Arc::clone(sealing.schema_bytes),
            layout: Arc::clone(sealing.layout_bytes),
            shares: shares.finish(),
        };
        self.steps.insert(head.step, described);
        self.feed(PublisherEvent::Sealed {
            step: head.step,
            time: head.time.sim,
            bytes: &bytes,
        });
    }
}

/// The root of a reader group.
pub(crate) struct ReaderRoot {
    subscriber: Subscriber,
    announced: BTreeMap<Position, Vec<u8>>,
    life: Vec<u8>,
    /// What it has to say to the writer.
    pub(crate) said: Vec<ReaderMessage>,
    delivered: Option<Vec<u8>>,
    /// The writer was lost.
    pub(crate) lost: bool,
}

impl ReaderRoot {
    pub(crate) fn new(name: &str) -> (Self, Join) {
        let subscriber = Subscriber::new(SubscriberOptions {
            name: name.into(),
            ..SubscriberOptions::default()
        });
        let join = subscriber.join();
        // Its ranks hear of the writer's key, and how this root is reached.
        let mut root = Encoder::default();
        root.bytes(&[0; 32]).bytes(&ticket(0));
        let mut life = Encoder::default();
        life.bytes(&[0; 32]).bytes(&root.finish());
        let root = Self {
            subscriber,
            announced: BTreeMap::new(),
            life: life.finish(),
            said: Vec::new(),
            delivered: None,
            lost: false,
        };
        (root, join)
    }

    fn feed(&mut self, event: SubscriberEvent<'_>) {
        let mut actions = Vec::new();
        self.subscriber.handle(event, NOW, &mut actions);
        for action in actions {
            match action {
                SubscriberAction::Send(message) => self.said.push(message),
                SubscriberAction::Deliver { at } => {
                    let announcement = self.announced.remove(&at).unwrap();
                    let life = std::mem::take(&mut self.life);
                    self.delivered = Some(match life.is_empty() {
                        true => announcement,
                        false => relay(&life, &[], &announcement),
                    });
                }
                SubscriberAction::WriterLost { .. } => self.lost = true,
                other => panic!("nobody planned for {other:?}"),
            }
        }
    }

    /// Takes in what the writer's root said.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        let mut from = Decoder::new(bytes);
        let message = WriterMessage::decode(&mut from).unwrap();
        if let WriterMessage::Announced { at, .. } = message {
            self.announced.insert(at, bytes.to_vec());
        }
        self.feed(SubscriberEvent::Message(&message));
    }

    /// The next step, as its ranks are told of it. `held` are those the ranks hold.
    pub(crate) fn next(&mut self, held: &[u64]) -> Option<Vec<u8>> {
        self.feed(SubscriberEvent::Held { steps: held });
        self.feed(SubscriberEvent::Next);
        self.delivered.take()
    }

    pub(crate) fn released(&mut self, step: u64) {
        self.feed(SubscriberEvent::Released { step });
    }

    pub(crate) fn writer_is_lost(&mut self) {
        self.feed(SubscriberEvent::Lost { readable: false });
        self.feed(SubscriberEvent::Next);
    }
}

struct Nobody;

impl LetGo for Nobody {
    fn let_go(&self, _at: Position) {}
}

/// What every rank of a reader group makes of what its root tells.
#[derive(Default)]
pub(crate) struct ReaderRank {
    announced: Announcer,
    plan: (u64, Arc<LayoutPlan>),
    peers: Option<Arc<Peers>>,
}

impl ReaderRank {
    pub(crate) fn take_in(&mut self, told: &[u8]) -> StepMeta {
        let relayed = Relayed::from_bytes(told).unwrap();
        let (plan, peers) = (&mut self.plan, &mut self.peers);
        let unpacked = self
            .announced
            .unpack(relayed.announcement, |announced, own| {
                let own = Own::from_bytes(own)?;
                if !own.reach.is_empty() {
                    let key = Key::from_bytes([0; 32]);
                    let manner = PeerOptions::new(key.clone());
                    *peers = Some(Arc::new(Peers::new((key, 0), own.reach, &manner)?));
                }
                if plan.0 != announced.layout_digest {
                    *plan = (announced.layout_digest, Arc::default());
                }
                let at = Position {
                    epoch: announced.head.epoch,
                    step: announced.head.step,
                };
                let hold = Hold::new(at, Arc::new(Nobody));
                let peers = Arc::clone(peers.as_ref().unwrap());
                let step = StreamStep::new(&own, peers, Arc::clone(&plan.1), hold)?;
                Ok(Arc::new(step))
            });
        unpacked.unwrap()
    }

    /// The ranks of the writer from which a box of the first variable is read: of each
    /// piece of it, ascending by block.
    pub(crate) fn sources(&self, meta: &StepMeta, start: &[u64], count: &[u64]) -> Vec<u32> {
        let step = meta.engine.downcast_ref::<StreamStep>().unwrap();
        let wish = Wish {
            start,
            count,
            step: &vec![1; start.len()],
        };
        let found = step.find(meta, 0, &wish);
        let blocks = &meta.entries[0].blocks;
        let ranks = found.pieces.iter().map(|piece| {
            let block = &blocks[piece.block].block;
            let place = step.place(meta, block.rank, block.order);
            assert!(place.is_some(), "a block that nobody has");
            block.rank
        });
        ranks.collect()
    }
}
