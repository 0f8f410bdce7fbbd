//! The contact file: how a reader finds the writer of `stream:NAME`, and how
//! writers of one name find out about each other.
//!
//! ```text
//! offset  bytes
//!      0      8  `PANTACON`
//!      8      4  version of this format, 3
//!     12      4  length of the body
//!     16      4  CRC32C of the body
//!     20      4  zero
//!     24      8  the number of the next step, rewritten in place as steps are sealed
//!     32      8  the same with all bits turned, so that a torn one shows
//!     40         body: stream, instance, lives, process, ranks, key, ticket,
//!               silence, distribution
//! ```
//! Everything is little-endian.
//!
//! It promises: the file is there whole or not at all, readable by its owner
//! alone; of several writers that come at once one gets it; a file that a dead
//! writer left is replaced, and only that file. It holds the stream's secret
//! key, so whoever can read it can read the stream.
//!
//! It does not: tell by itself whether a writer on another host lives; who
//! connects finds out.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use panta_transports::channel::Key;
use panta_transports::copy::checksum;
use panta_transports::random;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use super::machine::Life;
use super::process::Process;
use crate::codec::{DecodeError, Decoder, Encoder};
use crate::config::{Distribution, Target, Value as _};
use crate::error::Fault;

/// How contact files are called after the stream.
pub(super) const SUFFIX: &str = ".panta-contact";
pub(super) const MAGIC: [u8; 8] = *b"PANTACON";
const VERSION: u32 = 3;
const PROGRESS_AT: u64 = 24;
const BODY_AT: usize = 40;
/// The largest contact file, in bytes.
const MAX_BYTES: usize = 64 << 10;
const KEY_BYTES: usize = 32;

/// A random number of a writer's life.
pub(super) type Instance = [u8; 16];

/// What a contact file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contact {
    /// The stream's name.
    pub(super) stream: String,
    /// This life of the writer.
    pub(super) instance: Instance,
    /// The lives of the writer as far as they are known, this one last.
    pub(super) lives: Vec<Life>,
    /// The root of the writer.
    pub(super) process: Process,
    /// How many ranks the writer has.
    pub(super) ranks: u32,
    /// What reader and writer know and nobody else.
    pub(super) key: Key,
    /// Where the root's endpoint listens.
    pub(super) ticket: Vec<u8>,
    /// How long the root may stay away, in milliseconds; 0: it answers at any time.
    pub(super) silence_ms: u32,
    /// Which reader groups get a step.
    pub(super) distribution: Distribution,
}

impl Contact {
    /// The number of this life.
    pub(super) fn epoch(&self) -> u64 {
        self.lives.last().map_or(0, |life| life.epoch)
    }
}

/// A contact file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) contact: Contact,
    /// The number of the step after the last that was sealed, as far as the
    /// writer had noted it.
    pub(super) next_step: u64,
    pub(super) identity: Identity,
}

/// Which file it is, whatever its name: device and number.
pub(super) type Identity = (u64, u64);

/// Where the contact file of a stream is.
pub(super) fn path_of(target: &Target) -> PathBuf {
    match &target.options.contact {
        Some(path) => path.clone(),
        None => PathBuf::from(format!("{}{SUFFIX}", target.name)),
    }
}

fn io(doing: &str, path: &Path, error: &dyn std::fmt::Display) -> Fault {
    Fault::io(format!("{doing} contact file {}", path.display()), error)
}

/// Reads the contact file; `None` if there is none.
///
/// # Errors
/// [`Fault`] if it cannot be read, others can read it, or it is none.
pub(super) fn look(path: &Path) -> Result<Option<Found>, Fault> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("opening", path, &error)),
    };
    let failed = |error: std::io::Error| io("reading", path, &error);
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Fault::Refused {
            peer: format!("the contact file {}", path.display()),
            why: format!(
                "it has mode {mode:03o}, others can read the key in it; remove it and start the writer again"
            ),
        });
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let (contact, next_step) = decode(&bytes).map_err(|error| Fault::Corrupt {
        what: format!("the contact file {}", path.display()),
        problem: format!("{error}; remove it, or name another with `contact`"),
    })?;
    Ok(Some(Found {
        contact,
        next_step,
        identity: (metadata.dev(), metadata.ino()),
    }))
}

fn progress_bytes(next_step: u64) -> [u8; 16] {
    let both = u128::from(next_step) | (u128::from(!next_step) << 64);
    both.to_le_bytes()
}

