//! Messages of peers that share memory: rings, which somebody has to look
//! into.
//!
//! ```text
//!   nobody in a call      attention idle: the bell is rung for what is urgent,
//!                         and before the ring is full; it wakes the endpoint's thread
//!   inside drive, looking attention awake: no bell
//!   inside drive, asleep  attention asleep: any message rings, and wakes the
//!                         driver; the thread does not listen meanwhile
//! ```

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::{PeerState, Shared, lock};
use crate::coupling::{CouplingError, Lost, PeerId};
use crate::shm::{Attention, RingError, RingReader, RingWriter, Rings, Rouse};

/// Messages taken from one ring before others have their turn.
const TURN_MESSAGES: usize = 64;

/// How long whoever sends gives a full ring's other side, if that receives meanwhile.
const PATIENCE: Duration = Duration::from_micros(20);

/// The rings of a linked peer.
pub(super) struct PeerRings {
    reader: Mutex<Reading>,
    writer: Mutex<Writing>,
}

struct Reading {
    reader: RingReader,
    message: Vec<u8>,
}

struct Writing {
    writer: RingWriter,
    /// Messages that the ring has not taken, and how much of the first it has.
    queue: VecDeque<Vec<u8>>,
    queued_bytes: u64,
    sent: u64,
}

/// All rings of an endpoint.
pub(super) struct AllRings {
    /// A list of its own for whoever goes through it, made anew when it changes.
    peers: Mutex<Arc<Vec<Arc<PeerState>>>>,
    /// The bells of all of them; the thread's `epoll` looks at this one.
    pub(super) bells: OwnedFd,
}

fn misbehaved(error: &RingError) -> Lost {
    Lost::Misbehaved {
        what: error.to_string(),
    }
}

impl PeerRings {
    pub(super) fn new(rings: Rings) -> Self {
        Self {
            reader: Mutex::new(Reading {
                reader: rings.reader,
                message: Vec::new(),
            }),
            writer: Mutex::new(Writing {
                writer: rings.writer,
                queue: VecDeque::new(),
                queued_bytes: 0,
                sent: 0,
            }),
        }
    }

    /// Sends a message, now or when there is room; false where so much waits
    /// already that this would be more than `limit_bytes`.
    pub(super) fn send(&self, parts: &[&[u8]], limit_bytes: u64) -> Result<bool, Lost> {
        let mut writing = lock(&self.writer);
        let failed = |error| misbehaved(&error);
        if writing.try_send(parts).map_err(failed)? {
            return Ok(true);
        }
        // One that is a whole ring behind and catching up is better waited for than
        // left behind further: what waits in the queue is no longer in any cache.
        if writing.writer.give_time(PATIENCE).map_err(failed)? {
            writing.pump().map_err(failed)?;
            if writing.try_send(parts).map_err(failed)? {
                return Ok(true);
            }
        }
        let message = parts.concat();
        let waiting = writing.queued_bytes + message.len() as u64;
        if waiting > limit_bytes && !writing.queue.is_empty() {
            return Ok(false);
        }
        writing.queued_bytes = waiting;
        writing.queue.push_back(message);
        writing.pump().map_err(failed)?;
        Ok(true)
    }

    /// Sends what waits, after the other side has made room.
    pub(super) fn make_use_of_room(&self) -> Result<(), Lost> {
        let mut writing = lock(&self.writer);
        let pumped = writing.writer.silence().and_then(|()| writing.pump());
        pumped.map_err(|error| misbehaved(&error))
    }

    /// Calls `call` with the descriptor that says that there is room.
    pub(super) fn with_room_bell<T>(&self, call: impl FnOnce(&RingWriter) -> T) -> T {
        call(&lock(&self.writer).writer)
    }
}

impl Writing {
    /// Sends a message, unless others wait or there is no room for it at once.
    fn try_send(&mut self, parts: &[&[u8]]) -> Result<bool, RingError> {
        if !self.queue.is_empty() {
            return Ok(false);
        }
        match self.writer.try_send(parts, Rouse::Sleeper) {
            // Larger than the ring: it goes through in pieces.
            Err(RingError::TooLarge { .. }) => Ok(false),
            sent => sent,
        }
    }

    /// Puts what waits into the ring; asks for the bell where it is full.
    fn pump(&mut self) -> Result<(), RingError> {
        let mut is_asking = false;
        while let Some(message) = self.queue.front() {
            let parts = [message.as_slice()];
            let before = self.sent;
            if self
                .writer
                .try_stream(&parts, &mut self.sent, Rouse::Sleeper)?
            {
                self.sent = 0;
                self.queued_bytes -= message.len() as u64;
                self.queue.pop_front();
            } else if self.sent == before {
                // Asked first, then tried again, or the room might be made
                // between the two.
                if is_asking {
                    return Ok(());
                }
                self.writer.set_attention(Attention::Asleep);
                is_asking = true;
            }
        }
        if is_asking {
            self.writer.set_attention(Attention::Awake);
        }
        Ok(())
    }
}

