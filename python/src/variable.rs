//! A variable as it is in one step, read by what stands in brackets.

use std::sync::Arc;

use numpy::PyUntypedArray;
use panta_core::engine::Pinned;
use panta_core::model::{Accuracy, BlockId, DType, Definition, Entry, ShapeKind};
use panta_core::session::{Resolved, Step};
use panta_transports::copy::StridedMut;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arguments;
use crate::array::{self, Memory, Sides};
use crate::dtype;
use crate::failed::Failed;
use crate::index::Index;
use crate::info::{Block, number};
use crate::step::StepShared;
use crate::values;

/// A variable as it is in one step. Brackets read, by numpy's rules:
///
///     u = step["u"]
///     u.shape, u.dims, u.unit
///     u[10:20, ::-2, :], u[..., 0], u[()]
///
/// Each reads anew; what is got is an array of its own. Index arrays and masks are for after
/// reading.
#[pyclass(frozen, name = "Variable", module = "panta")]
pub(crate) struct PyVariable {
    step: Arc<StepShared>,
    definition: Arc<Definition>,
    shape: Sides,
    block: Option<u32>,
}

/// A block in the transport's memory.
struct Held(#[expect(dead_code, reason = "kept for its drop, which lets the memory go")] Pinned);

// SAFETY: what is pinned is only read, and what keeps it in place can be let go on any thread.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

/// Keeps a block in the transport's memory; the base of arrays over it.
#[pyclass(frozen, name = "PinnedBlock", module = "panta")]
struct PinnedBlock(Option<Held>);

impl Drop for PinnedBlock {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            // Without the interpreter, since an engine is told.
            let _ = Python::try_attach(|py| py.detach(move || drop(held)));
        }
    }
}

/// One read on its way: of which cells, into which array.
pub(crate) struct Reading<'py> {
    array: Bound<'py, PyAny>,
    is_element: bool,
    part: Part,
}

/// What of a read is needed without the interpreter.
#[derive(Clone)]
pub(crate) struct Part {
    definition: Arc<Definition>,
    block: Option<u32>,
    index: Index,
    /// `None` for texts, which are read already.
    memory: Option<Memory>,
}

impl Part {
    /// The read for the session; `None` if there is nothing to read.
    ///
    /// # Safety
    /// The array is kept until the read is done.
    pub(crate) unsafe fn resolve(
        &self,
        step: &Step,
    ) -> Result<Option<(Resolved, StridedMut<'static>)>, Failed> {
        let Some(memory) = &self.memory else {
            return Ok(None);
        };
        let name = &self.definition.name;
        let selection = &self.index.selection;
        let resolved = match self.block {
            None => step.resolve(name, memory.dtype, selection),
            Some(block) => {
                let of_block = selection.clone().within(BlockId(block));
                step.resolve(name, memory.dtype, &of_block)
            }
        }?;
        let (offset, strides) = self.index.placed(&memory.strides_bytes);
        let into = Memory {
            first: memory.first.wrapping_offset(offset),
            dtype: memory.dtype,
            count: resolved.count().into(),
            strides_bytes: resolved.strides(strides),
        };
        // SAFETY: as the caller says; the cells are those of the array, in another order.
        let into = unsafe { into.destination() }?;
        Ok(Some((resolved, into)))
    }
}

impl Reading<'_> {
    pub(crate) fn part(&self) -> Part {
        self.part.clone()
    }
}

impl<'py> Reading<'py> {
    /// What Python is given, when the read is done.
    pub(crate) fn finish(self, _py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.array.cast::<PyUntypedArray>() {
            Ok(array) if self.is_element => array::scalar(array.clone()),
            _ => Ok(self.array),
        }
    }
}

impl PyVariable {
    /// The variable called `name`.
    pub(crate) fn of(step: &Arc<StepShared>, name: &str) -> Result<Self, Failed> {
        let (definition, shape) = step.with(|held| {
            let entry = held.entry(name)?;
            Ok((Arc::clone(&entry.definition), entry.shape_dims()))
        })?;
        Ok(Self {
            step: Arc::clone(step),
            definition,
            shape,
            block: None,
        })
    }

