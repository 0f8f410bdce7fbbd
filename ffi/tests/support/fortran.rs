//! Builds programs with the Fortran module, which is compiled from source by the
//! compiler of its user, as is the C file beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Workshop, check, has, here, run};

/// A Fortran compiler.
pub(crate) struct Compiler {
    pub(crate) name: &'static str,
    strict: &'static [&'static str],
    /// What a program may do that the module may not.
    lax: &'static [&'static str],
    modules_to: &'static str,
}

pub(crate) const GFORTRAN: Compiler = Compiler {
    name: "gfortran",
    strict: &[
        "-std=f2018",
        "-Wall",
        "-Wextra",
        "-pedantic",
        "-Werror",
        "-g",
    ],
    // The tests compare numbers that are exact, and pass what they never allocated.
    lax: &[
        "-Wno-compare-reals",
        "-Wno-maybe-uninitialized",
        "-fcheck=all",
    ],
    modules_to: "-J",
};

/// The same where `integer` has 8 bytes unless it says otherwise, as old programs want it.
pub(crate) const GFORTRAN_WIDE: Compiler = Compiler {
    strict: &[
        "-std=f2018",
        "-Wall",
        "-Wextra",
        "-pedantic",
        "-Werror",
        "-Wno-conversion",
        "-fdefault-integer-8",
    ],
    ..GFORTRAN
};

/// LLVM's, from the version on that has arguments of assumed rank.
pub(crate) const FLANG: Compiler = Compiler {
    name: "flang-22",
    strict: &["-std=f2018", "-pedantic", "-Werror", "-g"],
    lax: &[],
    modules_to: "-module-dir",
};

impl Compiler {
    /// The directory of its ISO_Fortran_binding.h, where C compilers do not look.
    fn headers(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        let found = std::env::split_paths(&path)
            .map(|directory| directory.join(self.name))
            .find(|program| program.exists())?;
        let directory = found.canonicalize().ok()?;
        let headers = directory.parent()?.parent()?.join("include/flang");
        headers.is_dir().then_some(headers)
    }

    /// Compiles the module and its C file in `directory`, with the headers in `include`.
    pub(crate) fn module(&self, directory: &Path, include: &Path) -> Option<[PathBuf; 2]> {
        if !(has("cc") && has(self.name)) {
            return None;
        }
        let mut c = Command::new("cc");
        c.args(["-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-g"]);
        if let Some(headers) = self.headers() {
            c.arg("-I").arg(headers);
        }
        let objects = [
            directory.join("panta_fortran.o"),
            directory.join("panta_module.o"),
        ];
        c.arg("-I")
            .arg(include)
            .arg("-c")
            .arg(include.join("panta_fortran.c"))
            .arg("-o")
            .arg(&objects[0]);
        check(&run(&mut c)?, "compiling panta_fortran.c");
        let mut fortran = Command::new(self.name);
        fortran
            .args(self.strict)
            .arg(self.modules_to)
            .arg(directory)
            .arg("-c")
            .arg(include.join("panta.f90"))
            .arg("-o")
            .arg(&objects[1]);
        check(&run(&mut fortran)?, "compiling panta.f90");
        Some(objects)
    }

    /// Compiles `source` and the module; `None`, noted as a skip, without the compiler.
    pub(crate) fn compile(&self, shop: &Workshop, source: &Path) -> Option<PathBuf> {
        self.compile_with(shop, source, &here().join("../include"))
    }

    /// The same with files of C linked in.
    pub(crate) fn compile_beside(
        &self,
        shop: &Workshop,
        source: &Path,
        beside: &[PathBuf],
    ) -> Option<PathBuf> {
        let include = here().join("../include");
        let mut objects = Vec::new();
        for file in beside {
            let object = shop.path(&format!("{}.o", file.file_stem()?.to_string_lossy()));
            let mut c = Command::new("cc");
            c.arg("-c").arg(file).arg("-o").arg(&object);
            check(&run(&mut c)?, &format!("compiling {}", file.display()));
            objects.push(object);
        }
        self.link(shop, source, &include, &objects)
    }

    /// The same with the headers and the module in `include`.
    pub(crate) fn compile_with(
        &self,
        shop: &Workshop,
        source: &Path,
        include: &Path,
    ) -> Option<PathBuf> {
        self.link(shop, source, include, &[])
    }

