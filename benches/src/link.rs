//! What carries steps between the two sides: a stream of Panta, or the bare
//! movement of the same bytes.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ndarray::Array1;
use panta::{BlockId, Reader, Shape, Solo, Start, StepTime, Var, Writer};
use panta_transports::copy::{TILE_BYTES, checksum_tiles, verify_tiles};
use panta_transports::time::wall_clock_ns;
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Doing};
use crate::fabric::{FabricReceiver, FabricSender};
use crate::pattern::{self, Fields, bytes};
use crate::role::{SIDE_DEADLINE, Side};
use crate::shared::{BareShared, BareSharedReader};

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
    /// Loopback TCP from writer to reader.
    Direct {
        /// The file in which the writer says where it listens.
        address: PathBuf,
    },
    /// One-sided reads from the writer's slots.
    Fabric {
        /// The file in which the writer says where it listens.
        address: PathBuf,
        /// Libfabric's name of the provider.
        provider: String,
    },
    /// Memory that both sides have mapped.
    Shared {
        /// The file behind it.
        path: PathBuf,
        /// Whether the writer makes its values there.
        span: bool,
        /// Whether the reader looks at them there.
        view: bool,
        /// How long the reader looks before it sleeps.
        spin_us: u64,
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
    /// Bytes of the user's own arrays.
    fn fields_bytes(&self) -> u64;
    /// Ends in good order.
    fn close(self: Box<Self>) -> Result<(), BenchError>;
}

/// Brings steps.
pub(crate) trait Receiver {
    /// Waits for a step, checks every element, and gives its stamp.
    fn receive(&mut self, step: u64, channel: &mut UnixStream) -> Result<u64, BenchError>;
    /// Bytes copied, as far as they are counted.
    fn copied_bytes(&self) -> u64;
    /// Bytes of the user's own arrays.
    fn fields_bytes(&self) -> u64;
}

/// The writer's end of a link.
pub(crate) fn sender(side: &Side) -> Result<Box<dyn Sender>, BenchError> {
    let elements = side.bytes / 8;
    Ok(match &side.link {
        Link::Panta { url, span, .. } => Box::new(PantaSender::open(url, *span, elements)?),
        Link::File { path } => Box::new(BareFileSender {
            file: File::create(path).doing("create the bare file")?,
            premade: Premade::new(side.bytes),
        }),
        Link::Tcp { relay } => {
            let mut stream = connect(relay)?;
            stream.write_all(b"w").doing("reach the relay")?;
            let premade = Premade::new(side.bytes);
            Box::new(BareTcpSender { stream, premade })
        }
        Link::Direct { address } => Box::new(DirectSender::open(address, side.bytes)?),
        Link::Fabric { address, provider } => {
            Box::new(FabricSender::open(address, provider, side.bytes)?)
        }
        Link::Shared {
            path,
            span,
            spin_us,
            ..
        } => Box::new(BareShared::open(
            path,
            side.bytes,
            (*span, true),
            side.verify,
            Duration::from_micros(*spin_us),
        )?),
    })
}

/// The reader's end of a link.
pub(crate) fn receiver(side: &Side) -> Result<Box<dyn Receiver>, BenchError> {
    let elements = side.bytes / 8;
    Ok(match &side.link {
        Link::Panta { url, span, view } => Box::new(PantaReceiver {
            reader: Reader::open(url, Solo, Start::Oldest).doing("open for reading")?,
            view: *view,
            premade: !span,
            field: Array1::zeros(if *view { 0 } else { elements as usize }),
        }),
        Link::File { path } => Box::new(BareFileReceiver {
            file: File::open(path).doing("open the bare file")?,
            buffer: Buffer::new(side.bytes, side.verify),
        }),
        Link::Tcp { relay } => Box::new(BareTcp::new(
            relay,
            b'r',
            Buffer::new(side.bytes, side.verify),
        )?),
        Link::Direct { address } => Box::new(DirectReceiver {
            stream: connect(&std::fs::read_to_string(address).doing("find the bare writer")?)?,
            buffer: Buffer::new(side.bytes, side.verify),
        }),
        Link::Fabric { address, .. } => {
            Box::new(FabricReceiver::open(address, side.bytes, side.verify)?)
        }
        Link::Shared {
            path,
            span,
            view,
            spin_us,
        } => Box::new(BareSharedReader {
            shared: BareShared::open(
                path,
                side.bytes,
                (*view, false),
                side.verify,
                Duration::from_micros(*spin_us),
            )?,
            field: vec![0.0; if *view { 0 } else { elements as usize }],
            premade: !span,
        }),
    })
}

