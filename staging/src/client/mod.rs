//! The `staging:` engine: writers and readers as clients of staging servers.
//!
//! ```text
//!   core's sessions ── engine calls ──> StagingWriter, StagingReader
//!                                         │ grid, put, fetch: what goes where
//!                                         v
//!                                       Driver ── proto's machines
//!                                         │
//!                                       channels to the servers
//! ```
//! Whoever waits drives: calls run on the caller's thread. One small thread a
//! stream, on the root, says that it lives while it computes; none where the
//! program makes progress by hand.
//!
//! It promises: a step's puts and gets cost round trips per server, not per
//! chunk; bytes are copied once in user space at most on this side; every wait
//! ends by its deadline with an error that names the server. It keeps no
//! payload, chooses no server by itself, and does not retry what a server has
//! refused.

mod alive;
mod connect;
mod driver;
mod fault;
mod fetch;
mod grid;
mod packing;
mod put;
mod reader;
mod record;
mod shared;
mod spans;
mod streams;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use panta_core::codec::Coded;
use panta_core::config::{Acknowledge, Compression, Distribution, Engine, Options, Policy, Verify};
use panta_core::engine::{
    EngineFactory, OpenArguments, PreparedWriter, ReaderEngine, Resume, Start, WriterEngine,
};
use panta_core::error::{Fault, OpenError, Place};
use panta_transports::channel::Role;
use panta_transports::coupling::{Progress, lease_of};
use panta_transports::random;

pub use connect::default_key_path;
pub use grid::{CHUNK_BYTES, PIECE_LIMIT_BYTES, default_chunk};
pub use streams::{State, StreamListing, find_stream, list_streams};

use alive::Keeper;
use connect::{Dialer, find_servers};
use driver::Driver;
use fault::CallError;
use reader::StagingReader;
use record::{ReaderTicket, WriterTicket};
use shared::{Shared, lock};
use writer::StagingWriter;

use crate::proto::client::{
    Answer, ClientConfig, ClientError, ReaderCall, ReaderMachine, WriterCall, WriterMachine,
};
use crate::proto::limits;
use crate::proto::message::{
    Ack, Distribution as WireDistribution, Map, OpenReader, OpenWriter, Policy as WirePolicy,
    Reason, ResumeFrom, StartAt,
};
use crate::shard::ShardMap;

/// Openings that wait to be joined by their own rank; more are forgotten.
const PREPARED_LIMIT: usize = 64;

/// Opens `staging:` streams.
#[derive(Default)]
pub struct StagingEngine {
    writers: Mutex<BTreeMap<u64, Driver<WriterMachine>>>,
    readers: Mutex<BTreeMap<u64, Driver<ReaderMachine>>>,
}

impl std::fmt::Debug for StagingEngine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StagingEngine")
            .finish_non_exhaustive()
    }
}

impl StagingEngine {
    /// An engine without open streams.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

fn remember<M>(prepared: &Mutex<BTreeMap<u64, M>>, instance: u64, driver: M) {
    let mut prepared = lock(prepared);
    while prepared.len() >= PREPARED_LIMIT {
        prepared.pop_first();
    }
    prepared.insert(instance, driver);
}

impl EngineFactory for StagingEngine {
    fn engine(&self) -> Engine {
        Engine::Staging
    }

    fn prepare_writer(
        &self,
        arguments: &OpenArguments<'_>,
        resume: Resume,
    ) -> Result<PreparedWriter, OpenError> {
        let options = &arguments.target.options;
        let mut dialer = Dialer::new(arguments.stream, options, Role::Writer)?;
        let names = find_servers(
            arguments.stream,
            &options.servers.0,
            &mut dialer,
            arguments.wait,
        )?;
        let instance = instance(arguments)?;
        let machine = WriterMachine::new(config(&names, arguments.rank));
        let mut driver = Driver::new(machine, names.clone(), dialer);
        let open = open_writer(arguments, resume, instance)?;
        let slot = open.slot;
        let answer = driver.call(WriterCall::Open(open), arguments.wait);
        let opened = match answer.map_err(|error| writer_refused(error, arguments))? {
            Answer::Opened(opened) => opened,
            _ => return Err(unexpected(arguments)),
        };
        let epoch = opened.run.as_ref().map_or(0, |run| run.epoch);
        let next_step = opened.next_step;
        remember(&self.writers, instance, driver);
        let ticket = WriterTicket {
            names,
            opened,
            slot,
            instance,
        };
        Ok(PreparedWriter {
            epoch,
            next_step,
            ticket: ticket.to_bytes(),
        })
    }

