//! To be filled.

#[cfg(feature = "mpi")]
pub mod mpi;
