//! Runs the program under mpirun, as its users do.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::process::{Command, Output};

/// Runs `gray_scott` on `ranks` ranks; `None` if there is no mpirun, which is a
/// skip that says so, and a failure where `PANTA_CI` is set.
fn run(ranks: u32, arguments: &[&str]) -> Option<Output> {
    let directory = tempfile::tempdir().unwrap();
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
        .current_dir(directory.path());
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
