//! Writing: typed handles over the session.

use std::any::Any;
use std::cell::{RefCell, RefMut};
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use panta_core::engine::EngineInfo;
use panta_core::error::{
    BeginError, CloseError, DefineError, EndError, Failure, OpenError, PutError,
};
use panta_core::model::{Attribute, Element, Pod, StepHead, StepTime};
use panta_core::session::{self, Put, Sealed};
use panta_transports::copy::CopyCounter;
use panta_transports::time::Interrupt;

use crate::options::{IntoComm, WriterBuilder};
use crate::shape::{Shape, Storable, Var};
use crate::view::{Owned, View, ViewMut};

/// One rank's end of a stream that is written.
///
/// Opening, beginning, ending and closing are collective: every rank of the group
/// calls them, and gets the same outcome.
#[derive(Debug)]
pub struct Writer {
    pub(crate) session: session::Writer,
}

impl Writer {
    /// Opens a stream, starting it anew. `name` is a URL (`file:run42.panta`), or a name
    /// that `PANTA_URL_<NAME>`, then `panta.toml`, then the default `file:<name>.panta`
    /// turns into one.
    ///
    /// # Errors
    /// [`OpenError`], the same on every rank.
    pub fn open(name: &str, comm: impl IntoComm) -> Result<Self, OpenError> {
        WriterBuilder::default().open(name, comm)
    }

    /// Opens a stream with options, as to resume it.
    #[must_use]
    pub fn options() -> WriterBuilder {
        WriterBuilder::default()
    }

    /// Defines a variable from the next step on.
    ///
    /// # Errors
    /// [`DefineError`] if the definition contradicts itself or an earlier one.
    pub fn define<T: Storable + ?Sized>(
        &mut self,
        name: &str,
        shape: Shape,
    ) -> Result<Var<T>, DefineError> {
        let index = self.session.define(shape.define(name, T::DTYPE)?)?;
        Ok(Var {
            index,
            element: PhantomData,
        })
    }

    /// Gives a global array another shape from the next step on.
    ///
    /// # Errors
    /// [`DefineError`] if it has another number of dimensions.
    pub fn set_shape<T: Storable + ?Sized>(
        &mut self,
        variable: Var<T>,
        shape: &[u64],
    ) -> Result<(), DefineError> {
        self.session.set_shape(variable.index, shape)
    }

    /// Sets an attribute of the stream, from the next step on.
    ///
    /// # Errors
    /// None now; a `Result` because limits may come.
    pub fn set_attribute(
        &mut self,
        name: &str,
        value: impl Into<Attribute>,
    ) -> Result<(), DefineError> {
        self.session.set_attribute(None, name, value.into())
    }

    /// Sets an attribute of a variable, from the next step on.
    ///
    /// # Errors
    /// [`DefineError::UnknownVariable`] for a handle of another writer.
    pub fn set_variable_attribute<T: Storable + ?Sized>(
        &mut self,
        variable: Var<T>,
        name: &str,
        value: impl Into<Attribute>,
    ) -> Result<(), DefineError> {
        let owner = self.session.definition(variable.index).name.clone();
        self.session.set_attribute(Some(&owner), name, value.into())
    }

    /// Promises that what is defined stays as it is: from now on the first definition of a
    /// variable, another shape, or another attribute is an error, and a step whose blocks
    /// lie as before costs the same few bytes of metadata each time.
    pub fn freeze_definitions(&mut self) {
        self.session.freeze_definitions();
    }

    /// Begins a step; collective. Waits or sheds here, by the stream's policy and by bytes:
    /// as many as the last step had are reserved.
    ///
    /// # Errors
    /// [`BeginError`], the same on every rank.
    pub fn begin_step<'w, 'd>(&'w mut self, time: StepTime) -> Result<Step<'w, 'd>, BeginError> {
        self.begin(time, None)
    }

    /// Begins a step in which this rank will put up to `bytes`.
    ///
    /// # Errors
    /// [`BeginError`], the same on every rank; [`BeginError::StepTooLarge`] above the limit.
    pub fn begin_step_of<'w, 'd>(
        &'w mut self,
        time: StepTime,
        bytes: u64,
    ) -> Result<Step<'w, 'd>, BeginError> {
        self.begin(time, Some(bytes))
    }

    fn begin<'w, 'd>(
        &'w mut self,
        time: StepTime,
        bytes: Option<u64>,
    ) -> Result<Step<'w, 'd>, BeginError> {
        let head = self.session.begin_step(time, bytes)?;
        let guard = Guard {
            session: &mut self.session,
            ended: false,
        };
        Ok(Step {
            guard,
            head,
            puts: RefCell::default(),
            kept: RefCell::default(),
        })
    }

    /// Closes the stream; collective. Readers see its end after the last step. Dropping a
    /// writer closes it too, without telling whether that went well.
    ///
    /// # Errors
    /// [`CloseError`], the same on every rank.
    pub fn close(self) -> Result<(), CloseError> {
        self.session.close()
    }

    /// Does what is there to do, where the stream was opened with progress by hand
    /// (`progress=manual`, [`Progress::Manual`](crate::Progress::Manual)): readers that come
    /// and go and ask for bytes are answered, and shown that the program is alive. The other
    /// calls do so too; this is for programs that make none for long. Local to this rank;
    /// never waits. Nothing where threads do it, or nothing is to be done.
    ///
    /// # Errors
    /// [`Fault::Away`](panta_core::error::Fault::Away) if the program stayed away for longer
    /// than it had declared: its readers hold it dead, and this writer is of no more use.
    pub fn progress(&self) -> Result<(), Failure> {
        self.session.progress()
    }

