//! The one line that another host is given: where to connect, and a key.

use std::fmt;
use std::str::FromStr;

use panta_transports::channel::Key;
use panta_transports::coupling::Ticket;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// The longest text that is looked at.
const TEXT_LIMIT: usize = 8192;

/// How to reach a service, and its key; written in hexadecimal digits.
#[derive(Clone, Debug)]
pub(super) struct DoctorTicket {
    pub(super) key: [u8; KEY_BYTES],
    pub(super) endpoint: Ticket,
}

impl DoctorTicket {
    pub(super) fn key(&self) -> Key {
        Key::from_bytes(self.key)
    }
}

impl fmt::Display for DoctorTicket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.to_bytes();
        for byte in self.key.iter().chain(&endpoint) {
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for DoctorTicket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| {
            format!(
                "the ticket is none: {why}; copy the whole line that `panta doctor --serve` printed"
            )
        };
        let digit = |byte: u8| {
            (byte as char)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let digits: Option<Vec<u8>> = text.bytes().take(TEXT_LIMIT).map(digit).collect();
        let digits =
            digits.ok_or_else(|| bad("it has other characters than hexadecimal digits"))?;
        let pairs = digits.as_chunks::<2>();
        if !pairs.1.is_empty() || text.len() > TEXT_LIMIT {
            return Err(bad("it is cut short or too long"));
        }
        let bytes: Vec<u8> = pairs.0.iter().map(|[high, low]| high << 4 | low).collect();
        let (key, endpoint) = bytes
            .split_first_chunk()
            .ok_or_else(|| bad("it is cut short"))?;
        Ok(Self {
            key: *key,
            endpoint: Ticket::from_bytes(endpoint).map_err(|error| bad(&error.to_string()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_ticket_comes_back_as_it_was_and_anything_else_is_refused() {
        let ticket = DoctorTicket {
            key: [7; KEY_BYTES],
            endpoint: Ticket {
                addresses: vec!["10.0.0.7:4000".parse().unwrap()],
                instance: 99,
            },
        };
        let text = ticket.to_string();
        let back: DoctorTicket = text.parse().unwrap();
        assert_eq!(back.key, ticket.key);
        assert_eq!(back.endpoint.to_bytes(), ticket.endpoint.to_bytes());
        for end in 0..text.len() {
            assert!(text[..end].parse::<DoctorTicket>().is_err(), "{end}");
        }
        for bad in ["", "xyz", "\u{e9}\u{e9}", &"0".repeat(10_000)] {
            assert!(bad.parse::<DoctorTicket>().is_err());
        }
    }
}
