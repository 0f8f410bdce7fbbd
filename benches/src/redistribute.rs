//! Four writer processes to two reader processes, cut across: writers hold rows of
//! an array, readers want columns, so that every reader needs a part of every block.
//!
//! The bare side is memory that all six have mapped, two steps of it in turn. Ours
//! opens the streams as any program would, with the default policy, so that no step
//! is lost. Readers check every element.

use std::path::PathBuf;

use ndarray::Array2;
use panta::{Procs, Reader, Shape, Start, StepTime, Writer};
use panta_core::config::Engine;
use panta_transports::time::Time;
use serde::{Deserialize, Serialize};

use crate::Request;
use crate::error::{BenchError, Doing};
use crate::pair::Directory;
use crate::pattern::{self, FIELDS};
use crate::process::{Process, pss_bytes, say, wait_for_word};
use crate::role::{Measured, Role, SIDE_DEADLINE};
use crate::row::{Row, rounded};
use crate::server::Servers;
use crate::shared::{Mapping, copy_and_sum, copy_and_verify, tiles_of};
use crate::statistics::{Memcpy, median};

const WRITERS: usize = 4;
const READERS: usize = 2;
/// Bytes of a row of the array; a reader's part of it is whole tiles.
const ROW_BYTES: usize = 64 << 10;
/// Bytes of a step, unless the request says.
const STEP_BYTES: u64 = 256 << 20;
/// Steps before the clock starts: memory is made in them, at most all that the
/// limit of a rank allows.
const WARM_STEPS: u64 = 24;
/// Steps that are timed, unless the request says.
const TIMED_STEPS: u64 = 8;
const VARIABLE: &str = "u";

/// Who a process of this measurement is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Grid {
    /// The stream; the bare memory if there is none.
    url: Option<String>,
    /// The file behind the bare memory.
    bare: PathBuf,
    rank: usize,
    rows: usize,
    steps: u64,
    verify: bool,
}

impl Grid {
    fn columns(&self) -> usize {
        ROW_BYTES / 8
    }

    /// Rows of a writer.
    fn block_rows(&self) -> usize {
        self.rows / WRITERS
    }

    /// Columns of a reader.
    fn part(&self) -> usize {
        self.columns() / READERS
    }
}

/// Runs the workload.
pub(crate) fn run(request: &Request, report: &mut dyn FnMut(&Row)) -> Result<(), BenchError> {
    let bytes = request.bytes.unwrap_or(STEP_BYTES);
    let rows = bytes as usize / ROW_BYTES;
    if rows == 0 || !rows.is_multiple_of(WRITERS) || !bytes.is_multiple_of(ROW_BYTES as u64) {
        let least = ROW_BYTES * WRITERS;
        return Err(BenchError::request(format!(
            "a step of redistribute has a multiple of {least} bytes"
        )));
    }
    let engine = request.engine.as_deref().unwrap_or("stream");
    if !panta::registry()
        .iter()
        .any(|it| it.engine().scheme() == engine)
    {
        return Err(BenchError::request(format!(
            "this build has no engine `{engine}`"
        )));
    }
    let grid = Grid {
        url: None,
        bare: PathBuf::new(),
        rank: 0,
        rows,
        steps: request.steps.unwrap_or(TIMED_STEPS).max(1),
        verify: request.verify != "never",
    };
    let (mut memcpy, mut memcpys) = (Memcpy::new(), Vec::new());
    let (mut ours, mut bare) = (Rounds::default(), Rounds::default());
    for _ in 0..request.rounds {
        memcpys.push(memcpy.gb_per_s());
        once(request, &grid, Some(engine), &mut ours)?;
        once(request, &grid, None, &mut bare)?;
    }
    let speed = |rounds: &Rounds| (bytes * grid.steps) as f64 / median(&rounds.seconds) / 1e9;
    let row = Row {
        workload: "redistribute",
        engine: Some(engine.to_owned()),
        transport: Some(ours.transport.clone()),
        mode: Some("put+get".into()),
        verify: Some(request.verify.clone()),
        bytes: Some(bytes),
        steps: Some(grid.steps),
        steps_per_s: Some(rounded(grid.steps as f64 / median(&ours.seconds))),
        pss_bytes: Some(median(&ours.pss_bytes) as u64),
        ..Row::default()
    };
    report(&row.with_throughput(speed(&ours), Some(speed(&bare)), median(&memcpys)));
    Ok(())
}

