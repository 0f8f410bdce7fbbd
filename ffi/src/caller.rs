//! The boundary: what comes from C is read here, and no panic goes out.
//!
//! A [`Caller`] stands for one call from C. Whoever makes one vouches that the
//! caller keeps the rules of `panta.h`: a pointer is NULL or points to what the
//! function asks for. Its methods turn such pointers into checked values, so
//! that the functions themselves need no further unsafe code for it.

use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::time::Duration;

use panta_core::model::{Axis, BlockId, DType, MemorySpace};
use smallvec::SmallVec;

use crate::buffer::Buffer;
use crate::failed::{Failed, remember};
use crate::types::*;

/// Texts up to here are read byte by byte.
const SHORT_BYTES: usize = 24;

/// No struct of this interface comes near; a larger size is no size.
const STRUCT_LIMIT_BYTES: usize = 4096;

/// A struct that starts with its size. Only fields are plain data: every bit
/// pattern is a value.
///
/// # Safety
/// The type is `repr(C)`, starts with its size as a `usize`, and any bytes are
/// a value of it.
pub(crate) unsafe trait Sized_: Copy {
    /// What messages call it.
    const NAME: &'static str;
    /// Its size when it was published first; it only grows.
    const FIRST_BYTES: usize;
    /// The value of fields that an older caller does not know.
    fn default_value() -> Self;
}

macro_rules! sized {
    ($($name:ident $first:literal),* $(,)?) => {
        $(
            // SAFETY: `repr(C)`, starts with its size, integers and pointers only.
            unsafe impl Sized_ for $name {
                const NAME: &'static str = stringify!($name);
                const FIRST_BYTES: usize = $first;
                fn default_value() -> Self {
                    // SAFETY: any bytes are a value, zeros too.
                    unsafe { std::mem::zeroed() }
                }
            }
        )*
    };
}

sized!(
    panta_comm_vtable 40,
    panta_writer_options 32,
    panta_reader_options 40,
    panta_definition 208,
    panta_buffer 288,
    panta_selection 408,
    panta_step_info 56,
    panta_sealed 24,
    panta_variable_info 296,
    panta_block_info 360,
    panta_attribute 72,
    panta_engine_info 32,
    panta_copies 24,
    panta_push_counts 40,
);

/// One call from C.
pub(crate) struct Caller {
    function: &'static str,
}

/// Runs a call's body; its error is remembered, a panic becomes one.
#[inline]
fn answer(
    function: &'static str,
    body: impl FnOnce() -> Result<panta_status, Failed>,
) -> panta_status {
    // What goes through `catch_unwind` is a status: an error is large.
    let answered = || match body() {
        Ok(status) => status,
        Err(failed) => tell(function, failed),
    };
    catch_unwind(AssertUnwindSafe(answered)).unwrap_or_else(|panic| tell(function, broken(&*panic)))
}

#[cold]
fn tell(function: &'static str, mut failed: Failed) -> panta_status {
    failed.message = format!("{function}: {}", failed.message);
    remember(&failed)
}

#[cold]
fn broken(panic: &(dyn Any + Send)) -> Failed {
    let what = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no words".to_owned());
    let message = format!("a defect of Panta: {what}; close the handle, and please report it");
    Failed::new(PANTA_ERROR_PANIC, message)
}

impl Caller {
    /// A call of `function`.
    ///
    /// # Safety
    /// The pointers that its methods are given come from C, whose caller keeps
    /// the rules of `panta.h`, and the call has not returned.
    pub(crate) unsafe fn of(function: &'static str) -> Self {
        Self { function }
    }

    /// Runs the call's body.
    #[inline]
    pub(crate) fn answer(&self, body: impl FnOnce() -> Result<(), Failed>) -> panta_status {
        answer(self.function, || body().map(|()| PANTA_OK))
    }

    /// Runs the body of a call that has more than one good answer.
    pub(crate) fn answer_with(
        &self,
        body: impl FnOnce() -> Result<panta_status, Failed>,
    ) -> panta_status {
        answer(self.function, body)
    }

    #[inline]
    fn not_null<T>(&self, pointer: *const T, what: &str) -> Result<(), Failed> {
        if !pointer.is_null() && pointer.is_aligned() {
            return Ok(());
        }
        Err(no_pointer(pointer.is_null(), what))
    }

