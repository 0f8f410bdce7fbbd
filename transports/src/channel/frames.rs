//! Frames over a channel: what is sent, what is received, what is skipped.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use snow::StatelessTransportState;

use super::error::ChannelError;
use super::key::Role;
use super::socket::Socket;
use super::wire::{
    BODY_LENGTH_BYTES, BODY_PIECE_BYTES, FRAME_MIN_BYTES, HEAD_PIECE_BYTES, PREFIX_BYTES, Prefix,
    TAG_BYTES, parse_prefix, sealed_head_bytes,
};
use super::{ChannelCounters, ChannelLimits};
use crate::copy::copy_bytes;
use crate::time::Wait;

/// Sealed pieces are sent once so many bytes of them are there.
const SEALED_AT_ONCE_BYTES: usize = 4 * BODY_PIECE_BYTES;

/// What both directions share.
pub(super) struct Link {
    pub(super) socket: Socket,
    pub(super) noise: StatelessTransportState,
    pub(super) role: Role,
    pub(super) encrypt: bool,
    pub(super) limits: ChannelLimits,
    pub(super) spin: Duration,
    pub(super) counters: ChannelCounters,
}

/// An authenticated connection; both directions in one.
pub struct Channel {
    sender: Sender,
    receiver: Receiver,
}

/// The sending direction of a channel.
pub struct Sender {
    link: Arc<Link>,
    /// Noise messages sealed so far.
    nonce: u64,
    /// Prefix and sealed head, then sealed pieces of the body.
    sealed: Vec<u8>,
    /// Body length and head, then one piece of a body that lies in several
    /// slices.
    piece: Vec<u8>,
    ended: bool,
}

/// The receiving direction of a channel.
pub struct Receiver {
    link: Arc<Link>,
    /// Noise messages opened so far.
    nonce: u64,
    /// Prefix and sealed head, or a sealed piece, as far as `filled`.
    sealed: Vec<u8>,
    filled: usize,
    /// Body length and head, opened.
    head: Vec<u8>,
    body_left: u64,
    /// A piece that was opened, of which `piece_at..` is not delivered.
    piece: Vec<u8>,
    piece_at: usize,
    ended: bool,
}

/// A head, and the body that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The head's bytes, authentic.
    pub bytes: &'a [u8],
    /// Length of the body, authentic; get it by [`Receiver::receive_body`].
    pub body_bytes: u64,
}

impl Channel {
    pub(super) fn new(link: Link) -> Self {
        let link = Arc::new(link);
        Self {
            sender: Sender {
                link: Arc::clone(&link),
                nonce: 0,
                sealed: Vec::new(),
                piece: Vec::new(),
                ended: false,
            },
            receiver: Receiver {
                link,
                nonce: 0,
                sealed: Vec::new(),
                filled: 0,
                head: Vec::new(),
                body_left: 0,
                piece: Vec::new(),
                piece_at: 0,
                ended: false,
            },
        }
    }

    /// What both directions share, and how many Noise messages were sealed and
    /// opened. Nothing may be half received.
    pub(super) fn into_link(self) -> (Arc<Link>, u64, u64) {
        (self.sender.link, self.sender.nonce, self.receiver.nonce)
    }

    /// The role whose key the connecting side has proven.
    #[must_use]
    pub fn role(&self) -> Role {
        self.sender.link.role
    }

    /// The other side.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.sender.link.socket.peer()
    }

    /// What this channel counts into.
    #[must_use]
    pub fn counters(&self) -> &ChannelCounters {
        &self.sender.link.counters
    }

    /// See [`Sender::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&mut self, head: &[u8], bodies: &[&[u8]], wait: &Wait) -> Result<(), ChannelError> {
        self.sender.send(head, bodies, wait)
    }

    /// See [`Receiver::receive_head`].
    ///
    /// # Errors
    /// As there.
    pub fn receive_head(&mut self, wait: &Wait) -> Result<Head<'_>, ChannelError> {
        self.receiver.receive_head(wait)
    }

    /// See [`Receiver::receive_body`].
    ///
    /// # Errors
    /// As there.
    pub fn receive_body(&mut self, into: &mut [u8], wait: &Wait) -> Result<(), ChannelError> {
        self.receiver.receive_body(into, wait)
    }

    /// See [`Receiver::body_left`].
    #[must_use]
    pub fn body_left(&self) -> u64 {
        self.receiver.body_left()
    }

    /// The two directions, for two threads. The connection ends when both
    /// are dropped, or by `close` of either.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Ends both directions now.
    pub fn close(&self) {
        self.sender.close();
    }
}

