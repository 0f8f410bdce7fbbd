//! The addresses of this host that other hosts may reach.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{Interface, Interfaces, Value};

/// The most addresses that a rank listens on.
pub(super) const MAX_ADDRESSES: usize = 16;

/// The addresses of the interfaces that are up: of `interfaces`, if some are
/// named, else of all but loopback.
///
/// # Errors
/// What the system says; [`io::ErrorKind::NotFound`] where none is left.
pub(super) fn of_interfaces(interfaces: Option<&Interfaces>) -> io::Result<Vec<IpAddr>> {
    let all = all_interfaces()?;
    let wanted = all.iter().filter(|(name, address)| match interfaces {
        Some(wanted) => wanted.0.iter().any(|it| is_of(it, name, *address)),
        None => !address.is_loopback(),
    });
    let mut addresses: Vec<IpAddr> = wanted.map(|(_, address)| *address).collect();
    addresses.truncate(MAX_ADDRESSES);
    if !addresses.is_empty() {
        return Ok(addresses);
    }
    let mut names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    let what = interfaces.map_or("no interface".to_owned(), |it| {
        format!("no interface `{}`", it.print())
    });
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("{what} with an address; there are: {}", names.join(", ")),
    ))
}

fn is_of(interface: &Interface, name: &str, address: IpAddr) -> bool {
    match interface {
        Interface::Name(wanted) => wanted == name,
        Interface::Network {
            address: network,
            bits,
        } => {
            network.is_ipv4() == address.is_ipv4()
                && common_bits(*network, address) >= u32::from(*bits)
        }
    }
}

/// The leading bits that two addresses of one family have in common.
fn common_bits(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => 0,
    }
}

/// Name and address of each interface that is up, link-local ones aside,
/// which mean nothing to other hosts.
fn all_interfaces() -> io::Result<Vec<(String, IpAddr)>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a place for the pointer that the call returns.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: the call made a list whose nodes live until freeifaddrs.
        let node = unsafe { &*next };
        next = node.ifa_next;
        let is_up = node.ifa_flags & libc::IFF_UP as u32 != 0;
        if !is_up || node.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: a non-null `ifa_addr` is a socket address of the length that
        // its family says.
        let Some(address) = (unsafe { ip_address(node.ifa_addr) }) else {
            continue;
        };
        // SAFETY: names are C strings that live as long as the list.
        let name = unsafe { CStr::from_ptr(node.ifa_name) };
        found.push((name.to_string_lossy().into_owned(), address));
    }
    // SAFETY: `list` came from getifaddrs and nothing of it is kept.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// The IP address in a socket address, if it is one that others can use.
///
/// # Safety
/// `address` points to a socket address of the length that its family says.
unsafe fn ip_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: every socket address starts with its family.
    match i32::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: the family says that it is one of IPv4.
            let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            let address = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            (!address.is_link_local()).then_some(IpAddr::V4(address))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is one of IPv6.
            let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            let address = Ipv6Addr::from(address.sin6_addr.s6_addr);
            (!address.is_unicast_link_local()).then_some(IpAddr::V6(address))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn loopback_is_found_by_name_and_an_unknown_name_lists_the_known() {
        let addresses = of_interfaces(Interfaces::parse("lo").ok().as_ref()).unwrap();
        assert!(addresses.iter().all(IpAddr::is_loopback));
        let network = Interfaces::parse("nosuch0,127.0.0.0/8").ok();
        assert_eq!(
            of_interfaces(network.as_ref()).unwrap(),
            [Ipv4Addr::LOCALHOST]
        );
        let error = of_interfaces(Interfaces::parse("nosuch0").ok().as_ref()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("nosuch0"));
        assert!(error.to_string().contains("lo"));
    }
}
