//! Writing a stream: open, step by step begin and end, close; [`crate::put`] is what
//! happens in between.
//!
//! A writer has one step at most, so a step that is written needs no handle of
//! its own. What is put stays the caller's until the step's end takes it, which
//! is why this module holds buffers without a lifetime: it reads them inside
//! panta_end_step and drops them, unread, when the step or the writer ends
//! otherwise.

use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use panta_core::engine::Resume;
use panta_core::error::{EndError, Failure, Fault};
use panta_core::model::{StepHead, StepTime};
use panta_core::session::{Put, Writer, WriterOptions};
use panta_transports::time::Interrupt;

use crate::buffer::Kept;
use crate::caller::{Caller, milliseconds, signed};
use crate::comm::with_comm;
use crate::exclusive::Exclusive;
use crate::failed::Failed;
use crate::handles::{Handle, Object};
use crate::info::{EngineTexts, step_info};
use crate::interrupts;
use crate::progress;
use crate::types::*;

/// A writer behind a handle.
pub(crate) struct WriterObject(Exclusive<State>);

impl Object for WriterObject {
    type Handle = panta_writer;
    const KIND: u8 = 2;
    const NAME: &'static str = "writer";
}

/// A lent buffer, and how to give it back.
pub(crate) struct Lent {
    pub(crate) release: unsafe extern "C" fn(*mut c_void, *mut c_void),
    pub(crate) context: *mut c_void,
    pub(crate) data: *mut c_void,
}

// SAFETY: the pointers are only handed back to the caller, who is told that this may
// happen on whichever thread ends the step or closes the writer.
unsafe impl Send for Lent {}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: the caller's own function, called this once.
        unsafe { (self.release)(self.context, self.data) };
    }
}

pub(crate) struct State {
    pub(crate) session: Writer,
    /// In the upper half of this writer's variables, so that another's are refused.
    pub(crate) tag: u32,
    pub(crate) variables: usize,
    /// The step that is open.
    pub(crate) open: Option<StepHead>,
    pub(crate) puts: Vec<Put<'static>>,
    pub(crate) booleans: Vec<(usize, Kept)>,
    pub(crate) lent: Vec<Lent>,
    /// Why a put was refused before it came to the session.
    pub(crate) refused: Option<String>,
    info: EngineTexts,
}

impl State {
    pub(crate) fn variable(&self, given: panta_variable) -> Result<usize, Failed> {
        let index = (given & u64::from(u32::MAX)) as usize;
        if given >> 32 == u64::from(self.tag) && index < self.variables {
            return Ok(index);
        }
        let message = "the variable is not one that panta_define gave for this writer";
        Err(Failed::new(PANTA_ERROR_UNKNOWN_VARIABLE, message))
    }

    /// What was put into the step that ends; the lent buffers go back when dropped.
    fn take_step(&mut self) -> (Vec<Put<'static>>, Vec<Lent>) {
        self.open = None;
        self.refused = None;
        self.booleans.clear();
        // The next step most likely has as many.
        let puts = Vec::with_capacity(self.puts.len());
        (
            std::mem::replace(&mut self.puts, puts),
            std::mem::take(&mut self.lent),
        )
    }

    /// Why the step must be given up, if it must: a put that was refused, however its
    /// caller took it, or a boolean that is none.
    fn obstacle(&mut self) -> Option<Failed> {
        if let Some(why) = self.refused.take() {
            let fault = Fault::Refused {
                peer: "the step's end".into(),
                why: format!("a put had failed: {why}"),
            };
            return Some(fault.at(self.session.place()).into());
        }
        let wrong = self.booleans.iter().find(|(_, kept)| {
            // SAFETY: the step has not ended, so the memory is still lent to us.
            unsafe { kept.buffer().has_wrong_boolean() }
        });
        let (variable, _) = wrong?;
        let name = &self.session.definition(*variable).name;
        let what = format!("a byte of `{name}` is no bool: 0 and 1 are");
        let place = self.session.place().of_variable(name);
        let fault = Fault::Refused {
            peer: "the step's end".into(),
            why: what,
        };
        let mut failed = Failed::from(fault.at(place));
        failed.status = PANTA_ERROR_DTYPE;
        Some(failed)
    }
}

/// Runs `act` on the open writer of a handle.
pub(crate) fn with_writer<R>(
    writer: *const panta_writer,
    act: impl FnOnce(&mut State) -> Result<R, Failed>,
) -> Result<R, Failed> {
    let object = Handle::<WriterObject>::from_pointer(writer).get()?;
    let mut guard = object.0.enter(WriterObject::NAME)?;
    act(guard.state()?)
}

