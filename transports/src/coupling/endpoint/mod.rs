//! The side that exposes memory.
//!
//! ```text
//!   threads of the caller        send, push --> the line of a peer, at once
//!                                drop_peer  --> requests, wake
//!   the endpoint's thread        epoll --> accept, handshake, frames, timers --> handler
//! ```
//! What only the thread needs it owns; what callers need too is [`Shared`]. Where progress
//! is made by hand there is no thread, and callers take turns in its place (`manual`).

mod connection;
mod entrance;
mod fabric;
mod line;
mod manual;
mod reactor;
mod rings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};

use self::line::{Exposed, Line};
pub use self::manual::Away;
use self::reactor::Reactor;
pub(super) use self::reactor::channel_limits;
use self::rings::{AllRings, PeerRings};
use super::counters::Counts;
use super::fork::Process;
use super::{
    CouplingCounters, CouplingError, EndpointOptions, Handler, Lost, PeerId, PeerInfo, PieceRef,
    Progress, Push, Ticket, TransportName, interfaces, wire,
};
use crate::channel::{ChannelCounters, Listener};
use crate::random;
use crate::region::Arena;
use crate::shm::Attention;
use crate::signals::BlockedSignals;
use crate::time::{Time, Wait, WaitError};

/// Looks between two looks at the clock while spinning.
const LOOKS_PER_CLOCK: usize = 16;

/// Exposes the regions of an arena to peers, and exchanges messages with
/// those that are linked. It has one thread, named `panta-endpoint`, with all
/// signals blocked, which sleeps unless a socket or a heartbeat wants it; with
/// [`Progress::Manual`](super::Progress::Manual) it has none, and calls do it all.
///
/// Dropping it tells the peers that it closes and ends the thread; their
/// losses are not told to the handler.
pub struct Endpoint {
    shared: Arc<Shared>,
    ticket: Ticket,
    thread: Option<JoinHandle<()>>,
    /// What the thread would have, where there is none.
    own: Option<Mutex<Reactor>>,
    /// Calls of the handler that `drive` has told of.
    driven: AtomicU64,
}

/// What the callers' threads and the endpoint's own have in common.
struct Shared {
    options: EndpointOptions,
    arena: Arena,
    handler: Arc<dyn Handler>,
    instance: u64,
    process: Process,
    counts: Counts,
    channel_counters: ChannelCounters,
    epoll: OwnedFd,
    /// Wakes the thread for `requests`.
    wake: OwnedFd,
    requests: Mutex<Vec<Request>>,
    peers: Mutex<BTreeMap<PeerId, Arc<PeerState>>>,
    delivery: Delivery,
    rings: AllRings,
    /// Set once its program stayed away for too long.
    away: OnceLock<Away>,
}

/// What callers ask of the thread.
enum Request {
    Lose(PeerId, Lost),
    Stop,
}

/// A peer that has joined.
struct PeerState {
    id: PeerId,
    info: PeerInfo,
    token: [u8; wire::TOKEN_BYTES],
    /// Bytes of the largest message that both sides take.
    message_bytes: u32,
    main: Arc<Line>,
    /// Where it is linked and shares memory.
    rings: Option<PeerRings>,
    /// Messages sent before its welcome; none afterwards.
    held: Mutex<Option<Vec<Vec<u8>>>>,
    /// Its connections beside the main one, and its credit for pushed bytes.
    data: Mutex<DataLines>,
    /// When something last came from it.
    heard: AtomicU64,
    /// Set once its loss is decided.
    is_lost: AtomicBool,
    /// Set once the handler was told: then nothing more is.
    is_told_lost: AtomicBool,
}

#[derive(Default)]
struct DataLines {
    lines: Vec<Arc<Line>>,
    /// Bytes that may be on their way unasked, and how many more.
    push_window_bytes: u64,
    push_credit_bytes: u64,
}

/// Calls of the handler: one at a time, and counted for whoever drives.
struct Delivery {
    turn: Mutex<()>,
    handled: AtomicU64,
    is_awaited: AtomicBool,
    /// Wakes who sleeps in `drive`.
    event: OwnedFd,
}

