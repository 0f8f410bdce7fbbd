//! Uses `libpanta` as C and C++ programs do: compiles against `panta.h`, links
//! the shared library under its public name, runs; and looks at what the
//! library exports and links.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `command` to its end; `None` if the tool is not installed, which is a
/// skip that says so, and a failure where `PANTA_CI` is set.
fn run(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let tool = command.get_program().to_string_lossy().into_owned();
            assert!(
                std::env::var_os("PANTA_CI").is_none(),
                "{tool} is not installed"
            );
            eprintln!("skipped: {tool} is not installed");
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

fn check(output: &Output, what: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{text}", output.status);
}

/// The shared library that cargo built for this test, beside the test itself.
fn built_library() -> PathBuf {
    let library = std::env::current_exe()
        .unwrap()
        .with_file_name("libpanta_c.so");
    assert!(library.exists(), "{} was not built", library.display());
    library
}

/// Lays the library out under the names its users see.
fn lay_out(directory: &Path) {
    std::fs::copy(built_library(), directory.join("libpanta.so.0")).unwrap();
    std::os::unix::fs::symlink("libpanta.so.0", directory.join("libpanta.so")).unwrap();
}

fn compiles_links_and_runs(compiler: &str, language: &str, standard: &str) {
    let directory = tempfile::tempdir().unwrap();
    lay_out(directory.path());
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = directory.path().join("program");
    let mut compile = Command::new(compiler);
    compile
        .args([standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-I"])
        .arg(here.join("../include"))
        .args(["-x", language])
        .arg(here.join("tests/version.c"))
        .args(["-x", "none", "-o"])
        .arg(&program)
        .arg("-L")
        .arg(directory.path())
        .arg("-lpanta");
    let Some(output) = run(&mut compile) else {
        return;
    };
    check(&output, "compiling");
    let mut started = Command::new(&program);
    started
        .arg(env!("CARGO_PKG_VERSION"))
        .env("LD_LIBRARY_PATH", directory.path());
    check(&started.output().unwrap(), "running");
}

#[test]
fn a_c99_program_compiles_links_and_runs() {
    compiles_links_and_runs("cc", "c", "-std=c99");
}

#[test]
fn a_cpp17_program_compiles_links_and_runs() {
    compiles_links_and_runs("c++", "c++", "-std=c++17");
}

#[test]
fn only_names_beginning_with_panta_are_exported() {
    let mut list = Command::new("nm");
    list.args(["--dynamic", "--defined-only", "--format=just-symbols"])
        .arg(built_library());
    let Some(output) = run(&mut list) else { return };
    check(&output, "nm");
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text.lines().collect();
    assert!(names.contains(&"panta_version"), "{names:?}");
    let foreign: Vec<_> = names
        .iter()
        .filter(|name| !name.starts_with("panta_"))
        .collect();
    assert!(foreign.is_empty(), "exported besides panta_*: {foreign:?}");
}

#[test]
fn the_library_has_its_public_name_and_links_no_mpi() {
    let mut list = Command::new("objdump");
    list.arg("--private-headers").arg(built_library());
    let Some(output) = run(&mut list) else { return };
    check(&output, "objdump");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let of = |kind: &str| -> Vec<String> {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with(kind));
        lines
            .map(|line| line[kind.len()..].trim().to_owned())
            .collect()
    };
    assert_eq!(of("SONAME"), ["libpanta.so.0"]);
    let needed = of("NEEDED");
    assert!(
        needed.iter().any(|name| name.starts_with("libc.so")),
        "{needed:?}"
    );
    for unwanted in ["mpi", "hdf5", "fabric"] {
        assert!(
            !needed.iter().any(|name| name.contains(unwanted)),
            "{needed:?}"
        );
    }
}
