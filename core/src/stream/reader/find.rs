//! Finding the writer: by its contact file, or by its address and a key file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use panta_transports::channel::{ChannelError, Key};
use panta_transports::coupling::{
    Choice, CouplingError, Peer, PeerOptions, Progress, Ticket, TransportName, TriedWhy,
};
use panta_transports::time::{Interrupt, Wait, WaitError};

use super::super::address;
use super::super::contact::{self, Found, Instance, path_of};
use super::super::machine::{Join, Subscriber, SubscriberOptions};
use super::super::message::Greeting;
use super::super::process::Life;
use super::super::{fabric, progress};
use super::Released;
use super::link::Link;
use crate::codec::{Coded, Encoder};
use crate::config::{Options, TransportChoice};
use crate::engine::{OpenArguments, Start};
use crate::error::{Fault, OpenError, Place};
use crate::file::watch::{Patience, Watch};

/// Knows where a writer is to be found, and how to connect to it.
#[derive(Clone)]
pub(super) struct Finder {
    stream: String,
    ranks: u32,
    meeting: Meeting,
    manner: PeerOptions,
    interrupt: Interrupt,
}

/// Where a writer is to be found.
#[derive(Clone)]
enum Meeting {
    /// In a contact file.
    Contact(PathBuf),
    /// At one of these addresses, by this key.
    Address { names: Vec<String>, key: Key },
}

/// A life of a writer that was joined.
pub(super) struct Joined {
    pub(super) peer: Arc<Peer>,
    pub(super) instance: Instance,
    key: Key,
    /// How the root of this group is reached, in byte form; empty if it has no other rank.
    pub(super) root: Vec<u8>,
}

impl Joined {
    /// What its ranks must know to read from it.
    pub(super) fn life(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder
            .bytes(self.key.secret_bytes())
            .bytes(&self.root)
            .u64(self.peer.number().0);
        encoder.finish()
    }
}

/// Why there is nobody to join yet.
enum NotYet {
    /// No contact file, or one of a life that is over.
    Nobody,
    /// It says, or is given, where the writer is, but nobody answers there.
    Stale(String),
}

/// How ranks of a writer are connected to, but for their key.
pub(super) fn manner(options: &Options) -> PeerOptions {
    PeerOptions {
        encrypt: options.encrypt,
        choice: match options.transport {
            TransportChoice::Auto => Choice::Auto,
            TransportChoice::Shm => Choice::Only(TransportName::Shm),
            TransportChoice::Tcp => Choice::Only(TransportName::Tcp),
            TransportChoice::Rdma => Choice::Only(TransportName::Rdma),
        },
        lease: options.lease,
        progress: progress(options),
        spin: options.spin,
        fabric: fabric(options),
        // Replaced by the key of whoever is connected to.
        ..PeerOptions::new(Key::from_bytes([0; 32]))
    }
}

impl Finder {
    pub(super) fn new(arguments: &OpenArguments<'_>) -> Result<Self, OpenError> {
        let meeting = match address::of(arguments.target) {
            Some(names) => Meeting::Address {
                names: names.to_vec(),
                key: address::key_of_reader(arguments.target)?,
            },
            None => Meeting::Contact(path_of(arguments.target)),
        };
        Ok(Self {
            stream: arguments.target.name.clone(),
            ranks: u32::try_from(arguments.size).unwrap_or(u32::MAX),
            meeting,
            manner: manner(&arguments.target.options),
            interrupt: arguments.interrupt.clone(),
        })
    }

    /// From now on all waits of this handle show that it lives, where no thread does.
    pub(super) fn keep_alive(&self, peer: &Peer) {
        if self.manner.progress != Progress::Threads {
            self.interrupt.meanwhile(peer.meanwhile());
        }
    }

