//! What there is to know of a writer from its contact file, for whoever looks without
//! joining it: no reader group comes of it, and the writer waits for nobody the less.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use panta_transports::coupling::Ticket;
use panta_transports::time::{Wait, wall_clock_ns};

use super::contact::{self, MAGIC, SUFFIX};
use super::process::Life;
use super::writer::answers;
use crate::config::{Distribution, Options, Target};
use crate::error::Fault;

/// Whether a writer lives, as far as can be told from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its root answers.
    Alive,
    /// Its root's process runs, and did not answer in time.
    Silent,
    /// Its root's process has ended: the file is stale.
    Gone,
    /// Its root is of another host and does not answer.
    Unreachable,
}

/// What a contact file says, and whether it still holds.
#[derive(Clone, Debug)]
pub struct Glance {
    /// The stream's name.
    pub stream: String,
    /// The random number of this life of the writer, in hexadecimal.
    pub instance: String,
    /// The number of this life.
    pub epoch: u64,
    /// Ranks of the writer.
    pub ranks: u32,
    /// The step after the last that was sealed, as far as it was noted.
    pub next_step: u64,
    /// The root's process, in words.
    pub process: String,
    /// Where the root listens.
    pub addresses: Vec<SocketAddr>,
    /// Since the file was written to: it is with steps that are sealed.
    pub age: Duration,
    /// Whether the writer lives.
    pub state: State,
    /// Which reader groups get a step.
    pub distribution: Distribution,
}

/// Whether a path is that of a contact file: by its name, or by what is in it.
#[must_use]
pub fn is_contact(path: &Path) -> bool {
    let named = path.to_string_lossy().ends_with(SUFFIX);
    let holds = || {
        let mut front = [0; MAGIC.len()];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut front));
        read.is_ok() && front == MAGIC
    };
    named || (path.is_file() && holds())
}

/// Where the contact file of a stream is, and which reader groups get a step of it; `None`
/// if there is no such file here, or it is of another stream.
///
/// # Errors
/// [`Fault`] as of [`look`].
pub fn distribution(target: &Target) -> Result<Option<(PathBuf, Distribution)>, Fault> {
    let path = contact::path_of(target);
    let found = contact::look(&path)?;
    let contact = found.map(|found| found.contact);
    let contact = contact.filter(|contact| contact.stream == target.name);
    Ok(contact.map(|contact| (path, contact.distribution)))
}

/// Looks at the contact file at `path`, and whether its writer answers; `None` if there
/// is none. Waits for an answer no longer than `at_most`.
///
/// # Errors
/// [`Fault`] if the file cannot be read, others can read it, or it is none.
pub fn look(path: &Path, at_most: Duration) -> Result<Option<Glance>, Fault> {
    let Some(found) = contact::look(path)? else {
        return Ok(None);
    };
    let contact = found.contact;
    let ticket = Ticket::from_bytes(&contact.ticket).map_err(|error| Fault::Corrupt {
        what: format!("the address in the contact file {}", path.display()),
        problem: error.to_string(),
    })?;
    let life = contact.process.life();
    let state = match life {
        Life::Gone => State::Gone,
        Life::Here | Life::Unknown => {
            // Time beyond the lease: who has none counts who is silent as alive.
            let wait = Wait::for_at_most(at_most.saturating_mul(2));
            let options = Options {
                lease: at_most,
                ..Options::default()
            };
            match (
                answers(&ticket, &contact.key, (&options, at_most), &wait)?,
                life,
            ) {
                (true, _) => State::Alive,
                (false, Life::Here) => State::Silent,
                (false, _) => State::Unreachable,
            }
        }
    };
    let written = std::fs::metadata(path).map_or(0, |file| {
        let (seconds, rest) = (file.mtime(), file.mtime_nsec());
        u64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(rest)).unwrap_or(0)
    });
    Ok(Some(Glance {
        epoch: contact.epoch(),
        instance: contact
            .instance
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        stream: contact.stream,
        distribution: contact.distribution,
        ranks: contact.ranks,
        next_step: found.next_step,
        process: contact.process.to_string(),
        addresses: ticket.addresses,
        age: Duration::from_nanos(wall_clock_ns().saturating_sub(written)),
        state,
    }))
}
