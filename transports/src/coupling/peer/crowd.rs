//! Connecting where many come at once.
//!
//! An endpoint bears with so many connections that have not proven their key, and closes the
//! oldest for a new one, so that strangers never keep its peers away. Where hundreds of
//! ranks come in the same moment, some of them are closed too: those come again.

use std::net::SocketAddr;
use std::time::Duration;

use crate::channel::{Channel, ChannelError, Connector};
use crate::random;
use crate::time::Wait;

/// For how long an endpoint that closes without a word is asked again.
const CROWD_LIMIT: Duration = Duration::from_secs(10);

/// The longest pause before the second attempt, in milliseconds; doubled for each that
/// follows, up to [`LONGEST_PAUSE_MS`].
const FIRST_PAUSE_MS: u64 = 2;
const LONGEST_PAUSE_MS: u64 = 64;

/// A channel to an endpoint, which may be in a crowd of others that want one.
pub(super) fn connect(
    address: SocketAddr,
    connector: &Connector,
    wait: &Wait,
) -> Result<Channel, ChannelError> {
    let patience = wait.at_most(CROWD_LIMIT);
    let mut most_ms = FIRST_PAUSE_MS;
    loop {
        let closed = match Channel::connect(address, connector, wait) {
            Err(error @ ChannelError::Closed { .. }) => error,
            other => return other,
        };
        let Ok(slice) = patience.slice() else {
            return Err(closed);
        };
        // All came at once, and are not to come at once again.
        let Ok(number) = random::number() else {
            return Err(closed);
        };
        let pause = Duration::from_millis(1 + number % most_ms);
        std::thread::sleep(pause.min(slice));
        most_ms = (2 * most_ms).min(LONGEST_PAUSE_MS);
    }
}
