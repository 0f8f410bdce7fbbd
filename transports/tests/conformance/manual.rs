//! Progress by hand: nothing happens between two calls, and nobody is held dead for it
//! who said for how long.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use panta_transports::coupling::{
    CouplingError, EndpointOptions, Lost, Peer, Progress, TransportName, Urgency,
};
use panta_transports::time::{Time, Wait};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::*;

const LONG: Duration = Duration::from_secs(600);

fn by_hand(silence: Duration) -> impl FnOnce(&mut EndpointOptions) {
    move |options| options.progress = Progress::Manual { silence }
}

/// Computes: no call is made meanwhile.
fn compute(length: Duration) {
    let end = Time::now().after(length);
    while Time::now() < end {
        std::hint::spin_loop();
    }
}

fn is_readable(side: &Side, at_most: i64) -> bool {
    let fd = side.endpoint.wait_fd().unwrap();
    let timeout = Timespec {
        tv_sec: at_most,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap() > 0
}

/// Makes progress, as the descriptor says, until there is no more to do just now; how
/// many calls that took.
fn all_there_is(side: &Side) -> usize {
    assert!(is_readable(side, 60), "there is nothing to do");
    let mut calls = 0;
    while is_readable(side, 0) {
        side.endpoint.progress();
        calls += 1;
    }
    calls
}

fn dropped(lost: &Lost) -> &str {
    match lost {
        Lost::Dropped { why } => why,
        other => panic!("{other}"),
    }
}

fn lost_of(error: CouplingError) -> Lost {
    match error {
        CouplingError::Lost { why, .. } => why,
        other => panic!("{other}"),
    }
}

pub(crate) fn nothing_happens_before_the_host_calls(transport: TransportName) {
    let side = Side::open(by_hand(LONG));
    let extent = side.extent(1 << 20, 3);
    side.endpoint.progress();
    assert!(!is_readable(&side, 0), "nobody has come yet");
    let peer = thread::scope(|scope| {
        let comes = scope.spawn(|| connect(&side, transport));
        assert!(is_readable(&side, 60));
        assert_eq!(side.recorder.all(), []);
        assert_eq!(side.endpoint.counters().joins, 0);
        while side.endpoint.counters().joins == 0 {
            all_there_is(&side);
        }
        comes.join().unwrap()
    });
    all_there_is_or_nothing(&side);
    let peer = Arc::new(peer);
    peer.send(&[b"now"], Urgency::Now, &wait()).unwrap();
    assert!(is_readable(&side, 60));
    assert_eq!(side.recorder.messages(), [] as [Vec<u8>; 0]);
    all_there_is(&side);
    assert_eq!(side.recorder.messages(), [b"now"]);
    // One that is not urgent is taken with the next call, too.
    peer.send(&[b"then"], Urgency::WhenPolled, &wait()).unwrap();
    while side.recorder.messages().len() < 2 {
        side.endpoint.progress();
    }
    let reads = side.endpoint.counters().reads;
    let bytes = thread::scope(|scope| {
        let reader = scope.spawn(|| read(&peer, &extent, &[(5, 1 << 19)]));
        if transport == TransportName::Tcp {
            assert!(is_readable(&side, 60));
            assert_eq!(side.endpoint.counters().reads, reads);
        }
        while !reader.is_finished() {
            side.endpoint.progress();
        }
        reader.join().unwrap()
    });
    assert!(bytes[0] == pattern(1 << 20, 3)[5..(1 << 19) + 5]);
}

fn all_there_is_or_nothing(side: &Side) {
    while is_readable(side, 0) {
        side.endpoint.progress();
    }
}

/// Both sides by hand, with leases that are far shorter than the host computes.
pub(crate) fn who_declared_it_computes_for_long_and_lives(transport: TransportName) {
    let lease = Duration::from_millis(200);
    let side = Side::open(|options| {
        options.lease = lease;
        by_hand(LONG)(options);
    });
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let peer = connect_with(&side, transport, |options| {
                options.lease = lease;
                options.progress = Progress::Manual { silence: LONG };
            });
            let mut message = Vec::new();
            peer.receive(&mut message, &wait()).unwrap();
            assert_eq!(message, b"computed");
            compute(lease * 4);
            peer.send(&[b"so have I"], Urgency::Now, &wait()).unwrap();
            peer
        });
        let id = side.recorder.joined(&side.endpoint);
        compute(lease * 4);
        side.endpoint.progress();
        side.endpoint.send(id, &[b"computed"]).unwrap();
        side.recorder.until_messages(&side.endpoint, 1);
        assert_eq!(side.endpoint.away(), None);
        let peer = waiting.join().unwrap();
        assert_eq!(peer.away(), None);
    });
}

