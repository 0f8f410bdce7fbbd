//! The client's side without its I/O: a writer's or reader's rank.
//!
//! A driver turns a blocking call of the engine into one
//! [`ClientEvent::Call`], then carries messages until the
//! [`ClientAction::Finished`] with the call's number appears. Several calls
//! may be under way at once (all puts of a step, gets from all servers).
//!
//! ```text
//!   engine --Call--> machine --Connect, Send--> channels to the servers
//!   engine <-Finished- machine <--Message, Disconnected-- channels
//! ```
//!
//! Every call has a deadline; when it passes, the call finishes with an error
//! that names the server awaited and what that server was waiting for. A
//! request whose connection broke, or whose answer stays away, is repeated:
//! every request of the protocol can be.

mod reader;
mod requests;
mod writer;

pub use reader::ReaderMachine;
pub use writer::{WriterMachine, merge_shares};

use super::message::{Decision, ReaderOpened};
use super::message::{
    Described, Fate, Got, Layout, Message, Reason, SealedStep, StreamSummary, WriterOpened,
};
use super::{RegionId, ServerId};
use panta_transports::time::Time;
use std::time::Duration;

/// A call, as the driver numbers it; never reused with one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What happens to a client. `Call` is [`WriterCall`] or [`ReaderCall`].
#[derive(Debug)]
pub enum ClientEvent<Call> {
    /// The application wants something.
    Call {
        /// Its number.
        id: CallId,
        /// What it wants.
        call: Call,
        /// By when.
        deadline: Time,
        /// The length the deadline was made from, for errors.
        length: Duration,
    },
    /// The application has given a call up (an interrupt); it will not finish.
    Forget {
        /// The call.
        id: CallId,
    },
    /// A connection asked for is there. The machine says `Hello` itself.
    Connected {
        /// To which server.
        server: ServerId,
    },
    /// A connection asked for could not be made, or one has ended.
    Disconnected {
        /// From which server.
        server: ServerId,
        /// Why, for people.
        detail: String,
    },
    /// A message has come (decoded, its body kept as a region).
    Message {
        /// From which server.
        server: ServerId,
        /// The message.
        message: Message,
        /// Its body, which belongs to the machine until `Finished` hands it
        /// over or `Drop` gives it back.
        body: Option<RegionId>,
    },
    /// Time has passed.
    Tick,
}

/// What a client wants done.
#[derive(Debug)]
pub enum ClientAction {
    /// Connect to a server; answered by `Connected` or `Disconnected`.
    Connect {
        /// Which.
        server: ServerId,
    },
    /// Close the connection to a server; not answered.
    Disconnect {
        /// Which.
        server: ServerId,
    },
    /// Send a message and its body. The region stays the driver's; it must
    /// stay readable until the put's call has finished.
    Send {
        /// To which server.
        server: ServerId,
        /// The message.
        message: Message,
        /// Its body.
        body: Option<RegionId>,
    },
    /// A call is over.
    Finished {
        /// Which.
        id: CallId,
        /// How.
        result: Result<Answer, ClientError>,
    },
    /// A received body that nobody waits for any more.
    Drop {
        /// The region.
        region: RegionId,
    },
}

/// What a writer's application can want. Only the root makes calls other than
/// `Put`.
#[derive(Clone, Debug, PartialEq)]
pub enum WriterCall {
    /// Open the stream. Answer: `Opened`, to be handed to every rank's
    /// [`WriterMachine::attach`].
    Open(super::message::OpenWriter),
    /// Name a layout. A layout named before costs no round trip.
    /// Answer: `Defined`.
    Define {
        /// First step it is for.
        step: u64,
        /// The variable.
        variable: String,
        /// dtype, kind, dimension names.
        fixed: Vec<u8>,
        /// Shape, chunk grid.
        shape: Vec<u8>,
    },
    /// Begin a step, or reserve more for it. Answer: `Began`.
    Begin {
        /// The step.
        step: u64,
        /// Bytes the group will put, over all ranks.
        reserve_bytes: u64,
    },
    /// Store pieces at one server; any rank. Answer: `Stored`.
    Put(PutCall),
    /// All ranks have stored. Answer: `Fate`.
    End(EndCall),
    /// Withdraw an unsealed step. Answer: `Fate`.
    Abort {
        /// The step.
        step: u64,
    },
    /// Wait until a step is sealed or withdrawn. Answer: `Fate`.
    AwaitSeal {
        /// The step.
        step: u64,
    },
    /// No more steps. Answer: `Done`.
    Close,
}

