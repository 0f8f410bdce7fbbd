//! The copy module against an oracle that moves one element at a time by
//! checked indexing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Some memory and a strided view of it, by numbers.
#[derive(Clone, Debug)]
struct Case {
    element_bytes: usize,
    count: Vec<u64>,
    strides: Vec<i64>,
    /// Where in the memory the first element begins.
    first: usize,
    memory_bytes: usize,
}

impl Case {
    /// Lays dimensions out in memory, the first of `order` fastest, `gap`
    /// elements or bytes apart, turned round where `flip` says so.
    fn new(
        element_bytes: usize,
        count: &[u64],
        order: &[usize],
        gap: &[u8],
        flip: &[bool],
    ) -> Self {
        let mut strides = vec![0_i64; count.len()];
        let mut reach = element_bytes as i64;
        let mut first = 0_i64;
        for &dim in order {
            let wide = match gap[dim] % 4 {
                0 | 1 => reach,
                2 => reach + i64::from(gap[dim]) / 4,
                _ => reach * 2,
            };
            let steps = count[dim].max(1) as i64 - 1;
            strides[dim] = if flip[dim] { -wide } else { wide };
            if flip[dim] {
                first += wide * steps;
            }
            // The whole width, so that merged dimensions come about.
            reach = wide * (steps + 1);
        }
        Self {
            element_bytes,
            count: count.to_vec(),
            strides,
            first: first as usize,
            memory_bytes: reach as usize,
        }
    }

    fn offsets(&self) -> Vec<usize> {
        indices(&self.count)
            .iter()
            .map(|index| {
                let steps = index.iter().zip(&self.strides);
                let offset: i64 = steps.map(|(&i, &stride)| i as i64 * stride).sum();
                (self.first as i64 + offset) as usize
            })
            .collect()
    }

    fn view<'a>(&self, memory: &'a [u8]) -> StridedRef<'a> {
        assert_eq!(memory.len(), self.memory_bytes);
        let first = memory.as_ptr().wrapping_add(self.first);
        // SAFETY: `new` computed how much memory the view reaches over.
        unsafe { StridedRef::from_raw_parts(first, self.element_bytes, &self.count, &self.strides) }
            .unwrap()
    }

    fn view_mut<'a>(&self, memory: &'a mut [u8]) -> StridedMut<'a> {
        assert_eq!(memory.len(), self.memory_bytes);
        let first = memory.as_mut_ptr().wrapping_add(self.first);
        // SAFETY: as in `view`.
        unsafe { StridedMut::from_raw_parts(first, self.element_bytes, &self.count, &self.strides) }
            .unwrap()
    }

    fn gather(&self, memory: &[u8]) -> Vec<u8> {
        let elements = self.offsets();
        let elements = elements
            .iter()
            .map(|&at| &memory[at..at + self.element_bytes]);
        elements.flatten().copied().collect()
    }

    fn scatter(&self, memory: &mut [u8], bytes: &[u8]) {
        for (&at, element) in self.offsets().iter().zip(bytes.chunks(self.element_bytes)) {
            memory[at..at + self.element_bytes].copy_from_slice(element);
        }
    }
}

/// All indices of a box, row-major.
fn indices(count: &[u64]) -> Vec<Vec<u64>> {
    let mut all = vec![vec![]];
    for &count in count {
        all = all
            .iter()
            .flat_map(|index| {
                (0..count).map(move |i| {
                    let mut index = index.clone();
                    index.push(i);
                    index
                })
            })
            .collect();
    }
    all
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn element_bytes() -> impl Strategy<Value = usize> {
    select(vec![1, 2, 3, 4, 5, 8, 12, 16, 24, 32, 64, 100])
}

/// Counts of up to five dimensions; of one or two, longer than a few tiles.
fn counts() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        4 => prop::collection::vec(0_u64..6, 0..=5),
        4 => prop::collection::vec(1_u64..7, 0..=5),
        1 => prop::collection::vec(1_u64..20_000, 1),
        1 => (1_u64..8, 1_u64..3000).prop_map(|(rows, columns)| vec![rows, columns]),
        1 => (1_u64..3000, 1_u64..8).prop_map(|(rows, columns)| vec![rows, columns]),
    ]
}

