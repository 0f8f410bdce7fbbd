//! Workloads that measure how fast data flow; `panta bench` runs them.
//!
//! Each figure is taken beside a *bare* loop, which moves the same bytes in the
//! same pattern through the same kind of processes with the same checks but
//! without Panta, and beside `memcpy` by one thread; all are timed in turn in one
//! run, and medians are reported, so that a ratio means something on a machine
//! that others use too.
//!
//! Promised: values depend on the step, and every element that arrives is
//! compared with what it should be; a measurement that got wrong data is an
//! error, never a row. Not promised: absolute figures that compare between
//! machines, or between hours of a shared one.
//!
//! ```text
//! run ── pair      processes that put and get, see `pair`
//!     ├─ staging   whole arrays and small boxes through servers
//!     ├─ routing   boxes to servers, in this process
//!     ├─ copy      strided copies, in this process
//!     ├─ redistribute  four processes to two, see `redistribute`
//!     └─ opening   from opening a stream to its first element
//! run_role         what a process does that a workload started
//! ```

mod copying;
mod error;
mod fabric;
mod link;
mod opening;
mod pair;
mod pattern;
mod process;
mod redistribute;
mod relay;
mod role;
mod routing;
mod row;
mod server;
mod shared;
mod space;
mod staging;
mod statistics;

use std::path::PathBuf;
use std::time::Duration;

pub use error::BenchError;
pub use role::run_role;
pub use row::Row;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// One writer process to one reader process.
    Pair,
    /// Whole arrays and small boxes through servers.
    Staging,
    /// Finding the servers of boxes.
    Routing,
    /// Strided copies by the length of their runs.
    Copy,
    /// Four writer processes to two reader processes, cut across.
    Redistribute,
    /// From opening a stream to its first element, and closing it.
    Opening,
}

/// What to measure, and how. What is `None` is chosen by the workload.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to measure.
    pub workload: Workload,
    /// The program whose hidden subcommand `bench-role` calls [`run_role`] with its
    /// one argument.
    pub executable: PathBuf,
    /// Only this engine.
    pub engine: Option<String>,
    /// Bytes of a step, or of what is copied.
    pub bytes: Option<u64>,
    /// Steps, or calls, of one measurement.
    pub steps: Option<u64>,
    /// How many servers share the space of `staging`.
    pub servers: usize,
    /// When checksums are verified: `get`, `always` or `never`.
    pub verify: String,
    /// Only this transport, where the engine has several.
    pub transport: Option<String>,
    /// The provider of libfabric for the transport `rdma`; the first that is hardware,
    /// else one in software, if not given.
    pub fabric: Option<String>,
    /// How long a reader looks for the next step before it sleeps.
    pub spin: Option<Duration>,
    /// Only this way to put and get.
    pub mode: Option<String>,
    /// How often ours and the bare loop are timed in turn.
    pub rounds: usize,
}

/// Runs a workload and reports each row as soon as it is known.
///
/// # Errors
/// [`BenchError`] for a request that makes no sense, a stream that failed, a
/// process that did not answer, or data that were not what was put.
pub fn run(request: &Request, report: &mut dyn FnMut(&Row)) -> Result<(), BenchError> {
    if request.rounds == 0 {
        return Err(BenchError::request("rounds must be at least 1"));
    }
    if !["get", "always", "never"].contains(&request.verify.as_str()) {
        let other = &request.verify;
        let what = format!("verify is get, always or never, not `{other}`");
        return Err(BenchError::request(what));
    }
    match request.workload {
        Workload::Pair => pair::run(request, report),
        Workload::Staging => staging::run(request, report),
        Workload::Routing => routing::run(request, report),
        Workload::Copy => copying::run(request, report),
        Workload::Redistribute => redistribute::run(request, report),
        Workload::Opening => opening::run(request, report),
    }
}
