//! How an error leaves: a status for the caller, the rest for whoever asks on
//! the same thread.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::ops::{Deref, DerefMut};
use std::ptr;

use panta_core::comm::CommError;
use panta_core::error::{
    BeginError, CloseError, DefineError, EndError, Failure, Fault, GetError, NextError, OpenError,
    Place, PutError,
};

use crate::caller::Caller;
use crate::types::*;

/// An error on its way out. It is large and rare, so a call that succeeds carries a word
/// in its place.
#[derive(Debug)]
pub(crate) struct Failed(Box<Told>);

/// What its caller is told of an error.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) status: panta_status,
    pub(crate) message: String,
    stream: String,
    step: Option<u64>,
    variable: Option<String>,
    rank: Option<usize>,
    /// Whether the session has noted that the step fails by it.
    pub(crate) is_noted: bool,
}

impl Deref for Failed {
    type Target = Told;

    fn deref(&self) -> &Told {
        &self.0
    }
}

impl DerefMut for Failed {
    fn deref_mut(&mut self) -> &mut Told {
        &mut self.0
    }
}

impl Failed {
    #[cold]
    pub(crate) fn new(status: panta_status, message: impl Into<String>) -> Self {
        Self(Box::new(Told {
            status,
            message: message.into(),
            ..Told::default()
        }))
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(PANTA_ERROR_ARGUMENT, message)
    }

    fn at(mut self, place: &Place) -> Self {
        self.stream.clone_from(&place.stream);
        self.step = place.step;
        self.variable.clone_from(&place.variable);
        self.rank = place.rank;
        self
    }

    fn of_stream(mut self, stream: &str, step: Option<u64>) -> Self {
        stream.clone_into(&mut self.stream);
        self.step = step;
        self
    }
}

fn fault_status(fault: &Fault) -> panta_status {
    match fault {
        Fault::Io { .. } => PANTA_ERROR_IO,
        Fault::Communicator { .. } => PANTA_ERROR_COMMUNICATOR,
        Fault::Deadline { .. } => PANTA_ERROR_DEADLINE,
        Fault::Interrupted { .. } => PANTA_ERROR_INTERRUPTED,
        Fault::RankLost { .. } => PANTA_ERROR_RANK_LOST,
        Fault::OnRank { .. } => PANTA_ERROR_ON_RANK,
        Fault::PeerLost { .. } => PANTA_ERROR_PEER_LOST,
        Fault::Refused { .. } => PANTA_ERROR_REFUSED,
        Fault::Corrupt { .. } => PANTA_ERROR_CORRUPT,
        Fault::Unsupported { .. } => PANTA_ERROR_UNSUPPORTED,
        Fault::Fenced { .. } | Fault::Away { .. } => PANTA_ERROR_FENCED,
    }
}

impl From<Failure> for Failed {
    #[cold]
    fn from(failure: Failure) -> Self {
        let mut failed =
            Self::new(fault_status(&failure.fault), failure.to_string()).at(&failure.place);
        if let Fault::OnRank { rank, .. } | Fault::RankLost { rank, .. } = failure.fault {
            failed.rank = Some(rank);
        }
        failed
    }
}

impl From<OpenError> for Failed {
    #[cold]
    fn from(error: OpenError) -> Self {
        let message = error.to_string();
        match error {
            OpenError::Config(_) => Self::new(PANTA_ERROR_CONFIG, message),
            OpenError::NotFound { stream, .. } => {
                Self::new(PANTA_ERROR_NOT_FOUND, message).of_stream(&stream, None)
            }
            OpenError::Busy { stream, .. } => {
                Self::new(PANTA_ERROR_BUSY, message).of_stream(&stream, None)
            }
            OpenError::Failed(failure) => failure.into(),
        }
    }
}

