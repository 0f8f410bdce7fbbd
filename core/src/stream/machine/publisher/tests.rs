//! One publisher, told by hand what happens.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::super::message::{Join, Position, ReaderMessage, RefusedWhy, WriterMessage};
use super::*;
use crate::engine::Start;
use panta_transports::time::Time;
use std::time::Duration;

use PublisherAction as Action;
use PublisherEvent as Event;

const LIMIT: u64 = 100;

struct Bench {
    publisher: Publisher,
    now: Time,
    actions: Vec<Action>,
}

fn options() -> PublisherOptions {
    PublisherOptions {
        life: Life {
            epoch: 1,
            after: None,
        },
        earlier: Vec::new(),
        limit_bytes: LIMIT,
        ranks: 2,
        policy: Policy::Block,
        distribution: Distribution::All,
        rendezvous: 0,
        retain_steps: 0,
        retain_bytes: None,
        precious_first: false,
        lease: None,
        recovered: Vec::new(),
        cursors: Vec::new(),
    }
}

fn with(change: impl FnOnce(&mut PublisherOptions)) -> Bench {
    let mut options = options();
    change(&mut options);
    Bench {
        publisher: Publisher::new(options),
        now: Time(0),
        actions: Vec::new(),
    }
}

impl Bench {
    fn handle(&mut self, event: Event<'_>) -> Vec<Action> {
        self.actions.clear();
        self.publisher.handle(event, self.now, &mut self.actions);
        for rank in 0..2 {
            assert!(self.publisher.used_bytes(rank) <= LIMIT);
        }
        self.actions.clone()
    }

    fn join(&mut self, group: u64, start: Start) -> Vec<Action> {
        let join = Join {
            name: format!("group {group}"),
            start,
            ..Join::default()
        };
        self.handle(Event::Joined {
            group: GroupId(group),
            join: &join,
        })
    }

    fn say(&mut self, group: u64, message: &ReaderMessage) -> Vec<Action> {
        self.handle(Event::Message {
            group: GroupId(group),
            message,
        })
    }

    fn release(&mut self, group: u64, step: u64) -> Vec<Action> {
        self.say(group, &ReaderMessage::Release { step })
    }

    fn admit(&mut self, step: u64, bytes: u64) -> Vec<Action> {
        self.handle(Event::Admit {
            step,
            reserve_bytes: &[bytes, bytes / 2],
        })
    }

    fn seal(&mut self, step: u64, bytes: u64) -> Vec<Action> {
        self.handle(Event::Sealed {
            step,
            time: Some(step as f64 / 10.0),
            bytes: &[bytes, bytes / 2],
        })
    }

    /// A step of `bytes` that must find room.
    fn write(&mut self, step: u64, bytes: u64) -> Vec<Action> {
        let admitted = self.admit(step, bytes);
        assert!(
            admitted.contains(&Action::Admitted { step }),
            "{admitted:?}"
        );
        [admitted, self.seal(step, bytes)].concat()
    }
}

fn announced(actions: &[Action], to: u64) -> Vec<u64> {
    let steps = actions.iter().filter_map(|action| match action {
        Action::Announce { group, at, .. } if *group == GroupId(to) => Some(at.step),
        _ => None,
    });
    steps.collect()
}

fn said(actions: &[Action], to: u64) -> Vec<WriterMessage> {
    let messages = actions.iter().filter_map(|action| match action {
        Action::Send { group, message } if *group == GroupId(to) => Some(message.clone()),
        _ => None,
    });
    messages.collect()
}

fn at(step: u64) -> Position {
    Position { epoch: 1, step }
}

#[test]
fn a_group_that_has_seen_a_later_life_is_refused_and_one_of_this_life_is_not() {
    for (epoch, is_refused) in [(1, false), (2, true)] {
        let mut bench = with(|_| {});
        let join = Join {
            seen: Some(Position { epoch, step: 0 }),
            ..Join::default()
        };
        let (group, join) = (GroupId(1), &join);
        let actions = bench.handle(Event::Joined { group, join });
        let why = RefusedWhy::OldEpoch;
        let refused = [WriterMessage::Refused { why }];
        assert_eq!(said(&actions, 1) == refused, is_refused, "{actions:?}");
        assert_eq!(actions.contains(&Action::Fence { group }), is_refused);
    }
}

