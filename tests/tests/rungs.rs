//! Successive halving over real processes: trials stop at rungs, and continue from their
//! checkpoints on other workers.

use edgesmith_tests::{Coordinator, TinyStudy, complete};

#[test]
fn trials_continue_on_other_workers_with_the_same_bits_as_without_a_stop() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(directory.path(), 2);
    let more = "[fidelity]\nrule = \"asha\"\n".to_owned();
    let study = TinyStudy { trials: 7, epochs: 9, more, ..TinyStudy::new("halving") };
    coordinator.submit(&study);
    let first = coordinator.worker(&["--slots", "1"]);
    coordinator.wait_until(&study.name, "at a rung", |_| {
        let trials = coordinator.trials(&study.name);
        trials.iter().any(|trial| trial["rungs"].as_array().is_some_and(|all| !all.is_empty()))
    });
    // Its current training is lost, but not its reported results.
    first.kill();
    let _others =
        ["second", "third"].map(|name| coordinator.worker(&["--slots", "1", "--name", name]));
    let status = coordinator.wait_until_complete(&study.name);
    let count = |state: &str| status["trials"][state].as_u64().unwrap();
    assert_eq!(count("complete") + count("pruned"), 7, "{status}");
    assert!(count("complete") >= 1 && count("pruned") >= 1, "{status}");

    let trials = coordinator.trials(&study.name);
    for trial in &trials {
        let rungs = trial["rungs"].as_array().unwrap();
        let epochs: Vec<u64> = rungs.iter().map(|r| r["epochs"].as_u64().unwrap()).collect();
        match trial["state"].as_str() {
            Some("complete") => assert_eq!(epochs, [1, 3], "{trial}"),
            Some("pruned") => {
                assert!(epochs == [1] || epochs == [1, 3], "{trial}");
                assert!(trial["metrics"].is_null(), "{trial}");
            }
            _ => panic!("{trial}"),
        }
        for rung in rungs {
            assert!(
                (0.0..=1.0).contains(&rung["validation_accuracy"].as_f64().unwrap()),
                "{trial}"
            );
        }
    }
    let shown = coordinator.ask(&["trials", &study.name]).ok();
    assert!(shown.contains("pruned at epoch 1"), "{shown}");
    let (number, _) = complete(&trials)[0];
    let again = coordinator.ask(&["trial", &study.name, &number.to_string(), "--rerun"]).ok();
    assert!(again.contains("same") && !again.contains("DIFFERENT"), "{again}");
}
