//! The control tree between processes that are killed and stopped.
//!
//! A test starts this very program again, once for each rank, with the name
//! of a play in the environment; `child` is what those processes run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use panta_core::comm::{Comm, Procs, RANK_VARIABLE, RENDEZVOUS_VARIABLE, SIZE_VARIABLE};
use panta_core::tree::{ControlTree, TreeError, TreeOptions};
use panta_transports::time::{Time, Wait};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

const PLAY_VARIABLE: &str = "PANTA_TEST_PLAY";
const VICTIM_VARIABLE: &str = "PANTA_TEST_VICTIM";

/// What a call may take in a play about death; none should come near.
const LONG: Duration = Duration::from_secs(120);
/// What a call may take in a play about silence.
const SHORT: Duration = Duration::from_secs(2);
/// Far below [`LONG`]: what survivors may take to notice a death.
const AT_ONCE: Duration = Duration::from_secs(30);

/// With a fan-out of 2: 0 is the root, 1 and 2 are inner, 3 to 6 leaves.
const SIZE: usize = 7;

fn say(line: &str) {
    // Starts a line, since libtest may have begun one.
    println!("\nchild:{line}");
    std::io::stdout().flush().unwrap();
}

/// One rank of a play; does nothing unless started as one.
#[test]
fn child() {
    let Ok(play) = std::env::var(PLAY_VARIABLE) else {
        return;
    };
    let victim: usize = std::env::var(VICTIM_VARIABLE).unwrap().parse().unwrap();
    let mut comm = Procs::from_environment().unwrap();
    let options = TreeOptions {
        fan_out: 2,
        ..TreeOptions::default()
    };
    let opening = Wait::for_at_most(LONG);
    let mut tree = ControlTree::connect(&mut comm, &options, &opening).unwrap();
    let is_victim = comm.rank() == victim;
    drop(comm);
    let limit = if play == "stopped" { SHORT } else { LONG };
    say("ready");
    if play == "absent" && is_victim {
        // Never takes part; the test kills it while the others wait.
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        return;
    }
    let mut decisions: u64 = 0;
    let error = loop {
        let local = Ok(decisions.to_le_bytes().to_vec());
        let decide = |said: Vec<Result<Vec<u8>, _>>| said[SIZE - 1].clone().unwrap();
        match tree.agree(local, decide, &Wait::for_at_most(limit)) {
            Ok(bytes) => assert_eq!(bytes, decisions.to_le_bytes()),
            Err(error) => break error,
        }
        decisions += 1;
        if decisions == 20 {
            say("going");
        }
    };
    let line = match error {
        TreeError::RankLost { rank, .. } => format!("lost {rank}"),
        TreeError::Deadline { awaiting, .. } => format!("deadline {awaiting:?}"),
        other => format!("other {other}"),
    };
    say(&format!("{decisions} {line}"));
}

/// The processes of a play; those that are left are killed at the end.
struct Play {
    children: Vec<Child>,
    /// Kept open: a victim that is to stay absent waits for its end.
    _inputs: Vec<ChildStdin>,
    /// Of each rank: one may be ahead of what was read of another.
    lines: Vec<Receiver<String>>,
    _directory: tempfile::TempDir,
}

impl Play {
    fn start(play: &str, victim: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (mut children, mut inputs, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        // The root comes last: any order will do.
        for rank in (0..SIZE).rev() {
            let mut child = command(play, victim, rank, directory.path())
                .spawn()
                .unwrap();
            inputs.push(child.stdin.take().unwrap());
            let output = BufReader::new(child.stdout.take().unwrap());
            let (sender, said) = channel();
            lines.push(said);
            thread::spawn(move || {
                for line in output.lines().map_while(Result::ok) {
                    if let Some(line) = line.strip_prefix("child:")
                        && sender.send(line.to_owned()).is_err()
                    {
                        return;
                    }
                }
            });
            children.push(child);
        }
        children.reverse();
        lines.reverse();
        Self {
            children,
            _inputs: inputs,
            lines,
            _directory: directory,
        }
    }

    /// The next line of each of these ranks.
    fn lines_of(&self, ranks: &[usize]) -> BTreeMap<usize, String> {
        let start = Time::now();
        let next = |&rank: &usize| {
            let left = LONG.saturating_sub(Time::now().since(start));
            let line = self.lines[rank].recv_timeout(left);
            (rank, line.expect("a rank is silent"))
        };
        ranks.iter().map(next).collect()
    }

    fn signal(&self, rank: usize, signal: Signal) {
        kill_process(Pid::from_child(&self.children[rank]), signal).unwrap();
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _already_gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn command(play: &str, victim: usize, rank: usize, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(PLAY_VARIABLE, play)
        .env(VICTIM_VARIABLE, victim.to_string())
        .env(RANK_VARIABLE, rank.to_string())
        .env(SIZE_VARIABLE, SIZE.to_string())
        .env(RENDEZVOUS_VARIABLE, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

fn all() -> Vec<usize> {
    (0..SIZE).collect()
}

fn all_but(victim: usize) -> Vec<usize> {
    (0..SIZE).filter(|rank| *rank != victim).collect()
}

/// Checks what survivors said: how each ended, and that no two differ by more
/// than the one decision that may have been on its way.
fn check(said: &BTreeMap<usize, String>, expected: &str) {
    let mut decisions = Vec::new();
    for (rank, line) in said {
        let (count, error) = line.split_once(' ').unwrap();
        assert_eq!(error, expected, "rank {rank}: {said:?}");
        decisions.push(count.parse::<u64>().unwrap());
    }
    let (least, most) = (decisions.iter().min(), decisions.iter().max());
    assert!(most.unwrap() - least.unwrap() <= 1, "{said:?}");
}

#[test]
fn a_rank_killed_before_it_comes_is_named_by_all_the_others_at_once() {
    for victim in [0, 1, 5] {
        let play = Play::start("absent", victim);
        play.lines_of(&all());
        let start = Time::now();
        play.signal(victim, Signal::KILL);
        let said = play.lines_of(&all_but(victim));
        assert!(Time::now().since(start) < AT_ONCE);
        check(&said, &format!("lost {victim}"));
    }
}

#[test]
fn a_rank_killed_amid_collectives_is_named_by_all_the_others_at_once() {
    for victim in [0, 2, 6] {
        let play = Play::start("running", victim);
        play.lines_of(&all());
        play.lines_of(&all());
        let start = Time::now();
        play.signal(victim, Signal::KILL);
        let said = play.lines_of(&all_but(victim));
        assert!(Time::now().since(start) < AT_ONCE);
        check(&said, &format!("lost {victim}"));
    }
}

#[test]
fn a_stopped_rank_is_named_by_the_deadline_of_all_the_others() {
    for victim in [0, 1, 3] {
        let play = Play::start("stopped", victim);
        play.lines_of(&all());
        play.lines_of(&all());
        play.signal(victim, Signal::STOP);
        let said = play.lines_of(&all_but(victim));
        check(&said, &format!("deadline [{victim}]"));
    }
}
