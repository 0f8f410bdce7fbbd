//! What a direct stream does with parameters: `spill` loses nothing, and what cannot be had is said.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use ndarray::{Array1, ArrayD, Axis, concatenate};
use panta::{Reader, Resume, Shape, Snapshot, Solo, Start, StepTime, ThreadComm, Threads, Writer};
use panta_core::stream::machine::limits::MAX_GROUPS;

const RANKS: usize = 2;
const STEPS: u64 = 40;
/// Cells of a rank: 64 KiB, of which a limit of 256 KiB holds three or so.
const CELLS: usize = 8192;

fn values(step: u64, rank: usize) -> Array1<f64> {
    Array1::from_shape_fn(CELLS, |cell| {
        (step * 1_000_000 + (rank * CELLS + cell) as u64) as f64
    })
}

fn whole(step: u64) -> Array1<f64> {
    let parts: Vec<_> = (0..RANKS).map(|rank| values(step, rank)).collect();
    let parts: Vec<_> = parts.iter().map(|part| part.view()).collect();
    concatenate(Axis(0), &parts).unwrap()
}

fn url(directory: &Path, more: &str) -> String {
    let directory = directory.display();
    format!(
        "stream:spilling?contact={directory}/contact&policy=spill&spill={directory}/spilled&limit=256KiB&deadline=20s{more}"
    )
}

fn write(url: &str, comm: ThreadComm, rank: usize, steps: u64) {
    try_write(url, comm, rank, steps).unwrap();
}

/// Half of `u` is put and half of it computed in place; `n` is a value. How it closed.
fn try_write(
    url: &str,
    comm: ThreadComm,
    rank: usize,
    steps: u64,
) -> Result<(), panta::CloseError> {
    let mut out = Writer::open(url, comm).unwrap();
    let cells = (RANKS * CELLS) as u64;
    let u = out.define::<f64>("u", Shape::global([cells])).unwrap();
    let n = out.define::<i64>("n", Shape::global_value()).unwrap();
    for number in 0..steps {
        let own = values(number, rank);
        let step = out.begin_step(StepTime::sim(number as f64)).unwrap();
        let (start, half) = ((rank * CELLS) as u64, CELLS / 2);
        let put = own.slice(ndarray::s![..half]);
        step.put(u, &[start], put).unwrap();
        let mut span = step
            .span(u, &[start + half as u64], &[half as u64])
            .unwrap();
        let computed = own.slice(ndarray::s![half..]);
        span.as_mut_slice()
            .copy_from_slice(computed.as_slice().unwrap());
        if rank == 0 {
            step.put_value(n, &(number as i64)).unwrap();
        }
        assert!(!step.end().unwrap().discarded);
    }
    out.close()
}

