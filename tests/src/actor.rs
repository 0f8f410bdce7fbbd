//! A process that plays one rank: what it said, and its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Lines that are shown of each process when a scenario fails.
const SHOWN_LINES: usize = 4;
/// How long to sleep before asking again whether a process has ended.
const POLL: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    errors: Vec<String>,
    /// Lines that [`Actor::heard`] has given.
    taken: usize,
    /// Standard output has ended.
    silent: bool,
}

type Shared = Arc<(Mutex<Said>, Condvar)>;

/// A process that plays one rank.
#[derive(Debug)]
pub(crate) struct Actor {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    said: Shared,
    status: Option<ExitStatus>,
    killed: bool,
}

impl Actor {
    /// Starts a process; `name` says who it is in failures.
    pub(crate) fn start(name: String, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = Shared::default();
        let output = child.stdout.take().unwrap();
        let errors = child.stderr.take().unwrap();
        listen(output, Arc::clone(&said), |said| &mut said.lines, true);
        listen(errors, Arc::clone(&said), |said| &mut said.errors, false);
        Self {
            name,
            input: child.stdin.take(),
            child,
            said,
            status: None,
            killed: false,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that starts with `wanted` and gives what follows;
    /// lines before it are passed over. An error once the process can say no more.
    pub(crate) fn heard(&self, wanted: &str, deadline: Instant) -> Result<String, String> {
        let (said, changed) = &*self.said;
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some(line) = said.lines.get(said.taken).cloned() {
                said.taken += 1;
                if let Some(rest) = line.strip_prefix(wanted) {
                    return Ok(rest.trim().to_owned());
                }
            }
            if said.silent {
                return Err(format!("{} ended without saying `{wanted}`", self.name));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("{} did not say `{wanted}` in time", self.name));
            }
            let waited = changed.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says a line to the process.
    pub(crate) fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            // One that has ended is found out when its end is looked at.
            let _ = writeln!(input, "{line}");
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.killed |= signal == Signal::KILL;
        if self.status.is_none()
            && let Some(pid) = Pid::from_raw(self.child.id() as i32)
        {
            // One that has ended in between needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for the end; an error unless it ended well or was killed by the test.
    pub(crate) fn ended(&mut self, deadline: Instant) -> Result<(), String> {
        let status = loop {
            if let Some(status) = self.status.or(self.child.try_wait().unwrap()) {
                break status;
            }
            if Instant::now() >= deadline {
                return Err(format!("{} did not end in time", self.name));
            }
            thread::sleep(POLL);
        };
        self.status = Some(status);
        if status.success() || self.killed {
            return Ok(());
        }
        Err(format!("{} failed: {status}", self.name))
    }

    /// Says how it ended, if it has, for one that should not; not if the test killed it.
    pub(crate) fn has_ended(&mut self) -> Option<String> {
        self.status = self.status.or(self.child.try_wait().unwrap());
        let status = self.status.filter(|_| !self.killed)?;
        Some(format!("{} has ended: {status}", self.name))
    }

    /// What it said last, for a failure.
    pub(crate) fn last_words(&self) -> String {
        let said = self.said.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = |lines: &[String], mark: &str| {
            lines[lines.len().saturating_sub(SHOWN_LINES)..]
                .iter()
                .map(|line| format!("\n    {mark} {line}"))
                .collect::<String>()
        };
        let state = match self.status {
            Some(status) => status.to_string(),
            None => "running".to_owned(),
        };
        format!(
            "  {} ({state}){}{}",
            self.name,
            tail(&said.lines, "|"),
            tail(&said.errors, "!")
        )
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if self.status.is_none() {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn listen(
    stream: impl Read + Send + 'static,
    said: Shared,
    lines: fn(&mut Said) -> &mut Vec<String>,
    is_output: bool,
) {
    thread::spawn(move || {
        let (state, changed) = &*said;
        let locked = || state.lock().unwrap_or_else(PoisonError::into_inner);
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines(&mut locked()).push(line);
            changed.notify_all();
        }
        locked().silent |= is_output;
        changed.notify_all();
    });
}
