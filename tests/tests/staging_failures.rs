//! What `staging:` does when something fails: it says what, by the deadline.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod staging_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use panta_core::comm::Solo;
use panta_core::config::resolve;
use panta_core::error::{BeginError, NextError, OpenError};
use panta_core::model::{DType, Selection, StepTime};
use panta_staging::client::{find_stream, list_streams};
use panta_staging::proto::placement::home_of;
use panta_transports::time::Wait;
use staging_support::*;

#[test]
fn without_a_server_opening_names_the_address_by_the_deadline() {
    within_deadline(|| {
        let mut space = Space::start(1);
        space.kill(0);
        let url = space.url("nobody", "&deadline=300ms");
        for error in [
            open_writer(&url, &mut Solo).unwrap_err().to_string(),
            open_reader(&url, &mut Solo).unwrap_err().to_string(),
        ] {
            assert!(
                error.contains(&space.names[0]) && error.contains("is it running"),
                "{error}"
            );
        }
    });
}

#[test]
fn without_a_writer_opening_for_reading_says_so_at_the_deadline() {
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("unwritten", "&deadline=300ms");
        match open_reader(&url, &mut Solo) {
            Err(OpenError::NotFound { what, .. }) => assert!(what.contains("unwritten"), "{what}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_stream_is_looked_at_while_its_home_lives() {
    within_deadline(|| {
        let mut space = Space::start(2);
        let mut writer = open_writer(&space.url("here", ""), &mut Solo).unwrap();
        let u = writer.define(global("u", &[8])).unwrap();
        write_step(&mut writer, 0, u, &[0], &[8], &[8]);
        let home = home_of("here", &space.names).unwrap().0 as usize;
        writer.close().unwrap();
        let url = space.url("here", "");
        let target = resolve(&url, &|_| None, space.folder.path()).unwrap();
        let wait = Wait::for_at_most(Duration::from_secs(10));
        let of = |stream: &str| find_stream(stream, &target.options, &wait);
        space.kill(1 - home);
        assert_eq!(of("here").unwrap().unwrap().range, Some((0, 0)));
        let all = list_streams(&target.options, &wait).unwrap_err();
        assert!(all.to_string().contains(&space.names[1 - home]), "{all}");
        let other = |name: &String| home_of(name, &space.names).unwrap().0 as usize != home;
        let lost = (0..).map(|i| format!("s{i}")).find(other).unwrap();
        let error = of(&lost).unwrap_err().to_string();
        assert!(error.contains(&space.names[1 - home]), "{error}");
    });
}

#[test]
fn a_reader_may_come_before_its_writer() {
    within_deadline(|| {
        let space = Space::start(3);
        let url = space.url("early", "");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reader = open_reader(&url, &mut Solo).unwrap();
                let step = next(&mut reader);
                get(&step, "u", &Selection::all()).unwrap()
            });
            // The reader's question is at the home before the writer comes.
            while space
                .servers
                .iter()
                .flatten()
                .all(|server| server.connections() == 0)
            {
                std::thread::yield_now();
            }
            let mut writer = open_writer(&url, &mut Solo).unwrap();
            let u = writer.define(global("u", &[8])).unwrap();
            write_step(&mut writer, 0, u, &[0], &[8], &[8]);
            assert_eq!(reader.join().unwrap(), block(0, &[0], &[8], &[8]));
        });
    });
}

#[test]
fn another_key_is_refused_at_once_and_says_what_to_do() {
    within_deadline(|| {
        let space = Space::start(1);
        let other = space.folder.path().join("other");
        panta_transports::channel::Key::load_or_create(&other).unwrap();
        let url = format!(
            "staging:run@{}?key={}&deadline=40s",
            space.names[0],
            other.display()
        );
        let error = open_writer(&url, &mut Solo).unwrap_err().to_string();
        assert!(error.contains("holds another key"), "{error}");
        let missing = format!("staging:run@{}?key=/nowhere/key", space.names[0]);
        let error = open_writer(&missing, &mut Solo).unwrap_err().to_string();
        assert!(error.contains("/nowhere/key"), "{error}");
    });
}

#[test]
fn a_readers_key_reads_and_does_not_write() {
    within_deadline(|| {
        use panta_transports::channel::{Key, Role};
        use std::os::unix::fs::OpenOptionsExt;
        let space = Space::start(1);
        let mut writer = open_writer(&space.url("roles", ""), &mut Solo).unwrap();
        let u = writer.define(global("u", &[8])).unwrap();
        write_step(&mut writer, 0, u, &[0], &[8], &[8]);
        let cluster = Key::load(&space.folder.path().join("key")).unwrap();
        let derived = cluster.derive(Role::Cluster, Role::Reader).unwrap();
        let path = space.folder.path().join("reader");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        file.write_all(derived.secret_bytes()).unwrap();
        let url = format!(
            "staging:roles@{}?key={}&deadline=10s",
            space.names[0],
            path.display()
        );
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        let step = next(&mut reader);
        assert_eq!(
            get(&step, "u", &Selection::all()).unwrap(),
            block(0, &[0], &[8], &[8])
        );
        assert!(open_writer(&url, &mut Solo).is_err());
    });
}

