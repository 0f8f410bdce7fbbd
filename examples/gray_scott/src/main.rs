//! A simulation as somebody would really write it: the Gray-Scott system in
//! three dimensions, cut among MPI ranks, that sends its fields to a stream.
//!
//! ```text
//! mpirun -n 4 gray_scott --size 64 --steps 2000
//! ```
//!
//! Where the stream goes is not this program's business: `PANTA_URL_GRAY_SCOTT`
//! or `panta.toml` says it. [`model`] holds the numerics, [`split`] and
//! [`halo`] the parallelism, [`output`] all that is said to Panta.

mod halo;
mod model;
mod options;
mod output;
mod progress;
mod split;

use std::process::ExitCode;

use clap::Parser;
use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;

use halo::Halo;
use model::Model;
use options::Options;
use output::{Checkpoints, Fields};
use panta::Resume;
use progress::Progress;

/// What ends the run early. Every rank meets the same errors, but for those of
/// reading a checkpoint.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Split(#[from] split::TooManyRanks),
    #[error("MPI gave no Cartesian communicator of {0:?} ranks")]
    NoGrid([usize; 3]),
    #[error(transparent)]
    Open(#[from] panta::OpenError),
    #[error(transparent)]
    Define(#[from] panta::DefineError),
    #[error(transparent)]
    Begin(#[from] panta::BeginError),
    #[error(transparent)]
    Put(#[from] panta::PutError),
    #[error(transparent)]
    End(#[from] panta::EndError),
    #[error(transparent)]
    Close(#[from] panta::CloseError),
    #[error(transparent)]
    Next(#[from] panta::NextError),
    #[error(transparent)]
    Get(#[from] panta::GetError),
    #[error("the stream '{0}' holds no checkpoint; run without --restart")]
    NoCheckpoint(String),
    #[error("the checkpoint is of a grid {found:?}; give --size accordingly, not {cells}")]
    OtherGrid { found: Vec<u64>, cells: u64 },
    #[error("another rank could not read the checkpoint")]
    OtherRank,
}

fn main() -> ExitCode {
    let Some((universe, _)) = mpi::initialize_with_threading(mpi::Threading::Funneled) else {
        complain(0, "MPI could not be initialised");
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
            let speaker = if matches!(failure, Failure::Get(_)) {
                0
            } else {
                world.rank()
            };
            complain(speaker, &failure.to_string());
            ExitCode::FAILURE
        }
    }
}

#[allow(
    clippy::print_stderr,
    reason = "a program speaks; only libraries are silent"
)]
fn complain(rank: i32, why: &str) {
    if rank == 0 {
        eprintln!("gray_scott: {why}");
    }
}

fn run(world: &SimpleCommunicator, options: &Options) -> Result<(), Failure> {
    let ranks = split::factors(world.size() as usize);
    let sides = ranks.map(|count| count as i32);
    let grid = world
        .create_cartesian_communicator(&sides, &[true; 3], false)
        .ok_or(Failure::NoGrid(ranks))?;
    let at = grid.rank_to_coordinates(grid.rank());
    let block = split::block(
        options.size as usize,
        ranks,
        [0, 1, 2].map(|axis| at[axis] as usize),
    )?;
    let mut model = Model::new(options.parameters(), options.size as usize, block);
    let outputs_written = if options.restart {
        agree(
            world,
            output::restore(&options.checkpoint_stream, world, &mut model),
        )?
    } else {
        0
    };
    advance(world, options, &mut model, Halo::new(grid), outputs_written)
}

/// Turns the outcomes of the ranks into one that is good only if all are.
fn agree<T>(world: &SimpleCommunicator, own: Result<T, Failure>) -> Result<T, Failure> {
    let mut failed = 0_i32;
    world.all_reduce_into(
        &i32::from(own.is_err()),
        &mut failed,
        SystemOperation::max(),
    );
    match own {
        Ok(_) if failed != 0 => Err(Failure::OtherRank),
        own => own,
    }
}

/// Runs from where the model is to the last step.
fn advance(
    world: &SimpleCommunicator,
    options: &Options,
    model: &mut Model,
    mut halo: Halo,
    outputs_written: u64,
) -> Result<(), Failure> {
    // A restart withdraws what was written after its checkpoint.
    let resume = outputs_written
        .checked_sub(1)
        .map_or(Resume::Fresh, Resume::After);
    let mut fields = Fields::open(&options.stream, world, model, resume)?;
    let mut checkpoints = match options.checkpoint_every {
        0 => None,
        _ => {
            let resume = if options.restart {
                Resume::Last
            } else {
                Resume::Fresh
            };
            Some(Checkpoints::open(
                &options.checkpoint_stream,
                world,
                model,
                resume,
            )?)
        }
    };

    let progress = Progress::new(world.rank(), model.step(), options.steps);
    if options.restart {
        progress.say(&format!("goes on from step {}", model.step()));
    }
    let mut outputs_written = outputs_written;
    if outputs_written == 0 {
        fields.write(model)?;
        outputs_written += 1;
    }
    while model.step() < options.steps {
        halo.exchange(&mut model.u, &mut model.v);
        model.advance();
        let step = model.step();
        progress.step(step);
        if step.is_multiple_of(options.output_every) || step == options.steps {
            let number = fields.write(model)?;
            outputs_written += 1;
            progress.say(&format!(
                "step {step}, t = {}: output {number}",
                model.time()
            ));
        }
        if let Some(checkpoints) = &mut checkpoints
            && step.is_multiple_of(options.checkpoint_every)
        {
            checkpoints.write(model, outputs_written)?;
            progress.say(&format!("step {step}: checkpoint"));
        }
    }
    fields.close()?;
    if let Some(checkpoints) = checkpoints {
        checkpoints.close()?;
    }
    progress.finish();

    let mut checksum = 0_u64;
    world.all_reduce_into(&model.checksum(), &mut checksum, SystemOperation::sum());
    progress.say(&format!("step {} checksum {checksum:016x}", model.step()));
    Ok(())
}
