//! Channels beside bare TCP over loopback, in the same run.
//!
//! `cargo bench -p panta-transports --bench channel`. First the round trip of
//! a head of 64 bytes, in microseconds: over a bare blocking socket, over a
//! channel whose ends sleep, and over channels that look for a while before
//! they sleep. Then bodies of 64 MiB, one way, in GB/s. Variants alternate,
//! medians are printed.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use panta_transports::channel::{Acceptor, Channel, Connector, Key, Listener, Role};
use panta_transports::time::{Time, Wait};

const TRIPS: usize = 4000;
const BODY_BYTES: usize = 64 << 20;
const BODIES: usize = 6;
const ROUNDS: usize = 5;

fn wait() -> Wait {
    Wait::for_at_most(Duration::from_secs(60))
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn pair(encrypt: bool, spin: Duration) -> (Channel, Channel) {
    let key = Key::generate().unwrap();
    let acceptor = Acceptor {
        encrypt,
        spin,
        ..Acceptor::new(key.clone())
    };
    let connector = Connector {
        encrypt,
        spin,
        ..Connector::new(key, Role::Cluster)
    };
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr();
    let far = thread::spawn(move || Channel::connect(address, &connector, &wait()).unwrap());
    let pending = listener.accept(&wait()).unwrap();
    let near = Channel::accept(pending, &acceptor, &wait()).unwrap();
    (near, far.join().unwrap())
}

fn bare_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
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

fn bare_trip() -> f64 {
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

fn channel_trip(spin: Duration) -> f64 {
    let (mut near, mut far) = pair(false, spin);
    let echo = thread::spawn(move || {
        while let Ok(head) = far.receive_head(&wait()) {
            let head = head.bytes.to_vec();
            far.send(&head, &[], &wait()).unwrap();
        }
    });
    let median = median_trip(|| {
        near.send(&[7; 64], &[], &wait()).unwrap();
        near.receive_head(&wait()).unwrap();
    });
    drop(near);
    echo.join().unwrap();
    median
}

fn bare_bodies() -> f64 {
    let (mut near, mut far) = bare_pair();
    let sender = thread::spawn(move || {
        let body = vec![1; BODY_BYTES];
        for _ in 0..BODIES {
            near.write_all(&body).unwrap();
        }
    });
    let mut into = vec![0; BODY_BYTES];
    let start = Time::now();
    for _ in 0..BODIES {
        far.read_exact(&mut into).unwrap();
    }
    let seconds = Time::now().since(start).as_secs_f64();
    sender.join().unwrap();
    (BODY_BYTES * BODIES) as f64 / seconds / 1e9
}

fn channel_bodies(encrypt: bool) -> f64 {
    let (mut near, mut far) = pair(encrypt, Duration::ZERO);
    let sender = thread::spawn(move || {
        let body = vec![1; BODY_BYTES];
        for _ in 0..BODIES {
            near.send(&[7; 64], &[&body], &wait()).unwrap();
        }
    });
    let mut into = vec![0; BODY_BYTES];
    let start = Time::now();
    for _ in 0..BODIES {
        far.receive_head(&wait()).unwrap();
        far.receive_body(&mut into, &wait()).unwrap();
    }
    let seconds = Time::now().since(start).as_secs_f64();
    sender.join().unwrap();
    (BODY_BYTES * BODIES) as f64 / seconds / 1e9
}

fn print_medians(unit: &str, variants: &[(&str, &dyn Fn() -> f64)]) {
    let mut figures = vec![Vec::new(); variants.len()];
    for _ in 0..ROUNDS {
        for ((_, measure), figures) in variants.iter().zip(&mut figures) {
            figures.push(measure());
        }
    }
    for ((name, _), figures) in variants.iter().zip(&mut figures) {
        figures.sort_by(f64::total_cmp);
        println!("{name:>32} {:>8.2} {unit}", figures[ROUNDS / 2]);
    }
}

fn main() {
    let look = Duration::from_micros;
    print_medians(
        "us",
        &[
            ("bare TCP, blocking", &bare_trip),
            ("channel, sleeping", &|| channel_trip(Duration::ZERO)),
            ("channel, looking for 30 us", &|| channel_trip(look(30))),
            ("channel, looking for 500 us", &|| channel_trip(look(500))),
        ],
    );
    print_medians(
        "GB/s",
        &[
            ("bare TCP", &bare_bodies),
            ("channel, raw bodies", &|| channel_bodies(false)),
            ("channel, sealed bodies", &|| channel_bodies(true)),
        ],
    );
}
