//! Distribution, and steps that go out of turn, one rule at a time, at the stream itself.
#![allow(clippy::unwrap_used)]

use super::super::message::{
    Begin, CloseReader, CloseWriter, Decision, Distribution, End, Kind, Next, NoStepReason,
    OpenReader, OpenWriter, OwnerShare, Policy, Position, Reason, Refused, Release, StartAt,
    StepFate,
};
use super::super::mutant::Planted;
use super::super::{ConnectionId, limits};
use super::stream::{Outcome, Stream};
use panta_transports::time::Time;
use std::collections::BTreeMap;

const NOBODY: ConnectionId = ConnectionId(0);

struct Bench {
    stream: Stream,
    /// By group: the number of its last call, the last that it heard of, and its position.
    groups: BTreeMap<&'static str, (u64, u64, Position)>,
    instance: u64,
    now: Time,
}

/// What a call came to.
#[derive(Debug, PartialEq)]
enum Got {
    Step(u64),
    Waits,
    Closed,
}

impl Bench {
    fn new(distribution: Distribution, retain_steps: u64) -> Self {
        Self::with(OpenWriter {
            distribution: distribution as i32,
            retain_steps,
            ..OpenWriter::default()
        })
    }

    fn with(open: OpenWriter) -> Self {
        let mut stream = Stream::new("run42", 1, Planted::default());
        let open = OpenWriter {
            stream: "run42".into(),
            declared: 1,
            instance: 1,
            lease_ms: 3_600_000,
            ..open
        };
        stream.open_writer(&open, NOBODY, Time(0)).unwrap();
        Self {
            stream,
            groups: BTreeMap::new(),
            instance: 1,
            now: Time(0),
        }
    }

    fn join(&mut self, group: &'static str) {
        self.join_at(group, StartAt::Oldest, 0).unwrap();
    }

    fn join_at(&mut self, group: &'static str, start: StartAt, step: u64) -> Result<(), Refused> {
        self.instance += 1;
        let open = OpenReader {
            stream: "run42".into(),
            group: group.into(),
            instance: self.instance,
            start: start as i32,
            step,
            ..OpenReader::default()
        };
        let opened = self.stream.open_reader(&open, NOBODY, self.now)?;
        let known = (0, 0, opened.position.unwrap());
        self.groups.insert(group, known);
        Ok(())
    }

    /// Whether there is room for a step, which is sealed then.
    fn write(&mut self, step: u64) -> bool {
        let run = Some(self.stream.run());
        let begin = Begin {
            run: run.clone(),
            step,
            reserve_bytes: 8,
            ..Begin::default()
        };
        if matches!(
            self.stream.begin(&begin, NOBODY, self.now),
            Outcome::Wait(_)
        ) {
            return false;
        }
        let share = OwnerShare {
            bytes: 8,
            pieces: 1,
            ..OwnerShare::default()
        };
        let end = End {
            run,
            step,
            owners: vec![share],
            ..End::default()
        };
        let ended = self.stream.end(end, NOBODY, self.now).unwrap();
        assert!(matches!(ended, Kind::Fate(fate) if fate.fate() == StepFate::Sealed));
        true
    }

    /// Whether there is no room for a step, and its writer drops it.
    fn begin_is_discarded(&mut self, step: u64) -> bool {
        let begin = Begin {
            run: Some(self.stream.run()),
            step,
            reserve_bytes: 8,
            ..Begin::default()
        };
        let begun = self.stream.begin(&begin, NOBODY, self.now);
        matches!(begun, Outcome::Answer(Kind::Began(began)) if began.decision() == Decision::Discard)
    }