impl From<CommError> for Failed {
    fn from(error: CommError) -> Self {
        let status = match error {
            CommError::RankLost { .. } => PANTA_ERROR_RANK_LOST,
            CommError::Deadline { .. } => PANTA_ERROR_DEADLINE,
            CommError::Interrupted => PANTA_ERROR_INTERRUPTED,
            CommError::System { .. } => PANTA_ERROR_IO,
            _ => PANTA_ERROR_COMMUNICATOR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<DefineError> for Failed {
    #[cold]
    fn from(error: DefineError) -> Self {
        let message = error.to_string();
        let (status, name) = match error {
            DefineError::Definition(error) => (PANTA_ERROR_DEFINITION, error.name),
            DefineError::Redefined { name, .. } | DefineError::Frozen { name, .. } => {
                (PANTA_ERROR_REDEFINED, name)
            }
            DefineError::UnknownVariable { name, .. } => (PANTA_ERROR_UNKNOWN_VARIABLE, name),
        };
        let mut failed = Self::new(status, message);
        failed.variable = Some(name);
        failed
    }
}

impl From<BeginError> for Failed {
    #[cold]
    fn from(error: BeginError) -> Self {
        let message = error.to_string();
        match error {
            BeginError::InStep { stream, step } => {
                Self::new(PANTA_ERROR_STEP_OPEN, message).of_stream(&stream, Some(step))
            }
            BeginError::StepTooLarge { place, .. } => {
                Self::new(PANTA_ERROR_STEP_TOO_LARGE, message).at(&place)
            }
            BeginError::Disagreement { place, .. } => {
                Self::new(PANTA_ERROR_DISAGREEMENT, message).at(&place)
            }
            BeginError::Failed(failure) => failure.into(),
        }
    }
}

impl From<PutError> for Failed {
    #[cold]
    fn from(error: PutError) -> Self {
        let message = error.to_string();
        let mut failed: Self = match error {
            PutError::NoStep { stream } => {
                Self::new(PANTA_ERROR_NO_STEP, message).of_stream(&stream, None)
            }
            PutError::DTypeMismatch { place, .. } => {
                Self::new(PANTA_ERROR_DTYPE, message).at(&place)
            }
            PutError::Shape { place, .. } => Self::new(PANTA_ERROR_SHAPE, message).at(&place),
            PutError::StepTooLarge { place, .. } => {
                Self::new(PANTA_ERROR_STEP_TOO_LARGE, message).at(&place)
            }
            PutError::Failed(failure) => failure.into(),
        };
        failed.is_noted = true;
        failed
    }
}

impl From<EndError> for Failed {
    #[cold]
    fn from(error: EndError) -> Self {
        let message = error.to_string();
        match error {
            EndError::InDoubt { place, .. } => Self::new(PANTA_ERROR_IN_DOUBT, message).at(&place),
            EndError::Overlap { place, .. } => Self::new(PANTA_ERROR_OVERLAP, message).at(&place),
            EndError::Failed(failure) => failure.into(),
        }
    }
}

impl From<CloseError> for Failed {
    fn from(CloseError::Failed(failure): CloseError) -> Self {
        failure.into()
    }
}

impl From<NextError> for Failed {
    #[cold]
    fn from(error: NextError) -> Self {
        let message = error.to_string();
        let (status, stream, step) = match error {
            NextError::NotReady { stream, .. } => (PANTA_NOT_READY, stream, None),
            NextError::WriterLost {
                stream,
                last_sealed,
            } => (PANTA_ERROR_WRITER_LOST, stream, last_sealed),
            NextError::RolledBack { stream, to } => (PANTA_ERROR_ROLLED_BACK, stream, to),
            NextError::Trimmed { stream, oldest } => (PANTA_ERROR_TRIMMED, stream, oldest),
            NextError::WouldDeadlock { stream, .. } => (PANTA_ERROR_WOULD_DEADLOCK, stream, None),
            NextError::Failed(failure) => return failure.into(),
        };
        Self::new(status, message).of_stream(&stream, step)
    }
}

impl From<GetError> for Failed {
    #[cold]
    fn from(error: GetError) -> Self {
        let message = error.to_string();
        let (status, place) = match error {
            GetError::UnknownVariable { place, .. } => (PANTA_ERROR_UNKNOWN_VARIABLE, place),
            GetError::DTypeMismatch { place, .. } => (PANTA_ERROR_DTYPE, place),
            GetError::Selection { place, .. } => (PANTA_ERROR_SELECTION, place),
            GetError::Shape { place, .. } => (PANTA_ERROR_SHAPE, place),
            GetError::NoSuchBlock { place, .. } => (PANTA_ERROR_NO_SUCH_BLOCK, place),
            GetError::NotCovered { place, .. } => (PANTA_ERROR_NOT_COVERED, place),
            GetError::Checksum { place, .. } => (PANTA_ERROR_CHECKSUM, place),
            GetError::Failed(failure) => return failure.into(),
        };
        Self::new(status, message).at(&place)
    }
}

/// Every status and its name.
const NAMES: &[(panta_status, &CStr)] = &[
    (PANTA_OK, c"PANTA_OK"),
    (PANTA_END_OF_STREAM, c"PANTA_END_OF_STREAM"),
    (PANTA_NOT_READY, c"PANTA_NOT_READY"),
    (PANTA_ERROR_NULL, c"PANTA_ERROR_NULL"),
    (PANTA_ERROR_STRUCT_SIZE, c"PANTA_ERROR_STRUCT_SIZE"),
    (PANTA_ERROR_ARGUMENT, c"PANTA_ERROR_ARGUMENT"),
    (PANTA_ERROR_CLOSED_HANDLE, c"PANTA_ERROR_CLOSED_HANDLE"),
    (PANTA_ERROR_INVALID_HANDLE, c"PANTA_ERROR_INVALID_HANDLE"),
    (PANTA_ERROR_BUSY_HANDLE, c"PANTA_ERROR_BUSY_HANDLE"),
    (PANTA_ERROR_PANIC, c"PANTA_ERROR_PANIC"),
    (
        PANTA_ERROR_TOO_MANY_HANDLES,
        c"PANTA_ERROR_TOO_MANY_HANDLES",
    ),
    (PANTA_ERROR_CONFIG, c"PANTA_ERROR_CONFIG"),
    (PANTA_ERROR_NOT_FOUND, c"PANTA_ERROR_NOT_FOUND"),
    (PANTA_ERROR_BUSY, c"PANTA_ERROR_BUSY"),
    (PANTA_ERROR_COMMUNICATOR, c"PANTA_ERROR_COMMUNICATOR"),
    (PANTA_ERROR_DEFINITION, c"PANTA_ERROR_DEFINITION"),
    (PANTA_ERROR_REDEFINED, c"PANTA_ERROR_REDEFINED"),
    (
        PANTA_ERROR_UNKNOWN_VARIABLE,
        c"PANTA_ERROR_UNKNOWN_VARIABLE",
    ),
    (
        PANTA_ERROR_UNKNOWN_ATTRIBUTE,
        c"PANTA_ERROR_UNKNOWN_ATTRIBUTE",
    ),
    (PANTA_ERROR_STEP_OPEN, c"PANTA_ERROR_STEP_OPEN"),
    (PANTA_ERROR_NO_STEP, c"PANTA_ERROR_NO_STEP"),
    (PANTA_ERROR_STEP_TOO_LARGE, c"PANTA_ERROR_STEP_TOO_LARGE"),
    (PANTA_ERROR_DISAGREEMENT, c"PANTA_ERROR_DISAGREEMENT"),
    (PANTA_ERROR_DTYPE, c"PANTA_ERROR_DTYPE"),
    (PANTA_ERROR_SHAPE, c"PANTA_ERROR_SHAPE"),
    (PANTA_ERROR_IN_DOUBT, c"PANTA_ERROR_IN_DOUBT"),
    (PANTA_ERROR_OVERLAP, c"PANTA_ERROR_OVERLAP"),
    (PANTA_ERROR_WRITER_LOST, c"PANTA_ERROR_WRITER_LOST"),
    (PANTA_ERROR_ROLLED_BACK, c"PANTA_ERROR_ROLLED_BACK"),
    (PANTA_ERROR_TRIMMED, c"PANTA_ERROR_TRIMMED"),
    (PANTA_ERROR_WOULD_DEADLOCK, c"PANTA_ERROR_WOULD_DEADLOCK"),
    (PANTA_ERROR_SELECTION, c"PANTA_ERROR_SELECTION"),
    (PANTA_ERROR_NO_SUCH_BLOCK, c"PANTA_ERROR_NO_SUCH_BLOCK"),
    (PANTA_ERROR_NOT_COVERED, c"PANTA_ERROR_NOT_COVERED"),
    (PANTA_ERROR_CHECKSUM, c"PANTA_ERROR_CHECKSUM"),
    (PANTA_ERROR_IO, c"PANTA_ERROR_IO"),
    (PANTA_ERROR_DEADLINE, c"PANTA_ERROR_DEADLINE"),
    (PANTA_ERROR_INTERRUPTED, c"PANTA_ERROR_INTERRUPTED"),
    (PANTA_ERROR_RANK_LOST, c"PANTA_ERROR_RANK_LOST"),
    (PANTA_ERROR_ON_RANK, c"PANTA_ERROR_ON_RANK"),
    (PANTA_ERROR_PEER_LOST, c"PANTA_ERROR_PEER_LOST"),
    (PANTA_ERROR_REFUSED, c"PANTA_ERROR_REFUSED"),
    (PANTA_ERROR_CORRUPT, c"PANTA_ERROR_CORRUPT"),
    (PANTA_ERROR_UNSUPPORTED, c"PANTA_ERROR_UNSUPPORTED"),
    (PANTA_ERROR_FENCED, c"PANTA_ERROR_FENCED"),
];

/// The last error of a thread, as C reads it.
#[derive(Default)]
struct Last {
    status: panta_status,
    message: CString,
    stream: CString,
    variable: Option<CString>,
    step: Option<u64>,
    rank: Option<usize>,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

/// A text for C: it ends at its first zero byte, if it has one inside.
pub(crate) fn c_text(text: &str) -> CString {
    let until = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..until]).unwrap_or_default()
}

/// Remembers an error for the getters below; returns its status.
pub(crate) fn remember(failed: &Failed) -> panta_status {
    // A thread that is ending has no place left for its last error.
    let _ = LAST.try_with(|last| {
        *last.borrow_mut() = Last {
            status: failed.status,
            message: c_text(&failed.message),
            stream: c_text(&failed.stream),
            variable: failed.variable.as_deref().map(c_text),
            step: failed.step,
            rank: failed.rank,
        };
    });
    failed.status
}

/// Sets this thread's error, for functions around this library that are written
/// in C, as those of panta_mpi.h; returns `status`.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_fail(status: panta_status, message: *const c_char) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_fail") };
    let message = caller.text(message, "message").unwrap_or("no message");
    remember(&Failed::new(status, message))
}

/// Adds words to this thread's last error, for functions around this library
/// whose callers know its arguments by other names; keeps the rest of it.
// SAFETY: as for panta_fail.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_explain(words: *const c_char) {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_explain") };
    let Ok(words) = caller.text(words, "words") else {
        return;
    };
    let _ = LAST.try_with(|last| {
        let mut last = last.borrow_mut();
        let longer = format!("{}{words}", last.message.to_string_lossy());
        last.message = c_text(&longer);
    });
}