    fn link(
        &self,
        shop: &Workshop,
        source: &Path,
        include: &Path,
        beside: &[PathBuf],
    ) -> Option<PathBuf> {
        let directory = shop.path(&format!("module-{}", self.name));
        std::fs::create_dir_all(&directory).unwrap();
        let objects = self.module(&directory, include)?;
        let name = source.file_stem().unwrap().to_string_lossy().into_owned();
        let program = shop.path(&format!("{name}-{}", self.name));
        let mut command = Command::new(self.name);
        command
            .args(self.strict)
            .args(self.lax)
            .arg(self.modules_to)
            .arg(&directory)
            .arg("-I")
            .arg(&directory)
            .arg(source)
            .args(objects)
            .args(beside)
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(shop.path("."))
            .arg("-lpanta");
        check(
            &run(&mut command)?,
            &format!("compiling {}", source.display()),
        );
        Some(program)
    }

    /// Compiles a program with the wrappers of an MPI, which call this compiler.
    pub(crate) fn compile_mpi(&self, shop: &Workshop, mpi: &str, source: &Path) -> Option<PathBuf> {
        let [c, fortran] = ["mpicc", "mpifort"].map(|tool| format!("{tool}.{mpi}"));
        if !(has(&c) && has(&fortran) && has(&format!("mpirun.{mpi}"))) {
            return None;
        }
        let directory = shop.path(mpi);
        std::fs::create_dir_all(&directory).unwrap();
        let include = here().join("../include");
        let mut objects = Command::new(c);
        objects
            .args(["-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-c"])
            .arg("-I")
            .arg(&include)
            .arg(include.join("panta_fortran.c"))
            .arg(include.join("panta_fortran_mpi.c"))
            .current_dir(&directory);
        check(&run(&mut objects)?, "compiling the C files for Fortran");
        let mut program = Command::new(fortran);
        program
            .args(self.strict)
            .args(self.lax)
            .arg(include.join("panta.f90"))
            .arg(include.join("panta_mpi.F90"))
            .arg(source)
            .args(["panta_fortran.o", "panta_fortran_mpi.o", "-o", "mpi", "-L"])
            .arg(shop.path("."))
            .arg("-lpanta")
            .current_dir(&directory);
        check(&run(&mut program)?, "compiling for MPI");
        Some(directory.join("mpi"))
    }

    /// Compiles a program that has communicators as integers: with this compiler and
    /// not with an MPI's wrapper, which calls the one that the MPI was built with.
    pub(crate) fn compile_integers(&self, shop: &Workshop, source: &Path) -> Option<PathBuf> {
        if !(has(self.name) && has("mpicc.mpich") && has("mpirun.mpich")) {
            return None;
        }
        let include = here().join("../include");
        let directory = shop.path(&format!("integers-{}", self.name));
        std::fs::create_dir_all(&directory).unwrap();
        let objects = self.module(&directory, &include)?;
        let mut c = Command::new("mpicc.mpich");
        c.arg("-I").arg(&include);
        if let Some(headers) = self.headers() {
            c.arg("-I").arg(headers);
        }
        c.arg("-c").arg(include.join("panta_fortran_mpi.c"));
        check(
            &c.current_dir(&directory).output().unwrap(),
            "panta_fortran_mpi.c",
        );
        let shown = Command::new("mpifort.mpich").arg("-show").output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let places = shown.split_whitespace().filter(|word| {
            ["-I", "-L", "-l"]
                .iter()
                .any(|start| word.starts_with(start))
        });
        let program = directory.join("integers");
        let mut fortran = Command::new(self.name);
        fortran
            .args(["-DPANTA_NO_MPI_F08", "-I", "."])
            .args([include.join("panta_mpi.F90"), source.to_owned()])
            .args(objects)
            .args(["panta_fortran_mpi.o", "-o"])
            .arg(&program)
            .args(places)
            .arg("-L")
            .arg(shop.path("."))
            .arg("-lpanta")
            .current_dir(&directory);
        check(&fortran.output().unwrap(), "compiling for integers");
        Some(program)
    }

    /// Compiles one of the test programs and runs it to its end.
    pub(crate) fn runs(&self, shop: &Workshop, program: &str, arguments: &[&str]) {
        let source = here().join("tests/programs").join(program);
        if let Some(built) = self.compile(shop, &source) {
            let output = shop.command(built).args(arguments).output().unwrap();
            check(&output, program);
        }
    }
}
