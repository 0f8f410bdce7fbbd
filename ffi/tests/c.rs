//! Uses `libpanta` as C and C++ programs do, and looks at what the library
//! exports and links.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::Command;

use support::{Workshop, built_library, check, here, run};

const C99: [&str; 3] = ["-std=c99", "-x", "c"];
const CPP17: [&str; 3] = ["-std=c++17", "-x", "c++"];

#[test]
fn header_and_library_agree_about_the_version() {
    let shop = Workshop::new();
    let version = [env!("CARGO_PKG_VERSION")];
    shop.runs("cc", &C99, "version.c", &version);
    shop.runs("c++", &CPP17, "version.c", &version);
}

/// A user's own flags must find nothing in what is included.
#[test]
fn the_headers_are_quiet_whatever_warnings_are_asked_for() {
    let shop = Workshop::new();
    let both = [
        "-Wconversion",
        "-Wsign-conversion",
        "-Wshadow",
        "-Wundef",
        "-Wcast-qual",
    ];
    let cpp = [
        "-std=c++17",
        "-Wold-style-cast",
        "-Wuseless-cast",
        "-Wdouble-promotion",
    ];
    let c = ["-std=c99", "-Wstrict-prototypes", "-Wmissing-prototypes"];
    for (compiler, flags, name, header) in [
        ("cc", &c[..], "alone.c", "panta.h"),
        ("c++", &cpp[..], "alone.cpp", "panta.hpp"),
    ] {
        let source = shop.path(name);
        let text = format!("#include <{header}>\nint main(void)\n{{\n    return 0;\n}}\n");
        std::fs::write(&source, text).unwrap();
        shop.compile(compiler, &[&both[..], flags].concat(), &source);
    }
}

#[test]
fn every_dtype_and_kind_comes_back_as_it_was_put_from_c() {
    let shop = Workshop::new();
    shop.runs("cc", &C99, "round.c", &[&shop.url("run.panta")]);
}

#[test]
fn misuse_from_c_is_an_error_by_name() {
    let shop = Workshop::new();
    shop.runs("cc", &C99, "misuse.c", &[&shop.url("run.panta")]);
}

#[test]
fn writers_go_on_and_readers_begin_where_their_options_say() {
    let shop = Workshop::new();
    shop.runs("cc", &C99, "resume.c", &[&shop.url("run.panta")]);
}

#[test]
fn many_streams_leave_nothing_behind_and_two_threads_on_one_handle_are_told_so() {
    let shop = Workshop::new();
    let flags = ["-std=gnu99", "-x", "c"];
    shop.runs("cc", &flags, "many.c", &[&shop.url("run.panta")]);
}

#[test]
fn steps_are_waited_for_in_a_poll_and_openings_are_interrupted() {
    let shop = Workshop::new();
    shop.runs("cc", &C99, "waiting.c", &[&shop.url("run.panta")]);
    for url in streams() {
        shop.runs("cc", &C99, "waiting.c", &[&url]);
    }
}

#[test]
fn the_child_of_a_fork_is_refused_and_spoils_nothing_of_its_parent() {
    let shop = Workshop::new();
    let flags = ["-std=gnu99", "-x", "c"];
    shop.runs("cc", &flags, "forked.c", &[&shop.url("run.panta")]);
    for transport in ["shm", "tcp"] {
        let url = format!("stream:{transport}?transport={transport}&rendezvous=0");
        shop.runs("cc", &flags, "forked.c", &[&url]);
    }
}

/// Streams between the threads of a program, over each transport; the writer is few steps
/// ahead of its reader, so that some come after it has asked for the like of them.
fn streams() -> [String; 2] {
    ["shm", "tcp"]
        .map(|transport| format!("stream:{transport}?transport={transport}&limit=1300KiB"))
}

#[test]
fn what_is_put_in_each_way_is_got_in_each_over_a_stream() {
    let shop = Workshop::new();
    for url in streams() {
        shop.runs("cc", &C99, "streaming.c", &[&url]);
    }
}

