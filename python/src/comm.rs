//! Groups of ranks: one alone, threads, processes, or whatever a Python object gathers for.

use std::sync::{Arc, Mutex};

use panta_core::comm::{Comm, CommError, Procs, Solo, Threads};
use panta_transports::time::Wait;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arguments;
use crate::failed::Failed;
use crate::waits::lock;

/// The most ranks that `Comm.threads` makes.
const THREADS_LIMIT: usize = 1 << 16;

/// The ranks that open a stream together. Given to `Reader` or `Writer`, it is used while
/// the stream opens, and not afterwards.
///
/// Without one, a stream is opened by this process alone. Communicators of mpi4py can be
/// given as they are.
#[pyclass(frozen, name = "Comm", module = "panta")]
pub(crate) struct PyComm(Mutex<Box<dyn Comm>>);

#[pymethods]
impl PyComm {
    /// One rank alone.
    #[staticmethod]
    fn solo() -> Self {
        Self(Mutex::new(Box::new(Solo)))
    }

    /// Ranks that are processes of one host, as their environment says: `PANTA_RANK`,
    /// `PANTA_SIZE`, and `PANTA_RENDEZVOUS`, a directory that the run has to itself.
    #[staticmethod]
    fn procs() -> PyResult<Self> {
        let procs = Procs::from_environment().map_err(Failed::from)?;
        Ok(Self(Mutex::new(Box::new(procs))))
    }

    /// Ranks that are threads of this process: a list of `size`, one for each thread.
    #[staticmethod]
    fn threads(size: &Bound<'_, PyAny>) -> PyResult<Vec<Self>> {
        let size = arguments::number(size, "size")? as usize;
        if !(1..=THREADS_LIMIT).contains(&size) {
            let message = format!("`size` is {size}; it is 1 to {THREADS_LIMIT}");
            return Err(Failed::shape(message).into());
        }
        let group = Threads::group(size).into_iter();
        Ok(group.map(|comm| Self(Mutex::new(Box::new(comm)))).collect())
    }

    /// This rank's number, from 0.
    #[getter]
    fn rank(&self) -> PyResult<usize> {
        Ok(self.enter()?.rank())
    }

    /// How many ranks there are.
    #[getter]
    fn size(&self) -> PyResult<usize> {
        Ok(self.enter()?.size())
    }

    fn __repr__(&self) -> PyResult<String> {
        let comm = self.enter()?;
        Ok(format!(
            "<panta.Comm: rank {} of {}>",
            comm.rank(),
            comm.size()
        ))
    }
}

impl PyComm {
    fn enter(&self) -> Result<std::sync::MutexGuard<'_, Box<dyn Comm>>, Failed> {
        self.0
            .try_lock()
            .map_err(|_| Failed::in_use("communicator"))
    }
}

/// A communicator of Python's, as `panta._comm` adapts it.
struct Foreign {
    rank: usize,
    size: usize,
    gather: Py<PyAny>,
    raised: Arc<Mutex<Option<PyErr>>>,
}

impl Foreign {
    fn call(&self, py: Python<'_>, bytes: &[u8], seconds: f64) -> PyResult<Vec<Vec<u8>>> {
        let own = PyBytes::new(py, bytes);
        self.gather.bind(py).call1((own, seconds))?.extract()
    }
}

impl Comm for Foreign {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn allgather(&mut self, bytes: &[u8], wait: &Wait) -> Result<Vec<Vec<u8>>, CommError> {
        let seconds = wait.deadline().remaining().as_secs_f64();
        let gathered = Python::attach(|py| self.call(py, bytes, seconds));
        let foreign = |reason: String| CommError::Foreign { reason };
        match gathered {
            Ok(parts) if parts.len() == self.size => Ok(parts),
            Ok(parts) => Err(foreign(format!(
                "`comm` gathered {} parts from {} ranks",
                parts.len(),
                self.size
            ))),
            Err(error) => {
                let reason = format!("`comm` raised {error}");
                *lock(&self.raised) = Some(error);
                Err(foreign(reason))
            }
        }
    }
}

/// Runs `open` with the group that an argument names, on a rank alone for `None`. What the
/// communicator raised is the cause of the error, or the error itself if it says to stop.
pub(crate) fn with_comm<R>(
    given: Option<&Bound<'_, PyAny>>,
    open: impl FnOnce(&mut dyn Comm) -> PyResult<R>,
) -> PyResult<R> {
    let Some(given) = given else {
        return open(&mut Solo);
    };
    if let Ok(comm) = given.cast::<PyComm>() {
        return open(comm.get().enter()?.as_mut());
    }
    let py = given.py();
    let adapted = py.import("panta._comm")?.call_method1("adapt", (given,))?;
    let raised = Arc::<Mutex<Option<PyErr>>>::default();
    let mut foreign = Foreign {
        rank: arguments::number(&adapted.getattr("rank")?, "comm.rank")? as usize,
        size: arguments::number(&adapted.getattr("size")?, "comm.size")? as usize,
        gather: adapted.getattr("allgather")?.unbind(),
        raised: Arc::clone(&raised),
    };
    let outcome = open(&mut foreign);
    let cause = lock(&raised).take();
    match (outcome, cause) {
        (Ok(opened), _) => {
            adapted.call_method0("release")?;
            Ok(opened)
        }
        (Err(_), Some(stop)) if !stop.is_instance_of::<PyException>(py) => Err(stop),
        (Err(error), cause) => {
            if cause.is_some() {
                error.set_cause(py, cause);
            }
            Err(error)
        }
    }
}
