//! `panta show`: an array as people expect it.
//!
//! An array of more than `--limit` elements is abbreviated to the first and the
//! last three along each dimension, and no more than those is read.

use std::io::{BufWriter, Write};

use panta_core::model::{Axis, BlockId, Entry, Region, Selection, ShapeKind};
use panta_core::session::Step;
use panta_transports::copy::StridedMut;

use super::contact;
use crate::arguments::ShowArguments;
use crate::error::CommandError;
use crate::number::{self, Scalar};
use crate::source::Source;

/// How many elements are shown at each end of a dimension that is abbreviated.
const EDGE: u64 = 3;
/// The most bytes that are read to be shown.
const BYTES_LIMIT: u64 = 1 << 30;
/// Where lines are broken.
const LINE_WIDTH: usize = 100;

/// Runs the command.
pub(crate) fn run(arguments: &ShowArguments) -> Result<(), CommandError> {
    if let Some(path) = contact::named(&arguments.stream) {
        return Err(contact::refuse(path));
    }
    let source = Source::find(&arguments.stream)?;
    let (_reader, step) = source.step(arguments.step)?;
    let name = &arguments.variable;
    let entry = step.entry(name)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    if entry.definition.dtype.size_bytes() == 0 {
        write_texts(&mut out, entry, &step.texts(name)?, arguments.json)?;
    } else {
        let part = Part::select(&step, entry, arguments)?;
        let bytes = part.read(&step, name)?;
        let scalars = number::scalars(entry.definition.dtype, &bytes);
        match arguments.json {
            true => write_json(&mut out, &scalars, &part.result_shape())?,
            false => {
                let texts = number::texts(&scalars, arguments.precision);
                write_array(&mut out, &texts, &part)?;
            }
        }
        writeln!(out)?;
    }
    Ok(out.flush()?)
}

/// A selection and which of its cells are shown.
struct Part {
    block: Option<BlockId>,
    region: Region,
    /// For each dimension, the runs (first, count) of its positions that are shown.
    runs: Vec<Vec<(u64, u64)>>,
    element_bytes: usize,
}

impl Part {
    fn select(step: &Step, entry: &Entry, arguments: &ShowArguments) -> Result<Self, CommandError> {
        let definition = &entry.definition;
        let place = format!(
            "stream `{}`, step {}, variable `{}`",
            arguments.stream,
            step.head().step,
            definition.name
        );
        let wrong = |problem: String| CommandError::failed(format!("{place}: {problem}"));
        let (block, shape) = shape_of(entry, arguments.block).map_err(wrong)?;
        let selection = match &arguments.slice {
            Some(slice) => slice.selection(definition, shape.len(), arguments.block),
            None => boxed(arguments, &shape, &definition.dims),
        };
        let selection = selection.map_err(wrong)?;
        let region = (selection.resolve(&shape)).map_err(|error| wrong(error.to_string()))?;
        let elements = panta_core::model::cells(&region.count);
        let whole = arguments.json || elements <= arguments.limit;
        let runs: Vec<_> = region
            .count
            .iter()
            .map(|count| match whole || *count <= 2 * EDGE {
                true => vec![(0, *count)],
                false => vec![(0, EDGE), (count - EDGE, EDGE)],
            })
            .collect();
        let part = Self {
            block,
            region,
            runs,
            element_bytes: definition.dtype.size_bytes(),
        };
        let bytes =
            panta_core::model::cells(&part.shown()).saturating_mul(part.element_bytes as u64);
        if bytes > BYTES_LIMIT {
            return Err(wrong(format!(
                "that is {}, more than the {} that can be shown; select less",
                number::bytes(bytes),
                number::bytes(BYTES_LIMIT)
            )));
        }
        Ok(part)
    }

    /// Cells per dimension that are shown.
    fn shown(&self) -> Vec<u64> {
        let shown = |runs: &Vec<(u64, u64)>| runs.iter().map(|(_, count)| count).sum();
        self.runs.iter().map(shown).collect()
    }

