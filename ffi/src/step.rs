//! A sealed step: what is in it, without its payload.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use panta_core::model::{Accuracy, Attribute, AttributeKey, Definition, Entry, Payload, ShapeKind};
use panta_core::session::{Step, nearest};

use crate::caller::{CTexts, Caller, signed};
use crate::failed::{Failed, c_text};
use crate::handles::{Handle, Held, Object};
use crate::info::{stats, step_info};
use crate::types::*;

/// The texts of a variable, and how long they are whatever zero bytes they hold.
type Texts = Arc<[(CString, usize)]>;

/// A step behind a handle. Several threads may read from it at once.
pub(crate) struct StepObject {
    pub(crate) step: Step,
    detached: AtomicBool,
    variables: OnceLock<Vec<VariableTexts>>,
    attributes: OnceLock<Vec<AttributeTexts>>,
    /// Texts that were asked for, by variable; they live as long as the step.
    texts: Mutex<BTreeMap<String, Texts>>,
}

impl Object for StepObject {
    type Handle = panta_step;
    const KIND: u8 = 4;
    const NAME: &'static str = "step";
}

/// What a variable's info points to.
struct VariableTexts {
    name: CString,
    unit: CString,
    dims: CTexts,
    coordinates: CTexts,
    fill: Option<Vec<u8>>,
    chunk: Option<Vec<i64>>,
}

impl VariableTexts {
    fn of(definition: &Definition) -> Self {
        let chunk = definition.chunk.as_ref();
        Self {
            name: c_text(&definition.name),
            unit: c_text(&definition.unit),
            dims: CTexts::new(&definition.dims),
            coordinates: CTexts::new(&definition.coordinates),
            fill: definition.fill.clone(),
            chunk: chunk.map(|chunk| chunk.iter().copied().map(signed).collect()),
        }
    }
}

/// An attribute as C reads it.
struct AttributeTexts {
    variable: Option<CString>,
    name: CString,
    values: Values,
    is_array: bool,
}

enum Values {
    Ints(Vec<i64>),
    UInts(Vec<u64>),
    Floats(Vec<f64>),
    Texts(CTexts),
}

impl AttributeTexts {
    fn of((key, value): (&AttributeKey, &Attribute)) -> Self {
        let (values, is_array) = match value {
            Attribute::Int(value) => (Values::Ints(vec![*value]), false),
            Attribute::UInt(value) => (Values::UInts(vec![*value]), false),
            Attribute::Float(value) => (Values::Floats(vec![*value]), false),
            Attribute::Text(value) => (Values::Texts(CTexts::new([value])), false),
            Attribute::Ints(values) => (Values::Ints(values.clone()), true),
            Attribute::UInts(values) => (Values::UInts(values.clone()), true),
            Attribute::Floats(values) => (Values::Floats(values.clone()), true),
            Attribute::Texts(values) => (Values::Texts(CTexts::new(values)), true),
        };
        Self {
            variable: key.variable.as_deref().map(c_text),
            name: c_text(&key.name),
            values,
            is_array,
        }
    }

    fn as_c(&self) -> panta_attribute {
        let mut attribute = panta_attribute {
            size: 0,
            variable: self
                .variable
                .as_ref()
                .map_or(ptr::null(), |name| name.as_ptr()),
            name: self.name.as_ptr(),
            dtype: 0,
            is_array: i32::from(self.is_array),
            count: 0,
            i64s: ptr::null(),
            u64s: ptr::null(),
            f64s: ptr::null(),
            texts: ptr::null(),
        };
        (attribute.dtype, attribute.count) = match &self.values {
            Values::Ints(values) => {
                attribute.i64s = values.as_ptr();
                (PANTA_I64, values.len())
            }
            Values::UInts(values) => {
                attribute.u64s = values.as_ptr();
                (PANTA_U64, values.len())
            }
            Values::Floats(values) => {
                attribute.f64s = values.as_ptr();
                (PANTA_F64, values.len())
            }
            Values::Texts(values) => {
                attribute.texts = values.as_ptr();
                (PANTA_TEXT, values.len())
            }
        };
        attribute
    }
}

impl StepObject {
    pub(crate) fn new(step: Step) -> Self {
        Self {
            step,
            detached: AtomicBool::new(false),
            variables: OnceLock::new(),
            attributes: OnceLock::new(),
            texts: Mutex::default(),
        }
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }

    fn variable_texts(&self) -> &[VariableTexts] {
        self.variables.get_or_init(|| {
            let entries = self.step.entries().iter();
            entries
                .map(|entry| VariableTexts::of(&entry.definition))
                .collect()
        })
    }

    fn attributes(&self) -> &[AttributeTexts] {
        self.attributes.get_or_init(|| {
            self.step
                .schema()
                .attributes
                .iter()
                .map(AttributeTexts::of)
                .collect()
        })
    }

