//! `panta bench`: runs a workload and prints its rows.

use std::io::Write;
use std::time::Duration;

use indicatif::ProgressBar;
use panta_benches::Request;
use serde_json::Value;

use crate::arguments::{BenchArguments, Workload};
use crate::error::CommandError;
use crate::table::{self, Side};

/// The columns that every table has room for, in this order; others follow.
const COLUMNS: [&str; 18] = [
    "workload",
    "what",
    "engine",
    "transport",
    "mode",
    "verify",
    "run_bytes",
    "bytes",
    "steps",
    "gb_per_s",
    "steps_per_s",
    "p50_us",
    "p99_us",
    "p999_us",
    "copies",
    "round_trips",
    "memcpy_ratio",
    "bare_ratio",
];

/// Runs the command.
pub(crate) fn run(arguments: &BenchArguments) -> Result<(), CommandError> {
    let request = request(arguments)?;
    let mut rows = Vec::new();
    let mut printed = Ok(());
    // Shows on a terminal only.
    let progress = ProgressBar::new_spinner().with_message("measuring");
    progress.enable_steady_tick(Duration::from_millis(200));
    panta_benches::run(&request, &mut |row| {
        let line = serde_json::to_value(row).unwrap_or_default();
        if arguments.json && printed.is_ok() {
            printed = writeln!(std::io::stdout().lock(), "{line}");
        }
        rows.push(line);
        progress.set_message(format!("measuring; {} rows so far", rows.len()));
    })?;
    progress.finish_and_clear();
    printed?;
    if !arguments.json {
        print_table(&rows)?;
    }
    Ok(())
}

/// Does what a measurement asked of this process.
pub(crate) fn run_role(role: &str) -> Result<(), CommandError> {
    Ok(panta_benches::run_role(role)?)
}

fn request(arguments: &BenchArguments) -> Result<Request, CommandError> {
    let executable = std::env::current_exe()
        .map_err(|error| CommandError::failed(format!("where this program is: {error}")))?;
    Ok(Request {
        workload: match arguments.workload {
            Workload::Pair => panta_benches::Workload::Pair,
            Workload::Staging => panta_benches::Workload::Staging,
            Workload::Routing => panta_benches::Workload::Routing,
            Workload::Copy => panta_benches::Workload::Copy,
            Workload::Redistribute => panta_benches::Workload::Redistribute,
            Workload::Opening => panta_benches::Workload::Opening,
        },
        executable,
        engine: arguments.engine.clone(),
        bytes: arguments.bytes.map(|bytes| bytes.0),
        servers: arguments.servers,
        steps: arguments.steps,
        verify: arguments.verify.clone(),
        transport: arguments.transport.clone(),
        fabric: arguments.fabric.clone(),
        spin: arguments.spin,
        mode: arguments.mode.clone(),
        rounds: arguments.rounds,
    })
}

/// The keys that any row has, as columns.
fn print_table(rows: &[Value]) -> Result<(), CommandError> {
    let used = |key: &str| rows.iter().any(|row| !row[key].is_null());
    let columns: Vec<&str> = COLUMNS.iter().copied().filter(|key| used(key)).collect();
    let mut table = vec![columns.iter().map(|key| (*key).to_owned()).collect()];
    for row in rows {
        let cell = |key: &&str| match &row[*key] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        table.push(columns.iter().map(cell).collect());
    }
    let sides: Vec<Side> = columns
        .iter()
        .map(|key| match rows.iter().any(|row| row[*key].is_string()) {
            true => Side::Left,
            false => Side::Right,
        })
        .collect();
    Ok(table::write(&mut std::io::stdout().lock(), &sides, &table)?)
}
