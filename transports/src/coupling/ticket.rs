//! What a peer must know to find an endpoint: a ticket, which travels by file
//! or message. It holds no secret; the key travels apart from it.
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | `PNTK` |
//! | 4..6 | version, 1 |
//! | 6..8 | number of addresses |
//! | 8..16 | instance |
//! | then each | 4 or 6, the address (4 or 16 bytes), the port |
//!
//! Integers are little-endian, addresses in network order.

use std::net::{IpAddr, SocketAddr};

/// The most addresses of a ticket.
pub const TICKET_ADDRESSES: usize = 64;

/// The instance of a ticket that was not told by its endpoint: whoever answers with the
/// right key is meant. No endpoint has it.
const ANY_INSTANCE: u64 = 0;

const MAGIC: [u8; 4] = *b"PNTK";
const VERSION: u16 = 1;

/// Where an endpoint listens, and which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// All its addresses. A peer tries each.
    pub addresses: Vec<SocketAddr>,
    /// A random number that tells this endpoint from any other that may
    /// answer at the same address.
    pub instance: u64,
}

/// Bytes are no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no ticket: {0}; it must come whole from an endpoint of the same version")]
pub struct BadTicket(pub &'static str);

impl Ticket {
    /// Whichever endpoint answers at these addresses, and holds the key.
    #[must_use]
    pub fn of_any_at(addresses: Vec<SocketAddr>) -> Self {
        Self {
            addresses,
            instance: ANY_INSTANCE,
        }
    }

    /// Whether it leads to the endpoint of this instance.
    #[must_use]
    pub fn is_of(&self, instance: u64) -> bool {
        self.instance == ANY_INSTANCE || self.instance == instance
    }

    /// The bytes of this ticket; addresses beyond [`TICKET_ADDRESSES`] are
    /// left out.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let addresses = &self.addresses[..self.addresses.len().min(TICKET_ADDRESSES)];
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(addresses.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&self.instance.to_le_bytes());
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_le_bytes());
        }
        bytes
    }

    /// The ticket of these bytes, all of them.
    ///
    /// # Errors
    /// [`BadTicket`] where they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadTicket> {
        let (magic, rest) = take::<4>(bytes)?;
        if magic != MAGIC {
            return Err(BadTicket("it begins otherwise"));
        }
        let (version, rest) = take::<2>(rest)?;
        if u16::from_le_bytes(version) != VERSION {
            return Err(BadTicket("it is of another version"));
        }
        let (count, rest) = take::<2>(rest)?;
        let count = usize::from(u16::from_le_bytes(count));
        if count > TICKET_ADDRESSES {
            return Err(BadTicket("it has too many addresses"));
        }
        let (instance, mut rest) = take::<8>(rest)?;
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let (family, after) = take::<1>(rest)?;
            let (ip, after) = match family {
                [4] => take::<4>(after).map(|(ip, after)| (IpAddr::from(ip), after))?,
                [6] => take::<16>(after).map(|(ip, after)| (IpAddr::from(ip), after))?,
                _ => return Err(BadTicket("an address is of no known family")),
            };
            let (port, after) = take::<2>(after)?;
            addresses.push(SocketAddr::new(ip, u16::from_le_bytes(port)));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(BadTicket("bytes follow it"));
        }
        Ok(Self {
            addresses,
            instance: u64::from_le_bytes(instance),
        })
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), BadTicket> {
    let (first, rest) = bytes
        .split_first_chunk::<N>()
        .ok_or(BadTicket("it ends early"))?;
    Ok((*first, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            addresses: vec![
                "127.0.0.1:4000".parse().unwrap(),
                "[fd00::1]:65535".parse().unwrap(),
            ],
            instance: 0x0123_4567_89ab_cdef,
        }
    }

    #[test]
    fn a_ticket_comes_back_from_its_bytes_and_from_nothing_less_or_more() {
        let bytes = ticket().to_bytes();
        assert_eq!(Ticket::from_bytes(&bytes), Ok(ticket()));
        for end in 0..bytes.len() {
            assert!(Ticket::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Ticket::from_bytes(&longer).is_err());
    }

    #[test]
    fn too_many_addresses_are_never_written_nor_read() {
        let many = Ticket {
            addresses: vec![ticket().addresses[0]; 100],
            instance: 1,
        };
        let mut bytes = many.to_bytes();
        let read = Ticket::from_bytes(&bytes).unwrap();
        assert_eq!(read.addresses.len(), TICKET_ADDRESSES);
        bytes[6..8].copy_from_slice(&u16::MAX.to_le_bytes());
        assert!(Ticket::from_bytes(&bytes).is_err());
    }
}
