//! The one door to randomness: keys, nonces, instance identities.

/// The operating system had no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct NoRandomness(#[from] getrandom::Error);

/// Fills `bytes` from the operating system's generator.
///
/// # Errors
/// [`NoRandomness`] where the system call fails.
pub fn fill(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    Ok(getrandom::fill(bytes)?)
}

/// A random number, for identities that must not repeat.
///
/// # Errors
/// [`NoRandomness`] where the system call fails.
pub fn number() -> Result<u64, NoRandomness> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
