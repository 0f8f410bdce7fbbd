//! What tests of sessions have in common.

pub mod memory;
