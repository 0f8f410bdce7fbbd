//! The staging server: sockets, threads and memory around the protocol's machine.
//!
//! ```text
//!   Server::start ── accept thread ── connection threads ──┐
//!                └── tick thread ──────────────────────────┴─> Hub: machine, regions
//! ```
//! [`panta_staging::proto::server::ServerMachine`] decides; this crate receives
//! bodies straight into the memory where they stay, and answers gets from there.
//!
//! It promises: nobody without the key costs more than a handshake; no peer,
//! whatever it sends, ends more than its own connection; payload is bounded by
//! [`ServerOptions::limit_bytes`], what is being received and what is idle by
//! stated shares beside it; it listens on loopback until an address is named.
//!
//! It never prints: where its key lies is returned, the rest is logged through
//! `tracing`. It keeps nothing on disk and has no replicas; a list of servers
//! is fixed for the life of the space. Pages for people, discovery and a
//! replicated log will come as modules beside these, on the same machine.

mod connection;
mod gather;
mod hub;
mod options;
mod payload;
mod receive;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use panta_staging::proto::limits;
use panta_staging::proto::message::Map;
use panta_staging::proto::server::{ServerConfig, ServerMachine};
use panta_staging::shard::{self, ShardMap};
use panta_transports::channel::{
    Acceptor, Channel, ChannelCounters, ChannelLimits, Key, Listener, Pending,
};
use panta_transports::copy::CopyCounter;
use panta_transports::random;
use panta_transports::time::Wait;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

pub use options::{CONNECTIONS_DEFAULT, DEFAULT_PORT, ServerOptions, StartError};

use hub::{Hub, wake};

/// Bytes that may be on their way into memory at once, beside those held.
const ARRIVING_LIMIT_BYTES: u64 = 4 * limits::BODY_LIMIT_BYTES;
/// The most idle memory kept for later, and its share of the limit.
const IDLE_LIMIT_BYTES: u64 = 1 << 30;
const IDLE_SHARE: u64 = 4;
/// Stack of a connection's thread; payload never lies on it.
const STACK_BYTES: usize = 512 << 10;
/// How long an accepted connection is waited for, once poll has seen it.
const ACCEPT_LIMIT: Duration = Duration::from_millis(50);

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    hub: Arc<Hub>,
    address: SocketAddr,
    names: Vec<String>,
    key_path: PathBuf,
    counters: ChannelCounters,
    stop: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a server; it serves when this returns.
    ///
    /// # Errors
    /// [`StartError`]: the address, the key or the list of servers is wrong.
    pub fn start(options: ServerOptions) -> Result<Self, StartError> {
        let (key, key_path) = options.load_key()?;
        let listener = Listener::bind(options.listen)?;
        let address = listener.local_addr();
        let (server, names) = options.place_in_list(address)?;
        let incarnation = random::number()?;
        let machine = ServerMachine::new(ServerConfig {
            server,
            names: names.clone(),
            incarnation,
            map: first_map(&names)?,
            limit_bytes: options.limit_bytes,
            reconnect_grace: options.reconnect_grace,
        });
        let idle = IDLE_LIMIT_BYTES.min(options.limit_bytes / IDLE_SHARE);
        let idle = usize::try_from(idle).unwrap_or(usize::MAX);
        let hub = Arc::new(Hub::new(machine, idle, ARRIVING_LIMIT_BYTES));
        let counters = ChannelCounters::new();
        let acceptor = acceptor(key, &options, &counters);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(StartError::system)?);
        let doorman = Doorman {
            hub: Arc::clone(&hub),
            acceptor: Arc::new(acceptor),
            stop: Arc::clone(&stop),
            connections: Arc::default(),
            limit: options.connections,
        };
        let mut this = Self {
            hub: Arc::clone(&hub),
            address,
            names,
            key_path,
            counters,
            stop,
            threads: Vec::new(),
        };
        this.spawn("panta-accept", move || doorman.run(&listener))?;
        this.spawn("panta-tick", move || hub.tick_until_stopped())?;
        tracing::info!(%address, server = server.0, "staging server started");
        Ok(this)
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(work);
        self.threads.push(thread.map_err(StartError::system)?);
        Ok(())
    }

    /// Where it listens, with the port that was picked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The names of all servers of the space, in the order all agree on: what
    /// clients are given.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The file that holds the key, made at the first start.
    #[must_use]
    pub fn key_path(&self) -> &Path {
        &self.key_path
    }

    /// Payload bytes held now, with what indexing them is charged.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.hub.look(ServerMachine::held_bytes)
    }

    /// Connections there are now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.hub.look(ServerMachine::connections)
    }

    /// Frames and bytes of all its connections so far.
    #[must_use]
    pub fn counters(&self) -> &ChannelCounters {
        &self.counters
    }

    /// Payload copies so far.
    #[must_use]
    pub fn copies(&self) -> &CopyCounter {
        &self.hub.copies
    }

    /// Stops: connections end, what was held is gone.
    pub fn stop(mut self) {
        self.shut();
    }

    fn shut(&mut self) {
        self.hub.stop();
        wake(&self.stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the staging server panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut();
    }
}