#[test]
fn a_library_older_than_the_header_is_refused_by_its_version() {
    let shop = Workshop::new();
    let header = std::fs::read_to_string(here().join("../include/panta.h")).unwrap();
    let newer = header.replace(
        "#define PANTA_VERSION_MAJOR 0",
        "#define PANTA_VERSION_MAJOR 77",
    );
    assert_ne!(newer, header);
    std::fs::write(shop.path("panta.h"), newer).unwrap();
    let source = shop.path("older.c");
    let text = include_str!("programs/older.c");
    std::fs::write(&source, text).unwrap();
    for (compiler, flags) in [("cc", C99), ("c++", CPP17)] {
        let include = format!("-I{}", shop.path("").display());
        let flags: Vec<&str> = [&[include.as_str()][..], &flags[..]].concat();
        if let Some(built) = shop.compile(compiler, &flags, &source) {
            check(&shop.command(built).output().unwrap(), "older.c");
        }
    }
}

#[test]
fn ranks_in_threads_and_behind_a_table_of_functions_write_together() {
    let shop = Workshop::new();
    shop.runs(
        "cc",
        &["-std=gnu99", "-x", "c"],
        "group.c",
        &[&shop.url("run.panta")],
    );
}

#[test]
fn every_struct_has_the_layout_that_the_library_gives_it() {
    let shop = Workshop::new();
    let source = shop.path("layout.c");
    std::fs::write(&source, support_layout::program()).unwrap();
    for (compiler, flags) in [("cc", C99), ("c++", CPP17)] {
        if let Some(built) = shop.compile(compiler, &flags, &source) {
            check(&shop.command(built).output().unwrap(), "layout.c");
        }
    }
}

#[test]
fn cpp_programs_write_and_read_with_exceptions_and_with_results() {
    let shop = Workshop::new();
    let url = shop.url("run.panta");
    shop.runs("c++", &["-std=c++17"], "throwing.cpp", &[&url]);
    shop.runs(
        "c++",
        &["-std=c++17", "-fno-exceptions"],
        "results.cpp",
        &[&url],
    );
}

/// Compiles a program of C and runs it under valgrind on a file and on streams.
fn clean_under_valgrind(program: &str, urls: &[String]) {
    let shop = Workshop::new();
    let source = here().join("tests/programs").join(program);
    let flags = ["-std=gnu99", "-g", "-x", "c"];
    if let Some(built) = shop.compile("cc", &flags, &source) {
        for url in urls {
            shop.is_clean_under_valgrind(&built, &[url]);
        }
    }
}

#[test]
fn a_round_touches_no_memory_it_should_not_and_loses_none() {
    clean_under_valgrind("round.c", &["file:run.panta".to_owned()]);
}

#[test]
fn misuse_touches_no_memory_it_should_not_and_loses_none() {
    clean_under_valgrind("misuse.c", &["file:run.panta".to_owned()]);
}

#[test]
fn coupled_threads_touch_no_memory_they_should_not_and_lose_none() {
    clean_under_valgrind("streaming.c", &streams());
}

#[test]
fn waits_and_interrupts_touch_no_memory_they_should_not_and_lose_none() {
    clean_under_valgrind("waiting.c", &streams());
}

#[test]
fn the_callers_memory_is_not_touched_outside_what_its_buffers_say() {
    let shop = Workshop::new();
    let flags = [
        "-std=gnu99",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    ];
    for program in [
        "round.c",
        "misuse.c",
        "group.c",
        "many.c",
        "resume.c",
        "waiting.c",
    ] {
        shop.runs("cc", &flags, program, &[&shop.url(program)]);
    }
    for url in streams() {
        shop.runs("cc", &flags, "streaming.c", &[&url]);
    }
}

#[test]
fn only_names_beginning_with_panta_are_exported() {
    let mut list = Command::new("nm");
    list.args(["--dynamic", "--defined-only", "--format=just-symbols"])
        .arg(built_library());
    let Some(output) = run(&mut list) else { return };
    check(&output, "nm");
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text.lines().collect();
    assert!(names.contains(&"panta_version"), "{names:?}");
    let foreign: Vec<_> = names
        .iter()
        .filter(|name| !name.starts_with("panta_"))
        .collect();
    assert!(foreign.is_empty(), "exported besides panta_*: {foreign:?}");
    let header = std::fs::read_to_string(here().join("../include/panta.h")).unwrap();
    let declared = |name: &&str| header.contains(&format!("{name}("));
    let silent: Vec<_> = names.iter().filter(|name| !declared(name)).collect();
    assert!(
        silent.is_empty(),
        "exported, but not in panta.h: {silent:?}"
    );
}

