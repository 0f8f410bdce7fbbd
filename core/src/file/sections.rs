//! The variable layouts: index sections, and the parts of `meta`.
//!
//! Pure: bytes in, values out. Counts are believed only as far as the bytes
//! that are there.

use panta_transports::copy::{checksum, tile_count};

use crate::codec::{DecodeError, Decoder, Encoder};
use crate::frames::{FRAME_BYTES, frame_count};

const SECTION_MAGIC: &[u8; 8] = b"PANTAIDX";
/// Of a section whose blocks are compressed.
const COMPRESSED_MAGIC: &[u8; 8] = b"PANTAIDZ";
const PART_MAGIC: &[u8; 8] = b"PANTAPRT";
/// The fewest bytes of a block's entry in a section.
const ENTRY_BYTES: usize = 32;

/// Where one block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionEntry {
    /// The variable's place in the schema.
    pub variable: u32,
    /// The put's place among its rank's puts of the step.
    pub order: u32,
    /// First byte in `data.E.R`.
    pub offset: u64,
    /// Bytes of its cells.
    pub bytes: u64,
    /// The place of its first tile in the table of checksums.
    pub first_tile: u64,
    /// Bytes in `data.E.R`: as many, or those of its frames.
    pub stored: u64,
    /// The place of its first frame in the table of frames; not in the file.
    pub first_frame: u64,
}

/// A part of a block that is compressed by itself, as it lies in `data.E.R`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes.
    pub bytes: u32,
    /// CRC32C of them.
    pub crc: u32,
}

/// What one rank wrote for one step: the blocks, and the CRC32C of each tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The dataset's identity.
    pub instance: [u8; 16],
    /// The life of the writer.
    pub epoch: u64,
    /// The step.
    pub step: u64,
    /// The rank.
    pub rank: u32,
    /// First byte of the step's blocks in `data.E.R`.
    pub data_offset: u64,
    /// Bytes of the blocks, padding included.
    pub data_length: u64,
    /// The blocks, ascending by `order`.
    pub entries: Vec<SectionEntry>,
    /// CRC32C of every tile, block after block.
    pub crcs: Vec<u32>,
    /// Every frame, block after block, where blocks are compressed.
    pub frames: Option<Vec<Frame>>,
}

/// A block in its section.
#[derive(Clone, Copy, Debug)]
pub struct Found<'s> {
    /// Where it lies.
    pub entry: &'s SectionEntry,
    /// The checksums of its tiles.
    pub crcs: &'s [u32],
    /// Its frames, if it is compressed.
    pub frames: Option<&'s [Frame]>,
}

