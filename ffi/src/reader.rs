//! Reading a stream: open, step by step, commit, close.

use std::ffi::c_char;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use panta_core::engine::Start;
use panta_core::session::{Reader, ReaderOptions};
use panta_transports::time::Interrupt;

use crate::caller::{Caller, milliseconds};
use crate::comm::with_comm;
use crate::exclusive::Exclusive;
use crate::failed::Failed;
use crate::handles::{Handle, Object};
use crate::info::EngineTexts;
use crate::interrupts;
use crate::progress;
use crate::step::StepObject;
use crate::types::*;

/// A reader behind a handle.
pub(crate) struct ReaderObject(Exclusive<State>);

impl Object for ReaderObject {
    type Handle = panta_reader;
    const KIND: u8 = 3;
    const NAME: &'static str = "reader";
}

pub(crate) struct State {
    pub(crate) session: Reader,
    /// The step it is at, which ends with the next one unless it was detached.
    current: Option<Handle<StepObject>>,
    info: EngineTexts,
}

impl State {
    fn let_go_of_current(&mut self) {
        let Some(handle) = self.current.take() else {
            return;
        };
        // It may have been closed in between, which is as good.
        if handle.get().is_ok_and(|step| !step.is_detached()) {
            drop(handle.close());
        }
    }
}

pub(crate) fn with_reader<R>(
    reader: *const panta_reader,
    act: impl FnOnce(&mut State) -> Result<R, Failed>,
) -> Result<R, Failed> {
    let object = Handle::<ReaderObject>::from_pointer(reader).get()?;
    let mut guard = object.0.enter(ReaderObject::NAME)?;
    act(guard.state()?)
}

fn start(caller: &Caller, options: &panta_reader_options) -> Result<Start, Failed> {
    let step = || {
        u64::try_from(options.start_step)
            .map_err(|_| Failed::argument("`options.start_step` is negative"))
    };
    Ok(match options.start {
        PANTA_START_OLDEST => Start::Oldest,
        PANTA_START_LATEST => Start::Latest,
        PANTA_START_AT => Start::At(step()?),
        PANTA_START_AFTER => Start::After(step()?),
        PANTA_START_AT_TIME => Start::AtTime(options.start_time),
        PANTA_START_CURSOR => {
            Start::Cursor(caller.text(options.cursor, "options.cursor")?.to_owned())
        }
        other => {
            return Err(Failed::argument(format!(
                "`options.start` is {other}; it is one of PANTA_START_OLDEST to PANTA_START_CURSOR"
            )));
        }
    })
}

/// Opens a stream for reading, by name or URL as panta_writer_open does;
/// collective over `comm` (NULL: this process alone), which may be closed
/// afterwards. Waits for the writer up to the configured deadline. `options`
/// may be NULL: from the oldest step on.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_reader_open(
    name: *const c_char,
    comm: *mut panta_comm,
    options: *const panta_reader_options,
    reader: *mut *mut panta_reader,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_reader_open") };
    caller.answer(|| {
        caller.check_place(reader, "reader")?;
        let name = caller.text(name, "name")?;
        let mut session_options = ReaderOptions::default();
        let mut interrupt = Interrupt::default();
        if !options.is_null() {
            let given = caller.input(options, "options")?;
            session_options.start = start(&caller, &given)?;
            session_options.progress = progress::of_silence(given.silence_ms)?;
            interrupt = interrupts::of_opening(given.interrupter)?;
        }
        let session = with_comm(comm, |comm| {
            let engines = panta::registry();
            let opened =
                Reader::open_interruptible(name, comm, &engines, &session_options, &interrupt);
            Ok(opened?)
        })?;
        let state = State {
            session,
            current: None,
            info: EngineTexts::default(),
        };
        let handle = Handle::open(Arc::new(ReaderObject(Exclusive::new(state))))?;
        interrupts::arm(handle.number(), interrupt);
        caller.give(reader, handle.to_pointer(), "reader")
    })
}

/// Leaves the stream. The writer goes on without this reader. The step it is at
/// is let go; detached ones and views stay.
// SAFETY: as for panta_reader_open.
#[unsafe(no_mangle)]
pub extern "C" fn panta_reader_close(reader: *mut panta_reader) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_reader_close") };
    caller.answer(|| {
        let handle = Handle::<ReaderObject>::from_pointer(reader);
        let taken = handle.get()?.0.take(ReaderObject::NAME)?;
        let Some(mut state) = taken else {
            return Err(handle.closed());
        };
        // The slot is free for others only when nobody can interrupt this any more.
        let _last = interrupts::AtEnd(handle);
        state.let_go_of_current();
        state.session.close();
        Ok(())
    })
}

