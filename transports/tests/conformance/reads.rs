//! Reads: the bytes that were written, and none beside them.

use panta_transports::coupling::{CouplingError, PieceRef, TransportName};
use panta_transports::time::Wait;

use crate::support::*;

pub(crate) fn reads_of_every_shape_are_what_was_written(transport: TransportName) {
    for (linked, encrypt) in [(true, false), (false, false), (true, true), (false, true)] {
        let side = Side::open(|options| options.encrypt = encrypt);
        let size = 3 << 20;
        let extent = side.extent(size, 5);
        let whole = pattern(size, 5);
        let peer = connect_with(&side, transport, |options| {
            options.linked = linked;
            options.encrypt = encrypt;
        });
        let size = size as u64;
        let strided: Vec<_> = (0..5000).map(|row| (row * 512 + 3, 100)).collect();
        let shapes: [&[(u64, u64)]; 8] = [
            &[],
            &[(0, 0)],
            &[(0, 1)],
            &[(size - 1, 1)],
            &[(12_345, 67_891)],
            &[(9, 0), (70_000, 3), (4, 0), (1, 1 << 20), (0, size), (5, 0)],
            &[(0, size)],
            &strided,
        ];
        for shape in shapes {
            let got = read(&peer, &extent, shape);
            for (got, &(offset, bytes)) in got.iter().zip(shape) {
                let (start, end) = (offset as usize, (offset + bytes) as usize);
                assert!(*got == whole[start..end], "{offset}, {bytes}");
            }
        }
    }
}

pub(crate) fn large_reads_are_what_was_written(transport: TransportName) {
    let side = Side::open(|_| {});
    let size = 64 << 20;
    let extent = side.extent(size, 9);
    let whole = pattern(size, 9);
    for connections in [1, 2] {
        let peer = connect_with(&side, transport, |options| {
            options.limits.connections = connections;
        });
        for _ in 0..2 {
            assert!(read(&peer, &extent, &[(0, size as u64)])[0] == whole);
        }
        // Not on any boundary that anything is cut at.
        let odd = read(&peer, &extent, &[(1, (40 << 20) + 1), (3, (20 << 20) - 7)]);
        assert!(odd[0] == whole[1..(40 << 20) + 2]);
        assert!(odd[1] == whole[3..(20 << 20) - 4]);
    }
    // Small limits: bit by bit, but all of it.
    let side = Side::open(|options| {
        options.limits.read_bytes = 1 << 20;
        options.limits.read_pieces = 8;
    });
    let extent = side.extent(20 << 20, 4);
    let peer = connect(&side, transport);
    assert!(read(&peer, &extent, &[(0, 20 << 20)])[0] == pattern(20 << 20, 4));
    let many: Vec<_> = (0..1000).map(|row| (row * 20_000, 1000)).collect();
    let got = read(&peer, &extent, &many);
    let whole = pattern(20 << 20, 4);
    for (got, &(offset, bytes)) in got.iter().zip(&many) {
        assert!(*got == whole[offset as usize..(offset + bytes) as usize]);
    }
}

pub(crate) fn regions_made_after_connecting_can_be_read(transport: TransportName) {
    let side = Side::open(|_| {});
    let peer = connect(&side, transport);
    for round in 0..20 {
        let extent = side.extent(5 << 20, round);
        assert!(read(&peer, &extent, &[(0, 5 << 20)])[0] == pattern(5 << 20, round));
        // Its region is never used again, and the next has a new one.
        side.arena.retire(extent.region());
    }
}

pub(crate) fn what_is_not_exposed_is_an_error_and_the_next_read_works(transport: TransportName) {
    let side = Side::open(|_| {});
    let extent = side.extent(5 << 20, 1);
    let gone = side.extent(6 << 20, 2);
    let peer = connect(&side, transport);
    let region_bytes = extent.region_arc().bytes();
    let gone_piece = piece_of(&gone, 0, 10);
    side.arena.retire(gone.region());
    // Retired, but its extent lives: the claim on it is still good.
    assert!(read(&peer, &gone, &[(0, 100)])[0] == pattern(100, 2));
    drop(gone);
    let good = piece_of(&extent, 7, 100);
    let bad = |region, offset, bytes| PieceRef {
        region,
        offset,
        bytes,
    };
    let region = extent.region();
    let unknown = bad(77_777, 0, 1);
    if transport == TransportName::Shm {
        // It may yet be passed, for all that is known here.
        let short = Wait::for_at_most(std::time::Duration::from_millis(10));
        let mut memory = memory_for(&[unknown]);
        let error = peer.read(&mut to_fill(&[unknown], &mut memory), &short);
        assert!(matches!(error, Err(CouplingError::NotReady { .. })));
    }
    for piece in [
        if transport == TransportName::Shm {
            gone_piece
        } else {
            unknown
        },
        gone_piece,
        bad(region, region_bytes, 1),
        bad(region, region_bytes - 1, 2),
        bad(region, u64::MAX, 1),
        bad(region, u64::MAX - 1, 4096),
    ] {
        for pieces in [vec![piece], vec![good, piece], vec![piece, good, good]] {
            let mut memory = memory_for(&pieces);
            let error = peer.read(&mut to_fill(&pieces, &mut memory), &wait());
            let error = error.expect_err("it is not there");
            assert!(
                matches!(error, CouplingError::NotExposed { region, .. } if region == piece.region),
                "{error}"
            );
            assert!(read(&peer, &extent, &[(7, 100)])[0] == pattern(5 << 20, 1)[7..107]);
        }
    }
}

