//! The reading side of the engine: the traits' calls.
//!
//! ```text
//! root   prepare: find the writer, join      next: the subscriber's answer
//! all    attach    held: what I still hold   load: what the root was told   read, pin    release
//! ```
//! The root alone exchanges messages with the writer. Every rank reads from the
//! writer's ranks itself.

mod find;
mod link;
mod ranks;

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use panta_transports::channel::Key;
use panta_transports::copy::{CopyCounter, verify_tiles};
use panta_transports::coupling::{PeerOptions, Progress, PushCounts};
use panta_transports::shm::Mapped;
use panta_transports::time::{Interrupt, Wait};

use self::find::{Finder, manner};
use self::link::Link;
use self::ranks::{Counter, Hub, Reach, ToRoot};
use super::fetch::{Fetch, halves};
use super::machine::Position;
use super::message::{Own, Relayed};
use super::peers::Peers;
use super::spill::Spilled;
use super::step::{Hold, LayoutPlan, LetGo, StreamStep};
use crate::announce::{Announced, Announcer};
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::config::Verify;
use crate::engine::{EngineInfo, OpenArguments, Pinned, Read, ReaderEngine, Start};
use crate::error::{Failure, Fault, GetError, NextError, OpenError, Place};
use crate::model::{BlockId, StepHead, StepMeta};
use crate::notice::Notice;
use crate::ordered::Ordered;

/// Brings steps to one rank.
pub(super) struct StreamReader {
    place: Place,
    verify: Verify,
    copies: CopyCounter,
    /// Bytes taken out of the writers' memory.
    fetched: AtomicU64,
    interrupt: Interrupt,
    deadline: std::time::Duration,
    /// How ranks of the writer are connected to, but for their key.
    manner: PeerOptions,
    announced: Announcer,
    spilled: Spilled,
    heard: Mutex<Heard>,
    /// Whether the group has no other rank.
    alone: bool,
    holding: Arc<Holding>,
    link: Option<Arc<Mutex<Link>>>,
    shared_link: SharedLink,
    /// Of a root with other ranks.
    hub: Option<Hub>,
}

/// What the last step had, and the next may have too.
#[derive(Default)]
struct Heard {
    /// The writer's key, and the number of this group at its root.
    key: Option<(Key, u64)>,
    /// Gets of this rank are the same in every step.
    frozen: bool,
    /// Of lives of the writer before this one.
    pushed: PushCounts,
    plan: Option<((u64, u64), Arc<LayoutPlan>)>,
    peers: Option<Arc<Peers>>,
}

/// Steps that this rank holds.
struct Holding {
    /// How many times each was delivered.
    steps: Mutex<Ordered<Position, u32>>,
    manner: PeerOptions,
    told: Told,
}

/// Who is told that this rank lets go of a step.
enum Told {
    /// The root's own count.
    Counter(Arc<Counter>),
    /// The root, over a link.
    Root(ToRoot),
}

/// Steps that no rank of the group holds any more, and the link was not told.
type Released = Arc<Mutex<Vec<Position>>>;

/// The root's link, as those see it who let go of steps; `None` once it is closed.
type SharedLink = Arc<Mutex<Option<Arc<Mutex<Link>>>>>;

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LetGo for Holding {
    fn let_go(&self, at: Position) {
        let mut steps = locked(&self.steps);
        let Some(times) = steps.get_mut(at) else {
            return;
        };
        *times -= 1;
        if *times > 0 {
            return;
        }
        steps.remove(at);
        drop(steps);
        match &self.told {
            Told::Counter(counter) => counter.count(at),
            Told::Root(root) => root.say(at, &self.manner),
        }
    }
}

impl Holding {
    fn take_in(&self, at: Position) {
        let mut steps = locked(&self.steps);
        match steps.get_mut(at) {
            Some(times) => *times += 1,
            None => steps.insert(at, 1),
        }
    }

    fn numbers(&self) -> Vec<u64> {
        locked(&self.steps).keys().map(|at| at.step).collect()
    }

    /// The oldest beside this one.
    fn oldest_but(&self, step: u64) -> Option<u64> {
        let steps = locked(&self.steps);
        let others = steps.keys().map(|at| at.step).filter(|it| *it != step);
        others.min()
    }
}

/// Tells the link what nobody holds any more, unless somebody has the link, who
/// then looks by itself.
fn tell_link(link: SharedLink, released: Released) -> ranks::Done {
    Box::new(move |at| {
        let Some(link) = locked(&link).clone() else {
            return;
        };
        locked(&released).push(at);
        if let Ok(mut link) = link.try_lock() {
            link.tell_released();
        }
    })
}

