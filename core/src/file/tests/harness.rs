//! What a session does for N ranks, without a control tree: so that a test can
//! stop between any two calls.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use panta_transports::copy::{CopyCounter, StridedMut, StridedRef};
use panta_transports::time::{Interrupt, Wait};

use crate::codec::{Coded, digest};
use crate::config::{Engine, Options, Target};
use crate::engine::{
    Admission, Captured, EngineFactory, OpenArguments, PutBlock, Read, ReaderEngine, Resume,
    Sealing, Source, SpanId, Start, Wanted, WriterEngine,
};
use crate::error::{EndError, GetError, NextError, OpenError, PutError};
use crate::file::{FileEngine, FileReader};
use crate::model::{
    Block, DType, Definition, Dims, Layout, LayoutEntry, Payload, Schema, ShapeKind, StepHead,
    StepMeta, StepRecord, StepTime,
};

pub(super) fn soon() -> Wait {
    Wait::for_at_most(Duration::from_secs(20))
}

pub(super) fn at_once() -> Wait {
    Wait::for_at_most(Duration::ZERO)
}

/// One dataset and how it is opened.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) target: Target,
    pub(super) copies: CopyCounter,
}

impl Stream {
    pub(super) fn at(path: &Path) -> Self {
        Self {
            target: Target {
                engine: Engine::File,
                name: path.to_str().unwrap().to_owned(),
                options: Options::default(),
                given: BTreeSet::new(),
            },
            copies: CopyCounter::new(),
        }
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        Path::new(&self.target.name).join(file)
    }

