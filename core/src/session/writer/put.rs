//! Within a step: what is put is checked, and takes its place in the order.
//!
//! Nothing moves here: bytes stay with the caller until the step's end.

use std::iter;
use std::ptr::NonNull;

use panta_transports::copy::StridedRef;

use super::super::group::failed;
use super::Writer;
use crate::engine::{Source, SpanMemory};
use crate::error::{Fault, Place, PutError};
use crate::model::{DType, Definition, Dims, MemorySpace, ShapeKind};

/// A block that was put: to be given back to [`Writer::end_step`].
#[derive(Debug)]
pub struct Put<'d> {
    pub(super) variable: usize,
    pub(super) order: u32,
    pub(super) start: Dims,
    pub(super) count: Dims,
    pub(super) source: Source<'d>,
}

impl<'d> Put<'d> {
    #[inline(always)] // it is large, and not moved on the way
    fn of_memory(variable: usize, order: u32, start: Dims, source: &StridedRef<'d>) -> Self {
        Self {
            variable,
            order,
            start,
            count: Dims::from_slice(source.count()),
            source: Source::Memory(*source),
        }
    }
}

/// How something is put: as an array's block, or as a value.
#[derive(Clone, Copy)]
enum Form {
    Array,
    Value,
}

impl Writer {
    #[cold]
    fn put_place(&self, variable: usize) -> Place {
        let place = self
            .group
            .place()
            .on_rank(self.group.tree.rank())
            .of_variable(&self.definitions[variable].name);
        match &self.open {
            Some(open) => place.at_step(open.head.step),
            None => place,
        }
    }

    /// A failed put sticks: the step's end fails on every rank.
    #[cold]
    fn stick(&self, error: PutError) -> PutError {
        if let Some(open) = &self.open {
            open.failed
                .borrow_mut()
                .get_or_insert_with(|| error.to_string());
        }
        error
    }

    /// Checks a put and takes its place in the order: element type, shape, limit.
    #[inline]
    fn admit_put(
        &self,
        variable: usize,
        dtype: DType,
        form: Form,
        start: &[u64],
        count: &[u64],
    ) -> Result<u32, PutError> {
        let Some(open) = &self.open else {
            return Err(PutError::NoStep {
                stream: self.group.stream.clone(),
            });
        };
        let definition = &self.definitions[variable];
        let place = || self.put_place(variable);
        if dtype != definition.dtype {
            return Err(PutError::DTypeMismatch {
                place: place(),
                defined: definition.dtype.name(),
                given: dtype.name(),
            });
        }
        // An array without dimensions is no value: readers look for them in different places.
        let problem = match (definition.kind.is_value(), form) {
            (true, Form::Array) => Some(format!(
                "the variable is a {}, which is put as a value and not as an array",
                definition.kind.name()
            )),
            (false, Form::Value) if definition.dimensions() == 0 => Some(format!(
                "the variable is a {}, which is put as an array and not as a value",
                definition.kind.name()
            )),
            _ => shape_problem(definition, start, count),
        };
        if let Some(problem) = problem {
            return Err(PutError::Shape {
                place: place(),
                problem,
            });
        }
        let block_bytes = definition.byte_size(count).unwrap_or(u64::MAX);
        let bytes = open.bytes.get().saturating_add(block_bytes);
        let limit_bytes = self.group.target.options.limit.0;
        if bytes > limit_bytes {
            return Err(PutError::StepTooLarge {
                place: place(),
                bytes,
                limit_bytes,
            });
        }
        open.bytes.set(bytes);
        let order = open.order.get();
        open.order.set(order + 1);
        Ok(order)
    }

