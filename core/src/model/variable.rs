//! Definitions of variables: name, element type, shape kind, dimension names, unit.

use super::accuracy::Accuracy;
use super::dtype::DType;
use super::rounding::Rounding;

/// The most dimensions a variable can have (Fortran's limit of 15 fits).
pub const MAX_DIMS: usize = 16;
/// The longest name of a variable, dimension, attribute or unit, in bytes.
pub const MAX_NAME_BYTES: usize = 4096;

/// How the blocks of a variable lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShapeKind {
    /// Blocks are boxes of one array of a known shape.
    GlobalArray,
    /// Blocks stand for themselves; they are read one by one.
    LocalArray,
    /// Blocks are joined along `axis` in the order (rank, put order).
    JoinedArray {
        /// The dimension along which rows of differing count join.
        axis: u8,
    },
    /// One value for the stream; the highest (rank, put order) wins.
    GlobalValue,
    /// One value per put, read as a 1-D array in the order (rank, put order).
    LocalValue,
}

impl ShapeKind {
    /// The name users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GlobalArray => "global array",
            Self::LocalArray => "local array",
            Self::JoinedArray { .. } => "joined array",
            Self::GlobalValue => "global value",
            Self::LocalValue => "local value",
        }
    }

    /// Whether it is one of the two kinds of value.
    #[must_use]
    pub fn is_value(self) -> bool {
        matches!(self, Self::GlobalValue | Self::LocalValue)
    }
}

/// A variable as its writer declared it.
///
/// `dtype`, the number of dimensions and the dimension names stay fixed for an
/// epoch of the stream; `shape`, `chunk` and `accuracy` may change from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// The variable's name, unique in its stream.
    pub name: String,
    /// What its elements are.
    pub dtype: DType,
    /// How its blocks lie to each other.
    pub kind: ShapeKind,
    /// Elements per dimension, slowest first. Global arrays: the whole shape.
    /// Joined arrays: the shape with 0 along the joined axis. Local arrays:
    /// zeros, one for each dimension. Values: empty.
    pub shape: Vec<u64>,
    /// Names of the dimensions; empty, or one for each.
    pub dims: Vec<String>,
    /// The unit of the elements, as text for people; empty if none.
    pub unit: String,
    /// Names of the variables that hold the coordinates; may be empty.
    pub coordinates: Vec<String>,
    /// One element's bytes, little-endian, for cells that no block covers.
    pub fill: Option<Vec<u8>>,
    /// Elements per dimension of the chunks by which staging indexes; chosen
    /// by the engine if `None`.
    pub chunk: Option<Vec<u64>>,
    /// How far the numbers of its arrays may be from those that are put; exact if `None`.
    pub accuracy: Option<Accuracy>,
}

/// Why a variable cannot be defined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("variable `{name}` cannot be defined: {problem}")]
pub struct DefinitionError {
    /// The variable.
    pub name: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl Definition {
    /// The number of dimensions.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.shape.len()
    }

    /// Checks that the parts agree with each other and keep within limits.
    ///
    /// # Errors
    /// [`DefinitionError`] naming the first part that is wrong.
    pub fn check(&self) -> Result<(), DefinitionError> {
        match self.problem() {
            None => Ok(()),
            Some(problem) => Err(DefinitionError {
                name: self.name.clone(),
                problem,
            }),
        }
    }

    fn problem(&self) -> Option<String> {
        let dimensions = self.dimensions();
        let names = self
            .dims
            .iter()
            .chain(&self.coordinates)
            .chain([&self.unit, &self.name]);
        if self.name.is_empty() {
            return Some("its name is empty".into());
        }
        if names
            .clone()
            .any(|name| name.len() > MAX_NAME_BYTES || name.contains('\0'))
        {
            return Some(format!(
                "a name is longer than {MAX_NAME_BYTES} bytes or holds a zero byte"
            ));
        }
        if dimensions > MAX_DIMS || self.coordinates.len() > MAX_DIMS {
            return Some(format!(
                "it has {dimensions} dimensions, the limit is {MAX_DIMS}"
            ));
        }
        if self.kind.is_value() != (dimensions == 0) {
            return Some(format!(
                "a {} cannot have {dimensions} dimensions",
                self.kind.name()
            ));
        }
        if self.dtype == DType::Text && !self.kind.is_value() {
            return Some("strings can be global or local values only, not arrays".into());
        }
        if !self.dims.is_empty() && self.dims.len() != dimensions {
            return Some(format!(
                "it has {dimensions} dimensions but {} dimension names",
                self.dims.len()
            ));
        }
        if let ShapeKind::JoinedArray { axis } = self.kind
            && usize::from(axis) >= dimensions
        {
            return Some(format!(
                "it joins along dimension {axis} but has only {dimensions}"
            ));
        }
        self.sizes_problem()
    }

