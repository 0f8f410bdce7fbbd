//! An endpoint and its peer beside bare loops of the same pattern, in the same
//! run.
//!
//! `cargo bench -p panta-transports --bench coupling`. First reads of 64 MiB in
//! GB/s: over a bare socket that is asked with eight bytes, over one and over
//! two connections of a peer, and out of shared memory beside a bare copy.
//! Then round trips of a message of 64 bytes in microseconds. Variants
//! alternate, medians are printed, and each one's ratio to the bare loop.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use panta_transports::channel::Key;
use panta_transports::coupling::{
    Choice, Endpoint, EndpointOptions, Handler, Lost, Peer, PeerId, PeerInfo, PeerOptions, Piece,
    TransportName, Urgency,
};
use panta_transports::region::{Arena, ArenaOptions, Extent};
use panta_transports::time::{Time, Wait};

const READ_BYTES: usize = 64 << 20;
const READS: usize = 6;
const TRIPS: usize = 4000;
const ROUNDS: usize = 5;

fn wait() -> Wait {
    Wait::for_at_most(Duration::from_secs(60))
}

/// Sends every message back.
#[derive(Default)]
struct Echo(OnceLock<Weak<Endpoint>>);

impl Handler for Echo {
    fn joined(&self, _: PeerId, _: &[u8], _: &PeerInfo) -> Result<(), String> {
        Ok(())
    }

    fn message(&self, peer: PeerId, message: &[u8]) {
        if let Some(endpoint) = self.0.get().and_then(Weak::upgrade) {
            endpoint.send(peer, &[message]).unwrap();
        }
    }

    fn lost(&self, _: PeerId, _: &Lost) {}
}

struct Bench {
    endpoint: Arc<Endpoint>,
    extent: Extent,
    key: Key,
}

impl Bench {
    fn open() -> Self {
        let key = Key::generate().unwrap();
        let arena = Arena::new(ArenaOptions {
            limit_bytes: 1 << 30,
            shared: true,
        });
        let mut extent = arena.allocate(READ_BYTES).unwrap();
        extent.as_mut_slice().fill(7);
        let echo = Arc::new(Echo::default());
        let handler: Arc<dyn Handler> = Arc::clone(&echo) as _;
        let options = EndpointOptions::new(key.clone());
        let endpoint = Arc::new(Endpoint::open(options, arena, handler).unwrap());
        echo.0.set(Arc::downgrade(&endpoint)).unwrap();
        Self {
            endpoint,
            extent,
            key,
        }
    }

    fn peer(&self, transport: TransportName, connections: u8, spin: Duration) -> Peer {
        let mut options = PeerOptions {
            choice: Choice::Only(transport),
            spin,
            ..PeerOptions::new(self.key.clone())
        };
        options.limits.connections = connections;
        Peer::connect(&self.endpoint.ticket(), &options, &wait()).unwrap()
    }

    fn reads(&self, transport: TransportName, connections: u8) -> f64 {
        let peer = self.peer(transport, connections, Duration::from_micros(30));
        let mut into = vec![MaybeUninit::new(0_u8); READ_BYTES];
        let mut read = || {
            let mut pieces = [Piece {
                region: self.extent.region(),
                offset: self.extent.offset(),
                into: &mut into,
            }];
            peer.read(&mut pieces, &wait()).unwrap();
        };
        read();
        gigabytes_a_second(read)
    }

    fn copies(&self) -> f64 {
        let mut into = vec![0_u8; READ_BYTES];
        gigabytes_a_second(|| {
            into.copy_from_slice(std::hint::black_box(self.extent.as_slice()));
            std::hint::black_box(&mut into);
        })
    }

