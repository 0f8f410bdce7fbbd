//! The shard map as bytes: what a server sends and a client caches.
//!
//! Little-endian, drawn byte by byte in `docs/wire.md`. Decoding accepts only
//! what encoding writes: every map has one encoding, so bytes can be compared.

use super::{
    ADDRESS_LIMIT_BYTES, MAX_REPLICAS, MAX_SERVERS, Run, Server, ServerIndex, ShardMap,
    ShardMapError, check_servers,
};

/// The first bytes of an encoded map.
const MAGIC: [u8; 4] = *b"PSHM";
/// The layout's version.
const FORMAT: u16 = 1;
const CHECKSUM_BYTES: usize = 8;
/// The most bytes an encoded map has; longer ones are refused unread.
pub const ENCODED_LIMIT_BYTES: usize = 8 << 20;

/// Why bytes are no shard map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than any map may be.
    #[error("{length_bytes} bytes, a shard map has at most {ENCODED_LIMIT_BYTES}")]
    TooLong {
        /// Bytes given.
        length_bytes: usize,
    },
    /// The bytes end too early.
    #[error("the shard map ends within {field}, at byte {at}; ask the server for the map again")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// Where.
        at: usize,
    },
    /// Not a shard map, or one of another format.
    #[error("not a shard map of format {FORMAT}: it begins with {magic:02x?}, format {format}")]
    Format {
        /// The first four bytes.
        magic: [u8; 4],
        /// The format they claim.
        format: u16,
    },
    /// The checksum does not match: damaged on its way or in the cache.
    #[error(
        "the shard map's checksum is {found:016x}, its bytes give {computed:016x}; drop the cached \
         map and ask again"
    )]
    Checksum {
        /// The checksum that was sent.
        found: u64,
        /// The checksum of what was sent.
        computed: u64,
    },
    /// A field holds what no map holds.
    #[error(
        "{field} is {value} in the shard map at byte {at}; the sender does not keep the format"
    )]
    Field {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u64,
        /// Where the field ends.
        at: usize,
    },
    /// The servers do not make a map.
    #[error("the shard map's servers: {0}")]
    Servers(#[from] ShardMapError),
}

