//! What reader groups ask, and what they are answered: opening, the next
//! step, boxes of it, letting it go.

use prost::{Enumeration, Message as Wire};

use super::{Map, OwnerShare, Run, VariableLayout};

/// Where a reader group starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum StartAt {
    /// The oldest step held.
    Oldest = 0,
    /// The newest sealed step, or the next one if there is none.
    Latest = 1,
    /// The step numbered `step`.
    At = 2,
    /// The step after the one numbered `step`.
    After = 3,
    /// After what the named cursor last committed; a new cursor: the oldest.
    Cursor = 4,
    /// The first step whose simulation time is not before `time`.
    Time = 5,
}

/// A reader group opens a stream.
#[derive(Clone, PartialEq, Wire)]
pub struct OpenReader {
    /// The stream's name.
    #[prost(string, tag = "1")]
    pub stream: String,
    /// The reader group's name.
    #[prost(string, tag = "2")]
    pub group: String,
    /// Random identity of this life of the group; a second one under the same
    /// name fences the first.
    #[prost(fixed64, tag = "3")]
    pub instance: u64,
    /// Where to start.
    #[prost(enumeration = "StartAt", tag = "4")]
    pub start: i32,
    /// For `At` and `After`.
    #[prost(uint64, tag = "5")]
    pub step: u64,
    /// For `Time`.
    #[prost(double, tag = "6")]
    pub time: f64,
    /// For `Cursor`.
    #[prost(string, tag = "7")]
    pub cursor: String,
    /// Silence after which the group's claims end; 0 for the default.
    #[prost(uint64, tag = "8")]
    pub lease_ms: u64,
    /// How long the home may wait for the stream to come into being.
    #[prost(uint64, tag = "9")]
    pub wait_ms: u64,
    /// Ranks of the group that release steps each for itself; 0: the root does
    /// for all, and its calls for the next step list what it holds.
    #[prost(uint32, tag = "10")]
    pub ranks: u32,
}

/// A place between two steps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Wire)]
pub struct Position {
    /// The epoch the reader knows of.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// The last step that is behind; absent: before everything.
    #[prost(uint64, optional, tag = "2")]
    pub after: Option<u64>,
}

/// Answers `OpenReader`; the root hands it on to its ranks.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct ReaderOpened {
    /// The stream's name.
    #[prost(string, tag = "1")]
    pub stream: String,
    /// The life of the stream.
    #[prost(fixed64, tag = "2")]
    pub life: u64,
    /// Where the group stands.
    #[prost(message, optional, tag = "3")]
    pub position: Option<Position>,
    /// The shard map to route by.
    #[prost(message, optional, tag = "4")]
    pub map: Option<Map>,
    /// The lease that was granted.
    #[prost(uint64, tag = "5")]
    pub lease_ms: u64,
    /// The group gets the stream's precious step before any other, wherever it
    /// starts.
    #[prost(bool, tag = "6")]
    pub precious_owed: bool,
}

/// Asks for the next step; a step answered is claimed until released.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Next {
    /// The stream's name.
    #[prost(string, tag = "1")]
    pub stream: String,
    /// Its life.
    #[prost(fixed64, tag = "2")]
    pub life: u64,
    /// The reader group.
    #[prost(string, tag = "3")]
    pub group: String,
    /// Its instance.
    #[prost(fixed64, tag = "4")]
    pub instance: u64,
    /// Where the group stands.
    #[prost(message, optional, tag = "5")]
    pub position: Option<Position>,
    /// The newest step rather than the next one.
    #[prost(bool, tag = "6")]
    pub latest: bool,
    /// Layouts numbered up to this are known to the reader.
    #[prost(uint32, tag = "7")]
    pub known_layouts: u32,
    /// Counts the group's calls: a repetition has the number of the original,
    /// and what is older than the newest is late.
    #[prost(uint64, tag = "10")]
    pub number: u64,
    /// The steps the group holds, as (epoch, step): claims on others end, so
    /// that a lost release does no harm.
    #[prost(message, repeated, tag = "9")]
    pub holds: Vec<Position>,
    /// Whether `holds` says so; not where ranks release each for itself.
    #[prost(bool, tag = "11")]
    pub lists_holds: bool,
    /// How long the home may keep the request waiting.
    #[prost(uint64, tag = "8")]
    pub wait_ms: u64,
    /// [`ReaderOpened::precious_owed`], until the group was given a step. The
    /// precious one does not move the group back.
    #[prost(bool, tag = "12")]
    pub precious_owed: bool,
    /// The `number` of the newest call that was answered with a step, as far as
    /// the group has heard; what was given since never arrived.
    #[prost(uint64, tag = "13")]
    pub heard: u64,
}