/// The next step; collective, so that every rank sees the same ones. Waits
/// `deadline_ms` at most (PANTA_CONFIGURED: as the stream is configured; 0: polls).
/// The step before is let go, unless it was detached.
///
/// PANTA_END_OF_STREAM: the writer has closed and every step was seen.
/// PANTA_NOT_READY, PANTA_ERROR_ROLLED_BACK: go on calling. In both cases, and
/// after an error, `*step` is NULL.
// SAFETY: as for panta_reader_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_next_step(
    reader: *mut panta_reader,
    deadline_ms: i64,
    step: *mut *mut panta_step,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_next_step") };
    caller.answer_with(|| {
        caller.give(step, std::ptr::null_mut(), "step")?;
        let deadline = milliseconds(deadline_ms, "deadline_ms")?;
        let found = with_reader(reader, |state| {
            state.let_go_of_current();
            let found = match deadline {
                Some(deadline) => state.session.next_step_within(deadline),
                None => state.session.next_step(),
            }?;
            let Some(found) = found else { return Ok(None) };
            let handle = Handle::open(Arc::new(StepObject::new(found)))?;
            state.current = Some(handle);
            Ok(Some(handle.to_pointer()))
        })?;
        match found {
            None => Ok(PANTA_END_OF_STREAM),
            Some(found) => caller.give(step, found, "step").map(|()| PANTA_OK),
        }
    })
}

/// Gives a descriptor that becomes readable when panta_next_step should be
/// called, for programs with a poll or epoll of their own; on rank 0, which is
/// who hears of steps. It may be readable for nothing: call panta_next_step with
/// a deadline of 0 until that gives PANTA_NOT_READY, and only then wait for it.
/// It is the library's: not to be read from or closed; ends with the reader.
// SAFETY: as for panta_reader_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_wait_fd(
    reader: *mut panta_reader,
    descriptor: *mut i32,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_wait_fd") };
    caller.answer(|| {
        caller.check_place(descriptor, "descriptor")?;
        let fd = with_reader(reader, |state| Ok(state.session.wait_fd()?.as_raw_fd()))?;
        caller.give(descriptor, fd, "descriptor")
    })
}

/// Remembers under `cursor` that the group is done with everything up to
/// `step`; collective. PANTA_START_CURSOR goes on after it.
// SAFETY: as for panta_reader_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_commit(
    reader: *mut panta_reader,
    step: *mut panta_step,
    cursor: *const c_char,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_commit") };
    caller.answer(|| {
        let cursor = caller.text(cursor, "cursor")?;
        let head = Handle::<StepObject>::from_pointer(step).get()?.step.head();
        with_reader(reader, |state| Ok(state.session.commit(&head, cursor)?))
    })
}

/// Says that what this rank gets of a step it will get of every step: what it got
/// of the last step that it let go of, else what it gets of the next. Over
/// `stream:` the writer then sends that along with each step, so that panta_get
/// has nothing to wait for. Without this it is found out after two steps. To get
/// something else later is no error: it is asked for.
// SAFETY: as for panta_reader_open.
#[unsafe(no_mangle)]
pub extern "C" fn panta_freeze_selections(reader: *mut panta_reader) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_freeze_selections") };
    caller.answer(|| {
        with_reader(reader, |state| {
            state.session.freeze_selections();
            Ok(())
        })
    })
}

/// What carries the stream, and why.
// SAFETY: as for panta_reader_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_reader_engine(
    reader: *mut panta_reader,
    info: *mut panta_engine_info,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_reader_engine") };
    caller.answer(|| {
        with_reader(reader, |state| {
            state.info = EngineTexts::of(&state.session.info());
            caller.fill(info, &state.info.as_c(), "info")
        })
    })
}

/// This rank and the number of ranks of the reader's group. Either may be NULL.
// SAFETY: as for panta_reader_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_reader_group(
    reader: *mut panta_reader,
    rank: *mut i32,
    size_of_group: *mut i32,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_reader_group") };
    caller.answer(|| {
        let (own, size) = with_reader(reader, |state| Ok(state.session.rank_and_size()))?;
        caller.give_if_wanted(rank, own as i32, "rank")?;
        caller.give_if_wanted(size_of_group, size as i32, "size_of_group")
    })
}
