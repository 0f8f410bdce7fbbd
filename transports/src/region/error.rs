//! Why memory could not be had, and what to try.

use std::io;

/// Why there is no extent of the asked size.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// The limit of the arena does not allow it, also after every region that
    /// was free was given back.
    #[error(
        "{asked_bytes} bytes asked, but {held_bytes} are held of a limit of {limit_bytes} ({used_bytes} in use, {lingering_bytes} given up and still mapped by readers); release steps, or raise the limit"
    )]
    Limit {
        /// The limit of the arena.
        limit_bytes: u64,
        /// What its regions hold.
        held_bytes: u64,
        /// What extents use of that.
        used_bytes: u64,
        /// What was given up and is still mapped by others.
        lingering_bytes: u64,
        /// What was asked for.
        asked_bytes: u64,
    },
    /// The arena has as many regions as it may.
    #[error(
        "{asked_bytes} bytes asked, but the arena has all of its {limit} regions; release steps, or write them in larger blocks"
    )]
    TooManyRegions {
        /// How many it may have.
        limit: usize,
        /// What was asked for.
        asked_bytes: u64,
    },
    /// The machine, or the container, has not that much memory left.
    #[error(
        "a region of {asked_bytes} bytes asked, but the machine or its container has {available_bytes} available; lower the limit of the stream or use fewer ranks on the node"
    )]
    Machine {
        /// Size of the region.
        asked_bytes: u64,
        /// What the system says is available.
        available_bytes: u64,
    },
    /// The process may not make files, which shared memory is, of that size.
    #[error(
        "a region of {asked_bytes} bytes asked, but files of this process may have {limit_bytes} (RLIMIT_FSIZE); raise it with `ulimit -f`"
    )]
    FileSize {
        /// Size of the region.
        asked_bytes: u64,
        /// The limit of the process.
        limit_bytes: u64,
    },
    /// The system refused.
    #[error(
        "a region of {asked_bytes} bytes: {during} failed: {source}; see `ulimit -a` and the memory of the machine or container"
    )]
    System {
        /// Size of the region.
        asked_bytes: u64,
        /// The step that failed.
        during: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
