//! Every workload runs and says what it must; how fast is not asserted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod common;

use common::{refused, said};
use panta_transports::rdma::Fabric;
use serde_json::Value;

/// The rows of a workload, each with the keys asked for.
fn rows(arguments: &[&str], keys: &[&str]) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [&["bench"], arguments, &["--json", "--rounds", "1"]].concat();
    let text = said(directory.path(), &arguments);
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!rows.is_empty());
    for row in &rows {
        for key in keys {
            let value = &row[*key];
            let positive = value.as_f64().is_some_and(|value| value > 0.0);
            let named = value.as_str().is_some_and(|value| !value.is_empty());
            assert!(positive || named, "{key} in {row}");
        }
    }
    rows
}

#[test]
fn pair_moves_steps_between_processes_beside_a_bare_loop() {
    let keys = [
        "workload",
        "engine",
        "transport",
        "mode",
        "verify",
        "bytes",
        "steps",
        "gb_per_s",
        "steps_per_s",
        "p50_us",
        "p99_us",
        "p999_us",
        "pss_bytes",
        "memcpy_gb_per_s",
        "memcpy_ratio",
        "bare_gb_per_s",
        "bare_ratio",
    ];
    let rows = rows(&["pair", "--bytes", "16KiB", "--steps", "5"], &keys);
    let named =
        |key: &str| -> Vec<&str> { rows.iter().filter_map(|row| row[key].as_str()).collect() };
    assert!(named("engine").contains(&"file") && named("engine").contains(&"staging"));
    assert!(named("mode").contains(&"put+get") && named("mode").contains(&"span+get"));
    for row in &rows {
        assert_eq!(
            (row["bytes"].as_u64(), row["steps"].as_u64()),
            (Some(16 << 10), Some(5))
        );
        assert!(row["copies"].is_number(), "{row}");
    }
}

#[test]
fn pair_over_a_fabric_moves_steps_beside_bare_reads() {
    if let Err(error) = Fabric::load() {
        assert!(std::env::var_os("PANTA_CI").is_none(), "{error}");
        eprintln!("skipped: pair_over_a_fabric: {error}");
        return;
    }
    let pair = ["pair", "--engine", "stream", "--transport", "rdma"];
    let few = ["--bytes", "64KiB", "--steps", "20", "--mode", "put+get"];
    let keys = ["gb_per_s", "bare_ratio", "fabric", "bare_p50_us"];
    let rows = rows(&[pair.as_slice(), &few].concat(), &keys);
    assert_eq!(rows.len(), 1, "{rows:?}");
}

#[test]
fn staging_moves_whole_arrays_and_boxes() {
    let timed = [
        "workload",
        "engine",
        "transport",
        "mode",
        "verify",
        "bytes",
        "steps",
        "p50_us",
    ];
    for servers in ["1", "2"] {
        let arguments = [
            "staging",
            "--bytes",
            "256KiB",
            "--steps",
            "20",
            "--servers",
            servers,
        ];
        let rows = rows(&arguments, &timed);
        let modes: Vec<&str> = rows.iter().filter_map(|row| row["mode"].as_str()).collect();
        assert_eq!(modes, ["put", "whole", "cold", "warm"]);
        for row in &rows[..2] {
            for key in ["gb_per_s", "memcpy_ratio", "bare_ratio", "pss_bytes"] {
                assert!(
                    row[key].as_f64().is_some_and(|value| value > 0.0),
                    "{key} in {row}"
                );
            }
        }
        assert!(
            rows[3]["round_trips"]
                .as_f64()
                .is_some_and(|trips| trips >= 1.0)
        );
    }
}

#[test]
fn routing_times_every_kind_of_box() {
    let rows = rows(
        &["routing", "--steps", "50"],
        &["workload", "what", "steps", "p50_us", "p99_us", "p999_us"],
    );
    assert_eq!(rows.len(), 3);
}

#[test]
fn copy_times_every_length_of_runs_in_both_directions() {
    let keys = [
        "workload",
        "mode",
        "verify",
        "run_bytes",
        "bytes",
        "gb_per_s",
        "memcpy_gb_per_s",
        "memcpy_ratio",
        "bare_gb_per_s",
        "bare_ratio",
    ];
    let rows = rows(&["copy", "--bytes", "256KiB"], &keys);
    assert_eq!(rows.len(), 5 * 4);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let bad = |code, arguments: &[&str], part: &str| {
        let error = refused(directory.path(), code, &[&["bench"], arguments].concat());
        assert!(error.contains(part), "{arguments:?}: {error}");
    };
    bad(1, &["pair", "--engine", "null"], "`null`");
    bad(1, &["pair", "--mode", "get+put"], "put+get");
    bad(1, &["pair", "--verify", "often"], "never");
    bad(1, &["pair", "--bytes", "7"], "multiple of 8");
    bad(1, &["copy", "--bytes", "1000"], "multiple of 65536");
    bad(1, &["routing", "--rounds", "0"], "at least 1");
    bad(1, &["staging", "--bytes", "100000"], "power of two");
    bad(1, &["staging", "--servers", "0"], "at least 1");
    bad(2, &["pair", "--bytes", "many"], "--bytes");
    bad(2, &["speed"], "possible values");
}

#[test]
fn a_table_is_for_people() {
    let directory = tempfile::tempdir().unwrap();
    let table = said(directory.path(), &["bench", "routing", "--steps", "20"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("workload  what "), "{table}");
}
