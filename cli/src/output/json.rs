//! The stable JSON interface, documented in docs/json.md, and the matching CSV. It has a version;
//! names are snake_case and contain their unit; a figure that was not measured is absent.

use std::collections::BTreeMap;

use edgesmith_common::{
    ClassCount, Figures, Measurement, Metric, RungReport, ScopedMetric, StageReport, Target,
    TrialState, TrialValues,
};
use edgesmith_search_space::{Amount, Distillation, Precision, Recipe, Step};
use serde::Serialize;

use super::TrialRow;
use super::marks::Marks;

/// Version of everything printed with `--format json`. It is raised when a field changes its
/// meaning or is removed, but not when one is added.
pub const VERSION: u32 = 1;

/// Prefix of the CSV column of a choice; the name of the choice follows.
pub const CHOICE_COLUMN: &str = "choice.";

/// What `pareto` and `trials` print.
#[derive(Debug, Serialize)]
pub struct Trials<'a> {
    version: u32,
    study: &'a str,
    /// Of one trial: the names of the classes, in the order of the network's outputs.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    classes: &'a [String],
    trials: Vec<Trial<'a>>,
}

/// A recipe: its steps, and in short form what most recipes have.
#[derive(Debug, Serialize)]
struct RecipeDocument<'a> {
    /// Of the first pruning by stage; empty if there is none.
    prune: &'a [f64],
    precision: Precision,
    /// That of the first training.
    distillation: Option<Distillation>,
    steps: &'a [Step],
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
    recipe: Option<RecipeDocument<'a>>,
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
    training_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Metrics>,
    /// Every figure of the shipped network, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    figures: Option<Map>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncompressed: Option<Network>,
    /// Empty if they are not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<Stage<'a>>,
    measurements: &'a [Measurement],
    #[serde(skip_serializing_if = "Option::is_none")]
    training: Option<Training>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rungs: Vec<Rung>,
    /// On a front: whether this trial is the knee.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    knee: bool,
    /// On a front: trials that timing cannot tell from this one.
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

/// A model with its devices.
#[derive(Debug, Serialize)]
struct Covering<'a> {
    devices: &'a [String],
    trial: Trial<'a>,
}

/// Figures by name, for example `latency_ms@rpi4`. Metrics with whole values are printed as
/// integers.
pub type Map = BTreeMap<String, serde_json::Number>;

/// The uncompressed network as trained up to a rung.
#[derive(Debug, Serialize)]
struct Rung {
    epochs: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_accuracy: Option<f64>,
    /// Absent if the trial was looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    images_seen: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<serde_json::Number>,
    figures: Map,
}

/// The network after a pass.
#[derive(Debug, Serialize)]
pub struct Stage<'a> {
    pass: &'a str,
    distilled: bool,
    figures: Map,
    /// In the order of the network's outputs; empty if it is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    classes: Vec<Class>,
}

/// Validation images of a class.
#[derive(Debug, Serialize)]
struct Class {
    images: u32,
    right: u32,
}

#[derive(Debug, Serialize)]
struct Network {
    #[serde(flatten)]
    counts: Counts,
    figures: Map,
}

/// The figures that have fields of their own. They are from the time before `figures`, and programs
/// may read them.
#[derive(Debug, Serialize)]
struct Counts {
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_accuracy: Option<f64>,
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
}

#[derive(Debug, Serialize)]
struct Metrics {
    #[serde(flatten)]
    counts: Counts,
    /// Median by target. The target of edge-runtime on one thread is written as the device class
    /// alone.
    latency_ms: BTreeMap<String, f64>,
    /// Held-out accuracies of a looked-up trial by column.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    test_accuracies: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize)]
struct Training {
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<serde_json::Number>,
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
        let trials = rows.iter().map(Trial::new).collect();
        Self { version: VERSION, study, trials, classes: &[] }
    }

    /// The document of one trial.
    pub fn one(study: &'a str, row: &'a TrialRow, classes: &'a [String]) -> Self {
        Self { version: VERSION, study, trials: vec![Trial::new(row)], classes }
    }

    /// The document of a front.
    pub fn front(study: &'a str, rows: &'a [TrialRow], marks: &'a Marks) -> Self {
        let trial = |(place, row): (usize, &'a TrialRow)| Trial {
            knee: marks.is_knee(place),
            tied_with: marks.tied_with(place),
            ..Trial::new(row)
        };
        let trials = rows.iter().enumerate().map(trial).collect();
        Self { version: VERSION, study, trials, classes: &[] }
    }
}

