//! Where a scenario is played: an engine, a directory, processes, a deadline.
//!
//! A stage starts sides (groups of ranks), hears what they say, stops and kills
//! them one by one. When it goes, so do they.

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use panta::{ThreadComm, Threads};
use panta_transports::channel::Key;
use rustix::process::Signal;

use crate::actor::Actor;
use crate::fabric;
use crate::part::{Part, Role, THREAD_GROUPS};
use crate::scenario;

/// How long a scenario may take.
const SCENARIO_DEADLINE: Duration = Duration::from_secs(90);
/// The deadline of the waits within, unless a scenario gives another.
const CALL_DEADLINE: &str = "deadline=40s";

/// A column of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `file:`, followed live.
    File,
    /// `staging:` with this many servers.
    Staging(usize),
    /// `stream:` over this transport.
    Stream(&'static str),
}

impl Engine {
    /// `stream:` whose sides meet at an address, by the file `key`, and not by a contact
    /// file.
    pub const MEETING: Self = Self::Stream("at an address");
}

/// A group of ranks that a stage started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Side(usize);

/// Where a scenario is played.
#[derive(Debug)]
pub struct Stage {
    /// What carries the streams.
    pub engine: Engine,
    program: PathBuf,
    directory: tempfile::TempDir,
    deadline: Instant,
    sides: Vec<Vec<Actor>>,
    servers: Option<Servers>,
    /// Of streams that meet at an address, by their names.
    ports: Mutex<BTreeMap<String, u16>>,
}

/// The staging servers of a stage.
#[derive(Debug)]
struct Servers {
    side: Side,
    names: String,
    key: PathBuf,
}

