//! The columns of a study's figures in tables: the fixed ones, and one for each objective and
//! constraint.

use edgesmith_common::metric::Unit;
use edgesmith_common::{Figures, Measurement, Metric, ScopedMetric, StudySpec, TrialValues};
use edgesmith_console::table::{self, Align};

use super::TrialRow;

/// Mark of a latency that was timed while the machine did other work.
const NOISY: char = '!';

/// The metrics in the order of their columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns(Vec<ScopedMetric>);

impl Columns {
    /// `first`, then the latencies on the study's targets and on others that trials were measured
    /// on, then `last`, then the study's other metrics. Each metric has one column.
    pub fn new<'a>(
        first: Vec<ScopedMetric>,
        spec: &StudySpec,
        rows: impl IntoIterator<Item = &'a TrialRow>,
        last: Vec<ScopedMetric>,
    ) -> Self {
        let mut all: Vec<ScopedMetric> = Vec::new();
        let mut add = |of: &ScopedMetric| {
            if !all.contains(of) {
                all.push(of.clone());
            }
        };
        first.iter().for_each(&mut add);
        spec.targets().into_iter().for_each(|target| add(&Metric::LATENCY_MS.at(target)));
        let values = rows.into_iter().filter_map(|row| row.values.as_ref());
        let measured = values.flat_map(TrialValues::latencies);
        measured.for_each(|(target, _)| add(&Metric::LATENCY_MS.at(target.clone())));
        last.iter().for_each(&mut add);
        spec.metrics().into_iter().for_each(add);
        Self(all)
    }

    /// Their headings.
    pub fn headings(&self) -> Vec<String> {
        self.0.iter().map(heading).collect()
    }

    /// A network's figures in words, with a dash for each unknown one.
    pub fn cells(&self, figures: &Figures) -> Vec<String> {
        self.0.iter().map(|of| cell(of, figures)).collect()
    }

    /// A trial's figures in words. Latencies of noisy measurements are marked with [`NOISY`].
    pub fn marked(&self, values: &TrialValues) -> Vec<String> {
        let noisy = |of: &ScopedMetric| {
            let mut measurements = values.measurements().iter().filter(|m| m.is_noisy());
            of.metric == Metric::LATENCY_MS
                && measurements.any(|m| Some(&m.target()) == of.target())
        };
        let marked = |of: &ScopedMetric| {
            let mark = if noisy(of) { format!("{NOISY} ") } else { String::new() };
            mark + &cell(of, values.figures())
        };
        self.0.iter().map(marked).collect()
    }

    /// A row of dashes, for a network without figures.
    pub fn dashes(&self) -> Vec<String> {
        self.cells(&Figures::new())
    }
}

/// The line below a table that explains [`NOISY`]; empty if nothing is marked.
pub fn noisy_legend<'a>(values: impl IntoIterator<Item = &'a TrialValues>) -> &'static str {
    let mut values = values.into_iter();
    if values.any(|values| values.measurements().iter().any(Measurement::is_noisy)) {
        "! timed while the machine did other work, so the latency may be too high; `trial` says more\n"
    } else {
        ""
    }
}

/// Headings as columns of numbers.
pub fn right(headings: &[String]) -> impl Iterator<Item = (&str, Align)> {
    headings.iter().map(|heading| (heading.as_str(), Align::Right))
}

/// A figure in words, or a dash if it is unknown.
pub fn cell(of: &ScopedMetric, figures: &Figures) -> String {
    figures.get(of).map_or_else(|| "–".to_owned(), |value| words(of.metric, value))
}

/// A value in words, with its unit.
pub fn words(metric: Metric, value: f64) -> String {
    match metric.definition().unit {
        Unit::Share => table::percent(value),
        Unit::Milliseconds => table::milliseconds(value),
        Unit::Seconds => table::duration(value),
        Unit::Bytes => table::bytes(value as u64),
        Unit::Count => table::count(value as u64),
    }
}

