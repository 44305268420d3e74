//! The result of a compression: the best trial beside the network as it came, and the limits.

use std::cmp::Ordering;
use std::fmt::Write as _;

use anyhow::Context as _;
use edgesmith_client::{Coordinator, TrialRow};
use edgesmith_common::{
    DeviceClass, Figures, Measurement, Metric, ScopedMetric, StageReport, StudyName, Target,
    TrialState,
};
use edgesmith_console::Output;
use edgesmith_console::table::{self, Align};
use edgesmith_edge_runtime::{Layer, Model, Session};
use edgesmith_graph::Graph;
use edgesmith_search_space::{Arithmetic, Step};
use edgesmith_worker::export::{Lifted, lift};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::commands::{inspect, trials};
use crate::limits::Limit;
use crate::model::{Computed, Form, Stored, StoredName, Why, arithmetic, named};
use crate::output::{counted, json, stages};

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

/// Most layers in fp32 that are named.
const MOST_FP32: usize = 8;

/// What a file computes in.
#[derive(Debug, Clone)]
struct Runs {
    arithmetic: Arithmetic,
    layers: Computed,
    /// What the engine allocates besides the model, bytes; `None` if it is not known.
    memory: Option<u64>,
    /// Whether weights are levels that become fp32.
    levels: bool,
    /// Its layers in fp32, if others are in integers; empty if they are not known.
    fp32: Vec<InFp32>,
}

/// A layer in fp32 of a network that is partly in integers.
#[derive(Debug, Clone)]
struct InFp32 {
    /// Its name in the network as it came, if that has it.
    layer: String,
    operation: String,
    why: Why,
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

/// Energy per run on this machine, millijoules, where it was measured.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Energy {
    /// Of the network as it came, measured beside the trial.
    original: Option<f64>,
    /// Of the trial.
    trial: Option<f64>,
}

impl Energy {
    fn of(measured: Option<&Measurement>) -> Self {
        let original = measured.and_then(|m| m.original).and_then(|of| of.energy_mj);
        Self { original, trial: measured.and_then(|m| m.energy_mj) }
    }

    /// Its row beside the figures; `None` without any.
    fn row(self) -> Option<Vec<String>> {
        let Self { original, trial } = self;
        original.or(trial)?;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let shown = |of: Option<f64>| or_dash(of.map(|mj| format!("{mj:.3} mJ")));
        let change = original.zip(trial).filter(|(before, _)| *before > 0.0);
        let change = change.map(|(before, now)| format!("{:.2}x", now / before));
        let name = format!("energy_mj@{}", Target::on(DeviceClass::local()));
        Some(vec![name, shown(original), shown(trial), or_dash(change)])
    }
}

impl Runs {
    /// Of a trial of a study on this network.
    async fn of(
        coordinator: &Coordinator,
        study: &StudyName,
        trial: u32,
        network: &Graph,
    ) -> anyhow::Result<Self> {
        let name = StoredName::Trial(trial);
        let stored = Stored::fetch(coordinator, study.as_str(), name).await?;
        Ok(Self::of_model(&stored.measured()?, network))
    }

    fn of_model(model: &Model, network: &Graph) -> Self {
        let (arithmetic, layers) = (arithmetic(model), Computed::of(model));
        let levels = model.nodes.iter().any(|node| matches!(node.layer, Layer::Leveled(_)));
        let memory = Session::new(model).ok().map(|session| session.peak_memory_bytes() as u64);
        let fp32 = if model.has_integers() { in_fp32(model, network) } else { Vec::new() };
        Self { arithmetic, layers, memory, levels, fp32 }
    }

    /// What computes a result, where that is not plain: after an empty line. `asked`: whether the
    /// recipe quantizes.
    fn words(&self, asked: bool) -> String {
        let Computed { integers, fp32, conversions } = self.layers;
        match self.arithmetic {
            Arithmetic::Reference => {
                "\nIt runs by reference: no engine on a device computes with these bits, so the \
                 arithmetic is fp32 with every value rounded to its levels. Accuracy and size are \
                 those of the file, and there is no latency.\n"
            }
            Arithmetic::Fp32 if self.levels => {
                "\nOnly weights are quantized: they are levels in the file and become fp32 when it \
                 is loaded. A latency is that of fp32 arithmetic.\n"
            }
            Arithmetic::Fp32 if asked => {
                "\nNo weights are quantized: the recipe leaves all layers that have some in fp32.\n"
            }
            Arithmetic::Integers if fp32 > 0 => {
                let s = if integers == 1 { "s" } else { "" };
                return format!(
                    "\n{integers} of its layers compute{s} in integers and {fp32} in fp32, with {} \
                     between them.\n{}",
                    counted(conversions, "conversion"),
                    self.fp32_words()
                );
            }
            Arithmetic::Fp32 | Arithmetic::Integers => "",
        }
        .to_owned()
    }
}

