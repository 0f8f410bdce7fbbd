//! Reading: what to ask of which server, and where its answers go.
//!
//! ```text
//!   read ──wishes──> boxes per server ──packed──> Get, Get, …  (all asked before any is awaited)
//!                                                   │
//!   user's array <──scatter, tiles verified──── Got ┘
//! ```
//! Boxes never overlap each other. What comes back is [`scatter`]'s.

mod scatter;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicU64;

use panta_core::engine::{Read, Wanted};
use panta_core::error::{Fault, GetError, Place};
use panta_core::model::{Definition, Entry, ShapeKind, StepMeta, cells};
use panta_core::plan::{Piece, Wish, first_uncovered, pieces};
use panta_transports::copy::{CopyCounter, CopyError, StridedRef, copy};
use panta_transports::time::Wait;

use super::driver::{Driver, NoBodies};
use super::fault::CallError;
use super::grid::{Grid, local_number};
use super::packing::Unpacking;
use super::reader::StepParts;
use crate::proto::ServerId;
use crate::proto::client::{Answer, CallId, ReaderCall, ReaderMachine};
use crate::proto::limits;
use crate::proto::message::{Query, Reason, Region};
use crate::routing::Router;
use crate::shard::ShardMap;

/// Bytes that one get asks for, about.
const GET_BYTES: u64 = 4 << 20;
/// Boxes of one get, below the protocol's limit.
const BOXES_PER_GET: usize = limits::BOXES_LIMIT / 4;
/// Gets under way at once: one for each server, and so many more.
const GETS_AHEAD: usize = 6;

/// Cells of one read that lie in one box of the servers' space.
struct Lump {
    read: usize,
    /// In the space, without the number that local blocks have in front.
    start: Vec<u64>,
    count: Vec<u64>,
    step: Vec<u64>,
    /// Where the first of them goes in the result.
    into: Vec<u64>,
    /// Of local blocks.
    number: Option<u64>,
    /// Only what this put brought: writer group, rank, order.
    only: Option<(u32, u32, u64)>,
}

/// A box to ask one server for.
#[derive(Clone)]
struct Ask {
    lump: usize,
    start: Vec<u64>,
    count: Vec<u64>,
}

/// One message's worth of them.
struct Batch {
    server: ServerId,
    asks: Vec<Ask>,
}

/// Does the reads of one call.
pub(super) struct Fetch<'a, 'r, 'd> {
    pub(super) meta: &'a StepMeta,
    pub(super) parts: &'a StepParts,
    pub(super) map: &'a ShardMap,
    pub(super) place: Place,
    pub(super) verify: bool,
    pub(super) copies: &'a CopyCounter,
    /// Bytes that servers sent.
    pub(super) fetched: &'a AtomicU64,
    /// Made when the first packed piece comes.
    pub(super) unpacking: Option<Unpacking>,
    pub(super) wait: &'a Wait,
    pub(super) reads: &'r mut [Read<'d>],
}