    /// Joins the writer; waits for it to come.
    pub(super) fn join(
        self,
        start: &Start,
        arguments: &OpenArguments<'_>,
        released: Released,
    ) -> Result<Link, OpenError> {
        let place = Place::stream(arguments.stream);
        let options = &arguments.target.options;
        let subscriber = Subscriber::new(SubscriberOptions {
            name: options.reader_group.clone().unwrap_or_default(),
            start: start.clone(),
            latest_only: options.latest_only,
            // The link says it by itself.
            alive_every: None,
        });
        let watch = match &self.meeting {
            Meeting::Contact(path) => match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => Watch::on(parent),
                _ => Watch::on(Path::new(".")),
            },
            Meeting::Address { .. } => None,
        };
        let mut patience = Patience::new();
        loop {
            let tried = self.try_join(subscriber.join(), None, arguments.wait);
            let why = match tried.map_err(|fault| fault.at(place.clone()))? {
                Ok(joined) => return Ok(Link::new(place, (self, joined), subscriber, released)),
                Err(why) => why,
            };
            match patience.pass(arguments.wait, watch.as_ref()) {
                Ok(()) => {}
                Err(WaitError::Deadline(after)) => {
                    return Err(OpenError::NotFound {
                        stream: arguments.stream.to_owned(),
                        what: self.missing(&why),
                        after,
                    });
                }
                Err(error) => {
                    return Err(Fault::wait(error, self.missing(&why)).at(place).into());
                }
            }
        }
    }

    fn missing(&self, why: &NotYet) -> String {
        let place = match &self.meeting {
            Meeting::Contact(path) => format!("contact file {}", path.display()),
            Meeting::Address { names, .. } => format!("at {}", names.join(",")),
        };
        match (why, &self.meeting) {
            (NotYet::Nobody, Meeting::Contact(_)) => format!("the {place}"),
            (NotYet::Nobody, Meeting::Address { .. }) => format!("a writer {place}"),
            (NotYet::Stale(how), _) => format!("a writer that answers ({how}; {place})"),
        }
    }

    /// The life of the writer that came after `instance`, if one has come.
    pub(super) fn successor(
        &self,
        instance: &Instance,
        join: Join,
        wait: &Wait,
    ) -> Result<Option<Joined>, Fault> {
        Ok(self.try_join(join, Some(instance), wait)?.ok())
    }

    fn try_join(
        &self,
        join: Join,
        not: Option<&Instance>,
        wait: &Wait,
    ) -> Result<Result<Joined, NotYet>, Fault> {
        let path = match &self.meeting {
            Meeting::Contact(path) => path,
            Meeting::Address { names, key } => {
                let not = not.map(address::endpoint);
                return self.connect_at(names, (key, not), join, wait);
            }
        };
        let Some(found) = contact::look(path)? else {
            return Ok(Err(NotYet::Nobody));
        };
        if not.is_some_and(|not| *not == found.contact.instance) {
            return Ok(Err(NotYet::Nobody));
        }
        self.connect_by(path, &found, join, wait)
    }

    /// Joins whoever answers at an address, but for the endpoint `not`.
    fn connect_at(
        &self,
        names: &[String],
        (key, not): (&Key, Option<u64>),
        join: Join,
        wait: &Wait,
    ) -> Result<Result<Joined, NotYet>, Fault> {
        let addresses = match address::resolve(names) {
            Ok(addresses) => addresses,
            // A name may come, as its host does.
            Err(fault) => return Ok(Err(NotYet::Stale(fault.to_string()))),
        };
        let options = PeerOptions {
            other_than: not,
            ..self.as_root(key, join)
        };
        let refused = |error: &CouplingError| Fault::Refused {
            peer: format!("the writer of `{}` at {}", self.stream, names.join(",")),
            why: error.to_string(),
        };
        match Peer::connect(&Ticket::of_any_at(addresses), &options, wait) {
            // Waiting would not help.
            Err(error @ CouplingError::Unreachable { .. }) if is_lasting(&error) => {
                Err(refused(&error))
            }
            connected => self.connected(connected, key, None),
        }
    }

    /// Joins the writer of a contact file.
    fn connect_by(
        &self,
        path: &Path,
        found: &Found,
        join: Join,
        wait: &Wait,
    ) -> Result<Result<Joined, NotYet>, Fault> {
        let writer = &found.contact;
        if writer.process.life() == Life::Gone {
            let how = format!("{} has ended and left its file", writer.process);
            return Ok(Err(NotYet::Stale(how)));
        }
        let ticket = Ticket::from_bytes(&writer.ticket).map_err(|error| Fault::Corrupt {
            what: format!("the contact file {}", path.display()),
            problem: error.to_string(),
        })?;
        let options = self.as_root(&writer.key, join);
        let connected = Peer::connect(&ticket, &options, wait);
        self.connected(connected, &writer.key, Some(writer.instance))
    }

    /// How the root of this group connects.
    fn as_root(&self, key: &Key, join: Join) -> PeerOptions {
        let greeting = Greeting::ReaderRoot {
            stream: self.stream.clone(),
            ranks: self.ranks,
            join,
        };
        PeerOptions {
            key: key.clone(),
            hello: greeting.to_bytes(),
            linked: true,
            ..self.manner.clone()
        }
    }

    /// What a connection, or none, means.
    fn connected(
        &self,
        connected: Result<Peer, CouplingError>,
        key: &Key,
        instance: Option<Instance>,
    ) -> Result<Result<Joined, NotYet>, Fault> {
        match connected {
            Ok(peer) => Ok(Ok(Joined {
                instance: instance.unwrap_or_else(|| address::instance(peer.instance())),
                peer: Arc::new(peer),
                key: key.clone(),
                root: Vec::new(),
            })),
            Err(CouplingError::NotReady { source, .. }) if source == WaitError::Interrupted => {
                Err(Fault::wait(source, "the writer to answer"))
            }
            Err(error @ (CouplingError::Unreachable { .. } | CouplingError::NotReady { .. })) => {
                Ok(Err(NotYet::Stale(error.to_string())))
            }
            Err(error) => Err(Fault::Refused {
                peer: format!("the writer of `{}`", self.stream),
                why: error.to_string(),
            }),
        }
    }
}

/// Whether somebody answered who will say the same next time.
fn is_lasting(error: &CouplingError) -> bool {
    let CouplingError::Unreachable { tried } = error else {
        return false;
    };
    tried.iter().any(|one| {
        matches!(
            one.why,
            TriedWhy::Channel(
                ChannelError::WrongKey { .. }
                    | ChannelError::WrongVersion { .. }
                    | ChannelError::EncryptionMismatch { .. }
                    | ChannelError::NotPanta { .. }
            )
        )
    })
}
