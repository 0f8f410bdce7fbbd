//! The curve: a compact n-dimensional Hilbert index of chunk grids.
//!
//! A chunk grid of any shape is put in one line so that boxes become few
//! intervals of it. The index is *compact*: a grid whose sides hold `bᵢ` bits
//! has keys `0 .. 2^Σbᵢ`, however unequal the sides, and the order of its
//! cells is their order on the Hilbert curve of the cube that pads every side
//! to the longest. On cubes the curve is Skilling's; see `orientation.rs` for
//! sources and mechanism and the chapter *Curve* of `docs/wire.md` for the
//! frozen definition with vectors.
//!
//! Promises: a bijection; keys next to each other are neighbouring cells where
//! all sides are equal (not elsewhere); no allocation; [`Curve::index`],
//! [`Curve::cell`] and the descent ([`Curve::root`], [`Curve::children`]) are
//! one state machine and cannot disagree.
//!
//! What it does not do: list the intervals of a box. At element resolution
//! they number in the hundred thousands; [`crate::routing`] descends instead.

mod descent;
mod orientation;
#[cfg(test)]
pub(crate) mod tests;

pub use descent::{Child, Children, Node};

use orientation::{Machine, Table};

/// The most dimensions a curve has.
pub const MAX_DIMS: usize = 8;
/// The most bits one side has, so that a cell's end still fits a u64.
pub const MAX_SIDE_BITS: u8 = 63;
/// The most bits a key has, over all sides.
pub const MAX_KEY_BITS: u32 = 128;

/// Why a grid has no curve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CurveError {
    /// No side, or too many.
    #[error(
        "a curve has 1 to {MAX_DIMS} dimensions, the grid has {dims}; merge dimensions or leave \
         those that are not divided out of the chunk grid"
    )]
    Dimensions {
        /// Sides given.
        dims: usize,
    },
    /// One side is too long.
    #[error(
        "dimension {dimension} of the chunk grid needs {bits} bits, the limit is {MAX_SIDE_BITS}; \
         choose larger chunks along it"
    )]
    Side {
        /// Which side, counted from 0.
        dimension: usize,
        /// Bits it needs.
        bits: u8,
    },
    /// The sides together need more bits than a key has.
    #[error(
        "the chunk grid needs keys of {bits} bits, the limit is {MAX_KEY_BITS}; choose larger \
         chunks"
    )]
    Key {
        /// Bits needed.
        bits: u32,
    },
}

/// The Hilbert curve through a grid of `2^bits[0] × 2^bits[1] × …` cells.
///
/// Dimension 0 is the first of the grid, the slowest-varying one of the array;
/// at the top level it is Skilling's `X[0]`.
#[derive(Clone, Debug)]
pub struct Curve {
    bits: [u8; MAX_DIMS],
    dims: u8,
    /// Levels of the tree: bits of the longest side.
    levels: u8,
    /// Levels below this one cut every side.
    full_levels: u8,
    /// For each level, the sides it cuts.
    active: [u8; MAX_SIDE_BITS as usize],
    /// Key bits of a node at each level.
    key_bits_at: [u8; MAX_SIDE_BITS as usize + 1],
    machine: Machine,
}

impl PartialEq for Curve {
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits()
    }
}

impl Eq for Curve {}

impl Curve {
    /// The curve through a grid whose sides hold these bits; 0 is allowed.
    ///
    /// # Errors
    /// [`CurveError`] for no dimensions, too many, or too many bits.
    #[allow(clippy::cast_possible_truncation)]
    pub fn new(bits: &[u8]) -> Result<Self, CurveError> {
        if bits.is_empty() || bits.len() > MAX_DIMS {
            return Err(CurveError::Dimensions { dims: bits.len() });
        }
        for (dimension, &bits) in bits.iter().enumerate() {
            if bits > MAX_SIDE_BITS {
                return Err(CurveError::Side { dimension, bits });
            }
        }
        let key_bits: u32 = bits.iter().copied().map(u32::from).sum();
        if key_bits > MAX_KEY_BITS {
            return Err(CurveError::Key { bits: key_bits });
        }
        let mut curve = Self {
            bits: [0; MAX_DIMS],
            dims: bits.len() as u8,
            levels: bits.iter().copied().max().unwrap_or(0),
            full_levels: bits.iter().copied().min().unwrap_or(0),
            active: [0; MAX_SIDE_BITS as usize],
            key_bits_at: [0; MAX_SIDE_BITS as usize + 1],
            machine: Machine::new(bits.len()),
        };
        for (axis, &side_bits) in bits.iter().enumerate() {
            curve.bits[axis] = side_bits;
            for level in 0..usize::from(side_bits) {
                curve.active[level] |= 1 << axis;
            }
        }
        for level in 0..usize::from(curve.levels) {
            let cut = curve.active[level].count_ones() as u8;
            curve.key_bits_at[level + 1] = curve.key_bits_at[level] + cut;
        }
        Ok(curve)
    }

    /// The curve through a grid of `chunks[0] × chunks[1] × …` chunks: each
    /// side has ⌈log₂⌉ of its chunks in bits. A side of 0 chunks has 0 bits.
    ///
    /// # Errors
    /// [`CurveError`], as for [`Self::new`].
    #[allow(clippy::cast_possible_truncation)]
    pub fn for_grid(chunks: &[u64]) -> Result<Self, CurveError> {
        if chunks.len() > MAX_DIMS {
            return Err(CurveError::Dimensions { dims: chunks.len() });
        }
        let mut bits = [0; MAX_DIMS];
        for (bits, &chunks) in bits.iter_mut().zip(chunks) {
            *bits = (u64::BITS - chunks.saturating_sub(1).leading_zeros()) as u8;
        }
        Self::new(&bits[..chunks.len()])
    }