fn step_number(given: i64, what: &str) -> Result<u64, Failed> {
    u64::try_from(given)
        .map_err(|_| Failed::argument(format!("`{what}` is {given}, which is negative")))
}

fn resume(options: &panta_writer_options) -> Result<Resume, Failed> {
    match options.resume {
        PANTA_RESUME_FRESH => Ok(Resume::Fresh),
        PANTA_RESUME_LAST => Ok(Resume::Last),
        PANTA_RESUME_AFTER => {
            step_number(options.resume_step, "options.resume_step").map(Resume::After)
        }
        other => Err(Failed::argument(format!(
            "`options.resume` is {other}; it is one of PANTA_RESUME_FRESH to PANTA_RESUME_AFTER"
        ))),
    }
}

/// Opens a stream for writing; collective over `comm` (NULL: this process
/// alone), which may be closed afterwards. `name` is a URL such as
/// "file:run42.panta", or a name that PANTA_URL_<NAME>, then panta.toml, turns
/// into one, else "file:<name>.panta". `options` may be NULL.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_writer_open(
    name: *const c_char,
    comm: *mut panta_comm,
    options: *const panta_writer_options,
    writer: *mut *mut panta_writer,
) -> panta_status {
    static TAGS: AtomicU32 = AtomicU32::new(1);
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_writer_open") };
    caller.answer(|| {
        caller.check_place(writer, "writer")?;
        let name = caller.text(name, "name")?;
        let (mut session_options, mut deadline) = (WriterOptions::default(), None);
        let mut interrupt = Interrupt::default();
        if !options.is_null() {
            let given = caller.input(options, "options")?;
            session_options.resume = resume(&given)?;
            session_options.progress = progress::of_silence(given.silence_ms)?;
            deadline = milliseconds(given.deadline_ms, "options.deadline_ms")?;
            interrupt = interrupts::of_opening(given.interrupter)?;
        }
        let mut session = with_comm(comm, |comm| {
            let engines = panta::registry();
            let opened =
                Writer::open_interruptible(name, comm, &engines, session_options, &interrupt);
            Ok(opened?)
        })?;
        if let Some(deadline) = deadline {
            session.set_deadline(deadline);
        }
        let state = State {
            session,
            tag: TAGS.fetch_add(1, Ordering::Relaxed),
            variables: 0,
            open: None,
            puts: Vec::new(),
            booleans: Vec::new(),
            lent: Vec::new(),
            refused: None,
            info: EngineTexts::default(),
        };
        let handle = Handle::open(Arc::new(WriterObject(Exclusive::new(state))))?;
        interrupts::arm(handle.number(), interrupt);
        caller.give(writer, handle.to_pointer(), "writer")
    })
}

/// Closes the stream; collective. Readers see its end after the last step; a
/// step that is open is given up. The handle is closed also where an error
/// comes back, unless that is PANTA_ERROR_BUSY_HANDLE.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub extern "C" fn panta_writer_close(writer: *mut panta_writer) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_writer_close") };
    caller.answer(|| {
        let handle = Handle::<WriterObject>::from_pointer(writer);
        let taken = handle.get()?.0.take(WriterObject::NAME)?;
        let Some(mut state) = taken else {
            return Err(handle.closed());
        };
        // The slot is free for others only when nobody can interrupt this any more.
        let _last = interrupts::AtEnd(handle);
        let step = state.take_step();
        let outcome = state.session.close();
        drop(step);
        Ok(outcome?)
    })
}

/// How long each wait of this writer may take from now on, in milliseconds.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub extern "C" fn panta_writer_set_deadline(
    writer: *mut panta_writer,
    deadline_ms: i64,
) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_writer_set_deadline") };
    caller.answer(|| {
        let deadline = milliseconds(deadline_ms, "deadline_ms")?
            .ok_or_else(|| Failed::argument("`deadline_ms` must be a time here"))?;
        with_writer(writer, |state| {
            state.session.set_deadline(deadline);
            Ok(())
        })
    })
}

fn begin(
    caller: &Caller,
    writer: *mut panta_writer,
    time: f64,
    reserve_bytes: Option<u64>,
    number: *mut i64,
) -> Result<(), Failed> {
    let begun = with_writer(writer, |state| {
        let time = StepTime {
            sim: (!time.is_nan()).then_some(time),
        };
        let head = state.session.begin_step(time, reserve_bytes)?;
        state.open = Some(head);
        Ok(signed(head.step))
    })?;
    caller.give_if_wanted(number, begun, "number")
}

