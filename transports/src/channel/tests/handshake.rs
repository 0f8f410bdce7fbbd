//! Who gets a channel, and what the others are told.

use super::*;
use crate::time::WaitError;

#[test]
fn each_role_gets_in_with_its_own_key_only() {
    for role in [Role::Cluster, Role::Writer, Role::Reader] {
        let right = key().derive(Role::Cluster, role).unwrap();
        let (near, far) = pair(&acceptor(), &Connector::new(right, role));
        assert_eq!((near.role(), far.role()), (role, role));
    }
    let (near, far) = attempt(&acceptor(), &Connector::new(reader_key(), Role::Writer));
    assert!(matches!(near, Err(ChannelError::WrongKey { .. })));
    assert!(matches!(far, Err(ChannelError::WrongKey { .. })));
}

#[test]
fn an_acceptor_serves_the_roles_after_its_own() {
    let acceptor = Acceptor {
        key_role: Role::Writer,
        ..Acceptor::new(key().derive(Role::Cluster, Role::Writer).unwrap())
    };
    assert_eq!(pair(&acceptor, &connector()).0.role(), Role::Reader);
    let (near, far) = attempt(&acceptor, &Connector::new(key(), Role::Cluster));
    assert!(matches!(near, Err(ChannelError::Refused { .. })));
    assert!(matches!(far, Err(ChannelError::Refused { .. })));
}

#[test]
fn another_key_is_told_to_both_sides() {
    let other = Connector::new(Key::generate().unwrap(), Role::Reader);
    let (near, far) = attempt(&acceptor(), &other);
    assert!(matches!(near, Err(ChannelError::WrongKey { .. })));
    assert!(matches!(far, Err(ChannelError::WrongKey { .. })));
}

#[test]
fn a_difference_about_encryption_is_told_to_both_sides() {
    for ours in [false, true] {
        let (near, far) = attempt(
            &Acceptor {
                encrypt: ours,
                ..acceptor()
            },
            &Connector {
                encrypt: !ours,
                ..connector()
            },
        );
        let near_says = near.err().expect("refused").to_string();
        let far_says = far.err().expect("refused").to_string();
        let (on, off) = ("encryption is on here", "encryption is off here");
        assert!(
            near_says.contains(if ours { on } else { off }),
            "{near_says}"
        );
        assert!(far_says.contains(if ours { off } else { on }), "{far_says}");
    }
}

/// What an acceptor says of a peer that sends these bytes, and what the peer
/// hears before the connection ends.
fn accept_from_bytes(sent: &[u8]) -> (ChannelError, Vec<u8>) {
    let listener = listener();
    let mut peer = TcpStream::connect(listener.local_addr()).unwrap();
    let pending = listener.accept(&wait()).unwrap();
    peer.write_all(sent).unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let error = Channel::accept(pending, &acceptor(), &wait())
        .err()
        .expect("an error");
    let mut heard = Vec::new();
    // Bytes that were never read make the system reset the connection.
    let _ = peer.read_to_end(&mut heard);
    (error, heard)
}

#[test]
fn strangers_are_refused_and_hear_nothing() {
    for sent in [
        &b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"[..],
        &[0; 600],
        &[0xff; 12],
    ] {
        let (error, heard) = accept_from_bytes(sent);
        assert!(matches!(error, ChannelError::NotPanta { .. }), "{error}");
        assert!(heard.is_empty());
    }
    for sent in [
        &b""[..],
        b"PANTA",
        b"PANTA\x01\x01\x00\x02\x00\x30\x00short",
    ] {
        let (error, heard) = accept_from_bytes(sent);
        assert!(matches!(error, ChannelError::Closed { .. }), "{error}");
        assert!(heard.is_empty());
    }
}

#[test]
fn another_version_is_told_to_both_sides() {
    let mut hello = Hello {
        version: 77,
        role: 2,
        encrypt: false,
        noise_bytes: 0,
    };
    let (error, heard) = accept_from_bytes(&hello.to_bytes());
    assert!(matches!(
        error,
        ChannelError::WrongVersion {
            ours: VERSION,
            theirs: 77,
            ..
        }
    ));
    let answer = parse_answer(&heard.try_into().unwrap()).unwrap();
    assert_eq!(answer.version, VERSION);
    assert_eq!(
        Status::from_number(answer.status),
        Some(Status::WrongVersion)
    );
    hello.version = VERSION;
    let (error, _) = accept_from_bytes(&hello.to_bytes());
    assert!(matches!(error, ChannelError::WrongKey { .. }));
    hello.role = 3;
    let (error, _) = accept_from_bytes(&hello.to_bytes());
    assert!(matches!(error, ChannelError::Refused { .. }));
    hello.noise_bytes = 501;
    let (error, _) = accept_from_bytes(&hello.to_bytes());
    assert!(matches!(
        error,
        ChannelError::TooLarge {
            bytes: 513,
            limit_bytes: 512,
            ..
        }
    ));
}

