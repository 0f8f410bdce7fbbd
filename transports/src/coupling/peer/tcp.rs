//! Data over sockets: one or two connections, and what was pushed.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags};

use super::core::{Core, Looking, lock, lost_by, take_leave};
use super::lane::{Lane, LaneEnd, Pushes, Targets};
use super::plan::plan;
use super::transport::Data;
use crate::channel::PolledReceiver;
use crate::copy::copy_bytes_uninit;
use crate::coupling::wire::{Frame, Join};
use crate::coupling::{CouplingError, Lost, Piece, PieceRef};
use crate::time::{INTERRUPT_POLL, Time, Wait};

/// Reads of at least so many bytes are spread over all connections.
const SPREAD_FROM_BYTES: u64 = 16 << 20;

/// The data of a peer whose transport is tcp.
pub(super) struct TcpData {
    core: Arc<Core>,
    lanes: Mutex<Lanes>,
}

#[derive(Default)]
struct Lanes {
    lanes: Vec<Lane>,
    pushes: Pushes,
    /// Why there is no data any more.
    lost: Option<Lost>,
    /// How many of the lanes the present read uses.
    used: usize,
}

impl TcpData {
    /// With the first connection where that is for data, and the one that is
    /// pushed on where anything may be.
    pub(super) fn new(
        core: Arc<Core>,
        first: Option<Lane>,
        wait: &Wait,
    ) -> Result<Self, CouplingError> {
        let push_bytes = core.options.limits.push_bytes;
        let mut lanes = Lanes {
            lanes: first.into_iter().collect(),
            ..Lanes::default()
        };
        lanes.pushes.limit_bytes = push_bytes;
        if push_bytes > 0 {
            let lane = open_lane(&core, push_bytes, wait)?;
            lanes.lanes.insert(0, lane);
        }
        Ok(Self {
            core,
            lanes: Mutex::new(lanes),
        })
    }

    /// As many connections as a read of so many bytes is worth.
    fn open_lanes(&self, lanes: &mut Lanes, bytes: u64, wait: &Wait) -> Result<(), CouplingError> {
        let most = self.core.options.limits.connections;
        let most = usize::from(most.min(self.core.terms.connections).max(1));
        lanes.used = if bytes >= SPREAD_FROM_BYTES { most } else { 1 };
        while lanes.lanes.len() < lanes.used {
            let lane = open_lane(&self.core, 0, wait)?;
            lanes.lanes.push(lane);
        }
        Ok(())
    }

    fn fail(&self, lanes: &mut Lanes, end: LaneEnd) -> CouplingError {
        lanes.lanes.iter_mut().for_each(Lane::abandon);
        match end {
            LaneEnd::Lost(lost) => {
                lanes.lost = Some(lost.clone());
                self.core.lost(lost)
            }
            LaneEnd::Missing(piece) => CouplingError::NotExposed {
                address: self.core.info.address,
                region: piece.region,
                offset: piece.offset,
                bytes: piece.bytes,
            },
        }
    }

    /// Waits for all lanes until `is_done`.
    fn run(
        &self,
        lanes: &mut Lanes,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
        during: &'static str,
        is_done: impl Fn(&Lanes) -> bool,
    ) -> Result<(), CouplingError> {
        let looking = Looking::new(self.core.options.spin);
        let lease = self.core.options.lease;
        let mut heard = Time::now();
        while !is_done(lanes) {
            match self.turn(lanes, pieces) {
                Ok(true) => {
                    heard = Time::now();
                    // A busy peer does not hold a caller beyond its deadline.
                    if let Err(source) = wait.slice() {
                        lanes.lanes.iter_mut().for_each(Lane::abandon);
                        return Err(self.core.not_ready(during, source));
                    }
                    continue;
                }
                Ok(false) => {}
                Err(end) => return Err(self.fail(lanes, end)),
            }
            let silent = Time::now().since(heard);
            if silent > lease {
                let lost = Lost::Silent { for_: silent };
                return Err(self.fail(lanes, LaneEnd::Lost(lost)));
            }
            let mut fds: Vec<PollFd<'_>> = lanes.lanes.iter().map(poll_fd).collect();
            if let Err(source) = looking.pause(&mut fds, wait, INTERRUPT_POLL) {
                lanes.lanes.iter_mut().for_each(Lane::abandon);
                return Err(self.core.not_ready(during, source));
            }
        }
        Ok(())
    }

    /// One look at each lane; whether anything had come.
    fn turn(&self, lanes: &mut Lanes, pieces: &mut [Piece<'_>]) -> Result<bool, LaneEnd> {
        let terms = &self.core.terms;
        let mut has_come = false;
        for lane in &mut lanes.lanes {
            lane.ask(terms.read_bytes, terms.read_pieces)?;
            has_come |= lane.receive(&mut Targets {
                pieces: &mut *pieces,
                pushes: &mut lanes.pushes,
            })?;
        }
        Ok(has_come)
    }
}

fn poll_fd(lane: &Lane) -> PollFd<'_> {
    let mut flags = PollFlags::IN;
    if lane.is_sending() {
        flags |= PollFlags::OUT;
    }
    PollFd::from_borrowed_fd(lane.receiver.as_fd(), flags)
}

