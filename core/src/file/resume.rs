//! What a writer finds and makes of it: begin anew, go on after the last step,
//! or go back.
//!
//! The root looks twice: once to tell the other ranks epoch and first step, and
//! again when it takes the lock for good. If another writer came in between,
//! the second look shows it.

use std::path::Path;

use panta_transports::random;
use panta_transports::time::wall_clock_ns;

use super::dataset::{Dataset, Instance, Named, io, remove_if_there, segment_of, sync_directory};
use super::lock::{AppendLock, LockError};
use super::log::{Life, Log};
use super::pages::{FilePage, PAGE_BYTES, Role};
use crate::codec::{DecodeError, Decoder, Encoder};
use crate::engine::Resume;
use crate::error::{Fault, OpenError, Place};

/// What the first look found, for every rank's attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) instance: Instance,
    pub(super) epoch: u64,
    pub(super) first_step: u64,
    /// Whether what is there is replaced.
    pub(super) fresh: bool,
    /// The page behind the last record that holds, and the checksum before it.
    next_page: u64,
    chain: u32,
}

impl Ticket {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.bytes(&self.instance);
        encoder.u64(self.epoch).u64(self.first_step);
        encoder.u8(u8::from(self.fresh));
        encoder.u64(self.next_page).u32(self.chain);
        encoder.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let instance = from.bytes()?;
        let ticket = Self {
            instance: instance
                .try_into()
                .map_err(|_| from.error("an identity has 16 bytes"))?,
            epoch: from.u64()?,
            first_step: from.u64()?,
            fresh: from.u8()? != 0,
            next_page: from.u64()?,
            chain: from.u32()?,
        };
        from.finish()?;
        Ok(ticket)
    }
}

/// The lock, or why not, as the user is told.
pub(super) fn lock(dataset: &Dataset, place: &Place) -> Result<AppendLock, OpenError> {
    AppendLock::acquire(dataset).map_err(|error| match error {
        LockError::Busy { holder } => OpenError::Busy {
            stream: place.stream.clone(),
            holder,
        },
        LockError::Failed(fault) => fault.at(place.clone()).into(),
    })
}

/// Makes the directory, or checks that what is in it is a dataset.
pub(super) fn enter(dataset: &Dataset) -> Result<(), Fault> {
    let directory = dataset.directory();
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(io("creating the directory", directory, &error));
        }
        _ => {}
    }
    for name in names(directory)? {
        if !is_ours(&name) {
            return Err(Fault::Refused {
                peer: format!("the directory {}", directory.display()),
                why: format!("it holds `{name}`, which is of no dataset; choose another name"),
            });
        }
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<String>, Fault> {
    let reading = |error| io("reading the directory", directory, &error);
    std::fs::read_dir(directory)
        .map_err(reading)?
        .map(|entry| Ok(entry.map_err(reading)?.file_name().to_string_lossy().into()))
        .collect()
}

fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "lock" | "commits" | "commits.new" | "meta" | "cursors"
    ) || segment_of(name).is_some()
}

/// Removes the dataset in `directory`, unless somebody writes it.
pub(crate) fn remove_unless_written(directory: &Path) -> Result<(), Fault> {
    let stays = |why: String| Fault::Refused {
        peer: format!("the directory {}", directory.display()),
        why,
    };
    let metadata = std::fs::symlink_metadata(directory);
    let is_directory = metadata.is_ok_and(|it| it.is_dir());
    if !is_directory || !names(directory)?.iter().all(|name| is_ours(name)) {
        return Err(stays("it is no dataset".into()));
    }
    let dataset = Dataset::new(&directory.to_string_lossy());
    let lock = AppendLock::acquire(&dataset).map_err(|error| match error {
        LockError::Busy { holder } => stays(format!("{holder} writes it")),
        LockError::Failed(fault) => fault,
    })?;
    let removed = std::fs::remove_dir_all(directory);
    drop(lock);
    removed.map_err(|error| io("removing the dataset", directory, &error))
}

/// Looks at what is there; changes nothing. The log too, if it is gone on with.
pub(super) fn survey(dataset: &Dataset, resume: Resume) -> Result<(Ticket, Option<Log>), Fault> {
    let exists = dataset.commits().try_exists();
    let exists = exists.map_err(|error| io("looking for", &dataset.commits(), &error))?;
    if resume == Resume::Fresh || (!exists && resume == Resume::Last) {
        let mut instance = Instance::default();
        random::fill(&mut instance)
            .map_err(|error| Fault::io("making an identity for the dataset", &error))?;
        let ticket = Ticket {
            instance,
            epoch: 1,
            first_step: 0,
            fresh: true,
            next_page: 1,
            chain: 0,
        };
        return Ok((ticket, None));
    }
    if !exists {
        return Err(nothing_to_resume(dataset, resume, None));
    }
    let commits = Named::open(dataset.commits())?;
    let mut log = Log::of(&commits)?;
    let read = log.refresh(&commits);
    let first_step = match resume {
        Resume::After(step) => {
            // Damage behind that step is given up with what it hit.
            if step >= log.next_step {
                read?;
                return Err(nothing_to_resume(
                    dataset,
                    resume,
                    log.next_step.checked_sub(1),
                ));
            }
            step + 1
        }
        Resume::Last | Resume::Fresh => {
            read?;
            log.next_step
        }
    };
    let ticket = Ticket {
        instance: log.instance,
        epoch: log.epoch + 1,
        first_step,
        fresh: false,
        next_page: log.next_page,
        chain: log.chain,
    };
    Ok((ticket, Some(log)))
}