impl AsFd for Channel {
    /// Readable when there is something to receive.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl Sender {
    /// The other side.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.link.socket.peer()
    }

    /// Ends both directions now, also for a thread that waits in either.
    pub fn close(&self) {
        self.link.socket.close();
    }

    /// Sends one frame: `head`, and the bytes of `bodies` in turn as its
    /// body, in one system call where the socket takes them. Both are only
    /// read, and no longer needed when this returns. The bytes of a raw body
    /// are not protected: see the module.
    ///
    /// # Errors
    /// [`ChannelError::TooLarge`] beyond this side's limits, with nothing
    /// sent. After any other error the channel has ended, unless it is a
    /// [`ChannelError::Wait`] that came before the first byte went out: then
    /// nothing was sent and it can be tried again.
    pub fn send(&mut self, head: &[u8], bodies: &[&[u8]], wait: &Wait) -> Result<(), ChannelError> {
        let peer = self.peer();
        if self.ended {
            return Err(ChannelError::Closed {
                peer,
                during: "send",
            });
        }
        let link = Arc::clone(&self.link);
        let body_bytes = bodies.iter().map(|body| body.len() as u64).sum();
        let head_limit = u64::from(link.limits.head_bytes);
        check_limit(peer, "a head", head.len() as u64, head_limit)?;
        check_limit(peer, "a body", body_bytes, link.limits.body_bytes)?;
        let before = self.nonce;
        let mut sent = 0;
        let result = self.send_frame(&link, head, bodies, body_bytes, &mut sent, wait);
        match &result {
            Ok(()) => link.counters.0.sent.add(head.len(), body_bytes),
            // What was sealed never left, so its nonces are free again.
            Err(ChannelError::Wait { .. }) if sent == 0 => self.nonce = before,
            Err(_) => {
                self.ended = true;
                self.close();
            }
        }
        result
    }

    fn send_frame(
        &mut self,
        link: &Link,
        head: &[u8],
        bodies: &[&[u8]],
        body_bytes: u64,
        sent: &mut u64,
        wait: &Wait,
    ) -> Result<(), ChannelError> {
        let prefix = Prefix {
            // Below the limit, which is a u32.
            head_bytes: head.len() as u32,
            body_bytes,
        };
        self.sealed.clear();
        self.sealed.extend_from_slice(&prefix.to_bytes());
        self.seal_head(link, head, body_bytes)?;
        if link.encrypt {
            return self.send_sealed(link, bodies, sent, wait);
        }
        let mut slices = Vec::with_capacity(1 + bodies.len());
        slices.push(IoSlice::new(&self.sealed));
        slices.extend(bodies.iter().map(|body| IoSlice::new(body)));
        link.socket.send_all(&mut slices, sent, "send", wait)
    }

    fn seal_head(&mut self, link: &Link, head: &[u8], body_bytes: u64) -> Result<(), ChannelError> {
        let mut plain = std::mem::take(&mut self.piece);
        plain.clear();
        plain.extend_from_slice(&body_bytes.to_le_bytes());
        plain.extend_from_slice(head);
        let mut pieces = plain.chunks(HEAD_PIECE_BYTES);
        let result =
            pieces.try_for_each(|piece| seal(link, &mut self.nonce, piece, &mut self.sealed));
        self.piece = plain;
        result
    }

    /// Sends what is sealed, and the body in sealed pieces, each of the full
    /// length but the last, whatever slices it lies in.
    fn send_sealed(
        &mut self,
        link: &Link,
        bodies: &[&[u8]],
        sent: &mut u64,
        wait: &Wait,
    ) -> Result<(), ChannelError> {
        self.piece.clear();
        for body in bodies {
            let mut rest = *body;
            while !rest.is_empty() {
                if self.piece.is_empty() && rest.len() >= BODY_PIECE_BYTES {
                    let (piece, after) = rest.split_at(BODY_PIECE_BYTES);
                    seal(link, &mut self.nonce, piece, &mut self.sealed)?;
                    rest = after;
                } else {
                    let take = rest.len().min(BODY_PIECE_BYTES - self.piece.len());
                    let (piece, after) = rest.split_at(take);
                    let at = self.piece.len();
                    self.piece.resize(at + take, 0);
                    copy_bytes(&mut self.piece[at..], piece, link.counters.copies());
                    rest = after;
                    if self.piece.len() == BODY_PIECE_BYTES {
                        seal(link, &mut self.nonce, &self.piece, &mut self.sealed)?;
                        self.piece.clear();
                    }
                }
                if self.sealed.len() >= SEALED_AT_ONCE_BYTES {
                    self.flush(link, sent, wait)?;
                }
            }
        }
        if !self.piece.is_empty() {
            seal(link, &mut self.nonce, &self.piece, &mut self.sealed)?;
        }
        self.flush(link, sent, wait)
    }

    fn flush(&mut self, link: &Link, sent: &mut u64, wait: &Wait) -> Result<(), ChannelError> {
        let mut slices = [IoSlice::new(&self.sealed)];
        link.socket.send_all(&mut slices, sent, "send", wait)?;
        self.sealed.clear();
        Ok(())
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.socket.as_fd()
    }
}

