//! A group whose ranks are processes that share a directory on one host.
//!
//! ```text
//! PANTA_RANK=2 PANTA_SIZE=4 PANTA_RENDEZVOUS=/run/user/1000/run42  ./simulation
//! ```
//!
//! Rank 0 puts a Unix socket into the directory, whole or not at all: it is
//! made under a name of its own and then renamed. The others connect to it,
//! whichever order the ranks start in. The links stay open between
//! allgathers, so a rank that dies is noticed at once.
//!
//! It does not: reach other hosts, or tell two runs in one directory apart;
//! each run has a directory to itself.

use super::{Comm, CommError};
use crate::tree::{Fields, Group, Link, LocalStream, Operation, TreeError, put_bytes, sleep_on};
use panta_transports::random;
use panta_transports::time::{Wait, WaitError};
use rustix::net::sockopt::socket_peercred;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The variable that holds a process's rank.
pub const RANK_VARIABLE: &str = "PANTA_RANK";
/// The variable that holds the number of ranks.
pub const SIZE_VARIABLE: &str = "PANTA_SIZE";
/// The variable that holds the directory in which the ranks meet.
pub const RENDEZVOUS_VARIABLE: &str = "PANTA_RENDEZVOUS";

/// What a rank sends first: these four letters, size and rank.
const HELLO: [u8; 4] = *b"PRK1";
const HELLO_BYTES: usize = 12;
/// How long a process that has connected may take to say who it is.
const HELLO_LIMIT: Duration = Duration::from_secs(2);
/// How long a rank waits before it looks for the socket of rank 0 again.
const RETRY: Duration = Duration::from_millis(5);

/// One rank of a group of processes.
///
/// The n-th `Procs` that a process makes meets the n-th of the others, so
/// ranks make theirs in the same order.
#[derive(Debug)]
pub struct Procs {
    rank: usize,
    size: usize,
    rendezvous: PathBuf,
    /// The name of the socket.
    socket: String,
    /// Linked at the first allgather: a star around rank 0.
    group: Option<Group>,
    failure: Option<CommError>,
}