    /// A text.
    #[inline(always)] // small, and its result large
    pub(crate) fn text(&self, pointer: *const c_char, what: &str) -> Result<&str, Failed> {
        self.not_null(pointer, what)?;
        // Most are short names in ASCII, for which looking at each byte once is less than
        // the calls that look for the end, and then for what is no UTF-8.
        for length in 0..SHORT_BYTES {
            // SAFETY: the caller gives a text that ends in a zero byte, which no byte
            // before this one was.
            let byte = unsafe { pointer.cast::<u8>().add(length).read() };
            if byte == 0 {
                // SAFETY: so many bytes were just read, all of them ASCII.
                return Ok(unsafe {
                    std::str::from_utf8_unchecked(slice::from_raw_parts(pointer.cast(), length))
                });
            }
            if !byte.is_ascii() {
                break;
            }
        }
        // SAFETY: as above.
        unsafe { long_text(pointer, what) }
    }

    /// A text that may be missing.
    pub(crate) fn text_or_none(
        &self,
        pointer: *const c_char,
        what: &str,
    ) -> Result<Option<&str>, Failed> {
        if pointer.is_null() {
            return Ok(None);
        }
        self.text(pointer, what).map(Some)
    }

    /// An array of plain values.
    #[inline]
    pub(crate) fn array<T: Copy>(
        &self,
        pointer: *const T,
        count: usize,
        what: &str,
    ) -> Result<&[T], Failed> {
        if count == 0 {
            return Ok(&[]);
        }
        self.not_null(pointer, what)?;
        if count
            .checked_mul(size_of::<T>())
            .is_none_or(|bytes| bytes > isize::MAX as usize)
        {
            return Err(Failed::argument(format!(
                "`{what}` cannot have {count} entries"
            )));
        }
        // SAFETY: the caller gives `count` values, aligned as just seen.
        Ok(unsafe { slice::from_raw_parts(pointer, count) })
    }

    /// An array of texts.
    pub(crate) fn texts(
        &self,
        pointer: *const *const c_char,
        count: usize,
        what: &str,
    ) -> Result<Vec<String>, Failed> {
        self.array(pointer, count, what)?
            .iter()
            .map(|text| self.text(*text, what).map(str::to_owned))
            .collect()
    }

    /// So many bytes.
    pub(crate) fn bytes(
        &self,
        pointer: *const c_void,
        bytes: usize,
        what: &str,
    ) -> Result<&[u8], Failed> {
        self.array(pointer.cast(), bytes, what)
    }

    /// A struct that starts with its size: as much of it as both sides know.
    /// What a newer caller knows besides must be zero.
    pub(crate) fn input<T: Sized_>(&self, pointer: *const T, what: &str) -> Result<T, Failed> {
        self.not_null(pointer, what)?;
        // SAFETY: every such struct starts with its size.
        let size = unsafe { pointer.cast::<usize>().read() };
        self.check_size::<T>(size, what)?;
        let mut value = T::default_value();
        let known = size.min(size_of::<T>());
        let rest = self.bytes(
            pointer.cast::<u8>().wrapping_add(known).cast(),
            size - known,
            what,
        )?;
        if rest.iter().any(|byte| *byte != 0) {
            let message = format!(
                "`{what}` uses fields that this library (version {}) does not know",
                env!("CARGO_PKG_VERSION")
            );
            return Err(Failed::new(PANTA_ERROR_STRUCT_SIZE, message));
        }
        // SAFETY: the caller gives `size` bytes, and any bytes are a value.
        unsafe {
            std::ptr::copy_nonoverlapping(
                pointer.cast::<u8>(),
                (&raw mut value).cast::<u8>(),
                known,
            );
        }
        Ok(value)
    }

