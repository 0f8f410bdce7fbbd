//! One thing that was looked at, as a row of the table or an object of JSON.

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::table::{self, Side};

/// How it is with a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is there and works.
    Ok,
    /// It is not there, and much can do without.
    Missing,
    /// It is there, or should be, and does not work.
    Failed,
}

/// A line of what the doctor says.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) what: String,
    pub(super) state: State,
    /// What was found, or why not.
    pub(super) found: String,
    /// What to try; empty where all is well.
    pub(super) remedy: String,
    /// Further figures, for JSON.
    pub(super) figures: Vec<(&'static str, Value)>,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}

impl Line {
    pub(super) fn ok(what: impl Display, found: impl Display) -> Self {
        Self::new(what, State::Ok, found, "")
    }

    pub(super) fn missing(what: impl Display, found: impl Display, remedy: impl Display) -> Self {
        Self::new(what, State::Missing, found, remedy)
    }

    pub(super) fn failed(what: impl Display, found: impl Display, remedy: impl Display) -> Self {
        Self::new(what, State::Failed, found, remedy)
    }

    fn new(what: impl Display, state: State, found: impl Display, remedy: impl Display) -> Self {
        let one_line = |text: String| text.replace('\n', " ");
        Self {
            what: what.to_string(),
            state,
            found: one_line(found.to_string()),
            remedy: one_line(remedy.to_string()),
            figures: Vec::new(),
        }
    }

    fn json(&self) -> Value {
        let mut object = json!({
            "what": self.what,
            "state": self.state.name(),
            "found": self.found,
            "try": self.remedy,
        });
        for (key, value) in &self.figures {
            object[*key] = value.clone();
        }
        object
    }
}

/// Writes lines as a table, or as one JSON object each.
pub(super) fn write(out: &mut dyn Write, lines: &[Line], as_json: bool) -> io::Result<()> {
    if as_json {
        return lines
            .iter()
            .try_for_each(|line| writeln!(out, "{}", line.json()));
    }
    let mut rows = vec![
        ["what", "state", "found", "try"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for line in lines {
        rows.push(vec![
            line.what.clone(),
            line.state.name().to_owned(),
            line.found.clone(),
            line.remedy.clone(),
        ]);
    }
    table::write(out, &[Side::Left; 4], &rows)
}
