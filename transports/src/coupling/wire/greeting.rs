//! How a peer and an endpoint greet each other: who the one is, and what there is to
//! choose from at the other.

use super::{BadFrame, HELLO, OFFER, Rest, TEXT_BYTES, cut, number, text, transport};
use crate::coupling::options::Choice;

/// The choice of a peer that takes what is best.
const AUTO: u8 = 255;

/// Who a peer is, and what it can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Whether it exchanges messages.
    pub linked: bool,
    /// What it asks for.
    pub choice: Choice,
    /// How long this side may be silent, in milliseconds.
    pub lease_ms: u32,
    /// How long the peer may stay away between two calls, in milliseconds; 0: it
    /// gives signs of life by itself.
    pub silence_ms: u32,
    /// Bytes of the largest message it takes.
    pub message_bytes: u32,
    /// For the handler.
    pub hello: &'a [u8],
}

/// What an endpoint is and what there is to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which endpoint.
    pub instance: u64,
    /// How long the peer may be silent, in milliseconds.
    pub lease_ms: u32,
    /// How long the endpoint may be left alone, in milliseconds; 0: it gives signs
    /// of life by itself.
    pub silence_ms: u32,
    /// Bytes of the largest message it takes.
    pub message_bytes: u32,
    /// Bytes of all reads under way on a connection.
    pub read_bytes: u64,
    /// Pieces of all reads under way on a connection.
    pub read_pieces: u32,
    /// Further connections it takes.
    pub connections: u8,
    /// For each transport: what is needed to use it, or why it is not there.
    pub transports: [Result<Vec<u8>, String>; 3],
}

impl Hello<'_> {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let choice = match self.choice {
            Choice::Auto => AUTO,
            Choice::Only(transport) => transport as u8,
        };
        let mut bytes = vec![HELLO, u8::from(self.linked), choice];
        bytes.extend_from_slice(&self.lease_ms.to_le_bytes());
        bytes.extend_from_slice(&self.silence_ms.to_le_bytes());
        bytes.extend_from_slice(&self.message_bytes.to_le_bytes());
        bytes.extend_from_slice(self.hello);
        bytes
    }
}

impl Offer {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = number(OFFER, self.instance);
        bytes.extend_from_slice(&self.lease_ms.to_le_bytes());
        bytes.extend_from_slice(&self.silence_ms.to_le_bytes());
        bytes.extend_from_slice(&self.message_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.read_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.read_pieces.to_le_bytes());
        bytes.push(self.connections);
        for transport in &self.transports {
            let (is_there, text) = match transport {
                Ok(offer) => (1, &offer[..offer.len().min(TEXT_BYTES)]),
                Err(why) => (0, cut(why).as_bytes()),
            };
            bytes.push(is_there);
            // At most `TEXT_BYTES`.
            bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
            bytes.extend_from_slice(text);
        }
        bytes
    }
}

pub(super) fn parse_hello<'a>(rest: &mut Rest<'a>) -> Result<Hello<'a>, BadFrame> {
    let linked = match rest.u8()? {
        0 => false,
        1 => true,
        _ => return Err(BadFrame("a flag is neither on nor off")),
    };
    let choice = match rest.u8()? {
        AUTO => Choice::Auto,
        number => Choice::Only(transport(number)?),
    };
    Ok(Hello {
        linked,
        choice,
        lease_ms: rest.u32()?,
        silence_ms: rest.u32()?,
        message_bytes: rest.u32()?,
        hello: rest.all(),
    })
}

pub(super) fn parse_offer(rest: &mut Rest<'_>) -> Result<Offer, BadFrame> {
    let mut offer = Offer {
        instance: rest.u64()?,
        lease_ms: rest.u32()?,
        silence_ms: rest.u32()?,
        message_bytes: rest.u32()?,
        read_bytes: rest.u64()?,
        read_pieces: rest.u32()?,
        connections: rest.u8()?,
        transports: [const { Ok(Vec::new()) }; 3],
    };
    for transport in &mut offer.transports {
        let is_there = rest.u8()?;
        let length = usize::from(rest.u16()?);
        let bytes = rest.bytes(length)?;
        *transport = match is_there {
            0 => Err(text(bytes)?),
            1 if length <= TEXT_BYTES => Ok(bytes.to_vec()),
            _ => return Err(BadFrame("an offer is neither there nor not")),
        };
    }
    Ok(offer)
}
