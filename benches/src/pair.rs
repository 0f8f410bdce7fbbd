//! One writer process to one reader process, over every engine there is.
//!
//! Ours and the bare loop run in turn, each as processes of its own.

use std::path::Path;
use std::time::Duration;

use panta_core::config::Engine;
use tempfile::TempDir;

use crate::Request;
use crate::error::{BenchError, Doing};
use crate::fabric;
use crate::link::{Link, bare_path};
use crate::process::Process;
use crate::relay::Listening;
use crate::role::{Measured, Ready, Role, Side};
use crate::row::{Row, rounded};
use crate::server::Servers;
use crate::statistics::{Memcpy, median, set_percentiles};

/// Bytes of a step, in the whole suite.
const SIZES_BYTES: [u64; 4] = [1 << 10, 64 << 10, 1 << 20, 64 << 20];
/// Ways to put and get, in the whole suite.
const SUITE: [&str; 2] = ["put+get", "span+get"];
/// All ways to put and get.
const MODES: [&str; 4] = ["put+get", "span+get", "put+view", "span+view"];
/// Where files lie: in memory, so that no disk is measured.
const MEMORY: &str = "/dev/shm";

/// How long the bare reader looks before it sleeps, unless the request says.
const BARE_SPIN: Duration = Duration::from_micros(50);

/// How many steps of a size make a measurement of about a second.
fn steps_of(bytes: u64, engine: Engine) -> (u64, u64) {
    match bytes {
        0..=16_384 if engine == Engine::Stream => (2000, 200_000),
        0..=16_384 => (1000, 4000),
        16_385..=262_144 => (500, 1500),
        262_145..=4_194_304 => (100, 300),
        // Memory is made for the first steps; files would have to keep them all.
        _ if engine == Engine::Stream => (8, 60),
        _ => (4, 10),
    }
}

/// How many large steps of a stream are not timed: it may run ahead of its
/// reader by as many as its limit holds, and the memory of each is made once.
/// The bare loop has made all of its own before it begins. What the first
/// steps cost is reported beside.
fn warm_of(bytes: u64, engine: Engine) -> u64 {
    let large = bytes >= 4 << 20 && engine == Engine::Stream;
    if large { 32 } else { 0 }
}

/// Runs the workload.
pub(crate) fn run(request: &Request, report: &mut dyn FnMut(&Row)) -> Result<(), BenchError> {
    let engines = engines(request)?;
    let modes: Vec<&str> = match request.mode.as_deref() {
        None => SUITE.to_vec(),
        Some(mode) if MODES.contains(&mode) => vec![mode],
        Some(other) => {
            let modes = MODES.join(", ");
            return Err(BenchError::request(format!(
                "no mode `{other}`; there are {modes}"
            )));
        }
    };
    let sizes = request
        .bytes
        .map_or(SIZES_BYTES.to_vec(), |bytes| vec![bytes]);
    if sizes.iter().any(|bytes| *bytes < 8 || *bytes % 8 != 0) {
        return Err(BenchError::request("a step has a multiple of 8 bytes"));
    }
    let mut memcpy = Memcpy::new();
    for engine in engines {
        for bytes in &sizes {
            measure(request, engine, *bytes, &modes, &mut memcpy, report)?;
        }
    }
    Ok(())
}

/// The engines to measure: the one asked for, or all that this build has.
pub(crate) fn engines(request: &Request) -> Result<Vec<Engine>, BenchError> {
    let there: Vec<Engine> = panta::registry()
        .iter()
        .map(|factory| factory.engine())
        .collect();
    let measured = [Engine::File, Engine::Stream, Engine::Staging]
        .into_iter()
        .filter(|engine| there.contains(engine));
    let measured: Vec<Engine> = measured.collect();
    let names: Vec<&str> = measured.iter().map(|engine| engine.scheme()).collect();
    match &request.engine {
        None if measured.is_empty() => Err(BenchError::request("this build has no engine")),
        None => Ok(measured),
        Some(wanted) => {
            let found = measured
                .into_iter()
                .find(|engine| engine.scheme() == wanted);
            found.map(|engine| vec![engine]).ok_or_else(|| {
                BenchError::request(format!(
                    "this is not measured over `{wanted}`; it is over {}",
                    names.join(", ")
                ))
            })
        }
    }
}

/// One way to carry a step, and the bare way that it is compared with.
#[derive(Clone)]
struct Case {
    engine: Engine,
    /// Asked for by name; of `stream:` only.
    transport: Option<String>,
    /// Of libfabric, for `rdma`.
    provider: Option<String>,
    mode: String,
}