/// A lock whose holders leave nothing half done: there is no poison in it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn signal(event: &OwnedFd) {
    // It fails only where the count is full, and then it is signalled.
    let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
}

fn drain(event: &OwnedFd) {
    let mut count = [0; 8];
    // It fails only where nothing was signalled.
    let _ = rustix::io::read(event, &mut count);
}

impl Delivery {
    fn new() -> Result<Self, CouplingError> {
        Ok(Self {
            turn: Mutex::new(()),
            handled: AtomicU64::new(0),
            is_awaited: AtomicBool::new(false),
            event: new_event()?,
        })
    }

    /// Calls the handler in its turn.
    fn deliver<T>(&self, call: impl FnOnce() -> T) -> T {
        let turn = lock(&self.turn);
        let result = call();
        drop(turn);
        self.count(1);
        result
    }

    /// Makes several calls in one turn; `calls` returns how many.
    fn in_turn(&self, calls: impl FnOnce() -> usize) -> usize {
        let turn = lock(&self.turn);
        let count = calls();
        drop(turn);
        if count > 0 {
            self.count(count);
        }
        count
    }

    fn count(&self, calls: usize) {
        self.handled.fetch_add(calls as u64, Ordering::SeqCst);
        if self.is_awaited.load(Ordering::SeqCst) {
            signal(&self.event);
        }
    }
}

fn io(during: &'static str) -> impl Fn(rustix::io::Errno) -> CouplingError {
    move |errno| CouplingError::Io {
        during,
        source: errno.into(),
    }
}

fn new_event() -> Result<OwnedFd, CouplingError> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io("making an eventfd"))
}

