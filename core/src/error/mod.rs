//! Errors: a closed enum for each operation, with a common [`Fault`] for what
//! can befall any of them.
//!
//! Every message says what went wrong, where, and what to try. Operations that
//! are collective give the same error on every rank of the group, so the enums
//! can travel: [`Travels`] turns them into bytes and back.

mod travels;

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use panta_transports::coupling::Away;
use panta_transports::time::WaitError;

use crate::codec::DecodeError;
use crate::model::{DefinitionError, SelectionError};

pub use travels::{Shorthand, Travels};

/// Where an error happened. Boxed, so that results stay small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(Box<Where>);

/// The parts of a [`Place`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Where {
    /// The stream, as it was opened.
    pub stream: String,
    /// The step's number.
    pub step: Option<u64>,
    /// The variable.
    pub variable: Option<String>,
    /// The rank within its group.
    pub rank: Option<usize>,
}

impl Deref for Place {
    type Target = Where;

    fn deref(&self) -> &Where {
        &self.0
    }
}

impl Place {
    /// A stream.
    #[must_use]
    pub fn stream(stream: &str) -> Self {
        Self(Box::new(Where {
            stream: stream.to_owned(),
            ..Where::default()
        }))
    }

    /// The same place at a step.
    #[must_use]
    pub fn at_step(mut self, step: u64) -> Self {
        self.0.step = Some(step);
        self
    }

    /// The same place in a variable.
    #[must_use]
    pub fn of_variable(mut self, variable: &str) -> Self {
        self.0.variable = Some(variable.to_owned());
        self
    }

    /// The same place on a rank.
    #[must_use]
    pub fn on_rank(mut self, rank: usize) -> Self {
        self.0.rank = Some(rank);
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "stream `{}`", self.stream)?;
        if let Some(step) = self.step {
            write!(formatter, ", step {step}")?;
        }
        if let Some(variable) = &self.variable {
            write!(formatter, ", variable `{variable}`")?;
        }
        if let Some(rank) = self.rank {
            write!(formatter, ", rank {rank}")?;
        }
        Ok(())
    }
}

/// What can befall any operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The operating system refused something.
    #[error("{doing}: {why}")]
    Io {
        /// What was being done, with the path or address.
        doing: String,
        /// The system's words.
        why: String,
    },
    /// The ranks of a group could not find each other.
    #[error("the ranks of this group did not come together: {why}")]
    Communicator {
        /// What the communicator said, or what the ranks disagree about.
        why: String,
    },
    /// A wait ended at its deadline.
    #[error("{awaiting} did not come within {after:?}; raise `deadline` if it may take longer")]
    Deadline {
        /// Whom or what was waited for.
        awaiting: String,
        /// How long.
        after: Duration,
    },
    /// A wait was interrupted by the caller.
    #[error("interrupted while waiting for {awaiting}")]
    Interrupted {
        /// Whom or what was waited for.
        awaiting: String,
    },
    /// A rank of this group died.
    #[error(
        "rank {rank} of this group is lost ({why}); close the stream and reopen it with the ranks that live"
    )]
    RankLost {
        /// The rank.
        rank: usize,
        /// How it showed.
        why: String,
    },
    /// A rank of this group failed; the same error comes out on every rank.
    #[error("rank {rank} failed: {what}")]
    OnRank {
        /// The rank.
        rank: usize,
        /// Its error.
        what: String,
    },
    /// A server, writer or other peer is gone.
    #[error("{peer} is lost: {why}")]
    PeerLost {
        /// Who, with its address.
        peer: String,
        /// How it showed, and what to try.
        why: String,
    },
    /// A peer said no.
    #[error("{peer} refused: {why}")]
    Refused {
        /// Who, with its address.
        peer: String,
        /// Its reason, and what to try.
        why: String,
    },
    /// Bytes are not what was written.
    #[error("{what} is damaged: {problem}")]
    Corrupt {
        /// Which bytes: file and offset, or peer and message.
        what: String,
        /// What is wrong with them.
        problem: String,
    },
    /// The engine cannot do this.
    #[error("`{engine}:` cannot {what}; {instead}")]
    Unsupported {
        /// The engine's scheme.
        engine: String,
        /// What was asked for.
        what: String,
        /// What to do instead.
        instead: String,
    },
    /// This process made no call for longer than it had declared with `silence`.
    #[error(
        "this process stayed away for {away:?} and had declared `silence={silence:?}`, so its peers hold it dead; open the stream again, and declare a longer silence or call `progress` in between"
    )]
    Away {
        /// How long it stayed away.
        away: Duration,
        /// How long it had said that it would at most.
        silence: Duration,
    },
    /// This writer was replaced by a later one.
    #[error("a later writer (epoch {epoch}) has taken the stream over; this one can write no more")]
    Fenced {
        /// The later writer's epoch.
        epoch: u64,
    },
}

