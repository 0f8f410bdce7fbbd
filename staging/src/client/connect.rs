//! Finding the servers, and the key that opens them.
//!
//! The servers that a URL names are asked first; the list that counts is the
//! one in the shard map that any of them answers with, so that all clients
//! agree on a stream's home whatever they call the servers.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use panta_core::config::{Options, TransportChoice};
use panta_core::error::{Fault, OpenError, Place};
use panta_transports::channel::{Channel, ChannelError, ChannelLimits, Connector, Key, Role};
use panta_transports::time::{Wait, WaitError};
use rustix::event::{Timespec, poll};

use super::fault::peer;
use crate::proto::codec;
use crate::proto::limits;
use crate::proto::message::{Hello, Kind, Message};
use crate::shard::ShardMap;

/// How long this side looks for an answer before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// Where the cluster's key lies unless a path is named:
/// `$XDG_CONFIG_HOME/panta/staging.key`, or under `~/.config`, or, without a
/// home, in the working directory.
#[must_use]
pub fn default_key_path() -> PathBuf {
    let folder = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    match folder {
        Some(folder) => folder.join("panta").join("staging.key"),
        None => PathBuf::from("staging.key"),
    }
}

/// Makes channels to servers.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    /// Keys that this side may hold, by what the key file may be; the one that
    /// was accepted first.
    keys: Vec<Key>,
    role: Role,
    encrypt: bool,
}

impl Dialer {
    /// # Errors
    /// [`OpenError`] where there is no key, or it is not a key.
    pub(super) fn new(stream: &str, options: &Options, role: Role) -> Result<Self, OpenError> {
        match options.transport {
            TransportChoice::Auto | TransportChoice::Tcp => {}
            other => {
                let fault = Fault::Unsupported {
                    engine: "staging".into(),
                    what: format!("be carried by `transport = {other:?}`"),
                    instead: "use `transport = tcp`".into(),
                };
                return Err(fault.at(Place::stream(stream)).into());
            }
        }
        let path = options.key.clone().unwrap_or_else(default_key_path);
        let key = Key::load(&path).map_err(|error| {
            OpenError::Config(format!(
                "stream `{stream}`: {error}; `key` names the file that the server told where it keeps its key"
            ))
        })?;
        // The file may hold the cluster's key or one derived from it.
        let keys = [Role::Cluster, Role::Writer, Role::Reader]
            .into_iter()
            .filter_map(|from| key.derive(from, role))
            .collect();
        Ok(Self {
            keys,
            role,
            encrypt: options.encrypt,
        })
    }

