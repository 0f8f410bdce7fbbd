//! Reading a stream: open, step by step, commit, close.

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use panta_core::engine::Start;
use panta_core::session::{Reader, ReaderOptions};
use panta_transports::coupling::Progress;
use pyo3::prelude::*;

use crate::arguments;
use crate::comm::with_comm;
use crate::failed::Failed;
use crate::info::{Copies, Engine, PushCounts};
use crate::step::{PyStep, StepShared};
use crate::waits::{Waits, lock};

/// A time that an argument gives in seconds.
pub(crate) fn seconds(given: f64, what: &str) -> Result<Duration, Failed> {
    Duration::try_from_secs_f64(given).map_err(|_| {
        let message = format!("`{what}` is {given:?} seconds; it must be a time, and finite");
        Failed::new("ArgumentError", message)
    })
}

/// What `progress` and `silence` mean.
pub(crate) fn progress_of(
    progress: Option<&str>,
    silence: Option<f64>,
) -> Result<Option<Progress>, Failed> {
    let wrong = |message: &str| Err(Failed::new("ArgumentError", message.to_owned()));
    match (progress, silence) {
        (None, None) => Ok(None),
        (Some("threads"), None) => Ok(Some(Progress::Threads)),
        (Some("manual"), Some(silence)) => Ok(Some(Progress::Manual {
            silence: seconds(silence, "silence")?,
        })),
        (Some("manual"), None) => {
            wrong("progress='manual' needs `silence`, the seconds between two calls at most")
        }
        (None | Some("threads"), Some(_)) => wrong("`silence` is given without progress='manual'"),
        (Some(_), _) => wrong("`progress` is 'threads' or 'manual'"),
    }
}

struct State {
    session: Reader,
    /// The step it is at, which ends with the next one unless it was detached.
    current: Option<Arc<StepShared>>,
}

impl State {
    fn let_go_of_current(&mut self) {
        if let Some(step) = self.current.take() {
            step.let_go_unless_detached();
        }
    }
}

/// One rank's end of a stream that is read.
///
///     with panta.Reader("run42") as r:
///         for step in r:
///             u = step["u"][10:20, ::2, :]
///
/// `name` is a URL such as `file:run42.panta`, or a name that `PANTA_URL_<NAME>`, then
/// `panta.toml`, turn into one, else `file:<name>.panta`. `comm` is the group that opens it
/// together: `None` for this process alone, a `panta.Comm`, or a communicator of mpi4py.
///
/// It begins at the oldest step, or where one of these says: `start="latest"`, `at` or
/// `after` a step's number, `at_time` a simulation time, after what was committed under
/// `cursor`. Opening waits for the writer; `deadline` is how long each wait for a step may
/// take, in seconds, instead of the configured time. When it is over the loop raises
/// `NotReady`; begun again, it goes on with the step that comes next.
///
/// Opening, stepping and committing are collective over the group; reading is a rank's own.
#[pyclass(frozen, name = "Reader", module = "panta")]
pub(crate) struct PyReader {
    name: String,
    waits: Arc<Waits>,
    deadline: Option<Duration>,
    state: Mutex<Option<State>>,
}

fn start_of(
    start: Option<&str>,
    at: Option<&Bound<'_, PyAny>>,
    after: Option<&Bound<'_, PyAny>>,
    at_time: Option<f64>,
    cursor: Option<String>,
) -> Result<Start, Failed> {
    let wrong = |message: String| Err(Failed::new("ArgumentError", message));
    let named = match start {
        None => None,
        Some("oldest") => Some(Start::Oldest),
        Some("latest") => Some(Start::Latest),
        Some(other) => {
            return wrong(format!("`start` is '{other}'; it is 'oldest' or 'latest'"));
        }
    };
    let step = |given: Option<&Bound<'_, PyAny>>, what| {
        given
            .map(|given| arguments::number(given, what))
            .transpose()
    };
    let mut given = [
        named,
        step(at, "at")?.map(Start::At),
        step(after, "after")?.map(Start::After),
        at_time.map(Start::AtTime),
        cursor.map(Start::Cursor),
    ]
    .into_iter()
    .flatten();
    let first = given.next().unwrap_or_default();
    if given.next().is_some() {
        return wrong("give one of `start`, `at`, `after`, `at_time` and `cursor`".to_owned());
    }
    Ok(first)
}