impl Procs {
    /// This process's place in its group, from the environment.
    ///
    /// # Errors
    /// [`CommError::Environment`] if a variable is missing or wrong.
    pub fn from_environment() -> Result<Self, CommError> {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, CommError> {
        static GROUPS: AtomicU64 = AtomicU64::new(0);
        let wrong = |name: &'static str, reason: &str| CommError::Environment {
            variable: name,
            reason: reason.to_owned(),
        };
        let get = |name: &'static str, what: &str| {
            variable(name).ok_or_else(|| wrong(name, &format!("not set; it is {what}")))
        };
        let number = |name: &'static str, what: &str| {
            let text = get(name, what)?;
            let number = text.parse::<u32>();
            number.map_err(|_| wrong(name, &format!("`{text}` is not {what}")))
        };
        let rank = number(RANK_VARIABLE, "this process's rank, from 0")?;
        let size = number(SIZE_VARIABLE, "the number of ranks, from 1")?;
        if rank >= size {
            let reason = format!("{rank} is not below {SIZE_VARIABLE}, {size}");
            return Err(wrong(RANK_VARIABLE, &reason));
        }
        let what = "a directory that the ranks of this run share";
        let rendezvous = PathBuf::from(get(RENDEZVOUS_VARIABLE, what)?);
        if !rendezvous.is_dir() {
            let reason = format!("{} is not {what}", rendezvous.display());
            return Err(wrong(RENDEZVOUS_VARIABLE, &reason));
        }
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            rank: rank as usize,
            size: size as usize,
            rendezvous,
            socket: format!("group-{number}.socket"),
            group: None,
            failure: None,
        })
    }

    /// Rank 0: waits for the others to connect.
    fn gather_ranks(&self, wait: &Wait) -> Result<Group, CommError> {
        let refused = |error: io::Error| self.refused("making the socket of the group", &error);
        let (listener, socket) = self.listen().map_err(refused)?;
        let mut links: BTreeMap<usize, Link> = BTreeMap::new();
        let outcome = loop {
            if links.len() + 1 == self.size {
                break Ok(());
            }
            // Whoever has come and gone is lost, though others are missing.
            links.values_mut().for_each(Link::pump_in);
            if let Some((rank, _)) = links.iter().find(|(_, link)| link.end.is_some()) {
                break Err(CommError::RankLost { rank: *rank });
            }
            let slice = match wait.slice() {
                Ok(slice) => slice,
                Err(error) => {
                    let missing = (1..self.size).filter(|it| !links.contains_key(it));
                    break Err(CommError::from_wait(error, missing.collect()));
                }
            };
            // Cut short, it is called again.
            let _woken = sleep_on([&listener], slice);
            if let Some((rank, link)) = self.accept(&listener) {
                links.entry(rank).or_insert(link);
            }
        };
        // Nobody else is expected; a name that is gone already is gone.
        let _removed = fs::remove_file(socket);
        let mut group = Group::new((0, self.size), None, links.into_values().collect());
        match outcome {
            Ok(()) => Ok(group),
            Err(error) => {
                group.refuse(to_tree_error(&error), wait);
                Err(error)
            }
        }
    }

    /// Makes the socket under a name of its own, then gives it the name that
    /// the others look for, over a dead one that a killed run left.
    fn listen(&self) -> io::Result<(UnixListener, PathBuf)> {
        let directory = File::open(&self.rendezvous)?;
        let draft = format!(
            "{}.{:016x}",
            self.socket,
            random::number().map_err(io::Error::other)?
        );
        let listener = UnixListener::bind(short_path(&directory, &draft))?;
        listener.set_nonblocking(true)?;
        let socket = self.rendezvous.join(&self.socket);
        fs::rename(self.rendezvous.join(draft), &socket)?;
        Ok((listener, socket))
    }

    /// A connection of a rank of this group and this user.
    fn accept(&self, listener: &UnixListener) -> Option<(usize, Link)> {
        let (mut stream, _) = listener.accept().ok()?;
        let credentials = socket_peercred(&stream).ok()?;
        if credentials.uid != rustix::process::geteuid() {
            return None;
        }
        stream.set_nonblocking(false).ok()?;
        stream.set_read_timeout(Some(HELLO_LIMIT)).ok()?;
        let mut hello = [0; HELLO_BYTES];
        stream.read_exact(&mut hello).ok()?;
        let mut fields = Fields(&hello);
        let is_ours = fields.array() == Ok(HELLO) && fields.u32() == Ok(self.size as u32);
        let rank = fields.u32().ok()? as usize;
        if !is_ours || rank == 0 || rank >= self.size {
            return None;
        }
        let stream = LocalStream::new(stream).ok()?;
        Some((rank, Link::new(rank, Box::new(stream))))
    }

    /// Any other rank: looks for rank 0 until it is there.
    fn join_ranks(&self, wait: &Wait) -> Result<Group, CommError> {
        let refused = |error: io::Error| self.refused("connecting to rank 0", &error);
        let directory = File::open(&self.rendezvous).map_err(refused)?;
        let path = short_path(&directory, &self.socket);
        let stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) if is_not_there_yet(&error) => {}
                Err(error) => return Err(refused(error)),
            }
            let slice = wait
                .slice()
                .map_err(|error| CommError::from_wait(error, vec![0]))?;
            // Cut short, it looks again the sooner.
            let _woken = sleep_on::<File>([], slice.min(RETRY));
        };
        let hello = [
            HELLO,
            (self.size as u32).to_le_bytes(),
            (self.rank as u32).to_le_bytes(),
        ];
        (&stream).write_all(&hello.concat()).map_err(refused)?;
        let stream = LocalStream::new(stream).map_err(refused)?;
        let parent = Link::new(0, Box::new(stream));
        Ok(Group::new((self.rank, self.size), Some(parent), Vec::new()))
    }

    fn refused(&self, action: &str, error: &io::Error) -> CommError {
        CommError::System {
            action: format!("{action} in {}", self.rendezvous.display()),
            reason: error.to_string(),
        }
    }

    fn exchange(&mut self, bytes: &[u8], wait: &Wait) -> Result<Vec<Vec<u8>>, CommError> {
        let mut group = match self.group.take() {
            Some(group) => group,
            None if self.rank == 0 => self.gather_ranks(wait)?,
            None => self.join_ranks(wait)?,
        };
        let local = Ok(bytes.to_vec());
        let all = group.agree(Operation::Agree, local, join_parts, wait);
        self.group = Some(group);
        split_parts(&all.map_err(to_comm_error)?, self.size)
    }
}

impl Comm for Procs {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn allgather(&mut self, bytes: &[u8], wait: &Wait) -> Result<Vec<Vec<u8>>, CommError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let result = self.exchange(bytes, wait);
        self.failure = result.as_ref().err().cloned();
        result
    }
}

/// A path to a name in an open directory, short enough for the address of a
/// Unix socket however long the directory's own path is.
fn short_path(directory: &File, name: &str) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name)
}

/// Rank 0 has not come so far, or a killed run left its socket.
fn is_not_there_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
    )
}

fn join_parts(said: Vec<Result<Vec<u8>, crate::tree::Failure>>) -> Vec<u8> {
    let mut all = Vec::new();
    for part in said {
        put_bytes(&mut all, &part.unwrap_or_default());
    }
    all
}

fn split_parts(all: &[u8], size: usize) -> Result<Vec<Vec<u8>>, CommError> {
    let mut fields = Fields(all);
    let parts = (0..size).map(|_| fields.bytes().map(<[u8]>::to_vec));
    let parts: Result<Vec<Vec<u8>>, String> = parts.collect();
    parts.map_err(|reason| CommError::Disagree { reason })
}

