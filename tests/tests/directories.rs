//! Data directories that an earlier version wrote: they open, answer the same, and their studies
//! go on.
//!
//! `fixtures/format-1` holds directories of the last program whose records were a postcard list of
//! its domain types, and what that program printed of them.

use std::path::{Path, PathBuf};

use edgesmith_tests::{Coordinator, bench, run, workspace};
use serde_json::Value;

fn fixtures() -> PathBuf {
    workspace().join("tests/fixtures/format-1")
}

/// Unpacks a directory of then into a temporary one.
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

#[test]
fn trained_networks_of_then_can_be_exported_repeated_and_judged() {
    let at = unpack("finished");
    let trials =
        run(at.path(), &["trials", "finished", "--data-dir", "finished", "--format", "json"])
            .json();
    let complete = trials["trials"].as_array().unwrap().iter().find(|t| t["state"] == "complete");
    let number = complete.unwrap()["trial"].to_string();
    let export = [
        "export",
        "finished",
        &number,
        "--format",
        "edge",
        "-o",
        "m.edge",
        "--data-dir",
        "finished",
    ];
    run(at.path(), &export).ok();
    assert!(at.path().join("m.edge").metadata().unwrap().len() > 0);
    let bench =
        bench(at.path(), &["proxies", "finished", "--data-dir", "finished", "--format", "json"]);
    // Of five trials some inherited; whether enough are left, the study says.
    assert!(bench.code() == 0 || bench.stderr().contains("from scratch"), "{}", bench.stderr());
    // Trained results of then are known results of now.
    let file = at.path().join("trials.json");
    std::fs::write(&file, trials.to_string()).unwrap();
    let toml = run(at.path(), &["status", "heirs", "--data-dir", "finished", "--format", "json"]);
    assert_eq!(toml.json()["trials"]["imported"], 5);
}

#[test]
fn studies_that_were_cut_off_go_on_to_their_end() {
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
