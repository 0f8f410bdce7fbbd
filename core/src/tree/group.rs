//! One rank's links, and the round of frames that each collective is.
//!
//! ```text
//!            collect ups        send up       await down        send down
//! gather        x            x (to its end)
//! broadcast                                       x                 x
//! agree         x                 x               x                 x
//! barrier       x                 x               x                 x
//! ```
//!
//! What can go wrong, and who is told:
//! - Until the root has decided, a failure anywhere fails the round: who
//!   notices poisons its parent and its children, and so on.
//! - A rank that waits for the root's word when something below it fails asks
//!   the root first: it poisons its parent and waits [`RULING_GRACE`] for the
//!   word, which may be on its way. So ranks that live agree on the outcome.
//! - While a decision is on its way down, failures are kept for the next call.
//!
//! Frames that come before their round stay in the inbox: neighbours may be
//! ahead where a collective doesn't wait for them.

use super::TreeCounters;
use super::entries::{self, Said};
use super::error::{Failure, Operation, TreeError};
use super::frame::{self, Frame, Kind};
use super::link::{self, End, Link};
use super::watch::Watch;
use super::{MAX_FRAME_BYTES, RULING_GRACE};
use crate::engine::Beside;
use panta_transports::time::{Time, Wait, WaitError};
use std::sync::Arc;
use std::time::Duration;

/// A rank and its neighbours.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) rank: usize,
    size: usize,
    parent: Option<Link>,
    children: Vec<Link>,
    round: u64,
    /// The first failure; sticks.
    broken: Option<TreeError>,
    pub(super) counters: TreeCounters,
    /// How long a round looks out before it sleeps.
    pub(super) spin: Duration,
    pub(super) beside: Alongside,
}

/// What is done while a round waits, where the program makes progress by hand.
#[derive(Default)]
pub(super) struct Alongside(pub(super) Option<Arc<dyn Beside>>);

impl std::fmt::Debug for Alongside {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.is_some().fmt(formatter)
    }
}

impl Alongside {
    fn progress(&self) {
        if let Some(beside) = &self.0 {
            beside.progress();
        }
    }
}

/// What a rank is doing in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    CollectUps,
    SendUp,
    AwaitDown,
    SendDown,
}

/// A round under way.
struct Round<'w> {
    operation: Operation,
    number: u64,
    phase: Phase,
    /// Of each child, once it has come.
    ups: Vec<Option<Vec<u8>>>,
    down: Option<Vec<u8>>,
    /// A failure below, while the root's word is awaited until then.
    doubt: Option<(TreeError, Time)>,
    /// Whether it has slept: who is that late is not spun for again.
    slept: bool,
    watch: Watch,
    wait: &'w Wait,
}

impl Operation {
    fn comes_down(self) -> bool {
        self != Self::Gather
    }
}

impl Group {
    pub(crate) fn new(
        (rank, size): (usize, usize),
        parent: Option<Link>,
        children: Vec<Link>,
    ) -> Self {
        Self {
            rank,
            size,
            parent,
            children,
            round: 0,
            broken: None,
            counters: TreeCounters::default(),
            spin: Duration::ZERO,
            beside: Alongside::default(),
        }
    }

    /// Up only: what every rank said at the root, nothing elsewhere.
    pub(crate) fn gather(
        &mut self,
        local: Vec<u8>,
        wait: &Wait,
    ) -> Result<Option<Said>, TreeError> {
        self.run(Operation::Gather, wait, |group, round| {
            let entries = group.collect(round, &Ok(local))?;
            if group.parent.is_none() {
                return group.in_rank_order(&entries).map(Some);
            }
            group.send_up(round, entries)?;
            round.phase = Phase::SendUp;
            group.take_in(round)?;
            while group.parent.as_ref().is_some_and(Link::has_unsent) {
                group.turn(round)?;
            }
            Ok(None)
        })
    }

