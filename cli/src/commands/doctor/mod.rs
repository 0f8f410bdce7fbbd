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

use std::io::Write;
use std::process::{Child, Command, Stdio};

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

/// The other side of a trial within this machine; ended with this value.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        // One that has ended already needs no more.
        let _ = self.0.kill();
        let _ = self.0.wait();
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
    let mut other = Other(child);
    let output = other.0.stdout.take().ok_or("it has no output")?;
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)
        .map_err(|error| error.to_string())?;
    let ticket = line.split_whitespace().last();
    let ticket = ticket.ok_or("a second process said nothing and ended")?;
    Ok((other, ticket.parse()?))
}
