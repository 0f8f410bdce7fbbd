//! What writer groups ask, and what they are answered: opening a run, naming
//! layouts, beginning, putting, ending.

use prost::{Enumeration, Message as Wire};

use super::{Map, Run};

/// What to do when a stream's retention is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum Policy {
    /// The writer waits until readers are done with old steps.
    Block = 0,
    /// The oldest step that nobody has claimed goes.
    DropOldest = 1,
    /// The new step is not taken.
    DropNewest = 2,
    /// Old steps go to disk; refused in this version.
    Spill = 3,
}

/// Which reader groups get a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum Distribution {
    /// All of them.
    All = 0,
    /// One after the other.
    RoundRobin = 1,
    /// The one that asks first.
    OnDemand = 2,
}

/// When a put counts as stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum Ack {
    /// In the owner's memory, with its index.
    Memory = 0,
    /// In the memory of every replica; refused in this version.
    Replica = 1,
    /// On disk; refused in this version.
    Disk = 2,
}

/// What a writer does with the steps that are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum ResumeFrom {
    /// Begins anew: all of them are withdrawn.
    Fresh = 0,
    /// Continues after the last sealed one.
    Last = 1,
    /// Continues after the step numbered `resume_step`, a restart from a
    /// checkpoint: later ones are withdrawn.
    After = 2,
}

/// A writer group opens a stream.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct OpenWriter {
    /// The stream's name.
    #[prost(string, tag = "1")]
    pub stream: String,
    /// Which of the declared writer groups this is, from 0.
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    /// How many writer groups write the stream together; at least 1.
    #[prost(uint32, tag = "3")]
    pub declared: u32,
    /// Random identity of this life of the writer group.
    #[prost(fixed64, tag = "4")]
    pub instance: u64,
    /// Whether to continue what is there.
    #[prost(enumeration = "ResumeFrom", tag = "5")]
    pub resume: i32,
    /// With `After`: the step to continue after.
    #[prost(uint64, tag = "11")]
    pub resume_step: u64,
    /// What happens when retention is full.
    #[prost(enumeration = "Policy", tag = "6")]
    pub policy: i32,
    /// When a put counts as stored.
    #[prost(enumeration = "Ack", tag = "7")]
    pub ack: i32,
    /// Steps to retain; 0 for the default.
    #[prost(uint64, tag = "8")]
    pub retain_steps: u64,
    /// Bytes to retain; 0 for the default.
    #[prost(uint64, tag = "9")]
    pub retain_bytes: u64,
    /// Silence after which the writer is held dead; 0 for the default.
    #[prost(uint64, tag = "10")]
    pub lease_ms: u64,
    /// The first step is kept, and is the first that every reader group gets
    /// that opens later.
    #[prost(bool, tag = "12")]
    pub precious_first: bool,
    /// Which reader groups get a step.
    #[prost(enumeration = "Distribution", tag = "13")]
    pub distribution: i32,
}

/// Everything every rank of the writer group needs to put; the root hands it
/// on.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct WriterOpened {
    /// The run to write under.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// The step this epoch continues after, if it resumes.
    #[prost(uint64, optional, tag = "2")]
    pub base: Option<u64>,
    /// The first step number to write.
    #[prost(uint64, tag = "3")]
    pub next_step: u64,
    /// Steps below this are trimmed, but for those `kept`.
    #[prost(uint64, tag = "4")]
    pub oldest: u64,
    /// Steps below `oldest` that stay.
    #[prost(uint64, repeated, tag = "8")]
    pub kept: Vec<u64>,
    /// The shard map to route by.
    #[prost(message, optional, tag = "5")]
    pub map: Option<Map>,
    /// The stream's limit in bytes; a larger step is refused.
    #[prost(uint64, tag = "6")]
    pub limit_bytes: u64,
    /// The lease that was granted.
    #[prost(uint64, tag = "7")]
    pub lease_ms: u64,
}

/// Names a layout of a variable from `step` on.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Define {
    /// The run.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// The writer group.
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    /// The first step it is meant for.
    #[prost(uint64, tag = "3")]
    pub step: u64,
    /// The variable's name.
    #[prost(string, tag = "4")]
    pub variable: String,
    /// What may not change within an epoch: dtype, kind, dimension names.
    #[prost(bytes = "vec", tag = "5")]
    pub fixed: Vec<u8>,
    /// What may change from step to step: shape, chunk grid.
    #[prost(bytes = "vec", tag = "6")]
    pub shape: Vec<u8>,
}

