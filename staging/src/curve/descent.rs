//! The tree of curve prefixes, walked from the root in curve order.
//!
//! A node is a prefix of the key: an interval of keys and, in the grid, a box
//! whose sides are `2^min(level, bits)`. Its children are its halves along the
//! axes that its level cuts, in the order in which the curve runs through
//! them. Nodes are plain values; walking allocates nothing.

use super::orientation::State;
use super::{Curve, MAX_DIMS, last_of_bits};

/// A node of the tree of curve prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    level: u8,
    state: State,
    first_key: u128,
    corner: [u64; MAX_DIMS],
}

/// A child seen from its node, before [`Curve::enter`] makes a node of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// Bit `a`: the upper half along axis `a`. Axes that the level does not
    /// cut are 0.
    pub halves: u8,
    first_key: u128,
    state: State,
}

impl Node {
    /// Levels below this node; 0 is a single cell.
    #[must_use]
    pub fn level(&self) -> u32 {
        u32::from(self.level)
    }

    /// The first key of the node.
    #[must_use]
    pub fn first_key(&self) -> u128 {
        self.first_key
    }

    /// The lowest cell of the node's box; places beyond the curve's
    /// dimensions are 0.
    #[must_use]
    pub fn corner(&self) -> &[u64; MAX_DIMS] {
        &self.corner
    }
}

impl Curve {
    /// The node that is the whole grid.
    #[must_use]
    pub fn root(&self) -> Node {
        Node {
            level: self.levels,
            state: self.machine.root(),
            first_key: 0,
            corner: [0; MAX_DIMS],
        }
    }

    /// The last key of the node.
    #[must_use]
    pub fn last_key_of(&self, node: &Node) -> u128 {
        node.first_key | last_of_bits(u32::from(self.key_bits_at[usize::from(node.level)]))
    }

    /// Cells of the node's box along each axis, as a power of two.
    #[must_use]
    pub fn side_bits(&self, node: &Node, axis: usize) -> u32 {
        u32::from(self.bits[axis].min(node.level))
    }

    /// The axes along which the node's children are halves; 0 for a cell.
    #[must_use]
    pub fn cut_axes(&self, node: &Node) -> u8 {
        match node.level {
            0 => 0,
            level => self.active[usize::from(level) - 1],
        }
    }

    /// The node's children in curve order; none for a cell.
    #[must_use]
    pub fn children<'c>(&'c self, node: &Node) -> Children<'c> {
        let active = self.cut_axes(node);
        let below = node.level.saturating_sub(1);
        Children {
            curve: self,
            active,
            whole: below < self.full_levels,
            state: node.state,
            first_key: node.first_key,
            key_bits: u32::from(self.key_bits_at[usize::from(below)]),
            rank: 0,
            end: match active {
                0 => 0,
                _ => 1 << active.count_ones(),
            },
        }
    }

    /// The child as a node. `child` must come from `node`'s own children.
    #[must_use]
    pub fn enter(&self, node: &Node, child: &Child) -> Node {
        let level = node.level.saturating_sub(1);
        let mut corner = node.corner;
        for (axis, place) in corner.iter_mut().enumerate().take(self.dims()) {
            *place |= u64::from(child.halves >> axis & 1) << level;
        }
        Node {
            level,
            state: child.state,
            first_key: child.first_key,
            corner,
        }
    }
}

/// Children of a node in curve order.
#[derive(Clone, Debug)]
pub struct Children<'c> {
    curve: &'c Curve,
    active: u8,
    whole: bool,
    state: State,
    first_key: u128,
    key_bits: u32,
    rank: u16,
    end: u16,
}

impl Iterator for Children<'_> {
    type Item = Child;

    #[inline]
    #[allow(clippy::cast_possible_truncation)]
    fn next(&mut self) -> Option<Child> {
        if self.rank == self.end {
            return None;
        }
        let rank = self.rank as u8;
        let machine = &self.curve.machine;
        let (halves, state) = if self.whole {
            machine.up(self.state, rank)
        } else {
            machine.up_partial(self.state, rank, self.active)
        };
        let first_key = self.first_key | u128::from(rank) << self.key_bits;
        self.rank += 1;
        Some(Child {
            halves,
            first_key,
            state,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.end - self.rank);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Children<'_> {}
