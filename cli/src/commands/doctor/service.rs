//! The side that is asked: an endpoint with the pattern behind it, and every
//! provider of libfabric that is there.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use panta_transports::channel::Key;
use panta_transports::coupling::{
    Endpoint, EndpointOptions, Handler, InterfaceChoice, Lost, PeerId, PeerInfo,
};
use panta_transports::rdma::{Fabric, FabricExposure, FabricOptions, Progress};
use panta_transports::region::{Arena, ArenaOptions};
use panta_transports::time::{Time, Wait};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::pattern;
use super::ticket::DoctorTicket;
use crate::error::CommandError;

/// What the other side sends: where the pattern is, and that it goes.
pub(super) const WHERE: &[u8] = b"where";
pub(super) const GOODBYE: &[u8] = b"goodbye";

/// How long nobody may be there, after somebody was.
const ALONE: Duration = Duration::from_secs(3);

/// How often the service looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Providers that others have superseded, and that fail in ways of their own.
const SUPERSEDED: [&str; 3] = ["sockets", "udp", "net"];

/// Who is there, and what they said.
#[derive(Default)]
struct Visitors(Mutex<Visits>);

#[derive(Default)]
struct Visits {
    there: usize,
    ever: bool,
    asked: Vec<PeerId>,
    goodbye: bool,
}

impl Visitors {
    fn with<T>(&self, change: impl FnOnce(&mut Visits) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Handler for Visitors {
    fn joined(&self, _: PeerId, _: &[u8], _: &PeerInfo) -> Result<(), String> {
        self.with(|visits| {
            visits.there += 1;
            visits.ever = true;
        });
        Ok(())
    }

    fn message(&self, peer: PeerId, message: &[u8]) {
        self.with(|visits| match message {
            WHERE => visits.asked.push(peer),
            GOODBYE => visits.goodbye = true,
            _ => {}
        });
    }

    fn lost(&self, _: PeerId, _: &Lost) {
        self.with(|visits| visits.there = visits.there.saturating_sub(1));
    }
}

/// Serves until the other side has gone, or nobody came for `wait`.
pub(super) fn run(interfaces: &[InterfaceChoice], wait: Duration) -> Result<(), CommandError> {
    let failed = |error: &dyn std::fmt::Display| CommandError::failed(error.to_string());
    let key = Key::generate().map_err(|error| failed(&error))?;
    let arena = Arena::new(ArenaOptions {
        limit_bytes: 2 * pattern::BYTES as u64,
        shared: true,
    });
    let mut extent = arena
        .allocate(pattern::BYTES)
        .map_err(|error| failed(&error))?;
    pattern::fill(extent.as_mut_slice());
    let options = EndpointOptions {
        interfaces: interfaces.to_vec(),
        ..EndpointOptions::new(key.clone())
    };
    let visitors = Arc::new(Visitors::default());
    let handler: Arc<dyn Handler> = Arc::clone(&visitors) as _;
    let endpoint =
        Endpoint::open(options, arena.clone(), handler).map_err(|error| failed(&error))?;
    let ticket = DoctorTicket {
        key: *key.secret_bytes(),
        endpoint: endpoint.ticket(),
    };
    let node = ticket
        .endpoint
        .addresses
        .first()
        .map(|address| address.ip().to_string());
    let fabrics = Fabrics::open(&arena, node.as_deref());
    let answer = json!({
        "region": extent.region(),
        "offset": extent.offset(),
        "fabrics": fabrics.told,
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "on the other host: panta doctor --connect {ticket}")?;
    out.flush()?;
    drop(out);
    serve(&endpoint, &visitors, answer.to_string().as_bytes(), wait)
}

fn serve(
    endpoint: &Endpoint,
    visitors: &Visitors,
    answer: &[u8],
    wait: Duration,
) -> Result<(), CommandError> {
    let end = Time::now().after(wait);
    let mut alone_since = Time::now();
    loop {
        // It ends by the deadline mostly, which is no news.
        let _ = endpoint.drive(&Wait::for_at_most(LOOK));
        for peer in visitors.with(|visits| std::mem::take(&mut visits.asked)) {
            // One that is lost already needs no answer.
            let _ = endpoint.send(peer, &[answer]);
        }
        let (there, ever, goodbye) =
            visitors.with(|visits| (visits.there, visits.ever, visits.goodbye));
        let now = Time::now();
        if there > 0 {
            alone_since = now;
        }
        if goodbye || ever && now.since(alone_since) > ALONE {
            return Ok(());
        }
        if !ever && now >= end {
            return Err(CommandError::failed(format!(
                "nobody came within {wait:?}; check that the other host reaches an address of --interface, or give it longer with --wait"
            )));
        }
    }
}

/// The providers, each with a thread that keeps it going.
struct Fabrics {
    told: Vec<Value>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Fabrics {
    fn open(arena: &Arena, node: Option<&str>) -> Self {
        let mut fabrics = Self {
            told: Vec::new(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        // Without libfabric there is nothing to tell; this side's own lines say why.
        if let Ok(fabric) = Fabric::load() {
            for name in names(&fabric) {
                let told = match fabrics.open_one(&fabric, &name, arena, node) {
                    Ok(offer) => json!({"provider": name, "offer": offer}),
                    Err(error) => json!({"provider": name, "error": error}),
                };
                fabrics.told.push(told);
            }
        }
        fabrics
    }

    fn open_one(
        &mut self,
        fabric: &Fabric,
        name: &str,
        arena: &Arena,
        node: Option<&str>,
    ) -> Result<Vec<u8>, String> {
        let mut options = FabricOptions::with_provider(name);
        if name.starts_with("tcp") {
            options.node = node.map(str::to_owned);
        }
        let exposure = FabricExposure::open(fabric, &options, arena);
        let exposure = exposure.map_err(|error| error.to_string())?;
        let offer = exposure.offer().to_vec();
        let stop = Arc::clone(&self.stop);
        self.threads
            .push(std::thread::spawn(move || keep_going(&exposure, &stop)));
        Ok(offer)
    }
}

impl Drop for Fabrics {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// The providers worth a trial, each once.
fn names(fabric: &Fabric) -> Vec<String> {
    let mut names = Vec::new();
    for one in fabric.providers().unwrap_or_default() {
        let core = one.provider.split(';').next().unwrap_or_default();
        if one.usable && !SUPERSEDED.contains(&core) && !names.contains(&one.provider) {
            names.push(one.provider);
        }
    }
    names
}

fn keep_going(exposure: &FabricExposure, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match exposure.progress() {
            Ok(Progress::More) => continue,
            Ok(Progress::Idle) => {}
            // The other side sees reads that fail.
            Err(_) => return,
        }
        let fd = exposure.wait_fd();
        let mut fds: Vec<PollFd<'_>> = fd.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let most = exposure.poll_interval().unwrap_or(LOOK);
        let timeout = Timespec {
            tv_sec: 0,
            // Both are shorter than a second.
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        // Whatever ends it, the next round looks again.
        let _ = poll(&mut fds, Some(&timeout));
    }
}
