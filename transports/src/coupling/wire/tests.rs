#![allow(clippy::unwrap_used)]
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::coupling::Choice;

fn frames() -> Vec<Vec<u8>> {
    let piece = PieceRef {
        region: 7,
        offset: 1 << 40,
        bytes: 3,
    };
    let frames = [
        Frame::Hello(Hello {
            linked: true,
            choice: Choice::Only(TransportName::Tcp),
            lease_ms: 30_000,
            silence_ms: 120_000,
            message_bytes: 1 << 20,
            hello: b"a group",
        }),
        Frame::Join(Join {
            peer: 3,
            token: [5; TOKEN_BYTES],
        }),
        Frame::Offer(Offer {
            instance: 9,
            lease_ms: 30_000,
            silence_ms: 120_000,
            message_bytes: 1 << 20,
            read_bytes: 1 << 30,
            read_pieces: 1000,
            connections: 2,
            transports: [
                Ok(b"a socket".to_vec()),
                Ok(Vec::new()),
                Err("there is no fabric".into()),
            ],
        }),
        Frame::Settle {
            transport: TransportName::Shm,
            why: "the same node".into(),
        },
        Frame::Welcome {
            peer: 3,
            token: [5; TOKEN_BYTES],
        },
        Frame::Message(b"anything"),
        Frame::Message(b""),
        Frame::Data { id: 4 },
        Frame::Missing { id: 4, piece: 2 },
        Frame::Subscribe {
            credit_bytes: 1 << 20,
            what: b"a plane",
        },
        Frame::Push {
            tag: Tag {
                subject: 2,
                number: 6,
            },
        },
        Frame::Credit { bytes: 10 },
        Frame::Heartbeat,
        Frame::Wake,
        Frame::Close(Lost::Closed),
        Frame::Close(Lost::Died),
        Frame::Close(Lost::Silent {
            for_: Duration::from_secs(3),
        }),
        Frame::Close(Lost::Misbehaved { what: "it".into() }),
        Frame::Close(Lost::Dropped { why: "so".into() }),
    ];
    let mut bytes: Vec<_> = frames.iter().map(Frame::to_bytes).collect();
    for (frame, bytes) in frames.iter().zip(&bytes) {
        assert_eq!(parse_frame(bytes).as_ref(), Ok(frame));
    }
    bytes.push(read_head(1, [piece, piece].into_iter()));
    bytes
}

#[test]
fn every_frame_comes_back_from_its_bytes_and_not_from_fewer() {
    for bytes in frames() {
        assert_eq!(parse_frame(&bytes).unwrap().to_bytes(), bytes);
        if !matches!(
            bytes[0],
            MESSAGE | HELLO | SETTLE | CLOSE | READ | SUBSCRIBE
        ) {
            let longer = [&bytes[..], &[0]].concat();
            assert!(parse_frame(&longer).is_err(), "{longer:?}");
            for end in 0..bytes.len() {
                assert!(parse_frame(&bytes[..end]).is_err(), "{bytes:?} to {end}");
            }
        }
    }
}

#[test]
fn the_pieces_of_a_read_are_whole() {
    let piece = PieceRef {
        region: u32::MAX,
        offset: u64::MAX,
        bytes: 0,
    };
    let bytes = read_head(1, [piece; 3].into_iter());
    let Frame::Read { id: 1, pieces } = parse_frame(&bytes).unwrap() else {
        panic!("no read");
    };
    assert_eq!(pieces.iter().collect::<Vec<_>>(), [piece; 3]);
    for end in 1..PIECE_BYTES {
        assert!(parse_frame(&bytes[..bytes.len() - end]).is_err());
    }
    assert!(parse_frame(&read_head(1, std::iter::empty())).is_err());
}

#[test]
fn texts_are_one_line_and_bounded() {
    let why = format!("two\nlines{}", "é".repeat(TEXT_BYTES));
    let bytes = Frame::Close(Lost::Dropped { why }).to_bytes();
    let Frame::Close(Lost::Dropped { why }) = parse_frame(&bytes).unwrap() else {
        panic!("no close");
    };
    assert!(why.starts_with("two lines") && why.len() <= TEXT_BYTES);
    let too_long = [&bytes[..], &[b'a'; 10]].concat();
    assert!(parse_frame(&too_long).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_refused(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        change: u8,
        tail in prop::collection::vec(any::<u8>(), 0..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = which.get(&frames()).clone();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        bytes.truncate(cut.index(bytes.len()) + 1);
        bytes.extend(tail);
        if let Ok(frame) = parse_frame(&bytes) {
            let written = frame.to_bytes();
            prop_assert_eq!(parse_frame(&written), Ok(frame));
        }
    }
}
