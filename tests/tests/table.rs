//! Studies over a table, with and without rungs: a thousand look-ups through the coordinator and
//! its RPCs, and the benchmark that runs the same studies without sockets.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use edgesmith_tests::{Coordinator, bench, run};

const OPERATIONS: [&str; 5] =
    ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"];

/// Writes a table of every cell with invented values: a 3x3 convolution is accurate and slow, a 1x1
/// convolution half as much of both.
fn made_up_table(directory: &Path) -> (PathBuf, PathBuf) {
    let mut table = "index,arch,flops_m,valid,test,train_s\n".to_owned();
    let mut latency = "index,board_ms\n".to_owned();
    for index in 0..5_usize.pow(6) {
        let edge = |place: u32| OPERATIONS[index / 5_usize.pow(place) % 5];
        let worth = |name: &str| match name {
            "nor_conv_3x3" => 2.0,
            "nor_conv_1x1" => 1.0,
            _ => 0.0,
        };
        let total: f64 =
            (0..6).map(|place| worth(edge(place)) * (1.0 + 0.1 * f64::from(place))).sum();
        let e: Vec<&str> = (0..6).map(edge).collect();
        let arch =
            format!("|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|", e[0], e[1], e[2], e[3], e[4], e[5]);
        let accuracy = 10.0 + 80.0 * (1.0 - (-total / 4.0).exp());
        let _ = writeln!(
            table,
            "{index},{arch},{total},{accuracy},{},{}",
            accuracy - 1.0,
            60.0 + total
        );
        let _ = writeln!(latency, "{index},{}", 0.5 + total);
    }
    let paths = (directory.join("table.csv"), directory.join("latency.csv"));
    std::fs::write(&paths.0, table).unwrap();
    std::fs::write(&paths.1, latency).unwrap();
    paths
}

fn study(name: &str, algorithm: &str, trials: u32, more: &str) -> String {
    format!(
        r#"[study]
name = "{name}"
seed = 5
[table]
path = "table.csv"
latencies = "latency.csv"
validation_accuracy = "valid"
test_accuracies = ["test"]
seconds = "train_s"
[[objectives]]
metric = "validation_accuracy"
{more}
[algorithm]
name = "{algorithm}"
[budget]
trials = {trials}
"#
    )
}

const LATENCY: &str = "[[objectives]]\nmetric = \"latency_ms\"\ndevice = \"board\"";

#[test]
fn a_thousand_look_ups_go_through_a_coordinator_to_a_front() {
    let directory = tempfile::tempdir().unwrap();
    made_up_table(directory.path());
    let coordinator = Coordinator::start(directory.path(), 30);
    let file = directory.path().join("study.toml");
    std::fs::write(&file, study("looked-up", "nsga2", 1000, LATENCY)).unwrap();
    coordinator.ask(&["submit", "study.toml"]).ok();
    let _trainer = coordinator.worker(&["--slots", "1"]);
    let status = coordinator.wait_until("looked-up", "waiting for a reader", |s| {
        s["missing_table"] == true && s["trials"]["complete"] == 0
    });
    assert_eq!(status["missing_trainer"], false, "{status}");
    let _reader = coordinator.worker(&["--roles", "table", "--slots", "2"]);
    let status = coordinator.wait_until_complete("looked-up");
    assert_eq!(status["trials"]["complete"], 1000, "{status}");
    let front = coordinator.ask(&["pareto", "looked-up", "--format", "json"]).json();
    let first = &front["trials"][0];
    assert!(first["metrics"]["latency_ms"]["board"].is_number(), "{first}");
    assert!(first["metrics"]["test_accuracies"]["test"].is_number(), "{first}");
    assert!(first.get("recipe").is_none(), "nothing was compressed: {first}");
    let number = first["trial"].to_string();
    let args = ["export", &format!("looked-up/{number}"), "--format", "edge", "-o", "model.edge"];
    coordinator.ask(&args).fails(2, &["not trained here"]);
    coordinator.ask(&["trial", "looked-up", &number, "--rerun"]).fails(2, &["no training"]);
}

