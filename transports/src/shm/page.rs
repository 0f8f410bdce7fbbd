//! The page that shows that two processes share memory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::error::ShmError;
use super::mapped::map_sealed;
use super::message::SECRET_BYTES;
use crate::random;
use crate::region::sealed_memory;

const PAGE_BYTES: usize = 4096;

/// A page with a random nonce. Who reads the nonce through the memory, and not
/// from a message, is on the same node.
#[derive(Debug)]
pub struct SharedPage {
    nonce: [u8; SECRET_BYTES],
    fd: OwnedFd,
}

impl SharedPage {
    /// A page with a nonce of its own.
    ///
    /// # Errors
    /// [`ShmError::System`], [`ShmError::NoRandomness`].
    pub fn make() -> Result<Self, ShmError> {
        let mut nonce = [0; SECRET_BYTES];
        random::fill(&mut nonce)?;
        let system = |during, source| ShmError::System { during, source };
        let memory = sealed_memory(PAGE_BYTES, system)?;
        memory.mapping.write(0, &nonce);
        Ok(Self {
            nonce,
            fd: memory.fd,
        })
    }

    /// What is written in it.
    #[must_use]
    pub fn nonce(&self) -> [u8; SECRET_BYTES] {
        self.nonce
    }

    /// What stands in the page of another process.
    ///
    /// # Errors
    /// [`ShmError::Unsealed`] where it is no such page.
    pub fn read_nonce(fd: BorrowedFd<'_>) -> Result<[u8; SECRET_BYTES], ShmError> {
        let mapping = map_sealed(fd, PAGE_BYTES as u64)?;
        let mut read = Vec::new();
        mapping.read(0, SECRET_BYTES, &mut read);
        let mut nonce = [0; SECRET_BYTES];
        nonce.copy_from_slice(&read);
        Ok(nonce)
    }
}

impl AsFd for SharedPage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