    fn sizes_problem(&self) -> Option<String> {
        if self.byte_size(&self.shape).is_none() {
            return Some(format!(
                "its shape {:?} is larger than 2^63 bytes",
                self.shape
            ));
        }
        if let Some(fill) = &self.fill
            && fill.len() != self.dtype.size_bytes()
        {
            return Some(format!(
                "its fill value has {} bytes, a {} has {}",
                fill.len(),
                self.dtype,
                self.dtype.size_bytes()
            ));
        }
        if let Some(chunk) = &self.chunk {
            if self.kind != ShapeKind::GlobalArray {
                return Some("only global arrays have chunks".into());
            }
            if chunk.len() != self.dimensions() || chunk.contains(&0) {
                return Some(format!(
                    "its chunk {chunk:?} must have {} sides of at least 1",
                    self.dimensions()
                ));
            }
        }
        if self.accuracy.is_some() && self.kind.is_value() {
            return Some(format!(
                "it has an accuracy, but a {} is kept exactly; only arrays are rounded",
                self.kind.name()
            ));
        }
        self.accuracy
            .and_then(|accuracy| accuracy.problem(self.dtype))
    }

    /// How its numbers are rounded when they are put; `None` if not at all.
    #[must_use]
    pub fn rounding(&self) -> Option<Rounding> {
        Rounding::new(self.accuracy?, self.dtype)
    }

    /// Bytes of a box of `count` elements, if below 2^63.
    #[must_use]
    pub fn byte_size(&self, count: &[u64]) -> Option<u64> {
        let element = self.dtype.size_bytes() as u64;
        let bytes = count
            .iter()
            .try_fold(element, |bytes, side| bytes.checked_mul(*side))?;
        (bytes <= i64::MAX as u64).then_some(bytes)
    }

    /// What must stay the same for an epoch, and differs from `other`; `None` if nothing.
    #[must_use]
    pub fn fixed_difference(&self, other: &Self) -> Option<String> {
        if self.dtype != other.dtype {
            return Some(format!("dtype {} and {}", self.dtype, other.dtype));
        }
        if self.kind != other.kind {
            return Some(format!("{} and {}", self.kind.name(), other.kind.name()));
        }
        if self.dimensions() != other.dimensions() {
            return Some(format!(
                "{} and {} dimensions",
                self.dimensions(),
                other.dimensions()
            ));
        }
        if self.dims != other.dims {
            return Some(format!(
                "dimension names {:?} and {:?}",
                self.dims, other.dims
            ));
        }
        None
    }

    /// The first part in which two definitions differ, in words; `None` if equal.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        if let Some(fixed) = self.fixed_difference(other) {
            return Some(fixed);
        }
        if self.shape != other.shape {
            return Some(format!("shape {:?} and {:?}", self.shape, other.shape));
        }
        if self.unit != other.unit {
            return Some(format!("unit `{}` and `{}`", self.unit, other.unit));
        }
        if self.chunk != other.chunk {
            return Some(format!("chunk {:?} and {:?}", self.chunk, other.chunk));
        }
        if self.accuracy != other.accuracy {
            let named = |it: Option<Accuracy>| it.map_or("none".into(), |it| it.to_string());
            let (one, other) = (named(self.accuracy), named(other.accuracy));
            return Some(format!("accuracy {one} and {other}"));
        }
        (self != other).then(|| "fill values or coordinates".into())
    }
}
