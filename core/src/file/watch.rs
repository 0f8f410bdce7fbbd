//! Waiting for a file to grow, or for one to appear in a directory: a file-change notice where the system has one,
//! and a look every few milliseconds in any case, since writers on other hosts
//! give no notice.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use panta_transports::time::{Wait, WaitError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

/// The longest between two looks at a file.
const LONGEST: Duration = Duration::from_millis(20);
/// The shortest.
const SHORTEST: Duration = Duration::from_millis(1);

/// Waits in slices, longer and longer ones.
#[derive(Debug)]
pub(crate) struct Patience(Duration);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(SHORTEST)
    }

    /// Sleeps for a slice, or until `watch` notices something.
    pub(crate) fn pass(&mut self, wait: &Wait, watch: Option<&Watch>) -> Result<(), WaitError> {
        let slice = wait.slice()?.min(self.0);
        self.0 = (self.0 * 2).min(LONGEST);
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(slice.subsec_nanos()),
        };
        match watch {
            None => {
                // A signal only makes the slice shorter.
                let _ = poll(&mut [], Some(&timeout));
            }
            Some(watch) => {
                let mut events = [PollFd::new(&watch.0, PollFlags::IN)];
                if poll(&mut events, Some(&timeout)).is_ok_and(|ready| ready > 0) {
                    watch.drain();
                    self.0 = SHORTEST;
                }
            }
        }
        Ok(())
    }
}

/// Notices when a file is written to, closed or removed, or when the files of a
/// directory change.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watch {
    /// `None` where the system gives no notice; polling does then.
    pub(crate) fn on(path: &Path) -> Option<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let events = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::ATTRIB
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE;
        let notices = inotify::init(flags).ok()?;
        inotify::add_watch(&notices, path, events).ok()?;
        Some(Self(notices))
    }

    /// Takes the notices that are there.
    pub(crate) fn drain(&self) {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        while events.next().is_ok() {}
    }
}