#[test]
fn a_reader_that_comes_to_it_late_gets_every_step_though_few_fit_into_memory() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path(), "");
    let (opened, is_open) = channel();
    let (wrote, has_written) = channel();
    thread::scope(|scope| {
        for (rank, comm) in Threads::group(RANKS).into_iter().enumerate() {
            let (url, wrote) = (&url, wrote.clone());
            scope.spawn(move || {
                // The last steps wait for the reader in `close`.
                write(url, comm, rank, STEPS);
                wrote.send(()).unwrap();
            });
        }
        scope.spawn(|| {
            let mut comm = Threads::group(1);
            let mut inp = Reader::open(&url, comm.remove(0), Start::Oldest).unwrap();
            opened.send(()).unwrap();
            let first = inp.next_step().unwrap().unwrap().detach();
            // Nobody gives memory back while the first is held, until the file has most.
            let spilled = directory.path().join("spilled");
            let commits = || {
                let found = std::fs::read_dir(&spilled)
                    .unwrap()
                    .next()
                    .unwrap()
                    .unwrap();
                std::fs::metadata(found.path().join("commits")).map_or(0, |file| file.len())
            };
            let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while commits() < 4096 * (STEPS - 12) {
                assert!(
                    std::time::Instant::now() < until,
                    "only {} bytes of commits",
                    commits()
                );
                thread::yield_now();
            }
            let mut step = first;
            for number in 0..STEPS {
                assert_eq!(step.number(), number);
                assert_eq!(step.get_value::<i64>("n").unwrap(), number as i64);
                let all: ArrayD<f64> = step.get("u", ..).unwrap();
                assert_eq!(all, whole(number).into_dyn(), "step {number}");
                if let Some(next) = inp
                    .next_step()
                    .unwrap_or_else(|error| panic!("after {number}: {error}"))
                {
                    step = next.detach();
                } else {
                    assert_eq!(number + 1, STEPS);
                }
            }
        });
        is_open.recv().unwrap();
    });
    has_written.recv().unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path().join("spilled"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Steps of which one in a while outgrows what was reserved for it by far: memory is
/// taken beyond the limit, which is 32 MiB, by an eighth and 4 MiB, and no further.
const GROWING_STEPS: u64 = 32;
/// Cells of a rank in every step, 2 MiB, and in one that outgrows, 12 MiB more.
const SOME_CELLS: usize = 256 << 10;
const MORE_CELLS: usize = 1536 << 10;

/// Whether a rank puts more than it reserved: both ranks, one, and in the last step the
/// root alone.
fn outgrows(step: u64, rank: usize) -> bool {
    match step {
        15 => true,
        23 => rank == 1,
        31 => rank == 0,
        _ => false,
    }
}

fn cells(step: u64, rank: usize, cells: usize) -> Array1<f64> {
    Array1::from_shape_fn(cells, |cell| {
        (step * 1_000 + rank as u64) as f64 + 1.0 / (cell + 1) as f64
    })
}

fn write_growing(url: &str, comm: ThreadComm, rank: usize, wrote: &Sender<()>) {
    let mut out = Writer::open(url, comm).unwrap();
    let mut define = |what: &str, cells: usize| -> Vec<_> {
        let names = (0..RANKS).map(|rank| format!("{what}{rank}"));
        let shape = || Shape::global([cells as u64]);
        names
            .map(|name| out.define::<f64>(&name, shape()).unwrap())
            .collect()
    };
    let (some, more) = (define("some", SOME_CELLS), define("more", MORE_CELLS));
    for number in 0..GROWING_STEPS {
        // A step that is given up, in which what was spilled is told in vain.
        if number % 6 == 0 {
            drop(out.begin_step(StepTime::sim(-1.0)).unwrap());
        }
        let step = out.begin_step(StepTime::sim(number as f64)).unwrap();
        let own = cells(number, rank, SOME_CELLS);
        step.put(some[rank], &[0], &own).unwrap();
        let own = cells(number, rank, MORE_CELLS);
        if outgrows(number, rank) {
            step.put(more[rank], &[0], &own).unwrap();
        }
        assert!(!step.end().unwrap().discarded);
    }
    wrote.send(()).unwrap();
    out.close().unwrap();
}

#[test]
fn steps_that_outgrow_what_they_reserved_spill_older_ones_and_a_close_loses_none_of_them() {
    let last = GROWING_STEPS - 1;
    assert!(outgrows(last, 0) && !outgrows(last, 1));
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path(), "").replace("limit=256KiB", "limit=32MiB");
    let (wrote, has_written) = channel();
    thread::scope(|scope| {
        for (rank, comm) in Threads::group(RANKS).into_iter().enumerate() {
            let (url, wrote) = (&url, wrote.clone());
            scope.spawn(move || write_growing(url, comm, rank, &wrote));
        }
        // A writer that fails is one that says no more.
        drop(wrote);
        let mut inp = Reader::open(&url, Solo, Start::Oldest).unwrap();
        // Held until everything is written: most of it can only be spilled.
        let mut step = inp.next_step().unwrap().unwrap().detach();
        (0..RANKS).for_each(|_| has_written.recv().unwrap());
        for number in 0..GROWING_STEPS {
            assert_eq!(step.head().time.sim, Some(number as f64));
            for rank in 0..RANKS {
                let read: ArrayD<f64> = step.get(&format!("some{rank}"), ..).unwrap();
                let put = cells(number, rank, SOME_CELLS).into_dyn();
                assert!(read == put, "step {number}");
                if outgrows(number, rank) {
                    let read: ArrayD<f64> = step.get(&format!("more{rank}"), ..).unwrap();
                    let put = cells(number, rank, MORE_CELLS).into_dyn();
                    assert!(read == put, "step {number}");
                }
            }
            let next = inp.next_step();
            match next.unwrap_or_else(|error| panic!("after {number}: {error}")) {
                Some(next) => step = next.detach(),
                None => assert_eq!(number, last),
            }
        }
    });
    let left = std::fs::read_dir(directory.path().join("spilled")).unwrap();
    assert_eq!(left.count(), 0);
}