impl From<Away> for Fault {
    fn from(away: Away) -> Self {
        Self::Away {
            away: away.for_,
            silence: away.silence,
        }
    }
}

impl Fault {
    /// An error of the operating system.
    #[must_use]
    pub fn io(doing: impl Into<String>, why: &dyn fmt::Display) -> Self {
        Self::Io {
            doing: doing.into(),
            why: why.to_string(),
        }
    }

    /// A wait that ended.
    #[must_use]
    pub fn wait(error: WaitError, awaiting: impl Into<String>) -> Self {
        match error {
            WaitError::Deadline(after) => Self::Deadline {
                awaiting: awaiting.into(),
                after,
            },
            WaitError::Interrupted => Self::Interrupted {
                awaiting: awaiting.into(),
            },
        }
    }

    /// Bytes that do not decode.
    #[must_use]
    pub fn corrupt(what: impl Into<String>, problem: &DecodeError) -> Self {
        Self::Corrupt {
            what: what.into(),
            problem: problem.to_string(),
        }
    }
}

/// A fault and where it struck.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct Failure {
    /// Where.
    pub place: Place,
    /// What.
    pub fault: Fault,
}

impl Fault {
    /// The fault with its place.
    #[must_use]
    pub fn at(self, place: Place) -> Failure {
        Failure { place, fault: self }
    }
}

/// Why a stream cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The name, URL or a parameter is wrong; says which and names the nearest valid one.
    #[error("{0}")]
    Config(String),
    /// Nothing answers to that name.
    #[error(
        "stream `{stream}`: {what} was not there after {after:?}; start the writer, or raise `deadline`"
    )]
    NotFound {
        /// The stream.
        stream: String,
        /// What was looked for.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// Another writer holds it.
    #[error(
        "stream `{stream}` is being written by {holder}; wait until it closes, or choose another name"
    )]
    Busy {
        /// The stream.
        stream: String,
        /// Who.
        holder: String,
    },
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why a variable or attribute cannot be defined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefineError {
    /// The definition contradicts itself.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// It contradicts an earlier one.
    #[error("variable `{name}` is already defined differently: {difference}")]
    Redefined {
        /// The variable.
        name: String,
        /// In what they differ.
        difference: String,
    },
    /// There is no such variable.
    #[error("there is no variable `{name}`{}", nearest_hint(.nearest.as_deref()))]
    UnknownVariable {
        /// The name asked for.
        name: String,
        /// The nearest name there is.
        nearest: Option<String>,
    },
    /// Definitions were frozen.
    #[error("{what} of `{name}`: definitions are frozen; define all before `freeze_definitions`")]
    Frozen {
        /// The variable; of an attribute of the stream its name.
        name: String,
        /// What was to change.
        what: &'static str,
    },
}

