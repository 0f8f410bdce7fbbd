//! Channels over loopback, with good peers and bad ones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::wire::HEAD_PIECE_BYTES;
use super::*;
use crate::time::{Interrupt, Wait, WaitError};

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
            let near = front.accept(&wait()).unwrap().0;
            let mut near = TcpStream::from(rustix::io::dup(&near).unwrap());
            near.set_nonblocking(false).unwrap();
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

const SIZES: [usize; 6] = [0, 1, 4095, 65_535, 65_536, (1 << 20) + 1];

#[test]
fn heads_and_bodies_of_all_sizes_arrive_sealed_or_not() {
    for encrypt in [false, true] {
        let (mut near, far) = pair(
            &Acceptor {
                encrypt,
                ..acceptor()
            },
            &Connector {
                encrypt,
                ..connector()
            },
        );
        let (mut sender, mut receiver) = far.split();
        thread::scope(|scope| {
            scope.spawn(move || {
                for head in SIZES.map(|size| bytes(size.min(1 << 20))) {
                    for body in SIZES.map(bytes) {
                        // Cut so that sealed pieces span slices.
                        let (a, b) = body.split_at(body.len() / 3);
                        sender.send(&head, &[a, &[], b], &wait()).unwrap();
                    }
                }
            });
            for head in SIZES.map(|size| bytes(size.min(1 << 20))) {
                for body in SIZES.map(bytes) {
                    let got = near.receive_head(&wait()).unwrap();
                    assert_eq!(got.bytes, head);
                    assert_eq!(got.body_bytes, body.len() as u64);
                    let mut into = vec![0; body.len()];
                    // In parts, so that pieces are delivered in parts too.
                    for part in into.chunks_mut(50_000) {
                        near.receive_body(part, &wait()).unwrap();
                    }
                    assert!(into == body);
                    assert_eq!(near.body_left(), 0);
                }
            }
        });
        near.send(b"done", &[], &wait()).unwrap();
        assert_eq!(receiver.receive_head(&wait()).unwrap().bytes, b"done");
    }
}

#[test]
fn a_body_that_nobody_wants_is_skipped() {
    for encrypt in [false, true] {
        let (mut near, mut far) = pair(
            &Acceptor {
                encrypt,
                ..acceptor()
            },
            &Connector {
                encrypt,
                ..connector()
            },
        );
        let body = bytes(200_000);
        thread::scope(|scope| {
            scope.spawn(move || {
                for head in [&b"first"[..], b"second", b"third"] {
                    far.send(head, &[&body], &wait()).unwrap();
                }
            });
            assert_eq!(near.receive_head(&wait()).unwrap().bytes, b"first");
            assert_eq!(near.receive_head(&wait()).unwrap().bytes, b"second");
            let mut some = vec![0; 70_000];
            near.receive_body(&mut some, &wait()).unwrap();
            assert!(some == bytes(200_000)[..70_000]);
            assert_eq!(near.receive_head(&wait()).unwrap().bytes, b"third");
            let ends = near.receive_body(&mut vec![0; 200_001], &wait());
            assert!(matches!(
                ends,
                Err(ChannelError::BodyEnds { left: 200_000, .. })
            ));
            near.receive_body(&mut vec![0; 200_000], &wait()).unwrap();
        });
    }
}

#[test]
fn both_directions_run_at_once_and_raw_bodies_are_not_copied() {
    let (near, far) = pair(&acceptor(), &connector());
    let counters = near.counters().clone();
    let body = bytes(3 << 20);
    thread::scope(|scope| {
        for channel in [near, far] {
            let (mut sender, mut receiver) = channel.split();
            let body = &body;
            scope.spawn(move || {
                for _ in 0..4 {
                    sender.send(b"head", &[body], &wait()).unwrap();
                }
            });
            scope.spawn(move || {
                for _ in 0..4 {
                    assert_eq!(receiver.receive_head(&wait()).unwrap().bytes, b"head");
                    let mut into = vec![0; body.len()];
                    receiver.receive_body(&mut into, &wait()).unwrap();
                    assert!(into == *body);
                }
            });
        }
    });
    assert_eq!((counters.frames_sent(), counters.frames_received()), (4, 4));
    assert_eq!(
        (counters.head_bytes_sent(), counters.head_bytes_received()),
        (16, 16)
    );
    assert_eq!(counters.body_bytes_sent(), 4 * body.len() as u64);
    assert_eq!(counters.body_bytes_received(), 4 * body.len() as u64);
    assert_eq!(counters.copies().bytes(), 0);
}