#[test]
fn a_blocked_step_begins_as_soon_as_the_group_in_its_way_lets_go() {
    let mut bench = with(|_| {});
    bench.join(1, Start::Oldest);
    assert_eq!(announced(&bench.write(0, 60), 1), [0]);
    assert_eq!(bench.admit(1, 60), []);
    let awaited = bench.publisher.awaiting();
    assert_eq!((awaited[0].holds, awaited[0].oldest), (1, Some(0)));
    let actions = bench.release(1, 0);
    assert_eq!(
        actions,
        [Action::Free { step: 0 }, Action::Admitted { step: 1 }]
    );
}

#[test]
fn a_step_fits_within_some_bytes_where_it_is_admitted_and_no_rank_has_more_in_memory() {
    let mut bench = with(|_| {});
    assert!(bench.publisher.fits_within(&[40, 20], 40));
    bench.join(1, Start::Oldest);
    bench.write(0, 40);
    assert!(bench.publisher.fits_within(&[10, 20], 50));
    assert!(!bench.publisher.fits_within(&[11, 20], 50));
    assert!(!bench.publisher.fits_within(&[10, 31], 50));
    // Within the limit of 100 it is one thing, beyond it another.
    assert!(bench.publisher.fits_within(&[60, 0], u64::MAX));
    assert!(!bench.publisher.fits_within(&[61, 0], u64::MAX));
    bench.release(1, 0);
    assert!(bench.publisher.fits_within(&[100, 100], 100));
}

#[test]
fn a_step_larger_than_the_limit_is_refused_with_the_rank_and_what_there_can_be() {
    let mut bench = with(|options| options.precious_first = true);
    bench.write(0, 40);
    let actions = bench.handle(Event::Admit {
        step: 1,
        reserve_bytes: &[10, 81],
    });
    let expected = Action::TooLarge {
        step: 1,
        rank: 1,
        bytes: 81,
        limit_bytes: 80,
    };
    assert_eq!(actions, [expected]);
}

#[test]
fn the_first_step_waits_for_the_groups_it_was_told_to_wait_for() {
    let mut bench = with(|options| options.rendezvous = 2);
    assert_eq!(bench.admit(0, 1), []);
    bench.join(1, Start::Oldest);
    assert_eq!(bench.publisher.missing_groups(), 1);
    let actions = bench.join(2, Start::Oldest);
    assert_eq!(actions.last(), Some(&Action::Admitted { step: 0 }));
}

#[test]
fn drop_oldest_drops_what_nobody_was_told_of_and_discards_when_that_is_not_enough() {
    let mut bench = with(|options| options.policy = Policy::DropOldest);
    bench.join(1, Start::Oldest);
    for step in 0..3 {
        bench.write(step, 50);
    }
    assert_eq!(
        announced(&bench.say(1, &ReaderMessage::Ask { heard: 0 }), 1),
        [1]
    );
    assert_eq!(
        announced(&bench.say(1, &ReaderMessage::Ask { heard: 0 }), 1),
        [2]
    );
    assert_eq!(bench.admit(3, 50), [Action::Discard { step: 3 }]);
    bench.release(1, 1);
    bench.write(4, 50);
    assert_eq!(
        announced(&bench.say(1, &ReaderMessage::Ask { heard: 0 }), 1),
        [4]
    );
}

#[test]
fn drop_newest_discards_the_step_that_finds_no_room() {
    let mut bench = with(|options| options.policy = Policy::DropNewest);
    bench.join(1, Start::Oldest);
    bench.write(0, 50);
    bench.write(1, 50);
    assert_eq!(bench.admit(2, 50), [Action::Discard { step: 2 }]);
    assert_eq!(
        announced(&bench.say(1, &ReaderMessage::Ask { heard: 0 }), 1),
        [0]
    );
    bench.release(1, 0);
    bench.write(3, 50);
}

