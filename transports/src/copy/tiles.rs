//! Tiles: 4 KiB of a block in storage order, each with its CRC32C.

use super::loops::{Loop, Plan, back, copy_bytes, copy_run, copy_runs};
use super::streaming::{Streaming, fetch_ahead};
use super::strided::Layout;
use super::{CopyCounter, CopyError, LayoutError, MAX_DIMS, StridedRef, TILE_BYTES};

/// A tile whose bytes are not those that its checksum was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "tile {tile_index} has checksum {found:#010x}, stored was {expected:#010x}: its bytes were changed"
)]
pub struct TileMismatch {
    /// Which tile of the block, the first is 0.
    pub tile_index: u64,
    /// The CRC32C that was stored.
    pub expected: u32,
    /// The CRC32C of the bytes found.
    pub found: u32,
}

/// How many tiles so many bytes have; the last may be short.
#[must_use]
pub const fn tile_count(bytes: u64) -> u64 {
    bytes.div_ceil(TILE_BYTES as u64)
}

/// The CRC32C (Castagnoli) of `bytes`.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// What is done with each tile of a block while it is in cache, at any alignment. A closure
/// looks, and changes nothing.
pub trait TileVisit {
    /// Whether [`change`](Self::change) does anything; alike for all tiles of a block.
    fn changes(&self) -> bool {
        false
    }

    /// Changes a tile on its way, before its checksum is made. The caller's own memory is
    /// never given here, but that of a block which already lies where it stays.
    fn change(&mut self, tile: &mut [u8]) {
        let _ = tile;
    }

    /// Looks at a tile as it is stored.
    fn look(&mut self, tile: &[u8]);
}

impl<F: FnMut(&[u8])> TileVisit for F {
    fn look(&mut self, tile: &[u8]) {
        self(tile);
    }
}

/// The rest of a tile's visit once its bytes are there: changed, checksummed, looked at.
fn visited(tile: &mut [u8], crcs: &mut Vec<u32>, visit: &mut dyn TileVisit) {
    if visit.changes() {
        visit.change(tile);
    }
    crcs.push(checksum(tile));
    visit.look(tile);
}

/// Copies a strided box to `dst`, contiguous and row-major, and appends to
/// `crcs` one CRC32C per tile of `dst`. `visit` is given each tile; where [`TILE_BYTES`] is
/// no multiple of the element, tiles begin and end inside elements.
///
/// # Errors
/// [`CopyError`] where `dst` does not have `src.bytes()` bytes; nothing is
/// copied then.
pub fn gather_tiles(
    dst: &mut [u8],
    src: &StridedRef<'_>,
    crcs: &mut Vec<u32>,
    visit: &mut dyn TileVisit,
    counter: &CopyCounter,
) -> Result<(), CopyError> {
    if dst.len() as u64 != src.bytes() {
        return Err(LayoutError::LengthDiffers {
            expected: src.bytes(),
            found: dst.len() as u64,
        }
        .into());
    }
    if dst.len() <= TILE_BYTES
        && let Some(bytes) = src.as_slice()
    {
        // Nothing to plan, which would cost as much as the rest.
        copy_bytes(dst, bytes, counter);
        if !dst.is_empty() {
            visited(dst, crcs, visit);
        }
        return Ok(());
    }
    crcs.reserve(dst.len().div_ceil(TILE_BYTES));
    let mut source = RunReader::new(src)?;
    let streaming = Streaming::new(src.bytes(), TILE_BYTES);
    if !streaming.is_on() {
        for tile in dst.chunks_mut(TILE_BYTES) {
            source.fill(tile);
            visited(tile, crcs, visit);
        }
        counter.add(dst.len() as u64);
        return Ok(());
    }
    // A destination written past the cache cannot be read back from it: then
    // the tile is looked at where it lies, or gathered in between.
    let mut between = [0; TILE_BYTES];
    for tile in dst.chunks_mut(TILE_BYTES) {
        let between = &mut between[..tile.len()];
        let bytes = if visit.changes() {
            source.fill(between);
            source.fetch_ahead();
            visited(between, crcs, visit);
            &*between
        } else {
            let bytes = source.lend_or_fill(between);
            source.fetch_ahead();
            crcs.push(checksum(bytes));
            visit.look(bytes);
            bytes
        };
        // SAFETY: both are slices of the same length, one of them exclusive.
        unsafe { copy_run(tile.as_mut_ptr(), bytes.as_ptr(), tile.len(), &streaming) };
    }
    counter.add(dst.len() as u64);
    Ok(())
}