#[test]
fn each_role_gets_in_with_its_own_key_only() {
    for role in [Role::Cluster, Role::Writer, Role::Reader] {
        let right = key().derive(Role::Cluster, role).unwrap();
        let (near, far) = pair(&acceptor(), &Connector::new(right, role));
        assert_eq!((near.role(), far.role()), (role, role));
    }
    let (near, far) = attempt(&acceptor(), &Connector::new(reader_key(), Role::Writer));
    assert!(matches!(near, Err(ChannelError::WrongKey { .. })));
    assert!(matches!(far, Err(ChannelError::WrongKey { .. })));
}

#[test]
fn an_acceptor_serves_the_roles_after_its_own() {
    let acceptor = Acceptor {
        key_role: Role::Writer,
        ..Acceptor::new(key().derive(Role::Cluster, Role::Writer).unwrap())
    };
    assert_eq!(pair(&acceptor, &connector()).0.role(), Role::Reader);
    let (near, far) = attempt(&acceptor, &Connector::new(key(), Role::Cluster));
    assert!(matches!(near, Err(ChannelError::Refused { .. })));
    assert!(matches!(far, Err(ChannelError::Refused { .. })));
}

#[test]
fn another_key_is_told_to_both_sides() {
    let other = Connector::new(Key::generate().unwrap(), Role::Reader);
    let (near, far) = attempt(&acceptor(), &other);
    assert!(matches!(near, Err(ChannelError::WrongKey { .. })));
    assert!(matches!(far, Err(ChannelError::WrongKey { .. })));
}

#[test]
fn a_difference_about_encryption_is_told_to_both_sides() {
    for ours in [false, true] {
        let (near, far) = attempt(
            &Acceptor {
                encrypt: ours,
                ..acceptor()
            },
            &Connector {
                encrypt: !ours,
                ..connector()
            },
        );
        let near_says = near.err().expect("refused").to_string();
        let far_says = far.err().expect("refused").to_string();
        let (on, off) = ("encryption is on here", "encryption is off here");
        assert!(
            near_says.contains(if ours { on } else { off }),
            "{near_says}"
        );
        assert!(far_says.contains(if ours { off } else { on }), "{far_says}");
    }
}

/// What an acceptor says of a peer that sends these bytes, and what the peer
/// hears before the connection ends.
fn accept_from_bytes(sent: &[u8]) -> (ChannelError, Vec<u8>) {
    let listener = listener();
    let mut peer = TcpStream::connect(listener.local_addr()).unwrap();
    let pending = listener.accept(&wait()).unwrap();
    peer.write_all(sent).unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let error = Channel::accept(pending, &acceptor(), &wait())
        .err()
        .expect("an error");
    let mut heard = Vec::new();
    // Bytes that were never read make the system reset the connection.
    let _ = peer.read_to_end(&mut heard);
    (error, heard)
}

#[test]
fn strangers_are_refused_and_hear_nothing() {
    for sent in [
        &b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"[..],
        &[0; 600],
        &[0xff; 12],
    ] {
        let (error, heard) = accept_from_bytes(sent);
        assert!(matches!(error, ChannelError::NotPanta { .. }), "{error}");
        assert!(heard.is_empty());
    }
    for sent in [
        &b""[..],
        b"PANTA",
        b"PANTA\x01\x01\x00\x02\x00\x30\x00short",
    ] {
        let (error, heard) = accept_from_bytes(sent);
        assert!(matches!(error, ChannelError::Closed { .. }), "{error}");
        assert!(heard.is_empty());
    }
}

#[test]
fn another_version_is_told_to_both_sides() {
    let mut hello = Hello {
        version: 77,
        role: 2,
        encrypt: false,
        noise_bytes: 0,
    };
    let (error, heard) = accept_from_bytes(&hello.to_bytes());
    assert!(matches!(
        error,
        ChannelError::WrongVersion {
            ours: VERSION,
            theirs: 77,
            ..
        }
    ));
    let answer = parse_answer(&heard.try_into().unwrap()).unwrap();
    assert_eq!(answer.version, VERSION);
    assert_eq!(
        Status::from_number(answer.status),
        Some(Status::WrongVersion)
    );
    hello.version = VERSION;
    let (error, _) = accept_from_bytes(&hello.to_bytes());
    assert!(matches!(error, ChannelError::WrongKey { .. }));
    hello.role = 3;
    let (error, _) = accept_from_bytes(&hello.to_bytes());
    assert!(matches!(error, ChannelError::Refused { .. }));
    hello.noise_bytes = 501;
    let (error, _) = accept_from_bytes(&hello.to_bytes());
    assert!(matches!(
        error,
        ChannelError::TooLarge {
            bytes: 513,
            limit_bytes: 512,
            ..
        }
    ));
}

