//! Which addresses of this machine an endpoint listens on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

use super::error::CouplingError;

/// Interfaces by what they are called or where they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceChoice {
    /// `loopback`: this machine only. The default.
    Loopback,
    /// An interface by its name, as `eth0`.
    Name(String),
    /// Every interface with an address in this block, as `10.1.0.0/16`; a
    /// bare address is a block of one.
    Block {
        /// An address of the block.
        address: IpAddr,
        /// Bits that all addresses of the block share.
        prefix_bits: u8,
    },
}

/// A text names no interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no interface: {why}; give `loopback`, a name as `eth0`, an address, or a block as `10.1.0.0/16`"
)]
pub struct BadInterface {
    /// The text.
    pub text: String,
    /// What is wrong.
    pub why: &'static str,
}

impl FromStr for InterfaceChoice {
    type Err = BadInterface;

    fn from_str(text: &str) -> Result<Self, BadInterface> {
        let bad = |why| BadInterface {
            text: text.to_owned(),
            why,
        };
        if text == "loopback" {
            return Ok(Self::Loopback);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address
                .parse()
                .map_err(|_| bad("what stands before `/` is no address"))?;
            let prefix_bits: u8 = bits
                .parse()
                .map_err(|_| bad("what stands after `/` is no number"))?;
            let all = if address.is_ipv4() { 32 } else { 128 };
            if prefix_bits > all {
                return Err(bad("the block has more bits than an address"));
            }
            return Ok(Self::Block {
                address,
                prefix_bits,
            });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            let prefix_bits = if address.is_ipv4() { 32 } else { 128 };
            return Ok(Self::Block {
                address,
                prefix_bits,
            });
        }
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
        if text.is_empty() || text.len() >= libc::IF_NAMESIZE || !text.bytes().all(fits) {
            return Err(bad("no interface can have such a name"));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl fmt::Display for InterfaceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => formatter.write_str("loopback"),
            Self::Name(name) => formatter.write_str(name),
            Self::Block {
                address,
                prefix_bits,
            } => write!(formatter, "{address}/{prefix_bits}"),
        }
    }
}

/// An interface that is up, with one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Present {
    name: String,
    address: IpAddr,
}

/// Every address of every interface of this machine that is up, with the
/// interface's name; link-local ones of IPv6 are left out.
///
/// # Errors
/// [`CouplingError::Io`] where the system does not say.
pub fn interface_addresses() -> Result<Vec<(String, IpAddr)>, CouplingError> {
    let pair = |one: Present| (one.name, one.address);
    Ok(present()?.into_iter().map(pair).collect())
}

/// Where a listener is reached that listens on all addresses of this machine: those of
/// loopback only where there are no others.
pub(super) fn all_at(listens: SocketAddr) -> Result<Vec<SocketAddr>, CouplingError> {
    let fits = |one: &IpAddr| listens.is_ipv6() || one.is_ipv4();
    let all = present()?.into_iter().map(|one| one.address).filter(fits);
    let (inside, mut outside): (Vec<IpAddr>, Vec<IpAddr>) = all.partition(IpAddr::is_loopback);
    if outside.is_empty() {
        outside = inside;
    }
    let port = listens.port();
    Ok(outside.into_iter().map(|ip| (ip, port).into()).collect())
}

/// The address of this machine from which `target` is reached. Nothing is sent there.
///
/// # Errors
/// [`CouplingError::Io`] where no network leads there.
pub fn address_towards(target: SocketAddr) -> Result<IpAddr, CouplingError> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let found = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(target)?;
        socket.local_addr()
    });
    found
        .map(|address| address.ip())
        .map_err(|source| CouplingError::Io {
            during: "finding the network that leads to an address",
            source,
        })
}

/// The addresses that the choices mean on this machine, each once; loopback
/// where there is no choice.
pub(super) fn addresses(choices: &[InterfaceChoice]) -> Result<Vec<IpAddr>, CouplingError> {
    let needs_list = choices
        .iter()
        .any(|choice| *choice != InterfaceChoice::Loopback);
    let present = if needs_list { present()? } else { Vec::new() };
    let default = [InterfaceChoice::Loopback];
    let choices = if choices.is_empty() {
        &default[..]
    } else {
        choices
    };
    let mut chosen = Vec::new();
    for choice in choices {
        let found = matching(choice, &present);
        if found.is_empty() {
            let list: Vec<String> = present
                .iter()
                .map(|one| format!("{} {}", one.name, one.address))
                .collect();
            return Err(CouplingError::NoInterface {
                choice: choice.to_string(),
                present: list.join(", "),
            });
        }
        for address in found {
            if !chosen.contains(&address) {
                chosen.push(address);
            }
        }
    }
    Ok(chosen)
}

fn matching(choice: &InterfaceChoice, present: &[Present]) -> Vec<IpAddr> {
    let of = |fits: &dyn Fn(&Present) -> bool| {
        let found = present.iter().filter(|one| fits(one));
        found.map(|one| one.address).collect()
    };
    match choice {
        InterfaceChoice::Loopback => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        InterfaceChoice::Name(name) => of(&|one| one.name == *name),
        InterfaceChoice::Block {
            address,
            prefix_bits,
        } => of(&|one| is_in_block(one.address, *address, *prefix_bits)),
    }
}

