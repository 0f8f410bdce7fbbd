//! Opening with options, and what counts as a group of ranks.

use std::time::Duration;

use panta_core::comm::{Comm, Procs, Solo, ThreadComm};
use panta_core::engine::{Resume, Start};
use panta_core::error::OpenError;
use panta_core::session;
use panta_transports::coupling::Progress;
use panta_transports::time::Interrupt;

use crate::engines::registry;
use crate::reader::Reader;
use crate::writer::Writer;

/// The ranks that open a stream together. It is used during the opening only.
pub trait IntoComm {
    /// Calls `open` with the communicator.
    fn with<R>(self, open: impl FnOnce(&mut dyn Comm) -> R) -> R;
}

macro_rules! comms {
    ($($comm:ty),*) => {
        $(impl IntoComm for $comm {
            fn with<R>(mut self, open: impl FnOnce(&mut dyn Comm) -> R) -> R {
                open(&mut self)
            }
        })*
    };
}

comms!(Solo, ThreadComm, Procs);

#[cfg(feature = "mpi")]
comms!(crate::mpi::MpiComm);

impl IntoComm for Box<dyn Comm> {
    fn with<R>(mut self, open: impl FnOnce(&mut dyn Comm) -> R) -> R {
        open(self.as_mut())
    }
}

impl IntoComm for &mut dyn Comm {
    fn with<R>(self, open: impl FnOnce(&mut dyn Comm) -> R) -> R {
        open(self)
    }
}

/// How to open a stream for writing.
#[derive(Clone, Debug, Default)]
pub struct WriterBuilder {
    resume: Resume,
    progress: Option<Progress>,
    deadline: Option<Duration>,
    interrupt: Interrupt,
}

impl WriterBuilder {
    /// What becomes of steps that are already there: replaced by default.
    #[must_use]
    pub fn resume(mut self, resume: Resume) -> Self {
        self.resume = resume;
        self
    }

    /// Who does what is due between two calls, instead of what `progress` and `silence` of
    /// the configuration say: [`Progress::Manual`] starts no thread, and the program calls
    /// `progress` itself.
    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// How long each wait after the opening may take, instead of the configured time.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The flag that ends waits early, those of the opening too, instead of one of the
    /// handle's own.
    #[must_use]
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }

    /// Opens the stream; collective.
    ///
    /// # Errors
    /// [`OpenError`], the same on every rank.
    pub fn open(self, name: &str, comm: impl IntoComm) -> Result<Writer, OpenError> {
        let options = session::WriterOptions {
            resume: self.resume,
            progress: self.progress,
        };
        let mut session = comm.with(|comm| {
            session::Writer::open_interruptible(name, comm, &registry(), options, &self.interrupt)
        })?;
        if let Some(deadline) = self.deadline {
            session.set_deadline(deadline);
        }
        Ok(Writer { session })
    }
}

/// How to open a stream for reading.
#[derive(Clone, Debug, Default)]
pub struct ReaderBuilder {
    start: Start,
    progress: Option<Progress>,
    interrupt: Interrupt,
}

impl ReaderBuilder {
    /// Where to begin: at the oldest step by default.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Who does what is due between two calls, instead of what `progress` and `silence` of
    /// the configuration say: [`Progress::Manual`] starts no thread, and the program calls
    /// `progress` itself.
    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The flag that ends waits early, those of the opening too, instead of one of the
    /// handle's own.
    #[must_use]
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }

    /// Opens the stream; collective. Waits for its writer up to the configured deadline.
    ///
    /// # Errors
    /// [`OpenError`], the same on every rank.
    pub fn open(self, name: &str, comm: impl IntoComm) -> Result<Reader, OpenError> {
        let options = session::ReaderOptions {
            start: self.start,
            progress: self.progress,
        };
        let session = comm.with(|comm| {
            session::Reader::open_interruptible(name, comm, &registry(), &options, &self.interrupt)
        })?;
        Ok(Reader { session })
    }
}
