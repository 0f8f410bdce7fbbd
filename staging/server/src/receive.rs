//! Receives the body of a put straight into the memory where it stays.
//!
//! Each tile is compared with the checksum that the head announced while it
//! is still in cache from being received: what was damaged on the way is
//! refused before anybody is told that it is stored. Gets verify again the
//! tiles that they touch.

use panta_staging::proto::message::Piece;
use panta_transports::channel::{ChannelError, Receiver};
use panta_transports::copy::{TILE_BYTES, tile_count, verify_tiles};
use panta_transports::time::{Interrupt, Wait};
use std::time::Duration;

/// Received and verified at once, so that the second finds it in cache.
const AT_ONCE_BYTES: usize = 512 << 10;
/// The longest a peer may take for so many bytes.
const SLICE_LIMIT: Duration = Duration::from_secs(30);

/// Receives all of `into`. Says what is damaged, if anything is.
///
/// # Errors
/// [`ChannelError`]: the connection is of no more use.
pub(crate) fn receive_body(
    receiver: &mut Receiver,
    into: &mut [u8],
    pieces: &[Piece],
    interrupt: &Interrupt,
) -> Result<Option<String>, ChannelError> {
    let mut check = Check::new(pieces);
    let mut received = 0;
    while received < into.len() {
        let end = into.len().min(received + AT_ONCE_BYTES);
        let wait = Wait::new(SLICE_LIMIT, interrupt);
        receiver.receive_body(&mut into[received..end], &wait)?;
        received = end;
        check.up_to(&into[..received]);
    }
    Ok(check.finish())
}

/// Verifies the tiles of pieces that lie one after the other.
struct Check<'a> {
    pieces: &'a [Piece],
    piece: usize,
    /// Where the piece begins, and how many of its tiles were verified.
    begin: usize,
    tiles: usize,
    damage: Option<String>,
}

impl<'a> Check<'a> {
    fn new(pieces: &'a [Piece]) -> Self {
        Self {
            pieces,
            piece: 0,
            begin: 0,
            tiles: 0,
            damage: None,
        }
    }

    /// Verifies every tile that is whole in `bytes`, the body so far.
    fn up_to(&mut self, bytes: &[u8]) {
        while let Some(piece) = self.pieces.get(self.piece) {
            let length = usize::try_from(piece.length_bytes).unwrap_or(usize::MAX);
            let at = self.begin + self.tiles * TILE_BYTES;
            let end = self.begin.saturating_add(length);
            let whole = bytes.len() >= end;
            let to = if whole {
                end
            } else {
                at + (bytes.len().saturating_sub(at)) / TILE_BYTES * TILE_BYTES
            };
            if to > at {
                self.verify(piece, &bytes[at..to]);
                self.tiles += (to - at).div_ceil(TILE_BYTES);
            }
            if !whole {
                return;
            }
            if piece.checksums.len() as u64 != tile_count(piece.length_bytes) {
                self.damaged(format!(
                    "{} checksums for {} bytes",
                    piece.checksums.len(),
                    piece.length_bytes
                ));
            }
            self.piece += 1;
            (self.begin, self.tiles) = (end, 0);
        }
    }

    fn verify(&mut self, piece: &Piece, bytes: &[u8]) {
        let checksums = piece.checksums.get(self.tiles..).unwrap_or(&[]);
        if let Err(mismatch) = verify_tiles(bytes, checksums) {
            self.damaged(format!("from tile {} on, {mismatch}", self.tiles));
        }
    }

    fn damaged(&mut self, what: String) {
        let piece = self.piece;
        self.damage
            .get_or_insert_with(|| format!("piece {piece} was damaged on the way: {what}"));
    }

    fn finish(self) -> Option<String> {
        self.damage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use panta_transports::copy::checksum_tiles;

    fn piece(bytes: &[u8]) -> Piece {
        let mut checksums = Vec::new();
        checksum_tiles(bytes, &mut checksums, &mut |_| {});
        Piece {
            length_bytes: bytes.len() as u64,
            checksums,
            ..Piece::default()
        }
    }

    fn damage_of(pieces: &[Piece], body: &[u8], step: usize) -> Option<String> {
        let mut check = Check::new(pieces);
        let mut received = 0;
        while received < body.len() {
            received = body.len().min(received + step);
            check.up_to(&body[..received]);
        }
        check.finish()
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found_however_the_body_comes_in() {
        let body: Vec<u8> = (0..30_000_u32).map(|at| (at * 7 % 251) as u8).collect();
        let cuts = [0, 5, 5, 4101, 16_389, 30_000];
        let pieces: Vec<Piece> = cuts
            .windows(2)
            .map(|cut| piece(&body[cut[0]..cut[1]]))
            .collect();
        for step in [1000, 4096, 10_000, 30_000] {
            assert_eq!(damage_of(&pieces, &body, step), None, "step {step}");
            for at in [0, 4, 5, 4100, 4101, 12_000, 29_999] {
                let mut bad = body.clone();
                bad[at] ^= 1;
                assert!(damage_of(&pieces, &bad, step).is_some(), "{at} {step}");
            }
        }
    }

    #[test]
    fn missing_checksums_are_damage() {
        let body = [1; 5000];
        let mut short = piece(&body);
        short.checksums.pop();
        assert!(damage_of(&[short], &body, 5000).is_some());
    }
}
