//! Processes of a measurement: started from this very program, told what to do
//! as JSON, heard through their standard output, ended with their owner.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::{BenchError, Doing};
use crate::role::Role;

/// How long a process may take for what it was asked; a measurement takes seconds.
const DEADLINE: Duration = Duration::from_secs(180);
/// How long a process whose work is done may take to end.
const END_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has ended.
const END_POLL: Duration = Duration::from_millis(2);

/// A process of a measurement; killed when dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts `executable` for a role.
    pub(crate) fn start(
        name: &'static str,
        executable: &Path,
        role: &Role,
    ) -> Result<Self, BenchError> {
        Self::start_within(name, executable, role, &[])
    }

    /// The same with variables of its own in the environment.
    pub(crate) fn start_within(
        name: &'static str,
        executable: &Path,
        role: &Role,
        variables: &[(&str, String)],
    ) -> Result<Self, BenchError> {
        let role = serde_json::to_string(role).doing("describe a role")?;
        let mut child = Command::new(executable)
            .args(["bench-role", &role])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .doing(&format!("start {}", executable.display()))?;
        let (sender, lines) = channel();
        let output = child.stdout.take();
        std::thread::spawn(move || {
            let lines = output
                .into_iter()
                .flat_map(|output| BufReader::new(output).lines());
            // Ends with the process, or when nobody listens any more.
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name, child, lines })
    }

    /// What the process says next.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> Result<T, BenchError> {
        let failed = |why: String| BenchError::Failed {
            doing: format!("hear from the {}", self.name),
            why,
        };
        let line = self
            .lines
            .recv_timeout(DEADLINE)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => failed(format!("no word within {DEADLINE:?}")),
                RecvTimeoutError::Disconnected => failed("it ended; its error is above".into()),
            })?;
        serde_json::from_str(&line).map_err(|error| failed(error.to_string()))
    }

    /// Lets the process go on.
    pub(crate) fn tell(&mut self) -> Result<(), BenchError> {
        let input = self
            .child
            .stdin
            .as_mut()
            .map(|input| writeln!(input, "go on"));
        input
            .unwrap_or(Ok(()))
            .doing(&format!("tell the {}", self.name))
    }

    /// Asks a server or relay for its counts.
    pub(crate) fn ask(&mut self) -> Result<crate::server::Counts, BenchError> {
        self.tell()?;
        self.hear()
    }

    /// Lets the process end, and waits for it.
    pub(crate) fn finish(mut self) -> Result<(), BenchError> {
        drop(self.child.stdin.take());
        let begin = panta_transports::time::Time::now();
        loop {
            let ended = self
                .child
                .try_wait()
                .doing(&format!("end the {}", self.name))?;
            let elapsed = panta_transports::time::Time::now().since(begin);
            match ended {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(BenchError::Failed {
                        doing: format!("end the {}", self.name),
                        why: status.to_string(),
                    });
                }
                None if elapsed > END_DEADLINE => {
                    return Err(BenchError::Failed {
                        doing: format!("end the {}", self.name),
                        why: format!("it still ran after {END_DEADLINE:?}"),
                    });
                }
                None => std::thread::sleep(END_POLL),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says something to the process that started this one.
pub(crate) fn say(word: &impl serde::Serialize) -> Result<(), BenchError> {
    let line = serde_json::to_string(word).doing("say what was measured")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").doing("say what was measured")?;
    out.flush().doing("say what was measured")
}

/// Waits for a word of the process that started this one; `false` when it is gone or
/// lets this one end.
pub(crate) fn wait_for_word() -> bool {
    let mut line = String::new();
    matches!(std::io::stdin().lock().read_line(&mut line), Ok(length) if length > 0)
}

/// The proportional set size of this process; 0 where the system does not tell.
pub(crate) fn pss_bytes() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let kib = rollup.lines().find_map(|line| {
        let rest = line.strip_prefix("Pss:")?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    kib.unwrap_or(0) * 1024
}
