//! The frames between an endpoint and its peers, written and parsed without
//! I/O. Each is the head of a frame of the channel, so it is authentic; only
//! `data` and `push` have bodies. Messages and what is pushed go over a peer's
//! first connection, what is read over the first of one that is not linked, and
//! over further ones.
//!
//! ```text
//!   peer                              endpoint
//!   hello, who and how        ---->
//!                             <----   offer, what there is
//!   settle, what it took      ---->
//!                             <----   welcome, or close with the reason
//!   message, heartbeat        <--->   message, heartbeat
//!   wake                      ---->   look into the ring
//!   join                      ---->   one more connection, for data
//!   read                      ---->
//!                             <----   data, or missing
//!   subscribe                 ---->
//!                             <----   push
//!   credit                    ---->
//!   close                     <--->   close
//! ```
//!
//! Integers are little-endian. The first byte is the kind; fixed fields
//! follow, then what is variable: texts and bytes to the end, or after a u16
//! of their length. Nothing may follow.

mod greeting;

pub use self::greeting::{Hello, Offer};

use self::greeting::{parse_hello, parse_offer};
use super::options::TransportName;
use super::{Lost, PieceRef, Tag};

/// Bytes of a token that belongs to one peer.
pub(super) const TOKEN_BYTES: usize = 16;

/// Bytes of a piece of a read.
pub(super) const PIECE_BYTES: usize = 20;

/// Bytes of a read before its pieces.
const READ_BYTES: usize = 1 + 8;

/// The most bytes of a text or an offer.
const TEXT_BYTES: usize = 4096;

/// The head of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// First from a peer.
    Hello(Hello<'a>),
    /// First from a peer on a further connection.
    Join(Join),
    /// The answer to a hello.
    Offer(Offer),
    /// What the peer took of the offer.
    Settle {
        /// The transport.
        transport: TransportName,
        /// Why this one.
        why: String,
    },
    /// The peer has joined.
    Welcome {
        /// Its number.
        peer: u64,
        /// What it shows on further connections.
        token: [u8; TOKEN_BYTES],
    },
    /// For the layer above.
    Message(&'a [u8]),
    /// Asks for bytes.
    Read {
        /// Counts up on each connection.
        id: u64,
        /// Which bytes.
        pieces: Pieces<'a>,
    },
    /// All bytes of a read, as the body.
    Data {
        /// Of which read.
        id: u64,
    },
    /// A read that cannot be served.
    Missing {
        /// Which read.
        id: u64,
        /// The first of its pieces that is not there.
        piece: u32,
    },
    /// Says what the peer wants to have without asking.
    Subscribe {
        /// So many bytes more may be on their way to it unasked.
        credit_bytes: u64,
        /// What it wants; for the handler.
        what: &'a [u8],
    },
    /// Bytes that were subscribed to, as the body; no body where none come
    /// under this tag.
    Push {
        /// What they are known by.
        tag: Tag,
    },
    /// So many pushed bytes were taken.
    Credit {
        /// How many.
        bytes: u64,
    },
    /// Nothing but a sign of life.
    Heartbeat,
    /// There is an urgent message where nobody looks.
    Wake,
    /// The last frame.
    Close(Lost),
}

/// A further connection of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its number.
    pub peer: u64,
    /// The token of its welcome.
    pub token: [u8; TOKEN_BYTES],
}

/// The pieces of a read, parsed as they are gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / PIECE_BYTES
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = PieceRef> + 'a {
        let (pieces, _) = self.0.as_chunks::<PIECE_BYTES>();
        pieces.iter().map(|bytes| {
            let [a, b, c, d, rest @ ..] = *bytes;
            let [e, f, g, h, i, j, k, l, length @ ..] = rest;
            PieceRef {
                region: u32::from_le_bytes([a, b, c, d]),
                offset: u64::from_le_bytes([e, f, g, h, i, j, k, l]),
                bytes: u64::from_le_bytes(length),
            }
        })
    }
}

