//! What a target tells an initiator: its address, and where memory lies.

use super::FabricError;

/// The longest address that is taken from a peer.
const ADDRESS_LIMIT_BYTES: usize = 256;
/// The longest name of a provider.
const PROVIDER_LIMIT_BYTES: usize = 63;

/// Where an endpoint can be reached, and over which provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricAddress {
    /// libfabric's name of the provider.
    pub provider: String,
    /// libfabric's number of the format of `bytes`.
    pub format: u32,
    /// The address itself.
    pub bytes: Vec<u8>,
}

impl FabricAddress {
    /// `format u32 | provider's length u8 | provider | address`, little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.format.to_le_bytes().to_vec();
        let name = &self.provider.as_bytes()[..self.provider.len().min(PROVIDER_LIMIT_BYTES)];
        bytes.push(u8::try_from(name.len()).unwrap_or(0));
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&self.bytes);
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) made.
    ///
    /// # Errors
    /// [`FabricError::BadAddress`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FabricError> {
        let bad = |why: &str| FabricError::BadAddress {
            why: why.to_owned(),
        };
        let (format, rest) = bytes
            .split_first_chunk::<4>()
            .ok_or(bad("it is cut short"))?;
        let (&length, rest) = rest.split_first().ok_or(bad("it is cut short"))?;
        let length = usize::from(length);
        if length > PROVIDER_LIMIT_BYTES || length > rest.len() {
            return Err(bad("its provider's name is cut short or too long"));
        }
        let (name, address) = rest.split_at(length);
        if address.is_empty() || address.len() > ADDRESS_LIMIT_BYTES {
            return Err(bad("it is empty or too long"));
        }
        let provider = std::str::from_utf8(name).map_err(|_| bad("its provider is no text"))?;
        if provider.is_empty() || !provider.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("its provider is no name"));
        }
        Ok(Self {
            provider: provider.to_owned(),
            format: u32::from_le_bytes(*format),
            bytes: address.to_vec(),
        })
    }
}

/// Memory of a target that may be read: what
/// [`FabricServer::register`](super::FabricServer::register) gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteMemory {
    /// What the provider adds offsets to.
    pub base: u64,
    /// How many bytes there are.
    pub bytes: u64,
    /// The key under which they were registered.
    pub key: u64,
}

impl RemoteMemory {
    /// Bytes of [`to_bytes`](Self::to_bytes).
    pub const BYTES: usize = 24;

    /// Base, bytes and key, little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.base.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[16..].copy_from_slice(&self.key.to_le_bytes());
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) made. Any bytes are such; a wrong one
    /// only makes reads fail at the target.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        Self {
            base: number(0),
            bytes: number(8),
            key: number(16),
        }
    }

    /// The remote address of `bytes` at `offset`.
    pub(super) fn address(&self, offset: u64, bytes: u64) -> Result<u64, FabricError> {
        let end = offset.checked_add(bytes).filter(|&end| end <= self.bytes);
        end.and_then(|_| self.base.checked_add(offset))
            .filter(|address| address.checked_add(bytes).is_some())
            .ok_or(FabricError::OutOfMemory {
                offset,
                bytes,
                limit_bytes: self.bytes,
            })
    }
}
