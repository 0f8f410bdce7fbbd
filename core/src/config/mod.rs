//! From the name in `open("run42")` to an engine and its parameters.
//!
//! ```text
//! a URL itself, or a name ──> PANTA_URL_RUN42 ──> panta.toml [streams.run42] ──> file:run42.panta
//! ```
//!
//! The first that exists wins as a whole. The parameters in its URL go before
//! those beside it in `[streams.run42]`, and those before `[defaults]`, which
//! hold for every stream whose engine knows them, and those before the
//! defaults of the [parameter table](table).
//!
//! Promises: an unknown scheme, key or value is an error that says where it
//! stands and names the nearest valid one; nothing is ignored silently, also
//! not a mistake in a part of `panta.toml` that this open doesn't use.
//! It does not: open anything, or read the environment behind the caller's
//! back (it comes as a function).

mod error;
mod file;
mod resolve;
mod table;
mod url;
mod value;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, Place};
pub use file::{ConfigFile, Setting, StreamEntry, parse_toml};
pub use resolve::{Target, environment_variable, process_environment, resolve};
pub use table::{Engine, Options, PARAMETERS, Parameter, render_markdown};
pub use url::{StreamUrl, parse_url};
pub use value::{
    Acknowledge, ByteSize, ChunkShape, Compression, Count, Distribution, Interface, Interfaces,
    Policy, ProgressChoice, Servers, Sync, TransportChoice, Value, Verify,
};

/// The candidate that a misspelt word most likely meant: at most one edit in
/// three letters away (optimal string alignment distance).
fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate));
    let (distance, candidate) = distances.min_by_key(|(distance, _)| *distance)?;
    let tolerated = 1 + word.chars().count().max(candidate.len()) / 3;
    (distance <= tolerated).then_some(candidate)
}
