//! `panta ls`: what a stream holds, from its metadata alone.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use panta::{Attribute, NextError, Start};
use panta_core::model::{
    Attributes, Definition, Entry, Payload, ShapeKind, Stats, StatsBuilder, StepHead,
};
use panta_core::session::Step;
use serde_json::{Value, json};

use super::contact;
use super::streams::Glance;
use crate::arguments::LsArguments;
use crate::error::CommandError;
use crate::number;
use crate::source::Source;
use crate::table::{self, Side};

/// Runs the command.
pub(crate) fn run(arguments: &LsArguments) -> Result<(), CommandError> {
    if let Some(servers) = arguments.stream.strip_prefix("staging:@") {
        return super::streams::run(servers, arguments.json);
    }
    if let Some(path) = contact::named(&arguments.stream) {
        return contact::run(path, arguments.json);
    }
    let source = Source::find(&arguments.stream)?;
    match super::streams::dealt_out(&arguments.stream)? {
        Some(Glance::Listed(stream)) => return super::streams::write(&[stream], arguments.json),
        Some(Glance::Contact(path)) => return contact::run(&path, arguments.json),
        None => {}
    }
    let listing = Listing::gather(&source, arguments)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    match arguments.json {
        true => writeln!(out, "{}", listing.json(arguments))?,
        false => listing.write(&mut out, arguments)?,
    }
    Ok(out.flush()?)
}

/// What is known of a stream.
#[derive(Default)]
struct Listing {
    state: &'static str,
    engine: String,
    transport: String,
    why: String,
    steps: u64,
    bytes: u64,
    first: Option<StepHead>,
    last: Option<StepHead>,
    /// In the order in which they were first seen.
    variables: Vec<Known>,
    attributes: Attributes,
    /// One for each step, only where they are to be listed.
    lines: Vec<StepLine>,
}

/// A variable over all steps.
struct Known {
    definition: Definition,
    shape: Vec<u64>,
    stats: Option<Stats>,
    /// Steps that have it.
    steps: u64,
    /// Blocks in the last of them, and the fewest and most in any.
    blocks: (u64, u64, u64),
    /// The value in the last of them, of a global value.
    value: Option<Value>,
}

struct StepLine {
    head: StepHead,
    bytes: u64,
    /// Variables and their blocks.
    blocks: BTreeMap<String, u64>,
}

impl Listing {
    /// Walks over all steps that are there already.
    fn gather(source: &Source, arguments: &LsArguments) -> Result<Self, CommandError> {
        let mut reader = source.open(Start::Oldest)?;
        let info = reader.info();
        let mut listing = Self {
            engine: info.engine.to_owned(),
            transport: info.transport,
            why: info.why,
            ..Self::default()
        };
        listing.state = loop {
            match source.poll(&mut reader) {
                Ok(Some(step)) => listing.take(&step, arguments.long),
                Ok(None) => break "closed",
                Err(NextError::NotReady { .. }) => break "live",
                Err(NextError::WriterLost { .. }) => break "writer lost",
                // What was withdrawn must not be counted: once more from the oldest.
                Err(NextError::RolledBack { .. }) => {
                    let (engine, transport, why) = (listing.engine, listing.transport, listing.why);
                    listing = Self {
                        engine,
                        transport,
                        why,
                        ..Self::default()
                    };
                    reader = source.open(Start::Oldest)?;
                }
                Err(error) => return Err(error.into()),
            }
        };
        Ok(listing)
    }

    fn take(&mut self, step: &Step, long: bool) {
        let head = step.head();
        self.first.get_or_insert(head);
        self.last = Some(head);
        self.steps += 1;
        self.attributes = step.schema().attributes.clone();
        let mut line = StepLine {
            head,
            bytes: 0,
            blocks: BTreeMap::new(),
        };
        for entry in step.entries() {
            let known = self.known(entry);
            known.take(entry);
            line.bytes += entry_bytes(entry);
            let name = entry.definition.name.clone();
            line.blocks.insert(name, entry.blocks.len() as u64);
        }
        self.bytes += line.bytes;
        if long {
            self.lines.push(line);
        }
    }

    fn known(&mut self, entry: &Entry) -> &mut Known {
        let name = &entry.definition.name;
        let place = self
            .variables
            .iter()
            .position(|known| known.definition.name == *name);
        let place = place.unwrap_or_else(|| {
            self.variables.push(Known {
                definition: Definition::clone(&entry.definition),
                shape: entry.shape(),
                stats: None,
                steps: 0,
                blocks: (0, u64::MAX, 0),
                value: None,
            });
            self.variables.len() - 1
        });
        &mut self.variables[place]
    }

