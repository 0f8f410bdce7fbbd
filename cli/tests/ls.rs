//! What `panta ls` says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{panta, refused, said, write_everything, write_steps};
use panta::{Solo, Writer};
use serde_json::Value;

#[test]
fn every_kind_of_variable_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    write_everything(directory.path());
    let expected = "\
file:run.panta  closed, 3 steps (0 to 2), time 0 to 0.5, 3.1 KiB

variable  dtype       kind                         shape  dims           unit                   min                   max  steps  blocks
u         f64         global array                 4×5×6  z,y,x          K                        0                  2345      3       2
flags     bool        global array                 3      -              -                        0                     1      3       1
phase     complex128  global array                 2      -              -                        -                     -      3       1
cells     i32         local array                  ?×?    -              -                       -1                     2      3       2
rows      f32         joined array along particle  4×2    particle,axis  -                      0.1                   0.5      3       2
count     u64         global value                 -      -              -     18446744073709551613  18446744073709551615      3       1
loads     u8          local value                  2      -              -                        0                     3      3       2
note      string      global value                 -      -              -                        -                     -      3       1
";
    assert_eq!(said(directory.path(), &["ls", "file:run.panta"]), expected);
    // A name means the file of that name.
    let by_name = said(directory.path(), &["ls", "run"]);
    assert_eq!(
        by_name.lines().skip(1).collect::<Vec<_>>(),
        expected.lines().skip(1).collect::<Vec<_>>()
    );
}

#[test]
fn the_long_list_has_attributes_and_every_step() {
    let directory = tempfile::tempdir().unwrap();
    write_everything(directory.path());
    let long = said(directory.path(), &["ls", "run", "--long"]);
    for line in [
        "u:scale    2.5",
        "title      \"everything\"",
        "tags       [\"a\",\"b\"]",
    ] {
        assert!(long.contains(line), "{line} in {long}");
    }
    let steps = long
        .lines()
        .filter(|line| line.contains("cells:2 count:1 flags:1"));
    assert_eq!(steps.count(), 3, "{long}");
}

#[test]
fn json_holds_the_same() {
    let directory = tempfile::tempdir().unwrap();
    write_everything(directory.path());
    let said = said(directory.path(), &["ls", "run", "--json", "--long"]);
    let listing: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(listing["state"], "closed");
    assert_eq!(listing["engine"], "file");
    assert_eq!(listing["steps"]["count"], 3);
    assert_eq!(listing["steps"]["list"][2]["time"], 0.5);
    assert_eq!(listing["steps"]["list"][2]["blocks"]["u"], 2);
    assert_eq!(listing["attributes"]["tags"], serde_json::json!(["a", "b"]));
    let u = &listing["variables"][0];
    assert_eq!(u["shape"], serde_json::json!([4, 5, 6]));
    assert_eq!(
        (u["min"].as_f64(), u["max"].as_f64()),
        (Some(0.0), Some(2345.0))
    );
    assert_eq!(u["attributes"]["scale"], 2.5);
    assert_eq!(listing["variables"][5]["max"], u64::MAX);
    assert_eq!(listing["variables"][7]["value"], "step says \"hé\"");
}

#[test]
fn a_stream_that_is_written_is_live_and_one_whose_writer_died_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file:{}", directory.path().join("run.panta").display());
    let mut out = Writer::open(&url, Solo).unwrap();
    let live = said(directory.path(), &["ls", "run"]);
    assert_eq!(live, "run  live, no steps\n");
    write_steps(&mut out);
    let live = said(directory.path(), &["ls", "run"]);
    assert!(live.starts_with("run  live, 3 steps"), "{live}");
    let died = std::thread::spawn(move || {
        let _out = out;
        panic!("the writer dies, as it should here");
    });
    died.join().unwrap_err();
    let lost = said(directory.path(), &["ls", "run"]);
    assert!(lost.starts_with("run  writer lost, 3 steps"), "{lost}");
}

#[test]
fn what_is_not_there_is_said_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let error = refused(path, 1, &["ls", "file:nothing.panta"]);
    assert!(error.contains("there is no file nothing.panta"), "{error}");
    let error = refused(path, 1, &["ls", "fil:run.panta"]);
    assert!(error.contains("did you mean `file:`"), "{error}");
    let error = refused(path, 1, &["ls", "file:run.panta?verfy=get"]);
    assert!(
        error.contains("`verfy`") && error.contains("`verify`"),
        "{error}"
    );
    refused(path, 2, &["ls"]);
    refused(path, 2, &["ls", "run", "--loong"]);
}

#[test]
fn every_command_has_help_with_examples() {
    let directory = tempfile::tempdir().unwrap();
    for command in ["ls", "show", "copy", "plot", "bench"] {
        let help = said(directory.path(), &[command, "--help"]);
        assert!(help.contains("Examples:"), "{command}: {help}");
    }
    assert!(panta(directory.path(), &["--version"]).status.success());
}
