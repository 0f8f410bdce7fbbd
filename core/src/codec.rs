//! The byte form of schemas, layouts and records: what files store and peers send.
//!
//! Little-endian throughout; `docs/format.md` describes it byte by byte.
//! Decoding treats every byte as hostile: no count is believed before the bytes
//! that would back it are seen, so that nothing allocates more than a small
//! multiple of the input.

use std::collections::BTreeSet;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::model::{
    Accuracy, Attribute, AttributeKey, Attributes, Block, DType, Definition, Layout, LayoutEntry,
    MAX_DIMS, Number, Payload, Schema, ShapeKind, Stats, StepHead, StepRecord, StepTime,
};

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {problem}")]
pub struct DecodeError {
    /// Where in the input.
    pub offset: usize,
    /// What is wrong there.
    pub problem: String,
}

/// Appends little-endian primitives to a byte string.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

macro_rules! put_numbers {
    ($($name:ident($rust:ty)),*) => {
        $(#[doc = concat!("Appends one `", stringify!($rust), "`.")]
        pub fn $name(&mut self, value: $rust) -> &mut Self {
            self.bytes.extend_from_slice(&value.to_le_bytes());
            self
        })*
    };
}

impl Encoder {
    /// An encoder with room for `bytes`.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
        }
    }

    put_numbers!(u8(u8), u16(u16), u32(u32), u64(u64), i64(i64), f64(f64));

    /// One that will hold about so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
        }
    }

    /// Appends bytes without their length.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends a length as u32. Lengths beyond that do not occur: limits are
    /// checked when things are defined and put; the saturated length would not decode.
    pub fn length(&mut self, length: usize) -> &mut Self {
        self.u32(u32::try_from(length).unwrap_or(u32::MAX))
    }

    /// Appends a length and the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(bytes.len());
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends a text as its length and UTF-8.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Appends a count and the numbers.
    pub fn u64s(&mut self, values: &[u64]) -> &mut Self {
        self.length(values.len());
        for value in values {
            self.u64(*value);
        }
        self
    }

    /// Appends a count and the texts.
    pub fn texts(&mut self, texts: &[String]) -> &mut Self {
        self.length(texts.len());
        for text in texts {
            self.text(text);
        }
        self
    }

    /// Appends a length, and the bytes that `write` appends.
    pub fn bytes_by(&mut self, write: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.bytes.len();
        self.length(0);
        write(self);
        let length = self.bytes.len() - at - size_of::<u32>();
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        for (to, byte) in self.bytes[at..].iter_mut().zip(length) {
            *to = byte;
        }
        self
    }

    /// Begins anew, with the memory it has.
    pub fn restart(&mut self) -> &mut Self {
        self.bytes.clear();
        self
    }

    /// The bytes so far.
    #[must_use]
    pub fn so_far(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes so far.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

impl From<Vec<u8>> for Encoder {
    /// Appends to what is there.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }
}

/// Takes little-endian primitives off a byte string.
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    offset: usize,
}

macro_rules! take_numbers {
    ($($name:ident($rust:ty)),*) => {
        $(#[doc = concat!("Takes one `", stringify!($rust), "`.\n\n# Errors\n[`DecodeError`] at the end of the input.")]
        pub fn $name(&mut self) -> Result<$rust, DecodeError> {
            let raw = self.take(size_of::<$rust>())?;
            Ok(<$rust>::from_le_bytes(raw.try_into().unwrap_or_default()))
        })*
    };
}

