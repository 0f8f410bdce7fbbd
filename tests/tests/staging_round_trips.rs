//! Round trips of `staging:`, counted from outside: a relay between the programs and the
//! server holds everything back by 10 ms each way and counts how often the talk turns.
//! Nothing of Panta's own counting takes part.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod staging_support;

use std::net::TcpListener;
use std::time::Instant;

use panta_core::comm::Solo;
use panta_core::model::Selection;
use panta_staging_server::{Server, ServerOptions};
use panta_tests::relay::{DELAY, Talk, relay};
use staging_support::*;

/// Does something, and gives the turns that it took; each took two delays at least.
fn turns_of<T>(talk: &Talk, work: impl FnOnce() -> T) -> (T, u64) {
    let (before, began) = (talk.turns(), Instant::now());
    let result = work();
    let turns = talk.turns() - before;
    let least = DELAY * 2 * u32::try_from(turns).unwrap();
    assert!(
        began.elapsed() >= least,
        "{turns} turns in {:?}",
        began.elapsed()
    );
    (result, turns)
}

#[test]
fn over_a_slow_network_a_warm_get_costs_one_round_trip_and_a_step_of_puts_three() {
    within_deadline(|| {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = listener.local_addr().unwrap().to_string();
        let options = ServerOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            names: vec![name.clone()],
            key: Some(key.clone()),
            ..ServerOptions::default()
        };
        let server = Server::start(options).unwrap();
        let talk = relay(listener, server.address());
        let url = format!("staging:slow@{name}?key={}&deadline=20s", key.display());

        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let shape = [64, 64];
        let mut definition = global("u", &shape);
        definition.chunk = Some(vec![8, 8]);
        let u = writer.define(definition).unwrap();
        write_step(&mut writer, 0, u, &[0, 0], &shape, &shape);
        let (_, turns) = turns_of(&talk, || {
            write_step(&mut writer, 1, u, &[0, 0], &shape, &shape)
        });
        assert_eq!(turns, 3, "begin, the puts of 64 chunks together, end");

        let mut reader = open_reader(&url, &mut Solo).unwrap();
        let first = next(&mut reader);
        get(&first, "u", &Selection::all()).unwrap();
        let ((), turns) = turns_of(&talk, || {
            let unaligned = Selection::boxed(&[3, 5], &[50, 41]);
            get(&first, "u", &unaligned).unwrap();
        });
        assert_eq!(turns, 1, "a warm get over 42 chunks");
        drop(first);
        let (second, turns) = turns_of(&talk, || next(&mut reader));
        assert!(
            turns <= 2,
            "the next step of a known layout, and letting go of the last: {turns}"
        );
        let (got, turns) = turns_of(&talk, || get(&second, "u", &Selection::all()).unwrap());
        assert_eq!(turns, 1, "the first get of a step whose layout is known");
        assert_eq!(got, block(1, &[0, 0], &shape, &shape));
    });
}
