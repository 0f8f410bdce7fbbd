//! The two clients of the workload `staging`.
//!
//! ```text
//! round   reader asks ─> writer: put ours, put bare, memcpy ─> reader: get ours, get bare
//! boxes   writer puts 64 blocks; reader opens anew for each cold get, then says so,
//!         waits for its owner to note the servers' counts, and gets warm ones
//! ```
//! Only one of the two works at a time, so that each is timed alone.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use ndarray::{Array3, ArrayViewMut3};
use panta::{Reader, Shape, Snapshot, Solo, Start, StepTime, Var, Writer};
use panta_transports::time::Time;
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Doing};
use crate::link::{BareTcp, Buffer};
use crate::pattern;
use crate::process::{pss_bytes, say, wait_for_word};
use crate::role::{Ready, side_channel};
use crate::routing::Numbers;
use crate::statistics::Memcpy;

const VARIABLE: &str = "u";
/// Blocks along each side of the cube that boxes are taken of.
const BLOCKS_A_SIDE: u64 = 4;

/// What the two clients are told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Space {
    /// The stream of whole arrays.
    pub(crate) whole: String,
    /// The stream of many blocks.
    pub(crate) blocks: String,
    /// Where the bare server listens.
    pub(crate) relay: String,
    /// Where the two meet.
    pub(crate) meeting: PathBuf,
    /// Sides of the whole array.
    pub(crate) shape: [u64; 3],
    /// Rounds of whole puts and gets.
    pub(crate) rounds: u64,
    /// Side of a box.
    pub(crate) box_side: u64,
    /// Gets by readers that were just opened.
    pub(crate) cold: u64,
    /// Gets by one reader.
    pub(crate) warm: u64,
    /// Whether checksums are verified.
    pub(crate) verify: bool,
}

impl Space {
    fn bytes(&self) -> u64 {
        self.shape.iter().product::<u64>() * 8
    }

    /// Side of the cube that boxes are taken of.
    fn edge(&self) -> u64 {
        self.shape[0]
    }
}

/// Seconds of whole puts or gets, and how much was copied.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Whole {
    pub(crate) ours: Vec<f64>,
    pub(crate) bare: Vec<f64>,
    pub(crate) memcpy_gb_per_s: Vec<f64>,
    pub(crate) copied_bytes: u64,
    pub(crate) pss_bytes: u64,
}

/// Times of boxes in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Boxes {
    pub(crate) ours_us: Vec<f64>,
    pub(crate) bare_us: Vec<f64>,
}

/// Seconds that `work` takes.
fn timed(work: impl FnOnce() -> Result<(), BenchError>) -> Result<f64, BenchError> {
    let begin = Time::now();
    work()?;
    Ok(Time::now().since(begin).as_secs_f64())
}

/// The writer's side.
pub(crate) fn write(space: &Space) -> Result<(), BenchError> {
    let mut out = Writer::open(&space.whole, Solo).doing("open for writing")?;
    let whole = out
        .define::<f64>(VARIABLE, Shape::global(space.shape))
        .doing("define")?;
    let buffer = Buffer::new(space.bytes(), space.verify);
    let mut bare = BareTcp::new(&space.relay, b'w', buffer)?;
    let mut memcpy = Memcpy::new();
    let listener = UnixListener::bind(&space.meeting).doing("meet the reader")?;
    say(&Ready {
        transport: out.info().transport,
    })?;
    let (stream, _) = listener.accept().doing("meet the reader")?;
    let mut channel = side_channel(stream)?;

    let mut field = Array3::<f64>::zeros(space.shape.map(|side| side as usize));
    let mut measured = Whole::default();
    for number in 0..space.rounds {
        hear(&mut channel)?;
        pattern::fill(field.as_slice_mut().unwrap_or_default(), number, 0);
        measured
            .ours
            .push(timed(|| put_whole(&mut out, whole, &field))?);
        bare.buffer.make(number);
        measured.bare.push(timed(|| bare.put(0))?);
        measured.memcpy_gb_per_s.push(memcpy.gb_per_s());
        tell(&mut channel)?;
    }
    measured.copied_bytes = out.copies().bytes();
    measured.pss_bytes = pss_bytes();
    say(&measured)?;

    let mut out_blocks = Writer::open(&space.blocks, Solo).doing("open for writing")?;
    hear(&mut channel)?;
    put_blocks(&mut out_blocks, space.edge())?;
    tell(&mut channel)?;
    wait_for_word();
    out_blocks.close().doing("close")?;
    out.close().doing("close")
}