impl<'a> Decoder<'a> {
    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        self.offset = self.bytes.len();
        rest
    }

    /// Begins at the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    take_numbers!(u8(u8), u16(u16), u32(u32), u64(u64), i64(i64), f64(f64));

    /// How many bytes were taken.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// An error at the present place.
    pub fn error(&self, problem: impl Into<String>) -> DecodeError {
        DecodeError {
            offset: self.offset,
            problem: problem.into(),
        }
    }

    /// Takes `length` bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if fewer are left.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let left = &self.bytes[self.offset..];
        let Some((taken, _)) = left.split_at_checked(length) else {
            return Err(self.error(format!("{length} bytes expected, {} left", left.len())));
        };
        self.offset += length;
        Ok(taken)
    }

    /// Takes a count of things that take at least `least_bytes` each.
    ///
    /// # Errors
    /// [`DecodeError`] if the input left cannot hold that many.
    pub fn count(&mut self, least_bytes: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        let left = self.bytes.len() - self.offset;
        if count.saturating_mul(least_bytes.max(1)) > left {
            return Err(self.error(format!("{count} items announced, {left} bytes left")));
        }
        Ok(count)
    }

    /// Takes a length and that many bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if fewer are left.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.count(1)?;
        self.take(length)
    }

    /// Takes a text.
    ///
    /// # Errors
    /// [`DecodeError`] if it is short or not UTF-8.
    pub fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.error("a text is not UTF-8"))
    }

    /// Takes a count and that many numbers.
    ///
    /// # Errors
    /// [`DecodeError`] if fewer are left.
    pub fn u64s(&mut self) -> Result<Vec<u64>, DecodeError> {
        (0..self.count(8)?).map(|_| self.u64()).collect()
    }

    /// Takes a count and that many texts.
    ///
    /// # Errors
    /// [`DecodeError`] if they are short or not UTF-8.
    pub fn texts(&mut self) -> Result<Vec<String>, DecodeError> {
        (0..self.count(4)?).map(|_| self.text()).collect()
    }

    /// Ends the decoding.
    ///
    /// # Errors
    /// [`DecodeError`] if bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.bytes.len() - self.offset {
            0 => Ok(()),
            left => Err(self.error(format!("{left} bytes too many"))),
        }
    }
}

/// Something with a byte form.
pub trait Coded: Sized {
    /// Appends the byte form.
    fn encode(&self, into: &mut Encoder);
    /// Takes the byte form.
    ///
    /// # Errors
    /// [`DecodeError`] naming the place and the problem.
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError>;

    /// The byte form alone.
    fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        self.encode(&mut encoder);
        encoder.finish()
    }

    /// Reads a byte form that fills `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`], also if bytes are left over.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let value = Self::decode(&mut decoder)?;
        decoder.finish()?;
        Ok(value)
    }
}

/// The name of a schema or layout: xxh3 with 64 bits over its byte form.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Added to the shape kind of a variable whose accuracy follows behind the rest.
const WITH_ACCURACY: u8 = 64;

fn encode_accuracy(accuracy: Accuracy, into: &mut Encoder) {
    let kind = match accuracy {
        Accuracy::Absolute(_) => 1,
        Accuracy::Relative(_) => 2,
    };
    into.u8(kind).f64(accuracy.bound());
}

fn decode_accuracy(from: &mut Decoder<'_>) -> Result<Accuracy, DecodeError> {
    Ok(match from.u8()? {
        1 => Accuracy::Absolute(from.f64()?),
        2 => Accuracy::Relative(from.f64()?),
        other => return Err(from.error(format!("no kind of accuracy has code {other}"))),
    })
}

