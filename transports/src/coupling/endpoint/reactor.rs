//! The endpoint's thread: what is ready, what is due, and nothing that waits. Where
//! progress is made by hand the host's calls do the same, turn by turn: see `manual`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use super::connection::Connection;
use super::entrance::HalfOpen;
use super::fabric::ServedFabric;
use super::manual::Host;
use super::{PeerState, Request, Shared, drain, io, lock};
use crate::channel::{Acceptor, ChannelLimits, Listener, Role};
use crate::coupling::{CouplingError, Lost, PeerId, Progress, Ticket, TransportName};
use crate::shm::{ShmError, ShmEvent, ShmOptions, ShmServer};
use crate::time::Time;

/// How long a peer with the right key may take to join.
pub(super) const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// Messages that a ring may hold when its peer is gone: more than fit.
const LAST_MESSAGES: usize = 1 << 20;

/// Things that are ready, taken at once.
const EVENTS: usize = 64;

/// The first numbers are of the thread's own descriptors.
const WAKE: u64 = 0;
pub(super) const BELLS: u64 = 1;
const SHM: u64 = 2;
const FABRIC: u64 = 3;
pub(super) const TIMER: u64 = 4;
const FIRST_LISTENER: u64 = 16;
const FIRST_CONNECTION: u64 = 1 << 16;
/// The bells by which peers tell of room in rings: this, and the peer's number.
const FIRST_ROOM: u64 = 1 << 63;

/// Everything that only the thread touches.
pub(super) struct Reactor {
    pub(super) shared: Arc<Shared>,
    pub(super) listeners: Vec<Listener>,
    /// Where memory is shared, or why it is not.
    pub(super) shm: Result<ShmServer, String>,
    /// Where a fabric is read over, or why not.
    pub(super) fabric: Result<ServedFabric, String>,
    pub(super) acceptor: Acceptor,
    pub(super) next_token: u64,
    /// Connections that have proven nothing, oldest first.
    pub(super) half_open: BTreeMap<u64, HalfOpen>,
    pub(super) connections: BTreeMap<u64, Connection>,
    /// Connections that have not joined, oldest first.
    pub(super) joining: VecDeque<(Time, u64)>,
    pub(super) beats: BTreeMap<PeerId, Beat>,
    next_beat: Option<Time>,
    /// When listeners are looked at again, where they are not.
    pub(super) accept_again: Option<Time>,
    pub(super) next_peer: u64,
    /// Kinds of refusals that were logged.
    logged: BTreeSet<&'static str>,
    pub(super) now: Time,
    is_stopped: bool,
    /// Where the host makes progress.
    pub(super) host: Option<Host>,
}

/// A linked peer's heartbeats.
pub(super) struct Beat {
    next: Time,
    every: Duration,
    /// How long it may be silent.
    silent: Duration,
    state: Arc<PeerState>,
}

impl Reactor {
    pub(super) fn new(
        shared: Arc<Shared>,
        listeners: Vec<Listener>,
        ticket: &Ticket,
    ) -> Result<Self, CouplingError> {
        let options = &shared.options;
        let acceptor = Acceptor {
            key: options.key.clone(),
            key_role: Role::Reader,
            encrypt: options.encrypt,
            limits: channel_limits(&options.limits),
            spin: Duration::ZERO,
            counters: shared.channel_counters.clone(),
        };
        let mut reactor = Self {
            shm: open_shm(&shared),
            fabric: ServedFabric::open(&shared, ticket.addresses.first()),
            acceptor,
            listeners,
            next_token: FIRST_CONNECTION,
            half_open: BTreeMap::new(),
            connections: BTreeMap::new(),
            joining: VecDeque::new(),
            beats: BTreeMap::new(),
            next_beat: None,
            accept_again: None,
            next_peer: 1,
            logged: BTreeSet::new(),
            now: Time::now(),
            is_stopped: false,
            host: None,
            shared,
        };
        if let Progress::Manual { silence } = reactor.shared.options.progress {
            let host = Host::new(silence).map_err(io("making a timer"))?;
            reactor
                .watch(&host.timer, TIMER)
                .map_err(io("watching a timer"))?;
            reactor.host = Some(host);
        }
        reactor
            .watch(&reactor.shared.wake, WAKE)
            .map_err(io("watching an eventfd"))?;
        reactor
            .watch(&reactor.shared.rings.bells, BELLS)
            .map_err(io("watching the bells"))?;
        if let Ok(shm) = &reactor.shm {
            reactor
                .watch(shm, SHM)
                .map_err(io("watching shared memory"))?;
        }
        if let Some(fd) = reactor.fabric.as_ref().ok().and_then(ServedFabric::wait_fd) {
            reactor.watch(fd, FABRIC).map_err(io("watching a fabric"))?;
        }
        reactor
            .watch_listeners()
            .map_err(io("watching a listener"))?;
        Ok(reactor)
    }

