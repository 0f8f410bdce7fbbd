//! What a peer subscribed to is pushed, within the credit that it gave.

use std::time::Duration;

use panta_transports::coupling::{
    CouplingError, Endpoint, Peer, PeerId, PieceRef, Push, Tag, TransportName,
};
use panta_transports::region::Extent;
use panta_transports::time::Wait;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::*;

const BYTES: usize = 300_000;

/// A peer that has subscribed to subject 3, and the endpoint's number for it; none
/// where the transport has no use for that.
fn subscribed(side: &Side, transport: TransportName, linked: bool) -> Option<(Peer, PeerId)> {
    let peer = connect_with(side, transport, |options| options.linked = linked);
    let credit_bytes = BYTES as u64 + BYTES as u64 / 2;
    if !peer.subscribe(3, credit_bytes, b"all of it") {
        assert_ne!(transport, TransportName::Tcp);
        let id = side.recorder.joined(&side.endpoint);
        let push = Push {
            tag: tag(0),
            pieces: Vec::new(),
        };
        assert!(!side.endpoint.push(id, &push).unwrap());
        assert!(!peer.receive_push(tag(0), &mut [], &wait()).unwrap());
        return None;
    }
    let id = side.recorder.until(&side.endpoint, |heard| match heard {
        Heard::Subscribed(id, what) if what == b"all of it" => Some(*id),
        _ => None,
    });
    Some((peer, id))
}

fn tag(number: u64) -> Tag {
    Tag { subject: 3, number }
}

/// Everything in two pieces.
fn halves(extent: &Extent) -> Vec<PieceRef> {
    vec![
        piece_of(extent, 0, 60_000),
        piece_of(extent, 60_000, BYTES as u64 - 60_000),
    ]
}

fn pushed(number: u64, pieces: &[PieceRef]) -> Push {
    Push {
        tag: tag(number),
        pieces: pieces.to_vec(),
    }
}

/// What came under a number, if anything does.
fn received(peer: &Peer, number: u64, pieces: &[PieceRef]) -> Option<Vec<u8>> {
    let mut memory = memory_for(pieces);
    let came = peer.receive_push(tag(number), &mut to_fill(pieces, &mut memory), &wait());
    let bytes = || memory.iter().flat_map(|it| bytes_of(it)).collect();
    came.unwrap().then(bytes)
}

/// Pushes again and again, until the endpoint has heard of the credit.
fn push_with_credit(endpoint: &Endpoint, id: PeerId, from: u64, pieces: &[PieceRef]) -> u64 {
    let wait = wait();
    let mut number = from;
    while !endpoint.push(id, &pushed(number, pieces)).unwrap() {
        wait.slice().expect("the credit does not come back");
        std::thread::yield_now();
        number += 1;
    }
    number
}

pub(crate) fn what_was_subscribed_to_comes_within_the_credit(transport: TransportName) {
    for linked in [true, false] {
        let side = Side::open(|_| {});
        let (extent, whole) = (side.extent(BYTES, 2), pattern(BYTES, 2));
        let pieces = halves(&extent);
        let Some((peer, id)) = subscribed(&side, transport, linked) else {
            continue;
        };
        assert_eq!(received(&peer, 0, &pieces), None, "nothing was said of it");
        assert!(!side.endpoint.push(id, &pushed(0, &[])).unwrap());
        let mut number = 0;
        for _ in 0..5 {
            number = push_with_credit(&side.endpoint, id, number + 1, &pieces);
            let beyond = pushed(number + 1, &pieces);
            assert!(
                !side.endpoint.push(id, &beyond).unwrap(),
                "beyond the credit"
            );
            // Between the two: what was asked for, too.
            assert!(read(&peer, &extent, &[(5, 10)])[0] == whole[5..15]);
            assert!(received(&peer, number, &pieces).unwrap() == whole);
            number += 1;
            assert_eq!(received(&peer, number, &pieces), None, "it was said");
        }
        let outside = [piece_of(&extent, 1 << 40, 1)];
        assert!(
            !side
                .endpoint
                .push(id, &pushed(number + 1, &outside))
                .unwrap()
        );
        let counts = peer.push_counts();
        assert_eq!((counts.used, counts.wasted), (5, 0));
        assert_eq!(counts.used_bytes, 5 * BYTES as u64);
    }
}

