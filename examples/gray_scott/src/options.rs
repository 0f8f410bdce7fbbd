//! What can be said on the command line.

use clap::Parser;

use crate::model::Parameters;

/// Simulates the Gray-Scott reaction-diffusion system on a periodic cube, under
/// MPI, and writes u and v to a stream.
#[derive(Parser, Debug)]
#[command(version)]
pub(crate) struct Options {
    /// Cells along each side of the cube.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub(crate) size: u32,
    /// The step to stop at, counted from the initial state.
    #[arg(long, default_value_t = 3_000)]
    pub(crate) steps: u64,
    /// Steps between two outputs; the last step is written in any case.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) output_every: u64,
    /// Steps between two checkpoints; 0 for none.
    #[arg(long, default_value_t = 0)]
    pub(crate) checkpoint_every: u64,
    /// Go on from the last checkpoint, also with another number of ranks.
    #[arg(long)]
    pub(crate) restart: bool,
    /// The stream that u and v go to.
    #[arg(long, default_value = "gray_scott", value_name = "NAME")]
    pub(crate) stream: String,
    /// The stream that checkpoints go to and come from.
    #[arg(long, default_value = "gray_scott_checkpoint", value_name = "NAME")]
    pub(crate) checkpoint_stream: String,
    /// Picks the noise.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Diffusion of u, in cells² per time.
    #[arg(long = "du", default_value_t = 0.6)]
    diffusion_u: f64,
    /// Diffusion of v, in cells² per time.
    #[arg(long = "dv", default_value_t = 0.3)]
    diffusion_v: f64,
    /// Feed rate F of u.
    #[arg(long, default_value_t = 0.025)]
    feed: f64,
    /// Kill rate k of v.
    #[arg(long, default_value_t = 0.055)]
    kill: f64,
    /// Length of a time step.
    #[arg(long, default_value_t = 1.0)]
    dt: f64,
    /// Amplitude of the noise added to the rate of u.
    #[arg(long, default_value_t = 0.001)]
    noise: f64,
}

impl Options {
    pub(crate) fn parameters(&self) -> Parameters {
        Parameters {
            diffusion_u: self.diffusion_u,
            diffusion_v: self.diffusion_v,
            feed: self.feed,
            kill: self.kill,
            dt: self.dt,
            noise: self.noise,
            seed: self.seed,
        }
    }
}
