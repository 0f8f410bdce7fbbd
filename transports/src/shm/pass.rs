//! Descriptors between processes: packets over a Unix socket whose name is in
//! no file system.

use std::fmt::Write as _;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, accept_with, bind, connect, listen, recvmsg, sendmsg, shutdown, socket_with,
};
use rustix::process::geteuid;

use super::error::ShmError;
use crate::random;
use crate::time::Wait;

/// The most descriptors with one packet.
pub const MAX_DESCRIPTORS: usize = 8;

/// The most bytes of one packet.
pub const MAX_PACKET_BYTES: usize = 64;

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 128;

/// What was sent in one piece.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes, never none.
    pub bytes: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// Accepts processes of the same user. Nothing of it is in a file system, and
/// nothing is left when its process dies.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    name: Vec<u8>,
}

impl Listener {
    /// Listens under a random name.
    ///
    /// # Errors
    /// [`ShmError::System`], [`ShmError::NoRandomness`].
    pub fn bind() -> Result<Self, ShmError> {
        let mut secret = [0; 16];
        random::fill(&mut secret)?;
        let mut name = String::from("panta-");
        for byte in secret {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        let open = || -> Result<OwnedFd, Errno> {
            let socket = open_socket()?;
            bind(
                &socket,
                &SocketAddrUnix::new_abstract_name(name.as_bytes())?,
            )?;
            listen(&socket, BACKLOG)?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(ShmError::system("listening on a Unix socket"))?,
            name: name.into_bytes(),
        })
    }

    /// The name it listens under, in the abstract name space.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The next connection, if there is one. Those of other users are closed.
    ///
    /// # Errors
    /// [`ShmError::OtherUser`], [`ShmError::System`]; accepting can go on after
    /// either.
    pub fn accept(&self) -> Result<Option<Connection>, ShmError> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match accept_with(&self.socket, flags) {
            Ok(socket) => Connection::of_same_user(socket).map(Some),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(error) => Err(ShmError::system("accept on a Unix socket")(error)),
        }
    }
}

impl AsFd for Listener {
    /// Readable when a connection is there to be accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A connection to a process of the same user.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Connects to the listener of this name.
    ///
    /// # Errors
    /// [`ShmError::NotHere`] where there is none on this node,
    /// [`ShmError::OtherUser`], [`ShmError::NotReady`], [`ShmError::System`].
    pub fn connect(name: &[u8], wait: &Wait) -> Result<Self, ShmError> {
        let system = ShmError::system("connecting a Unix socket");
        let socket = open_socket().map_err(&system)?;
        let address = SocketAddrUnix::new_abstract_name(name).map_err(&system)?;
        loop {
            match connect(&socket, &address) {
                Ok(()) => return Self::of_same_user(socket),
                // The listener has as many as it can keep; nothing tells when
                // there is room, so it is asked again.
                Err(Errno::AGAIN | Errno::INTR) => {
                    let slice = wait.slice().map_err(|source| ShmError::NotReady {
                        during: "connecting a Unix socket",
                        source,
                    })?;
                    std::thread::sleep(slice.min(std::time::Duration::from_millis(1)));
                }
                Err(error @ (Errno::CONNREFUSED | Errno::NOENT)) => {
                    let source = error.into();
                    return Err(ShmError::NotHere { source });
                }
                Err(error) => return Err(system(error)),
            }
        }
    }

    fn of_same_user(socket: OwnedFd) -> Result<Self, ShmError> {
        let theirs = socket_peercred(&socket)
            .map_err(ShmError::system("asking who connected"))?
            .uid;
        let ours = geteuid();
        if theirs != ours {
            return Err(ShmError::OtherUser {
                theirs: theirs.as_raw(),
                ours: ours.as_raw(),
            });
        }
        Ok(Self { socket })
    }

    /// Sends a packet with descriptors. False, with nothing sent, where the
    /// socket takes no more now.
    ///
    /// # Errors
    /// [`ShmError::Lost`], [`ShmError::System`].
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<bool, ShmError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(ShmError::TooMany {
                what: "descriptors of one packet",
                limit: MAX_DESCRIPTORS as u64,
            });
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, flags) {
                Ok(_) => return Ok(true),
                // Too many references: the other side has to take some first.
                Err(Errno::AGAIN | Errno::TOOMANYREFS) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                    return Err(ShmError::Lost);
                }
                Err(error) => return Err(ShmError::system("sending on a Unix socket")(error)),
            }
        }
    }

    /// Receives a packet, if there is one, and what descriptors came with it.
    /// None of them survives an `exec`.
    ///
    /// # Errors
    /// [`ShmError::Lost`] at the end of the connection,
    /// [`ShmError::Misbehaved`] where packet or descriptors are too many,
    /// [`ShmError::System`].
    pub fn receive(&self) -> Result<Option<Packet>, ShmError> {
        let mut bytes = [0; MAX_PACKET_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = loop {
            let mut into = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.socket, &mut into, &mut control, flags) {
                Ok(received) => break received,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET | Errno::NOTCONN) => return Err(ShmError::Lost),
                Err(error) => return Err(ShmError::system("receiving on a Unix socket")(error)),
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
        if received.flags.intersects(cut) || descriptors.len() > MAX_DESCRIPTORS {
            return Err(ShmError::Misbehaved {
                what: "a packet with too many bytes or descriptors",
            });
        }
        // Packets are never empty.
        if received.bytes == 0 {
            return Err(ShmError::Lost);
        }
        Ok(Some(Packet {
            bytes: bytes[..received.bytes].to_vec(),
            descriptors,
        }))
    }

    /// Ends it for the other side, which can still be heard.
    pub fn end_sending(&self) {
        // One that has ended already is at its end.
        let _ = shutdown(&self.socket, Shutdown::Write);
    }

    /// Waits until [`Connection::receive`] has something.
    ///
    /// # Errors
    /// [`ShmError::NotReady`], [`ShmError::System`].
    pub fn wait_readable(&self, during: &'static str, wait: &Wait) -> Result<(), ShmError> {
        let slice = wait
            .slice()
            .map_err(|source| ShmError::NotReady { during, source })?;
        let slice = Timespec::try_from(slice).ok();
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut fds, slice.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(ShmError::system("poll of a Unix socket")(error)),
        }
    }
}

impl AsFd for Connection {
    /// Readable when a packet is there or the connection has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}