/// Arguments of a role, as `&[("steps", 10)]`.
pub type Arguments<'a> = &'a [(&'a str, u64)];

/// A port that nobody listens on. Below those that the system gives to
/// connections, so that none takes it before a server does.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(61);
    loop {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (next % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn owned(arguments: Arguments<'_>) -> BTreeMap<String, String> {
    arguments
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.to_string()))
        .collect()
}

impl Stage {
    /// A stage for one scenario; `program` is `panta-scenario`.
    #[must_use]
    pub fn new(engine: Engine, program: &str) -> Self {
        let mut stage = Self {
            engine,
            program: program.into(),
            directory: tempfile::tempdir().unwrap(),
            deadline: Instant::now() + SCENARIO_DEADLINE,
            sides: Vec::new(),
            servers: None,
            ports: Mutex::default(),
        };
        if engine == Engine::MEETING {
            Key::load_or_create(&stage.directory().join("key")).unwrap();
        }
        if let Engine::Staging(servers) = engine {
            stage.start_servers(servers);
        }
        stage
    }

    fn start_servers(&mut self, count: usize) {
        let names: Vec<_> = (0..count)
            .map(|_| format!("127.0.0.1:{}", free_port()))
            .collect();
        let (names, key) = (names.join(","), self.directory().join("key"));
        let place = format!("{names} {}", key.display());
        let side = self.start("servers::serve", count, &place, &[]);
        self.all_heard(side, "serving");
        self.servers = Some(Servers { side, names, key });
    }

    /// The side that the staging servers are.
    ///
    /// # Panics
    /// Where there are none.
    #[must_use]
    pub fn servers(&self) -> Side {
        self.servers.as_ref().expect("staging servers").side
    }

    /// Where the staging servers listen.
    ///
    /// # Panics
    /// Where there are none.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let servers = self.servers.as_ref().expect("staging servers");
        servers.names.split(',').map(str::to_owned).collect()
    }

    /// A directory of the scenario's own.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The URL of the stream called `name`.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        self.url_with(name, "")
    }

    /// The same with parameters, as `deadline=2s&checked=true`.
    #[must_use]
    pub fn url_with(&self, name: &str, query: &str) -> String {
        let deadline = if query.contains("deadline=") {
            ""
        } else {
            CALL_DEADLINE
        };
        let query = [query, deadline].into_iter().filter(|it| !it.is_empty());
        let query = query.collect::<Vec<_>>().join("&");
        match self.engine {
            Engine::File => format!("file:{}?{query}", self.file(name).display()),
            Engine::MEETING => {
                let key = self.directory().join("key");
                let address = self.address(name);
                format!("stream:{name}@{address}?key={}&{query}", key.display())
            }
            Engine::Stream(transport) => {
                let contact = self.directory().join(format!("{name}.panta-contact"));
                let contact = contact.display();
                let fabric = match transport {
                    "rdma" => format!("&fabric={}", fabric::PROVIDER),
                    _ => String::new(),
                };
                format!("stream:{name}?contact={contact}&transport={transport}{fabric}&{query}")
            }
            Engine::Staging(_) => {
                let Servers { names, key, .. } = self.servers.as_ref().expect("staging servers");
                format!("staging:{name}@{names}?key={}&{query}", key.display())
            }
        }
    }

    /// Where the sides of the stream called `name` meet.
    fn address(&self, name: &str) -> String {
        let mut ports = self.ports.lock().unwrap();
        let port = *ports.entry(name.to_owned()).or_insert_with(free_port);
        format!("127.0.0.1:{port}")
    }

    /// The parameters under which an engine keeps every step for late readers.
    #[must_use]
    pub fn keep_all(&self) -> &'static str {
        match self.engine {
            Engine::File => "",
            Engine::Staging(_) | Engine::Stream(_) => "retain_steps=5000",
        }
    }

    /// The parameters under which a writer starts without waiting for a reader.
    #[must_use]
    pub fn alone(&self) -> &'static str {
        match self.engine {
            Engine::File | Engine::Staging(_) => "",
            Engine::Stream(_) => "rendezvous=0",
        }
    }

    /// Both: a writer that starts alone, and keeps every step.
    #[must_use]
    pub fn keep_all_alone(&self) -> &'static str {
        match self.engine {
            Engine::File => "",
            Engine::Staging(_) => "retain_steps=5000",
            Engine::Stream(_) => "retain_steps=5000&rendezvous=0",
        }
    }

    /// The parameters under which a writer of so many ranks has room for three
    /// steps of the shape that most scenarios use.
    #[must_use]
    pub fn room_for_three(&self, ranks: u64) -> String {
        match self.engine {
            Engine::File | Engine::Staging(_) => "retain_steps=3".into(),
            // A step takes 1 KiB, or a little more than half of it on each of two ranks.
            Engine::Stream(_) => format!("limit={}", 3500 / ranks + 150 * (ranks - 1)),
        }
    }

    /// Whether the steps of a writer that has closed or died can still be read.
    #[must_use]
    pub fn outlives_its_writer(&self) -> bool {
        !matches!(self.engine, Engine::Stream(_))
    }

    /// Where `file:` keeps the stream called `name`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory().join(format!("{name}.panta"))
    }

    /// More time than usual, for scenarios that are long by themselves.
    pub fn extend(&mut self, by: Duration) {
        self.deadline += by;
    }

    /// Starts `size` processes that play `role` (as `layouts::types_writer`) together.
    #[track_caller]
    pub fn start(&mut self, role: &str, size: usize, url: &str, arguments: Arguments<'_>) -> Side {
        self.start_on(&vec![Vec::new(); size], role, url, arguments)
    }

    /// The same with, for each rank, the words its program is started with: those of a
    /// [host](crate::hosts::Hosts::prefix).
    #[track_caller]
    pub fn start_on(
        &mut self,
        hosts: &[Vec<String>],
        role: &str,
        url: &str,
        arguments: Arguments<'_>,
    ) -> Side {
        let (module, function) = role.split_once("::").expect("module::role");
        assert!(
            scenario::find(module, function).is_some(),
            "no role `{role}`"
        );
        let program = self.program.to_str().unwrap().to_owned();
        let mut words = [&program, module, function, url]
            .map(str::to_owned)
            .to_vec();
        let arguments = owned(arguments);
        words.extend(
            arguments
                .iter()
                .map(|(key, value)| format!("{key}={value}")),
        );
        let ranks = hosts.iter().map(|host| [host.as_slice(), &words].concat());
        self.launch(role, ranks.collect(), None)
    }

    /// Starts `size` processes of any program, as `["python3", "reader.py"]`, which find
    /// their group in the environment, with one variable more where it is given.
    #[track_caller]
    pub fn start_words(
        &mut self,
        words: &[String],
        size: usize,
        variable: Option<(&str, &str)>,
    ) -> Side {
        self.launch(&words[..2].join(" "), vec![words.to_vec(); size], variable)
    }

    /// Starts a group of which each rank is a program with its arguments.
    #[track_caller]
    fn launch(
        &mut self,
        name: &str,
        ranks: Vec<Vec<String>>,
        variable: Option<(&str, &str)>,
    ) -> Side {
        let size = ranks.len();
        let side = Side(self.sides.len());
        let rendezvous = self.directory().join(format!("side-{}", side.0));
        std::fs::create_dir(&rendezvous).unwrap();
        let mut group = 0;
        let mut actors = Vec::with_capacity(size);
        for (rank, words) in ranks.iter().enumerate() {
            let mut command = Command::new(&words[0]);
            command
                .args(&words[1..])
                .envs(variable)
                .env("PANTA_RANK", rank.to_string())
                .env("PANTA_SIZE", size.to_string())
                .env("PANTA_RENDEZVOUS", &rendezvous)
                .env("RUST_BACKTRACE", "0")
                .env_remove("PANTA_CONFIG")
                .envs(fabric::variables(&self.program))
                .current_dir(self.directory())
                .process_group(group);
            let actor = Actor::start(format!("{name}, rank {rank} of {size}"), command);
            if group == 0 {
                group = actor.pid() as i32;
            }
            actors.push(actor);
        }
        self.sides.push(actors);
        side
    }

    /// Waits until a rank says a line that starts with `wanted`; gives the rest of it.
    #[track_caller]
    pub fn heard(&self, side: Side, rank: usize, wanted: &str) -> String {
        let heard = self.sides[side.0][rank].heard(wanted, self.deadline);
        heard.unwrap_or_else(|problem| self.fail(&problem))
    }

    /// Waits until every rank of a side says it; gives the rests.
    #[track_caller]
    pub fn all_heard(&self, side: Side, wanted: &str) -> Vec<String> {
        let ranks = 0..self.sides[side.0].len();
        ranks.map(|rank| self.heard(side, rank, wanted)).collect()
    }

    /// Says a line to a rank.
    pub fn tell(&mut self, side: Side, rank: usize, line: &str) {
        self.sides[side.0][rank].tell(line);
    }

    /// Says a line to every rank of a side.
    pub fn tell_all(&mut self, side: Side, line: &str) {
        self.sides[side.0]
            .iter_mut()
            .for_each(|actor| actor.tell(line));
    }

    /// Kills a rank (SIGKILL).
    pub fn kill(&mut self, side: Side, rank: usize) {
        self.sides[side.0][rank].signal(Signal::KILL);
    }

    /// Kills every rank of a side.
    pub fn kill_all(&mut self, side: Side) {
        (0..self.sides[side.0].len()).for_each(|rank| self.kill(side, rank));
    }

    /// Stops a rank (SIGSTOP), or lets it go on.
    pub fn stop(&mut self, side: Side, rank: usize, stopped: bool) {
        let signal = if stopped { Signal::STOP } else { Signal::CONT };
        self.sides[side.0][rank].signal(signal);
    }

    /// The process of a rank.
    #[must_use]
    pub fn pid(&self, side: Side, rank: usize) -> u32 {
        self.sides[side.0][rank].pid()
    }

    /// Waits until a side's ranks have ended, well unless the test killed them.
    #[track_caller]
    pub fn ended(&mut self, side: Side) {
        let deadline = self.deadline;
        let ends = self.sides[side.0]
            .iter_mut()
            .map(|actor| actor.ended(deadline));
        if let Some(problem) = ends.filter_map(Result::err).next() {
            self.fail(&problem);
        }
    }

    /// Waits until all sides have ended, and finds the servers still there.
    #[track_caller]
    pub fn all_ended(&mut self) {
        let servers = self.servers.as_ref().map(|servers| servers.side);
        let sides = (0..self.sides.len()).map(Side);
        for side in sides.filter(|side| Some(*side) != servers) {
            self.ended(side);
        }
        if let Some(Side(servers)) = servers {
            let gone = self.sides[servers].iter_mut().find_map(Actor::has_ended);
            if let Some(problem) = gone {
                self.fail(&problem);
            }
        }
    }

    #[track_caller]
    fn fail(&self, problem: &str) -> ! {
        // A moment for what others have to say about it.
        thread::sleep(Duration::from_millis(200));
        let words: Vec<_> = self.sides.iter().flatten().map(Actor::last_words).collect();
        panic!("{problem}; each process last said:\n{}", words.join("\n"));
    }

    /// Plays a writer and a reader side as threads of this process.
    #[track_caller]
    pub fn threads(&self, url: &str, sides: &[(Role, usize)], arguments: Arguments<'_>) {
        let (sender, receiver) = channel();
        let mut playing = 0;
        for (role, size) in sides.iter().copied() {
            let mut comms: Vec<VecDeque<ThreadComm>> = Vec::new();
            comms.resize_with(size, VecDeque::new);
            for _ in 0..THREAD_GROUPS {
                for (rank, comm) in Threads::group(size).into_iter().enumerate() {
                    comms[rank].push_back(comm);
                }
            }
            for (rank, comms) in comms.into_iter().enumerate() {
                let part = Part::of_thread(url, owned(arguments), (rank, size), comms);
                let sender = sender.clone();
                playing += 1;
                thread::spawn(move || {
                    let outcome =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| role(&part)));
                    drop(part);
                    // The test may have given up.
                    let _ = sender.send((rank, outcome));
                });
            }
        }
        while playing > 0 {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left) {
                Ok((_, Ok(()))) => playing -= 1,
                Ok((_, Err(panic))) => std::panic::resume_unwind(panic),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{playing} threads did not end in time")
                }
            }
        }
    }
}
