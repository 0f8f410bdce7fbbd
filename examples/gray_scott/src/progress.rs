//! Says how far the run is: a bar on a terminal, plain lines elsewhere, and
//! nothing on any rank but the first.
#![allow(
    clippy::print_stdout,
    reason = "a program speaks; only libraries are silent"
)]

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// The run's progress as its user sees it.
pub(crate) enum Progress {
    /// Another rank speaks.
    Silent,
    /// Plain lines.
    Lines,
    /// A bar on a terminal.
    Bar(ProgressBar),
}

impl Progress {
    /// Progress from step `first` to step `last`, told by rank 0.
    pub(crate) fn new(rank: i32, first: u64, last: u64) -> Self {
        if rank != 0 {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines;
        }
        let bar = ProgressBar::new(last);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:40} step {pos}/{len}  {per_sec}  {eta} left  {msg}")
        {
            bar.set_style(style);
        }
        bar.set_position(first);
        Self::Bar(bar)
    }

    /// A step was taken.
    pub(crate) fn step(&self, step: u64) {
        if let Self::Bar(bar) = self {
            bar.set_position(step);
        }
    }

    /// Something worth a line happened.
    pub(crate) fn say(&self, line: &str) {
        match self {
            Self::Silent => {}
            Self::Lines => println!("{line}"),
            Self::Bar(bar) => bar.println(line),
        }
    }

    /// The run is over; the bar stays as it is.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.abandon();
        }
    }
}