fn put_whole(out: &mut Writer, variable: Var<f64>, field: &Array3<f64>) -> Result<(), BenchError> {
    let bytes = field.len() as u64 * 8;
    let step = out
        .begin_step_of(StepTime::default(), bytes)
        .doing("begin a step")?;
    step.put(variable, &[0, 0, 0], field).doing("put")?;
    step.end().doing("end a step")?;
    Ok(())
}

/// Puts a cube as 64 blocks in one step.
fn put_blocks(out: &mut Writer, edge: u64) -> Result<(), BenchError> {
    let variable = out
        .define::<f64>(VARIABLE, Shape::global([edge; 3]))
        .doing("define")?;
    let side = edge / BLOCKS_A_SIDE;
    let places = 0..BLOCKS_A_SIDE.pow(3);
    let start_of = |place: u64| {
        let along = [place / 16, place / 4 % 4, place % 4];
        along.map(|block| block * side)
    };
    let blocks: Vec<Array3<f64>> = places
        .clone()
        .map(|place| {
            let mut block = Array3::zeros([side as usize; 3]);
            visit_rows(
                block.view_mut(),
                start_of(place),
                edge,
                &mut |row, first| {
                    pattern::fill(row, 0, first);
                    Ok(())
                },
            )?;
            Ok(block)
        })
        .collect::<Result<_, BenchError>>()?;
    let bytes = edge.pow(3) * 8;
    let step = out
        .begin_step_of(StepTime::default(), bytes)
        .doing("begin a step")?;
    for (place, block) in places.zip(&blocks) {
        step.put(variable, &start_of(place), block).doing("put")?;
    }
    step.end().doing("end a step")?;
    Ok(())
}

/// What is done with a row and the place of its first element.
type Visit<'v> = dyn FnMut(&mut [f64], u64) -> Result<(), BenchError> + 'v;

/// Visits the rows of a box that begins at `start` of a cube, each with the place of
/// its first element in the cube.
fn visit_rows(
    mut cells: ArrayViewMut3<'_, f64>,
    start: [u64; 3],
    edge: u64,
    visit: &mut Visit<'_>,
) -> Result<(), BenchError> {
    for (z, mut plane) in (start[0]..).zip(cells.outer_iter_mut()) {
        for (y, mut row) in (start[1]..).zip(plane.outer_iter_mut()) {
            let first = (z * edge + y) * edge + start[2];
            visit(row.as_slice_mut().unwrap_or_default(), first)?;
        }
    }
    Ok(())
}

/// The reader's side.
pub(crate) fn read(space: &Space) -> Result<(), BenchError> {
    let mut inp = Reader::open(&space.whole, Solo, Start::Oldest).doing("open for reading")?;
    let buffer = Buffer::new(space.bytes(), space.verify);
    let mut bare = BareTcp::new(&space.relay, b'r', buffer)?;
    let stream = UnixStream::connect(&space.meeting).doing("meet the writer")?;
    let mut channel = side_channel(stream)?;
    let mut memcpy = Memcpy::new();

    let mut field = Array3::<f64>::zeros(space.shape.map(|side| side as usize));
    let mut measured = Whole::default();
    for number in 0..space.rounds {
        tell(&mut channel)?;
        hear(&mut channel)?;
        let step = next(&mut inp)?;
        let get = || step.get_into(VARIABLE, .., field.view_mut()).doing("get");
        measured.ours.push(timed(get)?);
        drop(step);
        let values = field.as_slice().unwrap_or_default();
        pattern::check(values, number, 0, "the whole array")?;
        measured.bare.push(timed(|| bare.get().map(drop))?);
        bare.buffer.check(number)?;
        measured.memcpy_gb_per_s.push(memcpy.gb_per_s());
    }
    measured.copied_bytes = inp.copies().bytes();
    measured.pss_bytes = pss_bytes();
    say(&measured)?;

    tell(&mut channel)?;
    hear(&mut channel)?;
    let mut taker = Taker::new(space)?;
    taker.cold()?;
    taker.warm()?;
    wait_for_word();
    Ok(())
}

