//! Sockets that never block: each call tries, and waits in `poll` by a
//! [`Wait`].

use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_reuseaddr, set_socket_send_buffer_size,
    set_tcp_nodelay, socket_error,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType,
    bind, connect, listen, recv, sendmsg, shutdown, socket_with,
};

use super::error::{BindError, ChannelError};
use super::{SOCKET_BUFFER_BYTES, wire};
use crate::time::{Time, Wait, WaitError};

/// Connections that the system keeps for a listener until they are accepted: all ranks of
/// a group may come in the same moment.
const BACKLOG: i32 = 1024;

/// Slices handed to the system in one call; it takes 1024 at most.
pub(super) const SLICES_PER_CALL: usize = 64;

/// Looks at the socket between two looks at the clock while spinning.
const LOOKS_PER_CLOCK: usize = 4;

/// Memory that is received into, which need not hold anything yet.
#[derive(Debug)]
#[repr(transparent)]
pub struct UninitSlice<'a> {
    raw: libc::iovec,
    memory: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

// SAFETY: it is a unique reference to bytes.
unsafe impl Send for UninitSlice<'_> {}

impl<'a> UninitSlice<'a> {
    /// This memory.
    #[must_use]
    pub fn new(memory: &'a mut [MaybeUninit<u8>]) -> Self {
        Self {
            raw: libc::iovec {
                iov_base: memory.as_mut_ptr().cast(),
                iov_len: memory.len(),
            },
            memory: PhantomData,
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.raw.iov_len
    }

    /// Whether it has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.iov_len == 0
    }

    /// The memory.
    pub fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: made of such a slice, borrowed for as long as this lives.
        unsafe { std::slice::from_raw_parts_mut(self.raw.iov_base.cast(), self.raw.iov_len) }
    }
}

/// A connected socket and who is at its other end.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    peer: SocketAddr,
}

/// Accepts connections. Who connects is not authenticated yet: see
/// [`Channel::accept`](super::Channel::accept).
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

/// A connection whose peer has proven nothing yet. Dropping it closes it.
#[derive(Debug)]
pub struct Pending(pub(super) Socket);

impl Listener {
    /// Listens on `address`; port 0 picks a free one.
    ///
    /// # Errors
    /// [`BindError`] where the system refuses.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let open = || -> io::Result<Self> {
            let socket = open_socket(address)?;
            set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &address)?;
            listen(&socket, BACKLOG)?;
            let listener = TcpListener::from(socket);
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        open().map_err(|source| BindError { address, source })
    }

    /// Where it listens, with the port that was picked.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    ///
    /// # Errors
    /// [`ChannelError::Wait`] where none comes, with the listener's own
    /// address as the peer; [`ChannelError::Io`] where the system refuses.
    pub fn accept(&self, wait: &Wait) -> Result<Pending, ChannelError> {
        let during = "accept";
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    return prepare(stream, peer)
                        .map(Pending)
                        .map_err(|source| ChannelError::Io {
                            peer,
                            during,
                            source,
                        });
                }
                Err(error) if is_passing(&error) => {}
                Err(source) => {
                    return Err(ChannelError::Io {
                        peer: self.address,
                        during,
                        source,
                    });
                }
            }
            wait_for(self.listener.as_fd(), PollFlags::IN, wait)
                .map_err(|end| end.into_error(self.address, during))?;
        }
    }
}

impl AsFd for Listener {
    /// Readable when a connection is there to be accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Pending {
    /// Who connected, by address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }
}

/// Whether accepting can go on after this: nothing there, or the connection
/// died before it was accepted.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}

fn prepare(stream: TcpStream, peer: SocketAddr) -> io::Result<Socket> {
    stream.set_nonblocking(true)?;
    set_tcp_nodelay(&stream, true)?;
    Ok(Socket { stream, peer })
}

fn open_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    ask_for_buffers(&socket)?;
    Ok(socket)
}

