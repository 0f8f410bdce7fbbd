//! Exact coverage: a box of the result that no piece covers.
//!
//! The box is halved at a border of the pieces inside it until one piece
//! covers a part or none touches it, as a k-d tree is built.

use super::{Extent, Piece};
use crate::model::intersect;

/// A box of `0..count` that no piece covers, the lowest that the halving meets.
pub(super) fn hole(count: &[u64], pieces: &[Piece]) -> Option<Extent> {
    let all: Vec<&Piece> = pieces.iter().collect();
    // A worklist, lowest on top: pieces come from files, and must not set the
    // depth of the stack.
    let mut parts = vec![((vec![0; count.len()], count.to_vec()), all)];
    while let Some((part, touching)) = parts.pop() {
        if part.1.contains(&0) || touching.iter().any(|piece| covers(piece, &part)) {
            continue;
        }
        let Some((dimension, border)) = cut(&part, &touching) else {
            return Some(part);
        };
        let (low, high) = halves(&part, dimension, border);
        for half in [high, low] {
            let touches = |piece: &&&Piece| {
                intersect((&piece.into, &piece.count), (&half.0, &half.1)).is_some()
            };
            let inside = touching.iter().filter(touches).copied().collect();
            parts.push((half, inside));
        }
    }
    None
}

fn covers(piece: &Piece, (start, count): &Extent) -> bool {
    (0..start.len()).all(|dimension| {
        piece.into[dimension] <= start[dimension]
            && start[dimension] + count[dimension] <= piece.into[dimension] + piece.count[dimension]
    })
}

fn halves((start, count): &Extent, dimension: usize, border: u64) -> (Extent, Extent) {
    let mut low = (start.clone(), count.clone());
    let mut high = (start.clone(), count.clone());
    low.1[dimension] = border - start[dimension];
    high.0[dimension] = border;
    high.1[dimension] = start[dimension] + count[dimension] - border;
    (low, high)
}

/// The border of a piece that lies in the middle of the most borders inside
/// the part; `None` if no piece touches it.
fn cut((start, count): &Extent, touching: &[&Piece]) -> Option<(usize, u64)> {
    let mut best: Option<(usize, Vec<u64>)> = None;
    for dimension in 0..start.len() {
        let inside = start[dimension] + 1..start[dimension] + count[dimension];
        let mut borders: Vec<u64> = touching
            .iter()
            .flat_map(|piece| {
                let low = piece.into[dimension];
                [low, low + piece.count[dimension]]
            })
            .filter(|border| inside.contains(border))
            .collect();
        if best
            .as_ref()
            .is_none_or(|(_, most)| borders.len() > most.len())
        {
            borders.sort_unstable();
            best = Some((dimension, borders));
        }
    }
    let (dimension, borders) = best?;
    Some((dimension, *borders.get(borders.len() / 2)?))
}
