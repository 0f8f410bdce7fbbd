//! A server and its remotes in one process; and sides that keep to no rules.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::message::Message;
use super::*;
use crate::region::{Arena, ArenaOptions, Extent, RegionError};
use crate::time::{Time, Wait};

fn long() -> Wait {
    Wait::for_at_most(Duration::from_secs(60))
}

fn soon() -> Wait {
    Wait::for_at_most(Duration::from_millis(20))
}

fn arena(limit_bytes: u64) -> Arena {
    Arena::new(ArenaOptions {
        limit_bytes,
        shared: true,
    })
}

fn server(arena: &Arena) -> ShmServer {
    ShmServer::open(arena, ShmOptions::default()).unwrap()
}

/// What the server says next; the test fails where it says nothing.
fn event(server: &ShmServer) -> ShmEvent {
    let end = Time::now().after(Duration::from_secs(60));
    while Time::now() < end {
        if let Some(event) = server.handle().pop() {
            return event;
        }
        wait_for(server.as_fd());
    }
    panic!("nothing came");
}

fn wait_for(fd: BorrowedFd<'_>) {
    let slice = Timespec::try_from(Duration::from_millis(50)).unwrap();
    let _ = poll(
        &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
        Some(&slice),
    );
}

type Connecting = JoinHandle<Result<(ShmRemote, Option<Rings>), ShmError>>;

fn connecting(offer: &Offer, linked: bool) -> Connecting {
    let offer = Offer::from_bytes(&offer.to_bytes()).unwrap();
    let options = ShmOptions::default();
    std::thread::spawn(move || ShmRemote::connect(&offer, linked, &options, &long()))
}

fn joined(
    server: &ShmServer,
    number: u64,
    linked: bool,
) -> (ShmRemote, Option<Rings>, Option<Rings>) {
    let offer = server.offer(number, linked).unwrap();
    let remote = connecting(&offer, linked);
    let ShmEvent::Joined { number: who, rings } = event(server) else {
        panic!("it did not join");
    };
    assert_eq!(who, number);
    let (remote, theirs) = remote.join().unwrap().unwrap();
    (remote, theirs, rings)
}

fn filled(arena: &Arena, bytes: usize, mark: u8) -> Extent {
    let mut extent = arena.allocate(bytes).unwrap();
    extent.as_mut_slice().fill(mark);
    extent
}

fn map(remote: &ShmRemote, extent: &Extent) -> Mapped {
    let mapped = remote.map(extent.region(), extent.offset(), extent.bytes(), &long());
    mapped.unwrap()
}

#[test]
fn regions_made_before_and_after_joining_are_mapped_in_place() {
    let arena = arena(1 << 30);
    let before = filled(&arena, 5000, 1);
    let server = server(&arena);
    let (remote, rings, _) = joined(&server, 7, false);
    assert!(rings.is_none());
    assert_eq!(*map(&remote, &before), [1; 5000]);
    let mut after = filled(&arena, 9 << 20, 2);
    let mapped = map(&remote, &after);
    assert!(mapped.iter().all(|byte| *byte == 2));
    after.as_mut_slice()[5] = 3;
    assert_eq!(mapped[5], 3, "it is a copy");
}

#[test]
fn a_region_that_comes_later_is_waited_for() {
    let arena = arena(1 << 30);
    let server = server(&arena);
    let (remote, _, _) = joined(&server, 1, false);
    let error = remote.map(0, 0, 1, &soon()).unwrap_err();
    assert!(matches!(error, ShmError::NotReady { .. }), "{error}");
    let waiting = std::thread::spawn(move || remote.map(0, 0, 100, &long()).map(|one| one[99]));
    let _extent = filled(&arena, 100, 9);
    // Whether it was there before the region or comes after it.
    assert!(waiting.join().unwrap().is_ok());
}

