//! Strangers, and peers with the right key that do wrong: none costs others
//! anything.

use std::io::{Read, Write};
use std::net::TcpStream;

use panta_transports::channel::{Channel, ChannelError, Connector, Role};
use panta_transports::coupling::{
    Choice, CouplingError, Frame, Hello, Join, Lost, Peer, PeerOptions, Ticket, TransportName,
    TriedWhy, parse_frame,
};
use panta_transports::time::Time;

use crate::support::*;

const TCP: TransportName = TransportName::Tcp;

/// A channel with the right key, on which anything can be said.
fn channel(side: &Side) -> Channel {
    let connector = Connector::new(key(), Role::Reader);
    Channel::connect(side.ticket().addresses[0], &connector, &wait()).unwrap()
}

fn say(channel: &mut Channel, frame: &Frame<'_>) {
    channel.send(&frame.to_bytes(), &[], &wait()).unwrap();
}

fn hello() -> Frame<'static> {
    Frame::Hello(Hello {
        linked: true,
        choice: Choice::Only(TCP),
        lease_ms: 30_000,
        silence_ms: 0,
        message_bytes: 1000,
        hello: b"hostile",
    })
}

/// A peer that has joined, its number and its token.
fn joined(side: &Side, linked: bool) -> (Channel, u64, [u8; 16]) {
    let mut channel = channel(side);
    let Frame::Hello(mut greeting) = hello() else {
        unreachable!()
    };
    greeting.linked = linked;
    say(&mut channel, &Frame::Hello(greeting));
    say(
        &mut channel,
        &Frame::Settle {
            transport: TCP,
            why: "so".into(),
        },
    );
    loop {
        let head = channel.receive_head(&wait()).unwrap();
        match parse_frame(head.bytes).unwrap() {
            Frame::Welcome { peer, token } => return (channel, peer, token),
            Frame::Offer(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The last that the endpoint says.
fn last_words(channel: &mut Channel) -> Option<Lost> {
    loop {
        match channel.receive_head(&wait()) {
            Ok(head) => {
                if let Frame::Close(lost) = parse_frame(head.bytes).unwrap() {
                    return Some(lost);
                }
            }
            Err(ChannelError::Closed { .. }) => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The endpoint still serves its honest peer.
fn still_serves(side: &Side, honest: &Peer) {
    let extent = side.extent(100_000, 3);
    assert!(read(honest, &extent, &[(0, 100_000)])[0] == pattern(100_000, 3));
}

#[test]
fn strangers_are_refused_and_counted_and_cost_others_nothing() {
    let side = Side::open(|_| {});
    let honest = connect(&side, TCP);
    let address = side.ticket().addresses[0];
    // Slow-loris: they say nothing, or not enough.
    let mut slow: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for stream in &mut slow {
        stream.write_all(b"PANTA\x01").unwrap();
    }
    // Scanners, and those who talk of something else.
    for words in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 600]] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(words).unwrap();
        // It may have been thrown out already.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        assert!(heard.is_empty());
    }
    let mut wrong = options(TCP);
    wrong.key = panta_transports::channel::Key::from_bytes([8; 32]);
    let mut sealed = options(TCP);
    sealed.encrypt = true;
    let other = |options| {
        let error = Peer::connect(&side.ticket(), options, &wait()).err();
        let Some(CouplingError::Unreachable { mut tried }) = error else {
            panic!("{error:?}");
        };
        tried.remove(0).why
    };
    let why = other(&wrong);
    assert!(
        matches!(why, TriedWhy::Channel(ChannelError::WrongKey { .. })),
        "{why}"
    );
    let why = other(&sealed);
    assert!(
        matches!(
            why,
            TriedWhy::Channel(ChannelError::EncryptionMismatch { .. })
        ),
        "{why}"
    );
    still_serves(&side, &honest);
    // The slow ones are ended by the clock, without any word.
    for mut stream in slow {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    let counters = side.endpoint.counters();
    assert_eq!((counters.joins, counters.joins_refused), (1, 25));
    assert!(
        !side
            .recorder
            .all()
            .iter()
            .any(|heard| matches!(heard, Heard::Lost(..)))
    );
}

#[test]
fn beyond_a_number_of_half_open_connections_the_oldest_gives_up_its_place() {
    let side = Side::open(|options| options.limits.half_open = 4);
    let address = side.ticket().addresses[0];
    let mut flood: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // Behind them an honest one gets in, since they have their places for a moment only.
    let honest = connect(&side, TCP);
    still_serves(&side, &honest);
    // The first is closed.
    assert_eq!(flood[0].read(&mut [0]).unwrap_or(0), 0);
}

/// Connections that wait for a listener to accept them, as the system counts them.
fn waiting_at(address: std::net::SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!("0100007F:{:04X}", address.port());
    let of_listener = |line: &&str| line.contains(&local) && line.contains(" 0A ");
    let line = table.lines().find(of_listener).unwrap();
    let queues = line.split_ascii_whitespace().nth(4).unwrap();
    let (_, waiting) = queues.split_once(':').unwrap();
    usize::from_str_radix(waiting, 16).unwrap()
}

#[test]
fn of_many_peers_that_come_in_the_same_moment_none_is_turned_away() {
    const CROWD: usize = 60;
    let side = Side::open(|options| options.limits.half_open = 4);
    let address = side.ticket().addresses[0];
    let (go_on, held) = std::sync::mpsc::channel();
    let (joining, is_joining) = std::sync::mpsc::channel();
    let busy = std::sync::Mutex::new((joining, held));
    side.recorder.answer(move |heard| {
        if matches!(heard, Heard::Joined(_, hello, _) if hello == b"first") {
            // The endpoint does nothing else meanwhile.
            let busy = busy.lock().unwrap();
            let _ = (busy.0.send(()), busy.1.recv());
        }
        Ok(())
    });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| connect_with(&side, TCP, |it| it.hello = b"first".to_vec()));
        is_joining.recv().unwrap();
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| scope.spawn(|| connect(&side, TCP)))
            .collect();
        let until = Time::now().after(std::time::Duration::from_secs(60));
        while waiting_at(address) < CROWD {
            assert!(Time::now() < until, "{} wait", waiting_at(address));
            std::thread::yield_now();
        }
        go_on.send(()).unwrap();
        let mut peers: Vec<_> = crowd.into_iter().map(|one| one.join().unwrap()).collect();
        peers.push(first.join().unwrap());
        for peer in &peers {
            still_serves(&side, peer);
        }
    });
    assert_eq!(side.endpoint.counters().joins_refused, 0);
}

#[test]
fn who_is_closed_without_a_word_hears_so_and_does_not_ask_again() {
    let side = Side::open(|_| {});
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut foreign = side.ticket();
    foreign.addresses = vec![listener.local_addr().unwrap()];
    std::thread::scope(|scope| {
        scope.spawn(|| drop(listener.accept().unwrap()));
        let error = Peer::connect(&foreign, &options(TCP), &wait()).err();
        let Some(CouplingError::Unreachable { tried }) = error else {
            panic!("{error:?}");
        };
        assert!(
            matches!(tried[0].why, TriedWhy::Channel(_)),
            "{error:?}",
            error = tried[0].why
        );
    });
    // It came once: nobody waits to be accepted.
    listener.set_nonblocking(true).unwrap();
    let again = listener.accept().map(drop).unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn garbage_after_authentication_ends_who_sent_it_and_nobody_else() {
    let side = Side::open(|_| {});
    let honest = connect(&side, TCP);
    let garbage: [&[u8]; 6] = [b"", b"\xff", b"\x01", b"\x07abc", &[3; 40], &[0; 70_000]];
    for bytes in garbage {
        let mut fresh = channel(&side);
        fresh.send(bytes, &[], &wait()).unwrap();
        assert!(matches!(
            last_words(&mut fresh),
            Some(Lost::Misbehaved { .. })
        ));
        let (mut peer, id, _) = joined(&side, true);
        peer.send(bytes, &[], &wait()).unwrap();
        assert!(matches!(
            last_words(&mut peer),
            Some(Lost::Misbehaved { .. })
        ));
        let lost = side.recorder.until_alone(|heard| match heard {
            Heard::Lost(peer, lost) if peer.0 == id => Some(lost.clone()),
            _ => None,
        });
        assert!(matches!(lost, Lost::Misbehaved { .. }), "{lost}");
    }
    still_serves(&side, &honest);
}

#[test]
fn frames_out_of_place_or_beyond_limits_are_misbehaviour() {
    let side = Side::open(|options| {
        options.limits.message_bytes = 1000;
        options.limits.read_bytes = 1 << 20;
        options.limits.read_pieces = 100;
    });
    let extent = side.extent(1 << 20, 1);
    let honest = connect(&side, TCP);
    let read_of = |pieces: &[(u64, u64)]| {
        let mut bytes = vec![7];
        bytes.extend_from_slice(&1_u64.to_le_bytes());
        for (offset, length) in pieces {
            bytes.extend_from_slice(&extent.region().to_le_bytes());
            bytes.extend_from_slice(&(extent.offset() + offset).to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        bytes
    };
    let long = vec![6; 1002];
    let much = read_of(&[(0, 1 << 20), (0, 1)]);
    let overflow = read_of(&[(0, u64::MAX), (0, u64::MAX)]);
    let many = read_of(&[(0, 0); 300]);
    let welcome = Frame::Welcome {
        peer: 1,
        token: [0; 16],
    }
    .to_bytes();
    for (linked, bytes) in [
        (true, long),
        (true, read_of(&[(0, 1)])),
        (true, welcome),
        (true, Frame::Credit { bytes: 1 }.to_bytes()),
        (true, hello().to_bytes()),
        (false, Frame::Message(b"hello").to_bytes()),
        (false, much),
        (false, overflow),
        (false, many),
        (false, Frame::Data { id: 1 }.to_bytes()),
    ] {
        let (mut peer, _, _) = joined(&side, linked);
        peer.send(&bytes, &[], &wait()).unwrap();
        let last = last_words(&mut peer);
        assert!(matches!(last, Some(Lost::Misbehaved { .. })), "{last:?}");
    }
    // A body, which no peer has to send.
    let (mut peer, _, _) = joined(&side, true);
    peer.send(&Frame::Heartbeat.to_bytes(), &[b"body"], &wait())
        .unwrap();
    assert!(matches!(
        last_words(&mut peer),
        Some(Lost::Misbehaved { .. })
    ));
    still_serves(&side, &honest);
}

#[test]
fn further_connections_need_the_token_and_are_few() {
    let side = Side::open(|options| options.limits.connections = 2);
    let (_peer, id, token) = joined(&side, true);
    let join = |token| {
        let mut line = channel(&side);
        say(&mut line, &Frame::Join(Join { peer: id, token }));
        line
    };
    let mut wrong = join([0; 16]);
    assert!(matches!(last_words(&mut wrong), Some(Lost::Dropped { .. })));
    let mut good = join(token);
    let _second = join(token);
    let mut third = join(token);
    assert!(matches!(last_words(&mut third), Some(Lost::Dropped { .. })));
    // It is for data only.
    say(&mut good, &Frame::Credit { bytes: 0 });
    assert!(matches!(
        last_words(&mut good),
        Some(Lost::Misbehaved { .. })
    ));
}

#[test]
fn another_endpoint_at_the_address_is_told_from_the_right_one() {
    let (right, other) = (Side::open(|_| {}), Side::open(|_| {}));
    let mut ticket = right.ticket();
    let dead = "127.0.0.1:1".parse().unwrap();
    ticket.addresses.insert(0, dead);
    ticket.addresses.insert(1, other.ticket().addresses[0]);
    let peer = Peer::connect(&ticket, &options(TCP), &wait()).unwrap();
    assert_eq!(peer.info().address, right.ticket().addresses[0]);
    ticket.addresses.pop();
    let error = Peer::connect(&ticket, &options(TCP), &wait())
        .err()
        .unwrap();
    let CouplingError::Unreachable { tried } = &error else {
        panic!("{error}");
    };
    assert!(matches!(
        tried[0].why,
        TriedWhy::Channel(ChannelError::Refused { .. })
    ));
    assert!(matches!(tried[1].why, TriedWhy::OtherEndpoint));
    let text = error.to_string();
    assert!(
        text.contains("127.0.0.1:1:") && text.contains("another endpoint"),
        "{text}"
    );
    let none = Ticket {
        addresses: vec![],
        instance: 1,
    };
    assert!(Peer::connect(&none, &options(TCP), &wait()).is_err());
}

#[test]
fn whoever_answers_at_an_address_is_found_but_not_the_one_that_was_lost() {
    let side = Side::open(|options| options.listen = vec!["127.0.0.1:0".parse().unwrap()]);
    let addresses = side.ticket().addresses;
    let ticket = Ticket::of_any_at(addresses);
    let peer = Peer::connect(&ticket, &options(TCP), &wait()).unwrap();
    assert_eq!(peer.instance(), side.ticket().instance);
    let other = PeerOptions {
        other_than: Some(peer.instance()),
        ..options(TCP)
    };
    let joins = side.endpoint.counters().joins;
    let error = Peer::connect(&ticket, &other, &wait()).err().unwrap();
    assert!(error.to_string().contains("still answers there"), "{error}");
    assert_eq!(side.endpoint.counters().joins, joins, "it has joined");
}

#[test]
fn more_credit_than_was_given_is_refused_and_a_subscription_is_told() {
    let side = Side::open(|_| {});
    for linked in [true, false] {
        let (mut peer, id, _) = joined(&side, linked);
        let (credit_bytes, what) = (10, &b"a plane"[..]);
        say(&mut peer, &Frame::Subscribe { credit_bytes, what });
        side.recorder.until_alone(|heard| match heard {
            Heard::Subscribed(peer, said) if peer.0 == id && said == what => Some(()),
            _ => None,
        });
        say(&mut peer, &Frame::Credit { bytes: 1 });
        let last = last_words(&mut peer);
        assert!(matches!(last, Some(Lost::Misbehaved { .. })), "{last:?}");
    }
}