    fn with<T>(
        &self,
        rank: usize,
        size: usize,
        wait: &Wait,
        call: impl FnOnce(&OpenArguments<'_>) -> T,
    ) -> T {
        let interrupt = Interrupt::default();
        call(&OpenArguments {
            stream: "run",
            target: &self.target,
            rank,
            size,
            wait,
            interrupt: &interrupt,
            copies: &self.copies,
        })
    }

    pub(super) fn writer(&self, size: usize, resume: Resume) -> Result<Writers, OpenError> {
        let wait = soon();
        let prepared = self.with(0, size, &wait, |it| FileEngine.prepare_writer(it, resume))?;
        let ranks = (0..size)
            .map(|rank| {
                self.with(rank, size, &wait, |it| {
                    FileEngine.attach_writer(it, &prepared)
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Writers {
            ranks,
            epoch: prepared.epoch,
            next_step: prepared.next_step,
            variables: vec![grid("u", &[64, 48])],
        })
    }

    pub(super) fn reader(&self, start: Start) -> Result<FileReader, OpenError> {
        let wait = at_once();
        let ticket = self.with(0, 1, &wait, |it| FileEngine.prepare_reader(it, &start))?;
        self.with(0, 1, &wait, |it| FileReader::attach(it, &start, &ticket))
    }
}

pub(super) fn grid(name: &str, shape: &[u64]) -> Definition {
    Definition {
        name: name.into(),
        dtype: DType::F64,
        kind: ShapeKind::GlobalArray,
        shape: shape.to_vec(),
        dims: vec![],
        unit: String::new(),
        coordinates: vec![],
        fill: None,
        chunk: None,
        accuracy: None,
    }
}

/// A block that a rank puts.
pub(super) struct Put {
    pub(super) variable: u32,
    pub(super) start: Vec<u64>,
    pub(super) count: Vec<u64>,
    pub(super) bytes: Vec<u8>,
    /// Bytes between the rows' beginnings, if they do not follow each other.
    pub(super) row_bytes: Option<i64>,
    /// The engine's own memory, instead of `bytes`.
    pub(super) source: Option<SpanId>,
}

impl Put {
    /// A block of `u` whose cells are a function of step and global index.
    pub(super) fn of_grid(step: u64, start: &[u64], count: &[u64]) -> Self {
        let mut bytes = Vec::new();
        for y in start[0]..start[0] + count[0] {
            for x in start[1]..start[1] + count[1] {
                bytes.extend(value(step, y, x).to_le_bytes());
            }
        }
        Self {
            variable: 0,
            start: start.into(),
            count: count.to_vec(),
            bytes,
            row_bytes: None,
            source: None,
        }
    }

    /// The same with `gap` elements between rows.
    pub(super) fn with_gaps(mut self, gap: usize) -> Self {
        let row = self.count[1] as usize * 8;
        let spread: Vec<u8> = self
            .bytes
            .chunks(row)
            .flat_map(|cells| [cells, &vec![0xEE; gap * 8]].concat())
            .collect();
        self.row_bytes = Some((row + gap * 8) as i64);
        self.bytes = spread;
        self
    }
}

pub(super) fn value(step: u64, y: u64, x: u64) -> f64 {
    (step * 1_000_000 + y * 1000 + x) as f64
}

/// The ranks of a writer group.
pub(super) struct Writers {
    pub(super) ranks: Vec<Box<dyn WriterEngine>>,
    pub(super) epoch: u64,
    pub(super) next_step: u64,
    pub(super) variables: Vec<Definition>,
}

impl Writers {
    /// The usual step: the grid cut into rows, one part a rank.
    pub(super) fn step(&mut self) -> u64 {
        let (step, size) = (self.next_step, self.ranks.len() as u64);
        let rows = 64 / size;
        let puts = (0..size)
            .map(|rank| {
                let count = if rank + 1 == size {
                    64 - rank * rows
                } else {
                    rows
                };
                vec![Put::of_grid(step, &[rank * rows, 0], &[count, 48])]
            })
            .collect();
        self.put(puts).unwrap();
        step
    }

    /// One step of these blocks, by rank.
    pub(super) fn put(&mut self, puts: Vec<Vec<Put>>) -> Result<u64, EndError> {
        let captured = self.capture(puts).expect("capture");
        self.seal(captured)
    }

    pub(super) fn capture(&mut self, puts: Vec<Vec<Put>>) -> Result<Captures, PutError> {
        let head = StepHead {
            epoch: self.epoch,
            step: self.next_step,
            time: StepTime::sim(self.next_step as f64 / 2.0),
            wall_clock_ns: 1,
        };
        self.next_step += 1;
        let schema = Arc::new(Schema {
            variables: self.variables.iter().cloned().map(Arc::new).collect(),
            ..Schema::default()
        });
        let reserved = vec![0; self.ranks.len()];
        let admission = self.ranks[0]
            .admit(&head, &schema, &reserved, &soon())
            .unwrap();
        let Admission::Write(admission) = admission else {
            panic!("discarded")
        };
        let mut blocks: Vec<Vec<(Block, Payload)>> = vec![Vec::new(); self.variables.len()];
        let mut contributions = Vec::new();
        for (rank, engine) in self.ranks.iter_mut().enumerate() {
            engine.begin(&head, &schema, &admission).unwrap();
            let mine = puts.get(rank).map_or(&[][..], |puts| puts);
            let given: Vec<PutBlock<'_>> = mine
                .iter()
                .enumerate()
                .map(|(order, put)| PutBlock {
                    variable: put.variable,
                    definition: &schema.variables[put.variable as usize],
                    order: order as u32,
                    start: &put.start,
                    count: &put.count,
                    source: match put.source {
                        Some(span) => Source::Span(span),
                        None => Source::Memory(view(put)),
                    },
                })
                .collect();
            let mut captured = Captured::default();
            engine.capture(&head, &given, &mut captured, &soon())?;
            for ((order, put), stats) in mine.iter().enumerate().zip(captured.stats) {
                let block = Block {
                    rank: rank as u32,
                    order: order as u32,
                    start: put.start.clone(),
                    count: put.count.clone(),
                };
                blocks[put.variable as usize].push((block, Payload::Array(stats)));
            }
            contributions.push(captured.contribution);
        }
        let (layout, payloads): (Vec<_>, Vec<_>) = blocks
            .into_iter()
            .enumerate()
            .filter(|(_, blocks)| !blocks.is_empty())
            .map(|(variable, blocks)| {
                let (blocks, payloads) = blocks.into_iter().unzip();
                let variable = variable as u32;
                (LayoutEntry { variable, blocks }, payloads)
            })
            .unzip();
        let layout = Arc::new(Layout { entries: layout });
        let record = StepRecord {
            head,
            schema_digest: digest(&schema.to_bytes()),
            layout_digest: digest(&layout.to_bytes()),
            payloads,
        };
        Ok(Captures {
            schema,
            layout,
            record,
            contributions,
        })
    }

    /// One step of one block on one rank, from a source of the engine's.
    pub(super) fn put_source(&mut self, mut put: Put, span: SpanId) {
        put.source = Some(span);
        self.put(vec![vec![put]]).unwrap();
    }

    pub(super) fn seal(&mut self, captures: Captures) -> Result<u64, EndError> {
        let sealing = Sealing {
            record: &captures.record,
            schema: &captures.schema,
            schema_bytes: &captures.schema.to_bytes().into(),
            layout: &captures.layout,
            layout_bytes: &captures.layout.to_bytes().into(),
            contributions: &captures.contributions,
        };
        let sealed = self.ranks[0].seal(&sealing, &soon());
        self.finish(&captures.record.head, sealed.is_ok());
        sealed.map(|()| captures.record.head.step)
    }

    pub(super) fn finish(&mut self, head: &StepHead, sealed: bool) {
        for engine in &mut self.ranks {
            engine.finish(head, sealed);
        }
    }

    pub(super) fn close(mut self) {
        self.ranks[0].close_root(&soon()).unwrap();
        for engine in &mut self.ranks {
            engine.close(&soon()).unwrap();
        }
    }
}

/// A step between capture and seal.
pub(super) struct Captures {
    pub(super) schema: Arc<Schema>,
    pub(super) layout: Arc<Layout>,
    pub(super) record: StepRecord,
    pub(super) contributions: Vec<Vec<u8>>,
}

fn view(put: &Put) -> StridedRef<'_> {
    let element = 8;
    match put.row_bytes {
        None => StridedRef::contiguous(&put.bytes, element, &put.count).unwrap(),
        // SAFETY: `with_gaps` has laid `bytes` out by these strides.
        Some(row) => unsafe {
            StridedRef::from_raw_parts(put.bytes.as_ptr(), element, &put.count, &[row, 8])
        }
        .unwrap(),
    }
}

/// The next step of a reader, as its session sees it.
pub(super) fn next(reader: &FileReader, wait: &Wait) -> Result<Option<StepMeta>, NextError> {
    let mut announcement = Vec::new();
    match reader.next(&[], &mut announcement, wait)? {
        true => reader.load(&announcement).map(Some),
        false => Ok(None),
    }
}

/// Numbers of the steps up to the end, and how it ended.
pub(super) fn steps(reader: &FileReader) -> (Vec<u64>, Option<NextError>) {
    let mut seen = Vec::new();
    loop {
        match next(reader, &at_once()) {
            Ok(Some(step)) => seen.push(step.head.step),
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        }
    }
}

/// Cells of one variable, `count` from `start`, every `step`-th.
pub(super) fn get(
    reader: &FileReader,
    step: &StepMeta,
    entry: usize,
    wanted: Wanted,
    count: &[u64],
) -> Result<Vec<f64>, GetError> {
    let cells: u64 = count.iter().product();
    let mut bytes = vec![0xAA; cells as usize * 8];
    let into = StridedMut::contiguous(&mut bytes, 8, count).unwrap();
    reader.read(
        step,
        &mut [Read {
            entry,
            wanted,
            into,
        }],
        &soon(),
    )?;
    Ok(bytes
        .chunks(8)
        .map(|raw| f64::from_le_bytes(raw.try_into().unwrap()))
        .collect())
}

/// The whole grid of a usual step, checked cell by cell.
pub(super) fn check_grid(reader: &FileReader, step: &StepMeta) {
    let cells = get(reader, step, 0, boxed(&[0, 0]), &[64, 48]).unwrap();
    for (at, cell) in cells.iter().enumerate() {
        let (y, x) = (at as u64 / 48, at as u64 % 48);
        assert_eq!(
            *cell,
            value(step.head.step, y, x),
            "step {}, ({y}, {x})",
            step.head.step
        );
    }
}

pub(super) fn boxed(start: &[u64]) -> Wanted {
    Wanted::Array {
        start: start.into(),
        step: Dims::from_elem(1, start.len()),
    }
}
