//! The end of a step: the engine takes the bytes, the root seals, all hear the same.

use std::time::Duration;

use smallvec::SmallVec;

use super::super::group::{Word, failed};
use super::super::layouts::{EndPart, PutBox};
use super::put::Put;
use super::{Open, Writer};
use crate::engine::PutBlock;
use crate::error::{EndError, Fault};
use crate::model::{Dims, Payload};

/// A step that was captured, and sealed unless it was discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The step's number.
    pub step: u64,
    /// Whether the policy discarded it: readers will not see it.
    pub discarded: bool,
}

impl Sealed {
    /// Waits until the step is sealed. The engines there are seal before `end`
    /// returns, so this returns at once.
    ///
    /// # Errors
    /// [`EndError`] if it could not be sealed.
    pub fn wait(&self, _at_most: Duration) -> Result<(), EndError> {
        Ok(())
    }
}

impl Writer {
    /// Ends the step; collective. When it returns the callers' memory is theirs again,
    /// and the step is sealed, or given up on every rank.
    ///
    /// # Errors
    /// [`EndError`], the same on every rank; also that of a put that failed on any rank.
    pub fn end_step(&mut self, puts: Vec<Put<'_>>) -> Result<Sealed, EndError> {
        self.conclude(puts, None)
    }

    /// Gives the step up, on every rank; collective with the others' [`end_step`](Self::end_step).
    ///
    /// # Errors
    /// [`EndError`]: always, saying that this rank gave the step up.
    pub fn abort_step(&mut self) -> Result<Sealed, EndError> {
        self.conclude(
            Vec::new(),
            Some("the step was dropped before its end".into()),
        )
    }

    fn conclude(
        &mut self,
        puts: Vec<Put<'_>>,
        given_up: Option<String>,
    ) -> Result<Sealed, EndError> {
        self.group.refuse_in_child()?;
        let Some(mut open) = self.open.take() else {
            let fault = Fault::Refused {
                peer: "this handle".into(),
                why: "no step is open; call begin_step first".into(),
            };
            return Err(failed(fault, self.group.place()));
        };
        let local = match (self.progress(), open.failed.get_mut().take().or(given_up)) {
            (Err(away), _) => Err(away.into()),
            (_, Some(what)) => Err(self.own_failure(&open, what)),
            _ if open.discarded => Ok(EndPart::default()),
            _ => self.capture(&mut open, &puts),
        };
        drop(puts);
        self.last_bytes = open.bytes.get();
        let (engine, schema) = (self.engine.get_mut(), &self.schema);
        let (wait, checked) = (self.group.wait(), self.group.target.options.checked);
        let (layouts, mut told_bytes) = (&mut self.layouts, 0);
        let step = open.head.step;
        let decided = self.group.agree_at(Some(step), local, |parts, at| {
            if open.discarded {
                return Ok(Word(Vec::new()));
            }
            told_bytes = layouts.seal(open.head, parts, (schema, checked), at, |sealing| {
                engine.seal(sealing, &wait)
            })?;
            Ok(Word(engine.word()))
        });
        self.told_bytes += told_bytes;
        if decided.is_err() {
            // The root may not have heard what every rank put: all forget it alike.
            self.boxes.forget();
            self.layouts.forget();
        }
        let engine = self.engine.get_mut();
        let sealed = decided.is_ok() && !open.discarded;
        if let (true, Ok(Word(word))) = (sealed, &decided) {
            engine.hear(&open.head, word);
        }
        engine.finish(&open.head, sealed);
        self.next_step = step + 1;
        decided.map(|_| Sealed {
            step,
            discarded: open.discarded,
        })
    }

    fn own_failure(&self, open: &Open, what: String) -> EndError {
        let rank = self.group.tree.rank();
        let place = self.group.place().at_step(open.head.step);
        failed(Fault::OnRank { rank, what }, place)
    }

    fn capture(&mut self, open: &mut Open, puts: &[Put<'_>]) -> Result<EndPart, EndError> {
        let blocks: SmallVec<[PutBlock<'_>; 2]> = puts
            .iter()
            .map(|put| PutBlock {
                variable: self.agreed[put.variable],
                definition: &self.definitions[put.variable],
                order: put.order,
                start: &put.start,
                count: &put.count,
                source: put.source,
            })
            .collect();
        let wait = self.group.wait();
        let engine = self.engine.get_mut();
        let mut captured = std::mem::take(&mut self.captured);
        captured.stats.clear();
        captured.contribution = self.layouts.take_spare();
        let done = engine.capture(&open.head, &blocks, &mut captured, &wait);
        drop(blocks);
        done.map_err(|error| self.own_failure(open, error.to_string()))?;
        if captured.stats.len() != puts.len() {
            let what = "the engine gave statistics of other puts".to_owned();
            return Err(self.own_failure(open, what));
        }
        for (put, stats) in puts.iter().zip(captured.stats.drain(..)) {
            let put = PutBox {
                variable: self.agreed[put.variable],
                order: put.order,
                start: put.start.clone(),
                count: put.count.clone(),
            };
            self.boxes.add(put, Payload::Array(stats));
        }
        for (variable, order, bytes) in open.values.get_mut().drain(..) {
            let put = PutBox {
                variable: self.agreed[variable],
                order,
                start: Dims::new(),
                count: Dims::new(),
            };
            self.boxes.add(put, Payload::Value(bytes));
        }
        let part = self.boxes.say(std::mem::take(&mut captured.contribution));
        self.captured = captured;
        Ok(part)
    }
}
