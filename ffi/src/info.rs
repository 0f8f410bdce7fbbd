//! What writers, readers and steps tell about themselves alike.

use std::ffi::CString;

use panta_core::engine::EngineInfo;
use panta_core::model::{Number, Stats, StepHead};

use crate::caller::signed;
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

/// A step's identity and times; what it holds is for others to count.
pub(crate) fn step_info(head: &StepHead) -> panta_step_info {
    panta_step_info {
        size: 0,
        number: signed(head.step),
        epoch: signed(head.epoch),
        time: head.time.sim.unwrap_or(f64::NAN),
        wall_clock_ns: signed(head.wall_clock_ns),
        variables: 0,
        attributes: 0,
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