    /// The shape of what is shown; dimensions picked by index are gone.
    fn result_shape(&self) -> Vec<u64> {
        let sides = self.shown().into_iter().zip(&self.region.squeezed);
        sides
            .filter(|(_, squeezed)| !**squeezed)
            .map(|(side, _)| side)
            .collect()
    }

    /// For each dimension of the result, whether `...` comes after the first [`EDGE`].
    fn gaps(&self) -> Vec<bool> {
        let runs = self.runs.iter().zip(&self.region.squeezed);
        runs.filter(|(_, squeezed)| !**squeezed)
            .map(|(runs, _)| runs.len() > 1)
            .collect()
    }

    /// Reads the cells that are shown, row-major.
    fn read(&self, step: &Step, name: &str) -> Result<Vec<u8>, CommandError> {
        let shown = self.shown();
        let bytes = panta_core::model::cells(&shown) as usize * self.element_bytes;
        let mut memory = vec![0; bytes];
        let layout = |error| CommandError::failed(format!("{error}"));
        let dtype = step.entry(name)?.definition.dtype;
        let mut all =
            StridedMut::contiguous(&mut memory, self.element_bytes, &shown).map_err(layout)?;
        // One run of each dimension: a box of the selection and its place in what is shown.
        let boxes: usize = self.runs.iter().map(Vec::len).product();
        for mut index in 0..boxes {
            let (mut axes, mut at, mut count) = (Vec::new(), Vec::new(), Vec::new());
            for (dimension, runs) in self.runs.iter().enumerate() {
                let run = index % runs.len();
                index /= runs.len();
                axes.push(self.axis(dimension, runs[run]));
                at.push(if run == 0 { 0 } else { EDGE });
                count.push(runs[run].1);
            }
            let block = self.block;
            let resolved = step.resolve(name, dtype, &Selection { block, axes })?;
            step.read(resolved, all.sub_box(&at, &count).map_err(layout)?)?;
        }
        Ok(memory)
    }

    /// A run of a dimension's positions, as cells of the array.
    fn axis(&self, dimension: usize, (first, count): (u64, u64)) -> Axis {
        let stride = self.region.step[dimension];
        let start = self.region.start[dimension] + first * stride;
        let stop = if count == 0 {
            start
        } else {
            start + (count - 1) * stride + 1
        };
        Axis::Range {
            start: start as i64,
            stop: Some(stop as i64),
            step: stride,
        }
    }
}

/// The shape that is selected from: of the array, or of the block that is meant.
fn shape_of(entry: &Entry, block: Option<u32>) -> Result<(Option<BlockId>, Vec<u64>), String> {
    let blocks = entry.blocks.len();
    let local = entry.definition.kind == ShapeKind::LocalArray;
    match block {
        None if local && blocks != 1 => Err(format!(
            "a local array of {blocks} blocks is read block by block; select one with --block"
        )),
        None if !local => Ok((None, entry.shape())),
        block => {
            let index = block.unwrap_or(0);
            let found = entry.blocks.get(index as usize).ok_or_else(|| {
                format!("there is no block {index}, there are {blocks}, numbered from 0")
            })?;
            Ok((Some(BlockId(index)), found.block.count.clone()))
        }
    }
}

/// The selection of `--start`, `--count` and `--stride`, checked against the shape.
fn boxed(arguments: &ShowArguments, shape: &[u64], dims: &[String]) -> Result<Selection, String> {
    let given = [
        ("--start", &arguments.start),
        ("--count", &arguments.count),
        ("--stride", &arguments.stride),
    ];
    for (option, values) in given {
        if !values.is_empty() && values.len() != shape.len() {
            return Err(format!(
                "{option} has {} numbers, the array {} dimensions; give one for each",
                values.len(),
                shape.len()
            ));
        }
    }
    let mut axes = Vec::with_capacity(shape.len());
    for (dimension, &length) in shape.iter().enumerate() {
        let of = |values: &[u64]| values.get(dimension).copied();
        let start = of(&arguments.start).unwrap_or(0);
        let stride = of(&arguments.stride).unwrap_or(1);
        let name = dims
            .get(dimension)
            .map_or(String::new(), |dim| format!(" (`{dim}`)"));
        if stride == 0 {
            return Err(format!(
                "the stride along dimension {dimension}{name} is 0; it is at least 1"
            ));
        }
        let stop = match of(&arguments.count) {
            None => length.max(start),
            Some(0) => start,
            Some(count) => (count - 1)
                .saturating_mul(stride)
                .saturating_add(start)
                .saturating_add(1),
        };
        if stop > length {
            return Err(format!(
                "cells {start} to {} reach outside dimension {dimension}{name}, which has {length}; \
                 select less",
                stop - 1
            ));
        }
        axes.push(Axis::Range {
            start: start as i64,
            stop: Some(stop as i64),
            step: stride,
        });
    }
    Ok(Selection { block: None, axes })
}