    fn write(&self, out: &mut dyn Write, arguments: &LsArguments) -> std::io::Result<()> {
        write!(out, "{}  {}", arguments.stream, self.state)?;
        match (&self.first, &self.last) {
            (Some(first), Some(last)) => {
                let (one, many) = (first.step, last.step);
                match self.steps {
                    1 => write!(out, ", step {one}")?,
                    steps => write!(out, ", {steps} steps ({one} to {many})")?,
                }
                if let (Some(from), Some(to)) = (first.time.sim, last.time.sim) {
                    write!(out, ", time {from} to {to}")?;
                }
                writeln!(out, ", {}", number::bytes(self.bytes))?;
            }
            _ => writeln!(out, ", no steps")?,
        }
        if arguments.long {
            writeln!(
                out,
                "carried by {}: {} ({})",
                self.engine, self.transport, self.why
            )?;
        }
        if !self.variables.is_empty() {
            writeln!(out)?;
            self.write_variables(out)?;
        }
        if arguments.long {
            self.write_attributes(out)?;
            self.write_steps(out)?;
        }
        Ok(())
    }

    fn write_variables(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let heads = [
            "variable", "dtype", "kind", "shape", "dims", "unit", "min", "max", "steps", "blocks",
        ];
        let mut sides = [Side::Left; 10];
        sides[6..].fill(Side::Right);
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        rows.extend(self.variables.iter().map(Known::row));
        table::write(out, &sides, &rows)
    }

    fn write_attributes(&self, out: &mut dyn Write) -> std::io::Result<()> {
        if self.attributes.is_empty() {
            return Ok(());
        }
        let mut rows = vec![vec!["attribute".to_owned(), "value".to_owned()]];
        for (key, attribute) in &self.attributes {
            let name = match &key.variable {
                Some(variable) => format!("{variable}:{}", key.name),
                None => key.name.clone(),
            };
            rows.push(vec![name, attribute_json(attribute).to_string()]);
        }
        writeln!(out)?;
        table::write(out, &[Side::Left, Side::Left], &rows)
    }

    fn write_steps(&self, out: &mut dyn Write) -> std::io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let heads = ["step", "epoch", "time", "begun (UTC)", "size", "blocks"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        for line in &self.lines {
            let blocks = line.blocks.iter();
            let blocks: Vec<String> = blocks
                .map(|(name, count)| format!("{name}:{count}"))
                .collect();
            rows.push(vec![
                line.head.step.to_string(),
                line.head.epoch.to_string(),
                line.head
                    .time
                    .sim
                    .map_or("-".to_owned(), |time| time.to_string()),
                utc(line.head.wall_clock_ns),
                number::bytes(line.bytes),
                blocks.join(" "),
            ]);
        }
        let right = Side::Right;
        writeln!(out)?;
        table::write(
            out,
            &[right, right, right, Side::Left, right, Side::Left],
            &rows,
        )
    }

    fn json(&self, arguments: &LsArguments) -> Value {
        let mut listing = json!({
            "stream": arguments.stream,
            "state": self.state,
            "engine": self.engine,
            "transport": self.transport,
            "why": self.why,
            "bytes": self.bytes,
            "epoch": self.last.map(|head| head.epoch),
            "steps": {
                "count": self.steps,
                "first": self.first.map(|head| head.step),
                "last": self.last.map(|head| head.step),
                "first_time": self.first.and_then(|head| head.time.sim),
                "last_time": self.last.and_then(|head| head.time.sim),
            },
            "variables": self.variables.iter().map(Known::json).collect::<Vec<_>>(),
            "attributes": attributes_json(&self.attributes, None),
        });
        for (place, known) in self.variables.iter().enumerate() {
            listing["variables"][place]["attributes"] =
                attributes_json(&self.attributes, Some(&known.definition.name));
        }
        if arguments.long {
            let lines = self.lines.iter().map(|line| {
                json!({
                    "step": line.head.step,
                    "epoch": line.head.epoch,
                    "time": line.head.time.sim,
                    "wall_clock_ns": line.head.wall_clock_ns,
                    "bytes": line.bytes,
                    "blocks": line.blocks,
                })
            });
            listing["steps"]["list"] = lines.collect();
        }
        listing
    }
}

impl Known {
    fn take(&mut self, entry: &Entry) {
        let blocks = entry.blocks.len() as u64;
        self.shape = entry.shape();
        self.definition = Definition::clone(&entry.definition);
        self.steps += 1;
        self.blocks = (blocks, self.blocks.1.min(blocks), self.blocks.2.max(blocks));
        let stats = entry.stats().or_else(|| value_stats(entry));
        self.stats = match (self.stats, stats) {
            (Some(old), Some(new)) => Some(old.merged(new)),
            (old, new) => old.or(new),
        };
        self.value = text_value(entry);
    }

