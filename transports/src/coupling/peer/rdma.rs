//! A peer over a fabric: one-sided reads of registered regions. Messages go
//! over the channel, whose end also tells when the endpoint is gone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::core::{Core, lock, lost_by, take_leave};
use super::lane::Lane;
use super::transport::Data;
use crate::coupling::{CouplingError, Piece, PieceRef};
use crate::rdma::{FabricError, FabricReader, RegionBatch, RegionPiece, read_regions};
use crate::time::Wait;

/// How long a failed read waits for the channel to say that the endpoint is
/// gone, which is noticed at about the same time.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Data over a fabric.
pub(super) struct RdmaData {
    core: Arc<Core>,
    reader: Mutex<FabricReader>,
    /// The first connection of a peer that is not linked: its end is the
    /// peer's.
    first: Mutex<Option<Lane>>,
}

impl RdmaData {
    pub(super) fn new(core: Arc<Core>, reader: FabricReader, first: Option<Lane>) -> Self {
        Self {
            core,
            reader: Mutex::new(reader),
            first: Mutex::new(first),
        }
    }

    fn failed(&self, error: FabricError, pieces: &[PieceRef]) -> CouplingError {
        let address = self.core.info.address;
        let not_exposed = |piece: &PieceRef| CouplingError::NotExposed {
            address,
            region: piece.region,
            offset: piece.offset,
            bytes: piece.bytes,
        };
        let found = match &error {
            FabricError::NotExposed { region } => {
                pieces.iter().find(|piece| piece.region == *region)
            }
            FabricError::OutOfMemory { offset, bytes, .. } => pieces
                .iter()
                .find(|piece| piece.offset == *offset && piece.bytes == *bytes)
                .or(pieces.first()),
            _ => None,
        };
        if let Some(piece) = found {
            return not_exposed(piece);
        }
        match error {
            FabricError::Wait { source, .. } => self.core.not_ready("read", source),
            FabricError::Forked => CouplingError::Forked,
            other => self.lost().unwrap_or_else(|| CouplingError::Io {
                during: "a read over the fabric",
                source: std::io::Error::other(other.to_string()),
            }),
        }
    }

    /// Whether the channel says that the endpoint is gone.
    fn lost(&self) -> Option<CouplingError> {
        let wait = Wait::for_at_most(LAST_WORDS);
        loop {
            if let Some(lost) = self.find_lost() {
                return Some(lost);
            }
            let slice = wait.slice().ok()?;
            self.core.wait_for_link(slice);
        }
    }

    /// The same, without waiting.
    fn find_lost(&self) -> Option<CouplingError> {
        match &mut *lock(&self.first) {
            Some(lane) => match lane.receiver.next_head(true) {
                Ok(_) => None,
                Err(error) => Some(self.core.lost(lost_by(&error))),
            },
            None => self.core.find_lost(),
        }
    }
}

/// Reads from several endpoints at once. Each comes with its place, which is told
/// with an error.
pub(super) fn read_many(
    reads: &mut [(usize, &RdmaData, &mut [Piece<'_>])],
    wait: &Wait,
) -> Result<(), (usize, CouplingError)> {
    let mut wanted: Vec<Vec<RegionPiece<'_>>> = Vec::with_capacity(reads.len());
    let mut readers = Vec::with_capacity(reads.len());
    let all: Vec<&RdmaData> = reads.iter().map(|(_, data, _)| *data).collect();
    let mut lives = |at: usize| all[at].find_lost().is_none();
    for (place, data, pieces) in &mut *reads {
        // The fabric itself may try for long to reach one that is gone.
        if let Some(lost) = data.find_lost() {
            return Err((*place, lost));
        }
        wanted.push(
            pieces
                .iter_mut()
                .filter(|piece| !piece.into.is_empty())
                .map(|piece| RegionPiece {
                    region: piece.region,
                    offset: piece.offset,
                    into: &mut *piece.into,
                })
                .collect(),
        );
        readers.push(lock(&data.reader));
    }
    let mut batches: Vec<RegionBatch<'_, '_, '_>> = readers
        .iter_mut()
        .zip(&mut wanted)
        .map(|(reader, pieces)| RegionBatch { reader, pieces })
        .collect();
    let read = read_regions(&mut batches, wait, &mut lives);
    drop(batches);
    drop(readers);
    drop(wanted);
    let sources = |pieces: &[Piece<'_>]| -> Vec<PieceRef> {
        let all = pieces.iter().map(Piece::source);
        all.filter(|source| source.bytes > 0).collect()
    };
    if let Err((at, error)) = read {
        let (place, data, pieces) = &reads[at];
        return Err((*place, data.failed(error, &sources(pieces))));
    }
    for (_, data, pieces) in reads {
        let sources = sources(pieces);
        if !sources.is_empty() {
            let counts = &data.core.counts;
            counts.reads.add(1);
            counts.round_trips.add(1);
            counts
                .read_bytes
                .add(sources.iter().map(|source| source.bytes).sum());
        }
    }
    Ok(())
}

impl Data for RdmaData {
    fn start_read(&self, pieces: &[PieceRef], wait: &Wait) -> Result<(), CouplingError> {
        let _ = (pieces, wait);
        // The fabric itself may try for long to reach one that is gone.
        self.find_lost().map_or(Ok(()), Err)
    }

    fn finish_read(&self, pieces: &mut [Piece<'_>], wait: &Wait) -> Result<(), CouplingError> {
        read_many(&mut [(0, self, pieces)], wait).map_err(|(_, error)| error)
    }

    fn fabric(&self) -> Option<&RdmaData> {
        Some(self)
    }

    fn abandon_read(&self) {}
}

impl Drop for RdmaData {
    fn drop(&mut self) {
        // In the child of a fork the connection is the parent's, too.
        if !self.core.process.is_child()
            && let Some(lane) = &mut *lock(&self.first)
        {
            take_leave(&mut lane.sender);
        }
    }
}
