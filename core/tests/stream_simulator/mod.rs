//! One writer, several reader groups, virtual time, links that delay.
//!
//! ```text
//!   writer.rs   the application and the ranks of a writer around a Publisher
//!   readers.rs  the application and the ranks of a reader group around a Subscriber
//!   plan.rs     what they do, and what befalls them
//!   oracle.rs   what must hold whatever happens
//! ```
//! A link delivers in order, each message as late as it likes. Messages travel
//! as bytes. Nothing but the seed decides what happens.

mod oracle;
mod plan;
mod random;
mod readers;
mod writer;

use oracle::{Expected, Oracle};
use panta_core::stream::machine::mutant::Mutant;
use panta_core::stream::machine::{Gone, GroupId};
use panta_transports::time::Time;
use plan::Plan;
use random::Random;
use readers::Reader;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use writer::Writer;

/// Silence after which a group is fenced.
const LEASE: Duration = Duration::from_secs(1);
/// The longest that the writer may be kept waiting: the lease, and what slow
/// but living readers may take.
const PATIENCE: Duration = Duration::from_secs(6);
/// When everything must be over.
const END: Time = Time(120_000_000_000);

#[derive(Debug)]
enum Event {
    ToWriter(GroupId),
    ToReader(GroupId),
    /// The writer's life of this epoch: its next step begins.
    Begin(u64),
    /// A rank has more to put than it reserved.
    Grows(u64, u64),
    /// The application has put everything.
    Ends(u64, u64),
    Seal(u64, u64),
    Spilled(u64, u64),
    SpillFailed(u64, u64),
    /// The writer has waited long for its step, or to be drained.
    Impatient(u64, u64),
    GiveUp(u64, u64),
    NotDrained(u64),
    /// The writer waits no longer to be drained.
    Abandons(u64),
    WriterDies(u64),
    WriterStarts,
    WriterTick(u64),
    /// A reader's life: it does what is next.
    Act(usize, u64),
    ReaderGiveUp(usize, u64, u64),
    ReaderTick(usize, u64),
    Connect(usize, u64),
    ReaderDies(usize),
    ReaderStarts(usize),
    ReaderStops(usize),
}

#[derive(Debug)]
enum ToWriter {
    Join(Vec<u8>),
    Message(Vec<u8>),
    End(Gone),
}

#[derive(Debug)]
enum ToReader {
    Message(Vec<u8>),
    End { readable: bool },
}

/// A reader group's link to one life of the writer.
#[derive(Debug, Default)]
struct Link {
    reader: usize,
    /// The reader's life.
    life: u64,
    epoch: u64,
    to_writer: VecDeque<ToWriter>,
    to_reader: VecDeque<ToReader>,
    last_to_writer: Time,
    last_to_reader: Time,
    /// Whether the writer's end is open.
    open: bool,
    joined: bool,
    expected: Expected,
    announced: u64,
}

/// What one schedule came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub events: u64,
    pub delivered: u64,
    pub discarded: u64,
    pub spilled: u64,
    pub written: u64,
    pub evicted: u64,
    pub abandoned: u64,
    pub spill_failed: u64,
    pub grown: u64,
    pub not_grown: u64,
    pub trimmed: u64,
    pub rolled_back: u64,
    pub fenced: u64,
    pub writer_lost: u64,
    pub deadlocks: u64,
}

struct World {
    plan: Plan,
    random: Random,
    mutant: Option<Mutant>,
    now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    writer: Writer,
    readers: Vec<Reader>,
    links: BTreeMap<GroupId, Link>,
    oracle: Oracle,
    failed: Option<String>,
    trace: bool,
}

