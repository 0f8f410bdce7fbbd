//! Ranks that die, are stopped, come back, or go back: killed for real, one by one.

use std::time::Duration;

use ndarray::ArrayD;
use panta::{Fault, GetError, NextError, Reader, Resume, Start, Writer};
use panta_transports::time::Wait;

use super::groups::{SHAPE, get_slab, put_slab, try_put_slab};
use super::many::resident_bytes;
use crate::cells;
use crate::grid;
use crate::part::Part;
use crate::stage::{Arguments, Side, Stage};

/// Times that readers are killed in a short run.
const KILLS: u64 = 8;
/// In a soak: this variable says how often.
const KILLS_VARIABLE: &str = "PANTA_SOAK_KILLS";
/// How long the simulation computes between steps, where it runs without end.
const COMPUTE: Duration = Duration::from_millis(2);

/// Readers come and are killed, one and three at a time: the writer never
/// fails and never grows.
pub fn readers_killed(stage: &mut Stage) {
    let kills = std::env::var(KILLS_VARIABLE).map_or(KILLS, |text| text.parse().unwrap());
    stage.extend(Duration::from_secs(kills));
    let url = stage.url_with("endless", stage.alone());
    let writer = stage.start("death::endless_writer", 2, &url, &[]);
    stage.all_heard(writer, "wrote");
    for kill in 0..kills {
        let ranks = if kill % 2 == 0 { 1 } else { 3 };
        let reader = stage.start("death::passing_reader", ranks, &url, &[]);
        stage.all_heard(reader, "saw");
        stage.kill_all(reader);
        stage.ended(reader);
    }
    stage.tell_all(writer, "stop");
    stage.ended(writer);
}

/// Writes until all its ranks have been told to stop.
pub fn endless_writer(part: &Part) {
    let mut simulation = part.comm();
    let mut out = match part.has("last") {
        false => part.writer(),
        true => {
            let options = Writer::options().resume(Resume::Last);
            options.open(&part.url, part.comm()).unwrap()
        }
    };
    part.say("opened");
    let announced = if part.has("announce") {
        part.number("announce")
    } else {
        50
    };
    let mut early = None;
    let mut told = false;
    loop {
        let number = put_slab(&mut out, "u", part);
        if number == announced {
            early = Some(resident_bytes());
            part.say("wrote");
        }
        told |= part.heard().is_some();
        let wait = Wait::for_at_most(Duration::from_secs(60));
        let all = simulation.allgather(&[u8::from(told)], &wait).unwrap();
        if all.iter().all(|told| told == &[1]) {
            break;
        }
        std::thread::sleep(COMPUTE);
    }
    let grown = resident_bytes().saturating_sub(early.unwrap());
    assert!(grown < 16 << 20, "the writer grew by {grown} bytes");
    out.close().unwrap();
}

/// Reads from the latest step on until it is killed; says so at the third.
pub fn passing_reader(part: &Part) {
    let mut inp = part.reader_from(Start::Latest);
    let mut last = None;
    for count in 1.. {
        let number = get_slab(&mut inp, "u", part);
        assert!(number > last, "{number:?} after {last:?}");
        last = number;
        if count == 3 {
            part.say("saw");
        }
    }
}

/// Does as it is told: `write N`, up to step N; `close`; `drop`. With `resume`
/// it goes on after that step.
pub fn told_writer(part: &Part) {
    let mut out = match part.has("resume") {
        false => part.writer(),
        true => {
            let options = Writer::options().resume(Resume::After(part.number("resume")));
            options.open(&part.url, part.comm()).unwrap()
        }
    };
    part.say("opened");
    loop {
        let order = part.hear();
        match order.split_once(' ') {
            Some(("write", last)) => {
                let last: u64 = last.parse().unwrap();
                loop {
                    match try_put_slab(&mut out, "u", part) {
                        Ok(number) if number < last => {}
                        Ok(number) => break part.say(format_args!("wrote {number}")),
                        Err(error) => return part.say(format_args!("error {error}")),
                    }
                }
            }
            _ if order == "close" => return out.close().unwrap(),
            _ => return,
        }
    }
}

/// Calls for the next step whenever it is told `next`, or `next within` so many seconds, or
/// with `poll` until it gets something else than "not ready"; says what it got, and checks it.
pub fn told_reader(part: &Part) {
    let mut inp = part.reader();
    part.say("opened");
    loop {
        let order = part.hear();
        let got = match order.as_str() {
            "next" => next(&mut inp, part, None),
            "poll" => loop {
                match next(&mut inp, part, Some(Duration::ZERO)) {
                    waiting if waiting.starts_with("not ready") => std::thread::yield_now(),
                    other => break other,
                }
            },
            "wait briefly" => next(&mut inp, part, Some(Duration::from_millis(300))),
            _ => match order.strip_prefix("next within ") {
                Some(seconds) => {
                    let at_most = Duration::from_secs(seconds.parse().unwrap());
                    next(&mut inp, part, Some(at_most))
                }
                None => return,
            },
        };
        part.say(got);
    }
}