pub(crate) fn a_reading_that_is_dropped_or_late_leaves_the_next_unharmed(transport: TransportName) {
    for encrypt in [false, true] {
        let side = Side::open(|options| options.encrypt = encrypt);
        let size = 24 << 20;
        let extent = side.extent(size, 6);
        let whole = pattern(size, 6);
        let peer = connect_with(&side, transport, |options| options.encrypt = encrypt);
        let all = [piece_of(&extent, 0, size as u64)];
        for _ in 0..3 {
            drop(peer.start_read(&all, &wait()).unwrap());
            assert!(read(&peer, &extent, &[(11, 1000)])[0] == whole[11..1011]);
            let reading = peer.start_read(&all, &wait()).unwrap();
            let mut memory = memory_for(&all);
            let none = Wait::for_at_most(std::time::Duration::ZERO);
            let late = peer.finish_read(reading, &mut to_fill(&all, &mut memory), &none);
            if let Err(error) = late {
                assert!(matches!(error, CouplingError::NotReady { .. }), "{error}");
            }
            memory[0].fill(std::mem::MaybeUninit::new(0xab));
            assert!(read(&peer, &extent, &[(0, size as u64)])[0] == whole);
            let untouched = bytes_of(&memory[0]);
            assert!(untouched.iter().all(|&byte| byte == 0xab));
        }
    }
}

pub(crate) fn several_peers_are_read_from_at_once(transport: TransportName) {
    let sides: Vec<_> = (0..4).map(|_| Side::open(|_| {})).collect();
    let size = 4 << 20;
    let extents: Vec<_> = sides
        .iter()
        .zip(0..)
        .map(|(side, seed)| side.extent(size, seed))
        .collect();
    let peers: Vec<_> = sides.iter().map(|side| connect(side, transport)).collect();
    let readings: Vec<_> = peers
        .iter()
        .zip(&extents)
        .map(|(peer, extent)| {
            let pieces = [piece_of(extent, 0, size as u64)];
            peer.start_read(&pieces, &wait()).unwrap()
        })
        .collect();
    for (seed, ((peer, extent), reading)) in peers.iter().zip(&extents).zip(readings).enumerate() {
        let pieces = [piece_of(extent, 0, size as u64)];
        let mut memory = memory_for(&pieces);
        let mut to_fill = to_fill(&pieces, &mut memory);
        peer.finish_read(reading, &mut to_fill, &wait()).unwrap();
        assert!(bytes_of(&memory[0]) == pattern(size, seed as u64));
    }
}

pub(crate) fn other_pieces_than_were_asked_for_are_refused(transport: TransportName) {
    let side = Side::open(|_| {});
    let extent = side.extent(1000, 3);
    let peer = connect(&side, transport);
    let asked = [piece_of(&extent, 0, 500)];
    for other in [
        vec![],
        vec![piece_of(&extent, 1, 500)],
        vec![piece_of(&extent, 0, 501)],
    ] {
        let reading = peer.start_read(&asked, &wait()).unwrap();
        let mut memory = memory_for(&other);
        let refused = peer.finish_read(reading, &mut to_fill(&other, &mut memory), &wait());
        assert!(matches!(refused, Err(CouplingError::OtherPieces)));
        assert!(read(&peer, &extent, &[(0, 500)])[0] == pattern(1000, 3)[..500]);
    }
}

pub(crate) fn a_read_costs_one_round_trip_and_its_copies(transport: TransportName) {
    let side = Side::open(|_| {});
    let size = 8 << 20;
    let extent = side.extent(size, 3);
    let peer = connect(&side, transport);
    let before = (peer.counters(), side.endpoint.counters());
    let pieces: Vec<_> = (0..64).map(|row| (row << 17, 1 << 16)).collect();
    read(&peer, &extent, &pieces);
    let after = (peer.counters(), side.endpoint.counters());
    let bytes = 64 << 16;
    assert_eq!(after.0.reads - before.0.reads, 1);
    assert_eq!(after.0.read_bytes - before.0.read_bytes, bytes);
    let trips = after.0.round_trips - before.0.round_trips;
    let copied = after.0.copied_bytes - before.0.copied_bytes;
    assert_eq!(
        after.1.copied_bytes, before.1.copied_bytes,
        "at the endpoint"
    );
    match transport {
        TransportName::Shm => {
            assert_eq!((trips, copied), (0, bytes));
            assert_eq!(after.1.reads, before.1.reads);
        }
        TransportName::Tcp => {
            assert_eq!((trips, copied), (1, 0));
            assert_eq!(after.1.reads - before.1.reads, 1);
            assert_eq!(after.1.read_bytes - before.1.read_bytes, bytes);
        }
        TransportName::Rdma => assert!(trips <= 1 && copied <= bytes),
    }
}