#[derive(Default)]
struct Rounds {
    transport: String,
    seconds: Vec<f64>,
    pss_bytes: Vec<f64>,
}

/// What a reader says last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Said {
    transport: String,
    measured: Measured,
}

/// Starts the processes of one round; the slowest reader's time counts.
fn once(
    request: &Request,
    grid: &Grid,
    engine: Option<&str>,
    rounds: &mut Rounds,
) -> Result<(), BenchError> {
    let place = Directory::new()?;
    let directory = place.0.path();
    let transport = request.transport.as_deref().unwrap_or("auto");
    let verify = &request.verify;
    let mut servers = Vec::new();
    let url = match engine {
        Some(scheme) if scheme == Engine::Staging.scheme() => {
            let space = Servers::start(&request.executable, 1, directory)?;
            let url = space.url("grid", verify);
            servers = space.servers;
            Some(url)
        }
        Some(scheme) if scheme == Engine::Stream.scheme() => Some(format!(
            "stream:grid?contact={}/grid.panta-contact&transport={transport}&verify={verify}",
            directory.display()
        )),
        Some(scheme) => Some(format!(
            "{scheme}:{}/grid.panta?verify={verify}",
            directory.display()
        )),
        None => None,
    };
    let start = |name: &'static str, rank: usize, size: usize| {
        let grid = Grid {
            url: url.clone(),
            bare: directory.join("bare"),
            rank,
            ..grid.clone()
        };
        let meeting = directory.join(name);
        std::fs::create_dir_all(&meeting).doing("make a directory for the ranks")?;
        let role = match name {
            "writers" => Role::GridWriter(grid),
            _ => Role::GridReader(grid),
        };
        let variables = [
            ("PANTA_RANK", rank.to_string()),
            ("PANTA_SIZE", size.to_string()),
            ("PANTA_RENDEZVOUS", meeting.display().to_string()),
        ];
        Process::start_within(name, &request.executable, &role, &variables)
    };
    let mut writers = Vec::new();
    for rank in 0..WRITERS {
        writers.push(start("writers", rank, WRITERS)?);
    }
    let mut readers = Vec::new();
    for rank in 0..READERS {
        readers.push(start("readers", rank, READERS)?);
    }
    let (mut seconds, mut pss) = (0.0_f64, 0);
    for process in &mut readers {
        let said: Said = process.hear()?;
        rounds.transport = said.transport;
        seconds = seconds.max(said.measured.streamed_seconds);
        pss += said.measured.pss_bytes;
    }
    for process in &mut writers {
        let measured: Measured = process.hear()?;
        pss += measured.pss_bytes;
    }
    for process in readers.into_iter().chain(writers) {
        process.finish()?;
    }
    drop(servers);
    rounds.seconds.push(seconds);
    rounds.pss_bytes.push(pss as f64);
    Ok(())
}

/// Carries a writer's rows away.
pub(crate) fn write(grid: &Grid) -> Result<(), BenchError> {
    let (rows, columns) = (grid.block_rows(), grid.columns());
    let first = (grid.rank * rows * columns) as u64;
    let fields = (0..FIELDS).map(|step| {
        let mut field = Array2::zeros((rows, columns));
        pattern::fill(field.as_slice_mut().unwrap_or_default(), step, first);
        field
    });
    let fields: Vec<Array2<f64>> = fields.collect();
    let close = match &grid.url {
        Some(url) => Some(put_all(grid, url, &fields)?),
        None => {
            bare_put_all(grid, &fields)?;
            None
        }
    };
    say(&Measured {
        pss_bytes: pss_bytes(),
        ..Measured::default()
    })?;
    if let Some(writer) = close {
        writer.close().doing("close")?;
    }
    wait_for_word();
    Ok(())
}

