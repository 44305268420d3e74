//! The stable JSON interface, documented in docs/json.md, and its CSV sibling. Versioned,
//! snake_case, units in the names; a figure that was not measured is absent.

use std::collections::BTreeMap;

use edgesmith_common::{Measurement, TrialState};
use edgesmith_search_space::CompressionRecipe;
use serde::Serialize;

use super::TrialRow;

/// Version of everything printed with `--format json`; raised when a field changes its meaning or
/// goes, not when one is added.
pub const VERSION: u32 = 1;

/// What `pareto` and `trials` print.
#[derive(Debug, Serialize)]
pub struct Trials<'a> {
    version: u32,
    study: &'a str,
    trials: Vec<Trial<'a>>,
}

/// One trial.
#[derive(Debug, Serialize)]
pub struct Trial<'a> {
    trial: u32,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    architecture: String,
    recipe: &'a CompressionRecipe,
    genotype: &'a [u16],
    parents: &'a [u32],
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Metrics>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncompressed: Option<Network>,
    measurements: &'a [Measurement],
    #[serde(skip_serializing_if = "Option::is_none")]
    training: Option<Training>,
}

#[derive(Debug, Serialize)]
struct Network {
    validation_accuracy: f64,
    test_accuracy: f64,
    model_bytes: u64,
    macs: u64,
    parameters: u64,
    peak_memory_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Metrics {
    #[serde(flatten)]
    network: Network,
    /// Median by device class.
    latency_ms: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize)]
struct Training {
    seconds: f64,
    images_seen: u64,
    model_hash: String,
    weights_hash: String,
}

impl<'a> Trials<'a> {
    /// The document of these trials.
    pub fn new(study: &'a str, rows: &'a [TrialRow]) -> Self {
        Self { version: VERSION, study, trials: rows.iter().map(Trial::new).collect() }
    }
}

impl<'a> Trial<'a> {
    /// One trial's object.
    pub fn new(row: &'a TrialRow) -> Self {
        let reason = match &row.state {
            TrialState::Infeasible { reason } | TrialState::Failed { reason } => Some(&**reason),
            _ => None,
        };
        let values = row.values.as_ref();
        let latencies = |ms: &[Measurement]| {
            ms.iter().map(|m| (m.device.class.to_string(), m.p50_ms)).collect()
        };
        Self {
            trial: row.number,
            state: row.state.name(),
            reason,
            architecture: row.candidate.architecture.to_string(),
            recipe: &row.candidate.recipe,
            genotype: &row.genotype,
            parents: &row.parents,
            attempts: row.attempts,
            metrics: values.map(|v| Metrics {
                network: network(&v.trained.compressed),
                latency_ms: latencies(&v.measurements),
            }),
            uncompressed: values.map(|v| network(&v.trained.uncompressed)),
            measurements: values.map_or(&[], |v| &v.measurements),
            training: values.map(|v| Training {
                seconds: v.trained.seconds,
                images_seen: v.trained.images_seen,
                model_hash: v.trained.model.to_string(),
                weights_hash: v.trained.weights.to_string(),
            }),
        }
    }
}

fn network(report: &edgesmith_common::NetworkReport) -> Network {
    Network {
        validation_accuracy: report.validation_accuracy,
        test_accuracy: report.test_accuracy,
        model_bytes: report.model_bytes,
        macs: report.cost.macs,
        parameters: report.cost.parameters,
        peak_memory_bytes: report.cost.peak_memory_bytes,
    }
}

/// One row a trial; one `latency_ms@CLASS` column a device class that any trial was measured on. A
/// figure that was not measured is an empty cell.
pub fn csv(rows: &[TrialRow]) -> String {
    let mut devices: Vec<&str> = Vec::new();
    for measurement in rows.iter().filter_map(|r| r.values.as_ref()).flat_map(|v| &v.measurements) {
        let class = measurement.device.class.as_str();
        if !devices.contains(&class) {
            devices.push(class);
        }
    }
    let fixed = "trial,state,precision,validation_accuracy,test_accuracy,model_bytes,macs,\
                 parameters,peak_memory_bytes";
    let mut text = fixed.to_owned();
    devices.iter().for_each(|d| text.push_str(&format!(",latency_ms@{d}")));
    text.push_str(",architecture,recipe\n");
    for row in rows {
        let mut cells = vec![
            row.number.to_string(),
            row.state.name().to_owned(),
            row.candidate.recipe.precision.name().to_owned(),
        ];
        match &row.values {
            Some(values) => {
                let n = network(&values.trained.compressed);
                cells.extend([n.validation_accuracy.to_string(), n.test_accuracy.to_string()]);
                cells.extend(
                    [n.model_bytes, n.macs, n.parameters, n.peak_memory_bytes]
                        .map(|v| v.to_string()),
                );
                cells.extend(devices.iter().map(|d| {
                    let on = |m: &&Measurement| m.device.class.as_str() == *d;
                    let found = values.measurements.iter().find(on);
                    found.map(|m| m.p50_ms.to_string()).unwrap_or_default()
                }));
            }
            None => cells.extend(std::iter::repeat_n(String::new(), 6 + devices.len())),
        }
        cells.push(row.candidate.architecture.to_string());
        cells.push(row.candidate.recipe.to_string());
        // No cell holds a comma, a quote or a line break: names are restricted and the rest is ours.
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}
