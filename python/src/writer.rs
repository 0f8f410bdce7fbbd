//! Writing a stream: open, define, close; the steps are in [`crate::written`].
//!
//! What is put stays where it is until the step's end takes it: this module keeps the
//! arrays, and the session's puts of them, and drops both when the step is over.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use panta_core::engine::Resume;
use panta_core::model::{Accuracy, DType, Definition, StepTime};
use panta_core::session::{Put, Writer, WriterOptions};
use pyo3::prelude::*;
use pyo3::types::PyMapping;

use crate::arguments;
use crate::array::Memory;
use crate::comm::with_comm;
use crate::dtype;
use crate::failed::Failed;
use crate::info::{Copies, Engine};
use crate::reader::{progress_of, seconds};
use crate::shape::{shaped, sides};
use crate::values;
use crate::waits::{Waits, lock};
use crate::written::PyWriterStep;

/// What a writer and its step have in common.
pub(crate) struct WriterShared {
    pub(crate) name: String,
    pub(crate) waits: Waits,
    pub(crate) state: Mutex<Option<State>>,
    /// Which of the writer's steps is open; 0 if none is.
    pub(crate) open: AtomicU64,
}

pub(crate) struct State {
    pub(crate) session: Writer,
    /// How many steps were begun.
    begun: u64,
    /// What was put into the step that is open, and what keeps its memory in place.
    pub(crate) puts: Vec<Put<'static>>,
    pub(crate) kept: Vec<Py<PyAny>>,
    pub(crate) booleans: Vec<(usize, Memory)>,
    /// The spans that end with the step.
    pub(crate) leases: Vec<Py<PyAny>>,
    /// Why a put was refused before it came to the session.
    pub(crate) refused: Option<String>,
}

impl WriterShared {
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut State) -> PyResult<R>) -> PyResult<R> {
        let mut guard = match self.state.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::WouldBlock) => return Err(Failed::in_use("writer").into()),
            Err(TryLockError::Poisoned(_)) => return Err(Failed::closed("writer").into()),
        };
        match guard.as_mut() {
            Some(state) => act(state),
            None => Err(Failed::closed("writer").of_stream(&self.name, None).into()),
        }
    }
}

impl Drop for WriterShared {
    fn drop(&mut self) {
        let Some(mut state) = lock(&self.state).take() else {
            return;
        };
        let _ = Python::try_attach(|py| {
            state.end_spans(py);
            py.detach(|| drop(state));
        });
    }
}

impl State {
    /// The variable that an argument names.
    pub(crate) fn find(&self, name: &str) -> Result<usize, Failed> {
        self.session.find(name).ok_or_else(|| {
            let message = format!("there is no variable `{name}`; define it first");
            Failed::new("UnknownVariable", message)
                .at(&self.session.place())
                .of_variable(name)
        })
    }

    /// Makes the arrays over the transport's memory say that they are over.
    pub(crate) fn end_spans(&mut self, py: Python<'_>) {
        for lease in self.leases.drain(..) {
            // It fails for want of memory at worst, and then nothing else is to be done.
            let _ = lease.call_method0(py, "end");
        }
    }
}

/// One rank's end of a stream that is written.
///
///     with panta.Writer("run42") as w:
///         w.define("u", "f8", (64, 32), dims=("y", "x"), unit="K")
///         for n in range(5):
///             with w.step(time=0.1 * n) as s:
///                 s.put("u", field)
///
/// `name` is a URL such as `file:run42.panta`, or a name that `PANTA_URL_<NAME>`, then
/// `panta.toml`, turn into one, else `file:<name>.panta`. `comm` is the group that opens it
/// together: `None` for this process alone, a `panta.Comm`, or a communicator of mpi4py.
///
/// What is there already is replaced; with `resume="last"` the stream goes on after its last
/// step, with a number after that step. `deadline` is how long each wait after the opening
/// may take, in seconds, instead of the configured time.
///
/// Opening, beginning and ending a step, and closing, are collective over the group, with
/// the same outcome on every rank.
#[pyclass(frozen, name = "Writer", module = "panta")]
pub(crate) struct PyWriter {
    shared: Arc<WriterShared>,
}

