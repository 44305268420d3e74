//! Data directories that an earlier version wrote: they open, give the same answers, and their
//! studies continue.
//!
//! `fixtures/format-1` holds directories of the last program whose records were a postcard list of
//! its domain types, and what that program printed of them.

use std::path::{Path, PathBuf};

use edgesmith_tests::{Coordinator, bench, run, workspace};
use serde_json::Value;

fn fixtures() -> PathBuf {
    workspace().join("tests/fixtures/format-1")
}

/// Unpacks such a directory into a temporary one.
fn unpack(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let packed = std::fs::File::open(fixtures().join(format!("{name}.tar.gz"))).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(packed)).unpack(directory.path()).unwrap();
    directory
}

fn expected(file: &str) -> String {
    std::fs::read_to_string(fixtures().join(file)).unwrap()
}

/// Whether everything that was said is still said; more may be.
fn holds(now: &Value, then: &Value, path: &str) {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => {
            for (name, then) in then {
                let path = format!("{path}.{name}");
                holds(now.get(name).unwrap_or_else(|| panic!("{path} is gone")), then, &path);
            }
        }
        (Value::Array(now), Value::Array(then)) => {
            assert_eq!(now.len(), then.len(), "{path}");
            for (place, (now, then)) in now.iter().zip(then).enumerate() {
                holds(now, then, &format!("{path}[{place}]"));
            }
        }
        _ => assert_eq!(now, then, "{path}"),
    }
}

/// The columns and rows of a CSV without quotes.
fn csv(text: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    (lines.next().unwrap(), lines.collect())
}

/// Asks for everything of a study and compares it with what the earlier program said.
fn answers_as_before(at: &Path, data: &str, study: &str) {
    for what in ["pareto", "trials", "status"] {
        let args = [what, study, "--data-dir", data, "--format", "json"];
        let now = run(at, &args).json();
        let mut then: Value =
            serde_json::from_str(&expected(&format!("{study}.{what}.json"))).unwrap();
        if then["state"] == "running" {
            // Time passes in a study that runs.
            then.as_object_mut().unwrap().remove("elapsed_ms");
        }
        holds(&now, &then, what);
    }
    let now = run(at, &["trials", study, "--data-dir", data, "--format", "csv"]).ok();
    let then = expected(&format!("{study}.trials.csv"));
    let ((columns, rows), (names, before)) = (csv(&now), csv(&then));
    assert_eq!(rows.len(), before.len());
    for (place, name) in names.iter().enumerate() {
        let column = columns.iter().position(|column| column == name);
        let column = column.unwrap_or_else(|| panic!("column {name} is gone"));
        for (now, then) in rows.iter().zip(&before) {
            assert_eq!(now[column], then[place], "{name} of trial {}", then[0]);
        }
    }
}

#[test]
fn finished_studies_answer_as_before() {
    for (directory, studies) in
        [("finished", &["finished", "heirs"][..]), ("rungs", &["rungs"]), ("table", &["table"])]
    {
        let at = unpack(directory);
        for study in studies {
            answers_as_before(at.path(), directory, study);
        }
    }
}

/// The first complete trial of a study.
fn complete(trials: &Value) -> String {
    let all = trials["trials"].as_array().unwrap();
    all.iter().find(|t| t["state"] == "complete").unwrap()["trial"].to_string()
}

#[test]
fn trained_networks_are_exported_and_compared_with_as_before() {
    let at = unpack("finished");
    let on = |args: &[&str]| run(at.path(), &[args, &["--data-dir", "finished"]].concat());
    let number = complete(&on(&["trials", "finished", "--format", "json"]).json());
    on(&["export", "finished", &number, "--format", "edge", "-o", "m.edge"]).ok();
    assert!(at.path().join("m.edge").metadata().unwrap().len() > 0);
    let bench =
        bench(at.path(), &["proxies", "finished", "--data-dir", "finished", "--format", "json"]);
    // Some of the five trials inherited weights, so there may be too few for the benchmark.
    assert!(bench.code() == 0 || bench.stderr().contains("from scratch"), "{}", bench.stderr());
}

#[test]
fn trials_are_run_again_and_compared_by_the_figures_of_their_time() {
    let at = unpack("finished");
    let on = |args: &[&str]| run(at.path(), &[args, &["--data-dir", "finished"]].concat());
    let number = complete(&on(&["trials", "finished", "--format", "json"]).json());
    let again = on(&["trial", "finished", &number, "--rerun"]);
    let table = again.stdout();
    // Another kind of processor may round trained weights differently, so the code may differ, but
    // only if a line says so.
    assert_eq!(again.code() == 0, !table.contains("DIFFERENT"), "{table}{}", again.stderr());
    for figure in ["validation_accuracy", "test_accuracy", "model_bytes", "model file"] {
        assert!(table.contains(figure), "{table}");
    }
    for figure in ["macs", "parameters", "peak_memory_bytes"] {
        let line = table.lines().find(|line| line.starts_with(figure)).unwrap();
        assert!(line.ends_with("same"), "{table}");
    }
    // That version did not measure it, so there is nothing to compare with.
    assert!(!table.contains("f1_macro"), "{table}");
}