/// The directories that were spilled to and are still there.
fn left(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("spilled")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Reads what was left behind as a file: every step from the one of this number on.
fn read_left(directory: &Path, first: u64) {
    let [dataset] = left(directory).try_into().unwrap();
    let mut inp = Reader::open(&format!("file:{}", dataset.display()), Solo, Start::Oldest);
    let inp = inp.as_mut().unwrap();
    let mut number = None;
    while let Some(step) = inp.next_step().unwrap() {
        let expected = number.map_or(step.number(), |number| number + 1);
        assert_eq!(step.number(), expected);
        assert!(step.number() <= first || number.is_some(), "{number:?}");
        assert_eq!(step.get_value::<i64>("n").unwrap(), expected as i64);
        let all: ArrayD<f64> = step.get("u", ..).unwrap();
        assert_eq!(all, whole(expected).into_dyn(), "step {expected}");
        number = Some(expected);
    }
    assert_eq!(number, Some(STEPS - 1));
}

#[test]
fn what_a_reader_did_not_have_when_close_waited_long_enough_stays_as_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let url = url(directory, "").replace("deadline=20s", "deadline=5s");
    thread::scope(|scope| {
        let closed: Vec<_> = Threads::group(RANKS)
            .into_iter()
            .enumerate()
            .map(|(rank, comm)| {
                let url = &url;
                scope.spawn(move || try_write(url, comm, rank, STEPS).unwrap_err().to_string())
            })
            .collect();
        let mut inp = Reader::open(&url, Solo, Start::Oldest).unwrap();
        // Two are read and let go of, the third is looked at to the end.
        for number in 0..2 {
            assert_eq!(inp.next_step().unwrap().unwrap().number(), number);
        }
        let third = inp.next_step().unwrap().unwrap().detach();
        for error in closed.into_iter().map(|rank| rank.join().unwrap()) {
            assert!(error.contains("has yet to see"), "{error}");
            let [dataset] = left(directory).try_into().unwrap();
            assert!(
                error.contains(&format!("file:{}", dataset.display())),
                "{error}"
            );
        }
        drop(third);
    });
    read_left(directory, 2);
}

/// A writer of which a reader has two steps and leaves for good, under its cursor: the
/// rest of `steps` stay as a file.
fn leave_behind(url: &str, resume: Resume, steps: u64) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut out = Writer::options().resume(resume).open(url, Solo).unwrap();
            write_all(&mut out, steps);
            out.close().unwrap();
        });
        let mut inp = Reader::open(url, Solo, Start::Cursor("viz".into())).unwrap();
        for _ in 0..2 {
            inp.next_step().unwrap().unwrap().commit("viz").unwrap();
        }
    });
}

fn write_all(out: &mut Writer, steps: u64) {
    let u = out
        .define::<f64>("u", Shape::global([CELLS as u64]))
        .unwrap();
    for number in 0..steps {
        let own = values(number, 0);
        let step = out.begin_step(StepTime::sim(number as f64)).unwrap();
        step.put(u, &[0], &own).unwrap();
        step.end().unwrap();
    }
}