impl Case {
    fn span(&self) -> bool {
        self.mode.starts_with("span")
    }

    fn view(&self) -> bool {
        self.mode.ends_with("view")
    }

    /// The transport shares memory, so that views are in place.
    fn is_shared(&self) -> bool {
        self.transport.as_deref() == Some("shm")
    }
}

/// The cases of an engine: its transports, and the modes that each can do.
fn cases(request: &Request, engine: Engine, modes: &[&str]) -> Result<Vec<Case>, BenchError> {
    let transports: Vec<Option<String>> = match (engine, &request.transport) {
        (Engine::Stream, Some(transport)) => vec![Some(transport.clone())],
        (Engine::Stream, None) => vec![Some("shm".into()), Some("tcp".into())],
        _ => vec![None],
    };
    let mut cases = Vec::new();
    for transport in transports {
        let provider = match transport.as_deref() {
            Some("rdma") => Some(fabric::provider(request.fabric.as_deref())?),
            _ => None,
        };
        for mode in modes {
            let case = Case {
                engine,
                transport: transport.clone(),
                provider: provider.clone(),
                mode: (*mode).to_owned(),
            };
            // Only shared memory can be looked at in place.
            if case.is_shared() || !case.view() {
                cases.push(case);
            }
        }
    }
    Ok(cases)
}

/// One side's measurements, round by round.
#[derive(Default)]
struct Rounds {
    transport: String,
    seconds: Vec<f64>,
    latencies_us: Vec<f64>,
    /// Of the very first step, for which memory is made.
    first_us: Vec<f64>,
    pss_bytes: Vec<f64>,
    /// The same without the user's own arrays.
    own_pss_bytes: Vec<f64>,
    copied_bytes: u64,
}

fn measure(
    request: &Request,
    engine: Engine,
    bytes: u64,
    modes: &[&str],
    memcpy: &mut Memcpy,
    report: &mut dyn FnMut(&Row),
) -> Result<(), BenchError> {
    let (mut paced, mut streamed) = steps_of(bytes, engine);
    let warm = warm_of(bytes, engine);
    if let Some(steps) = request.steps {
        streamed = steps.max(1);
        paced = paced.min(streamed);
    }
    let steps = (paced, warm, streamed);
    for case in cases(request, engine, modes)? {
        let (mut ours, mut bare) = (Rounds::default(), Rounds::default());
        let mut memcpys = Vec::new();
        for _ in 0..request.rounds {
            memcpys.push(memcpy.gb_per_s());
            let place = Directory::new()?;
            let (mut servers, link) = ours_over(&case, &place, request)?;
            let side = place.side(link, bytes, steps, request);
            pair(request, &side, &mut servers, &mut ours)?;
            let place = Directory::new()?;
            let (mut servers, link) = bare_over(&case, &place, request)?;
            let side = place.side(link, bytes, steps, request);
            pair(request, &side, &mut servers, &mut bare)?;
        }
        let speed = |rounds: &Rounds| (bytes * streamed) as f64 / median(&rounds.seconds) / 1e9;
        let moved = (bytes * (paced + warm + streamed)) as f64 * request.rounds as f64;
        let mut row = Row {
            workload: "pair",
            engine: Some(engine.scheme().to_owned()),
            transport: Some(ours.transport.clone()),
            mode: Some(case.mode.clone()),
            verify: Some(request.verify.clone()),
            bytes: Some(bytes),
            steps: Some(streamed),
            steps_per_s: Some(rounded(streamed as f64 / median(&ours.seconds))),
            copies: Some(rounded(ours.copied_bytes as f64 / moved)),
            pss_bytes: Some(median(&ours.pss_bytes) as u64),
            ..Row::default()
        };
        row = row.with_throughput(speed(&ours), Some(speed(&bare)), median(&memcpys));
        let first_us = std::mem::take(&mut ours.first_us);
        let mut bare_latency = Row::default();
        set_percentiles(&mut bare_latency, bare.latencies_us.clone());
        set_percentiles(&mut row, ours.latencies_us);
        let row = row
            .with("bare_p50_us", bare_latency.p50_us)
            .with("first_us", rounded(median(&first_us)))
            .with("own_pss_bytes", median(&ours.own_pss_bytes) as u64);
        let row = match &case.provider {
            Some(provider) => row.with("fabric", provider.as_str()),
            None => row,
        };
        report(&row);
    }
    Ok(())
}

