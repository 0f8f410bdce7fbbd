//! Fills the ghost layers of a block from its six neighbours, over MPI.
//!
//! One message per face carries both fields; all twelve transfers are under way
//! at once. Faces only: the seven-point stencil reads no edge or corner.

use mpi::Rank;
use mpi::request::{multiple_scope, scope};
use mpi::topology::CartesianCommunicator;
use mpi::traits::*;
use ndarray::{Array3, Axis, Slice};

/// The neighbours along each axis, and the packing buffers of each face.
pub(crate) struct Halo {
    communicator: CartesianCommunicator,
    /// (below, above) along z, y, x.
    neighbours: [(Rank, Rank); 3],
    outgoing: [Vec<f64>; 6],
    incoming: [Vec<f64>; 6],
}

impl Halo {
    /// Prepares the exchange among the blocks of a periodic `communicator`.
    pub(crate) fn new(communicator: CartesianCommunicator) -> Self {
        let own = communicator.rank();
        let neighbours = [0, 1, 2].map(|axis| {
            let (below, above) = communicator.shift(axis, 1);
            // In a periodic direction there is always a neighbour.
            (below.unwrap_or(own), above.unwrap_or(own))
        });
        Self {
            communicator,
            neighbours,
            outgoing: Default::default(),
            incoming: Default::default(),
        }
    }

    /// Fills the ghost layers of `u` and `v`.
    pub(crate) fn exchange(&mut self, u: &mut Array3<f64>, v: &mut Array3<f64>) {
        for (face, (outgoing, incoming)) in
            self.outgoing.iter_mut().zip(&mut self.incoming).enumerate()
        {
            outgoing.clear();
            for field in [&*u, &*v] {
                let last = field.len_of(Axis(face / 2)) as isize - 2;
                let layer = if face.is_multiple_of(2) { 1 } else { last };
                let cells = field.slice_axis(Axis(face / 2), Slice::from(layer..=layer));
                outgoing.extend(cells.iter());
            }
            incoming.resize(outgoing.len(), 0.0);
        }
        self.transfer();
        for (face, incoming) in self.incoming.iter().enumerate() {
            let mut values = incoming.iter();
            for field in [&mut *u, &mut *v] {
                let last = field.len_of(Axis(face / 2)) as isize - 1;
                let layer = if face.is_multiple_of(2) { 0 } else { last };
                let cells = field.slice_axis_mut(Axis(face / 2), Slice::from(layer..=layer));
                for (cell, value) in cells.into_iter().zip(&mut values) {
                    *cell = *value;
                }
            }
        }
    }

    /// Sends every face and receives its counterpart. What leaves through one
    /// face arrives at the opposite one, which the tag names: two neighbours
    /// may be the same rank.
    fn transfer(&mut self) {
        let (communicator, neighbours) = (&self.communicator, &self.neighbours);
        let peer = |face: usize| {
            let (below, above) = neighbours[face / 2];
            communicator.process_at_rank(if face.is_multiple_of(2) { below } else { above })
        };
        let outgoing = &self.outgoing;
        scope(|sending| {
            let sends: Vec<_> = (0..6)
                .map(|face| {
                    let tag = face as i32 ^ 1;
                    let data = outgoing[face].as_slice();
                    peer(face).immediate_send_with_tag(sending, data, tag)
                })
                .collect();
            multiple_scope(6, |receiving, all| {
                for (face, buffer) in self.incoming.iter_mut().enumerate() {
                    let source = peer(face);
                    all.add(source.immediate_receive_into_with_tag(
                        receiving,
                        buffer.as_mut_slice(),
                        face as i32,
                    ));
                }
                all.wait_all(&mut Vec::new());
            });
            for send in sends {
                send.wait();
            }
        });
    }
}