/// Bytes are no frame. Whoever sent them had the key, and misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame that is none: {0}")]
pub struct BadFrame(pub &'static str);

const HELLO: u8 = 1;
const JOIN: u8 = 2;
const OFFER: u8 = 3;
const SETTLE: u8 = 4;
const WELCOME: u8 = 5;
const MESSAGE: u8 = 6;
const READ: u8 = 7;
const DATA: u8 = 8;
const MISSING: u8 = 9;
const PUSH: u8 = 10;
const CREDIT: u8 = 11;
const HEARTBEAT: u8 = 12;
const WAKE: u8 = 13;
const CLOSE: u8 = 14;
const SUBSCRIBE: u8 = 15;

const CLOSED: u8 = 0;
const DIED: u8 = 1;
const SILENT: u8 = 2;
const MISBEHAVED: u8 = 3;
const DROPPED: u8 = 4;

/// The head of a message, in front of its parts.
pub(super) const MESSAGE_HEAD: [u8; 1] = [MESSAGE];

/// The head of a read of these pieces.
#[must_use]
pub(super) fn read_head(id: u64, pieces: impl Iterator<Item = PieceRef>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(READ_BYTES + PIECE_BYTES * pieces.size_hint().0);
    bytes.push(READ);
    bytes.extend_from_slice(&id.to_le_bytes());
    for piece in pieces {
        bytes.extend_from_slice(&piece.region.to_le_bytes());
        bytes.extend_from_slice(&piece.offset.to_le_bytes());
        bytes.extend_from_slice(&piece.bytes.to_le_bytes());
    }
    bytes
}

impl Frame<'_> {
    /// The bytes of this frame. Texts that are too long are cut.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => hello.to_bytes(),
            Self::Join(join) => {
                let mut bytes = number(JOIN, join.peer);
                bytes.extend_from_slice(&join.token);
                bytes
            }
            Self::Offer(offer) => offer.to_bytes(),
            Self::Settle { transport, why } => {
                let mut bytes = vec![SETTLE, *transport as u8];
                bytes.extend_from_slice(cut(why).as_bytes());
                bytes
            }
            Self::Welcome { peer, token } => {
                let mut bytes = number(WELCOME, *peer);
                bytes.extend_from_slice(token);
                bytes
            }
            Self::Message(message) => [&MESSAGE_HEAD, *message].concat(),
            Self::Read { id, pieces } => read_head(*id, pieces.iter()),
            Self::Data { id } => number(DATA, *id),
            Self::Missing { id, piece } => {
                let mut bytes = number(MISSING, *id);
                bytes.extend_from_slice(&piece.to_le_bytes());
                bytes
            }
            Self::Subscribe { credit_bytes, what } => {
                let mut bytes = number(SUBSCRIBE, *credit_bytes);
                bytes.extend_from_slice(what);
                bytes
            }
            Self::Push { tag } => {
                let mut bytes = number(PUSH, tag.number);
                bytes.extend_from_slice(&tag.subject.to_le_bytes());
                bytes
            }
            Self::Credit { bytes } => number(CREDIT, *bytes),
            Self::Heartbeat => vec![HEARTBEAT],
            Self::Wake => vec![WAKE],
            Self::Close(lost) => close_bytes(lost),
        }
    }
}

fn number(kind: u8, number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 8 + TOKEN_BYTES + 8);
    bytes.push(kind);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}

/// As much of a text as a frame takes.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn close_bytes(lost: &Lost) -> Vec<u8> {
    let (code, ms, why) = match lost {
        Lost::Closed => (CLOSED, 0, ""),
        Lost::Died => (DIED, 0, ""),
        Lost::Silent { for_ } => (SILENT, milliseconds(*for_), ""),
        Lost::Misbehaved { what } => (MISBEHAVED, 0, what.as_str()),
        Lost::Dropped { why } => (DROPPED, 0, why.as_str()),
    };
    let mut bytes = vec![CLOSE, code];
    bytes.extend_from_slice(&ms.to_le_bytes());
    bytes.extend_from_slice(cut(why).as_bytes());
    bytes
}