impl Fetch<'_, '_, '_> {
    fn entry(&self, read: usize) -> &Entry {
        &self.meta.entries[self.reads[read].entry]
    }

    fn definition(&self, read: usize) -> &Definition {
        &self.entry(read).definition
    }

    fn place(&self, read: usize) -> Place {
        self.place.clone().of_variable(&self.definition(read).name)
    }

    fn failed(&self, read: usize, fault: Fault) -> GetError {
        fault.at(self.place(read)).into()
    }

    /// Plans, asks, scatters.
    pub(super) fn run(
        mut self,
        driver: &mut Driver<ReaderMachine>,
        router: &mut Router,
    ) -> Result<(), GetError> {
        let mut lumps = Vec::new();
        let mut expected = vec![0; self.reads.len()];
        for (read, expected) in expected.iter_mut().enumerate() {
            *expected = self.plan(read, &mut lumps)?;
        }
        let mut asks: BTreeMap<ServerId, Vec<Ask>> = BTreeMap::new();
        for (place, lump) in lumps.iter().enumerate() {
            self.ask(place, lump, router, &mut asks)?;
        }
        let mut batches = pack(asks, |ask| self.bytes_of(&lumps[ask.lump], ask));
        let mut received = vec![0; self.reads.len()];
        let servers: BTreeSet<ServerId> = batches.iter().map(|batch| batch.server).collect();
        let window = servers.len() + GETS_AHEAD;
        let mut flying = VecDeque::new();
        let result = 'all: loop {
            while flying.len() < window
                && let Some(batch) = batches.pop_front()
            {
                match self.start(&batch, &lumps, driver) {
                    Ok(id) => flying.push_back((id, batch)),
                    Err(error) => break 'all Err(error),
                }
            }
            let Some((id, batch)) = flying.pop_front() else {
                break Ok(());
            };
            match self.land(id, batch, &lumps, driver, &mut received) {
                Ok(None) => {}
                Ok(Some(halves)) => halves
                    .into_iter()
                    .rev()
                    .for_each(|half| batches.push_front(half)),
                Err(error) => break Err(error),
            }
        };
        for (id, _) in flying {
            driver.forget(id);
        }
        result?;
        self.check_complete(&expected, &received)
    }

    /// Every cell that the layout promises must have come.
    fn check_complete(&self, expected: &[u64], received: &[u64]) -> Result<(), GetError> {
        match (0..expected.len()).find(|read| expected[*read] != received[*read]) {
            None => Ok(()),
            Some(read) => {
                let fault = Fault::Corrupt {
                    what: "what the servers sent".into(),
                    problem: format!(
                        "{} cells came where the step's layout has {}",
                        received[read], expected[read]
                    ),
                };
                Err(self.failed(read, fault))
            }
        }
    }

    /// The lumps of one read, and how many cells they hold; fills what nobody put.
    fn plan(&mut self, read: usize, lumps: &mut Vec<Lump>) -> Result<u64, GetError> {
        let count = self.reads[read].into.count().to_vec();
        match self.reads[read].wanted.clone() {
            Wanted::Array { start, step } => {
                let wish = Wish {
                    start: &start,
                    count: &count,
                    step: &step,
                };
                let index = self.parts.index(self.meta, self.reads[read].entry);
                let found = pieces(index, &wish);
                self.cover(read, &wish, &found)?;
                let expected = found.iter().map(|piece| cells(&piece.count)).sum();
                if self.definition(read).kind == ShapeKind::GlobalArray {
                    if expected > 0 {
                        lumps.push(Lump {
                            read,
                            into: vec![0; count.len()],
                            start: start.to_vec(),
                            count,
                            step: step.to_vec(),
                            number: None,
                            only: None,
                        });
                    }
                } else {
                    for piece in found {
                        lumps.push(self.joined(read, piece, &step)?);
                    }
                }
                Ok(expected)
            }
            Wanted::Block { block, start, step } => {
                let lump = self.of_block(read, block.0 as usize, start.to_vec(), step.to_vec())?;
                let expected = cells(&lump.count);
                lumps.push(lump);
                Ok(expected)
            }
        }
    }

    /// A part of a joined array that one block gave.
    fn joined(&self, read: usize, piece: Piece, step: &[u64]) -> Result<Lump, GetError> {
        Ok(Lump {
            read,
            number: Some(self.number(read, piece.block)?),
            only: None,
            start: piece.from.to_vec(),
            count: piece.count.to_vec(),
            step: step.to_vec(),
            into: piece.into.to_vec(),
        })
    }

    fn of_block(
        &self,
        read: usize,
        block: usize,
        start: Vec<u64>,
        step: Vec<u64>,
    ) -> Result<Lump, GetError> {
        let count = self.reads[read].into.count().to_vec();
        let entry = self.entry(read);
        let mut lump = Lump {
            read,
            into: vec![0; count.len()],
            start,
            count,
            step,
            number: None,
            only: None,
        };
        if entry.definition.kind == ShapeKind::GlobalArray {
            let put = &entry.blocks[block].block;
            for (start, offset) in lump.start.iter_mut().zip(&put.start) {
                *start += offset;
            }
            let (slot, rank) = self.parts.holding.writer_of(put.rank);
            lump.only = Some((slot, rank, u64::from(put.order)));
        } else {
            lump.number = Some(self.number(read, block)?);
        }
        Ok(lump)
    }

    fn number(&self, read: usize, block: usize) -> Result<u64, GetError> {
        let put = &self.entry(read).blocks[block].block;
        let (slot, rank) = self.parts.holding.writer_of(put.rank);
        local_number(slot, rank, put.order).ok_or_else(|| {
            let fault = Fault::Corrupt {
                what: "the step's layout".into(),
                problem: format!("it names rank {rank} of writer {slot}"),
            };
            self.failed(read, fault)
        })
    }

    /// Gives cells that no block covers the fill value, or says that there are some.
    fn cover(&mut self, read: usize, wish: &Wish<'_>, found: &[Piece]) -> Result<(), GetError> {
        let Some((start, count)) = first_uncovered(wish, found) else {
            return Ok(());
        };
        let definition = std::sync::Arc::clone(&self.entry(read).definition);
        let Some(fill) = &definition.fill else {
            return Err(GetError::NotCovered {
                place: self.place(read),
                start,
                count,
            });
        };
        let element = definition.dtype.size_bytes();
        if fill.len() != element {
            let problem = format!("the fill value has {} bytes", fill.len());
            return Err(self.shape(read, &problem));
        }
        let sides = self.reads[read].into.count().to_vec();
        // SAFETY: with strides of zero every element is the fill value itself,
        // whose length was compared with an element's and which outlives the view.
        let one = unsafe {
            StridedRef::from_raw_parts(fill.as_ptr(), element, &sides, &vec![0; sides.len()])
        };
        let filled = one
            .map_err(CopyError::from)
            .and_then(|one| copy(&mut self.reads[read].into, &one, self.copies));
        filled.map_err(|error| self.shape(read, &error))
    }

    fn shape(&self, read: usize, problem: &dyn std::fmt::Display) -> GetError {
        GetError::Shape {
            place: self.place(read),
            problem: problem.to_string(),
        }
    }

    /// The boxes of a lump, by server.
    fn ask(
        &self,
        place: usize,
        lump: &Lump,
        router: &mut Router,
        asks: &mut BTreeMap<ServerId, Vec<Ask>>,
    ) -> Result<(), GetError> {
        let grid = self.grid(lump.read)?;
        let wish = lump.wish();
        let (start, count) = wish.extent();
        let (start, count) = (start.to_vec(), count.to_vec());
        let owners = match lump.number {
            Some(number) => vec![(grid.local_owner(self.map, number).0, start, count)],
            None => grid.owners(self.map, router, &start, &count),
        };
        for (server, start, count) in owners {
            // Who acknowledged nothing of this step holds nothing of it.
            if self.parts.holding.share_of(server).is_some() {
                let element = self.definition(lump.read).dtype.size_bytes() as u64;
                for (start, count) in cut(start, count, element, GET_BYTES) {
                    let ask = Ask {
                        lump: place,
                        start,
                        count,
                    };
                    asks.entry(server).or_default().push(ask);
                }
            }
        }
        Ok(())
    }

    fn grid(&self, read: usize) -> Result<&Grid, GetError> {
        let grid = self.parts.grid(self.meta, self.reads[read].entry);
        grid.map_err(|problem| self.shape(read, &problem))
    }

    fn bytes_of(&self, lump: &Lump, ask: &Ask) -> u64 {
        let element = self.definition(lump.read).dtype.size_bytes() as u64;
        cells(&ask.count).saturating_mul(element)
    }

    fn start(
        &self,
        batch: &Batch,
        lumps: &[Lump],
        driver: &mut Driver<ReaderMachine>,
    ) -> Result<CallId, GetError> {
        let holding = &self.parts.holding;
        let mut queries: Vec<Query> = Vec::new();
        for ask in &batch.asks {
            let lump = &lumps[ask.lump];
            let name = &self.definition(lump.read).name;
            let region = Region {
                start: lump
                    .number
                    .into_iter()
                    .chain(ask.start.iter().copied())
                    .collect(),
                count: lump
                    .number
                    .map(|_| 1)
                    .into_iter()
                    .chain(ask.count.iter().copied())
                    .collect(),
            };
            match queries.last_mut().filter(|query| query.variable == *name) {
                Some(query) => query.boxes.push(region),
                None => queries.push(Query {
                    variable: name.clone(),
                    layout: holding.layout_of(name),
                    boxes: vec![region],
                }),
            }
        }
        let Some(share) = holding.share_of(batch.server) else {
            let read = batch.asks.first().map_or(0, |ask| lumps[ask.lump].read);
            let fault = Fault::Corrupt {
                what: "the step".into(),
                problem: "a server without a share of it was asked".into(),
            };
            return Err(self.failed(read, fault));
        };
        let call = ReaderCall::Get {
            server: batch.server,
            epoch: holding.epoch,
            step: holding.step,
            share,
            queries,
        };
        Ok(driver.start(call, &NoBodies, self.wait))
    }

    /// Waits for an answer and scatters it. Gives back two halves to ask for
    /// where it was too much for one get.
    fn land(
        &mut self,
        id: CallId,
        batch: Batch,
        lumps: &[Lump],
        driver: &mut Driver<ReaderMachine>,
        received: &mut [u64],
    ) -> Result<Option<Vec<Batch>>, GetError> {
        let read = batch.asks.first().map_or(0, |ask| lumps[ask.lump].read);
        match driver.finish(id, &NoBodies, self.wait) {
            Ok(Answer::Got { got, body }) => {
                let bytes = body.map(|body| driver.take_body(body)).unwrap_or_default();
                let scattered = self.scatter(&got, &bytes, &batch, lumps, received);
                driver.give_back(bytes);
                scattered.map(|()| None)
            }
            Ok(_) => {
                let fault = Fault::Corrupt {
                    what: "an answer".into(),
                    problem: "it is of another kind than was asked for".into(),
                };
                Err(self.failed(read, fault))
            }
            Err(error) => {
                let too_many = matches!(error.refusal(), Some((Reason::TooMany, ..)));
                match halves(batch).filter(|_| too_many) {
                    Some(halves) => Ok(Some(halves)),
                    None => Err(self.refused(read, error)),
                }
            }
        }
    }

    fn refused(&self, read: usize, error: CallError) -> GetError {
        self.failed(read, error.fault())
    }
}

