//! Steps come and go: sealing, following, dying, resuming, replacing.

use super::harness::*;
use crate::engine::{ReaderEngine, Resume, Start};
use crate::error::{Fault, NextError, OpenError};

#[test]
fn what_ranks_put_is_read_back_by_any_number_of_steps() {
    let place = tempfile::tempdir().unwrap();
    for size in [1, 3] {
        let stream = Stream::at(&place.path().join(format!("run{size}")));
        let mut writers = stream.writer(size, Resume::Fresh).unwrap();
        let reader = stream.reader(Start::Oldest).unwrap();
        for _ in 0..3 {
            let step = writers.step();
            let meta = next(&reader, &soon()).unwrap().unwrap();
            assert_eq!(meta.head.step, step);
            check_grid(&reader, &meta);
        }
        let not_ready = next(&reader, &at_once()).unwrap_err();
        assert!(
            matches!(not_ready, NextError::NotReady { .. }),
            "{not_ready}"
        );
        writers.close();
        assert!(next(&reader, &soon()).unwrap().is_none());
        assert_eq!(
            steps(&stream.reader(Start::Oldest).unwrap()),
            (vec![0, 1, 2], None)
        );
    }
}

#[test]
fn a_step_that_was_captured_but_not_sealed_is_never_seen() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(2, Resume::Fresh).unwrap();
    writers.step();
    let given_up = writers
        .capture(vec![vec![Put::of_grid(9, &[0, 0], &[64, 48])]])
        .unwrap();
    writers.finish(&given_up.record.head, false);
    writers.step();
    let unsealed = writers
        .capture(vec![vec![Put::of_grid(9, &[0, 0], &[64, 48])]])
        .unwrap();
    drop(unsealed);
    drop(writers);
    let reader = stream.reader(Start::Oldest).unwrap();
    for expected in [0, 2] {
        let meta = next(&reader, &at_once()).unwrap().unwrap();
        assert_eq!(meta.head.step, expected);
        check_grid(&reader, &meta);
    }
    let lost = next(&reader, &soon()).unwrap_err();
    let expected = NextError::WriterLost {
        stream: "run".into(),
        last_sealed: Some(2),
    };
    assert_eq!(lost, expected);
}

#[test]
fn a_second_writer_is_refused_and_told_who_holds_the_dataset() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let writers = stream.writer(1, Resume::Fresh).unwrap();
    let error = stream.writer(1, Resume::Last).err().unwrap();
    let pid = format!("pid {}", std::process::id());
    assert!(
        matches!(&error, OpenError::Busy { holder, .. } if holder.contains(&pid)),
        "{error}"
    );
    writers.close();
    assert!(stream.writer(1, Resume::Last).is_ok());
}

#[test]
fn a_writer_that_resumes_goes_on_in_a_new_epoch_with_other_ranks() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut first = stream.writer(3, Resume::Last).unwrap();
    assert_eq!((first.epoch, first.next_step), (1, 0));
    first.step();
    first.step();
    let reader = stream.reader(Start::Oldest).unwrap();
    assert!(next(&reader, &at_once()).unwrap().is_some());
    drop(first);
    let mut second = stream.writer(2, Resume::Last).unwrap();
    assert_eq!((second.epoch, second.next_step), (2, 2));
    second.step();
    second.close();
    for expected in [(1, 1), (2, 2)] {
        let meta = next(&reader, &at_once()).unwrap().unwrap();
        assert_eq!((meta.head.epoch, meta.head.step), expected);
        check_grid(&reader, &meta);
    }
    assert!(next(&reader, &at_once()).unwrap().is_none());
}

