//! What is sent arrives, whole and in order, or it is an error.

use proptest::prelude::*;

use super::*;
use crate::channel::wire::HEAD_PIECE_BYTES;

const SIZES: [usize; 6] = [0, 1, 4095, 65_535, 65_536, (1 << 20) + 1];

#[test]
fn heads_and_bodies_of_all_sizes_arrive_sealed_or_not() {
    for encrypt in [false, true] {
        let (mut near, far) = pair(
            &Acceptor {
                encrypt,
                ..acceptor()
            },
            &Connector {
                encrypt,
                ..connector()
            },
        );
        let (mut sender, mut receiver) = far.split();
        thread::scope(|scope| {
            scope.spawn(move || {
                for head in SIZES.map(|size| bytes(size.min(1 << 20))) {
                    for body in SIZES.map(bytes) {
                        // Cut so that sealed pieces span slices.
                        let (a, b) = body.split_at(body.len() / 3);
                        sender.send(&head, &[a, &[], b], &wait()).unwrap();
                    }
                }
            });
            for head in SIZES.map(|size| bytes(size.min(1 << 20))) {
                for body in SIZES.map(bytes) {
                    let got = near.receive_head(&wait()).unwrap();
                    assert_eq!(got.bytes, head);
                    assert_eq!(got.body_bytes, body.len() as u64);
                    let mut into = vec![0; body.len()];
                    // In parts, so that pieces are delivered in parts too.
                    for part in into.chunks_mut(50_000) {
                        near.receive_body(part, &wait()).unwrap();
                    }
                    assert!(into == body);
                    assert_eq!(near.body_left(), 0);
                }
            }
        });
        near.send(b"done", &[], &wait()).unwrap();
        assert_eq!(receiver.receive_head(&wait()).unwrap().bytes, b"done");
    }
}

#[test]
fn a_body_that_nobody_wants_is_skipped() {
    for encrypt in [false, true] {
        let (mut near, mut far) = pair(
            &Acceptor {
                encrypt,
                ..acceptor()
            },
            &Connector {
                encrypt,
                ..connector()
            },
        );
        let body = bytes(200_000);
        thread::scope(|scope| {
            scope.spawn(move || {
                for head in [&b"first"[..], b"second", b"third"] {
                    far.send(head, &[&body], &wait()).unwrap();
                }
            });
            assert_eq!(near.receive_head(&wait()).unwrap().bytes, b"first");
            assert_eq!(near.receive_head(&wait()).unwrap().bytes, b"second");
            let mut some = vec![0; 70_000];
            near.receive_body(&mut some, &wait()).unwrap();
            assert!(some == bytes(200_000)[..70_000]);
            assert_eq!(near.receive_head(&wait()).unwrap().bytes, b"third");
            let ends = near.receive_body(&mut vec![0; 200_001], &wait());
            assert!(matches!(
                ends,
                Err(ChannelError::BodyEnds { left: 200_000, .. })
            ));
            near.receive_body(&mut vec![0; 200_000], &wait()).unwrap();
        });
    }
}

#[test]
fn both_directions_run_at_once_and_raw_bodies_are_not_copied() {
    let (near, far) = pair(&acceptor(), &connector());
    let counters = near.counters().clone();
    let body = bytes(3 << 20);
    thread::scope(|scope| {
        for channel in [near, far] {
            let (mut sender, mut receiver) = channel.split();
            let body = &body;
            scope.spawn(move || {
                for _ in 0..4 {
                    sender.send(b"head", &[body], &wait()).unwrap();
                }
            });
            scope.spawn(move || {
                for _ in 0..4 {
                    assert_eq!(receiver.receive_head(&wait()).unwrap().bytes, b"head");
                    let mut into = vec![0; body.len()];
                    receiver.receive_body(&mut into, &wait()).unwrap();
                    assert!(into == *body);
                }
            });
        }
    });
    assert_eq!((counters.frames_sent(), counters.frames_received()), (4, 4));
    assert_eq!(
        (counters.head_bytes_sent(), counters.head_bytes_received()),
        (16, 16)
    );
    assert_eq!(counters.body_bytes_sent(), 4 * body.len() as u64);
    assert_eq!(counters.body_bytes_received(), 4 * body.len() as u64);
    assert_eq!(counters.copies().bytes(), 0);
}
#[test]
fn frames_over_the_limits_are_not_sent() {
    let limits = ChannelLimits {
        head_bytes: 10,
        body_bytes: 20,
    };
    let (mut near, mut far) = pair(
        &acceptor(),
        &Connector {
            limits,
            ..connector()
        },
    );
    let head = far.send(&[0; 11], &[], &wait());
    assert!(matches!(
        head,
        Err(ChannelError::TooLarge {
            bytes: 11,
            limit_bytes: 10,
            ..
        })
    ));
    let body = far.send(&[], &[&[0; 15], &[0; 6]], &wait());
    assert!(matches!(
        body,
        Err(ChannelError::TooLarge {
            bytes: 21,
            limit_bytes: 20,
            ..
        })
    ));
    far.send(&[1; 10], &[&[0; 20]], &wait()).unwrap();
    assert_eq!(near.receive_head(&wait()).unwrap().bytes, [1; 10]);
}