impl StreamReader {
    /// Joins the reader that the root prepared.
    pub(super) fn attach(arguments: &OpenArguments<'_>, start: &Start) -> Result<Self, OpenError> {
        let options = &arguments.target.options;
        let place = Place::stream(arguments.stream).on_rank(arguments.rank);
        let manner = manner(options);
        let mut reader = Self {
            verify: options.verify,
            copies: arguments.copies.clone(),
            fetched: AtomicU64::new(0),
            interrupt: arguments.interrupt.clone(),
            deadline: options.deadline,
            announced: Announcer::default(),
            spilled: Spilled::new(place.clone(), options, arguments.copies),
            heard: Mutex::default(),
            alone: arguments.size == 1,
            holding: Arc::new(Holding {
                steps: Mutex::default(),
                manner: manner.clone(),
                told: Told::Root(ToRoot::default()),
            }),
            link: None,
            shared_link: SharedLink::default(),
            hub: None,
            manner,
            place,
        };
        if arguments.rank == 0 {
            reader.become_root(start, arguments)?;
        }
        Ok(reader)
    }

    /// Joins the writer, and has the other ranks of the group reach this one.
    fn become_root(
        &mut self,
        start: &Start,
        arguments: &OpenArguments<'_>,
    ) -> Result<(), OpenError> {
        let released = Released::default();
        let finder = Finder::new(arguments)?;
        let mut link = finder.join(start, arguments, Arc::clone(&released))?;
        let done = tell_link(Arc::clone(&self.shared_link), released);
        let ranks = u32::try_from(arguments.size).unwrap_or(u32::MAX);
        let counter = Arc::new(Counter::new(ranks, done));
        // By hand nobody listens while this rank computes: its ranks say with the next step
        // what they let go of.
        if ranks > 1 && self.manner.progress == Progress::Threads {
            let failed = |error: &dyn std::fmt::Display| {
                let fault = Fault::io("opening the endpoint for this group's ranks", error);
                OpenError::from(fault.at(self.place.clone()))
            };
            let key = Key::generate().map_err(|error| failed(&error))?;
            let opening = ranks::opening(key, &arguments.target.options);
            let hub = Hub::open(opening, &counter).map_err(|error| failed(&error))?;
            link.reached_by(hub.reach().to_bytes());
            self.hub = Some(hub);
        }
        self.holding = Arc::new(Holding {
            steps: Mutex::default(),
            manner: self.manner.clone(),
            told: Told::Counter(counter),
        });
        let link = Arc::new(Mutex::new(link));
        *locked(&self.shared_link) = Some(Arc::clone(&link));
        self.link = Some(link);
        Ok(())
    }

    fn take_in(&self, bytes: &[u8]) -> Result<StepMeta, DecodeError> {
        let relayed = Relayed::from_bytes(bytes)?;
        if !relayed.life.is_empty() {
            self.learn(relayed.life)?;
        }
        for skipped in &relayed.skipped {
            // Taken in and let go: later announcements refer to it.
            let nothing = |_: &Announced, own: &[u8]| {
                self.reached(Own::from_bytes(own)?.reach)?;
                Ok(Arc::new(()) as Arc<dyn Any + Send + Sync>)
            };
            self.announced.unpack(skipped, nothing)?;
        }
        self.announced
            .unpack(relayed.announcement, |announced, own| {
                Ok(Arc::new(self.step(announced, own)?))
            })
    }

    /// Another life of the writer: its key, and how this group's root is reached.
    fn learn(&self, life: &[u8]) -> Result<(), DecodeError> {
        let mut from = Decoder::new(life);
        let key =
            <[u8; 32]>::try_from(from.bytes()?).map_err(|_| from.error("a key has 32 bytes"))?;
        let root = from.bytes()?;
        let group = from.u64()?;
        from.finish()?;
        if let Told::Root(to_root) = &self.holding.told
            && !root.is_empty()
        {
            to_root.learn(Reach::from_bytes(root)?);
        }
        let mut heard = locked(&self.heard);
        heard.key = Some((Key::from_bytes(key), group));
        if let Some(peers) = heard.peers.take() {
            heard.pushed = heard.pushed.with(peers.push_counts());
        }
        Ok(())
    }

