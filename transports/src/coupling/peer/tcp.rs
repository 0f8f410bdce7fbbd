//! Data over sockets: one or two connections, and what was pushed. That comes over
//! the link, or where there is none over the first connection.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags};

use super::core::{Core, Looking, lock, lost_by, take_leave};
use super::lane::{Lane, LaneEnd, Targets};
use super::plan::plan;
use super::pushes::Known;
use super::transport::Data;
use crate::channel::PolledReceiver;
use crate::coupling::wire::{Frame, Join};
use crate::coupling::{CouplingError, Lost, Piece, PieceRef, PushCounts, Tag};
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
    /// Why there is no data any more.
    lost: Option<Lost>,
    /// How many of the lanes the present read uses.
    used: usize,
}

impl TcpData {
    /// With the first connection where that is for data.
    pub(super) fn new(core: Arc<Core>, first: Option<Lane>) -> Self {
        let lanes = Lanes {
            lanes: first.into_iter().collect(),
            ..Lanes::default()
        };
        Self {
            core,
            lanes: Mutex::new(lanes),
        }
    }

    /// As many connections as a read of so many bytes is worth.
    fn open_lanes(&self, lanes: &mut Lanes, bytes: u64, wait: &Wait) -> Result<(), CouplingError> {
        let most = self.core.options.limits.connections;
        let most = usize::from(most.min(self.core.terms.connections).max(1));
        lanes.used = if bytes >= SPREAD_FROM_BYTES { most } else { 1 };
        while lanes.lanes.len() < lanes.used {
            let lane = open_lane(&self.core, wait)?;
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
        let lease = self.core.terms.lease;
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
                wanted: None,
                pushes: &mut lock(&self.core.pushes),
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

fn open_lane(core: &Core, wait: &Wait) -> Result<Lane, CouplingError> {
    let channel = core.connect_again(wait).map_err(|error| match error {
        crate::channel::ChannelError::Wait { source, .. } => core.not_ready("connect", source),
        error => core.lost(lost_by(&error)),
    })?;
    let (mut sender, receiver): (_, PolledReceiver) = channel.into_polled(true);
    let join = Frame::Join(Join {
        peer: core.terms.peer,
        token: core.terms.token,
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

    fn subscribe(&self, subject: u32, credit_bytes: u64, what: &[u8]) -> bool {
        let mut pushes = lock(&self.core.pushes);
        let limit_bytes = self.core.options.limits.push_bytes;
        let credit_bytes = credit_bytes.min(limit_bytes.saturating_sub(pushes.limit_bytes()));
        pushes.widen(credit_bytes);
        pushes.start(subject);
        drop(pushes);
        self.say(Frame::Subscribe { credit_bytes, what }.to_bytes());
        true
    }

    fn unsubscribe(&self, subject: u32, what: &[u8]) {
        lock(&self.core.pushes).end(subject);
        let credit_bytes = 0;
        self.say(Frame::Subscribe { credit_bytes, what }.to_bytes());
    }

    fn receive_push(
        &self,
        tag: Tag,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
    ) -> Result<bool, CouplingError> {
        if self.core.info.linked {
            return self.core.receive_push(tag, pieces, wait);
        }
        let mut lanes = lock(&self.lanes);
        let received = self.receive_on_lane(&mut lanes, tag, pieces, wait);
        lanes.give_credit(&self.core);
        received
    }

    fn forget_pushes(&self, below: u64) {
        lock(&self.core.pushes).forget(|tag| tag.number < below);
        if self.core.info.linked {
            self.core.give_credit();
        } else {
            lock(&self.lanes).give_credit(&self.core);
        }
    }

    fn push_counts(&self) -> PushCounts {
        lock(&self.core.pushes).counts()
    }
}

impl TcpData {
    /// Sends a frame where pushes come from.
    fn say(&self, head: Vec<u8>) {
        if self.core.info.linked {
            self.core.say(head);
            return;
        }
        let mut lanes = lock(&self.lanes);
        if let Some(lane) = lanes.lanes.first_mut() {
            // From now on much of what comes is small.
            lane.receiver.set_exact(false);
            lane.say(head);
        }
    }

    fn receive_on_lane(
        &self,
        lanes: &mut Lanes,
        tag: Tag,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
    ) -> Result<bool, CouplingError> {
        if let Some(lost) = &lanes.lost {
            return Err(self.core.lost(lost.clone()));
        }
        let looking = Looking::new(self.core.options.spin);
        let lease = self.core.terms.lease;
        let mut heard = Time::now();
        loop {
            let known = lock(&self.core.pushes).take(tag);
            let may_come = known == Known::ToCome;
            if let Known::Held(bytes) = known {
                return self.core.fill(&bytes, pieces);
            }
            let Some(lane) = lanes.lanes.first_mut() else {
                return Ok(false);
            };
            let mut pushes = lock(&self.core.pushes);
            let mut targets = Targets {
                pieces: &mut *pieces,
                wanted: Some(tag),
                pushes: &mut pushes,
            };
            let received = lane.receive(&mut targets);
            let may_come = may_come || lane.is_receiving_wanted();
            let has_come = received.map(|has_come| targets.wanted.map(|_| has_come));
            drop(pushes);
            match has_come {
                Ok(None) => {
                    let bytes = pieces.iter().map(|piece| piece.into.len() as u64).sum();
                    self.core.counts.push_bytes.add(bytes);
                    return Ok(true);
                }
                Ok(Some(true)) => {
                    heard = Time::now();
                    continue;
                }
                // All that has come was looked at.
                Ok(Some(false)) if !may_come => return Ok(false),
                Ok(Some(false)) => {}
                Err(end) => return Err(self.fail(lanes, end)),
            }
            let silent = Time::now().since(heard);
            if silent > lease {
                let lost = Lost::Silent { for_: silent };
                return Err(self.fail(lanes, LaneEnd::Lost(lost)));
            }
            let mut fds: Vec<PollFd<'_>> = lanes.lanes.first().map(poll_fd).into_iter().collect();
            if let Err(source) = looking.pause(&mut fds, wait, INTERRUPT_POLL) {
                lanes.lanes.iter_mut().for_each(Lane::abandon);
                return Err(self.core.not_ready("receive_push", source));
            }
        }
    }
}

impl Lanes {
    /// Gives credit back, if it is worth it.
    fn give_credit(&mut self, core: &Core) {
        let owed = lock(&core.pushes).take_owed();
        if let (Some(bytes), Some(lane)) = (owed, self.lanes.first_mut()) {
            lane.say(Frame::Credit { bytes }.to_bytes());
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
