//! The main command, `search`, from a study file to a front: stopped, continued and repeated.

use std::path::Path;
use std::time::{Duration, Instant};

use edgesmith_tests::{PATIENCE, Process, Ran, TinyStudy, command, complete, run, workspace};
use serde_json::{Value, json};

fn trials(directory: &Path, study: &str) -> Vec<Value> {
    let args = ["trials", study, "--format", "json", "--data-dir", "edgesmith-data"];
    run(directory, &args).json()["trials"].as_array().unwrap().clone()
}

#[test]
fn a_study_runs_to_its_front_and_answers_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    TinyStudy::new("whole").write(at);
    let shown = run(at, &["search", "whole.toml"]).ok();
    for text in ["Pareto front of whole", "latency@local", "teacher", "on the front"] {
        assert!(shown.contains(text), "{text:?} is not in: {shown}");
    }
    let all = trials(at, "whole");
    assert_eq!(complete(&all).len(), 4);
    for trial in &all {
        let metrics = &trial["metrics"];
        for name in ["validation_accuracy", "test_accuracy"] {
            assert!((0.0..=1.0).contains(&metrics[name].as_f64().unwrap()), "{trial}");
        }
        for name in ["model_bytes", "macs", "parameters", "peak_memory_bytes"] {
            assert!(metrics[name].as_u64() > Some(0), "{trial}");
        }
        assert!(trial["measurements"][0]["samples"].as_u64() >= Some(50), "{trial}");
    }
    // Nothing is running now; the commands read the data directory.
    let front = run(at, &["pareto", "whole"]).ok();
    assert!(front.contains("validation"), "{front}");
    let csv = run(at, &["trials", "whole", "--format", "csv"]).ok();
    assert_eq!(csv.lines().count(), 5, "{csv}");
    assert!(csv.lines().next().unwrap().contains("latency_ms@local"), "{csv}");
    let one = run(at, &["trial", "whole", "0"]).ok();
    assert!(one.contains("median"), "{one}");
    run(at, &["trial", "whole", "99"]).fails(2, &["99"]);
    run(at, &["status", "nothing"]).fails(2, &["nothing", "whole"]);

    // Running it again has nothing left to do.
    run(at, &["search", "whole.toml"]).ok();
    assert_eq!(complete(&trials(at, "whole")), complete(&all));
}

#[test]
fn ctrl_c_stops_cleanly_and_the_same_command_continues() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let study = TinyStudy { trials: 8, epochs: 2, ..TinyStudy::new("stopped") };
    study.write(at);
    let search = ["search", "stopped.toml", "--slots", "2"];
    let first = Process::start_with_log(command(at, &search), &at.join("log"));
    let start = Instant::now();
    loop {
        let ran = run(at, &["trials", "stopped", "--format", "json"]);
        let document = serde_json::from_str::<Value>(&ran.stdout()).unwrap_or_default();
        if document["trials"].as_array().is_some_and(|all| complete(all).len() >= 2) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{}", ran.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
    first.interrupt();
    assert_eq!(first.wait(), Some(130));
    let said = std::fs::read_to_string(at.join("log")).unwrap();
    let hint = "Continue with: edgesmith search stopped.toml --slots 2\n";
    assert!(said.contains(hint), "{said}");
    let before = complete(&trials(at, "stopped"));
    assert!((2..8).contains(&before.len()), "{} were complete", before.len());

    let second = run(at, &["search", "stopped.toml"]);
    assert!(second.stderr().contains("continues"), "{}", second.stderr());
    second.ok();
    let after = complete(&trials(at, "stopped"));
    assert_eq!(after.len(), 8);
    for trial in &before {
        assert!(after.contains(trial), "{trial:?} changed");
    }

    // A changed study file with the same name is refused without `--fresh`.
    TinyStudy { trials: 2, ..study }.write(at);
    run(at, &["search", "stopped.toml"]).fails(2, &["stopped", "--fresh"]);
    let fresh = run(at, &["search", "stopped.toml", "--fresh"]);
    let removed =
        "removed study stopped, which was complete, with its 8 trials, 8 of them complete";
    assert!(fresh.stderr().contains(removed), "{}", fresh.stderr());
    assert_eq!(complete(&trials(at, "stopped")).len(), 2);
    let again = run(at, &["search", "stopped.toml"]);
    assert!(again.stderr().contains("is already complete"), "{}", again.stderr());

    let removed = run(at, &["delete", "stopped"]).ok();
    assert!(removed.contains("stopped") && removed.contains("2 of them complete"), "{removed}");
    run(at, &["status", "stopped"]).fails(2, &["stopped"]);
    run(at, &["delete", "stopped"]).fails(2, &["stopped"]);
}

