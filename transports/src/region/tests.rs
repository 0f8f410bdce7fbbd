//! The arena: what it gives, what it takes back, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const MIB: usize = 1 << 20;

fn arena(limit_bytes: usize) -> Arena {
    Arena::new(ArenaOptions {
        limit_bytes: limit_bytes as u64,
        shared: true,
    })
}

#[test]
fn extents_of_the_same_sizes_make_no_region_after_the_first_steps() {
    let arena = arena(1 << 30);
    let sizes = [1000, 64 * MIB + 5, 70_000, 1, 5 * MIB];
    let step = || -> Vec<Extent> {
        let extents = sizes.iter().map(|size| arena.allocate(*size).unwrap());
        extents.collect()
    };
    let mut kept = std::collections::VecDeque::from([step(), step(), step()]);
    kept.pop_front();
    let held = arena.held_bytes();
    let regions = arena.regions().len();
    for _ in 0..1000 {
        kept.push_back(step());
        kept.pop_front();
    }
    assert_eq!((arena.held_bytes(), arena.regions().len()), (held, regions));
    drop(kept);
    assert_eq!(arena.used_bytes(), 0);
    assert_eq!(arena.held_bytes(), held);
}

#[test]
fn a_small_extent_shares_its_region_and_a_large_one_does_not() {
    let arena = arena(1 << 30);
    let small: Vec<Extent> = (0..1000).map(|_| arena.allocate(1000).unwrap()).collect();
    assert_eq!(arena.regions().len(), 1);
    let large = arena.allocate(64 * MIB).unwrap();
    assert_eq!(large.offset(), 0);
    assert_eq!(large.region_arc().bytes(), 64 * MIB as u64);
    let after = arena.allocate(1000).unwrap();
    assert_eq!(after.region(), small[0].region());
}

#[test]
fn the_limit_holds_and_its_error_names_limit_held_and_asked() {
    let arena = arena(128 * MIB);
    let first = arena.allocate(64 * MIB).unwrap();
    let second = arena.allocate(64 * MIB).unwrap();
    let error = arena.allocate(100).unwrap_err();
    let RegionError::Limit {
        limit_bytes,
        held_bytes,
        used_bytes,
        lingering_bytes,
        asked_bytes,
    } = error
    else {
        panic!("{error}");
    };
    let all = 128 * MIB as u64;
    assert_eq!((limit_bytes, held_bytes, used_bytes), (all, all, all));
    assert_eq!((asked_bytes, lingering_bytes), (100, 0));
    drop(first);
    // The free region is too large, but there is no other.
    arena.allocate(100).unwrap();
    drop(second);
    assert_eq!(arena.allocate(64 * MIB).unwrap().bytes(), 64 * MIB);
}

#[test]
fn free_regions_that_do_not_fit_are_given_back_before_the_limit_refuses() {
    let arena = arena(128 * MIB);
    let gone = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&gone);
    arena.on_region_gone(Box::new(move |id| seen.lock().unwrap().push(id)));
    drop([30, 30, 30].map(|size| arena.allocate(size * MIB).unwrap()));
    let large = arena.allocate(100 * MIB).unwrap();
    assert_eq!(large.bytes(), 100 * MIB);
    assert_eq!(gone.lock().unwrap().len(), 3);
    assert!(arena.allocate(100 * MIB).is_err());
    assert_eq!(gone.lock().unwrap().len(), 3, "in vain");
}

#[test]
fn a_retired_region_is_used_no_more_and_goes_with_its_last_extent() {
    for size in [1000, 8 * MIB] {
        let arena = arena(1 << 30);
        let first = arena.allocate(size).unwrap();
        let other = arena.allocate(size).unwrap();
        let retired = first.region();
        arena.retire(retired);
        assert!(arena.region(retired).is_some());
        assert_ne!(arena.allocate(size).unwrap().region(), retired);
        drop(other);
        assert_ne!(arena.allocate(size).unwrap().region(), retired);
        let held = arena.held_bytes();
        drop(first);
        assert!(arena.region(retired).is_none());
        assert!(arena.held_bytes() < held);
        arena.retire(retired);
    }
}

#[test]
fn a_new_region_is_told_before_its_extent_is_there() {
    let arena = arena(1 << 30);
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    arena.on_new_region(Box::new(move |region| {
        assert!(region.fd().is_some());
        seen.lock().unwrap().push(region.id());
    }));
    let extents = [1, 8 * MIB].map(|size| arena.allocate(size).unwrap());
    assert_eq!(
        *told.lock().unwrap(),
        extents.each_ref().map(Extent::region)
    );
}