    /// With somebody who drives, or with the endpoint's thread alone.
    fn trips(&self, transport: TransportName, spin: Duration, is_driven: bool) -> f64 {
        let peer = self.peer(transport, 1, spin);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            if is_driven {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let _ = self
                            .endpoint
                            .drive(&Wait::for_at_most(Duration::from_millis(20)));
                    }
                });
            }
            let mut into = Vec::new();
            let median = median_trip(|| {
                peer.send(&[&[7; 64]], Urgency::Now, &wait()).unwrap();
                peer.receive(&mut into, &wait()).unwrap();
            });
            is_over.store(true, Ordering::Relaxed);
            median
        })
    }
}

fn gigabytes_a_second(mut read: impl FnMut()) -> f64 {
    let start = Time::now();
    for _ in 0..READS {
        read();
    }
    let seconds = Time::now().since(start).as_secs_f64();
    (READ_BYTES * READS) as f64 / seconds / 1e9
}

/// Microseconds of each of some round trips, the median.
fn median_trip(mut trip: impl FnMut()) -> f64 {
    let mut times: Vec<_> = (0..TRIPS)
        .map(|_| {
            let start = Time::now();
            trip();
            Time::now().since(start).as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[TRIPS / 2]
}

fn bare_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

fn bare_reads() -> f64 {
    let (mut near, mut far) = bare_pair();
    let server = thread::spawn(move || {
        let body = vec![7_u8; READ_BYTES];
        let mut request = [0; 8];
        while far.read_exact(&mut request).is_ok() {
            far.write_all(&body).unwrap();
        }
    });
    let mut into = vec![0; READ_BYTES];
    let mut read = || {
        near.write_all(&[1; 8]).unwrap();
        near.read_exact(&mut into).unwrap();
    };
    read();
    let speed = gigabytes_a_second(read);
    drop(near);
    server.join().unwrap();
    speed
}

fn bare_trips() -> f64 {
    let (mut near, mut far) = bare_pair();
    let echo = thread::spawn(move || {
        let mut bytes = [0; 64];
        while far.read_exact(&mut bytes).is_ok() {
            far.write_all(&bytes).unwrap();
        }
    });
    let mut bytes = [7; 64];
    let median = median_trip(|| {
        near.write_all(&bytes).unwrap();
        near.read_exact(&mut bytes).unwrap();
    });
    drop(near);
    echo.join().unwrap();
    median
}

/// Prints the medians, and their ratios to the variant named as bare for each.
fn print_medians(unit: &str, variants: &[(&str, usize, &dyn Fn() -> f64)]) {
    let mut figures = vec![Vec::new(); variants.len()];
    for _ in 0..ROUNDS {
        for ((_, _, measure), figures) in variants.iter().zip(&mut figures) {
            figures.push(measure());
        }
    }
    for ((name, bare, _), own) in variants.iter().zip(&figures) {
        let ratios: Vec<f64> = own
            .iter()
            .zip(&figures[*bare])
            .map(|(a, b)| a / b)
            .collect();
        let (median, ratio) = (median(own), median(&ratios));
        println!("{name:>40} {median:>8.2} {unit}  {ratio:>5.2} of bare");
    }
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() {
    let bench = Bench::open();
    let (tcp, shm) = (TransportName::Tcp, TransportName::Shm);
    print_medians(
        "GB/s",
        &[
            ("bare socket", 0, &bare_reads),
            ("tcp, one connection", 0, &|| bench.reads(tcp, 1)),
            ("tcp, two connections", 0, &|| bench.reads(tcp, 2)),
            ("bare copy", 3, &|| bench.copies()),
            ("shm", 3, &|| bench.reads(shm, 1)),
        ],
    );
    let none = Duration::ZERO;
    let some = Duration::from_micros(30);
    print_medians(
        "us",
        &[
            ("bare socket, blocking", 0, &bare_trips),
            ("tcp, sleeping", 0, &|| bench.trips(tcp, none, false)),
            ("tcp, looking for 30 us", 0, &|| {
                bench.trips(tcp, some, false)
            }),
            ("shm, urgent, nobody drives", 0, &|| {
                bench.trips(shm, some, false)
            }),
            ("shm, driven", 0, &|| bench.trips(shm, some, true)),
        ],
    );
}