impl ShardMap {
    /// The map as bytes.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.push(self.shard_bits as u8);
        bytes.push(self.rotation_bits as u8);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&(self.servers.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        for server in &self.servers {
            bytes.extend_from_slice(&server.id.to_le_bytes());
            bytes.push(server.address.len() as u8);
            bytes.extend_from_slice(server.address.as_bytes());
        }
        for run in &self.runs {
            bytes.extend_from_slice(&run.first_shard.to_le_bytes());
            bytes.push(run.servers.len() as u8);
            for server in &run.servers {
                bytes.extend_from_slice(&server.0.to_le_bytes());
            }
        }
        let checksum = xxhash_rust::xxh3::xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a map from bytes of any origin.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that [`Self::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let body = checked_body(bytes)?;
        let mut reader = Reader { body, at: 0 };
        let magic = reader.array("the magic")?;
        let format = u16::from_le_bytes(reader.array("the format")?);
        if magic != MAGIC || format != FORMAT {
            return Err(DecodeError::Format { magic, format });
        }
        let [shard_bits, rotation_bits] = reader.array("the header")?;
        let (shard_bits, rotation_bits) = (u32::from(shard_bits), u32::from(rotation_bits));
        if rotation_bits > shard_bits {
            return Err(reader.field("the number of rotation bits", rotation_bits));
        }
        let version = u64::from_le_bytes(reader.array("the version")?);
        let servers = reader.u32("the number of servers")?;
        if servers == 0 || servers as usize > MAX_SERVERS {
            return Err(reader.field("the number of servers", servers));
        }
        // What is listed for each shard is bounded by the servers that were sent.
        if shard_bits != super::shard_bits(servers as usize) {
            return Err(reader.field("the number of shard bits for so many servers", shard_bits));
        }
        let runs = reader.u32("the number of runs")?;
        if runs == 0 || runs > 1 << shard_bits {
            return Err(reader.field("the number of runs", runs));
        }
        let servers = reader.servers(servers)?;
        let runs = reader.runs(runs, 1 << shard_bits, servers.len())?;
        if reader.at != body.len() {
            let left = (body.len() - reader.at) as u64;
            return Err(reader.field("the number of bytes left over", left));
        }
        Ok(Self::assemble(
            version,
            servers,
            shard_bits,
            rotation_bits,
            runs,
        ))
    }
}

/// The bytes before the checksum, once they match it.
fn checked_body(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    if bytes.len() > ENCODED_LIMIT_BYTES {
        return Err(DecodeError::TooLong {
            length_bytes: bytes.len(),
        });
    }
    let Some((body, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(DecodeError::Truncated {
            field: "the checksum",
            at: 0,
        });
    };
    let found = u64::from_le_bytes(*checksum);
    let computed = xxhash_rust::xxh3::xxh3_64(body);
    if found != computed {
        return Err(DecodeError::Checksum { found, computed });
    }
    Ok(body)
}

struct Reader<'b> {
    body: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn field(&self, field: &'static str, value: impl Into<u64>) -> DecodeError {
        DecodeError::Field {
            field,
            value: value.into(),
            at: self.at,
        }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        match rest.first_chunk::<N>() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(DecodeError::Truncated { field, at: self.at }),
        }
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn slice(&mut self, length: usize, field: &'static str) -> Result<&'b [u8], DecodeError> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let Some(slice) = rest.get(..length) else {
            return Err(DecodeError::Truncated { field, at: self.at });
        };
        self.at += length;
        Ok(slice)
    }

    fn servers(&mut self, count: u32) -> Result<Vec<Server>, DecodeError> {
        let mut servers = Vec::new();
        for _ in 0..count {
            let id = u64::from_le_bytes(self.array("a server's identity")?);
            let [length] = self.array("a server's address")?;
            debug_assert!(usize::from(length) <= ADDRESS_LIMIT_BYTES);
            let address = self.slice(usize::from(length), "a server's address")?;
            let Ok(address) = std::str::from_utf8(address) else {
                return Err(self.field("a server whose address is not UTF-8", id));
            };
            let address = address.to_owned();
            servers.push(Server { id, address });
        }
        check_servers(&servers)?;
        Ok(servers)
    }

    fn runs(&mut self, count: u32, shards: u32, servers: usize) -> Result<Vec<Run>, DecodeError> {
        let mut runs: Vec<Run> = Vec::new();
        for _ in 0..count {
            let first_shard = self.u32("a run's first shard")?;
            let follows = match runs.last() {
                None => first_shard == 0,
                Some(last) => first_shard > last.first_shard,
            };
            if !follows || first_shard >= shards {
                return Err(self.field("a run's first shard", first_shard));
            }
            let list = self.run_servers(servers)?;
            if runs.last().is_some_and(|last| last.servers == list) {
                return Err(self.field("a run not different from the one before", first_shard));
            }
            runs.push(Run {
                first_shard,
                servers: list,
            });
        }
        Ok(runs)
    }

    fn run_servers(&mut self, servers: usize) -> Result<Vec<ServerIndex>, DecodeError> {
        let [replicas] = self.array("a run's number of servers")?;
        if replicas == 0 || usize::from(replicas) > MAX_REPLICAS {
            return Err(self.field("a run's number of servers", replicas));
        }
        let mut list = Vec::new();
        for _ in 0..replicas {
            let index = u16::from_le_bytes(self.array("a run's server")?);
            if usize::from(index) >= servers || list.contains(&ServerIndex(index)) {
                return Err(self.field("a run's server", index));
            }
            list.push(ServerIndex(index));
        }
        Ok(list)
    }
}
