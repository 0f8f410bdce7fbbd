//! The side that reads.
//!
//! A call posts as many reads as may be under way, takes completions, posts
//! more, and returns when nothing is under way any more: all bytes are there, or
//! an error says which were not, and nobody writes to the caller's memory.
//!
//! ```text
//!   pieces --cut at the limit--> lane: [ flight flight flight .. depth ]
//!                                  |        ^ completion frees a flight
//!                                  deadline, interrupt, panic: endpoint dropped
//! ```

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::endpoint::{Endpoint, Posted};
use super::local::{Local, Slots};
use super::table;
use super::{Fabric, FabricAddress, FabricError, FabricOptions, RemoteMemory};
use crate::copy::CopyCounter;
use crate::time::{Time, Wait, WaitError};

/// The longest sleep where a sleeper may not be woken: a provider without a
/// descriptor, or a read that could not be posted yet.
const NAP: Duration = Duration::from_micros(200);

/// How often it is asked whether a target still lives that lets a call wait.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// How long the other reads of a call may take to end after one has failed: those
/// of a target that died may never do.
const COMPANIONS_LIMIT: Duration = Duration::from_millis(500);

/// How much longer than its deadline a call takes at most, with the provider
/// `tcp`, to let reads end that are under way.
const TCP_END_LIMIT: Duration = Duration::from_millis(20);

/// A range of a target's memory, and where it goes.
#[derive(Debug)]
pub struct Piece<'a> {
    /// What the target said of the region.
    pub memory: RemoteMemory,
    /// Where the range begins in it.
    pub offset: u64,
    /// Where it goes; all of it is filled.
    pub into: &'a mut [MaybeUninit<u8>],
}

/// Reads memory of one target.
///
/// After [`FabricError::Wait`], and after failures that leave the endpoint
/// in doubt, it is of no more use: connect again.
pub struct FabricRemote {
    // First of all, so that it is dropped before the slots it writes to.
    endpoint: Option<Endpoint>,
    slots: Option<Slots>,
    peer: u64,
    provider: String,
    flights: Vec<Flight>,
    free: Vec<usize>,
    read_limit_bytes: usize,
    spin: Duration,
    reads: u64,
    read_bytes: u64,
    copies: CopyCounter,
}

/// A read under way.
struct Flight {
    flies: bool,
    local: Local,
    into: NonNull<MaybeUninit<u8>>,
    bytes: usize,
}

// SAFETY: the addresses in flights are used within a call only, which holds the
// memory behind them.
unsafe impl Send for FabricRemote {}

impl FabricRemote {
    /// Opens an endpoint towards `target`. Some providers connect by the first
    /// read only, so that a target which is not there shows there.
    ///
    /// # Errors
    /// [`FabricError::NoProvider`], [`FabricError::Open`],
    /// [`FabricError::BadAddress`], [`FabricError::Registration`].
    pub fn connect(
        fabric: &Fabric,
        target: &FabricAddress,
        options: &FabricOptions,
    ) -> Result<Self, FabricError> {
        let mut endpoint = Endpoint::open(fabric, options, Some(target))?;
        let peer = endpoint.add_peer(target)?;
        let slots = match endpoint.has(table::LOCAL) || options.always_register {
            true => Some(Slots::open(&mut endpoint)?),
            false => None,
        };
        let info = endpoint.info();
        let depth = usize::try_from(info.depth).unwrap_or(1).max(1);
        let limit = usize::try_from(info.max_message_bytes).unwrap_or(usize::MAX);
        let empty = |_| Flight {
            flies: false,
            local: Local::Straight,
            into: NonNull::dangling(),
            bytes: 0,
        };
        Ok(Self {
            provider: endpoint.provider().to_owned(),
            flights: (0..depth).map(empty).collect(),
            free: (0..depth).collect(),
            read_limit_bytes: limit.min(options.read_limit_bytes).max(1),
            endpoint: Some(endpoint),
            slots,
            peer,
            spin: options.spin,
            reads: 0,
            read_bytes: 0,
            copies: CopyCounter::new(),
        })
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// One-sided reads posted so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// Bytes of those reads.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Copies of payload: of those pieces that went through a buffer of ours.
    #[must_use]
    pub fn copies(&self) -> &CopyCounter {
        &self.copies
    }

    /// Whether it can be used: it was not torn down.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.endpoint.is_some()
    }

