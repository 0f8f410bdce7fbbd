//! What becomes of a writer's readers when another has taken its place.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::super::contact::{self, Contact};
use super::super::process::Process;
use crate::comm::Solo;
use crate::engine::{Resume, Start};
use crate::error::{CloseError, Fault};
use crate::model::StepTime;
use crate::session::{Reader, ReaderOptions, Writer, WriterOptions};
use crate::stream::StreamEngine;

fn open(url: &str, resume: Resume) -> Writer {
    let options = WriterOptions {
        resume,
        ..WriterOptions::default()
    };
    Writer::open(url, &mut Solo, &[&StreamEngine], options).unwrap()
}

fn write(writer: &mut Writer) {
    writer.begin_step(StepTime::default(), None).unwrap();
    writer.end_step(Vec::new()).unwrap();
}

/// The epoch and the number of the next step; `None` where the stream is complete.
fn next(reader: &mut Reader) -> Option<(u64, u64)> {
    let step = reader.next_step().unwrap()?;
    Some((step.head().epoch, step.head().step))
}

/// Whoever comes finds the writer's process gone, as a host can be wrong about it, or as one
/// that was silent for too long is taken for gone. It is the same file still.
fn hold_dead(path: &Path) {
    let found = contact::look(path).unwrap().unwrap();
    let contact = Contact {
        process: Process::ended(),
        ..found.contact
    };
    std::fs::write(path, contact::encode(&contact, found.next_step)).unwrap();
}

/// With `spill` it is earlier in closing that readers hear of the end.
fn taken_over(policy: &str, is_dropped: bool) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("contact");
    let mut url = format!(
        "stream:taken?contact={}&policy={policy}&rendezvous=0&retain_steps=9&deadline=20s",
        path.display()
    );
    if policy == "spill" {
        url += &format!("&spill={}", directory.path().join("spilled").display());
    }
    let mut first = open(&url, Resume::Fresh);
    let options = ReaderOptions {
        start: Start::Oldest,
        ..ReaderOptions::default()
    };
    let mut reader = Reader::open(&url, &mut Solo, &[&StreamEngine], &options).unwrap();
    for step in 0..2 {
        write(&mut first);
        assert_eq!(next(&mut reader), Some((1, step)), "{policy}");
    }
    hold_dead(&path);
    let mut second = open(&url, Resume::After(1));
    write(&mut second);

    // That it looked whether another had come, not long ago, is not enough.
    let closed = if is_dropped {
        drop(first);
        None
    } else {
        Some(first.close())
    };
    assert_eq!(next(&mut reader), Some((2, 2)), "{policy}");
    if let Some(closed) = closed {
        let CloseError::Failed(refused) = closed.unwrap_err();
        let is_fenced = matches!(refused.fault, Fault::Fenced { epoch: 2 });
        assert!(is_fenced, "{policy}: {refused}");
    }
    second.close().unwrap();
    assert_eq!(next(&mut reader), None, "{policy}");
}

#[test]
fn a_writer_that_was_taken_over_does_not_tell_its_readers_that_the_stream_is_complete() {
    taken_over("block", false);
    taken_over("block", true);
}

#[test]
fn nor_does_one_that_spills() {
    taken_over("spill", false);
    taken_over("spill", true);
}
