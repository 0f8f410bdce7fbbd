//! Which streams the servers of a space hold.

use panta_core::config::{Distribution, Options};
use panta_core::error::{Fault, OpenError, Place};
use panta_transports::channel::Role;
use panta_transports::time::Wait;

use super::connect::{Dialer, ask, find_servers};
use super::fault::peer;
use crate::proto::message::{
    Distribution as WireDistribution, Kind, ListStreams, StreamState, StreamSummary,
};
use crate::proto::placement::home_of;

/// How errors name what is asked for.
const ALL: &str = "*";

/// How a stream's writers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Somebody may write.
    Live,
    /// The writers have closed it.
    Closed,
    /// A writer died.
    WriterLost,
}

/// A stream at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamListing {
    /// Its name.
    pub stream: String,
    /// How its writers stand.
    pub state: State,
    /// The present life of the writer, from 1.
    pub epoch: u64,
    /// Oldest and newest step held, the precious one aside.
    pub range: Option<(u64, u64)>,
    /// The step that is kept for every reader group that opens.
    pub precious: Option<u64>,
    /// Which reader groups get a step.
    pub distribution: Distribution,
    /// Steps held.
    pub steps: u64,
    /// Bytes held.
    pub bytes: u64,
}

/// The streams of the space that the servers in `options` belong to, by name. One round
/// trip to each server, since each is home to some.
///
/// # Errors
/// [`OpenError`] naming the first server that cannot be asked.
pub fn list_streams(options: &Options, wait: &Wait) -> Result<Vec<StreamListing>, OpenError> {
    let mut dialer = Dialer::new(ALL, options, Role::Reader)?;
    let servers = find_servers(ALL, &options.servers.0, &mut dialer, wait)?;
    let mut listed = Vec::new();
    for server in &servers {
        listed.extend(list_of(server, &mut dialer, wait)?);
    }
    listed.sort_by(|a, b| a.stream.cmp(&b.stream));
    Ok(listed)
}

/// What the home of one stream says of it, whether or not other servers live; none where it
/// has no such stream.
///
/// # Errors
/// [`OpenError`] naming the server that cannot be asked.
pub fn find_stream(
    stream: &str,
    options: &Options,
    wait: &Wait,
) -> Result<Option<StreamListing>, OpenError> {
    let mut dialer = Dialer::new(stream, options, Role::Reader)?;
    let servers = find_servers(stream, &options.servers.0, &mut dialer, wait)?;
    let Some(home) = home_of(stream, &servers) else {
        return Ok(None);
    };
    let mut listed = list_of(&servers[home.0 as usize], &mut dialer, wait)?.into_iter();
    Ok(listed.find(|listed| listed.stream == stream))
}

/// The streams that a server is the home of.
fn list_of(
    server: &str,
    dialer: &mut Dialer,
    wait: &Wait,
) -> Result<Vec<StreamListing>, OpenError> {
    match ask(
        server,
        dialer,
        Some(Kind::ListStreams(ListStreams {})),
        wait,
    ) {
        Ok((_, Some(Kind::Streams(found)))) => {
            Ok(found.streams.into_iter().map(StreamListing::of).collect())
        }
        Ok(_) => Err(lost(server, "it did not list its streams".into())),
        Err(error) => Err(lost(server, error.to_string())),
    }
}

impl StreamListing {
    fn of(summary: StreamSummary) -> Self {
        Self {
            state: match summary.state() {
                StreamState::Live => State::Live,
                StreamState::Closed => State::Closed,
                StreamState::Lost => State::WriterLost,
            },
            distribution: match summary.distribution() {
                WireDistribution::All => Distribution::All,
                WireDistribution::RoundRobin => Distribution::RoundRobin,
                WireDistribution::OnDemand => Distribution::OnDemand,
            },
            stream: summary.stream,
            epoch: summary.epoch,
            range: summary.first.zip(summary.last),
            precious: summary.precious,
            steps: summary.steps,
            bytes: summary.bytes,
        }
    }
}

fn lost(server: &str, why: String) -> OpenError {
    let fault = Fault::PeerLost {
        peer: peer(server),
        why,
    };
    fault.at(Place::stream(ALL)).into()
}
