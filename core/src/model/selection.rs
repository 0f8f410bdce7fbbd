//! Selections: which part of an array a reader wants.

use super::block::{BlockId, Dims};

/// What is wanted along one dimension. Negative positions count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// One position; the dimension vanishes from the result.
    Index(i64),
    /// Positions `start`, `start + step`, … below `stop` (the end if `None`).
    Range {
        /// The first position.
        start: i64,
        /// The position after the last; `None` for the end.
        stop: Option<i64>,
        /// The stride, at least 1.
        step: u64,
    },
}

impl Axis {
    /// The whole dimension.
    pub const ALL: Self = Self::Range {
        start: 0,
        stop: None,
        step: 1,
    };
}

impl std::fmt::Display for Axis {
    /// As errors say it: "cells 3 to 7, one in 2".
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (start, stop, step) = match *self {
            Self::Index(position) => return write!(formatter, "cell {position}"),
            Self::Range { start, stop, step } => (start, stop, step),
        };
        match stop {
            None => write!(formatter, "cells from {start}")?,
            Some(stop) if stop > start => write!(formatter, "cells {start} to {}", stop - 1)?,
            Some(_) => write!(formatter, "no cells at {start}")?,
        }
        match step {
            1 => Ok(()),
            step => write!(formatter, ", one in {step}"),
        }
    }
}

/// A part of a variable within one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The block it is taken of; `None` for the whole array.
    pub block: Option<BlockId>,
    /// One entry for each dimension; empty for everything.
    pub axes: Vec<Axis>,
}

impl Selection {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self {
            block: None,
            axes: Vec::new(),
        }
    }

    /// The box of `count` cells that begins at `start`.
    #[must_use]
    pub fn boxed(start: &[u64], count: &[u64]) -> Self {
        let signed = |position: u64| i64::try_from(position).unwrap_or(i64::MAX);
        let axes = start
            .iter()
            .zip(count)
            .map(|(start, count)| Axis::Range {
                start: signed(*start),
                stop: Some(signed(start.saturating_add(*count))),
                step: 1,
            })
            .collect();
        Self { block: None, axes }
    }

    /// One block, whole.
    #[must_use]
    pub fn block(block: BlockId) -> Self {
        Self {
            block: Some(block),
            axes: Vec::new(),
        }
    }

    /// The same part taken within `block`, positions relative to its first cell.
    #[must_use]
    pub fn within(self, block: BlockId) -> Self {
        Self {
            block: Some(block),
            ..self
        }
    }

    /// Resolves the selection against an array's (or block's) shape.
    ///
    /// # Errors
    /// [`SelectionError`] if it has the wrong number of dimensions or reaches outside.
    pub fn resolve(&self, shape: &[u64]) -> Result<Region, SelectionError> {
        Region::of(&self.axes, shape)
    }
}

/// A selection resolved against a shape: `count` cells from `start`, every
/// `step`-th, per dimension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// First cell per dimension.
    pub start: Dims,
    /// Cells taken per dimension.
    pub count: Dims,
    /// Distance between them per dimension, at least 1.
    pub step: Dims,
    /// Which dimensions were picked by index and vanish from the result.
    pub squeezed: smallvec::SmallVec<[bool; 6]>,
}

impl Region {
    /// What `axes` select of a shape; none of them: everything.
    ///
    /// # Errors
    /// [`SelectionError`] if they are too few or many, or reach outside.
    pub fn of(axes: &[Axis], shape: &[u64]) -> Result<Self, SelectionError> {
        if !axes.is_empty() && axes.len() != shape.len() {
            return Err(SelectionError::Dimensions {
                selection: axes.len(),
                array: shape.len(),
            });
        }
        let mut region = Self::default();
        for (dimension, length) in shape.iter().enumerate() {
            let axis = axes.get(dimension).copied().unwrap_or(Axis::ALL);
            region.push(axis, dimension, *length)?;
        }
        Ok(region)
    }

