//! Whatever can be done from C can be done from C++, Fortran and Python, but for what is
//! listed here with its reason.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::here;

fn read(path: &str) -> String {
    std::fs::read_to_string(here().join("..").join(path)).unwrap()
}

/// The functions of `panta.h` that the library exports.
fn functions() -> Vec<String> {
    let header = read("include/panta.h");
    let declarations = header.split("#ifndef PANTA_MAKERS_H").next().unwrap();
    let names: Vec<String> = declarations
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '*', '#', '}']))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("panta_"))
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 80, "{names:?}");
    names
}

/// Whether `name` stands in `text` as a word.
fn names(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word)
    })
}

#[test]
fn every_function_of_c_is_reached_from_cpp() {
    let parts = ["result", "view", "comm", "writer", "reader"];
    let text: String = parts
        .map(|part| read(&format!("include/panta/{part}.hpp")))
        .concat();
    let needless = [
        // panta_begin_step_of with 0 bytes does the same.
        "panta_begin_step",
        // So does a Comm that was made of nothing.
        "panta_comm_solo",
        // A Fault has the status.
        "panta_error_status",
        // Its messages speak of C++'s arguments already.
        "panta_explain",
        // panta_check_version asks it.
        "panta_require_version",
        "panta_version_number",
    ];
    for function in functions() {
        assert!(
            names(&text, &function) != needless.contains(&function.as_str()),
            "{function} is reached from panta.hpp, or listed as needless, but not both"
        );
    }
}

/// Where each function of C is in the stubs of the Python package: `Class.attribute`, or
/// why there is none.
const PYTHON: &[(&str, &str)] = &[
    ("panta_version", "__version__"),
    ("panta_require_version", "- the package holds its library"),
    ("panta_version_number", "- the package holds its library"),
    ("panta_comm_solo", "Comm.solo"),
    ("panta_comm_procs", "Comm.procs"),
    ("panta_comm_threads", "Comm.threads"),
    ("panta_comm_from_vtable", "_Communicator.allgather"),
    ("panta_comm_close", "- let go of with its object"),
    ("panta_writer_open", "Writer.__new__"),
    ("panta_writer_close", "_Handle.close"),
    ("panta_writer_set_deadline", "Writer.set_deadline"),
    ("panta_begin_step", "Writer.step"),
    ("panta_begin_step_of", "Writer.step"),
    ("panta_describe_open_step", "WriterStep.epoch"),
    ("panta_is_discarded", "WriterStep.is_discarded"),
    ("panta_end_step", "WriterStep.end"),
    ("panta_abort_step", "WriterStep.abort"),
    ("panta_writer_engine", "_Handle.engine"),
    ("panta_writer_group", "_Handle.rank"),
    ("panta_put", "WriterStep.put"),
    ("panta_put_copied", "- numpy's copy() does"),
    ("panta_fail_step", "- a put that failed does"),
    ("panta_put_owned", "- put keeps the array alive"),
    ("panta_put_value", "WriterStep.put"),
    ("panta_put_text", "WriterStep.put"),
    ("panta_span", "WriterStep.span"),
    ("panta_define", "Writer.define"),
    ("panta_freeze_definitions", "Writer.freeze_definitions"),
    ("panta_set_shape", "Writer.set_shape"),
    ("panta_set_attribute_i64", "Writer.set_attribute"),
    ("panta_set_attribute_u64", "Writer.set_attribute"),
    ("panta_set_attribute_f64", "Writer.set_attribute"),
    ("panta_set_attribute_text", "Writer.set_attribute"),
    ("panta_set_attribute_i64s", "Writer.set_attribute"),
    ("panta_set_attribute_u64s", "Writer.set_attribute"),
    ("panta_set_attribute_f64s", "Writer.set_attribute"),
    ("panta_set_attribute_texts", "Writer.set_attribute"),
    ("panta_reader_open", "Reader.__new__"),
    ("panta_reader_close", "_Handle.close"),
    ("panta_next_step", "Reader.next_step"),
    ("panta_wait_fd", "_Handle.fileno"),
    ("panta_commit", "Reader.commit"),
    ("panta_freeze_selections", "Reader.freeze_selections"),
    ("panta_reader_engine", "_Handle.engine"),
    ("panta_reader_group", "_Handle.rank"),
    ("panta_progress", "_Handle.progress"),
    ("panta_writer_wait_fd", "_Handle.fileno"),
    ("panta_writer_copies", "_Handle.copies"),
    ("panta_reader_copies", "_Handle.copies"),
    ("panta_writer_metadata_bytes", "_Handle.metadata_bytes"),
    ("panta_reader_metadata_bytes", "_Handle.metadata_bytes"),
    ("panta_reader_fetched_bytes", "Reader.fetched_bytes"),
    ("panta_reader_push_counts", "Reader.push_counts"),
    ("panta_step_detach", "Step.detach"),
    ("panta_step_close", "Step.close"),
    ("panta_step_describe", "Step.number"),
    ("panta_find_variable", "Step.__getitem__"),
    ("panta_variable_at", "Step.__iter__"),
    ("panta_block_at", "Variable.blocks"),
    ("panta_find_attribute", "Step.attributes"),
    ("panta_attribute_at", "Step.attributes"),
    ("panta_get_text", "Variable.value"),
    ("panta_get", "Variable.__getitem__"),
    ("panta_get_value", "Variable.value"),
    ("panta_selected", "- results have the shape"),
    ("panta_batch_open", "Step.get_many"),
    ("panta_batch_get", "Step.get_many"),
    ("panta_batch_finish", "Step.get_many"),
    ("panta_batch_close", "Step.get_many"),
    ("panta_view_open", "Variable.view"),
    ("panta_view_close", "- let go of with its array"),
    ("panta_interrupt", "_Handle.interrupt"),
    ("panta_clear_interrupt", "_Handle.clear_interrupt"),
    ("panta_interrupter_open", "- Ctrl-C ends an opening"),
    ("panta_interrupter_close", "- Ctrl-C ends an opening"),
    ("panta_fail", "- errors are exceptions"),
    ("panta_explain", "- errors are exceptions"),
    ("panta_status_name", "- errors are exceptions"),
    ("panta_error_status", "- errors are exceptions"),
    ("panta_error_message", "- errors are exceptions"),
    ("panta_error_stream", "- errors are exceptions"),
    ("panta_error_variable", "- errors are exceptions"),
    ("panta_error_step", "- errors are exceptions"),
    ("panta_error_rank", "- errors are exceptions"),
];

#[test]
fn every_function_of_c_is_reached_from_python() {
    let stubs = read("python/panta/_panta.pyi");
    let body_of = |class: &str| {
        let after = stubs.split(&format!("\nclass {class}")).nth(1);
        let after = after.unwrap_or_else(|| panic!("there is no class {class}"));
        after.split("\nclass ").next().unwrap()
    };
    for (function, place) in PYTHON {
        let is_there = match place.split_once('.') {
            Some((class, attribute)) if !place.starts_with('-') => {
                body_of(class).contains(&format!("def {attribute}("))
            }
            None if !place.starts_with('-') => names(&stubs, place),
            _ => true,
        };
        assert!(is_there, "{function}: the stubs have no {place}");
    }
    let mut listed: Vec<&str> = PYTHON.iter().map(|(function, _)| *function).collect();
    let mut there = functions();
    listed.sort_unstable();
    there.sort_unstable();
    assert_eq!(listed, there, "the table is not that of panta.h");
}
