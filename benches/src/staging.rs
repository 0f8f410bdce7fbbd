//! Whole arrays and small boxes through staging servers.
//!
//! Whole arrays lie in one block; boxes are taken at random unaligned places of a
//! cube of 64 blocks. The bare loop of whole arrays is a relay over loopback TCP;
//! of boxes it is a request and an answer of as many bytes, summed.

use crate::Request;
use crate::error::BenchError;
use crate::pair::Directory;
use crate::process::Process;
use crate::relay::Listening;
use crate::role::{Ready, Role};
use crate::row::{Row, rounded};
use crate::server::Servers;
use crate::space::{Boxes, Space, Whole};
use crate::statistics::{median, set_percentiles};

const BYTES: u64 = 256 << 20;
/// The least array of which boxes can be taken.
const BYTES_LEAST: u64 = 64 << 10;
const COLD: u64 = 100;
const WARM: u64 = 4000;
/// Rounds are short here, so each counts for several.
const REPEATS: u64 = 3;

/// Runs the workload.
pub(crate) fn run(request: &Request, report: &mut dyn FnMut(&Row)) -> Result<(), BenchError> {
    let bytes = request.bytes.unwrap_or(BYTES);
    if !bytes.is_power_of_two() || bytes < BYTES_LEAST {
        return Err(BenchError::request(format!(
            "staging takes a power of two of bytes, at least {BYTES_LEAST}, not {bytes}"
        )));
    }
    if request.servers == 0 {
        return Err(BenchError::request("there must be at least 1 server"));
    }
    let place = Directory::new()?;
    let mut servers = Servers::start(&request.executable, request.servers, place.0.path())?;
    let mut relay = Process::start("relay", &request.executable, &Role::Relay)?;
    let Listening { address } = relay.hear()?;
    let edge = 1 << ((bytes / 8).ilog2() / 3);
    let warm = request.steps.unwrap_or(WARM).max(1);
    let space = Space {
        whole: servers.url("whole", &request.verify),
        blocks: servers.url("blocks", &request.verify),
        relay: address,
        meeting: place.0.path().join("meeting"),
        shape: [edge, edge, bytes / 8 / edge / edge],
        rounds: request.rounds as u64 * REPEATS,
        box_side: (edge * 20 / 256).max(1),
        cold: COLD.min(warm),
        warm,
        verify: request.verify != "never",
    };
    measure(request, &space, &mut servers, report)
}

fn measure(
    request: &Request,
    space: &Space,
    servers: &mut Servers,
    report: &mut dyn FnMut(&Row),
) -> Result<(), BenchError> {
    let start = |name, role| Process::start(name, &request.executable, &role);
    let mut writer = start("writer", Role::SpaceWriter(space.clone()))?;
    let Ready { transport } = writer.hear()?;
    let mut reader = start("reader", Role::SpaceReader(space.clone()))?;
    let put: Whole = writer.hear()?;
    let got: Whole = reader.hear()?;
    let pss_bytes = put.pss_bytes + got.pss_bytes + servers.counts()?.pss_bytes;
    let row = |mode: &str, bytes: u64, steps: u64| {
        let row = Row {
            workload: "staging",
            engine: Some("staging".to_owned()),
            transport: Some(transport.clone()),
            mode: Some(mode.to_owned()),
            verify: Some(request.verify.clone()),
            bytes: Some(bytes),
            steps: Some(steps),
            ..Row::default()
        };
        row.with("servers", request.servers)
    };
    let bytes = space.shape.iter().product::<u64>() * 8;
    for (mode, whole) in [("put", put), ("whole", got)] {
        let moved = (bytes * space.rounds) as f64;
        let speed = |seconds: &[f64]| bytes as f64 / median(seconds) / 1e9;
        let mut row = row(mode, bytes, space.rounds).with_throughput(
            speed(&whole.ours),
            Some(speed(&whole.bare)),
            median(&whole.memcpy_gb_per_s),
        );
        row.copies = Some(rounded(whole.copied_bytes as f64 / moved));
        row.pss_bytes = Some(pss_bytes);
        row.steps_per_s = Some(rounded(1.0 / median(&whole.ours)));
        set_percentiles(
            &mut row,
            whole.ours.iter().map(|seconds| seconds * 1e6).collect(),
        );
        report(&row);
    }

    let box_bytes = space.box_side.pow(3) * 8;
    let cold: Boxes = reader.hear()?;
    let mut cold_row = row("cold", box_bytes, space.cold);
    set_percentiles(&mut cold_row, cold.ours_us);
    report(&cold_row.with("box_side", space.box_side));

    let Ready { .. } = reader.hear()?;
    let before = servers.counts()?.frames_received;
    reader.tell()?;
    let warm: Boxes = reader.hear()?;
    let frames = servers.counts()?.frames_received - before;
    let mut warm_row = row("warm", box_bytes, space.warm);
    warm_row.round_trips = Some(rounded(frames as f64 / space.warm as f64));
    let mut bare = Row::default();
    set_percentiles(&mut bare, warm.bare_us);
    set_percentiles(&mut warm_row, warm.ours_us);
    report(
        &warm_row
            .with("box_side", space.box_side)
            .with("bare_p50_us", bare.p50_us),
    );
    reader.finish()?;
    writer.finish()
}