/// Answers `Define`.
#[derive(Clone, Copy, PartialEq, Eq, Wire)]
pub struct Defined {
    /// Names the layout in this life of the stream.
    #[prost(uint32, tag = "1")]
    pub layout: u32,
}

/// Asks to write a step. Asked again with more bytes, it reserves more.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Begin {
    /// The run.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// The writer group.
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    /// The step.
    #[prost(uint64, tag = "3")]
    pub step: u64,
    /// Bytes this writer group expects to put.
    #[prost(uint64, tag = "4")]
    pub reserve_bytes: u64,
    /// How long the home may keep the request waiting.
    #[prost(uint64, tag = "5")]
    pub wait_ms: u64,
}

/// What becomes of a begun step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum Decision {
    /// Not decided in time; ask again.
    Wait = 0,
    /// Write it.
    Go = 1,
    /// It will be discarded: put nothing; do not end it.
    Discard = 2,
}

/// Answers `Begin`.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Began {
    /// What to do.
    #[prost(enumeration = "Decision", tag = "1")]
    pub decision: i32,
    /// Steps below this are trimmed, but for those `kept`; puts carry both on
    /// to the owners.
    #[prost(uint64, tag = "2")]
    pub oldest: u64,
    /// Steps below `oldest` that stay.
    #[prost(uint64, repeated, tag = "4")]
    pub kept: Vec<u64>,
    /// With `Wait`: whom the home waits for.
    #[prost(string, tag = "3")]
    pub waiting_for: String,
}

/// Extremes and sums over elements, as f64.
#[derive(Clone, Copy, PartialEq, Wire)]
pub struct Statistics {
    /// Least value that is not NaN.
    #[prost(double, tag = "1")]
    pub min: f64,
    /// Greatest value that is not NaN.
    #[prost(double, tag = "2")]
    pub max: f64,
    /// Sum of the values that are not NaN.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// Elements that are not NaN.
    #[prost(uint64, tag = "4")]
    pub count: u64,
    /// NaNs.
    #[prost(uint64, tag = "5")]
    pub nans: u64,
}

/// One hyper-rectangle of a variable inside one chunk, stored row-major.
#[derive(Clone, PartialEq, Wire)]
pub struct Piece {
    /// Upper half of the chunk's key on the curve.
    #[prost(fixed64, tag = "1")]
    pub key_high: u64,
    /// Lower half of the chunk's key.
    #[prost(fixed64, tag = "2")]
    pub key_low: u64,
    /// First element, per dimension.
    #[prost(uint64, repeated, tag = "3")]
    pub start: Vec<u64>,
    /// Elements, per dimension.
    #[prost(uint64, repeated, tag = "4")]
    pub count: Vec<u64>,
    /// Order of the user's put within its rank; with slot and rank it says
    /// which of overlapping pieces wins.
    #[prost(uint64, tag = "5")]
    pub order: u64,
    /// Bytes in the body. Pieces lie in the body in the order of this list.
    #[prost(uint64, tag = "6")]
    pub length_bytes: u64,
    /// CRC32C per tile of the stored bytes.
    #[prost(fixed32, repeated, tag = "7")]
    pub checksums: Vec<u32>,
    /// Of the piece's elements.
    #[prost(message, optional, tag = "8")]
    pub statistics: Option<Statistics>,
}

impl Piece {
    /// The chunk's key.
    #[must_use]
    pub fn key(&self) -> u128 {
        (u128::from(self.key_high) << 64) | u128::from(self.key_low)
    }

    /// Sets the chunk's key.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
    pub fn with_key(mut self, key: u128) -> Self {
        self.key_high = (key >> 64) as u64;
        self.key_low = key as u64;
        self
    }
}