fn case_of(element_bytes: usize, count: Vec<u64>) -> impl Strategy<Value = Case> {
    let dims = count.len();
    let order = prop_oneof![
        Just((0..dims).rev().collect::<Vec<_>>()),
        Just((0..dims).collect::<Vec<_>>()).prop_shuffle(),
    ];
    let gap = prop_oneof![
        Just(vec![0_u8; dims]),
        prop::collection::vec(any::<u8>(), dims),
    ];
    let flip = prop_oneof![
        Just(vec![false; dims]),
        prop::collection::vec(any::<bool>(), dims),
    ];
    (order, gap, flip)
        .prop_map(move |(order, gap, flip)| Case::new(element_bytes, &count, &order, &gap, &flip))
}

fn one_case() -> impl Strategy<Value = Case> {
    (element_bytes(), counts()).prop_flat_map(|(bytes, count)| case_of(bytes, count))
}

fn two_cases() -> impl Strategy<Value = (Case, Case)> {
    (element_bytes(), counts())
        .prop_flat_map(|(bytes, count)| (case_of(bytes, count.clone()), case_of(bytes, count)))
}

/// A block's counts, and a box of it: start, count, step, and where to put it.
#[derive(Clone, Debug)]
struct BoxCase {
    block: Vec<u64>,
    start: Vec<u64>,
    step: Vec<u64>,
    dst: Case,
}

impl BoxCase {
    /// Offsets in the block of the box's elements, row-major.
    fn offsets(&self) -> Vec<usize> {
        let elements = indices(&self.dst.count);
        let linear = elements.iter().map(|index| {
            let mut linear = 0;
            for (dim, &i) in index.iter().enumerate() {
                linear = linear * self.block[dim] + self.start[dim] + i * self.step[dim];
            }
            linear as usize * self.dst.element_bytes
        });
        linear.collect()
    }

    fn touched(&self) -> BTreeSet<u64> {
        let last = self.dst.element_bytes - 1;
        let tiles = self.offsets().into_iter();
        tiles
            .flat_map(|at| at / TILE_BYTES..=(at + last) / TILE_BYTES)
            .map(|tile| tile as u64)
            .collect()
    }
}

