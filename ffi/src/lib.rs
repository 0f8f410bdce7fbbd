//! `libpanta`: Panta's C interface, described for its users in
//! `include/panta.h`, which is written by hand.
//!
//! What is here today is the version of the library. No function of this crate
//! lets a panic out, prints, exits or keeps a pointer it was lent; every
//! exported name begins with `panta_`.

use std::ffi::{CStr, c_char};

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

/// The version of the library that runs; see `panta.h`.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub extern "C" fn panta_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The version of the library that runs, as one number; see `panta.h`.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub extern "C" fn panta_version_number() -> u32 {
    VERSION_NUMBER
}
