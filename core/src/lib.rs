//! Steps and arrays, and the engines that carry them.
//!
//! What it knows: variables, selections, steps, the ranks of a group and the
//! configuration that names an engine. What it never hears of: servers.

pub mod comm;
pub mod config;
pub mod tree;
