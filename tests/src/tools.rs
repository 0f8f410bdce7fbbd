//! Programs in other languages: compiled against the library that cargo built, by the
//! compilers of this machine, or run by its Python.
//!
//! What is missing is said by name and skipped; where `PANTA_CI` is set it is a failure.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

/// An MPI: the ends of its tools' names, and what its launcher needs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mpi {
    name: &'static str,
    arguments: &'static [&'static str],
}

/// Open MPI.
pub const OPEN_MPI: Mpi = Mpi {
    name: "openmpi",
    arguments: &[
        "--oversubscribe",
        "--allow-run-as-root",
        "--mca",
        "btl",
        "self,vader",
    ],
};

/// MPICH.
pub const MPICH: Mpi = Mpi {
    name: "mpich",
    arguments: &[],
};

/// Notes a skip for want of `what`.
///
/// # Panics
/// Where `PANTA_CI` is set.
#[allow(clippy::print_stderr, reason = "a skip is said by name")]
fn skip(what: &str) {
    assert!(std::env::var_os("PANTA_CI").is_none(), "{what}");
    eprintln!("skipped: {what}");
}

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Where cargo leaves what it builds in the profile of this test.
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // The test is in `deps`.
    test.ancestors().nth(2).unwrap().to_owned()
}

/// Makes `link` point to `to`, also where it points elsewhere, as in a directory that was
/// copied; others may be doing the same.
fn link(to: &Path, link: &Path) {
    if fs::read_link(link).is_ok_and(|there| there == to) {
        return;
    }
    // Another one takes its place at once, so that nobody finds none.
    let directory = tempfile::tempdir_in(link.parent().unwrap()).unwrap();
    let other = directory.path().join("link");
    symlink(to, &other).unwrap();
    fs::rename(&other, link).unwrap();
}

/// A directory for programs that stays, with the library under its public names.
fn shop() -> PathBuf {
    let shop = built().join("programs");
    fs::create_dir_all(&shop).unwrap();
    let library = built().join("deps/libpanta_c.so");
    assert!(library.exists(), "{} was not built", library.display());
    link(&library, &shop.join("libpanta.so.0"));
    link(Path::new("libpanta.so.0"), &shop.join("libpanta.so"));
    shop
}

