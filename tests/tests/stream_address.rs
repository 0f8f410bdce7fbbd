//! Streams whose sides meet at an address: `stream:NAME@host:port`.
//!
//! The scenarios are those of the matrix that have to do with how the sides find each
//! other, and lose each other; then what can be wrong with an address or its key.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::TcpListener;
use std::time::{Duration, Instant};

use panta::{OpenError, Reader, Solo, Start, Writer};
use panta_tests::scenario::{death, groups, late, layouts, servers};
use panta_tests::stage::{Engine, Stage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_panta-scenario");

macro_rules! scenarios {
    ($($name:ident: $play:expr;)*) => {$(
        #[test]
        fn $name() {
            let play: fn(&mut Stage) = $play;
            play(&mut stage());
        }
    )*};
}

scenarios! {
    types_3x5: |stage| layouts::types(stage, 3, 5);
    early_exit: groups::early_exit;
    reader_dropped: groups::reader_dropped;
    delayed_reader: late::delayed_reader;
    delayed_writer: late::delayed_writer;
    no_writer: late::no_writer;
    interrupt: late::interrupt;
    readers_killed: death::readers_killed;
    writer_killed_2x2: death::writer_killed;
    writer_rank_killed: death::writer_rank_killed;
    restart_2: |stage| death::restart(stage, 2);
    restart_3: |stage| death::restart(stage, 3);
    cursor: death::cursor;
    stopped_writer: death::stopped_writer;
    long_silence: servers::long_silence;
}

fn stage() -> Stage {
    Stage::new(Engine::MEETING, PROGRAM)
}

fn refused_reader(url: &str) -> String {
    Reader::open(url, Solo, Start::Oldest)
        .unwrap_err()
        .to_string()
}

fn refused_writer(url: &str) -> OpenError {
    Writer::open(url, Solo).unwrap_err()
}

/// A later life that knows nothing of the one before, as on another host: readers that
/// follow go on with it.
#[test]
fn a_writer_that_comes_back_without_the_contact_file_of_its_earlier_life_is_a_later_one() {
    let mut stage = stage();
    let url = stage.url_with("moved", stage.keep_all());
    let contact = |life: &str| {
        let path = stage.directory().join(life);
        format!("{url}&contact={}", path.display())
    };
    let lives = ["first", "second"].map(contact);
    let first = stage.start("death::told_writer", 1, &lives[0], &[]);
    let reader = stage.start("death::told_reader", 2, &url, &[]);
    stage.tell_all(first, "write 3");
    for step in 0..=3 {
        stage.tell_all(reader, "next");
        stage.all_heard(reader, &format!("saw {step}"));
    }
    stage.kill_all(first);
    stage.ended(first);
    let second = stage.start("death::told_writer", 1, &lives[1], &[("resume", 1)]);
    stage.all_heard(second, "opened");
    stage.tell_all(reader, "next");
    stage.all_heard(reader, "rolled back Some(1)");
    stage.tell_all(second, "write 2");
    stage.tell_all(reader, "next");
    stage.all_heard(reader, "saw 2");
    stage.tell_all(second, "close");
    stage.tell_all(reader, "next");
    stage.all_heard(reader, "closed");
    stage.tell_all(reader, "quit");
    stage.all_ended();
}

#[test]
fn another_key_is_refused_at_once_and_the_stream_goes_on() {
    let mut stage = stage();
    let url = stage.url_with("locked", "rendezvous=0&retain_steps=9");
    let writer = stage.start("death::told_writer", 1, &url, &[]);
    stage.all_heard(writer, "opened");
    let own = stage.directory().join("key").display().to_string();
    let other = stage.directory().join("other");
    panta_transports::channel::Key::load_or_create(&other).unwrap();
    let error = refused_reader(&url.replace(&own, &other.display().to_string()));
    assert!(error.contains("another key"), "{error}");
    // None of its own: it would be a key that nobody else has.
    let missing = stage.directory().join("missing").display().to_string();
    let error = refused_reader(&url.replace(&own, &missing));
    assert!(
        error.contains("`key`") && error.contains(&missing),
        "{error}"
    );
    let reader = stage.start("groups::plain_reader", 1, &url, &[("steps", 3)]);
    stage.all_heard(reader, "opened");
    stage.tell_all(writer, "write 2");
    stage.all_heard(writer, "wrote 2");
    stage.tell_all(writer, "close");
    stage.all_ended();
}

#[test]
fn an_address_without_a_key_is_an_error_that_says_what_to_set() {
    let url = "stream:open@127.0.0.1:7400?deadline=5s";
    for error in [refused_reader(url), refused_writer(url).to_string()] {
        assert!(error.contains("no `key` is set"), "{error}");
        assert!(error.contains("127.0.0.1:7400"), "{error}");
    }
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let stage = stage();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (key, contact) = (stage.directory().join("key"), stage.directory().join("c"));
    let url = format!(
        "stream:crowded@{address}?key={}&contact={}&deadline=5s",
        key.display(),
        contact.display()
    );
    let error = refused_writer(&url);
    assert!(matches!(error, OpenError::Busy { .. }), "{error}");
    assert!(error.to_string().contains(&address), "{error}");
    let holder = format!("process {}", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    assert!(!contact.exists(), "it says where nobody listens");
}

fn wait_until_stopped(process: u32) {
    let until = Instant::now() + Duration::from_secs(20);
    let stat = || std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    while !stat().contains(") T ") {
        assert!(Instant::now() < until, "it is not stopped");
        std::thread::yield_now();
    }
}

/// For the next step where it has an address at which a stopped writer still listens: it is
/// looked for there, once it is held dead, until the wait is over.
const NEXT_OF_STOPPED: &str = "next within 5";

/// It is not fenced: it may be stopped in a debugger, and nobody said that it may be ended.
#[test]
fn a_stopped_writer_keeps_its_port_and_its_successor_is_told_which_process_and_what_to_do() {
    let mut stage = stage();
    let url = stage.url_with("kept", "rendezvous=0&lease=1s");
    let writer = stage.start("death::told_writer", 1, &url, &[]);
    stage.all_heard(writer, "opened");
    stage.stop(writer, 0, true);
    wait_until_stopped(stage.pid(writer, 0));
    let elsewhere = stage.directory().join("elsewhere");
    let successor = format!("{url}&contact={}", elsewhere.display());
    let error = refused_writer(&successor);
    assert!(matches!(error, OpenError::Busy { .. }), "{error}");
    let (error, process) = (error.to_string(), stage.pid(writer, 0));
    for wanted in [
        format!("process {process} (`panta-scenario`), which is stopped"),
        format!("kill -CONT {process}"),
        format!("kill -KILL {process}"),
    ] {
        assert!(error.contains(&wanted), "{error}");
    }
    // What it says to do helps.
    stage.stop(writer, 0, false);
    stage.kill_all(writer);
    stage.ended(writer);
    Writer::open(&successor, Solo).unwrap().close().unwrap();
    stage.all_ended();
}

/// Its successor listens elsewhere, and has its contact file: by that it finds out. Readers
/// find the successor by the contact file or at its address, and not one step of the other.
#[test]
fn a_stopped_writer_whose_successor_listens_elsewhere_finds_out_and_shows_nothing_late() {
    let mut stage = stage();
    let contact = stage.directory().join("moving.panta-contact");
    let query = format!("retain_steps=9&lease=1s&contact={}", contact.display());
    let url = stage.url_with("moving", &format!("{query}&rendezvous=2"));
    let moved = stage.url_with("moved", &format!("{query}&rendezvous=0"));
    let moved = moved.replace("stream:moved@", "stream:moving@");
    let by_contact = format!("stream:moving?{query}&deadline=20s");
    let first = stage.start("death::told_writer", 1, &url, &[]);
    let there = stage.start("death::told_reader", 1, &url, &[]);
    let follower = stage.start("death::told_reader", 2, &by_contact, &[]);
    stage.tell_all(first, "write 2");
    for reader in [there, follower] {
        for step in 0..=2 {
            stage.tell_all(reader, "next");
            stage.all_heard(reader, &format!("saw {step}"));
        }
    }
    stage.all_heard(first, "wrote 2");
    stage.stop(first, 0, true);
    wait_until_stopped(stage.pid(first, 0));
    // What it is told now it does when it goes on.
    stage.tell_all(first, "write 9");
    stage.tell_all(there, NEXT_OF_STOPPED);
    stage.all_heard(there, "lost Some(2)");
    let second = stage.start("death::told_writer", 2, &moved, &[("resume", 2)]);
    stage.all_heard(second, "opened");
    stage.tell_all(follower, "next");
    stage.stop(first, 0, false);
    let error = stage.heard(first, 0, "error");
    assert!(error.contains("taken the stream over"), "{error}");
    stage.ended(first);
    stage.tell_all(there, "next");
    stage.all_heard(there, "lost Some(2)");
    stage.tell_all(there, "quit");
    let later = stage.start("death::told_reader", 1, &moved, &[]);
    stage.all_heard(later, "opened");
    stage.tell_all(second, "write 6");
    // The follower asked before the first went on.
    stage.all_heard(follower, "saw 3");
    stage.tell_all(follower, "next");
    stage.tell_all(later, "next");
    stage.all_heard(later, "saw 3");
    stage.tell_all(later, "next");
    for step in 4..=6 {
        for reader in [follower, later] {
            stage.all_heard(reader, &format!("saw {step}"));
            stage.tell_all(reader, "next");
        }
    }
    stage.all_heard(second, "wrote 6");
    stage.tell_all(second, "close");
    for reader in [follower, later] {
        stage.all_heard(reader, "closed");
        stage.tell_all(reader, "quit");
    }
    stage.all_ended();
}

/// Nobody took its name: it goes on, for whoever opens the stream anew.
#[test]
fn a_writer_that_was_stopped_for_longer_than_the_lease_stays_lost_to_who_read_from_it() {
    let mut stage = stage();
    let url = stage.url_with("woken", "rendezvous=1&retain_steps=9&lease=1s");
    let writer = stage.start("death::told_writer", 1, &url, &[]);
    let reader = stage.start("death::told_reader", 2, &url, &[]);
    stage.tell_all(writer, "write 1");
    for step in 0..=1 {
        stage.tell_all(reader, "next");
        stage.all_heard(reader, &format!("saw {step}"));
    }
    stage.stop(writer, 0, true);
    wait_until_stopped(stage.pid(writer, 0));
    stage.tell_all(writer, "write 3");
    stage.tell_all(reader, NEXT_OF_STOPPED);
    stage.all_heard(reader, "lost Some(1)");
    stage.stop(writer, 0, false);
    stage.all_heard(writer, "wrote 3");
    stage.tell_all(reader, "next");
    stage.all_heard(reader, "lost Some(1)");
    stage.tell_all(reader, "quit");
    let anew = stage.start("death::told_reader", 1, &url, &[]);
    stage.all_heard(anew, "opened");
    stage.tell_all(writer, "write 6");
    for step in 0..=6 {
        stage.tell_all(anew, "next");
        stage.all_heard(anew, &format!("saw {step}"));
    }
    stage.all_heard(writer, "wrote 6");
    stage.tell_all(writer, "close");
    stage.tell_all(anew, "next");
    stage.all_heard(anew, "closed");
    stage.tell_all(anew, "quit");
    stage.all_ended();
}

#[test]
fn a_stream_of_another_name_at_the_address_is_an_error_that_names_both() {
    let mut stage = stage();
    let url = stage.url_with("mine", "rendezvous=0");
    let writer = stage.start("death::told_writer", 1, &url, &[]);
    stage.all_heard(writer, "opened");
    let error = refused_reader(&url.replace("stream:mine@", "stream:yours@"));
    assert!(error.contains("mine") && error.contains("yours"), "{error}");
    stage.tell_all(writer, "close");
    stage.all_ended();
}

#[test]
fn an_address_that_is_no_host_of_ours_is_an_error_that_names_it() {
    let stage = stage();
    let key = stage.directory().join("key");
    let url = format!("stream:away@203.0.113.7:7400?key={}", key.display());
    let error = refused_writer(&url).to_string();
    assert!(error.contains("203.0.113.7:7400"), "{error}");
}