    /// A descriptor that is readable when [`progress`](Self::progress) has something to do,
    /// for programs with a `poll` or `epoll` of their own. It is not to be read from, and
    /// ends with the writer. Where nothing is ever to be done by hand it never is readable.
    ///
    /// # Errors
    /// [`Failure`] if the system has no descriptors left.
    pub fn wait_fd(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.session.wait_fd()
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

    /// Bytes of metadata that this rank has sent so far: up and down the control tree, and
    /// on the root what the sealed steps tell readers. A step whose definitions and layout
    /// are known costs the same few bytes each time.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        self.session.metadata_bytes()
    }

    /// How long each wait may take from now on.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.session.set_deadline(deadline);
    }

    /// The runtime-checked layer below, for shells of other languages and for tests.
    #[must_use]
    pub fn session(&self) -> &session::Writer {
        &self.session
    }
}

impl From<session::Writer> for Writer {
    /// The typed layer over a writer that was opened with engines of the caller's choice.
    fn from(session: session::Writer) -> Self {
        Self { session }
    }
}

/// Gives the step up if it is dropped before its end.
#[derive(Debug)]
struct Guard<'w> {
    session: &'w mut session::Writer,
    ended: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // The error says that this rank gave the step up; the others get it from `end`.
            let _ = self.session.abort_step();
        }
    }
}

/// A step that is being written. Dropping it gives it up on every rank.
///
/// What is put is borrowed until [`end`](Self::end), and touched only during that call.
#[derive(Debug)]
pub struct Step<'w, 'd> {
    guard: Guard<'w>,
    head: StepHead,
    puts: RefCell<Vec<Put<'d>>>,
    kept: RefCell<Vec<Kept>>,
}

struct Kept(
    #[expect(dead_code, reason = "kept for its drop, which releases a lent buffer")]
    Box<dyn Any + Send>,
);

impl std::fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Kept")
    }
}

impl<'d> Step<'_, 'd> {
    /// The step's number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.head.step
    }

    /// Identity and times.
    #[must_use]
    pub fn head(&self) -> StepHead {
        self.head
    }

    /// Whether the stream's policy will discard this step, so that computing what would be
    /// put can be spared.
    #[must_use]
    pub fn is_discarded(&self) -> bool {
        self.guard.session.is_discarded()
    }

    /// Puts one block that begins at `start`, of the array's shape. For a local array
    /// `start` is empty; along a joined axis it is 0.
    ///
    /// # Errors
    /// [`PutError`] if it does not fit the variable or the limit; the step then fails
    /// on every rank.
    pub fn put<T: Element>(
        &self,
        variable: Var<T>,
        start: &[u64],
        array: impl Into<View<'d, T>>,
    ) -> Result<(), PutError> {
        let view = array.into();
        let session = &self.guard.session;
        let Some(bytes) = &view.bytes else {
            let name = &session.definition(variable.index).name;
            let place = session.place().of_variable(name).at_step(self.head.step);
            let problem = "the array has more dimensions than a variable can have".to_owned();
            return Err(PutError::Shape { place, problem });
        };
        let kind = (T::DTYPE, view.space);
        session.put_onto(&mut self.puts(), variable.index, kind, start, bytes)
    }

    /// What was put so far.
    fn puts(&self) -> RefMut<'_, Vec<Put<'d>>> {
        let mut puts = self.puts.borrow_mut();
        if puts.is_empty() {
            // A put is large, and one in a step is common.
            puts.reserve_exact(1);
        }
        puts
    }

    /// Puts one block by lending its buffer, which is released when the transport is done
    /// with it: at the step's end at the earliest.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_owned<T: Element>(
        &self,
        variable: Var<T>,
        start: &[u64],
        array: impl Into<Owned<T>>,
    ) -> Result<(), PutError> {
        let Owned { view, keep } = array.into();
        self.kept.borrow_mut().push(Kept(keep));
        self.put(variable, start, view)
    }

    /// Puts a value of a global or local value variable; taken at once.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_value<T: Storable + ?Sized>(
        &self,
        variable: Var<T>,
        value: &T,
    ) -> Result<(), PutError> {
        self.guard
            .session
            .put_value(variable.index, T::DTYPE, &value.to_stored())
    }

    /// Lends memory of the transport for one block, to compute into: no copy at all.
    ///
    /// # Errors
    /// As [`put`](Self::put), and if the engine has no room.
    pub fn span<T: Pod>(
        &self,
        variable: Var<T>,
        start: &[u64],
        count: &[u64],
    ) -> Result<ViewMut<'_, T>, PutError> {
        let (put, first, _bytes) =
            self.guard
                .session
                .span(variable.index, <T as Element>::DTYPE, start, count)?;
        self.puts().push(put);
        let shape = count.iter().map(|side| *side as usize).collect();
        Ok(ViewMut {
            first: first.cast(),
            shape,
            step: PhantomData,
        })
    }

    /// Ends the step; collective. When it returns, what was put is the caller's again and
    /// the step is sealed, or given up on every rank.
    ///
    /// # Errors
    /// [`EndError`], the same on every rank; also that of a put that failed on any rank.
    pub fn end(self) -> Result<Sealed, EndError> {
        let Self {
            mut guard,
            puts,
            kept,
            ..
        } = self;
        guard.ended = true;
        let sealed = guard.session.end_step(puts.into_inner());
        drop(kept);
        sealed
    }

    /// Gives the step up, on every rank, and says so to the others.
    pub fn abort(self) {
        drop(self);
    }
}
