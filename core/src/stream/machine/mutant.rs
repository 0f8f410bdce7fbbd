//! Bugs that the simulator's tests plant, to show that it would find them.
//!
//! Without the feature `mutants` (which only this crate's own tests turn on)
//! nothing can be planted and every question here is a constant `false`.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// A step is dropped although a group was told of it.
    EvictClaimed,
    /// A reservation is counted only when its step is sealed.
    ForgetReservation,
    /// Dropping begins with the newest step of a group that gets them all.
    DropUnderBlock,
    /// What a lost group held stays held.
    KeepClaimsOfLost,
    /// A silent group is never fenced.
    NeverFence,
    /// A lost group's step is given to nobody else.
    LoseInherited,
    /// A distributed step goes to two groups.
    GiveTwice,
    /// A joiner is not shown the precious step first.
    PreciousLast,
    /// A joiner that missed steps is not told so.
    HideTrimmed,
    /// A group that has seen withdrawn steps is not told so.
    HideRollback,
    /// A commit moves the cursor one step too far.
    CommitTooFar,
    /// The stream ends for a group before it was told of its last step.
    CloseEarly,
    /// What is retained for late joiners stays when room is needed.
    RetainBeyondLimit,
    /// A step that is being spilled is announced before it lies in the file.
    AnnounceWhileSpilling,
    /// A step that could not be spilled is announced as if it had been.
    TrustFailedSpill,
    /// A step that could not be spilled is left out in silence.
    HideFailedSpill,
    /// A step is spilled before one that may be spilled later and comes before it.
    SpillOutOfOrder,
    /// Who waits no longer for readers leaves what they did not let go of in memory alone.
    AbandonUnwritten,
    /// An open step that asked for more, and was given up waiting, counts for nothing.
    ForgetOnGiveUp,
    /// A step that asked for more gets it when it is open no more.
    GrowWhenGone,
    /// A step that asks for more is counted twice.
    CountGrowthTwice,
    /// A reader releases a step as it is delivered.
    ReleaseEarly,
    /// A reader never finds that the writer waits for it.
    MissDeadlock,
    /// A reader delivers what the lost writer's memory took along.
    DeliverGone,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::EvictClaimed,
        Self::ForgetReservation,
        Self::DropUnderBlock,
        Self::KeepClaimsOfLost,
        Self::NeverFence,
        Self::LoseInherited,
        Self::GiveTwice,
        Self::PreciousLast,
        Self::HideTrimmed,
        Self::HideRollback,
        Self::CommitTooFar,
        Self::CloseEarly,
        Self::RetainBeyondLimit,
        Self::AnnounceWhileSpilling,
        Self::TrustFailedSpill,
        Self::HideFailedSpill,
        Self::SpillOutOfOrder,
        Self::AbandonUnwritten,
        Self::ForgetOnGiveUp,
        Self::GrowWhenGone,
        Self::CountGrowthTwice,
        Self::ReleaseEarly,
        Self::MissDeadlock,
        Self::DeliverGone,
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