    fn with_entry<R>(&self, act: impl FnOnce(&Entry) -> Result<R, Failed>) -> Result<R, Failed> {
        self.step
            .with(|step| act(step.entry(&self.definition.name)?))
    }

    /// The shape to index by: a local array of one block has that block's.
    fn indexed_shape(&self) -> Result<Sides, Failed> {
        if self.definition.kind != ShapeKind::LocalArray || self.block.is_some() {
            return Ok(self.shape.clone());
        }
        let name = &self.definition.name;
        self.with_entry(|entry| match &entry.blocks[..] {
            [only] => Ok(only.block.count[..].into()),
            blocks => Err(Failed::shape(format!(
                "`{name}` is a local array of {} blocks, read one by one: .block(i)[…]",
                blocks.len()
            ))
            .of_variable(name)),
        })
    }

    fn texts<'py>(
        &self,
        py: Python<'py>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let texts = self
            .step
            .with(|step| Ok(step.texts(&self.definition.name)?))?;
        if self.definition.kind == ShapeKind::GlobalValue {
            Index::parse(index, &[])?;
            return Ok(texts.into_iter().next().into_pyobject(py)?.into_any());
        }
        let numpy = py.import("numpy")?;
        numpy.call_method1("array", (texts,))?.get_item(index)
    }

    /// Prepares a read of `index` (everything if `None`), into `out` if that is given.
    pub(crate) fn reading<'py>(
        &self,
        py: Python<'py>,
        given: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Reading<'py>> {
        let shape = self.indexed_shape()?;
        let dtype = self.definition.dtype;
        let index = match given {
            Some(given) if dtype != DType::Text => Index::parse(given, &shape)?,
            _ => Index::all(&shape),
        };
        let (array, memory) = if dtype == DType::Text {
            let all = py.Ellipsis();
            let given = given.map_or_else(|| all.bind(py).clone(), Clone::clone);
            (self.texts(py, &given)?, None)
        } else {
            let (array, memory) = match out {
                Some(out) => self.destination(out, &index.shape())?,
                None => {
                    let made = array::empty(py, dtype, &index.shape())?;
                    let memory = Memory::of(&made, "out")?;
                    (made, memory)
                }
            };
            (array.into_any(), Some(memory))
        };
        Ok(Reading {
            is_element: index.is_element && out.is_none(),
            array,
            part: Part {
                definition: Arc::clone(&self.definition),
                block: self.block,
                index,
                memory,
            },
        })
    }

    fn destination<'py>(
        &self,
        out: &Bound<'py, PyAny>,
        shape: &[u64],
    ) -> PyResult<(Bound<'py, PyUntypedArray>, Memory)> {
        let name = &self.definition.name;
        let Ok(array) = out.cast::<PyUntypedArray>() else {
            let message = format!("`out` is {}, not an array of numpy", out.get_type());
            return Err(Failed::dtype(message).of_variable(name).into());
        };
        let memory = Memory::of(array, "out")?;
        let problem = if !array::is_writable(array) {
            "`out` is read-only".to_owned()
        } else if memory.count[..] != *shape {
            format!(
                "`out` has shape {:?}, the selection {shape:?}",
                memory.count
            )
        } else if memory.dtype != self.definition.dtype {
            let dtype = self.definition.dtype;
            let message = format!("`out` holds {}, the variable {dtype}", memory.dtype);
            return Err(Failed::dtype(message).of_variable(name).into());
        } else {
            return Ok((array.clone(), memory));
        };
        Err(Failed::shape(problem).of_variable(name).into())
    }

    /// Reads `index` (everything if `None`).
    pub(crate) fn read<'py>(
        &self,
        py: Python<'py>,
        index: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let reading = self.reading(py, index, out)?;
        let (part, step) = (&reading.part, &self.step);
        if part.memory.is_some() {
            step.waits.run(py, || {
                step.with(|held| {
                    // SAFETY: `reading` keeps the array.
                    match unsafe { part.resolve(held) }? {
                        Some((resolved, into)) => Ok(held.read(resolved, into)?),
                        None => Ok(()),
                    }
                })
            })?;
        }
        reading.finish(py)
    }
}

