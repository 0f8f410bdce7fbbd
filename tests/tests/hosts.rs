//! Streams between hosts: each side in a network namespace of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests; a skip is said"
)]

use std::path::Path;

use panta_tests::fabric;
use panta_tests::hosts::{CABLES, Hosts};
use panta_tests::stage::{Engine, Stage};
use panta_transports::channel::Key;

const PROGRAM: &str = env!("CARGO_BIN_EXE_panta-scenario");

/// Hosts and a stage, or the name of what is missing: a failure where all tools must be.
fn hosts() -> Option<(Hosts, Stage)> {
    match Hosts::new() {
        Ok(hosts) => Some((hosts, Stage::new(Engine::Stream("auto"), PROGRAM))),
        Err(why) if std::env::var_os("PANTA_CI").is_none() => {
            eprintln!("skipped: no hosts of our own: {why}");
            None
        }
        Err(why) => panic!("no hosts of our own, and PANTA_CI is set: {why}"),
    }
}

/// So many ranks on one host.
fn ranks(hosts: &Hosts, host: usize, count: usize) -> Vec<Vec<String>> {
    vec![hosts.prefix(host); count]
}

/// The same, started in a directory of their own, with a copy of the stream's key and
/// nothing else.
fn ranks_in(directory: &Path, key: &Path, hosts: &Hosts, host: usize) -> Vec<Vec<String>> {
    std::fs::create_dir(directory).unwrap();
    std::fs::copy(key, directory.join("run.key")).unwrap();
    let chdir = ["env", "-C", directory.to_str().unwrap()].map(str::to_owned);
    vec![[hosts.prefix(host), chdir.to_vec()].concat(); 2]
}

/// The network of a cable.
fn network(cable: usize) -> String {
    format!("{}.0/24", CABLES[cable].1)
}

#[test]
fn two_hosts_couple_over_tcp_and_say_why_it_is_not_shared_memory() {
    let Some((hosts, mut stage)) = hosts() else {
        return;
    };
    let url = stage.url_with("apart", &format!("interface={}", network(0)));
    let steps = [("steps", 10)];
    stage.start_on(&ranks(&hosts, 0, 2), "apart::asked_writer", &url, &steps);
    let reader = stage.start_on(&ranks(&hosts, 1, 3), "apart::asked_reader", &url, &steps);
    for said in stage.all_heard(reader, "by ") {
        assert!(said.starts_with("tcp"), "{said}");
        assert!(said.contains("host") || said.contains("node"), "{said}");
    }
    stage.all_ended();
}

#[test]
fn ranks_of_one_group_on_two_hosts_agree_and_are_read_from_both() {
    let Some((hosts, mut stage)) = hosts() else {
        return;
    };
    let url = stage.url_with("spread", &format!("interface={}", network(1)));
    let spread = [ranks(&hosts, 0, 2), ranks(&hosts, 1, 2)].concat();
    let steps = [("steps", 10)];
    stage.start_on(&spread, "apart::asked_writer", &url, &steps);
    stage.start_on(&ranks(&hosts, 0, 2), "apart::asked_reader", &url, &steps);
    stage.start_on(&ranks(&hosts, 1, 1), "apart::asked_reader", &url, &steps);
    stage.all_ended();
}

#[test]
fn an_interface_is_chosen_by_name_too() {
    let Some((hosts, mut stage)) = hosts() else {
        return;
    };
    let url = stage.url_with("named", &format!("interface={}", CABLES[1].0));
    let steps = [("steps", 3)];
    stage.start_on(&ranks(&hosts, 0, 1), "apart::asked_writer", &url, &steps);
    hosts.plug(0, false);
    stage.start_on(&ranks(&hosts, 1, 1), "apart::asked_reader", &url, &steps);
    stage.all_ended();
}

#[test]
fn of_two_networks_the_one_that_works_is_taken() {
    let Some((hosts, mut stage)) = hosts() else {
        return;
    };
    let both = format!("interface={},{}", network(0), network(1));
    let url = stage.url_with("both", &both);
    let steps = [("steps", 3)];
    let writer = stage.start_on(&ranks(&hosts, 0, 1), "apart::asked_writer", &url, &steps);
    stage.all_heard(writer, "opened");
    hosts.plug(0, false);
    stage.start_on(&ranks(&hosts, 1, 1), "apart::asked_reader", &url, &steps);
    stage.all_ended();
}

#[test]
fn shared_memory_asked_for_between_hosts_is_an_error() {
    let Some((hosts, mut stage)) = hosts() else {
        return;
    };
    let here = format!("interface={}", network(0));
    let steps = [("steps", 1), ("told", 1)];
    let url = stage.url_with("forced", &format!("{here}&rendezvous=0"));
    let writer = stage.start_on(&ranks(&hosts, 0, 1), "apart::asked_writer", &url, &steps);
    stage.all_heard(writer, "opened");
    let url = stage.url_with("forced", &format!("{here}&deadline=5s"));
    let url = url.replace("transport=auto", "transport=shm");
    let reader = stage.start_on(&ranks(&hosts, 1, 1), "apart::refused_reader", &url, &[]);
    let said = stage.heard(reader, 0, "refused ");
    assert!(said.contains("shm"), "{said}");
    stage.all_ended();
}

