//! `panta_mpi.h` with whichever MPIs there are: the same `libpanta.so` serves
//! all of them, and a writer under one is followed by a reader under another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use support::{Workshop, check, has, here, skip};

/// An MPI: its compiler, its launcher, and what that needs to start two ranks here.
struct Mpi {
    compiler: &'static str,
    cpp_compiler: &'static str,
    launcher: &'static str,
    arguments: &'static [&'static str],
}

const OPEN_MPI: Mpi = Mpi {
    compiler: "mpicc.openmpi",
    cpp_compiler: "mpicxx.openmpi",
    launcher: "mpirun.openmpi",
    arguments: &[
        "--oversubscribe",
        "--allow-run-as-root",
        "--mca",
        "btl",
        "self,vader",
    ],
};

const MPICH: Mpi = Mpi {
    compiler: "mpicc.mpich",
    cpp_compiler: "mpicxx.mpich",
    launcher: "mpirun.mpich",
    arguments: &[],
};

impl Mpi {
    /// Compiles the test program with this MPI; `None`, noted as a skip, without it.
    fn compile(&self, shop: &Workshop) -> Option<PathBuf> {
        if !(has(self.compiler) && has(self.launcher)) {
            return None;
        }
        let source = here().join("tests/programs/mpi.c");
        shop.compile(self.compiler, &["-std=c99", "-x", "c"], &source)
    }

    fn launch(&self, shop: &Workshop, program: &Path, arguments: &[&str]) -> Command {
        let mut command = shop.command(self.launcher);
        command
            .args(self.arguments)
            .args(["-n", "2"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn writes_and_reads(&self) {
        let shop = Workshop::new();
        let Some(program) = self.compile(&shop) else {
            return;
        };
        let url = shop.url("run.panta");
        let output = self.launch(&shop, &program, &[&url]).output().unwrap();
        check(&output, self.launcher);
    }
}

#[test]
fn cpp_programs_make_a_group_of_an_mpi_communicator() {
    for mpi in [OPEN_MPI, MPICH] {
        if !(has(mpi.cpp_compiler) && has(mpi.launcher)) {
            continue;
        }
        let shop = Workshop::new();
        let source = here().join("tests/programs/mpi.cpp");
        // The bindings to C++ that Open MPI once had do not compile without warnings.
        let flags = ["-std=c++17", "-DOMPI_SKIP_MPICXX", "-DMPICH_SKIP_MPICXX"];
        let Some(program) = shop.compile(mpi.cpp_compiler, &flags, &source) else {
            continue;
        };
        let url = shop.url("run.panta");
        let output = mpi.launch(&shop, &program, &[&url]).output().unwrap();
        check(&output, mpi.launcher);
    }
}

#[test]
fn ranks_of_open_mpi_write_and_read_together() {
    OPEN_MPI.writes_and_reads();
}

#[test]
fn ranks_of_mpich_write_and_read_together() {
    MPICH.writes_and_reads();
}

fn start(mut command: Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn couple(writer: &Mpi, reader: &Mpi) {
    let shop = Workshop::new();
    let (Some(writes), Some(reads)) = (writer.compile(&shop), reader.compile(&shop)) else {
        return;
    };
    let url = shop.url("live.panta");
    // The reader first: it waits for the stream, so that the two run at the same time.
    let read = start(reader.launch(&shop, &reads, &[&url, "read"]));
    let write = start(writer.launch(&shop, &writes, &[&url, "write"]));
    let (write, read) = (write.wait_with_output(), read.wait_with_output());
    let outputs = [write.unwrap(), read.unwrap()];
    check(&outputs[0], "the writer");
    check(&outputs[1], "the reader");
    let [one, other] = outputs.map(|output| digest_of_library(&output));
    assert_eq!(one, other, "the two sides ran different libraries");
}

/// The SHA-256 of the file from which a side said it had loaded the library.
fn digest_of_library(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = said.lines().find_map(|line| line.strip_prefix("library "));
    let path = path.expect("a side says which library it loaded");
    let digest = Command::new("sha256sum").arg(path).output().unwrap();
    check(&digest, "sha256sum");
    let text = String::from_utf8(digest.stdout).unwrap();
    let digest = text.split_whitespace().next().unwrap().to_owned();
    assert_eq!(digest.len(), 64, "{text}");
    digest
}

#[test]
fn a_writer_under_open_mpi_is_followed_by_a_reader_under_mpich_and_back() {
    couple(&OPEN_MPI, &MPICH);
    couple(&MPICH, &OPEN_MPI);
}

#[test]
fn the_two_mpis_make_programs_that_need_the_same_library() {
    let shop = Workshop::new();
    let needed = |mpi: &Mpi| -> Option<Vec<String>> {
        let mut list = Command::new("objdump");
        list.arg("--private-headers").arg(mpi.compile(&shop)?);
        let Ok(output) = list.output() else {
            skip("objdump");
            return None;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().filter(|line| line.contains("NEEDED"));
        Some(lines.map(str::to_owned).collect())
    };
    let (Some(one), Some(other)) = (needed(&OPEN_MPI), needed(&MPICH)) else {
        return;
    };
    for names in [&one, &other] {
        assert!(
            names.iter().any(|name| name.contains("libpanta.so.0")),
            "{names:?}"
        );
    }
    let mpi = |names: &[String]| -> Vec<String> {
        names
            .iter()
            .filter(|name| name.contains("mpi"))
            .cloned()
            .collect()
    };
    assert_ne!(mpi(&one), mpi(&other), "the two are one MPI");
}