#[test]
fn frames_over_the_limits_are_refused_before_memory_is_asked_for() {
    let limits = ChannelLimits {
        head_bytes: 10,
        body_bytes: 20,
    };
    for (head, body) in [(11, 0), (0, 21)] {
        let (mut near, mut far) = pair(
            &Acceptor {
                limits,
                ..acceptor()
            },
            &connector(),
        );
        far.send(&bytes(head), &[&bytes(body)], &wait()).unwrap();
        let error = near.receive_head(&wait()).unwrap_err();
        assert!(matches!(error, ChannelError::TooLarge { .. }), "{error}");
        assert!(matches!(
            near.receive_head(&wait()),
            Err(ChannelError::Closed { .. })
        ));
        assert!(matches!(
            far.receive_head(&wait()),
            Err(ChannelError::Closed { .. })
        ));
    }
    let mut near = tampered(
        &acceptor(),
        |good| good.send(b"head", &[], &wait()).unwrap(),
        |sent| sent[..12].fill(0xff),
    );
    let error = near.receive_head(&wait()).unwrap_err();
    assert!(matches!(error, ChannelError::TooLarge { .. }), "{error}");
}

#[test]
fn any_altered_byte_of_a_head_is_noticed() {
    // Prefix, sealed length, head, tag: the body begins at 40.
    for at in 0..40 {
        let mut near = tampered(
            &acceptor(),
            |good| good.send(b"head", &[b"body"], &wait()).unwrap(),
            move |sent| sent[at] ^= 1,
        );
        let error = near.receive_head(&wait()).unwrap_err();
        // A longer head than was sent ends with the connection.
        assert!(
            matches!(
                error,
                ChannelError::Altered { .. }
                    | ChannelError::Closed { .. }
                    | ChannelError::TooLarge { .. }
            ),
            "{at}: {error}"
        );
        assert!(matches!(
            near.receive_head(&wait()),
            Err(ChannelError::Closed { .. })
        ));
    }
}

#[test]
fn a_frame_that_is_played_again_or_left_out_is_noticed() {
    let send = |good: &mut Channel| {
        good.send(b"one", &[], &wait()).unwrap();
        good.send(b"two", &[], &wait()).unwrap();
    };
    let mut near = tampered(&acceptor(), send, |sent| {
        let first = sent[..sent.len() / 2].to_vec();
        sent.splice(0..0, first);
    });
    assert_eq!(near.receive_head(&wait()).unwrap().bytes, b"one");
    assert!(matches!(
        near.receive_head(&wait()),
        Err(ChannelError::Altered { .. })
    ));
    let mut near = tampered(&acceptor(), send, |sent| drop(sent.drain(..sent.len() / 2)));
    assert!(matches!(
        near.receive_head(&wait()),
        Err(ChannelError::Altered { .. })
    ));
}

#[test]
fn an_altered_byte_of_a_sealed_body_is_noticed() {
    let encrypted = Acceptor {
        encrypt: true,
        ..acceptor()
    };
    let mut near = tampered(
        &encrypted,
        |good| good.send(b"head", &[&bytes(100_000)], &wait()).unwrap(),
        |sent| *sent.last_mut().unwrap() ^= 1,
    );
    near.receive_head(&wait()).unwrap();
    let error = near
        .receive_body(&mut vec![0; 100_000], &wait())
        .unwrap_err();
    assert!(
        matches!(error, ChannelError::Altered { what: "a body", .. }),
        "{error}"
    );
}

#[test]
fn a_stream_cut_anywhere_ends_in_closed() {
    for cut in [0, 1, 11, 12, 35, 39, 40, 41, 43] {
        let mut near = tampered(
            &acceptor(),
            |good| good.send(b"head", &[b"body"], &wait()).unwrap(),
            move |sent| sent.truncate(cut),
        );
        let result = near.receive_head(&wait()).map(|_| ());
        let result = result.and_then(|()| near.receive_body(&mut [0; 4], &wait()));
        assert!(matches!(result, Err(ChannelError::Closed { .. })), "{cut}");
    }
}

#[test]
fn a_long_head_is_sealed_in_several_pieces() {
    let (mut near, mut far) = pair(&acceptor(), &connector());
    for length in [
        HEAD_PIECE_BYTES - 9,
        HEAD_PIECE_BYTES - 8,
        HEAD_PIECE_BYTES - 7,
        1 << 20,
    ] {
        thread::scope(|scope| {
            scope.spawn(|| far.send(&bytes(length), &[], &wait()).unwrap());
            assert!(near.receive_head(&wait()).unwrap().bytes == bytes(length));
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_comes_after_the_handshake_ends_in_frames_or_an_error(
        encrypt: bool,
        keep in 0_usize..300,
        garbage in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let accepting = Acceptor { encrypt, ..acceptor() };
        let mut near = tampered(
            &accepting,
            |good| {
                for size in 0..4 {
                    good.send(&bytes(size * 9), &[&bytes(size * 20)], &wait()).unwrap();
                }
            },
            move |sent| {
                sent.truncate(keep);
                sent.extend(garbage);
            },
        );
        let mut frames = 0;
        let error = loop {
            match near.receive_head(&wait()) {
                Ok(head) => {
                    prop_assert_eq!(head.bytes, bytes(frames * 9));
                    prop_assert_eq!(head.body_bytes, (frames * 20) as u64);
                }
                Err(error) => break error,
            }
            let mut body = vec![0; frames * 20];
            if let Err(error) = near.receive_body(&mut body, &wait()) {
                break error;
            }
            prop_assert!(!encrypt || body == bytes(frames * 20));
            frames += 1;
        };
        let expected = matches!(
            error,
            ChannelError::Closed { .. } | ChannelError::Altered { .. } | ChannelError::TooLarge { .. }
        );
        prop_assert!(expected, "{}", error);
    }
}