    /// Connects to `host:port`, with the first key that fits.
    pub(super) fn dial(&mut self, name: &str, wait: &Wait) -> Result<Channel, DialError> {
        let addresses: Vec<SocketAddr> = name
            .to_socket_addrs()
            .map_err(|error| DialError::Passing(format!("{name}: {error}")))?
            .collect();
        let mut last = DialError::Passing(format!("{name} has no address"));
        for address in addresses {
            match self.dial_address(address, wait) {
                Ok(channel) => return Ok(channel),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn dial_address(&mut self, address: SocketAddr, wait: &Wait) -> Result<Channel, DialError> {
        let mut wrong = None;
        for (index, key) in self.keys.iter().enumerate() {
            let mut connector = Connector::new(key.clone(), self.role);
            connector.encrypt = self.encrypt;
            connector.spin = SPIN;
            connector.limits = ChannelLimits {
                head_bytes: limits::HEAD_LIMIT_BYTES as u32,
                body_bytes: limits::BODY_LIMIT_BYTES,
            };
            match Channel::connect(address, &connector, wait) {
                Ok(channel) => {
                    self.keys.swap(0, index);
                    self.keys.truncate(1);
                    return Ok(channel);
                }
                Err(error @ ChannelError::WrongKey { .. }) => wrong = Some(error),
                Err(
                    error @ (ChannelError::WrongVersion { .. }
                    | ChannelError::EncryptionMismatch { .. }
                    | ChannelError::NotPanta { .. }),
                ) => return Err(DialError::Lasting(error)),
                Err(error) => return Err(DialError::Passing(error.to_string())),
            }
        }
        Err(wrong.map_or_else(
            || DialError::Passing("there is no key".into()),
            DialError::Lasting,
        ))
    }
}

/// Why there is no channel.
#[derive(Debug)]
pub(super) enum DialError {
    /// It may be there the next time.
    Passing(String),
    /// It will be the same the next time.
    Lasting(ChannelError),
}

/// Asks the servers that the user named for the list that counts.
///
/// # Errors
/// [`OpenError`] naming the servers, where none answers by the deadline.
pub(super) fn find_servers(
    stream: &str,
    seeds: &[String],
    dialer: &mut Dialer,
    wait: &Wait,
) -> Result<Vec<String>, OpenError> {
    if seeds.is_empty() {
        return Err(OpenError::Config(format!(
            "stream `{stream}`: no server is named; write `staging:{stream}@host:port`, or set `servers`"
        )));
    }
    let place = || Place::stream(stream);
    loop {
        let mut problems = Vec::new();
        for seed in seeds {
            match ask(seed, dialer, None, wait) {
                Ok((names, _)) => return Ok(names),
                Err(DialError::Passing(problem)) => problems.push(problem),
                Err(DialError::Lasting(error)) => {
                    let fault = Fault::Refused {
                        peer: peer(seed),
                        why: error.to_string(),
                    };
                    return Err(fault.at(place()).into());
                }
            }
        }
        let server = peer(&seeds.join(", "));
        match wait.slice() {
            Ok(slice) => pause(slice),
            Err(error @ WaitError::Interrupted) => {
                return Err(Fault::wait(error, server).at(place()).into());
            }
            Err(WaitError::Deadline(length)) => {
                let problems = problems.join("; ");
                let why = format!("not reached within {length:?}: {problems}; is it running?");
                let fault = Fault::PeerLost { peer: server, why };
                return Err(fault.at(place()).into());
            }
        }
    }
}

/// Sleeps for a slice of a wait, which is shorter than a second.
fn pause(slice: Duration) {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(slice.subsec_nanos()),
    };
    // A signal may end it early, which only makes the next try come sooner.
    let _ = poll(&mut [], Some(&timeout));
}

/// One server's list of all servers, and its answer to one more question.
pub(super) fn ask(
    server: &str,
    dialer: &mut Dialer,
    question: Option<Kind>,
    wait: &Wait,
) -> Result<(Vec<String>, Option<Kind>), DialError> {
    let mut channel = dialer.dial(server, wait)?;
    let hello = Hello {
        version: limits::PROTOCOL_VERSION,
        space: 0,
    };
    let passing = |problem: String| DialError::Passing(format!("{server}: {problem}"));
    let mut answers = Vec::new();
    for (request, kind) in [Some(Kind::Hello(hello)), question]
        .into_iter()
        .flatten()
        .enumerate()
    {
        let head = codec::encode(&Message::new(request as u64, kind));
        channel.send(&head, &[], wait).map_err(DialError::passing)?;
        let answer = channel.receive_head(wait).map_err(DialError::passing)?;
        let answer = codec::decode(answer.bytes).map_err(|error| passing(error.to_string()))?;
        if let Kind::Refused(refused) = answer.kind {
            return Err(passing(refused.detail));
        }
        answers.push(answer.kind);
    }
    let mut answers = answers.into_iter();
    let Some(Kind::Welcome(welcome)) = answers.next() else {
        return Err(passing("it did not answer a hello".into()));
    };
    let map = welcome.map.unwrap_or_default();
    let map = ShardMap::decode(&map.bytes).map_err(|error| passing(error.to_string()))?;
    let names = map.servers().iter();
    let names = names.map(|server| server.address.clone()).collect();
    Ok((names, answers.next()))
}

impl std::fmt::Display for DialError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passing(problem) => formatter.write_str(problem),
            Self::Lasting(error) => error.fmt(formatter),
        }
    }
}

impl DialError {
    fn passing(error: ChannelError) -> Self {
        Self::Passing(error.to_string())
    }
}
