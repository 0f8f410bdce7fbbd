//! Which process: told by host, number and start, since numbers are used again.

use crate::codec::{DecodeError, Decoder, Encoder};

/// The longest description of a host, in bytes.
const MAX_HOST_BYTES: usize = 256;
/// The field of `/proc/PID/stat` that says when a process started, counted
/// from the one after its name, which is the third.
const START_FIELD: usize = 19;

/// A process of some host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// The boot of the host and its namespace of processes; empty if unknown.
    host: String,
    number: u32,
    /// Clock ticks from the host's boot to the process's start.
    started: u64,
}

/// What can be told of a process from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It runs, or is stopped.
    Here,
    /// It has ended.
    Gone,
    /// It is of another host, or this host's system says nothing.
    Unknown,
}

impl Process {
    /// The process that asks.
    pub(super) fn own() -> Self {
        let number = std::process::id();
        Self {
            host: host(),
            number,
            started: start_of(number).unwrap_or(0),
        }
    }

    /// One that has ended.
    #[cfg(test)]
    pub(super) fn ended() -> Self {
        let own = Self::own();
        Self {
            started: own.started + 1,
            ..own
        }
    }

    /// Whether it lives.
    pub(super) fn life(&self) -> Life {
        if self.host.is_empty() || self.started == 0 || self.host != host() {
            return Life::Unknown;
        }
        match start_of(self.number) {
            Some(started) if started == self.started => Life::Here,
            _ => Life::Gone,
        }
    }

    pub(super) fn encode(&self, into: &mut Encoder) {
        into.text(&self.host).u32(self.number).u64(self.started);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let host = from.text()?;
        if host.len() > MAX_HOST_BYTES {
            return Err(from.error(format!("a host of more than {MAX_HOST_BYTES} bytes")));
        }
        Ok(Self {
            host,
            number: from.u32()?,
            started: from.u64()?,
        })
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "process {}", self.number)?;
        if self.life() == Life::Unknown {
            formatter.write_str(" of another host")?;
        }
        Ok(())
    }
}

fn host() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let processes = std::fs::read_link("/proc/self/ns/pid");
    match (boot, processes) {
        (Ok(boot), Ok(processes)) => format!("{} {}", boot.trim(), processes.display()),
        _ => String::new(),
    }
}

/// When a process that is no zombie started.
fn start_of(number: u32) -> Option<u64> {
    let line = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, fields) = line.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(START_FIELD - 1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_lives_until_it_has_ended_and_its_number_alone_does_not_make_it() {
        let own = Process::own();
        assert_eq!(own.life(), Life::Here);
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let other = Process {
            number: child.id(),
            started: start_of(child.id()).unwrap(),
            ..own.clone()
        };
        assert_eq!(other.life(), Life::Here);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(other.life(), Life::Gone);
        assert_eq!(Process::ended().life(), Life::Gone);
        let elsewhere = Process {
            host: "another boot".into(),
            ..own
        };
        assert_eq!(elsewhere.life(), Life::Unknown);
    }
}
