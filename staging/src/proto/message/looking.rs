//! What those ask who only look: which streams there are, and one of them in full.

use prost::{Enumeration, Message as Wire};

use super::{Distribution, SealedStep};

/// Asks for the streams a server is home to.
#[derive(Clone, Copy, PartialEq, Eq, Wire)]
pub struct ListStreams {}

/// A stream at a glance.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct StreamSummary {
    /// Its name.
    #[prost(string, tag = "1")]
    pub stream: String,
    /// Current epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Oldest step held, but for the precious one.
    #[prost(uint64, optional, tag = "3")]
    pub first: Option<u64>,
    /// Newest step sealed.
    #[prost(uint64, optional, tag = "4")]
    pub last: Option<u64>,
    /// Steps held.
    #[prost(uint64, tag = "5")]
    pub steps: u64,
    /// Bytes held.
    #[prost(uint64, tag = "6")]
    pub bytes: u64,
    /// Live, closed or lost.
    #[prost(enumeration = "StreamState", tag = "7")]
    pub state: i32,
    /// The step that is kept for every group that opens.
    #[prost(uint64, optional, tag = "8")]
    pub precious: Option<u64>,
    /// Which reader groups get a step.
    #[prost(enumeration = "Distribution", tag = "9")]
    pub distribution: i32,
}

/// How a stream's writers stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum StreamState {
    /// Somebody may write.
    Live = 0,
    /// The writers have closed it.
    Closed = 1,
    /// A writer died.
    Lost = 2,
}

/// Answers `ListStreams`.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Streams {
    /// In order of their names.
    #[prost(message, repeated, tag = "1")]
    pub streams: Vec<StreamSummary>,
}

/// Asks for one stream in full.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Describe {
    /// Its name.
    #[prost(string, tag = "1")]
    pub stream: String,
}

/// Answers `Describe`.
#[derive(Clone, PartialEq, Wire)]
pub struct Described {
    /// At a glance.
    #[prost(message, optional, tag = "1")]
    pub summary: Option<StreamSummary>,
    /// The newest sealed step, with every layout it uses.
    #[prost(message, optional, tag = "2")]
    pub newest: Option<SealedStep>,
    /// Reader groups that are connected.
    #[prost(string, repeated, tag = "3")]
    pub groups: Vec<String>,
    /// Writer groups declared.
    #[prost(uint32, tag = "4")]
    pub declared: u32,
}