    /// Fills all pieces.
    ///
    /// # Errors
    /// [`FabricError::OutOfMemory`] before anything is read;
    /// [`FabricError::Read`], [`FabricError::Wait`]: pieces are then filled in
    /// part; [`FabricError::TornDown`], [`FabricError::Forked`].
    pub fn read(&mut self, pieces: &mut [Piece<'_>], wait: &Wait) -> Result<(), FabricError> {
        read_many(
            &mut [Batch {
                remote: self,
                pieces,
            }],
            wait,
            &mut |_| true,
        )
        .map_err(|(_, error)| error)
    }

    /// Under way now.
    fn pending(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// Ends all reads under way. Nothing is written to their memory after this.
    fn tear_down(&mut self) {
        let Some(mut endpoint) = self.endpoint.take() else {
            return;
        };
        if self.pending() > 0 && endpoint.provider().starts_with("tcp") {
            if !self.let_end(&mut endpoint) {
                // It moves bytes within calls for this very endpoint only, and
                // there will be none.
                std::mem::forget(endpoint);
                std::mem::forget(self.slots.take());
            }
            return;
        }
        drop(endpoint);
        self.slots = None;
    }

    /// Lets reads under way come to their end for a short while; whether all
    /// have.
    ///
    /// libfabric's provider `tcp` (seen in 1.17) reports a read twice when it is
    /// closed in the midst of the answer, and `ofi_rxm` follows the second
    /// report to nowhere. So it is only closed when no answer is awaited.
    fn let_end(&mut self, endpoint: &mut Endpoint) -> bool {
        let end = Time::now().after(TCP_END_LIMIT);
        let mut pending = self.pending();
        while pending > 0 && Time::now() < end {
            let mut ended = 0;
            let taken = endpoint.progress(|completion| {
                let at = usize::try_from(completion.token).unwrap_or(usize::MAX);
                let flight = self.flights.get_mut(at).filter(|flight| flight.flies);
                ended +=
                    usize::from(flight.is_some_and(|flight| std::mem::take(&mut flight.flies)));
            });
            if taken.is_err() {
                return false;
            }
            pending -= ended;
            std::thread::yield_now();
        }
        pending == 0
    }
}

impl std::fmt::Debug for FabricRemote {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FabricRemote")
            .field("provider", &self.provider)
            .field("open", &self.is_open())
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

/// What is to be read from one target.
#[derive(Debug)]
pub struct Batch<'r, 'p, 'm> {
    /// The target.
    pub remote: &'r mut FabricRemote,
    /// The ranges.
    pub pieces: &'p mut [Piece<'m>],
}

/// Reads from several targets at once.
///
/// # Errors
/// As [`FabricRemote::read`], the first there is, and the place of its batch; the
/// others were given the time to end what they had under way.
///
/// `lives` is asked now and then whether the target of a batch is still there: of one
/// that died some providers never say that its reads have failed.
pub fn read_many(
    batches: &mut [Batch<'_, '_, '_>],
    wait: &Wait,
    lives: &mut dyn FnMut(usize) -> bool,
) -> Result<(), (usize, FabricError)> {
    for (at, batch) in batches.iter().enumerate() {
        batch.check().map_err(|error| (at, error))?;
    }
    let lanes = batches.iter_mut().map(|batch| {
        let mut lane = Lane {
            remote: &mut *batch.remote,
            pieces: &mut *batch.pieces,
            piece: 0,
            done_bytes: 0,
        };
        lane.settle();
        lane
    });
    Reading {
        lanes: lanes.collect(),
        failed: None,
    }
    .run(wait, lives)
}

impl Batch<'_, '_, '_> {
    /// Whether it can be read as far as this side knows.
    fn check(&self) -> Result<(), FabricError> {
        let endpoint = self.remote.endpoint.as_ref();
        endpoint.ok_or(FabricError::TornDown)?.check_process()?;
        for piece in &*self.pieces {
            piece
                .memory
                .address(piece.offset, piece.into.len() as u64)?;
        }
        Ok(())
    }
}

/// One target of a call.
struct Lane<'r, 'p, 'm> {
    remote: &'r mut FabricRemote,
    pieces: &'p mut [Piece<'m>],
    /// The piece that is posted next, and how much of it was.
    piece: usize,
    done_bytes: usize,
}

/// A call: its lanes, and what went wrong first.
struct Reading<'r, 'p, 'm> {
    lanes: Vec<Lane<'r, 'p, 'm>>,
    failed: Option<(usize, FabricError)>,
}

