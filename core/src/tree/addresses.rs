//! The addresses of this host that other hosts may reach.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most addresses that a rank listens on.
pub(super) const MAX_ADDRESSES: usize = 16;

/// The addresses of the interfaces that are up: of `interface`, if one is
/// named, else of all but loopback.
///
/// # Errors
/// What the system says; [`io::ErrorKind::NotFound`] where none is left.
pub(super) fn of_interfaces(interface: Option<&str>) -> io::Result<Vec<IpAddr>> {
    let all = all_interfaces()?;
    let wanted = all.iter().filter(|(name, address)| match interface {
        Some(wanted) => name == wanted,
        None => !address.is_loopback(),
    });
    let mut addresses: Vec<IpAddr> = wanted.map(|(_, address)| *address).collect();
    addresses.truncate(MAX_ADDRESSES);
    if !addresses.is_empty() {
        return Ok(addresses);
    }
    let mut names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    let what = interface.map_or("no interface".to_owned(), |it| {
        format!("no interface `{it}`")
    });
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("{what} with an address; there are: {}", names.join(", ")),
    ))
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
        let addresses = of_interfaces(Some("lo")).unwrap();
        assert!(addresses.iter().all(IpAddr::is_loopback));
        let error = of_interfaces(Some("nosuch0")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("nosuch0"));
        assert!(error.to_string().contains("lo"));
    }
}
