//! One parser under libFuzzer; `scripts/fuzz` builds and runs it.
//!
//! `PANTA_FUZZ_TARGET` says which parser, `PANTA_FUZZ_SEEDS` a directory to
//! write valid inputs to, which libFuzzer then starts from. The rest of the
//! command line is libFuzzer's.
#![no_main]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a fuzzer fails by panicking"
)]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use panta_tests::fuzz::{Target, find};

fn target() -> &'static Target {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("PANTA_FUZZ_TARGET").expect("PANTA_FUZZ_TARGET");
        let target = find(&name).unwrap_or_else(|| panic!("there is no target `{name}`"));
        if let Ok(directory) = std::env::var("PANTA_FUZZ_SEEDS") {
            for (number, seed) in (target.seeds)().iter().enumerate() {
                std::fs::write(format!("{directory}/seed-{number}"), seed).unwrap();
            }
        }
        target
    })
}

fuzz_target!(
    init: {
        target();
    },
    |bytes: &[u8]| (target().run)(bytes)
);