impl Reading<'_, '_, '_> {
    fn run(
        mut self,
        wait: &Wait,
        lives: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), (usize, FabricError)> {
        let mut spin_end = None;
        let mut asked = Time::now();
        let mut after_failure = None;
        loop {
            let mut moved = false;
            let mut blocked = false;
            for at in 0..self.lanes.len() {
                if self.failed.is_none() {
                    blocked |= self.post(at, &mut moved);
                }
                self.take(at, &mut moved);
            }
            let pending: usize = self.lanes.iter().map(|lane| lane.remote.pending()).sum();
            let posted = self.failed.is_some() || self.lanes.iter().all(Lane::is_posted);
            if pending == 0 && posted {
                return self.failed.take().map_or(Ok(()), Err);
            }
            let now_waits = match self.failed {
                Some(_) => after_failure.get_or_insert_with(|| wait.at_most(COMPANIONS_LIMIT)),
                None => wait,
            };
            let slice = match now_waits.slice() {
                Ok(slice) => slice,
                Err(source) => return Err(self.give_up(source)),
            };
            if moved {
                spin_end = None;
                continue;
            }
            let now = Time::now();
            let spin = self
                .lanes
                .first()
                .map_or(Duration::ZERO, |lane| lane.remote.spin);
            if now < *spin_end.get_or_insert_with(|| now.after(spin)) {
                // The target may wait for this very processor.
                std::thread::yield_now();
            } else {
                if now.since(asked) >= ASK_EVERY {
                    asked = now;
                    self.bury(lives);
                }
                self.sleep(if blocked { slice.min(NAP) } else { slice });
            }
        }
    }

    /// Ends the reads of targets that have died.
    fn bury(&mut self, lives: &mut dyn FnMut(usize) -> bool) {
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let waits = lane.remote.pending() > 0 || !lane.is_posted();
            if !waits || lane.remote.endpoint.is_none() || lives(at) {
                continue;
            }
            let text = "the connection to the target has ended".to_owned();
            let provider = lane.remote.provider.clone();
            lane.remote.tear_down();
            lane.remote.free = (0..lane.remote.flights.len()).collect();
            let dead = FabricError::Read { provider, text };
            self.failed.get_or_insert((at, dead));
        }
    }

    /// Posts what can be posted; whether something could not be.
    fn post(&mut self, at: usize, moved: &mut bool) -> bool {
        let lane = &mut self.lanes[at];
        while !lane.is_posted() {
            match lane.post_one() {
                Ok(Posted::Yes) => *moved = true,
                Ok(Posted::NotNow) => return true,
                Err(error) => {
                    self.failed = Some((at, error));
                    return false;
                }
            }
        }
        false
    }

    /// Takes what ended.
    fn take(&mut self, at: usize, moved: &mut bool) {
        let lane = &mut self.lanes[at];
        if lane.remote.endpoint.is_none() {
            return;
        }
        match lane.take() {
            Ok(0) => {}
            Ok(_) => *moved = true,
            Err(error) => {
                // One that failed may have left the endpoint whole, with others
                // under way; a broken queue would never tell of them.
                *moved = true;
                self.failed.get_or_insert((at, error));
            }
        }
    }

    /// Ends what is under way, since the wait has ended.
    fn give_up(&mut self, source: WaitError) -> (usize, FabricError) {
        let mut pending = 0;
        let mut provider = String::new();
        let mut first = None;
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let mut under_way = lane.remote.pending();
            if under_way == 0 && !lane.is_posted() {
                under_way = 1;
            }
            if under_way > 0 {
                first.get_or_insert(at);
                provider.clone_from(&lane.remote.provider);
                lane.remote.tear_down();
            }
            pending += under_way;
        }
        // A failure that came first says more than that its companions did not end.
        let waited = FabricError::Wait {
            provider,
            pending,
            source,
        };
        self.failed.take().unwrap_or((first.unwrap_or(0), waited))
    }

    /// Sleeps until some endpoint has news, for `most` at most.
    fn sleep(&mut self, most: Duration) {
        let mut fds = Vec::with_capacity(self.lanes.len());
        let mut most = most;
        for lane in &mut self.lanes {
            if lane.remote.pending() == 0 && lane.is_posted() {
                continue;
            }
            let Some(endpoint) = &mut lane.remote.endpoint else {
                continue;
            };
            match endpoint.wait_fd() {
                Some(fd) if endpoint.may_sleep() => fds.push(fd),
                Some(_) => return,
                None => most = most.min(NAP),
            }
        }
        // SAFETY: descriptors of endpoints that live beyond this call.
        let borrow = |&fd: &i32| unsafe { BorrowedFd::borrow_raw(fd) };
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(borrow).collect();
        let mut polled: Vec<PollFd<'_>> = borrowed
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: 0,
            // Shorter than a second, as a slice is.
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        // Whatever ends it, the caller looks at the endpoints and the clock again.
        let _ = poll(&mut polled, Some(&timeout));
    }
}

impl Drop for Reading<'_, '_, '_> {
    /// On the way out, by a panic too, nothing may be under way.
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            if lane.remote.pending() > 0 {
                lane.remote.tear_down();
            }
        }
    }
}

