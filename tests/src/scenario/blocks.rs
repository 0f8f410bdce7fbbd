//! Which blocks there are: none, empty ones, changing ones, holes, overlaps.

use ndarray::{Array1, ArrayD, Ix1, IxDyn};
use panta::{Attribute, BlockId, EndError, GetError, Shape};

use super::arrays::pair;
use crate::cells;
use crate::grid;
use crate::part::{Part, time};
use crate::stage::Stage;

/// Steps without anything, a rank with nothing, blocks of no cells, one rank with everything.
pub fn empty(stage: &mut Stage) {
    pair(stage, "blocks::empty", (3, 2));
}

/// The decomposition changes from A to B and back.
pub fn again(stage: &mut Stage) {
    pair(stage, "blocks::again", (3, 2));
}

/// The decomposition changes and comes back: what was told is not told again.
pub fn locked(stage: &mut Stage) {
    pair(stage, "blocks::locked", (3, 2));
}

/// Three levels of patches that change every step, the level of each beside it.
pub fn amr(stage: &mut Stage) {
    pair(stage, "blocks::amr", (3, 2));
}

/// Particles: counts that vary by rank and step, some ranks without any.
pub fn ragged(stage: &mut Stage) {
    pair(stage, "blocks::ragged", (4, 2));
}

/// Cells that no block covers: the fill value where there is one, else an error.
pub fn holes(stage: &mut Stage) {
    pair(stage, "blocks::holes", (2, 2));
}

/// Overlapping blocks: the highest (rank, put order) wins; an error in checked mode.
pub fn overlap(stage: &mut Stage) {
    pair(stage, "blocks::overlap", (2, 1));
    let query = format!("checked=true&{}", stage.alone());
    let url = stage.url_with("checked", query.trim_end_matches('&'));
    stage.start("blocks::overlap_writer", 2, &url, &[("checked", 1)]);
    stage.all_ended();
}

const SHAPE: [u64; 2] = [7, 5];
const EMPTY_STEPS: u64 = 6;

