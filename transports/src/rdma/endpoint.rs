//! An endpoint of the shim as a value: what must be closed is closed, in order.

use std::ffi::{CString, c_void};
use std::os::fd::RawFd;
use std::ptr::NonNull;

use super::error::{FabricError, remedy};
use super::module::Fabric;
use super::table::{
    self, RawCompletion, RawError, RawFabric, RawInfo, RawMemory, RawOptions, Table,
};
use super::{FabricAddress, FabricOptions};

/// Completions taken at once.
const BATCH: usize = 16;

/// Room for an address of this side.
const ADDRESS_ROOM_BYTES: usize = 256;

/// An open endpoint. Dropping it ends all its reads and registrations.
pub(super) struct Endpoint {
    raw: NonNull<RawFabric>,
    table: &'static Table,
    provider: String,
    info: RawInfo,
    process: u32,
    /// Local registrations need keys too, where the provider picks none.
    next_local_key: u64,
    /// Where completions are taken to, kept so that none is cleared each time.
    taken: Box<[RawCompletion]>,
}

// SAFETY: the shim binds nothing to a thread; it wants one call at a time, which
// `&mut self` on every call that changes anything gives.
unsafe impl Send for Endpoint {}

/// A registration. It ends by [`Endpoint::remove`] or with the endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory(NonNull<RawMemory>);

// SAFETY: as for `Endpoint`: an address that only calls on it look behind.
unsafe impl Send for Memory {}

/// A read that ended.
pub(super) struct Completion {
    pub(super) token: u64,
    pub(super) error: Option<String>,
}

/// What became of a call that may not be possible yet.
pub(super) enum Posted {
    Yes,
    /// First something must be taken by `progress`.
    NotNow,
}

impl Endpoint {
    /// Opens one; `towards` is the target of an initiator.
    pub(super) fn open(
        fabric: &Fabric,
        options: &FabricOptions,
        towards: Option<&FabricAddress>,
    ) -> Result<Self, FabricError> {
        let wished = towards.map(|target| target.provider.clone());
        let provider = match wished.or_else(|| options.provider.clone()) {
            Some(provider) => provider,
            None => hardware(fabric)?,
        };
        let provider_text = c_text(Some(&provider))?;
        let domain = c_text(options.domain.as_deref())?;
        let node = c_text(options.node.as_deref())?;
        let pointer =
            |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        let raw_options = RawOptions {
            provider: pointer(&provider_text),
            domain: pointer(&domain),
            node: pointer(&node),
            auth_key: options.auth_key.as_ptr().cast(),
            auth_key_bytes: options.auth_key.len() as u64,
            peer: towards.map_or(std::ptr::null(), |target| target.bytes.as_ptr().cast()),
            peer_bytes: towards.map_or(0, |target| target.bytes.len() as u64),
            address_format: towards.map_or(0, |target| target.format),
            depth: options.depth,
        };
        let mut raw = std::ptr::null_mut();
        let mut error = RawError::default();
        // SAFETY: all that is pointed to outlives the call.
        let code =
            unsafe { (fabric.table.open)(&raw const raw_options, &raw mut raw, &raw mut error) };
        if code == -libc::ENODATA {
            return Err(no_provider(fabric, &provider, options));
        }
        let Some(raw) = NonNull::new(raw).filter(|_| code == 0) else {
            return Err(FabricError::Open {
                provider,
                text: table::text(&error.text),
                remedy: remedy(error.code),
            });
        };
        let mut info = RawInfo::default();
        // SAFETY: an endpoint that was just opened, a local to write to.
        unsafe { (fabric.table.describe)(raw.as_ptr(), &raw mut info) };
        Ok(Self {
            raw,
            table: fabric.table,
            provider: table::text(&info.provider),
            info,
            process: std::process::id(),
            next_local_key: 1,
            taken: vec![RawCompletion::default(); BATCH].into_boxed_slice(),
        })
    }

    pub(super) fn provider(&self) -> &str {
        &self.provider
    }

    pub(super) fn info(&self) -> &RawInfo {
        &self.info
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.info.flags & flag != 0
    }

