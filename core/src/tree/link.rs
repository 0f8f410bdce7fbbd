//! One link of the tree: frames over a stream of bytes, never blocking.
//!
//! A call pumps its links: what has come is taken in, what waits is sent as
//! far as the other side has room, and poll(2) tells when to go on.

use super::TreeCounters;
use super::frame::Frame;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Frames taken in ahead of their use; more stay with the sender.
const MAX_INBOX_FRAMES: usize = 8;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// A stream of bytes between two ranks.
pub(crate) trait ByteStream: Send + fmt::Debug {
    /// Appends what has come, at least a byte; zero at the end of the stream.
    /// [`io::ErrorKind::WouldBlock`] if there is nothing now.
    fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize>;

    /// Sends some of the bytes; [`io::ErrorKind::WouldBlock`] if there is no
    /// room now.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Ends both directions.
    fn shut_down(&mut self);

    /// What to poll.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

/// Between ranks on one host that trust the file system, or in one process.
#[derive(Debug)]
pub(crate) struct LocalStream(UnixStream);

impl LocalStream {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(stream))
    }
}

impl ByteStream for LocalStream {
    fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        into.reserve(READ_BYTES);
        let (count, _) = recv(&self.0, spare_capacity(into), RecvFlags::DONTWAIT)?;
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A host that is not Rust may die of SIGPIPE.
        Ok(send(
            &self.0,
            bytes,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )?)
    }

    fn shut_down(&mut self) {
        // It fails only where the other side is gone already.
        let _already_gone = self.0.shutdown(std::net::Shutdown::Both);
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side closed it, or died.
    Closed,
    /// What came was not a frame.
    Malformed(String),
}

/// A link to the rank `peer`.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: usize,
    stream: Box<dyn ByteStream>,
    received: Vec<u8>,
    /// Whole frames, oldest first.
    pub(super) inbox: VecDeque<Frame>,
    outbox: VecDeque<Outgoing>,
    /// Set once nothing more can come; frames in the inbox still count.
    pub(crate) end: Option<End>,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Arc<Vec<u8>>,
    sent: usize,
}

impl Link {
    pub(crate) fn new(peer: usize, stream: Box<dyn ByteStream>) -> Self {
        Self {
            peer,
            stream,
            received: Vec::new(),
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            end: None,
        }
    }

    /// Adds a frame to what is to be sent. The bytes are shared by links.
    pub(crate) fn enqueue(&mut self, frame: &Arc<Vec<u8>>, counters: &TreeCounters) {
        counters.count_message(frame.len());
        self.outbox.push_back(Outgoing {
            bytes: Arc::clone(frame),
            sent: 0,
        });
    }

    /// Whether frames wait to be sent and still can be.
    pub(super) fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty() && self.end.is_none()
    }

    /// Whether something could not be sent before the link ended.
    pub(super) fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Ends the link from this side; the other sees it close.
    pub(super) fn shut_down(&mut self) {
        self.stream.shut_down();
        self.end.get_or_insert(End::Closed);
    }

    /// Sends what there is room for.
    pub(super) fn pump_out(&mut self) {
        while let Some(front) = self.outbox.front_mut() {
            if self.end.is_some() {
                return;
            }
            match self.stream.write(&front.bytes[front.sent..]) {
                Ok(count) => {
                    front.sent += count;
                    if front.sent == front.bytes.len() {
                        self.outbox.pop_front();
                    }
                }
                Err(error) if is_retry(&error) => return,
                // What it had to say before it closed may be waiting.
                Err(_) => return self.close(),
            }
        }
    }

    /// Takes in what has come.
    pub(crate) fn pump_in(&mut self) {
        while self.end.is_none() && self.inbox.len() < MAX_INBOX_FRAMES {
            match self.stream.read(&mut self.received) {
                Ok(0) => self.end = Some(End::Closed),
                Ok(_) => self.take_frames(),
                Err(error) if is_retry(&error) => return,
                Err(_) => self.end = Some(End::Closed),
            }
        }
    }

    fn take_frames(&mut self) {
        loop {
            match Frame::take(&mut self.received) {
                Ok(Some(frame)) => self.inbox.push_back(frame),
                Ok(None) => return,
                Err(reason) => return self.end = Some(End::Malformed(reason)),
            }
        }
    }

    fn close(&mut self) {
        self.pump_in();
        self.end.get_or_insert(End::Closed);
    }

    fn poll_flags(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        if self.end.is_none() {
            flags.set(PollFlags::IN, self.inbox.len() < MAX_INBOX_FRAMES);
            flags.set(PollFlags::OUT, !self.outbox.is_empty());
        }
        flags
    }
}

fn is_retry(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Sleeps until one of the links can go on, `beside` is readable, or it is time to look at the
/// deadline and the interrupt flag again.
/// Whether one can.
pub(super) fn sleep<'a>(
    links: impl Iterator<Item = &'a Link>,
    beside: Option<BorrowedFd<'a>>,
    longest: Duration,
) -> Result<bool, Errno> {
    let with_flags = links.map(|link| (link, link.poll_flags()));
    let waiting = with_flags.filter(|(_, flags)| !flags.is_empty());
    let beside = beside.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    poll_for(
        waiting
            .map(|(link, flags)| PollFd::from_borrowed_fd(link.stream.descriptor(), flags))
            .chain(beside),
        longest,
    )
}

/// Sleeps until one of the sockets has something to read or accept.
pub(crate) fn sleep_on<'a, T: AsFd + 'a>(
    sockets: impl IntoIterator<Item = &'a T>,
    longest: Duration,
) -> Result<(), Errno> {
    let sockets = sockets.into_iter();
    poll_for(sockets.map(|it| PollFd::new(it, PollFlags::IN)), longest).map(|_| ())
}

fn poll_for<'a>(
    descriptors: impl Iterator<Item = PollFd<'a>>,
    longest: Duration,
) -> Result<bool, Errno> {
    let mut descriptors: Vec<PollFd<'_>> = descriptors.collect();
    let timeout = Timespec {
        tv_sec: longest.as_secs() as i64,
        tv_nsec: longest.subsec_nanos().into(),
    };
    match poll(&mut descriptors, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}