#[test]
fn nothing_beyond_a_region_is_mapped() {
    let arena = arena(1 << 30);
    let extent = filled(&arena, 100, 1);
    let server = server(&arena);
    let (remote, _, _) = joined(&server, 1, false);
    let size = extent.region_arc().bytes();
    assert_eq!(remote.map(0, size, 0, &long()).unwrap().bytes(), 0);
    for (offset, bytes) in [
        (size, 1),
        (size + 1, 0),
        (0, size as usize + 1),
        (u64::MAX, 1),
        (u64::MAX, usize::MAX),
        (1, usize::MAX),
    ] {
        let error = remote.map(0, offset, bytes, &long()).unwrap_err();
        assert!(matches!(error, ShmError::OutOfRange { .. }), "{error}");
    }
}

#[test]
fn a_region_that_is_given_up_is_unmapped_unless_somebody_looks_at_it() {
    let arena = arena(1 << 30);
    let server = server(&arena);
    let (remote, _, _) = joined(&server, 1, false);
    let [kept, other] = [1, 2].map(|mark| filled(&arena, 8 << 20, mark));
    let mapped = map(&remote, &kept);
    let _ = map(&remote, &other);
    assert_eq!(remote.regions(), 2);
    let bytes = kept.region_arc().bytes();
    for extent in [kept, other] {
        arena.retire(extent.region());
    }
    assert_eq!(server.lingering_bytes(), 2 * bytes);
    assert_eq!(
        (arena.held_bytes(), arena.lingering_bytes()),
        (2 * bytes, 2 * bytes)
    );
    remote.drain().unwrap();
    assert_eq!(remote.regions(), 0);
    server.handle();
    assert_eq!(server.lingering_bytes(), bytes, "one is looked at");
    assert!(mapped.iter().all(|byte| *byte == 1));
    let error = remote.map(mapped.region(), 0, 1, &long()).unwrap_err();
    assert!(matches!(error, ShmError::Gone { .. }), "{error}");
    drop(mapped);
    server.handle();
    assert_eq!(server.lingering_bytes(), 0);
    assert_eq!(arena.held_bytes(), 0);
}

#[test]
fn what_somebody_still_looks_at_counts_against_the_limit_also_when_he_was_forgotten() {
    let arena = arena(32 << 20);
    let server = server(&arena);
    let (remote, _, _) = joined(&server, 1, false);
    let extent = filled(&arena, 20 << 20, 1);
    let mapped = map(&remote, &extent);
    arena.retire(extent.region());
    drop(extent);
    let refused = || match arena.allocate(20 << 20) {
        Err(RegionError::Limit {
            lingering_bytes, ..
        }) => assert!(lingering_bytes >= 20 << 20),
        other => panic!("{other:?}"),
    };
    refused();
    server.forget(1);
    assert!(matches!(remote.drain(), Err(ShmError::Lost)));
    drop(remote);
    assert!(server.handle().is_empty());
    refused();
    assert!(mapped.iter().all(|byte| *byte == 1));
    drop(mapped);
    wait_for(server.as_fd());
    assert!(server.handle().is_empty());
    assert_eq!(arena.held_bytes(), 0);
    arena.allocate(20 << 20).unwrap();
}

#[test]
fn linked_ones_have_rings_both_ways_and_death_ends_a_wait_on_them() {
    let arena = arena(1 << 30);
    let server = server(&arena);
    let (remote, theirs, ours) = joined(&server, 1, true);
    let (mut theirs, mut ours) = (theirs.unwrap(), ours.unwrap());
    let mut into = Vec::new();
    ours.writer
        .try_send(&[b"to the remote"], Rouse::Sleeper)
        .unwrap();
    theirs
        .reader
        .receive(&mut into, Duration::ZERO, &long(), None)
        .unwrap();
    assert_eq!(into, b"to the remote");
    theirs.writer.try_send(&[b"back"], Rouse::Sleeper).unwrap();
    assert!(ours.reader.try_receive(&mut into).unwrap());
    ours.writer
        .try_send(&[b"the last"], Rouse::Sleeper)
        .unwrap();
    drop(server);
    theirs
        .reader
        .receive(&mut into, Duration::ZERO, &long(), None)
        .unwrap();
    let error = theirs
        .reader
        .receive(&mut into, Duration::ZERO, &long(), None);
    assert!(matches!(error, Err(RingError::Died)), "{error:?}");
    let much = vec![0; 1 << 20];
    let error = theirs.writer.send(&[&much], Rouse::Sleeper, &long());
    assert!(matches!(error, Err(RingError::Died)), "{error:?}");
    assert!(matches!(remote.drain(), Err(ShmError::Lost)));
}