    fn variable_info(&self, index: usize) -> panta_variable_info {
        let entry = &self.step.entries()[index];
        let texts = &self.variable_texts()[index];
        let shape = entry.shape();
        panta_variable_info {
            size: 0,
            name: texts.name.as_ptr(),
            dtype: entry.definition.dtype as panta_dtype,
            kind: kind(entry.definition.kind),
            dimensions: shape.len() as i32,
            joined_dimension: match entry.definition.kind {
                ShapeKind::JoinedArray { axis } => i32::from(axis),
                _ => -1,
            },
            shape: padded(&shape),
            dimension_names: texts.dims.as_ptr(),
            unit: texts.unit.as_ptr(),
            coordinates: texts.coordinates.as_ptr(),
            coordinates_count: texts.coordinates.len(),
            fill: texts
                .fill
                .as_ref()
                .map_or(ptr::null(), |fill| fill.as_ptr().cast()),
            chunk: texts
                .chunk
                .as_ref()
                .map_or(ptr::null(), |chunk| chunk.as_ptr()),
            blocks: entry.blocks.len() as u64,
            stats: stats(entry.stats()),
            absolute_accuracy: match entry.definition.accuracy {
                Some(Accuracy::Absolute(bound)) => bound,
                _ => 0.0,
            },
            relative_accuracy: match entry.definition.accuracy {
                Some(Accuracy::Relative(bound)) => bound,
                _ => 0.0,
            },
        }
    }

    /// The texts of a variable, made once.
    fn texts(&self, variable: &str) -> Result<Texts, Failed> {
        let mut known = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(texts) = known.get(variable) {
            return Ok(Arc::clone(texts));
        }
        let texts: Texts = self
            .step
            .texts(variable)?
            .iter()
            .map(|text| (raw_c_text(text), text.len()))
            .collect();
        known.insert(variable.to_owned(), Arc::clone(&texts));
        Ok(texts)
    }
}

/// A text for C whole, zero bytes inside and all.
fn raw_c_text(text: &str) -> CString {
    // SAFETY: nothing here looks for the end by a zero byte; who does in C stops early.
    unsafe { CString::from_vec_unchecked(text.as_bytes().to_vec()) }
}

fn kind(kind: ShapeKind) -> panta_kind {
    match kind {
        ShapeKind::GlobalArray => PANTA_GLOBAL_ARRAY,
        ShapeKind::LocalArray => PANTA_LOCAL_ARRAY,
        ShapeKind::JoinedArray { .. } => PANTA_JOINED_ARRAY,
        ShapeKind::GlobalValue => PANTA_GLOBAL_VALUE,
        ShapeKind::LocalValue => PANTA_LOCAL_VALUE,
    }
}

/// Sides of up to PANTA_MAX_DIMS dimensions, zeros behind them.
pub(crate) fn padded(sides: &[u64]) -> [i64; PANTA_MAX_DIMS] {
    let mut padded = [0; PANTA_MAX_DIMS];
    for (into, side) in padded.iter_mut().zip(sides) {
        *into = signed(*side);
    }
    padded
}

/// The step of a handle.
#[inline(always)] // in every get
pub(crate) fn step_of(step: *const panta_step) -> Result<Held<StepObject>, Failed> {
    Handle::<StepObject>::from_pointer(step).get()
}

fn beyond(what: &str, index: u64, count: usize) -> Failed {
    Failed::argument(format!("there is no {what} {index}, there are {count}"))
}

/// Keeps the step beyond the reader's next one, and beyond the reader; counted
/// against the stream's limit until panta_step_close.
// SAFETY: the name begins with panta_, which no other library defines.
#[unsafe(no_mangle)]
pub extern "C" fn panta_step_detach(step: *mut panta_step) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_step_detach") };
    caller.answer(|| {
        step_of(step)?.detached.store(true, Ordering::Release);
        Ok(())
    })
}

/// Lets go of a step, and of everything that points into it but views. Needed
/// for detached steps only; the others end with the reader's next one.
// SAFETY: as for panta_step_detach.
#[unsafe(no_mangle)]
pub extern "C" fn panta_step_close(step: *mut panta_step) -> panta_status {
    // SAFETY: no pointer is read through.
    let caller = unsafe { Caller::of("panta_step_close") };
    caller.answer(|| Handle::<StepObject>::from_pointer(step).close())
}

/// The step's identity and times.
// SAFETY: as for panta_step_detach.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_step_describe(
    step: *mut panta_step,
    info: *mut panta_step_info,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_step_describe") };
    caller.answer(|| {
        let object = step_of(step)?;
        let answer = panta_step_info {
            variables: object.step.entries().len() as u64,
            attributes: object.step.schema().attributes.len() as u64,
            ..step_info(&object.step.head())
        };
        caller.fill(info, &answer, "info")
    })
}

/// The variable called `name` as it is in this step.
// SAFETY: as for panta_step_detach.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_find_variable(
    step: *mut panta_step,
    name: *const c_char,
    info: *mut panta_variable_info,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_find_variable") };
    caller.answer(|| {
        let (object, name) = (step_of(step)?, caller.text(name, "name")?);
        let index = index_of(&object, name)?;
        caller.fill(info, &object.variable_info(index), "info")
    })
}

