//! Keys: made, kept in files nobody else can read, derived one way.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use snow::params::HashChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};

use crate::random::{self, NoRandomness};

const KEY_BYTES: usize = 32;

/// What a peer may do, by the key it holds. Each role's key is derived from
/// the one before it, and none leads back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Servers among themselves; holds the key that all others come from.
    Cluster = 0,
    /// Puts, and gets.
    Writer = 1,
    /// Gets only.
    Reader = 2,
}

impl Role {
    /// The role with this number on the wire.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Cluster),
            1 => Some(Self::Writer),
            2 => Some(Self::Reader),
            _ => None,
        }
    }
}

/// A secret of 32 bytes. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(hidden)")
    }
}

/// Why a key could not be made or loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// Others can read the file.
    #[error(
        "key file {path} has mode {mode:03o}: others can read it; make a new key, or chmod 600 it"
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is no key.
    #[error("key file {path} does not hold {KEY_BYTES} bytes; name another file")]
    WrongLength {
        /// The file.
        path: PathBuf,
    },
    /// The system refused a call.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Key {
    /// A key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The secret itself: for a contact file, never for a log.
    #[must_use]
    pub const fn secret_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// A new random key.
    ///
    /// # Errors
    /// [`NoRandomness`] where the system has none.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = [0; KEY_BYTES];
        random::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The key of role `to`, from this, the key of role `from`: one step
    /// HMAC-BLAKE2s(key, "panta key: writer") per role on the way, which
    /// cannot be undone. None where `to` comes before `from`.
    #[must_use]
    pub fn derive(&self, from: Role, to: Role) -> Option<Self> {
        if to < from {
            return None;
        }
        let mut key = self.clone();
        if from < Role::Writer && to >= Role::Writer {
            key = key.next(b"panta key: writer")?;
        }
        if from < Role::Reader && to >= Role::Reader {
            key = key.next(b"panta key: reader")?;
        }
        Some(key)
    }

    fn next(&self, label: &[u8]) -> Option<Self> {
        let mut hash = DefaultResolver.resolve_hash(&HashChoice::Blake2s)?;
        let mut next = [0; KEY_BYTES];
        hash.hmac(&self.0, label, &mut next);
        Some(Self(next))
    }

    /// The key in the file at `path`: 32 bytes, readable by its owner alone.
    ///
    /// # Errors
    /// [`KeyError`] where there is no such file, others can read it, or it
    /// has another length.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Readable {
                path: path.to_owned(),
                mode,
            });
        }
        let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
        file.take(KEY_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| KeyError::WrongLength {
                path: path.to_owned(),
            })
    }

    /// The key in the file at `path`; where there is none, a new one is made
    /// and put there, whole or not at all. Of several processes that do so at
    /// once, all get the same key.
    ///
    /// # Errors
    /// As [`Key::load`].
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let key = Self::generate()?;
        let io = |source| KeyError::Io {
            path: path.to_owned(),
            source,
        };
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{:016x}", random::number()?));
        let draft = PathBuf::from(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(io)?;
        let written = file.write_all(&key.0).and_then(|()| file.sync_all());
        // A link, since unlike a rename it never replaces another's key.
        let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
        let removed = std::fs::remove_file(&draft);
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(io(error)),
            Ok(()) => removed.map(|()| key).map_err(io),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn roles_derive_downwards_only_and_by_any_way() {
        let cluster = Key::from_bytes([7; 32]);
        let writer = cluster.derive(Role::Cluster, Role::Writer).unwrap();
        let reader = cluster.derive(Role::Cluster, Role::Reader).unwrap();
        assert_eq!(writer.derive(Role::Writer, Role::Reader).unwrap(), reader);
        assert_eq!(
            cluster.derive(Role::Cluster, Role::Cluster).unwrap(),
            cluster
        );
        assert!(cluster != writer && writer != reader && cluster != reader);
        assert_eq!(writer.derive(Role::Writer, Role::Cluster), None);
        assert_eq!(reader.derive(Role::Reader, Role::Writer), None);
    }

    #[test]
    fn debug_hides_the_secret() {
        assert_eq!(format!("{:?}", Key::from_bytes([1; 32])), "Key(hidden)");
    }

    #[test]
    fn a_key_file_is_made_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = Key::load_or_create(&path).unwrap();
        assert_eq!(Key::load_or_create(&path).unwrap(), made);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        Key::load_or_create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Key::load_or_create(&path),
            Err(KeyError::Readable { mode: 0o640, .. })
        ));
    }

    #[test]
    fn a_file_of_another_length_is_no_key_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 31, 33] {
            let path = folder.path().join(format!("key{length}"));
            std::fs::write(&path, vec![1; length]).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(
                Key::load_or_create(&path),
                Err(KeyError::WrongLength { .. })
            ));
            assert_eq!(std::fs::read(&path).unwrap().len(), length);
        }
    }
}
