//! Who goes, and how: closed, died, silent and dropped are told apart.

use std::time::Duration;

use panta_transports::coupling::{
    CouplingError, DEFAULT_LEASE, Lost, Peer, TransportName, Urgency,
};

use crate::child::{Child, EXPOSED_BYTES};
use crate::support::*;

const SHORT: Duration = Duration::from_millis(300);

fn lost_of(error: CouplingError) -> Lost {
    match error {
        CouplingError::Lost { why, .. } => why,
        other => panic!("{other}"),
    }
}

pub(crate) fn a_peer_that_closes_is_told_from_one_that_dies(transport: TransportName) {
    let side = Side::open(|_| {});
    let peer = connect(&side, transport);
    peer.send(&[b"last"], Urgency::Now, &wait()).unwrap();
    peer.close();
    assert_eq!(side.recorder.lost(&side.endpoint), Lost::Closed);
    assert_eq!(side.recorder.messages(), [b"last"]);
    assert_eq!(side.endpoint.counters().lost, 1);
}

pub(crate) fn a_peer_killed_while_idle_is_seen_at_once(transport: TransportName) {
    let side = Side::open(|_| {});
    let child = Child::peer("idle", &side, transport, DEFAULT_LEASE);
    side.recorder.joined(&side.endpoint);
    child.kill();
    // Far sooner than the lease of 30 seconds would say.
    let heard = |heard: &Heard| matches!(heard, Heard::Lost(_, Lost::Died)).then_some(());
    side.recorder.until_alone(heard);
}

pub(crate) fn a_peer_killed_while_reading_is_seen_and_others_go_on(transport: TransportName) {
    let side = Side::open(|_| {});
    let extent = side.extent(EXPOSED_BYTES, 8);
    let other = connect(&side, transport);
    let child = Child::peer("read", &side, transport, DEFAULT_LEASE);
    let id = side.recorder.until(&side.endpoint, |heard| match heard {
        Heard::Joined(id, hello, _) if hello == b"read" => Some(*id),
        _ => None,
    });
    let what = format!("{} {}", extent.region(), extent.offset());
    side.endpoint.send(id, &[what.as_bytes()]).unwrap();
    // In the midst of the second read, or the third.
    side.recorder.until(&side.endpoint, |heard| match heard {
        Heard::Message(from, _) if *from == id => Some(()),
        _ => None,
    });
    child.kill();
    assert!(read(&other, &extent, &[(5, 5 << 20)])[0] == pattern(6 << 20, 8)[5..(5 << 20) + 5]);
    assert_eq!(side.recorder.lost(&side.endpoint), Lost::Died);
    assert!(side.endpoint.send(id, &[b"there?"]).is_err());
}

pub(crate) fn a_peer_killed_while_sending_is_seen_after_its_messages(transport: TransportName) {
    let side = Side::open(|_| {});
    let child = Child::peer("send", &side, transport, DEFAULT_LEASE);
    side.recorder.until_messages(&side.endpoint, 20);
    child.kill();
    assert_eq!(side.recorder.lost(&side.endpoint), Lost::Died);
    // Whole, in order, and nothing after the loss.
    let mut numbers = 0_u64..;
    for message in side.recorder.messages() {
        let number = numbers.next().unwrap();
        assert!(message[..8] == number.to_le_bytes());
        assert!(message[8..] == pattern(50_000, number));
    }
    let all = side.recorder.all();
    assert!(matches!(all.last(), Some(Heard::Lost(..))));
}

fn peer_of(
    ticket: &panta_transports::coupling::Ticket,
    transport: TransportName,
    lease: Duration,
) -> Peer {
    let mut options = options(transport);
    options.lease = lease;
    Peer::connect(ticket, &options, &wait()).unwrap()
}

pub(crate) fn an_endpoint_killed_while_idle_is_seen_at_once(transport: TransportName) {
    let (child, ticket, piece) = Child::endpoint(transport, DEFAULT_LEASE);
    let peer = peer_of(&ticket, transport, DEFAULT_LEASE);
    child.kill();
    let mut into = Vec::new();
    for _ in 0..2 {
        let error = peer.receive(&mut into, &wait()).unwrap_err();
        assert_eq!(lost_of(error), Lost::Died);
    }
    assert!(peer.send(&[b"there?"], Urgency::Now, &wait()).is_err());
    let pieces = [piece];
    let mut memory = memory_for(&pieces);
    let read = peer.read(&mut to_fill(&pieces, &mut memory), &wait());
    // What is mapped stays readable when its writer is gone.
    assert!(read.is_err() || transport == TransportName::Shm);
}