/// A limit on the file size acts as a full disk.
#[test]
fn a_store_that_fails_ends_the_search_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    // Without a teacher, so that the records are the first file to reach the limit.
    let text = TinyStudy { trials: 500, ..TinyStudy::new("full") }.text();
    let text = text.replace("alpha = [0.0, 0.5]", "alpha = [0.0]");
    let text = text.replace("[teacher]\nepochs = 1\n", "");
    std::fs::write(at.join("full.toml"), text).unwrap();
    let search = command(at, &["search", "full.toml"]);
    let mut limited = std::process::Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 48; exec \"$0\" \"$@\""]);
    limited.arg(search.get_program()).args(search.get_args()).current_dir(at);
    let ran = Ran(limited.output().unwrap());
    ran.fails(1, &["cannot use edgesmith-data/journal/1.log", "too large"]);
}

/// Everything of a trial that must be equal in two runs of one study.
fn fingerprint(all: &[Value]) -> Vec<Value> {
    let keep = |t: &Value| {
        let (metrics, training) = (&t["metrics"], &t["training"]);
        json!([
            t["trial"],
            t["genotype"],
            metrics["validation_accuracy"],
            metrics["test_accuracy"],
            training["model_hash"],
            training["weights_hash"],
        ])
    };
    all.iter().map(keep).collect()
}

#[test]
fn one_worker_repeats_bit_for_bit_and_a_trial_can_be_rerun() {
    let mut found = Vec::new();
    for _ in 0..2 {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        // Latencies are measured and vary; without them the whole study must repeat.
        let text = TinyStudy::new("same").text();
        let text = text.replace("\"latency_ms\"\ndevice = \"local\"", "\"model_bytes\"");
        let text = text.replace("fine_tune_epochs = 1", "fine_tune_epochs = 1\ninherit_epochs = 1");
        std::fs::write(at.join("same.toml"), text).unwrap();
        run(at, &["search", "same.toml", "--slots", "1"]).ok();
        found.push(fingerprint(&trials(at, "same")));
        let heir = trials(at, "same").iter().find_map(|t| {
            t["inherits_from"].as_u64().map(|_| t["trial"].as_u64().expect("a number"))
        });
        let heir = heir.expect("one of the trials starts from another's weights").to_string();
        for number in ["0", heir.as_str()] {
            let again = run(at, &["trial", "same", number, "--rerun"]).ok();
            assert!(again.contains("same") && !again.contains("DIFFERENT"), "{again}");
        }
        files_that_are_lost_are_made_again(at);
    }
    assert_eq!(found[0].len(), 4);
    assert_eq!(found[0], found[1]);
}

/// `check` names the command that makes lost files of a trial again, and it does.
fn files_that_are_lost_are_made_again(at: &Path) {
    let training = &trials(at, "same")[0]["training"];
    let file = |name: &str| {
        let hash = training[name].as_str().expect("the hash of a file");
        at.join("edgesmith-data/artifacts").join(&hash[..2]).join(hash)
    };
    let (model, weights) = (file("model_hash"), file("weights_hash"));
    let before = [&model, &weights].map(|file| std::fs::read(file).unwrap());
    std::fs::write(&model, "nonsense").unwrap();
    std::fs::remove_file(&weights).unwrap();
    let command = "`edgesmith trial same 0 --rerun --data-dir edgesmith-data` makes it again";
    let checked = run(at, &["check"]);
    checked.fails(1, &["is damaged", "is missing"]);
    assert_eq!(checked.stderr().matches(command).count(), 2, "{}", checked.stderr());
    let again = run(at, &["trial", "same", "0", "--rerun", "--data-dir", "edgesmith-data"]);
    for what in ["model file: damaged or missing", "weights: damaged or missing"] {
        assert!(again.stderr().contains(what), "{}", again.stderr());
    }
    assert!(!again.ok().contains("DIFFERENT"));
    assert_eq!([&model, &weights].map(|file| std::fs::read(file).unwrap()), before);
    run(at, &["check"]).ok();
}

#[test]
fn fashion_mnist_idx_files_run_to_a_front() {
    let data = workspace().join("../shared/data/fashion-mnist");
    if !data.is_dir() {
        eprintln!("skipped: {} does not exist", data.display());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let example = std::fs::read_to_string(workspace().join("examples/fashion-mnist.toml")).unwrap();
    // The example's budget takes minutes, so it is shortened; its data and its space are tested.
    let text = shorten(&example.replace("data/fashion-mnist", data.to_str().unwrap()));
    std::fs::write(at.join("fashion.toml"), text).unwrap();
    let shown = run(at, &["search", "fashion.toml"]).ok();
    assert!(shown.contains("Pareto front of fashion-mnist"), "{shown}");
    let all = trials(at, "fashion-mnist");
    let best = all.iter().filter_map(|t| t["metrics"]["test_accuracy"].as_f64());
    assert!(best.fold(0.0, f64::max) > 0.5, "nothing was learned");
}

fn shorten(text: &str) -> String {
    let small = [("trials", "3"), ("train_limit", "2500"), ("test_limit", "500"), ("epochs", "6")];
    let line = |line: &str| {
        let key = line.split('=').next().unwrap_or_default().trim();
        match small.iter().find(|(name, _)| *name == key) {
            Some((name, value)) => format!("{name} = {value}\n"),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}
