//! `edgesmith metrics`: explains every figure in tables, filters, CSV and JSON.

use edgesmith_common::metric::{Definition, ScopeKind, Source, Unit};
use edgesmith_common::{Goal, Metric, Split};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, print};
use serde::Serialize;
use serde_json::json;

use crate::output::json;

/// How to print.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

/// Lists the definitions of all metrics.
pub fn run(args: &Args) -> anyhow::Result<()> {
    print(&Metrics, args.format)
}

struct Metrics;

impl Output for Metrics {
    fn table(&self) -> String {
        let columns = ["name", "unit", "better", "searched", "meaning"];
        let columns = columns.map(|name| (name, Align::Left));
        let row = |metric: &Metric| {
            let Definition { unit, goal, meaning, .. } = metric.definition();
            let better = match goal {
                Goal::Maximize => "higher",
                Goal::Minimize => "lower",
            };
            let searched = searched(*metric).unwrap_or_else(|| "–".to_owned());
            let names = names(*metric).join(", ");
            let unit = unit_name(*unit).to_owned();
            vec![names, unit, better.to_owned(), searched, (*meaning).to_owned()]
        };
        let rows: Vec<Vec<String>> = Metric::ALL.iter().map(row).collect();
        table::render(&columns, &rows)
    }

    fn json(&self) -> impl Serialize {
        let metric = |metric: &Metric| {
            let Definition { name, unit, goal, range: (least, greatest), source, meaning, .. } =
                metric.definition();
            json!({
                "metric": name, "names": names(*metric), "unit": unit_name(*unit),
                "goal": goal.name(), "least": least, "greatest": greatest,
                "source": source_name(*source), "searched": searched(*metric),
                "meaning": meaning,
            })
        };
        let all: Vec<_> = Metric::ALL.iter().map(metric).collect();
        json!({ "version": json::VERSION, "metrics": all })
    }
}

/// The names of a metric's figures.
fn names(metric: Metric) -> Vec<String> {
    match metric.definition().scope {
        ScopeKind::Whole => vec![metric.name().to_owned()],
        ScopeKind::Split => [Split::Validation, Split::Test, Split::HeldOut("SET".into())]
            .map(|split| metric.on(split).to_string())
            .to_vec(),
        ScopeKind::Target => vec![format!("{metric}@DEVICE")],
    }
}

/// The name that objectives and constraints may use; `None` if they may not use the metric.
fn searched(metric: Metric) -> Option<String> {
    // Of the sets, the search sees only the validation images, whose figure is the first name.
    metric.is_searched().then(|| names(metric).swap_remove(0))
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Share => "share",
        Unit::Milliseconds => "milliseconds",
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        Unit::Count => "count",
    }
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::Evaluated => "evaluated",
        Source::Measured => "measured",
        Source::File => "file",
        Source::Analytic(_) => "analytic",
        Source::Spent => "spent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_listed_with_its_names() {
        let table = Metrics.table();
        assert_eq!(table.lines().count(), 1 + Metric::ALL.len());
        assert!(table.contains("validation_accuracy, test_accuracy, accuracy@SET"), "{table}");
        assert!(table.contains("latency_ms@DEVICE") && table.contains(".edge"), "{table}");
        assert!(table.contains("higher") && table.contains("lower"), "{table}");
    }

    #[test]
    fn searches_may_use_what_does_not_come_from_held_out_images() {
        assert_eq!(searched(Metric::ACCURACY).as_deref(), Some("validation_accuracy"));
        assert_eq!(searched(Metric::LATENCY_MS).as_deref(), Some("latency_ms@DEVICE"));
        assert_eq!(searched(Metric::TRAINING_SECONDS), None);
    }
}
