//! Why there is no figure.

use std::fmt::Display;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The request makes no sense; says what would.
    #[error("bench: {0}")]
    Request(String),
    /// Something that was measured failed.
    #[error("bench: {doing}: {why}")]
    Failed {
        /// What was being done.
        doing: String,
        /// What went wrong.
        why: String,
    },
    /// What arrived is not what was put.
    #[error("bench: {place}: element {element} of step {step} is not what was put")]
    WrongData {
        /// Where it arrived.
        place: String,
        /// The step.
        step: u64,
        /// The first element that differs.
        element: usize,
    },
}

impl BenchError {
    /// A request that makes no sense.
    pub(crate) fn request(what: impl Into<String>) -> Self {
        Self::Request(what.into())
    }
}

/// Says what was being done when something failed.
pub(crate) trait Doing<T> {
    /// Adds what was being done.
    fn doing(self, doing: &str) -> Result<T, BenchError>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, doing: &str) -> Result<T, BenchError> {
        self.map_err(|error| BenchError::Failed {
            doing: doing.to_owned(),
            why: error.to_string(),
        })
    }
}
