//! From a ticket to a peer: every address is tried, then the transport is
//! settled.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::Peer;
use super::core::{Core, Looking, Sender, Terms, connector, lost_by_close};
use super::keeper;
use super::lane::Lane;
use super::rdma::RdmaData;
use super::shm::{RingMessages, ShmData};
use super::tcp::TcpData;
use super::transport::{Data, Messages};
use super::turn::Turn;
use crate::channel::{Channel, ChannelCounters, ChannelError, PolledReceiver};
use crate::coupling::options::{MIN_LEASE, NO_THREAD, lease_of};
use crate::coupling::wire::{Frame, Hello, Offer, milliseconds, parse_frame};
use crate::coupling::{
    Choice, CouplingError, Lost, PeerInfo, PeerOptions, Progress, Ticket, TransportName, Tried,
    TriedWhy,
};
use crate::rdma::{Fabric, FabricReader};
use crate::shm::{self, Rings, ShmOptions, ShmRemote};
use crate::time::{INTERRUPT_POLL, Wait, WaitError};

/// The least that an address gets of the deadline, so that a slow one does not
/// starve those after it, and a short deadline is not cut to nothing.
const LEAST_SHARE: Duration = Duration::from_millis(100);

/// How an attempt at one address ended, if not well.
enum Failed {
    /// The next address may be better.
    Here(TriedWhy),
    /// No address will do.
    Everywhere(CouplingError),
}

impl From<ChannelError> for Failed {
    fn from(error: ChannelError) -> Self {
        Self::Here(TriedWhy::Channel(error))
    }
}

pub(super) fn connect(
    ticket: &Ticket,
    options: &PeerOptions,
    wait: &Wait,
) -> Result<Peer, CouplingError> {
    if options.hello.len() as u64 > u64::from(options.limits.hello_bytes) {
        return Err(CouplingError::TooLarge {
            what: "a hello",
            bytes: options.hello.len() as u64,
            limit: u64::from(options.limits.hello_bytes),
        });
    }
    let mut tried = Vec::new();
    for (index, &address) in ticket.addresses.iter().enumerate() {
        let left = ticket.addresses.len() - index;
        // The last one has all that is left.
        let share = wait.deadline().remaining() / u32::try_from(left).unwrap_or(u32::MAX);
        let share = wait.at_most(if left == 1 {
            wait.deadline().remaining()
        } else {
            share.max(LEAST_SHARE)
        });
        match try_address(address, ticket, options, &share) {
            Ok(peer) => return Ok(peer),
            Err(Failed::Everywhere(error)) => return Err(error),
            Err(Failed::Here(why)) => tried.push(Tried { address, why }),
        }
        if let Err(WaitError::Interrupted) = wait.slice() {
            return Err(CouplingError::NotReady {
                address,
                during: "connect",
                source: WaitError::Interrupted,
            });
        }
    }
    Err(CouplingError::Unreachable { tried })
}

/// A connection on which the transport is being settled.
struct Settling<'o> {
    address: SocketAddr,
    options: &'o PeerOptions,
    sender: Sender,
    receiver: PolledReceiver,
}