#[pymethods]
impl PyReader {
    #[new]
    #[pyo3(signature = (name, comm=None, *, start=None, at=None, after=None, at_time=None, cursor=None, deadline=None, progress=None, silence=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords, in Python")]
    fn new(
        py: Python<'_>,
        name: &str,
        comm: Option<&Bound<'_, PyAny>>,
        start: Option<&str>,
        at: Option<&Bound<'_, PyAny>>,
        after: Option<&Bound<'_, PyAny>>,
        at_time: Option<f64>,
        cursor: Option<String>,
        deadline: Option<f64>,
        progress: Option<&str>,
        silence: Option<f64>,
    ) -> PyResult<Self> {
        let options = ReaderOptions {
            start: start_of(start, at, after, at_time, cursor)?,
            progress: progress_of(progress, silence)?,
        };
        let deadline = deadline
            .map(|given| seconds(given, "deadline"))
            .transpose()?;
        let waits = Arc::new(Waits::new());
        let session = with_comm(comm, |comm| {
            waits.run(py, || {
                let (engines, interrupt) = (panta::registry(), waits.interrupt());
                Reader::open_interruptible(name, comm, &engines, &options, interrupt)
            })
        })?;
        let state = State {
            session,
            current: None,
        };
        Ok(Self {
            name: name.to_owned(),
            waits,
            deadline,
            state: Mutex::new(Some(state)),
        })
    }

    /// The next step, or `None` when the writer has closed the stream and every step was
    /// seen; collective. Waits `deadline` seconds at most; 0 polls. The step before is let
    /// go, unless it was detached.
    ///
    /// Raises `NotReady` when none came in time, `RolledBack` when the writer restarted from
    /// an older step: after both go on calling. `WriterLost` when it died.
    #[pyo3(signature = (deadline=None))]
    fn next_step(&self, py: Python<'_>, deadline: Option<f64>) -> PyResult<Option<PyStep>> {
        let deadline = deadline
            .map(|given| seconds(given, "deadline"))
            .transpose()?;
        let deadline = deadline.or(self.deadline);
        self.with(|state| {
            let found = self.waits.run(py, || {
                state.let_go_of_current();
                match deadline {
                    Some(deadline) => state.session.next_step_within(deadline),
                    None => state.session.next_step(),
                }
            })?;
            let Some(step) = found else { return Ok(None) };
            let shared = Arc::new(StepShared::new(step, Arc::clone(&self.waits)));
            state.current = Some(Arc::clone(&shared));
            Ok(Some(PyStep { shared }))
        })
    }