#[test]
fn what_is_foreseen_is_made_by_another_thread_once_and_within_the_limit() {
    let arena = arena(100 * MIB);
    let makers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&makers);
    arena.on_new_region(Box::new(move |region| {
        let maker = std::thread::current().id();
        seen.lock().unwrap().push((region.id(), maker));
    }));
    let sizes = || [30 * MIB, 1000, 30 * MIB].into_iter();
    arena.foresee(sizes());
    // Nothing is made twice, whether the first are there by now or not.
    arena.foresee(sizes());
    let extents = [30, 30].map(|size| arena.allocate(size * MIB).unwrap());
    arena.foresee([80 * MIB].into_iter());
    assert!(arena.held_bytes() <= 100 * MIB as u64);
    let makers = makers.lock().unwrap();
    assert_eq!(makers.len(), 2, "{makers:?}");
    let own = std::thread::current().id();
    assert!(makers.iter().all(|(_, maker)| *maker != own));
    drop(extents);
}

#[test]
fn signals_do_not_interrupt_the_making_of_memory() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing; no other test uses this signal. Without
    // SA_RESTART, as a profiler or a job system may have it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        assert_eq!(
            libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()),
            0
        );
    }
    // SAFETY: always succeeds.
    let here = unsafe { libc::pthread_self() } as usize;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the thread waits for this one before it ends.
                unsafe { libc::pthread_kill(here as libc::pthread_t, libc::SIGUSR2) };
                std::thread::park_timeout(Duration::from_micros(500));
            }
        });
        let made: Vec<_> = (0..8).map(|_| arena(1 << 30).allocate(16 * MIB)).collect();
        done.store(true, Ordering::Relaxed);
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    });
}

#[test]
fn memory_is_zero_aligned_and_all_there_whatever_its_size() {
    for shared in [true, false] {
        for bytes in [1, 4095, 2 * MIB - 4096, 2 * MIB, 5 * MIB + 17, 70 * MIB] {
            let arena = Arena::new(ArenaOptions {
                limit_bytes: 1 << 30,
                shared,
            });
            let mut extent = arena.allocate(bytes).unwrap();
            let region = extent.region_arc().clone();
            let large = region.large_page_bytes();
            assert!(large <= region.bytes() && large.is_multiple_of(2 << 20));
            if shared && bytes >= 2 * MIB {
                assert!((region.as_ptr().as_ptr() as usize).is_multiple_of(2 * MIB));
            }
            if let Some(fd) = region.fd() {
                let status = rustix::fs::fstat(fd).unwrap();
                assert_eq!(status.st_size as u64, region.bytes());
                assert_eq!(status.st_blocks as u64 * 512, region.bytes());
            }
            let whole = extent.as_mut_slice();
            assert!(whole.iter().all(|byte| *byte == 0));
            whole.fill(3);
        }
    }
}

#[test]
fn what_making_takes_is_said_only_where_memory_has_to_be_made() {
    let arena = arena(1 << 30);
    let bytes = 8 * MIB as u64;
    // Nothing was made yet to judge by.
    assert_eq!(arena.making_takes(bytes), Some(Duration::ZERO));
    let first = arena.allocate(8 * MIB).unwrap();
    let takes = arena.making_takes(bytes).unwrap();
    assert!(takes > Duration::ZERO);
    assert_eq!(arena.making_takes(2 * bytes), Some(2 * takes));
    // Small ones share a region.
    assert_eq!(arena.making_takes(1000), None);
    drop(first);
    assert_eq!(arena.making_takes(bytes), None);
    let _first = arena.allocate(8 * MIB).unwrap();
    arena.foresee([8 * MIB].into_iter());
    assert_eq!(arena.making_takes(bytes), None);
}

#[test]
fn an_extent_outlives_its_arena() {
    for shared in [true, false] {
        let arena = Arena::new(ArenaOptions {
            limit_bytes: 1 << 30,
            shared,
        });
        let mut extent = arena.allocate(5000).unwrap();
        drop(arena);
        extent.as_mut_slice().fill(7);
        assert!(extent.as_slice().iter().all(|byte| *byte == 7));
    }
}

#[test]
fn nobody_can_take_pages_away_or_write_by_the_descriptor() {
    let arena = arena(1 << 30);
    let extent = arena.allocate(5000).unwrap();
    let fd = extent.region_arc().fd().unwrap();
    use rustix::io::Errno;
    for bytes in [0, 4096, 1 << 30] {
        assert_eq!(rustix::fs::ftruncate(fd, bytes), Err(Errno::PERM));
    }
    assert_eq!(rustix::io::pwrite(fd, b"x", 0), Err(Errno::PERM));
    let more = rustix::fs::SealFlags::WRITE;
    assert_eq!(rustix::fs::fcntl_add_seals(fd, more), Err(Errno::PERM));
    let mapped = Mapping::shared(fd, extent.region_arc().bytes() as usize);
    assert!(mapped.is_err(), "mapped for writing");
}

use mapping::Mapping;