#[test]
fn the_library_has_its_public_name_and_links_no_mpi() {
    let mut list = Command::new("objdump");
    list.arg("--private-headers").arg(built_library());
    let Some(output) = run(&mut list) else { return };
    check(&output, "objdump");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let of = |kind: &str| -> Vec<String> {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with(kind));
        lines
            .map(|line| line[kind.len()..].trim().to_owned())
            .collect()
    };
    assert_eq!(of("SONAME"), ["libpanta.so.0"]);
    let needed = of("NEEDED");
    assert!(
        needed.iter().any(|name| name.starts_with("libc.so")),
        "{needed:?}"
    );
    for unwanted in ["mpi", "hdf5", "fabric"] {
        assert!(
            !needed.iter().any(|name| name.contains(unwanted)),
            "{needed:?}"
        );
    }
}

/// Writes a C program that compares sizes and offsets with those in Rust.
mod support_layout {
    use panta_c::types::*;
    use std::fmt::Write;
    use std::mem::offset_of;

    macro_rules! layouts {
        ($($name:ident { $($field:ident),* $(,)? })*) => {
            &[$((stringify!($name), size_of::<$name>(), &[
                $((stringify!($field), offset_of!($name, $field)),)*
            ]),)*]
        };
    }

    /// A struct's name, its size, and the offsets of its fields.
    type Layout = (&'static str, usize, &'static [(&'static str, usize)]);

    const LAYOUTS: &[Layout] = layouts! {
        panta_comm_vtable { size, context, rank, size_of_group, allgather, release }
        panta_writer_options { size, resume, reserved, resume_step, deadline_ms, interrupter, silence_ms }
        panta_reader_options { size, start, reserved, start_step, start_time, cursor, interrupter, silence_ms }
        panta_definition {
            size, name, dtype, kind, dimensions, joined_dimension, shape, dimension_names,
            unit, coordinates, coordinates_count, fill, chunk, absolute_accuracy,
            relative_accuracy,
        }
        panta_buffer {
            size, data, dtype, space, device, dimensions, count, strides_bytes,
        }
        panta_selection { size, block, dimensions, reserved, start, count, stride }
        panta_step_info { size, number, epoch, time, wall_clock_ns, variables, attributes }
        panta_sealed { size, step, discarded, reserved }
        panta_number { dtype, reserved, i64, u64, f64 }
        panta_stats { known, reserved, min, max, nans }
        panta_variable_info {
            size, name, dtype, kind, dimensions, joined_dimension, shape, dimension_names,
            unit, coordinates, coordinates_count, fill, chunk, blocks, stats,
            absolute_accuracy, relative_accuracy,
        }
        panta_block_info { size, rank, order, dimensions, reserved, start, count, stats }
        panta_attribute { size, variable, name, dtype, is_array, count, i64s, u64s, f64s, texts }
        panta_engine_info { size, engine, transport, why }
        panta_copies { size, bytes, calls }
        panta_push_counts { size, used, used_bytes, wasted, wasted_bytes }
    };

    pub(super) fn program() -> String {
        let mut text = String::from("#include <panta.h>\n#include <stddef.h>\nint main(void)\n{\n");
        for (name, size, fields) in LAYOUTS {
            writeln!(text, "if (sizeof({name}) != {size}) return 1;").unwrap();
            for (field, offset) in *fields {
                writeln!(text, "if (offsetof({name}, {field}) != {offset}) return 2;").unwrap();
            }
        }
        text.push_str("return 0;\n}\n");
        text
    }

    /// The sizes of the first version that programs were built against: they may grow,
    /// and never shrink.
    #[test]
    fn no_struct_has_shrunk_since_it_was_published() {
        let published = [
            40, 32, 40, 208, 288, 408, 56, 24, 32, 80, 296, 360, 72, 32, 24, 40,
        ];
        assert_eq!(LAYOUTS.len(), published.len());
        for ((name, size, _), published) in LAYOUTS.iter().zip(published) {
            assert!(*size >= published, "{name}: {size} bytes, once {published}");
        }
    }
}
