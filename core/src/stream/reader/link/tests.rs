//! In how many messages a link says what it has to say.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use panta_transports::copy::CopyCounter;

use super::super::StreamReader;
use super::*;
use crate::comm::Solo;
use crate::config::resolve;
use crate::engine::{OpenArguments, Start};
use crate::model::StepTime;
use crate::session::{Writer, WriterOptions};
use crate::stream::StreamEngine;

const STEPS: usize = 3;

#[test]
fn what_is_to_be_said_at_one_time_is_one_message() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!(
        "stream:batch?contact={}&transport=tcp&rendezvous=0&deadline=20s",
        directory.path().join("contact").display()
    );
    let engine = StreamEngine;
    let mut writer = Writer::open(&url, &mut Solo, &[&engine], WriterOptions::default()).unwrap();
    let write = |writer: &mut Writer| {
        for _ in 0..STEPS {
            writer.begin_step(StepTime::default(), None).unwrap();
            writer.end_step(Vec::new()).unwrap();
        }
    };
    write(&mut writer);
    let target = resolve(&url, &|_| None, Path::new(".")).unwrap();
    let wait = Wait::for_at_most(Duration::from_secs(20));
    let arguments = OpenArguments {
        stream: "batch",
        target: &target,
        rank: 0,
        size: 1,
        wait: &wait,
        interrupt: &Interrupt::default(),
        copies: &CopyCounter::default(),
    };
    let reader = StreamReader::attach(&arguments, &Start::Oldest).unwrap();
    let link = Arc::clone(reader.link.as_ref().unwrap());
    let mut link = locked(&link);
    let said = |link: &Link| link.peer().counters().messages_sent;
    let mut step = Vec::new();
    for _ in 0..STEPS {
        assert!(link.next(None, &mut step, &wait).unwrap());
    }

    // Several steps that were let go of.
    let held: Vec<Position> = link.subscriber.held().collect();
    assert_eq!(held.len(), STEPS);
    locked(&link.released).extend(held);
    let before = said(&link);
    link.tell_released();
    assert_eq!(said(&link), before + 1);

    // Several that no rank holds any more, and that the next is waited for.
    write(&mut writer);
    for _ in 0..STEPS {
        assert!(link.next(None, &mut step, &wait).unwrap());
    }
    let last = link.subscriber.held().last().unwrap().step;
    let before = said(&link);
    let at_once = Wait::for_at_most(Duration::ZERO);
    let waited = link.next(Some(&[last]), &mut step, &at_once);
    assert!(matches!(waited, Err(NextError::NotReady { .. })));
    assert_eq!(said(&link), before + 1);

    // The writer heard it all: it waits for who has not let go.
    link.feed(SubscriberEvent::Held { steps: &[] });
    writer.close().unwrap();
}