#[test]
fn an_outstanding_ask_is_answered_when_the_next_step_is_sealed() {
    let mut bench = with(|options| options.policy = Policy::DropOldest);
    bench.join(1, Start::Oldest);
    assert_eq!(bench.say(1, &ReaderMessage::Ask { heard: 0 }), []);
    assert_eq!(announced(&bench.write(0, 10), 1), [0]);
    assert_eq!(announced(&bench.write(1, 10), 1), Vec::<u64>::new());
    bench.say(1, &ReaderMessage::Ask { heard: 0 });
    bench.say(1, &ReaderMessage::Ask { heard: 0 });
    bench.say(1, &ReaderMessage::Withdraw);
    assert_eq!(announced(&bench.write(2, 10), 1), Vec::<u64>::new());
}

#[test]
fn spill_announces_no_further_than_leaves_room_and_spills_the_rest() {
    let mut bench = with(|options| options.policy = Policy::Spill);
    bench.join(1, Start::Oldest);
    assert_eq!(announced(&bench.write(0, 30), 1), [0]);
    assert_eq!(announced(&bench.write(1, 30), 1), Vec::<u64>::new());
    bench.write(2, 30);
    let actions = bench.write(3, 30);
    // The first is in the reader's hands, and may have to be spilled yet.
    assert_eq!(
        actions[..3],
        [
            Action::Write { step: 0 },
            Action::Spill { step: 1 },
            Action::Admitted { step: 3 }
        ]
    );
    // It is not announced before it lies in the file.
    assert_eq!(announced(&bench.release(1, 0), 1), Vec::<u64>::new());
    let actions = bench.handle(Event::Spilled { step: 1 });
    assert_eq!(announced(&actions, 1), [1, 2]);
    assert!(matches!(actions[0], Action::Announce { spilled: true, .. }));
    assert_eq!(bench.release(1, 1)[0], Action::Free { step: 1 });
}

#[test]
fn a_slow_group_is_told_of_no_more_under_spill_because_another_is_fast() {
    let mut bench = with(|options| options.policy = Policy::Spill);
    bench.join(1, Start::Oldest);
    bench.join(2, Start::Oldest);
    for step in 0..20 {
        let actions = bench.write(step, 30);
        for action in &actions {
            if let Action::Spill { step } | Action::Write { step } = action {
                bench.handle(Event::Spilled { step: *step });
            }
        }
        // The first has all it was told of, and waits for more.
        bench.release(1, step);
        bench.say(1, &ReaderMessage::Waiting { heard: step + 1 });
    }
    let slow = bench.publisher.awaiting();
    let slow = slow.iter().find(|awaited| awaited.group == GroupId(2));
    let slow = slow.unwrap();
    // All but the first are in the file.
    assert_eq!((slow.holds, slow.to_come), (8, 12), "{slow:?}");
    assert_eq!(bench.publisher.used_bytes(0), 90);
}

#[test]
fn a_late_joiner_gets_exactly_what_is_retained() {
    for (start, expected, trimmed) in [
        (Start::Oldest, vec![5, 6, 7], false),
        (Start::Latest, vec![7], false),
        (Start::At(6), vec![6, 7], false),
        (Start::At(2), vec![5, 6, 7], true),
        (Start::After(4), vec![5, 6, 7], false),
        (Start::After(3), vec![5, 6, 7], true),
        (Start::AtTime(0.55), vec![6, 7], false),
        (Start::AtTime(0.4), vec![5, 6, 7], true),
        (Start::At(9), vec![], false),
    ] {
        let mut bench = with(|options| options.retain_steps = 3);
        for step in 0..8 {
            bench.write(step, 10);
        }
        let actions = bench.join(1, start.clone());
        assert_eq!(announced(&actions, 1), expected, "{start:?}");
        let oldest = Some(5);
        let told = said(&actions, 1).contains(&WriterMessage::Trimmed { oldest });
        assert_eq!(told, trimmed, "{start:?}");
    }
}

