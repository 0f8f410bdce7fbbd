//! Servers and groups of ranks for the tests of `staging:`, on real sockets.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use panta_core::comm::{Comm, ThreadComm, Threads};
use panta_core::engine::{Resume, Start};
use panta_core::error::{GetError, NextError, OpenError};
use panta_core::model::{DType, Definition, MemorySpace, Selection, ShapeKind, StepTime};
use panta_core::session::{Put, Reader, ReaderOptions, Step, Writer, WriterOptions};
use panta_staging::client::StagingEngine;
use panta_staging_server::{Server, ServerOptions};
use panta_transports::copy::{StridedMut, StridedRef};

/// The longest any scenario may take.
pub const SCENARIO_DEADLINE: Duration = Duration::from_secs(60);

/// Servers of one space, and a folder for their key.
pub struct Space {
    pub servers: Vec<Option<Server>>,
    pub names: Vec<String>,
    pub folder: tempfile::TempDir,
    options: ServerOptions,
}

impl Space {
    pub fn start(count: usize) -> Self {
        Self::with(count, ServerOptions::default())
    }

    pub fn with(count: usize, options: ServerOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let held: Vec<TcpListener> = (0..count)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let names: Vec<String> = held
            .iter()
            .map(|listener| listener.local_addr().unwrap().to_string())
            .collect();
        drop(held);
        let mut space = Self {
            servers: (0..count).map(|_| None).collect(),
            names,
            folder,
            options,
        };
        (0..count).for_each(|server| space.restart(server));
        space
    }

    /// Starts a server, anew where it ran before.
    pub fn restart(&mut self, server: usize) {
        self.servers[server] = None;
        let options = ServerOptions {
            listen: self.names[server].parse().unwrap(),
            names: self.names.clone(),
            server,
            key: Some(self.folder.path().join("key")),
            ..self.options.clone()
        };
        self.servers[server] = Some(Server::start(options).unwrap());
    }

    pub fn kill(&mut self, server: usize) {
        self.servers[server] = None;
    }

    pub fn server(&self, server: usize) -> &Server {
        self.servers[server].as_ref().unwrap()
    }

    /// The URL of a stream here; `more` is `&key=value…`.
    pub fn url(&self, stream: &str, more: &str) -> String {
        let deadline = if more.contains("deadline=") {
            ""
        } else {
            "&deadline=30s"
        };
        format!(
            "staging:{stream}@{}?key={}{deadline}{more}",
            self.names.join(","),
            self.folder.path().join("key").display()
        )
    }
}

/// Runs a test's body; past the deadline it has failed.
pub fn within_deadline<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, finished) = mpsc::channel();
    let runner = thread::spawn(move || {
        let result = body();
        let _ = done.send(());
        result
    });
    match finished.recv_timeout(SCENARIO_DEADLINE) {
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => runner
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            panic!("the scenario did not end within {SCENARIO_DEADLINE:?}")
        }
    }
}

