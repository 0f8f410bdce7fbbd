//! Values, copies and bytes: what is read is what was put, and at what cost.

use super::harness::*;
use crate::engine::{Resume, Start, Wanted};
use crate::error::GetError;
use crate::model::{BlockId, Number, Payload};

fn bytes_of(stream: &Stream, file: &str) -> u64 {
    std::fs::metadata(stream.path(file)).map_or(0, |it| it.len())
}

#[test]
fn contiguous_blocks_are_written_without_a_copy_and_strided_ones_with_one() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    writers.step();
    assert_eq!(stream.copies.bytes(), 0);
    let strided = Put::of_grid(1, &[0, 0], &[64, 48]).with_gaps(5);
    writers.put(vec![vec![strided]]).unwrap();
    assert_eq!(stream.copies.bytes(), 64 * 48 * 8);
    let reader = stream.reader(Start::Oldest).unwrap();
    for _ in 0..2 {
        check_grid(&reader, &next(&reader, &at_once()).unwrap().unwrap());
    }
    // Whole blocks into a contiguous array: read in place.
    assert_eq!(stream.copies.bytes(), 64 * 48 * 8);
}

#[test]
fn every_rank_writes_its_own_bytes_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(3, Resume::Fresh).unwrap();
    let puts = vec![
        vec![Put::of_grid(0, &[0, 0], &[32, 48])],
        vec![],
        vec![
            Put::of_grid(0, &[32, 0], &[32, 24]),
            Put::of_grid(0, &[32, 24], &[32, 24]),
        ],
    ];
    writers.put(puts).unwrap();
    writers.close();
    let page = 4096;
    assert_eq!(bytes_of(&stream, "data.0001.0000"), page + 3 * page);
    assert!(!stream.path("data.0001.0001").exists());
    assert_eq!(bytes_of(&stream, "data.0001.0002"), page + 2 * 2 * page);
    assert_eq!(
        bytes_of(&stream, "index.0001.0000"),
        page + 64 + 32 + 3 * 4 + 4
    );
}

#[test]
fn many_small_blocks_share_pages() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    let tiles = |step: u64, gap: Option<usize>| {
        let blocks = (0..8 * 6).map(|at| {
            let put = Put::of_grid(step, &[at / 6 * 8, at % 6 * 8], &[8, 8]);
            match gap {
                Some(gap) => put.with_gaps(gap),
                None => put,
            }
        });
        vec![blocks.collect::<Vec<_>>()]
    };
    writers.put(tiles(0, None)).unwrap();
    writers.put(tiles(1, Some(1))).unwrap();
    assert_eq!(bytes_of(&stream, "data.0001.0000"), 4096 + 2 * 48 * 512);
    let reader = stream.reader(Start::Oldest).unwrap();
    for _ in 0..2 {
        check_grid(&reader, &next(&reader, &at_once()).unwrap().unwrap());
    }
}

#[test]
fn spans_are_written_from_where_they_were_computed() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    for step in 0..2 {
        let put = Put::of_grid(step, &[0, 0], &[64, 48]);
        let (span, memory) = writers.ranks[0].span(put.bytes.len()).unwrap();
        // SAFETY: the span has as many bytes, and lasts until `finish`.
        let there = unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), put.bytes.len()) };
        assert!(there.iter().all(|byte| *byte == 0));
        there.copy_from_slice(&put.bytes);
        writers.put_source(put, span);
    }
    assert_eq!(stream.copies.bytes(), 0);
    let reader = stream.reader(Start::Oldest).unwrap();
    for _ in 0..2 {
        check_grid(&reader, &next(&reader, &at_once()).unwrap().unwrap());
    }
}

#[test]
fn a_small_box_reads_its_own_tiles_only() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    writers.variables = vec![grid("u", &[128, 128, 128])];
    let cells = |at: u64| at as f64;
    let bytes = (0..128_u64.pow(3)).flat_map(|at| cells(at).to_le_bytes());
    let put = Put {
        variable: 0,
        start: vec![0; 3],
        count: vec![128; 3],
        bytes: bytes.collect(),
        row_bytes: None,
        source: None,
    };
    writers.put(vec![vec![put]]).unwrap();
    let reader = stream.reader(Start::Oldest).unwrap();
    let step = next(&reader, &at_once()).unwrap().unwrap();
    let start = [50, 60, 70];
    let found = get(&reader, &step, 0, boxed(&start), &[20, 20, 20]).unwrap();
    for (at, cell) in found.iter().enumerate() {
        let at = at as u64;
        let (z, y, x) = (at / 400 + 50, at / 20 % 20 + 60, at % 20 + 70);
        assert_eq!(*cell, cells((z * 128 + y) * 128 + x));
    }
    let counts = reader.counts();
    assert_eq!(counts.verified_tiles, 20 * 5);
    assert_eq!(counts.data_bytes, 20 * 5 * 4096);
}

