//! Opening for writing: who has the name, and what this life of the writer is.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use panta_transports::channel::Key;
use panta_transports::coupling::{
    Allowed, CouplingError, Endpoint, EndpointOptions, Handler, Lost, Peer, PeerId, PeerInfo,
    PeerOptions, Progress, Ticket, lease_of,
};
use panta_transports::random;
use panta_transports::region::{Arena, ArenaOptions};
use panta_transports::time::{Meanwhile, Time, Wait};

use super::super::address;
use super::super::contact::{
    self, Contact, ContactFile, Found, Identity, Instance, Unpublished, path_of,
};
use super::super::machine::{Life, PublisherOptions};
use super::super::memory::Memory;
use super::super::message::Greeting;
use super::super::packing::Packing;
use super::super::process::{Life as Alive, Process};
use super::super::spill::{self, Spill};
use super::super::{fabric, interfaces, port, progress};
use super::root::Root;
use super::subscribed::Subscribed;
use super::{RootSide, StreamWriter};
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::config::{Compression, Options, Policy, TransportChoice};
use crate::engine::{EngineInfo, OpenArguments, PreparedWriter, Resume};
use crate::error::{Fault, OpenError, Place};

/// Memory beside the limit: headers, checksums, and what lies between steps.
const SLACK_BYTES: u64 = 4 << 20;

/// The most lives that a contact file tells of.
const LIVES_TOLD: usize = 64;

/// What the root tells its ranks when the stream is opened.
#[derive(Clone, Debug)]
pub(super) struct Told {
    instance: Instance,
    /// The lives of the writer as far as they are known, this one last.
    lives: Vec<Life>,
    next_step: u64,
    /// The contact file of the life before, if it left one.
    stale: Option<Identity>,
    key: Key,
    encrypt: bool,
    pub(super) lease: Duration,
    pub(super) progress: Progress,
    spin: Duration,
    /// What the root prepared to spill to; empty where nothing is spilled.
    spill: Vec<u8>,
}

impl Told {
    /// How a rank connects to its root.
    pub(super) fn peer_options(&self, lease: Duration) -> PeerOptions {
        PeerOptions {
            encrypt: self.encrypt,
            hello: Greeting::WriterRank.to_bytes(),
            lease,
            progress: self.progress,
            spin: self.spin,
            ..PeerOptions::new(self.key.clone())
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder
            .bytes(&self.instance)
            .bytes(self.key.secret_bytes())
            .u64(self.next_step)
            .u8(u8::from(self.stale.is_some()));
        let (device, number) = self.stale.unwrap_or_default();
        encoder.u64(device).u64(number).length(self.lives.len());
        for life in &self.lives {
            let after = life.after.map_or(0, |step| step.saturating_add(1));
            encoder.u64(life.epoch).u64(after);
        }
        encoder.bytes(&self.spill);
        encoder.finish()
    }

    fn decode(bytes: &[u8], options: &Options) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let wrong = "an instance has 16 bytes and a key 32";
        let instance = Instance::try_from(from.bytes()?).map_err(|_| from.error(wrong))?;
        let key = <[u8; 32]>::try_from(from.bytes()?).map_err(|_| from.error(wrong))?;
        let told = Self {
            instance,
            key: Key::from_bytes(key),
            next_step: from.u64()?,
            stale: match (from.u8()?, (from.u64()?, from.u64()?)) {
                (0, _) => None,
                (_, identity) => Some(identity),
            },
            lives: (0..from.count(16)?)
                .map(|_| {
                    Ok(Life {
                        epoch: from.u64()?,
                        after: from.u64()?.checked_sub(1),
                    })
                })
                .collect::<Result<_, DecodeError>>()?,
            spill: from.bytes()?.to_vec(),
            encrypt: options.encrypt,
            lease: options.lease,
            progress: progress(options),
            spin: options.spin,
        };
        from.finish()?;
        Ok(told)
    }

    fn life(&self) -> Life {
        let none = Life {
            epoch: 1,
            after: None,
        };
        self.lives.last().copied().unwrap_or(none)
    }
}

/// What is there under the name already.
enum There {
    Nobody,
    /// A life that has ended, or was silent for too long.
    Stale(Found),
    Alive(Found),
}

fn look(path: &Path, options: &Options, wait: &Wait) -> Result<There, Fault> {
    let Some(found) = contact::look(path)? else {
        return Ok(There::Nobody);
    };
    if found.contact.process.life() == Alive::Gone {
        return Ok(There::Stale(found));
    }
    let lives = match Ticket::from_bytes(&found.contact.ticket) {
        Ok(ticket) => {
            let lease = lease_of(found.contact.silence_ms, options.lease);
            answers(&ticket, &found.contact.key, (options, lease), wait)?
        }
        Err(_) => false,
    };
    Ok(if lives {
        There::Alive(found)
    } else {
        There::Stale(found)
    })
}