fn index_of(object: &StepObject, name: &str) -> Result<usize, Failed> {
    // Asked for first, since its error names the nearest variable there is.
    let entry = object.step.entry(name)?;
    let same = |other: &Entry| ptr::eq(other, entry);
    Ok(object
        .step
        .entries()
        .iter()
        .position(same)
        .unwrap_or_default())
}

/// The variable at place `index`, below panta_step_info.variables.
// SAFETY: as for panta_step_detach.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_variable_at(
    step: *mut panta_step,
    index: u64,
    info: *mut panta_variable_info,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_variable_at") };
    caller.answer(|| {
        let object = step_of(step)?;
        let count = object.step.entries().len();
        if index >= count as u64 {
            return Err(beyond("variable", index, count));
        }
        caller.fill(info, &object.variable_info(index as usize), "info")
    })
}

/// The block `block` of a variable, below panta_variable_info.blocks. Blocks
/// are in the order (rank, put).
// SAFETY: as for panta_step_detach.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_block_at(
    step: *mut panta_step,
    variable: *const c_char,
    block: i64,
    info: *mut panta_block_info,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_block_at") };
    caller.answer(|| {
        let object = step_of(step)?;
        let entry = object.step.entry(caller.text(variable, "variable")?)?;
        let found = usize::try_from(block)
            .ok()
            .and_then(|block| entry.blocks.get(block));
        let Some(found) = found else {
            let message = format!(
                "there is no block {block}, there are {}",
                entry.blocks.len()
            );
            return Err(Failed::new(PANTA_ERROR_NO_SUCH_BLOCK, message));
        };
        let answer = panta_block_info {
            size: 0,
            rank: found.block.rank as i32,
            order: found.block.order as i32,
            dimensions: found.block.count.len() as i32,
            reserved: 0,
            start: padded(&found.block.start),
            count: padded(&found.block.count),
            stats: stats(match found.payload {
                Payload::Array(stats) => stats,
                Payload::Value(_) => None,
            }),
        };
        caller.fill(info, &answer, "info")
    })
}

/// The attribute called `name` of a variable, or with NULL of the stream, as of
/// this step; also of variables that were not put in it.
// SAFETY: as for panta_step_detach.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_find_attribute(
    step: *mut panta_step,
    variable: *const c_char,
    name: *const c_char,
    attribute: *mut panta_attribute,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_find_attribute") };
    caller.answer(|| {
        let object = step_of(step)?;
        let variable = caller
            .text_or_none(variable, "variable")?
            .map(str::to_owned);
        let name = caller.text(name, "name")?.to_owned();
        let all = &object.step.schema().attributes;
        let key = AttributeKey { variable, name };
        let Some(index) = all.keys().position(|other| *other == key) else {
            let alike = all.keys().filter(|other| other.variable == key.variable);
            let hint = nearest(&key.name, alike.map(|other| other.name.as_str()))
                .map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
            let owner = key.variable.map_or_else(
                || "the stream".to_owned(),
                |variable| format!("variable `{variable}`"),
            );
            let message = format!("there is no attribute `{}` of {owner}{hint}", key.name);
            return Err(Failed::new(PANTA_ERROR_UNKNOWN_ATTRIBUTE, message));
        };
        caller.fill(attribute, &object.attributes()[index].as_c(), "attribute")
    })
}

/// The attribute at place `index`, below panta_step_info.attributes.
// SAFETY: as for panta_step_detach.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_attribute_at(
    step: *mut panta_step,
    index: u64,
    attribute: *mut panta_attribute,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_attribute_at") };
    caller.answer(|| {
        let object = step_of(step)?;
        let all = object.attributes();
        let found = usize::try_from(index).ok().and_then(|index| all.get(index));
        let found = found.ok_or_else(|| beyond("attribute", index, all.len()))?;
        caller.fill(attribute, &found.as_c(), "attribute")
    })
}

/// A text of a global value (`index` 0) or of the `index`-th put of a local
/// value, below panta_variable_info.blocks. It is the step's own and lives as
/// long as its handle. `length_bytes` may be NULL; a text from another language
/// may hold zero bytes, which do not count as its end there.
// SAFETY: as for panta_step_detach.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn panta_get_text(
    step: *mut panta_step,
    variable: *const c_char,
    index: i64,
    text: *mut *const c_char,
    length_bytes: *mut usize,
) -> panta_status {
    // SAFETY: as panta.h asks of callers.
    let caller = unsafe { Caller::of("panta_get_text") };
    caller.answer(|| {
        let texts = step_of(step)?.texts(caller.text(variable, "variable")?)?;
        let found = usize::try_from(index)
            .ok()
            .and_then(|index| texts.get(index));
        let Some((found, length)) = found else {
            let message = format!("there is no text {index}, there are {}", texts.len());
            return Err(Failed::new(PANTA_ERROR_NO_SUCH_BLOCK, message));
        };
        caller.give(text, found.as_ptr(), "text")?;
        caller.give_if_wanted(length_bytes, *length, "length_bytes")
    })
}
