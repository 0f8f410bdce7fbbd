//! Rings between two threads, and what a hostile side can write.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::super::server::Rings;
use super::*;
use crate::time::{Interrupt, Wait, WaitError};

const LIMIT_BYTES: u32 = 1 << 20;

fn their_side(side: &Side) -> TheirSide {
    let passed = side.descriptors();
    TheirSide::receive(passed.map(|fd| fd.try_clone_to_owned().unwrap())).unwrap()
}

/// Both sides of a pair of rings.
fn pair(ring_bytes: usize) -> (Rings, Rings) {
    let sides = [(); 2].map(|()| Side::make(ring_bytes).unwrap());
    let [theirs, ours] = sides.each_ref().map(their_side);
    let [a, b] = sides;
    let [a, b] = [(a, ours), (b, theirs)].map(|(own, other)| {
        let (writer, reader) = own.join(other, LIMIT_BYTES, None);
        Rings { writer, reader }
    });
    (a, b)
}

fn long() -> Wait {
    Wait::for_at_most(Duration::from_secs(60))
}

fn frame(number: u64, bytes: usize) -> Vec<u8> {
    let start = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..bytes as u64)
        .map(|at| (start.wrapping_add(at * 131) >> 7) as u8)
        .collect()
}

#[test]
fn frames_of_all_sizes_arrive_whole_and_in_order() {
    let (mut a, mut b) = pair(4096);
    let mut into = Vec::new();
    for number in 0..20_000 {
        let sent = frame(number, (number as usize * 7) % 1500);
        let cut = sent.len() / 3;
        let parts = [&sent[..cut], &sent[cut..]];
        assert!(a.writer.try_send(&parts, Rouse::Sleeper).unwrap());
        assert!(b.reader.try_receive(&mut into).unwrap());
        assert_eq!(into, sent, "frame {number}");
        assert!(!b.reader.try_receive(&mut into).unwrap());
    }
}

#[test]
fn a_full_ring_takes_nothing_and_loses_nothing() {
    let (mut a, mut b) = pair(4096);
    let mut sent = 0;
    while a
        .writer
        .try_send(&[&frame(sent, 100)], Rouse::Sleeper)
        .unwrap()
    {
        sent += 1;
    }
    assert_eq!(sent, 4096 / 104);
    let mut into = Vec::new();
    for number in 0..sent {
        assert!(b.reader.try_receive(&mut into).unwrap());
        assert_eq!(into, frame(number, 100));
    }
    assert!(!b.reader.try_receive(&mut into).unwrap());
    assert!(a.writer.try_send(&[b"again"], Rouse::Sleeper).unwrap());
}

#[test]
fn two_threads_exchange_frames_of_any_size_whether_they_spin_or_sleep() {
    for spin_us in [0, 50] {
        let spin = Duration::from_micros(spin_us);
        let (mut a, mut b) = pair(4096);
        let size = |number: u64| match number % 50 {
            49 => 40_000 + number as usize % 9,
            other => other as usize * 11,
        };
        let echo = std::thread::spawn(move || {
            let mut into = Vec::new();
            for _ in 0..3000 {
                b.reader.receive(&mut into, spin, &long(), None).unwrap();
                b.writer.send(&[&into], Rouse::Sleeper, &long()).unwrap();
            }
        });
        let mut into = Vec::new();
        for number in 0..3000 {
            let sent = frame(number, size(number));
            a.writer.send(&[&sent], Rouse::Sleeper, &long()).unwrap();
            a.reader.receive(&mut into, spin, &long(), None).unwrap();
            assert!(into == sent, "frame {number}");
        }
        echo.join().unwrap();
    }
}