    /// An error in the child of a fork.
    pub(super) fn check_process(&self) -> Result<(), FabricError> {
        match std::process::id() == self.process {
            true => Ok(()),
            false => Err(FabricError::Forked),
        }
    }

    pub(super) fn address(&mut self) -> Result<FabricAddress, FabricError> {
        let mut bytes = vec![0u8; ADDRESS_ROOM_BYTES];
        let mut count = bytes.len() as u64;
        let mut error = RawError::default();
        // SAFETY: `count` says how much room `bytes` has.
        let code = unsafe {
            (self.table.address)(
                self.raw.as_ptr(),
                bytes.as_mut_ptr().cast(),
                &raw mut count,
                &raw mut error,
            )
        };
        if code != 0 {
            return Err(FabricError::Open {
                provider: self.provider.clone(),
                text: table::text(&error.text),
                remedy: remedy(error.code),
            });
        }
        bytes.truncate(usize::try_from(count).unwrap_or(0));
        Ok(FabricAddress {
            provider: self.provider.clone(),
            format: self.info.address_format,
            bytes,
        })
    }

    /// Readable when `progress` should be called; it lives as long as the endpoint.
    pub(super) fn wait_fd(&self) -> Option<RawFd> {
        // SAFETY: a live endpoint.
        let fd = unsafe { (self.table.wait_fd)(self.raw.as_ptr()) };
        (fd >= 0).then_some(fd)
    }

    pub(super) fn may_sleep(&mut self) -> bool {
        // SAFETY: a live endpoint.
        unsafe { (self.table.may_sleep)(self.raw.as_ptr()) != 0 }
    }

    /// Registers memory: for peers under a wished key, or as a local buffer.
    ///
    /// # Safety
    /// The memory must stay mapped, and writable if local, until it is removed or
    /// the endpoint dropped.
    pub(super) unsafe fn add_memory(
        &mut self,
        start: NonNull<u8>,
        bytes: usize,
        wished_key: Option<u64>,
    ) -> Result<Memory, (i32, FabricError)> {
        let mut raw = std::ptr::null_mut();
        let mut error = RawError::default();
        let key = wished_key.unwrap_or_else(|| {
            self.next_local_key += 1;
            self.next_local_key
        });
        // SAFETY: a live endpoint; the caller vouches for the memory.
        let code = unsafe {
            (self.table.add_memory)(
                self.raw.as_ptr(),
                start.as_ptr().cast(),
                bytes as u64,
                i32::from(wished_key.is_some()),
                key,
                &raw mut raw,
                &raw mut error,
            )
        };
        match NonNull::new(raw).filter(|_| code == 0) {
            Some(raw) => Ok(Memory(raw)),
            None => Err((error.code, self.registration_error(bytes as u64, &error))),
        }
    }

    pub(super) fn key(&self, memory: Memory) -> u64 {
        // SAFETY: registrations live until removed, and a removed one is given up.
        unsafe { (self.table.key)(memory.0.as_ptr()) }
    }

    /// Ends a registration.
    pub(super) fn remove(&mut self, memory: Memory) -> Result<(), FabricError> {
        let mut error = RawError::default();
        // SAFETY: as in `key`.
        match unsafe { (self.table.remove_memory)(memory.0.as_ptr(), &raw mut error) } {
            0 => Ok(()),
            _ => Err(self.registration_error(0, &error)),
        }
    }

    fn registration_error(&self, bytes: u64, error: &RawError) -> FabricError {
        FabricError::Registration {
            provider: self.provider.clone(),
            bytes,
            text: table::text(&error.text),
            remedy: remedy(error.code),
        }
    }

    pub(super) fn add_peer(&mut self, address: &FabricAddress) -> Result<u64, FabricError> {
        let mut peer = 0;
        let mut error = RawError::default();
        // SAFETY: the bytes outlive the call, which checks their number.
        let code = unsafe {
            (self.table.add_peer)(
                self.raw.as_ptr(),
                address.bytes.as_ptr().cast(),
                address.bytes.len() as u64,
                &raw mut peer,
                &raw mut error,
            )
        };
        match code {
            0 => Ok(peer),
            _ => Err(FabricError::BadAddress {
                why: table::text(&error.text),
            }),
        }
    }