/// A length of time as it goes over the wire.
pub(super) fn milliseconds(time: std::time::Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// What is left of a frame that is parsed.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadFrame> {
        let (first, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(BadFrame("it ends early"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn u8(&mut self) -> Result<u8, BadFrame> {
        Ok(u8::from_le_bytes(self.take()?))
    }

    fn u16(&mut self) -> Result<u16, BadFrame> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, BadFrame> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, BadFrame> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], BadFrame> {
        let (first, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(BadFrame("it ends early"))?;
        self.0 = rest;
        Ok(first)
    }

    fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

fn text(bytes: &[u8]) -> Result<String, BadFrame> {
    if bytes.len() > TEXT_BYTES {
        return Err(BadFrame("a text is too long"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| BadFrame("a text is not UTF-8"))?;
    // It ends up in logs and errors: one line, whatever the peer would like.
    Ok(text
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect())
}

/// Reads a frame. No allocation but for texts, which are bounded.
///
/// # Errors
/// [`BadFrame`] where the bytes are none.
pub fn parse_frame(bytes: &[u8]) -> Result<Frame<'_>, BadFrame> {
    let mut rest = Rest(bytes);
    let frame = match rest.u8()? {
        HELLO => Frame::Hello(parse_hello(&mut rest)?),
        JOIN => Frame::Join(Join {
            peer: rest.u64()?,
            token: rest.take()?,
        }),
        OFFER => Frame::Offer(parse_offer(&mut rest)?),
        SETTLE => Frame::Settle {
            transport: transport(rest.u8()?)?,
            why: text(rest.all())?,
        },
        WELCOME => Frame::Welcome {
            peer: rest.u64()?,
            token: rest.take()?,
        },
        MESSAGE => Frame::Message(rest.all()),
        READ => {
            let id = rest.u64()?;
            let pieces = rest.all();
            if pieces.is_empty() || !pieces.len().is_multiple_of(PIECE_BYTES) {
                return Err(BadFrame("a read of no whole pieces"));
            }
            Frame::Read {
                id,
                pieces: Pieces(pieces),
            }
        }
        DATA => Frame::Data { id: rest.u64()? },
        MISSING => Frame::Missing {
            id: rest.u64()?,
            piece: rest.u32()?,
        },
        SUBSCRIBE => Frame::Subscribe {
            credit_bytes: rest.u64()?,
            what: rest.all(),
        },
        PUSH => {
            let number = rest.u64()?;
            let subject = rest.u32()?;
            Frame::Push {
                tag: Tag { subject, number },
            }
        }
        CREDIT => Frame::Credit { bytes: rest.u64()? },
        HEARTBEAT => Frame::Heartbeat,
        WAKE => Frame::Wake,
        CLOSE => Frame::Close(parse_close(&mut rest)?),
        _ => return Err(BadFrame("its kind is unknown")),
    };
    if rest.0.is_empty() {
        Ok(frame)
    } else {
        Err(BadFrame("bytes follow it"))
    }
}

fn transport(number: u8) -> Result<TransportName, BadFrame> {
    TransportName::from_number(number).ok_or(BadFrame("a transport is unknown"))
}

fn parse_close(rest: &mut Rest<'_>) -> Result<Lost, BadFrame> {
    let code = rest.u8()?;
    let for_ = std::time::Duration::from_millis(u64::from(rest.u32()?));
    let why = text(rest.all())?;
    let lost = match code {
        CLOSED => Lost::Closed,
        DIED => Lost::Died,
        SILENT => return Ok(Lost::Silent { for_ }),
        MISBEHAVED => return Ok(Lost::Misbehaved { what: why }),
        DROPPED => return Ok(Lost::Dropped { why }),
        _ => return Err(BadFrame("a way to go is unknown")),
    };
    if why.is_empty() {
        Ok(lost)
    } else {
        Err(BadFrame("bytes follow it"))
    }
}

#[cfg(test)]
mod tests;