fn box_case() -> impl Strategy<Value = BoxCase> {
    (element_bytes(), counts())
        .prop_flat_map(|(bytes, block)| {
            let dims = block.len();
            let picks = prop::collection::vec((any::<u64>(), any::<u64>(), 1_u64..5), dims);
            (Just(bytes), Just(block), picks)
        })
        .prop_flat_map(|(bytes, block, picks)| {
            let (mut start, mut count, mut step) = (vec![], vec![], vec![]);
            for (&extent, (a, b, c)) in block.iter().zip(picks) {
                // Whole dimensions too, else few boxes would merge.
                let whole = a % 3 == 0;
                start.push(if whole { 0 } else { a % (extent + 1) });
                step.push(if whole { 1 } else { c });
                let most = (extent - start[start.len() - 1]).div_ceil(step[step.len() - 1]);
                count.push(if whole || most == 0 {
                    most
                } else {
                    1 + b % most
                });
            }
            let dst = case_of(bytes, count);
            (Just(block), Just(start), Just(step), dst)
        })
        .prop_map(|(block, start, step, dst)| BoxCase {
            block,
            start,
            step,
            dst,
        })
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 600 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn copy_moves_each_element_and_touches_nothing_else((src, dst) in two_cases(), seed: u64) {
        let from = noise(src.memory_bytes, seed);
        let mut to = noise(dst.memory_bytes, !seed);
        let mut expected = to.clone();
        dst.scatter(&mut expected, &src.gather(&from));
        let counter = CopyCounter::new();
        copy(&mut dst.view_mut(&mut to), &src.view(&from), &counter).unwrap();
        prop_assert!(to == expected);
        let bytes = src.view(&from).bytes();
        prop_assert_eq!(counter.bytes(), bytes);
        prop_assert_eq!(counter.calls(), u64::from(bytes > 0));
    }

    #[test]
    fn gathering_makes_the_block_and_the_checksum_of_each_tile(src in one_case(), seed: u64) {
        let from = noise(src.memory_bytes, seed);
        let expected = src.gather(&from);
        let mut block = vec![0; expected.len()];
        let (mut crcs, mut visited) = (vec![7], Vec::new());
        let counter = CopyCounter::new();
        let mut visit = |tile: &[u8]| visited.push(tile.to_vec());
        gather_tiles(&mut block, &src.view(&from), &mut crcs, &mut visit, &counter).unwrap();
        prop_assert!(block == expected);
        let tiles: Vec<_> = expected.chunks(TILE_BYTES).map(<[u8]>::to_vec).collect();
        prop_assert!(visited == tiles);
        let expected_crcs: Vec<_> = tiles.iter().map(|tile| crc32c::crc32c(tile)).collect();
        prop_assert_eq!(&crcs[1..], &expected_crcs[..]);
        prop_assert_eq!(counter.bytes(), expected.len() as u64);

        let (mut again, mut bytes_seen) = (Vec::new(), 0);
        checksum_tiles(&block, &mut again, &mut |tile| bytes_seen += tile.len());
        prop_assert_eq!(&again, &expected_crcs);
        prop_assert_eq!(bytes_seen, block.len());
        prop_assert_eq!(verify_tiles(&block, &again), Ok(()));
    }

    #[test]
    fn a_box_comes_out_whole_and_only_its_own_tiles_are_checked(
        case in box_case(), seed: u64, flip: prop::sample::Index,
    ) {
        let element_bytes = case.dst.element_bytes;
        let elements: u64 = case.block.iter().product();
        let mut bytes = noise(elements as usize * element_bytes, seed);
        let mut crcs = Vec::new();
        checksum_tiles(&bytes, &mut crcs, &mut |_| {});
        let box_bytes: Vec<u8> = case
            .offsets()
            .iter()
            .flat_map(|&at| bytes[at..at + element_bytes].to_vec())
            .collect();
        let mut to = noise(case.dst.memory_bytes, !seed);
        let mut expected = to.clone();
        case.dst.scatter(&mut expected, &box_bytes);
        let counter = CopyCounter::new();
        let get = |bytes: &[u8], to: &mut [u8], verify| {
            let block = StoredBlock::new(bytes, element_bytes, &case.block, &crcs).unwrap();
            let mut dst = case.dst.view_mut(to);
            copy_box_verified(&mut dst, &block, &case.start, &case.step, verify, &counter)
        };
        let fresh = to.clone();
        prop_assert_eq!(get(&bytes, &mut to, true), Ok(()));
        prop_assert!(to == expected);
        to.copy_from_slice(&fresh);
        prop_assert_eq!(get(&bytes, &mut to, false), Ok(()));
        prop_assert!(to == expected);
        prop_assert_eq!(counter.bytes(), 2 * box_bytes.len() as u64);

        if !bytes.is_empty() {
            let at = flip.index(bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            let tile = (at / 8 / TILE_BYTES) as u64;
            match get(&bytes, &mut to, true) {
                Ok(()) => prop_assert!(!case.touched().contains(&tile)),
                Err(CopyError::Tile(mismatch)) => {
                    prop_assert_eq!(mismatch.tile_index, tile);
                    prop_assert!(case.touched().contains(&tile));
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }

    #[test]
    fn the_tiles_of_a_box_are_those_its_elements_lie_in(case in box_case()) {
        let count = &case.dst.count;
        let ranges =
            tiles_of_box(&case.block, case.dst.element_bytes, &case.start, count, &case.step);
        let ranges: Vec<_> = ranges.unwrap().collect();
        for pair in ranges.windows(2) {
            prop_assert!(pair[0].end < pair[1].start, "{ranges:?}");
        }
        let found: BTreeSet<u64> = ranges.into_iter().flatten().collect();
        prop_assert_eq!(found, case.touched());
    }

    #[test]
    fn boxes_of_views_are_inside_or_refused(
        src in one_case(), seed: u64, picks in prop::collection::vec((0_u64..8, 0_u64..8, 0_u64..4), 5),
    ) {
        let dims = src.count.len();
        let pick = |which: fn(&(u64, u64, u64)) -> u64| {
            picks[..dims].iter().map(which).collect::<Vec<_>>()
        };
        let (start, count, step) = (pick(|p| p.0), pick(|p| p.1), pick(|p| p.2));
        let inside = (0..dims).all(|dim| {
            let last = start[dim] + count[dim].saturating_sub(1) * step[dim];
            step[dim] > 0
                && (if count[dim] > 0 { last < src.count[dim] } else { start[dim] <= src.count[dim] })
        });
        let mut memory = noise(src.memory_bytes, seed);
        let whole = src.gather(&memory);
        let sub = src.view(&memory).sub_strided(&start, &count, &step);
        prop_assert_eq!(sub.is_ok(), inside);
        prop_assert_eq!(
            src.view_mut(&mut memory).sub_strided(&start, &count, &step).is_ok(),
            inside
        );
        let Ok(sub) = src.view(&memory).sub_strided(&start, &count, &step) else {
            return Ok(());
        };
        let expected: Vec<u8> = indices(&count)
            .iter()
            .flat_map(|index| {
                let mut linear = 0;
                for (dim, &i) in index.iter().enumerate() {
                    linear = linear * src.count[dim] + start[dim] + i * step[dim];
                }
                let at = linear as usize * src.element_bytes;
                whole[at..at + src.element_bytes].to_vec()
            })
            .collect();
        let mut found = vec![0; expected.len()];
        let mut dst = StridedMut::contiguous(&mut found, src.element_bytes, &count).unwrap();
        copy(&mut dst, &sub, &CopyCounter::new()).unwrap();
        prop_assert!(found == expected);
    }
}

#[test]
fn a_broadcast_source_fills_the_destination() {
    let value = [1, 2, 3, 4];
    // SAFETY: strides of zero stay at the one element.
    let src = unsafe { StridedRef::from_raw_parts(value.as_ptr(), 4, &[3, 5], &[0, 0]) }.unwrap();
    let mut bytes = [0; 60];
    let mut dst = StridedMut::contiguous(&mut bytes, 4, &[3, 5]).unwrap();
    copy(&mut dst, &src, &CopyCounter::new()).unwrap();
    assert!(bytes.chunks(4).all(|element| element == value));
}

#[test]
fn a_destination_whose_elements_may_overlap_is_refused() {
    let mut bytes = [0_u8; 64];
    let mut make = |count: &[u64], strides: &[i64]| {
        // SAFETY: all elements below lie within the 64 bytes.
        unsafe { StridedMut::from_raw_parts(bytes.as_mut_ptr().add(24), 4, count, strides) }.is_ok()
    };
    assert!(!make(&[2], &[0]));
    assert!(!make(&[2], &[3]));
    assert!(!make(&[2], &[-3]));
    assert!(!make(&[3, 2], &[4, 8]));
    assert!(make(&[2, 2], &[4, 8]));
    assert!(make(&[1, 3], &[0, -8]));
    assert!(make(&[0, 3], &[0, 0]));
}

#[test]
fn impossible_views_are_errors_not_overflows() {
    let byte = [0_u8];
    let refuse = |element_bytes, count: &[u64], strides: &[i64]| {
        // SAFETY: none of these views comes to be.
        unsafe { StridedRef::from_raw_parts(byte.as_ptr(), element_bytes, count, strides) }
            .expect_err("an error")
    };
    assert!(matches!(refuse(0, &[], &[]), LayoutError::EmptyElement));
    assert!(matches!(
        refuse(1, &[1; 17], &[1; 17]),
        LayoutError::TooManyDims { dims: 17 }
    ));
    assert!(matches!(
        refuse(1, &[1], &[]),
        LayoutError::DimsDiffer { .. }
    ));
    assert!(matches!(
        refuse(1, &[u64::MAX], &[0]),
        LayoutError::TooLarge { .. }
    ));
    assert!(matches!(
        refuse(8, &[1 << 60, 2], &[0, 0]),
        LayoutError::TooLarge { .. }
    ));
    assert!(matches!(
        refuse(1, &[2, 2], &[i64::MAX, 1]),
        LayoutError::TooLarge { .. }
    ));
    assert!(matches!(
        refuse(1, &[2], &[i64::MIN]),
        LayoutError::TooLarge { .. }
    ));
    assert!(StridedRef::contiguous(&byte, 1, &[2]).is_err());
    assert!(StridedRef::contiguous(&[], 1, &[0, u64::MAX, u64::MAX]).is_ok());
}

#[test]
fn bounds_of_a_box_do_not_overflow() {
    let bytes = [0_u8; 8];
    let view = StridedRef::contiguous(&bytes, 1, &[8]).unwrap();
    for (start, count, step) in [
        (u64::MAX, 1, 1),
        (1, u64::MAX, 1),
        (0, 2, u64::MAX),
        (0, u64::MAX, u64::MAX),
        (9, 0, 1),
        (0, 1, 0),
        (7, 2, 1),
    ] {
        let refused = view.sub_strided(&[start], &[count], &[step]);
        assert!(matches!(
            refused,
            Err(LayoutError::OutOfBounds { dim: 0, .. })
        ));
    }
    assert!(view.sub_box(&[0, 0], &[1, 1]).is_err());
    assert!(tiles_of_box(&[8], 1, &[8], &[1], &[1]).is_err());
}

#[test]
fn copies_convert_and_broadcast_nothing() {
    let (bytes, mut into) = ([0_u8; 16], [0_u8; 16]);
    let counter = CopyCounter::new();
    let src = StridedRef::contiguous(&bytes, 4, &[4]).unwrap();
    let mut dst = StridedMut::contiguous(&mut into, 8, &[2]).unwrap();
    assert!(matches!(
        copy(&mut dst, &src, &counter),
        Err(CopyError::ElementsDiffer { .. })
    ));
    let mut dst = StridedMut::contiguous(&mut into, 4, &[2, 2]).unwrap();
    assert!(matches!(
        copy(&mut dst, &src, &counter),
        Err(CopyError::CountsDiffer { .. })
    ));
    let short = gather_tiles(
        &mut into[1..],
        &src,
        &mut Vec::new(),
        &mut |_: &[u8]| {},
        &counter,
    );
    assert!(matches!(
        short,
        Err(CopyError::Layout(LayoutError::LengthDiffers { .. }))
    ));
    assert_eq!((counter.bytes(), counter.calls()), (0, 0));
}

#[test]
fn a_block_needs_exactly_its_checksums() {
    let bytes = vec![0; TILE_BYTES + 1];
    let count = [bytes.len() as u64];
    assert!(StoredBlock::new(&bytes, 1, &count, &[0, 0]).is_ok());
    for wrong in [&[][..], &[0], &[0, 0, 0]] {
        assert!(matches!(
            StoredBlock::new(&bytes, 1, &count, wrong),
            Err(LayoutError::ChecksumCount { expected: 2, .. })
        ));
    }
    assert!(StoredBlock::new(&bytes, 2, &count, &[0, 0]).is_err());
}

#[test]
fn a_changed_tile_is_named_and_its_bytes_are_not_handed_out() {
    let mut bytes = noise(3 * TILE_BYTES, 5);
    let mut crcs = Vec::new();
    checksum_tiles(&bytes, &mut crcs, &mut |_| {});
    bytes[TILE_BYTES + 9] ^= 0x10;
    let mismatch = verify_tiles(&bytes, &crcs).unwrap_err();
    assert_eq!((mismatch.tile_index, mismatch.expected), (1, crcs[1]));
    let block = StoredBlock::new(&bytes, 1, &[bytes.len() as u64], &crcs).unwrap();
    let mut into = vec![0; bytes.len()];
    let mut dst = StridedMut::contiguous(&mut into, 1, &[bytes.len() as u64]).unwrap();
    let counter = CopyCounter::new();
    let result = copy_box_verified(&mut dst, &block, &[0], &[1], true, &counter);
    assert_eq!(result, Err(CopyError::Tile(mismatch)));
    assert!(into[TILE_BYTES..].iter().all(|&byte| byte == 0));
}

#[test]
fn the_checksum_is_crc32c_whatever_computes_it() {
    // The check value of CRC-32C's catalogue entry; RFC 3720 has the zeros.
    assert_eq!(checksum(b"123456789"), 0xe306_9283);
    assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
}

#[test]
fn a_far_flung_box_lists_its_tiles_in_constant_memory() {
    let ranges = tiles_of_box(&[1 << 40, 4096], 1, &[0, 7], &[1 << 39, 1], &[2, 1]).unwrap();
    let first: Vec<_> = ranges.take(3).collect();
    assert_eq!(first, [0..1, 2..3, 4..5]);
}

#[test]
fn views_can_be_sent_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<StridedRef<'_>>();
    is_send::<StridedMut<'_>>();
}

#[test]
fn a_box_gathered_in_pieces_is_the_box_gathered_at_once() {
    let bytes: Vec<u8> = (0..100 * 300).map(|at| (at % 251) as u8).collect();
    let whole = StridedRef::contiguous(&bytes, 4, &[100, 75]).unwrap();
    let source = whole.sub_strided(&[1, 2], &[98, 70], &[1, 1]).unwrap();
    let (counter, mut seen) = (CopyCounter::new(), 0);
    let mut at_once = vec![0; source.bytes() as usize];
    let mut crcs = Vec::new();
    gather_tiles(
        &mut at_once,
        &source,
        &mut crcs,
        &mut |_: &[u8]| {},
        &counter,
    )
    .unwrap();
    let mut gather = TileGather::new(&source).unwrap();
    let (mut pieces, mut piece_crcs) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 2 * TILE_BYTES + 100];
    while gather.left() > 0 {
        let count = |tile: &[u8]| seen += tile.len();
        let filled = gather.fill(&mut buffer, &mut piece_crcs, &mut { count }, &counter);
        pieces.extend_from_slice(&buffer[..filled]);
    }
    assert_eq!((pieces, piece_crcs), (at_once, crcs));
    assert_eq!(seen as u64, source.bytes());
    assert_eq!(counter.bytes(), 2 * source.bytes());
}

#[test]
fn only_contiguous_destinations_lend_their_bytes() {
    let mut bytes = [0_u8; 24];
    let mut view = StridedMut::contiguous(&mut bytes, 4, &[2, 3]).unwrap();
    assert_eq!(view.as_uninit_slice().unwrap().len(), 24);
    assert_eq!(
        view.sub_box(&[1, 0], &[1, 3])
            .unwrap()
            .as_uninit_slice()
            .unwrap()
            .len(),
        12
    );
    assert!(
        view.sub_box(&[0, 1], &[2, 2])
            .unwrap()
            .as_uninit_slice()
            .is_none()
    );
    assert_eq!(
        view.sub_box(&[0, 0], &[0, 3])
            .unwrap()
            .as_uninit_slice()
            .unwrap()
            .len(),
        0
    );
}
