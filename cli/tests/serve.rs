//! A server that the command runs, and the other commands through it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{refused, said, write_everything, write_steps};
use panta::{Reader, Solo, Start, Writer};

/// A server; killed if the test fails before it ends it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server and gives the URL of a stream on it.
fn serve(directory: &Path, more: &[&str]) -> (Server, String) {
    let mut server = Command::new(env!("CARGO_BIN_EXE_panta"))
        .args(["serve", "--listen", "127.0.0.1:0", "--key", "the key"])
        .args(more)
        .current_dir(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let said = line.trim_end().strip_prefix("serving at ");
    let Some((address, key)) = said.and_then(|said| said.split_once(", key in ")) else {
        let mut error = String::new();
        server
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut error)
            .unwrap();
        panic!("{line}{error}")
    };
    let key = directory.join(key);
    let url = format!("staging:run@{address}?key={}", key.display());
    (Server(server), url)
}

fn signal(server: &Server, name: &str) {
    let sent = Command::new("kill")
        .args([name, &server.0.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

#[test]
fn streams_on_a_server_are_listed_shown_and_copied_like_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut server, url) = serve(path, &["--limit", "64MiB"]);
    assert!(url.starts_with("staging:run@127.0.0.1:"), "{url}");
    write_everything(path);
    said(path, &["copy", "run", &url]);
    let listing = said(path, &["ls", &url]);
    assert!(
        listing.contains("closed, 3 steps (0 to 2), time 0 to 0.5, 3.1 KiB"),
        "{listing}"
    );
    let without_head = |text: String| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        without_head(listing),
        without_head(said(path, &["ls", "run"]))
    );
    for arguments in [
        &["u"][..],
        &["u", "--step", "1", "--slice", "z=1,x=::2"],
        &["cells", "--block", "1"],
        &["note"],
    ] {
        let here = said(path, &[&["show", &url], arguments].concat());
        assert_eq!(here, said(path, &[&["show", "run"], arguments].concat()));
    }
    let error = refused(path, 1, &["show", &url, "u", "--step", "7"]);
    assert!(error.contains("the oldest is 0, the newest 2"), "{error}");
    // And back, into a file again.
    said(path, &["copy", &url, "file:back.panta"]);
    let same = |name: &str| without_head(said(path, &["ls", name]));
    assert_eq!(same("back"), same("run"));
    signal(&server, "-TERM");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_stream_that_is_written_on_a_server_is_live() {
    let directory = tempfile::tempdir().unwrap();
    let (mut server, url) = serve(directory.path(), &[]);
    let mut out = Writer::open(&url, Solo).unwrap();
    write_steps(&mut out);
    let live = said(directory.path(), &["ls", &url]);
    assert!(live.contains("  live, 3 steps"), "{live}");
    out.close().unwrap();
    let closed = said(directory.path(), &["ls", &url]);
    assert!(closed.contains("  closed, 3 steps"), "{closed}");
    let other = Writer::open(&url.replace("staging:run@", "staging:other@"), Solo).unwrap();
    let servers = url.replace("staging:run@", "staging:@");
    let streams = said(directory.path(), &["ls", &servers]);
    let words = |line: usize| {
        streams
            .lines()
            .nth(line)
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        words(1)[..6],
        ["other", "live", "1", "0", "-", "-"],
        "{streams}"
    );
    assert_eq!(
        words(2)[..6],
        ["run", "closed", "1", "3", "0", "2"],
        "{streams}"
    );
    other.close().unwrap();

    // To look at steps that are dealt out is to take none.
    let dealt = url.replace("staging:run@", "staging:dealt@");
    let mut out = Writer::open(
        &format!("{dealt}&distribution=on-demand&precious_first=true"),
        Solo,
    )
    .unwrap();
    write_steps(&mut out);
    for _ in 0..2 {
        let glance = said(directory.path(), &["ls", &dealt]);
        let words: Vec<_> = glance.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            words[..6],
            ["dealt", "live", "1", "3", "1", "2"],
            "{glance}"
        );
        assert_eq!(words[7..], ["0", "on-demand"], "{glance}");
    }
    for arguments in [
        &["show", &dealt, "u"][..],
        &["show", &dealt, "u", "--step", "1"],
        &["plot", &dealt, "u", "--slice", "z=1", "-o", "u.png"],
        &["copy", &dealt, "copied"],
    ] {
        let error = refused(directory.path(), 1, arguments);
        assert!(error.contains("distribution=on-demand"), "{error}");
        assert_eq!(error.contains("--take"), arguments[0] == "copy", "{error}");
    }
    let mut inp = Reader::open(&dealt, Solo, Start::Oldest).unwrap();
    for number in 0..2 {
        assert_eq!(inp.next_step().unwrap().unwrap().number(), number);
    }
    out.close().unwrap();
    // What is left goes to who says that it takes it.
    said(directory.path(), &["copy", &dealt, "taken", "--take"]);
    let taken = said(directory.path(), &["ls", "taken"]);
    assert!(taken.contains("closed, 2 steps"), "{taken}");
    assert!(inp.next_step().unwrap().is_none());
    let (_, key) = url.split_once('?').unwrap();
    let nobody = format!("staging:@127.0.0.1:1?{key}&deadline=100ms");
    let nobody = refused(directory.path(), 1, &["ls", &nobody]);
    assert!(nobody.contains("127.0.0.1:1"), "{nobody}");
    signal(&server, "-INT");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let key = ["--key", "key"];
    let bad = |code, arguments: &[&str], part: &str| {
        let error = refused(path, code, &[&["serve"], &key[..], arguments].concat());
        assert!(error.contains(part), "{arguments:?}: {error}");
    };
    bad(2, &["--listen", "here"], "--listen");
    bad(
        2,
        &[
            "--listen",
            "127.0.0.1:1",
            "--servers",
            "127.0.0.1:2,127.0.0.1:3",
        ],
        "--server",
    );
    bad(2, &["--limit", "much"], "--limit");
    let (_server, url) = serve(path, &[]);
    let taken = url.split(['@', '?']).nth(1).unwrap();
    bad(1, &["--listen", taken], taken);
}
