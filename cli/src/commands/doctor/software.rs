//! What else is installed: MPI, libfabric, devices for RDMA.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use panta_transports::rdma::{Fabric, FabricError};

use super::line::Line;
use super::machine::locked_memory;

/// The names of launchers.
const LAUNCHERS: [&str; 5] = [
    "mpirun",
    "mpiexec",
    "mpirun.openmpi",
    "mpirun.mpich",
    "srun",
];

/// How long a program may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// All lines about software and devices.
pub(super) fn lines() -> Vec<Line> {
    let mut lines = launchers();
    let devices = devices();
    lines.push(locked_memory(!devices.is_empty()));
    lines.extend(match devices.is_empty() {
        true => vec![Line::missing(
            "RDMA devices",
            "none in /sys/class/infiniband or /sys/class/cxi",
            "nothing, unless this node has such a network: then load its drivers",
        )],
        false => devices,
    });
    lines.extend(fabric());
    lines
}

/// What `program --version` says, where it says it in time.
fn version(program: &Path) -> Option<String> {
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut output = child.stdout.take()?;
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        // What it said until it failed is enough; nobody may wait any more.
        let _ = output.read_to_string(&mut text);
        let _ = send.send(text);
    });
    let text = receive.recv_timeout(VERSION_LIMIT).ok();
    // One that is done already cannot be killed.
    let _ = child.kill();
    let _ = child.wait();
    text
}

/// The kind of MPI, from what its launcher says.
fn flavour(text: &str) -> Option<String> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    if text.contains("HYDRA") {
        let number = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Version:"));
        return Some(format!(
            "MPICH or kin (Hydra {})",
            number.unwrap_or("?").trim()
        ));
    }
    Some(first.to_owned())
}

fn launchers() -> Vec<Line> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut lines = Vec::new();
    for directory in std::env::split_paths(&path) {
        for name in LAUNCHERS {
            let program = directory.join(name);
            let real = fs::canonicalize(&program).unwrap_or_default();
            if !real.is_file() || !seen.insert(real) {
                continue;
            }
            let found = version(&program).as_deref().and_then(flavour);
            lines.push(match found {
                Some(found) => Line::ok("MPI", format!("{found}, {}", program.display())),
                None => Line::failed(
                    "MPI",
                    format!("{} does not say its version", program.display()),
                    format!("run {} --version", program.display()),
                ),
            });
        }
    }
    if lines.is_empty() {
        lines.push(Line::missing(
            "MPI",
            "no mpirun, mpiexec or srun on PATH",
            "load your site's module, or install openmpi-bin or mpich; one process needs none",
        ));
    }
    lines
}

fn directory(path: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn said(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

fn devices() -> Vec<Line> {
    let mut lines = Vec::new();
    for device in directory("/sys/class/infiniband") {
        let name = device
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for port in directory(&device.join("ports").to_string_lossy()) {
            let number = port
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let what = format!("RDMA device {name}:{number}");
            let state = said(&port.join("state"));
            let found = format!(
                "{}, {}, {state}",
                said(&port.join("link_layer")),
                said(&port.join("rate"))
            );
            lines.push(match state.contains("ACTIVE") {
                true => Line::ok(what, found),
                false => Line::failed(
                    what,
                    found,
                    "see `ibstat`, the cable and the subnet manager",
                ),
            });
        }
    }
    for device in directory("/sys/class/cxi") {
        let name = device
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        lines.push(Line::ok(format!("RDMA device {name}"), "Slingshot"));
    }
    lines
}

/// libfabric, and its providers.
fn fabric() -> Vec<Line> {
    let fabric = match Fabric::load() {
        Ok(fabric) => fabric,
        Err(FabricError::NotThere { what, why, remedy }) => {
            return vec![Line::missing("libfabric", format!("{what}: {why}"), remedy)];
        }
        Err(error) => return vec![Line::failed("libfabric", error, "install one Panta only")],
    };
    let mut lines = vec![Line::ok(
        "libfabric",
        format!("version {}", fabric.version()),
    )];
    let providers = match fabric.providers() {
        Ok(providers) => providers,
        Err(error) => {
            lines.push(Line::failed("providers", error, "see `fi_info`"));
            return lines;
        }
    };
    let names: BTreeSet<&str> = providers.iter().map(|one| one.provider.as_str()).collect();
    for name in names {
        let of = || providers.iter().filter(|one| one.provider == name);
        let domains: BTreeSet<&str> = of().map(|one| one.domain.as_str()).collect();
        let domains = Vec::from_iter(domains).join(", ");
        let kind = match of().any(|one| one.software) {
            true => "software",
            false => "hardware",
        };
        let what = format!("provider {name}");
        lines.push(match of().all(|one| one.usable) {
            true => Line::ok(what, format!("{kind}, on {domains}")),
            false => Line::failed(what, "needs keys of many bytes", "use another provider"),
        });
    }
    lines
}
