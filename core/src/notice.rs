//! A descriptor that becomes readable when a reader should ask for its next step: for
//! programs that wait for many things in a `poll` or `epoll` of their own.
//!
//! ```text
//! epoll ── what the engine hears of the writer through      a socket, a bell, a watched file
//!       ├─ an eventfd: ask again at once                    set but after "not ready"
//!       └─ a timer: ask now and then                        for what nobody gives notice of
//! ```
//! It may be readable for nothing, and is never silent about something: a reader that is
//! asked until it says that nothing is ready may then wait for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::{Errno, read, write};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// See the module.
#[derive(Debug)]
pub struct Notice {
    epoll: OwnedFd,
    again: OwnedFd,
    timer: OwnedFd,
    /// What the engine hears through now; copies, so that they stay what they are.
    heard: Mutex<Vec<OwnedFd>>,
}

impl Notice {
    /// One that is readable at once, and `every` so often whatever happens.
    ///
    /// # Errors
    /// Those of the system, which is out of descriptors.
    pub fn new(every: Duration) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let notice = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            again: eventfd(1, flags)?,
            timer: timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
            )?,
            heard: Mutex::default(),
        };
        let every = Timespec {
            tv_sec: i64::try_from(every.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(every.subsec_nanos()),
        };
        let spec = Itimerspec {
            it_interval: every,
            it_value: every,
        };
        timerfd_settime(&notice.timer, TimerfdTimerFlags::empty(), &spec)?;
        notice.add(notice.again.as_fd())?;
        notice.add(notice.timer.as_fd())?;
        Ok(notice)
    }

    fn add(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let data = epoll::EventData::new_u64(0);
        Ok(epoll::add(
            &self.epoll,
            fd,
            data,
            epoll::EventFlags::IN | epoll::EventFlags::RDHUP,
        )?)
    }

    /// From now on these descriptors are what the engine hears through.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn hear(&self, through: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for old in heard.drain(..) {
            epoll::delete(&self.epoll, &old)?;
        }
        for fd in through {
            let copy = rustix::io::fcntl_dupfd_cloexec(fd, 0)?;
            self.add(copy.as_fd())?;
            heard.push(copy);
        }
        Ok(())
    }

    /// What is due now and then was done; an answer was not given.
    pub fn ticked(&self) {
        // It fails only where the timer has not rung.
        let _ = read(&self.timer, &mut [0; 8]);
    }

    /// An answer was given: `again` unless it was that nothing is ready, and nothing was
    /// missed since.
    pub fn answered(&self, again: bool) {
        // Neither can fail but by being silent, or readable, already.
        let mut count = [0; 8];
        let _ = read(&self.timer, &mut count);
        if !again {
            let _ = read(&self.again, &mut count);
            return;
        }
        while write(&self.again, &1_u64.to_ne_bytes()) == Err(Errno::INTR) {}
    }
}

impl AsFd for Notice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn is_readable(notice: &Notice, at_most: i64) -> bool {
        let timeout = Timespec {
            tv_sec: at_most,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(notice, PollFlags::IN)], Some(&timeout)).unwrap() > 0
    }

    #[test]
    fn it_is_readable_until_nothing_is_ready_and_when_something_is_heard() {
        let notice = Notice::new(LONG).unwrap();
        assert!(is_readable(&notice, 0), "nobody has asked yet");
        notice.answered(false);
        assert!(!is_readable(&notice, 0));
        notice.answered(true);
        assert!(is_readable(&notice, 0), "there may be more");
        notice.answered(false);
        let (one, other) = (
            eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
            eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
        );
        notice.hear(&[one.as_fd()]).unwrap();
        assert!(!is_readable(&notice, 0));
        write(&one, &1_u64.to_ne_bytes()).unwrap();
        assert!(is_readable(&notice, 0));
        // Another life of the writer: the old descriptor says nothing any more.
        notice.hear(&[other.as_fd()]).unwrap();
        assert!(!is_readable(&notice, 0));
        drop(other);
        notice.hear(&[]).unwrap();
    }

    #[test]
    fn it_is_readable_now_and_then_whatever_is_heard() {
        let notice = Notice::new(Duration::from_millis(1)).unwrap();
        notice.answered(false);
        assert!(is_readable(&notice, 60));
    }
}
