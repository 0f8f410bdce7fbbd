//! Late joiners: exactly the steps that are kept, from where they ask.

use panta::{Reader, Start};

use super::groups::get_slab;
use crate::cells;
use crate::part::{Part, time};
use crate::stage::{Arguments, Stage};
use panta::Shape;

const STEPS: u64 = 10;

/// From the oldest, at, after, at a time, at the latest; after the writer has closed.
pub fn replay(stage: &mut Stage) {
    let url = stage.url_with("replay", stage.keep_all_alone());
    let stays = !stage.outlives_its_writer();
    let arguments: Arguments<'_> = if stays { &[("stays", 1)] } else { &[] };
    let writer = stage.start("replay::recorded_writer", 2, &url, arguments);
    if stays {
        stage.all_heard(writer, "written");
    } else {
        stage.ended(writer);
    }
    for (key, value, first) in [
        ("oldest", 0, 0),
        ("at", 4, 4),
        ("after", 4, 5),
        ("time", 22, 5),
        ("time", 20, 4),
        ("latest", 0, STEPS - 1),
        ("cursor", 0, 0),
    ] {
        let mut arguments = vec![(key, value), ("first", first)];
        arguments.extend(stays.then_some(("stays", 1)));
        let reader = stage.start("replay::replay_reader", 2, &url, &arguments);
        stage.ended(reader);
    }
    if stays {
        stage.tell_all(writer, "close");
        stage.ended(writer);
    }
}

/// Writes ten steps, half a second of simulation apart; if it stays, closes when it is told.
pub fn recorded_writer(part: &Part) {
    let mut out = part.writer();
    let shape = super::groups::SHAPE;
    let u = out.define::<f64>("u", Shape::global(shape)).unwrap();
    let (start, count) = crate::grid::slab(&shape, 0, part.rank, part.size);
    for number in 0..STEPS {
        let own = cells::block::<f64>("u", number, &shape, &start, &count);
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &start, &own).unwrap();
        step.end().unwrap();
    }
    if part.has("stays") {
        part.say("written");
        let _close = part.hear();
    }
    out.close().unwrap();
}

/// Sees all steps from the first it should to the end.
pub fn replay_reader(part: &Part) {
    let start = if part.has("at") {
        Start::At(part.number("at"))
    } else if part.has("after") {
        Start::After(part.number("after"))
    } else if part.has("time") {
        Start::AtTime(part.number("time") as f64 / 10.0)
    } else if part.has("latest") {
        Start::Latest
    } else if part.has("cursor") {
        Start::Cursor("nobody committed".into())
    } else {
        Start::Oldest
    };
    let mut inp = part.reader_from(start);
    for number in part.number("first")..STEPS {
        assert_eq!(get_slab(&mut inp, "u", part), Some(number));
    }
    if !part.has("stays") {
        assert_eq!(get_slab(&mut inp, "u", part), None);
    }
}

/// A step that is no longer kept is an error that names the oldest that is.
pub fn trimmed(stage: &mut Stage) {
    let query = format!("retain_steps=3&{}", stage.alone());
    let url = stage.url_with("trimmed", query.trim_end_matches('&'));
    let writer = stage.start("death::told_writer", 2, &url, &[]);
    stage.tell_all(writer, "write 9");
    stage.all_heard(writer, "wrote 9");
    let reader = stage.start("replay::trimmed_reader", 2, &url, &[]);
    stage.ended(reader);
    stage.tell_all(writer, "close");
    stage.all_ended();
}

/// Asks for step 2 of 9, of which 3 are kept: an error at the opening or at the
/// first step.
pub fn trimmed_reader(part: &Part) {
    let error = match Reader::open(&part.url, part.comm(), Start::At(2)) {
        Ok(mut inp) => inp.next_step().map(drop).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("oldest") && error.contains('7'), "{error}");
}

/// Sees the steps from the first that are there to 6, each once, written by two lives
/// of a writer.
pub fn fenced_reader(part: &Part) {
    let mut inp = part.reader();
    for number in part.number("first")..=6 {
        assert_eq!(get_slab(&mut inp, "u", part), Some(number));
    }
    assert_eq!(get_slab(&mut inp, "u", part), None);
}
