//! Errors: a closed enum for each operation, with a common [`Fault`] for what
//! can befall any of them.
//!
//! Every message says what went wrong, where, and what to try. Operations that
//! are collective give the same error on every rank of the group, so the enums
//! can travel: [`Travels`] turns them into bytes and back.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use panta_transports::time::WaitError;

use crate::codec::{DecodeError, Decoder, Encoder};
use crate::model::{DefinitionError, SelectionError};

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
    /// This writer was replaced by a later one.
    #[error("a later writer (epoch {epoch}) has taken the stream over; this one can write no more")]
    Fenced {
        /// The later writer's epoch.
        epoch: u64,
    },
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

/// The form in which a variant travels: a code from 1, numbers, texts.
pub type Shorthand = (u8, Vec<u64>, Vec<String>);

/// An error that can go from the rank that met it to the others.
///
/// What readers and writers act on keeps its form; all else arrives as
/// [`Fault::OnRank`], naming the rank and carrying its words.
pub trait Travels: Sized + From<Failure> + fmt::Display {
    /// The parts of a variant that keeps its form.
    fn shorthand(&self) -> Option<Shorthand>;
    /// The variant of these parts.
    fn from_shorthand(parts: &Shorthand, place: &Place) -> Option<Self>;
    /// The failure, if it is one.
    fn failure(&self) -> Option<&Failure>;

    /// The error's bytes, as met on `rank`.
    fn pack(&self, rank: usize) -> Vec<u8> {
        let (code, numbers, texts) = self
            .shorthand()
            .or_else(|| fault_shorthand(&self.failure()?.fault))
            .unwrap_or_else(|| {
                let rank = u64::try_from(rank).unwrap_or(u64::MAX);
                (ON_RANK, vec![rank], vec![self.to_string()])
            });
        let mut encoder = Encoder::default();
        encoder.u8(code).u64s(&numbers).texts(&texts);
        encoder.finish()
    }

    /// The error of these bytes, the same on every rank that unpacks them.
    fn unpack(bytes: &[u8], place: &Place) -> Self {
        let parts = |from: &mut Decoder<'_>| -> Result<_, DecodeError> {
            Ok((from.u8()?, from.u64s()?, from.texts()?))
        };
        match parts(&mut Decoder::new(bytes)) {
            Ok(parts) => Self::from_shorthand(&parts, place)
                .unwrap_or_else(|| fault_from_shorthand(&parts).at(place.clone()).into()),
            Err(problem) => Fault::corrupt("an error sent by another rank", &problem)
                .at(place.clone())
                .into(),
        }
    }
}

const ON_RANK: u8 = 255;

fn fault_shorthand(fault: &Fault) -> Option<Shorthand> {
    Some(match fault {
        Fault::OnRank { rank, what } => (ON_RANK, vec![*rank as u64], vec![what.clone()]),
        Fault::Fenced { epoch } => (254, vec![*epoch], vec![]),
        Fault::Interrupted { awaiting } => (253, vec![], vec![awaiting.clone()]),
        Fault::Deadline { awaiting, after } => {
            (252, vec![nanoseconds(*after)], vec![awaiting.clone()])
        }
        Fault::PeerLost { peer, why } => (251, vec![], vec![peer.clone(), why.clone()]),
        Fault::Refused { peer, why } => (250, vec![], vec![peer.clone(), why.clone()]),
        Fault::Corrupt { what, problem } => (249, vec![], vec![what.clone(), problem.clone()]),
        Fault::Unsupported {
            engine,
            what,
            instead,
        } => (
            248,
            vec![],
            vec![engine.clone(), what.clone(), instead.clone()],
        ),
        Fault::Io { doing, why } => (247, vec![], vec![doing.clone(), why.clone()]),
        Fault::RankLost { rank, why } => (246, vec![*rank as u64], vec![why.clone()]),
    })
}

fn fault_from_shorthand((code, numbers, texts): &Shorthand) -> Fault {
    let text = |index: usize| texts.get(index).cloned().unwrap_or_default();
    let number = numbers.first().copied().unwrap_or_default();
    let rank = usize::try_from(number).unwrap_or(usize::MAX);
    match code {
        254 => Fault::Fenced { epoch: number },
        253 => Fault::Interrupted { awaiting: text(0) },
        252 => Fault::Deadline {
            awaiting: text(0),
            after: Duration::from_nanos(number),
        },
        251 => Fault::PeerLost {
            peer: text(0),
            why: text(1),
        },
        250 => Fault::Refused {
            peer: text(0),
            why: text(1),
        },
        249 => Fault::Corrupt {
            what: text(0),
            problem: text(1),
        },
        248 => Fault::Unsupported {
            engine: text(0),
            what: text(1),
            instead: text(2),
        },
        247 => Fault::Io {
            doing: text(0),
            why: text(1),
        },
        246 => Fault::RankLost { rank, why: text(0) },
        _ => Fault::OnRank {
            rank,
            what: text(0),
        },
    }
}

fn pack_option(value: Option<u64>) -> Vec<u64> {
    value.into_iter().collect()
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

macro_rules! failure_of {
    () => {
        #[allow(
            irrefutable_let_patterns,
            reason = "some of the enums have this one variant only"
        )]
        fn failure(&self) -> Option<&Failure> {
            if let Self::Failed(failure) = self {
                Some(failure)
            } else {
                None
            }
        }
    };
}

impl Travels for OpenError {
    failure_of!();

