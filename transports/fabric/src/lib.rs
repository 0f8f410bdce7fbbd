//! `libpanta_fabric.so`: libfabric behind one versioned table of C functions.
//!
//! The shim is written in C (`shim.h` says what each function promises) because
//! most of libfabric's interface is inline functions in its headers. This crate
//! only gives it a name that `dlopen` finds: [`panta_fabric_table`].
//!
//! It links no libfabric: the table's `start` opens `libfabric.so.1`, so that
//! a machine without it can load this module and be told what is missing.

use std::ffi::c_void;

unsafe extern "C" {
    fn panta_fabric_shim_table() -> *const c_void;
}

/// The table, as `shim.h` draws it; it lives as long as the module is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn panta_fabric_table() -> *const c_void {
    // SAFETY: takes nothing and returns the address of a constant.
    unsafe { panta_fabric_shim_table() }
}
