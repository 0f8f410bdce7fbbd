//! What a reader gets step after step comes with the step: counted by a relay that
//! stands between writer and reader and holds everything back by 10 ms each way; and
//! what becomes of it where there are several of either, and where one of them goes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::single_range_in_vec_init,
    reason = "tests; a list of one range of rows"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use ndarray::{Array1, Array2, s};
use panta::{PushCounts, Reader, Shape, Solo, Start, StepTime, ThreadComm, Threads, Var, Writer};
use panta_tests::relay::{self, Talk, wait_beyond};

const SIDE: u64 = 40;
/// Metadata of a frozen step at either side, at most.
const METADATA_BYTES: (u64, u64) = (84, 120);
/// By so much steps may differ: their numbers and times take as many bytes as they need.
const GIVE_BYTES: u64 = 3;
/// What comes with a frozen step beside the bytes that were asked for, at most: its
/// announcement, and the head of what is pushed, each in a sealed frame.
const FRAMES_BYTES: u64 = 206;
/// What the writer says to a subscription: the frame of a push of nothing.
const ANSWER_BYTES: u64 = 12 + 8 + 13 + 16;

/// What the contact file is called; the reader's names the relay.
fn contact(directory: &Path, side: &str) -> PathBuf {
    directory.join(side)
}

fn url(directory: &Path, side: &str, more: &str) -> String {
    let contact = contact(directory, side);
    let contact = contact.display();
    format!("stream:slow?contact={contact}&transport=tcp&deadline=20s{more}")
}

/// Has a reader find the relay in place of the writer.
fn put_between(directory: &Path) -> Arc<Talk> {
    relay::put_between(&contact(directory, "writer"), &contact(directory, "reader"))
}

fn field(step: u64) -> Array2<f64> {
    let side = SIDE as usize;
    let cell = |(y, x)| step * 10_000 + (y * side + x) as u64;
    Array2::from_shape_fn((side, side), |at| cell(at) as f64)
}

/// One writer, and one reader behind the relay.
struct Pair {
    writer: Writer,
    u: Var<f64>,
    reader: Reader,
    talk: Arc<Talk>,
    step: u64,
}

/// What a step took.
#[derive(Debug, PartialEq, Eq)]
struct Took {
    /// Words of the reader between the end of the step and its last get.
    asked: u64,
    /// What came from the writer's side of the wire.
    came_bytes: u64,
    /// What both sides count as metadata.
    metadata_bytes: (u64, u64),
}

type Rows = std::ops::Range<usize>;

impl Pair {
    fn open(directory: &Path) -> Self {
        // Nobody says that it lives while this goes on.
        let more = "&rendezvous=0&lease=600s";
        let mut writer = Writer::open(&url(directory, "writer", more), Solo).unwrap();
        let u = writer.define::<f64>("u", Shape::global([SIDE, SIDE]));
        let talk = put_between(directory);
        let reader = url(directory, "reader", "&lease=600s");
        Self {
            writer,
            u: u.unwrap(),
            reader: Reader::open(&reader, Solo, Start::Oldest).unwrap(),
            talk,
            step: 0,
        }
    }

    /// Writes a step and gets rows of it, one array for each range. Once it is
    /// done the reader will say so much to the writer that is answered.
    fn step(&mut self, rows: &[Rows], answers: u64) -> Took {
        let talk = Arc::clone(&self.talk);
        let (asked, came) = (talk.client_words(), talk.server_bytes());
        let metadata = (self.writer.metadata_bytes(), self.reader.metadata_bytes());
        let (number, field) = (self.step, field(self.step));
        let step = self.writer.begin_step(StepTime::sim(0.0)).unwrap();
        step.put(self.u, &[0, 0], field.view()).unwrap();
        step.end().unwrap();
        let step = self.reader.next_step().unwrap().unwrap();
        assert_eq!(step.number(), number);
        for rows in rows {
            let got: Array2<f64> = step.get("u", s![rows.clone(), ..]).unwrap();
            assert_eq!(got, field.slice(s![rows.clone(), ..]));
        }
        let asked = talk.client_words() - asked;
        let came_bytes = talk.server_bytes() - came;
        // To let go of it is said, too, and no part of the next step.
        let before = (talk.client_words(), talk.server_bytes());
        drop(step);
        wait_beyond(before.0, || talk.client_words());
        if answers > 0 {
            let all_but_one = before.1 + (answers - 1) * ANSWER_BYTES;
            wait_beyond(all_but_one, || talk.server_bytes());
        }
        self.step += 1;
        let after = (self.writer.metadata_bytes(), self.reader.metadata_bytes());
        Took {
            asked,
            came_bytes,
            metadata_bytes: (after.0 - metadata.0, after.1 - metadata.1),
        }
    }

    fn pushed(&self) -> (u64, u64) {
        let PushCounts { used, wasted, .. } = self.reader.push_counts();
        (used, wasted)
    }
}

