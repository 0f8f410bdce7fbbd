//! Opening a stream to look at it: says at once if nothing is there, and finds
//! the step that was asked for.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use panta::{NextError, Solo, Start};
use panta_core::config::{self, Engine, Target};
use panta_core::session::{Reader, ReaderOptions, Step};

use crate::commands::streams;
use crate::error::CommandError;

/// The deadline of a stream that is only looked at, where none is configured.
const LOOK_DEADLINE: &str = "deadline=10s";

/// Which step is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepChoice {
    /// The oldest held.
    First,
    /// The newest sealed.
    Last,
    /// The one of this number.
    Number(u64),
}

impl FromStr for StepChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "first" => Ok(Self::First),
            "last" => Ok(Self::Last),
            number => number
                .parse()
                .map(Self::Number)
                .map_err(|_| "a step is a number, `first` or `last`".to_owned()),
        }
    }
}

/// A stream to be looked at.
#[derive(Debug)]
pub(crate) struct Source {
    stream: String,
}

impl Source {
    /// Finds what `stream` names; a file must be there.
    pub(crate) fn find(stream: &str) -> Result<Self, CommandError> {
        let target = resolve(stream)?;
        if target.engine == Engine::File && !Path::new(&target.name).exists() {
            return Err(CommandError::failed(format!(
                "stream `{stream}`: there is no file {}; check the path, or start the writer",
                target.name
            )));
        }
        // A file that is there is opened at once, so its name stays as it was given.
        let as_given = target.given.contains("deadline")
            || target.engine == Engine::File
            || !stream.contains(':');
        let separator = if stream.contains('?') { '&' } else { '?' };
        Ok(Self {
            stream: match as_given {
                true => stream.to_owned(),
                false => format!("{stream}{separator}{LOOK_DEADLINE}"),
            },
        })
    }

    /// Opens the stream at `start`.
    pub(crate) fn open(&self, start: Start) -> Result<Reader, CommandError> {
        let options = ReaderOptions {
            start,
            progress: None,
        };
        Ok(Reader::open(
            &self.stream,
            &mut Solo,
            &panta::registry(),
            &options,
        )?)
    }

    /// The next step, if it is there already.
    pub(crate) fn poll(&self, reader: &mut Reader) -> Result<Option<Step>, NextError> {
        reader.next_step_within(Duration::ZERO)
    }

    /// The step that is meant, with the reader that holds it.
    pub(crate) fn step(&self, choice: StepChoice) -> Result<(Reader, Step), CommandError> {
        let (start, wanted) = match choice {
            StepChoice::First => (Start::Oldest, None),
            StepChoice::Last => (Start::Latest, None),
            StepChoice::Number(number) => (Start::At(number), Some(number)),
        };
        let mut reader = streams::open_to_look(&self.stream, "", || self.open(start))?;
        let found = match self.poll(&mut reader) {
            Ok(found) => found,
            Err(NextError::NotReady { .. } | NextError::Trimmed { .. }) => None,
            // The writer died before this step; what it sealed is still there.
            Err(NextError::WriterLost { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match found {
            Some(step) if wanted.is_none_or(|wanted| wanted == step.head().step) => {
                Ok((reader, step))
            }
            _ => Err(self.not_held(wanted)),
        }
    }

    fn not_held(&self, wanted: Option<u64>) -> CommandError {
        let stream = self.stream.split('?').next().unwrap_or_default();
        let edge = |start: Start| -> Option<u64> {
            let mut reader = self.open(start).ok()?;
            let step = self.poll(&mut reader).ok()??;
            Some(step.head().step)
        };
        let held = match (edge(Start::Oldest), edge(Start::Latest)) {
            (Some(oldest), Some(newest)) => {
                format!("the oldest is {oldest}, the newest {newest}; take one of those")
            }
            _ => "it has no step yet; wait for its writer".to_owned(),
        };
        CommandError::failed(match wanted {
            Some(wanted) => format!("stream `{stream}`: step {wanted} is not held: {held}"),
            None => format!("stream `{stream}`: {held}"),
        })
    }
}

/// What a stream's name stands for.
pub(crate) fn resolve(stream: &str) -> Result<Target, CommandError> {
    let here = std::env::current_dir()
        .map_err(|error| CommandError::failed(format!("the working directory: {error}")))?;
    Ok(config::resolve(
        stream,
        &config::process_environment,
        &here,
    )?)
}
