//! The one table of parameters: name, type, default, engines, help.
//!
//! The fields of [`Options`], the check of keys and values, the errors and
//! `docs/parameters.md` all come from the rows at the end of this file. To add
//! a parameter, add a row.

use super::value::{
    Acknowledge, ByteSize, ChunkShape, Compression, Count, Distribution, Interfaces, Policy,
    ProgressChoice, Servers, Sync, TransportChoice, Value, Verify,
};
use panta_transports::coupling::{MIN_LEASE, Progress};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What writes or reads steps; the scheme of a URL names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// `file:` Panta's own files.
    File,
    /// `stream:` directly from writers to readers.
    Stream,
    /// `staging:` through servers.
    Staging,
    /// `null:` nowhere, to measure what the rest costs.
    Null,
}

impl Engine {
    /// Every engine that a URL can name.
    pub const ALL: [Self; 4] = [Self::File, Self::Stream, Self::Staging, Self::Null];

    /// The scheme, without its colon.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Stream => "stream",
            Self::Staging => "staging",
            Self::Null => "null",
        }
    }

    /// The engine of a scheme.
    #[must_use]
    pub fn from_scheme(scheme: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.scheme() == scheme)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.scheme())
    }
}

impl Options {
    /// Who does what is due between two calls.
    ///
    /// # Errors
    /// What is missing, or makes no sense.
    pub fn who_progresses(&self) -> Result<Progress, String> {
        match (self.progress, self.silence) {
            (ProgressChoice::Threads, None) => Ok(Progress::Threads),
            (ProgressChoice::Threads, Some(_)) => Err(
                "`silence` is given without `progress=manual`; threads of the library speak for \
                 the program however long it computes: leave `silence` out"
                    .into(),
            ),
            (ProgressChoice::Manual, None) => Err(
                "`progress=manual` needs `silence`, how long the program may stay away between \
                 two calls, as `silence=120s`"
                    .into(),
            ),
            (ProgressChoice::Manual, Some(silence)) if silence < MIN_LEASE => Err(format!(
                "`silence` is at least {MIN_LEASE:?}, and {silence:?} was given"
            )),
            (ProgressChoice::Manual, Some(silence)) => Ok(Progress::Manual { silence }),
        }
    }
}

