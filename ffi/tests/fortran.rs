//! The Fortran module as programs use it: compiled by their compiler, with every
//! type, rank and layout of arrays.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::fortran::{FLANG, GFORTRAN, GFORTRAN_WIDE};
use support::{Workshop, check, here};

#[test]
fn every_type_rank_and_layout_comes_back_as_it_was_put_from_fortran() {
    let shop = Workshop::new();
    GFORTRAN.runs(&shop, "round.f90", &[&shop.url("run.panta")]);
}

#[test]
fn the_same_with_another_compiler() {
    let shop = Workshop::new();
    FLANG.runs(&shop, "round.f90", &[&shop.url("run.panta")]);
}

#[test]
fn lent_arrays_spans_views_cursors_interrupts_and_batches_work_from_fortran() {
    let shop = Workshop::new();
    for compiler in [GFORTRAN, FLANG] {
        let file = shop.url(compiler.name);
        let contact = shop.path(&format!("{}.contact", compiler.name));
        let stream = format!("stream:live?transport=shm&contact={}", contact.display());
        compiler.runs(&shop, "parity.f90", &[&file, &stream]);
    }
}

#[test]
fn programs_whose_integers_have_8_bytes_are_served_too() {
    let shop = Workshop::new();
    let stream = format!("stream:wide?contact={}", shop.path("contact").display());
    GFORTRAN_WIDE.runs(&shop, "parity.f90", &[&shop.url("parity"), &stream]);
    GFORTRAN_WIDE.runs(&shop, "waiting.f90", &[&shop.url("waiting")]);
}

#[test]
fn a_fortran_program_touches_no_memory_it_should_not_and_loses_none() {
    let shop = Workshop::new();
    let source = here().join("tests/programs/parity.f90");
    if let Some(built) = GFORTRAN.compile(&shop, &source) {
        let contact = shop.path("contact");
        let stream = format!("stream:live?transport=shm&contact={}", contact.display());
        shop.is_clean_under_valgrind(&built, &[&shop.url("run.panta"), &stream]);
    }
}

