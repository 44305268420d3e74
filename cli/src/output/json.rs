//! The stable JSON interface, documented in docs/json.md, and its CSV sibling. Versioned,
//! snake_case, units in the names; a figure that was not measured is absent.

use std::collections::BTreeMap;

use edgesmith_common::{DeviceClass, Measurement, Metric, RungReport, TrialState, TrialValues};
use edgesmith_search_space::CompressionRecipe;
use serde::Serialize;

use super::TrialRow;
use super::marks::Marks;

/// Version of everything printed with `--format json`; raised when a field changes its meaning or
/// goes, not when one is added.
pub const VERSION: u32 = 1;

/// What the name of a CSV column of a choice begins with; its own name follows.
pub const CHOICE_COLUMN: &str = "choice.";
/// What the name of a CSV column of latencies begins with; the device class follows.
pub const LATENCY_COLUMN: &str = "latency_ms@";

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
    architecture: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipe: Option<&'a CompressionRecipe>,
    genotype: &'a [u16],
    choices: BTreeMap<&'a str, &'a str>,
    parents: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    inherits_from: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    proposed_by: &'a str,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Metrics>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncompressed: Option<Network>,
    measurements: &'a [Measurement],
    #[serde(skip_serializing_if = "Option::is_none")]
    training: Option<Training>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rungs: Vec<Rung>,
    /// On a front: whether it is the knee.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    knee: bool,
    /// On a front: trials that timing does not tell it from.
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    tied_with: &'a [u32],
}

/// What `pareto --cover` prints.
#[derive(Debug, Serialize)]
pub struct Cover<'a> {
    version: u32,
    study: &'a str,
    cover: Vec<Covering<'a>>,
}

/// A model and the devices that it is for.
#[derive(Debug, Serialize)]
struct Covering<'a> {
    devices: &'a [String],
    trial: Trial<'a>,
}

/// The network as trained up to a rung, uncompressed.
#[derive(Debug, Serialize)]
struct Rung {
    epochs: u32,
    validation_accuracy: f64,
    /// Absent where it was looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    images_seen: Option<u64>,
    seconds: f64,
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
    validation_accuracy: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    macs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
    /// Median by device class.
    latency_ms: BTreeMap<String, f64>,
    /// Held-out accuracies of a looked-up trial by column.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    test_accuracies: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize)]
struct Training {
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    images_seen: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights_hash: Option<String>,
}

impl<'a> Trials<'a> {
    /// The document of these trials.
    pub fn new(study: &'a str, rows: &'a [TrialRow]) -> Self {
        Self { version: VERSION, study, trials: rows.iter().map(Trial::new).collect() }
    }

    /// The document of a front.
    pub fn front(study: &'a str, rows: &'a [TrialRow], marks: &'a Marks) -> Self {
        let trial = |(place, row): (usize, &'a TrialRow)| Trial {
            knee: marks.is_knee(place),
            tied_with: marks.tied_with(place),
            ..Trial::new(row)
        };
        Self { version: VERSION, study, trials: rows.iter().enumerate().map(trial).collect() }
    }
}

impl<'a> Cover<'a> {
    /// The document of these models, each with the devices that it is for.
    pub fn new(study: &'a str, models: &'a [(Vec<String>, &'a TrialRow)]) -> Self {
        let covering = |(devices, row): &'a (Vec<String>, &'a TrialRow)| Covering {
            devices,
            trial: Trial::new(row),
        };
        Self { version: VERSION, study, cover: models.iter().map(covering).collect() }
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
        let trained = values.and_then(TrialValues::trained);
        Self {
            trial: row.number,
            state: row.state.name(),
            reason,
            architecture: &row.architecture,
            recipe: row.candidate.as_ref().map(|candidate| &candidate.recipe),
            genotype: &row.genotype,
            choices: row.choices.iter().map(|(name, option)| (&**name, &**option)).collect(),
            parents: &row.parents,
            inherits_from: row.inherits_from,
            score: row.score,
            proposed_by: &row.proposed_by,
            attempts: row.attempts,
            metrics: values.map(metrics),
            uncompressed: trained.map(|trained| network(&trained.uncompressed)),
            measurements: values.map(TrialValues::measurements).unwrap_or_default(),
            training: values.map(|values| Training {
                seconds: values.seconds(),
                images_seen: trained.map(|trained| trained.images_seen),
                model_hash: trained.map(|trained| trained.model.to_string()),
                weights_hash: trained.map(|trained| trained.weights.to_string()),
            }),
            rungs: row.rungs.iter().map(rung).collect(),
            knee: false,
            tied_with: &[],
        }
    }
}

fn rung(report: &RungReport) -> Rung {
    let RungReport { epochs, validation_accuracy, checkpoint, images_seen, seconds } = *report;
    let images_seen = checkpoint.map(|_| images_seen);
    Rung { epochs, validation_accuracy, images_seen, seconds }
}

fn metrics(values: &TrialValues) -> Metrics {
    let count = |metric| values.value(metric, None).map(|count| count as u64);
    Metrics {
        validation_accuracy: values.validation_accuracy(),
        test_accuracy: values.test_accuracy(),
        model_bytes: count(Metric::ModelBytes),
        macs: count(Metric::Macs),
        parameters: count(Metric::Parameters),
        peak_memory_bytes: count(Metric::PeakMemoryBytes),
        latency_ms: values.latencies().map(|(class, ms)| (class.to_string(), ms)).collect(),
        test_accuracies: match values {
            TrialValues::Figures(figures) => figures.test_accuracies.iter().cloned().collect(),
            TrialValues::Trained { .. } => BTreeMap::new(),
        },
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
    let mut devices: Vec<&DeviceClass> = Vec::new();
    for (class, _) in rows.iter().filter_map(|r| r.values.as_ref()).flat_map(TrialValues::latencies)
    {
        if !devices.contains(&class) {
            devices.push(class);
        }
    }
    let fixed = "trial,state,precision,validation_accuracy,test_accuracy,model_bytes,macs,\
                 parameters,peak_memory_bytes";
    let mut text = fixed.to_owned();
    devices.iter().for_each(|d| text.push_str(&format!(",{LATENCY_COLUMN}{d}")));
    text.push_str(",architecture,recipe,seconds");
    for (name, _) in rows.first().map(|row| row.choices.as_slice()).unwrap_or_default() {
        text.push_str(&format!(",{CHOICE_COLUMN}{name}"));
    }
    text.push('\n');
    for row in rows {
        let mut cells = vec![
            row.number.to_string(),
            row.state.name().to_owned(),
            row.candidate
                .as_ref()
                .map(|c| c.recipe.precision.name())
                .unwrap_or_default()
                .to_owned(),
        ];
        match &row.values {
            Some(values) => {
                let text = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
                cells.push(values.validation_accuracy().to_string());
                cells.push(text(values.test_accuracy()));
                let counts =
                    [Metric::ModelBytes, Metric::Macs, Metric::Parameters, Metric::PeakMemoryBytes];
                cells.extend(counts.map(|metric| text(values.value(metric, None))));
                let latency =
                    |class: &&DeviceClass| text(values.value(Metric::LatencyMs, Some(*class)));
                cells.extend(devices.iter().map(latency));
            }
            None => cells.extend(std::iter::repeat_n(String::new(), 6 + devices.len())),
        }
        cells.push(row.architecture.clone());
        cells.push(row.recipe());
        cells.push(row.values.as_ref().map(|v| v.seconds().to_string()).unwrap_or_default());
        cells.extend(row.choices.iter().map(|(_, option)| option.clone()));
        // No cell holds a comma, a quote or a line break: names are restricted and the rest is ours.
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}
