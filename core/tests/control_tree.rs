//! The control tree between threads: right answers, one outcome, no hang.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use panta_core::comm::{Comm, Threads};
use panta_core::tree::{ControlTree, Failure, MAX_FRAME_BYTES, Operation, TreeError, TreeOptions};
use panta_transports::time::{Interrupt, Time, Wait};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// A scenario's own deadline; reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);
/// Far below [`LONG`], far above what anything here takes.
const AT_ONCE: Duration = Duration::from_secs(20);

fn wait() -> Wait {
    Wait::for_at_most(LONG)
}

fn options(fan_out: usize) -> TreeOptions {
    TreeOptions {
        fan_out,
        ..TreeOptions::default()
    }
}

/// Runs `body` on every rank of a group of threads; results in rank order.
fn on_ranks<T: Send>(
    size: usize,
    fan_out: usize,
    body: impl Fn(ControlTree) -> T + Sync,
) -> Vec<T> {
    let body = &body;
    thread::scope(|scope| {
        let spawn = |mut comm: panta_core::comm::ThreadComm| {
            scope.spawn(move || {
                let tree = ControlTree::connect(&mut comm, &options(fan_out), &wait());
                body(tree.unwrap())
            })
        };
        let ranks: Vec<_> = Threads::group(size).into_iter().map(spawn).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn text(rank: usize, round: usize) -> Vec<u8> {
    format!("{rank}:{round};").repeat(rank % 4).into_bytes()
}

/// Some work whose length varies from rank to rank and round to round.
fn dawdle(rank: usize, round: usize) {
    for _ in 0..(rank * 7 + round * 3) % 11 {
        thread::yield_now();
    }
}

#[test]
fn collectives_give_the_right_answers_in_rank_order_for_every_shape() {
    for size in [1, 2, 5, 64, 65, 130] {
        for fan_out in [2, 64] {
            on_ranks(size, fan_out, |mut tree| {
                let rank = tree.rank();
                for round in 0..4 {
                    dawdle(rank, round);
                    let all: Vec<_> = (0..size).map(|rank| text(rank, round)).collect();
                    let gathered = tree.gather(text(rank, round), &wait()).unwrap();
                    assert_eq!(gathered, (rank == 0).then(|| all.clone()));

                    dawdle(rank, round + 5);
                    let word = format!("round {round}").into_bytes();
                    let given = (rank == 0).then(|| word.clone());
                    assert_eq!(tree.broadcast(given, &wait()).unwrap(), word);

                    let decided = tree.agree(
                        Ok(text(rank, round)),
                        |said| {
                            let parts: Result<Vec<_>, _> = said.into_iter().collect();
                            parts.unwrap().concat()
                        },
                        &wait(),
                    );
                    assert_eq!(decided.unwrap(), all.concat());
                    tree.barrier(&wait()).unwrap();
                }
            });
        }
    }
}

#[test]
fn the_failure_of_one_rank_reaches_the_decision_with_rank_code_and_words() {
    let decided = on_ranks(7, 2, |mut tree| {
        let local = match tree.rank() {
            5 => Err(Failure::new(17, "disk full")),
            rank => Ok(vec![rank as u8]),
        };
        let decide = |said: Vec<Result<Vec<u8>, Failure>>| {
            assert_eq!(said[6], Ok(vec![6]));
            let failure = said.into_iter().find_map(Result::err).unwrap();
            format!("{} {}", failure.code, failure).into_bytes()
        };
        let first = tree.agree(local, decide, &wait()).unwrap();
        // A rank's failure does not break the tree.
        tree.barrier(&wait()).unwrap();
        first
    });
    assert_eq!(decided, vec![b"17 rank 5: disk full".to_vec(); 7]);
}

#[test]
fn an_agreement_costs_a_rank_one_frame_up_and_one_to_each_child() {
    on_ranks(7, 2, |mut tree| {
        let counters = tree.counters();
        tree.agree(Ok(vec![1]), |_| vec![2], &wait()).unwrap();
        assert_eq!(counters.rounds(), 1);
        let expected = match tree.rank() {
            0 => 2,
            1 | 2 => 3,
            _ => 1,
        };
        assert_eq!(counters.messages_sent(), expected);
        assert!(counters.bytes_sent() > 0);
    });
}

#[test]
fn frames_far_larger_than_a_socket_buffer_go_through() {
    on_ranks(5, 2, |mut tree| {
        let rank = tree.rank();
        let part = vec![rank as u8; 3 << 20];
        let decided = tree.agree(
            Ok(part),
            |said| said.into_iter().flat_map(Result::unwrap).collect(),
            &wait(),
        );
        let decided = decided.unwrap();
        assert_eq!(decided.len(), 15 << 20);
        assert!((0..5).all(|rank| decided[(rank << 20) * 3] == rank as u8));
    });
}

#[test]
fn ranks_may_leave_after_their_last_call_without_harm_to_the_others() {
    for _ in 0..20 {
        let counts = on_ranks(9, 2, |mut tree| {
            tree.gather(vec![1], &wait())
                .unwrap()
                .map_or(0, |all| all.len())
        });
        assert_eq!(counts[0], 9);
        let words = on_ranks(9, 2, |mut tree| {
            let word = (tree.rank() == 0).then(|| b"word".to_vec());
            tree.broadcast(word, &wait()).unwrap()
        });
        assert_eq!(words, vec![b"word".to_vec(); 9]);
    }
}

#[test]
fn a_rank_that_leaves_early_fails_the_round_of_all_the_others_at_once() {
    // A leaf, an inner rank and the root, with other ranks in every position.
    for leaver in [0, 1, 4, 12] {
        let errors = on_ranks(13, 3, |mut tree| {
            tree.barrier(&wait()).unwrap();
            if tree.rank() == leaver {
                return None;
            }
            let start = Time::now();
            let error = tree.agree(Ok(vec![]), |_| vec![], &wait()).unwrap_err();
            assert!(Time::now().since(start) < AT_ONCE);
            let again = tree.gather(vec![], &wait()).unwrap_err();
            assert_eq!(again, error, "a broken tree stays broken");
            Some(error)
        });
        for error in errors.into_iter().flatten() {
            assert!(
                matches!(error, TreeError::RankLost { rank, .. } if rank == leaver),
                "{error}"
            );
        }
    }
}

#[test]
fn whoever_leaves_whenever_the_others_have_made_the_same_decisions() {
    for _ in 0..60 {
        let seed = panta_transports::random::number().unwrap();
        let size = 2 + (seed % 20) as usize;
        let fan_out = 1 + (seed >> 8) as usize % 4;
        let leaver = (seed >> 16) as usize % size;
        let last = (seed >> 24) % 6;
        let outcomes = on_ranks(size, fan_out, |mut tree| {
            let rank = tree.rank();
            for round in 0.. {
                if rank == leaver && round == last {
                    return None;
                }
                dawdle(rank, (seed >> 32) as usize % 100 + round as usize);
                if let Err(error) = tree.agree(Ok(vec![]), |_| vec![], &wait()) {
                    return Some((round, error));
                }
            }
            None
        });
        for (rank, outcome) in outcomes.into_iter().enumerate() {
            if rank == leaver {
                continue;
            }
            let (rounds, error) = outcome.unwrap();
            let scenario = format!("seed {seed}: {size} ranks, fan-out {fan_out}, rank {rank}");
            assert_eq!(rounds, last, "{scenario}: {error}");
            assert!(
                matches!(error, TreeError::RankLost { rank, .. } if rank == leaver),
                "{scenario}: {error}, not {leaver}"
            );
        }
    }
}

#[test]
fn a_rank_lost_while_others_wait_is_noticed_though_the_root_is_not_there_yet() {
    let (root_may_go, root_waits) = mpsc::channel::<()>();
    let root_waits = Mutex::new(Some(root_waits));
    let root_may_go = Mutex::new(Some(root_may_go));
    let errors = on_ranks(7, 2, |mut tree| match tree.rank() {
        // Busy until rank 1 has heard of the loss.
        0 => {
            let waits = root_waits.lock().unwrap().take().unwrap();
            waits.recv_timeout(LONG).unwrap();
            tree.barrier(&wait()).unwrap_err()
        }
        4 => TreeError::RankLost {
            rank: 4,
            noticed_by: 1,
        },
        1 => {
            let error = tree.barrier(&wait()).unwrap_err();
            root_may_go
                .lock()
                .unwrap()
                .take()
                .unwrap()
                .send(())
                .unwrap();
            error
        }
        _ => tree.barrier(&wait()).unwrap_err(),
    });
    assert_eq!(
        errors,
        vec![
            TreeError::RankLost {
                rank: 4,
                noticed_by: 1
            };
            7
        ]
    );
}

#[test]
fn a_deadline_names_the_silent_rank_on_every_rank_and_not_those_between() {
    // Deep enough that the silent rank is far from most others.
    for silent in [0, 2, 13] {
        let (done, all_done) = mpsc::channel::<()>();
        let all_done = Mutex::new(all_done);
        let errors = on_ranks(15, 2, |mut tree| {
            if tree.rank() == silent {
                let waits = all_done.lock().unwrap();
                (0..14).for_each(|_| waits.recv_timeout(LONG).unwrap());
                return tree.barrier(&wait()).unwrap_err();
            }
            let short = Wait::for_at_most(Duration::from_secs(2));
            let error = tree.barrier(&short).unwrap_err();
            done.send(()).unwrap();
            error
        });
        for error in &errors {
            let TreeError::Deadline {
                awaiting, after, ..
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!(awaiting, &[silent], "{error}");
            assert_eq!(*after, Duration::from_secs(2));
        }
    }
}

#[test]
fn an_interrupt_of_one_rank_ends_the_round_of_all() {
    let interrupt = Interrupt::default();
    let (heard, hears) = mpsc::channel::<()>();
    let hears = Mutex::new(hears);
    let errors = on_ranks(5, 2, |mut tree| match tree.rank() {
        3 => tree.barrier(&Wait::new(LONG, &interrupt)).unwrap_err(),
        // Keeps the round open until the others have heard.
        4 => {
            interrupt.set();
            let hears = hears.lock().unwrap();
            (0..3).for_each(|_| hears.recv_timeout(LONG).unwrap());
            tree.barrier(&wait()).unwrap_err()
        }
        _ => {
            let error = tree.barrier(&wait()).unwrap_err();
            heard.send(()).unwrap();
            error
        }
    });
    assert_eq!(errors, vec![TreeError::Interrupted { rank: 3 }; 5]);
}

#[test]
fn different_calls_on_different_ranks_are_an_error_that_names_both() {
    let errors = on_ranks(3, 2, |mut tree| match tree.rank() {
        2 => tree.agree(Ok(vec![]), |_| vec![], &wait()).unwrap_err(),
        _ => tree.barrier(&wait()).unwrap_err(),
    });
    for error in errors {
        let TreeError::OutOfStep { here, there, .. } = error else {
            panic!("{error}");
        };
        let called = [here, there];
        assert!(called.contains(&Operation::Agree) && called.contains(&Operation::Barrier));
    }
}

#[test]
fn parts_that_together_exceed_a_frame_are_an_error_on_every_rank() {
    let errors = on_ranks(3, 1, |mut tree| {
        let part = match tree.rank() {
            2 => vec![0; MAX_FRAME_BYTES as usize - 100],
            _ => vec![0; 100],
        };
        tree.gather(part, &wait())
            .and_then(|_| tree.barrier(&wait()))
            .unwrap_err()
    });
    for error in errors {
        assert!(
            matches!(error, TreeError::TooLarge { rank: 1, bytes, .. } if bytes > MAX_FRAME_BYTES),
            "{error}"
        );
    }
}

#[test]
fn fan_outs_that_differ_fail_the_opening_on_every_rank() {
    let results: Vec<_> = thread::scope(|scope| {
        let open = |mut comm: panta_core::comm::ThreadComm| {
            scope.spawn(move || {
                let options = options(2 + comm.rank() % 2);
                ControlTree::connect(&mut comm, &options, &wait()).map(drop)
            })
        };
        let ranks: Vec<_> = Threads::group(4).into_iter().map(open).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    for result in results {
        assert!(matches!(result, Err(TreeError::Open(_))), "{result:?}");
    }
}
