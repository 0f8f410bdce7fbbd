//! Reading: arrays out of steps.

use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use ndarray::{Array, ArrayViewD, ArrayViewMut, Dimension};
use panta_core::engine::{EngineInfo, Pinned, Start};
use panta_core::error::{Failure, Fault, GetError, NextError, OpenError};
use panta_core::model::{
    Attribute, AttributeKey, BlockId, BlockInfo, DType, Definition, Dims, Element, Entry, Pod,
    Stats, StepHead,
};
use panta_core::session::{self, Resolved};
use panta_transports::copy::{CopyCounter, StridedMut};
use panta_transports::coupling::PushCounts;
use panta_transports::time::Interrupt;

use crate::options::{IntoComm, ReaderBuilder};
use crate::selection::IntoSelection;
use crate::view::pinned_view;

/// One rank's end of a stream that is read.
///
/// Opening and stepping are collective over the reader's group: every rank sees the
/// same steps. Reading is local to a rank.
#[derive(Debug)]
pub struct Reader {
    pub(crate) session: session::Reader,
}

impl Reader {
    /// Opens a stream, by name or URL as [`Writer::open`](crate::Writer::open) does, at
    /// `start`. Waits for the writer up to the configured deadline.
    ///
    /// # Errors
    /// [`OpenError`], the same on every rank.
    pub fn open(name: &str, comm: impl IntoComm, start: Start) -> Result<Self, OpenError> {
        ReaderBuilder::default().start(start).open(name, comm)
    }

    /// Opens a stream with options.
    #[must_use]
    pub fn options() -> ReaderBuilder {
        ReaderBuilder::default()
    }

    /// The next step, waiting for it up to the configured deadline. `None`: the writer
    /// has closed the stream and every step was seen.
    ///
    /// # Errors
    /// [`NextError`], the same on every rank. After `NotReady` and `RolledBack` go on calling.
    pub fn next_step(&mut self) -> Result<Option<StepView<'_>>, NextError> {
        let step = self.session.next_step()?;
        Ok(step.map(|step| StepView {
            snapshot: Snapshot { step },
            reader: &self.session,
        }))
    }

    /// The same, waiting `at_most` so long; zero polls.
    ///
    /// # Errors
    /// As [`next_step`](Self::next_step).
    pub fn next_step_within(
        &mut self,
        at_most: Duration,
    ) -> Result<Option<StepView<'_>>, NextError> {
        let step = self.session.next_step_within(at_most)?;
        Ok(step.map(|step| StepView {
            snapshot: Snapshot { step },
            reader: &self.session,
        }))
    }

    /// A descriptor that becomes readable when [`next_step`](Self::next_step) should be
    /// called, for programs with a `poll` or `epoll` of their own; on rank 0, which is who
    /// hears of steps. It may be readable for nothing: call
    /// [`next_step_within`](Self::next_step_within) zero until that is
    /// [`NextError::NotReady`], and only then wait for it. It is not to be read from, and
    /// ends with the reader.
    ///
    /// # Errors
    /// [`Failure`] on other ranks, and if the system has no descriptors left.
    pub fn wait_fd(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.session.wait_fd()
    }

    /// Shows the writer that the program is alive, where the stream was opened with
    /// progress by hand (`progress=manual`, [`Progress::Manual`](crate::Progress::Manual)).
    /// The other calls do so too; this is for programs that make none for long. Local to
    /// this rank; never waits. [`wait_fd`](Self::wait_fd) is readable also when it is time.
    ///
    /// # Errors
    /// [`Fault::Away`] if the program stayed away for longer than it had declared: the
    /// writer holds it dead, and this reader is of no more use.
    pub fn progress(&self) -> Result<(), Failure> {
        self.session.progress()
    }

    /// What carries the stream, and why.
    #[must_use]
    pub fn info(&self) -> EngineInfo {
        self.session.info()
    }

    /// The flag that ends this handle's waits early.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        self.session.interrupt()
    }

    /// The payload copies of this handle so far.
    #[must_use]
    pub fn copies(&self) -> CopyCounter {
        self.session.copies()
    }

    /// Bytes of metadata so far: announcements of steps that came to this rank, and what it
    /// sent up and down the control tree.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        self.session.metadata_bytes()
    }

    /// Says that what this rank gets of a step it will get of every step: what it got of
    /// the last step that it let go of, else what it gets of the next. Over `stream:` the
    /// writer then sends that along with each step, so that `get` has nothing to wait
    /// for. Without this it is found out after two steps. To get something else later is
    /// no error: it is asked for.
    pub fn freeze_selections(&self) {
        self.session.freeze_selections();
    }

    /// What was sent along with steps, and whether it was of use.
    #[must_use]
    pub fn push_counts(&self) -> PushCounts {
        self.session.push_counts()
    }

    /// Leaves the stream. The writer goes on without this reader.
    pub fn close(self) {
        self.session.close();
    }

    /// The runtime-checked layer below, for shells of other languages and for tests.
    #[must_use]
    pub fn session(&self) -> &session::Reader {
        &self.session
    }
}

