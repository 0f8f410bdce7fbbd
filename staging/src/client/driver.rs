//! Carries out what a client machine wants, on the calling thread.
//!
//! ```text
//!   engine ──start──> machine ──actions──> Driver ──> channels
//!          <──wait── finished <──events── Driver <── channels
//! ```
//! Whoever waits drives: there is no thread. Channels are made when they are
//! first needed and kept. Bodies that are sent stay with the engine, which
//! lends them for the time of each call ([`Bodies`]); bodies that are received
//! lie in buffers that are used again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::AsFd;
use std::time::Duration;

use panta_transports::channel::{Channel, ChannelError};
use panta_transports::time::{INTERRUPT_POLL, Time, Wait, WaitError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connect::{DialError, Dialer};
use super::fault::CallError;
use crate::proto::client::{Answer, CallId, ClientAction, ClientError, ClientEvent};
use crate::proto::codec;
use crate::proto::message::{Kind, Message};
use crate::proto::{Machine, RegionId, ServerId};

/// How long several channels are looked at before sleeping.
const SPIN: Duration = Duration::from_micros(50);
/// The most received buffers kept for later, and the most bytes of one.
const IDLE_BUFFERS: usize = 16;
const IDLE_BUFFER_LIMIT_BYTES: usize = 16 << 20;

/// Bodies that may be sent, and sent again until their call has finished.
pub(super) trait Bodies {
    /// The slices of one, in order.
    fn slices(&self, region: RegionId) -> Vec<&[u8]>;
}

/// Where nothing with a body is under way.
pub(super) struct NoBodies;

impl Bodies for NoBodies {
    fn slices(&self, _: RegionId) -> Vec<&[u8]> {
        Vec::new()
    }
}

/// A server as this client sees it.
#[derive(Default)]
struct Link {
    channel: Option<Channel>,
    /// Answers that are on their way.
    awaited: usize,
}

/// See the module.
pub(super) struct Driver<M> {
    machine: M,
    names: Vec<String>,
    dialer: Dialer,
    links: Vec<Link>,
    actions: VecDeque<ClientAction>,
    finished: BTreeMap<CallId, Result<Answer, ClientError>>,
    /// Calls that go on without anybody who waits for them.
    unattended: BTreeSet<CallId>,
    /// A channel that can never be had, and whose.
    hopeless: Option<(String, ChannelError)>,
    received: BTreeMap<u64, Vec<u8>>,
    idle: Vec<Vec<u8>>,
    last_call: u64,
    last_region: u64,
}

impl<M, Call> Driver<M>
where
    M: Machine<Event = ClientEvent<Call>, Action = ClientAction>,
{
    pub(super) fn new(machine: M, names: Vec<String>, dialer: Dialer) -> Self {
        Self {
            machine,
            links: names.iter().map(|_| Link::default()).collect(),
            names,
            dialer,
            actions: VecDeque::new(),
            finished: BTreeMap::new(),
            unattended: BTreeSet::new(),
            hopeless: None,
            received: BTreeMap::new(),
            idle: Vec::new(),
            last_call: 0,
            last_region: 0,
        }
    }

    pub(super) fn machine(&self) -> &M {
        &self.machine
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// A name for a body.
    pub(super) fn new_region(&mut self) -> RegionId {
        self.last_region += 1;
        RegionId(self.last_region)
    }

    /// Begins a call; its request is on its way when this returns, if there is
    /// a connection.
    pub(super) fn start(&mut self, call: Call, bodies: &dyn Bodies, wait: &Wait) -> CallId {
        self.last_call += 1;
        let id = CallId(self.last_call);
        let deadline = wait.deadline();
        self.feed(ClientEvent::Call {
            id,
            call,
            deadline: deadline.at(),
            length: deadline.length(),
        });
        self.carry_out(bodies, wait);
        id
    }

    /// One call, with its answer.
    pub(super) fn call(&mut self, call: Call, wait: &Wait) -> Result<Answer, CallError> {
        let id = self.start(call, &NoBodies, wait);
        self.finish(id, &NoBodies, wait)
    }

    /// A call that is repeated until it is answered, for as long as `lasts`, whenever this
    /// rank drives; waited for only as long as `wait`.
    pub(super) fn insist(&mut self, call: Call, lasts: Duration, wait: &Wait) {
        self.last_call += 1;
        let id = CallId(self.last_call);
        self.feed(ClientEvent::Call {
            id,
            call,
            deadline: Time::now().after(lasts),
            length: lasts,
        });
        self.carry_out(&NoBodies, wait);
        while !self.is_finished(id) && self.hopeless.is_none() && wait.slice().is_ok() {
            self.turn(&NoBodies, wait);
        }
        if self.finished.remove(&id).is_none() {
            self.unattended.insert(id);
        }
    }

    /// Drives until a call has finished.
    pub(super) fn finish(
        &mut self,
        id: CallId,
        bodies: &dyn Bodies,
        wait: &Wait,
    ) -> Result<Answer, CallError> {
        loop {
            if let Some(result) = self.finished.remove(&id) {
                return Ok(result?);
            }
            if let Some((name, error)) = self.hopeless.take() {
                self.forget(id);
                return Err(CallError::Channel { name, error });
            }
            if wait.slice() == Err(WaitError::Interrupted) {
                let awaiting = format!("{} to answer", self.names.join(", "));
                self.forget(id);
                return Err(CallError::Interrupted { awaiting });
            }
            self.turn(bodies, wait);
        }
    }

    /// Whether a call has finished already.
    pub(super) fn is_finished(&self, id: CallId) -> bool {
        self.finished.contains_key(&id)
    }

    /// Gives a call up.
    pub(super) fn forget(&mut self, id: CallId) {
        self.feed(ClientEvent::Forget { id });
        if let Some(Ok(Answer::Got {
            body: Some(body), ..
        })) = self.finished.remove(&id)
        {
            let buffer = self.take_body(body);
            self.give_back(buffer);
        }
    }

    /// A received body, the caller's now.
    pub(super) fn take_body(&mut self, region: RegionId) -> Vec<u8> {
        self.received.remove(&region.0).unwrap_or_default()
    }

    /// Memory of a received body, to be used again.
    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        if self.idle.len() < IDLE_BUFFERS && buffer.capacity() <= IDLE_BUFFER_LIMIT_BYTES {
            self.idle.push(buffer);
        }
    }

    /// Does what has become due; sends at most a few small messages.
    pub(super) fn tick(&mut self, wait: &Wait) {
        if self.machine.next_tick().is_some_and(|at| at <= Time::now()) {
            self.feed(ClientEvent::Tick);
            self.carry_out(&NoBodies, wait);
        }
    }

    /// Whether there is a connection to a server now.
    pub(super) fn is_connected(&self, server: ServerId) -> bool {
        let link = self.links.get(server.0 as usize);
        link.is_some_and(|link| link.channel.is_some())
    }

    fn feed(&mut self, event: ClientEvent<Call>) {
        let mut actions = Vec::new();
        self.machine.handle(event, Time::now(), &mut actions);
        self.actions.extend(actions);
    }

    /// One turn: takes a message in, or lets time pass.
    fn turn(&mut self, bodies: &dyn Bodies, wait: &Wait) {
        let now = Time::now();
        let tick = self.machine.next_tick();
        let until = tick.map_or(INTERRUPT_POLL, |tick| tick.since(now));
        if until.is_zero() {
            self.feed(ClientEvent::Tick);
        } else if let Some(server) = self.await_message(until, wait) {
            let short = wait.at_most(until);
            self.receive(server, &short, wait);
        }
        self.carry_out(bodies, wait);
    }

    /// A server whose message is there, or will be the next, within `until`.
    fn await_message(&self, until: Duration, wait: &Wait) -> Option<ServerId> {
        let links = (0_u32..).map(ServerId).zip(&self.links);
        let mut awaited: Vec<(ServerId, &Channel)> = links
            .filter(|(_, link)| link.awaited > 0)
            .filter_map(|(server, link)| Some((server, link.channel.as_ref()?)))
            .collect();
        if awaited.len() == 1 {
            return awaited.pop().map(|(server, _)| server);
        }
        let spun = Time::now().after(SPIN);
        loop {
            let sleep = if Time::now() < spun && !awaited.is_empty() {
                Duration::ZERO
            } else {
                until.min(wait.slice().unwrap_or(Duration::ZERO))
            };
            let mut fds: Vec<PollFd<'_>> = awaited
                .iter()
                .map(|(_, channel)| PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN))
                .collect();
            let timeout = Timespec {
                tv_sec: 0,
                // A slice is shorter than a second.
                tv_nsec: i64::from(sleep.min(INTERRUPT_POLL).subsec_nanos()),
            };
            let ready = poll(&mut fds, Some(&timeout)).unwrap_or(0);
            if ready > 0 {
                let first = fds.iter().position(|fd| !fd.revents().is_empty())?;
                return Some(awaited[first].0);
            }
            if !sleep.is_zero() || Time::now() >= spun {
                return None;
            }
            std::thread::yield_now();
        }
    }

    /// Receives one message: its head within `short`, its body within `wait`.
    fn receive(&mut self, server: ServerId, short: &Wait, wait: &Wait) {
        let Some(link) = self.links.get_mut(server.0 as usize) else {
            return;
        };
        let Some(channel) = &mut link.channel else {
            return;
        };
        let received = match channel.receive_head(short) {
            Ok(head) => codec::decode(head.bytes)
                .map(|message| (message, head.body_bytes))
                .map_err(|error| error.to_string()),
            Err(ChannelError::Wait { .. }) => return,
            Err(error) => Err(error.to_string()),
        };
        let received = received.and_then(|(message, announced)| {
            if codec::body_bytes(&message.kind).unwrap_or(0) != announced {
                return Err(format!(
                    "a body of {announced} bytes, of which its head says another length"
                ));
            }
            Ok((message, announced))
        });
        let (message, announced) = match received {
            Ok(received) => received,
            Err(detail) => return self.lose(server, detail),
        };
        link.awaited = link.awaited.saturating_sub(1);
        let body = if announced > 0 {
            // Below the limit of a body, which the channel has checked.
            let mut buffer = self.idle.pop().unwrap_or_default();
            buffer.resize(announced as usize, 0);
            if let Err(error) = channel.receive_body(&mut buffer, wait) {
                return self.lose(server, error.to_string());
            }
            self.last_region += 1;
            self.received.insert(self.last_region, buffer);
            Some(RegionId(self.last_region))
        } else {
            None
        };
        self.feed(ClientEvent::Message {
            server,
            message,
            body,
        });
    }

    /// Ends a connection that is of no more use.
    fn lose(&mut self, server: ServerId, detail: String) {
        self.hang_up(server);
        self.feed(ClientEvent::Disconnected { server, detail });
    }

    fn hang_up(&mut self, server: ServerId) {
        if let Some(link) = self.links.get_mut(server.0 as usize) {
            *link = Link::default();
        }
    }

    fn carry_out(&mut self, bodies: &dyn Bodies, wait: &Wait) {
        while let Some(action) = self.actions.pop_front() {
            match action {
                ClientAction::Connect { server } => self.connect(server, wait),
                ClientAction::Disconnect { server } => self.hang_up(server),
                ClientAction::Send {
                    server,
                    message,
                    body,
                } => self.send(server, &message, body, bodies, wait),
                ClientAction::Finished { id, result } => {
                    if !self.unattended.remove(&id) {
                        self.finished.insert(id, result);
                    }
                }
                ClientAction::Drop { region } => {
                    let buffer = self.take_body(region);
                    self.give_back(buffer);
                }
            }
        }
    }

    fn connect(&mut self, server: ServerId, wait: &Wait) {
        let place = server.0 as usize;
        let Some(name) = self.names.get(place) else {
            return;
        };
        match self.dialer.dial(name, wait) {
            Ok(channel) => {
                self.links[place] = Link {
                    channel: Some(channel),
                    awaited: 0,
                };
                self.feed(ClientEvent::Connected { server });
            }
            Err(DialError::Passing(detail)) => {
                self.feed(ClientEvent::Disconnected { server, detail });
            }
            Err(DialError::Lasting(error)) => {
                let detail = error.to_string();
                self.hopeless = Some((name.clone(), error));
                self.feed(ClientEvent::Disconnected { server, detail });
            }
        }
    }

    fn send(
        &mut self,
        server: ServerId,
        message: &Message,
        body: Option<RegionId>,
        bodies: &dyn Bodies,
        wait: &Wait,
    ) {
        let slices = body.map_or_else(Vec::new, |region| bodies.slices(region));
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if codec::body_bytes(&message.kind).unwrap_or(0) != length as u64 {
            // Of a call that was given up, whose body is gone.
            return;
        }
        let Some(link) = self.links.get_mut(server.0 as usize) else {
            return;
        };
        let Some(channel) = &mut link.channel else {
            return;
        };
        match channel.send(&codec::encode(message), &slices, wait) {
            Ok(()) => {
                let answered = !matches!(message.kind, Kind::Alive(_) | Kind::Watermark(_));
                link.awaited += usize::from(answered);
            }
            Err(error) => self.lose(server, error.to_string()),
        }
    }
}
