//! Reads over real providers of libfabric that need no hardware, between
//! processes.
//!
//! A machine without the module (`cargo build -p panta-fabric`) or without
//! libfabric skips each of them by name; where `PANTA_CI` is set it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod loading;
mod target;

use std::mem::MaybeUninit;
use std::sync::mpsc;
use std::time::Duration;

use panta_transports::rdma::{
    Batch, Fabric, FabricError, FabricOptions, FabricRemote, Piece, read_many,
};
use panta_transports::time::{Interrupt, Time, Wait, WaitError};
use rustix::process::Signal;
use target::{REGION_BYTES, Target, options, value};

const PROVIDERS: [&str; 2] = ["tcp;ofi_rxm", "shm"];

/// A scenario's own deadline; reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);
/// One that is meant to be reached.
const SHORT: Duration = Duration::from_millis(400);
/// Far below [`LONG`], far above what an error takes.
const AT_ONCE: Duration = Duration::from_secs(20);

/// libfabric, or a skip that says which test it was.
fn fabric(test: &str) -> Option<Fabric> {
    match Fabric::load() {
        Ok(fabric) => Some(fabric),
        Err(error) => {
            assert!(std::env::var_os("PANTA_CI").is_none(), "{test}: {error}");
            eprintln!("skipped: {test}: {error}");
            None
        }
    }
}

fn long() -> Wait {
    Wait::for_at_most(LONG)
}

fn uninit(bytes: usize) -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::new(0xa5); bytes]
}

/// Checks bytes that were read from `offset`; they were all set before.
fn check(into: &[MaybeUninit<u8>], offset: usize) {
    for (at, byte) in into.iter().enumerate() {
        // SAFETY: `uninit` set it, whatever was read.
        let byte = unsafe { byte.assume_init() };
        assert_eq!(byte, value(offset + at), "byte {at} from {offset}");
    }
}

fn read(remote: &mut FabricRemote, target: &Target, offset: usize, bytes: usize) {
    let mut into = uninit(bytes);
    let mut pieces = [Piece {
        memory: target.memory,
        offset: offset as u64,
        into: &mut into,
    }];
    remote.read(&mut pieces, &long()).unwrap();
    check(&into, offset);
}

/// A read of the first bytes that must not succeed.
fn fails(remote: &mut FabricRemote, target: &Target, bytes: usize, wait: &Wait) -> FabricError {
    let mut into = uninit(bytes);
    let mut pieces = [Piece {
        memory: target.memory,
        offset: 0,
        into: &mut into,
    }];
    let began = Time::now();
    let error = remote.read(&mut pieces, wait).unwrap_err();
    assert!(Time::now().since(began) < AT_ONCE, "{error}");
    error
}

#[test]
fn a_target_does_as_it_is_told() {
    target::run_if_asked();
}

#[test]
fn reads_of_all_sizes_bring_the_right_bytes_and_each_is_counted() {
    let Some(fabric) = fabric("reads_of_all_sizes") else {
        return;
    };
    let limit = 1 << 20;
    for provider in PROVIDERS {
        for always_register in [false, true] {
            let target = Target::start(provider);
            let options = FabricOptions {
                read_limit_bytes: limit,
                always_register,
                ..options(provider)
            };
            let mut remote = FabricRemote::connect(&fabric, &target.address, &options).unwrap();
            assert_eq!(remote.provider(), provider);
            let (mut reads, mut bytes_read) = (0, 0);
            for bytes in [0, 1, 7, 4096, 65_535, 65_537, (1 << 20) + 3, 20 << 20] {
                for offset in [0, 13, REGION_BYTES - bytes] {
                    read(&mut remote, &target, offset, bytes);
                    // Registered ones are cut at the limit, small ones at a slot.
                    reads += match always_register {
                        false => bytes.div_ceil(limit),
                        true => {
                            let rest = bytes % limit;
                            bytes / limit
                                + if rest < 256 << 10 {
                                    rest.div_ceil(64 << 10)
                                } else {
                                    1
                                }
                        }
                    } as u64;
                    bytes_read += bytes as u64;
                }
            }
            assert_eq!(remote.reads(), reads, "{provider} {always_register}");
            assert_eq!(remote.read_bytes(), bytes_read);
            assert_eq!(remote.copies().bytes() > 0, always_register);
        }
    }
}