fn resume_of(given: Option<&Bound<'_, PyAny>>) -> Result<Resume, Failed> {
    let Some(given) = given else {
        return Ok(Resume::Fresh);
    };
    if let Ok(step) = arguments::number(given, "resume") {
        return Ok(Resume::After(step));
    }
    if given.extract::<String>().is_ok_and(|text| text == "last") {
        return Ok(Resume::Last);
    }
    let message = format!("`resume` is {given:?}; it is None, 'last' or the number of a step");
    Err(Failed::new("ArgumentError", message))
}

#[pymethods]
impl PyWriter {
    #[new]
    #[pyo3(signature = (name, comm=None, *, resume=None, deadline=None, progress=None, silence=None))]
    fn new(
        py: Python<'_>,
        name: &str,
        comm: Option<&Bound<'_, PyAny>>,
        resume: Option<&Bound<'_, PyAny>>,
        deadline: Option<f64>,
        progress: Option<&str>,
        silence: Option<f64>,
    ) -> PyResult<Self> {
        let options = WriterOptions {
            resume: resume_of(resume)?,
            progress: progress_of(progress, silence)?,
        };
        let deadline = deadline
            .map(|given| seconds(given, "deadline"))
            .transpose()?;
        let waits = Waits::new();
        let mut session = with_comm(comm, |comm| {
            waits.run(py, || {
                let (engines, interrupt) = (panta::registry(), waits.interrupt());
                Writer::open_interruptible(name, comm, &engines, options, interrupt)
            })
        })?;
        if let Some(deadline) = deadline {
            session.set_deadline(deadline);
        }
        let state = State {
            session,
            begun: 0,
            puts: Vec::new(),
            kept: Vec::new(),
            booleans: Vec::new(),
            leases: Vec::new(),
            refused: None,
        };
        Ok(Self {
            shared: Arc::new(WriterShared {
                name: name.to_owned(),
                waits,
                state: Mutex::new(Some(state)),
                open: AtomicU64::new(0),
            }),
        })
    }