fn write_texts(
    out: &mut dyn Write,
    entry: &Entry,
    texts: &[String],
    json: bool,
) -> Result<(), CommandError> {
    let single = entry.definition.kind == ShapeKind::GlobalValue;
    match (json, single, texts.last()) {
        (true, true, Some(text)) => writeln!(out, "{}", serde_json::json!(text))?,
        (true, ..) => writeln!(out, "{}", serde_json::json!(texts))?,
        (false, true, Some(text)) => writeln!(out, "{text}")?,
        (false, ..) => {
            for text in texts {
                writeln!(out, "{text}")?;
            }
        }
    }
    Ok(())
}

fn write_json(out: &mut dyn Write, scalars: &[Scalar], shape: &[u64]) -> std::io::Result<()> {
    let Some((side, inner)) = shape.split_first() else {
        return match scalars.first() {
            Some(scalar) => write!(out, "{}", scalar.json()),
            None => write!(out, "null"),
        };
    };
    write!(out, "[")?;
    let each = scalars.len() / (*side).max(1) as usize;
    for row in 0..*side as usize {
        if row > 0 {
            write!(out, ", ")?;
        }
        write_json(out, &scalars[row * each..(row + 1) * each], inner)?;
    }
    write!(out, "]")
}

/// Nested brackets, columns aligned, as numpy writes them.
fn write_array(out: &mut dyn Write, texts: &[String], part: &Part) -> std::io::Result<()> {
    let width = texts.iter().map(String::len).max().unwrap_or(0);
    let (shape, gaps) = (part.result_shape(), part.gaps());
    write_rows(out, texts, &shape, &gaps, width, 0)
}

fn write_rows(
    out: &mut dyn Write,
    texts: &[String],
    shape: &[u64],
    gaps: &[bool],
    width: usize,
    depth: usize,
) -> std::io::Result<()> {
    let Some((side, inner)) = shape.split_first() else {
        return write!(out, "{}", texts.first().map_or("", String::as_str));
    };
    let side = *side as usize;
    if inner.is_empty() {
        return write_row(out, texts, gaps[0], width, depth);
    }
    let separator = format!("{}{}", "\n".repeat(inner.len()), " ".repeat(depth + 1));
    let each = texts.len() / side.max(1);
    write!(out, "[")?;
    for row in 0..side {
        if row > 0 {
            write!(out, "{separator}")?;
        }
        if gaps[0] && row == EDGE as usize {
            write!(out, "...{separator}")?;
        }
        let texts = &texts[row * each..(row + 1) * each];
        write_rows(out, texts, inner, &gaps[1..], width, depth + 1)?;
    }
    write!(out, "]")
}

fn write_row(
    out: &mut dyn Write,
    texts: &[String],
    gap: bool,
    width: usize,
    depth: usize,
) -> std::io::Result<()> {
    let mut column = depth + 1;
    write!(out, "[")?;
    for (place, text) in texts.iter().enumerate() {
        if place > 0 {
            if column + 1 + width > LINE_WIDTH {
                write!(out, "\n{}", " ".repeat(depth + 1))?;
                column = depth + 1;
            } else {
                write!(out, " ")?;
                column += 1;
            }
        }
        if gap && place == EDGE as usize {
            write!(out, "... ")?;
            column += 4;
        }
        write!(out, "{text:>width$}")?;
        column += width;
    }
    write!(out, "]")
}
