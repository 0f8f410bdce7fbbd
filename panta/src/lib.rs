//! In-situ streaming I/O for parallel simulations.
//!
//! A simulation *puts* blocks of n-dimensional arrays, step by step; analyses,
//! started on their own, *get* the boxes they want, while both run. What carries
//! the steps is a URL, not a line of code: see [`Writer::open`].
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let name = format!("file:{}", directory.path().join("run.panta").display());
//! use ndarray::{Array2, s};
//! use panta::{Reader, Shape, Solo, Start, StepTime, Writer};
//!
//! let mut out = Writer::open(&name, Solo)?;
//! let u = out.define::<f64>("u", Shape::global([4, 6]).dims(["y", "x"]).unit("K"))?;
//! for n in 0..3 {
//!     let field = Array2::from_elem((4, 6), f64::from(n));
//!     let step = out.begin_step(StepTime::sim(0.1 * f64::from(n)))?;
//!     step.put(u, &[0, 0], &field)?;
//!     step.end()?;
//! }
//! out.close()?;
//!
//! let mut inp = Reader::open(&name, Solo, Start::Oldest)?;
//! while let Some(step) = inp.next_step()? {
//!     let column: ndarray::Array1<f64> = step.get("u", s![.., 2])?;
//!     assert_eq!(column.sum(), 4.0 * step.number() as f64);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it promises: a step is seen whole or not at all, every rank of a group
//! sees the same ones, nothing waits without a deadline, and what was put is
//! what is got, bit for bit, whatever carries it. What it does not do: print,
//! exit, install signal handlers, or start a thread that you did not cause.

mod engines;
#[cfg(feature = "mpi")]
pub mod mpi;
mod options;
mod reader;
mod selection;
mod shape;
mod view;
mod writer;

pub use engines::registry;
pub use options::{IntoComm, ReaderBuilder, WriterBuilder};
pub use panta_core::comm::{Comm, CommError, Procs, Solo, ThreadComm, Threads};
pub use panta_core::engine::{EngineInfo, Resume, Start};
pub use panta_core::error::{
    BeginError, CloseError, DefineError, EndError, Failure, Fault, GetError, NextError, OpenError,
    Place, PutError,
};
pub use panta_core::model::{
    Accuracy, Attribute, AttributeKey, Attributes, Block, BlockId, BlockInfo, Complex32, Complex64,
    DType, Definition, Element, MemorySpace, Number, Pod, Selection, ShapeKind, Stats, StepHead,
    StepTime,
};
pub use panta_core::session::Sealed;
pub use panta_transports::copy::CopyCounter;
pub use panta_transports::coupling::{Progress, PushCounts};
pub use panta_transports::time::Interrupt;
pub use reader::{Batch, PinnedView, Reader, Snapshot, StepView, Variable};
pub use selection::IntoSelection;
pub use shape::{Shape, Storable, Var};
pub use view::{Owned, View, ViewMut};
pub use writer::{Step, Writer};
