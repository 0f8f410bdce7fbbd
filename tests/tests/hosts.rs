//! Streams between hosts: each side in a network namespace of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests; a skip is said"
)]

use panta_tests::hosts::{CABLES, Hosts};
use panta_tests::stage::{Engine, Stage};

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
