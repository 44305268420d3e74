//! `[table]` in a study file: a study whose trials are looked up.

use edgesmith_search_space::CellIdentity;

use super::TableSpec;
use super::reader::{Mistakes, Table};
use crate::{Metric, Objective};

/// What a study that looks its trials up does not have.
const OF_TRAINING: [&str; 7] =
    ["data", "space", "recipe", "training", "fidelity", "teacher", "measurement"];

/// `[table]`, which must be there.
pub fn read_table(
    root: &mut Table,
    objectives: &[Objective],
    m: &mut Mistakes,
) -> Option<TableSpec> {
    for name in OF_TRAINING {
        if root.knew(name) {
            let span = root.span_of(name);
            // Taken, so that its fields are not judged as well.
            root.table(name, m);
            let text = "is for studies that train; with [table] trials are looked up, leave it out";
            m.add(&span, name, text);
        }
    }
    let mut table = root.required_table("table", "give a [table] with path", m)?;
    let known = |name: String| match name.as_str() {
        "nas-bench-201" => Ok(()),
        _ => Err(format!("unknown benchmark {name:?}; use nas-bench-201")),
    };
    table.checked("benchmark", m, known);
    let path = table.required("path", m);
    let latencies: Option<String> = table.optional("latencies", m);
    if latencies.is_none() && objectives.iter().any(|o| o.metric == Metric::LatencyMs) {
        let text = "is missing; an objective is on latency_ms, so name the file of latencies";
        m.add(&table.span(), table.path("latencies"), text);
    }
    for (i, objective) in objectives.iter().enumerate() {
        if matches!(objective.metric, Metric::ModelBytes | Metric::PeakMemoryBytes) {
            let text = format!("the table does not hold {}", objective.metric);
            m.add(&root.span_of("objectives"), format!("objectives[{i}].metric"), text);
        }
    }
    // The first protocol of the benchmark's paper: search on 12 epochs, report after 200.
    let validation_accuracy = table.or("validation_accuracy", "c10_valid_12".to_owned(), m);
    let test_accuracies =
        table.list("test_accuracies", m).unwrap_or_else(|| vec!["c10_test_200".to_owned()]);
    let seconds = table.or("seconds", "c10_train_s_200".to_owned(), m);
    let seconds_share = table.within("seconds_share", 12.0 / 200.0, (1e-9, 1e9), m);
    let identity = table.parsed("identity", m).unwrap_or(CellIdentity::Network);
    table.finish(m);
    Some(TableSpec {
        path: path?,
        latencies,
        validation_accuracy,
        test_accuracies,
        seconds,
        seconds_share,
        identity,
    })
}