/// How many steps a dataset that was left has.
fn steps_of(dataset: &Path) -> u64 {
    let url = format!("file:{}", dataset.display());
    let mut inp = Reader::open(&url, Solo, Start::Oldest).unwrap();
    let mut steps = 0;
    while inp.next_step().unwrap().is_some() {
        steps += 1;
    }
    steps
}

#[test]
fn the_next_writer_of_a_name_replaces_what_the_last_one_left_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let url = url(directory, "");
    let spilled = directory.join("spilled");
    let of_life = |life: u64| spilled.join(format!("spilling.{life}.panta-spill"));
    // One that closed: the next life is the first again, and the file is its own.
    leave_behind(&url, Resume::Fresh, 20);
    assert_eq!(left(directory), [of_life(1)]);
    let before = steps_of(&of_life(1));
    leave_behind(&url, Resume::Fresh, 10);
    assert_eq!(left(directory), [of_life(1)]);
    assert!((8..=10).contains(&steps_of(&of_life(1))) && before >= 18);
    // Of a life that died the next is a later one.
    std::fs::rename(of_life(1), of_life(7)).unwrap();
    // Others: of another stream, no dataset, and one that is being written.
    let other = spilled.join("spilling.more.1.panta-spill");
    let strange = of_life(3);
    for (path, file) in [(&other, "commits"), (&strange, "notes.txt")] {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join(file), "").unwrap();
    }
    let written = of_life(5);
    let alive = Writer::open(&format!("file:{}", written.display()), Solo).unwrap();
    leave_behind(&url, Resume::Fresh, 10);
    let mut stay = [of_life(1), strange, written, other];
    let mut there = left(directory);
    there.sort();
    stay.sort();
    assert_eq!(there, stay);
    drop(alive);
}

#[test]
fn a_writer_that_resumes_leaves_what_its_earlier_life_spilled() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let url = url(directory, "");
    let earlier = directory.join("spilled/spilling.9.panta-spill");
    leave_behind(&url, Resume::Fresh, 10);
    let [first] = left(directory).try_into().unwrap();
    std::fs::rename(first, &earlier).unwrap();
    let steps = steps_of(&earlier);
    leave_behind(&url, Resume::After(9), 10);
    assert_eq!(left(directory).len(), 2);
    assert_eq!(steps_of(&earlier), steps);
}

/// Steps of a page, so that several lie in one region of memory.
#[test]
fn a_step_that_one_who_left_still_looks_at_is_there_for_those_who_come_to_it_later() {
    for transport in ["shm", "tcp"] {
        let directory = tempfile::tempdir().unwrap();
        let contact = directory.path().join("contact");
        let url = format!(
            "stream:left?contact={}&transport={transport}&rendezvous=0&retain_steps=100&deadline=10s",
            contact.display()
        );
        let mut out = Writer::open(&url, Solo).unwrap();
        let u = out.define::<f64>("u", Shape::global([500])).unwrap();
        let put = |number: u64| Array1::from_elem(500, number as f64);
        let mut write = |number: u64| {
            let own = put(number);
            let step = out.begin_step(StepTime::sim(number as f64)).unwrap();
            step.put(u, &[0], &own).unwrap();
            step.end().unwrap();
        };
        (0..3).for_each(&mut write);
        let mut early = Reader::open(&url, Solo, Start::Oldest).unwrap();
        let seen: Vec<Snapshot> = (0..3)
            .map(|_| early.next_step().unwrap().unwrap().detach())
            .collect();
        drop(early);
        // The writer has heard of it long before the last.
        (3..60).for_each(&mut write);
        let mut late = Reader::open(&url, Solo, Start::Oldest).unwrap();
        for number in 0..60 {
            let step = late.next_step().unwrap().unwrap();
            assert_eq!(step.number(), number);
            let read: ArrayD<f64> = step.get("u", ..).unwrap();
            assert_eq!(read, put(number).into_dyn(), "over {transport}");
        }
        drop(seen);
    }
}

