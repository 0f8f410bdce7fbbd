//! Selections in the forms that users write them.

use ndarray::{Dimension, SliceInfo, SliceInfoElem};
use panta_core::model::{Axis, BlockId, Selection, SelectionError};

/// Anything that says which part of an array is wanted.
///
/// `..` is everything, `s![1..5, .., 3]` ndarray's slicing (an index makes its
/// dimension vanish; strides are positive), a [`BlockId`] one block, and a pair
/// `(start, count)` a box.
pub trait IntoSelection {
    /// The selection.
    ///
    /// # Errors
    /// [`SelectionError`] for what cannot be said, as a stride that runs backwards.
    fn into_selection(self) -> Result<Selection, SelectionError>;
}

impl IntoSelection for Selection {
    fn into_selection(self) -> Result<Selection, SelectionError> {
        Ok(self)
    }
}

impl IntoSelection for &Selection {
    fn into_selection(self) -> Result<Selection, SelectionError> {
        Ok(self.clone())
    }
}

impl IntoSelection for std::ops::RangeFull {
    fn into_selection(self) -> Result<Selection, SelectionError> {
        Ok(Selection::all())
    }
}

impl IntoSelection for BlockId {
    fn into_selection(self) -> Result<Selection, SelectionError> {
        Ok(Selection::block(self))
    }
}

impl<S: AsRef<[u64]>, C: AsRef<[u64]>> IntoSelection for (S, C) {
    fn into_selection(self) -> Result<Selection, SelectionError> {
        let (start, count) = (self.0.as_ref(), self.1.as_ref());
        if start.len() != count.len() {
            return Err(SelectionError::Dimensions {
                selection: start.len(),
                array: count.len(),
            });
        }
        Ok(Selection::boxed(start, count))
    }
}

impl<I: AsRef<[SliceInfoElem]>, Din: Dimension, Dout: Dimension> IntoSelection
    for SliceInfo<I, Din, Dout>
{
    fn into_selection(self) -> Result<Selection, SelectionError> {
        let axes = self.as_ref().iter().enumerate();
        let axes = axes
            .map(|(dimension, element)| axis(dimension, *element))
            .collect::<Result<_, _>>()?;
        Ok(Selection { block: None, axes })
    }
}

fn axis(dimension: usize, element: SliceInfoElem) -> Result<Axis, SelectionError> {
    Ok(match element {
        SliceInfoElem::Index(index) => Axis::Index(index as i64),
        SliceInfoElem::Slice { start, end, step } => Axis::Range {
            start: start as i64,
            stop: end.map(|end| end as i64),
            step: u64::try_from(step).map_err(|_| SelectionError::Unsupported {
                dimension,
                what: "a stride that runs backwards",
            })?,
        },
        SliceInfoElem::NewAxis => {
            return Err(SelectionError::Unsupported {
                dimension,
                what: "a new axis",
            });
        }
    })
}