    /// A struct that starts with its size and was never smaller than it is: where it
    /// lies, without copying it. What a newer caller knows besides must be zero.
    #[inline(always)] // small, and its result large
    pub(crate) fn in_place<T: Sized_>(&self, pointer: *const T, what: &str) -> Result<&T, Failed> {
        const { assert!(T::FIRST_BYTES == size_of::<T>()) };
        self.not_null(pointer, what)?;
        // SAFETY: every such struct starts with its size.
        let size = unsafe { pointer.cast::<usize>().read() };
        if size != size_of::<T>() {
            self.input(pointer, what)?;
        }
        // SAFETY: the caller gives `size` bytes, at least as many as a `T` has, of which
        // any are a value, and leaves them alone during the call.
        Ok(unsafe { &*pointer })
    }

    /// A size is that of the first version that was published, or larger.
    fn check_size<T: Sized_>(&self, size: usize, what: &str) -> Result<(), Failed> {
        if (T::FIRST_BYTES..=STRUCT_LIMIT_BYTES).contains(&size) {
            return Ok(());
        }
        let message = format!(
            "`{what}` says its size is {size}; set it to sizeof({}), which is {} here",
            T::NAME,
            size_of::<T>()
        );
        Err(Failed::new(PANTA_ERROR_STRUCT_SIZE, message))
    }

    /// Checks a struct that is to be filled in, before any work is done.
    pub(crate) fn check_output<T: Sized_>(
        &self,
        pointer: *mut T,
        what: &str,
    ) -> Result<(), Failed> {
        self.not_null(pointer, what)?;
        // SAFETY: every such struct starts with its size, which the caller has set.
        let size = unsafe { pointer.cast::<usize>().read() };
        self.check_size::<T>(size, what)
    }

    /// Fills a struct in, but for its size.
    pub(crate) fn fill<T: Sized_>(
        &self,
        pointer: *mut T,
        value: &T,
        what: &str,
    ) -> Result<(), Failed> {
        self.check_output(pointer, what)?;
        let first = size_of::<usize>();
        // SAFETY: every such struct starts with its size, which the caller has set.
        let size = unsafe { pointer.cast::<usize>().read() };
        // SAFETY: both structs have so many bytes, more than the first field's, as seen.
        unsafe {
            std::ptr::copy_nonoverlapping(
                std::ptr::from_ref(value).cast::<u8>().add(first),
                pointer.cast::<u8>().add(first),
                size.min(size_of::<T>()) - first,
            );
        }
        Ok(())
    }

    /// Checks the place for a result, before any work is done.
    pub(crate) fn check_place<T>(&self, pointer: *mut T, what: &str) -> Result<(), Failed> {
        self.not_null(pointer, what)
    }

    /// Gives a result.
    pub(crate) fn give<T>(&self, pointer: *mut T, value: T, what: &str) -> Result<(), Failed> {
        self.not_null(pointer, what)?;
        // SAFETY: the caller gives a place for a `T`.
        unsafe { pointer.write(value) };
        Ok(())
    }

    /// Gives a result of any type, as its bytes.
    pub(crate) fn give_bytes(
        &self,
        pointer: *mut c_void,
        bytes: &[u8],
        what: &str,
    ) -> Result<(), Failed> {
        self.not_null(pointer, what)?;
        // SAFETY: the caller gives a place for an element of the type it named.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), pointer.cast::<u8>(), bytes.len());
        }
        Ok(())
    }

    /// Gives a result that the caller may not want.
    pub(crate) fn give_if_wanted<T>(
        &self,
        pointer: *mut T,
        value: T,
        what: &str,
    ) -> Result<(), Failed> {
        if pointer.is_null() {
            return Ok(());
        }
        self.give(pointer, value, what)
    }

    /// Positions or sizes of `dimensions` dimensions, where they lie.
    #[inline]
    pub(crate) fn sides(
        &self,
        pointer: *const i64,
        dimensions: usize,
        what: &str,
    ) -> Result<&[u64], Failed> {
        sides(self.array(pointer, dimensions, what)?, what)
    }

    /// A selection; everything for NULL. Gives its block, if it is of one, and adds what
    /// is wanted along each dimension to `axes`.
    #[inline(always)] // small, and its result large
    pub(crate) fn selection(
        &self,
        pointer: *const panta_selection,
        axes: &mut Axes,
    ) -> Result<Option<BlockId>, Failed> {
        if pointer.is_null() {
            return Ok(None);
        }
        let given = self.in_place(pointer, "selection")?;
        let dimensions = dimensions(given.dimensions, "selection.dimensions")?;
        let start = sides(&given.start[..dimensions], "selection.start")?;
        for (axis, start) in start.iter().enumerate() {
            let (count, stride) = (given.count[axis], given.stride[axis]);
            axes.push(axis_of(*start, count, stride)?);
        }
        match given.block {
            PANTA_NO_BLOCK => Ok(None),
            block => block_of(block).map(Some),
        }
    }

    /// A buffer.
    #[inline(always)] // small, and its result large
    pub(crate) fn buffer(&self, pointer: *const panta_buffer) -> Result<Buffer<'_>, Failed> {
        let given = self.in_place(pointer, "buffer")?;
        let dimensions = dimensions(given.dimensions, "buffer.dimensions")?;
        let count = sides(&given.count[..dimensions], "buffer.count")?;
        if given.data.is_null() && !count.contains(&0) {
            return Err(Failed::new(PANTA_ERROR_NULL, "`buffer.data` is NULL"));
        }
        let dtype = dtype(given.dtype, "buffer.dtype")?;
        Ok(Buffer::new(given, dtype, space(given.space)?))
    }
}

