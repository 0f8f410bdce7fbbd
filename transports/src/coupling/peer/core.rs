//! The first connection of a peer: its messages, and its signs of life.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::by_hand::{ByHand, Look};
use super::keeper;
use super::pushes::Pushes;
use super::turn::Turn;
use super::unasked::{Came, Receiving};
use crate::channel::{
    Channel, ChannelCounters, ChannelError, Connector, Flushed, PolledReceiver, PolledSender, Role,
};
use crate::coupling::counters::Counts;
use crate::coupling::endpoint::channel_limits;
use crate::coupling::fork::Process;
use crate::coupling::wire::{self, Frame, TOKEN_BYTES};
use crate::coupling::{Away, CouplingError, Lost, PeerInfo, PeerOptions, Progress};
use crate::time::{Time, Wait, WaitError};

/// How long the reason for an end is waited for, which comes with it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Looks between two looks at the clock while spinning.
const LOOKS_PER_CLOCK: usize = 4;

pub(super) type Sender = PolledSender<Vec<u8>>;

/// What the parts of a peer have in common.
pub(super) struct Core {
    pub(super) options: PeerOptions,
    pub(super) info: PeerInfo,
    pub(super) terms: Terms,
    pub(super) process: Process,
    pub(super) counts: Counts,
    pub(super) channel_counters: ChannelCounters,
    /// The socket, to be waited for without holding the sender.
    socket: OwnedFd,
    /// None where the connection is used for data.
    sender: Mutex<Option<Sender>>,
    pub(super) receiver: Mutex<Option<Receiving>>,
    /// What was pushed, on the link or the first connection for data.
    pub(super) pushes: Mutex<Pushes>,
    sending: Turn,
    pub(super) receiving: Turn,
    /// Whether a message may have been taken from the socket beside what was looked
    /// for, and the descriptor that says so to whoever waits for the socket.
    pub(super) is_ahead: AtomicBool,
    pub(super) ahead: OnceLock<OwnedFd>,
    /// Why no message will come any more.
    lost: OnceLock<Lost>,
    /// When something last came, and when that was last looked for.
    pub(super) heard: AtomicU64,
    looked: AtomicU64,
    /// Where no thread says that this side lives.
    by_hand: Option<ByHand>,
}

/// What the endpoint said it takes, and who this peer is to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Of the endpoint.
    pub(super) instance: u64,
    /// How long it may be silent.
    pub(super) lease: Duration,
    pub(super) peer: u64,
    pub(super) token: [u8; TOKEN_BYTES],
    /// Of the largest message that both sides take.
    pub(super) message_bytes: u32,
    pub(super) read_bytes: u64,
    pub(super) read_pieces: u32,
    pub(super) connections: u8,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How to connect to the endpoint, for the first connection and others.
pub(super) fn connector(options: &PeerOptions, counters: &ChannelCounters) -> Connector {
    Connector {
        key: options.key.clone(),
        role: Role::Reader,
        encrypt: options.encrypt,
        limits: channel_limits(&options.limits),
        spin: options.spin,
        counters: counters.clone(),
    }
}