/// Why there is no step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum NoStepReason {
    /// Nothing new within the wait; ask again.
    NotYet = 0,
    /// The writers have closed the stream and every step was read.
    Closed = 1,
    /// A writer died; every sealed step was read. `step` is the last sealed.
    WriterLost = 2,
    /// Steps the reader has passed were withdrawn; it stands after `step`
    /// now (absent: before everything), in `epoch`.
    RolledBack = 3,
    /// Steps the reader had not read are gone; `step` is the oldest held or
    /// to come. It stands before that one now.
    Trimmed = 4,
    /// The group's own claims fill the stream's retention, so that waiting
    /// would never end.
    WouldDeadlock = 5,
}

/// Answers `Next` and `OpenReader` when there is no step.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct NoStep {
    /// Why.
    #[prost(enumeration = "NoStepReason", tag = "1")]
    pub reason: i32,
    /// See [`NoStepReason`].
    #[prost(uint64, optional, tag = "2")]
    pub step: Option<u64>,
    /// The current epoch.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// With `NotYet`: whom the home waits for.
    #[prost(string, tag = "4")]
    pub waiting_for: String,
}

/// A layout and its number.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Layout {
    /// Its number.
    #[prost(uint32, tag = "1")]
    pub layout: u32,
    /// The variable's name.
    #[prost(string, tag = "2")]
    pub variable: String,
    /// What may not change within an epoch.
    #[prost(bytes = "vec", tag = "3")]
    pub fixed: Vec<u8>,
    /// What may change from step to step.
    #[prost(bytes = "vec", tag = "4")]
    pub shape: Vec<u8>,
}

/// One writer group's attributes.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct SlotAttributes {
    /// The writer group.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// As the client encoded them.
    #[prost(bytes = "vec", tag = "2")]
    pub attributes: Vec<u8>,
}

/// A sealed step: everything a reader needs to find its data.
#[derive(Clone, PartialEq, Wire)]
pub struct SealedStep {
    /// The epoch that wrote it.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// The step.
    #[prost(uint64, tag = "2")]
    pub step: u64,
    /// Simulation time, of the lowest slot.
    #[prost(double, tag = "3")]
    pub time: f64,
    /// Nanoseconds since 1970 at the lowest slot.
    #[prost(uint64, tag = "4")]
    pub wall_clock_ns: u64,
    /// Who holds how much.
    #[prost(message, repeated, tag = "5")]
    pub owners: Vec<OwnerShare>,
    /// The variables.
    #[prost(message, repeated, tag = "6")]
    pub variables: Vec<VariableLayout>,
    /// Attributes by writer group.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<SlotAttributes>,
    /// Layouts of these variables that the reader does not know yet.
    #[prost(message, repeated, tag = "8")]
    pub layouts: Vec<Layout>,
    /// The reader knows layouts up to this number now.
    #[prost(uint32, tag = "9")]
    pub known_layouts: u32,
}

/// Ends a claim.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Release {
    /// The stream, its life, and the epoch of the step.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// The reader group.
    #[prost(string, tag = "2")]
    pub group: String,
    /// Its instance.
    #[prost(fixed64, tag = "3")]
    pub instance: u64,
    /// The step.
    #[prost(uint64, tag = "4")]
    pub step: u64,
    /// The rank that is done with it; the claim ends with the last one.
    #[prost(uint32, tag = "5")]
    pub rank: u32,
}

