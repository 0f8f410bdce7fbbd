//! A grid of patches, one a rank, of which some are split in eight; of a split patch
//! a part may lie with the neighbouring rank. Each step some patches change.

use crate::model::Dims;

/// Cells of a patch along each side.
const PATCH: u64 = 32;
const OCTANTS: u64 = 8;

/// A box: its first cell, and its cells.
pub(super) type Extent = (Dims, Dims);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Patch {
    Whole,
    Split { given_away: u64 },
}

/// Numbers that look random, and are the same each time (splitmix64).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// See the module.
pub(super) struct Amr {
    patches: [u64; 3],
    state: Vec<Patch>,
    random: Numbers,
}

impl Amr {
    /// So many patches along each side; half of them are split.
    pub(super) fn new(patches: [u64; 3]) -> Self {
        let state = (0..patches.iter().product::<u64>()).map(|at| match at % 2 {
            0 => Patch::Whole,
            _ => Patch::Split { given_away: 0 },
        });
        Self {
            patches,
            state: state.collect(),
            random: Numbers(42),
        }
    }

    /// Cells along each side.
    pub(super) fn shape(&self) -> Vec<u64> {
        self.patches.iter().map(|side| side * PATCH).collect()
    }

    /// Splits, merges or moves this share of the patches.
    pub(super) fn change(&mut self, percent: u64) {
        for patch in &mut self.state {
            if self.random.below(100) >= percent {
                continue;
            }
            *patch = match (*patch, self.random.below(2)) {
                (Patch::Whole, _) => Patch::Split { given_away: 0 },
                (Patch::Split { .. }, 0) => Patch::Whole,
                (Patch::Split { given_away }, _) => Patch::Split {
                    given_away: (given_away + 1 + self.random.below(3)) % OCTANTS,
                },
            };
        }
    }

    /// The blocks of each rank.
    pub(super) fn blocks(&self) -> Vec<Vec<Extent>> {
        let mut blocks = vec![Vec::new(); self.state.len()];
        for (rank, patch) in self.state.iter().enumerate() {
            let at = rank as u64;
            let [_, y, x] = self.patches;
            let corner = [at / (y * x), at / x % y, at % x].map(|patch| patch * PATCH);
            let Patch::Split { given_away } = *patch else {
                blocks[rank].push((Dims::from(corner.to_vec()), Dims::from(vec![PATCH; 3])));
                continue;
            };
            let neighbour = (rank + 1) % blocks.len();
            for octant in 0..OCTANTS {
                let half = PATCH / 2;
                let offset = [octant >> 2 & 1, octant >> 1 & 1, octant & 1];
                let start: Dims = (0..3).map(|d| corner[d] + offset[d] * half).collect();
                let owner = if octant < given_away { neighbour } else { rank };
                blocks[owner].push((start, Dims::from(vec![half; 3])));
            }
        }
        blocks
    }
}

/// The boxes of a reader group that divides a shape evenly.
pub(super) fn boxes(shape: &[u64], ranks: [u64; 3]) -> Vec<Extent> {
    let [z, y, x] = ranks;
    let side = |d: usize, at: u64| {
        let (low, high) = (shape[d] * at / ranks[d], shape[d] * (at + 1) / ranks[d]);
        (low, high - low)
    };
    let of = |rank: u64| {
        let at = [rank / (y * x), rank / x % y, rank % x];
        (0..3).map(|d| side(d, at[d])).unzip()
    };
    (0..z * y * x).map(of).collect()
}