#[test]
fn an_offer_is_good_for_one_time_and_until_it_is_taken_back() {
    let arena = arena(1 << 30);
    let server = server(&arena);
    let offer = server.offer(3, false).unwrap();
    let first = connecting(&offer, false);
    assert!(matches!(event(&server), ShmEvent::Joined { number: 3, .. }));
    let first = first.join().unwrap().unwrap();
    let mut wrong = server.offer(4, false).unwrap();
    server.forget(4);
    for offer in [offer, wrong.clone(), {
        wrong.token[0] ^= 1;
        wrong
    }] {
        let again = connecting(&offer, false);
        while !again.is_finished() {
            assert!(server.handle().is_empty());
            wait_for(server.as_fd());
        }
        let error = again.join().unwrap().map(drop).unwrap_err();
        assert!(matches!(error, ShmError::Lost), "{error}");
    }
    drop(first);
    assert!(matches!(event(&server), ShmEvent::Lost { number: 3, .. }));
}

#[test]
fn another_node_or_name_is_said_to_be_elsewhere() {
    let arena = arena(1 << 30);
    let server = server(&arena);
    let mut offer = server.offer(1, false).unwrap();
    offer.name[8] ^= 1;
    let error = connecting(&offer, false)
        .join()
        .unwrap()
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, ShmError::NotHere { .. }), "{error}");
}

#[test]
fn those_who_say_nothing_or_nonsense_hold_nobody_up() {
    let arena = arena(1 << 30);
    let server = server(&arena);
    let name = server.offer(1, false).unwrap().name;
    let mut silent = Vec::new();
    for number in 0..100 {
        let one = Connection::connect(&name, &long()).unwrap();
        match number % 4 {
            0 => assert!(one.send(&[9; MAX_PACKET_BYTES], &[]).unwrap()),
            1 => assert!(one.send(&[1], &[]).unwrap()),
            2 => drop(one.send(&[7; 1000], &[server.as_fd()])),
            _ => {}
        }
        silent.push(one);
        assert!(server.handle().is_empty());
    }
    let (remote, _, _) = joined(&server, 2, false);
    let extent = filled(&arena, 100, 5);
    assert_eq!(*map(&remote, &extent), [5; 100]);
    // One that links where that was not agreed.
    let offer = server.offer(3, false).unwrap();
    let other = connecting(&offer, true);
    let ShmEvent::Lost { number: 3, why } = event(&server) else {
        panic!("it joined");
    };
    assert!(matches!(why, ShmError::Misbehaved { .. }), "{why}");
    assert!(other.join().unwrap().is_err());
}

/// Regions of a page come and go, more than a socket and the queue behind it hold.
fn come_and_go(arena: &Arena) {
    for _ in 0..5000 {
        let extent = arena.allocate(10).unwrap();
        arena.retire(extent.region());
    }
}

fn cut_off(server: &ShmServer, who: u64) {
    let ShmEvent::Lost { number, why } = event(server) else {
        panic!("it is there still");
    };
    assert_eq!(number, who);
    assert!(matches!(why, ShmError::Misbehaved { .. }), "{why}");
}

