//! Finding the writer: by its contact file, or by its address and a key file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use panta_transports::channel::Key;
use panta_transports::coupling::{Choice, CouplingError, Peer, PeerOptions, Ticket, TransportName};
use panta_transports::time::{Wait, WaitError};

use super::super::contact::{self, Found, Instance, path_of};
use super::super::machine::{Join, Subscriber, SubscriberOptions};
use super::super::message::Greeting;
use super::super::process::Life;
use super::Released;
use super::link::Link;
use crate::codec::{Coded, Encoder};
use crate::config::TransportChoice;
use crate::engine::{OpenArguments, Start};
use crate::error::{Fault, OpenError, Place};
use crate::file::watch::{Patience, Watch};

/// Knows where a writer is to be found, and how to connect to it.
#[derive(Clone)]
pub(super) struct Finder {
    stream: String,
    ranks: u32,
    contact: PathBuf,
    manner: PeerOptions,
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
        encoder.bytes(self.key.secret_bytes()).bytes(&self.root);
        encoder.finish()
    }
}

/// Why there is nobody to join yet.
enum NotYet {
    /// No contact file.
    Nobody,
    /// There is one, but nobody answers.
    Stale(String),
}

impl Finder {
    pub(super) fn new(arguments: &OpenArguments<'_>) -> Self {
        let options = &arguments.target.options;
        let choice = match options.transport {
            TransportChoice::Auto => Choice::Auto,
            TransportChoice::Shm => Choice::Only(TransportName::Shm),
            TransportChoice::Tcp => Choice::Only(TransportName::Tcp),
            TransportChoice::Rdma => Choice::Only(TransportName::Rdma),
        };
        Self {
            stream: arguments.target.name.clone(),
            ranks: u32::try_from(arguments.size).unwrap_or(u32::MAX),
            contact: path_of(arguments.target),
            manner: PeerOptions {
                encrypt: options.encrypt,
                choice,
                lease: options.lease,
                spin: options.spin,
                // Replaced by the key of whoever is connected to.
                ..PeerOptions::new(Key::from_bytes([0; 32]))
            },
        }
    }

    pub(super) fn manner(&self) -> PeerOptions {
        self.manner.clone()
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
        let directory = match self.contact.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let watch = Watch::on(directory);
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
        let path = self.contact.display();
        match why {
            NotYet::Nobody => format!("the contact file {path}"),
            NotYet::Stale(how) => format!("a writer that answers ({how}; contact file {path})"),
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
        let Some(found) = contact::look(&self.contact)? else {
            return Ok(Err(NotYet::Nobody));
        };
        if not.is_some_and(|not| *not == found.contact.instance) {
            return Ok(Err(NotYet::Nobody));
        }
        self.connect(&found, join, wait)
    }

    fn connect(
        &self,
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
            what: format!("the contact file {}", self.contact.display()),
            problem: error.to_string(),
        })?;
        let greeting = Greeting::ReaderRoot {
            stream: self.stream.clone(),
            ranks: self.ranks,
            join,
        };
        let options = PeerOptions {
            key: writer.key.clone(),
            hello: greeting.to_bytes(),
            linked: true,
            ..self.manner.clone()
        };
        match Peer::connect(&ticket, &options, wait) {
            Ok(peer) => Ok(Ok(Joined {
                peer: Arc::new(peer),
                instance: writer.instance,
                key: writer.key.clone(),
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