#[test]
fn an_idle_side_is_rung_for_what_is_urgent_only_and_once() {
    let (mut a, mut b) = pair(4096);
    let is_rung = |reader: &RingReader| {
        let mut fds = [PollFd::new(reader, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    };
    let mut into = Vec::new();
    a.writer.try_send(&[b"1"], Rouse::Anyone).unwrap();
    assert!(!is_rung(&b.reader), "awake");
    b.reader.set_attention(Attention::Idle);
    assert!(b.reader.try_receive(&mut into).unwrap(), "sent before");
    a.writer.try_send(&[b"2"], Rouse::Sleeper).unwrap();
    assert!(!is_rung(&b.reader), "not urgent");
    a.writer.try_send(&[b"3"], Rouse::Anyone).unwrap();
    assert!(is_rung(&b.reader));
    b.reader.silence().unwrap();
    a.writer.try_send(&[b"4"], Rouse::Anyone).unwrap();
    assert!(!is_rung(&b.reader), "it knows already");
    b.reader.set_attention(Attention::Asleep);
    a.writer.try_send(&[b"5"], Rouse::Sleeper).unwrap();
    assert!(is_rung(&b.reader));
}

#[test]
fn an_idle_side_is_rung_before_the_ring_is_full_of_what_is_not_urgent() {
    let (mut a, mut b) = pair(4096);
    let is_rung = |reader: &RingReader| {
        let mut fds = [PollFd::new(reader, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    };
    b.reader.set_attention(Attention::Idle);
    let mut into = Vec::new();
    for _ in 0..1000 {
        a.writer.try_send(&[&[1; 100]], Rouse::Sleeper).unwrap();
        assert!(b.reader.try_receive(&mut into).unwrap());
    }
    assert!(!is_rung(&b.reader), "it keeps up");
    let mut sent = 0;
    while !is_rung(&b.reader) {
        let has_room = a.writer.try_send(&[&[1; 100]], Rouse::Sleeper).unwrap();
        assert!(has_room, "full, and nobody was told");
        sent += 1;
    }
    assert_eq!(sent, 2048 / 104 + 1);
}

#[test]
fn one_that_waits_for_room_is_rung_when_half_the_ring_is_empty_and_not_before() {
    let (mut a, mut b) = pair(4096);
    let is_rung = |writer: &RingWriter| {
        let mut fds = [PollFd::new(writer, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    };
    while a.writer.try_send(&[&[1; 100]], Rouse::Sleeper).unwrap() {}
    a.writer.set_attention(Attention::Asleep);
    let (mut into, mut received) = (Vec::new(), 0);
    while !is_rung(&a.writer) {
        assert!(
            b.reader.try_receive(&mut into).unwrap(),
            "empty, and nobody was told"
        );
        received += 1;
    }
    let (frames, half) = (4096 / 104, 2048 / 104);
    assert!(
        (frames - half..=frames - half + 1).contains(&received),
        "{received}"
    );
}

#[test]
fn a_wait_ends_by_its_deadline_or_interrupt_and_nothing_is_lost() {
    let (mut a, mut b) = pair(4096);
    let mut into = Vec::new();
    let short = Wait::for_at_most(Duration::from_millis(2));
    let error = b.reader.receive(&mut into, Duration::ZERO, &short, None);
    assert!(
        matches!(
            error,
            Err(RingError::Wait {
                partly: false,
                source: WaitError::Deadline(_)
            })
        ),
        "{error:?}"
    );
    let interrupt = Interrupt::default();
    interrupt.set();
    let wait = Wait::new(Duration::from_secs(60), &interrupt);
    let error = b.reader.receive(&mut into, Duration::ZERO, &wait, None);
    assert!(matches!(
        error,
        Err(RingError::Wait {
            source: WaitError::Interrupted,
            ..
        })
    ));
    a.writer.try_send(&[b"late"], Rouse::Sleeper).unwrap();
    b.reader
        .receive(&mut into, Duration::ZERO, &wait, None)
        .unwrap();
    assert_eq!(into, b"late");

    while a.writer.try_send(&[&[7; 1000]], Rouse::Sleeper).unwrap() {}
    let error = a.writer.send(&[&[7; 1000]], Rouse::Sleeper, &short);
    assert!(
        matches!(error, Err(RingError::Wait { partly: false, .. })),
        "{error:?}"
    );
    while b.reader.try_receive(&mut into).unwrap() {}
    a.writer.send(&[b"room"], Rouse::Sleeper, &short).unwrap();
    let error = a.writer.send(&[&[7; 10_000]], Rouse::Sleeper, &short);
    assert!(
        matches!(error, Err(RingError::Wait { partly: true, .. })),
        "{error:?}"
    );
    let error = a.writer.try_send(&[b"x"], Rouse::Sleeper);
    assert!(matches!(error, Err(RingError::Unfinished)), "{error:?}");
}

#[test]
fn a_frame_over_the_limit_is_refused_on_both_sides() {
    let (mut a, mut b) = pair(4096);
    let much = vec![0; LIMIT_BYTES as usize + 1];
    let error = a.writer.send(&[&much], Rouse::Sleeper, &long());
    assert!(matches!(error, Err(RingError::TooLarge { .. })));
    a.writer.limit_bytes = u32::MAX;
    let mut sent = 0;
    a.writer
        .try_stream(&[&much], &mut sent, Rouse::Sleeper)
        .unwrap();
    let mut into = Vec::new();
    for _ in 0..2 {
        let error = b.reader.try_receive(&mut into);
        assert!(matches!(error, Err(RingError::Hostile { .. })), "{error:?}");
    }
}

#[test]
fn counters_that_no_honest_side_writes_are_an_error_and_nothing_more() {
    for head in [4, 4096 + 8, u64::MAX, u64::MAX - 7, 1 << 63] {
        let (a, mut b) = pair(4096);
        a.writer.ends.own.store(HEAD, head);
        let error = b.reader.try_receive(&mut Vec::new());
        assert!(
            matches!(error, Err(RingError::Hostile { .. })),
            "{head}: {error:?}"
        );
    }
    for tail in [8, 4, u64::MAX, 1 << 63] {
        let (mut a, b) = pair(4096);
        assert!(a.writer.try_send(&[&[1; 4]], Rouse::Sleeper).unwrap());
        let sent = a.writer.head;
        b.reader.ends.own.store(TAIL, sent.wrapping_add(tail));
        let error = a.writer.try_send(&[&[0; 4092]], Rouse::Sleeper);
        assert!(
            matches!(error, Err(RingError::Hostile { .. })),
            "{tail}: {error:?}"
        );
    }
    // A head that goes back, once some was received.
    let (mut a, mut b) = pair(4096);
    assert!(a.writer.try_send(&[&[1; 100]], Rouse::Sleeper).unwrap());
    assert!(b.reader.try_receive(&mut Vec::new()).unwrap());
    a.writer.ends.own.store(HEAD, 8);
    let error = b.reader.try_receive(&mut Vec::new());
    assert!(matches!(error, Err(RingError::Hostile { .. })));
}

#[test]
fn any_bytes_in_the_words_and_data_of_the_other_side_are_survived() {
    use proptest::prelude::*;
    let words = prop::collection::vec((0_u64..9000, any::<u64>(), 0..4_usize), 1..40);
    proptest!(ProptestConfig::with_cases(200), |(words in words, garbage in any::<u8>())| {
        let (mut a, mut b) = pair(4096);
        a.writer.ends.own.write(DATA, &[garbage; 4096]);
        let mut into = Vec::new();
        for (small, any, which) in words {
            let at = [HEAD, WAITING, TAIL, ATTENTION][which];
            let value = if any % 3 == 0 { any } else { small };
            b.writer.ends.own.store(at, value);
            a.writer.ends.own.store(at, value);
            let _ = b.reader.try_receive(&mut into);
            let _ = a.reader.try_receive(&mut into);
            let mut sent = 0;
            let _ = a.writer.try_stream(&[&[0; 300]], &mut sent, Rouse::Anyone);
        }
    });
}

#[test]
fn what_is_no_side_of_a_ring_is_refused() {
    let bells = || [(); 2].map(|()| OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
    let with = |memory: OwnedFd| {
        let [one, other] = bells();
        TheirSide::receive([memory, one, other])
    };
    let system = |during, source| RingError::System { during, source };
    for bytes in [4096, DATA + 4096 + 8, DATA + 1024, DATA + 3 * 4096] {
        let memory = sealed_memory(bytes, system).unwrap();
        let error = with(memory.fd).unwrap_err();
        assert!(
            matches!(error, ShmError::Misbehaved { .. }),
            "{bytes}: {error}"
        );
    }
    let unsealed = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&unsealed, (DATA + 4096) as u64).unwrap();
    assert!(matches!(with(unsealed), Err(ShmError::Unsealed { .. })));
    let file = OwnedFd::from(tempfile::tempfile().unwrap());
    rustix::fs::ftruncate(&file, (DATA + 4096) as u64).unwrap();
    assert!(matches!(with(file), Err(ShmError::Unsealed { .. })));
    let [one, other] = bells();
    assert!(TheirSide::receive([one, other]).is_err());
}