/// A short name for people, or the metric's own name if there is none.
fn heading(of: &ScopedMetric) -> String {
    match (of.metric, of.target()) {
        _ if *of == ScopedMetric::VALIDATION_ACCURACY => "validation".to_owned(),
        _ if *of == ScopedMetric::TEST_ACCURACY => "test".to_owned(),
        (Metric::LATENCY_MS, Some(target)) => format!("latency@{target}"),
        (Metric::MODEL_BYTES, _) => "size".to_owned(),
        (Metric::MACS, _) => "MACs".to_owned(),
        (Metric::PEAK_MEMORY_BYTES, _) => "peak memory".to_owned(),
        _ => of.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::marks::tests::{noisy_on_board, row, spec};

    #[test]
    fn every_objective_and_constraint_has_a_column() {
        let spec = StudySpec::parse(
            "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 9\n\
             objectives = [{ metric = \"validation_accuracy\" }, { metric = \"peak_memory_bytes\" }, \
             { metric = \"latency_ms\", device = \"pi\" }]\n\
             constraints = [{ metric = \"parameters\", max = 1e6 }, { metric = \"model_bytes\", max = 1e6 }]\n\
             space = { resolution = 8, stem_width = 8, stages = [{ width = 8 }] }",
        )
        .unwrap();
        let first = vec![ScopedMetric::VALIDATION_ACCURACY, ScopedMetric::TEST_ACCURACY];
        let columns = Columns::new(first, &spec, &[], vec![Metric::MODEL_BYTES.whole()]);
        let expected = ["validation", "test", "latency@pi", "size", "peak memory", "parameters"];
        assert_eq!(columns.headings(), expected);
        let figures = Figures::new()
            .with(ScopedMetric::VALIDATION_ACCURACY, 0.5)
            .with("latency_ms@pi".parse().unwrap(), 2.0)
            .with(Metric::PARAMETERS.whole(), 1234.0);
        let cells = ["50.00 %", "–", "2.00 ms", "–", "–", "1.2 k"];
        assert_eq!(columns.cells(&figures), cells);
        assert_eq!(columns.dashes(), ["–"; 6]);
    }

    #[test]
    fn latencies_of_noisy_measurements_are_marked_and_explained() {
        let quiet = row(1, 0.5, (1.0, 1.5), (2.0, 2.5));
        let noisy = noisy_on_board(quiet.clone());
        let columns = Columns::new(Vec::new(), &spec(), [&quiet], vec![Metric::MACS.whole()]);
        let cells = |row: &TrialRow| columns.marked(row.values.as_ref().unwrap())[..3].to_vec();
        assert_eq!(cells(&quiet), ["1.00 ms", "2.00 ms", "10"]);
        assert_eq!(cells(&noisy), ["! 1.00 ms", "2.00 ms", "10"]);
        let legend =
            |rows: &[&TrialRow]| noisy_legend(rows.iter().filter_map(|r| r.values.as_ref()));
        assert_eq!(legend(&[&quiet]), "");
        assert!(legend(&[&quiet, &noisy]).starts_with("! timed while"));
    }

    #[test]
    fn every_target_that_a_trial_was_measured_on_has_a_column() {
        let rows = [row(1, 0.5, (1.0, 1.5), (2.0, 2.5))];
        let columns = Columns::new(Vec::new(), &spec(), &rows, vec![Metric::MACS.whole()]);
        assert_eq!(columns.headings()[..3], ["latency@board", "latency@phone", "MACs"]);
        let other = StudySpec::parse(&spec().source().replace("\"phone\"", "\"pi\"")).unwrap();
        let columns = Columns::new(Vec::new(), &other, &rows, vec![Metric::MACS.whole()]);
        let expected = ["latency@board", "latency@pi", "latency@phone", "MACs"];
        assert_eq!(columns.headings()[..4], expected);
    }
}
