//! A target in a process of its own, and how tests and benches order it about.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "each user uses some of it"
)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use panta_transports::rdma::{
    Fabric, FabricAddress, FabricOptions, FabricServer, Progress, RemoteMemory,
};
use panta_transports::region::{Arena, ArenaOptions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

/// Names the provider to a process that is to be a target.
const ROLE: &str = "PANTA_TEST_FABRIC_TARGET";

/// Bytes of the one region that a target exposes.
pub(crate) const REGION_BYTES: usize = 40 << 20;

/// What lies at a place of the region.
pub(crate) fn value(at: usize) -> u8 {
    ((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8
}

/// Options that stay on this machine.
pub(crate) fn options(provider: &str) -> FabricOptions {
    FabricOptions {
        node: provider.starts_with("tcp").then(|| "127.0.0.1".to_owned()),
        ..FabricOptions::with_provider(provider)
    }
}

/// A running target.
pub(crate) struct Target {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub(crate) address: FabricAddress,
    pub(crate) memory: RemoteMemory,
}

impl Target {
    pub(crate) fn start(provider: &str) -> Self {
        Self::start_with(provider, REGION_BYTES)
    }

    /// One with another number of bytes.
    pub(crate) fn start_with(provider: &str, bytes: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_target_does_as_it_is_told", "--nocapture"])
            .env(ROLE, format!("{provider} {bytes}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let ticket = answer(&mut answers);
        let (address, memory) = ticket.split_once(' ').unwrap();
        let address = FabricAddress::from_bytes(&unhex(address)).unwrap();
        let memory = RemoteMemory::from_bytes(unhex(memory).try_into().unwrap());
        Self {
            child,
            orders: Some(orders),
            answers,
            address,
            memory,
        }
    }

    /// Gives an order and waits until it was carried out.
    pub(crate) fn order(&mut self, order: &str) -> String {
        writeln!(self.orders.as_ref().unwrap(), "{order}").unwrap();
        answer(&mut self.answers)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for a process that was killed.
    pub(crate) fn reap(&mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It ends with its input; one that was stopped can then.
        drop(self.orders.take());
        let pid = self.child.id();
        // While it was not waited for, the number is its own.
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::CONT);
        }
        let _ = self.child.wait();
        // What the provider `shm` leaves of one that was killed would be in the
        // way of a later process with its number.
        for index in 0..4 {
            let _ = std::fs::remove_file(format!("/dev/shm/{pid}:0:{index}"));
            let _ = std::fs::remove_file(format!("/dev/shm/{pid}:{index}"));
        }
    }
}

fn answer(answers: &mut impl BufRead) -> String {
    loop {
        let mut line = String::new();
        assert!(
            answers.read_line(&mut line).unwrap() > 0,
            "the target ended"
        );
        if let Some((_, said)) = line.trim_end().split_once("target: ") {
            return said.to_owned();
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(pair).collect()
}

/// Is a target if this process was started as one.
pub(crate) fn run_if_asked() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let (provider, bytes) = role.split_once(' ').unwrap();
    let count: usize = bytes.parse().unwrap();
    let fabric = Fabric::load().unwrap();
    let options = options(provider);
    let server = FabricServer::open(&fabric, &options).unwrap();
    let arena = Arena::new(ArenaOptions {
        limit_bytes: 1 << 30,
        shared: true,
    });
    let mut extent = arena.allocate(count).unwrap();
    for (at, byte) in extent.as_mut_slice().iter_mut().enumerate() {
        *byte = value(at);
    }
    let mut memory = server.register(extent.region_arc()).unwrap();
    // What tests call the region's end is the extent's.
    memory.base += extent.offset();
    memory.bytes = count as u64;
    let ticket = (server.address().to_bytes(), memory.to_bytes());
    println!("\ntarget: {} {}", hex(&ticket.0), hex(&ticket.1));
    serve(&server, |order| {
        if order == "withdraw" {
            server.deregister(extent.region()).unwrap();
        }
    });
}

/// Serves reads and orders until nobody gives any more.
fn serve(server: &FabricServer, obey: impl Fn(&str)) {
    let input = std::io::stdin();
    loop {
        while server.progress().unwrap() == Progress::More {}
        let mut fds = vec![PollFd::new(&input, PollFlags::IN)];
        let wait_fd = server.wait_fd();
        if let Some(fd) = &wait_fd {
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        let timeout = server.poll_interval().map(|interval| Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(interval.subsec_nanos()),
        });
        let _ = poll(&mut fds, timeout.as_ref());
        if fds[0].revents().is_empty() {
            continue;
        }
        let mut order = String::new();
        if input.read_line(&mut order).unwrap() == 0 {
            return;
        }
        obey(order.trim());
        println!("target: done");
    }
}
