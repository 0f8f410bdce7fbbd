//! Putting blocks and values into the step that is open.
//!
//! ```text
//!   panta_put          captured   read at the step's end     one copy, by the engine
//!   panta_put_copied   taken      read during the call       the same, made now
//!   panta_put_owned    lent       read at the step's end     none where the engine can
//!   panta_span         none       computed in place          none
//! ```
//! A put that fails makes its step fail, on every rank, however its caller takes it.

use std::ffi::{c_char, c_void};
use std::slice;

use panta_core::model::DType;
use panta_transports::copy::{StridedMut, copy};

use crate::caller::{Caller, dtype};
use crate::failed::Failed;
use crate::types::*;
use crate::writer::{Lent, State, no_step, with_writer};

/// What to do with memory of a device.
const COPY_FIRST: &str = "copy it to the host's and put that";

/// Runs `act`, a put, on the open writer of a handle: one that fails makes its step fail.
fn with_step<R>(
    writer: *const panta_writer,
    act: impl FnOnce(&mut State) -> Result<R, Failed>,
) -> Result<R, Failed> {
    with_writer(writer, |state| {
        let outcome = act(state);
        if let Err(failed) = &outcome
            && state.open.is_some()
            && !failed.is_noted
        {
            state.refused.get_or_insert_with(|| failed.message.clone());
        }
        outcome
    })
}

fn not_text(dtype: DType) -> Result<(), Failed> {
    if dtype != DType::Text {
        return Ok(());
    }
    let message = "texts are put with panta_put_text";
    Err(Failed::new(PANTA_ERROR_DTYPE, message))
}

/// `start` has as many entries as the variable dimensions; NULL is zeros.
fn start_of<'c>(
    caller: &'c Caller,
    state: &State,
    index: usize,
    start: *const i64,
) -> Result<&'c [u64], Failed> {
    const ZEROS: [u64; PANTA_MAX_DIMS] = [0; PANTA_MAX_DIMS];
    let count = state.session.definition(index).dimensions();
    if start.is_null() {
        return Ok(&ZEROS[..count]);
    }
    caller.sides(start, count, "start")
}

fn put(
    caller: &Caller,
    writer: *mut panta_writer,
    variable: panta_variable,
    start: *const i64,
    buffer: *const panta_buffer,
    lent: Option<Lent>,
) -> Result<(), Failed> {
    let mut lent = lent;
    let outcome = with_step(writer, |state| {
        let index = state.variable(variable)?;
        let start = start_of(caller, state, index, start)?;
        let buffer = caller.buffer(buffer)?;
        not_text(buffer.dtype)?;
        buffer.on_host(COPY_FIRST)?;
        // SAFETY: read only by this writer's panta_end_step, until which the caller
        // leaves the memory in place.
        let source = unsafe { buffer.source() }?;
        let kind = (buffer.dtype, buffer.space);
        state
            .session
            .put_onto(&mut state.puts, index, kind, start, &source)?;
        if buffer.dtype == DType::Bool {
            state.booleans.push((index, buffer.keep()));
        }
        if let Some(lent) = lent.take() {
            state.lent.push(lent);
        }
        Ok(())
    });
    // What was not taken stays the caller's, who is told by the error.
    std::mem::forget(lent);
    outcome
}

/// Puts one block that begins at `start` (NULL: at zeros) and has the buffer's
/// counts. Captured by end: the memory stays the caller's, and is left in place
/// and unchanged until panta_end_step, panta_abort_step or panta_writer_close
/// returns. Of a local array `start` is NULL; along a joined dimension it is 0.
/// If this fails, the step fails on every rank.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_put(
    writer: *mut panta_writer,
    variable: panta_variable,
    start: *const i64,
    buffer: *const panta_buffer,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_put") };
    caller.answer(|| put(&caller, writer, variable, start, buffer, None))
}

fn put_copied(
    caller: &Caller,
    state: &mut State,
    variable: panta_variable,
    start: *const i64,
    buffer: *const panta_buffer,
) -> Result<(), Failed> {
    let index = state.variable(variable)?;
    let start = start_of(caller, state, index, start)?;
    let buffer = caller.buffer(buffer)?;
    not_text(buffer.dtype)?;
    buffer.on_host(COPY_FIRST)?;
    // SAFETY: the caller's memory stays in place while this call runs.
    if unsafe { buffer.has_wrong_boolean() } {
        let name = &state.session.definition(index).name;
        let message = format!("a byte of `{name}` is no bool: 0 and 1 are");
        return Err(Failed::new(PANTA_ERROR_DTYPE, message));
    }
    // SAFETY: read only during this call.
    let source = unsafe { buffer.source() }?;
    let (put, first, bytes) = state
        .session
        .span(index, buffer.dtype, start, buffer.count())?;
    state.puts.push(put);
    // SAFETY: the span's memory is ours until the step ends, and nobody has seen it yet.
    let memory = unsafe { slice::from_raw_parts_mut(first.as_ptr(), bytes) };
    StridedMut::contiguous(memory, buffer.dtype.size_bytes(), buffer.count())
        .map_err(|error| error.to_string())
        .and_then(|mut into| {
            copy(&mut into, &source, &state.session.copies()).map_err(|error| error.to_string())
        })
        .map_err(|why| Failed::new(PANTA_ERROR_SHAPE, format!("the buffer: {why}")))
}

