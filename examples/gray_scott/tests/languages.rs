//! The same model in Rust, C, C++ and Fortran: each one's stream is read by all four,
//! which see the same bits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ndarray::Array3;
use panta::{Reader, Solo, Start};

const STRICT: [&str; 6] = [
    "-O2",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-pedantic",
    "-Werror",
];

/// Skips, by name, without the tool; a failure where `PANTA_CI` is set.
fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    assert!(
        found || std::env::var_os("PANTA_CI").is_none(),
        "{tool} is not installed"
    );
    if !found {
        eprintln!("skipped: {tool} is not installed");
    }
    found
}

/// Runs a command to its good end; returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Where libpanta, programs and streams lie.
struct Place {
    directory: tempfile::TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        run(Command::new(root.join("scripts/libpanta"))
            .arg(directory.path().join("prefix"))
            .args(["--profile", "dev"]));
        Self { directory, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Compiles `sources`, the last of which is the program, into `name`.
    fn compile(&self, name: &str, compiler: &str, flags: &[&str], sources: &[PathBuf]) -> PathBuf {
        let modules = self.path(&format!("{name}.modules"));
        std::fs::create_dir_all(&modules).unwrap();
        let built = self.path(name);
        let prefix = self.path("prefix");
        let mut command = Command::new(compiler);
        command
            .args(STRICT)
            .args(flags)
            .arg("-I")
            .arg(prefix.join("include"))
            .args(sources)
            .arg("-L")
            .arg(prefix.join("lib"))
            .arg("-lpanta")
            .arg(format!("-Wl,-rpath,{}", prefix.join("lib").display()))
            .arg("-o")
            .arg(&built)
            .current_dir(modules);
        run(&mut command);
        built
    }

    /// The module for Fortran, ready to be linked with a program.
    fn fortran(&self, with_mpi: bool) -> Vec<PathBuf> {
        let from = self.path("prefix/share/panta/fortran");
        let mut sources = vec![from.join("panta.f90")];
        let mut parts = vec!["panta_fortran"];
        if with_mpi {
            sources.push(from.join("panta_mpi.F90"));
            parts.push("panta_fortran_mpi");
        }
        for part in parts {
            let object = self.path(&format!("{part}.o"));
            run(Command::new("mpicc")
                .arg("-I")
                .arg(self.path("prefix/include"))
                .arg("-c")
                .arg(from.join(format!("{part}.c")))
                .arg("-o")
                .arg(&object));
            sources.push(object);
        }
        sources
    }

    fn writers(&self) -> Vec<(&'static str, PathBuf)> {
        let example = |name: &str| self.root.join("examples").join(name);
        let c = [example("gray_scott_c/gray_scott.c")];
        let cpp = [example("gray_scott_cxx/gray_scott.cpp")];
        let mut fortran = self.fortran(true);
        fortran.push(example("gray_scott_fortran/gray_scott.f90"));
        // The bindings to C++ that Open MPI once had do not compile without warnings.
        let flags = ["-std=c++17", "-DOMPI_SKIP_MPICXX"];
        vec![
            ("rust", PathBuf::from(env!("CARGO_BIN_EXE_gray_scott"))),
            ("c", self.compile("c", "mpicc", &["-std=c99"], &c)),
            ("cxx", self.compile("cxx", "mpicxx", &flags, &cpp)),
            (
                "fortran",
                self.compile("fortran", "mpifort", &["-fwrapv"], &fortran),
            ),
        ]
    }

    fn readers(&self) -> Vec<PathBuf> {
        let source = |name: &str| {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/readers")
                .join(name)
        };
        let mut fortran = self.fortran(false);
        fortran.push(source("fields.f90"));
        vec![
            self.compile("read_c", "cc", &["-std=c99"], &[source("fields.c")]),
            self.compile("read_cxx", "c++", &["-std=c++17"], &[source("fields.cpp")]),
            self.compile("read_fortran", "gfortran", &["-fwrapv"], &fortran),
        ]
    }

    /// Runs a writer on two ranks; returns its stream's URL.
    fn write(&self, language: &str, program: &Path) -> String {
        let url = format!("file:{}", self.path(&format!("{language}.panta")).display());
        let mut mpirun = Command::new("mpirun");
        mpirun
            .args(["--oversubscribe", "--allow-run-as-root", "-n", "2"])
            .arg(program)
            .env("PANTA_URL_GRAY_SCOTT", &url)
            .current_dir(self.directory.path());
        match language {
            "rust" => mpirun.args(["--size", "15", "--steps", "25", "--output-every", "10"]),
            _ => mpirun.args(["15", "25", "10"]),
        };
        run(&mut mpirun);
        url
    }
}

/// What the readers in other languages print.
fn fields(url: &str) -> String {
    let hash = |field: &Array3<f64>| {
        field.iter().fold(1_u64, |sum, value| {
            (sum ^ value.to_bits()).wrapping_mul(1_099_511_628_211)
        })
    };
    let mut stream = Reader::open(url, Solo, Start::Oldest).unwrap();
    let mut text = String::new();
    while let Some(step) = stream.next_step().unwrap() {
        let (u, v) = (step.get("u", ..).unwrap(), step.get("v", ..).unwrap());
        let (number, time) = (step.number(), step.time().unwrap());
        let (u, v) = (hash(&u), hash(&v));
        writeln!(text, "{number} {time:.1} {u:016X} {v:016X}").unwrap();
    }
    text
}

#[test]
fn four_languages_write_the_same_bits_and_read_each_others() {
    if !["mpicc", "mpicxx", "mpifort", "mpirun", "gfortran"]
        .map(has)
        .iter()
        .all(|has| *has)
    {
        return;
    }
    let place = Place::new();
    let readers = place.readers();
    let mut expected = None;
    for (language, program) in place.writers() {
        let url = place.write(language, &program);
        let seen = fields(&url);
        assert_eq!(seen.lines().count(), 4, "{language}: {seen}");
        assert_eq!(
            expected.get_or_insert_with(|| seen.clone()),
            &seen,
            "{language}"
        );
        for reader in &readers {
            let found = run(Command::new(reader).arg(&url));
            assert_eq!(found, seen, "{} reads {language}", reader.display());
        }
    }
}

/// The lines of a part of a program that say something: from the line that starts with
/// `begins` on, to the one that is `ends`, without comments, braces and what stands alone.
fn lines_of(text: &str, begins: &str, ends: &str) -> usize {
    let from = text.lines().skip_while(|line| !line.starts_with(begins));
    let part: Vec<&str> = from.skip(1).take_while(|line| *line != ends).collect();
    assert!(!part.is_empty(), "{begins}");
    let says_something = |line: &&&str| {
        let line = line.trim_start();
        let is_comment = line.starts_with("//") || line.starts_with('!');
        !is_comment && line.chars().any(char::is_alphanumeric)
    };
    part.iter().filter(says_something).count()
}

#[test]
fn what_is_said_to_panta_is_25_lines_at_most_in_each_language() {
    let read = |path: &str| {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        std::fs::read_to_string(examples.join(path)).unwrap()
    };
    let (c, cpp) = (
        read("gray_scott_c/gray_scott.c"),
        read("gray_scott_cxx/gray_scott.cpp"),
    );
    let (fortran, rust) = (
        read("gray_scott_fortran/gray_scott.f90"),
        read("gray_scott/src/output.rs"),
    );
    let lines = [
        (
            "C",
            lines_of(&c, "static stream open_stream", "}")
                + lines_of(&c, "static void write_step", "}"),
        ),
        ("C++", lines_of(&cpp, "class Output", "};")),
        (
            "Fortran",
            lines_of(&fortran, "   subroutine open_stream", "   end subroutine")
                + lines_of(&fortran, "   subroutine write_step", "   end subroutine"),
        ),
        (
            "Rust",
            lines_of(&rust, "    ) -> Result<Self, Failure> {", "    }")
                + lines_of(
                    &rust,
                    "    pub(crate) fn write(&mut self, model: &Model)",
                    "    }",
                )
                + lines_of(&rust, ") -> Result<(), Failure> {", "}"),
        ),
    ];
    println!("{lines:?}");
    for (language, lines) in lines {
        assert!((5..=25).contains(&lines), "{language}: {lines} lines");
    }
}
