//! `stream:` steps straight from their writers to their readers.

#[allow(dead_code, reason = "for the writer and the reader of the engine")]
mod contact;
pub mod machine;
#[allow(dead_code, reason = "for the writer and the reader of the engine")]
mod process;
