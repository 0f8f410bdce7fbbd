//! Sends one rank's blocks to their owners, several messages at once.
//!
//! ```text
//!   block ──pieces──┬─ contiguous: summed where it lies ──────────┐
//!                   └─ strided: gathered and summed, tile by tile ┼─> batch per server ──> Put
//!                      to be compressed: parts of 1 MiB, packed ──┘
//! ```
//! A batch goes when it is full, or its variable is done; acknowledgements are
//! waited for only when [`WINDOW_BYTES`] are under way, and at the end. So the
//! round trips of a step do not grow with its chunks.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use panta_core::error::Fault;
use panta_core::model::{BlockPass, DType, Stats};
use panta_transports::copy::{
    CopyCounter, StridedRef, TileVisit, checksum_tiles, copy_bytes, gather_tiles,
};
use panta_transports::time::Wait;

use super::driver::{Bodies, Driver};
use super::fetch::cut;
use super::grid::Placed;
use super::packing::{PIECE_BYTES, Packing};
use crate::proto::client::{CallId, PutCall, WriterCall, WriterMachine};
use crate::proto::limits;
use crate::proto::message::Piece;
use crate::proto::{RegionId, ServerId};

/// A batch goes once it has so many bytes.
const PUT_BYTES: usize = 4 << 20;
/// Bytes that may be under way without an acknowledgement.
const WINDOW_BYTES: usize = 32 << 20;
/// The most pieces of one message, below the protocol's limit.
const PIECES_PER_PUT: usize = limits::PIECES_LIMIT / 2;
/// Gather buffers kept from put to put.
const IDLE_BUFFERS: usize = WINDOW_BYTES / PUT_BYTES;

/// Gather buffers, kept from step to step.
#[derive(Default)]
pub(super) struct Putter {
    idle: Vec<Vec<u8>>,
    /// Where pieces are compressed.
    packing: Option<Packing>,
}

/// What a block is part of.
pub(super) struct Target<'a> {
    pub(super) step: u64,
    pub(super) oldest: u64,
    pub(super) kept: &'a [u64],
    pub(super) map_version: u64,
    pub(super) variable: &'a str,
    pub(super) layout: u32,
    pub(super) order: u32,
    pub(super) dtype: DType,
    /// The block's first cell; of a local one its number and zeros.
    pub(super) origin: Vec<u64>,
}

/// Bytes of a message: lent by the caller, or gathered.
enum Part<'d> {
    Lent(&'d [u8]),
    Gathered(Range<usize>),
}

#[derive(Default)]
struct Body<'d> {
    parts: Vec<Part<'d>>,
    /// As long as it ever was; only `used` of it is this body's.
    memory: Vec<u8>,
    used: usize,
}

/// Messages that are not acknowledged yet.
#[derive(Default)]
struct Flying<'d>(BTreeMap<u64, Body<'d>>);

impl Bodies for Flying<'_> {
    fn slices(&self, region: RegionId) -> Vec<&[u8]> {
        let Some(body) = self.0.get(&region.0) else {
            return Vec::new();
        };
        body.parts
            .iter()
            .map(|part| match part {
                Part::Lent(bytes) => *bytes,
                Part::Gathered(range) => &body.memory[range.clone()],
            })
            .collect()
    }
}

#[derive(Default)]
struct Batch<'d> {
    pieces: Vec<Piece>,
    body: Body<'d>,
    bytes: usize,
}

/// The puts of one step on one rank.
pub(super) struct Session<'a, 'd> {
    idle: &'a mut Vec<Vec<u8>>,
    packing: Option<&'a mut Packing>,
    driver: &'a mut Driver<WriterMachine>,
    copies: &'a CopyCounter,
    wait: &'a Wait,
    batches: BTreeMap<ServerId, Batch<'d>>,
    flying: Flying<'d>,
    /// In the order in which they were sent, with their bytes.
    order: VecDeque<(CallId, RegionId, usize)>,
    flying_bytes: usize,
}

impl Putter {
    pub(super) fn compressing(packing: Option<Packing>) -> Self {
        Self {
            packing,
            ..Self::default()
        }
    }

    pub(super) fn begin<'a, 'd>(
        &'a mut self,
        driver: &'a mut Driver<WriterMachine>,
        copies: &'a CopyCounter,
        wait: &'a Wait,
    ) -> Session<'a, 'd> {
        Session {
            idle: &mut self.idle,
            packing: self.packing.as_mut(),
            driver,
            copies,
            wait,
            batches: BTreeMap::new(),
            flying: Flying::default(),
            order: VecDeque::new(),
            flying_bytes: 0,
        }
    }
}