#[test]
fn one_that_hears_nothing_for_long_is_cut_off_and_costs_no_more_memory() {
    // Room for regions of one page, as many as lie in a socket, and not for all.
    let arena = arena(14 << 20);
    let _most = arena.allocate(12 << 20).unwrap();
    let server = server(&arena);
    let (remote, _, _) = joined(&server, 1, false);
    come_and_go(&arena);
    cut_off(&server, 1);
    // The memory that lies in its socket is memory still.
    let in_flight = server.lingering_bytes();
    assert!(in_flight > 0);
    assert_eq!(arena.lingering_bytes(), in_flight);
    come_and_go(&arena);
    assert_eq!(arena.lingering_bytes(), in_flight, "it is sent more");
    drop(remote);
    wait_for(server.as_fd());
    assert!(server.handle().is_empty());
    assert_eq!((server.lingering_bytes(), arena.lingering_bytes()), (0, 0));
}

#[test]
fn what_one_that_was_cut_off_looks_at_counts_against_the_limit_until_it_is_unmapped() {
    let arena = arena(32 << 20);
    let server = server(&arena);
    let (remote, _, _) = joined(&server, 1, false);
    let (other, _, _) = joined(&server, 2, false);
    let extent = filled(&arena, 20 << 20, 1);
    let mapped = map(&remote, &extent);
    let mut is_cut_off = false;
    for _ in 0..100 {
        // Less than a socket takes.
        for _ in 0..50 {
            let extent = arena.allocate(10).unwrap();
            arena.retire(extent.region());
        }
        // The other one listens, and is not cut off with it.
        other.drain().unwrap();
        for event in server.handle() {
            assert!(matches!(event, ShmEvent::Lost { number: 1, .. }));
            is_cut_off = true;
        }
    }
    assert!(is_cut_off);
    let bytes = extent.region_arc().bytes();
    arena.retire(extent.region());
    drop(extent);
    other.drain().unwrap();
    assert!(server.handle().is_empty());
    assert!(arena.lingering_bytes() >= bytes, "it is not charged");
    let refused = || match arena.allocate(20 << 20) {
        Err(RegionError::Limit {
            lingering_bytes, ..
        }) => assert!(lingering_bytes >= bytes),
        other => panic!("{other:?}"),
    };
    refused();
    // It wakes, and finds that it is lost; what it looks at stays.
    while remote.drain().is_ok() {}
    drop(remote);
    server.handle();
    refused();
    assert!(mapped.iter().all(|byte| *byte == 1));
    drop(mapped);
    wait_for(server.as_fd());
    assert!(server.handle().is_empty());
    arena.allocate(20 << 20).unwrap();
    other.drain().unwrap();
}

/// A server that does as the test says: an offer, and what answers it.
fn fake(packets: Vec<(Message, Vec<OwnedFd>)>, nonce: [u8; 16]) -> Result<ShmRemote, ShmError> {
    let listener = Listener::bind().unwrap();
    let offer = Offer {
        name: listener.name().to_vec(),
        token: [1; 16],
        nonce,
    };
    let remote = connecting(&offer, false);
    let connection = loop {
        match listener.accept().unwrap() {
            Some(connection) => break connection,
            None => wait_for(listener.as_fd()),
        }
    };
    for (message, descriptors) in packets {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        // It may be gone already.
        let _ = connection.send(&message.to_bytes(), &descriptors);
    }
    let (remote, _) = remote.join().unwrap()?;
    remote.drain().map(|()| remote)
}

fn memory(bytes: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("test", flags).unwrap();
    ftruncate(&fd, bytes).unwrap();
    fcntl_add_seals(&fd, seals).unwrap();
    fd
}

const ENOUGH: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::FUTURE_WRITE);

fn welcome() -> (Message, Vec<OwnedFd>) {
    (
        Message::Welcome { linked: false },
        vec![memory(4096, ENOUGH)],
    )
}

fn region(fd: OwnedFd, bytes: u64) -> (Message, Vec<OwnedFd>) {
    (Message::Region { region: 0, bytes }, vec![fd])
}