#[test]
fn one_reader_group_too_many_is_told_how_many_there_may_be_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let contact = directory.path().join("contact");
    // Sockets: of rings there would be some for each.
    let url = format!(
        "stream:crowded?contact={}&transport=tcp&rendezvous=0&deadline=60s",
        contact.display()
    );
    let out = Writer::open(&url, Solo).unwrap();
    let open = || Reader::open(&url, Solo, Start::Oldest).unwrap();
    let groups: Vec<Reader> = (0..MAX_GROUPS).map(|_| open()).collect();
    let error = open().next_step().map(drop).unwrap_err().to_string();
    let most = MAX_GROUPS.to_string();
    for wanted in [&most, "close one", "several ranks"] {
        assert!(error.contains(wanted), "{error}");
    }
    drop(groups);
    drop(out);
}

#[test]
fn what_a_cursor_has_yet_to_come_to_stays_as_a_file_when_the_stream_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let url = url(directory, "");
    thread::scope(|scope| {
        for (rank, comm) in Threads::group(RANKS).into_iter().enumerate() {
            let url = &url;
            scope.spawn(move || write(url, comm, rank, STEPS));
        }
        let mut inp = Reader::open(&url, Solo, Start::Cursor("viz".into())).unwrap();
        let step = inp.next_step().unwrap().unwrap();
        step.commit("viz").unwrap();
    });
    read_left(directory, 1);
}

/// The fast reader holds a step that the slow one has yet to get, while later steps are
/// spilled: it is to be spilled after them.
#[test]
fn a_step_that_is_spilled_later_than_steps_after_it_is_read_like_any() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path(), "&rendezvous=2");
    let (wrote, has_written) = channel();
    thread::scope(|scope| {
        for (rank, comm) in Threads::group(RANKS).into_iter().enumerate() {
            let (url, wrote) = (&url, wrote.clone());
            scope.spawn(move || {
                write(url, comm, rank, STEPS);
                wrote.send(()).unwrap();
            });
        }
        drop(wrote);
        let url = &url;
        let (turn, slow_turn) = channel();
        scope.spawn(move || {
            let mut slow = Reader::open(url, Solo, Start::Oldest).unwrap();
            let mut first = Some(slow.next_step().unwrap().unwrap().detach());
            slow_turn.recv().unwrap();
            check(first.as_ref().unwrap(), 0);
            for number in 1..STEPS {
                let step = slow.next_step().unwrap().unwrap().detach();
                first = None;
                check(&step, number);
            }
            assert!(first.is_none() && slow.next_step().unwrap().is_none());
        });
        let mut fast = Reader::open(url, Solo, Start::Oldest).unwrap();
        for number in 0..STEPS - 1 {
            let step = fast.next_step().unwrap().unwrap().detach();
            check(&step, number);
        }
        turn.send(()).unwrap();
        check(&fast.next_step().unwrap().unwrap().detach(), STEPS - 1);
        assert!(fast.next_step().unwrap().is_none());
        (0..RANKS).for_each(|_| has_written.recv().unwrap());
    });
    assert!(left(directory.path()).is_empty());
}

fn check(step: &Snapshot, number: u64) {
    assert_eq!(step.number(), number);
    let all: ArrayD<f64> = step.get("u", ..).unwrap();
    assert_eq!(all, whole(number).into_dyn(), "step {number}");
}

#[test]
fn a_directory_to_spill_to_without_the_policy_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!(
        "stream:x?contact={0}/contact&spill={0}/spilled",
        directory.path().display()
    );
    let error = Writer::open(&url, Solo).unwrap_err().to_string();
    assert!(error.contains("policy = spill"), "{error}");
}

#[test]
fn steps_that_may_be_spilled_cannot_be_compressed_and_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path(), "&compress=zstd");
    let error = Writer::open(&url, Solo).unwrap_err().to_string();
    assert!(
        error.contains("compress") && error.contains("spill"),
        "{error}"
    );
}
