//! One subscriber, told by hand what happens.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::message::{Position, ReaderMessage, WriterMessage};
use super::subscriber::*;
use panta_transports::time::Time;
use std::time::Duration;

use SubscriberAction as Action;
use SubscriberEvent as Event;

struct Bench(Subscriber);

fn at(step: u64) -> Position {
    Position { epoch: 1, step }
}

fn announced(step: u64) -> WriterMessage {
    WriterMessage::Announced {
        at: at(step),
        newest: step,
    }
}

fn send(message: ReaderMessage) -> Action {
    Action::Send(message)
}

impl Bench {
    fn new(pull: bool, latest_only: bool) -> Self {
        let mut bench = Self(Subscriber::new(SubscriberOptions {
            latest_only,
            ..SubscriberOptions::default()
        }));
        bench.welcome(1, pull);
        bench
    }

    fn welcome(&mut self, epoch: u64, pull: bool) {
        self.hear(&WriterMessage::Welcome {
            epoch,
            pull,
            limit_bytes: 100,
            newest: None,
        });
    }

    fn handle(&mut self, event: Event<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.0.handle(event, Time(0), &mut actions);
        actions
    }

    fn hear(&mut self, message: &WriterMessage) -> Vec<Action> {
        self.handle(Event::Message(message))
    }
}

#[test]
fn a_pushed_step_is_delivered_without_asking_and_released_when_nobody_holds_it() {
    let mut bench = Bench::new(false, false);
    assert_eq!(bench.handle(Event::Next), []);
    assert_eq!(bench.hear(&announced(3)), [Action::Deliver { at: at(3) }]);
    bench.hear(&announced(4));
    assert_eq!(bench.handle(Event::Next), [Action::Deliver { at: at(4) }]);
    assert_eq!(
        bench.handle(Event::Held { steps: &[4] }),
        [send(ReaderMessage::Release { step: 3 })]
    );
    assert_eq!(bench.0.held().collect::<Vec<_>>(), [at(4)]);
    assert_eq!(
        bench.handle(Event::Released { step: 4 }),
        [send(ReaderMessage::Release { step: 4 })]
    );
    assert_eq!(bench.handle(Event::Released { step: 4 }), []);
}

#[test]
fn where_it_must_it_asks_once_until_answered_and_withdraws_what_would_be_stale() {
    let mut bench = Bench::new(true, false);
    assert_eq!(
        bench.handle(Event::Next),
        [send(ReaderMessage::Ask { heard: 0 })]
    );
    assert_eq!(bench.handle(Event::GiveUp), [Action::NotReady]);
    assert_eq!(bench.handle(Event::Next), []);
    bench.hear(&announced(0));
    assert_eq!(
        bench.handle(Event::Next),
        [send(ReaderMessage::Ask { heard: 1 })]
    );

    let mut bench = Bench::new(true, true);
    bench.handle(Event::Next);
    assert_eq!(
        bench.handle(Event::GiveUp),
        [Action::NotReady, send(ReaderMessage::Withdraw)]
    );
    assert_eq!(bench.handle(Event::GiveUp), []);
    assert_eq!(
        bench.handle(Event::Next),
        [send(ReaderMessage::Ask { heard: 0 })]
    );
}

#[test]
fn what_was_announced_is_delivered_after_the_writer_died_where_it_can_be_read() {
    for (readable, closed) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut bench = Bench::new(false, false);
        bench.hear(&announced(0));
        bench.hear(&announced(1));
        bench.handle(Event::Next);
        if closed {
            bench.hear(&WriterMessage::Closed { last: Some(1) });
        }
        let lost = bench.handle(Event::Lost { readable });
        if readable {
            assert_eq!(lost, []);
            assert_eq!(bench.handle(Event::Next), [Action::Deliver { at: at(1) }]);
        } else {
            assert_eq!(lost, [Action::Forget { at: at(1) }]);
        }
        let last = if readable && closed {
            Action::Ended
        } else {
            Action::WriterLost {
                last_sealed: Some(1),
            }
        };
        assert_eq!(bench.handle(Event::Next), [last]);
    }
}

