//! The fixed layouts: the page that opens every file, and commit records.
//!
//! Pure: bytes in, values out. `docs/format.md` draws them.

use panta_transports::copy::checksum;

use crate::codec::{DecodeError, Decoder, Encoder};

/// Bytes of a page.
pub(super) const PAGE_BYTES: u64 = 4096;
/// The version of the format that this code writes and reads.
pub(super) const VERSION: u32 = 1;
/// That of segments whose blocks are compressed.
pub(super) const COMPRESSED_VERSION: u32 = 2;
/// The most pages of one commit record: some six million segments.
pub(super) const MAX_RECORD_PAGES: u32 = 65_536;
/// Segments that one page names.
pub(super) const SEGMENTS_PER_PAGE: usize = 97;

const FILE_MAGIC: &[u8; 8] = b"PANTAFIL";
const COMMIT_MAGIC: &[u8; 8] = b"PANTACMT";
const BYTE_ORDER_MARK: u32 = 0x0A0B_0C0D;
const CHECKSUM_AT: usize = PAGE_BYTES as usize - 4;

/// What a file of the dataset is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Role {
    Commits = 1,
    Meta = 2,
    Data = 3,
    Index = 4,
}

/// Which dataset a file belongs to, and as what: its first page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FilePage {
    pub(super) role: Role,
    /// Random, from when the dataset was created.
    pub(super) instance: [u8; 16],
    /// Of segments; 0 for `commits` and `meta`.
    pub(super) epoch: u64,
    /// Of segments; 0 for `commits` and `meta`.
    pub(super) rank: u32,
    pub(super) created_ns: u64,
    /// Of segments: whether their blocks are compressed.
    pub(super) compressed: bool,
}

/// Pads to a page and closes it with its checksum.
fn seal_page(encoder: Encoder) -> Vec<u8> {
    let mut page = encoder.finish();
    page.resize(CHECKSUM_AT, 0);
    let crc = checksum(&page);
    page.extend_from_slice(&crc.to_le_bytes());
    page
}

/// Checks length, magic and checksum; returns the fields, the version, which is at most
/// `newest`, and the checksum.
fn open_page<'a>(
    page: &'a [u8],
    magic: &[u8; 8],
    newest: u32,
) -> Result<(Decoder<'a>, u32, u32), DecodeError> {
    let at = |offset, problem: String| DecodeError { offset, problem };
    let Some((body, stored)) = page
        .split_last_chunk::<4>()
        .filter(|_| page.len() as u64 == PAGE_BYTES)
    else {
        return Err(at(0, format!("{} bytes are no page", page.len())));
    };
    let (stored, found) = (u32::from_le_bytes(*stored), checksum(body));
    if stored != found {
        return Err(at(
            CHECKSUM_AT,
            format!("the page has checksum {found:#010x}, stored is {stored:#010x}"),
        ));
    }
    let mut from = Decoder::new(body);
    if from.take(8)? != magic {
        return Err(at(0, "another kind of page stands here".into()));
    }
    let version = from.u32()?;
    if !(VERSION..=newest).contains(&version) {
        return Err(at(
            8,
            match newest {
                VERSION => format!("format version {version}, this program reads {VERSION}"),
                _ => format!("format version {version}, this program reads {VERSION} to {newest}"),
            },
        ));
    }
    Ok((from, version, stored))
}

fn instance(from: &mut Decoder<'_>) -> Result<[u8; 16], DecodeError> {
    Ok(from.take(16)?.try_into().unwrap_or_default())
}