pub(crate) fn an_endpoint_left_alone_for_too_long_is_dead_and_knows(transport: TransportName) {
    let silence = Duration::from_millis(100);
    let side = Side::open(by_hand(silence));
    let peer = thread::scope(|scope| {
        let comes = scope.spawn(|| connect(&side, transport));
        side.recorder.joined(&side.endpoint);
        while !comes.is_finished() {
            side.endpoint.progress();
        }
        comes.join().unwrap()
    });
    assert_eq!(side.endpoint.away(), None);
    compute(silence * 2);
    side.endpoint.progress();
    let away = side.endpoint.away().unwrap();
    assert!(away.for_ > silence && away.silence == silence);
    let lost = side.recorder.lost(&side.endpoint);
    assert!(dropped(&lost).contains("stayed away"), "{lost}");
    let mut nothing = Vec::new();
    lost_of(peer.receive(&mut nothing, &wait()).unwrap_err());
    // Nor does anybody join what is dead.
    let refused = thread::scope(|scope| {
        let options = options(transport);
        let ticket = side.ticket();
        let comes = scope.spawn(move || Peer::connect(&ticket, &options, &wait()).map(drop));
        while !comes.is_finished() {
            side.endpoint.progress();
        }
        comes.join().unwrap().unwrap_err()
    });
    assert!(refused.to_string().contains("stayed away"), "{refused}");
}

pub(crate) fn a_peer_left_alone_for_too_long_is_dead_and_knows(transport: TransportName) {
    let silence = Duration::from_millis(100);
    let side = Side::open(|options| options.lease = LONG);
    let peer = connect_with(&side, transport, |options| {
        options.progress = Progress::Manual { silence };
    });
    side.recorder.joined(&side.endpoint);
    compute(silence * 2);
    peer.progress();
    assert!(peer.away().is_some_and(|away| away.for_ > silence));
    let mut nothing = Vec::new();
    let lost = lost_of(peer.receive(&mut nothing, &wait()).unwrap_err());
    assert!(dropped(&lost).contains("stayed away"), "{lost}");
    side.recorder.lost(&side.endpoint);
}

/// The lease that was asked for is far longer than what the peer declared.
pub(crate) fn who_declared_little_is_held_to_it(transport: TransportName) {
    let silence = Duration::from_millis(100);
    let side = Side::open(|options| options.lease = LONG);
    let peer = connect_with(&side, transport, |options| {
        options.progress = Progress::Manual { silence };
        options.lease = silence;
    });
    let lost = side.recorder.lost(&side.endpoint);
    assert!(
        matches!(lost, Lost::Silent { for_ } if for_ > silence),
        "{lost}"
    );
    drop(peer);
}

/// While something else is waited for, a wait that knows of the peer says that it lives.
pub(crate) fn a_wait_for_something_else_shows_life(transport: TransportName) {
    let silence = Duration::from_millis(300);
    let side = Side::open(|options| options.lease = LONG);
    let peer = connect_with(&side, transport, |options| {
        options.progress = Progress::Manual { silence };
    });
    side.recorder.joined(&side.endpoint);
    let interrupt = panta_transports::time::Interrupt::default();
    interrupt.meanwhile(peer.meanwhile());
    let wait = Wait::new(silence * 4, &interrupt);
    while let Ok(slice) = wait.slice() {
        thread::park_timeout(slice);
    }
    peer.progress();
    assert_eq!(peer.away(), None);
    peer.send(&[b"here"], Urgency::Now, &crate::support::wait())
        .unwrap();
    side.recorder.until_messages(&side.endpoint, 1);
    assert_eq!(side.recorder.all().len(), 2, "joined and said something");
}