/// Sleeps until one of the descriptors is ready, for a slice at most.
pub(super) fn sleep(fds: &mut [PollFd<'_>], slice: Duration) {
    let timeout = Timespec {
        tv_sec: 0,
        // A slice is shorter than a second.
        tv_nsec: i64::from(slice.subsec_nanos()),
    };
    // Ready, too long or interrupted: the caller looks in any case.
    let _ = poll(fds, Some(&timeout));
}

/// Looks for something again and again, for a while without sleeping.
pub(super) struct Looking {
    spin_until: Time,
}

impl Looking {
    pub(super) fn new(spin: Duration) -> Self {
        Self {
            spin_until: Time::now().after(spin),
        }
    }

    /// Between two looks that found nothing; sleeps on the descriptors once
    /// the time to spin is over.
    pub(super) fn pause(
        &self,
        fds: &mut [PollFd<'_>],
        wait: &Wait,
        at_most: Duration,
    ) -> Result<(), WaitError> {
        let slice = wait.slice()?;
        if Time::now() < self.spin_until {
            for _ in 0..LOOKS_PER_CLOCK {
                std::hint::spin_loop();
            }
            // The other side may wait for this very processor.
            std::thread::yield_now();
        } else {
            sleep(fds, slice.min(at_most));
        }
        Ok(())
    }
}

/// How the end of a connection is to be understood.
pub(super) fn lost_by(error: &ChannelError) -> Lost {
    match error {
        ChannelError::Closed { .. } | ChannelError::Io { .. } => Lost::Died,
        error => Lost::Misbehaved {
            what: error.to_string(),
        },
    }
}

/// The endpoint's last words, seen from here.
pub(super) fn lost_by_close(lost: Lost) -> Lost {
    match lost {
        Lost::Closed | Lost::Dropped { .. } => lost,
        other => Lost::Dropped {
            why: format!("it says of this side that {other}"),
        },
    }
}

impl Core {
    pub(super) fn new(
        options: PeerOptions,
        info: PeerInfo,
        terms: Terms,
        channel_counters: ChannelCounters,
        sender: Sender,
        receiver: PolledReceiver,
    ) -> Result<(Self, Option<(Sender, PolledReceiver)>), CouplingError> {
        let socket = rustix::io::fcntl_dupfd_cloexec(&sender, 0).map_err(|errno| {
            let source = errno.into();
            let during = "connect";
            CouplingError::Io { during, source }
        })?;
        let (link, for_data) = if info.linked {
            (Some((sender, receiver)), None)
        } else {
            (None, Some((sender, receiver)))
        };
        let (sender, receiver) = link.unzip();
        let now = Time::now().0;
        let by_hand = match options.progress {
            Progress::Manual { silence } if info.linked => Some(ByHand::new(silence)),
            _ => None,
        };
        let core = Self {
            options,
            info,
            terms,
            process: Process::current(),
            counts: Counts::default(),
            channel_counters,
            socket,
            sender: Mutex::new(sender),
            receiver: Mutex::new(receiver.map(Receiving::new)),
            pushes: Mutex::default(),
            sending: Turn::default(),
            receiving: Turn::default(),
            is_ahead: AtomicBool::new(false),
            ahead: OnceLock::new(),
            lost: OnceLock::new(),
            heard: AtomicU64::new(now),
            looked: AtomicU64::new(now),
            by_hand,
        };
        Ok((core, for_data))
    }

    pub(super) fn check_process(&self) -> Result<(), CouplingError> {
        if self.process.is_child() {
            return Err(CouplingError::Forked);
        }
        Ok(())
    }

    pub(super) fn not_ready(&self, during: &'static str, source: WaitError) -> CouplingError {
        CouplingError::NotReady {
            address: self.info.address,
            during,
            source,
        }
    }

    pub(super) fn lost(&self, why: Lost) -> CouplingError {
        CouplingError::Lost {
            address: self.info.address,
            why,
        }
    }

    /// The sending side of the link, if it is one.
    pub(super) fn with_sender<T>(&self, call: impl FnOnce(&mut Sender) -> T) -> Option<T> {
        lock(&self.sender).as_mut().map(call)
    }

    /// Another connection to the same endpoint.
    pub(super) fn connect_again(&self, wait: &Wait) -> Result<Channel, ChannelError> {
        let connector = connector(&self.options, &self.channel_counters);
        Channel::connect(self.info.address, &connector, wait)
    }

    /// Whether a message of so many bytes can be sent.
    pub(super) fn check_message(&self, bytes: usize) -> Result<(), CouplingError> {
        self.check_process()?;
        if !self.info.linked {
            return Err(CouplingError::NotLinked);
        }
        let limit = u64::from(self.terms.message_bytes);
        if bytes as u64 > limit {
            return Err(CouplingError::TooLarge {
                what: "a message",
                bytes: bytes as u64,
                limit,
            });
        }
        Ok(())
    }

    pub(super) fn send(&self, message: &[&[u8]], wait: &Wait) -> Result<(), CouplingError> {
        let bytes = message.iter().map(|part| part.len()).sum();
        self.check_message(bytes)?;
        let mut head = Vec::with_capacity(1 + bytes);
        head.extend_from_slice(&wire::MESSAGE_HEAD);
        for part in message {
            head.extend_from_slice(part);
        }
        self.send_frame(head, wait)?;
        self.counts.messages_sent.add(1);
        Ok(())
    }

    pub(super) fn send_frame(&self, head: Vec<u8>, wait: &Wait) -> Result<(), CouplingError> {
        let during = "send";
        let turn = self.sending.take(wait);
        let _turn = turn.map_err(|source| self.not_ready(during, source))?;
        let gone = |error: &ChannelError| {
            let known = self.lost.get().cloned();
            self.lost(known.unwrap_or_else(|| lost_by(error)))
        };
        let queued = self.with_sender(|sender| sender.queue(head, Vec::new()));
        queued
            .ok_or(CouplingError::NotLinked)?
            .map_err(|error| gone(&error))?;
        loop {
            let flushed = self.with_sender(|sender| sender.flush(usize::MAX));
            match flushed.unwrap_or(Ok(Flushed::All)) {
                Ok(Flushed::All) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(gone(&error)),
            }
            let slice = match wait.slice() {
                Ok(slice) => slice,
                Err(source) => return Err(self.give_up_sending(source)),
            };
            sleep(&mut [PollFd::new(&self.socket, PollFlags::OUT)], slice);
        }
    }

    /// A message that is half out cannot be taken back, nor anything follow.
    fn give_up_sending(&self, source: WaitError) -> CouplingError {
        let is_taken_back = self.with_sender(|sender| {
            let is_taken_back = sender.cancel();
            if !is_taken_back {
                sender.close();
            }
            is_taken_back
        });
        if is_taken_back.unwrap_or(true) {
            return self.not_ready("send", source);
        }
        let why = format!("a message was half sent when {source}");
        self.lost(Lost::Dropped { why })
    }

    pub(super) fn receive(&self, into: &mut Vec<u8>, wait: &Wait) -> Result<(), CouplingError> {
        self.check_process()?;
        let turn = self.receiving.take(wait);
        let _turn = turn.map_err(|source| self.not_ready("receive", source))?;
        let mut receiver = lock(&self.receiver);
        let Some(receiver) = &mut *receiver else {
            return Err(CouplingError::NotLinked);
        };
        let looking = Looking::new(self.options.spin);
        loop {
            if self.try_receive(receiver, into)? {
                self.counts.messages_received.add(1);
                return Ok(());
            }
            let at_most = self.check_silence()?;
            let mut fds = [PollFd::new(&receiver.receiver, PollFlags::IN)];
            looking
                .pause(&mut fds, wait, at_most)
                .map_err(|source| self.not_ready("receive", source))?;
        }
    }

    /// Looks after the link of a peer whose messages go another way: takes
    /// signs of life, and finds out whether the endpoint is lost.
    pub(super) fn look_after(&self) -> Result<(), CouplingError> {
        let mut receiver = lock(&self.receiver);
        let Some(receiver) = &mut *receiver else {
            return Ok(());
        };
        let mut nothing = Vec::new();
        if self.try_receive(receiver, &mut nothing)? {
            let what = "a message beside the ring".to_owned();
            return Err(self.lose(Lost::Misbehaved { what }));
        }
        self.check_silence().map(drop)
    }

    /// Whether the link shows that the endpoint is lost, without taking the
    /// messages that lie there: their end, where it comes after all of them.
    pub(super) fn find_lost(&self) -> Option<CouplingError> {
        if let Err(error) = self.check_lost() {
            return Some(error);
        }
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        sleep(&mut fds, Duration::ZERO);
        let ended = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
        let is_ended = fds[0].revents().intersects(ended);
        // Why is said to whoever receives; for a read it is gone in any case.
        is_ended.then(|| self.lost(Lost::Died))
    }

    /// Sleeps until something comes over the link, or it ends.
    pub(super) fn wait_for_link(&self, slice: Duration) {
        sleep(&mut [PollFd::new(&self.socket, PollFlags::RDHUP)], slice);
    }

    /// Whether the endpoint is known to be lost.
    pub(super) fn check_lost(&self) -> Result<(), CouplingError> {
        match self.lost.get() {
            Some(lost) => Err(self.lost(lost.clone())),
            None => Ok(()),
        }
    }

    /// Why the endpoint went, once something else has shown that it did: the
    /// end of the link, which says so, comes at the same time.
    pub(super) fn last_words(&self) -> CouplingError {
        let wait = Wait::for_at_most(LAST_WORDS);
        while let Ok(slice) = wait.slice() {
            if let Err(error) = self.look_after() {
                return error;
            }
            sleep(&mut [PollFd::new(&self.socket, PollFlags::IN)], slice);
        }
        self.lose(Lost::Died)
    }

    /// The link's socket; its end is the endpoint's.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes what has come, up to a message.
    fn try_receive(
        &self,
        receiving: &mut Receiving,
        into: &mut Vec<u8>,
    ) -> Result<bool, CouplingError> {
        self.check_lost()?;
        if let Some(message) = receiving.passed.take() {
            *into = message;
            return Ok(true);
        }
        let is_message = self.take_frames(receiving, into, None)? == Came::Message;
        if !is_message {
            self.is_ahead.store(false, Ordering::SeqCst);
        }
        Ok(is_message)
    }

    /// Remembers the loss; the connection is of no more use.
    pub(super) fn lose(&self, lost: Lost) -> CouplingError {
        let lost = self.lost.get_or_init(|| lost).clone();
        self.with_sender(|sender| sender.close());
        self.lost(lost)
    }

    /// How long the endpoint may still be silent. Time in which nobody looked
    /// does not count: what it said then would have been seen just now.
    pub(super) fn check_silence(&self) -> Result<Duration, CouplingError> {
        let lease = self.terms.lease;
        let now = Time::now();
        let looked = Time(self.looked.swap(now.0, Ordering::Relaxed));
        if now.since(looked) > lease / 3 {
            self.heard.store(now.0, Ordering::Relaxed);
        }
        let silent = now.since(Time(self.heard.load(Ordering::Relaxed)));
        if silent > lease {
            return Err(self.lose(Lost::Silent { for_: silent }));
        }
        // Not shorter than it takes to notice that the time is over.
        Ok((lease - silent).max(Duration::from_millis(1)))
    }

    /// Shows that this side lives, where no thread does and it is time; the link is over
    /// where its program stayed away for too long.
    pub(super) fn progress(&self) {
        let Some(by_hand) = &self.by_hand else { return };
        if self.process.is_child() {
            return;
        }
        match by_hand.look() {
            Look::Away(away) => {
                let why = away.in_words();
                self.lose(Lost::Dropped { why });
            }
            Look::Due => self.send_heartbeat(),
            Look::Nothing => {}
        }
    }

    /// Whether this side's program stayed away for too long.
    pub(super) fn away(&self) -> Option<Away> {
        self.by_hand.as_ref().and_then(ByHand::away)
    }

    /// A sign of life, where nothing else is on its way.
    pub(super) fn send_heartbeat(&self) {
        let Ok(mut sender) = self.sender.try_lock() else {
            return;
        };
        let Some(sender) = sender.as_mut() else {
            return;
        };
        let head = Frame::Heartbeat.to_bytes();
        // A broken connection is seen by whoever receives; a full one has
        // bytes on their way.
        if sender.is_empty()
            && sender.queue(head, Vec::new()).is_ok()
            && !matches!(sender.flush(usize::MAX), Ok(Flushed::All))
        {
            sender.cancel();
        }
    }
}

/// Says that this side goes; the end of the connection says as much.
pub(super) fn take_leave(sender: &mut Sender) {
    let head = Frame::Close(Lost::Closed).to_bytes();
    if sender.queue(head, Vec::new()).is_ok() {
        let _ = sender.flush(usize::MAX);
    }
    sender.close();
}

impl Drop for Core {
    fn drop(&mut self) {
        // In the child of a fork the connection is the parent's, too.
        if self.process.is_child() {
            return;
        }
        self.with_sender(take_leave);
        keeper::forget();
    }
}