/// What a connector says of an acceptor that answers with these bytes.
fn connect_to_bytes(answer: Vec<u8>) -> ChannelError {
    let listener = listener();
    let address = listener.local_addr();
    let server = thread::spawn(move || {
        let mut stream = bare(listener.accept(&wait()).unwrap());
        stream.read_exact(&mut [0; 60]).unwrap();
        stream.write_all(&answer).unwrap();
    });
    let error = Channel::connect(address, &connector(), &wait())
        .err()
        .expect("an error");
    server.join().unwrap();
    error
}

#[test]
fn a_connector_sees_through_what_is_no_acceptor() {
    let error = connect_to_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    assert!(matches!(error, ChannelError::NotPanta { .. }));
    let mut answer = Answer {
        version: 9,
        status: 1,
        encrypt: false,
        noise_bytes: 0,
    };
    let error = connect_to_bytes(answer.to_bytes().to_vec());
    assert!(matches!(
        error,
        ChannelError::WrongVersion { theirs: 9, .. }
    ));
    answer = Answer {
        version: VERSION,
        status: 0,
        encrypt: false,
        noise_bytes: 48,
    };
    let mut forged = answer.to_bytes().to_vec();
    forged.extend([7; 48]);
    assert!(matches!(
        connect_to_bytes(forged),
        ChannelError::WrongKey { .. }
    ));
    assert!(matches!(
        connect_to_bytes(Vec::new()),
        ChannelError::Closed { .. }
    ));
}

#[test]
fn a_peer_that_never_finishes_its_hello_is_dropped_at_the_deadline() {
    let listener = listener();
    let mut peer = TcpStream::connect(listener.local_addr()).unwrap();
    peer.write_all(b"PANTA\x01").unwrap();
    let pending = listener.accept(&wait()).unwrap();
    let short = Wait::for_at_most(Duration::from_millis(20));
    let error = Channel::accept(pending, &acceptor(), &short)
        .err()
        .expect("an error");
    let ended = WaitError::Deadline(Duration::from_millis(20));
    assert!(matches!(error, ChannelError::Wait { source, .. } if source == ended));
    assert_eq!(
        peer.read(&mut [0; 9]).unwrap(),
        0,
        "the connection was kept"
    );
}

#[test]
fn a_silent_peer_costs_no_more_than_the_handshake_limit() {
    let listener = listener();
    let _peer = TcpStream::connect(listener.local_addr()).unwrap();
    let pending = listener.accept(&wait()).unwrap();
    let error = Channel::accept(pending, &acceptor(), &wait())
        .err()
        .expect("an error");
    let ended = WaitError::Deadline(HANDSHAKE_LIMIT);
    assert!(matches!(error, ChannelError::Wait { source, .. } if source == ended));
}

#[test]
fn nobody_listening_is_refused() {
    let address = listener().local_addr();
    let error = Channel::connect(address, &connector(), &wait())
        .err()
        .expect("an error");
    assert!(matches!(error, ChannelError::Refused { .. }), "{error}");
}

#[test]
fn a_hello_altered_on_the_way_makes_no_channel() {
    let middle = listener();
    let back = listener();
    let (middle_address, back_address) = (middle.local_addr(), back.local_addr());
    let relay = thread::spawn(move || {
        let mut near = bare(middle.accept(&wait()).unwrap());
        let mut far = TcpStream::connect(back_address).unwrap();
        let mut hello = [0; 60];
        near.read_exact(&mut hello).unwrap();
        // A flag that nobody asks about; the handshake covers it all the same.
        hello[9] ^= 0x80;
        far.write_all(&hello).unwrap();
        std::io::copy(&mut far, &mut near).unwrap();
    });
    let server = thread::spawn(move || {
        Channel::accept(back.accept(&wait()).unwrap(), &acceptor(), &wait()).map(drop)
    });
    let error = Channel::connect(middle_address, &connector(), &wait()).err();
    assert!(matches!(error, Some(ChannelError::WrongKey { .. })));
    assert!(matches!(
        server.join().unwrap(),
        Err(ChannelError::WrongKey { .. })
    ));
    relay.join().unwrap();
}