/// A text of any length and letters.
///
/// # Safety
/// It ends in a zero byte.
unsafe fn long_text<'c>(pointer: *const c_char, what: &str) -> Result<&'c str, Failed> {
    // SAFETY: as asked of the caller.
    unsafe { CStr::from_ptr(pointer) }
        .to_str()
        .map_err(|_| Failed::argument(format!("`{what}` is not UTF-8")))
}

#[cold]
fn no_pointer(is_null: bool, what: &str) -> Failed {
    if is_null {
        return Failed::new(PANTA_ERROR_NULL, format!("`{what}` is NULL"));
    }
    Failed::argument(format!("`{what}` is not aligned"))
}

/// What is wanted along each dimension; few of them need no memory.
pub(crate) type Axes = SmallVec<[Axis; 4]>;

#[inline]
fn axis_of(start: u64, count: i64, stride: i64) -> Result<Axis, Failed> {
    let step = u64::try_from(stride)
        .ok()
        .filter(|stride| *stride > 0)
        .ok_or_else(|| {
            Failed::argument(format!(
                "`selection.stride` has {stride}; strides are at least 1"
            ))
        })?;
    let stop = match count {
        PANTA_TO_END => None,
        0 => Some(start),
        count if count > 0 => {
            let last = (count as u64 - 1).saturating_mul(step);
            Some(start.saturating_add(last).saturating_add(1))
        }
        count => {
            let message =
                format!("`selection.count` has {count}; it is 0 or more, or PANTA_TO_END");
            return Err(Failed::argument(message));
        }
    };
    let signed = |position: u64| i64::try_from(position).unwrap_or(i64::MAX);
    Ok(Axis::Range {
        start: signed(start),
        stop: stop.map(signed),
        step,
    })
}

/// Sizes or positions, none of them negative.
#[inline(always)] // a few instructions
pub(crate) fn sides<'g>(given: &'g [i64], what: &str) -> Result<&'g [u64], Failed> {
    if let Some(side) = given.iter().find(|side| **side < 0) {
        let message = format!("`{what}` has {side}, which is negative");
        return Err(Failed::argument(message));
    }
    Ok(bytemuck::cast_slice(given))
}

/// A number of dimensions that a variable can have.
#[inline(always)] // a few instructions
pub(crate) fn dimensions(given: i32, what: &str) -> Result<usize, Failed> {
    usize::try_from(given)
        .ok()
        .filter(|dimensions| *dimensions <= PANTA_MAX_DIMS)
        .ok_or_else(|| {
            Failed::argument(format!("`{what}` is {given}; it is 0 to {PANTA_MAX_DIMS}"))
        })
}

/// A block's number.
#[inline(always)] // a few instructions
pub(crate) fn block_of(given: i64) -> Result<BlockId, Failed> {
    u32::try_from(given).map(BlockId).map_err(|_| {
        Failed::new(
            PANTA_ERROR_NO_SUCH_BLOCK,
            format!("there is no block {given}"),
        )
    })
}

