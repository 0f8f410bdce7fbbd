//! Every wait ends: by its deadline, by the flag, or with the peer.

use rustix::net::SendFlags;

use super::*;
use crate::time::{Interrupt, WaitError};
use std::sync::mpsc;

#[test]
fn a_wait_that_ended_inside_a_frame_is_taken_up_again() {
    for encrypt in [false, true] {
        let (front, acceptor) = (
            listener(),
            Acceptor {
                encrypt,
                ..acceptor()
            },
        );
        let address = front.local_addr();
        let body = bytes(150_000);
        let (to_sender, go_on) = mpsc::channel::<usize>();
        thread::scope(|scope| {
            let body = &body;
            let near = scope.spawn(move || {
                let pending = front.accept(&wait()).unwrap();
                Channel::accept(pending, &acceptor, &wait()).unwrap()
            });
            // A good sender's bytes, let through some at a time.
            let middle = listener();
            let middle_address = middle.local_addr();
            let connector = Connector {
                encrypt,
                ..connector()
            };
            scope.spawn(move || {
                let mut good = Channel::connect(middle_address, &connector, &wait()).unwrap();
                good.send(b"head", &[body], &wait()).unwrap();
            });
            scope.spawn(move || {
                let mut from = bare(middle.accept(&wait()).unwrap());
                let mut to = TcpStream::connect(address).unwrap();
                let mut preamble = [0; 60];
                from.read_exact(&mut preamble).unwrap();
                to.write_all(&preamble).unwrap();
                to.read_exact(&mut preamble).unwrap();
                from.write_all(&preamble).unwrap();
                for some in go_on {
                    let mut bytes = vec![0; some];
                    from.read_exact(&mut bytes).unwrap();
                    to.write_all(&bytes).unwrap();
                }
                std::io::copy(&mut from, &mut to).unwrap();
            });
            let mut near = near.join().unwrap();
            let short = || Wait::for_at_most(Duration::from_millis(5));
            for some in [1, 15, 20] {
                to_sender.send(some).unwrap();
                let error = near.receive_head(&short()).unwrap_err();
                assert!(matches!(error, ChannelError::Wait { .. }), "{error}");
            }
            to_sender.send(40_000).unwrap();
            assert_eq!(near.receive_head(&wait()).unwrap().bytes, b"head");
            let mut into = vec![0; body.len()];
            let error = near.receive_body(&mut into, &short()).unwrap_err();
            assert!(matches!(error, ChannelError::Wait { .. }), "{error}");
            drop(to_sender);
            let done = into.len() - near.body_left() as usize;
            near.receive_body(&mut into[done..], &wait()).unwrap();
            assert!(into == *body);
        });
    }
}

#[test]
fn an_interrupt_ends_each_wait() {
    let interrupt = Interrupt::default();
    let endless = Wait::new(Duration::from_secs(3600), &interrupt);
    let (mut idle, _quiet_peer) = pair(&acceptor(), &connector());
    let (_full, mut busy) = pair(&acceptor(), &connector());
    let quiet = listener();
    let silent = TcpStream::connect(quiet.local_addr()).unwrap();
    let pending = quiet.accept(&wait()).unwrap();
    let huge = vec![0_u8; 64 << 20];
    thread::scope(|scope| {
        let ends = [
            scope.spawn(|| quiet.accept(&endless).map(drop)),
            scope.spawn(|| Channel::accept(pending, &acceptor(), &endless).map(drop)),
            scope.spawn(|| idle.receive_head(&endless).map(drop)),
            // More than the sockets take, and nobody receives.
            scope.spawn(|| busy.send(&[], &[&huge], &endless)),
        ];
        interrupt.set();
        for end in ends {
            let error = end.join().unwrap().unwrap_err();
            let interrupted = WaitError::Interrupted;
            assert!(
                matches!(error, ChannelError::Wait { source, .. } if source == interrupted),
                "{error}"
            );
        }
    });
    drop(silent);
}

#[test]
fn a_send_that_ended_midway_ends_the_channel() {
    let (mut near, mut far) = pair(&acceptor(), &connector());
    let short = Wait::for_at_most(Duration::from_millis(30));
    let error = far
        .send(b"head", &[&vec![0; 64 << 20]], &short)
        .unwrap_err();
    assert!(matches!(error, ChannelError::Wait { .. }), "{error}");
    let again = far.send(b"head", &[], &wait());
    assert!(matches!(again, Err(ChannelError::Closed { .. })));
    assert_eq!(near.receive_head(&wait()).unwrap().bytes, b"head");
    let cut = near.receive_body(&mut vec![0; 64 << 20], &wait());
    assert!(matches!(cut, Err(ChannelError::Closed { .. })));
}

#[test]
fn a_peer_that_is_gone_ends_the_wait_at_once() {
    let (mut near, far) = pair(&acceptor(), &connector());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| near.receive_head(&wait()).map(drop));
        drop(far);
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, ChannelError::Closed { .. }), "{error}");
    });
}

#[test]
fn closing_one_direction_wakes_a_thread_in_the_other() {
    let (near, _far) = pair(&acceptor(), &connector());
    let (sender, mut receiver) = near.split();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || receiver.receive_head(&wait()).map(drop));
        sender.close();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, ChannelError::Closed { .. }), "{error}");
    });
}

#[test]
fn sealed_bytes_on_the_wire_do_not_show_what_was_sent() {
    let secret = b"a secret that nobody on the wire may read";
    for (encrypt, shows) in [(false, true), (true, false)] {
        let (tx, rx) = mpsc::channel();
        let accepting = Acceptor {
            encrypt,
            ..acceptor()
        };
        tampered(
            &accepting,
            |good| good.send(secret, &[secret], &wait()).unwrap(),
            move |sent| tx.send(sent.clone()).unwrap(),
        );
        let sent: Vec<u8> = rx.recv().unwrap();
        let found = sent
            .windows(secret.len())
            .filter(|bytes| bytes == secret)
            .count();
        assert_eq!(
            found,
            usize::from(shows),
            "heads are always sealed, bodies if asked"
        );
    }
}

/// Fills the sockets with bytes that are no frame; returns how many.
fn fill(channel: &Channel) -> usize {
    let (mut filled, mut refused) = (0, 0);
    // What was sent still moves over to the other side for a while.
    while refused < 5000 {
        match rustix::net::send(channel, &[0; 4096], SendFlags::DONTWAIT) {
            Ok(sent) => {
                filled += sent;
                refused = 0;
            }
            Err(_) => refused += 1,
        }
        thread::yield_now();
    }
    filled
}

#[test]
fn a_send_that_had_not_begun_can_be_tried_again() {
    let (mut near, mut far) = pair(&acceptor(), &connector());
    let filled = fill(&far);
    let error = far
        .send(b"head", &[], &Wait::for_at_most(Duration::ZERO))
        .unwrap_err();
    assert!(matches!(error, ChannelError::Wait { .. }), "{error}");
    let stream = TcpStream::from(rustix::io::dup(&near).unwrap());
    stream.set_nonblocking(false).unwrap();
    (&stream).read_exact(&mut vec![0; filled]).unwrap();
    stream.set_nonblocking(true).unwrap();
    far.send(b"head", &[], &wait()).unwrap();
    assert_eq!(near.receive_head(&wait()).unwrap().bytes, b"head");
}
