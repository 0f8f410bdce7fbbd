#![allow(clippy::unwrap_used)]
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

fn contact(epoch: u64) -> Contact {
    Contact {
        stream: "run42".into(),
        instance: [epoch as u8; 16],
        lives: vec![Life {
            epoch,
            after: epoch.checked_sub(3),
        }],
        process: Process::own(),
        ranks: 3,
        key: Key::from_bytes([9; KEY_BYTES]),
        silence_ms: 0,
        distribution: Distribution::OnDemand,
        ticket: vec![1, 2, 3],
    }
}

fn publish(path: &Path, epoch: u64, replaces: Option<&Found>) -> Result<ContactFile, Unpublished> {
    ContactFile::publish(
        path,
        &contact(epoch),
        0,
        replaces.map(|found| found.identity),
    )
}

#[test]
fn a_contact_is_read_as_it_was_written_and_only_by_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run42.panta-contact");
    assert_eq!(look(&path).unwrap(), None);
    let mut file = publish(&path, 3, None).unwrap();
    let found = look(&path).unwrap().unwrap();
    assert_eq!((&found.contact, found.next_step), (&contact(3), 0));
    file.note(58);
    assert_eq!(look(&path).unwrap().unwrap().next_step, 58);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(look(&path).unwrap_err().to_string().contains("640"));
    file.remove();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn of_two_writers_one_gets_the_name_and_only_the_stale_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("contact");
    let mut first = publish(&path, 1, None).unwrap();
    assert!(matches!(publish(&path, 2, None), Err(Unpublished::Taken)));
    let stale = look(&path).unwrap().unwrap();
    assert_eq!(first.successor(), None);
    let second = publish(&path, 2, Some(&stale)).unwrap();
    assert_eq!(first.successor(), Some(2));
    // The first is gone: it neither removes the second, nor is replaced again.
    first.remove();
    assert!(matches!(
        publish(&path, 3, Some(&stale)),
        Err(Unpublished::Taken)
    ));
    assert_eq!(look(&path).unwrap().unwrap().contact.epoch(), 2);
    drop(second);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn many_writers_at_once_leave_one_contact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("contact");
    let got: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|epoch| {
                scope.spawn({
                    let path = &path;
                    move || publish(path, epoch, None)
                })
            })
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(got.iter().filter(|it| it.is_ok()).count(), 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("contact");
    let good = encode(&contact(1), 7);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        let torn_or_free = (20..40).contains(&at);
        match decode(&bad) {
            Ok((read, _)) => assert!(torn_or_free && read == contact(1), "byte {at}"),
            Err(_) => assert!(!torn_or_free, "byte {at}"),
        }
        assert!(decode(&good[..at]).is_err());
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .unwrap();
    file.write_all(b"PANTACON").unwrap();
    let error = look(&path).unwrap_err().to_string();
    assert!(
        error.contains("contact") && error.contains("remove it"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode(&[&MAGIC[..], &VERSION.to_le_bytes(), &bytes].concat());
    }
}