struct PantaSender {
    writer: Writer,
    variable: Var<f64>,
    span: bool,
    elements: u64,
    fields: Fields,
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
            elements,
            fields: Fields::new(if span { 0 } else { elements as usize }),
        })
    }
}

impl Sender for PantaSender {
    fn transport(&self) -> String {
        self.writer.info().transport
    }

    fn send(&mut self, number: u64, _channel: &mut UnixStream) -> Result<(), BenchError> {
        let elements = self.elements;
        let step = self
            .writer
            .begin_step_of(StepTime::default(), elements * 8)
            .doing("begin a step")?;
        if self.span {
            let mut span = step.span(self.variable, &[0], &[elements]).doing("span")?;
            pattern::fill(span.as_mut_slice(), number, 0);
        } else {
            step.put(self.variable, &[0], self.fields.array(number))
                .doing("put")?;
        }
        step.end().doing("end a step")?;
        Ok(())
    }

    fn copied_bytes(&self) -> u64 {
        self.writer.copies().bytes()
    }

    fn fields_bytes(&self) -> u64 {
        self.fields.bytes()
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        self.writer.close().doing("close")
    }
}

struct PantaReceiver {
    reader: Reader,
    view: bool,
    premade: bool,
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
            let values = array.as_slice().unwrap_or_default();
            pattern::check_as(values, number, self.premade, "the view")?;
        } else {
            step.get_into(VARIABLE, .., self.field.view_mut())
                .doing("get")?;
            let field = self.field.as_slice().unwrap_or_default();
            pattern::check_as(field, number, self.premade, "the array")?;
        }
        Ok(step.head().wall_clock_ns)
    }

    fn copied_bytes(&self) -> u64 {
        self.reader.copies().bytes()
    }

    fn fields_bytes(&self) -> u64 {
        (self.field.len() * 8) as u64
    }
}

/// A step of the bare links: values and a checksum for each tile of them.
pub(crate) struct Buffer {
    pub(crate) values: Vec<f64>,
    pub(crate) crcs: Vec<u32>,
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
        checksum_tiles(bytes(&self.values), &mut self.crcs, &mut |_| {});
    }

    /// Verifies what was received, as a get does.
    pub(crate) fn verify(&self) -> Result<(), BenchError> {
        match self.verify {
            true => verify_tiles(bytes(&self.values), &self.crcs).doing("verify a bare step"),
            false => Ok(()),
        }
    }

    /// Looks at every element, as a user does.
    pub(crate) fn check(&self, step: u64) -> Result<(), BenchError> {
        pattern::check(&self.values, step, 0, "the bare buffer")
    }

    /// The same for a step of [`Premade`] values.
    pub(crate) fn check_premade(&self, step: u64) -> Result<(), BenchError> {
        pattern::check_as(&self.values, step, true, "the bare buffer")
    }
}

/// Steps made beforehand, each summed when it is sent, as a put does.
struct Premade {
    fields: Fields,
    crcs: Vec<u32>,
}

impl Premade {
    fn new(step_bytes: u64) -> Self {
        Self {
            fields: Fields::new(step_bytes as usize / 8),
            crcs: Vec::new(),
        }
    }

    /// Values and sums of a step, as bytes.
    fn summed(&mut self, step: u64) -> (&[u8], &[u8]) {
        let values = bytes(self.fields.of(step));
        self.crcs.clear();
        checksum_tiles(values, &mut self.crcs, &mut |_| {});
        (values, sums(&self.crcs))
    }
}

