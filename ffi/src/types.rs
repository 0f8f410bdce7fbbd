//! The types of the C interface, from which `include/panta.h` is generated.
//!
//! Plain data only. Enumerations that come from C are integers with named
//! constants, since a C program can pass any number. Every struct that crosses
//! starts with its size, so that fields can be added at its end.

use std::ffi::{c_char, c_void};

/// The most dimensions a variable can have.
pub const PANTA_MAX_DIMS: usize = 16;

/// What a call came to: PANTA_OK, one of the two answers that are no errors,
/// or an error; panta_error_message() then tells more.
#[allow(non_camel_case_types)]
pub type panta_status = i32;

/// Done.
pub const PANTA_OK: panta_status = 0;
/// No error: the writer has closed the stream and every step was seen.
pub const PANTA_END_OF_STREAM: panta_status = 1;
/// No error: no step came within the time given; ask again.
pub const PANTA_NOT_READY: panta_status = 2;

/// A pointer that must not be NULL is NULL.
pub const PANTA_ERROR_NULL: panta_status = 10;
/// A struct's size is none this library knows.
pub const PANTA_ERROR_STRUCT_SIZE: panta_status = 11;
/// An argument makes no sense; the message says which.
pub const PANTA_ERROR_ARGUMENT: panta_status = 12;
/// The handle was closed.
pub const PANTA_ERROR_CLOSED_HANDLE: panta_status = 13;
/// The pointer is no handle, or a handle of another kind.
pub const PANTA_ERROR_INVALID_HANDLE: panta_status = 14;
/// The handle is in use by another thread at this moment.
pub const PANTA_ERROR_BUSY_HANDLE: panta_status = 15;
/// A defect of the library; the handle can only be closed.
pub const PANTA_ERROR_PANIC: panta_status = 16;
/// More handles are open than the library can number.
pub const PANTA_ERROR_TOO_MANY_HANDLES: panta_status = 17;

/// The name, URL or a parameter of the stream is wrong.
pub const PANTA_ERROR_CONFIG: panta_status = 20;
/// Nothing answers to that name.
pub const PANTA_ERROR_NOT_FOUND: panta_status = 21;
/// Another writer holds the stream.
pub const PANTA_ERROR_BUSY: panta_status = 22;
/// The communicator failed.
pub const PANTA_ERROR_COMMUNICATOR: panta_status = 23;

/// A definition contradicts itself.
pub const PANTA_ERROR_DEFINITION: panta_status = 30;
/// A definition contradicts an earlier one.
pub const PANTA_ERROR_REDEFINED: panta_status = 31;
/// There is no such variable; the message names the nearest.
pub const PANTA_ERROR_UNKNOWN_VARIABLE: panta_status = 32;
/// There is no such attribute.
pub const PANTA_ERROR_UNKNOWN_ATTRIBUTE: panta_status = 33;

/// A step has begun and not ended.
pub const PANTA_ERROR_STEP_OPEN: panta_status = 40;
/// No step has begun.
pub const PANTA_ERROR_NO_STEP: panta_status = 41;
/// The step asks for more bytes than the limit.
pub const PANTA_ERROR_STEP_TOO_LARGE: panta_status = 42;
/// The writer's ranks disagree about a variable.
pub const PANTA_ERROR_DISAGREEMENT: panta_status = 43;
/// The elements are of another type.
pub const PANTA_ERROR_DTYPE: panta_status = 44;
/// A block or buffer does not fit the variable or the selection.
pub const PANTA_ERROR_SHAPE: panta_status = 45;
/// It is not known whether the step was sealed.
pub const PANTA_ERROR_IN_DOUBT: panta_status = 46;
/// Blocks overlap, and `checked` forbids it.
pub const PANTA_ERROR_OVERLAP: panta_status = 47;

