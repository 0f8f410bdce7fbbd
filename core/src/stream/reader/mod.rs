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

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use panta_transports::copy::{CopyCounter, verify_tiles};
use panta_transports::coupling::PeerOptions;
use panta_transports::time::{Interrupt, Wait};

use self::find::Finder;
use self::link::Link;
use super::fetch::{Fetch, halves};
use super::message::Hearing;
use super::peers::{Peers, Shared};
use super::step::{Hold, LayoutPlan, LetGo, StreamStep};
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::config::Verify;
use crate::engine::{EngineInfo, OpenArguments, Pinned, Read, ReaderEngine, Start};
use crate::error::{Failure, Fault, GetError, NextError, OpenError, Place};
use crate::model::{BlockId, Layout, Schema, StepHead, StepMeta, StepRecord};

/// Brings steps to one rank.
pub(super) struct StreamReader {
    place: Place,
    verify: Verify,
    copies: CopyCounter,
    interrupt: Interrupt,
    deadline: std::time::Duration,
    /// How ranks of the writer are connected to, but for their key.
    manner: PeerOptions,
    heard: Mutex<Heard>,
    holding: Arc<Holding>,
    link: Option<Arc<Mutex<Link>>>,
    why: Mutex<EngineInfo>,
}

/// What the last step had, and the next may have too.
#[derive(Default)]
struct Heard {
    hearing: Hearing,
    schema: Option<(u64, Arc<Schema>)>,
    layout: Option<(u64, Arc<Layout>)>,
    plan: Option<((u64, u64), Arc<LayoutPlan>)>,
    peers: Option<(Arc<[u8]>, Arc<Peers>)>,
}

/// Steps that this rank holds.
#[derive(Default)]
struct Holding {
    /// Their bytes, and how many times each was delivered.
    steps: Mutex<BTreeMap<u64, (u64, u32)>>,
    /// Let go of, and not told to the link yet.
    released: Released,
    /// Where a group of one says at once that it lets go.
    link: Mutex<Option<Arc<Mutex<Link>>>>,
}

/// Numbers of steps that nobody holds any more.
type Released = Arc<Mutex<Vec<u64>>>;

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LetGo for Holding {
    fn let_go(&self, number: u64) {
        let mut steps = locked(&self.steps);
        let Some((_, times)) = steps.get_mut(&number) else {
            return;
        };
        *times -= 1;
        if *times > 0 {
            return;
        }
        steps.remove(&number);
        drop(steps);
        let Some(link) = locked(&self.link).clone() else {
            return;
        };
        locked(&self.released).push(number);
        // Whoever has the link looks at the list by itself.
        if let Ok(mut link) = link.try_lock() {
            link.tell_released();
        }
    }
}

impl Holding {
    fn numbers(&self) -> Vec<u64> {
        locked(&self.steps).keys().copied().collect()
    }
}

impl StreamReader {
    /// Joins the reader that the root prepared.
    pub(super) fn attach(arguments: &OpenArguments<'_>, start: &Start) -> Result<Self, OpenError> {
        let options = &arguments.target.options;
        let place = Place::stream(arguments.stream).on_rank(arguments.rank);
        let finder = Finder::new(arguments);
        let manner = finder.manner();
        let holding = Arc::new(Holding::default());
        let link = match arguments.rank {
            0 => Some(finder.join(start, arguments, Arc::clone(&holding.released))?),
            _ => None,
        };
        let why = match &link {
            Some(link) => link.info(),
            None => EngineInfo {
                engine: "stream",
                transport: "as the root's".into(),
                why: "no rank of the writer was read from yet".into(),
            },
        };
        let link = link.map(|link| Arc::new(Mutex::new(link)));
        if arguments.size == 1 {
            locked(&holding.link).clone_from(&link);
        }
        Ok(Self {
            verify: options.verify,
            copies: arguments.copies.clone(),
            interrupt: arguments.interrupt.clone(),
            deadline: options.deadline,
            manner,
            heard: Mutex::default(),
            holding,
            link,
            why: Mutex::new(why),
            place,
        })
    }

