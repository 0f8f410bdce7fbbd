//! Which library runs, and whether it is the one that a program was compiled for.

use std::ffi::{CStr, c_char};

use crate::caller::Caller;
use crate::failed::Failed;
use crate::types::{PANTA_ERROR_UNSUPPORTED, panta_status};

/// The version as C reads it.
const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("the package version holds no NUL"),
    };

/// The version as one number: major × 1,000,000 + minor × 1,000 + patch.
const VERSION_NUMBER: u32 = 1_000_000 * number(env!("CARGO_PKG_VERSION_MAJOR"))
    + 1_000 * number(env!("CARGO_PKG_VERSION_MINOR"))
    + number(env!("CARGO_PKG_VERSION_PATCH"));

/// Reads a decimal number at compile time; anything else does not compile.
const fn number(digits: &str) -> u32 {
    let digits = digits.as_bytes();
    let (mut value, mut at) = (0, 0);
    while at < digits.len() {
        assert!(digits[at].is_ascii_digit());
        value = value * 10 + (digits[at] - b'0') as u32;
        at += 1;
    }
    value
}

/// The version of the library that runs, such as "0.1.0". The library's own,
/// for good; never NULL. May be called from a signal handler.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub extern "C" fn panta_version() -> *const c_char {
    VERSION.as_ptr()
}

/// Fails if this library is older than the header of `wanted`, a
/// PANTA_VERSION_NUMBER; see panta_check_version().
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub extern "C" fn panta_require_version(wanted: u32) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_require_version") };
    caller.answer(|| {
        if wanted <= VERSION_NUMBER {
            return Ok(());
        }
        let (major, minor, patch) = (wanted / 1_000_000, wanted / 1_000 % 1_000, wanted % 1_000);
        let message = format!(
            "libpanta {} is older than the `panta.h` that this program was compiled with, \
             which is of {major}.{minor}.{patch}; put the newer library in the loader's way, \
             or compile the program with the older header",
            env!("CARGO_PKG_VERSION")
        );
        let failed = Failed::new(PANTA_ERROR_UNSUPPORTED, message);
        Err(failed)
    })
}

/// The same as one number, counted as PANTA_VERSION_NUMBER is: differs from it
/// when header and library do not belong together.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub extern "C" fn panta_version_number() -> u32 {
    VERSION_NUMBER
}