    /// The ranks of the writer, as this announcement or one before says.
    fn reached(&self, reach: &[u8]) -> Result<Arc<Peers>, DecodeError> {
        let mut heard = locked(&self.heard);
        let heard = &mut *heard;
        if !reach.is_empty()
            && let Some(key) = &heard.key
        {
            let peers = Arc::new(Peers::new(key.clone(), reach, &self.manner)?);
            if let Some(link) = &self.link {
                peers.adopt(0, locked(link).peer());
            }
            if heard.frozen {
                peers.freeze();
            }
            heard.peers = Some(peers);
        }
        heard.peers.clone().ok_or_else(|| DecodeError {
            offset: 0,
            problem: "nobody said how the writers are reached".into(),
        })
    }

    fn step(&self, announced: &Announced, own: &[u8]) -> Result<StreamStep, DecodeError> {
        let own = Own::from_bytes(own)?;
        let peers = self.reached(own.reach)?;
        let names = (announced.schema_digest, announced.layout_digest);
        let mut heard = locked(&self.heard);
        let plan = match &heard.plan {
            Some((known, plan)) if *known == names => Arc::clone(plan),
            _ => {
                let plan = Arc::new(LayoutPlan::default());
                heard.plan = Some((names, Arc::clone(&plan)));
                plan
            }
        };
        drop(heard);
        let at = Position {
            epoch: announced.head.epoch,
            step: announced.head.step,
        };
        let told: Arc<dyn LetGo> = Arc::clone(&self.holding) as Arc<dyn LetGo>;
        self.holding.take_in(at);
        let hold = Hold::new(at, told);
        StreamStep::new(&own, peers, plan, hold)
    }

    fn own<'s>(&self, step: &'s StepMeta) -> Result<&'s StreamStep, Failure> {
        step.engine.downcast_ref::<StreamStep>().ok_or_else(|| {
            let fault = Fault::Refused {
                peer: "the stream engine".into(),
                why: "the step is of another engine".into(),
            };
            fault.at(self.place.clone().at_step(step.head.step))
        })
    }

    fn root(&self) -> Result<MutexGuard<'_, Link>, Failure> {
        match &self.link {
            Some(link) => Ok(locked(link)),
            None => Err(Fault::Refused {
                peer: "the stream engine".into(),
                why: "only the root asks for the next step".into(),
            }
            .at(self.place.clone())),
        }
    }
}

/// What a pinned block keeps: its memory, and its step.
struct Kept {
    _mapped: Mapped,
    _step: Arc<dyn Any + Send + Sync>,
}

impl ReaderEngine for StreamReader {
    fn info(&self) -> EngineInfo {
        let peers = locked(&self.heard).peers.clone();
        let read_from = peers.and_then(|peers| peers.info());
        read_from.unwrap_or_else(|| match &self.link {
            Some(link) => locked(link).info(),
            None => EngineInfo {
                engine: "stream",
                transport: "none yet".into(),
                why: "each rank connects to the ranks of the writer that it reads from".into(),
            },
        })
    }

    fn progress(&self) -> Result<(), Fault> {
        if self.manner.progress == Progress::Threads {
            return Ok(());
        }
        // Whoever has the link is in a call, which makes progress itself.
        match self.link.as_ref().map(|link| link.try_lock()) {
            Some(Ok(link)) => link.progress(),
            _ => Ok(()),
        }
    }

    fn held(&self) -> Option<Vec<u8>> {
        if self.alone {
            // The link hears of every release by itself.
            return None;
        }
        let mut encoder = Encoder::default();
        encoder.u64s(&self.holding.numbers());
        Some(encoder.finish())
    }

    fn next(&self, held: &[Vec<u8>], into: &mut Vec<u8>, wait: &Wait) -> Result<bool, NextError> {
        let mut all = Vec::new();
        for (rank, held) in held.iter().enumerate() {
            let numbers = Decoder::new(held).u64s().map_err(|error| {
                let what = format!("what rank {rank} said that it holds");
                Fault::corrupt(what, &error).at(self.place.clone())
            })?;
            all.extend(numbers);
        }
        all.sort_unstable();
        all.dedup();
        let all = (!self.alone).then_some(&all[..]);
        self.root()?.next(all, into, wait)
    }

    fn notice(&self) -> Result<Arc<Notice>, Failure> {
        let made = self.root()?.notice();
        made.map_err(|error| Fault::io("making a descriptor", &error).at(self.place.clone()))
    }

    fn load(&self, announcement: &[u8]) -> Result<StepMeta, NextError> {
        self.take_in(announcement).map_err(|error| {
            let fault = Fault::corrupt("the root's announcement of a step", &error);
            fault.at(self.place.clone()).into()
        })
    }

