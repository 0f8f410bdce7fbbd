//! What becomes of steps' memory, as the root tells its ranks: all of them when a step
//! begins, and one that needs more than it reserved when it asks.

use crate::codec::{Coded, DecodeError, Decoder, Encoder};

/// No room is made for an open step that asks for more, whatever goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) limit_bytes: u64,
}

/// Bytes that a rank asks for in all, for the step that is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) needed: u64,
    /// More than these, that earlier steps may go for, if there can be as many.
    pub(super) wished: u64,
}

/// What a rank hears that needs more for the step that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// The memory of these of its steps.
    Of(Vec<(u64, Fate)>),
    None(TooLarge),
}

impl Coded for Room {
    fn encode(&self, into: &mut Encoder) {
        match self {
            Self::Of(steps) => {
                into.u8(1).length(steps.len());
                for (step, fate) in steps {
                    into.u64(*step).u8(fate.number());
                }
            }
            Self::None(TooLarge { limit_bytes }) => {
                into.u8(0).u64(*limit_bytes);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        if from.u8()? == 0 {
            let limit_bytes = from.u64()?;
            return Ok(Self::None(TooLarge { limit_bytes }));
        }
        let steps = (0..from.count(9)?).map(|_| {
            let (step, fate) = (from.u64()?, from.u8()?);
            let fate = Fate::from_number(fate);
            let fate = fate.ok_or_else(|| from.error("no such fate of a step"))?;
            Ok((step, fate))
        });
        Ok(Self::Of(steps.collect::<Result<_, DecodeError>>()?))
    }
}

/// What is to become of a step's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may be used again.
    Free,
    /// It is never used again.
    Retire,
    /// It may be used again when the step lies in the spill file.
    Spill,
    /// It stays as it is, and the step is to lie in the spill file too.
    Write,
}

impl Fate {
    /// Its byte form.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Free => 0,
            Self::Retire => 1,
            Self::Spill => 2,
            Self::Write => 3,
        }
    }

    /// What a number stands for.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Free, Self::Retire, Self::Spill, Self::Write]
            .into_iter()
            .find(|fate| fate.number() == number)
    }
}
