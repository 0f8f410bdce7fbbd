//! Links between processes: an authenticated channel as a stream of bytes.
//!
//! The bytes travel in the channel's heads, which are authentic and
//! encrypted; its bodies need not be.

use super::link::ByteStream;
use panta_transports::channel::{Channel, ChannelError};
use panta_transports::time::Wait;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Bytes of one head. A socket that poll(2) calls writable has room for it,
/// so that sending it does not wait.
const SEGMENT_BYTES: usize = 16 << 10;
/// Bounds a send all the same.
const SEND_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct TcpStream(pub(super) Channel);

impl fmt::Debug for TcpStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TcpStream({})", self.0.peer())
    }
}

impl ByteStream for TcpStream {
    fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self.0.receive_head(&Wait::for_at_most(Duration::ZERO)) {
            Ok(head) if head.body_bytes == 0 && !head.bytes.is_empty() => {
                into.extend_from_slice(head.bytes);
                Ok(head.bytes.len())
            }
            Ok(_) => Err(io::Error::other("a frame of another protocol")),
            Err(ChannelError::Wait { .. }) => Err(io::ErrorKind::WouldBlock.into()),
            Err(ChannelError::Closed { .. }) => Ok(0),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut writable = [PollFd::new(&self.0, PollFlags::OUT)];
        if poll(&mut writable, Some(&Timespec::default()))? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let segment = &bytes[..bytes.len().min(SEGMENT_BYTES)];
        let sent = self.0.send(segment, &[], &Wait::for_at_most(SEND_LIMIT));
        sent.map_err(io::Error::other)?;
        Ok(segment.len())
    }

    fn shut_down(&mut self) {
        self.0.close();
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
