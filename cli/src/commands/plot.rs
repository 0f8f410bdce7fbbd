//! `panta plot`: a plane or a line of an array as a PNG image.

use panta_cli::plot::{self, Canvas, Curve, Curves, Image, Overlay, PlotError, Stretch};
use panta_core::model::{BlockId, Definition, Entry, Region, Selection, ShapeKind};
use panta_core::session::Step;
use panta_staging::client::default_chunk;
use panta_staging::curve;
use panta_staging::shard::{Rotation, Server, ShardMap};
use panta_transports::copy::StridedMut;

use crate::arguments::PlotArguments;
use crate::error::CommandError;
use crate::number;
use crate::source::{Source, resolve};

/// The most chunks of a plane through which the curve is drawn.
const CHUNKS_LIMIT: u64 = 1 << 14;

/// Runs the command.
pub(crate) fn run(arguments: &PlotArguments) -> Result<(), CommandError> {
    let source = Source::find(&arguments.stream)?;
    let (_reader, step) = source.step(arguments.step)?;
    let entry = step.entry(&arguments.variable)?;
    let plane = Plane::read(&step, entry, arguments)?;
    let canvas = match plane.sides.len() {
        1 => plane.line()?,
        _ => plane.image(arguments)?,
    };
    Ok(canvas.write_png(&arguments.output)?)
}

/// The values that are drawn.
struct Plane<'s> {
    step: &'s Step,
    entry: &'s Entry,
    region: Region,
    /// The dimensions that are left: rows and columns, or the line's only one.
    sides: Vec<usize>,
    values: Vec<f64>,
    /// What is drawn is the decimal logarithm.
    log: bool,
}

impl<'s> Plane<'s> {
    fn read(
        step: &'s Step,
        entry: &'s Entry,
        arguments: &PlotArguments,
    ) -> Result<Self, CommandError> {
        let definition = &entry.definition;
        let wrong = |problem: String| {
            CommandError::failed(format!(
                "stream `{}`, step {}, variable `{}`: {problem}",
                arguments.stream,
                step.head().step,
                definition.name
            ))
        };
        if definition.dtype.size_bytes() == 0 {
            return Err(wrong("strings cannot be drawn; show them".into()));
        }
        let shape = match arguments.block {
            Some(block) => (entry.blocks.get(block as usize))
                .map(|found| found.block.count.clone())
                .ok_or_else(|| {
                    wrong(format!(
                        "there is no block {block}, there are {}",
                        entry.blocks.len()
                    ))
                })?,
            None => entry.shape(),
        };
        let selection = match &arguments.slice {
            None => Selection {
                block: arguments.block.map(BlockId),
                axes: Vec::new(),
            },
            Some(slice) => {
                (slice.selection(definition, shape.len(), arguments.block)).map_err(wrong)?
            }
        };
        let region = (selection.resolve(&shape)).map_err(|error| wrong(error.to_string()))?;
        let sides = (0..shape.len()).filter(|dimension| !region.squeezed[*dimension]);
        let sides: Vec<usize> = sides.collect();
        if !matches!(sides.len(), 1 | 2) {
            return Err(wrong(advice(definition, &shape, sides.len())));
        }
        let cells = panta_core::model::cells(&region.count);
        if cells > plot::VALUES_LIMIT as u64 {
            let values = usize::try_from(cells).unwrap_or(usize::MAX);
            return Err(PlotError::TooLarge { values }.into());
        }
        let dtype = definition.dtype;
        let mut bytes = vec![0; cells as usize * dtype.size_bytes()];
        let resolved = step.resolve(&definition.name, dtype, &selection)?;
        let into = StridedMut::contiguous(&mut bytes, dtype.size_bytes(), &region.count)
            .map_err(|error| wrong(error.to_string()))?;
        step.read(resolved, into)?;
        let values = number::scalars(dtype, &bytes).into_iter();
        let values = values
            .map(number::Scalar::as_f64)
            .map(|value| match arguments.log {
                true if value > 0.0 => value.log10(),
                true => f64::NAN,
                false => value,
            });
        Ok(Self {
            step,
            entry,
            values: values.collect(),
            region,
            sides,
            log: arguments.log,
        })
    }

    fn definition(&self) -> &Definition {
        &self.entry.definition
    }

    fn dim(&self, dimension: usize) -> String {
        match self.definition().dims.get(dimension) {
            Some(name) => name.clone(),
            None => format!("dimension {dimension}"),
        }
    }

