//! What `panta ls` says of a contact file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use common::{refused, said};
use panta::{Reader, Shape, Solo, Start, StepTime, Writer};
use serde_json::Value;

const FILE: &str = "run42.panta-contact";

#[test]
fn a_contact_file_is_looked_at_without_joining_and_is_stale_when_its_writer_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let path = here.join(FILE);
    let url = format!("stream:run42?contact={}&rendezvous=0", path.display());
    let mut out = Writer::open(&url, Solo).unwrap();
    let found: Value = serde_json::from_str(&said(here, &["ls", FILE, "--json"])).unwrap();
    assert_eq!(found["stream"], "run42", "{found}");
    assert_eq!(found["state"], "alive");
    assert_eq!(found["ranks"], 1);
    assert_eq!(found["epoch"], 1);
    assert_eq!(found["instance"].as_str().unwrap().len(), 32);
    assert_eq!(found["last_step"], Value::Null);
    assert_eq!(found["addresses"][0]["kind"], "loopback");
    let u = out.define::<f64>("u", Shape::global([2])).unwrap();
    let step = out.begin_step(StepTime::sim(0.0)).unwrap();
    step.put(u, &[0], &[1.0, 2.0]).unwrap();
    step.end().unwrap();
    let text = said(here, &["ls", FILE]);
    assert!(text.contains("writer     alive"), "{text}");
    assert!(text.contains("last step  0"), "{text}");
    assert!(text.contains("1 rank, root process"), "{text}");
    // Kept as a writer that was killed would leave it.
    let kept = here.join("kept");
    let copied = std::fs::read(&path).unwrap();
    out.close().unwrap();
    let error = refused(here, 1, &["ls", FILE]);
    assert!(error.contains(FILE) && error.contains("closed"), "{error}");
    std::fs::write(&kept, copied).unwrap();
    let error = refused(here, 1, &["ls", "kept"]);
    assert!(error.contains("mode"), "{error}");
    std::fs::set_permissions(&kept, PermissionsExt::from_mode(0o600)).unwrap();
    let text = said(here, &["ls", "kept"]);
    assert!(text.contains("writer     silent"), "{text}");
    let error = refused(here, 1, &["show", "kept", "u"]);
    assert!(error.contains("stream:run42?contact=kept"), "{error}");
}

#[test]
fn whoever_looks_at_steps_that_are_dealt_out_takes_none_from_their_readers() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let url = format!(
        "stream:run42?contact={}&rendezvous=0&distribution=round-robin",
        here.join(FILE).display()
    );
    let mut out = Writer::open(&url, Solo).unwrap();
    let u = out.define::<f64>("u", Shape::global([2])).unwrap();
    for number in 0..3 {
        let values = [f64::from(number), 2.0];
        let step = out.begin_step(StepTime::default()).unwrap();
        step.put(u, &[0], &values).unwrap();
        step.end().unwrap();
    }
    let listing = said(here, &["ls", &url]);
    assert!(listing.contains("dealt to   round-robin"), "{listing}");
    for arguments in [
        &["show", &url, "u"][..],
        &["plot", &url, "u", "-o", "u.png"],
        &["copy", &url, "copied"],
    ] {
        let error = refused(here, 1, arguments);
        assert!(error.contains("distribution=round-robin"), "{error}");
    }
    let mut inp = Reader::open(&url, Solo, Start::Oldest).unwrap();
    for number in 0..3 {
        assert_eq!(inp.next_step().unwrap().unwrap().number(), number);
    }
}

/// The name of the test that a writer's process runs.
const WRITER: &str = "a_writer_opens_and_waits_where_it_is_told_to";

#[test]
fn a_writer_opens_and_waits_where_it_is_told_to() {
    let Some(path) = std::env::var_os("PANTA_TEST_CONTACT") else {
        return;
    };
    let url = format!("stream:run42?contact={}", path.to_string_lossy());
    let out = Writer::open(&url, Solo).unwrap();
    println!("open");
    // Until whoever started it has ended, or ends it.
    let _ = std::io::stdin().read_line(&mut String::new());
    drop(out);
}

/// Ended with the test.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_writer(contact: &Path) -> Child {
    let mut writer = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", WRITER, "--nocapture"])
        .env("PANTA_TEST_CONTACT", contact)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let writer = Child(writer);
    assert!(lines.any(|line| line.unwrap().contains("open")));
    writer
}

#[test]
fn the_file_of_a_writer_that_was_killed_is_stale_and_one_that_is_stopped_is_silent() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let path = here.join(FILE);
    let mut writer = start_writer(&path);
    assert!(said(here, &["ls", FILE]).contains("writer     alive"));
    let process = i32::try_from(writer.0.id()).unwrap();
    let process = rustix::process::Pid::from_raw(process).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    let text = said(here, &["ls", FILE]);
    assert!(text.contains("writer     silent"), "{text}");
    writer.0.kill().unwrap();
    writer.0.wait().unwrap();
    let text = said(here, &["ls", FILE]);
    assert!(text.contains("writer     stale"), "{text}");
    std::fs::write(&path, b"PANTACON and no more").unwrap();
    let error = refused(here, 1, &["ls", FILE]);
    assert!(error.contains("contact file"), "{error}");
}

#[test]
fn the_url_of_a_stream_that_ends_like_a_contact_file_is_the_url_of_a_stream() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("stream:run42?deadline=200ms&contact={FILE}");
    let error = refused(directory.path(), 1, &["ls", &url]);
    assert!(error.contains("200ms"), "{error}");
}