    /// Down only: the root's bytes.
    pub(crate) fn broadcast(
        &mut self,
        local: Option<Vec<u8>>,
        wait: &Wait,
    ) -> Result<Vec<u8>, TreeError> {
        self.run(Operation::Broadcast, wait, |group, round| {
            round.phase = Phase::AwaitDown;
            let bytes = match group.parent {
                // One look around: a child that is gone can't be told.
                None => {
                    group.take_in(round)?;
                    local.unwrap_or_default()
                }
                Some(_) => group.await_down(round)?,
            };
            group.send_down(round, bytes)
        })
    }

    /// Up, a decision at the root, and down.
    pub(crate) fn agree(
        &mut self,
        operation: Operation,
        local: Result<Vec<u8>, Failure>,
        decide: impl FnOnce(Said) -> Vec<u8>,
        wait: &Wait,
    ) -> Result<Vec<u8>, TreeError> {
        self.run(operation, wait, |group, round| {
            let entries = group.collect(round, &local)?;
            let bytes = match group.parent {
                None => decide(group.in_rank_order(&entries)?),
                Some(_) => {
                    group.send_up(round, entries)?;
                    round.phase = Phase::AwaitDown;
                    group.await_down(round)?
                }
            };
            group.send_down(round, bytes)
        })
    }