/// Pieces of one variable for one server.
#[derive(Clone, Debug, PartialEq)]
pub struct PutCall {
    /// The owner, by the shard map.
    pub server: ServerId,
    /// The step.
    pub step: u64,
    /// What [`Answer::Began`] said.
    pub oldest: u64,
    /// The same.
    pub kept: Vec<u64>,
    /// Version of the map the pieces were routed by.
    pub map_version: u64,
    /// The variable.
    pub variable: String,
    /// Its layout.
    pub layout: u32,
    /// Bytes of an element; 0 where elements differ.
    pub element_bytes: u32,
    /// The pieces, in the order of the body.
    pub pieces: Vec<super::message::Piece>,
    /// Their bytes.
    pub body: RegionId,
}

/// The end of a step, by the root.
#[derive(Clone, Debug, PartialEq)]
pub struct EndCall {
    /// The step.
    pub step: u64,
    /// Simulation time.
    pub time: f64,
    /// Nanoseconds since 1970.
    pub wall_clock_ns: u64,
    /// Shares of all ranks, merged by [`merge_shares`].
    pub owners: Vec<super::message::OwnerShare>,
    /// The variables put.
    pub variables: Vec<super::message::VariableLayout>,
    /// Attributes, encoded.
    pub attributes: Vec<u8>,
}

/// What a reader's application can want. Only the root makes calls other than
/// `Get`.
#[derive(Clone, Debug, PartialEq)]
pub enum ReaderCall {
    /// Open the stream. Answer: `ReaderOpened`, to be handed to every rank's
    /// [`ReaderMachine::attach`].
    Open(super::message::OpenReader),
    /// The next step, or the newest. Answer: `Next`.
    Next {
        /// The newest rather than the next.
        latest: bool,
        /// Answer [`NextAnswer::NotYet`] at once instead of waiting.
        poll: bool,
    },
    /// Boxes of a step from one server; any rank. Answer: `Got`.
    Get {
        /// The owner.
        server: ServerId,
        /// The step, as [`NextAnswer::Step`] gave it.
        epoch: u64,
        /// Its number.
        step: u64,
        /// The owner's share of it.
        share: super::message::OwnerShare,
        /// What is wanted.
        queries: Vec<super::message::Query>,
    },
    /// Done with a step. Answer: `Done`.
    Release {
        /// Its epoch.
        epoch: u64,
        /// The step.
        step: u64,
    },
    /// Move a cursor behind a step. Answer: `Done`.
    Commit {
        /// The cursor.
        cursor: String,
        /// Its epoch.
        epoch: u64,
        /// The step.
        step: u64,
    },
    /// Leave. Answer: `Done`.
    Close,
    /// The streams a server is home to. Needs no `Open`. Answer: `Streams`.
    ListStreams {
        /// The server.
        server: ServerId,
    },
    /// One stream in full. Needs no `Open`. Answer: `Described`.
    Describe {
        /// Its name.
        stream: String,
    },
}

