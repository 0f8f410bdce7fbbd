//! An analysis as somebody would really write it: it follows the stream of a
//! running simulation under its own `mpirun`, with its own number of ranks,
//! and measures and draws each step as it comes.
//!
//! ```text
//! mpirun -n 2 analysis --stream gray_scott --output pictures
//! ```
//!
//! It need not know how many ranks the simulation has, nor how it is cut: each
//! rank here asks for its own slab, cut along x, where the simulation prefers
//! not to cut. [`statistics`] measures, [`report`] draws and writes.

mod options;
mod progress;
mod report;
mod statistics;

use std::process::ExitCode;

use clap::Parser;
use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use ndarray::{Array2, Array3, s};
use panta::mpi::MpiComm;
use panta::{GetError, NextError, Reader, Start, StepView};

use options::Options;
use progress::Progress;
use report::{Measured, Report, ReportError};
use statistics::Statistics;

/// The variable that is looked at.
const VARIABLE: &str = "v";

/// What ends the run early. Ranks differ only in those of reading and writing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Open(#[from] panta::OpenError),
    #[error(transparent)]
    Next(#[from] NextError),
    #[error(transparent)]
    Get(#[from] GetError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error("v has the shape {0:?}; this analysis takes grids in three dimensions")]
    Shape(Vec<u64>),
    #[error("a grid of {columns} cells along x cannot be cut among {ranks} ranks; use fewer")]
    TooManyRanks { columns: u64, ranks: u64 },
    #[error("another rank could not read the step")]
    OtherRank,
}

fn main() -> ExitCode {
    let Some((universe, _)) = mpi::initialize_with_threading(mpi::Threading::Funneled) else {
        complain("MPI could not be initialised");
        return ExitCode::FAILURE;
    };
    let world = universe.world();
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            if world.rank() == 0 {
                let _ = error.print();
            }
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(&world, &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // What only this rank met is said by this rank.
            if world.rank() == 0 || matches!(failure, Failure::Get(_)) {
                complain(&failure.to_string());
            }
            ExitCode::FAILURE
        }
    }
}

#[allow(
    clippy::print_stderr,
    reason = "a program speaks; only libraries are silent"
)]
fn complain(why: &str) {
    eprintln!("analysis: {why}");
}

fn run(world: &SimpleCommunicator, options: &Options) -> Result<(), Failure> {
    let mut report = match world.rank() {
        0 => Some(Report::new(&options.output, options.threshold)?),
        _ => None,
    };
    let progress = Progress::new(world.rank() == 0);
    let comm = MpiComm::from_communicator(world);
    let mut stream = Reader::open(&options.stream, comm, Start::Oldest)?;
    let mut shape = [0; 3];
    loop {
        let step = match stream.next_step() {
            Ok(Some(step)) => step,
            Ok(None) => break,
            // A simulation that takes its time is no error, while it lives.
            Err(NextError::NotReady { .. }) => continue,
            Err(NextError::RolledBack { to, .. }) => {
                if let Some(report) = &mut report {
                    report.roll_back(to);
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        shape = grid(&step)?;
        let statistics = measure(world, options, &step, shape)?;
        if let Some(report) = &mut report {
            let measured = Measured {
                step: step.number(),
                time: step.time().unwrap_or(step.number() as f64),
                statistics,
            };
            progress.step(draw(report, measured, &step, shape)?);
        }
    }
    if let Some(report) = &report {
        report.finish(&options.stream, shape)?;
        progress.finish(&format!(
            "the stream has ended; see {}",
            options.output.display()
        ));
    }
    Ok(())
}

/// The shape of the field; it may change from step to step.
fn grid(step: &StepView<'_>) -> Result<[u64; 3], Failure> {
    let shape = step.variable(VARIABLE)?.shape();
    shape.try_into().map_err(Failure::Shape)
}

/// Reads this rank's slab of the step and measures it with the others'.
fn measure(
    world: &SimpleCommunicator,
    options: &Options,
    step: &StepView<'_>,
    shape: [u64; 3],
) -> Result<Statistics, Failure> {
    let (ranks, rank) = (world.size() as u64, world.rank() as u64);
    let columns = shape[2];
    if columns < ranks {
        return Err(Failure::TooManyRanks { columns, ranks });
    }
    let (first, end) = (columns * rank / ranks, columns * (rank + 1) / ranks);
    let start = [0, 0, first];
    let count = [shape[0], shape[1], end - first];
    let slab: Result<Array3<f64>, GetError> = step.get(VARIABLE, (start, count));

    let mut failed = 0_i32;
    world.all_reduce_into(
        &i32::from(slab.is_err()),
        &mut failed,
        SystemOperation::max(),
    );
    let slab = slab?;
    if failed != 0 {
        return Err(Failure::OtherRank);
    }
    Ok(statistics::measure(
        world,
        slab.view(),
        start,
        shape,
        options.threshold,
    ))
}

/// Draws the middle plane, which this rank reads on its own; gives the step in a line.
fn draw(
    report: &mut Report,
    measured: Measured,
    step: &StepView<'_>,
    shape: [u64; 3],
) -> Result<String, Failure> {
    let z = shape[0] / 2;
    let plane: Array2<f64> = step.get(VARIABLE, s![z as usize, .., ..])?;
    let Measured {
        step: number,
        time,
        ref statistics,
    } = measured;
    let line = format!(
        "step {number}, t = {time}: v from {:.4} to {:.4}, {:.2} % of the volume above the threshold",
        statistics.min,
        statistics.max,
        statistics.volume_fraction * 100.0,
    );
    let image = report.add(measured, z, plane.view())?;
    Ok(format!("{line}; {}", image.display()))
}