#[test]
fn retained_steps_make_way_for_new_ones() {
    let mut bench = with(|options| {
        options.retain_steps = 10;
        options.retain_bytes = Some(1000);
    });
    for step in 0..5 {
        bench.write(step, 40);
    }
    assert_eq!(announced(&bench.join(1, Start::Oldest), 1), [3, 4]);
}

#[test]
fn the_precious_step_comes_first_for_every_joiner_and_is_never_dropped() {
    let mut bench = with(|options| {
        options.precious_first = true;
        options.policy = Policy::DropOldest;
    });
    for step in 0..6 {
        bench.write(step, 40);
    }
    bench.join(1, Start::Latest);
    assert_eq!(
        announced(&bench.say(1, &ReaderMessage::Ask { heard: 0 }), 1),
        [0]
    );
    bench.release(1, 0);
    bench.say(1, &ReaderMessage::Ask { heard: 0 });
    assert_eq!(announced(&bench.write(6, 40), 1), [6]);
}

#[test]
fn distribution_gives_turns_or_whoever_asks() {
    let mut bench = with(|options| options.distribution = Distribution::RoundRobin);
    for group in 0..3 {
        bench.join(group, Start::Oldest);
    }
    let mut got = [const { Vec::new() }; 3];
    for step in 0..10 {
        let actions = bench.write(step, 1);
        for group in 0..3 {
            got[group as usize].extend(announced(&actions, group));
        }
    }
    assert_eq!(got, [vec![0, 3, 6, 9], vec![1, 4, 7], vec![2, 5, 8]]);
    // What a lost group had in hand goes to the others.
    let group = GroupId(0);
    let how = Gone::Died;
    let actions = bench.handle(Event::Lost { group, how });
    let mut inherited = [announced(&actions, 1), announced(&actions, 2)].concat();
    inherited.sort_unstable();
    assert_eq!(inherited, [0, 3, 6, 9]);

    let mut bench = with(|options| options.distribution = Distribution::OnDemand);
    bench.join(0, Start::Oldest);
    bench.join(1, Start::Oldest);
    bench.write(0, 1);
    assert_eq!(
        announced(&bench.say(1, &ReaderMessage::Ask { heard: 0 }), 1),
        [0]
    );
    assert_eq!(
        announced(&bench.say(0, &ReaderMessage::Ask { heard: 0 }), 0),
        Vec::<u64>::new()
    );
    let actions = bench.write(1, 1);
    assert_eq!(
        (announced(&actions, 0), announced(&actions, 1)),
        (vec![1], vec![])
    );
}

#[test]
fn a_silent_group_is_fenced_and_what_it_may_look_at_is_retired() {
    let mut bench = with(|options| options.lease = Some(Duration::from_secs(1)));
    bench.join(1, Start::Oldest);
    bench.write(0, 60);
    bench.admit(1, 60);
    bench.now = Time(999_999_999);
    assert_eq!(bench.handle(Event::Tick), []);
    assert_eq!(bench.publisher.next_tick(), Some(Time(1_000_000_000)));
    bench.now = Time(1_000_000_000);
    let group = GroupId(1);
    let message = WriterMessage::Fenced;
    assert_eq!(
        bench.handle(Event::Tick),
        [
            Action::Send { group, message },
            Action::Fence { group },
            Action::Retire { step: 0 },
            Action::Free { step: 0 },
            Action::Admitted { step: 1 },
        ]
    );
    assert_eq!(bench.release(1, 0), []);
}

