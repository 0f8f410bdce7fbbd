//! The Fortran module as programs use it: compiled by their compiler, with every
//! type, rank and layout of arrays.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::fortran::{FLANG, GFORTRAN};
use support::{Workshop, here};

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
    let (header, module) = (read("panta.h"), read("panta.f90"));
    let support = read("panta_fortran.c");
    // Fortran has no unsigned integers, and makes no table of functions.
    let missing = [
        "panta_comm_from_vtable",
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
