//! The copy module beside `memcpy` of the same bytes, in the same run.
//!
//! `cargo bench -p panta-transports --bench copy`. Each row copies 64 MiB
//! whose source (or destination, for `get`) lies in runs of so many bytes, a gap
//! of 64 bytes after each, as ghost cells leave; columns are ratios to one
//! `memcpy` of 64 MiB. Variants alternate, medians are printed.
//!
//! - `bare`: a loop with one `memcpy` per run, the same bytes as `copy`;
//! - `put`: gathered into a block, with a checksum per tile;
//! - `get`: a box out of a block into runs, checked or not.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;

use panta_transports::copy::{
    CopyCounter, StoredBlock, StridedMut, StridedRef, checksum_tiles, copy, copy_box_verified,
    gather_tiles, verify_tiles,
};
use panta_transports::time::Time;

const BYTES: usize = 64 << 20;
const GAP_BYTES: usize = 64;
const ROUNDS: usize = 9;

/// Buffers that every variant uses, so that none gets colder ones.
struct Field {
    block: Vec<u8>,
    /// Runs lie in it, with gaps between them.
    wide: Vec<u8>,
    crcs: Vec<u32>,
    counter: CopyCounter,
}

type Variant = (&'static str, fn(&mut Field, usize));

const VARIANTS: [Variant; 7] = [
    ("memcpy", |field, _| {
        field.block.copy_from_slice(&field.wide[..BYTES]);
    }),
    ("bare", |field, run| {
        let rows = field.wide.chunks(run + GAP_BYTES);
        for (to, row) in field.block.chunks_mut(run).zip(rows) {
            to.copy_from_slice(&row[..run]);
        }
    }),
    ("copy", |field, run| {
        let count = [(BYTES / run) as u64, run as u64];
        let mut dst = StridedMut::contiguous(&mut field.block, 1, &count).unwrap();
        copy(&mut dst, &wide(&field.wide, run), &field.counter).unwrap();
    }),
    ("put", |field, run| {
        field.crcs.clear();
        let src = wide(&field.wide, run);
        let counter = &field.counter;
        gather_tiles(
            &mut field.block,
            &src,
            &mut field.crcs,
            &mut |_: &[u8]| {},
            counter,
        )
        .unwrap();
    }),
    ("get", |field, run| get(field, run, false)),
    ("get, checked", |field, run| get(field, run, true)),
    ("checksum only", |field, _| {
        field.crcs.clear();
        checksum_tiles(&field.block, &mut field.crcs, &mut |_| {});
    }),
];

/// Runs of `run` bytes, each followed by a gap.
fn wide(bytes: &[u8], run: usize) -> StridedRef<'_> {
    let all = StridedRef::contiguous(
        &bytes[..BYTES / run * (run + GAP_BYTES)],
        1,
        &[(BYTES / run) as u64, (run + GAP_BYTES) as u64],
    )
    .unwrap();
    all.sub_box(&[0, 0], &[(BYTES / run) as u64, run as u64])
        .unwrap()
}

fn get(field: &mut Field, run: usize, verify: bool) {
    let rows = (BYTES / run) as u64;
    let block = StoredBlock::new(&field.block, 1, &[rows, run as u64], &field.crcs).unwrap();
    let mut all = StridedMut::contiguous(
        &mut field.wide[..BYTES / run * (run + GAP_BYTES)],
        1,
        &[rows, (run + GAP_BYTES) as u64],
    )
    .unwrap();
    let mut dst = all.sub_box(&[0, 0], &[rows, run as u64]).unwrap();
    copy_box_verified(&mut dst, &block, &[0, 0], &[1, 1], verify, &field.counter).unwrap();
}

fn main() {
    let mut field = Field {
        block: vec![1; BYTES],
        wide: (0..2 * BYTES).map(|i| (i / 7) as u8).collect(),
        crcs: Vec::new(),
        counter: CopyCounter::new(),
    };
    print!("{:>9}", "run");
    for (name, _) in VARIANTS {
        print!("{name:>15}");
    }
    println!();
    for run in [64, 256, 1024, 4096, 65_536, 1 << 20] {
        let mut seconds = [const { Vec::new() }; VARIANTS.len()];
        for _ in 0..ROUNDS {
            for (variant, times) in VARIANTS.iter().zip(&mut seconds) {
                let start = Time::now();
                variant.1(black_box(&mut field), black_box(run));
                times.push(Time::now().since(start).as_secs_f64());
            }
        }
        let medians = seconds.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[ROUNDS / 2]
        });
        print!("{run:>9}");
        print!("{:>10.2} GB/s", BYTES as f64 / medians[0] / 1e9);
        for median in &medians[1..] {
            print!("{:>15.2}", medians[0] / median);
        }
        println!();
    }
    verify_tiles(&field.block, &field.crcs).expect("the last put's checksums");
}
