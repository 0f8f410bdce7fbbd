//! How a grid is cut among ranks: how many in each direction, and which cells
//! each one owns.
//!
//! Pure arithmetic on rank counts and coordinates; knows no MPI. Cuts differ
//! by at most one cell, so every grid and every number of ranks that fits works.

/// The cells one rank owns, in (z, y, x) order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The first cell, in indices of the whole grid.
    pub(crate) start: [usize; 3],
    /// The number of cells in each direction.
    pub(crate) count: [usize; 3],
}

/// Why a grid cannot be cut.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a grid of {cells}³ cells cannot be cut into {ranks:?} blocks (z, y, x): some would be empty; use fewer ranks or a larger --size"
)]
pub(crate) struct TooManyRanks {
    cells: usize,
    ranks: [usize; 3],
}

/// Cuts `ranks` into three factors whose blocks have the least surface, as
/// `MPI_Dims_create` does: z gets the largest factor, so that the contiguous
/// direction x is cut least.
pub(crate) fn factors(ranks: usize) -> [usize; 3] {
    let mut best = [ranks, 1, 1];
    for x in (1..=ranks).filter(|x| ranks.is_multiple_of(*x)) {
        let rest = ranks / x;
        for y in (x..=rest).filter(|y| rest.is_multiple_of(*y)) {
            let z = rest / y;
            if z >= y && z + y + x < best.iter().sum() {
                best = [z, y, x];
            }
        }
    }
    best
}

/// The block at `coordinates` when each side of `cells` is cut into `ranks`.
///
/// # Errors
/// [`TooManyRanks`] where a side has fewer cells than ranks.
pub(crate) fn block(
    cells: usize,
    ranks: [usize; 3],
    coordinates: [usize; 3],
) -> Result<Block, TooManyRanks> {
    if ranks.iter().any(|&count| count > cells) {
        return Err(TooManyRanks { cells, ranks });
    }
    let edge = |axis: usize, at: usize| cells * at / ranks[axis];
    let start = [0, 1, 2].map(|axis| edge(axis, coordinates[axis]));
    let count = [0, 1, 2].map(|axis| edge(axis, coordinates[axis] + 1) - start[axis]);
    Ok(Block { start, count })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn blocks_cover_every_cell_exactly_once() {
        for (cells, ranks) in [(7, [3, 2, 1]), (8, [2, 2, 2]), (5, [5, 1, 4])] {
            let mut covered = vec![0; cells * cells * cells];
            for z in 0..ranks[0] {
                for y in 0..ranks[1] {
                    for x in 0..ranks[2] {
                        let own = block(cells, ranks, [z, y, x]).unwrap();
                        for k in own.start[0]..own.start[0] + own.count[0] {
                            for j in own.start[1]..own.start[1] + own.count[1] {
                                for i in own.start[2]..own.start[2] + own.count[2] {
                                    covered[(k * cells + j) * cells + i] += 1;
                                }
                            }
                        }
                    }
                }
            }
            assert!(covered.iter().all(|&times| times == 1), "{cells} {ranks:?}");
        }
    }

    #[test]
    fn factors_multiply_to_the_number_of_ranks_and_are_nearly_cubic() {
        for ranks in 1..200 {
            assert_eq!(factors(ranks).iter().product::<usize>(), ranks);
        }
        assert_eq!(factors(8), [2, 2, 2]);
        assert_eq!(factors(12), [3, 2, 2]);
        assert_eq!(factors(4), [2, 2, 1]);
        assert_eq!(factors(7), [7, 1, 1]);
    }

    #[test]
    fn more_ranks_than_cells_is_an_error() {
        assert!(block(3, [4, 1, 1], [0, 0, 0]).is_err());
    }
}
