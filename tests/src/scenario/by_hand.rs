//! Progress by hand: no thread, and only calls show that a program is alive.

use std::time::Duration;

use panta::Progress;
use panta_transports::time::Time;

use super::groups::{check_slab, put_slab, try_put_slab};
use crate::part::Part;
use crate::stage::{Engine, Stage};

/// The lease of all sides, and how long they compute: who is held to the lease is dead.
const LEASE: &str = "lease=1s";
const COMPUTES: Duration = Duration::from_millis(2500);

/// How long programs declare that they stay away, where they keep to it.
const SILENCE: Duration = Duration::from_secs(60);
/// Where they do not, and how long they then stay away.
const TOO_SHORT: &str = "silence=3s";
const TOO_LONG: Duration = Duration::from_millis(4500);

/// Both sides declare their silence, and compute for longer than their leases.
pub(super) fn long_silence(stage: &mut Stage) {
    let url = stage.url_with("by_hand", &format!("retain_steps=100&{LEASE}"));
    if stage.engine == Engine::Stream("rdma") {
        stage.start("by_hand::refused", 1, &url, &[]);
        return stage.all_ended();
    }
    stage.start("by_hand::reader", 2, &url, &[]);
    stage.start("by_hand::writer", 2, &url, &[]);
    stage.all_ended();
    // And one that breaks its word: all hear of it, itself first.
    let url = stage.url_with("too_long", &format!("retain_steps=100&{LEASE}"));
    let reader = stage.start("death::told_reader", 2, &url, &[]);
    let late = format!("{url}&progress=manual&{TOO_SHORT}");
    let writer = stage.start("by_hand::late_writer", 2, &late, &[]);
    stage.tell_all(reader, "next");
    stage.all_heard(reader, "saw 0");
    stage.tell_all(writer, "compute");
    stage.all_heard(writer, "told");
    stage.tell_all(reader, "next");
    stage.all_heard(reader, "lost Some(0)");
    stage.tell_all(reader, "quit");
    stage.all_ended();
}

/// Computes, as hard as it can: no call is made meanwhile.
fn compute(length: Duration) {
    let end = Time::now().after(length);
    while Time::now() < end {
        std::hint::spin_loop();
    }
}

/// Threads of this process.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn by_hand() -> Progress {
    Progress::Manual { silence: SILENCE }
}

/// Computes between two steps.
pub fn writer(part: &Part) {
    let before = threads();
    let options = panta::Writer::options().progress(by_hand());
    let mut out = options.open(&part.url, part.comm()).unwrap();
    for _ in 0..3 {
        put_slab(&mut out, "u", part);
        assert_eq!(threads(), before, "a thread was started");
        compute(COMPUTES);
        out.progress().unwrap();
    }
    out.close().unwrap();
    assert_eq!(threads(), before, "a thread was started");
}

/// Computes between two steps, and with one at hand.
pub fn reader(part: &Part) {
    let before = threads();
    let options = panta::Reader::options().progress(by_hand());
    let mut inp = options.open(&part.url, part.comm()).unwrap();
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        check_slab(&step, "u", part);
        if seen == 0 {
            compute(COMPUTES);
        }
        seen += 1;
        drop(step);
        inp.progress().unwrap();
        assert_eq!(threads(), before, "a thread was started");
    }
    assert_eq!(seen, 3);
}

/// Stays away for longer than it has declared.
pub fn late_writer(part: &Part) {
    let mut out = part.writer();
    put_slab(&mut out, "u", part);
    // Until it is told to stay away it is there for its readers.
    while part.heard().is_none() {
        out.progress().unwrap();
        std::thread::yield_now();
    }
    compute(TOO_LONG);
    let told = out.progress().map_err(|error| error.to_string());
    // The root is whom readers hold a lease on.
    if part.rank == 0 {
        let told = told.unwrap_err();
        assert!(told.contains("stayed away"), "{told}");
    }
    let error = try_put_slab(&mut out, "u", part).unwrap_err().to_string();
    assert!(
        error.contains("stayed away") && error.contains("silence=3s"),
        "{error}"
    );
    let error = out.close().unwrap_err().to_string();
    assert!(error.contains("stayed away"), "{error}");
    part.say("told");
}

/// A fabric needs a thread that looks after it, and who asks for both is told.
pub fn refused(part: &Part) {
    let opened = panta::Writer::options()
        .progress(by_hand())
        .open(&part.url, part.comm());
    let error = opened.map(drop).unwrap_err().to_string();
    assert!(error.contains("progress is made by hand"), "{error}");
}