    fn kind(&self) -> String {
        match self.definition.kind {
            ShapeKind::JoinedArray { axis } => {
                let axis = usize::from(axis);
                let name = self.definition.dims.get(axis);
                let name = name.cloned().unwrap_or(axis.to_string());
                format!("joined array along {name}")
            }
            kind => kind.name().to_owned(),
        }
    }

    fn shape_text(&self) -> String {
        let sides: Vec<String> = match self.definition.kind {
            // Blocks of any size: only the number of dimensions is fixed.
            ShapeKind::LocalArray => self.shape.iter().map(|_| "?".to_owned()).collect(),
            _ => self.shape.iter().map(u64::to_string).collect(),
        };
        match sides.is_empty() {
            true => "-".to_owned(),
            false => sides.join("×"),
        }
    }

    fn row(&self) -> Vec<String> {
        let definition = &self.definition;
        let or_dash = |text: String| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text
            }
        };
        let stat = |pick: fn(Stats) -> panta::Number| match self.stats {
            Some(stats) => number::brief(pick(stats)),
            None => "-".to_owned(),
        };
        vec![
            definition.name.clone(),
            definition.dtype.name().to_owned(),
            self.kind(),
            self.shape_text(),
            or_dash(definition.dims.join(",")),
            or_dash(definition.unit.clone()),
            stat(|stats| stats.min),
            stat(|stats| stats.max),
            self.steps.to_string(),
            match self.blocks {
                (_, least, most) if least == most => most.to_string(),
                (_, least, most) => format!("{least}-{most}"),
            },
        ]
    }

    fn json(&self) -> Value {
        let definition = &self.definition;
        json!({
            "name": definition.name,
            "dtype": definition.dtype.name(),
            "kind": definition.kind.name(),
            "axis": match definition.kind {
                ShapeKind::JoinedArray { axis } => Some(axis),
                _ => None,
            },
            "shape": self.shape,
            "dims": definition.dims,
            "unit": definition.unit,
            "coordinates": definition.coordinates,
            "accuracy": definition.accuracy.map(|accuracy| accuracy.to_string()),
            "min": self.stats.map(|stats| number::json(stats.min)),
            "max": self.stats.map(|stats| number::json(stats.max)),
            "nans": self.stats.map(|stats| stats.nans),
            "steps": self.steps,
            "blocks": self.blocks.0,
            "value": self.value,
        })
    }
}

/// Bytes of the data, without metadata.
fn entry_bytes(entry: &Entry) -> u64 {
    let blocks = entry.blocks.iter();
    let bytes = blocks.map(|block| match &block.payload {
        Payload::Value(bytes) => bytes.len() as u64,
        Payload::Array(_) => entry.definition.byte_size(&block.block.count).unwrap_or(0),
    });
    bytes.sum()
}

/// Values come without statistics, since they are all there.
fn value_stats(entry: &Entry) -> Option<Stats> {
    let mut builder = StatsBuilder::new(entry.definition.dtype);
    for block in &entry.blocks {
        if let Payload::Value(bytes) = &block.payload {
            builder.add(bytes);
        }
    }
    builder.finish()
}

/// A global value's text.
fn text_value(entry: &Entry) -> Option<Value> {
    match (entry.definition.kind, &entry.blocks.last()?.payload) {
        (ShapeKind::GlobalValue, Payload::Value(bytes))
            if entry.definition.dtype.size_bytes() == 0 =>
        {
            Some(String::from_utf8_lossy(bytes).into())
        }
        _ => None,
    }
}

fn attributes_json(attributes: &Attributes, variable: Option<&str>) -> Value {
    let own = attributes
        .iter()
        .filter(|(key, _)| key.variable.as_deref() == variable);
    own.map(|(key, attribute)| (key.name.clone(), attribute_json(attribute)))
        .collect()
}

fn attribute_json(attribute: &Attribute) -> Value {
    match attribute {
        Attribute::Int(value) => json!(value),
        Attribute::UInt(value) => json!(value),
        Attribute::Float(value) => json!(value),
        Attribute::Text(value) => json!(value),
        Attribute::Ints(values) => json!(values),
        Attribute::UInts(values) => json!(values),
        Attribute::Floats(values) => json!(values),
        Attribute::Texts(values) => json!(values),
    }
}

/// Date and time of nanoseconds since 1970: H. Hinnant, *chrono-Compatible
/// Low-Level Date Algorithms*, `civil_from_days`.
fn utc(wall_clock_ns: u64) -> String {
    let seconds = wall_clock_ns / 1_000_000_000;
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let millis = wall_clock_ns / 1_000_000 % 1000;
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000");
        assert_eq!(utc(951_782_400_000_000_000), "2000-02-29 00:00:00.000");
        assert_eq!(utc(1_767_225_599_999_000_000), "2025-12-31 23:59:59.999");
    }
}