impl Coded for Definition {
    fn encode(&self, into: &mut Encoder) {
        let (kind, axis) = match self.kind {
            ShapeKind::GlobalArray => (1, 0),
            ShapeKind::LocalArray => (2, 0),
            ShapeKind::JoinedArray { axis } => (3, axis),
            ShapeKind::GlobalValue => (4, 0),
            ShapeKind::LocalValue => (5, 0),
        };
        let flag = self.accuracy.map_or(0, |_| WITH_ACCURACY);
        into.text(&self.name)
            .u8(self.dtype as u8)
            .u8(kind | flag)
            .u8(axis)
            .u64s(&self.shape)
            .texts(&self.dims);
        into.text(&self.unit).texts(&self.coordinates);
        into.bytes(self.fill.as_deref().unwrap_or_default());
        into.u64s(self.chunk.as_deref().unwrap_or_default());
        if let Some(accuracy) = self.accuracy {
            encode_accuracy(accuracy, into);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let name = from.text()?;
        let dtype = from.u8()?;
        let dtype = DType::from_code(dtype)
            .ok_or_else(|| from.error(format!("no element type has code {dtype}")))?;
        let (kind, axis) = (from.u8()?, from.u8()?);
        let with_accuracy = kind & WITH_ACCURACY != 0;
        let kind = match kind & !WITH_ACCURACY {
            1 => ShapeKind::GlobalArray,
            2 => ShapeKind::LocalArray,
            3 => ShapeKind::JoinedArray { axis },
            4 => ShapeKind::GlobalValue,
            5 => ShapeKind::LocalValue,
            other => return Err(from.error(format!("no shape kind has code {other}"))),
        };
        let (shape, dims, unit, coordinates) =
            (from.u64s()?, from.texts()?, from.text()?, from.texts()?);
        let fill = Some(from.bytes()?.to_vec()).filter(|fill| !fill.is_empty());
        let chunk = Some(from.u64s()?).filter(|chunk| !chunk.is_empty());
        let accuracy = with_accuracy.then(|| decode_accuracy(from)).transpose()?;
        let definition = Self {
            name,
            dtype,
            kind,
            shape,
            dims,
            unit,
            coordinates,
            fill,
            chunk,
            accuracy,
        };
        definition
            .check()
            .map_err(|error| from.error(error.to_string()))?;
        Ok(definition)
    }
}

impl Coded for Attribute {
    fn encode(&self, into: &mut Encoder) {
        match self {
            Self::Int(value) => into.u8(1).i64(*value),
            Self::UInt(value) => into.u8(2).u64(*value),
            Self::Float(value) => into.u8(3).f64(*value),
            Self::Text(value) => into.u8(4).text(value),
            Self::Ints(values) => {
                into.u8(5).length(values.len());
                values.iter().fold(into, |into, value| into.i64(*value))
            }
            Self::UInts(values) => into.u8(6).u64s(values),
            Self::Floats(values) => {
                into.u8(7).length(values.len());
                values.iter().fold(into, |into, value| into.f64(*value))
            }
            Self::Texts(values) => into.u8(8).texts(values),
        };
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            1 => Self::Int(from.i64()?),
            2 => Self::UInt(from.u64()?),
            3 => Self::Float(from.f64()?),
            4 => Self::Text(from.text()?),
            5 => Self::Ints(
                (0..from.count(8)?)
                    .map(|_| from.i64())
                    .collect::<Result<_, _>>()?,
            ),
            6 => Self::UInts(from.u64s()?),
            7 => Self::Floats(
                (0..from.count(8)?)
                    .map(|_| from.f64())
                    .collect::<Result<_, _>>()?,
            ),
            8 => Self::Texts(from.texts()?),
            other => return Err(from.error(format!("no attribute type has code {other}"))),
        })
    }
}

impl Coded for AttributeKey {
    fn encode(&self, into: &mut Encoder) {
        into.text(self.variable.as_deref().unwrap_or_default())
            .text(&self.name);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let variable = Some(from.text()?).filter(|name| !name.is_empty());
        Ok(Self {
            variable,
            name: from.text()?,
        })
    }
}

impl Coded for Schema {
    fn encode(&self, into: &mut Encoder) {
        into.length(self.variables.len());
        self.variables
            .iter()
            .for_each(|definition| definition.encode(into));
        into.length(self.attributes.len());
        for (key, value) in &self.attributes {
            key.encode(into);
            value.encode(into);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut variables = Vec::new();
        let mut names = BTreeSet::new();
        for _ in 0..from.count(31)? {
            let definition = Arc::new(Definition::decode(from)?);
            if !names.insert(definition.name.clone()) {
                return Err(from.error(format!("variable `{}` is defined twice", definition.name)));
            }
            variables.push(definition);
        }
        let mut attributes = Attributes::new();
        for _ in 0..from.count(13)? {
            attributes.insert(AttributeKey::decode(from)?, Attribute::decode(from)?);
        }
        Ok(Self {
            variables,
            attributes,
        })
    }
}

fn dimensions(from: &mut Decoder<'_>) -> Result<Vec<u64>, DecodeError> {
    let values = from.u64s()?;
    if values.len() > MAX_DIMS {
        return Err(from.error(format!(
            "{} dimensions, the limit is {MAX_DIMS}",
            values.len()
        )));
    }
    Ok(values)
}

impl Coded for Block {
    fn encode(&self, into: &mut Encoder) {
        into.u32(self.rank)
            .u32(self.order)
            .u64s(&self.start)
            .u64s(&self.count);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            rank: from.u32()?,
            order: from.u32()?,
            start: dimensions(from)?,
            count: dimensions(from)?,
        })
    }
}

