//! The layouts of preambles and prefixes, parsed without I/O.
//!
//! All integers are little-endian. The first twelve bytes of a preamble mean
//! the same in every version, so that versions can tell each other apart:
//!
//! | bytes | hello | answer |
//! |---|---|---|
//! | 0..5 | `PANTA` | `PANTA` |
//! | 5 | 1 | 2 |
//! | 6..8 | version | version |
//! | 8 | role | status |
//! | 9 | flags: bit 0, bodies are sealed | the same |
//! | 10..12 | length of the Noise message that follows | the same |

use super::PREAMBLE_LIMIT_BYTES;
use super::key::Role;

/// Bytes of a preamble before its Noise message.
pub const PREAMBLE_HEADER_BYTES: usize = 12;

/// Bytes of a frame's clear prefix.
pub const PREFIX_BYTES: usize = 12;

/// Bytes of the shortest frame: prefix, sealed body length, empty head.
pub const FRAME_MIN_BYTES: usize = PREFIX_BYTES + BODY_LENGTH_BYTES + TAG_BYTES;

/// Bytes of the authentic copy of the body's length, before the head.
pub(super) const BODY_LENGTH_BYTES: usize = 8;

/// Bytes that sealing adds to each Noise message.
pub(super) const TAG_BYTES: usize = 16;

/// The most bytes of a head sealed at once: Noise's limit.
pub(super) const HEAD_PIECE_BYTES: usize = 65_535 - TAG_BYTES;

/// Bytes of a body sealed at once; the last piece may be short. Whole tiles.
pub(super) const BODY_PIECE_BYTES: usize = 15 * crate::copy::TILE_BYTES;

const MAGIC: [u8; 5] = *b"PANTA";
const KIND_HELLO: u8 = 1;
const KIND_ANSWER: u8 = 2;
const FLAG_ENCRYPT: u8 = 1;

/// Why bytes are no preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not this protocol at all.
    #[error("not a preamble of Panta's protocol")]
    NotPanta,
    /// A Noise message longer than a preamble may be.
    #[error("a preamble of {bytes} bytes, the limit is {PREAMBLE_LIMIT_BYTES}")]
    TooLarge {
        /// Length of the whole preamble.
        bytes: usize,
    },
}

/// What a connector says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Version of the protocol.
    pub version: u16,
    /// Number of the role whose key the peer claims to hold.
    pub role: u8,
    /// Whether it seals bodies.
    pub encrypt: bool,
    /// Length of the Noise message that follows.
    pub noise_bytes: usize,
}

/// What an acceptor answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Version of the protocol.
    pub version: u16,
    /// Number of the [`Status`].
    pub status: u8,
    /// Whether it seals bodies.
    pub encrypt: bool,
    /// Length of the Noise message that follows.
    pub noise_bytes: usize,
}

/// What an acceptor thinks of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The Noise message follows.
    Accepted = 0,
    /// It speaks another version.
    WrongVersion = 1,
    /// The connector's key is another.
    WrongKey = 2,
    /// It differs about encryption.
    EncryptionMismatch = 3,
    /// It does not serve this role.
    RoleNotServed = 4,
}

impl Status {
    /// The status with this number on the wire.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Accepted),
            1 => Some(Self::WrongVersion),
            2 => Some(Self::WrongKey),
            3 => Some(Self::EncryptionMismatch),
            4 => Some(Self::RoleNotServed),
            _ => None,
        }
    }
}

impl Hello {
    /// The bytes of the header of this hello.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PREAMBLE_HEADER_BYTES] {
        write_header(
            KIND_HELLO,
            self.version,
            self.role,
            self.encrypt,
            self.noise_bytes,
        )
    }
}

impl Answer {
    /// The bytes of the header of this answer.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PREAMBLE_HEADER_BYTES] {
        write_header(
            KIND_ANSWER,
            self.version,
            self.status,
            self.encrypt,
            self.noise_bytes,
        )
    }
}

/// Reads the header of a hello.
///
/// # Errors
/// [`WireError`] where it is none, or announces too much.
pub fn parse_hello(bytes: &[u8; PREAMBLE_HEADER_BYTES]) -> Result<Hello, WireError> {
    let noise_bytes = check_header(bytes, KIND_HELLO)?;
    Ok(Hello {
        version: u16::from_le_bytes([bytes[6], bytes[7]]),
        role: bytes[8],
        encrypt: bytes[9] & FLAG_ENCRYPT != 0,
        noise_bytes,
    })
}

