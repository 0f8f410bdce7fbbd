//! The shim's table of functions, as `transports/fabric/src/shim.h` draws it.
//!
//! A change there changes [`VERSION`], and both files.

use std::ffi::{CStr, c_char, c_int, c_void};

/// The version of the table that this crate speaks.
pub(super) const VERSION: u32 = 1;

/// Bytes of the names in [`RawInfo`].
pub(super) const NAME_BYTES: usize = 64;
/// Bytes of texts.
pub(super) const TEXT_BYTES: usize = 256;

/// The flags of [`RawInfo`].
pub(super) const LOCAL: u32 = 1;
pub(super) const VIRTUAL_ADDRESS: u32 = 2;
pub(super) const PROVIDER_KEY: u32 = 4;
pub(super) const MANUAL: u32 = 16;
pub(super) const RAW_KEY: u32 = 32;

/// An endpoint of the shim.
#[repr(C)]
pub(super) struct RawFabric(c_void);

/// A registration of the shim.
#[repr(C)]
pub(super) struct RawMemory(c_void);

#[repr(C)]
pub(super) struct RawError {
    pub(super) code: i32,
    pub(super) text: [c_char; TEXT_BYTES],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawInfo {
    pub(super) provider: [c_char; NAME_BYTES],
    pub(super) domain: [c_char; NAME_BYTES],
    pub(super) address_format: u32,
    pub(super) flags: u32,
    pub(super) max_message_bytes: u64,
    pub(super) depth: u64,
    pub(super) key_bytes: u64,
}

#[repr(C)]
pub(super) struct RawOptions {
    pub(super) provider: *const c_char,
    pub(super) domain: *const c_char,
    pub(super) node: *const c_char,
    pub(super) auth_key: *const c_void,
    pub(super) auth_key_bytes: u64,
    pub(super) peer: *const c_void,
    pub(super) peer_bytes: u64,
    pub(super) address_format: u32,
    pub(super) depth: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawCompletion {
    pub(super) token: u64,
    pub(super) error: i32,
    pub(super) text: [c_char; TEXT_BYTES],
}

type Bytes = *const c_void;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub(super) version: u32,
    pub(super) bytes: u32,
    pub(super) start: unsafe extern "C" fn(*mut RawError) -> c_int,
    pub(super) library_version: unsafe extern "C" fn() -> u32,
    pub(super) header_version: unsafe extern "C" fn() -> u32,
    pub(super) providers: unsafe extern "C" fn(
        *const RawOptions,
        *mut RawInfo,
        u64,
        *mut u64,
        *mut RawError,
    ) -> c_int,
    pub(super) open:
        unsafe extern "C" fn(*const RawOptions, *mut *mut RawFabric, *mut RawError) -> c_int,
    pub(super) close: unsafe extern "C" fn(*mut RawFabric),
    pub(super) describe: unsafe extern "C" fn(*const RawFabric, *mut RawInfo),
    pub(super) address:
        unsafe extern "C" fn(*mut RawFabric, *mut c_void, *mut u64, *mut RawError) -> c_int,
    pub(super) wait_fd: unsafe extern "C" fn(*const RawFabric) -> c_int,
    pub(super) may_sleep: unsafe extern "C" fn(*mut RawFabric) -> c_int,
    pub(super) add_memory: unsafe extern "C" fn(
        *mut RawFabric,
        *mut c_void,
        u64,
        c_int,
        u64,
        *mut *mut RawMemory,
        *mut RawError,
    ) -> c_int,
    pub(super) key: unsafe extern "C" fn(*const RawMemory) -> u64,
    pub(super) remove_memory: unsafe extern "C" fn(*mut RawMemory, *mut RawError) -> c_int,
    pub(super) add_peer:
        unsafe extern "C" fn(*mut RawFabric, Bytes, u64, *mut u64, *mut RawError) -> c_int,
    pub(super) read: unsafe extern "C" fn(
        *mut RawFabric,
        u64,
        *mut c_void,
        u64,
        *mut RawMemory,
        u64,
        u64,
        u64,
        *mut RawError,
    ) -> c_int,
    pub(super) progress:
        unsafe extern "C" fn(*mut RawFabric, *mut RawCompletion, u64, *mut RawError) -> i64,
}

impl Default for RawError {
    fn default() -> Self {
        Self {
            code: 0,
            text: [0; TEXT_BYTES],
        }
    }
}

impl Default for RawInfo {
    fn default() -> Self {
        Self {
            provider: [0; NAME_BYTES],
            domain: [0; NAME_BYTES],
            address_format: 0,
            flags: 0,
            max_message_bytes: 0,
            depth: 0,
            key_bytes: 0,
        }
    }
}

impl Default for RawCompletion {
    fn default() -> Self {
        Self {
            token: u64::MAX,
            error: 0,
            text: [0; TEXT_BYTES],
        }
    }
}

/// The text before the first zero, or all of it.
pub(super) fn text(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|&char| char.cast_unsigned()).collect();
    match CStr::from_bytes_until_nul(&bytes) {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}