/// Whether a writer lives; one that is silent beyond the lease does not count.
pub(in super::super) fn answers(
    ticket: &Ticket,
    key: &Key,
    (options, lease): (&Options, Duration),
    wait: &Wait,
) -> Result<bool, Fault> {
    let call = PeerOptions {
        encrypt: options.encrypt,
        hello: Greeting::Caller.to_bytes(),
        lease,
        linked: false,
        ..PeerOptions::new(key.clone())
    };
    let patient = wait.deadline().remaining() <= lease;
    match Peer::connect(ticket, &call, &wait.at_most(lease)) {
        Ok(_) | Err(CouplingError::Refused { .. } | CouplingError::NoTransport { .. }) => Ok(true),
        // Whoever has no time to wait as long as the lease does not take over.
        Err(CouplingError::NotReady { .. }) if patient => Ok(true),
        Err(_) => Ok(false),
    }
}

/// Looks who has the name; on the root.
pub(in super::super) fn prepare(
    arguments: &OpenArguments<'_>,
    resume: Resume,
) -> Result<PreparedWriter, OpenError> {
    let options = &arguments.target.options;
    let place = Place::stream(arguments.stream);
    refuse(options).map_err(|fault| fault.at(place.clone()))?;
    let path = path_of(arguments.target);
    let there = look(&path, options, arguments.wait).map_err(|fault| fault.at(place.clone()))?;
    let stale = match there {
        There::Alive(found) => return Err(busy(arguments, &found)),
        There::Stale(found) => Some(found),
        There::Nobody => None,
    };
    let next_step = match resume {
        Resume::Fresh => 0,
        Resume::Last => stale.as_ref().map_or(0, |found| found.next_step),
        Resume::After(step) => step.saturating_add(1),
    };
    let failed = |error: &dyn std::fmt::Display| {
        OpenError::from(Fault::io("making the stream's key", error).at(place.clone()))
    };
    let mut instance = [0; 16];
    random::fill(&mut instance).map_err(|error| failed(&error))?;
    let meeting = address::of(arguments.target);
    let key = match &options.key {
        _ if meeting.is_some() => address::key_of_writer(arguments.target)?,
        Some(path) => Key::load_or_create(path).map_err(|error| failed(&error))?,
        None => Key::generate().map_err(|error| failed(&error))?,
    };
    let mut lives = lives(stale.as_ref(), resume, next_step);
    if let (Some(_), [earlier @ .., now]) = (meeting, lives.as_mut_slice()) {
        now.epoch = address::next_epoch(earlier.last().map(|last| last.epoch));
    }
    let epoch = lives.last().map_or(1, |life| life.epoch);
    let spill = match options.policy {
        Policy::Spill => spill::prepare(
            arguments,
            resume,
            &spill::dataset_of(arguments.target, epoch),
        )?,
        _ => Vec::new(),
    };
    let told = Told {
        instance,
        lives,
        spill,
        next_step,
        stale: stale.as_ref().map(|found| found.identity),
        key,
        encrypt: options.encrypt,
        lease: options.lease,
        progress: progress(options),
        spin: options.spin,
    };
    Ok(PreparedWriter {
        epoch: told.life().epoch,
        next_step,
        ticket: told.encode(),
    })
}

/// The lives up to this one, the oldest forgotten where there are too many.
fn lives(stale: Option<&Found>, resume: Resume, next_step: u64) -> Vec<Life> {
    let mut lives = stale.map_or_else(Vec::new, |found| found.contact.lives.clone());
    lives.drain(..lives.len().saturating_sub(LIVES_TOLD - 1));
    lives.push(Life {
        epoch: lives.last().map_or(1, |last| last.epoch.saturating_add(1)),
        after: match resume {
            Resume::Fresh => None,
            Resume::Last | Resume::After(_) => next_step.checked_sub(1),
        },
    });
    lives
}

fn busy(arguments: &OpenArguments<'_>, found: &Found) -> OpenError {
    OpenError::Busy {
        stream: arguments.stream.to_owned(),
        holder: format!(
            "{} (contact file {})",
            found.contact.process,
            path_of(arguments.target).display()
        ),
    }
}

/// What this engine does not do.
fn refuse(options: &Options) -> Result<(), Fault> {
    let unsupported = |what: &str, instead: &str| {
        Err(Fault::Unsupported {
            engine: "stream".into(),
            what: what.into(),
            instead: instead.into(),
        })
    };
    if options.policy != Policy::Spill && options.spill.is_some() {
        return unsupported(
            "spill steps under another policy",
            "set `policy = spill`, or leave `spill` out",
        );
    }
    Ok(())
}

