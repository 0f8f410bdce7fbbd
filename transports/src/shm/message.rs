//! What is said over the Unix socket, one message a packet, integers
//! little-endian:
//!
//! | kind | from | bytes | descriptors |
//! |---|---|---|---|
//! | 1 hello | remote | version u8, linked u8, token 16 | linked: its side, 3 |
//! | 2 welcome | server | linked u8 | the page; linked: its side, 3 |
//! | 3 region | server | number u32, size u64 | the memory |
//! | 4 gone | server | number u32 | |
//! | 5 unmapped | remote | number u32 | |
//!
//! And what must be told of it beforehand, over an authenticated way.

/// Version of these messages.
const VERSION: u8 = 1;

/// Bytes of a token and of a nonce.
pub(super) const SECRET_BYTES: usize = 16;

/// The most bytes of a name of an abstract Unix socket.
pub(super) const MAX_NAME_BYTES: usize = 100;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Hello {
        linked: bool,
        token: [u8; SECRET_BYTES],
    },
    Welcome {
        linked: bool,
    },
    Region {
        region: u32,
        bytes: u64,
    },
    Gone {
        region: u32,
    },
    Unmapped {
        region: u32,
    },
}

impl Message {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24);
        match self {
            Self::Hello { linked, token } => {
                bytes.extend_from_slice(&[1, VERSION, u8::from(linked)]);
                bytes.extend_from_slice(&token);
            }
            Self::Welcome { linked } => bytes.extend_from_slice(&[2, u8::from(linked)]),
            Self::Region {
                region,
                bytes: size,
            } => {
                bytes.push(3);
                bytes.extend_from_slice(&region.to_le_bytes());
                bytes.extend_from_slice(&size.to_le_bytes());
            }
            Self::Gone { region } => {
                bytes.push(4);
                bytes.extend_from_slice(&region.to_le_bytes());
            }
            Self::Unmapped { region } => {
                bytes.push(5);
                bytes.extend_from_slice(&region.to_le_bytes());
            }
        }
        bytes
    }

    /// The message that these bytes are, exactly; else what is wrong.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        let wrong = Err("a message of another length or kind");
        let Some((kind, rest)) = bytes.split_first() else {
            return wrong;
        };
        let flag = |byte: u8| match byte {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("a flag that is neither 0 nor 1"),
        };
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes);
        match (kind, rest) {
            (1, [VERSION, linked, token @ ..]) if token.len() == SECRET_BYTES => {
                let mut own = [0; SECRET_BYTES];
                own.copy_from_slice(token);
                Ok(Self::Hello {
                    linked: flag(*linked)?,
                    token: own,
                })
            }
            (1, [version, ..]) if *version != VERSION => Err("another version"),
            (2, [linked]) => Ok(Self::Welcome {
                linked: flag(*linked)?,
            }),
            (3, rest) if rest.len() == 12 => {
                let (Ok(region), Ok(bytes)) = (number(&rest[..4]), rest[4..].try_into()) else {
                    return wrong;
                };
                Ok(Self::Region {
                    region,
                    bytes: u64::from_le_bytes(bytes),
                })
            }
            (4 | 5, rest) => match number(rest) {
                Ok(region) if *kind == 4 => Ok(Self::Gone { region }),
                Ok(region) => Ok(Self::Unmapped { region }),
                Err(_) => wrong,
            },
            _ => wrong,
        }
    }
}

/// What a remote must know to connect: where, with which token, and by which
/// nonce it recognises the memory. Goes over an authenticated way, once.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    pub(super) name: Vec<u8>,
    pub(super) token: [u8; SECRET_BYTES],
    pub(super) nonce: [u8; SECRET_BYTES],
}

/// Bytes are no offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no offer of shared memory: {0}; both sides must run the same version")]
pub struct BadOffer(&'static str);

impl Offer {
    /// The most bytes of an offer.
    pub const MAX_BYTES: usize = 2 * SECRET_BYTES + MAX_NAME_BYTES;

    /// Token, nonce, name.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.token[..], &self.nonce, &self.name].concat()
    }

    /// What [`Offer::to_bytes`] made.
    ///
    /// # Errors
    /// [`BadOffer`] where it did not.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadOffer> {
        let parts = bytes.split_first_chunk().and_then(|(token, rest)| {
            let (nonce, name) = rest.split_first_chunk()?;
            Some((*token, *nonce, name))
        });
        let Some((token, nonce, name)) = parts else {
            return Err(BadOffer("too short"));
        };
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(BadOffer("its name is too short or too long"));
        }
        Ok(Self {
            name: name.to_vec(),
            token,
            nonce,
        })
    }
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = String::from_utf8_lossy(&self.name);
        formatter
            .debug_struct("Offer")
            .field("name", &name)
            .finish_non_exhaustive()
    }
}