impl Receiver {
    /// The other side.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.link.socket.peer()
    }

    /// Ends both directions now, also for a thread that waits in either.
    pub fn close(&self) {
        self.link.socket.close();
    }

    /// Bytes of the present body not received yet.
    #[must_use]
    pub fn body_left(&self) -> u64 {
        self.body_left
    }

    /// Receives the next head; what is left of the body before is skipped.
    ///
    /// # Errors
    /// After a [`ChannelError::Wait`] it can be called again and takes up
    /// where it was. After any other error the channel has ended.
    pub fn receive_head(&mut self, wait: &Wait) -> Result<Head<'_>, ChannelError> {
        self.guarded("receive_head", |this| {
            this.skip_body(wait)?;
            this.receive_frame_head(wait)
        })?;
        Ok(Head {
            bytes: &self.head[BODY_LENGTH_BYTES..],
            body_bytes: self.body_left,
        })
    }

    /// Fills `into` with the next bytes of the present body; any number of
    /// calls until none is left.
    ///
    /// # Errors
    /// [`ChannelError::BodyEnds`] where `into` is longer than what is left,
    /// with nothing received. After a [`ChannelError::Wait`] as many bytes of
    /// `into` are filled as [`Receiver::body_left`] went down by. After any
    /// other error the channel has ended.
    pub fn receive_body(&mut self, into: &mut [u8], wait: &Wait) -> Result<(), ChannelError> {
        let asked = into.len() as u64;
        if asked > self.body_left && !self.ended {
            return Err(ChannelError::BodyEnds {
                peer: self.peer(),
                asked,
                left: self.body_left,
            });
        }
        self.guarded("receive_body", |this| this.receive_into(into, wait))
    }

    /// Ends the channel on errors that leave it in no known state.
    fn guarded<T>(
        &mut self,
        during: &'static str,
        receive: impl FnOnce(&mut Self) -> Result<T, ChannelError>,
    ) -> Result<T, ChannelError> {
        if self.ended {
            let peer = self.peer();
            return Err(ChannelError::Closed { peer, during });
        }
        let result = receive(self);
        if !matches!(result, Ok(_) | Err(ChannelError::Wait { .. })) {
            self.ended = true;
            self.close();
        }
        result
    }

    fn receive_frame_head(&mut self, wait: &Wait) -> Result<(), ChannelError> {
        let (link, during) = (&*self.link, "receive_head");
        let peer = link.socket.peer();
        if self.filled < FRAME_MIN_BYTES {
            self.sealed.resize(FRAME_MIN_BYTES, 0);
            let filled = &mut self.filled;
            link.socket
                .receive_all(&mut self.sealed, filled, link.spin, during, wait)?;
        }
        let mut prefix = [0; PREFIX_BYTES];
        prefix.copy_from_slice(&self.sealed[..PREFIX_BYTES]);
        let prefix = parse_prefix(&prefix);
        let head_limit = u64::from(link.limits.head_bytes);
        check_limit(peer, "a head", u64::from(prefix.head_bytes), head_limit)?;
        check_limit(peer, "a body", prefix.body_bytes, link.limits.body_bytes)?;
        let all = PREFIX_BYTES + sealed_head_bytes(prefix.head_bytes);
        self.sealed.resize(all, 0);
        let filled = &mut self.filled;
        link.socket
            .receive_all(&mut self.sealed, filled, Duration::ZERO, during, wait)?;
        self.filled = 0;
        self.open_head(prefix)
    }

    fn open_head(&mut self, prefix: Prefix) -> Result<(), ChannelError> {
        let link = &*self.link;
        self.head
            .resize(BODY_LENGTH_BYTES + prefix.head_bytes as usize, 0);
        let pieces = self.sealed[PREFIX_BYTES..].chunks(HEAD_PIECE_BYTES + TAG_BYTES);
        for (sealed, plain) in pieces.zip(self.head.chunks_mut(HEAD_PIECE_BYTES)) {
            open(link, &mut self.nonce, sealed, plain, "a head")?;
        }
        if self.head[..BODY_LENGTH_BYTES] != prefix.body_bytes.to_le_bytes() {
            let peer = link.socket.peer();
            return Err(ChannelError::Altered {
                peer,
                what: "a body's length",
            });
        }
        self.body_left = prefix.body_bytes;
        let head_bytes = prefix.head_bytes as usize;
        link.counters.0.received.add(head_bytes, prefix.body_bytes);
        Ok(())
    }

    /// Takes what is left of the present body off the wire.
    fn skip_body(&mut self, wait: &Wait) -> Result<(), ChannelError> {
        if self.body_left == 0 {
            return Ok(());
        }
        let mut nowhere = vec![0; BODY_PIECE_BYTES];
        while self.body_left > 0 {
            let some = self.body_left.min(BODY_PIECE_BYTES as u64) as usize;
            self.receive_into(&mut nowhere[..some], wait)?;
        }
        Ok(())
    }

    /// Fills `into`, which is no longer than what is left.
    fn receive_into(&mut self, into: &mut [u8], wait: &Wait) -> Result<(), ChannelError> {
        if self.link.encrypt {
            return self.receive_sealed(into, wait);
        }
        let mut filled = 0;
        let result =
            self.link
                .socket
                .receive_all(into, &mut filled, Duration::ZERO, "receive_body", wait);
        self.body_left -= filled as u64;
        result
    }

    fn receive_sealed(&mut self, into: &mut [u8], wait: &Wait) -> Result<(), ChannelError> {
        let link = Arc::clone(&self.link);
        let mut into = into;
        while !into.is_empty() {
            if self.piece_at < self.piece.len() {
                let rest = &self.piece[self.piece_at..];
                let take = rest.len().min(into.len());
                let (now, after) = into.split_at_mut(take);
                copy_bytes(now, &rest[..take], link.counters.copies());
                self.piece_at += take;
                self.body_left -= take as u64;
                into = after;
                continue;
            }
            let plain_bytes = self.body_left.min(BODY_PIECE_BYTES as u64) as usize;
            self.sealed.resize(plain_bytes + TAG_BYTES, 0);
            let filled = &mut self.filled;
            link.socket.receive_all(
                &mut self.sealed,
                filled,
                Duration::ZERO,
                "receive_body",
                wait,
            )?;
            self.filled = 0;
            if into.len() >= plain_bytes {
                let (now, after) = into.split_at_mut(plain_bytes);
                open(&link, &mut self.nonce, &self.sealed, now, "a body")?;
                self.body_left -= plain_bytes as u64;
                into = after;
            } else {
                self.piece.resize(plain_bytes, 0);
                self.piece_at = 0;
                open(
                    &link,
                    &mut self.nonce,
                    &self.sealed,
                    &mut self.piece,
                    "a body",
                )?;
            }
        }
        Ok(())
    }
}