pub(crate) fn values_mut(values: &mut [f64]) -> &mut [u8] {
    // SAFETY: floats are plain data without padding, bytes need no alignment, and every
    // pattern of bits is a float.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

fn sums(sums: &[u32]) -> &[u8] {
    // SAFETY: as for the floats.
    unsafe { std::slice::from_raw_parts(sums.as_ptr().cast(), size_of_val(sums)) }
}

pub(crate) fn sums_mut(sums: &mut [u32]) -> &mut [u8] {
    // SAFETY: as for the floats.
    unsafe { std::slice::from_raw_parts_mut(sums.as_mut_ptr().cast(), size_of_val(sums)) }
}

/// Writes a step behind the ones before it, and tells the other side.
struct BareFileSender {
    file: File,
    premade: Premade,
}

impl Sender for BareFileSender {
    fn transport(&self) -> String {
        "bare file".to_owned()
    }

    fn send(&mut self, step: u64, channel: &mut UnixStream) -> Result<(), BenchError> {
        let stamp_ns = wall_clock_ns();
        let (data, crcs) = self.premade.summed(step);
        let at = step * (data.len() + crcs.len()) as u64;
        self.file.write_all_at(data, at).doing("write bare")?;
        let behind = at + data.len() as u64;
        self.file.write_all_at(crcs, behind).doing("write bare")?;
        channel
            .write_all(&stamp_ns.to_le_bytes())
            .doing("tell of a bare step")
    }

    fn copied_bytes(&self) -> u64 {
        0
    }

    fn fields_bytes(&self) -> u64 {
        self.premade.fields.bytes()
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        Ok(())
    }
}

/// Reads what it is told of.
struct BareFileReceiver {
    file: File,
    buffer: Buffer,
}

impl Receiver for BareFileReceiver {
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
        self.buffer.check_premade(step)?;
        Ok(u64::from_le_bytes(stamp_ns))
    }

    fn copied_bytes(&self) -> u64 {
        0
    }

    fn fields_bytes(&self) -> u64 {
        size_of_val(self.buffer.values.as_slice()) as u64
    }
}

pub(crate) fn connect(address: &str) -> Result<TcpStream, BenchError> {
    tuned(TcpStream::connect(address).doing("reach the bare peer")?)
}

pub(crate) fn tuned(stream: TcpStream) -> Result<TcpStream, BenchError> {
    stream.set_nodelay(true).doing("reach the bare peer")?;
    stream
        .set_read_timeout(Some(SIDE_DEADLINE))
        .doing("reach the bare peer")?;
    Ok(stream)
}

/// Sends a step to the relay and waits until it is held there.
fn put_bare(
    stream: &mut TcpStream,
    stamp_ns: u64,
    data: &[u8],
    crcs: &[u8],
) -> Result<(), BenchError> {
    let mut head = [0; 16];
    head[..8].copy_from_slice(&stamp_ns.to_le_bytes());
    head[8..].copy_from_slice(&((data.len() + crcs.len()) as u64).to_le_bytes());
    for part in [&head, data, crcs] {
        stream.write_all(part).doing("send bare")?;
    }
    let mut held = [0];
    stream
        .read_exact(&mut held)
        .doing("hear that the relay holds a step")
}

/// Sends a step to the relay, or asks it for one.
pub(crate) struct BareTcp {
    stream: TcpStream,
    pub(crate) buffer: Buffer,
}

impl BareTcp {
    pub(crate) fn new(relay: &str, side: u8, buffer: Buffer) -> Result<Self, BenchError> {
        let mut stream = connect(relay)?;
        stream.write_all(&[side]).doing("reach the relay")?;
        Ok(Self { stream, buffer })
    }

    /// Sums what the buffer holds, sends it, and waits until the relay holds it.
    pub(crate) fn put(&mut self, stamp_ns: u64) -> Result<(), BenchError> {
        self.buffer.sum();
        let (data, crcs) = (bytes(&self.buffer.values), sums(&self.buffer.crcs));
        put_bare(&mut self.stream, stamp_ns, data, crcs)
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
        let asked = size_of_val(self.buffer.values.as_slice()) as u64;
        let mut request = [0; 64];
        request[..8].copy_from_slice(&asked.to_le_bytes());
        self.stream.write_all(&request).doing("ask the relay")?;
        self.stream
            .read_exact(values_mut(&mut self.buffer.values))
            .doing("receive bare")?;
        self.buffer.sum();
        Ok(())
    }
}