    /// A dimension's name, and where its cells begin if that is not 0.
    fn axis_label(&self, dimension: usize) -> String {
        let mut label = self.dim(dimension);
        let (start, stride) = (self.region.start[dimension], self.region.step[dimension]);
        if start > 0 {
            label.push_str(&format!(", counted from {start}"));
        }
        if stride > 1 {
            label.push_str(&format!(", every {stride} cells"));
        }
        label
    }

    /// `u, step 9, t = 0.9, z = 10`.
    fn title(&self) -> String {
        let head = self.step.head();
        let mut title = format!("{}, step {}", self.definition().name, head.step);
        if let Some(time) = head.time.sim {
            title.push_str(&format!(
                ", t = {}",
                number::brief(panta::Number::Float(time))
            ));
        }
        for dimension in 0..self.region.start.len() {
            if self.region.squeezed[dimension] {
                let name = self.dim(dimension);
                title.push_str(&format!(", {name} = {}", self.region.start[dimension]));
            }
        }
        title
    }

    fn value_label(&self) -> String {
        let definition = self.definition();
        let complex = matches!(definition.dtype.name(), "complex64" | "complex128");
        let mut label = definition.name.clone();
        if complex {
            label = format!("|{label}|");
        }
        if !definition.unit.is_empty() {
            label.push_str(&format!(" ({})", definition.unit));
        }
        if self.log {
            label = format!("log₁₀ {label}");
        }
        label
    }

    fn line(&self) -> Result<Canvas, CommandError> {
        let dimension = self.sides[0];
        let (start, stride) = (self.region.start[dimension], self.region.step[dimension]);
        let x: Vec<f64> = (0..self.values.len() as u64)
            .map(|index| (start + index * stride) as f64)
            .collect();
        let curve = Curve {
            name: &self.definition().name,
            x: &x,
            y: &self.values,
        };
        Ok(plot::curves(&Curves {
            title: &self.title(),
            x_label: &self.dim(dimension),
            y_label: &self.value_label(),
            curves: &[curve],
        })?)
    }

    fn image(&self, arguments: &PlotArguments) -> Result<Canvas, CommandError> {
        let (rows, columns) = (self.sides[0], self.sides[1]);
        let stretches = match arguments.curve {
            true => Some(self.curve(arguments)?),
            false => None,
        };
        let overlay = stretches
            .as_ref()
            .map(|(stretches, legend)| Overlay { stretches, legend });
        Ok(plot::image(&Image {
            title: &self.title(),
            x_label: &self.axis_label(columns),
            y_label: &self.axis_label(rows),
            value_label: &self.value_label(),
            values: &self.values,
            rows: self.region.count[rows] as usize,
            columns: self.region.count[columns] as usize,
            range: self.range(arguments)?,
            overlay,
        })?)
    }

    /// The interval of the colours, if any end of it was given.
    fn range(&self, arguments: &PlotArguments) -> Result<Option<(f64, f64)>, CommandError> {
        if arguments.min.is_none() && arguments.max.is_none() {
            return Ok(None);
        }
        let drawn =
            |value: Option<f64>| value.map(|value| if self.log { value.log10() } else { value });
        let finite = || {
            self.values
                .iter()
                .copied()
                .filter(|value| value.is_finite())
        };
        let low = drawn(arguments.min).unwrap_or_else(|| finite().fold(f64::INFINITY, f64::min));
        let high =
            drawn(arguments.max).unwrap_or_else(|| finite().fold(f64::NEG_INFINITY, f64::max));
        if low.is_finite() && high.is_finite() && low < high {
            return Ok(Some((low, high)));
        }
        Err(CommandError::Usage(format!(
            "colours from {low} to {high} are no interval; give a --min below --max{}",
            if self.log { ", both above 0" } else { "" }
        )))
    }