    /// Starts a read of `bytes` to `into`.
    ///
    /// # Safety
    /// `into` must be writable for `bytes` until the completion of `token` was
    /// taken, or the endpoint dropped.
    #[allow(clippy::too_many_arguments, reason = "they are fi_read's")]
    pub(super) unsafe fn read(
        &mut self,
        peer: u64,
        into: *mut u8,
        bytes: usize,
        local: Option<Memory>,
        address: u64,
        key: u64,
        token: u64,
    ) -> Result<Posted, FabricError> {
        let mut error = RawError::default();
        // SAFETY: the caller vouches for the memory.
        let code = unsafe {
            (self.table.read)(
                self.raw.as_ptr(),
                peer,
                into.cast(),
                bytes as u64,
                local.map_or(std::ptr::null_mut(), |memory| memory.0.as_ptr()),
                address,
                key,
                token,
                &raw mut error,
            )
        };
        match code {
            0 => Ok(Posted::Yes),
            code if code == -libc::EAGAIN => Ok(Posted::NotNow),
            _ => Err(self.read_error(table::text(&error.text))),
        }
    }

    pub(super) fn read_error(&self, text: String) -> FabricError {
        FabricError::Read {
            provider: self.provider.clone(),
            text,
        }
    }

    /// Moves things along and hands over what ended; how many that were.
    pub(super) fn progress(
        &mut self,
        mut ended: impl FnMut(Completion),
    ) -> Result<usize, FabricError> {
        let mut error = RawError::default();
        // SAFETY: the capacity is that of `taken`.
        let taken = unsafe {
            (self.table.progress)(
                self.raw.as_ptr(),
                self.taken.as_mut_ptr(),
                BATCH as u64,
                &raw mut error,
            )
        };
        let Ok(taken) = usize::try_from(taken) else {
            return Err(self.read_error(table::text(&error.text)));
        };
        for raw in self.taken.iter().take(taken) {
            ended(Completion {
                token: raw.token,
                error: (raw.error != 0).then(|| table::text(&raw.text)),
            });
        }
        Ok(taken)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // In the child of a fork the devices and sockets are the parent's.
        if self.check_process().is_ok() {
            // SAFETY: opened once, closed once.
            unsafe { (self.table.close)(self.raw.as_ptr()) };
        }
    }
}

/// A text for C, or none.
fn c_text(text: Option<&str>) -> Result<Option<CString>, FabricError> {
    text.map(CString::new)
        .transpose()
        .map_err(|_| FabricError::BadAddress {
            why: "a name has a zero in it".to_owned(),
        })
}

/// The first provider that is hardware.
fn hardware(fabric: &Fabric) -> Result<String, FabricError> {
    let providers = fabric.providers()?;
    let found = providers.iter().find(|one| !one.software && one.usable);
    found
        .map(|one| one.provider.clone())
        .ok_or_else(|| FabricError::NoProvider {
            asked: "is hardware".to_owned(),
            present: names(fabric),
        })
}

fn no_provider(fabric: &Fabric, provider: &str, options: &FabricOptions) -> FabricError {
    let mut asked = format!("is `{provider}`");
    for (what, value) in [("domain", &options.domain), ("address", &options.node)] {
        if let Some(value) = value {
            asked += &format!(" with {what} `{value}`");
        }
    }
    FabricError::NoProvider {
        asked,
        present: names(fabric),
    }
}

fn names(fabric: &Fabric) -> String {
    let mut names: Vec<String> = Vec::new();
    for one in fabric.providers().unwrap_or_default() {
        if !names.contains(&one.provider) {
            names.push(one.provider);
        }
    }
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

/// The address that reads of `start` count from, as the provider wants it.
pub(super) fn base(endpoint: &Endpoint, start: NonNull<u8>) -> u64 {
    match endpoint.has(table::VIRTUAL_ADDRESS) {
        true => start.as_ptr().cast::<c_void>().addr() as u64,
        false => 0,
    }
}
