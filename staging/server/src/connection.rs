//! One connection: its thread reads requests, and sends all answers.
//!
//! A request is answered before the next is read, so a connection never has
//! more than one body in memory. Whatever a peer sends that is not the
//! protocol ends its connection and nothing else.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use panta_staging::proto::codec::{self, body_bytes};
use panta_staging::proto::message::{Kind, Message, Reason, Refused};
use panta_staging::proto::server::{Role, ServerEvent};
use panta_staging::proto::{ConnectionId, RegionId};
use panta_transports::channel::{self, Channel, ChannelError, Receiver, Sender};
use panta_transports::time::Wait;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::gather::gather;
use crate::hub::{Hub, Outgoing, Peer, quiet};
use crate::receive::receive_body;

/// The longest a peer may take for the rest of a head it has begun.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// The longest a peer may take to receive an answer.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// The longest a body waits for memory that other bodies have.
const ARRIVE_LIMIT: Duration = Duration::from_secs(30);
/// A scratch that grew beyond this is given back after the answer.
const SCRATCH_KEPT_BYTES: usize = 16 << 20;

/// Why a connection ended.
enum End {
    /// The peer has gone, or broke the rules of the channel.
    Channel(ChannelError),
    /// It broke the protocol.
    Protocol(String),
    /// The server stops.
    Stopped,
}

impl From<ChannelError> for End {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

/// Serves a connection until it ends.
pub(crate) fn serve(hub: &Hub, channel: Channel) {
    let address = channel.peer();
    let role = match channel.role() {
        channel::Role::Cluster => Role::Cluster,
        channel::Role::Writer => Role::Writer,
        channel::Role::Reader => Role::Reader,
    };
    let (connection, peer) = match hub.join() {
        Ok(joined) => joined,
        Err(error) => {
            tracing::warn!(peer = %address, %error, "connection refused");
            return;
        }
    };
    hub.handle(ServerEvent::Connected { connection, role }, None);
    let (sender, receiver) = channel.split();
    let mut served = Served {
        hub,
        connection,
        role,
        peer,
        sender,
        receiver,
        scratch: Vec::new(),
    };
    let end = served.run();
    hub.leave(connection);
    match end {
        Err(End::Channel(ChannelError::Closed { .. })) => {
            tracing::debug!(peer = %address, "connection closed");
        }
        Err(End::Channel(error)) => tracing::warn!(peer = %address, %error, "connection lost"),
        Err(End::Protocol(error)) => tracing::warn!(peer = %address, error, "connection ended"),
        Err(End::Stopped) | Ok(()) => {}
    }
}

struct Served<'a> {
    hub: &'a Hub,
    connection: ConnectionId,
    role: Role,
    peer: Arc<Peer>,
    sender: Sender,
    receiver: Receiver,
    scratch: Vec<u8>,
}

impl Served<'_> {
    fn run(&mut self) -> Result<(), End> {
        loop {
            let (readable, woken) = self.sleep()?;
            if self.hub.interrupt.is_set() {
                return Err(End::Stopped);
            }
            if woken {
                quiet(&self.peer.wake);
                for outgoing in self.peer.take_outbox() {
                    self.send(outgoing)?;
                }
            }
            if readable {
                for outgoing in self.receive()? {
                    self.send(outgoing)?;
                }
            }
        }
    }

    /// Until the peer says something or another thread left something to send.
    fn sleep(&self) -> Result<(bool, bool), End> {
        let mut fds = [
            PollFd::from_borrowed_fd(self.receiver.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.peer.wake.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty())),
            Err(Errno::INTR) => Ok((false, false)),
            Err(errno) => Err(End::Protocol(format!("poll failed: {errno}"))),
        }
    }

    /// Receives one request and gives it to the machine.
    fn receive(&mut self) -> Result<Vec<Outgoing>, End> {
        let wait = Wait::new(HEAD_LIMIT, &self.hub.interrupt);
        let head = self.receiver.receive_head(&wait)?;
        let announced = head.body_bytes;
        let message =
            codec::decode(head.bytes).map_err(|error| End::Protocol(error.to_string()))?;
        let expected = body_bytes(&message.kind);
        if expected.unwrap_or(0) != announced {
            let expected = expected.unwrap_or(0);
            return Err(End::Protocol(format!(
                "a body of {announced} bytes where the head says {expected}"
            )));
        }
        let body = match expected {
            // Who may not put is refused by the machine; the body is skipped.
            Some(bytes) if self.role != Role::Reader => match self.receive_put(&message, bytes)? {
                Ok(region) => Some(region),
                Err(refused) => {
                    let answer = Message::new(message.request, Kind::Refused(refused));
                    return Ok(vec![Outgoing::Message(answer)]);
                }
            },
            _ => None,
        };
        let event = ServerEvent::Message {
            connection: self.connection,
            message,
            body,
        };
        Ok(self.hub.handle(event, Some(self.connection)))
    }

    fn receive_put(
        &mut self,
        message: &Message,
        bytes: u64,
    ) -> Result<Result<RegionId, Refused>, End> {
        let hub = self.hub;
        let pieces = match &message.kind {
            Kind::Put(put) => &put.pieces[..],
            _ => return Err(End::Protocol("an answer where a request belongs".into())),
        };
        let Some(_share) = hub.arriving.admit(bytes, ARRIVE_LIMIT) else {
            let why = "other puts are arriving and take all the memory there is for that";
            return Ok(Err(Refused::new(Reason::Full, why)));
        };
        // Below the limit of a body, which the decoder has checked.
        let mut buffer = hub.pool.take(bytes as usize);
        let damage = receive_body(
            &mut self.receiver,
            buffer.bytes_mut(),
            pieces,
            &hub.interrupt,
        )?;
        match damage {
            None => Ok(Ok(hub.regions.keep(buffer))),
            Some(damage) => {
                hub.pool.give(buffer);
                Ok(Err(Refused::new(Reason::Malformed, damage)))
            }
        }
    }

    fn send(&mut self, outgoing: Outgoing) -> Result<(), End> {
        let wait = Wait::new(SEND_LIMIT, &self.hub.interrupt);
        match outgoing {
            Outgoing::Message(message) => {
                self.sender.send(&codec::encode(&message), &[], &wait)?;
            }
            Outgoing::Gather {
                request,
                mut got,
                parts,
                regions,
            } => {
                let mut scratch = std::mem::take(&mut self.scratch);
                let sent = match gather(&mut got, &parts, &regions, &mut scratch, &self.hub.copies)
                {
                    Ok(body) => {
                        let head = codec::encode(&Message::new(request, Kind::Got(got)));
                        self.sender.send(&head, &body, &wait)
                    }
                    Err(damage) => {
                        tracing::error!(damage, "stored data are damaged");
                        let refused = Kind::Refused(Refused::new(Reason::Incomplete, damage));
                        let head = codec::encode(&Message::new(request, refused));
                        self.sender.send(&head, &[], &wait)
                    }
                };
                if scratch.len() > SCRATCH_KEPT_BYTES {
                    scratch = Vec::new();
                }
                self.scratch = scratch;
                sent?;
            }
            Outgoing::Disconnect(reason) => return Err(End::Protocol(reason)),
        }
        Ok(())
    }
}
