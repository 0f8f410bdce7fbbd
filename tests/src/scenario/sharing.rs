//! Who gets which step: distribution over reader groups, the precious first
//! step, readers that only want the newest.

use std::thread;
use std::time::Duration;

use panta::{Reader, Start};

use super::groups::{get_slab, put_slab};
use crate::part::Part;
use crate::stage::{Engine, Side, Stage};

const STEPS: u64 = 10;
const GROUPS: usize = 3;

/// Three reader groups of unequal speed: all get all, or each its turn, or each
/// step goes to one of them.
pub fn distribution(stage: &mut Stage) {
    for manner in ["all", "round-robin", "on-demand"] {
        let query = format!("{}&distribution={manner}", stage.keep_all());
        let url = match stage.engine {
            Engine::Stream(_) => stage.url_with(manner, &format!("{query}&rendezvous=3")),
            _ => stage.url_with(manner, &query),
        };
        let writer = stage.start("death::told_writer", 1, &url, &[]);
        let groups: Vec<Side> = (0..GROUPS as u64)
            .map(|group| stage.start("sharing::sharing_reader", 1, &url, &[("pause", 5 * group)]))
            .collect();
        for group in &groups {
            stage.heard(*group, 0, "opened");
        }
        stage.tell(writer, 0, &format!("write {}", STEPS - 1));
        stage.tell(writer, 0, "close");
        let seen: Vec<Vec<u64>> = groups
            .iter()
            .map(|group| numbers(&stage.heard(*group, 0, "saw")))
            .collect();
        stage.all_ended();
        let mut all: Vec<u64> = seen.iter().flatten().copied().collect();
        all.sort_unstable();
        let mut lengths: Vec<usize> = seen.iter().map(Vec::len).collect();
        lengths.sort_unstable();
        let each_once: Vec<u64> = (0..STEPS).collect();
        match manner {
            "all" => assert!(seen.iter().all(|seen| *seen == each_once), "{seen:?}"),
            "round-robin" => {
                assert_eq!(all, each_once);
                assert_eq!(lengths, [3, 3, 4], "{seen:?}");
            }
            _ => assert_eq!(all, each_once, "{seen:?}"),
        }
    }
}

fn numbers(words: &str) -> Vec<u64> {
    words
        .split_ascii_whitespace()
        .map(|word| word.parse().unwrap())
        .collect()
}

/// Says which steps it saw, in order, until the end; takes a while with each.
pub fn sharing_reader(part: &Part) {
    let mut inp = part.reader();
    part.say("opened");
    let mut seen = Vec::new();
    while let Some(number) = get_slab(&mut inp, "u", part) {
        seen.push(number.to_string());
        thread::sleep(Duration::from_millis(part.number("pause")));
    }
    part.say(format_args!("saw {}", seen.join(" ")));
}

/// Whoever joins sees step 0 first, however many have come since.
pub fn precious(stage: &mut Stage) {
    let is_file = stage.engine == Engine::File;
    for policy in ["block", "drop-oldest"] {
        let bounds = format!("precious_first=true&retain_steps=2&policy={policy}");
        let query = match stage.engine {
            Engine::File => "precious_first=true".into(),
            Engine::Staging(_) => bounds,
            Engine::Stream(_) => format!("{bounds}&{}", stage.alone()),
        };
        let url = stage.url_with(policy, &query);
        let writer = stage.start("death::told_writer", 1, &url, &[]);
        stage.tell(writer, 0, "write 7");
        stage.heard(writer, 0, "wrote 7");
        // A file has every step, the others the two last.
        for (start, second) in [("oldest", if is_file { 1 } else { 6 }), ("latest", 7)] {
            let arguments = [(start, 1), ("second", second)];
            let reader = stage.start("sharing::precious_reader", 2, &url, &arguments);
            stage.ended(reader);
        }
        stage.tell(writer, 0, "close");
        stage.all_ended();
    }
}

/// Sees step 0, then the one it would have begun with.
pub fn precious_reader(part: &Part) {
    let start = match part.has("latest") {
        true => Start::Latest,
        false => Start::Oldest,
    };
    let mut inp = part.reader_from(start);
    assert_eq!(get_slab(&mut inp, "u", part), Some(0));
    assert_eq!(get_slab(&mut inp, "u", part), Some(part.number("second")));
}

/// A reader that only wants the newest step skips those it was too slow for, and
/// never goes back.
pub fn newest_only(stage: &mut Stage) {
    let url = stage.url_with("newest", "latest_only=true");
    let plain = url.replace("latest_only=true&", "");
    let writer = stage.start("sharing::paced_writer", 1, &plain, &[]);
    stage.start("sharing::newest_reader", 1, &url, &[]);
    stage.heard(writer, 0, "closed");
    stage.all_ended();
}

/// Writes a step every few milliseconds.
pub fn paced_writer(part: &Part) {
    let mut out = part.writer();
    for _ in 0..60 {
        put_slab(&mut out, "u", part);
        thread::sleep(Duration::from_millis(2));
    }
    out.close().unwrap();
    part.say("closed");
}

/// Is slower than its writer.
pub fn newest_reader(part: &Part) {
    let mut inp = Reader::open(&part.url, part.comm(), Start::Oldest).unwrap();
    let mut seen = Vec::new();
    while let Some(number) = get_slab(&mut inp, "u", part) {
        seen.push(number);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(seen.is_sorted() && seen.len() < 60, "{seen:?}");
    assert!(seen.windows(2).any(|two| two[1] > two[0] + 1), "{seen:?}");
    assert_eq!(seen.last(), Some(&59), "the newest was not shown");
}
