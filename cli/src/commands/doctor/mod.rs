//! `panta doctor`: what this machine has, and a small transfer over each
//! transport, within the machine or between two.
//!
//! ```text
//!   panta doctor              panta doctor --serve (a process of its own)
//!     machine, software         an endpoint with 16 MiB, every provider of libfabric
//!     trial ------ticket------> prints it
//!       shm, tcp: read ------>  each byte compared, the best of some rounds
//!       rdma:     read ------>  over each provider that both have
//! ```
//!
//! Ends with 1 where a line is `failed`; what is only missing is no failure.

mod line;
mod machine;
mod pattern;
mod service;
mod software;
mod ticket;
mod trial;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::arguments::DoctorArguments;
use crate::error::CommandError;
use line::{Line, State};
use ticket::DoctorTicket;

/// Runs the command.
pub(crate) fn run(arguments: &DoctorArguments) -> Result<(), CommandError> {
    if arguments.serve {
        return service::run(&arguments.interface, arguments.wait);
    }
    let lines = match &arguments.connect {
        Some(ticket) => trial::lines(&ticket.parse().map_err(CommandError::Usage)?, false),
        None => {
            let mut lines = machine::lines();
            lines.extend(software::lines());
            lines.extend(within());
            lines
        }
    };
    let mut out = std::io::stdout().lock();
    line::write(&mut out, &lines, arguments.json)?;
    out.flush()?;
    let failed: Vec<&Line> = lines
        .iter()
        .filter(|line| line.state == State::Failed)
        .collect();
    match failed.as_slice() {
        [] => Ok(()),
        failed => {
            let names: Vec<&str> = failed.iter().map(|line| line.what.as_str()).collect();
            Err(CommandError::failed(format!(
                "{} of {} lines failed: {}",
                failed.len(),
                lines.len(),
                names.join(", ")
            )))
        }
    }
}

/// How long the other side may take to end by itself, which leaves nothing behind.
const END_LIMIT: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// The other side of a trial within this machine; ended with this value.
struct Other {
    child: Child,
    /// Comes to its end when the process does.
    output: Option<ChildStdout>,
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Some(output) = &self.output {
            // However long that took, it is over then.
            let _ = poll(&mut [PollFd::new(output, PollFlags::IN)], Some(&END_LIMIT));
        }
        // One that has ended already needs no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Trials with another process of this machine.
fn within() -> Vec<Line> {
    match start_other() {
        Ok((_other, ticket)) => trial::lines(&ticket, true),
        Err(why) => vec![Line::failed(
            "transports",
            why,
            "run `panta doctor --serve` to see",
        )],
    }
}

fn start_other() -> Result<(Other, DoctorTicket), String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let child = Command::new(executable)
        .args(["doctor", "--serve", "--wait", "2min"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("a second process cannot be started: {error}"))?;
    let mut other = Other {
        child,
        output: None,
    };
    let mut output = BufReader::new(other.child.stdout.take().ok_or("it has no output")?);
    let mut line = String::new();
    let read = output.read_line(&mut line);
    read.map_err(|error| error.to_string())?;
    other.output = Some(output.into_inner());
    let ticket = line.split_whitespace().last();
    let ticket = ticket.ok_or("a second process said nothing and ended")?;
    Ok((other, ticket.parse()?))
}
