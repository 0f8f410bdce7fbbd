//! Cursors: how far a reader group has come, under a name.

use panta_transports::copy::checksum;

use super::dataset::{Dataset, Instance, Named, damaged, io, sync_directory};
use crate::codec::{DecodeError, Decoder, Encoder};
use crate::error::Fault;

const MAGIC: &[u8; 8] = b"PANTACUR";
const VERSION: u32 = 1;
/// Bytes of a cursor's file.
const CURSOR_BYTES: u64 = 48;
/// The longest name of a cursor's file, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// The last step that a reader group is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) instance: Instance,
    pub(super) epoch: u64,
    pub(super) step: u64,
}

impl Cursor {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        MAGIC.iter().for_each(|byte| {
            encoder.u8(*byte);
        });
        encoder.u32(VERSION);
        self.instance.iter().for_each(|byte| {
            encoder.u8(*byte);
        });
        encoder.u64(self.epoch).u64(self.step);
        let mut bytes = encoder.finish();
        let crc = checksum(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wrong = |problem: &str| DecodeError {
            offset: 0,
            problem: problem.to_owned(),
        };
        let Some((body, stored)) = bytes.split_last_chunk::<4>() else {
            return Err(wrong("too short for a cursor"));
        };
        if checksum(body) != u32::from_le_bytes(*stored) {
            return Err(wrong("the checksum does not fit"));
        }
        let mut from = Decoder::new(body);
        if (from.take(8)?, from.u32()?) != (MAGIC, VERSION) {
            return Err(wrong("no cursor of this format"));
        }
        let cursor = Self {
            instance: from.take(16)?.try_into().unwrap_or_default(),
            epoch: from.u64()?,
            step: from.u64()?,
        };
        from.finish()?;
        Ok(cursor)
    }

    /// The cursor of this name; `None` if nothing was committed under it.
    pub(super) fn load(dataset: &Dataset, name: &str) -> Result<Option<Self>, Fault> {
        let path = dataset.cursors().join(file_name(name)?);
        match path.try_exists() {
            Ok(false) => return Ok(None),
            Err(error) => return Err(io("looking for", &path, &error)),
            Ok(true) => {}
        }
        let named = Named::open(path)?;
        let bytes = named.read_checked(0, CURSOR_BYTES)?;
        Self::parse(&bytes)
            .map(Some)
            .map_err(|error| damaged(&named.path, error.offset as u64, error.problem))
    }

    /// Replaces what is stored under this name, whole or not at all.
    pub(super) fn store(&self, dataset: &Dataset, name: &str) -> Result<(), Fault> {
        let directory = dataset.cursors();
        if let Err(error) = std::fs::create_dir(&directory)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(io("creating", &directory, &error));
        }
        let file = file_name(name)?;
        let path = directory.join(&file);
        let unborn = Named::create(directory.join(format!("{file}.new")), false)?;
        unborn.write_at(&self.encode(), 0)?;
        unborn.sync()?;
        std::fs::rename(&unborn.path, &path).map_err(|error| io("replacing", &path, &error))?;
        sync_directory(&directory)
    }
}

/// A cursor's name as the name of a file: bytes other than letters, digits,
/// `-` and `_` as `%XX`.
fn file_name(name: &str) -> Result<String, Fault> {
    let mut file = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            file.push(char::from(byte));
        } else {
            file.push_str(&format!("%{byte:02X}"));
        }
    }
    if file.is_empty() || file.len() > MAX_NAME_BYTES {
        return Err(Fault::Refused {
            peer: "the file engine".into(),
            why: format!("a cursor's name has 1 to {MAX_NAME_BYTES} bytes; `{name}` has not"),
        });
    }
    Ok(file)
}
