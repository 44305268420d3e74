//! Two objectives: measures the share of the true front's hypervolume that a search has not found.

use std::fmt::Write as _;

use edgesmith_common::spec::Workload;
use edgesmith_common::{Figures, StudySpec, pareto};
use edgesmith_console::invalid;
use edgesmith_console::table::{self, Align};
use edgesmith_worker::table::CellTable;

use crate::algorithm::Algorithm;
use crate::curve::average;
use crate::single;
use crate::study::LookUp;

/// Error of the reference point, the same as guessing among ten classes.
const REFERENCE_ERROR: f64 = 0.9;
/// A front counts as found if at most this share of the hypervolume is missing.
const FOUND: f64 = 0.01;

/// The true front of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// The largest latency, ms, and [`REFERENCE_ERROR`].
    reference: [f64; 2],
    volume: f64,
}

impl Truth {
    /// The front of the column and the device that `spec` searches.
    pub fn of(table: &CellTable, spec: &StudySpec) -> anyhow::Result<Self> {
        let Workload::Table(columns) = &spec.work else {
            return Err(invalid("the study names no table"));
        };
        let targets = spec.targets();
        let points = table
            .cells()
            .map(|cell| Ok(point(&table.look_up(columns, cell, &targets)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let slowest = points.iter().map(|point| point[0]).fold(0.0, f64::max);
        let reference = [slowest, REFERENCE_ERROR];
        let volume = pareto::hypervolume(&points, &reference);
        Ok(Self { reference, volume })
    }

    /// `1 - HV/HV(true front)` after each look-up.
    fn missing(&self, run: &[LookUp]) -> Vec<f64> {
        let mut front: Vec<Vec<f64>> = Vec::new();
        let counted = run.iter().filter(|look_up| look_up.counts);
        let after = counted.map(|look_up| {
            let point = point(&look_up.figures);
            if !front.iter().any(|old| pareto::dominates(old, &point) || *old == point) {
                front.retain(|old| !pareto::dominates(&point, old));
                front.push(point);
            }
            1.0 - pareto::hypervolume(&front, &self.reference) / self.volume
        });
        after.collect()
    }
}

/// Latency, ms, and error; lower is better for both.
fn point(figures: &Figures) -> Vec<f64> {
    let latency = figures.latencies().next().map_or(f64::INFINITY, |(_, ms)| ms);
    vec![latency, 1.0 - single::accuracy(figures)]
}

/// The results of one algorithm on one device.
#[derive(Debug)]
pub struct Row {
    device: String,
    algorithm: String,
    /// Mean and standard deviation of the missing share after each look-up.
    curve: Vec<(f64, f64)>,
}

impl Row {
    /// From all runs of the algorithm.
    pub fn new(device: &str, algorithm: &Algorithm, runs: &[Vec<LookUp>], truth: &Truth) -> Self {
        let missing: Vec<Vec<f64>> = runs.iter().map(|run| truth.missing(run)).collect();
        Self {
            device: device.to_owned(),
            algorithm: algorithm.to_string(),
            curve: average(&missing),
        }
    }

    fn last(&self) -> f64 {
        self.curve.last().map_or(1.0, |(mean, _)| *mean)
    }

    /// Number of look-ups after which the mean missing share is at most [`FOUND`].
    fn found(&self) -> Option<usize> {
        self.curve.iter().position(|(mean, _)| *mean <= FOUND).map(|place| place + 1)
    }
}

/// A row per device and a column per algorithm: the missing share at the end, and the look-ups to 1
/// %.
pub fn table(rows: &[Row], algorithms: &[Algorithm]) -> String {
    let names: Vec<String> = algorithms.iter().map(ToString::to_string).collect();
    let mut columns = vec![("device", Align::Left)];
    columns.extend(names.iter().map(|name| (name.as_str(), Align::Right)));
    let by_device = || rows.chunks(algorithms.len().max(1));
    let lines = |cell: &dyn Fn(&Row) -> String| -> Vec<Vec<String>> {
        let line = |chunk: &[Row]| {
            let device = chunk.first().map(|row| row.device.clone()).unwrap_or_default();
            std::iter::once(device).chain(chunk.iter().map(cell)).collect()
        };
        by_device().map(line).collect()
    };
    let mut missing = lines(&|row| format!("{:.4}", row.last()));
    let mut mean = vec!["geometric mean".to_owned()];
    mean.extend(names.iter().map(|name| {
        let mine = rows.iter().filter(|row| row.algorithm == *name);
        let logs: Vec<f64> = mine.map(|row| row.last().max(f64::MIN_POSITIVE).ln()).collect();
        format!("{:.4}", (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp())
    }));
    missing.push(mean);
    let mut text = "missing hypervolume, 1 - HV/HV(true front), mean over runs\n".to_owned();
    text.push_str(&table::render(&columns, &missing));
    text.push_str("\nlook-ups until the mean is within 1 % of the true front\n");
    let found = lines(&|row| row.found().map_or_else(|| "–".to_owned(), |n| n.to_string()));
    text.push_str(&table::render(&columns, &found));
    text
}

/// The missing share after each look-up, as CSV.
pub fn curves(rows: &[Row]) -> String {
    let mut text = "device,algorithm,look_ups,mean_missing,deviation\n".to_owned();
    for Row { device, algorithm, curve } in rows {
        for (place, (mean, deviation)) in curve.iter().enumerate() {
            let _ = writeln!(text, "{device},{algorithm},{},{mean:.8},{deviation:.8}", place + 1);
        }
    }
    text
}