#[test]
fn the_benchmark_runs_the_same_studies_as_search_and_repeats_exactly() {
    let directory = tempfile::tempdir().unwrap();
    made_up_table(directory.path());
    let benchmark = |more: &[&str]| {
        let fixed = [
            "search",
            "--table",
            "table.csv",
            "--validation",
            "valid",
            "--test",
            "test",
            "--seconds",
            "train_s",
            "--budget",
            "trials=60",
            "--algorithms",
            "random,regularized-evolution:population=10:sample=3",
        ];
        bench(directory.path(), &[&fixed[..], more].concat()).ok()
    };
    let runs = ["--runs", "6", "--curve", "curve.csv"];
    let once = benchmark(&[&runs[..], &["--jobs", "1"]].concat());
    let curve = std::fs::read_to_string(directory.path().join("curve.csv")).unwrap();
    assert_eq!(once, benchmark(&[&runs[..], &["--jobs", "2"]].concat()), "by the number of cores");
    assert_eq!(curve, std::fs::read_to_string(directory.path().join("curve.csv")).unwrap());
    assert_eq!(curve.lines().count(), 1 + 2 * 60, "{curve}");

    // One run equals the study with that seed, run by another command.
    let single = benchmark(&["--runs", "1", "--seed", "5"]);
    std::fs::write(directory.path().join("s.toml"), study("s", "random", 60, "")).unwrap();
    run(directory.path(), &["search", "s.toml", "--data-dir", "d", "--slots", "1"]).ok();
    let status =
        run(directory.path(), &["status", "s", "--data-dir", "d", "--format", "json"]).json();
    let best = status["best_validation_accuracy"].as_f64().unwrap();
    assert!(single.contains(&format!("{:.2}±0.00", best * 100.0)), "{best} is not in {single}");
}

/// Writes the invented table with NAS-Bench-201's column names; `early` gives the accuracies after
/// 12 epochs from those after 200.
fn with_early_accuracies(directory: &Path, early: impl Fn(f64) -> f64) {
    let (path, _) = made_up_table(directory);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    let header = lines.next().unwrap();
    let names = "c10_valid_200,c10_test_200,c10_train_s_200,c10_valid_12";
    let mut table = header.replace("valid,test,train_s", names) + "\n";
    for line in lines {
        let valid: f64 = line.split(',').nth(3).unwrap().parse().unwrap();
        let _ = writeln!(table, "{line},{}", early(valid));
    }
    std::fs::write(path, table).unwrap();
}