/// The writer died; panta_error_step() is the last step it sealed, or -1.
pub const PANTA_ERROR_WRITER_LOST: panta_status = 50;
/// The writer went back; steps after panta_error_step() are withdrawn. Go on calling.
pub const PANTA_ERROR_ROLLED_BACK: panta_status = 51;
/// The step is no longer held; panta_error_step() is the oldest that is, or -1.
pub const PANTA_ERROR_TRIMMED: panta_status = 52;
/// Steps and views that this reader keeps hold the whole limit.
pub const PANTA_ERROR_WOULD_DEADLOCK: panta_status = 53;

/// The selection does not fit the array.
pub const PANTA_ERROR_SELECTION: panta_status = 60;
/// There is no such block, or no such text.
pub const PANTA_ERROR_NO_SUCH_BLOCK: panta_status = 61;
/// Nobody put these cells, and the variable has no fill value.
pub const PANTA_ERROR_NOT_COVERED: panta_status = 62;
/// Bytes have changed since they were put.
pub const PANTA_ERROR_CHECKSUM: panta_status = 63;

/// The operating system refused something.
pub const PANTA_ERROR_IO: panta_status = 70;
/// A wait ended at its deadline; the message names who was awaited.
pub const PANTA_ERROR_DEADLINE: panta_status = 71;
/// panta_interrupt ended a wait.
pub const PANTA_ERROR_INTERRUPTED: panta_status = 72;
/// A rank of this group died.
pub const PANTA_ERROR_RANK_LOST: panta_status = 73;
/// Another rank of this group failed; the message carries its words.
pub const PANTA_ERROR_ON_RANK: panta_status = 74;
/// A writer, server or other peer is gone.
pub const PANTA_ERROR_PEER_LOST: panta_status = 75;
/// A peer said no.
pub const PANTA_ERROR_REFUSED: panta_status = 76;
/// Bytes are not what was written.
pub const PANTA_ERROR_CORRUPT: panta_status = 77;
/// What carries the stream cannot do this; the message says what to do instead.
pub const PANTA_ERROR_UNSUPPORTED: panta_status = 78;
/// A later writer has taken the stream over.
pub const PANTA_ERROR_FENCED: panta_status = 79;

/// The type of a variable's elements. The numbers are frozen.
#[allow(non_camel_case_types)]
pub type panta_dtype = i32;

/// int8_t
pub const PANTA_I8: panta_dtype = 1;
/// int16_t
pub const PANTA_I16: panta_dtype = 2;
/// int32_t
pub const PANTA_I32: panta_dtype = 3;
/// int64_t
pub const PANTA_I64: panta_dtype = 4;
/// uint8_t
pub const PANTA_U8: panta_dtype = 5;
/// uint16_t
pub const PANTA_U16: panta_dtype = 6;
/// uint32_t
pub const PANTA_U32: panta_dtype = 7;
/// uint64_t
pub const PANTA_U64: panta_dtype = 8;
/// float
pub const PANTA_F32: panta_dtype = 9;
/// double
pub const PANTA_F64: panta_dtype = 10;
/// float _Complex: real, imaginary
pub const PANTA_COMPLEX64: panta_dtype = 11;
/// double _Complex: real, imaginary
pub const PANTA_COMPLEX128: panta_dtype = 12;
/// bool: one byte, 0 or 1
pub const PANTA_BOOL: panta_dtype = 13;
/// UTF-8 text; as a global or local value only
pub const PANTA_TEXT: panta_dtype = 14;

/// How the blocks of a variable lie to each other.
#[allow(non_camel_case_types)]
pub type panta_kind = i32;

/// Blocks are boxes of one array of a known shape.
pub const PANTA_GLOBAL_ARRAY: panta_kind = 1;
/// Blocks stand for themselves and are read one by one.
pub const PANTA_LOCAL_ARRAY: panta_kind = 2;
/// Blocks are joined along one dimension, in the order (rank, put).
pub const PANTA_JOINED_ARRAY: panta_kind = 3;
/// One value for the whole stream; the highest (rank, put) wins.
pub const PANTA_GLOBAL_VALUE: panta_kind = 4;
/// One value for each put; read as a 1-D array in the order (rank, put).
pub const PANTA_LOCAL_VALUE: panta_kind = 5;