impl Runs {
    /// The layers in fp32, in a line.
    fn fp32_words(&self) -> String {
        let layer =
            |InFp32 { layer, operation, why }: &InFp32| format!("{layer} ({operation}: {why})");
        let named: Vec<String> = self.fp32.iter().take(MOST_FP32).map(layer).collect();
        if named.is_empty() {
            return String::new();
        }
        let more = match self.fp32.len() - named.len() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!("In fp32: {}{more}.\n", named.join(", "))
    }
}

/// The layers of a model in fp32, with their names in the network that it was made of.
fn in_fp32(model: &Model, network: &Graph) -> Vec<InFp32> {
    let Ok(Lifted { graph, .. }) = lift(model) else { return Vec::new() };
    let forms = Form::of(&graph, model).unwrap_or_default();
    let named = named(&graph, network).into_iter().zip(forms);
    let in_fp32 = named.filter_map(|((id, layer), (_, form))| match form {
        Form::Integers => None,
        Form::Fp32(why) => {
            let operation = inspect::words(&graph, graph.node(id));
            Some(InFp32 { layer, operation, why })
        }
    });
    in_fp32.collect()
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
        let Some(best) = self.tried.iter().min_by(|a, b| self.compare(a, b)) else { return };
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

    /// Whether the best trial is within all limits.
    pub fn keeps_limits(&self) -> bool {
        let excess = |best: &Tried| excess(&self.limits, &best.figures, self.accuracy());
        self.best_tried().is_some_and(|best| excess(best) == 0.0)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (number, reason) in &self.without {
            let _ = writeln!(text, "trial {number} has no result: {reason}");
        }
        let Some(best) = self.tried.iter().min_by(|a, b| self.compare(a, b)) else {
            text.push_str("no recipe gave a result\n");
            return text;
        };
        let recipes = self.tried.len();
        let s = if recipes == 1 { "" } else { "s" };
        let _ = writeln!(
            text,
            "\nThe best of {recipes} recipe{s} is trial {} of {}: {}\n",
            best.number, self.study, best.recipe
        );
        let columns = [
            ("", Align::Left),
            ("as it came", Align::Right),
            ("compressed", Align::Right),
            ("change", Align::Right),
        ];
        let rows = compared().into_iter().filter_map(|of| self.row(&of, &best.figures));
        let rows: Vec<Vec<String>> = rows.chain(Energy::of(best.measured.as_ref()).row()).collect();
        text.push_str(&table::render(&columns, &rows));
        let asked = best.steps.iter().any(|step| matches!(step, Step::Quantize(_)));
        text.push_str(&self.runs.as_ref().map(|runs| runs.words(asked)).unwrap_or_default());
        text.push_str(&self.slower(best));
        text.push_str(&stages::tables(&best.stages, &self.class_names));
        if !self.limits.is_empty() {
            text.push('\n');
            text.push_str(&self.verdict(best));
        }
        text
    }

    /// What the best result is slower than here, if anything: after an empty line each.
    fn slower(&self, best: &Tried) -> String {
        const TRY: &str = ": on this machine the engine may need more time for integers than for \
                           fp32; try precision = [\"fp32\", \"int8\"]";
        let mut text = String::new();
        let measured = best.measured.as_ref();
        let times = self.latency(&best.figures).zip(self.latency(&self.original));
        if times.is_some_and(|(now, before)| now > before * (1.0 + Measurement::SLOWER)) {
            let layers = measured.map(|m| trials::because_of(&m.slower_layers));
            let runs_in = self.runs.as_ref().map(|runs| runs.arithmetic);
            // Else it is known what integers do to it.
            let alone = measured.is_none_or(|m| m.unquantized.is_none());
            let hint = if alone && runs_in == Some(Arithmetic::Integers) { TRY } else { "" };
            let layers = layers.unwrap_or_default();
            let _ = writeln!(text, "\nIt is slower here than as it came{layers}{hint}");
        }
        if let Some(m) = measured.filter(|m| m.is_slower_in_integers())
            && let Some(fp32) = m.unquantized
        {
            let [now, then] = [m.p50_ms, fp32.p50_ms].map(table::milliseconds);
            let layers = trials::because_of(&m.slower_in_integers);
            let _ = writeln!(
                text,
                "\nIts integers are slower here than the same network in fp32 ({now} instead of \
                 {then}){layers}{TRY}"
            );
        }
        text
    }

    /// The limits with the value of the best result, and which of them was in the way.
    fn verdict(&self, best: &Tried) -> String {
        let accuracy = self.accuracy();
        let mut text = String::new();
        for limit in &self.limits {
            let value = limit.value(&best.figures, accuracy);
            let said = match value {
                Some(value) if limit.excess(value) == 0.0 => format!("met: {}", digits(value)),
                Some(value) => format!("not met: {}", digits(value)),
                None => "not measured".to_owned(),
            };
            let memory = self.runs.as_ref().and_then(|runs| runs.memory);
            let memory = memory.filter(|_| limit.caps(Metric::PEAK_MEMORY_BYTES));
            let engine = memory.map(|bytes| {
                format!(" for feature maps alone; the engine allocates {bytes} bytes")
            });
            let _ = writeln!(text, "{limit}: {said}{}", engine.unwrap_or_default());
        }
        let beyond = excess(&self.limits, &best.figures, accuracy) > 0.0;
        // What the most accurate result would be without one of the limits.
        for limit in &self.limits {
            let others: Vec<Limit> =
                self.limits.iter().filter(|other| *other != limit).cloned().collect();
            let freed = self
                .tried
                .iter()
                .filter(|tried| excess(&others, &tried.figures, accuracy) == 0.0)
                .max_by(|a, b| by_accuracy(&a.figures, &b.figures));
            let Some(freed) = freed.filter(|freed| freed.number != best.number) else { continue };
            let Some(reached) = freed.figures.validation_accuracy() else { continue };
            let (freed_number, reached) = (freed.number, table::percent(reached));
            if by_accuracy(&freed.figures, &best.figures) == Ordering::Greater {
                let _ = writeln!(
                    text,
                    "{limit} was in the way: without it, trial {freed_number} has a validation \
                     accuracy of {reached}"
                );
            } else if beyond && !others.is_empty() {
                // The limits may be kept but for this one.
                let s = if others.len() == 1 { "" } else { "s" };
                let _ = writeln!(
                    text,
                    "without {limit}, trial {freed_number} keeps the other limit{s}, with a \
                     validation accuracy of {reached}"
                );
            }
        }
        if beyond {
            text.push_str("no recipe keeps all limits; this one is least beyond them\n");
        }
        text
    }

    fn row(&self, of: &ScopedMetric, figures: &Figures) -> Option<Vec<String>> {
        let now = figures.get(of)?;
        let before = self.original.get(of);
        let change = before.map(|before| {
            if of.metric.is_evaluated() {
                stages::points(now - before)
            } else {
                format!("{:.2}x", now / before)
            }
        });
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let shown = |value: f64| shown(of, value);
        Some(vec![of.to_string(), or_dash(before.map(shown)), shown(now), or_dash(change)])
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
        let best = self.tried.iter().min_by(|a, b| self.compare(a, b));
        let limits: Vec<Value> = self
            .limits
            .iter()
            .map(|limit| {
                let value = best.and_then(|best| limit.value(&best.figures, self.accuracy()));
                let met = value.map(|value| limit.excess(value) == 0.0);
                json!({ "limit": limit.to_string(), "value": value, "met": met })
            })
            .collect();
        let best = best.map(|best| {
            json!({
                "trial": best.number, "recipe": best.recipe, "steps": best.steps,
                "arithmetic": self.runs.as_ref().map(|runs| runs.arithmetic.name()),
                "engine_layers": self.runs.as_ref().map(|runs| runs.layers),
                "fp32_layers": self.runs.as_ref().map(|runs| in_json(&runs.fp32)),
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

fn in_json(layers: &[InFp32]) -> Vec<Value> {
    let layer = |InFp32 { layer, operation, why }: &InFp32| {
        let why = why.name();
        json!({ "layer": layer, "operation": operation, "fp32_because": why })
    };
    layers.iter().map(layer).collect()
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

/// The figures that are shown, in order.
fn compared() -> Vec<ScopedMetric> {
    let (validation, test) = (ScopedMetric::VALIDATION_ACCURACY, ScopedMetric::TEST_ACCURACY);
    let mut all = vec![validation, test, latency_here()];
    let counted =
        [Metric::MODEL_BYTES, Metric::PARAMETERS, Metric::MACS, Metric::PEAK_MEMORY_BYTES];
    all.extend(counted.map(Metric::whole));
    all
}

/// The time on this machine.
fn latency_here() -> ScopedMetric {
    Metric::LATENCY_MS.at(Target::on(DeviceClass::local()))
}

fn shown(of: &ScopedMetric, value: f64) -> String {
    let whole = value.round() as u64;
    match of.metric {
        metric if metric.is_evaluated() => table::percent(value),
        Metric::LATENCY_MS => table::milliseconds(value),
        Metric::MODEL_BYTES | Metric::PEAK_MEMORY_BYTES => table::bytes(whole),
        _ => table::count(whole),
    }
}

/// A figure as limits are written.
fn digits(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.6}") }
}

#[cfg(test)]
mod tests {
    use edgesmith_common::{Fp32Timing, LayerTimes};
    use edgesmith_search_space::Quantizing;

    use super::*;
    use crate::output::marks;

    fn figures(accuracy: f64, bytes: f64, ms: f64) -> Figures {
        Figures::new()
            .with(ScopedMetric::VALIDATION_ACCURACY, accuracy)
            .with(ScopedMetric::TEST_ACCURACY, accuracy)
            .with(Metric::MODEL_BYTES.whole(), bytes)
            .with(Metric::LATENCY_MS.at(Target::on(DeviceClass::local())), ms)
    }

    fn layer(name: &str, conversions: bool, shipped_ms: f64, original_ms: f64) -> LayerTimes {
        LayerTimes { layer: name.to_owned(), conversions, shipped_ms, original_ms }
    }

    /// A timing here.
    fn measurement(ms: f64) -> Measurement {
        let row = marks::tests::row(1, 0.5, (ms, ms), (ms, ms));
        row.values.unwrap().measurements()[0].clone()
    }

    #[test]
    fn integers_that_are_slower_than_fp32_are_said() {
        let mut report = report(&[], &[figures(0.8, 900.0, 1.0)]);
        let layers = Computed { integers: 4, fp32: 0, conversions: 0 };
        let (arithmetic, memory, levels) = (Arithmetic::Integers, None, false);
        report.runs = Some(Runs { arithmetic, layers, memory, levels, fp32: vec![] });
        let measured = |fp32_ms: f64| Measurement {
            original: Some(measurement(2.0).timing()),
            unquantized: Some(measurement(fp32_ms).timing()),
            slower_in_integers: vec![layer("norm", true, 0.5, 0.0), layer("fc", false, 0.3, 0.1)],
            ..measurement(1.0)
        };
        report.tried[0].measured = Some(measured(0.5));
        let said = "\nIts integers are slower here than the same network in fp32 (1.00 ms instead \
                    of 0.5000 ms), because of conversions for norm (0.5000 ms), fc (0.3000 ms \
                    instead of 0.1000 ms): on this machine the engine may need more time";
        let text = report.text();
        assert!(text.contains(said) && !text.contains("It is slower here"), "{text}");
        let best = &serde_json::to_value(report.json()).unwrap()["best"];
        assert_eq!(best["slower_than"], json!(["unquantized"]));
        let layers = &best["measurement"]["slower_in_integers"];
        assert_eq!((&layers[0]["conversions"], &layers[1]["layer"]), (&true.into(), &"fc".into()));
        // Slower than as it came, too, but not because of the integers.
        report.original.set(latency_here(), 0.5);
        report.tried[0].measured = Some(measured(1.0));
        let text = report.text();
        assert!(text.contains("It is slower here than as it came\n"), "{text}");
        assert!(!text.contains("Its integers"), "{text}");
    }

    fn report(limits: &[&str], tried: &[Figures]) -> Report {
        let tried = (3..).zip(tried).map(|(number, figures)| Tried {
            number,
            recipe: "int8".to_owned(),
            steps: Vec::new(),
            figures: figures.clone(),
            measured: Some(Measurement {
                slower_layers: vec![layer("stem", false, 2.0, 1.0)],
                ..measurement(3.0)
            }),
            stages: vec![
                stages::tests::stage("original", false, 4000.0, &[9, 9]),
                stages::tests::stage("quantize", false, 1000.0, &[9, number]),
            ],
        });
        Report {
            study: "net-auto".parse().unwrap(),
            original: figures(0.9, 4000.0, 2.0),
            limits: limits.iter().map(|limit| limit.parse().unwrap()).collect(),
            tried: tried.collect(),
            without: vec![(9, "it diverged".to_owned())],
            class_names: vec!["ape".to_owned(), "bee".to_owned()],
            runs: None,
        }
    }

    #[test]
    fn what_runs_is_what_the_file_says() {
        let with = |arithmetic, levels, [integers, fp32, conversions]: [usize; 3]| {
            let mut report = report(&[], &[figures(0.8, 900.0, 3.0)]);
            report.tried[0].steps = vec![Step::Quantize(Quantizing::default())];
            let layers = Computed { integers, fp32, conversions };
            report.runs =
                Some(Runs { arithmetic, layers, memory: Some(5000), levels, fp32: vec![] });
            let document = serde_json::to_value(report.json()).unwrap();
            let best = &document["best"];
            assert_eq!(best["engine_layers"]["integers"], integers);
            (report.text(), best["arithmetic"].as_str().unwrap().to_owned())
        };
        let (text, name) = with(Arithmetic::Reference, true, [0, 4, 0]);
        assert!(text.contains("no engine on a device computes with these bits"), "{text}");
        assert_eq!(name, "reference");
        let (text, name) = with(Arithmetic::Fp32, true, [0, 4, 0]);
        assert!(text.contains("A latency is that of fp32 arithmetic"), "{text}");
        assert_eq!(name, "fp32");
        let (text, name) = with(Arithmetic::Integers, false, [4, 0, 0]);
        assert!(!text.contains("arithmetic") && !text.contains("in fp32, with"), "{text}");
        assert!(text.contains("more time for integers than for fp32"), "{text}");
        assert_eq!(name, "integers");
        let (text, name) = with(Arithmetic::Integers, false, [4, 1, 2]);
        let said = "4 of its layers compute in integers and 1 in fp32, with 2 conversions";
        assert!(text.contains(said), "{text}");
        let (text, _) = with(Arithmetic::Integers, false, [1, 2, 1]);
        let said = "1 of its layers computes in integers and 2 in fp32, with 1 conversion between";
        assert!(text.contains(said), "{text}");
        assert_eq!(name, "integers");
        // The recipe quantizes, but leaves all layers out.
        let (text, name) = with(Arithmetic::Fp32, false, [0, 5, 0]);
        assert!(text.contains("No weights are quantized: the recipe leaves"), "{text}");
        assert!(!text.contains("more time for integers"), "{text}");
        assert_eq!(name, "fp32");
        // A file that cannot be read says nothing.
        let document = serde_json::to_value(report(&[], &[figures(0.8, 900.0, 1.0)]).json());
        assert!(document.unwrap()["best"]["arithmetic"].is_null());
    }

    #[test]
    fn layers_in_fp32_are_named_up_to_a_number() {
        let why = [Why::NoForm, Why::Weights, Why::Neighbours];
        let layer = |at: usize| InFp32 {
            layer: format!("l{at}"),
            operation: "relu".to_owned(),
            why: why[at % 3],
        };
        let runs = |count: usize| Runs {
            arithmetic: Arithmetic::Integers,
            layers: Computed { integers: 4, fp32: count, conversions: 2 },
            memory: None,
            levels: false,
            fp32: (0..count).map(layer).collect(),
        };
        let said = "conversions between them.\nIn fp32: l0 (relu: no form in integers), l1 (relu: \
                    its weights stay in fp32), l2 (relu: between layers in fp32).\n";
        let text = runs(3).words(true);
        assert!(text.ends_with(said), "{text}");
        let text = runs(10).words(true);
        assert!(text.ends_with("l7 (relu: its weights stay in fp32), and 2 more.\n"), "{text}");
        let mut report = report(&[], &[figures(0.8, 900.0, 3.0)]);
        report.runs = Some(runs(10));
        let best = &serde_json::to_value(report.json()).unwrap()["best"];
        assert_eq!(best["fp32_layers"].as_array().unwrap().len(), 10);
        let expected = json!({ "layer": "l2", "operation": "relu", "fp32_because": "neighbours" });
        assert_eq!(best["fp32_layers"][2], expected);
    }

    #[test]
    fn the_most_accurate_result_within_the_limits_is_the_best() {
        let tried =
            [figures(0.8, 900.0, 1.0), figures(0.89, 1200.0, 1.0), figures(0.7, 500.0, 1.0)];
        assert_eq!(report(&[], &tried).best(), Some(4));
        let small = report(&["model_bytes<=1000"], &tried);
        assert_eq!(small.best(), Some(3));
        let text = small.text();
        assert!(text.contains("trial 3 of net-auto: int8"), "{text}");
        assert!(text.contains("-10.00 points"), "{text}");
        assert!(text.contains("model_bytes<=1000: met: 900"), "{text}");
        let way = "model_bytes<=1000 was in the way: without it, trial 4 has a validation accuracy \
                   of 89.00 %";
        assert!(text.contains(way), "{text}");
        assert!(text.contains("trial 9 has no result: it diverged"), "{text}");
        assert_eq!(report(&[], &[]).best(), None);
        // The stages are those of the best trial, whose number its second class got right.
        assert!(text.contains("bee        10   90.00 %   30.00 %  -60.00 points"), "{text}");
        let document = serde_json::to_value(small.json()).unwrap();
        assert_eq!(document["best"]["stages"][1]["classes"][1]["right"], 3);
        assert_eq!(document["classes"][1], "bee");
    }

    #[test]
    fn the_network_as_it_came_is_as_its_trial_measured_it() {
        let mut report = report(&["peak_memory_bytes<=2000"], &[figures(0.9, 900.0, 2.1)]);
        let memory = Metric::PEAK_MEMORY_BYTES.whole();
        report.tried[0].figures.set(memory, 1500.0);
        report.original.set(Metric::MODEL_BYTES.whole(), 3990.0);
        report.original.set(latency_here(), 1.5);
        report.tried[0].measured.as_mut().unwrap().original = Some(measurement(2.2).timing());
        let layers = Computed { integers: 4, fp32: 0, conversions: 0 };
        let (arithmetic, memory, levels) = (Arithmetic::Integers, Some(5000), false);
        report.runs = Some(Runs { arithmetic, layers, memory, levels, fp32: vec![] });
        assert!(report.text().contains("It is slower here"));
        report.take_originals();
        let text = report.text();
        assert!(!text.contains("It is slower here"), "{text}");
        assert_eq!(report.original.get(&Metric::MODEL_BYTES.whole()), Some(4000.0));
        let said = "peak_memory_bytes<=2000: met: 1500 for feature maps alone; the engine \
                    allocates 5000 bytes";
        assert!(text.contains(said), "{text}");
    }

    #[test]
    fn energy_is_shown_where_it_was_measured() {
        let shown = |original: Option<f64>, trial: Option<f64>| {
            let row = marks::tests::row(3, 0.9, (2.0, 2.0), (2.0, 2.0));
            let mut measured = row.values.unwrap().measurements()[0].clone();
            measured.energy_mj = trial;
            measured.original = Some(Fp32Timing {
                p50_ms: 2.0,
                p95_ms: 2.0,
                min_ms: 2.0,
                noisy: false,
                energy_mj: original,
            });
            let mut report = report(&[], &[figures(0.9, 900.0, 2.0), figures(0.8, 900.0, 2.0)]);
            // That of the best result counts, which is the first one.
            report.tried[1].measured =
                Some(Measurement { energy_mj: Some(80.0), ..measured.clone() });
            report.tried[0].measured = Some(measured);
            let document = serde_json::to_value(report.json()).unwrap();
            let measured = &document["best"]["measurement"];
            let of = |timing: &Value| timing.get("energy_mj").cloned();
            let text = report.text();
            let row = text.lines().find(|line| line.starts_with("energy_mj@local"));
            let row = row.map(|row| row.split_whitespace().skip(1).collect::<Vec<_>>().join(" "));
            (row, of(&measured["original"]), of(measured))
        };
        let (row, original, best) = shown(Some(4.0), Some(1.0));
        assert_eq!(row.as_deref(), Some("4.000 mJ 1.000 mJ 0.25x"));
        assert_eq!((original, best), (Some(4.0.into()), Some(1.0.into())));
        let (row, original, best) = shown(None, Some(1.5));
        assert_eq!(row.as_deref(), Some("- 1.500 mJ -"));
        assert_eq!((original, best), (None, Some(1.5.into())));
        let (row, ..) = shown(Some(4.0), None);
        assert_eq!(row.as_deref(), Some("4.000 mJ - -"));
        assert_eq!(shown(None, None), (None, None, None));
        assert_eq!(Energy::of(None).row(), None);
    }

    #[test]
    fn a_limit_is_in_the_way_only_of_a_more_accurate_result() {
        // No trial is as fast as that. The first is nearest to it, and as accurate as the others.
        let tried = [figures(0.89, 900.0, 2.0), figures(0.89, 900.0, 3.0)];
        let report = report(&["latency_ms<=1"], &tried);
        assert_eq!(report.best(), Some(3));
        let text = report.text();
        assert!(text.contains("no recipe keeps all limits"), "{text}");
        assert!(!text.contains("in the way") && !text.contains("the other limit"), "{text}");
    }

    #[test]
    fn a_result_that_the_study_did_not_time_can_be_timed() {
        let untimed = |accuracy: f64| {
            Figures::new()
                .with(ScopedMetric::VALIDATION_ACCURACY, accuracy)
                .with(Metric::MODEL_BYTES.whole(), 900.0)
        };
        let mut report = report(&[], &[untimed(0.8), untimed(0.89)]);
        assert_eq!(report.untimed(), None, "nothing is known of its file");
        let layers = Computed { integers: 3, fp32: 0, conversions: 0 };
        let runs = |arithmetic| {
            Some(Runs { arithmetic, layers, memory: None, levels: true, fp32: vec![] })
        };
        report.runs = runs(Arithmetic::Reference);
        assert_eq!(report.untimed(), None);
        report.runs = runs(Arithmetic::Integers);
        assert_eq!(report.untimed(), Some(4));
        report.set_latency(1.5);
        assert_eq!(report.untimed(), None);
        let document = serde_json::to_value(report.json()).unwrap();
        assert_eq!(document["best"]["metrics"]["latency_ms@local"], 1.5);
    }

    #[test]
    fn whether_the_limits_are_kept_is_known_of_the_best_result() {
        let tried = [figures(0.8, 900.0, 3.0), figures(0.89, 1200.0, 3.0)];
        let keeps = |limits: &[&str]| report(limits, &tried).keeps_limits();
        assert!(keeps(&[]) && keeps(&["model_bytes<=1000"]) && keeps(&["accuracy_drop<=0.05"]));
        assert!(!keeps(&["accuracy_drop<=0.05", "model_bytes<=1000"]));
        // What was not measured is not known to be kept.
        assert!(!keeps(&["peak_memory_bytes<=1000"]));
        assert!(!report(&[], &[]).keeps_limits());
    }

    #[test]
    fn a_result_beyond_the_limits_says_so() {
        let tried = [figures(0.8, 900.0, 3.0), figures(0.89, 1200.0, 3.0)];
        let mut report = report(&["accuracy_drop<=0.05", "model_bytes<=1000"], &tried);
        let layers = Computed { integers: 3, ..Computed::default() };
        report.runs = Some(Runs {
            arithmetic: Arithmetic::Integers,
            layers,
            memory: None,
            levels: false,
            fp32: vec![],
        });
        // A drop of 0.1 is twice what is allowed; 1200 bytes are a fifth too many.
        assert_eq!(report.best(), Some(4));
        let text = report.text();
        assert!(text.contains("model_bytes<=1000: not met: 1200"), "{text}");
        assert!(text.contains("accuracy_drop<=0.05: met: 0.010000"), "{text}");
        assert!(text.contains("no recipe keeps all limits"), "{text}");
        // The other trial is less accurate, so no limit was in the way of a better one.
        let other = "without accuracy_drop<=0.05, trial 3 keeps the other limit, with a validation \
                     accuracy of 80.00 %";
        assert!(text.contains(other) && !text.contains("in the way"), "{text}");
        assert!(
            text.contains(
                "as it came, because of stem (2.00 ms instead of 1.00 ms): on this machine"
            ),
            "{text}"
        );
    }
}