#[test]
fn garbage_on_the_port_ends_its_own_connection_and_nothing_else() {
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("garbage", "");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let u = writer.define(global("u", &[8])).unwrap();
        let mut silent = Vec::new();
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 600],
            b"PANTA\x01\xff\xff",
            b"P",
        ] {
            let mut stream = TcpStream::connect(&space.names[0]).unwrap();
            stream.write_all(garbage).unwrap();
            silent.push(stream);
        }
        write_step(&mut writer, 0, u, &[0], &[8], &[8]);
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        let step = next(&mut reader);
        assert_eq!(
            get(&step, "u", &Selection::all()).unwrap(),
            block(0, &[0], &[8], &[8])
        );
        for mut stream in silent {
            // Refused, or hung up on after the time a handshake may take.
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            let mut rest = Vec::new();
            if let Err(error) = stream.read_to_end(&mut rest) {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            }
        }
    });
}

#[test]
fn a_server_killed_within_a_step_is_named_to_the_writer_and_the_step_is_never_shown() {
    within_deadline(|| {
        let mut space = Space::start(2);
        let url = space.url("killed", "&deadline=1500ms");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let shape = [64, 64];
        let mut definition = global("u", &shape);
        definition.chunk = Some(vec![8, 8]);
        let u = writer.define(definition).unwrap();
        write_step(&mut writer, 0, u, &[0, 0], &shape, &shape);
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        let step = next(&mut reader);
        writer.begin_step(StepTime::default(), None).unwrap();
        space.kill(0);
        space.kill(1);
        let data = bytes(&block(1, &[0, 0], &shape, &shape));
        let put = put(&writer, u, &[0, 0], &shape, &data);
        let error = writer.end_step(vec![put]).unwrap_err().to_string();
        assert!(
            space.names.iter().any(|name| error.contains(name)),
            "{error}"
        );
        let error = get(&step, "u", &Selection::all()).unwrap_err().to_string();
        assert!(
            space.names.iter().any(|name| error.contains(name)),
            "{error}"
        );
        assert!(reader.next_step().is_err());
    });
}

#[test]
fn a_restarted_server_has_lost_its_steps_and_says_so() {
    within_deadline(|| {
        let mut space = Space::start(1);
        let url = space.url("forgotten", "&deadline=3s");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let u = writer.define(global("u", &[8])).unwrap();
        write_step(&mut writer, 0, u, &[0], &[8], &[8]);
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        let step = next(&mut reader);
        space.restart(0);
        let error = get(&step, "u", &Selection::all()).unwrap_err().to_string();
        assert!(error.contains("restarted"), "{error}");
        assert!(writer.begin_step(StepTime::default(), None).is_err());
    });
}

#[test]
fn writers_that_disagree_are_told_in_what() {
    within_deadline(|| {
        let space = Space::start(1);
        let open = |writer: u64| {
            let url = space.url(
                "quarrel",
                &format!("&declared_writers=2&writer={writer}&deadline=2s"),
            );
            open_writer(&url, &mut Solo).unwrap()
        };
        let (mut first, mut second) = (open(1), open(2));
        first.define(global("u", &[8])).unwrap();
        let mut other = global("u", &[8]);
        other.dtype = DType::F32;
        second.define(other).unwrap();
        first.begin_step(StepTime::default(), None).unwrap();
        match second.begin_step(StepTime::default(), None) {
            Err(BeginError::Disagreement { place, difference }) => {
                assert_eq!(place.variable.as_deref(), Some("u"));
                assert!(
                    difference.contains("f64") && difference.contains("f32"),
                    "{difference}"
                );
            }
            other => panic!("{other:?}"),
        }
        first.abort_step().unwrap_err();
    });
}

#[test]
fn a_writer_that_dies_is_reported_with_the_last_sealed_step() {
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("dying", "");
        let died = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut writer = open_writer(&url, &mut Solo).unwrap();
                let u = writer.define(global("u", &[8])).unwrap();
                write_step(&mut writer, 0, u, &[0], &[8], &[8]);
                write_step(&mut writer, 1, u, &[0], &[8], &[8]);
                writer.begin_step(StepTime::default(), None).unwrap();
                panic!("this writer is meant to die");
            });
            writer.join().is_err()
        });
        assert!(died);
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        assert_eq!(next(&mut reader).head().step, 0);
        assert_eq!(next(&mut reader).head().step, 1);
        match reader.next_step() {
            Err(NextError::WriterLost { last_sealed, .. }) => assert_eq!(last_sealed, Some(1)),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_poll_says_that_nothing_is_ready_and_an_interrupt_ends_a_wait() {
    within_deadline(|| {
        let space = Space::start(1);
        let url = space.url("waiting", "");
        let mut writer = open_writer(&url, &mut Solo).unwrap();
        let u = writer.define(global("u", &[8])).unwrap();
        let mut reader = open_reader(&url, &mut Solo).unwrap();
        for at_most in [Duration::ZERO, Duration::from_millis(60)] {
            let polled = reader.next_step_within(at_most);
            assert!(
                matches!(polled, Err(NextError::NotReady { .. })),
                "{polled:?}"
            );
        }
        let interrupt = reader.interrupt();
        interrupt.set();
        let error = reader.next_step().unwrap_err().to_string();
        assert!(error.contains("interrupted"), "{error}");
        interrupt.clear();
        write_step(&mut writer, 0, u, &[0], &[8], &[8]);
        assert_eq!(next(&mut reader).head().step, 0);
    });
}
