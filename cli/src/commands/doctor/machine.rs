//! The machine: processors, memory, limits, interfaces, kernel.

use std::collections::BTreeMap;
use std::fs;

use panta_core::config::ByteSize;
use panta_transports::coupling;
use panta_transports::region::{Arena, ArenaOptions};
use rustix::process::{Resource, getrlimit};

use super::line::Line;

/// Open files that a group of some hundred peers needs.
const FILES_LEAST: u64 = 1024;

/// What a shared memory file system should have free, for MPI and others.
const SHM_LEAST_BYTES: u64 = 64 << 20;

/// All lines about the machine.
pub(super) fn lines() -> Vec<Line> {
    let mut lines = vec![processor(), memory(), kernel(), memfd(), shm()];
    lines.extend([open_files(), file_size(), ptrace()]);
    lines.extend(interfaces());
    lines
}

/// The value of `key` in a file of `key: value` lines.
fn value_of(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let found = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    found.filter(|value| !value.is_empty())
}

fn processor() -> Line {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = value_of("/proc/cpuinfo", "model name").unwrap_or("model unknown".to_owned());
    Line::ok("processor", format!("{cores} for this process, {model}"))
}

/// Bytes in a line of /proc/meminfo, as `24 kB`.
fn meminfo(key: &str) -> Option<u64> {
    let value = value_of("/proc/meminfo", key)?;
    let kilobytes: u64 = value.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn memory() -> Line {
    match (meminfo("MemTotal"), meminfo("MemAvailable")) {
        (Some(total), Some(free)) => Line::ok(
            "memory",
            format!("{}, {} available", size(total), size(free)),
        ),
        _ => Line::failed("memory", "/proc/meminfo does not say", "mount /proc"),
    }
}

/// A number of bytes, in a unit that keeps it short.
pub(super) fn size(bytes: u64) -> String {
    let unit = [30, 20, 10].into_iter().find(|&shift| bytes >> shift >= 8);
    ByteSize(unit.map_or(bytes, |shift| bytes >> shift << shift)).to_string()
}

fn kernel() -> Line {
    match fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(release) => Line::ok("kernel", format!("Linux {}", release.trim())),
        Err(error) => Line::failed("kernel", error, "mount /proc"),
    }
}

/// The memory that streams lie in: made, filled and sealed as they do it.
fn memfd() -> Line {
    let arena = Arena::new(ArenaOptions {
        limit_bytes: 8 << 20,
        shared: true,
    });
    match arena.allocate(8 << 20) {
        Ok(extent) => {
            let large = extent.region_arc().large_page_bytes() > 0;
            let pages = match large {
                true => "in pages of 2 MiB",
                false => "in small pages only: first steps take longer",
            };
            let found = format!("memfd, sealed against changes by others, {pages}");
            Line::ok("shared memory", found)
        }
        Err(error) => Line::failed(
            "shared memory",
            error,
            "a kernel from 5.1 on, and a container that allows memfd_create",
        ),
    }
}

fn shm() -> Line {
    let remedy = "mount a tmpfs on /dev/shm (containers: --shm-size)";
    match rustix::fs::statvfs("/dev/shm") {
        Ok(there) => {
            let free = there.f_bavail * there.f_frsize;
            let found = format!("{} free", size(free));
            match free >= SHM_LEAST_BYTES {
                true => Line::ok("/dev/shm", found),
                false => Line::missing("/dev/shm", found, remedy),
            }
        }
        Err(error) => Line::missing("/dev/shm", error, remedy),
    }
}

/// Locked memory, which devices for RDMA need.
pub(super) fn locked_memory(needed: bool) -> Line {
    let what = "locked memory";
    match getrlimit(Resource::Memlock).current {
        None => Line::ok(what, "no limit"),
        Some(limit) if needed => Line::failed(
            what,
            format!(
                "limit of {}, and RDMA devices lock what they read",
                size(limit)
            ),
            "ulimit -l unlimited (limits.conf, or LimitMEMLOCK of the batch system's daemon)",
        ),
        Some(limit) => Line::ok(
            what,
            format!("limit of {}; no device needs more", size(limit)),
        ),
    }
}

fn open_files() -> Line {
    let limit = getrlimit(Resource::Nofile);
    match limit.current {
        Some(current) if current < FILES_LEAST => Line::failed(
            "open files",
            format!("limit of {current}"),
            format!("ulimit -n {}", limit.maximum.unwrap_or(1 << 16)),
        ),
        current => Line::ok(
            "open files",
            current.map_or("no limit".to_owned(), |n| format!("limit of {n}")),
        ),
    }
}

/// Limits memory files too.
fn file_size() -> Line {
    match getrlimit(Resource::Fsize).current {
        None => Line::ok("file size", "no limit"),
        Some(limit) => Line::failed(
            "file size",
            format!(
                "limit of {}; steps in shared memory fall under it",
                size(limit)
            ),
            "ulimit -f unlimited",
        ),
    }
}

/// Matters only to libfabric's provider `shm` and to debuggers.
fn ptrace() -> Line {
    let what = "ptrace scope";
    match fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope") {
        Ok(scope) if scope.trim() == "0" => Line::ok(what, "0: any process of the user"),
        Ok(scope) => Line::ok(
            what,
            format!(
                "{}: libfabric's shm copies twice; panta's own is not touched",
                scope.trim()
            ),
        ),
        Err(_) => Line::ok(what, "not restricted"),
    }
}

fn interfaces() -> Vec<Line> {
    let addresses = match coupling::interface_addresses() {
        Ok(addresses) => addresses,
        Err(error) => return vec![Line::failed("interfaces", error, "see `ip address`")],
    };
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, address) in addresses {
        by_name.entry(name).or_default().push(address.to_string());
    }
    let line = |(name, addresses): (&String, &Vec<String>)| {
        Line::ok(format!("interface {name}"), addresses.join(", "))
    };
    by_name.iter().map(line).collect()
}