    /// Defines a variable from the next step on.
    ///
    /// `dtype` is what `numpy.dtype` takes, or `str`. `shape` makes it a global array, of
    /// which ranks put boxes; with one side `None`, a joined array, whose blocks are joined
    /// along that side; without a shape, it is a global value, one for each step. `kind` says
    /// "local value" (one per rank) or, with `ndim`, "local array" (blocks that stand for
    /// themselves).
    ///
    /// `dims` names the dimensions, `unit` is for people, `coordinates` names variables that
    /// hold the coordinates, `fill` is for cells that nobody puts, `chunk` is the shape by
    /// which servers cut, `attributes` a dict. `absolute_accuracy`, in the unit of the elements,
    /// or `relative_accuracy`, a part of each number, is how far numbers may be rounded, so that
    /// `compress` gains more.
    ///
    /// Defining a variable again may change its shape, unit, fill, chunk, coordinates and
    /// accuracy.
    #[pyo3(signature = (name, dtype, shape=None, *, dims=None, unit="", coordinates=None, fill=None, chunk=None, kind=None, ndim=None, attributes=None, absolute_accuracy=None, relative_accuracy=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords, in Python")]
    fn define(
        &self,
        name: &str,
        dtype: &Bound<'_, PyAny>,
        shape: Option<&Bound<'_, PyAny>>,
        dims: Option<&Bound<'_, PyAny>>,
        unit: &str,
        coordinates: Option<&Bound<'_, PyAny>>,
        fill: Option<&Bound<'_, PyAny>>,
        chunk: Option<&Bound<'_, PyAny>>,
        kind: Option<&str>,
        ndim: Option<&Bound<'_, PyAny>>,
        attributes: Option<&Bound<'_, PyMapping>>,
        absolute_accuracy: Option<f64>,
        relative_accuracy: Option<f64>,
    ) -> PyResult<()> {
        let dtype = dtype::of_argument(dtype, "dtype")?;
        let accuracy = match (absolute_accuracy, relative_accuracy) {
            (Some(_), Some(_)) => {
                let message = "give `absolute_accuracy` or `relative_accuracy`, not both";
                return Err(pyo3::exceptions::PyValueError::new_err(message));
            }
            (absolute, relative) => {
                let relative = relative.map(Accuracy::Relative);
                absolute.map(Accuracy::Absolute).or(relative)
            }
        };
        let shape = shape.map(|shape| sides(shape)).transpose()?;
        let ndim = ndim
            .map(|ndim| arguments::number(ndim, "ndim"))
            .transpose()?;
        let (kind, shape) = shaped(shape, kind, ndim)?;
        let names = |given: Option<&Bound<'_, PyAny>>, what| {
            given.map_or(Ok(Vec::new()), |given| arguments::names(given, what))
        };
        let chunk = chunk
            .map(|chunk| arguments::sides(chunk, "chunk"))
            .transpose()?;
        // Before anything is defined, so that all of it is or nothing.
        let attributes = attributes.map_or(Ok(Vec::new()), values::attributes_of)?;
        let fill = fill
            .map(|fill| values::bytes_of(fill, dtype, "fill"))
            .transpose()?;
        let definition = Definition {
            name: name.to_owned(),
            dtype,
            kind,
            shape,
            dims: names(dims, "dims")?,
            unit: unit.to_owned(),
            coordinates: names(coordinates, "coordinates")?,
            fill: fill.filter(|_| dtype != DType::Text),
            chunk,
            accuracy,
        };
        self.shared.with(|state| {
            state.session.define(definition).map_err(Failed::from)?;
            for (attribute, value) in attributes {
                let set = state.session.set_attribute(Some(name), &attribute, value);
                set.map_err(Failed::from)?;
            }
            Ok(())
        })
    }

    /// Gives a global array another shape from the next step on; every rank that defines it
    /// must do the same.
    fn set_shape(&self, variable: &str, shape: &Bound<'_, PyAny>) -> PyResult<()> {
        let shape = arguments::sides(shape, "shape")?;
        self.shared.with(|state| {
            let index = state.find(variable)?;
            let set = state.session.set_shape(index, &shape);
            Ok(set.map_err(Failed::from)?)
        })
    }

    /// Sets an attribute of the stream, or of a variable, from the next step on: a number, a
    /// text, a list of either, or a 1-d array.
    #[pyo3(signature = (name, value, variable=None))]
    fn set_attribute(
        &self,
        name: &str,
        value: &Bound<'_, PyAny>,
        variable: Option<&str>,
    ) -> PyResult<()> {
        let value = values::attribute(name, value)?;
        self.shared.with(|state| {
            let set = state.session.set_attribute(variable, name, value);
            Ok(set.map_err(Failed::from)?)
        })
    }

    /// Promises that what is defined stays as it is: from now on the first definition of a
    /// variable, another shape, or another attribute is a `RedefinedError`, and a step whose
    /// blocks lie as before costs the same few bytes of metadata each time.
    fn freeze_definitions(&self) -> PyResult<()> {
        self.shared.with(|state| {
            state.session.freeze_definitions();
            Ok(())
        })
    }

    /// How long each wait may take from now on, in seconds.
    fn set_deadline(&self, deadline: f64) -> PyResult<()> {
        let deadline = seconds(deadline, "deadline")?;
        self.shared.with(|state| {
            state.session.set_deadline(deadline);
            Ok(())
        })
    }

    /// Does what is there to do, where it was opened with `progress='manual'`: readers are
    /// answered, and shown that the program is alive. The other calls do so, too; this is for
    /// programs that make none for long. Never waits. `FencedError` if the program stayed
    /// away for longer than its `silence`.
    fn progress(&self, py: Python<'_>) -> PyResult<()> {
        let waits = &self.shared.waits;
        self.shared.with(|state| {
            let session = &mut state.session;
            waits.run(py, move || session.progress())
        })
    }

    /// A descriptor for `select` and the event loops of Python that is readable when
    /// `progress` has something to do; with threads of the library it never is. It is not to
    /// be read from, and ends with the writer.
    fn fileno(&self) -> PyResult<i32> {
        self.shared.with(|state| {
            let fd = state.session.wait_fd().map_err(Failed::from)?;
            Ok(fd.as_raw_fd())
        })
    }

    /// Begins a step; collective: every rank calls it, also with nothing to put. Waits or
    /// sheds here, by the stream's policy and by bytes: as many as the last step had are
    /// reserved, or `bytes` of this rank. `time` is simulation time; rank 0's counts.
    ///
    /// Use it in a `with` statement: its end ends the step, an exception gives it up, on
    /// every rank.
    #[pyo3(signature = (time=None, *, bytes=None))]
    fn step(
        &self,
        py: Python<'_>,
        time: Option<f64>,
        bytes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyWriterStep> {
        let bytes = bytes
            .map(|bytes| arguments::number(bytes, "bytes"))
            .transpose()?;
        let shared = &self.shared;
        shared.with(|state| {
            // As in C, a NaN is no time.
            let time = StepTime {
                sim: time.filter(|time| !time.is_nan()),
            };
            let session = &mut state.session;
            let head = shared.waits.run(py, || session.begin_step(time, bytes))?;
            state.begun += 1;
            shared.open.store(state.begun, Ordering::Release);
            Ok(PyWriterStep {
                shared: Arc::clone(shared),
                serial: state.begun,
                head,
                is_discarded: state.session.is_discarded(),
            })
        })
    }

    /// Closes the stream; collective. Readers see its end after the last step. A step that is
    /// open is given up.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let shared = &self.shared;
        let taken = match shared.state.try_lock() {
            Ok(mut guard) => guard.take(),
            Err(TryLockError::Poisoned(broken)) => broken.into_inner().take(),
            Err(TryLockError::WouldBlock) => return Err(Failed::in_use("writer").into()),
        };
        shared.open.store(0, Ordering::Release);
        let Some(mut state) = taken else {
            return Ok(());
        };
        state.end_spans(py);
        let State { session, kept, .. } = state;
        let closed = shared.waits.run(py, || session.close());
        drop(kept);
        closed
    }

    /// Ends the waits of this writer within 50 ms, with `InterruptedWait`: the one under way
    /// and those to come, until `clear_interrupt`. May be called from any thread.
    fn interrupt(&self) {
        self.shared.waits.interrupt().set();
    }

    /// Takes the interrupt back.
    fn clear_interrupt(&self) {
        self.shared.waits.interrupt().clear();
    }

    /// What carries the stream, and why.
    #[getter]
    fn engine(&self, py: Python<'_>) -> PyResult<Engine> {
        self.shared.with(|state| {
            let session = &mut state.session;
            let info = self
                .shared
                .waits
                .run(py, move || Ok::<_, Failed>(session.info()))?;
            Ok(info.into())
        })
    }

    /// The copies of payload that this writer has made so far.
    #[getter]
    fn copies(&self) -> PyResult<Copies> {
        self.shared.with(|state| Ok(state.session.copies().into()))
    }

    /// Bytes of metadata that this rank has sent so far: to the other ranks, and on rank 0
    /// what the steps tell readers.
    #[getter]
    fn metadata_bytes(&self) -> PyResult<u64> {
        self.shared.with(|state| Ok(state.session.metadata_bytes()))
    }

    /// This rank in the writer's group.
    #[getter]
    fn rank(&self) -> PyResult<usize> {
        self.shared
            .with(|state| Ok(state.session.rank_and_size().0))
    }

    /// The number of ranks of the writer's group.
    #[getter]
    fn size(&self) -> PyResult<usize> {
        self.shared
            .with(|state| Ok(state.session.rank_and_size().1))
    }

    /// The name or URL by which it was opened.
    #[getter]
    fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.shared
            .state
            .try_lock()
            .is_ok_and(|state| state.is_none())
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
        format!("<panta.Writer of '{}'{closed}>", self.shared.name)
    }
}
