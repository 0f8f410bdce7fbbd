//! The messages of `staging:` version 1, as they stand on the wire.
//!
//! Each is a protobuf message, written by hand in Rust with prost's derive;
//! `docs/wire.md` lists fields and tags. Unknown fields are skipped, so later
//! versions may add some. Payload is never inside: a message that has one is
//! followed by a body, whose length its fields add up to.
//!
//! What is here is only shape. Limits are [`super::codec`]'s, meaning is the
//! machines'.
//!
//! Words: a *life* is the incarnation of the home a stream was created at;
//! (stream, life, epoch) names one run of its writers and is never used twice.

use prost::{Enumeration, Message as Wire, Oneof};

/// One request or answer. Answers repeat the number of their request.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// Chosen by the client, unique on its side; answers repeat it.
    pub request: u64,
    /// What is asked or answered.
    pub kind: Kind,
}

impl Message {
    /// A message of `kind` numbered `request`.
    #[must_use]
    pub fn new(request: u64, kind: Kind) -> Self {
        Self { request, kind }
    }
}

/// The frame's content as prost sees it.
#[derive(Clone, PartialEq, Wire)]
pub(crate) struct Envelope {
    #[prost(uint64, tag = "1")]
    pub(super) request: u64,
    #[prost(
        oneof = "Kind",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, \
                40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53"
    )]
    pub(super) kind: Option<Kind>,
}

/// What a message is. Tags below 40 are requests, the others answers.
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    /// First on every connection, answered by `Welcome`.
    #[prost(message, tag = "10")]
    Hello(Hello),
    /// To the home: a writer group opens a stream.
    #[prost(message, tag = "11")]
    OpenWriter(OpenWriter),
    /// To the home: names a layout.
    #[prost(message, tag = "12")]
    Define(Define),
    /// To the home: asks to write a step, or to reserve more for it.
    #[prost(message, tag = "13")]
    Begin(Begin),
    /// To an owner, with a body: pieces of one variable.
    #[prost(message, tag = "14")]
    Put(Put),
    /// To the home: this writer group has stored everything of a step.
    #[prost(message, tag = "15")]
    End(End),
    /// To the home: withdraws an unsealed step.
    #[prost(message, tag = "16")]
    Abort(Abort),
    /// To the home: asks or waits for the fate of an ended step.
    #[prost(message, tag = "17")]
    AwaitSeal(AwaitSeal),
    /// To the home: this writer group will write no more.
    #[prost(message, tag = "18")]
    CloseWriter(CloseWriter),
    /// To the home: a reader group opens a stream.
    #[prost(message, tag = "19")]
    OpenReader(OpenReader),
    /// To the home: asks or waits for the next step.
    #[prost(message, tag = "20")]
    Next(Next),
    /// To the home: the group is done with a step.
    #[prost(message, tag = "21")]
    Release(Release),
    /// To the home: moves a named cursor.
    #[prost(message, tag = "22")]
    Commit(Commit),
    /// To the home: the reader group leaves.
    #[prost(message, tag = "23")]
    CloseReader(CloseReader),
    /// To an owner: asks for boxes of one step.
    #[prost(message, tag = "24")]
    Get(Get),
    /// To the home: the sender lives. Not answered.
    #[prost(message, tag = "25")]
    Alive(Alive),
    /// To any server: the streams it is home to.
    #[prost(message, tag = "26")]
    ListStreams(ListStreams),
    /// To the home: one stream's variables and steps.
    #[prost(message, tag = "27")]
    Describe(Describe),
    /// To an owner: steps it may forget. Not answered.
    #[prost(message, tag = "28")]
    Watermark(Watermark),

    /// Answers `Hello`.
    #[prost(message, tag = "40")]
    Welcome(Welcome),
    /// Answers `OpenWriter`.
    #[prost(message, tag = "41")]
    WriterOpened(WriterOpened),
    /// Answers `Define`.
    #[prost(message, tag = "42")]
    Defined(Defined),
    /// Answers `Begin`.
    #[prost(message, tag = "43")]
    Began(Began),
    /// Answers `Put`: data and index are in.
    #[prost(message, tag = "44")]
    Stored(Stored),
    /// Answers `End`, `Abort` and `AwaitSeal`.
    #[prost(message, tag = "45")]
    Fate(Fate),
    /// Answers what needs no more than "done".
    #[prost(message, tag = "46")]
    Done(Done),
    /// Answers `OpenReader`.
    #[prost(message, tag = "47")]
    ReaderOpened(ReaderOpened),
    /// Answers `Next` (and `OpenReader` while there is no stream) with
    /// anything but a step.
    #[prost(message, tag = "48")]
    NoStep(NoStep),
    /// Answers `Next` with a step.
    #[prost(message, tag = "49")]
    SealedStep(SealedStep),
    /// Answers `Get`, with a body.
    #[prost(message, tag = "50")]
    Got(Got),
    /// Answers `ListStreams`.
    #[prost(message, tag = "51")]
    Streams(Streams),
    /// Answers `Describe`.
    #[prost(message, tag = "52")]
    Described(Described),
    /// Answers anything that was not done.
    #[prost(message, tag = "53")]
    Refused(Refused),
}

