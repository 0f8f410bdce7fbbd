//! What is transferred, so that every byte that arrives can be compared.

/// Bytes of a transfer.
pub(super) const BYTES: usize = 16 << 20;

/// The word at a place.
fn word(at: usize) -> [u8; 8] {
    (at as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_le_bytes()
}

/// Writes the pattern.
pub(super) fn fill(bytes: &mut [u8]) {
    for (at, into) in bytes.chunks_mut(8).enumerate() {
        into.copy_from_slice(&word(at)[..into.len()]);
    }
}

/// The first byte that is wrong.
pub(super) fn first_wrong(bytes: &[u8]) -> Option<usize> {
    let mut chunks = bytes.chunks(8).enumerate();
    let (at, chunk) = chunks.find(|(at, chunk)| **chunk != word(*at)[..chunk.len()])?;
    let good = word(at);
    let wrong = chunk
        .iter()
        .zip(good)
        .position(|(&byte, good)| byte != good);
    Some(at * 8 + wrong.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_wrong_byte_is_found_wherever_it_is() {
        let mut bytes = vec![0; 1003];
        fill(&mut bytes);
        assert_eq!(first_wrong(&bytes), None);
        for at in [0, 7, 8, 500, 1002] {
            bytes[at] ^= 1;
            assert_eq!(first_wrong(&bytes), Some(at));
            bytes[at] ^= 1;
        }
    }
}
