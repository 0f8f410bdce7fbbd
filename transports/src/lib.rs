//! Moves bytes: strided copies with fused checksums, and channels to peers.
//!
//! This crate knows bytes, strides, regions and peers; it never hears of
//! arrays by name, of steps or of servers. It is also the one door to clocks
//! ([`time`]) and randomness ([`random`]) for the crates above it.

pub mod channel;
pub mod copy;
pub mod coupling;
pub mod random;
pub mod rdma;
pub mod region;
pub mod shm;
mod signals;
pub mod time;
