//! What goes wrong with a fabric, and what to try.

use crate::time::WaitError;

/// Why there is no fabric, or a read over one failed.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// The module, or libfabric itself, is not there.
    #[error("{what} cannot be loaded: {why}; {remedy}")]
    NotThere {
        /// Which file.
        what: String,
        /// What the loader said.
        why: String,
        /// What to install or set.
        remedy: &'static str,
    },
    /// The module was built for another Panta.
    #[error(
        "{module} speaks version {theirs} of the table, this library {ours}; install both from the same Panta"
    )]
    WrongVersion {
        /// The file.
        module: String,
        /// Version of this side.
        ours: u32,
        /// Version of the module.
        theirs: u32,
    },
    /// No provider here does what was asked for.
    #[error(
        "no provider of libfabric here {asked}; there are: {present}; ask for one of them by name (`fabric` of a stream), or see `fi_info -t FI_EP_RDM`"
    )]
    NoProvider {
        /// What was asked for.
        asked: String,
        /// Those there are.
        present: String,
    },
    /// The library refused a call while an endpoint was made.
    #[error("no endpoint of provider {provider}: {text}; {remedy}")]
    Open {
        /// The provider.
        provider: String,
        /// The call and what was said of it.
        text: String,
        /// What to try.
        remedy: &'static str,
    },
    /// Memory could not be registered.
    #[error("{bytes} bytes cannot be registered with provider {provider}: {text}; {remedy}")]
    Registration {
        /// The provider.
        provider: String,
        /// How many bytes.
        bytes: u64,
        /// The call and what was said of it.
        text: String,
        /// What to try.
        remedy: &'static str,
    },
    /// What a peer gave as an address is none.
    #[error("the peer's fabric address cannot be used: {why}; both sides need the same provider")]
    BadAddress {
        /// What is wrong.
        why: String,
    },
    /// More was asked for than the memory has.
    #[error(
        "{bytes} bytes at {offset} lie outside the {limit_bytes} bytes that the peer registered"
    )]
    OutOfMemory {
        /// Where.
        offset: u64,
        /// How many.
        bytes: u64,
        /// How many there are.
        limit_bytes: u64,
    },
    /// The target exposes no such region.
    #[error(
        "the peer exposes no region {region}; it was released, or could not be registered there: see the peer's log"
    )]
    NotExposed {
        /// The region's number.
        region: u32,
    },
    /// A read failed: the peer has died, or has withdrawn the memory.
    #[error(
        "a read over provider {provider} failed: {text}; the peer may have died or withdrawn the memory"
    )]
    Read {
        /// The provider.
        provider: String,
        /// What the library and the provider said.
        text: String,
    },
    /// The deadline passed, or the wait was interrupted; the endpoint was torn
    /// down, and nothing is written to the caller's memory any more.
    #[error(
        "waiting for {pending} reads over provider {provider}: {source}; the peer may be stopped or unreachable, connect again to try again"
    )]
    Wait {
        /// The provider.
        provider: String,
        /// Reads that were not done.
        pending: usize,
        /// Why the wait ended.
        source: WaitError,
    },
    /// The endpoint was torn down by an earlier failure.
    #[error("this connection was torn down after an earlier failure; connect again")]
    TornDown,
    /// This is the child of a fork: endpoints belong to the parent.
    #[error("this process was forked off after the endpoint was made; make one in this process")]
    Forked,
    /// No random key could be had.
    #[error(transparent)]
    NoRandomness(#[from] crate::random::NoRandomness),
}

/// What to try after a call of the library failed with `code`.
pub(super) fn remedy(code: i32) -> &'static str {
    match code {
        libc::ENOMEM | libc::EPERM | libc::EAGAIN => {
            "raise the limit of locked memory (ulimit -l, or LimitMEMLOCK of the service) or hold less"
        }
        libc::ENODATA => "check provider, domain and address with `fi_info -t FI_EP_RDM`",
        libc::EMFILE | libc::ENFILE => "raise the limit of open files (ulimit -n)",
        libc::EACCES => "the network wants an authorisation: see its auth key or service",
        _ => "see FI_LOG_LEVEL=warn for what the provider says, and `panta doctor`",
    }
}
