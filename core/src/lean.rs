//! What goes from rank to rank with every step, in few bytes.
//!
//! ```text
//! number   seven bits a byte, the lowest first; what may be below zero by turns: 0 -1 1 -2 …
//! payload  0 | an array without statistics
//!          1 | length | a value
//!          2 | statistics as a record has them
//!          8… | kind 0…2, +4: of single precision, +16: NaNs follow | smallest | largest | NaNs
//! ```
//! Nothing of this is kept: what is stored or named by a digest has the form of [`codec`](crate::codec).

use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::model::{Dims, MAX_DIMS, Number, Payload, Stats};

const NO_STATS: u8 = 0;
const VALUE: u8 = 1;
const AS_STORED: u8 = 2;
const STATS: u8 = 8;
const INT: u8 = 0;
const UINT: u8 = 1;
const FLOAT: u8 = 2;
const SINGLE: u8 = 4;
const NANS: u8 = 16;

/// Appends a number.
pub(crate) fn put(mut value: u64, into: &mut Encoder) {
    while value >= 0x80 {
        into.u8(value as u8 | 0x80);
        value >>= 7;
    }
    into.u8(value as u8);
}

/// Takes a number.
pub(crate) fn take(from: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = from.u8()?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(from.error("a number of more than 64 bits"))
}

/// Takes a number of 32 bits.
pub(crate) fn take_u32(from: &mut Decoder<'_>) -> Result<u32, DecodeError> {
    u32::try_from(take(from)?).map_err(|_| from.error("a number of more than 32 bits"))
}

/// Takes a count of things of a byte each at least.
pub(crate) fn count(from: &mut Decoder<'_>) -> Result<usize, DecodeError> {
    let (count, left) = (take(from)?, from.left());
    match usize::try_from(count) {
        Ok(count) if count <= left => Ok(count),
        _ => Err(from.error(format!("{count} items announced, {left} bytes left"))),
    }
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(bytes: &[u8], into: &mut Encoder) {
    put(bytes.len() as u64, into);
    into.raw(bytes);
}

/// Takes a length and that many bytes.
pub(crate) fn take_bytes<'b>(from: &mut Decoder<'b>) -> Result<&'b [u8], DecodeError> {
    let length = count(from)?;
    from.take(length)
}

/// Appends one number for each dimension.
pub(crate) fn put_dims(dims: &[u64], into: &mut Encoder) {
    put(dims.len() as u64, into);
    dims.iter().for_each(|dim| put(*dim, into));
}

/// Takes one number for each dimension.
pub(crate) fn take_dims(from: &mut Decoder<'_>) -> Result<Dims, DecodeError> {
    let count = count(from)?;
    if count > MAX_DIMS {
        return Err(from.error(format!("{count} dimensions, the limit is {MAX_DIMS}")));
    }
    (0..count).map(|_| take(from)).collect()
}

/// Small whatever its sign, if it is near zero.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn single(value: f64) -> Option<f32> {
    let narrow = value as f32;
    (f64::from(narrow).to_bits() == value.to_bits()).then_some(narrow)
}

/// Appends what a block carries.
pub(crate) fn put_payload(payload: &Payload, into: &mut Encoder) {
    let stats = match payload {
        Payload::Array(None) => {
            into.u8(NO_STATS);
            return;
        }
        Payload::Value(bytes) => return put_bytes(bytes, into.u8(VALUE)),
        Payload::Array(Some(stats)) => stats,
    };
    let nans = if stats.nans > 0 { NANS } else { 0 };
    let mut kind = |kind: u8| {
        into.u8(STATS | kind | nans);
    };
    match (stats.min, stats.max) {
        (Number::Int(min), Number::Int(max)) => {
            kind(INT);
            put(zigzag(min), into);
            put(max.wrapping_sub(min) as u64, into);
        }
        (Number::UInt(min), Number::UInt(max)) => {
            kind(UINT);
            put(min, into);
            put(max.wrapping_sub(min), into);
        }
        (Number::Float(min), Number::Float(max)) => match (single(min), single(max)) {
            (Some(min), Some(max)) => {
                kind(FLOAT | SINGLE);
                into.u32(min.to_bits()).u32(max.to_bits());
            }
            _ => {
                kind(FLOAT);
                into.f64(min).f64(max);
            }
        },
        _ => return payload.encode(into.u8(AS_STORED)),
    }
    if nans != 0 {
        put(stats.nans, into);
    }
}

