//! What the command line looks like.

use std::net::SocketAddr;
use std::path::PathBuf;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use panta_core::config::{ByteSize, Value};
use panta_staging::proto::limits::SERVER_BYTES_DEFAULT;
use panta_staging_server::CONNECTIONS_DEFAULT;
use panta_transports::coupling::InterfaceChoice;

use crate::slice::Slice;
use crate::source::StepChoice;

/// Looks at streams of arrays, copies and draws them, measures how fast they flow.
///
/// A stream is a URL (file:run42.panta, staging:run42@node7:7400) or a name that
/// PANTA_URL_<NAME>, then panta.toml, then file:<name>.panta turns into one.
#[derive(Debug, Parser)]
#[command(
    name = "panta",
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  panta serve --listen 127.0.0.1:7400
  panta ls file:run42.panta
  panta show file:run42.panta u --step last --slice z=10
  panta copy staging:run42@node7:7400 file:kept.panta
  panta plot file:run42.panta u --slice z=10 -o u.png
  panta doctor

Exit codes: 0 done, 1 failed, 2 used wrongly. The parameters of URLs are in docs/parameters.md."
)]
pub(crate) struct Panta {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(ServeArguments),
    Ls(LsArguments),
    Show(ShowArguments),
    Copy(CopyArguments),
    Plot(PlotArguments),
    Bench(BenchArguments),
    Doctor(DoctorArguments),
    /// One process of a measurement.
    #[command(hide = true)]
    BenchRole {
        /// What the process is to do.
        role: String,
    },
}

/// Runs a staging server until SIGINT or SIGTERM.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  panta serve                                   # 127.0.0.1:7400, alone
  panta serve --listen 10.0.0.7:7400            # reachable from other nodes
  panta serve --listen 10.0.0.7:7400 --servers 10.0.0.7:7400,10.0.0.8:7400

Servers that are given the same list, in the same order, form one space. Programs
reach them as staging:NAME@10.0.0.7:7400,10.0.0.8:7400, in that order, with the same
key. Without --key one is made for this user; copy the file to where programs run.")]
pub(crate) struct ServeArguments {
    /// Where to listen; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7400")]
    pub(crate) listen: SocketAddr,
    /// All servers of the space as clients reach them; this one alone if not given.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,...")]
    pub(crate) servers: Vec<String>,
    /// Which of --servers this is, from 0; the one that --listen names if not given.
    #[arg(long, value_name = "N")]
    pub(crate) server: Option<usize>,
    /// The file of the cluster's key; made, readable by this user alone, if not there.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Encrypts payload too; programs open with encrypt=true then.
    #[arg(long)]
    pub(crate) encrypt: bool,
    /// Payload to hold at most, as 512MiB.
    #[arg(long, value_name = "BYTES", default_value_t = ByteSize(SERVER_BYTES_DEFAULT), value_parser = byte_size)]
    pub(crate) limit: ByteSize,
    /// Connections to hold at most.
    #[arg(long, value_name = "N", default_value_t = CONNECTIONS_DEFAULT)]
    pub(crate) connections: usize,
}