    /// Asks for a step; the answer arrives, or does not.
    fn ask(&mut self, group: &'static str, arrives: bool) -> Got {
        let instance = self.stream.groups[group].presence.instance;
        let (number, heard, position) = self.groups.get_mut(group).unwrap();
        *number += 1;
        let next = Next {
            life: 1,
            group: group.into(),
            instance,
            position: Some(*position),
            number: *number,
            heard: *heard,
            ..Next::default()
        };
        match self.stream.next(&next, NOBODY, self.now) {
            Outcome::Answer(Kind::SealedStep(step)) => {
                if arrives {
                    *heard = *number;
                    position.after = position.after.max(Some(step.step));
                }
                Got::Step(step.step)
            }
            Outcome::Wait(_) => Got::Waits,
            Outcome::Answer(Kind::NoStep(none)) if none.reason() == NoStepReason::Closed => {
                Got::Closed
            }
            other => panic!("{other:?}"),
        }
    }

    fn next(&mut self, group: &'static str) -> Got {
        self.ask(group, true)
    }

    fn release(&mut self, group: &'static str, step: u64) {
        let release = Release {
            run: Some(self.stream.run()),
            group: group.into(),
            instance: self.stream.groups[group].presence.instance,
            step,
            rank: 0,
        };
        self.stream.release(&release, NOBODY, self.now).unwrap();
    }

    fn leave(&mut self, group: &'static str) {
        let close = CloseReader {
            life: 1,
            group: group.into(),
            instance: self.stream.groups[group].presence.instance,
            heard: self.groups[group].1,
            ..CloseReader::default()
        };
        self.stream.close_reader(&close).unwrap();
    }

    /// A group is silent for as long as it takes, and the others are not.
    fn dies(&mut self, group: &str) {
        self.now = self.now.after(limits::LEASE_DEFAULT);
        for (name, other) in &mut self.stream.groups {
            if name != group {
                other.presence.touch(NOBODY, self.now);
            }
        }
        assert!(
            self.stream
                .expire(limits::RECONNECT_GRACE_DEFAULT, self.now)
        );
    }

    fn close(&mut self) {
        let close = CloseWriter {
            run: Some(self.stream.run()),
            slot: 0,
        };
        self.stream.close_writer(&close, NOBODY, self.now).unwrap();
    }

    fn oldest_and_kept(&self) -> (u64, Vec<u64>) {
        (self.stream.ledger.oldest, self.stream.ledger.kept())
    }
}

#[test]
fn turns_are_taken_and_what_the_dead_had_or_were_to_get_is_inherited() {
    let mut bench = Bench::new(Distribution::RoundRobin, 100);
    bench.join("a");
    bench.join("b");
    for step in 0..4 {
        assert!(bench.write(step));
    }
    assert_eq!(bench.next("b"), Got::Step(1));
    assert_eq!(bench.next("a"), Got::Step(0));
    bench.release("a", 0);
    bench.dies("b");
    // 1, which it had, and 3, which it was to get; after what comes first by number.
    for step in [1, 2, 3] {
        assert_eq!(bench.next("a"), Got::Step(step));
    }
    assert_eq!(bench.next("a"), Got::Waits);
}

#[test]
fn who_asks_first_gets_a_step_and_nobody_else_does() {
    let mut bench = Bench::new(Distribution::OnDemand, 100);
    bench.join("a");
    bench.join("b");
    assert!(bench.write(0) && bench.write(1));
    assert_eq!(bench.next("b"), Got::Step(0));
    assert_eq!(bench.next("b"), Got::Step(1));
    assert_eq!(bench.next("a"), Got::Waits);
    bench.release("b", 0);
    bench.leave("b");
    // What a group had in hand when it left is done.
    assert_eq!(bench.next("a"), Got::Waits);
    bench.join("c");
    assert_eq!(bench.next("c"), Got::Waits);
}

#[test]
fn a_step_whose_announcement_was_lost_is_given_again_or_to_another() {
    for distribution in [Distribution::RoundRobin, Distribution::OnDemand] {
        let mut bench = Bench::new(distribution, 100);
        bench.join("a");
        assert!(bench.write(0) && bench.write(1));
        assert_eq!(bench.ask("a", false), Got::Step(0));
        assert_eq!(bench.next("a"), Got::Step(0));
        assert_eq!(bench.ask("a", false), Got::Step(1));
        bench.leave("a");
        bench.join("b");
        assert_eq!(bench.next("b"), Got::Step(1));
    }
}