#[test]
fn many_pieces_of_one_call_all_arrive_where_they_belong() {
    let Some(fabric) = fabric("many_pieces") else {
        return;
    };
    for provider in PROVIDERS {
        let target = Target::start(provider);
        let mut remote =
            FabricRemote::connect(&fabric, &target.address, &options(provider)).unwrap();
        let lengths: Vec<usize> = (0..3000).map(|n| n * 37 % 5000).collect();
        let offset = |n: usize| n * 7919 % (REGION_BYTES - 5000);
        let mut memory = uninit(lengths.iter().sum());
        let mut rest = memory.as_mut_slice();
        let mut pieces = Vec::new();
        for (n, &length) in lengths.iter().enumerate() {
            let (into, after) = rest.split_at_mut(length);
            rest = after;
            pieces.push(Piece {
                memory: target.memory,
                offset: offset(n) as u64,
                into,
            });
        }
        remote.read(&mut pieces, &long()).unwrap();
        for (n, piece) in pieces.iter().enumerate() {
            check(piece.into, offset(n));
        }
        let filled = lengths.iter().filter(|&&length| length > 0).count();
        assert_eq!(remote.reads(), filled as u64);
    }
}

#[test]
fn several_targets_are_read_from_at_once() {
    let Some(fabric) = fabric("several_targets") else {
        return;
    };
    for provider in PROVIDERS {
        let targets: Vec<Target> = (0..3).map(|_| Target::start(provider)).collect();
        let connect =
            |one: &Target| FabricRemote::connect(&fabric, &one.address, &options(provider));
        let mut remotes: Vec<_> = targets.iter().map(|one| connect(one).unwrap()).collect();
        let mut buffers = vec![uninit(9 << 20); 3];
        let mut pieces: Vec<[Piece<'_>; 1]> = buffers
            .iter_mut()
            .zip(&targets)
            .map(|(into, target)| {
                [Piece {
                    memory: target.memory,
                    offset: 99,
                    into,
                }]
            })
            .collect();
        let mut batches: Vec<Batch<'_, '_, '_>> = remotes
            .iter_mut()
            .zip(&mut pieces)
            .map(|(remote, pieces)| Batch { remote, pieces })
            .collect();
        read_many(&mut batches, &long(), &mut |_| true).unwrap();
        for into in &buffers {
            check(into, 99);
        }
    }
}

#[test]
fn a_range_outside_the_memory_is_refused_before_anything_is_read() {
    let Some(fabric) = fabric("a_range_outside") else {
        return;
    };
    let target = Target::start("tcp;ofi_rxm");
    let options = options("tcp;ofi_rxm");
    let mut remote = FabricRemote::connect(&fabric, &target.address, &options).unwrap();
    for offset in [REGION_BYTES as u64, REGION_BYTES as u64 - 9, u64::MAX - 3] {
        let mut good = uninit(10);
        let mut bad = uninit(10);
        let mut pieces = [
            Piece {
                memory: target.memory,
                offset: 0,
                into: &mut good,
            },
            Piece {
                memory: target.memory,
                offset,
                into: &mut bad,
            },
        ];
        let error = remote.read(&mut pieces, &long()).unwrap_err();
        assert!(matches!(error, FabricError::OutOfMemory { .. }), "{error}");
    }
    assert_eq!(remote.reads(), 0);
    read(&mut remote, &target, 5, 5);
}

// `shm` reads a process of the same user without looking at the key.
#[test]
fn memory_that_was_withdrawn_can_no_longer_be_read() {
    let Some(fabric) = fabric("memory_that_was_withdrawn") else {
        return;
    };
    let mut target = Target::start("tcp;ofi_rxm");
    let options = options("tcp;ofi_rxm");
    let mut remote = FabricRemote::connect(&fabric, &target.address, &options).unwrap();
    read(&mut remote, &target, 5, 5000);
    target.order("withdraw");
    let error = fails(&mut remote, &target, 5000, &Wait::for_at_most(LONG));
    assert!(matches!(error, FabricError::Read { .. }), "{error}");
}

#[test]
fn a_wrong_key_reads_nothing_and_the_target_goes_on() {
    let Some(fabric) = fabric("a_wrong_key") else {
        return;
    };
    let mut target = Target::start("tcp;ofi_rxm");
    let options = options("tcp;ofi_rxm");
    let connect = || FabricRemote::connect(&fabric, &target.address, &options).unwrap();
    let (mut bad, mut good) = (connect(), connect());
    target.memory.key ^= 1;
    let error = fails(&mut bad, &target, 4096, &Wait::for_at_most(LONG));
    assert!(matches!(error, FabricError::Read { .. }), "{error}");
    target.memory.key ^= 1;
    read(&mut good, &target, 5, 5000);
}

#[test]
fn a_target_killed_while_it_is_read_is_an_error_and_not_a_hang() {
    let Some(fabric) = fabric("a_target_killed") else {
        return;
    };
    for provider in PROVIDERS {
        let mut target = Target::start(provider);
        let mut remote =
            FabricRemote::connect(&fabric, &target.address, &options(provider)).unwrap();
        let memory = target.memory;
        let (rounds, seen) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut into = uninit(REGION_BYTES);
            loop {
                let mut pieces = [Piece {
                    memory,
                    offset: 0,
                    into: &mut into,
                }];
                if let Err(error) = remote.read(&mut pieces, &long()) {
                    return error;
                }
                // The other side has seen enough.
                let _ = rounds.send(());
            }
        });
        for _ in 0..3 {
            seen.recv_timeout(LONG).unwrap();
        }
        target.signal(Signal::KILL);
        target.reap();
        let killed = Time::now();
        let error = reader.join().unwrap();
        assert!(Time::now().since(killed) < AT_ONCE, "{provider}: {error}");
        assert!(
            matches!(error, FabricError::Read { .. }),
            "{provider}: {error}"
        );
    }
}