impl FilePage {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        FILE_MAGIC.iter().for_each(|byte| {
            encoder.u8(*byte);
        });
        let version = match self.compressed {
            true => COMPRESSED_VERSION,
            false => VERSION,
        };
        encoder.u32(version).u32(self.role as u32);
        self.instance.iter().for_each(|byte| {
            encoder.u8(*byte);
        });
        encoder.u64(self.epoch).u32(self.rank).u32(BYTE_ORDER_MARK);
        encoder
            .u32(4096)
            .u32(PAGE_BYTES as u32)
            .u64(self.created_ns);
        seal_page(encoder)
    }

    pub(super) fn parse(page: &[u8]) -> Result<Self, DecodeError> {
        let (mut from, version, _) = open_page(page, FILE_MAGIC, COMPRESSED_VERSION)?;
        let role = match from.u32()? {
            1 => Role::Commits,
            2 => Role::Meta,
            3 => Role::Data,
            4 => Role::Index,
            other => return Err(from.error(format!("no file has role {other}"))),
        };
        let compressed = version == COMPRESSED_VERSION;
        if compressed && !matches!(role, Role::Data | Role::Index) {
            return Err(from.error(format!(
                "format version {version}, this program reads {VERSION} but in segments"
            )));
        }
        let instance = instance(&mut from)?;
        let (epoch, rank, mark) = (from.u64()?, from.u32()?, from.u32()?);
        let sizes = (from.u32()?, from.u32()?);
        if (mark, sizes) != (BYTE_ORDER_MARK, (4096, PAGE_BYTES as u32)) {
            return Err(from.error("byte order, tile or page size is not that of this format"));
        }
        Ok(Self {
            role,
            instance,
            epoch,
            rank,
            created_ns: from.u64()?,
            compressed,
        })
    }
}

/// What a commit record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CommitKind {
    /// A writer began an epoch; steps from `step` on of earlier ones are withdrawn.
    Open = 1,
    /// A step is sealed.
    Step = 2,
    /// The writer closed.
    Close = 3,
}

/// Where a part of `meta` lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartReference {
    /// First byte in `meta`.
    pub offset: u64,
    /// Bytes, header and padding included; 0 if there is none.
    pub length: u64,
    /// CRC32C of these bytes.
    pub crc: u32,
}

/// What one rank wrote for a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentReference {
    /// The rank.
    pub rank: u32,
    /// The checksum that ends the index section.
    pub index_crc: u32,
    /// First byte of the section in `index.E.R`.
    pub index_offset: u64,
    /// Bytes of the section.
    pub index_length: u64,
    /// First byte of the step's blocks in `data.E.R`.
    pub data_offset: u64,
    /// Bytes of the blocks, padding included.
    pub data_length: u64,
}

/// A commit record, or one page of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// What it says.
    pub kind: CommitKind,
    /// The dataset's identity.
    pub instance: [u8; 16],
    /// The life of the writer.
    pub epoch: u64,
    /// Of a step: its number. Else: the number of the next step to write.
    pub step: u64,
    /// Nanoseconds since 1970.
    pub wall_clock_ns: u64,
    /// Simulation time of the step, if it has one.
    pub sim: Option<f64>,
    /// Schema, layout and record of the step.
    pub parts: [PartReference; 3],
    /// The ranks that put blocks, ascending.
    pub segments: Vec<SegmentReference>,
}

/// A page's place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The page's number in the file: its offset divided by 4096.
    pub sequence: u64,
    /// Its place in its record, from 0.
    pub page: u32,
    /// Pages of the record.
    pub pages: u32,
    /// The checksum of the page before.
    pub previous: u32,
    /// Segments in the whole record.
    pub segments: u32,
    /// The page's own checksum.
    pub crc: u32,
}

impl SegmentReference {
    pub(super) fn encode(&self, into: &mut Encoder) {
        into.u32(self.rank).u32(self.index_crc);
        into.u64(self.index_offset).u64(self.index_length);
        into.u64(self.data_offset).u64(self.data_length);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            rank: from.u32()?,
            index_crc: from.u32()?,
            index_offset: from.u64()?,
            index_length: from.u64()?,
            data_offset: from.u64()?,
            data_length: from.u64()?,
        })
    }
}

