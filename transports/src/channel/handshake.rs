//! From a connection to a channel: preambles, and Noise `NNpsk0`.
//!
//! The connector's preamble header is the prologue of the Noise handshake, so
//! role, version and encryption are authentic once the handshake is through.
//! A refusal is not: whoever sits on the wire can forge one, as it can cut the
//! connection; it never makes a channel.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use snow::{Builder, HandshakeState, StatelessTransportState};

use super::error::ChannelError;
use super::frames::{Channel, Link};
use super::key::{Key, Role};
use super::socket::{Pending, Socket, not_panta};
use super::wire::{
    Answer, Hello, PREAMBLE_HEADER_BYTES, Status, parse_answer, parse_hello, role_of,
};
use super::{
    CONNECTOR_SPIN, ChannelCounters, ChannelLimits, HANDSHAKE_LIMIT, PREAMBLE_LIMIT_BYTES, VERSION,
};
use crate::time::Wait;

/// Both ends have the key and no other identity: `NN` with a pre-shared key
/// mixed in before the first message, so that message already proves it.
/// AES-GCM, since processors that run simulations compute it: a head of 64
/// bytes is sealed in 0.4 us where ChaChaPoly takes 1.8, large pieces alike.
const NOISE: &str = "Noise_NNpsk0_25519_AESGCM_BLAKE2s";

const DURING: &str = "the handshake";

/// How an acceptor makes channels.
#[derive(Clone, Debug)]
pub struct Acceptor {
    /// The key of `key_role`, from which those of later roles are derived.
    pub key: Key,
    /// Whose key it is: roles from this one on are served.
    pub key_role: Role,
    /// Whether bodies are sealed.
    pub encrypt: bool,
    /// The largest frames.
    pub limits: ChannelLimits,
    /// How long to look for a frame before sleeping; zero by default, since
    /// whoever accepts has many channels and few processors.
    pub spin: Duration,
    /// What the channels count into.
    pub counters: ChannelCounters,
}

/// How a connector makes a channel.
#[derive(Clone, Debug)]
pub struct Connector {
    /// The key of `role`.
    pub key: Key,
    /// What this side is.
    pub role: Role,
    /// Whether bodies are sealed.
    pub encrypt: bool,
    /// The largest frames.
    pub limits: ChannelLimits,
    /// How long to look for a frame before sleeping, letting others run in
    /// between; [`CONNECTOR_SPIN`] by default.
    pub spin: Duration,
    /// What the channel counts into.
    pub counters: ChannelCounters,
}

impl Acceptor {
    /// An acceptor that holds the cluster key, with defaults for the rest.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self {
            key,
            key_role: Role::Cluster,
            encrypt: false,
            limits: ChannelLimits::default(),
            spin: Duration::ZERO,
            counters: ChannelCounters::new(),
        }
    }
}

impl Connector {
    /// A connector that holds the key of `role`, with defaults for the rest.
    #[must_use]
    pub fn new(key: Key, role: Role) -> Self {
        Self {
            key,
            role,
            encrypt: false,
            limits: ChannelLimits::default(),
            spin: CONNECTOR_SPIN,
            counters: ChannelCounters::new(),
        }
    }
}

impl Channel {
    /// Makes a channel of a connection, once the peer has proven its key.
    /// Waits for that no longer than [`HANDSHAKE_LIMIT`].
    ///
    /// # Errors
    /// [`ChannelError`] where the peer is refused (it is told why, unless it
    /// does not speak the protocol), silent, or gone.
    pub fn accept(
        pending: Pending,
        acceptor: &Acceptor,
        wait: &Wait,
    ) -> Result<Self, ChannelError> {
        let socket = pending.0;
        let wait = wait.at_most(HANDSHAKE_LIMIT);
        let mut buffer = [0; PREAMBLE_LIMIT_BYTES];
        let header = receive_header(&socket, &mut buffer, &wait)?;
        let hello = parse_hello(&header).map_err(|error| not_panta(socket.peer(), error))?;
        let message = receive_noise(&socket, &mut buffer, hello.noise_bytes, &wait)?;
        match respond(&header, &hello, message, acceptor, socket.peer()) {
            Ok((noise, reply, role)) => {
                send_answer(&socket, Status::Accepted, acceptor.encrypt, &reply, &wait)?;
                Ok(acceptor.channel(socket, noise, role))
            }
            Err((status, error)) => {
                // The refusal is what the caller hears of, not a peer that
                // did not stay to be told.
                let _ = send_answer(&socket, status, acceptor.encrypt, &[], &wait);
                Err(error)
            }
        }
    }