pub(super) fn encode(contact: &Contact, next_step: u64) -> Vec<u8> {
    let mut body = Encoder::default();
    body.text(&contact.stream)
        .bytes(&contact.instance)
        .length(contact.lives.len());
    for life in &contact.lives {
        // One more than the step, so that 0 is for none.
        let after = life.after.map_or(0, |step| step.saturating_add(1));
        body.u64(life.epoch).u64(after);
    }
    contact.process.encode(&mut body);
    body.u32(contact.ranks)
        .bytes(contact.key.secret_bytes())
        .bytes(&contact.ticket)
        .u32(contact.silence_ms)
        .text(&contact.distribution.print());
    let body = body.finish();
    let mut bytes = Vec::with_capacity(BODY_AT + body.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(checksum(&body).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(progress_bytes(next_step));
    bytes.extend(body);
    bytes
}

fn decode(bytes: &[u8]) -> Result<(Contact, u64), DecodeError> {
    let mut from = Decoder::new(bytes);
    if from.take(MAGIC.len())? != MAGIC {
        return Err(from.error("it does not begin as one"));
    }
    let version = from.u32()?;
    if version != VERSION {
        return Err(from.error(format!(
            "it is of version {version}, this build knows {VERSION}"
        )));
    }
    let (length, crc) = (from.u32()?, from.u32()?);
    from.take(4)?;
    let (next_step, turned) = (from.u64()?, from.u64()?);
    let body = from.take(length as usize)?;
    if bytes.len() > MAX_BYTES || checksum(body) != crc {
        return Err(from.error("its checksum is wrong"));
    }
    from.finish()?;
    // Torn: the number is then not known, and a new life begins before it.
    let next_step = if turned == !next_step { next_step } else { 0 };
    let mut from = Decoder::new(body);
    let contact = Contact {
        stream: from.text()?,
        instance: fixed(&mut from)?,
        lives: lives(&mut from)?,
        process: Process::decode(&mut from)?,
        ranks: from.u32()?,
        key: Key::from_bytes(fixed::<KEY_BYTES>(&mut from)?),
        ticket: from.bytes()?.to_vec(),
        silence_ms: from.u32()?,
        distribution: distribution(&mut from)?,
    };
    from.finish()?;
    Ok((contact, next_step))
}

fn distribution(from: &mut Decoder<'_>) -> Result<Distribution, DecodeError> {
    let text = from.text()?;
    Distribution::parse(&text).map_err(|_| from.error("it deals steps in a way that is not known"))
}

fn lives(from: &mut Decoder<'_>) -> Result<Vec<Life>, DecodeError> {
    let mut lives: Vec<Life> = Vec::new();
    for _ in 0..from.count(16)? {
        let life = Life {
            epoch: from.u64()?,
            after: from.u64()?.checked_sub(1),
        };
        if lives.last().is_some_and(|last| last.epoch >= life.epoch) {
            return Err(from.error("lives are not in ascending order"));
        }
        lives.push(life);
    }
    if lives.is_empty() {
        return Err(from.error("it names no life of the writer"));
    }
    Ok(lives)
}

fn fixed<const LENGTH: usize>(from: &mut Decoder<'_>) -> Result<[u8; LENGTH], DecodeError> {
    let bytes = from.bytes()?;
    <[u8; LENGTH]>::try_from(bytes)
        .map_err(|_| from.error(format!("{} bytes where {LENGTH} belong", bytes.len())))
}

/// The contact file of a writer that lives.
#[derive(Debug)]
pub(super) struct ContactFile {
    path: PathBuf,
    file: File,
    identity: Identity,
    removed: bool,
}

/// Why a contact file was not made.
#[derive(Debug)]
pub(super) enum Unpublished {
    /// Another came first: look again.
    Taken,
    /// The system refused.
    Failed(Fault),
}

impl ContactFile {
    /// Puts the file there, in place of the one that a dead writer left.
    pub(super) fn publish(
        path: &Path,
        contact: &Contact,
        next_step: u64,
        replaces: Option<Identity>,
    ) -> Result<Self, Unpublished> {
        let failed = |doing: &str, error: &dyn std::fmt::Display| {
            Unpublished::Failed(io(doing, path, error))
        };
        let number = random::number().map_err(|error| failed("naming", &error))?;
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{number:016x}"));
        let draft = Draft(PathBuf::from(draft));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft.0)
            .map_err(|error| failed("making", &error))?;
        file.write_all(&encode(contact, next_step))
            .map_err(|error| failed("writing", &error))?;
        let metadata = file.metadata().map_err(|error| failed("making", &error))?;
        if let Some(identity) = replaces {
            remove(path, identity).map_err(|error| failed("replacing", &error))?;
        }
        match place(&draft.0, path) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                identity: (metadata.dev(), metadata.ino()),
                file,
                removed: false,
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Unpublished::Taken),
            Err(error) => Err(failed("making", &error)),
        }
    }

    /// Notes which step comes next, for a later life.
    pub(super) fn note(&self, next_step: u64) {
        // A note that fails is an old one; the next life then begins earlier.
        let _ = self
            .file
            .write_all_at(&progress_bytes(next_step), PROGRESS_AT);
    }

    /// The life that has taken this one's place, if one has.
    pub(super) fn successor(&self) -> Option<u64> {
        let metadata = std::fs::metadata(&self.path).ok()?;
        if (metadata.dev(), metadata.ino()) == self.identity {
            return None;
        }
        look(&self.path)
            .ok()
            .flatten()
            .map(|found| found.contact.epoch())
    }

    /// Takes the file away, unless it is another's by now.
    pub(super) fn remove(&mut self) {
        if !std::mem::replace(&mut self.removed, true) {
            // One that stays is found stale by whoever reads it.
            let _ = remove(&self.path, self.identity);
        }
    }
}

impl Drop for ContactFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A file under a passing name.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // It has its lasting name by now, or is of no use.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Gives the draft its name, unless there is a file of that name.
fn place(draft: &Path, path: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Network file systems know no such renaming, but links.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => std::fs::hard_link(draft, path),
        Err(error) => Err(error.into()),
    }
}

/// Removes the file if it is the one that is meant. Whoever removes holds its
/// lock meanwhile, so that nobody removes a file that came in its place.
fn remove(path: &Path, identity: Identity) -> std::io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if (metadata.dev(), metadata.ino()) != identity {
        return Ok(());
    }
    // Where there are no locks, the look below has to do.
    let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
    let there = std::fs::metadata(path);
    if there.is_ok_and(|there| (there.dev(), there.ino()) == identity) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