/// Runs `work` as every rank of a group; the results by rank.
pub fn group<T: Send>(ranks: usize, work: impl Fn(usize, &mut ThreadComm) -> T + Sync) -> Vec<T> {
    let comms = Threads::group(ranks);
    thread::scope(|scope| {
        let handles: Vec<_> = comms
            .into_iter()
            .map(|mut comm| {
                let work = &work;
                scope.spawn(move || work(comm.rank(), &mut comm))
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| {
                handle
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

/// One engine for all threads, as a program has it.
fn engine() -> &'static StagingEngine {
    static ENGINE: OnceLock<StagingEngine> = OnceLock::new();
    ENGINE.get_or_init(StagingEngine::new)
}

pub fn open_writer(url: &str, comm: &mut dyn Comm) -> Result<Writer, OpenError> {
    resume_writer(url, comm, Resume::Fresh)
}

pub fn resume_writer(url: &str, comm: &mut dyn Comm, resume: Resume) -> Result<Writer, OpenError> {
    Writer::open(
        url,
        comm,
        &[engine()],
        WriterOptions {
            resume,
            progress: None,
        },
    )
}

pub fn open_reader(url: &str, comm: &mut dyn Comm) -> Result<Reader, OpenError> {
    open_reader_at(url, comm, Start::Oldest)
}

pub fn open_reader_at(url: &str, comm: &mut dyn Comm, start: Start) -> Result<Reader, OpenError> {
    Reader::open(
        url,
        comm,
        &[engine()],
        &ReaderOptions {
            start,
            progress: None,
        },
    )
}

pub fn definition(name: &str, kind: ShapeKind, shape: &[u64]) -> Definition {
    Definition {
        name: name.into(),
        dtype: DType::F64,
        kind,
        shape: shape.to_vec(),
        dims: Vec::new(),
        unit: String::new(),
        coordinates: Vec::new(),
        fill: None,
        chunk: None,
        accuracy: None,
    }
}

pub fn global(name: &str, shape: &[u64]) -> Definition {
    definition(name, ShapeKind::GlobalArray, shape)
}

/// What the cell at `index` holds in `step`.
pub fn value(step: u64, index: &[u64], shape: &[u64]) -> f64 {
    let linear = index
        .iter()
        .zip(shape)
        .fold(0, |at, (index, side)| at * side + index);
    (step * 1_000_000_007 % 1_000_003 * 10_000_000 + linear) as f64
}

/// Calls `visit` with every index below `count`, row-major.
pub fn indices(count: &[u64], mut visit: impl FnMut(&[u64])) {
    if count.contains(&0) {
        return;
    }
    let mut index = vec![0; count.len()];
    loop {
        visit(&index);
        let mut dimension = count.len();
        loop {
            if dimension == 0 {
                return;
            }
            dimension -= 1;
            index[dimension] += 1;
            if index[dimension] < count[dimension] {
                break;
            }
            index[dimension] = 0;
        }
    }
}

/// The values of a box.
pub fn block(step: u64, start: &[u64], count: &[u64], shape: &[u64]) -> Vec<f64> {
    let mut values = Vec::new();
    indices(count, |index| {
        let at: Vec<u64> = index.iter().zip(start).map(|(a, b)| a + b).collect();
        values.push(value(step, &at, shape));
    });
    values
}

pub fn bytes(values: &[f64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

pub fn values(bytes: &[u8]) -> Vec<f64> {
    bytes
        .chunks_exact(8)
        .map(|raw| f64::from_le_bytes(raw.try_into().unwrap()))
        .collect()
}

/// Puts a contiguous block of f64.
pub fn put<'d>(
    writer: &Writer,
    variable: usize,
    start: &[u64],
    count: &[u64],
    bytes: &'d [u8],
) -> Put<'d> {
    let source = StridedRef::contiguous(bytes, 8, count).unwrap();
    writer
        .put(variable, DType::F64, start, source, MemorySpace::Host)
        .unwrap()
}

/// Writes one step of one variable, each rank its block.
pub fn write_step(
    writer: &mut Writer,
    step: u64,
    variable: usize,
    start: &[u64],
    count: &[u64],
    shape: &[u64],
) {
    let head = writer.begin_step(StepTime::sim(step as f64), None).unwrap();
    assert_eq!(head.step, step);
    let data = bytes(&block(step, start, count, shape));
    let put = put(writer, variable, start, count, &data);
    writer.end_step(vec![put]).unwrap();
}

/// Gets a selection of f64, with what the destination held before as NaN.
pub fn get(step: &Step, variable: &str, selection: &Selection) -> Result<Vec<f64>, GetError> {
    let resolved = step.resolve(variable, DType::F64, selection)?;
    let count = resolved.count().to_vec();
    let cells: u64 = count.iter().product();
    let mut into = bytes(&vec![f64::NAN; cells as usize]);
    let view = StridedMut::contiguous(&mut into, 8, &count).unwrap();
    step.read(resolved, view)?;
    Ok(values(&into))
}

pub fn next(reader: &mut Reader) -> Step {
    reader.next_step().unwrap().expect("a step")
}

pub fn ended(reader: &mut Reader) -> Result<bool, NextError> {
    Ok(reader.next_step()?.is_none())
}

/// Part `rank` of `side` cut in `ranks` parts: first cell and cells.
pub fn share(side: u64, rank: usize, ranks: usize) -> (u64, u64) {
    let (rank, ranks) = (rank as u64, ranks as u64);
    let (first, end) = (side * rank / ranks, side * (rank + 1) / ranks);
    (first, end - first)
}
