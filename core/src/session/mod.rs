//! What is the same for every engine: opening, agreeing, checking.
//!
//! A [`Writer`] or [`Reader`] is one rank's end of a stream. Each pairs an
//! engine with the control tree of its group, and sees to it that begins, ends,
//! opens and closes have the same outcome on every rank.
//!
//! These are the runtime-checked layer that every language's shell wraps:
//! element types and shapes are values here, not type parameters.

mod group;
mod layouts;
mod merge;
mod reader;
#[cfg(test)]
mod scale;
mod writer;

pub use reader::{Batch, Reader, ReaderOptions, Resolved, Step};
pub use writer::{Put, Sealed, Writer, WriterOptions};

/// The candidate nearest to `name`, if any is near enough to be meant.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + name.len().max(candidate.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}
