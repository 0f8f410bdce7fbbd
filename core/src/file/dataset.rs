//! The directory: names of its files, opening them, words for what goes wrong.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::pages::{FilePage, PAGE_BYTES, Role};
use crate::error::Fault;

/// Bytes of a dataset's identity.
pub(super) type Instance = [u8; 16];

/// A dataset's directory.
#[derive(Clone, Debug)]
pub(super) struct Dataset {
    directory: PathBuf,
}

impl Dataset {
    pub(super) fn new(name: &str) -> Self {
        Self {
            directory: PathBuf::from(name),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    pub(super) fn commits(&self) -> PathBuf {
        self.directory.join("commits")
    }

    /// Where `commits` is made before it takes its name.
    pub(super) fn unborn(&self) -> PathBuf {
        self.directory.join("commits.new")
    }

    pub(super) fn meta(&self) -> PathBuf {
        self.directory.join("meta")
    }

    pub(super) fn segment(&self, role: Role, epoch: u64, rank: u32) -> PathBuf {
        let kind = if role == Role::Data { "data" } else { "index" };
        self.directory.join(format!("{kind}.{epoch:04}.{rank:04}"))
    }

    pub(super) fn cursors(&self) -> PathBuf {
        self.directory.join("cursors")
    }
}

/// Epoch and rank in the name of a segment's file; `None` if it is none.
pub(super) fn segment_of(name: &str) -> Option<(Role, u64, u32)> {
    let (kind, numbers) = name.split_once('.')?;
    let role = match kind {
        "data" => Role::Data,
        "index" => Role::Index,
        _ => return None,
    };
    let (epoch, rank) = numbers.split_once('.')?;
    Some((role, epoch.parse().ok()?, rank.parse().ok()?))
}

/// What was being done to a file, and what the system said.
pub(super) fn io(doing: &str, path: &Path, error: &io::Error) -> Fault {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space and try again, sealed steps are whole"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a place this user may write to"
        }
        _ => "",
    };
    Fault::io(
        format!("{doing} {}", path.display()),
        &format!("{error}{hint}"),
    )
}

/// Bytes of a file that are not what they should be.
pub(super) fn damaged(path: &Path, offset: u64, problem: impl Into<String>) -> Fault {
    Fault::Corrupt {
        what: format!("{} at byte {offset}", path.display()),
        problem: problem.into(),
    }
}

/// A file and its name, for errors.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Named {
    pub(super) fn open(path: PathBuf) -> Result<Self, Fault> {
        match File::open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(io("opening", &path, &error)),
        }
    }

    pub(super) fn open_to_write(path: PathBuf) -> Result<Self, Fault> {
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(io("opening", &path, &error)),
        }
    }

    /// Makes a new file; one of that name is unlinked first, so that whoever
    /// still has it open writes into nothing of ours.
    pub(super) fn create(path: PathBuf, direct: bool) -> Result<Self, Fault> {
        remove_if_there(&path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        if direct {
            options.custom_flags(libc::O_DIRECT);
        }
        match options.open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) if direct && error.raw_os_error() == Some(libc::EINVAL) => {
                Err(Fault::Unsupported {
                    engine: "file".into(),
                    what: format!(
                        "write {} with direct=true, since its file system refuses O_DIRECT",
                        path.display()
                    ),
                    instead: "open it without `direct`, or on another file system".into(),
                })
            }
            Err(error) => Err(io("creating", &path, &error)),
        }
    }

    /// Bytes of the file now.
    pub(super) fn length(&self) -> Result<u64, Fault> {
        match self.file.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) => Err(io("looking at", &self.path, &error)),
        }
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Fault> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| io("writing", &self.path, &error))
    }

    /// Fills `bytes` from `offset` on.
    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), Fault> {
        self.file.read_exact_at(bytes, offset).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.ends_before(offset, bytes.len() as u64)
            } else {
                io("reading", &self.path, &error)
            }
        })
    }

    /// Reads `length` bytes, once it is known that the file has them.
    pub(super) fn read_checked(&self, offset: u64, length: u64) -> Result<Vec<u8>, Fault> {
        let end = offset.checked_add(length);
        let size = usize::try_from(length).ok();
        match (end, size) {
            (Some(end), Some(size)) if end <= self.length()? => {
                let mut bytes = vec![0; size];
                self.read_at(&mut bytes, offset)?;
                Ok(bytes)
            }
            _ => Err(self.ends_before(offset, length)),
        }
    }

    pub(super) fn ends_before(&self, offset: u64, length: u64) -> Fault {
        damaged(
            &self.path,
            offset,
            format!("the file ends before the {length} bytes that should lie there"),
        )
    }

    /// Cuts the file off after `length` bytes, if it is longer.
    pub(super) fn cut(&self, length: u64) -> Result<(), Fault> {
        if self.length()? <= length {
            return Ok(());
        }
        self.file
            .set_len(length)
            .map_err(|error| io("cutting off the end of", &self.path, &error))
    }

    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.file
            .sync_data()
            .map_err(|error| io("forcing to disk", &self.path, &error))
    }

    /// Reads and checks the first page.
    pub(super) fn file_page(&self, role: Role) -> Result<FilePage, Fault> {
        let bytes = self.read_checked(0, PAGE_BYTES)?;
        let page = FilePage::parse(&bytes)
            .map_err(|error| damaged(&self.path, error.offset as u64, error.problem))?;
        if page.role == role {
            Ok(page)
        } else {
            let problem = format!("the file says it is {:?}, not {role:?}", page.role);
            Err(damaged(&self.path, 12, problem))
        }
    }
}

/// Unlinks a file that may not be there.
pub(super) fn remove_if_there(path: &Path) -> Result<(), Fault> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io("removing", path, &error)),
        _ => Ok(()),
    }
}

/// Forces a directory's names to disk.
pub(super) fn sync_directory(path: &Path) -> Result<(), Fault> {
    Named::open(path.to_owned())?.sync()
}
