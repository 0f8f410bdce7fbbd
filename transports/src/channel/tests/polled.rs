//! Channels that never wait, against those that do and against bad peers.

use std::mem::MaybeUninit;

use proptest::prelude::*;

use super::*;
use crate::channel::wire::BODY_PIECE_BYTES;

type Polled = (PolledSender<Vec<u8>>, PolledReceiver);

fn polled_pair(encrypt: bool, is_exact: bool) -> (Polled, Channel) {
    let accepting = Acceptor {
        encrypt,
        ..acceptor()
    };
    let connecting = Connector {
        encrypt,
        ..connector()
    };
    let (near, far) = pair(&accepting, &connecting);
    (near.into_polled(is_exact), far)
}

/// Waits as an event loop would, without one.
fn until<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let wait = wait();
    loop {
        if let Some(it) = ready() {
            return it;
        }
        wait.slice().unwrap();
        thread::yield_now();
    }
}

fn receive(receiver: &mut PolledReceiver, lengths: &[usize]) -> Vec<u8> {
    let mut whole = Vec::new();
    for &length in lengths {
        let mut part = vec![MaybeUninit::new(0xee_u8); length];
        let mut filled = 0;
        while filled < length {
            // Two targets, so that they are gone through in turn.
            let (a, b) = part[filled..].split_at_mut((length - filled) / 2);
            let mut targets = [UninitSlice::new(a), UninitSlice::new(b)];
            filled += receiver.receive_body(&mut targets).unwrap();
        }
        // SAFETY: initialized above.
        whole.extend(part.iter().map(|byte| unsafe { byte.assume_init() }));
    }
    whole
}

const SIZES: [usize; 7] = [0, 1, 11, 4095, BODY_PIECE_BYTES, 65_536, (1 << 20) + 1];

#[test]
fn frames_of_all_sizes_go_out_in_order_whatever_the_budget() {
    for (encrypt, budget) in [
        (false, 1),
        (false, usize::MAX),
        (true, 1),
        (true, usize::MAX),
    ] {
        let ((mut sender, _), mut far) = polled_pair(encrypt, false);
        for head in SIZES.map(|size| size.min(1 << 20)) {
            for body in SIZES {
                let parts = bytes(body).chunks(70_001).map(<[u8]>::to_vec).collect();
                sender.queue(bytes(head), parts).unwrap();
            }
        }
        let all: u64 = SIZES.iter().map(|&size| size.min(1 << 20) as u64 * 7).sum();
        assert_eq!(sender.waiting_bytes(), all);
        thread::scope(|scope| {
            scope.spawn(|| {
                until(|| (sender.flush(budget).unwrap() == Flushed::All).then_some(()));
                assert!(sender.is_empty());
                let left = (sender.waiting_bytes(), sender.waiting_body_bytes());
                assert_eq!((left, sender.waiting_parts()), ((0, 0), 0));
            });
            for head in SIZES.map(|size| size.min(1 << 20)) {
                for body in SIZES {
                    let got = far.receive_head(&wait()).unwrap();
                    assert!(got.bytes == bytes(head));
                    assert_eq!(got.body_bytes, body as u64);
                    let mut into = vec![0; body];
                    far.receive_body(&mut into, &wait()).unwrap();
                    assert!(into == bytes(body));
                }
            }
        });
    }
}

#[test]
fn frames_of_all_sizes_come_in_and_bodies_are_received_in_parts_or_skipped() {
    for (encrypt, is_exact) in [(false, false), (false, true), (true, false), (true, true)] {
        let ((_sender, mut receiver), mut far) = polled_pair(encrypt, is_exact);
        let counters = receiver.counters().clone();
        thread::scope(|scope| {
            scope.spawn(move || {
                for head in SIZES.map(|size| size.min(1 << 20)) {
                    for body in SIZES {
                        far.send(&bytes(head), &[&bytes(body)], &wait()).unwrap();
                    }
                }
            });
            for head in SIZES.map(|size| size.min(1 << 20)) {
                for (turn, body) in SIZES.into_iter().enumerate() {
                    until(|| receiver.next_head(true).unwrap().then_some(()));
                    assert!(receiver.head() == bytes(head));
                    assert_eq!(receiver.body_left(), body as u64);
                    match turn % 3 {
                        0 => {
                            let whole = receive(&mut receiver, &[body / 3, body - body / 3]);
                            assert!(whole == bytes(body));
                        }
                        1 => until(|| receiver.skip_body().unwrap().then_some(())),
                        // Left to the next head.
                        _ => {}
                    }
                }
            }
        });
        if is_exact && !encrypt {
            assert_eq!(counters.copies().bytes(), 0, "a raw body is not copied");
        }
    }
}

