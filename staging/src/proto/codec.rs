//! Bytes to messages and back, and the limits every message keeps.
//!
//! Pure functions. Bytes come from anybody who could connect: nothing here
//! panics, and what a message may make the receiver keep is bounded by
//! [`limits`]. What it costs to decode is bounded by
//! [`limits::HEAD_LIMIT_BYTES`], checked first.

use super::limits;
use super::message::{
    Begin, Define, Described, End, Envelope, Get, Got, Kind, Layout, Map, Message, Next, Piece,
    Put, Refused, Run, SealedStep, VariableLayout,
};
use prost::Message as _;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The head is longer than any message may be.
    #[error("a message head of {0} bytes exceeds the limit of {limit}", limit = limits::HEAD_LIMIT_BYTES)]
    TooLong(usize),
    /// Not protobuf, or not of this form.
    #[error("the message cannot be decoded: {0}")]
    Broken(String),
    /// Of a kind this version does not know.
    #[error("the message is of a kind that protocol version {version} does not know", version = limits::PROTOCOL_VERSION)]
    UnknownKind,
    /// A field that must be there is missing.
    #[error("the message lacks its field {0:?}")]
    Missing(&'static str),
    /// A field is too long, too many or out of range.
    #[error("the message's field {field:?} is {value}, its limit {limit}")]
    Limit {
        /// The field.
        field: &'static str,
        /// What the message says.
        value: u64,
        /// The most it may say.
        limit: u64,
    },
    /// Two fields contradict each other.
    #[error("the message contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// Encodes `message`. A valid message always fits the head's limit or is
/// refused by [`check`]; callers check what they make from user input.
#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    Envelope {
        request: message.request,
        kind: Some(message.kind.clone()),
    }
    .encode_to_vec()
}

/// Decodes and checks a message.
///
/// # Errors
/// [`DecodeError`] says what is wrong with `bytes`.
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    if bytes.len() > limits::HEAD_LIMIT_BYTES {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let envelope =
        Envelope::decode(bytes).map_err(|error| DecodeError::Broken(error.to_string()))?;
    let kind = envelope.kind.ok_or(DecodeError::UnknownKind)?;
    check(&kind)?;
    Ok(Message {
        request: envelope.request,
        kind,
    })
}

/// The length of the body that follows `kind`; `None` where none may.
#[must_use]
pub fn body_bytes(kind: &Kind) -> Option<u64> {
    match kind {
        Kind::Put(put) => Some(
            put.pieces
                .iter()
                .fold(0, |sum, piece| sum.saturating_add(piece.length_bytes)),
        ),
        Kind::Got(got) => Some(
            got.pieces
                .iter()
                .fold(0, |sum, piece| sum.saturating_add(piece.length_bytes)),
        ),
        _ => None,
    }
}

/// Checks a message against the limits.
///
/// # Errors
/// [`DecodeError`] names the field.
pub fn check(kind: &Kind) -> Result<(), DecodeError> {
    match kind {
        Kind::OpenWriter(open) => {
            name("stream", &open.stream)?;
            at_most(
                "declared",
                u64::from(open.declared),
                u64::from(limits::WRITERS_LIMIT),
            )?;
            at_most(
                "retain_steps",
                open.retain_steps,
                limits::RETAINED_STEPS_LIMIT,
            )?;
            if open.slot >= open.declared {
                return Err(DecodeError::Contradiction(
                    "a slot beyond the declared writers",
                ));
            }
            Ok(())
        }
        Kind::Define(define) => check_define(define),
        Kind::Begin(begin) => check_begin(begin),
        Kind::Put(put) => check_put(put),
        Kind::End(end) => check_end(end),
        Kind::Abort(abort) => run(abort.run.as_ref()),
        Kind::AwaitSeal(wait) => run(wait.run.as_ref()),
        Kind::CloseWriter(close) => run(close.run.as_ref()),
        Kind::OpenReader(open) => {
            name("stream", &open.stream)?;
            name("group", &open.group)?;
            at_most(
                "cursor",
                open.cursor.len() as u64,
                limits::NAME_LIMIT_BYTES as u64,
            )
        }
        Kind::Next(next) => check_next(next),
        Kind::Release(release) => {
            run(release.run.as_ref()).and_then(|()| name("group", &release.group))
        }
        Kind::Commit(commit) => {
            run(commit.run.as_ref())?;
            name("group", &commit.group)?;
            name("cursor", &commit.cursor)
        }
        Kind::CloseReader(close) => {
            name("stream", &close.stream).and_then(|()| name("group", &close.group))
        }
        Kind::Get(get) => check_get(get),
        Kind::Describe(describe) => name("stream", &describe.stream),
        Kind::Watermark(watermark) => {
            run(watermark.run.as_ref()).and_then(|()| kept(&watermark.kept))
        }
        Kind::Alive(alive) => name("stream", &alive.stream),
        Kind::Hello(_)
        | Kind::ListStreams(_)
        | Kind::Defined(_)
        | Kind::Stored(_)
        | Kind::Done(_) => Ok(()),
        answer => check_answer(answer),
    }
}

