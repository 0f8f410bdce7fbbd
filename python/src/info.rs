//! What is told about streams and blocks: plain records.

use panta_core::engine::EngineInfo;
use panta_core::model::{BlockInfo, Number};
use panta_transports::copy::CopyCounter;
use panta_transports::coupling::PushCounts as Pushes;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// What carries a stream, and why.
#[pyclass(frozen, get_all, module = "panta")]
#[derive(Debug)]
pub(crate) struct Engine {
    /// The scheme of the URL: `file`, `staging`, …
    engine: String,
    /// The transport in use.
    transport: String,
    /// Why this one.
    why: String,
}

#[pymethods]
impl Engine {
    fn __repr__(&self) -> String {
        format!(
            "<panta.Engine {}: over {} ({})>",
            self.engine, self.transport, self.why
        )
    }
}

impl From<EngineInfo> for Engine {
    fn from(info: EngineInfo) -> Self {
        Self {
            engine: info.engine.to_owned(),
            transport: info.transport,
            why: info.why,
        }
    }
}

/// The copies of payload that a handle has made so far.
#[pyclass(frozen, get_all, module = "panta")]
#[derive(Debug)]
pub(crate) struct Copies {
    /// Bytes copied.
    bytes: u64,
    /// Calls that copied at least one byte.
    calls: u64,
}

#[pymethods]
impl Copies {
    fn __repr__(&self) -> String {
        format!(
            "<panta.Copies {} bytes in {} calls>",
            self.bytes, self.calls
        )
    }
}

impl From<CopyCounter> for Copies {
    fn from(counter: CopyCounter) -> Self {
        Self {
            bytes: counter.bytes(),
            calls: counter.calls(),
        }
    }
}

/// What was sent along with steps before it was asked for.
#[pyclass(frozen, module = "panta")]
#[derive(Debug)]
pub(crate) struct PushCounts(pub(crate) Pushes);

#[pymethods]
impl PushCounts {
    /// Pushes that were got as they came.
    #[getter]
    fn used(&self) -> u64 {
        self.0.used
    }

    /// Bytes of them.
    #[getter]
    fn used_bytes(&self) -> u64 {
        self.0.used_bytes
    }

    /// Pushes that nobody got.
    #[getter]
    fn wasted(&self) -> u64 {
        self.0.wasted
    }

    /// Bytes of them.
    #[getter]
    fn wasted_bytes(&self) -> u64 {
        self.0.wasted_bytes
    }

    fn __repr__(&self) -> String {
        let of = &self.0;
        format!(
            "<panta.PushCounts {} used ({} bytes), {} wasted ({} bytes)>",
            of.used, of.used_bytes, of.wasted, of.wasted_bytes
        )
    }
}

/// A block of a variable in a step: where it lies, who put it, what is known of its values.
#[pyclass(frozen, module = "panta")]
#[derive(Debug)]
pub(crate) struct Block(pub(crate) BlockInfo);

/// A number as Python has them.
pub(crate) fn number(py: Python<'_>, number: Number) -> PyResult<Bound<'_, PyAny>> {
    Ok(match number {
        Number::Int(value) => value.into_pyobject(py)?.into_any(),
        Number::UInt(value) => value.into_pyobject(py)?.into_any(),
        Number::Float(value) => value.into_pyobject(py)?.into_any(),
    })
}

#[pymethods]
impl Block {
    /// Its place in the list of the variable's blocks.
    #[getter]
    fn id(&self) -> u32 {
        self.0.id.0
    }

    /// The rank that put it.
    #[getter]
    fn rank(&self) -> u32 {
        self.0.block.rank
    }

    /// Its first cell per dimension; zeros for local arrays, empty for values.
    #[getter]
    fn start<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.block.start)
    }

    /// Its cells per dimension; empty for values.
    #[getter]
    fn count<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.block.count)
    }

    /// Its smallest value; `None` if it has none that can be compared.
    #[getter]
    fn min<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.stats.map(|stats| number(py, stats.min)).transpose()
    }

    /// Its largest value; `None` if it has none that can be compared.
    #[getter]
    fn max<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.stats.map(|stats| number(py, stats.max)).transpose()
    }

    /// How many of its elements are not a number; `None` where `min` is.
    #[getter]
    fn nans(&self) -> Option<u64> {
        self.0.stats.map(|stats| stats.nans)
    }

    fn __repr__(&self) -> String {
        let block = &self.0.block;
        format!(
            "<panta.Block {}: {:?} cells from {:?}, of rank {}>",
            self.0.id.0, block.count, block.start, block.rank
        )
    }
}
