//! Meeting at an address, `stream:NAME@host:port`, where no file is shared.
//!
//! ```text
//! writer root    listens at host:port             ── key file ──┐ the same key
//! reader root    connects there, again and again  ── key file ──┘
//! other ranks    at the address of their host that leads there, as the root tells
//! ```
//! It promises: the key comes from a file that `key` names, on both sides, and
//! nobody without it is served; lives of a writer are numbered so that a later one has
//! the greater number, wherever it was started.
//!
//! It does not: tell two endpoints with one key apart but by their instance; who has
//! both address and key is the writer.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use panta_transports::channel::Key;
use panta_transports::coupling::address_towards;
use panta_transports::time::wall_clock_ns;

use super::contact::Instance;
use crate::config::Target;
use crate::error::{Fault, OpenError};

/// Where readers and writers meet, if that is not by a contact file.
pub(super) fn of(target: &Target) -> Option<&[String]> {
    let names = target.options.servers.0.as_slice();
    (!names.is_empty()).then_some(names)
}

fn no_key(target: &Target, why: &str) -> OpenError {
    let name = &target.name;
    OpenError::Config(format!(
        "stream `{name}` meets at {}, and {why}; `key` names the file with the stream's key, the same on both sides: a writer makes it where there is none, and readers need a copy that only they can read",
        target.options.servers.0.join(",")
    ))
}

fn key_file(target: &Target) -> Result<&Path, OpenError> {
    let path = target.options.key.as_deref();
    path.ok_or_else(|| no_key(target, "no `key` is set"))
}

/// The key of a reader.
pub(super) fn key_of_reader(target: &Target) -> Result<Key, OpenError> {
    Key::load(key_file(target)?).map_err(|error| no_key(target, &error.to_string()))
}

/// The key of a writer, made where there is none yet.
pub(super) fn key_of_writer(target: &Target) -> Result<Key, OpenError> {
    Key::load_or_create(key_file(target)?).map_err(|error| no_key(target, &error.to_string()))
}

/// The addresses that names stand for now.
pub(super) fn resolve(names: &[String]) -> Result<Vec<SocketAddr>, Fault> {
    let mut found = Vec::new();
    for name in names {
        let whole = match name.strip_prefix(':') {
            // All addresses of this host; for a reader, this host.
            Some(port) => format!("0.0.0.0:{port}"),
            None => name.clone(),
        };
        let addresses = whole.to_socket_addrs();
        let addresses =
            addresses.map_err(|error| Fault::io(format!("looking up {name}"), &error))?;
        for address in addresses {
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    Ok(found)
}

/// Where a rank of a writer listens that meets its readers at `names`. The root does
/// there; others at any port of their own address that leads there.
pub(super) fn listens(names: &[String], is_root: bool) -> Result<Vec<SocketAddr>, Fault> {
    let addresses = resolve(names)?;
    if is_root {
        return Ok(addresses);
    }
    let own = |address: SocketAddr| -> Result<SocketAddr, Fault> {
        let ip = match address.ip() {
            all if all.is_unspecified() => all,
            _ => address_towards(address).map_err(|error| {
                let doing = format!("finding the network of {address}");
                Fault::io(doing, &format!("{error}; name it with `interface`"))
            })?,
        };
        Ok((ip, 0).into())
    };
    addresses.into_iter().map(own).collect()
}

/// The number of a life that begins now, if the one before had `last`: greater than
/// that, and than any that began before at the same address, on whichever host.
pub(super) fn next_epoch(last: Option<u64>) -> u64 {
    const NS_PER_MS: u64 = 1_000_000;
    let next = last.map_or(1, |last| last.saturating_add(1));
    next.max(wall_clock_ns() / NS_PER_MS)
}

/// The instance of a writer whose endpoint is all that is known of it.
pub(super) fn instance(endpoint: u64) -> Instance {
    u128::from(endpoint).to_le_bytes()
}

/// The endpoint of such a writer.
pub(super) fn endpoint(instance: &Instance) -> u64 {
    // The other half is zero.
    u128::from_le_bytes(*instance) as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn a_port_alone_means_every_address_and_names_are_looked_up() {
        let found = resolve(&names(":7400,127.0.0.1:7401,:7400")).unwrap();
        let expected = ["0.0.0.0:7400", "127.0.0.1:7401"].map(|it| it.parse().unwrap());
        assert_eq!(found, expected);
        let error = resolve(&names("no-such-host.invalid:7400")).unwrap_err();
        assert!(
            error.to_string().contains("no-such-host.invalid"),
            "{error}"
        );
    }

    #[test]
    fn the_root_listens_at_the_address_and_others_beside_it() {
        let address = names("127.0.0.1:7400");
        let of = |is_root| listens(&address, is_root).unwrap();
        assert_eq!(of(true), ["127.0.0.1:7400".parse().unwrap()]);
        assert_eq!(of(false), ["127.0.0.1:0".parse().unwrap()]);
        let all = listens(&names("0.0.0.0:7400"), false).unwrap();
        assert_eq!(all, ["0.0.0.0:0".parse().unwrap()]);
    }

    #[test]
    fn a_later_life_has_the_greater_number_whether_the_earlier_is_known_or_not() {
        let first = next_epoch(None);
        assert!(first > 1_500_000_000_000, "{first} are no milliseconds");
        assert!(next_epoch(None) >= first);
        assert_eq!(next_epoch(Some(u64::MAX / 2)), u64::MAX / 2 + 1);
    }

    #[test]
    fn an_instance_tells_the_endpoint() {
        assert_eq!(endpoint(&instance(0x0102_0304)), 0x0102_0304);
    }
}
