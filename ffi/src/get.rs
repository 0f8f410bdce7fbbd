//! Getting a step's payload: into the caller's memory, one read or several at
//! once, or in place.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use panta_core::engine::Pinned;
use panta_core::model::{DType, Dims, Selection};
use panta_core::session::{Batch, Resolved};
use panta_transports::copy::StridedMut;

use crate::buffer::{Buffer, Kept};
use crate::caller::{Axes, Caller, block_of, dtype};
use crate::exclusive::Exclusive;
use crate::failed::Failed;
use crate::handles::{Handle, Object};
use crate::step::{StepObject, padded, step_of};
use crate::types::*;

/// Reads that wait for panta_batch_finish.
pub(crate) struct BatchObject(Exclusive<Waiting>);

struct Waiting {
    step: Arc<StepObject>,
    batch: Batch<'static>,
    booleans: Vec<Kept>,
}

impl Object for BatchObject {
    type Handle = panta_batch;
    const KIND: u8 = 5;
    const NAME: &'static str = "batch";
}

/// A block in the transport's memory.
pub(crate) struct ViewObject {
    #[expect(dead_code, reason = "kept for its drop, which lets the memory go")]
    pinned: Pinned,
}

// SAFETY: what is pinned is only read, and what keeps it in place can be let go on
// any thread.
unsafe impl Send for ViewObject {}
// SAFETY: as above.
unsafe impl Sync for ViewObject {}

impl Object for ViewObject {
    type Handle = panta_view;
    const KIND: u8 = 6;
    const NAME: &'static str = "view";
}

/// Calls `act` with a selection against a variable and a buffer that fits it, which was
/// checked to be a destination: both are large, and not moved on the way.
#[inline(always)]
fn with_target(
    caller: &Caller,
    step: &StepObject,
    variable: *const c_char,
    selection: *const panta_selection,
    buffer: *const panta_buffer,
    act: impl FnOnce(Resolved, Buffer<'_>) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let variable = caller.text(variable, "variable")?;
    let buffer = caller.buffer(buffer)?;
    buffer.on_host("get into the host's and copy it")?;
    let mut axes = Axes::new();
    let block = caller.selection(selection, &mut axes)?;
    let resolved = step
        .step
        .resolve_part(variable, buffer.dtype, block, &axes)?;
    if buffer.dtype == DType::Text {
        return Err(Failed::new(
            PANTA_ERROR_DTYPE,
            "texts are read with panta_get_text",
        ));
    }
    buffer.same_shape(resolved.count())?;
    buffer.check_destination()?;
    act(resolved, buffer)
}

/// A boolean that came as neither 0 nor 1 is damage.
fn check_booleans(buffer: Buffer<'_>) -> Result<(), Failed> {
    // SAFETY: the call that fills the buffer has not returned.
    if unsafe { buffer.has_wrong_boolean() } {
        return Err(Failed::new(
            PANTA_ERROR_CORRUPT,
            "a byte of the data is no bool",
        ));
    }
    Ok(())
}

/// Reads a selection (NULL: everything) into a buffer of the selection's counts
/// and any strides. After an error what it holds is undefined. Several threads
/// may read from a step at once.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_get(
    step: *mut panta_step,
    variable: *const c_char,
    selection: *const panta_selection,
    buffer: *const panta_buffer,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_get") };
    caller.answer(|| {
        let object = step_of(step)?;
        let step = &object.step;
        with_target(
            &caller,
            &object,
            variable,
            selection,
            buffer,
            |what, buffer| {
                // SAFETY: used within this call only, and checked.
                step.read(what, unsafe { buffer.destination() })?;
                check_booleans(buffer)
            },
        )
    })
}

/// Reads one value: of a global value, or the only element of anything.
// SAFETY: as for panta_get.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_get_value(
    step: *mut panta_step,
    variable: *const c_char,
    value_dtype: panta_dtype,
    value: *mut c_void,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_get_value") };
    caller.answer(|| {
        let object = step_of(step)?;
        let variable = caller.text(variable, "variable")?;
        let dtype = dtype(value_dtype, "value_dtype")?;
        if dtype == DType::Text {
            return Err(Failed::new(
                PANTA_ERROR_DTYPE,
                "texts are read with panta_get_text",
            ));
        }
        let resolved = object.step.resolve(variable, dtype, &Selection::all())?;
        if resolved.count().iter().any(|side| *side != 1) {
            let message = format!("it has {:?} elements, not one", resolved.count());
            return Err(Failed::new(PANTA_ERROR_SHAPE, message));
        }
        caller.check_place(value, "value")?;
        let mut bytes = [0_u8; 16];
        let count = Dims::from_slice(resolved.count());
        let into =
            StridedMut::contiguous(&mut bytes[..dtype.size_bytes()], dtype.size_bytes(), &count)
                .map_err(|error| Failed::new(PANTA_ERROR_SHAPE, error.to_string()))?;
        object.step.read(resolved, into)?;
        if dtype == DType::Bool && bytes[0] > 1 {
            return Err(Failed::new(PANTA_ERROR_CORRUPT, "the value is no bool"));
        }
        caller.give_bytes(value, &bytes[..dtype.size_bytes()], "value")
    })
}

