//! Whole-system tests: what a coupled simulation and analysis go through, as
//! separate processes that can be killed one by one.
//!
//! ```text
//! tests/scenarios.rs   one test for each scenario and engine, and the matrix
//!      │ Stage         directory, URLs, servers; starts, stops and kills ranks
//!      ▼
//! panta-scenario ──▶ scenario::*   what a rank does; asserts what it reads
//! ```
//! It promises that a scenario ends: past its deadline every process is killed
//! and the failure says what each printed last. Data are a function of
//! (variable, step, global index), so every element read is checked.
//!
//! It does not measure: no assertion here is about time, but for deadlines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "all of this crate is tests: a failed expectation is how they fail"
)]

pub mod cells;
pub mod fabric;
pub mod fuzz;
pub mod grid;
pub mod hosts;
pub mod matrix;
pub mod part;
pub mod relay;
pub mod scenario;
pub mod stage;
pub mod tools;

mod actor;