fn try_address(
    address: SocketAddr,
    ticket: &Ticket,
    options: &PeerOptions,
    wait: &Wait,
) -> Result<Peer, Failed> {
    let counters = ChannelCounters::new();
    let channel = Channel::connect(address, &connector(options, &counters), wait)?;
    // Data is received where it belongs; messages are many and small.
    let (sender, receiver) = channel.into_polled(!options.linked);
    let mut settling = Settling {
        address,
        options,
        sender,
        receiver,
    };
    settling.send(&Frame::Hello(Hello {
        linked: options.linked,
        choice: options.choice,
        lease_ms: milliseconds(options.lease),
        silence_ms: options.progress.silence_ms(),
        message_bytes: options.limits.message_bytes,
        hello: &options.hello,
    }))?;
    let offer = settling.receive(wait, |frame| match frame {
        Frame::Offer(offer) => Some(offer),
        _ => None,
    })?;
    if !ticket.is_of(offer.instance) {
        return Err(Failed::Here(TriedWhy::OtherEndpoint));
    }
    if options.other_than == Some(offer.instance) {
        return Err(Failed::Here(TriedWhy::SameEndpoint));
    }
    let Chosen {
        transport,
        why,
        means,
    } = settling.choose(&offer, wait)?;
    settling.send(&Frame::Settle {
        transport,
        why: why.clone(),
    })?;
    let (peer, token) = settling.receive(wait, |frame| match frame {
        Frame::Welcome { peer, token } => Some((peer, token)),
        _ => None,
    })?;
    let info = PeerInfo {
        transport,
        why,
        address,
        linked: options.linked,
        lease: Duration::from_millis(u64::from(offer.lease_ms)).max(MIN_LEASE),
    };
    let terms = Terms {
        instance: offer.instance,
        lease: lease_of(offer.silence_ms, options.lease),
        peer,
        token,
        message_bytes: offer.message_bytes.min(options.limits.message_bytes),
        read_bytes: offer.read_bytes,
        read_pieces: offer.read_pieces,
        connections: offer.connections,
    };
    let Settling {
        sender, receiver, ..
    } = settling;
    let made = Core::new(options.clone(), info, terms, counters, sender, receiver);
    made.and_then(|(core, for_data)| finish(core, for_data, means))
        .map_err(Failed::Everywhere)
}

fn finish(
    core: Core,
    for_data: Option<(Sender, PolledReceiver)>,
    means: Means,
) -> Result<Peer, CouplingError> {
    let every = core.info.lease.min(core.options.lease.max(MIN_LEASE)) / 3;
    let has_thread = core.options.progress == Progress::Threads;
    // One round trip for the handshake, one for the offer, one to settle.
    core.counts.round_trips.add(3);
    let core = Arc::new(core);
    if core.info.linked && has_thread {
        keeper::keep(&core, every).map_err(|source| CouplingError::Io {
            during: "starting the thread for heartbeats",
            source,
        })?;
    }
    let first = for_data.map(|(sender, receiver)| Lane::new(sender, receiver));
    let mut messages: Option<Box<dyn Messages>> = None;
    let data: Box<dyn Data> = match means {
        Means::Channel => Box::new(TcpData::new(Arc::clone(&core), first)),
        Means::Memory(remote, rings) => {
            let remote = Arc::new(remote);
            keeper::watch(&remote);
            if let Some(rings) = *rings {
                let (core, remote) = (Arc::clone(&core), Arc::clone(&remote));
                messages = Some(Box::new(RingMessages::new(core, remote, rings)));
            }
            Box::new(ShmData::new(Arc::clone(&core), remote, first))
        }
        Means::Fabric(reader) => Box::new(RdmaData::new(Arc::clone(&core), *reader, first)),
    };
    tracing::debug!(
        "joined {} over {}: {}",
        core.info.address,
        core.info.transport.name(),
        core.info.why
    );
    Ok(Peer {
        data,
        messages,
        reading: Turn::default(),
        core,
    })
}

/// What was settled on.
struct Chosen {
    transport: TransportName,
    why: String,
    means: Means,
}

/// What the transport works with.
enum Means {
    Channel,
    Memory(ShmRemote, Box<Option<Rings>>),
    Fabric(Box<FabricReader>),
}

impl Chosen {
    fn tcp(why: &str) -> Self {
        Self {
            transport: TransportName::Tcp,
            why: why.to_owned(),
            means: Means::Channel,
        }
    }
}

