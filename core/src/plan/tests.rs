//! Plans against a brute-force painting of every cell.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use proptest::prelude::*;

fn block(start: &[u64], count: &[u64]) -> Block {
    Block {
        rank: 0,
        order: 0,
        start: start.to_vec(),
        count: count.to_vec(),
    }
}

fn positions(count: &[u64]) -> Vec<Vec<u64>> {
    let mut all = vec![vec![]];
    for side in count {
        all = all
            .into_iter()
            .flat_map(|head: Vec<u64>| (0..*side).map(move |at| [&head[..], &[at]].concat()))
            .collect();
    }
    all
}

fn holds(start: &[u64], count: &[u64], cell: &[u64]) -> bool {
    (0..cell.len()).all(|d| start[d] <= cell[d] && cell[d] < start[d] + count[d])
}

/// Checks pieces, coverage and overlaps of one case cell by cell.
fn check(blocks: &[Block], wish: &Wish<'_>) {
    let index = BlockIndex::of_blocks(blocks);
    let pieces = pieces(&index, wish);
    assert!(pieces.is_sorted_by(|a, b| a.block < b.block), "{pieces:?}");
    let hole = first_uncovered(wish, &pieces);
    let mut any_uncovered = false;
    for into in positions(wish.count) {
        let cell: Vec<u64> = (0..into.len())
            .map(|d| wish.start[d] + into[d] * wish.step[d])
            .collect();
        let expected = blocks
            .iter()
            .rposition(|block| holds(&block.start, &block.count, &cell));
        let winner = pieces
            .iter()
            .rfind(|piece| holds(&piece.into, &piece.count, &into));
        assert_eq!(winner.map(|piece| piece.block), expected, "cell {cell:?}");
        if let Some(piece) = winner {
            let block = &blocks[piece.block];
            for d in 0..cell.len() {
                let within = piece.from[d] + (into[d] - piece.into[d]) * wish.step[d];
                assert_eq!(block.start[d] + within, cell[d]);
            }
        }
        any_uncovered |= expected.is_none();
        if let Some((start, count)) = &hole
            && holds(start, count, &cell)
        {
            assert_eq!(expected, None, "cell {cell:?} is in the hole {hole:?}");
        }
    }
    assert_eq!(hole.is_some(), any_uncovered, "{hole:?}");
    if let Some((start, count)) = &hole {
        assert!(holds(start, count, start) && holds(wish.start, &wish.extent().1, start));
    }
    let shares = |a: &Block, b: &Block| {
        crate::model::intersect((&a.start, &a.count), (&b.start, &b.count)).is_some()
            && !a.count.contains(&0)
            && !b.count.contains(&0)
    };
    let pair = (0..blocks.len())
        .flat_map(|i| (i + 1..blocks.len()).map(move |j| (i, j)))
        .find(|(i, j)| shares(&blocks[*i], &blocks[*j]));
    assert_eq!(overlaps(blocks), pair);
}

fn boxes(dimensions: usize) -> impl Strategy<Value = Vec<Block>> {
    let one = (
        prop::collection::vec(0_u64..8, dimensions),
        prop::collection::vec(0_u64..6, dimensions),
    );
    prop::collection::vec(one.prop_map(|(start, count)| block(&start, &count)), 0..40)
}

fn case() -> impl Strategy<Value = (Vec<Block>, Vec<u64>, Vec<u64>, Vec<u64>)> {
    (1_usize..4).prop_flat_map(|dimensions| {
        (
            boxes(dimensions),
            prop::collection::vec(0_u64..5, dimensions),
            prop::collection::vec(0_u64..6, dimensions),
            prop::collection::vec(1_u64..4, dimensions),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn plans_agree_with_painting_every_cell((blocks, start, count, step) in case()) {
        check(&blocks, &Wish { start: &start, count: &count, step: &step });
    }

    #[test]
    fn a_disjoint_grid_is_covered_however_it_is_cut(sides in prop::collection::vec(1_u64..5, 1..4), step in 1_u64..4) {
        let blocks: Vec<Block> = positions(&[3, 3, 3][..sides.len()])
            .into_iter()
            .map(|at| {
                let start: Vec<u64> = at.iter().zip(&sides).map(|(at, side)| at * side).collect();
                block(&start, &sides)
            })
            .collect();
        let start = vec![0; sides.len()];
        let count: Vec<u64> = sides.iter().map(|side| (side * 3).div_ceil(step)).collect();
        let step = vec![step; sides.len()];
        let wish = Wish { start: &start, count: &count, step: &step };
        check(&blocks, &wish);
        prop_assert_eq!(overlaps(&blocks), None);
    }
}

#[test]
fn a_hole_is_given_in_cells_of_the_array() {
    let blocks = [block(&[0, 0], &[10, 4]), block(&[0, 6], &[10, 4])];
    let wish = Wish {
        start: &[0, 0],
        count: &[10, 10],
        step: &[1, 1],
    };
    let found = pieces(&BlockIndex::of_blocks(&blocks), &wish);
    assert_eq!(
        first_uncovered(&wish, &found),
        Some((vec![0, 4], vec![10, 2]))
    );
}

#[test]
fn a_hundred_thousand_small_blocks_are_planned_and_compared() {
    let side = 317;
    let blocks: Vec<Block> = (0..100_000_u64)
        .map(|at| block(&[at / side * 8, at % side * 8], &[8, 8]))
        .collect();
    let index = BlockIndex::of_blocks(&blocks);
    let wish = Wish {
        start: &[1001, 1003],
        count: &[20, 20],
        step: &[1, 1],
    };
    let found = pieces(&index, &wish);
    assert_eq!(found.len(), 9);
    assert_eq!(first_uncovered(&wish, &found), None);
    assert_eq!(overlaps(&blocks), None);
    let mut one_more = blocks;
    one_more.push(block(&[1001, 1003], &[1, 1]));
    let under = 1001 / 8 * side + 1003 / 8;
    assert_eq!(overlaps(&one_more), Some((under as usize, 100_000)));
}

#[test]
fn blocks_of_other_dimensions_are_never_found() {
    let blocks = [block(&[0], &[4]), block(&[0, 0], &[4, 4]), block(&[], &[])];
    let index = BlockIndex::of_blocks(&blocks);
    assert_eq!(index.touching(&[0], &[9]).as_slice(), [0]);
    assert_eq!(
        BlockIndex::of_blocks(&[]).touching(&[], &[]).as_slice(),
        [0; 0]
    );
}