#[test]
fn what_has_not_begun_can_be_taken_back_and_what_has_cannot() {
    for encrypt in [false, true] {
        let ((mut sender, _), mut far) = polled_pair(encrypt, false);
        sender.queue(b"never".to_vec(), vec![bytes(10)]).unwrap();
        assert!(sender.cancel() && sender.is_empty());
        sender.queue(b"first".to_vec(), vec![]).unwrap();
        assert_eq!(sender.flush(usize::MAX).unwrap(), Flushed::All);
        assert_eq!(far.receive_head(&wait()).unwrap().bytes, b"first");
        sender
            .queue(b"large".to_vec(), vec![bytes(64 << 20)])
            .unwrap();
        assert_eq!(sender.flush(usize::MAX).unwrap(), Flushed::Blocked);
        assert!(!sender.cancel());
        thread::scope(|scope| {
            scope.spawn(|| until(|| (sender.flush(1).unwrap() == Flushed::All).then_some(())));
            assert_eq!(far.receive_head(&wait()).unwrap().bytes, b"large");
            let mut into = vec![0; 64 << 20];
            far.receive_body(&mut into, &wait()).unwrap();
            assert!(into == bytes(64 << 20));
        });
    }
}

#[test]
fn a_frame_that_is_half_out_is_finished_before_the_next() {
    let ((mut sender, _), mut far) = polled_pair(true, false);
    let mut filled = 0;
    loop {
        sender
            .queue(b"filler".to_vec(), vec![bytes(100_000)])
            .unwrap();
        filled += 1;
        if sender.flush(usize::MAX).unwrap() != Flushed::All {
            break;
        }
    }
    assert!(!sender.cancel(), "part of a filler is on its way");
    thread::scope(|scope| {
        scope.spawn(|| {
            until(|| (sender.flush(usize::MAX).unwrap() == Flushed::All).then_some(()));
            sender.queue(b"last".to_vec(), vec![]).unwrap();
            until(|| (sender.flush(usize::MAX).unwrap() == Flushed::All).then_some(()));
        });
        for _ in 0..filled {
            assert_eq!(far.receive_head(&wait()).unwrap().bytes, b"filler");
        }
        assert_eq!(far.receive_head(&wait()).unwrap().bytes, b"last");
    });
}

#[test]
fn a_handshake_is_taken_byte_by_byte_and_never_waited_for() {
    let front = listener();
    let middle = listener();
    let (front_address, middle_address) = (front.local_addr(), middle.local_addr());
    thread::scope(|scope| {
        let far = scope.spawn(move || {
            let mut far = Channel::connect(middle_address, &connector(), &wait()).unwrap();
            far.send(b"hello", &[], &wait()).unwrap();
            far
        });
        scope.spawn(move || {
            let mut from = bare(middle.accept(&wait()).unwrap());
            let mut to = TcpStream::connect(front_address).unwrap();
            to.set_nodelay(true).unwrap();
            for _ in 0..60 {
                let mut byte = [0];
                from.read_exact(&mut byte).unwrap();
                to.write_all(&byte).unwrap();
            }
            let mut answer = [0; 60];
            to.read_exact(&mut answer).unwrap();
            from.write_all(&answer).unwrap();
            std::io::copy(&mut from, &mut to).unwrap();
        });
        let mut accepting = Accepting::new(front.accept(&wait()).unwrap());
        let near = until(|| accepting.advance(&acceptor()).unwrap());
        assert!(accepting.fd().is_none());
        let (_sender, mut receiver) = near.into_polled::<Vec<u8>>(false);
        until(|| receiver.next_head(true).unwrap().then_some(()));
        assert_eq!(receiver.head(), b"hello");
        drop(far.join().unwrap());
    });
}

#[test]
fn frames_over_the_limits_end_the_channel_before_memory_is_asked_for() {
    let limits = ChannelLimits {
        head_bytes: 10,
        body_bytes: 20,
    };
    for (head, body) in [(11, 0), (0, 21)] {
        let accepting = Acceptor {
            limits,
            ..acceptor()
        };
        let (near, mut far) = pair(&accepting, &connector());
        let (mut sender, mut receiver) = near.into_polled::<Vec<u8>>(false);
        let too_large = sender.queue(bytes(head), vec![bytes(body)]);
        assert!(matches!(too_large, Err(ChannelError::TooLarge { .. })));
        far.send(&bytes(head), &[&bytes(body)], &wait()).unwrap();
        let error = until(|| receiver.next_head(true).err());
        assert!(matches!(error, ChannelError::TooLarge { .. }), "{error}");
        assert!(matches!(
            receiver.next_head(true),
            Err(ChannelError::Closed { .. })
        ));
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
        is_exact: bool,
        keep in 0_usize..300,
        garbage in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let accepting = Acceptor { encrypt, ..acceptor() };
        let near = tampered(
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
        let (_sender, mut receiver) = near.into_polled::<Vec<u8>>(is_exact);
        let mut frames = 0;
        let error = until(|| match receiver.next_head(true) {
            Ok(true) => {
                assert_eq!(receiver.head(), bytes(frames * 9));
                frames += 1;
                None
            }
            Ok(false) => None,
            Err(error) => Some(error),
        });
        let expected = matches!(
            error,
            ChannelError::Closed { .. } | ChannelError::Altered { .. } | ChannelError::TooLarge { .. }
        );
        prop_assert!(expected, "{}", error);
    }
}