/// Where memory is. Only the host's can be used now; the others are refused
/// with PANTA_ERROR_UNSUPPORTED, and can come without a change of interface.
#[allow(non_camel_case_types)]
pub type panta_space = i32;

/// Memory of the host.
pub const PANTA_HOST: panta_space = 0;
/// Memory of a CUDA device.
pub const PANTA_CUDA: panta_space = 1;
/// Memory of a ROCm device.
pub const PANTA_ROCM: panta_space = 2;
/// Memory of a SYCL or Level Zero device.
pub const PANTA_LEVEL_ZERO: panta_space = 3;

/// What a writer does with steps that are already there.
#[allow(non_camel_case_types)]
pub type panta_resume = i32;

/// Starts anew; what was there is replaced.
pub const PANTA_RESUME_FRESH: panta_resume = 0;
/// Goes on after the last sealed step.
pub const PANTA_RESUME_LAST: panta_resume = 1;
/// Goes on after the step `resume_step`; later steps are withdrawn.
pub const PANTA_RESUME_AFTER: panta_resume = 2;

/// Where a reader begins.
#[allow(non_camel_case_types)]
pub type panta_start = i32;

/// At the oldest step held.
pub const PANTA_START_OLDEST: panta_start = 0;
/// At the newest sealed step.
pub const PANTA_START_LATEST: panta_start = 1;
/// At the step `start_step`.
pub const PANTA_START_AT: panta_start = 2;
/// At the first step after `start_step`.
pub const PANTA_START_AFTER: panta_start = 3;
/// At the first step at or after the simulation time `start_time`.
pub const PANTA_START_AT_TIME: panta_start = 4;
/// After the position committed under `cursor`; at the oldest if none was.
pub const PANTA_START_CURSOR: panta_start = 5;

/// As a deadline in milliseconds: the one configured for the stream.
pub const PANTA_CONFIGURED: i64 = -1;
/// As a count in a selection: up to the end of the dimension.
pub const PANTA_TO_END: i64 = -1;
/// As the block of a selection: the array as a whole.
pub const PANTA_NO_BLOCK: i64 = -1;
/// As the variable of an attribute: the stream itself.
pub const PANTA_STREAM: u64 = 0;

/// A variable of one writer, as panta_define gives it.
#[allow(non_camel_case_types)]
pub type panta_variable = u64;

/// The ranks that open a stream together.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct panta_comm {
    _opaque: [u8; 0],
}

/// One rank's end of a stream that is written.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct panta_writer {
    _opaque: [u8; 0],
}

/// One rank's end of a stream that is read.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct panta_reader {
    _opaque: [u8; 0],
}

/// A sealed step, to be read from.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct panta_step {
    _opaque: [u8; 0],
}

/// Several reads of a step that are done together.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct panta_batch {
    _opaque: [u8; 0],
}

/// A block in the transport's own memory.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct panta_view {
    _opaque: [u8; 0],
}

/// Ends the waits of whatever was opened with it.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct panta_interrupter {
    _opaque: [u8; 0],
}

/// A communicator of the caller's making: who the ranks are, and one
/// collective. panta_mpi.h fills one from an MPI_Comm.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_comm_vtable {
    /// sizeof(panta_comm_vtable)
    pub size: usize,
    /// Handed to both functions; the library does not look at it.
    pub context: *mut c_void,
    /// This rank's number, from 0.
    pub rank: i32,
    /// How many ranks the group has.
    pub size_of_group: i32,
    /// Gathers `bytes_each` bytes of every rank, in rank order, into `all`, on
    /// every rank; used while a stream opens, on the thread that opens it.
    /// Returns PANTA_OK, PANTA_ERROR_DEADLINE if `deadline_ms` have passed, or
    /// any other error, with its reason in the `why_bytes` bytes at `why`. After
    /// an error the library leaves `mine` and `all` in place for good, since a
    /// message may still be under way, and does not call again.
    pub allgather: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            mine: *const c_void,
            all: *mut c_void,
            bytes_each: u64,
            deadline_ms: i64,
            why: *mut c_char,
            why_bytes: usize,
        ) -> panta_status,
    >,
    /// Called once, by panta_comm_close. May be NULL.
    pub release: Option<unsafe extern "C" fn(context: *mut c_void)>,
}