impl Commit {
    /// The record's pages, chained to the page before them, from `sequence` on.
    /// Returns the checksum of the last page too.
    pub(super) fn encode(&self, sequence: u64, previous: u32) -> (Vec<u8>, u32) {
        let count = self.segments.len().div_ceil(SEGMENTS_PER_PAGE).max(1);
        let mut pages = Vec::with_capacity(count * PAGE_BYTES as usize);
        let mut crc = previous;
        for page in 0..count {
            let segments = self.segments.chunks(SEGMENTS_PER_PAGE).nth(page);
            let link = Link {
                sequence: sequence + page as u64,
                page: u32::try_from(page).unwrap_or(u32::MAX),
                pages: u32::try_from(count).unwrap_or(u32::MAX),
                previous: crc,
                segments: u32::try_from(self.segments.len()).unwrap_or(u32::MAX),
                crc: 0,
            };
            let bytes = self.encode_page(&link, segments.unwrap_or_default());
            crc = u32::from_le_bytes(*bytes.last_chunk().unwrap_or(&[0; 4]));
            pages.extend(bytes);
        }
        (pages, crc)
    }

    fn encode_page(&self, link: &Link, segments: &[SegmentReference]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        COMMIT_MAGIC.iter().for_each(|byte| {
            encoder.u8(*byte);
        });
        encoder.u32(VERSION).u32(self.kind as u32);
        self.instance.iter().for_each(|byte| {
            encoder.u8(*byte);
        });
        encoder.u64(link.sequence).u64(self.epoch).u64(self.step);
        encoder.u32(link.page).u32(link.pages).u32(link.previous);
        encoder.u32(link.segments);
        encoder.length(segments.len());
        encoder.u32(u32::from(self.sim.is_some()));
        encoder.u64(self.wall_clock_ns);
        encoder.f64(self.sim.unwrap_or_default());
        for part in &self.parts {
            encoder
                .u64(part.offset)
                .u64(part.length)
                .u32(part.crc)
                .u32(0);
        }
        encoder.u64(0).u64(0).u64(0);
        segments
            .iter()
            .for_each(|segment| segment.encode(&mut encoder));
        seal_page(encoder)
    }
}

/// One page of a commit record: what it says, with the segments it names, and
/// its place in the chain.
///
/// # Errors
/// [`DecodeError`] if it is not a whole page of this format.
pub fn parse_page(page: &[u8]) -> Result<(Commit, Link), DecodeError> {
    let (mut from, _, crc) = open_page(page, COMMIT_MAGIC, VERSION)?;
    let kind = match from.u32()? {
        1 => CommitKind::Open,
        2 => CommitKind::Step,
        3 => CommitKind::Close,
        other => return Err(from.error(format!("no commit record has kind {other}"))),
    };
    let instance = instance(&mut from)?;
    let (sequence, epoch, step) = (from.u64()?, from.u64()?, from.u64()?);
    let (page, pages, previous) = (from.u32()?, from.u32()?, from.u32()?);
    let (segments, here, has_sim) = (from.u32()?, from.u32()? as usize, from.u32()?);
    let (wall_clock_ns, sim) = (from.u64()?, from.f64()?);
    let mut parts = [PartReference::default(); 3];
    for part in &mut parts {
        (part.offset, part.length, part.crc) = (from.u64()?, from.u64()?, from.u32()?);
        from.u32()?;
    }
    from.take(24)?;
    if page >= pages || pages > MAX_RECORD_PAGES || here > SEGMENTS_PER_PAGE || has_sim > 1 {
        return Err(from.error(format!(
            "page {page} of {pages} with {here} segments cannot be"
        )));
    }
    let segments_here = (0..here)
        .map(|_| SegmentReference::decode(&mut from))
        .collect::<Result<_, _>>()?;
    let commit = Commit {
        kind,
        instance,
        epoch,
        step,
        wall_clock_ns,
        sim: (has_sim == 1).then_some(sim),
        parts,
        segments: segments_here,
    };
    let link = Link {
        sequence,
        page,
        pages,
        previous,
        segments,
        crc,
    };
    Ok((commit, link))
}