    fn attach_writer(
        &self,
        arguments: &OpenArguments<'_>,
        prepared: &PreparedWriter,
    ) -> Result<Box<dyn WriterEngine>, OpenError> {
        let ticket = WriterTicket::from_bytes(&prepared.ticket)
            .map_err(|error| failed(Fault::corrupt("the root's opening", &error), arguments))?;
        let map = map(ticket.opened.map.as_ref(), arguments)?;
        let lease = Duration::from_millis(ticket.opened.lease_ms);
        let is_root = arguments.rank == 0;
        // The root's alone, also where the other ranks are threads of its process.
        let own = is_root.then(|| lock(&self.writers).remove(&ticket.instance));
        let driver = match own.flatten() {
            Some(driver) => driver,
            None => {
                let options = &arguments.target.options;
                let dialer = Dialer::new(arguments.stream, options, Role::Writer)?;
                let mut machine = WriterMachine::new(config(&ticket.names, arguments.rank));
                machine.attach(ticket.opened, ticket.slot);
                Driver::new(machine, ticket.names.clone(), dialer)
            }
        };
        let driver: Shared<_> = Arc::new(Mutex::new(driver));
        let packing = match arguments.target.options.compress {
            Compression::None => None,
            Compression::Zstd(level) => {
                let made = packing::Packing::new(level.into());
                Some(made.map_err(|fault| failed(fault, arguments))?)
            }
        };
        let mut why = why(&ticket.names);
        if let Compression::Zstd(level) = arguments.target.options.compress {
            why.push_str(&format!("; compress=zstd:{level}"));
        }
        Ok(Box::new(StagingWriter {
            stream: arguments.target.name.clone(),
            why,
            rank: number(arguments.rank),
            ranks: number(arguments.size),
            slot: ticket.slot,
            keeper: keeper(is_root, &driver, lease, arguments)?,
            silence: match progress(&arguments.target.options) {
                Progress::Threads => None,
                Progress::Manual { silence } => Some(silence),
            },
            notice: std::sync::OnceLock::new(),
            driver,
            names: ticket.names,
            map,
            copies: arguments.copies.clone(),
            state: writer::State::compressing(packing),
        }))
    }

    fn prepare_reader(
        &self,
        arguments: &OpenArguments<'_>,
        start: &Start,
    ) -> Result<Vec<u8>, OpenError> {
        let options = &arguments.target.options;
        let mut dialer = Dialer::new(arguments.stream, options, Role::Reader)?;
        let names = find_servers(
            arguments.stream,
            &options.servers.0,
            &mut dialer,
            arguments.wait,
        )?;
        let instance = instance(arguments)?;
        let machine = ReaderMachine::new(config(&names, arguments.rank));
        let mut driver = Driver::new(machine, names.clone(), dialer);
        let open = open_reader(arguments, start, instance);
        let group = open.group.clone();
        let answer = driver.call(ReaderCall::Open(open), arguments.wait);
        let opened = match answer.map_err(|error| reader_refused(error, arguments))? {
            Answer::ReaderOpened(opened) => opened,
            _ => return Err(unexpected(arguments)),
        };
        remember(&self.readers, instance, driver);
        let ticket = ReaderTicket {
            names,
            opened,
            group,
            instance,
        };
        Ok(ticket.to_bytes())
    }

