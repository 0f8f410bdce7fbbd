//! What tests of sessions have in common.

pub(crate) mod memory;