#[test]
fn a_slow_group_does_not_keep_the_steps_that_others_are_done_with() {
    let mut bench = Bench::new(Distribution::OnDemand, 3);
    bench.join("slow");
    bench.join("fast");
    assert!(bench.write(0));
    assert_eq!(bench.next("slow"), Got::Step(0));
    for step in 1..20 {
        assert!(bench.write(step), "{step}");
        assert_eq!(bench.next("fast"), Got::Step(step));
        bench.release("fast", step);
    }
    assert_eq!(bench.oldest_and_kept(), (20, vec![0]));
    // What nobody has had yet is not dropped under `block`.
    assert!(bench.write(20) && bench.write(21) && !bench.write(22));
    bench.release("slow", 0);
    assert_eq!(bench.oldest_and_kept(), (20, vec![]));
    assert!(bench.write(22));
}

#[test]
fn the_end_waits_for_who_may_leave_a_step_behind() {
    let mut bench = Bench::new(Distribution::RoundRobin, 100);
    bench.join("a");
    bench.join("b");
    assert!(bench.write(0) && bench.write(1));
    bench.close();
    assert_eq!(bench.next("a"), Got::Step(0));
    assert_eq!(bench.next("a"), Got::Waits);
    assert_eq!(bench.next("b"), Got::Step(1));
    assert_eq!(bench.next("a"), Got::Waits);
    bench.dies("b");
    assert_eq!(bench.next("a"), Got::Step(1));
    assert_eq!(bench.next("a"), Got::Closed);
}

#[test]
fn groups_that_hold_everything_together_and_wait_find_out() {
    let mut bench = Bench::new(Distribution::RoundRobin, 2);
    bench.join("a");
    bench.join("b");
    assert!(bench.write(0) && bench.write(1));
    assert_eq!(bench.next("a"), Got::Step(0));
    assert_eq!(bench.next("b"), Got::Step(1));
    assert!(!bench.write(2));
    assert_eq!(bench.next("a"), Got::Waits);
    // The other may still let go of its own.
    assert!(!bench.stream.would_deadlock("a"));
    assert_eq!(bench.next("b"), Got::Waits);
    assert!(bench.stream.would_deadlock("a") && bench.stream.would_deadlock("b"));
}

#[test]
fn where_the_oldest_are_dropped_a_group_that_holds_one_keeps_none_after_it() {
    let mut bench = Bench::with(OpenWriter {
        policy: Policy::DropOldest as i32,
        retain_steps: 4,
        ..OpenWriter::default()
    });
    bench.join("slow");
    bench.join("fast");
    assert!(bench.write(0));
    assert_eq!(bench.next("slow"), Got::Step(0));
    for step in 1..20 {
        assert!(bench.write(step), "step {step}");
    }
    assert_eq!(bench.oldest_and_kept(), (17, vec![0]));
    bench.join("late");
    bench.join_at("exact", StartAt::At, 0).unwrap();
    let refused = bench.join_at("gone", StartAt::At, 1).unwrap_err();
    assert_eq!((refused.reason(), refused.step), (Reason::Trimmed, Some(0)));
    for group in ["fast", "late", "exact"] {
        assert_eq!(bench.next(group), Got::Step(0), "{group}");
        bench.release(group, 0);
        assert_eq!(bench.next(group), Got::Step(17), "{group}");
        bench.release(group, 17);
    }
    // When it lets go, that one is the oldest.
    bench.release("slow", 0);
    assert!(bench.write(20));
    assert_eq!(bench.oldest_and_kept(), (17, vec![]));
    // Who holds all there may be, and waits, finds out.
    for step in 17..21 {
        assert_eq!(bench.next("slow"), Got::Step(step));
    }
    assert_eq!(bench.next("slow"), Got::Waits);
    assert!(bench.begin_is_discarded(21));
    assert!(bench.stream.would_deadlock("slow"));
}