fn check_answer(kind: &Kind) -> Result<(), DecodeError> {
    match kind {
        Kind::Welcome(welcome) => map(welcome.map.as_ref()),
        Kind::WriterOpened(opened) => {
            run(opened.run.as_ref())?;
            kept(&opened.kept)?;
            map(opened.map.as_ref())
        }
        Kind::Began(began) => {
            kept(&began.kept).and_then(|()| detail("waiting_for", &began.waiting_for))
        }
        Kind::Fate(fate) => detail("waiting_for", &fate.waiting_for),
        Kind::ReaderOpened(opened) => {
            name("stream", &opened.stream)?;
            present("position", opened.position.as_ref())?;
            map(opened.map.as_ref())
        }
        Kind::NoStep(none) => detail("waiting_for", &none.waiting_for),
        Kind::SealedStep(sealed) => check_sealed(sealed),
        Kind::Got(got) => check_got(got),
        Kind::Streams(streams) => {
            count("streams", streams.streams.len(), limits::STREAMS_LIMIT)?;
            streams
                .streams
                .iter()
                .try_for_each(|summary| name("stream", &summary.stream))
        }
        Kind::Described(described) => check_described(described),
        Kind::Refused(refused) => check_refused(refused),
        _ => Ok(()),
    }
}

fn check_define(define: &Define) -> Result<(), DecodeError> {
    run(define.run.as_ref())?;
    slot(define.slot)?;
    name("variable", &define.variable)?;
    count("fixed", define.fixed.len(), limits::LAYOUT_PART_LIMIT_BYTES)?;
    count("shape", define.shape.len(), limits::LAYOUT_PART_LIMIT_BYTES)
}

fn check_begin(begin: &Begin) -> Result<(), DecodeError> {
    run(begin.run.as_ref())?;
    slot(begin.slot)
}

fn check_next(next: &Next) -> Result<(), DecodeError> {
    name("stream", &next.stream)?;
    name("group", &next.group)?;
    count("holds", next.holds.len(), limits::CLAIMS_LIMIT)?;
    present("position", next.position.as_ref())
}

fn check_put(put: &Put) -> Result<(), DecodeError> {
    run(put.run.as_ref())?;
    slot(put.slot)?;
    name("variable", &put.variable)?;
    kept(&put.kept)?;
    count("pieces", put.pieces.len(), limits::PIECES_LIMIT)?;
    let mut checksums = 0;
    let mut bytes = 0_u64;
    for piece in &put.pieces {
        check_piece(piece, put.element_bytes)?;
        checksums += piece.checksums.len();
        bytes = bytes.saturating_add(piece.length_bytes);
    }
    count("checksums", checksums, limits::CHECKSUMS_LIMIT)?;
    at_most("body", bytes, limits::BODY_LIMIT_BYTES)
}

/// A piece's box must not wrap around, and must hold as many bytes as it says.
fn check_piece(piece: &Piece, element_bytes: u32) -> Result<(), DecodeError> {
    region(&piece.start, &piece.count)?;
    if element_bytes == 0 {
        return Ok(());
    }
    let elements = piece
        .count
        .iter()
        .try_fold(1_u64, |product, &side| product.checked_mul(side));
    let bytes = elements.and_then(|elements| elements.checked_mul(u64::from(element_bytes)));
    if bytes != Some(piece.length_bytes) {
        return Err(DecodeError::Contradiction(
            "a piece's length and its count of elements",
        ));
    }
    Ok(())
}

fn check_end(end: &End) -> Result<(), DecodeError> {
    run(end.run.as_ref())?;
    slot(end.slot)?;
    count("owners", end.owners.len(), limits::SERVERS_LIMIT)?;
    count(
        "attributes",
        end.attributes.len(),
        limits::ATTRIBUTES_LIMIT_BYTES,
    )?;
    variables(&end.variables)
}

