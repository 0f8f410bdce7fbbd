//! One rank's part in a scenario: what it was told, its communicators, its voice.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, Write};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use panta::{Comm, Procs, Reader, Start, StepTime, ThreadComm, Writer};

/// What a rank does.
pub type Role = fn(&Part);

/// The groups that each thread of a side can form; more streams than this no scenario opens.
pub(crate) const THREAD_GROUPS: usize = 4;

/// One rank's part.
#[derive(Debug)]
pub struct Part {
    /// The stream.
    pub url: String,
    /// The rank.
    pub rank: usize,
    /// Ranks of this side.
    pub size: usize,
    arguments: BTreeMap<String, String>,
    /// `None` for a process, which finds its group in the environment.
    threads: Option<RefCell<VecDeque<ThreadComm>>>,
    ears: Mutex<Option<Receiver<String>>>,
}

impl Part {
    /// The part of this process. Ends the process when its standard input does,
    /// so that none outlives the test that started it.
    #[must_use]
    pub fn of_process(url: &str, arguments: BTreeMap<String, String>) -> Self {
        let number = |name: &str| std::env::var(name).map_or(0, |text| text.parse().unwrap());
        let (sender, ears) = channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
            std::process::abort();
        });
        Self {
            url: url.to_owned(),
            rank: number("PANTA_RANK"),
            size: number("PANTA_SIZE").max(1),
            arguments,
            threads: None,
            ears: Mutex::new(Some(ears)),
        }
    }

    /// The part of a thread.
    pub(crate) fn of_thread(
        url: &str,
        arguments: BTreeMap<String, String>,
        (rank, size): (usize, usize),
        comms: VecDeque<ThreadComm>,
    ) -> Self {
        Self {
            url: url.to_owned(),
            rank,
            size,
            arguments,
            threads: Some(RefCell::new(comms)),
            ears: Mutex::new(None),
        }
    }

    /// The next communicator of this side.
    #[must_use]
    pub fn comm(&self) -> Box<dyn Comm> {
        match &self.threads {
            None => Box::new(Procs::from_environment().unwrap()),
            Some(comms) => Box::new(comms.borrow_mut().pop_front().expect("a group of threads")),
        }
    }

    /// Opens the stream for writing, with this side's ranks.
    #[must_use]
    #[track_caller]
    pub fn writer(&self) -> Writer {
        Writer::open(&self.url, self.comm()).expect("the writer opens")
    }

    /// Opens the stream for reading from its oldest step, with this side's ranks.
    #[must_use]
    #[track_caller]
    pub fn reader(&self) -> Reader {
        self.reader_from(Start::Oldest)
    }

    /// Opens the stream for reading from `start`.
    #[must_use]
    #[track_caller]
    pub fn reader_from(&self, start: Start) -> Reader {
        Reader::open(&self.url, self.comm(), start).expect("the reader opens")
    }

    /// An argument.
    ///
    /// # Panics
    /// If the scenario did not give it.
    #[must_use]
    #[track_caller]
    pub fn text(&self, key: &str) -> &str {
        self.arguments
            .get(key)
            .unwrap_or_else(|| panic!("no argument `{key}`"))
    }

    /// An argument that is a number.
    #[must_use]
    #[track_caller]
    pub fn number(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap()
    }

    /// Whether the scenario gave an argument.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.arguments.contains_key(key)
    }

    /// Tells the test a line; nothing in a thread, whose test sees how it ends.
    #[allow(clippy::print_stdout, reason = "how a process talks to its test")]
    pub fn say(&self, line: impl std::fmt::Display) {
        if self.threads.is_none() {
            println!("{line}");
            std::io::stdout().flush().unwrap();
        }
    }

    /// Waits for a line of the test.
    #[must_use]
    pub fn hear(&self) -> String {
        let ears = self.ears.lock().unwrap();
        ears.as_ref().expect("a process").recv().unwrap()
    }

    /// A line of the test, if one has come.
    #[must_use]
    pub fn heard(&self) -> Option<String> {
        let ears = self.ears.lock().unwrap();
        ears.as_ref().expect("a process").try_recv().ok()
    }
}

/// The simulation time of a step, in all scenarios.
#[must_use]
pub fn sim_time(step: u64) -> f64 {
    0.5 * step as f64
}

/// The time to begin a step with.
#[must_use]
pub fn time(step: u64) -> StepTime {
    StepTime::sim(sim_time(step))
}
