//! Who listens at a port of this host already, as far as this host tells.
//!
//! A writer that is stopped, or hangs, keeps the port that its successor is given. Nobody
//! but who started it knows whether it may be ended, so it is not: the error names it.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// How `/proc/net/tcp` calls a socket that listens.
const LISTENS: &str = "0A";

/// A process that listens at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    process: u32,
    name: String,
    is_stopped: bool,
}

impl Display for Holder {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { process, name, .. } = self;
        write!(formatter, "process {process} (`{name}`), which ")?;
        match self.is_stopped {
            false => formatter.write_str("runs"),
            true => write!(
                formatter,
                "is stopped (`kill -CONT {process}` lets it go on, `kill -KILL {process}` ends it)"
            ),
        }
    }
}

/// Who listens at `address`; `None` where that is a process of another user, or of
/// another namespace, or nobody any more.
pub(super) fn holder_of(address: SocketAddr) -> Option<Holder> {
    let sockets = listening_at(address);
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let process = numbers.find(|number: &u32| has_one_of(*number, &sockets))?;
    // The name, in brackets, may hold anything.
    let line = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (front, fields) = line.rsplit_once(')')?;
    let (_, name) = front.split_once('(')?;
    let state = fields.split_ascii_whitespace().next()?;
    Some(Holder {
        process,
        name: name.escape_default().to_string(),
        is_stopped: matches!(state, "T" | "t"),
    })
}

/// What the descriptors of sockets that listen there are links to.
fn listening_at(address: SocketAddr) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let sockets = lines.filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, number) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (ip, port) = parse(local)?;
        let meets = ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
        (*state == LISTENS && port == address.port() && meets).then(|| format!("socket:[{number}]"))
    });
    sockets.collect()
}

/// An address as `/proc/net/tcp` and `tcp6` have it: words of the host's byte order.
fn parse(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(8 * at..8 * at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes = <[u8; 16]>::try_from(words.as_flattened()).ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some((ip, port))
}

fn has_one_of(process: u32, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        let to = fs::read_link(descriptor.path());
        to.is_ok_and(|to| sockets.iter().any(|socket| Path::new(socket) == to))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn who_listens_is_found_by_the_address_and_by_all_addresses() {
        for (bound, asked) in [
            ("127.0.0.1:0", Ipv4Addr::LOCALHOST),
            ("0.0.0.0:0", Ipv4Addr::LOCALHOST),
            ("127.0.0.1:0", Ipv4Addr::UNSPECIFIED),
        ] {
            let listener = TcpListener::bind(bound).unwrap();
            let port = listener.local_addr().unwrap().port();
            let holder = holder_of((asked, port).into()).unwrap();
            assert_eq!(holder.process, std::process::id(), "{bound}, {asked}");
            assert!(!holder.is_stopped);
            // Another address of the same port is another's.
            let other = holder_of(([127, 9, 9, 9], port).into());
            assert_eq!(other.is_some(), bound.starts_with("0.0.0.0"));
            drop(listener);
            assert_eq!(holder_of((asked, port).into()), None);
        }
    }

    #[test]
    fn addresses_are_read_as_the_system_writes_them() {
        let all = parse("00000000000000000000000000000000:1F90").unwrap();
        assert_eq!(all, (Ipv6Addr::UNSPECIFIED.into(), 8080));
        if cfg!(target_endian = "little") {
            let mapped = parse("0000000000000000FFFF00000100007F:0050").unwrap();
            assert_eq!(mapped, (Ipv4Addr::LOCALHOST.into(), 80));
        }
        for wrong in [
            "",
            ":",
            "0100007F",
            "0100007:1F90",
            "0100007F:1F9000",
            "é00007F:0050",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