    fn take_in(&self, announcement: &[u8]) -> Result<StepMeta, DecodeError> {
        let mut from = Decoder::new(announcement);
        let mut heard = locked(&self.heard);
        let step = heard.hearing.take(&mut from)?;
        from.finish()?;
        let schema = remembered(&mut heard.schema, step.schema_digest, &step.schema)?;
        let layout = remembered(&mut heard.layout, step.layout_digest, &step.layout)?;
        let names = (step.schema_digest, step.layout_digest);
        let plan = match &heard.plan {
            Some((known, plan)) if *known == names => Arc::clone(plan),
            _ => {
                let plan = Arc::new(LayoutPlan::default());
                heard.plan = Some((names, Arc::clone(&plan)));
                plan
            }
        };
        let peers = match &heard.peers {
            Some((known, peers)) if Arc::ptr_eq(known, &step.reach) => Arc::clone(peers),
            _ => {
                let peers = Arc::new(Peers::new(&step.reach, &self.manner)?);
                heard.peers = Some((Arc::clone(&step.reach), Arc::clone(&peers)));
                if let Some(link) = &self.link {
                    peers.adopt(0, locked(link).peer());
                }
                peers
            }
        };
        drop(heard);
        let record = StepRecord::from_bytes(&step.record)?;
        let number = record.head.step;
        let told: Arc<dyn LetGo> = Arc::clone(&self.holding) as Arc<dyn LetGo>;
        {
            let mut steps = locked(&self.holding.steps);
            steps.entry(number).or_insert((0, 0)).1 += 1;
        }
        let hold = Hold::new(number, told);
        let own = StreamStep::new(&step.shares, peers, plan, hold)?;
        if let Some((bytes, _)) = locked(&self.holding.steps).get_mut(&number) {
            *bytes = own.bytes();
        }
        StepMeta::assemble(record, &schema, &layout, Arc::new(own))
            .map_err(|problem| DecodeError { offset: 0, problem })
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

fn remembered<T: Coded>(
    known: &mut Option<(u64, Arc<T>)>,
    name: u64,
    bytes: &[u8],
) -> Result<Arc<T>, DecodeError> {
    if let Some((known, value)) = known
        && *known == name
    {
        return Ok(Arc::clone(value));
    }
    let value = Arc::new(T::from_bytes(bytes)?);
    *known = Some((name, Arc::clone(&value)));
    Ok(value)
}

/// What a pinned block keeps: its memory, and its step.
struct Kept {
    _mapped: Shared,
    _hold: Option<Arc<Hold>>,
}

impl ReaderEngine for StreamReader {
    fn info(&self) -> EngineInfo {
        match &self.link {
            Some(link) => locked(link).info(),
            None => locked(&self.why).clone(),
        }
    }

    fn held(&self) -> Option<Vec<u8>> {
        let mut encoder = Encoder::default();
        encoder.u64s(&self.holding.numbers());
        Some(encoder.finish())
    }

    fn next(&self, held: &[Vec<u8>], wait: &Wait) -> Result<Option<Vec<u8>>, NextError> {
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
        self.root()?.next(&all, wait)
    }

    fn load(&self, announcement: &[u8]) -> Result<StepMeta, NextError> {
        self.take_in(announcement).map_err(|error| {
            let fault = Fault::corrupt("the root's announcement of a step", &error);
            fault.at(self.place.clone()).into()
        })
    }

    fn read(&self, step: &StepMeta, reads: &mut [Read<'_>], wait: &Wait) -> Result<(), GetError> {
        let fetch = Fetch {
            step,
            own: self.own(step)?,
            place: self.place.clone().at_step(step.head.step),
            verify: self.verify != Verify::Never,
            copies: &self.copies,
            wait,
        };
        fetch.run(reads)
    }

    fn pin(&self, step: &StepMeta, entry: usize, block: BlockId) -> Result<Pinned, GetError> {
        let own = self.own(step)?;
        let wait = Wait::new(self.deadline, &self.interrupt);
        let fetch = Fetch {
            step,
            own,
            place: self.place.clone().at_step(step.head.step),
            verify: self.verify == Verify::Always,
            copies: &self.copies,
            wait: &wait,
        };
        let entry = &step.entries[entry];
        let place = fetch.place.clone().of_variable(&entry.definition.name);
        let at = block.0 as usize;
        let Some(put) = entry.blocks.get(at) else {
            return Err(GetError::NoSuchBlock {
                place,
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
            return Err(fault.at(place).into());
        };
        let (bytes, crcs) = halves(mapped.as_slice(), stored.bytes)
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
                _hold: own.hold(),
            }),
        })
    }

    fn release(&self, step: &StepMeta) {
        if let Some(own) = step.engine.downcast_ref::<StreamStep>() {
            own.release();
        }
    }

    fn commit(&self, step: &StepHead, cursor: &str, wait: &Wait) -> Result<(), Failure> {
        self.root()?.commit(step, cursor, wait)
    }

    fn close(&self, wait: &Wait) {
        if let Some(link) = &self.link {
            locked(link).close(&self.holding.numbers(), wait);
        }
        *locked(&self.holding.link) = None;
        locked(&self.heard).peers = None;
    }
}
