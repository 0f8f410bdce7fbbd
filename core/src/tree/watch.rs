//! Who holds a round up: pieced together from what neighbours report.
//!
//! A rank sees only its neighbours. If rank 5 is stuck, rank 2 waits for it,
//! rank 0 for 2, and everybody else for 0. So that an error names rank 5,
//! ranks tell their neighbours whom they wait for, once half of their time
//! has passed and whenever it changes after that.

use super::MAX_RANKS_NAMED;
use panta_transports::time::{Time, Wait};

/// The most reports of a rank in one round.
const MAX_REPORTS: u32 = 64;

#[derive(Debug)]
pub(super) struct Watch {
    children: Vec<Child>,
    parent: Option<usize>,
    /// Whom the parent waits for.
    above: Vec<usize>,
    report_from: Time,
    reported: Vec<usize>,
    reports_left: u32,
}

#[derive(Debug)]
struct Child {
    rank: usize,
    came: bool,
    /// Whom it waits for itself.
    below: Vec<usize>,
}

impl Watch {
    pub(super) fn new(children: Vec<usize>, parent: Option<usize>, wait: &Wait) -> Self {
        let children = children.into_iter().map(|rank| Child {
            rank,
            came: false,
            below: Vec::new(),
        });
        Self {
            children: children.collect(),
            parent,
            above: Vec::new(),
            report_from: Time::now().after(wait.deadline().remaining() / 2),
            reported: Vec::new(),
            reports_left: MAX_REPORTS,
        }
    }

    pub(super) fn child_came(&mut self, index: usize) {
        self.children[index].came = true;
    }

    pub(super) fn child_awaits(&mut self, index: usize, ranks: Vec<usize>) {
        self.children[index].below = ranks;
    }

    pub(super) fn parent_awaits(&mut self, ranks: Vec<usize>) {
        self.above = ranks;
    }

    /// The ranks below whose parts are missing.
    pub(super) fn awaited_below(&self) -> Vec<usize> {
        let mut ranks = Vec::new();
        for child in self.children.iter().filter(|child| !child.came) {
            match child.below.as_slice() {
                [] => ranks.push(child.rank),
                below => ranks.extend_from_slice(below),
            }
        }
        ranks.truncate(MAX_RANKS_NAMED);
        ranks.sort_unstable();
        ranks
    }

    /// The ranks that keep the root from giving its word.
    pub(super) fn awaited_above(&self) -> Vec<usize> {
        match self.above.as_slice() {
            [] => self.parent.into_iter().collect(),
            above => above.to_vec(),
        }
    }

    /// Whether it is time to tell the neighbours, and there is news.
    pub(super) fn should_report(&mut self, awaited: &[usize]) -> bool {
        let due = self.reports_left > 0 && Time::now() >= self.report_from;
        if !due || awaited.is_empty() || self.reported == awaited {
            return false;
        }
        self.reported = awaited.to_vec();
        self.reports_left -= 1;
        true
    }
}
