//! How a server starts, and why it may not.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use panta_staging::client::default_key_path;
use panta_staging::proto::{ServerId, limits};
use panta_staging::shard::ShardMapError;
use panta_transports::channel::{BindError, Key, KeyError};
use panta_transports::random::NoRandomness;

/// The port that is listened on unless another is named.
pub const DEFAULT_PORT: u16 = 7400;
/// The most connections unless another number is named.
pub const CONNECTIONS_DEFAULT: usize = 1024;

/// How a server starts.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen; loopback by default. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// All servers of the space as clients reach them, `host:port`, in the
    /// order that all are given. Empty: this server alone, under `listen`.
    pub names: Vec<String>,
    /// This server's place in `names`, from 0.
    pub server: usize,
    /// The file of the cluster's key, made if it is not there; by default
    /// [`panta_staging::client::default_key_path`].
    pub key: Option<PathBuf>,
    /// Whether payload is encrypted too; clients must say the same.
    pub encrypt: bool,
    /// Payload bytes to hold at most.
    pub limit_bytes: u64,
    /// Connections at most, those that have proven nothing yet included.
    pub connections: usize,
    /// How long a connection's thread looks for a request before it sleeps.
    pub spin: Duration,
    /// How long a writer or reader whose connection ended may take to come back.
    pub reconnect_grace: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into(),
            names: Vec::new(),
            server: 0,
            key: None,
            encrypt: false,
            limit_bytes: limits::SERVER_BYTES_DEFAULT,
            connections: CONNECTIONS_DEFAULT,
            spin: Duration::ZERO,
            reconnect_grace: limits::RECONNECT_GRACE_DEFAULT,
        }
    }
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The key cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The folder of the default key file cannot be made.
    #[error("{path}: {source}; name a key file with `--key`")]
    KeyFolder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The list of servers does not fit.
    #[error("{0}")]
    Names(String),
    /// The list makes no map.
    #[error(transparent)]
    Map(#[from] ShardMapError),
    /// No random identity.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// No thread or descriptor could be had.
    #[error("the system has no thread or descriptor left: {0}")]
    System(io::Error),
}

impl StartError {
    pub(crate) fn system(error: impl Into<io::Error>) -> Self {
        Self::System(error.into())
    }
}

impl ServerOptions {
    pub(crate) fn load_key(&self) -> Result<(Key, PathBuf), StartError> {
        let path = match &self.key {
            Some(path) => path.clone(),
            None => {
                let path = default_key_path();
                if let Some(folder) = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty())
                {
                    std::fs::create_dir_all(folder).map_err(|source| StartError::KeyFolder {
                        path: folder.to_owned(),
                        source,
                    })?;
                }
                path
            }
        };
        Ok((Key::load_or_create(&path)?, path))
    }

    /// This server's number and the names of all.
    pub(crate) fn place_in_list(
        &self,
        address: SocketAddr,
    ) -> Result<(ServerId, Vec<String>), StartError> {
        if self.names.is_empty() {
            if address.ip().is_unspecified() {
                let why = format!(
                    "listening on {address} says not how clients reach this server; name it as `host:port`"
                );
                return Err(StartError::Names(why));
            }
            return Ok((ServerId(0), vec![address.to_string()]));
        }
        match u32::try_from(self.server) {
            Ok(server) if self.server < self.names.len() => {
                Ok((ServerId(server), self.names.clone()))
            }
            _ => Err(StartError::Names(format!(
                "server {} of a list of {}; the first is 0",
                self.server,
                self.names.len()
            ))),
        }
    }
}
