//! The result of a compression: the best trial beside the network as it came, and the limits.
//! [`runs`] says what its file computes in, and [`text`] shows everything in words.

mod runs;
#[cfg(test)]
mod tests;
mod text;

use std::cmp::Ordering;

use anyhow::Context as _;
use edgesmith_client::{Coordinator, TrialRow};
use edgesmith_common::{
    DeviceClass, Figures, Measurement, Metric, ScopedMetric, StageReport, StudyName, Target,
    TrialState,
};
use edgesmith_console::Output;
use edgesmith_search_space::{Arithmetic, Step};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::runs::Runs;
use crate::commands::trials;
use crate::limits::Limit;
use crate::output::json;

/// The results of one compression.
pub struct Report {
    study: StudyName,
    /// The network as it came.
    original: Figures,
    limits: Vec<Limit>,
    /// Every candidate with its figures.
    tried: Vec<Tried>,
    /// Candidates without figures, by the reason.
    without: Vec<(u32, String)>,
    /// Empty if they are not known.
    class_names: Vec<String>,
    /// What the file of the best result computes in; `None` if it cannot be read.
    runs: Option<Runs>,
}

struct Tried {
    number: u32,
    recipe: String,
    steps: Vec<Step>,
    figures: Figures,
    stages: Vec<StageReport>,
    /// Its timing here, with those of the networks in fp32 beside it.
    measured: Option<Measurement>,
}

impl Report {
    /// Asks for all trials of the study.
    pub async fn of(
        coordinator: &Coordinator,
        study: &StudyName,
        original: Figures,
        limits: &[Limit],
    ) -> anyhow::Result<Self> {
        let (_, spec) = coordinator.study(study.as_str()).await?;
        let (mut tried, mut without) = (Vec::new(), Vec::new());
        let mut class_names = None;
        for trial in coordinator.trials(study.as_str()).await? {
            let row = TrialRow::new(trial, &spec)?;
            match (&row.state, &row.values) {
                (TrialState::Complete, Some(values)) => {
                    let (number, recipe) = (row.number, row.recipe());
                    let steps = row.candidate.as_ref().map(|c| c.recipe.steps.clone());
                    let (steps, figures) = (steps.unwrap_or_default(), values.figures().clone());
                    let stages = values.trained().map(|trained| trained.stages.clone());
                    let stages = stages.unwrap_or_default();
                    let here = Target::on(DeviceClass::local());
                    let measured = values.measurements().iter().find(|m| m.target() == here);
                    let measured = measured.cloned();
                    tried.push(Tried { number, recipe, steps, figures, stages, measured });
                    // They are the same for all trials.
                    if class_names.is_none() {
                        class_names = Some(trials::class_names(coordinator, &row).await);
                    }
                }
                (TrialState::Failed { reason } | TrialState::Infeasible { reason }, _) => {
                    without.push((row.number, reason.clone()));
                }
                _ => {}
            }
        }
        let (study, limits) = (study.clone(), limits.to_vec());
        let class_names = class_names.unwrap_or_default();
        let mut report = Self { study, original, limits, tried, without, class_names, runs: None };
        report.take_originals();
        if let Some(best) = report.best() {
            let network = spec.model().map(|model| &model.file.network);
            let network = network.context("the study is on a network")?;
            report.runs = Runs::of(coordinator, &report.study, best, network).await.ok();
        }
        Ok(report)
    }

    /// Compares the best result with the network as it came as its trial measured that: at the same
    /// time on this machine, and as a file with the same names of inputs and outputs.
    fn take_originals(&mut self) {
        let Some(best) = self.best_tried() else { return };
        let first = best.stages.first().filter(|stage| stage.pass == StageReport::ORIGINAL);
        let bytes = first.and_then(|stage| stage.figures.get(&Metric::MODEL_BYTES.whole()));
        let ms = best.measured.as_ref().and_then(|m| m.original).map(|of| of.p50_ms);
        if let Some(bytes) = bytes {
            self.original.set(Metric::MODEL_BYTES.whole(), bytes);
        }
        if let Some(ms) = ms {
            self.original.set(latency_here(), ms);
        }
    }

    /// The number of the best trial: the most accurate one within all limits, or else the one that
    /// exceeds them least. `None` without a result.
    pub fn best(&self) -> Option<u32> {
        self.best_tried().map(|tried| tried.number)
    }

    /// The best trial, if it was not timed, but can be: where other recipes give networks without a
    /// latency, the study measures none.
    pub fn untimed(&self) -> Option<u32> {
        let best = self.best_tried().filter(|best| self.latency(&best.figures).is_none())?;
        let times = self.runs.as_ref().is_some_and(|runs| runs.arithmetic != Arithmetic::Reference);
        times.then_some(best.number)
    }

    /// Takes the time of the best trial in, milliseconds.
    pub fn set_latency(&mut self, ms: f64) {
        let best = self.best();
        if let Some(best) = self.tried.iter_mut().find(|tried| Some(tried.number) == best) {
            best.figures.set(latency_here(), ms);
        }
    }