impl AsFd for Receiver {
    /// Readable when there is something to receive.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.socket.as_fd()
    }
}

pub(super) fn check_limit(
    peer: SocketAddr,
    what: &'static str,
    bytes: u64,
    limit_bytes: u64,
) -> Result<(), ChannelError> {
    if bytes <= limit_bytes {
        return Ok(());
    }
    Err(ChannelError::TooLarge {
        peer,
        what,
        bytes,
        limit_bytes,
    })
}

/// Seals `plain` and appends it to `sealed`.
pub(super) fn seal(
    link: &Link,
    nonce: &mut u64,
    plain: &[u8],
    sealed: &mut Vec<u8>,
) -> Result<(), ChannelError> {
    let at = sealed.len();
    sealed.resize(at + plain.len() + TAG_BYTES, 0);
    link.noise
        .write_message(*nonce, plain, &mut sealed[at..])
        .map_err(|error| ChannelError::Io {
            peer: link.socket.peer(),
            during: "send",
            source: std::io::Error::other(error.to_string()),
        })?;
    *nonce += 1;
    Ok(())
}

/// Opens `sealed` into `plain`, which is shorter by [`TAG_BYTES`].
pub(super) fn open(
    link: &Link,
    nonce: &mut u64,
    sealed: &[u8],
    plain: &mut [u8],
    what: &'static str,
) -> Result<(), ChannelError> {
    link.noise
        .read_message(*nonce, sealed, plain)
        .map_err(|_| ChannelError::Altered {
            peer: link.socket.peer(),
            what,
        })?;
    *nonce += 1;
    Ok(())
}
