//! A packed R-tree over blocks: built once for a layout, searched for each read.

use smallvec::SmallVec;

use crate::model::Block;

/// Blocks, or nodes, under one node.
const FAN_OUT: usize = 16;

/// Finds the blocks that touch a box.
///
/// Blocks are put in an order in which neighbours lie close (median splits
/// along the longest side, as when a k-d tree is built); every [`FAN_OUT`] of
/// them make a node, every [`FAN_OUT`] nodes a node of the next level.
#[derive(Clone, Debug, Default)]
pub struct BlockIndex {
    dimensions: usize,
    /// Starts and counts of all blocks, `dimensions` numbers each, by place in the list.
    starts: Vec<u64>,
    counts: Vec<u64>,
    /// Places of the blocks that have cells, neighbours together.
    order: Vec<u32>,
    /// From the leaves up: for each node its lowest and highest corner.
    levels: Vec<Vec<u64>>,
}

impl BlockIndex {
    /// Indexes blocks given as (start, count), all of as many dimensions as the first.
    /// One of another number of dimensions is never found.
    pub fn new<'a>(blocks: impl Iterator<Item = (&'a [u64], &'a [u64])>) -> Self {
        let mut blocks = blocks.peekable();
        let dimensions = blocks.peek().map_or(0, |(start, _)| start.len());
        let mut index = Self {
            dimensions,
            ..Self::default()
        };
        for (place, (start, count)) in blocks.enumerate() {
            let fits = start.len() == dimensions && count.len() == dimensions;
            for dimension in 0..dimensions {
                let (start, count) = if fits {
                    (start[dimension], count[dimension])
                } else {
                    (0, 0)
                };
                index.starts.push(start);
                index.counts.push(count);
            }
            if fits && !count.contains(&0) {
                index.order.push(u32::try_from(place).unwrap_or(u32::MAX));
            }
        }
        let mut order = std::mem::take(&mut index.order);
        index.arrange(&mut order);
        index.order = order;
        index.build();
        index
    }

    /// Indexes the blocks of a layout.
    #[must_use]
    pub fn of_blocks(blocks: &[Block]) -> Self {
        Self::new(
            blocks
                .iter()
                .map(|block| (&block.start[..], &block.count[..])),
        )
    }

    /// Start and count of the block at `place`.
    #[must_use]
    pub fn extent(&self, place: usize) -> (&[u64], &[u64]) {
        let range = place * self.dimensions..(place + 1) * self.dimensions;
        (&self.starts[range.clone()], &self.counts[range])
    }

    fn start(&self, place: u32, dimension: usize) -> u64 {
        self.starts[place as usize * self.dimensions + dimension]
    }

    fn end(&self, place: u32, dimension: usize) -> u64 {
        let at = place as usize * self.dimensions + dimension;
        self.starts[at].saturating_add(self.counts[at])
    }

    /// Orders places so that neighbours lie together.
    fn arrange(&self, order: &mut [u32]) {
        if order.len() <= FAN_OUT || self.dimensions == 0 {
            return;
        }
        let spread = |dimension: &usize| {
            let starts = order.iter().map(|place| self.start(*place, *dimension));
            let (low, high) = starts.fold((u64::MAX, 0), |(low, high), start| {
                (start.min(low), start.max(high))
            });
            high - low.min(high)
        };
        let widest = (0..self.dimensions).max_by_key(spread).unwrap_or(0);
        // A whole number of nodes on the left, so that nodes do not straddle the cut.
        let middle = (order.len() / 2)
            .next_multiple_of(FAN_OUT)
            .min(order.len() - 1);
        order.select_nth_unstable_by_key(middle, |place| (self.start(*place, widest), *place));
        let (left, right) = order.split_at_mut(middle);
        self.arrange(left);
        self.arrange(right);
    }

    fn build(&mut self) {
        let mut level = Vec::new();
        for group in self.order.chunks(FAN_OUT) {
            for dimension in 0..self.dimensions {
                let low = group.iter().map(|place| self.start(*place, dimension));
                level.push(low.min().unwrap_or(0));
            }
            for dimension in 0..self.dimensions {
                let high = group.iter().map(|place| self.end(*place, dimension));
                level.push(high.max().unwrap_or(0));
            }
        }
        let corners = self.dimensions * 2;
        while corners > 0 && level.len() > corners {
            let mut next = Vec::new();
            for group in level.chunks(FAN_OUT * corners) {
                let column = |at: usize| group.chunks(corners).map(move |node| node[at]);
                next.extend((0..self.dimensions).map(|at| column(at).min().unwrap_or(0)));
                next.extend((self.dimensions..corners).map(|at| column(at).max().unwrap_or(0)));
            }
            self.levels.push(std::mem::replace(&mut level, next));
        }
        self.levels.push(level);
    }

    /// Places of the blocks that share a cell with the box, in no order.
    #[must_use]
    pub fn touching(&self, start: &[u64], count: &[u64]) -> SmallVec<[usize; 8]> {
        let mut found = SmallVec::new();
        self.search(start, count, &mut |place| {
            found.push(place as usize);
        });
        found
    }

    fn search(&self, start: &[u64], count: &[u64], found: &mut impl FnMut(u32)) {
        if start.len() != self.dimensions || count.contains(&0) || self.dimensions == 0 {
            return;
        }
        let top = self.levels.len() - 1;
        let nodes = self.levels[top].len() / (self.dimensions * 2);
        for node in 0..nodes {
            self.descend(top, node, start, count, found);
        }
    }

    fn descend(
        &self,
        level: usize,
        node: usize,
        start: &[u64],
        count: &[u64],
        found: &mut impl FnMut(u32),
    ) {
        let dimensions = self.dimensions;
        let corners = &self.levels[level][node * dimensions * 2..][..dimensions * 2];
        let touches = (0..dimensions).all(|dimension| {
            corners[dimension] < start[dimension].saturating_add(count[dimension])
                && start[dimension] < corners[dimensions + dimension]
        });
        if !touches {
            return;
        }
        if level > 0 {
            let below = self.levels[level - 1].len() / (dimensions * 2);
            for child in node * FAN_OUT..((node + 1) * FAN_OUT).min(below) {
                self.descend(level - 1, child, start, count, found);
            }
            return;
        }
        let group = node * FAN_OUT..((node + 1) * FAN_OUT).min(self.order.len());
        for place in &self.order[group] {
            let shares = (0..dimensions).all(|dimension| {
                self.start(*place, dimension) < start[dimension].saturating_add(count[dimension])
                    && start[dimension] < self.end(*place, dimension)
            });
            if shares {
                found(*place);
            }
        }
    }

    /// The first two blocks that share a cell.
    #[must_use]
    pub fn first_overlap(&self) -> Option<(usize, usize)> {
        let blocks = self.starts.len().checked_div(self.dimensions).unwrap_or(0);
        for place in 0..blocks {
            let (start, count) = self.extent(place);
            let mut other = None;
            self.search(start, count, &mut |found| {
                let found = found as usize;
                if found > place && other.is_none_or(|other| found < other) {
                    other = Some(found);
                }
            });
            if let Some(other) = other {
                return Some((place, other));
            }
        }
        None
    }
}