    fn push(&mut self, axis: Axis, dimension: usize, length: u64) -> Result<(), SelectionError> {
        let outside = || SelectionError::Outside {
            dimension,
            axis,
            length,
        };
        let from_end = |position: i64| {
            if position < 0 {
                length.checked_sub(position.unsigned_abs())
            } else {
                u64::try_from(position).ok()
            }
        };
        let (start, stop, step, squeezed) = match axis {
            Axis::Index(position) => {
                let start = from_end(position)
                    .filter(|start| *start < length)
                    .ok_or_else(outside)?;
                (start, start + 1, 1, true)
            }
            Axis::Range { step: 0, .. } => return Err(SelectionError::ZeroStep { dimension }),
            Axis::Range { start, stop, step } => {
                let start = from_end(start).ok_or_else(outside)?;
                let stop = stop.map_or(Some(length), from_end).ok_or_else(outside)?;
                (start, stop, step, false)
            }
        };
        if stop > length || start > stop {
            return Err(outside());
        }
        self.start.push(start);
        self.count.push((stop - start).div_ceil(step));
        self.step.push(step);
        self.squeezed.push(squeezed);
        Ok(())
    }

    /// The shape of the result: `count` without the squeezed dimensions.
    #[must_use]
    pub fn result_shape(&self) -> Dims {
        self.count
            .iter()
            .zip(&self.squeezed)
            .filter(|(_, squeezed)| !**squeezed)
            .map(|(count, _)| *count)
            .collect()
    }

    /// Cells per dimension of the smallest box that holds the region.
    #[must_use]
    pub fn extent(&self) -> Vec<u64> {
        self.count
            .iter()
            .zip(&self.step)
            .map(|(count, step)| {
                if *count == 0 {
                    0
                } else {
                    (count - 1) * step + 1
                }
            })
            .collect()
    }
}

/// Why a selection does not fit its array.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// It has another number of dimensions.
    #[error("the selection has {selection} dimensions, the array has {array}")]
    Dimensions {
        /// Dimensions of the selection.
        selection: usize,
        /// Dimensions of the array.
        array: usize,
    },
    /// It reaches outside.
    #[error(
        "the selection of {axis} reaches outside dimension {dimension}, which has {length} cells"
    )]
    Outside {
        /// The dimension, counted from 0, slowest first.
        dimension: usize,
        /// What was asked for along it.
        axis: Axis,
        /// Its length.
        length: u64,
    },
    /// A stride that runs backwards, or an axis that the array does not have.
    #[error(
        "{what} along dimension {dimension} is not supported; read forwards and reverse the result"
    )]
    Unsupported {
        /// The dimension.
        dimension: usize,
        /// What was asked for.
        what: &'static str,
    },
    /// A stride of zero.
    #[error("the stride along dimension {dimension} is 0; it must be at least 1")]
    ZeroStep {
        /// The dimension.
        dimension: usize,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_index_squeezes_and_a_stride_rounds_up() {
        let axes = vec![
            Axis::Range {
                start: 1,
                stop: None,
                step: 3,
            },
            Axis::Index(-1),
        ];
        let region = Selection { block: None, axes }.resolve(&[9, 5]).unwrap();
        assert_eq!(
            (region.start.clone(), region.count.clone()),
            (Dims::from_slice(&[1, 4]), Dims::from_slice(&[3, 1]))
        );
        assert_eq!(region.result_shape()[..], [3]);
        assert_eq!(region.extent(), vec![7, 1]);
    }

    #[test]
    fn a_box_outside_the_array_is_refused() {
        let error = Selection::boxed(&[4], &[2]).resolve(&[5]).unwrap_err();
        assert!(
            matches!(
                error,
                SelectionError::Outside {
                    dimension: 0,
                    length: 5,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            "the selection of cells 4 to 5 reaches outside dimension 0, which has 5 cells"
        );
        assert!(Selection::boxed(&[u64::MAX], &[2]).resolve(&[5]).is_err());
        assert!(Selection::boxed(&[0, 0], &[1, 1]).resolve(&[5]).is_err());
    }
}
