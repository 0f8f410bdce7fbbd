//! Cutting arrays among ranks.

/// A box: first cell and cells per dimension.
pub type Extent = (Vec<u64>, Vec<u64>);

/// The `part`-th of `parts` nearly equal pieces of `length`: start and count.
#[must_use]
pub fn piece(length: u64, part: usize, parts: usize) -> (u64, u64) {
    let (part, parts) = (part as u64, parts as u64);
    let begin = length * part / parts;
    (begin, length * (part + 1) / parts - begin)
}

/// The slab of a rank, cut along `dimension`; empty where ranks outnumber cells.
#[must_use]
pub fn slab(shape: &[u64], dimension: usize, rank: usize, ranks: usize) -> Extent {
    let (mut start, mut count) = (vec![0; shape.len()], shape.to_vec());
    (start[dimension], count[dimension]) = piece(shape[dimension], rank, ranks);
    (start, count)
}

/// The box of a rank in a grid of `ranks` per dimension, the last running fastest.
#[must_use]
pub fn tile(shape: &[u64], ranks: &[usize], rank: usize) -> Extent {
    let (mut start, mut count) = (vec![0; shape.len()], vec![0; shape.len()]);
    let mut rest = rank;
    for d in (0..shape.len()).rev() {
        (start[d], count[d]) = piece(shape[d], rest % ranks[d], ranks[d]);
        rest /= ranks[d];
    }
    (start, count)
}

/// Whether a box holds no cell.
#[must_use]
pub fn is_empty(count: &[u64]) -> bool {
    count.contains(&0)
}
