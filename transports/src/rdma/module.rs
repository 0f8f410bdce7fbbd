//! Finding and opening the module, and asking which providers there are.

use std::ffi::{CStr, CString, c_void};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::error::FabricError;
use super::table::{self, RawError, RawInfo, RawOptions, Table};

/// The environment variable that names the module's file.
pub const MODULE_VARIABLE: &str = "PANTA_FABRIC_MODULE";

/// The module's file, where it is not named.
const MODULE: &str = "libpanta_fabric.so";

/// The one symbol of the module.
const SYMBOL: &CStr = c"panta_fabric_table";

/// The most providers that are listed.
const PROVIDERS_LIMIT: usize = 256;

/// Providers that move bytes by system calls or copies, and not by hardware.
const SOFTWARE: [&str; 8] = ["tcp", "net", "sockets", "udp", "shm", "sm2", "lnx", "psm"];

/// libfabric, loaded. Copies are the same.
#[derive(Clone, Copy, Debug)]
pub struct Fabric {
    pub(super) table: &'static Table,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Table").finish_non_exhaustive()
    }
}

/// A provider that can do one-sided reads, and one of its domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderInfo {
    /// libfabric's name of it, as `tcp;ofi_rxm`.
    pub provider: String,
    /// The domain, as an interface or device.
    pub domain: String,
    /// Whether it is software: right everywhere, fast nowhere.
    pub software: bool,
    /// Whether local buffers must be registered.
    pub registers_local: bool,
    /// Whether a target must make progress for reads to go on.
    pub manual_progress: bool,
    /// Whether Panta can use it.
    pub usable: bool,
    /// The most bytes of one read.
    pub max_message_bytes: u64,
}

impl Fabric {
    /// Loads the module: the file that `PANTA_FABRIC_MODULE` names, else
    /// `libpanta_fabric.so` beside this program or library, in the `lib`
    /// beside its directory, or on the loader's path. A module that
    /// was loaded stays.
    ///
    /// # Errors
    /// [`FabricError::NotThere`] where it, or `libfabric.so.1`, is missing;
    /// [`FabricError::WrongVersion`] for one of another Panta.
    pub fn load() -> Result<Self, FabricError> {
        static LOADED: Mutex<Option<Fabric>> = Mutex::new(None);
        let mut loaded = LOADED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(fabric) = *loaded {
            return Ok(fabric);
        }
        let fabric = match std::env::var_os(MODULE_VARIABLE) {
            Some(path) => Self::load_from(Path::new(&path))?,
            None => {
                let there = candidates().into_iter().find(|path| path.exists());
                Self::load_from(there.as_deref().unwrap_or(Path::new(MODULE)))?
            }
        };
        *loaded = Some(fabric);
        Ok(fabric)
    }

    fn load_from(path: &Path) -> Result<Self, FabricError> {
        let file = path.display().to_string();
        let not_there = |why: String| FabricError::NotThere {
            what: file.clone(),
            why,
            remedy: "build it with `cargo build -p panta-fabric` (needs libfabric-dev), then put it beside the program or name it in PANTA_FABRIC_MODULE",
        };
        let name = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| not_there("its name has a zero in it".to_owned()))?;
        // SAFETY: a name that ends in zero; what the module runs when loaded is ours.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(not_there(loader_says()));
        }
        // SAFETY: a handle that was just opened, and is never closed.
        let symbol = unsafe { libc::dlsym(handle, SYMBOL.as_ptr()) };
        if symbol.is_null() {
            return Err(not_there(loader_says()));
        }
        // SAFETY: the module exports this symbol as such a function.
        let table = unsafe {
            let get = std::mem::transmute::<*mut c_void, extern "C" fn() -> *const Table>(symbol);
            get()
        };
        // SAFETY: every version of the table begins with its version and its size,
        // and the table lives as long as the module, which is never unloaded.
        let (version, bytes) = unsafe { ((*table).version, (*table).bytes) };
        if version != table::VERSION || bytes as usize != size_of::<Table>() {
            return Err(FabricError::WrongVersion {
                module: file,
                ours: table::VERSION,
                theirs: version,
            });
        }
        // SAFETY: it is of our version, so it has this layout; see above for its life.
        let fabric = Self::from_table(unsafe { &*table })?;
        tracing::debug!(module = %file, libfabric = %fabric.version(), "fabric loaded");
        Ok(fabric)
    }

    /// Starts the library behind a table.
    pub(super) fn from_table(table: &'static Table) -> Result<Self, FabricError> {
        let mut error = RawError::default();
        // SAFETY: `error` is ours to write; `load` holds a lock, tests have one table each.
        match unsafe { (table.start)(&raw mut error) } {
            0 => Ok(Self { table }),
            _ => Err(FabricError::NotThere {
                what: "libfabric".to_owned(),
                why: table::text(&error.text),
                remedy: "install libfabric (Debian: libfabric1; RHEL and SUSE: libfabric), or load the module of your site",
            }),
        }
    }

    /// The version of libfabric that was loaded, as `1.17`.
    #[must_use]
    pub fn version(&self) -> String {
        // SAFETY: takes nothing, after `start`.
        let version = unsafe { (self.table.library_version)() };
        format!("{}.{}", version >> 16, version & 0xffff)
    }

    /// The providers that can do one-sided reads, in libfabric's order, each
    /// domain once.
    ///
    /// # Errors
    /// [`FabricError::Open`] where libfabric cannot say.
    pub fn providers(&self) -> Result<Vec<ProviderInfo>, FabricError> {
        let mut infos = vec![RawInfo::default(); PROVIDERS_LIMIT];
        let mut error = RawError::default();
        let mut count = 0;
        let options = RawOptions::any();
        // SAFETY: all pointers are to locals that outlive the call, and the
        // capacity is that of `infos`.
        let code = unsafe {
            (self.table.providers)(
                &raw const options,
                infos.as_mut_ptr(),
                infos.len() as u64,
                &raw mut count,
                &raw mut error,
            )
        };
        if code != 0 {
            return Err(FabricError::Open {
                provider: "any".to_owned(),
                text: table::text(&error.text),
                remedy: super::error::remedy(error.code),
            });
        }
        infos.truncate(usize::try_from(count).unwrap_or(0));
        let mut providers: Vec<ProviderInfo> = Vec::new();
        for info in infos.iter().map(ProviderInfo::from_raw) {
            let same =
                |one: &ProviderInfo| one.provider == info.provider && one.domain == info.domain;
            if !providers.iter().any(same) {
                providers.push(info);
            }
        }
        Ok(providers)
    }
}