#[test]
fn readers_are_told_of_a_rollback_and_get_the_successors() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut first = stream.writer(2, Resume::Fresh).unwrap();
    for _ in 0..6 {
        first.step();
    }
    drop(first);
    let ahead = stream.reader(Start::Oldest).unwrap();
    assert_eq!(steps(&ahead).0, [0, 1, 2, 3, 4, 5]);
    let behind = stream.reader(Start::Oldest).unwrap();
    assert!(next(&behind, &at_once()).unwrap().is_some());
    ahead.commit(&head(1, 4), "viz", &soon()).unwrap();
    let mut second = stream.writer(1, Resume::After(2)).unwrap();
    assert_eq!((second.epoch, second.next_step), (2, 3));
    second.step();
    let rolled_back = NextError::RolledBack {
        stream: "run".into(),
        to: Some(2),
    };
    assert_eq!(next(&ahead, &at_once()).unwrap_err(), rolled_back);
    let meta = next(&ahead, &at_once()).unwrap().unwrap();
    assert_eq!((meta.head.epoch, meta.head.step), (2, 3));
    check_grid(&ahead, &meta);
    second.close();
    assert_eq!(steps(&behind), (vec![1, 2, 3], None));
    let cursor = stream.reader(Start::Cursor("viz".into())).unwrap();
    assert_eq!(next(&cursor, &at_once()).unwrap_err(), rolled_back);
    assert_eq!(steps(&cursor), (vec![3], None));
}

fn head(epoch: u64, step: u64) -> crate::model::StepHead {
    crate::model::StepHead {
        epoch,
        step,
        ..Default::default()
    }
}

#[test]
fn readers_begin_where_they_ask_to() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    for _ in 0..4 {
        writers.step();
    }
    let given_up = writers.capture(vec![]).unwrap();
    writers.finish(&given_up.record.head, false);
    writers.step();
    let at = |start| stream.reader(start).unwrap();
    let reader = at(Start::Cursor("new".into()));
    assert_eq!(steps(&reader).0, [0, 1, 2, 3, 5]);
    reader.commit(&head(1, 2), "a/b c", &soon()).unwrap();
    let later = at(Start::At(6));
    let waiting = next(&later, &at_once()).unwrap_err();
    assert!(matches!(waiting, NextError::NotReady { .. }), "{waiting}");
    let cases: [(Start, &[u64]); 5] = [
        (Start::Latest, &[5]),
        (Start::At(3), &[3, 5]),
        (Start::After(3), &[5]),
        (Start::AtTime(1.2), &[3, 5]),
        (Start::Cursor("a/b c".into()), &[3, 5]),
    ];
    for (start, expected) in cases {
        assert_eq!(steps(&at(start.clone())).0, expected, "{start:?}");
    }
    let trimmed = next(&at(Start::At(4)), &at_once()).unwrap_err();
    assert!(
        matches!(
            trimmed,
            NextError::Trimmed {
                oldest: Some(0),
                ..
            }
        ),
        "{trimmed}"
    );
    writers.step();
    assert_eq!(next(&later, &soon()).unwrap().unwrap().head.step, 6);
}

#[test]
fn a_reader_of_a_dataset_that_was_replaced_is_told_so() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut first = stream.writer(1, Resume::Fresh).unwrap();
    first.step();
    first.step();
    let reader = stream.reader(Start::Oldest).unwrap();
    let old = next(&reader, &at_once()).unwrap().unwrap();
    drop(first);
    let mut second = stream.writer(1, Resume::Fresh).unwrap();
    second.step();
    let error = get(&reader, &old, 0, boxed(&[0, 0]), &[64, 48]).unwrap_err();
    assert!(error.to_string().contains("replaced"), "{error}");
    // What the root had not given yet is known to it still.
    assert!(next(&reader, &at_once()).unwrap().is_some());
    let error = next(&reader, &soon()).unwrap_err();
    assert!(
        matches!(&error, NextError::Failed(it) if matches!(it.fault, Fault::PeerLost { .. })),
        "{error}"
    );
    let new = stream.reader(Start::Oldest).unwrap();
    check_grid(&new, &next(&new, &at_once()).unwrap().unwrap());
}

#[test]
fn a_reader_that_finds_nothing_says_what_it_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let error = stream.reader(Start::Oldest).unwrap_err();
    assert!(
        matches!(&error, OpenError::NotFound { what, .. } if what.contains("run")),
        "{error}"
    );
}