#[test]
fn a_writer_that_listens_on_loopback_only_is_out_of_reach_and_the_error_says_so() {
    let Some((hosts, mut stage)) = hosts() else {
        return;
    };
    let url = stage.url_with("inside", "rendezvous=0&deadline=5s");
    let steps = [("steps", 2), ("told", 1)];
    let writer = stage.start_on(&ranks(&hosts, 0, 1), "apart::asked_writer", &url, &steps);
    stage.all_heard(writer, "opened");
    let reader = stage.start_on(&ranks(&hosts, 1, 1), "apart::refused_reader", &url, &[]);
    let said = stage.heard(reader, 0, "refused ");
    assert!(said.contains("127.0.0.1"), "{said}");
    assert!(said.contains("interface"), "{said}");
    stage.tell_all(writer, "on");
    stage.all_ended();
}

#[test]
fn an_interface_that_is_not_there_is_an_error_that_names_those_that_are() {
    let Some((hosts, mut stage)) = hosts() else {
        return;
    };
    let url = stage.url_with("nowhere", "interface=infiniband7");
    let writer = stage.start_on(&ranks(&hosts, 0, 1), "apart::refused_writer", &url, &[]);
    let said = stage.heard(writer, 0, "refused ");
    assert!(
        said.contains("infiniband7") && said.contains("west"),
        "{said}"
    );
    stage.all_ended();
}

#[test]
fn a_cable_that_is_pulled_holds_neither_side_beyond_the_lease() {
    let Some((hosts, mut stage)) = hosts() else {
        return;
    };
    let query = format!("interface={}&lease=2s&deadline=20s", network(0));
    let url = stage.url_with("pulled", &query);
    // More steps than are kept for a reader that does not take them.
    let steps = [("steps", 12), ("told", 1)];
    let writer = stage.start_on(&ranks(&hosts, 0, 1), "apart::asked_writer", &url, &steps);
    let lost = [("steps", 12), ("lost", 1)];
    let reader = stage.start_on(&ranks(&hosts, 1, 1), "apart::asked_reader", &url, &lost);
    stage.heard(reader, 0, "by tcp");
    hosts.plug(0, false);
    for _ in 1..12 {
        stage.tell_all(writer, "on");
    }
    stage.heard(reader, 0, "lost after ");
    stage.all_ended();
}

#[test]
fn two_hosts_without_a_common_directory_meet_at_an_address() {
    let Some((hosts, mut stage)) = hosts() else {
        return;
    };
    let key = stage.directory().join("key");
    Key::load_or_create(&key).unwrap();
    let place = |side: &str| stage.directory().join(side);
    let writers = ranks_in(&place("writers"), &key, &hosts, 0);
    let readers = ranks_in(&place("readers"), &key, &hosts, 1);
    let steps = [("steps", 10)];
    // The writer's own address, and all that it has; in the second case the reader comes first.
    for (number, listen) in [hosts.address(0, 0), String::new()].into_iter().enumerate() {
        let port = 7400 + number;
        let query = "key=run.key&deadline=40s";
        let url = format!("stream:far@{listen}:{port}?{query}");
        let read = format!("stream:far@{}:{port}?{query}", hosts.address(0, 0));
        let reader = match listen.is_empty() {
            true => stage.start_on(&readers, "apart::asked_reader", &read, &steps),
            false => {
                let writer = stage.start_on(&writers, "apart::asked_writer", &url, &steps);
                stage.all_heard(writer, "opened");
                stage.start_on(&readers, "apart::asked_reader", &read, &steps)
            }
        };
        if listen.is_empty() {
            stage.start_on(&writers, "apart::asked_writer", &url, &steps);
        }
        for said in stage.all_heard(reader, "by ") {
            assert!(said.starts_with("tcp"), "{said}");
        }
        stage.all_ended();
    }
}

#[test]
fn two_hosts_couple_over_a_fabric_that_is_bound_to_the_interface() {
    let Some((hosts, mut stage)) = hosts() else {
        return;
    };
    if !fabric::is_there("two_hosts_couple_over_a_fabric", PROGRAM) {
        return;
    }
    for cable in [0, 1] {
        let query = format!("interface={}&fabric={}", network(cable), fabric::PROVIDER);
        let url = stage.url_with(&format!("fabric-{cable}"), &query);
        let url = url.replace("transport=auto", "transport=rdma");
        let steps = [("steps", 5)];
        stage.start_on(&ranks(&hosts, 0, 2), "apart::asked_writer", &url, &steps);
        let reader = stage.start_on(&ranks(&hosts, 1, 2), "apart::asked_reader", &url, &steps);
        for said in stage.all_heard(reader, "by ") {
            assert!(said.starts_with("rdma"), "{said}");
            let address = format!("writer at {}.1", CABLES[cable].1);
            assert!(said.contains(&address), "{said}");
        }
        stage.all_ended();
    }
}
