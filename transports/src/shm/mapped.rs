//! Memory of another process, mapped to be read.

use std::ops::Deref;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{SealFlags, fcntl_get_seals, fstat};

use super::error::ShmError;
use super::message::Message;
use super::pass::Connection;
use crate::region::mapping::Mapping;

/// What memory must be sealed against before it is mapped here: what could
/// shrink would be a signal at an access, what could be written through the
/// descriptor would not be the owner's alone.
const REQUIRED: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::FUTURE_WRITE);

/// Size of the memory behind `fd`, if it is sealed as it must be.
pub(super) fn sealed_bytes(fd: impl AsFd) -> Result<usize, ShmError> {
    let refused = |what| ShmError::Unsealed { what };
    // Seals come first: after them the size cannot change any more.
    let seals = fcntl_get_seals(&fd)
        .map_err(|_| refused("it is no memory file, or one that cannot be sealed"))?;
    if !seals.contains(REQUIRED) {
        return Err(refused("it is not sealed against shrinking and writing"));
    }
    let status = fstat(&fd).map_err(ShmError::system("fstat"))?;
    usize::try_from(status.st_size).map_err(|_| refused("its size is none"))
}

/// Maps all `bytes` behind `fd`, if it has exactly so many and is sealed.
pub(super) fn map_sealed(fd: impl AsFd, bytes: u64) -> Result<Mapping, ShmError> {
    let has = sealed_bytes(&fd)?;
    if has as u64 != bytes || has == 0 {
        return Err(ShmError::Unsealed {
            what: "its size is not the one that was told",
        });
    }
    Mapping::read_only(fd, has).map_err(ShmError::system("mmap of a region"))
}

/// A region of the other side.
#[derive(Debug)]
pub(super) struct MappedRegion {
    id: u32,
    mapping: Mapping,
    is_present: AtomicBool,
    populating: Mutex<()>,
    /// Open as long as something is mapped: its end says that nothing is.
    owner: Arc<Connection>,
}

impl MappedRegion {
    pub(super) fn new(id: u32, mapping: Mapping, owner: Arc<Connection>) -> Self {
        Self {
            id,
            mapping,
            is_present: AtomicBool::new(false),
            populating: Mutex::new(()),
            owner,
        }
    }

    /// The `bytes` at `offset`.
    pub(super) fn slice(self: &Arc<Self>, offset: u64, bytes: usize) -> Result<Mapped, ShmError> {
        let Some(start) = self.mapping.range(offset, bytes) else {
            return Err(ShmError::OutOfRange {
                region: self.id,
                has: self.mapping.bytes() as u64,
                offset,
                bytes: bytes as u64,
            });
        };
        self.make_present()?;
        Ok(Mapped {
            region: Arc::clone(self),
            start,
            bytes,
        })
    }
}

impl MappedRegion {
    /// Makes its pages present, once for all steps that will lie in it.
    pub(super) fn make_present(&self) -> Result<(), ShmError> {
        if self.is_present.load(Ordering::Acquire) {
            return Ok(());
        }
        let _turn = self
            .populating
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !self.is_present.load(Ordering::Acquire) {
            let made = self.mapping.map_pages();
            made.map_err(ShmError::system("making a mapped region present"))?;
            self.is_present.store(true, Ordering::Release);
        }
        Ok(())
    }
}

impl Drop for MappedRegion {
    /// Tells the owner, to whom it is charged until then. Where that does not
    /// get through, the end of the connection says the same.
    fn drop(&mut self) {
        self.mapping.unmap();
        let message = Message::Unmapped { region: self.id };
        let _ = self.owner.send(&message.to_bytes(), &[]);
    }
}

/// Bytes of a region of another process, in place. They stay mapped while this
/// lives, whatever the other side does.
///
/// They do not change while the other side keeps its promise: that what a
/// reader has claimed is not reused. Whoever cannot rely on it copies them and
/// compares checksums.
#[derive(Clone, Debug)]
pub struct Mapped {
    region: Arc<MappedRegion>,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is mapped for the process, stays so while the region
// lives, and is only read.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// The number of the region.
    #[must_use]
    pub fn region(&self) -> u32 {
        self.region.id
    }

    /// Where the bytes begin in this process.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    /// How many there are.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: in bounds of a mapping that `region` keeps, readable as it is
        // sealed against shrinking, and unchanged as the other side promises.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}
