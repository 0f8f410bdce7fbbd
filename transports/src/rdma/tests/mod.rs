//! What real providers do rarely: refuse memory, break, answer strangely.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fake;

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::region::{Arena, ArenaOptions};
use crate::time::{Wait, WaitError};
use fake::{behaviour, fabric};

const REGION_BYTES: usize = 3 << 20;

/// A target, and a remote of it, that behave as `set` says.
fn pair(set: impl FnOnce(&mut fake::Behaviour)) -> (FabricServer, RemoteMemory, FabricRemote) {
    {
        let behaviour = behaviour();
        let mut behaviour = behaviour.borrow_mut();
        behaviour.depth = 4;
        behaviour.max_message_bytes = 1 << 30;
    }
    let server = FabricServer::open(&fabric(), &FabricOptions::with_provider("fake")).unwrap();
    let memory = expose(&server).unwrap();
    set(&mut behaviour().borrow_mut());
    let options = FabricOptions::default();
    let remote = FabricRemote::connect(&fabric(), server.address(), &options).unwrap();
    (server, memory, remote)
}

fn value(at: usize) -> u8 {
    (at % 251) as u8
}

fn expose(server: &FabricServer) -> Result<RemoteMemory, FabricError> {
    let bytes: Arc<Vec<u8>> = Arc::new((0..REGION_BYTES).map(value).collect());
    let start = NonNull::new(bytes.as_ptr().cast_mut()).unwrap();
    start.as_ptr().expose_provenance();
    // SAFETY: the vector is the keeper.
    unsafe { server.register_memory(7, start, REGION_BYTES, bytes) }
}

fn read(
    remote: &mut FabricRemote,
    memory: RemoteMemory,
    offset: usize,
    bytes: usize,
    wait: &Wait,
) -> Result<(), FabricError> {
    let mut into = vec![MaybeUninit::new(0xa5); bytes];
    let mut pieces = [Piece {
        memory,
        offset: offset as u64,
        into: &mut into,
    }];
    remote.read(&mut pieces, wait)?;
    // SAFETY: all of it was set above.
    let wrong =
        |(at, byte): (usize, &MaybeUninit<u8>)| unsafe { byte.assume_init() != value(offset + at) };
    assert!(!into.iter().enumerate().any(wrong));
    Ok(())
}

fn long() -> Wait {
    Wait::for_at_most(Duration::from_secs(60))
}

#[test]
fn memory_that_cannot_be_registered_at_the_target_is_an_error_that_says_what_to_raise() {
    let (server, _, _) = pair(|_| {});
    behaviour().borrow_mut().registrations = [libc::ENOMEM].into();
    let error = expose(&server).unwrap_err().to_string();
    assert!(
        error.contains("ulimit -l") && error.contains("fake"),
        "{error}"
    );
    assert_eq!(server.registered(), 0);
    expose(&server).unwrap();
    assert_eq!(server.registered(), 1);
}

#[test]
fn a_key_that_is_taken_is_tried_again_with_another_and_not_for_ever() {
    let (server, _, _) = pair(|_| {});
    behaviour().borrow_mut().registrations = [libc::ENOKEY; 3].into();
    expose(&server).unwrap();
    behaviour().borrow_mut().registrations = [libc::ENOKEY; 30].into();
    expose(&server).unwrap_err();
}

#[test]
fn a_local_buffer_that_cannot_be_registered_is_read_through_one_of_ours() {
    let (_server, memory, mut remote) = pair(|behaviour| {
        behaviour.flags = table::LOCAL;
        // The buffer of ours, then those of the caller.
        behaviour.registrations = [0, libc::ENOMEM, libc::ENOMEM].into();
    });
    read(&mut remote, memory, 11, 2 << 20, &long()).unwrap();
    assert!(remote.copies().bytes() > 0);
    let copied = remote.copies().bytes();
    read(&mut remote, memory, 11, 2 << 20, &long()).unwrap();
    assert_eq!(remote.copies().bytes(), copied, "registered this time");
    drop(remote);
    // The target's one, and the slots', which went with the endpoint.
    assert_eq!(behaviour().borrow().registered, 2);
}

#[test]
fn a_buffer_of_ours_that_cannot_be_registered_is_an_error_at_connect() {
    let (server, _, _) = pair(|_| {});
    behaviour().borrow_mut().flags = table::LOCAL;
    behaviour().borrow_mut().registrations = [libc::EPERM].into();
    let remote = FabricRemote::connect(&fabric(), server.address(), &FabricOptions::default());
    let error = remote.unwrap_err();
    assert!(matches!(error, FabricError::Registration { .. }), "{error}");
    assert_eq!(behaviour().borrow().open, 1, "only the target's");
}

#[test]
fn reads_are_cut_at_what_the_provider_takes_and_wait_where_it_takes_no_more() {
    let (_server, memory, mut remote) = pair(|behaviour| {
        behaviour.max_message_bytes = 1000;
        behaviour.posts = [libc::EAGAIN, 0, 0, libc::EAGAIN, libc::EAGAIN].into();
    });
    read(&mut remote, memory, 3, 12_345, &long()).unwrap();
    assert_eq!(remote.reads(), 13);
    assert_eq!(remote.read_bytes(), 12_345);
}

