//! The messages of `staging:` version 2, as they stand on the wire.
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

mod looking;
mod reading;
mod writing;

pub use looking::*;
pub use reading::*;
pub use writing::*;

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

/// Answers requests that need no more.
#[derive(Clone, Copy, PartialEq, Eq, Wire)]
pub struct Done {}

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

/// Steps of a run that an owner may forget.
#[derive(Clone, PartialEq, Eq, Wire)]
pub struct Watermark {
    /// The run.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// [`WriterOpened::base`].
    #[prost(uint64, optional, tag = "2")]
    pub base: Option<u64>,
    /// Every step below this one, but for those `kept`.
    #[prost(uint64, tag = "3")]
    pub oldest: u64,
    /// Steps below `oldest` that stay.
    #[prost(uint64, repeated, tag = "5")]
    pub kept: Vec<u64>,
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
