//! What is wrong with a configuration, where, and what was likely meant.

use super::table::{Engine, PARAMETERS};
use std::fmt;
use std::path::PathBuf;

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the name or URL that was opened.
    Opened(String),
    /// In the environment.
    Environment(String),
    /// In a configuration file; lines count from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened(name) => write!(formatter, "in `{name}`"),
            Self::Environment(variable) => write!(formatter, "in the variable {variable}"),
            Self::File { path, line } => write!(formatter, "{}, line {line}", path.display()),
        }
    }
}

/// Why a name could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The URL's scheme names no engine.
    #[error("{place}: no engine `{scheme}:`{}", hint(nearest.as_deref(), &schemes()))]
    UnknownScheme {
        /// The scheme.
        scheme: String,
        /// The engine that was likely meant, if any is near.
        nearest: Option<String>,
        /// Where it stands.
        place: Place,
    },
    /// No engine has such a parameter.
    #[error("{place}: no parameter `{key}`{}", hint(nearest.as_deref(), &keys(*engine)))]
    UnknownKey {
        /// The key.
        key: String,
        /// The engine, if it is known there.
        engine: Option<Engine>,
        /// The parameter that was likely meant, if any is near.
        nearest: Option<String>,
        /// Where it stands.
        place: Place,
    },
    /// Another engine has the parameter, this one has not.
    #[error(
        "{place}: `{key}` means nothing to `{engine}`, only to {}{}",
        list(accepted_by.iter().map(Engine::to_string)),
        hint(nearest.as_deref(), &keys(Some(*engine)))
    )]
    OtherEngine {
        /// The key.
        key: String,
        /// The engine that does not take it.
        engine: Engine,
        /// Those that do.
        accepted_by: Vec<Engine>,
        /// The nearest parameter that the engine does take, if any is near.
        nearest: Option<String>,
        /// Where it stands.
        place: Place,
    },
    /// A parameter's value can't be read.
    #[error("{place}: `{key}` can't be `{value}`; {reason}")]
    BadValue {
        /// The key.
        key: String,
        /// The value as it stands.
        value: String,
        /// What is wrong with it, and what values look like.
        reason: String,
        /// Where it stands.
        place: Place,
    },
    /// A parameter is set twice in one place.
    #[error("{place}: `{key}` is set twice; leave one")]
    SetTwice {
        /// The key.
        key: String,
        /// Where the second stands.
        place: Place,
    },
    /// A URL does not read `scheme:name?key=value&key=value`.
    #[error("{place}: {reason}")]
    BadUrl {
        /// What is wrong.
        reason: String,
        /// Where it stands.
        place: Place,
    },
    /// A configuration file is not TOML, or not made as ours are.
    #[error("{place}: {reason}")]
    BadFile {
        /// What is wrong.
        reason: String,
        /// Where it stands.
        place: Place,
    },
    /// A configuration file can't be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

impl ConfigError {
    /// The same error, found in another place: parsers know only the line.
    pub(super) fn at(mut self, elsewhere: impl FnOnce(&Place) -> Place) -> Self {
        let place = match &mut self {
            Self::UnknownScheme { place, .. }
            | Self::UnknownKey { place, .. }
            | Self::OtherEngine { place, .. }
            | Self::BadValue { place, .. }
            | Self::SetTwice { place, .. }
            | Self::BadUrl { place, .. }
            | Self::BadFile { place, .. } => place,
            Self::Unreadable { .. } => return self,
        };
        *place = elsewhere(place);
        self
    }
}

/// The names that were possible.
fn schemes() -> Vec<String> {
    Engine::ALL.iter().map(Engine::to_string).collect()
}

fn keys(engine: Option<Engine>) -> Vec<String> {
    let known = PARAMETERS
        .iter()
        .filter(|row| engine.is_none_or(|it| row.is_for(it)));
    known.map(|row| row.name.to_owned()).collect()
}

fn hint(nearest: Option<&str>, valid: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; there are {}", list(valid.iter().cloned())),
    }
}

fn list(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<String> = words.into_iter().map(|it| format!("`{it}`")).collect();
    words.join(", ")
}
