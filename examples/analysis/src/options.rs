//! What can be said on the command line.

use std::path::PathBuf;

use clap::Parser;

/// Follows a stream of the Gray-Scott simulation, step by step as it comes:
/// statistics, an image per step, a summary.
#[derive(Parser, Debug)]
#[command(version)]
pub(crate) struct Options {
    /// The stream to follow.
    #[arg(long, default_value = "gray_scott", value_name = "NAME")]
    pub(crate) stream: String,
    /// Where images and summary go; made if missing.
    #[arg(long, default_value = "analysis", value_name = "DIRECTORY")]
    pub(crate) output: PathBuf,
    /// v above this counts to the volume fraction.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) threshold: f64,
}
