//! Which reader groups get a step: what the writer's root of `stream:` and a stream's
//! home of `staging:` decide alike.
//!
//! ```text
//!   all, or precious   every group that wants it
//!   round-robin        the next in the circle of those that want it
//!   on-demand          every group that wants it is told; the first that asks takes it
//! ```
//! Here it is decided, and nothing kept but whose turn it was: the machines hold who is
//! to be told of which step, who has it, and whether it is done.

use crate::config::Distribution;

/// Deals steps out to groups, whom their numbers put in a circle.
#[derive(Clone, Debug)]
pub struct Dealer<Group> {
    distribution: Distribution,
    /// Who had the last turn.
    turn: Option<Group>,
}

/// How a step stands that is held when a group joins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// The step that every group gets.
    pub precious: bool,
    /// A group has had it and let go of it.
    pub done: bool,
    /// A group has it.
    pub claimed: bool,
    /// A group is to be told of it.
    pub pending: bool,
}

impl<Group: Copy + Ord> Dealer<Group> {
    /// One that has dealt nothing.
    #[must_use]
    pub const fn new(distribution: Distribution) -> Self {
        Self {
            distribution,
            turn: None,
        }
    }

    /// How it deals.
    #[must_use]
    pub const fn distribution(&self) -> Distribution {
        self.distribution
    }

    /// Whether a step goes to one group alone, and is done when that one lets go of it.
    #[must_use]
    pub fn deals_once(&self, precious: bool) -> bool {
        self.distribution != Distribution::All && !precious
    }

    /// Hands `give` those of the groups that want a step that are to be told of it. Nobody
    /// has it yet, or any more.
    pub fn deal(
        &mut self,
        precious: bool,
        wanting: impl Iterator<Item = Group>,
        mut give: impl FnMut(Group),
    ) {
        if precious || self.distribution != Distribution::RoundRobin {
            wanting.for_each(give);
            return;
        }
        let (mut first, mut next) = (None, None);
        for group in wanting {
            let before = |other: Option<Group>| other.is_none_or(|other| group < other);
            if before(first) {
                first = Some(group);
            }
            if self.turn < Some(group) && before(next) {
                next = Some(group);
            }
        }
        if let Some(group) = next.or(first) {
            self.turn = Some(group);
            give(group);
        }
    }

    /// Whether a group that joins, and wants a step that is held, is to be told of it.
    #[must_use]
    pub fn joiner_gets(&self, step: Standing) -> bool {
        step.precious
            || match self.distribution {
                Distribution::All => true,
                Distribution::RoundRobin => !step.done && !step.claimed && !step.pending,
                Distribution::OnDemand => !step.done && !step.claimed,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealt(dealer: &mut Dealer<u64>, precious: bool, wanting: &[u64]) -> Vec<u64> {
        let mut given = Vec::new();
        dealer.deal(precious, wanting.iter().copied(), |group| given.push(group));
        given
    }

    #[test]
    fn turns_go_round_among_those_that_want_a_step() {
        let mut dealer = Dealer::new(Distribution::RoundRobin);
        let mut turn = |wanting: &[u64]| dealt(&mut dealer, false, wanting);
        assert_eq!(turn(&[]), []);
        assert_eq!(turn(&[7, 2, 4]), [2]);
        assert_eq!(turn(&[7, 2, 4]), [4]);
        // Who does not want it, or has gone, is passed over.
        assert_eq!(turn(&[2, 4]), [2]);
        assert_eq!(turn(&[9, 7, 2]), [7]);
        assert_eq!(dealt(&mut dealer, true, &[9, 7, 2]), [9, 7, 2]);
        assert_eq!(dealt(&mut dealer, false, &[9, 7, 2]), [9]);
        let mut dealer = Dealer::new(Distribution::OnDemand);
        assert_eq!(dealt(&mut dealer, false, &[3, 1]), [3, 1]);
    }

    #[test]
    fn a_joiner_gets_what_nobody_has_had() {
        let fresh = Standing::default();
        let pending = Standing {
            pending: true,
            ..fresh
        };
        let claimed = Standing {
            claimed: true,
            ..fresh
        };
        let done = Standing {
            done: true,
            ..fresh
        };
        let steps = [fresh, pending, claimed, done];
        for (distribution, gets) in [
            (Distribution::All, [true; 4]),
            (Distribution::RoundRobin, [true, false, false, false]),
            (Distribution::OnDemand, [true, true, false, false]),
        ] {
            let dealer = Dealer::<u64>::new(distribution);
            assert_eq!(steps.map(|step| dealer.joiner_gets(step)), gets);
            let precious = |step| Standing {
                precious: true,
                ..step
            };
            assert!(steps.iter().all(|step| dealer.joiner_gets(precious(*step))));
        }
    }
}