/// Begins a step; collective: every rank calls it, also with nothing to put.
/// Waits or sheds here, by the stream's policy and by bytes: as many as the
/// last step had are reserved. `time` is simulation time, rank 0's counts;
/// PANTA_NO_TIME if there is none. Gives the step's number; NULL if not wanted.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_begin_step(
    writer: *mut panta_writer,
    time: f64,
    number: *mut i64,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_begin_step") };
    caller.answer(|| begin(&caller, writer, time, None, number))
}

/// The same, for a step in which this rank will put up to `bytes`.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_begin_step_of(
    writer: *mut panta_writer,
    time: f64,
    bytes: u64,
    number: *mut i64,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_begin_step_of") };
    caller.answer(|| begin(&caller, writer, time, Some(bytes), number))
}

/// Identity and times of the step that is open; its counts of variables and
/// attributes are 0, since readers alone know them.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_describe_open_step(
    writer: *mut panta_writer,
    info: *mut panta_step_info,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_describe_open_step") };
    caller.answer(|| {
        let head = with_writer(writer, |state| open_step(state))?;
        caller.fill(info, &step_info(&head), "info")
    })
}

/// Gives 1 if the stream's policy will discard the step that is open, so that
/// computing what would be put can be spared; else 0.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_is_discarded(
    writer: *mut panta_writer,
    discarded: *mut i32,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_is_discarded") };
    caller.answer(|| {
        let is = with_writer(writer, |state| Ok(state.session.is_discarded()))?;
        caller.give(discarded, i32::from(is), "discarded")
    })
}

/// Ends the step; collective, with the same outcome on every rank. When it
/// returns, what was put is the caller's again, and the step is sealed, or
/// given up on every rank. `sealed` may be NULL.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_end_step(
    writer: *mut panta_writer,
    sealed: *mut panta_sealed,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_end_step") };
    caller.answer(|| {
        if !sealed.is_null() {
            caller.check_output(sealed, "sealed")?;
        }
        let (outcome, lent) = with_writer(writer, |state| {
            no_step(state)?;
            let obstacle = state.obstacle();
            let (puts, lent) = state.take_step();
            let outcome = match obstacle {
                None => state.session.end_step(puts).map_err(Failed::from),
                Some(obstacle) => {
                    // The other ranks learn from this that the step is given up.
                    let _ = state.session.abort_step();
                    Err(obstacle)
                }
            };
            Ok((outcome, lent))
        })?;
        // Only now, when the writer is free again, do lent buffers go back.
        drop(lent);
        let outcome = outcome?;
        if sealed.is_null() {
            return Ok(());
        }
        let answer = panta_sealed {
            size: 0,
            step: signed(outcome.step),
            discarded: i32::from(outcome.discarded),
            reserved: 0,
        };
        caller.fill(sealed, &answer, "sealed")
    })
}

pub(crate) fn no_step(state: &State) -> Result<(), Failed> {
    open_step(state).map(|_| ())
}

fn open_step(state: &State) -> Result<StepHead, Failed> {
    let message = "no step is open; call panta_begin_step first";
    state
        .open
        .ok_or_else(|| Failed::new(PANTA_ERROR_NO_STEP, message))
}

/// Gives the step up, on every rank; collective with the others'
/// panta_end_step, which then fail.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub extern "C" fn panta_abort_step(writer: *mut panta_writer) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_abort_step") };
    caller.answer(|| {
        let (outcome, lent) = with_writer(writer, |state| {
            no_step(state)?;
            let (puts, lent) = state.take_step();
            drop(puts);
            Ok((state.session.abort_step(), lent))
        })?;
        drop(lent);
        match outcome {
            // That this rank, or another, gave the step up is what was asked for.
            Ok(_)
            | Err(EndError::Failed(Failure {
                fault: Fault::OnRank { .. },
                ..
            })) => Ok(()),
            Err(error) => Err(error.into()),
        }
    })
}

/// What carries the stream, and why.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_writer_engine(
    writer: *mut panta_writer,
    info: *mut panta_engine_info,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_writer_engine") };
    caller.answer(|| {
        with_writer(writer, |state| {
            state.info = EngineTexts::of(&state.session.info());
            caller.fill(info, &state.info.as_c(), "info")
        })
    })
}

/// This rank and the number of ranks of the writer's group. Either may be NULL.
// SAFETY: as for panta_writer_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_writer_group(
    writer: *mut panta_writer,
    rank: *mut i32,
    size_of_group: *mut i32,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_writer_group") };
    caller.answer(|| {
        let (own, size) = with_writer(writer, |state| Ok(state.session.rank_and_size()))?;
        caller.give_if_wanted(rank, own as i32, "rank")?;
        caller.give_if_wanted(size_of_group, size as i32, "size_of_group")
    })
}
