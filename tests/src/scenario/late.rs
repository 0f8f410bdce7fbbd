//! Who comes late, is slow, or must not wait: deadlines, polling, interruption.

use std::thread;
use std::time::Duration;

use ndarray::ArrayD;
use panta::{Fault, Interrupt, NextError, OpenError, Reader, Shape, Start};

use super::groups::{SHAPE, get_slab, put_slab};
use crate::cells;
use crate::part::{Part, time};
use crate::stage::{Engine, Stage};

/// What a side that is late is late by, where there is no event to wait for.
const LATE: Duration = Duration::from_secs(1);
/// What a slow side adds to each step.
const SLOW: Duration = Duration::from_millis(30);

/// A reader that comes when half of the steps are written still sees all.
pub fn delayed_reader(stage: &mut Stage) {
    let url = stage.url_with("late", stage.keep_all_alone());
    let writer = stage.start("late::late_writer", 2, &url, &[]);
    stage.all_heard(writer, "half");
    let reader = stage.start("groups::plain_reader", 2, &url, &[("steps", 10)]);
    stage.all_heard(reader, "opened");
    stage.tell_all(writer, "go on");
    stage.ended(writer);
    stage.ended(reader);
}

/// Writes five steps, waits to be told, and writes five more.
pub fn late_writer(part: &Part) {
    let mut out = part.writer();
    for number in 0..10 {
        put_slab(&mut out, "u", part);
        if number == 4 {
            part.say("half");
            let _go_on = part.hear();
        }
    }
    out.close().unwrap();
}

/// A reader that comes before its writer waits for it.
pub fn delayed_writer(stage: &mut Stage) {
    let url = stage.url_with("late", stage.keep_all());
    let reader = stage.start("late::late_reader", 2, &url, &[]);
    stage.all_heard(reader, "opening");
    thread::sleep(LATE);
    stage.start("groups::plain_writer", 2, &url, &[("steps", 3)]);
    stage.all_ended();
}

/// Says that it opens, opens, and reads three steps.
pub fn late_reader(part: &Part) {
    part.say("opening");
    let mut inp = part.reader();
    for number in 0..3 {
        assert_eq!(get_slab(&mut inp, "u", part), Some(number));
    }
    assert_eq!(get_slab(&mut inp, "u", part), None);
}

/// A writer without readers runs through, in bounded memory.
pub fn no_reader(stage: &mut Stage) {
    let query = format!("limit=8MiB&{}", stage.alone());
    let url = stage.url_with("alone", query.trim_end_matches('&'));
    stage.start("late::alone_writer", 1, &url, &[]);
    stage.all_ended();
}

/// Writes 160 MiB, and must not hold them.
pub fn alone_writer(part: &Part) {
    const MEGABYTE: usize = 1 << 20;
    let mut out = part.writer();
    let u = out
        .define::<u8>("u", Shape::global([MEGABYTE as u64]))
        .unwrap();
    let field = vec![1_u8; MEGABYTE];
    let mut early = 0;
    for number in 0..160 {
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &[0], &field).unwrap();
        step.end().unwrap();
        if number == 40 {
            early = super::many::resident_bytes();
        }
    }
    let grown = super::many::resident_bytes().saturating_sub(early);
    assert!(
        grown < 32 * MEGABYTE as u64,
        "the writer grew by {grown} bytes"
    );
    out.close().unwrap();
}

/// A reader whose writer never comes gets an error that names what it waited for.
pub fn no_writer(stage: &mut Stage) {
    let url = stage.url_with("nobody", "deadline=500ms");
    stage.start("late::awaiting_reader", 3, &url, &[]);
    stage.all_ended();
}