impl Endpoint {
    /// Listens where the options say, and starts the thread. All regions of
    /// the arena, also those it makes later, can be read by whoever holds the
    /// key.
    ///
    /// # Errors
    /// [`CouplingError::NoInterface`], [`CouplingError::Bind`],
    /// [`CouplingError::NothingToOffer`] where the one transport that is allowed
    /// cannot be had, or [`CouplingError::Io`] where the system refuses what is needed.
    pub fn open(
        options: EndpointOptions,
        arena: Arena,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, CouplingError> {
        let listeners = listen(&options)?;
        let instance = random::number().map_err(|error| CouplingError::Io {
            during: "choosing an instance",
            source: std::io::Error::other(error.to_string()),
        })?;
        let ticket = Ticket {
            addresses: reached(&listeners)?,
            // 0 stands for any.
            instance: instance.max(1),
        };
        let shared = Arc::new(Shared {
            options,
            arena,
            handler,
            instance: ticket.instance,
            process: Process::current(),
            counts: Counts::default(),
            channel_counters: ChannelCounters::new(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io("making an epoll"))?,
            wake: new_event()?,
            requests: Mutex::default(),
            peers: Mutex::default(),
            delivery: Delivery::new()?,
            rings: AllRings::new()?,
            away: OnceLock::new(),
        });
        let reactor = Reactor::new(Arc::clone(&shared), listeners, &ticket)?;
        reactor.check_transports()?;
        let (thread, own) = match shared.options.progress {
            Progress::Threads => (Some(spawn(reactor)?), None),
            Progress::Manual { .. } => (None, Some(Mutex::new(reactor))),
        };
        Ok(Self {
            shared,
            ticket,
            thread,
            own,
            driven: AtomicU64::new(0),
        })
    }

    /// Where it listens, and which one it is.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    /// Sends a message: the parts of `message` in turn. Never waits, but some
    /// microseconds for a peer that is a whole ring behind and catching up: what the
    /// transport does not take at once is queued, and a peer for which more
    /// than [`CouplingLimits::queued_bytes`](super::CouplingLimits) wait is
    /// dropped with that reason. `Ok` does not say that it arrives; a loss is
    /// told to the handler.
    ///
    /// # Errors
    /// [`CouplingError::UnknownPeer`] where it is lost already,
    /// [`CouplingError::NotLinked`], [`CouplingError::TooLarge`] for one beyond
    /// either side's limit, [`CouplingError::Forked`].
    pub fn send(&self, peer: PeerId, message: &[&[u8]]) -> Result<(), CouplingError> {
        let state = self.peer(peer)?;
        let bytes = self.check_message(&state, message)?;
        self.shared.counts.messages_sent.add(1);
        let limit_bytes = self.shared.options.limits.queued_bytes;
        let sent = match &state.rings {
            Some(rings) => rings.send(message, limit_bytes),
            None => Ok(self.send_over_channel(&state, message, bytes)),
        };
        match sent {
            Ok(true) => {}
            Ok(false) => {
                let why = format!("more than {limit_bytes} bytes of messages wait for it");
                self.shared.lose_later(&state, Lost::Dropped { why });
            }
            Err(lost) => self.shared.lose_later(&state, lost),
        }
        Ok(())
    }

    /// Whether a message may be sent, and its bytes.
    fn check_message(&self, state: &PeerState, message: &[&[u8]]) -> Result<usize, CouplingError> {
        if !state.info.linked {
            return Err(CouplingError::NotLinked);
        }
        let bytes: usize = message.iter().map(|part| part.len()).sum();
        if bytes as u64 > u64::from(state.message_bytes) {
            return Err(CouplingError::TooLarge {
                what: "a message",
                bytes: bytes as u64,
                limit: u64::from(state.message_bytes),
            });
        }
        Ok(bytes)
    }

    fn send_over_channel(&self, state: &PeerState, message: &[&[u8]], bytes: usize) -> bool {
        let head = message_head(message, bytes);
        if let Some(held) = &mut *lock(&state.held) {
            held.push(head);
            return true;
        }
        let limit_bytes = self.shared.options.limits.queued_bytes;
        state.main.send_message(&self.shared, head, limit_bytes)
    }

    /// Sends bytes that the peer subscribed to: it gets them by
    /// [`Peer::receive_push`](super::Peer::receive_push) under the same tag. False,
    /// and the peer is told that none come, where it has not that much credit
    /// left, so much waits for it that more would be too much, or the pieces are
    /// not all exposed. Never waits; pushed bytes are read when the socket takes
    /// them, as those of a read are.
    ///
    /// # Errors
    /// [`CouplingError::UnknownPeer`], [`CouplingError::Forked`].
    pub fn push(&self, peer: PeerId, push: &Push) -> Result<bool, CouplingError> {
        let state = self.peer(peer)?;
        let limit_bytes = self.shared.options.limits.queued_bytes;
        if !state.main.has_room(0, limit_bytes) {
            let why = format!("more than {limit_bytes} bytes of messages wait for it");
            self.shared.lose_later(&state, Lost::Dropped { why });
            return Ok(false);
        }
        let mut frames = Vec::new();
        let is_pushed = self.frame_push(&state, push, &mut frames);
        state.main.send_all(&self.shared, frames);
        Ok(is_pushed)
    }

    /// As [`Endpoint::send`], and after it [`Endpoint::push`] for each of `pushes`,
    /// all in one system call where the socket takes them.
    ///
    /// # Errors
    /// As those.
    pub fn send_and_push(
        &self,
        peer: PeerId,
        message: &[&[u8]],
        pushes: &[Push],
    ) -> Result<(), CouplingError> {
        let state = self.peer(peer)?;
        if pushes.is_empty() || !state.can_be_pushed_to() {
            return self.send(peer, message);
        }
        let bytes = self.check_message(&state, message)?;
        let limit_bytes = self.shared.options.limits.queued_bytes;
        if lock(&state.held).is_some() || !state.main.has_room(bytes, limit_bytes) {
            // It has not heard its welcome, or does not listen.
            self.send(peer, message)?;
            return pushes
                .iter()
                .try_for_each(|push| self.push(peer, push).map(drop));
        }
        let mut frames = vec![(message_head(message, bytes), Vec::new())];
        for push in pushes {
            self.frame_push(&state, push, &mut frames);
        }
        self.shared.counts.messages_sent.add(1);
        state.main.send_all(&self.shared, frames);
        Ok(())
    }

    /// The frame of a push; whether the bytes are in it.
    fn frame_push(
        &self,
        state: &PeerState,
        push: &Push,
        frames: &mut Vec<(Vec<u8>, Vec<Exposed>)>,
    ) -> bool {
        if !state.can_be_pushed_to() {
            return false;
        }
        let parts = self.pushed_parts(state, &push.pieces);
        let is_pushed = parts.is_some();
        let head = wire::Frame::Push { tag: push.tag }.to_bytes();
        frames.push((head, parts.unwrap_or_default()));
        is_pushed
    }

    /// What is pushed, taken from the peer's credit.
    fn pushed_parts(&self, state: &PeerState, pieces: &[PieceRef]) -> Option<Vec<Exposed>> {
        let limits = &self.shared.options.limits;
        let sum = |sum: u64, piece: &PieceRef| sum.checked_add(piece.bytes);
        let bytes = pieces.iter().try_fold(0, sum)?;
        let waiting = state.main.load().parts + pieces.len();
        if bytes == 0 || waiting as u64 > u64::from(limits.read_pieces) {
            return None;
        }
        let parts = Exposed::all(&self.shared.arena, pieces.iter().copied()).ok()?;
        let mut data = lock(&state.data);
        data.push_credit_bytes = data.push_credit_bytes.checked_sub(bytes)?;
        drop(data);
        self.shared.counts.push_bytes.add(bytes);
        Some(parts)
    }

    /// Hands the handler what lies in rings, and returns how many messages
    /// that were; no system call where there is none. What comes over sockets
    /// is handed over by the endpoint's thread, without this; where it has none,
    /// here ([`Endpoint::progress`]).
    pub fn poll(&self) -> usize {
        if self.shared.process.is_child() {
            return 0;
        }
        let count = self.shared.poll_rings();
        self.progress();
        count
    }

    /// Returns once the handler was called at least once since `drive` last
    /// returned: at once where it was already, else it looks for a while, then
    /// sleeps. One thread drives.
    ///
    /// # Errors
    /// [`WaitError`] where nothing came.
    pub fn drive(&self, wait: &Wait) -> Result<(), WaitError> {
        if self.shared.process.is_child() {
            return Err(WaitError::Interrupted);
        }
        if self.look() {
            return Ok(());
        }
        let driving = Driving::begin(&self.shared);
        let end = Time::now().after(self.shared.options.spin);
        while Time::now() < end {
            for _ in 0..LOOKS_PER_CLOCK {
                if self.look() {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
            // Whom it waits for may need this very processor.
            thread::yield_now();
        }
        if let Some(own) = &self.own {
            return self.take_turns(own, &driving, wait);
        }
        loop {
            let slice = wait.slice()?;
            driving.fall_asleep();
            let is_ready = self.look();
            if !is_ready {
                driving.sleep(slice);
            }
            driving.wake();
            if is_ready || self.look() {
                return Ok(());
            }
        }
    }

    /// Whether the handler was called since it was last asked.
    fn look(&self) -> bool {
        self.shared.poll_rings();
        let handled = self.shared.delivery.handled.load(Ordering::SeqCst);
        self.driven.swap(handled, Ordering::Relaxed) != handled
    }

    /// Ends a peer, which is told `why`. The handler hears of its loss as
    /// [`Lost::Dropped`](super::Lost::Dropped), after this has returned. A
    /// peer that is lost already stays so.
    pub fn drop_peer(&self, peer: PeerId, why: &str) {
        if let Ok(state) = self.peer(peer) {
            let why = why.to_owned();
            self.shared.lose_later(&state, Lost::Dropped { why });
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> CouplingCounters {
        self.shared.counts.snapshot(&self.shared.channel_counters)
    }

    fn peer(&self, peer: PeerId) -> Result<Arc<PeerState>, CouplingError> {
        if self.shared.process.is_child() {
            return Err(CouplingError::Forked);
        }
        let found = lock(&self.shared.peers).get(&peer).cloned();
        found
            .filter(|state| !state.is_lost.load(Ordering::Acquire))
            .ok_or(CouplingError::UnknownPeer { peer })
    }
}

/// Listens where the options say. Of several addresses that were given, those that are
/// none of this machine's are left out while there are others.
fn listen(options: &EndpointOptions) -> Result<Vec<Listener>, CouplingError> {
    let mut listeners = Vec::new();
    let mut failed = None;
    for &address in &options.listen {
        match Listener::bind(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.source.kind() == std::io::ErrorKind::AddrNotAvailable => {
                failed = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(error) = failed.filter(|_| listeners.is_empty()) {
        return Err(error.into());
    }
    if options.listen.is_empty() {
        for address in interfaces::addresses(&options.interfaces)? {
            listeners.push(Listener::bind((address, 0).into())?);
        }
    }
    Ok(listeners)
}

/// The addresses at which peers reach these listeners: one that listens on all
/// of the machine's is reached at each of them.
fn reached(listeners: &[Listener]) -> Result<Vec<SocketAddr>, CouplingError> {
    let mut reached = Vec::new();
    for address in listeners.iter().map(Listener::local_addr) {
        match address.ip().is_unspecified() {
            true => reached.extend(interfaces::all_at(address)?),
            false => reached.push(address),
        }
    }
    Ok(reached)
}

impl PeerState {
    /// Whether there is a way to it that pushed bytes can go.
    fn can_be_pushed_to(&self) -> bool {
        self.info.transport == TransportName::Tcp
    }
}

/// The head of the frame of a message.
fn message_head(message: &[&[u8]], bytes: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(1 + bytes);
    head.extend_from_slice(&wire::MESSAGE_HEAD);
    for part in message {
        head.extend_from_slice(part);
    }
    head
}

/// A caller is inside `drive`, and looks after the rings meanwhile.
struct Driving<'s> {
    shared: &'s Shared,
    has_rings: bool,
}

impl<'s> Driving<'s> {
    fn begin(shared: &'s Shared) -> Self {
        let has_rings = shared.has_rings();
        if has_rings {
            shared.attend(Attention::Awake);
        }
        Self { shared, has_rings }
    }

    /// From now on any message wakes; the caller looks once more.
    fn fall_asleep(&self) {
        let delivery = &self.shared.delivery;
        delivery.is_awaited.store(true, Ordering::SeqCst);
        if self.has_rings {
            self.shared.listen_to_bells(false);
            self.shared.attend(Attention::Asleep);
        }
    }

    fn sleep(&self, slice: Duration) {
        let timeout = Timespec {
            tv_sec: 0,
            // A slice is shorter than a second.
            tv_nsec: i64::from(slice.subsec_nanos()),
        };
        let mut fds = [
            PollFd::new(&self.shared.delivery.event, PollFlags::IN),
            PollFd::new(&self.shared.rings.bells, PollFlags::IN),
        ];
        // Signalled, interrupted or too long: the caller looks in any case.
        let _ = poll(&mut fds, Some(&timeout));
        drain(&self.shared.delivery.event);
    }

    fn wake(&self) {
        self.shared
            .delivery
            .is_awaited
            .store(false, Ordering::SeqCst);
        if self.has_rings {
            self.shared.answer_bells();
            self.shared.attend(Attention::Awake);
        }
    }
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        if self.has_rings {
            self.shared.attend(Attention::Idle);
            if self.shared.options.progress == Progress::Threads {
                self.shared.listen_to_bells(true);
            }
            // What was urgent before rang no bell.
            self.shared.poll_rings();
        }
    }
}

impl Shared {
    /// Has the thread end a peer, once.
    fn lose_later(&self, peer: &PeerState, lost: Lost) {
        if !peer.is_lost.swap(true, Ordering::AcqRel) {
            lock(&self.requests).push(Request::Lose(peer.id, lost));
            signal(&self.wake);
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // In the child of a fork there is no such thread, and the sockets are
        // the parent's, too: they are only closed here.
        if self.shared.process.is_child() {
            return;
        }
        if let Some(own) = &self.own {
            lock(own).stop();
            return;
        }
        lock(&self.shared.requests).push(Request::Stop);
        signal(&self.shared.wake);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // A panic of the handler was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Starts the thread with all signals blocked: they are the host program's.
fn spawn(reactor: Reactor) -> Result<JoinHandle<()>, CouplingError> {
    let blocked = BlockedSignals::new();
    let thread = thread::Builder::new()
        .name("panta-endpoint".to_owned())
        .spawn(move || reactor.run());
    drop(blocked);
    thread.map_err(|source| CouplingError::Io {
        during: "starting the endpoint's thread",
        source,
    })
}