    /// Connects to an acceptor at `peer` and proves the key.
    ///
    /// # Errors
    /// [`ChannelError`] where nobody listens there, or either side refuses
    /// the other.
    pub fn connect(
        peer: SocketAddr,
        connector: &Connector,
        wait: &Wait,
    ) -> Result<Self, ChannelError> {
        let socket = Socket::connect(peer, wait)?;
        let mut message = [0; PREAMBLE_LIMIT_BYTES];
        // Both lengths are fixed: a public key and an empty, sealed payload.
        let hello = Hello {
            version: VERSION,
            role: connector.role as u8,
            encrypt: connector.encrypt,
            noise_bytes: 48,
        };
        let header = hello.to_bytes();
        let mut noise = builder(&header, &connector.key)
            .and_then(Builder::build_initiator)
            .map_err(|error| noise_failed(peer, error))?;
        let bytes = noise
            .write_message(&[], &mut message)
            .map_err(|error| noise_failed(peer, error))?;
        let mut slices = [IoSlice::new(&header), IoSlice::new(&message[..bytes])];
        socket.send_all(&mut slices, &mut 0, DURING, wait)?;
        let noise = receive_answer(&socket, noise, connector, wait)?;
        Ok(Self::new(Link {
            socket,
            noise,
            role: connector.role,
            encrypt: connector.encrypt,
            limits: connector.limits,
            spin: connector.spin,
            counters: connector.counters.clone(),
        }))
    }
}

/// A handshake that never waits, for threads that serve many. Whoever drives
/// it closes it, by dropping it, after [`HANDSHAKE_LIMIT`].
pub struct Accepting {
    /// None once it is a channel, or refused.
    socket: Option<Socket>,
    buffer: [u8; PREAMBLE_LIMIT_BYTES],
    filled: usize,
}

impl Accepting {
    /// Of a connection whose peer has proven nothing yet.
    #[must_use]
    pub fn new(pending: Pending) -> Self {
        Self {
            socket: Some(pending.0),
            buffer: [0; PREAMBLE_LIMIT_BYTES],
            filled: 0,
        }
    }

    /// Who connected, by address; none once the handshake is over.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.socket.as_ref().map(Socket::peer)
    }

    /// Readable when there is something to take; none once the handshake is
    /// over.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Takes what has come; the channel once the peer has proven its key, none
    /// while bytes are missing.
    ///
    /// # Errors
    /// As [`Channel::accept`], but for the wait. Each is final.
    pub fn advance(&mut self, acceptor: &Acceptor) -> Result<Option<Channel>, ChannelError> {
        let Some(hello) = self.receive()? else {
            return Ok(None);
        };
        let Some(socket) = self.socket.take() else {
            return Ok(None);
        };
        let mut header = [0; PREAMBLE_HEADER_BYTES];
        header.copy_from_slice(&self.buffer[..PREAMBLE_HEADER_BYTES]);
        let message = &self.buffer[PREAMBLE_HEADER_BYTES..self.filled];
        // An empty socket takes an answer; one that does not is no peer.
        let at_once = Wait::for_at_most(Duration::ZERO);
        match respond(&header, &hello, message, acceptor, socket.peer()) {
            Ok((noise, reply, role)) => {
                let encrypt = acceptor.encrypt;
                send_answer(&socket, Status::Accepted, encrypt, &reply, &at_once)?;
                Ok(Some(acceptor.channel(socket, noise, role)))
            }
            Err((status, error)) => {
                // The refusal is what the caller hears of.
                let _ = send_answer(&socket, status, acceptor.encrypt, &[], &at_once);
                Err(error)
            }
        }
    }

    /// The hello, once it and its Noise message are there.
    fn receive(&mut self) -> Result<Option<Hello>, ChannelError> {
        let Some(socket) = &self.socket else {
            return Ok(None);
        };
        let mut hello = None;
        loop {
            let mut all = PREAMBLE_HEADER_BYTES;
            if self.filled >= PREAMBLE_HEADER_BYTES {
                let mut header = [0; PREAMBLE_HEADER_BYTES];
                header.copy_from_slice(&self.buffer[..PREAMBLE_HEADER_BYTES]);
                let parsed =
                    parse_hello(&header).map_err(|error| not_panta(socket.peer(), error))?;
                all += parsed.noise_bytes;
                hello = Some(parsed);
            }
            if self.filled == all && hello.is_some() {
                return Ok(hello);
            }
            match socket.try_receive(&mut self.buffer[self.filled..all], DURING)? {
                Some(bytes) => self.filled += bytes,
                None => return Ok(None),
            }
        }
    }
}

impl Acceptor {
    fn channel(&self, socket: Socket, noise: StatelessTransportState, role: Role) -> Channel {
        Channel::new(Link {
            socket,
            noise,
            role,
            encrypt: self.encrypt,
            limits: self.limits,
            spin: self.spin,
            counters: self.counters.clone(),
        })
    }
}

fn receive_header(
    socket: &Socket,
    buffer: &mut [u8; PREAMBLE_LIMIT_BYTES],
    wait: &Wait,
) -> Result<[u8; PREAMBLE_HEADER_BYTES], ChannelError> {
    let mut header = [0; PREAMBLE_HEADER_BYTES];
    let into = &mut buffer[..PREAMBLE_HEADER_BYTES];
    socket.receive_all(into, &mut 0, Duration::ZERO, DURING, wait)?;
    header.copy_from_slice(into);
    Ok(header)
}