/// Puts one block as panta_put does, and copies it during this call: the memory
/// is the caller's again when it returns.
// SAFETY: as for panta_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_put_copied(
    writer: *mut panta_writer,
    variable: panta_variable,
    start: *const i64,
    buffer: *const panta_buffer,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_put_copied") };
    caller.answer(|| {
        with_step(writer, |state| {
            put_copied(&caller, state, variable, start, buffer)
        })
    })
}

/// Makes the step that is open fail on every rank when it ends, with these
/// words, as a put that fails does; for functions around this library that
/// refuse what they were to put.
// SAFETY: as for panta_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_fail_step(
    writer: *mut panta_writer,
    message: *const c_char,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_fail_step") };
    caller.answer(|| {
        let message = caller.text(message, "message")?;
        with_writer(writer, |state| {
            no_step(state)?;
            state.refused.get_or_insert_with(|| message.to_owned());
            Ok(())
        })
    })
}

/// Puts one block by lending its memory: `release(context, buffer.data)` is
/// called once, when the library is done with it, at the step's end at the
/// earliest, on the thread that ends the step or closes the writer. If this
/// fails, the memory stays the caller's and `release` is not called. `release`
/// returns: an exception of C++ that leaves it, or a longjmp, ends the program.
// SAFETY: as for panta_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_put_owned(
    writer: *mut panta_writer,
    variable: panta_variable,
    start: *const i64,
    buffer: *const panta_buffer,
    release: Option<unsafe extern "C" fn(context: *mut c_void, data: *mut c_void)>,
    context: *mut c_void,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_put_owned") };
    caller.answer(|| {
        let release = release
            .ok_or_else(|| Failed::new(PANTA_ERROR_NULL, "`release` is NULL; use panta_put"))?;
        let data = caller.in_place(buffer, "buffer")?.data;
        let lent = Lent {
            release,
            context,
            data,
        };
        put(&caller, writer, variable, start, buffer, Some(lent))
    })
}

/// Puts a value of a global or local value, taken at once.
// SAFETY: as for panta_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_put_value(
    writer: *mut panta_writer,
    variable: panta_variable,
    value_dtype: panta_dtype,
    value: *const c_void,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_put_value") };
    caller.answer(|| {
        with_step(writer, |state| {
            let dtype = dtype(value_dtype, "value_dtype")?;
            not_text(dtype)?;
            let bytes = caller.bytes(value, dtype.size_bytes(), "value")?;
            if dtype == DType::Bool && bytes.iter().any(|byte| *byte > 1) {
                return Err(Failed::new(
                    PANTA_ERROR_DTYPE,
                    "`value` is no bool: 0 and 1 are",
                ));
            }
            let index = state.variable(variable)?;
            Ok(state.session.put_value(index, dtype, bytes)?)
        })
    })
}

/// Puts a text of a global or local value, taken at once.
// SAFETY: as for panta_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_put_text(
    writer: *mut panta_writer,
    variable: panta_variable,
    text: *const c_char,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_put_text") };
    caller.answer(|| {
        with_step(writer, |state| {
            let text = caller.text(text, "text")?;
            let index = state.variable(variable)?;
            Ok(state
                .session
                .put_value(index, DType::Text, text.as_bytes())?)
        })
    })
}

/// Lends memory of the transport for one block, to compute into, without any
/// copy: row-major, aligned to 64 bytes, holding zeros or the values of an
/// earlier step, so that every element is to be written; the caller's until
/// panta_end_step, panta_abort_step or panta_writer_close is called.
// SAFETY: as for panta_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_span(
    writer: *mut panta_writer,
    variable: panta_variable,
    span_dtype: panta_dtype,
    start: *const i64,
    count: *const i64,
    memory: *mut *mut c_void,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_span") };
    caller.answer(|| {
        let first = with_step(writer, |state| {
            caller.check_place(memory, "memory")?;
            let dtype = dtype(span_dtype, "span_dtype")?;
            if matches!(dtype, DType::Bool | DType::Text) {
                let message = "booleans and texts are put, not computed in place: they are checked";
                return Err(Failed::new(PANTA_ERROR_UNSUPPORTED, message));
            }
            let index = state.variable(variable)?;
            let start = start_of(&caller, state, index, start)?;
            let count = caller.sides(count, start.len(), "count")?;
            let (put, first, _bytes) = state.session.span(index, dtype, start, count)?;
            state.puts.push(put);
            Ok(first)
        })?;
        caller.give(memory, first.as_ptr().cast(), "memory")
    })
}
