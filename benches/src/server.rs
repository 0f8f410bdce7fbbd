//! Staging servers as processes of their own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use panta_staging_server::{Server, ServerOptions};
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Doing};
use crate::process::{Process, pss_bytes, say, wait_for_word};
use crate::relay::Listening;
use crate::role::Role;

/// How a server of a measurement starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServerRole {
    /// All servers.
    names: Vec<String>,
    /// This one's place among them.
    place: usize,
    /// The file of the key.
    key: PathBuf,
}

/// What a server has counted.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Frames that came over all its connections.
    pub(crate) frames_received: u64,
    /// Bytes copied.
    pub(crate) copied_bytes: u64,
    /// Its share of memory.
    pub(crate) pss_bytes: u64,
}

/// Serves until standard input ends.
pub(crate) fn run(role: &ServerRole) -> Result<(), BenchError> {
    let server = Server::start(ServerOptions {
        listen: role.names[role.place].parse().doing("start a server")?,
        names: role.names.clone(),
        server: role.place,
        key: Some(role.key.clone()),
        ..ServerOptions::default()
    })
    .doing("start a server")?;
    say(&Listening {
        address: server.address().to_string(),
    })?;
    answer_until_end(|| Counts {
        frames_received: server.counters().frames_received(),
        copied_bytes: server.copies().bytes(),
        pss_bytes: 0,
    })
}

/// Answers each word with the counts, until standard input ends.
pub(crate) fn answer_until_end(counts: impl Fn() -> Counts) -> Result<(), BenchError> {
    while wait_for_word() {
        say(&Counts {
            pss_bytes: pss_bytes(),
            ..counts()
        })?;
    }
    Ok(())
}

/// Servers of one space; ended when dropped.
pub(crate) struct Servers {
    pub(crate) servers: Vec<Process>,
    names: Vec<String>,
    key: PathBuf,
}

impl Servers {
    /// Starts `count` servers, whose key lies in `directory`.
    pub(crate) fn start(
        executable: &Path,
        count: usize,
        directory: &Path,
    ) -> Result<Self, BenchError> {
        let names = free_addresses(count)?;
        let key = directory.join("key");
        let mut servers = Vec::with_capacity(count);
        for place in 0..count {
            let role = Role::Server(ServerRole {
                names: names.clone(),
                place,
                key: key.clone(),
            });
            let mut server = Process::start("server", executable, &role)?;
            let Listening { .. } = server.hear()?;
            servers.push(server);
        }
        Ok(Self {
            servers,
            names,
            key,
        })
    }

    /// The URL of a stream on them.
    pub(crate) fn url(&self, stream: &str, verify: &str) -> String {
        let (names, key) = (self.names.join(","), self.key.display());
        format!("staging:{stream}@{names}?key={key}&verify={verify}&retain_steps=4")
    }

    /// The counts of all together.
    pub(crate) fn counts(&mut self) -> Result<Counts, BenchError> {
        let mut all = Counts::default();
        for server in &mut self.servers {
            let counts = server.ask()?;
            all.frames_received += counts.frames_received;
            all.copied_bytes += counts.copied_bytes;
            all.pss_bytes += counts.pss_bytes;
        }
        Ok(all)
    }
}

/// Addresses on loopback whose ports are free now: the list of servers must be known
/// before any of them starts.
fn free_addresses(count: usize) -> Result<Vec<String>, BenchError> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .doing("find a free port")?;
    let addresses = listeners.iter().map(TcpListener::local_addr);
    addresses
        .map(|address| Ok(address.doing("find a free port")?.to_string()))
        .collect()
}
