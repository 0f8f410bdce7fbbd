//! Why a command failed, as the one line that is shown.

use std::fmt::Display;

use panta::{BeginError, CloseError, DefineError, EndError, GetError, NextError, OpenError};
use panta::{Failure, PutError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// What was asked for cannot be; the message says what, where and what to try.
    #[error("{}", one_line(.0))]
    Failed(String),
    /// The arguments contradict each other or the stream.
    #[error("{}", one_line(.0))]
    Usage(String),
    /// The reader of standard output has gone.
    #[error("standard output was closed")]
    OutputClosed,
}

impl CommandError {
    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::OutputClosed => 0,
        }
    }

    /// A failure in words.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

fn one_line(message: &impl Display) -> String {
    message.to_string().replace('\n', " ")
}

impl From<std::io::Error> for CommandError {
    /// Of standard output; files say which they are.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("standard output: {error}")),
        }
    }
}

macro_rules! failures {
    ($($error:ty),*) => {
        $(impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                Self::Failed(error.to_string())
            }
        })*
    };
}

failures!(
    OpenError,
    NextError,
    GetError,
    DefineError,
    BeginError,
    PutError,
    EndError,
    CloseError,
    Failure,
    panta_core::config::ConfigError,
    panta_cli::plot::PlotError,
    panta_benches::BenchError
);
