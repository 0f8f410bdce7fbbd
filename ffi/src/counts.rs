//! What handles have counted of their own work.

use panta_transports::copy::CopyCounter;

use crate::caller::Caller;
use crate::reader::with_reader;
use crate::types::*;
use crate::writer::with_writer;

fn copies_of(counter: &CopyCounter) -> panta_copies {
    panta_copies {
        size: 0,
        bytes: counter.bytes(),
        calls: counter.calls(),
    }
}

/// The copies of payload that this writer has made so far.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_writer_copies(
    writer: *mut panta_writer,
    copies: *mut panta_copies,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_writer_copies") };
    caller.answer(|| {
        let counter = with_writer(writer, |state| Ok(state.session.copies()))?;
        caller.fill(copies, &copies_of(&counter), "copies")
    })
}

/// The copies of payload that this reader and its steps have made so far.
// SAFETY: as for panta_writer_copies.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_reader_copies(
    reader: *mut panta_reader,
    copies: *mut panta_copies,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_reader_copies") };
    caller.answer(|| {
        let counter = with_reader(reader, |state| Ok(state.session.copies()))?;
        caller.fill(copies, &copies_of(&counter), "copies")
    })
}

/// Bytes of metadata that this rank has sent so far: up and down the control
/// tree, and on rank 0 what the sealed steps tell readers.
// SAFETY: as for panta_writer_copies.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_writer_metadata_bytes(
    writer: *mut panta_writer,
    bytes: *mut u64,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_writer_metadata_bytes") };
    caller.answer(|| {
        let counted = with_writer(writer, |state| Ok(state.session.metadata_bytes()))?;
        caller.give(bytes, counted, "bytes")
    })
}

/// Bytes of metadata so far: announcements of steps that came to this rank, and
/// what it sent up and down the control tree.
// SAFETY: as for panta_writer_copies.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_reader_metadata_bytes(
    reader: *mut panta_reader,
    bytes: *mut u64,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_reader_metadata_bytes") };
    caller.answer(|| {
        let counted = with_reader(reader, |state| Ok(state.session.metadata_bytes()))?;
        caller.give(bytes, counted, "bytes")
    })
}

/// Bytes of blocks that this rank took from where they are stored, as they lie
/// there, compressed or not; 0 where the engine does not say.
// SAFETY: as for panta_writer_copies.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_reader_fetched_bytes(
    reader: *mut panta_reader,
    bytes: *mut u64,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_reader_fetched_bytes") };
    caller.answer(|| {
        let counted = with_reader(reader, |state| Ok(state.session.fetched_bytes()))?;
        caller.give(bytes, counted, "bytes")
    })
}

/// What was sent along with steps to this rank, as panta_freeze_selections says,
/// and whether it was of use.
// SAFETY: as for panta_writer_copies.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_reader_push_counts(
    reader: *mut panta_reader,
    counts: *mut panta_push_counts,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_reader_push_counts") };
    caller.answer(|| {
        let counted = with_reader(reader, |state| Ok(state.session.push_counts()))?;
        let answer = panta_push_counts {
            size: 0,
            used: counted.used,
            used_bytes: counted.used_bytes,
            wasted: counted.wasted,
            wasted_bytes: counted.wasted_bytes,
        };
        caller.fill(counts, &answer, "counts")
    })
}