/// Runs the schedule of a seed; an error is a promise broken.
pub fn run(
    seed: u64,
    mutant: Option<Mutant>,
    faulty: bool,
    trace: bool,
) -> Result<Summary, String> {
    let mut random = Random::new(seed);
    let plan = plan::plan(&mut random, faulty);
    let mut world = World {
        oracle: Oracle::new(&plan),
        writer: Writer::default(),
        readers: plan.readers.iter().cloned().map(Reader::new).collect(),
        plan,
        random,
        mutant,
        now: Time(0),
        queue: BTreeMap::new(),
        sequence: 0,
        links: BTreeMap::new(),
        failed: None,
        trace,
    };
    if trace {
        println!("{:#?}", world.plan);
    }
    world.schedule();
    let mut events = 0;
    while let Some(((at, _), event)) = world.queue.pop_first() {
        world.now = at;
        events += 1;
        if world.trace {
            println!("{:>12} {event:?}", at.0 / 1_000);
        }
        if at > END {
            world.fail("it does not end");
        }
        world.happens(event);
        if let Some(failed) = world.failed.take() {
            return Err(failed);
        }
    }
    world.check_end()?;
    let oracle = &world.oracle;
    Ok(Summary {
        events,
        delivered: oracle.delivered,
        discarded: oracle.discarded,
        spilled: oracle.spilled,
        written: oracle.written,
        evicted: oracle.evicted,
        abandoned: oracle.abandoned,
        spill_failed: oracle.lost.len() as u64,
        grown: oracle.grown,
        not_grown: oracle.not_grown,
        trimmed: oracle.trimmed,
        rolled_back: oracle.rolled_back,
        fenced: oracle.fenced,
        writer_lost: oracle.writer_lost,
        deadlocks: oracle.deadlocks,
    })
}

impl World {
    fn schedule(&mut self) {
        self.after_us(0, Event::WriterStarts);
        for index in 0..self.readers.len() {
            let plan = self.readers[index].plan.clone();
            self.after_us(1_000 * plan.joins_ms, Event::ReaderStarts(index));
            if let Some(dies_ms) = plan.dies_ms {
                self.after_us(1_000 * (plan.joins_ms + dies_ms), Event::ReaderDies(index));
            }
            if let Some((stops_ms, _)) = plan.stops_ms {
                self.after_us(
                    1_000 * (plan.joins_ms + stops_ms),
                    Event::ReaderStops(index),
                );
            }
        }
    }

    fn check_end(&self) -> Result<(), String> {
        if !self.writer.is_over(&self.plan) {
            return Err("the writer is stuck".into());
        }
        match self.readers.iter().position(|reader| !reader.done) {
            Some(reader) => Err(format!("reader {reader} is stuck")),
            None => Ok(()),
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::ToWriter(group) => self.deliver_to_writer(group),
            Event::ToReader(group) => self.deliver_to_reader(group),
            Event::WriterStarts => self.start_writer(),
            Event::ReaderStarts(reader) => self.start_reader(reader),
            Event::ReaderDies(reader) => self.kill_reader(reader),
            Event::ReaderStops(reader) => self.stop_reader(reader),
            Event::Act(..)
            | Event::ReaderGiveUp(..)
            | Event::ReaderTick(..)
            | Event::Connect(..) => self.reader_event(event),
            Event::Begin(_)
            | Event::Grows(..)
            | Event::Ends(..)
            | Event::Seal(..)
            | Event::Spilled(..)
            | Event::SpillFailed(..)
            | Event::Impatient(..)
            | Event::GiveUp(..)
            | Event::NotDrained(_)
            | Event::Abandons(_)
            | Event::WriterDies(_)
            | Event::WriterTick(_) => self.writer_event(event),
        }
    }

    fn at(&mut self, time: Time, event: Event) {
        self.sequence += 1;
        self.queue
            .insert((time.max(self.now), self.sequence), event);
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now.after(delay), event);
    }

    fn after_us(&mut self, delay_us: u64, event: Event) {
        self.after(Duration::from_micros(delay_us), event);
    }

    fn fail(&mut self, what: impl Into<String>) {
        if self.failed.is_none() {
            self.failed = Some(format!("at {:?}: {}", self.now, what.into()));
        }
    }

    fn check(&mut self, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.fail(what);
        }
    }

    fn log(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("             {}", what());
        }
    }

    fn delay(&mut self) -> Duration {
        let us = match self.random.between(0, 99) {
            0..=2 => 50_000,
            3..=40 => 10,
            _ => self.random.between(10, 3_000),
        };
        Duration::from_micros(us)
    }

    fn send_to_writer(&mut self, group: GroupId, what: ToWriter) {
        let delay = self.delay();
        let at = self.now.after(delay);
        let Some(link) = self.links.get_mut(&group) else {
            return;
        };
        link.last_to_writer = link.last_to_writer.max(at);
        link.to_writer.push_back(what);
        let at = link.last_to_writer;
        self.at(at, Event::ToWriter(group));
    }

    fn send_to_reader(&mut self, group: GroupId, what: ToReader) {
        let delay = self.delay();
        let at = self.now.after(delay);
        let Some(link) = self.links.get_mut(&group) else {
            return;
        };
        link.last_to_reader = link.last_to_reader.max(at);
        link.to_reader.push_back(what);
        let at = link.last_to_reader;
        self.at(at, Event::ToReader(group));
    }
}