#[test]
fn a_read_that_fails_says_why_and_leaves_an_endpoint_that_still_works() {
    let (_server, memory, mut remote) = pair(|behaviour| {
        behaviour.max_message_bytes = 1000;
        behaviour.ends = [0, 0, libc::EACCES].into();
    });
    let error = read(&mut remote, memory, 0, 12_345, &long()).unwrap_err();
    assert!(error.to_string().contains("as it was told"), "{error}");
    assert!(remote.is_open());
    read(&mut remote, memory, 0, 12_345, &long()).unwrap();
}

#[test]
fn a_read_that_cannot_be_posted_is_an_error_after_the_others_have_ended() {
    let (_server, memory, mut remote) = pair(|behaviour| {
        behaviour.max_message_bytes = 1000;
        behaviour.posts = [0, 0, libc::ECONNREFUSED].into();
    });
    let error = read(&mut remote, memory, 0, 12_345, &long()).unwrap_err();
    assert!(matches!(error, FabricError::Read { .. }), "{error}");
    read(&mut remote, memory, 0, 12_345, &long()).unwrap();
}

#[test]
fn a_broken_queue_tears_the_endpoint_down() {
    let (_server, memory, mut remote) = pair(|behaviour| behaviour.queue_broken = true);
    let error = read(&mut remote, memory, 0, 100, &long()).unwrap_err();
    assert!(matches!(error, FabricError::Read { .. }), "{error}");
    assert_eq!(behaviour().borrow().open, 1, "only the target's");
    let error = read(&mut remote, memory, 0, 100, &long()).unwrap_err();
    assert!(matches!(error, FabricError::TornDown), "{error}");
}

#[test]
fn a_failure_whose_companions_never_end_is_told_and_the_endpoint_torn_down() {
    let (_server, memory, mut remote) = pair(|behaviour| {
        behaviour.max_message_bytes = 1000;
        behaviour.ends = [libc::EACCES].into();
        behaviour.stuck = true;
    });
    let wait = Wait::for_at_most(Duration::from_millis(20));
    let error = read(&mut remote, memory, 0, 12_345, &wait).unwrap_err();
    assert!(error.to_string().contains("as it was told"), "{error}");
    assert!(!remote.is_open());
    assert_eq!(behaviour().borrow().open, 1, "only the target's");
}