/// What a connector says of an acceptor that answers with these bytes.
fn connect_to_bytes(answer: Vec<u8>) -> ChannelError {
    let listener = listener();
    let address = listener.local_addr();
    let server = thread::spawn(move || {
        let pending = listener.accept(&wait()).unwrap().0;
        let mut stream = TcpStream::from(rustix::io::dup(&pending).unwrap());
        stream.set_nonblocking(false).unwrap();
        stream.read_exact(&mut [0; 60]).unwrap();
        stream.write_all(&answer).unwrap();
    });
    let error = Channel::connect(address, &connector(), &wait())
        .err()
        .expect("an error");
    server.join().unwrap();
    error
}

#[test]
fn a_connector_sees_through_what_is_no_acceptor() {
    let error = connect_to_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    assert!(matches!(error, ChannelError::NotPanta { .. }));
    let mut answer = Answer {
        version: 9,
        status: 1,
        encrypt: false,
        noise_bytes: 0,
    };
    let error = connect_to_bytes(answer.to_bytes().to_vec());
    assert!(matches!(
        error,
        ChannelError::WrongVersion { theirs: 9, .. }
    ));
    answer = Answer {
        version: VERSION,
        status: 0,
        encrypt: false,
        noise_bytes: 48,
    };
    let mut forged = answer.to_bytes().to_vec();
    forged.extend([7; 48]);
    assert!(matches!(
        connect_to_bytes(forged),
        ChannelError::WrongKey { .. }
    ));
    assert!(matches!(
        connect_to_bytes(Vec::new()),
        ChannelError::Closed { .. }
    ));
}

#[test]
fn a_peer_that_never_finishes_its_hello_is_dropped_at_the_deadline() {
    let listener = listener();
    let mut peer = TcpStream::connect(listener.local_addr()).unwrap();
    peer.write_all(b"PANTA\x01").unwrap();
    let pending = listener.accept(&wait()).unwrap();
    let short = Wait::for_at_most(Duration::from_millis(20));
    let error = Channel::accept(pending, &acceptor(), &short)
        .err()
        .expect("an error");
    let ended = WaitError::Deadline(Duration::from_millis(20));
    assert!(matches!(error, ChannelError::Wait { source, .. } if source == ended));
    assert_eq!(
        peer.read(&mut [0; 9]).unwrap(),
        0,
        "the connection was kept"
    );
}

#[test]
fn a_silent_peer_costs_no_more_than_the_handshake_limit() {
    let listener = listener();
    let _peer = TcpStream::connect(listener.local_addr()).unwrap();
    let pending = listener.accept(&wait()).unwrap();
    let error = Channel::accept(pending, &acceptor(), &wait())
        .err()
        .expect("an error");
    let ended = WaitError::Deadline(HANDSHAKE_LIMIT);
    assert!(matches!(error, ChannelError::Wait { source, .. } if source == ended));
}

#[test]
fn nobody_listening_is_refused() {
    let address = listener().local_addr();
    let error = Channel::connect(address, &connector(), &wait())
        .err()
        .expect("an error");
    assert!(matches!(error, ChannelError::Refused { .. }), "{error}");
}

#[test]
fn frames_over_the_limits_are_not_sent() {
    let limits = ChannelLimits {
        head_bytes: 10,
        body_bytes: 20,
    };
    let (mut near, mut far) = pair(
        &acceptor(),
        &Connector {
            limits,
            ..connector()
        },
    );
    let head = far.send(&[0; 11], &[], &wait());
    assert!(matches!(
        head,
        Err(ChannelError::TooLarge {
            bytes: 11,
            limit_bytes: 10,
            ..
        })
    ));
    let body = far.send(&[], &[&[0; 15], &[0; 6]], &wait());
    assert!(matches!(
        body,
        Err(ChannelError::TooLarge {
            bytes: 21,
            limit_bytes: 20,
            ..
        })
    ));
    far.send(&[1; 10], &[&[0; 20]], &wait()).unwrap();
    assert_eq!(near.receive_head(&wait()).unwrap().bytes, [1; 10]);
}