/// A fresh stream, and the servers that carry it.
fn ours_over(
    case: &Case,
    place: &Directory,
    request: &Request,
) -> Result<(Vec<Process>, Link), BenchError> {
    let verify = &request.verify;
    let directory = place.0.path().display();
    let (servers, url) = match case.engine {
        Engine::Staging => {
            let space = Servers::start(&request.executable, 1, place.0.path())?;
            let url = space.url("pair", verify);
            (space.servers, url)
        }
        Engine::Stream => {
            let transport = case.transport.as_deref().unwrap_or("auto");
            let mut url = format!(
                "stream:pair?contact={directory}/pair.panta-contact&transport={transport}&verify={verify}"
            );
            if let Some(provider) = &case.provider {
                url.push_str(&format!("&fabric={provider}"));
            }
            if let Some(spin) = request.spin {
                url.push_str(&format!("&spin={}us", spin.as_micros()));
            }
            (Vec::new(), url)
        }
        engine => {
            let scheme = engine.scheme();
            (
                Vec::new(),
                format!("{scheme}:{directory}/pair.panta?verify={verify}"),
            )
        }
    };
    let (span, view) = (case.span(), case.view());
    Ok((servers, Link::Panta { url, span, view }))
}

/// The bare movement of the same bytes, and the relay that carries them.
fn bare_over(
    case: &Case,
    place: &Directory,
    request: &Request,
) -> Result<(Vec<Process>, Link), BenchError> {
    let directory = place.0.path();
    let link = match case.engine {
        Engine::Staging => {
            let mut relay = Process::start("relay", &request.executable, &Role::Relay)?;
            let Listening { address } = relay.hear()?;
            return Ok((vec![relay], Link::Tcp { relay: address }));
        }
        Engine::Stream if case.is_shared() => Link::Shared {
            path: directory.join("bare"),
            span: case.span(),
            view: case.view(),
            spin_us: request.spin.unwrap_or(BARE_SPIN).as_micros() as u64,
        },
        Engine::Stream => {
            let address = directory.join("bare.address");
            match case.provider.clone() {
                Some(provider) => Link::Fabric { address, provider },
                None => Link::Direct { address },
            }
        }
        _ => Link::File {
            path: bare_path(directory),
        },
    };
    Ok((Vec::new(), link))
}

/// Where one round leaves its files; gone with it.
pub(crate) struct Directory(pub(crate) TempDir);

impl Directory {
    pub(crate) fn new() -> Result<Self, BenchError> {
        let builder = tempfile::Builder::new().prefix("panta-bench-").to_owned();
        let made = match Path::new(MEMORY).is_dir() {
            true => builder.tempdir_in(MEMORY),
            false => builder.tempdir(),
        };
        made.map(Self).doing("make a temporary directory")
    }

    fn side(&self, link: Link, bytes: u64, steps: (u64, u64, u64), request: &Request) -> Side {
        Side {
            link,
            meeting: self.0.path().join("meeting"),
            bytes,
            paced: steps.0,
            warm: steps.1,
            streamed: steps.2,
            verify: request.verify != "never",
        }
    }
}

/// Runs a writer and a reader once.
fn pair(
    request: &Request,
    side: &Side,
    servers: &mut [Process],
    rounds: &mut Rounds,
) -> Result<(), BenchError> {
    let start = |name, role| Process::start(name, &request.executable, &role);
    let mut writer = start("writer", Role::Writer(side.clone()))?;
    let ready: Ready = writer.hear()?;
    let mut reader = start("reader", Role::Reader(side.clone()))?;
    let read: Measured = reader.hear()?;
    let written: Measured = writer.hear()?;
    let mut pss_bytes = read.pss_bytes + written.pss_bytes;
    let fields_bytes = read.fields_bytes + written.fields_bytes;
    for server in servers {
        pss_bytes += server.ask()?.pss_bytes;
    }
    writer.finish()?;
    reader.finish()?;
    rounds.transport = ready.transport;
    rounds.seconds.push(read.streamed_seconds);
    rounds.first_us.extend(read.latencies_us.first());
    rounds.latencies_us.extend(read.latencies_us);
    rounds.pss_bytes.push(pss_bytes as f64);
    let own_pss_bytes = pss_bytes.saturating_sub(fields_bytes);
    rounds.own_pss_bytes.push(own_pss_bytes as f64);
    rounds.copied_bytes += read.copied_bytes + written.copied_bytes;
    Ok(())
}
