//! Compiles and runs programs against the library that cargo built, as its
//! users do.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "each test uses some of it"
)]

pub(crate) mod fortran;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Warnings that a program built against the headers must not have.
const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-pedantic", "-Werror"];

/// Says that a test is skipped for want of `tool`; a failure where `PANTA_CI` is set.
pub(crate) fn skip(tool: &str) {
    assert!(
        std::env::var_os("PANTA_CI").is_none(),
        "{tool} is not installed"
    );
    eprintln!("skipped: {tool} is not installed");
}

/// Runs `command` to its end; `None`, noted as a skip, if the tool is not installed.
pub(crate) fn run(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip(&command.get_program().to_string_lossy());
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

pub(crate) fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    if !found {
        skip(tool);
    }
    found
}

pub(crate) fn check(output: &Output, what: &str) {
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shared library that cargo built for this test, beside the test itself.
pub(crate) fn built_library() -> PathBuf {
    let library = std::env::current_exe()
        .unwrap()
        .with_file_name("libpanta_c.so");
    assert!(library.exists(), "{} was not built", library.display());
    library
}

/// A directory with the library under its public names, for programs and streams.
pub(crate) struct Workshop(tempfile::TempDir);

impl Workshop {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::copy(built_library(), directory.path().join("libpanta.so.0")).unwrap();
        std::os::unix::fs::symlink("libpanta.so.0", directory.path().join("libpanta.so")).unwrap();
        Self(directory)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The URL of a file stream in here.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("file:{}", self.path(name).display())
    }

    /// Compiles `source`; `None`, noted as a skip, without the compiler.
    pub(crate) fn compile(&self, compiler: &str, flags: &[&str], source: &Path) -> Option<PathBuf> {
        let name = source.file_stem().unwrap().to_string_lossy().into_owned();
        let tag: String = format!("{compiler}{}", flags.concat());
        let tag: String = tag.chars().filter(char::is_ascii_alphanumeric).collect();
        let program = self.path(&format!("{name}-{tag}"));
        let mut command = Command::new(compiler);
        command
            .args(STRICT)
            .args(flags)
            .arg("-I")
            .arg(here().join("../include"))
            .arg("-I")
            .arg(here().join("tests/programs"))
            .arg(source)
            .args(["-x", "none", "-o"])
            .arg(&program)
            .arg("-L")
            .arg(self.0.path())
            .args(["-lpanta", "-lm", "-lpthread"]);
        check(
            &run(&mut command)?,
            &format!("compiling {}", source.display()),
        );
        Some(program)
    }

    /// A command that finds the library and runs in here.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("LD_LIBRARY_PATH", self.0.path())
            .current_dir(self.0.path());
        command
    }

    /// Compiles one of the test programs and runs it to its end.
    pub(crate) fn runs(&self, compiler: &str, flags: &[&str], program: &str, arguments: &[&str]) {
        let source = here().join("tests/programs").join(program);
        if let Some(built) = self.compile(compiler, flags, &source) {
            check(
                &self.command(built).args(arguments).output().unwrap(),
                program,
            );
        }
    }

    /// Runs a program under valgrind, which fails it for any access it should not make and
    /// for memory that nobody can give back any more. Its summary is one line of a test.
    pub(crate) fn is_clean_under_valgrind(&self, program: &Path, arguments: &[&str]) {
        if !has("valgrind") {
            return;
        }
        let mut command = self.command("valgrind");
        command
            .args(["--error-exitcode=9", "--leak-check=full"])
            .args([
                "--errors-for-leak-kinds=definite",
                "--show-leak-kinds=definite",
                "--child-silent-after-fork=yes",
            ])
            .arg(program)
            .args(arguments);
        let output = command.output().unwrap();
        let name = program.file_name().unwrap().to_string_lossy();
        check(&output, &name);
        let said = String::from_utf8_lossy(&output.stderr);
        let summary = said
            .lines()
            .find_map(|line| line.split_once("ERROR SUMMARY: "));
        let (_, summary) = summary.expect("valgrind says what it found");
        println!("valgrind, {name} {}: {summary}", arguments.join(" "));
    }
}
