//! One objective: measures what the search chose, and how far that is from the best in the table.

use std::fmt::Write as _;

use edgesmith_common::spec::Workload;
use edgesmith_common::{Figures, Metric, Split, StudySpec};
use edgesmith_console::invalid;
use edgesmith_console::table::{self, Align};
use edgesmith_worker::table::CellTable;

use crate::algorithm::Algorithm;
use crate::curve::{average, mean_and_deviation, percent};
use crate::study::LookUp;

/// The best result in the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// The best accuracy in the column that the search sees, `0..=1`.
    best: f64,
}

impl Truth {
    /// The best of the column that `spec` searches.
    pub fn of(table: &CellTable, spec: &StudySpec) -> anyhow::Result<Self> {
        let Workload::Table(columns) = &spec.work else {
            return Err(invalid("the study names no table"));
        };
        let mut best = 0.0_f64;
        for cell in table.cells() {
            best = best.max(accuracy(&table.look_up(columns, cell, [])?));
        }
        Ok(Self { best })
    }
}

/// The look-up with the best accuracy within the budget; the earliest if several are equal.
pub fn chosen(run: &[LookUp]) -> Option<&LookUp> {
    run.iter().filter(|look_up| look_up.counts).reduce(|best, next| {
        let better = accuracy(&next.figures) > accuracy(&best.figures);
        if better { next } else { best }
    })
}

/// The accuracy that the search sees, `0..=1`.
pub fn accuracy(figures: &Figures) -> f64 {
    figures.validation_accuracy().unwrap_or(0.0)
}

/// A table of what each algorithm chose: mean and standard deviation over its runs of `spec`.
pub fn table(
    results: &[(&Algorithm, Vec<Vec<LookUp>>)],
    spec: &StudySpec,
    seconds: Option<f64>,
) -> String {
    let tests: &[String] = match &spec.work {
        Workload::Table(table) => &table.test_accuracies,
        Workload::Train(_) => &[],
    };
    let mut columns = vec![
        ("algorithm", Align::Left),
        ("runs", Align::Right),
        ("look-ups", Align::Right),
        ("validation", Align::Right),
    ];
    columns.extend(tests.iter().map(|name| (name.as_str(), Align::Right)));
    let row = |(algorithm, runs): &(&Algorithm, Vec<Vec<LookUp>>)| {
        let counted: Vec<f64> = runs
            .iter()
            .map(|run| run.iter().filter(|look_up| look_up.counts).count() as f64)
            .collect();
        let chosen: Vec<&LookUp> = runs.iter().filter_map(|run| chosen(run)).collect();
        let mut cells = vec![
            algorithm.to_string(),
            runs.len().to_string(),
            format!("{:.1}", mean_and_deviation(&counted).0),
            percent(chosen.iter().map(|c| accuracy(&c.figures))),
        ];
        cells.extend(tests.iter().map(|name| {
            let of = Metric::ACCURACY.on(Split::HeldOut(name.as_str().into()));
            percent(chosen.iter().filter_map(|look_up| look_up.figures.get(&of)))
        }));
        cells
    };
    let rows: Vec<Vec<String>> = results.iter().map(row).collect();
    let mut text = table::render(&columns, &rows);
    if let Some(seconds) = seconds {
        let _ = writeln!(
            text,
            "percent, mean±standard deviation; look-ups that ended within {seconds} simulated seconds"
        );
    } else {
        text.push_str("percent, mean±standard deviation\n");
    }
    text
}

/// The simple regret in percentage points after each look-up, as CSV.
pub fn curves(results: &[(&Algorithm, Vec<Vec<LookUp>>)], truth: &Truth) -> String {
    let mut text = "algorithm,look_ups,mean_regret_percent,deviation_percent\n".to_owned();
    for (algorithm, runs) in results {
        let regrets: Vec<Vec<f64>> = runs.iter().map(|run| regret(run, truth)).collect();
        for (place, (mean, deviation)) in average(&regrets).into_iter().enumerate() {
            let _ = writeln!(text, "{algorithm},{},{mean:.6},{deviation:.6}", place + 1);
        }
    }
    text
}

fn regret(run: &[LookUp], truth: &Truth) -> Vec<f64> {
    let mut best = 0.0_f64;
    let counted = run.iter().filter(|look_up| look_up.counts);
    let after = counted.map(|look_up| {
        best = best.max(accuracy(&look_up.figures));
        (truth.best - best) * 100.0
    });
    after.collect()
}
