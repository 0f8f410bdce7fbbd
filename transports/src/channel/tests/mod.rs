//! Channels over loopback, with good peers and bad ones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod frames;
mod handshake;
mod polled;
mod waits;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::*;
use crate::time::Wait;

/// Longer than anything here takes.
fn wait() -> Wait {
    Wait::for_at_most(Duration::from_secs(60))
}

/// Loopback, a free port.
fn listener() -> Listener {
    Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
}

fn key() -> Key {
    Key::from_bytes([9; 32])
}

fn reader_key() -> Key {
    key().derive(Role::Cluster, Role::Reader).unwrap()
}

fn acceptor() -> Acceptor {
    Acceptor::new(key())
}

fn connector() -> Connector {
    Connector::new(reader_key(), Role::Reader)
}

type Ends = (Result<Channel, ChannelError>, Result<Channel, ChannelError>);

/// Both ends of an attempt: the accepting one first.
fn attempt(acceptor: &Acceptor, connector: &Connector) -> Ends {
    let listener = listener();
    let address = listener.local_addr();
    thread::scope(|scope| {
        let accepted = scope.spawn(|| {
            let pending = listener.accept(&wait()).unwrap();
            Channel::accept(pending, acceptor, &wait())
        });
        let connected = Channel::connect(address, connector, &wait());
        (accepted.join().unwrap(), connected)
    })
}

fn pair(acceptor: &Acceptor, connector: &Connector) -> (Channel, Channel) {
    let (accepted, connected) = attempt(acceptor, connector);
    let connected = connected.unwrap();
    (accepted.unwrap(), connected)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// A channel whose other end is a bare socket that `tamper` writes to the
/// receiver, given what a good sender sent.
fn tampered(
    acceptor: &Acceptor,
    send: impl FnOnce(&mut Channel) + Send,
    tamper: impl FnOnce(&mut Vec<u8>) + Send,
) -> Channel {
    let (front, back) = (listener(), listener());
    let (front_address, back_address) = (front.local_addr(), back.local_addr());
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut near = bare(front.accept(&wait()).unwrap());
            let mut far = TcpStream::connect(back_address).unwrap();
            let mut preamble = [0; 60];
            near.read_exact(&mut preamble).unwrap();
            far.write_all(&preamble).unwrap();
            far.read_exact(&mut preamble).unwrap();
            near.write_all(&preamble).unwrap();
            let mut sent = Vec::new();
            near.read_to_end(&mut sent).unwrap();
            tamper(&mut sent);
            far.write_all(&sent).unwrap();
        });
        let connector = Connector {
            encrypt: acceptor.encrypt,
            ..connector()
        };
        scope.spawn(move || {
            let mut good = Channel::connect(front_address, &connector, &wait()).unwrap();
            send(&mut good);
        });
        Channel::accept(back.accept(&wait()).unwrap(), acceptor, &wait()).unwrap()
    })
}

/// The bare socket of a connection that was accepted, blocking.
fn bare(pending: Pending) -> TcpStream {
    let stream = TcpStream::from(rustix::io::dup(&pending.0).unwrap());
    stream.set_nonblocking(false).unwrap();
    stream
}