/// The Noise message after a header; its parser has checked the length.
fn receive_noise<'b>(
    socket: &Socket,
    buffer: &'b mut [u8; PREAMBLE_LIMIT_BYTES],
    noise_bytes: usize,
    wait: &Wait,
) -> Result<&'b [u8], ChannelError> {
    let into = &mut buffer[..noise_bytes];
    socket.receive_all(into, &mut 0, Duration::ZERO, DURING, wait)?;
    Ok(into)
}

/// Judges a hello: the keys for the channel, the reply and the peer's role.
fn respond(
    header: &[u8; PREAMBLE_HEADER_BYTES],
    hello: &Hello,
    message: &[u8],
    acceptor: &Acceptor,
    peer: SocketAddr,
) -> Result<(StatelessTransportState, Vec<u8>, Role), (Status, ChannelError)> {
    if hello.version != VERSION {
        let (ours, theirs) = (VERSION, hello.version);
        return Err((
            Status::WrongVersion,
            ChannelError::WrongVersion { peer, ours, theirs },
        ));
    }
    let derived =
        role_of(hello).and_then(|role| Some((role, acceptor.key.derive(acceptor.key_role, role)?)));
    let Some((role, key)) = derived else {
        let why = "it claims a role that is not served here";
        return Err((Status::RoleNotServed, ChannelError::Refused { peer, why }));
    };
    let wrong_key = |_| (Status::WrongKey, ChannelError::WrongKey { peer });
    let failed = |error| (Status::RoleNotServed, noise_failed(peer, error));
    let mut noise = builder(header, &key)
        .and_then(Builder::build_responder)
        .map_err(failed)?;
    let mut nothing = [0; PREAMBLE_LIMIT_BYTES];
    noise
        .read_message(message, &mut nothing)
        .map_err(wrong_key)?;
    // Asked after the key, so that strangers learn nothing of the setting.
    if hello.encrypt != acceptor.encrypt {
        let ours = acceptor.encrypt;
        return Err((
            Status::EncryptionMismatch,
            ChannelError::EncryptionMismatch { peer, ours },
        ));
    }
    let mut reply = vec![0; PREAMBLE_LIMIT_BYTES];
    let bytes = noise.write_message(&[], &mut reply).map_err(failed)?;
    reply.truncate(bytes);
    let noise = noise.into_stateless_transport_mode().map_err(failed)?;
    Ok((noise, reply, role))
}

fn send_answer(
    socket: &Socket,
    status: Status,
    encrypt: bool,
    reply: &[u8],
    wait: &Wait,
) -> Result<(), ChannelError> {
    let answer = Answer {
        version: VERSION,
        status: status as u8,
        encrypt,
        noise_bytes: reply.len(),
    };
    let header = answer.to_bytes();
    let mut slices = [IoSlice::new(&header), IoSlice::new(reply)];
    socket.send_all(&mut slices, &mut 0, DURING, wait)
}

/// Reads the acceptor's answer, and finishes the handshake if it accepted.
fn receive_answer(
    socket: &Socket,
    mut noise: HandshakeState,
    connector: &Connector,
    wait: &Wait,
) -> Result<StatelessTransportState, ChannelError> {
    let peer = socket.peer();
    let mut buffer = [0; PREAMBLE_LIMIT_BYTES];
    let header = receive_header(socket, &mut buffer, wait)?;
    let answer = parse_answer(&header).map_err(|error| not_panta(peer, error))?;
    if answer.version != VERSION {
        let (ours, theirs) = (VERSION, answer.version);
        return Err(ChannelError::WrongVersion { peer, ours, theirs });
    }
    match Status::from_number(answer.status) {
        Some(Status::Accepted) => {}
        Some(Status::WrongKey) => return Err(ChannelError::WrongKey { peer }),
        Some(Status::EncryptionMismatch) => {
            let ours = connector.encrypt;
            return Err(ChannelError::EncryptionMismatch { peer, ours });
        }
        Some(Status::RoleNotServed) => {
            let why = "it does not serve this role";
            return Err(ChannelError::Refused { peer, why });
        }
        Some(Status::WrongVersion) | None => return Err(ChannelError::NotPanta { peer }),
    }
    let message = receive_noise(socket, &mut buffer, answer.noise_bytes, wait)?;
    let mut nothing = [0; PREAMBLE_LIMIT_BYTES];
    noise
        .read_message(message, &mut nothing)
        .map_err(|_| ChannelError::WrongKey { peer })?;
    noise
        .into_stateless_transport_mode()
        .map_err(|error| noise_failed(peer, error))
}

fn builder<'b>(
    header: &'b [u8; PREAMBLE_HEADER_BYTES],
    key: &'b Key,
) -> Result<Builder<'b>, snow::Error> {
    Builder::new(NOISE.parse()?)
        .prologue(header)?
        .psk(0, key.secret_bytes())
}

/// Noise failed on this side's own account, as without randomness.
fn noise_failed(peer: SocketAddr, error: snow::Error) -> ChannelError {
    ChannelError::Io {
        peer,
        during: DURING,
        source: std::io::Error::other(error.to_string()),
    }
}
