//! What one process of a measurement does.
//!
//! ```text
//! writer  opens, listens on the side channel, says it is ready
//! reader  opens, connects; for each paced step: asks for it, gets it, checks it;
//!         then asks for all the others at once, and times them as a whole, but
//!         for the first of them, in which memory is still made
//! both    say what they measured while both still hold everything, then end
//! ```
//! A step's latency runs from the stamp its writer gave it before making its
//! values, by the wall clock that processes of one machine share, until the
//! reader has checked its last element.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use panta_transports::time::{Time, wall_clock_ns};
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Doing};
use crate::link::{self, Link};
use crate::opening::{self, Opening};
use crate::process::{pss_bytes, say, wait_for_word};
use crate::redistribute::{self, Grid};
use crate::relay;
use crate::server::{self, ServerRole};
use crate::space::{self, Space};

/// How long one side of a measurement may keep the other waiting.
pub(crate) const SIDE_DEADLINE: Duration = Duration::from_secs(120);
/// On the side channel: one step, please.
const ONE: u8 = b'1';
/// On the side channel: all the others.
const ALL: u8 = b'*';
/// On the side channel: everything has arrived.
const DONE: u8 = b'.';

/// What a process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Puts steps.
    Writer(Side),
    /// Gets steps.
    Reader(Side),
    /// Stands between a bare writer and a bare reader.
    Relay,
    /// Is a staging server.
    Server(ServerRole),
    /// Puts whole arrays and blocks.
    SpaceWriter(Space),
    /// Gets whole arrays and boxes.
    SpaceReader(Space),
    /// Puts its rows of an array.
    GridWriter(Grid),
    /// Gets its columns of an array.
    GridReader(Grid),
    /// Holds a step for those who come.
    OpeningWriter(Opening),
    /// Opens, gets and closes again and again.
    OpeningReader(Opening),
}

/// One side of a pair.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Side {
    /// What carries the steps.
    pub(crate) link: Link,
    /// Where writer and reader meet to keep pace.
    pub(crate) meeting: PathBuf,
    /// Bytes of a step.
    pub(crate) bytes: u64,
    /// Steps that are asked for one by one.
    pub(crate) paced: u64,
    /// Steps that follow as fast as they can and are not timed.
    pub(crate) warm: u64,
    /// Steps that follow those, and are.
    pub(crate) streamed: u64,
    /// Whether the reader verifies checksums.
    pub(crate) verify: bool,
}

/// What a writer says first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// What carries the stream.
    pub(crate) transport: String,
}

/// What a side says last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Of each paced step; the reader's only.
    pub(crate) latencies_us: Vec<f64>,
    /// Of all streamed steps; the reader's only.
    pub(crate) streamed_seconds: f64,
    /// Bytes that the handle's counter saw copied.
    pub(crate) copied_bytes: u64,
    /// The process's share of memory.
    pub(crate) pss_bytes: u64,
    /// What of it are the user's own arrays.
    pub(crate) fields_bytes: u64,
}

/// Does what a workload asked of this process.
///
/// # Errors
/// [`BenchError`]; the process should then end with an error code.
pub fn run_role(role: &str) -> Result<(), BenchError> {
    let role: Role = serde_json::from_str(role).doing("read the role")?;
    match role {
        Role::Writer(side) => write(&side),
        Role::Reader(side) => read(&side),
        Role::Relay => relay::run(),
        Role::Server(role) => server::run(&role),
        Role::SpaceWriter(space) => space::write(&space),
        Role::SpaceReader(space) => space::read(&space),
        Role::GridWriter(grid) => redistribute::write(&grid),
        Role::GridReader(grid) => redistribute::read(&grid),
        Role::OpeningWriter(opening) => opening::write(&opening),
        Role::OpeningReader(opening) => opening::read(&opening),
    }
}

pub(crate) fn side_channel(stream: UnixStream) -> Result<UnixStream, BenchError> {
    stream
        .set_read_timeout(Some(SIDE_DEADLINE))
        .doing("meet the other side")?;
    stream
        .set_write_timeout(Some(SIDE_DEADLINE))
        .doing("meet the other side")?;
    Ok(stream)
}

fn write(side: &Side) -> Result<(), BenchError> {
    let mut sender = link::sender(side)?;
    let listener = UnixListener::bind(&side.meeting).doing("meet the reader")?;
    say(&Ready {
        transport: sender.transport(),
    })?;
    let (stream, _) = listener.accept().doing("meet the reader")?;
    let mut channel = side_channel(stream)?;
    let mut step = 0;
    loop {
        let mut word = [0];
        channel
            .read_exact(&mut word)
            .doing("hear from the reader")?;
        let until = match word[0] {
            ONE => step + 1,
            ALL => side.paced + side.warm + side.streamed,
            _ => break,
        };
        while step < until {
            sender.send(step, &mut channel)?;
            step += 1;
        }
    }
    say(&Measured {
        copied_bytes: sender.copied_bytes(),
        pss_bytes: pss_bytes(),
        fields_bytes: sender.fields_bytes(),
        ..Measured::default()
    })?;
    wait_for_word();
    sender.close()
}

fn read(side: &Side) -> Result<(), BenchError> {
    let mut receiver = link::receiver(side)?;
    let stream = UnixStream::connect(&side.meeting).doing("meet the writer")?;
    let mut channel = side_channel(stream)?;
    let mut measured = Measured::default();
    for step in 0..side.paced {
        channel.write_all(&[ONE]).doing("ask for a step")?;
        let stamp_ns = receiver.receive(step, &mut channel)?;
        let latency = wall_clock_ns().saturating_sub(stamp_ns);
        measured.latencies_us.push(latency as f64 / 1e3);
    }
    let mut begin = Time::now();
    channel.write_all(&[ALL]).doing("ask for steps")?;
    let timed = side.paced + side.warm;
    for step in side.paced..timed + side.streamed {
        if step == timed {
            begin = Time::now();
        }
        receiver.receive(step, &mut channel)?;
    }
    measured.streamed_seconds = Time::now().since(begin).as_secs_f64();
    channel.write_all(&[DONE]).doing("end the measurement")?;
    measured.copied_bytes = receiver.copied_bytes();
    measured.pss_bytes = pss_bytes();
    measured.fields_bytes = receiver.fields_bytes();
    say(&measured)?;
    wait_for_word();
    Ok(())
}