/// How to open a stream for writing; see panta_default_writer_options().
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_writer_options {
    /// sizeof(panta_writer_options)
    pub size: usize,
    /// What becomes of steps that are already there.
    pub resume: panta_resume,
    /// 0.
    pub reserved: i32,
    /// With PANTA_RESUME_AFTER, the step after which to go on.
    pub resume_step: i64,
    /// How long each wait after the opening may take, in milliseconds, or
    /// PANTA_CONFIGURED.
    pub deadline_ms: i64,
    /// Ends the waits of the opening, and later those of the writer, as
    /// panta_interrupt does; NULL for none.
    pub interrupter: *mut panta_interrupter,
    /// 0: progress is made as the configuration says, on threads of the library
    /// unless it says `progress=manual`. More than 0: it is made by hand, no
    /// thread is started, and this is how long the program may stay away between
    /// two calls, in milliseconds, before its peers hold it dead; see
    /// panta_progress.
    pub silence_ms: i64,
}

/// How to open a stream for reading; see panta_default_reader_options().
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_reader_options {
    /// sizeof(panta_reader_options)
    pub size: usize,
    /// Where to begin.
    pub start: panta_start,
    /// 0.
    pub reserved: i32,
    /// With PANTA_START_AT and PANTA_START_AFTER, the step.
    pub start_step: i64,
    /// With PANTA_START_AT_TIME, the simulation time.
    pub start_time: f64,
    /// With PANTA_START_CURSOR, the cursor's name.
    pub cursor: *const c_char,
    /// Ends the waits of the opening, and later those of the reader, as
    /// panta_interrupt does; NULL for none.
    pub interrupter: *mut panta_interrupter,
    /// 0: progress is made as the configuration says, on threads of the library
    /// unless it says `progress=manual`. More than 0: it is made by hand, no
    /// thread is started, and this is how long the program may stay away between
    /// two calls, in milliseconds, before its peers hold it dead; see
    /// panta_progress.
    pub silence_ms: i64,
}

/// What a variable is. panta_global and its siblings below fill one in; the
/// pointers are used during panta_define only.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_definition {
    /// sizeof(panta_definition)
    pub size: usize,
    /// The variable's name, unique in its stream.
    pub name: *const c_char,
    /// What its elements are.
    pub dtype: panta_dtype,
    /// How its blocks lie to each other.
    pub kind: panta_kind,
    /// The number of dimensions; 0 for values.
    pub dimensions: i32,
    /// For joined arrays, the dimension along which blocks join, from 0.
    pub joined_dimension: i32,
    /// Elements per dimension, slowest first; counts for global arrays, and for
    /// joined arrays in all but the joined dimension.
    pub shape: [i64; PANTA_MAX_DIMS],
    /// Names of the dimensions, one for each; or NULL.
    pub dimension_names: *const *const c_char,
    /// The unit of the elements, for people; or NULL.
    pub unit: *const c_char,
    /// Names of the variables that hold the coordinates; or NULL.
    pub coordinates: *const *const c_char,
    /// How many coordinates.
    pub coordinates_count: usize,
    /// One element: what readers get for cells that no block covers. With NULL
    /// they get PANTA_ERROR_NOT_COVERED.
    pub fill: *const c_void,
    /// Elements per dimension of the chunks by which staging servers index; or
    /// NULL, and the engine chooses.
    pub chunk: *const i64,
    /// Above 0: numbers may be rounded by this much, in the unit of the elements,
    /// so that `compress` gains more. Floating-point and complex arrays only.
    pub absolute_accuracy: f64,
    /// Above 0: numbers may be rounded by this part of each, as 1e-4. One of
    /// the two at most; with 0 in both every bit is kept.
    pub relative_accuracy: f64,
}

