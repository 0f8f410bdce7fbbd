//! One-sided reads over a fabric: InfiniBand, Slingshot, EFA, or software.
//!
//! A [`FabricServer`] registers regions of this process and tells its address
//! and a [`RemoteMemory`] for each of them, by some authenticated channel. A
//! [`FabricRemote`] reads from them straight into its caller's memory, without
//! the target's processor where the hardware can.
//!
//! ```text
//!   target                                     initiator
//!   region --register--> RemoteMemory  ~~~~>   read [Piece { memory, offset, into }]
//!   wait_fd, progress    <=== fi_read ======   counted, many under way, by a deadline
//! ```
//!
//! [`FabricExposure`] and [`FabricReader`] do the same for all regions of an arena,
//! by number, as these come and go.
//!
//! libfabric comes at run time: [`Fabric::load`] opens `libpanta_fabric.so`, a
//! small shim (`transports/fabric`) that opens `libfabric.so.1` itself. Nothing
//! here links either.
//!
//! Promises:
//! - Reads land in the caller's memory within the call or not at all: on a
//!   deadline, an interrupt or a panic the endpoint is torn down, which ends
//!   its reads, before the call returns.
//! - Only memory given to `register` can be read by peers; local buffers are
//!   registered only where the provider demands it, and never beyond a call.
//! - Memory that cannot be registered is an error, or goes through a buffer
//!   of ours; a peer that dies or is stopped is an error by the deadline.
//! - Every read is counted.
//!
//! What it does not do: authenticate. A fabric's own network is trusted; keys of
//! registrations are random where the provider lets us choose, and no more than
//! that. Some providers (`shm`) read a same-user process without asking for
//! the key at all. It does not look at what is read: whoever reads memory
//! that its owner may reuse checks a generation after the read.

mod address;
mod endpoint;
mod error;
mod exposure;
mod local;
mod module;
mod remote;
mod server;
mod table;

use std::time::Duration;

pub use address::{FabricAddress, RemoteMemory};
pub use error::FabricError;
pub use exposure::{FabricExposure, FabricReader, RegionBatch, RegionPiece, read_regions};
pub use module::{Fabric, MODULE_VARIABLE, ProviderInfo, uses_sockets};
pub use remote::{Batch, FabricRemote, Piece, read_many};
pub use server::{FabricServer, Progress};

/// Reads that one remote has under way at once, by default.
pub const DEPTH_DEFAULT: u32 = 32;

/// The most bytes that one read asks for, whatever the provider allows: small
/// enough that several are under way for a large piece.
pub const READ_LIMIT_BYTES: usize = 8 << 20;

/// How long a reader looks for completions before it sleeps, by default.
pub const READ_SPIN: Duration = Duration::from_micros(50);

/// How often a target is looked after whose provider has no descriptor to
/// sleep on.
pub const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Which provider an endpoint uses, and how.
#[derive(Clone, Debug)]
pub struct FabricOptions {
    /// The provider by its libfabric name, as `verbs;ofi_rxm`, `cxi`, `tcp;ofi_rxm`.
    /// `None`: the first that is no software; a remote takes its target's.
    pub provider: Option<String>,
    /// The domain, as `cxi0` or `mlx5_0`, where there are several.
    pub domain: Option<String>,
    /// An address or name of this machine to bind to, for providers that
    /// have such.
    pub node: Option<String>,
    /// What the network demands of its users, as a `cxi` service and VNI.
    pub auth_key: Vec<u8>,
    /// Reads under way at once; the provider may allow fewer.
    pub depth: u32,
    /// The most bytes of one read; the provider may allow fewer.
    pub read_limit_bytes: usize,
    /// How long a reader looks for completions before it sleeps.
    pub spin: Duration,
    /// Registers local buffers even where the provider does not demand it, so
    /// that this way can be tried on any machine.
    pub always_register: bool,
}

impl Default for FabricOptions {
    fn default() -> Self {
        Self {
            provider: None,
            domain: None,
            node: None,
            auth_key: Vec::new(),
            depth: DEPTH_DEFAULT,
            read_limit_bytes: READ_LIMIT_BYTES,
            spin: READ_SPIN,
            always_register: false,
        }
    }
}

impl FabricOptions {
    /// The defaults, with this provider.
    #[must_use]
    pub fn with_provider(provider: &str) -> Self {
        Self {
            provider: Some(provider.to_owned()),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests;
