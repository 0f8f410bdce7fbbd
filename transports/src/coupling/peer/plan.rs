//! How a read is cut into requests, so that each keeps to the limits and
//! large ones use several connections.

use std::collections::VecDeque;

use super::super::PieceRef;

/// Bytes of a request where a read is spread over connections.
const SPREAD_BYTES: u64 = 4 << 20;

/// Pieces of a request, so that many small ones are answered bit by bit.
const REQUEST_PIECES: usize = 4096;

/// A part of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Which of the pieces.
    pub(super) piece: usize,
    /// Where in it this part begins.
    pub(super) at: u64,
    /// Where it is read.
    pub(super) source: PieceRef,
}

/// What is asked for at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) parts: Vec<Part>,
    pub(super) bytes: u64,
}

/// The requests for `pieces`, of which empty ones need none. `lanes` is how
/// many connections there are, `limit_bytes` and `limit_pieces` what one takes
/// at once.
pub(super) fn plan(
    pieces: &[PieceRef],
    lanes: usize,
    limit_bytes: u64,
    limit_pieces: u32,
) -> VecDeque<Request> {
    let spread = if lanes > 1 { SPREAD_BYTES } else { u64::MAX };
    let most_bytes = limit_bytes.min(spread).max(1);
    let most_parts = REQUEST_PIECES.min(limit_pieces as usize).max(1);
    let mut requests = VecDeque::new();
    let mut now = Request {
        parts: Vec::new(),
        bytes: 0,
    };
    for (index, piece) in pieces.iter().enumerate() {
        let mut at = 0;
        while at < piece.bytes {
            if now.bytes == most_bytes || now.parts.len() == most_parts {
                let next = Request {
                    parts: Vec::new(),
                    bytes: 0,
                };
                requests.push_back(std::mem::replace(&mut now, next));
            }
            let bytes = (piece.bytes - at).min(most_bytes - now.bytes);
            now.parts.push(Part {
                piece: index,
                at,
                source: PieceRef {
                    region: piece.region,
                    // What overflows is in no region, and refused there.
                    offset: piece.offset.saturating_add(at),
                    bytes,
                },
            });
            now.bytes += bytes;
            at += bytes;
        }
    }
    if !now.parts.is_empty() {
        requests.push_back(now);
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, bytes: u64) -> PieceRef {
        PieceRef {
            region: 1,
            offset,
            bytes,
        }
    }

    #[test]
    fn requests_keep_to_the_limits_and_cover_every_byte_once() {
        let pieces = [piece(5, 10), piece(100, 0), piece(200, 25), piece(300, 1)];
        for (lanes, limit_bytes, limit_pieces) in [(1, 7, 2), (1, 1, 1), (2, 36, 9), (1, 1000, 3)] {
            let requests = plan(&pieces, lanes, limit_bytes, limit_pieces);
            let mut covered = vec![0; pieces.len()];
            for request in &requests {
                assert!(request.bytes <= limit_bytes);
                assert!(request.parts.len() <= limit_pieces as usize);
                let sum: u64 = request.parts.iter().map(|part| part.source.bytes).sum();
                assert_eq!(sum, request.bytes);
                for part in &request.parts {
                    assert_eq!(part.at, covered[part.piece]);
                    assert_eq!(part.source.offset, pieces[part.piece].offset + part.at);
                    covered[part.piece] += part.source.bytes;
                }
            }
            let all: Vec<u64> = pieces.iter().map(|piece| piece.bytes).collect();
            assert_eq!(covered, all);
        }
    }

    #[test]
    fn one_connection_is_asked_at_once_and_several_in_turns() {
        let large = [piece(0, 64 << 20)];
        assert_eq!(plan(&large, 1, 1 << 30, 100).len(), 1);
        assert_eq!(plan(&large, 2, 1 << 30, 100).len(), 16);
        assert!(plan(&[piece(7, 0)], 1, 1 << 30, 100).is_empty());
        let beyond = plan(&[piece(u64::MAX, u64::MAX)], 1, u64::MAX, 100);
        assert_eq!(beyond.len(), 1);
    }
}