/// How a rank's endpoint is opened with these parameters.
fn endpoint_options(arguments: &OpenArguments<'_>, told: &Told) -> Result<EndpointOptions, Fault> {
    let options = &arguments.target.options;
    let is_root = arguments.rank == 0;
    let listen = match address::of(arguments.target) {
        Some(names) if is_root || options.interface.is_none() => address::listens(names, is_root)?,
        _ => Vec::new(),
    };
    let any = options.transport == TransportChoice::Auto;
    Ok(EndpointOptions {
        encrypt: options.encrypt,
        listen,
        interfaces: interfaces(options),
        transports: Allowed {
            shm: any || options.transport == TransportChoice::Shm,
            tcp: any || options.transport == TransportChoice::Tcp,
            rdma: any || options.transport == TransportChoice::Rdma,
        },
        lease: options.lease,
        progress: told.progress,
        spin: options.spin,
        fabric: fabric(options),
        ..EndpointOptions::new(told.key.clone())
    })
}

/// Serves the bytes of a rank that is not the root.
struct Server {
    subscribed: Arc<Subscribed>,
    endpoint: Arc<OnceLock<Weak<Endpoint>>>,
}

impl Handler for Server {
    fn joined(&self, _peer: PeerId, hello: &[u8], _how: &PeerInfo) -> Result<(), String> {
        match Greeting::from_bytes(hello) {
            Ok(Greeting::ReaderRank) => Ok(()),
            Ok(_) => Err("this is no root of a writer; connect to the root".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn message(&self, _peer: PeerId, _message: &[u8]) {}

    fn subscribed(&self, peer: PeerId, what: &[u8]) {
        if let Some(endpoint) = self.endpoint.get().and_then(Weak::upgrade) {
            self.subscribed.subscribe_at_rank(&endpoint, peer, what);
        }
    }

    fn lost(&self, peer: PeerId, _why: &Lost) {
        self.subscribed.lost(peer);
    }
}

fn publisher_options(arguments: &OpenArguments<'_>, told: &Told) -> PublisherOptions {
    let options = &arguments.target.options;
    let (_, earlier) = told.lives.split_last().unzip();
    PublisherOptions {
        life: told.life(),
        earlier: earlier.map_or_else(Vec::new, <[Life]>::to_vec),
        limit_bytes: options.limit.0,
        ranks: arguments.size,
        policy: options.policy,
        distribution: options.distribution,
        rendezvous: usize::try_from(options.rendezvous.0).unwrap_or(usize::MAX),
        retain_steps: options.retain_steps,
        retain_bytes: options.retain_bytes.map(|bytes| bytes.0),
        precious_first: options.precious_first,
        // The endpoint notices silence.
        lease: None,
        recovered: Vec::new(),
        cursors: Vec::new(),
    }
}

impl StreamWriter {
    /// Joins the writer that the root prepared.
    pub(in super::super) fn attach(
        arguments: &OpenArguments<'_>,
        prepared: &PreparedWriter,
    ) -> Result<Self, OpenError> {
        let options = &arguments.target.options;
        let place = Place::stream(arguments.stream).on_rank(arguments.rank);
        let at = |fault: Fault| OpenError::from(fault.at(place.clone()));
        let told = Told::decode(&prepared.ticket, options)
            .map_err(|error| at(Fault::corrupt("the root's ticket", &error)))?;
        let opening = endpoint_options(arguments, &told).map_err(at)?;
        let arena = Arena::new(ArenaOptions {
            limit_bytes: (options.limit.0 / 8)
                .saturating_mul(9)
                .saturating_add(SLACK_BYTES),
            shared: opening.transports.shm,
        });
        let subscribed = Arc::new(Subscribed::default());
        let root = (arguments.rank == 0).then(|| {
            let options = publisher_options(arguments, &told);
            let subscribed = Arc::clone(&subscribed);
            Arc::new(Root::new(&arguments.target.name, options, subscribed))
        });
        let speaker = Arc::new(OnceLock::new());
        let handler: Arc<dyn Handler> = match &root {
            Some(root) => Arc::clone(root) as Arc<dyn Handler>,
            None => Arc::new(Server {
                subscribed: Arc::clone(&subscribed),
                endpoint: Arc::clone(&speaker),
            }),
        };
        let endpoint = Endpoint::open(opening, arena.clone(), handler);
        let endpoint = endpoint.map_err(|error| match error {
            CouplingError::Bind(taken) if taken.source.kind() == ErrorKind::AddrInUse => {
                let holder = port::holder_of(taken.address).map_or_else(
                    || "another writer, or another program, which runs".to_owned(),
                    |holder| holder.to_string(),
                );
                OpenError::Busy {
                    stream: arguments.stream.to_owned(),
                    holder: format!(
                        "{holder} and listens at {} (choose another port if it is to stay)",
                        taken.address
                    ),
                }
            }
            error => at(Fault::io("opening the endpoint", &error)),
        })?;
        let endpoint = Arc::new(endpoint);
        // Set once, here.
        let _ = speaker.set(Arc::downgrade(&endpoint));
        let rank = u32::try_from(arguments.rank).unwrap_or(u32::MAX);
        let spill = match told.spill.is_empty() {
            true => None,
            false => {
                let dataset = spill::dataset_of(arguments.target, told.life().epoch);
                Some(Spill::attach(arguments, dataset, &told.spill)?)
            }
        };
        if arguments.rank > 0 && told.progress != Progress::Threads {
            // The root's own waits see to its endpoint themselves.
            let beside: Arc<dyn Meanwhile> = Arc::clone(&endpoint) as _;
            arguments.interrupt.meanwhile(Arc::downgrade(&beside));
        }
        let packing = match options.compress {
            Compression::None => None,
            Compression::Zstd(_) if spill.is_some() => {
                let fault = Fault::Unsupported {
                    engine: "stream".into(),
                    what: "compress steps that it may have to spill".into(),
                    instead: "leave `compress` out, or use another `policy` than `spill`".into(),
                };
                return Err(at(fault));
            }
            Compression::Zstd(level) => Some(Packing::new(level.into()).map_err(at)?),
        };
        let mut writer = Self {
            spill,
            schema: Arc::default(),
            info: info(options, &path_of(arguments.target)),
            limit_bytes: options.limit.0,
            is_patient: options.policy == Policy::Block,
            deadline: options.deadline,
            interrupt: arguments.interrupt.clone(),
            copies: arguments.copies.clone(),
            memory: Memory::new(
                arena,
                rank,
                match told.progress {
                    Progress::Threads => options.retain_steps,
                    // A thread would make it ready.
                    Progress::Manual { .. } => 0,
                },
                packing,
            ),
            subscribed,
            step: 0,
            ticket_told: false,
            alone: arguments.size == 1,
            own: None,
            root: None,
            root_ticket: None,
            to_root: None,
            stuck_bytes: 0,
            endpoint,
            told,
            place: place.clone(),
        };
        if let Some(root) = root {
            root.speak_through(&writer.endpoint);
            writer.root = Some(RootSide {
                root,
                contact: Some(writer.publish(arguments)?),
                open: None,
                tickets: Vec::new(),
                reach: None,
                ticket_told: false,
                noted: Time::default(),
                looked: Time::now(),
                successor: None,
                shares: Encoder::default(),
                bytes: Vec::new(),
                written: BTreeMap::new(),
                told: Vec::new(),
                freed: Vec::new(),
                is_done: false,
            });
        }
        Ok(writer)
    }

    /// Makes the contact file.
    fn publish(&self, arguments: &OpenArguments<'_>) -> Result<ContactFile, OpenError> {
        let path = path_of(arguments.target);
        let contact = Contact {
            stream: arguments.target.name.clone(),
            instance: self.told.instance,
            lives: self.told.lives.clone(),
            process: Process::own(),
            ranks: u32::try_from(arguments.size).unwrap_or(u32::MAX),
            key: self.told.key.clone(),
            ticket: self.endpoint.ticket().to_bytes(),
            silence_ms: self.told.progress.silence_ms(),
            distribution: arguments.target.options.distribution,
        };
        let at = |fault: Fault| OpenError::from(fault.at(self.place.clone()));
        let mut stale = self.told.stale;
        loop {
            match ContactFile::publish(&path, &contact, self.told.next_step, stale) {
                Ok(file) => return Ok(file),
                Err(Unpublished::Failed(fault)) => return Err(at(fault)),
                // Another writer came meanwhile: it lives, unless it died at once.
                Err(Unpublished::Taken) => {}
            }
            let options = &arguments.target.options;
            stale = match look(&path, options, arguments.wait).map_err(at)? {
                There::Alive(found) => return Err(busy(arguments, &found)),
                There::Stale(found) => Some(found.identity),
                There::Nobody => None,
            };
            arguments.wait.slice().map_err(|error| {
                at(Fault::wait(
                    error,
                    "another writer that makes its contact file",
                ))
            })?;
        }
    }
}

fn info(options: &Options, contact: &Path) -> EngineInfo {
    let transport = match options.transport {
        TransportChoice::Auto => "shm, tcp or rdma",
        TransportChoice::Shm => "shm",
        TransportChoice::Tcp => "tcp",
        TransportChoice::Rdma => "rdma",
    };
    let packed = match options.compress {
        Compression::None => String::new(),
        Compression::Zstd(level) => format!("; compress=zstd:{level}"),
    };
    EngineInfo {
        engine: "stream",
        transport: transport.into(),
        why: format!(
            "`stream:` was asked for; each reader takes the best that both sides have; contact file {}{packed}",
            contact.display()
        ),
    }
}