fn put_all(grid: &Grid, url: &str, fields: &[Array2<f64>]) -> Result<Writer, BenchError> {
    let comm = Procs::from_environment().doing("find the other ranks")?;
    let mut writer = Writer::open(url, comm).doing("open for writing")?;
    let shape = [grid.rows as u64, grid.columns() as u64];
    let variable = writer
        .define::<f64>(VARIABLE, Shape::global(shape))
        .doing("define")?;
    let start = [(grid.rank * grid.block_rows()) as u64, 0];
    let block_bytes = (grid.block_rows() * ROW_BYTES) as u64;
    for number in 0..WARM_STEPS + grid.steps {
        let step = writer
            .begin_step_of(StepTime::default(), block_bytes)
            .doing("begin a step")?;
        step.put(variable, &start, &fields[(number % FIELDS) as usize])
            .doing("put")?;
        step.end().doing("end a step")?;
    }
    Ok(writer)
}

/// Takes a reader's columns.
pub(crate) fn read(grid: &Grid) -> Result<(), BenchError> {
    let mut field = Array2::<f64>::zeros((grid.rows, grid.part()));
    let mut said = Said::default();
    match &grid.url {
        Some(url) => get_all(grid, url, &mut field, &mut said)?,
        None => bare_get_all(grid, &mut field, &mut said)?,
    }
    said.measured.pss_bytes = pss_bytes();
    say(&said)?;
    wait_for_word();
    Ok(())
}

fn get_all(
    grid: &Grid,
    url: &str,
    field: &mut Array2<f64>,
    said: &mut Said,
) -> Result<(), BenchError> {
    let comm = Procs::from_environment().doing("find the other ranks")?;
    let mut reader = Reader::open(url, comm, Start::Oldest).doing("open for reading")?;
    let start = [0, (grid.rank * grid.part()) as u64];
    let count = [grid.rows as u64, grid.part() as u64];
    let mut begin = Time::now();
    for number in 0..WARM_STEPS + grid.steps {
        if number == WARM_STEPS {
            begin = Time::now();
        }
        let step = reader.next_step().doing("wait for a step")?;
        let step = step.ok_or_else(|| BenchError::Failed {
            doing: format!("wait for step {number}"),
            why: "the stream was closed".into(),
        })?;
        step.get_into(VARIABLE, (start, count), field.view_mut())
            .doing("get")?;
        look_at(grid, field, number)?;
    }
    said.measured.streamed_seconds = Time::now().since(begin).as_secs_f64();
    said.transport = reader.info().transport;
    Ok(())
}

/// Compares every element.
fn look_at(grid: &Grid, field: &Array2<f64>, number: u64) -> Result<(), BenchError> {
    for (row, values) in field.rows().into_iter().enumerate() {
        let first = (row * grid.columns() + grid.rank * grid.part()) as u64;
        let values = values.to_slice().unwrap_or_default();
        pattern::check(values, number % FIELDS, first, "the columns")?;
    }
    Ok(())
}

/// Steps that the bare memory holds.
const BARE_SLOTS: u64 = 2;
const PAGE_BYTES: usize = 4096;

/// The bare memory: page 0 holds how far each process is, a cache line apart.
struct Bare<'g> {
    memory: Mapping,
    grid: &'g Grid,
}

impl<'g> Bare<'g> {
    fn open(grid: &'g Grid) -> Result<Self, BenchError> {
        let slot_bytes = grid.rows * (ROW_BYTES + tiles_of(grid.columns()) * 4);
        let bytes = PAGE_BYTES + slot_bytes * BARE_SLOTS as usize;
        let memory = Mapping::of(&grid.bare, bytes)?;
        Ok(Self { memory, grid })
    }

