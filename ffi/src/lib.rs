//! `libpanta`: Panta's C interface. `include/panta.h` is generated from this
//! crate and tells its users what they need.
//!
//! ```text
//! C  ->  caller      arguments read and checked, panics caught
//!        handles     numbers in the shape of pointers, looked up
//!        comm, writer, define, reader, step, get      one function, one call of a session
//!        failed      a status out, the rest for panta_error_*
//! ```
//! No function lets a panic out, prints, exits, or keeps a pointer it was lent
//! beyond what the header says; every exported name begins with `panta_`.
//! What the layer below checks is not checked again here.

#![allow(
    clippy::missing_safety_doc,
    reason = "what callers must keep stands once, in the header's prose"
)]

mod buffer;
mod caller;
pub mod comm;
pub mod counts;
pub mod define;
mod exclusive;
pub mod failed;
pub mod get;
mod handles;
mod info;
pub mod interrupts;
pub mod progress;
pub mod put;
pub mod reader;
pub mod step;
pub mod types;
pub mod version;
pub mod writer;
