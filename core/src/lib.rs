//! Steps and arrays, and the engines that carry them.
//!
//! ```text
//! config    a name becomes an engine and its parameters
//! comm      the ranks of a group, as found at open
//! tree      how they agree from then on
//! model     variables, blocks, selections, attributes, steps
//! codec     the byte form of the model
//! engine    what an engine is
//! session   writers and readers: what is the same for every engine
//! plan      which blocks cover a box
//! notice    a descriptor to wait for steps on
//! deal      which reader groups get a step
//! file      the engine of Panta's own files
//! stream    the engine of direct streams
//! ```
//! What it never hears of: servers, languages, generics over element types.

pub mod announce;
pub mod codec;
pub mod comm;
pub mod config;
pub mod deal;
pub mod engine;
pub mod error;
pub mod file;
pub mod frames;
mod lean;
pub mod model;
pub mod notice;
pub mod null;
mod ordered;
pub mod plan;
mod recent;
pub mod session;
mod spans;
pub mod stream;
pub mod tree;
