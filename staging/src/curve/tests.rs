#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::cast_possible_truncation)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Skilling's published transform (`AxestoTranspose`), as he wrote it, and the
/// gathering of its bits: what the state machine must agree with.
fn skilling(cell: &[u64], bits: u32) -> u128 {
    let mut x = cell.to_vec();
    let dims = x.len();
    let top = 1_u64 << bits.max(1) >> 1;
    let mut q = top;
    while q > 1 {
        let low = q - 1;
        for axis in 0..dims {
            if x[axis] & q != 0 {
                x[0] ^= low;
            } else {
                let exchanged = (x[0] ^ x[axis]) & low;
                x[0] ^= exchanged;
                x[axis] ^= exchanged;
            }
        }
        q >>= 1;
    }
    for axis in 1..dims {
        x[axis] ^= x[axis - 1];
    }
    let mut excess = 0;
    q = top;
    while q > 1 {
        if x[dims - 1] & q != 0 {
            excess ^= q - 1;
        }
        q >>= 1;
    }
    let mut key = 0;
    for level in (0..bits).rev() {
        for place in &x {
            key = key << 1 | u128::from((place ^ excess) >> level & 1);
        }
    }
    key
}

fn curve(bits: &[u8]) -> Curve {
    Curve::new(bits).unwrap()
}

/// Every cell of a grid.
fn cells(bits: &[u8]) -> Vec<Vec<u64>> {
    bits.iter().fold(vec![vec![]], |cells, &bits| {
        let longer = |cell: &Vec<u64>, place| cell.iter().copied().chain([place]).collect();
        let extend = |cell| (0..1 << bits).map(move |place| longer(&cell, place));
        cells.into_iter().flat_map(extend).collect()
    })
}

/// Repeatable numbers for means over random positions.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = xxhash_rust::xxh3::xxh3_64(&self.0.to_le_bytes());
        ((u128::from(mixed) * u128::from(limit)) >> 64) as u64
    }
}

#[test]
fn published_vectors_hold() {
    assert_eq!(skilling(&[5, 10, 20], 5), 7865);
    assert_eq!(curve(&[5, 5, 5]).index(&[5, 10, 20]), 7865);
    let square = curve(&[2, 2]);
    let order: Vec<u128> = cells(&[2, 2])
        .iter()
        .map(|cell| square.index(cell))
        .collect();
    assert_eq!(
        order,
        [0, 3, 4, 5, 1, 2, 7, 6, 14, 13, 8, 9, 15, 12, 11, 10]
    );
    let cube = curve(&[1, 1, 1]);
    let order: Vec<u128> = cells(&[1, 1, 1])
        .iter()
        .map(|cell| cube.index(cell))
        .collect();
    assert_eq!(order, [0, 1, 3, 2, 7, 6, 4, 5]);
}

/// Vectors of our own making, frozen: data on servers lie where these say.
#[test]
fn frozen_vectors_hold() {
    let vectors: [(&[u8], &[u64], u128); 8] = [
        (&[4], &[11], 11),
        (&[3, 1], &[5, 1], 8),
        (&[1, 3], &[1, 5], 10),
        (&[2, 0, 3], &[3, 0, 6], 27),
        (&[5, 3, 4], &[21, 6, 9], 2572),
        (&[2, 2, 2, 2], &[1, 2, 3, 0], 66),
        (&[3, 2, 1, 0, 2], &[6, 1, 1, 0, 2], 138),
        (
            &[16; 8],
            &[1, 2, 3, 5, 8, 13, 21, 65_535],
            0x0101_0101_0101_0101_0101_011e_c10e_bd26,
        ),
    ];
    for (bits, cell, key) in vectors {
        assert_eq!(curve(bits).index(cell), key, "bits {bits:?}, cell {cell:?}");
    }
}

#[test]
fn on_cubes_it_is_skillings_curve() {
    for (dims, bits) in [
        (1, 9),
        (2, 6),
        (3, 4),
        (4, 3),
        (5, 2),
        (6, 2),
        (7, 1),
        (8, 1),
    ] {
        let sides = vec![bits; dims];
        let curve = curve(&sides);
        for cell in cells(&sides) {
            let expected = skilling(&cell, u32::from(bits));
            assert_eq!(
                curve.index(&cell),
                expected,
                "bits {sides:?}, cell {cell:?}"
            );
        }
    }
}

#[test]
fn in_two_dimensions_it_is_hilbert_2ds_curve() {
    for order in 1..=7_u8 {
        let curve = curve(&[order, order]);
        for cell in cells(&[order, order]) {
            // Its x is our dimension 0, its y our dimension 1, at every order.
            let (x, y) = (cell[0] as usize, cell[1] as usize);
            let variant = hilbert_2d::Variant::Hilbert;
            let theirs = hilbert_2d::usize::xy2h_discrete(x, y, usize::from(order), variant);
            assert_eq!(
                curve.index(&cell),
                theirs as u128,
                "order {order}, cell {cell:?}"
            );
        }
    }
}