impl AllRings {
    pub(super) fn new() -> Result<Self, CouplingError> {
        let bells = epoll::create(epoll::CreateFlags::CLOEXEC);
        Ok(Self {
            peers: Mutex::default(),
            bells: bells.map_err(super::io("making an epoll"))?,
        })
    }

    pub(super) fn add(&self, peer: &Arc<PeerState>) -> Result<(), Errno> {
        let Some(rings) = &peer.rings else {
            return Ok(());
        };
        let mut reading = lock(&rings.reader);
        let data = epoll::EventData::new_u64(peer.id.0);
        epoll::add(&self.bells, &reading.reader, data, epoll::EventFlags::IN)?;
        reading.reader.set_attention(Attention::Idle);
        drop(reading);
        Arc::make_mut(&mut lock(&self.peers)).push(Arc::clone(peer));
        Ok(())
    }

    pub(super) fn remove(&self, peer: &PeerState) {
        Arc::make_mut(&mut lock(&self.peers)).retain(|one| one.id != peer.id);
        if let Some(rings) = &peer.rings {
            // It was added, or was not: either will do.
            let _ = epoll::delete(&self.bells, &lock(&rings.reader).reader);
        }
    }

    fn has_something(&self) -> bool {
        let peers = lock(&self.peers);
        peers.iter().any(|peer| {
            let reading = peer.rings.as_ref().map(|rings| rings.reader.try_lock());
            // One that is locked is being emptied.
            matches!(reading, Some(Ok(reading)) if reading.reader.has_something())
        })
    }

    fn peers(&self) -> Arc<Vec<Arc<PeerState>>> {
        Arc::clone(&lock(&self.peers))
    }

    /// The peers whose bells were rung, which are made silent.
    fn rung(&self) -> Vec<PeerId> {
        let mut events = Vec::with_capacity(64);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        // It is asked again when something is left.
        let _ = epoll::wait(&self.bells, buffer, Some(&Timespec::default()));
        events
            .iter()
            .map(|event| PeerId(event.data.u64()))
            .collect()
    }
}

impl Shared {
    /// Hands over what lies in rings; how many messages that were.
    pub(super) fn poll_rings(&self) -> usize {
        if !self.rings.has_something() {
            return 0;
        }
        let peers = self.rings.peers();
        peers
            .iter()
            .map(|peer| self.poll_ring(peer, TURN_MESSAGES))
            .sum()
    }

    /// Hands over at most so many messages of one peer.
    pub(super) fn poll_ring(&self, peer: &PeerState, most: usize) -> usize {
        let Some(rings) = &peer.rings else {
            return 0;
        };
        let mut count = 0;
        // The turn comes first: what is taken first is told first.
        self.delivery.in_turn(|| {
            let mut reading = lock(&rings.reader);
            let Reading { reader, message } = &mut *reading;
            while count < most {
                match reader.try_receive(message) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        self.lose_later(peer, misbehaved(&error));
                        break;
                    }
                }
                if peer.is_told_lost.load(Ordering::Acquire) {
                    break;
                }
                count += 1;
                self.counts.messages_received.add(1);
                self.handler.message(peer.id, message);
            }
            count
        })
    }

    /// Hands over what was urgent; the bells are silent then.
    pub(super) fn answer_bells(&self) {
        for id in self.rings.rung() {
            let Some(peer) = lock(&self.peers).get(&id).cloned() else {
                continue;
            };
            if let Some(rings) = &peer.rings {
                let mut reading = lock(&rings.reader);
                // It fails only where the bell is none, which harms its peer.
                let _ = reading.reader.silence();
                reading.reader.set_attention(Attention::Idle);
            }
            while self.poll_ring(&peer, TURN_MESSAGES) == TURN_MESSAGES {}
        }
    }

    /// Says how all rings are looked at from now on. The caller polls once
    /// more afterwards, for what came without a bell.
    pub(super) fn attend(&self, attention: Attention) {
        for peer in lock(&self.rings.peers).iter() {
            if let Some(rings) = &peer.rings {
                lock(&rings.reader).reader.set_attention(attention);
            }
        }
    }

    /// Whether there is any ring.
    pub(super) fn has_rings(&self) -> bool {
        !lock(&self.rings.peers).is_empty()
    }

    /// The thread listens to bells, or leaves them to the driver.
    pub(super) fn listen_to_bells(&self, is_listening: bool) {
        let flags = if is_listening {
            epoll::EventFlags::IN
        } else {
            epoll::EventFlags::empty()
        };
        let data = epoll::EventData::new_u64(super::reactor::BELLS);
        // Both descriptors are this endpoint's own.
        let _ = epoll::modify(&self.epoll, self.rings.bells.as_fd(), data, flags);
    }
}
