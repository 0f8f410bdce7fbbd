//! The pages for C, C++ and Fortran, and the example in C, are compiled and run as
//! they stand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ndarray::Array2;
use panta::{Reader, Solo, Start};
use support::fortran::GFORTRAN;
use support::{Workshop, check, has, here};

/// The programs on the page: fences that name a file, put together in their order.
fn programs(page: &str) -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(here().join("../docs").join(page)).unwrap();
    let mut programs: BTreeMap<String, String> = BTreeMap::new();
    let mut file = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &file) {
            (Some(_), Some(_)) => file = None,
            (Some(info), None) => {
                file = Some(info.split_once(' ').map(|(_, name)| name.to_owned()))
            }
            (None, Some(Some(name))) => {
                let text = programs.entry(name.clone()).or_default();
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    programs
}

fn write_of(shop: &Workshop, page: &str, name: &str) -> PathBuf {
    let path = shop.path(name);
    std::fs::write(&path, &programs(page)[name]).unwrap();
    path
}

fn write(shop: &Workshop, name: &str) -> PathBuf {
    write_of(shop, "c.md", name)
}

/// Runs an analysis beside a simulation; returns what it prints.
fn couple(shop: &Workshop, analysis: &Path, simulation: &Path) -> String {
    let mut follows = shop.command(analysis);
    let follows = follows
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check(&shop.command(simulation).output().unwrap(), "simulation");
    let output = follows.wait_with_output().unwrap();
    check(&output, "analysis");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_simulation_and_the_analysis_of_the_page_run_coupled() {
    let shop = Workshop::new();
    let c99 = ["-std=c99", "-x", "c"];
    let build = |name| shop.compile("cc", &c99, &write(&shop, name));
    let (Some(simulation), Some(analysis)) = (build("simulation.c"), build("analysis.c")) else {
        return;
    };
    let text = couple(&shop, &analysis, &simulation);
    let last = text.lines().last().unwrap();
    assert_eq!(last, "step 4 at 0.4: mean of column 10 is 431.60 K");
    assert_eq!(text.lines().count(), 5);
}

#[test]
fn the_program_of_the_page_that_polls_sees_every_step() {
    let shop = Workshop::new();
    let c99 = ["-std=gnu99", "-x", "c"];
    let build = |name| shop.compile("cc", &c99, &write(&shop, name));
    let (Some(simulation), Some(watch)) = (build("simulation.c"), build("watch.c")) else {
        return;
    };
    assert_eq!(couple(&shop, &watch, &simulation), "a step\n".repeat(5));
}

#[test]
fn the_program_of_the_page_that_makes_progress_itself_runs() {
    let shop = Workshop::new();
    let c99 = ["-std=c99", "-x", "c"];
    if let Some(built) = shop.compile("cc", &c99, &write(&shop, "by_hand.c")) {
        check(&shop.command(&built).output().unwrap(), "by_hand.c");
    }
}

#[test]
fn the_cpp_program_of_the_page_runs() {
    let shop = Workshop::new();
    let source = write(&shop, "simulation.cpp");
    if let Some(built) = shop.compile("c++", &["-std=c++17"], &source) {
        check(&shop.command(built).output().unwrap(), "simulation.cpp");
    }
}

#[test]
fn the_mpi_program_of_the_page_and_the_example_run_on_two_ranks() {
    if !(has("mpicc") && has("mpirun")) {
        return;
    }
    let shop = Workshop::new();
    let example = here().join("../examples/c/heat.c");
    let launch = |program: PathBuf, arguments: &[&str]| {
        let mut command = shop.command("mpirun");
        command
            .args(["--oversubscribe", "--allow-run-as-root", "-n", "2"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null());
        check(&command.output().unwrap(), "mpirun");
    };
    let compile = |source: &Path| {
        shop.compile("mpicc", &["-std=c99", "-x", "c"], source)
            .unwrap()
    };
    let ranks = write(&shop, "ranks.c");
    launch(compile(&ranks), &[]);
    let url = shop.url("heat.panta");
    launch(compile(&example), &[&url, "4"]);
    let mut reader = Reader::open(&url, Solo, Start::Oldest).unwrap();
    let mut sums = Vec::new();
    while let Some(step) = reader.next_step().unwrap() {
        let heat: Array2<f64> = step.get("heat", ..).unwrap();
        assert_eq!(heat.shape(), [64, 64]);
        sums.push(heat.sum());
    }
    assert_eq!(sums.len(), 4);
    // Heat flows out over the upper edge, which is held at 0, and nowhere else: a
    // ghost row that was put, or not exchanged, would show in the sum.
    assert_eq!(sums[0], 6400.0);
    assert!((sums[1] - 6400.0 * 0.8).abs() < 1e-6, "{sums:?}");
    assert!(sums.windows(2).all(|pair| pair[1] < pair[0]), "{sums:?}");
}

#[test]
fn the_programs_of_the_page_for_cpp_run_coupled() {
    let shop = Workshop::new();
    let build = |name| shop.compile("c++", &["-std=c++17"], &write_of(&shop, "cxx.md", name));
    if let (Some(simulation), Some(analysis)) = (build("simulation.cpp"), build("analysis.cpp")) {
        let text = couple(&shop, &analysis, &simulation);
        let last = text.lines().last().unwrap();
        assert_eq!(last, "step 4: mean of column 10 is 431.60");
        let source = write_of(&shop, "cxx.md", "results.cpp");
        let flags = ["-std=c++17", "-fno-exceptions"];
        let results = shop.compile("c++", &flags, &source).unwrap();
        check(&shop.command(results).output().unwrap(), "results.cpp");
    }
}

#[test]
fn the_programs_of_the_page_for_fortran_run_coupled() {
    let shop = Workshop::new();
    let build = |name| GFORTRAN.compile(&shop, &write_of(&shop, "fortran.md", name));
    let (Some(simulation), Some(analysis)) = (build("simulation.f90"), build("analysis.f90"))
    else {
        return;
    };
    let text = couple(&shop, &analysis, &simulation);
    let last = text.lines().last().unwrap();
    assert_eq!(last.trim(), "step 4 at 0.4: mean of column 10 is 432.60 K");
    let errors = build("errors.f90").unwrap();
    let output = shop.command(errors).output().unwrap();
    check(&output, "errors.f90");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("`array` is real(8) of shape (4)"), "{said}");
    let ranks = write_of(&shop, "fortran.md", "ranks.f90");
    if let Some(built) = GFORTRAN.compile_mpi(&shop, "openmpi", &ranks) {
        let mut command = shop.command("mpirun.openmpi");
        command
            .args(["--oversubscribe", "--allow-run-as-root", "-n", "2"])
            .arg(built)
            .stdin(Stdio::null());
        check(&command.output().unwrap(), "ranks.f90");
    }
}

#[test]
fn every_call_that_the_table_for_newcomers_names_is_there() {
    let read = |name: &str| std::fs::read_to_string(here().join("..").join(name)).unwrap();
    let headers = read("include/panta.h") + &read("include/panta_mpi.h");
    let page = read("docs/coming_from.md");
    let mut named = 0;
    for word in page.split('`').filter(|word| word.starts_with("panta_")) {
        let name = word.trim_end_matches('*');
        assert!(word == "panta.toml" || headers.contains(name), "{word}");
        named += 1;
    }
    assert!(named > 20, "{named}");
}
