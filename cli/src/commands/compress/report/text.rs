//! The result of a compression in words: a table beside the network as it came, what it is slower
//! than, its stages, and the limits.

use std::fmt::Write as _;

use edgesmith_common::{DeviceClass, Figures, Measurement, Metric, ScopedMetric, Target};
use edgesmith_console::table::{self, Align};
use edgesmith_search_space::{Arithmetic, Step};

use super::{Report, Tried, excess, latency_here};
use crate::commands::trials;
use crate::output::stages;

/// Energy per run on this machine, millijoules, where it was measured.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Energy {
    /// Of the network as it came, measured beside the trial.
    original: Option<f64>,
    /// Of the trial.
    trial: Option<f64>,
}

impl Energy {
    pub(super) fn of(measured: Option<&Measurement>) -> Self {
        let original = measured.and_then(|m| m.original).and_then(|of| of.energy_mj);
        Self { original, trial: measured.and_then(|m| m.energy_mj) }
    }

    /// Its row beside the figures; `None` without any.
    pub(super) fn row(self) -> Option<Vec<String>> {
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

impl Report {
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (number, reason) in &self.without {
            let _ = writeln!(text, "trial {number} has no result: {reason}");
        }
        let Some(best) = self.best_tried() else {
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
            let Some(freed) = self.but_for(limit) else { continue };
            let Some(reached) = freed.figures.validation_accuracy() else { continue };
            let (freed_number, reached) = (freed.number, table::percent(reached));
            if self.in_the_way(limit).is_some() {
                let _ = writeln!(
                    text,
                    "{limit} was in the way: without it, trial {freed_number} has a validation \
                     accuracy of {reached}"
                );
            } else if beyond && self.limits.len() > 1 {
                // The limits may be kept but for this one.
                let s = if self.limits.len() == 2 { "" } else { "s" };
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
