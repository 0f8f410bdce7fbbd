//! What peers say, one frame after the other, and what is answered.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::line::{Exposed, Line};
use super::reactor::Reactor;
use super::rings::PeerRings;
use super::{DataLines, PeerState, lock};
use crate::channel::{Channel, ChannelError, PolledReceiver};
use crate::coupling::options::{MIN_LEASE, lease_of};
use crate::coupling::wire::{Frame, Hello, Join, Offer, Pieces, milliseconds, parse_frame};
use crate::coupling::{Choice, Lost, PeerId, PeerInfo, TransportName};
use crate::random;
use crate::shm::Rings;

/// An authenticated connection.
pub(super) struct Connection {
    pub(super) line: Arc<Line>,
    receiver: PolledReceiver,
    state: State,
}

enum State {
    /// Has not said who it is.
    Greeting,
    /// Was offered transports.
    Settling(Box<Greeted>),
    /// Is a peer's.
    Joined { peer: Arc<PeerState>, is_main: bool },
}

/// What a peer has said of itself.
struct Greeted {
    linked: bool,
    choice: Choice,
    lease: Duration,
    /// How long it may be silent itself.
    silent: Duration,
    message_bytes: u32,
    hello: Vec<u8>,
    /// Whether it has taken the offer of shared memory, and what came of it.
    shm: Option<Option<Rings>>,
}

impl Connection {
    pub(super) fn new(token: u64, channel: Channel) -> Self {
        let (sender, receiver) = channel.into_polled(false);
        Self {
            line: Line::new(token, sender),
            receiver,
            state: State::Greeting,
        }
    }

    /// It has taken the offer of shared memory.
    pub(super) fn take_shm(&mut self, rings: Option<Rings>) {
        if let State::Settling(greeted) = &mut self.state {
            greeted.shm = Some(rings);
        }
    }

    /// Whose it is, and whether it is that peer's first.
    pub(super) fn peer(&self) -> Option<(PeerId, bool)> {
        match &self.state {
            State::Joined { peer, is_main } => Some((peer.id, *is_main)),
            State::Greeting | State::Settling(_) => None,
        }
    }
}

impl DataLines {
    /// A connection is no more.
    pub(super) fn forget(&mut self, token: u64) {
        self.lines.retain(|line| line.token != token);
    }

    /// The peer takes so many bytes more; beyond the limit they are not used.
    fn widen(&mut self, bytes: u64, limit_bytes: u64) {
        let more = bytes.min(limit_bytes.saturating_sub(self.push_window_bytes));
        self.push_window_bytes += more;
        self.push_credit_bytes += more;
    }

    /// The peer has taken pushed bytes.
    fn credit(&mut self, bytes: u64) -> Result<(), Lost> {
        let credit = self.push_credit_bytes.saturating_add(bytes);
        if credit > self.push_window_bytes {
            return Err(misbehaved("more credit than it has ever had"));
        }
        self.push_credit_bytes = credit;
        Ok(())
    }
}

fn misbehaved(what: impl ToString) -> Lost {
    Lost::Misbehaved {
        what: what.to_string(),
    }
}

fn refused(why: impl ToString) -> Lost {
    Lost::Dropped {
        why: why.to_string(),
    }
}

/// How the end of a connection is to be understood.
fn lost_by(error: &ChannelError) -> Lost {
    match error {
        ChannelError::Closed { .. } | ChannelError::Io { .. } => Lost::Died,
        error => misbehaved(error),
    }
}

impl Reactor {
    /// Takes all frames that are there; why the connection ends, if it does.
    pub(super) fn serve_frames(&mut self, connection: &mut Connection) -> Option<Lost> {
        let mut may_receive = true;
        loop {
            match connection.receiver.next_head(may_receive) {
                Ok(true) => {
                    if let Err(lost) = self.serve_frame(connection) {
                        return Some(lost);
                    }
                }
                Ok(false) => break,
                Err(error) => return Some(lost_by(&error)),
            }
            may_receive = false;
        }
        if let State::Joined { peer, .. } = &connection.state {
            peer.heard.store(self.now.0, Ordering::Relaxed);
        }
        None
    }