/// Waits in vain; each rank gets the same error.
pub fn awaiting_reader(part: &Part) {
    let error = Reader::open(&part.url, part.comm(), Start::Oldest).unwrap_err();
    assert!(matches!(error, OpenError::NotFound { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("nobody") && text.contains("500ms"), "{text}");
}

/// A reader that polls hears "not ready", and later gets the step.
pub fn poll(stage: &mut Stage) {
    let url = stage.url_with("poll", stage.keep_all());
    let writer = stage.start("late::poll_writer", 2, &url, &[]);
    let reader = stage.start("late::polling_reader", 2, &url, &[]);
    stage.all_heard(reader, "not ready");
    stage.tell_all(writer, "write");
    stage.all_heard(reader, "saw 0");
    stage.tell_all(writer, "write");
    stage.all_ended();
}

/// Writes a step whenever it is told.
pub fn poll_writer(part: &Part) {
    let mut out = part.writer();
    for _ in 0..2 {
        let _write = part.hear();
        put_slab(&mut out, "u", part);
    }
    out.close().unwrap();
}

/// Never waits.
pub fn polling_reader(part: &Part) {
    let (mut inp, mut seen, mut not_ready) = (part.reader(), 0, 0);
    loop {
        match inp.next_step_within(Duration::ZERO) {
            Err(NextError::NotReady { after, .. }) => {
                assert_eq!(after, Duration::ZERO);
                if not_ready == 0 {
                    part.say("not ready");
                }
                not_ready += 1;
                thread::yield_now();
            }
            Ok(Some(step)) => {
                assert_eq!(step.number(), seen);
                let read: ArrayD<f64> = step.get("u", ..).unwrap();
                cells::check("u", seen, &SHAPE, &[0, 0], read.view());
                part.say(format_args!("saw {seen}"));
                seen += 1;
            }
            Ok(None) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(seen, 2);
    assert!(not_ready > 0);
}

/// A reader that opens at the latest step, again and again, skips and never goes back.
pub fn latest(stage: &mut Stage) {
    let url = stage.url_with("latest", stage.alone());
    let writer = stage.start("late::latest_writer", 2, &url, &[]);
    for newest in [3, 7, 11] {
        stage.all_heard(writer, "wrote");
        let arguments = [("newest", newest)];
        let reader = stage.start("late::latest_reader", 2, &url, &arguments);
        stage.ended(reader);
        stage.tell_all(writer, "go on");
    }
    stage.all_ended();
}

/// Writes four steps at a time.
pub fn latest_writer(part: &Part) {
    let mut out = part.writer();
    for _ in 0..3 {
        for _ in 0..4 {
            put_slab(&mut out, "u", part);
        }
        part.say("wrote");
        let _go_on = part.hear();
    }
    out.close().unwrap();
}

/// Takes the newest step.
pub fn latest_reader(part: &Part) {
    let mut inp = part.reader_from(Start::Latest);
    assert_eq!(get_slab(&mut inp, "u", part), Some(part.number("newest")));
}

/// A writer that is slow at each step.
pub fn slow_writer_play(stage: &mut Stage) {
    let url = stage.url_with("slow", stage.keep_all());
    stage.start("groups::plain_reader", 2, &url, &[("steps", 10)]);
    stage.start("late::slow_writer", 2, &url, &[]);
    stage.all_ended();
}

/// Takes its time.
pub fn slow_writer(part: &Part) {
    let mut out = part.writer();
    for _ in 0..10 {
        thread::sleep(SLOW);
        put_slab(&mut out, "u", part);
    }
    out.close().unwrap();
}

/// A reader that is slow at each step.
pub fn slow_reader_play(stage: &mut Stage) {
    let url = stage.url_with("slow", stage.keep_all());
    stage.start("groups::plain_writer", 2, &url, &[("steps", 10)]);
    stage.start("late::slow_reader", 2, &url, &[]);
    stage.all_ended();
}

/// Takes its time, and sees every step nevertheless.
pub fn slow_reader(part: &Part) {
    let mut inp = part.reader();
    for number in 0..10 {
        assert_eq!(get_slab(&mut inp, "u", part), Some(number));
        thread::sleep(SLOW);
    }
    assert_eq!(get_slab(&mut inp, "u", part), None);
}

/// Whatever blocks can be interrupted while it does; a reader goes on afterwards.
pub fn interrupt(stage: &mut Stage) {
    for (number, call) in ["begin", "end", "close"].into_iter().enumerate() {
        let url = stage.url_with(&format!("interrupted-{call}"), stage.keep_all_alone());
        let arguments = [("call", number as u64)];
        let writer = stage.start("late::interrupted_writer", 2, &url, &arguments);
        stage.heard(writer, 0, "interrupted");
        stage.tell(writer, 1, "come");
        stage.ended(writer);
    }
    let url = stage.url_with("interrupted", stage.keep_all());
    let writer = stage.start("late::poll_writer", 1, &url, &[]);
    let reader = stage.start("late::interrupted_reader", 1, &url, &[]);
    stage.heard(reader, 0, "interrupted");
    stage.tell(writer, 0, "write");
    stage.heard(reader, 0, "saw");
    stage.tell(writer, 0, "write");
    stage.all_ended();
    let url = stage.url("never");
    stage.start("late::interrupted_opening", 1, &url, &[]);
    stage.all_ended();
}

/// Sets a flag once the caller has had time to block.
fn interrupt_soon(flag: Interrupt) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        thread::sleep(SLOW);
        flag.set();
    })
}

/// Rank 0 makes a collective call that rank 1 does not come to, and is
/// interrupted; the group then is of no use, and rank 1 hears so too.
pub fn interrupted_writer(part: &Part) {
    const BEGIN: u64 = 0;
    const END: u64 = 1;
    let (mut out, call) = (part.writer(), part.number("call"));
    if call != BEGIN && part.rank == 1 {
        // Rank 0 needs company until its call.
        let step = out.begin_step(time(0)).unwrap();
        if call == END {
            let _come = part.hear();
            step.end().unwrap_err();
            return;
        }
        step.end().unwrap();
    }
    if part.rank == 1 {
        let _come = part.hear();
        let outcome = match call {
            BEGIN => out
                .begin_step(time(0))
                .map(drop)
                .map_err(|error| error.to_string()),
            _ => out.close().map_err(|error| error.to_string()),
        };
        outcome.unwrap_err();
        return;
    }
    let flag = out.interrupt();
    let (interrupter, error) = match call {
        BEGIN => {
            let interrupter = interrupt_soon(flag.clone());
            let begun = out.begin_step(time(0)).map(drop);
            (interrupter, begun.unwrap_err().to_string())
        }
        END => {
            let step = out.begin_step(time(0)).unwrap();
            let interrupter = interrupt_soon(flag.clone());
            (interrupter, step.end().unwrap_err().to_string())
        }
        _ => {
            out.begin_step(time(0)).unwrap().end().unwrap();
            let interrupter = interrupt_soon(flag.clone());
            (interrupter, out.close().unwrap_err().to_string())
        }
    };
    interrupter.join().unwrap();
    assert!(error.contains("interrupted"), "{error}");
    part.say("interrupted");
}

/// Waits for a step, is interrupted twice, and then gets it.
pub fn interrupted_reader(part: &Part) {
    let mut inp = part.reader();
    for _ in 0..2 {
        let interrupter = interrupt_soon(inp.interrupt());
        match inp.next_step() {
            Err(NextError::Failed(failure)) => {
                assert!(
                    matches!(failure.fault, Fault::Interrupted { .. }),
                    "{failure}"
                );
            }
            other => panic!("not interrupted: {other:?}"),
        }
        interrupter.join().unwrap();
        inp.interrupt().clear();
    }
    part.say("interrupted");
    assert_eq!(get_slab(&mut inp, "u", part), Some(0));
    part.say("saw");
    assert_eq!(get_slab(&mut inp, "u", part), Some(1));
    assert_eq!(get_slab(&mut inp, "u", part), None);
}

/// Waits for a writer that never comes, and is interrupted.
pub fn interrupted_opening(part: &Part) {
    let flag = Interrupt::default();
    let interrupter = interrupt_soon(flag.clone());
    let opened = Reader::options()
        .interrupt(&flag)
        .open(&part.url, part.comm());
    match opened.map(drop) {
        Err(OpenError::Failed(failure)) => {
            assert!(
                matches!(failure.fault, Fault::Interrupted { .. }),
                "{failure}"
            );
        }
        other => panic!("not interrupted: {other:?}"),
    }
    interrupter.join().unwrap();
}

/// A reader holds step 0 while ten are written and three kept: a policy drops
/// the others, and their numbers tell which.
pub fn shedding(stage: &mut Stage, policy: &str) {
    assert!(stage.engine != Engine::File);
    let query = format!("policy={policy}&{}", stage.room_for_three(1));
    let url = stage.url_with("shed", &query);
    let writer = stage.start("late::shedding_writer", 1, &url, &[]);
    let reader = stage.start("late::gap_reader", 1, &url, &[]);
    stage.heard(reader, 0, "holding 0");
    stage.tell(writer, 0, "write");
    let sealed = stage.heard(writer, 0, "sealed");
    stage.tell(reader, 0, "go on");
    stage.tell(writer, 0, "close");
    let seen = stage.heard(reader, 0, "saw");
    stage.all_ended();
    let numbers = |text: &str| -> Vec<u64> {
        let words = text.split(' ').filter(|word| !word.is_empty());
        words.map(|word| word.parse().unwrap()).collect()
    };
    let (sealed, seen) = (numbers(&sealed), numbers(&seen));
    assert!(
        seen.is_sorted() && seen.len() < 10,
        "saw {seen:?} of {sealed:?}"
    );
    assert!(
        seen.iter().all(|step| sealed.contains(step)),
        "saw {seen:?} of {sealed:?}"
    );
    if policy == "drop-newest" {
        assert!(sealed.len() < 10, "all were sealed: {sealed:?}");
        assert_eq!(seen, sealed, "a sealed step was not shown");
    } else {
        assert_eq!(seen.first(), Some(&0), "{seen:?}");
        assert_eq!(seen.last(), sealed.last(), "the newest was not shown");
    }
}

/// Writes step 0; then nine more, whatever is kept of them.
pub fn shedding_writer(part: &Part) {
    let mut out = part.writer();
    let mut sealed = vec![put_slab(&mut out, "u", part)];
    let _write = part.hear();
    for number in 1..10 {
        let own = cells::block::<f64>("u", number, &SHAPE, &[0, 0], &SHAPE);
        let u = out.define::<f64>("u", Shape::global(SHAPE)).unwrap();
        let step = out.begin_step(time(number)).unwrap();
        assert_eq!(step.number(), number, "dropped steps keep their numbers");
        if !step.is_discarded() {
            step.put(u, &[0, 0], &own).unwrap();
        }
        let ended = step.end().unwrap();
        if !ended.discarded {
            sealed.push(number);
        }
    }
    let words: Vec<_> = sealed.iter().map(ToString::to_string).collect();
    part.say(format_args!("sealed {}", words.join(" ")));
    let _close = part.hear();
    out.close().unwrap();
}

/// Holds step 0 until it is told to go on; says which steps it saw.
pub fn gap_reader(part: &Part) {
    let mut inp = part.reader();
    let step = inp.next_step().unwrap().unwrap();
    part.say(format_args!("holding {}", step.number()));
    let mut seen = vec![step.number().to_string()];
    let _go_on = part.hear();
    let read: ArrayD<f64> = step.get("u", ..).unwrap();
    cells::check("u", 0, &SHAPE, &[0, 0], read.view());
    drop(step);
    while let Some(number) = get_slab(&mut inp, "u", part) {
        seen.push(number.to_string());
    }
    part.say(format_args!("saw {}", seen.join(" ")));
}