fn is_in_block(address: IpAddr, block: IpAddr, prefix_bits: u8) -> bool {
    // A shift by the whole width means that nothing is compared.
    match (address, block) {
        (IpAddr::V4(address), IpAddr::V4(block)) => {
            let differ = address.to_bits() ^ block.to_bits();
            differ.checked_shr(32 - u32::from(prefix_bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(block)) => {
            let differ = address.to_bits() ^ block.to_bits();
            let shift = 128 - u32::from(prefix_bits);
            differ.checked_shr(shift).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Frees the system's list, however its reading ends.
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list came from `getifaddrs` and is freed here only.
        unsafe { libc::freeifaddrs(self.0) }
    }
}

/// Every address of every interface that is up. Link-local ones of IPv6 are
/// left out: they mean nothing without the number of an interface, which is
/// another on each machine.
fn present() -> Result<Vec<Present>, CouplingError> {
    let mut first = std::ptr::null_mut();
    // SAFETY: `first` is where the list is to be put.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(CouplingError::Io {
            during: "listing the interfaces",
            source: std::io::Error::last_os_error(),
        });
    }
    let list = List(first);
    let mut found = Vec::new();
    let mut at = list.0;
    // SAFETY: each entry is null or a valid entry of the list, which lives
    // until `list` is dropped.
    while let Some(entry) = unsafe { at.as_ref() } {
        at = entry.ifa_next;
        if entry.ifa_flags & libc::IFF_UP as u32 == 0 {
            continue;
        }
        // SAFETY: an entry's name is a string that ends with zero.
        let name = unsafe { std::ffi::CStr::from_ptr(entry.ifa_name) };
        // SAFETY: an entry's address is null or of the family that it names.
        if let Some(address) = unsafe { address_of(entry.ifa_addr) } {
            let is_link_local =
                matches!(address, IpAddr::V6(six) if six.segments()[0] & 0xffc0 == 0xfe80);
            if !is_link_local {
                found.push(Present {
                    name: name.to_string_lossy().into_owned(),
                    address,
                });
            }
        }
    }
    Ok(found)
}

/// The address at `address`, where it is one of IP.
///
/// # Safety
/// It is null, or points to an address as large as its family has them.
unsafe fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: null or valid, as the caller says.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: of this family, as the caller says; read unaligned.
            let four = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            let bits = u32::from_be(four.sin_addr.s_addr);
            Some(IpAddr::V4(Ipv4Addr::from_bits(bits)))
        }
        libc::AF_INET6 => {
            // SAFETY: of this family, as the caller says; read unaligned.
            let six = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::from(six.sin6_addr.s6_addr))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn choice(text: &str) -> InterfaceChoice {
        text.parse().unwrap()
    }

    #[test]
    fn texts_are_interfaces_or_errors_that_say_why() {
        assert_eq!(choice("loopback"), InterfaceChoice::Loopback);
        assert_eq!(choice("eth0"), InterfaceChoice::Name("eth0".into()));
        for text in ["10.1.0.0/16", "0.0.0.0/0", "fd00::/8", "10.1.2.3/32"] {
            assert_eq!(choice(text).to_string(), text);
        }
        assert_eq!(choice("10.1.2.3"), choice("10.1.2.3/32"));
        for text in [
            "",
            "10.1.0.0/33",
            "10.1/16",
            "fd00::/129",
            "a b",
            "10.0.0.0/x",
        ] {
            let error = text.parse::<InterfaceChoice>().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn blocks_compare_as_many_bits_as_they_say() {
        let is_in = |address: &str, block: &str| {
            let InterfaceChoice::Block {
                address: of,
                prefix_bits,
            } = choice(block)
            else {
                panic!("{block} is no block");
            };
            is_in_block(address.parse().unwrap(), of, prefix_bits)
        };
        assert!(is_in("10.1.255.3", "10.1.0.0/16"));
        assert!(!is_in("10.2.0.3", "10.1.0.0/16"));
        assert!(is_in("192.0.2.1", "0.0.0.0/0"));
        assert!(is_in("fd12::1", "fd00::/8"));
        assert!(!is_in("fe12::1", "fd00::/8"));
        assert!(!is_in("::1", "0.0.0.0/0"));
    }

    #[test]
    fn loopback_is_the_default_and_found_by_name_and_block() {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        assert_eq!(addresses(&[]).unwrap(), loopback);
        let same = [
            choice("loopback"),
            choice("127.0.0.0/8"),
            choice("127.0.0.1"),
        ];
        assert_eq!(addresses(&same).unwrap(), loopback);
        assert!(addresses(&[choice("lo")]).unwrap().contains(&loopback[0]));
    }

    #[test]
    fn the_way_to_loopback_is_loopback_and_all_addresses_leave_it_out() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let towards = |text: &str| address_towards(text.parse().unwrap());
        assert_eq!(towards("127.0.0.1:9").unwrap(), loopback);
        let all = all_at("0.0.0.0:7400".parse().unwrap()).unwrap();
        assert!(all.iter().all(|one| one.port() == 7400 && one.is_ipv4()));
        let inside = all.iter().filter(|one| one.ip().is_loopback()).count();
        assert!(inside == 0 || inside == all.len(), "{all:?}");
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error_that_lists_those_that_are() {
        let error = addresses(&[choice("nosuch0")]).unwrap_err().to_string();
        assert!(error.contains("nosuch0"), "{error}");
        assert!(error.contains("127.0.0.1"), "{error}");
        assert!(addresses(&[choice("203.0.113.0/24")]).is_err());
    }
}