fn next(inp: &mut Reader, part: &Part, at_most: Option<Duration>) -> String {
    let step = match at_most {
        None => inp.next_step(),
        Some(at_most) => inp.next_step_within(at_most),
    };
    match step {
        Ok(None) => "closed".into(),
        Ok(Some(step)) => {
            let (start, count) = grid::slab(&SHAPE, 1, part.rank, part.size);
            let read: ArrayD<f64> = step.get("u", (&start, &count)).unwrap();
            cells::check("u", step.number(), &SHAPE, &start, read.view());
            format!("saw {}", step.number())
        }
        Err(NextError::NotReady { .. }) => "not ready".into(),
        Err(NextError::WriterLost { last_sealed, .. }) => format!("lost {last_sealed:?}"),
        Err(NextError::RolledBack { to, .. }) => format!("rolled back {to:?}"),
        Err(error) => format!("error {error}"),
    }
}

/// Tells every rank of a reader to go on, and checks what all of them got.
#[track_caller]
fn all_get(stage: &mut Stage, reader: Side, order: &str, wanted: &str) {
    stage.tell_all(reader, order);
    stage.all_heard(reader, wanted);
}

/// All writer ranks are killed while both reader ranks wait, or poll.
pub fn writer_killed(stage: &mut Stage) {
    for order in ["next", "poll"] {
        let url = stage.url_with(order, stage.keep_all());
        let writer = stage.start("death::told_writer", 2, &url, &[]);
        let reader = stage.start("death::told_reader", 2, &url, &[]);
        stage.all_heard(reader, "opened");
        stage.tell_all(writer, "write 5");
        for step in 0..=5 {
            all_get(stage, reader, "next", &format!("saw {step}"));
        }
        stage.all_heard(writer, "wrote 5");
        stage.tell_all(reader, order);
        stage.kill_all(writer);
        stage.all_heard(reader, "lost Some(5)");
        stage.tell_all(reader, "quit");
        stage.all_ended();
    }
}

/// Times that a writer is killed at no particular point of a step.
const CUTS: u64 = 6;

/// Writers are killed in the midst of their steps: readers that follow and
/// readers that come later see whole steps only, and the next life goes on after them.
pub fn writer_cut(stage: &mut Stage) {
    let url = stage.url_with("cut", stage.keep_all());
    let mut oldest = 0;
    for cut in 0..CUTS {
        let arguments = [("last", 1), ("announce", oldest + 5 + 3 * cut)];
        let writer = stage.start("death::endless_writer", 3, &url, &arguments);
        // Not before, or it hears that the life before is lost.
        stage.heard(writer, 0, "opened");
        let mortal: Arguments<'_> = if stage.outlives_its_writer() {
            &[]
        } else {
            &[("mortal", 1)]
        };
        let follower = stage.start("death::cut_reader", 2, &url, mortal);
        stage.heard(writer, 0, "wrote");
        // In what order the ranks die makes a difference to the last step.
        for rank in 0..3 {
            stage.kill(writer, (rank + cut as usize) % 3);
        }
        stage.ended(writer);
        let seen = stage.all_heard(follower, "lost");
        assert_eq!(seen[0], seen[1], "the ranks of a reader disagree");
        if stage.outlives_its_writer() {
            let later = stage.start("death::cut_reader", 1, &url, &[]);
            assert_eq!(
                stage.heard(later, 0, "lost"),
                seen[0],
                "a later reader disagrees"
            );
        }
        oldest = seen[0].parse().unwrap();
    }
    stage.all_ended();
}