/// Small grids, seen whole: a bijection onto `0 .. 2^Σbits` in the order of the
/// padded cube.
#[test]
fn keys_are_ranks_on_the_padded_cube() {
    let sides: [&[u8]; 17] = [
        &[0],
        &[7],
        &[0, 0],
        &[5, 0],
        &[0, 5],
        &[2, 5],
        &[5, 2],
        &[1, 3, 2],
        &[3, 0, 4],
        &[0, 0, 3],
        &[4, 1, 0, 3],
        &[1, 2, 3, 4],
        &[2, 0, 3, 1, 2],
        &[0, 1, 0, 2, 4, 1],
        &[1, 2, 0, 1, 3, 1, 2],
        &[0, 1, 2, 0, 3, 1, 1, 2],
        &[2, 1, 1, 1, 1, 1, 1, 2],
    ];
    for bits in sides {
        let curve = curve(bits);
        let longest = bits.iter().copied().max().unwrap();
        let on_cube: BTreeMap<u128, Vec<u64>> = cells(bits)
            .into_iter()
            .map(|cell| (skilling(&cell, u32::from(longest)), cell))
            .collect();
        assert_eq!(on_cube.len() as u128, curve.last_key() + 1);
        for (rank, cell) in on_cube.values().enumerate() {
            assert_eq!(
                curve.index(cell),
                rank as u128,
                "bits {bits:?}, cell {cell:?}"
            );
            let mut back = vec![u64::MAX; bits.len()];
            curve.cell(rank as u128, &mut back);
            assert_eq!(back, *cell, "bits {bits:?}, key {rank}");
        }
    }
}

#[test]
fn neighbouring_keys_are_neighbouring_cells_on_cubes() {
    for (dims, bits) in [(2, 6), (3, 4), (4, 3), (5, 2), (6, 2), (7, 1), (8, 1)] {
        let curve = curve(&vec![bits; dims]);
        let (mut here, mut next) = (vec![0; dims], vec![0; dims]);
        for key in 0..curve.last_key() {
            curve.cell(key, &mut here);
            curve.cell(key + 1, &mut next);
            let distance: u64 = here.iter().zip(&next).map(|(&a, &b)| a.abs_diff(b)).sum();
            assert_eq!(distance, 1, "{dims} dimensions, keys {key} and the next");
        }
    }
}

/// Leaves of the descent come in the order of their keys, and every node's
/// box and key interval hold the same cells.
#[test]
fn descent_and_index_agree() {
    fn walk(curve: &Curve, node: &Node, next_key: &mut u128) {
        let mut children = curve.children(node);
        assert_eq!(node.first_key(), *next_key);
        if node.level() == 0 {
            let corner = &node.corner()[..curve.dims()];
            assert_eq!(curve.index(corner), *next_key);
            assert_eq!(children.next(), None);
            *next_key += 1;
            return;
        }
        assert_eq!(children.len(), 1 << curve.cut_axes(node).count_ones());
        for child in children {
            let below = curve.enter(node, &child);
            for axis in 0..curve.dims() {
                let offset = below.corner()[axis] - node.corner()[axis];
                assert!(offset >> curve.side_bits(node, axis) == 0);
            }
            walk(curve, &below, next_key);
        }
        assert_eq!(*next_key, curve.last_key_of(node) + 1);
    }
    let sides: [&[u8]; 8] = [
        &[0],
        &[6],
        &[4, 4],
        &[2, 5],
        &[3, 3, 3],
        &[4, 1, 0, 3],
        &[2, 0, 3, 1, 2],
        &[1, 1, 1, 1, 1, 1, 1, 2],
    ];
    for bits in sides {
        let curve = curve(bits);
        let mut next_key = 0;
        walk(&curve, &curve.root(), &mut next_key);
        assert_eq!(next_key, curve.last_key() + 1, "bits {bits:?}");
    }
}

/// Moon, Jagadish, Faloutsos and Saltz (2001): the intervals of a box tend to
/// its surface over twice the number of dimensions. The means measured before,
/// over fewer positions, lie within 5 % of that.
#[test]
fn boxes_are_cut_into_as_many_intervals_as_published() {
    for (dims, side, measured) in [(2, 20, 19.1), (3, 8, 62.4), (3, 12, 140.4), (4, 5, 128.8)] {
        let (bits, positions, seed) = (7, 4000, 0x6d6f_6f6e);
        let curve = curve(&vec![bits; dims]);
        let mut numbers = Numbers(seed);
        let mut intervals = 0;
        for _ in 0..positions {
            let start: Vec<u64> = (0..dims)
                .map(|_| numbers.below((1 << bits) - side + 1))
                .collect();
            intervals += intervals_of_box(&curve, &start, side);
        }
        let mean = intervals as f64 / f64::from(positions);
        let limit = side.pow(dims as u32 - 1) as f64;
        println!(
            "{side}^{dims}: {mean:.1} intervals, {limit} and {measured} expected, seed {seed:#x}"
        );
        assert!(
            (mean / limit - 1.0).abs() < 0.02,
            "{side}^{dims}: {mean}, limit {limit}"
        );
        assert!(
            (mean / measured - 1.0).abs() < 0.06,
            "{side}^{dims}: {mean}, measured {measured}"
        );
    }
}

