//! The engine played through its traits, rank by rank in one thread.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests say what they expect, and make payload of their own"
)]

mod damage;
mod disk;
mod harness;
mod life;
mod values;
