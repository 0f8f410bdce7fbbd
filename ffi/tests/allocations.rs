//! What a put and a get through C take of memory, beside the same calls from Rust.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../panta/tests/support/counting.rs"]
mod counting;
mod support;

use std::process::Output;

use counting::allocations;
use ndarray::Array1;
use panta::{Reader, Shape, Solo, Start, StepTime, Writer};
use support::fortran::GFORTRAN;
use support::{Workshop, check, here};

const CELLS: usize = 128;
const CALLS: usize = 50;

/// Allocations of spans, which is where a put that is copied at once goes, and of gets
/// from Rust, warm: the same calls as the programs make.
fn in_rust(url: &str) -> [usize; 2] {
    let mut field = Array1::<f64>::zeros(CELLS);
    let [mut spans, mut gets] = [0; 2];
    let mut out = Writer::open(url, Solo).unwrap();
    let shape = Shape::global([CELLS as u64]);
    let u = out.define::<f64>("u", shape).unwrap();
    for _ in 0..2 {
        let step = out.begin_step(StepTime::sim(0.0)).unwrap();
        spans = allocations(|| {
            for _ in 0..CALLS {
                let mut span = step.span(u, &[0], &[CELLS as u64]).unwrap();
                span.as_mut_slice().fill(0.0);
            }
        })
        .0;
        step.end().unwrap();
    }
    out.close().unwrap();
    let mut reader = Reader::open(url, Solo, Start::Oldest).unwrap();
    let step = reader.next_step().unwrap().unwrap();
    for _ in 0..2 {
        gets = allocations(|| {
            for _ in 0..CALLS {
                let all = ([0_u64], [CELLS as u64]);
                step.get_into("u", all, field.view_mut()).unwrap();
            }
        })
        .0;
    }
    [spans, gets]
}

/// What a program counted: puts, and if it has them puts that are copied, and gets.
fn is_as_in_rust(shop: &Workshop, language: &str, output: &Output) {
    check(output, language);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let numbers = text.split_whitespace().map(|word| word.parse().unwrap());
    let counted: Vec<usize> = numbers.collect();
    let [spans, gets] = in_rust(&shop.url(&format!("rust-{language}.panta")));
    assert_eq!(counted[0], 0, "{CALLS} puts through {language}");
    if let [_, copied, _] = counted[..] {
        // Lists that grow with the step's puts may do so at another moment.
        assert!(
            copied <= spans + 8,
            "{CALLS} copied puts: {copied}, spans: {spans}"
        );
    }
    let counted = counted[counted.len() - 1];
    assert!(
        counted <= gets,
        "{CALLS} gets: {counted} through {language}, {gets} through Rust"
    );
}

#[test]
fn a_warm_put_or_get_through_c_takes_no_more_memory_than_through_rust() {
    let shop = Workshop::new();
    let source = here().join("tests/programs/allocations.c");
    let Some(built) = shop.compile("cc", &["-std=gnu99"], &source) else {
        return;
    };
    let output = shop.command(built).arg(shop.url("c.panta")).output();
    is_as_in_rust(&shop, "C", &output.unwrap());
}

#[test]
fn a_warm_put_or_get_through_fortran_takes_no_more_memory_than_through_rust() {
    let shop = Workshop::new();
    let programs = here().join("tests/programs");
    let source = programs.join("allocations.f90");
    // Other compilers may make temporaries of their own where `[1]` stands.
    let Some(built) = GFORTRAN.compile_beside(&shop, &source, &[programs.join("counting.c")])
    else {
        return;
    };
    let output = shop.command(built).arg(shop.url("fortran.panta")).output();
    is_as_in_rust(&shop, "Fortran", &output.unwrap());
}
