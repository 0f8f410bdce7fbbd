//! Strided copies by the length of their runs, beside a loop with one memcpy a run.
//!
//! Runs are followed by a gap of 64 bytes each, as ghost cells leave them. A put
//! gathers runs into a block with a checksum for each tile; a get takes them out
//! of a block, its tiles verified or not.

use std::hint::black_box;

use panta_transports::copy::{
    CopyCounter, StoredBlock, StridedMut, StridedRef, copy, copy_box_verified, gather_tiles,
};

use crate::error::{BenchError, Doing};
use crate::row::Row;
use crate::statistics::{Memcpy, median, seconds};
use crate::{Request, pattern};

const RUNS_BYTES: [usize; 5] = [64, 256, 1024, 4096, 65_536];
const GAP_BYTES: usize = 64;
const BYTES: u64 = 64 << 20;
/// Rounds are short here, so each counts for several.
const REPEATS: usize = 3;

/// The memory that everything is copied in; all of it was touched before.
struct Field {
    /// Runs without gaps.
    block: Vec<u8>,
    /// Runs with gaps between them.
    wide: Vec<u8>,
    crcs: Vec<u32>,
    run: usize,
    counter: CopyCounter,
}

/// One kind of copy: its name, mode, and whether checksums are made or verified.
type Variant = (
    &'static str,
    &'static str,
    bool,
    fn(&mut Field) -> Result<(), BenchError>,
);

const VARIANTS: [Variant; 4] = [
    ("copy", "put", false, Field::gather_plain),
    ("gather with checksums", "put", true, Field::gather),
    ("take out", "get", false, |field| field.scatter(false)),
    ("take out, verified", "get", true, |field| {
        field.scatter(true)
    }),
];

/// Runs the workload.
pub(crate) fn run(request: &Request, report: &mut dyn FnMut(&Row)) -> Result<(), BenchError> {
    let bytes = request.bytes.unwrap_or(BYTES) as usize;
    if bytes < RUNS_BYTES[4] || !bytes.is_multiple_of(RUNS_BYTES[4]) {
        return Err(BenchError::request(format!(
            "copy takes a multiple of {} bytes, not {bytes}",
            RUNS_BYTES[4]
        )));
    }
    let mut memcpy = Memcpy::new();
    for run in RUNS_BYTES {
        let mut field = Field::new(bytes, run);
        let mut memcpys = Vec::new();
        let (mut ours, mut bare) = ([const { Vec::new() }; 4], [Vec::new(), Vec::new()]);
        for _ in 0..request.rounds * REPEATS {
            memcpys.push(memcpy.gb_per_s());
            for (variant, times) in VARIANTS.iter().zip(&mut ours) {
                let mut outcome = Ok(());
                times.push(seconds(|| outcome = variant.3(black_box(&mut field))));
                outcome?;
            }
            bare[0].push(seconds(|| field.bare_gather()));
            bare[1].push(seconds(|| field.bare_scatter()));
        }
        field.check()?;
        let speed = |times: &[f64]| bytes as f64 / median(times) / 1e9;
        for ((name, mode, checks, _), times) in VARIANTS.iter().zip(&ours) {
            let bare = speed(&bare[usize::from(*mode == "get")]);
            let row = Row {
                workload: "copy",
                mode: Some((*mode).to_owned()),
                verify: Some(if *checks { "get" } else { "never" }.to_owned()),
                bytes: Some(bytes as u64),
                steps: Some((request.rounds * REPEATS) as u64),
                ..Row::default()
            };
            let row = row.with_throughput(speed(times), Some(bare), median(&memcpys));
            report(&row.with("run_bytes", run).with("what", *name));
        }
    }
    Ok(())
}

impl Field {
    fn new(bytes: usize, run: usize) -> Self {
        let mut values = vec![0.0; bytes / 8];
        pattern::fill(&mut values, run as u64, 0);
        let block: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_ne_bytes())
            .collect();
        let mut field = Self {
            wide: vec![1; bytes / run * (run + GAP_BYTES)],
            crcs: Vec::new(),
            block,
            run,
            counter: CopyCounter::new(),
        };
        field.bare_scatter();
        field
    }

    fn count(&self) -> [u64; 2] {
        [(self.block.len() / self.run) as u64, self.run as u64]
    }

    fn gather_plain(&mut self) -> Result<(), BenchError> {
        let count = self.count();
        let (wide, counter) = (runs(&self.wide, count)?, &self.counter);
        let mut to = StridedMut::contiguous(&mut self.block, 1, &count).doing("copy")?;
        copy(&mut to, &wide, counter).doing("copy")
    }

    fn gather(&mut self) -> Result<(), BenchError> {
        let wide = runs(&self.wide, self.count())?;
        self.crcs.clear();
        gather_tiles(
            &mut self.block,
            &wide,
            &mut self.crcs,
            &mut |_: &[u8]| {},
            &self.counter,
        )
        .doing("gather")
    }

    fn scatter(&mut self, verify: bool) -> Result<(), BenchError> {
        let count = self.count();
        let block = StoredBlock::new(&self.block, 1, &count, &self.crcs).doing("take out")?;
        let all = [count[0], count[1] + GAP_BYTES as u64];
        let mut wide = StridedMut::contiguous(&mut self.wide, 1, &all).doing("take out")?;
        let mut to = wide.sub_box(&[0, 0], &count).doing("take out")?;
        copy_box_verified(&mut to, &block, &[0, 0], &[1, 1], verify, &self.counter)
            .doing("take out")
    }

    fn bare_gather(&mut self) {
        let rows = self.wide.chunks_exact(self.run + GAP_BYTES);
        for (to, row) in self.block.chunks_exact_mut(self.run).zip(rows) {
            to.copy_from_slice(&row[..self.run]);
        }
    }

    fn bare_scatter(&mut self) {
        let rows = self.wide.chunks_exact_mut(self.run + GAP_BYTES);
        for (row, from) in rows.zip(self.block.chunks_exact(self.run)) {
            row[..self.run].copy_from_slice(from);
        }
    }

    /// After so many copies back and forth, all must be as it was.
    fn check(&self) -> Result<(), BenchError> {
        let values = self.block.chunks_exact(8);
        let values: Vec<f64> = values
            .map(|raw| f64::from_ne_bytes(raw.try_into().unwrap_or_default()))
            .collect();
        pattern::check(&values, self.run as u64, 0, "strided copy")
    }
}

/// The runs of `wide` as a view.
fn runs(wide: &[u8], count: [u64; 2]) -> Result<StridedRef<'_>, BenchError> {
    let all = [count[0], count[1] + GAP_BYTES as u64];
    let all = StridedRef::contiguous(wide, 1, &all).doing("view")?;
    all.sub_box(&[0, 0], &count).doing("view")
}
