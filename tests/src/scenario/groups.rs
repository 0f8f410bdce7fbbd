//! Who takes part, and how they leave: early, without a word, in two streams
//! at once, in both directions.

use std::time::Duration;

use ndarray::ArrayD;
use panta::{Reader, Shape, Snapshot, Start, StepTime, Writer};
use panta_transports::time::Wait;

use crate::cells;
use crate::grid;
use crate::part::{Part, Role};
use crate::stage::{Engine, Stage};

/// The array that these scenarios send.
pub(crate) const SHAPE: [u64; 2] = [12, 9];

/// A reader that leaves after 5 of 50 steps does not hold the writer up.
pub fn early_exit(stage: &mut Stage) {
    let url = stage.url("early");
    let writer = stage.start("groups::plain_writer", 2, &url, &[("steps", 50)]);
    let reader = stage.start("groups::early_reader", 2, &url, &[]);
    stage.ended(reader);
    stage.ended(writer);
}

/// A writer that is dropped without `close` ends the stream for its readers.
pub fn writer_dropped(stage: &mut Stage) {
    let url = stage.url_with("dropped", stage.keep_all());
    stage.start("groups::plain_reader", 2, &url, &[("steps", 4)]);
    stage.start("groups::dropping_writer", 2, &url, &[]);
    stage.all_ended();
}

/// A reader that is dropped without `close`, with a step in hand, holds nobody up.
pub fn reader_dropped(stage: &mut Stage) {
    let query = match stage.engine {
        // The writer ends the stream when its readers have let go: both have to be there.
        Engine::Stream(_) => format!("{}&rendezvous=2", stage.keep_all()),
        _ => stage.keep_all().to_owned(),
    };
    let url = stage.url_with("dropped", &query);
    let writer = stage.start("groups::plain_writer", 2, &url, &[("steps", 20)]);
    let dropped = stage.start("groups::dropping_reader", 2, &url, &[]);
    let other = stage.start("groups::plain_reader", 1, &url, &[("steps", 20)]);
    stage.ended(dropped);
    stage.ended(writer);
    stage.ended(other);
}

/// Two streams of the same variables in one program do not mix.
pub fn two_streams(stage: &mut Stage) {
    let keep = stage.keep_all();
    let (one, two) = (stage.url_with("one", keep), stage.url_with("two", keep));
    let urls = format!("{one} {two}");
    stage.start("groups::two_streams_writer", 2, &urls, &[]);
    stage.start("groups::two_streams_reader", 3, &urls, &[]);
    stage.all_ended();
}

/// Two programs that each write a stream and read the other's, in step.
pub fn bidirectional(stage: &mut Stage) {
    let keep = stage.keep_all();
    let (there, back) = (stage.url_with("there", keep), stage.url_with("back", keep));
    stage.start(
        "groups::both_ways",
        3,
        &format!("{there} {back}"),
        &[("first", 1)],
    );
    stage.start("groups::both_ways", 5, &format!("{back} {there}"), &[]);
    stage.all_ended();
}

/// Writers and readers as threads of one process.
pub fn threads(stage: &mut Stage) {
    let url = stage.url_with("threads", stage.keep_all());
    let sides: [(Role, usize); 3] = [(plain_writer, 3), (plain_reader, 2), (plain_reader, 1)];
    stage.threads(&url, &sides, &[("steps", 20)]);
}

/// Puts this rank's slab of `u`, whose data go by the name `data`.
pub(crate) fn put_slab(out: &mut Writer, data: &str, part: &Part) -> u64 {
    try_put_slab(out, data, part).unwrap()
}

/// The same, with the error of the step's begin or end.
pub(crate) fn try_put_slab(
    out: &mut Writer,
    data: &str,
    part: &Part,
) -> Result<u64, Box<dyn std::error::Error>> {
    let u = out.define::<f64>("u", Shape::global(SHAPE)).unwrap();
    let (start, count) = grid::slab(&SHAPE, 0, part.rank, part.size);
    let own;
    let step = out.begin_step(StepTime::default())?;
    let number = step.number();
    own = cells::block::<f64>(data, number, &SHAPE, &start, &count);
    step.put(u, &start, &own)?;
    step.end()?;
    Ok(number)
}

/// Gets and checks this rank's slab of the next step; its number, or `None` at the end.
#[track_caller]
pub(crate) fn get_slab(inp: &mut Reader, data: &str, part: &Part) -> Option<u64> {
    let step = inp.next_step().unwrap()?;
    check_slab(&step, data, part);
    Some(step.number())
}

