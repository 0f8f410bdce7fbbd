//! What is said where something is missing, in processes that miss it.

use std::process::Command;

use panta_transports::rdma::{Fabric, MODULE_VARIABLE};

/// Set for a process that is to load and say what came of it.
const ROLE: &str = "PANTA_TEST_FABRIC_LOADING";

#[test]
fn whoever_loads_says_what_came_of_it() {
    if std::env::var_os(ROLE).is_some() {
        println!(
            "\nloading: {:?}",
            Fabric::load().map_err(|error| error.to_string())
        );
    }
}

/// What loading comes to in an environment with `variable` set.
fn loading(variable: &str, value: &std::ffi::OsStr) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "loading::whoever_loads_says_what_came_of_it"])
        .arg("--nocapture")
        .env(ROLE, "1")
        .env(variable, value)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("loading: "));
    line.unwrap().to_owned()
}

#[test]
fn a_module_that_is_not_there_is_an_error_that_says_how_to_get_it() {
    let said = loading(MODULE_VARIABLE, "/nowhere/libpanta_fabric.so".as_ref());
    for part in ["/nowhere/libpanta_fabric.so", "cargo build -p panta-fabric"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_file_that_is_no_module_is_an_error_and_not_a_crash() {
    let said = loading(MODULE_VARIABLE, "libm.so.6".as_ref());
    assert!(said.contains("panta_fabric_table"), "{said}");
}

#[test]
fn a_machine_without_libfabric_is_told_what_to_install() {
    if crate::fabric("a_machine_without_libfabric").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("libfabric.so.1"), "no library").unwrap();
    let said = loading("LD_LIBRARY_PATH", directory.path().as_os_str());
    for part in ["libfabric cannot be loaded", "install libfabric"] {
        assert!(said.contains(part), "{said}");
    }
}
