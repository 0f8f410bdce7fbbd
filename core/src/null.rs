//! `null:` discards every step: what the rest of the library costs.
//!
//! Puts are taken, counted in no index and written nowhere; statistics are not
//! made. There is nothing to read.

use std::ptr::NonNull;
use std::sync::Arc;

use panta_transports::time::Wait;

use crate::config::Engine;
use crate::engine::{
    Admission, Captured, EngineFactory, EngineInfo, OpenArguments, PreparedWriter, PutBlock,
    ReaderEngine, Resume, Sealing, SpanId, SpanMemory, Start, WriterEngine,
};
use crate::error::{BeginError, CloseError, EndError, Fault, OpenError, Place, PutError};
use crate::model::{Schema, StepHead};
use crate::spans::Spans;

/// Opens `null:` streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullEngine;

fn unsupported(arguments: &OpenArguments<'_>) -> OpenError {
    let fault = Fault::Unsupported {
        engine: "null".into(),
        what: "be read, it keeps nothing".into(),
        instead: "write to `file:` or `stream:` instead".into(),
    };
    fault.at(Place::stream(arguments.stream)).into()
}

impl EngineFactory for NullEngine {
    fn engine(&self) -> Engine {
        Engine::Null
    }

    fn prepare_writer(
        &self,
        _arguments: &OpenArguments<'_>,
        resume: Resume,
    ) -> Result<PreparedWriter, OpenError> {
        Ok(PreparedWriter {
            epoch: 1,
            next_step: match resume {
                Resume::After(step) => step.saturating_add(1),
                Resume::Fresh | Resume::Last => 0,
            },
            ticket: Vec::new(),
        })
    }

    fn attach_writer(
        &self,
        arguments: &OpenArguments<'_>,
        _prepared: &PreparedWriter,
    ) -> Result<Box<dyn WriterEngine>, OpenError> {
        Ok(Box::new(NullWriter {
            place: Place::stream(arguments.stream).on_rank(arguments.rank),
            limit_bytes: arguments.target.options.limit.0,
            spans: Spans::default(),
        }))
    }

    fn prepare_reader(
        &self,
        arguments: &OpenArguments<'_>,
        _start: &Start,
    ) -> Result<Vec<u8>, OpenError> {
        Err(unsupported(arguments))
    }

    fn attach_reader(
        &self,
        arguments: &OpenArguments<'_>,
        _start: &Start,
        _ticket: &[u8],
    ) -> Result<Arc<dyn ReaderEngine>, OpenError> {
        Err(unsupported(arguments))
    }
}

#[derive(Debug)]
struct NullWriter {
    place: Place,
    limit_bytes: u64,
    spans: Spans,
}

impl WriterEngine for NullWriter {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            engine: "null",
            transport: "none".into(),
            why: "`null:` was asked for; steps are discarded".into(),
        }
    }

    fn admit(
        &mut self,
        _head: &StepHead,
        _schema: &Arc<Schema>,
        _reserve_bytes: &[u64],
        _wait: &Wait,
    ) -> Result<Admission, BeginError> {
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

    fn span(&mut self, bytes: usize) -> Result<(SpanId, NonNull<u8>), PutError> {
        self.spans
            .lend(bytes, self.limit_bytes)
            .map_err(|bytes| PutError::StepTooLarge {
                place: self.place.clone(),
                bytes,
                limit_bytes: self.limit_bytes,
            })
    }

    fn span_memory(&self, span: SpanId) -> Option<SpanMemory> {
        self.spans.memory(span)
    }

    fn capture(
        &mut self,
        _head: &StepHead,
        puts: &[PutBlock<'_>],
        into: &mut Captured,
        _wait: &Wait,
    ) -> Result<(), PutError> {
        into.stats.resize(puts.len(), None);
        Ok(())
    }

    fn seal(&mut self, _sealing: &Sealing<'_>, _wait: &Wait) -> Result<(), EndError> {
        Ok(())
    }

    fn finish(&mut self, _head: &StepHead, _sealed: bool) {
        self.spans.finish();
    }

    fn close_root(&mut self, _wait: &Wait) -> Result<(), CloseError> {
        Ok(())
    }

    fn close(&mut self, _wait: &Wait) -> Result<(), CloseError> {
        Ok(())
    }
}
