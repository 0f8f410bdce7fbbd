//! What the user sees of the run: on a terminal a line that lives, with the last step
//! and the rate; otherwise one plain line a step. A stream has no known end, so there
//! is no bar to fill.

#![allow(
    clippy::print_stdout,
    reason = "a program speaks; only libraries are silent"
)]

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the line on a terminal moves while a step is awaited.
const TICK: Duration = Duration::from_millis(100);

/// The run's progress, told by rank 0.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Progress as it suits where standard error goes; `speaks` on the rank that tells.
    pub(crate) fn new(speaks: bool) -> Self {
        if !speaks || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let line = ProgressBar::new_spinner();
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {pos} steps  {per_sec}  {wide_msg}")
        {
            line.set_style(style);
        }
        line.enable_steady_tick(TICK);
        Self(Some(line))
    }

    /// A step was measured and drawn.
    pub(crate) fn step(&self, told: String) {
        match &self.0 {
            Some(line) => {
                line.inc(1);
                line.set_message(told);
            }
            None => println!("{told}"),
        }
    }

    /// The stream has ended; the line stays as it is.
    pub(crate) fn finish(&self, told: &str) {
        if let Some(line) = &self.0 {
            line.abandon();
        }
        println!("{told}");
    }
}