/// Reads the header of an answer.
///
/// # Errors
/// [`WireError`] where it is none, or announces too much.
pub fn parse_answer(bytes: &[u8; PREAMBLE_HEADER_BYTES]) -> Result<Answer, WireError> {
    let noise_bytes = check_header(bytes, KIND_ANSWER)?;
    Ok(Answer {
        version: u16::from_le_bytes([bytes[6], bytes[7]]),
        status: bytes[8],
        encrypt: bytes[9] & FLAG_ENCRYPT != 0,
        noise_bytes,
    })
}

fn check_header(bytes: &[u8; PREAMBLE_HEADER_BYTES], kind: u8) -> Result<usize, WireError> {
    if bytes[..5] != MAGIC || bytes[5] != kind {
        return Err(WireError::NotPanta);
    }
    let noise_bytes = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
    let all = PREAMBLE_HEADER_BYTES + noise_bytes;
    if all > PREAMBLE_LIMIT_BYTES {
        return Err(WireError::TooLarge { bytes: all });
    }
    Ok(noise_bytes)
}

fn write_header(
    kind: u8,
    version: u16,
    role_or_status: u8,
    encrypt: bool,
    noise_bytes: usize,
) -> [u8; PREAMBLE_HEADER_BYTES] {
    let mut bytes = [0; PREAMBLE_HEADER_BYTES];
    bytes[..5].copy_from_slice(&MAGIC);
    bytes[5] = kind;
    bytes[6..8].copy_from_slice(&version.to_le_bytes());
    bytes[8] = role_or_status;
    bytes[9] = if encrypt { FLAG_ENCRYPT } else { 0 };
    // A preamble's Noise messages have 48 bytes.
    bytes[10..12].copy_from_slice(&(noise_bytes as u16).to_le_bytes());
    bytes
}

/// The clear prefix of a frame. A claim, until the head is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Bytes of the head.
    pub head_bytes: u32,
    /// Bytes of the body.
    pub body_bytes: u64,
}

impl Prefix {
    /// The bytes of this prefix.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[..4].copy_from_slice(&self.head_bytes.to_le_bytes());
        bytes[4..].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes
    }
}

/// Reads the prefix of a frame. Any bytes are one; limits are the caller's.
#[must_use]
pub fn parse_prefix(bytes: &[u8; PREFIX_BYTES]) -> Prefix {
    let [a, b, c, d, body @ ..] = *bytes;
    Prefix {
        head_bytes: u32::from_le_bytes([a, b, c, d]),
        body_bytes: u64::from_le_bytes(body),
    }
}

/// The role of a hello, where there is such a one.
pub(super) fn role_of(hello: &Hello) -> Option<Role> {
    Role::from_number(hello.role)
}

/// Bytes of the sealed head of a frame.
pub(super) fn sealed_head_bytes(head_bytes: u32) -> usize {
    let plain = BODY_LENGTH_BYTES + head_bytes as usize;
    plain + plain.div_ceil(HEAD_PIECE_BYTES) * TAG_BYTES
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: [u8; 12], panta: bool, kind in 0_u8..4) {
            let mut bytes = bytes;
            if panta {
                bytes[..5].copy_from_slice(&MAGIC);
                bytes[5] = kind;
            }
            if let Ok(hello) = parse_hello(&bytes) {
                prop_assert!(hello.noise_bytes + PREAMBLE_HEADER_BYTES <= PREAMBLE_LIMIT_BYTES);
                prop_assert_eq!(parse_hello(&hello.to_bytes()).unwrap(), hello);
            }
            if let Ok(answer) = parse_answer(&bytes) {
                prop_assert!(parse_hello(&bytes).is_err());
                prop_assert_eq!(parse_answer(&answer.to_bytes()).unwrap(), answer);
            }
            prop_assert_eq!(parse_prefix(&bytes).to_bytes(), bytes);
        }
    }

    #[test]
    fn the_layout_of_a_hello_stays_as_it_is() {
        let hello = Hello {
            version: 0x0201,
            role: 2,
            encrypt: true,
            noise_bytes: 48,
        };
        assert_eq!(hello.to_bytes(), *b"PANTA\x01\x01\x02\x02\x01\x30\x00");
    }

    #[test]
    fn long_heads_are_sealed_in_pieces() {
        assert_eq!(sealed_head_bytes(0), 24);
        assert_eq!(sealed_head_bytes(65_519 - 8), 65_535);
        assert_eq!(sealed_head_bytes(65_520 - 8), 65_520 + 32);
    }
}