impl From<session::Reader> for Reader {
    /// The typed layer over a reader that was opened with engines of the caller's choice.
    fn from(session: session::Reader) -> Self {
        Self { session }
    }
}

/// The step a reader is at. Let go when dropped.
#[derive(Debug)]
pub struct StepView<'r> {
    snapshot: Snapshot,
    reader: &'r session::Reader,
}

impl StepView<'_> {
    /// Keeps the step beyond the reader's next one. When the reader of rank 0 is closed or
    /// dropped its group leaves the writer, which takes back what it keeps for it: a `get`
    /// on another rank is an error then.
    #[must_use]
    pub fn detach(self) -> Snapshot {
        self.snapshot
    }

    /// Remembers under `cursor` that the group is done with everything up to this step;
    /// collective. `Start::Cursor(name)` goes on after it.
    ///
    /// # Errors
    /// [`Failure`], the same on every rank.
    pub fn commit(&self, cursor: &str) -> Result<(), Failure> {
        self.reader.commit(&self.snapshot.head(), cursor)
    }
}

impl Deref for StepView<'_> {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// A sealed step: its variables, attributes and data.
#[derive(Debug)]
pub struct Snapshot {
    step: session::Step,
}

/// A variable as it is in one step.
#[derive(Clone, Copy, Debug)]
pub struct Variable<'s> {
    entry: &'s Entry,
}

impl Variable<'_> {
    /// Its definition: dtype, kind, dimension names, unit, fill.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.entry.definition
    }

    /// Elements per dimension as readers see it, slowest first.
    #[must_use]
    pub fn shape(&self) -> Vec<u64> {
        self.entry.shape()
    }

    /// Smallest and largest value over all blocks, made when they were put.
    #[must_use]
    pub fn stats(&self) -> Option<Stats> {
        self.entry.stats()
    }

    /// Its blocks in the order (rank, put order).
    #[must_use]
    pub fn blocks(&self) -> Vec<BlockInfo> {
        self.entry.block_infos().collect()
    }
}