    fn serve_frame(&mut self, connection: &mut Connection) -> Result<(), Lost> {
        if connection.receiver.body_left() > 0 {
            return Err(misbehaved("a frame with a body, which peers never send"));
        }
        let frame = parse_frame(connection.receiver.head()).map_err(misbehaved)?;
        if let Frame::Close(why) = frame {
            return Err(match why {
                Lost::Closed | Lost::Dropped { .. } => why,
                other => refused(format!("it says of this side that {other}")),
            });
        }
        match (&mut connection.state, frame) {
            (State::Greeting, Frame::Hello(hello)) => {
                let greeted = self.greet(&connection.line, &hello)?;
                connection.state = State::Settling(Box::new(greeted));
            }
            (State::Greeting, Frame::Join(join)) => {
                let peer = self.join(&connection.line, &join)?;
                connection.state = State::Joined {
                    peer,
                    is_main: false,
                };
            }
            (State::Settling(greeted), Frame::Settle { transport, why }) => {
                let address = connection.receiver.peer();
                let info = PeerInfo {
                    transport,
                    why,
                    address,
                    linked: greeted.linked,
                    lease: greeted.lease,
                };
                let peer = self.settle(&connection.line, greeted, info)?;
                connection.state = State::Joined {
                    peer,
                    is_main: true,
                };
            }
            (State::Joined { peer, is_main }, frame) => {
                self.serve_peer(peer, *is_main, &connection.line, &frame)?;
            }
            _ => return Err(misbehaved("a frame before it has joined")),
        }
        Ok(())
    }

    fn serve_peer(
        &self,
        peer: &PeerState,
        is_main: bool,
        line: &Line,
        frame: &Frame<'_>,
    ) -> Result<(), Lost> {
        match frame {
            Frame::Message(message) if is_main && peer.info.linked && peer.rings.is_none() => {
                if message.len() as u64 > u64::from(self.shared.options.limits.message_bytes) {
                    return Err(misbehaved("a message beyond the limit"));
                }
                let shared = &self.shared;
                shared.counts.messages_received.add(1);
                if !peer.is_lost.load(Ordering::Acquire) {
                    let handler = &shared.handler;
                    shared
                        .delivery
                        .deliver(|| handler.message(peer.id, message));
                }
                Ok(())
            }
            Frame::Heartbeat if is_main => Ok(()),
            Frame::Read { id, pieces } if !is_main || !peer.info.linked => {
                self.serve_read(line, *id, *pieces)
            }
            Frame::Subscribe { credit_bytes, what } if is_main && peer.can_be_pushed_to() => {
                if what.len() as u64 > u64::from(self.shared.options.limits.message_bytes) {
                    return Err(misbehaved("a subscription beyond the limit"));
                }
                let limit_bytes = self.shared.options.limits.push_bytes;
                lock(&peer.data).widen(*credit_bytes, limit_bytes);
                if !peer.is_lost.load(Ordering::Acquire) {
                    let shared = &self.shared;
                    let handler = &shared.handler;
                    shared
                        .delivery
                        .deliver(|| handler.subscribed(peer.id, what));
                }
                Ok(())
            }
            Frame::Credit { bytes } if is_main => lock(&peer.data).credit(*bytes),
            _ => Err(misbehaved("a frame where it has no place")),
        }
    }

    fn greet(&self, line: &Line, hello: &Hello<'_>) -> Result<Greeted, Lost> {
        let options = &self.shared.options;
        let limits = &options.limits;
        if let Some(away) = self.shared.away.get() {
            return Err(refused(away.in_words()));
        }
        if hello.hello.len() as u64 > u64::from(limits.hello_bytes) {
            return Err(misbehaved("a hello beyond the limit"));
        }
        if lock(&self.shared.peers).len() >= limits.peers as usize {
            let limit = limits.peers;
            return Err(refused(format!(
                "it has {limit} peers, which is its limit; have fewer processes read from it, or spread what they read over more ranks"
            )));
        }
        let wants = |transport| match hello.choice {
            Choice::Auto => true,
            Choice::Only(choice) => choice == transport,
        };
        let shm = match &self.shm {
            Ok(shm) if wants(TransportName::Shm) => shm
                .offer(line.token, hello.linked)
                .map(|offer| offer.to_bytes())
                .map_err(|error| error.to_string()),
            Ok(_) => Err("it was not asked for".to_owned()),
            Err(why) => Err(why.clone()),
        };
        let tcp = if options.transports.tcp {
            Ok(Vec::new())
        } else {
            Err("the endpoint does not allow it".to_owned())
        };
        let rdma = match &self.fabric {
            Ok(fabric) if hello.choice == Choice::Only(TransportName::Rdma) => Ok(fabric.offer()),
            Ok(fabric) if hello.choice == Choice::Auto && fabric.is_hardware => Ok(fabric.offer()),
            Ok(_) if hello.choice == Choice::Auto => {
                Err("the endpoint's provider is software; ask for it by name".to_owned())
            }
            Ok(_) => Err("it was not asked for".to_owned()),
            Err(why) => Err(why.clone()),
        };
        let offer = Offer {
            instance: self.shared.instance,
            lease_ms: milliseconds(options.lease),
            silence_ms: options.progress.silence_ms(),
            message_bytes: limits.message_bytes,
            read_bytes: limits.read_bytes,
            read_pieces: limits.read_pieces,
            connections: limits.connections,
            transports: [shm, tcp, rdma],
        };
        line.send(&self.shared, Frame::Offer(offer).to_bytes(), Vec::new());
        Ok(Greeted {
            linked: hello.linked,
            choice: hello.choice,
            lease: Duration::from_millis(u64::from(hello.lease_ms)).max(MIN_LEASE),
            silent: lease_of(hello.silence_ms, options.lease),
            message_bytes: hello.message_bytes,
            hello: hello.hello.to_vec(),
            shm: None,
        })
    }