/// An array in memory: what is put, or got into. panta_dense and panta_ghosted
/// below fill one in.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_buffer {
    /// sizeof(panta_buffer)
    pub size: usize,
    /// The first element.
    pub data: *mut c_void,
    /// What the elements are.
    pub dtype: panta_dtype,
    /// Where the memory is.
    pub space: panta_space,
    /// Which device, where `space` is one's; else 0.
    pub device: i32,
    /// The number of dimensions, as many as the variable has.
    pub dimensions: i32,
    /// Elements per dimension, slowest first.
    pub count: [i64; PANTA_MAX_DIMS],
    /// Bytes from one element to the next along each dimension. They may be
    /// negative; of memory that is written to, no two elements may overlap.
    pub strides_bytes: [i64; PANTA_MAX_DIMS],
}

/// Which part of a variable is wanted. panta_box and its siblings below fill
/// one in; NULL in place of a selection means everything.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_selection {
    /// sizeof(panta_selection)
    pub size: usize,
    /// The block it is taken of, positions relative to its first cell; or
    /// PANTA_NO_BLOCK.
    pub block: i64,
    /// The number of dimensions; 0: all cells, and the arrays do not count.
    pub dimensions: i32,
    /// 0.
    pub reserved: i32,
    /// First cell per dimension, slowest first.
    pub start: [i64; PANTA_MAX_DIMS],
    /// Cells taken per dimension, or PANTA_TO_END.
    pub count: [i64; PANTA_MAX_DIMS],
    /// Distance between them per dimension, at least 1.
    pub stride: [i64; PANTA_MAX_DIMS],
}

/// A step's identity and times.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_step_info {
    /// sizeof(panta_step_info), set by the caller.
    pub size: usize,
    /// Its number, from 0; numbers of dropped steps are not used again.
    pub number: i64,
    /// The life of the writer that made it; the first is 1.
    pub epoch: i64,
    /// Simulation time; a NaN if the writer gave none.
    pub time: f64,
    /// Nanoseconds since 1970 at the writer's root rank, when the step began.
    pub wall_clock_ns: i64,
    /// How many variables were put in it.
    pub variables: u64,
    /// How many attributes are in force.
    pub attributes: u64,
}

/// How a step that was ended came out.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_sealed {
    /// sizeof(panta_sealed), set by the caller.
    pub size: usize,
    /// The step's number.
    pub step: i64,
    /// 1 if the stream's policy discarded it: readers will not see it.
    pub discarded: i32,
    /// 0.
    pub reserved: i32,
}

/// A number of any numeric type.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_number {
    /// Which of the three is exact: PANTA_I64, PANTA_U64 or PANTA_F64.
    pub dtype: panta_dtype,
    /// 0.
    pub reserved: i32,
    /// As a signed integer; 0 if it is not one.
    pub i64: i64,
    /// As an unsigned integer; 0 if it is not one.
    pub u64: u64,
    /// As a floating-point number, rounded if need be.
    pub f64: f64,
}

/// What is known of values without reading them.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_stats {
    /// 1 if the rest counts; 0 where order has no meaning or nothing was put.
    pub known: i32,
    /// 0.
    pub reserved: i32,
    /// The smallest value.
    pub min: panta_number,
    /// The largest value.
    pub max: panta_number,
    /// Elements that are not a number; they take no part in the two.
    pub nans: u64,
}