#[test]
fn a_wait_for_what_its_own_views_prevent_is_found_and_an_old_notice_is_not_believed() {
    let mut bench = Bench::new(false, false);
    bench.hear(&announced(0));
    bench.hear(&announced(1));
    bench.handle(Event::Next);
    bench.handle(Event::Next);
    assert_eq!(
        bench.handle(Event::Next),
        [send(ReaderMessage::Waiting { heard: 2 })]
    );
    let blocked = |releases| WriterMessage::Blocked {
        held_bytes: 80,
        releases,
    };
    let deadlock = Action::WouldDeadlock {
        held_bytes: 80,
        limit_bytes: 100,
    };
    assert_eq!(bench.hear(&blocked(0)), std::slice::from_ref(&deadlock));
    assert_eq!(bench.handle(Event::Next), std::slice::from_ref(&deadlock));
    bench.handle(Event::Released { step: 0 });
    assert_eq!(bench.handle(Event::Next), []);
    assert_eq!(bench.hear(&blocked(0)), []);
    assert_eq!(bench.hear(&blocked(1)), [deadlock]);
}

#[test]
fn a_rollback_is_told_to_who_has_seen_what_is_withdrawn_and_forgets_the_rest() {
    let mut bench = Bench::new(false, false);
    for step in 38..43 {
        bench.hear(&announced(step));
    }
    for _ in 38..41 {
        bench.handle(Event::Next);
    }
    bench.handle(Event::Lost { readable: true });
    assert_eq!(bench.0.join().seen, Some(at(42)));
    bench.welcome(2, false);
    let rolled_back = |to| WriterMessage::RolledBack { to };
    // It has seen nothing beyond 41.
    assert_eq!(
        bench.hear(&rolled_back(Some(41))),
        [Action::Forget { at: at(42) }]
    );
    assert_eq!(bench.0.join().seen, Some(at(41)));
    assert_eq!(bench.handle(Event::Next), [Action::Deliver { at: at(41) }]);
    bench.handle(Event::Lost { readable: true });
    bench.welcome(3, false);
    bench.hear(&rolled_back(Some(39)));
    assert_eq!(
        bench.handle(Event::Next),
        [Action::RolledBack { to: Some(39) }]
    );
    // What an earlier writer gave is not released to this one.
    assert_eq!(bench.handle(Event::Held { steps: &[] }), []);
}

#[test]
fn leaving_names_what_is_still_held() {
    let mut bench = Bench::new(false, false);
    for step in 0..2 {
        bench.hear(&announced(step));
    }
    bench.handle(Event::Next);
    assert_eq!(
        bench.handle(Event::Close),
        [
            send(ReaderMessage::Leave { held: vec![0] }),
            Action::Forget { at: at(1) }
        ]
    );
    assert_eq!(bench.handle(Event::Next), [Action::Ended]);
}

#[test]
fn a_fenced_group_finds_out_and_may_join_again() {
    let mut bench = Bench::new(false, false);
    bench.hear(&announced(0));
    bench.handle(Event::Next);
    bench.handle(Event::Next);
    assert_eq!(bench.hear(&WriterMessage::Fenced), [Action::Fenced]);
    bench.handle(Event::Lost { readable: false });
    assert_eq!(bench.handle(Event::Next), [Action::Fenced]);
    bench.welcome(1, false);
    bench.hear(&announced(1));
    assert_eq!(bench.handle(Event::Next), [Action::Deliver { at: at(1) }]);
}

#[test]
fn a_commit_is_answered_also_when_the_link_ends() {
    let mut bench = Bench::new(false, false);
    let commit = Event::Commit {
        cursor: "viz",
        at: at(0),
    };
    bench.handle(commit.clone());
    let answer = |remembered| Action::Committed {
        at: at(0),
        remembered,
    };
    assert_eq!(
        bench.hear(&WriterMessage::Committed { at: at(0) }),
        [answer(true)]
    );
    bench.handle(commit);
    assert_eq!(
        bench.handle(Event::Lost { readable: true }),
        [answer(false)]
    );
}

#[test]
fn a_step_announced_twice_is_a_breach_of_the_protocol() {
    let mut bench = Bench::new(false, false);
    bench.hear(&announced(0));
    assert!(matches!(
        bench.hear(&announced(0))[..],
        [Action::Misbehaved { .. }]
    ));
}

#[test]
fn life_is_shown_as_often_as_asked_for() {
    let mut subscriber = Subscriber::new(SubscriberOptions {
        alive_every: Some(Duration::from_nanos(10)),
        ..SubscriberOptions::default()
    });
    let mut actions = Vec::new();
    let welcome = WriterMessage::Welcome {
        epoch: 1,
        pull: false,
        limit_bytes: 1,
        newest: None,
    };
    subscriber.handle(Event::Message(&welcome), Time(5), &mut actions);
    assert_eq!(subscriber.next_tick(), Some(Time(15)));
    subscriber.handle(Event::Tick, Time(15), &mut actions);
    assert_eq!(actions, [send(ReaderMessage::Alive)]);
    assert_eq!(subscriber.next_tick(), Some(Time(25)));
}