impl ProviderInfo {
    fn from_raw(raw: &RawInfo) -> Self {
        let provider = table::text(&raw.provider);
        Self {
            domain: table::text(&raw.domain),
            software: is_software(&provider),
            registers_local: raw.flags & table::LOCAL != 0,
            manual_progress: raw.flags & table::MANUAL != 0,
            usable: raw.flags & table::RAW_KEY == 0,
            max_message_bytes: raw.max_message_bytes,
            provider,
        }
    }
}

/// Providers that move bytes over sockets of the system.
const SOCKETS: [&str; 4] = ["tcp", "net", "sockets", "udp"];

/// Whether the provider of this name moves bytes over sockets of the system, so that
/// it is bound to one of its addresses.
#[must_use]
pub fn uses_sockets(provider: &str) -> bool {
    core_of(provider).is_some_and(|core| SOCKETS.contains(&core))
}

/// The provider that utility providers as `ofi_rxm` lie on.
fn core_of(provider: &str) -> Option<&str> {
    provider.split(';').find(|part| !part.starts_with("ofi_"))
}

/// Whether the provider of this name, or the one that a utility provider as
/// `ofi_rxm` lies on, is software.
pub(super) fn is_software(provider: &str) -> bool {
    core_of(provider).is_none_or(|core| SOFTWARE.contains(&core))
}

impl RawOptions {
    /// No wish at all.
    pub(super) fn any() -> Self {
        Self {
            provider: std::ptr::null(),
            domain: std::ptr::null(),
            node: std::ptr::null(),
            auth_key: std::ptr::null(),
            auth_key_bytes: 0,
            peer: std::ptr::null(),
            peer_bytes: 0,
            address_format: 0,
            depth: 0,
        }
    }
}

fn loader_says() -> String {
    // SAFETY: the text is copied before any other call of the loader on this thread.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            return "the loader gives no reason".to_owned();
        }
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

/// Where the module may lie: beside the program, beside the library that this
/// code is in, and in the `lib` beside either's directory.
fn candidates() -> Vec<PathBuf> {
    let mut files = Vec::new();
    files.extend(std::env::current_exe().ok());
    files.extend(own_file());
    let mut paths = Vec::new();
    for directory in files.iter().filter_map(|file| file.parent()) {
        paths.push(directory.join(MODULE));
        paths.extend(
            directory
                .parent()
                .map(|above| above.join("lib").join(MODULE)),
        );
    }
    paths
}

/// The file of the program or library that this code is in.
fn own_file() -> Option<PathBuf> {
    // SAFETY: all-zero is a valid Dl_info, and the address is one of this code.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let here = own_file as fn() -> Option<PathBuf>;
        if libc::dladdr(here as *const c_void, &raw mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        let name = CStr::from_ptr(info.dli_fname)
            .to_string_lossy()
            .into_owned();
        Path::new(&name).is_absolute().then(|| PathBuf::from(name))
    }
}
