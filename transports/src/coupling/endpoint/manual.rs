//! An endpoint without a thread: calls of the host do what its thread would.
//!
//! ```text
//!   progress    one turn: what is ready, what is due; it waits for nothing, but a
//!               moment for the next word of a peer that is just joining
//!   drive       turns until the handler was called
//!   wait_fd     what the thread would sleep on, and a timer for what is due
//! ```
//! Whoever declares that it may stay away for so long and stays away for longer is held
//! dead by its peers. It holds itself dead, too, whether they noticed or not: then all
//! linked peers are lost, nobody joins any more, and [`Endpoint::away`] says so.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::reactor::Reactor;
use super::{Driving, Endpoint, Shared, drain, lock};
use crate::coupling::{Lost, Progress};
use crate::shm::Attention;
use crate::time::{Meanwhile, Time, Wait, WaitError};

/// How long the next word of a peer that is joining is waited for: without that, whoever
/// joins would need a call of the host for each of its words.
const NEXT_WORD: Duration = Duration::from_millis(2);

/// Turns that one call takes for peers that join, at most.
const JOINING_TURNS: usize = 64;

/// A program stayed away for longer than it had declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// How long.
    pub for_: Duration,
    /// What it had declared.
    pub silence: Duration,
}

impl Away {
    /// What its peers are told.
    pub(in crate::coupling) fn in_words(&self) -> String {
        let Self { for_, silence } = self;
        format!("its program stayed away for {for_:?}, and had declared {silence:?}")
    }

    /// Whether a program that came by `last` time then was away for too long.
    pub(in crate::coupling) fn since(last: Time, now: Time, silence: Duration) -> Option<Self> {
        let for_ = now.since(last);
        (for_ > silence).then_some(Self { for_, silence })
    }
}

/// What a reactor needs to be run by the host.
pub(super) struct Host {
    pub(super) timer: OwnedFd,
    /// What the timer is set for.
    set_for: Option<Time>,
    /// When a turn last ended.
    last: Time,
    silence: Duration,
    /// Whether somebody who is joining was heard in this turn.
    has_met: bool,
}

impl Host {
    pub(super) fn new(silence: Duration) -> Result<Self, Errno> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self {
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            set_for: None,
            last: Time::now(),
            silence,
            has_met: false,
        })
    }
}

impl Reactor {
    /// How long the host may stay away.
    pub(super) fn absence(&self) -> Duration {
        let host = self.host.as_ref();
        host.map_or(Duration::ZERO, |host| host.silence)
    }

    /// Somebody who is joining was heard.
    pub(super) fn met(&mut self) {
        if let Some(host) = &mut self.host {
            host.has_met = true;
        }
    }

    pub(super) fn timer_rang(&mut self) {
        if let Some(host) = &mut self.host {
            drain(&host.timer);
            host.set_for = None;
        }
    }

    /// One turn for the host: takes what is ready, waiting `longest` for it.
    fn turn_of_host(&mut self, longest: Duration) {
        self.judge_absence();
        let left = self.due().map(|due| due.since(Time::now()));
        self.once(Some(left.map_or(longest, |left| left.min(longest))));
        for _ in 0..JOINING_TURNS {
            let host = self.host.as_mut();
            if !host.is_some_and(|host| std::mem::take(&mut host.has_met)) {
                break;
            }
            self.once(Some(NEXT_WORD));
        }
        let due = self.due();
        if let Some(host) = &mut self.host {
            host.last = Time::now();
            host.ring_at(due);
        }
    }

    /// Where somebody was promised a sign of life that did not come.
    fn judge_absence(&mut self) {
        let Some(host) = &self.host else { return };
        let Some(away) = Away::since(host.last, Time::now(), host.silence) else {
            return;
        };
        if self.beats.is_empty() {
            return;
        }
        let _ = self.shared.away.set(away);
        let peers: Vec<_> = self.beats.keys().copied().collect();
        for peer in peers {
            let why = away.in_words();
            self.lose(peer, Lost::Dropped { why });
        }
    }
}

impl Host {
    /// Has the timer make the descriptor readable when something is due.
    fn ring_at(&mut self, due: Option<Time>) {
        if due == self.set_for {
            return;
        }
        self.set_for = due;
        // Zero would disarm it; what is due already is due at once.
        let left = due.map(|due| due.since(Time::now()).max(Duration::from_nanos(1)));
        let left = left.unwrap_or_default();
        let spec = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            },
        };
        // It fails only where it is no timer.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec);
    }
}

impl Shared {
    fn is_by_hand(&self) -> bool {
        self.options.progress != Progress::Threads
    }
}

impl Meanwhile for Endpoint {
    fn meanwhile(&self) {
        self.progress();
    }
}

impl Endpoint {
    /// Does what is ready and due, where progress is made by hand; else the thread does,
    /// and this nothing. While another thread is at it, it is left to that one.
    pub fn progress(&self) {
        let Some(own) = &self.own else { return };
        if self.shared.process.is_child() {
            return;
        }
        let mut reactor = match own.try_lock() {
            Ok(reactor) => reactor,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        reactor.turn_of_host(Duration::ZERO);
        drop(reactor);
        self.shared.poll_rings();
    }

    /// What is readable when [`progress`](Self::progress) has something to do; none where
    /// a thread does it.
    #[must_use]
    pub fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        self.shared.is_by_hand().then(|| self.shared.epoll.as_fd())
    }

    /// Whether its program stayed away for so long that its peers hold it dead. It stays
    /// so: open another.
    #[must_use]
    pub fn away(&self) -> Option<Away> {
        self.shared.away.get().copied()
    }

    /// [`drive`](Self::drive) without a thread: takes its turns.
    pub(super) fn take_turns(
        &self,
        own: &Mutex<Reactor>,
        driving: &Driving<'_>,
        wait: &Wait,
    ) -> Result<(), WaitError> {
        loop {
            let slice = wait.slice()?;
            if driving.has_rings {
                self.shared.attend(Attention::Asleep);
            }
            let is_ready = self.look();
            if !is_ready {
                lock(own).turn_of_host(slice);
            }
            if driving.has_rings {
                self.shared.attend(Attention::Awake);
            }
            if is_ready || self.look() {
                return Ok(());
            }
        }
    }
}