impl Section {
    /// The section's bytes, and the checksum that ends them.
    pub(super) fn encode(&self) -> (Vec<u8>, u32) {
        let mut encoder = Encoder::default();
        let magic = match self.frames {
            Some(_) => COMPRESSED_MAGIC,
            None => SECTION_MAGIC,
        };
        magic.iter().chain(&self.instance).for_each(|byte| {
            encoder.u8(*byte);
        });
        encoder.u64(self.epoch).u64(self.step).u32(self.rank);
        encoder.length(self.entries.len());
        encoder.u64(self.data_offset).u64(self.data_length);
        for entry in &self.entries {
            encoder.u32(entry.variable).u32(entry.order);
            encoder.u64(entry.offset).u64(entry.bytes);
            encoder.u64(entry.first_tile);
            if self.frames.is_some() {
                encoder.u64(entry.stored);
            }
        }
        self.crcs.iter().for_each(|crc| {
            encoder.u32(*crc);
        });
        for frame in self.frames.iter().flatten() {
            encoder.u32(frame.bytes).u32(frame.crc);
        }
        if self.crcs.len().is_multiple_of(2) {
            encoder.u32(0);
        }
        let mut bytes = encoder.finish();
        let crc = checksum(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// The block of this order.
    #[must_use]
    pub fn find(&self, order: u32) -> Option<Found<'_>> {
        let at = self
            .entries
            .binary_search_by_key(&order, |entry| entry.order)
            .ok()?;
        let entry = &self.entries[at];
        let first = usize::try_from(entry.first_tile).ok()?;
        let tiles = usize::try_from(tile_count(entry.bytes)).ok()?;
        let frames = match &self.frames {
            None => None,
            Some(frames) => {
                let first = usize::try_from(entry.first_frame).ok()?;
                let count = usize::try_from(frame_count(entry.bytes)).ok()?;
                Some(frames.get(first..first.checked_add(count)?)?)
            }
        };
        Some(Found {
            entry,
            crcs: self.crcs.get(first..first.checked_add(tiles)?)?,
            frames,
        })
    }
}

/// Reads an index section that fills `bytes`; also gives the checksum that ends it.
///
/// # Errors
/// [`DecodeError`] if it contradicts itself or its checksum.
pub fn parse_section(bytes: &[u8]) -> Result<(Section, u32), DecodeError> {
    let at = |offset, problem: String| DecodeError { offset, problem };
    let Some((body, stored)) = bytes.split_last_chunk::<4>() else {
        return Err(at(0, format!("{} bytes are no section", bytes.len())));
    };
    let (stored, found) = (u32::from_le_bytes(*stored), checksum(body));
    if stored != found {
        return Err(at(
            body.len(),
            format!("the section has checksum {found:#010x}, stored is {stored:#010x}"),
        ));
    }
    let mut from = Decoder::new(body);
    let magic = from.take(8)?;
    let compressed = magic == COMPRESSED_MAGIC;
    if magic != SECTION_MAGIC && !compressed {
        return Err(at(0, "no index section begins here".into()));
    }
    let instance = from.take(16)?.try_into().unwrap_or_default();
    let (epoch, step, rank) = (from.u64()?, from.u64()?, from.u32()?);
    let count = from.u32()? as usize;
    let (data_offset, data_length) = (from.u64()?, from.u64()?);
    if count.saturating_mul(ENTRY_BYTES) > body.len() {
        return Err(from.error(format!("{count} blocks announced in {} bytes", body.len())));
    }
    let mut entries: Vec<SectionEntry> = Vec::with_capacity(count);
    let (mut tiles, mut frame_total) = (0_u64, 0_u64);
    for _ in 0..count {
        let mut entry = SectionEntry {
            variable: from.u32()?,
            order: from.u32()?,
            offset: from.u64()?,
            bytes: from.u64()?,
            first_tile: from.u64()?,
            stored: 0,
            first_frame: 0,
        };
        entry.stored = entry.bytes;
        if compressed {
            entry.stored = from.u64()?;
            entry.first_frame = frame_total;
            frame_total = frame_total.saturating_add(frame_count(entry.bytes));
        }
        check_entry(&entry, entries.last(), tiles, (data_offset, data_length))
            .map_err(|problem| from.error(problem))?;
        tiles = tiles.saturating_add(tile_count(entry.bytes));
        entries.push(entry);
    }
    if tiles.saturating_mul(4) > body.len() as u64 {
        return Err(from.error(format!("{tiles} tiles announced in {} bytes", body.len())));
    }
    let crcs: Vec<u32> = (0..tiles).map(|_| from.u32()).collect::<Result<_, _>>()?;
    let frames = match compressed {
        true => Some(frames(&mut from, &entries, frame_total)?),
        false => None,
    };
    if tiles.is_multiple_of(2) && from.u32()? != 0 {
        return Err(from.error("the padding is not zero"));
    }
    from.finish()?;
    let section = Section {
        instance,
        epoch,
        step,
        rank,
        data_offset,
        data_length,
        entries,
        crcs,
        frames,
    };
    Ok((section, stored))
}

/// Reads what is said of all frames: fewer than there are tiles, which have been read.
fn frames(
    from: &mut Decoder<'_>,
    entries: &[SectionEntry],
    count: u64,
) -> Result<Vec<Frame>, DecodeError> {
    let mut frame = || -> Result<Frame, DecodeError> {
        Ok(Frame {
            bytes: from.u32()?,
            crc: from.u32()?,
        })
    };
    let frames: Vec<Frame> = (0..count).map(|_| frame()).collect::<Result<_, _>>()?;
    let mut rest = frames.iter();
    for entry in entries {
        let mut left = entry.bytes;
        let mut stored = 0;
        while left > 0 {
            let cells = left.min(FRAME_BYTES as u64);
            match rest.next().map(|frame| u64::from(frame.bytes)) {
                Some(frame) if (1..=cells).contains(&frame) => stored += frame,
                _ => return Err(from.error(format!("no frame of {cells} bytes has that length"))),
            }
            left -= cells;
        }
        if stored != entry.stored {
            return Err(from.error(format!(
                "a block of {} bytes in the file has frames of {stored}",
                entry.stored
            )));
        }
    }
    Ok(frames)
}

fn check_entry(
    entry: &SectionEntry,
    last: Option<&SectionEntry>,
    tiles: u64,
    (data_offset, data_length): (u64, u64),
) -> Result<(), String> {
    if last.is_some_and(|last| last.order >= entry.order) {
        return Err("the blocks are not in ascending order".into());
    }
    if entry.first_tile != tiles {
        return Err(format!(
            "tile {} named where {tiles} is next",
            entry.first_tile
        ));
    }
    let end = data_offset.checked_add(data_length);
    let fits = entry
        .offset
        .checked_add(entry.stored)
        .zip(end)
        .is_some_and(|(entry_end, end)| data_offset <= entry.offset && entry_end <= end);
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{} bytes at {} lie outside the step's {data_length} at {data_offset}",
            entry.stored, entry.offset
        ))
    }
}

/// What a part of `meta` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PartKind {
    /// A schema.
    Schema = 1,
    /// A layout.
    Layout = 2,
    /// A step's record.
    Record = 3,
}

/// The bytes of a part: header, body, padding to 8.
pub(super) fn encode_part(kind: PartKind, digest: u64, body: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    PART_MAGIC.iter().for_each(|byte| {
        encoder.u8(*byte);
    });
    encoder.u32(kind as u32).u32(0);
    encoder.u64(body.len() as u64).u64(digest);
    let mut bytes = encoder.finish();
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// Reads a part that fills `bytes`; its digest and body. The checksum is with
/// whoever refers to it.
///
/// # Errors
/// [`DecodeError`] if it is of another kind or length.
pub fn parse_part(bytes: &[u8], kind: PartKind) -> Result<(u64, &[u8]), DecodeError> {
    let mut from = Decoder::new(bytes);
    if from.take(8)? != PART_MAGIC {
        return Err(DecodeError {
            offset: 0,
            problem: "no part begins here".into(),
        });
    }
    let found = (from.u32()?, from.u32()?);
    if found != (kind as u32, 0) {
        return Err(from.error(format!(
            "a part of kind {} where {kind:?} was named",
            found.0
        )));
    }
    let (length, digest) = (from.u64()?, from.u64()?);
    let length =
        usize::try_from(length).map_err(|_| from.error(format!("{length} bytes announced")))?;
    let body = from.take(length)?;
    let padding = from.take((8 - length % 8) % 8)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(from.error("the padding is not zero"));
    }
    from.finish()?;
    Ok((digest, body))
}