impl<'a> Cover<'a> {
    /// The document of these models, each with its devices.
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
            recipe: row.candidate.as_ref().map(|candidate| recipe(&candidate.recipe)),
            genotype: &row.genotype,
            choices: row.choices.iter().map(|(name, option)| (&**name, &**option)).collect(),
            parents: &row.parents,
            inherits_from: row.inherits_from,
            score: row.score,
            proposed_by: &row.proposed_by,
            attempts: row.attempts,
            training_attempts: row.training_attempts,
            metrics: values.map(metrics),
            figures: values.map(|values| map(values.figures())),
            uncompressed: trained.map(|trained| network(&trained.uncompressed)),
            stages: trained.map(|trained| stages(&trained.stages)).unwrap_or_default(),
            measurements: values.map(TrialValues::measurements).unwrap_or_default(),
            training: values.map(|values| Training {
                seconds: seconds(values.figures()),
                images_seen: values.figures().images_seen(),
                model_hash: trained.map(|trained| trained.model.to_string()),
                weights_hash: trained.map(|trained| trained.weights.to_string()),
            }),
            rungs: row.rungs.iter().map(rung).collect(),
            knee: false,
            tied_with: &[],
        }
    }
}

/// The stages of a trial.
pub fn stages<'a>(stages: &'a [StageReport]) -> Vec<Stage<'a>> {
    let class = |&ClassCount { images, right }: &ClassCount| Class { images, right };
    let stage = |stage: &'a StageReport| Stage {
        pass: &stage.pass,
        distilled: stage.distilled,
        figures: map(&stage.figures),
        classes: stage.classes.iter().map(class).collect(),
    };
    stages.iter().map(stage).collect()
}

fn rung(report: &RungReport) -> Rung {
    let figures = &report.figures;
    Rung {
        epochs: report.epochs,
        validation_accuracy: figures.validation_accuracy(),
        images_seen: figures.images_seen(),
        seconds: seconds(figures),
        figures: map(figures),
    }
}

fn metrics(values: &TrialValues) -> Metrics {
    let figures = values.figures();
    let accuracies = figures.held_out_accuracies();
    let mut test_accuracies: BTreeMap<String, f64> =
        accuracies.map(|(name, share)| (name.to_owned(), share)).collect();
    // Imported trials have always had it under this name, too.
    if let (TrialValues::Known(_), Some(accuracy)) = (values, figures.test_accuracy())
        && test_accuracies.is_empty()
    {
        test_accuracies.insert("test".to_owned(), accuracy);
    }
    Metrics {
        counts: counts(figures),
        latency_ms: figures.latencies().map(|(target, ms)| (target.to_string(), ms)).collect(),
        test_accuracies,
    }
}

fn recipe(recipe: &Recipe) -> RecipeDocument<'_> {
    let shares = recipe.prunings().find_map(|pruning| match &pruning.amount {
        Amount::Stage { shares } => Some(&shares[..]),
        Amount::Layer { .. }
        | Amount::Network { .. }
        | Amount::Weights { .. }
        | Amount::TwoOfFour { .. }
        | Amount::Blocks { .. }
        | Amount::AtMost { .. } => None,
    });
    RecipeDocument {
        prune: shares.unwrap_or_default(),
        precision: recipe.precision(),
        distillation: recipe.distillation(),
        steps: &recipe.steps,
    }
}

fn network(figures: &Figures) -> Network {
    Network { counts: counts(figures), figures: map(figures) }
}

fn counts(figures: &Figures) -> Counts {
    let count = |metric: Metric| figures.get(&metric.whole()).map(|count| count as u64);
    Counts {
        validation_accuracy: figures.validation_accuracy(),
        test_accuracy: figures.test_accuracy(),
        model_bytes: count(Metric::MODEL_BYTES),
        macs: count(Metric::MACS),
        parameters: count(Metric::PARAMETERS),
        peak_memory_bytes: count(Metric::PEAK_MEMORY_BYTES),
    }
}

fn seconds(figures: &Figures) -> Option<serde_json::Number> {
    let metric = Metric::TRAINING_SECONDS;
    number(metric, figures.get(&metric.whole())?)
}

/// Every figure by its name.
pub fn map(figures: &Figures) -> Map {
    let entry =
        |(of, value): (&ScopedMetric, f64)| Some((of.to_string(), number(of.metric, value)?));
    figures.iter().filter_map(entry).collect()
}

/// A value as JSON; `None` if JSON has no such number.
fn number(metric: Metric, value: f64) -> Option<serde_json::Number> {
    if metric.definition().unit.is_whole() {
        Some((value as u64).into())
    } else {
        serde_json::Number::from_f64(value)
    }
}