fn to_comm_error(error: TreeError) -> CommError {
    match error {
        TreeError::RankLost { rank, .. } => CommError::RankLost { rank },
        TreeError::Deadline {
            awaiting, after, ..
        } => CommError::from_wait(WaitError::Deadline(after), awaiting),
        TreeError::Interrupted { .. } => CommError::Interrupted,
        TreeError::Open(error) => error,
        other => CommError::Disagree {
            reason: other.to_string(),
        },
    }
}

fn to_tree_error(error: &CommError) -> TreeError {
    match error {
        CommError::RankLost { rank } => TreeError::RankLost {
            rank: *rank,
            noticed_by: 0,
        },
        CommError::Deadline { awaiting, after } => TreeError::Deadline {
            awaiting: awaiting.clone(),
            after: *after,
            noticed_by: 0,
        },
        CommError::Interrupted => TreeError::Interrupted { rank: 0 },
        other => TreeError::Open(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use std::thread;

    /// The ranks of one group, here as threads that only share the directory.
    fn group(directory: &Path, size: usize) -> Vec<Procs> {
        let rank = |rank| Procs {
            rank,
            size,
            rendezvous: directory.to_owned(),
            socket: "group-0.socket".to_owned(),
            group: None,
            failure: None,
        };
        (0..size).map(rank).collect()
    }

    fn wait() -> Wait {
        Wait::for_at_most(Duration::from_secs(60))
    }

    #[test]
    fn repeated_allgathers_are_in_rank_order_also_in_a_directory_with_a_long_path() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("d".repeat(200));
        fs::create_dir(&long).unwrap();
        // A socket that nobody listens on any more, as a killed run leaves.
        let stale = File::open(&long).unwrap();
        drop(UnixListener::bind(short_path(&stale, "group-0.socket")).unwrap());
        thread::scope(|scope| {
            for mut rank in group(&long, 5).into_iter().rev() {
                scope.spawn(move || {
                    for round in 0..10 {
                        let text = |rank| format!("{round} of {rank}").into_bytes();
                        let all = rank.allgather(&text(rank.rank), &wait()).unwrap();
                        assert_eq!(all, (0..5).map(text).collect::<Vec<_>>());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(&long).unwrap().count(), 0);
    }

    #[test]
    fn a_deadline_names_the_ranks_that_did_not_come() {
        let directory = tempfile::tempdir().unwrap();
        let mut ranks = group(directory.path(), 3);
        let short = Wait::for_at_most(Duration::from_millis(20));
        let expected = |awaiting| CommError::Deadline {
            awaiting,
            after: Duration::from_millis(20),
        };
        assert_eq!(ranks[1].allgather(b"", &short), Err(expected(vec![0])));
        let result = ranks[0].allgather(b"", &Wait::for_at_most(Duration::from_millis(20)));
        assert_eq!(result, Err(expected(vec![1, 2])));
        assert_eq!(ranks[0].allgather(b"", &wait()), Err(expected(vec![1, 2])));
    }

    #[test]
    fn a_rank_that_leaves_ends_the_wait_for_others_and_everybody_hears_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let mut ranks = group(directory.path(), 4).into_iter();
        let (mut zero, mut one) = (ranks.next().unwrap(), ranks.next().unwrap());
        let two = ranks.next().unwrap();
        // Rank 3 never comes; rank 2 comes and goes.
        let zero = thread::spawn(move || zero.allgather(b"", &wait()));
        one.group = Some(one.join_ranks(&wait()).unwrap());
        drop(two.join_ranks(&wait()).unwrap());
        let lost = Err(CommError::RankLost { rank: 2 });
        assert_eq!(one.allgather(b"", &wait()), lost);
        assert_eq!(zero.join().unwrap(), lost);
    }

    #[test]
    fn variables_that_are_missing_or_wrong_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap().to_owned();
        let variables = [("PANTA_RANK", "4"), ("PANTA_SIZE", "4")];
        let with = |changes: &[(&str, &str)]| {
            let mut all = BTreeMap::from(variables.map(|(k, v)| (k.to_owned(), v.to_owned())));
            all.insert(RENDEZVOUS_VARIABLE.to_owned(), path.clone());
            for (name, value) in changes {
                all.insert((*name).to_owned(), (*value).to_owned());
            }
            all.retain(|_, value| value != "unset");
            match Procs::from_variables(&|name| all.get(name).cloned()) {
                Err(CommError::Environment { variable, .. }) => variable,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(with(&[]), RANK_VARIABLE);
        assert_eq!(with(&[(RANK_VARIABLE, "two")]), RANK_VARIABLE);
        assert_eq!(with(&[(RANK_VARIABLE, "unset")]), RANK_VARIABLE);
        assert_eq!(with(&[(SIZE_VARIABLE, "-1")]), SIZE_VARIABLE);
        let nowhere = [(RANK_VARIABLE, "0"), (RENDEZVOUS_VARIABLE, "/nowhere")];
        assert_eq!(with(&nowhere), RENDEZVOUS_VARIABLE);
    }
}