impl Lump {
    fn wish(&self) -> Wish<'_> {
        Wish {
            start: &self.start,
            count: &self.count,
            step: &self.step,
        }
    }
}

/// Asks in messages, servers in turn.
fn pack(asks: BTreeMap<ServerId, Vec<Ask>>, bytes_of: impl Fn(&Ask) -> u64) -> VecDeque<Batch> {
    let mut rounds: Vec<Vec<Batch>> = Vec::new();
    for (server, asks) in asks {
        let mut round = 0;
        let mut batch = Vec::new();
        let mut bytes = 0_u64;
        let mut close = |batch: Vec<Ask>, round: &mut usize| {
            if rounds.len() <= *round {
                rounds.push(Vec::new());
            }
            rounds[*round].push(Batch {
                server,
                asks: batch,
            });
            *round += 1;
        };
        for ask in asks {
            let more = bytes_of(&ask);
            let full = bytes.saturating_add(more) > GET_BYTES || batch.len() >= BOXES_PER_GET;
            if full && !batch.is_empty() {
                close(std::mem::take(&mut batch), &mut round);
                bytes = 0;
            }
            bytes = bytes.saturating_add(more);
            batch.push(ask);
        }
        if !batch.is_empty() {
            close(batch, &mut round);
        }
    }
    rounds.into_iter().flatten().collect()
}

