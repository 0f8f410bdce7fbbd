//! Mapped memory, and the only accesses to it: bounds are checked here, and
//! other processes may change what is mapped at any time, so that no reference
//! to plain bytes is made of it. Reads and writes are copies through pointers;
//! words that both sides look at are atomics.

use std::io;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::pages::LARGE_PAGE_BYTES;

/// Mapped memory; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    writable: bool,
    /// What to unmap: more than that, where it begins within a larger place.
    place: (NonNull<u8>, usize),
}

// SAFETY: the memory belongs to the process, not to a thread, and stays mapped
// while the value lives. Accesses are copies through pointers or atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above; who writes where is settled by the owner of the mapping.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// All `bytes` of a file, shared and writable; to be touched only where the
    /// file has pages.
    pub(crate) fn shared(fd: impl AsFd, bytes: usize) -> io::Result<Self> {
        Self::of_file(fd, bytes, true)
    }

    /// All `bytes` of a file, shared, to be read only.
    pub(crate) fn read_only(fd: impl AsFd, bytes: usize) -> io::Result<Self> {
        Self::of_file(fd, bytes, false)
    }

    fn of_file(fd: impl AsFd, bytes: usize, writable: bool) -> io::Result<Self> {
        let protection = match writable {
            true => ProtFlags::READ | ProtFlags::WRITE,
            false => ProtFlags::READ,
        };
        if bytes < LARGE_PAGE_BYTES {
            // SAFETY: the system picks a free place; nothing mapped is replaced.
            let start = unsafe { mmap(null_mut(), bytes, protection, MapFlags::SHARED, fd, 0) }?;
            return Self::from_start(start, bytes, writable);
        }
        // Large pages are mapped as such only where they begin at a multiple of
        // their size, so that a place is taken which has one.
        let room = bytes
            .checked_add(LARGE_PAGE_BYTES)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: as above.
        let place = unsafe { mmap_anonymous(null_mut(), room, ProtFlags::empty(), flags) }?;
        let mut mapping = Self::from_start(place, room, writable)?;
        let before = place.cast::<u8>().align_offset(LARGE_PAGE_BYTES);
        let start = mapping.range(before as u64, bytes);
        let start = start.ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: what is replaced lies in the place, which nobody else knows.
        unsafe { mmap(start.as_ptr().cast(), bytes, protection, flags, fd, 0) }?;
        (mapping.start, mapping.bytes) = (start, bytes);
        Ok(mapping)
    }

    /// Memory of this process alone, every page present where the system can
    /// say so, and large ones where it has them.
    pub(crate) fn private(bytes: usize) -> io::Result<Self> {
        // SAFETY: as in `of_file`.
        let start = unsafe {
            mmap_anonymous(
                null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let mapping = Self::from_start(start, bytes, true)?;
        // SAFETY: the range is this mapping, and the system may refuse.
        let _ = unsafe { madvise(start, bytes, Advice::LinuxHugepage) };
        mapping.make_present(Advice::LinuxPopulateWrite)?;
        Ok(mapping)
    }

    fn from_start(start: *mut std::ffi::c_void, bytes: usize, writable: bool) -> io::Result<Self> {
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            start,
            bytes,
            writable,
            place: (start, bytes),
        })
    }

    /// Maps every page that the file has, so that the first look at it costs
    /// nothing; where it is mapped for writing, the first write neither. Pages
    /// are mapped many at a time, and for writing too, if one asks for reading:
    /// a quarter of what they take one by one. Where the system is too old for
    /// that, they come as they are touched.
    pub(crate) fn map_pages(&self) -> io::Result<()> {
        self.make_present(Advice::LinuxPopulateRead)
    }

    fn make_present(&self, how: Advice) -> io::Result<()> {
        // SAFETY: the range is this mapping; its contents stay as they are.
        match unsafe { madvise(self.start.as_ptr().cast(), self.bytes, how) } {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where `bytes` at `offset` begin, if they lie in the mapping.
    pub(crate) fn range(&self, offset: u64, bytes: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(bytes)?;
        if end > self.bytes {
            return None;
        }
        // SAFETY: `offset` lies in the mapping or at its end.
        Some(unsafe { self.start.add(offset) })
    }

    /// The word at `offset`, to be looked at.
    ///
    /// # Panics
    /// Where there is no aligned word at `offset`; offsets are constants of
    /// this crate.
    fn word(&self, offset: usize) -> &AtomicU64 {
        let fits = offset
            .checked_add(8)
            .is_some_and(|end| end <= self.bytes && offset.is_multiple_of(8));
        assert!(fits, "no word at {offset} of {} bytes", self.bytes);
        // SAFETY: in bounds and aligned, since mappings begin at a page; valid
        // for any value, and living as long as the mapping.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// What the word at `offset` holds, and all that was written before it.
    pub(crate) fn load(&self, offset: usize) -> u64 {
        // Other than relaxed loads are not for memory that can only be read.
        let value = self.word(offset).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        value
    }

    /// What the word at `offset` holds, with no order.
    pub(crate) fn load_relaxed(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    /// What the half word at `offset` holds, with no order.
    ///
    /// # Panics
    /// As [`Mapping::load`].
    pub(crate) fn load_half(&self, offset: usize) -> u32 {
        let fits = offset
            .checked_add(4)
            .is_some_and(|end| end <= self.bytes && offset.is_multiple_of(4));
        assert!(fits, "no half word at {offset} of {} bytes", self.bytes);
        // SAFETY: as for a word.
        let half = unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) };
        half.load(Ordering::Relaxed)
    }

    /// Writes the word at `offset` after all that was written before.
    pub(crate) fn store(&self, offset: usize, value: u64) {
        assert!(self.writable, "a mapping that can only be read");
        self.word(offset).store(value, Ordering::Release);
    }

    /// Copies `from` to `offset`.
    ///
    /// # Panics
    /// Where it does not fit; the caller has bounded it.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        let to = self.range(offset as u64, from.len());
        let to = to.filter(|_| self.writable);
        assert!(to.is_some(), "{} bytes at {offset}", from.len());
        if let Some(to) = to {
            // SAFETY: in bounds and writable; `from` cannot lie in the mapping,
            // of which no references to bytes are made.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), from.len()) }
        }
    }

    /// Appends the `bytes` at `offset` to `into`.
    ///
    /// # Panics
    /// Where they do not lie in the mapping; the caller has bounded them.
    pub(crate) fn read(&self, offset: usize, bytes: usize, into: &mut Vec<u8>) {
        let from = self.range(offset as u64, bytes);
        assert!(from.is_some(), "{bytes} bytes at {offset}");
        if let Some(from) = from {
            into.reserve(bytes);
            let length = into.len();
            // SAFETY: in bounds, and `into` has room for as many, which are
            // initialized by the copy. The other side may write meanwhile: then
            // the bytes are any, which is what a peer can send anyhow.
            unsafe {
                let to = into.as_mut_ptr().add(length);
                std::ptr::copy_nonoverlapping(from.as_ptr(), to, bytes);
                into.set_len(length + bytes);
            }
        }
    }
}

impl Mapping {
    /// Unmaps it: it has no bytes from now on. The caller is at the end of its
    /// own life, and nobody has pointers into it any more.
    pub(crate) fn unmap(&mut self) {
        self.bytes = 0;
        let (start, bytes) = self.place;
        self.place.1 = 0;
        if bytes > 0 {
            // SAFETY: mapped by this value alone, and no pointer to it is used
            // any more. It can only fail for a range that is not one.
            let _ = unsafe { munmap(start.as_ptr().cast(), bytes) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.unmap();
    }
}
