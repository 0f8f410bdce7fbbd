//! What goes wrong with a channel, and what to try.

use std::io;
use std::net::SocketAddr;

use crate::time::WaitError;

/// No listener could be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; try another port or an address of this machine")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Why a channel could not be had, or ended. After any but [`Wait`] the
/// channel is of no more use; a [`send`] that ended in [`Wait`] with part of
/// a frame on its way has ended the channel too.
///
/// [`Wait`]: Self::Wait
/// [`send`]: super::Sender::send
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Nobody listens there, or the peer serves no such role.
    #[error("{peer} refused: {why}; check that the server runs and the address is its own")]
    Refused {
        /// The other side.
        peer: SocketAddr,
        /// What was refused.
        why: &'static str,
    },
    /// The two sides hold different keys.
    #[error(
        "{peer} holds another key; use the key file, or contact file, of that very server or stream"
    )]
    WrongKey {
        /// The other side.
        peer: SocketAddr,
    },
    /// The two sides speak different versions.
    #[error(
        "{peer} speaks version {theirs} of the protocol, this side {ours}; install the same Panta on both"
    )]
    WrongVersion {
        /// The other side.
        peer: SocketAddr,
        /// Version of this side.
        ours: u16,
        /// Version of the other.
        theirs: u16,
    },
    /// One side encrypts, the other does not.
    #[error("encryption is {} here and {} at {peer}; configure both alike", on_off(*.ours), on_off(!*.ours))]
    EncryptionMismatch {
        /// The other side.
        peer: SocketAddr,
        /// Whether this side encrypts.
        ours: bool,
    },
    /// The peer does not speak the protocol at all.
    #[error("{peer} does not speak Panta's protocol; check address and port")]
    NotPanta {
        /// The other side.
        peer: SocketAddr,
    },
    /// A frame beyond the limits.
    #[error(
        "{what} of {bytes} bytes with {peer} is over the limit of {limit_bytes}; raise the limit on both sides or send less at once"
    )]
    TooLarge {
        /// The other side.
        peer: SocketAddr,
        /// Which part of a frame.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// Sealed bytes were changed on the way.
    #[error(
        "{what} from {peer} was altered on the way; connect again, and look for what lies between"
    )]
    Altered {
        /// The other side.
        peer: SocketAddr,
        /// Which part of a frame.
        what: &'static str,
    },
    /// More body was asked for than the frame has.
    #[error(
        "{asked} bytes asked of a body from {peer} of which {left} are left; ask for what the head announced"
    )]
    BodyEnds {
        /// The other side.
        peer: SocketAddr,
        /// Bytes asked for.
        asked: u64,
        /// Bytes left.
        left: u64,
    },
    /// The peer closed the connection, or died.
    #[error("{peer} closed the connection during {during}; see whether it ended or was killed")]
    Closed {
        /// The other side.
        peer: SocketAddr,
        /// What was going on.
        during: &'static str,
    },
    /// The deadline passed, or the wait was interrupted.
    #[error("waiting for {peer} during {during}: {source}")]
    Wait {
        /// The other side.
        peer: SocketAddr,
        /// What was going on.
        during: &'static str,
        /// Why the wait ended.
        source: WaitError,
    },
    /// The system refused a call.
    #[error("connection with {peer} failed during {during}: {source}")]
    Io {
        /// The other side.
        peer: SocketAddr,
        /// What was going on.
        during: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
