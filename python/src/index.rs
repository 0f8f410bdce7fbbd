//! What stands between brackets, by numpy's rules.
//!
//! ```text
//! u[10:20, ::-2, ..., None, 3]  ->  a selection that runs forwards
//!                                   the shape of the result
//!                                   how the cells read lie in it: which dimension, which way
//! ```
//! Integers, slices of any step, `...` and `None` are taken. Index arrays and masks are
//! refused: they would be many reads.

use panta_core::model::{Axis, Selection};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyEllipsis, PyInt, PySlice, PyTuple};

use smallvec::SmallVec;

use crate::array::Sides;
use crate::failed::Failed;

/// A dimension of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    count: u64,
    is_reversed: bool,
    /// From `None`: the array has no such dimension.
    is_new: bool,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) selection: Selection,
    sides: SmallVec<[Side; 6]>,
    /// Only integers: numpy gives the element, not an array.
    pub(crate) is_element: bool,
}

impl Index {
    /// Everything of an array of this shape.
    pub(crate) fn all(shape: &[u64]) -> Self {
        let side = |count: &u64| Side {
            count: *count,
            is_reversed: false,
            is_new: false,
        };
        Self {
            selection: Selection::all(),
            sides: shape.iter().map(side).collect(),
            is_element: false,
        }
    }

    /// Of an array of this shape.
    pub(crate) fn parse(given: &Bound<'_, PyAny>, shape: &[u64]) -> PyResult<Self> {
        match given.cast::<PyTuple>() {
            Ok(tuple) => Self::of_items(&tuple.iter().collect::<SmallVec<[_; 6]>>(), shape),
            Err(_) => Self::of_items(std::slice::from_ref(given), shape),
        }
    }

    fn of_items(items: &[Bound<'_, PyAny>], shape: &[u64]) -> PyResult<Self> {
        let is_ellipsis = |item: &Bound<'_, PyAny>| item.is_instance_of::<PyEllipsis>();
        let ellipses = items.iter().filter(|item| is_ellipsis(item)).count();
        let named = items.iter().filter(|item| !item.is_none()).count() - ellipses;
        if ellipses > 1 {
            let message = "an index can only have a single ellipsis ('...')";
            return Err(Failed::selection(message).into());
        }
        if named > shape.len() {
            let message = format!(
                "too many indices: the array has {} dimensions, {named} were indexed",
                shape.len()
            );
            return Err(Failed::selection(message).into());
        }
        let mut index = Self {
            selection: Selection::all(),
            sides: SmallVec::new(),
            is_element: named == items.len(),
        };
        let mut lengths = shape.iter().copied().enumerate();
        for item in items {
            if item.is_none() {
                index.sides.push(Side {
                    count: 1,
                    is_reversed: false,
                    is_new: true,
                });
            } else if is_ellipsis(item) {
                for (_, length) in lengths.by_ref().take(shape.len() - named) {
                    index.push_all(length);
                }
            } else if let Some((dimension, length)) = lengths.next() {
                index.push(item, dimension, length)?;
            }
        }
        for (_, length) in lengths {
            index.is_element = false;
            index.push_all(length);
        }
        index.is_element &= index.sides.is_empty();
        Ok(index)
    }

    fn push_all(&mut self, count: u64) {
        self.selection.axes.push(Axis::ALL);
        self.sides.push(Side {
            count,
            is_reversed: false,
            is_new: false,
        });
    }

    fn push(&mut self, item: &Bound<'_, PyAny>, dimension: usize, length: u64) -> PyResult<()> {
        if let Ok(slice) = item.cast::<PySlice>() {
            return self.push_slice(slice, length);
        }
        let position = integer(item, dimension)?;
        let signed = i64::try_from(length).unwrap_or(i64::MAX);
        if position < -signed || position >= signed {
            let message = format!(
                "index {position} is out of bounds for axis {dimension} with size {length}"
            );
            return Err(Failed::selection(message).into());
        }
        self.selection.axes.push(Axis::Index(position));
        Ok(())
    }

    fn push_slice(&mut self, slice: &Bound<'_, PySlice>, length: u64) -> PyResult<()> {
        let indices = slice.indices(isize::try_from(length).unwrap_or(isize::MAX))?;
        let (count, step) = (
            indices.slicelength as u64,
            indices.step.unsigned_abs() as u64,
        );
        let is_reversed = indices.step < 0;
        let first = if count == 0 {
            0
        } else if is_reversed {
            indices.start as u64 - (count - 1) * step
        } else {
            indices.start as u64
        };
        // From the first to just after the last: what a stride reaches beyond is not asked for.
        let stop = first + count.saturating_sub(1) * step + u64::from(count > 0);
        self.selection.axes.push(Axis::Range {
            start: first as i64,
            stop: Some(stop as i64),
            step,
        });
        self.sides.push(Side {
            count,
            is_reversed,
            is_new: false,
        });
        Ok(())
    }

    /// The shape of the result.
    pub(crate) fn shape(&self) -> Sides {
        self.sides.iter().map(|side| side.count).collect()
    }

    /// Where the cells go in an array of the result's shape: the first byte's offset, and
    /// the strides of the dimensions that the array read from has.
    pub(crate) fn placed(&self, strides_bytes: &[i64]) -> (isize, SmallVec<[i64; 6]>) {
        let mut offset = 0;
        let mut strides = SmallVec::new();
        for (side, stride) in self.sides.iter().zip(strides_bytes) {
            if side.is_new {
                continue;
            }
            if side.is_reversed && side.count > 0 {
                offset += (side.count - 1) as isize * *stride as isize;
                strides.push(-stride);
            } else {
                strides.push(*stride);
            }
        }
        (offset, strides)
    }
}

fn integer(item: &Bound<'_, PyAny>, dimension: usize) -> PyResult<i64> {
    let refuse = || {
        let class = item.get_type();
        let message = format!(
            "axis {dimension} is indexed by {class}; integers, slices, '...' and None can be, \
             index arrays and masks only after reading: step[name][...][index]"
        );
        PyErr::from(Failed::selection(message))
    };
    if item.is_instance_of::<PyBool>() {
        return Err(refuse());
    }
    let far = |_| {
        let message = format!("index {item} is out of bounds for axis {dimension}");
        PyErr::from(Failed::selection(message))
    };
    if let Ok(position) = item.cast::<PyInt>() {
        return position.extract().map_err(far);
    }
    match item.call_method0(pyo3::intern!(item.py(), "__index__")) {
        Ok(position) => position.extract().map_err(far),
        Err(error) if error.is_instance_of::<PyTypeError>(item.py()) => Err(refuse()),
        Err(error) if item.hasattr("__index__")? => Err(error),
        Err(_) => Err(refuse()),
    }
}
