//! Messages: whole, in order, within limits.

use std::sync::Arc;
use std::thread;

use panta_transports::coupling::{CouplingError, Lost, Peer, TransportName, Urgency};

use crate::support::*;

const SIZES: [usize; 10] = [
    0,
    1,
    7,
    64,
    1000,
    4096,
    65_535,
    65_536,
    1 << 20,
    (5 << 20) + 3,
];

pub(crate) fn messages_of_all_sizes_arrive_in_order_both_ways(transport: TransportName) {
    let side = Side::open(|_| {});
    let echo = Arc::downgrade(&side.endpoint);
    side.recorder.answer(move |heard| {
        if let Heard::Message(peer, message) = heard {
            let endpoint = echo.upgrade().unwrap();
            endpoint.send(*peer, &[message]).unwrap();
        }
        Ok(())
    });
    let peer = connect(&side, transport);
    let rounds = 5;
    thread::scope(|scope| {
        scope.spawn(|| {
            let all = SIZES.len() * rounds;
            side.recorder.until_messages(&side.endpoint, all);
        });
        for round in 0..rounds {
            // Several on their way at once, both ways.
            for size in SIZES {
                let message = pattern(size, round as u64);
                peer.send(&[&message], Urgency::Now, &wait()).unwrap();
            }
            let mut into = Vec::new();
            for size in SIZES {
                peer.receive(&mut into, &wait()).unwrap();
                assert!(into == pattern(size, round as u64), "{size} of {round}");
            }
        }
    });
    let sent = side.endpoint.counters().messages_sent;
    assert_eq!(sent, (SIZES.len() * rounds) as u64);
    assert_eq!(peer.counters().messages_sent, sent);
    assert_eq!(peer.counters().messages_received, sent);
}

pub(crate) fn a_message_in_parts_arrives_as_one(transport: TransportName) {
    let side = Side::open(|_| {});
    let peer = connect(&side, transport);
    let parts: [&[u8]; 4] = [b"one ", b"", b"message", b"!"];
    peer.send(&parts, Urgency::Now, &wait()).unwrap();
    let message = side.recorder.until(&side.endpoint, |heard| match heard {
        Heard::Message(_, message) => Some(message.clone()),
        _ => None,
    });
    assert_eq!(message, b"one message!");
    let id = side.recorder.joined(&side.endpoint);
    side.endpoint.send(id, &parts).unwrap();
    let mut into = b"old".to_vec();
    peer.receive(&mut into, &wait()).unwrap();
    assert_eq!(into, b"one message!");
}

pub(crate) fn messages_sent_while_joining_come_after_the_welcome(transport: TransportName) {
    let side = Side::open(|_| {});
    let endpoint = Arc::downgrade(&side.endpoint);
    side.recorder.answer(move |heard| {
        if let Heard::Joined(peer, ..) = heard {
            let endpoint = endpoint.upgrade().unwrap();
            endpoint.send(*peer, &[b"first"]).unwrap();
            endpoint.send(*peer, &[b"second"]).unwrap();
        }
        Ok(())
    });
    let peer = connect(&side, transport);
    let mut into = Vec::new();
    for expected in [&b"first"[..], b"second"] {
        peer.receive(&mut into, &wait()).unwrap();
        assert_eq!(into, expected);
    }
}

pub(crate) fn the_hello_and_the_choice_are_told_to_the_handler(transport: TransportName) {
    let side = Side::open(|_| {});
    let peer = connect_with(&side, transport, |options| {
        options.hello = b"group 3".to_vec();
    });
    assert_eq!(peer.info().transport, transport);
    assert!(!peer.info().why.is_empty());
    let (hello, info) = side.recorder.until_alone(|heard| match heard {
        Heard::Joined(_, hello, info) => Some((hello.clone(), info.clone())),
        _ => None,
    });
    assert_eq!(hello, b"group 3");
    assert_eq!(info.transport, transport);
    assert_eq!(info.why, peer.info().why);
    assert!(info.linked);
    let counters = side.endpoint.counters();
    assert_eq!((counters.joins, counters.joins_refused), (1, 0));
}

pub(crate) fn a_peer_that_the_handler_refuses_hears_why(transport: TransportName) {
    let side = Side::open(|_| {});
    side.recorder.answer(|heard| match heard {
        Heard::Joined(..) => Err("the hall is full".to_owned()),
        _ => Ok(()),
    });
    let refused = Peer::connect(&side.ticket(), &options(transport), &wait()).err();
    let refused = refused.expect("it was refused");
    assert!(
        matches!(&refused, CouplingError::Refused { why, .. } if why == "the hall is full"),
        "{refused}"
    );
    side.recorder.answer(|_| Ok(()));
    drop(connect(&side, transport));
    side.recorder.lost(&side.endpoint);
    // Of the one that was refused nothing more is said.
    let lost = |heard: &&Heard| matches!(heard, Heard::Lost(..));
    assert_eq!(side.recorder.all().iter().filter(lost).count(), 1);
    let counters = side.endpoint.counters();
    assert_eq!((counters.joins, counters.joins_refused), (1, 1));
}