pub(crate) fn what_nobody_wants_gives_its_credit_back(transport: TransportName) {
    for linked in [true, false] {
        let side = Side::open(|_| {});
        let (extent, whole) = (side.extent(BYTES, 2), pattern(BYTES, 2));
        let pieces = halves(&extent);
        let Some((peer, id)) = subscribed(&side, transport, linked) else {
            continue;
        };
        assert!(!side.endpoint.push(id, &pushed(0, &[])).unwrap());
        assert!(side.endpoint.push(id, &pushed(1, &pieces)).unwrap());
        assert!(!side.endpoint.push(id, &pushed(2, &pieces)).unwrap());
        // To look for the second is to come by the first.
        assert_eq!(received(&peer, 2, &pieces), None);
        peer.forget_pushes(3);
        let number = push_with_credit(&side.endpoint, id, 3, &pieces);
        assert!(received(&peer, number, &pieces).unwrap() == whole);
        // Other pieces are no reason to keep the bytes either.
        let number = push_with_credit(&side.endpoint, id, number + 1, &pieces);
        let mut memory = memory_for(&pieces[..1]);
        let mut one = to_fill(&pieces[..1], &mut memory);
        assert!(peer.receive_push(tag(number), &mut one, &wait()).is_err());
        peer.unsubscribe(3, b"nothing");
        let number = push_with_credit(&side.endpoint, id, number + 1, &pieces);
        assert_eq!(received(&peer, number, &pieces), None, "it wants no more");
        assert_eq!(peer.push_counts().used, 1);
    }
}

pub(crate) fn a_message_and_what_follows_it_come_in_their_order(transport: TransportName) {
    let side = Side::open(|_| {});
    let (extent, whole) = (side.extent(BYTES, 2), pattern(BYTES, 2));
    let small = [piece_of(&extent, 7, 1000)];
    let large = halves(&extent);
    let Some((peer, id)) = subscribed(&side, transport, true) else {
        return;
    };
    let tell = |number: u64, pieces: &[PieceRef]| {
        let message = number.to_le_bytes();
        let sent = side
            .endpoint
            .send_and_push(id, &[&message], &[pushed(number, pieces)]);
        sent.unwrap();
    };
    let hear = |number: u64| {
        let mut message = Vec::new();
        peer.receive(&mut message, &wait()).unwrap();
        assert_eq!(message, number.to_le_bytes());
    };
    tell(0, &[]);
    tell(1, &small);
    tell(2, &large);
    tell(3, &[]);
    hear(0);
    hear(1);
    let before = peer.counters();
    assert!(received(&peer, 1, &small).unwrap() == whole[7..1007]);
    // What is not asked for is passed over, and held.
    hear(2);
    hear(3);
    assert!(received(&peer, 2, &large).unwrap() == whole);
    assert_eq!(received(&peer, 3, &large), None);
    // A push that does not come is not waited for beyond the next message.
    side.endpoint.send(id, &[&4_u64.to_le_bytes()]).unwrap();
    assert_eq!(received(&peer, 4, &small), None);
    hear(4);
    let after = peer.counters();
    assert_eq!(
        after.round_trips, before.round_trips,
        "nothing was asked for"
    );
    assert_eq!(after.push_bytes, 1000 + BYTES as u64);
}

/// Whether one of the descriptors is readable by which a message is heard of.
fn is_readable(peer: &Peer) -> bool {
    let mut is_readable = false;
    peer.hear(&mut |through| {
        let mut fds: Vec<PollFd<'_>> = through
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        is_readable = poll(&mut fds, Some(&Timespec::default())).unwrap() > 0;
    });
    is_readable
}

/// Receives until there is nothing, and nothing is to be waited for.
fn until_silent(peer: &Peer) {
    let wait = wait();
    loop {
        let nothing = peer.receive(&mut Vec::new(), &Wait::for_at_most(Duration::ZERO));
        assert!(matches!(nothing, Err(CouplingError::NotReady { .. })));
        if !peer.arm() && !is_readable(peer) {
            return;
        }
        // A heartbeat came meanwhile.
        wait.slice().expect("it is never silent");
    }
}

pub(crate) fn a_message_that_came_with_a_push_is_told_of_who_waits(transport: TransportName) {
    let side = Side::open(|_| {});
    let extent = side.extent(BYTES, 2);
    let small = [piece_of(&extent, 7, 1000)];
    let Some((peer, id)) = subscribed(&side, transport, true) else {
        return;
    };
    let hear = |what: &[u8]| {
        let mut message = Vec::new();
        peer.receive(&mut message, &wait()).unwrap();
        assert_eq!(message, what);
    };
    assert!(!side.endpoint.push(id, &pushed(0, &[])).unwrap());
    side.endpoint.send(id, &[b"first"]).unwrap();
    hear(b"first");
    // Behind the push, in the bytes that came with it.
    until_silent(&peer);
    assert!(side.endpoint.push(id, &pushed(1, &small)).unwrap());
    side.endpoint.send(id, &[b"behind"]).unwrap();
    assert!(received(&peer, 1, &small).is_some());
    assert!(is_readable(&peer), "nobody says that it lies there");
    hear(b"behind");
    // Where a push was looked for.
    until_silent(&peer);
    side.endpoint.send(id, &[b"instead"]).unwrap();
    assert_eq!(received(&peer, 2, &small), None);
    assert!(is_readable(&peer), "nobody says that it was passed");
    assert!(peer.arm(), "it still lies there");
    hear(b"instead");
    until_silent(&peer);
}
