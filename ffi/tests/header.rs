//! `include/panta.h` is made from this crate, and stands in the repository as
//! it is made: its functions and structs cannot differ from the library's.
//!
//! `PANTA_WRITE_HEADER=1 cargo test -p panta-ffi --test header` writes it anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};

/// In the order in which their functions appear in the header.
const SOURCES: [&str; 14] = [
    "types",
    "version",
    "failed",
    "interrupts",
    "comm",
    "writer",
    "put",
    "define",
    "reader",
    "progress",
    "counts",
    "step",
    "get",
    "caller",
];

fn part(name: &str) -> String {
    std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("header")
            .join(name),
    )
    .unwrap()
}

fn generate() -> String {
    let version = part("version.h")
        .replace("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR"))
        .replace("@MINOR@", env!("CARGO_PKG_VERSION_MINOR"))
        .replace("@PATCH@", env!("CARGO_PKG_VERSION_PATCH"));
    let config = Config {
        header: Some(part("prologue.h")),
        after_includes: Some(version),
        trailer: Some(part("makers.h")),
        include_guard: Some("PANTA_H".into()),
        language: Language::C,
        style: Style::Type,
        cpp_compat: true,
        no_includes: true,
        sys_includes: ["math.h", "stddef.h", "stdint.h", "string.h"]
            .map(String::from)
            .to_vec(),
        documentation_style: DocumentationStyle::Doxy,
        usize_is_size_t: true,
        line_length: 80,
        tab_width: 4,
        ..Config::default()
    };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut builder = Builder::new().with_config(config);
    for name in SOURCES {
        builder = builder.with_src(sources.join(name).with_extension("rs"));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    String::from_utf8(header).unwrap()
}

#[test]
fn the_header_in_the_repository_is_the_one_that_the_source_makes() {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/panta.h");
    let made = generate();
    if std::env::var_os("PANTA_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap();
    assert!(
        made == there,
        "include/panta.h is not what the source makes; write it with PANTA_WRITE_HEADER=1"
    );
}

/// A source that is read twice, as its module and on its own, gives all functions twice.
#[test]
fn every_function_is_declared_once() {
    let header = generate();
    let mut names: Vec<&str> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '*', '#', '}']))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("panta_"))
        .collect();
    assert!(names.contains(&"panta_put"), "{names:?}");
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|two| two[0] == two[1]).collect();
    assert!(twice.is_empty(), "declared more than once: {twice:?}");
}