fn checked(output: &Output, what: &str) {
    assert!(
        output.status.success(),
        "{what}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs a compiler in `directory`; `None`, noted as a skip, where it is not installed.
fn compile(directory: &Path, compiler: &str, arguments: &[&str]) -> Option<()> {
    let mut command = Command::new(compiler);
    let command = command.args(arguments).current_dir(directory);
    match command.stdin(Stdio::null()).output() {
        Ok(output) => {
            checked(&output, compiler);
            Some(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip(&format!("{compiler} is not installed"));
            None
        }
        Err(error) => panic!("{compiler}: {error}"),
    }
}

/// Compiles a program once in a test run; the directory it is made in gives no other
/// run half a program.
fn once(name: &str, make: impl FnOnce(&Path) -> Option<()>) -> Option<PathBuf> {
    static MADE: Mutex<Vec<(String, Option<PathBuf>)>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, program)) = made.iter().find(|(known, _)| known == name) {
        return program.clone();
    }
    let shop = shop();
    let directory = tempfile::tempdir_in(&shop).unwrap();
    let program = make(directory.path()).map(|()| {
        let program = shop.join(name);
        fs::rename(directory.path().join(name), &program).unwrap();
        program
    });
    made.push((name.to_owned(), program.clone()));
    program
}

/// The words of a C compiler for `source`, below the root, and the library.
fn c_words(source: &str, name: &str) -> Vec<String> {
    let (root, shop) = (root().display(), shop());
    let shop = shop.display();
    // The data are sums and products that no fused operation may round otherwise.
    format!(
        "-std=c99 -Wall -Wextra -pedantic -Werror -g -ffp-contract=off -I {root}/include \
         {root}/{source} -o {name} -L {shop} -lpanta -lm -lpthread -Wl,-rpath,{shop}"
    )
    .split_ascii_whitespace()
    .map(str::to_owned)
    .collect()
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// A program in C, by where its source lies below the root.
#[must_use]
pub fn c_program(source: &str) -> Option<PathBuf> {
    let stem = Path::new(source).file_stem().unwrap().to_string_lossy();
    let program = format!("{stem}-c");
    once(&program, |directory| {
        compile(directory, "cc", &strs(&c_words(source, &program)))
    })
}

/// A program of `tests/programs` in Fortran, with the module that its user compiles.
#[must_use]
pub fn fortran_program(name: &str) -> Option<PathBuf> {
    let program = format!("{name}-fortran");
    once(&program, |directory| {
        let (root, shop) = (root().display(), shop());
        let shop = shop.display();
        let c = format!("-c {root}/include/panta_fortran.c -I {root}/include");
        compile(directory, "cc", &c.split(' ').collect::<Vec<_>>())?;
        let fortran = format!(
            "-std=f2018 -Wall -g -fwrapv -fno-range-check -ffp-contract=off \
             {root}/include/panta.f90 {root}/tests/programs/{name}.f90 panta_fortran.o \
             -o {program} -L {shop} -lpanta -Wl,-rpath,{shop}"
        );
        let words: Vec<_> = fortran.split_ascii_whitespace().collect();
        compile(directory, "gfortran", &words)
    })
}

/// A Python that has numpy and finds the package `panta` of this tree, and what its
/// `PYTHONPATH` is.
#[must_use]
pub fn python() -> Option<String> {
    let extension = built().join("lib_panta.so");
    if !extension.exists() {
        skip("the package for Python is not built: cargo build -p panta-python");
        return None;
    }
    let numpy = Command::new("python3")
        .args(["-c", "import numpy"])
        .output();
    if !numpy.is_ok_and(|output| output.status.success()) {
        skip("python3 with numpy is not installed");
        return None;
    }
    let path = shop().join("python");
    let package = path.join("panta");
    fs::create_dir_all(&package).unwrap();
    link(&extension, &package.join("_panta.abi3.so"));
    for entry in fs::read_dir(root().join("python/panta")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|it| it == "py") {
            link(&entry.path(), &package.join(entry.file_name()));
        }
    }
    Some(path.display().to_string())
}

/// A program of `tests/programs` in Python.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    root().join(format!("tests/programs/{name}.py"))
}

impl Mpi {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A program of `tests/programs` in C, compiled with this MPI's wrapper.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let program = format!("{name}-{}", self.name);
        once(&program, |directory| {
            let words = c_words(&format!("tests/programs/{name}.c"), &program);
            compile(directory, &format!("mpicc.{}", self.name), &strs(&words))?;
            compile(directory, &self.launcher(), &["--version"])
        })
    }

    fn launcher(&self) -> String {
        format!("mpirun.{}", self.name)
    }

    /// The words of a launch of several sides as one: ranks, program and arguments
    /// of each.
    #[must_use]
    pub fn launch(&self, sides: &[(usize, &Path, &[&str])]) -> Vec<String> {
        let arguments = self.arguments.iter().copied();
        let mut words: Vec<String> = arguments.map(str::to_owned).collect();
        words.insert(0, self.launcher());
        for (number, (ranks, program, arguments)) in sides.iter().enumerate() {
            if number > 0 {
                words.push(":".to_owned());
            }
            words.extend(["-n".to_owned(), ranks.to_string()]);
            words.push(program.display().to_string());
            words.extend(arguments.iter().copied().map(str::to_owned));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_was_copied_from_elsewhere_is_made_to_point_here() {
        let directory = tempfile::tempdir().unwrap();
        let (place, to) = (directory.path().join("link"), directory.path().join("here"));
        for there in ["/elsewhere", "/elsewhere/still"] {
            link(Path::new(there), &place);
            assert_eq!(fs::read_link(&place).unwrap(), Path::new(there));
        }
        link(&to, &place);
        link(&to, &place);
        assert_eq!(fs::read_link(&place).unwrap(), to);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