#[test]
fn gets_cost_a_round_trip_until_they_are_learned_and_then_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut pair = Pair::open(directory.path());
    // Rows of other tiles.
    let (two, other) = ([3..9, 20..40], [15..20]);
    // The first opens a connection.
    assert!(pair.step(&two, 0).asked > 2);
    assert_eq!(pair.step(&two, 2).asked, 2, "one for each get");
    for _ in 0..4 {
        assert_eq!(pair.step(&two, 0).asked, 0);
    }
    assert_eq!(pair.pushed(), (8, 0));
    // Another selection is asked for; it takes twice as long to be believed.
    for _ in 0..3 {
        assert!(pair.step(&other, 0).asked >= 1);
    }
    // Of the first of them, and while the word that it is not wanted was on its way.
    let (used, wasted) = pair.pushed();
    assert!(used == 8 && (2..=6).contains(&wasted), "{used}, {wasted}");
    assert!(pair.step(&other, 1).asked >= 1);
    assert_eq!(pair.step(&other, 0).asked, 0);
    assert_eq!(pair.pushed(), (9, wasted));
}

#[test]
fn frozen_gets_cost_one_round_trip_in_all_and_a_frozen_step_always_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let mut pair = Pair::open(directory.path());
    pair.writer.freeze_definitions();
    pair.reader.freeze_selections();
    let all = [0..SIDE as usize];
    assert!(pair.step(&all, 1).asked > 1);

    // Cells, checksums, and what tells that they are the step's.
    let payload_bytes = SIDE * SIDE * 8 + 4 * 4 + 32;
    for _ in 0..5 {
        let took = pair.step(&all, 0);
        assert_eq!(took.asked, 0);
        assert_bounded(took.metadata_bytes);
        let beside = took.came_bytes - payload_bytes;
        assert!(beside <= FRAMES_BYTES, "{took:?}");
        assert!(beside + 2 * GIVE_BYTES >= FRAMES_BYTES, "{took:?}");
    }
}

/// A frozen step costs neither more nor, since then the bound is too wide, less.
fn assert_bounded(metadata: (u64, u64)) {
    assert_eq!(metadata.0, METADATA_BYTES.0);
    assert!(metadata.1 <= METADATA_BYTES.1, "{metadata:?}");
    assert!(
        metadata.1 + 2 * GIVE_BYTES >= METADATA_BYTES.1,
        "{metadata:?}"
    );
}

#[test]
fn a_frozen_step_costs_the_same_metadata_over_shared_memory() {
    let directory = tempfile::tempdir().unwrap();
    let contact = contact(directory.path(), "contact");
    let url = format!(
        "stream:near?contact={}&transport=shm&rendezvous=0",
        contact.display()
    );
    let mut out = Writer::open(&url, Solo).unwrap();
    let u = out.define::<f64>("u", Shape::global([SIDE, SIDE])).unwrap();
    out.freeze_definitions();
    let mut inp = Reader::open(&url, Solo, Start::Oldest).unwrap();
    inp.freeze_selections();
    for number in 0..6 {
        let before = (out.metadata_bytes(), inp.metadata_bytes());
        let step = out.begin_step(StepTime::sim(0.0)).unwrap();
        let field = field(number);
        step.put(u, &[0, 0], field.view()).unwrap();
        step.end().unwrap();
        let step = inp.next_step().unwrap().unwrap();
        let got: Array2<f64> = step.get("u", s![.., ..]).unwrap();
        assert_eq!(got, field);
        drop(step);
        let after = (out.metadata_bytes(), inp.metadata_bytes());
        if number > 0 {
            // As over tcp.
            assert_bounded((after.0 - before.0, after.1 - before.1));
        }
    }
    assert_eq!(
        inp.push_counts(),
        PushCounts::default(),
        "it is there already"
    );
}

/// Cells of a writer rank in the tests without a relay.
const CELLS: usize = 1000;

fn values(step: u64) -> Array1<f64> {
    Array1::from_shape_fn(RANKS * CELLS, |cell| {
        (step * 1_000_000 + cell as u64) as f64
    })
}

const RANKS: usize = 2;