#[test]
fn a_stopped_target_is_an_error_by_the_deadline_and_nothing_is_written_later() {
    let Some(fabric) = fabric("a_stopped_target") else {
        return;
    };
    let mut target = Target::start("tcp;ofi_rxm");
    let options = options("tcp;ofi_rxm");
    for always_register in [false, true] {
        let options = FabricOptions {
            always_register,
            ..options.clone()
        };
        let mut remote = FabricRemote::connect(&fabric, &target.address, &options).unwrap();
        read(&mut remote, &target, 0, 100);
        target.signal(Signal::STOP);
        let mut into = uninit(REGION_BYTES);
        let mut pieces = [Piece {
            memory: target.memory,
            offset: 0,
            into: &mut into,
        }];
        let error = remote
            .read(&mut pieces, &Wait::for_at_most(SHORT))
            .unwrap_err();
        let FabricError::Wait {
            pending, source, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(*source, WaitError::Deadline(SHORT));
        assert!(*pending > 0);
        assert!(!remote.is_open());
        // From here on the memory is the caller's alone, whatever the target does.
        into.fill(MaybeUninit::new(0x5a));
        target.signal(Signal::CONT);
        target.order("look");
        let mut again = FabricRemote::connect(&fabric, &target.address, &options).unwrap();
        read(&mut again, &target, 77, 1 << 20);
        target.order("look");
        // SAFETY: all of it was set.
        let untouched = into
            .iter()
            .all(|byte| unsafe { byte.assume_init() } == 0x5a);
        assert!(untouched, "written after the call had returned");
        let torn = fails(&mut remote, &target, 1, &long());
        assert!(matches!(torn, FabricError::TornDown), "{torn}");
    }
}

// The kernel copies for `shm`, so that a stopped target need not be waited for.
#[test]
fn a_stopped_target_over_shm_gives_the_bytes_or_an_error_by_the_deadline() {
    let Some(fabric) = fabric("a_stopped_target_over_shm") else {
        return;
    };
    let target = Target::start("shm");
    let mut remote = FabricRemote::connect(&fabric, &target.address, &options("shm")).unwrap();
    read(&mut remote, &target, 0, 100);
    target.signal(Signal::STOP);
    let mut into = uninit(1 << 20);
    let mut pieces = [Piece {
        memory: target.memory,
        offset: 0,
        into: &mut into,
    }];
    match remote.read(&mut pieces, &Wait::for_at_most(SHORT)) {
        Ok(()) => check(&into, 0),
        Err(error) => assert!(matches!(error, FabricError::Wait { .. }), "{error}"),
    }
}

#[test]
fn an_interrupt_ends_a_read_of_a_stopped_target() {
    let Some(fabric) = fabric("an_interrupt") else {
        return;
    };
    let target = Target::start("tcp;ofi_rxm");
    let options = options("tcp;ofi_rxm");
    let mut remote = FabricRemote::connect(&fabric, &target.address, &options).unwrap();
    read(&mut remote, &target, 0, 100);
    target.signal(Signal::STOP);
    let interrupt = Interrupt::default();
    let wait = Wait::new(LONG, &interrupt);
    let setter = std::thread::spawn(move || interrupt.set());
    let error = fails(&mut remote, &target, REGION_BYTES, &wait);
    setter.join().unwrap();
    let interrupted = matches!(
        error,
        FabricError::Wait {
            source: WaitError::Interrupted,
            ..
        }
    );
    assert!(interrupted, "{error}");
}

#[test]
fn remotes_that_come_and_go_leave_no_descriptor_behind() {
    let Some(fabric) = fabric("remotes_that_come_and_go") else {
        return;
    };
    let target = Target::start("tcp;ofi_rxm");
    let options = options("tcp;ofi_rxm");
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let once = || {
        let mut remote = FabricRemote::connect(&fabric, &target.address, &options).unwrap();
        read(&mut remote, &target, 0, 100);
    };
    once();
    let before = descriptors();
    for _ in 0..50 {
        once();
    }
    // Other tests of this process open and close theirs meanwhile.
    assert!(descriptors() < before + 50, "{before}");
}

#[test]
fn a_provider_that_is_not_there_is_named_with_those_that_are() {
    let Some(fabric) = fabric("a_provider_that_is_not_there") else {
        return;
    };
    let options = FabricOptions::with_provider("quantum");
    let error = panta_transports::rdma::FabricServer::open(&fabric, &options)
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(
        text.contains("`quantum`") && text.contains("tcp;ofi_rxm"),
        "{text}"
    );
    let providers = fabric.providers().unwrap();
    for name in PROVIDERS {
        let one = providers.iter().find(|one| one.provider == name).unwrap();
        assert!(one.software && one.usable, "{one:?}");
    }
}

#[test]
fn an_address_that_is_none_is_refused() {
    let Some(fabric) = fabric("an_address_that_is_none") else {
        return;
    };
    let target = Target::start("tcp;ofi_rxm");
    let options = options("tcp;ofi_rxm");
    for bytes in [vec![0xff; 3], vec![0xff; 200], vec![0; 16]] {
        let address = panta_transports::rdma::FabricAddress {
            bytes,
            ..target.address.clone()
        };
        // Some are no address; some are one at which nobody is.
        if let Ok(mut remote) = FabricRemote::connect(&fabric, &address, &options) {
            fails(&mut remote, &target, 100, &Wait::for_at_most(SHORT));
        }
    }
}