fn acceptor(key: Key, options: &ServerOptions, counters: &ChannelCounters) -> Acceptor {
    let mut acceptor = Acceptor::new(key);
    acceptor.encrypt = options.encrypt;
    acceptor.spin = options.spin;
    acceptor.limits = ChannelLimits {
        head_bytes: limits::HEAD_LIMIT_BYTES as u32,
        body_bytes: limits::BODY_LIMIT_BYTES,
    };
    acceptor.counters = counters.clone();
    acceptor
}

/// The map of a space whose list of servers has never changed.
fn first_map(names: &[String]) -> Result<Map, StartError> {
    let servers = (1..)
        .zip(names)
        .map(|(id, address)| shard::Server {
            id,
            address: address.clone(),
        })
        .collect();
    let map = ShardMap::even(1, servers)?;
    Ok(Map {
        version: map.version(),
        bytes: map.encode(),
    })
}

/// Lets connections in, each into a thread of its own.
struct Doorman {
    hub: Arc<Hub>,
    acceptor: Arc<Acceptor>,
    stop: Arc<OwnedFd>,
    connections: Arc<AtomicUsize>,
    limit: usize,
}

/// Counts a connection until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Doorman {
    fn run(&self, listener: &Listener) {
        let mut threads: Vec<JoinHandle<()>> = Vec::new();
        while !self.hub.interrupt.is_set() {
            let mut fds = [
                PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN),
            ];
            let polled = poll(&mut fds, None);
            if polled.is_err() || fds[0].revents().is_empty() {
                continue;
            }
            let wait = Wait::new(ACCEPT_LIMIT, &self.hub.interrupt);
            match listener.accept(&wait) {
                Ok(pending) => threads.extend(self.admit(pending)),
                Err(error) => tracing::debug!(%error, "nothing accepted"),
            }
            threads.retain(|thread| !thread.is_finished());
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a connection's thread panicked");
            }
        }
    }

    fn admit(&self, pending: Pending) -> Option<JoinHandle<()>> {
        let peer = pending.peer();
        let place = Place(Arc::clone(&self.connections));
        if self.connections.fetch_add(1, Ordering::AcqRel) >= self.limit {
            tracing::warn!(%peer, limit = self.limit, "too many connections; this one is refused");
            return None;
        }
        let (hub, acceptor) = (Arc::clone(&self.hub), Arc::clone(&self.acceptor));
        let work = move || {
            let _place = place;
            let wait = Wait::new(panta_transports::channel::HANDSHAKE_LIMIT, &hub.interrupt);
            match Channel::accept(pending, &acceptor, &wait) {
                Ok(channel) => connection::serve(&hub, channel),
                Err(error) => tracing::warn!(%peer, %error, "refused"),
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("panta-{}", peer.port()))
            .stack_size(STACK_BYTES)
            .spawn(work);
        match thread {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::warn!(%peer, %error, "no thread for a connection");
                None
            }
        }
    }
}
