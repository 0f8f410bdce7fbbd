//! Panta for Python: the module `panta._panta`, over the runtime-checked layer.
//!
//! ```text
//! reader, step, variable   what is read         writer, written   what is written
//! array, index, dtype      numpy's arrays, slices and element types, as the copies want them
//! arguments, shape         what else is given, refused by its name where it is wrong
//! comm, waits, failed      groups of ranks, Ctrl-C, errors
//! ```
//! Promises: the interpreter is let go of in every wait and copy; a signal is seen within
//! 100 ms; nothing is copied between numpy's memory and the engine but by
//! `panta_transports::copy`, which counts. What the package has beside, in Python: the
//! classes of errors, spans that end, mpi4py, xarray.
//!
//! Everything that may block on an engine is called through [`waits::Waits`], without the
//! interpreter: a thread that waits inside an engine may need it to look for signals.

mod arguments;
mod array;
mod comm;
mod dtype;
mod failed;
mod index;
mod info;
mod reader;
mod shape;
mod step;
mod values;
mod variable;
mod waits;
mod writer;
mod written;

use pyo3::prelude::*;

/// Panta's compiled part; use the package `panta`.
#[pymodule]
fn _panta(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<comm::PyComm>()?;
    module.add_class::<info::Block>()?;
    module.add_class::<info::Copies>()?;
    module.add_class::<info::Engine>()?;
    module.add_class::<info::PushCounts>()?;
    module.add_class::<reader::PyReader>()?;
    module.add_class::<step::PyStep>()?;
    module.add_class::<variable::PyVariable>()?;
    module.add_class::<writer::PyWriter>()?;
    module.add_class::<written::PyWriterStep>()?;
    module.add_function(wrap_pyfunction!(array::redirect, module)?)?;
    Ok(())
}