/// Writes steps, each rank its part of `u`.
fn write(url: &str, comm: ThreadComm, rank: usize, steps: u64) {
    let mut out = Writer::open(url, comm).unwrap();
    let u = out.define::<f64>("u", Shape::global([(RANKS * CELLS) as u64]));
    let u = u.unwrap();
    let start = rank * CELLS;
    for number in 0..steps {
        let all = values(number);
        let step = out.begin_step(StepTime::sim(number as f64)).unwrap();
        let own = all.slice(s![start..start + CELLS]);
        step.put(u, &[start as u64], own).unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
}

/// Reads every step that comes, and of each a part that lies on both writer ranks; how
/// many there were.
fn read(url: &str, comm: ThreadComm) -> (u64, PushCounts) {
    let mut inp = Reader::open(url, comm, Start::Oldest).unwrap();
    let mut steps = 0;
    while let Some(step) = inp.next_step().unwrap() {
        let got: Array1<f64> = step.get("u", s![100..2 * CELLS - 100]).unwrap();
        let whole = values(step.number());
        assert_eq!(
            got,
            whole.slice(s![100..2 * CELLS - 100]),
            "step {}",
            step.number()
        );
        steps += 1;
    }
    (steps, inp.push_counts())
}

/// Runs a writer of two ranks and reader groups of so many; what each reader rank got.
fn run(more: &str, groups: &[usize], steps: u64) -> Vec<(u64, PushCounts)> {
    let directory = tempfile::tempdir().unwrap();
    let rendezvous = format!("&rendezvous={}{more}", groups.len());
    let (writer, reader) = (
        &url(directory.path(), "contact", &rendezvous),
        &url(directory.path(), "contact", ""),
    );
    thread::scope(|scope| {
        for (rank, comm) in Threads::group(RANKS).into_iter().enumerate() {
            scope.spawn(move || write(writer, comm, rank, steps));
        }
        let ranks = groups.iter().flat_map(|size| Threads::group(*size));
        let readers: Vec<_> = ranks
            .map(|comm| scope.spawn(move || read(reader, comm)))
            .collect();
        let read = readers.into_iter().map(|reader| reader.join().unwrap());
        read.collect()
    })
}

const STEPS: u64 = 400;

#[test]
fn every_writer_rank_pushes_to_every_reader_rank() {
    // Some ten steps fit, so the writer does not run far ahead of what is learned.
    for (steps, counts) in run("&limit=100KiB", &[2], STEPS) {
        assert_eq!(steps, STEPS);
        assert!(
            counts.used > STEPS && counts.used <= 2 * STEPS,
            "{counts:?}"
        );
        assert!(counts.wasted < 50, "{counts:?}");
    }
}

#[test]
fn a_step_is_pushed_only_to_the_group_that_it_goes_to() {
    let read = run("&limit=100KiB&distribution=round-robin", &[1, 1], STEPS);
    assert_eq!(read.iter().map(|(steps, _)| steps).sum::<u64>(), STEPS);
    for (steps, counts) in read {
        assert_eq!(steps, STEPS / 2);
        assert!(counts.used > STEPS / 2, "{counts:?}");
        assert!(counts.wasted < 50, "{counts:?}");
    }
    // Where a group must ask for each, other ranks than the root do not know of it.
    let read = run("&limit=100KiB&distribution=on-demand", &[1, 1], STEPS);
    assert_eq!(read.iter().map(|(steps, _)| steps).sum::<u64>(), STEPS);
}

#[test]
fn a_group_that_skips_steps_is_not_pushed_what_it_skips() {
    let directory = tempfile::tempdir().unwrap();
    let (writer, reader) = (
        &url(
            directory.path(),
            "contact",
            "&policy=drop-oldest&limit=100KiB",
        ),
        &url(directory.path(), "contact", "&latest_only=true"),
    );
    let (_, counts) = thread::scope(|scope| {
        for (rank, comm) in Threads::group(RANKS).into_iter().enumerate() {
            scope.spawn(move || write(writer, comm, rank, STEPS));
        }
        read(reader, Threads::group(1).remove(0))
    });
    assert_eq!(counts.wasted, 0, "{counts:?}");
}

#[test]
fn a_connection_that_ends_within_a_push_is_the_end_of_that_reader_alone() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let more = "&rendezvous=0&limit=16MiB";
    let mut out = Writer::open(&url(directory, "writer", more), Solo).unwrap();
    let cells: u64 = 400_000;
    let u = out.define::<f64>("u", Shape::global([cells])).unwrap();
    let mut put = |number: u64| {
        let step = out.begin_step(StepTime::sim(0.0)).unwrap();
        assert_eq!(step.number(), number);
        let field = Array1::from_elem(cells as usize, number as f64);
        step.put(u, &[0], field.view()).unwrap();
        step.end().unwrap();
    };
    let talk = put_between(directory);
    let mut inp = Reader::open(&url(directory, "reader", ""), Solo, Start::Oldest).unwrap();
    inp.freeze_selections();
    let mut get = |number: u64| -> Result<(), String> {
        let step = inp.next_step().map_err(|error| error.to_string())?;
        let step = step.ok_or("it has ended")?;
        let got: Array1<f64> = step.get("u", s![..]).map_err(|error| error.to_string())?;
        assert!(got.iter().all(|cell| *cell == number as f64));
        Ok(())
    };
    put(0);
    let before = talk.server_words();
    get(0).unwrap();
    wait_beyond(before, || talk.server_words());
    put(1);
    get(1).unwrap();
    talk.cut_after(1 << 20);
    put(2);
    let error = get(2).unwrap_err();
    assert!(error.contains("lost") || error.contains("ended"), "{error}");
    assert!(inp.push_counts().used >= 1);
    // More steps than its limit holds: nothing is kept for the reader that went.
    for number in 3..12 {
        put(number);
    }
    let other = Reader::open(&url(directory, "writer", ""), Solo, Start::Latest);
    let mut other = other.unwrap();
    put(12);
    let step = other.next_step().unwrap().unwrap();
    let got: Array1<f64> = step.get("u", s![5..9]).unwrap();
    assert_eq!(got, Array1::from_elem(4, step.number() as f64));
}
