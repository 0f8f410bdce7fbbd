//! How an error goes from the rank that met it to the others of its group.

use std::fmt;
use std::time::Duration;

use super::{BeginError, CloseError, EndError, Failure, Fault, NextError, OpenError, Place};
use crate::codec::{DecodeError, Decoder, Encoder};

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
        Fault::Communicator { why } => (244, vec![], vec![why.clone()]),
        Fault::RankLost { rank, why } => (246, vec![*rank as u64], vec![why.clone()]),
        Fault::Away { away, silence } => {
            (245, vec![nanoseconds(*away), nanoseconds(*silence)], vec![])
        }
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
        244 => Fault::Communicator { why: text(0) },
        246 => Fault::RankLost { rank, why: text(0) },
        245 => Fault::Away {
            away: Duration::from_nanos(number),
            silence: Duration::from_nanos(numbers.get(1).copied().unwrap_or_default()),
        },
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
