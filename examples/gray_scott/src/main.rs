//! A simulation as somebody would really write it: the Gray-Scott system in
//! three dimensions, cut among MPI ranks, that sends its fields to a stream.
//!
//! ```text
//! mpirun -n 4 gray_scott --size 64 --steps 2000
//! ```
//!
//! Where the stream goes is not this program's business: `PANTA_URL_GRAY_SCOTT`
//! or `panta.toml` says it. [`model`] holds the numerics, [`split`] and
//! [`halo`] the parallelism.

mod halo;
mod model;
mod options;
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
use progress::Progress;

/// What ends the run early. Every rank meets the same errors.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Split(#[from] split::TooManyRanks),
    #[error("MPI gave no Cartesian communicator of {0:?} ranks")]
    NoGrid([usize; 3]),
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
            complain(world.rank(), &failure.to_string());
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
    let mut halo = Halo::new(grid);

    let progress = Progress::new(world.rank(), model.step(), options.steps);
    while model.step() < options.steps {
        halo.exchange(&mut model.u, &mut model.v);
        model.advance();
        progress.step(model.step());
    }
    progress.finish();

    let mut checksum = 0_u64;
    world.all_reduce_into(&model.checksum(), &mut checksum, SystemOperation::sum());
    progress.say(&format!("step {} checksum {checksum:016x}", model.step()));
    Ok(())
}
