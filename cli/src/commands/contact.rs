//! `panta ls` of a contact file: what there is to know of a writer without joining it.
//! `panta show`, which would have to read from it, says how to.

use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use panta_core::config::{Engine, Value as _};
use panta_core::stream::glance::{self, Glance, State};
use serde_json::json;

use crate::error::CommandError;

/// How long an answer is waited for.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// The contact file that is named, if it is one and not the URL of a stream.
pub(crate) fn named(stream: &str) -> Option<&Path> {
    let scheme = stream.split_once(':').map(|(scheme, _)| scheme);
    let path = Path::new(stream);
    (scheme.and_then(Engine::from_scheme).is_none() && glance::is_contact(path)).then_some(path)
}

/// Why nothing of the stream itself is shown.
pub(crate) fn refuse(path: &Path) -> CommandError {
    let shown = path.display();
    let name = look(path).map_or_else(|_| "NAME".to_owned(), |found| found.stream);
    CommandError::failed(format!(
        "{shown} is a contact file, not a stream: `panta ls {shown}` says what it holds; \
         name the stream, as `stream:{name}?contact={shown}`, to join it and read"
    ))
}

fn look(path: &Path) -> Result<Glance, CommandError> {
    let found = glance::look(path, ANSWER_DEADLINE);
    let found = found.map_err(|fault| CommandError::failed(fault.to_string()))?;
    found.ok_or_else(|| {
        CommandError::failed(format!(
            "there is no contact file {}; its writer has closed the stream or has not opened it yet",
            path.display()
        ))
    })
}

/// Runs the command.
pub(crate) fn run(path: &Path, as_json: bool) -> Result<(), CommandError> {
    let found = look(path)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    match as_json {
        true => writeln!(out, "{}", in_json(&found))?,
        false => write(&mut out, &found)?,
    }
    Ok(out.flush()?)
}

fn state(found: &Glance) -> (&'static str, &'static str) {
    match found.state {
        State::Alive => ("alive", "it answers"),
        State::Silent => ("silent", "its process runs, and does not answer"),
        State::Gone => (
            "stale",
            "its process has ended; the next writer replaces the file",
        ),
        State::Unreachable => (
            "unreachable",
            "it is of another host, and nobody answers at its addresses",
        ),
    }
}

fn kind(address: IpAddr) -> &'static str {
    match address {
        it if it.is_loopback() => "loopback",
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

fn last_step(found: &Glance) -> Option<u64> {
    found.next_step.checked_sub(1)
}

fn write(out: &mut dyn Write, found: &Glance) -> std::io::Result<()> {
    let (state, why) = state(found);
    writeln!(out, "stream     {}", found.stream)?;
    writeln!(out, "writer     {state}: {why}")?;
    let plural = if found.ranks == 1 { "" } else { "s" };
    writeln!(
        out,
        "ranks      {} rank{plural}, root {}",
        found.ranks, found.process
    )?;
    writeln!(
        out,
        "life       {}, instance {}",
        found.epoch, found.instance
    )?;
    match last_step(found) {
        Some(step) => writeln!(out, "last step  {step}")?,
        None => writeln!(out, "last step  none yet")?,
    }
    writeln!(out, "dealt to   {}", found.distribution.print())?;
    writeln!(out, "written    {} s ago", found.age.as_secs())?;
    for address in &found.addresses {
        writeln!(out, "address    {address} ({})", kind(address.ip()))?;
    }
    Ok(())
}

fn in_json(found: &Glance) -> serde_json::Value {
    let addresses = found.addresses.iter();
    let addresses: Vec<_> = addresses
        .map(|it| json!({"address": it.to_string(), "kind": kind(it.ip())}))
        .collect();
    json!({
        "stream": found.stream,
        "state": state(found).0,
        "ranks": found.ranks,
        "process": found.process,
        "epoch": found.epoch,
        "instance": found.instance,
        "last_step": last_step(found),
        "distribution": found.distribution.print(),
        "age_s": found.age.as_secs_f64(),
        "addresses": addresses,
    })
}