/// Asks for large buffers, before connecting or listening, since the window's
/// scale is settled there. A system that grants less is left to grow them by
/// itself: asking would fix them at the smaller size.
fn ask_for_buffers(socket: &OwnedFd) -> io::Result<()> {
    if granted_bytes("/proc/sys/net/core/rmem_max") >= SOCKET_BUFFER_BYTES {
        set_socket_recv_buffer_size(socket, SOCKET_BUFFER_BYTES)?;
    }
    if granted_bytes("/proc/sys/net/core/wmem_max") >= SOCKET_BUFFER_BYTES {
        set_socket_send_buffer_size(socket, SOCKET_BUFFER_BYTES)?;
    }
    Ok(())
}

fn granted_bytes(path: &str) -> usize {
    std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Why waiting for a socket ended without it being ready.
enum PollEnd {
    Wait(WaitError),
    Io(io::Error),
}

impl PollEnd {
    fn into_error(self, peer: SocketAddr, during: &'static str) -> ChannelError {
        match self {
            Self::Wait(source) => ChannelError::Wait {
                peer,
                during,
                source,
            },
            Self::Io(source) => ChannelError::Io {
                peer,
                during,
                source,
            },
        }
    }
}

/// Sleeps until the socket is ready, or for one slice of the wait at most.
fn wait_for(fd: BorrowedFd<'_>, flags: PollFlags, wait: &Wait) -> Result<(), PollEnd> {
    let slice = wait.slice().map_err(PollEnd::Wait)?;
    let timeout = Timespec {
        tv_sec: 0,
        // A slice is shorter than a second.
        tv_nsec: i64::from(slice.subsec_nanos()),
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(PollEnd::Io(errno.into())),
    }
}

impl Socket {
    /// Connects to `peer`.
    pub(super) fn connect(peer: SocketAddr, wait: &Wait) -> Result<Self, ChannelError> {
        let during = "connect";
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::ConnectionRefused => ChannelError::Refused {
                peer,
                why: "nobody listens there",
            },
            _ => ChannelError::Io {
                peer,
                during,
                source,
            },
        };
        let socket = open_socket(peer).map_err(failed)?;
        match connect(&socket, &peer) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        let stream = TcpStream::from(socket);
        // Connected is what has a peer; until then only errors are news.
        while stream.peer_addr().is_err() {
            if let Err(errno) = socket_error(&stream).map_err(|errno| failed(errno.into()))? {
                return Err(failed(errno.into()));
            }
            wait_for(stream.as_fd(), PollFlags::OUT, wait)
                .map_err(|end| end.into_error(peer, during))?;
        }
        prepare(stream, peer).map_err(failed)
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Ends both directions, also for a thread that waits on the socket.
    pub(super) fn close(&self) {
        // A socket that is closed already is as closed as can be.
        let _ = shutdown(&self.stream, Shutdown::Both);
    }

    fn failed(&self, during: &'static str, errno: Errno) -> ChannelError {
        let peer = self.peer;
        match errno {
            Errno::CONNRESET | Errno::PIPE => ChannelError::Closed { peer, during },
            _ => ChannelError::Io {
                peer,
                during,
                source: errno.into(),
            },
        }
    }

    /// Receives some bytes, at least one, into `into`, which is not empty.
    /// Looks again for `spin` before it sleeps.
    pub(super) fn receive_some(
        &self,
        into: &mut [u8],
        spin: Duration,
        during: &'static str,
        wait: &Wait,
    ) -> Result<usize, ChannelError> {
        let mut spun = spin.is_zero();
        loop {
            if let Some(received) = self.try_receive(into, during)? {
                return Ok(received);
            }
            if !spun {
                spun = true;
                let end = Time::now().after(spin);
                while Time::now() < end {
                    for _ in 0..LOOKS_PER_CLOCK {
                        if let Some(received) = self.try_receive(into, during)? {
                            return Ok(received);
                        }
                        std::hint::spin_loop();
                    }
                    // The peer may wait for this very processor.
                    std::thread::yield_now();
                }
            }
            wait_for(self.stream.as_fd(), PollFlags::IN, wait)
                .map_err(|end| end.into_error(self.peer, during))?;
        }
    }

    /// Receives what is there into `into`, which is not empty.
    pub(super) fn try_receive(
        &self,
        into: &mut [u8],
        during: &'static str,
    ) -> Result<Option<usize>, ChannelError> {
        match recv(&self.stream, into, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(ChannelError::Closed {
                peer: self.peer,
                during,
            }),
            Ok((_, received)) => Ok(Some(received)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(self.failed(during, errno)),
        }
    }

    /// Receives what is there into `targets` in turn, which are not all empty.
    pub(super) fn try_receive_into(
        &self,
        targets: &mut [UninitSlice<'_>],
        during: &'static str,
    ) -> Result<Option<usize>, ChannelError> {
        // SAFETY: all zero is a message header that names nothing.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = targets.as_mut_ptr().cast();
        message.msg_iovlen = targets.len().min(SLICES_PER_CALL);
        let socket = self.stream.as_raw_fd();
        // SAFETY: a `UninitSlice` is an iovec of memory that may be written
        // while it lives, which is beyond the call.
        let received = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_DONTWAIT) };
        if received > 0 {
            // Not negative.
            return Ok(Some(received as usize));
        }
        let peer = self.peer;
        if received == 0 {
            return Err(ChannelError::Closed { peer, during });
        }
        match Errno::from_io_error(&io::Error::last_os_error()) {
            Some(Errno::AGAIN | Errno::INTR) => Ok(None),
            errno => Err(self.failed(during, errno.unwrap_or(Errno::IO))),
        }
    }

    /// Sends what the socket takes of `slices`, which are not all empty.
    pub(super) fn try_send(
        &self,
        slices: &[IoSlice<'_>],
        during: &'static str,
    ) -> Result<Option<usize>, ChannelError> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut control = SendAncillaryBuffer::default();
        match sendmsg(&self.stream, slices, &mut control, flags) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(self.failed(during, errno)),
        }
    }

    /// Fills the rest of `into` from `filled` on, which it moves along, so
    /// that a wait that ended can be taken up again.
    pub(super) fn receive_all(
        &self,
        into: &mut [u8],
        filled: &mut usize,
        spin: Duration,
        during: &'static str,
        wait: &Wait,
    ) -> Result<(), ChannelError> {
        while *filled < into.len() {
            *filled += self.receive_some(&mut into[*filled..], spin, during, wait)?;
            if *filled < into.len() {
                self.check(during, wait)?;
            }
        }
        Ok(())
    }

    /// Whether the wait may go on, asked between two successful calls too,
    /// so that a busy peer cannot hold a caller beyond its deadline.
    fn check(&self, during: &'static str, wait: &Wait) -> Result<(), ChannelError> {
        wait.slice().map(drop).map_err(|source| ChannelError::Wait {
            peer: self.peer,
            during,
            source,
        })
    }

    /// Sends all of `slices`; `sent` counts the bytes that went out.
    pub(super) fn send_all(
        &self,
        mut slices: &mut [IoSlice<'_>],
        sent: &mut u64,
        during: &'static str,
        wait: &Wait,
    ) -> Result<(), ChannelError> {
        // Empty slices in front would look like nothing having gone out.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let now = &slices[..slices.len().min(SLICES_PER_CALL)];
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let mut control = SendAncillaryBuffer::default();
            match sendmsg(&self.stream, now, &mut control, flags) {
                Ok(bytes) => {
                    *sent += bytes as u64;
                    IoSlice::advance_slices(&mut slices, bytes);
                    if !slices.is_empty() {
                        self.check(during, wait)?;
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {
                    wait_for(self.stream.as_fd(), PollFlags::OUT, wait)
                        .map_err(|end| end.into_error(self.peer, during))?;
                }
                Err(errno) => return Err(self.failed(during, errno)),
            }
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The error for a preamble that is none.
pub(super) fn not_panta(peer: SocketAddr, error: wire::WireError) -> ChannelError {
    match error {
        wire::WireError::NotPanta => ChannelError::NotPanta { peer },
        wire::WireError::TooLarge { bytes } => ChannelError::TooLarge {
            peer,
            what: "a preamble",
            bytes: bytes as u64,
            limit_bytes: super::PREAMBLE_LIMIT_BYTES as u64,
        },
    }
}