#[test]
fn strides_blocks_and_overlaps_read_what_was_put_last() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(2, Resume::Fresh).unwrap();
    let puts = vec![
        vec![Put::of_grid(7, &[0, 0], &[64, 48])],
        vec![
            Put::of_grid(8, &[10, 10], &[20, 20]),
            Put::of_grid(9, &[20, 5], &[3, 40]),
        ],
    ];
    writers.put(puts).unwrap();
    let reader = stream.reader(Start::Oldest).unwrap();
    let step = next(&reader, &at_once()).unwrap().unwrap();
    let wanted = Wanted::Array {
        start: vec![1, 2].into(),
        step: vec![3, 2].into(),
    };
    let found = get(&reader, &step, 0, wanted, &[20, 22]).unwrap();
    for (at, cell) in found.iter().enumerate() {
        let (y, x) = (at as u64 / 22 * 3 + 1, at as u64 % 22 * 2 + 2);
        let inside = |start: [u64; 2], count: [u64; 2]| {
            (start[0]..start[0] + count[0]).contains(&y)
                && (start[1]..start[1] + count[1]).contains(&x)
        };
        let last = if inside([20, 5], [3, 40]) {
            9
        } else if inside([10, 10], [20, 20]) {
            8
        } else {
            7
        };
        assert_eq!(*cell, value(last, y, x), "({y}, {x})");
    }
    let wanted = Wanted::Block {
        block: BlockId(2),
        start: vec![1, 4].into(),
        step: vec![1, 2].into(),
    };
    let found = get(&reader, &step, 0, wanted, &[2, 3]).unwrap();
    let expected = [(21, 9), (21, 11), (21, 13), (22, 9), (22, 11), (22, 13)];
    assert_eq!(found, expected.map(|(y, x)| value(9, y, x)));
}

#[test]
fn cells_that_nobody_put_are_filled_or_named() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    writers
        .put(vec![vec![Put::of_grid(0, &[0, 0], &[64, 40])]])
        .unwrap();
    writers.variables[0].fill = Some((-1.5_f64).to_le_bytes().to_vec());
    writers
        .put(vec![vec![Put::of_grid(1, &[0, 0], &[64, 40])]])
        .unwrap();
    let reader = stream.reader(Start::Oldest).unwrap();
    let step = next(&reader, &at_once()).unwrap().unwrap();
    let error = get(&reader, &step, 0, boxed(&[4, 30]), &[2, 18]).unwrap_err();
    let GetError::NotCovered { start, count, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((&start[..], &count[..]), (&[4, 40][..], &[2, 8][..]));
    let step = next(&reader, &at_once()).unwrap().unwrap();
    let found = get(&reader, &step, 0, boxed(&[4, 30]), &[2, 18]).unwrap();
    for (at, cell) in found.iter().enumerate() {
        let (y, x) = (at as u64 / 18 + 4, at as u64 % 18 + 30);
        let expected = if x < 40 { value(1, y, x) } else { -1.5 };
        assert_eq!(*cell, expected);
    }
}

#[test]
fn statistics_and_empty_blocks_are_kept() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    let puts = vec![
        Put::of_grid(0, &[64, 0], &[0, 48]),
        Put::of_grid(0, &[2, 3], &[2, 2]),
    ];
    writers.put(vec![puts]).unwrap();
    writers.put(vec![]).unwrap();
    let reader = stream.reader(Start::Oldest).unwrap();
    let step = next(&reader, &at_once()).unwrap().unwrap();
    let blocks = &step.entries[0].blocks;
    assert_eq!(blocks[0].payload, Payload::Array(None));
    let stats = step.entries[0].stats().unwrap();
    assert_eq!(
        (stats.min, stats.max),
        (Number::Float(2003.0), Number::Float(3004.0))
    );
    let empty = Wanted::Block {
        block: BlockId(0),
        start: vec![0, 0].into(),
        step: vec![1, 1].into(),
    };
    assert_eq!(get(&reader, &step, 0, empty, &[0, 48]).unwrap(), [0.0; 0]);
    let step = next(&reader, &at_once()).unwrap().unwrap();
    assert!(step.entries.is_empty());
}

#[test]
fn direct_writing_reads_back_the_same_or_is_refused_clearly() {
    let place = tempfile::tempdir().unwrap();
    let mut stream = Stream::at(&place.path().join("run"));
    stream.target.options.direct = true;
    let mut writers = stream.writer(2, Resume::Fresh).unwrap();
    let puts = |step: u64| {
        vec![
            vec![
                Put::of_grid(step, &[0, 0], &[32, 48]),
                Put::of_grid(step, &[32, 0], &[1, 48]),
            ],
            vec![Put::of_grid(step, &[33, 0], &[31, 48]).with_gaps(3)],
        ]
    };
    for step in 0..2 {
        let captured = match writers.capture(puts(step)) {
            Ok(captured) => captured,
            Err(error) => {
                assert!(error.to_string().contains("O_DIRECT"), "{error}");
                return;
            }
        };
        writers.seal(captured).unwrap();
    }
    let reader = stream.reader(Start::Oldest).unwrap();
    for _ in 0..2 {
        check_grid(&reader, &next(&reader, &at_once()).unwrap().unwrap());
    }
}
