//! Attributes: small named facts about a stream or one of its variables.

use std::collections::BTreeMap;

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    UInt(u64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Text(String),
    /// An array of signed numbers.
    Ints(Vec<i64>),
    /// An array of unsigned numbers.
    UInts(Vec<u64>),
    /// An array of floating-point numbers.
    Floats(Vec<f64>),
    /// An array of texts.
    Texts(Vec<String>),
}

macro_rules! from {
    ($($source:ty => $variant:ident($convert:expr)),* $(,)?) => {
        $(impl From<$source> for Attribute {
            fn from(value: $source) -> Self { Self::$variant($convert(value)) }
        })*
    };
}

from! {
    i32 => Int(i64::from), i64 => Int(std::convert::identity),
    u32 => UInt(u64::from), u64 => UInt(std::convert::identity),
    f32 => Float(f64::from), f64 => Float(std::convert::identity),
    &str => Text(str::to_owned), String => Text(std::convert::identity),
    Vec<i64> => Ints(std::convert::identity), &[i64] => Ints(<[i64]>::to_vec),
    Vec<u64> => UInts(std::convert::identity), &[u64] => UInts(<[u64]>::to_vec),
    Vec<f64> => Floats(std::convert::identity), &[f64] => Floats(<[f64]>::to_vec),
    Vec<String> => Texts(std::convert::identity),
}

impl From<&[&str]> for Attribute {
    fn from(value: &[&str]) -> Self {
        Self::Texts(value.iter().map(|text| (*text).to_owned()).collect())
    }
}

impl<const N: usize> From<[&str; N]> for Attribute {
    fn from(value: [&str; N]) -> Self {
        Self::from(value.as_slice())
    }
}

/// Whose attribute it is: a variable's, or with `None` the stream's; and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttributeKey {
    /// The variable's name; `None` for the stream itself.
    pub variable: Option<String>,
    /// The attribute's name.
    pub name: String,
}

/// All attributes in force at a step.
pub type Attributes = BTreeMap<AttributeKey, Attribute>;
