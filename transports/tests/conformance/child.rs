//! Processes that die or stop: this test, started again with a role.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use panta_transports::coupling::{Peer, PieceRef, Ticket, TransportName, Urgency};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::*;

const ROLE: &str = "PANTA_CONFORMANCE_ROLE";

/// What an endpoint in a child exposes.
pub(crate) const EXPOSED_BYTES: usize = 64 << 20;

/// A child, killed when dropped.
pub(crate) struct Child {
    process: std::process::Child,
    /// What it said once it was ready.
    pub(crate) said: String,
}

impl Child {
    fn start(role: &str, transport: TransportName, lease: Duration, ticket: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::child", "--nocapture"])
            .env(ROLE, role)
            .env("PANTA_CONFORMANCE_TRANSPORT", transport.name())
            .env("PANTA_CONFORMANCE_LEASE_MS", lease.as_millis().to_string())
            .env("PANTA_CONFORMANCE_TICKET", ticket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let said = lines
            .find_map(|line| line.strip_prefix("child: ").map(str::to_owned))
            .expect("the child ended before it was ready");
        // The rest of its output is nobody's: it must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, said }
    }

    /// A peer of this endpoint.
    pub(crate) fn peer(role: &str, side: &Side, transport: TransportName, lease: Duration) -> Self {
        Self::start(role, transport, lease, &hex(&side.ticket().to_bytes()))
    }

    /// An endpoint, its ticket, and what it exposes.
    pub(crate) fn endpoint(transport: TransportName, lease: Duration) -> (Self, Ticket, PieceRef) {
        let child = Self::start("endpoint", transport, lease, "");
        let mut words = child.said.split(' ');
        let mut word = || words.next().unwrap();
        let ticket = Ticket::from_bytes(&unhex(word())).unwrap();
        let piece = PieceRef {
            region: word().parse().unwrap(),
            offset: word().parse().unwrap(),
            bytes: EXPOSED_BYTES as u64,
        };
        (child, ticket, piece)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends it as it likes: its input is closed.
    pub(crate) fn finish(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

fn until_input_ends() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Runs a test in a process of its own: libfabric 1.17 does not bear that many
/// endpoints of one process come and go at once.
pub(crate) fn alone_with_fabric(test: &str, scenario: impl FnOnce()) {
    const ALONE: &str = "PANTA_CONFORMANCE_ALONE";
    if !use_fabric(test) {
        return;
    }
    if std::env::var_os(ALONE).is_some() {
        return scenario();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let variable = |name: &str| std::env::var(format!("PANTA_CONFORMANCE_{name}")).unwrap();
    let transport = match variable("TRANSPORT").as_str() {
        "shm" => TransportName::Shm,
        "tcp" => TransportName::Tcp,
        _ => {
            assert!(use_fabric("a child"));
            TransportName::Rdma
        }
    };
    let lease = Duration::from_millis(variable("LEASE_MS").parse().unwrap());
    if role == "endpoint" {
        return endpoint(lease);
    }
    let ticket = Ticket::from_bytes(&unhex(&variable("TICKET"))).unwrap();
    let mut options = options(transport);
    options.lease = lease;
    options.hello = role.clone().into_bytes();
    let peer = Peer::connect(&ticket, &options, &wait()).unwrap();
    println!("child: ready");
    match role.as_str() {
        "idle" => until_input_ends(),
        "read" => read_for_ever(&peer),
        "send" => send_for_ever(&peer),
        other => panic!("no role {other}"),
    }
}

fn endpoint(lease: Duration) {
    let side = Side::open(|options| options.lease = lease);
    let extent = side.extent(EXPOSED_BYTES, 8);
    let ticket = hex(&side.ticket().to_bytes());
    println!("child: {ticket} {} {}", extent.region(), extent.offset());
    until_input_ends();
}

fn read_for_ever(peer: &Peer) {
    // The first message says what to read.
    let mut said = Vec::new();
    peer.receive(&mut said, &wait()).unwrap();
    let text = String::from_utf8(said).unwrap();
    let (region, offset) = text.split_once(' ').unwrap();
    let pieces = [PieceRef {
        region: region.parse().unwrap(),
        offset: offset.parse().unwrap(),
        bytes: EXPOSED_BYTES as u64,
    }];
    loop {
        let mut memory = memory_for(&pieces);
        peer.read(&mut to_fill(&pieces, &mut memory), &wait())
            .unwrap();
        let read = pieces[0].bytes.to_le_bytes();
        peer.send(&[&read], Urgency::Now, &wait()).unwrap();
    }
}

fn send_for_ever(peer: &Peer) {
    for number in 0_u64.. {
        let message = pattern(50_000, number);
        let head = number.to_le_bytes();
        peer.send(&[&head, &message], Urgency::Now, &wait())
            .unwrap();
    }
}