pub(crate) fn an_endpoint_killed_while_read_from_is_seen_at_once(transport: TransportName) {
    let (child, ticket, piece) = Child::endpoint(transport, DEFAULT_LEASE);
    let peer = peer_of(&ticket, transport, DEFAULT_LEASE);
    let pieces = [piece];
    let mut memory = memory_for(&pieces);
    peer.read(&mut to_fill(&pieces, &mut memory), &wait())
        .unwrap();
    assert!(bytes_of(&memory[0]) == pattern(EXPOSED_BYTES, 8));
    child.stop();
    // Asked for while it cannot answer whole, and then it never will.
    let reading = peer.start_read(&pieces, &wait()).unwrap();
    child.kill();
    let finished = peer.finish_read(reading, &mut to_fill(&pieces, &mut memory), &wait());
    match finished {
        Err(error) => assert_eq!(lost_of(error), Lost::Died),
        Ok(()) => assert_eq!(transport, TransportName::Shm),
    }
}

pub(crate) fn an_endpoint_that_closes_says_so(transport: TransportName) {
    let (child, ticket, _) = Child::endpoint(transport, DEFAULT_LEASE);
    let peer = peer_of(&ticket, transport, DEFAULT_LEASE);
    child.finish();
    let error = peer.receive(&mut Vec::new(), &wait()).unwrap_err();
    assert_eq!(lost_of(error), Lost::Closed);
}

pub(crate) fn a_peer_that_is_stopped_is_silent_after_its_lease(transport: TransportName) {
    let side = Side::open(|options| options.lease = SHORT);
    let child = Child::peer("idle", &side, transport, SHORT);
    let other = connect_with(&side, transport, |options| options.lease = SHORT);
    child.stop();
    let lost = side.recorder.lost(&side.endpoint);
    assert!(
        matches!(lost, Lost::Silent { for_ } if for_ > SHORT),
        "{lost}"
    );
    let lost = |heard: &&Heard| matches!(heard, Heard::Lost(..));
    assert_eq!(side.recorder.all().iter().filter(lost).count(), 1);
    drop(other);
}

pub(crate) fn an_endpoint_that_is_stopped_is_silent_after_its_lease(transport: TransportName) {
    let (child, ticket, _) = Child::endpoint(transport, SHORT);
    let peer = peer_of(&ticket, transport, SHORT);
    child.stop();
    let error = peer.receive(&mut Vec::new(), &wait()).unwrap_err();
    let lost = lost_of(error);
    assert!(
        matches!(lost, Lost::Silent { for_ } if for_ > SHORT),
        "{lost}"
    );
}

pub(crate) fn a_peer_that_computes_is_not_silent(transport: TransportName) {
    let lease = Duration::from_millis(100);
    let side = Side::open(|options| options.lease = lease);
    let computing = connect_with(&side, transport, |options| options.lease = lease);
    // Ten leases, in which nobody calls anything on either side.
    let received = computing_for(lease * 10, &side);
    assert_eq!(received, 0);
    let received = computing.receive(
        &mut Vec::new(),
        &panta_transports::time::Wait::for_at_most(lease * 3),
    );
    assert!(matches!(received, Err(CouplingError::NotReady { .. })));
    computing.send(&[b"done"], Urgency::Now, &wait()).unwrap();
    side.recorder.until(&side.endpoint, |heard| match heard {
        Heard::Message(_, message) => (message == b"done").then_some(()),
        Heard::Lost(_, lost) => panic!("{lost}"),
        Heard::Joined(..) | Heard::Subscribed(..) => None,
    });
}

/// Lets so much time pass, and counts the losses in it.
fn computing_for(time: Duration, side: &Side) -> usize {
    let wait = panta_transports::time::Wait::for_at_most(time);
    while let Ok(slice) = wait.slice() {
        std::thread::park_timeout(slice);
    }
    let lost = |heard: &&Heard| matches!(heard, Heard::Lost(..));
    side.recorder.all().iter().filter(lost).count()
}

