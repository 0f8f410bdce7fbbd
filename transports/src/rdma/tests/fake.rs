//! A provider made of memory copies that misbehaves as it is told.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::rc::Rc;

use super::super::module::Fabric;
use super::super::table::{
    self, RawCompletion, RawError, RawFabric, RawInfo, RawMemory, RawOptions, Table,
};

/// How endpoints that this thread opens from now on behave, and what they did.
#[derive(Default)]
pub(super) struct Behaviour {
    pub(super) flags: u32,
    pub(super) depth: u64,
    pub(super) max_message_bytes: u64,
    /// Errors of the next registrations, 0 for one that succeeds.
    pub(super) registrations: VecDeque<i32>,
    /// Errors of the next reads to be posted, as above.
    pub(super) posts: VecDeque<i32>,
    /// Errors of the next reads that end, as above.
    pub(super) ends: VecDeque<i32>,
    /// Reads that never end once the lists above are empty.
    pub(super) stuck: bool,
    pub(super) queue_broken: bool,
    /// Tokens that are told besides, though nobody gave them.
    pub(super) strays: Vec<u64>,
    pub(super) removal_fails: bool,
    pub(super) names: Vec<&'static str>,
    /// Registrations and endpoints that are there.
    pub(super) registered: usize,
    pub(super) open: usize,
}

thread_local! {
    static BEHAVIOUR: Rc<RefCell<Behaviour>> = Rc::default();
}

/// The behaviour of this thread's endpoints.
pub(super) fn behaviour() -> Rc<RefCell<Behaviour>> {
    BEHAVIOUR.with(Rc::clone)
}

struct Read {
    token: u64,
    into: *mut u8,
    from: *const u8,
    bytes: usize,
}

struct Endpoint {
    under_way: VecDeque<Read>,
}

fn put(into: &mut [c_char], text: &str) {
    for (to, from) in into.iter_mut().zip(text.bytes()) {
        *to = from.cast_signed();
    }
}

fn fail(error: *mut RawError, code: i32) -> c_int {
    // SAFETY: the caller's to be written.
    unsafe {
        (*error).code = code;
        put(&mut (*error).text, "fake_call: as it was told");
    }
    -code
}

fn endpoint<'a>(raw: *mut RawFabric) -> &'a mut Endpoint {
    // SAFETY: made by `open` from such a box.
    unsafe { &mut *raw.cast::<Endpoint>() }
}

unsafe extern "C" fn start(_: *mut RawError) -> c_int {
    0
}

unsafe extern "C" fn version() -> u32 {
    1 << 16
}

fn info() -> RawInfo {
    let mut info = RawInfo::default();
    let behaviour = behaviour();
    let behaviour = behaviour.borrow();
    put(&mut info.provider, "fake");
    info.flags = behaviour.flags | table::VIRTUAL_ADDRESS;
    info.depth = behaviour.depth.max(1);
    info.max_message_bytes = behaviour.max_message_bytes.max(1);
    info.key_bytes = 4;
    info
}

unsafe extern "C" fn providers(
    _: *const RawOptions,
    out: *mut RawInfo,
    _: u64,
    count: *mut u64,
    _: *mut RawError,
) -> c_int {
    let names = behaviour().borrow().names.clone();
    for (at, name) in names.iter().enumerate() {
        // SAFETY: tests list fewer than there is room for.
        unsafe {
            *out.add(at) = info();
            (*out.add(at)).provider = [0; table::NAME_BYTES];
            put(&mut (*out.add(at)).provider, name);
            *count += 1;
        }
    }
    0
}

unsafe extern "C" fn open(
    _: *const RawOptions,
    out: *mut *mut RawFabric,
    _: *mut RawError,
) -> c_int {
    behaviour().borrow_mut().open += 1;
    let endpoint = Endpoint {
        under_way: VecDeque::new(),
    };
    // SAFETY: the caller's to be written.
    unsafe { *out = Box::into_raw(Box::new(endpoint)).cast() };
    0
}

unsafe extern "C" fn close(raw: *mut RawFabric) {
    behaviour().borrow_mut().open -= 1;
    // SAFETY: made by `open`, closed once.
    drop(unsafe { Box::from_raw(raw.cast::<Endpoint>()) });
}

unsafe extern "C" fn describe(_: *const RawFabric, out: *mut RawInfo) {
    // SAFETY: the caller's to be written.
    unsafe { *out = info() };
}

