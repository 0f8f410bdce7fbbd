//! The ranks of an MPI communicator as a group of Panta's: starts itself under
//! mpirun on three ranks, each of which checks what it is given.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

use std::process::Command;
use std::time::Duration;

use mpi::topology::{Color, SimpleCommunicator};
use mpi::traits::*;
use panta::mpi::MpiComm;
use panta_core::comm::{Comm, CommError};
use panta_transports::time::Wait;

const RANKS: usize = 3;
/// Set for the ranks that this test starts.
const INNER: &str = "PANTA_TEST_MPI_RANK";

fn main() {
    if std::env::var_os(INNER).is_some() {
        return be_a_rank();
    }
    let mut mpirun = Command::new("mpirun");
    mpirun
        .args([
            "--oversubscribe",
            "--allow-run-as-root",
            "-x",
            INNER,
            "-n",
            &RANKS.to_string(),
        ])
        .arg(std::env::current_exe().unwrap())
        .env(INNER, "1");
    match mpirun.status() {
        Ok(status) => assert!(status.success(), "{status}"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(
                std::env::var_os("PANTA_CI").is_none(),
                "mpirun is not installed"
            );
            eprintln!("skipped: mpirun is not installed");
        }
        Err(error) => panic!("mpirun: {error}"),
    }
}

fn be_a_rank() {
    // A panic would leave the others in MPI for good.
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        std::process::abort();
    }));
    let universe = mpi::initialize().unwrap();
    let world = universe.world();
    contributions_of_any_length_come_in_rank_order(&world);
    ranks_of_a_part_are_numbered_within_it(&world);
    another_thread_is_refused_at_a_low_thread_level(&world);
    a_rank_that_does_not_come_costs_a_deadline(&world);
    if world.rank() == 0 {
        println!("mpi_comm: ok on {RANKS} ranks");
    }
}

/// Long enough for a busy machine; no test waits for it.
fn patient() -> Wait {
    Wait::for_at_most(Duration::from_secs(60))
}

fn contributions_of_any_length_come_in_rank_order(world: &SimpleCommunicator) {
    let mut comm = MpiComm::from_communicator(world);
    assert_eq!((comm.rank(), comm.size()), (world.rank() as usize, RANKS));
    for longest in [0, 1, 1000] {
        let of = |rank: usize| vec![rank as u8 + 1; longest * rank];
        let gathered = comm.allgather(&of(comm.rank()), &patient()).unwrap();
        assert_eq!(gathered, (0..RANKS).map(of).collect::<Vec<_>>());
    }
}

fn ranks_of_a_part_are_numbered_within_it(world: &SimpleCommunicator) {
    let color = if world.rank() == 0 {
        Color::undefined()
    } else {
        Color::with_value(1)
    };
    let Some(part) = world.split_by_color(color) else {
        return;
    };
    let mut comm = MpiComm::from_communicator(&part);
    let gathered = comm.allgather(&[world.rank() as u8], &patient()).unwrap();
    assert_eq!(
        (comm.rank(), gathered),
        (world.rank() as usize - 1, vec![vec![1], vec![2]])
    );
}

fn another_thread_is_refused_at_a_low_thread_level(world: &SimpleCommunicator) {
    let mut comm = MpiComm::from_communicator(world);
    let refused = std::thread::scope(|scope| {
        scope
            .spawn(|| comm.allgather(&[], &patient()))
            .join()
            .unwrap()
    });
    assert!(
        matches!(refused, Err(CommError::Foreign { .. })),
        "{refused:?}"
    );
}

fn a_rank_that_does_not_come_costs_a_deadline(world: &SimpleCommunicator) {
    let mut comm = MpiComm::from_communicator(world);
    let last = RANKS as i32 - 1;
    if world.rank() == last {
        // Comes only once the others have given up, so that MPI can end well.
        for rank in 0..last {
            world.process_at_rank(rank).receive::<u8>();
        }
        let given_up = comm.allgather(&[], &Wait::for_at_most(Duration::from_millis(1)));
        assert!(
            matches!(given_up, Ok(_) | Err(CommError::Deadline { .. })),
            "{given_up:?}"
        );
    } else {
        let awaited = comm.allgather(&[], &Wait::for_at_most(Duration::from_millis(100)));
        assert!(
            matches!(awaited, Err(CommError::Deadline { .. })),
            "{awaited:?}"
        );
        world.process_at_rank(last).send(&1_u8);
    }
    world.barrier();
}