/// Follows from the first step until the writer is lost; says which step was the last.
/// Where steps are mortal, as their writer is, a life begins after the one before, and
/// the last steps may be gone before they are read.
pub fn cut_reader(part: &Part) {
    let mut inp = part.reader();
    let mut last = None;
    let mortal = part.has("mortal");
    loop {
        match inp.next_step() {
            Ok(Some(step)) => {
                if !mortal || last.is_some() {
                    assert_eq!(step.number(), last.map_or(0, |last| last + 1));
                }
                last = Some(step.number());
                let (start, count) = grid::slab(&SHAPE, 1, part.rank, part.size);
                let read: ArrayD<f64> = match step.get("u", (&start, &count)) {
                    Ok(read) => read,
                    Err(GetError::Failed(failure))
                        if mortal && matches!(failure.fault, Fault::PeerLost { .. }) =>
                    {
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                cells::check("u", step.number(), &SHAPE, &start, read.view());
            }
            Err(NextError::WriterLost { last_sealed, .. }) => {
                assert!(last_sealed == last || mortal && last_sealed > last);
                // One that is slow to begin may not have had any of its steps.
                let last = if mortal { last.or(last_sealed) } else { last };
                return part.say(format_args!("lost {}", last.unwrap()));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// One rank of a writer dies: the others hear of it, the readers too.
pub fn writer_rank_killed(stage: &mut Stage) {
    let url = stage.url_with("rank", stage.keep_all());
    let writer = stage.start("death::told_writer", 3, &url, &[]);
    let reader = stage.start("death::told_reader", 2, &url, &[]);
    stage.tell_all(writer, "write 3");
    stage.all_heard(writer, "wrote 3");
    for step in 0..=3 {
        all_get(stage, reader, "next", &format!("saw {step}"));
    }
    stage.kill(writer, 1);
    for rank in [0, 2] {
        stage.tell(writer, rank, "write 9");
        let error = stage.heard(writer, rank, "error");
        assert!(error.contains("rank 1"), "on rank {rank}: {error}");
    }
    all_get(stage, reader, "next", "lost Some(3)");
    stage.tell_all(reader, "quit");
    stage.all_ended();
}

/// One rank of a reader dies: the others hear of it; the writer goes on.
pub fn reader_rank_killed(stage: &mut Stage) {
    let url = stage.url_with("rank", stage.keep_all());
    let writer = stage.start("death::told_writer", 2, &url, &[]);
    let reader = stage.start("death::told_reader", 3, &url, &[]);
    stage.tell_all(writer, "write 1");
    all_get(stage, reader, "next", "saw 0");
    stage.kill(reader, 2);
    for rank in [0, 1] {
        // What the root had already told before the death may still be seen.
        let error = loop {
            stage.tell(reader, rank, "next");
            let got = stage.heard(reader, rank, "");
            if !got.starts_with("saw") {
                break got;
            }
        };
        assert!(error.contains("rank 2"), "on rank {rank}: {error}");
        stage.tell(reader, rank, "quit");
    }
    stage.tell_all(writer, "write 8");
    stage.all_heard(writer, "wrote 8");
    stage.tell_all(writer, "close");
    stage.all_ended();
}

/// A simulation that was at step 57 dies and starts again from 40.
pub fn restart(stage: &mut Stage, ranks_after: usize) {
    let url = stage.url_with("restart", stage.keep_all());
    let first = stage.start("death::told_writer", 2, &url, &[]);
    let reader = stage.start("death::told_reader", 2, &url, &[]);
    stage.tell_all(first, "write 57");
    for step in 0..=57 {
        all_get(stage, reader, "next", &format!("saw {step}"));
    }
    stage.all_heard(first, "wrote 57");
    stage.kill_all(first);
    stage.ended(first);
    let second = stage.start("death::told_writer", ranks_after, &url, &[("resume", 40)]);
    stage.all_heard(second, "opened");
    all_get(stage, reader, "next", "rolled back Some(40)");
    stage.tell_all(second, "write 60");
    for step in 41..=60 {
        all_get(stage, reader, "next", &format!("saw {step}"));
    }
    stage.tell_all(second, "close");
    all_get(stage, reader, "next", "closed");
    stage.tell_all(reader, "quit");
    stage.all_ended();
}

/// A reader is killed inside a step and comes back under its cursor: it gets
/// that step again, then the rest.
pub fn cursor(stage: &mut Stage) {
    let url = stage.url_with("cursor", stage.keep_all());
    let writer = stage.start("death::told_writer", 2, &url, &[]);
    stage.tell_all(writer, "write 6");
    let first = stage.start("death::cursor_reader", 2, &url, &[("commits", 3)]);
    stage.all_heard(first, "inside 3");
    stage.kill_all(first);
    stage.ended(first);
    let second = stage.start("death::cursor_reader", 2, &url, &[("commits", 100)]);
    for step in 3..=6 {
        stage.all_heard(second, &format!("committed {step}"));
    }
    stage.tell_all(writer, "close");
    stage.all_ended();
}

/// Commits as many steps as it is told, then stays inside the next for good.
pub fn cursor_reader(part: &Part) {
    let mut inp = part.reader_from(Start::Cursor("viz".into()));
    for _ in 0..part.number("commits") {
        let Some(step) = inp.next_step().unwrap() else {
            return;
        };
        let read: ArrayD<f64> = step.get("u", ..).unwrap();
        cells::check("u", step.number(), &SHAPE, &[0, 0], read.view());
        step.commit("viz").unwrap();
        part.say(format_args!("committed {}", step.number()));
    }
    let step = inp.next_step().unwrap().unwrap();
    part.say(format_args!("inside {}", step.number()));
    let _never = part.hear();
}

/// A writer that is stopped is waited for, and when it goes on, so does the stream.
pub fn stopped_writer(stage: &mut Stage) {
    let url = stage.url_with("stopped", stage.keep_all());
    let writer = stage.start("death::told_writer", 2, &url, &[]);
    let reader = stage.start("death::told_reader", 2, &url, &[]);
    stage.tell_all(writer, "write 1");
    stage.all_heard(writer, "wrote 1");
    for step in 0..=1 {
        all_get(stage, reader, "next", &format!("saw {step}"));
    }
    stage.stop(writer, 0, true);
    stage.tell_all(writer, "write 2");
    all_get(stage, reader, "wait briefly", "not ready");
    stage.stop(writer, 0, false);
    all_get(stage, reader, "next", "saw 2");
    stage.tell_all(writer, "close");
    all_get(stage, reader, "next", "closed");
    stage.tell_all(reader, "quit");
    stage.all_ended();
}
