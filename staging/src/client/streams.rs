//! Which streams the servers of a space hold.

use panta_core::config::{Distribution, Options};
use panta_core::error::{Fault, OpenError, Place};
use panta_transports::channel::Role;
use panta_transports::time::Wait;

use super::connect::{Dialer, ask, find_servers};
use super::fault::peer;
use crate::proto::message::{Distribution as WireDistribution, Kind, ListStreams, StreamState};

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
        let answer = ask(
            server,
            &mut dialer,
            Some(Kind::ListStreams(ListStreams {})),
            wait,
        );
        match answer {
            Ok((_, Some(Kind::Streams(streams)))) => {
                listed.extend(streams.streams.into_iter().map(|summary| StreamListing {
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
                }));
            }
            Ok(_) => return Err(lost(server, "it did not list its streams".into())),
            Err(error) => return Err(lost(server, error.to_string())),
        }
    }
    listed.sort_by(|a, b| a.stream.cmp(&b.stream));
    Ok(listed)
}

fn lost(server: &str, why: String) -> OpenError {
    let fault = Fault::PeerLost {
        peer: peer(server),
        why,
    };
    fault.at(Place::stream(ALL)).into()
}