/// One row per trial. There is one `latency_ms@TARGET` column for each target that any trial was
/// measured on, and one column for each other figure that any trial has. An unknown figure is an
/// empty cell. `noisy@TARGET` is `true` or `false`; it is there for each target for which this is
/// known of any trial.
pub fn csv(rows: &[TrialRow]) -> String {
    let all = || rows.iter().filter_map(|row| row.values.as_ref()).map(TrialValues::figures);
    let mut targets: Vec<&Target> = Vec::new();
    for (target, _) in all().flat_map(Figures::latencies) {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    let mut columns = vec![ScopedMetric::VALIDATION_ACCURACY, ScopedMetric::TEST_ACCURACY];
    let counts = [Metric::MODEL_BYTES, Metric::MACS, Metric::PARAMETERS, Metric::PEAK_MEMORY_BYTES];
    columns.extend(counts.map(Metric::whole));
    columns.extend(targets.into_iter().map(|target| Metric::LATENCY_MS.at(target.clone())));
    let seconds = Metric::TRAINING_SECONDS.whole();
    for (of, _) in all().flat_map(Figures::iter) {
        if *of != seconds && !columns.contains(of) {
            columns.push(of.clone());
        }
    }
    let measured = rows.iter().filter_map(|row| row.values.as_ref());
    let measured = measured.flat_map(TrialValues::measurements).filter(|m| m.noise.is_some());
    let mut judged: Vec<Target> = measured.map(Measurement::target).collect();
    judged.sort();
    judged.dedup();
    let mut lines = csv::WriterBuilder::new().from_writer(Vec::new());
    let mut header = ["trial", "state", "precision"].map(str::to_owned).to_vec();
    header.extend(columns.iter().map(ScopedMetric::to_string));
    header.extend(["architecture", "recipe", "seconds"].map(str::to_owned));
    header.extend(judged.iter().map(|target| format!("noisy@{target}")));
    let choices = rows.first().map(|row| row.choices.as_slice()).unwrap_or_default();
    header.extend(choices.iter().map(|(name, _)| format!("{CHOICE_COLUMN}{name}")));
    let mut write = |cells: Vec<String>| {
        lines.write_record(cells).unwrap_or_else(|e| unreachable!("writing to memory: {e}"));
    };
    write(header);
    for row in rows {
        let precision = row.candidate.as_ref().map(|c| c.recipe.precision().name());
        let figure = |of: &ScopedMetric| {
            let value = row.values.as_ref().and_then(|values| values.get(of));
            value.map(|value| value.to_string()).unwrap_or_default()
        };
        let mut cells = vec![
            row.number.to_string(),
            row.state.name().to_owned(),
            precision.unwrap_or_default().to_owned(),
        ];
        cells.extend(columns.iter().map(figure));
        cells.push(row.architecture.clone());
        cells.push(row.recipe());
        cells.push(figure(&seconds));
        cells.extend(judged.iter().map(|target| noisy(row, target).unwrap_or_default()));
        cells.extend(row.choices.iter().map(|(_, option)| option.clone()));
        write(cells);
    }
    let bytes = lines.into_inner().unwrap_or_else(|e| unreachable!("writing to memory: {e}"));
    String::from_utf8(bytes).unwrap_or_else(|e| unreachable!("all cells are UTF-8: {e}"))
}

/// Whether the trial's measurement on a target was noisy, as `true` or `false`; `None` if this is
/// not known.
fn noisy(row: &TrialRow, target: &Target) -> Option<String> {
    let mut measurements = row.values.as_ref()?.measurements().iter();
    let noise = measurements.find(|m| m.target() == *target)?.noise?;
    Some(noise.noisy.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::marks::tests::{noisy_on_board, row};
    use crate::output::stages::tests::stage;

    #[test]
    fn stages_are_printed_where_they_are_known() {
        let mut row = row(1, 0.5, (1.0, 1.5), (2.0, 2.5));
        let document = |row: &TrialRow| serde_json::to_value(Trial::new(row)).unwrap();
        assert!(document(&row).get("stages").is_none());
        let Some(TrialValues::Trained { trained, .. }) = &mut row.values else { panic!() };
        std::sync::Arc::make_mut(trained).stages =
            vec![stage("trained", true, 4096.0, &[10, 5]), stage("prune", false, 2048.0, &[])];
        let expected = serde_json::json!([
            {
                "pass": "trained", "distilled": true,
                "figures": { "validation_accuracy": 0.75, "model_bytes": 4096 },
                "classes": [{ "images": 10, "right": 10 }, { "images": 10, "right": 5 }],
            },
            {
                "pass": "prune", "distilled": false,
                "figures": { "validation_accuracy": 0.0, "model_bytes": 2048 },
            },
        ]);
        assert_eq!(document(&row)["stages"], expected);
    }

    #[test]
    fn noise_is_printed_where_it_is_known() {
        let unknown = row(1, 0.5, (1.0, 1.5), (2.0, 2.5));
        assert!(!csv(std::slice::from_ref(&unknown)).contains("noisy"));
        let document = |row: &TrialRow| serde_json::to_value(Trial::new(row)).unwrap();
        assert!(document(&unknown)["measurements"][0].get("noise").is_none());
        let noisy = noisy_on_board(unknown.clone());
        let measurements = &document(&noisy)["measurements"];
        let expected = serde_json::json!({
            "noisy": true, "spread": 0.5, "waiting": { "share": 0.25, "per_run": 2.0 },
            "timings": 3,
        });
        assert_eq!(measurements[0]["noise"], expected);
        assert!(measurements[1]["noise"].get("waiting").is_none());
        let text = csv(&[unknown, noisy]);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let at = |name: &str, reader: &mut csv::Reader<&[u8]>| {
            reader.headers().unwrap().iter().position(|column| column == name).unwrap()
        };
        let columns = ["noisy@board", "noisy@phone"].map(|name| at(name, &mut reader));
        let rows: Vec<[String; 2]> = reader
            .records()
            .map(|record| columns.map(|at| record.as_ref().unwrap()[at].to_owned()))
            .collect();
        assert_eq!(rows, [["", ""], ["true", "false"]]);
    }
}
