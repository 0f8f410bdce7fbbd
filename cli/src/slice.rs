//! `10,:,2:8:2` and `z=10,x=2:8`: which part of an array is meant.

use std::str::FromStr;

use panta_core::model::{Axis, BlockId, Definition, Selection};

/// A part of an array, not yet compared with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// The name of the dimension; `None` where the place says which.
    dim: Option<String>,
    axis: Axis,
}

impl FromStr for Slice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(Part::from_str);
        let parts: Vec<Part> = parts.collect::<Result<_, _>>()?;
        let named = parts.iter().filter(|part| part.dim.is_some()).count();
        if named != 0 && named != parts.len() {
            return Err("name all the dimensions, as `z=10,x=2:8`, or none, as `10,:,2:8`".into());
        }
        Ok(Self { parts })
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (dim, range) = match text.split_once('=') {
            Some((dim, range)) => (Some(dim.trim().to_owned()), range),
            None => (None, text),
        };
        let axis = axis(range.trim())
            .ok_or_else(|| format!("`{text}` is no position, as `10`, and no range, as `2:8:2`"))?;
        Ok(Self { dim, axis })
    }
}

fn axis(text: &str) -> Option<Axis> {
    let mut parts = text.split(':').map(str::trim);
    let first = parts.next()?;
    let Some(stop) = parts.next() else {
        return first.parse().ok().map(Axis::Index);
    };
    let or = |text: &str, default: i64| match text {
        "" => Some(default),
        text => text.parse().ok(),
    };
    let step = parts.next().unwrap_or_default();
    if parts.next().is_some() {
        return None;
    }
    Some(Axis::Range {
        start: or(first, 0)?,
        stop: match stop {
            "" => None,
            stop => Some(stop.parse().ok()?),
        },
        step: u64::try_from(or(step, 1)?).ok().filter(|step| *step > 0)?,
    })
}

impl Slice {
    /// The selection in an array of `dimensions` dimensions, or what is wrong.
    pub(crate) fn selection(
        &self,
        definition: &Definition,
        dimensions: usize,
        block: Option<u32>,
    ) -> Result<Selection, String> {
        let mut axes = vec![Axis::ALL; dimensions];
        let named = self.parts.iter().any(|part| part.dim.is_some());
        if !named && self.parts.len() != dimensions {
            return Err(format!(
                "the slice has {} dimensions, the array {dimensions}; give one part for each",
                self.parts.len()
            ));
        }
        for (place, part) in self.parts.iter().enumerate() {
            let dimension = match &part.dim {
                None => place,
                Some(dim) => (definition.dims.iter().position(|name| name == dim))
                    .filter(|dimension| *dimension < dimensions)
                    .ok_or_else(|| unknown_dim(dim, definition))?,
            };
            axes[dimension] = part.axis;
        }
        Ok(Selection {
            block: block.map(BlockId),
            axes,
        })
    }
}

fn unknown_dim(dim: &str, definition: &Definition) -> String {
    match definition.dims.is_empty() {
        true => format!("its dimensions have no names; instead of `{dim}=` give one part for each"),
        false => format!(
            "it has no dimension `{dim}`; its dimensions are {}",
            definition.dims.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use panta_core::model::{DType, ShapeKind};

    fn definition(dims: &[&str]) -> Definition {
        Definition {
            name: "u".into(),
            dtype: DType::F64,
            kind: ShapeKind::GlobalArray,
            shape: vec![4, 5, 6],
            dims: dims.iter().map(|dim| (*dim).to_owned()).collect(),
            unit: String::new(),
            coordinates: vec![],
            fill: None,
            chunk: None,
            accuracy: None,
        }
    }

    fn axes(slice: &str, dims: &[&str]) -> Result<Vec<Axis>, String> {
        let slice: Slice = slice.parse()?;
        Ok(slice.selection(&definition(dims), 3, None)?.axes)
    }

    #[test]
    fn names_and_places_mean_the_same() {
        let by_place = axes("1,:,2:6:2", &[]).unwrap();
        assert_eq!(by_place, axes("x=2:6:2,z=1", &["z", "y", "x"]).unwrap());
        assert_eq!(by_place[0], Axis::Index(1));
        assert_eq!(by_place[1], Axis::ALL);
        let range = Axis::Range {
            start: 2,
            stop: Some(6),
            step: 2,
        };
        assert_eq!(by_place[2], range);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in ["", "a", "1:2:0", "1:2:3:4", "z=", "z=1,2", "::-1", "1,2"] {
            assert!(axes(bad, &["z", "y", "x"]).is_err(), "{bad}");
        }
        let error = axes("w=1", &["z", "y", "x"]).unwrap_err();
        assert!(error.contains("z, y, x"), "{error}");
        assert!(axes("z=1", &[]).is_err());
    }
}
