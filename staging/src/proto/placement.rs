//! Which server is a stream's home: rendezvous hashing over the list.
//!
//! Every client computes the same answer from the same list, and adding a
//! server moves only the streams that it wins.

use super::ServerId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The home of `stream` among `servers` (their names, in the space's order).
/// `None` where there are no servers.
#[must_use]
pub fn home_of<Name: AsRef<str>>(stream: &str, servers: &[Name]) -> Option<ServerId> {
    let weight = |server: &Name| {
        xxh3_64_with_seed(
            stream.as_bytes(),
            xxh3_64_with_seed(server.as_ref().as_bytes(), 0),
        )
    };
    let best = servers
        .iter()
        .enumerate()
        .max_by_key(|(index, server)| (weight(server), std::cmp::Reverse(*index)))?;
    u32::try_from(best.0).ok().map(ServerId)
}

/// What `Hello` calls the space: a hash of the names in their order.
#[must_use]
pub fn space_digest<Name: AsRef<str>>(servers: &[Name]) -> u64 {
    servers.iter().fold(0, |digest, server| {
        xxh3_64_with_seed(server.as_ref().as_bytes(), digest)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_server_that_joins_moves_only_streams_to_itself() {
        let before = ["a:1", "b:1", "c:1"];
        let after = ["a:1", "b:1", "c:1", "d:1"];
        let mut moved = 0;
        for number in 0..1000 {
            let stream = format!("run{number}");
            let (old, new) = (
                home_of(&stream, &before).unwrap(),
                home_of(&stream, &after).unwrap(),
            );
            if old != new {
                assert_eq!(new, ServerId(3));
                moved += 1;
            }
        }
        assert!((150..350).contains(&moved), "{moved} of 1000 streams moved");
    }

    #[test]
    fn no_servers_no_home() {
        assert_eq!(home_of::<&str>("run", &[]), None);
    }
}
