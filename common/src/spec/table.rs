//! `[table]` in a study file: a study that looks its trials up in a table.

use edgesmith_search_space::CellIdentity;

use super::check::not_in_table;
use super::fidelity::read_fidelity_of_table;
use super::reader::{Mistakes, Table};
use super::{FidelitySpec, TableRung, TableSpec};
use crate::{Metric, Objective};

/// Fields that a study over a table must not have.
const OF_TRAINING: [&str; 6] = ["data", "space", "recipe", "training", "teacher", "measurement"];

/// Default number of epochs that the benchmark's seconds cover.
const EPOCHS_OF_SECONDS: f64 = 200.0;

/// Reads `[table]`, which is required, and `[fidelity]`, which is optional.
pub fn read_table(
    root: &mut Table,
    objectives: &[Objective],
    m: &mut Mistakes,
) -> Option<(TableSpec, Option<FidelitySpec>)> {
    for name in OF_TRAINING {
        if root.knew(name) {
            let span = root.span_of(name);
            // Taken, so that its fields are not checked as well.
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
    if latencies.is_none() && objectives.iter().any(|o| o.of.metric == Metric::LATENCY_MS) {
        let text = "is missing; an objective is on latency_ms, so name the file of latencies";
        m.add(&table.span(), table.path("latencies"), text);
    }
    for (i, objective) in objectives.iter().enumerate() {
        // A missing file of latencies is reported already.
        if let Some(text) = not_in_table(&objective.of, true) {
            m.add(&root.span_of("objectives"), format!("objectives[{i}].metric"), text);
        }
    }
    // The first protocol of the benchmark's paper: search with 12 epochs, report after 200.
    let validation_accuracy = table.or("validation_accuracy", "c10_valid_12".to_owned(), m);
    let test_accuracies =
        table.list("test_accuracies", m).unwrap_or_else(|| vec!["c10_test_200".to_owned()]);
    let (epochs, rungs) = read_rungs(&mut table, root.knew("fidelity"), m);
    let seconds = table.or("seconds", "c10_train_s_200".to_owned(), m);
    let share = epochs.map_or(12.0, f64::from) / EPOCHS_OF_SECONDS;
    let seconds_share = table.within("seconds_share", share, (1e-9, 1e9), m);
    let identity = table.parsed("identity", m).unwrap_or(CellIdentity::Network);
    table.finish(m);
    let fidelity = read_fidelity_of_table(root, rungs.iter().map(|rung| rung.epochs).collect(), m);
    let spec = TableSpec {
        path: path?,
        latencies,
        validation_accuracy,
        test_accuracies,
        epochs,
        rungs,
        seconds,
        seconds_share,
        identity,
    };
    Some((spec, fidelity))
}

/// Reads `table.epochs` and `[[table.rungs]]`. They need each other and a `[fidelity]` table.
fn read_rungs(
    table: &mut Table,
    has_fidelity: bool,
    m: &mut Mistakes,
) -> (Option<u32>, Vec<TableRung>) {
    let at_least_one = |epochs: u32| match epochs {
        0 => Err("0 is out of range; use 1 or more".to_owned()),
        epochs => Ok(epochs),
    };
    let (has_epochs, has_rungs) = (table.has("epochs"), table.has("rungs"));
    let epochs = table.obeying("epochs", m, at_least_one);
    let span = table.span_of("rungs");
    if has_rungs && !has_fidelity {
        let text = "are for [fidelity], which says which trials continue from them; add it with a \
                    rule, or leave them out";
        m.add(&span, table.path("rungs"), text);
    }
    if (has_rungs || has_fidelity) && !has_epochs {
        let text = "is missing; give the epochs of validation_accuracy; rungs must be below them";
        m.add(&table.span(), table.path("epochs"), text);
    }
    let before = m.count();
    let mut rungs: Vec<TableRung> = Vec::new();
    let mut given = 0;
    for mut rung in table.tables("rungs", m) {
        given += 1;
        let last = rungs.last().map(|rung| rung.epochs);
        let in_order = |at: u32| match (last, epochs) {
            _ if at == 0 => Err("0 is out of range; use 1 or more".to_owned()),
            (Some(last), _) if at <= last => {
                let text =
                    format!("{at} is not above {last}, the rung before it; put them in order");
                Err(text)
            }
            (_, Some(whole)) if at >= whole => {
                let text =
                    format!("{at} is not below table.epochs, {whole}; no trial would stop there");
                Err(text)
            }
            _ => Ok(at),
        };
        if !rung.has("epochs") {
            let text = "is missing; give the epochs of this rung's accuracy";
            m.refuse(&rung.span(), rung.path("epochs"), text);
        }
        let at = rung.obeying("epochs", m, in_order);
        if !rung.has("validation_accuracy") {
            let text = "is missing; name the column of the accuracy after these epochs";
            m.refuse(&rung.span(), rung.path("validation_accuracy"), text);
        }
        let column = rung.optional("validation_accuracy", m);
        rung.finish(m);
        if let (Some(epochs), Some(validation_accuracy)) = (at, column) {
            rungs.push(TableRung { epochs, validation_accuracy });
        }
    }
    if has_fidelity && given == 0 && m.count() == before {
        let text = "is missing; [fidelity] compares trials at rungs, so add [[table.rungs]] with \
                    epochs and validation_accuracy";
        m.add(&span, table.path("rungs"), text);
    }
    (epochs, rungs)
}
