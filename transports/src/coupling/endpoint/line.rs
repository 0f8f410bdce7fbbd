//! The sending side of a connection, which callers' threads and the
//! endpoint's own use: frames are sent at once as far as the socket takes
//! them; `epoll` says when it takes the rest.

use std::sync::{Arc, Mutex};

use rustix::event::epoll;

use super::{Shared, lock};
use crate::channel::{Flushed, PolledSender};
use crate::coupling::{Lost, PieceRef, wire};
use crate::region::{Arena, Region};

/// Bytes sent on one connection before others have their turn.
const TURN_BYTES: usize = 4 << 20;

/// A connection's number in `epoll`, and its sending side.
pub(super) struct Line {
    pub(super) token: u64,
    sending: Mutex<Sending>,
}

struct Sending {
    sender: PolledSender<Exposed>,
    /// Whether `epoll` was asked to say when the socket takes more.
    is_watched: bool,
}

/// How much is on its way, for the limits of reads.
pub(super) struct Load {
    pub(super) body_bytes: u64,
    pub(super) parts: usize,
}

impl Line {
    pub(super) fn new(token: u64, sender: PolledSender<Exposed>) -> Arc<Self> {
        Arc::new(Self {
            token,
            sending: Mutex::new(Sending {
                sender,
                is_watched: false,
            }),
        })
    }

    /// Sends a frame, now or later. What fails is seen by the thread, whose
    /// `epoll` tells of it.
    pub(super) fn send(&self, shared: &Shared, head: Vec<u8>, parts: Vec<Exposed>) {
        let mut sending = lock(&self.sending);
        if sending.sender.queue(head, parts).is_ok() {
            sending.flush(shared, self.token);
        }
    }

    /// Sends frames one after the other, in as few system calls as the socket
    /// allows.
    pub(super) fn send_all(&self, shared: &Shared, frames: Vec<(Vec<u8>, Vec<Exposed>)>) {
        let mut sending = lock(&self.sending);
        for (head, parts) in frames {
            if sending.sender.queue(head, parts).is_err() {
                return;
            }
        }
        sending.flush(shared, self.token);
    }

    /// Whether a message of so many bytes keeps to what may wait.
    pub(super) fn has_room(&self, bytes: usize, limit_bytes: u64) -> bool {
        let waiting = lock(&self.sending).sender.waiting_bytes();
        waiting == 0 || waiting + (bytes as u64) < limit_bytes
    }

    /// As [`Line::send`]; false, with nothing sent, where so much waits
    /// already that this would be more than `limit_bytes`.
    pub(super) fn send_message(&self, shared: &Shared, head: Vec<u8>, limit_bytes: u64) -> bool {
        let mut sending = lock(&self.sending);
        let waiting = sending.sender.waiting_bytes();
        if waiting > 0 && waiting + head.len() as u64 > limit_bytes {
            return false;
        }
        if sending.sender.queue(head, Vec::new()).is_ok() {
            sending.flush(shared, self.token);
        }
        true
    }

    /// A sign of life, unless other bytes are on their way anyway.
    pub(super) fn send_heartbeat(&self, shared: &Shared) {
        let mut sending = lock(&self.sending);
        if sending.sender.is_empty()
            && sending
                .sender
                .queue(wire::Frame::Heartbeat.to_bytes(), Vec::new())
                .is_ok()
        {
            sending.flush(shared, self.token);
        }
    }

    /// Sends the last frame, if the socket takes it, and closes.
    pub(super) fn close(&self, lost: &Lost) {
        let mut sending = lock(&self.sending);
        // The frame is a courtesy; a reader that is not there gets the end.
        let head = wire::Frame::Close(lost.clone()).to_bytes();
        if sending.sender.queue(head, Vec::new()).is_ok() {
            let _ = sending.sender.flush(TURN_BYTES);
        }
        sending.sender.close();
    }

    /// Sends what waits, after `epoll` said that the socket takes more.
    pub(super) fn flush(&self, shared: &Shared) {
        lock(&self.sending).flush(shared, self.token);
    }

    pub(super) fn load(&self) -> Load {
        let sending = lock(&self.sending);
        Load {
            body_bytes: sending.sender.waiting_body_bytes(),
            parts: sending.sender.waiting_parts(),
        }
    }
}

impl Sending {
    fn flush(&mut self, shared: &Shared, token: u64) {
        let is_done = match self.sender.flush(TURN_BYTES) {
            Ok(flushed) => flushed == Flushed::All,
            // The connection is shut, which `epoll` says to the thread.
            Err(_) => true,
        };
        if is_done == self.is_watched {
            self.is_watched = !is_done;
            let mut flags = epoll::EventFlags::IN;
            if !is_done {
                flags |= epoll::EventFlags::OUT;
            }
            let data = epoll::EventData::new_u64(token);
            // It fails where the thread has let go of the connection already.
            let _ = epoll::modify(&shared.epoll, &self.sender, data, flags);
        }
    }
}

/// Bytes of a region that are to be sent.
pub(super) struct Exposed {
    region: Arc<Region>,
    offset: u64,
    bytes: usize,
}

impl Exposed {
    /// The bytes of all pieces, each of which lies in a live region; else the
    /// index of the first that does not.
    pub(super) fn all(
        arena: &Arena,
        pieces: impl Iterator<Item = PieceRef>,
    ) -> Result<Vec<Self>, u32> {
        let mut parts: Vec<Self> = Vec::with_capacity(pieces.size_hint().0);
        for (index, piece) in pieces.enumerate() {
            // Pieces that follow each other mostly lie in one region.
            let region = parts
                .last()
                .filter(|last| last.region.id() == piece.region)
                .map(|last| Arc::clone(&last.region))
                .or_else(|| arena.region(piece.region));
            let part = region.and_then(|region| Self::new(region, piece));
            // Fewer than the frame has bytes.
            parts.push(part.ok_or(index as u32)?);
        }
        Ok(parts)
    }

    fn new(region: Arc<Region>, piece: PieceRef) -> Option<Self> {
        let bytes = usize::try_from(piece.bytes).ok()?;
        region.range(piece.offset, bytes)?;
        Some(Self {
            region,
            offset: piece.offset,
            bytes,
        })
    }
}

impl AsRef<[u8]> for Exposed {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: nobody writes to what a peer may read: see the module
        // `coupling`. Should somebody all the same, the peer gets bytes whose
        // checksums are wrong; nothing here depends on what they are.
        let slice = unsafe { self.region.slice(self.offset, self.bytes) };
        // Looked at when it was made, and a region's size never changes.
        slice.unwrap_or_default()
    }
}
