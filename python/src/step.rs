//! A step that is read: its variables, attributes, data.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use panta_core::model::StepHead;
use panta_core::session::{Batch, Step};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::failed::Failed;
use crate::values;
use crate::variable::{PyVariable, Reading};
use crate::waits::Waits;

/// A step and its variables have this in common; `None` once it was let go.
pub(crate) struct StepShared {
    step: RwLock<Option<Step>>,
    head: StepHead,
    detached: AtomicBool,
    pub(crate) waits: Arc<Waits>,
}

impl StepShared {
    pub(crate) fn new(step: Step, waits: Arc<Waits>) -> Self {
        Self {
            head: step.head(),
            step: RwLock::new(Some(step)),
            detached: AtomicBool::new(false),
            waits,
        }
    }

    pub(crate) fn head(&self) -> StepHead {
        self.head
    }

    /// Keeps the step from its reader, if it is still there to be kept.
    fn detach(&self) -> Result<(), Failed> {
        self.with(|_| {
            self.detached.store(true, Ordering::Release);
            Ok(())
        })
    }

    /// Lets go of the step; without the interpreter, since an engine is told.
    pub(crate) fn let_go(&self) {
        self.take(true);
    }

    /// The same by its reader, which has no say over a step that was detached.
    pub(crate) fn let_go_unless_detached(&self) {
        self.take(false);
    }

    fn take(&self, also_detached: bool) {
        let mut guard = self.step.write().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that a step that was detached in time is not let go.
        if also_detached || !self.detached.load(Ordering::Acquire) {
            let step = guard.take();
            drop(guard);
            drop(step);
        }
    }

    /// Uses the step while it is held.
    pub(crate) fn with<R>(
        &self,
        act: impl FnOnce(&Step) -> Result<R, Failed>,
    ) -> Result<R, Failed> {
        let guard = self.step.read().unwrap_or_else(PoisonError::into_inner);
        match guard.as_ref() {
            Some(step) => act(step),
            None => {
                let number = self.head.step;
                let message = format!(
                    "step {number} was let go when its reader moved on or closed; call step.detach() to keep one"
                );
                Err(Failed::new("ClosedError", message).of_stream("", Some(number)))
            }
        }
    }
}

impl Drop for StepShared {
    fn drop(&mut self) {
        let step = self
            .step
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if step.is_some() {
            let _ = Python::try_attach(|py| py.detach(|| drop(step)));
        }
    }
}

/// A sealed step: the variables that were put in it, by name, and their data.
///
///     for step in reader:
///         print(step.number, step.time, list(step))
///         u = step["u"][:, 3]
///
/// It is let go when its reader goes on to the next, unless `detach` is called.
#[pyclass(frozen, mapping, name = "Step", module = "panta")]
pub(crate) struct PyStep {
    pub(crate) shared: Arc<StepShared>,
}

#[pymethods]
impl PyStep {
    /// Its number, from 0.
    #[getter]
    fn number(&self) -> u64 {
        self.shared.head.step
    }

    /// Simulation time, if the writer gave one.
    #[getter]
    fn time(&self) -> Option<f64> {
        self.shared.head.time.sim
    }

    /// When it began at the writer, in nanoseconds since 1970.
    #[getter]
    fn wall_clock_ns(&self) -> u64 {
        self.shared.head.wall_clock_ns
    }

    /// The life of the writer that made it; the first is 1.
    #[getter]
    fn epoch(&self) -> u64 {
        self.shared.head.epoch
    }

    /// The attributes of the stream, as a new dict.
    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let schema = self.shared.with(|step| Ok(Arc::clone(step.schema())))?;
        values::attributes(py, &schema.attributes, None)
    }

    fn __getitem__(&self, name: &str) -> PyResult<PyVariable> {
        Ok(PyVariable::of(&self.shared, name)?)
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(name) = name.extract::<String>() else {
            return Ok(false);
        };
        let found = self.shared.with(|step| {
            let mut entries = step.entries().iter();
            Ok(entries.any(|entry| entry.definition.name == name))
        })?;
        Ok(found)
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.shared.with(|step| Ok(step.entries().len()))?)
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let names = self.keys()?.into_pyobject(py)?;
        Ok(names.try_iter()?.into_any().unbind())
    }

    /// The names of the variables that were put in this step, as a list.
    fn keys(&self) -> PyResult<Vec<String>> {
        Ok(self.shared.with(|step| {
            let entries = step.entries().iter();
            Ok(entries.map(|entry| entry.definition.name.clone()).collect())
        })?)
    }

    /// The variables, as a list.
    fn values(&self) -> PyResult<Vec<PyVariable>> {
        let names = self.keys()?;
        let variables = names.iter().map(|name| PyVariable::of(&self.shared, name));
        Ok(variables.collect::<Result<_, _>>()?)
    }

    /// Names and variables, as a list of pairs.
    fn items(&self) -> PyResult<Vec<(String, PyVariable)>> {
        Ok(self.keys()?.into_iter().zip(self.values()?).collect())
    }

    /// Reads a selection of a variable: what `step[variable][index]` gives, and with `out` an
    /// array of the result's shape and type to read into, which may have any strides.
    #[pyo3(signature = (variable, index=None, *, block=None, out=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        variable: &str,
        index: Option<&Bound<'py, PyAny>>,
        block: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut found = PyVariable::of(&self.shared, variable)?;
        if let Some(block) = block {
            found = found.block(block)?;
        }
        found.read(py, index, out)
    }

    /// Reads several variables at once, which an engine may fetch in one go: `selections` is
    /// a dict of names and what would stand in brackets (`...` for everything). Gives a dict
    /// of names and arrays.
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        selections: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut readings = Vec::with_capacity(selections.len());
        for (name, index) in selections {
            let variable = PyVariable::of(&self.shared, name.cast::<PyString>()?.to_str()?)?;
            readings.push((name, variable.reading(py, Some(&index), None)?));
        }
        let parts: Vec<_> = readings.iter().map(|(_, reading)| reading.part()).collect();
        self.shared.waits.run(py, || {
            self.shared.with(|step| {
                let mut batch = Batch::default();
                for part in &parts {
                    // SAFETY: the arrays are kept by `readings` until the batch is done.
                    if let Some((resolved, into)) = unsafe { part.resolve(step) }? {
                        batch.add(resolved, into);
                    }
                }
                Ok(step.read_batch(batch)?)
            })
        })?;
        let results = PyDict::new(py);
        for (name, reading) in readings {
            results.set_item(name, Reading::finish(reading, py)?)?;
        }
        Ok(results)
    }

    /// Keeps the step when its reader goes on to the next; returns it. It then counts
    /// against the stream's limit until it is closed, or forgotten. `ClosedError` if it was
    /// let go already.
    fn detach(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().shared.detach()?;
        Ok(slf)
    }

    /// Lets go of the step.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.shared.let_go());
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().shared.with(|_| Ok(()))?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let head = &self.shared.head;
        let time = head
            .time
            .sim
            .map_or_else(String::new, |time| format!(" at time {time}"));
        let names = self.keys().map(|names| names.join(", "));
        let names = names.unwrap_or_else(|_| "let go".to_owned());
        format!("<panta.Step {}{time}: {names}>", head.step)
    }
}