    /// The curve's way through the chunks of the plane, and the owners' names.
    fn curve(
        &self,
        arguments: &PlotArguments,
    ) -> Result<(Vec<Stretch>, Vec<String>), CommandError> {
        let wrong = |problem: String| {
            let name = &self.definition().name;
            CommandError::failed(format!("variable `{name}`: {problem}"))
        };
        if self.definition().kind != ShapeKind::GlobalArray || arguments.block.is_some() {
            return Err(wrong(
                "only whole global arrays have chunks on the curve".into(),
            ));
        }
        let shape = &self.definition().shape;
        let chunk = self.chunk(arguments).map_err(wrong)?;
        let grid: Vec<u64> = shape
            .iter()
            .zip(&chunk)
            .map(|(side, chunk)| side.div_ceil(*chunk))
            .collect();
        let curve = curve::Curve::for_grid(&grid).map_err(|error| wrong(error.to_string()))?;
        let servers = (0..arguments.servers).map(|id| Server {
            id,
            address: format!("server{id}:1"),
        });
        let map = ShardMap::even(1, servers.collect()).map_err(|error| wrong(error.to_string()))?;
        let stream = resolve(&arguments.stream)?.name;
        let rotation = Rotation::of(&stream, &self.definition().name);

        let (rows, columns) = (self.sides[0], self.sides[1]);
        if grid[rows].saturating_mul(grid[columns]) > CHUNKS_LIMIT {
            return Err(wrong(format!(
                "the plane has {} × {} chunks, more than can be seen; give a larger --chunk",
                grid[rows], grid[columns]
            )));
        }
        let mut cell: Vec<u64> = self
            .region
            .start
            .iter()
            .zip(&chunk)
            .map(|(at, chunk)| at / chunk)
            .collect();
        let mut passed = Vec::new();
        for row in 0..grid[rows] {
            for column in 0..grid[columns] {
                (cell[rows], cell[columns]) = (row, column);
                let key = curve.index(&cell);
                let owner = usize::from(map.owner(rotation, curve.align(key)).0);
                let at = (
                    self.centre(columns, column, chunk[columns]),
                    self.centre(rows, row, chunk[rows]),
                );
                passed.push((key, owner, at));
            }
        }
        passed.sort_by_key(|(key, ..)| *key);
        let legend = (0..arguments.servers).map(|id| format!("server {id}"));
        Ok((self.stretches(&passed), legend.collect()))
    }

    fn chunk(&self, arguments: &PlotArguments) -> Result<Vec<u64>, String> {
        let shape = &self.definition().shape;
        let chunk = match (&arguments.chunk, &self.definition().chunk) {
            (given, _) if !given.is_empty() => given.clone(),
            (_, Some(defined)) => defined.clone(),
            _ => default_chunk(shape, self.definition().dtype.size_bytes() as u64),
        };
        if chunk.len() != shape.len() || chunk.contains(&0) {
            return Err(format!(
                "--chunk {chunk:?} does not fit {} dimensions; give one side, at least 1, for each",
                shape.len()
            ));
        }
        Ok(chunk)
    }

    /// The middle of a chunk along one dimension, in cells of the plane.
    fn centre(&self, dimension: usize, chunk: u64, side: u64) -> f64 {
        let first = chunk * side;
        let end = (first + side).min(self.definition().shape[dimension]);
        let middle = (first + end) as f64 / 2.0 - 0.5;
        (middle - self.region.start[dimension] as f64) / self.region.step[dimension] as f64
    }

    /// Lines between chunks that follow each other on the curve, and a dot in each
    /// chunk; what lies outside the plane is left out.
    fn stretches(&self, passed: &[(u128, usize, (f64, f64))]) -> Vec<Stretch> {
        let (rows, columns) = (self.sides[0], self.sides[1]);
        let within = |at: (f64, f64)| {
            let inside = |at: f64, dimension: usize| {
                at >= -0.5 && at <= self.region.count[dimension] as f64 - 0.5
            };
            inside(at.0, columns) && inside(at.1, rows)
        };
        let mut stretches = Vec::new();
        for (place, &(key, owner, at)) in passed.iter().enumerate() {
            if !within(at) {
                continue;
            }
            stretches.push(Stretch {
                from: at,
                to: at,
                owner,
            });
            let Some(&(next_key, next_owner, next)) = passed.get(place + 1) else {
                continue;
            };
            if next_key == key + 1 && within(next) {
                let middle = ((at.0 + next.0) / 2.0, (at.1 + next.1) / 2.0);
                stretches.push(Stretch {
                    from: at,
                    to: middle,
                    owner,
                });
                stretches.push(Stretch {
                    from: middle,
                    to: next,
                    owner: next_owner,
                });
            }
        }
        stretches
    }
}

/// What to try where another number of dimensions than one or two is left.
fn advice(definition: &Definition, shape: &[u64], left: usize) -> String {
    if left == 0 {
        return "the slice leaves a single value; show it, or leave one or two dimensions".into();
    }
    let picked = left - 2;
    let parts: Vec<String> = (shape.iter().enumerate())
        .take(picked)
        .map(|(dimension, side)| match definition.dims.get(dimension) {
            Some(name) => format!("{name}={}", side / 2),
            None => (side / 2).to_string(),
        })
        .collect();
    let mut slice = parts.join(",");
    if definition.dims.is_empty() {
        slice.push_str(&",:".repeat(shape.len() - picked));
    }
    format!("{left} dimensions are left, an image has two; pick positions, as --slice \"{slice}\"")
}
