//! What carries steps between the two sides: a stream of Panta, or the bare
//! movement of the same bytes.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ndarray::Array1;
use panta::{BlockId, Reader, Shape, Solo, Start, StepTime, Var, Writer};
use panta_transports::copy::{TILE_BYTES, checksum_tiles, verify_tiles};
use panta_transports::time::wall_clock_ns;
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Doing};
use crate::pattern;
use crate::role::{SIDE_DEADLINE, Side};

/// The variable that a pair moves.
const VARIABLE: &str = "u";

/// What carries the steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Link {
    /// A stream of Panta.
    Panta {
        /// Where it is.
        url: String,
        /// Whether the writer computes into a span.
        span: bool,
        /// Whether the reader looks at the data in place.
        view: bool,
    },
    /// A file written and read by plain calls; the side channel says what is there.
    File {
        /// Where it is.
        path: PathBuf,
    },
    /// Loopback TCP through a relay.
    Tcp {
        /// Where the relay listens.
        relay: String,
    },
}

/// Carries steps away.
pub(crate) trait Sender {
    /// What moves the bytes.
    fn transport(&self) -> String;
    /// Makes the values of a step and moves them.
    fn send(&mut self, step: u64, channel: &mut UnixStream) -> Result<(), BenchError>;
    /// Bytes copied, as far as they are counted.
    fn copied_bytes(&self) -> u64;
    /// Ends in good order.
    fn close(self: Box<Self>) -> Result<(), BenchError>;
}

/// Brings steps.
pub(crate) trait Receiver {
    /// Waits for a step, checks every element, and gives its stamp.
    fn receive(&mut self, step: u64, channel: &mut UnixStream) -> Result<u64, BenchError>;
    /// Bytes copied, as far as they are counted.
    fn copied_bytes(&self) -> u64;
}

/// The writer's end of a link.
pub(crate) fn sender(side: &Side) -> Result<Box<dyn Sender>, BenchError> {
    let elements = side.bytes / 8;
    Ok(match &side.link {
        Link::Panta { url, span, .. } => Box::new(PantaSender::open(url, *span, elements)?),
        Link::File { path } => Box::new(BareFile {
            file: File::create(path).doing("create the bare file")?,
            buffer: Buffer::new(side.bytes, side.verify),
        }),
        Link::Tcp { relay } => Box::new(BareTcp::new(
            relay,
            b'w',
            Buffer::new(side.bytes, side.verify),
        )?),
    })
}

/// The reader's end of a link.
pub(crate) fn receiver(side: &Side) -> Result<Box<dyn Receiver>, BenchError> {
    let elements = side.bytes / 8;
    Ok(match &side.link {
        Link::Panta { url, view, .. } => Box::new(PantaReceiver {
            reader: Reader::open(url, Solo, Start::Oldest).doing("open for reading")?,
            view: *view,
            field: Array1::zeros(elements as usize),
        }),
        Link::File { path } => Box::new(BareFile {
            file: File::open(path).doing("open the bare file")?,
            buffer: Buffer::new(side.bytes, side.verify),
        }),
        Link::Tcp { relay } => Box::new(BareTcp::new(
            relay,
            b'r',
            Buffer::new(side.bytes, side.verify),
        )?),
    })
}

struct PantaSender {
    writer: Writer,
    variable: Var<f64>,
    span: bool,
    field: Array1<f64>,
}

impl PantaSender {
    fn open(url: &str, span: bool, elements: u64) -> Result<Self, BenchError> {
        let mut writer = Writer::open(url, Solo).doing("open for writing")?;
        let variable = writer
            .define::<f64>(VARIABLE, Shape::global([elements]))
            .doing("define")?;
        Ok(Self {
            writer,
            variable,
            span,
            field: Array1::zeros(elements as usize),
        })
    }
}

impl Sender for PantaSender {
    fn transport(&self) -> String {
        self.writer.info().transport
    }

    fn send(&mut self, number: u64, _channel: &mut UnixStream) -> Result<(), BenchError> {
        let elements = self.field.len() as u64;
        let step = self
            .writer
            .begin_step_of(StepTime::default(), elements * 8)
            .doing("begin a step")?;
        if self.span {
            let mut span = step.span(self.variable, &[0], &[elements]).doing("span")?;
            pattern::fill(span.as_mut_slice(), number, 0);
        } else {
            let field = self.field.as_slice_mut().unwrap_or_default();
            pattern::fill(field, number, 0);
            step.put(self.variable, &[0], &self.field).doing("put")?;
        }
        step.end().doing("end a step")?;
        Ok(())
    }

