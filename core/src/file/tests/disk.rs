//! A disk that is full, a directory that cannot be written: in a mount
//! namespace of their own, on a small file system in memory.

use std::path::Path;
use std::process::Command;

use super::harness::*;
use crate::engine::{Resume, Start};

const DISK: &str = "PANTA_TEST_DISK";

/// Runs a test of this program again, with a small file system of its own;
/// true if this is that run.
fn on_a_small_disk(test: &str) -> bool {
    if std::env::var_os(DISK).is_some() {
        return true;
    }
    let place = tempfile::tempdir().unwrap();
    let script =
        "mount -t tmpfs -o size=1m tmpfs \"$0\" || exit 77; exec \"$1\" --exact \"$2\" --nocapture";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(place.path())
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(DISK, place.path())
        .output();
    let ran = output
        .as_ref()
        .is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("1 passed"));
    let said = match &output {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    match output.map(|output| output.status.code()) {
        Ok(Some(0)) => assert!(ran, "the test was not found again: {test}"),
        Ok(Some(101)) => panic!("{said}"),
        _ => {
            assert!(
                std::env::var_os("PANTA_CI").is_none(),
                "no mount namespace: {said}"
            );
            eprintln!("skipped: no mount namespace for a small disk: {said}");
        }
    }
    false
}

#[test]
fn a_full_disk_is_named_sealed_steps_still_read_and_the_next_try_works() {
    if !on_a_small_disk(
        "file::tests::disk::a_full_disk_is_named_sealed_steps_still_read_and_the_next_try_works",
    ) {
        return;
    }
    let disk = std::env::var(DISK).unwrap();
    let stream = Stream::at(&Path::new(&disk).join("run"));
    let mut writers = stream.writer(2, Resume::Fresh).unwrap();
    writers.step();
    let ballast = Path::new(&disk).join("ballast");
    std::fs::write(&ballast, vec![1; 900 << 10]).unwrap();
    let mut failures = 0;
    for _ in 0..8 {
        let step = writers.next_step;
        let half = |rank: u64| vec![Put::of_grid(step, &[rank * 32, 0], &[32, 48])];
        let failed = match writers.capture(vec![half(0), half(1)]) {
            Ok(captured) => {
                let head = captured.record.head;
                let sealed = writers
                    .seal(captured)
                    .map(drop)
                    .map_err(|error| error.to_string());
                sealed.map_err(|error| (head, error))
            }
            Err(error) => {
                let head = crate::model::StepHead {
                    step,
                    epoch: 1,
                    ..Default::default()
                };
                Err((head, error.to_string()))
            }
        };
        if let Err((head, error)) = failed {
            assert!(
                error.contains("No space left") && error.contains("/run/"),
                "{error}"
            );
            writers.finish(&head, false);
            failures += 1;
        }
    }
    assert!(failures > 2, "{failures}");
    std::fs::remove_file(&ballast).unwrap();
    let last = writers.step();
    assert_eq!(last, 9);
    writers.close();
    let reader = stream.reader(Start::Oldest).unwrap();
    let mut seen = Vec::new();
    while let Some(step) = next(&reader, &at_once()).unwrap() {
        check_grid(&reader, &step);
        seen.push(step.head.step);
    }
    assert_eq!((seen.first(), seen.last()), (Some(&0), Some(&9)));
    assert_eq!(seen.len(), 10 - failures);
}

#[test]
fn a_directory_that_cannot_be_written_is_named_and_can_still_be_read() {
    if !on_a_small_disk(
        "file::tests::disk::a_directory_that_cannot_be_written_is_named_and_can_still_be_read",
    ) {
        return;
    }
    let disk = std::env::var(DISK).unwrap();
    let stream = Stream::at(&Path::new(&disk).join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    writers.step();
    writers.close();
    let status = Command::new("mount")
        .args(["-o", "remount,ro", &disk])
        .status()
        .unwrap();
    assert!(status.success());
    let error = stream.writer(1, Resume::Last).err().unwrap().to_string();
    assert!(
        error.contains("Read-only") && error.contains("run/lock"),
        "{error}"
    );
    let other = Stream::at(&Path::new(&disk).join("other"));
    let error = other.writer(1, Resume::Fresh).err().unwrap().to_string();
    assert!(error.contains("other"), "{error}");
    assert_eq!(
        steps(&stream.reader(Start::Oldest).unwrap()),
        (vec![0], None)
    );
}
