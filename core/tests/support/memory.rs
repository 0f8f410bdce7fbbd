//! An engine in this process's memory, for tests and measurements of what lies above
//! engines. It answers to `null:`, keeps the steps that nobody has let go of, and
//! waits for nothing: a reader that is ahead gets `NotReady`.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use panta_core::announce::Announcer;
use panta_core::codec::Encoder;
use panta_core::config::Engine;
use panta_core::engine::{
    Admission, Captured, EngineFactory, EngineInfo, OpenArguments, Pinned, PreparedWriter,
    PutBlock, Read, ReaderEngine, Resume, Sealing, Source, SpanId, SpanMemory, Start, Wanted,
    WriterEngine,
};
use panta_core::error::{
    BeginError, CloseError, EndError, Failure, Fault, GetError, NextError, OpenError, Place,
    PutError,
};
use panta_core::model::{BlockId, Schema, StepHead, StepMeta, StepRecord};
use panta_core::notice::Notice;
use panta_transports::copy::{CopyCounter, StridedRef, copy};
use panta_transports::time::Wait;

/// Opens both sides of one stream; clones open the same.
#[derive(Clone, Default)]
pub(crate) struct MemoryEngine {
    pub(crate) state: Arc<Mutex<State>>,
    /// Whether readers say what they still hold.
    pub(crate) tells_held: bool,
}

/// What was written and not let go of.
#[derive(Default)]
pub(crate) struct State {
    sealed: VecDeque<Stored>,
    data: BTreeMap<u64, StepData>,
    free: Vec<Vec<u8>>,
    closed: bool,
    /// What the root of the readers was told of what the ranks hold, last.
    pub(crate) held: Vec<Vec<u8>>,
    /// What the root of the writers was told that the ranks reserve, last.
    pub(crate) reserved: Vec<u64>,
    /// The addresses of the byte forms of schema and layout that were sealed last.
    pub(crate) sealed_forms: (usize, usize),
}

struct Stored {
    record: StepRecord,
    schema: Arc<[u8]>,
    layout: Arc<[u8]>,
}

/// Of each block, by rank and order, its bytes.
type StepData = BTreeMap<(u32, u32), Vec<u8>>;

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EngineFactory for MemoryEngine {
    fn engine(&self) -> Engine {
        Engine::Null
    }

    fn prepare_writer(
        &self,
        _arguments: &OpenArguments<'_>,
        _resume: Resume,
    ) -> Result<PreparedWriter, OpenError> {
        Ok(PreparedWriter {
            epoch: 1,
            ..PreparedWriter::default()
        })
    }

    fn attach_writer(
        &self,
        arguments: &OpenArguments<'_>,
        _prepared: &PreparedWriter,
    ) -> Result<Box<dyn WriterEngine>, OpenError> {
        Ok(Box::new(MemoryWriter {
            rank: arguments.rank as u32,
            state: Arc::clone(&self.state),
        }))
    }

    fn prepare_reader(
        &self,
        _arguments: &OpenArguments<'_>,
        _start: &Start,
    ) -> Result<Vec<u8>, OpenError> {
        Ok(Vec::new())
    }

    fn attach_reader(
        &self,
        arguments: &OpenArguments<'_>,
        _start: &Start,
        _ticket: &[u8],
    ) -> Result<Arc<dyn ReaderEngine>, OpenError> {
        Ok(Arc::new(MemoryReader {
            stream: arguments.stream.to_owned(),
            tells_held: self.tells_held,
            state: Arc::clone(&self.state),
            holds: Mutex::default(),
            packer: Announcer::default(),
            unpacker: Announcer::default(),
            copies: arguments.copies.clone(),
            own: Arc::new(()),
        }))
    }
}

fn info() -> EngineInfo {
    EngineInfo {
        engine: "memory",
        transport: "none".into(),
        why: "a test".into(),
    }
}

struct MemoryWriter {
    rank: u32,
    state: Arc<Mutex<State>>,
}

impl WriterEngine for MemoryWriter {
    fn info(&self) -> EngineInfo {
        info()
    }

    fn admit(
        &mut self,
        _head: &StepHead,
        _schema: &Arc<Schema>,
        reserve_bytes: &[u64],
        _wait: &Wait,
    ) -> Result<Admission, BeginError> {
        let mut state = lock(&self.state);
        state.reserved.clear();
        state.reserved.extend_from_slice(reserve_bytes);
        Ok(Admission::Write(Vec::new()))
    }

    fn begin(
        &mut self,
        _head: &StepHead,
        _schema: &Arc<Schema>,
        _admission: &[u8],
    ) -> Result<(), BeginError> {
        Ok(())
    }

    fn span(&mut self, _bytes: usize) -> Result<(SpanId, NonNull<u8>), PutError> {
        let fault = Fault::Unsupported {
            engine: "memory".into(),
            what: "lend".into(),
            instead: "put".into(),
        };
        Err(fault.at(Place::default()).into())
    }

    fn span_memory(&self, _span: SpanId) -> Option<SpanMemory> {
        None
    }

