//! One region: how its memory is made, so that a page that cannot be had is an
//! error here and never a signal later.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::process::{Resource, getrlimit};

use super::available::available_bytes;
use super::charge::Charge;
use super::error::RegionError;
use super::mapping::Mapping;
use super::pages;

/// What a region's memory is sealed against: its pages can neither go away
/// under a reader, nor be written through descriptors that are passed on, nor
/// can that be undone.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::FUTURE_WRITE)
    .union(SealFlags::SEAL);

/// Memory that extents lie in: mapped once, present, and with `shared` behind
/// a descriptor that other processes can map, but not change.
#[derive(Debug)]
pub struct Region {
    id: u32,
    mapping: Mapping,
    fd: Option<OwnedFd>,
    large_bytes: usize,
    // Last, so that it is given back after the memory is.
    charge: Arc<Charge>,
}

impl Region {
    /// Makes the memory; `charge` says how much.
    pub(super) fn make(id: u32, charge: Charge, shared: bool) -> Result<Self, RegionError> {
        let bytes = charge.bytes();
        check_machine(bytes)?;
        let system = |during, source| RegionError::System {
            asked_bytes: bytes,
            during,
            source,
        };
        let length = usize::try_from(bytes)
            .map_err(|_| system("mapping", io::ErrorKind::OutOfMemory.into()))?;
        let (mapping, fd, large_bytes) = if shared {
            check_file_size(bytes)?;
            let memory = sealed_memory(length, system)?;
            (memory.mapping, Some(memory.fd), memory.large_bytes)
        } else {
            let mapping = Mapping::private(length).map_err(|source| system("mapping", source))?;
            (mapping, None, 0)
        };
        Ok(Self {
            id,
            mapping,
            fd,
            large_bytes,
            charge: Arc::new(charge),
        })
    }

    /// Its number, which is never given twice in an arena.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.mapping.bytes() as u64
    }

    /// How much of a shared one lies in large pages, which cost less to make,
    /// to map and to go through; nothing where the system has none to give.
    #[must_use]
    pub fn large_page_bytes(&self) -> u64 {
        self.large_bytes as u64
    }

    /// Where it is mapped in this process.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.mapping.start()
    }

    /// The descriptor by which other processes map it; none for an arena that
    /// is not shared.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// What it counts against the arena's limit, for those by whom its memory
    /// stays in use after it was given up here.
    pub(crate) fn charge(&self) -> Arc<Charge> {
        Arc::clone(&self.charge)
    }

    /// Where `bytes` at `offset` begin, if all of them lie in the region. It
    /// may be handed to the system; in this process somebody may be writing
    /// there.
    #[must_use]
    pub fn range(&self, offset: u64, bytes: usize) -> Option<NonNull<u8>> {
        self.mapping.range(offset, bytes)
    }

    /// The `bytes` at `offset`, if all of them lie in the region.
    ///
    /// # Safety
    /// Nobody in this process writes to them while they are borrowed: they are
    /// of a sealed step that is not released meanwhile, or are only handed to
    /// the system, which does not mind.
    #[must_use]
    pub unsafe fn slice(&self, offset: u64, bytes: usize) -> Option<&[u8]> {
        let start = self.mapping.range(offset, bytes)?;
        // SAFETY: in bounds, initialized by the system, not written as the
        // caller promises.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), bytes) })
    }
}

/// A memory file, mapped here for writing.
pub(crate) struct SealedMemory {
    pub(crate) mapping: Mapping,
    pub(crate) fd: OwnedFd,
    /// How much of it lies in large pages.
    pub(crate) large_bytes: usize,
}

/// A memory file of `bytes`, every page present, mapped for writing here and
/// sealed for everybody else.
pub(crate) fn sealed_memory<E>(
    bytes: usize,
    fail: impl Fn(&'static str, io::Error) -> E,
) -> Result<SealedMemory, E> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("panta", flags).map_err(|error| fail("memfd_create", error.into()))?;
    ftruncate(&fd, bytes as u64).map_err(|error| fail("ftruncate", error.into()))?;
    let mapping = Mapping::shared(&fd, bytes).map_err(|error| fail("mmap", error))?;
    let large_bytes =
        pages::make_present(&fd, &mapping).map_err(|error| fail("fallocate", error))?;
    mapping
        .map_pages()
        .map_err(|error| fail("madvise", error))?;
    fcntl_add_seals(&fd, SEALS).map_err(|error| fail("sealing", error.into()))?;
    Ok(SealedMemory {
        mapping,
        fd,
        large_bytes,
    })
}

/// Refuses what would make the system end a process for want of memory.
fn check_machine(asked_bytes: u64) -> Result<(), RegionError> {
    let Some(available_bytes) = available_bytes() else {
        return Ok(());
    };
    if asked_bytes > available_bytes {
        return Err(RegionError::Machine {
            asked_bytes,
            available_bytes,
        });
    }
    Ok(())
}

/// A file grown beyond the limit of the process is a signal, so it is looked
/// at before.
fn check_file_size(asked_bytes: u64) -> Result<(), RegionError> {
    match getrlimit(Resource::Fsize).current {
        Some(limit_bytes) if asked_bytes > limit_bytes => Err(RegionError::FileSize {
            asked_bytes,
            limit_bytes,
        }),
        _ => Ok(()),
    }
}
