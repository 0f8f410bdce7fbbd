//! Memory that the process, or the machine, cannot give: an error that says
//! so, never a signal.
//!
//! A test starts this very program again under a limit; `child` is what that
//! process runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use panta_transports::region::{Arena, ArenaOptions, RegionError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LIMIT_VARIABLE: &str = "PANTA_TEST_MEMORY_LIMIT";
const GROUP_VARIABLE: &str = "PANTA_TEST_MEMORY_GROUP";
const MIB: usize = 1 << 20;

fn arena(shared: bool) -> Arena {
    Arena::new(ArenaOptions {
        limit_bytes: 1 << 60,
        shared,
    })
}

fn lower(resource: Resource, bytes: u64) {
    let maximum = getrlimit(resource).maximum;
    let current = Some(bytes);
    setrlimit(resource, Rlimit { current, maximum }).unwrap();
}

/// Allocates under a limit; does nothing unless started for that.
#[test]
fn child() {
    let Ok(limit) = std::env::var(LIMIT_VARIABLE) else {
        return;
    };
    let error = match limit.as_str() {
        "address-space" | "address-space-plain" => {
            let arena = arena(limit == "address-space");
            // What is mapped already, and room for one of two.
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            let mapped: u64 = pages.split(' ').next().unwrap().parse().unwrap();
            lower(Resource::As, mapped * 4096 + 96 * MIB as u64);
            let first = arena.allocate(64 * MIB).unwrap();
            let error = arena.allocate(64 * MIB).unwrap_err();
            assert_eq!(arena.held_bytes(), 64 * MIB as u64);
            drop(first);
            arena.allocate(64 * MIB).unwrap();
            assert!(matches!(error, RegionError::System { .. }), "{error}");
            error
        }
        "file-size" => {
            let arena = arena(true);
            lower(Resource::Fsize, 8 * MIB as u64);
            let mut small = arena.allocate(4 * MIB).unwrap();
            let error = arena.allocate(64 * MIB).unwrap_err();
            small.as_mut_slice().fill(1);
            assert!(matches!(error, RegionError::FileSize { .. }), "{error}");
            error
        }
        "machine" => {
            let error = arena(true).allocate(1 << 46).unwrap_err();
            assert!(matches!(error, RegionError::Machine { .. }), "{error}");
            error
        }
        "group" => {
            let arena = arena(true);
            enter_group();
            let mut first = arena.allocate(32 * MIB).unwrap();
            let error = arena.allocate(256 * MIB).unwrap_err();
            first.as_mut_slice().fill(1);
            assert!(matches!(error, RegionError::Machine { .. }), "{error}");
            error
        }
        other => panic!("no limit is named {other}"),
    };
    println!("\nchild:{error}");
}

/// Joins the group that the parent has made.
fn enter_group() {
    let group = std::env::var_os(GROUP_VARIABLE).expect("a group was made");
    let processes = Path::new(&group).join("cgroup.procs");
    std::fs::write(processes, std::process::id().to_string()).unwrap();
}

/// A control group of this test alone, gone with it.
struct Group(PathBuf);

impl Group {
    /// With so many bytes; why not, where the machine does not let us.
    fn make(bytes: usize) -> Result<Self, String> {
        let name = format!("panta-test-{}", std::process::id());
        let mut why = String::from("no control groups here");
        for (mount, limit) in [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ] {
            let group = Self(Path::new(mount).join(&name));
            let made = std::fs::create_dir(&group.0)
                .and_then(|()| std::fs::write(group.0.join(limit), bytes.to_string()));
            match made {
                Ok(()) => return Ok(group),
                Err(error) => why = format!("{}: {error}", group.0.display()),
            }
        }
        Err(why)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It is not there, or its process has ended.
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn under(limit: &str) -> String {
    under_with(limit, Path::new(""))
}

fn under_with(limit: &str, group: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(LIMIT_VARIABLE, limit)
        .env(GROUP_VARIABLE, group)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {text}", output.status);
    let line = text.lines().find_map(|line| line.strip_prefix("child:"));
    line.expect("the child says what it got").to_owned()
}

#[test]
fn a_small_address_space_is_an_error_and_what_is_there_stays_usable() {
    for limit in ["address-space", "address-space-plain"] {
        let error = under(limit);
        assert!(
            error.contains("67108864") && error.contains("ulimit"),
            "{error}"
        );
    }
}

#[test]
fn a_small_limit_of_file_sizes_is_an_error_that_names_it() {
    let error = under("file-size");
    assert!(
        error.contains("8388608") && error.contains("RLIMIT_FSIZE"),
        "{error}"
    );
}

#[test]
fn more_than_the_machine_has_is_an_error_that_says_what_it_has() {
    assert!(under("machine").contains("available"));
}

#[test]
fn more_than_the_container_has_is_an_error_and_nobody_is_killed() {
    let group = match Group::make(128 * MIB) {
        Ok(group) => group,
        Err(why) => {
            eprintln!("skipped: no control group of our own: {why}");
            return;
        }
    };
    let error = under_with("group", &group.0);
    assert!(error.contains("268435456 bytes asked"), "{error}");
}
