//! A step that is being written: put, lend memory, end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use numpy::PyUntypedArray;
use panta_core::engine;
use panta_core::error::{EndError, Failure, Fault};
use panta_core::model::{DType, MemorySpace, StepHead};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use smallvec::smallvec;

use crate::arguments;
use crate::array::{self, Memory, Sides};
use crate::failed::Failed;
use crate::values;
use crate::writer::{State, WriterShared};

/// A step that is being written, from `Writer.step`. Its end in a `with` statement ends it;
/// an exception gives it up, on every rank.
///
/// What is put is read when the step ends, and must stay as it is until then; arrays that
/// nobody else holds are kept. A put that fails makes the step fail, on every rank.
#[pyclass(frozen, name = "WriterStep", module = "panta")]
pub(crate) struct PyWriterStep {
    pub(crate) shared: Arc<WriterShared>,
    /// Which of its writer's steps it is, from 1.
    pub(crate) serial: u64,
    pub(crate) head: StepHead,
    pub(crate) is_discarded: bool,
}

/// Keeps the memory of a span where it is: whoever looks at it has this.
#[pyclass(frozen, module = "panta._panta")]
pub(crate) struct SpanMemory(#[expect(dead_code, reason = "kept")] Option<engine::SpanMemory>);

fn start_of(
    state: &State,
    index: usize,
    given: Option<&Bound<'_, PyAny>>,
) -> Result<Sides, Failed> {
    let definition = state.session.definition(index);
    let Some(given) = given else {
        return Ok(smallvec![0; definition.dimensions()]);
    };
    // A number that is asked of a tuple makes an exception first, which costs more than a put.
    let found: PyResult<Sides> = match given.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter().map(|first| first.extract::<u64>()).collect(),
        Err(_) => match given.extract::<u64>() {
            Ok(only) => Ok(smallvec![only]),
            Err(_) => given.extract::<Vec<u64>>().map(Sides::from_vec),
        },
    };
    match found {
        Ok(start) if start.len() == definition.dimensions() => Ok(start),
        _ => {
            let message = format!(
                "`start` is {given}; it is one number from 0 for each dimension, of which `{}` has {}",
                definition.name,
                definition.dimensions()
            );
            Err(Failed::shape(message)
                .at(&state.session.place())
                .of_variable(&definition.name))
        }
    }
}

impl PyWriterStep {
    fn over(&self) -> Failed {
        let number = self.head.step;
        let message = format!("step {number} has ended; begin another with Writer.step()");
        Failed::new("ClosedError", message).of_stream(&self.shared.name, Some(number))
    }

    fn is_open(&self) -> bool {
        self.shared.open.load(Ordering::Acquire) == self.serial
    }

    /// Uses the writer while this step is open.
    fn with<R>(&self, act: impl FnOnce(&mut State) -> PyResult<R>) -> PyResult<R> {
        if !self.is_open() {
            return Err(self.over().into());
        }
        self.shared.with(act)
    }

    /// The same for a put: one that fails makes the step fail.
    fn with_put<R>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut State) -> PyResult<R>,
    ) -> PyResult<R> {
        self.with(|state| {
            let outcome = act(state);
            if let Err(error) = &outcome {
                state
                    .refused
                    .get_or_insert_with(|| error.value(py).to_string());
            }
            outcome
        })
    }

    fn put_array(
        &self,
        state: &mut State,
        index: usize,
        given: &Bound<'_, PyAny>,
        start: &[u64],
    ) -> PyResult<()> {
        let wanted = state.session.definition(index).dtype;
        let array = array::of_argument(given, wanted, "array")?;
        let memory = Memory::of(&array, "array")?;
        if memory.count.len() != start.len() {
            let name = &state.session.definition(index).name;
            let message = format!(
                "`array` has shape {:?}, and `{name}` {} dimensions",
                memory.count,
                start.len()
            );
            return Err(Failed::shape(message)
                .at(&state.session.place())
                .of_variable(name)
                .into());
        }
        // SAFETY: the array is kept below for as long as the put.
        let source = unsafe { memory.source() }?;
        let kind = (memory.dtype, MemorySpace::Host);
        state
            .session
            .put_onto(&mut state.puts, index, kind, start, &source)
            .map_err(Failed::from)?;
        state.kept.push(array.into_any().unbind());
        if memory.dtype == DType::Bool {
            state.booleans.push((index, memory));
        }
        Ok(())
    }

    /// Ends the step; `give_up` says whether to seal it not even if it could be.
    fn finish(&self, py: Python<'_>, give_up: bool) -> PyResult<()> {
        self.with(|state| {
            self.shared.open.store(0, Ordering::Release);
            state.end_spans(py);
            let puts = std::mem::take(&mut state.puts);
            let kept = std::mem::take(&mut state.kept);
            let obstacle = if give_up { None } else { obstacle(state) };
            state.booleans.clear();
            state.refused = None;
            let session = &mut state.session;
            let outcome = self.shared.waits.run(py, || {
                if give_up || obstacle.is_some() {
                    let aborted = session.abort_step();
                    drop(puts);
                    return match (obstacle, aborted) {
                        (Some(obstacle), _) => Err(obstacle),
                        // That a rank gave the step up is what was asked for.
                        (
                            None,
                            Ok(_)
                            | Err(EndError::Failed(Failure {
                                fault: Fault::OnRank { .. },
                                ..
                            })),
                        ) => Ok(()),
                        (None, Err(error)) => Err(error.into()),
                    };
                }
                session.end_step(puts).map(|_| ()).map_err(Failed::from)
            });
            drop(kept);
            outcome
        })
    }
}