    fn shorthand(&self) -> Option<Shorthand> {
        match self {
            Self::Config(what) => Some((1, vec![], vec![what.clone()])),
            Self::NotFound { what, after, .. } => {
                Some((2, vec![nanoseconds(*after)], vec![what.clone()]))
            }
            Self::Busy { holder, .. } => Some((3, vec![], vec![holder.clone()])),
            Self::Failed(_) => None,
        }
    }

    fn from_shorthand((code, numbers, texts): &Shorthand, place: &Place) -> Option<Self> {
        let stream = place.stream.clone();
        Some(match (code, numbers.as_slice(), texts.as_slice()) {
            (1, [], [what]) => Self::Config(what.clone()),
            (2, [after], [what]) => Self::NotFound {
                stream,
                what: what.clone(),
                after: Duration::from_nanos(*after),
            },
            (3, [], [holder]) => Self::Busy {
                stream,
                holder: holder.clone(),
            },
            _ => return None,
        })
    }
}

impl Travels for CloseError {
    failure_of!();

    fn shorthand(&self) -> Option<Shorthand> {
        None
    }

    fn from_shorthand(_: &Shorthand, _: &Place) -> Option<Self> {
        None
    }
}

impl Travels for NextError {
    failure_of!();

    fn shorthand(&self) -> Option<Shorthand> {
        let (code, numbers) = match self {
            Self::NotReady { after, .. } => (1, vec![nanoseconds(*after)]),
            Self::WriterLost { last_sealed, .. } => (2, pack_option(*last_sealed)),
            Self::RolledBack { to, .. } => (3, pack_option(*to)),
            Self::Trimmed { oldest, .. } => (4, pack_option(*oldest)),
            Self::WouldDeadlock {
                held_bytes,
                limit_bytes,
                ..
            } => (5, vec![*held_bytes, *limit_bytes]),
            Self::Failed(_) => return None,
        };
        Some((code, numbers, vec![]))
    }

    fn from_shorthand((code, numbers, _): &Shorthand, place: &Place) -> Option<Self> {
        let stream = place.stream.clone();
        let first = numbers.first().copied();
        Some(match (code, numbers.as_slice()) {
            (1, [after]) => Self::NotReady {
                stream,
                after: Duration::from_nanos(*after),
            },
            (2, _) => Self::WriterLost {
                stream,
                last_sealed: first,
            },
            (3, _) => Self::RolledBack { stream, to: first },
            (4, _) => Self::Trimmed {
                stream,
                oldest: first,
            },
            (5, [held_bytes, limit_bytes]) => Self::WouldDeadlock {
                stream,
                held_bytes: *held_bytes,
                limit_bytes: *limit_bytes,
            },
            _ => return None,
        })
    }
}

impl Travels for BeginError {
    failure_of!();

    fn shorthand(&self) -> Option<Shorthand> {
        match self {
            Self::InStep { step, .. } => Some((1, vec![*step], vec![])),
            Self::StepTooLarge {
                bytes, limit_bytes, ..
            } => Some((2, vec![*bytes, *limit_bytes], vec![])),
            Self::Disagreement { place, difference } => Some((
                3,
                vec![],
                vec![
                    place.variable.clone().unwrap_or_default(),
                    difference.clone(),
                ],
            )),
            Self::Failed(_) => None,
        }
    }

    fn from_shorthand((code, numbers, texts): &Shorthand, place: &Place) -> Option<Self> {
        Some(match (code, numbers.as_slice(), texts.as_slice()) {
            (1, [step], []) => Self::InStep {
                stream: place.stream.clone(),
                step: *step,
            },
            (2, [bytes, limit_bytes], []) => Self::StepTooLarge {
                place: place.clone(),
                bytes: *bytes,
                limit_bytes: *limit_bytes,
            },
            (3, [], [variable, difference]) => Self::Disagreement {
                place: place.clone().of_variable(variable),
                difference: difference.clone(),
            },
            _ => return None,
        })
    }
}

impl Travels for EndError {
    failure_of!();

    fn shorthand(&self) -> Option<Shorthand> {
        match self {
            Self::InDoubt { why, .. } => Some((1, vec![], vec![why.clone()])),
            Self::Overlap { place, what } => Some((
                2,
                vec![],
                vec![place.variable.clone().unwrap_or_default(), what.clone()],
            )),
            Self::Failed(_) => None,
        }
    }

    fn from_shorthand((code, _, texts): &Shorthand, place: &Place) -> Option<Self> {
        Some(match (code, texts.as_slice()) {
            (1, [why]) => Self::InDoubt {
                place: place.clone(),
                why: why.clone(),
            },
            (2, [variable, what]) => Self::Overlap {
                place: place.clone().of_variable(variable),
                what: what.clone(),
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_travelled_is_the_same_and_keeps_the_rank_that_met_it() {
        let place = Place::stream("run").at_step(3);
        let lost = NextError::WriterLost {
            stream: "run".into(),
            last_sealed: None,
        };
        assert_eq!(NextError::unpack(&lost.pack(0), &place), lost);
        let overlap = EndError::Overlap {
            place: place.clone().of_variable("u"),
            what: "ranks 0 and 1".into(),
        };
        assert_eq!(EndError::unpack(&overlap.pack(0), &place), overlap);
        let far = EndError::from(
            Fault::OnRank {
                rank: 2,
                what: "disk full".into(),
            }
            .at(place.clone()),
        );
        assert_eq!(EndError::unpack(&far.pack(0), &place), far);
    }

    #[test]
    fn garbage_in_place_of_an_error_is_an_error() {
        let error = OpenError::unpack(&[7, 255, 255, 255, 255], &Place::stream("run"));
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}