impl Options {
    /// Sets what [`who_progresses`](Self::who_progresses) says.
    pub fn set_progress(&mut self, progress: Progress) {
        (self.progress, self.silence) = match progress {
            Progress::Threads => (ProgressChoice::Threads, None),
            Progress::Manual { silence } => (ProgressChoice::Manual, Some(silence)),
        };
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Parameter {
    /// The key, in URLs and in `panta.toml`.
    pub name: &'static str,
    /// The engines that take it.
    pub engines: &'static [Engine],
    /// What it does, in one line.
    pub help: &'static str,
    /// What its values look like.
    pub expected: fn() -> String,
    pub(super) parse_into: fn(&mut Options, &str) -> Result<(), String>,
    pub(super) print: fn(&Options) -> String,
}

impl Parameter {
    /// The row of a key.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        PARAMETERS.iter().find(|row| row.name == name)
    }

    /// Whether `engine` takes it.
    #[must_use]
    pub fn is_for(&self, engine: Engine) -> bool {
        self.engines.contains(&engine)
    }

    /// The default, as one would write it.
    #[must_use]
    pub fn default_text(&self) -> String {
        (self.print)(&Options::default())
    }
}

/// Makes [`Options`] and [`PARAMETERS`] from the rows.
macro_rules! parameters {
    ($(
        #[doc = $help:literal]
        $field:ident: $kind:ty = $default:expr, for [$($engine:ident)+];
    )+) => {
        /// The parameters of one open, each at its default unless set.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Options {
            $(#[doc = $help] pub $field: $kind,)+
        }

        impl Default for Options {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        /// All the parameters there are.
        pub static PARAMETERS: &[Parameter] = &[$(Parameter {
            name: stringify!($field),
            engines: &[$(Engine::$engine),+],
            help: $help,
            expected: <$kind as Value>::expected,
            parse_into: |options, text| {
                options.$field = <$kind as Value>::parse(text)?;
                Ok(())
            },
            print: |options| options.$field.print(),
        },)+];
    };
}

/// The table in `docs/parameters.md`.
#[must_use]
pub fn render_markdown() -> String {
    let mut text = String::from(
        "| parameter | values | default | engines | what it does |\n|---|---|---|---|---|\n",
    );
    for row in PARAMETERS {
        let engines: Vec<String> = row.engines.iter().map(|it| format!("`{it}`")).collect();
        let default = match row.default_text() {
            none if none.is_empty() => "–".to_owned(),
            some => format!("`{some}`"),
        };
        text.push_str(&format!(
            "| `{}` | {} | {default} | {} | {} |\n",
            row.name,
            (row.expected)(),
            engines.join(" "),
            row.help.trim(),
        ));
    }
    text
}

parameters! {
    /// Bytes that one rank may buffer, or hold in views; a larger step is an error.
    limit: ByteSize = ByteSize(1 << 30), for [File Stream Staging Null];
    /// What `begin_step` does when the limit is reached: wait, or drop the oldest or newest step, or spill to disk.
    policy: Policy = Policy::Block, for [Stream Staging];
    /// When checksums are verified: for the tiles a `get` touches, for views too, or never.
    verify: Verify = Verify::Get, for [File Stream Staging];
    /// How long opening, and each wait, may take.
    deadline: Duration = Duration::from_secs(60), for [File Stream Staging Null];
    /// How many sealed steps are kept for readers.
    retain_steps: u64 = 4, for [Stream Staging];
    /// How many bytes of sealed steps are kept for readers, over all ranks; no bound of its own if not given.
    retain_bytes: Option<ByteSize> = None, for [Stream Staging];
    /// When written data is forced to disk: left to the system, after each step, or at close.
    sync: Sync = Sync::None, for [File];
    /// The file that holds the key of the cluster, or one derived from it; for `stream:` that of the stream, where no contact file carries it.
    key: Option<PathBuf> = None, for [Stream Staging];
    /// Whether connections are encrypted; they are authenticated in any case.
    encrypt: bool = false, for [Stream Staging];
    /// Whether overlapping blocks of one variable in one step are an error; else the highest (rank, put order) wins.
    checked: bool = false, for [File Stream Staging Null];
    /// What moves the bytes; one asked for by name that can't be had is an error.
    transport: TransportChoice = TransportChoice::Auto, for [Stream Staging];
    /// The provider of libfabric for `transport=rdma`, as `verbs;ofi_rxm`, `cxi` or, in software, `tcp;ofi_rxm`; the first that is hardware, or for readers the writer's, if not given.
    fabric: Option<String> = None, for [Stream];
    /// The network interfaces to listen on, by name or network; loopback, or where ranks are on several hosts all, if not given.
    interface: Option<Interfaces> = None, for [File Stream Staging Null];
    /// How many writer groups must end a step before it is sealed.
    declared_writers: u64 = 1, for [Staging];
    /// Which of the declared writer groups this is, counted from 1.
    writer: u64 = 1, for [Staging];
    /// The contact file by which readers find the writer; `NAME.panta-contact` in the working directory if not given.
    contact: Option<PathBuf> = None, for [Stream];
    /// How many reader groups the first `begin_step` waits for; with 0 the writer starts alone.
    rendezvous: Count = Count(1), for [Stream];
    /// Which reader groups get a step: every one, each in its turn, or the one that asks first.
    distribution: Distribution = Distribution::All, for [Stream Staging];
    /// Whether the first step is kept for as long as the stream lives, and given first to every reader group that joins; of `file:`, which keeps every step, a reader's parameter.
    precious_first: bool = false, for [Stream Staging File];
    /// Whether this reader group gets only the newest step whenever it asks, and skips those before.
    latest_only: bool = false, for [Stream Staging];
    /// The directory that steps are spilled to under the policy `spill`.
    spill: Option<PathBuf> = None, for [Stream];
    /// How long whoever waits for a peer in shared memory looks again and again before it sleeps.
    spin: Duration = Duration::from_micros(50), for [Stream];
    /// Where data must be before a step is sealed: in a server's memory, on its disk, or on a replica too.
    ack: Acknowledge = Acknowledge::Memory, for [Staging];
    /// Elements of a chunk, the unit that servers index, per dimension; chosen from the variable's shape if not given.
    chunk: Option<ChunkShape> = None, for [Staging];
    /// How blocks are compressed, without loss: not, or with zstd, at a level from 1 (`zstd` alone), the fastest, to 19.
    compress: Compression = Compression::None, for [File Stream Staging];
    /// Whether data segments are written with O_DIRECT, past the page cache.
    direct: bool = false, for [File];
    /// The name under which the servers, or the writers, keep this reader group's position.
    reader_group: Option<String> = None, for [Stream Staging];
    /// How long a silent peer counts as alive.
    lease: Duration = Duration::from_secs(300), for [Stream Staging];
    /// Who does what is due between two calls: threads of the library, or nobody, and the program calls `progress` itself.
    progress: ProgressChoice = ProgressChoice::Threads, for [File Stream Staging Null];
    /// With `progress=manual`, and needed there: how long the program may stay away between two calls before its peers hold it dead.
    silence: Option<Duration> = None, for [File Stream Staging Null];
    /// Servers to ask first; of `stream:` where the writer listens and its readers find it, without a host on all its addresses; in a URL they follow the name after `@`.
    servers: Servers = Servers::default(), for [Stream Staging];
}