/// Nothing, all but rank 1, blocks of no cells, rank 2 alone, then all.
pub fn empty_writer(part: &Part) {
    let mut out = part.writer();
    let u = out.define::<f64>("u", Shape::global(SHAPE)).unwrap();
    let (start, count) = grid::slab(&SHAPE, 0, part.rank, part.size);
    for number in 0..EMPTY_STEPS {
        let own = cells::block::<f64>("u", number, &SHAPE, &start, &count);
        let all = cells::block::<f64>("u", number, &SHAPE, &[0, 0], &SHAPE);
        let none = cells::block::<f64>("u", number, &SHAPE, &[0, 0], &[0, 5]);
        let step = out.begin_step(time(number)).unwrap();
        match number {
            0 | 5 => {}
            1 if part.rank == 1 => {}
            2 => {
                step.put(u, &[3, 0], &none).unwrap();
                step.put(u, &start, &own).unwrap();
            }
            3 if part.rank == 2 => step.put(u, &[0, 0], &all).unwrap(),
            3 => {}
            _ => step.put(u, &start, &own).unwrap(),
        }
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Every step comes, with what was put.
pub fn empty_reader(part: &Part) {
    let mut inp = part.reader();
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        assert_eq!(step.number(), seen);
        seen += 1;
        if matches!(step.number(), 0 | 5) {
            assert!(matches!(
                step.variable("u"),
                Err(GetError::UnknownVariable { .. })
            ));
            continue;
        }
        let all = step.get::<f64, IxDyn>("u", ..);
        if step.number() == 1 {
            assert!(matches!(all, Err(GetError::NotCovered { .. })), "{all:?}");
        } else {
            cells::check("u", step.number(), &SHAPE, &[0, 0], all.unwrap().view());
        }
        let none: ArrayD<f64> = step.get("u", ([2, 1], [0, 3])).unwrap();
        assert_eq!(none.shape(), [0, 3]);
    }
    assert_eq!(seen, EMPTY_STEPS);
}

const AGAIN_STEPS: u64 = 9;

/// Cut by rows, by columns, by rows, three steps each.
pub fn again_writer(part: &Part) {
    let mut out = part.writer();
    let u = out.define::<i32>("u", Shape::global(SHAPE)).unwrap();
    for number in 0..AGAIN_STEPS {
        let cut = (number / 3 % 2) as usize;
        let (start, count) = grid::slab(&SHAPE, cut, part.rank, part.size);
        let own = cells::block::<i32>("u", number, &SHAPE, &start, &count);
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &start, &own).unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Right data and right blocks, before and after each change.
pub fn again_reader(part: &Part) {
    let mut inp = part.reader();
    let writers = part.number("writers") as usize;
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let number = step.number();
        let cut = (number / 3 % 2) as usize;
        for (rank, block) in step.variable("u").unwrap().blocks().iter().enumerate() {
            let (start, count) = grid::slab(&SHAPE, cut, rank, writers);
            assert_eq!((&block.block.start, &block.block.count), (&start, &count));
        }
        let (start, count) = grid::slab(&SHAPE, 1, part.rank, part.size);
        let read: ArrayD<i32> = step.get("u", (&start, &count)).unwrap();
        cells::check("u", number, &SHAPE, &start, read.view());
        seen += 1;
    }
    assert_eq!(seen, AGAIN_STEPS);
}

/// What each step cost, of `total` after each.
fn costs(total: &[u64]) -> Vec<u64> {
    let before = std::iter::once(&0).chain(total);
    total
        .iter()
        .zip(before)
        .map(|(now, then)| now - then)
        .collect()
}

/// Of the steps A A A B B B A A A: the third layout costs nothing, whoever counts.
fn check_costs(total: &[u64]) {
    let costs = costs(total);
    let (unchanged, again) = (costs[1], [costs[2], costs[7], costs[8]]);
    assert_eq!(again, [unchanged; 3], "{costs:?}");
    assert!(costs[0] > unchanged && costs[3] > unchanged, "{costs:?}");
    // To name the layout costs a little where names are all that is sent.
    assert!(costs[6] < costs[3], "{costs:?}");
    assert!(costs[6] <= unchanged + 64, "{costs:?}");
}

/// Cut by rows, by columns, by rows, three steps each; nothing is defined any more.
pub fn locked_writer(part: &Part) {
    let mut out = part.writer();
    let u = out.define::<i32>("u", Shape::global(SHAPE)).unwrap();
    out.freeze_definitions();
    let mut total = Vec::new();
    for number in 0..AGAIN_STEPS {
        let cut = (number / 3 % 2) as usize;
        let (start, count) = grid::slab(&SHAPE, cut, part.rank, part.size);
        let own = cells::block::<i32>("u", number, &SHAPE, &start, &count);
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &start, &own).unwrap();
        step.end().unwrap();
        total.push(out.metadata_bytes());
    }
    check_costs(&total);
    let error = out.define::<i32>("v", Shape::global(SHAPE)).unwrap_err();
    assert!(error.to_string().contains('v'), "{error}");
    out.close().unwrap();
}

/// The same selection each step: right data, and what the writer saw is seen here, too.
pub fn locked_reader(part: &Part) {
    let mut inp = part.reader();
    let mut total = Vec::new();
    loop {
        let before = inp.metadata_bytes();
        let Some(step) = inp.next_step().unwrap() else {
            break;
        };
        let (start, count) = grid::slab(&SHAPE, 1, part.rank, part.size);
        let read: ArrayD<i32> = step.get("u", (&start, &count)).unwrap();
        cells::check("u", step.number(), &SHAPE, &start, read.view());
        drop(step);
        let step_bytes = inp.metadata_bytes() - before;
        total.push(total.last().copied().unwrap_or(0) + step_bytes);
    }
    assert_eq!(total.len() as u64, AGAIN_STEPS);
    check_costs(&total);
}

const LEVELS: u64 = 3;
const AMR_STEPS: u64 = 6;

