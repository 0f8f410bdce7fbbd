//! Hosts of a test's own: network namespaces joined by a cable, on this machine.
//!
//! ```text
//!   host 0   west 10.77.0.1/24 ──── west 10.77.0.2/24   host 1
//!            east 10.78.0.1/24 ──── east 10.78.0.2/24
//! ```
//! They share the file system, as the nodes of a cluster do, and nothing of the
//! network: loopback is each host's own. Making them needs root and `ip`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The two cables: the interface's name on both hosts, and its network.
pub const CABLES: [(&str, &str); 2] = [("west", "10.77.0"), ("east", "10.78.0")];

/// Two hosts; gone when dropped, with the processes that may still run there.
#[derive(Debug)]
pub struct Hosts {
    names: [String; 2],
}

impl Hosts {
    /// Two hosts and the cables between them.
    ///
    /// # Errors
    /// What is missing here: root, or the command `ip`.
    pub fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |host| format!("panta-{}-{next}-{host}", std::process::id());
        let hosts = Self {
            names: [name(0), name(1)],
        };
        for name in &hosts.names {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        let [first, second] = &hosts.names;
        for (cable, network) in CABLES {
            let ends = ["link", "add", cable, "netns", first, "type", "veth"];
            let peer = ["peer", "name", cable, "netns", second];
            ip(&[ends.as_slice(), &peer].concat())?;
            for (name, host) in [(first, 1), (second, 2)] {
                let address = format!("{network}.{host}/24");
                ip(&["-n", name, "address", "add", &address, "dev", cable])?;
                ip(&["-n", name, "link", "set", cable, "up"])?;
            }
        }
        Ok(hosts)
    }

    /// What a program is started with to run on a host.
    #[must_use]
    pub fn prefix(&self, host: usize) -> Vec<String> {
        let words = ["ip", "netns", "exec", self.names[host].as_str()];
        words.map(str::to_owned).to_vec()
    }

    /// Pulls a cable, or plugs it in again.
    ///
    /// # Panics
    /// If that fails.
    pub fn plug(&self, cable: usize, plugged: bool) {
        let (name, _) = CABLES[cable];
        let state = if plugged { "up" } else { "down" };
        ip(&["-n", &self.names[0], "link", "set", name, state]).unwrap();
    }

    /// An address of a host.
    #[must_use]
    pub fn address(&self, cable: usize, host: usize) -> String {
        format!("{}.{}", CABLES[cable].1, host + 1)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            // What was not made cannot be taken away.
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let found = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].map(PathBuf::from);
    let program = found.into_iter().find(|path| path.exists());
    let program = program.ok_or("the command `ip` is not installed (package iproute2)")?;
    let said = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    match said.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&said.stderr).trim()
        )),
    }
}
