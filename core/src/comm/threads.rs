//! A group whose ranks are threads of one process.
//!
//! For tests, for coupling inside one program, and for hosts that run one
//! process a node. A rank is dead when its [`ThreadComm`] has been dropped.

use super::{Comm, CommError};
use panta_transports::time::Wait;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Makes groups of threads.
#[derive(Clone, Copy, Debug)]
pub struct Threads;

impl Threads {
    /// A group of `size` ranks: one communicator for each thread, in rank
    /// order. A `size` of zero gives none.
    #[must_use]
    pub fn group(size: usize) -> Vec<ThreadComm> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                contributions: vec![None; size],
                ranks: vec![Rank::default(); size],
                rounds_completed: 0,
                outcome: Arc::new(Vec::new()),
                failure: None,
            }),
            changed: Condvar::new(),
        });
        (0..size)
            .map(|rank| ThreadComm {
                rank,
                size,
                rounds_joined: 0,
                shared: Arc::clone(&shared),
            })
            .collect()
    }
}

/// One rank of a group of threads; give it to the thread that is that rank.
#[derive(Debug)]
pub struct ThreadComm {
    rank: usize,
    size: usize,
    rounds_joined: u64,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Debug, Default)]
struct Rank {
    /// Its communicator has been dropped.
    gone: bool,
    /// It has taken the outcome of this many rounds.
    rounds_taken: u64,
}

#[derive(Debug)]
struct State {
    contributions: Vec<Option<Vec<u8>>>,
    ranks: Vec<Rank>,
    rounds_completed: u64,
    outcome: Arc<Vec<Vec<u8>>>,
    /// Sticks, and is everybody's answer from then on.
    failure: Option<CommError>,
}

impl State {
    /// Ends the round once everybody has contributed *and* has taken the
    /// outcome of the round before, which would be overwritten.
    fn complete_if_ready(&mut self) -> bool {
        let all_in = self.contributions.iter().all(Option::is_some);
        let all_taken = self
            .ranks
            .iter()
            .all(|rank| rank.gone || rank.rounds_taken == self.rounds_completed);
        if !(all_in && all_taken) {
            return false;
        }
        let outcome = self.contributions.iter_mut().filter_map(Option::take);
        self.outcome = Arc::new(outcome.collect());
        self.rounds_completed += 1;
        true
    }

    fn missing(&self) -> Vec<usize> {
        let absent = |(_, contribution): &(usize, &Option<Vec<u8>>)| contribution.is_none();
        let ranks = self.contributions.iter().enumerate().filter(absent);
        ranks.map(|(rank, _)| rank).collect()
    }

    /// A rank that is gone and had not contributed: the round cannot end.
    fn lost(&self) -> Option<usize> {
        let missing = self.missing();
        missing.into_iter().find(|&rank| self.ranks[rank].gone)
    }
}

impl Shared {
    /// A panic of another rank's thread leaves the state whole: each change
    /// under the lock is complete.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Comm for ThreadComm {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn allgather(&mut self, bytes: &[u8], wait: &Wait) -> Result<Vec<Vec<u8>>, CommError> {
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        state.contributions[self.rank] = Some(bytes.to_vec());
        self.rounds_joined += 1;
        if state.complete_if_ready() {
            self.shared.changed.notify_all();
        }
        while state.rounds_completed < self.rounds_joined {
            let failure = match (&state.failure, state.lost(), wait.slice()) {
                (Some(failure), _, _) => failure.clone(),
                (None, Some(rank), _) => CommError::RankLost { rank },
                (None, None, Err(error)) => CommError::from_wait(error, state.missing()),
                (None, None, Ok(slice)) => {
                    let waited = self.shared.changed.wait_timeout(state, slice);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                    continue;
                }
            };
            state.failure = Some(failure.clone());
            self.shared.changed.notify_all();
            return Err(failure);
        }
        let outcome = Arc::clone(&state.outcome);
        state.ranks[self.rank].rounds_taken = self.rounds_joined;
        if state.complete_if_ready() {
            self.shared.changed.notify_all();
        }
        drop(state);
        Ok(outcome.to_vec())
    }
}

impl Drop for ThreadComm {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ranks[self.rank].gone = true;
        let _completed = state.complete_if_ready();
        drop(state);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use panta_transports::time::Interrupt;
    use std::thread;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn every_rank_gets_every_string_in_rank_order_round_after_round() {
        for size in [1, 2, 5, 64] {
            thread::scope(|scope| {
                for mut comm in Threads::group(size) {
                    scope.spawn(move || {
                        for round in 0..20 {
                            let text = |rank| format!("{round}/{rank}").repeat(rank % 3);
                            let own = text(comm.rank());
                            let wait = Wait::for_at_most(LONG);
                            let all = comm.allgather(own.as_bytes(), &wait).unwrap();
                            let expected = (0..size).map(|rank| text(rank).into_bytes());
                            assert_eq!(all, expected.collect::<Vec<_>>());
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_dropped_rank_ends_the_round_of_the_others_at_once() {
        let mut group = Threads::group(3);
        drop(group.remove(1));
        for mut comm in group {
            let wait = Wait::for_at_most(LONG);
            let result = comm.allgather(b"", &wait);
            assert_eq!(result, Err(CommError::RankLost { rank: 1 }));
        }
    }

    #[test]
    fn a_rank_may_leave_once_it_has_its_answer() {
        let mut group = Threads::group(2).into_iter();
        let (mut first, mut second) = (group.next().unwrap(), group.next().unwrap());
        let leaver = thread::spawn(move || first.allgather(b"a", &Wait::for_at_most(LONG)));
        let stayed = second.allgather(b"b", &Wait::for_at_most(LONG));
        assert_eq!(stayed.unwrap(), [b"a".to_vec(), b"b".to_vec()]);
        assert!(leaver.join().unwrap().is_ok());
    }

    #[test]
    fn a_deadline_names_the_missing_ranks_and_sticks_for_the_others() {
        let mut group = Threads::group(3).into_iter();
        let mut first = group.next().unwrap();
        let result = first.allgather(b"", &Wait::for_at_most(Duration::ZERO));
        let expected = CommError::Deadline {
            awaiting: vec![1, 2],
            after: Duration::ZERO,
        };
        assert_eq!(result, Err(expected.clone()));
        let mut second = group.next().unwrap();
        let late = second.allgather(b"", &Wait::for_at_most(LONG));
        assert_eq!(late, Err(expected));
    }

    #[test]
    fn an_interrupt_ends_the_wait() {
        let interrupt = Interrupt::default();
        interrupt.set();
        let mut group = Threads::group(2);
        let result = group[0].allgather(b"", &Wait::new(LONG, &interrupt));
        assert_eq!(result, Err(CommError::Interrupted));
    }
}
