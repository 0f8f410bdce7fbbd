//! Every wait ends by its deadline, and soon after an interrupt.

use std::thread;
use std::time::Duration;

use panta_transports::coupling::{CouplingError, Peer, TransportName, Urgency};
use panta_transports::time::{Interrupt, Time, Wait, WaitError};

use crate::support::*;

pub(crate) fn a_deadline_of_zero_ends_every_call_at_once(transport: TransportName) {
    let side = Side::open(|_| {});
    let extent = side.extent(64 << 20, 1);
    let peer = connect(&side, transport);
    side.recorder.joined(&side.endpoint);
    let none = || Wait::for_at_most(Duration::ZERO);
    let received = peer.receive(&mut Vec::new(), &none());
    assert!(matches!(received, Err(CouplingError::NotReady { .. })));
    let pieces = [piece_of(&extent, 0, 64 << 20)];
    let mut memory = memory_for(&pieces);
    // What can be had without waiting may be had.
    if let Err(error) = peer.read(&mut to_fill(&pieces, &mut memory), &none()) {
        assert!(matches!(error, CouplingError::NotReady { .. }), "{error}");
    }
    let driven = side.endpoint.drive(&none());
    assert!(matches!(driven, Ok(()) | Err(WaitError::Deadline(_))));
    assert_eq!(
        side.endpoint.drive(&none()),
        Err(WaitError::Deadline(Duration::ZERO))
    );
    if let Err(error) = Peer::connect(&side.ticket(), &options(transport), &none()) {
        assert!(
            matches!(
                error,
                CouplingError::Unreachable { .. } | CouplingError::NotReady { .. }
            ),
            "{error}"
        );
    }
    peer.send(&[b"small"], Urgency::Now, &none()).unwrap();
    assert!(read(&peer, &extent, &[(5, 100)])[0] == pattern(200, 1)[5..105]);
}

pub(crate) fn an_interrupt_ends_every_wait_soon(transport: TransportName) {
    let side = Side::open(|_| {});
    // Nobody reads its ring, nor does its handler return.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    side.recorder.answer(move |heard| {
        if matches!(heard, Heard::Message(..)) {
            let _ = held.lock().unwrap().recv();
        }
        Ok(())
    });
    let peer = connect(&side, transport);
    let stuck = connect(&side, transport);
    side.recorder.joined(&side.endpoint);
    // `drive` tells of the joins first.
    let _ = side.endpoint.drive(&wait());
    while side
        .endpoint
        .drive(&Wait::for_at_most(Duration::ZERO))
        .is_ok()
    {}
    let interrupt = Interrupt::default();
    let endless = Wait::new(Duration::from_secs(3600), &interrupt);
    let large = pattern(16 << 20, 0);
    thread::scope(|scope| {
        let received = scope.spawn(|| peer.receive(&mut Vec::new(), &endless));
        let sent = scope.spawn(|| -> Result<(), CouplingError> {
            loop {
                stuck.send(&[&large], Urgency::Now, &endless)?;
            }
        });
        let driven = scope.spawn(|| -> Result<(), WaitError> {
            loop {
                side.endpoint.drive(&endless)?;
            }
        });
        // They wait by now, or begin to: both end.
        thread::yield_now();
        interrupt.set();
        let start = Time::now();
        let received = received.join().unwrap().unwrap_err();
        assert!(
            matches!(received, CouplingError::NotReady { source, .. } if source == WaitError::Interrupted),
            "{received}"
        );
        assert!(sent.join().unwrap().is_err());
        // A driver may be the very thread in the handler.
        drop(release);
        assert_eq!(driven.join().unwrap(), Err(WaitError::Interrupted));
        let took = Time::now().since(start);
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
}