/// Moves a named cursor behind a step.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Commit {
    /// The stream, its life, and the epoch of the step.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// The reader group.
    #[prost(string, tag = "2")]
    pub group: String,
    /// Its instance.
    #[prost(fixed64, tag = "3")]
    pub instance: u64,
    /// The cursor.
    #[prost(string, tag = "4")]
    pub cursor: String,
    /// The step that is done.
    #[prost(uint64, tag = "5")]
    pub step: u64,
}

/// A reader group leaves; its claims end.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct CloseReader {
    /// The stream's name.
    #[prost(string, tag = "1")]
    pub stream: String,
    /// Its life.
    #[prost(fixed64, tag = "2")]
    pub life: u64,
    /// The reader group.
    #[prost(string, tag = "3")]
    pub group: String,
    /// Its instance.
    #[prost(fixed64, tag = "4")]
    pub instance: u64,
    /// [`Next::heard`].
    #[prost(uint64, tag = "5")]
    pub heard: u64,
}

/// A hyper-rectangle.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Wire)]
pub struct Region {
    /// First element, per dimension.
    #[prost(uint64, repeated, tag = "1")]
    pub start: Vec<u64>,
    /// Elements, per dimension.
    #[prost(uint64, repeated, tag = "2")]
    pub count: Vec<u64>,
}

/// What is wanted of one variable.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Query {
    /// The variable's name.
    #[prost(string, tag = "1")]
    pub variable: String,
    /// The layout the reader knows it by.
    #[prost(uint32, tag = "2")]
    pub layout: u32,
    /// The boxes.
    #[prost(message, repeated, tag = "3")]
    pub boxes: Vec<Region>,
}

/// Asks one owner for everything wanted of one step, at once.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Get {
    /// The run that wrote the step.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// The step.
    #[prost(uint64, tag = "2")]
    pub step: u64,
    /// This owner's share as the sealed step states it; anything else held
    /// here means that data was lost, and nothing is answered.
    #[prost(message, optional, tag = "3")]
    pub share: Option<OwnerShare>,
    /// What is wanted.
    #[prost(message, repeated, tag = "4")]
    pub queries: Vec<Query>,
}

/// One part of the body of `Got`.
#[derive(Clone, PartialEq, Wire)]
pub struct GotPiece {
    /// Index into [`Get::queries`].
    #[prost(uint32, tag = "1")]
    pub query: u32,
    /// Index into [`Query::boxes`].
    #[prost(uint32, tag = "2")]
    pub region: u32,
    /// First element sent, per dimension.
    #[prost(uint64, repeated, tag = "3")]
    pub start: Vec<u64>,
    /// Elements sent, per dimension.
    #[prost(uint64, repeated, tag = "4")]
    pub count: Vec<u64>,
    /// The writer group that put it.
    #[prost(uint32, tag = "5")]
    pub slot: u32,
    /// The rank that put it.
    #[prost(uint32, tag = "6")]
    pub rank: u32,
    /// Order of the put within its rank.
    #[prost(uint64, tag = "7")]
    pub order: u64,
    /// Bytes in the body. Parts lie in the body in the order of this list.
    #[prost(uint64, tag = "8")]
    pub length_bytes: u64,
    /// CRC32C per tile of the bytes sent.
    #[prost(fixed32, repeated, tag = "9")]
    pub checksums: Vec<u32>,
    /// It is as its writer packed it, and whole.
    #[prost(bool, tag = "10")]
    pub packed: bool,
}

/// Answers `Get`, with a body.
#[derive(Clone, PartialEq, Wire)]
pub struct Got {
    /// What the body holds.
    #[prost(message, repeated, tag = "1")]
    pub pieces: Vec<GotPiece>,
}