    fn attach_reader(
        &self,
        arguments: &OpenArguments<'_>,
        _start: &Start,
        ticket: &[u8],
    ) -> Result<Arc<dyn ReaderEngine>, OpenError> {
        let ticket = ReaderTicket::from_bytes(ticket)
            .map_err(|error| failed(Fault::corrupt("the root's opening", &error), arguments))?;
        let options = &arguments.target.options;
        let map = map(ticket.opened.map.as_ref(), arguments)?;
        let lease = Duration::from_millis(ticket.opened.lease_ms);
        let control = if arguments.rank == 0 {
            let own = lock(&self.readers).remove(&ticket.instance);
            let driver = own.ok_or_else(|| unexpected(arguments))?;
            Some(Arc::new(Mutex::new(driver)))
        } else {
            None
        };
        let dialer = match &control {
            Some(control) => lock(control).dialer().clone(),
            None => Dialer::new(arguments.stream, options, Role::Reader)?,
        };
        let mut machine = ReaderMachine::new(config(&ticket.names, arguments.rank));
        machine.attach_as(ticket.opened, ticket.group, ticket.instance);
        let data = Driver::new(machine, ticket.names.clone(), dialer);
        let keeper = match &control {
            Some(control) => keeper(true, control, lease, arguments)?,
            None => None,
        };
        Ok(Arc::new(StagingReader {
            stream: arguments.target.name.clone(),
            why: why(&ticket.names),
            rank: arguments.rank,
            map,
            control,
            data: Arc::new(Mutex::new(data)),
            keeper: Mutex::new(keeper),
            verify: options.verify != Verify::Never,
            latest_only: options.latest_only,
            fetched: std::sync::atomic::AtomicU64::new(0),
            copies: arguments.copies.clone(),
            interrupt: arguments.interrupt.clone(),
            notice: std::sync::OnceLock::new(),
            state: reader::State::default(),
        }))
    }
}

fn keeper<M, Call>(
    is_root: bool,
    driver: &Shared<Driver<M>>,
    lease: Duration,
    arguments: &OpenArguments<'_>,
) -> Result<Option<Keeper>, OpenError>
where
    M: crate::proto::Machine<
            Event = crate::proto::client::ClientEvent<Call>,
            Action = crate::proto::client::ClientAction,
        > + Send
        + 'static,
{
    if !is_root {
        return Ok(None);
    }
    if let Progress::Manual { silence } = progress(&arguments.target.options) {
        return Ok(Some(Keeper::by_hand(driver, silence, arguments.interrupt)));
    }
    Keeper::start(driver, lease)
        .map(Some)
        .map_err(|error| failed(Fault::io("starting a thread", &error), arguments))
}

fn config(names: &[String], rank: usize) -> ClientConfig {
    ClientConfig {
        names: names.to_vec(),
        rank: number(rank),
        retry_after: limits::RETRY_AFTER_DEFAULT,
    }
}

fn number(rank: usize) -> u32 {
    u32::try_from(rank).unwrap_or(u32::MAX)
}

fn why(names: &[String]) -> String {
    format!(
        "the one that staging servers speak; here {}",
        names.join(", ")
    )
}

fn failed(fault: Fault, arguments: &OpenArguments<'_>) -> OpenError {
    fault.at(Place::stream(arguments.stream)).into()
}

fn unexpected(arguments: &OpenArguments<'_>) -> OpenError {
    let fault = Fault::Corrupt {
        what: "the answer to the opening".into(),
        problem: "it is of another kind".into(),
    };
    failed(fault, arguments)
}

fn instance(arguments: &OpenArguments<'_>) -> Result<u64, OpenError> {
    random::number()
        .map_err(|error| failed(Fault::io("drawing a random identity", &error), arguments))
}

fn map(map: Option<&Map>, arguments: &OpenArguments<'_>) -> Result<ShardMap, OpenError> {
    let bytes = map.map_or(&[][..], |map| &map.bytes);
    ShardMap::decode(bytes).map_err(|error| {
        let fault = Fault::Corrupt {
            what: "the servers' shard map".into(),
            problem: error.to_string(),
        };
        failed(fault, arguments)
    })
}

/// Who does what is due between two calls; how a stream is opened has been checked.
fn progress(options: &Options) -> Progress {
    options.who_progresses().unwrap_or_default()
}

/// How long the home hears nothing of this group before it holds it dead: by hand it is
/// what the program declared.
fn lease_ms(options: &Options) -> u64 {
    let lease = lease_of(progress(options).silence_ms(), options.lease);
    u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)
}