#[test]
fn every_constant_has_the_value_it_has_in_c() {
    let read = |name: &str| std::fs::read_to_string(here().join("../include").join(name)).unwrap();
    let (header, module) = (read("panta.h"), read("panta.f90"));
    let mut compared = 0;
    for line in header.lines() {
        let mut words = line.split_whitespace();
        let (Some("#define"), Some(name), Some(value)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if value.parse::<i64>().is_err() || name.contains("VERSION") {
            continue;
        }
        // What Fortran says by leaving an argument out.
        if ["PANTA_TO_END", "PANTA_NO_BLOCK", "PANTA_STREAM"].contains(&name) {
            continue;
        }
        assert!(
            module.contains(&format!("parameter, public :: {name} = {value}\n")),
            "{name} is not {value} in panta.f90"
        );
        compared += 1;
    }
    assert!(compared > 70, "{compared}");
}

#[test]
fn every_function_of_c_is_reached_from_fortran() {
    let read = |name: &str| std::fs::read_to_string(here().join("../include").join(name)).unwrap();
    let (header, module) = (read("panta.h"), read("panta/c.inc"));
    let support = read("panta_fortran.c") + &read("panta/fortran_arrays.h");
    // Fortran has no unsigned integers, and asks for its module's version.
    let missing = [
        "panta_require_version",
        "panta_set_attribute_u64",
        "panta_set_attribute_u64s",
    ];
    for line in header.lines() {
        let Some(name) = line
            .strip_prefix("panta_status panta_")
            .and_then(|rest| rest.split_once('('))
            .map(|(name, _)| format!("panta_{name}"))
        else {
            continue;
        };
        let is_there =
            module.contains(&format!("'{name}'")) || support.contains(&format!("{name}("));
        assert!(is_there != missing.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn openings_are_interrupted_definitions_frozen_and_steps_waited_for_from_fortran() {
    let shop = Workshop::new();
    for compiler in [GFORTRAN, FLANG] {
        compiler.runs(&shop, "waiting.f90", &[&shop.url(compiler.name)]);
    }
}

#[test]
fn misuse_from_fortran_is_an_error_that_names_the_argument() {
    let shop = Workshop::new();
    for compiler in [GFORTRAN, FLANG] {
        compiler.runs(&shop, "misuse.f90", &[&shop.url(compiler.name)]);
    }
}

#[test]
fn an_error_that_nobody_takes_stops_the_program_with_its_message() {
    let shop = Workshop::new();
    let source = here().join("tests/programs/misuse.f90");
    let Some(built) = GFORTRAN.compile(&shop, &source) else {
        return;
    };
    let url = shop.url("run.panta");
    let output = shop.command(built).args([&url, "stop"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("put outside a step"), "{said}");
}

#[test]
fn a_library_older_than_the_module_is_refused_by_its_version() {
    let shop = Workshop::new();
    let include = shop.path("newer");
    std::fs::create_dir(&include).unwrap();
    let parts = std::fs::read_dir(here().join("../include/panta")).unwrap();
    std::fs::create_dir(include.join("panta")).unwrap();
    for part in parts.map(|part| part.unwrap()) {
        std::fs::copy(part.path(), include.join("panta").join(part.file_name())).unwrap();
    }
    for name in ["panta.h", "panta.f90", "panta_fortran.c"] {
        let text = std::fs::read_to_string(here().join("../include").join(name)).unwrap();
        let newer = text.replace(
            "#define PANTA_VERSION_MAJOR 0",
            "#define PANTA_VERSION_MAJOR 77",
        );
        std::fs::write(include.join(name), newer).unwrap();
    }
    let source = here().join("tests/programs/round.f90");
    let Some(built) = GFORTRAN.compile_with(&shop, &source, &include) else {
        return;
    };
    let output = shop.command(built).arg("file:x.panta").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("is older than the module"), "{said}");
    assert!(said.contains("77.1.0"), "{said}");
}

/// MPI's modules are of the compiler it was built with; its integers are of any.
#[test]
fn integers_stand_for_communicators_where_an_mpi_is_of_another_compiler() {
    let shop = Workshop::new();
    let source = here().join("tests/programs/integers.f90");
    let Some(built) = FLANG.compile_integers(&shop, &source) else {
        return;
    };
    let mut command = shop.command("mpirun.mpich");
    command
        .args(["-n", "2"])
        .arg(built)
        .arg(shop.url("run.panta"));
    check(
        &command.stdin(std::process::Stdio::null()).output().unwrap(),
        "integers.f90",
    );
}

/// A simulation in one language and its analysis in the other, live, each under mpirun.
#[test]
fn c_and_fortran_are_coupled_under_mpi_in_both_directions() {
    let shop = Workshop::new();
    let programs = |name: &str| here().join("tests/programs").join(name);
    let Some(fortran) = GFORTRAN.compile_mpi(&shop, "openmpi", &programs("coupled.f90")) else {
        return;
    };
    let c99 = ["-std=c99", "-x", "c"];
    let Some(c) = shop.compile("mpicc.openmpi", &c99, &programs("mpi.c")) else {
        return;
    };
    for (transport, writer, reader) in [("shm", &c, &fortran), ("tcp", &fortran, &c)] {
        let contact = shop.path(&format!("{transport}.contact"));
        let url = format!(
            "stream:live?transport={transport}&contact={}",
            contact.display()
        );
        let launch = |program: &std::path::Path, side: &str| {
            let mut command = shop.command("mpirun.openmpi");
            command
                .args(["--oversubscribe", "--allow-run-as-root", "-n", "2"])
                .arg(program)
                .args([&url, side])
                .stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        };
        let (reading, writing) = (launch(reader, "read"), launch(writer, "write"));
        check(&writing.wait_with_output().unwrap(), "the writer");
        check(&reading.wait_with_output().unwrap(), "the reader");
    }
}

#[test]
fn ranks_of_either_mpi_write_and_read_together_from_fortran() {
    let shop = Workshop::new();
    let source = here().join("tests/programs/mpi.f90");
    let open_mpi = ["--oversubscribe", "--allow-run-as-root"];
    for (mpi, more) in [("openmpi", &open_mpi[..]), ("mpich", &[])] {
        let Some(built) = GFORTRAN.compile_mpi(&shop, mpi, &source) else {
            continue;
        };
        let mut command = shop.command(format!("mpirun.{mpi}"));
        command.args(more).args(["-n", "2"]).arg(built);
        command
            .arg(shop.url(&format!("{mpi}.panta")))
            .stdin(std::process::Stdio::null());
        check(&command.output().unwrap(), mpi);
    }
}