impl<'d> Session<'_, 'd> {
    /// Sends a block's pieces on their way.
    pub(super) fn put(
        &mut self,
        target: &Target<'_>,
        source: StridedRef<'d>,
        placed: &[Placed],
        mut pass: BlockPass,
    ) -> Result<Option<Stats>, Fault> {
        let element = target.dtype.size_bytes() as u64;
        for piece in placed {
            if self.packing.is_none() {
                self.put_piece(target, &source, piece, &mut pass)?;
                continue;
            }
            let (start, count) = (piece.start.clone(), piece.count.clone());
            for (start, count) in cut(start, count, element, PIECE_BYTES) {
                let part = Placed {
                    start,
                    count,
                    ..*piece
                };
                self.put_piece(target, &source, &part, &mut pass)?;
            }
        }
        let servers: Vec<ServerId> = self.batches.keys().copied().collect();
        for server in servers {
            self.send(target, server)?;
        }
        Ok(pass.finish())
    }

    /// Adds a piece to its server's batch, which goes when it is full.
    fn put_piece(
        &mut self,
        target: &Target<'_>,
        source: &StridedRef<'d>,
        piece: &Placed,
        pass: &mut BlockPass,
    ) -> Result<(), Fault> {
        let bytes = self.add(target, source, piece, pass)?;
        let batch = self.batches.get(&piece.server);
        let full = batch.is_some_and(|batch| {
            batch.bytes + bytes > PUT_BYTES || batch.pieces.len() >= PIECES_PER_PUT
        });
        match full {
            true => self.send(target, piece.server),
            false => Ok(()),
        }
    }

    /// Adds a piece to its server's batch; its bytes.
    fn add(
        &mut self,
        target: &Target<'_>,
        source: &StridedRef<'d>,
        placed: &Placed,
        pass: &mut BlockPass,
    ) -> Result<usize, Fault> {
        let internal = |problem: &dyn std::fmt::Display| Fault::Refused {
            peer: "this engine".into(),
            why: problem.to_string(),
        };
        let view = source
            .sub_box(&placed.start, &placed.count)
            .map_err(|error| internal(&error))?;
        let idle = &mut *self.idle;
        let batch = self.batches.entry(placed.server).or_default();
        let mut checksums = Vec::new();
        // A piece is in memory, whole.
        let mut bytes = view.bytes() as usize;
        if let Some(packing) = self.packing.as_deref_mut() {
            let packed = packing.pack(&view, target.dtype, pass, self.copies);
            let packed = packed.map_err(|error| internal(&error))?;
            bytes = packed.len();
            let range = batch.body.room(bytes, idle);
            copy_bytes(&mut batch.body.memory[range.clone()], packed, self.copies);
            checksum_tiles(packed, &mut checksums, &mut |_| {});
            batch.body.parts.push(Part::Gathered(range));
        } else if let Some(lent) = view.as_slice().filter(|_| !pass.changes()) {
            checksum_tiles(lent, &mut checksums, &mut |tile| pass.look(tile));
            batch.body.parts.push(Part::Lent(lent));
        } else {
            let range = batch.body.room(bytes, idle);
            let into = &mut batch.body.memory[range.clone()];
            gather_tiles(into, &view, &mut checksums, pass, self.copies)
                .map_err(|error| internal(&error))?;
            batch.body.parts.push(Part::Gathered(range));
        }
        batch.bytes += bytes;
        batch.pieces.push(piece(target, placed, bytes, checksums));
        Ok(bytes)
    }

    fn send(&mut self, target: &Target<'_>, server: ServerId) -> Result<(), Fault> {
        let Some(batch) = self.batches.remove(&server) else {
            return Ok(());
        };
        let region = self.driver.new_region();
        self.flying.0.insert(region.0, batch.body);
        let call = WriterCall::Put(PutCall {
            server,
            step: target.step,
            oldest: target.oldest,
            kept: target.kept.to_vec(),
            map_version: target.map_version,
            variable: target.variable.to_owned(),
            layout: target.layout,
            element_bytes: match self.packing {
                // What is packed cannot be cut.
                Some(_) => 0,
                None => u32::try_from(target.dtype.size_bytes()).unwrap_or(0),
            },
            pieces: batch.pieces,
            body: region,
        });
        let id = self.driver.start(call, &self.flying, self.wait);
        self.order.push_back((id, region, batch.bytes));
        self.flying_bytes += batch.bytes;
        while self.flying_bytes > WINDOW_BYTES || self.oldest_is_done() {
            self.land()?;
        }
        Ok(())
    }

    fn oldest_is_done(&self) -> bool {
        let oldest = self.order.front();
        oldest.is_some_and(|(id, ..)| self.driver.is_finished(*id))
    }

    /// Waits for the oldest acknowledgement.
    fn land(&mut self) -> Result<(), Fault> {
        let Some((id, region, bytes)) = self.order.pop_front() else {
            return Ok(());
        };
        let result = self.driver.finish(id, &self.flying, self.wait);
        self.flying_bytes -= bytes;
        if let Some(body) = self.flying.0.remove(&region.0) {
            self.keep(body.memory);
        }
        result.map(drop).map_err(super::fault::CallError::fault)
    }

    fn keep(&mut self, memory: Vec<u8>) {
        if !memory.is_empty() && self.idle.len() < IDLE_BUFFERS {
            self.idle.push(memory);
        }
    }

    /// Waits for every acknowledgement.
    pub(super) fn finish(mut self) -> Result<(), Fault> {
        while !self.order.is_empty() {
            self.land()?;
        }
        Ok(())
    }
}

impl Drop for Session<'_, '_> {
    /// What is still under way after an error is given up: its bytes go back
    /// to their owner.
    fn drop(&mut self) {
        for (id, ..) in std::mem::take(&mut self.order) {
            self.driver.forget(id);
        }
    }
}

impl Body<'_> {
    /// Room for so many gathered bytes.
    fn room(&mut self, bytes: usize, idle: &mut Vec<Vec<u8>>) -> Range<usize> {
        if self.memory.is_empty() {
            self.memory = idle.pop().unwrap_or_default();
        }
        let range = self.used..self.used + bytes;
        if self.memory.len() < range.end {
            self.memory.resize(range.end.max(PUT_BYTES), 0);
        }
        self.used = range.end;
        range
    }
}

fn piece(target: &Target<'_>, placed: &Placed, bytes: usize, checksums: Vec<u32>) -> Piece {
    let lead = target.origin.len() - placed.start.len();
    let mut start = target.origin.clone();
    for (start, within) in start[lead..].iter_mut().zip(&placed.start) {
        *start += within;
    }
    let mut count = vec![1; lead];
    count.extend_from_slice(&placed.count);
    Piece {
        start,
        count,
        order: u64::from(target.order),
        length_bytes: bytes as u64,
        checksums,
        ..Piece::default()
    }
    .with_key(placed.key)
}