/// An element type.
#[inline(always)] // a few instructions
pub(crate) fn dtype(given: panta_dtype, what: &str) -> Result<DType, Failed> {
    u8::try_from(given)
        .ok()
        .and_then(DType::from_code)
        .ok_or_else(|| {
            Failed::argument(format!(
                "`{what}` is {given}; it is one of PANTA_I8 to PANTA_TEXT"
            ))
        })
}

#[inline(always)] // a few instructions
fn space(given: panta_space) -> Result<MemorySpace, Failed> {
    match given {
        PANTA_HOST => Ok(MemorySpace::Host),
        PANTA_CUDA => Ok(MemorySpace::Cuda),
        PANTA_ROCM => Ok(MemorySpace::Rocm),
        PANTA_LEVEL_ZERO => Ok(MemorySpace::LevelZero),
        other => Err(Failed::argument(format!(
            "`buffer.space` is {other}; it is PANTA_HOST, or a device's"
        ))),
    }
}

/// A time in milliseconds; `None` for the configured one.
pub(crate) fn milliseconds(given: i64, what: &str) -> Result<Option<Duration>, Failed> {
    match u64::try_from(given) {
        Ok(milliseconds) => Ok(Some(Duration::from_millis(milliseconds))),
        Err(_) if given == PANTA_CONFIGURED => Ok(None),
        Err(_) => Err(Failed::argument(format!(
            "`{what}` is {given}; it is 0 or more, or PANTA_CONFIGURED"
        ))),
    }
}

/// For C, which counts in 64 signed bits.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Texts for C: the pointers, and what they point to.
#[derive(Debug, Default)]
pub(crate) struct CTexts {
    texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers lead into the texts, which are never changed.
unsafe impl Send for CTexts {}
// SAFETY: as above.
unsafe impl Sync for CTexts {}

impl CTexts {
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a String>) -> Self {
        let texts: Vec<CString> = texts
            .into_iter()
            .map(|text| crate::failed::c_text(text))
            .collect();
        let pointers = texts.iter().map(|text| text.as_ptr()).collect();
        Self { texts, pointers }
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The array; NULL if it is empty.
    pub(crate) fn as_ptr(&self) -> *const *const c_char {
        if self.pointers.is_empty() {
            std::ptr::null()
        } else {
            self.pointers.as_ptr()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn caller() -> Caller {
        // SAFETY: the tests keep the rules of the header.
        unsafe { Caller::of("a test") }
    }

    #[test]
    fn a_panic_becomes_an_error_with_its_words() {
        let status = caller().answer(|| panic!("of a kind"));
        assert_eq!(status, PANTA_ERROR_PANIC);
        // SAFETY: the message ends in a zero byte and lives until the next error.
        let message = unsafe { CStr::from_ptr(crate::failed::panta_error_message()) };
        assert!(message.to_str().unwrap().contains("of a kind"));
    }

    #[test]
    fn a_struct_of_an_older_size_is_refused_and_of_a_newer_one_taken_if_its_rest_is_zero() {
        #[repr(C)]
        struct Newer {
            known: panta_copies,
            unknown: u64,
        }
        let mut newer = Newer {
            known: panta_copies {
                size: size_of::<Newer>(),
                bytes: 7,
                calls: 8,
            },
            unknown: 0,
        };
        let pointer = &raw const newer;
        assert_eq!(
            caller()
                .input(pointer.cast::<panta_copies>(), "x")
                .unwrap()
                .bytes,
            7
        );
        newer.unknown = 1;
        for size in [size_of::<Newer>(), 0, 16, usize::MAX] {
            newer.known.size = size;
            let failed = caller().input((&raw const newer).cast::<panta_copies>(), "x");
            assert_eq!(failed.unwrap_err().status, PANTA_ERROR_STRUCT_SIZE);
        }
    }

    #[test]
    fn a_strided_selection_stops_after_its_last_cell() {
        let Axis::Range { start, stop, step } = axis_of(1, 3, 4).unwrap() else {
            panic!("a range")
        };
        assert_eq!((start, stop, step), (1, Some(10), 4));
        assert!(axis_of(0, -2, 1).is_err());
        assert!(axis_of(0, 1, 0).is_err());
        axis_of(u64::MAX, i64::MAX, i64::MAX).unwrap();
    }
}