    /// Offsets of a row and of its checksums.
    fn row(&self, number: u64, row: usize) -> (usize, usize) {
        let sums_bytes = tiles_of(self.grid.columns()) * 4;
        let slot = (number % BARE_SLOTS) as usize;
        let first = PAGE_BYTES + slot * self.grid.rows * (ROW_BYTES + sums_bytes);
        let sums = first + self.grid.rows * ROW_BYTES;
        (first + row * ROW_BYTES, sums + row * sums_bytes)
    }

    fn is_at(&self, process: usize) -> &std::sync::atomic::AtomicU64 {
        self.memory.counter(process * 128)
    }

    /// Waits until these processes have done so many steps. More run than there are
    /// cores, so that waiting gives way.
    fn wait_for(&self, processes: std::ops::Range<usize>, steps: u64) -> Result<(), BenchError> {
        let begin = Time::now();
        for process in processes {
            while self
                .is_at(process)
                .load(std::sync::atomic::Ordering::Acquire)
                < steps
            {
                if Time::now().since(begin) > SIDE_DEADLINE {
                    return Err(BenchError::Failed {
                        doing: "wait for a bare process".into(),
                        why: format!("it did not do step {steps} within {SIDE_DEADLINE:?}"),
                    });
                }
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    fn done(&self, process: usize, steps: u64) {
        self.is_at(process)
            .store(steps, std::sync::atomic::Ordering::Release);
    }
}

fn bare_put_all(grid: &Grid, fields: &[Array2<f64>]) -> Result<(), BenchError> {
    let bare = Bare::open(grid)?;
    let (columns, tiles) = (grid.columns(), tiles_of(grid.columns()));
    for number in 0..WARM_STEPS + grid.steps {
        let free = (number + 1).saturating_sub(BARE_SLOTS);
        bare.wait_for(WRITERS..WRITERS + READERS, free)?;
        let field = &fields[(number % FIELDS) as usize];
        for (row, from) in field.rows().into_iter().enumerate() {
            let (values, sums) = bare.row(number, grid.rank * grid.block_rows() + row);
            copy_and_sum(
                bare.memory.values(values, columns),
                from.to_slice().unwrap_or_default(),
                bare.memory.sums(sums, tiles),
            );
        }
        bare.done(grid.rank, number + 1);
    }
    Ok(())
}

fn bare_get_all(grid: &Grid, field: &mut Array2<f64>, said: &mut Said) -> Result<(), BenchError> {
    let bare = Bare::open(grid)?;
    let part = grid.part();
    let mut begin = Time::now();
    for number in 0..WARM_STEPS + grid.steps {
        if number == WARM_STEPS {
            begin = Time::now();
        }
        bare.wait_for(0..WRITERS, number + 1)?;
        let mut good = true;
        for (row, mut to) in field.rows_mut().into_iter().enumerate() {
            let (values, sums) = bare.row(number, row);
            let values = bare.memory.values(values + grid.rank * part * 8, part);
            let tiles = tiles_of(part);
            let sums = bare.memory.sums(sums + grid.rank * tiles * 4, tiles);
            let to = to.as_slice_mut().unwrap_or_default();
            match grid.verify {
                true => good &= copy_and_verify(to, values, sums),
                false => to.copy_from_slice(values),
            }
        }
        if !good {
            return Err(BenchError::Failed {
                doing: "verify a bare step".into(),
                why: format!("a tile of step {number} is damaged"),
            });
        }
        bare.done(WRITERS + grid.rank, number + 1);
        look_at(grid, field, number)?;
    }
    said.measured.streamed_seconds = Time::now().since(begin).as_secs_f64();
    said.transport = "bare shared memory".into();
    Ok(())
}
