//! Pages of a memory file: all present, and large ones where the system has
//! them. To make, clear and map a page of 4 KiB costs more than to fill it, in
//! this process and in each that maps it; of 2 MiB, a tenth of that.
//!
//! Memory files get large pages by themselves only where the administrator
//! said so (`shmem_enabled`), which is rare. Whoever asks by `MADV_COLLAPSE`
//! (Linux 6.1) gets them anyhow; where a system refuses, pages stay small.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::retry_on_intr;

use super::mapping::Mapping;

/// A large page; where they have another size, none are made.
pub(super) const LARGE_PAGE_BYTES: usize = 2 << 20;

/// Of Linux's `mman.h`.
const MADV_COLLAPSE: libc::c_int = 25;

/// Large pages are asked for so many bytes at a time, since with each request
/// the system looks at all processors; it stops at the first that it has not.
const PIECE_BYTES: usize = 32 * LARGE_PAGE_BYTES;

/// Makes all pages of the file behind `mapping` present, so that no access can
/// find that there is none. Returns how many bytes lie in large ones.
///
/// # Errors
/// Those of `fallocate`. Signals interrupt nothing: what is asked for at a time
/// is done between two of them, also those of a profiler.
pub(super) fn make_present(fd: impl AsFd, mapping: &Mapping) -> io::Result<usize> {
    let (mut large_bytes, mut has_large) = (0, true);
    for piece in (0..mapping.bytes()).step_by(PIECE_BYTES) {
        let bytes = PIECE_BYTES.min(mapping.bytes() - piece);
        let whole = bytes - bytes % LARGE_PAGE_BYTES;
        if has_large && whole > 0 {
            for offset in (0..whole).step_by(LARGE_PAGE_BYTES) {
                // A hole cannot become a large page; what has a small one can.
                allocate(&fd, piece + offset, 1)?;
            }
            has_large = make_large(mapping, piece, whole);
            large_bytes += if has_large { whole } else { 0 };
        }
        for offset in (0..bytes).step_by(LARGE_PAGE_BYTES) {
            // Of a large page everything is there.
            let bytes = LARGE_PAGE_BYTES.min(bytes - offset);
            allocate(&fd, piece + offset, bytes)?;
        }
    }
    Ok(large_bytes)
}

fn allocate(fd: impl AsFd, offset: usize, bytes: usize) -> io::Result<()> {
    let (offset, bytes) = (offset as u64, bytes as u64);
    let made = retry_on_intr(|| fallocate(&fd, FallocateFlags::empty(), offset, bytes));
    made.map_err(Into::into)
}

/// Whether `bytes` at `offset` lie in large pages now, all of them.
fn make_large(mapping: &Mapping, offset: usize, bytes: usize) -> bool {
    let Some(start) = mapping.range(offset as u64, bytes) else {
        return false;
    };
    // SAFETY: the range lies in this mapping; its contents stay as they are.
    unsafe { libc::madvise(start.as_ptr().cast(), bytes, MADV_COLLAPSE) == 0 }
}