fn open_writer(
    arguments: &OpenArguments<'_>,
    resume: Resume,
    instance: u64,
) -> Result<OpenWriter, OpenError> {
    let options = &arguments.target.options;
    let (from, resume_step) = match resume {
        Resume::Fresh => (ResumeFrom::Fresh, 0),
        Resume::Last => (ResumeFrom::Last, 0),
        Resume::After(step) => (ResumeFrom::After, step),
    };
    let policy = match options.policy {
        Policy::Block => WirePolicy::Block,
        Policy::DropOldest => WirePolicy::DropOldest,
        Policy::DropNewest => WirePolicy::DropNewest,
        Policy::Spill => WirePolicy::Spill,
    };
    let ack = match options.ack {
        Acknowledge::Memory => Ack::Memory,
        Acknowledge::Disk => Ack::Disk,
        Acknowledge::Replica => Ack::Replica,
    };
    let (declared, writer) = (options.declared_writers, options.writer);
    if declared > u64::from(limits::WRITERS_LIMIT) || writer == 0 || writer > declared {
        return Err(OpenError::Config(format!(
            "stream `{}`: writer {writer} of {declared} declared writers; `declared_writers` is \
             at most {}, and `writer` counts them from 1",
            arguments.stream,
            limits::WRITERS_LIMIT
        )));
    }
    Ok(OpenWriter {
        stream: arguments.target.name.clone(),
        slot: u32::try_from(writer - 1).unwrap_or(u32::MAX),
        declared: u32::try_from(declared).unwrap_or(u32::MAX),
        instance,
        resume: from as i32,
        resume_step,
        policy: policy as i32,
        ack: ack as i32,
        retain_steps: options.retain_steps,
        // Without a bound of its own the servers' memory bounds it.
        retain_bytes: options.retain_bytes.map_or(u64::MAX, |bytes| bytes.0),
        lease_ms: lease_ms(options),
        precious_first: options.precious_first,
        distribution: match options.distribution {
            Distribution::All => WireDistribution::All,
            Distribution::RoundRobin => WireDistribution::RoundRobin,
            Distribution::OnDemand => WireDistribution::OnDemand,
        } as i32,
    })
}

fn open_reader(arguments: &OpenArguments<'_>, start: &Start, instance: u64) -> OpenReader {
    let options = &arguments.target.options;
    let mut open = OpenReader {
        stream: arguments.target.name.clone(),
        // Without a name of its own a group is nobody else's.
        group: options
            .reader_group
            .clone()
            .unwrap_or_else(|| format!("reader-{instance:016x}")),
        instance,
        lease_ms: lease_ms(options),
        ranks: number(arguments.size),
        ..OpenReader::default()
    };
    let at = match start {
        Start::Oldest => StartAt::Oldest,
        Start::Latest => StartAt::Latest,
        Start::At(step) => {
            open.step = *step;
            StartAt::At
        }
        Start::After(step) => {
            open.step = *step;
            StartAt::After
        }
        Start::AtTime(time) => {
            open.time = *time;
            StartAt::Time
        }
        Start::Cursor(cursor) => {
            open.cursor.clone_from(cursor);
            StartAt::Cursor
        }
    };
    open.start = at as i32;
    open
}

fn writer_refused(error: CallError, arguments: &OpenArguments<'_>) -> OpenError {
    match error.refusal() {
        Some((Reason::Unsupported | Reason::WrongState, _, _, detail)) => {
            OpenError::Config(format!("stream `{}`: {detail}", arguments.stream))
        }
        _ => failed(error.fault(), arguments),
    }
}

fn reader_refused(error: CallError, arguments: &OpenArguments<'_>) -> OpenError {
    match error {
        CallError::Client(ClientError::Deadline {
            awaited, length, ..
        }) => OpenError::NotFound {
            stream: arguments.stream.to_owned(),
            what: awaited,
            after: length,
        },
        error => failed(error.fault(), arguments),
    }
}