pub(crate) fn a_dropped_peer_hears_why(transport: TransportName) {
    let side = Side::open(|_| {});
    let peer = connect(&side, transport);
    let id = side.recorder.joined(&side.endpoint);
    side.endpoint.send(id, &[b"last"]).unwrap();
    side.endpoint.drop_peer(id, "it is slow");
    side.endpoint.drop_peer(id, "again");
    let lost = side.recorder.lost(&side.endpoint);
    let why = "it is slow".to_owned();
    assert_eq!(lost, Lost::Dropped { why });
    let mut into = Vec::new();
    peer.receive(&mut into, &wait()).unwrap();
    assert_eq!(into, b"last");
    let error = peer.receive(&mut into, &wait()).unwrap_err();
    assert_eq!(lost_of(error), lost);
}

pub(crate) fn the_child_of_a_fork_gets_an_error(transport: TransportName) {
    let side = Side::open(|_| {});
    let extent = side.extent(1000, 1);
    let peer = connect(&side, transport);
    let id = side.recorder.joined(&side.endpoint);
    // SAFETY: the child calls what is tried, which finds out at once that it
    // is a child, and ends without any of the parent's.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let forked =
            |result: Result<(), CouplingError>| matches!(result, Err(CouplingError::Forked));
        let all = forked(side.endpoint.send(id, &[b"child"]))
            && forked(peer.send(&[b"child"], Urgency::Now, &wait()))
            && forked(peer.receive(&mut Vec::new(), &wait()))
            && forked(peer.read(&mut [], &wait()));
        drop(peer);
        drop(side);
        // SAFETY: ends this process, and runs nothing of it.
        unsafe { libc::_exit(if all { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the child had all errors, and ended well");
    assert!(read(&peer, &extent, &[(0, 1000)])[0] == pattern(1000, 1));
    peer.send(&[b"parent"], Urgency::Now, &wait()).unwrap();
    side.recorder.until(&side.endpoint, |heard| match heard {
        Heard::Message(_, message) => (message == b"parent").then_some(()),
        _ => None,
    });
}

/// How many of something /proc counts for this process.
fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}"))
        .unwrap()
        .count()
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

pub(crate) fn a_thousand_peers_leave_nothing_behind(transport: TransportName) {
    // Other tests of this process come and go: alone in one of its own.
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "losses::thousand", "--nocapture"])
        .env("PANTA_CONFORMANCE_THOUSAND", transport.name())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{output}");
}

#[test]
fn thousand() {
    let Ok(name) = std::env::var("PANTA_CONFORMANCE_THOUSAND") else {
        return;
    };
    let transports = [TransportName::Shm, TransportName::Tcp, TransportName::Rdma];
    let transport = transports
        .into_iter()
        .find(|one| one.name() == name)
        .unwrap();
    if transport == TransportName::Rdma {
        assert!(use_fabric("thousand"));
    }
    let side = Side::open(|_| {});
    let extent = side.extent(100_000, 1);
    let whole = pattern(100_000, 1);
    let round = |times: u64| {
        for _ in 0..times {
            let lost = side.endpoint.counters().lost;
            let peer = connect(&side, transport);
            assert!(read(&peer, &extent, &[(1, 99_999)])[0] == whole[1..]);
            peer.send(&[b"hello"], Urgency::Now, &wait()).unwrap();
            peer.close();
            while side.endpoint.counters().lost == lost {
                side.endpoint.drive(&wait()).unwrap();
            }
        }
    };
    // With no peer there is no thread for heartbeats, either.
    let before = (count("fd"), count("task"));
    // A fabric takes its time for each.
    let all = if transport == TransportName::Rdma {
        100
    } else {
        1000
    };
    round(all / 10);
    let resident = resident_bytes();
    round(all - all / 10);
    // The endpoint's thread may just be closing the last one.
    let wait = wait();
    while (count("fd"), count("task")) != before {
        let now = (count("fd"), count("task"));
        assert!(
            wait.slice().is_ok(),
            "{now:?} descriptors and threads, not {before:?}"
        );
        std::thread::yield_now();
    }
    let after = resident_bytes();
    // The recorder remembers what it heard: some hundred bytes a peer.
    let grown = after.saturating_sub(resident);
    assert!(grown < 4 << 20, "{grown} bytes of memory");
    assert_eq!(side.endpoint.counters().joins, all);
}
