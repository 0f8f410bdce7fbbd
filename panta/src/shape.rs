//! What a variable is when it is defined: shape, dimension names, unit.

use std::marker::PhantomData;

use panta_core::model::{Accuracy, DType, Definition, Element, ShapeKind};

/// A type that a variable can hold: any [`Element`], or `str` for strings,
/// which can be global or local values only.
pub trait Storable {
    /// The type's runtime name.
    const DTYPE: DType;

    /// The value's bytes as they are stored: little-endian, or UTF-8.
    fn to_stored(&self) -> Vec<u8>;
}

impl Storable for str {
    const DTYPE: DType = DType::Text;

    fn to_stored(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl<T: Element> Storable for T {
    const DTYPE: DType = <T as Element>::DTYPE;

    fn to_stored(&self) -> Vec<u8> {
        // SAFETY: an element is plain data without padding, `size_of::<T>()`
        // bytes long, borrowed here.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast::<u8>(), size_of::<T>()) }
            .to_vec()
    }
}

/// The handle of a variable of one writer.
pub struct Var<T: Storable + ?Sized> {
    pub(crate) index: usize,
    pub(crate) element: PhantomData<fn(&T)>,
}

impl<T: Storable + ?Sized> Clone for Var<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Storable + ?Sized> Copy for Var<T> {}

impl<T: Storable + ?Sized> std::fmt::Debug for Var<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Var<{}>({})", T::DTYPE, self.index)
    }
}

/// A variable's shape and what goes with it. Dimensions are listed slowest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    kind: ShapeKind,
    shape: Vec<u64>,
    dims: Vec<String>,
    unit: String,
    coordinates: Vec<String>,
    fill: Option<(DType, Vec<u8>)>,
    chunk: Option<Vec<u64>>,
    accuracy: Option<Accuracy>,
}

impl Shape {
    fn new(kind: ShapeKind, shape: Vec<u64>) -> Self {
        Self {
            kind,
            shape,
            dims: Vec::new(),
            unit: String::new(),
            coordinates: Vec::new(),
            fill: None,
            chunk: None,
            accuracy: None,
        }
    }

    /// One array of this many elements per dimension; blocks are boxes of it.
    #[must_use]
    pub fn global(shape: impl AsRef<[u64]>) -> Self {
        Self::new(ShapeKind::GlobalArray, shape.as_ref().to_vec())
    }

    /// Blocks of any size with `dimensions` dimensions, read one by one.
    #[must_use]
    pub fn local(dimensions: usize) -> Self {
        Self::new(ShapeKind::LocalArray, vec![0; dimensions])
    }

    /// Blocks joined along dimension `axis` in the order (rank, put order); `shape`
    /// gives the other dimensions, its entry for `axis` does not count.
    #[must_use]
    pub fn joined(axis: usize, shape: impl AsRef<[u64]>) -> Self {
        let mut shape = shape.as_ref().to_vec();
        if let Some(joined) = shape.get_mut(axis) {
            *joined = 0;
        }
        let axis = u8::try_from(axis).unwrap_or(u8::MAX);
        Self::new(ShapeKind::JoinedArray { axis }, shape)
    }

    /// One value for the whole stream.
    #[must_use]
    pub fn global_value() -> Self {
        Self::new(ShapeKind::GlobalValue, Vec::new())
    }

    /// One value for each put; readers see a 1-D array in the order (rank, put order).
    #[must_use]
    pub fn local_value() -> Self {
        Self::new(ShapeKind::LocalValue, Vec::new())
    }

    /// Names the dimensions, slowest first.
    #[must_use]
    pub fn dims<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.dims = names.into_iter().map(Into::into).collect();
        self
    }

    /// The unit of the elements.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// Names the variables that hold the coordinates.
    #[must_use]
    pub fn coordinates<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.coordinates = names.into_iter().map(Into::into).collect();
        self
    }

    /// What readers get for cells that no block covers. Without it they get an error.
    #[must_use]
    pub fn fill<T: Element>(mut self, value: T) -> Self {
        self.fill = Some((<T as Element>::DTYPE, value.to_stored()));
        self
    }

    /// Elements per dimension of the chunks by which staging servers index.
    #[must_use]
    pub fn chunk(mut self, chunk: impl AsRef<[u64]>) -> Self {
        self.chunk = Some(chunk.as_ref().to_vec());
        self
    }

    /// How far the numbers that readers get may be from those that are put: they are rounded
    /// to the fewest bits that keep this, the same on every engine, which is what makes
    /// `compress` shrink them. Arrays of floating-point and complex numbers only.
    ///
    /// What is put or lent is not changed, and where it would else be taken from its place it is
    /// copied once; what is computed into a span is rounded there.
    #[must_use]
    pub fn accuracy(mut self, accuracy: Accuracy) -> Self {
        self.accuracy = Some(accuracy);
        self
    }

    /// The definition of a variable of this shape.
    pub(crate) fn define(
        self,
        name: &str,
        dtype: DType,
    ) -> Result<Definition, panta_core::model::DefinitionError> {
        if let Some((fill, _)) = &self.fill
            && *fill != dtype
        {
            return Err(panta_core::model::DefinitionError {
                name: name.to_owned(),
                problem: format!("its fill value is {fill}, its elements are {dtype}"),
            });
        }
        Ok(Definition {
            name: name.to_owned(),
            dtype,
            kind: self.kind,
            shape: self.shape,
            dims: self.dims,
            unit: self.unit,
            coordinates: self.coordinates,
            fill: self.fill.map(|(_, bytes)| bytes),
            chunk: self.chunk,
            accuracy: self.accuracy,
        })
    }
}