    fn copied_bytes(&self) -> u64 {
        self.writer.copies().bytes()
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        self.writer.close().doing("close")
    }
}

struct PantaReceiver {
    reader: Reader,
    view: bool,
    field: Array1<f64>,
}

impl Receiver for PantaReceiver {
    fn receive(&mut self, number: u64, _channel: &mut UnixStream) -> Result<u64, BenchError> {
        let step = self.reader.next_step().doing("wait for a step")?;
        let step = step.ok_or_else(|| BenchError::Failed {
            doing: format!("wait for step {number}"),
            why: "the stream was closed".into(),
        })?;
        if step.number() != number {
            return Err(BenchError::Failed {
                doing: format!("wait for step {number}"),
                why: format!("step {} came", step.number()),
            });
        }
        if self.view {
            let view = step.view::<f64>(VARIABLE, BlockId(0)).doing("view")?;
            let array = view.as_array();
            pattern::check(array.as_slice().unwrap_or_default(), number, 0, "the view")?;
        } else {
            step.get_into(VARIABLE, .., self.field.view_mut())
                .doing("get")?;
            let field = self.field.as_slice().unwrap_or_default();
            pattern::check(field, number, 0, "the array")?;
        }
        Ok(step.head().wall_clock_ns)
    }

    fn copied_bytes(&self) -> u64 {
        self.reader.copies().bytes()
    }
}

/// A step of the bare links: values and a checksum for each tile of them.
pub(crate) struct Buffer {
    pub(crate) values: Vec<f64>,
    crcs: Vec<u32>,
    verify: bool,
}

impl Buffer {
    pub(crate) fn new(bytes: u64, verify: bool) -> Self {
        Self {
            values: vec![0.0; bytes as usize / 8],
            crcs: vec![0; (bytes as usize).div_ceil(TILE_BYTES)],
            verify,
        }
    }

    /// Bytes of a step.
    fn step_bytes(&self) -> u64 {
        (self.values.len() * 8 + self.crcs.len() * 4) as u64
    }

    /// Makes the values.
    pub(crate) fn make(&mut self, step: u64) {
        pattern::fill(&mut self.values, step, 0);
    }

    /// Sums the values, as a put does.
    fn sum(&mut self) {
        self.crcs.clear();
        checksum_tiles(values(&self.values), &mut self.crcs, &mut |_| {});
    }

    /// Verifies what was received, as a get does.
    pub(crate) fn verify(&self) -> Result<(), BenchError> {
        match self.verify {
            true => verify_tiles(values(&self.values), &self.crcs).doing("verify a bare step"),
            false => Ok(()),
        }
    }

    /// Looks at every element, as a user does.
    pub(crate) fn check(&self, step: u64) -> Result<(), BenchError> {
        pattern::check(&self.values, step, 0, "the bare buffer")
    }
}