/// Sends steps to the relay and waits until it holds them.
struct BareTcpSender {
    stream: TcpStream,
    premade: Premade,
}

impl Sender for BareTcpSender {
    fn transport(&self) -> String {
        "bare tcp".to_owned()
    }

    fn send(&mut self, step: u64, _channel: &mut UnixStream) -> Result<(), BenchError> {
        let stamp_ns = wall_clock_ns();
        let (data, crcs) = self.premade.summed(step);
        put_bare(&mut self.stream, stamp_ns, data, crcs)
    }

    fn copied_bytes(&self) -> u64 {
        0
    }

    fn fields_bytes(&self) -> u64 {
        self.premade.fields.bytes()
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        Ok(())
    }
}

impl Receiver for BareTcp {
    fn receive(&mut self, step: u64, _channel: &mut UnixStream) -> Result<u64, BenchError> {
        let stamp_ns = self.get()?;
        self.buffer.check_premade(step)?;
        Ok(stamp_ns)
    }

    fn copied_bytes(&self) -> u64 {
        0
    }

    fn fields_bytes(&self) -> u64 {
        size_of_val(self.buffer.values.as_slice()) as u64
    }
}

/// Sends steps straight to the reader, as fast as the connection takes them.
struct DirectSender {
    listener: TcpListener,
    stream: Option<TcpStream>,
    premade: Premade,
}

impl DirectSender {
    fn open(address: &Path, step_bytes: u64) -> Result<Self, BenchError> {
        let listener = TcpListener::bind("127.0.0.1:0").doing("listen bare")?;
        let ours = listener.local_addr().doing("listen bare")?;
        std::fs::write(address, ours.to_string()).doing("say where the bare writer is")?;
        Ok(Self {
            listener,
            stream: None,
            premade: Premade::new(step_bytes),
        })
    }
}

impl Sender for DirectSender {
    fn transport(&self) -> String {
        "bare tcp".to_owned()
    }

    fn send(&mut self, step: u64, _channel: &mut UnixStream) -> Result<(), BenchError> {
        let stamp_ns = wall_clock_ns();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => tuned(self.listener.accept().doing("meet the bare reader")?.0)?,
        };
        let (data, crcs) = self.premade.summed(step);
        for part in [&stamp_ns.to_le_bytes(), data, crcs] {
            stream.write_all(part).doing("send bare")?;
        }
        self.stream = Some(stream);
        Ok(())
    }

    fn copied_bytes(&self) -> u64 {
        0
    }

    fn fields_bytes(&self) -> u64 {
        self.premade.fields.bytes()
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        Ok(())
    }
}

/// Takes what the writer sends.
struct DirectReceiver {
    stream: TcpStream,
    buffer: Buffer,
}

impl Receiver for DirectReceiver {
    fn receive(&mut self, step: u64, _channel: &mut UnixStream) -> Result<u64, BenchError> {
        let mut stamp_ns = [0; 8];
        let (stream, buffer) = (&mut self.stream, &mut self.buffer);
        stream.read_exact(&mut stamp_ns).doing("receive bare")?;
        stream
            .read_exact(values_mut(&mut buffer.values))
            .doing("receive bare")?;
        stream
            .read_exact(sums_mut(&mut buffer.crcs))
            .doing("receive bare")?;
        buffer.verify()?;
        buffer.check_premade(step)?;
        Ok(u64::from_le_bytes(stamp_ns))
    }

    fn copied_bytes(&self) -> u64 {
        0
    }

    fn fields_bytes(&self) -> u64 {
        size_of_val(self.buffer.values.as_slice()) as u64
    }
}

/// Where a bare file of a measurement lies.
pub(crate) fn bare_path(directory: &Path) -> PathBuf {
    directory.join("bare")
}