/// The patches of a rank in a step: level and origin. Other ones every step.
fn patches(rank: usize, step: u64) -> Vec<(u64, [u64; 2])> {
    (0..LEVELS)
        .flat_map(|level| {
            let patches = (rank as u64 + step * 3 + level) % 4;
            (0..patches).map(move |n| (level, [step + 5 * n, 3 * rank as u64 + level]))
        })
        .collect()
}

fn patch_count(level: u64) -> [u64; 2] {
    [4 << level, 3 << level]
}

fn patch_name(level: u64, origin: [u64; 2]) -> String {
    format!("patch of level {level} at {origin:?}")
}

/// Puts its patches as local blocks, and level and origin of each as rows.
pub fn amr_writer(part: &Part) {
    let mut out = part.writer();
    out.set_attribute("refinement", vec![1_i64, 2, 4]).unwrap();
    let patch = out.define::<f64>("patch", Shape::local(2)).unwrap();
    let place = out
        .define::<u64>("place", Shape::joined(0, [0, 3]))
        .unwrap();
    for number in 0..AMR_STEPS {
        let own = patches(part.rank, number);
        let blocks: Vec<_> = own
            .iter()
            .map(|(level, origin)| {
                let count = patch_count(*level);
                cells::block::<f64>(
                    &patch_name(*level, *origin),
                    number,
                    &count,
                    &[0, 0],
                    &count,
                )
            })
            .collect();
        let places = ndarray::Array2::from_shape_fn((own.len(), 3), |(row, column)| {
            let (level, origin) = own[row];
            [level, origin[0], origin[1]][column]
        });
        let step = out.begin_step(time(number)).unwrap();
        for block in &blocks {
            step.put(patch, &[], block).unwrap();
        }
        step.put(place, &[0, 0], &places).unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Reads every patch by the row that says where it lies.
pub fn amr_reader(part: &Part) {
    let (mut inp, writers) = (part.reader(), part.number("writers") as usize);
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let number = step.number();
        let expected: Vec<_> = (0..writers)
            .flat_map(|rank| patches(rank, number))
            .collect();
        let places: ndarray::Array2<u64> = step.get("place", ..).unwrap();
        assert_eq!(places.nrows(), expected.len());
        assert_eq!(
            step.attribute("refinement"),
            Some(&Attribute::Ints(vec![1, 2, 4]))
        );
        for (id, (level, origin)) in expected.into_iter().enumerate() {
            assert_eq!(places.row(id).to_vec(), [level, origin[0], origin[1]]);
            let read: ArrayD<f64> = step.get("patch", BlockId(id as u32)).unwrap();
            let name = patch_name(level, origin);
            cells::check(&name, number, &patch_count(level), &[0, 0], read.view());
        }
        seen += 1;
    }
    assert_eq!(seen, AMR_STEPS);
}

const RAGGED_STEPS: u64 = 8;

/// How many particles a rank has.
fn particles(rank: usize, step: u64) -> u64 {
    match (rank as u64 + step) % 4 {
        0 => 0,
        other => other * 37 + step,
    }
}

/// Puts positions and identities of its particles; nothing if it has none.
pub fn ragged_writer(part: &Part) {
    let mut out = part.writer();
    let position = out
        .define::<f32>("position", Shape::joined(0, [0, 3]))
        .unwrap();
    let id = out.define::<u64>("id", Shape::joined(0, [0])).unwrap();
    for number in 0..RAGGED_STEPS {
        let count = particles(part.rank, number);
        let before: u64 = (0..part.rank).map(|rank| particles(rank, number)).sum();
        let positions = cells::block::<f32>(
            "position",
            number,
            &[u64::MAX, 3],
            &[before, 0],
            &[count, 3],
        );
        let ids = cells::block::<u64>("id", number, &[u64::MAX], &[before], &[count]);
        let step = out.begin_step(time(number)).unwrap();
        if count > 0 {
            step.put(position, &[0, 0], &positions).unwrap();
            step.put(id, &[0], &ids).unwrap();
        }
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Takes an even share of all particles, whoever wrote them.
pub fn ragged_reader(part: &Part) {
    let (mut inp, writers) = (part.reader(), part.number("writers") as usize);
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let number = step.number();
        let total: u64 = (0..writers).map(|rank| particles(rank, number)).sum();
        let shape = [total, 3];
        assert_eq!(step.variable("position").unwrap().shape(), shape);
        let (start, count) = grid::slab(&shape, 0, part.rank, part.size);
        let positions: ArrayD<f32> = step.get("position", (&start, &count)).unwrap();
        cells::check("position", number, &shape, &start, positions.view());
        let ids: Array1<u64> = step.get("id", (&start[..1], &count[..1])).unwrap();
        cells::check("id", number, &[total], &start[..1], ids.view().into_dyn());
        seen += 1;
    }
    assert_eq!(seen, RAGGED_STEPS);
}

const LINE: [u64; 1] = [20];

/// Covers the first and the last quarter.
pub fn holes_writer(part: &Part) {
    let mut out = part.writer();
    let bare = out.define::<f64>("bare", Shape::global(LINE)).unwrap();
    let filled = out
        .define::<f64>("filled", Shape::global(LINE).fill(-1.0))
        .unwrap();
    let start = [[0], [15]][part.rank];
    for number in 0..3 {
        let one = cells::block::<f64>("bare", number, &LINE, &start, &[5]);
        let two = cells::block::<f64>("filled", number, &LINE, &start, &[5]);
        let step = out.begin_step(time(number)).unwrap();
        step.put(bare, &start, &one).unwrap();
        step.put(filled, &start, &two).unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// The hole is named, or filled; what is covered can be had.
pub fn holes_reader(part: &Part) {
    let mut inp = part.reader();
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let number = step.number();
        match step.get::<f64, Ix1>("bare", ..) {
            Err(GetError::NotCovered { start, count, .. }) => {
                assert!(start[0] >= 5 && start[0] + count[0] <= 15 && count[0] > 0);
            }
            other => panic!("a hole was read: {other:?}"),
        }
        let end: ArrayD<f64> = step.get("bare", ([15], [5])).unwrap();
        cells::check("bare", number, &LINE, &[15], end.view());
        let filled: Array1<f64> = step.get("filled", ..).unwrap();
        assert!(filled.iter().skip(5).take(10).all(|value| *value == -1.0));
        let begin = filled.slice(ndarray::s![..5]);
        cells::check("filled", number, &LINE, &[0], begin.into_dyn());
        let end = filled.slice(ndarray::s![15..]);
        cells::check("filled", number, &LINE, &[15], end.into_dyn());
        seen += 1;
    }
    assert_eq!(seen, 3);
}

/// Each rank puts two blocks; all four share cells.
pub fn overlap_writer(part: &Part) {
    let mut out = part.writer();
    let u = out.define::<i32>("u", Shape::global(LINE)).unwrap();
    let blocks = [
        Array1::from_elem(12, 10 * part.rank as i32),
        Array1::from_elem(12, 10 * part.rank as i32 + 1),
    ];
    for number in 0..3 {
        let step = out.begin_step(time(number)).unwrap();
        let first = 4 * part.rank as u64;
        step.put(u, &[first], &blocks[0]).unwrap();
        step.put(u, &[first + 2], &blocks[1]).unwrap();
        let ended = step.end();
        if part.has("checked") {
            match ended {
                Err(EndError::Overlap { place, .. }) => {
                    assert_eq!(
                        (place.step, place.variable.as_deref()),
                        (Some(number), Some("u"))
                    );
                }
                other => panic!("overlapping blocks were accepted: {other:?}"),
            }
        } else {
            ended.unwrap();
        }
    }
    out.close().unwrap();
}

/// The highest rank wins, and its later put.
pub fn overlap_reader(part: &Part) {
    let mut inp = part.reader();
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let read: Array1<i32> = step.get("u", ([0], [18])).unwrap();
        let expected: Vec<i32> = (0..18)
            .map(|cell| match cell {
                0..2 => 0,
                2..4 => 1,
                4..6 => 10,
                _ => 11,
            })
            .collect();
        assert_eq!(read.to_vec(), expected);
        seen += 1;
    }
    assert_eq!(seen, 3);
}
