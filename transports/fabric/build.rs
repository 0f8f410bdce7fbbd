//! Compiles the shim against libfabric's headers; the library itself is
//! opened at run time.

#[allow(
    clippy::print_stdout,
    reason = "this is how a build script speaks to cargo"
)]
fn main() {
    println!("cargo::rerun-if-changed=src");
    let mut shim = cc::Build::new();
    shim.std("gnu11").warnings(true).extra_warnings(true);
    shim.flag_if_supported("-Wno-unused-parameter");
    if !shim
        .clone()
        .is_flag_supported("-includerdma/fabric.h")
        .unwrap_or(false)
    {
        println!(
            "cargo::error=libfabric's headers (rdma/fabric.h) were not found; install libfabric-dev (Debian) or libfabric-devel (RHEL, SUSE), or say where they are with CFLAGS=-I/opt/libfabric/include"
        );
        return;
    }
    shim.files(["src/shim.c", "src/open.c"])
        .compile("panta_fabric_shim");
}