    fn run<T>(
        &mut self,
        operation: Operation,
        wait: &Wait,
        body: impl FnOnce(&mut Self, &mut Round<'_>) -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.round += 1;
        self.counters.count_round();
        let children = self.children.iter().map(|link| link.peer).collect();
        let mut round = Round {
            operation,
            number: self.round,
            phase: Phase::CollectUps,
            ups: vec![None; self.children.len()],
            down: None,
            doubt: None,
            slept: false,
            watch: Watch::new(children, self.parent.as_ref().map(|it| it.peer), wait),
            wait,
        };
        let result = body(self, &mut round);
        match (&result, round.doubt.take()) {
            (Err(error), _) => self.give_up(&round, error.clone()),
            (Ok(_), Some((error, _))) => self.give_up(&round, error),
            (Ok(_), None) => {}
        }
        result
    }

    /// Waits for the parts of all the children and adds this rank's own.
    fn collect(
        &mut self,
        round: &mut Round<'_>,
        local: &Result<Vec<u8>, Failure>,
    ) -> Result<Vec<u8>, TreeError> {
        self.take_in(round)?;
        while round.ups.iter().any(Option::is_none) {
            self.turn(round)?;
        }
        let below: Vec<_> = round.ups.iter_mut().filter_map(Option::take).collect();
        let entries = entries::gathered(self.rank, local, &below);
        let entries = entries.map_err(|reason| self.malformed(self.rank, reason))?;
        self.check_size(entries.len())?;
        Ok(entries)
    }

    fn send_up(&mut self, round: &Round<'_>, body: Vec<u8>) -> Result<(), TreeError> {
        let frame = Arc::new(round.frame(Kind::Up, body).to_bytes());
        if let Some(parent) = &mut self.parent {
            parent.enqueue(&frame, &self.counters);
            parent.pump_out();
        }
        Ok(())
    }

    fn await_down(&mut self, round: &mut Round<'_>) -> Result<Vec<u8>, TreeError> {
        self.take_in(round)?;
        loop {
            if let Some(bytes) = round.down.take() {
                return Ok(bytes);
            }
            self.turn(round)?;
        }
    }

    /// Passes a decision on. It stands whatever happens from here: what goes
    /// wrong is kept for the next call.
    fn send_down(&mut self, round: &mut Round<'_>, bytes: Vec<u8>) -> Result<Vec<u8>, TreeError> {
        self.check_size(bytes.len())?;
        round.phase = Phase::SendDown;
        let body = bytes.clone();
        let frame = Arc::new(round.frame(Kind::Down, body).to_bytes());
        for child in &mut self.children {
            child.enqueue(&frame, &self.counters);
            child.pump_out();
        }
        while self.children.iter().any(Link::has_outgoing) {
            if let Err(error) = self.turn(round) {
                round.keep(error);
                break;
            }
        }
        let cut_off = self.children.iter().find(|child| child.has_unsent());
        if let Some(error) = cut_off.map(|child| self.why_cut_off(child)) {
            round.keep(error);
        }
        Ok(bytes)
    }

    /// Sorts the parts of all ranks; each must be there once.
    fn in_rank_order(&self, entries: &[u8]) -> Result<Said, TreeError> {
        entries::spread(entries, self.size).map_err(|reason| self.malformed(self.rank, reason))
    }

    fn check_size(&self, bytes: usize) -> Result<(), TreeError> {
        let bytes = bytes as u64;
        if bytes <= MAX_FRAME_BYTES {
            return Ok(());
        }
        Err(TreeError::TooLarge {
            rank: self.rank,
            bytes,
            limit_bytes: MAX_FRAME_BYTES,
        })
    }

    /// Sleeps until something happens, and takes in what happened.
    fn turn(&mut self, round: &mut Round<'_>) -> Result<(), TreeError> {
        let mut slice = match (round.wait.slice(), &round.doubt) {
            (Ok(slice), _) => slice,
            (Err(_), Some((error, _))) => return Err(error.clone()),
            (Err(WaitError::Interrupted), None) => {
                return Err(TreeError::Interrupted { rank: self.rank });
            }
            (Err(WaitError::Deadline(after)), None) => {
                return Err(TreeError::Deadline {
                    awaiting: self.awaited(round),
                    after,
                    noticed_by: self.rank,
                });
            }
        };
        if let (Phase::AwaitDown, Some((error, until))) = (round.phase, &round.doubt) {
            let left = until.since(Time::now());
            if left.is_zero() {
                return Err(error.clone());
            }
            slice = slice.min(left);
        }
        self.report(round);
        self.beside.progress();
        if round.slept || !self.look_out(slice.min(self.spin))? {
            round.slept = true;
            self.sleep(slice)?;
        }
        self.beside.progress();
        self.take_in(round)
    }

    /// Spins for a short time, letting others run that have something to do. Whether
    /// something happened.
    fn look_out(&self, longest: Duration) -> Result<bool, TreeError> {
        if longest.is_zero() {
            return Ok(false);
        }
        let until = Time::now().after(longest);
        loop {
            if self.sleep(Duration::ZERO)? {
                return Ok(true);
            }
            if Time::now() >= until {
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }

    fn sleep(&self, longest: Duration) -> Result<bool, TreeError> {
        let links = self.children.iter().chain(&self.parent);
        let beside = self.beside.0.as_ref().and_then(|it| it.wait_fd());
        link::sleep(links, beside, longest).map_err(|error| TreeError::System {
            rank: self.rank,
            action: "waiting for the ranks of the group (poll)".to_owned(),
            reason: error.to_string(),
        })
    }

    /// Sends and takes in what can be without waiting.
    fn take_in(&mut self, round: &mut Round<'_>) -> Result<(), TreeError> {
        for link in self.children.iter_mut().chain(&mut self.parent) {
            link.pump_out();
            link.pump_in();
        }
        if round.phase == Phase::SendDown {
            return Ok(());
        }
        // The parent first: its word ends every doubt.
        if let Some(mut parent) = self.parent.take() {
            let result = self.take_from_parent(round, &mut parent);
            self.parent = Some(parent);
            result?;
        }
        for index in 0..self.children.len() {
            if round.doubt.is_some() {
                return Ok(());
            }
            if let Err(error) = self.take_from_child(round, index) {
                self.doubt_or_fail(round, error)?;
            }
        }
        Ok(())
    }

    fn take_from_parent(&self, round: &mut Round<'_>, parent: &mut Link) -> Result<(), TreeError> {
        if round.phase == Phase::SendUp && !parent.has_unsent() {
            // It has all it needs from here, and may leave.
            return Ok(());
        }
        while let Some(front) = parent.inbox.front() {
            if front.kind == Kind::Poison {
                return Err(self.poison(parent.peer, &front.body));
            }
            if front.round > round.number {
                break;
            }
            let Some(frame) = parent.inbox.pop_front() else {
                break;
            };
            if frame.round < round.number && frame.kind == Kind::Awaiting {
                continue;
            }
            self.check_step(round, parent.peer, &frame)?;
            match frame.kind {
                Kind::Awaiting => {
                    let ranks = frame::read_ranks(&frame.body);
                    let ranks = ranks.map_err(|reason| self.malformed(parent.peer, reason))?;
                    round.watch.parent_awaits(ranks);
                }
                Kind::Down if round.phase == Phase::AwaitDown => {
                    // What follows belongs to later rounds.
                    round.down = Some(frame.body);
                    return Ok(());
                }
                _ => return Err(self.malformed(parent.peer, "a frame out of turn".to_owned())),
            }
        }
        match (&round.doubt, self.end_of(parent)) {
            (Some((error, _)), Some(_)) => Err(error.clone()),
            (None, Some(error)) => Err(error),
            (_, None) => Ok(()),
        }
    }

    fn take_from_child(&mut self, round: &mut Round<'_>, index: usize) -> Result<(), TreeError> {
        // A child that has said all there is to say may leave.
        let is_needed = |round: &Round<'_>| match round.phase {
            Phase::CollectUps => round.operation.comes_down() || round.ups[index].is_none(),
            Phase::AwaitDown => true,
            Phase::SendUp | Phase::SendDown => false,
        };
        while is_needed(round) {
            let child = &mut self.children[index];
            let peer = child.peer;
            let Some(front) = child.inbox.front() else {
                break;
            };
            if front.kind == Kind::Poison {
                let body = front.body.clone();
                return Err(self.poison(peer, &body));
            }
            if front.round > round.number {
                return Ok(());
            }
            let Some(frame) = child.inbox.pop_front() else {
                break;
            };
            if frame.round < round.number && frame.kind == Kind::Awaiting {
                continue;
            }
            self.check_step(round, peer, &frame)?;
            match frame.kind {
                Kind::Awaiting => {
                    let ranks = frame::read_ranks(&frame.body);
                    let ranks = ranks.map_err(|reason| self.malformed(peer, reason))?;
                    round.watch.child_awaits(index, ranks);
                }
                Kind::Up if round.phase == Phase::CollectUps && round.ups[index].is_none() => {
                    round.ups[index] = Some(frame.body);
                    round.watch.child_came(index);
                }
                _ => return Err(self.malformed(peer, "a frame out of turn".to_owned())),
            }
        }
        match self.end_of(&self.children[index]) {
            Some(error) if is_needed(round) => Err(error),
            _ => Ok(()),
        }
    }

    /// The two sides are in the same collective.
    fn check_step(&self, round: &Round<'_>, peer: usize, frame: &Frame) -> Result<(), TreeError> {
        if frame.round == round.number && frame.operation == round.operation {
            return Ok(());
        }
        Err(TreeError::OutOfStep {
            rank: self.rank,
            here: round.operation,
            round: round.number,
            peer,
            there: frame.operation,
        })
    }

    /// A failure below: while the root's word is awaited it is the root that
    /// says what becomes of the round.
    fn doubt_or_fail(&mut self, round: &mut Round<'_>, error: TreeError) -> Result<(), TreeError> {
        let awaits_word = round.phase == Phase::AwaitDown && round.down.is_none();
        match &mut self.parent {
            Some(parent) if awaits_word => {
                let body = frame::write_error(&error);
                let poison = Arc::new(round.frame(Kind::Poison, body).to_bytes());
                parent.enqueue(&poison, &self.counters);
                parent.pump_out();
                round.doubt = Some((error, Time::now().after(RULING_GRACE)));
                Ok(())
            }
            // The word is here: it stands, and the failure waits its turn.
            _ if round.down.is_some() => Ok(()),
            _ => Err(error),
        }
    }

    fn end_of(&self, link: &Link) -> Option<TreeError> {
        if !link.inbox.is_empty() {
            return None;
        }
        match link.end.as_ref()? {
            End::Closed => Some(TreeError::RankLost {
                rank: link.peer,
                noticed_by: self.rank,
            }),
            End::Malformed(reason) => Some(self.malformed(link.peer, reason.clone())),
        }
    }

    /// Why a child did not take the root's word: as it says, if it does.
    fn why_cut_off(&self, child: &Link) -> TreeError {
        let poison = child.inbox.iter().find(|it| it.kind == Kind::Poison);
        match poison {
            Some(frame) => self.poison(child.peer, &frame.body),
            None => TreeError::RankLost {
                rank: child.peer,
                noticed_by: self.rank,
            },
        }
    }

    fn malformed(&self, peer: usize, reason: String) -> TreeError {
        TreeError::Malformed {
            rank: self.rank,
            peer,
            reason,
        }
    }

    fn poison(&self, peer: usize, body: &[u8]) -> TreeError {
        frame::read_error(body).unwrap_or_else(|reason| self.malformed(peer, reason))
    }

    /// The ranks that hold the round up, as far as can be known here.
    fn awaited(&self, round: &Round<'_>) -> Vec<usize> {
        let unsent = |links: &mut dyn Iterator<Item = &Link>| {
            let waiting = links.filter(|link| link.has_outgoing());
            waiting.map(|link| link.peer).collect()
        };
        match round.phase {
            Phase::CollectUps => round.watch.awaited_below(),
            Phase::AwaitDown => round.watch.awaited_above(),
            Phase::SendUp => unsent(&mut self.parent.iter()),
            Phase::SendDown => unsent(&mut self.children.iter()),
        }
    }

    /// Half-way to the deadline: tells the neighbours who is awaited, so that
    /// whose deadline passes first names the right ranks.
    fn report(&mut self, round: &mut Round<'_>) {
        if !matches!(round.phase, Phase::CollectUps | Phase::AwaitDown) {
            return;
        }
        let awaited = self.awaited(round);
        if !round.watch.should_report(&awaited) {
            return;
        }
        let body = frame::write_ranks(&awaited);
        let frame = Arc::new(round.frame(Kind::Awaiting, body).to_bytes());
        let parent = match round.phase {
            Phase::CollectUps => self.parent.as_mut(),
            _ => None,
        };
        for link in self.children.iter_mut().chain(parent) {
            link.enqueue(&frame, &self.counters);
            link.pump_out();
        }
    }

    /// Fails the group from outside a round: its bootstrap did not end well.
    pub(crate) fn refuse(&mut self, error: TreeError, wait: &Wait) {
        let refused = self.run(Operation::Barrier, wait, |_, _| Err::<(), _>(error));
        debug_assert!(refused.is_err(), "a refused group is broken");
    }

    /// Breaks the tree: tells the neighbours why, as far as they have room
    /// for it; to one that has none the closed link will say it.
    fn give_up(&mut self, round: &Round<'_>, error: TreeError) {
        let body = frame::write_error(&error);
        let poison = Arc::new(round.frame(Kind::Poison, body).to_bytes());
        for link in self.children.iter_mut().chain(&mut self.parent) {
            link.enqueue(&poison, &self.counters);
            link.pump_out();
            if link.has_outgoing() {
                link.shut_down();
            }
        }
        self.broken = Some(error);
    }
}

impl Round<'_> {
    fn frame(&self, kind: Kind, body: Vec<u8>) -> Frame {
        Frame {
            round: self.number,
            kind,
            operation: self.operation,
            body,
        }
    }

    /// Keeps the first failure that the decision has outrun.
    fn keep(&mut self, error: TreeError) {
        self.doubt.get_or_insert((error, Time::default()));
    }
}