fn check_sealed(sealed: &SealedStep) -> Result<(), DecodeError> {
    count("owners", sealed.owners.len(), limits::SERVERS_LIMIT)?;
    variables(&sealed.variables)?;
    count(
        "attributes",
        sealed.attributes.len(),
        limits::WRITERS_LIMIT as usize,
    )?;
    for attributes in &sealed.attributes {
        count(
            "attributes",
            attributes.attributes.len(),
            limits::ATTRIBUTES_LIMIT_BYTES,
        )?;
    }
    count("layouts", sealed.layouts.len(), limits::LAYOUTS_LIMIT)?;
    sealed.layouts.iter().try_for_each(layout)
}

fn check_get(get: &Get) -> Result<(), DecodeError> {
    run(get.run.as_ref())?;
    present("share", get.share.as_ref())?;
    count("queries", get.queries.len(), limits::QUERIES_LIMIT)?;
    let mut boxes = 0;
    for query in &get.queries {
        name("variable", &query.variable)?;
        boxes += query.boxes.len();
        query
            .boxes
            .iter()
            .try_for_each(|wanted| region(&wanted.start, &wanted.count))?;
    }
    count("boxes", boxes, limits::BOXES_LIMIT)
}

fn check_got(got: &Got) -> Result<(), DecodeError> {
    count("pieces", got.pieces.len(), limits::GET_PIECES_LIMIT)?;
    got.pieces
        .iter()
        .try_for_each(|piece| region(&piece.start, &piece.count))
}

fn check_described(described: &Described) -> Result<(), DecodeError> {
    present("summary", described.summary.as_ref())?;
    count("groups", described.groups.len(), limits::GROUPS_LIMIT)?;
    described.newest.as_ref().map_or(Ok(()), check_sealed)
}

fn check_refused(refused: &Refused) -> Result<(), DecodeError> {
    detail("detail", &refused.detail)?;
    map(refused.map.as_ref())?;
    refused.first.as_ref().map_or(Ok(()), layout)
}

fn variables(variables: &[VariableLayout]) -> Result<(), DecodeError> {
    count("variables", variables.len(), limits::VARIABLES_LIMIT)?;
    variables
        .iter()
        .try_for_each(|variable| name("variable", &variable.variable))
}

fn layout(layout: &Layout) -> Result<(), DecodeError> {
    name("variable", &layout.variable)?;
    count("fixed", layout.fixed.len(), limits::LAYOUT_PART_LIMIT_BYTES)?;
    count("shape", layout.shape.len(), limits::LAYOUT_PART_LIMIT_BYTES)
}

fn region(start: &[u64], sides: &[u64]) -> Result<(), DecodeError> {
    count("dimensions", start.len(), limits::DIMS_LIMIT)?;
    if start.len() != sides.len() {
        return Err(DecodeError::Contradiction(
            "start and count of a box differ in length",
        ));
    }
    if start
        .iter()
        .zip(sides)
        .any(|(start, side)| start.checked_add(*side).is_none())
    {
        return Err(DecodeError::Contradiction(
            "a box beyond the end of 64 bits",
        ));
    }
    Ok(())
}

fn run(run: Option<&Run>) -> Result<(), DecodeError> {
    let run = run.ok_or(DecodeError::Missing("run"))?;
    name("stream", &run.stream)
}

fn map(map: Option<&Map>) -> Result<(), DecodeError> {
    count(
        "map",
        map.map_or(0, |map| map.bytes.len()),
        limits::MAP_LIMIT_BYTES,
    )
}

fn kept(steps: &[u64]) -> Result<(), DecodeError> {
    count("kept", steps.len(), limits::KEPT_LIMIT)
}

fn slot(slot: u32) -> Result<(), DecodeError> {
    at_most(
        "slot",
        u64::from(slot),
        u64::from(limits::WRITERS_LIMIT) - 1,
    )
}

fn name(field: &'static str, name: &str) -> Result<(), DecodeError> {
    if name.is_empty() {
        return Err(DecodeError::Missing(field));
    }
    count(field, name.len(), limits::NAME_LIMIT_BYTES)
}

fn detail(field: &'static str, text: &str) -> Result<(), DecodeError> {
    count(field, text.len(), limits::DETAIL_LIMIT_BYTES)
}

fn count(field: &'static str, count: usize, limit: usize) -> Result<(), DecodeError> {
    at_most(field, count as u64, limit as u64)
}

fn at_most(field: &'static str, value: u64, limit: u64) -> Result<(), DecodeError> {
    if value > limit {
        Err(DecodeError::Limit {
            field,
            value,
            limit,
        })
    } else {
        Ok(())
    }
}

fn present<T>(field: &'static str, value: Option<&T>) -> Result<(), DecodeError> {
    if value.is_none() {
        Err(DecodeError::Missing(field))
    } else {
        Ok(())
    }
}
