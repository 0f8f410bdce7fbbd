//! A root and its endpoint, and readers that are quicker than the writer's opening.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use panta_transports::channel::Key;
use panta_transports::coupling::{
    Choice, EndpointOptions, Peer, PeerOptions, TransportName, Urgency,
};
use panta_transports::region::{Arena, ArenaOptions};

use super::*;
use crate::config::{Distribution, Policy};
use crate::stream::machine::{Join, Life};

fn long() -> Wait {
    Wait::for_at_most(Duration::from_secs(20))
}

fn root() -> Arc<Root> {
    let options = PublisherOptions {
        life: Life {
            epoch: 7,
            after: None,
        },
        earlier: Vec::new(),
        limit_bytes: 1 << 20,
        ranks: 1,
        policy: Policy::Block,
        distribution: Distribution::All,
        rendezvous: 1,
        retain_steps: 0,
        retain_bytes: None,
        precious_first: false,
        lease: None,
        recovered: Vec::new(),
        cursors: Vec::new(),
    };
    Arc::new(Root::new("early", options, Arc::default()))
}

fn open(root: &Arc<Root>, key: &Key) -> Arc<Endpoint> {
    let arena = Arena::new(ArenaOptions {
        limit_bytes: 1 << 20,
        shared: true,
    });
    let handler: Arc<dyn Handler> = Arc::clone(root) as _;
    Arc::new(Endpoint::open(EndpointOptions::new(key.clone()), arena, handler).unwrap())
}

/// A reader's root, joined: the handler has heard of it when this is back.
fn join(endpoint: &Endpoint, key: &Key, transport: TransportName) -> Peer {
    let greeting = Greeting::ReaderRoot {
        stream: "early".into(),
        ranks: 1,
        join: Join::default(),
    };
    let options = PeerOptions {
        hello: greeting.to_bytes(),
        choice: Choice::Only(transport),
        ..PeerOptions::new(key.clone())
    };
    Peer::connect(&endpoint.ticket(), &options, &long()).unwrap()
}

fn heard(peer: &Peer) -> WriterMessage {
    let mut message = Vec::new();
    peer.receive(&mut message, &long()).unwrap();
    WriterMessage::from_bytes(&message).unwrap()
}

#[test]
fn who_joins_before_the_root_can_speak_is_welcomed_once_it_can() {
    for transport in [TransportName::Shm, TransportName::Tcp] {
        let (root, key) = (root(), Key::generate().unwrap());
        let endpoint = open(&root, &key);
        let [first, second] = [(), ()].map(|()| join(&endpoint, &key, transport));
        // What it says is answered too, and the two in their order.
        let (cursor, at) = ("viz".to_owned(), Default::default());
        let commit = ReaderMessage::Commit { cursor, at }.to_bytes();
        first.send(&[&commit], Urgency::Now, &long()).unwrap();
        root.speak_through(&endpoint);
        for peer in [&first, &second] {
            let welcome = heard(peer);
            assert!(
                matches!(welcome, WriterMessage::Welcome { epoch: 7, .. }),
                "{welcome:?}"
            );
        }
        // Nothing is sealed that could be committed.
        assert_eq!(heard(&first), WriterMessage::NotCommitted { at });
        // The groups are the publisher's, and what it is waited for is there.
        assert_eq!(root.lock().publisher.missing_groups(), 0);
        assert!(root.lock().actions.is_empty(), "something is kept still");
    }
}

#[test]
fn memory_that_is_given_back_is_taken_in_between_steps_unless_some_is_to_be_written_first() {
    let (root, mut taken) = (root(), Vec::new());
    let given_back = [(1, Fate::Free), (2, Fate::Retire)];
    root.lock().fates.extend(given_back);
    root.take_freed(&mut taken);
    assert_eq!(taken, given_back);
    // In their order: what is written is not freed before.
    let with_spilled = [(3, Fate::Spill), (4, Fate::Free)];
    root.lock().fates.extend(with_spilled);
    root.take_freed(&mut taken);
    assert_eq!(taken, given_back);
    assert_eq!(root.lock().fates, with_spilled);
}
