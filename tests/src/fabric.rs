//! The module that knows libfabric, for tests of `transport=rdma`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use panta_transports::rdma::MODULE_VARIABLE;

/// The module's file, which lies beside the programs of this build.
const MODULE: &str = "libpanta_fabric.so";

/// A provider that needs no hardware, and passes everything over sockets.
pub const PROVIDER: &str = "tcp;ofi_rxm";

/// What programs of a test find in their environment: where the module is, and what
/// keeps its endpoints small (some 70 MB each are filled when they are opened else, for
/// messages that are never sent).
pub(crate) fn variables(program: &Path) -> [(&'static str, PathBuf); 2] {
    [
        (MODULE_VARIABLE, program.with_file_name(MODULE)),
        ("FI_OFI_RXM_MSG_RX_SIZE", PathBuf::from("64")),
    ]
}

/// Whether there is a fabric beside `program`: the module is built where the headers
/// of libfabric are. Where they are missing, `test` is skipped by its name, or fails
/// where `PANTA_CI` is set.
///
/// # Panics
/// If the module does not build.
#[must_use]
#[allow(clippy::print_stderr, reason = "a skip is said")]
pub fn is_there(test: &str, program: &str) -> bool {
    static BUILT: OnceLock<bool> = OnceLock::new();
    let built = *BUILT.get_or_init(|| has_headers() && build(program));
    if !built {
        assert!(
            std::env::var_os("PANTA_CI").is_none(),
            "{test}: the headers of libfabric are missing"
        );
        eprintln!("skipped: {test}: the headers of libfabric are missing");
    }
    built
}

fn has_headers() -> bool {
    let mut compiler = Command::new("cc");
    compiler
        .args(["-E", "-include", "rdma/fabric.h", "-x", "c", "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    compiler.status().is_ok_and(|status| status.success())
}

fn build(program: &str) -> bool {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "panta-fabric"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let status = cargo
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .unwrap();
    assert!(status.success(), "panta-fabric does not build");
    let module = Path::new(program).with_file_name(MODULE);
    assert!(module.exists(), "{} was not built", module.display());
    true
}
