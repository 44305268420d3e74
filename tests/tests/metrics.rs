//! A metric of the registry works everywhere: as objective and constraint, in tables, filters, CSV
//! and JSON, on rungs, and when a trial is repeated.

use edgesmith_tests::{TinyStudy, run};

#[test]
fn a_study_may_search_for_any_metric_and_shows_it_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let more = "[fidelity]\nrule = \"median\"\n\
                [[constraints]]\nmetric = \"parameters\"\nmax = 1000000\n";
    let study = TinyStudy { epochs: 2, more: more.to_owned(), ..TinyStudy::new("f1") };
    let text = study
        .text()
        .replace("validation_accuracy", "validation_f1_macro")
        .replace("metric = \"latency_ms\"\ndevice = \"local\"", "metric = \"peak_memory_bytes\"");
    std::fs::write(at.join("f1.toml"), text).unwrap();
    let summary = run(at, &["search", "f1.toml", "--data-dir", "data"]).ok();
    for heading in ["validation_f1_macro", "peak memory", "parameters"] {
        assert!(summary.contains(heading), "{heading:?} is not in: {summary}");
    }
    let ask = |args: &[&str]| run(at, &[args, &["--data-dir", "data"]].concat());
    let trials = ask(&["trials", "f1", "--format", "json"]).json();
    let complete: Vec<_> = trials["trials"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|trial| trial["state"] == "complete")
        .collect();
    assert_eq!(complete.len(), 4, "{trials}");
    for trial in &complete {
        for of in ["validation_f1_macro", "test_f1_macro", "validation_accuracy"] {
            let share = trial["figures"][of].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&share), "{of}: {trial}");
        }
        assert!(trial["figures"]["parameters"].is_u64(), "{trial}");
        assert!(trial["rungs"][0]["figures"]["validation_f1_macro"].is_f64(), "{trial}");
        assert_eq!(
            trial["metrics"]["validation_accuracy"],
            trial["figures"]["validation_accuracy"]
        );
    }
    let table = ask(&["trials", "f1"]).ok();
    let heading = table.lines().next().unwrap();
    assert!(heading.contains("validation_f1_macro") && heading.contains("peak memory"), "{table}");
    let csv = ask(&["trials", "f1", "--format", "csv"]).ok();
    let columns: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    assert!(columns.contains(&"validation_f1_macro") && columns.contains(&"test_f1_macro"));
    let all =
        ask(&["pareto", "f1", "--format", "json", "--where", "validation_f1_macro>=0"]).json();
    assert!(!all["trials"].as_array().unwrap().is_empty());
    let none = ask(&["pareto", "f1", "--format", "json", "--where", "test_f1_macro>1"]).json();
    assert!(none["trials"].as_array().unwrap().is_empty());
    let number = complete[0]["trial"].to_string();
    let again = ask(&["trial", "f1", &number, "--rerun"]).ok();
    assert!(again.contains("validation_f1_macro") && !again.contains("DIFFERENT"), "{again}");

    let metrics = run(at, &["metrics", "--format", "json"]).json();
    let names = metrics["metrics"].as_array().unwrap().iter().map(|m| m["metric"].as_str());
    assert!(names.flatten().any(|name| name == "f1_macro"), "{metrics}");
    ask(&["pareto", "f1", "--where", "speed<1"]).fails(2, &["speed", "validation_f1_macro"]);
}

#[test]
fn held_out_figures_and_costs_of_training_cannot_be_searched_for() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |metric: &str, texts: &[&str]| {
        let text = TinyStudy::new("s").text().replace("validation_accuracy", metric);
        std::fs::write(directory.path().join("s.toml"), text).unwrap();
        run(directory.path(), &["validate", "s.toml"]).fails(2, texts);
    };
    refused("test_f1_macro", &["held out", "use validation_f1_macro"]);
    refused("training_seconds", &["training_seconds is a cost of training"]);
    refused("f1_macro", &["unknown metric", "validation_f1_macro"]);
    refused("latency_ms@pi", &["device = \"pi\""]);
}
