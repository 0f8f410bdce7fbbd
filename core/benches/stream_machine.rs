//! What the machines of `stream:` cost a step.
//!
//! `cargo bench -p panta-core --bench stream_machine` prints a table; nothing
//! is asserted. A step is admitted, sealed, announced and released by every
//! group; groups that are told of steps and let none go are in the way of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(missing_docs, clippy::cast_precision_loss)]

use panta_core::config::{Distribution, Policy};
use panta_core::stream::machine::{
    GroupId, Join, Life, Publisher, PublisherAction, PublisherEvent, PublisherOptions,
    ReaderMessage, Subscriber, SubscriberAction, SubscriberEvent, SubscriberOptions, WriterMessage,
};
use panta_transports::time::Time;

const STEPS: u64 = 1_000_000;

fn options(ranks: usize, retain_steps: u64) -> PublisherOptions {
    PublisherOptions {
        life: Life {
            epoch: 1,
            after: None,
        },
        earlier: Vec::new(),
        limit_bytes: 64 << 20,
        ranks,
        policy: Policy::Block,
        distribution: Distribution::All,
        rendezvous: 0,
        retain_steps,
        retain_bytes: None,
        precious_first: false,
        lease: None,
        recovered: Vec::new(),
        cursors: Vec::new(),
    }
}

/// Nanoseconds a step of a publisher.
fn publisher(ranks: usize, groups: u64, stalled: u64, retain_steps: u64) -> f64 {
    let steps = STEPS / ranks as u64;
    let mut publisher = Publisher::new(options(ranks, retain_steps));
    let mut actions = Vec::new();
    for group in 0..groups + stalled {
        let (group, join) = (GroupId(group), &Join::default());
        let event = PublisherEvent::Joined { group, join };
        publisher.handle(event, Time(0), &mut actions);
    }
    let bytes = vec![if stalled > 0 { 1 } else { 1024 }; ranks];
    let began = Time::now();
    for step in 0..steps {
        actions.clear();
        let admit = PublisherEvent::Admit {
            step,
            reserve_bytes: &bytes,
        };
        publisher.handle(admit, Time(step), &mut actions);
        let sealed = PublisherEvent::Sealed {
            step,
            time: None,
            bytes: &bytes,
        };
        publisher.handle(sealed, Time(step), &mut actions);
        let announced = actions
            .iter()
            .filter(|action| matches!(action, PublisherAction::Announce { .. }))
            .count() as u64;
        assert_eq!(announced, groups + stalled);
        for group in 0..groups {
            let (group, message) = (GroupId(group), &ReaderMessage::Release { step });
            let event = PublisherEvent::Message { group, message };
            publisher.handle(event, Time(step), &mut actions);
        }
        if stalled > 0 && step % 60_000 == 59_999 {
            // Makes way for more.
            for group in groups..groups + stalled {
                for step in step - 59_999..=step {
                    let (group, message) = (GroupId(group), &ReaderMessage::Release { step });
                    let event = PublisherEvent::Message { group, message };
                    publisher.handle(event, Time(step), &mut actions);
                }
            }
        }
    }
    Time::now().since(began).as_nanos() as f64 / steps as f64
}

/// Nanoseconds a step of a subscriber.
fn subscriber() -> f64 {
    let mut subscriber = Subscriber::new(SubscriberOptions::default());
    let mut actions = Vec::new();
    let welcome = WriterMessage::Welcome {
        epoch: 1,
        pull: false,
        limit_bytes: 1,
        newest: None,
    };
    subscriber.handle(SubscriberEvent::Message(&welcome), Time(0), &mut actions);
    let began = Time::now();
    for step in 0..STEPS {
        actions.clear();
        let at = panta_core::stream::machine::Position { epoch: 1, step };
        let announced = WriterMessage::Announced { at, newest: step };
        subscriber.handle(SubscriberEvent::Message(&announced), Time(0), &mut actions);
        subscriber.handle(SubscriberEvent::Next, Time(0), &mut actions);
        subscriber.handle(SubscriberEvent::Held { steps: &[] }, Time(0), &mut actions);
        assert!(matches!(
            actions[..],
            [SubscriberAction::Deliver { .. }, SubscriberAction::Send(_)]
        ));
    }
    Time::now().since(began).as_nanos() as f64 / STEPS as f64
}

fn main() {
    println!("ranks  groups  stalled  retained   ns a step");
    for (ranks, groups, stalled, retained) in [
        (1, 1, 0, 0),
        (1, 1, 0, 4),
        (1, 4, 0, 4),
        (1, 1, 1, 4),
        (1_000, 1, 0, 4),
    ] {
        let took = publisher(ranks, groups, stalled, retained);
        println!("{ranks:5} {groups:7} {stalled:8} {retained:9} {took:11.0}");
    }
    println!("subscriber {:34.0}", subscriber());
}