fn open_lane(core: &Core, push_bytes: u64, wait: &Wait) -> Result<Lane, CouplingError> {
    let channel = core.connect_again(wait).map_err(|error| match error {
        crate::channel::ChannelError::Wait { source, .. } => core.not_ready("connect", source),
        error => core.lost(lost_by(&error)),
    })?;
    let (mut sender, receiver): (_, PolledReceiver) = channel.into_polled(true);
    let join = Frame::Join(Join {
        peer: core.terms.peer,
        token: core.terms.token,
        push_bytes,
    });
    // An empty socket takes it; what fails is seen by the first read.
    let _ = sender.queue(join.to_bytes(), Vec::new());
    let _ = sender.flush(usize::MAX);
    Ok(Lane::new(sender, receiver))
}

impl Data for TcpData {
    fn start_read(&self, pieces: &[PieceRef], wait: &Wait) -> Result<(), CouplingError> {
        let mut lanes = lock(&self.lanes);
        let lanes = &mut *lanes;
        if let Some(lost) = &lanes.lost {
            return Err(self.core.lost(lost.clone()));
        }
        let bytes = pieces
            .iter()
            .fold(0_u64, |sum, piece| sum.saturating_add(piece.bytes));
        self.open_lanes(lanes, bytes, wait)?;
        let terms = &self.core.terms;
        let own = self.core.options.limits.read_bytes;
        let limit_bytes = terms.read_bytes.min(own);
        let requests = plan(pieces, lanes.used, limit_bytes, terms.read_pieces);
        if !requests.is_empty() {
            self.core.counts.reads.add(1);
            self.core.counts.read_bytes.add(bytes);
            self.core.counts.round_trips.add(1);
        }
        for (turn, request) in requests.into_iter().enumerate() {
            lanes.lanes[turn % lanes.used].pending.push_back(request);
        }
        for lane in &mut lanes.lanes {
            if let Err(end) = lane.ask(terms.read_bytes, terms.read_pieces) {
                return Err(self.fail(lanes, end));
            }
        }
        Ok(())
    }

    fn finish_read(&self, pieces: &mut [Piece<'_>], wait: &Wait) -> Result<(), CouplingError> {
        let mut lanes = lock(&self.lanes);
        let is_done = |lanes: &Lanes| lanes.lanes.iter().all(Lane::is_done);
        self.run(&mut lanes, pieces, wait, "read", is_done)
    }

    fn abandon_read(&self) {
        lock(&self.lanes).lanes.iter_mut().for_each(Lane::abandon);
    }

    fn receive_push(
        &self,
        tag: u64,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
    ) -> Result<(), CouplingError> {
        let mut lanes = lock(&self.lanes);
        let lanes = &mut *lanes;
        if !lanes.pushes.held.contains_key(&tag) {
            if let Some(lost) = &lanes.lost {
                return Err(self.core.lost(lost.clone()));
            }
            let is_there = |lanes: &Lanes| lanes.pushes.held.contains_key(&tag);
            self.run(lanes, &mut [], wait, "receive_push", is_there)?;
        }
        let Some(bytes) = lanes.pushes.held.remove(&tag) else {
            return Ok(());
        };
        lanes.give_credit(bytes.len() as u64);
        let asked: usize = pieces.iter().map(|piece| piece.into.len()).sum();
        if asked != bytes.len() {
            return Err(CouplingError::OtherPieces);
        }
        self.core.counts.push_bytes.add(asked as u64);
        let mut rest = &bytes[..];
        for piece in pieces {
            let (now, after) = rest.split_at(piece.into.len());
            copy_bytes_uninit(piece.into, now, self.core.channel_counters.copies());
            rest = after;
        }
        Ok(())
    }
}

impl Lanes {
    /// Pushed bytes are held no more.
    fn give_credit(&mut self, bytes: u64) {
        self.pushes.held_bytes -= bytes;
        if let Some(lane) = self.lanes.first_mut() {
            // What fails is seen by the next that is received.
            let head = Frame::Credit { bytes }.to_bytes();
            let _ = lane.sender.queue(head, Vec::new());
            let _ = lane.sender.flush(usize::MAX);
        }
    }
}

impl Drop for TcpData {
    fn drop(&mut self) {
        // In the child of a fork the connections are the parent's, too.
        if !self.core.process.is_child() {
            let mut lanes = lock(&self.lanes);
            let lanes = lanes.lanes.iter_mut();
            lanes.for_each(|lane| take_leave(&mut lane.sender));
        }
    }
}
