//! How much memory can still be had: of the machine, and of the container that
//! the process runs in, whose limit ends processes as readily.
//!
//! ```text
//!   /proc/meminfo                              MemAvailable
//!   /proc/self/cgroup   0::/a/b                /sys/fs/cgroup/{a/b, a, .}/memory.{max,current,stat}
//!                       4:memory:/a/b          /sys/fs/cgroup/memory/{a/b, a, .}/memory.limit_in_bytes …
//! ```
//! A group is held to the limits of all groups above it. What a group has read
//! from files and not used lately counts as available. A file that is not there,
//! or says something else, is no limit.

use std::fs;
use std::path::Path;

/// Where the files of a version of control groups are, and what they are called.
struct Version {
    mounts: &'static [&'static str],
    limit: &'static str,
    used: &'static str,
    /// In `memory.stat`: what can be dropped.
    idle: &'static str,
}

const FIRST: Version = Version {
    mounts: &["sys/fs/cgroup/memory"],
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    idle: "total_inactive_file",
};

const SECOND: Version = Version {
    mounts: &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
    limit: "memory.max",
    used: "memory.current",
    idle: "inactive_file",
};

/// What could be had without swapping, where the system says so.
pub(super) fn available_bytes() -> Option<u64> {
    available_under(Path::new("/"))
}

fn available_under(root: &Path) -> Option<u64> {
    let machine = machine_bytes(root);
    machine.into_iter().chain(group_bytes(root)).min()
}

fn machine_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let kib = field(&text, "MemAvailable:")?;
    kib.checked_mul(1024)
}

/// What the groups leave that this process is in.
fn group_bytes(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let left = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        let version = match (number, controllers) {
            ("0", "") => SECOND,
            (_, named) if named.split(',').any(|name| name == "memory") => FIRST,
            _ => return None,
        };
        let group = Path::new(group.trim_start_matches('/'));
        let of_mount = |mount: &&str| left_up_from(&root.join(mount), group, &version);
        version.mounts.iter().filter_map(of_mount).min()
    });
    left.min()
}

/// The least that a group and those above it leave. Within a container the
/// group may be named as the host sees it: then only the last is there.
fn left_up_from(mount: &Path, group: &Path, version: &Version) -> Option<u64> {
    let above = group.ancestors();
    above
        .filter_map(|group| left_in(&mount.join(group), version))
        .min()
}

fn left_in(group: &Path, version: &Version) -> Option<u64> {
    let number = |file: &str| -> Option<u64> {
        let text = fs::read_to_string(group.join(file)).ok()?;
        text.trim().parse().ok()
    };
    // Version 2 says `max` where there is none.
    let (limit, used) = (number(version.limit)?, number(version.used)?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let idle = field(&stat, version.idle).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(idle)))
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let value = words.next().filter(|word| *word == name).and(words.next());
        value?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A file system with these files, and 1000 MiB of the machine available.
    fn available(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let machine = ("proc/meminfo", "MemFree: 7 kB\nMemAvailable: 1024000 kB\n");
        for (path, text) in files.iter().chain([&machine]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        available_under(root.path())
    }

    #[test]
    fn without_a_group_it_is_what_the_machine_has() {
        assert_eq!(available(&[]), Some(1000 * MIB));
        let nowhere = [("proc/self/cgroup", "0::/a\n4:memory:/b\nnonsense\n")];
        assert_eq!(available(&nowhere), Some(1000 * MIB));
    }

    #[test]
    fn of_nested_groups_the_tightest_counts_and_idle_files_are_available() {
        let files = [
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "104857600\n"),
            ("sys/fs/cgroup/a/memory.max", "209715200\n"),
            ("sys/fs/cgroup/a/memory.current", "104857600\n"),
            (
                "sys/fs/cgroup/a/memory.stat",
                "anon 7\ninactive_file 20971520\n",
            ),
        ];
        assert_eq!(available(&files), Some(120 * MIB));
    }

    #[test]
    fn a_container_that_sees_its_own_group_as_the_root_is_held_to_it() {
        let files = [
            ("proc/self/cgroup", "5:cpu,memory:/docker/0123\n0::/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "314572800"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "104857600"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "total_inactive_file 0\n",
            ),
        ];
        assert_eq!(available(&files), Some(200 * MIB));
    }

    #[test]
    fn a_group_that_is_full_leaves_nothing() {
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "4096"),
            ("sys/fs/cgroup/memory.current", "8192"),
        ];
        assert_eq!(available(&files), Some(0));
    }
}