/// [`gather_tiles`] in pieces, for boxes larger than the buffer they go through.
pub struct TileGather<'a>(RunReader<'a>);

impl<'a> TileGather<'a> {
    /// Begins at the first element of `src`.
    ///
    /// # Errors
    /// [`CopyError`] where a row-major block of as many elements cannot be.
    pub fn new(src: &StridedRef<'a>) -> Result<Self, CopyError> {
        Ok(Self(RunReader::new(src)?))
    }

    /// Bytes not gathered yet.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.0.left
    }

    /// Gathers all that is left to the front of `dst`, or as many whole tiles
    /// as fit there, with their checksums; returns how many bytes that were.
    pub fn fill(
        &mut self,
        dst: &mut [u8],
        crcs: &mut Vec<u32>,
        visit: &mut dyn TileVisit,
        counter: &CopyCounter,
    ) -> usize {
        let whole_tiles = dst.len() - dst.len() % TILE_BYTES;
        let bytes = match usize::try_from(self.0.left) {
            Ok(left) if left <= dst.len() => left,
            _ => whole_tiles,
        };
        crcs.reserve(bytes.div_ceil(TILE_BYTES));
        for tile in dst[..bytes].chunks_mut(TILE_BYTES) {
            self.0.fill(tile);
            visited(tile, crcs, visit);
        }
        counter.add(bytes as u64);
        bytes
    }
}

/// [`gather_tiles`] without the copy, for bytes that already lie contiguous.
pub fn checksum_tiles(bytes: &[u8], crcs: &mut Vec<u32>, visit: &mut dyn FnMut(&[u8])) {
    crcs.reserve(bytes.len().div_ceil(TILE_BYTES));
    for tile in bytes.chunks(TILE_BYTES) {
        fetch_ahead(tile.as_ptr_range().end, TILE_BYTES);
        crcs.push(checksum(tile));
        visit(tile);
    }
}

/// [`checksum_tiles`] of bytes that stay where they are, and may be changed there.
pub fn change_tiles(bytes: &mut [u8], crcs: &mut Vec<u32>, visit: &mut dyn TileVisit) {
    crcs.reserve(bytes.len().div_ceil(TILE_BYTES));
    for tile in bytes.chunks_mut(TILE_BYTES) {
        fetch_ahead(tile.as_ptr_range().end, TILE_BYTES);
        visited(tile, crcs, visit);
    }
}

/// Checks the tiles of `bytes`, which begin with the first of `crcs`.
///
/// # Errors
/// The first [`TileMismatch`]; its index counts from the start of `bytes`. A
/// missing checksum is reported as one of zero.
pub fn verify_tiles(bytes: &[u8], crcs: &[u32]) -> Result<(), TileMismatch> {
    for (index, tile) in bytes.chunks(TILE_BYTES).enumerate() {
        fetch_ahead(tile.as_ptr_range().end, TILE_BYTES);
        verify_tile(tile, index, crcs)?;
    }
    Ok(())
}

pub(super) fn verify_tile(tile: &[u8], index: usize, crcs: &[u32]) -> Result<(), TileMismatch> {
    let found = checksum(tile);
    match crcs.get(index) {
        Some(&expected) if expected == found => Ok(()),
        stored => Err(TileMismatch {
            tile_index: index as u64,
            expected: stored.copied().unwrap_or(0),
            found,
        }),
    }
}