impl Settling<'_> {
    fn send(&mut self, frame: &Frame<'_>) -> Result<(), Failed> {
        self.sender.queue(frame.to_bytes(), Vec::new())?;
        // What an empty socket does not take goes out while waiting.
        self.sender.flush(usize::MAX)?;
        Ok(())
    }

    /// The next frame, which must be what `wanted` picks.
    fn receive<T>(
        &mut self,
        wait: &Wait,
        wanted: impl Fn(Frame<'_>) -> Option<T>,
    ) -> Result<T, Failed> {
        let looking = Looking::new(self.options.spin);
        loop {
            if self.receiver.next_head(true)? {
                let frame = parse_frame(self.receiver.head());
                return match frame {
                    Ok(Frame::Close(lost)) => Err(self.closed(lost)),
                    Ok(frame) => wanted(frame).ok_or_else(|| bad("a frame out of turn")),
                    Err(error) => Err(bad(&error.to_string())),
                };
            }
            let mut flags = PollFlags::IN;
            if !self.sender.is_empty() {
                self.sender.flush(usize::MAX)?;
                flags |= PollFlags::OUT;
            }
            let mut fds = [PollFd::from_borrowed_fd(self.receiver.as_fd(), flags)];
            looking
                .pause(&mut fds, wait, INTERRUPT_POLL)
                .map_err(|end| Failed::Here(TriedWhy::Wait(end)))?;
        }
    }

    fn closed(&self, lost: Lost) -> Failed {
        let address = self.address;
        match lost_by_close(lost) {
            Lost::Dropped { why } => Failed::Everywhere(CouplingError::Refused { address, why }),
            _ => Failed::Everywhere(CouplingError::Refused {
                address,
                why: "it is closing".to_owned(),
            }),
        }
    }

    /// The transport to take, and why.
    fn choose(&self, offer: &Offer, wait: &Wait) -> Result<Chosen, Failed> {
        let choice = self.options.choice;
        let no = |why: String| {
            Failed::Everywhere(CouplingError::NoTransport {
                choice,
                address: self.address,
                why,
            })
        };
        let [shm, tcp, rdma] = &offer.transports;
        match choice {
            Choice::Only(TransportName::Tcp) => match tcp {
                Ok(_) => Ok(Chosen::tcp("it was asked for")),
                Err(why) => Err(no(why.clone())),
            },
            Choice::Only(TransportName::Shm) => self.share(shm, wait).map_err(no),
            Choice::Only(TransportName::Rdma) => self.reach(rdma).map_err(no),
            Choice::Auto => {
                let shm = match self.share(shm, wait) {
                    Ok(chosen) => return Ok(chosen),
                    Err(why) => why,
                };
                let rdma = match self.reach(rdma) {
                    Ok(chosen) => return Ok(chosen),
                    Err(why) => why,
                };
                let why = format!("no shm: {shm}; no rdma: {rdma}");
                match tcp {
                    Ok(_) => Ok(Chosen::tcp(&why)),
                    Err(tcp) => Err(no(format!("{why}; no tcp: {tcp}"))),
                }
            }
        }
    }

    /// Takes the offer of a fabric, if there is one here, too. What is offered
    /// unasked is hardware, and has a provider here only where that is.
    fn reach(&self, offer: &Result<Vec<u8>, String>) -> Result<Chosen, String> {
        let offer = offer.as_ref()?;
        if self.options.progress != Progress::Threads {
            return Err(NO_THREAD.to_owned());
        }
        let text = |error: crate::rdma::FabricError| error.to_string();
        let fabric = Fabric::load().map_err(text)?;
        let reader = FabricReader::new(&fabric, offer, &self.options.fabric).map_err(text)?;
        if let Some(asked) = &self.options.fabric.provider
            && !asked
                .split(';')
                .all(|part| reader.provider().split(';').any(|it| it == part))
        {
            let there = reader.provider();
            return Err(format!(
                "provider {asked} was asked for here, and the endpoint has {there}"
            ));
        }
        Ok(Chosen {
            transport: TransportName::Rdma,
            why: format!("both have provider {}", reader.provider()),
            means: Means::Fabric(Box::new(reader)),
        })
    }

    /// Takes the offer of shared memory, if it can be taken from here.
    fn share(&self, offer: &Result<Vec<u8>, String>, wait: &Wait) -> Result<Chosen, String> {
        let offer = shm::Offer::from_bytes(offer.as_ref()?).map_err(|error| error.to_string())?;
        let options = ShmOptions {
            message_bytes: self.options.limits.message_bytes,
            ..ShmOptions::default()
        };
        let remote = ShmRemote::connect(&offer, self.options.linked, &options, wait);
        let (remote, rings) = remote.map_err(|error| error.to_string())?;
        Ok(Chosen {
            transport: TransportName::Shm,
            why: "both are on one node, as a nonce read through shared memory shows".to_owned(),
            means: Means::Memory(remote, Box::new(rings)),
        })
    }
}

fn bad(what: &str) -> Failed {
    Failed::Here(TriedWhy::Misbehaved(what.to_owned()))
}