pub(crate) fn a_peer_that_does_not_listen_is_dropped_at_the_limit(transport: TransportName) {
    let limit_bytes = 1 << 20;
    let side = Side::open(|options| options.limits.queued_bytes = limit_bytes);
    let deaf = connect(&side, transport);
    let id = side.recorder.joined(&side.endpoint);
    let message = pattern(100_000, 1);
    let mut sent = 0;
    // As much as rings and sockets take, and the limit.
    while side.endpoint.send(id, &[&message]).is_ok() {
        sent += message.len();
        assert!(sent < 64 << 20, "it is never dropped");
    }
    assert!(sent as u64 > limit_bytes);
    let lost = side.recorder.lost(&side.endpoint);
    assert!(
        matches!(&lost, Lost::Dropped { why } if why.contains("1048576")),
        "{lost}"
    );
    let gone = side.endpoint.send(id, &[b"more"]);
    assert!(matches!(gone, Err(CouplingError::UnknownPeer { .. })));
    drop(deaf);
}

pub(crate) fn a_message_beyond_the_limit_is_refused_where_it_is_sent(transport: TransportName) {
    let side = Side::open(|options| options.limits.message_bytes = 1000);
    let peer = connect(&side, transport);
    let id = side.recorder.joined(&side.endpoint);
    let large = pattern(1001, 1);
    let too_large = |result: Result<(), CouplingError>| {
        let limit = 1000;
        assert!(
            matches!(result, Err(CouplingError::TooLarge { limit: at, .. }) if at == limit),
            "{result:?}"
        );
    };
    too_large(peer.send(&[&large], Urgency::Now, &wait()));
    too_large(side.endpoint.send(id, &[&large]));
    // Nothing of it went out.
    peer.send(&[&large[1..]], Urgency::Now, &wait()).unwrap();
    let message = side.recorder.until(&side.endpoint, |heard| match heard {
        Heard::Message(_, message) => Some(message.clone()),
        _ => None,
    });
    assert!(message == large[1..]);
}

pub(crate) fn only_linked_peers_exchange_messages(transport: TransportName) {
    let side = Side::open(|_| {});
    let peer = connect_with(&side, transport, |options| options.linked = false);
    let id = side.recorder.joined(&side.endpoint);
    let sent = peer.send(&[b"hello"], Urgency::Now, &wait());
    assert!(matches!(sent, Err(CouplingError::NotLinked)));
    let received = peer.receive(&mut Vec::new(), &wait());
    assert!(matches!(received, Err(CouplingError::NotLinked)));
    let sent = side.endpoint.send(id, &[b"hello"]);
    assert!(matches!(sent, Err(CouplingError::NotLinked)));
    let extent = side.extent(100, 1);
    assert!(read(&peer, &extent, &[(0, 100)])[0] == pattern(100, 1));
    peer.close();
    assert_eq!(side.recorder.lost(&side.endpoint), Lost::Closed);
}

pub(crate) fn an_urgent_message_reaches_an_endpoint_that_nobody_drives(transport: TransportName) {
    let side = Side::open(|_| {});
    let peer = connect(&side, transport);
    for number in 0..20_u8 {
        peer.send(&[&[number]], Urgency::Now, &wait()).unwrap();
        side.recorder.until_alone(|heard| match heard {
            Heard::Message(_, message) if *message == [number] => Some(()),
            _ => None,
        });
    }
}

#[test]
fn messages_in_rings_wake_no_thread_while_somebody_looks() {
    let side = Side::open(|_| {});
    let peer = connect(&side, TransportName::Shm);
    let id = side.recorder.joined(&side.endpoint);
    let before = side.endpoint.counters();
    let mut into = Vec::new();
    for number in 0..1000_u64 {
        let sent = number.to_le_bytes();
        peer.send(&[&sent], Urgency::WhenPolled, &wait()).unwrap();
        while side.endpoint.poll() == 0 {
            assert!(wait().slice().is_ok());
        }
        side.endpoint.send(id, &[&sent]).unwrap();
        peer.receive(&mut into, &wait()).unwrap();
        assert!(into == sent);
    }
    let after = side.endpoint.counters();
    assert_eq!(after.messages_received - before.messages_received, 1000);
    // A heartbeat or two may come in between.
    assert!(after.wakes - before.wakes < 10);
    assert!(after.frames_sent - before.frames_sent < 10);
    // Asleep in `drive`, any message wakes the driver.
    let _ = side.endpoint.drive(&wait());
    thread::scope(|scope| {
        let driver = scope.spawn(|| side.recorder.until_messages(&side.endpoint, 1020));
        for _ in 0..20 {
            peer.send(&[b"more"], Urgency::WhenPolled, &wait()).unwrap();
        }
        driver.join().unwrap();
    });
}
