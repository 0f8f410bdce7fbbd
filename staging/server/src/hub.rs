//! What all threads of a server share: the machine, the payload, the peers.
//!
//! ```text
//!   connection thread ──event──> Hub ──lock──> machine
//!        ^   own answers           │
//!        └──────────<──────────────┤
//!   another connection's outbox <──┘  and its thread is woken
//! ```
//! A thread sends on its own connection only, so that a peer that does not
//! read holds up nobody else.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use panta_staging::proto::message::{Got, Message};
use panta_staging::proto::server::{GatherPart, ServerAction, ServerEvent, ServerMachine};
use panta_staging::proto::{ConnectionId, Machine};
use panta_transports::copy::CopyCounter;
use panta_transports::time::{Interrupt, Time};
use rustix::event::{EventfdFlags, eventfd};

use crate::payload::{Arriving, Pool, Region, Regions, lock};

/// The longest the ticker sleeps when the machine wants nothing.
const IDLE_TICK: Duration = Duration::from_secs(3600);

/// Something to send on a connection, or its end.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Message(Message),
    Gather {
        request: u64,
        got: Got,
        parts: Vec<GatherPart>,
        /// Of `parts`, in their order; held so that dropping them waits.
        regions: Vec<Arc<Region>>,
    },
    Disconnect(String),
}

/// A connection as the other threads see it.
#[derive(Debug)]
pub(crate) struct Peer {
    outbox: Mutex<VecDeque<Outgoing>>,
    pub(crate) wake: OwnedFd,
}

impl Peer {
    /// Everything that others left to be sent.
    pub(crate) fn take_outbox(&self) -> VecDeque<Outgoing> {
        std::mem::take(&mut *lock(&self.outbox))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hub {
    machine: Mutex<ServerMachine>,
    peers: Mutex<BTreeMap<u64, Arc<Peer>>>,
    last_connection: AtomicU64,
    pub(crate) regions: Regions,
    pub(crate) pool: Arc<Pool>,
    pub(crate) arriving: Arriving,
    pub(crate) interrupt: Interrupt,
    pub(crate) copies: CopyCounter,
    planned: Mutex<Option<Time>>,
    replanned: Condvar,
}

impl Hub {
    pub(crate) fn new(machine: ServerMachine, idle_bytes: usize, arriving_bytes: u64) -> Self {
        let pool = Pool::new(idle_bytes);
        Self {
            machine: Mutex::new(machine),
            peers: Mutex::default(),
            last_connection: AtomicU64::new(0),
            regions: Regions::new(Arc::clone(&pool)),
            pool,
            arriving: Arriving::new(arriving_bytes),
            interrupt: Interrupt::default(),
            copies: CopyCounter::new(),
            planned: Mutex::default(),
            replanned: Condvar::new(),
        }
    }

    /// Takes a connection in.
    ///
    /// # Errors
    /// Where the system has no descriptor to wake its thread by.
    pub(crate) fn join(&self) -> Result<(ConnectionId, Arc<Peer>), std::io::Error> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let peer = Arc::new(Peer {
            outbox: Mutex::default(),
            wake,
        });
        let number = self.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.peers).insert(number, Arc::clone(&peer));
        Ok((ConnectionId(number), peer))
    }

    pub(crate) fn leave(&self, connection: ConnectionId) {
        lock(&self.peers).remove(&connection.0);
        self.handle(ServerEvent::Disconnected { connection }, None);
    }

    /// Gives the machine an event; returns what is to be sent on `own`.
    pub(crate) fn handle(&self, event: ServerEvent, own: Option<ConnectionId>) -> Vec<Outgoing> {
        let mut actions = Vec::new();
        let mut sends = Vec::new();
        {
            let mut machine = lock(&self.machine);
            machine.handle(event, Time::now(), &mut actions);
            // Regions are looked up, and dropped, before the machine can say
            // anything else about them.
            for action in actions {
                sends.extend(self.carry_out(action));
            }
            self.plan(machine.next_tick());
        }
        let mut mine = Vec::new();
        for (connection, outgoing) in sends {
            if Some(connection) == own {
                mine.push(outgoing);
            } else {
                self.post(connection, outgoing);
            }
        }
        mine
    }

    fn carry_out(&self, action: ServerAction) -> Option<(ConnectionId, Outgoing)> {
        match action {
            ServerAction::Send {
                connection,
                message,
            } => Some((connection, Outgoing::Message(message))),
            ServerAction::Gather {
                connection,
                request,
                got,
                parts,
            } => {
                let regions = parts
                    .iter()
                    .filter_map(|part| self.regions.get(part.region))
                    .collect();
                let gather = Outgoing::Gather {
                    request,
                    got,
                    parts,
                    regions,
                };
                Some((connection, gather))
            }
            ServerAction::Drop { region } => {
                self.regions.forget(region);
                None
            }
            ServerAction::Disconnect { connection, reason } => {
                Some((connection, Outgoing::Disconnect(reason)))
            }
        }
    }

    /// Leaves something with another thread's connection, if it is still there.
    fn post(&self, connection: ConnectionId, outgoing: Outgoing) {
        let peer = lock(&self.peers).get(&connection.0).cloned();
        if let Some(peer) = peer {
            lock(&peer.outbox).push_back(outgoing);
            wake(&peer.wake);
        }
    }

    fn plan(&self, next: Option<Time>) {
        let mut planned = lock(&self.planned);
        let earlier = next.is_some_and(|next| planned.is_none_or(|planned| next < planned));
        *planned = next;
        if earlier {
            self.replanned.notify_one();
        }
    }

    /// Ticks the machine when it wants to be, until the server stops.
    pub(crate) fn tick_until_stopped(&self) {
        while !self.interrupt.is_set() {
            let now = Time::now();
            let planned = lock(&self.planned);
            let sleep = planned.map_or(IDLE_TICK, |planned| planned.since(now));
            if planned.is_some() && sleep.is_zero() {
                drop(planned);
                self.handle(ServerEvent::Tick, None);
                continue;
            }
            let waited = self.replanned.wait_timeout(planned, sleep);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Ends every thread's waits.
    pub(crate) fn stop(&self) {
        self.interrupt.set();
        // Under the lock, so that the ticker is not between its look and its sleep.
        let planned = lock(&self.planned);
        self.replanned.notify_all();
        drop(planned);
        for peer in lock(&self.peers).values() {
            wake(&peer.wake);
        }
    }

    /// Asks the machine something.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&ServerMachine) -> T) -> T {
        look(&lock(&self.machine))
    }
}

/// Wakes whoever polls an eventfd. Its counter cannot overflow in practice,
/// and if it did, it would be awake.
pub(crate) fn wake(fd: &OwnedFd) {
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

/// Makes an eventfd quiet again.
pub(crate) fn quiet(fd: &OwnedFd) {
    let mut counter = [0; 8];
    // Nothing to read is as quiet as can be.
    let _ = rustix::io::read(fd, &mut counter);
}