impl Snapshot {
    /// The step's number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.step.head().step
    }

    /// Simulation time, if the writer gave one.
    #[must_use]
    pub fn time(&self) -> Option<f64> {
        self.step.head().time.sim
    }

    /// Identity and times.
    #[must_use]
    pub fn head(&self) -> StepHead {
        self.step.head()
    }

    /// The variables that were put in this step.
    pub fn variables(&self) -> impl Iterator<Item = Variable<'_>> {
        self.step.entries().iter().map(|entry| Variable { entry })
    }

    /// One variable.
    ///
    /// # Errors
    /// [`GetError::UnknownVariable`], naming the nearest there is.
    pub fn variable(&self, name: &str) -> Result<Variable<'_>, GetError> {
        self.step.entry(name).map(|entry| Variable { entry })
    }

    /// An attribute of the stream as of this step.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        let key = AttributeKey {
            variable: None,
            name: name.to_owned(),
        };
        self.step.schema().attributes.get(&key)
    }

    /// An attribute of a variable as of this step.
    #[must_use]
    pub fn variable_attribute(&self, variable: &str, name: &str) -> Option<&Attribute> {
        let key = AttributeKey {
            variable: Some(variable.to_owned()),
            name: name.to_owned(),
        };
        self.step.schema().attributes.get(&key)
    }

    /// All attributes as of this step.
    #[must_use]
    pub fn attributes(&self) -> &panta_core::model::Attributes {
        &self.step.schema().attributes
    }

    fn resolve<T: Element>(
        &self,
        variable: &str,
        selection: impl IntoSelection,
    ) -> Result<Resolved, GetError> {
        let place = || self.step.place_of(variable);
        let selection = selection
            .into_selection()
            .map_err(|error| GetError::Selection {
                place: place(),
                error,
            })?;
        self.step
            .resolve(variable, <T as Element>::DTYPE, &selection)
    }

    fn check<T: Element>(&self, variable: &str, bytes: &[u8]) -> Result<(), GetError> {
        if T::are_valid(bytes) {
            return Ok(());
        }
        let what = "the data".to_owned();
        let problem = format!("a byte is no {}", <T as Element>::DTYPE);
        Err(Fault::Corrupt { what, problem }
            .at(self.step.place_of(variable))
            .into())
    }

    /// Reads a selection into a new array.
    ///
    /// # Errors
    /// [`GetError`] if there is no such variable, its elements are not `T`, the selection
    /// reaches outside or has other than `D` dimensions left, or the data cannot be had.
    pub fn get<T: Element, D: Dimension>(
        &self,
        variable: &str,
        selection: impl IntoSelection,
    ) -> Result<Array<T, D>, GetError> {
        let resolved = self.resolve::<T>(variable, selection)?;
        let sides = resolved.shape();
        if D::NDIM.is_some_and(|dimensions| dimensions != sides.len()) {
            let problem = format!(
                "the result has {} dimensions, asked for is an array of {:?}",
                sides.len(),
                D::NDIM.unwrap_or_default()
            );
            return Err(GetError::Shape {
                place: self.step.place_of(variable),
                problem,
            });
        }
        let elements = self.read_new::<T>(variable, resolved)?;
        let problem = |error: ndarray::ShapeError| GetError::Shape {
            place: self.step.place_of(variable),
            problem: error.to_string(),
        };
        let mut shape = D::zeros(sides.len());
        for (into, side) in shape.slice_mut().iter_mut().zip(&sides) {
            *into = *side as usize;
        }
        Array::from_shape_vec(shape, elements).map_err(problem)
    }

    fn read_new<T: Element>(&self, variable: &str, resolved: Resolved) -> Result<Vec<T>, GetError> {
        let count = Dims::from_slice(resolved.count());
        let elements = count.iter().product::<u64>() as usize;
        let mut memory = bytemuck::zeroed_vec::<T>(elements);
        let bytes = elements * size_of::<T>();
        // SAFETY: the vector's elements are plain data without padding; nothing else
        // refers to them until the bytes have been checked below.
        let raw =
            unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<u8>(), bytes) };
        let outcome = self.read_raw::<T>(variable, resolved, &count, raw);
        if outcome.is_err() {
            raw.fill(0);
        }
        outcome.map(|()| memory)
    }

    fn read_raw<T: Element>(
        &self,
        variable: &str,
        resolved: Resolved,
        count: &[u64],
        raw: &mut [u8],
    ) -> Result<(), GetError> {
        let into = StridedMut::contiguous(raw, size_of::<T>(), count).map_err(|error| {
            GetError::Shape {
                place: self.step.place_of(variable),
                problem: error.to_string(),
            }
        })?;
        self.step.read(resolved, into)?;
        self.check::<T>(variable, raw)
    }

    /// Reads a selection into an array that is there, of the selection's shape and any strides.
    ///
    /// # Errors
    /// As [`get`](Self::get); what the array holds is then undefined.
    pub fn get_into<T: Pod, D: Dimension>(
        &self,
        variable: &str,
        selection: impl IntoSelection,
        mut into: ArrayViewMut<'_, T, D>,
    ) -> Result<(), GetError> {
        let resolved = self.resolve::<T>(variable, selection)?;
        let target = self.destination(variable, &resolved, &mut into)?;
        self.step.read(resolved, target)
    }

    fn destination<'d, T: Pod, D: Dimension>(
        &self,
        variable: &str,
        resolved: &Resolved,
        into: &mut ArrayViewMut<'d, T, D>,
    ) -> Result<StridedMut<'d>, GetError> {
        let problem = |problem: String| GetError::Shape {
            place: self.step.place_of(variable),
            problem,
        };
        let shape: Dims = into.shape().iter().map(|side| *side as u64).collect();
        if shape != resolved.shape() {
            return Err(problem(format!(
                "the array given has shape {shape:?}, the selection {:?}",
                resolved.shape()
            )));
        }
        let strides = resolved.strides(
            into.strides()
                .iter()
                .map(|stride| *stride as i64 * size_of::<T>() as i64),
        );
        let first = into.as_mut_ptr().cast::<u8>();
        // SAFETY: ndarray vouches for the elements of the view, borrowed mutably for `'d`;
        // dimensions of one cell that were squeezed away do not move the address.
        unsafe { StridedMut::from_raw_parts(first, size_of::<T>(), resolved.count(), &strides) }
            .map_err(|error| problem(error.to_string()))
    }

    /// One value: of a global value, or the only element of a selection of any array.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_value<T: Element>(&self, variable: &str) -> Result<T, GetError> {
        let resolved = self.resolve::<T>(variable, ..)?;
        let values = self.read_new::<T>(variable, resolved)?;
        match values.as_slice() {
            [value] => Ok(*value),
            others => {
                let problem = format!("it has {} elements, not one", others.len());
                Err(GetError::Shape {
                    place: self.step.place_of(variable),
                    problem,
                })
            }
        }
    }

    /// The strings of a variable: one of a global value, one per put of a local value.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_texts(&self, variable: &str) -> Result<Vec<String>, GetError> {
        self.step.texts(variable)
    }

    /// The string of a global value.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_text(&self, variable: &str) -> Result<String, GetError> {
        let mut texts = self.get_texts(variable)?;
        match (texts.pop(), texts.len()) {
            (Some(text), 0) => Ok(text),
            (_, others) => {
                let problem = format!("it has {} strings, not one", others + 1);
                Err(GetError::Shape {
                    place: self.step.place_of(variable),
                    problem,
                })
            }
        }
    }

    /// A block in place, without a copy, while the step is kept.
    ///
    /// # Errors
    /// As [`get`](Self::get); where the engine has no memory to share it says so.
    pub fn view<T: Pod>(
        &self,
        variable: &str,
        block: BlockId,
    ) -> Result<PinnedView<'_, T>, GetError> {
        let (pinned, shape) = self.step.pin(variable, <T as Element>::DTYPE, block)?;
        Ok(PinnedView {
            pinned,
            shape,
            step: PhantomData,
        })
    }

    /// A block in place, without a copy, for as long as the result is kept, beyond the
    /// step and the reader. It counts against the stream's limit.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub fn view_owned<T: Pod>(
        &self,
        variable: &str,
        block: BlockId,
    ) -> Result<PinnedView<'static, T>, GetError> {
        let (pinned, shape) = self.step.pin(variable, <T as Element>::DTYPE, block)?;
        Ok(PinnedView {
            pinned,
            shape,
            step: PhantomData,
        })
    }

    /// Several reads that are done together: one round trip where the engine has any.
    pub fn batch<'s, 'd>(&'s self) -> Batch<'s, 'd> {
        Batch {
            snapshot: self,
            batch: session::Batch::default(),
        }
    }

    /// What carries the stream, and why.
    #[must_use]
    pub fn info(&self) -> EngineInfo {
        self.step.info()
    }

    /// The element type of a variable.
    ///
    /// # Errors
    /// [`GetError::UnknownVariable`].
    pub fn dtype(&self, variable: &str) -> Result<DType, GetError> {
        Ok(self.variable(variable)?.definition().dtype)
    }
}

