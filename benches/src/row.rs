//! One measurement as it is reported.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// One measurement. Keys that do not apply are absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// What was measured.
    pub workload: &'static str,
    /// The engine that carried it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The transport that moved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// How it was put and got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// When checksums were verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<String>,
    /// Bytes of a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Steps of each round that throughput was taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Throughput, median of the rounds, in 10⁹ bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gb_per_s: Option<f64>,
    /// The same in steps a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_per_s: Option<f64>,
    /// Time of one step or call that is waited for before the next; median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<f64>,
    /// The same that 99 of 100 stay below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
    /// The same that 999 of 1000 stay below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p999_us: Option<f64>,
    /// Copies of the payload that the handles' counters saw, for each byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<f64>,
    /// Round trips to servers for each get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trips: Option<f64>,
    /// Proportional set size of all processes together, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pss_bytes: Option<u64>,
    /// One thread's memcpy of 64 MiB in this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memcpy_gb_per_s: Option<f64>,
    /// Throughput as a share of memcpy's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memcpy_ratio: Option<f64>,
    /// The bare loop's throughput in this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bare_gb_per_s: Option<f64>,
    /// Throughput as a share of the bare loop's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bare_ratio: Option<f64>,
    /// What only this workload has.
    #[serde(flatten)]
    pub extra: BTreeMap<&'static str, Value>,
}

impl Row {
    /// Sets throughput and the ratios that follow from it.
    pub(crate) fn with_throughput(mut self, ours: f64, bare: Option<f64>, memcpy: f64) -> Self {
        self.gb_per_s = Some(rounded(ours));
        self.memcpy_gb_per_s = Some(rounded(memcpy));
        self.memcpy_ratio = Some(rounded(ours / memcpy));
        self.bare_gb_per_s = bare.map(rounded);
        self.bare_ratio = bare.map(|bare| rounded(ours / bare));
        self
    }

    /// Adds a key of its own.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.extra.insert(key, value.into());
        self
    }
}

/// Four significant digits: more would claim a precision that is not there.
pub(crate) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powf(3.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn four_digits_are_kept() {
        for (value, expected) in [(1234.56, 1235.0), (0.012_345_6, 0.012_35), (0.0, 0.0)] {
            assert!((rounded(value) - expected).abs() < 1e-12, "{value}");
        }
    }
}
