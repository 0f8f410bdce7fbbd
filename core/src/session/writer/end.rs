//! The end of a step: the engine takes the bytes, the root seals, all hear the same.

use std::sync::Arc;
use std::time::Duration;

use super::super::group::failed;
use super::super::merge::{EndPart, Reported, lay_out};
use super::put::Put;
use super::{Open, Writer, decode_parts};
use crate::codec::{Coded, digest};
use crate::engine::{PutBlock, Sealing};
use crate::error::{EndError, Fault, Place};
use crate::model::{Layout, Schema, ShapeKind, StepHead, StepRecord};
use crate::plan;

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
        let Some(open) = self.open.take() else {
            let fault = Fault::Refused {
                peer: "this handle".into(),
                why: "no step is open; call begin_step first".into(),
            };
            return Err(failed(fault, self.group.place()));
        };
        let place = self.group.place().at_step(open.head.step);
        let local = match open.failed.borrow_mut().take().or(given_up) {
            Some(what) => Err(failed(
                Fault::OnRank {
                    rank: self.group.tree.rank(),
                    what,
                },
                place.clone(),
            )),
            None if open.discarded => Ok(EndPart::default()),
            None => self.capture(&open, puts, &place),
        };
        self.last_bytes = open.bytes.get();
        let (engine, schema) = (self.engine.get_mut(), &self.schema);
        let (wait, checked) = (self.group.wait(), self.group.target.options.checked);
        let decided = self.group.agree_at::<EndError>(
            local.map(|part| part.to_bytes()),
            place,
            |parts, place| {
                if !open.discarded {
                    let parts = decode_parts::<EndPart, EndError>(&parts, place)?;
                    let (reported, contributions): (_, Vec<_>) = parts
                        .into_iter()
                        .map(|part| (part.reported, part.contribution))
                        .unzip();
                    let step = assemble(open.head, reported, schema, checked, place)?;
                    engine.seal(
                        &Sealing {
                            record: &step.record,
                            schema,
                            schema_bytes: &step.schema_bytes,
                            layout: &step.layout,
                            layout_bytes: &step.layout_bytes,
                            contributions: &contributions,
                        },
                        &wait,
                    )?;
                }
                Ok(Vec::new())
            },
        );
        self.engine
            .get_mut()
            .finish(&open.head, decided.is_ok() && !open.discarded);
        self.next_step = open.head.step + 1;
        decided.map(|_| Sealed {
            step: open.head.step,
            discarded: open.discarded,
        })
    }

    fn capture(
        &mut self,
        open: &Open,
        puts: Vec<Put<'_>>,
        place: &Place,
    ) -> Result<EndPart, EndError> {
        let mut sources = Vec::with_capacity(puts.len());
        let mut boxes = Vec::with_capacity(puts.len());
        for put in puts {
            boxes.push((put.variable, put.order, put.start, put.count));
            sources.push(put.source);
        }
        let blocks: Vec<PutBlock<'_>> = boxes
            .iter()
            .zip(sources)
            .map(|((variable, order, start, count), source)| PutBlock {
                variable: self.agreed[*variable],
                definition: &self.definitions[*variable],
                order: *order,
                start,
                count,
                source,
            })
            .collect();
        let wait = self.group.wait();
        let rank = self.group.tree.rank();
        let captured = self
            .engine
            .get_mut()
            .capture(&open.head, &blocks, &wait)
            .map_err(|error| {
                let fault = Fault::OnRank {
                    rank,
                    what: error.to_string(),
                };
                EndError::from(fault.at(place.clone()))
            })?;
        drop(blocks);
        let mut reported: Vec<Reported> = boxes
            .into_iter()
            .zip(captured.stats)
            .map(|((variable, order, start, count), stats)| {
                EndPart::array(self.agreed[variable], order, start, count, stats)
            })
            .collect();
        let values = open
            .values
            .borrow_mut()
            .drain(..)
            .map(|(variable, order, bytes)| EndPart::value(self.agreed[variable], order, bytes))
            .collect::<Vec<_>>();
        reported.extend(values);
        reported.sort_by_key(|reported| reported.order);
        Ok(EndPart {
            reported,
            contribution: captured.contribution,
        })
    }
}

/// What the root makes of the ranks' reports.
struct Assembled {
    record: StepRecord,
    schema_bytes: Arc<[u8]>,
    layout: Arc<Layout>,
    layout_bytes: Arc<[u8]>,
}

fn assemble(
    head: StepHead,
    reported: Vec<Vec<Reported>>,
    schema: &Arc<Schema>,
    checked: bool,
    place: &Place,
) -> Result<Assembled, EndError> {
    let (layout, payloads) = lay_out(reported, schema);
    for entry in layout.entries.iter().filter(|_| checked) {
        let definition = &schema.variables[entry.variable as usize];
        if definition.kind == ShapeKind::GlobalArray
            && let Some((first, second)) = plan::overlaps(&entry.blocks)
        {
            let (first, second) = (&entry.blocks[first], &entry.blocks[second]);
            let what = format!(
                "the block at {:?} of rank {} and the block at {:?} of rank {} overlap",
                first.start, first.rank, second.start, second.rank
            );
            return Err(EndError::Overlap {
                place: place.clone().of_variable(&definition.name),
                what,
            });
        }
    }
    let (schema_bytes, layout_bytes) = (schema.to_bytes(), layout.to_bytes());
    Ok(Assembled {
        record: StepRecord {
            head,
            schema_digest: digest(&schema_bytes),
            layout_digest: digest(&layout_bytes),
            payloads,
        },
        schema_bytes: schema_bytes.into(),
        layout: Arc::new(layout),
        layout_bytes: layout_bytes.into(),
    })
}
