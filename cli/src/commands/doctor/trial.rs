//! The side that asks: reads the pattern over each transport, and compares it.

use std::mem::MaybeUninit;
use std::time::Duration;

use panta_core::config::ByteSize;
use panta_transports::coupling::{
    Choice, CouplingError, Peer, PeerOptions, Piece, TransportName, Urgency,
};
use panta_transports::rdma::{Fabric, FabricOptions, FabricReader, RegionPiece};
use panta_transports::time::{Time, Wait};
use serde_json::{Value, json};

use super::line::{Line, State};
use super::pattern;
use super::service::{GOODBYE, WHERE};
use super::ticket::DoctorTicket;

/// The longest that one step of a trial may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Transfers of the whole pattern; the best counts.
const ROUNDS: usize = 5;

/// Reads of so many bytes, for the time that one takes.
const SMALL_BYTES: usize = 64;
const SMALL_READS: usize = 101;

/// Where the pattern is.
#[derive(Clone, Copy)]
struct Place {
    region: u32,
    offset: u64,
}

/// Reads from the pattern's beginning as much as there is room for.
type ReadInto<'a> = dyn FnMut(&mut [MaybeUninit<u8>]) -> Result<(), String> + 'a;

/// A line for every transport, with the service of this ticket. Within one
/// machine shared memory is not merely nice to have.
pub(super) fn lines(ticket: &DoctorTicket, within: bool) -> Vec<Line> {
    let tcp = match connect(ticket, TransportName::Tcp) {
        Ok(peer) => peer,
        Err(error) => {
            let remedy = "see that the address of --interface is reached from here, and no firewall lies between";
            return vec![Line::failed("transport tcp", error, remedy)];
        }
    };
    let (place, fabrics) = match ask(&tcp) {
        Ok(answer) => answer,
        Err(error) => {
            return vec![Line::failed(
                "transport tcp",
                error,
                "run the same panta on both",
            )];
        }
    };
    let shm = match connect(ticket, TransportName::Shm) {
        Ok(peer) => coupled("transport shm", &peer, place),
        Err(error) if within => {
            Line::failed("transport shm", error, "see the line on shared memory")
        }
        Err(error) => Line::missing(
            "transport shm",
            error,
            "nothing, unless both are one machine",
        ),
    };
    let mut lines = vec![shm, coupled("transport tcp", &tcp, place)];
    lines.extend(over_fabrics(&fabrics, place, within));
    // The other side sees it when the connection ends, at the latest.
    let _ = tcp.send(&[GOODBYE], Urgency::Now, &limit());
    tcp.close();
    lines
}

fn limit() -> Wait {
    Wait::for_at_most(LIMIT)
}

fn connect(ticket: &DoctorTicket, transport: TransportName) -> Result<Peer, CouplingError> {
    let options = PeerOptions {
        choice: Choice::Only(transport),
        ..PeerOptions::new(ticket.key())
    };
    Peer::connect(&ticket.endpoint, &options, &limit())
}

/// Asks where the pattern is, and over which fabrics.
fn ask(peer: &Peer) -> Result<(Place, Vec<Value>), String> {
    let mut answer = Vec::new();
    let asked = peer.send(&[WHERE], Urgency::Now, &limit());
    asked
        .and_then(|()| peer.receive(&mut answer, &limit()))
        .map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
    let region = answer["region"]
        .as_u64()
        .and_then(|region| u32::try_from(region).ok());
    let place = region.zip(answer["offset"].as_u64());
    let (region, offset) = place.ok_or("its answer names no place")?;
    let fabrics = answer["fabrics"].as_array().cloned().unwrap_or_default();
    Ok((Place { region, offset }, fabrics))
}

/// The trial of a transport of streams.
fn coupled(what: &str, peer: &Peer, place: Place) -> Line {
    let mut read = |into: &mut [MaybeUninit<u8>]| {
        let mut pieces = [Piece {
            region: place.region,
            offset: place.offset,
            into,
        }];
        peer.read(&mut pieces, &limit())
            .map_err(|error| error.to_string())
    };
    transfer(what, &peer.info().why, &mut read)
}

