//! Bugs that the simulator's tests plant, to show that it would find them.
//!
//! Without the feature `mutants` (which only this crate's own tests turn on)
//! nothing can be planted and every question here is a constant `false`.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// An owner acknowledges a put, and indexes it only with the next one.
    AcknowledgeBeforeIndex,
    /// The home seals a step that one declared writer has not ended.
    SealWithoutOneWriter,
    /// An owner takes puts that were routed by another map.
    AcceptStaleMap,
    /// The home takes requests of a fenced epoch.
    NoFenceAtHome,
    /// A repeated put is stored and counted again.
    CountRepeatedPut,
    /// A step is trimmed although a reader group has claimed it.
    TrimClaimedStep,
    /// Readers are shown a step before it is sealed.
    WakeBeforeSeal,
    /// An owner does not compare what it holds with what was sealed.
    ForgetIncarnation,
    /// Steps that a new epoch withdrew stay visible.
    KeepWithdrawnSteps,
    /// A repeated request for the next step, long answered, claims again.
    ClaimOnRepeatedNext,
    /// A request kept waiting is not answered when its time is over.
    ForgetPending,
    /// An owner does not look at its limit.
    IgnoreLimit,
    /// An owner forgets a step below the watermark that is to stay.
    TrimKeptStep,
    /// A group that opens is not given the precious step first.
    PreciousLast,
    /// A step that is for one group is given to two.
    GiveTwice,
    /// What a group that is gone was to get is given to nobody else.
    LoseInherited,
    /// Where the oldest are dropped, none goes before one that is claimed.
    StayBehindClaimed,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::AcknowledgeBeforeIndex,
        Self::SealWithoutOneWriter,
        Self::AcceptStaleMap,
        Self::NoFenceAtHome,
        Self::CountRepeatedPut,
        Self::TrimClaimedStep,
        Self::WakeBeforeSeal,
        Self::ForgetIncarnation,
        Self::KeepWithdrawnSteps,
        Self::ClaimOnRepeatedNext,
        Self::ForgetPending,
        Self::IgnoreLimit,
        Self::TrimKeptStep,
        Self::PreciousLast,
        Self::GiveTwice,
        Self::LoseInherited,
        Self::StayBehindClaimed,
    ];
}

/// Which bug a machine has, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Planted {
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

impl Planted {
    /// A machine with this bug.
    #[cfg(feature = "mutants")]
    pub(super) fn with(mutant: Mutant) -> Self {
        Self {
            mutant: Some(mutant),
        }
    }

    /// Whether the machine has this bug.
    #[cfg(feature = "mutants")]
    pub(super) fn has(self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Whether the machine has this bug: never.
    #[cfg(not(feature = "mutants"))]
    pub(super) const fn has(self, _mutant: Mutant) -> bool {
        false
    }
}