fn byte_size(text: &str) -> Result<ByteSize, String> {
    ByteSize::parse(text).map_err(|why| match why.as_str() {
        "" => format!("it is {}", ByteSize::expected()),
        why => format!("{why}; it is {}", ByteSize::expected()),
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    <Duration as Value>::parse(text)
        .map_err(|why| format!("{why}; it is {}", <Duration as Value>::expected()))
}

/// Lists the steps and variables of a stream, or the streams of servers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  panta ls staging:@node7:7400            # the streams that servers hold
  panta ls run42                          # by name, as programs open it
  panta ls file:run42.panta --long        # attributes and every step, too
  panta ls file:run42.panta --json | jq '.variables[].name'

Smallest and largest values are those of all steps still held; they were made when
the data were put, so listing reads no data.")]
pub(crate) struct LsArguments {
    /// The stream: a URL or a name; servers alone, as staging:@host:port; or a contact file.
    pub(crate) stream: String,
    /// Lists attributes and every step, too.
    #[arg(short, long)]
    pub(crate) long: bool,
    /// Prints one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints an array, or a part of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  panta show run42 u                                  # of the newest step
  panta show run42 u --step 3 --start 0,0,10 --count 4,4,1
  panta show run42 u --step first --slice z=10,y=:4   # by the names of dimensions
  panta show run42 u --slice '10,:,::8' --json
  panta show run42 particles --block 2

--count is the number of cells taken, --stride the distance between them.")]
pub(crate) struct ShowArguments {
    /// The stream: a URL or a name.
    pub(crate) stream: String,
    /// The variable.
    pub(crate) variable: String,
    /// The step: its number, `first` or `last`.
    #[arg(long, default_value = "last", value_name = "STEP")]
    pub(crate) step: StepChoice,
    /// Which part, as `10,:,2:8` or `z=10`; an index makes its dimension vanish.
    #[arg(long, conflicts_with_all = ["start", "count", "stride"])]
    pub(crate) slice: Option<Slice>,
    /// The first cell along each dimension; zeros if not given.
    #[arg(long, value_delimiter = ',', value_name = "A,B,C")]
    pub(crate) start: Vec<u64>,
    /// How many cells along each dimension; to the end if not given.
    #[arg(long, value_delimiter = ',', value_name = "A,B,C")]
    pub(crate) count: Vec<u64>,
    /// The distance between cells along each dimension; 1 if not given.
    #[arg(long, value_delimiter = ',', value_name = "A,B,C")]
    pub(crate) stride: Vec<u64>,
    /// Reads one block, positions relative to it; local arrays are read so.
    #[arg(long, value_name = "N")]
    pub(crate) block: Option<u32>,
    /// Prints one JSON value, whole; numbers that JSON lacks as "NaN", "Infinity", "-Infinity".
    #[arg(long)]
    pub(crate) json: bool,
    /// Digits after the point, at most.
    #[arg(long, default_value_t = 8, value_name = "DIGITS")]
    pub(crate) precision: usize,
    /// Arrays of more elements are abbreviated.
    #[arg(long, default_value_t = 1000, value_name = "ELEMENTS")]
    pub(crate) limit: u64,
}

/// Copies a stream or file into another, block by block.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  panta copy staging:run42@node7:7400 file:kept.panta
  panta copy file:run42.panta file:part.panta --variables u,v --from-step 100 --to-step 199
  panta copy file:run42.panta staging:replay@node7:7400

A stream that is still written is followed until its writer closes it. Blocks,
attributes, values and simulation times stay as they are, bit for bit; steps are
numbered anew from 0, and all blocks count as put by one rank, in the same order.")]
pub(crate) struct CopyArguments {
    /// The stream to read: a URL or a name.
    pub(crate) from: String,
    /// The stream to write; what is there is replaced.
    pub(crate) to: String,
    /// The first step to copy; the oldest held if not given.
    #[arg(long, value_name = "STEP")]
    pub(crate) from_step: Option<u64>,
    /// The last step to copy; the stream's last if not given.
    #[arg(long, value_name = "STEP")]
    pub(crate) to_step: Option<u64>,
    /// The variables to copy; all if not given.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) variables: Vec<String>,
    /// Takes part where each step goes to one reader group alone (`distribution`): what is
    /// copied no other reader gets.
    #[arg(long)]
    pub(crate) take: bool,
}

/// Draws a plane or a line of an array as a PNG image.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  panta plot run42 u --slice z=10 -o u.png
  panta plot run42 u --slice '10,:,:' --step 3 --log -o u.png
  panta plot run42 u --slice z=10,y=5 -o line.png        # one dimension left: a line
  panta plot run42 u --slice z=10 --curve --servers 4 -o shards.png

The first row is at the bottom. --curve draws over the plane how the Hilbert curve
threads its chunks, each stretch in the colour of the server that an even map of
--servers servers gives it to.")]
pub(crate) struct PlotArguments {
    /// The stream: a URL or a name.
    pub(crate) stream: String,
    /// The variable.
    pub(crate) variable: String,
    /// Which plane or line, as `10,:,:` or `z=10`.
    #[arg(long)]
    pub(crate) slice: Option<Slice>,
    /// The step: its number, `first` or `last`.
    #[arg(long, default_value = "last", value_name = "STEP")]
    pub(crate) step: StepChoice,
    /// Reads one block, positions relative to it.
    #[arg(long, value_name = "N")]
    pub(crate) block: Option<u32>,
    /// The image to write.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Draws decimal logarithms; values that have none are grey.
    #[arg(long)]
    pub(crate) log: bool,
    /// The value of the darkest colour; the smallest of the plane if not given.
    #[arg(long, allow_negative_numbers = true, value_name = "VALUE")]
    pub(crate) min: Option<f64>,
    /// The value of the brightest colour; the largest of the plane if not given.
    #[arg(long, allow_negative_numbers = true, value_name = "VALUE")]
    pub(crate) max: Option<f64>,
    /// Draws the Hilbert curve and the owners of the chunks over the plane.
    #[arg(long)]
    pub(crate) curve: bool,
    /// Sides of a chunk for --curve, in cells of the whole variable; those it was defined
    /// with, else those that servers would choose, if not given.
    #[arg(long, value_delimiter = ',', value_name = "A,B,C", requires = "curve")]
    pub(crate) chunk: Vec<u64>,
    /// How many servers share the curve.
    #[arg(long, default_value_t = 4, requires = "curve", value_name = "N")]
    pub(crate) servers: u64,
}

/// Measures how fast data flow, beside bare loops of the same pattern.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  panta bench pair                                    # every engine, 1 KiB to 64 MiB a step
  panta bench pair --engine file --bytes 1MiB --mode span+get --json
  panta bench routing
  panta bench copy

Every figure stands beside that of a bare loop that moves the same bytes the same way,
timed in turn in the same run, and beside memcpy by one thread: ratios mean something
on a machine that others use, absolute figures little.")]
pub(crate) struct BenchArguments {
    /// What to measure.
    #[arg(value_enum)]
    pub(crate) workload: Workload,
    /// Prints one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this engine, as `file`.
    #[arg(long)]
    pub(crate) engine: Option<String>,
    /// Bytes of a step, or of what is copied, as `64KiB`.
    #[arg(long, value_parser = byte_size)]
    pub(crate) bytes: Option<ByteSize>,
    /// Steps, or calls, of each measurement.
    #[arg(long)]
    pub(crate) steps: Option<u64>,
    /// When checksums are verified: `get`, `always` or `never`.
    #[arg(long, default_value = "get")]
    pub(crate) verify: String,
    /// Only this transport, as `shm`, where the engine has several.
    #[arg(long)]
    pub(crate) transport: Option<String>,
    /// The provider of libfabric for `rdma`; the first that is hardware, else
    /// `tcp;ofi_rxm`.
    #[arg(long)]
    pub(crate) fabric: Option<String>,
    /// How long a reader looks for the next step before it sleeps, as `50us`.
    #[arg(long, value_parser = duration)]
    pub(crate) spin: Option<Duration>,
    /// How many servers share the space, in `staging`.
    #[arg(long, default_value_t = 1)]
    pub(crate) servers: usize,
    /// Only this way to put and get, as `put+get`, `span+get`.
    #[arg(long)]
    pub(crate) mode: Option<String>,
    /// How often ours and the bare loop are timed in turn; medians are shown.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// One writer process to one reader process.
    Pair,
    /// Servers: whole puts and gets, and small boxes.
    Staging,
    /// Finding the servers of a box.
    Routing,
    /// Strided copies, by the length of their runs.
    Copy,
    /// Four writers to two readers, cut across.
    Redistribute,
    /// From opening a stream to its first element, and closing it.
    Opening,
}

/// Says what this machine has, and proves each transport with a small transfer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  panta doctor                              # this machine, and transfers within it
  panta doctor --serve --interface eth0     # prints what to run on another host
  panta doctor --connect TICKET             # there: transfers between the two

A line is ok, missing (much works without) or failed; the last column says what to try.
With --serve the key within the ticket is good for this run only, which ends when the
other host has gone, or after --wait.")]
pub(crate) struct DoctorArguments {
    /// Prints one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Waits for another host to try the transports with.
    #[arg(long, conflicts_with = "connect")]
    pub(crate) serve: bool,
    /// Where to listen: `loopback`, an interface as `eth0`, an address or a block.
    #[arg(long, requires = "serve", value_name = "X", default_value = "loopback")]
    pub(crate) interface: Vec<InterfaceChoice>,
    /// How long to wait for the other host.
    #[arg(long, requires = "serve", value_name = "TIME", value_parser = duration, default_value = "10min")]
    pub(crate) wait: Duration,
    /// Tries the transports with the host that printed this ticket.
    #[arg(long, value_name = "TICKET")]
    pub(crate) connect: Option<String>,
}