/// Why the step must be given up, if it must.
fn obstacle(state: &mut State) -> Option<Failed> {
    let place = state.session.place();
    if let Some(why) = &state.refused {
        let message = format!("{place}: the step is given up, a put had failed: {why}");
        return Some(Failed::new("RefusedError", message).at(&place));
    }
    let wrong = state.booleans.iter().find(|(_, memory)| {
        // SAFETY: the array is kept, the step has not ended.
        unsafe { memory.has_wrong_boolean() }
    });
    let name = &state.session.definition(wrong?.0).name;
    let message = format!("a byte of `{name}` is no bool: 0 and 1 are");
    Some(Failed::dtype(message).at(&place).of_variable(name))
}

#[pymethods]
impl PyWriterStep {
    /// Puts one block of a variable, or a value.
    ///
    /// `value` is an array of numpy, or what lends its memory as one (DLPack, the buffer
    /// protocol, `__array__`): of the variable's type, of any strides, and not copied before
    /// the step ends. Lists and numbers become arrays of the variable's type. `start` is the
    /// block's first cell, zeros by default; along a joined side it is 0.
    #[pyo3(signature = (variable, value, start=None))]
    fn put(
        &self,
        py: Python<'_>,
        variable: &str,
        value: &Bound<'_, PyAny>,
        start: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.with_put(py, |state| {
            let index = state.find(variable)?;
            let definition = Arc::clone(state.session.definition(index));
            if definition.kind.is_value() {
                if start.is_some() {
                    let message = format!("`{variable}` is a value, which has no `start`");
                    return Err(Failed::shape(message).of_variable(variable).into());
                }
                let bytes = values::bytes_of(value, definition.dtype, "value")?;
                let put = state.session.put_value(index, definition.dtype, &bytes);
                return Ok(put.map_err(Failed::from)?);
            }
            let start = start_of(state, index, start)?;
            self.put_array(state, index, value, &start)
        })
    }

    fn __setitem__(
        &self,
        py: Python<'_>,
        variable: &str,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.put(py, variable, value, None)
    }

    /// Lends memory of the transport for one block, to compute into without any copy: a
    /// writable array, row-major, holding zeros or an earlier step's values: write every
    /// element. `count` is its shape, the variable's by default.
    ///
    /// When the step ends, the array and the slices made of it are over: using one raises
    /// `ClosedError`. Do not keep other views of it (`np.asarray`, `memoryview`) beyond that:
    /// they show what later steps hold, and writing to them damages it.
    #[pyo3(signature = (variable, start=None, count=None))]
    fn span<'py>(
        &self,
        py: Python<'py>,
        variable: &str,
        start: Option<&Bound<'py, PyAny>>,
        count: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyUntypedArray>> {
        self.with_put(py, |state| {
            let index = state.find(variable)?;
            let definition = Arc::clone(state.session.definition(index));
            let dtype = definition.dtype;
            if matches!(dtype, DType::Bool | DType::Text) {
                let message = "booleans and texts are put, not computed in place: they are checked";
                return Err(Failed::new("UnsupportedError", message)
                    .of_variable(variable)
                    .into());
            }
            let start = start_of(state, index, start)?;
            let count = match count {
                Some(count) => arguments::sides(count, "count")?,
                None => definition.shape.clone(),
            };
            let span = state.session.span(index, dtype, &start, &count);
            let (put, first, bytes) = span.map_err(Failed::from)?;
            let memory = Py::new(py, SpanMemory(state.session.span_memory(&put)))?;
            state.puts.push(put);
            let spans = py.import("panta._span")?;
            let class = spans.getattr("SpanArray")?.cast_into::<PyType>()?;
            let first = first.as_ptr();
            let what = format!(
                "the span of `{variable}` ended with step {}",
                self.head.step
            );
            let lease = spans
                .getattr("Lease")?
                .call1((first as usize, bytes, what, memory))?;
            state.leases.push(lease.clone().unbind());
            // SAFETY: the session lent so much memory until the step ends, when the lease
            // points the array elsewhere.
            let array = unsafe { array::over(&class, dtype, &count, first, true, lease.clone()) }?;
            lease.call_method1("track", (&array,))?;
            Ok(array)
        })
    }

    /// Ends the step; collective, with the same outcome on every rank: it is sealed, or given
    /// up on all. What was put may be changed again when this returns.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.finish(py, false)
    }

    /// Gives the step up, on every rank; collective with the others' end, which then fails.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.finish(py, true)
    }

    /// The step's number.
    #[getter]
    fn number(&self) -> u64 {
        self.head.step
    }

    /// Simulation time, if one was given.
    #[getter]
    fn time(&self) -> Option<f64> {
        self.head.time.sim
    }

    /// The life of the writer that makes it; the first is 1.
    #[getter]
    fn epoch(&self) -> u64 {
        self.head.epoch
    }

    /// Whether the stream's policy will discard this step, so that computing what would be
    /// put can be spared.
    #[getter]
    fn is_discarded(&self) -> bool {
        self.is_discarded
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (class, _value, _traceback))]
    fn __exit__(
        &self,
        py: Python<'_>,
        class: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match (class.is_none(), self.is_open()) {
            (true, true) => self.end(py),
            (false, true) => self.abort(py),
            // Ended or given up by hand.
            (_, false) => Ok(()),
        }
    }

    fn __repr__(&self) -> String {
        let over = if self.is_open() { "" } else { ", over" };
        format!(
            "<panta.WriterStep {} of '{}'{over}>",
            self.head.step, self.shared.name
        )
    }
}

impl Drop for PyWriterStep {
    /// Gives the step up if nobody ended it.
    fn drop(&mut self) {
        if self.is_open() {
            // There is nobody to give an error to; the others get it from their end.
            let _ = Python::try_attach(|py| self.abort(py));
        }
    }
}
