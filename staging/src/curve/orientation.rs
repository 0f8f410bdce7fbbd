//! How the curve lies within one node: the state machine that index, inverse
//! and descent share.
//!
//! Skilling's transform works on whole coordinates: for each level from the
//! top, and each axis in turn, it either inverts the low bits of the first
//! axis or exchanges them with this axis's. Held per level, that is a *signed
//! permutation*: which axis stands at which position, and which are reversed.
//! His last step (undoing the excess of the Gray code, a carry from level to
//! level) only ever reverses the axis at position 0, so it folds into the same
//! signs. A level then reads
//!
//! ```text
//! halves (bit a: upper half of axis a)
//!    │ permute, reverse                (this orientation)
//!    ▼
//! t  (bit n-1-k: position k) ── Gray decode ──► digit: place among the 2ⁿ children
//!    │
//!    └─► next orientation: for k ≥ 1, t_k set: reverse position 0, else
//!        exchange positions 0 and k
//! ```
//!
//! Up to [`TABLE_DIMS`] dimensions the machine is unfolded into tables, once
//! per process; above that it is computed at each level.
//!
//! Source: J. Skilling, *Programming the Hilbert curve*, AIP Conf. Proc. 707,
//! 381 (2004). Restricting a digit to the axes still alive at a level: C.
//! Hamilton and A. Rau-Chaplin, *Compact Hilbert indices: Space-filling curves
//! for domains with unequal side lengths*, Inf. Process. Lett. 105 (2007).

use std::sync::OnceLock;

use super::MAX_DIMS;

/// Up to this many dimensions the machine is a table (4-D: some 30 KiB).
pub(super) const TABLE_DIMS: usize = 4;

/// A signed permutation of the axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orientation {
    /// Four bits for each position: the axis that stands there.
    axes: u32,
    /// Bit `k`: the axis at position `k` is reversed.
    reversed: u8,
}

impl Orientation {
    const ROOT: Self = Self {
        axes: 0x7654_3210,
        reversed: 0,
    };

    const fn axis(self, position: usize) -> u32 {
        (self.axes >> (4 * position)) & 0xf
    }

    fn pack(self) -> u64 {
        u64::from(self.axes) << 8 | u64::from(self.reversed)
    }

    #[allow(clippy::cast_possible_truncation)]
    fn unpack(packed: u64) -> Self {
        Self {
            axes: (packed >> 8) as u32,
            reversed: packed as u8,
        }
    }

    /// The halves of a child as seen from this orientation.
    fn local(self, dims: usize, halves: u8) -> u8 {
        let mut local = 0;
        for position in 0..dims {
            let half = halves >> self.axis(position) ^ self.reversed >> position;
            local = local << 1 | half & 1;
        }
        local
    }

    /// The inverse of [`Self::local`].
    fn halves(self, dims: usize, local: u8) -> u8 {
        let mut halves = 0;
        for position in 0..dims {
            let half = (local >> (dims - 1 - position) ^ self.reversed >> position) & 1;
            halves |= half << self.axis(position);
        }
        halves
    }

    /// The orientation of the child that lies at `local`.
    fn next(self, dims: usize, local: u8) -> Self {
        let mut axes = self.axes;
        let mut first_reversed = self.reversed & 1 ^ local >> (dims - 1) & 1;
        let mut reversed = self.reversed;
        for position in 1..dims {
            if local >> (dims - 1 - position) & 1 == 1 {
                first_reversed ^= 1;
            } else {
                let difference = (axes ^ axes >> (4 * position)) & 0xf;
                axes ^= difference | difference << (4 * position);
                let other = reversed >> position & 1;
                reversed = reversed & !(1 << position) | first_reversed << position;
                first_reversed = other;
            }
        }
        first_reversed ^= (local.count_ones() & 1) as u8;
        Self {
            axes,
            reversed: reversed & !1 | first_reversed,
        }
    }

    /// The digit's bits that are free when only `active` axes are cut.
    fn free(self, dims: usize, active: u8) -> u8 {
        (0..dims).fold(0, |free, position| {
            free << 1 | active >> self.axis(position) & 1
        })
    }

    /// The halves of the child that comes at `rank` among those whose
    /// inactive axes lie in the lower half.
    fn halves_at_rank(self, dims: usize, active: u8, rank: u8) -> u8 {
        let mut left = active.count_ones();
        let (mut halves, mut digit_bit) = (0, 0);
        for position in 0..dims {
            let axis = self.axis(position);
            if active >> axis & 1 == 1 {
                left -= 1;
                let bit = rank >> left & 1;
                halves |= (bit ^ digit_bit ^ self.reversed >> position & 1) << axis;
                digit_bit = bit;
            } else {
                digit_bit ^= self.reversed >> position & 1;
            }
        }
        halves
    }
}

/// Position in the Gray code sequence.
const fn gray_decode(gray: u8) -> u8 {
    let mut digit = gray;
    digit ^= digit >> 1;
    digit ^= digit >> 2;
    digit ^ digit >> 4
}