    fn capture(
        &mut self,
        head: &StepHead,
        puts: &[PutBlock<'_>],
        into: &mut Captured,
        _wait: &Wait,
    ) -> Result<(), PutError> {
        let mut state = lock(&self.state);
        for put in puts {
            if let Source::Memory(bytes) = put.source {
                let mut kept = state.free.pop().unwrap_or_default();
                kept.clear();
                kept.extend_from_slice(bytes.as_slice().expect("contiguous"));
                let data = state.data.entry(head.step).or_default();
                data.insert((self.rank, put.order), kept);
            }
        }
        into.stats.resize(puts.len(), None);
        Ok(())
    }

    fn seal(&mut self, sealing: &Sealing<'_>, _wait: &Wait) -> Result<(), EndError> {
        let mut state = lock(&self.state);
        let (schema, layout) = (sealing.schema_bytes, sealing.layout_bytes);
        state.sealed_forms = (schema.as_ptr() as usize, layout.as_ptr() as usize);
        state.sealed.push_back(Stored {
            record: sealing.record.clone(),
            schema: Arc::clone(schema),
            layout: Arc::clone(layout),
        });
        Ok(())
    }

    fn finish(&mut self, _head: &StepHead, _sealed: bool) {}

    fn close_root(&mut self, _wait: &Wait) -> Result<(), CloseError> {
        lock(&self.state).closed = true;
        Ok(())
    }

    fn close(&mut self, _wait: &Wait) -> Result<(), CloseError> {
        Ok(())
    }
}

struct MemoryReader {
    stream: String,
    tells_held: bool,
    state: Arc<Mutex<State>>,
    /// The steps this rank was given and has not let go of.
    holds: Mutex<Vec<u64>>,
    packer: Announcer,
    unpacker: Announcer,
    copies: CopyCounter,
    own: Arc<dyn Any + Send + Sync>,
}

impl MemoryReader {
    fn lock_holds(&self) -> MutexGuard<'_, Vec<u64>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReaderEngine for MemoryReader {
    fn info(&self) -> EngineInfo {
        info()
    }

    fn held(&self) -> Option<Vec<u8>> {
        self.tells_held.then(|| {
            let mut encoder = Encoder::default();
            encoder.u64s(&self.lock_holds());
            encoder.finish()
        })
    }

    fn next(&self, held: &[Vec<u8>], into: &mut Vec<u8>, wait: &Wait) -> Result<bool, NextError> {
        let mut state = lock(&self.state);
        state.held = held.to_vec();
        match state.sealed.pop_front() {
            Some(step) => {
                *into = self
                    .packer
                    .pack(&step.record, &step.schema, &step.layout, &[]);
                Ok(true)
            }
            None if state.closed => Ok(false),
            None => Err(NextError::NotReady {
                stream: self.stream.clone(),
                after: wait.deadline().length(),
            }),
        }
    }

    fn notice(&self) -> Result<Arc<Notice>, Failure> {
        let every = std::time::Duration::from_millis(20);
        Notice::new(every)
            .map(Arc::new)
            .map_err(|error| Fault::io("making a descriptor", &error).at(Place::stream("memory")))
    }

    fn load(&self, announcement: &[u8]) -> Result<StepMeta, NextError> {
        let own = || Ok(Arc::clone(&self.own));
        let loaded = self.unpacker.unpack(announcement, |_, _| own());
        let step = loaded
            .map_err(|error| Fault::corrupt("the step", &error).at(Place::stream(&self.stream)))?;
        self.lock_holds().push(step.head.step);
        Ok(step)
    }

    fn read(&self, step: &StepMeta, reads: &mut [Read<'_>], _wait: &Wait) -> Result<(), GetError> {
        let state = lock(&self.state);
        let data = &state.data[&step.head.step];
        for read in reads {
            let entry = &step.entries[read.entry];
            let blocks = entry.blocks.iter();
            match &read.wanted {
                // One block that is the whole array, or all of it block by block.
                Wanted::Array { start, .. } => {
                    for found in blocks.map(|found| &found.block) {
                        let bytes = &data[&(found.rank, found.order)];
                        let from = StridedRef::contiguous(bytes, 8, &found.count).unwrap();
                        assert!(start.iter().all(|start| *start == 0), "whole arrays only");
                        let mut into = read.into.sub_box(&found.start, &found.count).unwrap();
                        copy(&mut into, &from, &self.copies).unwrap();
                    }
                }
                Wanted::Block { block, .. } => {
                    let found = &entry.blocks[block.0 as usize].block;
                    let bytes = &data[&(found.rank, found.order)];
                    let from = StridedRef::contiguous(bytes, 8, &found.count).unwrap();
                    copy(&mut read.into, &from, &self.copies).unwrap();
                }
            }
        }
        Ok(())
    }

    fn pin(&self, _step: &StepMeta, _entry: usize, _block: BlockId) -> Result<Pinned, GetError> {
        let fault = Fault::Unsupported {
            engine: "memory".into(),
            what: "pin".into(),
            instead: "get".into(),
        };
        Err(fault.at(Place::stream(&self.stream)).into())
    }

    fn release(&self, step: &StepMeta) {
        self.lock_holds().retain(|held| *held != step.head.step);
        if !self.tells_held {
            let mut state = lock(&self.state);
            let gone = state.data.remove(&step.head.step).unwrap_or_default();
            state.free.extend(gone.into_values());
        }
    }

    fn commit(&self, _step: &StepHead, _cursor: &str, _wait: &Wait) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&self, _wait: &Wait) {}
}