#[test]
fn a_cursor_keeps_what_was_not_committed_and_trims_it_by_the_limit() {
    let mut bench = with(|_| {});
    bench.join(1, Start::Cursor("viz".into()));
    for step in 0..2 {
        bench.write(step, 30);
        assert_eq!(bench.release(1, step), []);
    }
    let commit = ReaderMessage::Commit {
        cursor: "viz".into(),
        at: at(0),
    };
    let actions = bench.say(1, &commit);
    assert!(matches!(actions[0], Action::Remember { .. }));
    assert_eq!(said(&actions, 1), [WriterMessage::Committed { at: at(0) }]);
    assert_eq!(actions[2], Action::Free { step: 0 });
    bench.say(1, &ReaderMessage::Leave { held: vec![] });
    bench.write(2, 30);
    let back = bench.join(2, Start::Cursor("viz".into()));
    assert_eq!(announced(&back, 2), [1, 2]);
    bench.say(2, &ReaderMessage::Leave { held: vec![] });
    bench.write(3, 30);
    bench.write(4, 30);
    let back = bench.join(3, Start::Cursor("viz".into()));
    let oldest = Some(2);
    assert!(said(&back, 3).contains(&WriterMessage::Trimmed { oldest }));
    assert_eq!(announced(&back, 3), [2, 3, 4]);
}

#[test]
fn whoever_has_seen_withdrawn_steps_is_told_so() {
    for (seen, to, first) in [
        (Position { epoch: 1, step: 57 }, Some(Some(30)), 41),
        (Position { epoch: 2, step: 57 }, Some(Some(40)), 41),
        (Position { epoch: 2, step: 40 }, None, 41),
        (Position { epoch: 1, step: 30 }, None, 41),
    ] {
        let mut bench = with(|options| {
            options.life = Life {
                epoch: 3,
                after: Some(40),
            };
            options.earlier = vec![Life {
                epoch: 2,
                after: Some(30),
            }];
        });
        let join = Join {
            seen: Some(seen),
            ..Join::default()
        };
        let group = GroupId(1);
        let actions = bench.handle(Event::Joined { group, join: &join });
        let said = said(&actions, 1);
        assert_eq!(
            said.iter().find_map(|message| match message {
                WriterMessage::RolledBack { to } => Some(*to),
                _ => None,
            }),
            to,
            "{seen:?}"
        );
        assert_eq!(announced(&bench.write(41, 1), 1), [first]);
    }
}

#[test]
fn closing_ends_when_every_group_has_let_go_or_left() {
    let mut bench = with(|options| options.policy = Policy::DropNewest);
    for group in 1..=2 {
        bench.join(group, Start::Oldest);
    }
    bench.write(0, 1);
    bench.say(1, &ReaderMessage::Ask { heard: 0 });
    assert_eq!(
        said(&bench.handle(Event::Closing), 1),
        [WriterMessage::Closed { last: Some(0) }]
    );
    assert_eq!(bench.release(1, 0), []);
    let actions = bench.say(2, &ReaderMessage::Leave { held: vec![] });
    assert_eq!(actions, [Action::Free { step: 0 }, Action::Drained]);
}

#[test]
fn who_waits_and_alone_is_in_the_way_is_told_so_once() {
    let mut bench = with(|_| {});
    bench.join(1, Start::Oldest);
    bench.write(0, 40);
    bench.write(1, 40);
    bench.say(1, &ReaderMessage::Waiting { heard: 2 });
    let blocked = |held_bytes, releases| WriterMessage::Blocked {
        held_bytes,
        releases,
    };
    assert_eq!(said(&bench.admit(2, 70), 1), [blocked(80, 0)]);
    assert_eq!(bench.say(1, &ReaderMessage::Waiting { heard: 2 }), []);
    assert_eq!(said(&bench.release(1, 0), 1), [blocked(40, 1)]);
    assert_eq!(
        bench.release(1, 1),
        [Action::Free { step: 1 }, Action::Admitted { step: 2 }]
    );
}

#[test]
fn a_commit_of_what_was_never_sealed_is_not_remembered() {
    let mut bench = with(|_| {});
    bench.join(1, Start::Oldest);
    let commit = ReaderMessage::Commit {
        cursor: "viz".into(),
        at: at(u64::MAX),
    };
    let expected = WriterMessage::NotCommitted { at: at(u64::MAX) };
    assert_eq!(said(&bench.say(1, &commit), 1), [expected]);
}