    /// Shows the writer that the program is alive, where it was opened with
    /// `progress='manual'`; the other calls do so, too. `FencedError` if it stayed away for
    /// longer than its `silence`.
    fn progress(&self, py: Python<'_>) -> PyResult<()> {
        self.with(|state| {
            let session = &mut state.session;
            self.waits.run(py, move || session.progress())
        })
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PyStep>> {
        self.next_step(py, None)
    }

    /// Remembers under `cursor` that the group is done with everything up to `step`, the one
    /// the reader is at if none is given; collective. `Reader(…, cursor=…)` goes on after it.
    #[pyo3(signature = (cursor, step=None))]
    fn commit(&self, py: Python<'_>, cursor: &str, step: Option<&PyStep>) -> PyResult<()> {
        self.with(|state| {
            let head = match (step, &state.current) {
                (Some(step), _) => step.shared.head(),
                (None, Some(current)) => current.head(),
                (None, None) => {
                    let failed = Failed::new("NoStepError", "the reader is at no step yet");
                    return Err(failed.of_stream(&self.name, None).into());
                }
            };
            {
                let session = &mut state.session;
                self.waits.run(py, move || session.commit(&head, cursor))
            }
        })
    }

    /// Leaves the stream. The writer goes on without this reader. The step it is at is let
    /// go; detached ones and views stay.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let taken = match self.state.try_lock() {
            Ok(mut guard) => guard.take(),
            Err(TryLockError::Poisoned(broken)) => broken.into_inner().take(),
            Err(TryLockError::WouldBlock) => return Err(Failed::in_use("reader").into()),
        };
        self.waits.run(py, || {
            if let Some(mut state) = taken {
                state.let_go_of_current();
                state.session.close();
            }
            Ok::<(), Failed>(())
        })
    }

    /// A descriptor for `select` and the event loops of Python, on rank 0, which is who hears
    /// of steps: it becomes readable when steps should be taken. It may be readable for
    /// nothing, so call `next_step(deadline=0)` until that raises `NotReady`, and only then
    /// wait for it. It is not to be read from, and ends with the reader.
    fn fileno(&self) -> PyResult<i32> {
        self.with(|state| {
            let fd = state.session.wait_fd().map_err(Failed::from)?;
            Ok(fd.as_raw_fd())
        })
    }

    /// Ends the waits of this reader within 50 ms, with `InterruptedWait`: the one under way
    /// and those to come, until `clear_interrupt`. May be called from any thread.
    fn interrupt(&self) {
        self.waits.interrupt().set();
    }

    /// Takes the interrupt back.
    fn clear_interrupt(&self) {
        self.waits.interrupt().clear();
    }

    /// What carries the stream, and why.
    #[getter]
    fn engine(&self, py: Python<'_>) -> PyResult<Engine> {
        self.with(|state| {
            let session = &mut state.session;
            let info = self
                .waits
                .run(py, move || Ok::<_, Failed>(session.info()))?;
            Ok(info.into())
        })
    }

    /// The copies of payload that this reader and its steps have made so far.
    #[getter]
    fn copies(&self) -> PyResult<Copies> {
        self.with(|state| Ok(state.session.copies().into()))
    }

    /// Bytes of metadata so far: of steps that came to this rank, and what it sent to the
    /// other ranks.
    #[getter]
    fn metadata_bytes(&self) -> PyResult<u64> {
        self.with(|state| Ok(state.session.metadata_bytes()))
    }

    /// Bytes of blocks that this rank took from where they are stored, compressed or not; 0
    /// where the engine does not say.
    #[getter]
    fn fetched_bytes(&self) -> PyResult<u64> {
        self.with(|state| Ok(state.session.fetched_bytes()))
    }

    /// What was sent along with steps, and whether it was of use.
    #[getter]
    fn push_counts(&self) -> PyResult<PushCounts> {
        self.with(|state| Ok(PushCounts(state.session.push_counts())))
    }

    /// Says that what is read of a step will be read of every step: what was read of the last
    /// that was let go of, else what is read of the next. Over `stream:` the writer then sends
    /// that along with each step, so that reading has nothing to wait for. Without this it is
    /// found out after two steps. To read something else later is no error.
    fn freeze_selections(&self) -> PyResult<()> {
        self.with(|state| {
            state.session.freeze_selections();
            Ok(())
        })
    }

    /// This rank in the reader's group.
    #[getter]
    fn rank(&self) -> PyResult<usize> {
        self.with(|state| Ok(state.session.rank_and_size().0))
    }

    /// The number of ranks of the reader's group.
    #[getter]
    fn size(&self) -> PyResult<usize> {
        self.with(|state| Ok(state.session.rank_and_size().1))
    }

    /// The name or URL by which it was opened.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.state.try_lock().is_ok_and(|state| state.is_none())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _exception: &Bound<'_, pyo3::types::PyTuple>,
    ) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        let closed = if self.closed() { ", closed" } else { "" };
        format!("<panta.Reader of '{}'{closed}>", self.name)
    }
}

impl PyReader {
    fn with<R>(&self, act: impl FnOnce(&mut State) -> PyResult<R>) -> PyResult<R> {
        let mut guard = match self.state.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::WouldBlock) => return Err(Failed::in_use("reader").into()),
            Err(TryLockError::Poisoned(_)) => return Err(Failed::closed("reader").into()),
        };
        match guard.as_mut() {
            Some(state) => act(state),
            None => Err(Failed::closed("reader").of_stream(&self.name, None).into()),
        }
    }
}

impl Drop for PyReader {
    fn drop(&mut self) {
        let state = lock(&self.state).take();
        // Without the interpreter: a thread inside the engine may be waiting for it.
        let _ = Python::try_attach(|py| py.detach(|| drop(state)));
    }
}