#[test]
fn results_are_imported_into_a_new_study() {
    let at = unpack("finished");
    let coordinator = Coordinator::with_options(at.path(), &["--data-dir", "finished"]);
    let trials = coordinator.ask(&["trials", "finished", "--format", "json"]).ok();
    std::fs::write(at.path().join("now.json"), &trials).unwrap();
    for format in ["json", "csv"] {
        let file = fixtures().join(format!("finished.trials.{format}"));
        std::fs::copy(file, at.path().join(format!("then.{format}"))).unwrap();
    }
    let files = [("now", "now.json"), ("from-json", "then.json"), ("from-csv", "then.csv")];
    for (study, file) in files {
        let text = format!(
            r#"
            study = {{ name = "{study}" }}
            data = {{ source = "digits", train_limit = 600, test_limit = 200 }}
            recipe = {{ prune = [0.0, 0.5], precision = ["fp32", "int8"], alpha = [0.0, 0.5],
                       temperature = [2.0] }}
            objectives = [{{ metric = "validation_accuracy" }}, {{ metric = "latency_ms" }}]
            budget = {{ trials = 4 }}
            teacher = {{ architecture = "largest", epochs = 1 }}
            [space]
            resolution = [8]
            stem_width = [4, 8]
            [[space.stages]]
            depth = [1, 2]
            width = [4, 8]
            kernel = [3]
            operation = ["conv", "separable", "inverted-residual"]
            expansion = [2]
            stride = [1, 2]
            activation = ["relu", "relu6"]
            "#
        );
        let path = at.path().join(format!("{study}.toml"));
        std::fs::write(&path, text).unwrap();
        coordinator.ask(&["submit", path.to_str().unwrap()]).ok();
        let again = coordinator.ask(&["submit", path.to_str().unwrap()]);
        assert!(again.stderr().contains("already has this study; it is "));
        let said = coordinator.ask(&["import", study, file]).ok();
        assert!(said.contains("imported 5 trials"), "{said}");
        assert_eq!(coordinator.status(study)["trials"]["imported"], 5);
    }
    for trial in coordinator.trials("now") {
        let metrics = &trial["metrics"];
        assert_eq!(metrics["test_accuracies"]["test"], metrics["test_accuracy"], "{trial}");
    }
    let [now, json, csv] = files.map(|(study, _)| {
        let trials = coordinator.trials(study);
        let figures = trials.iter().map(|trial| trial["figures"].as_object().unwrap().clone());
        figures.collect::<Vec<_>>()
    });
    assert_eq!(json, csv);
    // Files did not have the images of complete trials among the figures.
    for (mut now, then) in now.into_iter().zip(json) {
        assert!(now.remove("images_seen").is_some());
        assert_eq!(now, then);
    }
}

#[test]
fn interrupted_studies_continue_to_their_end() {
    let at = unpack("midrun");
    for study in ["midrun", "into"] {
        answers_as_before(at.path(), "midrun", study);
    }
    // The coordinator and its workers were killed; here they start again.
    let coordinator = Coordinator::with_options(at.path(), &["--data-dir", "midrun"]);
    let before = coordinator.trials("midrun");
    let _worker = coordinator.worker(&["--slots", "2"]);
    let status = coordinator.wait_until_complete("midrun");
    assert_eq!(status["trials"]["failed"], 0, "{status}");
    let ended = status["trials"]["complete"].as_u64().unwrap()
        + status["trials"]["pruned"].as_u64().unwrap();
    assert_eq!(ended, 40, "{status}");
    // What was complete has not changed.
    let after = coordinator.trials("midrun");
    let complete: Vec<&Value> = before.iter().filter(|t| t["state"] == "complete").collect();
    assert_eq!(complete.len(), 2);
    for trial in complete {
        assert!(after.contains(trial), "{trial}");
    }
    // The other one was paused with five imported trials.
    coordinator.ask(&["resume", "into"]).ok();
    let status = coordinator.wait_until_complete("into");
    assert_eq!(status["trials"]["imported"], 5, "{status}");
    assert_eq!(status["trials"]["complete"], 6, "{status}");
}