/// Takes what a block carries.
pub(crate) fn take_payload(from: &mut Decoder<'_>) -> Result<Payload, DecodeError> {
    let kind = from.u8()?;
    let (min, max) = match kind & !NANS {
        NO_STATS if kind == NO_STATS => return Ok(Payload::Array(None)),
        VALUE if kind == VALUE => return Ok(Payload::Value(take_bytes(from)?.to_vec())),
        AS_STORED if kind == AS_STORED => return Payload::decode(from),
        both if both == STATS | INT => {
            let min = unzigzag(take(from)?);
            let max = min.wrapping_add(take(from)? as i64);
            (Number::Int(min), Number::Int(max))
        }
        both if both == STATS | UINT => {
            let min = take(from)?;
            (
                Number::UInt(min),
                Number::UInt(min.wrapping_add(take(from)?)),
            )
        }
        both if both == STATS | FLOAT => (Number::Float(from.f64()?), Number::Float(from.f64()?)),
        both if both == STATS | FLOAT | SINGLE => {
            let mut single = || from.u32().map(|bits| f64::from(f32::from_bits(bits)));
            (Number::Float(single()?), Number::Float(single()?))
        }
        other => return Err(from.error(format!("no payload has code {other}"))),
    };
    let nans = if kind & NANS != 0 { take(from)? } else { 0 };
    Ok(Payload::Array(Some(Stats { min, max, nans })))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn there_and_back(payload: &Payload) -> usize {
        let mut encoder = Encoder::default();
        put_payload(payload, &mut encoder);
        let bytes = encoder.finish();
        let mut from = Decoder::new(&bytes);
        assert_eq!(&take_payload(&mut from).unwrap(), payload);
        from.finish().unwrap();
        for end in 0..bytes.len() {
            assert!(take_payload(&mut Decoder::new(&bytes[..end])).is_err());
        }
        bytes.len()
    }

    fn stats(min: Number, max: Number, nans: u64) -> Payload {
        Payload::Array(Some(Stats { min, max, nans }))
    }

    #[test]
    fn what_a_block_carries_comes_back_in_few_bytes() {
        use Number::{Float, Int, UInt};
        for (payload, bytes) in [
            (Payload::Array(None), 1),
            (Payload::Value(vec![1, 2, 3]), 5),
            (stats(Int(-3), Int(5), 0), 3),
            (stats(Int(i64::MIN), Int(i64::MAX), u64::MAX), 31),
            (stats(UInt(0), UInt(255), 1), 5),
            (stats(UInt(u64::MAX), UInt(u64::MAX), 0), 12),
            (stats(Float(0.1), Float(0.2), 0), 17),
            (stats(Float(0.1_f32.into()), Float(-0.0), 3), 10),
            (stats(Float(f64::INFINITY), Float(f64::NEG_INFINITY), 0), 9),
            (stats(Int(1), Float(1.0), 0), 28),
        ] {
            assert_eq!(there_and_back(&payload), bytes, "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back(value: u64, signed: i64) {
            let mut encoder = Encoder::default();
            put(value, &mut encoder);
            put(zigzag(signed), &mut encoder);
            let bytes = encoder.finish();
            let mut from = Decoder::new(&bytes);
            prop_assert_eq!(take(&mut from), Ok(value));
            prop_assert_eq!(take(&mut from).map(unzigzag), Ok(signed));
            prop_assert_eq!(from.finish(), Ok(()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = take_payload(&mut Decoder::new(&bytes));
            let _ = take_dims(&mut Decoder::new(&bytes));
            let _ = take_bytes(&mut Decoder::new(&bytes));
            let _ = take_u32(&mut Decoder::new(&bytes));
        }
    }
}
