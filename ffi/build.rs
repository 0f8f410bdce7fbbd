//! Names the shared library for its users: the file cargo writes is
//! `libpanta_c.so`, the name a linked program asks for is `libpanta.so.0`.

#[allow(
    clippy::print_stdout,
    reason = "this is how a build script speaks to cargo"
)]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libpanta.so.0");
}