/// Gets and checks this rank's slab of a step.
#[track_caller]
pub(crate) fn check_slab(step: &Snapshot, data: &str, part: &Part) {
    let (start, count) = grid::slab(&SHAPE, 1, part.rank, part.size);
    let read: ArrayD<f64> = step.get("u", (&start, &count)).unwrap();
    cells::check(data, step.number(), &SHAPE, &start, read.view());
}

/// Writes the steps it is told.
pub fn plain_writer(part: &Part) {
    let mut out = part.writer();
    for number in 0..part.number("steps") {
        assert_eq!(put_slab(&mut out, "u", part), number);
    }
    out.close().unwrap();
}

/// Reads all steps, from the first to the last.
pub fn plain_reader(part: &Part) {
    let mut inp = part.reader();
    part.say("opened");
    for number in 0..part.number("steps") {
        assert_eq!(get_slab(&mut inp, "u", part), Some(number));
    }
    assert_eq!(get_slab(&mut inp, "u", part), None);
    assert_eq!(get_slab(&mut inp, "u", part), None, "the end stays the end");
}

/// Leaves after five steps.
pub fn early_reader(part: &Part) {
    let mut inp = part.reader_from(Start::Latest);
    for _ in 0..5 {
        if get_slab(&mut inp, "u", part).is_none() {
            break;
        }
    }
    inp.close();
}

/// Writes four steps and is dropped.
pub fn dropping_writer(part: &Part) {
    let mut out = part.writer();
    for _ in 0..4 {
        put_slab(&mut out, "u", part);
    }
}

/// Is dropped with a step in hand.
pub fn dropping_reader(part: &Part) {
    let mut comm = part.comm();
    let mut inp = part.reader();
    get_slab(&mut inp, "u", part).unwrap();
    let step = inp.next_step().unwrap().unwrap();
    let kept = step.detach();
    let read: ArrayD<f64> = kept.get("u", ..).unwrap();
    cells::check("u", kept.number(), &SHAPE, &[0, 0], read.view());
    // The writer takes back what a group keeps soon after its root has left.
    let wait = Wait::for_at_most(Duration::from_secs(60));
    comm.allgather(&[], &wait).unwrap();
    drop(inp);
}

fn urls(part: &Part) -> (&str, &str) {
    part.url.split_once(' ').unwrap()
}

const TURNS: u64 = 10;

/// Writes two steps of one stream for each of the other.
pub fn two_streams_writer(part: &Part) {
    let (one, two) = urls(part);
    let mut one = Writer::open(one, part.comm()).unwrap();
    let mut two = Writer::open(two, part.comm()).unwrap();
    for _ in 0..TURNS {
        put_slab(&mut one, "one", part);
        put_slab(&mut two, "two", part);
        put_slab(&mut one, "one", part);
    }
    two.close().unwrap();
    one.close().unwrap();
}

/// Reads both, each with its own data and count.
pub fn two_streams_reader(part: &Part) {
    let (one, two) = urls(part);
    let mut one = Reader::open(one, part.comm(), Start::Oldest).unwrap();
    let mut two = Reader::open(two, part.comm(), Start::Oldest).unwrap();
    for turn in 0..TURNS {
        assert_eq!(get_slab(&mut two, "two", part), Some(turn));
        assert_eq!(get_slab(&mut one, "one", part), Some(2 * turn));
        assert_eq!(get_slab(&mut one, "one", part), Some(2 * turn + 1));
    }
    assert_eq!(get_slab(&mut one, "one", part), None);
    assert_eq!(get_slab(&mut two, "two", part), None);
}

/// Writes the first stream and reads the second, by turns with the other side.
pub fn both_ways(part: &Part) {
    let (own, other) = urls(part);
    let is_first = part.has("first");
    let (own_data, other_data) = if is_first {
        ("there", "back")
    } else {
        ("back", "there")
    };
    let mut out = Writer::open(own, part.comm()).unwrap();
    let mut inp = Reader::open(other, part.comm(), Start::Oldest).unwrap();
    for turn in 0..TURNS {
        if is_first {
            put_slab(&mut out, own_data, part);
        }
        assert_eq!(get_slab(&mut inp, other_data, part), Some(turn));
        if !is_first {
            put_slab(&mut out, own_data, part);
        }
    }
    out.close().unwrap();
    assert_eq!(get_slab(&mut inp, other_data, part), None);
}