    fn settle(
        &mut self,
        line: &Arc<Line>,
        greeted: &mut Greeted,
        info: PeerInfo,
    ) -> Result<Arc<PeerState>, Lost> {
        if let Choice::Only(choice) = greeted.choice
            && choice != info.transport
        {
            return Err(misbehaved("it took another transport than it asked for"));
        }
        let rings = match (info.transport, greeted.shm.take()) {
            (TransportName::Rdma, None) if self.fabric.is_ok() => None,
            (TransportName::Shm, Some(rings)) => rings.map(PeerRings::new),
            (TransportName::Tcp, _) if self.shared.options.transports.tcp => {
                // It was offered, and could not be taken.
                self.forget_shm(line.token);
                None
            }
            _ => return Err(misbehaved("it took a transport that was not offered")),
        };
        let mut token = [0; crate::coupling::wire::TOKEN_BYTES];
        random::fill(&mut token).map_err(refused)?;
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let linked = info.linked;
        let state = Arc::new(PeerState {
            id,
            info,
            token,
            message_bytes: greeted
                .message_bytes
                .min(self.shared.options.limits.message_bytes),
            main: Arc::clone(line),
            rings,
            held: Mutex::new(Some(Vec::new())),
            data: Mutex::default(),
            heard: AtomicU64::new(self.now.0),
            is_lost: AtomicBool::new(false),
            is_told_lost: AtomicBool::new(false),
        });
        // Known before it is told of, so that the handler can answer at once.
        lock(&self.shared.peers).insert(id, Arc::clone(&state));
        let shared = &self.shared;
        let joined = shared
            .delivery
            .deliver(|| shared.handler.joined(id, &greeted.hello, &state.info));
        if let Err(why) = joined {
            lock(&self.shared.peers).remove(&id);
            state.is_lost.store(true, Ordering::Release);
            return Err(refused(why));
        }
        if state.info.transport == TransportName::Rdma
            && let Ok(fabric) = &mut self.fabric
        {
            fabric.peers += 1;
        }
        if let Err(errno) = self.watch_rings(&state) {
            let lost = refused(format!("its rings cannot be watched: {errno}"));
            self.lose(id, lost.clone());
            return Err(lost);
        }
        self.shared.counts.joins.add(1);
        tracing::debug!(
            peer = id.0,
            "{} joined over {}: {}",
            state.info.address,
            state.info.transport.name(),
            state.info.why
        );
        let welcome = Frame::Welcome { peer: id.0, token };
        let mut held = lock(&state.held);
        line.send(&self.shared, welcome.to_bytes(), Vec::new());
        for message in held.take().unwrap_or_default() {
            line.send(&self.shared, message, Vec::new());
        }
        drop(held);
        if linked {
            self.start_beats(&state, greeted.silent);
        }
        Ok(state)
    }

    fn join(&self, line: &Arc<Line>, join: &Join) -> Result<Arc<PeerState>, Lost> {
        let found = lock(&self.shared.peers).get(&PeerId(join.peer)).cloned();
        let Some(state) = found.filter(|state| state.token == join.token) else {
            return Err(refused("no such peer has joined"));
        };
        let mut data = lock(&state.data);
        if data.lines.len() >= usize::from(self.shared.options.limits.connections) {
            return Err(refused("it has as many connections as it may"));
        }
        data.lines.push(Arc::clone(line));
        drop(data);
        Ok(state)
    }

    fn serve_read(&self, line: &Line, id: u64, pieces: Pieces<'_>) -> Result<(), Lost> {
        let limits = &self.shared.options.limits;
        let load = line.load();
        let bytes = pieces.iter().try_fold(load.body_bytes, |sum, piece| {
            sum.checked_add(piece.bytes)
                .filter(|sum| *sum <= limits.read_bytes)
        });
        let Some(bytes) = bytes else {
            return Err(misbehaved("reads of more bytes at once than the limit"));
        };
        if (load.parts + pieces.len()) as u64 > 2 * u64::from(limits.read_pieces) {
            return Err(misbehaved("reads of more pieces at once than the limit"));
        }
        match Exposed::all(&self.shared.arena, pieces.iter()) {
            Ok(parts) => {
                self.shared.counts.reads.add(1);
                self.shared.counts.read_bytes.add(bytes - load.body_bytes);
                line.send(&self.shared, Frame::Data { id }.to_bytes(), parts);
            }
            Err(piece) => {
                let missing = Frame::Missing { id, piece };
                line.send(&self.shared, missing.to_bytes(), Vec::new());
            }
        }
        Ok(())
    }
}
