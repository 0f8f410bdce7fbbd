//! `panta ls staging:@host:port`: the streams that servers hold; and of which streams each
//! step goes to one reader group alone, so that who reads one to look at it takes it.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use panta_core::config::{Distribution, Engine, Target, Value as _, process_environment, resolve};
use panta_core::session::Reader;
use panta_core::stream::glance;
use panta_staging::client::{State, StreamListing, find_stream, list_streams};
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
    let streams = list_streams(&target.options, &patience(&target))?;
    write(&streams, as_json)
}

/// How a stream is looked at without reading it.
pub(crate) enum Glance {
    /// By what servers list of it.
    Listed(StreamListing),
    /// By its writer's contact file.
    Contact(PathBuf),
}

/// What there is to see of the stream that `stream` names, and which reader groups get a
/// step of it; none where nobody says so, or everybody may read everything.
fn look_at(stream: &str) -> Result<Option<(Glance, Distribution)>, CommandError> {
    let target = crate::source::resolve(stream)?;
    match target.engine {
        Engine::Staging => {
            let listed = find_stream(&target.name, &target.options, &patience(&target))?;
            Ok(listed
                .map(|it| (it.distribution, it))
                .map(|(how, it)| (Glance::Listed(it), how)))
        }
        Engine::Stream => {
            let found = glance::distribution(&target);
            let found = found.map_err(|fault| CommandError::failed(fault.to_string()))?;
            Ok(found.map(|(path, distribution)| (Glance::Contact(path), distribution)))
        }
        _ => Ok(None),
    }
}

/// The stream that `stream` names at a glance, where its steps are dealt out.
pub(crate) fn dealt_out(stream: &str) -> Result<Option<Glance>, CommandError> {
    let found = look_at(stream)?;
    let dealt = found.filter(|(_, distribution)| *distribution != Distribution::All);
    Ok(dealt.map(|(glance, _)| glance))
}

/// Opens `stream` to look at its steps, unless they are dealt out: `instead` says what else
/// there is to do then.
pub(crate) fn open_to_look(
    stream: &str,
    instead: &str,
    open: impl FnOnce() -> Result<Reader, CommandError>,
) -> Result<Reader, CommandError> {
    let is_there = refuse_dealt_out(stream, instead)?;
    let reader = open()?;
    if !is_there {
        // It is now; this reader has taken none yet, and leaves what it was to get to others.
        refuse_dealt_out(stream, instead)?;
    }
    Ok(reader)
}

/// Whether there is such a stream, of which every reader group gets every step.
fn refuse_dealt_out(stream: &str, instead: &str) -> Result<bool, CommandError> {
    match look_at(stream)? {
        None => Ok(false),
        Some((_, Distribution::All)) => Ok(true),
        Some((_, distribution)) => Err(CommandError::failed(format!(
            "stream `{stream}`: each step goes to one reader group alone (distribution={}), which \
             would not get what is read here; `panta ls {stream}` says what there is{instead}",
            distribution.print()
        ))),
    }
}

/// How long the servers may take.
fn patience(target: &Target) -> Wait {
    Wait::for_at_most(if target.given.contains("deadline") {
        target.options.deadline
    } else {
        DEADLINE
    })
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
