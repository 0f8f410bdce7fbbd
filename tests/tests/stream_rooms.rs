//! The memory of a stream's writers: what a step may take, and what goes for it.
#![allow(clippy::unwrap_used, reason = "tests")]

use panta::{Shape, Solo, StepTime, Threads, Writer};

const MEBIBYTE: usize = 1 << 20;

fn url(directory: &std::path::Path, query: &str) -> String {
    let contact = directory.join("rooms.panta-contact");
    format!(
        "stream:rooms?contact={}&rendezvous=0&limit=8MiB&retain_steps=100&deadline=20s&{query}",
        contact.display()
    )
}

/// Eight steps of a mebibyte, then one of six: more than is free, and more than was reserved.
fn outgrow(mut out: Writer, rank: usize, ranks: usize) {
    let shape = [(6 * MEBIBYTE * ranks) as u64];
    let u = out.define::<u8>("u", Shape::global(shape)).unwrap();
    let field = vec![1_u8; 6 * MEBIBYTE];
    let start = [(6 * MEBIBYTE * rank) as u64];
    for number in 0..12 {
        let bytes = if number % 9 == 8 {
            6 * MEBIBYTE
        } else {
            MEBIBYTE
        };
        let step = out.begin_step(StepTime::default()).unwrap();
        // Only the last rank outgrows what it reserved.
        let bytes = if rank + 1 == ranks { bytes } else { MEBIBYTE };
        step.put(u, &start, &field[..bytes]).unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
}

#[test]
fn a_step_that_outgrows_its_reservation_takes_the_room_of_steps_that_are_only_kept() {
    let directory = tempfile::tempdir().unwrap();
    let out = Writer::open(&url(directory.path(), "transport=shm"), Solo).unwrap();
    outgrow(out, 0, 1);
}

#[test]
fn a_rank_that_is_not_the_root_asks_it_for_room() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path(), "transport=tcp");
    std::thread::scope(|scope| {
        for (rank, comm) in Threads::group(2).into_iter().enumerate() {
            let url = &url;
            scope.spawn(move || outgrow(Writer::open(url, comm).unwrap(), rank, 2));
        }
    });
}
