//! What a put and a get through C take of memory, beside the same calls from Rust.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ndarray::Array1;
use panta::{Reader, Shape, Solo, Start, StepTime, Writer};
use support::{Workshop, check, here};

/// The system's allocator, counting for each thread.
struct Counting;

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

fn taken() -> usize {
    TAKEN.with(Cell::get)
}

fn count() {
    let _ = TAKEN.try_with(|taken| taken.set(taken.get() + 1));
}

// SAFETY: all is done by the system's allocator; counting takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CELLS: usize = 128;
const CALLS: usize = 50;

/// Allocations of puts and of gets from Rust, warm: the same calls as `allocations.c`.
fn in_rust(url: &str) -> [usize; 2] {
    let mut field = Array1::<f64>::zeros(CELLS);
    let [mut puts, mut gets] = [0; 2];
    let mut out = Writer::open(url, Solo).unwrap();
    let shape = Shape::global([CELLS as u64]);
    let u = out.define::<f64>("u", shape).unwrap();
    for _ in 0..2 {
        let step = out.begin_step(StepTime::sim(0.0)).unwrap();
        let before = taken();
        for _ in 0..CALLS {
            step.put(u, &[0], &field).unwrap();
        }
        puts = taken() - before;
        step.end().unwrap();
    }
    out.close().unwrap();
    let mut reader = Reader::open(url, Solo, Start::Oldest).unwrap();
    let step = reader.next_step().unwrap().unwrap();
    for _ in 0..2 {
        let before = taken();
        for _ in 0..CALLS {
            let all = ([0_u64], [CELLS as u64]);
            step.get_into("u", all, field.view_mut()).unwrap();
        }
        gets = taken() - before;
    }
    [puts, gets]
}

#[test]
fn a_warm_put_or_get_through_c_takes_no_more_memory_than_through_rust() {
    let shop = Workshop::new();
    let source = here().join("tests/programs/allocations.c");
    let Some(built) = shop.compile("cc", &["-std=gnu99"], &source) else {
        return;
    };
    let output = shop.command(built).arg(shop.url("c.panta")).output();
    let output = output.unwrap();
    check(&output, "allocations.c");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap());
    let in_c: [usize; 2] = [numbers.next().unwrap(), numbers.next().unwrap()];
    let in_rust = in_rust(&shop.url("rust.panta"));
    assert_eq!(in_c[0], 0, "{CALLS} puts through C");
    assert!(
        in_c[1] <= in_rust[1],
        "{CALLS} gets: {} through C, {} through Rust",
        in_c[1],
        in_rust[1]
    );
}