/// A block in the transport's memory.
#[derive(Debug)]
pub struct PinnedView<'s, T: Pod> {
    pinned: Pinned,
    shape: Dims,
    step: PhantomData<&'s T>,
}

impl<T: Pod> PinnedView<'_, T> {
    /// The block as an array.
    #[must_use]
    pub fn as_array(&self) -> ArrayViewD<'_, T> {
        pinned_view(self.pinned.first, &self.shape)
    }
}

/// Reads that wait for [`finish`](Self::finish); the arrays are borrowed until then, and
/// written only during that call.
#[derive(Debug)]
#[must_use = "nothing is read before `finish`"]
pub struct Batch<'s, 'd> {
    snapshot: &'s Snapshot,
    batch: session::Batch<'d>,
}

impl<'d> Batch<'_, 'd> {
    /// Adds a read.
    ///
    /// # Errors
    /// As [`Snapshot::get_into`], but for those of moving data.
    pub fn get_into<T: Pod, D: Dimension>(
        &mut self,
        variable: &str,
        selection: impl IntoSelection,
        mut into: ArrayViewMut<'d, T, D>,
    ) -> Result<(), GetError> {
        let resolved = self.snapshot.resolve::<T>(variable, selection)?;
        let target = self.snapshot.destination(variable, &resolved, &mut into)?;
        self.batch.add(resolved, target);
        Ok(())
    }

    /// Does the reads.
    ///
    /// # Errors
    /// [`GetError`] of the first that fails; what the arrays hold is then undefined.
    pub fn finish(self) -> Result<(), GetError> {
        self.snapshot.step.read_batch(self.batch)
    }
}