/// A box in parts of so many bytes at most, whole rows as long as one fits.
pub(super) fn cut(
    start: Vec<u64>,
    count: Vec<u64>,
    element: u64,
    at_most: u64,
) -> Vec<(Vec<u64>, Vec<u64>)> {
    let mut done = Vec::new();
    let mut parts = vec![(start, count)];
    while let Some((start, count)) = parts.pop() {
        let bytes = cells(&count).saturating_mul(element);
        match count
            .iter()
            .position(|side| *side > 1)
            .filter(|_| bytes > at_most)
        {
            None => done.push((start, count)),
            Some(dimension) => {
                let row = bytes / count[dimension];
                let rows = (at_most / row.max(1)).clamp(1, count[dimension] - 1);
                let (mut low, mut high) = (count.clone(), count);
                low[dimension] = rows;
                high[dimension] -= rows;
                let mut above = start.clone();
                above[dimension] += rows;
                parts.push((above, high));
                parts.push((start, low));
            }
        }
    }
    done
}

/// Half of the asks each, or of the only one's cells; `None` for one cell.
fn halves(mut batch: Batch) -> Option<Vec<Batch>> {
    let server = batch.server;
    if batch.asks.len() > 1 {
        let high = batch.asks.split_off(batch.asks.len() / 2);
        return Some(vec![batch, Batch { server, asks: high }]);
    }
    let ask = batch.asks.pop()?;
    let dimension = (0..ask.count.len()).max_by_key(|dimension| ask.count[*dimension])?;
    let side = ask.count[dimension];
    if side < 2 {
        return None;
    }
    let (mut low, mut high) = (ask.clone(), ask);
    low.count[dimension] = side / 2;
    high.count[dimension] = side - side / 2;
    high.start[dimension] += side / 2;
    Some(vec![
        Batch {
            server,
            asks: vec![low],
        },
        Batch {
            server,
            asks: vec![high],
        },
    ])
}
