//! Staging: one n-d space per variable, shared by servers that outlive
//! writers and readers.
//!
//! This crate holds what client and server agree on: the [`curve`] that puts a
//! chunk grid in one line, the [`shard`] map that says which server holds
//! which part of that line, and [`routing`], which finds the servers of a box.
//!
//! [`proto`] is the protocol they speak, as state machines that open no socket
//! and read no clock. [`client`] is the engine that drives them.

pub mod client;
pub mod curve;
pub mod proto;
pub mod routing;
pub mod shard;