    /// Whether there is anything to offer: else every peer would be refused.
    pub(super) fn check_transports(&self) -> Result<(), CouplingError> {
        if self.shared.options.transports.tcp || self.shm.is_ok() || self.fabric.is_ok() {
            return Ok(());
        }
        let (transport, why) = match (self.shared.options.transports.rdma, &self.fabric, &self.shm)
        {
            (false, _, Err(why)) => (TransportName::Shm, why.clone()),
            (_, Err(why), _) => (TransportName::Rdma, why.clone()),
            _ => return Ok(()),
        };
        Err(CouplingError::NothingToOffer { transport, why })
    }

    pub(super) fn watch(&self, what: impl AsFd, token: u64) -> Result<(), rustix::io::Errno> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.shared.epoll, what, data, epoll::EventFlags::IN)
    }

    pub(super) fn watch_listeners(&self) -> Result<(), rustix::io::Errno> {
        let mut tokens = FIRST_LISTENER..;
        let mut listeners = self.listeners.iter().zip(&mut tokens);
        listeners.try_for_each(|(listener, token)| self.watch(listener, token))
    }

    pub(super) fn run(mut self) {
        while !self.is_stopped {
            let timeout = self.time_left();
            self.once(timeout);
        }
        self.stop();
    }

    /// Takes what is ready, waiting so long for it, then does what is due.
    pub(super) fn once(&mut self, mut timeout: Option<Duration>) {
        // After a pause of this process itself, as when it was stopped,
        // what peers sent meanwhile lies in the sockets: everything that
        // is ready is taken before anybody is judged by the clock.
        while self.turn(timeout) == EVENTS {
            timeout = Some(Duration::ZERO);
        }
        self.answer_requests();
        self.keep_time();
        self.move_fabric_along();
    }

    /// Takes what is ready, once something is; how much that was.
    fn turn(&mut self, timeout: Option<Duration>) -> usize {
        let timeout = timeout.map(|left| Timespec {
            // At most a lease.
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut events = Vec::with_capacity(EVENTS);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        // It fails only where it is interrupted, and then there is nothing.
        let _ = epoll::wait(&self.shared.epoll, buffer, timeout.as_ref());
        self.now = Time::now();
        self.shared.counts.wakes.add(1);
        for event in &events {
            let flags = event.flags;
            self.take(event.data.u64(), flags);
        }
        events.len()
    }

    fn take(&mut self, token: u64, flags: epoll::EventFlags) {
        if token == WAKE {
            drain(&self.shared.wake);
        } else if token == BELLS {
            self.shared.answer_bells();
        } else if token == SHM {
            self.serve_shm();
        } else if token == FABRIC {
            // It is moved along after every turn.
        } else if token == TIMER {
            self.timer_rang();
        } else if token >= FIRST_ROOM {
            self.fill_ring(PeerId(token - FIRST_ROOM));
        } else if token < FIRST_CONNECTION {
            self.accept((token - FIRST_LISTENER) as usize);
        } else if self.half_open.contains_key(&token) {
            self.shake_hands(token);
        } else {
            self.serve(token, flags);
        }
    }

    /// Counts a refusal; the first of each kind is logged.
    pub(super) fn refuse(&mut self, kind: &'static str, why: &str) {
        self.shared.counts.joins_refused.add(1);
        if self.logged.insert(kind) {
            tracing::warn!("refused {kind}: {why}; more of them are counted, not logged");
        }
    }

    pub(super) fn serve(&mut self, token: u64, flags: epoll::EventFlags) {
        // Taken out, since serving it may touch all the others.
        let Some(mut connection) = self.connections.remove(&token) else {
            return;
        };
        if flags.contains(epoll::EventFlags::OUT) {
            connection.line.flush(&self.shared);
        }
        if connection.peer().is_none() {
            self.met();
        }
        let others = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let lost = if flags.intersects(others) {
            self.serve_frames(&mut connection)
        } else {
            None
        };
        match lost {
            None => {
                self.connections.insert(token, connection);
            }
            Some(lost) => self.end(&connection, lost),
        }
    }

    /// What became of offers of shared memory.
    fn serve_shm(&mut self) {
        let events = self.shm.as_ref().map(ShmServer::handle);
        for event in events.unwrap_or_default() {
            match event {
                ShmEvent::Joined { number, rings } => {
                    if let Some(connection) = self.connections.get_mut(&number) {
                        connection.take_shm(rings);
                    }
                }
                // That it is gone is told by its channel, and how.
                ShmEvent::Lost {
                    why: ShmError::Lost,
                    ..
                } => {}
                ShmEvent::Lost { number, why } => {
                    let what = why.to_string();
                    if let Some(connection) = self.connections.remove(&number) {
                        self.end(&connection, Lost::Misbehaved { what });
                    }
                }
            }
        }
    }

    fn move_fabric_along(&mut self) {
        let Ok(fabric) = &mut self.fabric else {
            return;
        };
        if let Err(why) = fabric.progress() {
            tracing::warn!("the fabric is of no more use: {why}");
            if let Some(fd) = fabric.wait_fd() {
                // It is watched as long as it is here.
                let _ = epoll::delete(&self.shared.epoll, fd);
            }
            self.fabric = Err(why);
        }
    }

    /// A peer's ring has room again.
    fn fill_ring(&self, peer: PeerId) {
        let Some(state) = lock(&self.shared.peers).get(&peer).cloned() else {
            return;
        };
        if let Some(rings) = &state.rings
            && let Err(lost) = rings.make_use_of_room()
        {
            self.shared.lose_later(&state, lost);
        }
    }

    /// Looks after a peer's rings from now on.
    pub(super) fn watch_rings(&self, state: &Arc<PeerState>) -> Result<(), rustix::io::Errno> {
        if let Some(rings) = &state.rings {
            rings.with_room_bell(|bell| self.watch(bell, FIRST_ROOM + state.id.0))?;
        }
        self.shared.rings.add(state)
    }

    /// The bells are the other side's, too: closing them here is not enough.
    fn forget_rings(&self, state: &PeerState) {
        if let Some(rings) = &state.rings {
            // It was watched, or was not: either will do.
            let _ = rings.with_room_bell(|bell| epoll::delete(&self.shared.epoll, bell));
            self.shared.rings.remove(state);
        }
    }

    pub(super) fn forget_shm(&self, token: u64) {
        if let Ok(shm) = &self.shm {
            shm.forget(token);
        }
    }

    /// Ends a connection, and with a main one its peer.
    fn end(&mut self, connection: &Connection, lost: Lost) {
        let Some((peer, is_main)) = connection.peer() else {
            connection.line.close(&lost);
            self.forget_shm(connection.line.token);
            self.refuse("a peer that did not join", &lost.to_string());
            return;
        };
        // A connection for data may go, but not do wrong.
        if is_main || !matches!(lost, Lost::Closed | Lost::Died) {
            connection.line.close(&lost);
            self.lose(peer, lost);
        } else if let Some(state) = lock(&self.shared.peers).get(&peer) {
            lock(&state.data).forget(connection.line.token);
        }
    }

    /// Ends a peer and tells the handler.
    pub(super) fn lose(&mut self, peer: PeerId, lost: Lost) {
        let Some(state) = lock(&self.shared.peers).remove(&peer) else {
            return;
        };
        state.is_lost.store(true, Ordering::Release);
        self.beats.remove(&peer);
        self.forget_rings(&state);
        if matches!(lost, Lost::Closed | Lost::Died) {
            // What it sent before, as far as anybody could have sent.
            let mut most = LAST_MESSAGES;
            while most > 0 && self.shared.poll_ring(&state, most.min(64)) > 0 {
                most -= most.min(64);
            }
        }
        state.main.close(&lost);
        self.connections.remove(&state.main.token);
        for line in std::mem::take(&mut lock(&state.data).lines) {
            line.close(&lost);
            self.connections.remove(&line.token);
        }
        if state.info.transport == TransportName::Rdma
            && let Ok(fabric) = &mut self.fabric
        {
            fabric.peers -= 1;
        }
        // After its last words, which say why.
        self.forget_shm(state.main.token);
        self.shared.counts.lost.add(1);
        tracing::debug!(peer = peer.0, "lost {}: {lost}", state.info.address);
        let shared = &self.shared;
        shared.delivery.deliver(|| shared.handler.lost(peer, &lost));
    }

    pub(super) fn start_beats(&mut self, state: &Arc<PeerState>, silent: Duration) {
        let every = match self.shared.options.progress {
            Progress::Threads => state.info.lease.min(self.shared.options.lease),
            // What the peer waits for is not its lease then.
            Progress::Manual { silence } => silence.min(silent),
        } / 3;
        let next = self.now.after(every);
        self.next_beat = Some(self.next_beat.map_or(next, |other| other.min(next)));
        let state = Arc::clone(state);
        let id = state.id;
        let beat = Beat {
            next,
            every,
            silent,
            state,
        };
        self.beats.insert(id, beat);
    }

    fn answer_requests(&mut self) {
        let requests = std::mem::take(&mut *lock(&self.shared.requests));
        for request in requests {
            match request {
                Request::Lose(peer, lost) => self.lose(peer, lost),
                Request::Stop => self.is_stopped = true,
            }
        }
    }

    /// When something is due; none: when something happens.
    pub(super) fn due(&self) -> Option<Time> {
        let half_open = self.half_open.values().next().map(|first| first.until);
        let joining = self.joining.front().map(|(until, _)| *until);
        let due = [half_open, joining, self.next_beat, self.accept_again];
        due.into_iter().flatten().min()
    }

    /// How long nothing is due; none: until something happens.
    fn time_left(&self) -> Option<Duration> {
        let first = self.due();
        // Rounded up, or it would be looked at once too often.
        let left = first.map(|first| first.since(Time::now()) + Duration::from_millis(1));
        let fabric = self.fabric.as_ref().ok().and_then(ServedFabric::time_left);
        left.into_iter().chain(fabric).min()
    }

    fn keep_time(&mut self) {
        self.end_silent();
        while let Some(&(until, token)) = self.joining.front()
            && until <= self.now
        {
            self.joining.pop_front();
            if self
                .connections
                .get(&token)
                .is_some_and(|connection| connection.peer().is_none())
                && let Some(connection) = self.connections.remove(&token)
            {
                let why = format!("it did not join within {JOIN_LIMIT:?}");
                self.end(&connection, Lost::Dropped { why });
            }
        }
        self.resume_accepting();
        if self.next_beat.is_some_and(|next| next <= self.now) {
            self.beat();
        }
    }

    /// Sends heartbeats that are due, and looks who sent none.
    fn beat(&mut self) {
        let mut silent = Vec::new();
        for (peer, beat) in &mut self.beats {
            if beat.next > self.now {
                continue;
            }
            beat.next = self.now.after(beat.every);
            beat.state.main.send_heartbeat(&self.shared);
            let for_ = self
                .now
                .since(Time(beat.state.heard.load(Ordering::Relaxed)));
            if for_ > beat.silent {
                silent.push((*peer, for_));
            }
        }
        for (peer, for_) in silent {
            self.lose(peer, Lost::Silent { for_ });
        }
        self.next_beat = self.beats.values().map(|beat| beat.next).min();
    }

    /// Takes leave of everybody.
    pub(super) fn stop(&mut self) {
        let peers = std::mem::take(&mut *lock(&self.shared.peers));
        for state in peers.values() {
            state.is_lost.store(true, Ordering::Release);
        }
        for connection in self.connections.values() {
            connection.line.close(&Lost::Closed);
        }
    }
}

fn open_shm(shared: &Shared) -> Result<ShmServer, String> {
    if !shared.options.transports.shm {
        return Err("the endpoint does not allow it".to_owned());
    }
    if !shared.arena.is_shared() {
        return Err("the endpoint's memory is not made to be shared".to_owned());
    }
    let options = ShmOptions {
        message_bytes: shared.options.limits.message_bytes,
        ..ShmOptions::default()
    };
    ShmServer::open(&shared.arena, options).map_err(|error| error.to_string())
}

/// What channels are held to: any frame of the coupling fits.
pub(in crate::coupling) fn channel_limits(
    limits: &crate::coupling::CouplingLimits,
) -> ChannelLimits {
    let pieces_bytes = limits
        .read_pieces
        .saturating_mul(crate::coupling::wire::PIECE_BYTES as u32);
    let largest = limits
        .message_bytes
        .max(limits.hello_bytes)
        .max(pieces_bytes);
    ChannelLimits {
        // The fixed part of an offer is the longest.
        head_bytes: largest.saturating_add(64 << 10),
        body_bytes: limits.read_bytes.max(limits.push_bytes),
    }
}
