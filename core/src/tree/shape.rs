//! Who is whose parent: rank 0 at the top, filled level by level.

use std::ops::Range;

/// The shape of a tree of `size` ranks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) size: usize,
    /// At least 1.
    pub(crate) fan_out: usize,
}

impl Shape {
    /// The rank above; none above the root.
    pub(crate) fn parent(self, rank: usize) -> Option<usize> {
        Some(rank.checked_sub(1)? / self.fan_out)
    }

    /// The ranks directly below.
    pub(crate) fn children(self, rank: usize) -> Range<usize> {
        let first = rank.saturating_mul(self.fan_out).saturating_add(1);
        let end = first.saturating_add(self.fan_out);
        first.min(self.size)..end.min(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_but_the_root_is_the_child_of_its_parent_and_of_no_other() {
        for size in [1, 2, 5, 64, 65, 130] {
            for fan_out in [1, 2, 3, 64, usize::MAX] {
                let shape = Shape { size, fan_out };
                let mut seen = vec![0; size];
                for rank in 0..size {
                    for child in shape.children(rank) {
                        assert_eq!(shape.parent(child), Some(rank));
                        seen[child] += 1;
                    }
                }
                assert_eq!(shape.parent(0), None);
                assert_eq!(seen.iter().sum::<usize>(), size - 1);
                assert_eq!(seen[0], 0);
            }
        }
    }
}