/// Why a step cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// A step has begun and not ended.
    #[error("stream `{stream}`: step {step} has not ended; end or drop it before the next begins")]
    InStep {
        /// The stream.
        stream: String,
        /// The step that is open.
        step: u64,
    },
    /// The step asks for more than the limit.
    #[error(
        "{place}: {bytes} bytes are asked for, the limit is {limit_bytes}; raise `limit` or put less in a step"
    )]
    StepTooLarge {
        /// Where.
        place: Place,
        /// Bytes asked for.
        bytes: u64,
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// Writers disagree about a variable.
    #[error("{place}: writers disagree: {difference}; define the variable alike everywhere")]
    Disagreement {
        /// Where, with the variable.
        place: Place,
        /// In what, and who.
        difference: String,
    },
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why a block cannot be put.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// No step has begun.
    #[error("stream `{stream}`: put outside a step; call begin_step first")]
    NoStep {
        /// The stream.
        stream: String,
    },
    /// The elements are of another type.
    #[error("{place}: elements are {given}, the variable is defined as {defined}")]
    DTypeMismatch {
        /// Where.
        place: Place,
        /// The type defined.
        defined: &'static str,
        /// The type given.
        given: &'static str,
    },
    /// The block does not fit the variable.
    #[error("{place}: {problem}")]
    Shape {
        /// Where.
        place: Place,
        /// What does not fit.
        problem: String,
    },
    /// The step holds more than the limit.
    #[error(
        "{place}: the step would hold {bytes} bytes on this rank, the limit is {limit_bytes}; raise `limit` or put less in a step"
    )]
    StepTooLarge {
        /// Where.
        place: Place,
        /// Bytes of the step with this put.
        bytes: u64,
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why a step was not sealed. Unless in doubt, readers will never see it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// Whether it was sealed is not known; ask again with the same step.
    #[error(
        "{place}: it is not known whether the step was sealed ({why}); reopen the stream and look"
    )]
    InDoubt {
        /// Where.
        place: Place,
        /// What broke.
        why: String,
    },
    /// Blocks of a variable overlap, and `checked` forbids it.
    #[error("{place}: {what}; put disjoint blocks, or open without `checked`")]
    Overlap {
        /// Where.
        place: Place,
        /// Which blocks of which ranks.
        what: String,
    },
    /// Anything else; the step was given up on every rank.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why there is no next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NextError {
    /// None came by the deadline; ask again.
    #[error("stream `{stream}`: no step after {after:?}; the writer is alive, ask again")]
    NotReady {
        /// The stream.
        stream: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The writer died.
    #[error("stream `{stream}`: the writer is lost; {}", last_sealed_hint(.last_sealed))]
    WriterLost {
        /// The stream.
        stream: String,
        /// The last step it sealed.
        last_sealed: Option<u64>,
    },
    /// The writer restarted from an older step; steps after `to` are withdrawn.
    #[error(
        "stream `{stream}`: the writer went back; steps after {to:?} are withdrawn, the next call gives their successors"
    )]
    RolledBack {
        /// The stream.
        stream: String,
        /// The last step that still holds; `None` if none does.
        to: Option<u64>,
    },
    /// The step asked for is no longer held.
    #[error("stream `{stream}`: that step is no longer held; the oldest is {oldest:?}")]
    Trimmed {
        /// The stream.
        stream: String,
        /// The oldest step still held.
        oldest: Option<u64>,
    },
    /// This reader's own kept steps hold the whole limit.
    #[error(
        "stream `{stream}`: kept steps hold {held_bytes} of {limit_bytes} bytes; drop some before waiting for more"
    )]
    WouldDeadlock {
        /// The stream.
        stream: String,
        /// Bytes held.
        held_bytes: u64,
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why data cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// The step has no such variable.
    #[error("{place}: there is no such variable{}", nearest_hint(.nearest.as_deref()))]
    UnknownVariable {
        /// Where, with the name asked for.
        place: Place,
        /// The nearest name there is.
        nearest: Option<String>,
    },
    /// The elements are of another type.
    #[error("{place}: elements are {stored}, asked for as {asked}")]
    DTypeMismatch {
        /// Where.
        place: Place,
        /// The type stored.
        stored: &'static str,
        /// The type asked for.
        asked: &'static str,
    },
    /// The selection does not fit the array.
    #[error("{place}: {error}")]
    Selection {
        /// Where.
        place: Place,
        /// What does not fit.
        error: SelectionError,
    },
    /// The array given for the result, or the result's dimensions, do not fit.
    #[error("{place}: {problem}")]
    Shape {
        /// Where.
        place: Place,
        /// What does not fit.
        problem: String,
    },
    /// There is no such block.
    #[error("{place}: there is no block {block}, there are {blocks}")]
    NoSuchBlock {
        /// Where.
        place: Place,
        /// The block asked for.
        block: u32,
        /// How many there are.
        blocks: usize,
    },
    /// Nobody put these cells, and the variable has no fill value.
    #[error(
        "{place}: nobody put the cells from {start:?}, {count:?} of them; select less, or define a fill value"
    )]
    NotCovered {
        /// Where.
        place: Place,
        /// First cell of a box that is not covered.
        start: Vec<u64>,
        /// Its cells per dimension.
        count: Vec<u64>,
    },
    /// Bytes have changed since they were put.
    #[error("{place}, block {block} of rank {writer_rank}: {problem}; the data are damaged")]
    Checksum {
        /// Where.
        place: Place,
        /// The block.
        block: u32,
        /// Who put it.
        writer_rank: u32,
        /// Which bytes, and the two checksums.
        problem: String,
    },
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why a stream was not closed cleanly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// Anything.
    #[error(transparent)]
    Failed(#[from] Failure),
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn last_sealed_hint(last_sealed: &Option<u64>) -> String {
    last_sealed.map_or_else(
        || "it sealed no step".into(),
        |step| format!("the last sealed step is {step}"),
    )
}