impl Lane<'_, '_, '_> {
    /// Moves on to the next byte that was not posted yet.
    fn settle(&mut self) {
        while let Some(piece) = self.pieces.get(self.piece) {
            if piece.into.len() > self.done_bytes {
                break;
            }
            self.piece += 1;
            self.done_bytes = 0;
        }
    }

    /// Whether all reads were posted.
    fn is_posted(&self) -> bool {
        self.piece == self.pieces.len()
    }

    fn post_one(&mut self) -> Result<Posted, FabricError> {
        let remote = &mut *self.remote;
        let Some(endpoint) = &mut remote.endpoint else {
            return Err(FabricError::TornDown);
        };
        let Some(&at) = remote.free.last() else {
            return Ok(Posted::NotNow);
        };
        let piece = &mut self.pieces[self.piece];
        let rest = &mut piece.into[self.done_bytes..];
        let mut bytes = rest.len().min(remote.read_limit_bytes);
        let into = NonNull::from(&mut *rest).cast::<MaybeUninit<u8>>();
        let mut local = Local::Straight;
        if let Some(slots) = &mut remote.slots {
            // SAFETY: the call holds the memory, and does not return before the
            // read has ended or the endpoint is gone.
            match unsafe { slots.place(endpoint, into, bytes) } {
                Some(place) => (local, bytes) = place,
                None => return Ok(Posted::NotNow),
            }
        }
        let (to, memory) = match (&local, &mut remote.slots) {
            (Local::Slot(slot), Some(slots)) => {
                let (to, memory) = slots.target(*slot);
                (to, Some(memory))
            }
            (Local::Registered(memory), _) => (into.as_ptr().cast(), Some(*memory)),
            _ => (into.as_ptr().cast(), None),
        };
        let address = piece
            .memory
            .address(piece.offset + self.done_bytes as u64, bytes as u64)?;
        // SAFETY: as above; slots outlive the endpoint.
        let posted = unsafe {
            endpoint.read(
                remote.peer,
                to,
                bytes,
                memory,
                address,
                piece.memory.key,
                at as u64,
            )
        };
        remote.flights[at] = Flight {
            flies: false,
            local,
            into,
            bytes,
        };
        match posted {
            Ok(Posted::Yes) => {
                remote.free.pop();
                remote.flights[at].flies = true;
                remote.reads += 1;
                remote.read_bytes += bytes as u64;
                self.done_bytes += bytes;
                self.settle();
            }
            // It never flew.
            Ok(Posted::NotNow) | Err(_) => remote.land(at)?,
        }
        posted
    }

    /// Takes what ended, once; how much that was.
    fn take(&mut self) -> Result<usize, FabricError> {
        let remote = &mut *self.remote;
        let Some(endpoint) = &mut remote.endpoint else {
            return Ok(0);
        };
        let mut ended = Vec::new();
        let taken = match endpoint.progress(|completion| ended.push(completion)) {
            Ok(taken) => taken,
            Err(error) => {
                remote.tear_down();
                remote.free = (0..remote.flights.len()).collect();
                return Err(error);
            }
        };
        let mut failed = None;
        for completion in ended {
            let at = usize::try_from(completion.token).unwrap_or(usize::MAX);
            let flies = remote.flights.get(at).is_some_and(|flight| flight.flies);
            if let Some(text) = completion.error {
                let endpoint = remote.endpoint.as_ref();
                failed = failed.or_else(|| endpoint.map(|one| one.read_error(text)));
            } else if flies {
                remote.deliver(at);
            }
            if flies {
                remote.free.push(at);
                remote.land(at)?;
            }
        }
        failed.map_or(Ok(taken), Err)
    }
}

impl FabricRemote {
    /// Copies what came to a slot.
    fn deliver(&mut self, at: usize) {
        let flight = &self.flights[at];
        if let (Local::Slot(slot), Some(slots)) = (&flight.local, &self.slots) {
            // SAFETY: the call that posted this read holds the memory still.
            unsafe { slots.deliver(*slot, flight.into, flight.bytes, &self.copies) };
        }
    }

    /// Gives back what a read held.
    fn land(&mut self, at: usize) -> Result<(), FabricError> {
        let flight = &mut self.flights[at];
        flight.flies = false;
        match std::mem::replace(&mut flight.local, Local::Straight) {
            Local::Straight => Ok(()),
            Local::Slot(slot) => {
                if let Some(slots) = &mut self.slots {
                    slots.release(slot);
                }
                Ok(())
            }
            Local::Registered(memory) => match &mut self.endpoint {
                Some(endpoint) => endpoint.remove(memory),
                None => Ok(()),
            },
        }
    }
}