    fn read(&self, step: &StepMeta, reads: &mut [Read<'_>], wait: &Wait) -> Result<(), GetError> {
        let own = self.own(step)?;
        if let Some(dataset) = &own.spilled {
            let found = self.spilled.find(dataset, step.head.step, wait)?;
            return found.read(reads, wait);
        }
        let fetch = Fetch {
            step,
            own,
            stream: &self.place,
            verify: self.verify != Verify::Never,
            copies: &self.copies,
            fetched: &self.fetched,
            wait,
        };
        fetch.run(reads)
    }

    fn pin(&self, step: &StepMeta, entry: usize, block: BlockId) -> Result<Pinned, GetError> {
        let own = self.own(step)?;
        if own.spilled.is_some() {
            let fault = Fault::Unsupported {
                engine: "stream".into(),
                what: "show a block in place, its step was spilled to disk".into(),
                instead: "get the block into an array".into(),
            };
            return Err(fault.at(self.place.clone().at_step(step.head.step)).into());
        }
        let wait = Wait::new(self.deadline, &self.interrupt);
        let fetch = Fetch {
            step,
            own,
            stream: &self.place,
            verify: self.verify == Verify::Always,
            copies: &self.copies,
            fetched: &self.fetched,
            wait: &wait,
        };
        let entry = &step.entries[entry];
        let at = block.0 as usize;
        let Some(put) = entry.blocks.get(at) else {
            return Err(GetError::NoSuchBlock {
                place: fetch.place(entry),
                block: block.0,
                blocks: entry.blocks.len(),
            });
        };
        if put.block.count.contains(&0) {
            return Ok(Pinned {
                first: std::ptr::NonNull::dangling(),
                bytes: 0,
                keep: Arc::new(()),
            });
        }
        let stored = fetch
            .stored(entry, at)
            .map_err(|fault| fetch.explain(entry, at, fault.into()))?;
        if stored.is_packed() {
            let fault = Fault::Unsupported {
                engine: "stream".into(),
                what: "show a block in place that is compressed".into(),
                instead: "get the block into an array, or write without `compress`".into(),
            };
            return Err(fault.at(fetch.place(entry)).into());
        }
        let mapped = fetch
            .map(&stored)
            .map_err(|fault| fetch.explain(entry, at, fault.into()))?;
        let Some(mapped) = mapped else {
            let fault = Fault::Unsupported {
                engine: "stream".into(),
                what: "show a block in place, this transport shares no memory".into(),
                instead:
                    "get the block into an array, or run both on one node with `transport = shm`"
                        .into(),
            };
            return Err(fault.at(fetch.place(entry)).into());
        };
        let (bytes, crcs) = halves(&mapped, stored.bytes)
            .map_err(|fault| fetch.explain(entry, at, fault.into()))?;
        if fetch.verify {
            verify_tiles(bytes, crcs).map_err(|error| {
                let error = panta_transports::copy::CopyError::from(error);
                fetch.explain(entry, at, error.into())
            })?;
        }
        let first = std::ptr::NonNull::from(bytes).cast();
        Ok(Pinned {
            first,
            bytes: bytes.len(),
            keep: Arc::new(Kept {
                _mapped: mapped,
                _step: Arc::clone(&step.engine),
            }),
        })
    }

    fn release(&self, step: &StepMeta) {
        // It is held as long as what was loaded, or a block in place, is kept. But
        // nothing more is asked for of it.
        let own = step.engine.downcast_ref::<StreamStep>();
        if let Some(own) = own.filter(|own| own.spilled.is_none()) {
            let number = own.number();
            let behind = number.saturating_add(1);
            let below = self.holding.oldest_but(number);
            let below = below.map_or(behind, |it| it.min(behind));
            own.peers.released(number, below);
        }
    }

    fn freeze_selections(&self) {
        let mut heard = locked(&self.heard);
        heard.frozen = true;
        if let Some(peers) = &heard.peers {
            peers.freeze();
        }
    }

    fn fetched_bytes(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    fn push_counts(&self) -> PushCounts {
        let heard = locked(&self.heard);
        let now = heard.peers.as_ref().map(|peers| peers.push_counts());
        heard.pushed.with(now.unwrap_or_default())
    }

    fn commit(&self, step: &StepHead, cursor: &str, wait: &Wait) -> Result<(), Failure> {
        self.root()?.commit(step, cursor, wait)
    }

    fn close(&self, wait: &Wait) {
        if let Some(link) = &self.link {
            locked(link).close(&self.holding.numbers(), wait);
        }
        *locked(&self.shared_link) = None;
        locked(&self.heard).peers = None;
    }
}