#[pymethods]
impl PyVariable {
    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.read(py, Some(index), None)
    }

    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if copy == Some(false) {
            let message = "reading a variable makes an array of its own; for memory of the transport use view()";
            return Err(pyo3::exceptions::PyValueError::new_err(message));
        }
        let read = self.read(py, None, None)?;
        let numpy = py.import("numpy")?;
        numpy.call_method1("asarray", (read, dtype))
    }

    /// A global or local value: the number or text, or an array of the local values.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if !self.definition.kind.is_value() {
            let name = &self.definition.name;
            let message = format!(
                "`{name}` is a {}, read by [...]",
                self.definition.kind.name()
            );
            return Err(Failed::shape(message).of_variable(name).into());
        }
        let read = self.read(py, None, None)?;
        match (self.definition.kind, read.cast::<PyUntypedArray>()) {
            (ShapeKind::GlobalValue, Ok(array)) => array.call_method0("item"),
            _ => Ok(read),
        }
    }

    /// One block, to be indexed by itself: of a local array the only way to read.
    pub(crate) fn block(&self, block: &Bound<'_, PyAny>) -> PyResult<Self> {
        let block = arguments::block(block)?;
        let shape = self.step.with(|step| {
            let resolved = step.resolve(
                &self.definition.name,
                self.definition.dtype,
                &panta_core::model::Selection::block(block),
            )?;
            Ok(resolved.shape())
        })?;
        Ok(Self {
            step: Arc::clone(&self.step),
            definition: Arc::clone(&self.definition),
            shape,
            block: Some(block.0),
        })
    }

    /// The blocks in the order (rank, put), as a list.
    #[getter]
    fn blocks(&self) -> PyResult<Vec<Block>> {
        Ok(self.with_entry(|entry| Ok(entry.block_infos().map(Block).collect()))?)
    }

    /// A block in the transport's memory, read-only and without a copy; `block` is needed if
    /// there are several. The memory is held, and counts against the stream's limit, until
    /// the array and all made of it are gone. `UnsupportedError` where the engine has no
    /// memory to share.
    #[pyo3(signature = (block=None))]
    fn view<'py>(
        &self,
        py: Python<'py>,
        block: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyUntypedArray>> {
        let blocks = self.with_entry(|entry| Ok(entry.blocks.len()))?;
        let name = &self.definition.name;
        let block = match (block, self.block) {
            (Some(block), _) => arguments::block(block)?,
            (None, Some(block)) => BlockId(block),
            (None, None) if blocks == 1 => BlockId(0),
            (None, None) => {
                let message = format!("`{name}` has {blocks} blocks; say which: view(block)");
                return Err(Failed::shape(message).of_variable(name).into());
            }
        };
        let dtype = self.definition.dtype;
        let (keep, first, count) = self.step.waits.run(py, || {
            self.step.with(|step| {
                let (pinned, count) = step.pin(name, dtype, block)?;
                let first = pinned.first.as_ptr() as usize;
                Ok((PinnedBlock(Some(Held(pinned))), first, count))
            })
        })?;
        let keep = Bound::new(py, keep)?.into_any();
        let class = py.get_type::<PyUntypedArray>();
        // SAFETY: the engine pins the block's elements, initialised and aligned to 64, for as
        // long as `keep` is there, which the array holds.
        unsafe { array::over(&class, dtype, &count, first as *mut u8, false, keep) }
    }

    /// The variable's name.
    #[getter]
    fn name(&self) -> &str {
        &self.definition.name
    }

    /// The type of its elements: numpy's, or `str`.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        dtype::to_python(py, self.definition.dtype)
    }

    /// Cells per dimension, slowest first; of local values, how many there are.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.shape)
    }

    /// The number of dimensions.
    #[getter]
    fn ndim(&self) -> usize {
        self.shape.len()
    }

    /// The number of cells.
    #[getter]
    fn size(&self) -> u64 {
        self.shape.iter().product()
    }

    /// The bytes of all cells.
    #[getter]
    fn nbytes(&self) -> u64 {
        self.size() * self.definition.dtype.size_bytes() as u64
    }

    /// The names of the dimensions; empty if they have none.
    #[getter]
    fn dims<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.definition.dims)
    }

    /// The unit, for people; empty if none.
    #[getter]
    fn unit(&self) -> &str {
        &self.definition.unit
    }

    /// The names of the variables that hold its coordinates.
    #[getter]
    fn coordinates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.definition.coordinates)
    }

    /// "global array", "local array", "joined array", "global value" or "local value".
    #[getter]
    fn kind(&self) -> &'static str {
        self.definition.kind.name()
    }

    /// The dimension along which a joined array's blocks join; else `None`.
    #[getter]
    fn joined_axis(&self) -> Option<u8> {
        match self.definition.kind {
            ShapeKind::JoinedArray { axis } => Some(axis),
            _ => None,
        }
    }

    /// By how much numbers were rounded at most, in the unit of the elements; `None` if that
    /// was not bounded so.
    #[getter]
    fn absolute_accuracy(&self) -> Option<f64> {
        match self.definition.accuracy? {
            Accuracy::Absolute(bound) => Some(bound),
            Accuracy::Relative(_) => None,
        }
    }

    /// By which part of each number it was rounded at most; `None` if that was not bounded so.
    #[getter]
    fn relative_accuracy(&self) -> Option<f64> {
        match self.definition.accuracy? {
            Accuracy::Relative(bound) => Some(bound),
            Accuracy::Absolute(_) => None,
        }
    }

    /// What cells have that no block covers; `None` if reading them is an error.
    #[getter]
    fn fill<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(bytes) = &self.definition.fill else {
            return Ok(None);
        };
        let element = array::empty(py, self.definition.dtype, &[])?;
        let memory = Memory::of(&element, "fill")?;
        debug_assert_eq!(bytes.len(), memory.dtype.size_bytes());
        // SAFETY: a new array of one element, which has as many bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.first, bytes.len()) };
        array::scalar(element).map(Some)
    }

    /// The smallest value over all blocks; known without reading.
    #[getter]
    fn min<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let stats = self.with_entry(|entry| Ok(entry.stats()))?;
        stats.map(|stats| number(py, stats.min)).transpose()
    }

    /// The largest value over all blocks; known without reading.
    #[getter]
    fn max<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let stats = self.with_entry(|entry| Ok(entry.stats()))?;
        stats.map(|stats| number(py, stats.max)).transpose()
    }

    /// The variable's attributes, as a new dict.
    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let schema = self.step.with(|step| Ok(Arc::clone(step.schema())))?;
        values::attributes(py, &schema.attributes, Some(&self.definition.name))
    }

    fn __len__(&self) -> PyResult<usize> {
        match self.indexed_shape()?.first() {
            Some(side) => Ok(*side as usize),
            None => Err(pyo3::exceptions::PyTypeError::new_err("len() of a value")),
        }
    }

    /// Of a value, or an array of one element, as of numpy's.
    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        let cells: u64 = self.indexed_shape()?.iter().product();
        if cells != 1 {
            let message = format!(
                "`{}` has {cells} elements, whose truth is ambiguous; read it, and use any() or all()",
                self.definition.name
            );
            return Err(pyo3::exceptions::PyValueError::new_err(message));
        }
        self.read(py, None, None)?.is_truthy()
    }

    fn __float__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.read(py, None, None)?.call_method0("__float__")
    }

    fn __int__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.read(py, None, None)?.call_method0("__int__")
    }

    fn __repr__(&self) -> String {
        let definition = &self.definition;
        let unit = match definition.unit.as_str() {
            "" => String::new(),
            unit => format!(", in {unit}"),
        };
        format!(
            "<panta.Variable '{}': {} of {}, shape {:?}{unit}>",
            definition.name,
            definition.kind.name(),
            definition.dtype,
            self.shape
        )
    }
}
