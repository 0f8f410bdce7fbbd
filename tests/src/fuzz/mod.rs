//! Hostile bytes: a target for each parser of what comes from a peer, a file
//! or a user.
//!
//! ```text
//! seeds ──▶ mutate ──▶ run        tests/fuzz.rs: some thousands, the same every time
//!                  libFuzzer ──▶ run        tests/fuzz/: as long as one likes
//! ```
//! A target promises that no bytes make the parser panic, and that what it
//! accepts survives being written and read again; `tests/fuzz.rs` also counts
//! what it allocates. Layouts that end with a checksum are run as they are,
//! and again with a checksum that is right, or no mutation would get past it.

mod mutate;
mod seeds;

pub use mutate::Mutator;

use panta_core::codec::{Coded, DecodeError};
use panta_core::config::{parse_toml, parse_url};
use panta_core::file::{PartKind, parse_page, parse_part, parse_section};
use panta_core::model::{Layout, Schema, StepRecord};
use panta_core::stream::machine::{Join, ReaderMessage, WriterMessage};
use panta_staging::proto::codec;
use panta_staging::shard::ShardMap;
use panta_transports::channel::{PREAMBLE_HEADER_BYTES, parse_answer, parse_hello, parse_prefix};
use panta_transports::copy::checksum;
use panta_transports::coupling::{Ticket, parse_frame};

/// A parser under attack.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also that of the libFuzzer binary.
    pub name: &'static str,
    /// Valid inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Feeds the parser.
    pub run: fn(&[u8]),
    /// Bytes that what it makes may take however short the input is.
    pub fixed_bytes: usize,
}

/// For errors and small things.
const SOME_BYTES: usize = 64 << 10;

const fn target(
    name: &'static str,
    seeds: fn() -> Vec<Vec<u8>>,
    run: fn(&[u8]),
    fixed_bytes: usize,
) -> Target {
    Target {
        name,
        seeds,
        run,
        fixed_bytes,
    }
}

/// Every parser.
pub const TARGETS: &[Target] = &[
    target("channel", seeds::channel, channel, SOME_BYTES),
    target("coupling", seeds::coupling, coupling, SOME_BYTES),
    target("ticket", seeds::tickets, ticket, SOME_BYTES),
    target(
        "control_tree",
        seeds::control_tree,
        control_tree,
        SOME_BYTES,
    ),
    target(
        "staging_message",
        seeds::messages,
        staging_message,
        SOME_BYTES,
    ),
    target("shard_map", seeds::shard_maps, shard_map, SOME_BYTES),
    target("file_commit", seeds::commits, file_commit, SOME_BYTES),
    target("file_index", seeds::sections, file_index, SOME_BYTES),
    target("file_meta", seeds::parts, file_meta, SOME_BYTES),
    target("schema", seeds::schemas, coded::<Schema>, SOME_BYTES),
    target("layout", seeds::layouts, coded::<Layout>, SOME_BYTES),
    target(
        "step_record",
        seeds::records,
        coded::<StepRecord>,
        SOME_BYTES,
    ),
    target("stream_join", seeds::joins, coded::<Join>, SOME_BYTES),
    target(
        "stream_reader",
        seeds::reader_messages,
        coded::<ReaderMessage>,
        SOME_BYTES,
    ),
    target(
        "stream_writer",
        seeds::writer_messages,
        coded::<WriterMessage>,
        SOME_BYTES,
    ),
    target("config_toml", seeds::tomls, config_toml, SOME_BYTES),
    target("config_url", seeds::urls, config_url, SOME_BYTES),
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// What decodes is written as something that decodes to the same. Bytes are
/// compared, not values: a NaN is not equal to itself.
fn coded<T: Coded>(bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        let written = value.to_bytes();
        let again = T::from_bytes(&written).expect("what was written can be read");
        assert_eq!(again.to_bytes(), written);
    }
}

fn channel(bytes: &[u8]) {
    let Some(header) = bytes.first_chunk::<PREAMBLE_HEADER_BYTES>() else {
        return;
    };
    if let Ok(hello) = parse_hello(header) {
        assert_eq!(parse_hello(&hello.to_bytes()), Ok(hello));
    }
    if let Ok(answer) = parse_answer(header) {
        assert_eq!(parse_answer(&answer.to_bytes()), Ok(answer));
    }
    assert_eq!(parse_prefix(header).to_bytes(), *header);
}

fn coupling(bytes: &[u8]) {
    if let Ok(frame) = parse_frame(bytes) {
        let written = frame.to_bytes();
        assert_eq!(parse_frame(&written), Ok(frame));
    }
}

fn ticket(bytes: &[u8]) {
    if let Ok(ticket) = Ticket::from_bytes(bytes) {
        assert_eq!(ticket.to_bytes(), bytes);
    }
}

fn control_tree(bytes: &[u8]) {
    // Whatever they hold: only that they are told apart without harm.
    let _ = panta_core::tree::inspect(bytes);
}

fn staging_message(bytes: &[u8]) {
    if let Ok(message) = codec::decode(bytes) {
        let written = codec::encode(&message);
        let again = codec::decode(&written).expect("what was written can be read");
        assert_eq!(codec::encode(&again), written);
        let _ = codec::body_bytes(&message.kind);
    }
}

fn shard_map(bytes: &[u8]) {
    let try_one = |bytes: &[u8]| {
        if let Ok(map) = ShardMap::decode(bytes) {
            assert_eq!(map.encode(), bytes);
        }
    };
    try_one(bytes);
    if let Some((body, _)) = bytes.split_last_chunk::<8>() {
        let mut mended = body.to_vec();
        mended.extend_from_slice(&panta_core::codec::digest(body).to_le_bytes());
        try_one(&mended);
    }
}

/// Runs a parser on the bytes, and on them with a right CRC32C at their end.
fn with_checksum<T>(bytes: &[u8], parse: impl Fn(&[u8]) -> Result<T, DecodeError>) -> Option<T> {
    // As they are, they are mostly refused; that must not panic either.
    let _ = parse(bytes);
    let (body, _) = bytes.split_last_chunk::<4>()?;
    let mut mended = body.to_vec();
    mended.extend_from_slice(&checksum(body).to_le_bytes());
    parse(&mended).ok()
}

fn file_commit(bytes: &[u8]) {
    with_checksum(bytes, parse_page);
}

fn file_index(bytes: &[u8]) {
    if let Some((section, _)) = with_checksum(bytes, parse_section) {
        for entry in &section.entries {
            let found = section.find(entry.order).expect("an entry is found");
            assert_eq!(found.entry, entry);
            assert!(found.crcs.len() as u64 >= entry.bytes / (1 << 20));
            assert_eq!(found.frames.is_some(), section.frames.is_some());
        }
    }
}

fn file_meta(bytes: &[u8]) {
    for kind in [PartKind::Schema, PartKind::Layout, PartKind::Record] {
        if let Ok((_, body)) = parse_part(bytes, kind) {
            match kind {
                PartKind::Schema => coded::<Schema>(body),
                PartKind::Layout => coded::<Layout>(body),
                PartKind::Record => coded::<StepRecord>(body),
            }
        }
    }
}

fn config_toml(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Err(error) = parse_toml(text)
    {
        assert!(!error.to_string().is_empty());
    }
}

fn config_url(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Err(error) = parse_url(text)
    {
        assert!(
            error.to_string().len() < 4096,
            "an error as long as its cause"
        );
    }
}
