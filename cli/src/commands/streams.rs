//! `panta ls staging:@host:port`: the streams that servers hold.

use std::io::{BufWriter, Write};
use std::time::Duration;

use panta_core::config::{Distribution, Engine, Target, Value as _, process_environment, resolve};
use panta_staging::client::{State, StreamListing, list_streams};
use panta_transports::time::Wait;
use serde_json::json;

use crate::error::CommandError;
use crate::table::{self, Side};

/// How long the servers have to answer, unless `deadline` says.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs the command on `host:port,…?key=value…`.
pub(crate) fn run(servers: &str, as_json: bool) -> Result<(), CommandError> {
    // Any name does: only the parameters are used.
    let url = format!("staging:all@{servers}");
    let directory = std::env::current_dir()
        .map_err(|error| CommandError::failed(format!("working directory: {error}")))?;
    let target = resolve(&url, &process_environment, &directory)
        .map_err(|error| CommandError::failed(error.to_string()))?;
    write(&list(&target)?, as_json)
}

/// The stream that `stream` names at a glance, where servers deal its steps out: who read it
/// to look at it would take them from its readers.
pub(crate) fn dealt_out(stream: &str) -> Result<Option<StreamListing>, CommandError> {
    let target = crate::source::resolve(stream)?;
    if target.engine != Engine::Staging {
        return Ok(None);
    }
    let dealt = |listed: &StreamListing| {
        listed.stream == target.name && listed.distribution != Distribution::All
    };
    Ok(list(&target)?.into_iter().find(dealt))
}

fn list(target: &Target) -> Result<Vec<StreamListing>, CommandError> {
    let deadline = if target.given.contains("deadline") {
        target.options.deadline
    } else {
        DEADLINE
    };
    Ok(list_streams(&target.options, &Wait::for_at_most(deadline))?)
}

/// Writes them to the standard output.
pub(crate) fn write(streams: &[StreamListing], as_json: bool) -> Result<(), CommandError> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    if as_json {
        let streams: Vec<_> = streams.iter().map(describe).collect();
        writeln!(out, "{}", json!({ "streams": streams }))?;
    } else if streams.is_empty() {
        writeln!(out, "no streams")?;
    } else {
        write_table(&mut out, streams)?;
    }
    Ok(out.flush()?)
}

fn state(stream: &StreamListing) -> &'static str {
    match stream.state {
        State::Live => "live",
        State::Closed => "closed",
        State::WriterLost => "writer lost",
    }
}

fn describe(stream: &StreamListing) -> serde_json::Value {
    json!({
        "stream": stream.stream, "state": state(stream), "epoch": stream.epoch, "steps": stream.steps,
        "first": stream.range.map(|range| range.0), "last": stream.range.map(|range| range.1), "bytes": stream.bytes,
        "precious": stream.precious, "distribution": stream.distribution.print(),
    })
}

fn write_table(out: &mut dyn Write, streams: &[StreamListing]) -> std::io::Result<()> {
    let heads = [
        "stream", "state", "epoch", "steps", "first", "last", "bytes", "precious", "dealt to",
    ]
    .map(str::to_owned)
    .to_vec();
    let step = |step: Option<u64>| step.map_or_else(|| "-".to_owned(), |step| step.to_string());
    let rows = streams.iter().map(|stream| {
        vec![
            stream.stream.clone(),
            state(stream).to_owned(),
            stream.epoch.to_string(),
            stream.steps.to_string(),
            step(stream.range.map(|range| range.0)),
            step(stream.range.map(|range| range.1)),
            stream.bytes.to_string(),
            step(stream.precious),
            stream.distribution.print(),
        ]
    });
    let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
    let numbers = [Side::Right; 6];
    table::write(
        out,
        &[&[Side::Left; 2], &numbers[..], &[Side::Left]].concat(),
        &rows,
    )
}
