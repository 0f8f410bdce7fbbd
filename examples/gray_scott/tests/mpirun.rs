//! Runs the program under mpirun, as its users do.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;
use std::process::{Command, Output};

use ndarray::Array3;
use panta::{Reader, Solo, Start};

/// Runs `gray_scott` on `ranks` ranks in a directory of its own.
fn run(ranks: u32, arguments: &[&str]) -> Option<Output> {
    run_in(tempfile::tempdir().unwrap().path(), ranks, arguments)
}

/// Runs `gray_scott` on `ranks` ranks; `None` if there is no mpirun, which is a
/// skip that says so, and a failure where `PANTA_CI` is set.
fn run_in(directory: &Path, ranks: u32, arguments: &[&str]) -> Option<Output> {
    let mut mpirun = Command::new("mpirun");
    mpirun
        .args([
            "--oversubscribe",
            "--allow-run-as-root",
            "-n",
            &ranks.to_string(),
        ])
        .arg(env!("CARGO_BIN_EXE_gray_scott"))
        .args(arguments)
        .current_dir(directory);
    match mpirun.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(
                std::env::var_os("PANTA_CI").is_none(),
                "mpirun is not installed"
            );
            eprintln!("skipped: mpirun is not installed");
            None
        }
        Err(error) => panic!("mpirun: {error}"),
    }
}

/// The checksum a successful run ends with.
fn checksum(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    let found = text.lines().find_map(|line| line.split_once("checksum "));
    found
        .unwrap_or_else(|| panic!("no checksum in: {text}{errors}"))
        .1
        .to_owned()
}

#[test]
fn any_number_of_ranks_gives_the_same_bits() {
    let arguments = ["--size", "17", "--steps", "30"];
    let Some(alone) = run(1, &arguments) else {
        return;
    };
    let expected = checksum(&alone);
    for ranks in [2, 4, 6] {
        let Some(output) = run(ranks, &arguments) else {
            return;
        };
        assert_eq!(checksum(&output), expected, "{ranks} ranks");
    }
}

#[test]
fn a_grid_too_small_for_its_ranks_is_an_error_that_says_so_once() {
    let Some(output) = run(3, &["--size", "2", "--steps", "1"]) else {
        return;
    };
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.matches("cannot be cut").count(), 1, "{errors}");
}

/// Number, time and v of every step that a run left in `directory`.
fn steps_in(directory: &Path) -> Vec<(u64, Option<f64>, Array3<f64>)> {
    let url = format!("file:{}", directory.join("gray_scott.panta").display());
    let mut stream = Reader::open(&url, Solo, Start::Oldest).unwrap();
    let mut steps = Vec::new();
    while let Some(step) = stream.next_step().unwrap() {
        steps.push((step.number(), step.time(), step.get("v", ..).unwrap()));
    }
    steps
}

#[test]
fn a_restart_on_other_ranks_gives_what_an_unbroken_run_gives() {
    let (unbroken, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let common = ["--size", "14", "--output-every", "10", "--steps"];
    let with = |more: &[&'static str]| [&common[..], more].concat();
    let Some(output) = run_in(unbroken.path(), 2, &with(&["60"])) else {
        return;
    };
    let expected = checksum(&output);

    // Ends at 45, so that two outputs after the checkpoint at 30 are withdrawn.
    let first = with(&["45", "--checkpoint-every", "30"]);
    checksum(&run_in(broken.path(), 4, &first).unwrap());
    let second = with(&["60", "--restart"]);
    assert_eq!(
        checksum(&run_in(broken.path(), 3, &second).unwrap()),
        expected
    );

    let (unbroken, broken) = (steps_in(unbroken.path()), steps_in(broken.path()));
    assert_eq!(
        unbroken.iter().map(|step| step.0).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5, 6]
    );
    assert_eq!(unbroken, broken);
}

#[test]
fn a_restart_with_another_grid_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let run = |ranks, arguments: &[&str]| run_in(directory.path(), ranks, arguments);
    let first = ["--size", "8", "--steps", "4", "--checkpoint-every", "2"];
    let Some(output) = run(2, &first) else { return };
    checksum(&output);
    let output = run(2, &["--size", "9", "--steps", "6", "--restart"]).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        errors.contains("the checkpoint is of a grid [8, 8, 8]"),
        "{errors}"
    );
}