fn nothing_to_resume(dataset: &Dataset, resume: Resume, last: Option<u64>) -> Fault {
    let wanted = match resume {
        Resume::After(step) => format!("step {step}"),
        Resume::Last | Resume::Fresh => "the last step".into(),
    };
    let held = match last {
        Some(last) => format!("the last step there is {last}; resume after that one"),
        None => "there is no step at all; start afresh".into(),
    };
    Fault::Refused {
        peer: format!("the dataset {}", dataset.directory().display()),
        why: format!("it cannot be gone on with after {wanted}: {held}"),
    }
}

/// `commits` and `meta`, ready to be appended to; the lock is held.
pub(super) struct Taken {
    pub(super) commits: Named,
    pub(super) meta: Named,
    pub(super) log: Log,
}

/// Replaces what is there, or cuts its torn tail, as the ticket says.
pub(super) fn take(dataset: &Dataset, ticket: &Ticket, resume: Resume) -> Result<Taken, Fault> {
    if ticket.fresh {
        return replace(dataset, ticket);
    }
    let (now, log) = survey(dataset, resume)?;
    let Some(log) = log.filter(|_| now == *ticket) else {
        return Err(Fault::Refused {
            peer: format!("the dataset {}", dataset.directory().display()),
            why: "another writer came first; open it again".into(),
        });
    };
    let commits = Named::open_to_write(dataset.commits())?;
    let meta = Named::open_to_write(dataset.meta())?;
    let page = meta.file_page(Role::Meta)?;
    if page.instance != log.instance {
        return Err(super::dataset::damaged(
            &meta.path,
            16,
            "it is of another dataset",
        ));
    }
    commits.cut(log.next_page * PAGE_BYTES)?;
    meta.cut(log.meta_end)?;
    cut_segments(dataset, &log)?;
    Ok(Taken { commits, meta, log })
}

/// Cuts the segments of the epoch that ended; ranks of it that still live
/// write where nobody reads, since a new epoch has new files.
fn cut_segments(dataset: &Dataset, log: &Log) -> Result<(), Fault> {
    if log.life != Life::Writing {
        return Ok(());
    }
    for name in names(dataset.directory())? {
        let Some((role, epoch, rank)) = segment_of(&name) else {
            continue;
        };
        if epoch != log.epoch {
            continue;
        }
        let ends = log.segment_ends.get(&rank).copied();
        let (data, index) = ends.unwrap_or((PAGE_BYTES, PAGE_BYTES));
        let end = if role == Role::Data { data } else { index };
        Named::open_to_write(dataset.directory().join(name))?.cut(end)?;
    }
    Ok(())
}

fn replace(dataset: &Dataset, ticket: &Ticket) -> Result<Taken, Fault> {
    // `commits` first: without it there is no dataset.
    remove_if_there(&dataset.commits())?;
    for name in names(dataset.directory())? {
        if segment_of(&name).is_some() {
            remove_if_there(&dataset.directory().join(name))?;
        }
    }
    match std::fs::remove_dir_all(dataset.cursors()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io("removing", &dataset.cursors(), &error));
        }
        _ => {}
    }
    let page = |role| FilePage {
        role,
        instance: ticket.instance,
        epoch: 0,
        rank: 0,
        created_ns: wall_clock_ns(),
        compressed: false,
    };
    let meta = Named::create(dataset.meta(), false)?;
    meta.write_at(&page(Role::Meta).encode(), 0)?;
    let unborn = Named::create(dataset.unborn(), false)?;
    unborn.write_at(&page(Role::Commits).encode(), 0)?;
    let log = Log::of(&unborn)?;
    meta.sync()?;
    unborn.sync()?;
    std::fs::rename(dataset.unborn(), dataset.commits())
        .map_err(|error| io("creating", &dataset.commits(), &error))?;
    sync_directory(dataset.directory())?;
    let commits = Named {
        file: unborn.file,
        path: dataset.commits(),
    };
    Ok(Taken { commits, meta, log })
}