/// A status as its name is written here, such as "PANTA_ERROR_SHAPE"; for good,
/// and never NULL.
// SAFETY: as for panta_fail.
#[unsafe(no_mangle)]
pub extern "C" fn panta_status_name(status: panta_status) -> *const c_char {
    let named = NAMES.iter().find(|(code, _)| *code == status);
    named
        .map_or(c"a status of another version", |(_, name)| name)
        .as_ptr()
}

fn of_last<R>(missing: R, read: impl FnOnce(&Last) -> R) -> R {
    LAST.try_with(|last| read(&last.borrow()))
        .unwrap_or(missing)
}

/// The status of the last call on this thread that gave other than PANTA_OK or
/// PANTA_END_OF_STREAM; PANTA_OK if none did.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub extern "C" fn panta_error_status() -> panta_status {
    of_last(PANTA_OK, |last| last.status)
}

/// What went wrong in that call, where, and what to try. Never NULL; lives
/// until the next such call on this thread.
// SAFETY: as for panta_error_status.
#[unsafe(no_mangle)]
pub extern "C" fn panta_error_message() -> *const c_char {
    of_last(c"".as_ptr(), |last| last.message.as_ptr())
}

/// The stream it happened in; an empty text if in none. Lives as the message does.
// SAFETY: as for panta_error_status.
#[unsafe(no_mangle)]
pub extern "C" fn panta_error_stream() -> *const c_char {
    of_last(c"".as_ptr(), |last| last.stream.as_ptr())
}

/// The variable it happened in; NULL if in none. Lives as the message does.
// SAFETY: as for panta_error_status.
#[unsafe(no_mangle)]
pub extern "C" fn panta_error_variable() -> *const c_char {
    of_last(ptr::null(), |last| {
        last.variable
            .as_ref()
            .map_or(ptr::null(), |name| name.as_ptr())
    })
}

/// The step it happened in, or which the status speaks of; -1 if none.
// SAFETY: as for panta_error_status.
#[unsafe(no_mangle)]
pub extern "C" fn panta_error_step() -> i64 {
    of_last(-1, |last| {
        last.step
            .and_then(|step| i64::try_from(step).ok())
            .unwrap_or(-1)
    })
}

/// The rank it happened on; -1 if on none in particular.
// SAFETY: as for panta_error_status.
#[unsafe(no_mangle)]
pub extern "C" fn panta_error_rank() -> i32 {
    of_last(-1, |last| {
        last.rank
            .and_then(|rank| i32::try_from(rank).ok())
            .unwrap_or(-1)
    })
}