/// Cells of the box whose predecessor on the curve lies outside of it. On a
/// cube predecessors are neighbours, so only the box's surface can have them.
pub(crate) fn intervals_of_box(curve: &Curve, start: &[u64], side: u64) -> u64 {
    let dims = start.len();
    let (mut before, mut offset) = (vec![0; dims], vec![0; dims]);
    let mut intervals = 0;
    loop {
        let on_surface = |&offset: &u64| offset == 0 || offset + 1 == side;
        if !offset[..dims - 1].iter().any(on_surface) && offset[dims - 1] == 1 {
            offset[dims - 1] = side - 1;
        }
        let cell: Vec<u64> = start.iter().zip(&offset).map(|(a, b)| a + b).collect();
        let key = curve.index(&cell);
        let entered = key == 0 || {
            curve.cell(key - 1, &mut before);
            let inside = |(&place, &start): (&u64, &u64)| (start..start + side).contains(&place);
            !before.iter().zip(start).all(inside)
        };
        intervals += u64::from(entered);
        let Some(axis) = (0..dims).rev().find(|&axis| offset[axis] + 1 < side) else {
            return intervals;
        };
        offset[axis] += 1;
        offset[axis + 1..].fill(0);
    }
}

#[test]
fn grids_that_fit_no_key_are_refused_by_name() {
    assert_eq!(Curve::new(&[]), Err(CurveError::Dimensions { dims: 0 }));
    assert_eq!(Curve::new(&[1; 9]), Err(CurveError::Dimensions { dims: 9 }));
    let side = CurveError::Side {
        dimension: 1,
        bits: 64,
    };
    assert_eq!(Curve::new(&[0, 64]), Err(side.clone()));
    assert_eq!(Curve::for_grid(&[1, u64::MAX]), Err(side));
    assert_eq!(
        Curve::new(&[43, 43, 43]),
        Err(CurveError::Key { bits: 129 })
    );
    assert_eq!(
        Curve::for_grid(&[2; 300]),
        Err(CurveError::Dimensions { dims: 300 })
    );
    assert!(Curve::new(&[43, 43, 42]).is_ok());
}

#[test]
fn a_grid_takes_the_bits_of_its_chunks_rounded_up() {
    let curve = Curve::for_grid(&[0, 1, 2, 3, 4, 5, 1 << 40]).unwrap();
    assert_eq!(curve.bits(), [0, 0, 1, 2, 2, 3, 40]);
    assert!(curve.contains(&[0, 0, 1, 3, 3, 7, 0]));
    assert!(!curve.contains(&[0, 1, 1, 3, 3, 7, 0]));
    assert!(!curve.contains(&[0, 0, 1, 3, 3, 7]));
}

/// One to eight sides of any bits that fit a key and a padded cube's key.
fn any_sides() -> impl Strategy<Value = Vec<u8>> {
    (1..=MAX_DIMS).prop_flat_map(|dims| {
        let longest = (128 / dims).min(63) as u8;
        proptest::collection::vec(0..=longest, dims)
    })
}

fn any_cells() -> impl Strategy<Value = (Vec<u8>, Vec<u64>, Vec<u64>)> {
    any_sides().prop_flat_map(|bits| {
        let cell: Vec<_> = bits.iter().map(|&bits| 0..1_u64 << bits).collect();
        (Just(bits), cell.clone(), cell)
    })
}

proptest! {
    #[test]
    fn large_grids_keep_the_order_of_the_padded_cube((bits, one, other) in any_cells()) {
        let curve = curve(&bits);
        let longest = u32::from(bits.iter().copied().max().unwrap());
        let padded = skilling(&one, longest).cmp(&skilling(&other, longest));
        prop_assert_eq!(curve.index(&one).cmp(&curve.index(&other)), padded);
    }

    #[test]
    fn large_grids_invert((bits, one, _) in any_cells()) {
        let curve = curve(&bits);
        let key = curve.index(&one);
        prop_assert!(key <= curve.last_key());
        let mut back = vec![0; bits.len()];
        curve.cell(key, &mut back);
        prop_assert_eq!(back, one);
    }

    #[test]
    fn keys_gathered_in_64_and_in_128_bits_are_equal((bits, one, _) in any_cells()) {
        let curve = curve(&bits);
        let wide = curve.index_as::<u128>(&one);
        prop_assert_eq!(curve.index(&one), wide);
        let narrow = (curve.key_bits() <= 64).then_some(wide as u64);
        prop_assert_eq!(curve.index_u64(&one), narrow);
    }

    #[test]
    fn cells_beyond_the_grid_do_no_harm(
        bits in any_sides(),
        cell in proptest::collection::vec(any::<u64>(), 0..10),
        key in any::<u128>(),
    ) {
        let curve = curve(&bits);
        prop_assert!(curve.index(&cell) <= curve.last_key());
        let mut back = vec![0; cell.len()];
        curve.cell(key, &mut back);
        prop_assert!(back.len() != bits.len() || curve.contains(&back));
    }
}