/// First message of a client on a connection.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Hello {
    /// [`super::limits::PROTOCOL_VERSION`] of the sender.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// xxh3 of the server names the client believes to form the space; 0 from
    /// one who asks for them.
    #[prost(fixed64, tag = "2")]
    pub space: u64,
}

/// A server introduces itself.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Welcome {
    /// Its protocol version.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Its place in the space's list.
    #[prost(uint32, tag = "2")]
    pub server: u32,
    /// Its identity; a restarted server has another.
    #[prost(fixed64, tag = "3")]
    pub incarnation: u64,
    /// The shard map it goes by.
    #[prost(message, optional, tag = "4")]
    pub map: Option<Map>,
}

/// A version of the shard map; its bytes are the routing's business.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Map {
    /// Grows with every change.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// The encoded map.
    #[prost(bytes = "vec", tag = "2")]
    pub bytes: Vec<u8>,
}

/// One run of a stream's writers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Wire)]
pub struct Run {
    /// The stream's name.
    #[prost(string, tag = "1")]
    pub stream: String,
    /// Incarnation of the home that created the stream.
    #[prost(fixed64, tag = "2")]
    pub life: u64,
    /// Epoch within that life; from 1.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
}

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
    /// Old steps go to disk; refused in version 1.
    Spill = 3,
}

/// When a put counts as stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum Ack {
    /// In the owner's memory, with its index.
    Memory = 0,
    /// In the memory of every replica; refused in version 1.
    Replica = 1,
    /// On disk; refused in version 1.
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
    /// Steps below this are trimmed.
    #[prost(uint64, tag = "4")]
    pub oldest: u64,
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
    /// Steps below this are trimmed; puts carry it on to the owners.
    #[prost(uint64, tag = "2")]
    pub oldest: u64,
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
    /// Steps below this are trimmed: the owner may forget them.
    #[prost(uint64, tag = "8")]
    pub oldest: u64,
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

/// Answers requests that need no more.
#[derive(Clone, Copy, PartialEq, Eq, Wire)]
pub struct Done {}

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
}

/// Answers `Get`, with a body.
#[derive(Clone, PartialEq, Wire)]
pub struct Got {
    /// What the body holds.
    #[prost(message, repeated, tag = "1")]
    pub pieces: Vec<GotPiece>,
}

/// A writer or reader group lives, and speaks on this connection now.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Alive {
    /// The stream's name.
    #[prost(string, tag = "1")]
    pub stream: String,
    /// The instance that opened it.
    #[prost(fixed64, tag = "2")]
    pub instance: u64,
}

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
    /// Oldest step held.
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

/// Steps of a run that an owner may forget.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Watermark {
    /// The run.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// [`WriterOpened::base`].
    #[prost(uint64, optional, tag = "2")]
    pub base: Option<u64>,
    /// Every step below this one.
    #[prost(uint64, tag = "3")]
    pub oldest: u64,
    /// This step too: it was aborted.
    #[prost(uint64, optional, tag = "4")]
    pub aborted: Option<u64>,
}

/// Why a request was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum Reason {
    /// The message breaks a rule of the protocol.
    Malformed = 0,
    /// Another protocol version, or another list of servers.
    WrongVersion = 1,
    /// The connection's key does not allow it.
    NotAllowed = 2,
    /// Not in this version: spill, replicas, disk.
    Unsupported = 3,
    /// No stream of that name here.
    UnknownStream = 4,
    /// The stream lived in an earlier incarnation of this home and is gone.
    StreamLost = 5,
    /// A newer epoch or instance has taken over.
    Fenced = 6,
    /// The sender routed by an old map; the new one comes along.
    StaleMap = 7,
    /// The owner's memory is full; try again.
    Full = 8,
    /// The step exceeds the stream's limit.
    StepTooLarge = 9,
    /// The step's end states more bytes than were reserved.
    BeyondReservation = 10,
    /// Two writers disagree about a variable; the first definition comes
    /// along.
    Disagreement = 11,
    /// The owner that acknowledged the data was restarted: it is lost.
    ServerLost = 12,
    /// The step is trimmed or withdrawn.
    Trimmed = 13,
    /// The owner holds something else than the sealed step states.
    Incomplete = 14,
    /// A table of the server is full.
    TooMany = 15,
    /// The step is not where this request fits: not begun, ended, sealed.
    WrongState = 16,
}

/// Answers what was not done, and says why.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Refused {
    /// Why.
    #[prost(enumeration = "Reason", tag = "1")]
    pub reason: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub detail: String,
    /// Bytes: the limit, or what was reserved.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// A step: the oldest held, the last sealed.
    #[prost(uint64, optional, tag = "4")]
    pub step: Option<u64>,
    /// With `StaleMap`.
    #[prost(message, optional, tag = "5")]
    pub map: Option<Map>,
    /// With `Disagreement`: what the first writer defined.
    #[prost(message, optional, tag = "6")]
    pub first: Option<Layout>,
}

impl Refused {
    /// A refusal with nothing but a reason and its text.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        let mut end = detail.len().min(super::limits::DETAIL_LIMIT_BYTES);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        detail.truncate(end);
        Self {
            reason: reason as i32,
            detail,
            ..Self::default()
        }
    }
}