#[test]
fn memory_that_could_shrink_or_be_written_is_refused() {
    assert!(fake(vec![welcome()], [0; 16]).is_ok(), "the fake is none");
    let good = || region(memory(8192, ENOUGH), 8192);
    assert_eq!(fake(vec![welcome(), good()], [0; 16]).unwrap().regions(), 1);
    let file = OwnedFd::from(tempfile::tempfile().unwrap());
    ftruncate(&file, 8192).unwrap();
    for (fd, bytes) in [
        (memory(8192, SealFlags::empty()), 8192),
        (memory(8192, SealFlags::SHRINK | SealFlags::GROW), 8192),
        (
            memory(8192, SealFlags::SHRINK | SealFlags::FUTURE_WRITE),
            8192,
        ),
        (
            memory(8192, SealFlags::GROW | SealFlags::FUTURE_WRITE),
            8192,
        ),
        (memory(8192, ENOUGH), 4096),
        (memory(4096, ENOUGH), 8192),
        (memory(0, ENOUGH), 0),
        (file, 8192),
    ] {
        let error = fake(vec![welcome(), region(fd, bytes)], [0; 16]).unwrap_err();
        assert!(matches!(error, ShmError::Unsealed { .. }), "{error}");
    }
}

#[test]
fn a_server_that_keeps_to_no_rules_is_refused() {
    let misbehaves = |packets| {
        let error = fake(packets, [0; 16]).unwrap_err();
        assert!(matches!(error, ShmError::Misbehaved { .. }), "{error}");
    };
    let sealed = || memory(4096, ENOUGH);
    misbehaves(vec![(Message::Welcome { linked: false }, vec![])]);
    misbehaves(vec![(Message::Welcome { linked: true }, vec![sealed()])]);
    misbehaves(vec![(Message::Gone { region: 1 }, vec![])]);
    misbehaves(vec![
        welcome(),
        region(sealed(), 4096),
        region(sealed(), 4096),
    ]);
    misbehaves(vec![
        welcome(),
        (Message::Gone { region: 1 }, vec![sealed()]),
    ]);
    misbehaves(vec![welcome(), (Message::Unmapped { region: 1 }, vec![])]);
    let none = Message::Region {
        region: 0,
        bytes: 4096,
    };
    misbehaves(vec![welcome(), (none, vec![])]);
    misbehaves(vec![welcome(), (none, vec![sealed(), sealed()])]);
    let error = fake(vec![welcome()], [9; 16]).unwrap_err();
    assert!(matches!(error, ShmError::OtherMemory { .. }), "{error}");
    let page = memory(4096, SealFlags::empty());
    let unsealed = (Message::Welcome { linked: false }, vec![page]);
    let error = fake(vec![unsealed], [0; 16]).unwrap_err();
    assert!(matches!(error, ShmError::Unsealed { .. }), "{error}");
}

#[test]
fn messages_and_offers_are_what_was_sent_or_an_error() {
    use proptest::prelude::*;
    proptest!(|(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0_u8..7)| {
        let mut of_kind = vec![kind];
        of_kind.extend_from_slice(&bytes[..bytes.len().min(20)]);
        for bytes in [&bytes, &of_kind] {
            if let Ok(message) = Message::from_bytes(bytes) {
                prop_assert_eq!(&message.to_bytes(), bytes);
            }
            if let Ok(offer) = Offer::from_bytes(bytes) {
                prop_assert_eq!(&offer.to_bytes(), bytes);
            }
        }
    });
    for message in [
        Message::Hello {
            linked: true,
            token: [7; 16],
        },
        Message::Welcome { linked: false },
        Message::Region {
            region: u32::MAX,
            bytes: u64::MAX,
        },
        Message::Gone { region: 5 },
        Message::Unmapped { region: 6 },
    ] {
        assert_eq!(Message::from_bytes(&message.to_bytes()), Ok(message));
    }
}