    /// Puts an array's block. The bytes are taken by [`end_step`](Self::end_step), which
    /// must be given what this returns. `start` is empty for local arrays, or zeros; along
    /// a joined axis it is 0.
    ///
    /// # Errors
    /// [`PutError`]; the step then fails on every rank.
    pub fn put<'d>(
        &self,
        variable: usize,
        dtype: DType,
        start: &[u64],
        source: StridedRef<'d>,
        space: MemorySpace,
    ) -> Result<Put<'d>, PutError> {
        let (order, start) = self.check_put(variable, dtype, start, &source, space)?;
        Ok(Put::of_memory(variable, order, start, &source))
    }

    /// The same, with the put added to others: it is large, and not moved on the way.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_onto<'d>(
        &self,
        puts: &mut Vec<Put<'d>>,
        variable: usize,
        (dtype, space): (DType, MemorySpace),
        start: &[u64],
        source: &StridedRef<'d>,
    ) -> Result<(), PutError> {
        let (order, start) = self.check_put(variable, dtype, start, source, space)?;
        // Made where it stays, once there is room: what `push` takes is made elsewhere first.
        puts.extend(iter::once_with(|| {
            Put::of_memory(variable, order, start, source)
        }));
        Ok(())
    }

    /// The place of a put that is in order, and where it starts.
    #[inline(always)] // its result is large, and not moved on the way
    fn check_put(
        &self,
        variable: usize,
        dtype: DType,
        start: &[u64],
        source: &StridedRef<'_>,
        space: MemorySpace,
    ) -> Result<(u32, Dims), PutError> {
        if space != MemorySpace::Host {
            let fault = Fault::Unsupported {
                engine: self.group.target.engine.scheme().to_owned(),
                what: format!("take memory of a device ({space:?})"),
                instead: "copy the block to the host and put that".into(),
            };
            return Err(self.stick(failed(fault, self.put_place(variable))));
        }
        let start = self.full_start(variable, start);
        let order = self
            .admit_put(variable, dtype, Form::Array, &start, source.count())
            .map_err(|error| self.stick(error))?;
        Ok((order, start))
    }

    #[inline(always)] // as above
    fn full_start(&self, variable: usize, start: &[u64]) -> Dims {
        let definition = &self.definitions[variable];
        if start.is_empty() && definition.kind != ShapeKind::GlobalArray {
            Dims::from_elem(0, definition.dimensions())
        } else {
            Dims::from_slice(start)
        }
    }

    /// Puts a value: little-endian bytes of one element, or UTF-8. Taken at once.
    ///
    /// # Errors
    /// [`PutError`]; the step then fails on every rank.
    pub fn put_value(&self, variable: usize, dtype: DType, bytes: &[u8]) -> Result<(), PutError> {
        let order = self
            .admit_put(variable, dtype, Form::Value, &[], &[])
            .map_err(|error| self.stick(error))?;
        let open = self.open.as_ref().ok_or_else(|| PutError::NoStep {
            stream: self.group.stream.clone(),
        })?;
        if dtype != DType::Text && bytes.len() != dtype.size_bytes() {
            let problem = format!("{} bytes are no {dtype}", bytes.len());
            return Err(self.stick(PutError::Shape {
                place: self.put_place(variable),
                problem,
            }));
        }
        open.values
            .borrow_mut()
            .push((variable, order, bytes.to_vec()));
        Ok(())
    }

    /// Lends memory for an array's block, row-major, to compute every element of; valid until
    /// the step ends. Returns the put and the memory's address and bytes.
    ///
    /// # Errors
    /// [`PutError`]; the step then fails on every rank.
    pub fn span(
        &self,
        variable: usize,
        dtype: DType,
        start: &[u64],
        count: &[u64],
    ) -> Result<(Put<'static>, NonNull<u8>, usize), PutError> {
        let start = self.full_start(variable, start);
        let order = self
            .admit_put(variable, dtype, Form::Array, &start, count)
            .map_err(|error| self.stick(error))?;
        let bytes = self.definitions[variable]
            .byte_size(count)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(usize::MAX);
        let (id, memory) = self
            .engine
            .borrow_mut()
            .span(bytes)
            .map_err(|error| self.stick(error))?;
        Ok((
            Put {
                variable,
                order,
                start,
                count: Dims::from_slice(count),
                source: Source::Span(id),
            },
            memory,
            bytes,
        ))
    }

    /// What keeps the memory of a span in place beyond the step and the writer, for shells
    /// whose users may look at it then; `None` for a put that is no span.
    #[must_use]
    pub fn span_memory(&self, put: &Put<'_>) -> Option<SpanMemory> {
        match &put.source {
            Source::Span(span) => self.engine.borrow().span_memory(*span),
            Source::Memory(_) => None,
        }
    }
}

fn shape_problem(definition: &Definition, start: &[u64], count: &[u64]) -> Option<String> {
    let dimensions = definition.dimensions();
    if start.len() != dimensions || count.len() != dimensions {
        return Some(format!(
            "the block has {} starts and {} counts, the variable has {dimensions} dimensions",
            start.len(),
            count.len()
        ));
    }
    if definition.byte_size(count).is_none() {
        return Some(format!(
            "a block of {count:?} cells is larger than 2^63 bytes"
        ));
    }
    let joined = match definition.kind {
        ShapeKind::JoinedArray { axis } => Some(usize::from(axis)),
        ShapeKind::GlobalArray => None,
        _ => {
            return (start.iter().any(|start| *start != 0))
                .then(|| format!("a {} starts at 0, not at {start:?}", definition.kind.name()));
        }
    };
    for dimension in 0..dimensions {
        let (start, count, length) = (
            start[dimension],
            count[dimension],
            definition.shape[dimension],
        );
        if joined == Some(dimension) {
            if start != 0 {
                return Some(format!(
                    "along the joined dimension {dimension} a block starts at 0, not at {start}"
                ));
            }
        } else if start.checked_add(count).is_none_or(|end| end > length) {
            return Some(format!(
                "{count} cells from {start} reach outside dimension {dimension}, which has {length}"
            ));
        }
    }
    None
}