/// Pieces of one variable, with a body. Repeating it changes nothing:
/// (run, step, slot, rank, sequence) is its identity.
#[derive(Clone, PartialEq, Wire)]
pub struct Put {
    /// The run.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// [`WriterOpened::base`], by which an owner that meets a new epoch knows
    /// what was withdrawn.
    #[prost(uint64, optional, tag = "2")]
    pub base: Option<u64>,
    /// The step.
    #[prost(uint64, tag = "3")]
    pub step: u64,
    /// The writer group.
    #[prost(uint32, tag = "4")]
    pub slot: u32,
    /// The rank within it.
    #[prost(uint32, tag = "5")]
    pub rank: u32,
    /// Number of this message among the rank's puts of this step.
    #[prost(uint64, tag = "6")]
    pub sequence: u64,
    /// The map the sender routed by.
    #[prost(uint64, tag = "7")]
    pub map_version: u64,
    /// Steps below this are trimmed: the owner may forget them, but for those
    /// `kept`.
    #[prost(uint64, tag = "8")]
    pub oldest: u64,
    /// Steps below `oldest` that stay.
    #[prost(uint64, repeated, tag = "13")]
    pub kept: Vec<u64>,
    /// The variable's name.
    #[prost(string, tag = "9")]
    pub variable: String,
    /// Its layout in this step.
    #[prost(uint32, tag = "10")]
    pub layout: u32,
    /// Bytes of one element; 0 where elements differ (strings) and pieces are
    /// only handed out whole.
    #[prost(uint32, tag = "11")]
    pub element_bytes: u32,
    /// What the body holds.
    #[prost(message, repeated, tag = "12")]
    pub pieces: Vec<Piece>,
}

/// Answers `Put`: data and index are in this incarnation's memory.
#[derive(Clone, Copy, PartialEq, Eq, Wire)]
pub struct Stored {
    /// The owner's identity; `End` names it.
    #[prost(fixed64, tag = "1")]
    pub incarnation: u64,
}

/// How much of a step one owner holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Wire)]
pub struct OwnerShare {
    /// Place in the space's list.
    #[prost(uint32, tag = "1")]
    pub server: u32,
    /// The incarnation that acknowledged.
    #[prost(fixed64, tag = "2")]
    pub incarnation: u64,
    /// Pieces it acknowledged.
    #[prost(uint64, tag = "3")]
    pub pieces: u64,
    /// Payload bytes it acknowledged.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
}

/// A variable's layout in a step.
#[derive(Clone, PartialEq, Wire)]
pub struct VariableLayout {
    /// The variable's name.
    #[prost(string, tag = "1")]
    pub variable: String,
    /// Its layout.
    #[prost(uint32, tag = "2")]
    pub layout: u32,
    /// Over what was put in this step.
    #[prost(message, optional, tag = "3")]
    pub statistics: Option<Statistics>,
}

/// A writer group has stored everything of a step. Repeating it gets the same
/// answer.
#[derive(Clone, PartialEq, Wire)]
pub struct End {
    /// The run.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// The writer group.
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    /// The step.
    #[prost(uint64, tag = "3")]
    pub step: u64,
    /// Simulation time.
    #[prost(double, tag = "4")]
    pub time: f64,
    /// Nanoseconds since 1970 at the writer.
    #[prost(uint64, tag = "5")]
    pub wall_clock_ns: u64,
    /// What each owner acknowledged, over all ranks of the group.
    #[prost(message, repeated, tag = "6")]
    pub owners: Vec<OwnerShare>,
    /// The variables put in this step.
    #[prost(message, repeated, tag = "7")]
    pub variables: Vec<VariableLayout>,
    /// Attributes, encoded by the client.
    #[prost(bytes = "vec", tag = "8")]
    pub attributes: Vec<u8>,
}

/// Withdraws a step that is not sealed.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Abort {
    /// The run.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// The writer group.
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    /// The step.
    #[prost(uint64, tag = "3")]
    pub step: u64,
}

/// Waits for the fate of a step.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct AwaitSeal {
    /// The run.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// The writer group.
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    /// The step.
    #[prost(uint64, tag = "3")]
    pub step: u64,
    /// How long the home may keep the request waiting.
    #[prost(uint64, tag = "4")]
    pub wait_ms: u64,
}

/// How a step stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum StepFate {
    /// Not decided yet.
    Open = 0,
    /// Readers may see it.
    Sealed = 1,
    /// Withdrawn: nobody will see it.
    Aborted = 2,
    /// Shed by policy at begin.
    Discarded = 3,
}

/// Answers `End`, `Abort` and `AwaitSeal`.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Fate {
    /// The step's fate.
    #[prost(enumeration = "StepFate", tag = "1")]
    pub fate: i32,
    /// With `Open`: whom the seal waits for.
    #[prost(string, tag = "2")]
    pub waiting_for: String,
}

/// A writer group will write no more.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct CloseWriter {
    /// The run.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// The writer group.
    #[prost(uint32, tag = "2")]
    pub slot: u32,
}
