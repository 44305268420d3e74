//! Results of earlier studies: imported from files, and named in the study file.

use edgesmith_tests::{Coordinator, TinyStudy};

#[test]
fn a_study_starts_from_the_results_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let coordinator = Coordinator::start(at, 20);
    coordinator.submit(&TinyStudy::new("first"));
    let worker = coordinator.worker(&["--slots", "2"]);
    coordinator.wait_until_complete("first");
    drop(worker);

    // Imports JSON, then CSV, which has nothing new.
    let second = TinyStudy::new("second");
    coordinator.submit(&second);
    for (format, said) in [("json", "imported 4 trials"), ("csv", "4 were already in the study")] {
        let text = coordinator.ask(&["trials", "first", "--format", format]).ok();
        let file = at.join(format!("first.{format}"));
        std::fs::write(&file, text).unwrap();
        let text = coordinator.ask(&["import", "second", file.to_str().unwrap()]).ok();
        assert!(text.contains(said), "{text}");
    }
    let status = coordinator.ask(&["status", "second", "--format", "json"]).json();
    assert_eq!(
        (&status["trials"]["imported"], &status["trials"]["complete"]),
        (&4.into(), &0.into())
    );

    // Imported trials have exactly the same values.
    let (old, new) = (coordinator.trials("first"), coordinator.trials("second"));
    for (old, new) in old.iter().zip(&new) {
        assert_eq!(old["choices"], new["choices"]);
        assert_eq!(new["proposed_by"], "import");
        for figure in ["validation_accuracy", "test_accuracy", "model_bytes", "macs", "latency_ms"]
        {
            assert_eq!(old["metrics"][figure], new["metrics"][figure], "{figure}");
        }
        assert_eq!(old["training"]["seconds"], new["training"]["seconds"]);
        assert_eq!(new["training"]["model_hash"], serde_json::Value::Null);
    }
    let front = coordinator.ask(&["pareto", "second"]).ok();
    assert!(front.lines().count() > 1, "{front}");
    let export = coordinator.ask(&["export", "second", "0", "--format", "edge", "-o", "m.edge"]);
    export.fails(2, &["trial 0"]);

    // A third study names the first; then the search continues from there.
    let third = TinyStudy::new("third").text();
    let third = third.replace("name = \"third\"", "name = \"third\"\nstart_from = [\"first\"]");
    let file = at.join("third.toml");
    std::fs::write(&file, third).unwrap();
    coordinator.ask(&["submit", file.to_str().unwrap()]).ok();
    let _worker = coordinator.worker(&["--slots", "2"]);
    for study in ["second", "third"] {
        let status = coordinator.wait_until_complete(study);
        assert_eq!(status["trials"]["imported"], 4, "{status}");
        assert_eq!(status["trials"]["complete"], 4, "{status}");
        let mut candidates: Vec<String> =
            coordinator.trials(study).iter().map(|t| t["choices"].to_string()).collect();
        candidates.sort();
        candidates.dedup();
        assert_eq!(candidates.len(), 8, "no candidate is tried again");
    }
}

#[test]
fn files_that_cannot_be_imported_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let coordinator = Coordinator::start(at, 20);
    coordinator.submit(&TinyStudy::new("study"));
    let import = |name: &str, text: &str| {
        let file = at.join(name);
        std::fs::write(&file, text).unwrap();
        coordinator.ask(&["import", "study", file.to_str().unwrap()])
    };
    import("a.json", "{\"version\": 1, \"trials\": []}")
        .fails(2, &["a.json", "no complete trials"]);
    import("b.json", "{\"version\": 7}").fails(2, &["b.json", "version 7"]);
    import("c.csv", "name,value\n").fails(2, &["c.csv", "validation_accuracy"]);
    import("mark.json", "\u{feff}{\"version\": 1, \"trials\": []}")
        .fails(2, &["mark.json", "no complete trials"]);
    import("cut.json", "{\"version\": 1, \"trials\": [{\"tr")
        .fails(2, &["cut.json", "line 1, column ", "cut short"]);
    let other = "validation_accuracy,choice.colour\n0.5,red\n";
    import("d.csv", other).fails(2, &["no trial of", "line 2", "no choice colour"]);
    coordinator.ask(&["import", "study", "nowhere.json"]).fails(2, &["nowhere.json"]);
    coordinator.ask(&["import", "study", "-"]).fails(2, &["standard input: "]);
    coordinator
        .ask(&["import", "nobody", "a.json"])
        .fails(2, &["nobody", "the studies are: study"]);
    let text = TinyStudy::new("heir").text();
    let text = text.replace("name = \"heir\"", "name = \"heir\"\nstart_from = [\"nobody\"]");
    let file = at.join("heir.toml");
    std::fs::write(&file, text).unwrap();
    coordinator
        .ask(&["submit", file.to_str().unwrap()])
        .fails(2, &["nobody", "the studies are: study"]);
}