fn values(values: &[f64]) -> &[u8] {
    // SAFETY: floats are plain data without padding, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn values_mut(values: &mut [f64]) -> &mut [u8] {
    // SAFETY: as above; every pattern of bits is a float.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

fn sums(sums: &[u32]) -> &[u8] {
    // SAFETY: as for the floats.
    unsafe { std::slice::from_raw_parts(sums.as_ptr().cast(), size_of_val(sums)) }
}

fn sums_mut(sums: &mut [u32]) -> &mut [u8] {
    // SAFETY: as for the floats.
    unsafe { std::slice::from_raw_parts_mut(sums.as_mut_ptr().cast(), size_of_val(sums)) }
}

/// Writes a step behind the ones before it, and tells the other side.
struct BareFile {
    file: File,
    buffer: Buffer,
}

impl Sender for BareFile {
    fn transport(&self) -> String {
        "bare file".to_owned()
    }

    fn send(&mut self, step: u64, channel: &mut UnixStream) -> Result<(), BenchError> {
        let stamp_ns = wall_clock_ns();
        self.buffer.make(step);
        self.buffer.sum();
        let at = step * self.buffer.step_bytes();
        let data = values(&self.buffer.values);
        self.file.write_all_at(data, at).doing("write bare")?;
        let behind = at + data.len() as u64;
        self.file
            .write_all_at(sums(&self.buffer.crcs), behind)
            .doing("write bare")?;
        channel
            .write_all(&stamp_ns.to_le_bytes())
            .doing("tell of a bare step")
    }

    fn copied_bytes(&self) -> u64 {
        0
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        Ok(())
    }
}

impl Receiver for BareFile {
    fn receive(&mut self, step: u64, channel: &mut UnixStream) -> Result<u64, BenchError> {
        let mut stamp_ns = [0; 8];
        channel
            .read_exact(&mut stamp_ns)
            .doing("hear of a bare step")?;
        let at = step * self.buffer.step_bytes();
        let data = values_mut(&mut self.buffer.values);
        self.file.read_exact_at(data, at).doing("read bare")?;
        let behind = at + data.len() as u64;
        let crcs = sums_mut(&mut self.buffer.crcs);
        self.file.read_exact_at(crcs, behind).doing("read bare")?;
        self.buffer.verify()?;
        self.buffer.check(step)?;
        Ok(u64::from_le_bytes(stamp_ns))
    }

    fn copied_bytes(&self) -> u64 {
        0
    }
}

fn connect(relay: &str, side: u8) -> Result<TcpStream, BenchError> {
    let mut stream = TcpStream::connect(relay).doing("reach the relay")?;
    stream.set_nodelay(true).doing("reach the relay")?;
    stream
        .set_read_timeout(Some(SIDE_DEADLINE))
        .doing("reach the relay")?;
    stream.write_all(&[side]).doing("reach the relay")?;
    Ok(stream)
}

/// Sends a step to the relay, or asks it for one.
pub(crate) struct BareTcp {
    stream: TcpStream,
    pub(crate) buffer: Buffer,
}

impl BareTcp {
    pub(crate) fn new(relay: &str, side: u8, buffer: Buffer) -> Result<Self, BenchError> {
        let stream = connect(relay, side)?;
        Ok(Self { stream, buffer })
    }

    /// Sums what the buffer holds, sends it, and waits until the relay holds it.
    pub(crate) fn put(&mut self, stamp_ns: u64) -> Result<(), BenchError> {
        self.buffer.sum();
        let mut head = [0; 16];
        head[..8].copy_from_slice(&stamp_ns.to_le_bytes());
        head[8..].copy_from_slice(&self.buffer.step_bytes().to_le_bytes());
        self.stream.write_all(&head).doing("send bare")?;
        self.stream
            .write_all(values(&self.buffer.values))
            .doing("send bare")?;
        self.stream
            .write_all(sums(&self.buffer.crcs))
            .doing("send bare")?;
        let mut held = [0];
        self.stream
            .read_exact(&mut held)
            .doing("hear that the relay holds a step")
    }

    /// Asks for the next step, takes it in and verifies it; gives its stamp.
    pub(crate) fn get(&mut self) -> Result<u64, BenchError> {
        self.stream.write_all(b"?").doing("ask the relay")?;
        let mut stamp_ns = [0; 8];
        self.stream
            .read_exact(&mut stamp_ns)
            .doing("receive bare")?;
        self.stream
            .read_exact(values_mut(&mut self.buffer.values))
            .doing("receive bare")?;
        self.stream
            .read_exact(sums_mut(&mut self.buffer.crcs))
            .doing("receive bare")?;
        self.buffer.verify()?;
        Ok(u64::from_le_bytes(stamp_ns))
    }

    /// Asks for as many bytes as the buffer has, sums and takes them.
    pub(crate) fn echo(&mut self) -> Result<(), BenchError> {
        let bytes = size_of_val(self.buffer.values.as_slice()) as u64;
        let mut request = [0; 64];
        request[..8].copy_from_slice(&bytes.to_le_bytes());
        self.stream.write_all(&request).doing("ask the relay")?;
        self.stream
            .read_exact(values_mut(&mut self.buffer.values))
            .doing("receive bare")?;
        self.buffer.sum();
        Ok(())
    }
}

impl Sender for BareTcp {
    fn transport(&self) -> String {
        "bare tcp".to_owned()
    }

    fn send(&mut self, step: u64, _channel: &mut UnixStream) -> Result<(), BenchError> {
        let stamp_ns = wall_clock_ns();
        self.buffer.make(step);
        self.put(stamp_ns)
    }

    fn copied_bytes(&self) -> u64 {
        0
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        Ok(())
    }
}

impl Receiver for BareTcp {
    fn receive(&mut self, step: u64, _channel: &mut UnixStream) -> Result<u64, BenchError> {
        let stamp_ns = self.get()?;
        self.buffer.check(step)?;
        Ok(stamp_ns)
    }

    fn copied_bytes(&self) -> u64 {
        0
    }
}

/// Where a bare file of a measurement lies.
pub(crate) fn bare_path(directory: &Path) -> PathBuf {
    directory.join("bare")
}