/// Reads the bytes of a view in row-major order, some at a time.
struct RunReader<'a> {
    /// The run that is next, or partly read.
    run: *const u8,
    /// Bytes of that run that were read.
    within: usize,
    left: u64,
    index: [usize; MAX_DIMS],
    plan: Plan,
    /// Off: what is read here is looked at next.
    cached: Streaming,
    _view: StridedRef<'a>,
}

impl<'a> RunReader<'a> {
    fn new(src: &StridedRef<'a>) -> Result<Self, LayoutError> {
        // What is written lies row-major, so merging depends on `src` alone.
        let row_major = Layout::row_major(src.element_bytes(), src.count())?;
        let mut plan = Plan::new(&row_major, &src.layout);
        plan.merge();
        Ok(Self {
            run: src.first,
            within: 0,
            left: src.bytes(),
            index: [0; MAX_DIMS],
            plan,
            cached: Streaming::new(0, 0),
            _view: *src,
        })
    }

    /// The next bytes where they lie, if they lie in one run, else in
    /// `between`: as many as it has, which must be left.
    fn lend_or_fill<'b>(&mut self, between: &'b mut [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        let bytes = between.len();
        let in_run = self.plan.run_bytes - self.within;
        if bytes > in_run || bytes as u64 > self.left {
            self.fill(between);
            return between;
        }
        // SAFETY: so many bytes are left of the run that is next, which the
        // view borrows for `'a`.
        let lent = unsafe { std::slice::from_raw_parts(self.run.add(self.within), bytes) };
        self.left -= bytes as u64;
        self.within += bytes;
        if self.within == self.plan.run_bytes {
            self.within = 0;
            self.advance(1);
        }
        lent
    }

    /// Begins to bring the next tile into the cache, as far as the run goes.
    fn fetch_ahead(&self) {
        let left = self.plan.run_bytes - self.within;
        fetch_ahead(self.run.wrapping_add(self.within), left.min(TILE_BYTES));
    }

    /// Fills `to` with the next bytes; what the view no longer has is left.
    fn fill(&mut self, to: &mut [u8]) {
        let wanted = usize::try_from(self.left).map_or(to.len(), |left| left.min(to.len()));
        let mut to = &mut to[..wanted];
        self.left -= wanted as u64;
        let run_bytes = self.plan.run_bytes;
        while !to.is_empty() {
            if self.within > 0 || to.len() < run_bytes {
                let piece = to.len().min(run_bytes - self.within);
                // SAFETY: the rest of the run that is next is readable, since
                // `left` said so; `to` is apart from it, being exclusive.
                unsafe {
                    let from = self.run.add(self.within);
                    std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), piece);
                }
                self.within += piece;
                if self.within == run_bytes {
                    self.within = 0;
                    self.advance(1);
                }
                to = &mut to[piece..];
            } else {
                let (left, src_step) = self.runs_ahead();
                let runs = left.min(to.len() / run_bytes);
                let each = Loop {
                    count: runs,
                    dst: run_bytes as isize,
                    src: src_step,
                };
                // SAFETY: so many runs are left of the innermost loop, and
                // `to` has room for them.
                unsafe { copy_runs(to.as_mut_ptr(), self.run, &each, run_bytes, &self.cached) };
                self.advance(runs);
                to = &mut to[runs * run_bytes..];
            }
        }
    }

    /// Runs left of the innermost loop, and the step between them.
    fn runs_ahead(&self) -> (usize, isize) {
        let loops = self.plan.loops();
        loops.last().map_or((1, 0), |inner| {
            (inner.count - self.index[loops.len() - 1], inner.src)
        })
    }

    /// Moves on by `runs`, which the innermost loop still has.
    fn advance(&mut self, runs: usize) {
        let mut step = runs;
        for (dim, each) in self.plan.loops().iter().enumerate().rev() {
            self.index[dim] += step;
            // Wrapping: at the end of a loop it may point past the view, and
            // is turned back below before it is used.
            self.run = self.run.wrapping_offset(each.src * step as isize);
            if self.index[dim] < each.count {
                return;
            }
            self.index[dim] = 0;
            self.run = self.run.wrapping_offset(back(each.src, each.count));
            step = 1;
        }
    }
}
