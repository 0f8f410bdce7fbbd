//! Peers that hold the key and break the protocol: they hurt only themselves.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use panta_staging::proto::codec;
use panta_staging::proto::limits;
use panta_staging::proto::message::{Hello, Kind, Message, Piece, Put, Reason, Run};
use panta_staging_server::{Server, ServerOptions};
use panta_transports::channel::{Channel, ChannelError, ChannelLimits, Connector, Key, Role};
use panta_transports::copy::checksum_tiles;
use panta_transports::time::Wait;

fn wait() -> Wait {
    Wait::for_at_most(Duration::from_secs(20))
}

fn start() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = ServerOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        key: Some(folder.path().join("key")),
        ..ServerOptions::default()
    };
    (Server::start(options).unwrap(), folder)
}

fn connect(server: &Server) -> Channel {
    let key = Key::load(server.key_path()).unwrap();
    let key = key.derive(Role::Cluster, Role::Writer).unwrap();
    let mut connector = Connector::new(key, Role::Writer);
    connector.limits = ChannelLimits {
        head_bytes: u32::MAX,
        body_bytes: u64::MAX,
    };
    Channel::connect(server.address(), &connector, &wait()).unwrap()
}

fn ask(channel: &mut Channel, kind: Kind, body: &[u8]) -> Result<Kind, ChannelError> {
    let head = codec::encode(&Message::new(1, kind));
    channel.send(&head, &[body], &wait())?;
    let answer = channel.receive_head(&wait())?;
    Ok(codec::decode(answer.bytes).unwrap().kind)
}

fn hello() -> Kind {
    Kind::Hello(Hello {
        version: limits::PROTOCOL_VERSION,
        space: 0,
    })
}

fn put(body: &[u8]) -> Put {
    let mut checksums = Vec::new();
    checksum_tiles(body, &mut checksums, &mut |_| {});
    Put {
        run: Some(Run {
            stream: "run".into(),
            life: 1,
            epoch: 1,
        }),
        map_version: 1,
        variable: "u".into(),
        element_bytes: 1,
        pieces: vec![Piece {
            start: vec![0],
            count: vec![body.len() as u64],
            length_bytes: body.len() as u64,
            checksums,
            ..Piece::default()
        }],
        ..Put::default()
    }
}

/// A new connection is served.
fn serves(server: &Server) {
    let welcomed = ask(&mut connect(server), hello(), &[]).unwrap();
    assert!(matches!(welcomed, Kind::Welcome(_)), "{welcomed:?}");
}

#[test]
fn a_put_that_was_damaged_on_the_way_is_refused_and_not_held() {
    let (server, _folder) = start();
    let mut channel = connect(&server);
    ask(&mut channel, hello(), &[]).unwrap();
    let mut body: Vec<u8> = (0..2_000_000_u32).map(|at| at as u8).collect();
    let message = put(&body);
    body[1_234_567] ^= 4;
    match ask(&mut channel, Kind::Put(message.clone()), &body).unwrap() {
        Kind::Refused(refused) => {
            assert_eq!(refused.reason(), Reason::Malformed);
            assert!(refused.detail.contains("damaged on the way"), "{refused:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.held_bytes(), 0);
    body[1_234_567] ^= 4;
    let stored = ask(&mut channel, Kind::Put(message), &body).unwrap();
    assert!(matches!(stored, Kind::Stored(_)), "{stored:?}");
    assert!(server.held_bytes() >= body.len() as u64);
}

#[test]
fn a_body_of_another_length_than_its_head_says_ends_the_connection() {
    let (server, _folder) = start();
    for length in [0, 99, 101] {
        let mut channel = connect(&server);
        ask(&mut channel, hello(), &[]).unwrap();
        let message = Kind::Put(put(&[7; 100]));
        let error = ask(&mut channel, message, &vec![7; length]).unwrap_err();
        assert!(!matches!(error, ChannelError::Wait { .. }), "{error}");
        serves(&server);
    }
}

#[test]
fn heads_that_are_no_message_end_their_connection() {
    let (server, _folder) = start();
    for head in [&[0xff; 40][..], &[], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f]] {
        let mut channel = connect(&server);
        channel.send(head, &[], &wait()).unwrap();
        let error = channel.receive_head(&wait()).unwrap_err();
        assert!(!matches!(error, ChannelError::Wait { .. }), "{error}");
        serves(&server);
    }
}

#[test]
fn frames_over_the_limits_end_their_connection_before_they_are_received() {
    let (server, _folder) = start();
    let mut channel = connect(&server);
    let huge = vec![0; limits::HEAD_LIMIT_BYTES + 1];
    // The server hangs up; whether that shows in the send or after is a race.
    let sent = channel.send(&huge, &[], &wait());
    assert!(sent.is_err() || channel.receive_head(&wait()).is_err());
    serves(&server);
}

#[test]
fn who_does_not_say_hello_is_refused() {
    let (server, _folder) = start();
    let mut channel = connect(&server);
    let answer = ask(&mut channel, Kind::Put(put(&[7; 100])), &[7; 100]).unwrap();
    assert!(matches!(answer, Kind::Refused(_)), "{answer:?}");
    assert_eq!(server.held_bytes(), 0);
}

#[test]
fn connections_over_the_limit_are_closed_and_places_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        key: Some(folder.path().join("key")),
        connections: 2,
        ..ServerOptions::default()
    })
    .unwrap();
    let held = [connect(&server), connect(&server)];
    let key = Key::load(server.key_path()).unwrap();
    let writer = key.derive(Role::Cluster, Role::Writer).unwrap();
    let third = Connector::new(writer, Role::Writer);
    assert!(Channel::connect(server.address(), &third, &wait()).is_err());
    drop(held);
    // Their threads notice the end of the connections by themselves.
    let until = wait();
    while Channel::connect(server.address(), &third, &wait()).is_err() {
        until.slice().unwrap();
    }
}

#[test]
fn stopping_ends_connections_that_are_idle() {
    let (server, _folder) = start();
    let mut channel = connect(&server);
    ask(&mut channel, hello(), &[]).unwrap();
    server.stop();
    assert!(channel.receive_head(&wait()).is_err());
}
