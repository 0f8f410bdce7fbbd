//! What is sent along with a step while one side dies, or goes back: no step is seen in
//! part, and nothing stays. A relay holds a push back in its midst. And what stays of
//! steps that were spilled by a writer that was killed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;

use ndarray::Array1;
use panta::{NextError, Reader, Solo, Start};
use panta_tests::relay::{Talk, put_between};
use panta_tests::stage::{Engine, Side, Stage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_panta-scenario");

/// A writer in a process of its own, and how readers find a relay in place of it.
struct Played {
    stage: Stage,
    writer: Side,
    through: String,
    talk: Arc<Talk>,
}

fn play() -> Played {
    let mut stage = Stage::new(Engine::Stream("tcp"), PROGRAM);
    let url = stage.url_with("pushed", "rendezvous=0&limit=16MiB&lease=60s");
    let writer = stage.start("pushes::told_writer", 1, &url, &[]);
    stage.all_heard(writer, "opened");
    let contact = |name: &str| stage.directory().join(format!("{name}.panta-contact"));
    let talk = put_between(&contact("pushed"), &contact("relayed"));
    let through = url.replace("pushed.panta-contact", "relayed.panta-contact");
    Played {
        stage,
        writer,
        through,
        talk,
    }
}

impl Played {
    /// Starts a reader, and writes steps from `first` on until they are pushed to it.
    fn learned(&mut self, first: u64) -> (Side, u64) {
        let (stage, writer) = (&mut self.stage, self.writer);
        let reader = stage.start("pushes::told_reader", 1, &self.through, &[("latest", 1)]);
        stage.all_heard(reader, "opened");
        for step in first.. {
            stage.tell(writer, 0, &format!("write {step}"));
            stage.heard(writer, 0, &format!("wrote {step}"));
            let pushed = loop {
                stage.tell(reader, 0, "next");
                let saw = stage.heard(reader, 0, "saw ");
                // Not the one before, which may have been held when the reader came.
                if let Some(pushed) = saw.strip_prefix(&format!("{step} {step}, ")) {
                    break pushed.to_owned();
                }
            };
            if pushed != "0 pushed" {
                return (reader, step + 1);
            }
        }
        unreachable!("there is always a next step")
    }

    /// Writes a step whose push is held back in its midst.
    fn hold_push_of(&mut self, step: u64) {
        self.talk.hold_after(2 << 20);
        self.stage.tell(self.writer, 0, &format!("write {step}"));
        let wrote = self.stage.heard(self.writer, 0, "wrote ");
        assert_eq!(wrote, step.to_string());
        self.talk.wait_held();
    }
}

#[test]
fn a_writer_killed_within_a_push_is_lost_with_its_last_step_which_is_not_seen_in_part() {
    let mut played = play();
    let (reader, next) = played.learned(0);
    played.hold_push_of(next);
    let Played {
        mut stage,
        writer,
        talk,
        ..
    } = played;
    stage.tell(reader, 0, "next");
    stage.kill_all(writer);
    stage.ended(writer);
    talk.cut();
    // It was told of the step, and gets nothing of it; or it was not told.
    let said = stage.heard(reader, 0, "");
    if said.starts_with("no get of") {
        assert!(said.starts_with(&format!("no get of {next}: ")), "{said}");
        stage.tell(reader, 0, "next");
        stage.heard(reader, 0, &format!("lost Some({next})"));
    } else {
        assert!(said.starts_with("lost Some("), "{said}");
    }
    stage.tell(reader, 0, "quit");
    stage.all_ended();
}

#[test]
fn a_reader_killed_within_a_push_holds_nobody_up_and_nothing_of_it_stays() {
    let mut played = play();
    // What one reader that has come and gone leaves is what every one may.
    let (first, next) = played.learned(0);
    played.stage.kill_all(first);
    played.stage.ended(first);
    let (second, next) = played.learned(next);
    played.stage.tell(second, 0, "quit");
    played.stage.ended(second);
    played.stage.tell(played.writer, 0, "early");
    played.stage.heard(played.writer, 0, "noted");

    let (killed, next) = played.learned(next);
    played.hold_push_of(next);
    played.stage.kill_all(killed);
    played.stage.ended(killed);
    played.talk.cut();
    // More steps than the limit holds.
    for step in next + 1..next + 6 {
        played
            .stage
            .tell(played.writer, 0, &format!("write {step}"));
        played
            .stage
            .heard(played.writer, 0, &format!("wrote {step}"));
    }
    played.stage.tell(played.writer, 0, "settle");
    played.stage.heard(played.writer, 0, "settled");
    let (last, _) = played.learned(next + 6);
    played.stage.tell(played.writer, 0, "close");
    played.stage.tell(last, 0, "next");
    played.stage.heard(last, 0, "closed");
    played.stage.tell(last, 0, "quit");
    played.stage.all_ended();
}

#[test]
fn a_reader_that_was_pushed_to_and_is_rolled_back_gets_the_steps_of_the_later_life() {
    let mut stage = Stage::new(Engine::Stream("tcp"), PROGRAM);
    let url = stage.url_with("back", "rendezvous=0&limit=64MiB");
    let reader = |stage: &mut Stage, wanted: &str, reader: Side| {
        stage.tell(reader, 0, "next");
        stage.heard(reader, 0, wanted)
    };
    let first = stage.start("pushes::told_writer", 1, &url, &[]);
    stage.all_heard(first, "opened");
    let group = stage.start("pushes::told_reader", 1, &url, &[]);
    stage.all_heard(group, "opened");
    let mut pushed = String::new();
    for step in 0..6 {
        stage.tell(first, 0, &format!("write {step}"));
        stage.heard(first, 0, &format!("wrote {step}"));
        pushed = reader(&mut stage, &format!("saw {step} {step}, "), group);
    }
    assert_ne!(pushed, "0 pushed");
    stage.kill_all(first);
    stage.ended(first);
    let second = stage.start("pushes::told_writer", 1, &url, &[("resume", 1)]);
    stage.all_heard(second, "opened");
    reader(&mut stage, "rolled back Some(1)", group);
    // Of the same numbers and places, and other values.
    let mut again = pushed.clone();
    for step in 2..8 {
        let value = 100 + step;
        stage.tell(second, 0, &format!("write {value}"));
        stage.heard(second, 0, &format!("wrote {step}"));
        again = reader(&mut stage, &format!("saw {step} {value}, "), group);
    }
    assert_ne!(again, pushed, "it is pushed to again");
    stage.tell(second, 0, "close");
    reader(&mut stage, "closed", group);
    stage.tell(group, 0, "quit");
    stage.all_ended();
}

/// Whoever reads on opens the file, where the steps are that were spilled.
#[test]
fn what_a_killed_writer_had_spilled_is_read_as_a_file() {
    let mut stage = Stage::new(Engine::Stream("tcp"), PROGRAM);
    let spilled = stage.directory().join("spilled");
    let more = format!("policy=spill&limit=16MiB&spill={}", spilled.display());
    let url = stage.url_with("run", &more);
    let writer = stage.start("pushes::told_writer", 1, &url, &[]);
    let reader = stage.start("pushes::told_reader", 1, &url, &[]);
    stage.all_heard(reader, "opened");
    for step in 0..8 {
        stage.tell(writer, 0, &format!("write {step}"));
        stage.heard(writer, 0, &format!("wrote {step}"));
    }
    stage.kill_all(writer);
    stage.ended(writer);
    stage.tell(reader, 0, "quit");
    stage.ended(reader);
    let dataset = spilled.join("run.1.panta-spill");
    let url = format!("file:{}?deadline=20s", dataset.display());
    let mut inp = Reader::open(&url, Solo, Start::Oldest).unwrap();
    let mut seen = Vec::new();
    loop {
        match inp.next_step() {
            Ok(step) => {
                let step = step.expect("nobody closed it");
                let got: Array1<f64> = step.get("u", ..).unwrap();
                assert!(got.iter().all(|cell| *cell == step.number() as f64));
                seen.push(step.number());
            }
            Err(NextError::WriterLost { last_sealed, .. }) => {
                assert_eq!(last_sealed, seen.last().copied());
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    // Two fit, and one may have been on its way.
    assert!(seen.len() >= 5, "{seen:?}");
    assert!(seen.iter().is_sorted());
}