    /// Number of dimensions.
    #[must_use]
    pub fn dims(&self) -> usize {
        usize::from(self.dims)
    }

    /// Bits of each side.
    #[must_use]
    pub fn bits(&self) -> &[u8] {
        &self.bits[..self.dims()]
    }

    /// Bits of a key: the sum over the sides.
    #[must_use]
    pub fn key_bits(&self) -> u32 {
        u32::from(self.key_bits_at[usize::from(self.levels)])
    }

    /// The last key, `2^key_bits - 1`.
    #[must_use]
    pub fn last_key(&self) -> u128 {
        last_of_bits(self.key_bits())
    }

    /// Whether the cell lies in the padded grid of `2^bits` cells a side.
    #[must_use]
    pub fn contains(&self, cell: &[u64]) -> bool {
        cell.len() == self.dims()
            && cell
                .iter()
                .zip(self.bits())
                .all(|(&place, &bits)| place >> bits == 0)
    }

    /// The key of a cell.
    ///
    /// Bits of a place beyond its side are ignored, missing places are 0: ask
    /// [`Self::contains`] first where the cell came from outside.
    #[must_use]
    pub fn index(&self, cell: &[u64]) -> u128 {
        if self.key_bits() <= u64::BITS {
            u128::from(self.index_as::<u64>(cell))
        } else {
            self.index_as::<u128>(cell)
        }
    }

    /// The key of a cell where keys fit in 64 bits, else `None`.
    #[must_use]
    pub fn index_u64(&self, cell: &[u64]) -> Option<u64> {
        (self.key_bits() <= u64::BITS).then(|| self.index_as::<u64>(cell))
    }

    /// Writes the cell of a key into the first places of `cell`; bits of the
    /// key beyond [`Self::last_key`] are ignored.
    #[allow(clippy::cast_possible_truncation)]
    pub fn cell(&self, index: u128, cell: &mut [u64]) {
        cell.fill(0);
        let mut state = self.machine.root();
        for level in (0..usize::from(self.levels)).rev() {
            let active = self.active[level];
            let cut = active.count_ones();
            let rank = (index >> self.key_bits_at[level]) as u8 & last_of_bits(cut) as u8;
            let (halves, next) = if level < usize::from(self.full_levels) {
                self.machine.up(state, rank)
            } else {
                self.machine.up_partial(state, rank, active)
            };
            for (axis, place) in cell.iter_mut().take(self.dims()).enumerate() {
                *place |= u64::from(halves >> axis & 1) << level;
            }
            state = next;
        }
    }

    /// A key moved to the left of 128 bits, so that keys of grids of any
    /// resolution lie in one space and a prefix is an interval.
    #[must_use]
    pub fn align(&self, key: u128) -> u128 {
        key.checked_shl(MAX_KEY_BITS - self.key_bits()).unwrap_or(0)
    }

    fn index_as<K: Key>(&self, cell: &[u64]) -> K {
        let mut places = [0; MAX_DIMS];
        for (place, &given) in places.iter_mut().zip(cell) {
            *place = given;
        }
        let (mut key, mut state) = (K::ZERO, self.machine.root());
        for level in (usize::from(self.full_levels)..usize::from(self.levels)).rev() {
            let active = self.active[level];
            let halves = halves_of::<MAX_DIMS>(&places, level) & active;
            let (rank, next) = self.machine.down_partial(state, halves, active);
            key = key.push(rank, active.count_ones());
            state = next;
        }
        match (self.machine.table(), self.dims) {
            (Some(table), 2) => self.full_levels_by_table::<K, 2>(table, key, state, &places),
            (Some(table), 3) => self.full_levels_by_table::<K, 3>(table, key, state, &places),
            (Some(table), 4) => self.full_levels_by_table::<K, 4>(table, key, state, &places),
            _ => {
                for level in (0..usize::from(self.full_levels)).rev() {
                    let halves = halves_of::<MAX_DIMS>(&places, level) & self.active[level];
                    let (digit, next) = self.machine.down(state, halves);
                    key = key.push(digit, u32::from(self.dims));
                    state = next;
                }
                key
            }
        }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)]
    fn full_levels_by_table<K: Key, const N: usize>(
        &self,
        table: &Table,
        mut key: K,
        mut state: orientation::State,
        places: &[u64; MAX_DIMS],
    ) -> K {
        for level in (0..usize::from(self.full_levels)).rev() {
            let (digit, next) = table.down(state, halves_of::<N>(places, level));
            key = key.push(digit, N as u32);
            state = next;
        }
        key
    }
}

/// Which half of the node at `level + 1` each of the first `N` places lies in.
#[inline]
fn halves_of<const N: usize>(places: &[u64; MAX_DIMS], level: usize) -> u8 {
    let mut halves = 0;
    for (axis, place) in places.iter().take(N).enumerate() {
        halves |= ((place >> level & 1) as u8) << axis;
    }
    halves
}

/// The largest number of so many bits.
const fn last_of_bits(bits: u32) -> u128 {
    match u128::MAX.checked_shr(u128::BITS - bits) {
        Some(last) => last,
        None => 0,
    }
}

/// The integer a key is gathered in: u64 where it fits, for speed.
trait Key: Copy {
    const ZERO: Self;
    /// Appends a digit of `bits` bits.
    fn push(self, digit: u8, bits: u32) -> Self;
}

impl Key for u64 {
    const ZERO: Self = 0;
    #[inline]
    fn push(self, digit: u8, bits: u32) -> Self {
        self << bits | Self::from(digit)
    }
}

impl Key for u128 {
    const ZERO: Self = 0;
    #[inline]
    fn push(self, digit: u8, bits: u32) -> Self {
        self << bits | Self::from(digit)
    }
}
