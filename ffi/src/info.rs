//! What writers, readers and steps tell about themselves alike.

use std::ffi::CString;

use panta_core::engine::EngineInfo;
use panta_core::model::{Number, Stats};
use panta_transports::copy::CopyCounter;

use crate::failed::c_text;
use crate::types::*;

/// The texts of a panta_engine_info, kept beside the handle they were asked of.
#[derive(Debug, Default)]
pub(crate) struct EngineTexts {
    engine: CString,
    transport: CString,
    why: CString,
}

impl EngineTexts {
    pub(crate) fn of(info: &EngineInfo) -> Self {
        Self {
            engine: c_text(info.engine),
            transport: c_text(&info.transport),
            why: c_text(&info.why),
        }
    }

    pub(crate) fn as_c(&self) -> panta_engine_info {
        panta_engine_info {
            size: 0,
            engine: self.engine.as_ptr(),
            transport: self.transport.as_ptr(),
            why: self.why.as_ptr(),
        }
    }
}

pub(crate) fn copies(counter: &CopyCounter) -> panta_copies {
    panta_copies {
        size: 0,
        bytes: counter.bytes(),
        calls: counter.calls(),
    }
}

fn number(number: Number) -> panta_number {
    let (dtype, i64, u64) = match number {
        Number::Int(value) => (PANTA_I64, value, u64::try_from(value).unwrap_or(0)),
        Number::UInt(value) => (PANTA_U64, i64::try_from(value).unwrap_or(0), value),
        Number::Float(_) => (PANTA_F64, 0, 0),
    };
    panta_number {
        dtype,
        reserved: 0,
        i64,
        u64,
        f64: number.as_f64(),
    }
}

pub(crate) fn stats(stats: Option<Stats>) -> panta_stats {
    let none = number(Number::Float(0.0));
    match stats {
        Some(stats) => panta_stats {
            known: 1,
            reserved: 0,
            min: number(stats.min),
            max: number(stats.max),
            nans: stats.nans,
        },
        None => panta_stats {
            known: 0,
            reserved: 0,
            min: none,
            max: none,
            nans: 0,
        },
    }
}