impl Coded for Layout {
    fn encode(&self, into: &mut Encoder) {
        into.length(self.entries.len());
        for entry in &self.entries {
            into.u32(entry.variable).length(entry.blocks.len());
            entry.blocks.iter().for_each(|block| block.encode(into));
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut entries: Vec<LayoutEntry> = Vec::new();
        for _ in 0..from.count(8)? {
            let variable = from.u32()?;
            if entries.last().is_some_and(|last| last.variable >= variable) {
                return Err(from.error("the layout's variables are not in ascending order"));
            }
            let blocks = (0..from.count(16)?)
                .map(|_| Block::decode(from))
                .collect::<Result<_, _>>()?;
            entries.push(LayoutEntry { variable, blocks });
        }
        Ok(Self { entries })
    }
}

fn encode_number(number: Number, into: &mut Encoder) {
    match number {
        Number::Int(value) => into.u8(1).i64(value),
        Number::UInt(value) => into.u8(2).u64(value),
        Number::Float(value) => into.u8(3).f64(value),
    };
}

fn decode_number(from: &mut Decoder<'_>) -> Result<Number, DecodeError> {
    Ok(match from.u8()? {
        1 => Number::Int(from.i64()?),
        2 => Number::UInt(from.u64()?),
        3 => Number::Float(from.f64()?),
        other => return Err(from.error(format!("no kind of number has code {other}"))),
    })
}

impl Coded for Payload {
    fn encode(&self, into: &mut Encoder) {
        match self {
            Self::Array(None) => {
                into.u8(0);
            }
            Self::Array(Some(stats)) => {
                into.u8(1);
                encode_number(stats.min, into);
                encode_number(stats.max, into);
                into.u64(stats.nans);
            }
            Self::Value(bytes) => {
                into.u8(2).bytes(bytes);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Array(None),
            1 => Self::Array(Some(Stats {
                min: decode_number(from)?,
                max: decode_number(from)?,
                nans: from.u64()?,
            })),
            2 => Self::Value(from.bytes()?.to_vec()),
            other => return Err(from.error(format!("no payload has code {other}"))),
        })
    }
}

/// Bytes of a record's byte form before its payloads: the head and two digests.
pub(crate) const RECORD_FRONT_BYTES: usize = 49;

/// Appends what a step's blocks carry, as a record holds it.
fn encode_payloads(payloads: &[Vec<Payload>], into: &mut Encoder) {
    into.length(payloads.len());
    for payloads in payloads {
        into.length(payloads.len());
        payloads.iter().for_each(|payload| payload.encode(into));
    }
}

impl StepRecord {
    /// How many bytes its byte form has.
    pub(crate) fn encoded_bytes(&self) -> u64 {
        let payload = |payload: &Payload| match payload {
            Payload::Array(None) => 1,
            Payload::Array(Some(_)) => 27,
            Payload::Value(bytes) => 5 + bytes.len() as u64,
        };
        let entries = self.payloads.iter();
        let entries = entries.map(|payloads| 4 + payloads.iter().map(payload).sum::<u64>());
        RECORD_FRONT_BYTES as u64 + 4 + entries.sum::<u64>()
    }
}

impl Coded for StepHead {
    fn encode(&self, into: &mut Encoder) {
        into.u64(self.epoch).u64(self.step).u64(self.wall_clock_ns);
        into.u8(u8::from(self.time.sim.is_some()))
            .f64(self.time.sim.unwrap_or_default());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (epoch, step, wall_clock_ns) = (from.u64()?, from.u64()?, from.u64()?);
        let (has_time, time) = (from.u8()? != 0, from.f64()?);
        Ok(Self {
            epoch,
            step,
            wall_clock_ns,
            time: StepTime {
                sim: has_time.then_some(time),
            },
        })
    }
}

impl Coded for StepRecord {
    fn encode(&self, into: &mut Encoder) {
        self.head.encode(into);
        into.u64(self.schema_digest).u64(self.layout_digest);
        encode_payloads(&self.payloads, into);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let head = StepHead::decode(from)?;
        let (schema_digest, layout_digest) = (from.u64()?, from.u64()?);
        let mut payloads = Vec::new();
        for _ in 0..from.count(4)? {
            payloads.push(
                (0..from.count(1)?)
                    .map(|_| Payload::decode(from))
                    .collect::<Result<_, _>>()?,
            );
        }
        Ok(Self {
            head,
            schema_digest,
            layout_digest,
            payloads,
        })
    }
}
