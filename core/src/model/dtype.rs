//! Element types: what a variable's cells are made of.

use std::fmt;

pub use num_complex::{Complex32, Complex64};

/// The type of a variable's elements. The codes are frozen: files and wire carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DType {
    /// Signed, 8 bits.
    I8 = 1,
    /// Signed, 16 bits.
    I16 = 2,
    /// Signed, 32 bits.
    I32 = 3,
    /// Signed, 64 bits.
    I64 = 4,
    /// Unsigned, 8 bits.
    U8 = 5,
    /// Unsigned, 16 bits.
    U16 = 6,
    /// Unsigned, 32 bits.
    U32 = 7,
    /// Unsigned, 64 bits.
    U64 = 8,
    /// IEEE 754 binary32.
    F32 = 9,
    /// IEEE 754 binary64.
    F64 = 10,
    /// Two binary32: real, imaginary.
    C64 = 11,
    /// Two binary64: real, imaginary.
    C128 = 12,
    /// One byte, 0 or 1.
    Bool = 13,
    /// UTF-8 text; only as a global or local value.
    Text = 14,
}

impl DType {
    /// Every type, in the order of their codes.
    pub const ALL: [Self; 14] = [
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::F32,
        Self::F64,
        Self::C64,
        Self::C128,
        Self::Bool,
        Self::Text,
    ];

    /// The type of a stored code, if there is one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| *dtype as u8 == code)
    }

    /// Bytes of one element; 0 for text, whose length varies.
    #[must_use]
    pub fn size_bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 | Self::C64 => 8,
            Self::C128 => 16,
            Self::Text => 0,
        }
    }

    /// The name users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::C64 => "complex64",
            Self::C128 => "complex128",
            Self::Bool => "bool",
            Self::Text => "string",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that can be an array's element.
///
/// Sealed: the set is closed, its layouts are frozen in files and on the wire.
pub trait Element:
    sealed::Sealed
    + bytemuck::Zeroable
    + Copy
    + Default
    + PartialEq
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// The type's runtime name.
    const DTYPE: DType;

    /// Whether every element in `bytes` is a valid one.
    #[must_use]
    fn are_valid(_bytes: &[u8]) -> bool {
        true
    }
}

/// An [`Element`] every bit pattern of which is valid, so that memory of it
/// can be shared with a transport. All but `bool`.
pub trait Pod: Element + bytemuck::Pod {}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),* $(,)?) => {
        $(impl sealed::Sealed for $rust {}
        impl Element for $rust { const DTYPE: DType = DType::$dtype; }
        impl Pod for $rust {})*
    };
}

elements! {
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    f32 => F32, f64 => F64, Complex32 => C64, Complex64 => C128,
}

impl sealed::Sealed for bool {}
impl Element for bool {
    const DTYPE: DType = DType::Bool;

    fn are_valid(bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| *byte <= 1)
    }
}

/// Where an array's memory is. Only the host's can be put from and got into now;
/// the others are named so that they can be refused clearly, and come later
/// without a change of interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemorySpace {
    /// Memory of the host.
    #[default]
    Host,
    /// Memory of a CUDA device.
    Cuda,
    /// Memory of a ROCm device.
    Rocm,
    /// Memory of a SYCL or Level Zero device.
    LevelZero,
}