/// How a call ended well.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To `WriterCall::Open`.
    Opened(WriterOpened),
    /// To `Define`: the layout's number.
    Defined(u32),
    /// To `Begin`: `Go` or `Discard`.
    Began {
        /// What becomes of the step.
        decision: Decision,
        /// Steps below are trimmed, but for those `kept`; puts carry both.
        oldest: u64,
        /// Steps below `oldest` that stay.
        kept: Vec<u64>,
    },
    /// To `Put`.
    Stored,
    /// To `End`, `Abort`, `AwaitSeal`.
    Fate(Fate),
    /// To what needs no more.
    Done,
    /// To `ReaderCall::Open`.
    ReaderOpened(ReaderOpened),
    /// To `Next`.
    Next(NextAnswer),
    /// To `Get`.
    Got {
        /// What the body holds.
        got: Got,
        /// The body, the caller's now.
        body: Option<RegionId>,
    },
    /// To `ListStreams`.
    Streams(Vec<StreamSummary>),
    /// To `Describe`.
    Described(Box<Described>),
}

/// What comes next in a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum NextAnswer {
    /// A step, claimed until released.
    Step(Box<SealedStep>),
    /// Nothing yet (polling only).
    NotYet {
        /// Whom the home waits for.
        waiting_for: String,
    },
    /// The stream is closed and read to its end.
    Closed,
    /// A writer died; every sealed step was read.
    WriterLost {
        /// The last sealed step.
        last_sealed: Option<u64>,
    },
    /// Steps after `to` that the reader has seen were withdrawn; it goes on
    /// after `to`.
    RolledBack {
        /// The step the writers went back to; `None`: they began anew.
        to: Option<u64>,
    },
    /// Steps the reader had not seen are gone; it goes on with `oldest`.
    Trimmed {
        /// The oldest held, or the first to come.
        oldest: Option<u64>,
    },
    /// The reader's own claims fill the stream's retention.
    WouldDeadlock,
}

/// How a call ended badly.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// The deadline passed.
    #[error("{operation} was not done within {length:?}: waited for {awaited}")]
    Deadline {
        /// What was wanted.
        operation: &'static str,
        /// Whom it waited for, and whom that one waited for.
        awaited: String,
        /// How long.
        length: Duration,
    },
    /// No connection could be made by the deadline.
    #[error(
        "{operation}: {server} ({name}) could not be reached within {length:?}: {detail}; is it running?"
    )]
    Unreachable {
        /// What was wanted.
        operation: &'static str,
        /// The server.
        server: ServerId,
        /// Its name.
        name: String,
        /// How long.
        length: Duration,
        /// What the last attempt said.
        detail: String,
    },
    /// A server refused; `reason` says what kind of error it is.
    #[error("{operation} was refused by {server} ({name}): {reason:?}: {detail}")]
    Refused {
        /// What was wanted.
        operation: &'static str,
        /// The server.
        server: ServerId,
        /// Its name.
        name: String,
        /// Why.
        reason: Reason,
        /// For people.
        detail: String,
        /// With `StepTooLarge`, `BeyondReservation`, `Full`: the limit.
        bytes: u64,
        /// With `Trimmed`: the oldest step held.
        step: Option<u64>,
        /// With `Disagreement`: what the first writer defined.
        first: Option<Box<Layout>>,
    },
    /// A server answered with something else than was asked.
    #[error("{operation}: {server} ({name}) broke the protocol: {detail}")]
    Protocol {
        /// What was wanted.
        operation: &'static str,
        /// The server.
        server: ServerId,
        /// Its name.
        name: String,
        /// What it did.
        detail: String,
    },
    /// The call does not fit: not opened, too many at once, no such server.
    #[error("{operation} cannot be done now: {detail}")]
    Misuse {
        /// What was wanted.
        operation: &'static str,
        /// Why not.
        detail: &'static str,
    },
    /// The ranks of one step met two lives of one server: what the first
    /// life acknowledged is lost.
    #[error(
        "{operation}: {server} ({name}) was restarted within the step and has lost what it had stored"
    )]
    ServerLost {
        /// What was wanted.
        operation: &'static str,
        /// The server.
        server: ServerId,
        /// Its name.
        name: String,
    },
}

/// What a client machine is given at start.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The names of all servers of the space, in the order all agree on.
    pub names: Vec<String>,
    /// This rank's number in its group (puts are ordered by it).
    pub rank: u32,
    /// Silence after which a request is repeated.
    pub retry_after: Duration,
}