fn next(inp: &mut Reader) -> Result<Snapshot, BenchError> {
    let step = inp.next_step().doing("wait for a step")?;
    let step = step.ok_or_else(|| BenchError::Failed {
        doing: "wait for a step".into(),
        why: "the stream was closed".into(),
    })?;
    Ok(step.detach())
}

/// Takes boxes at random places, and checks them.
struct Taker<'s> {
    space: &'s Space,
    cells: Array3<f64>,
    numbers: Numbers,
    bare: BareTcp,
}

impl<'s> Taker<'s> {
    fn new(space: &'s Space) -> Result<Self, BenchError> {
        let side = space.box_side;
        let buffer = Buffer::new(side.pow(3) * 8, space.verify);
        Ok(Self {
            space,
            cells: Array3::zeros([side as usize; 3]),
            numbers: Numbers::new(7),
            bare: BareTcp::new(&space.relay, b'e', buffer)?,
        })
    }

    /// Gets one box, and gives the microseconds it took.
    fn take(&mut self, step: &Snapshot) -> Result<f64, BenchError> {
        let (edge, side) = (self.space.edge(), self.space.box_side);
        let mut place = || self.numbers.below(edge - side + 1);
        let start = [place(), place(), place()];
        let cells = self.cells.view_mut();
        let count = [side; 3];
        let seconds = timed(|| {
            step.get_into(VARIABLE, (start, count), cells)
                .doing("get a box")
        })?;
        visit_rows(self.cells.view_mut(), start, edge, &mut |row, first| {
            pattern::check(row, 0, first, "a box")
        })?;
        Ok(seconds * 1e6)
    }

    /// The first get of readers that were just opened.
    fn cold(&mut self) -> Result<(), BenchError> {
        let mut boxes = Boxes::default();
        for _ in 0..self.space.cold {
            let blocks = Reader::open(&self.space.blocks, Solo, Start::Oldest);
            let mut inp = blocks.doing("open for reading")?;
            let step = next(&mut inp)?;
            boxes.ours_us.push(self.take(&step)?);
        }
        say(&boxes)
    }

    /// Gets by one reader that knows the layout, between two words of the owner.
    fn warm(&mut self) -> Result<(), BenchError> {
        let blocks = Reader::open(&self.space.blocks, Solo, Start::Oldest);
        let mut inp = blocks.doing("open for reading")?;
        let step = next(&mut inp)?;
        self.take(&step)?;
        let mut boxes = Boxes::default();
        for _ in 0..self.space.warm {
            boxes.bare_us.push(timed(|| self.bare.echo())? * 1e6);
        }
        // The servers' counts are noted now.
        say(&Ready {
            transport: inp.info().transport,
        })?;
        wait_for_word();
        for _ in 0..self.space.warm {
            boxes.ours_us.push(self.take(&step)?);
        }
        say(&boxes)
    }
}

fn tell(channel: &mut UnixStream) -> Result<(), BenchError> {
    channel.write_all(b"!").doing("tell the other side")
}

fn hear(channel: &mut UnixStream) -> Result<(), BenchError> {
    channel
        .read_exact(&mut [0])
        .doing("hear from the other side")
}