/// The counts of what a selection (NULL: everything) gives, so that memory can
/// be made for it: `dimensions` (may be NULL) and as many entries of `count`,
/// which has room for PANTA_MAX_DIMS.
// SAFETY: as for panta_get.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_selected(
    step: *mut panta_step,
    variable: *const c_char,
    selection: *const panta_selection,
    dimensions: *mut i32,
    count: *mut i64,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_selected") };
    caller.answer(|| {
        let object = step_of(step)?;
        let variable = caller.text(variable, "variable")?;
        let mut axes = Axes::new();
        let block = caller.selection(selection, &mut axes)?;
        let dtype = object.step.entry(variable)?.definition.dtype;
        let resolved = object.step.resolve_part(variable, dtype, block, &axes)?;
        let sides = resolved.count();
        caller.give_if_wanted(dimensions, sides.len() as i32, "dimensions")?;
        for (place, side) in padded(sides).iter().take(sides.len()).enumerate() {
            caller.check_place(count, "count")?;
            caller.give(count.wrapping_add(place), *side, "count")?;
        }
        Ok(())
    })
}

/// Begins several reads that are done together: one round trip where the
/// engine has any. It keeps the step as long as it is open.
// SAFETY: as for panta_get.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_batch_open(
    step: *mut panta_step,
    batch: *mut *mut panta_batch,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_batch_open") };
    caller.answer(|| {
        caller.check_place(batch, "batch")?;
        let waiting = Waiting {
            step: step_of(step)?.keep(),
            batch: Batch::default(),
            booleans: Vec::new(),
        };
        let handle = Handle::open(Arc::new(BatchObject(Exclusive::new(waiting))))?;
        caller.give(batch, handle.to_pointer(), "batch")
    })
}

/// Adds a read; as panta_get, but that the memory is written by
/// panta_batch_finish, until which it is left in place.
// SAFETY: as for panta_get.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_batch_get(
    batch: *mut panta_batch,
    variable: *const c_char,
    selection: *const panta_selection,
    buffer: *const panta_buffer,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_batch_get") };
    caller.answer(|| {
        let object = Handle::<BatchObject>::from_pointer(batch).get()?;
        let mut guard = object.0.enter(BatchObject::NAME)?;
        let waiting = guard.state()?;
        let (batch, booleans) = (&mut waiting.batch, &mut waiting.booleans);
        with_target(
            &caller,
            &waiting.step,
            variable,
            selection,
            buffer,
            |what, buffer| {
                // SAFETY: used within panta_batch_finish only, until which the caller leaves
                // the memory in place; checked.
                batch.add(what, unsafe { buffer.destination() });
                if buffer.dtype == DType::Bool {
                    booleans.push(buffer.keep());
                }
                Ok(())
            },
        )
    })
}

fn end_batch(batch: *mut panta_batch) -> Result<Option<Waiting>, Failed> {
    let handle = Handle::<BatchObject>::from_pointer(batch);
    let taken = handle.get()?.0.take(BatchObject::NAME)?;
    handle.close()?;
    Ok(taken)
}

/// Does the reads and closes the batch. The error is that of the first read
/// that fails; what the buffers hold is then undefined.
// SAFETY: as for panta_get.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_batch_finish(batch: *mut panta_batch) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_batch_finish") };
    caller.answer(|| {
        let Some(waiting) = end_batch(batch)? else {
            return Ok(());
        };
        waiting.step.step.read_batch(waiting.batch)?;
        let mut kept = waiting.booleans.iter();
        kept.try_for_each(|kept| check_booleans(kept.buffer()))
    })
}

/// Closes a batch without doing its reads.
// SAFETY: as for panta_get.
#[unsafe(no_mangle)]
pub extern "C" fn panta_batch_close(batch: *mut panta_batch) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_batch_close") };
    caller.answer(|| end_batch(batch).map(drop))
}

/// Gives a block in place, without a copy: fills `buffer` in, whose memory is
/// not to be written to and stays until panta_view_close, beyond step and
/// reader; it counts against the stream's limit. PANTA_ERROR_UNSUPPORTED where
/// the engine has no memory to share: then panta_get the block.
// SAFETY: as for panta_get.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_view_open(
    step: *mut panta_step,
    variable: *const c_char,
    view_dtype: panta_dtype,
    block: i64,
    buffer: *mut panta_buffer,
    view: *mut *mut panta_view,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_view_open") };
    caller.answer(|| {
        caller.check_place(view, "view")?;
        caller.check_output(buffer, "buffer")?;
        let object = step_of(step)?;
        let variable = caller.text(variable, "variable")?;
        let dtype = dtype(view_dtype, "view_dtype")?;
        let (pinned, count) = object.step.pin(variable, dtype, block_of(block)?)?;
        let mut strides_bytes = [0; PANTA_MAX_DIMS];
        let mut stride = dtype.size_bytes() as i64;
        for (dimension, side) in count.iter().enumerate().rev() {
            strides_bytes[dimension] = stride;
            stride = stride.saturating_mul(*side as i64);
        }
        let answer = panta_buffer {
            size: 0,
            data: pinned.first.as_ptr().cast(),
            dtype: view_dtype,
            space: PANTA_HOST,
            device: 0,
            dimensions: count.len() as i32,
            count: padded(&count),
            strides_bytes,
        };
        let handle = Handle::open(Arc::new(ViewObject { pinned }))?;
        caller.fill(buffer, &answer, "buffer")?;
        caller.give(view, handle.to_pointer(), "view")
    })
}

/// Gives the memory of a view back.
// SAFETY: as for panta_get.
#[unsafe(no_mangle)]
pub extern "C" fn panta_view_close(view: *mut panta_view) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_view_close") };
    caller.answer(|| Handle::<ViewObject>::from_pointer(view).close())
}
