//! The append lock: held while a writer lives, released by the system when it dies.
//!
//! An open-file-description lock on the whole of `lock`: it ends with the
//! process, works within a process too, and a reader can ask for it without
//! taking it. The file is never removed; it names its holder while there is one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use panta_transports::copy::checksum;

use super::dataset::{Dataset, io};
use crate::error::Fault;

/// The longest text a lock file holds, in bytes.
const MAX_HOLDER_BYTES: usize = 512;

/// The right to append to a dataset.
#[derive(Debug)]
pub(super) struct AppendLock {
    file: File,
}

/// Why the lock was not had.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another writer has it.
    Busy { holder: String },
    /// The system refused.
    Failed(Fault),
}

impl AppendLock {
    pub(super) fn acquire(dataset: &Dataset) -> Result<Self, LockError> {
        let path = dataset.lock();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options
            .open(&path)
            .map_err(|error| LockError::Failed(io("opening", &path, &error)))?;
        let mut request = whole_file(libc::F_WRLCK);
        match control(&file, libc::F_OFD_SETLK, &mut request) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                let holder = holder(&file);
                return Err(LockError::Busy { holder });
            }
            Err(error) => return Err(LockError::Failed(io("locking", &path, &error))),
        }
        let lock = Self { file };
        lock.sign().map_err(LockError::Failed)?;
        Ok(lock)
    }

    /// Writes into the file who holds it.
    fn sign(&self) -> Result<(), Fault> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let text = format!("pid {} host {}", std::process::id(), host.trim());
        let line = format!("{text} crc32c {:08x}\n", checksum(text.as_bytes()));
        // Best effort: the name is for people, the lock itself is held.
        if self.file.set_len(0).is_ok() {
            let _ = self.file.write_all_at(line.as_bytes(), 0);
        }
        Ok(())
    }
}

impl Drop for AppendLock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
        // To close it is not enough: a child that is about to run another program has
        // the description too, until it does.
        let _ = control(
            &self.file,
            libc::F_OFD_SETLK,
            &mut whole_file(libc::F_UNLCK),
        );
    }
}

fn holder(file: &File) -> String {
    let mut bytes = [0; MAX_HOLDER_BYTES];
    let length = file.read_at(&mut bytes, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..length]);
    match text.split_once(" crc32c ") {
        Some((who, _)) => format!("the process with {who}"),
        None => "another process".into(),
    }
}

/// Asks about the lock without ever taking it.
#[derive(Debug)]
pub(super) struct LockProbe {
    file: File,
    path: PathBuf,
}

impl LockProbe {
    /// `None` if there is no lock file: then there is no writer.
    pub(super) fn open(dataset: &Dataset) -> Result<Option<Self>, Fault> {
        let path = dataset.lock();
        match File::open(&path) {
            Ok(file) => Ok(Some(Self { file, path })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io("opening", &path, &error)),
        }
    }

    pub(super) fn is_held(&self) -> Result<bool, Fault> {
        let mut request = whole_file(libc::F_WRLCK);
        control(&self.file, libc::F_OFD_GETLK, &mut request)
            .map_err(|error| io("asking for the lock on", &self.path, &error))?;
        Ok(i32::from(request.l_type) != libc::F_UNLCK)
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn control(file: &File, command: libc::c_int, request: &mut libc::flock) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open for as long as `file` is borrowed, and
        // both commands read and write one `flock`, borrowed exclusively.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(request)) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