/// The trials of libfabric's providers.
fn over_fabrics(fabrics: &[Value], place: Place, within: bool) -> Vec<Line> {
    let what = "transport rdma";
    let fabric = match Fabric::load() {
        Ok(fabric) => fabric,
        Err(error) => return vec![Line::missing(what, error, "see the line on libfabric")],
    };
    if fabrics.is_empty() {
        let remedy = "install libfabric there, and see what panta doctor says there";
        return vec![Line::missing(what, "the other side has no fabric", remedy)];
    }
    let one = |told: &Value| {
        let provider = told["provider"].as_str().unwrap_or("?");
        let what = format!("{what} over {provider}");
        let line = match over_fabric(&fabric, &what, told, place) {
            Ok(line) => line,
            Err(why) => Line::failed(what, why, "see FI_LOG_LEVEL=warn panta doctor"),
        };
        // Software that shares memory does not reach other machines.
        match line.state {
            State::Failed if provider == "shm" && !within => Line::missing(
                line.what,
                line.found,
                "nothing, unless both are one machine",
            ),
            _ => line,
        }
    };
    fabrics.iter().map(one).collect()
}

fn over_fabric(fabric: &Fabric, what: &str, told: &Value, place: Place) -> Result<Line, String> {
    if let Some(error) = told["error"].as_str() {
        return Err(format!("on the other side: {error}"));
    }
    let offer = told["offer"]
        .as_array()
        .ok_or("the other side told no address")?;
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    let offer: Option<Vec<u8>> = offer.iter().map(byte).collect();
    let offer = offer.ok_or("the other side's address is none")?;
    let reader = FabricReader::new(fabric, &offer, &FabricOptions::default());
    let mut reader = reader.map_err(|error| error.to_string())?;
    let mut read = |into: &mut [MaybeUninit<u8>]| {
        let mut pieces = [RegionPiece {
            region: place.region,
            offset: place.offset,
            into,
        }];
        reader
            .read(&mut pieces, &limit())
            .map_err(|error| error.to_string())
    };
    Ok(transfer(what, "one-sided reads", &mut read))
}

/// Reads the pattern some times over, and small pieces of it.
fn transfer(what: &str, why: &str, read: &mut ReadInto<'_>) -> Line {
    let figures = match measure(read) {
        Ok(figures) => figures,
        Err(error) => {
            return Line::failed(what, error, "run it again with nothing else on the network");
        }
    };
    let (seconds, small_us) = figures;
    let gb_per_s = pattern::BYTES as f64 / seconds / 1e9;
    let mut line = Line::ok(
        what,
        format!(
            "{gb_per_s:.2} GB/s for {}, every byte compared; {small_us:.0} us for {SMALL_BYTES} bytes; {why}",
            ByteSize(pattern::BYTES as u64)
        ),
    );
    line.figures = vec![
        ("bytes", json!(pattern::BYTES)),
        ("gb_per_s", json!(gb_per_s)),
        ("small_us", json!(small_us)),
        ("why", json!(why)),
    ];
    line
}

/// Seconds of the best transfer, and microseconds of the median small read.
fn measure(read: &mut ReadInto<'_>) -> Result<(f64, f64), String> {
    let mut into = vec![MaybeUninit::new(0); pattern::BYTES];
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        into.fill(MaybeUninit::new(0));
        let began = Time::now();
        read(&mut into)?;
        best = best.min(Time::now().since(began).as_secs_f64());
        // SAFETY: all of it was set above, before the read.
        let bytes = unsafe { std::slice::from_raw_parts(into.as_ptr().cast::<u8>(), into.len()) };
        if let Some(at) = pattern::first_wrong(bytes) {
            return Err(format!("byte {at} of {} arrived wrong", pattern::BYTES));
        }
    }
    let mut times = Vec::with_capacity(SMALL_READS);
    for _ in 0..SMALL_READS {
        let began = Time::now();
        read(&mut into[..SMALL_BYTES])?;
        times.push(Time::now().since(began).as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok((best, times[SMALL_READS / 2]))
}