/// A variable as it is in one step. The pointers are the step's own and live
/// as long as its handle.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_variable_info {
    /// sizeof(panta_variable_info), set by the caller.
    pub size: usize,
    /// Its name.
    pub name: *const c_char,
    /// What its elements are.
    pub dtype: panta_dtype,
    /// How its blocks lie to each other.
    pub kind: panta_kind,
    /// The number of dimensions as readers see it: 1 for local values.
    pub dimensions: i32,
    /// For joined arrays, the joined dimension; else -1.
    pub joined_dimension: i32,
    /// Elements per dimension as readers see it, slowest first; zeros for local
    /// arrays, whose blocks differ.
    pub shape: [i64; PANTA_MAX_DIMS],
    /// Names of the dimensions, one for each; NULL if they have none.
    pub dimension_names: *const *const c_char,
    /// The unit; an empty text if none.
    pub unit: *const c_char,
    /// Names of the variables that hold the coordinates.
    pub coordinates: *const *const c_char,
    /// How many coordinates.
    pub coordinates_count: usize,
    /// One element; NULL if no fill value was defined. It need not be aligned.
    pub fill: *const c_void,
    /// Elements per dimension of the chunks; NULL if none were defined.
    pub chunk: *const i64,
    /// How many blocks were put; for values, how many values there are.
    pub blocks: u64,
    /// Over all blocks.
    pub stats: panta_stats,
    /// By how much numbers were rounded at most; 0 if by no such bound.
    pub absolute_accuracy: f64,
    /// By which part of each they were rounded at most; 0 if by no such bound.
    pub relative_accuracy: f64,
}

/// A block that one rank put.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_block_info {
    /// sizeof(panta_block_info), set by the caller.
    pub size: usize,
    /// The rank that put it.
    pub rank: i32,
    /// Its place among that rank's puts of the step, over all variables.
    pub order: i32,
    /// The number of dimensions; 0 for values.
    pub dimensions: i32,
    /// 0.
    pub reserved: i32,
    /// First cell per dimension; zeros for local arrays.
    pub start: [i64; PANTA_MAX_DIMS],
    /// Cells per dimension.
    pub count: [i64; PANTA_MAX_DIMS],
    /// Of its values.
    pub stats: panta_stats,
}

/// An attribute in force at a step. The pointers are the step's own and live
/// as long as its handle.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_attribute {
    /// sizeof(panta_attribute), set by the caller.
    pub size: usize,
    /// The variable whose attribute it is; NULL for the stream's.
    pub variable: *const c_char,
    /// Its name.
    pub name: *const c_char,
    /// PANTA_I64, PANTA_U64, PANTA_F64 or PANTA_TEXT.
    pub dtype: panta_dtype,
    /// 1 if it was set as an array; a single value is at index 0 of its array.
    pub is_array: i32,
    /// How many values; that many are at one of the four pointers, by dtype;
    /// the other three are NULL.
    pub count: usize,
    /// Signed integers.
    pub i64s: *const i64,
    /// Unsigned integers.
    pub u64s: *const u64,
    /// Floating-point numbers.
    pub f64s: *const f64,
    /// Texts.
    pub texts: *const *const c_char,
}

/// What carries a stream, and why. The pointers are the handle's own and live
/// until it is closed, or asked again.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_engine_info {
    /// sizeof(panta_engine_info), set by the caller.
    pub size: usize,
    /// The engine's scheme, such as "file".
    pub engine: *const c_char,
    /// The transport in use.
    pub transport: *const c_char,
    /// Why this one.
    pub why: *const c_char,
}

/// The copies of payload that a handle has made so far.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_copies {
    /// sizeof(panta_copies), set by the caller.
    pub size: usize,
    /// Bytes copied.
    pub bytes: u64,
    /// Calls that copied at least one.
    pub calls: u64,
}

/// What was sent along with steps before it was asked for.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct panta_push_counts {
    /// sizeof(panta_push_counts), set by the caller.
    pub size: usize,
    /// Pushes that were got as they came.
    pub used: u64,
    /// Bytes of them.
    pub used_bytes: u64,
    /// Pushes that nobody got.
    pub wasted: u64,
    /// Bytes of them.
    pub wasted_bytes: u64,
}
