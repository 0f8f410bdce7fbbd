//! What the analysis leaves behind: an image of the middle plane per step, a
//! plot of the volume fraction over time, and a summary as JSON.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use ndarray::ArrayView2;
use panta_cli::plot::{self, PlotError};

use crate::statistics::Statistics;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("cannot create the directory {path}: {source}")]
    Directory {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot write {path}: {source}")]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Plot(#[from] PlotError),
}

/// One step as it was measured.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Measured {
    pub(crate) step: u64,
    pub(crate) time: f64,
    #[serde(flatten)]
    pub(crate) statistics: Statistics,
}

#[derive(serde::Serialize)]
struct Summary<'a> {
    stream: &'a str,
    variable: &'a str,
    shape: [u64; 3],
    threshold: f64,
    steps: &'a [Measured],
}

/// Collects the steps and writes the files; kept by one rank.
pub(crate) struct Report {
    directory: PathBuf,
    threshold: f64,
    steps: Vec<Measured>,
}

impl Report {
    /// Prepares to write into `directory`, which is made if it is missing.
    pub(crate) fn new(directory: &Path, threshold: f64) -> Result<Self, ReportError> {
        std::fs::create_dir_all(directory).map_err(|source| ReportError::Directory {
            path: directory.to_owned(),
            source,
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            threshold,
            steps: Vec::new(),
        })
    }

    /// Draws the plane `z` of a step and keeps what was measured of it.
    pub(crate) fn add(
        &mut self,
        measured: Measured,
        z: u64,
        plane: ArrayView2<'_, f64>,
    ) -> Result<PathBuf, ReportError> {
        let (rows, columns) = plane.dim();
        let values: Vec<f64> = plane.iter().copied().collect();
        let title = format!("v at t = {}, plane z = {z}", measured.time);
        let drawn = plot::image(&plot::Image {
            title: &title,
            x_label: "x",
            y_label: "y",
            value_label: "v",
            values: &values,
            rows,
            columns,
            range: None,
            overlay: None,
        })?;
        let path = self.directory.join(format!("v_{:06}.png", measured.step));
        drawn.write_png(&path)?;
        self.steps.push(measured);
        Ok(path)
    }

    /// Forgets the steps after `to`, which the simulation took back.
    pub(crate) fn roll_back(&mut self, to: Option<u64>) {
        self.steps
            .retain(|measured| to.is_some_and(|last| measured.step <= last));
    }

    /// Writes the plot over time and the summary.
    pub(crate) fn finish(&self, stream: &str, shape: [u64; 3]) -> Result<(), ReportError> {
        if !self.steps.is_empty() {
            self.plot_fractions()?;
        }
        let path = self.directory.join("summary.json");
        let summary = Summary {
            stream,
            variable: "v",
            shape,
            threshold: self.threshold,
            steps: &self.steps,
        };
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(&path)?);
            serde_json::to_writer_pretty(&mut file, &summary)?;
            file.write_all(b"\n")?;
            file.flush()
        };
        write().map_err(|source| ReportError::Write {
            path: path.clone(),
            source,
        })
    }

    fn plot_fractions(&self) -> Result<(), ReportError> {
        let x: Vec<f64> = self.steps.iter().map(|step| step.time).collect();
        let y: Vec<f64> = self
            .steps
            .iter()
            .map(|step| step.statistics.volume_fraction)
            .collect();
        let title = format!("How much of the volume holds v > {}", self.threshold);
        let drawn = plot::curves(&plot::Curves {
            title: &title,
            x_label: "time",
            y_label: "volume fraction",
            curves: &[plot::Curve {
                name: "v",
                x: &x,
                y: &y,
            }],
        })?;
        Ok(drawn.write_png(self.directory.join("volume_fraction.png"))?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::statistics::BINS;
    use ndarray::Array2;

    #[test]
    fn every_step_leaves_an_image_and_an_entry() {
        let directory = tempfile::tempdir().unwrap();
        let mut report = Report::new(&directory.path().join("deep/er"), 0.1).unwrap();
        for step in 0..3 {
            let statistics = Statistics {
                min: 0.0,
                max: 0.1 + 0.2,
                histogram: vec![1; BINS],
                volume_fraction: step as f64 / 3.0,
                not_finite: 0,
                checksum: "00".into(),
            };
            let measured = Measured {
                step,
                time: step as f64 * 10.0,
                statistics,
            };
            let plane = Array2::from_shape_fn((4, 5), |(y, x)| (y + x) as f64);
            assert!(report.add(measured, 2, plane.view()).unwrap().exists());
        }
        report.roll_back(Some(1));
        report.finish("s", [4, 4, 5]).unwrap();
        let text = std::fs::read_to_string(directory.path().join("deep/er/summary.json")).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["steps"].as_array().unwrap().len(), 2);
        assert_eq!(read["steps"][1]["max"].as_f64().unwrap(), 0.1 + 0.2);
        assert!(
            directory
                .path()
                .join("deep/er/volume_fraction.png")
                .exists()
        );
    }
}