#[test]
fn a_deadline_ends_reads_that_never_end_and_those_that_are_never_taken() {
    for never_taken in [false, true] {
        let (_server, memory, mut remote) = pair(|behaviour| {
            behaviour.stuck = true;
            if never_taken {
                behaviour.posts = [libc::EAGAIN; 100_000].into();
            }
        });
        let length = Duration::from_millis(20);
        let error = read(&mut remote, memory, 0, 9, &Wait::for_at_most(length)).unwrap_err();
        let FabricError::Wait {
            pending, source, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((pending, source), (1, WaitError::Deadline(length)));
        assert!(!remote.is_open());
        behaviour().borrow_mut().posts.clear();
    }
}

#[test]
fn completions_that_nobody_waits_for_are_passed_over() {
    let (_server, memory, mut remote) =
        pair(|behaviour| behaviour.strays = vec![0, 4, 1 << 40, u64::MAX]);
    read(&mut remote, memory, 5, 3000, &long()).unwrap();
    read(&mut remote, memory, 5, 3000, &long()).unwrap();
}

#[test]
fn memory_that_cannot_be_withdrawn_stays_registered_and_kept() {
    let (server, _, _remote) = pair(|_| {});
    behaviour().borrow_mut().removal_fails = true;
    server.deregister(7).unwrap_err();
    assert_eq!(server.registered(), 1);
    behaviour().borrow_mut().removal_fails = false;
    server.deregister(7).unwrap();
    server.deregister(7).unwrap();
    assert_eq!(server.registered(), 0);
}

#[test]
fn without_a_name_only_hardware_is_taken() {
    let open = || FabricServer::open(&fabric(), &FabricOptions::default());
    behaviour().borrow_mut().names = vec!["udp;ofi_rxd", "tcp;ofi_rxm", "shm"];
    let error = open().err().unwrap().to_string();
    assert!(
        error.contains("hardware") && error.contains("shm"),
        "{error}"
    );
    behaviour().borrow_mut().names.push("verbs;ofi_rxm");
    open().unwrap();
}

/// Reads `bytes` at `offset` of a region.
fn region_read(
    reader: &mut FabricReader,
    region: u32,
    offset: u64,
    bytes: usize,
) -> Result<Vec<u8>, FabricError> {
    let mut into = vec![MaybeUninit::new(0); bytes];
    let mut pieces = [RegionPiece {
        region,
        offset,
        into: &mut into,
    }];
    reader.read(&mut pieces, &long())?;
    // SAFETY: all of it was set above.
    Ok(into
        .into_iter()
        .map(|byte| unsafe { byte.assume_init() })
        .collect())
}

#[test]
fn regions_are_found_as_they_come_and_missed_when_they_are_gone() {
    let _ = pair(|_| {});
    let arena = Arena::new(ArenaOptions {
        limit_bytes: 12 << 20,
        shared: true,
    });
    let fill = |bytes: usize, value: u8| {
        let mut extent = arena.allocate(bytes).unwrap();
        extent.as_ptr().as_ptr().expose_provenance();
        extent.as_mut_slice().fill(value);
        extent
    };
    let first = fill(5 << 20, 1);
    let options = FabricOptions::with_provider("fake");
    let exposure = FabricExposure::open(&fabric(), &options, &arena).unwrap();
    let mut reader = FabricReader::new(&fabric(), exposure.offer(), &options).unwrap();
    let second = fill(6 << 20, 2);
    for (extent, value) in [(&first, 1), (&second, 2), (&first, 1)] {
        let bytes = region_read(&mut reader, extent.region(), extent.offset(), 5000).unwrap();
        assert!(bytes.iter().all(|&byte| byte == value));
    }
    assert_eq!(reader.reads(), 3 + 1, "the directory is read once");
    let error = region_read(&mut reader, 77, 0, 1).unwrap_err();
    assert!(
        matches!(error, FabricError::NotExposed { region: 77 }),
        "{error}"
    );
    let gone = first.region();
    drop(first);
    // Takes the place of the first, which is given up for it.
    let third = fill(6 << 20, 3);
    assert!(arena.region(gone).is_none());
    behaviour().borrow_mut().ends = [libc::EACCES].into();
    let error = region_read(&mut reader, gone, 0, 1).unwrap_err();
    assert!(
        matches!(error, FabricError::NotExposed { region } if region == gone),
        "{error}"
    );
    let bytes = region_read(&mut reader, third.region(), third.offset(), 9).unwrap();
    assert_eq!(bytes, [3; 9]);
    // The failure of a read of what is there is told as it is.
    behaviour().borrow_mut().ends = [libc::EACCES].into();
    let error = region_read(&mut reader, third.region(), 0, 1).unwrap_err();
    assert!(matches!(error, FabricError::Read { .. }), "{error}");
    drop(exposure);
    drop(second);
    drop(fill(5 << 20, 4));
}

#[test]
fn a_region_that_cannot_be_registered_is_not_exposed_and_the_rest_is() {
    let _ = pair(|_| {});
    let arena = Arena::new(ArenaOptions {
        limit_bytes: 64 << 20,
        shared: false,
    });
    let options = FabricOptions::with_provider("fake");
    let exposure = FabricExposure::open(&fabric(), &options, &arena).unwrap();
    let mut reader = FabricReader::new(&fabric(), exposure.offer(), &options).unwrap();
    behaviour().borrow_mut().registrations = [libc::ENOMEM].into();
    let bad = arena.allocate(9 << 20).unwrap();
    let good = arena.allocate(9 << 20).unwrap();
    good.as_ptr().as_ptr().expose_provenance();
    let error = region_read(&mut reader, bad.region(), 0, 1).unwrap_err();
    assert!(matches!(error, FabricError::NotExposed { .. }), "{error}");
    region_read(&mut reader, good.region(), 0, 1).unwrap();
}

#[test]
fn an_offer_that_is_none_is_refused() {
    let _ = pair(|_| {});
    let arena = Arena::new(ArenaOptions {
        limit_bytes: 1 << 20,
        shared: false,
    });
    let options = FabricOptions::with_provider("fake");
    let exposure = FabricExposure::open(&fabric(), &options, &arena).unwrap();
    let offer = exposure.offer();
    FabricReader::new(&fabric(), offer, &options).unwrap();
    for end in 0..offer.len() {
        assert!(FabricReader::new(&fabric(), &offer[..end], &options).is_err());
    }
    let mut long = offer.to_vec();
    long.push(0);
    assert!(FabricReader::new(&fabric(), &long, &options).is_err());
}

proptest! {
    #[test]
    fn an_address_comes_back_as_it_was_told(
        provider in "[a-z_;]{1,60}",
        format in any::<u32>(),
        bytes in prop::collection::vec(any::<u8>(), 1..250),
    ) {
        let address = FabricAddress { provider, format, bytes };
        prop_assert_eq!(FabricAddress::from_bytes(&address.to_bytes()).unwrap(), address);
    }

    #[test]
    fn no_bytes_are_too_strange_for_an_address(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = FabricAddress::from_bytes(&bytes);
    }

    #[test]
    fn a_range_is_inside_or_refused(
        (base, bytes, key) in any::<(u64, u64, u64)>(),
        (offset, count) in any::<(u64, u64)>(),
    ) {
        let memory = RemoteMemory { base, bytes, key };
        prop_assert_eq!(RemoteMemory::from_bytes(memory.to_bytes()), memory);
        if let Ok(address) = memory.address(offset, count) {
            prop_assert!(u128::from(offset) + u128::from(count) <= u128::from(bytes));
            prop_assert_eq!(address, base + offset);
        }
    }
}
