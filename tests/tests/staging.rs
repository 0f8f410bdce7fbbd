//! `staging:` from end to end: what is put by N ranks is got by M others.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod staging_support;

use panta_core::model::Selection;
use staging_support::*;

/// N writers and M readers over some servers; every cell of every step.
fn couples(
    servers: usize,
    writers: usize,
    readers: usize,
    shape: &'static [u64],
    chunk: Option<Vec<u64>>,
) {
    within_deadline(move || {
        let space = Space::start(servers);
        let url = space.url("couple", "");
        let steps = 4;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                group(writers, |rank, comm| {
                    let mut writer = open_writer(&url, comm).unwrap();
                    let mut definition = global("u", shape);
                    definition.chunk.clone_from(&chunk);
                    let u = writer.define(definition).unwrap();
                    let (first, side) = share(shape[0], rank, writers);
                    let mut start = vec![0; shape.len()];
                    let mut count = shape.to_vec();
                    (start[0], count[0]) = (first, side);
                    for step in 0..steps {
                        write_step(&mut writer, step, u, &start, &count, shape);
                    }
                    writer.close().unwrap();
                })
            });
            group(readers, |rank, comm| {
                let mut reader = open_reader(&url, comm).unwrap();
                for number in 0..steps {
                    let step = next(&mut reader);
                    assert_eq!(step.head().step, number);
                    let last = shape.len() - 1;
                    let (first, side) = share(shape[last], rank, readers);
                    let mut start = vec![0; shape.len()];
                    let mut count = shape.to_vec();
                    (start[last], count[last]) = (first, side);
                    let got = get(&step, "u", &Selection::boxed(&start, &count)).unwrap();
                    assert_eq!(got, block(number, &start, &count, shape));
                    let all = get(&step, "u", &Selection::all()).unwrap();
                    assert_eq!(all, block(number, &vec![0; shape.len()], shape, shape));
                }
                assert!(ended(&mut reader).unwrap());
            });
        });
    });
}

#[test]
fn one_writer_one_reader_one_server() {
    couples(1, 1, 1, &[40, 30], None);
}

#[test]
fn three_writers_five_readers_one_server() {
    couples(1, 3, 5, &[17, 20, 23], Some(vec![4, 8, 8]));
}

#[test]
fn five_writers_three_readers_three_servers() {
    couples(3, 5, 3, &[31, 20, 23], Some(vec![4, 8, 8]));
}

#[test]
fn two_writers_two_readers_three_servers_in_one_dimension() {
    couples(3, 2, 2, &[100_003], Some(vec![1000]));
}