unsafe extern "C" fn address(
    _: *mut RawFabric,
    _: *mut c_void,
    bytes: *mut u64,
    _: *mut RawError,
) -> c_int {
    // SAFETY: the caller's to be written; it offers more room than this.
    unsafe { *bytes = 4 };
    0
}

unsafe extern "C" fn wait_fd(_: *const RawFabric) -> c_int {
    -1
}

unsafe extern "C" fn may_sleep(_: *mut RawFabric) -> c_int {
    1
}

unsafe extern "C" fn add_memory(
    _: *mut RawFabric,
    _: *mut c_void,
    _: u64,
    _: c_int,
    key: u64,
    out: *mut *mut RawMemory,
    error: *mut RawError,
) -> c_int {
    assert!(u32::try_from(key).is_ok(), "longer than the keys are");
    let behaviour = behaviour();
    let mut behaviour = behaviour.borrow_mut();
    match behaviour.registrations.pop_front().unwrap_or(0) {
        0 => {
            behaviour.registered += 1;
            // SAFETY: the caller's to be written.
            unsafe { *out = Box::into_raw(Box::new(key)).cast() };
            0
        }
        code => fail(error, code),
    }
}

unsafe extern "C" fn key(memory: *const RawMemory) -> u64 {
    // SAFETY: made by `add_memory` from such a box.
    unsafe { *memory.cast::<u64>() }
}

unsafe extern "C" fn remove_memory(memory: *mut RawMemory, error: *mut RawError) -> c_int {
    let behaviour = behaviour();
    let mut behaviour = behaviour.borrow_mut();
    if behaviour.removal_fails {
        return fail(error, libc::EBUSY);
    }
    behaviour.registered -= 1;
    // SAFETY: made by `add_memory`, removed once.
    drop(unsafe { Box::from_raw(memory.cast::<u64>()) });
    0
}

unsafe extern "C" fn add_peer(
    _: *mut RawFabric,
    _: *const c_void,
    _: u64,
    _: *mut u64,
    _: *mut RawError,
) -> c_int {
    0
}

unsafe extern "C" fn read(
    raw: *mut RawFabric,
    _: u64,
    into: *mut c_void,
    bytes: u64,
    local: *mut RawMemory,
    address: u64,
    _: u64,
    token: u64,
    error: *mut RawError,
) -> c_int {
    let behaviour = behaviour();
    let mut behaviour = behaviour.borrow_mut();
    let endpoint = endpoint(raw);
    assert!(bytes > 0 && bytes <= behaviour.max_message_bytes);
    assert_eq!(local.is_null(), behaviour.flags & table::LOCAL == 0);
    if endpoint.under_way.len() as u64 == behaviour.depth {
        return -libc::EAGAIN;
    }
    match behaviour.posts.pop_front().unwrap_or(0) {
        0 => endpoint.under_way.push_back(Read {
            token,
            into: into.cast(),
            from: std::ptr::with_exposed_provenance(address as usize),
            bytes: bytes as usize,
        }),
        code => return fail(error, code),
    }
    0
}

unsafe extern "C" fn progress(
    raw: *mut RawFabric,
    out: *mut RawCompletion,
    _: u64,
    error: *mut RawError,
) -> i64 {
    let behaviour = behaviour();
    let mut behaviour = behaviour.borrow_mut();
    if behaviour.queue_broken {
        return i64::from(fail(error, libc::EIO));
    }
    // SAFETY: the caller offers room for more than one.
    let out = unsafe { &mut *out };
    *out = RawCompletion::default();
    if let Some(token) = behaviour.strays.pop() {
        out.token = token;
        return 1;
    }
    if behaviour.stuck && behaviour.ends.is_empty() {
        return 0;
    }
    // The youngest first: no order is promised.
    let Some(read) = endpoint(raw).under_way.pop_back() else {
        return 0;
    };
    out.token = read.token;
    out.error = behaviour.ends.pop_front().unwrap_or(0);
    put(&mut out.text, "it failed as it was told");
    if out.error == 0 {
        // SAFETY: a read under way: both memories are there.
        unsafe { std::ptr::copy_nonoverlapping(read.from, read.into, read.bytes) };
    }
    1
}

/// The fabric of the fake.
pub(super) fn fabric() -> Fabric {
    static TABLE: Table = Table {
        version: table::VERSION,
        bytes: size_of::<Table>() as u32,
        start,
        library_version: version,
        header_version: version,
        providers,
        open,
        close,
        describe,
        address,
        wait_fd,
        may_sleep,
        add_memory,
        key,
        remove_memory,
        add_peer,
        read,
        progress,
    };
    Fabric::from_table(&TABLE).unwrap()
}