    fn best_tried(&self) -> Option<&Tried> {
        self.tried.iter().min_by(|a, b| self.compare(a, b))
    }

    /// The most accurate result that keeps all limits but this one; `None` if that is the best.
    fn but_for(&self, limit: &Limit) -> Option<&Tried> {
        let others: Vec<Limit> =
            self.limits.iter().filter(|other| *other != limit).cloned().collect();
        let kept = self
            .tried
            .iter()
            .filter(|tried| excess(&others, &tried.figures, self.accuracy()) == 0.0)
            .max_by(|a, b| by_accuracy(&a.figures, &b.figures));
        kept.filter(|tried| Some(tried.number) != self.best())
    }

    /// The result that is more accurate than the best and keeps all limits but this one, if any.
    fn in_the_way(&self, limit: &Limit) -> Option<&Tried> {
        let (freed, best) = (self.but_for(limit)?, self.best_tried()?);
        let more = by_accuracy(&freed.figures, &best.figures) == Ordering::Greater;
        more.then_some(freed)
    }

    /// Whether the best trial is within all limits.
    pub fn keeps_limits(&self) -> bool {
        let excess = |best: &Tried| excess(&self.limits, &best.figures, self.accuracy());
        self.best_tried().is_some_and(|best| excess(best) == 0.0)
    }

    /// The better one first.
    fn compare(&self, a: &Tried, b: &Tried) -> Ordering {
        let excess = |tried: &Tried| excess(&self.limits, &tried.figures, self.accuracy());
        let bytes =
            |tried: &Tried| tried.figures.get(&Metric::MODEL_BYTES.whole()).unwrap_or(f64::MAX);
        excess(a)
            .total_cmp(&excess(b))
            .then_with(|| by_accuracy(&b.figures, &a.figures))
            .then_with(|| bytes(a).total_cmp(&bytes(b)))
            .then_with(|| a.number.cmp(&b.number))
    }

    fn accuracy(&self) -> f64 {
        self.original.validation_accuracy().unwrap_or(0.0)
    }

    fn latency(&self, figures: &Figures) -> Option<f64> {
        figures.get(&latency_here())
    }
}

impl Output for Report {
    fn table(&self) -> String {
        self.text()
    }

    fn json(&self) -> impl Serialize {
        let figures = |figures: &Figures| -> Map<String, Value> {
            figures.iter().map(|(of, value)| (of.to_string(), value.into())).collect()
        };
        let best = self.best_tried();
        let limits: Vec<Value> = self
            .limits
            .iter()
            .map(|limit| {
                let value = best.and_then(|best| limit.value(&best.figures, self.accuracy()));
                let met = value.map(|value| limit.excess(value) == 0.0);
                let in_the_way = self.in_the_way(limit).map(|freed| {
                    let accuracy = freed.figures.validation_accuracy();
                    json!({ "trial": freed.number, "validation_accuracy": accuracy })
                });
                json!({
                    "limit": limit.to_string(), "value": value, "met": met,
                    "in_the_way": in_the_way,
                })
            })
            .collect();
        let best = best.map(|best| {
            json!({
                "trial": best.number, "recipe": best.recipe, "steps": best.steps,
                "arithmetic": self.runs.as_ref().map(|runs| runs.arithmetic.name()),
                "engine_layers": self.runs.as_ref().map(|runs| runs.layers),
                "fp32_layers": self.runs.as_ref().map(|runs| runs::in_json(&runs.fp32)),
                "metrics": figures(&best.figures), "stages": json::stages(&best.stages),
                "measurement": best.measured, "slower_than": slower_than(best),
            })
        });
        json!({
            "version": json::VERSION, "study": self.study.as_str(),
            "original": { "metrics": figures(&self.original) }, "best": best, "limits": limits,
            "recipes": self.tried.len(), "classes": self.class_names,
        })
    }
}

/// The networks in fp32 that a result takes longer than here, by the names of their timings.
fn slower_than(tried: &Tried) -> Vec<&'static str> {
    let measured = tried.measured.iter();
    let than = measured.flat_map(|m| {
        [("original", m.is_slower_than_original()), ("unquantized", m.is_slower_in_integers())]
    });
    than.filter(|(_, slower)| *slower).map(|(name, _)| name).collect()
}

/// How far figures are beyond limits, as the sum of shares. What was not measured is far beyond, so
/// that the other limits still count.
fn excess(limits: &[Limit], figures: &Figures, accuracy: f64) -> f64 {
    let of =
        |limit: &Limit| limit.value(figures, accuracy).map_or(1e6, |value| limit.excess(value));
    limits.iter().map(of).sum()
}

fn by_accuracy(a: &Figures, b: &Figures) -> Ordering {
    let accuracy = |figures: &Figures| figures.validation_accuracy().unwrap_or(0.0);
    accuracy(a).total_cmp(&accuracy(b))
}

/// The time on this machine.
fn latency_here() -> ScopedMetric {
    Metric::LATENCY_MS.at(Target::on(DeviceClass::local()))
}