#[test]
fn frames_over_the_limits_are_refused_before_memory_is_asked_for() {
    let limits = ChannelLimits {
        head_bytes: 10,
        body_bytes: 20,
    };
    for (head, body) in [(11, 0), (0, 21)] {
        let (mut near, mut far) = pair(
            &Acceptor {
                limits,
                ..acceptor()
            },
            &connector(),
        );
        far.send(&bytes(head), &[&bytes(body)], &wait()).unwrap();
        let error = near.receive_head(&wait()).unwrap_err();
        assert!(matches!(error, ChannelError::TooLarge { .. }), "{error}");
        assert!(matches!(
            near.receive_head(&wait()),
            Err(ChannelError::Closed { .. })
        ));
        assert!(matches!(
            far.receive_head(&wait()),
            Err(ChannelError::Closed { .. })
        ));
    }
    let mut near = tampered(
        &acceptor(),
        |good| good.send(b"head", &[], &wait()).unwrap(),
        |sent| sent[..12].fill(0xff),
    );
    let error = near.receive_head(&wait()).unwrap_err();
    assert!(matches!(error, ChannelError::TooLarge { .. }), "{error}");
}

#[test]
fn any_altered_byte_of_a_head_is_noticed() {
    // Prefix, sealed length, head, tag: the body begins at 40.
    for at in 0..40 {
        let mut near = tampered(
            &acceptor(),
            |good| good.send(b"head", &[b"body"], &wait()).unwrap(),
            move |sent| sent[at] ^= 1,
        );
        let error = near.receive_head(&wait()).unwrap_err();
        // A longer head than was sent ends with the connection.
        assert!(
            matches!(
                error,
                ChannelError::Altered { .. }
                    | ChannelError::Closed { .. }
                    | ChannelError::TooLarge { .. }
            ),
            "{at}: {error}"
        );
        assert!(matches!(
            near.receive_head(&wait()),
            Err(ChannelError::Closed { .. })
        ));
    }
}

#[test]
fn a_frame_that_is_played_again_or_left_out_is_noticed() {
    let send = |good: &mut Channel| {
        good.send(b"one", &[], &wait()).unwrap();
        good.send(b"two", &[], &wait()).unwrap();
    };
    let mut near = tampered(&acceptor(), send, |sent| {
        let first = sent[..sent.len() / 2].to_vec();
        sent.splice(0..0, first);
    });
    assert_eq!(near.receive_head(&wait()).unwrap().bytes, b"one");
    assert!(matches!(
        near.receive_head(&wait()),
        Err(ChannelError::Altered { .. })
    ));
    let mut near = tampered(&acceptor(), send, |sent| drop(sent.drain(..sent.len() / 2)));
    assert!(matches!(
        near.receive_head(&wait()),
        Err(ChannelError::Altered { .. })
    ));
}

#[test]
fn an_altered_byte_of_a_sealed_body_is_noticed() {
    let encrypted = Acceptor {
        encrypt: true,
        ..acceptor()
    };
    let mut near = tampered(
        &encrypted,
        |good| good.send(b"head", &[&bytes(100_000)], &wait()).unwrap(),
        |sent| *sent.last_mut().unwrap() ^= 1,
    );
    near.receive_head(&wait()).unwrap();
    let error = near
        .receive_body(&mut vec![0; 100_000], &wait())
        .unwrap_err();
    assert!(
        matches!(error, ChannelError::Altered { what: "a body", .. }),
        "{error}"
    );
}

#[test]
fn a_stream_cut_anywhere_ends_in_closed() {
    for cut in [0, 1, 11, 12, 35, 39, 40, 41, 43] {
        let mut near = tampered(
            &acceptor(),
            |good| good.send(b"head", &[b"body"], &wait()).unwrap(),
            move |sent| sent.truncate(cut),
        );
        let result = near.receive_head(&wait()).map(|_| ());
        let result = result.and_then(|()| near.receive_body(&mut [0; 4], &wait()));
        assert!(matches!(result, Err(ChannelError::Closed { .. })), "{cut}");
    }
}

#[test]
fn a_long_head_is_sealed_in_several_pieces() {
    let (mut near, mut far) = pair(&acceptor(), &connector());
    for length in [
        HEAD_PIECE_BYTES - 9,
        HEAD_PIECE_BYTES - 8,
        HEAD_PIECE_BYTES - 7,
        1 << 20,
    ] {
        thread::scope(|scope| {
            scope.spawn(|| far.send(&bytes(length), &[], &wait()).unwrap());
            assert!(near.receive_head(&wait()).unwrap().bytes == bytes(length));
        });
    }
}

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
                let pending = middle.accept(&wait()).unwrap().0;
                let mut from = TcpStream::from(rustix::io::dup(&pending).unwrap());
                from.set_nonblocking(false).unwrap();
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