/// The bits of `digit` that `free` names, moved together: the rank of a child
/// among those with the same inactive bits (their order is that of these bits,
/// since two Gray codes first differ where their positions first differ).
pub(super) fn compact(digit: u8, mut free: u8) -> u8 {
    let (mut rank, mut place) = (0, 0);
    while free != 0 {
        rank |= (digit >> free.trailing_zeros() & 1) << place;
        place += 1;
        free &= free - 1;
    }
    rank
}

/// An orientation as the machine names it: a row of its table, or packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u64);

/// One step of the machine.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    next: u16,
    value: u8,
}

/// The machine unfolded for one number of dimensions.
#[derive(Debug)]
pub(super) struct Table {
    dims: usize,
    orientations: Vec<Orientation>,
    /// `[state << dims | halves]` → digit.
    down: Vec<Entry>,
    /// `[state << dims | digit]` → halves.
    up: Vec<Entry>,
}

impl Table {
    /// Follows every child of every orientation that is reached.
    #[allow(clippy::cast_possible_truncation)]
    fn unfold(dims: usize) -> Self {
        let children = 1_usize << dims;
        let mut orientations = vec![Orientation::ROOT];
        let (mut down, mut up) = (Vec::new(), Vec::new());
        let mut row = 0;
        while row < orientations.len() {
            let orientation = orientations[row];
            down.resize((row + 1) * children, Entry::default());
            up.resize((row + 1) * children, Entry::default());
            for halves in 0..children as u8 {
                let local = orientation.local(dims, halves);
                let digit = gray_decode(local);
                let child = orientation.next(dims, local);
                let next = orientations
                    .iter()
                    .position(|known| *known == child)
                    .unwrap_or_else(|| {
                        orientations.push(child);
                        orientations.len() - 1
                    }) as u16;
                let (value, place) = (digit, row * children + usize::from(halves));
                down[place] = Entry { next, value };
                let (value, place) = (halves, row * children + usize::from(digit));
                up[place] = Entry { next, value };
            }
            row += 1;
        }
        Self {
            dims,
            orientations,
            down,
            up,
        }
    }

    fn for_dims(dims: usize) -> Option<&'static Self> {
        static TABLES: [OnceLock<Table>; TABLE_DIMS] = [const { OnceLock::new() }; TABLE_DIMS];
        let table = TABLES.get(dims.checked_sub(1)?)?;
        Some(table.get_or_init(|| Self::unfold(dims)))
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn down(&self, state: State, halves: u8) -> (u8, State) {
        let entry = self.down[(state.0 as usize) << self.dims | usize::from(halves)];
        (entry.value, State(u64::from(entry.next)))
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn up(&self, state: State, digit: u8) -> (u8, State) {
        let entry = self.up[(state.0 as usize) << self.dims | usize::from(digit)];
        (entry.value, State(u64::from(entry.next)))
    }
}

/// The state machine of one number of dimensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    dims: usize,
    table: Option<&'static Table>,
}

impl Machine {
    /// `dims` is 1 to [`MAX_DIMS`].
    pub(super) fn new(dims: usize) -> Self {
        debug_assert!((1..=MAX_DIMS).contains(&dims));
        Self {
            dims,
            table: Table::for_dims(dims),
        }
    }

    #[inline]
    pub(super) fn table(&self) -> Option<&'static Table> {
        self.table
    }

    /// The orientation of the whole curve.
    #[inline]
    pub(super) fn root(&self) -> State {
        match self.table {
            Some(_) => State(0),
            None => State(Orientation::ROOT.pack()),
        }
    }

    #[allow(clippy::cast_possible_truncation)]
    fn orientation(&self, state: State) -> Orientation {
        match self.table {
            Some(table) => table.orientations[state.0 as usize],
            None => Orientation::unpack(state.0),
        }
    }

    /// The digit of the child at `halves`, and its orientation.
    #[inline]
    pub(super) fn down(&self, state: State, halves: u8) -> (u8, State) {
        if let Some(table) = self.table {
            return table.down(state, halves);
        }
        let orientation = Orientation::unpack(state.0);
        let local = orientation.local(self.dims, halves);
        let next = orientation.next(self.dims, local);
        (gray_decode(local), State(next.pack()))
    }

    /// The halves of the child at `digit`, and its orientation.
    #[inline]
    pub(super) fn up(&self, state: State, digit: u8) -> (u8, State) {
        if let Some(table) = self.table {
            return table.up(state, digit);
        }
        let orientation = Orientation::unpack(state.0);
        let local = digit ^ digit >> 1;
        let next = orientation.next(self.dims, local);
        (orientation.halves(self.dims, local), State(next.pack()))
    }

    /// [`Self::down`] where only `active` axes are cut: the rank of the child
    /// at `halves` among the children that exist.
    pub(super) fn down_partial(&self, state: State, halves: u8, active: u8) -> (u8, State) {
        let (digit, next) = self.down(state, halves);
        let free = self.orientation(state).free(self.dims, active);
        (compact(digit, free), next)
    }

    /// [`Self::up`] where only `active` axes are cut.
    pub(super) fn up_partial(&self, state: State, rank: u8, active: u8) -> (u8, State) {
        let orientation = self.orientation(state);
        let halves = orientation.halves_at_rank(self.dims, active, rank);
        (halves, self.down(state, halves).1)
    }
}