#[test]
fn a_directory_with_other_files_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("thesis.tex"), "years of work").unwrap();
    let error = Stream::at(place.path())
        .writer(1, Resume::Fresh)
        .err()
        .unwrap();
    assert!(error.to_string().contains("thesis.tex"), "{error}");
    assert!(place.path().join("thesis.tex").exists());
}

#[test]
fn resuming_after_a_step_that_never_was_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let error = stream.writer(1, Resume::After(3)).err().unwrap();
    assert!(error.to_string().contains("no step at all"), "{error}");
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    writers.step();
    writers.close();
    let error = stream.writer(1, Resume::After(3)).err().unwrap();
    assert!(
        error.to_string().contains("the last step there is 0"),
        "{error}"
    );
}

#[test]
fn a_reader_that_waits_gets_each_step_while_the_writer_lives_and_the_end_when_it_closes() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let writers = stream.writer(2, Resume::Fresh).unwrap();
    let reader = stream.reader(Start::Oldest).unwrap();
    let (told, tell) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut writers = writers;
            // The next step only when the last was seen: none is there early.
            while told_of_another(&tell) {
                writers.step();
            }
            writers.close();
        });
        for expected in 0..20 {
            told.send(()).unwrap();
            let step = next(&reader, &soon()).unwrap().unwrap();
            assert_eq!(step.head.step, expected);
            check_grid(&reader, &step);
        }
        drop(told);
        assert!(next(&reader, &soon()).unwrap().is_none());
    });
}

fn told_of_another(tell: &std::sync::mpsc::Receiver<()>) -> bool {
    tell.recv().is_ok()
}

#[test]
fn a_reader_that_waits_can_be_interrupted() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let _writers = stream.writer(1, Resume::Fresh).unwrap();
    let reader = stream.reader(Start::Oldest).unwrap();
    let interrupt = panta_transports::time::Interrupt::default();
    let wait = panta_transports::time::Wait::new(std::time::Duration::from_secs(600), &interrupt);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| next(&reader, &wait).unwrap_err());
        interrupt.set();
        let error = waiting.join().unwrap();
        assert!(
            matches!(&error, NextError::Failed(it) if matches!(it.fault, Fault::Interrupted { .. })),
            "{error}"
        );
    });
}

#[test]
fn a_dataset_of_another_version_is_refused_by_its_number() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    stream.writer(1, Resume::Fresh).unwrap().close();
    let path = stream.path("commits");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 2;
    let crc = panta_transports::copy::checksum(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let error = stream.reader(Start::Oldest).unwrap_err().to_string();
    assert!(
        error.contains("format version 2, this program reads 1"),
        "{error}"
    );
}

#[test]
fn records_of_more_ranks_than_fit_a_page_are_whole_or_not_there() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(200, Resume::Fresh).unwrap();
    let puts = |step| {
        let cell = |rank: u64| vec![Put::of_grid(step, &[rank / 48, rank % 48], &[1, 1])];
        (0..200).map(cell).collect::<Vec<_>>()
    };
    writers.put(puts(0)).unwrap();
    writers.put(puts(1)).unwrap();
    drop(writers);
    let commits = stream.path("commits");
    let whole = std::fs::read(&commits).unwrap();
    assert_eq!(whole.len(), 4096 * (2 + 3 + 3));
    for pages in 2..=8 {
        std::fs::write(&commits, &whole[..pages * 4096]).unwrap();
        let reader = stream.reader(Start::Oldest).unwrap();
        let (seen, _) = steps(&reader);
        assert_eq!(seen.len(), (pages - 2) / 3, "{pages} pages");
    }
    let reader = stream.reader(Start::At(1)).unwrap();
    let step = next(&reader, &at_once()).unwrap().unwrap();
    let found = get(&reader, &step, 0, boxed(&[1, 0]), &[3, 48]).unwrap();
    let expected = (48..192).map(|at| value(1, at / 48, at % 48));
    assert!(found.into_iter().eq(expected));
}