#[test]
fn the_benchmark_shows_what_successive_halving_saves_and_loses() {
    let directory = tempfile::tempdir().unwrap();
    let benchmark = |more: &[&str]| {
        let fixed = ["fidelity", "--table", "table.csv", "--algorithms", "random"];
        bench(directory.path(), &[&fixed[..], &["--trials", "40"], more].concat()).ok()
    };
    // The cells of the only row: first for all trials, then with successive halving.
    let row = |text: &str| -> Vec<String> {
        let row = text.lines().nth(1).unwrap();
        row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    with_early_accuracies(directory.path(), |accuracy| accuracy / 2.0);
    let once = benchmark(&["--runs", "4", "--jobs", "1"]);
    assert_eq!(once, benchmark(&["--runs", "4", "--jobs", "2"]), "by the number of cores");
    let faithful = row(&once);
    assert_eq!(faithful[8], "4 of 4", "{once}");
    assert_eq!((&faithful[2], &faithful[4]), (&faithful[3], &faithful[5]), "{once}");
    // All trials train 12 of 200 epochs; one in five, and the few that were best for a while, train
    // 200 more.
    let share = |row: &[String]| row[7].strip_suffix(" %").unwrap().parse::<f64>().unwrap();
    assert!((26.0..50.0).contains(&share(&faithful)), "{once}");
    // Training fewer trials to the end finds less than ranking all of them correctly.
    let mean = |cell: &str| cell.split('±').next().unwrap().parse::<f64>().unwrap();
    assert!(mean(&faithful[6]) < mean(&faithful[5]), "{once}");
    let half = benchmark(&["--runs", "4", "--reduction", "2"]);
    assert!(share(&row(&half)) > 56.0, "{half}");

    // One run equals the study with that seed, run by another command.
    let single = row(&benchmark(&["--runs", "1", "--seed", "5"]));
    let rungs = r#"[study]
name = "s"
seed = 5
[table]
path = "table.csv"
validation_accuracy = "c10_valid_200"
epochs = 200
[[table.rungs]]
epochs = 12
validation_accuracy = "c10_valid_12"
[fidelity]
rule = "asha"
reduction = 5
[[objectives]]
metric = "validation_accuracy"
[algorithm]
name = "random"
[budget]
trials = 40
"#;
    std::fs::write(directory.path().join("s.toml"), rungs).unwrap();
    let said = run(directory.path(), &["validate", "s.toml"]).ok();
    assert!(said.contains("asha: rungs at 12, 200 epochs; about one in 5 goes on"), "{said}");
    run(directory.path(), &["search", "s.toml", "--data-dir", "d", "--slots", "1"]).ok();
    let ask = |args: &[&str]| run(directory.path(), &[args, &["--data-dir", "d"]].concat());
    let status = ask(&["status", "s", "--format", "json"]).json();
    let best = status["best_validation_accuracy"].as_f64().unwrap();
    assert_eq!(single[3], format!("{:.2}±0.00", best * 100.0));
    let count = |state: &str| status["trials"][state].as_f64().unwrap();
    assert_eq!(count("complete") + count("pruned"), 40.0, "{status}");
    let spent = (40.0 * 12.0 + count("complete") * 200.0) / (40.0 * 200.0);
    assert_eq!(single[7], format!("{:.1} %", spent * 100.0));
    let trials = ask(&["trials", "s", "--format", "json"]).json();
    let trials = trials["trials"].as_array().unwrap();
    for trial in trials {
        let rungs = trial["rungs"].as_array().unwrap();
        assert_eq!((rungs.len(), &rungs[0]["epochs"]), (1, &12.into()), "{trial}");
        assert!(rungs[0].get("images_seen").is_none(), "no image was seen: {trial}");
        let early = rungs[0]["seconds"].as_f64().unwrap();
        if trial["state"] == "complete" {
            let seconds = trial["training"]["seconds"].as_f64().unwrap();
            assert!((seconds / early - 212.0 / 12.0).abs() < 1e-9, "{trial}");
        }
    }
    let pruned = trials.iter().find(|trial| trial["state"] == "pruned").unwrap();
    let said = ask(&["trial", "s", &pruned["trial"].to_string()]).ok();
    assert!(
        said.contains("pruned at epoch 12") && said.contains("according to the source"),
        "{said}"
    );

    // If the early accuracies are reversed, the best trials are stopped.
    with_early_accuracies(directory.path(), |accuracy| 100.0 - accuracy);
    let misled = row(&benchmark(&["--runs", "4"]));
    assert_eq!((&misled[2], &misled[4]), (&faithful[2], &faithful[4]), "all train as before");
    assert!(mean(&misled[5]) < mean(&misled[4]), "{misled:?}");
    assert_eq!(misled[8], "0 of 4", "{misled:?}");
}

#[test]
fn errors_of_the_benchmark_name_the_cause() {
    let directory = tempfile::tempdir().unwrap();
    made_up_table(directory.path());
    let fails = |args: &[&str], texts: &[&str]| {
        bench(directory.path(), &[&["search", "--table"], args].concat()).fails(2, texts);
    };
    fails(&["absent.csv"], &["absent.csv"]);
    fails(&["table.csv"], &["c10_valid_12", "it has index, arch"]);
    fails(&["table.csv", "--budget", "200"], &["\"200\"", "trials=200"]);
    fails(&["table.csv", "--algorithms", "magic"], &["algorithm.name", "magic"]);
    fails(&["table.csv", "--algorithms", "nsga2:population"], &["KEY=VALUE"]);
    fails(&["table.csv", "--device", "board"], &["--latencies"]);
    let fidelity = ["fidelity", "--table", "table.csv"];
    bench(directory.path(), &fidelity).fails(2, &["c10_valid_200", "it has index, arch"]);
}
