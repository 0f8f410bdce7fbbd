//! `panta doctor`, within this machine and between two that are namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use common::refused;
use serde_json::Value;

/// Runs `panta doctor` with `before` in front, as `ip netns exec NAME`.
fn doctor(before: &[&str], arguments: &[&str]) -> Command {
    let mut words = before.to_vec();
    words.extend([env!("CARGO_BIN_EXE_panta"), "doctor"]);
    words.extend(arguments);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdout(Stdio::piped());
    command
}

/// The lines of a run, as JSON; it must say nothing else.
fn lines(mut command: Command) -> Vec<Value> {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let failed = lines.iter().any(|line| line["state"] == "failed");
    assert_eq!(output.status.success(), !failed, "{text}");
    lines
}

fn find<'a>(lines: &'a [Value], what: &str) -> &'a Value {
    let found = lines.iter().find(|line| line["what"] == what);
    found.unwrap_or_else(|| panic!("no line on {what}: {lines:#?}"))
}

/// A line on a transport that moved bytes, all of them right.
fn moved(lines: &[Value], what: &str) {
    let line = find(lines, what);
    assert_eq!(line["state"], "ok", "{line}");
    assert_eq!(line["bytes"], 16 << 20, "{line}");
    assert!(line["gb_per_s"].as_f64().unwrap() > 0.0, "{line}");
}

/// Whether the lines on fabrics must be there: libfabric and its module are,
/// or else this says that they are not.
fn has_fabric(lines: &[Value], test: &str) -> bool {
    let there = lines.iter().any(|line| {
        let what = line["what"].as_str().unwrap();
        what.starts_with("transport rdma over")
    });
    if !there {
        assert!(std::env::var_os("PANTA_CI").is_none(), "{test}: {lines:#?}");
        eprintln!(
            "skipped: the fabrics of {test}: {}",
            find(lines, "transport rdma")
        );
    }
    there
}

#[test]
fn every_transport_of_this_machine_is_proven_by_a_transfer() {
    let lines = lines(doctor(&[], &["--json"]));
    for what in [
        "processor",
        "memory",
        "shared memory",
        "/dev/shm",
        "open files",
        "interface lo",
    ] {
        assert_eq!(find(&lines, what)["state"], "ok", "{what}");
    }
    moved(&lines, "transport shm");
    moved(&lines, "transport tcp");
    if has_fabric(&lines, "every_transport") {
        moved(&lines, "transport rdma over tcp;ofi_rxm");
        moved(&lines, "transport rdma over shm");
    }
}

#[test]
fn the_table_is_aligned_and_says_the_same() {
    let output = doctor(&[], &[]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let head = text.lines().next().unwrap();
    let column = head.find("state").unwrap();
    for line in text.lines().skip(1) {
        let state = line[column..].split_whitespace().next().unwrap();
        assert!(["ok", "missing", "failed"].contains(&state), "{line}");
        assert!(line.is_ascii(), "{line}");
    }
}

#[test]
fn a_ticket_that_is_none_is_used_wrongly() {
    let directory = tempfile::tempdir().unwrap();
    let error = refused(directory.path(), 2, &["doctor", "--connect", "nonsense"]);
    assert!(error.contains("panta doctor --serve"), "{error}");
}

#[test]
fn a_service_that_nobody_comes_to_ends_and_says_so() {
    let output = doctor(&[], &["--serve", "--wait", "100ms"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}

/// A namespace of the network, with one end of a cable in it.
struct Host {
    name: String,
    interface: String,
}

impl Host {
    fn enter(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // What cannot be removed now goes with the machine.
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output();
    let output = output.map_err(|error| format!("ip is not installed: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Two hosts with a cable between them.
fn hosts() -> Result<[Host; 2], String> {
    let id = std::process::id();
    let host = |end: char| Host {
        name: format!("panta-{id}-{end}"),
        interface: format!("p{id}{end}"),
    };
    let hosts = [host('a'), host('b')];
    for host in &hosts {
        ip(&["netns", "add", &host.name])?;
    }
    let [a, b] = &hosts;
    let cable = [
        "link",
        "add",
        &a.interface,
        "type",
        "veth",
        "peer",
        "name",
        &b.interface,
    ];
    ip(&cable)?;
    for (host, address) in hosts.iter().zip(["10.203.0.1/24", "10.203.0.2/24"]) {
        ip(&["link", "set", &host.interface, "netns", &host.name])?;
        ip(&[
            "-n",
            &host.name,
            "address",
            "add",
            address,
            "dev",
            &host.interface,
        ])?;
        ip(&["-n", &host.name, "link", "set", &host.interface, "up"])?;
        ip(&["-n", &host.name, "link", "set", "lo", "up"])?;
    }
    Ok(hosts)
}

/// Ended with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn two_hosts_try_their_transports_with_one_line_and_its_key_is_good_once() {
    let [a, b] = match hosts() {
        Ok(hosts) => hosts,
        Err(why) => {
            assert!(std::env::var_os("PANTA_CI").is_none(), "{why}");
            eprintln!("skipped: two hosts: namespaces of the network cannot be had: {why}");
            return;
        }
    };
    let serve = ["--serve", "--interface", &a.interface];
    let mut serving = Running(doctor(&a.enter(), &serve).spawn().unwrap());
    let mut line = String::new();
    let mut output = BufReader::new(serving.0.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let (_, order) = line.trim().split_once("panta doctor ").unwrap();
    let mut connect: Vec<&str> = order.split(' ').collect();
    connect.push("--json");
    let said = lines(doctor(&b.enter(), &connect));
    moved(&said, "transport tcp");
    if has_fabric(&said, "two_hosts") {
        moved(&said, "transport rdma over tcp;ofi_rxm");
    }
    assert!(
        serving.0.wait().unwrap().success(),
        "it ends when the other has gone"
    );
    let again = lines(doctor(&b.enter(), &connect));
    assert_eq!(find(&again, "transport tcp")["state"], "failed");
}
