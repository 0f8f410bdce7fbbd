//! The command `panta`: looks at streams, copies and draws them, measures.
//!
//! Standard output carries data only; errors go to standard error, each as one
//! line. Exit codes: 0 done, 1 failed, 2 used wrongly.

mod arguments;
mod commands;
mod error;
mod number;
mod slice;
mod source;
mod table;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Command, Panta};
use error::CommandError;

fn main() -> ExitCode {
    let panta = match Panta::try_parse() {
        Ok(panta) => panta,
        Err(error) => {
            // Where neither output can be written to, the exit code is all that is left.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match panta.command {
        Command::Serve(arguments) => commands::serve::run(&arguments),
        Command::Ls(arguments) => commands::ls::run(&arguments),
        Command::Show(arguments) => commands::show::run(&arguments),
        Command::Copy(arguments) => commands::copy::run(&arguments),
        Command::Plot(arguments) => commands::plot::run(&arguments),
        Command::Bench(arguments) => commands::bench::run(&arguments),
        Command::Doctor(arguments) => commands::doctor::run(&arguments),
        Command::BenchRole { role } => commands::bench::run_role(&role),
    };
    match outcome {
        // Whoever read the output has seen enough.
        Ok(()) | Err(CommandError::OutputClosed) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "panta: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
