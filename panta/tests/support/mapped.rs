//! What a process has mapped of the memory that streams share.

use std::collections::BTreeMap;

/// Bytes of large memory files that this process has mapped, each counted once.
pub(crate) fn shared_bytes() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut files = BTreeMap::new();
    for line in maps.lines().filter(|line| line.contains("/memfd:panta")) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (from, to) = fields[0].split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        let bytes = number(to) - number(from);
        if bytes >= 1 << 20 {
            files.insert(fields[4].to_owned(), bytes);
        }
    }
    files.values().sum()
}
